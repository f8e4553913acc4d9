// Pooling by pixels, for one compute type REAL and the type STORED that arrays are kept in: the
// pixels under a window are gone through one by one, in loops over their channels. Backward every
// pixel of dx gathers from the windows that hold it, so that it is written once and threads need no
// order. A NaN in a window is its maximum; padding never is.
#include "cpu/pool.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

static const STORED *pool_pixel(pixel_rows rows, int64_t pixel) {
  return (const STORED *)rows.data + pixel * rows.stride;
}

// Where a pixel of the result is calculated: in its place, or in scratch where it is stored in
// another type; then store_pixel brings it there.
static REAL *result_pixel(const pool_job *job, int64_t pixel, REAL *scratch) {
  STORED *to = (STORED *)job->to.data + pixel * job->to.stride;
  return sizeof(STORED) == sizeof(REAL) ? (REAL *)(void *)to : scratch;
}
static void store_pixel(const pool_job *job, int64_t pixel, const REAL *restrict values) {
  STORED *restrict to = (STORED *)job->to.data + pixel * job->to.stride;
  if (sizeof(STORED) == sizeof(REAL)) return;
  for (int64_t c = 0; c < job->channels; c++) to[c] = STORED_SAVE(values[c]);
}

static char *taken_at(const pool_job *job, int64_t pixel) {
  int64_t size = job->bytes ? 1 : (int64_t)sizeof(int32_t);
  return (char *)job->taken + pixel * job->taken_stride * size;
}

// -- maxima

static void take_larger(const STORED *restrict x, int64_t n, REAL *restrict best) {
  for (int64_t c = 0; c < n; c++) {
    REAL value = STORED_LOAD(x[c]);
    best[c] = (value > best[c]) | (value != value) ? value : best[c];
  }
}

static void take_larger_number(const STORED *restrict x, int64_t n, int32_t number,
                               REAL *restrict best, int32_t *restrict numbers) {
  for (int64_t c = 0; c < n; c++) {
    REAL value = STORED_LOAD(x[c]);
    bool taken = (value > best[c]) | (value != value);
    best[c] = taken ? value : best[c];
    numbers[c] = taken ? number : numbers[c];
  }
}

static void start_window(const STORED *restrict x, int64_t n, int32_t number, REAL *restrict best,
                         int32_t *restrict numbers) {
  for (int64_t c = 0; c < n; c++) {
    best[c] = x ? STORED_LOAD(x[c]) : -(REAL)INFINITY;
    numbers[c] = number;
  }
}

// The window of result pixel (i, j) of image n.
static void max_pixel(const pool_job *job, int64_t n, int64_t i, int64_t j, REAL *best,
                      int32_t *numbers) {
  const pool2d_geometry *g = job->geometry;
  pool_window down = pool_window_at(g, 0, i, job->height);
  pool_window across = pool_window_at(g, 1, j, job->width);
  bool started = false;
  for (int64_t y = down.first; y < down.last; y += g->dilation[0])
    for (int64_t x = across.first; x < across.last; x += g->dilation[1]) {
      const STORED *from = pool_pixel(job->from, (n * job->height + y) * job->width + x);
      int32_t number = pool_number(job, i, j, y, x);
      if (!started) start_window(from, job->channels, number, best, numbers);
      else if (job->taken) take_larger_number(from, job->channels, number, best, numbers);
      else take_larger(from, job->channels, best);
      started = true;
    }
  if (!started) start_window(NULL, job->channels, -1, best, numbers);
}

moon_status CPU(NAME(max_pool_pixels))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  size_t bytes = (size_t)job->channels * (sizeof(REAL) + sizeof(int32_t));
  REAL *scratch;
  MOON_TRY(alloc_bytes(job->engine, bytes, (void **)&scratch));
  int32_t *numbers = (int32_t *)(scratch + job->channels);
  for (int64_t row = first; row < last; row++)
    for (int64_t j = 0; j < job->out_width; j++) {
      int64_t pixel = row * job->out_width + j;
      REAL *best = result_pixel(job, pixel, scratch);
      max_pixel(job, row / job->out_height, row % job->out_height, j, best, numbers);
      store_pixel(job, pixel, best);
      if (job->taken) pool_store_numbers(job->bytes, numbers, job->channels, taken_at(job, pixel));
    }
  alloc_release(job->engine, scratch, bytes);
  return MOON_OK;
}

// Windows first ... last - 1 of an axis that may have a tap at a position.
typedef struct pool_cover { int64_t first, last; } pool_cover;

static pool_cover cover_of(const pool2d_geometry *g, int axis, int64_t at, int64_t count) {
  int64_t reach = at + g->padding[axis], stride = g->stride[axis];
  int64_t before = reach - (g->kernel[axis] - 1) * g->dilation[axis];
  pool_cover cover = { .first = before > 0 ? (before + stride - 1) / stride : 0,
                       .last = reach / stride + 1 };
  if (cover.last > count) cover.last = count;
  return cover;
}

// Scratch of a backward task: a pixel, and the covers of every column.
static size_t back_bytes(const pool_job *job) {
  return (size_t)job->channels * sizeof(double) + (size_t)job->width * sizeof(pool_cover);
}
static pool_cover *covers_in(const pool_job *job, void *scratch) {
  pool_cover *covers = (pool_cover *)((double *)scratch + job->channels);
  for (int64_t x = 0; x < job->width; x++)
    covers[x] = cover_of(job->geometry, 1, x, job->out_width);
  return covers;
}

#define GATHER_NUMBERS(type)                                                                     \
  static void gather_##type(const STORED *restrict g, const type *restrict numbers, type number, \
                            int64_t n, bool more, REAL *restrict sum) {                          \
    if (more)                                                                                    \
      for (int64_t c = 0; c < n; c++)                                                            \
        sum[c] += numbers[c] == number ? STORED_LOAD(g[c]) : (REAL)0;                            \
    else                                                                                         \
      for (int64_t c = 0; c < n; c++)                                                            \
        sum[c] = numbers[c] == number ? STORED_LOAD(g[c]) : (REAL)0;                             \
  }
GATHER_NUMBERS(uint8_t)
GATHER_NUMBERS(int32_t)
#undef GATHER_NUMBERS

// What the windows in `down` and `across` give to pixel (y, x) of image n.
static void gather_maxima(const pool_job *job, int64_t n, int64_t y, int64_t x, pool_cover down,
                          pool_cover across, REAL *sum) {
  const pool2d_geometry *g = job->geometry;
  bool more = false;
  for (int64_t i = down.first; i < down.last; i++)
    for (int64_t j = across.first; j < across.last; j++) {
      if (pool_tap_at(g, 0, i, y) < 0 || pool_tap_at(g, 1, j, x) < 0) continue;
      int64_t window = (n * job->out_height + i) * job->out_width + j;
      int32_t number = pool_number(job, i, j, y, x);
      const STORED *from = pool_pixel(job->from, window);
      const void *numbers = taken_at(job, window);
      if (job->bytes) gather_uint8_t(from, numbers, (uint8_t)number, job->channels, more, sum);
      else gather_int32_t(from, numbers, number, job->channels, more, sum);
      more = true;
    }
  if (!more) memset(sum, 0, (size_t)job->channels * sizeof(REAL));
}

moon_status CPU(NAME(max_pool_back_pixels))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  REAL *scratch;
  MOON_TRY(alloc_bytes(job->engine, back_bytes(job), (void **)&scratch));
  const pool_cover *covers = covers_in(job, scratch);
  for (int64_t row = first; row < last; row++) {
    int64_t n = row / job->height, y = row % job->height;
    pool_cover down = cover_of(job->geometry, 0, y, job->out_height);
    for (int64_t x = 0; x < job->width; x++) {
      REAL *sum = result_pixel(job, row * job->width + x, scratch);
      gather_maxima(job, n, y, x, down, covers[x], sum);
      store_pixel(job, row * job->width + x, sum);
    }
  }
  alloc_release(job->engine, scratch, back_bytes(job));
  return MOON_OK;
}

// -- averages

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

static void add_pixel(const STORED *restrict x, int64_t n, REAL *restrict sum) {
  for (int64_t c = 0; c < n; c++) sum[c] += STORED_LOAD(x[c]);
}

static void add_share(const STORED *restrict x, REAL share, int64_t n, bool more,
                      REAL *restrict sum) {
  if (more)
    for (int64_t c = 0; c < n; c++) sum[c] += STORED_LOAD(x[c]) * share;
  else
    for (int64_t c = 0; c < n; c++) sum[c] = STORED_LOAD(x[c]) * share;
}

static void add_line(const REAL *restrict line, int64_t n, REAL *restrict sum) {
  for (int64_t c = 0; c < n; c++) sum[c] += line[c];
}

static void average_pixel(const pool_job *job, int64_t n, int64_t i, int64_t j, REAL *line,
                          REAL *restrict sum) {
  const pool2d_geometry *g = job->geometry;
  size_t bytes = (size_t)job->channels * sizeof(REAL);
  pool_window down = pool_window_at(g, 0, i, job->height);
  pool_window across = pool_window_at(g, 1, j, job->width);
  REAL share = ((const REAL *)job->shares)[i * job->out_width + j];
  memset(sum, 0, bytes);
  for (int64_t y = down.first; y < down.last; y++) {   // line by line, for accuracy
    memset(line, 0, bytes);
    for (int64_t x = across.first; x < across.last; x++)
      add_pixel(pool_pixel(job->from, (n * job->height + y) * job->width + x), job->channels, line);
    add_line(line, job->channels, sum);
  }
  for (int64_t c = 0; c < job->channels; c++) sum[c] *= share;
}

moon_status CPU(NAME(avg_pool_pixels))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  size_t bytes = 2 * (size_t)job->channels * sizeof(REAL);
  REAL *scratch;
  MOON_TRY(alloc_bytes(job->engine, bytes, (void **)&scratch));
  for (int64_t row = first; row < last; row++)
    for (int64_t j = 0; j < job->out_width; j++) {
      int64_t pixel = row * job->out_width + j;
      REAL *sum = result_pixel(job, pixel, scratch + job->channels);
      average_pixel(job, row / job->out_height, row % job->out_height, j, scratch, sum);
      store_pixel(job, pixel, sum);
    }
  alloc_release(job->engine, scratch, bytes);
  return MOON_OK;
}

// What the windows in `down` and `across` give to a pixel of image n.
static void gather_shares(const pool_job *job, int64_t n, pool_cover down, pool_cover across,
                          REAL *sum) {
  bool more = false;
  for (int64_t i = down.first; i < down.last; i++)
    for (int64_t j = across.first; j < across.last; j++, more = true)
      add_share(pool_pixel(job->from, (n * job->out_height + i) * job->out_width + j),
                ((const REAL *)job->shares)[i * job->out_width + j], job->channels, more, sum);
  if (!more) memset(sum, 0, (size_t)job->channels * sizeof(REAL));
}

moon_status CPU(NAME(avg_pool_back_pixels))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  REAL *scratch;
  MOON_TRY(alloc_bytes(job->engine, back_bytes(job), (void **)&scratch));
  const pool_cover *covers = covers_in(job, scratch);
  for (int64_t row = first; row < last; row++) {
    pool_cover down = cover_of(job->geometry, 0, row % job->height, job->out_height);
    for (int64_t x = 0; x < job->width; x++) {
      REAL *sum = result_pixel(job, row * job->width + x, scratch);
      gather_shares(job, row / job->height, down, covers[x], sum);
      store_pixel(job, row * job->width + x, sum);
    }
  }
  alloc_release(job->engine, scratch, back_bytes(job));
  return MOON_OK;
}
