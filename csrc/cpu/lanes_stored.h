// Vectors of the compute type REAL from and to arrays kept as STORED, which is REAL or bfloat16.
// Included after both, STORED_LOAD and STORED_SAVE are defined.
#ifndef MOON_CPU_LANES_STORED_H
#define MOON_CPU_LANES_STORED_H

#include "cpu/lanes.h"

static inline lanes stored_load(const STORED *source) {
  REAL part[LANES];
  for (int i = 0; i < LANES; i++) part[i] = STORED_LOAD(source[i]);
  return lanes_load(part);
}

static inline void stored_save(STORED *target, lanes value) {
  REAL part[LANES];
  lanes_store(part, value);
  for (int i = 0; i < LANES; i++) target[i] = STORED_SAVE(part[i]);
}

// Elements at ... at + LANES - 1 of a row of `count`, zeros where it has none.
static inline lanes stored_load_within(const STORED *row, int64_t at, int64_t count) {
  if (at >= 0 && at + LANES <= count) return stored_load(row + at);
  int64_t first = at < 0 ? -at : 0, last = count - at < LANES ? count - at : LANES;
#if defined(__AVX512F__) && !defined(STORED_IS_BFLOAT)
  unsigned mask = first < last ? (2u << (last - 1)) - (1u << first) : 0;
  if (sizeof(REAL) == 4) return (lanes)_mm512_maskz_loadu_ps((__mmask16)mask, row + at);
  return (lanes)_mm512_maskz_loadu_pd((__mmask8)mask, row + at);
#else
  REAL part[LANES] = { 0 };
  for (int64_t i = first; i < last; i++) part[i] = STORED_LOAD(row[at + i]);
  return lanes_load(part);
#endif
}

// The first `count` elements only (all where it is LANES or more), zeros behind them.
static inline lanes stored_load_some(const STORED *source, int64_t count) {
  return stored_load_within(source, 0, count);
}

// The first `count` elements only, all where it is LANES or more.
static inline void stored_save_some(STORED *target, lanes value, int64_t count) {
#if defined(__AVX512F__) && !defined(STORED_IS_BFLOAT)
  lanes_store_some(target, value, count);
#else
  if (count >= LANES) {
    stored_save(target, value);
    return;
  }
  REAL part[LANES];
  lanes_store(part, value);
  for (int64_t i = 0; i < count; i++) target[i] = STORED_SAVE(part[i]);
#endif
}

#endif
