// Sampling at the positions of a grid in double. Two roundings for a * b + c, also where the
// processor could do with one: see device/grid_taps.h.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
#define REAL double
#define REAL_BYTES 8
#define NAME(word) word##_f64
#include "cpu/grid_sample_real.h"
