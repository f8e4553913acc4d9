// Softmax and its logarithm for one compute type. Where the dimension is innermost a row is one
// run; otherwise a block of neighbouring columns goes together.
#include "cpu/exponentials_real.h"
#include "cpu/network.h"

#include <math.h>

// Rows of less than a vector go together, as many as have SOFTMAX_RUN elements.
enum { SOFTMAX_RUN = 512 };

// Rows of a block: what is said once of each is calculated for all together.
static void softmax_rows(const softmax_job *job, const REAL *x, int64_t rows, REAL *out) {
  REAL best[EXPONENTIAL_ROWS], base[EXPONENTIAL_ROWS];
  int64_t n = job->size;
  for (int64_t r = 0; r < rows; r++) {
    best[r] = row_maximum(x + r * n, n);
    base[r] = (REAL)row_exponentials(x + r * n, best[r], n, job->log ? NULL : out + r * n);
  }
  for (int64_t r = 0; r < rows; r++) base[r] = job->log ? REAL_LOG(base[r]) : 1 / base[r];
  for (int64_t r = 0; r < rows; r++) {
    if (job->log) row_logarithms(x + r * n, best[r], base[r], n, out + r * n);
    else
      for (int64_t i = 0; i < n; i++) out[r * n + i] *= base[r];
  }
}

// Rows of n < LANES elements, several at a time: exponentials go along their run.
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

// count <= SOFTMAX_COLUMNS columns, rows `inner` apart.
static void softmax_columns(const softmax_job *job, const REAL *x, int64_t count, REAL *out) {
  REAL best[SOFTMAX_COLUMNS], part[SOFTMAX_COLUMNS];
  double sum[SOFTMAX_COLUMNS];
  int64_t inner = job->inner;
  column_maxima(x, inner, job->size, count, best);
  column_exponentials(x, inner, job->size, count, best, job->log ? NULL : out, sum);
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
  bool few = job->inner == 1 && job->size < LANES;
  int64_t block = few ? SOFTMAX_RUN / job->size : job->inner == 1 ? rows_at_once(job->size) : 1;
  for (int64_t index = first; index < last; index += block) {
    int64_t count, at = softmax_offset(job, index, &count), rows = minimum(block, last - index);
    const REAL *x = (const REAL *)job->x + at;
    REAL *out = (REAL *)job->out + at;
    if (few) softmax_short(job, x, rows, out);
    else if (job->inner == 1) softmax_rows(job, x, rows, out);
    else softmax_columns(job, x, count, out);
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
