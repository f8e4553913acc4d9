// The contract of a device: memory functions and one typed slot a kernel (kernels.def), plus the
// plain structs those slots take. C and C++ read it alike, and it knows an engine by name only: the
// CUDA plug-in is built from it.
#ifndef MOON_DEVICE_SLOTS_H
#define MOON_DEVICE_SLOTS_H

#include <stddef.h>

#include "base/status.h"
#include "device/array.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct moon_engine moon_engine;

enum { MOON_MAX_POINTWISE_ATTRIBUTES = 2 };

// Row numbers of pointwise.def, in file order, a family each.
enum pointwise_unary_row {
#define UNARY(name, ...) UNARY_##name,
#include "device/pointwise.def"
  UNARY_ROWS
};
enum pointwise_binary_row {
#define BINARY(name, ...) BINARY_##name,
#include "device/pointwise.def"
  BINARY_ROWS
};
enum pointwise_compare_row {
#define COMPARE(name, ...) COMPARE_##name,
#include "device/pointwise.def"
  COMPARE_ROWS
};
enum pointwise_predicate_row {
#define PREDICATE(name, ...) PREDICATE_##name,
#include "device/pointwise.def"
  PREDICATE_ROWS
};

// Rules of steps.def, in file order, and the most states that one has.
enum step_rule {
#define STEP(name, ...) STEP_##name,
#include "device/steps.def"
  STEP_RULES
};
enum { STEP_STATES = 3 };

typedef enum reduce_kind {
  REDUCE_SUM,    // float to the same float; integers and bool to int64
  REDUCE_PROD,
  REDUCE_MEAN,   // floats only
  REDUCE_MAX,    // x's dtype
  REDUCE_MIN,
  REDUCE_ALL,    // bool
  REDUCE_ANY,
  REDUCE_SUM_SQUARES,   // floats only
} reduce_kind;

// What happens to a product on its way out: clamp(c + shift, low, high).
typedef struct matmul_finish {
  const device_array *shift;   // (n), of any stride and of a float type; NULL: nothing
  double low, high;            // limits; -INFINITY and INFINITY: none
} matmul_finish;

typedef struct conv2d_geometry {
  int64_t stride[2], padding_before[2], padding_after[2], dilation[2];   // height, width
  int64_t groups;
} conv2d_geometry;

typedef struct conv3d_geometry {
  int64_t stride[3], padding_before[3], padding_after[3], dilation[3];   // depth, height, width
  int64_t groups;
} conv3d_geometry;

// What happens to a convolution's sums on their way out.
typedef struct conv2d_finish {
  const device_array *scale, *shift;   // (out channels); NULL: one and zero
  const device_array *add;             // of the result's shape; NULL: nothing
  double low, high;                    // limits; -INFINITY and INFINITY: none
} conv2d_finish;

// A way to convolve, and what it would cost in the time of a multiply-add at its best; below 0
// where it does not fit.
typedef struct conv2d_cost {
  const char *name;
  double cost;
} conv2d_cost;
enum { CONV2D_MOST_ENGINES = 16 };

enum { POOL_BYTE_TAPS = 255 };   // taps of a kernel whose numbers are kept in bytes

typedef struct pool2d_geometry {
  int64_t kernel[2], stride[2], padding[2], dilation[2];
  bool count_include_pad;
  int64_t divisor;   // of averages; 0: the number of elements
} pool2d_geometry;

typedef struct region_options {
  double scale;       // pixels of the image for one unit of the boxes
  int64_t sampling;   // samples of a bin in each direction; 0: as many as it has pixels
  bool aligned;       // pixel centres lie at halves
} region_options;

// How an image is sampled between its pixels, and what lies beyond it.
enum { GRID_BILINEAR, GRID_NEAREST, GRID_BICUBIC };
enum { GRID_ZEROS, GRID_BORDER, GRID_REFLECTION };
typedef struct grid_options {
  int mode, padding;    // GRID_BILINEAR, ...; GRID_ZEROS, ...
  bool align_corners;   // -1 and 1 are the centres of the outer pixels, not their outer edges
} grid_options;

enum { BATCH_NORM_PLAIN, BATCH_NORM_RELU, BATCH_NORM_RELU6 };

typedef struct batch_norm_options {
  double epsilon, momentum;
  bool constant;      // mean and rstd are given
  int activation;     // BATCH_NORM_PLAIN, ...
} batch_norm_options;

// NULL where there is none.
typedef struct batch_norm_arrays {
  const device_array *x, *weight, *bias, *add, *out;
  const device_array *mean, *rstd, *running_mean, *running_var;
  const device_array *gradient, *dx, *dadd, *dweight, *dbias;
} batch_norm_arrays;

typedef struct lrn_options { int64_t size; double alpha, beta, k; } lrn_options;

typedef struct cross_entropy_options { int64_t ignore; double smoothing; } cross_entropy_options;

typedef struct ctc_options { int64_t blank; bool zero_infinity; } ctc_options;

// The cells of recurrent networks.
typedef enum cell_kind { RNN_TANH, RNN_RELU, LSTM, GRU } cell_kind;
enum { CELL_MOST_GATES = 4 };
static inline int cell_gates(cell_kind kind) { return kind == LSTM ? 4 : kind == GRU ? 3 : 1; }

// One layer of a recurrent network, in one or two directions.
typedef struct recurrent_options {
  cell_kind kind;
  moon_dtype dtype;   // of all arrays but those said below
  int directions;
  bool biased;        // there are b_ih and b_hh
  bool uneven;        // sequences end at steps of their own
  bool training;      // a backward will follow
  int64_t steps, batch, inputs, hidden;
} recurrent_options;

enum { CELL_PARAMETERS = 4 };   // w_ih, w_hh, b_ih, b_hh

// NULL where there is none. Gates lie in weights in the order i, f, g, o (LSTM) and r, z, n (GRU).
typedef struct recurrent_arrays {
  const device_array *x, *h0, *c0;            // (steps, n, inputs), (directions, n, hidden)
  const device_array *weights[2][CELL_PARAMETERS];
  const device_array *last;                   // int64 (n), on the host: last steps, from 0
  const device_array *y, *h, *c;              // (steps, n, directions hidden); states as h0
  const device_array *reserve;                // uint8, for the backward, which spoils it
  const device_array *dy, *dh, *dc;           // gradients; NULL: 0
  const device_array *dx, *dh0, *dc0, *dweights[2][CELL_PARAMETERS];   // and those wanted
} recurrent_arrays;

// The numbers of the rules of steps.def; a rule reads those that it names.
typedef struct step_options {
  double sign, decay, keep;   // g = sign * gradient + decay * p, then p = keep * p
  double rate, beta1, beta2, epsilon, scale, blend, least, most;
} step_options;

// One parameter of a step and what moves it: as many elements each, in the same order.
typedef struct step_item {
  int64_t count;
  void *parameter, *states[STEP_STATES];   // NULL where there is no such state
  const void *gradient;
} step_item;

typedef struct device_kernels {
#define KERNEL(name, arguments) moon_status(*name) arguments;
#include "device/kernels.def"
#undef KERNEL
} device_kernels;

// A device. Memory functions may be NULL where they are those of the CPU.
typedef struct moon_device {
  const char *name;   // "cpu", "cuda:0"
  bool on_host;       // its addresses can be read by the host
  moon_status (*allocate)(moon_engine *engine, size_t bytes, void **block);
  void (*release)(moon_engine *engine, void *block, size_t bytes);
  moon_status (*to_host)(moon_engine *engine, const void *source, void *target, size_t bytes);
  moon_status (*from_host)(moon_engine *engine, const void *source, void *target, size_t bytes);
  const device_kernels *kernels;
} moon_device;

#ifdef __cplusplus
}
#endif

#endif
