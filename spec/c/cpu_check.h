// Arrays for the kernel tests: any dtype, shape and memory layout, filled with reproducible random
// numbers, read back as double. Every test body runs once for each instruction set that this
// processor has (each_level).
#ifndef MOON_SPEC_CPU_CHECK_H
#define MOON_SPEC_CPU_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"

#include "base_check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

typedef enum layout {
  CONTIGUOUS,
  TRANSPOSED,   // first dimension innermost
  STEPPED,      // every other element of a wider array
  NEGATIVE,     // last dimension backwards
  BROADCAST,    // first dimension has stride 0; not for outputs
  LAYOUTS
} layout;

static moon_engine *engine;
static const device_kernels *kernels;
static cpu_level level;

static uint64_t check_state = 88172645463325252u;
static inline uint64_t next_bits(void) {
  check_state ^= check_state << 13;
  check_state ^= check_state >> 7;
  check_state ^= check_state << 17;
  return check_state;
}
static inline double next_unit(void) { return (double)(next_bits() >> 11) * 0x1p-53; }

// Array memory is taken from one arena, which starts over with each test. Between two arrays lie
// 64 bytes that the address sanitizer guards.
static char *arena;
static size_t arena_used;
enum { ARENA_BYTES = 512 << 20 };
static inline void *arena_take(size_t bytes) {
  if (!arena) arena = malloc(ARENA_BYTES);
  arena_used = (arena_used + 63) & ~(size_t)63;
  EXPECT(arena != NULL && arena_used + bytes + 128 <= ARENA_BYTES);
  char *block = arena + arena_used;
  ASAN_UNPOISON_MEMORY_REGION(block, bytes);
  ASAN_POISON_MEMORY_REGION(block + bytes, 64);
  arena_used += bytes + 64;
  return block;
}

static inline device_array make(moon_dtype dtype, int ndim, const int64_t *shape, layout how) {
  device_array array = { .dtype = dtype, .ndim = ndim };
  int64_t stride = how == STEPPED ? 2 : 1, elements = 1;
  for (int i = 0; i < ndim; i++) {
    int d = how == TRANSPOSED ? i : ndim - 1 - i;
    array.shape[d] = shape[d];
    array.strides[d] = how == BROADCAST && d == 0 ? 0 : stride;
    stride *= shape[d] > 0 ? shape[d] : 1;
    elements *= shape[d] > 0 ? shape[d] : 1;
  }
  size_t size = dtype_size(dtype);
  if (how == STEPPED) elements = 2 * elements - 1;
  char *data = arena_take((size_t)elements * size);
  memset(data, 0, (size_t)elements * size);
  if (how == NEGATIVE && ndim > 0 && shape[ndim - 1] > 0) {
    data += (shape[ndim - 1] - 1) * (int64_t)size;
    array.strides[ndim - 1] = -1;
  }
  array.data = data;
  return array;
}

// Address of the element with row-major number `index`.
static inline void *element(const device_array *array, int64_t index) {
  int64_t offset = 0;
  for (int i = array->ndim - 1; i >= 0; i--) {
    offset += index % array->shape[i] * array->strides[i];
    index /= array->shape[i];
  }
  return (char *)array->data + offset * (int64_t)dtype_size(array->dtype);
}
static inline double get(const device_array *array, int64_t index) {
  return dtype_load(array->dtype, element(array, index));
}
static inline int64_t get_int(const device_array *array, int64_t index) {
  return dtype_load_int(array->dtype, element(array, index));
}
static inline void put(const device_array *array, int64_t index, double value) {
  dtype_store(array->dtype, element(array, index), value);
}

// Random values of low ... high; whole ones for integers.
static inline void fill_random(const device_array *array, double low, double high) {
  int64_t count = array_count(array);
  for (int64_t i = 0; i < count; i++) {
    double value = low + (high - low) * next_unit();
    if (array->dtype == MOON_BOOL) value = next_bits() & 1;
    else if (array->dtype == MOON_U8) value = floor(fabs(value));
    else if (!dtype_is_float(array->dtype)) value = floor(value);
    put(array, i, value);
  }
}

static inline device_array random_array(moon_dtype dtype, int ndim, const int64_t *shape,
                                        layout how, double low, double high) {
  device_array array = make(dtype, ndim, shape, how);
  fill_random(&array, low, high);
  return array;
}

// The array's bytes in row-major order, to compare results bit by bit.
static inline unsigned char *bytes_of(const device_array *array) {
  size_t size = dtype_size(array->dtype);
  int64_t count = array_count(array);
  unsigned char *bytes = arena_take((size_t)count * size);
  for (int64_t i = 0; i < count; i++)
    memcpy(bytes + (size_t)i * size, element(array, i), size);
  return bytes;
}

// Whether two numbers agree as far as the dtype can tell; NaN agrees with NaN. Small numbers may be
// left over from steps of size 1, and halves below 2^-14 have fewer digits.
static inline bool near(double a, double b, moon_dtype dtype, double ulps) {
  static const double unit[MOON_DTYPE_COUNT] = {
    [MOON_F32] = 0x1p-23, [MOON_F64] = 0x1p-52, [MOON_F16] = 0x1p-10, [MOON_BF16] = 0x1p-7,
  };
  if (a != a || b != b) return a != a && b != b;
  if (a == b) return true;
  double size = fmax(fabs(a), fabs(b)), least = dtype_size(dtype) == 2 ? 0x1p-14 : 0x1p-4;
  return fabs(a - b) <= ulps * unit[dtype] * fmax(size, least);
}

#define EXPECT_NEAR(a, b, dtype, ulps, ...)                                                \
  do {                                                                                     \
    double a_ = (a), b_ = (b);                                                             \
    if (!near(a_, b_, dtype, ulps)) {                                                      \
      char what_[256];                                                                     \
      snprintf(what_, sizeof what_, __VA_ARGS__);                                          \
      check_fail(__FILE__, __LINE__, "%s: %.17g is not %.17g", what_, a_, b_);             \
    }                                                                                      \
  } while (0)

static inline void each_level(const char *name, void (*run)(void)) {
  for (level = CPU_BASELINE; level <= cpuid_level(); level++) {
    char full[128];
    if (cpu_force_level(level) != MOON_OK) continue;
    kernels = device_cpu()->kernels;
    check_state = 88172645463325252u;
    arena_used = 0;
    snprintf(full, sizeof full, "%s (%s)", name, cpuid_level_name(level));
    check(full, run);
  }
}

#endif
