// The cross entropy slots; the loops are in cross_entropy_real.h. The mean over labels, or the
// weighted mean, is the operator's.
#include "cpu/network.h"
#include "cpu/operands.h"

// Where there is one label an image, the images are the inner dimension.
static cross_entropy_job job_of(const cross_entropy_options *options, const device_array *logits) {
  int64_t inner = logits->shape[2] == 1 ? logits->shape[0] : logits->shape[2];
  return (cross_entropy_job){ .options = options, .size = logits->shape[1], .inner = inner };
}

// Where an array of the compute type lies; others go through scratch first.
static class_rows rows_of(const device_array *x) {
  if (!x) return (class_rows){ .data = NULL };
  if (x->shape[2] == 1) return (class_rows){ x->data, 0, x->strides[1], x->strides[0] };
  return (class_rows){ x->data, x->strides[0], x->strides[1], x->strides[2] };
}
static class_rows rows_in(operands *set, const device_array *x) {
  return rows_of(x->dtype == cpu_compute_dtype(x->dtype) ? x : CPU(operand_in)(set, x));
}
static class_rows rows_out(operands *set, const device_array *x) {
  return rows_of(x->dtype == cpu_compute_dtype(x->dtype) ? x : CPU(operand_out)(set, x));
}

static moon_status run(moon_engine *engine, const device_array *logits, cross_entropy_job *job,
                       threads_task task) {
  return cpu_run(engine, logits->shape[0] * logits->shape[2], cpu_grain(logits->shape[1] * 8),
                 task, job);
}

// Whether an array can be read or written as it lies, by pixels or by planes.
static bool fits(const device_array *x, bool pixels) {
  class_rows rows = rows_of(x);
  return !x || (x->dtype == cpu_compute_dtype(x->dtype) && (pixels ? rows.step : rows.inner) == 1);
}

// logp may be NULL.
static void open_forward(operands *set, const device_array *logits, const device_array *logp,
                         cross_entropy_job *job) {
  for (int pixels = 0; pixels < 2; pixels++) {
    if (!fits(logits, pixels) || !fits(logp, pixels)) continue;
    job->pixels = pixels;
    job->logits = rows_of(logits);
    job->logp = rows_of(logp);
    return;
  }
  job->pixels = logits->shape[2] == 1;   // so they lie in scratch
  const device_array *in = CPU(operand_in)(set, logits), *out = CPU(operand_out)(set, logp);
  if (set->status != MOON_OK) return;
  job->logits = rows_of(in);
  job->logp = rows_of(out);
}

moon_status CPU(cross_entropy_forward)(moon_engine *engine, const cross_entropy_options *options,
                                       const device_array *logits, const device_array *labels,
                                       const device_array *weight, const device_array *losses,
                                       const device_array *logp) {
  operands set = { .engine = engine };
  cross_entropy_job job = job_of(options, logits);
  open_forward(&set, logits, logp, &job);
  const device_array *y = CPU(operand_in)(&set, labels), *w = CPU(operand_in)(&set, weight);
  const device_array *to = CPU(operand_out)(&set, losses);
  if (set.status == MOON_OK) {
    job.labels = y->data;
    job.weight = w ? w->data : NULL;
    job.losses = to->data;
    set.status = run(engine, logits, &job, NETWORK_TASK_FOR(cross_entropy_losses, logits->dtype));
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(cross_entropy_backward)(moon_engine *engine, const cross_entropy_options *options,
                                        const device_array *gradient, const device_array *logp,
                                        const device_array *labels, const device_array *weight,
                                        const device_array *dlogits) {
  operands set = { .engine = engine };
  cross_entropy_job job = job_of(options, logp);
  job.logp = rows_in(&set, logp);
  job.dlogits = rows_out(&set, dlogits);
  const device_array *g = CPU(operand_in)(&set, gradient), *y = CPU(operand_in)(&set, labels);
  const device_array *w = CPU(operand_in)(&set, weight);
  if (set.status == MOON_OK) {
    job.gradient = g->data;
    job.labels = y->data;
    job.weight = w ? w->data : NULL;
    set.status = run(engine, logp, &job, NETWORK_TASK_FOR(cross_entropy_back, logp->dtype));
  }
  return CPU(operands_close)(&set);
}
