// Vectors of whole numbers, as wide as those of REAL, from and to bytes. Included after REAL is
// defined.
#ifndef MOON_CPU_LANES_BYTES_H
#define MOON_CPU_LANES_BYTES_H

#include "cpu/lanes.h"

static inline lanes_bits lanes_from_bytes(const uint8_t *from) {
#if defined(__AVX512F__) && REAL_BYTES == 4
  return (lanes_bits)_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)from));
#elif defined(__AVX2__) && REAL_BYTES == 4
  return (lanes_bits)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)from));
#else
  lanes_bits numbers;
  for (int i = 0; i < LANES; i++) numbers[i] = from[i];
  return numbers;
#endif
}

static inline void lanes_to_bytes(lanes_bits numbers, uint8_t *to) {
#if defined(__AVX512F__) && REAL_BYTES == 4
  _mm_storeu_si128((void *)to, _mm512_cvtepi32_epi8((__m512i)numbers));
#else
  for (int i = 0; i < LANES; i++) to[i] = (uint8_t)numbers[i];
#endif
}

// The first `count` only, all where it is LANES or more.
static inline void lanes_to_bytes_some(lanes_bits numbers, uint8_t *to, int64_t count) {
  if (count >= LANES) {
    lanes_to_bytes(numbers, to);
    return;
  }
#if defined(__AVX512F__) && REAL_BYTES == 4
  _mm512_mask_cvtepi32_storeu_epi8(to, (__mmask16)((1u << count) - 1), (__m512i)numbers);
#else
  uint8_t part[LANES];
  lanes_to_bytes(numbers, part);
  for (int64_t i = 0; i < count; i++) to[i] = part[i];
#endif
}

#endif
