// Weighted sums over spans of one dimension, for one compute type. Where other dimensions lie
// inside of it, rows are added up as vectors; the innermost dimension itself goes tap by tap.
#include "cpu/network.h"

#include <string.h>

static void weigh_row(const REAL *restrict x, int64_t inner, const double *weights, int64_t taps,
                      REAL *restrict out) {
  const REAL first = (REAL)weights[0], second = taps > 1 ? (REAL)weights[1] : 0;
  const REAL *next = x + inner;
  if (taps == 0) memset(out, 0, (size_t)inner * sizeof(REAL));
  if (taps == 1)
    for (int64_t j = 0; j < inner; j++) out[j] = first * x[j];
  if (taps > 1)
    for (int64_t j = 0; j < inner; j++) out[j] = first * x[j] + second * next[j];
  for (int64_t k = 2; k < taps; k++) {
    REAL weight = (REAL)weights[k];
    const REAL *row = x + k * inner;
    for (int64_t j = 0; j < inner; j++) out[j] += weight * row[j];
  }
}

static REAL weigh_point(const REAL *x, const double *weights, int64_t taps) {
  REAL sum = 0;
  for (int64_t k = 0; k < taps; k++) sum += (REAL)weights[k] * x[k];
  return sum;
}

moon_status CPU(NAME(weigh_rows))(void *context, int64_t first, int64_t last) {
  const weigh_job *job = context;
  int64_t inner = job->inner;
  for (int64_t item = first; item < last; item++) {
    int64_t at = item % job->count, low = job->spans[2 * at];
    int64_t taps = job->spans[2 * at + 1] - low;
    const REAL *x = (const REAL *)job->x + (item / job->count * job->size + low) * inner;
    const double *weights = job->weights + at * job->taps;
    REAL *out = (REAL *)job->out + item * inner;
    if (inner == 1) *out = weigh_point(x, weights, taps);
    else weigh_row(x, inner, weights, taps, out);
  }
  return MOON_OK;
}
