// Element types: the enum, their names, sizes and classes (from dtype.def), and the conversions of
// the half types. A half is stored as its bits and calculated in float32.
#ifndef MOON_BASE_DTYPE_H
#define MOON_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/shared.h"

typedef enum moon_dtype {
#define DTYPE(id, name, storage, compute, class) MOON_##id,
#include "base/dtype.def"
#undef DTYPE
  MOON_DTYPE_COUNT
} moon_dtype;

typedef enum dtype_class { DTYPE_FLOAT, DTYPE_INTEGER, DTYPE_BOOLEAN } dtype_class;

static inline size_t dtype_size(moon_dtype dtype) {
  static const uint8_t sizes[MOON_DTYPE_COUNT] = {
#define DTYPE(id, name, storage, compute, class) sizeof(storage),
#include "base/dtype.def"
#undef DTYPE
  };
  return sizes[dtype];
}
const char *dtype_name(moon_dtype dtype);
dtype_class dtype_class_of(moon_dtype dtype);
MOON_SHARED bool dtype_is_float(moon_dtype dtype) { return dtype <= MOON_BF16; }
MOON_SHARED bool dtype_is_half(moon_dtype dtype) {
  return dtype == MOON_F16 || dtype == MOON_BF16;
}

// Finds the type called `name` ("float32"); false if there is none.
bool dtype_by_name(const char *name, moon_dtype *dtype);

// One element to and from double / int64, for scalars and printing; not for loops.
// Storing rounds once, to nearest even, into the float types. A double that goes to an integer is
// cut towards zero and held within int64 (NaN gives 0); narrower integers keep the low bits, as a
// cast in C does. bool becomes 1 for anything but 0.
double dtype_load(moon_dtype dtype, const void *element);
void dtype_store(moon_dtype dtype, void *element, double value);
int64_t dtype_load_int(moon_dtype dtype, const void *element);
void dtype_store_int(moon_dtype dtype, void *element, int64_t value);

// A double as an integer: cut towards zero and held within int64, NaN gives 0.
MOON_SHARED int64_t dtype_to_int(double value) {
  if (!(value >= -0x1p63)) return value < 0 ? INT64_MIN : 0;
  return value < 0x1p63 ? (int64_t)value : INT64_MAX;
}

// IEEE 754 binary16 and bfloat16: round to nearest even; NaN stays NaN and becomes quiet, as the
// processor's own instructions do it. Inline and free of tables, so that loops over them vectorise.
typedef union dtype_bits { uint32_t u; float f; } dtype_bits;

// float32 rounded to odd: cut towards 0, with the last bit set if anything was lost. Rounding that
// to a half gives the half nearest to the value, where two roundings to nearest would not.
MOON_SHARED float dtype_odd_from_double(double value) {
  dtype_bits v;
  v.f = (float)value;
  if (value != value || (double)v.f == value) return v.f;
  double cut = (double)v.f;
  if ((cut < 0 ? -cut : cut) > (value < 0 ? -value : value)) v.u--;
  v.u |= 1u;
  return v.f;
}

// As above; what a double cannot hold of a large integer is kept as one sticky bit.
MOON_SHARED float dtype_odd_from_int(int64_t value) {
  const int64_t exact = INT64_C(1) << 53, low = 0x7FF;
  if ((value > exact || value < -exact) && (value & low) != 0) value = (value & ~low) | 0x400;
  return dtype_odd_from_double((double)value);
}

MOON_SHARED float half_to_float(uint16_t bits) {
  // The exponent is moved from bias 15 to 127; what has exponent 0 is made normal by a
  // subtraction that float32 does exactly (after F. Giesen, "half to float done quick").
  const uint32_t exponent_mask = 0x7c00u << 13;
  const dtype_bits smallest_normal = { 113u << 23 };
  dtype_bits v = { (bits & 0x7fffu) << 13 };
  uint32_t exponent = v.u & exponent_mask;
  v.u += (127u - 15u) << 23;
  if (exponent == exponent_mask) {
    v.u += (128u - 16u) << 23;
  } else if (exponent == 0) {
    v.u += 1u << 23;
    v.f -= smallest_normal.f;
  }
  v.u |= (uint32_t)(bits & 0x8000u) << 16;
  return v.f;
}

MOON_SHARED uint16_t half_from_float(float value) {
  // Adding 0.5 leaves a subnormal half in the low bits of the sum, rounded by the addition itself.
  const uint32_t infinity = 255u << 23, too_large = (127u + 16u) << 23, normal = 113u << 23;
  const dtype_bits half = { 126u << 23 };
  dtype_bits v;
  v.f = value;
  uint32_t sign = v.u & 0x80000000u, result;
  v.u ^= sign;
  if (v.u >= too_large) {
    result = v.u > infinity ? 0x7e00u | ((v.u >> 13) & 0x3ffu) : 0x7c00u;
  } else if (v.u < normal) {
    v.f += half.f;
    result = v.u - half.u;
  } else {
    uint32_t odd = (v.u >> 13) & 1u;
    result = (v.u - ((127u - 15u) << 23) + 0xfffu + odd) >> 13;
  }
  return (uint16_t)(result | (sign >> 16));
}

MOON_SHARED float bfloat_to_float(uint16_t bits) {
  dtype_bits v = { (uint32_t)bits << 16 };
  return v.f;
}

MOON_SHARED uint16_t bfloat_from_float(float value) {
  dtype_bits v;
  v.f = value;
  if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((v.u >> 16) | 0x40u);
  return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

#endif
