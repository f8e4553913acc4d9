// The optimiser steps of steps.def: one loop a rule and compute type (rmsprop_step_f32), CPU_CHUNK
// elements at a time. float32 and float64 are updated where they lie; halves go through buffers,
// and so do states that a rule has and a call has not: they read 0 and are dropped.
#include "cpu/cpu.h"

#include <stddef.h>
#include <string.h>

#include "device/formula.h"

enum { PARAMETER, GRADIENT, STATE, OPERANDS = STATE + STEP_STATES };

typedef void (*step_loop)(const step_options *options, int64_t n, void *const *operand);

#define STEP_LOOP(name, type, formula)                                                         \
  static void name(const step_options *o, int64_t n, void *const *operand) {                   \
    typedef type T;                                                                            \
    T *restrict ps = operand[PARAMETER];                                                       \
    const T *restrict gs = operand[GRADIENT];                                                  \
    T *restrict as = operand[STATE], *restrict bs = operand[STATE + 1];                        \
    T *restrict cs = operand[STATE + 2];                                                       \
    const T turn = (T)o->sign, decay = (T)o->decay, keep = (T)o->keep;                         \
    const T rate = (T)o->rate, beta1 = (T)o->beta1, beta2 = (T)o->beta2;                       \
    const T other1 = (T)(1 - o->beta1), other2 = (T)(1 - o->beta2);                            \
    const T epsilon = (T)o->epsilon, scale = (T)o->scale, blend = (T)o->blend;                 \
    const T least = (T)o->least, most = (T)o->most;                                            \
    (void)rate, (void)beta1, (void)beta2, (void)other1, (void)other2, (void)epsilon;           \
    (void)scale, (void)blend, (void)least, (void)most;                                         \
    for (int64_t i = 0; i < n; i++) {                                                          \
      const T g = turn * gs[i] + decay * ps[i];                                                \
      T p = keep * ps[i], s0 = as[i], s1 = bs[i], s2 = cs[i], d = 0;                           \
      (void)d;                                                                                 \
      (void)(formula);                                                                         \
      ps[i] = p;                                                                               \
      as[i] = s0;                                                                              \
      bs[i] = s1;                                                                              \
      cs[i] = s2;                                                                              \
    }                                                                                          \
  }
#define STEP(name, states, formula)               \
  STEP_LOOP(name##_step_f32, float, formula)      \
  STEP_LOOP(name##_step_f64, double, formula)
#include "device/steps.def"

static const step_loop loops[STEP_RULES][2] = {
#define STEP(name, states, formula) { name##_step_f32, name##_step_f64 },
#include "device/steps.def"
};

typedef struct step_job {
  const step_options *options;
  step_loop loop;
  moon_dtype dtype, compute;
  char *data[OPERANDS];   // NULL: absent
} step_job;

// Where the loop finds an operand's n elements from `first` on.
static void *open_operand(const step_job *job, int k, int64_t first, int64_t n, char *buffer) {
  char *data = job->data[k];
  if (!data) return memset(buffer, 0, (size_t)n * dtype_size(job->compute));
  data += first * (int64_t)dtype_size(job->dtype);
  if (job->dtype == job->compute) return data;
  CPU(load_run)(job->dtype, n, data, 1, buffer);
  return buffer;
}

static void close_operand(const step_job *job, int k, int64_t first, int64_t n,
                          const char *buffer) {
  if (!job->data[k] || k == GRADIENT || job->dtype == job->compute) return;
  CPU(store_run)(job->dtype, n, buffer,
                 job->data[k] + first * (int64_t)dtype_size(job->dtype), 1);
}

static moon_status step_elements(void *context, int64_t first, int64_t last) {
  const step_job *job = context;
  _Alignas(64) char buffers[OPERANDS][CPU_CHUNK * sizeof(double)];
  for (int64_t i = first; i < last; i += CPU_CHUNK) {
    int64_t n = last - i < CPU_CHUNK ? last - i : CPU_CHUNK;
    void *operand[OPERANDS];
    for (int k = 0; k < OPERANDS; k++) operand[k] = open_operand(job, k, i, n, buffers[k]);
    job->loop(job->options, n, operand);
    for (int k = 0; k < OPERANDS; k++) close_operand(job, k, i, n, buffers[k]);
  }
  return MOON_OK;
}

moon_status CPU(step)(moon_engine *engine, int rule, const step_options *options,
                      const device_array *gradient, const device_array *parameter,
                      const device_array *const *states) {
  step_job job = { .options = options, .dtype = parameter->dtype,
                   .compute = cpu_compute_dtype(parameter->dtype),
                   .data = { parameter->data, gradient->data } };
  job.loop = loops[rule][job.compute == MOON_F64];
  for (int s = 0; s < STEP_STATES; s++) job.data[STATE + s] = states[s] ? states[s]->data : NULL;
  return cpu_run(engine, array_count(parameter), CPU_GRAIN, step_elements, &job);
}
