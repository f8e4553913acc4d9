// Vectors of one compute type for the files that are compiled once for float and once for double
// (REAL says which): as wide as the instruction set's registers, loads and stores at any address.
// Sums over lanes are in a fixed order. Included after REAL is defined, once a file.
#ifndef MOON_CPU_LANES_H
#define MOON_CPU_LANES_H

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <stdint.h>

#include "cpu/lane_bytes.h"

enum { LANES = LANE_BYTES / sizeof(REAL) };

typedef REAL lanes __attribute__((vector_size(LANE_BYTES)));
#if REAL_BYTES == 4
typedef int32_t lanes_bits __attribute__((vector_size(LANE_BYTES)));
#else
typedef int64_t lanes_bits __attribute__((vector_size(LANE_BYTES)));
#endif
typedef REAL lanes_anywhere
    __attribute__((vector_size(LANE_BYTES), aligned(sizeof(REAL)), may_alias));

static inline lanes lanes_load(const REAL *source) { return *(const lanes_anywhere *)source; }
static inline void lanes_store(REAL *target, lanes value) { *(lanes_anywhere *)target = value; }
static inline lanes lanes_zero(void) { return (lanes){ 0 }; }
static inline lanes lanes_all(REAL value) { return value - lanes_zero(); }

// a * b + c, rounded once where the processor can.
static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
#if defined(__AVX512F__)
  if (sizeof(REAL) == 4)
    return (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  return (lanes)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
  if (sizeof(REAL) == 4)
    return (lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  return (lanes)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  return a * b + c;
#endif
}

// The same number in every lane, read from memory in one instruction.
static inline lanes lanes_same(REAL value) {
#if defined(__AVX512F__)
  if (sizeof(REAL) == 4) return (lanes)_mm512_set1_ps((float)value);
  return (lanes)_mm512_set1_pd((double)value);
#else
  return lanes_all(value);
#endif
}

// The first `count` elements only (all where it is LANES or more), zeros behind them.
static inline lanes lanes_load_some(const REAL *source, int64_t count) {
  if (count >= LANES) return lanes_load(source);
#if defined(__AVX512F__)
  unsigned mask = (1u << count) - 1;
  if (sizeof(REAL) == 4) return (lanes)_mm512_maskz_loadu_ps((__mmask16)mask, source);
  return (lanes)_mm512_maskz_loadu_pd((__mmask8)mask, source);
#else
  REAL part[LANES] = { 0 };
  for (int64_t i = 0; i < count; i++) part[i] = source[i];
  return lanes_load(part);
#endif
}

static inline void lanes_store_some(REAL *target, lanes value, int64_t count) {
  if (count >= LANES) {
    lanes_store(target, value);
    return;
  }
#if defined(__AVX512F__)
  unsigned mask = (1u << count) - 1;
  if (sizeof(REAL) == 4) _mm512_mask_storeu_ps(target, (__mmask16)mask, (__m512)value);
  else _mm512_mask_storeu_pd(target, (__mmask8)mask, (__m512d)value);
#else
  REAL part[LANES];
  lanes_store(part, value);
  for (int64_t i = 0; i < count; i++) target[i] = part[i];
#endif
}

// The first `count` lanes (at most LANES), zeros behind them.
static inline lanes lanes_first(lanes value, int64_t count) {
#if defined(__AVX512F__)
  unsigned mask = (1u << count) - 1;
  if (sizeof(REAL) == 4) return (lanes)_mm512_maskz_mov_ps((__mmask16)mask, (__m512)value);
  return (lanes)_mm512_maskz_mov_pd((__mmask8)mask, (__m512d)value);
#else
  REAL part[LANES];
  lanes_store(part, value);
  for (int64_t i = count; i < LANES; i++) part[i] = 0;
  return lanes_load(part);
#endif
}

// Lanes at .. at + count - 1 from source[0] on, zeros in the others.
static inline lanes lanes_load_part(const REAL *source, int at, int64_t count) {
  if (at == 0) return lanes_load_some(source, count);
#if defined(__AVX512F__)
  unsigned mask = ((1u << (count < LANES ? count : LANES)) - 1) << at;
  if (sizeof(REAL) == 4) return (lanes)_mm512_maskz_loadu_ps((__mmask16)mask, source - at);
  return (lanes)_mm512_maskz_loadu_pd((__mmask8)mask, source - at);
#else
  REAL part[LANES] = { 0 };
  for (int64_t i = 0; i < count && at + i < LANES; i++) part[at + i] = source[i];
  return lanes_load(part);
#endif
}

static inline void lanes_store_part(REAL *target, lanes value, int at, int64_t count) {
  if (at == 0) {
    lanes_store_some(target, value, count);
    return;
  }
#if defined(__AVX512F__)
  unsigned mask = ((1u << (count < LANES ? count : LANES)) - 1) << at;
  if (sizeof(REAL) == 4) _mm512_mask_storeu_ps(target - at, (__mmask16)mask, (__m512)value);
  else _mm512_mask_storeu_pd(target - at, (__mmask8)mask, (__m512d)value);
#else
  REAL part[LANES];
  lanes_store(part, value);
  for (int64_t i = 0; i < count && at + i < LANES; i++) target[i] = part[at + i];
#endif
}

// Limited to low .. high; NaN stays.
static inline lanes lanes_clamp(lanes value, REAL low, REAL high) {
  lanes lowest = lanes_same(low), highest = lanes_same(high);
#if defined(__AVX512F__)
  if (sizeof(REAL) == 4)
    return (lanes)_mm512_min_ps((__m512)highest, _mm512_max_ps((__m512)lowest, (__m512)value));
  return (lanes)_mm512_min_pd((__m512d)highest, _mm512_max_pd((__m512d)lowest, (__m512d)value));
#else
  lanes_bits below = value < lowest, above = value > highest;
  lanes_bits bits = (below & (lanes_bits)lowest) | (above & (lanes_bits)highest) |
                    (~(below | above) & (lanes_bits)value);
  return (lanes)bits;
#endif
}

static inline REAL lanes_sum(lanes value) {
  REAL part[LANES];
  lanes_store(part, value);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) part[i] += part[i + width];
  return part[0];
}

#endif
