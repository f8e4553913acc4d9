// Pooling by pixels, for one compute type REAL and the type STORED that arrays are kept in. For
// each pixel of the result, the pixels that it is made of are listed; then they are gone through
// for some vectors of channels after the others, so that what is found stays in registers. Away
// from the edges a list is its neighbour's, moved on by a step. Backward every pixel of dx gathers
// from the windows that hold it, so that it is written once and threads need no order. A NaN in a
// window is its maximum; padding never is.
#include "cpu/pool.h"

#include <math.h>

#include "base/alloc.h"
#include "cpu/expect.h"
#include "cpu/lanes_bytes.h"
#include "cpu/lanes_stored.h"
#include "cpu/pool_larger_real.h"
#include "cpu/whole.h"

enum { POOL_VECTORS = 4 };

// A pixel that goes into a result, with the number of its tap or the share it has.
typedef struct pool_source {
  const STORED *from;
  const void *taken;      // of a window, backward
  int32_t number;
  REAL share;
} pool_source;

typedef struct pool_sources {
  int64_t count, line;    // line: how many of them lie on one line of the image, forward
  int64_t moved, moved_taken;   // elements by which all lie behind what is listed
  REAL share;             // of each, in a forward average
  pool_source *list;
} pool_sources;

// A row of the result: of image `n`, the y-th.
typedef struct pool_row {
  int64_t n, y;
  pool_window down;       // forward
  pool_cover covered;     // backward
} pool_row;

static const STORED *pool_pixel(pixel_rows rows, int64_t pixel) {
  return (const STORED *)rows.data + pixel * rows.stride;
}

static STORED *result_pixel(const pool_job *job, int64_t pixel) {
  return (STORED *)job->to.data + pixel * job->to.stride;
}

static char *taken_at(const pool_job *job, int64_t pixel) {
  int64_t size = job->bytes ? 1 : (int64_t)sizeof(int32_t);
  return (char *)job->taken + pixel * job->taken_stride * size;
}

// -- numbers of taps of `left` channels from c on

static inline lanes_bits load_numbers(const pool_job *job, const void *taken, int64_t c,
                                      int64_t left) {
  const uint8_t *bytes = (const uint8_t *)taken + c;
  const int32_t *words = (const int32_t *)taken + c;
  if (job->bytes && left >= LANES) return lanes_from_bytes(bytes);
  lanes_bits numbers = { 0 };
  for (int i = 0; i < LANES && i < left; i++) numbers[i] = job->bytes ? bytes[i] : words[i];
  return numbers;
}

static inline void store_numbers(const pool_job *job, void *taken, int64_t c, lanes_bits numbers,
                                 int64_t left) {
  uint8_t *bytes = (uint8_t *)taken + c;
  int32_t *words = (int32_t *)taken + c;
  if (job->bytes) {
    lanes_to_bytes_some(numbers, bytes, left);
    return;
  }
  for (int i = 0; i < LANES && i < left; i++) words[i] = (int32_t)numbers[i];
}

// -- lists

// The most sources that any result has.
static size_t source_bytes(const pool_job *job) {
  const int64_t *kernel = job->geometry->kernel;
  return (size_t)(minimum(kernel[0], maximum(job->height, job->out_height)) *
                  minimum(kernel[1], maximum(job->width, job->out_width))) * sizeof(pool_source);
}

// The image's pixels under the window of a row's pixel j.
static void list_window(const pool_job *job, const pool_row *row, int64_t j,
                        pool_sources *sources) {
  const pool2d_geometry *g = job->geometry;
  pool_window down = row->down, across = pool_window_at(g, 1, j, job->width);
  int64_t count = 0;
  sources->line = sources->moved = 0;
  for (int64_t y = down.first; y < down.last; y += g->dilation[0]) {
    int64_t line = (row->n * job->height + y) * job->width;
    for (int64_t x = across.first; x < across.last; x += g->dilation[1])
      sources->list[count++] = (pool_source){ .from = pool_pixel(job->from, line + x),
                                              .number = pool_number(job, row->y, j, y, x) };
    if (sources->line == 0) sources->line = count;
  }
  sources->count = count;
  if (job->shares) sources->share = ((const REAL *)job->shares)[row->y * job->out_width + j];
}

// The windows that hold a row's pixel x.
static inline void list_windows(const pool_job *job, const pool_row *row, int64_t x,
                                pool_sources *sources) {
  const pool2d_geometry *g = job->geometry;
  pool_cover down = row->covered, across = job->columns[x].covered;
  const REAL *shares = job->shares;
  int32_t place = (int32_t)(row->y * job->width + x);
  pool_source *next = sources->list;
  for (int64_t i = down.first; i < down.last; i++) {
    int64_t line = (row->n * job->out_height + i) * job->out_width;
    int64_t tap = pool_tap_at(g, 0, i, row->y);
    if (tap < 0) continue;
    for (int64_t j = across.first; j < across.last; j++) {
      int64_t column = pool_tap_at(g, 1, j, x);
      if (column < 0) continue;
      next->from = pool_pixel(job->from, line + j);
      if (shares) {
        next->share = shares[i * job->out_width + j];
      } else {
        next->taken = taken_at(job, line + j);
        next->number = job->bytes ? (int32_t)(tap * g->kernel[1] + column) : place;
      }
      next++;
    }
  }
  sources->count = next - sources->list;
  sources->moved = sources->moved_taken = 0;
}

// Channels c ... of result `pixel`.
static inline void save_result(const pool_job *job, int64_t pixel, int64_t c, lanes value,
                               int64_t left) {
  STORED *to = result_pixel(job, pixel) + c;
  expect_write(to);
  stored_save_some(to, value, left);
}

// -- what is done with a list: for `left` channels from c on of result `pixel`
typedef void (*pool_each)(const pool_job *job, const pool_sources *sources, int64_t pixel,
                          int64_t c, int64_t left);

// For up to POOL_VECTORS vectors at once, so that long lists are not gone through as often.
static inline __attribute__((always_inline)) void take_largest(
    const pool_job *job, const pool_sources *sources, int64_t pixel, int64_t c, int64_t left) {
  const int64_t vectors = left > LANES ? POOL_VECTORS : 1;
  const pool_source *list = sources->list;
  const int64_t at = c + sources->moved;
  lanes best[POOL_VECTORS] = { lanes_zero() };
  lanes_bits numbers[POOL_VECTORS] = { { 0 } };
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    bool any = sources->count > 0;
    best[v] = any ? stored_load_some(list->from + at + v * LANES, left)
                  : lanes_all(-(REAL)INFINITY);
    numbers[v] = (lanes_bits){ 0 } + (any ? list->number : -1);
  }
  for (int64_t k = 1; k < sources->count; k++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      lanes value = stored_load_some(list[k].from + at + v * LANES, left);
      take_larger(value, list[k].number, true, &best[v], &numbers[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    save_result(job, pixel, c + v * LANES, best[v], left);
    if (job->taken) store_numbers(job, taken_at(job, pixel), c + v * LANES, numbers[v], left);
  }
}

// sum[v] += from[v] where byte v * LANES + i of `numbers` is the source's.
static inline __attribute__((always_inline)) void add_taken(lanes sum[POOL_VECTORS],
                                                            const STORED *from,
                                                            const uint8_t *numbers,
                                                            int32_t number) {
#if defined(__AVX512BW__) && REAL_BYTES == 4
  __mmask64 equal = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(numbers),
                                           _mm512_set1_epi8((char)number));
#pragma GCC unroll 4
  for (int v = 0; v < POOL_VECTORS; v++)
    sum[v] = (lanes)_mm512_mask_add_ps((__m512)sum[v], (__mmask16)(equal >> v * LANES),
                                       (__m512)sum[v], (__m512)stored_load(from + v * LANES));
#else
#pragma GCC unroll 4
  for (int v = 0; v < POOL_VECTORS; v++)
    sum[v] += (lanes)((lanes_from_bytes(numbers + v * LANES) == number) &
                      (lanes_bits)stored_load(from + v * LANES));
#endif
}

static inline __attribute__((always_inline)) void gather_largest(
    const pool_job *job, const pool_sources *sources, int64_t pixel, int64_t c, int64_t left) {
  const bool several = left > LANES && job->bytes;
  const int64_t vectors = left > LANES ? POOL_VECTORS : 1;
  const int64_t at = c + sources->moved, taken_at_c = c + sources->moved_taken;
  lanes sum[POOL_VECTORS] = { lanes_zero() };
  for (int64_t k = 0; several && k < sources->count; k++) {
    const pool_source *source = &sources->list[k];
    add_taken(sum, source->from + at, (const uint8_t *)source->taken + taken_at_c, source->number);
  }
  for (int64_t k = 0; !several && k < sources->count; k++) {
    const pool_source *source = &sources->list[k];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      lanes_bits numbers = load_numbers(job, source->taken, taken_at_c + v * LANES, left);
      lanes from = stored_load_some(source->from + at + v * LANES, left);
      sum[v] += (lanes)((numbers == source->number) & (lanes_bits)from);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) save_result(job, pixel, c + v * LANES, sum[v], left);
}

// Line by line, for accuracy; several vectors at once as above.
static inline __attribute__((always_inline)) void take_average(
    const pool_job *job, const pool_sources *sources, int64_t pixel, int64_t c, int64_t left) {
  const int64_t vectors = left > LANES ? POOL_VECTORS : 1;
  lanes sum[POOL_VECTORS] = { lanes_zero() };
  for (int64_t k = 0; k < sources->count;) {
    lanes line[POOL_VECTORS] = { lanes_zero() };
    for (int64_t end = k + sources->line; k < end; k++) {
      const STORED *from = sources->list[k].from + c + sources->moved;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) line[v] += stored_load_some(from + v * LANES, left);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[v] += line[v];
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++)
    save_result(job, pixel, c + v * LANES, sum[v] * lanes_all(sources->share), left);
}

static inline __attribute__((always_inline)) void gather_averages(
    const pool_job *job, const pool_sources *sources, int64_t pixel, int64_t c, int64_t left) {
  const int64_t vectors = left > LANES ? POOL_VECTORS : 1;
  lanes sum[POOL_VECTORS] = { lanes_zero() };
  for (int64_t k = 0; k < sources->count; k++) {
    const STORED *from = sources->list[k].from + c + sources->moved;
    lanes share = lanes_same(sources->list[k].share);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
      sum[v] = lanes_fma(stored_load_some(from + v * LANES, left), share, sum[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++)
    save_result(job, pixel, c + v * LANES, sum[v], left);
}

// -- the tasks

static inline __attribute__((always_inline)) void each_vector(const pool_job *job,
                                                              const pool_sources *sources,
                                                              int64_t pixel, pool_each each) {
  const int64_t step = POOL_VECTORS * LANES;
  int64_t c = 0;
  for (; c + step <= job->channels; c += step) each(job, sources, pixel, c, step);
  for (; c + LANES <= job->channels; c += LANES) each(job, sources, pixel, c, LANES);
  int64_t left = job->channels - c;
  if (left > 0 && left < LANES) each(job, sources, pixel, c, left);
}

static inline __attribute__((always_inline)) void each_in_row(
    const pool_job *job, const pool_row *row, int64_t first_pixel, bool backward, pool_each each,
    pool_sources *sources) {
  const int64_t period = job->period, width = backward ? job->width : job->out_width;
  const int64_t step = job->from.stride * (backward ? 1 : job->geometry->stride[1]);
  for (int64_t start = 0; start < period && start < width; start++)
    for (int64_t x = start; x < width; x += period) {
      if (job->columns[x].moves) {
        sources->moved += step;
        sources->moved_taken += job->taken_stride;
      } else if (backward) {
        list_windows(job, row, x, sources);
      } else {
        list_window(job, row, x, sources);
      }
      each_vector(job, sources, first_pixel + x, each);
    }
}

static inline __attribute__((always_inline)) moon_status each_pixel(
    const pool_job *job, int64_t first, int64_t last, bool backward, pool_each each) {
  pool_sources sources = { .count = 0 };
  int64_t width = backward ? job->width : job->out_width;
  int64_t height = backward ? job->height : job->out_height;
  size_t bytes = source_bytes(job);
  MOON_TRY(alloc_bytes(job->engine, bytes, (void **)&sources.list));
  for (int64_t at = first; at < last; at++) {
    pool_row row = { .n = at / height, .y = at % height };
    if (backward) row.covered = pool_cover_of(job->geometry, 0, row.y, job->out_height);
    else row.down = pool_window_at(job->geometry, 0, row.y, job->height);
    each_in_row(job, &row, at * width, backward, each, &sources);
  }
  alloc_release(job->engine, sources.list, bytes);
  return MOON_OK;
}

moon_status CPU(NAME(max_pool_pixels))(void *context, int64_t first, int64_t last) {
  return each_pixel(context, first, last, false, take_largest);
}

moon_status CPU(NAME(max_pool_back_pixels))(void *context, int64_t first, int64_t last) {
  return each_pixel(context, first, last, true, gather_largest);
}

moon_status CPU(NAME(avg_pool_shares))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  REAL *share = job->shares;
  (void)first, (void)last;
  for (int64_t i = 0; i < job->out_height; i++) {
    pool_window down = pool_window_at(job->geometry, 0, i, job->height);
    for (int64_t j = 0; j < job->out_width; j++)
      *share++ = (REAL)pool_share(job->geometry, down,
                                  pool_window_at(job->geometry, 1, j, job->width));
  }
  return MOON_OK;
}

moon_status CPU(NAME(avg_pool_pixels))(void *context, int64_t first, int64_t last) {
  return each_pixel(context, first, last, false, take_average);
}

moon_status CPU(NAME(avg_pool_back_pixels))(void *context, int64_t first, int64_t last) {
  return each_pixel(context, first, last, true, gather_averages);
}
