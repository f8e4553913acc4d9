// Memory in Lua: figures, the budget, the size of workspaces, scopes and keep.
#include "base/alloc.h"
#include "base/os.h"
#include "lua/binding.h"

// moon.memory() -> {live, peak, budget, since_collect: of this state; cached: of the process},
// bytes
static int memory_figures(lua_State *L) {
  engine_memory *memory = &binding_here(L)->engine->memory;
  lua_newtable(L);
  binding_set_int64(L, "live", atomic_load(&memory->live));
  binding_set_int64(L, "peak", atomic_load(&memory->peak));
  binding_set_int64(L, "since_collect", atomic_load(&memory->since_collect));
  binding_set_int64(L, "budget", memory->budget);
  binding_set_int64(L, "cached", (int64_t)alloc_cached_bytes());
  return 1;
}

static int64_t read_bytes(lua_State *L, const char *name) {
  int64_t bytes;
  if (!binding_to_int64(L, 1, &bytes) || bytes < 0)
    binding_error(L, "%s: bytes must be a whole number from 0, got %s", name,
                  lua_type(L, 1) == LUA_TNUMBER ? lua_tostring(L, 1) : luaL_typename(L, 1));
  return bytes;
}

// moon.set_memory_budget(bytes): what this state's tensors may hold together
static int set_budget(lua_State *L) {
  binding_state *state = binding_here(L);
  state->engine->memory.budget = read_bytes(L, "set_memory_budget");
  return 0;
}

// moon.workspace_limit(bytes?) -> bytes of scratch that one kernel should stay within
static int workspace_limit(lua_State *L) {
  binding_state *state = binding_here(L);
  if (!lua_isnoneornil(L, 1)) state->engine->workspace_limit = read_bytes(L, "workspace_limit");
  binding_push_int64(L, state->engine->workspace_limit);
  return 1;
}

// moon.collect(): collects garbage and gives cached memory back to the system
static int collect(lua_State *L) {
  binding_state *state = binding_here(L);
  binding_collect(L, state);
  alloc_flush_cache();
  binding_collect_if_due(L, state);   // closes what that collection may have finalised
  return 0;
}

// core.collect_spent(): after a piece of work whose tensors are garbage by now, as checkpoints
// know: collects sooner than others would, as long as that takes less than half of the time
static int collect_spent(lua_State *L) {
  binding_state *state = binding_here(L);
  engine_memory *memory = &state->engine->memory;
  int64_t since = atomic_load_explicit(&memory->since_collect, memory_order_relaxed);
  int64_t limit = memory->survived / 16 > (4 << 20) ? memory->survived / 16 : 4 << 20;
  if (since >= limit && !binding_collected_lately(state, 1)) binding_collect(L, state);
  return 0;
}

// moon.keep(t) -> t: scopes pass it on from now on
static int keep(lua_State *L) {
  tensor_handle *handle = handle_at(L, 1);
  if (!handle) binding_error(L, "keep: expected a tensor, got %s", luaL_typename(L, 1));
  tensor_at(L, 1);
  handle->keep = true;
  lua_settop(L, 1);
  return 1;
}

// moon.resident() -> resident size of the process in bytes
static int resident(lua_State *L) {
  lua_pushnumber(L, (lua_Number)os_resident_bytes());
  return 1;
}

// moon.fail_allocation(n): for specs: the n-th native allocation from now on fails; 0 = none
static int fail_allocation(lua_State *L) {
  alloc_fail_after((long)luaL_checkinteger(L, 1));
  return 0;
}

static const luaL_Reg functions[] = {
  { "memory", memory_figures }, { "set_memory_budget", set_budget }, { "collect", collect },
  { "workspace_limit", workspace_limit }, { "collect_spent", collect_spent },
  { "scope", scope_run }, { "keep", keep }, { "resident", resident },
  { "fail_allocation", fail_allocation }, { NULL, NULL },
};

void memory_open(lua_State *L, binding_state *state) { binding_functions(L, state, functions); }
