// The jobs of batch normalisation, see batch_norm.c: by planes (batch_norm_real.h) and by pixels
// (batch_norm_pixels_real.h).
#ifndef MOON_CPU_BATCH_NORM_H
#define MOON_CPU_BATCH_NORM_H

#include "cpu/network.h"
#include "cpu/pixels.h"

// What both have in common. `low` and `high` are the activation's limits.
typedef struct batch_norm_ends {
  const batch_norm_options *options;
  const device_array *running_mean, *running_var;   // NULL: not kept
  const void *weight, *bias;                        // NULL for one and zero
  void *mean, *rstd;                                // outputs, or given
  void *dweight, *dbias;                            // may be NULL
  bool bounded;
  double low, high;
} batch_norm_ends;

// running = (1 - momentum) running + momentum * value
static inline void batch_norm_move(const device_array *running, double momentum, int64_t channel,
                                   double value) {
  char *element = (char *)running->data +
                  channel * running->strides[0] * (int64_t)dtype_size(running->dtype);
  double old = dtype_load(running->dtype, element);
  dtype_store(running->dtype, element, (1 - momentum) * old + momentum * value);
}

// Moves the running statistics of a channel; the variance is that which `count` values estimate.
static inline void batch_norm_track(const batch_norm_ends *ends, int64_t channel, double mean,
                                    double variance, double count) {
  if (!ends->running_mean) return;
  batch_norm_move(ends->running_mean, ends->options->momentum, channel, mean);
  batch_norm_move(ends->running_var, ends->options->momentum, channel,
                  variance * (count / (count - 1)));
}

// By planes: an item is a channel; its elements are `rows` runs of `inner`. All arrays lie alike.
typedef struct batch_norm_job {
  batch_norm_ends ends;
  int64_t rows, inner, row_stride, channel_stride;
  const void *x, *add, *gradient, *y;   // y: the result; NULL: it is calculated from x
  void *out, *dadd;                     // backward: out is dx; both may be NULL
} batch_norm_job;
NETWORK_TASK(batch_norm_channels);
NETWORK_TASK(batch_norm_apply_channels);
NETWORK_TASK(batch_norm_back_channels);

// By pixels: an item is a block of pixels. Dense pixels of few channels are taken several at a time
// as one wider pixel, of `width` = folds * channels.
typedef struct batch_norm_pixels {
  batch_norm_ends ends;
  int64_t channels, folds, width, pixels;   // pixels: of `width`
  int64_t block, blocks;                    // pixels of an item, and how many items
  pixel_rows x, add, gradient, y, out, dadd;
  moon_engine *engine;
  double *partials;    // blocks x 2 x width: the two sums of each item
  void *vectors;       // BATCH_NORM_VECTORS x width: what a pixel is calculated with
} batch_norm_pixels;
enum { BATCH_NORM_VECTORS = 5 };
NETWORK_STORED_TASK(batch_norm_pixels_moments);
NETWORK_STORED_TASK(batch_norm_pixels_join);        // one item
NETWORK_STORED_TASK(batch_norm_pixels_given);       // instead of the two: mean and rstd are there
NETWORK_STORED_TASK(batch_norm_pixels_apply);
NETWORK_STORED_TASK(batch_norm_pixels_back_sums);
NETWORK_STORED_TASK(batch_norm_pixels_back_join);   // one item
NETWORK_STORED_TASK(batch_norm_pixels_back);

#endif
