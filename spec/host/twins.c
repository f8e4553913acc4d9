// Two states at once: in two threads with different thread caps they learn the same bits as one
// alone, and each keeps its own seed, tape switch, precision, thread cap, memory figures, budget.
#include "host.h"

#include <pthread.h>
#include <unistd.h>

enum { STEPS = 24 / HOST_PACE, CAPS = 3 };

typedef struct pupil {
  int cap, rounds;
  int wrong;
  bytes learnt;
} pupil;

static bytes expected;

static void *learn(void *context) {
  pupil *p = context;
  char code[200];
  snprintf(code, sizeof code, "moon.set_num_threads(%d) return lesson.learn(11, %d)", p->cap,
           STEPS);
  for (int i = 0; i < p->rounds; i++) {
    lua_State *L = host_try_open(p->learnt.data, sizeof p->learnt.data);
    p->wrong += L == NULL;
    if (L == NULL) continue;
    p->wrong += !host_try_bytes(L, code, &p->learnt) || !bytes_equal(&expected, &p->learnt);
    lua_close(L);
  }
  return NULL;
}

static void different_caps_the_same_bits(void) {
  static pupil pupils[CAPS];
  pthread_t threads[CAPS];
  lua_State *L = host_open();
  char code[100];
  snprintf(code, sizeof code, "return lesson.learn(11, %d)", STEPS);
  host_bytes(L, code, &expected);
  host_close(L);
  for (int i = 0; i < CAPS; i++) {
    pupils[i] = (pupil){ .cap = i + 1, .rounds = 3 };
    EXPECT(pthread_create(&threads[i], NULL, learn, &pupils[i]) == 0);
  }
  for (int i = 0; i < CAPS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < CAPS; i++)
    if (pupils[i].wrong > 0)
      check_fail(__FILE__, __LINE__, "with at most %d threads %d of 3 lessons went wrong: %s",
                 pupils[i].cap, pupils[i].wrong,
                 pupils[i].learnt.length ? "other bits" : pupils[i].learnt.data);
  EXPECT(host_threads_become(host_threads));
}

// -- settings, each state changing its own all the time

static const char own_settings[] =
    "local id = ... "
    "moon.set_num_threads(id) moon.set_memory_budget(id * 2 ^ 24) moon.precise(id % 2 == 0) "
    "moon.manual_seed(id) first = first or moon.rand(100):tobytes() "
    "local held = moon.zeros(id * 1000) "
    "for i = 1, rounds do "
    "  moon.manual_seed(id) assert(moon.rand(100):tobytes() == first) "
    "  local state = moon.get_rng_state() assert(state[1] == id) "
    "  assert(moon.precise() == (id % 2 == 0)) "
    "  assert(moon.memory().budget == id * 2 ^ 24) "
    "  moon.no_grad(function() "
    "    assert(not moon.is_grad_enabled()) "
    "    assert(not (moon.ones(2, {requires_grad = true}) * 2).requires_grad) end) "
    "  assert(moon.is_grad_enabled()) "
    "  assert((moon.ones(2, {requires_grad = true}) * 2).requires_grad) "
    "  assert(not pcall(moon.zeros, id * 2 ^ 22 + 1)) "
    "  if i % 16 == 0 then moon.collect() assert(moon.memory().live >= id * 4000 "
    "    and moon.memory().live < id * 4000 + 4000, moon.memory().live) end "
    "end";

typedef struct settler {
  int id;
  char why[1024];
} settler;

static void *settle(void *context) {
  settler *s = context;
  lua_State *L = host_try_open(s->why, sizeof s->why);
  if (L == NULL) return NULL;
  lua_pushinteger(L, 400 / HOST_PACE);
  lua_setglobal(L, "rounds");
  lua_settop(L, 0);
  int failed = luaL_loadstring(L, own_settings);
  lua_pushinteger(L, s->id);
  if (failed == 0) failed = lua_pcall(L, 1, 0, 0);
  if (failed != 0) snprintf(s->why, sizeof s->why, "state %d: %s", s->id, lua_tostring(L, -1));
  lua_close(L);
  return NULL;
}

static void settings_are_the_states_own(void) {
  enum { COUNT = 3 };
  static settler settlers[COUNT];
  pthread_t threads[COUNT];
  for (int i = 0; i < COUNT; i++) {
    settlers[i] = (settler){ .id = i + 1 };
    EXPECT(pthread_create(&threads[i], NULL, settle, &settlers[i]) == 0);
  }
  for (int i = 0; i < COUNT; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < COUNT; i++)
    if (settlers[i].why[0]) check_fail(__FILE__, __LINE__, "%s", settlers[i].why);
}

// -- two states in one thread, one called from inside the other

static int call_other(lua_State *L) {
  lua_State *other = lua_touserdata(L, lua_upvalueindex(1));
  const char *problem = host_try(other, luaL_checkstring(L, 1));
  return problem == NULL ? 0 : luaL_error(L, "the other state: %s", problem);
}

static void one_inside_the_other(void) {
  lua_State *L = host_open(), *other = host_open();
  lua_pushlightuserdata(L, other);
  lua_pushcclosure(L, call_other, 1);
  lua_setglobal(L, "elsewhere");
  host_run(other, "moon.manual_seed(7) a = moon.rand(5):tobytes() b = moon.rand(5):tobytes()");
  host_run(L,
           "moon.manual_seed(7) local a = moon.rand(5):tobytes() "
           "elsewhere 'moon.manual_seed(7) assert(moon.rand(5):tobytes() == a)' "
           "local b = moon.rand(5):tobytes() assert(a ~= b) "
           "elsewhere 'assert(moon.rand(5):tobytes() == b)' "
           "moon.manual_seed(7) assert(moon.rand(5):tobytes() == a) "
           "moon.no_grad(function() elsewhere 'assert(moon.is_grad_enabled())' end) "
           "moon.scope(function() "
           "  elsewhere 'kept = moon.ones(3)' "
           "  elsewhere 'moon.scope(function() lost = moon.ones(3) end)' end) "
           "elsewhere 'assert(kept:sum():item() == 3 and not pcall(lost.sum, lost))' "
           "local before = moon.memory().live "
           "elsewhere 'big = moon.ones(1000000)' "
           "assert(moon.memory().live <= before) "
           "assert(not pcall(elsewhere, 'error(1)'))");
  host_close(other);
  host_run(L, "assert(moon.ones(3):sum():item() == 3)");
  host_close(L);
}

void check_twins(void) {
  check("states in threads with caps 1, 2 and 3 learn the same bits as one alone",
        different_caps_the_same_bits);
  check("seed, tape, precision, figures and budget are each state's own",
        settings_are_the_states_own);
  check("a state called from inside another disturbs nothing", one_inside_the_other);
}
