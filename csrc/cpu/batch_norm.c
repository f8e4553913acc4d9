// The batch normalisation slots; the sums are in batch_norm_real.h. A channel is one item of work.
// Where a channel's runs are short (after a linear layer every run is one element), the array is
// turned round first, so that each channel lies in one piece.
#include "cpu/network.h"
#include "cpu/operands.h"

enum { SHORT_RUN = 16 };

// x as (c, n, inner), a view.
static device_array channels_first(const device_array *x) {
  device_array turned = *x;
  turned.shape[0] = x->shape[1];
  turned.shape[1] = x->shape[0];
  turned.strides[0] = x->strides[1];
  turned.strides[1] = x->strides[0];
  return turned;
}

static bool is_short(const device_array *x) {
  return x->shape[2] < SHORT_RUN && x->shape[0] > 1;
}

static batch_norm_job job_of(const device_array *x) {
  int64_t n = x->shape[0], c = x->shape[1], inner = x->shape[2];
  if (is_short(x))
    return (batch_norm_job){ .rows = 1, .inner = n * inner, .channel_stride = n * inner };
  return (batch_norm_job){ .rows = n, .inner = inner, .row_stride = c * inner,
                           .channel_stride = inner };
}

static const device_array *image_in(operands *set, const device_array *x) {
  device_array turned = channels_first(x);
  return CPU(operand_in)(set, is_short(x) ? &turned : x);
}

// `turned` must outlive the set: scratch is copied back through it.
static const device_array *image_out(operands *set, const device_array *x, device_array *turned) {
  if (!x) return NULL;
  *turned = channels_first(x);
  return CPU(operand_out)(set, is_short(x) ? turned : x);
}

static void *data_of(const device_array *array) { return array ? array->data : NULL; }

static moon_status run(moon_engine *engine, const device_array *x, threads_task task,
                       batch_norm_job *job) {
  return cpu_run(engine, x->shape[1], cpu_grain(x->shape[0] * x->shape[2]), task, job);
}

// Mean and rstd are calculated, or read where they are given.
static moon_status normalise(moon_engine *engine, double epsilon, const device_array *x,
                             const device_array *weight, const device_array *bias,
                             const device_array *mean, const device_array *rstd, bool given,
                             const device_array *out) {
  operands set = { .engine = engine };
  device_array turned;
  const device_array *in = image_in(&set, x), *to = image_out(&set, out, &turned);
  const device_array *w = CPU(operand_in)(&set, weight), *b = CPU(operand_in)(&set, bias);
  const device_array *m = given ? CPU(operand_in)(&set, mean) : CPU(operand_out)(&set, mean);
  const device_array *r = given ? CPU(operand_in)(&set, rstd) : CPU(operand_out)(&set, rstd);
  if (set.status == MOON_OK) {
    batch_norm_job job = job_of(x);
    job.epsilon = epsilon;
    job.x = in->data;
    job.out = to->data;
    job.weight = data_of(w);
    job.bias = data_of(b);
    job.mean = m->data;
    job.rstd = r->data;
    set.status = run(engine, x, given ? NETWORK_TASK_FOR(batch_norm_apply_channels, in->dtype)
                                      : NETWORK_TASK_FOR(batch_norm_channels, in->dtype), &job);
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(batch_norm_forward)(moon_engine *engine, double epsilon, const device_array *x,
                                    const device_array *weight, const device_array *bias,
                                    const device_array *out, const device_array *mean,
                                    const device_array *rstd) {
  return normalise(engine, epsilon, x, weight, bias, mean, rstd, false, out);
}

moon_status CPU(batch_norm_apply)(moon_engine *engine, const device_array *x,
                                  const device_array *weight, const device_array *bias,
                                  const device_array *mean, const device_array *rstd,
                                  const device_array *out) {
  return normalise(engine, 0, x, weight, bias, mean, rstd, true, out);
}

moon_status CPU(batch_norm_backward)(moon_engine *engine, const device_array *gradient,
                                     const device_array *x, const device_array *weight,
                                     const device_array *mean, const device_array *rstd,
                                     const device_array *dx, const device_array *dweight,
                                     const device_array *dbias) {
  operands set = { .engine = engine };
  device_array turned;
  const device_array *g = image_in(&set, gradient), *in = image_in(&set, x);
  const device_array *to = image_out(&set, dx, &turned), *w = CPU(operand_in)(&set, weight);
  const device_array *m = CPU(operand_in)(&set, mean), *r = CPU(operand_in)(&set, rstd);
  const device_array *dw = CPU(operand_out)(&set, dweight), *db = CPU(operand_out)(&set, dbias);
  if (set.status == MOON_OK) {
    batch_norm_job job = job_of(x);
    job.gradient = g->data;
    job.x = in->data;
    job.out = data_of(to);
    job.weight = data_of(w);
    job.mean = m->data;
    job.rstd = r->data;
    job.dweight = data_of(dw);
    job.dbias = data_of(db);
    set.status = run(engine, x, NETWORK_TASK_FOR(batch_norm_back_channels, in->dtype), &job);
  }
  return CPU(operands_close)(&set);
}
