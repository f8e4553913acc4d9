// The local response normalisation slots. Arrays whose channels lie side by side go by pixels,
// others by blocks of their planes (lrn_real.h).
#include "cpu/lrn.h"

#include "cpu/whole.h"

static pixel_rows plane_rows(const device_array *x, int64_t inner) {
  return (pixel_rows){ .data = x ? x->data : NULL, .stride = inner };
}

static void open_pixels(operands *set, lrn_job *job, const device_array *gradient,
                        const device_array *x, const device_array *out) {
  moon_dtype dtype = cpu_stored_dtype(x->dtype);
  job->x = CPU(pixels_in)(set, x, dtype);
  job->gradient = CPU(pixels_in)(set, gradient, dtype);
  job->out = CPU(pixels_out)(set, out, dtype);
}

static void open_planes(operands *set, lrn_job *job, const device_array *gradient,
                        const device_array *x, const device_array *out) {
  moon_dtype dtype = cpu_stored_dtype(x->dtype);
  job->inner = x->shape[2];
  job->blocks = divide_up(job->inner, LRN_COLUMNS);
  job->x = plane_rows(CPU(operand_in_as)(set, x, dtype), job->inner);
  job->gradient = plane_rows(CPU(operand_in_as)(set, gradient, dtype), job->inner);
  job->out = plane_rows(CPU(operand_out_as)(set, out, dtype), job->inner);
}

// Forward where there is no gradient.
static moon_status run(moon_engine *engine, const lrn_options *options,
                       const device_array *gradient, const device_array *x,
                       const device_array *out) {
  if (array_count(x) == 0) return MOON_OK;
  operands set = { .engine = engine };
  bool pixels = CPU(lies_in_pixels)(x);
  int64_t c = x->shape[1];
  lrn_job job = { .engine = engine, .options = options, .channels = c,
                  .before = minimum(options->size / 2, c),
                  .after = minimum((options->size - 1) / 2, c) };
  (pixels ? open_pixels : open_planes)(&set, &job, gradient, x, out);
  if (set.status == MOON_OK && pixels)   // each block of items clears scratch of its own
    set.status = cpu_run(engine, x->shape[0] * x->shape[2], cpu_grain(c),
                         NETWORK_STORED_TASK_FOR(lrn_pixels, cpu_stored_dtype(x->dtype)), &job);
  else if (set.status == MOON_OK)
    set.status = cpu_run(engine, x->shape[0] * job.blocks,
                         cpu_grain(c * minimum(job.inner, LRN_COLUMNS)),
                         NETWORK_STORED_TASK_FOR(lrn_planes, cpu_stored_dtype(x->dtype)), &job);
  return CPU(operands_close)(&set);
}

moon_status CPU(lrn_forward)(moon_engine *engine, const lrn_options *options,
                             const device_array *x, const device_array *out) {
  return run(engine, options, NULL, x, out);
}

moon_status CPU(lrn_backward)(moon_engine *engine, const lrn_options *options,
                              const device_array *gradient, const device_array *x,
                              const device_array *dx) {
  return run(engine, options, gradient, x, dx);
}
