// The cross entropy slots: log_softmax, then one loss a label (cross_entropy_real.h). The mean
// over labels, or the weighted mean, is the operator's.
#include "cpu/network.h"
#include "cpu/operands.h"

static cross_entropy_job job_of(const cross_entropy_options *options, const device_array *logits) {
  return (cross_entropy_job){ .options = options, .size = logits->shape[1],
                              .inner = logits->shape[2] };
}

static moon_status run(moon_engine *engine, const device_array *logits, cross_entropy_job *job,
                       threads_task task) {
  return cpu_run(engine, logits->shape[0] * logits->shape[2], cpu_grain(logits->shape[1] * 8),
                 task, job);
}

moon_status CPU(cross_entropy_forward)(moon_engine *engine, const cross_entropy_options *options,
                                       const device_array *logits, const device_array *labels,
                                       const device_array *weight, const device_array *losses,
                                       const device_array *logp) {
  MOON_TRY(CPU(softmax_forward)(engine, true, 1, logits, logp));
  operands set = { .engine = engine };
  const device_array *p = CPU(operand_in)(&set, logp), *y = CPU(operand_in)(&set, labels);
  const device_array *w = CPU(operand_in)(&set, weight), *to = CPU(operand_out)(&set, losses);
  if (set.status == MOON_OK) {
    cross_entropy_job job = job_of(options, logits);
    job.logp = p->data;
    job.labels = y->data;
    job.weight = w ? w->data : NULL;
    job.out = to->data;
    set.status = run(engine, logits, &job, NETWORK_TASK_FOR(cross_entropy_losses, p->dtype));
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(cross_entropy_backward)(moon_engine *engine, const cross_entropy_options *options,
                                        const device_array *gradient, const device_array *logp,
                                        const device_array *labels, const device_array *weight,
                                        const device_array *dlogits) {
  operands set = { .engine = engine };
  const device_array *g = CPU(operand_in)(&set, gradient), *p = CPU(operand_in)(&set, logp);
  const device_array *y = CPU(operand_in)(&set, labels), *w = CPU(operand_in)(&set, weight);
  const device_array *to = CPU(operand_out)(&set, dlogits);
  if (set.status == MOON_OK) {
    cross_entropy_job job = job_of(options, logp);
    job.gradient = g->data;
    job.logp = p->data;
    job.labels = y->data;
    job.weight = w ? w->data : NULL;
    job.out = to->data;
    set.status = run(engine, logp, &job, NETWORK_TASK_FOR(cross_entropy_back, p->dtype));
  }
  return CPU(operands_close)(&set);
}
