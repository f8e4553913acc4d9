// How words of the random stream become numbers, shared by every device so that the draws agree to
// the bit. A file that draws includes this header before any other of device/ and is compiled
// without contraction of a * b + c (gcc: -ffp-contract=off, nvcc: -fmad=false), since a fused
// multiply-add rounds once and not twice.
#ifndef MOON_DEVICE_DRAWS_H
#define MOON_DEVICE_DRAWS_H

#define FORMULA_UNFUSED
#include "base/dtype.h"
#include "base/random.h"
#include "device/formula_math.h"

// A whole number below `range` (at least 1) from the first 64 bits of a block: the high half of
// a product, without rejection (off by less than range / 2^64).
MOON_SHARED uint64_t draw_below(random_block block, uint64_t range) {
  uint64_t bits = (uint64_t)block.word[1] << 32 | block.word[0];
  uint64_t low = (bits & 0xFFFFFFFFu) * (range & 0xFFFFFFFFu);
  uint64_t cross1 = (bits >> 32) * (range & 0xFFFFFFFFu) + (low >> 32);
  uint64_t cross2 = (bits & 0xFFFFFFFFu) * (range >> 32) + (cross1 & 0xFFFFFFFFu);
  return (bits >> 32) * (range >> 32) + (cross1 >> 32) + (cross2 >> 32);
}

// Dropout keeps an element whose word, shifted right by 8, is at least this.
MOON_SHARED uint32_t draw_dropout_limit(double p) { return (uint32_t)ceil(p * 16777216.0); }

// A uniform number from low to low + range, at most `most`.
MOON_SHARED double draw_uniform(uint32_t word, double low, double range, double most) {
  double value = low + range * (double)random_unit(word);
  return value < most ? value : most;
}

// Rounding must not reach `high`: the largest number of the dtype below it.
static inline double draw_largest_below(moon_dtype dtype, double low, double high) {
  uint64_t bits = 0;
  if (!(low < high)) return low;
  if (dtype == MOON_F64) return nextafter(high, low);
  if (dtype == MOON_F32) return (double)nextafterf((float)high, (float)low);
  dtype_store(dtype, &bits, high);
  double value = dtype_load(dtype, &bits);
  if (value < high) return value;
  bits = value > 0 ? bits - 1 : value < 0 ? bits + 1 : 0x8001;   // halves: sign and size
  return dtype_load(dtype, &bits);
}

// Box and Muller (1958): two words become two normal numbers, radius times cosine and sine. The
// angle is cut into quarters; within one, polynomials serve |t| <= pi/4.
MOON_SHARED void draw_normal_pair(uint32_t word0, uint32_t word1, float *first, float *second) {
  float unit = (float)((word0 >> 8) + 1u) * 0x1p-24f;   // in (0, 1]
  float radius = sqrtf(-2.0f * FORMULA_CALL(log, f32)(unit));
  uint32_t quarter = (word1 + 0x20000000u) >> 30;
  float t = (float)((int32_t)(word1 - (quarter << 30)) >> 6) * (0x1p-24f * 1.57079632679489662f);
  float sine = formula_sine_near_0(t), cosine = formula_cosine_near_0(t);
  float x = quarter & 1u ? sine : cosine, y = quarter & 1u ? cosine : sine;
  *first = radius * ((quarter + 1u) & 2u ? -x : x);
  *second = radius * (quarter & 2u ? -y : y);
}

#endif
