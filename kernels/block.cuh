// What the threads of a block hand to each other: values of any trivial type that go from lane to
// lane, and tiles in shared memory of which each thread owns a few neighbouring items.
#ifndef MOON_KERNELS_BLOCK_CUH
#define MOON_KERNELS_BLOCK_CUH

#include <string.h>

#include "launch.cuh"

// -- shuffles within groups of `width` lanes, a power of two; a value goes in words of 32 bits

template <typename V, typename Fn>
__device__ V cuda_by_words(V value, Fn shuffle) {
  static_assert(sizeof(V) % sizeof(uint32_t) == 0, "a value is made of words");
  uint32_t words[sizeof(V) / sizeof(uint32_t)];
  memcpy(words, &value, sizeof value);
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
  CUDA_ITEMS = 8,
  CUDA_TILE = CUDA_ITEMS * CUDA_BLOCK,
  CUDA_TILE_ROOM = CUDA_TILE + CUDA_TILE / CUDA_ITEMS,
};

__device__ inline int cuda_tile_slot(int i) { return i + i / CUDA_ITEMS; }

// An element of a line and its number there.
template <typename T> struct cuda_placed { T value; int64_t place; };

#endif
