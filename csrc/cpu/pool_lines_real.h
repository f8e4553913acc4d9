// Pooling by planes, for one compute type REAL and the type STORED that arrays are kept in: vectors
// of neighbouring elements of a row. Rows that windows are taken of go into lines, scratch that
// stays in cache: where windows lie `stride` columns apart a row is parted into that many lines, of
// every stride-th column each, so that a tap of neighbouring windows is a vector; round a line lies
// what changes no result. A row of the result is then made of taps, which are lines moved by some
// columns. Backward windows and columns change places: rows of the gradient are the lines, and each
// part of a row of dx has taps of its own. Averages are taken down the columns first.
#include "cpu/pool.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "cpu/expect.h"
#include "cpu/lanes_bytes.h"
#include "cpu/lanes_pairs.h"
#include "cpu/lanes_stored.h"
#include "cpu/pool_larger_real.h"
#include "cpu/whole.h"

// A column of the kernel, and where in a row's lines it has the element for a row's first window
// (backward: the window for the first column of a part of dx).
typedef struct pool_step {
  int64_t at;
  int32_t column;
} pool_step;

// The same of one row of the kernel.
typedef struct pool_tap {
  const REAL *from;
  const uint8_t *taken;     // backward, of a maximum
  int32_t number;
} pool_tap;

typedef struct pool_lines {
  const pool_job *job;
  int64_t rows, columns;    // of a plane that lines are made of
  int64_t parts;            // lines of a row
  int64_t before;           // columns that lie before a row's first one
  int64_t pitch;            // elements of a line with what lies round it
  int64_t ring, opened;     // row y < opened lies in lines y % ring, or was there
  size_t bytes;
  pool_step *steps;         // of all columns of the kernel, those of a part together
  pool_tap *taps;           // of the row of the result that is made, likewise
  int64_t step_count[POOL_LINE_STRIDE], tap_count[POOL_LINE_STRIDE];   // of each part
  REAL *lines;
  uint8_t *starts;          // forward: the column of each window's first tap that lies inside
  uint8_t *numbers;         // backward: what was taken of the rows
  bool *nans;               // whether a row has one
  const REAL *shares;       // of averages whose shares differ
  REAL factor;              // else that of all windows
} pool_lines;

static REAL *pool_line(const pool_lines *l, int64_t y) {
  return l->lines + y % l->ring * l->parts * l->pitch;
}

// -- rows

// Elements at ... of the sum of `rows` rows, each times its shares where there are any.
static inline __attribute__((always_inline)) lanes sum_rows(const pool_lines *l,
                                                            const STORED *from, int64_t rows,
                                                            const REAL *shares, int64_t at) {
  lanes sum = lanes_zero();
  const int64_t left = l->columns - at;
  for (int64_t k = 0; k < rows; k++, from += l->columns) {
    lanes value = stored_load_some(from + at, left);
    if (shares) value *= lanes_load_some(shares + k * l->columns + at, left);
    sum += value;
    if (k == rows - 1) expect_read(from + at);
  }
  return sum;
}

static inline bool any_lane(lanes_bits condition) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)condition, (__m512i)condition) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)condition, (__m256i)condition);
#else
  for (int i = 1; i < LANES; i++) condition[0] |= condition[i];
  return condition[0] != 0;
#endif
}

// The sum of the rows goes into lines; says whether it has a NaN.
static inline __attribute__((always_inline)) bool open_row(const pool_lines *l, const STORED *from,
                                                           int64_t rows, const REAL *shares,
                                                           REAL *to) {
  const int64_t columns = l->columns, parts = l->parts, pitch = l->pitch, before = l->before;
  lanes_bits nans = { 0 };
  if (parts == 2) {
    REAL *evens = to + before % 2 * pitch + before / 2;
    REAL *odds = to + (before + 1) % 2 * pitch + (before + 1) / 2;
    for (int64_t x = 0; x < columns; x += 2 * LANES) {
      lanes a = sum_rows(l, from, rows, shares, x), b = lanes_zero();
      if (x + LANES < columns) b = sum_rows(l, from, rows, shares, x + LANES);
      nans |= (a != a) | (b != b);
      lanes_part(&a, &b);
      lanes_store_some(evens + x / 2, a, (columns - x + 1) / 2);
      lanes_store_some(odds + x / 2, b, (columns - x) / 2);
    }
    return any_lane(nans);
  }
  for (int64_t x = 0; x < columns; x += LANES) {
    lanes value = sum_rows(l, from, rows, shares, x);
    nans |= value != value;
    if (parts == 1) lanes_store_some(to + before + x, value, columns - x);
    else
      for (int64_t i = 0, u = before + x; i < LANES && x + i < columns; i++, u++)
        to[u % parts * pitch + u / parts] = value[i];
  }
  return any_lane(nans);
}

// Vector n of each part of a row of dx.
static inline __attribute__((always_inline)) void save_parts(const pool_job *job,
                                                             const int64_t parts, lanes *values,
                                                             int64_t n, STORED *dx) {
  const int64_t width = job->width;
  if (parts == 1) {
    expect_write(dx + n);
    stored_save_some(dx + n, values[0], width - n);
    return;
  }
  if (parts == 2) {
    lanes_join(&values[0], &values[1]);
    expect_write(dx + 2 * n);
    stored_save_some(dx + 2 * n, values[0], width - 2 * n);
    if (2 * n + LANES >= width) return;
    expect_write(dx + 2 * n + LANES);
    stored_save_some(dx + 2 * n + LANES, values[1], width - 2 * n - LANES);
    return;
  }
  for (int64_t b = 0; b < parts; b++)
    for (int64_t i = 0, x = n * parts + b; i < LANES && x < width; i++, x += parts)
      dx[x] = STORED_SAVE(values[b][i]);
}

// -- scratch

static void size_lines(pool_lines *l, bool backward, bool averages) {
  const pool_job *job = l->job;
  const pool2d_geometry *g = job->geometry;
  const int64_t stride = g->stride[1], padding = g->padding[1];
  const int64_t reach = (g->kernel[1] - 1) * g->dilation[1] / stride;
  int64_t span = (g->kernel[0] - 1) * g->dilation[0] + 1, line;   // of rows, with those ahead
  if (backward) {
    l->rows = job->out_height;
    l->columns = job->out_width;
    l->parts = 1;
    l->before = reach;
    line = (job->width - 1) / stride + (stride - 1 + padding) / stride + reach + 1;
    span = (span - 1) / g->stride[0] + 2;
  } else {
    l->rows = job->height;
    l->columns = job->width;
    l->parts = stride;
    l->before = padding;
    line = (job->width - 1 + padding) / stride + 1;
    span += minimum(g->stride[0], l->rows);
  }
  l->pitch = maximum(line, reach + job->out_width) + 2 * LANES;
  l->ring = averages ? 2 : minimum(span, l->rows);
}

// Lists the kernel's columns.
static void list_steps(pool_lines *l, bool backward) {
  const pool2d_geometry *g = l->job->geometry;
  const int64_t stride = g->stride[1];
  pool_step *next = l->steps;
  for (int64_t b = 0; b < (backward ? stride : 1); b++) {
    const pool_step *first = next;
    for (int64_t c = 0; c < g->kernel[1]; c++) {
      const int64_t off = c * g->dilation[1], back = b + g->padding[1] - off;
      if (!backward) *next++ = (pool_step){ off % stride * l->pitch + off / stride, (int32_t)c };
      else if (back % stride == 0)
        *next++ = (pool_step){ l->before + back / stride, (int32_t)c };
    }
    l->step_count[b] = next - first;
  }
}

// Every element of the lines is `around`.
static moon_status open_lines(const pool_job *job, bool backward, bool averages, REAL around,
                              pool_lines *l) {
  *l = (pool_lines){ .job = job };
  size_lines(l, backward, averages);
  const int64_t *kernel = job->geometry->kernel;
  const size_t elements = (size_t)(l->ring * l->parts * l->pitch);
  const int64_t taps = kernel[0] * kernel[1];
  l->bytes = (size_t)taps * sizeof(pool_tap) + (size_t)kernel[1] * sizeof(pool_step) +
             elements * sizeof(REAL) + (size_t)((l->ring + 1) * l->pitch + l->ring);
  MOON_TRY(alloc_bytes(job->engine, l->bytes, (void **)&l->taps));
  l->steps = (pool_step *)(void *)(l->taps + taps);
  l->lines = (REAL *)(void *)(l->steps + kernel[1]);
  l->starts = (uint8_t *)(l->lines + elements);
  l->numbers = l->starts + l->pitch;
  l->nans = (bool *)(l->numbers + l->ring * l->pitch);
  for (size_t i = 0; i < elements; i++) l->lines[i] = around;
  list_steps(l, backward);
  return MOON_OK;
}

static void close_lines(const pool_lines *l) {
  alloc_release(l->job->engine, l->taps, l->bytes);
}

// Adds the taps of `count` columns in the lines of row y, which `row` of the kernel meets.
static inline pool_tap *list_row(const pool_lines *l, const pool_step *steps, int64_t count,
                                 int64_t y, int64_t row, pool_tap *next) {
  const int64_t slot = y % l->ring, first = row * l->job->geometry->kernel[1];
  const REAL *from = l->lines + slot * l->parts * l->pitch;
  const uint8_t *taken = l->numbers + slot * l->pitch;
#pragma GCC unroll 1
  for (const pool_step *step = steps; step < steps + count; step++)
    *next++ = (pool_tap){ .from = from + step->at, .taken = taken + step->at,
                          .number = (int32_t)first + step->column };
  return next;
}

// -- largest elements

// `vectors` vectors of a row of the result, from window j on.
static inline __attribute__((always_inline)) void take_taps(const pool_lines *l, int64_t j,
                                                            const int vectors, const bool nans,
                                                            STORED *out, uint8_t *taken) {
  const int64_t width = l->job->out_width;
  const pool_tap *tap = l->taps, *end = tap + l->tap_count[0];
  lanes best[2];
  lanes_bits numbers[2];
#pragma GCC unroll 2
  for (int v = 0; v < vectors; v++) {
    best[v] = lanes_all(-(REAL)INFINITY);
    numbers[v] = lanes_from_bytes(l->starts + j + v * LANES);
    if (tap == end) numbers[v] = (lanes_bits){ 0 } + POOL_NO_TAP;
    else numbers[v] += (numbers[v] != POOL_NO_TAP) & tap->number;
  }
  for (; tap < end; tap++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      take_larger(lanes_load(tap->from + j + v * LANES), tap->number, nans, &best[v],
                  &numbers[v]);
#pragma GCC unroll 2
  for (int v = 0; v < vectors; v++) {
    const int64_t at = j + v * LANES;
    expect_write(out + at);
    stored_save_some(out + at, best[v], width - at);
    if (taken) lanes_to_bytes_some(numbers[v], taken + at, width - at);
  }
}

static inline __attribute__((always_inline)) void take_row(const pool_lines *l, const bool nans,
                                                           STORED *out, uint8_t *taken) {
  int64_t j = 0;
  for (; j + LANES < l->job->out_width; j += 2 * LANES)
    take_taps(l, j, 2, nans, out, taken);
  if (j < l->job->out_width) take_taps(l, j, 1, nans, out, taken);
}

static void max_plane(pool_lines *l, int64_t plane) {
  const pool_job *job = l->job;
  const STORED *x = (const STORED *)job->source + plane * l->rows * l->columns;
  l->opened = 0;
  for (int64_t i = 0; i < job->out_height; i++) {
    const int64_t row = plane * job->out_height + i;
    STORED *out = (STORED *)job->target + row * job->out_width;
    uint8_t *taken = job->taken ? (uint8_t *)job->taken + row * job->out_width : NULL;
    pool_window down = pool_window_at(job->geometry, 0, i, job->height);
    const int64_t top = i * job->geometry->stride[0] - job->geometry->padding[0];
    const int64_t ahead =
        minimum(down.last + minimum(job->geometry->stride[0], l->rows), l->rows);
    bool nans = false;
    for (int64_t y = maximum(l->opened, top); y < ahead; l->opened = ++y)
      l->nans[y % l->ring] = open_row(l, x + y * l->columns, 1, NULL, pool_line(l, y));
    pool_tap *next = l->taps;
    for (int64_t y = down.first; y < down.last; y += job->geometry->dilation[0]) {
      nans |= l->nans[y % l->ring];
      next = list_row(l, l->steps, l->step_count[0], y, pool_tap_at(job->geometry, 0, i, y),
                      next);
    }
    l->tap_count[0] = next - l->taps;
    if (nans) take_row(l, true, out, taken);
    else take_row(l, false, out, taken);
  }
}

moon_status CPU(NAME(max_pool_lines))(void *context, int64_t first, int64_t last) {
  const pool_job *job = context;
  const pool2d_geometry *g = job->geometry;
  pool_lines lines;
  MOON_TRY(open_lines(job, false, false, -(REAL)INFINITY, &lines));
  for (int64_t j = 0; j < lines.pitch; j++) {
    pool_window across = pool_window_at(g, 1, j, job->width);
    lines.starts[j] = across.first < across.last
                          ? (uint8_t)pool_tap_at(g, 1, j, across.first) : POOL_NO_TAP;
  }
  for (int64_t plane = first; plane < last; plane++) max_plane(&lines, plane);
  close_lines(&lines);
  return MOON_OK;
}

// The taps of row y of dx in rows `met` of the lines.
static void list_back_taps(pool_lines *l, pool_cover met, int64_t y, bool averages) {
  const pool2d_geometry *g = l->job->geometry;
  const pool_step *steps = l->steps;
  pool_tap *next = l->taps;
  for (int64_t b = 0; b < g->stride[1]; steps += l->step_count[b++]) {
    const pool_tap *first = next;
    for (int64_t i = met.first; i < met.last; i++) {
      const int64_t row = averages ? 0 : pool_tap_at(g, 0, i, y);
      if (row >= 0) next = list_row(l, steps, l->step_count[b], i, row, next);
    }
    l->tap_count[b] = next - first;
  }
}

// sum + from[n] where taken[n] is the number
static inline __attribute__((always_inline)) lanes add_taken_at(lanes sum, const REAL *from,
                                                                const uint8_t *taken,
                                                                int32_t number) {
#if defined(__AVX512BW__) && REAL_BYTES == 4
  __mmask16 equal = _mm_cmpeq_epi8_mask(_mm_loadu_si128((const void *)taken),
                                        _mm_set1_epi8((char)number));
  return (lanes)_mm512_mask_add_ps((__m512)sum, equal, (__m512)sum, (__m512)lanes_load(from));
#else
  return sum + (lanes)((lanes_from_bytes(taken) == number) & (lanes_bits)lanes_load(from));
#endif
}

// `vectors` vectors of each part of a row of dx, of `parts` parts.
static inline __attribute__((always_inline)) void gather_parts(const pool_lines *l,
                                                               const bool averages,
                                                               const int64_t parts, int64_t n,
                                                               const int vectors, STORED *dx) {
  const pool_tap *tap = l->taps;
  lanes values[2][POOL_LINE_STRIDE];
  for (int64_t b = 0; b < parts; b++) {
    lanes sum[2] = { lanes_zero(), lanes_zero() };
    for (const pool_tap *end = tap + l->tap_count[b]; tap < end; tap++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) {
        const int64_t at = n + v * LANES;
        sum[v] = averages ? sum[v] + lanes_load(tap->from + at)
                          : add_taken_at(sum[v], tap->from + at, tap->taken + at, tap->number);
      }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      values[v][b] = averages ? sum[v] * lanes_same(l->factor) : sum[v];
  }
#pragma GCC unroll 2
  for (int v = 0; v < vectors; v++) save_parts(l->job, parts, values[v], n + v * LANES, dx);
}

static inline __attribute__((always_inline)) void gather_row_of(const pool_lines *l,
                                                                const bool averages,
                                                                const int64_t parts, STORED *dx) {
  const int64_t count = divide_up(l->job->width, parts);
  int64_t n = 0;
  for (; n + LANES < count; n += 2 * LANES) gather_parts(l, averages, parts, n, 2, dx);
  if (n < count) gather_parts(l, averages, parts, n, 1, dx);
}

static inline __attribute__((always_inline)) void gather_row(const pool_lines *l,
                                                             const bool averages, STORED *dx) {
  const int64_t parts = l->job->geometry->stride[1];
  if (parts == 1) gather_row_of(l, averages, 1, dx);
  else if (parts == 2) gather_row_of(l, averages, 2, dx);
  else gather_row_of(l, averages, parts, dx);
}

static void max_back_plane(pool_lines *l, int64_t plane) {
  const pool_job *job = l->job;
  const STORED *g = (const STORED *)job->source + plane * l->rows * l->columns;
  const uint8_t *taken = (const uint8_t *)job->taken + plane * l->rows * l->columns;
  l->opened = 0;
  for (int64_t y = 0; y < job->height; y++) {
    STORED *dx = (STORED *)job->target + (plane * job->height + y) * job->width;
    pool_cover covered = pool_cover_of(job->geometry, 0, y, job->out_height);
    const int64_t ahead = minimum(covered.last + 1, l->rows);
    for (int64_t i = maximum(l->opened, covered.first); i < ahead; l->opened = ++i) {
      open_row(l, g + i * l->columns, 1, NULL, pool_line(l, i));
      memcpy(l->numbers + i % l->ring * l->pitch + l->before, taken + i * l->columns,
             (size_t)l->columns);
    }
    list_back_taps(l, covered, y, false);
    gather_row(l, false, dx);
  }
}

moon_status CPU(NAME(max_pool_back_lines))(void *context, int64_t first, int64_t last) {
  pool_lines lines;
  MOON_TRY(open_lines(context, true, false, 0, &lines));
  memset(lines.numbers, POOL_NO_TAP, (size_t)(lines.ring * lines.pitch));
  for (int64_t plane = first; plane < last; plane++) max_back_plane(&lines, plane);
  close_lines(&lines);
  return MOON_OK;
}

// -- averages: a line is the sum of the rows that a row of the result is made of; the next one's is
//    opened first

static void open_averages(pool_lines *l) {
  const REAL *shares = l->job->shares;
  l->shares = l->job->even ? NULL : shares;
  l->factor = l->job->even ? shares[0] : 1;
}

static void average_row(const pool_lines *l, int64_t i, STORED *out) {
  const int64_t width = l->job->out_width, columns = l->step_count[0];
  const REAL *line = pool_line(l, i), *shares = l->shares ? l->shares + i * width : NULL;
  const pool_step *steps = l->steps;
  for (int64_t j = 0; j < width; j += LANES) {
    lanes sum = lanes_zero(), share = lanes_same(l->factor);
    for (int64_t c = 0; c < columns; c++) sum += lanes_load(line + steps[c].at + j);
    if (shares) share = lanes_load_some(shares + j, width - j);
    expect_write(out + j);
    stored_save_some(out + j, sum * share, width - j);
  }
}

static void average_plane(const pool_lines *l, int64_t plane) {
  const pool_job *job = l->job;
  const STORED *x = (const STORED *)job->source + plane * l->rows * l->columns;
  STORED *out = (STORED *)job->target + plane * job->out_height * job->out_width;
  for (int64_t i = 0; i <= job->out_height; i++) {
    pool_window down = pool_window_at(job->geometry, 0, i, job->height);
    if (i < job->out_height)
      open_row(l, x + down.first * l->columns, down.last - down.first, NULL, pool_line(l, i));
    if (i == 0) continue;
    average_row(l, i - 1, out);
    out += job->out_width;
  }
}

moon_status CPU(NAME(avg_pool_lines))(void *context, int64_t first, int64_t last) {
  pool_lines lines;
  MOON_TRY(open_lines(context, false, true, 0, &lines));
  open_averages(&lines);
  for (int64_t plane = first; plane < last; plane++) average_plane(&lines, plane);
  close_lines(&lines);
  return MOON_OK;
}

static void average_back_plane(pool_lines *l, int64_t plane) {
  const pool_job *job = l->job;
  const STORED *g = (const STORED *)job->source + plane * l->rows * l->columns;
  STORED *dx = (STORED *)job->target + plane * job->height * job->width;
  for (int64_t y = 0; y <= job->height; y++) {
    pool_cover covered = pool_cover_of(job->geometry, 0, y, job->out_height);
    const int64_t at = covered.first * l->columns;
    if (y < job->height)
      open_row(l, g + at, covered.last - covered.first, l->shares ? l->shares + at : NULL,
               pool_line(l, y));
    if (y == 0) continue;
    list_back_taps(l, (pool_cover){ y - 1, y }, y - 1, true);
    gather_row(l, true, dx);
    dx += job->width;
  }
}

moon_status CPU(NAME(avg_pool_back_lines))(void *context, int64_t first, int64_t last) {
  pool_lines lines;
  MOON_TRY(open_lines(context, true, true, 0, &lines));
  open_averages(&lines);
  for (int64_t plane = first; plane < last; plane++) average_back_plane(&lines, plane);
  close_lines(&lines);
  return MOON_OK;
}
