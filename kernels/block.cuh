// What kernels need that go along lines of elements with the threads of a block: loads of which
// several are under way at once, values of any trivial type that go from lane to lane, and tiles in
// shared memory of which each thread owns a few neighbouring items.
#ifndef MOON_KERNELS_BLOCK_CUH
#define MOON_KERNELS_BLOCK_CUH

#include <string.h>

#include "types.cuh"

enum { CUDA_ITEMS = 8 };   // that a thread loads before it goes on, or owns of a tile

// -- loads: the dtype is looked up once for all of them, since a branch would wait for each

template <typename T, typename S, typename Where>
__device__ void cuda_load_steps_as(const S *x, const Where &where, int64_t first, int64_t step,
                                   int64_t last, T other, T (&values)[CUDA_ITEMS]) {
  CUDA_UNROLL
  for (int k = 0; k < CUDA_ITEMS; k++) {
    int64_t i = first + k * step;
    values[k] = i < last ? (T)cuda_load(x[where(i)]) : other;
  }
}

// Elements first, first + step, ..., of which those from `last` on are `other`; element i lies at
// x[where(i)].
template <typename T, typename Where>
__device__ void cuda_load_steps(moon_dtype dtype, const void *x, const Where &where, int64_t first,
                                int64_t step, int64_t last, T other, T (&values)[CUDA_ITEMS]) {
  if constexpr (std::is_same<T, double>::value) {
    cuda_load_steps_as((const double *)x, where, first, step, last, other, values);
  } else if constexpr (std::is_same<T, float>::value) {
    if (dtype == MOON_F32)
      cuda_load_steps_as((const float *)x, where, first, step, last, other, values);
    else if (dtype == MOON_F16)
      cuda_load_steps_as((const half16 *)x, where, first, step, last, other, values);
    else cuda_load_steps_as((const bfloat16 *)x, where, first, step, last, other, values);
  } else {
    if (dtype == MOON_I64)
      cuda_load_steps_as((const int64_t *)x, where, first, step, last, other, values);
    else if (dtype == MOON_I32)
      cuda_load_steps_as((const int32_t *)x, where, first, step, last, other, values);
    else cuda_load_steps_as((const uint8_t *)x, where, first, step, last, other, values);
  }
}

// -- shuffles within groups of `width` lanes, a power of two; a value goes in words of 32 bits

template <typename V, typename Fn>
__device__ V cuda_by_words(V value, Fn shuffle) {
  static_assert(sizeof(V) % sizeof(uint32_t) == 0, "a value is made of words");
  uint32_t words[sizeof(V) / sizeof(uint32_t)];
  memcpy(words, &value, sizeof value);
  CUDA_UNROLL
  for (size_t i = 0; i < sizeof(V) / sizeof(uint32_t); i++) words[i] = shuffle(words[i]);
  memcpy(&value, words, sizeof value);
  return value;
}

// The value of the lane `by` further on; of the one `by` before; of lane `from`.
template <typename V>
__device__ V cuda_shuffle_down(V value, int by, int width) {
  return cuda_by_words(value, [=](uint32_t word) {
    return __shfl_down_sync(0xffffffffu, word, (unsigned)by, width);
  });
}
template <typename V>
__device__ V cuda_shuffle_up(V value, int by, int width) {
  return cuda_by_words(value, [=](uint32_t word) {
    return __shfl_up_sync(0xffffffffu, word, (unsigned)by, width);
  });
}
template <typename V>
__device__ V cuda_shuffle(V value, int from, int width) {
  return cuda_by_words(value, [=](uint32_t word) {
    return __shfl_sync(0xffffffffu, word, from, width);
  });
}

// -- tiles: 8 neighbouring items a thread, with a gap behind them that keeps banks apart

enum {
  CUDA_TILE = CUDA_ITEMS * CUDA_BLOCK,
  CUDA_TILE_ROOM = CUDA_TILE + CUDA_TILE / CUDA_ITEMS,
};

__device__ inline int cuda_tile_slot(int i) { return i + i / CUDA_ITEMS; }

// An element of a line and its number there.
template <typename T> struct cuda_placed { T value; int64_t place; };

#endif
