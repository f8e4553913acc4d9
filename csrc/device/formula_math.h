// The functions behind formula.h's words, for float (_f32), double (_f64) and int64_t (_i64); in
// C++ the same functions are overloads without the suffix. Compiled by gcc and nvcc alike, so that
// the CPU and the GPU calculate the same formula.
//
// In float32 most elementary functions are polynomials (formula_float.h); the rest is the C
// library's. NaN passes through maximum and minimum; integers wrap around.
#ifndef MOON_DEVICE_FORMULA_MATH_H
#define MOON_DEVICE_FORMULA_MATH_H

#include "device/formula_float.h"

// -- the C library's
#define FORMULA_DOUBLE(name) \
  FORMULA(double, name, f64)(double x) { return name(x); }
#define FORMULA_LIBRARY(name)                                \
  FORMULA(float, name, f32)(float x) { return name##f(x); } \
  FORMULA_DOUBLE(name)
FORMULA_DOUBLE(exp)
FORMULA_DOUBLE(expm1)
FORMULA_DOUBLE(log)
FORMULA_DOUBLE(log1p)
FORMULA_DOUBLE(log2)
FORMULA_DOUBLE(log10)
FORMULA_DOUBLE(sin)
FORMULA_DOUBLE(cos)
FORMULA_DOUBLE(tan)
FORMULA_DOUBLE(tanh)
FORMULA_DOUBLE(erf)
FORMULA_DOUBLE(erfc)
FORMULA_LIBRARY(sqrt)
FORMULA_LIBRARY(asin)
FORMULA_LIBRARY(acos)
FORMULA_LIBRARY(atan)
FORMULA_LIBRARY(sinh)
FORMULA_LIBRARY(cosh)
FORMULA_LIBRARY(floor)
FORMULA_LIBRARY(ceil)
FORMULA_LIBRARY(trunc)
#undef FORMULA_LIBRARY
#undef FORMULA_DOUBLE
FORMULA(double, sigmoid, f64)(double x) { return 1.0 / (1.0 + exp(-x)); }
FORMULA(float, round, f32)(float x) { return rintf(x); }   // halves to even
FORMULA(double, round, f64)(double x) { return rint(x); }

FORMULA(double, pow, f64)(double x, double y) { return pow(x, y); }
#define FORMULA_LIBRARY(name)                                                 \
  FORMULA(float, name, f32)(float x, float y) { return name##f(x, y); }       \
  FORMULA(double, name, f64)(double x, double y) { return name(x, y); }
FORMULA_LIBRARY(fmod)
FORMULA_LIBRARY(atan2)
FORMULA_LIBRARY(hypot)
#undef FORMULA_LIBRARY

// -- arithmetic, floats
#define FORMULA_FLOATS(type, suffix)                                                              \
  FORMULA(type, select, suffix)(bool c, type x, type y) { return c ? x : y; }                     \
  FORMULA(type, neg, suffix)(type x) { return -x; }                                               \
  FORMULA(type, abs, suffix)(type x) { return x < 0 ? -x : x + 0; }                               \
  FORMULA(type, sign, suffix)(type x) { return (type)((x > 0) - (x < 0)); }                       \
  FORMULA(type, square, suffix)(type x) { return x * x; }                                         \
  FORMULA(type, reciprocal, suffix)(type x) { return 1 / x; }                                     \
  FORMULA(type, rsqrt, suffix)(type x) { return 1 / FORMULA_CALL(sqrt, suffix)(x); }              \
  FORMULA(type, add, suffix)(type x, type y) { return x + y; }                                    \
  FORMULA(type, sub, suffix)(type x, type y) { return x - y; }                                    \
  FORMULA(type, mul, suffix)(type x, type y) { return x * y; }                                    \
  FORMULA(type, maximum, suffix)(type x, type y) {                                                \
    type chosen = x > y ? x : y;                                                                  \
    return x == x ? chosen : x;                                                                   \
  }                                                                                               \
  FORMULA(type, minimum, suffix)(type x, type y) {                                                \
    type chosen = x < y ? x : y;                                                                  \
    return x == x ? chosen : x;                                                                   \
  }                                                                                               \
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
FORMULA(int64_t, select, i64)(bool c, int64_t x, int64_t y) { return c ? x : y; }
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
