// Profiles in Lua: their beginning, their end with the list of events, and the calls of modules,
// which lua/moonlet/profile/calls.lua tells of.
#include "autograd/profile.h"

#include <stdio.h>
#include <string.h>

#include "lua/binding.h"

static bool is_suspended(const void *thread) {
  return lua_status((lua_State *)thread) == LUA_YIELD;
}

static void push_thread_name(lua_State *L, const void *thread) {
  char text[32];
  snprintf(text, sizeof text, "%p", thread);
  lua_pushstring(L, text);
}

// core.profile_begin() -> where its events begin, the name of this thread in them
static int begin(lua_State *L) {
  int64_t first;
  binding_check(L, profile_begin(binding_here(L)->engine, is_suspended, &first));
  lua_pushnumber(L, (lua_Number)first);
  push_thread_name(L, L);
  return 2;
}

// core.profile_call(fn, ...) -> fn's results. No coroutine can leave it half way.
static int call_here(lua_State *L) {
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

// core.profile_enter(number) -> the event of a module's call, which profile_leave(event) ends
static int enter(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  lua_pushnumber(L, (lua_Number)profile_open_module(engine, (uint64_t)luaL_checknumber(L, 1), L));
  return 1;
}

static int leave(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  int64_t event = (int64_t)luaL_checknumber(L, 1);
  if (engine->profile && event < engine->profile->count) profile_close(engine, event);
  return 0;
}

// -- the list of events

// "winograd", or "winograd + direct" in the order in which they were told.
static void set_algorithm(lua_State *L, const char *const algorithms[2]) {
  const char *last = algorithms[0], *before = algorithms[1];
  if (!last) return;
  if (before && strcmp(before, last) != 0) lua_pushfstring(L, "%s + %s", before, last);
  else lua_pushstring(L, last);
  lua_setfield(L, -2, "algorithm");
}

static void push_event(lua_State *L, const profile_event *event, int64_t first) {
  static const char *const kinds[] = { "call", "backward", "walk", "collection", "module" };
  lua_createtable(L, 0, 10);
  binding_set_text(L, "kind", kinds[event->kind]);
  binding_set_text(L, "name", event->name);
  binding_set_number(L, "module", (double)event->module);
  binding_set_number(L, "outer", event->outer < first ? 0 : (double)(event->outer - first + 1));
  binding_set_number(L, "start", event->start);
  binding_set_number(L, "stop", event->stop);
  binding_set_number(L, "moved", (double)event->moved);
  binding_set_number(L, "memory", (double)event->memory);
  set_algorithm(L, event->algorithms);
  if (!event->thread) return;
  push_thread_name(L, event->thread);
  lua_setfield(L, -2, "thread");
}

typedef struct event_range {
  const moon_profile *profile;
  int64_t first;
} event_range;

// What is not over yet (a coroutine's module that nobody came back to) is left out by its stop.
static int push_events(lua_State *L) {
  const event_range *range = lua_touserdata(L, 1);
  const moon_profile *profile = range->profile;
  int64_t count = profile->count;
  lua_createtable(L, (int)(count - range->first), 1);
  for (int64_t i = range->first; i < count; i++) {
    profile_event event = profile->events[i];   // a finaliser may run, and add to the list
    push_event(L, &event, range->first);
    lua_rawseti(L, -2, (int)(i - range->first + 1));
  }
  binding_set_number(L, "dropped", (double)profile->dropped);
  return 1;
}

// core.profile_end(where it began) -> a list of {kind, name, module, outer, start, stop, moved,
// memory, algorithm, thread}, with `dropped` in it: how many found no room
static int end(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  event_range range = { .profile = engine->profile, .first = (int64_t)luaL_checknumber(L, 1) };
  if (!engine->profile || range.first < 0 || range.first > engine->profile->count)
    binding_error(L, "profile_end: no profile that began there is being taken");
  lua_pushcfunction(L, push_events);
  lua_pushlightuserdata(L, &range);
  int failed = lua_pcall(L, 1, 1, 0);
  profile_end(engine);
  return failed ? lua_error(L) : 1;
}

static const luaL_Reg functions[] = {
  { "profile_begin", begin }, { "profile_call", call_here }, { "profile_end", end },
  { "profile_enter", enter }, { "profile_leave", leave }, { NULL, NULL },
};

void profiles_open(lua_State *L, binding_state *state) { binding_functions(L, state, functions); }
