// The functions behind formula.h's words, for float (_f32), double (_f64) and int64_t (_i64); in
// C++ the same functions are overloads without the suffix. Compiled by gcc and nvcc alike, so that
// the CPU and the GPU calculate the same formula.
//
// In float32 exp, log, tanh and sigmoid are polynomials without branches or calls, which a compiler
// turns into vector code: Cody-Waite reduction and the coefficients of Cephes (S. Moshier, Cephes
// Math Library 2.2, single/expf.c, logf.c, tanhf.c), within 2 ulp of the exact value over the whole
// range; overflow gives infinity, underflow passes through the denormals to 0, NaN stays NaN.
// The rest is the C library's. NaN passes through maximum and minimum; integers wrap around.
#ifndef MOON_DEVICE_FORMULA_MATH_H
#define MOON_DEVICE_FORMULA_MATH_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"   // MOON_SHARED

#ifdef __cplusplus
#define FORMULA(type, name, suffix) MOON_SHARED type formula_##name
#define FORMULA_CALL(name, suffix) formula_##name
#else
#define FORMULA(type, name, suffix) MOON_SHARED type formula_##name##_##suffix
#define FORMULA_CALL(name, suffix) formula_##name##_##suffix
#endif

// -- tools of the polynomials

// x * y + z, fused where the processor does it in one instruction. FORMULA_UNFUSED asks for two
// roundings everywhere, for results that must be the same bits on every processor.
MOON_SHARED float formula_fma(float x, float y, float z) {
#if defined(FORMULA_UNFUSED) && defined(__CUDA_ARCH__)
  return __fadd_rn(__fmul_rn(x, y), z);
#elif !defined(FORMULA_UNFUSED) && (defined(__FMA__) || defined(__CUDA_ARCH__))
  return fmaf(x, y, z);
#else
  return x * y + z;
#endif
}

MOON_SHARED uint32_t formula_bits(float value) {
  union { float f; uint32_t u; } v;
  v.f = value;
  return v.u;
}

MOON_SHARED float formula_from_bits(uint32_t bits) {
  union { uint32_t u; float f; } v;
  v.u = bits;
  return v.f;
}

// 2 to the power of n, -126 <= n <= 127; anything for other n.
MOON_SHARED float formula_power_of_2(int32_t n) {
  return formula_from_bits(((uint32_t)n + 127u) << 23);
}

// -- float32 polynomials

// x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to a whole number and leaves it in
// the low bits. 2^n is multiplied in two halves, so that denormal results come out right.
FORMULA(float, exp, f32)(float x) {
  float limited = x > 89.0f ? 89.0f : x;
  limited = limited < -104.0f ? -104.0f : limited;
  float shifted = formula_fma(limited, 1.44269504088896341f, 12582912.0f);
  float n = shifted - 12582912.0f;
  float r = formula_fma(n, -0.693359375f, limited);
  r = formula_fma(n, 2.12194440e-4f, r);
  float p = formula_fma(1.9875691500e-4f, r, 1.3981999507e-3f);
  p = formula_fma(p, r, 8.3334519073e-3f);
  p = formula_fma(p, r, 4.1665795894e-2f);
  p = formula_fma(p, r, 1.6666665459e-1f);
  p = formula_fma(p, r, 5.0000001201e-1f);
  p = formula_fma(p, r * r, r) + 1.0f;
  int32_t whole = (int32_t)(formula_bits(shifted) - 0x4B400000u);
  int32_t half = whole >> 1;
  return p * formula_power_of_2(half) * formula_power_of_2(whole - half);
}

// x = 2^e (1 + m) with 1 + m in [sqrt(1/2), sqrt(2)); denormals are scaled up first.
FORMULA(float, log, f32)(float x) {
  bool tiny = x < 1.17549435e-38f;
  uint32_t bits = formula_bits(tiny ? x * 8388608.0f : x) - 0x3F3504F3u;
  float e = (float)((int32_t)bits >> 23) - (tiny ? 23.0f : 0.0f);
  float m = formula_from_bits((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  float p = formula_fma(7.0376836292e-2f, m, -1.1514610310e-1f);
  p = formula_fma(p, m, 1.1676998740e-1f);
  p = formula_fma(p, m, -1.2420140846e-1f);
  p = formula_fma(p, m, 1.4249322787e-1f);
  p = formula_fma(p, m, -1.6668057665e-1f);
  p = formula_fma(p, m, 2.0000714765e-1f);
  p = formula_fma(p, m, -2.4999993993e-1f);
  p = formula_fma(p, m, 3.3333331174e-1f);
  float square = m * m;
  float tail = formula_fma(e, -2.12194440e-4f, p * m * square);
  tail = formula_fma(-0.5f, square, tail);
  float result = formula_fma(e, 0.693359375f, m + tail);
  result = x < INFINITY ? result : x;
  float outside = x == 0 ? -INFINITY : NAN;
  return x > 0 ? result : outside;
}

FORMULA(float, tanh, f32)(float x) {
  float size = x < 0 ? -x : x;
  float large = 1.0f - 2.0f / (FORMULA_CALL(exp, f32)(size + size) + 1.0f);
  float s = x * x;
  float p = formula_fma(-5.70498872745e-3f, s, 2.06390887954e-2f);
  p = formula_fma(p, s, -5.37397155531e-2f);
  p = formula_fma(p, s, 1.33314422036e-1f);
  p = formula_fma(p, s, -3.33332819422e-1f);
  float small = formula_fma(p * s, x, x);
  return size > 0.625f ? (x < 0 ? -large : large) : small;
}

FORMULA(float, sigmoid, f32)(float x) { return 1.0f / (1.0f + FORMULA_CALL(exp, f32)(-x)); }

FORMULA(double, exp, f64)(double x) { return exp(x); }
FORMULA(double, log, f64)(double x) { return log(x); }
FORMULA(double, tanh, f64)(double x) { return tanh(x); }
FORMULA(double, sigmoid, f64)(double x) { return 1.0 / (1.0 + exp(-x)); }

// -- the C library's
#define FORMULA_LIBRARY(name)                                \
  FORMULA(float, name, f32)(float x) { return name##f(x); } \
  FORMULA(double, name, f64)(double x) { return name(x); }
FORMULA_LIBRARY(sqrt)
FORMULA_LIBRARY(expm1)
FORMULA_LIBRARY(log1p)
FORMULA_LIBRARY(log2)
FORMULA_LIBRARY(log10)
FORMULA_LIBRARY(sin)
FORMULA_LIBRARY(cos)
FORMULA_LIBRARY(tan)
FORMULA_LIBRARY(asin)
FORMULA_LIBRARY(acos)
FORMULA_LIBRARY(atan)
FORMULA_LIBRARY(sinh)
FORMULA_LIBRARY(cosh)
FORMULA_LIBRARY(erf)
FORMULA_LIBRARY(erfc)
FORMULA_LIBRARY(floor)
FORMULA_LIBRARY(ceil)
FORMULA_LIBRARY(trunc)
#undef FORMULA_LIBRARY
FORMULA(float, round, f32)(float x) { return rintf(x); }   // halves to even
FORMULA(double, round, f64)(double x) { return rint(x); }

#define FORMULA_LIBRARY(name)                                                 \
  FORMULA(float, name, f32)(float x, float y) { return name##f(x, y); }       \
  FORMULA(double, name, f64)(double x, double y) { return name(x, y); }
FORMULA_LIBRARY(pow)
FORMULA_LIBRARY(fmod)
FORMULA_LIBRARY(atan2)
FORMULA_LIBRARY(hypot)
#undef FORMULA_LIBRARY

// -- arithmetic, floats
#define FORMULA_FLOATS(type, suffix)                                                              \
  FORMULA(type, neg, suffix)(type x) { return -x; }                                               \
  FORMULA(type, abs, suffix)(type x) { return x < 0 ? -x : x + 0; }                               \
  FORMULA(type, sign, suffix)(type x) { return (type)((x > 0) - (x < 0)); }                       \
  FORMULA(type, square, suffix)(type x) { return x * x; }                                         \
  FORMULA(type, reciprocal, suffix)(type x) { return 1 / x; }                                     \
  FORMULA(type, rsqrt, suffix)(type x) { return 1 / FORMULA_CALL(sqrt, suffix)(x); }              \
  FORMULA(type, add, suffix)(type x, type y) { return x + y; }                                    \
  FORMULA(type, sub, suffix)(type x, type y) { return x - y; }                                    \
  FORMULA(type, mul, suffix)(type x, type y) { return x * y; }                                    \
  FORMULA(type, maximum, suffix)(type x, type y) { return x > y || x != x ? x : y; }              \
  FORMULA(type, minimum, suffix)(type x, type y) { return x < y || x != x ? x : y; }              \
  /* As Lua 5.4 and Python: the rest has the divisor's sign. */                                   \
  FORMULA(type, remainder, suffix)(type x, type y) {                                              \
    type rest = FORMULA_CALL(fmod, suffix)(x, y);                                                 \
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;                                  \
  }                                                                                               \
  /* (x - rest) / y is a whole number but for rounding, which the last floor removes. */          \
  FORMULA(type, div_floor, suffix)(type x, type y) {                                              \
    type rest = FORMULA_CALL(fmod, suffix)(x, y);                                                 \
    type quotient = (x - rest) / y;                                                               \
    if (rest != 0 && (rest < 0) != (y < 0)) quotient -= 1;                                        \
    return y != 0 ? FORMULA_CALL(floor, suffix)(quotient + (type)0.5) : x / y;                    \
  }
FORMULA_FLOATS(float, f32)
FORMULA_FLOATS(double, f64)
#undef FORMULA_FLOATS

// -- arithmetic, integers: wraps, calculated without sign
FORMULA(int64_t, neg, i64)(int64_t x) { return (int64_t)(0 - (uint64_t)x); }
FORMULA(int64_t, abs, i64)(int64_t x) { return x < 0 ? FORMULA_CALL(neg, i64)(x) : x; }
FORMULA(int64_t, sign, i64)(int64_t x) { return (x > 0) - (x < 0); }
FORMULA(int64_t, add, i64)(int64_t x, int64_t y) { return (int64_t)((uint64_t)x + (uint64_t)y); }
FORMULA(int64_t, sub, i64)(int64_t x, int64_t y) { return (int64_t)((uint64_t)x - (uint64_t)y); }
FORMULA(int64_t, mul, i64)(int64_t x, int64_t y) { return (int64_t)((uint64_t)x * (uint64_t)y); }
FORMULA(int64_t, square, i64)(int64_t x) { return FORMULA_CALL(mul, i64)(x, x); }
FORMULA(int64_t, floor, i64)(int64_t x) { return x; }
FORMULA(int64_t, ceil, i64)(int64_t x) { return x; }
FORMULA(int64_t, round, i64)(int64_t x) { return x; }
FORMULA(int64_t, trunc, i64)(int64_t x) { return x; }
FORMULA(int64_t, maximum, i64)(int64_t x, int64_t y) { return x > y ? x : y; }
FORMULA(int64_t, minimum, i64)(int64_t x, int64_t y) { return x < y ? x : y; }

// Division: a divisor of 0 gives 0 (kernels refuse it before), -1 wraps instead of trapping.
FORMULA(int64_t, fmod, i64)(int64_t x, int64_t y) { return y == 0 || y == -1 ? 0 : x % y; }
FORMULA(int64_t, remainder, i64)(int64_t x, int64_t y) {
  int64_t rest = FORMULA_CALL(fmod, i64)(x, y);
  return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}
FORMULA(int64_t, div_floor, i64)(int64_t x, int64_t y) {
  if (y == 0) return 0;
  if (y == -1) return FORMULA_CALL(neg, i64)(x);
  return x / y - (x % y != 0 && (x % y < 0) != (y < 0));
}

// By squaring. A negative power of anything but 1 and -1 is rounded towards 0.
FORMULA(int64_t, pow, i64)(int64_t x, int64_t y) {
  if (y < 0) return x == 1 ? 1 : x == -1 ? (y % 2 ? -1 : 1) : 0;
  uint64_t result = 1, base = (uint64_t)x;
  for (; y > 0; y >>= 1, base *= base) {
    if (y & 1) result *= base;
  }
  return (int64_t)result;
}

#endif
