// Stacks of matrices. See stacks.h.
#include "ops/stacks.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

moon_status stacks_need(const char *argument, const moon_tensor *x) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_wide_float(argument, x));
  if (x->ndim >= 2) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have at least 2 dimensions (..., rows, columns), got "
                   "%s", argument, tensor_shape_text(x, text));
}

moon_status stacks_need_square(const char *argument, const moon_tensor *x) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(stacks_need(argument, x));
  if (stacks_rows(x) == stacks_columns(x)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be square in its last two dimensions, got %s", argument,
                   tensor_shape_text(x, text));
}

device_array stacks_array(const moon_tensor *contiguous, int tail) {
  device_array a = { .data = tensor_data(contiguous), .dtype = contiguous->dtype,
                     .ndim = tail + 1 };
  int64_t batch = 1, stride = 1;
  for (int i = 0; i < contiguous->ndim - tail; i++) batch *= contiguous->shape[i];
  for (int i = tail; i > 0; i--) {
    a.shape[i] = contiguous->shape[contiguous->ndim - 1 - (tail - i)];
    a.strides[i] = stride;
    stride *= a.shape[i];
  }
  a.shape[0] = batch;
  a.strides[0] = stride;
  return a;
}

moon_status stacks_new(moon_engine *engine, const moon_tensor *x, int tail, const int64_t *sizes,
                       moon_tensor **made) {
  int64_t shape[MOON_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  if (tail > 0) memcpy(shape + x->ndim - 2, sizes, (size_t)tail * sizeof *sizes);
  return ops_new(engine, x, x->dtype, x->ndim - 2 + tail, shape, made);
}

moon_status stacks_info_new(moon_engine *engine, const moon_tensor *x, stacks_info *info) {
  int64_t batch = 1;
  for (int i = 0; i < x->ndim - 2; i++) batch *= x->shape[i];
  *info = (stacks_info){ .code = 0 };
  snprintf(info->which, sizeof info->which, x->ndim == 2 ? "the matrix" : "a matrix");
  return ops_new_filled(engine, x, MOON_I64, 1, &batch, 0, &info->tensor);
}

moon_status stacks_info_read(moon_engine *engine, stacks_info *info) {
  int64_t count = tensor_count(info->tensor), *codes;
  if (count == 0) return MOON_OK;
  MOON_TRY(alloc_new((size_t)count * sizeof *codes, (void **)&codes));
  moon_status status = make_read_integers(engine, info->tensor, codes);
  for (int64_t i = 0; status == MOON_OK && i < count && info->code == 0; i++) {
    info->code = codes[i];
    if (codes[i] != 0 && info->which[0] == 'a')
      snprintf(info->which, sizeof info->which, "matrix %" PRId64 " of the stack", i + 1);
  }
  alloc_delete(codes);
  return status;
}

void stacks_info_release(stacks_info *info) { tensor_release(info->tensor); }

moon_tensor *stacks_identity(compose *c, const moon_tensor *like, int64_t n) {
  moon_tensor *ones = make_filled(c, like, like->dtype, 1, &n, 1);
  return COMPOSE(c, diag_embed, op_tensor(ones));
}
