// Tensors for compositions. See make.h.
#include "ops/make.h"

#include <string.h>

moon_tensor *make_filled(compose *c, const moon_tensor *like, moon_dtype dtype, int ndim,
                         const int64_t *shape, double value) {
  moon_tensor *made = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new_filled(c->engine, like, dtype, ndim, shape, value, &made);
  return compose_adopt(c, status, made);
}

moon_tensor *make_range(compose *c, const moon_tensor *like, int64_t first, int64_t count) {
  moon_tensor *made = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new(c->engine, like, MOON_I64, 1, &count, &made);
  moon_tensor *range = compose_adopt(c, status, made);
  if (!range) return NULL;
  device_array out = tensor_array(range);
  compose_check(c, tensor_kernels(range)->arange(c->engine, (double)first, 1, &out));
  return c->status == MOON_OK ? range : NULL;
}

static moon_tensor *from_host(compose *c, const moon_tensor *like, moon_dtype dtype, int64_t count,
                              const void *values) {
  moon_tensor *made = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new(c->engine, like, dtype, 1, &count, &made);
  moon_tensor *tensor = compose_adopt(c, status, made);
  if (!tensor || count == 0) return tensor;
  const moon_device *device = tensor_device(tensor);
  size_t bytes = (size_t)count * dtype_size(dtype);
  if (device->on_host) memcpy(tensor_data(tensor), values, bytes);
  else compose_check(c, device->from_host(c->engine, values, tensor_data(tensor), bytes));
  return c->status == MOON_OK ? tensor : NULL;
}

moon_tensor *make_integers(compose *c, const moon_tensor *like, int64_t count,
                           const int64_t *values) {
  return from_host(c, like, MOON_I64, count, values);
}

moon_tensor *make_numbers(compose *c, const moon_tensor *like, int64_t count,
                          const double *values) {
  return from_host(c, like, MOON_F64, count, values);
}

static moon_status read_as(moon_engine *engine, const moon_tensor *tensor, moon_dtype dtype,
                           void *values) {
  moon_tensor *copy;
  MOON_TRY(ops_converted(engine, tensor, dtype, &copy));
  const moon_device *device = tensor_device(copy);
  size_t bytes = (size_t)tensor_count(copy) * dtype_size(dtype);
  moon_status status = MOON_OK;
  if (!device->on_host) status = device->to_host(engine, tensor_data(copy), values, bytes);
  else if (bytes > 0) memcpy(values, tensor_data(copy), bytes);
  tensor_release(copy);
  return status;
}

moon_status make_read(moon_engine *engine, const moon_tensor *tensor, double *values) {
  return read_as(engine, tensor, MOON_F64, values);
}

moon_status make_read_integers(moon_engine *engine, const moon_tensor *tensor, int64_t *values) {
  return read_as(engine, tensor, MOON_I64, values);
}
