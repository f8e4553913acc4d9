// Tasks (see threads.h) of the network kernels, one for float and one for double each: defined in
// the *_real.h files, compiled by network_f32.c and network_f64.c, and run by the slots. All data
// is contiguous and of the task's type; int64 where it says so.
#ifndef MOON_CPU_NETWORK_H
#define MOON_CPU_NETWORK_H

#include "cpu/lane_bytes.h"
#include "cpu/operands.h"
#include "cpu/whole.h"

#define NETWORK_TASK(name)                                              \
  moon_status CPU(name##_f32)(void *job, int64_t first, int64_t last);  \
  moon_status CPU(name##_f64)(void *job, int64_t first, int64_t last)

// The task for arrays of `dtype`'s compute type.
#define NETWORK_TASK_FOR(name, dtype) \
  ((dtype) == MOON_F64 ? CPU(name##_f64) : CPU(name##_f32))

// Tasks that also read and write bfloat16 as it is stored, and calculate in float.
#define NETWORK_STORED_TASK(name) \
  NETWORK_TASK(name);             \
  moon_status CPU(name##_bf16)(void *job, int64_t first, int64_t last)
#define NETWORK_STORED_TASK_FOR(name, dtype) \
  ((dtype) == MOON_BF16 ? CPU(name##_bf16) : NETWORK_TASK_FOR(name, dtype))

// -- softmax over the middle of (outer, size, inner): an item is a block of up to `columns` columns
//    of one outer index (a row where inner is 1). A block's elements and the next one's stay in the
//    second cache.
enum { SOFTMAX_COLUMNS = 512, SOFTMAX_LEAST_COLUMNS = 32, SOFTMAX_BLOCK = 65536 };
static inline int64_t softmax_block(int64_t size, int64_t inner) {
  int64_t most = SOFTMAX_BLOCK / maximum(size, 1) / SOFTMAX_LEAST_COLUMNS * SOFTMAX_LEAST_COLUMNS;
  most = minimum(maximum(most, SOFTMAX_LEAST_COLUMNS), SOFTMAX_COLUMNS);
  return even_block(maximum(inner, 1), most, SOFTMAX_LEAST_COLUMNS);
}
typedef struct softmax_job {
  bool log;
  int64_t size, inner;
  int64_t columns, blocks;           // of a block; blocks of an outer index
  const void *x, *gradient;          // backward: x is the forward's result
  void *out;
} softmax_job;
NETWORK_TASK(softmax_blocks);
NETWORK_TASK(softmax_back_blocks);

// -- cross entropy of (outer, size, inner): an item is a block of one image's labels. The classes
//    of a label lie side by side (pixels), or the labels of an image do.
typedef struct class_rows {
  void *data;
  int64_t outer, step, inner;             // distances of neighbours; step: of classes
} class_rows;
typedef struct cross_entropy_job {
  const cross_entropy_options *options;
  int64_t size, inner;
  int64_t block, blocks;                  // labels of a block, blocks of an image
  bool pixels;
  class_rows logits, logp, dlogits;       // forward: logp.data may be NULL
  const void *weight, *gradient;          // weight: NULL for one
  const int64_t *labels;
  void *losses;
} cross_entropy_job;
NETWORK_TASK(cross_entropy_losses);
NETWORK_TASK(cross_entropy_back);

// -- weighted sums over spans of the middle of (outer, size, inner): an item is a row of the result
typedef struct weigh_job {
  int64_t size, count, inner, taps;       // count: of the result; taps: most weights of a span
  const int64_t *spans;                   // (count, 2)
  const double *weights;                  // (count, taps)
  const void *x;
  void *out;
} weigh_job;
NETWORK_TASK(weigh_rows);

// The same over both of (outer, rows, columns, inner): an item is a row of the result's columns.
// down.inner is columns * inner; across has no arrays of its own.
typedef struct weigh_planes_job {
  moon_engine *engine;
  weigh_job down, across;
  void *plan;                             // of across, where its inner is 1 (weigh_planes_real.h)
} weigh_planes_job;
enum { WEIGH_VECTOR_BYTES = 3 * LANE_BYTES };   // of a plan, for each vector and tap
NETWORK_TASK(weigh_plan);                 // fills `plan`; one item
NETWORK_TASK(weigh_planes_rows);

// -- pooling boxes of an image: an item is a channel of a box, for the gradient a plane
typedef struct region_job {
  const region_options *options;
  int64_t planes, channels, height, width;   // planes: how many images
  int64_t regions, out_height, out_width;
  const void *boxes;                         // (regions, 4)
  const int64_t *images;                     // (regions), from 0
  const void *source;                        // x, or the gradient
  void *target;                              // out (roi_places: int64), or dx
} region_job;
NETWORK_TASK(roi_places_items);
NETWORK_TASK(roi_align_items);
NETWORK_TASK(roi_align_back_planes);

#endif
