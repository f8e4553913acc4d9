// The weigh slots: sums over spans of one dimension or two, which resampling is made of. Seen as
// (outer, size, inner), in the order that x lies in memory; rows of the result are shared out among
// the threads. The loops are in weigh_real.h and weigh_planes_real.h.
#include "base/alloc.h"
#include "cpu/network.h"
#include "cpu/operands.h"

static weigh_job job_of(int dim, const device_array *x, const device_array *spans,
                        const device_array *weights, const device_array *out) {
  weigh_job job = { .size = x->shape[dim], .count = out->shape[dim], .inner = 1,
                    .taps = weights->shape[1], .spans = spans->data, .weights = weights->data };
  for (int i = dim + 1; i < x->ndim; i++) job.inner *= x->shape[i];
  return job;
}

moon_status CPU(weigh)(moon_engine *engine, int dim, const device_array *x,
                       const device_array *spans, const device_array *weights,
                       const device_array *out) {
  operands set = { .engine = engine };
  device_array turned[2];
  dim = CPU(operands_turn)(dim, 2, (const device_array *[]){ x, out }, turned);
  x = &turned[0];
  out = &turned[1];
  const device_array *in = CPU(operand_in)(&set, x), *to = CPU(operand_out)(&set, out);
  int64_t elements = array_count(out);
  if (set.status == MOON_OK && elements > 0) {
    weigh_job job = job_of(dim, x, spans, weights, out);
    job.x = in->data;
    job.out = to->data;
    set.status = cpu_run(engine, elements / job.inner, cpu_grain(job.inner * (job.taps + 2)),
                         NETWORK_TASK_FOR(weigh_rows, in->dtype), &job);
  }
  return CPU(operands_close)(&set);
}

// Turns x and out by the order of x's memory if the two dimensions stay neighbours; gives where the
// first has gone.
static int turn_planes(int dim, const device_array *x, const device_array *out,
                       device_array *turned) {
  const device_array *const arrays[] = { x, out };
  int across = CPU(operands_turn)(dim + 1, 2, arrays, turned);
  int down = CPU(operands_turn)(dim, 2, arrays, turned);
  if (across == down + 1) return down;
  turned[0] = *x;
  turned[1] = *out;
  return dim;
}

static moon_status run_planes(weigh_planes_job *job, int64_t rows, moon_dtype dtype) {
  int64_t size = (int64_t)dtype_size(dtype), vectors = job->across.count * size / LANE_BYTES + 1;
  size_t bytes = (size_t)vectors * (size_t)job->across.taps * WEIGH_VECTOR_BYTES;
  int64_t work = job->down.inner * job->down.taps +
                 job->across.count * job->across.inner * (job->across.taps + 2);
  moon_status status = MOON_OK;
  if (job->across.inner == 1) {
    MOON_TRY(alloc_bytes(job->engine, bytes, &job->plan));
    status = NETWORK_TASK_FOR(weigh_plan, dtype)(job, 0, 1);
  }
  if (status == MOON_OK)
    status = cpu_run(job->engine, rows, cpu_grain(work), NETWORK_TASK_FOR(weigh_planes_rows, dtype),
                     job);
  if (job->plan) alloc_release(job->engine, job->plan, bytes);
  return status;
}

moon_status CPU(weigh_planes)(moon_engine *engine, int dim, const device_array *x,
                              const device_array *const tables[4], const device_array *out) {
  operands set = { .engine = engine };
  device_array turned[2];
  dim = turn_planes(dim, x, out, turned);
  x = &turned[0];
  out = &turned[1];
  const device_array *in = CPU(operand_in)(&set, x), *to = CPU(operand_out)(&set, out);
  int64_t elements = array_count(out);
  if (set.status == MOON_OK && elements > 0) {
    weigh_planes_job job = { .engine = engine, .down = job_of(dim, x, tables[0], tables[1], out),
                             .across = job_of(dim + 1, x, tables[2], tables[3], out) };
    job.down.x = in->data;
    job.down.out = to->data;
    set.status = run_planes(&job, elements / (job.across.count * job.across.inner), in->dtype);
  }
  return CPU(operands_close)(&set);
}
