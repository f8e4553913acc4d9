// Philox4x32-10 (base/random.h) for as many blocks at once as two registers have 64-bit lanes: a
// round waits for the one before it, so that two go as fast as one. A word stands in the low half
// of a lane; what multiplications leave in the high half is never read.
#ifndef MOON_CPU_PHILOX_H
#define MOON_CPU_PHILOX_H

#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <stdint.h>

#include "cpu/lane_bytes.h"

enum { PHILOX_LANES = LANE_BYTES / 8, PHILOX_SETS = 2 };
enum { PHILOX_BLOCKS = PHILOX_LANES * PHILOX_SETS, PHILOX_ROUNDS = 10 };

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

// The four words of a block, each in a register of its own, for several blocks.
typedef struct philox_set { philox_lanes c0, c1, c2, c3; } philox_set;

static inline void philox_round(philox_set *set, uint32_t key0, uint32_t key1) {
  philox_lanes p0 = philox_product(set->c0, 0xD2511F53u);
  philox_lanes p1 = philox_product(set->c2, 0xCD9E8D57u);
  set->c0 = (p1 >> 32) ^ set->c1 ^ key0;
  set->c2 = (p0 >> 32) ^ set->c3 ^ key1;
  set->c1 = p1;
  set->c3 = p0;
}

static inline void philox_store(const philox_set *set, philox_lanes place, uint32_t *words) {
  philox_lanes low = (set->c0 & 0xFFFFFFFFu) | set->c1 << 32;
  philox_lanes high = (set->c2 & 0xFFFFFFFFu) | set->c3 << 32;
  philox_lanes near = place / 2 + (place % 2) * PHILOX_LANES, far = near + PHILOX_LANES / 2;
  philox_words *to = (philox_words *)words;
  to[0] = __builtin_shuffle(low, high, near);
  to[1] = __builtin_shuffle(low, high, far);
}

// The words of blocks `first`, first + 1, ..., four each, one block's after the other's.
static inline void philox_draw(uint64_t seed, uint64_t first, uint32_t *words) {
  philox_lanes place;
  philox_set set[PHILOX_SETS];
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
#pragma GCC unroll 8
  for (int i = 0; i < PHILOX_LANES; i++) place[i] = (uint64_t)i;
#pragma GCC unroll 2
  for (int k = 0; k < PHILOX_SETS; k++) {
    philox_lanes at = place + (first + (uint64_t)(k * PHILOX_LANES));
    set[k] = (philox_set){ .c0 = at, .c1 = at >> 32 };
  }
#pragma GCC unroll 10
  for (int round = 0; round < PHILOX_ROUNDS; round++) {
#pragma GCC unroll 2
    for (int k = 0; k < PHILOX_SETS; k++) philox_round(&set[k], key0, key1);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
#pragma GCC unroll 2
  for (int k = 0; k < PHILOX_SETS; k++)
    philox_store(&set[k], place, words + 4 * k * PHILOX_LANES);
}

#endif
