// States that open and close: many, in any order, with work just done, and what they leave behind.
#include "host.h"

#include <unistd.h>

static const char small_work[] =
    "local x = moon.randn(20, 30, {requires_grad = true}) "
    "x:mm(moon.randn(30, 20)):relu():sum():backward() "
    "assert(x.grad:sum():item() == x.grad:sum():item())";

// Enough for every worker of the pool, in several calls.
static const char wide_work[] =
    "local x = moon.ones(400000) "
    "for _ = 1, 3 do x = x:exp():log() end "
    "assert(x:numel() == 400000)";

static void a_hundred_one_after_the_other(void) {
  for (int i = 0; i < 100; i++) {
    lua_State *L = host_open();
    host_run(L, small_work);
    host_close(L);
  }
  EXPECT(host_threads_become(host_threads));
}

static void a_hundred_side_by_side(void) {
  enum { COUNT = 100 };
  lua_State *states[COUNT];
  for (int i = 0; i < COUNT; i++) {
    states[i] = host_open();
    host_run(states[i], small_work);
  }
  for (int i = 0; i < COUNT; i += 2) host_close(states[i]);   // every other, from the first
  for (int i = COUNT - 1; i > 0; i -= 2) {
    host_run(states[i], small_work);
    host_close(states[i]);
  }
  EXPECT(host_threads_become(host_threads));
}

// The workers still spin, or are about to sleep, when the state goes.
static void closing_right_after_work(void) {
  for (int i = 0; i < 200 / HOST_PACE; i++) {
    lua_State *L = host_open();
    host_run(L, wide_work);
    if (i % 4 == 3) usleep(40u * (unsigned)(i % 8));
    host_close(L);
  }
  EXPECT(host_threads_become(host_threads));
}

static void no_thread_is_left(void) {
  lua_State *first = host_open(), *last = host_open();
  host_run(first, wide_work);
  host_run(last, wide_work);
  int working = host_thread_count();
  EXPECT(working >= host_threads);
  host_close(first);
  EXPECT(host_thread_count() == working);   // the pool is still somebody's
  host_run(last, wide_work);
  host_close(last);
  EXPECT(host_threads_become(host_threads));
}

static void the_module_loads_twice(void) {
  lua_State *L = host_open();
  host_run(L, "package.loaded['moonlet.core'], again = nil, package.loaded['moonlet.core'] "
              "local core = require 'moonlet.core' "
              "assert(core ~= again and core.is_tensor(moon.ones(2))) "
              "assert(core.add(moon.ones(2), core.ones(2))[2] == 2)");
  host_close(L);
}

static void live_bytes_return_to_zero(void) {
  lua_State *L = host_open();
  EXPECT(host_live(L) == 0);
  host_run(L, small_work);
  host_run(L, "kept = moon.zeros(1000)");
  EXPECT(host_live(L) == 4000);
  host_run(L, "view = kept:narrow(1, 10, 5) kept = nil moon.collect() "
              "assert(moon.memory().live == 4000 and view:sum():item() == 0) view = nil");
  host_run(L, "lesson.learn(3, 2)");
  EXPECT(host_live(L) == 0);
  EXPECT(host_number(L, "return moon.memory().cached") == 0);
  host_close(L);
}

void check_states(void) {
  check("a hundred states open and close one after the other", a_hundred_one_after_the_other);
  check("a hundred states live side by side and close in any order", a_hundred_side_by_side);
  check("a state closes while the pool is still awake", closing_right_after_work);
  check("no thread is left after the last state", no_thread_is_left);
  check("the module can be loaded twice in a state", the_module_loads_twice);
  check("live bytes return to zero", live_bytes_return_to_zero);
}
