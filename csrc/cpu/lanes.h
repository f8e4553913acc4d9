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

static inline REAL lanes_sum(lanes value) {
  REAL part[LANES];
  lanes_store(part, value);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) part[i] += part[i + width];
  return part[0];
}

#endif
