// Writing into tensors. See target.h.
#include "ops/target.h"

moon_status target_check(const moon_tensor *target) {
  char text[TENSOR_SHAPE_TEXT];
  for (int i = 0; i < target->ndim; i++)
    if (target->strides[i] == 0 && target->shape[i] > 1)
      return moon_fail(MOON_BAD_SHAPE, "the tensor to write into, %s, is expanded: its dimension "
                       "%d shows one element many times; clone() it first",
                       tensor_shape_text(target, text), i + 1);
  return MOON_OK;
}

moon_status target_open(op_call *call) {
  moon_tensor *input = call->args[0].tensor;
  if (call->inplace) return MOON_OK;
  MOON_TRY(tensor_new_like(call->engine, input, &call->results[0]));
  return ops_copy(call->engine, input, call->results[0]);
}

moon_status target_apart(moon_engine *engine, moon_tensor *source, const moon_tensor *target,
                         moon_tensor **apart) {
  if (source->storage != target->storage) {
    *apart = tensor_retain(source);
    return MOON_OK;
  }
  moon_tensor *copy;
  MOON_TRY(tensor_new_like(engine, source, &copy));
  moon_status status = ops_copy(engine, source, copy);
  if (status != MOON_OK) {
    tensor_release(copy);
    return status;
  }
  *apart = copy;
  return MOON_OK;
}

moon_status target_fits(const char *argument, const moon_tensor *source, const char *name, int ndim,
                        const int64_t *shape) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  int missing = ndim - source->ndim;
  bool fits = missing >= 0;
  for (int i = 0; i < source->ndim && fits; i++)
    fits = source->shape[i] == 1 || source->shape[i] == shape[i + missing];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s %s does not fit %s %s", argument,
                   tensor_shape_text(source, a), name, shape_text(ndim, shape, b));
}
