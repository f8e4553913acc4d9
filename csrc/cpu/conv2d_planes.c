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

typedef char bytes8 __attribute__((vector_size(8), aligned(1), may_alias));
typedef char bytes16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef char bytes64 __attribute__((vector_size(64), aligned(1), may_alias));

// memcpy for rows of an image: short and of one length, so that a call would cost more. The last
// vector overlaps the one before it.
static inline void copy_row(char *target, const char *source, int64_t bytes) {
  int64_t at = 0;
  if (bytes >= 64) {
    for (; at + 64 <= bytes; at += 64)
      *(bytes64 *)(target + at) = *(const bytes64 *)(source + at);
    *(bytes64 *)(target + bytes - 64) = *(const bytes64 *)(source + bytes - 64);
  } else if (bytes >= 16) {
    for (; at + 16 <= bytes; at += 16)
      *(bytes16 *)(target + at) = *(const bytes16 *)(source + at);
    *(bytes16 *)(target + bytes - 16) = *(const bytes16 *)(source + bytes - 16);
  } else if (bytes >= 8) {
    *(bytes8 *)target = *(const bytes8 *)source;
    *(bytes8 *)(target + bytes - 8) = *(const bytes8 *)(source + bytes - 8);
  } else {
    memcpy(target, source, (size_t)bytes);
  }
}

// Columns of a phase that come from the source: target columns first .. last.
typedef struct row_cut { int64_t first, last, source; } row_cut;

static row_cut cut_row(const fill_job *job, int64_t column) {
  int64_t step = job->frame->step[1], width = job->planes->width, size = job->x->shape[3];
  row_cut cut = { .first = column < 0 ? (-column + step - 1) / step : 0,
                  .last = column < size ? (size - column + step - 1) / step : 0 };
  if (cut.first > width) cut.first = width;
  if (cut.last > width) cut.last = width;
  if (cut.last < cut.first) cut.last = cut.first;
  cut.source = column + cut.first * step;
  return cut;
}

// Rows that need no conversion and follow each other; widths that are one vector, as the planes of
// deep layers are, without a branch a row.
static void copy_rows(const fill_job *job, const char *source, int64_t row, int64_t bytes,
                      char *target) {
  const conv_planes *p = job->planes;
  int64_t size = (int64_t)dtype_size(p->dtype), from = job->x->strides[2] * size;
  int64_t to = p->row_stride * size, first = row < 0 ? -row : 0;
  int64_t last = job->x->shape[2] - row < p->height ? job->x->shape[2] - row : p->height;
  if (bytes == 16) {
    for (int64_t i = first; i < last; i++)
      *(bytes16 *)(target + i * to) = *(const bytes16 *)(source + (row + i) * from);
  } else if (bytes == 8) {
    for (int64_t i = first; i < last; i++)
      *(bytes8 *)(target + i * to) = *(const bytes8 *)(source + (row + i) * from);
  } else if (bytes == 64) {
    for (int64_t i = first; i < last; i++)
      *(bytes64 *)(target + i * to) = *(const bytes64 *)(source + (row + i) * from);
  } else {
    for (int64_t i = first; i < last; i++)
      copy_row(target + i * to, source + (row + i) * from, bytes);
  }
}

// One phase of a plane: source rows row, row + step, ... and columns likewise, on zeros.
static void fill_phase(const fill_job *job, const char *source, int64_t row, int64_t column,
                       char *target) {
  const device_array *x = job->x;
  const conv_planes *p = job->planes;
  int64_t size = (int64_t)dtype_size(p->dtype), source_size = (int64_t)dtype_size(x->dtype);
  int64_t step = job->frame->step[0], stride = job->frame->step[1] * x->strides[3];
  row_cut cut = cut_row(job, column);
  bool plain = stride == 1 && x->dtype == p->dtype;
  memset(target, 0, (size_t)(p->phase_stride * size));
  if (plain && step == 1 && cut.last > cut.first) {
    copy_rows(job, source + cut.source * size, row, (cut.last - cut.first) * size,
              target + cut.first * size);
    return;
  }
  for (int64_t i = 0; i < p->height && cut.last > cut.first; i++) {
    int64_t from = row + i * step;
    if (from < 0 || from >= x->shape[2]) continue;
    const char *at = source + (from * x->strides[2] + cut.source * x->strides[3]) * source_size;
    char *to = target + (i * p->row_stride + cut.first) * size;
    if (plain)
      copy_row(to, at, (cut.last - cut.first) * size);
    else
      CPU(load_run)(x->dtype, cut.last - cut.first, at, stride, to);
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
