// Local response normalisation by pixels, for one compute type REAL and the type STORED that
// arrays are kept in: vectors of neighbouring channels, whose window sums are sums of a row's
// vectors one channel apart. Powers of these are not kept for backward but calculated again. What
// windows are taken of lies in scratch between zeros, some pixels at a time: a vector across two
// that were just written waits for both.
#include <string.h>

#include "base/alloc.h"
#include "cpu/expect.h"
#include "cpu/lanes_stored.h"
#include "cpu/lrn_power_real.h"

enum { LRN_RUN = 2048 };   // elements of a row of scratch, unless one pixel has more

static const STORED *lrn_pixel(pixel_rows rows, int64_t pixel) {
  return (const STORED *)rows.data + pixel * rows.stride;
}

// Scratch: rows of `width` elements between zeros, a pixel's squares and, backward, its ratios
// g x s^(-beta-1), and as many for g s^-beta.
typedef struct lrn_run {
  const lrn_pixels *job;
  lrn_rule rule;
  int64_t width, pixels;     // pixels that go together
  REAL *squares, *ratios, *straight;
} lrn_run;

// The sums of the windows that begin with elements c ... c + LANES - 1 of a row of scratch.
static inline lanes window_sums(const lrn_pixels *job, const REAL *row, int64_t c) {
  const int64_t others = job->before + job->after;
  lanes sum = lanes_load(row + c);
  if (others == 4)   // the usual window, without a loop
    return sum + lanes_load(row + c + 4) + (lanes_load(row + c + 1) + lanes_load(row + c + 3)) +
           lanes_load(row + c + 2);
  for (int64_t i = 1; i <= others; i++) sum += lanes_load(row + c + i);
  return sum;
}

static void open_squares(const lrn_run *run, int64_t pixel, REAL *squares) {
  const lrn_pixels *job = run->job;
  const STORED *x = lrn_pixel(job->x, pixel);
  for (int64_t c = 0; c < job->channels; c += LANES) {
    lanes value = stored_load_some(x + c, job->channels - c);
    lanes_store_some(squares + job->before + c, value * value, job->channels - c);
  }
}

static void close_forward(const lrn_run *run, int64_t pixel, const REAL *squares) {
  const lrn_pixels *job = run->job;
  const STORED *x = lrn_pixel(job->x, pixel);
  STORED *out = (STORED *)job->out.data + pixel * job->out.stride;
  for (int64_t c = 0; c < job->channels; c += LANES) {
    lanes inverse, power = lrn_power(&run->rule, window_sums(job, squares, c), &inverse);
    __builtin_prefetch(x + c + run->pixels * job->x.stride);   // memory idles otherwise
    expect_write(out + c);
    stored_save_some(out + c, stored_load_some(x + c, job->channels - c) * power,
                     job->channels - c);
  }
}

static void open_ratios(const lrn_run *run, int64_t pixel, const REAL *squares, REAL *ratios,
                        REAL *straight) {
  const lrn_pixels *job = run->job;
  const STORED *x = lrn_pixel(job->x, pixel), *g = lrn_pixel(job->gradient, pixel);
  for (int64_t c = 0; c < job->channels; c += LANES) {
    int64_t left = job->channels - c;
    lanes inverse, power = lrn_power(&run->rule, window_sums(job, squares, c), &inverse);
    __builtin_prefetch(x + c + run->pixels * job->x.stride);
    lanes scaled = stored_load_some(g + c, left) * power;
    lanes_store(straight + c, scaled);
    lanes_store_some(ratios + job->after + c, scaled * stored_load_some(x + c, left) * inverse,
                     left);
  }
}

// dx = g s^-beta - 2 alpha beta / size * x * sum of the ratios of the windows that hold x
static void close_ratios(const lrn_run *run, int64_t pixel, const REAL *ratios,
                         const REAL *straight) {
  const lrn_pixels *job = run->job;
  const STORED *x = lrn_pixel(job->x, pixel), *g = lrn_pixel(job->gradient, pixel);
  STORED *dx = (STORED *)job->out.data + pixel * job->out.stride;
  lanes factor = lanes_all(lrn_factor(&run->rule));
  for (int64_t c = 0; c < job->channels; c += LANES) {
    int64_t left = job->channels - c;
    lanes bent = factor * stored_load_some(x + c, left) * window_sums(job, ratios, c);
    __builtin_prefetch(g + c + run->pixels * job->gradient.stride);
    expect_write(dx + c);
    stored_save_some(dx + c, lanes_load(straight + c) - bent, left);
  }
}

static void lrn_run_pixels(const lrn_run *run, int64_t first, int64_t count) {
  const int64_t width = run->width;
  for (int64_t p = 0; p < count; p++) open_squares(run, first + p, run->squares + p * width);
  if (!run->ratios) {
    for (int64_t p = 0; p < count; p++) close_forward(run, first + p, run->squares + p * width);
    return;
  }
  for (int64_t p = 0; p < count; p++)
    open_ratios(run, first + p, run->squares + p * width, run->ratios + p * width,
                run->straight + p * width);
  for (int64_t p = 0; p < count; p++)
    close_ratios(run, first + p, run->ratios + p * width, run->straight + p * width);
}

static moon_status lrn_pixels_each(const lrn_pixels *job, bool backward, int64_t first,
                                   int64_t last) {
  lrn_run run = { .job = job, .rule = lrn_rule_of(job->options),
                  .width = job->channels + job->before + job->after };
  run.pixels = run.width < LRN_RUN ? LRN_RUN / run.width : 1;
  int64_t room = run.pixels * run.width + LANES;   // vectors reach beyond the last row
  size_t bytes = (size_t)room * sizeof(REAL) * (backward ? 3 : 1);
  MOON_TRY(alloc_bytes(job->engine, bytes, (void **)&run.squares));
  memset(run.squares, 0, bytes);
  if (backward) {
    run.ratios = run.squares + room;
    run.straight = run.ratios + room;
  }
  for (int64_t at = first; at < last; at += run.pixels)
    lrn_run_pixels(&run, at, last - at < run.pixels ? last - at : run.pixels);
  alloc_release(job->engine, run.squares, bytes);
  return MOON_OK;
}

moon_status CPU(NAME(lrn_pixels_forward))(void *context, int64_t first, int64_t last) {
  return lrn_pixels_each(context, false, first, last);
}

moon_status CPU(NAME(lrn_pixels_backward))(void *context, int64_t first, int64_t last) {
  return lrn_pixels_each(context, true, first, last);
}
