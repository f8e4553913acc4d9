// Exposes every operator from its descriptor: moon.name(...), x:name(...) and, where it exists,
// the in-place form name_. The one generic call is operator_call.
#include <string.h>

#include "base/alloc.h"
#include "lua/binding.h"
#include "ops/pointwise.h"
#include "ops/registry.h"

static int finish(lua_State *L, binding_state *state, moon_status status, int results) {
  if (status != MOON_OK) return binding_raise(L);
  binding_collect_if_due(L, state);
  return results;
}

static int call_inplace(lua_State *L, binding_state *state, op_descriptor *op, int first,
                        binding_call *call, const char *name) {
  if (call->numbered && call->is_number[0])
    return binding_error(L, "%s: %s is written into and must be a tensor, got number", name,
                         op->signature->params[0].name);
  moon_status status = arguments_make_scalars(state, op, name, call);
  if (status == MOON_OK) status = op_apply_inplace(state->engine, op, call->values);
  arguments_close(call);
  if (status == MOON_OK && call->carries) carry_over(L, first, lua_gettop(L), first);
  if (status == MOON_OK) lua_pushvalue(L, first);
  return finish(L, state, status, 1);
}

// Handles are made before the call, so that a result is owned from the moment it exists.
static int call_function(lua_State *L, binding_state *state, op_descriptor *op, int first,
                         binding_call *call, const char *name) {
  moon_tensor *results[OP_MAX_RESULTS] = { 0 };
  tensor_handle *handles[OP_MAX_RESULTS];
  int visible = op->signature->visible_results, given = 0;
  int base = lua_gettop(L);
  for (int i = 0; i < visible; i++) handles[i] = handle_push(L, state);
  moon_status status = arguments_make_scalars(state, op, name, call);
  if (status == MOON_OK) status = op_apply(state->engine, op, call->values, results);
  arguments_close(call);
  for (int i = 0; i < op->signature->result_count; i++) {
    if (i < visible && results[i]) {
      handle_fill(handles[i], results[i]);
      given = i + 1;
    } else {
      tensor_release(results[i]);
    }
  }
  if (given < visible) lua_settop(L, base + given);
  if (status == MOON_OK && call->carries) carry_over(L, first, base, base + 1);
  return finish(L, state, status, given);
}

// The results become a table, made under protection because it may run out of memory.
typedef struct list_results {
  binding_state *state;
  moon_tensor **list;
  int count;
} list_results;

static int push_list(lua_State *L) {
  list_results *results = lua_touserdata(L, 1);
  lua_createtable(L, results->count, 0);
  for (int i = 0; i < results->count; i++) {
    handle_fill(handle_push(L, results->state), results->list[i]);
    results->list[i] = NULL;
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int call_list(lua_State *L, binding_state *state, op_descriptor *op, int first,
                     binding_call *call, const char *name) {
  list_results results = { .state = state };
  int base = lua_gettop(L);
  luaL_checkstack(L, 4, "no room for results");
  lua_pushcfunction(L, push_list);   // before there is anything that an error could lose
  moon_status status = arguments_make_scalars(state, op, name, call);
  if (status == MOON_OK)
    status = op_apply_list(state->engine, op, call->values, &results.list, &results.count);
  arguments_close(call);
  if (status != MOON_OK) return binding_raise(L);
  lua_pushlightuserdata(L, &results);
  int failed = lua_pcall(L, 1, 1, 0);
  for (int i = 0; i < results.count; i++) tensor_release(results.list[i]);
  alloc_delete(results.list);
  if (failed) return lua_error(L);
  if (call->carries) carry_over(L, first, base, base + 1);
  binding_collect_if_due(L, state);
  return 1;
}

int operator_call(lua_State *L, binding_state *state, op_descriptor *op, bool inplace, int first) {
  binding_call call;
  const char *name = inplace ? op->signature->inplace_name : op->name;
  if (!arguments_read_tensors(L, op, first, &call)) arguments_read(L, op, name, first, &call);
  if (inplace) return call_inplace(L, state, op, first, &call, name);
  if (op->signature->returns_list) return call_list(L, state, op, first, &call, op->name);
  return call_function(L, state, op, first, &call, op->name);
}

static int operator_function(lua_State *L) {
  binding_state *state = binding_here(L);
  return operator_call(L, state, lua_touserdata(L, lua_upvalueindex(2)), false, 1);
}

static int operator_inplace(lua_State *L) {
  binding_state *state = binding_here(L);
  return operator_call(L, state, lua_touserdata(L, lua_upvalueindex(2)), true, 1);
}

// -- moon.operators()

static const char *const kind_names[] = {
  "Tensor", "Tensor[]", "Tensor|number", "int", "number", "bool", "string", "dtype", "device",
  "int[]", "dim", "dims", "index", "choice", "pads",
};

static void push_param(lua_State *L, const op_param *param) {
  lua_newtable(L);
  binding_set_text(L, "name", param->name);
  if (param->fixed) {   // "int[2]", "pads[3]"
    lua_pushfstring(L, "%s[%d]", param->kind == OP_PADS ? "pads" : "int", param->fixed);
    lua_setfield(L, -2, "type");
  } else {
    binding_set_text(L, "type", param->alone ? "Tensor|Tensor[]" : kind_names[param->kind]);
  }
  binding_set_boolean(L, "optional", param->optional);
  if (param->has_default) binding_set_text(L, "default", param->default_text);
  if (param->kind != OP_CHOICE) return;
  lua_newtable(L);
  for (int i = 0; i < param->choice_count; i++) {
    lua_pushstring(L, param->choices[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "choices");
}

static bool is_input(const op_param *param) {
  return param->kind == OP_TENSOR || param->kind == OP_TENSORS ||
         param->kind == OP_SCALAR_OR_TENSOR;
}

static void push_params(lua_State *L, const op_signature *s, bool inputs) {
  lua_newtable(L);
  for (int i = 0, n = 0; i < s->param_count; i++) {
    if (is_input(&s->params[i]) != inputs) continue;
    push_param(L, &s->params[i]);
    lua_rawseti(L, -2, ++n);
  }
}

static void push_row(lua_State *L, const pointwise_text *row) {
  binding_set_text(L, "formula", row->formula);
  if (row->derivatives[0]) binding_set_text(L, "derivative", row->derivatives[0]);
  if (row->derivatives[1]) binding_set_text(L, "derivative_y", row->derivatives[1]);
  binding_set_number(L, "low", row->low);
  binding_set_number(L, "high", row->high);
}

static void push_dtypes(lua_State *L, const op_descriptor *op) {
  lua_newtable(L);
  for (int dtype = 0, n = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
    if (!op_takes_dtype(op, (moon_dtype)dtype)) continue;
    lua_pushstring(L, dtype_name((moon_dtype)dtype));
    lua_rawseti(L, -2, ++n);
  }
  lua_setfield(L, -2, "dtypes");
}

// How often the operator can be differentiated. One whose result depends on no input's values may
// still have a backward, so that writing over a taped tensor goes on the tape.
static const char *gradient_order(const op_descriptor *op) {
  bool inputs = false;
  for (int i = 0; i < op->signature->param_count; i++)
    inputs |= is_input(&op->signature->params[i]);
  if (!inputs || (op->flags & OP_CONSTANT)) return "none";
  if (op->flags & OP_ONCE) return "first";
  return op->backward || (op->flags & OP_COMPOSITE) ? "every" : "none";
}

static void push_descriptor(lua_State *L, const op_descriptor *op) {
  const op_signature *s = op->signature;
  lua_newtable(L);
  binding_set_text(L, "name", op->name);
  binding_set_text(L, "family", op->family);
  binding_set_text(L, "schema", op->schema);
  binding_set_text(L, "doc", op->doc ? op->doc : "");
  if (op->example) binding_set_text(L, "example", op->example);
  push_params(L, s, true);
  lua_setfield(L, -2, "inputs");
  push_params(L, s, false);
  lua_setfield(L, -2, "attributes");
  lua_newtable(L);
  for (int i = 0; i < s->visible_results; i++) {
    lua_pushstring(L, s->results[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "results");
  push_dtypes(L, op);
  const char *order = gradient_order(op);
  binding_set_text(L, "order", order);
  binding_set_boolean(L, "gradient", strcmp(order, "none") != 0);
  binding_set_boolean(L, "composite", (op->flags & OP_COMPOSITE) != 0);
  binding_set_boolean(L, "view", (op->flags & OP_VIEW) != 0);
  binding_set_boolean(L, "inplace", (op->flags & (OP_INPLACE | OP_MUTATES)) != 0);
  binding_set_boolean(L, "only_inplace", (op->flags & OP_MUTATES) != 0);
  binding_set_boolean(L, "hidden", (op->flags & OP_HIDDEN) != 0);
  binding_set_boolean(L, "method", !(op->flags & (OP_FUNCTION_ONLY | OP_HIDDEN)));
  const pointwise_text *row = pointwise_row(op);
  if (row) push_row(L, row);
}

// moon.operators() -> list of descriptors: name, schema, doc, inputs, attributes (type, default),
// results, dtypes (of the first tensor), gradient...
static int list_operators(lua_State *L) {
  lua_createtable(L, ops_count(), 0);
  for (int i = 0; i < ops_count(); i++) {
    push_descriptor(L, ops_at(i));
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

// -- registering. Stack on entry: the module table.

static void add_closure(lua_State *L, binding_state *state, op_descriptor *op, lua_CFunction call,
                        const char *name, int table) {
  lua_pushlightuserdata(L, state);
  lua_pushlightuserdata(L, op);
  lua_pushcclosure(L, call, 2);
  lua_setfield(L, table, name);
}

static void add_operator(lua_State *L, binding_state *state, op_descriptor *op, int module,
                         int methods) {
  const char *name = op->signature->inplace_name;
  if (op->flags & OP_HIDDEN) return;
  if (!(op->flags & OP_MUTATES)) {
    if (!(op->flags & OP_METHOD_ONLY))
      add_closure(L, state, op, operator_function, op->name, module);
    if (!(op->flags & OP_FUNCTION_ONLY))
      add_closure(L, state, op, operator_function, op->name, methods);
  }
  if (op->flags & (OP_INPLACE | OP_MUTATES)) {
    add_closure(L, state, op, operator_inplace, name, module);
    if (!(op->flags & OP_FUNCTION_ONLY)) add_closure(L, state, op, operator_inplace, name, methods);
  }
}

static const struct { const char *event, *op; } events[] = {
  { "__add", "add" }, { "__sub", "sub" }, { "__mul", "mul" }, { "__div", "div" },
  { "__pow", "pow" }, { "__mod", "remainder" }, { "__idiv", "div_floor" },
};

// a + b and its like: two operands and no options. (A string that reads as a number is none.)
static int operator_event(lua_State *L) {
  binding_state *state = binding_here(L);
  op_descriptor *op = lua_touserdata(L, lua_upvalueindex(2));
  binding_call call;
  if (arguments_read_tensors(L, op, 1, &call))
    return call_function(L, state, op, 1, &call, op->name);
  for (int i = 1; i <= 2; i++) {
    int type = lua_type(L, i);
    if (type != LUA_TNUMBER && type != LUA_TUSERDATA)
      binding_error(L, "%s: %s must be a tensor or a number, got %s", op->name,
                    op->signature->params[i - 1].name, luaL_typename(L, i));
  }
  return operator_call(L, state, op, false, 1);
}

// Lua gives a unary operator its operand twice; the second must not be read.
static int unary_minus(lua_State *L) {
  binding_state *state = binding_here(L);
  lua_settop(L, 1);
  return operator_call(L, state, lua_touserdata(L, lua_upvalueindex(2)), false, 1);
}

void operators_open(lua_State *L, binding_state *state) {
  int module = lua_gettop(L);
  lua_getfield(L, module, "methods");   // made by convert_open
  int methods = lua_gettop(L);
  for (int i = 0; i < ops_count(); i++) add_operator(L, state, ops_at(i), module, methods);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->tensor_metatable);
  for (size_t i = 0; i < sizeof events / sizeof *events; i++)
    add_closure(L, state, ops_find(events[i].op), operator_event, events[i].event, methods + 1);
  add_closure(L, state, ops_find("neg"), unary_minus, "__unm", methods + 1);
  lua_settop(L, module);
  lua_pushcfunction(L, list_operators);
  lua_setfield(L, module, "operators");
}
