// What the files of the engine "implicit" share; the engine "bfloat16" is given the same products.
// A convolution, or one phase of its input's gradient, is a product of positions and weights whose
// left operand is never laid out: a row of it is a position of a grid, given by a pointer for each
// tap into the source image (micro.h).
//
//   result[position][column] = sum over taps t and depth k of
//       source[position * step + tap t][k] * weights[t][k][column]
//
// Positions lie one after the other, image after image and row after row, so that small maps fill
// tiles as well as large ones do. Taps outside of the image read a run of zeros.
#ifndef MOON_CPU_CONV_IMPLICIT_H
#define MOON_CPU_CONV_IMPLICIT_H

#include "cpu/convolution.h"

// Where a tap reads, seen from position * step, and where its weights lie.
typedef struct conv_tap {
  int64_t down, across, weight;
} conv_tap;

// The weights of a product, strides in elements: column o, tap t, depth k of group g lie at
//   g * group_stride + o * column_stride + tap[t].weight + k * depth_stride
typedef struct conv_weights {
  const device_array *array;
  int64_t group_stride, column_stride, depth_stride;
} conv_weights;

typedef struct conv_product {
  int64_t groups, depth, columns;          // depth and columns of a group
  int64_t taps;
  conv_tap *tap;
  conv_weights weights;
  int64_t height, width;                   // of the grid, in each image
  int64_t step[2];                         // in the source
  int64_t out_step[2], out_offset[2];      // in the target: row i * step + offset
  const device_array *source, *target;     // channels last; a tap reads `depth` elements
  const conv2d_finish *finish;
  const void *panels;                      // packed weights
  const void *zeros;                       // `depth` of them
} conv_product;

// The products of a problem, with their weights one after the other in a block, zeros at its end.
typedef struct conv_plan {
  const conv_problem *problem;
  conv_product *products;
  conv_tap *taps;                          // of all products
  int64_t count;
  bool gaps;                               // some phases have no product
} conv_plan;

MOON_MUST_CHECK moon_status CPU(conv_plan_open)(const conv_problem *problem, conv_plan *plan);
static inline void conv_plan_close(conv_plan *plan) { alloc_delete(plan->products); }

// -- packed weights: for each group and each MICRO_COLUMNS columns a panel of taps * depth rows
MOON_MUST_CHECK moon_status CPU(conv_pack_f32)(moon_engine *engine, const conv_product *product,
                                               float *panels);
MOON_MUST_CHECK moon_status CPU(conv_pack_f64)(moon_engine *engine, const conv_product *product,
                                               double *panels);

// -- taps of a kernel's row joined into one (conv_join.c), once the weights are packed
typedef struct conv_joined {
  device_array source;
  cpu_temp padded;
} conv_joined;

bool CPU(conv_joins)(const conv_problem *problem);
// Release joined->padded, also after a failure.
MOON_MUST_CHECK moon_status CPU(conv_join)(moon_engine *engine, const conv_problem *problem,
                                           conv_product *product, conv_joined *joined);

// -- the product
MOON_MUST_CHECK moon_status CPU(conv_multiply_f32)(moon_engine *engine,
                                                   const conv_product *product);
MOON_MUST_CHECK moon_status CPU(conv_multiply_f64)(moon_engine *engine,
                                                   const conv_product *product);

#endif
