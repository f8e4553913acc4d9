// Local response normalisation by pixels, for one compute type REAL and the type STORED that
// arrays are kept in: vectors of neighbouring channels, whose window sums are sums of the row's
// vectors one channel apart. Powers of these are not kept for backward but calculated again. What
// backward sums itself lies in scratch, some pixels at a time: a vector across two that were just
// written waits for both.
#include <string.h>

#include "base/alloc.h"
#include "cpu/lanes_stored.h"
#include "cpu/lrn_power_real.h"

enum { LRN_RUN = 2048 };   // elements of a row of scratch, unless one pixel has more

static const STORED *lrn_pixel(pixel_rows rows, int64_t pixel) {
  return (const STORED *)rows.data + pixel * rows.stride;
}

// The squares of x in the windows of channels c ... c + LANES - 1.
static inline lanes squares_at(const lrn_pixels *job, const STORED *x, int64_t c) {
  lanes sum = lanes_zero();
  for (int64_t i = c - job->before; i <= c + job->after; i++) {
    lanes value = stored_load_within(x, i, job->channels);
    sum = lanes_fma(value, value, sum);
  }
  return sum;
}

// A vector is stored after the next one's windows were read: these reach back to where it was
// read, and a processor compares the low bits of addresses only, in which x and out often agree
// (2.5 times as fast).
static void lrn_forward_pixel(const lrn_pixels *job, const lrn_rule *rule, const STORED *x,
                              STORED *out) {
  lanes result = lanes_zero();
  int64_t c = 0;
  for (; c < job->channels; c += LANES) {
    lanes inverse, power = lrn_power(rule, squares_at(job, x, c), &inverse);
    if (c > 0) stored_save(out + c - LANES, result);
    result = stored_load_within(x, c, job->channels) * power;
  }
  stored_save_some(out + c - LANES, result, job->channels - c + LANES);
}

moon_status CPU(NAME(lrn_pixels_forward))(void *context, int64_t first, int64_t last) {
  const lrn_pixels *job = context;
  lrn_rule rule = lrn_rule_of(job->options);
  for (int64_t pixel = first; pixel < last; pixel++)
    lrn_forward_pixel(job, &rule, lrn_pixel(job->x, pixel),
                      (STORED *)job->out.data + pixel * job->out.stride);
  return MOON_OK;
}

// Scratch: rows of `width` elements, a pixel's ratios g x s^(-beta-1) between zeros, and as many
// for g s^-beta.
typedef struct lrn_run {
  const lrn_pixels *job;
  lrn_rule rule;
  int64_t width;
  REAL *ratios, *straight;
} lrn_run;

static void open_ratios(const lrn_run *run, int64_t pixel, REAL *ratios, REAL *straight) {
  const lrn_pixels *job = run->job;
  const STORED *x = lrn_pixel(job->x, pixel), *g = lrn_pixel(job->gradient, pixel);
  for (int64_t c = 0; c < job->channels; c += LANES) {
    lanes inverse, power = lrn_power(&run->rule, squares_at(job, x, c), &inverse);
    lanes scaled = stored_load_within(g, c, job->channels) * power;
    lanes_store(straight + c, scaled);
    lanes_store_some(ratios + job->after + c,
                     scaled * stored_load_within(x, c, job->channels) * inverse,
                     job->channels - c);
  }
}

// dx = g s^-beta - 2 alpha beta / size * x * sum of the ratios of the windows that hold x
static void close_ratios(const lrn_run *run, int64_t pixel, const REAL *ratios,
                         const REAL *straight) {
  const lrn_pixels *job = run->job;
  const STORED *x = lrn_pixel(job->x, pixel);
  STORED *dx = (STORED *)job->out.data + pixel * job->out.stride;
  lanes factor = lanes_all(lrn_factor(&run->rule));
  for (int64_t c = 0; c < job->channels; c += LANES) {
    lanes sum = lanes_load(ratios + c);
    for (int64_t i = 1; i <= job->before + job->after; i++) sum += lanes_load(ratios + c + i);
    lanes bent = factor * stored_load_within(x, c, job->channels) * sum;
    stored_save_some(dx + c, lanes_load(straight + c) - bent, job->channels - c);
  }
}

static void lrn_backward_run(const lrn_run *run, int64_t first, int64_t count) {
  for (int64_t p = 0; p < count; p++)
    open_ratios(run, first + p, run->ratios + p * run->width, run->straight + p * run->width);
  for (int64_t p = 0; p < count; p++)
    close_ratios(run, first + p, run->ratios + p * run->width, run->straight + p * run->width);
}

moon_status CPU(NAME(lrn_pixels_backward))(void *context, int64_t first, int64_t last) {
  const lrn_pixels *job = context;
  lrn_run run = { .job = job, .rule = lrn_rule_of(job->options),
                  .width = job->channels + job->before + job->after };
  int64_t pixels = run.width < LRN_RUN ? LRN_RUN / run.width : 1;
  int64_t room = pixels * run.width + LANES;   // vectors reach beyond the last row
  size_t bytes = 2 * (size_t)room * sizeof(REAL);
  MOON_TRY(alloc_bytes(job->engine, bytes, (void **)&run.ratios));
  memset(run.ratios, 0, bytes);
  run.straight = run.ratios + room;
  for (int64_t at = first; at < last; at += pixels)
    lrn_backward_run(&run, at, last - at < pixels ? last - at : pixels);
  alloc_release(job->engine, run.ratios, bytes);
  return MOON_OK;
}
