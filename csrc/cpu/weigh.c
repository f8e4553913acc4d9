// The weigh slot: sums over spans of one dimension, which resampling is made of. Seen as
// (outer, size, inner), in the order that x lies in memory; rows of the result are shared out among
// the threads. The loops are in weigh_real.h.
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
