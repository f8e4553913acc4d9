// Tensors seen as (n, c, inner). See channels.h.
#include "ops/channels.h"

#include <assert.h>

#include "ops/support.h"

void channels_shape(int ndim, const int64_t *shape, int64_t seen[3]) {
  seen[0] = shape[0];
  seen[1] = shape[1];
  seen[2] = 1;
  for (int i = 2; i < ndim; i++)   // only a tensor without elements can overflow
    if (__builtin_mul_overflow(seen[2], shape[i], &seen[2])) seen[2] = 0;
}

// False where the sizes behind the channels cannot be seen as one.
static bool see_channels(const moon_tensor *tensor, device_array *array) {
  *array = (device_array){ .data = tensor_data(tensor), .dtype = tensor->dtype, .ndim = 3 };
  channels_shape(tensor->ndim, tensor->shape, array->shape);
  return shape_view_strides(tensor, 3, array->shape, array->strides);
}

device_array channels_of(const moon_tensor *tensor) {
  device_array array;
  bool seen = see_channels(tensor, &array);
  assert(seen);
  (void)seen;
  return array;
}

moon_status channels_open(moon_engine *engine, moon_tensor *tensor, device_array *array,
                          moon_tensor **copy) {
  *copy = NULL;
  if (see_channels(tensor, array)) return MOON_OK;
  MOON_TRY(ops_contiguous(engine, tensor, copy));
  *array = channels_of(*copy);
  return MOON_OK;
}

device_array channels_vector(const moon_tensor *vector) {
  device_array array = { .data = tensor_data(vector), .dtype = vector->dtype, .ndim = 3,
                         .shape = { 1, vector->shape[0], 1 },
                         .strides = { 0, vector->strides[0], 0 } };
  return array;
}
