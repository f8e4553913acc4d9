// Sets of dimensions for reductions. See dims.h.
#include "ops/dims.h"

#include <string.h>

static void set_shapes(dim_set *set, const int64_t *shape) {
  set->count = 1;
  set->result_ndim = 0;
  for (int i = 0; i < set->ndim; i++) {
    set->kept[i] = set->over[i] ? 1 : shape[i];
    if (set->over[i]) set->count *= shape[i];
    if (!set->over[i] || set->keepdim) set->result[set->result_ndim++] = set->kept[i];
  }
}

moon_status dims_read(const op_value *dims, bool keepdim, int ndim, const int64_t *shape,
                      dim_set *set) {
  bool all = !dims->given || dims->ints.count == 0;
  *set = (dim_set){ .ndim = ndim, .keepdim = keepdim };
  for (int i = 0; i < ndim; i++) set->over[i] = all;
  for (int i = 0; !all && i < dims->ints.count; i++) {
    int dim;
    MOON_TRY(shape_dim(ndim, dims->ints.v[i], &dim));
    if (set->over[dim])
      return moon_fail(MOON_BAD_ARGUMENT, "dim names dimension %d twice", dim + 1);
    set->over[dim] = ndim > 0;
  }
  set_shapes(set, shape);
  return MOON_OK;
}

moon_status dims_read_one(const op_value *dim, bool keepdim, int ndim, const int64_t *shape,
                          dim_set *set, int *normal) {
  *set = (dim_set){ .ndim = ndim, .keepdim = keepdim };
  MOON_TRY(shape_dim(ndim, dim->integer, normal));
  if (ndim > 0) set->over[*normal] = true;
  set_shapes(set, shape);
  return MOON_OK;
}

moon_status dims_need_elements(const dim_set *set, const moon_tensor *input) {
  char text[TENSOR_SHAPE_TEXT];
  int64_t results = 1;
  int empty = -1;
  for (int i = 0; i < set->ndim; i++) {
    results *= set->kept[i];
    if (set->over[i] && input->shape[i] == 0) empty = i;
  }
  if (empty < 0 || results == 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "dimension %d of input %s is empty, so there is no element to "
                   "choose", empty + 1, tensor_shape_text(input, text));
}

device_array dims_array(const dim_set *set, const moon_tensor *result) {
  device_array array = { .data = tensor_data(result), .dtype = result->dtype, .ndim = set->ndim };
  int next = 0;
  for (int i = 0; i < set->ndim; i++) {
    array.shape[i] = set->kept[i];
    array.strides[i] = set->over[i] ? 0 : result->strides[next];
    if (!set->over[i] || set->keepdim) next++;
  }
  return array;
}

moon_status dims_keep(moon_engine *engine, const dim_set *set, moon_tensor *result,
                      moon_tensor **kept) {
  if (engine->grad_enabled)
    return OP_RUN(engine, ops_get(OP_reshape), kept, op_tensor(result),
                  op_ints(set->ndim, set->kept));
  device_array array = dims_array(set, result);
  return tensor_new_view(result, set->ndim, set->kept, array.strides, result->offset, kept);
}

moon_status dims_expand(moon_engine *engine, const dim_set *set, moon_tensor *result,
                        const int64_t *shape, moon_tensor **expanded) {
  if (!engine->grad_enabled) {
    device_array array = dims_array(set, result);
    return tensor_new_view(result, set->ndim, shape, array.strides, result->offset, expanded);
  }
  moon_tensor *kept;
  MOON_TRY(dims_keep(engine, set, result, &kept));
  moon_status status = OP_RUN(engine, ops_get(OP_expand), expanded, op_tensor(kept),
                              op_ints(set->ndim, shape));
  tensor_release(kept);
  return status;
}

moon_status dims_reduce(moon_engine *engine, int kind, const dim_set *set, const moon_tensor *x,
                        moon_dtype dtype, moon_tensor **result) {
  moon_tensor *made;
  MOON_TRY(ops_new(engine, x, dtype, set->result_ndim, set->result, &made));
  device_array from = tensor_array(x), to = dims_array(set, made);
  moon_status status = tensor_kernels(x)->reduce(engine, kind, &from, &to);
  if (status != MOON_OK) {
    tensor_release(made);
    return status;
  }
  *result = made;
  return MOON_OK;
}
