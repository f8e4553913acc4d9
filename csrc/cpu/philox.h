// Philox4x32-10 (base/random.h) for as many blocks at once as a register has 64-bit lanes. A word
// stands in the low half of a lane; what multiplications leave in the high half is never read.
#ifndef MOON_CPU_PHILOX_H
#define MOON_CPU_PHILOX_H

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <stdint.h>

#include "cpu/lane_bytes.h"

enum { PHILOX_BLOCKS = LANE_BYTES / 8, PHILOX_ROUNDS = 10 };

typedef uint64_t philox_lanes __attribute__((vector_size(LANE_BYTES)));
typedef uint64_t philox_words
    __attribute__((vector_size(LANE_BYTES), aligned(sizeof(uint32_t)), may_alias));

static inline philox_lanes philox_product(philox_lanes words, uint32_t factor) {
  philox_lanes factors = (philox_lanes){ 0 } + factor;
#if defined(__AVX512F__)
  return (philox_lanes)_mm512_mul_epu32((__m512i)words, (__m512i)factors);
#elif defined(__AVX2__)
  return (philox_lanes)_mm256_mul_epu32((__m256i)words, (__m256i)factors);
#elif defined(__SSE2__)
  return (philox_lanes)_mm_mul_epu32((__m128i)words, (__m128i)factors);
#else
  return (words & 0xFFFFFFFFu) * factors;
#endif
}

// The words of blocks `first`, first + 1, ..., four each, one block's after the other's.
static inline void philox_draw(uint64_t seed, uint64_t first, uint32_t *words) {
  philox_lanes place, c0, c1, c2 = { 0 }, c3 = { 0 };
#pragma GCC unroll 8
  for (int i = 0; i < PHILOX_BLOCKS; i++) place[i] = (uint64_t)i;
  c0 = place + first;
  c1 = c0 >> 32;
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < PHILOX_ROUNDS; round++) {
    philox_lanes p0 = philox_product(c0, 0xD2511F53u), p1 = philox_product(c2, 0xCD9E8D57u);
    c0 = (p1 >> 32) ^ c1 ^ key0;
    c2 = (p0 >> 32) ^ c3 ^ key1;
    c1 = p1;
    c3 = p0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  philox_lanes low = (c0 & 0xFFFFFFFFu) | c1 << 32, high = (c2 & 0xFFFFFFFFu) | c3 << 32;
  philox_lanes near = place / 2 + (place % 2) * PHILOX_BLOCKS, far = near + PHILOX_BLOCKS / 2;
  philox_words *to = (philox_words *)words;
  to[0] = __builtin_shuffle(low, high, near);
  to[1] = __builtin_shuffle(low, high, far);
}

#endif
