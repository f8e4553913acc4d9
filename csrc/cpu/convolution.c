// The convolution slots: arrays are brought into the engines' form, an engine is chosen and run.
#include "base/threads.h"
#include "cpu/bfloat.h"

#include <math.h>
#include <string.h>

static const conv_engine *const engines[] = {
  &CPU(conv_implicit), &CPU(conv_weight), &CPU(conv_depthwise), &CPU(conv_fft),
  &CPU(conv_col2im), &CPU(conv_planar),
  &CPU(conv_winograd_4x3), &CPU(conv_winograd_2x3), &CPU(conv_winograd_2x5),
};
enum { ENGINES = sizeof engines / sizeof *engines };

// Without channels there is nothing to multiply, which the other engines need not bear.
static const conv_engine *choose(const moon_engine *engine, const conv_problem *problem) {
  const conv_engine *best = NULL;
  double least = 0;
  if (array_count(problem->weight) == 0) return &CPU(conv_implicit);
  if (problem->image->dtype == MOON_BF16) return &CPU(conv_bfloat);
  for (int i = 0; i < ENGINES; i++) {
    if (!engines[i]->fits(engine, problem)) continue;
    if (strcmp(engines[i]->name, engine->conv_engine) == 0) return engines[i];
    double cost = engines[i]->cost(problem);
    if (best && cost >= least) continue;
    best = engines[i];
    least = cost;
  }
  return best;
}

// The type to calculate in. bfloat16 stays where the processor multiplies it, but for groups of so
// few channels that its matrices would be mostly padding.
static moon_dtype compute_of(const device_array *x, const device_array *weight, int64_t groups) {
  enum { FEW_CHANNELS = 16 };
  bool full = array_count(weight) > 0 && (groups == 1 || weight->shape[1] >= FEW_CHANNELS);
  if (x->dtype == MOON_BF16 && full && amx_ready()) return MOON_BF16;
  return x->dtype == MOON_F64 ? MOON_F64 : MOON_F32;
}

// -- arrays in the engines' form

static bool is_ready(const device_array *x, moon_dtype compute) {
  return x->dtype == compute && (x->strides[1] == 1 || x->shape[1] == 1);
}

// x in the engines' form, channels last and without data where it is not so yet.
static device_array form_of(const device_array *x, moon_dtype compute) {
  device_array form = *x;
  if (is_ready(x, compute)) return form;
  form.data = NULL;
  form.dtype = compute;
  int64_t stride = 1;
  static const int place[4] = { 1, 3, 2, 0 };   // c, w, h, n: the innermost first
  for (int i = 0; i < 4; i++) {
    form.strides[place[i]] = stride;
    stride *= x->shape[place[i]];
  }
  return form;
}

// Memory for a form without data; contents undefined.
static moon_status give_memory(moon_engine *engine, cpu_temp *temp) {
  cpu_temp made = { 0 };
  if (temp->array.data) return MOON_OK;
  MOON_TRY(CPU(temp_new)(engine, temp->array.dtype, 4, temp->array.shape, &made));
  temp->block = made.block;
  temp->bytes = made.bytes;
  temp->array.data = made.block;
  return MOON_OK;
}

// The same with the elements of x, whose form it is.
static moon_status fill_form(moon_engine *engine, const device_array *x, cpu_temp *temp) {
  if (temp->array.data) return MOON_OK;
  MOON_TRY(give_memory(engine, temp));
  return CPU(copy)(engine, x, &temp->array);
}

static moon_status ready(moon_engine *engine, const device_array *x, moon_dtype compute,
                         cpu_temp *temp) {
  temp->array = form_of(x, compute);
  return fill_form(engine, x, temp);
}

// The matrix registers' engine takes weights of either type.
static moon_status ready_weight(moon_engine *engine, const device_array *x, moon_dtype compute,
                                bool written, cpu_temp *temp) {
  if (x->dtype != compute && compute != MOON_BF16)
    return written ? CPU(temp_new)(engine, compute, 4, x->shape, temp)
                   : CPU(temp_from)(engine, x, compute, temp);
  temp->array = *x;
  return MOON_OK;
}

// The vectors and the addend of a finish in the engines' form.
typedef struct ready_finish {
  cpu_temp scale, shift, add;
  conv2d_finish finish;
} ready_finish;

static moon_status finish_open(moon_engine *engine, const conv2d_finish *given, moon_dtype compute,
                               ready_finish *f) {
  moon_dtype vectors = compute == MOON_BF16 ? MOON_F32 : compute;
  f->finish = (conv2d_finish){ .low = given->low, .high = given->high };
  if (given->scale) {
    MOON_TRY(CPU(temp_from)(engine, given->scale, vectors, &f->scale));
    f->finish.scale = &f->scale.array;
  }
  if (given->shift) {
    MOON_TRY(CPU(temp_from)(engine, given->shift, vectors, &f->shift));
    f->finish.shift = &f->shift.array;
  }
  if (given->add) {
    MOON_TRY(ready(engine, given->add, compute, &f->add));
    f->finish.add = &f->add.array;
  }
  return MOON_OK;
}

static void finish_close(moon_engine *engine, ready_finish *f) {
  CPU(temp_release)(engine, &f->scale);
  CPU(temp_release)(engine, &f->shift);
  CPU(temp_release)(engine, &f->add);
}

// -- the slots

// The three arrays in the engines' form; the one that is written goes back where it belongs.
typedef struct ready_arrays {
  cpu_temp image, weight, result;
} ready_arrays;

// Brings the arrays into form for `chosen`, all but the weight.
static moon_status arrays_open(moon_engine *engine, const conv_problem *given,
                               const conv_engine *chosen, const conv_problem *problem,
                               ready_arrays *r) {
  conv_direction d = given->direction;
  bool any = chosen->reads_any_layout && chosen->reads_any_layout(problem) &&
             given->image->dtype == problem->image->dtype;
  if (any) r->image.array = *given->image;
  else if (d == CONV_BACKWARD_INPUT) MOON_TRY(give_memory(engine, &r->image));
  else MOON_TRY(fill_form(engine, given->image, &r->image));
  return d == CONV_FORWARD ? give_memory(engine, &r->result)
                           : fill_form(engine, given->result, &r->result);
}

static moon_status run_ready(moon_engine *engine, const conv_problem *given, ready_arrays *r) {
  conv_problem problem = { .direction = given->direction, .geometry = given->geometry,
                           .image = &r->image.array, .weight = &r->weight.array,
                           .result = &r->result.array, .finish = given->finish };
  const conv_engine *chosen = choose(engine, &problem);
  if (!threads_inside()) engine_chose(engine, chosen->name);   // a task has no say for the call
  MOON_TRY(arrays_open(engine, given, chosen, &problem, r));
  MOON_TRY(chosen->run(engine, &problem));
  switch (given->direction) {
    case CONV_FORWARD:
      return r->result.block ? CPU(copy)(engine, &r->result.array, given->result) : MOON_OK;
    case CONV_BACKWARD_INPUT:
      return r->image.block ? CPU(copy)(engine, &r->image.array, given->image) : MOON_OK;
    case CONV_BACKWARD_WEIGHT:
      return r->weight.block ? CPU(copy)(engine, &r->weight.array, given->weight) : MOON_OK;
  }
  return MOON_OK;
}

static moon_status run(moon_engine *engine, const conv_problem *given) {
  moon_dtype compute = compute_of(given->image, given->weight, given->geometry->groups);
  ready_arrays arrays = { .image.array = form_of(given->image, compute),
                          .result.array = form_of(given->result, compute) };
  moon_status status = ready_weight(engine, given->weight, compute,
                                    given->direction == CONV_BACKWARD_WEIGHT, &arrays.weight);
  if (status == MOON_OK) status = run_ready(engine, given, &arrays);
  CPU(temp_release)(engine, &arrays.image);
  CPU(temp_release)(engine, &arrays.weight);
  CPU(temp_release)(engine, &arrays.result);
  return status;
}

moon_status CPU(conv2d_engines)(moon_engine *engine, int direction,
                                const conv2d_geometry *geometry, const device_array *image,
                                const device_array *weight, const device_array *result,
                                conv2d_cost *costs, int *count) {
  _Static_assert((int)ENGINES <= (int)CONV2D_MOST_ENGINES, "all engines fit the caller's table");
  const conv2d_finish plain = { .low = -INFINITY, .high = INFINITY };
  conv_problem problem = { .direction = (conv_direction)direction, .geometry = geometry,
                           .image = image, .weight = weight, .result = result };
  if (direction == CONV_FORWARD) problem.finish = &plain;
  for (int i = 0; i < ENGINES; i++) {
    bool fits = image && engines[i]->fits(engine, &problem);
    costs[i] = (conv2d_cost){ engines[i]->name, fits ? engines[i]->cost(&problem) : -1 };
  }
  *count = ENGINES;
  return MOON_OK;
}

moon_status CPU(conv2d_forward)(moon_engine *engine, const conv2d_geometry *geometry,
                                const device_array *x, const device_array *weight,
                                const conv2d_finish *finish, const device_array *out) {
  if (array_count(out) == 0) return MOON_OK;
  ready_finish own = { 0 };
  conv_problem problem = { .direction = CONV_FORWARD, .geometry = geometry, .image = x,
                           .weight = weight, .result = out, .finish = &own.finish };
  moon_status status = finish_open(engine, finish, compute_of(x, weight, geometry->groups), &own);
  if (status == MOON_OK) status = run(engine, &problem);
  finish_close(engine, &own);
  return status;
}

moon_status CPU(conv2d_backward_input)(moon_engine *engine, const conv2d_geometry *geometry,
                                       const device_array *gradient, const device_array *weight,
                                       const device_array *dx) {
  if (array_count(dx) == 0) return MOON_OK;
  if (array_count(gradient) == 0 || array_count(weight) == 0) return CPU(fill)(engine, 0, dx);
  conv_problem problem = { .direction = CONV_BACKWARD_INPUT, .geometry = geometry, .image = dx,
                           .weight = weight, .result = gradient };
  return run(engine, &problem);
}

moon_status CPU(conv2d_backward_weight)(moon_engine *engine, const conv2d_geometry *geometry,
                                        const device_array *gradient, const device_array *x,
                                        const device_array *dweight) {
  if (array_count(dweight) == 0) return MOON_OK;
  if (array_count(gradient) == 0) return CPU(fill)(engine, 0, dweight);
  conv_problem problem = { .direction = CONV_BACKWARD_WEIGHT, .geometry = geometry, .image = x,
                           .weight = dweight, .result = gradient };
  return run(engine, &problem);
}
