// Copying lines of an image into planes. See bfloat_planes.h.
#include "cpu/bfloat_planes.h"

#include <string.h>

#include "cpu/bfloat.h"
#include "cpu/whole.h"

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

// -- the plan

static void place_tap(const conv_tap *from, const int64_t *step, bfloat_tap *tap) {
  const int64_t away[2] = { from->down, from->across };
  for (int axis = 0; axis < 2; axis++) {
    tap->shift[axis] = floor_divide(away[axis], step[axis]);
    tap->phase[axis] = away[axis] - tap->shift[axis] * step[axis];
  }
}

// Numbers a tap's plane, by the first tap of the same phases.
static void number_plane(bfloat_planes *p, int64_t index) {
  bfloat_tap *tap = &p->tap[index];
  for (int64_t t = 0; t < index; t++) {
    if (memcmp(p->tap[t].phase, tap->phase, sizeof tap->phase) != 0) continue;
    tap->plane = p->tap[t].plane;
    return;
  }
  tap->plane = p->count++;
  tap->first = true;
}

moon_status CPU(bfloat_planes_open)(const conv_product *product, int64_t span, bfloat_planes *p) {
  int64_t high[2] = { 0 };
  void *taps;
  *p = (bfloat_planes){ .source = product->source, .depth = product->depth, .span = span,
                        .step = { product->step[0], product->step[1] },
                        .pitch = bfloat_steps(span * product->depth) * AMX_DEPTH,
                        .taps = product->taps / span };
  MOON_TRY(alloc_new((size_t)p->taps * sizeof *p->tap, &taps));
  p->tap = taps;
  for (int64_t t = 0; t < p->taps; t++) {
    place_tap(&product->tap[t * span], p->step, &p->tap[t]);
    number_plane(p, t);
    for (int axis = 0; axis < 2; axis++) {
      int64_t shift = p->tap[t].shift[axis];
      p->low[axis] = t > 0 ? minimum(p->low[axis], shift) : shift;
      high[axis] = t > 0 ? maximum(high[axis], shift) : shift;
    }
  }
  for (int axis = 0; axis < 2; axis++) {
    p->reach[axis] = high[axis] - p->low[axis];
    for (int64_t t = 0; t < p->taps; t++) p->tap[t].shift[axis] -= p->low[axis];
  }
  p->width = product->width + p->reach[1];
  return MOON_OK;
}

// -- filling

// What of `span` pixels from column `at` on lies in the image, zeros round it.
static void copy_pixel(const bfloat_planes *p, const uint16_t *line, int64_t at, uint16_t *to) {
  const int64_t stride = p->source->strides[3], columns = p->source->shape[3];
  int64_t first = maximum(0, -at), last = minimum(p->span, columns - at);
  if (first >= last) {
    memset(to, 0, (size_t)p->pitch * sizeof *to);
    return;
  }
  int64_t begin = first * p->depth, end = last * p->depth;
  memset(to, 0, (size_t)begin * sizeof *to);
  memcpy(to + begin, line + (at + first) * stride, (size_t)(end - begin) * sizeof *to);
  memset(to + end, 0, (size_t)(p->pitch - end) * sizeof *to);
}

// A line of a plane whose pixels begin `phase` to the right of whole steps.
static void fill_line(const bfloat_planes *p, const uint16_t *line, int64_t phase, uint16_t *to) {
  const int64_t columns = p->source->shape[3], step = p->step[1];
  const size_t pixel = (size_t)p->pitch * sizeof *to;
  int64_t at = p->low[1] * step + phase, left = p->width;
  bool dense = step == 1 && p->pitch == p->depth && p->source->strides[3] == p->pitch;
  for (; left > 0 && at < 0; left--, at += step, to += p->pitch) copy_pixel(p, line, at, to);
  if (dense && at < columns && left > 0) {
    int64_t run = minimum(left, columns - at);
    memcpy(to, line + at * p->pitch, (size_t)run * pixel);
    left -= run, at += run, to += run * p->pitch;
  }
  for (; left > 0 && at + p->span <= columns; left--, at += step, to += p->pitch) {
    memcpy(to, line + at * p->source->strides[3], (size_t)(p->span * p->depth) * sizeof *to);
    for (int64_t k = p->span * p->depth; k < p->pitch; k++) to[k] = 0;
  }
  for (; left > 0 && at < columns; left--, at += step, to += p->pitch) copy_pixel(p, line, at, to);
  memset(to, 0, (size_t)left * pixel);
}

void CPU(bfloat_planes_fill)(const bfloat_planes *p, const bfloat_lines *lines, uint16_t *target) {
  const device_array *x = p->source;
  const uint16_t *image = (const uint16_t *)x->data + lines->image * x->strides[0] +
                          lines->channel * x->strides[1];
  const int64_t length = p->width * p->pitch;
  for (int64_t t = 0; t < p->taps; t++) {
    const bfloat_tap *tap = &p->tap[t];
    if (!tap->first) continue;
    for (int64_t i = 0; i < lines->count + p->reach[0]; i++, target += length) {
      int64_t row = (lines->first + i + p->low[0]) * p->step[0] + tap->phase[0];
      if (row < 0 || row >= x->shape[2]) memset(target, 0, (size_t)length * sizeof *target);
      else fill_line(p, image + row * x->strides[2], tap->phase[1], target);
    }
  }
}
