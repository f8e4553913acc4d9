// Elementary functions in float32, as polynomials without branches or calls, which a compiler turns
// into vector code. Cody-Waite reduction; the coefficients of exp, log, tanh, sine and cosine are
// those of Cephes (S. Moshier, Cephes Math Library 2.2, single/expf.c, ...), those of erf and erfc
// were fitted for the least relative error. Within 2 to 4 ulp of the exact value over the whole
// range (spec/c/cpu_pointwise_test.c); overflow gives infinity, underflow passes through the
// denormals to 0, NaN stays NaN, and what is odd keeps the sign of 0.
#ifndef MOON_DEVICE_FORMULA_FLOAT_H
#define MOON_DEVICE_FORMULA_FLOAT_H

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

// -- tools

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

MOON_SHARED float formula_size(float x) { return formula_from_bits(formula_bits(x) & 0x7FFFFFFFu); }

// x (not negative, or NaN) with the sign of y.
MOON_SHARED float formula_signed(float x, float y) {
  return formula_from_bits(formula_bits(x) | (formula_bits(y) & 0x80000000u));
}

// -- exponentials

// x = n ln 2 + rest with |rest| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to a whole number and leaves
// it in the low bits.
MOON_SHARED int32_t formula_split_exp(float x, float *rest) {
  float shifted = formula_fma(x, 1.44269504088896341f, 12582912.0f);
  float n = shifted - 12582912.0f;
  *rest = formula_fma(n, 2.12194440e-4f, formula_fma(n, -0.693359375f, x));
  return (int32_t)(formula_bits(shifted) - 0x4B400000u);
}

// exp(r) - 1 for |r| <= ln 2 / 2.
MOON_SHARED float formula_exp_near_0(float r) {
  float p = formula_fma(1.9875691500e-4f, r, 1.3981999507e-3f);
  p = formula_fma(p, r, 8.3334519073e-3f);
  p = formula_fma(p, r, 4.1665795894e-2f);
  p = formula_fma(p, r, 1.6666665459e-1f);
  p = formula_fma(p, r, 5.0000001201e-1f);
  return formula_fma(p, r * r, r);
}

// x * 2^n, multiplied in two halves, so that denormal results come out right.
MOON_SHARED float formula_scaled(float x, int32_t n) {
  int32_t half = n >> 1;
  return x * formula_power_of_2(half) * formula_power_of_2(n - half);
}

FORMULA(float, exp, f32)(float x) {
  float limited = x > 89.0f ? 89.0f : x, r;
  limited = limited < -104.0f ? -104.0f : limited;
  int32_t n = formula_split_exp(limited, &r);
  return formula_scaled(formula_exp_near_0(r) + 1.0f, n);
}

// 2^n (exp(r) - 1) + (2^n - 1), all halved until the end: 2^128 is no number.
FORMULA(float, expm1, f32)(float x) {
  float limited = x > 89.0f ? 89.0f : x, r;
  limited = limited < -25.0f ? -25.0f : limited;
  float half = formula_power_of_2(formula_split_exp(limited, &r) - 1);
  float result = 2.0f * formula_fma(half, formula_exp_near_0(r), half - 0.5f);
  return x == 0 ? x : result;
}

FORMULA(float, sigmoid, f32)(float x) { return 1.0f / (1.0f + FORMULA_CALL(exp, f32)(-x)); }

// -- logarithms

// x = 2^e (1 + m) with 1 + m in [sqrt(1/2), sqrt(2)), for positive x; denormals are scaled up
// first. Gives e.
MOON_SHARED float formula_split_log(float x, float *m) {
  bool tiny = x < 1.17549435e-38f;
  uint32_t bits = formula_bits(tiny ? x * 8388608.0f : x) - 0x3F3504F3u;
  *m = formula_from_bits((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  return (float)((int32_t)bits >> 23) - (tiny ? 23.0f : 0.0f);
}

// log(1 + m) - m + m^2 / 2 for 1 + m in [sqrt(1/2), sqrt(2)).
MOON_SHARED float formula_log_near_1(float m) {
  float p = formula_fma(7.0376836292e-2f, m, -1.1514610310e-1f);
  p = formula_fma(p, m, 1.1676998740e-1f);
  p = formula_fma(p, m, -1.2420140846e-1f);
  p = formula_fma(p, m, 1.4249322787e-1f);
  p = formula_fma(p, m, -1.6668057665e-1f);
  p = formula_fma(p, m, 2.0000714765e-1f);
  p = formula_fma(p, m, -2.4999993993e-1f);
  p = formula_fma(p, m, 3.3333331174e-1f);
  return p * m * (m * m);
}

// e ln 2 + log(1 + m), ln 2 in two parts
MOON_SHARED float formula_joined_log(float e, float m) {
  float tail = formula_fma(e, -2.12194440e-4f, formula_log_near_1(m));
  tail = formula_fma(-0.5f, m * m, tail);
  return formula_fma(e, 0.693359375f, m + tail);
}

// A logarithm of x, right for every x where `result` is for positive numbers.
MOON_SHARED float formula_log_ends(float x, float result) {
  float inside = x < INFINITY ? result : x, outside = x == 0 ? -INFINITY : NAN;
  return x > 0 ? inside : outside;
}

FORMULA(float, log, f32)(float x) {
  float m, e = formula_split_log(x, &m);
  return formula_log_ends(x, formula_joined_log(e, m));
}

// log2(e) and log10(e) come in two parts, so that the larger one's products are nearly exact.
FORMULA(float, log2, f32)(float x) {
  float m, e = formula_split_log(x, &m);
  float tail = formula_fma(-0.5f, m * m, formula_log_near_1(m));
  float rest = formula_fma(m, 0.44269504088896341f, tail * 0.44269504088896341f) + tail;
  return formula_log_ends(x, e + (m + rest));
}

FORMULA(float, log10, f32)(float x) {
  float m, e = formula_split_log(x, &m);
  float tail = formula_fma(-0.5f, m * m, formula_log_near_1(m));
  float rest = formula_fma(e, 2.48745663981195214e-4f, (m + tail) * 7.00731903251827651e-4f);
  rest = formula_fma(m, 4.3359375e-1f, formula_fma(tail, 4.3359375e-1f, rest));
  return formula_log_ends(x, formula_fma(e, 3.0078125e-1f, rest));
}

// What 1 + x loses in rounding is added to m again. It is too little to count where x is large, and
// 2^-e might be no number there.
FORMULA(float, log1p, f32)(float x) {
  float sum = 1.0f + x, lost = x - (sum - 1.0f), m, e = formula_split_log(sum, &m);
  float more = lost * formula_power_of_2(-(int32_t)e);
  m += sum < 33554432.0f ? more : 0.0f;
  return x == 0 ? x : formula_log_ends(sum, formula_joined_log(e, m));
}

// -- angles

// The sine and the cosine of |t| <= pi/4.
MOON_SHARED float formula_sine_near_0(float t) {
  float s = t * t;
  float p = formula_fma(-1.9515295891e-4f, s, 8.3321608736e-3f);
  p = formula_fma(p, s, -1.6666654611e-1f);
  return formula_fma(p * s, t, t);
}

MOON_SHARED float formula_cosine_near_0(float t) {
  float s = t * t;
  float q = formula_fma(2.443315711809948e-5f, s, -1.388731625493765e-3f);
  q = formula_fma(q, s, 4.166664568298827e-2f);
  return formula_fma(q * s, s, formula_fma(-0.5f, s, 1.0f));
}

// -- others

// 1 - 2 e / (1 + e) with e = exp(-2 |x|), but near 0 an odd polynomial. From 9.02 on it is 1.
FORMULA(float, tanh, f32)(float x) {
  float size = formula_size(x), r;
  float limited = size > 9.02f ? 9.02f : size;
  float power = formula_power_of_2(formula_split_exp(-2.0f * limited, &r));
  float e = formula_fma(power, formula_exp_near_0(r), power);
  float large = 1.0f - (e + e) / (1.0f + e);
  float s = x * x;
  float p = formula_fma(-5.70498872745e-3f, s, 2.06390887954e-2f);
  p = formula_fma(p, s, -5.37397155531e-2f);
  p = formula_fma(p, s, 1.33314422036e-1f);
  p = formula_fma(p, s, -3.33332819422e-1f);
  return size > 0.625f ? formula_signed(large, x) : formula_fma(p * s, x, x);
}

// erf(x) for |x| <= 0.9.
MOON_SHARED float formula_erf_near_0(float x) {
  float s = x * x;
  float p = formula_fma(-6.0904823e-4f, s, 5.0119902e-3f);
  p = formula_fma(p, s, -2.6778931e-2f);
  p = formula_fma(p, s, 0.112821415f);
  p = formula_fma(p, s, -0.37612525f);
  p = formula_fma(p, s, 0.12837915f);
  return formula_fma(p, x, x);
}

// erfc(x) for x >= 0.7: exp(-x^2) P(v) / (x + 2.5), v = (x - 2.5) / (x + 2.5). x^2 is the square of
// x's upper half, which is exact, and the rest.
MOON_SHARED float formula_erfc_tail(float x) {
  float limited = x > 10.2f ? 10.2f : x, r;
  float upper = formula_from_bits(formula_bits(limited) & 0xFFFFF000u);
  int32_t n = formula_split_exp(-upper * upper, &r);
  r -= (limited - upper) * (limited + upper);
  float w = 1.0f / (limited + 2.5f), v = (limited - 2.5f) * w;
  float p = formula_fma(0.000584145775f, v, -0.000394212173f);
  p = formula_fma(p, v, -0.00477253277f);
  p = formula_fma(p, v, 0.00837975096f);
  p = formula_fma(p, v, 0.0283541995f);
  p = formula_fma(p, v, -0.171249629f);
  p = formula_fma(p, v, 0.453914518f);
  p = formula_fma(p, v, -0.804651897f);
  p = formula_fma(p, v, 1.05403182f);
  p *= w;
  return formula_scaled(formula_fma(p, formula_exp_near_0(r), p), n);
}

FORMULA(float, erf, f32)(float x) {
  float size = formula_size(x);
  float large = formula_signed(1.0f - formula_erfc_tail(size), x);
  return size > 0.9f ? large : formula_erf_near_0(x);
}

FORMULA(float, erfc, f32)(float x) {
  float size = formula_size(x), tail = formula_erfc_tail(size);
  float large = x < 0 ? 2.0f - tail : tail;
  return size > 0.7f ? large : 1.0f - formula_erf_near_0(x);
}

#endif
