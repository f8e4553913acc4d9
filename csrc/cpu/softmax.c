// The softmax slots; rows and columns are in softmax_real.h.
#include "cpu/network.h"
#include "cpu/operands.h"

// x, in the order of memory, seen as (outer, size of dim, inner).
static softmax_job job_of(bool log, int dim, const device_array *x, int64_t *outer) {
  softmax_job job = { .log = log, .size = x->ndim > 0 ? x->shape[dim] : 1, .inner = 1 };
  *outer = 1;
  for (int i = 0; i < x->ndim; i++) {
    if (i < dim) *outer *= x->shape[i];
    if (i > dim) job.inner *= x->shape[i];
  }
  job.columns = softmax_block(job.size, job.inner);
  job.blocks = divide_up(job.inner, job.columns);
  return job;
}

static moon_status run(moon_engine *engine, const device_array *x, int64_t outer,
                       softmax_job *job, threads_task task) {
  int64_t columns = minimum(job->inner, job->columns);
  if (array_count(x) == 0) return MOON_OK;
  return cpu_run(engine, outer * job->blocks, cpu_grain(job->size * columns * 4), task, job);
}

moon_status CPU(softmax_forward)(moon_engine *engine, bool log, int dim, const device_array *x,
                                 const device_array *out) {
  operands set = { .engine = engine };
  device_array turned[2];
  dim = CPU(operands_turn)(dim, 2, (const device_array *[]){ x, out }, turned);
  x = &turned[0];
  const device_array *in = CPU(operand_in)(&set, x), *to = CPU(operand_out)(&set, &turned[1]);
  if (set.status == MOON_OK) {
    int64_t outer;
    softmax_job job = job_of(log, dim, x, &outer);
    job.x = in->data;
    job.out = to->data;
    set.status = run(engine, x, outer, &job, NETWORK_TASK_FOR(softmax_blocks, in->dtype));
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(softmax_backward)(moon_engine *engine, bool log, int dim,
                                  const device_array *gradient, const device_array *out,
                                  const device_array *dx) {
  operands set = { .engine = engine };
  device_array turned[3];
  dim = CPU(operands_turn)(dim, 3, (const device_array *[]){ out, gradient, dx }, turned);
  out = &turned[0];
  const device_array *y = CPU(operand_in)(&set, out), *g = CPU(operand_in)(&set, &turned[1]);
  const device_array *to = CPU(operand_out)(&set, &turned[2]);
  if (set.status == MOON_OK) {
    int64_t outer;
    softmax_job job = job_of(log, dim, out, &outer);
    job.x = y->data;
    job.gradient = g->data;
    job.out = to->data;
    set.status = run(engine, out, outer, &job, NETWORK_TASK_FOR(softmax_back_blocks, y->dtype));
  }
  return CPU(operands_close)(&set);
}
