// Depthwise convolutions as an engine (conv_depthwise.h). Several results a channel (o = m * c) go
// through an image that repeats each channel m times.
#include "cpu/conv_depthwise.h"

#include "cpu/lane_bytes.h"

enum { DEPTH_SHARES = 16 };   // of the lines, in the third direction

// Time of one vector's worth of multiply-adds, were they all that counts, to that of an implicit
// product at its best: a load each.
static const double work_cost = 3, pixel_cost = 16;

static bool is_wide(const conv_problem *p) { return p->image->dtype == MOON_F64; }

static bool fits(const moon_engine *engine, const conv_problem *problem) {
  (void)engine;
  return conv_is_depthwise(problem);
}

static double cost(const conv_problem *p) {
  return work_cost * conv_work(p) + pixel_cost * (double)(array_count(p->image) +
                                                          array_count(p->result));
}

static void set_axes(depth_job *job, const conv_problem *p) {
  const conv2d_geometry *g = p->geometry;
  for (int i = 0; i < 2; i++) {
    int64_t image = p->image->shape[2 + i], result = p->result->shape[2 + i];
    job->axes[i] = p->direction == CONV_BACKWARD_INPUT
        ? (depth_axis){ .target = image, .source = result, .phases = g->stride[i], .step = 1,
                        .base = g->padding_before[i], .slope = -g->dilation[i] }
        : (depth_axis){ .target = result, .source = image, .phases = 1, .step = g->stride[i],
                        .base = -g->padding_before[i], .slope = g->dilation[i] };
    job->axes[i].taps = p->weight->shape[2 + i];
  }
}

typedef struct pack_job {
  depth_job *job;
  const device_array *weight;
} pack_job;

static moon_status pack(moon_engine *engine, void *context, void *block) {
  const pack_job *j = context;
  (void)engine;
  j->job->weight = block;
  (j->weight->dtype == MOON_F64 ? CPU(depth_pack_f64) : CPU(depth_pack_f32))(j->job, j->weight);
  return MOON_OK;
}

// First and second direction: packed weights of `bytes`, which only forward may keep.
static moon_status run_lines(depth_job *job, const conv_problem *p, size_t bytes) {
  const device_array *y = job->target;
  const derived_kind kind = { .maker = &CPU(conv_depthwise), .bytes = bytes };
  pack_job context = { .job = job, .weight = p->weight };
  derived_hold weights;
  MOON_TRY(derived_open(job->engine, p->weight, &kind, pack, &context, &weights));
  job->weight = weights.data;
  moon_status status =
      cpu_run(job->engine, y->shape[0] * y->shape[2], cpu_grain(y->shape[3] * job->width),
              is_wide(p) ? CPU(depth_lines_f64) : CPU(depth_lines_f32), job);
  derived_close(job->engine, &weights);
  return status;
}

// Third direction: sums of `bytes` for each share.
static moon_status run_shares(depth_job *job, const conv_problem *p, size_t bytes) {
  int64_t lines = job->target->shape[0] * job->target->shape[2];
  job->share = (lines + DEPTH_SHARES - 1) / DEPTH_SHARES;
  int64_t shares = (lines + job->share - 1) / job->share;
  size_t all;
  MOON_TRY(alloc_product(bytes, (size_t)shares, &all));
  MOON_TRY(alloc_bytes(job->engine, all, &job->partial));
  int64_t grain = cpu_grain(job->share * job->target->shape[3] * job->width);
  moon_status status = cpu_run(job->engine, shares, grain,
                               is_wide(p) ? CPU(depth_shares_f64) : CPU(depth_shares_f32), job);
  if (status == MOON_OK)
    (is_wide(p) ? CPU(depth_add_f64) : CPU(depth_add_f32))(job, shares, p->weight);
  alloc_release(job->engine, job->partial, all);
  return status;
}

// One result a channel.
static moon_status run_single(moon_engine *engine, const conv_problem *p) {
  bool back = p->direction == CONV_BACKWARD_INPUT;
  int64_t lanes = LANE_BYTES / (int64_t)dtype_size(p->image->dtype);
  depth_job job = { .engine = engine, .source = back ? p->result : p->image,
                    .target = back ? p->image : p->result, .finish = p->finish,
                    .channels = p->result->shape[1] };
  job.width = (job.channels + lanes - 1) / lanes * lanes;
  set_axes(&job, p);
  size_t taps, bytes;
  MOON_TRY(alloc_product((size_t)(job.axes[0].taps * job.axes[1].taps), (size_t)job.width, &taps));
  MOON_TRY(alloc_product(taps, dtype_size(p->image->dtype), &bytes));
  return (p->direction == CONV_BACKWARD_WEIGHT ? run_shares : run_lines)(&job, p, bytes);
}

// x (n, c, h, w) as (n, c, m, h, w), each channel m times; r (n, c * m, h, w) likewise.
static void split_channels(const device_array *x, const device_array *r, int64_t m,
                           device_array *x5, device_array *r5) {
  *x5 = *x;
  *r5 = *r;
  x5->ndim = r5->ndim = 5;
  for (int i = 4; i > 2; i--) {
    x5->shape[i] = r5->shape[i] = x->shape[i - 1];
    x5->strides[i] = x->strides[i - 1];
    r5->strides[i] = r->strides[i - 1];
  }
  x5->shape[1] = r5->shape[1] = x->shape[1];
  x5->shape[2] = r5->shape[2] = m;
  x5->strides[2] = 0;
  r5->strides[1] = m;
  r5->strides[2] = 1;
}

static moon_status run_repeated(moon_engine *engine, const conv_problem *p, int64_t m,
                                const device_array *repeated) {
  device_array image, wide;
  split_channels(p->image, repeated, m, &image, &wide);
  bool back = p->direction == CONV_BACKWARD_INPUT;
  if (!back) MOON_TRY(CPU(copy)(engine, &image, &wide));
  conv_problem single = *p;
  single.image = repeated;
  MOON_TRY(run_single(engine, &single));
  if (!back) return MOON_OK;
  image.shape[2] = 1;
  return CPU(reduce)(engine, REDUCE_SUM, &wide, &image);
}

static moon_status run(moon_engine *engine, const conv_problem *p) {
  const device_array *x = p->image;
  int64_t m = p->weight->shape[0] / p->geometry->groups;
  if (m == 1) return run_single(engine, p);
  int64_t shape[4] = { x->shape[0], x->shape[2], x->shape[3], p->weight->shape[0] };
  cpu_temp temp;
  MOON_TRY(CPU(temp_new)(engine, x->dtype, 4, shape, &temp));
  device_array repeated = temp.array;
  const int place[4] = { 0, 3, 1, 2 };   // of n, c, h, w in memory
  for (int i = 0; i < 4; i++) {
    repeated.shape[i] = shape[place[i]];
    repeated.strides[i] = temp.array.strides[place[i]];
  }
  moon_status status = run_repeated(engine, p, m, &repeated);
  CPU(temp_release)(engine, &temp);
  return status;
}

const conv_engine CPU(conv_depthwise) = { "depthwise", fits, cost, run, NULL };
