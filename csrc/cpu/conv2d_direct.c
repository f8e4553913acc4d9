// Convolution with one channel a group (depthwise, and its gradients): too little work for panels,
// so every output row is summed from rows of planes, tap by tap, in one vector loop each.
#include "cpu/conv2d.h"

#include <string.h>

enum { ROW = 512 };   // columns summed at a time

typedef struct direct_job {
  const conv_patches *patches;
  const conv_weights *weights;
  const conv_target *target;
  int64_t groups;
} direct_job;

static void sum_row_f32(const conv_patches *p, const conv_weights *w, const char *planes,
                        const char *weight, int64_t count, float *row) {
  memset(row, 0, (size_t)count * sizeof(float));
  for (int64_t t = 0; t < p->taps; t++) {
    const float *from = (const float *)planes + p->tap_offset[t];
    float factor;
    CPU(load_run)(w->dtype, 1, weight + w->tap_offset[t] * (int64_t)dtype_size(w->dtype), 1,
                  &factor);
    for (int64_t j = 0; j < count; j++) row[j] += factor * from[j];
  }
}

static void sum_row_f64(const conv_patches *p, const conv_weights *w, const char *planes,
                        const char *weight, int64_t count, double *row) {
  memset(row, 0, (size_t)count * sizeof(double));
  for (int64_t t = 0; t < p->taps; t++) {
    const double *from = (const double *)planes + p->tap_offset[t];
    double factor = ((const double *)weight)[w->tap_offset[t]];
    for (int64_t j = 0; j < count; j++) row[j] += factor * from[j];
  }
}

// Row `r` of a group's result in one image.
static void sum_plane(const direct_job *job, int64_t image, int64_t group, int64_t r) {
  const conv_patches *p = job->patches;
  const conv_weights *w = job->weights;
  int64_t size = (int64_t)dtype_size(p->planes->dtype);
  const char *planes = p->planes->data + (image * p->planes->image_stride +
                                          group * p->planes->channel_stride) * size;
  const char *weight = (const char *)w->data + (group * w->group_stride + r * w->row_stride) *
                                                   (int64_t)dtype_size(w->dtype);
  union { float f32[ROW]; double f64[ROW]; } row;
  for (int64_t y = 0; y < p->height; y++)
    for (int64_t x = 0; x < p->width; x += ROW) {
      int64_t count = p->width - x < ROW ? p->width - x : ROW;
      const char *from = planes + (y * p->planes->row_stride + x) * size;
      if (size == 4)
        sum_row_f32(p, w, from, weight, count, row.f32);
      else
        sum_row_f64(p, w, from, weight, count, row.f64);
      CPU(conv_store)(job->target, group, r, 1, (image * p->height + y) * p->width + x, count,
                      &row, ROW);
    }
}

static moon_status sum_planes(void *context, int64_t first, int64_t last) {
  const direct_job *job = context;
  for (int64_t index = first; index < last; index++)
    for (int64_t r = 0; r < job->target->channels; r++)
      sum_plane(job, index / job->groups, index % job->groups, r);
  return MOON_OK;
}

moon_status CPU(conv_direct)(moon_engine *engine, const conv_patches *patches,
                             const conv_weights *weights, const conv_target *target,
                             int64_t groups) {
  direct_job job = { .patches = patches, .weights = weights, .target = target, .groups = groups };
  int64_t work = patches->height * patches->width * patches->taps * target->channels;
  return cpu_run(engine, patches->planes->images * groups, cpu_grain(work), sum_planes, &job);
}
