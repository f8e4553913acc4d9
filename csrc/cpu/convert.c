// Rows of float32, float16 and bfloat16 to and from float. float16 uses the processor's own
// conversion where there is one; bfloat16 is the upper half of a float32.
#include "cpu/convert.h"

#if defined(__F16C__)
#include <immintrin.h>
static inline float load_f16(uint16_t bits) { return _cvtsh_ss(bits); }
static inline uint16_t store_f16(float value) {
  return _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT);
}
#else
static inline float load_f16(uint16_t bits) { return half_to_float(bits); }
static inline uint16_t store_f16(float value) { return half_from_float(value); }
#endif

static void f16_to_f32(const uint16_t *source, int64_t stride, int64_t count, float *target) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; stride == 1 && i + 8 <= count; i += 8)
    _mm256_storeu_ps(target + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(source + i))));
#endif
  for (; i < count; i++) target[i] = load_f16(source[i * stride]);
}

static void f16_from_f32(const float *source, int64_t count, uint16_t *target, int64_t stride) {
  int64_t i = 0;
#if defined(__F16C__)
  for (; stride == 1 && i + 8 <= count; i += 8)
    _mm_storeu_si128((__m128i *)(target + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(source + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < count; i++) target[i * stride] = store_f16(source[i]);
}

void CPU(convert_to_f32)(moon_dtype dtype, const void *source, int64_t stride, int64_t count,
                         float *target) {
  if (dtype == MOON_F32) {
    const float *from = source;
    for (int64_t i = 0; i < count; i++) target[i] = from[i * stride];
  } else if (dtype == MOON_F16) {
    f16_to_f32(source, stride, count, target);
  } else {
    const uint16_t *from = source;
    for (int64_t i = 0; i < count; i++) target[i] = bfloat_to_float(from[i * stride]);
  }
}

void CPU(convert_from_f32)(moon_dtype dtype, const float *source, int64_t count, void *target,
                           int64_t stride) {
  if (dtype == MOON_F32) {
    float *to = target;
    for (int64_t i = 0; i < count; i++) to[i * stride] = source[i];
  } else if (dtype == MOON_F16) {
    f16_from_f32(source, count, target, stride);
  } else {
    uint16_t *to = target;
    for (int64_t i = 0; i < count; i++) to[i * stride] = bfloat_from_float(source[i]);
  }
}
