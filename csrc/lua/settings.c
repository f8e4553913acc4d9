// What belongs to one state: its random stream, its thread cap, precision; and what the trainer
// asks of the system: the interrupt key, the clock, the terminal, folders.
#include <string.h>

#include "base/cpuid.h"
#include "base/os.h"
#include "base/threads.h"
#include "lua/binding.h"

// moon.manual_seed(n): n is a whole number; the stream starts anew
static int manual_seed(lua_State *L) {
  binding_state *state = binding_here(L);
  int64_t seed;
  if (!binding_to_int64(L, 1, &seed))
    binding_error(L, "manual_seed: the seed must be a whole number, got %s", luaL_typename(L, 1));
  state->engine->seed = (uint64_t)seed;
  state->engine->draws = 0;
  return 0;
}

// moon.seed() -> a fresh seed from the system, used from now on (below 2^53)
static int random_seed(lua_State *L) {
  binding_state *state = binding_here(L);
  state->engine->seed = os_random_seed() >> 11;
  state->engine->draws = 0;
  binding_push_int64(L, (int64_t)state->engine->seed);
  return 1;
}

// moon.get_rng_state() -> int64 tensor of seed and position
static int get_rng_state(lua_State *L) {
  binding_state *state = binding_here(L);
  int64_t two = 2;
  moon_tensor *tensor;
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, tensor_new(state->engine, device_cpu(), MOON_I64, 1, &two, &tensor));
  handle_fill(handle, tensor);
  int64_t *words = tensor_data(tensor);
  words[0] = (int64_t)state->engine->seed;
  words[1] = (int64_t)state->engine->draws;
  return 1;
}

static int set_rng_state(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *t = tensor_check(L, 1, "set_rng_state", "state");
  if (t->dtype != MOON_I64 || t->ndim != 1 || t->shape[0] != 2 || !tensor_is_contiguous(t))
    binding_error(L, "set_rng_state: expected the int64 tensor of 2 elements that get_rng_state "
                  "gave");
  binding_need_host(L, "set_rng_state", t);
  const int64_t *words = tensor_data(t);
  state->engine->seed = (uint64_t)words[0];
  state->engine->draws = (uint64_t)words[1];
  return 0;
}

// moon.set_num_threads(n): the most threads this state uses; 0 = as many as the machine has
static int set_num_threads(lua_State *L) {
  binding_state *state = binding_here(L);
  int64_t count;
  if (!binding_to_int64(L, 1, &count) || count < 0 || count > 4096)
    binding_error(L, "set_num_threads: expected a whole number from 0 to 4096");
  state->engine->max_threads = (int)count;
  return 0;
}

static int get_num_threads(lua_State *L) {
  lua_pushinteger(L, threads_of(binding_here(L)->engine));
  return 1;
}

// moon.precise(on?) -> whether transforms that lose accuracy are forbidden
static int precise(lua_State *L) {
  binding_state *state = binding_here(L);
  if (!lua_isnoneornil(L, 1)) state->engine->precise = lua_toboolean(L, 1);
  lua_pushboolean(L, state->engine->precise);
  return 1;
}

// moon.with_device(name, fn, ...) -> fn's results; tensors made inside lie on that device unless
// they say otherwise
static int with_device(lua_State *L) {
  binding_state *state = binding_here(L);
  const moon_device *device, *before = state->engine->default_device;
  binding_check(L, device_by_name(luaL_checkstring(L, 1), &device));
  luaL_checktype(L, 2, LUA_TFUNCTION);
  state->engine->default_device = device;
  int failed = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
  if (state->engine) state->engine->default_device = before;
  return failed ? lua_error(L) : lua_gettop(L) - 1;
}

// moon.multiply_adds() -> how many products and convolutions on the device "meta" stand for so far
static int multiply_adds(lua_State *L) {
  lua_pushnumber(L, binding_here(L)->engine->multiply_adds);
  return 1;
}

// -- the interrupt key

static int catch_interrupt(lua_State *L) {
  (void)L;
  os_catch_interrupt();
  return 0;
}

static int release_interrupt(lua_State *L) {
  (void)L;
  os_release_interrupt();
  return 0;
}

static int interrupted(lua_State *L) {
  lua_pushboolean(L, engine_interrupted());
  return 1;
}

static int interrupt(lua_State *L) {
  (void)L;
  engine_interrupt();
  return 0;
}

// moon.uninterrupted(fn, ...) -> fn's results: what must be done whole or not at all, such as an
// optimiser's step; the first operator after it hears an interrupt that came meanwhile
static int uninterrupted(lua_State *L) {
  binding_state *state = binding_here(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  state->engine->uninterrupted++;
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  if (state->engine) state->engine->uninterrupted--;
  return failed ? lua_error(L) : lua_gettop(L);
}

static int clear_interrupt(lua_State *L) {
  (void)L;
  engine_clear_interrupt();
  return 0;
}

// -- the system

static int clock_seconds(lua_State *L) {
  lua_pushnumber(L, os_clock());
  return 1;
}

static int is_terminal(lua_State *L) {
  lua_pushboolean(L, os_is_terminal((int)luaL_checkinteger(L, 1)));
  return 1;
}

static int terminal_columns(lua_State *L) {
  lua_pushinteger(L, os_terminal_columns());
  return 1;
}

static int make_directory(lua_State *L) {
  binding_here(L);
  binding_check(L, os_make_directory(luaL_checkstring(L, 1)));
  return 0;
}

static int file_exists(lua_State *L) {
  lua_pushboolean(L, os_file_exists(luaL_checkstring(L, 1)));
  return 1;
}

// moon.cpu_level() -> "avx512", "avx2" or "baseline": the kernels in use
static int cpu_level_name(lua_State *L) {
  lua_pushstring(L, cpuid_level_name(cpuid_level()));
  return 1;
}

static const luaL_Reg functions[] = {
  { "manual_seed", manual_seed }, { "seed", random_seed }, { "get_rng_state", get_rng_state },
  { "set_rng_state", set_rng_state }, { "set_num_threads", set_num_threads },
  { "get_num_threads", get_num_threads }, { "precise", precise },
  { "catch_interrupt", catch_interrupt }, { "release_interrupt", release_interrupt },
  { "with_device", with_device }, { "multiply_adds", multiply_adds },
  { "interrupted", interrupted }, { "interrupt", interrupt },
  { "clear_interrupt", clear_interrupt },
  { "uninterrupted", uninterrupted },
  { "clock", clock_seconds }, { "is_terminal", is_terminal },
  { "terminal_columns", terminal_columns }, { "make_directory", make_directory },
  { "file_exists", file_exists }, { "cpu_level", cpu_level_name }, { NULL, NULL },
};

void settings_open(lua_State *L, binding_state *state) { binding_functions(L, state, functions); }
