// Reading and writing at places given by index arrays (int64, from 0, checked by the caller).
// index_select and index_put move whole slices: `rest` walks the dimensions other than the indexed
// one, and the longer contiguous of the two directions runs innermost. gather and scatter go line
// by line. Writes that may meet twice (index_put, scatter) happen in order of the index: threads
// share out the other dimensions only.
#include "cpu/cpu.h"

#include <string.h>

static int64_t magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

// -- runs: target[i] = source[i], or += in the compute type
static void add_run(moon_dtype dtype, int64_t n, const void *source, int64_t from_stride,
                    void *target, int64_t to_stride) {
  union { float f[CPU_CHUNK]; double d[CPU_CHUNK]; int64_t i[CPU_CHUNK]; } x, sum;
  int64_t size = (int64_t)dtype_size(dtype);
  moon_dtype compute = cpu_compute_dtype(dtype);
  while (n > 0) {
    int64_t run = n < CPU_CHUNK ? n : CPU_CHUNK;
    CPU(load_run)(dtype, run, source, from_stride, &x);
    CPU(load_run)(dtype, run, target, to_stride, &sum);
    for (int64_t i = 0; i < run; i++) {
      if (compute == MOON_F32) sum.f[i] += x.f[i];
      else if (compute == MOON_F64) sum.d[i] += x.d[i];
      else sum.i[i] = (int64_t)((uint64_t)sum.i[i] + (uint64_t)x.i[i]);
    }
    CPU(store_run)(dtype, run, &sum, target, to_stride);
    source = (const char *)source + run * from_stride * size;
    target = (char *)target + run * to_stride * size;
    n -= run;
  }
}

// target[index[i]] += source[i], in order; strides in elements.
static void add_points(moon_dtype dtype, int64_t n, const int64_t *index, int64_t index_stride,
                       const void *source, int64_t from_stride, void *target, int64_t to_stride) {
  int64_t size = (int64_t)dtype_size(dtype);
  if (dtype == MOON_F32) {
    const float *from = source;
    float *to = target;
    for (int64_t i = 0; i < n; i++)
      to[index[i * index_stride] * to_stride] += from[i * from_stride];
  } else if (dtype == MOON_F64) {
    const double *from = source;
    double *to = target;
    for (int64_t i = 0; i < n; i++)
      to[index[i * index_stride] * to_stride] += from[i * from_stride];
  } else {
    for (int64_t i = 0; i < n; i++)
      add_run(dtype, 1, (const char *)source + i * from_stride * size, 1,
              (char *)target + index[i * index_stride] * to_stride * size, 1);
  }
}

static void move_run(moon_dtype dtype, int64_t n, const void *source, int64_t from_stride,
                     void *target, int64_t to_stride) {
  size_t size = dtype_size(dtype);
  if (to_stride == 1) CPU(gather_run)(size, n, source, from_stride, target);
  else if (from_stride == 1) CPU(scatter_run)(size, n, source, target, to_stride);
  else {
    for (int64_t i = 0; i < n; i++)
      memcpy((char *)target + i * to_stride * (int64_t)size,
             (const char *)source + i * from_stride * (int64_t)size, size);
  }
}

// -- slices
typedef struct slice_job {
  cpu_walk rest;             // operand 0: the array in index order, 1: the indexed array
  moon_dtype dtype;
  char *ordered, *indexed;   // element (0, ..., 0) of each
  int64_t ordered_stride, indexed_stride;   // along the dimension
  const int64_t *index;
  int64_t index_stride, length;
  int64_t run;               // elements of `rest` moved at once, a divisor of its innermost size
  bool accumulate;
} slice_job;

static void slice_open(slice_job *job, int dim, const device_array *ordered,
                       const device_array *indexed, const device_array *index) {
  const device_array *arrays[] = { ordered, indexed };
  bool scalar = ordered->ndim == 0;
  CPU(walk_open_without)(&job->rest, 2, arrays, scalar ? 0 : 1u << dim, false);
  job->dtype = ordered->dtype;
  job->ordered = ordered->data;
  job->indexed = indexed->data;
  job->ordered_stride = scalar ? 0 : ordered->strides[dim];
  job->indexed_stride = scalar ? 0 : indexed->strides[dim];
  job->index = index->data;
  job->index_stride = index->ndim ? index->strides[0] : 0;
  job->length = array_count(index);
  int inner = job->rest.ndim - 1;
  bool along_rest = magnitude(job->rest.strides[0][inner]) <= magnitude(job->ordered_stride);
  job->run = along_rest ? job->rest.shape[inner] : 1;
}

// Addresses of the elements of rest number `position` at 0 along the dimension.
static void slice_locate(const slice_job *job, int64_t position, char **ordered, char **indexed) {
  int64_t at[MOON_MAX_DIMS] = { 0 }, size = (int64_t)dtype_size(job->dtype);
  CPU(walk_seek)(&job->rest, position, at);
  *ordered = job->ordered + cpu_walk_offset(&job->rest, 0, at) * size;
  *indexed = job->indexed + cpu_walk_offset(&job->rest, 1, at) * size;
}

// Runs of `rest` are the slow direction, places of the index the fast one.
static moon_status select_block(void *context, int64_t first, int64_t last) {
  const slice_job *job = context;
  int inner = job->rest.ndim - 1;
  int64_t size = (int64_t)dtype_size(job->dtype);
  char *out = NULL, *x = NULL;
  for (int64_t item = first; item < last; item++) {
    int64_t i = item % job->length;
    if (item == first || i == 0) slice_locate(job, item / job->length * job->run, &out, &x);
    move_run(job->dtype, job->run,
             x + job->index[i * job->index_stride] * job->indexed_stride * size,
             job->rest.strides[1][inner], out + i * job->ordered_stride * size,
             job->rest.strides[0][inner]);
  }
  return MOON_OK;
}

moon_status CPU(index_select)(moon_engine *engine, int dim, const device_array *x,
                              const device_array *index, const device_array *out) {
  slice_job job = { .accumulate = false };
  slice_open(&job, dim, out, x, index);
  if (job.rest.count == 0 || job.length == 0) return MOON_OK;
  int64_t items = job.rest.count / job.run * job.length;
  return cpu_run(engine, items, cpu_grain(job.run + 8), select_block, &job);
}

enum { PUT_TILE = 256 };   // elements of a run that one item of index_put covers

// Items are tiles of runs; each takes the whole index in order.
static moon_status put_block(void *context, int64_t first, int64_t last) {
  const slice_job *job = context;
  int inner = job->rest.ndim - 1;
  int64_t size = (int64_t)dtype_size(job->dtype), tiles = (job->run + PUT_TILE - 1) / PUT_TILE;
  for (int64_t item = first; item < last; item++) {
    int64_t column = item % tiles * PUT_TILE;
    int64_t n = job->run - column < PUT_TILE ? job->run - column : PUT_TILE;
    char *source, *out;
    slice_locate(job, item / tiles * job->run + column, &source, &out);
    if (job->accumulate && n == 1) {
      add_points(job->dtype, job->length, job->index, job->index_stride, source,
                 job->ordered_stride, out, job->indexed_stride);
      continue;
    }
    for (int64_t i = 0; i < job->length; i++) {
      const char *from = source + i * job->ordered_stride * size;
      char *to = out + job->index[i * job->index_stride] * job->indexed_stride * size;
      if (job->accumulate)
        add_run(job->dtype, n, from, job->rest.strides[0][inner], to, job->rest.strides[1][inner]);
      else
        move_run(job->dtype, n, from, job->rest.strides[0][inner], to,
                 job->rest.strides[1][inner]);
    }
  }
  return MOON_OK;
}

moon_status CPU(index_put)(moon_engine *engine, int dim, bool accumulate,
                           const device_array *index, const device_array *source,
                           const device_array *out) {
  slice_job job = { .accumulate = accumulate };
  slice_open(&job, dim, source, out, index);
  if (job.rest.count == 0 || job.length == 0) return MOON_OK;
  int64_t items = job.rest.count / job.run * ((job.run + PUT_TILE - 1) / PUT_TILE);
  int64_t width = job.run < PUT_TILE ? job.run : PUT_TILE;
  return cpu_run(engine, items, cpu_grain(job.length * width), put_block, &job);
}

// -- single elements
typedef struct point_job {
  cpu_walk lines;            // operand 0: index, 1: the ordered array, 2: the indexed array
  moon_dtype dtype;
  const device_array *index, *ordered, *indexed;
  int64_t length, index_stride, ordered_stride, indexed_stride;
  bool accumulate;
} point_job;

static void point_open(point_job *job, int dim, const device_array *index,
                       const device_array *ordered, const device_array *indexed) {
  const device_array *arrays[] = { index, ordered, indexed };
  bool scalar = index->ndim == 0;
  job->dtype = ordered->dtype;
  job->index = index;
  job->ordered = ordered;
  job->indexed = indexed;
  CPU(walk_open_without)(&job->lines, 3, arrays, scalar ? 0 : 1u << dim, false);
  job->length = scalar ? 1 : index->shape[dim];
  job->index_stride = scalar ? 0 : index->strides[dim];
  job->ordered_stride = scalar ? 0 : ordered->strides[dim];
  job->indexed_stride = scalar ? 0 : indexed->strides[dim];
}

typedef struct point_line { const int64_t *index; char *ordered, *indexed; } point_line;

static point_line line_at(const point_job *job, const int64_t *at) {
  int64_t size = (int64_t)dtype_size(job->dtype);
  return (point_line){
    .index = (const int64_t *)job->index->data + cpu_walk_offset(&job->lines, 0, at),
    .ordered = (char *)job->ordered->data + cpu_walk_offset(&job->lines, 1, at) * size,
    .indexed = (char *)job->indexed->data + cpu_walk_offset(&job->lines, 2, at) * size,
  };
}

static moon_status gather_block(void *context, int64_t first, int64_t last) {
  const point_job *job = context;
  int64_t at[MOON_MAX_DIMS] = { 0 };
  size_t size = dtype_size(job->dtype);
  int64_t to = job->ordered_stride * (int64_t)size, from = job->indexed_stride * (int64_t)size;
  CPU(walk_seek)(&job->lines, first, at);
  for (int64_t k = first; k < last; k++) {
    point_line line = line_at(job, at);
    for (int64_t i = 0; i < job->length; i++)
      memcpy(line.ordered + i * to, line.indexed + line.index[i * job->index_stride] * from, size);
    cpu_walk_advance(&job->lines, at, 1);
  }
  return MOON_OK;
}

moon_status CPU(gather)(moon_engine *engine, int dim, const device_array *x,
                        const device_array *index, const device_array *out) {
  point_job job = { .accumulate = false };
  point_open(&job, dim, index, out, x);
  if (job.length == 0) return MOON_OK;
  return cpu_run(engine, job.lines.count, cpu_grain(job.length), gather_block, &job);
}

static moon_status scatter_block(void *context, int64_t first, int64_t last) {
  const point_job *job = context;
  int64_t at[MOON_MAX_DIMS] = { 0 };
  size_t size = dtype_size(job->dtype);
  int64_t from = job->ordered_stride * (int64_t)size, to = job->indexed_stride * (int64_t)size;
  CPU(walk_seek)(&job->lines, first, at);
  for (int64_t k = first; k < last; k++) {
    point_line line = line_at(job, at);
    if (job->accumulate)
      add_points(job->dtype, job->length, line.index, job->index_stride, line.ordered,
                 job->ordered_stride, line.indexed, job->indexed_stride);
    for (int64_t i = 0; !job->accumulate && i < job->length; i++)
      memcpy(line.indexed + line.index[i * job->index_stride] * to, line.ordered + i * from, size);
    cpu_walk_advance(&job->lines, at, 1);
  }
  return MOON_OK;
}

moon_status CPU(scatter)(moon_engine *engine, int dim, bool accumulate, const device_array *index,
                         const device_array *source, const device_array *out) {
  point_job job = { .accumulate = accumulate };
  point_open(&job, dim, index, source, out);
  if (job.length == 0) return MOON_OK;
  return cpu_run(engine, job.lines.count, cpu_grain(job.length), scatter_block, &job);
}

// -- masks, ranges, counts
moon_status CPU(mask_positions)(moon_engine *engine, const device_array *mask, int64_t *count,
                                const device_array *out) {
  cpu_walk walk;
  uint8_t buffer[CPU_CHUNK];
  int64_t at[MOON_MAX_DIMS] = { 0 }, found = 0;
  (void)engine;
  CPU(walk_open)(&walk, 1, &mask, false);
  for (int64_t i = 0; i < walk.count; i += CPU_CHUNK) {
    int64_t n = walk.count - i < CPU_CHUNK ? walk.count - i : CPU_CHUNK;
    CPU(walk_seek)(&walk, i, at);
    CPU(walk_load)(&walk, 0, MOON_BOOL, MOON_BOOL, mask->data, at, n, buffer);
    if (!out) {
      for (int64_t j = 0; j < n; j++) found += buffer[j] != 0;
      continue;
    }
    int64_t *positions = out->data;
    for (int64_t j = 0; j < n; j++) {
      if (buffer[j]) positions[found++ * out->strides[0]] = i + j;
    }
  }
  *count = found;
  return MOON_OK;
}

moon_status CPU(index_range)(moon_engine *engine, const device_array *index, int64_t *low,
                             int64_t *high) {
  device_array answer = { .dtype = MOON_I64, .ndim = index->ndim };
  for (int i = 0; i < index->ndim; i++) answer.shape[i] = answer.strides[i] = 1;
  *low = 0;
  *high = -1;
  if (array_count(index) == 0) return MOON_OK;
  answer.data = low;
  MOON_TRY(CPU(reduce)(engine, REDUCE_MIN, index, &answer));
  answer.data = high;
  return CPU(reduce)(engine, REDUCE_MAX, index, &answer);
}

moon_status CPU(bincount)(moon_engine *engine, const device_array *x, const device_array *out) {
  const int64_t *values = x->data;
  int64_t *counts = out->data;
  MOON_TRY(CPU(fill_int)(engine, 0, out));
  for (int64_t i = 0; i < x->shape[0]; i++)
    counts[values[i * x->strides[0]] * out->strides[0]]++;
  return MOON_OK;
}
