// Kernels that go along a line and remember what came before: linear recurrences (running products
// and the gradients of both), running extremes, and binary search in sorted lines. Lines are
// independent; each is taken by one thread, CPU_CHUNK elements at a time.
#include <string.h>

#include "cpu/cpu.h"

typedef union chunk { float f[CPU_CHUNK]; double d[CPU_CHUNK]; int64_t i[CPU_CHUNK]; } chunk;

typedef struct scan_job {
  cpu_walk lines;
  const device_array *arrays[3];
  int64_t length, step[3];          // along the line, in elements
  bool flag;                        // recurrence: reverse; extreme: smallest
} scan_job;

static void open_lines(scan_job *job, int operands, int dim) {
  CPU(walk_open_without)(&job->lines, operands, job->arrays, 1u << dim, false);
  job->length = job->arrays[0]->shape[dim];
  for (int k = 0; k < operands; k++) job->step[k] = job->arrays[k]->strides[dim];
}

// Address of the first element of line `index` in each array.
static void line_at(const scan_job *job, int64_t index, char **data) {
  int64_t at[MOON_MAX_DIMS] = { 0 };
  CPU(walk_seek)(&job->lines, index, at);
  for (int k = 0; k < job->lines.operands; k++)
    data[k] = (char *)job->arrays[k]->data +
              cpu_walk_offset(&job->lines, k, at) * (int64_t)dtype_size(job->arrays[k]->dtype);
}

// -- recurrence: out[i] = a[i] * out[i - 1] + b[i]. Floats run on in double, integers wrap.
#define RECURRENCE(name, type, sum, member)                                        \
  static sum recur_##name(int64_t n, const chunk *a, chunk *b, sum state) {        \
    for (int64_t j = 0; j < n; j++) {                                              \
      state = (sum)a->member[j] * state + (sum)b->member[j];                       \
      b->member[j] = (type)state;                                                  \
    }                                                                              \
    return state;                                                                  \
  }
RECURRENCE(f32, float, double, f)
RECURRENCE(f64, double, double, d)
RECURRENCE(i64, int64_t, uint64_t, i)

static void recurrence_line(const scan_job *job, int64_t index) {
  char *data[3];
  chunk a, b;
  moon_dtype dtype = job->arrays[0]->dtype, compute = cpu_compute_dtype(dtype);
  int64_t size = (int64_t)dtype_size(dtype);
  double real = 0;
  uint64_t whole = 0;
  line_at(job, index, data);
  for (int64_t i = 0; i < job->length; i += CPU_CHUNK) {
    int64_t n = job->length - i < CPU_CHUNK ? job->length - i : CPU_CHUNK;
    CPU(load_run)(dtype, n, data[0] + i * job->step[0] * size, job->step[0], &a);
    CPU(load_run)(dtype, n, data[1] + i * job->step[1] * size, job->step[1], &b);
    if (compute == MOON_F32) real = recur_f32(n, &a, &b, real);
    else if (compute == MOON_F64) real = recur_f64(n, &a, &b, real);
    else whole = recur_i64(n, &a, &b, whole);
    CPU(store_run)(dtype, n, &b, data[2] + i * job->step[2] * size, job->step[2]);
  }
}

static moon_status recurrence_block(void *context, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) recurrence_line(context, i);
  return MOON_OK;
}

// The array from its last element of `dim` to its first.
static device_array turned(const device_array *array, int dim) {
  device_array y = *array;
  y.data = (char *)y.data + (y.shape[dim] - 1) * y.strides[dim] * (int64_t)dtype_size(y.dtype);
  y.strides[dim] = -y.strides[dim];
  return y;
}

moon_status CPU(recurrence)(moon_engine *engine, int dim, bool reverse, const device_array *a,
                            const device_array *b, const device_array *out) {
  scan_job job = { .arrays = { a, b, out } };
  if (array_count(out) == 0) return MOON_OK;
  device_array last[3];
  for (int k = 0; k < 3 && reverse; k++) {
    last[k] = turned(job.arrays[k], dim);
    job.arrays[k] = &last[k];
  }
  open_lines(&job, 3, dim);
  return cpu_run(engine, job.lines.count, cpu_grain(job.length * 4), recurrence_block, &job);
}

// -- running extremes: the last of equals; a NaN stays until the next NaN
#define RUNNING(name, type, member, IS_BETTER)                                       \
  static void running_##name(int64_t n, int64_t from, const chunk *xs, chunk *best,  \
                             int64_t *place) {                                       \
    type old = best->member[0];                                                      \
    int64_t where = place[0];                                                        \
    for (int64_t j = 0; j < n; j++) {                                                \
      const type x = xs->member[j];                                                  \
      if (from + j == 0 || (IS_BETTER)) old = x, where = from + j;                   \
      best->member[j] = old;                                                         \
      place[j] = where;                                                              \
    }                                                                                \
  }
RUNNING(largest_f32, float, f, x != x || (old == old && x >= old))
RUNNING(largest_f64, double, d, x != x || (old == old && x >= old))
RUNNING(largest_i64, int64_t, i, x >= old)
RUNNING(smallest_f32, float, f, x != x || (old == old && x <= old))
RUNNING(smallest_f64, double, d, x != x || (old == old && x <= old))
RUNNING(smallest_i64, int64_t, i, x <= old)

typedef void (*running_step)(int64_t n, int64_t from, const chunk *xs, chunk *best,
                             int64_t *place);

static running_step running_for(bool smallest, moon_dtype compute) {
  static const running_step steps[2][3] = {
    { running_largest_f32, running_largest_f64, running_largest_i64 },
    { running_smallest_f32, running_smallest_f64, running_smallest_i64 },
  };
  return steps[smallest][compute == MOON_F32 ? 0 : compute == MOON_F64 ? 1 : 2];
}

// The state goes from chunk to chunk in the first elements of `best` and `place`.
static void running_line(const scan_job *job, int64_t index) {
  char *data[3];
  chunk x, best;
  int64_t place[CPU_CHUNK] = { 0 }, n;
  moon_dtype dtype = job->arrays[0]->dtype, compute = cpu_compute_dtype(dtype);
  int64_t size = (int64_t)dtype_size(dtype);
  running_step step = running_for(job->flag, compute);
  line_at(job, index, data);
  memset(&best, 0, sizeof best.d[0]);
  for (int64_t i = 0; i < job->length; i += n) {
    n = job->length - i < CPU_CHUNK ? job->length - i : CPU_CHUNK;
    CPU(load_run)(dtype, n, data[0] + i * job->step[0] * size, job->step[0], &x);
    step(n, i, &x, &best, place);
    CPU(store_run)(dtype, n, &best, data[1] + i * job->step[1] * size, job->step[1]);
    CPU(store_run)(MOON_I64, n, place, data[2] + i * job->step[2] * 8, job->step[2]);
    place[0] = place[n - 1];
    if (compute == MOON_F32) best.f[0] = best.f[n - 1];
    else best.i[0] = best.i[n - 1];   // a double's bits too
  }
}

static moon_status running_block(void *context, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) running_line(context, i);
  return MOON_OK;
}

moon_status CPU(running_extreme)(moon_engine *engine, bool smallest, int dim,
                                 const device_array *x, const device_array *values,
                                 const device_array *indices) {
  scan_job job = { .arrays = { x, values, indices }, .flag = smallest };
  if (array_count(x) == 0) return MOON_OK;
  open_lines(&job, 3, dim);
  return cpu_run(engine, job.lines.count, cpu_grain(job.length * 4), running_block, &job);
}

// -- binary search
typedef struct search_job {
  const device_array *sorted, *values, *out;
  bool right;
} search_job;

static const void *element(const device_array *x, int64_t row, int64_t column) {
  return (const char *)x->data +
         (row * x->strides[0] + column * x->strides[1]) * (int64_t)dtype_size(x->dtype);
}

// Whether the element of the line comes before the place of `value`. NaN counts as largest.
static bool before(moon_dtype dtype, const void *at, const void *value, bool right) {
  if (!dtype_is_float(dtype)) {
    int64_t a = dtype_load_int(dtype, at), v = dtype_load_int(dtype, value);
    return right ? a <= v : a < v;
  }
  double a = dtype_load(dtype, at), v = dtype_load(dtype, value);
  if (a != a) return right && v != v;
  return v != v || (right ? a <= v : a < v);
}

static moon_status search_block(void *context, int64_t first, int64_t last) {
  const search_job *job = context;
  int64_t columns = job->values->shape[1], lines = job->sorted->shape[0];
  for (int64_t i = first; i < last; i++) {
    int64_t row = i / columns, low = 0, high = job->sorted->shape[1];
    const void *value = element(job->values, row, i % columns);
    while (low < high) {
      int64_t middle = low + (high - low) / 2;
      const void *at = element(job->sorted, lines == 1 ? 0 : row, middle);
      if (before(job->sorted->dtype, at, value, job->right)) low = middle + 1;
      else high = middle;
    }
    *(int64_t *)(uintptr_t)element(job->out, row, i % columns) = low;
  }
  return MOON_OK;
}

moon_status CPU(searchsorted)(moon_engine *engine, bool right, const device_array *sorted,
                              const device_array *values, const device_array *out) {
  search_job job = { .sorted = sorted, .values = values, .out = out, .right = right };
  return cpu_run(engine, array_count(values), cpu_grain(64), search_block, &job);
}
