// Random numbers, from the Philox stream: an element's words follow from its number in row-major
// order alone, so blocks of elements are independent and any number of threads draws the same.
// Words come out CPU_CHUNK at a time, of as many blocks at once as fit a register (philox.h).
#include "cpu/cpu.h"

#include <math.h>
#include <string.h>

// Two roundings for a * b + c, also where the processor could do with one: see draws.h.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
#include "cpu/expect.h"
#include "cpu/philox.h"
#include "device/draws.h"

enum { WORDS = 4, DRAWN = WORDS * PHILOX_BLOCKS };   // of a block; of those drawn at once

// The words of n <= CPU_CHUNK elements, from the first of `block` on; room for CPU_CHUNK.
static void draw_words(uint64_t seed, uint64_t block, int64_t n, uint32_t *words) {
  for (int64_t i = 0; i < n; i += DRAWN)
    philox_draw(seed, block + (uint64_t)(i / WORDS), words + i);
}

typedef struct draw_job draw_job;

// Turns the words of n elements into values of the compute type.
typedef void (*draw_values)(const draw_job *job, int64_t n, const uint32_t *words, void *values);

struct draw_job {
  cpu_walk walk;             // operand 0: out, row-major
  const device_array *out;
  uint64_t seed, first;
  draw_values values;
  double low, range, most;   // uniform: low + range * unit, at most `most`; normal: mean, deviation
};

static moon_status draw_block(void *context, int64_t first, int64_t last) {
  const draw_job *job = context;
  uint32_t words[CPU_CHUNK];
  _Alignas(64) char values[CPU_CHUNK * 8];
  moon_dtype dtype = job->out->dtype, compute = cpu_compute_dtype(dtype);
  int64_t at[MOON_MAX_DIMS] = { 0 };
  for (int64_t i = first; i < last; i += CPU_CHUNK) {
    int64_t n = last - i < CPU_CHUNK ? last - i : CPU_CHUNK;
    draw_words(job->seed, job->first + (uint64_t)i / WORDS, n, words);
    job->values(job, n, words, values);
    CPU(walk_seek)(&job->walk, i, at);
    CPU(walk_store)(&job->walk, 0, dtype, compute, job->out->data, at, n, values);
  }
  return MOON_OK;
}

static moon_status draw(moon_engine *engine, draw_job *job, const device_array *out) {
  if (!dtype_is_float(out->dtype))
    return moon_fail(MOON_BAD_DTYPE, "random fractions for %s", dtype_name(out->dtype));
  job->out = out;
  CPU(walk_open)(&job->walk, 1, &out, false);
  return cpu_run(engine, job->walk.count, CPU_GRAIN, draw_block, job);
}

// -- uniform
static void uniform_f32(const draw_job *job, int64_t n, const uint32_t *words, void *values) {
  float *out = values;
  for (int64_t i = 0; i < n; i++)
    out[i] = (float)draw_uniform(words[i], job->low, job->range, job->most);
}

static void uniform_f64(const draw_job *job, int64_t n, const uint32_t *words, void *values) {
  double *out = values;
  for (int64_t i = 0; i < n; i++)
    out[i] = draw_uniform(words[i], job->low, job->range, job->most);
}

moon_status CPU(random_uniform)(moon_engine *engine, uint64_t seed, uint64_t first, double low,
                                double high, const device_array *out) {
  draw_job job = { .seed = seed, .first = first, .low = low, .range = high - low,
                   .most = draw_largest_below(out->dtype, low, high),
                   .values = out->dtype == MOON_F64 ? uniform_f64 : uniform_f32 };
  return draw(engine, &job, out);
}

// -- normal
static void normal_f32(const draw_job *job, int64_t n, const uint32_t *words, void *values) {
  float *out = values;
  const float mean = (float)job->low, deviation = (float)job->range;
  for (int64_t i = 0; i < n; i += 2) {
    float a, b;
    draw_normal_pair(words[i], words[i + 1], &a, &b);
    out[i] = mean + deviation * a;
    out[i + 1] = mean + deviation * b;
  }
}

static void normal_f64(const draw_job *job, int64_t n, const uint32_t *words, void *values) {
  double *out = values;
  for (int64_t i = 0; i < n; i += 2) {
    float a, b;
    draw_normal_pair(words[i], words[i + 1], &a, &b);
    out[i] = job->low + job->range * (double)a;
    out[i + 1] = job->low + job->range * (double)b;
  }
}

moon_status CPU(random_normal)(moon_engine *engine, uint64_t seed, uint64_t first, double mean,
                               double deviation, const device_array *out) {
  draw_job job = { .seed = seed, .first = first, .low = mean, .range = deviation,
                   .values = out->dtype == MOON_F64 ? normal_f64 : normal_f32 };
  return draw(engine, &job, out);
}

// -- integers: a block an element
typedef struct integers_job {
  cpu_walk walk;
  const device_array *out;
  uint64_t seed, first, range;
  int64_t low;
} integers_job;

static moon_status integers_block(void *context, int64_t first, int64_t last) {
  const integers_job *job = context;
  const device_array *out = job->out;
  int64_t at[MOON_MAX_DIMS] = { 0 }, size = (int64_t)dtype_size(out->dtype);
  CPU(walk_seek)(&job->walk, first, at);
  for (int64_t i = first; i < last; i++) {
    uint64_t below = draw_below(random_philox(job->seed, job->first + (uint64_t)i), job->range);
    char *element = (char *)out->data + cpu_walk_offset(&job->walk, 0, at) * size;
    dtype_store_int(out->dtype, element, (int64_t)((uint64_t)job->low + below));
    cpu_walk_advance(&job->walk, at, 1);
  }
  return MOON_OK;
}

moon_status CPU(random_integers)(moon_engine *engine, uint64_t seed, uint64_t first, int64_t low,
                                 int64_t high, const device_array *out) {
  integers_job job = { .out = out, .seed = seed, .first = first, .low = low,
                       .range = (uint64_t)high - (uint64_t)low };
  if (high <= low)
    return moon_fail(MOON_BAD_ARGUMENT, "no integers from %lld to below %lld", (long long)low,
                     (long long)high);
  CPU(walk_open)(&job.walk, 1, &out, false);
  return cpu_run(engine, job.walk.count, CPU_GRAIN / 8, integers_block, &job);
}

// -- permutation: Fisher and Yates from the front ("inside out"). Step i draws j from 0..i, moves
// the number at j to i and puts i at j. One thread: each step needs those before it.
moon_status CPU(random_permutation)(moon_engine *engine, uint64_t seed, uint64_t first,
                                    int64_t base, const device_array *out) {
  int64_t *order = out->data;
  for (int64_t i = 0; i < out->shape[0]; i++) {
    random_block block = random_philox(seed, first + (uint64_t)i);
    int64_t j = (int64_t)draw_below(block, (uint64_t)i + 1);
    order[i] = order[j];
    order[j] = i + base;
    if (i % CPU_GRAIN == 0) MOON_TRY(engine_check_interrupt(engine));
  }
  return MOON_OK;
}

// -- dropout: elements are numbered in the order that the result lies in memory
typedef struct dropout_job {
  cpu_walk walk;             // operand 0: out, 1: x, 2: mask
  const device_array *x, *mask, *out;
  uint64_t seed, first;
  uint32_t limit;
  double scale;
  bool in_place;             // all three are used where they lie
} dropout_job;

#define KEEP(type)                                                                           \
  static inline void keep_##type(int64_t n, const uint32_t *restrict words, uint32_t limit,  \
                                 type scale, const type *restrict x, uint8_t *restrict mask, \
                                 type *restrict out) {                                       \
    for (int64_t i = 0; i < n; i++) mask[i] = words[i] >> 8 >= limit;                        \
    for (int64_t i = 0; i < n; i++) out[i] = words[i] >> 8 >= limit ? x[i] * scale : 0;      \
  }
KEEP(float)
KEEP(double)
#undef KEEP

// The same for DRAWN elements.
static inline void keep_drawn_float(const uint32_t *words, uint32_t limit, float scale,
                                    const float *x, uint8_t *mask, float *out) {
#if defined(__AVX512BW__)
#pragma GCC unroll 4
  for (int i = 0; i < DRAWN; i += 16) {
    __m512i numbers = _mm512_srli_epi32(_mm512_loadu_si512(words + i), 8);
    __mmask16 kept = _mm512_cmpge_epu32_mask(numbers, _mm512_set1_epi32((int)limit));
    _mm_storeu_si128((void *)(mask + i), _mm_maskz_set1_epi8(kept, 1));
    _mm512_storeu_ps(out + i, _mm512_maskz_mul_ps(kept, _mm512_loadu_ps(x + i),
                                                  _mm512_set1_ps(scale)));
  }
#else
  keep_float(DRAWN, words, limit, scale, x, mask, out);
#endif
}
#define keep_drawn_double(...) keep_double(DRAWN, __VA_ARGS__)

// Words and what they decide go together: drawing is bound by multiplications, the rest by memory.
#define DROP(type)                                                                           \
  static void drop_##type(const dropout_job *job, uint64_t block, int64_t n, const type *x,  \
                          uint8_t *mask, type *out) {                                        \
    uint32_t words[DRAWN];                                                                   \
    const type scale = (type)job->scale;                                                     \
    int64_t i = 0;                                                                           \
    for (; i + DRAWN <= n; i += DRAWN) {                                                     \
      philox_draw(job->seed, block + (uint64_t)(i / WORDS), words);                          \
      for (int k = 0; k < DRAWN; k += EXPECT_LINE / (int)sizeof *out)                        \
        expect_write(out + i + k);                                                           \
      keep_drawn_##type(words, job->limit, scale, x + i, mask + i, out + i);                 \
    }                                                                                        \
    if (i < n) philox_draw(job->seed, block + (uint64_t)(i / WORDS), words);                 \
    keep_##type(n - i, words, job->limit, scale, x + i, mask + i, out + i);                  \
  }
DROP(float)
DROP(double)
#undef DROP
#undef keep_drawn_double

// n elements, the first of which takes the first word of `block`.
static void drop(const dropout_job *job, uint64_t block, int64_t n, const void *x, uint8_t *mask,
                 void *out) {
  if (cpu_compute_dtype(job->x->dtype) == MOON_F32) drop_float(job, block, n, x, mask, out);
  else drop_double(job, block, n, x, mask, out);
}

static moon_status dropout_block(void *context, int64_t first, int64_t last) {
  const dropout_job *job = context;
  uint8_t mask[CPU_CHUNK];
  _Alignas(64) char from[CPU_CHUNK * 8], to[CPU_CHUNK * 8];
  moon_dtype dtype = job->x->dtype, compute = cpu_compute_dtype(dtype);
  int64_t at[MOON_MAX_DIMS] = { 0 }, size = (int64_t)dtype_size(dtype);
  for (int64_t i = first; i < last; i += CPU_CHUNK) {
    int64_t n = last - i < CPU_CHUNK ? last - i : CPU_CHUNK;
    uint64_t block = job->first + (uint64_t)i / WORDS;
    if (job->in_place) {
      drop(job, block, n, (const char *)job->x->data + i * size, (uint8_t *)job->mask->data + i,
           (char *)job->out->data + i * size);
      continue;
    }
    CPU(walk_seek)(&job->walk, i, at);
    CPU(walk_load)(&job->walk, 1, dtype, compute, job->x->data, at, n, from);
    drop(job, block, n, from, mask, to);
    CPU(walk_store)(&job->walk, 0, dtype, compute, job->out->data, at, n, to);
    CPU(walk_store)(&job->walk, 2, MOON_BOOL, MOON_BOOL, job->mask->data, at, n, mask);
  }
  return MOON_OK;
}

moon_status CPU(dropout)(moon_engine *engine, uint64_t seed, uint64_t first, double p,
                         const device_array *x, const device_array *mask,
                         const device_array *out) {
  dropout_job job = { .x = x, .mask = mask, .out = out, .seed = seed, .first = first,
                      .limit = draw_dropout_limit(p), .scale = 1.0 / (1.0 - p) };
  const device_array *arrays[] = { out, x, mask };
  CPU(walk_open)(&job.walk, 3, arrays, true);
  job.in_place = x->dtype == cpu_compute_dtype(x->dtype) && x->data != out->data;
  for (int k = 0; k < 3; k++) job.in_place &= CPU(walk_is_flat)(&job.walk, k);
  return cpu_run(engine, job.walk.count, CPU_GRAIN, dropout_block, &job);
}

// p: dx, gradient, mask
#define KEPT_GRADIENT(type)                                                                  \
  static void kept_gradient_##type(int64_t n, void *const *p, const double *attributes) {    \
    const type scale = (type)attributes[0], *g = p[1];                                       \
    const uint8_t *mask = p[2];                                                              \
    type *dx = p[0];                                                                         \
    _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) dx[i] = mask[i] ? g[i] * scale : 0; \
  }
KEPT_GRADIENT(float)
KEPT_GRADIENT(double)
#undef KEPT_GRADIENT

moon_status CPU(dropout_backward)(moon_engine *engine, double scale, const device_array *gradient,
                                  const device_array *mask, const device_array *dx) {
  moon_dtype compute = cpu_compute_dtype(dx->dtype);
  cpu_operand operands[] = { { dx, compute }, { gradient, compute }, { mask, MOON_BOOL } };
  return CPU(elementwise)(engine, 3, operands,
                          compute == MOON_F64 ? kept_gradient_double : kept_gradient_float,
                          (double[]){ scale, 0 });
}
