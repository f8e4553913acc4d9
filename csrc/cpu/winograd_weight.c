// Components of weights, in panels as micro_rows reads them. A vector is LANES output channels of
// one input channel; their taps lie far apart and are collected by transpositions first.
#define REAL float
#define REAL_BYTES 4
#include "cpu/lanes_transpose.h"
#include "cpu/winograd.h"

enum { AHEAD = 8 };   // input channels whose taps are asked of memory early: they lie in many pages
enum { BLOCKS = (WINOGRAD_COMPONENTS + LANES - 1) / LANES };   // of LANES taps

// The taps of input channel i for `count` output channels from `first` on: (taps, LANES).
static void collect(const winograd_weights *w, int taps, int64_t i, int64_t first, int64_t count,
                    float *block) {
  const float *source = w->data + i * w->in + first * w->out;
  for (int64_t tap = 0; tap < taps; tap += LANES, block += LANES * LANES) {
    lanes rows[LANES];
#pragma GCC unroll 16
    for (int64_t o = 0; o < LANES; o++) {   // what is read behind the last tap is not used
      const float *row = source + o * w->out + tap;
      __builtin_prefetch(row + AHEAD * w->in);
      rows[o] = o < count ? lanes_load_some(row, w->end - row) : lanes_zero();
    }
    lanes_transpose(rows);
#pragma GCC unroll 16
    for (int64_t k = 0; k < LANES; k++) lanes_store(block + k * LANES, rows[k]);
  }
}

void CPU(winograd_pack)(const winograd_form *form, const winograd_weights *w, int64_t input,
                        int64_t inputs, int64_t output, float *panel) {
  const int taps = form->taps * form->taps;
  float block[BLOCKS * LANES * LANES];
  const float *pointers[WINOGRAD_COMPONENTS];
  for (int i = 0; i < taps; i++) pointers[i] = block + (w->turned ? taps - 1 - i : i) * LANES;
  for (int64_t at = 0; at < MICRO_COLUMNS_F32; at += LANES)
    for (int64_t i = 0; i < inputs; i++) {
      collect(w, taps, input + i, output + at, w->outputs - output - at, block);
      form->weight(pointers, LANES, panel + i * MICRO_COLUMNS_F32 + at, winograd_matrix(inputs));
    }
}

void CPU(winograd_unpack)(const winograd_form *form, const float *taps, int64_t row,
                          int64_t inputs, float *weight) {
  const int64_t all = form->taps * form->taps;
  for (int64_t i = 0; i < inputs; i += LANES, weight += LANES * all)
    for (int64_t tap = 0; tap < all; tap += LANES) {
      const int64_t count = all - tap < LANES ? all - tap : LANES;
      lanes rows[LANES];
#pragma GCC unroll 16
      for (int64_t t = 0; t < LANES; t++)
        rows[t] = t < count ? lanes_load(taps + (tap + t) * row + i) : lanes_zero();
      lanes_transpose(rows);
#pragma GCC unroll 16
      for (int64_t k = 0; k < LANES; k++)
        if (i + k < inputs) lanes_store_some(weight + k * all + tap, rows[k], count);
    }
}
