// Joining arrays along a dimension. Where the joined dimension runs through memory, as channels do
// when they lie last, parts are written position by position, so that the result goes out in one
// stream; parts that run along other dimensions are copied one after the other.
#include "cpu/cpu.h"

#include <string.h>

enum { PARTS = CPU_MAX_OPERANDS - 1 };   // written together

typedef struct concat_job {
  cpu_walk walk;                    // without the joined dimension; operand 0: out, then the parts
  int parts;
  size_t size;                      // of an element
  char *data[CPU_MAX_OPERANDS];
  size_t bytes[CPU_MAX_OPERANDS];   // of a part at one position
} concat_job;

// `n` positions along the walk's innermost dimension.
static void join_run(const concat_job *job, const int64_t *at, int64_t n) {
  const cpu_walk *walk = &job->walk;
  int inner = walk->ndim - 1;
  int64_t size = (int64_t)job->size, step[CPU_MAX_OPERANDS];
  char *p[CPU_MAX_OPERANDS];
  for (int k = 0; k <= job->parts; k++) {
    p[k] = job->data[k] + cpu_walk_offset(walk, k, at) * size;
    step[k] = walk->strides[k][inner] * size;
  }
  for (int64_t i = 0; i < n; i++) {
    char *target = p[0] + i * step[0];
    for (int k = 1; k <= job->parts; k++) {
      memcpy(target, p[k] + i * step[k], job->bytes[k]);
      target += job->bytes[k];
    }
  }
}

static moon_status concat_block(void *context, int64_t first, int64_t last) {
  const concat_job *job = context;
  const cpu_walk *walk = &job->walk;
  int64_t at[MOON_MAX_DIMS] = { 0 };
  CPU(walk_seek)(walk, first, at);
  while (first < last) {
    int64_t run = walk->shape[walk->ndim - 1] - at[walk->ndim - 1];
    if (run > last - first) run = last - first;
    join_run(job, at, run);
    cpu_walk_advance(walk, at, run);
    first += run;
  }
  return MOON_OK;
}

static bool runs_along(const device_array *x, int dim) {
  return x->strides[dim] == 1 || x->shape[dim] == 1;
}

// The part of `out` for the next `length` positions of dim, which `out` then lies behind.
static device_array take(device_array *out, int dim, int64_t length) {
  device_array part = *out;
  part.shape[dim] = length;
  out->data = (char *)out->data + length * out->strides[dim] * (int64_t)dtype_size(out->dtype);
  return part;
}

static moon_status join_together(moon_engine *engine, int dim, int count,
                                 const device_array *parts, const device_array *out) {
  const device_array *arrays[CPU_MAX_OPERANDS] = { out };
  concat_job job = { .parts = count, .size = dtype_size(out->dtype), .data = { out->data } };
  int64_t length = 0;
  for (int k = 1; k <= count; k++) {
    arrays[k] = &parts[k - 1];
    job.data[k] = arrays[k]->data;
    job.bytes[k] = (size_t)arrays[k]->shape[dim] * job.size;
    length += arrays[k]->shape[dim];
  }
  CPU(walk_open_without)(&job.walk, count + 1, arrays, 1u << dim, true);
  return cpu_run(engine, job.walk.count, cpu_grain(length), concat_block, &job);
}

moon_status CPU(concat)(moon_engine *engine, int dim, int count, const device_array *parts,
                        const device_array *out) {
  device_array rest = *out;
  for (int i = 0; i < count;) {
    int together = 0;
    int64_t length = 0;
    while (together < PARTS && i + together < count && out->strides[dim] == 1 &&
           runs_along(&parts[i + together], dim))
      length += parts[i + together++].shape[dim];
    device_array target = take(&rest, dim, together > 1 ? length : parts[i].shape[dim]);
    MOON_TRY(together > 1 ? join_together(engine, dim, together, parts + i, &target)
                          : CPU(copy)(engine, &parts[i], &target));
    i += together > 1 ? together : 1;
  }
  return MOON_OK;
}
