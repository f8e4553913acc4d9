// Softmax and its logarithm for one compute type. The maximum is taken off first, so nothing
// overflows; NaN spreads. Where the dimension is innermost a row is one run; otherwise a block of
// neighbouring columns goes together.
#include "cpu/lanes_exp.h"
#include "cpu/network.h"

#include <math.h>

// Rows of up to SOFTMAX_SHORT elements go together, as many as have SOFTMAX_RUN elements.
enum { SOFTMAX_SHORT = 64, SOFTMAX_RUN = 512 };

// A NaN need not be found: it comes through by the sum.
static REAL larger_of(REAL a, REAL b) { return b > a ? b : a; }

static lanes lanes_larger(lanes a, lanes b) {
  lanes_bits larger = b > a;
  return (lanes)((larger & (lanes_bits)b) | (~larger & (lanes_bits)a));
}

static REAL row_maximum(const REAL *x, int64_t n) {
  REAL largest = x[0];
  if (n < LANES) {
    for (int64_t i = 1; i < n; i++) largest = larger_of(largest, x[i]);
    return largest;
  }
  lanes best = lanes_load(x);
  for (int64_t i = LANES; i < n; i += LANES)   // the last may overlap
    best = lanes_larger(best, lanes_load(x + (i + LANES <= n ? i : n - LANES)));
  lanes_bits place = { 0 };
  for (int i = 0; i < LANES; i++) place[i] = i;
  for (int width = LANES / 2; width > 0; width /= 2)
    best = lanes_larger(best, __builtin_shuffle(best, (place + width) & (LANES - 1)));
  return best[0];
}

// out[i] = exp(x[i] - shift); gives the sum. With out NULL only the sum.
static double row_exponentials(const REAL *x, REAL shift, int64_t n, REAL *out) {
  double total = 0;
  lanes shifts = lanes_all(shift);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    lanes e = lanes_exp(lanes_load(x + i) - shifts);
    if (out) lanes_store(out + i, e);
    total += (double)lanes_sum(e);
  }
  if (i == n) return total;
  REAL rest[LANES];
  for (int64_t j = 0; j < LANES; j++) rest[j] = i + j < n ? x[i + j] : shift;
  lanes_store(rest, lanes_exp(lanes_load(rest) - shifts));
  for (int64_t j = 0; i + j < n; j++) {
    if (out) out[i + j] = rest[j];
    total += (double)rest[j];
  }
  return total;
}

static void softmax_row(const softmax_job *job, const REAL *x, REAL *out) {
  REAL maximum = row_maximum(x, job->size);
  if (job->log) {
    REAL base = REAL_LOG((REAL)row_exponentials(x, maximum, job->size, NULL));
    for (int64_t i = 0; i < job->size; i++) out[i] = (x[i] - maximum) - base;
  } else {
    REAL factor = (REAL)(1 / row_exponentials(x, maximum, job->size, out));
    for (int64_t i = 0; i < job->size; i++) out[i] *= factor;
  }
}

// Rows of n <= SOFTMAX_SHORT elements, several at a time: exponentials go along their run.
static inline __attribute__((always_inline)) void softmax_short_rows(
    bool log_wanted, int64_t n, const REAL *x, int64_t rows, REAL *out) {
  REAL shifted[SOFTMAX_RUN], part[SOFTMAX_RUN], sum[SOFTMAX_RUN];
  for (int64_t r = 0; r < rows; r++) {
    REAL best = row_maximum(x + r * n, n);
    for (int64_t i = 0; i < n; i++) shifted[r * n + i] = x[r * n + i] - best;
  }
  for (int64_t i = 0; i < rows * n; i += LANES)
    lanes_store(part + i, lanes_exp(lanes_load(shifted + i)));
  for (int64_t r = 0; r < rows; r++) {
    sum[r] = part[r * n];
    for (int64_t i = 1; i < n; i++) sum[r] += part[r * n + i];
  }
  for (int64_t r = 0; r < rows; r++) sum[r] = log_wanted ? REAL_LOG(sum[r]) : 1 / sum[r];
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < n; i++)
      out[r * n + i] = log_wanted ? shifted[r * n + i] - sum[r] : part[r * n + i] * sum[r];
}

// The fewest elements have loops of their own, which go along the rows.
static void softmax_short(const softmax_job *job, const REAL *x, int64_t rows, REAL *out) {
  switch (job->size) {
    case 2: softmax_short_rows(job->log, 2, x, rows, out); break;
    case 3: softmax_short_rows(job->log, 3, x, rows, out); break;
    case 4: softmax_short_rows(job->log, 4, x, rows, out); break;
    default: softmax_short_rows(job->log, job->size, x, rows, out);
  }
}

// count <= SOFTMAX_COLUMNS columns, rows `inner` apart; work is a whole number of vectors.
static void softmax_columns(const softmax_job *job, const REAL *x, int64_t count, REAL *out) {
  REAL best[SOFTMAX_COLUMNS], part[SOFTMAX_COLUMNS] = { 0 };
  double sum[SOFTMAX_COLUMNS] = { 0 };
  int64_t inner = job->inner;
  for (int64_t j = 0; j < count; j++) best[j] = x[j];
  for (int64_t c = 1; c < job->size; c++)
    for (int64_t j = 0; j < count; j++) best[j] = larger_of(best[j], x[c * inner + j]);
  for (int64_t c = 0; c < job->size; c++) {
    for (int64_t j = 0; j < count; j++) part[j] = x[c * inner + j] - best[j];
    for (int64_t j = 0; j < count; j += LANES)
      lanes_store(part + j, lanes_exp(lanes_load(part + j)));
    for (int64_t j = 0; j < count; j++) sum[j] += (double)part[j];
    for (int64_t j = 0; j < count && !job->log; j++) out[c * inner + j] = part[j];
  }
  for (int64_t j = 0; j < count; j++) part[j] = (REAL)(job->log ? log(sum[j]) : 1 / sum[j]);
  for (int64_t c = 0; c < job->size; c++)
    for (int64_t j = 0; j < count; j++)
      out[c * inner + j] = job->log ? (x[c * inner + j] - best[j]) - part[j]
                                    : out[c * inner + j] * part[j];
}

static int64_t softmax_offset(const softmax_job *job, int64_t index, int64_t *count) {
  int64_t column = index % job->blocks * SOFTMAX_COLUMNS;
  *count = job->inner - column < SOFTMAX_COLUMNS ? job->inner - column : SOFTMAX_COLUMNS;
  return index / job->blocks * job->size * job->inner + column;
}

moon_status CPU(NAME(softmax_blocks))(void *context, int64_t first, int64_t last) {
  const softmax_job *job = context;
  int64_t short_rows = job->inner == 1 && job->size <= SOFTMAX_SHORT ? SOFTMAX_RUN / job->size : 0;
  int64_t rows = 1;
  for (int64_t index = first; index < last; index += rows) {
    int64_t count, at = softmax_offset(job, index, &count);
    const REAL *x = (const REAL *)job->x + at;
    REAL *out = (REAL *)job->out + at;
    if (short_rows) rows = last - index < short_rows ? last - index : short_rows;
    if (short_rows)
      softmax_short(job, x, rows, out);
    else if (job->inner == 1)
      softmax_row(job, x, out);
    else
      softmax_columns(job, x, count, out);
  }
  return MOON_OK;
}

// softmax: dx = y (g - sum of g y); its logarithm: dx = g - exp(y) * sum of g
static void softmax_back_columns(const softmax_job *job, int64_t at, int64_t count) {
  const REAL *y = (const REAL *)job->x + at, *g = (const REAL *)job->gradient + at;
  REAL *dx = (REAL *)job->out + at, part[SOFTMAX_COLUMNS] = { 0 };
  double sum[SOFTMAX_COLUMNS] = { 0 };
  int64_t inner = job->inner;
  for (int64_t c = 0; c < job->size; c++)
    for (int64_t j = 0; j < count; j++)
      sum[j] += (double)g[c * inner + j] * (job->log ? 1 : (double)y[c * inner + j]);
  for (int64_t c = 0; c < job->size; c++) {
    for (int64_t j = 0; j < count; j++) part[j] = y[c * inner + j];
    for (int64_t j = 0; j < count && job->log; j += LANES)
      lanes_store(part + j, lanes_exp(lanes_load(part + j)));
    for (int64_t j = 0; j < count; j++) {
      REAL gradient = g[c * inner + j], total = (REAL)sum[j];
      dx[c * inner + j] = job->log ? gradient - part[j] * total : part[j] * (gradient - total);
    }
  }
}

static void softmax_back_row(const softmax_job *job, int64_t at) {
  const REAL *y = (const REAL *)job->x + at, *g = (const REAL *)job->gradient + at;
  REAL *dx = (REAL *)job->out + at;
  double sum = 0;
  for (int64_t i = 0; i < job->size; i++) sum += (double)g[i] * (job->log ? 1 : (double)y[i]);
  REAL total = (REAL)sum;
  if (!job->log) {
    for (int64_t i = 0; i < job->size; i++) dx[i] = y[i] * (g[i] - total);
    return;
  }
  for (int64_t i = 0; i < job->size; i += LANES) {
    int64_t left = job->size - i;
    lanes share = lanes_exp(lanes_load_some(y + i, left)) * lanes_all(total);
    lanes_store_some(dx + i, lanes_load_some(g + i, left) - share, left);
  }
}

moon_status CPU(NAME(softmax_back_blocks))(void *context, int64_t first, int64_t last) {
  const softmax_job *job = context;
  for (int64_t index = first; index < last; index++) {
    int64_t count, at = softmax_offset(job, index, &count);
    if (job->inner == 1)
      softmax_back_row(job, at);
    else
      softmax_back_columns(job, at, count);
  }
  return MOON_OK;
}
