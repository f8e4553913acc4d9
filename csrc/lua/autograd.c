// Autograd in Lua: backward, detach, switching the tape on and off, and parameters whose shape is
// decided later (lazy layers).
#include "autograd/tape.h"
#include "lua/binding.h"
#include "tensor/shape.h"

// x:backward(gradient?, {retain_graph = false})
static int tensor_backward(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *root = tensor_check(L, 1, "backward", "loss"), *gradient = tensor_at(L, 2);
  int options = gradient ? 3 : 2;
  bool retain = false;
  if (!gradient && lua_isnil(L, 2)) options = 3;
  if (lua_istable(L, options)) {
    for (lua_pushnil(L); lua_next(L, options); lua_pop(L, 1)) {
      lua_pushvalue(L, -2);
      lua_pushliteral(L, "retain_graph");
      if (!lua_rawequal(L, -1, -2))
        binding_error(L, "backward: there is no option \"%s\"; the options are retain_graph",
                      lua_tostring(L, -2));
      lua_pop(L, 2);
      retain = lua_toboolean(L, -1);
    }
  } else if (!lua_isnoneornil(L, options)) {
    binding_error(L, "backward: expected a gradient or {retain_graph = true}, got %s",
                  luaL_typename(L, options));
  }
  binding_check(L, tape_backward(state->engine, root, gradient, retain));
  binding_collect_if_due(L, state);
  return 0;
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
  binding_check(L, tensor_new(state->engine, device_cpu(), dtype, ndim, shape, &tensor));
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
  { "no_grad", no_grad }, { "enable_grad", enable_grad }, { "is_grad_enabled", is_grad_enabled },
  { "lazy_tensor", lazy_tensor }, { "is_lazy", is_lazy }, { "materialize_", materialize },
  { NULL, NULL },
};

static const luaL_Reg methods[] = {
  { "backward", tensor_backward }, { "detach", tensor_detach },
  { "requires_grad_", set_requires_grad }, { NULL, NULL },
};

void autograd_open(lua_State *L, binding_state *state) {
  binding_functions(L, state, functions);
  lua_getfield(L, -1, "methods");
  binding_functions(L, state, methods);
  lua_pop(L, 1);
}
