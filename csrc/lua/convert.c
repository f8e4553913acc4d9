// Between Lua values and tensors: tables, strings of bytes, numbers, text; and the plain questions
// a tensor answers (size, dtype, ...), as methods and fields.
#include <stdio.h>
#include <string.h>

#include "autograd/tape.h"
#include "lua/binding.h"
#include "ops/registry.h"
#include "ops/support.h"
#include "tensor/print.h"
#include "tensor/shape.h"

// -- from nested tables

// Follows the first members down to find the shape of the table at `index`, and whether truth
// values lie at the bottom.
static int table_shape(lua_State *L, int index, int64_t shape[MOON_MAX_DIMS], bool *booleans) {
  int ndim = 0;
  lua_pushvalue(L, index);
  while (lua_istable(L, -1)) {
    if (ndim == MOON_MAX_DIMS)
      binding_error(L, "tensor: tables nest deeper than %d dimensions", MOON_MAX_DIMS);
    shape[ndim++] = (int64_t)lua_rawlen(L, -1);
    luaL_checkstack(L, 2, "tables nest too deep");
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
    if (shape[ndim - 1] == 0) break;
  }
  *booleans = lua_isboolean(L, -1);
  lua_pop(L, 1);
  return ndim;
}

typedef struct table_reader {
  lua_State *L;
  moon_tensor *tensor;
  char *next;
  size_t size;
} table_reader;

static void refuse_member(table_reader *r, int64_t position) {
  char number[32];
  snprintf(number, sizeof number, "%.14g", lua_tonumber(r->L, -1));
  binding_error(r->L, "tensor: element %d is %s, which type %s cannot hold", (int)position, number,
                dtype_name(r->tensor->dtype));
}

static void read_member(table_reader *r, int64_t position) {
  lua_State *L = r->L;
  moon_dtype dtype = r->tensor->dtype;
  int64_t whole;
  if (lua_isboolean(L, -1)) dtype_store_int(dtype, r->next, lua_toboolean(L, -1));
  else if (lua_type(L, -1) != LUA_TNUMBER)
    binding_error(L, "tensor: element %d must be a number, got %s", (int)position,
                  luaL_typename(L, -1));
  else if (dtype_is_float(dtype) || dtype == MOON_BOOL)
    dtype_store(dtype, r->next, lua_tonumber(L, -1));
  else if (binding_to_int64(L, -1, &whole) && binding_holds(dtype, whole))
    dtype_store_int(dtype, r->next, whole);
  else refuse_member(r, position);
  r->next += r->size;
}

// The table on top of the stack, row by row.
static void read_rows(table_reader *r, int dim) {
  lua_State *L = r->L;
  int64_t count = r->tensor->shape[dim];
  if (!lua_istable(L, -1) || (int64_t)lua_rawlen(L, -1) != count)
    binding_error(L, "tensor: all tables of dimension %d must have %d members like the first, one "
                  "%s%d",
                  dim + 1, (int)count, lua_istable(L, -1) ? "has " : "is no table, found ",
                  lua_istable(L, -1) ? (int)lua_rawlen(L, -1) : 1);
  luaL_checkstack(L, 2, "tables nest too deep");
  for (int64_t i = 1; i <= count; i++) {
    lua_rawgeti(L, -1, (int)i);
    if (dim + 1 < r->tensor->ndim) read_rows(r, dim + 1);
    else read_member(r, i);
    lua_pop(L, 1);
  }
}

typedef struct tensor_options {
  moon_dtype dtype;
  bool typed, requires_grad;   // typed: the dtype was given
} tensor_options;

// A dtype, or a table of options, at stack index 2.
static tensor_options read_tensor_options(lua_State *L) {
  tensor_options options = { .dtype = MOON_F32, .typed = !lua_isnil(L, 2) && !lua_istable(L, 2) };
  if (options.typed) options.dtype = binding_read_dtype(L, 2, "tensor");
  if (!lua_istable(L, 2)) return options;
  for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    if (strcmp(key, "dtype") == 0) {
      options.dtype = binding_read_dtype(L, -1, "tensor");
      options.typed = true;
    } else if (strcmp(key, "requires_grad") == 0) {
      options.requires_grad = lua_toboolean(L, -1);
    } else {
      binding_error(L, "tensor: there is no option \"%s\"; the options are dtype, requires_grad",
                    key);
    }
  }
  return options;
}

// Puts a tensor made on the host where new tensors belong.
static void settle(lua_State *L, binding_state *state, tensor_handle *handle) {
  const moon_device *device = device_default(state->engine);
  moon_tensor *moved;
  if (tensor_device(handle->tensor) == device) return;
  binding_check(L, ops_to_device(state->engine, handle->tensor, device, &moved));
  tensor_release(handle->tensor);
  handle->tensor = moved;
}

// moon.tensor(number | table, {dtype =, requires_grad =})
static int make_tensor(lua_State *L) {
  binding_state *state = binding_here(L);
  bool booleans;
  int64_t shape[MOON_MAX_DIMS];
  moon_tensor *tensor;
  lua_settop(L, 2);
  tensor_options options = read_tensor_options(L);
  if (!lua_istable(L, 1) && lua_type(L, 1) != LUA_TNUMBER && !lua_isboolean(L, 1))
    binding_error(L, "tensor: expected a number or a table of numbers, got %s",
                  luaL_typename(L, 1));
  int ndim = table_shape(L, 1, shape, &booleans);
  moon_dtype dtype = booleans && !options.typed ? MOON_BOOL : options.dtype;
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, tensor_new(state->engine, device_cpu(), dtype, ndim, shape, &tensor));
  handle_fill(handle, tensor);
  table_reader reader = { L, tensor, tensor_data(tensor), dtype_size(dtype) };
  lua_pushvalue(L, 1);
  if (ndim > 0) read_rows(&reader, 0);
  else read_member(&reader, 1);
  lua_pop(L, 1);
  settle(L, state, handle);
  if (options.requires_grad)
    binding_check(L, tape_set_requires_grad(state->engine, handle->tensor, true));
  binding_collect_if_due(L, state);
  return 1;
}

// moon.from_bytes(string, dtype, shape): little-endian elements, row by row
static int from_bytes(lua_State *L) {
  binding_state *state = binding_here(L);
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  moon_dtype dtype = binding_read_dtype(L, 2, "from_bytes");
  int64_t shape[MOON_MAX_DIMS] = { (int64_t)(bytes / dtype_size(dtype)) };
  int ndim = 1;
  if (!lua_isnoneornil(L, 3))
    ndim = binding_read_shape(L, 3, lua_gettop(L), "from_bytes", shape);
  moon_tensor *tensor;
  tensor_handle *handle = handle_push(L, state);
  int64_t count;
  char text_shape[TENSOR_SHAPE_TEXT];
  binding_check(L, shape_count(ndim, shape, &count));
  if ((uint64_t)count > bytes || (size_t)count * dtype_size(dtype) != bytes)
    binding_error(L, "from_bytes: %d bytes are not %s elements of shape %s", (int)bytes,
                  dtype_name(dtype), shape_text(ndim, shape, text_shape));
  binding_check(L, tensor_new(state->engine, device_cpu(), dtype, ndim, shape, &tensor));
  handle_fill(handle, tensor);
  memcpy(tensor_data(tensor), text, bytes);
  uint8_t *flags = tensor_data(tensor);
  for (size_t i = 0; dtype == MOON_BOOL && i < bytes; i++) flags[i] = flags[i] != 0;
  settle(L, state, handle);
  binding_collect_if_due(L, state);
  return 1;
}

// -- to Lua

static moon_tensor *readable(lua_State *L, const char *name) {
  return binding_on_host(L, name, tensor_check(L, 1, name, "x"));
}

static int tensor_item(lua_State *L) {
  moon_tensor *t = tensor_check(L, 1, "item", "x");
  char shape[TENSOR_SHAPE_TEXT];
  if (tensor_count(t) != 1)
    binding_error(L, "item: only a tensor with one element is a number, this one is %s",
                  tensor_shape_text(t, shape));
  binding_push_element(L, "item", t, t->offset);
  return 1;
}

static void push_rows(lua_State *L, const moon_tensor *t, int dim, int64_t offset) {
  if (dim == t->ndim) {
    const char *data = t->storage->data;
    binding_push_value(L, t->dtype, data + offset * (int64_t)dtype_size(t->dtype));
    return;
  }
  luaL_checkstack(L, 3, "too many dimensions");
  lua_createtable(L, t->shape[dim] < 1 << 24 ? (int)t->shape[dim] : 0, 0);
  for (int64_t i = 0; i < t->shape[dim]; i++) {
    push_rows(L, t, dim + 1, offset + i * t->strides[dim]);
    lua_rawseti(L, -2, (int)(i + 1));
  }
}

static int tensor_totable(lua_State *L) {
  moon_tensor *t = readable(L, "totable");
  push_rows(L, t, 0, t->offset);
  return 1;
}

// x:tobytes() -> the elements as a string, row by row
static int tensor_tobytes(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *t = readable(L, "tobytes"), *rows;
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, OP_RUN(state->engine, ops_find("contiguous"), &rows, op_tensor(t)));
  handle_fill(handle, rows);
  lua_pushlstring(L, tensor_data(rows), (size_t)tensor_count(rows) * dtype_size(rows->dtype));
  return 1;
}

static void add_text(void *context, const char *text) { luaL_addstring(context, text); }

static int tensor_tostring(lua_State *L) {
  tensor_handle *handle = handle_at(L, 1);
  if (!handle || !handle->tensor) {
    lua_pushliteral(L, "[tensor without memory: released by a scope, or a parameter without "
                    "shape]");
    return 1;
  }
  luaL_Buffer buffer;
  moon_tensor *t = handle->tensor;
  const moon_device *device = tensor_device(t);
  if (device != device_meta()) t = binding_on_host(L, "tostring", t);
  luaL_buffinit(L, &buffer);
  tensor_print(t, device->name, add_text, &buffer);
  luaL_pushresult(&buffer);
  return 1;
}

// -- questions

static void push_sizes(lua_State *L, int ndim, const int64_t *sizes) {
  lua_createtable(L, ndim, 0);
  for (int i = 0; i < ndim; i++) {
    binding_push_int64(L, sizes[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static int sizes_or_one(lua_State *L, const char *name, bool strides) {
  moon_tensor *t = tensor_check(L, 1, name, "x");
  const int64_t *sizes = strides ? t->strides : t->shape;
  int64_t dim;
  int normal;
  if (lua_isnoneornil(L, 2)) {
    push_sizes(L, t->ndim, sizes);
    return 1;
  }
  if (!binding_to_int64(L, 2, &dim) || dim == 0)
    binding_error(L, "%s: dim must be a whole number from 1, or from -1 at the end", name);
  moon_status status = shape_dim(t->ndim, dim > 0 ? dim - 1 : dim, &normal);
  if (status == MOON_OK && t->ndim == 0)
    status = moon_fail(MOON_BAD_INDEX, "a 0-d tensor has no dimensions");
  if (status != MOON_OK) (void)moon_fail_in(status, "%s: ", name);
  binding_check(L, status);
  binding_push_int64(L, sizes[normal]);
  return 1;
}

static int tensor_size(lua_State *L) { return sizes_or_one(L, "size", false); }
static int tensor_stride(lua_State *L) { return sizes_or_one(L, "stride", true); }

static int tensor_dim(lua_State *L) {
  lua_pushinteger(L, tensor_check(L, 1, "dim", "x")->ndim);
  return 1;
}

static int tensor_numel(lua_State *L) {
  binding_push_int64(L, tensor_count(tensor_check(L, 1, "numel", "x")));
  return 1;
}

// x:is_contiguous(), x:is_contiguous "channels_last"
static int tensor_contiguous(lua_State *L) {
  const moon_tensor *t = tensor_check(L, 1, "is_contiguous", "x");
  const char *format = luaL_optstring(L, 2, "contiguous");
  bool last = strcmp(format, "channels_last") == 0;
  if (!last && strcmp(format, "contiguous") != 0)
    binding_error(L, "is_contiguous: memory_format must be \"contiguous\" or \"channels_last\", "
                  "got \"%s\"", format);
  lua_pushboolean(L, last ? tensor_is_dense_channels_last(t) : tensor_is_contiguous(t));
  return 1;
}

static int tensor_offset(lua_State *L) {
  binding_push_int64(L, tensor_check(L, 1, "storage_offset", "x")->offset);
  return 1;
}

static int tensor_shares(lua_State *L) {
  lua_pushboolean(L, tensor_check(L, 1, "shares_memory", "x")->storage ==
                         tensor_check(L, 2, "shares_memory", "other")->storage);
  return 1;
}

// x:address() -> light userdata of element 1, counted as a write; x:data() in Lua casts it
static int tensor_address(lua_State *L) {
  moon_tensor *t = tensor_check(L, 1, "data", "x");
  binding_need_host(L, "data", t);
  tensor_expose(t);
  lua_pushlightuserdata(L, tensor_data(t));
  return 1;
}

// core.write_count(x) -> how often x's memory was written to; nil where its address was given out,
// and with it the means to write unseen
static int write_count(lua_State *L) {
  const moon_tensor *t = tensor_check(L, 1, "write_count", "x");
  if (atomic_load_explicit(&t->storage->exposed, memory_order_relaxed)) return 0;
  uint_fast32_t writes = atomic_load_explicit(&t->storage->version, memory_order_relaxed);
  lua_pushnumber(L, (lua_Number)writes);
  return 1;
}

static int is_tensor(lua_State *L) {
  lua_pushboolean(L, handle_at(L, 1) != NULL);
  return 1;
}

// Replaces the tensor at index 1, the only one on the stack, by op(it, text).
static void convert_by(lua_State *L, binding_state *state, const char *op, const char *text) {
  lua_pushstring(L, text);
  operator_call(L, state, ops_find(op), false, 1);
  lua_replace(L, 1);
  lua_settop(L, 1);
}

// x:to("float64"), x:to("cpu"), x:to(other): its type and device
static int tensor_to(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *t = tensor_check(L, 1, "to", "x"), *other = tensor_at(L, 2);
  moon_dtype dtype = t->dtype;
  const moon_device *device = NULL;
  if (other) {
    dtype = other->dtype;
    device = tensor_device(other);
  } else if (lua_type(L, 2) != LUA_TSTRING)
    binding_error(L, "to: expected a dtype such as \"float64\", a device such as \"cpu\" or a "
                  "tensor, got %s",
                  luaL_typename(L, 2));
  else if (!dtype_by_name(lua_tostring(L, 2), &dtype))
    binding_check(L, device_by_name(lua_tostring(L, 2), &device));
  bool moves = device && device != tensor_device(t);
  lua_settop(L, 1);
  if (dtype != t->dtype) convert_by(L, state, "cast", dtype_name(dtype));
  if (moves) convert_by(L, state, "move", device->name);
  return 1;
}

// -- fields: x.shape and so on, called by the index metamethod

static int field_shape(lua_State *L) {
  moon_tensor *t = tensor_check(L, 1, "shape", "x");
  push_sizes(L, t->ndim, t->shape);
  return 1;
}

static int field_dtype(lua_State *L) {
  lua_pushstring(L, dtype_name(tensor_check(L, 1, "dtype", "x")->dtype));
  return 1;
}

static int field_device(lua_State *L) {
  lua_pushstring(L, tensor_device(tensor_check(L, 1, "device", "x"))->name);
  return 1;
}

static int field_requires_grad(lua_State *L) {
  tensor_handle *handle = handle_at(L, 1);
  if (handle && handle->lazy) lua_pushboolean(L, 1);
  else lua_pushboolean(L, tape_requires_grad(tensor_check(L, 1, "requires_grad", "x")));
  return 1;
}

static int field_is_leaf(lua_State *L) {
  lua_pushboolean(L, tape_is_leaf(tensor_check(L, 1, "is_leaf", "x")));
  return 1;
}

static int field_grad(lua_State *L) {
  binding_state *state = binding_here(L);
  tensor_handle *handle = handle_at(L, 1), *result;
  if (handle && handle->lazy) return 0;
  moon_tensor *grad = tape_peek_grad(tensor_check(L, 1, "grad", "x"));
  if (!grad) return 0;
  result = handle_push(L, state);
  result->keep = true;   // the gradient belongs to its tensor, not to a scope
  handle_fill(result, tensor_retain(grad));
  return 1;
}

static int field_grad_fn(lua_State *L) {
  lua_pushstring(L, tape_operator_name(tensor_check(L, 1, "grad_fn", "x")));
  return 1;
}

static const luaL_Reg functions[] = {
  { "tensor", make_tensor }, { "from_bytes", from_bytes }, { "is_tensor", is_tensor },
  { "write_count", write_count },
  { NULL, NULL },
};

static const luaL_Reg methods[] = {
  { "size", tensor_size }, { "stride", tensor_stride }, { "dim", tensor_dim },
  { "numel", tensor_numel }, { "item", tensor_item }, { "totable", tensor_totable },
  { "tobytes", tensor_tobytes }, { "tostring", tensor_tostring },
  { "is_contiguous", tensor_contiguous }, { "storage_offset", tensor_offset },
  { "shares_memory", tensor_shares }, { "address", tensor_address }, { "to", tensor_to },
  { NULL, NULL },
};

static const luaL_Reg fields[] = {
  { "shape", field_shape }, { "dtype", field_dtype }, { "device", field_device },
  { "requires_grad", field_requires_grad }, { "is_leaf", field_is_leaf }, { "grad", field_grad },
  { "grad_fn", field_grad_fn }, { NULL, NULL },
};

// Fills the tensors' metatable; the methods table is left in the module as core.methods, so that
// Lua can add methods.
void convert_open(lua_State *L, binding_state *state) {
  int module = lua_gettop(L);
  binding_functions(L, state, functions);
  lua_newtable(L);
  binding_functions(L, state, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, module, "methods");
  lua_newtable(L);
  binding_functions(L, state, fields);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->tensor_metatable);
  lua_pushlightuserdata(L, state);
  lua_pushvalue(L, module + 1);
  lua_pushvalue(L, module + 2);
  lua_pushcclosure(L, tensor_index, 3);
  lua_setfield(L, -2, "__index");
  lua_pushlightuserdata(L, state);
  lua_pushcclosure(L, tensor_newindex, 1);
  lua_setfield(L, -2, "__newindex");
  lua_pushcfunction(L, tensor_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_settop(L, module);
}
