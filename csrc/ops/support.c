// What the operator families share. See support.h.
#include "ops/support.h"

#include <inttypes.h>

#include "base/alloc.h"

moon_status ops_need_float(const char *argument, const moon_tensor *tensor) {
  if (dtype_is_float(tensor->dtype)) return MOON_OK;
  return moon_fail(MOON_BAD_DTYPE, "%s must be of a float type, got %s; cast it with :to "
                   "\"float32\"",
                   argument, dtype_name(tensor->dtype));
}

moon_status ops_need_wide_float(const char *argument, const moon_tensor *tensor) {
  if (tensor->dtype == MOON_F32 || tensor->dtype == MOON_F64) return MOON_OK;
  return moon_fail(MOON_BAD_DTYPE, "%s must be float32 or float64, got %s; cast it with :to "
                   "\"float32\"", argument, dtype_name(tensor->dtype));
}

moon_status ops_need_dtype(const char *argument, const moon_tensor *tensor, moon_dtype dtype) {
  if (tensor->dtype == dtype) return MOON_OK;
  return moon_fail(MOON_BAD_DTYPE, "%s must be %s, got %s; cast it with :to \"%s\"", argument,
                   dtype_name(dtype), dtype_name(tensor->dtype), dtype_name(dtype));
}

moon_status ops_need_same_dtype(const char *a, const moon_tensor *x, const char *b,
                                const moon_tensor *y) {
  if (x->dtype == y->dtype) return MOON_OK;
  return moon_fail(MOON_BAD_DTYPE, "%s is %s but %s is %s; cast one, as in %s:to \"%s\"", a,
                   dtype_name(x->dtype), b, dtype_name(y->dtype), b, dtype_name(x->dtype));
}

moon_status ops_need_parameter_dtype(const char *a, const moon_tensor *x, const char *b,
                                     const moon_tensor *parameter) {
  if (dtype_is_half(x->dtype) && parameter->dtype == MOON_F32) return MOON_OK;
  return ops_need_same_dtype(a, x, b, parameter);
}

moon_status ops_need_ndim(const char *argument, const moon_tensor *tensor, int ndim,
                          const char *layout) {
  char text[TENSOR_SHAPE_TEXT];
  if (tensor->ndim == ndim) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have %d dimensions %s, got %s", argument, ndim, layout,
                   tensor_shape_text(tensor, text));
}

moon_status ops_new(moon_engine *engine, const moon_tensor *like, moon_dtype dtype, int ndim,
                    const int64_t *shape, moon_tensor **tensor) {
  return tensor_new(engine, tensor_device(like), dtype, ndim, shape, tensor);
}

moon_status ops_new_among(moon_engine *engine, int count, moon_tensor *const *models,
                          moon_dtype dtype, int ndim, const int64_t *shape, moon_tensor **tensor) {
  const moon_device *device = tensor_device(models[0]);
  for (int i = 0; i < count && ndim >= SHAPE_LEAST_CHANNELS_LAST; i++)
    if (models[i] && models[i]->ndim == ndim && tensor_is_channels_last(models[i]))
      return tensor_new_channels_last(engine, device, dtype, ndim, shape, tensor);
  return tensor_new(engine, device, dtype, ndim, shape, tensor);
}

moon_status ops_new_like(moon_engine *engine, const moon_tensor *model, moon_dtype dtype,
                         const int64_t *shape, moon_tensor **tensor) {
  return tensor_new_as(engine, model, tensor_device(model), dtype, shape, tensor);
}

// Fills a tensor just made, which goes to *tensor, or away if that fails.
static moon_status fill_new(moon_engine *engine, moon_tensor *made, double value,
                            moon_tensor **tensor) {
  device_array array = tensor_array(made);
  moon_status status = tensor_kernels(made)->fill(engine, value, &array);
  if (status == MOON_OK) *tensor = made;
  else tensor_release(made);
  return status;
}

moon_status ops_new_filled(moon_engine *engine, const moon_tensor *like, moon_dtype dtype, int ndim,
                           const int64_t *shape, double value, moon_tensor **tensor) {
  moon_tensor *made;
  MOON_TRY(ops_new(engine, like, dtype, ndim, shape, &made));
  return fill_new(engine, made, value, tensor);
}

moon_status ops_new_filled_like(moon_engine *engine, const moon_tensor *model,
                                const int64_t *shape, double value, moon_tensor **tensor) {
  moon_tensor *made;
  MOON_TRY(ops_new_like(engine, model, model->dtype, shape, &made));
  return fill_new(engine, made, value, tensor);
}

moon_status ops_copy(moon_engine *engine, const moon_tensor *from, const moon_tensor *to) {
  device_array source = array_broadcast(from, to->ndim, to->shape), target = tensor_array(to);
  return tensor_kernels(to)->copy(engine, &source, &target);
}

moon_status ops_contiguous(moon_engine *engine, moon_tensor *tensor, moon_tensor **contiguous) {
  if (tensor_is_contiguous(tensor)) {
    *contiguous = tensor_retain(tensor);
    return MOON_OK;
  }
  return ops_converted(engine, tensor, tensor->dtype, contiguous);
}

moon_status ops_converted(moon_engine *engine, const moon_tensor *tensor, moon_dtype dtype,
                          moon_tensor **converted) {
  moon_tensor *made;
  MOON_TRY(ops_new(engine, tensor, dtype, tensor->ndim, tensor->shape, &made));
  moon_status status = ops_copy(engine, tensor, made);
  if (status != MOON_OK) {
    tensor_release(made);
    return status;
  }
  *converted = made;
  return MOON_OK;
}

// Between two devices that know nothing of each other.
static moon_status carry_through_host(moon_engine *engine, const moon_tensor *from,
                                      const moon_tensor *to, size_t bytes) {
  void *block;
  MOON_TRY(alloc_bytes(engine, bytes, &block));
  moon_status status = tensor_device(from)->to_host(engine, tensor_data(from), block, bytes);
  if (status == MOON_OK)
    status = tensor_device(to)->from_host(engine, block, tensor_data(to), bytes);
  alloc_release(engine, block, bytes);
  return status;
}

// One element goes along with a kernel, which nobody has to wait for.
static moon_status carry_one(moon_engine *engine, const moon_tensor *from, const moon_tensor *to) {
  device_array out = tensor_array(to);
  const void *element = tensor_data(from);
  if (dtype_is_float(from->dtype))
    return tensor_kernels(to)->fill(engine, dtype_load(from->dtype, element), &out);
  return tensor_kernels(to)->fill_int(engine, dtype_load_int(from->dtype, element), &out);
}

static moon_status carry_over(moon_engine *engine, const moon_tensor *from, const moon_tensor *to) {
  const moon_device *source = tensor_device(from), *target = tensor_device(to);
  size_t bytes = (size_t)tensor_count(from) * dtype_size(from->dtype);
  if (source->on_host && tensor_count(from) == 1) return carry_one(engine, from, to);
  if (source->on_host) return target->from_host(engine, tensor_data(from), tensor_data(to), bytes);
  if (target->on_host) return source->to_host(engine, tensor_data(from), tensor_data(to), bytes);
  return carry_through_host(engine, from, to, bytes);
}

// The layout goes along where there are no gaps in it.
moon_status ops_to_device(moon_engine *engine, moon_tensor *tensor, const moon_device *device,
                          moon_tensor **moved) {
  moon_tensor *dense = NULL, *made = NULL;
  if (tensor_device(tensor) == device) {
    *moved = tensor_retain(tensor);
    return MOON_OK;
  }
  if (tensor_is_dense(tensor)) dense = tensor_retain(tensor);
  else MOON_TRY(ops_contiguous(engine, tensor, &dense));
  moon_status status =
      tensor_new_as(engine, dense, device, dense->dtype, dense->shape, &made);
  if (status == MOON_OK) status = carry_over(engine, dense, made);
  if (status == MOON_OK) *moved = made;
  else tensor_release(made);
  tensor_release(dense);
  return status;
}

moon_status ops_scale(moon_engine *engine, moon_tensor *tensor, double factor,
                      moon_tensor **scaled) {
  moon_tensor *number;
  MOON_TRY(ops_new_filled(engine, tensor, tensor->dtype, 0, NULL, factor, &number));
  moon_status status = OP_RUN(engine, ops_get(OP_mul), scaled, op_tensor(tensor),
                              op_tensor(number));
  tensor_release(number);
  return status;
}

static moon_status index_shift(moon_engine *engine, moon_tensor *index, double by) {
  moon_tensor *number;
  MOON_TRY(ops_new_filled(engine, index, MOON_I64, 0, NULL, by, &number));
  device_array a = tensor_array(index), b = array_broadcast(number, index->ndim, index->shape);
  moon_status status =
      tensor_kernels(index)->binary(engine, BINARY_add, (double[2]){ 0, 0 }, &a, &b, &a);
  tensor_release(number);
  return status;
}

static moon_status index_check(moon_engine *engine, const char *argument, const moon_tensor *index,
                               int64_t limit) {
  int64_t low, high;
  device_array array = tensor_array(index);
  if (engine->indices_known) return MOON_OK;
  MOON_TRY(tensor_kernels(index)->index_range(engine, &array, &low, &high));
  if (low > high || (low >= 1 && high <= limit)) return MOON_OK;
  return moon_fail(MOON_BAD_INDEX, "%s must lie in 1..%" PRId64 ", found %" PRId64, argument, limit,
                   low < 1 ? low : high);
}

moon_status ops_index_in(moon_engine *engine, const char *argument, const moon_tensor *index,
                         int64_t limit, moon_tensor **zero_based) {
  if (index->dtype != MOON_I64 && index->dtype != MOON_I32 && index->dtype != MOON_U8)
    return moon_fail(MOON_BAD_DTYPE, "%s must be of an integer type, got %s; cast it with :to "
                     "\"int64\"", argument, dtype_name(index->dtype));
  moon_tensor *copy;
  MOON_TRY(ops_new(engine, index, MOON_I64, index->ndim, index->shape, &copy));
  moon_status status = ops_copy(engine, index, copy);
  if (status == MOON_OK) status = index_check(engine, argument, copy, limit);
  if (status == MOON_OK) status = index_shift(engine, copy, -1);
  if (status != MOON_OK) {
    tensor_release(copy);
    return status;
  }
  *zero_based = copy;
  return MOON_OK;
}

moon_status ops_index_out(moon_engine *engine, moon_tensor *index) {
  return index_shift(engine, index, 1);
}
