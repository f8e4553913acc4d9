// What losses made of other operators share. See loss.h.
#include "ops/loss.h"

#include <inttypes.h>
#include <string.h>

moon_status loss_check_pair(const char *a, const moon_tensor *x, const char *b,
                            const moon_tensor *y) {
  char s[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float(a, x));
  MOON_TRY(ops_need_same_dtype(a, x, b, y));
  if (tensor_same_shape(x, y)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s %s and %s %s must have the same shape; reshape one", a,
                   tensor_shape_text(x, s), b, tensor_shape_text(y, t));
}

moon_status loss_check_weight(const char *name, const moon_tensor *input,
                              const moon_tensor *weight) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  if (!weight) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, name, weight));
  int missing = input->ndim - weight->ndim;
  bool fits = missing >= 0;
  for (int i = 0; fits && i < weight->ndim; i++)
    fits = weight->shape[i] == 1 || weight->shape[i] == input->shape[i + missing];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s %s does not broadcast to input %s", name,
                   tensor_shape_text(weight, w), tensor_shape_text(input, x));
}

moon_status loss_check_labels(moon_engine *engine, const moon_tensor *input,
                              const moon_tensor *target) {
  char x[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  moon_tensor *index;
  if (input->ndim != 1 && input->ndim != 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (c), got %s",
                     tensor_shape_text(input, x));
  bool fits = target->ndim == input->ndim - 1;
  if (fits && target->ndim == 1) fits = target->shape[0] == input->shape[0];
  if (!fits)
    return moon_fail(MOON_BAD_SHAPE, "target must hold a label for each row of input %s, got %s",
                     tensor_shape_text(input, x), tensor_shape_text(target, t));
  MOON_TRY(ops_index_in(engine, "target", target, input->shape[input->ndim - 1], &index));
  tensor_release(index);
  return MOON_OK;
}

moon_status loss_check_signs(const moon_tensor *input, const moon_tensor *target, int ndim,
                             const int64_t *shape) {
  char w[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  if (dtype_is_float(target->dtype))
    MOON_TRY(ops_need_same_dtype("input", input, "target", target));
  else if (dtype_class_of(target->dtype) != DTYPE_INTEGER)
    return moon_fail(MOON_BAD_DTYPE, "target must hold 1 and -1, got %s; cast it with :to \"%s\"",
                     dtype_name(target->dtype), dtype_name(input->dtype));
  if (target->ndim == ndim &&
      memcmp(target->shape, shape, (size_t)ndim * sizeof *shape) == 0)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "target must be %s, got %s", shape_text(ndim, shape, w),
                   tensor_shape_text(target, t));
}

moon_tensor *loss_signs(compose *c, moon_tensor *target, const moon_tensor *input) {
  if (target->dtype == input->dtype) return target;
  return COMPOSE(c, cast, op_tensor(target), op_dtype(input->dtype));
}

moon_status loss_read_extreme(moon_engine *engine, moon_tensor *x, int kind, double *value) {
  const moon_device *device = tensor_device(x);
  int64_t ones[MOON_MAX_DIMS];
  unsigned char bytes[8];
  moon_tensor *extreme;
  for (int i = 0; i < x->ndim; i++) ones[i] = 1;
  MOON_TRY(ops_new(engine, x, x->dtype, x->ndim, ones, &extreme));
  device_array from = tensor_array(x), to = tensor_array(extreme);
  const void *data = to.data;
  moon_status status = tensor_kernels(x)->reduce(engine, kind, &from, &to);
  if (status == MOON_OK && !device->on_host) {
    status = device->to_host(engine, to.data, bytes, dtype_size(x->dtype));
    data = bytes;
  }
  if (status == MOON_OK) *value = dtype_load(x->dtype, data);
  tensor_release(extreme);
  return status;
}

moon_tensor *loss_one_hot(compose *c, moon_tensor *target, int64_t classes) {
  moon_tensor *numbers = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new(c->engine, target, MOON_I64, 1, &classes, &numbers);
  numbers = compose_adopt(c, status, numbers);
  if (!numbers) return NULL;
  device_array out = tensor_array(numbers);
  compose_check(c, tensor_kernels(numbers)->arange(c->engine, 1, 1, &out));
  moon_tensor *labels = COMPOSE(c, cast, op_tensor(target), op_dtype(MOON_I64));
  labels = COMPOSE(c, unsqueeze, op_tensor(labels), op_int(-1));
  return COMPOSE(c, eq, op_tensor(labels), op_tensor(numbers));
}

moon_tensor *loss_minus(compose *c, moon_tensor *a, moon_tensor *b) {
  return COMPOSE(c, sub, op_tensor(a), op_tensor(b));
}

moon_tensor *loss_times(compose *c, moon_tensor *a, moon_tensor *b) {
  return COMPOSE(c, mul, op_tensor(a), op_tensor(b));
}

moon_tensor *loss_plus(compose *c, moon_tensor *a, moon_tensor *b) {
  return COMPOSE(c, add, op_tensor(a), op_tensor(b));
}

moon_tensor *loss_from(compose *c, double number, moon_tensor *x) {
  moon_tensor *from = compose_number(c, x, number);
  return loss_minus(c, from, x);
}

// The sum over the last `count` dimensions; x itself for none.
moon_tensor *loss_sum_last(compose *c, moon_tensor *x, int count) {
  int64_t dims[MOON_MAX_DIMS];
  if (count == 0) return x;
  for (int i = 0; i < count; i++) dims[i] = i - count;
  return COMPOSE(c, sum, op_tensor(x), op_ints(count, dims));
}

moon_status loss_close(compose *c, moon_tensor *losses, int64_t reduction, moon_tensor **result) {
  if (reduction == LOSS_MEAN) losses = COMPOSE(c, mean, op_tensor(losses));
  if (reduction == LOSS_SUM) losses = COMPOSE(c, sum, op_tensor(losses));
  return compose_close(c, losses, result);
}
