// The optimiser steps of steps.def: one loop a rule and compute type (rmsprop_step_f32), CPU_CHUNK
// elements at a time. float32 and float64 are updated where they lie; halves go through buffers,
// and so do states that a rule has and a call has not: they read 0 and are dropped.
//
// The parameters of a call count as one long row of elements, cut into blocks for the threads, so
// that many small ones share a task and large ones are shared by several.
#include "cpu/cpu.h"

#include <stddef.h>
#include <string.h>

#include "device/formula.h"

enum { PARAMETER, GRADIENT, STATE, OPERANDS = STATE + STEP_STATES };

typedef void (*step_loop)(const step_options *options, int64_t n, void *const *operand);

#define STEP_LOOP(name, type, states, formula)                                                 \
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
    (void)scale, (void)blend, (void)least, (void)most, (void)bs, (void)cs;                     \
    for (int64_t i = 0; i < n; i++) {                                                          \
      const T g = turn * gs[i] + decay * ps[i];                                                \
      T p = keep * ps[i], s0 = as[i], s1 = 0, s2 = 0, d = 0;                                   \
      if (states > 1) s1 = bs[i];                                                              \
      if (states > 2) s2 = cs[i];                                                              \
      (void)d;                                                                                 \
      (void)(formula);                                                                         \
      ps[i] = p;                                                                               \
      as[i] = s0;                                                                              \
      if (states > 1) bs[i] = s1;                                                              \
      if (states > 2) cs[i] = s2;                                                              \
    }                                                                                          \
  }
#define STEP(name, states, formula)                       \
  STEP_LOOP(name##_step_f32, float, states, formula)      \
  STEP_LOOP(name##_step_f64, double, states, formula)
#include "device/steps.def"

typedef struct step_rule_loops {
  int states;
  step_loop f32, f64;
} step_rule_loops;

static const step_rule_loops loops[STEP_RULES] = {
#define STEP(name, states, formula) { states, name##_step_f32, name##_step_f64 },
#include "device/steps.def"
};

typedef struct step_job {
  const step_options *options;
  step_loop loop;
  int operands;           // that the rule reads
  moon_dtype dtype, compute;
  const step_item *items;
  int64_t *starts;        // where each item begins in the row of all; count + 1 entries
  int count;
} step_job;

// Where the loop finds an operand's n elements: in place, or converted in the buffer.
static void *open_operand(const step_job *job, char *data, int64_t n, char *buffer) {
  if (!data) return memset(buffer, 0, (size_t)n * dtype_size(job->compute));
  if (job->dtype == job->compute) return data;
  CPU(load_run)(job->dtype, n, data, 1, buffer);
  return buffer;
}

static void close_operand(const step_job *job, int k, char *data, int64_t n, const char *buffer) {
  if (!data || k == GRADIENT || job->dtype == job->compute) return;
  CPU(store_run)(job->dtype, n, buffer, data, 1);
}

// Elements first ... last - 1 of one item.
static void step_item_elements(const step_job *job, const step_item *item, int64_t first,
                               int64_t last) {
  _Alignas(64) char buffers[OPERANDS][CPU_CHUNK * sizeof(double)];
  char *data[OPERANDS] = { item->parameter, (char *)item->gradient };
  int64_t size = (int64_t)dtype_size(job->dtype);
  for (int s = 0; s < STEP_STATES; s++) data[STATE + s] = item->states[s];
  for (int k = 0; k < OPERANDS; k++)
    if (data[k]) data[k] += first * size;
  for (int64_t i = first; i < last; i += CPU_CHUNK) {
    int64_t n = last - i < CPU_CHUNK ? last - i : CPU_CHUNK;
    void *operand[OPERANDS];
    for (int k = 0; k < job->operands; k++)
      operand[k] = open_operand(job, data[k], n, buffers[k]);
    job->loop(job->options, n, operand);
    for (int k = 0; k < job->operands; k++) close_operand(job, k, data[k], n, buffers[k]);
    for (int k = 0; k < job->operands; k++)
      if (data[k]) data[k] += n * size;
  }
}

// The item that holds element `at` of the row.
static int item_at(const step_job *job, int64_t at) {
  int low = 0, high = job->count - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (job->starts[middle] <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

static moon_status step_elements(void *context, int64_t first, int64_t last) {
  const step_job *job = context;
  for (int i = item_at(job, first); first < last; i++) {
    int64_t start = job->starts[i], end = job->starts[i + 1] < last ? job->starts[i + 1] : last;
    step_item_elements(job, &job->items[i], first - start, end - start);
    first = end;
  }
  return MOON_OK;
}

moon_status CPU(step)(moon_engine *engine, int rule, const step_options *options, moon_dtype dtype,
                      int count, const step_item *items) {
  const step_rule_loops *found = &loops[rule];
  step_job job = { .options = options, .operands = STATE + found->states, .dtype = dtype,
                   .compute = cpu_compute_dtype(dtype), .items = items, .count = count };
  job.loop = job.compute == MOON_F64 ? found->f64 : found->f32;
  MOON_TRY(alloc_new(((size_t)count + 1) * sizeof *job.starts, (void **)&job.starts));
  for (int i = 0; i < count; i++) job.starts[i + 1] = job.starts[i] + items[i].count;
  moon_status status = cpu_run(engine, job.starts[count], CPU_GRAIN, step_elements, &job);
  alloc_delete(job.starts);
  return status;
}
