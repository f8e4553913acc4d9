// Cutting by halves. See pieces.h.
#include "ops/pieces.h"

#include "base/alloc.h"

moon_status pieces_new(int64_t count, moon_tensor ***list) {
  size_t bytes;
  MOON_TRY(alloc_product((size_t)count, sizeof **list, &bytes));
  return alloc_new(bytes > 0 ? bytes : 1, (void **)list);
}

void pieces_delete(moon_tensor **list, int64_t count) {
  if (!list) return;
  for (int64_t i = 0; i < count; i++) tensor_release(list[i]);
  alloc_delete(list);
}

static moon_status halve(moon_engine *engine, moon_tensor *x, int dim, int64_t at,
                         moon_tensor *halves[2]) {
  op_value args[3] = { op_tensor(x), op_int(dim), op_int(at) };
  moon_tensor *results[OP_MAX_RESULTS] = { 0 };
  MOON_TRY(op_apply(engine, ops_get(OP_halve), args, results));
  halves[0] = results[0];
  halves[1] = results[1];
  return MOON_OK;
}

moon_status pieces_cut(moon_engine *engine, moon_tensor *x, int dim, int64_t size, int64_t count,
                       moon_tensor **list) {
  if (count == 0) return MOON_OK;
  if (count == 1) {
    list[0] = tensor_retain(x);
    return MOON_OK;
  }
  moon_tensor *halves[2];
  MOON_TRY(halve(engine, x, dim, count / 2 * size, halves));
  moon_status status = pieces_cut(engine, halves[0], dim, size, count / 2, list);
  if (status == MOON_OK)
    status = pieces_cut(engine, halves[1], dim, size, count - count / 2, list + count / 2);
  tensor_release(halves[0]);
  tensor_release(halves[1]);
  return status;
}

moon_status pieces_unbind(moon_engine *engine, moon_tensor *x, int dim, moon_tensor **list) {
  int64_t count = x->shape[dim];
  MOON_TRY(pieces_cut(engine, x, dim, 1, count, list));
  for (int64_t i = 0; i < count; i++) {
    moon_tensor *slice;
    MOON_TRY(OP_RUN(engine, ops_get(OP_squeeze), &slice, op_tensor(list[i]), op_int(dim)));
    tensor_release(list[i]);
    list[i] = slice;
  }
  return MOON_OK;
}
