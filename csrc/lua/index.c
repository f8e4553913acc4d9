// Indexing: t[i], t[{i, {a, b}, {}}], t[mask], t[positions], and assignment through all of them.
// Also t.name: methods first, then fields.
#include <string.h>

#include "autograd/tape.h"
#include "lua/binding.h"
#include "ops/registry.h"
#include "ops/support.h"
#include "tensor/shape.h"

static moon_status run(binding_state *state, const char *op, op_value *args, moon_tensor **result) {
  moon_tensor *results[OP_MAX_RESULTS] = { 0 };
  MOON_TRY(op_apply(state->engine, ops_find(op), args, results));
  *result = results[0];
  for (int i = 1; i < OP_MAX_RESULTS; i++) tensor_release(results[i]);   // kept for backward
  return MOON_OK;
}

static moon_status normal_index(const moon_tensor *t, int dim, int64_t index, int64_t *normal) {
  int64_t i = index > 0 ? index - 1 : index + t->shape[dim];
  if (index == 0 || i < 0 || i >= t->shape[dim])
    return moon_fail(MOON_BAD_INDEX, "index %lld lies outside dimension %d of size %lld",
                     (long long)index, dim + 1, (long long)t->shape[dim]);
  *normal = i;
  return MOON_OK;
}

// -- the block that {i, {a, b}, {}} means: start and length of each dimension, and which stay

typedef struct block {
  int64_t start[MOON_MAX_DIMS], length[MOON_MAX_DIMS], kept[MOON_MAX_DIMS];
} block;

static void whole_block(const moon_tensor *t, block *b) {
  for (int i = 0; i < t->ndim; i++) {
    b->start[i] = 0;
    b->length[i] = t->shape[i];
    b->kept[i] = 1;
  }
}

static int64_t whole_number(lua_State *L, int index) {
  int64_t value = 0;
  if (!binding_to_int64(L, index, &value))
    binding_error(L, "index: expected a whole number, got %s", luaL_typename(L, index));
  return value;
}

// {}, {a} or {a, b} at the top of the stack.
static void read_range(lua_State *L, const moon_tensor *t, int dim, block *b) {
  int count = (int)lua_rawlen(L, -1);
  int64_t first, last;
  if (count == 0) return;
  if (count > 2)
    binding_error(L, "index: a range is {}, {first} or {first, last}, got %d numbers", count);
  lua_rawgeti(L, -1, 1);
  lua_rawgeti(L, -2, count);
  int64_t from = whole_number(L, -2), to = whole_number(L, -1);
  lua_pop(L, 2);
  if (t->shape[dim] == 0 && from == 1 && to <= 0) return;
  binding_check(L, normal_index(t, dim, from, &first));
  if (to == from - 1 || (to < 0 && to + t->shape[dim] == first - 1)) {   // an empty range
    b->start[dim] = first;
    b->length[dim] = 0;
    return;
  }
  binding_check(L, normal_index(t, dim, to, &last));
  if (last < first)
    binding_error(L, "index: the range %d..%d of dimension %d runs backwards", (int)first + 1,
                  (int)last + 1, dim + 1);
  b->start[dim] = first;
  b->length[dim] = last - first + 1;
}

static void read_one(lua_State *L, const moon_tensor *t, int dim, block *b) {
  if (lua_istable(L, -1)) {
    read_range(L, t, dim, b);
    return;
  }
  binding_check(L, normal_index(t, dim, whole_number(L, -1), &b->start[dim]));
  b->length[dim] = 1;
  b->kept[dim] = 0;
}

// Reads the number or table at `index`.
static void read_block(lua_State *L, int index, const moon_tensor *t, block *b) {
  whole_block(t, b);
  if (!lua_istable(L, index)) {
    if (t->ndim == 0) binding_error(L, "index: a 0-d tensor has no elements to index; use item()");
    lua_pushvalue(L, index);
    read_one(L, t, 0, b);
    lua_pop(L, 1);
    return;
  }
  int count = (int)lua_rawlen(L, index);
  if (count > t->ndim)
    binding_error(L, "index: %d indices for a tensor of %d dimensions", count, t->ndim);
  for (int dim = 0; dim < count; dim++) {
    lua_rawgeti(L, index, dim + 1);
    read_one(L, t, dim, b);
    lua_pop(L, 1);
  }
}

static bool is_element(const moon_tensor *t, const block *b, int64_t *offset) {
  *offset = t->offset;
  for (int i = 0; i < t->ndim; i++) {
    if (b->kept[i]) return false;
    *offset += b->start[i] * t->strides[i];
  }
  return true;
}

// narrow and select, one dimension after the other, from the last.
static moon_status take_block(binding_state *state, moon_tensor *t, const block *b,
                              moon_tensor **result) {
  moon_tensor *view = tensor_retain(t), *next;
  for (int i = t->ndim - 1; i >= 0; i--) {
    if (b->kept[i] && b->length[i] == t->shape[i]) continue;
    op_value narrow[] = { op_tensor(view), op_int(i), op_int(b->start[i]), op_int(b->length[i]) };
    op_value select[] = { op_tensor(view), op_int(i), op_int(b->start[i]) };
    moon_status status = run(state, b->kept[i] ? "narrow" : "select", b->kept[i] ? narrow : select,
                             &next);
    tensor_release(view);
    MOON_TRY(status);
    view = next;
  }
  if (view == t) {   // t[{}]: the same elements in a tensor of their own
    op_value args[] = { op_tensor(t), op_ints(t->ndim, t->shape) };
    moon_status status = run(state, "view", args, &next);
    tensor_release(view);
    MOON_TRY(status);
    view = next;
  }
  *result = view;
  return MOON_OK;
}

// -- masks and positions

// Rows of t at the true places of a mask that covers t's first dimensions.
static moon_status take_masked_rows(binding_state *state, moon_tensor *t, moon_tensor *mask,
                                    moon_tensor **result) {
  moon_tensor *positions, *flat = NULL;
  int64_t count, rows = tensor_count(mask), shape[MOON_MAX_DIMS];
  device_array from = tensor_array(mask), to;
  MOON_TRY(tensor_kernels(mask)->mask_positions(state->engine, &from, &count, NULL));
  MOON_TRY(tensor_new(state->engine, tensor_device(t), MOON_I64, 1, &count, &positions));
  to = tensor_array(positions);
  moon_status status = tensor_kernels(mask)->mask_positions(state->engine, &from, &count, &to);
  if (status == MOON_OK) status = ops_index_out(state->engine, positions);
  shape[0] = rows;
  for (int i = mask->ndim; i < t->ndim; i++) shape[1 + i - mask->ndim] = t->shape[i];
  if (status == MOON_OK)
    status = run(state, "reshape",
                 (op_value[]){ op_tensor(t), op_ints(1 + t->ndim - mask->ndim, shape) }, &flat);
  if (status == MOON_OK)
    status = run(state, "index_select",
                 (op_value[]){ op_tensor(flat), op_int(0), op_tensor(positions) }, result);
  tensor_release(flat);
  tensor_release(positions);
  return status;
}

static moon_status check_mask(const moon_tensor *t, const moon_tensor *mask) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  bool fits = mask->ndim <= t->ndim;
  for (int i = 0; i < mask->ndim && fits; i++) fits = mask->shape[i] == t->shape[i];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "index: a mask of %s does not cover the first dimensions of a "
                   "tensor of %s", tensor_shape_text(mask, a), tensor_shape_text(t, b));
}

static moon_status take_positions(binding_state *state, moon_tensor *t, moon_tensor *index,
                                  moon_tensor **result) {
  moon_tensor *flat = NULL, *rows = NULL;
  int64_t all = -1, shape[MOON_MAX_DIMS];
  int ndim = index->ndim + t->ndim - 1;
  if (t->ndim == 0 || ndim > MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "index: positions of %d dimensions do not fit a tensor of %d",
                     index->ndim, t->ndim);
  memcpy(shape, index->shape, (size_t)index->ndim * sizeof *shape);
  memcpy(shape + index->ndim, t->shape + 1, (size_t)(t->ndim - 1) * sizeof *shape);
  moon_status status = run(state, "reshape", (op_value[]){ op_tensor(index), op_ints(1, &all) },
                           &flat);
  if (status == MOON_OK)
    status = run(state, "index_select", (op_value[]){ op_tensor(t), op_int(0), op_tensor(flat) },
                 &rows);
  if (status == MOON_OK)
    status = run(state, "reshape", (op_value[]){ op_tensor(rows), op_ints(ndim, shape) }, result);
  tensor_release(flat);
  tensor_release(rows);
  return status;
}

static moon_status take_by_tensor(binding_state *state, moon_tensor *t, moon_tensor *index,
                                  moon_tensor **result) {
  if (index->dtype != MOON_BOOL) return take_positions(state, t, index, result);
  MOON_TRY(check_mask(t, index));
  if (index->ndim < t->ndim) return take_masked_rows(state, t, index, result);
  return run(state, "masked_select", (op_value[]){ op_tensor(t), op_tensor(index) }, result);
}

// -- reading

static int index_number(lua_State *L, binding_state *state, moon_tensor *t) {
  block b;
  int64_t offset;
  moon_tensor *result = NULL;
  read_block(L, 2, t, &b);
  if (is_element(t, &b, &offset)) {
    binding_push_element(L, "index", t, offset);
    return 1;
  }
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, take_block(state, t, &b, &result));
  handle_fill(handle, result);
  if (handle_at(L, 1)->carries) carry_over(L, 1, 1, lua_gettop(L));
  return 1;
}

static int index_tensor(lua_State *L, binding_state *state, moon_tensor *t) {
  moon_tensor *result = NULL;
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, take_by_tensor(state, t, tensor_at(L, 2), &result));
  handle_fill(handle, result);
  if (handle_at(L, 1)->carries) carry_over(L, 1, 1, lua_gettop(L));
  binding_collect_if_due(L, state);
  return 1;
}

static int index_name(lua_State *L) {
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(2));   // methods
  if (!lua_isnil(L, -1)) return 1;
  lua_pushvalue(L, 2);
  lua_rawget(L, lua_upvalueindex(3));   // fields: functions of the tensor
  if (lua_isnil(L, -1)) return 1;
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

int tensor_index(lua_State *L) {
  int kind = lua_type(L, 2);
  if (kind == LUA_TSTRING) return index_name(L);
  binding_state *state = binding_here(L);
  moon_tensor *t = tensor_check(L, 1, "index", "t");
  if (kind == LUA_TNUMBER || kind == LUA_TTABLE) return index_number(L, state, t);
  if (handle_at(L, 2)) return index_tensor(L, state, t);
  return binding_error(L, "index: a tensor is indexed by a number, a table, a mask or positions, "
                       "got %s",
                       luaL_typename(L, 2));
}

// -- assigning

// Takes `scalar` over and gives it on t's device.
static moon_status beside(binding_state *state, const moon_tensor *t, moon_tensor *scalar,
                          moon_tensor **value) {
  moon_status status = binding_beside(state, t, &scalar);
  if (status == MOON_OK) *value = scalar;
  else tensor_release(scalar);
  return status;
}

// The value at stack index 3 as a tensor of t's type: owned.
static moon_status value_tensor(lua_State *L, binding_state *state, const moon_tensor *t,
                                moon_tensor **value) {
  moon_tensor *given = tensor_at(L, 3);
  if (given && given->dtype == t->dtype) {
    *value = tensor_retain(given);
    return MOON_OK;
  }
  if (given) return run(state, "cast", (op_value[]){ op_tensor(given), op_dtype(t->dtype) }, value);
  if (lua_isboolean(L, 3)) {
    moon_tensor *flag;
    MOON_TRY(tensor_new_scalar(state->engine, t->dtype, lua_toboolean(L, 3), &flag));
    return beside(state, t, flag, value);
  }
  if (lua_type(L, 3) != LUA_TNUMBER)
    return moon_fail(MOON_BAD_ARGUMENT, "index: a number or a tensor can be assigned, got %s",
                     luaL_typename(L, 3));
  moon_tensor *number;
  moon_status status = binding_scalar(state, binding_to_number(L, 3), t->dtype, &number);
  if (status != MOON_OK) return moon_fail_in(status, "index: the value ");
  return beside(state, t, number, value);
}

static moon_status assign_block(binding_state *state, moon_tensor *t, const block *b,
                                moon_tensor *value) {
  op_value args[] = { op_tensor(t), op_tensor(value), op_ints(t->ndim, b->start),
                      op_ints(t->ndim, b->length), op_ints(t->ndim, b->kept) };
  return op_apply_inplace(state->engine, ops_find("assign"), args);
}

static moon_status assign_masked(binding_state *state, moon_tensor *t, moon_tensor *mask,
                                 moon_tensor *value) {
  MOON_TRY(check_mask(t, mask));
  moon_tensor *wide = NULL;
  int64_t shape[MOON_MAX_DIMS];
  for (int i = 0; i < t->ndim; i++) shape[i] = i < mask->ndim ? mask->shape[i] : 1;
  MOON_TRY(run(state, "reshape", (op_value[]){ op_tensor(mask), op_ints(t->ndim, shape) }, &wide));
  op_value args[] = { op_tensor(t), op_tensor(wide), op_tensor(value) };
  const char *name = value->ndim == 0 ? "masked_fill" : "masked_scatter";
  moon_status status = op_apply_inplace(state->engine, ops_find(name), args);
  tensor_release(wide);
  return status;
}

static moon_status assign_positions(binding_state *state, moon_tensor *t, moon_tensor *index,
                                    moon_tensor *value) {
  moon_tensor *flat = NULL, *wide = NULL, *rows = NULL;
  int64_t all = -1, shape[MOON_MAX_DIMS], row_shape[MOON_MAX_DIMS];
  int ndim = index->ndim + t->ndim - 1;
  if (t->ndim == 0 || ndim > MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "index: positions of %d dimensions do not fit a tensor of %d",
                     index->ndim, t->ndim);
  memcpy(shape, index->shape, (size_t)index->ndim * sizeof *shape);
  memcpy(shape + index->ndim, t->shape + 1, (size_t)(t->ndim - 1) * sizeof *shape);
  memcpy(row_shape, t->shape, sizeof row_shape);
  row_shape[0] = tensor_count(index);
  moon_status status = run(state, "reshape", (op_value[]){ op_tensor(index), op_ints(1, &all) },
                           &flat);
  if (status == MOON_OK)
    status = run(state, "expand", (op_value[]){ op_tensor(value), op_ints(ndim, shape) }, &wide);
  if (status == MOON_OK)
    status = run(state, "reshape", (op_value[]){ op_tensor(wide), op_ints(t->ndim, row_shape) },
                 &rows);
  if (status == MOON_OK) {
    op_value args[] = { op_tensor(t), op_int(0), op_tensor(flat), op_tensor(rows) };
    status = op_apply_inplace(state->engine, ops_find("index_copy"), args);
  }
  tensor_release(flat);
  tensor_release(wide);
  tensor_release(rows);
  return status;
}

static int assign_name(lua_State *L, moon_tensor *t) {
  binding_state *state = binding_here(L);
  const char *name = lua_tostring(L, 2);
  if (strcmp(name, "requires_grad") == 0) {
    if (!lua_isboolean(L, 3))
      binding_error(L, "requires_grad must be true or false, got %s", luaL_typename(L, 3));
    binding_check(L, tape_set_requires_grad(state->engine, t, lua_toboolean(L, 3)));
  } else if (strcmp(name, "grad") == 0) {
    if (!lua_isnil(L, 3) && !handle_at(L, 3))
      binding_error(L, "grad must be a tensor or nil, got %s", luaL_typename(L, 3));
    binding_check(L, tape_set_grad(t, lua_isnil(L, 3) ? NULL : tensor_at(L, 3)));
  } else {
    binding_error(L, "a tensor has no field \"%s\" to assign; requires_grad and grad can be", name);
  }
  return 0;
}

int tensor_newindex(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *t = tensor_check(L, 1, "index", "t"), *index = NULL, *value = NULL;
  int kind = lua_type(L, 2);
  block b;
  if (kind == LUA_TSTRING) return assign_name(L, t);
  if (handle_at(L, 2)) index = tensor_at(L, 2);
  else if (kind == LUA_TNUMBER || kind == LUA_TTABLE) read_block(L, 2, t, &b);
  else binding_error(L, "index: a tensor is indexed by a number, a table, a mask or positions, "
                     "got %s",
                     luaL_typename(L, 2));
  tensor_at(L, 3);   // a released value raises here, before anything is held
  binding_check(L, value_tensor(L, state, t, &value));
  moon_status status = !index ? assign_block(state, t, &b, value)
                       : index->dtype == MOON_BOOL ? assign_masked(state, t, index, value)
                                                   : assign_positions(state, t, index, value);
  tensor_release(value);
  binding_check(L, status);
  tensor_handle *given = handle_at(L, 3);
  if (given && given->carries) carry_over(L, 1, 3, 1);
  binding_collect_if_due(L, state);
  return 0;
}
