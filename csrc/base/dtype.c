// Names, sizes and classes of the element types, read off dtype.def, and single elements to and
// from double and int64. Loops have kernels of their own.
#include "base/dtype.h"

#include <math.h>
#include <string.h>

typedef struct dtype_row {
  const char *name;
  dtype_class class;
} dtype_row;

static const dtype_row rows[MOON_DTYPE_COUNT] = {
#define DTYPE(id, name, storage, compute, class) { #name, DTYPE_##class },
#include "base/dtype.def"
#undef DTYPE
};

const char *dtype_name(moon_dtype dtype) { return rows[dtype].name; }
dtype_class dtype_class_of(moon_dtype dtype) { return rows[dtype].class; }

bool dtype_by_name(const char *name, moon_dtype *dtype) {
  for (int i = 0; i < MOON_DTYPE_COUNT; i++) {
    if (strcmp(rows[i].name, name) == 0) {
      *dtype = (moon_dtype)i;
      return true;
    }
  }
  return false;
}

double dtype_load(moon_dtype dtype, const void *element) {
  union { float f32; double f64; uint16_t half; int64_t i64; int32_t i32; uint8_t u8; } v;
  memcpy(&v, element, dtype_size(dtype));
  switch (dtype) {
    case MOON_F32: return v.f32;
    case MOON_F64: return v.f64;
    case MOON_F16: return half_to_float(v.half);
    case MOON_BF16: return bfloat_to_float(v.half);
    case MOON_I64: return (double)v.i64;
    case MOON_I32: return v.i32;
    case MOON_U8: return v.u8;
    case MOON_BOOL: return v.u8 != 0;
    case MOON_DTYPE_COUNT: break;
  }
  return 0;
}

int64_t dtype_load_int(moon_dtype dtype, const void *element) {
  if (dtype == MOON_I64) {
    int64_t value;
    memcpy(&value, element, sizeof value);
    return value;
  }
  return dtype_to_int(dtype_load(dtype, element));
}

void dtype_store(moon_dtype dtype, void *element, double value) {
  float single = (float)value;
  uint16_t half;
  switch (dtype) {
    case MOON_F32: memcpy(element, &single, sizeof single); break;
    case MOON_F64: memcpy(element, &value, sizeof value); break;
    case MOON_F16:
      half = half_from_float(dtype_odd_from_double(value));
      memcpy(element, &half, sizeof half);
      break;
    case MOON_BF16:
      half = bfloat_from_float(dtype_odd_from_double(value));
      memcpy(element, &half, sizeof half);
      break;
    case MOON_BOOL: *(uint8_t *)element = value != 0; break;
    default: dtype_store_int(dtype, element, dtype_to_int(value));
  }
}

void dtype_store_int(moon_dtype dtype, void *element, int64_t value) {
  const int64_t exact = INT64_C(1) << 53, low = 0x7ff;
  int32_t narrow = (int32_t)(uint32_t)(uint64_t)value;
  float single = (float)value;
  switch (dtype) {
    case MOON_F32: memcpy(element, &single, sizeof single); break;
    case MOON_I64: memcpy(element, &value, sizeof value); break;
    case MOON_I32: memcpy(element, &narrow, sizeof narrow); break;
    case MOON_U8: *(uint8_t *)element = (uint8_t)(uint64_t)value; break;
    case MOON_BOOL: *(uint8_t *)element = value != 0; break;
    case MOON_F16:
    case MOON_BF16:
      // A double does not hold all of a large integer; one bit stands for what would be lost.
      if ((value > exact || value < -exact) && (value & low) != 0) value = (value & ~low) | 0x400;
      // fall through
    default: dtype_store(dtype, element, (double)value);
  }
}
