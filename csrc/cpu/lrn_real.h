// Local response normalisation for one compute type REAL and the type STORED that arrays are kept
// in, line by line: a line is a pixel's channels, or some neighbouring elements of a channel's
// plane. What windows are taken of goes through scratch that stays in cache, between zeros: there
// the lines of a window lie one element apart (a pixel's), or are a ring of the last planes' ones.
// Windows are taken afresh for every element (a sliding sum would subtract what it added and lose
// digits). Powers are not kept for backward but calculated again.
#include <string.h>

#include "base/alloc.h"
#include "cpu/expect.h"
#include "cpu/lanes_stored.h"
#include "cpu/lrn.h"
#include "cpu/lrn_power_real.h"
#include "cpu/whole.h"

enum { LRN_RUN = 2048 };   // elements of scratch by pixels, unless one pixel has more

// Scratch holds squares and, backward, ratios g x s^(-beta-1) and g s^-beta.
typedef struct lrn_scratch {
  const lrn_job *job;
  lrn_rule rule;
  int64_t others;            // lines of a window but one
  int64_t length;            // of the lines that are gone through
  int64_t ahead;             // elements of the arrays to where they will be read next
  size_t bytes;
  const REAL **window;       // the lines whose sums are windows'
  REAL *squares, *ratios, *straight;
} lrn_scratch;

static inline lanes window_sums(const lrn_scratch *s, int64_t i) {
  const REAL *const *window = s->window;
  lanes sum = lanes_load(window[0] + i);
  if (s->others == 4)   // the usual window, without a loop
    return sum + lanes_load(window[4] + i) +
           (lanes_load(window[1] + i) + lanes_load(window[3] + i)) + lanes_load(window[2] + i);
  for (int64_t k = 1; k <= s->others; k++) sum += lanes_load(window[k] + i);
  return sum;
}

static void open_squares(const lrn_scratch *s, const STORED *x, REAL *squares) {
  for (int64_t i = 0; i < s->length; i += LANES) {
    lanes value = stored_load_some(x + i, s->length - i);
    lanes_store_some(squares + i, value * value, s->length - i);
  }
}

static void close_forward(const lrn_scratch *s, const STORED *x, STORED *out) {
  for (int64_t i = 0; i < s->length; i += LANES) {
    lanes inverse, power = lrn_power(&s->rule, window_sums(s, i), &inverse);
    __builtin_prefetch(x + i + s->ahead);   // memory idles otherwise
    expect_write(out + i);
    stored_save_some(out + i, stored_load_some(x + i, s->length - i) * power, s->length - i);
  }
}

static void open_ratios(const lrn_scratch *s, const STORED *x, const STORED *g, REAL *ratios,
                        REAL *straight) {
  for (int64_t i = 0; i < s->length; i += LANES) {
    int64_t left = s->length - i;
    lanes inverse, power = lrn_power(&s->rule, window_sums(s, i), &inverse);
    __builtin_prefetch(x + i + s->ahead);
    lanes scaled = stored_load_some(g + i, left) * power;
    lanes_store(straight + i, scaled);
    lanes_store_some(ratios + i, scaled * stored_load_some(x + i, left) * inverse, left);
  }
}

// dx = g s^-beta - 2 alpha beta / size * x * sum of the ratios of the windows that hold x
static void close_ratios(const lrn_scratch *s, const STORED *x, const STORED *g,
                         const REAL *straight, STORED *dx) {
  lanes factor = lanes_all(lrn_factor(&s->rule));
  for (int64_t i = 0; i < s->length; i += LANES) {
    int64_t left = s->length - i;
    lanes bent = factor * stored_load_some(x + i, left) * window_sums(s, i);
    __builtin_prefetch(g + i + s->ahead);
    expect_write(dx + i);
    stored_save_some(dx + i, lanes_load(straight + i) - bent, left);
  }
}

// `room` elements for each of what scratch holds, all zeros.
static moon_status open_scratch(const lrn_job *job, int64_t room, lrn_scratch *s) {
  const bool backward = job->gradient.data != NULL;
  const size_t part = (size_t)room * sizeof(REAL), line = 64;
  void *block;
  s->job = job;
  s->rule = lrn_rule_of(job->options);
  s->others = job->before + job->after;
  const size_t window = ((size_t)(s->others + 1) * sizeof(REAL *) + line - 1) / line * line;
  s->bytes = window + part * (backward ? 3 : 1);
  MOON_TRY(alloc_bytes(job->engine, s->bytes, &block));
  memset(block, 0, s->bytes);
  s->window = block;
  s->squares = (REAL *)(void *)((char *)block + window);
  s->ratios = backward ? s->squares + room : NULL;
  s->straight = backward ? s->ratios + room : NULL;
  return MOON_OK;
}

static void close_scratch(const lrn_scratch *s) {
  alloc_release(s->job->engine, (void *)s->window, s->bytes);
}

static const STORED *lrn_row(pixel_rows rows, int64_t row) {
  return (const STORED *)rows.data + row * rows.stride;
}
static STORED *lrn_row_to(pixel_rows rows, int64_t row) {
  return (STORED *)rows.data + row * rows.stride;
}

// -- by pixels: so many together that what was just written is not read at once, since a vector
//    across two that were waits for both

static void see_pixel(const lrn_scratch *s, const REAL *line) {
  for (int64_t k = 0; k <= s->others; k++) s->window[k] = line + k;
}

static void run_pixels(const lrn_scratch *s, int64_t width, int64_t first, int64_t count) {
  const lrn_job *job = s->job;
  for (int64_t p = 0; p < count; p++)
    open_squares(s, lrn_row(job->x, first + p), s->squares + p * width + job->before);
  for (int64_t p = 0; p < count; p++) {
    const STORED *x = lrn_row(job->x, first + p);
    see_pixel(s, s->squares + p * width);
    if (!s->ratios) close_forward(s, x, lrn_row_to(job->out, first + p));
    else open_ratios(s, x, lrn_row(job->gradient, first + p),
                     s->ratios + p * width + job->after, s->straight + p * width);
  }
  for (int64_t p = 0; s->ratios && p < count; p++) {
    see_pixel(s, s->ratios + p * width);
    close_ratios(s, lrn_row(job->x, first + p), lrn_row(job->gradient, first + p),
                 s->straight + p * width, lrn_row_to(job->out, first + p));
  }
}

moon_status CPU(NAME(lrn_pixels))(void *context, int64_t first, int64_t last) {
  const lrn_job *job = context;
  int64_t width = job->channels + job->before + job->after;
  int64_t pixels = maximum(LRN_RUN / width, 1);
  lrn_scratch s = { .length = job->channels, .ahead = pixels * job->x.stride };
  MOON_TRY(open_scratch(job, pixels * width + LANES, &s));   // vectors reach beyond
  for (int64_t at = first; at < last; at += pixels)
    run_pixels(&s, width, at, minimum(last - at, pixels));
  close_scratch(&s);
  return MOON_OK;
}

// -- by planes: channels one after the other, with scratch for as many as a window has, a power of
//    two of them. Line `l` of a ring belongs to channel l - before (of ratios: l - after).

static REAL *ring_line(REAL *ring, int64_t lines, int64_t l) {
  return ring + (l & (lines - 1)) * LRN_COLUMNS;
}

static void see_ring(const lrn_scratch *s, REAL *ring, int64_t lines, int64_t l) {
  for (int64_t k = 0; k <= s->others; k++) s->window[k] = ring_line(ring, lines, l + k);
}

static void clear_lines(REAL *ring, int64_t lines, int64_t first, int64_t count) {
  for (int64_t l = first; l < first + count; l++)
    memset(ring_line(ring, lines, l), 0, LRN_COLUMNS * sizeof(REAL));
}

// Columns of all channels, which begin in row `first` of the arrays at element `column`.
static void run_planes(const lrn_scratch *s, int64_t lines, int64_t first, int64_t column) {
  const lrn_job *job = s->job;
  const int64_t before = job->before, after = job->after, channels = job->channels;
  clear_lines(s->squares, lines, 0, before);
  if (s->ratios) clear_lines(s->ratios, lines, 0, after);
  for (int64_t l = 0; l < channels + after + (s->ratios ? before : 0); l++) {
    const int64_t c = l - after, done = c - before;
    if (l < channels)
      open_squares(s, lrn_row(job->x, first + l) + column,
                   ring_line(s->squares, lines, l + before));
    else clear_lines(s->squares, lines, l + before, 1);
    if (c < 0) continue;
    const STORED *x = lrn_row(job->x, first + c) + column;
    see_ring(s, s->squares, lines, c);
    if (!s->ratios) {
      close_forward(s, x, lrn_row_to(job->out, first + c) + column);
      continue;
    }
    if (c < channels)
      open_ratios(s, x, lrn_row(job->gradient, first + c) + column,
                  ring_line(s->ratios, lines, c + after), ring_line(s->straight, lines, c));
    else clear_lines(s->ratios, lines, c + after, 1);
    if (done < 0) continue;
    see_ring(s, s->ratios, lines, done);
    close_ratios(s, lrn_row(job->x, first + done) + column,
                 lrn_row(job->gradient, first + done) + column,
                 ring_line(s->straight, lines, done), lrn_row_to(job->out, first + done) + column);
  }
}

moon_status CPU(NAME(lrn_planes))(void *context, int64_t first, int64_t last) {
  const lrn_job *job = context;
  lrn_scratch s = { .ahead = LRN_COLUMNS };
  int64_t lines = 1;
  while (lines <= job->before + job->after) lines *= 2;
  MOON_TRY(open_scratch(job, lines * LRN_COLUMNS, &s));
  for (int64_t index = first; index < last; index++) {
    int64_t column = index % job->blocks * LRN_COLUMNS;
    s.length = minimum(job->inner - column, LRN_COLUMNS);
    run_planes(&s, lines, index / job->blocks * job->channels, column);
  }
  close_scratch(&s);
  return MOON_OK;
}
