// The engine "packed": each direction describes its patches, weights and target to the product
// engine; images go through in chunks whose padded planes fit the caches.
#include "cpu/conv2d.h"

#include <math.h>

#include "cpu/lane_bytes.h"

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static moon_status run_product(moon_engine *engine, moon_dtype compute,
                               const gemm_problem *problem) {
  return compute == MOON_F64 ? CPU(gemm_f64)(engine, problem) : CPU(gemm_f32)(engine, problem);
}

// Taps: offsets into planes and into the weights, two tables in one block of 2 * taps numbers.
static moon_status taps_new(int64_t taps, int64_t **block) {
  size_t count;
  MOON_TRY(alloc_product((size_t)taps * 2 + 1, sizeof(int64_t), &count));
  void *memory;
  MOON_TRY(alloc_new(count, &memory));
  *block = memory;
  return MOON_OK;
}

// -- forward and backward of the input: positions across, weights on the left

// Reading in place saves packing, but not more than a few rows of weights go by before its
// unaligned reads cost as much: measured on rows of 16 and 32 columns, 10 to 25 % faster up to 64
// rows, no faster at 128. Rows that are not whole vectors lose more than they save.
enum { MOST_ROWS_IN_PLACE = 64 };

static int64_t lanes_of(const conv_patches *patches) {
  return LANE_BYTES / (int64_t)dtype_size(patches->planes->dtype);
}

static bool better_in_place(const conv_patches *patches, const conv_target *target) {
  return patches->width % lanes_of(patches) == 0 && target->channels <= MOST_ROWS_IN_PLACE;
}

static moon_status convolve_in_place(moon_engine *engine, const conv_patches *patches,
                                     const gemm_problem *packed) {
  size_t bytes;
  void *offsets;
  MOON_TRY(alloc_product((size_t)packed->depth + 1, sizeof(int64_t), &bytes));
  MOON_TRY(alloc_bytes(engine, bytes, &offsets));
  CPU(conv_depth_offsets)(patches, offsets);
  gemm_in_place problem = {
    .batch = packed->batch, .rows = packed->rows, .depth = packed->depth,
    .vectors = packed->columns / lanes_of(patches),
    .pack_a = packed->pack_a, .store = packed->store, .a = packed->a, .b = patches,
    .c = packed->c, .depth_offset = offsets, .origin = CPU(conv_origin_of),
  };
  moon_status status = patches->planes->dtype == MOON_F64
                           ? CPU(gemm_in_place_f64)(engine, &problem)
                           : CPU(gemm_in_place_f32)(engine, &problem);
  alloc_release(engine, offsets, bytes);
  return status;
}

// One product over a grid of positions, or the direct form where a group has one channel.
static moon_status convolve(moon_engine *engine, const conv_patches *patches,
                            const conv_weights *weights, const conv_target *target,
                            int64_t groups) {
  if (patches->channels == 1 && groups > 1)
    return CPU(conv_direct)(engine, patches, weights, target, groups);
  // Contiguous weights are a plain matrix.
  gemm_matrix matrix = { .data = weights->data, .dtype = weights->dtype,
                         .batch_stride = weights->group_stride, .stride = weights->row_stride,
                         .depth_stride = 1 };
  gemm_problem problem = {
    .batch = groups, .rows = target->channels,
    .columns = patches->planes->images * patches->height * patches->width,
    .depth = patches->channels * patches->taps,
    .pack_a = CPU(conv_pack_weights), .pack_b = CPU(conv_pack_positions),
    .store = CPU(conv_store), .a = weights, .b = patches, .c = target,
  };
  if (weights->is_matrix) {
    problem.a = &matrix;
    problem.pack_a = weights->dtype == MOON_F64 ? CPU(gemm_pack_f64) : CPU(gemm_pack_f32);
  }
  if (better_in_place(patches, target))
    return convolve_in_place(engine, patches, &problem);
  return run_product(engine, patches->planes->dtype, &problem);
}

// Where a whole plane is read at one tap without gaps, rows need not be told apart.
static void join_rows(conv_patches *patches, conv_target *target) {
  const conv_planes *planes = patches->planes;
  const device_array *out = target->out;
  bool dense = planes->row_stride == patches->width && patches->taps == 1;
  bool out_dense = target->step[0] == 1 && target->step[1] == 1 && target->offset[0] == 0 &&
                   target->offset[1] == 0 && out->strides[2] == patches->width * out->strides[3];
  if (!dense || !out_dense) return;
  patches->width *= patches->height;
  patches->height = 1;
  target->width = patches->width;
  target->height = 1;
}

typedef struct direction {
  const conv2d_geometry *geometry;
  const device_array *source, *weight, *bias, *out;   // bias in the compute type
  moon_dtype compute;
} direction;

static void forward_taps(const direction *d, const conv_frame *frame, const conv_planes *planes,
                         int64_t *in_planes, int64_t *in_weight) {
  const device_array *w = d->weight;
  for (int64_t i = 0; i < w->shape[2]; i++)
    for (int64_t j = 0; j < w->shape[3]; j++) {
      *in_planes++ = CPU(conv_plane_offset)(planes, frame, i * d->geometry->dilation[0],
                                            j * d->geometry->dilation[1]);
      *in_weight++ = i * w->strides[2] + j * w->strides[3];
    }
}

static bool weight_is_matrix(const device_array *w) {
  return w->strides[3] == 1 && w->strides[2] == w->shape[3] &&
         w->strides[1] == w->shape[2] * w->shape[3];
}

static moon_status forward_chunk(moon_engine *engine, const direction *d, const conv_frame *frame,
                                 const conv_planes *planes, int64_t first, int64_t *block) {
  const device_array *w = d->weight, *out = d->out;
  int64_t taps = w->shape[2] * w->shape[3], groups = d->geometry->groups;
  forward_taps(d, frame, planes, block, block + taps);
  conv_patches patches = { .planes = planes, .height = out->shape[2], .width = out->shape[3],
                           .channels = w->shape[1], .taps = taps, .tap_offset = block };
  conv_weights weights = { .data = w->data, .dtype = w->dtype,
                           .group_stride = w->shape[0] / groups * w->strides[0],
                           .row_stride = w->strides[0], .channel_stride = w->strides[1],
                           .taps = taps, .tap_offset = block + taps,
                           .is_matrix = weight_is_matrix(w) };
  conv_target target = { .out = out, .first_image = first, .channels = w->shape[0] / groups,
                         .height = out->shape[2], .width = out->shape[3], .step = { 1, 1 },
                         .bias = d->bias };
  join_rows(&patches, &target);
  return convolve(engine, &patches, &weights, &target, groups);
}

typedef moon_status (*chunk_function)(moon_engine *engine, const direction *d,
                                      const conv_frame *frame, const conv_planes *planes,
                                      int64_t first, int64_t *block);

// Runs `chunk` over the source's images, planes made for each chunk.
static moon_status run_chunks(moon_engine *engine, const direction *d, const conv_frame *frame,
                              chunk_function chunk, int64_t *block) {
  int64_t images = d->source->shape[0], size = CPU(conv_chunk)(d->source, frame, d->compute);
  for (int64_t first = 0; first < images; first += size) {
    conv_planes planes;
    MOON_TRY(CPU(conv_planes_new)(engine, d->source, first, smaller(first + size, images), frame,
                                  d->compute, &planes));
    moon_status status = chunk(engine, d, frame, &planes, first, block);
    CPU(conv_planes_delete)(engine, &planes);
    MOON_TRY(status);
  }
  return MOON_OK;
}

static moon_status run_direction(moon_engine *engine, const direction *d, const conv_frame *frame,
                                 chunk_function chunk) {
  if (array_count(d->out) == 0) return MOON_OK;
  int64_t *block;
  MOON_TRY(taps_new(d->weight->shape[2] * d->weight->shape[3], &block));
  moon_status status = run_chunks(engine, d, frame, chunk, block);
  alloc_delete(block);
  return status;
}

static moon_status run_forward(moon_engine *engine, const conv_problem *p) {
  direction d = { .geometry = p->geometry, .source = p->image, .weight = p->weight,
                  .bias = p->finish->shift, .out = p->result, .compute = p->image->dtype };
  conv_frame frame = CPU(conv_forward_frame)(p->geometry, p->weight, p->result);
  return run_direction(engine, &d, &frame, forward_chunk);
}

// -- backward of the input
//
// Row i * stride + phase of dx takes tap t of row i + shift of the gradient, for every tap with
// (phase + padding - t * dilation) divisible by the stride; shift is the quotient.

static bool tap_shift(const conv2d_geometry *g, int axis, int64_t phase, int64_t tap,
                      int64_t *shift) {
  int64_t at = phase + g->padding_before[axis] - tap * g->dilation[axis];
  if (at % g->stride[axis] != 0) return false;
  *shift = at / g->stride[axis];
  return true;
}

// Rows of dx in a phase.
static int64_t phase_rows(const direction *d, int axis, int64_t phase) {
  int64_t size = d->out->shape[2 + axis], stride = d->geometry->stride[axis];
  return phase < size ? (size - phase + stride - 1) / stride : 0;
}

// The planes of the gradient must hold every row that any phase reads.
static conv_frame backward_frame(const direction *d) {
  conv_frame frame = { .step = { 1, 1 } };
  for (int axis = 0; axis < 2; axis++) {
    int64_t low = 0, high = 0, shift;
    for (int64_t phase = 0; phase < d->geometry->stride[axis]; phase++)
      for (int64_t tap = 0; tap < d->weight->shape[2 + axis]; tap++) {
        if (!tap_shift(d->geometry, axis, phase, tap, &shift)) continue;
        low = smaller(low, shift);
        high = larger(high, phase_rows(d, axis, phase) - 1 + shift);
      }
    frame.before[axis] = -low;
    frame.extent[axis] = high - low + 1;
  }
  return frame;
}

static int64_t backward_taps(const direction *d, const conv_frame *frame,
                             const conv_planes *planes, const int64_t *phase, int64_t *in_planes,
                             int64_t *in_weight) {
  const device_array *w = d->weight;
  int64_t taps = 0, down, across;
  for (int64_t i = 0; i < w->shape[2]; i++) {
    if (!tap_shift(d->geometry, 0, phase[0], i, &down)) continue;
    for (int64_t j = 0; j < w->shape[3]; j++) {
      if (!tap_shift(d->geometry, 1, phase[1], j, &across)) continue;
      in_planes[taps] = (down + frame->before[0]) * planes->row_stride + across +
                        frame->before[1];
      in_weight[taps++] = i * w->strides[2] + j * w->strides[3];
    }
  }
  return taps;
}

static moon_status backward_phase(moon_engine *engine, const direction *d,
                                  const conv_frame *frame, const conv_planes *planes,
                                  int64_t first, const int64_t *phase, int64_t *block) {
  const device_array *w = d->weight;
  const conv2d_geometry *g = d->geometry;
  int64_t *in_weight = block + w->shape[2] * w->shape[3];
  int64_t taps = backward_taps(d, frame, planes, phase, block, in_weight);
  int64_t height = phase_rows(d, 0, phase[0]), width = phase_rows(d, 1, phase[1]);
  conv_patches patches = { .planes = planes, .height = height, .width = width,
                           .channels = w->shape[0] / g->groups, .taps = taps,
                           .tap_offset = block };
  conv_weights weights = { .data = w->data, .dtype = w->dtype,
                           .group_stride = w->shape[0] / g->groups * w->strides[0],
                           .row_stride = w->strides[1], .channel_stride = w->strides[0],
                           .taps = taps, .tap_offset = in_weight };
  conv_target target = { .out = d->out, .first_image = first, .channels = w->shape[1],
                         .height = height, .width = width,
                         .step = { g->stride[0], g->stride[1] },
                         .offset = { phase[0], phase[1] } };
  if (height == 0 || width == 0) return MOON_OK;
  join_rows(&patches, &target);
  return convolve(engine, &patches, &weights, &target, g->groups);
}

static moon_status backward_chunk(moon_engine *engine, const direction *d,
                                  const conv_frame *frame, const conv_planes *planes,
                                  int64_t first, int64_t *block) {
  int64_t phase[2];
  for (phase[0] = 0; phase[0] < d->geometry->stride[0]; phase[0]++)
    for (phase[1] = 0; phase[1] < d->geometry->stride[1]; phase[1]++)
      MOON_TRY(backward_phase(engine, d, frame, planes, first, phase, block));
  return MOON_OK;
}

static moon_status run_backward_input(moon_engine *engine, const conv_problem *p) {
  direction d = { .geometry = p->geometry, .source = p->result, .weight = p->weight,
                  .out = p->image, .compute = p->image->dtype };
  conv_frame frame = backward_frame(&d);
  return run_direction(engine, &d, &frame, backward_chunk);
}

// -- the engine

static bool fits(const moon_engine *engine, const conv_problem *p) {
  (void)engine;
  const conv2d_finish *f = p->finish;
  return !f || (!f->scale && !f->add && f->low == -INFINITY && f->high == INFINITY);
}

static double cost(const conv_problem *p) { return conv_work(p) * 2; }

static moon_status run(moon_engine *engine, const conv_problem *p) {
  switch (p->direction) {
    case CONV_FORWARD: return run_forward(engine, p);
    case CONV_BACKWARD_INPUT: return run_backward_input(engine, p);
    case CONV_BACKWARD_WEIGHT: return CPU(conv_packed_weight)(engine, p);
  }
  return MOON_OK;
}

const conv_engine CPU(conv_packed) = { "packed", fits, cost, run };
