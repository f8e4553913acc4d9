// Softmax and its logarithm for one compute type. Where the dimension is innermost, rows go along,
// a vector's number of them together; otherwise a block of neighbouring columns goes together.
#include "cpu/exponentials_real.h"

#include <math.h>

static void softmax_rows(const softmax_job *job, const REAL *x, int64_t rows, REAL *out) {
  int64_t n = job->size;
  lanes best = row_maxima(x, n, n, rows);
  lanes sum = row_exponentials(x, n, n, rows, best, job->log ? NULL : out);
  if (job->log) {
    row_logarithms(x, n, n, rows, best, lanes_log(sum), out, n);
    return;
  }
  sum = lanes_all(1) / sum;
  for (int64_t r = 0; r < rows; r++) {
    const lanes share = lanes_same(sum[r]);
    for (int64_t i = r * n; i < (r + 1) * n; i += LANES)
      lanes_store_some(out + i, lanes_load_some(out + i, (r + 1) * n - i) * share,
                       (r + 1) * n - i);
  }
}

// Rows of less than a vector are turned into columns, LANES of them.
static void softmax_short_rows(const softmax_job *job, const REAL *x, int64_t rows, REAL *out) {
  int64_t n = job->size;
  lanes column[LANES], part[LANES], sum = lanes_zero();
  columns_in(x, n, n, rows, column);
  lanes best = column[0];
  for (int64_t c = 1; c < n; c++) best = lanes_larger(best, column[c]);
  for (int64_t c = 0; c < n; c++) sum += part[c] = lanes_exp(column[c] -= best);
  const lanes base = job->log ? lanes_log(sum) : lanes_all(1) / sum;
  for (int64_t c = 0; c < n; c++) part[c] = job->log ? column[c] - base : part[c] * base;
  columns_out(part, n, rows, out, n);
}

static void softmax_columns(const softmax_job *job, const REAL *x, int64_t count, REAL *out) {
  REAL best[COLUMNS], base[COLUMNS];
  int64_t inner = job->inner, size = job->size;
  column_maxima(x, inner, size, count, best);
  column_exponentials(x, inner, size, count, job->columns, best, job->log ? NULL : out, base);
  if (job->log) {
    for (int64_t j = 0; j < count; j++) base[j] = REAL_LOG(base[j]);
    column_logarithms(x, inner, size, count, job->columns, best, base, out, inner);
    return;
  }
  for (int64_t j = 0; j < count; j++) base[j] = 1 / base[j];
  for (int64_t c = 0; c < size; c++)
    for (int64_t j = 0; j < count; j++) out[c * inner + j] *= base[j];
}

static int64_t softmax_offset(const softmax_job *job, int64_t index, int64_t *count) {
  int64_t column = index % job->blocks * job->columns;
  *count = minimum(job->columns, job->inner - column);
  return index / job->blocks * job->size * job->inner + column;
}

// Rows that are one item after the other go together.
static int64_t softmax_items(const softmax_job *job) {
  return job->inner > 1 ? 1 : rows_at_once(job->size);
}

moon_status CPU(NAME(softmax_blocks))(void *context, int64_t first, int64_t last) {
  const softmax_job *job = context;
  int64_t items = softmax_items(job);
  for (int64_t index = first; index < last; index += items) {
    int64_t columns, at = softmax_offset(job, index, &columns), rows = minimum(items, last - index);
    const REAL *x = (const REAL *)job->x + at;
    REAL *out = (REAL *)job->out + at;
    if (job->inner > 1) softmax_columns(job, x, columns, out);
    else if (job->size < LANES) softmax_short_rows(job, x, rows, out);
    else softmax_rows(job, x, rows, out);
  }
  return MOON_OK;
}

// softmax: dx = y (g - sum of g y); its logarithm: dx = g - exp(y) * sum of g
static inline lanes softmax_slope(bool log_wanted, lanes y, lanes g, lanes sum) {
  return log_wanted ? g - lanes_exp(y) * sum : y * (g - sum);
}

// The sums down the columns of g, or of g y.
static void softmax_products(const softmax_job *job, const REAL *y, const REAL *g, int64_t count,
                             REAL *sum) {
  double total[COLUMNS] = { 0 };
  REAL part[COLUMNS];
  for (int64_t start = 0; start < job->size; start += EXPONENTIAL_RUN) {
    memset(part, 0, sizeof part);
    for (int64_t c = start; c < minimum(job->size, start + EXPONENTIAL_RUN); c++)
      for (int64_t j = 0; j < count; j += LANES) {
        int64_t at = c * job->inner + j;
        lanes value = lanes_load_some(g + at, count - j), before = lanes_load(part + j);
        expect_read_at(g + at + job->columns);
        expect_read_at(y + at + job->columns);
        lanes_store(part + j, job->log ? before + value
                                       : lanes_fma(value, lanes_load_some(y + at, count - j),
                                                   before));
      }
    for (int64_t j = 0; j < count; j++) total[j] += (double)part[j];
  }
  for (int64_t j = 0; j < count; j++) sum[j] = (REAL)total[j];
}

static void softmax_back_columns(const softmax_job *job, const REAL *y, const REAL *g,
                                 int64_t count, REAL *dx) {
  REAL sum[COLUMNS];
  softmax_products(job, y, g, count, sum);
  for (int64_t c = 0; c < job->size; c++)
    for (int64_t j = 0; j < count; j += LANES) {
      int64_t place = c * job->inner + j, left = count - j;
      lanes result = lanes_load_some(y + place, left), gradient = lanes_load_some(g + place, left);
      expect_write_at(dx + place + job->columns);
      lanes_store_some(dx + place, softmax_slope(job->log, result, gradient, lanes_load(sum + j)),
                       left);
    }
}

// The sums along rows of n >= LANES elements of g, or of g y.
static lanes softmax_row_products(bool log_wanted, const REAL *y, const REAL *g, int64_t n,
                                  int64_t rows) {
  REAL sum[LANES];
  double total[LANES] = { 0 };
  for (int64_t start = 0; start < n; start += EXPONENTIAL_RUN * LANES) {
    int64_t end = minimum(n, start + EXPONENTIAL_RUN * LANES);
    lanes part[LANES];
    for (int64_t r = 0; r < LANES; r++) {
      part[r] = lanes_zero();
      for (int64_t i = start; i < end && r < rows; i += LANES) {
        lanes value = lanes_load_some(g + r * n + i, end - i);
        part[r] = log_wanted ? part[r] + value
                             : lanes_fma(value, lanes_load_some(y + r * n + i, end - i), part[r]);
      }
    }
    lanes sums = lanes_folded(part, lanes_added);
    for (int i = 0; i < LANES; i++) total[i] += (double)sums[i];
  }
  for (int i = 0; i < LANES; i++) sum[i] = (REAL)total[i];
  return lanes_load(sum);
}

static void softmax_back_rows(const softmax_job *job, const REAL *y, const REAL *g, int64_t rows,
                              REAL *dx) {
  int64_t n = job->size;
  lanes sums = softmax_row_products(job->log, y, g, n, rows);
  for (int64_t r = 0; r < rows; r++) {
    const lanes sum = lanes_same(sums[r]);
    for (int64_t i = r * n; i < (r + 1) * n; i += LANES) {
      int64_t left = (r + 1) * n - i;
      lanes result = lanes_load_some(y + i, left), gradient = lanes_load_some(g + i, left);
      expect_write(dx + i);
      lanes_store_some(dx + i, softmax_slope(job->log, result, gradient, sum), left);
    }
  }
}

static void softmax_back_short_rows(const softmax_job *job, const REAL *y, const REAL *g,
                                    int64_t rows, REAL *dx) {
  int64_t n = job->size;
  lanes result[LANES], gradient[LANES], sum = lanes_zero();
  columns_in(y, n, n, rows, result);
  columns_in(g, n, n, rows, gradient);
  for (int64_t c = 0; c < n; c++)
    sum = job->log ? sum + gradient[c] : lanes_fma(gradient[c], result[c], sum);
  for (int64_t c = 0; c < n; c++)
    gradient[c] = softmax_slope(job->log, result[c], gradient[c], sum);
  columns_out(gradient, n, rows, dx, n);
}

moon_status CPU(NAME(softmax_back_blocks))(void *context, int64_t first, int64_t last) {
  const softmax_job *job = context;
  int64_t items = softmax_items(job);
  for (int64_t index = first; index < last; index += items) {
    int64_t columns, at = softmax_offset(job, index, &columns), rows = minimum(items, last - index);
    const REAL *y = (const REAL *)job->x + at, *g = (const REAL *)job->gradient + at;
    REAL *dx = (REAL *)job->out + at;
    if (job->inner > 1) softmax_back_columns(job, y, g, columns, dx);
    else if (job->size < LANES) softmax_back_short_rows(job, y, g, rows, dx);
    else softmax_back_rows(job, y, g, rows, dx);
  }
  return MOON_OK;
}
