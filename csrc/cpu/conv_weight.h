// The gradient of a convolution's weights as an implicit product: for each tap, channels of the
// image times channels of the result's gradient, summed over pixels (micro_outer of micro.h, whose
// steps are pixels).
//
//   panels   pixels of a block, a few channels side by side; the image's with its border, so that
//            a tap is a shift of where runs of pixels start
//   block    of pixels: panels of both sides stay in the second-level cache, one in the first
//   job      a block of rows and columns of the product, all taps, a share of the pixels
//
// Which side has the tiles' rows, how high tiles are and whether a line of the kernel is merged
// into one tap (rows are its pixels' channels: few channels) is what wastes least of the tiles.
// All is cut by shape, and shares are added in order.
#ifndef MOON_CPU_CONV_WEIGHT_H
#define MOON_CPU_CONV_WEIGHT_H

#include "cpu/convolution.h"
#include "cpu/micro.h"

enum {
  CONV_WEIGHT_PIXELS = 512,   // at most in a block
  CONV_WEIGHT_MERGED = 64,    // elements of a merged line of the kernel, at most
  CONV_WEIGHT_LOW = MICRO_ROWS == 14 ? 8 : 4,   // the other height of tiles to choose
};

// Rows or columns of a group's product.
typedef struct weight_side {
  bool is_image;           // else of the result
  int64_t size;
  int64_t panel;           // how many lie side by side
  int64_t block, blocks;   // of a job (whole panels), and how many there are
} weight_side;

// Pixels of a block along one axis, as a side's panels hold them.
typedef struct weight_axis {
  int64_t count;
  int64_t from, step;      // where they lie in the array: from + i * step
  int64_t stride, shift;   // panel pixels from one of the result's to the next, from tap to tap
} weight_axis;

typedef struct weight_plan {
  moon_engine *engine;
  const conv_problem *problem;
  bool merged;
  int64_t taps[2];
  weight_side rows, columns;
  int64_t extent[3], extents[3];   // of a block in images, lines, pixels of a line; how many
  int64_t shares, share;           // of the blocks of pixels: how many, how long
  int64_t width;                   // of a job's sums: block of columns in whole vectors
  int64_t sums;                    // elements that a job sums
  void *partial;                   // sums of all jobs, or NULL
} weight_plan;

// Tasks (threads.h): the jobs, and, where pixels are shared out, adding up their sums.
moon_status CPU(conv_weight_jobs_f32)(void *plan, int64_t first, int64_t last);
moon_status CPU(conv_weight_jobs_f64)(void *plan, int64_t first, int64_t last);
moon_status CPU(conv_weight_add_f32)(void *plan, int64_t first, int64_t last);
moon_status CPU(conv_weight_add_f64)(void *plan, int64_t first, int64_t last);

#endif
