// A convolution, or the gradient of its input, as products of positions and weights.
//
// The gradient of the input is a convolution of the result's gradient with the weights turned
// round: one product for each phase of the stride, so that nothing is multiplied by zeros put
// between. Phases that no tap reaches are zeros.
#include <math.h>

#include "cpu/conv_implicit.h"
#include "cpu/whole.h"

static const conv2d_finish nothing = { .low = -INFINITY, .high = INFINITY };

static moon_status plan_new(const conv_problem *problem, int64_t most, conv_plan *plan) {
  const device_array *w = problem->weight;
  size_t products, taps;
  void *block;
  MOON_TRY(alloc_product((size_t)most + 1, sizeof(conv_product), &products));
  MOON_TRY(alloc_product((size_t)(w->shape[2] * w->shape[3]), sizeof(conv_tap), &taps));
  MOON_TRY(alloc_new(products + taps, &block));
  *plan = (conv_plan){ .problem = problem, .products = block,
                       .taps = (conv_tap *)((char *)block + products) };
  return MOON_OK;
}

static moon_status plan_forward(const conv_problem *problem, conv_plan *plan) {
  const conv2d_geometry *g = problem->geometry;
  const device_array *w = problem->weight, *y = problem->result;
  MOON_TRY(plan_new(problem, 1, plan));
  conv_tap *tap = plan->taps;
  for (int64_t i = 0; i < w->shape[2]; i++)
    for (int64_t j = 0; j < w->shape[3]; j++)
      *tap++ = (conv_tap){ .down = i * g->dilation[0] - g->padding_before[0],
                           .across = j * g->dilation[1] - g->padding_before[1],
                           .weight = i * w->strides[2] + j * w->strides[3] };
  int64_t columns = w->shape[0] / g->groups;
  plan->count = 1;
  plan->products[0] = (conv_product){
    .groups = g->groups, .depth = w->shape[1], .columns = columns,
    .taps = tap - plan->taps, .tap = plan->taps,
    .weights = { .array = w, .group_stride = columns * w->strides[0],
                 .column_stride = w->strides[0], .depth_stride = w->strides[1] },
    .height = y->shape[2], .width = y->shape[3], .step = { g->stride[0], g->stride[1] },
    .out_step = { 1, 1 }, .source = problem->image, .target = y, .finish = problem->finish,
  };
  return MOON_OK;
}

// Row i * stride + phase of the image takes tap t of row i + shift of the gradient, for every tap
// with (phase + padding - t * dilation) divisible by the stride; shift is the quotient.
static bool tap_shift(const conv2d_geometry *g, int axis, int64_t phase, int64_t tap,
                      int64_t *shift) {
  int64_t at = phase + g->padding_before[axis] - tap * g->dilation[axis];
  if (at % g->stride[axis] != 0) return false;
  *shift = at / g->stride[axis];
  return true;
}

static int64_t phases(const conv_problem *p, int axis) {
  return minimum(p->geometry->stride[axis], p->image->shape[2 + axis]);
}

// Phases that some tap reaches.
static int64_t phases_reached(const conv_problem *p, int axis) {
  int64_t reached = 0, shift;
  for (int64_t phase = 0; phase < phases(p, axis); phase++) {
    int64_t tap = 0, taps = p->weight->shape[2 + axis];
    while (tap < taps && !tap_shift(p->geometry, axis, phase, tap, &shift)) tap++;
    reached += tap < taps;
  }
  return reached;
}

static conv_tap *phase_taps(const conv_problem *p, const int64_t *phase, conv_tap *tap) {
  const device_array *w = p->weight;
  int64_t down, across;
  for (int64_t i = 0; i < w->shape[2]; i++) {
    if (!tap_shift(p->geometry, 0, phase[0], i, &down)) continue;
    for (int64_t j = 0; j < w->shape[3]; j++) {
      if (!tap_shift(p->geometry, 1, phase[1], j, &across)) continue;
      *tap++ = (conv_tap){ .down = down, .across = across,
                           .weight = i * w->strides[2] + j * w->strides[3] };
    }
  }
  return tap;
}

// Positions of a phase along an axis.
static int64_t phase_size(const conv_problem *p, int axis, int64_t phase) {
  int64_t stride = p->geometry->stride[axis];
  return (p->image->shape[2 + axis] - phase + stride - 1) / stride;
}

static conv_tap *plan_phase(conv_plan *plan, const int64_t *phase, conv_tap *tap) {
  const conv_problem *problem = plan->problem;
  const conv2d_geometry *g = problem->geometry;
  const device_array *w = problem->weight;
  conv_tap *end = phase_taps(problem, phase, tap);
  int64_t depth = w->shape[0] / g->groups;
  if (end == tap) return end;
  plan->products[plan->count++] = (conv_product){
    .groups = g->groups, .depth = depth, .columns = w->shape[1], .taps = end - tap, .tap = tap,
    .weights = { .array = w, .group_stride = depth * w->strides[0],
                 .column_stride = w->strides[1], .depth_stride = w->strides[0] },
    .height = phase_size(problem, 0, phase[0]), .width = phase_size(problem, 1, phase[1]),
    .step = { 1, 1 }, .out_step = { g->stride[0], g->stride[1] },
    .out_offset = { phase[0], phase[1] }, .source = problem->result, .target = problem->image,
    .finish = &nothing,
  };
  return end;
}

static moon_status plan_backward(const conv_problem *problem, conv_plan *plan) {
  int64_t down = phases(problem, 0), across = phases(problem, 1), phase[2];
  MOON_TRY(plan_new(problem, phases_reached(problem, 0) * phases_reached(problem, 1), plan));
  conv_tap *tap = plan->taps;
  for (phase[0] = 0; phase[0] < down; phase[0]++)
    for (phase[1] = 0; phase[1] < across; phase[1]++) tap = plan_phase(plan, phase, tap);
  plan->gaps = plan->count < down * across;
  return MOON_OK;
}

moon_status CPU(conv_plan_open)(const conv_problem *problem, conv_plan *plan) {
  return problem->direction == CONV_FORWARD ? plan_forward(problem, plan)
                                            : plan_backward(problem, plan);
}
