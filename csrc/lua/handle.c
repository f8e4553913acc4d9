// Tensor handles: the userdata Lua holds, and the rings that scopes keep of them.
#include "lua/binding.h"
#include "ops/support.h"

#include <string.h>

#include "autograd/tape.h"

const char binding_magic = 0;

static void ring_remove(tensor_handle *handle) {
  if (!handle->next) return;
  handle->previous->next = handle->next;
  handle->next->previous = handle->previous;
  handle->next = NULL;
  handle->released_at = NULL;
}

static void ring_add(tensor_handle *head, tensor_handle *handle) {
  handle->next = head->next;
  handle->previous = head;
  head->next->previous = handle;
  head->next = handle;
}

tensor_handle *handle_push(lua_State *L, binding_state *state) {
  tensor_handle *handle = lua_newuserdata(L, sizeof *handle);
  *handle = (tensor_handle){ .magic = &binding_magic };
  if (state->scope) ring_add(&state->scope->list, handle);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->tensor_metatable);
  lua_setmetatable(L, -2);
  return handle;
}

void handle_fill(tensor_handle *handle, moon_tensor *tensor) { handle->tensor = tensor; }

void tensor_push(lua_State *L, binding_state *state, moon_tensor *tensor) {
  handle_push(L, state)->tensor = tensor;
}

// Light userdata has no length, and the length of a number, which makes it a string, is not asked.
tensor_handle *handle_at(lua_State *L, int index) {
  tensor_handle *handle = lua_touserdata(L, index);
  if (!handle || lua_rawlen(L, index) != sizeof *handle) return NULL;
  return handle->magic == &binding_magic ? handle : NULL;
}

moon_tensor *tensor_at(lua_State *L, int index) {
  tensor_handle *handle = handle_at(L, index);
  if (!handle) return NULL;
  if (handle->tensor) return handle->tensor;
  if (handle->lazy)
    binding_error(L, "this parameter has no shape yet: its layer decides it in its first forward");
  binding_error(L, "this tensor was released by moon.scope at %s; return it from the scope's "
             "function or mark it with moon.keep", handle->released_at ? handle->released_at : "?");
  return NULL;
}

moon_tensor *tensor_check(lua_State *L, int index, const char *name, const char *argument) {
  moon_tensor *tensor = tensor_at(L, index);
  if (tensor) return tensor;
  if (lua_isnoneornil(L, index))
    binding_error(L, "%s: %s must be a tensor, got nothing; a method is called with a colon, "
                  "x:%s(...)",
                  name, argument, name);
  binding_error(L, "%s: %s must be a tensor, got %s", name, argument, luaL_typename(L, index));
  return NULL;
}

void binding_need_host(lua_State *L, const char *name, const moon_tensor *tensor) {
  if (tensor_device(tensor)->on_host) return;
  binding_error(L, "%s: this tensor is on the device \"%s\", where the host reads no elements%s",
                name, tensor_device(tensor)->name,
                tensor_device(tensor) == device_meta() ? ": it has a shape alone" : "");
}

moon_tensor *binding_on_host(lua_State *L, const char *name, moon_tensor *tensor) {
  moon_tensor *copy;
  if (tensor_device(tensor)->on_host) return tensor;
  if (tensor_device(tensor) == device_meta()) binding_need_host(L, name, tensor);
  binding_state *state = binding_of(L);
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, ops_to_device(state->engine, tensor, device_cpu(), &copy));
  handle_fill(handle, copy);
  return copy;
}

void binding_push_value(lua_State *L, moon_dtype dtype, const void *element) {
  if (dtype == MOON_BOOL) lua_pushboolean(L, dtype_load_int(dtype, element) != 0);
  else if (dtype_is_float(dtype)) lua_pushnumber(L, dtype_load(dtype, element));
  else binding_push_int64(L, dtype_load_int(dtype, element));
}

void binding_push_element(lua_State *L, const char *name, const moon_tensor *tensor,
                          int64_t offset) {
  const moon_device *device = tensor_device(tensor);
  size_t size = dtype_size(tensor->dtype);
  const char *element = (const char *)tensor->storage->data + offset * (int64_t)size;
  uint64_t copy;
  if (!device->on_host) {
    if (device == device_meta()) binding_need_host(L, name, tensor);
    binding_check(L, device->to_host(tensor->storage->engine, element, &copy, size));
    element = (const char *)&copy;
  }
  binding_push_value(L, tensor->dtype, element);
}

static int handle_collect(lua_State *L) {
  tensor_handle *handle = handle_at(L, 1);
  if (!handle) return 0;
  ring_remove(handle);
  tensor_release(handle->tensor);
  handle->tensor = NULL;
  return 0;
}

void handle_open(lua_State *L, binding_state *state) {
  lua_newtable(L);
  state->scope_positions = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  lua_pushcfunction(L, handle_collect);
  lua_setfield(L, -2, "__gc");
  lua_pushliteral(L, "moonlet.Tensor");
  lua_setfield(L, -2, "__name");
  lua_pushboolean(L, 0);   // getmetatable gives false: scripts cannot take it apart
  lua_setfield(L, -2, "__metatable");
  state->tensor_metatable = luaL_ref(L, LUA_REGISTRYINDEX);   // last: it says that all is there
}

// -- scopes

// Notes a table that may hold tensors, once, at the end of the queue.
static void enqueue(lua_State *L, int value, int queue) {
  lua_pushvalue(L, value);
  lua_rawget(L, queue);
  bool known = lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (known) return;
  lua_pushvalue(L, value);
  lua_pushboolean(L, 1);
  lua_rawset(L, queue);
  lua_pushvalue(L, value);
  lua_rawseti(L, queue, (int)lua_rawlen(L, queue) + 1);
}

static void mark_value(lua_State *L, int value, unsigned serial, int queue) {
  tensor_handle *handle = handle_at(L, value);
  if (handle) handle->mark = serial;
  else if (lua_type(L, value) == LUA_TTABLE) enqueue(L, value, queue);
}

// Marks every tensor among stack values 1..count and in tables reached from them.
static void mark_results(lua_State *L, int count) {
  luaL_checkstack(L, 8, "too many results of a scope");
  lua_newtable(L);
  int queue = count + 1;
  unsigned serial = binding_of(L)->scope->serial;
  for (int i = 1; i <= count; i++) mark_value(L, i, serial, queue);
  for (int done = 1; done <= (int)lua_rawlen(L, queue); done++) {
    lua_rawgeti(L, queue, done);
    for (lua_pushnil(L); lua_next(L, queue + 1); lua_pop(L, 1)) {
      mark_value(L, queue + 2, serial, queue);
      mark_value(L, queue + 3, serial, queue);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static bool survives(const tensor_handle *handle, const binding_scope *scope) {
  const moon_tensor *t = handle->tensor;
  bool parameter = t && tape_requires_grad(t) && tape_is_leaf(t);
  return handle->mark == scope->serial || handle->keep || handle->lazy || parameter;
}

// Gives survivors to the outer scope and releases the rest. Allocates nothing, cannot fail.
static void scope_close(binding_state *state, binding_scope *scope) {
  state->scope = scope->outer;
  while (scope->list.next != &scope->list) {
    tensor_handle *handle = scope->list.next;
    ring_remove(handle);
    if (survives(handle, scope)) {
      if (state->scope) ring_add(&state->scope->list, handle);
      continue;
    }
    handle->released_at = scope->where;
    tensor_release(handle->tensor);
    handle->tensor = NULL;
  }
}

// "file:line" of the scope's caller, in a string that lives as long as the Lua state.
static const char *scope_position(lua_State *L, const binding_state *state) {
  size_t length;
  luaL_where(L, 1);
  const char *where = lua_tolstring(L, -1, &length);
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->scope_positions);
  lua_pushlstring(L, where, length >= 2 ? length - 2 : 0);   // without ": "
  where = lua_tostring(L, -1);
  lua_pushvalue(L, -1);
  lua_rawset(L, -3);
  lua_pop(L, 2);
  return where;
}

// The scope's function, its results marked: all that may raise, in one protected call.
static int scope_body(lua_State *L) {
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  mark_results(L, lua_gettop(L));
  return lua_gettop(L);
}

int scope_run(lua_State *L) {
  binding_state *state = binding_here(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  binding_scope scope = { .outer = state->scope, .serial = ++state->scopes };
  scope.list.next = scope.list.previous = &scope.list;
  scope.where = scope_position(L, state);
  lua_pushcfunction(L, scope_body);
  lua_insert(L, 1);
  state->scope = &scope;
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  scope_close(state, &scope);
  return failed ? lua_error(L) : lua_gettop(L);
}
