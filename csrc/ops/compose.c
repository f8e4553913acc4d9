// Operators as formulas of others. See compose.h.
#include "ops/compose.h"

#include <string.h>

#include "base/alloc.h"

static moon_status reserve(compose *c) {
  if (c->count < c->capacity) return MOON_OK;
  int capacity = c->capacity ? 2 * c->capacity : 16;
  moon_tensor **made;
  MOON_TRY(alloc_new((size_t)capacity * sizeof *made, (void **)&made));
  if (c->count > 0) memcpy(made, c->made, (size_t)c->count * sizeof *made);
  alloc_delete(c->made);
  c->made = made;
  c->capacity = capacity;
  return MOON_OK;
}

moon_tensor *compose_adopt(compose *c, moon_status status, moon_tensor *tensor) {
  compose_check(c, status);
  if (status != MOON_OK || !tensor) return NULL;
  moon_status room = reserve(c);
  if (room != MOON_OK || c->status != MOON_OK) {
    compose_check(c, room);
    tensor_release(tensor);
    return NULL;
  }
  c->made[c->count++] = tensor;
  return tensor;
}

void compose_check(compose *c, moon_status status) {
  if (c->status == MOON_OK) c->status = status;
}

// Arguments in schema order, those left out at the end by their defaults.
static void fill_arguments(const op_signature *s, int count, const op_value *args, op_value *all) {
  for (int i = 0; i < s->param_count; i++)
    all[i] = i < count                   ? args[i]
             : s->params[i].has_default ? s->params[i].default_value
                                        : op_none();
}

moon_tensor *compose_run(compose *c, op_descriptor *op, moon_tensor **more, int count,
                         const op_value *args) {
  op_value all[OP_MAX_PARAMS];
  moon_tensor *results[OP_MAX_RESULTS] = { 0 };
  if (more) memset(more, 0, (OP_MAX_RESULTS - 1) * sizeof *more);
  if (c->status != MOON_OK) return NULL;
  fill_arguments(op->signature, count, args, all);
  c->status = op_apply(c->engine, op, all, results);
  if (c->status != MOON_OK) return NULL;
  for (int i = 0; i < op->signature->result_count; i++) {
    bool wanted = i == 0 || (more && i < op->signature->visible_results);
    if (!wanted) tensor_release(results[i]);
    else if (i == 0) results[0] = compose_adopt(c, MOON_OK, results[0]);
    else more[i - 1] = compose_adopt(c, MOON_OK, results[i]);
  }
  return c->status == MOON_OK ? results[0] : NULL;
}

moon_tensor *compose_number(compose *c, const moon_tensor *like, double value) {
  moon_tensor *number = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new_filled(c->engine, like, like->dtype, 0, NULL, value, &number);
  return compose_adopt(c, status, number);
}

moon_tensor *compose_filled(compose *c, const moon_tensor *like, int ndim, const int64_t *shape,
                            double value) {
  moon_tensor *filled = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status =
      ops_new_filled(c->engine, like, like->dtype, ndim, shape, value, &filled);
  return compose_adopt(c, status, filled);
}

moon_tensor *compose_scale(compose *c, moon_tensor *x, double factor) {
  moon_tensor *number = compose_number(c, x, factor);
  return COMPOSE(c, mul, op_tensor(x), op_tensor(number));
}

moon_tensor *compose_offset(compose *c, moon_tensor *x, double by) {
  moon_tensor *number = compose_number(c, x, by);
  return COMPOSE(c, add, op_tensor(x), op_tensor(number));
}

moon_tensor *compose_reshape(compose *c, moon_tensor *x, int ndim, const int64_t *shape) {
  return COMPOSE(c, reshape, op_tensor(x), op_ints(ndim, shape));
}

moon_tensor *compose_own(compose *c, moon_tensor *x) {
  if (c->status != MOON_OK) return NULL;
  x->is_view = false;
  return x;
}

void compose_keep(compose *c, moon_tensor *tensor, moon_tensor **result) {
  if (c->status == MOON_OK && tensor) *result = tensor_retain(tensor);
}

moon_status compose_close(compose *c, moon_tensor *tensor, moon_tensor **result) {
  if (result) compose_keep(c, tensor, result);
  for (int i = 0; i < c->count; i++) tensor_release(c->made[i]);
  alloc_delete(c->made);
  c->made = NULL;
  c->count = c->capacity = 0;
  return c->status;
}
