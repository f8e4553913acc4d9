// Optimiser steps: one pass over parameter, gradient and state, with PyTorch's update rules.
// float32 and float64 are updated where they lie; halves go through float a chunk at a time.
#include "cpu/cpu.h"

#include <math.h>

typedef struct step_job {
  const void *options;
  moon_dtype dtype;
  char *parameter, *state[2];   // a state may be NULL
  const char *gradient;
} step_job;

typedef struct step_run { void *parameter, *state[2]; const void *gradient; } step_run;

// weight decay joins the gradient; the first step fills the momentum with it
#define SGD_RUN(type)                                                                        \
  static void sgd_run_##type(const sgd_options *o, int64_t n, const step_run *run) {         \
    type *restrict p = run->parameter, *restrict m = run->state[0];                          \
    const type *restrict gradient = run->gradient;                                           \
    type lr = (type)o->lr, decay = (type)o->weight_decay, mu = (type)o->momentum;            \
    type fresh = (type)(1 - o->dampening);                                                   \
    if (o->first) {                                                                          \
      mu = 0;                                                                                \
      fresh = 1;                                                                             \
    }                                                                                        \
    type look_ahead = (type)o->momentum, direct = o->nesterov ? 1 : 0;                       \
    if (!o->nesterov) look_ahead = 1;                                                        \
    if (!m) {                                                                                \
      for (int64_t i = 0; i < n; i++) p[i] -= lr * (gradient[i] + decay * p[i]);             \
      return;                                                                                \
    }                                                                                        \
    if (o->first)                                                                            \
      for (int64_t i = 0; i < n; i++) m[i] = 0;                                              \
    for (int64_t i = 0; i < n; i++) {                                                        \
      type g = gradient[i] + decay * p[i];                                                   \
      m[i] = mu * m[i] + fresh * g;                                                          \
      p[i] -= lr * (direct * g + look_ahead * m[i]);                                         \
    }                                                                                        \
  }
SGD_RUN(float)
SGD_RUN(double)
#undef SGD_RUN

#define ADAM_RUN(type, root)                                                                 \
  static void adam_run_##type(const adam_options *o, int64_t n, const step_run *run) {       \
    type *restrict p = run->parameter;                                                       \
    type *restrict m = run->state[0], *restrict v = run->state[1];                           \
    const type *restrict gradient = run->gradient;                                           \
    type beta1 = (type)o->beta1, beta2 = (type)o->beta2, epsilon = (type)o->epsilon;         \
    type other1 = (type)(1 - o->beta1), other2 = (type)(1 - o->beta2);                       \
    type keep = (type)(o->decoupled ? 1 - o->lr * o->weight_decay : 1);                      \
    type decay = (type)(o->decoupled ? 0 : o->weight_decay);                                 \
    type step = (type)(o->lr / o->correction1);                                              \
    type scale = (type)(1 / sqrt(o->correction2));                                           \
    for (int64_t i = 0; i < n; i++) {                                                        \
      type g = gradient[i] + decay * p[i];                                                   \
      m[i] = beta1 * m[i] + other1 * g;                                                      \
      v[i] = beta2 * v[i] + other2 * g * g;                                                  \
      p[i] = keep * p[i] - step * m[i] / (root(v[i]) * scale + epsilon);                     \
    }                                                                                        \
  }
ADAM_RUN(float, sqrtf)
ADAM_RUN(double, sqrt)
#undef ADAM_RUN

typedef void (*run_function)(const void *options, int64_t n, const step_run *run);

static void sgd_run_f32(const void *o, int64_t n, const step_run *r) { sgd_run_float(o, n, r); }
static void sgd_run_f64(const void *o, int64_t n, const step_run *r) { sgd_run_double(o, n, r); }
static void adam_run_f32(const void *o, int64_t n, const step_run *r) { adam_run_float(o, n, r); }
static void adam_run_f64(const void *o, int64_t n, const step_run *r) { adam_run_double(o, n, r); }

// Elements first .. last through float buffers.
static void run_halves(const step_job *job, int64_t first, int64_t last, run_function run) {
  float parameter[CPU_CHUNK], gradient[CPU_CHUNK], state[2][CPU_CHUNK];
  for (int64_t i = first; i < last; i += CPU_CHUNK) {
    int64_t n = last - i < CPU_CHUNK ? last - i : CPU_CHUNK, at = i * 2;
    step_run r = { .parameter = parameter, .gradient = gradient };
    CPU(load_run)(job->dtype, n, job->parameter + at, 1, parameter);
    CPU(load_run)(job->dtype, n, job->gradient + at, 1, gradient);
    for (int s = 0; s < 2; s++) {
      if (!job->state[s]) continue;
      CPU(load_run)(job->dtype, n, job->state[s] + at, 1, state[s]);
      r.state[s] = state[s];
    }
    run(job->options, n, &r);
    CPU(store_run)(job->dtype, n, parameter, job->parameter + at, 1);
    for (int s = 0; s < 2; s++)
      if (job->state[s]) CPU(store_run)(job->dtype, n, state[s], job->state[s] + at, 1);
  }
}

static void run_elements(const step_job *job, int64_t first, int64_t last, run_function f32,
                         run_function f64) {
  if (dtype_is_half(job->dtype)) {
    run_halves(job, first, last, f32);
    return;
  }
  int64_t at = first * (int64_t)dtype_size(job->dtype);
  step_run r = { .parameter = job->parameter + at, .gradient = job->gradient + at };
  for (int s = 0; s < 2; s++) r.state[s] = job->state[s] ? job->state[s] + at : NULL;
  (job->dtype == MOON_F64 ? f64 : f32)(job->options, last - first, &r);
}

static moon_status sgd_elements(void *context, int64_t first, int64_t last) {
  run_elements(context, first, last, sgd_run_f32, sgd_run_f64);
  return MOON_OK;
}

static moon_status adam_elements(void *context, int64_t first, int64_t last) {
  run_elements(context, first, last, adam_run_f32, adam_run_f64);
  return MOON_OK;
}

moon_status CPU(sgd_step)(moon_engine *engine, const sgd_options *options,
                          const device_array *parameter, const device_array *gradient,
                          const device_array *momentum) {
  step_job job = { .options = options, .dtype = parameter->dtype, .parameter = parameter->data,
                   .gradient = gradient->data };
  if (momentum) job.state[0] = momentum->data;
  return cpu_run(engine, array_count(parameter), CPU_GRAIN, sgd_elements, &job);
}

moon_status CPU(adam_step)(moon_engine *engine, const adam_options *options,
                           const device_array *parameter, const device_array *gradient,
                           const device_array *first, const device_array *second) {
  step_job job = { .options = options, .dtype = parameter->dtype, .parameter = parameter->data,
                   .gradient = gradient->data, .state = { first->data, second->data } };
  return cpu_run(engine, array_count(parameter), CPU_GRAIN, adam_elements, &job);
}
