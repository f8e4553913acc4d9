// The convolution slots: arrays are brought into the engines' form, an engine is chosen and run.
#include "cpu/convolution.h"

#include <string.h>

static const conv_engine *const engines[] = {
  &CPU(conv_implicit), &CPU(conv_weight), &CPU(conv_depthwise), &CPU(conv_fft),
  &CPU(conv_winograd_4x3), &CPU(conv_winograd_2x3), &CPU(conv_winograd_2x5),
};
enum { ENGINES = sizeof engines / sizeof *engines };

// Without channels there is nothing to multiply, which the other engines need not bear.
static const conv_engine *choose(const moon_engine *engine, const conv_problem *problem) {
  const conv_engine *best = NULL;
  double least = 0;
  if (array_count(problem->weight) == 0) return &CPU(conv_implicit);
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

// -- arrays in the engines' form

static bool is_ready(const device_array *x, moon_dtype compute) {
  return x->dtype == compute && (x->strides[1] == 1 || x->shape[1] == 1);
}

// A channels-last array of x's shape in the compute type: scratch, contents undefined.
static moon_status scratch_like(moon_engine *engine, const device_array *x, moon_dtype compute,
                                cpu_temp *temp) {
  int64_t shape[4] = { x->shape[0], x->shape[2], x->shape[3], x->shape[1] };
  static const int place[4] = { 0, 3, 1, 2 };   // of n, c, h, w in memory
  MOON_TRY(CPU(temp_new)(engine, compute, 4, shape, temp));
  device_array rows = temp->array;
  for (int i = 0; i < 4; i++) {
    temp->array.shape[i] = x->shape[i];
    temp->array.strides[i] = rows.strides[place[i]];
  }
  return MOON_OK;
}

// x itself, or a channels-last copy.
static moon_status ready(moon_engine *engine, const device_array *x, moon_dtype compute,
                         cpu_temp *temp) {
  if (is_ready(x, compute)) {
    temp->array = *x;
    return MOON_OK;
  }
  MOON_TRY(scratch_like(engine, x, compute, temp));
  return CPU(copy)(engine, x, &temp->array);
}

static moon_status ready_to_write(moon_engine *engine, const device_array *x, moon_dtype compute,
                                  cpu_temp *temp) {
  if (!is_ready(x, compute)) return scratch_like(engine, x, compute, temp);
  temp->array = *x;
  return MOON_OK;
}

static moon_status ready_weight(moon_engine *engine, const device_array *x, moon_dtype compute,
                                bool written, cpu_temp *temp) {
  if (x->dtype != compute)
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
  f->finish = (conv2d_finish){ .low = given->low, .high = given->high };
  if (given->scale) {
    MOON_TRY(CPU(temp_from)(engine, given->scale, compute, &f->scale));
    f->finish.scale = &f->scale.array;
  }
  if (given->shift) {
    MOON_TRY(CPU(temp_from)(engine, given->shift, compute, &f->shift));
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

// The three arrays in the engines' form; the one that `direction` writes goes back into `target`.
typedef struct ready_arrays {
  cpu_temp image, weight, result;
} ready_arrays;

static moon_status arrays_open(moon_engine *engine, const conv_problem *given, moon_dtype compute,
                               ready_arrays *r) {
  conv_direction d = given->direction;
  MOON_TRY((d == CONV_BACKWARD_INPUT ? ready_to_write : ready)(engine, given->image, compute,
                                                               &r->image));
  MOON_TRY((d == CONV_FORWARD ? ready_to_write : ready)(engine, given->result, compute,
                                                        &r->result));
  return ready_weight(engine, given->weight, compute, d == CONV_BACKWARD_WEIGHT, &r->weight);
}

static moon_status run_ready(moon_engine *engine, const conv_problem *given,
                             const ready_arrays *r) {
  conv_problem problem = { .direction = given->direction, .geometry = given->geometry,
                           .image = &r->image.array, .weight = &r->weight.array,
                           .result = &r->result.array, .finish = given->finish };
  const conv_engine *chosen = choose(engine, &problem);
  engine_chose(engine, chosen->name);
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

static moon_status run(moon_engine *engine, const conv_problem *given, moon_dtype dtype) {
  moon_dtype compute = dtype == MOON_F64 ? MOON_F64 : MOON_F32;
  ready_arrays arrays = { 0 };
  moon_status status = arrays_open(engine, given, compute, &arrays);
  if (status == MOON_OK) status = run_ready(engine, given, &arrays);
  CPU(temp_release)(engine, &arrays.image);
  CPU(temp_release)(engine, &arrays.weight);
  CPU(temp_release)(engine, &arrays.result);
  return status;
}

moon_status CPU(conv2d_forward)(moon_engine *engine, const conv2d_geometry *geometry,
                                const device_array *x, const device_array *weight,
                                const conv2d_finish *finish, const device_array *out) {
  if (array_count(out) == 0) return MOON_OK;
  ready_finish own = { 0 };
  conv_problem problem = { .direction = CONV_FORWARD, .geometry = geometry, .image = x,
                           .weight = weight, .result = out, .finish = &own.finish };
  moon_status status =
      finish_open(engine, finish, x->dtype == MOON_F64 ? MOON_F64 : MOON_F32, &own);
  if (status == MOON_OK) status = run(engine, &problem, x->dtype);
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
  return run(engine, &problem, dx->dtype);
}

moon_status CPU(conv2d_backward_weight)(moon_engine *engine, const conv2d_geometry *geometry,
                                        const device_array *gradient, const device_array *x,
                                        const device_array *dweight) {
  if (array_count(dweight) == 0) return MOON_OK;
  if (array_count(gradient) == 0) return CPU(fill)(engine, 0, dweight);
  conv_problem problem = { .direction = CONV_BACKWARD_WEIGHT, .geometry = geometry, .image = x,
                           .weight = dweight, .result = gradient };
  return run(engine, &problem, dweight->dtype);
}
