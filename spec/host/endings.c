// States that close in the middle of everything, and finalisers that use moonlet after it is gone.
#include "host.h"

static void close_amid(const char *code) {
  lua_State *L = host_open();
  host_run(L, code);
  host_close(L);
  EXPECT(host_threads_become(host_threads));
}

static void with_live_tensors(void) {
  close_amid("t = {} for i = 1, 500 do t[i] = moon.ones(i) end "
             "v = t[500]:view(10, 50):t():narrow(1, 2, 3) u = v:unsqueeze(1):expand(4, 3, 10)");
}

static void with_live_tapes(void) {
  close_amid("x = moon.ones(10, {requires_grad = true}) y = x "
             "for i = 1, 2000 do y = (y * 1.5):relu() end loss = y:sum() "
             "w = moon.ones(3, {requires_grad = true}) half = (w * w):sum() half:backward() "
             "kept = (w * 2):sum() kept:backward(nil, {retain_graph = true})");
}

static void in_the_middle_of_a_lesson(void) {
  close_amid("p = lesson.start(4) p.step(2)");
}

static void with_busy_workers(void) {
  close_amid("w = {} for i = 1, 3 do "
             "  w[i] = moon.worker_new('spec.host.lesson', 'teach', {seed = i, steps = 2}) "
             "  for j = 1, 20 do w[i]:send(j) end end "
             "assert(#w[2]:receive() > 1000)");
}

static void with_workers_that_failed(void) {
  close_amid("w = {} for i = 1, 3 do w[i] = moon.worker_new('no.such.module', 'f') "
             "  pcall(w[i].send, w[i], moon.ones(10)) end "
             "v = moon.worker_new('spec.host.lesson', 'nothing')");
}

static const char half_way[] =
    "local set = moon.data.TensorDataset(moon.randn(64, 3), moon.arange(1, 64)) "
    "loader = moon.data.Loader(set, {batch = 4, shuffle = true, workers = %d}) "
    "iterate = loader:iter() x, y = iterate() iterate() "
    "step = coroutine.wrap(function() "
    "  for a, b in moon.data.Loader(set, {batch = 8, workers = %d}):iter() do "
    "    coroutine.yield(a, b) end end) step()";

static void with_iterators_half_way(void) {
  char code[1024];
  for (int workers = 0; workers <= 2; workers++) {
    snprintf(code, sizeof code, half_way, workers, workers);
    close_amid(code);
  }
}

// -- finalisers of the host's own objects: those made before moonlet run after it has gone. They
// may use what there is. They make nothing while moonlet is still there: Lua runs no finaliser for
// what a finaliser makes while a state closes, so that it would be lost, in Lua as in C.

static const char use[] =
    "local open = pcall(moon.memory) if collecting then pcall(moon.collect) end "
    "pcall(function() return kept:size() end) pcall(function() return kept.shape end) "
    "pcall(tostring, kept) pcall(moon.manual_seed, 3) pcall(moon.keep, kept) "
    "pcall(function() worker:send(1) end) pcall(function() return worker:receive(0) end) "
    "pcall(function() worker:close() end) pcall(function() kept:fill_(2) end) "
    "if open then return 'open' end "
    "for _, make in ipairs { moon.ones, moon.lazy_tensor, moon.scope, moon.worker_new, "
    "  moon.no_grad, moon.tensor, moon.load } do "
    "  local ok, text = pcall(make, 'spec.host.lesson', 'echo') "
    "  assert(not ok and text:find 'was closed with its Lua state', text) end "
    "assert(not pcall(function() return kept + 1 end)) "
    "return 'closed'";

static char finalised[64];   // what `use` gave, in the order of the finalisers

static int late_finaliser(lua_State *L) {
  int top = lua_gettop(L);
  const char *text = "no memory";
  if (luaL_loadstring(L, use) == 0) {
    (void)lua_pcall(L, 0, 1, 0);
    text = lua_tostring(L, -1);
  }
  size_t length = strlen(finalised);
  snprintf(finalised + length, sizeof finalised - length, "%s ", text != NULL ? text : "nothing");
  lua_settop(L, top);
  return 0;
}

static void add_finaliser(lua_State *L, const char *name) {
  lua_newuserdata(L, 1);
  lua_newtable(L);
  lua_pushcfunction(L, late_finaliser);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_setglobal(L, name);
}

static void end_with_finalisers(bool collecting) {
  lua_State *L = luaL_newstate();
  EXPECT(L != NULL);
  host_adopt(L);
  luaL_openlibs(L);
  add_finaliser(L, "before");
  host_run(L, "moon = require 'moonlet' kept = moon.ones(3) "
              "worker = moon.worker_new('spec.host.lesson', 'echo')");
  add_finaliser(L, "after");
  lua_pushboolean(L, collecting);
  lua_setglobal(L, "collecting");
  finalised[0] = '\0';
  host_close(L);
  EXPECT(host_threads_become(host_threads));
}

static void finalisers_use_it_after_it_is_gone(void) {
  end_with_finalisers(false);
  if (strcmp(finalised, "open closed ") != 0) check_fail(__FILE__, __LINE__, "%s", finalised);
}

// A collection asked for by a finaliser may run those of the rest, moonlet's own among them.
static void finalisers_collect(void) {
  end_with_finalisers(true);
  EXPECT(strncmp(finalised, "open ", 5) == 0);
  EXPECT(strcmp(finalised + 5, "open ") == 0 || strcmp(finalised + 5, "closed ") == 0);
}

// -- a state that ends itself, in the middle of a scope

static void in_the_middle_of_a_scope(void) {
  lua_State *L = host_open();
  const char *problem =
      host_try(L, "moon.scope(function() held = moon.ones(5) moon.no_grad(function() "
                  "other = moon.ones(6) error('out of here') end) end)");
  EXPECT(problem != NULL && strstr(problem, "out of here") != NULL);
  host_close(L);
  EXPECT(host_threads_become(host_threads));
}

// A coroutine that is never resumed holds tensors and an open loop.
static void with_sleeping_coroutines(void) {
  close_amid("threads = {} for i = 1, 50 do threads[i] = coroutine.create(function() "
             "  local x = moon.ones(i, {requires_grad = true}) local y = x * 2 "
             "  coroutine.yield(y) return x end) "
             "  assert(coroutine.resume(threads[i])) end");
}

void check_endings(void) {
  check("a state closes with live tensors and views", with_live_tensors);
  check("a state closes with live tapes", with_live_tapes);
  check("a state closes in the middle of a lesson", in_the_middle_of_a_lesson);
  check("a state closes with busy workers", with_busy_workers);
  check("a state closes with workers that failed", with_workers_that_failed);
  check("a state closes with iterators half way", with_iterators_half_way);
  check("finalisers may use moonlet after it is gone", finalisers_use_it_after_it_is_gone);
  check("finalisers may collect while a state closes", finalisers_collect);
  check("a state closes after an error out of a scope", in_the_middle_of_a_scope);
  check("a state closes with sleeping coroutines", with_sleeping_coroutines);
}
