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

// Whether an array can be read or written as it lies, by pixels or by planes.
static bool fits(const device_array *x, bool pixels) {
  class_rows rows = rows_of(x);
  return !x || (x->dtype == cpu_compute_dtype(x->dtype) && (pixels ? rows.step : rows.inner) == 1);
}

// Gives the rows of what is read and of what is written, which may be NULL.
static void open_rows(operands *set, const device_array *x, const device_array *out,
                      cross_entropy_job *job, class_rows *from, class_rows *to) {
  bool planes = fits(x, false) && fits(out, false);
  job->pixels = !planes && fits(x, true) && fits(out, true);
  if (!planes && !job->pixels) {
    job->pixels = x->shape[2] == 1;   // so they lie in scratch
    x = CPU(operand_in)(set, x);
    out = CPU(operand_out)(set, out);
    if (set->status != MOON_OK) return;
  }
  *from = rows_of(x);
  *to = rows_of(out);
}

static moon_status run(moon_engine *engine, const device_array *logits, cross_entropy_job *job,
                       threads_task task) {
  int64_t labels = logits->shape[0] * logits->shape[2];
  if (labels == 0) return MOON_OK;
  job->block = softmax_block(job->size, job->inner);
  job->blocks = divide_up(job->inner, job->block);
  return cpu_run(engine, labels / job->inner * job->blocks,
                 cpu_grain(job->size * minimum(job->inner, job->block) * 4), task, job);
}

moon_status CPU(cross_entropy_forward)(moon_engine *engine, const cross_entropy_options *options,
                                       const device_array *logits, const device_array *labels,
                                       const device_array *weight, const device_array *losses,
                                       const device_array *logp) {
  operands set = { .engine = engine };
  cross_entropy_job job = job_of(options, logits);
  open_rows(&set, logits, logp, &job, &job.logits, &job.logp);
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
  open_rows(&set, logp, dlogits, &job, &job.logp, &job.dlogits);
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
