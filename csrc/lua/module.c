// The module moonlet.core: the state behind a lua_State, how errors are raised and when garbage is
// collected.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autograd/profile.h"
#include "base/os.h"
#include "lua/binding.h"
#include "ops/registry.h"

static const char state_key = 0;   // its address is the key in the registry

static void close_if_due(binding_state *state) {
  if (!state->close_due || state->collecting > 0 || !state->engine) return;
  state->engine->collect = NULL;
  profile_drop(state->engine);
  engine_release(state->engine);
  state->engine = NULL;
}

binding_state *binding_here(lua_State *L) {
  binding_state *state = lua_touserdata(L, lua_upvalueindex(1));
  close_if_due(state);
  if (!state->engine) binding_error(L, "moonlet was closed with its Lua state");
  state->running = L;
  return state;
}

binding_state *binding_of(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&state_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  binding_state *state = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return state;
}

void binding_functions(lua_State *L, binding_state *state, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    lua_pushlightuserdata(L, state);
    lua_pushcclosure(L, functions->func, 1);
    lua_setfield(L, -2, functions->name);
  }
}

void binding_set_number(lua_State *L, const char *key, double value) {
  lua_pushnumber(L, (lua_Number)value);
  lua_setfield(L, -2, key);
}

void binding_set_int64(lua_State *L, const char *key, int64_t value) {
  binding_push_int64(L, value);
  lua_setfield(L, -2, key);
}

void binding_set_boolean(lua_State *L, const char *key, bool value) {
  lua_pushboolean(L, value);
  lua_setfield(L, -2, key);
}

void binding_set_text(lua_State *L, const char *key, const char *text) {
  lua_pushstring(L, text);
  lua_setfield(L, -2, key);
}

// The innermost Lua function that is not part of the library: its line is one the user can change.
static bool find_user(lua_State *L, const binding_state *state, int level, lua_Debug *frame) {
  size_t length = state ? strlen(state->library) : 0;
  for (; length > 0 && lua_getstack(L, level, frame); level++) {
    lua_getinfo(L, "Sl", frame);
    if (frame->currentline <= 0) continue;
    if (strncmp(frame->source, state->library, length) != 0) return true;
  }
  return false;
}

// Pushes "file:line: " of it.
static void push_where(lua_State *L) {
  lua_Debug frame;
  if (find_user(L, binding_of(L), 1, &frame))
    lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
  else luaL_where(L, 1);
}

// For engine->where.
static void where_now(void *context, char *text, size_t size) {
  binding_state *state = context;
  lua_Debug frame;
  text[0] = 0;
  if (state->running && find_user(state->running, state, 0, &frame))
    snprintf(text, size, "%s:%d", frame.short_src, frame.currentline);
}

int binding_error(lua_State *L, const char *format, ...) {
  va_list arguments;
  luaL_checkstack(L, 4, "no room for an error");
  push_where(L);
  va_start(arguments, format);
  lua_pushvfstring(L, format, arguments);
  va_end(arguments);
  lua_concat(L, 2);
  return lua_error(L);
}

int binding_raise(lua_State *L) {
  binding_state *state = binding_of(L);
  int thrown = state->thrown;
  state->thrown = 0;
  if (thrown > 0 && thrown <= lua_gettop(L)) {   // Lua code below the core raised it
    lua_pushvalue(L, thrown);
    return lua_error(L);
  }
  return binding_error(L, "%s", moon_error_text());
}

binding_state *binding_of_engine(const moon_engine *engine) { return engine->collect_context; }

// core.set_library(prefix): sources that begin so are the library's own; errors name other lines
static int set_library(lua_State *L) {
  binding_state *state = binding_here(L);
  const char *prefix = luaL_checkstring(L, 1);
  strncpy(state->library, prefix, sizeof state->library - 1);
  return 0;
}

void binding_check(lua_State *L, moon_status status) {
  if (status != MOON_OK) binding_raise(L);
}

int binding_protect(lua_State *L, lua_CFunction call, void *argument) {
#if LUA_VERSION_NUM < 502
  return lua_cpcall(L, call, argument);   // a C function or more stack asks for memory there
#else
  if (!lua_checkstack(L, 2)) return LUA_ERRMEM;
  lua_pushcfunction(L, call);
  lua_pushlightuserdata(L, argument);
  return lua_pcall(L, 1, 0, 0);
#endif
}

// -- collecting

static int collect_protected(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

// A finaliser of somebody else may raise; that must not jump across the core.
void binding_collect(lua_State *L, binding_state *state) {
  double started = os_thread_clock();
  int top = lua_gettop(L);
  int64_t event = profile_open(state->engine, PROFILE_COLLECTION, "");
  state->collecting++;
  (void)binding_protect(L, collect_protected, NULL);
  state->collecting--;
  profile_close(state->engine, event);
  lua_settop(L, top);
  engine_memory *memory = &state->engine->memory;
  atomic_store(&memory->since_collect, 0);
  memory->survived = atomic_load(&memory->live) + atomic_load(&memory->elsewhere);
  state->collect_ended = os_thread_clock();
  state->collect_took = state->collect_ended - started;
}

// By the thread's clock: what other programs do meanwhile must not make a collection seem long. The
// time is below 0 where another thread has taken the state over.
bool binding_collected_lately(const binding_state *state, double times) {
  double passed = os_thread_clock() - state->collect_ended;
  return passed >= 0 && passed < times * state->collect_took;
}

// Lua does not see native bytes, so count them: collect when those made since the last collection
// pass max(64 MiB, one eighth of what survived it). Where collecting is slow (many live tables) it
// waits until it takes under 3 % of the time, but at most for three times the bytes.
void binding_collect_if_due(lua_State *L, binding_state *state) {
  close_if_due(state);
  if (!state->engine) return;
  engine_memory *memory = &state->engine->memory;
  int64_t since = atomic_load_explicit(&memory->since_collect, memory_order_relaxed);
  if (since < (64 << 20)) return;
  int64_t limit = memory->survived / 8 > (64 << 20) ? memory->survived / 8 : 64 << 20;
  if (since < limit) return;
  if (since < 3 * limit && binding_collected_lately(state, 33)) return;
  binding_collect(L, state);
}

static bool collect_at_budget(void *context) {
  binding_state *state = context;
  if (!state->running) return false;
  binding_collect(state->running, state);
  return true;
}

// -- opening and closing

// Where a finaliser collects while its lua_State closes, this one runs inside of that collection,
// and whoever asked for it still uses the engine.
static int state_close(lua_State *L) {
  binding_state *state = lua_touserdata(L, 1);
  state->close_due = true;
  close_if_due(state);
  return 0;
}

// Makes room for the references that this binding keeps in the registry. Lua 5.1 loses values with
// numbers for keys when it runs out of memory while their table grows; so it grows before there are
// any of ours, and luaL_ref finds free places afterwards.
static void reserve_references(lua_State *L) {
  enum { REFERENCES = 16 };
  int references[REFERENCES];
  for (int i = 0; i < REFERENCES; i++) {
    lua_pushboolean(L, 1);
    references[i] = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  for (int i = 0; i < REFERENCES; i++) luaL_unref(L, LUA_REGISTRYINDEX, references[i]);
}

// The state is a userdata of the registry: Lua frees it after the last finaliser has run, so that
// tensors collected while a lua_State closes still find it.
static binding_state *state_open(lua_State *L) {
  reserve_references(L);
  lua_pushlightuserdata(L, (void *)&state_key);
  binding_state *state = lua_newuserdata(L, sizeof *state);
  memset(state, 0, sizeof *state);
  lua_newtable(L);
  lua_pushcfunction(L, state_close);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  binding_check(L, ops_open());
  binding_check(L, engine_new(&state->engine));
  state->running = L;
  state->engine->collect = collect_at_budget;
  state->engine->where = where_now;
  state->engine->collect_context = state;
  lua_rawset(L, LUA_REGISTRYINDEX);
  return state;
}

#if defined(_WIN32)
#define MODULE_EXPORT __declspec(dllexport)
#else
#define MODULE_EXPORT __attribute__((visibility("default")))
#endif

MODULE_EXPORT int luaopen_moonlet_core(lua_State *L);
int luaopen_moonlet_core(lua_State *L) {
  binding_state *state = binding_of(L);
  if (!state) state = state_open(L);
  if (state->payloads == 0) carry_open(L, state);
  if (state->tensor_metatable == 0) handle_open(L, state);   // also when memory ran out last time
  lua_newtable(L);
  lua_pushlightuserdata(L, state);
  lua_pushcclosure(L, set_library, 1);
  lua_setfield(L, -2, "set_library");
  convert_open(L, state);
  autograd_open(L, state);
  function_open(L, state);
  graph_open(L, state);
  memory_open(L, state);
  profiles_open(L, state);
  settings_open(L, state);
  cuda_functions_open(L, state);
  conv_engines_open(L, state);
  files_open(L, state);
  image_open(L, state);
  worker_open(L, state);
  operators_open(L, state);
  return 1;
}
