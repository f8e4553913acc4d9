// The vocabulary of pointwise.def's formulas, the same for gcc (C11, type-generic) and nvcc
// (overloads). Where a row is expanded, T is the compute type of the instance (a typedef or a
// template parameter) and x, y, g, a, b, z are values of it; F(0.5) is a constant of that type.
//
// This header redefines exp, floor, ... as macros, so it is included last, and only by the files
// that expand rows; others use the functions of formula_math.h under their full names.
#ifndef MOON_DEVICE_FORMULA_H
#define MOON_DEVICE_FORMULA_H

#include "device/formula_math.h"

// FORMULA_FLOAT: words defined for float and double; FORMULA_NUMBER: for int64_t too. The first
// argument's type decides.
#ifdef __cplusplus
#define FORMULA_FLOAT(name, ...) formula_##name(__VA_ARGS__)
#define FORMULA_NUMBER(name, ...) formula_##name(__VA_ARGS__)
#define FORMULA_NUMBER2(name, x, y) formula_##name(x, y)
#define FORMULA_FLOAT2(name, x, y) formula_##name(x, y)
#define FORMULA_NUMBER3(name, c, x, y) formula_##name(c, x, y)
#else
#define FORMULA_FLOAT(name, x) \
  _Generic((x), float: formula_##name##_f32, double: formula_##name##_f64)(x)
#define FORMULA_FLOAT2(name, x, y) \
  _Generic((x), float: formula_##name##_f32, double: formula_##name##_f64)(x, y)
#define FORMULA_NUMBER(name, x)                                              \
  _Generic((x), float: formula_##name##_f32, double: formula_##name##_f64, \
           int64_t: formula_##name##_i64)(x)
#define FORMULA_NUMBER2(name, x, y)                                          \
  _Generic((x), float: formula_##name##_f32, double: formula_##name##_f64, \
           int64_t: formula_##name##_i64)(x, y)
#define FORMULA_NUMBER3(name, c, x, y)                                       \
  _Generic((x), float: formula_##name##_f32, double: formula_##name##_f64, \
           int64_t: formula_##name##_i64)(c, x, y)
#endif

#define F(number) ((T)(number))
#define ZERO F(0)
// Both sides are calculated: a branch would make the compiler calculate lanes that nobody asked for
// from whatever it finds, and denormal numbers among that are slow.
#define select(condition, p, q) FORMULA_NUMBER3(select, condition, (T)(p), (T)(q))

#undef abs
#undef sqrt
#undef exp
#undef expm1
#undef log
#undef log1p
#undef log2
#undef log10
#undef sin
#undef cos
#undef tan
#undef asin
#undef acos
#undef atan
#undef sinh
#undef cosh
#undef tanh
#undef erf
#undef erfc
#undef floor
#undef ceil
#undef round
#undef trunc
#undef pow
#undef fmod
#undef remainder
#undef atan2
#undef hypot

#define neg(x) FORMULA_NUMBER(neg, x)
#define abs(x) FORMULA_NUMBER(abs, x)
#define sign(x) FORMULA_NUMBER(sign, x)
#define square(x) FORMULA_NUMBER(square, x)
#define floor(x) FORMULA_NUMBER(floor, x)
#define ceil(x) FORMULA_NUMBER(ceil, x)
#define round(x) FORMULA_NUMBER(round, x)
#define trunc(x) FORMULA_NUMBER(trunc, x)
#define add(x, y) FORMULA_NUMBER2(add, x, y)
#define sub(x, y) FORMULA_NUMBER2(sub, x, y)
#define mul(x, y) FORMULA_NUMBER2(mul, x, y)
#define pow(x, y) FORMULA_NUMBER2(pow, x, y)
#define maximum(x, y) FORMULA_NUMBER2(maximum, x, y)
#define minimum(x, y) FORMULA_NUMBER2(minimum, x, y)
#define fmod(x, y) FORMULA_NUMBER2(fmod, x, y)
#define remainder(x, y) FORMULA_NUMBER2(remainder, x, y)
#define div_floor(x, y) FORMULA_NUMBER2(div_floor, x, y)

#define reciprocal(x) FORMULA_FLOAT(reciprocal, x)
#define sqrt(x) FORMULA_FLOAT(sqrt, x)
#define rsqrt(x) FORMULA_FLOAT(rsqrt, x)
#define exp(x) FORMULA_FLOAT(exp, x)
#define expm1(x) FORMULA_FLOAT(expm1, x)
#define log(x) FORMULA_FLOAT(log, x)
#define log1p(x) FORMULA_FLOAT(log1p, x)
#define log2(x) FORMULA_FLOAT(log2, x)
#define log10(x) FORMULA_FLOAT(log10, x)
#define sin(x) FORMULA_FLOAT(sin, x)
#define cos(x) FORMULA_FLOAT(cos, x)
#define tan(x) FORMULA_FLOAT(tan, x)
#define asin(x) FORMULA_FLOAT(asin, x)
#define acos(x) FORMULA_FLOAT(acos, x)
#define atan(x) FORMULA_FLOAT(atan, x)
#define sinh(x) FORMULA_FLOAT(sinh, x)
#define cosh(x) FORMULA_FLOAT(cosh, x)
#define tanh(x) FORMULA_FLOAT(tanh, x)
#define sigmoid(x) FORMULA_FLOAT(sigmoid, x)
#define erf(x) FORMULA_FLOAT(erf, x)
#define erfc(x) FORMULA_FLOAT(erfc, x)
#define atan2(x, y) FORMULA_FLOAT2(atan2, x, y)
#define hypot(x, y) FORMULA_FLOAT2(hypot, x, y)

#define lt(x, y) ((x) < (y))
#define le(x, y) ((x) <= (y))
#define gt(x, y) ((x) > (y))
#define ge(x, y) ((x) >= (y))
#define eq(x, y) ((x) == (y))
#define ne(x, y) ((x) != (y))
#define logical_and(x, y) ((x) && (y))
#define logical_or(x, y) ((x) || (y))

#endif
