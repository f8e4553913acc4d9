// Numbers drawn and results judged for the tests of kernels: expected values are kept in double,
// each with the size of the terms it is the sum of, and what a kernel gave may be off by so many
// units of its type in that size.
#ifndef MOON_SPEC_CPU_EXPECTED_H
#define MOON_SPEC_CPU_EXPECTED_H

#include "cpu_check.h"

static const moon_dtype floats[] = { MOON_F32, MOON_F64, MOON_F16, MOON_BF16 };
enum { FLOATS = 4 };

static inline double unit_of(moon_dtype dtype) {
  static const double unit[] = { 0x1p-23, 0x1p-52, 0x1p-10, 0x1p-7 };
  return unit[dtype];
}

static inline int64_t draw(int64_t low, int64_t high) {
  return low + (int64_t)(next_bits() >> 20) % (high - low + 1);
}

// Expected numbers, each with the sum of its terms' sizes, to judge rounding by.
typedef struct expected { double *value, *size; int64_t count; } expected;

static inline expected expect_new(const device_array *like) {
  expected e = { .count = array_count(like) };
  e.value = arena_take((size_t)e.count * sizeof(double) + 8);
  e.size = arena_take((size_t)e.count * sizeof(double) + 8);
  memset(e.value, 0, (size_t)e.count * sizeof(double));
  memset(e.size, 0, (size_t)e.count * sizeof(double));
  return e;
}

// The array's elements in row-major order, as double: naive loops read these.
static inline double *doubles_of(const device_array *array) {
  int64_t count = array_count(array);
  double *values = arena_take((size_t)count * sizeof(double) + 8);
  for (int64_t i = 0; i < count; i++) values[i] = get(array, i);
  return values;
}

static inline void expect_term(expected *e, int64_t index, double term) {
  EXPECT(index >= 0 && index < e->count);
  e->value[index] += term;
  e->size[index] += fabs(term);
}

static inline void expect_equal(const device_array *got, const expected *e, double ulps,
                         const char *what) {
  for (int64_t i = 0; i < e->count; i++) {
    double a = get(got, i), b = e->value[i];
    double wide = got->dtype == MOON_F64 ? 0x1p-52 : 0x1p-23;
    double slack = ulps * wide * (e->size[i] + 1e-6) + unit_of(got->dtype) * fabs(b) * 2;
    if (got->dtype == MOON_F16) slack += 0x1p-24;
    if (a != a && b != b) continue;
    if (!(fabs(a - b) <= slack))
      check_fail(__FILE__, __LINE__, "%s: element %lld of %lld is %.9g, expected %.9g", what,
                 (long long)i, (long long)e->count, a, b);
  }
}

#endif
