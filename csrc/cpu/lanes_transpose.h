// A square of vectors turned over its diagonal, by exchanging blocks of 1, 2, 4, ... elements.
#ifndef MOON_CPU_LANES_TRANSPOSE_H
#define MOON_CPU_LANES_TRANSPOSE_H

#include "cpu/lanes.h"

// low takes every second block of `width` elements from `high`'s even ones, high gives its odd
// ones: a 2 x 2 transposition of blocks.
static inline __attribute__((always_inline)) void lanes_exchange(lanes *low, lanes *high,
                                                                 const int width) {
  lanes_bits place;
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) place[i] = i;
  lanes_bits evens = place + (((place & width) != 0) & (LANES - width)), odds = evens + width;
  lanes a = *low, b = *high;
  *low = __builtin_shuffle(a, b, evens);
  *high = __builtin_shuffle(a, b, odds);
}

static inline __attribute__((always_inline)) void lanes_transpose(lanes rows[LANES]) {
#pragma GCC unroll 4
  for (int width = 1; width < LANES; width *= 2)
#pragma GCC unroll 16
    for (int i = 0; i < LANES / 2; i++) {
      lanes *low = rows + i / width * 2 * width + i % width;
      lanes_exchange(low, low + width, width);
    }
}

#endif
