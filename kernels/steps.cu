// The optimiser steps of steps.def: one kernel a rule and float type. The parameters of a call go
// in one launch: a table of them lies on the device, and blocks take segments of at most SEGMENT
// elements of one parameter each, so that many small ones share the GPU and large ones are spread
// over it. Bound by memory: parameter, gradient and states are read once and written once. States
// that a rule has and a call has not read 0 and are dropped.
#include "elementwise.cuh"
#include "graph.cuh"

#include <stdlib.h>

#include "device/formula.h"

enum { SEGMENT = 2 * CUDA_BLOCK * CUDA_CHUNK };

// step_options in the type of calculation.
template <typename T>
struct step_numbers {
  T turn, decay, keep, rate, beta1, beta2, other1, other2, epsilon, scale, blend, least, most;
};

template <typename T>
static __host__ __device__ inline step_numbers<T> numbers_of(const step_options *o) {
  return { (T)o->sign, (T)o->decay, (T)o->keep, (T)o->rate, (T)o->beta1, (T)o->beta2,
           (T)(1 - o->beta1), (T)(1 - o->beta2), (T)o->epsilon, (T)o->scale, (T)o->blend,
           (T)o->least, (T)o->most };
}

// -- rules: function objects, named <row>_rule, that change p and its states

#define STEP(name, states, formula)                                                            \
  template <typename T> struct name##_rule {                                                   \
    static const int state_count = states;                                                     \
    static __device__ void apply(const step_numbers<T> &o, T gradient, T &p, T *s) {           \
      const T rate = o.rate, beta1 = o.beta1, beta2 = o.beta2, other1 = o.other1;              \
      const T other2 = o.other2, epsilon = o.epsilon, scale = o.scale, blend = o.blend;        \
      const T least = o.least, most = o.most, g = o.turn * gradient + o.decay * p;             \
      T &s0 = s[0], &s1 = s[1], &s2 = s[2], d = 0;                                             \
      p = o.keep * p;                                                                          \
      (void)rate, (void)beta1, (void)beta2, (void)other1, (void)other2, (void)epsilon;         \
      (void)scale, (void)blend, (void)least, (void)most, (void)s1, (void)s2, (void)d;          \
      (void)(formula);                                                                         \
    }                                                                                          \
  };
#include "device/steps.def"

// -- the kernel

struct step_row {
  step_item item;
  int64_t start;     // its first segment
  bool wide;         // all its arrays can be gone through in chunks
};

// The last row that starts at `segment` or before.
static __device__ int row_of(const step_row *rows, int count, int64_t segment) {
  int low = 0, high = count - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (rows[middle].start <= segment) low = middle;
    else high = middle - 1;
  }
  return low;
}

template <typename S, int WIDTH, typename Rule, typename T>
static __device__ void step_elements(const step_numbers<T> &numbers, const step_item &item,
                                     int64_t at) {
  T p[WIDTH], g[WIDTH], s[STEP_STATES][WIDTH] = {};
  cuda_load_wide<S, WIDTH>(item.parameter, at, p);
  cuda_load_wide<S, WIDTH>(item.gradient, at, g);
  for (int k = 0; k < Rule::state_count; k++)
    if (item.states[k]) cuda_load_wide<S, WIDTH>(item.states[k], at, s[k]);
  for (int v = 0; v < WIDTH; v++) {
    T states[STEP_STATES];
    for (int k = 0; k < STEP_STATES; k++) states[k] = s[k][v];
    Rule::apply(numbers, g[v], p[v], states);
    for (int k = 0; k < STEP_STATES; k++) s[k][v] = states[k];
  }
  cuda_store_wide<S, WIDTH>(item.parameter, at, p);
  for (int k = 0; k < Rule::state_count; k++)
    if (item.states[k]) cuda_store_wide<S, WIDTH>(item.states[k], at, s[k]);
}

template <typename S, typename Rule>
static __global__ void step_segments(step_numbers<cuda_compute<S>> numbers,
                                     const step_options *fresh, const float *unless, int count,
                                     const step_row *rows, int64_t segments) {
  if (unless && !(*unless == 0)) return;   // NaN too
  if (fresh) numbers = numbers_of<cuda_compute<S>>(fresh);   // of this run of a graph
  for (int64_t segment = blockIdx.x; segment < segments; segment += gridDim.x) {
    const step_row row = rows[row_of(rows, count, segment)];
    int64_t first = (segment - row.start) * SEGMENT, left = row.item.count - first;
    int64_t n = left < SEGMENT ? left : (int64_t)SEGMENT, chunked = row.wide ? n / CUDA_CHUNK : 0;
    for (int64_t i = threadIdx.x; i < chunked; i += blockDim.x)
      step_elements<S, CUDA_CHUNK, Rule>(numbers, row.item, first + i * CUDA_CHUNK);
    for (int64_t i = chunked * CUDA_CHUNK + threadIdx.x; i < n; i += blockDim.x)
      step_elements<S, 1, Rule>(numbers, row.item, first + i);
  }
}

// -- launching

// A table on the device.
struct step_table {
  const step_row *rows;
  int count;
  int64_t segments;
};

typedef moon_status (*launcher)(cuda_context *c, const step_options *options,
                                const graph_stepping *stepping, moon_dtype dtype,
                                const step_table *table);

template <template <typename> class Rule>
static moon_status run(cuda_context *c, const step_options *options,
                       const graph_stepping *stepping, moon_dtype dtype, const step_table *table) {
  return cuda_with_float(dtype, [&](auto type) {
    typedef decltype(type) S;
    typedef cuda_compute<S> T;
    return cuda_launch(c, cuda_blocks(table->segments, 1), CUDA_BLOCK, step_segments<S, Rule<T>>,
                       numbers_of<T>(options), stepping->options, stepping->unless, table->count,
                       table->rows, table->segments);
  });
}

static const launcher rules[STEP_RULES] = {
#define STEP(name, states, formula) run<name##_rule>,
#include "device/steps.def"
};

static bool is_wide(const step_item *item) {
  bool wide = cuda_aligned(item->parameter) && cuda_aligned(item->gradient);
  for (int k = 0; k < STEP_STATES; k++) wide = wide && cuda_aligned(item->states[k]);
  return wide;
}

// Fills the rows; gives how many segments there are.
static int64_t fill_rows(int count, const step_item *items, step_row *rows) {
  int64_t segments = 0;
  for (int i = 0; i < count; i++) {
    rows[i] = { items[i], segments, is_wide(&items[i]) };
    segments += (items[i].count + SEGMENT - 1) / SEGMENT;
  }
  return segments;
}

moon_status cuda_step(cuda_context *c, int rule, const step_options *options, moon_dtype dtype,
                      int count, const step_item *items) {
  cuda_scratch table(c);
  size_t bytes = (size_t)count * sizeof(step_row);
  graph_stepping stepping;
  if (count == 0) return MOON_OK;
  MOON_TRY(graph_step(c, options, &stepping));
  if (stepping.refreshes) return MOON_OK;
  MOON_TRY(table.take(bytes));
  step_row *rows = (step_row *)calloc((size_t)count, sizeof *rows);
  if (!rows) return moon_fail(MOON_OUT_OF_MEMORY, "out of memory for a table of parameters");
  step_table on_device = { table.as<step_row>(), count, fill_rows(count, items, rows) };
  moon_status status = cuda_upload(c, rows, table.as<void>(), bytes);
  free(rows);
  if (status != MOON_OK || on_device.segments == 0) return status;
  return rules[rule](c, options, &stepping, dtype, &on_device);
}
