// The local response normalisation slots. Arrays whose channels lie side by side go by pixels
// (lrn_pixels_real.h); others by blocks of their planes (lrn_real.h).
#include "cpu/network.h"

// By pixels; forward where there is no gradient.
static moon_status run_pixels(moon_engine *engine, const lrn_options *options,
                              const device_array *gradient, const device_array *x,
                              const device_array *out) {
  operands set = { .engine = engine };
  moon_dtype dtype = cpu_stored_dtype(x->dtype);
  int64_t c = x->shape[1], before = options->size / 2, after = (options->size - 1) / 2;
  lrn_pixels job = { .engine = engine, .options = options, .channels = c,
                     .before = before < c ? before : c, .after = after < c ? after : c };
  job.x = CPU(pixels_in)(&set, x, dtype);
  job.gradient = CPU(pixels_in)(&set, gradient, dtype);
  job.out = CPU(pixels_out)(&set, out, dtype);
  if (set.status == MOON_OK)
    set.status = cpu_run(engine, x->shape[0] * x->shape[2],
                         cpu_grain(c),   // each block clears scratch of its own
                         gradient ? NETWORK_STORED_TASK_FOR(lrn_pixels_backward, dtype)
                                  : NETWORK_STORED_TASK_FOR(lrn_pixels_forward, dtype), &job);
  return CPU(operands_close)(&set);
}

static moon_status run_planes(moon_engine *engine, const lrn_options *options,
                              const device_array *gradient, const device_array *x,
                              const device_array *out) {
  operands set = { .engine = engine };
  const device_array *g = CPU(operand_in)(&set, gradient), *in = CPU(operand_in)(&set, x);
  const device_array *to = CPU(operand_out)(&set, out);
  if (set.status == MOON_OK) {
    int64_t inner = x->shape[2], columns = inner < LRN_COLUMNS ? inner : LRN_COLUMNS;
    int64_t window = options->size < x->shape[1] ? options->size : x->shape[1];
    lrn_job job = { .engine = engine, .options = options, .channels = x->shape[1],
                    .inner = inner, .blocks = (inner + LRN_COLUMNS - 1) / LRN_COLUMNS,
                    .gradient = g ? g->data : NULL, .x = in->data, .out = to->data };
    set.status = cpu_run(engine, x->shape[0] * job.blocks,
                         cpu_grain(job.channels * columns * (window + 4)),
                         gradient ? NETWORK_TASK_FOR(lrn_back_blocks, in->dtype)
                                  : NETWORK_TASK_FOR(lrn_blocks, in->dtype), &job);
  }
  return CPU(operands_close)(&set);
}

static moon_status run(moon_engine *engine, const lrn_options *options,
                       const device_array *gradient, const device_array *x,
                       const device_array *out) {
  if (array_count(x) == 0) return MOON_OK;
  return (CPU(lies_in_pixels)(x) ? run_pixels : run_planes)(engine, options, gradient, x, out);
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
