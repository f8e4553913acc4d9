// Carriers: how Lua values that a tape needs stay alive, and no longer.
//
// A node of the tape that calls Lua in its backward (custom functions, hooks, checkpoints) must
// not hold the Lua function: a function may reach the very tensor whose history holds the node,
// and a circle through C is one that Lua's collector cannot see. So a node knows a number only.
// The value behind it, its payload, is found in a table with weak values, and what holds it is a
// carrier: a plain Lua value that hangs on the tensors from which a backward can reach the node.
// A call's results carry what its arguments carry; where those differ, a table of them. To the
// collector the tensor points to the payload, the payload to whatever its function reaches:
// circles are its daily work. Where nothing carries anything, a call pays one "or" an argument.
#include "autograd/tape.h"
#include "base/os.h"
#include "lua/binding.h"

void carry_open(lua_State *L, binding_state *state) {
  lua_newtable(L);
  lua_newtable(L);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  state->payloads = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushboolean(L, 0);
  state->walk_carrier = luaL_ref(L, LUA_REGISTRYINDEX);
}

uint64_t payload_register(lua_State *L, binding_state *state) {
  uint64_t id = state->payload_ids + 1;
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->payloads);
  lua_pushnumber(L, (lua_Number)id);
  lua_pushvalue(L, -3);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  return state->payload_ids = id;
}

// From 5.2 on Lua's collector counts what waits for a finaliser as alive, and circles through
// userdata with it: each of its cycles starts later than the last, and a graph that is dropped by
// the hundred thousand piles up. So many payloads are a reason to collect, as bytes are: once for
// the finalisers, once for what they held, after which Lua's own pace starts from what is alive.
// It may be half of the time, as it is mostly their own sweeping, and more where they pile up: what
// waits longer for what took longer has more to sweep the next time.
void payload_collect_if_due(lua_State *L, binding_state *state) {
#if LUA_VERSION_NUM >= 502
  enum { MANY = 2048, TOO_MANY = 8 * MANY };
  uint64_t since = state->payload_ids - state->payload_ids_collected;
  if (since < MANY || (since < TOO_MANY && binding_collected_lately(state, 1))) return;
  state->payload_ids_collected = state->payload_ids;
  double started = os_thread_clock();
  binding_collect(L, state);
  binding_collect(L, state);
  state->collect_took = os_thread_clock() - started;
#endif
  binding_collect_if_due(L, state);
}

bool payload_push(lua_State *L, const binding_state *state, uint64_t id) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->payloads);
  lua_pushnumber(L, (lua_Number)id);
  lua_rawget(L, -2);
  lua_remove(L, -2);
  return !lua_isnil(L, -1);
}

// -- the slot of a userdata

void carry_push(lua_State *L, int index) {
  const tensor_handle *handle = handle_at(L, index);
  if (!handle || !handle->carries) {
    lua_pushnil(L);
    return;
  }
#if LUA_VERSION_NUM < 502
  lua_getfenv(L, index);
#else
  lua_getuservalue(L, index);
#endif
}

void carry_set(lua_State *L, int index) {
  tensor_handle *handle = handle_at(L, index);
  if (lua_isnil(L, -1) || !handle) {
    lua_pop(L, 1);
    return;
  }
#if LUA_VERSION_NUM < 502
  lua_setfenv(L, index);
#else
  lua_setuservalue(L, index);
#endif
  handle->carries = true;
}

// -- joining

// Adds what the tensor at `index` carries to the join at `join`: nil, one carrier, or (`many`) a
// table made here whose keys are carriers.
static void join_tensor(lua_State *L, int index, int join, bool *many) {
  const tensor_handle *handle = handle_at(L, index);
  if (!handle || !handle->carries) return;
  carry_push(L, index);
  if (lua_isnil(L, join)) {
    lua_replace(L, join);
    return;
  }
  if (!*many && lua_rawequal(L, -1, join)) {
    lua_pop(L, 1);
    return;
  }
  if (!*many) {
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, join);
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
    lua_replace(L, join);
    *many = true;
  }
  lua_pushboolean(L, 1);
  lua_rawset(L, join);
}

static void join_value(lua_State *L, int index, int join, int depth, bool *many) {
  if (handle_at(L, index)) {
    join_tensor(L, index, join, many);
  } else if (depth > 0 && lua_istable(L, index)) {
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
      join_value(L, lua_gettop(L), join, depth - 1, many);
  }
}

void carry_join(lua_State *L, int first, int last) {
  bool many = false;
  luaL_checkstack(L, 12, "no room to look at arguments");
  lua_pushnil(L);
  int join = lua_gettop(L);
  for (int i = first; i <= last; i++) join_value(L, i, join, 2, &many);
}

static void give(lua_State *L, int index, int carrier) {
  const tensor_handle *handle = handle_at(L, index);
  if (!handle || !handle->tensor || !tape_requires_grad(handle->tensor)) return;
  lua_pushvalue(L, carrier);
  carry_set(L, index);
}

void carry_over(lua_State *L, int first, int last, int result) {
  int top = lua_gettop(L), end = result <= last ? result : top;
  carry_join(L, first, last);
  int carrier = lua_gettop(L);
  for (int i = result; i <= end && !lua_isnil(L, carrier); i++) {
    if (!lua_istable(L, i)) {
      give(L, i, carrier);
      continue;
    }
    int count = (int)lua_rawlen(L, i);
    for (int k = 1; k <= count; k++) {
      lua_rawgeti(L, i, k);
      give(L, lua_gettop(L), carrier);
      lua_pop(L, 1);
    }
  }
  lua_settop(L, top);
}

// -- walks

int carry_walk_open(lua_State *L, binding_state *state, int first, int last, bool graph) {
  luaL_checkstack(L, 4, "no room for a walk");
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->walk_carrier);
  int before = lua_gettop(L);
  carry_join(L, first, last);
  if (!lua_isnil(L, -1) || graph) {
    lua_newtable(L);
    lua_insert(L, -2);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
    } else {
      lua_pushboolean(L, 1);
      lua_rawset(L, -3);
    }
  } else {
    lua_pop(L, 1);
    lua_pushboolean(L, 0);
  }
  lua_rawseti(L, LUA_REGISTRYINDEX, state->walk_carrier);
  return before;
}

void carry_walk_close(lua_State *L, binding_state *state, int before) {
  lua_pushvalue(L, before);
  lua_rawseti(L, LUA_REGISTRYINDEX, state->walk_carrier);
}

void carry_walk_push(lua_State *L, const binding_state *state) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, state->walk_carrier);
  if (lua_istable(L, -1)) return;
  lua_pop(L, 1);
  lua_pushnil(L);
}

void carry_walk_add(lua_State *L, const binding_state *state, int index) {
  const tensor_handle *handle = handle_at(L, index);
  if (!handle || !handle->carries) return;
  carry_walk_push(L, state);
  if (!lua_isnil(L, -1)) {
    carry_push(L, index);
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
  }
  lua_pop(L, 1);
}
