// Elementary functions in float32, as polynomials without branches or calls, which a compiler turns
// into vector code. Cody-Waite reduction; the coefficients of exp, log, tanh, sine, cosine and
// tangent are those of Cephes (S. Moshier, Cephes Math Library 2.2, single/expf.c, ...), those of
// erf, erfc and powers were fitted for the least relative error. Within 2 to 4 ulp of the exact
// value over the whole range (spec/c/cpu_pointwise_test.c); overflow gives infinity, underflow
// passes through the denormals to 0, NaN stays NaN, and what is odd keeps the sign of 0.
#ifndef MOON_DEVICE_FORMULA_FLOAT_H
#define MOON_DEVICE_FORMULA_FLOAT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/shared.h"

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

// Up to here the three functions hold on the CPU, whose loops take what lies beyond through double.
#define FORMULA_FAR 12800.0f

MOON_SHARED bool formula_is_far(float x) {
#if defined(__CUDA_ARCH__)
  return formula_size(x) > FORMULA_FAR;
#else
  (void)x;
  return false;
#endif
}

// x = n pi / 2 + rest + low with |rest| <= pi / 4. The first three parts of pi / 2 are so short
// that their products with n are exact, without fused additions too; so are the differences but the
// third, whose rounding goes to `low`. Gives a number that ends with n's bits.
MOON_SHARED int32_t formula_split_turn(float x, float *rest, float *low) {
  float shifted = formula_fma(x, 0.636619746685028076f, 12582912.0f);
  float n = shifted - 12582912.0f;
  float r = formula_fma(n, -4.837512969970703125e-4f, formula_fma(n, -1.5703125f, x));
  float part = n * 7.549533620476723e-8f;
  *rest = r - part;
  *low = formula_fma(n, -2.5633440682570896e-12f, (r - *rest) - part);
  return (int32_t)formula_bits(shifted);
}

// The sine of n pi / 2 + t + low.
MOON_SHARED float formula_turned_sine(int32_t n, float t, float low) {
  float sine = formula_sine_near_0(t), cosine = formula_cosine_near_0(t);
  float size = n & 1 ? formula_fma(-low, sine, cosine) : formula_fma(low, cosine, sine);
  return formula_from_bits(formula_bits(size) ^ ((uint32_t)n << 30 & 0x80000000u));
}

FORMULA(float, sin, f32)(float x) {
  float t, low;
  if (formula_is_far(x)) return sinf(x);
  int32_t n = formula_split_turn(x, &t, &low);
  float result = formula_turned_sine(n, t, low);
  return x == 0 ? x : result;
}

FORMULA(float, cos, f32)(float x) {
  float t, low;
  if (formula_is_far(x)) return cosf(x);
  int32_t n = formula_split_turn(x, &t, &low);
  return formula_turned_sine(n + 1, t, low);
}

FORMULA(float, tan, f32)(float x) {
  float t, low;
  if (formula_is_far(x)) return tanf(x);
  int32_t n = formula_split_turn(x, &t, &low);
  float s = t * t;
  float p = formula_fma(9.38540185543e-3f, s, 3.11992232697e-3f);
  p = formula_fma(p, s, 2.44301354525e-2f);
  p = formula_fma(p, s, 5.34112807005e-2f);
  p = formula_fma(p, s, 1.33387994085e-1f);
  p = formula_fma(p, s, 3.33331568548e-1f);
  float more = formula_fma(p * s, t, formula_fma(low, s, low));   // 1 + tan^2 is about 1 + t^2
  float tangent = t + more, left = more - (tangent - t);
  float turned = -1.0f / tangent;
  turned = formula_fma(turned * turned, left, turned);
  float result = n & 1 ? turned : tangent;
  return x == 0 ? x : result;
}

// -- powers, in double: a logarithm that is multiplied needs more digits than float has

MOON_SHARED uint64_t formula_wide_bits(double value) {
  union { double d; uint64_t u; } v;
  v.d = value;
  return v.u;
}

MOON_SHARED double formula_from_wide_bits(uint64_t bits) {
  union { uint64_t u; double d; } v;
  v.u = bits;
  return v.d;
}

// log2(x) of a positive number, which is a float's; within 2^-35 of itself. x = 2^e (1 + m) with
// 1 + m in [sqrt(1/2), sqrt(2)); adding 1.5 * 2^52 makes a number of e's bits.
MOON_SHARED double formula_wide_log2(double x) {
  uint64_t bits = formula_wide_bits(x) - 0x3FE6A09E667F3BCDu;
  double m = formula_from_wide_bits((bits & 0x000FFFFFFFFFFFFFu) + 0x3FE6A09E667F3BCDu) - 1.0;
  uint64_t e = ((bits >> 52) ^ 0x800u) + 0x4338000000000000u;
  double p = 0.0773705662708199489 * m - 0.14283955177509002;
  p = p * m + 0.144748516636845772;
  p = p * m - 0.143156438744352638;
  p = p * m + 0.158769783390933138;
  p = p * m - 0.180300599276035689;
  p = p * m + 0.206175360654216317;
  p = p * m - 0.240453165896551962;
  p = p * m + 0.288537293452152189;
  p = p * m - 0.360673674817446523;
  p = p * m + 0.480898361395243159;
  p = p * m - 0.721347520868847438;
  p = p * m + 1.44269504086870844;
  return p * m + (formula_from_wide_bits(e) - (6755399441055744.0 + 2048.0));
}

// 2^t within 2^-29 of itself for |t| <= 200; anything for other t.
MOON_SHARED double formula_wide_exp2(double t) {
  double shifted = t + 6755399441055744.0, f = t - (shifted - 6755399441055744.0);
  double p = 0.000155788450567217978 * f + 0.00133997659439753758;
  p = p * f + 0.0096176204649034446;
  p = p * f + 0.0555032927161337371;
  p = p * f + 0.24022654950148537;
  p = p * f + 0.69314720545448107;
  p = p * f + 0.99999999945665196;
  return formula_from_wide_bits(formula_wide_bits(p) + (formula_wide_bits(shifted) << 52));
}

// The last bit of y in place of a float's sign, if y is a whole number.
MOON_SHARED uint32_t formula_odd_sign(float y, bool *whole) {
  double shifted = (double)y + 6755399441055744.0;
  bool large = formula_size(y) >= 16777216.0f;   // whole and even
  *whole = large | (shifted - 6755399441055744.0 == (double)y);
  uint32_t sign = (uint32_t)formula_wide_bits(shifted) << 31;
  return *whole & !large ? sign : 0;
}

// What is chosen at an end is calculated first, or the compiler makes branches of it.
FORMULA(float, pow, f32)(float x, float y) {
#if defined(__CUDA_ARCH__)
  return powf(x, y);
#else
  bool whole;
  uint32_t sign = formula_odd_sign(y, &whole) & formula_bits(x) & 0x80000000u;
  float size = formula_size(x);
  double logarithm = formula_wide_log2((double)size);
  logarithm = size > 0 ? logarithm : -(double)INFINITY;
  logarithm = size < INFINITY ? logarithm : (double)INFINITY;
  double t = (double)y * logarithm;
  float result = (float)formula_wide_exp2(t);
  result = t > 200 ? INFINITY : result;
  result = t < -200 ? 0 : result;
  result = size == 1 ? 1 : result;
  result = formula_from_bits(formula_bits(result) | sign);
  result = !whole & (x < 0) & (size < INFINITY) ? NAN : result;
  result = (x != x) | (y != y) ? x + y : result;
  return (x == 1) | (y == 0) ? 1.0f : result;
#endif
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
  p *= w;   // n is from -150 to 0: one power is enough, and it is no denormal number
  float whole = formula_fma(p, formula_exp_near_0(r), p) * formula_power_of_2(n + 64);
  return whole * 5.42101086242752217e-20f;
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
