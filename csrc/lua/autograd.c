// Autograd in Lua: backward, grad, detach, switching the tape on and off, and parameters whose
// shape is decided later (lazy layers).
#include <string.h>

#include "autograd/autocast.h"
#include "autograd/tape.h"
#include "lua/binding.h"
#include "ops/registry.h"
#include "tensor/shape.h"

// -- options of backward and grad

static const char *const option_names[] = {
  "retain_graph", "create_graph", "allow_unused", "grad_outputs"
};
enum { RETAIN_GRAPH, CREATE_GRAPH, ALLOW_UNUSED, GRAD_OUTPUTS, OPTIONS };

static int option_at(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TSTRING) return -1;
  for (int i = 0; i < OPTIONS; i++)
    if (strcmp(lua_tostring(L, index), option_names[i]) == 0) return i;
  return -1;
}

// Reads a table of options. The value of grad_outputs, or nil, is left on the stack.
static tape_options read_options(lua_State *L, const char *name, int index, bool of_grad) {
  bool given[OPTIONS] = { false }, retain_given = false;
  lua_pushnil(L);
  int outputs = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    int option = option_at(L, -2);
    if (option < 0 || (!of_grad && option > CREATE_GRAPH))
      binding_error(L, "%s: there is no option \"%s\"; the options are %s", name,
                    lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2),
                    of_grad ? "grad_outputs, retain_graph, create_graph, allow_unused"
                            : "retain_graph, create_graph");
    if (option == GRAD_OUTPUTS) {
      lua_pushvalue(L, -1);
      lua_replace(L, outputs);
      continue;
    }
    if (!lua_isboolean(L, -1))
      binding_error(L, "%s: %s must be true or false, got %s", name, option_names[option],
                    luaL_typename(L, -1));
    given[option] = lua_toboolean(L, -1);
    if (option == RETAIN_GRAPH) retain_given = true;
  }
  return (tape_options){ .retain = retain_given ? given[RETAIN_GRAPH] : given[CREATE_GRAPH],
                         .create_graph = given[CREATE_GRAPH],
                         .allow_unused = given[ALLOW_UNUSED] };
}

// x:backward(gradient?, {retain_graph = create_graph, create_graph = false})
static int tensor_backward(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *root = tensor_check(L, 1, "backward", "loss"), *gradient = tensor_at(L, 2);
  tape_options given = { 0 };
  int options = gradient ? 3 : 2;
  if (!gradient && lua_isnil(L, 2)) options = 3;
  if (lua_istable(L, options)) {
    given = read_options(L, "backward", options, false);
  } else if (!lua_isnoneornil(L, options)) {
    binding_error(L, "backward: expected a gradient or {retain_graph = true}, got %s",
                  luaL_typename(L, options));
  }
  int before = carry_walk_open(L, state, 1, lua_gettop(L), given.create_graph);
  moon_status status = tape_backward(state->engine, root, gradient, &given);
  carry_walk_close(L, state, before);
  binding_check(L, status);
  binding_collect_if_due(L, state);
  return 0;
}

// -- moon.grad

// A tensor, or a list of them; the array lies in a userdata left on the stack, and a table left
// there keeps the tensors alive. `places`: how many there must be, -1: any number but 0;
// then members may also be false, for none.
static moon_tensor **read_list(lua_State *L, int index, const char *argument, int places,
                               int *count) {
  bool one = tensor_at(L, index) != NULL;
  if (!one && !lua_istable(L, index))
    binding_error(L, "grad: %s must be a tensor or a list of tensors, got %s", argument,
                  luaL_typename(L, index));
  *count = one ? 1 : (int)lua_rawlen(L, index);
  if (places < 0 && *count == 0) binding_error(L, "grad: the list of %s is empty", argument);
  if (places >= 0 && *count > places)
    binding_error(L, "grad: there are %d %s for %d outputs", *count, argument, places);
  lua_createtable(L, *count, 0);   // what the walk calls may take tensors out of the list
  int kept = lua_gettop(L);
  moon_tensor **list = lua_newuserdata(L, ((size_t)(places > *count ? places : *count) + 1) *
                                          sizeof *list);
  for (int i = 0; i < places; i++) list[i] = NULL;
  if (one) {
    list[0] = tensor_at(L, index);
    return list;
  }
  for (int i = 0; i < *count; i++) {
    lua_rawgeti(L, index, i + 1);
    list[i] = tensor_at(L, -1);
    bool none = places >= 0 && !lua_toboolean(L, -1);
    if (!list[i] && !none)
      binding_error(L, "grad: member %d of %s must be a tensor, got %s", i + 1, argument,
                    luaL_typename(L, -1));
    lua_rawseti(L, kept, i + 1);
  }
  return list;
}

// moon.grad(outputs, inputs, {grad_outputs =, retain_graph =, create_graph =, allow_unused =})
//   -> the gradient, or a list of them where inputs is a list
static int grad(lua_State *L) {
  binding_state *state = binding_here(L);
  tape_options options = { 0 };
  int outputs, inputs, given;
  lua_settop(L, 3);
  if (lua_istable(L, 3)) {
    options = read_options(L, "grad", 3, true);
  } else {
    if (!lua_isnil(L, 3))
      binding_error(L, "grad: expected a table of options, got %s", luaL_typename(L, 3));
    lua_pushnil(L);
  }
  bool listed = !tensor_at(L, 2);
  luaL_checkstack(L, 8, "no room for gradients");
  moon_tensor **from = read_list(L, 1, "outputs", -1, &outputs);
  moon_tensor **to = read_list(L, 2, "inputs", -1, &inputs);
  if (lua_isnil(L, 4)) {
    lua_newtable(L);
    lua_replace(L, 4);
  }
  moon_tensor **seeds = read_list(L, 4, "grad_outputs", outputs, &given);
  moon_tensor **grads = lua_newuserdata(L, (size_t)inputs * sizeof *grads);
  lua_createtable(L, inputs, 0);
  int results = lua_gettop(L);
  for (int i = 0; i < inputs; i++) {   // handles first: a gradient is owned once it exists
    handle_push(L, state);
    lua_rawseti(L, results, i + 1);
  }
  int before = carry_walk_open(L, state, 1, 4, options.create_graph);
  moon_status status =
      tape_grad(state->engine, outputs, from, seeds, inputs, to, &options, grads);
  carry_walk_push(L, state);
  int carrier = lua_gettop(L);
  carry_walk_close(L, state, before);
  binding_check(L, status);
  for (int i = 0; i < inputs; i++) {
    lua_rawgeti(L, results, i + 1);
    if (grads[i]) handle_fill(handle_at(L, -1), grads[i]);
    if (grads[i] && options.create_graph) {
      lua_pushvalue(L, carrier);
      carry_set(L, carrier + 1);
    }
    lua_pop(L, 1);
    if (grads[i]) continue;
    lua_pushnil(L);
    lua_rawseti(L, results, i + 1);
  }
  binding_collect_if_due(L, state);
  if (listed) lua_pushvalue(L, results);
  else lua_rawgeti(L, results, 1);
  return 1;
}

// x:retain_grad() -> x: x.grad is then kept, though x is no leaf
static int retain_grad(lua_State *L) {
  moon_tensor *t = tensor_check(L, 1, "retain_grad", "x");
  moon_status status = tape_retain_grad(t);
  if (status != MOON_OK) binding_check(L, moon_fail_in(status, "retain_grad: "));
  lua_settop(L, 1);
  return 1;
}

// x:detach(): the same memory without history
static int tensor_detach(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *t = tensor_check(L, 1, "detach", "x"), *alias;
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, tensor_alias(t, &alias));
  handle_fill(handle, alias);
  return 1;
}

// x:requires_grad_(on = true) -> x
static int set_requires_grad(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *t = tensor_check(L, 1, "requires_grad_", "x");
  bool on = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
  binding_check(L, tape_set_requires_grad(state->engine, t, on));
  lua_settop(L, 1);
  return 1;
}

static int call_with(lua_State *L, bool enabled) {
  binding_state *state = binding_here(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  bool before = state->engine->grad_enabled;
  state->engine->grad_enabled = enabled;
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  if (state->engine) state->engine->grad_enabled = before;
  return failed ? lua_error(L) : lua_gettop(L);
}

// moon.no_grad(fn, ...) -> fn's results; nothing inside goes on the tape
static int no_grad(lua_State *L) { return call_with(L, false); }
// moon.enable_grad(fn, ...): the reverse, inside no_grad
static int enable_grad(lua_State *L) { return call_with(L, true); }

// Calls the function at index 1 with what follows it; gives how many results.
static int call_cast(lua_State *L, moon_dtype dtype) {
  binding_state *state = binding_here(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const op_autocast *before = state->engine->autocast;
  op_autocast cast = { .cast = ops_find("cast"), .dtype = dtype };
  state->engine->autocast = &cast;
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  if (state->engine) state->engine->autocast = before;
  return failed ? lua_error(L) : lua_gettop(L);
}

// moon.autocast(fn, ...) -> fn's results, calculated in mixed precision: products and convolutions
// in bfloat16, losses and softmax in float32. Parameters and their gradients stay float32. The
// backward pass belongs outside.
static int autocast(lua_State *L) { return call_cast(L, MOON_BF16); }

// core.autocast_in(dtype, fn, ...): the same in "bfloat16" or "float16"
static int autocast_in(lua_State *L) {
  moon_dtype dtype;
  const char *name = luaL_checkstring(L, 1);
  if (!dtype_by_name(name, &dtype) || !dtype_is_half(dtype))
    binding_error(L, "autocast: the low type is \"bfloat16\" or \"float16\", got \"%s\"", name);
  lua_remove(L, 1);
  return call_cast(L, dtype);
}

enum { ANOMALY = OBSERVE_FINITE | OBSERVE_RESULTS };

static int call_watched(lua_State *L) {
  binding_state *state = binding_here(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  unsigned before = state->engine->observers & ANOMALY;
  state->engine->observers |= ANOMALY;
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  if (state->engine)   // others may have begun or ceased to observe meanwhile
    state->engine->observers = (state->engine->observers & ~(unsigned)ANOMALY) | before;
  return failed ? lua_error(L) : lua_gettop(L);
}

// moon.anomaly(on?) -> whether the mode is on; moon.anomaly(fn, ...) -> fn's results, with it on
static int anomaly(lua_State *L) {
  binding_state *state = binding_here(L);
  if (lua_isfunction(L, 1)) return call_watched(L);
  if (!lua_isnoneornil(L, 1)) {
    if (!lua_isboolean(L, 1))
      binding_error(L, "anomaly: expected true, false or a function, got %s", luaL_typename(L, 1));
    if (lua_toboolean(L, 1)) state->engine->observers |= ANOMALY;
    else state->engine->observers &= ~(unsigned)ANOMALY;
  }
  lua_pushboolean(L, state->engine->observers & OBSERVE_FINITE);
  return 1;
}

static int is_grad_enabled(lua_State *L) {
  lua_pushboolean(L, binding_here(L)->engine->grad_enabled);
  return 1;
}

// moon.lazy_tensor(): a parameter that gets its shape in materialize_
static int lazy_tensor(lua_State *L) {
  handle_push(L, binding_here(L))->lazy = true;
  return 1;
}

static int is_lazy(lua_State *L) {
  tensor_handle *handle = handle_at(L, 1);
  lua_pushboolean(L, handle && handle->lazy);
  return 1;
}

// moon.materialize_(lazy, shape, dtype = "float32") -> the same object, of zeros, requiring a
// gradient
static int materialize(lua_State *L) {
  binding_state *state = binding_here(L);
  tensor_handle *handle = handle_at(L, 1);
  int64_t shape[MOON_MAX_DIMS];
  moon_tensor *tensor;
  if (!handle || !handle->lazy)
    binding_error(L, "materialize_: expected a tensor made by lazy_tensor, got %s",
                  handle ? "one that has its shape" : luaL_typename(L, 1));
  luaL_checktype(L, 2, LUA_TTABLE);
  int ndim = binding_read_shape(L, 2, 2, "materialize_", shape);
  moon_dtype dtype = lua_isnoneornil(L, 3) ? MOON_F32 : binding_read_dtype(L, 3, "materialize_");
  tensor_handle *owner = handle_push(L, state);
  binding_check(L, tensor_new(state->engine, device_default(state->engine), dtype, ndim, shape,
                              &tensor));
  handle_fill(owner, tensor);
  device_array zeros = tensor_array(tensor);
  binding_check(L, tensor_kernels(tensor)->fill(state->engine, 0, &zeros));
  binding_check(L, tape_set_requires_grad(state->engine, tensor, true));
  owner->tensor = NULL;
  handle->tensor = tensor;
  handle->lazy = false;
  lua_settop(L, 1);
  return 1;
}

static const luaL_Reg functions[] = {
  { "grad", grad },
  { "no_grad", no_grad }, { "enable_grad", enable_grad }, { "is_grad_enabled", is_grad_enabled },
  { "autocast", autocast }, { "autocast_in", autocast_in }, { "anomaly", anomaly },
  { "detect_anomaly", call_watched },
  { "lazy_tensor", lazy_tensor }, { "is_lazy", is_lazy }, { "materialize_", materialize },
  { NULL, NULL },
};

static const luaL_Reg methods[] = {
  { "backward", tensor_backward }, { "detach", tensor_detach },
  { "requires_grad_", set_requires_grad }, { "retain_grad", retain_grad }, { NULL, NULL },
};

void autograd_open(lua_State *L, binding_state *state) {
  binding_functions(L, state, functions);
  lua_getfield(L, -1, "methods");
  binding_functions(L, state, methods);
  lua_pop(L, 1);
}
