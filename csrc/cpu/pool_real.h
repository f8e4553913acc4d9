// Pooling for one compute type. Windows are cut to the image first, so no element is tested twice.
// Long rows go tap by tap, one vector loop over the row for each tap; short ones window by window;
// windows of 2 x 2 at distance 2, the common case, have loops of their own in both directions.
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

static void max_window(const pool_job *job, const REAL *x, pool_window down, pool_window across,
                       REAL *out, int64_t *index) {
  const pool2d_geometry *g = job->geometry;
  REAL best = -(REAL)INFINITY;
  int64_t where = -1;   // stays where no tap lies inside
  for (int64_t y = down.first; y < down.last; y += g->dilation[0])
    for (int64_t c = across.first; c < across.last; c += g->dilation[1]) {
      REAL value = x[y * job->width + c];
      if (!beats(value, best) && where >= 0) continue;
      best = value;
      where = y * job->width + c;
    }
  *out = best;
  *index = where;
}

enum { LONG_ROW = 8 };   // windows, from which on a row goes tap by tap

// Windows of a row whose tap, `shift` columns from the start of the first window, lies inside.
typedef struct tap_range { int64_t first, last; } tap_range;

static tap_range range_of_tap(const pool_job *job, int64_t shift) {
  int64_t stride = job->geometry->stride[1], room = job->width - shift;
  tap_range range = { .first = shift < 0 ? (-shift + stride - 1) / stride : 0,
                      .last = room <= 0 ? 0 : (room - 1) / stride + 1 };
  if (range.last > job->out_width) range.last = job->out_width;
  return range;
}

// Taps that lie inside the image for any window of a row: a kernel may be far larger than it.
static tap_range taps_inside(const pool_job *job) {
  const pool2d_geometry *g = job->geometry;
  int64_t padding = g->padding[1], dilation = g->dilation[1];
  int64_t outside = padding - (job->out_width - 1) * g->stride[1];
  tap_range taps = { .first = outside > 0 ? (outside + dilation - 1) / dilation : 0,
                     .last = (job->width + padding + dilation - 1) / dilation };
  if (taps.last > g->kernel[1]) taps.last = g->kernel[1];
  return taps;
}

static void max_tap(const REAL *restrict x, int64_t at, int64_t stride, int64_t count,
                    REAL *restrict out, int64_t *restrict indices) {
  for (int64_t j = 0; j < count; j++) {
    REAL value = x[at + j * stride];
    bool taken = beats(value, out[j]) | (indices[j] < 0);
    out[j] = taken ? value : out[j];
    indices[j] = taken ? at + j * stride : indices[j];
  }
}

static void max_row(const pool_job *job, const REAL *x, pool_window down, REAL *out,
                    int64_t *indices) {
  const pool2d_geometry *g = job->geometry;
  tap_range taps = taps_inside(job);
  for (int64_t j = 0; j < job->out_width; j++) {
    out[j] = -(REAL)INFINITY;
    indices[j] = -1;
  }
  for (int64_t y = down.first; y < down.last; y += g->dilation[0])
    for (int64_t tap = taps.first; tap < taps.last; tap++) {
      int64_t shift = tap * g->dilation[1] - g->padding[1];
      tap_range range = range_of_tap(job, shift);
      int64_t at = y * job->width + shift + range.first * g->stride[1];
      max_tap(x, at, g->stride[1], range.last - range.first, out + range.first,
              indices + range.first);
    }
}

static void max_plane(const pool_job *job, const REAL *x, REAL *out, int64_t *indices) {
  for (int64_t i = 0; i < job->out_height; i++) {
    pool_window down = window_at(job->geometry, 0, i, job->height);
    if (job->out_width >= LONG_ROW) max_row(job, x, down, out, indices);
    for (int64_t j = 0; job->out_width < LONG_ROW && j < job->out_width; j++)
      max_window(job, x, down, window_at(job->geometry, 1, j, job->width), out + j, indices + j);
    out += job->out_width;
    indices += job->out_width;
  }
}

static void max_row_2x2(const REAL *restrict above, int64_t width, int64_t first, int64_t count,
                        REAL *restrict out, int64_t *restrict indices) {
  const REAL *restrict below = above + width;
  for (int64_t j = 0; j < count; j++) {
    REAL a = above[2 * j], b = above[2 * j + 1], c = below[2 * j], d = below[2 * j + 1];
    int32_t corner = 0;   // 32 bits: as wide as a float, so that both go in one vector
    corner = beats(b, a) ? 1 : corner;
    a = beats(b, a) ? b : a;
    corner = beats(c, a) ? 2 : corner;
    a = beats(c, a) ? c : a;
    corner = beats(d, a) ? 3 : corner;
    out[j] = beats(d, a) ? d : a;
    indices[j] = first + 2 * j + (corner & 1) + (corner >> 1) * width;
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

// Both rows of dx under one row of windows, written once: no clearing, no scattering.
static void max_back_row_2x2(const REAL *restrict g, const int64_t *restrict indices,
                             int64_t width, int64_t first, int64_t count, REAL *restrict dx) {
  REAL *restrict above = dx + first, *restrict below = above + width;
  for (int64_t j = 0; j < count; j++) {
    int32_t at = (int32_t)(indices[j] - first) - (int32_t)(2 * j), down = (int32_t)width;
    above[2 * j] = at == 0 ? g[j] : 0;
    above[2 * j + 1] = at == 1 ? g[j] : 0;
    below[2 * j] = at == down ? g[j] : 0;
    below[2 * j + 1] = at == down + 1 ? g[j] : 0;
  }
}

static void max_back_plane(const REAL *g, const int64_t *indices, int64_t area, int64_t out_area,
                           REAL *dx) {
  memset(dx, 0, (size_t)area * sizeof(REAL));
  for (int64_t i = 0; i < out_area; i++)
    if (indices[i] >= 0 && indices[i] < area) dx[indices[i]] += g[i];
}

moon_status CPU(NAME(max_pool_back_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  int64_t area = job->height * job->width, out_area = job->out_height * job->out_width;
  bool fast = is_2x2(job) && job->out_height * 2 == job->height &&
              job->out_width * 2 == job->width && job->width > 2 && job->width < INT32_MAX / 2;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *g = (const REAL *)job->source + plane * out_area;
    const int64_t *indices = job->indices + plane * out_area;
    REAL *dx = (REAL *)job->target + plane * area;
    if (!fast) max_back_plane(g, indices, area, out_area, dx);
    for (int64_t i = 0; fast && i < job->out_height; i++)
      max_back_row_2x2(g + i * job->out_width, indices + i * job->out_width, job->width,
                       2 * i * job->width, job->out_width, dx);
  }
  return MOON_OK;
}

// One over the number of elements an average is taken of, or 0 for an empty window.
static REAL share_of(const pool2d_geometry *g, pool_window down, pool_window across) {
  if (g->divisor != 0) return (REAL)1 / (REAL)g->divisor;
  int64_t inside = (down.last - down.first) * (across.last - across.first);
  if (down.last <= down.first || across.last <= across.first) return 0;
  return (REAL)1 / (REAL)(g->count_include_pad ? down.padded * across.padded : inside);
}

static void sum_tap(const REAL *restrict x, int64_t stride, int64_t count, REAL *restrict out) {
  for (int64_t j = 0; j < count; j++) out[j] += x[j * stride];
}

static void avg_row(const pool_job *job, const REAL *x, pool_window down, REAL *out) {
  const pool2d_geometry *g = job->geometry;
  tap_range taps = taps_inside(job);
  memset(out, 0, (size_t)job->out_width * sizeof(REAL));
  for (int64_t y = down.first; y < down.last; y++)
    for (int64_t tap = taps.first; tap < taps.last; tap++) {
      tap_range range = range_of_tap(job, tap - g->padding[1]);
      int64_t at = y * job->width + tap - g->padding[1] + range.first * g->stride[1];
      if (range.last > range.first)
        sum_tap(x + at, g->stride[1], range.last - range.first, out + range.first);
    }
  pool_window before = { -1, -1, -1 };
  REAL share = 0;   // the same for all windows but those at the edges
  for (int64_t j = 0; j < job->out_width; j++) {
    pool_window across = window_at(g, 1, j, job->width);
    if (across.last - across.first != before.last - before.first ||
        across.padded != before.padded) share = share_of(g, down, across);
    before = across;
    out[j] *= share;
  }
}

static REAL avg_window(const pool_job *job, const REAL *x, pool_window down, pool_window across) {
  REAL sum = 0;
  for (int64_t y = down.first; y < down.last; y++)
    for (int64_t c = across.first; c < across.last; c++) sum += x[y * job->width + c];
  return sum * share_of(job->geometry, down, across);
}

moon_status CPU(NAME(avg_pool_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const pool2d_geometry *g = job->geometry;
  REAL *out = (REAL *)job->target + first * job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *x = (const REAL *)job->source + plane * job->height * job->width;
    for (int64_t i = 0; i < job->out_height; i++) {
      pool_window down = window_at(g, 0, i, job->height);
      if (job->out_width >= LONG_ROW) avg_row(job, x, down, out);
      for (int64_t j = 0; job->out_width < LONG_ROW && j < job->out_width; j++)
        out[j] = avg_window(job, x, down, window_at(g, 1, j, job->width));
      out += job->out_width;
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
