// The batch normalisation slots. Arrays whose channels lie side by side go by pixels, in blocks
// that the threads share; others by planes, a channel an item. Where a channel's runs are short
// there (images of a few pixels), the array is turned round first, so that each channel lies in one
// piece.
#include "cpu/batch_norm.h"

#include <math.h>

#include "base/alloc.h"

enum { SHORT_RUN = 16, BLOCK_ELEMENTS = 131072, WIDE_PIXEL = 256 };

// The vectors; arrays not given stay NULL. Statistics are read or written.
static batch_norm_ends open_ends(operands *set, const batch_norm_options *options,
                                 const batch_norm_arrays *a, bool backward) {
  batch_norm_ends ends = { .options = options, .low = -INFINITY, .high = INFINITY };
  const device_array *weight = CPU(operand_in)(set, a->weight);
  const device_array *bias = CPU(operand_in)(set, a->bias);
  bool given = backward || options->constant;
  const device_array *mean = given ? CPU(operand_in)(set, a->mean) : CPU(operand_out)(set, a->mean);
  const device_array *rstd = given ? CPU(operand_in)(set, a->rstd) : CPU(operand_out)(set, a->rstd);
  const device_array *dweight = CPU(operand_out)(set, a->dweight);
  const device_array *dbias = CPU(operand_out)(set, a->dbias);
  if (set->status != MOON_OK) return ends;
  ends.weight = weight ? weight->data : NULL;
  ends.bias = bias ? bias->data : NULL;
  ends.mean = mean->data;
  ends.rstd = rstd->data;
  ends.dweight = dweight ? dweight->data : NULL;
  ends.dbias = dbias ? dbias->data : NULL;
  ends.running_mean = a->running_mean;
  ends.running_var = a->running_var;
  ends.bounded = options->activation != BATCH_NORM_PLAIN;
  if (ends.bounded) ends.low = 0;
  if (options->activation == BATCH_NORM_RELU6) ends.high = 6;
  return ends;
}

// -- by pixels

static bool folds_evenly(const batch_norm_pixels *job, int64_t pixels, int64_t folds) {
  const pixel_rows *rows[] = { &job->x, &job->add, &job->gradient, &job->y, &job->out, &job->dadd };
  if (pixels % folds != 0 || folds * job->channels > WIDE_PIXEL) return false;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (rows[i]->data && rows[i]->stride != job->channels) return false;
  return true;
}

// Folds and blocks, from the shape alone once the arrays are dense.
static void plan(batch_norm_pixels *job, int64_t pixels) {
  pixel_rows *rows[] = { &job->x, &job->add, &job->gradient, &job->y, &job->out, &job->dadd };
  job->folds = 1;
  while (folds_evenly(job, pixels, job->folds * 2)) job->folds *= 2;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) rows[i]->stride *= job->folds;
  job->width = job->channels * job->folds;
  job->pixels = pixels / job->folds;
  job->block = (BLOCK_ELEMENTS + job->width - 1) / job->width;
  job->blocks = (job->pixels + job->block - 1) / job->block;
}

static size_t vector_bytes(const batch_norm_pixels *job) {
  return (size_t)job->width * BATCH_NORM_VECTORS * sizeof(double);
}
static size_t partial_bytes(const batch_norm_pixels *job) {
  return (size_t)job->width * (size_t)job->blocks * 2 * sizeof(double);
}

static moon_status open_pixels(operands *set, const batch_norm_options *options,
                               const batch_norm_arrays *a, bool backward, batch_norm_pixels *job) {
  moon_dtype dtype = cpu_stored_dtype(a->x->dtype);
  *job = (batch_norm_pixels){ .engine = set->engine, .channels = a->x->shape[1] };
  job->ends = open_ends(set, options, a, backward);
  job->x = CPU(pixels_in)(set, a->x, dtype);
  job->add = CPU(pixels_in)(set, a->add, dtype);
  job->gradient = CPU(pixels_in)(set, a->gradient, dtype);
  job->y = CPU(pixels_in)(set, backward ? a->out : NULL, dtype);
  job->out = CPU(pixels_out)(set, backward ? a->dx : a->out, dtype);
  job->dadd = CPU(pixels_out)(set, a->dadd, dtype);
  MOON_TRY(set->status);
  plan(job, a->x->shape[0] * a->x->shape[2]);
  MOON_TRY(alloc_bytes(set->engine, partial_bytes(job), (void **)&job->partials));
  return alloc_bytes(set->engine, vector_bytes(job), &job->vectors);
}

static moon_status close_pixels(operands *set, batch_norm_pixels *job, moon_status status) {
  if (job->partials) alloc_release(set->engine, job->partials, partial_bytes(job));
  if (job->vectors) alloc_release(set->engine, job->vectors, vector_bytes(job));
  if (set->status == MOON_OK) set->status = status;
  return CPU(operands_close)(set);
}

static moon_status forward_pixels(moon_engine *engine, const batch_norm_options *options,
                                  const batch_norm_arrays *a) {
  operands set = { .engine = engine };
  moon_dtype dtype = cpu_stored_dtype(a->x->dtype);
  batch_norm_pixels job;
  moon_status status = open_pixels(&set, options, a, false, &job);
  if (status == MOON_OK && options->constant) {
    status = NETWORK_STORED_TASK_FOR(batch_norm_pixels_given, dtype)(&job, 0, 1);
  } else if (status == MOON_OK) {
    status = cpu_run(engine, job.blocks, 1,
                     NETWORK_STORED_TASK_FOR(batch_norm_pixels_moments, dtype), &job);
    if (status == MOON_OK)
      status = NETWORK_STORED_TASK_FOR(batch_norm_pixels_join, dtype)(&job, 0, 1);
  }
  if (status == MOON_OK)
    status = cpu_run(engine, job.blocks, 1, NETWORK_STORED_TASK_FOR(batch_norm_pixels_apply, dtype),
                     &job);
  return close_pixels(&set, &job, status);
}

// Sums first, unless nothing depends on them.
static moon_status backward_sums(moon_engine *engine, moon_dtype dtype, batch_norm_pixels *job) {
  const batch_norm_ends *ends = &job->ends;
  if (ends->options->constant && !ends->dweight && !ends->dbias && !job->dadd.data) return MOON_OK;
  MOON_TRY(cpu_run(engine, job->blocks, 1,
                   NETWORK_STORED_TASK_FOR(batch_norm_pixels_back_sums, dtype), job));
  MOON_TRY(NETWORK_STORED_TASK_FOR(batch_norm_pixels_back_join, dtype)(job, 0, 1));
  if (job->dadd.data) {   // holds what the next pass would calculate again
    job->gradient = job->dadd;
    job->ends.bounded = false;
  }
  return MOON_OK;
}

static moon_status backward_pixels(moon_engine *engine, const batch_norm_options *options,
                                   const batch_norm_arrays *a) {
  operands set = { .engine = engine };
  moon_dtype dtype = cpu_stored_dtype(a->x->dtype);
  batch_norm_pixels job;
  moon_status status = open_pixels(&set, options, a, true, &job);
  if (status == MOON_OK)
    status = NETWORK_STORED_TASK_FOR(batch_norm_pixels_given, dtype)(&job, 0, 1);
  if (status == MOON_OK) status = backward_sums(engine, dtype, &job);
  if (status == MOON_OK && job.out.data)
    status = cpu_run(engine, job.blocks, 1, NETWORK_STORED_TASK_FOR(batch_norm_pixels_back, dtype),
                     &job);
  return close_pixels(&set, &job, status);
}

// -- by planes

static bool is_short(const device_array *x) {
  return x->shape[2] < SHORT_RUN && x->shape[0] > 1;
}

// x as it is worked on: as it is, or as (c, n, inner), a view.
static device_array turned_if_short(const device_array *x) {
  device_array turned = *x;
  if (!is_short(x)) return turned;
  turned.shape[0] = x->shape[1];
  turned.shape[1] = x->shape[0];
  turned.strides[0] = x->strides[1];
  turned.strides[1] = x->strides[0];
  return turned;
}

static const void *plane_in(operands *set, const device_array *x) {
  if (!x) return NULL;
  device_array turned = turned_if_short(x);
  const device_array *in = CPU(operand_in)(set, &turned);
  return in ? in->data : NULL;
}

// `turned` must outlive the set: scratch is copied back through it.
static void *plane_out(operands *set, const device_array *x, device_array *turned) {
  if (!x) return NULL;
  *turned = turned_if_short(x);
  const device_array *to = CPU(operand_out)(set, turned);
  return to ? to->data : NULL;
}

static batch_norm_job planes_of(const device_array *x) {
  int64_t n = x->shape[0], c = x->shape[1], inner = x->shape[2];
  if (is_short(x))
    return (batch_norm_job){ .rows = 1, .inner = n * inner, .channel_stride = n * inner };
  return (batch_norm_job){ .rows = n, .inner = inner, .row_stride = c * inner,
                           .channel_stride = inner };
}

static moon_status run_planes(moon_engine *engine, const batch_norm_options *options,
                              const batch_norm_arrays *a, bool backward, threads_task task) {
  operands set = { .engine = engine };
  device_array turned[2];
  batch_norm_job job = planes_of(a->x);
  job.ends = open_ends(&set, options, a, backward);
  job.x = plane_in(&set, a->x);
  job.add = plane_in(&set, a->add);
  job.gradient = plane_in(&set, a->gradient);
  job.y = plane_in(&set, backward ? a->out : NULL);
  job.out = plane_out(&set, backward ? a->dx : a->out, &turned[0]);
  job.dadd = plane_out(&set, a->dadd, &turned[1]);
  if (set.status == MOON_OK)
    set.status = cpu_run(engine, a->x->shape[1], cpu_grain(a->x->shape[0] * a->x->shape[2]), task,
                         &job);
  return CPU(operands_close)(&set);
}

// -- the slots

static bool goes_by_pixels(const batch_norm_arrays *a) {
  return array_count(a->x) > 0 && CPU(lies_in_pixels)(a->x);
}

moon_status CPU(batch_norm_forward)(moon_engine *engine, const batch_norm_options *options,
                                    const batch_norm_arrays *a) {
  if (goes_by_pixels(a)) return forward_pixels(engine, options, a);
  return run_planes(engine, options, a, false,
                    options->constant ? NETWORK_TASK_FOR(batch_norm_apply_channels, a->x->dtype)
                                      : NETWORK_TASK_FOR(batch_norm_channels, a->x->dtype));
}

moon_status CPU(batch_norm_backward)(moon_engine *engine, const batch_norm_options *options,
                                     const batch_norm_arrays *a) {
  if (goes_by_pixels(a)) return backward_pixels(engine, options, a);
  return run_planes(engine, options, a, true,
                    NETWORK_TASK_FOR(batch_norm_back_channels, a->x->dtype));
}
