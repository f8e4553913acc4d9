// Runs of elements into and out of contiguous buffers: moved as they are, or converted between the
// storage types of dtype.def and their compute types. Strides are in elements; 1 and 0 (one element
// repeated) are the fast cases.
#include "cpu/cpu.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/words.h"

#define MOVES(word)                                                                        \
  static void gather_##word(int64_t n, const word *source, int64_t stride, word *buffer) { \
    const word first = *source;                                                            \
    if (stride == 0) {                                                                     \
      for (int64_t i = 0; i < n; i++) buffer[i] = first;                                   \
    } else {                                                                               \
      for (int64_t i = 0; i < n; i++) buffer[i] = source[i * stride];                      \
    }                                                                                      \
  }                                                                                        \
  static void scatter_##word(int64_t n, const word *buffer, word *target, int64_t stride) { \
    for (int64_t i = 0; i < n; i++) target[i * stride] = buffer[i];                        \
  }
MOVES(word1)
MOVES(word2)
MOVES(word4)
MOVES(word8)
#undef MOVES

void CPU(gather_run)(size_t size, int64_t n, const void *source, int64_t stride, void *buffer) {
  if (n <= 0) return;
  if (stride == 1) {
    memcpy(buffer, source, (size_t)n * size);
    return;
  }
  switch (size) {
    case 1: gather_word1(n, source, stride, buffer); break;
    case 2: gather_word2(n, source, stride, buffer); break;
    case 4: gather_word4(n, source, stride, buffer); break;
    default: gather_word8(n, source, stride, buffer);
  }
}

void CPU(scatter_run)(size_t size, int64_t n, const void *buffer, void *target, int64_t stride) {
  if (n <= 0) return;
  if (stride == 1) {
    memcpy(target, buffer, (size_t)n * size);
    return;
  }
  switch (size) {
    case 1: scatter_word1(n, buffer, target, stride); break;
    case 2: scatter_word2(n, buffer, target, stride); break;
    case 4: scatter_word4(n, buffer, target, stride); break;
    default: scatter_word8(n, buffer, target, stride);
  }
}

// Integers in lanes narrower than int64. A bool is 1 where its byte is not 0.
static void widen(moon_dtype dtype, int64_t n, const void *source, int64_t stride,
                  int64_t *buffer) {
  const int32_t *wide = source;
  const uint8_t *bytes = source;
  if (dtype == MOON_I32) {
    for (int64_t i = 0; i < n; i++) buffer[i] = wide[i * stride];
  } else if (dtype == MOON_U8) {
    for (int64_t i = 0; i < n; i++) buffer[i] = bytes[i * stride];
  } else {
    for (int64_t i = 0; i < n; i++) buffer[i] = bytes[i * stride] != 0;
  }
}

static void narrow(moon_dtype dtype, int64_t n, const int64_t *buffer, void *target,
                   int64_t stride) {
  int32_t *wide = target;
  uint8_t *bytes = target;
  if (dtype == MOON_I32) {
    for (int64_t i = 0; i < n; i++) wide[i * stride] = (int32_t)(uint32_t)(uint64_t)buffer[i];
  } else if (dtype == MOON_U8) {
    for (int64_t i = 0; i < n; i++) bytes[i * stride] = (uint8_t)(uint64_t)buffer[i];
  } else {
    for (int64_t i = 0; i < n; i++) bytes[i * stride] = buffer[i] != 0;
  }
}

void CPU(load_run)(moon_dtype dtype, int64_t n, const void *source, int64_t stride,
                   void *buffer) {
  switch (dtype) {
    case MOON_F32: CPU(gather_run)(4, n, source, stride, buffer); break;
    case MOON_F64:
    case MOON_I64: CPU(gather_run)(8, n, source, stride, buffer); break;
    case MOON_F16:
    case MOON_BF16: CPU(convert_to_f32)(dtype, source, stride, n, buffer); break;
    default: widen(dtype, n, source, stride, buffer);
  }
}

void CPU(store_run)(moon_dtype dtype, int64_t n, const void *buffer, void *target,
                    int64_t stride) {
  switch (dtype) {
    case MOON_F32: CPU(scatter_run)(4, n, buffer, target, stride); break;
    case MOON_F64:
    case MOON_I64: CPU(scatter_run)(8, n, buffer, target, stride); break;
    case MOON_F16:
    case MOON_BF16: CPU(convert_from_f32)(dtype, buffer, n, target, stride); break;
    default: narrow(dtype, n, buffer, target, stride);
  }
}
