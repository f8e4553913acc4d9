// Arithmetic on shapes and strides, free of storage: sizes, broadcasting, views. Dimensions count
// from 0 here, and errors print them from 1, as Lua's users see them.
#ifndef MOON_TENSOR_SHAPE_H
#define MOON_TENSOR_SHAPE_H

#include "tensor/tensor.h"

// Number of elements; fails where a dimension is negative or the product overflows.
MOON_MUST_CHECK moon_status shape_count(int ndim, const int64_t *shape, int64_t *count);
void shape_contiguous_strides(int ndim, const int64_t *shape, int64_t *strides);

// The other layout that results may have: tensors (n, c, ...) of 3 to 5 dimensions whose channels
// are neighbours in memory, position after position, image after image. Convolutional networks
// live in it; shapes do not tell, strides do.
enum { SHAPE_LEAST_CHANNELS_LAST = 3, SHAPE_MOST_CHANNELS_LAST = 5 };
void shape_channels_last_strides(int ndim, const int64_t *shape, int64_t *strides);
// Whether the order of strides is that one; gaps are allowed, so that a slice of channels counts.
// False where a single channel or position makes both layouts the same.
bool shape_is_channels_last(int ndim, const int64_t *shape, const int64_t *strides);

// Broadcasts a with b by NumPy's rule; "shapes 2x3 and 4 do not broadcast" otherwise.
MOON_MUST_CHECK moon_status shape_broadcast(int a_ndim, const int64_t *a, int b_ndim,
                                            const int64_t *b, int *ndim, int64_t *shape);

// Replaces one -1 in `wanted` so that the count matches.
MOON_MUST_CHECK moon_status shape_infer(int64_t count, int ndim, int64_t *wanted);

// Strides that show `tensor` as `shape` without copying; false where a copy is needed.
bool shape_view_strides(const moon_tensor *tensor, int ndim, const int64_t *shape,
                        int64_t *strides);

// `tensor` seen as `shape` with stride 0 where it is broadcast, for a kernel; must be compatible.
void array_fill_broadcast(const moon_tensor *tensor, int ndim, const int64_t *shape,
                          device_array *array);
static inline device_array array_broadcast(const moon_tensor *tensor, int ndim,
                                           const int64_t *shape) {
  device_array array;
  array_fill_broadcast(tensor, ndim, shape, &array);
  return array;
}

// A dimension counted from 0, or from the end if negative, brought into 0..ndim-1.
// 0-d tensors accept 0 and -1.
MOON_MUST_CHECK moon_status shape_dim(int ndim, int64_t dim, int *normal);

#endif
