// A step of the search for the largest elements, for one compute type: the same in vectors by
// planes and by pixels. A NaN is larger than what was found before it.
#ifndef MOON_CPU_POOL_LARGER_REAL_H
#define MOON_CPU_POOL_LARGER_REAL_H

#include "cpu/lanes.h"

// `value`, of the tap with a number, may be better than what there is. Without `nans` it must not
// hold any.
static inline __attribute__((always_inline)) void take_larger(lanes value, int32_t number,
                                                              const bool nans, lanes *best,
                                                              lanes_bits *numbers) {
#if defined(__AVX512F__) && REAL_BYTES == 4
  __mmask16 larger = _mm512_cmp_ps_mask((__m512)value, (__m512)*best, _CMP_GT_OQ);
  if (nans) larger |= _mm512_cmp_ps_mask((__m512)value, (__m512)value, _CMP_UNORD_Q);
  *best = (lanes)_mm512_mask_mov_ps((__m512)*best, larger, (__m512)value);
  *numbers = (lanes_bits)_mm512_mask_mov_epi32((__m512i)*numbers, larger,
                                               _mm512_set1_epi32(number));
#else
  lanes_bits larger = value > *best;
  if (nans) larger |= value != value;
  *best = (lanes)((larger & (lanes_bits)value) | (~larger & (lanes_bits)*best));
  *numbers = (larger & ((lanes_bits){ 0 } + number)) | (~larger & *numbers);
#endif
}

#endif
