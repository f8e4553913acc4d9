// Sampling at the positions of a grid in float. Two roundings for a * b + c, also where the
// processor could do with one: see device/grid_taps.h.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#include "cpu/grid_sample_real.h"
