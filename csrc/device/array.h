// A plain array: what a kernel sees of a tensor. No ownership, no reference count, no autograd.
#ifndef MOON_DEVICE_ARRAY_H
#define MOON_DEVICE_ARRAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"

enum { MOON_MAX_DIMS = 8 };

typedef struct device_array {
  void *data;                       // address of element (0, ..., 0)
  moon_dtype dtype;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  int64_t strides[MOON_MAX_DIMS];   // in elements; 0 where broadcast; may be negative
  struct derived_set *derived;      // where kernels keep what they make of it; NULL: nowhere
  uint_fast32_t version;            // of the bytes, for `derived`
} device_array;

static inline int64_t array_count(const device_array *array) {
  int64_t count = 1;
  for (int i = 0; i < array->ndim; i++) count *= array->shape[i];
  return count;
}

// Whether the elements lie one after the other in row-major order.
static inline bool array_is_contiguous(const device_array *array) {
  int64_t expected = 1;
  for (int i = array->ndim - 1; i >= 0; i--) {
    if (array->shape[i] == 0) return true;
    if (array->shape[i] != 1 && array->strides[i] != expected) return false;
    expected *= array->shape[i];
  }
  return true;
}

#endif
