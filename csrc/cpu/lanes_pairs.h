// Two vectors of neighbouring elements taken apart into every second ones, and put together again.
// Included after REAL is defined.
#ifndef MOON_CPU_LANES_PAIRS_H
#define MOON_CPU_LANES_PAIRS_H

#include "cpu/lanes.h"

// a and b, one behind the other, become the elements at even and at odd places.
static inline __attribute__((always_inline)) void lanes_part(lanes *a, lanes *b) {
  lanes_bits evens;
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) evens[i] = 2 * i;
  lanes low = *a, high = *b;
  *a = __builtin_shuffle(low, high, evens);
  *b = __builtin_shuffle(low, high, evens + 1);
}

// The reverse: a's and b's elements in turn.
static inline __attribute__((always_inline)) void lanes_join(lanes *a, lanes *b) {
  lanes_bits turns;
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) turns[i] = i / 2 + i % 2 * LANES;
  lanes evens = *a, odds = *b;
  *a = __builtin_shuffle(evens, odds, turns);
  *b = __builtin_shuffle(evens, odds, turns + LANES / 2);
}

#endif
