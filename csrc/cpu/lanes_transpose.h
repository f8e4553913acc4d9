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

// Each square of `height` rows and lanes, a power of two: lane k * height + i of row j goes to lane
// k * height + j of row i.
static inline __attribute__((always_inline)) void lanes_transpose_squares(lanes *rows,
                                                                          const int height) {
#pragma GCC unroll 4
  for (int width = 1; width < height; width *= 2)
#pragma GCC unroll 16
    for (int i = 0; i < height / 2; i++) {
      lanes *low = rows + i / width * 2 * width + i % width;
      lanes_exchange(low, low + width, width);
    }
}

static inline __attribute__((always_inline)) void lanes_transpose(lanes rows[LANES]) {
  lanes_transpose_squares(rows, LANES);
}

// -- pixels, `stride` elements apart, and lines of LANES of them: rows[c] has channel c of each.
//    `height`, a power of two up to LANES, is enough for the channels.

// Zeros behind the last of `pixels` and `channels`.
static inline __attribute__((always_inline)) void lanes_from_pixels(
    const REAL *from, int64_t stride, int64_t pixels, int64_t channels, const int height,
    lanes *rows) {
#pragma GCC unroll 16
  for (int r = 0; r < height; r++) {
    lanes_bits row = { 0 };
#pragma GCC unroll 16
    for (int k = 0; k < LANES; k += height)
      if (k + r < pixels) row |= (lanes_bits)lanes_load_part(from + (k + r) * stride, k, channels);
    rows[r] = (lanes)row;
  }
  lanes_transpose_squares(rows, height);
}

// Writes no more than those; rows are used up.
static inline __attribute__((always_inline)) void lanes_to_pixels(
    lanes *rows, const int height, REAL *to, int64_t stride, int64_t pixels, int64_t channels) {
  lanes_transpose_squares(rows, height);
#pragma GCC unroll 16
  for (int r = 0; r < height; r++)
#pragma GCC unroll 16
    for (int k = 0; k < LANES; k += height)
      if (k + r < pixels) lanes_store_part(to + (k + r) * stride, rows[r], k, channels);
}

#endif
