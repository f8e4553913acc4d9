// One over the square root for vectors of floats, within 2 ulp: the processor's estimate and
// Newton's steps. Positive normal numbers only. Included after REAL is defined.
#ifndef MOON_CPU_LANES_ROOT_H
#define MOON_CPU_LANES_ROOT_H

#include <math.h>

#include "cpu/lanes.h"

#if REAL_BYTES == 4
static inline lanes lanes_root_step(lanes x, lanes y) {
  return y * lanes_fma(lanes_all(-0.5f) * x * y, y, lanes_all(1.5f));
}

static inline lanes lanes_reciprocal_root(lanes x) {
#if defined(__AVX512F__)
  return lanes_root_step(x, (lanes)_mm512_rsqrt14_ps((__m512)x));
#elif defined(__AVX2__)
  return lanes_root_step(x, lanes_root_step(x, (lanes)_mm256_rsqrt_ps((__m256)x)));
#elif defined(__SSE2__)
  return lanes_root_step(x, lanes_root_step(x, (lanes)_mm_rsqrt_ps((__m128)x)));
#else
  REAL part[LANES];
  lanes_store(part, x);
  for (int i = 0; i < LANES; i++) part[i] = 1 / sqrtf(part[i]);
  return lanes_load(part);
#endif
}
#endif

#endif
