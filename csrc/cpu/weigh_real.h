// Weighted sums over spans of one dimension, for one compute type. Where other dimensions lie
// inside of it, rows are added up as vectors; the innermost dimension itself goes tap by tap.
#include "cpu/expect.h"
#include "cpu/lanes.h"
#include "cpu/network.h"

// Sums of two vectors at once, so that weights are spread as seldom.
static inline __attribute__((always_inline)) void weigh_vectors(const REAL *x, int64_t inner,
                                                                const double *weights, int64_t taps,
                                                                int64_t left, REAL *out) {
  const int vectors = left > LANES ? 2 : 1;
  lanes sum[2] = { lanes_zero(), lanes_zero() };
  for (int64_t k = 0; k < taps; k++) {
    lanes weight = lanes_same((REAL)weights[k]);
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
      sum[v] = lanes_fma(weight, lanes_load_some(x + k * inner + v * LANES, left), sum[v]);
  }
#pragma GCC unroll 2
  for (int v = 0; v < vectors; v++) {
    expect_write(out + v * LANES);
    lanes_store_some(out + v * LANES, sum[v], left);
  }
}

// `taps` rows of `inner` elements, one after the other.
static void weigh_row(const REAL *x, int64_t inner, const double *weights, int64_t taps,
                      REAL *out) {
  int64_t c = 0;
  for (; c + 2 * LANES <= inner; c += 2 * LANES)
    weigh_vectors(x + c, inner, weights, taps, 2 * LANES, out + c);
  for (; c + LANES <= inner; c += LANES)
    weigh_vectors(x + c, inner, weights, taps, LANES, out + c);
  int64_t left = inner - c;
  if (left > 0 && left < LANES) weigh_vectors(x + c, inner, weights, taps, left, out + c);
}

static REAL weigh_point(const REAL *x, const double *weights, int64_t taps) {
  REAL sum = 0;
  for (int64_t k = 0; k < taps; k++) sum += (REAL)weights[k] * x[k];
  return sum;
}

// Result number `item`, counted through all rows.
static void weigh_item(const weigh_job *job, int64_t item, REAL *out) {
  int64_t at = item % job->count, low = job->spans[2 * at];
  int64_t taps = job->spans[2 * at + 1] - low;
  const REAL *x = (const REAL *)job->x + (item / job->count * job->size + low) * job->inner;
  const double *weights = job->weights + at * job->taps;
  if (job->inner == 1) *out = weigh_point(x, weights, taps);
  else weigh_row(x, job->inner, weights, taps, out);
}

moon_status CPU(NAME(weigh_rows))(void *context, int64_t first, int64_t last) {
  const weigh_job *job = context;
  for (int64_t item = first; item < last; item++)
    weigh_item(job, item, (REAL *)job->out + item * job->inner);
  return MOON_OK;
}
