// Images of few channels: the taps of a kernel's row are joined into one, kernel width * channels
// deep, since pixels of a row lie side by side. That takes an image whose rows have the padding in
// them, for which small images are copied; sums keep their order, and weights their panels.
#include <string.h>

#include "cpu/conv_implicit.h"
#include "cpu/whole.h"

// With more channels a tap is deep enough by itself, and copies are large.
enum { MOST_CHANNELS = 32 };

// Columns of the padded image that the kernel passes over.
static int64_t columns_read(const conv_problem *p) {
  return (p->result->shape[3] - 1) * p->geometry->stride[1] + p->weight->shape[3];
}

bool CPU(conv_joins)(const conv_problem *p) {
  const conv2d_geometry *g = p->geometry;
  return p->direction == CONV_FORWARD && g->groups == 1 && g->dilation[1] == 1 &&
         p->weight->shape[3] > 1 && p->image->shape[1] <= MOST_CHANNELS &&
         g->padding_before[1] >= 0 && columns_read(p) > g->padding_before[1];
}

// Whether the image serves as it is.
static bool is_joined(const conv_problem *p) {
  const device_array *x = p->image;
  return p->geometry->padding_before[1] == 0 && columns_read(p) <= x->shape[3] &&
         x->strides[3] == x->shape[1] && (x->shape[1] == 1 || x->strides[1] == 1);
}

typedef struct border_job {
  char *rows;
  size_t row, before, filled;   // bytes of a row, of its padding in front and of the image in it
} border_job;

static moon_status clear_borders(void *context, int64_t first, int64_t last) {
  const border_job *job = context;
  const size_t after = job->before + job->filled;
  for (int64_t i = first; i < last; i++) {
    char *row = job->rows + (size_t)i * job->row;
    memset(row, 0, job->before);
    memset(row + after, 0, job->row - after);
  }
  return MOON_OK;
}

// Fills `padded` (n, h, width, c), contiguous, with the image from column `before` on.
static moon_status fill_padded(moon_engine *engine, const device_array *image, int64_t before,
                               const device_array *padded) {
  device_array from = *image, to = { .dtype = image->dtype, .ndim = 4 };
  const size_t pixel = (size_t)image->shape[1] * dtype_size(image->dtype);
  from.shape[3] = minimum(image->shape[3], padded->shape[2] - before);
  to.data = (char *)padded->data + (size_t)before * pixel;
  static const int place[4] = { 0, 3, 1, 2 };   // of n, c, h, w in memory
  for (int i = 0; i < 4; i++) {
    to.shape[i] = from.shape[i];
    to.strides[i] = padded->strides[place[i]];
  }
  MOON_TRY(CPU(copy)(engine, &from, &to));
  border_job job = { .rows = padded->data, .row = (size_t)padded->shape[2] * pixel,
                     .before = (size_t)before * pixel, .filled = (size_t)from.shape[3] * pixel };
  return cpu_run(engine, padded->shape[0] * padded->shape[1],
                 cpu_grain(padded->shape[2] * padded->shape[3]), clear_borders, &job);
}

// The image as the joined product's source: pixels of a row side by side.
static moon_status join_source(moon_engine *engine, const conv_problem *p, conv_joined *joined) {
  const device_array *x = p->image;
  joined->source = *x;
  if (is_joined(p)) return MOON_OK;
  const int64_t width = columns_read(p);
  int64_t shape[4] = { x->shape[0], x->shape[2], width, x->shape[1] };
  MOON_TRY(CPU(temp_new)(engine, x->dtype, 4, shape, &joined->padded));
  MOON_TRY(fill_padded(engine, x, p->geometry->padding_before[1], &joined->padded.array));
  device_array *source = &joined->source;
  source->data = joined->padded.array.data;
  source->shape[3] = width;
  source->strides[3] = x->shape[1];
  source->strides[2] = width * x->shape[1];
  source->strides[0] = x->shape[2] * source->strides[2];
  return MOON_OK;
}

moon_status CPU(conv_join)(moon_engine *engine, const conv_problem *p, conv_product *product,
                           conv_joined *joined) {
  const int64_t kernel = p->weight->shape[3];
  MOON_TRY(join_source(engine, p, joined));
  for (int64_t i = 0; i < p->weight->shape[2]; i++) {
    product->tap[i] = product->tap[i * kernel];
    product->tap[i].across = 0;
  }
  product->taps /= kernel;
  product->depth *= kernel;
  product->source = &joined->source;
  return MOON_OK;
}
