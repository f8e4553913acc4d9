// Maxima and sums of exponentials, along rows and down columns, for one compute type: what softmax
// and cross entropy are made of. The maximum is taken off first, so nothing overflows; NaN spreads.
// Sums run in the compute type for a while and then in double.
#ifndef MOON_CPU_EXPONENTIALS_REAL_H
#define MOON_CPU_EXPONENTIALS_REAL_H

#include "cpu/expect.h"
#include "cpu/lanes_exp.h"
#include "cpu/whole.h"

enum {
  EXPONENTIAL_RUN = 64,     // terms that are summed as REAL
  EXPONENTIAL_ROWS = 64,    // at most, that are gone through together
  EXPONENTIAL_BLOCK = 4096  // elements of those
};

static inline int64_t rows_at_once(int64_t size) {
  return minimum(EXPONENTIAL_ROWS, EXPONENTIAL_BLOCK / (size + 1) + 1);
}

// A NaN need not be found: it comes through by the sum.
static inline REAL larger_of(REAL a, REAL b) { return b > a ? b : a; }

static inline lanes lanes_larger(lanes a, lanes b) {
  lanes_bits larger = b > a;
  return (lanes)((larger & (lanes_bits)b) | (~larger & (lanes_bits)a));
}

static inline lanes_bits lanes_places(void) {
  lanes_bits place = { 0 };
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) place[i] = i;
  return place;
}

static inline REAL row_maximum(const REAL *x, int64_t n) {
  REAL largest = n > 0 ? x[0] : 0;
  if (n < LANES) {
    for (int64_t i = 1; i < n; i++) largest = larger_of(largest, x[i]);
    return largest;
  }
  lanes best = lanes_load(x);
  for (int64_t i = LANES; i < n; i += LANES)   // the last may overlap
    best = lanes_larger(best, lanes_load(x + (i + LANES <= n ? i : n - LANES)));
  for (int width = LANES / 2; width > 0; width /= 2)
    best = lanes_larger(best, __builtin_shuffle(best, (lanes_places() + width) & (LANES - 1)));
  return best[0];
}

static inline REAL lanes_total(lanes value) {
  for (int width = LANES / 2; width > 0; width /= 2)
    value += __builtin_shuffle(value, (lanes_places() + width) & (LANES - 1));
  return value[0];
}

// out[i] = exp(x[i] - shift); gives the sum. With out NULL only the sum.
static inline double row_exponentials(const REAL *x, REAL shift, int64_t n, REAL *out) {
  double total = 0;
  const lanes shifts = lanes_all(shift);
  for (int64_t start = 0; start < n; start += EXPONENTIAL_RUN * LANES) {
    lanes sum = lanes_zero();
    int64_t end = minimum(n, start + EXPONENTIAL_RUN * LANES), i = start;
    for (; i + LANES <= end; i += LANES) {
      lanes e = lanes_exp(lanes_load(x + i) - shifts);
      if (out) expect_write(out + i);
      if (out) lanes_store(out + i, e);
      sum += e;
    }
    if (i < end) {
      lanes e = lanes_exp(lanes_load_some(x + i, end - i) - shifts);
      lanes_bits within = lanes_places() < (lanes_bits){ 0 } + (int)(end - i);
      if (out) lanes_store_some(out + i, e, end - i);
      sum += (lanes)(within & (lanes_bits)e);
    }
    total += (double)lanes_total(sum);
  }
  return total;
}

// out = (x - best) - base: a logarithm of softmax.
static inline void row_logarithms(const REAL *x, REAL best, REAL base, int64_t n, REAL *out) {
  for (int64_t i = 0; i < n; i += LANES) {
    lanes shifted = lanes_load_some(x + i, n - i) - lanes_all(best);
    expect_write(out + i);
    lanes_store_some(out + i, shifted - lanes_all(base), n - i);
  }
}

// The largest of `size` rows, `inner` apart, in each of `count` columns.
static inline void column_maxima(const REAL *restrict x, int64_t inner, int64_t size, int64_t count,
                                 REAL *restrict best) {
  for (int64_t j = 0; j < count; j++) best[j] = size > 0 ? x[j] : 0;
  for (int64_t c = 1; c < size; c++)
    for (int64_t j = 0; j < count; j++) best[j] = larger_of(best[j], x[c * inner + j]);
}

// out = exp(x - best), unless out is NULL, and its sums down the columns.
static inline void column_exponentials(const REAL *x, int64_t inner, int64_t size, int64_t count,
                                       const REAL *best, REAL *out, double *sum) {
  for (int64_t j = 0; j < count; j++) sum[j] = 0;
  for (int64_t start = 0; start < size; start += EXPONENTIAL_RUN)
    for (int64_t j = 0; j < count; j += LANES) {
      int64_t end = minimum(size, start + EXPONENTIAL_RUN), left = count - j;
      lanes part = lanes_zero(), shift = lanes_load_some(best + j, left);
      for (int64_t c = start; c < end; c++) {
        lanes e = lanes_exp(lanes_load_some(x + c * inner + j, left) - shift);
        if (out) lanes_store_some(out + c * inner + j, e, left);
        part += e;
      }
      REAL parts[LANES];
      lanes_store(parts, part);
      for (int64_t i = 0; i < minimum(left, LANES); i++) sum[j + i] += (double)parts[i];
    }
}

#endif
