// The CUDA plug-in in Lua: naming its file and CUDA's folders, what was found, memory, waiting,
// points in time, ranges of the profiler's, graphs. lua/moonlet/cuda.lua makes moon.cuda of it.
#include "device/cuda.h"

#include "lua/binding.h"

// Their addresses name the metatables of userdata.
static const char event_key = 0, graph_key = 0;

typedef struct event_box { cuda_event *event; } event_box;

static const cuda_plugin *plugin_of(lua_State *L) {
  const cuda_plugin *plugin;
  binding_check(L, cuda_open(&plugin));
  return plugin;
}

// The device's number at stack index `at`, 0 if none is given.
static int device_at(lua_State *L, const cuda_plugin *plugin, int at, const char *name) {
  int64_t index = 0;
  if (lua_isnoneornil(L, at)) return 0;
  if (!binding_to_int64(L, at, &index) || index < 0 || index >= plugin->devices)
    binding_error(L, "%s: the device must be a number from 0 to %d", name, plugin->devices - 1);
  return (int)index;
}

// core.cuda_look_at(file, "last"?): a place of the plug-in, before the others unless it says so
static int look_at(lua_State *L) {
  binding_check(L, cuda_look_at(luaL_checkstring(L, 1), !lua_isnoneornil(L, 2)));
  return 0;
}

// core.cuda_look_in(folder): a place of CUDA's libraries
static int look_in(lua_State *L) {
  binding_check(L, cuda_look_in(luaL_checkstring(L, 1)));
  return 0;
}

static void push_libraries(lua_State *L) {
  const cuda_library_state *found = cuda_found();
  lua_newtable(L);
  for (int i = 0, n = 0; i < CUDA_LIBRARIES; i++) {
    if (!found[i].name) continue;
    lua_newtable(L);
    binding_set_text(L, "name", found[i].name);
    binding_set_number(L, "version", found[i].version);
    if (found[i].missing) binding_set_text(L, "missing", found[i].missing);
    lua_rawseti(L, -2, ++n);
  }
}

static void push_device(lua_State *L, const cuda_plugin *plugin, int index) {
  cuda_description d;
  binding_check(L, plugin->describe(index, &d));
  lua_newtable(L);
  binding_set_text(L, "name", d.name);
  binding_set_number(L, "major", d.major);
  binding_set_number(L, "minor", d.minor);
  binding_set_number(L, "processors", d.processors);
  binding_set_int64(L, "memory", d.memory);
  binding_set_int64(L, "memory_free", d.memory_free);
}

// core.cuda_count() -> how many devices there are; where CUDA cannot be used 0, and why
static int count(lua_State *L) {
  const cuda_plugin *plugin;
  bool available = cuda_open(&plugin) == MOON_OK;
  lua_pushnumber(L, available ? plugin->devices : 0);
  if (available) return 1;
  lua_pushstring(L, moon_error_text());
  return 2;
}

// core.cuda_info() -> { available, reason, libraries = {...}, devices = {...} }
static int info(lua_State *L) {
  const cuda_plugin *plugin;
  bool available = cuda_open(&plugin) == MOON_OK;
  lua_newtable(L);
  binding_set_boolean(L, "available", available);
  if (!available) binding_set_text(L, "reason", moon_error_text());
  push_libraries(L);
  lua_setfield(L, -2, "libraries");
  lua_newtable(L);
  for (int i = 0; available && i < plugin->devices; i++) {
    push_device(L, plugin, i);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "devices");
  return 1;
}

// core.cuda_synchronize(device?)
static int synchronize(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  const cuda_plugin *plugin = plugin_of(L);
  binding_check(L, plugin->synchronize(engine, device_at(L, plugin, 1, "synchronize")));
  return 0;
}

// core.cuda_memory(device?) -> { live, peak, cached, limit, allocations }
static int memory(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  const cuda_plugin *plugin = plugin_of(L);
  cuda_memory m;
  binding_check(L, plugin->memory(engine, device_at(L, plugin, 1, "memory"), &m));
  lua_newtable(L);
  binding_set_int64(L, "live", m.live);
  binding_set_int64(L, "peak", m.peak);
  binding_set_int64(L, "cached", m.cached);
  binding_set_int64(L, "limit", m.limit);
  binding_set_int64(L, "allocations", m.allocations);
  return 1;
}

// core.cuda_memory_limit(bytes, device?): 0 for none
static int memory_limit(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  const cuda_plugin *plugin = plugin_of(L);
  int64_t bytes;
  if (!binding_to_int64(L, 1, &bytes) || bytes < 0)
    binding_error(L, "memory_limit: bytes must be a whole number from 0");
  binding_check(L, plugin->set_limit(engine, device_at(L, plugin, 2, "memory_limit"), bytes));
  return 0;
}

// core.cuda_empty_cache(device?)
static int empty_cache(lua_State *L) {
  binding_state *state = binding_here(L);
  const cuda_plugin *plugin = plugin_of(L);
  int device = device_at(L, plugin, 1, "empty_cache");
  binding_collect(L, state);
  binding_check(L, plugin->empty_cache(state->engine, device));
  return 0;
}

// core.cuda_flag("debug" | "benchmark" | "tf32", on?) -> whether it is on
static int flag(lua_State *L) {
  static const char *const names[] = { [CUDA_DEBUG] = "debug", [CUDA_BENCHMARK] = "benchmark",
                                       [CUDA_TF32] = "tf32", [CUDA_FLAGS] = NULL };
  moon_engine *engine = binding_here(L)->engine;
  cuda_flag which = (cuda_flag)luaL_checkoption(L, 1, NULL, names);
  bool on = lua_toboolean(L, 2), now;
  binding_check(L, plugin_of(L)->flag(engine, which, lua_isnoneornil(L, 2) ? NULL : &on, &now));
  lua_pushboolean(L, now);
  return 1;
}

// -- ranges

// core.cuda_range(name, fn, ...) -> fn's results; a range of the profiler's round the call
static int range(lua_State *L) {
  const cuda_plugin *plugin = plugin_of(L);
  const char *name = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  plugin->range(name);
  int failed = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
  plugin->range(NULL);
  return failed ? lua_error(L) : lua_gettop(L) - 1;
}

// core.cuda_ranges(on?) -> whether each operator is a range
static int ranges(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  engine->range = plugin_of(L)->range;
  if (!lua_isnoneornil(L, 1)) {
    engine->observers &= ~(unsigned)OBSERVE_RANGES;
    if (lua_toboolean(L, 1)) engine->observers |= OBSERVE_RANGES;
  }
  lua_pushboolean(L, engine->observers & OBSERVE_RANGES);
  return 1;
}

// core.cuda_keep_choices(file, what is in it now, device?)
static int keep_choices(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  const cuda_plugin *plugin = plugin_of(L);
  const char *path = luaL_checkstring(L, 1), *text = luaL_checkstring(L, 2);
  int device = device_at(L, plugin, 3, "benchmark");
  binding_check(L, plugin->keep_choices(engine, device, path, text));
  return 0;
}

// -- userdata of this file's own

static void set_metatable(lua_State *L, const char *key) {
  lua_pushlightuserdata(L, (void *)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  lua_setmetatable(L, -2);
}

// The userdata at an index if its metatable is that of `key`, else NULL.
static void *box_at(lua_State *L, int index, const char *key) {
  void *box = lua_touserdata(L, index);
  if (!box || !lua_getmetatable(L, index)) return NULL;
  lua_pushlightuserdata(L, (void *)key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  bool right = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return right ? box : NULL;
}

// -- events

static int event_gc(lua_State *L) {
  event_box *box = lua_touserdata(L, 1);
  const cuda_plugin *plugin;
  if (box->event && cuda_open(&plugin) == MOON_OK) plugin->forget(box->event);
  box->event = NULL;
  return 0;
}

// core.cuda_mark(device?) -> a point in the device's work
static int mark(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  const cuda_plugin *plugin = plugin_of(L);
  int device = device_at(L, plugin, 1, "timer");
  event_box *box = lua_newuserdata(L, sizeof *box);
  box->event = NULL;
  set_metatable(L, &event_key);
  binding_check(L, plugin->mark(engine, device, &box->event));
  return 1;
}

static cuda_event *event_at(lua_State *L, int index) {
  event_box *box = box_at(L, index, &event_key);
  if (!box || !box->event) binding_error(L, "timer: expected what timer gave");
  return box->event;
}

// core.cuda_between(from, to) -> seconds
static int between(lua_State *L) {
  double seconds;
  (void)binding_here(L);
  cuda_event *from = event_at(L, 1), *to = event_at(L, 2);
  binding_check(L, plugin_of(L)->between(from, to, &seconds));
  lua_pushnumber(L, (lua_Number)seconds);
  return 1;
}

// -- graphs

typedef struct graph_box { cuda_graph *graph; } graph_box;

static int graph_gc(lua_State *L) {
  graph_box *box = lua_touserdata(L, 1);
  const cuda_plugin *plugin;
  if (box->graph && cuda_open(&plugin) == MOON_OK) plugin->graph_remove(box->graph);
  box->graph = NULL;
  return 0;
}

// core.cuda_graph_begin(device?) -> a graph; what follows is recorded, not run
static int graph_begin(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  const cuda_plugin *plugin = plugin_of(L);
  int device = device_at(L, plugin, 1, "graph");
  graph_box *box = lua_newuserdata(L, sizeof *box);
  box->graph = NULL;
  set_metatable(L, &graph_key);
  binding_check(L, plugin->graph_begin(engine, device, &box->graph));
  return 1;
}

static cuda_graph *graph_at(lua_State *L, int index) {
  (void)binding_here(L);
  graph_box *box = box_at(L, index, &graph_key);
  if (!box || !box->graph) binding_error(L, "graph: expected what cuda_graph_begin gave");
  return box->graph;
}

// core.cuda_graph_end(graph)
static int graph_end(lua_State *L) {
  cuda_graph *graph = graph_at(L, 1);
  binding_check(L, plugin_of(L)->graph_end(graph));
  return 0;
}

static int graph_abort(lua_State *L) {
  cuda_graph *graph = graph_at(L, 1);
  plugin_of(L)->graph_abort(graph);
  return 0;
}

// core.cuda_graph_unless(graph, found, fn): optimiser steps that fn makes are left out of runs in
// which `found`, a float32 on the device, is not 0
static int graph_unless(lua_State *L) {
  cuda_graph *graph = graph_at(L, 1);
  const cuda_plugin *plugin = plugin_of(L);
  const moon_tensor *found = tensor_check(L, 2, "cuda_graph_unless", "found");
  if (tensor_device(found)->on_host || found->dtype != MOON_F32 || tensor_count(found) != 1)
    binding_error(L, "cuda_graph_unless: found must be one float32 on the device");
  lua_settop(L, 3);
  binding_check(L, plugin->graph_unless(graph, tensor_data(found)));
  int failed = lua_pcall(L, 0, 0, 0);
  moon_status status = plugin->graph_unless(graph, NULL);
  if (failed) return lua_error(L);
  binding_check(L, status);
  return 0;
}

// core.cuda_graph_refresh(graph, fn, ...): fn makes the optimiser steps of the next run
static int graph_refresh(lua_State *L) {
  cuda_graph *graph = graph_at(L, 1);
  const cuda_plugin *plugin = plugin_of(L);
  binding_check(L, plugin->graph_refresh(graph, true));
  int failed = lua_pcall(L, lua_gettop(L) - 2, 0, 0);
  moon_status status = plugin->graph_refresh(graph, false);
  if (failed) return lua_error(L);
  binding_check(L, status);
  return 0;
}

// core.cuda_graph_run(graph)
static int graph_run(lua_State *L) {
  cuda_graph *graph = graph_at(L, 1);
  binding_check(L, plugin_of(L)->graph_run(graph));
  return 0;
}

static void new_metatable(lua_State *L, const char *key, lua_CFunction gc) {
  lua_pushlightuserdata(L, (void *)key);
  lua_newtable(L);
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void cuda_functions_open(lua_State *L, binding_state *state) {
  static const luaL_Reg functions[] = {
    { "cuda_look_at", look_at }, { "cuda_look_in", look_in }, { "cuda_count", count },
    { "cuda_info", info }, { "cuda_synchronize", synchronize }, { "cuda_memory", memory },
    { "cuda_memory_limit", memory_limit }, { "cuda_empty_cache", empty_cache },
    { "cuda_flag", flag }, { "cuda_keep_choices", keep_choices },
    { "cuda_range", range }, { "cuda_ranges", ranges },
    { "cuda_mark", mark }, { "cuda_between", between },
    { "cuda_graph_begin", graph_begin }, { "cuda_graph_end", graph_end },
    { "cuda_graph_abort", graph_abort }, { "cuda_graph_unless", graph_unless },
    { "cuda_graph_refresh", graph_refresh }, { "cuda_graph_run", graph_run },
    { NULL, NULL }
  };
  binding_functions(L, state, functions);
  new_metatable(L, &event_key, event_gc);
  new_metatable(L, &graph_key, graph_gc);
}
