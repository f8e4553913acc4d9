// Arithmetic on shapes and strides. Nothing here allocates or touches elements.
#include "tensor/shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *shape_text(int ndim, const int64_t *shape, char text[TENSOR_SHAPE_TEXT]) {
  if (ndim == 0) return strcpy(text, "0-d");
  size_t used = 0;
  for (int i = 0; i < ndim && used < TENSOR_SHAPE_TEXT - 22; i++)
    used += (size_t)snprintf(text + used, TENSOR_SHAPE_TEXT - used, i ? "x%" PRId64 : "%" PRId64,
                             shape[i]);
  return text;
}

const char *tensor_shape_text(const moon_tensor *tensor, char text[TENSOR_SHAPE_TEXT]) {
  return shape_text(tensor->ndim, tensor->shape, text);
}

moon_status shape_count(int ndim, const int64_t *shape, int64_t *count) {
  char text[TENSOR_SHAPE_TEXT];
  int64_t product = 1;
  bool empty = false, negative = false, large = false;
  // Strides of an empty tensor count its other sizes, which therefore must not overflow either.
  for (int i = 0; i < ndim; i++) {
    negative |= shape[i] < 0;
    empty |= shape[i] == 0;
    large |= __builtin_mul_overflow(product, shape[i] ? shape[i] : 1, &product) ||
             product > INT64_MAX / 8;
  }
  if (negative)
    return moon_fail(MOON_BAD_SHAPE, "a shape must not be negative, got %s",
                     shape_text(ndim, shape, text));
  if (large)
    return moon_fail(MOON_OUT_OF_MEMORY, "a tensor of %s has more elements than memory can hold",
                     shape_text(ndim, shape, text));
  *count = empty ? 0 : product;
  return MOON_OK;
}

void shape_contiguous_strides(int ndim, const int64_t *shape, int64_t *strides) {
  int64_t stride = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    strides[i] = stride;
    if (shape[i] > 1) stride *= shape[i];
  }
}

void shape_channels_last_strides(int ndim, const int64_t *shape, int64_t *strides) {
  int64_t stride = shape[1] > 1 ? shape[1] : 1;
  strides[1] = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    if (i == 1) continue;
    strides[i] = stride;
    if (shape[i] > 1) stride *= shape[i];
  }
}

bool shape_is_channels_last(int ndim, const int64_t *shape, const int64_t *strides) {
  if (ndim < SHAPE_LEAST_CHANNELS_LAST || ndim > SHAPE_MOST_CHANNELS_LAST) return false;
  if (shape[1] < 2 || strides[1] < 1) return false;
  int64_t extent = shape[1] * strides[1];   // of what lies inside the next dimension
  bool positions = false;
  for (int i = ndim - 1; i >= 0; i--) {
    if (i == 1 || shape[i] == 1) continue;
    if (strides[i] < extent) return false;
    extent = shape[i] * strides[i];
    positions |= i > 1;
  }
  return positions;
}

static bool same_sizes(int a_ndim, const int64_t *a, int b_ndim, const int64_t *b) {
  bool same = a_ndim == b_ndim;
  for (int i = 0; same && i < a_ndim; i++) same = a[i] == b[i];
  return same;
}

// The shape that two broadcast to, where they are not the same.
static moon_status broadcast_apart(int a_ndim, const int64_t *a, int b_ndim, const int64_t *b,
                                   int *ndim, int64_t *shape) {
  int n = a_ndim > b_ndim ? a_ndim : b_ndim;
  int64_t result[MOON_MAX_DIMS];
  for (int i = 0; i < n; i++) {
    int64_t p = i < n - a_ndim ? 1 : a[i - (n - a_ndim)];
    int64_t q = i < n - b_ndim ? 1 : b[i - (n - b_ndim)];
    if (p != q && p != 1 && q != 1) {
      char x[TENSOR_SHAPE_TEXT], y[TENSOR_SHAPE_TEXT];
      return moon_fail(MOON_BAD_SHAPE,
                       "shapes %s and %s do not broadcast: sizes %" PRId64 " and %" PRId64
                       " meet in dimension %d",
                       shape_text(a_ndim, a, x), shape_text(b_ndim, b, y), p, q, i + 1);
    }
    result[i] = p == 1 ? q : p;
  }
  for (int i = 0; i < n; i++) shape[i] = result[i];
  *ndim = n;
  return MOON_OK;
}

moon_status shape_broadcast(int a_ndim, const int64_t *a, int b_ndim, const int64_t *b, int *ndim,
                            int64_t *shape) {
  if (!same_sizes(a_ndim, a, b_ndim, b)) return broadcast_apart(a_ndim, a, b_ndim, b, ndim, shape);
  for (int i = 0; i < a_ndim; i++) shape[i] = a[i];
  *ndim = a_ndim;
  return MOON_OK;
}

moon_status shape_infer(int64_t count, int ndim, int64_t *wanted) {
  char text[TENSOR_SHAPE_TEXT];
  int hole = -1;
  int64_t known = 1;
  for (int i = 0; i < ndim; i++) {
    if (wanted[i] == -1 && hole < 0) {
      hole = i;
    } else if (wanted[i] < 0) {
      return moon_fail(MOON_BAD_SHAPE, "a shape may hold one -1, got %s",
                       shape_text(ndim, wanted, text));
    } else if (__builtin_mul_overflow(known, wanted[i], &known)) {
      return moon_fail(MOON_BAD_SHAPE, "shape %s is too large", shape_text(ndim, wanted, text));
    }
  }
  bool fits = hole < 0 ? known == count : known != 0 && count % known == 0;
  if (!fits)
    return moon_fail(MOON_BAD_SHAPE, "%" PRId64 " elements do not fill shape %s", count,
                     shape_text(ndim, wanted, text));
  if (hole >= 0) wanted[hole] = count / known;
  return shape_count(ndim, wanted, &known);   // an empty shape's other sizes must not overflow
}

// Groups old dimensions that lie contiguously and cuts each group into new ones; a new dimension
// never spans two groups.
bool shape_view_strides(const moon_tensor *tensor, int ndim, const int64_t *shape,
                        int64_t *strides) {
  if (tensor_count(tensor) == 0 || tensor_is_contiguous(tensor)) {
    shape_contiguous_strides(ndim, shape, strides);
    return true;
  }
  int new_dim = ndim - 1;
  int64_t group_count = 1, group_stride = tensor->strides[tensor->ndim - 1], filled = 1;
  for (int old = tensor->ndim - 1; old >= 0; old--) {
    group_count *= tensor->shape[old];
    bool ends = old == 0 || (tensor->shape[old - 1] != 1 &&
                             tensor->strides[old - 1] != group_count * group_stride);
    if (!ends) continue;
    while (new_dim >= 0 && (filled < group_count || shape[new_dim] == 1)) {
      strides[new_dim] = filled * group_stride;
      filled *= shape[new_dim--];
    }
    if (filled != group_count) return false;
    if (old > 0) group_stride = tensor->strides[old - 1];
    group_count = filled = 1;
  }
  return new_dim == -1;
}

void array_fill_broadcast(const moon_tensor *tensor, int ndim, const int64_t *shape,
                          device_array *array) {
  array->data = tensor_data(tensor);
  array->derived = NULL;
  array->version = 0;
  array->dtype = tensor->dtype;
  array->ndim = ndim;
  int missing = ndim - tensor->ndim;
  for (int i = 0; i < ndim; i++) {
    int64_t size = shape[i];
    bool stretched = i < missing || (tensor->shape[i - missing] == 1 && size != 1);
    array->shape[i] = size;
    array->strides[i] = stretched ? 0 : tensor->strides[i - missing];
  }
}

moon_status shape_dim(int ndim, int64_t dim, int *normal) {
  int64_t limit = ndim > 0 ? ndim : 1;
  int64_t d = dim < 0 ? dim + limit : dim;
  if (d < 0 || d >= limit)
    return moon_fail(MOON_BAD_INDEX, "dimension %" PRId64 " does not exist in a tensor of %d "
                     "dimensions",
                     dim < 0 ? dim : dim + 1, ndim);
  *normal = (int)d;
  return MOON_OK;
}
