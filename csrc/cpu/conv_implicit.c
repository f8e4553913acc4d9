// The engine "implicit": forward, and the gradient of the input, as products whose rows are
// pointers into the image (conv_implicit.h), for any kernel, stride, dilation and groups.
#include "cpu/conv_implicit.h"

#include <math.h>
#include <string.h>

#include "cpu/micro.h"
#include "cpu/whole.h"

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
  // A tap multiplies where it is outside, too: an image's gradient has more positions than results.
  double work = positions * (double)array_count(w);
  return work * wide * tile_cost + positions * taps * groups * pointer_cost +
         (double)array_count(w) * pack_cost;
}

static moon_status run(moon_engine *engine, const conv_problem *p) {
  conv_plan plan;
  MOON_TRY(CPU(conv_plan_open)(p, &plan));
  moon_status status = run_plan(engine, &plan);
  conv_plan_close(&plan);
  return status;
}

const conv_engine CPU(conv_implicit) = { "implicit", fits, cost, run, CPU(conv_joins) };
