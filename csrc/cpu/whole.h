// Whole numbers for cutting work into blocks.
#ifndef MOON_CPU_WHOLE_H
#define MOON_CPU_WHOLE_H

#include <stdint.h>

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The size of equal blocks of at most `limit` that `total` (at least 1) is cut into, in multiples
// of `unit`.
static inline int64_t even_block(int64_t total, int64_t limit, int64_t unit) {
  return divide_up(divide_up(total, divide_up(total, limit)), unit) * unit;
}

#endif
