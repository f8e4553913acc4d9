// Maxima and sums of exponentials, along rows and down columns, for one compute type: what softmax
// and cross entropy are made of. The maximum is taken off first, so nothing overflows; NaN spreads.
// Sums run in the compute type for a while and then in double.
#ifndef MOON_CPU_EXPONENTIALS_REAL_H
#define MOON_CPU_EXPONENTIALS_REAL_H

#include "cpu/expect.h"
#include "cpu/lanes_exp.h"
#include "cpu/lanes_transpose.h"
#include "cpu/network.h"

#include <string.h>

enum {
  EXPONENTIAL_RUN = 64,      // terms that are summed as REAL
  EXPONENTIAL_ROW = 1024,    // elements of a row that goes together with others
  FEW = LANES < 4 ? LANES : 4,
};

// A NaN need not be found: it comes through by the sum.
static inline lanes lanes_larger(lanes a, lanes b) {
#if defined(__AVX512F__)
  if (sizeof(REAL) == 4) return (lanes)_mm512_max_ps((__m512)b, (__m512)a);
  return (lanes)_mm512_max_pd((__m512d)b, (__m512d)a);
#else
  lanes_bits larger = b > a;
  return (lanes)((larger & (lanes_bits)b) | (~larger & (lanes_bits)a));
#endif
}

static inline lanes lanes_added(lanes a, lanes b) { return a + b; }

static inline lanes lanes_log(lanes x) {
  REAL part[LANES];
  lanes_store(part, x);
  for (int i = 0; i < LANES; i++) part[i] = REAL_LOG(part[i]);
  return lanes_load(part);
}

// -- rows, `stride` apart, of n >= LANES elements: up to LANES of them go together, and what is
//    said of each is the lane of its number.

static inline int64_t rows_at_once(int64_t n) { return n > EXPONENTIAL_ROW ? 1 : LANES; }

// Rows of n < LANES elements as columns: column[c] has element c of each, zeros behind the last.
static inline void columns_in(const REAL *x, int64_t stride, int64_t n, int64_t rows,
                              lanes column[LANES]) {
  if (n <= FEW) lanes_from_pixels(x, stride, rows, n, FEW, column);
  else lanes_from_pixels(x, stride, rows, n, LANES, column);
}

// The way back; columns are used up.
static inline void columns_out(lanes column[LANES], int64_t n, int64_t rows, REAL *out,
                               int64_t stride) {
  for (int64_t c = n; c < LANES; c++) column[c] = lanes_zero();
  if (n <= FEW) lanes_to_pixels(column, FEW, out, stride, rows, n);
  else lanes_to_pixels(column, LANES, out, stride, rows, n);
}

// The lanes of each of LANES vectors folded, in the lane of the vector's number.
static inline __attribute__((always_inline)) lanes lanes_folded(lanes rows[LANES],
                                                                lanes (*join)(lanes, lanes)) {
#pragma GCC unroll 4
  for (int width = 1; width < LANES; width *= 2)
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2 * width) {
      lanes_exchange(rows + i, rows + i + width, width);
      rows[i] = join(rows[i], rows[i + width]);
    }
  return rows[0];
}

static inline lanes row_maxima(const REAL *x, int64_t stride, int64_t n, int64_t rows) {
  lanes best[LANES];
  for (int64_t r = 0; r < LANES; r++) {
    const REAL *row = x + (r < rows ? r * stride : 0);
    best[r] = lanes_load(row);
    for (int64_t i = LANES; i < n; i += LANES)   // the last may overlap
      best[r] = lanes_larger(best[r], lanes_load(row + minimum(i, n - LANES)));
  }
  return lanes_folded(best, lanes_larger);
}

// out[i] = exp(x[i] - shift), with out NULL only the sum.
static inline lanes run_exponentials(const REAL *x, REAL shift, int64_t n, REAL *out) {
  lanes sum = lanes_zero();
  const lanes shifts = lanes_same(shift);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    lanes e = lanes_exp(lanes_load(x + i) - shifts);
    expect_read(x + i);
    if (out) expect_write(out + i);
    if (out) lanes_store(out + i, e);
    sum += e;
  }
  if (i == n) return sum;
  lanes e = lanes_exp(lanes_load_some(x + i, n - i) - shifts);
  if (out) lanes_store_some(out + i, e, n - i);
  return sum + lanes_first(e, n - i);
}

// The sums along rows of exp(x - best), which goes to `out` unless that is NULL.
static inline lanes row_exponentials(const REAL *x, int64_t stride, int64_t n, int64_t rows,
                                     lanes best, REAL *out) {
  double total[LANES] = { 0 };
  REAL shift[LANES];
  lanes_store(shift, best);
  for (int64_t start = 0; start < n; start += EXPONENTIAL_RUN * LANES) {
    int64_t count = minimum(n - start, EXPONENTIAL_RUN * LANES);
    lanes part[LANES];
    for (int64_t r = 0; r < LANES; r++) {
      int64_t at = r * stride + start;
      part[r] = r < rows ? run_exponentials(x + at, shift[r], count, out ? out + at : NULL)
                         : lanes_zero();
    }
    lanes sums = lanes_folded(part, lanes_added);
    for (int i = 0; i < LANES; i++) total[i] += (double)sums[i];
  }
  for (int i = 0; i < LANES; i++) shift[i] = (REAL)total[i];
  return lanes_load(shift);
}

// out = (x - best) - base: logarithms of softmax.
static inline void row_logarithms(const REAL *x, int64_t stride, int64_t n, int64_t rows,
                                  lanes best, lanes base, REAL *out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; r++) {
    const lanes shift = lanes_same(best[r]), more = lanes_same(base[r]);
    for (int64_t i = 0; i < n; i += LANES) {
      REAL *place = out + r * out_stride + i;
      expect_write(place);
      lanes_store_some(place, (lanes_load_some(x + r * stride + i, n - i) - shift) - more, n - i);
    }
  }
}

// -- columns: `size` lines of up to COLUMNS neighbours, `inner` apart. Lines are gone along, since
//    those of one column may meet in the same set of a cache, and what lies `ahead` is asked for.
//    Arrays of a number a column have COLUMNS.

enum { COLUMNS = SOFTMAX_COLUMNS };

// The largest of each column.
static inline void column_maxima(const REAL *x, int64_t inner, int64_t size, int64_t count,
                                 REAL *best) {
  for (int64_t j = 0; j < count; j += LANES)
    lanes_store(best + j, lanes_load_some(x + j, size > 0 ? count - j : 0));
  for (int64_t c = 1; c < size; c++)
    for (int64_t j = 0; j < count; j += LANES) {
      lanes value = lanes_load_some(x + c * inner + j, count - j);
      lanes_store(best + j, lanes_larger(lanes_load(best + j), value));
    }
}

// out = exp(x - best), unless out is NULL, and its sums down the columns.
static inline void column_exponentials(const REAL *x, int64_t inner, int64_t size, int64_t count,
                                       int64_t ahead, const REAL *best, REAL *out, REAL *sum) {
  double total[COLUMNS] = { 0 };
  REAL part[COLUMNS];
  for (int64_t start = 0; start < size; start += EXPONENTIAL_RUN) {
    memset(part, 0, sizeof part);
    for (int64_t c = start; c < minimum(size, start + EXPONENTIAL_RUN); c++)
      for (int64_t j = 0; j < count; j += LANES) {
        const REAL *place = x + c * inner + j;
        lanes e = lanes_exp(lanes_load_some(place, count - j) - lanes_load(best + j));
        expect_read_at(place + ahead);
        if (out) {
          expect_write_at(out + c * inner + j + ahead);
          lanes_store_some(out + c * inner + j, e, count - j);
        }
        lanes_store(part + j, lanes_load(part + j) + e);
      }
    for (int64_t j = 0; j < count; j++) total[j] += (double)part[j];
  }
  for (int64_t j = 0; j < count; j++) sum[j] = (REAL)total[j];
}

// out = (x - best) - base: logarithms of softmax.
static inline void column_logarithms(const REAL *x, int64_t inner, int64_t size, int64_t count,
                                     int64_t ahead, const REAL *best, const REAL *base,
                                     REAL *out, int64_t out_inner) {
  for (int64_t c = 0; c < size; c++)
    for (int64_t j = 0; j < count; j += LANES) {
      REAL *place = out + c * out_inner + j;
      lanes shifted = lanes_load_some(x + c * inner + j, count - j) - lanes_load(best + j);
      expect_write_at(place + ahead);
      lanes_store_some(place, shifted - lanes_load(base + j), count - j);
    }
}

#endif
