// Pooling for one compute type. Windows are cut to the image first, so no element is tested twice.
// Long rows go tap by tap, one vector loop over the row for each tap; short ones window by window;
// windows of 2 x 2 at distance 2, the common case, have loops of their own in both directions.
// A NaN in a window is its maximum; padding never is.
#include "cpu/pool.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

static bool beats(REAL value, REAL best) { return (value > best) | (value != value); }

// Window (i, j); gives the number of its largest element, -1 where none lies inside.
static int32_t max_window(const pool_job *job, const REAL *x, int64_t i, int64_t j, REAL *out) {
  const pool2d_geometry *g = job->geometry;
  pool_window down = pool_window_at(g, 0, i, job->height);
  pool_window across = pool_window_at(g, 1, j, job->width);
  REAL best = -(REAL)INFINITY;
  int32_t where = -1;
  for (int64_t y = down.first; y < down.last; y += g->dilation[0])
    for (int64_t c = across.first; c < across.last; c += g->dilation[1]) {
      REAL value = x[y * job->width + c];
      if (!beats(value, best) && where >= 0) continue;
      best = value;
      where = pool_number(job, i, j, y, c);
    }
  *out = best;
  return where;
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

// The elements' numbers begin with `number`, each `step` after the one before.
static void max_tap(const REAL *restrict x, int64_t stride, int64_t count, int32_t number,
                    int32_t step, REAL *restrict out, int32_t *restrict numbers) {
  for (int64_t j = 0; j < count; j++) {
    REAL value = x[j * stride];
    bool taken = beats(value, out[j]) | (numbers[j] < 0);
    out[j] = taken ? value : out[j];
    numbers[j] = taken ? number + (int32_t)j * step : numbers[j];
  }
}

static void max_row(const pool_job *job, const REAL *x, int64_t i, REAL *out, int32_t *taken) {
  const pool2d_geometry *g = job->geometry;
  pool_window down = pool_window_at(g, 0, i, job->height);
  tap_range taps = taps_inside(job);
  for (int64_t j = 0; j < job->out_width; j++) {
    out[j] = -(REAL)INFINITY;
    taken[j] = -1;
  }
  for (int64_t y = down.first; y < down.last; y += g->dilation[0])
    for (int64_t tap = taps.first; tap < taps.last; tap++) {
      int64_t shift = tap * g->dilation[1] - g->padding[1];
      tap_range range = range_of_tap(job, shift);
      int64_t column = shift + range.first * g->stride[1];
      if (range.last > range.first)
        max_tap(x + y * job->width + column, g->stride[1], range.last - range.first,
                pool_number(job, i, range.first, y, column),
                job->bytes ? 0 : (int32_t)g->stride[1], out + range.first, taken + range.first);
    }
}

static void max_row_2x2(const REAL *restrict above, int64_t width, int64_t count,
                        REAL *restrict out, int32_t *restrict taken) {
  const REAL *restrict below = above + width;
  for (int64_t j = 0; j < count; j++) {
    REAL a = above[2 * j], b = above[2 * j + 1], c = below[2 * j], d = below[2 * j + 1];
    int32_t corner = 0;
    corner = beats(b, a) ? 1 : corner;
    a = beats(b, a) ? b : a;
    corner = beats(c, a) ? 2 : corner;
    a = beats(c, a) ? c : a;
    taken[j] = beats(d, a) ? 3 : corner;
    out[j] = beats(d, a) ? d : a;
  }
}

static bool is_2x2(const pool_job *job) {
  const pool2d_geometry *g = job->geometry;
  for (int axis = 0; axis < 2; axis++)
    if (g->kernel[axis] != 2 || g->stride[axis] != 2 || g->padding[axis] != 0 ||
        g->dilation[axis] != 1) return false;
  return job->out_height * 2 <= job->height && job->out_width * 2 <= job->width;
}

// Where row i of a plane's numbers lies.
static char *taken_row(const pool_job *job, int64_t plane, int64_t i) {
  int64_t size = job->bytes ? 1 : (int64_t)sizeof(int32_t);
  return (char *)job->taken + (plane * job->out_height + i) * job->out_width * size;
}

static void max_plane(const pool_job *job, int64_t plane, int32_t *taken) {
  const REAL *x = (const REAL *)job->source + plane * job->height * job->width;
  REAL *out = (REAL *)job->target + plane * job->out_height * job->out_width;
  bool fast = is_2x2(job);
  for (int64_t i = 0; i < job->out_height; i++, out += job->out_width) {
    if (fast) max_row_2x2(x + 2 * i * job->width, job->width, job->out_width, out, taken);
    else if (job->out_width >= LONG_ROW) max_row(job, x, i, out, taken);
    else
      for (int64_t j = 0; j < job->out_width; j++) taken[j] = max_window(job, x, i, j, out + j);
    if (job->taken)
      pool_store_numbers(job->bytes, taken, job->out_width, taken_row(job, plane, i));
  }
}

moon_status CPU(NAME(max_pool_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  size_t bytes = (size_t)job->out_width * sizeof(int32_t);
  int32_t *taken;
  MOON_TRY(alloc_bytes(job->engine, bytes, (void **)&taken));
  for (int64_t plane = first; plane < last; plane++) max_plane(job, plane, taken);
  alloc_release(job->engine, taken, bytes);
  return MOON_OK;
}

// Both rows of dx under one row of windows, written once: no clearing, no scattering.
static void max_back_row_2x2(const REAL *restrict g, const uint8_t *restrict taken, int64_t width,
                             int64_t count, REAL *restrict above) {
  REAL *restrict below = above + width;
  for (int64_t j = 0; j < count; j++) {
    above[2 * j] = taken[j] == 0 ? g[j] : 0;
    above[2 * j + 1] = taken[j] == 1 ? g[j] : 0;
    below[2 * j] = taken[j] == 2 ? g[j] : 0;
    below[2 * j + 1] = taken[j] == 3 ? g[j] : 0;
  }
}

static void max_back_plane(const pool_job *job, int64_t plane, const REAL *g, REAL *dx) {
  memset(dx, 0, (size_t)(job->height * job->width) * sizeof(REAL));
  for (int64_t i = 0; i < job->out_height; i++)
    for (int64_t j = 0; j < job->out_width; j++, g++) {
      int32_t number = pool_load_number(job->bytes, taken_row(job, plane, i), j);
      int64_t place = pool_place_of(job->geometry, job->bytes, i, j, number, job->width);
      if (place >= 0) dx[place] += *g;
    }
}

moon_status CPU(NAME(max_pool_back_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  int64_t area = job->height * job->width, out_area = job->out_height * job->out_width;
  bool fast = is_2x2(job) && job->out_height * 2 == job->height &&
              job->out_width * 2 == job->width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *g = (const REAL *)job->source + plane * out_area;
    REAL *dx = (REAL *)job->target + plane * area;
    if (!fast) max_back_plane(job, plane, g, dx);
    for (int64_t i = 0; fast && i < job->out_height; i++)
      max_back_row_2x2(g + i * job->out_width, (const uint8_t *)taken_row(job, plane, i),
                       job->width, job->out_width, dx + 2 * i * job->width);
  }
  return MOON_OK;
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
    pool_window across = pool_window_at(g, 1, j, job->width);
    if (across.last - across.first != before.last - before.first ||
        across.padded != before.padded) share = (REAL)pool_share(g, down, across);
    before = across;
    out[j] *= share;
  }
}

static REAL avg_window(const pool_job *job, const REAL *x, pool_window down, pool_window across) {
  REAL sum = 0;
  for (int64_t y = down.first; y < down.last; y++)
    for (int64_t c = across.first; c < across.last; c++) sum += x[y * job->width + c];
  return sum * (REAL)pool_share(job->geometry, down, across);
}

moon_status CPU(NAME(avg_pool_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const pool2d_geometry *g = job->geometry;
  REAL *out = (REAL *)job->target + first * job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *x = (const REAL *)job->source + plane * job->height * job->width;
    for (int64_t i = 0; i < job->out_height; i++) {
      pool_window down = pool_window_at(g, 0, i, job->height);
      if (job->out_width >= LONG_ROW) avg_row(job, x, down, out);
      for (int64_t j = 0; job->out_width < LONG_ROW && j < job->out_width; j++)
        out[j] = avg_window(job, x, down, pool_window_at(g, 1, j, job->width));
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
      pool_window down = pool_window_at(geometry, 0, i, job->height);
      for (int64_t j = 0; j < job->out_width; j++) {
        pool_window across = pool_window_at(geometry, 1, j, job->width);
        REAL share = *g++ * (REAL)pool_share(geometry, down, across);
        for (int64_t y = down.first; y < down.last; y++)
          for (int64_t c = across.first; c < across.last; c++) dx[y * job->width + c] += share;
      }
    }
  }
  return MOON_OK;
}
