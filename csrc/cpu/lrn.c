// The local response normalisation slots. Arrays whose channels lie side by side go by pixels
// (lrn_pixels_real.h); others by blocks of their planes (lrn_real.h).
#include "cpu/network.h"

static lrn_job job_of(moon_engine *engine, const lrn_options *options, const device_array *x) {
  return (lrn_job){ .engine = engine, .options = options, .channels = x->shape[1],
                    .inner = x->shape[2],
                    .blocks = (x->shape[2] + LRN_COLUMNS - 1) / LRN_COLUMNS };
}

static moon_status run(moon_engine *engine, const device_array *x, lrn_job *job,
                       threads_task task) {
  int64_t columns = job->inner < LRN_COLUMNS ? job->inner : LRN_COLUMNS;
  int64_t window = job->options->size < job->channels ? job->options->size : job->channels;
  int64_t work = job->channels * columns * (window + 4);
  if (array_count(x) == 0) return MOON_OK;
  return cpu_run(engine, x->shape[0] * job->blocks, cpu_grain(work), task, job);
}

// A window of `size` channels, of which `before` lie in front of the channel it belongs to, by
// pixels; `scale` is written forward and read backward, where there is a gradient.
static moon_status run_pixels(moon_engine *engine, const lrn_options *options, int64_t before,
                              const device_array *x, const device_array *gradient,
                              const device_array *scale, const device_array *out) {
  operands set = { .engine = engine };
  moon_dtype dtype = cpu_stored_dtype(x->dtype);
  int64_t c = x->shape[1], after = options->size - 1 - before;
  lrn_pixels job = { .engine = engine, .options = options, .channels = c,
                     .before = before < c ? before : c, .after = after < c ? after : c };
  job.x = CPU(pixels_in)(&set, x, dtype);
  job.gradient = CPU(pixels_in)(&set, gradient, dtype);
  moon_dtype wide = cpu_compute_dtype(x->dtype);
  job.scale = gradient ? CPU(pixels_in)(&set, scale, wide) : CPU(pixels_out)(&set, scale, wide);
  job.out = CPU(pixels_out)(&set, out, dtype);
  if (set.status == MOON_OK)
    set.status = cpu_run(engine, x->shape[0] * x->shape[2],
                         cpu_grain(c * (job.before + job.after + 5)),
                         gradient ? NETWORK_STORED_TASK_FOR(lrn_pixels_backward, dtype)
                                  : NETWORK_STORED_TASK_FOR(lrn_pixels_forward, dtype), &job);
  return CPU(operands_close)(&set);
}

moon_status CPU(lrn_forward)(moon_engine *engine, const lrn_options *options,
                             const device_array *x, const device_array *out,
                             const device_array *scale) {
  if (CPU(lies_in_pixels)(x))
    return run_pixels(engine, options, options->size / 2, x, NULL, scale, out);
  operands set = { .engine = engine };
  const device_array *in = CPU(operand_in)(&set, x), *to = CPU(operand_out)(&set, out);
  const device_array *s = CPU(operand_out)(&set, scale);
  if (set.status == MOON_OK) {
    lrn_job job = job_of(engine, options, x);
    job.x = in->data;
    job.out = to->data;
    job.scale = s->data;
    set.status = run(engine, x, &job, NETWORK_TASK_FOR(lrn_blocks, in->dtype));
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(lrn_backward)(moon_engine *engine, const lrn_options *options,
                              const device_array *gradient, const device_array *x,
                              const device_array *scale, const device_array *dx) {
  if (CPU(lies_in_pixels)(x))
    return run_pixels(engine, options, (options->size - 1) / 2, x, gradient, scale, dx);
  operands set = { .engine = engine };
  const device_array *g = CPU(operand_in)(&set, gradient), *in = CPU(operand_in)(&set, x);
  const device_array *s = CPU(operand_in)(&set, scale), *to = CPU(operand_out)(&set, dx);
  if (set.status == MOON_OK) {
    lrn_job job = job_of(engine, options, x);
    job.gradient = g->data;
    job.x = in->data;
    job.scale = s->data;
    job.out = to->data;
    set.status = run(engine, x, &job, NETWORK_TASK_FOR(lrn_back_blocks, in->dtype));
  }
  return CPU(operands_close)(&set);
}
