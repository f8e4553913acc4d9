// The jobs of pooling, see pool.c: by pixels (pool_pixels_real.h), by planes in lines
// (pool_lines_real.h) or window by window (pool_real.h).
//
// Which element of its window was largest is told by a number: that of its tap, row * kernel
// columns + column, in a byte where the kernel has at most POOL_BYTE_TAPS of them; else, in an
// int32, that of the element in its plane. Windows beside the image have POOL_NO_TAP, or -1.
#ifndef MOON_CPU_POOL_H
#define MOON_CPU_POOL_H

#include "cpu/network.h"
#include "cpu/pixels.h"

enum {
  POOL_NO_TAP = POOL_BYTE_TAPS,
  POOL_LINE_STRIDE = 8,    // the widest stride that planes go by lines for,
  POOL_LINE_WINDOWS = 3,   // and the fewest windows of a row
};

// Windows first ... last - 1 of an axis that may have a tap at a position.
typedef struct pool_cover { int64_t first, last; } pool_cover;

// A column of the result, by pixels.
typedef struct pool_column {
  pool_cover covered;      // backward
  bool moves;              // it is made of what the column `period` before is, moved on by a step
} pool_column;

typedef struct pool_job {
  moon_engine *engine;
  const pool2d_geometry *geometry;
  int64_t height, width, out_height, out_width, channels;
  bool bytes;              // `taken` numbers taps
  void *taken;             // may be NULL in the forward pass; max pooling only
  // by planes
  const void *source;      // x, or the gradient
  void *target;            // out, or dx
  // by pixels; the distance of those in taken goes with it
  pixel_rows from, to;
  int64_t taken_stride, period;
  const pool_column *columns;
  void *shares;            // one over each window's elements, (out_height, out_width): averages
  bool even;               // shares are all the same
} pool_job;

// An item is a plane.
NETWORK_STORED_TASK(max_pool_lines);
NETWORK_STORED_TASK(max_pool_back_lines);
NETWORK_STORED_TASK(avg_pool_lines);        // needs shares, as by pixels
NETWORK_STORED_TASK(avg_pool_back_lines);
NETWORK_TASK(max_pool_planes);
NETWORK_TASK(max_pool_back_planes);
NETWORK_TASK(avg_pool_planes);
NETWORK_TASK(avg_pool_back_planes);

// An item is a row of one image, of the result or, backward, of dx.
NETWORK_STORED_TASK(max_pool_pixels);
NETWORK_STORED_TASK(max_pool_back_pixels);
NETWORK_STORED_TASK(avg_pool_pixels);
NETWORK_STORED_TASK(avg_pool_back_pixels);
NETWORK_STORED_TASK(avg_pool_shares);   // fills `shares`; one item

// Taps first, first + dilation, ... < last of window `index` that lie inside `size`.
typedef struct pool_window { int64_t first, last, padded; } pool_window;   // padded: with padding

static inline pool_window pool_window_at(const pool2d_geometry *g, int axis, int64_t index,
                                         int64_t size) {
  int64_t start = index * g->stride[axis] - g->padding[axis], dilation = g->dilation[axis];
  int64_t end = start + (g->kernel[axis] - 1) * dilation + 1;
  int64_t edge = size + g->padding[axis];
  pool_window window = { .first = start, .last = end, .padded = (end < edge ? end : edge) - start };
  if (start < 0) window.first = start + (-start + dilation - 1) / dilation * dilation;
  if (window.last > size) window.last = size;
  return window;
}

// The tap that window `index` has at position `at`, -1 where it steps over it.
static inline int64_t pool_tap_at(const pool2d_geometry *g, int axis, int64_t index, int64_t at) {
  int64_t off = at + g->padding[axis] - index * g->stride[axis], dilation = g->dilation[axis];
  if (dilation == 1) return off;   // divisions are slow
  return off % dilation == 0 ? off / dilation : -1;
}

// The number of element (y, x) in window (i, j); (y, x) is one of the window's.
static inline int32_t pool_number(const pool_job *job, int64_t i, int64_t j, int64_t y, int64_t x) {
  const pool2d_geometry *g = job->geometry;
  if (!job->bytes) return (int32_t)(y * job->width + x);
  return (int32_t)(pool_tap_at(g, 0, i, y) * g->kernel[1] + pool_tap_at(g, 1, j, x));
}

// Where the element with a number lies in its plane; -1 for none.
static inline int64_t pool_place_of(const pool2d_geometry *g, bool bytes, int64_t i, int64_t j,
                                    int32_t number, int64_t width) {
  if (!bytes || number < 0) return number;
  int64_t y = i * g->stride[0] - g->padding[0] + number / g->kernel[1] * g->dilation[0];
  int64_t x = j * g->stride[1] - g->padding[1] + number % g->kernel[1] * g->dilation[1];
  return y * width + x;
}

static inline pool_cover pool_cover_of(const pool2d_geometry *g, int axis, int64_t at,
                                       int64_t count) {
  int64_t reach = at + g->padding[axis], stride = g->stride[axis];
  int64_t before = reach - (g->kernel[axis] - 1) * g->dilation[axis];
  pool_cover cover = { .first = before > 0 ? (before + stride - 1) / stride : 0,
                       .last = reach / stride + 1 };
  if (cover.last > count) cover.last = count;
  return cover;
}

// One over the number of elements an average is taken of, or 0 for an empty window.
static inline double pool_share(const pool2d_geometry *g, pool_window down, pool_window across) {
  if (g->divisor != 0) return 1 / (double)g->divisor;
  int64_t inside = (down.last - down.first) * (across.last - across.first);
  if (down.last <= down.first || across.last <= across.first) return 0;
  return 1 / (double)(g->count_include_pad ? down.padded * across.padded : inside);
}

// Numbers from memory; -1 for none.
static inline int32_t pool_load_number(bool bytes, const void *numbers, int64_t i) {
  int32_t number = bytes ? ((const uint8_t *)numbers)[i] : ((const int32_t *)numbers)[i];
  return bytes && number == POOL_NO_TAP ? -1 : number;
}

#endif
