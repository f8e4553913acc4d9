// Moving elements between arrays: copies with and without a change of dtype, filling, ranges,
// selection, and scratch arrays. A copy of one dtype moves elements by size, and where the two
// arrays run along different dimensions transposes. A cast goes through the compute types.
#include "cpu/transpose.h"

#include <math.h>
#include <string.h>

#include "cpu/words.h"

// -- casts: one loop for each pair of compute types, and one to bool
#define CAST(name, from, to, expression)                                  \
  static void name(int64_t n, void *const *p, const double *attributes) { \
    to *out = p[0];                                                       \
    const from *xs = p[1];                                                \
    (void)attributes;                                                     \
    for (int64_t i = 0; i < n; i++) {                                     \
      const from x = xs[i];                                               \
      out[i] = expression;                                                \
    }                                                                     \
  }

CAST(cast_f32_f64, float, double, x)
CAST(cast_f32_i64, float, int64_t, dtype_to_int(x))
CAST(cast_f64_f32, double, float, (float)x)
CAST(cast_f64_i64, double, int64_t, dtype_to_int(x))
CAST(cast_i64_f32, int64_t, float, (float)x)
CAST(cast_i64_f64, int64_t, double, (double)x)
CAST(cast_f64_half, double, float, dtype_odd_from_double(x))
CAST(cast_i64_half, int64_t, float, dtype_odd_from_int(x))
CAST(cast_f32_f32, float, float, x)
CAST(cast_f64_f64, double, double, x)
CAST(cast_i64_i64, int64_t, int64_t, x)
CAST(cast_f32_bool, float, uint8_t, x != 0)
CAST(cast_f64_bool, double, uint8_t, x != 0)
CAST(cast_i64_bool, int64_t, uint8_t, x != 0)

static cpu_loop cast_loop(moon_dtype from, moon_dtype to) {
  static const cpu_loop to_f32[] = { cast_f32_f32, cast_f64_f32, cast_i64_f32 };
  static const cpu_loop to_half[] = { cast_f32_f32, cast_f64_half, cast_i64_half };
  static const cpu_loop to_f64[] = { cast_f32_f64, cast_f64_f64, cast_i64_f64 };
  static const cpu_loop to_i64[] = { cast_f32_i64, cast_f64_i64, cast_i64_i64 };
  static const cpu_loop to_bool[] = { cast_f32_bool, cast_f64_bool, cast_i64_bool };
  moon_dtype compute = cpu_compute_dtype(from);
  int column = compute == MOON_F32 ? 0 : compute == MOON_F64 ? 1 : 2;
  switch (to) {
    case MOON_F32: return to_f32[column];
    case MOON_F16:
    case MOON_BF16: return to_half[column];
    case MOON_F64: return to_f64[column];
    case MOON_BOOL: return to_bool[column];
    default: return to_i64[column];
  }
}

static moon_status cast(moon_engine *engine, const device_array *x, const device_array *out) {
  moon_dtype target = out->dtype == MOON_BOOL ? MOON_BOOL : cpu_compute_dtype(out->dtype);
  cpu_operand operands[] = { { out, target }, { x, cpu_compute_dtype(x->dtype) } };
  return CPU(elementwise)(engine, 2, operands, cast_loop(x->dtype, out->dtype), NULL);
}

// -- copies of one dtype

static void copy_run(size_t size, int64_t n, const char *source, int64_t from_stride, char *target,
                     int64_t to_stride) {
  if (to_stride == 1) CPU(gather_run)(size, n, source, from_stride, target);
  else if (from_stride == 1) CPU(scatter_run)(size, n, source, target, to_stride);
  else {
    for (int64_t i = 0; i < n; i++)
      memcpy(target + i * to_stride * (int64_t)size, source + i * from_stride * (int64_t)size,
             size);
  }
}

static moon_status copy_block(void *context, int64_t first, int64_t last) {
  const transpose_job *job = context;
  const cpu_walk *walk = &job->walk;
  int64_t at[MOON_MAX_DIMS] = { 0 }, size = (int64_t)job->size;
  int inner = walk->ndim - 1;
  CPU(walk_seek)(walk, first, at);
  while (first < last) {
    int64_t run = walk->shape[inner] - at[inner];
    if (run > last - first) run = last - first;
    copy_run(job->size, run, job->source + cpu_walk_offset(walk, 1, at) * size,
             walk->strides[1][inner], job->target + cpu_walk_offset(walk, 0, at) * size,
             walk->strides[0][inner]);
    cpu_walk_advance(walk, at, run);
    first += run;
  }
  return MOON_OK;
}

moon_status CPU(copy)(moon_engine *engine, const device_array *x, const device_array *out) {
  if (x->dtype != out->dtype) return cast(engine, x, out);
  if (array_is_contiguous(x) && array_is_contiguous(out) && array_count(x) <= CPU_GRAIN) {
    CPU(gather_run)(dtype_size(x->dtype), array_count(x), x->data, 1, out->data);
    return MOON_OK;
  }
  transpose_job job = { .size = dtype_size(x->dtype), .target = out->data, .source = x->data };
  const device_array *arrays[] = { out, x };
  CPU(walk_open)(&job.walk, 2, arrays, true);
  if (job.walk.count == 0) return MOON_OK;
  if (CPU(transpose_fits)(&job)) return CPU(transpose)(engine, &job);
  return cpu_run(engine, job.walk.count, CPU_GRAIN, copy_block, &job);
}

// -- filling
typedef struct fill_job {
  cpu_walk walk;
  const device_array *out;
  size_t size;
  uint64_t element;      // its bytes, in memory order
} fill_job;

static moon_status fill_block(void *context, int64_t first, int64_t last) {
  const fill_job *job = context;
  const cpu_walk *walk = &job->walk;
  _Alignas(64) char buffer[CPU_CHUNK * 8];
  int64_t at[MOON_MAX_DIMS] = { 0 };
  int inner = walk->ndim - 1;
  int64_t most = last - first < CPU_CHUNK ? last - first : CPU_CHUNK;
  CPU(gather_run)(job->size, most, &job->element, 0, buffer);
  CPU(walk_seek)(walk, first, at);
  while (first < last) {
    int64_t run = walk->shape[inner] - at[inner];
    if (run > last - first) run = last - first;
    if (run > most) run = most;
    char *target = (char *)job->out->data + cpu_walk_offset(walk, 0, at) * (int64_t)job->size;
    CPU(scatter_run)(job->size, run, buffer, target, walk->strides[0][inner]);
    cpu_walk_advance(walk, at, run);
    first += run;
  }
  return MOON_OK;
}

static moon_status fill_with(moon_engine *engine, fill_job *job, const device_array *out) {
  job->out = out;
  job->size = dtype_size(out->dtype);
  if (array_is_contiguous(out) && array_count(out) <= CPU_GRAIN) {
    CPU(gather_run)(job->size, array_count(out), &job->element, 0, out->data);
    return MOON_OK;
  }
  CPU(walk_open)(&job->walk, 1, &out, true);
  return cpu_run(engine, job->walk.count, CPU_GRAIN, fill_block, job);
}

moon_status CPU(fill)(moon_engine *engine, double value, const device_array *out) {
  fill_job job = { .element = 0 };
  dtype_store(out->dtype, &job.element, value);
  return fill_with(engine, &job, out);
}

moon_status CPU(fill_int)(moon_engine *engine, int64_t value, const device_array *out) {
  fill_job job = { .element = 0 };
  dtype_store_int(out->dtype, &job.element, value);
  return fill_with(engine, &job, out);
}

// -- ranges
typedef struct arange_job {
  const device_array *out;
  double start, step;
} arange_job;

static moon_status arange_block(void *context, int64_t first, int64_t last) {
  const arange_job *job = context;
  const device_array *out = job->out;
  bool whole = cpu_compute_dtype(out->dtype) == MOON_I64;
  int64_t stride = out->strides[0], size = (int64_t)dtype_size(out->dtype);
  uint64_t start = (uint64_t)dtype_to_int(job->start), step = (uint64_t)dtype_to_int(job->step);
  for (int64_t i = first; i < last; i++) {
    char *element = (char *)out->data + i * stride * size;
    if (whole) dtype_store_int(out->dtype, element, (int64_t)(start + (uint64_t)i * step));
    else dtype_store(out->dtype, element, job->start + (double)i * job->step);
  }
  return MOON_OK;
}

moon_status CPU(arange)(moon_engine *engine, double start, double step, const device_array *out) {
  arange_job job = { .out = out, .start = start, .step = step };
  return cpu_run(engine, out->shape[0], CPU_GRAIN, arange_block, &job);
}

// -- selection: p is out, condition, x, y
#define SELECT(word)                                                                 \
  static void select_##word(int64_t n, void *const *p, const double *attributes) {   \
    word *out = p[0];                                                                \
    const uint8_t *condition = p[1];                                                 \
    const word *x = p[2], *y = p[3];                                                 \
    (void)attributes;                                                                \
    _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {                           \
      const word yes = x[i], no = y[i];                                              \
      out[i] = condition[i] ? yes : no;                                              \
    }                                                                                \
  }
SELECT(word1)
SELECT(word2)
SELECT(word4)
SELECT(word8)

moon_status CPU(select)(moon_engine *engine, const device_array *condition, const device_array *x,
                        const device_array *y, const device_array *out) {
  size_t size = dtype_size(out->dtype);
  cpu_loop loop = size == 1   ? select_word1
                  : size == 2 ? select_word2
                  : size == 4 ? select_word4
                              : select_word8;
  cpu_operand operands[] = { { out, out->dtype }, { condition, MOON_BOOL }, { x, x->dtype },
                             { y, y->dtype } };
  return CPU(elementwise)(engine, 4, operands, loop, NULL);
}

// -- scratch arrays
moon_status CPU(temp_new)(moon_engine *engine, moon_dtype dtype, int ndim, const int64_t *shape,
                          cpu_temp *temp) {
  size_t bytes = dtype_size(dtype);
  device_array array = { .dtype = dtype, .ndim = ndim };
  int64_t stride = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    array.shape[i] = shape[i];
    array.strides[i] = stride;
    stride *= shape[i] > 0 ? shape[i] : 1;
    MOON_TRY(alloc_product(bytes, (size_t)shape[i], &bytes));
  }
  MOON_TRY(alloc_bytes(engine, bytes, &array.data));
  *temp = (cpu_temp){ .array = array, .block = array.data, .bytes = bytes };
  return MOON_OK;
}

moon_status CPU(temp_from)(moon_engine *engine, const device_array *x, moon_dtype dtype,
                           cpu_temp *temp) {
  if (x->dtype == dtype && array_is_contiguous(x)) {
    *temp = (cpu_temp){ .array = *x };
    return MOON_OK;
  }
  MOON_TRY(CPU(temp_new)(engine, dtype, x->ndim, x->shape, temp));
  moon_status status = CPU(copy)(engine, x, &temp->array);
  if (status != MOON_OK) CPU(temp_release)(engine, temp);
  return status;
}

void CPU(temp_release)(moon_engine *engine, cpu_temp *temp) {
  if (temp->block) alloc_release(engine, temp->block, temp->bytes);
  temp->block = NULL;
}
