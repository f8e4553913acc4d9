// Pooling for one compute type. Windows are cut to the image first, so no element is tested twice;
// windows of 2 x 2 at distance 2, the common case, have a loop the compiler turns into vectors.
// A NaN in a window is its maximum; padding never is.
#include "cpu/network.h"

#include <math.h>
#include <string.h>

#ifndef MOON_CPU_POOL_WINDOW
#define MOON_CPU_POOL_WINDOW
typedef struct pool_window { int64_t first, last, padded; } pool_window;   // padded: with padding
#endif

// Taps first, first + dilation, ... < last of window `index` that lie inside `size`.
static pool_window window_at(const pool2d_geometry *g, int axis, int64_t index, int64_t size) {
  int64_t start = index * g->stride[axis] - g->padding[axis], dilation = g->dilation[axis];
  int64_t end = start + (g->kernel[axis] - 1) * dilation + 1;
  int64_t edge = size + g->padding[axis];
  pool_window window = { .first = start, .last = end, .padded = (end < edge ? end : edge) - start };
  if (start < 0) window.first = start + (-start + dilation - 1) / dilation * dilation;
  if (window.last > size) window.last = size;
  return window;
}

static bool beats(REAL value, REAL best) { return (value > best) | (value != value); }

static void max_plane(const pool_job *job, const REAL *x, REAL *out, int64_t *indices) {
  const pool2d_geometry *g = job->geometry;
  for (int64_t i = 0; i < job->out_height; i++) {
    pool_window down = window_at(g, 0, i, job->height);
    for (int64_t j = 0; j < job->out_width; j++) {
      pool_window across = window_at(g, 1, j, job->width);
      REAL best = -(REAL)INFINITY;
      int64_t where = -1;   // stays where no tap lies inside
      for (int64_t y = down.first; y < down.last; y += g->dilation[0])
        for (int64_t c = across.first; c < across.last; c += g->dilation[1]) {
          REAL value = x[y * job->width + c];
          if (!beats(value, best) && where >= 0) continue;
          best = value;
          where = y * job->width + c;
        }
      *out++ = best;
      *indices++ = where;
    }
  }
}

static void max_row_2x2(const REAL *restrict above, int64_t width, int64_t first, int64_t count,
                        REAL *restrict out, int64_t *restrict indices) {
  const REAL *restrict below = above + width;
  for (int64_t j = 0; j < count; j++) {
    REAL a = above[2 * j], b = above[2 * j + 1], c = below[2 * j], d = below[2 * j + 1];
    int64_t at = first + 2 * j, where = at;
    bool right = beats(b, a);
    a = right ? b : a;
    where = right ? at + 1 : where;
    bool low = beats(c, a);
    a = low ? c : a;
    where = low ? at + width : where;
    bool corner = beats(d, a);
    out[j] = corner ? d : a;
    indices[j] = corner ? at + width + 1 : where;
  }
}

static bool is_2x2(const pool_job *job) {
  const pool2d_geometry *g = job->geometry;
  for (int axis = 0; axis < 2; axis++)
    if (g->kernel[axis] != 2 || g->stride[axis] != 2 || g->padding[axis] != 0 ||
        g->dilation[axis] != 1) return false;
  return job->out_height * 2 <= job->height && job->out_width * 2 <= job->width;
}

moon_status CPU(NAME(max_pool_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  int64_t area = job->height * job->width, out_area = job->out_height * job->out_width;
  bool fast = is_2x2(job);
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *x = (const REAL *)job->source + plane * area;
    REAL *out = (REAL *)job->target + plane * out_area;
    int64_t *indices = job->indices + plane * out_area;
    if (!fast) max_plane(job, x, out, indices);
    for (int64_t i = 0; fast && i < job->out_height; i++)
      max_row_2x2(x + 2 * i * job->width, job->width, 2 * i * job->width, job->out_width,
                  out + i * job->out_width, indices + i * job->out_width);
  }
  return MOON_OK;
}

moon_status CPU(NAME(max_pool_back_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  int64_t area = job->height * job->width, out_area = job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *g = (const REAL *)job->source + plane * out_area;
    const int64_t *indices = job->indices + plane * out_area;
    REAL *dx = (REAL *)job->target + plane * area;
    memset(dx, 0, (size_t)area * sizeof(REAL));
    for (int64_t i = 0; i < out_area; i++)
      if (indices[i] >= 0 && indices[i] < area) dx[indices[i]] += g[i];
  }
  return MOON_OK;
}

// One over the number of elements an average is taken of, or 0 for an empty window.
static REAL share_of(const pool2d_geometry *g, pool_window down, pool_window across) {
  int64_t inside = (down.last - down.first) * (across.last - across.first);
  if (down.last <= down.first || across.last <= across.first) return 0;
  return (REAL)1 / (REAL)(g->count_include_pad ? down.padded * across.padded : inside);
}

moon_status CPU(NAME(avg_pool_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const pool2d_geometry *g = job->geometry;
  REAL *out = (REAL *)job->target + first * job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *x = (const REAL *)job->source + plane * job->height * job->width;
    for (int64_t i = 0; i < job->out_height; i++) {
      pool_window down = window_at(g, 0, i, job->height);
      for (int64_t j = 0; j < job->out_width; j++) {
        pool_window across = window_at(g, 1, j, job->width);
        REAL sum = 0;
        for (int64_t y = down.first; y < down.last; y++)
          for (int64_t c = across.first; c < across.last; c++) sum += x[y * job->width + c];
        *out++ = sum * share_of(g, down, across);
      }
    }
  }
  return MOON_OK;
}

moon_status CPU(NAME(avg_pool_back_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const pool2d_geometry *geometry = job->geometry;
  const REAL *g = (const REAL *)job->source + first * job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    REAL *dx = (REAL *)job->target + plane * job->height * job->width;
    memset(dx, 0, (size_t)(job->height * job->width) * sizeof(REAL));
    for (int64_t i = 0; i < job->out_height; i++) {
      pool_window down = window_at(geometry, 0, i, job->height);
      for (int64_t j = 0; j < job->out_width; j++) {
        pool_window across = window_at(geometry, 1, j, job->width);
        REAL share = *g++ * share_of(geometry, down, across);
        for (int64_t y = down.first; y < down.last; y++)
          for (int64_t c = across.first; c < across.last; c++) dx[y * job->width + c] += share;
      }
    }
  }
  return MOON_OK;
}
