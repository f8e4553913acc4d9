// Philox4x32-10 counter-based random numbers (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). Element i of a tensor filled from stream position `first` takes word i % 4 of
// block first + i / 4, so a draw is the same on every device and for any number of threads.
// Compiled by gcc and nvcc alike.
#ifndef MOON_BASE_RANDOM_H
#define MOON_BASE_RANDOM_H

#include <stdint.h>

#include "base/shared.h"

typedef struct random_block { uint32_t word[4]; } random_block;

MOON_SHARED random_block random_philox(uint64_t seed, uint64_t counter) {
  uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
  uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ key0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ key1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  random_block block = { { c0, c1, c2, c3 } };
  return block;
}

// A word as a number in [0, 1) with 24 bits, exactly representable in float32.
MOON_SHARED float random_unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

#endif
