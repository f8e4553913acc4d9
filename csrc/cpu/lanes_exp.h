// exp for vectors of one compute type. In float: n = round(x / ln 2), a polynomial on what is left
// (Cephes expf, error under 2 units in the last place), scaled by 2^n so that denormal results come
// out: in two steps where there is no instruction for it. In double: the library's exp, a lane at a
// time.
// Included once a file, after REAL and REAL_BYTES are defined.
#ifndef MOON_CPU_LANES_EXP_H
#define MOON_CPU_LANES_EXP_H

#include "cpu/lanes.h"

#include <math.h>

#if REAL_BYTES == 4
typedef int32_t lanes_int __attribute__((vector_size(LANE_BYTES)));

// value * 2^n, where shifted = magic + n.
static inline lanes lanes_scaled(lanes value, lanes shifted, lanes magic) {
#if defined(__AVX512F__)
  return (lanes)_mm512_scalef_ps((__m512)value, (__m512)(shifted - magic));
#else
  lanes_int power = (lanes_int)shifted - (lanes_int)magic, half = power >> 1;
  lanes low = (lanes)((half + 127) << 23), high = (lanes)((power - half + 127) << 23);
  return value * low * high;
#endif
}

static inline lanes lanes_exp(lanes x) {
  const lanes magic = lanes_all(0x1.8p23f);   // adding it rounds to an integer
  lanes limited = lanes_clamp(x, -104.0f, 89.0f);
  lanes shifted = lanes_fma(limited, lanes_all(1.44269504f), magic);
  lanes n = shifted - magic;
  lanes r = lanes_fma(n, lanes_all(-0.693359375f), limited);
  r = lanes_fma(n, lanes_all(2.12194440e-4f), r);
  lanes p = lanes_all(1.9875691500e-4f);
  p = lanes_fma(p, r, lanes_all(1.3981999507e-3f));
  p = lanes_fma(p, r, lanes_all(8.3334519073e-3f));
  p = lanes_fma(p, r, lanes_all(4.1665795894e-2f));
  p = lanes_fma(p, r, lanes_all(1.6666665459e-1f));
  p = lanes_fma(p, r, lanes_all(5.0000001201e-1f));
  return lanes_scaled(lanes_fma(p * r, r, r + lanes_all(1.0f)), shifted, magic);
}
#else
static inline lanes lanes_exp(lanes x) {
  REAL part[LANES];
  lanes_store(part, x);
  for (int i = 0; i < LANES; i++) part[i] = exp(part[i]);
  return lanes_load(part);
}
#endif

#endif
