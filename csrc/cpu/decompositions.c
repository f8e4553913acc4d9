// The decomposition slots: each matrix of a stack is copied into column-major scratch, handed to
// LAPACK, and its results copied out. A matrix is the work of one thread, so that results do not
// depend on how many there are.
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/lapack.h"

enum { MAX_ARRAYS = 4 };

typedef struct matrix_job matrix_job;
struct matrix_job {
  moon_engine *engine;
  const lapack_routines *lapack;
  moon_dtype dtype;
  size_t size;                                // of an element
  const device_array *arrays[MAX_ARRAYS];     // stacks, or (batch) values
  const device_array *info;
  bool upper, unit;
  size_t scratch;                             // bytes a matrix needs
  int32_t work_count, whole_count;            // room LAPACK asked for
  moon_status (*run)(const matrix_job *job, int64_t index, char *scratch, int64_t *info);
};

// -- matrices of a stack

static char *matrix_at(const matrix_job *job, int array, int64_t index) {
  const device_array *x = job->arrays[array];
  return (char *)x->data + index * x->strides[0] * (int64_t)job->size;
}

static int32_t rows_of(const matrix_job *job, int array) {
  return (int32_t)job->arrays[array]->shape[1];
}
static int32_t columns_of(const matrix_job *job, int array) {
  return (int32_t)job->arrays[array]->shape[2];
}

// Copies a matrix to column-major scratch, column after column, and back.
static void pack(const matrix_job *job, int array, int64_t index, char *to) {
  const device_array *x = job->arrays[array];
  const char *from = matrix_at(job, array, index);
  int64_t size = (int64_t)job->size;
  for (int64_t j = 0; j < x->shape[2]; j++)
    CPU(gather_run)(job->size, x->shape[1], from + j * x->strides[2] * size, x->strides[1],
                    to + j * x->shape[1] * size);
}

// `rows` of the scratch's columns.
static void unpack(const matrix_job *job, int array, int64_t index, const char *from,
                   int64_t rows) {
  const device_array *x = job->arrays[array];
  char *to = matrix_at(job, array, index);
  int64_t size = (int64_t)job->size;
  for (int64_t j = 0; j < x->shape[2]; j++)
    CPU(scatter_run)(job->size, x->shape[1], from + j * rows * size,
                     to + j * x->strides[2] * size, x->strides[1]);
}

// The values of a (batch, n) array.
static void put_values(const matrix_job *job, int array, int64_t index, const char *from) {
  const device_array *x = job->arrays[array];
  CPU(scatter_run)(job->size, x->shape[1], from, matrix_at(job, array, index), x->strides[1]);
}

static void put_value(const matrix_job *job, int array, int64_t index, double value) {
  dtype_store(job->dtype, matrix_at(job, array, index), value);
}

static double scratch_value(const matrix_job *job, const char *scratch, int64_t at) {
  return dtype_load(job->dtype, scratch + at * (int64_t)job->size);
}

static bool all_finite(const matrix_job *job, const char *scratch, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(scratch_value(job, scratch, i))) return false;
  return true;
}

// Clears what lies above (or below) the diagonal of column-major scratch.
static void clear_triangle(const matrix_job *job, char *scratch, int64_t rows, int64_t columns,
                           bool above) {
  for (int64_t j = 0; j < columns; j++) {
    int64_t from = above ? 0 : j + 1, to = above ? (j < rows ? j : rows) : rows;
    if (from < to)
      memset(scratch + (j * rows + from) * (int64_t)job->size, 0, (size_t)(to - from) * job->size);
  }
}

// -- the driver

static moon_status run_block(void *context, int64_t first, int64_t last) {
  const matrix_job *job = context;
  void *scratch;
  MOON_TRY(alloc_bytes(job->engine, job->scratch, &scratch));
  moon_status status = MOON_OK;
  for (int64_t i = first; i < last && status == MOON_OK; i++) {
    int64_t info = 0;
    status = job->run(job, i, scratch, &info);
    if (job->info) ((int64_t *)job->info->data)[i * job->info->strides[0]] = info;
  }
  alloc_release(job->engine, scratch, job->scratch);
  return status;
}

static moon_status check_sizes(const matrix_job *job) {
  for (int k = 0; k < MAX_ARRAYS; k++)
    for (int i = 1; job->arrays[k] && i < job->arrays[k]->ndim; i++)
      if (job->arrays[k]->shape[i] > INT32_MAX / 4)
        return moon_fail(MOON_BAD_SHAPE, "a matrix with a side of %lld is more than LAPACK can "
                         "take", (long long)job->arrays[k]->shape[i]);
  return MOON_OK;
}

// `numbers` elements and `wholes` int32 of scratch for each matrix.
static moon_status run_job(matrix_job *job, size_t numbers, size_t wholes) {
  MOON_TRY(alloc_product(numbers, job->size, &job->scratch));
  job->scratch += wholes * sizeof(int32_t);
  int64_t side = job->arrays[0]->shape[1] > 1 ? job->arrays[0]->shape[1] : 1;
  return cpu_run(job->engine, job->arrays[0]->shape[0],
                 cpu_grain(side * side * job->arrays[0]->shape[2]), run_block, job);
}

static moon_status open_job(matrix_job *job, moon_engine *engine) {
  job->engine = engine;
  job->dtype = job->arrays[0]->dtype;
  job->size = dtype_size(job->dtype);
  MOON_TRY(check_sizes(job));
  return lapack_open(job->dtype, &job->lapack);
}

// The room that a question with work_count -1 was answered with.
static int32_t wanted(const matrix_job *job, const void *answer) {
  double count = dtype_load(job->dtype, answer);
  return count < 1 ? 1 : count > INT32_MAX / 2 ? INT32_MAX / 2 : (int32_t)ceil(count * 1.0000002);
}

static size_t square(int64_t n) { return (size_t)n * (size_t)n; }

// -- solve: arrays a, b, out

static moon_status solve_one(const matrix_job *job, int64_t i, char *scratch, int64_t *info) {
  int32_t n = rows_of(job, 0), k = columns_of(job, 1);
  char *a = scratch, *b = a + square(n) * job->size;
  int32_t *pivots = (int32_t *)(void *)(b + (size_t)n * (size_t)k * job->size);
  pack(job, 0, i, a);
  pack(job, 1, i, b);
  *info = job->lapack->getrf_work(LAPACK_COLUMNS, n, n, a, n, pivots);
  if (*info == 0) job->lapack->getrs_work(LAPACK_COLUMNS, 'N', n, k, a, n, pivots, b, n);
  unpack(job, 2, i, b, n);
  return MOON_OK;
}

moon_status CPU(solve)(moon_engine *engine, const device_array *a, const device_array *b,
                       const device_array *out, const device_array *info) {
  matrix_job job = { .arrays = { a, b, out }, .info = info, .run = solve_one };
  MOON_TRY(open_job(&job, engine));
  return run_job(&job, square(a->shape[1]) + (size_t)(b->shape[1] * b->shape[2]),
                 (size_t)a->shape[1]);
}

// -- solve_triangular: arrays a, b, out

static moon_status triangular_one(const matrix_job *job, int64_t i, char *scratch, int64_t *info) {
  int32_t n = rows_of(job, 0), k = columns_of(job, 1);
  char *a = scratch, *b = a + square(n) * job->size;
  pack(job, 0, i, a);
  pack(job, 1, i, b);
  *info = job->lapack->trtrs_work(LAPACK_COLUMNS, job->upper ? 'U' : 'L', 'N',
                                  job->unit ? 'U' : 'N', n, k, a, n, b, n);
  unpack(job, 2, i, b, n);
  return MOON_OK;
}

moon_status CPU(solve_triangular)(moon_engine *engine, bool upper, bool unit,
                                  const device_array *a, const device_array *b,
                                  const device_array *out, const device_array *info) {
  matrix_job job = { .arrays = { a, b, out }, .info = info, .upper = upper, .unit = unit,
                     .run = triangular_one };
  MOON_TRY(open_job(&job, engine));
  return run_job(&job, square(a->shape[1]) + (size_t)(b->shape[1] * b->shape[2]), 0);
}

// -- determinant: arrays a, det, sign, log

static moon_status determinant_one(const matrix_job *job, int64_t i, char *scratch,
                                   int64_t *info) {
  int32_t n = rows_of(job, 0);
  int32_t *pivots = (int32_t *)(void *)(scratch + square(n) * job->size);
  double product = 1, sign = 1, logarithm = 0;
  pack(job, 0, i, scratch);
  job->lapack->getrf_work(LAPACK_COLUMNS, n, n, scratch, n, pivots);
  for (int64_t j = 0; j < n; j++) {
    double pivot = scratch_value(job, scratch, j * n + j);
    if (pivots[j] != j + 1) pivot = -pivot;
    product *= pivot;
    sign *= pivot < 0 ? -1 : pivot > 0 ? 1 : pivot;
    logarithm += log(fabs(pivot));
  }
  put_value(job, 1, i, product);
  put_value(job, 2, i, sign);
  put_value(job, 3, i, logarithm);
  *info = 0;
  return MOON_OK;
}

moon_status CPU(determinant)(moon_engine *engine, const device_array *a, const device_array *det,
                             const device_array *sign, const device_array *logarithm) {
  matrix_job job = { .arrays = { a, det, sign, logarithm }, .run = determinant_one };
  MOON_TRY(open_job(&job, engine));
  return run_job(&job, square(a->shape[1]), (size_t)a->shape[1]);
}

// -- cholesky: arrays x, out

static moon_status cholesky_one(const matrix_job *job, int64_t i, char *scratch, int64_t *info) {
  int32_t n = rows_of(job, 0);
  pack(job, 0, i, scratch);
  *info = job->lapack->potrf_work(LAPACK_COLUMNS, 'L', n, scratch, n);
  for (int64_t j = 0; j < n && *info == 0; j++)   // some implementations let NaN through
    if (isnan(scratch_value(job, scratch, j * n + j))) *info = j + 1;
  clear_triangle(job, scratch, n, n, true);
  unpack(job, 1, i, scratch, n);
  return MOON_OK;
}

moon_status CPU(cholesky)(moon_engine *engine, const device_array *x, const device_array *out,
                          const device_array *info) {
  matrix_job job = { .arrays = { x, out }, .info = info, .run = cholesky_one };
  MOON_TRY(open_job(&job, engine));
  return run_job(&job, square(x->shape[1]), 0);
}

// -- qr: arrays x, q, r

static moon_status qr_one(const matrix_job *job, int64_t i, char *scratch, int64_t *info) {
  int32_t m = rows_of(job, 0), n = columns_of(job, 0), k = columns_of(job, 1);
  size_t count = (size_t)m * (size_t)n;
  char *kept = scratch + count * job->size, *tau = kept + count * job->size;
  char *work = tau + (size_t)k * job->size;
  pack(job, 0, i, scratch);
  job->lapack->geqrf_work(LAPACK_COLUMNS, m, n, scratch, m, tau, work, job->work_count);
  memcpy(kept, scratch, count * job->size);
  clear_triangle(job, kept, m, n, false);
  unpack(job, 2, i, kept, m);
  job->lapack->orgqr_work(LAPACK_COLUMNS, m, k, k, scratch, m, tau, work, job->work_count);
  unpack(job, 1, i, scratch, m);
  *info = 0;
  return MOON_OK;
}

moon_status CPU(qr)(moon_engine *engine, const device_array *x, const device_array *q,
                    const device_array *r) {
  matrix_job job = { .arrays = { x, q, r }, .run = qr_one };
  MOON_TRY(open_job(&job, engine));
  int32_t m = rows_of(&job, 0), n = columns_of(&job, 0), k = columns_of(&job, 1);
  double first[1] = { 0 }, second[1] = { 0 }, none[1] = { 0 };
  job.lapack->geqrf_work(LAPACK_COLUMNS, m, n, none, m, none, first, -1);
  job.lapack->orgqr_work(LAPACK_COLUMNS, m, k, k, none, m, none, second, -1);
  int32_t one = wanted(&job, first), other = wanted(&job, second);
  job.work_count = one > other ? one : other;
  return run_job(&job, 2 * (size_t)m * (size_t)n + (size_t)k + (size_t)job.work_count, 0);
}

// -- svd: arrays x, s, u, vh

static moon_status svd_one(const matrix_job *job, int64_t i, char *scratch, int64_t *info) {
  int32_t m = rows_of(job, 0), n = columns_of(job, 0), k = m < n ? m : n;
  bool vectors = job->arrays[2] != NULL;
  char *s = scratch + (size_t)m * (size_t)n * job->size, *u = s + (size_t)k * job->size;
  char *vh = u + (vectors ? (size_t)m * (size_t)k : 1) * job->size;
  char *work = vh + (vectors ? (size_t)k * (size_t)n : 1) * job->size;
  int32_t *whole = (int32_t *)(void *)(work + (size_t)job->work_count * job->size);
  pack(job, 0, i, scratch);
  if (!all_finite(job, scratch, (int64_t)m * n)) {
    *info = -1;
    return MOON_OK;
  }
  int32_t failed = job->lapack->gesdd_work(LAPACK_COLUMNS, vectors ? 'S' : 'N', m, n, scratch, m, s,
                                           u, m, vh, vectors ? k : 1, work, job->work_count, whole);
  *info = failed != 0;
  put_values(job, 1, i, s);
  if (!vectors) return MOON_OK;
  unpack(job, 2, i, u, m);
  unpack(job, 3, i, vh, k);
  return MOON_OK;
}

moon_status CPU(svd)(moon_engine *engine, const device_array *x, const device_array *u,
                     const device_array *s, const device_array *vh, const device_array *info) {
  matrix_job job = { .arrays = { x, s, u, vh }, .info = info, .run = svd_one };
  MOON_TRY(open_job(&job, engine));
  int32_t m = rows_of(&job, 0), n = columns_of(&job, 0), k = m < n ? m : n, whole[1];
  double answer[1] = { 0 }, none[1] = { 0 };
  job.lapack->gesdd_work(LAPACK_COLUMNS, u ? 'S' : 'N', m, n, none, m, none, none, m, none,
                         u ? k : 1, answer, -1, whole);
  job.work_count = wanted(&job, answer);
  size_t vectors = u ? (size_t)k * ((size_t)m + (size_t)n) : 2;
  return run_job(&job, (size_t)m * (size_t)n + (size_t)k + vectors + (size_t)job.work_count,
                 8 * (size_t)k);
}

// -- eigh: arrays x, values, vectors

static moon_status eigh_one(const matrix_job *job, int64_t i, char *scratch, int64_t *info) {
  int32_t n = rows_of(job, 0);
  char *values = scratch + square(n) * job->size, *work = values + (size_t)n * job->size;
  int32_t *whole = (int32_t *)(void *)(work + (size_t)job->work_count * job->size);
  pack(job, 0, i, scratch);
  if (!all_finite(job, scratch, (int64_t)n * n)) {
    *info = -1;
    return MOON_OK;
  }
  int32_t failed =
      job->lapack->syevd_work(LAPACK_COLUMNS, job->arrays[2] ? 'V' : 'N', 'L', n, scratch, n,
                              values, work, job->work_count, whole, job->whole_count);
  *info = failed != 0;
  put_values(job, 1, i, values);
  if (job->arrays[2]) unpack(job, 2, i, scratch, n);
  return MOON_OK;
}

moon_status CPU(eigh)(moon_engine *engine, const device_array *x, const device_array *values,
                      const device_array *vectors, const device_array *info) {
  matrix_job job = { .arrays = { x, values, vectors }, .info = info, .run = eigh_one };
  MOON_TRY(open_job(&job, engine));
  int32_t n = rows_of(&job, 0), whole[1] = { 1 };
  double answer[1] = { 0 }, none[1] = { 0 };
  job.lapack->syevd_work(LAPACK_COLUMNS, vectors ? 'V' : 'N', 'L', n, none, n, none, answer, -1,
                         whole, -1);
  job.work_count = wanted(&job, answer);
  job.whole_count = whole[0] > 0 ? whole[0] : 1;
  return run_job(&job, square(n) + (size_t)n + (size_t)job.work_count, (size_t)job.whole_count);
}
