// Planes for the convolution: a chunk of images with zeros round them, in the compute type, cut
// into phases where there is a stride. One pass over the input, in parallel over channels.
#include "cpu/conv2d.h"

#include <string.h>

enum { CHUNK_BYTES = 16 << 20 };   // padded planes made at a time: about what caches hold

conv_frame CPU(conv_forward_frame)(const conv2d_geometry *g, const device_array *weight,
                                   const device_array *out) {
  conv_frame frame;
  for (int axis = 0; axis < 2; axis++) {
    frame.before[axis] = g->padding_before[axis];
    frame.step[axis] = g->stride[axis];
    frame.extent[axis] = (out->shape[2 + axis] - 1) * g->stride[axis] +
                         (weight->shape[2 + axis] - 1) * g->dilation[axis] + 1;
  }
  return frame;
}

int64_t CPU(conv_plane_offset)(const conv_planes *p, const conv_frame *frame, int64_t row,
                               int64_t column) {
  int64_t phase = row % frame->step[0] * frame->step[1] + column % frame->step[1];
  return phase * p->phase_stride + row / frame->step[0] * p->row_stride +
         column / frame->step[1];
}

static int64_t phase_size(const conv_frame *frame, int axis) {
  return (frame->extent[axis] + frame->step[axis] - 1) / frame->step[axis];
}

static int64_t image_elements(const device_array *x, const conv_frame *frame) {
  return x->shape[1] * frame->step[0] * frame->step[1] * phase_size(frame, 0) *
         phase_size(frame, 1);
}

// Whether patches can be read from the input as it lies.
static bool reads_in_place(const device_array *x, const conv_frame *frame, moon_dtype compute) {
  for (int axis = 0; axis < 2; axis++)
    if (frame->before[axis] != 0 || frame->step[axis] != 1 ||
        frame->extent[axis] > x->shape[2 + axis]) return false;
  return x->dtype == compute && x->strides[3] == 1 && x->strides[2] >= 0 && x->strides[1] >= 0 &&
         x->strides[0] >= 0;
}

int64_t CPU(conv_chunk)(const device_array *x, const conv_frame *frame, moon_dtype compute) {
  if (reads_in_place(x, frame, compute)) return x->shape[0];
  int64_t image = image_elements(x, frame) * (int64_t)dtype_size(compute);
  int64_t images = CHUNK_BYTES / (image > 0 ? image : 1);
  return images < 1 ? 1 : images < x->shape[0] ? images : x->shape[0];
}

typedef struct fill_job {
  const device_array *x;
  const conv_frame *frame;
  const conv_planes *planes;
  int64_t first;   // image
} fill_job;

// One row of a phase: source columns column, column + step, ... under zeros on both sides.
static void fill_row(const fill_job *job, int64_t column, const char *source, char *target) {
  const device_array *x = job->x;
  size_t size = dtype_size(job->planes->dtype);
  int64_t step = job->frame->step[1], width = job->planes->width;
  int64_t left = column < 0 ? (-column + step - 1) / step : 0;
  int64_t right = column < x->shape[3] ? (x->shape[3] - column + step - 1) / step : 0;
  if (left > width) left = width;
  if (right > width) right = width;
  if (right < left) right = left;
  memset(target, 0, (size_t)left * size);
  int64_t from = (column + left * step) * x->strides[3] * (int64_t)dtype_size(x->dtype);
  if (right > left)
    CPU(load_run)(x->dtype, right - left, source + from, step * x->strides[3],
                  target + left * (int64_t)size);
  memset(target + right * (int64_t)size, 0, (size_t)(width - right) * size);
}

static void fill_phase(const fill_job *job, const char *source, int64_t row, int64_t column,
                       char *target) {
  const device_array *x = job->x;
  const conv_planes *p = job->planes;
  int64_t size = (int64_t)dtype_size(p->dtype), step = job->frame->step[0];
  for (int64_t i = 0; i < p->height; i++) {
    int64_t from = row + i * step;
    char *to = target + i * p->row_stride * size;
    if (from < 0 || from >= x->shape[2])
      memset(to, 0, (size_t)(p->width * size));
    else
      fill_row(job, column, source + from * x->strides[2] * (int64_t)dtype_size(x->dtype), to);
  }
}

static moon_status fill_planes(void *context, int64_t first, int64_t last) {
  const fill_job *job = context;
  const conv_planes *p = job->planes;
  const conv_frame *frame = job->frame;
  int64_t size = (int64_t)dtype_size(p->dtype), source_size = (int64_t)dtype_size(job->x->dtype);
  for (int64_t index = first; index < last; index++) {
    int64_t image = index / p->channels, channel = index % p->channels;
    const char *source = (const char *)job->x->data +
                         ((job->first + image) * job->x->strides[0] +
                          channel * job->x->strides[1]) * source_size;
    char *target = (char *)p->block +
                   (image * p->image_stride + channel * p->channel_stride) * size;
    for (int64_t i = 0; i < frame->step[0]; i++)
      for (int64_t j = 0; j < frame->step[1]; j++) {
        fill_phase(job, source, i - frame->before[0], j - frame->before[1], target);
        target += p->phase_stride * size;
      }
  }
  return MOON_OK;
}

static void borrow_planes(const device_array *x, int64_t first, int64_t last,
                          conv_planes *planes) {
  int64_t size = (int64_t)dtype_size(x->dtype), end = 1;
  *planes = (conv_planes){ .data = (const char *)x->data + first * x->strides[0] * size,
                           .dtype = x->dtype, .images = last - first, .channels = x->shape[1],
                           .image_stride = x->strides[0], .channel_stride = x->strides[1],
                           .row_stride = x->strides[2], .height = x->shape[2],
                           .width = x->shape[3] };
  for (int axis = 0; axis < 4; axis++)
    end += ((axis == 0 ? last - first : x->shape[axis]) - 1) * x->strides[axis];
  planes->end = end;
}

moon_status CPU(conv_planes_new)(moon_engine *engine, const device_array *x, int64_t first,
                                 int64_t last, const conv_frame *frame, moon_dtype compute,
                                 conv_planes *planes) {
  if (reads_in_place(x, frame, compute)) {
    borrow_planes(x, first, last, planes);
    return MOON_OK;
  }
  conv_planes p = { .dtype = compute, .images = last - first, .channels = x->shape[1],
                    .height = phase_size(frame, 0), .width = phase_size(frame, 1) };
  p.row_stride = p.width;
  p.phase_stride = p.height * p.width;
  p.channel_stride = p.phase_stride * frame->step[0] * frame->step[1];
  p.image_stride = p.channel_stride * p.channels;
  size_t count, size = dtype_size(compute);
  MOON_TRY(alloc_product((size_t)p.images, (size_t)image_elements(x, frame), &count));
  MOON_TRY(alloc_product(count + GEMM_SLACK, size, &p.bytes));
  MOON_TRY(alloc_bytes(engine, p.bytes, &p.block));
  p.data = p.block;
  p.end = (int64_t)(count + GEMM_SLACK / size);
  fill_job job = { .x = x, .frame = frame, .planes = &p, .first = first };
  moon_status status = cpu_run(engine, p.images * p.channels, cpu_grain(p.channel_stride),
                               fill_planes, &job);
  if (status != MOON_OK) {
    alloc_release(engine, p.block, p.bytes);
    return status;
  }
  *planes = p;
  return MOON_OK;
}

void CPU(conv_planes_delete)(moon_engine *engine, conv_planes *planes) {
  if (planes->block) alloc_release(engine, planes->block, planes->bytes);
  planes->block = NULL;
}
