// Local response normalisation by pixels, for one compute type REAL and the type STORED that arrays
// but the scale are kept in. A pixel's squares stand in scratch between zeros, so that a window sum
// is a sum of shifted rows, whatever the channel; every sum is taken afresh.
#include "cpu/network.h"
#include "cpu/lrn_power_real.h"

#include <string.h>

#include "base/alloc.h"

// Scratch: a row between zeros, the sums, the powers.
static size_t lrn_scratch(const lrn_pixels *job) {
  return (size_t)(3 * job->channels + job->before + job->after) * sizeof(REAL);
}

static const STORED *lrn_pixel(pixel_rows rows, int64_t pixel) {
  return (const STORED *)rows.data + pixel * rows.stride;
}

// sum[c] = row[c] + ... + row[c + window - 1]
static void shifted_sums(const REAL *restrict row, int64_t window, int64_t n, REAL *restrict sum) {
  memset(sum, 0, (size_t)n * sizeof(REAL));
  for (int64_t k = 0; k < window; k++)
    for (int64_t c = 0; c < n; c++) sum[c] += row[c + k];
}

static void lrn_forward_pixel(const lrn_pixels *job, int64_t pixel, REAL *scratch) {
  const lrn_options *o = job->options;
  int64_t n = job->channels;
  const STORED *restrict x = lrn_pixel(job->x, pixel);
  STORED *restrict out = (STORED *)job->out.data + pixel * job->out.stride;
  REAL *restrict scale = (REAL *)job->scale.data + pixel * job->scale.stride;
  REAL *restrict squares = scratch + job->before, *restrict sum = squares + n + job->after;
  REAL *restrict power = sum + n, factor = (REAL)(o->alpha / (double)o->size), k = (REAL)o->k;
  for (int64_t c = 0; c < n; c++) squares[c] = STORED_LOAD(x[c]) * STORED_LOAD(x[c]);
  shifted_sums(scratch, job->before + job->after + 1, n, sum);
  for (int64_t c = 0; c < n; c++) sum[c] = k + factor * sum[c];
  negative_power(o->beta, sum, n, power);
  for (int64_t c = 0; c < n; c++) {
    scale[c] = sum[c];
    out[c] = STORED_SAVE(STORED_LOAD(x[c]) * power[c]);
  }
}

// dx = g s^-beta - 2 alpha beta / size * x * sum of (g x s^(-beta-1)) over the windows that hold x
static void lrn_backward_pixel(const lrn_pixels *job, int64_t pixel, REAL *scratch) {
  const lrn_options *o = job->options;
  int64_t n = job->channels;
  const STORED *restrict x = lrn_pixel(job->x, pixel);
  const STORED *restrict g = lrn_pixel(job->gradient, pixel);
  const REAL *restrict scale = (const REAL *)job->scale.data + pixel * job->scale.stride;
  STORED *restrict dx = (STORED *)job->out.data + pixel * job->out.stride;
  REAL *restrict ratio = scratch + job->before, *restrict sum = ratio + n + job->after;
  REAL *restrict power = sum + n, factor = (REAL)(2 * o->alpha * o->beta / (double)o->size);
  for (int64_t c = 0; c < n; c++) sum[c] = scale[c];
  negative_power(o->beta, sum, n, power);
  for (int64_t c = 0; c < n; c++) {
    power[c] *= STORED_LOAD(g[c]);
    ratio[c] = power[c] * STORED_LOAD(x[c]) / sum[c];
  }
  shifted_sums(scratch, job->before + job->after + 1, n, sum);
  for (int64_t c = 0; c < n; c++)
    dx[c] = STORED_SAVE(power[c] - factor * STORED_LOAD(x[c]) * sum[c]);
}

static moon_status lrn_each_pixel(const lrn_pixels *job, int64_t first, int64_t last,
                                  void (*each)(const lrn_pixels *, int64_t, REAL *)) {
  REAL *scratch;
  MOON_TRY(alloc_bytes(job->engine, lrn_scratch(job), (void **)&scratch));
  memset(scratch, 0, lrn_scratch(job));
  for (int64_t pixel = first; pixel < last; pixel++) each(job, pixel, scratch);
  alloc_release(job->engine, scratch, lrn_scratch(job));
  return MOON_OK;
}

moon_status CPU(NAME(lrn_pixels_forward))(void *context, int64_t first, int64_t last) {
  return lrn_each_pixel(context, first, last, lrn_forward_pixel);
}

moon_status CPU(NAME(lrn_pixels_backward))(void *context, int64_t first, int64_t last) {
  return lrn_each_pixel(context, first, last, lrn_backward_pixel);
}
