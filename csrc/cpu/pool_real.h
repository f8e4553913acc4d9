// Pooling by planes window by window, for one compute type: for few windows a row, wide strides and
// large kernels, the mean of whole planes among them; other planes go by lines
// (pool_lines_real.h). Windows are cut to the image first, so no element is tested twice. A NaN in
// a window is its maximum; padding never is.
#include "cpu/pool.h"

#include <math.h>
#include <string.h>

#include "cpu/lanes.h"

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
      bool larger = (value > best) | (value != value);
      if (!larger && where >= 0) continue;
      best = value;
      where = pool_number(job, i, j, y, c);
    }
  *out = best;
  return where;
}

moon_status CPU(NAME(max_pool_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const int64_t area = job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *x = (const REAL *)job->source + plane * job->height * job->width;
    for (int64_t k = 0; k < area; k++) {
      const int64_t at = plane * area + k;
      int32_t number = max_window(job, x, k / job->out_width, k % job->out_width,
                                  (REAL *)job->target + at);
      if (!job->taken) continue;
      if (job->bytes) ((uint8_t *)job->taken)[at] = (uint8_t)number;
      else ((int32_t *)job->taken)[at] = number;
    }
  }
  return MOON_OK;
}

moon_status CPU(NAME(max_pool_back_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const int64_t area = job->height * job->width, out_area = job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *g = (const REAL *)job->source + plane * out_area;
    REAL *dx = (REAL *)job->target + plane * area;
    memset(dx, 0, (size_t)area * sizeof(REAL));
    for (int64_t k = 0; k < out_area; k++) {
      int32_t number = pool_load_number(job->bytes, job->taken, plane * out_area + k);
      int64_t place = pool_place_of(job->geometry, job->bytes, k / job->out_width,
                                    k % job->out_width, number, job->width);
      if (place >= 0) dx[place] += g[k];
    }
  }
  return MOON_OK;
}

// Rows of elements of a plane: all that lie in a window.
typedef struct pool_runs {
  int64_t first, count, length;   // of the first run; runs are the image's width apart
} pool_runs;

static pool_runs runs_of(const pool_job *job, int64_t i, int64_t j, REAL *share) {
  pool_window down = pool_window_at(job->geometry, 0, i, job->height);
  pool_window across = pool_window_at(job->geometry, 1, j, job->width);
  pool_runs runs = { .first = down.first * job->width + across.first,
                     .count = down.last - down.first, .length = across.last - across.first };
  *share = (REAL)pool_share(job->geometry, down, across);
  if (runs.length < job->width) return runs;
  runs.length *= runs.count;   // they follow each other
  runs.count = runs.count > 0 ? 1 : 0;
  return runs;
}

static REAL sum_elements(const REAL *x, int64_t count) {
  lanes sum[4] = { lanes_zero() };
  int64_t i = 0;
  for (; i + 4 * LANES <= count; i += 4 * LANES)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[v] += lanes_load(x + i + v * LANES);
  for (; i < count; i += LANES) sum[0] += lanes_load_some(x + i, count - i);
  return lanes_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

moon_status CPU(NAME(avg_pool_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const int64_t area = job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *x = (const REAL *)job->source + plane * job->height * job->width;
    REAL *out = (REAL *)job->target + plane * area;
    for (int64_t k = 0; k < area; k++) {
      REAL share, sum = 0;
      pool_runs runs = runs_of(job, k / job->out_width, k % job->out_width, &share);
      for (int64_t r = 0; r < runs.count && runs.length > 0; r++)
        sum += sum_elements(x + runs.first + r * job->width, runs.length);
      out[k] = sum * share;
    }
  }
  return MOON_OK;
}

static void add_to_elements(REAL *dx, int64_t count, REAL value) {
  for (int64_t i = 0; i < count; i += LANES)
    lanes_store_some(dx + i, lanes_load_some(dx + i, count - i) + lanes_all(value), count - i);
}

moon_status CPU(NAME(avg_pool_back_planes))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const int64_t area = job->height * job->width, out_area = job->out_height * job->out_width;
  for (int64_t plane = first; plane < last; plane++) {
    const REAL *g = (const REAL *)job->source + plane * out_area;
    REAL *dx = (REAL *)job->target + plane * area;
    memset(dx, 0, (size_t)area * sizeof(REAL));
    for (int64_t k = 0; k < out_area; k++) {
      REAL share;
      pool_runs runs = runs_of(job, k / job->out_width, k % job->out_width, &share);
      for (int64_t r = 0; r < runs.count; r++)
        add_to_elements(dx + runs.first + r * job->width, runs.length, g[k] * share);
    }
  }
  return MOON_OK;
}
