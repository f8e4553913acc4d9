// The engine "implicit": forward, and the gradient of the input, as products whose rows are
// pointers into the image (conv_implicit.h), for any kernel, stride, dilation and groups.
//
// The gradient of the input is a convolution of the result's gradient with the weights turned
// round: one product for each phase of the stride, so that nothing is multiplied by zeros put
// between. Phases that no tap reaches are zeros.
#include "cpu/conv_implicit.h"

#include <math.h>
#include <string.h>

#include "cpu/micro.h"
#include "cpu/whole.h"

static const conv2d_finish nothing = { .low = -INFINITY, .high = INFINITY };

// The products of a problem, with their weights one after the other in a block, zeros at its end.
typedef struct conv_plan {
  const conv_problem *problem;
  conv_product *products;
  conv_tap *taps;                // of all products
  int64_t count;
  bool gaps;                     // some phases have no product
} conv_plan;

// -- plans

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

// -- weights

// Elements of a product's panels; false where they do not fit a size.
static bool panels_size(const conv_product *p, moon_dtype dtype, size_t *elements) {
  int64_t columns = dtype == MOON_F64 ? MICRO_COLUMNS_F64 : MICRO_COLUMNS_F32, rows;
  int64_t padded = (p->columns + columns - 1) / columns * columns, size;
  if (__builtin_mul_overflow(p->taps, p->depth, &rows) ||
      __builtin_mul_overflow(padded, p->groups, &padded) ||
      __builtin_mul_overflow(rows, padded, &size))
    return false;
  *elements = (size_t)size;
  return true;
}

// Zeros behind the panels: as many as a tap is deep, or the joined taps of a kernel's row.
static size_t zeros(const conv_plan *plan) {
  bool joined = CPU(conv_joins)(plan->problem);
  return (size_t)(plan->products[0].depth * (joined ? plan->problem->weight->shape[3] : 1));
}

// Elements of all panels and of the zeros.
static moon_status plan_size(const conv_plan *plan, moon_dtype dtype, size_t *elements) {
  size_t sum = zeros(plan), one = 0;
  for (int64_t i = 0; i < plan->count; i++)
    if (!panels_size(&plan->products[i], dtype, &one) || __builtin_add_overflow(sum, one, &sum))
      return moon_fail(MOON_OUT_OF_MEMORY, "the packed weights do not fit the address space");
  *elements = sum;
  return MOON_OK;
}

// Points the products at their panels in `block`; packs those first where `engine` is given.
static moon_status lay_out(moon_engine *engine, const conv_plan *plan, void *block) {
  moon_dtype dtype = plan->problem->image->dtype;
  char *panels = block;
  for (int64_t i = 0; i < plan->count; i++) {
    conv_product *p = &plan->products[i];
    size_t elements = 0;
    p->panels = panels;
    panels_size(p, dtype, &elements);
    if (engine && dtype == MOON_F64) MOON_TRY(CPU(conv_pack_f64)(engine, p, (double *)panels));
    if (engine && dtype == MOON_F32) MOON_TRY(CPU(conv_pack_f32)(engine, p, (float *)panels));
    panels += elements * dtype_size(dtype);
  }
  for (int64_t i = 0; i < plan->count; i++) plan->products[i].zeros = panels;
  if (engine) memset(panels, 0, zeros(plan) * dtype_size(dtype));
  return MOON_OK;
}

static moon_status pack(moon_engine *engine, void *context, void *block) {
  return lay_out(engine, context, block);
}

static moon_status multiply(moon_engine *engine, conv_plan *plan) {
  moon_dtype dtype = plan->problem->image->dtype;
  conv_joined joined = { 0 };
  moon_status status = MOON_OK;
  if (CPU(conv_joins)(plan->problem))
    status = CPU(conv_join)(engine, plan->problem, plan->products, &joined);
  for (int64_t i = 0; i < plan->count && status == MOON_OK; i++)
    status = (dtype == MOON_F64 ? CPU(conv_multiply_f64) : CPU(conv_multiply_f32))(
        engine, &plan->products[i]);
  CPU(temp_release)(engine, &joined.padded);
  return status;
}

static moon_status run_plan(moon_engine *engine, conv_plan *plan) {
  const conv_problem *p = plan->problem;
  size_t elements = 0, bytes;
  derived_hold weights;
  if (plan->gaps) MOON_TRY(CPU(fill)(engine, 0, p->image));
  if (plan->count == 0) return MOON_OK;
  MOON_TRY(plan_size(plan, p->image->dtype, &elements));
  MOON_TRY(alloc_product(elements, dtype_size(p->image->dtype), &bytes));
  // Only forward may keep panels, which depend on no more than this.
  const derived_kind kind = { .maker = &CPU(conv_implicit), .numbers = { p->geometry->groups },
                              .bytes = bytes };
  MOON_TRY(derived_open(engine, p->weight, &kind, pack, plan, &weights));
  MOON_TRY(lay_out(NULL, plan, weights.data));
  moon_status status = multiply(engine, plan);
  derived_close(engine, &weights);
  return status;
}

// -- the engine

static bool fits(const moon_engine *engine, const conv_problem *p) {
  (void)engine;
  return p->direction != CONV_BACKWARD_WEIGHT;
}

// Tiles multiply whole vectors of columns; a pointer takes the time of some multiply-adds, a packed
// weight of a few. Estimates.
static const double pointer_cost = 50, pack_cost = 16, tile_cost = 1.1;

static double cost(const conv_problem *p) {
  const bool forward = p->direction == CONV_FORWARD;
  const device_array *w = p->weight, *grid = forward ? p->result : p->image;
  const double groups = (double)p->geometry->groups;
  const double taps = (double)(w->shape[2] * (CPU(conv_joins)(p) ? 1 : w->shape[3]));
  int64_t lanes = LANE_BYTES / (int64_t)dtype_size(w->dtype);
  int64_t columns = forward ? w->shape[0] / p->geometry->groups : w->shape[1];
  double wide = (double)((columns + lanes - 1) / lanes * lanes) / (double)columns;
  // Of the image's positions a tap reaches one in stride * stride.
  double reach = forward ? 1 : (double)(p->geometry->stride[0] * p->geometry->stride[1]);
  double positions = (double)(grid->shape[0] * grid->shape[2] * grid->shape[3]) / reach;
  return conv_work(p) * wide * tile_cost + positions * taps * groups * pointer_cost +
         (double)array_count(w) * pack_cost;
}

static moon_status run(moon_engine *engine, const conv_problem *p) {
  conv_plan plan;
  MOON_TRY((p->direction == CONV_FORWARD ? plan_forward : plan_backward)(p, &plan));
  moon_status status = run_plan(engine, &plan);
  alloc_delete(plan.products);
  return status;
}

const conv_engine CPU(conv_implicit) = { "implicit", fits, cost, run, CPU(conv_joins) };
