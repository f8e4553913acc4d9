// A host's own error handling: whatever Lua error leaves moonlet through the host's lua_pcall, the
// state is as usable as before, and learns the same.
#include "host.h"

static bytes expected, got;

// A function of the host that moonlet calls back and that raises.
static int host_raises(lua_State *L) {
  lua_pushlightuserdata(L, &expected);   // error values need not be strings
  return lua_error(L);
}

// Runs code under the host's own lua_pcall with a handler, which sees the stack of the error.
static int handler(lua_State *L) {
  lua_pushboolean(L, !lua_isnil(L, 1));
  return 1;
}

static void fails(lua_State *L, const char *code) {
  lua_settop(L, 0);
  lua_pushcfunction(L, handler);
  EXPECT(luaL_loadstring(L, code) == 0);
  if (lua_pcall(L, 0, 0, 1) == 0) check_fail(__FILE__, __LINE__, "did not fail: %s", code);
  EXPECT(lua_toboolean(L, -1));
  lua_settop(L, 0);
  EXPECT(host_number(L, "return moon.is_grad_enabled() and 1 or 0") == 1);
}

static const char *const mistakes[] = {
    "moon.ones(2):add(moon.ones(3))",
    "moon.ones(2, {dtyp = 'float32'})",
    "moon.conv2d(moon.ones(1, 3, 8, 8), moon.ones(4, 2, 3, 3))",
    "moon.zeros(2 ^ 50)",
    "moon.no_grad(function() moon.ones(2):mm(moon.ones(2)) end)",
    "moon.no_grad(function() moon.enable_grad(error, 'out') end)",
    "moon.no_grad(raise)",
    "moon.scope(raise)",
    "moon.scope(function() local x = moon.ones(9) "
    "moon.scope(function() return x:sum() + raise() end) end)",
    "moon.scope(function() coroutine.wrap(function() moon.ones(3):view(2) end)() end)",
    "moon.scope(function() error(setmetatable({}, {__tostring = raise})) end)",
    "local x = moon.ones(3, {requires_grad = true}) local y = (x * x):sum() "
    "y:backward() y:backward()",
    "local x = moon.ones(3, {requires_grad = true}) local y = x:exp() y:mul_(2) y:sum():backward()",
    "moon.keep(moon.scope(function() released = moon.ones(2) end) or released)",
    "lesson.learn(1, 'many')",
    "moon.tensor {1, {2}}",
    "moon.worker_new('no.such.module', 'f'):receive()",
    "moon.worker_new('spec.host.lesson', 'echo', {raise})",
    "moon.load 'spec/host/lesson.lua'",
    "local x = moon.ones(2) x[3] = 1",
    "raise()",
};

static void nothing_is_lost(void) {
  lua_State *L = host_open(), *other = host_open();
  host_bytes(other, "return lesson.learn(5, 3)", &expected);
  host_close(other);
  lua_register(L, "raise", host_raises);
  for (int round = 0; round < 3; round++)
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) fails(L, mistakes[i]);
  host_run(L, "released = nil");
  EXPECT(host_live(L) == 0);
  host_bytes(L, "return lesson.learn(5, 3)", &got);
  EXPECT(bytes_equal(&expected, &got));
  host_close(L);
}

// In the middle of a lesson, between forward and backward.
static void a_lesson_goes_on_after_an_error(void) {
  lua_State *L = host_open();
  host_run(L, "p = lesson.start(5) p.step(2)");
  fails(L, "local x = moon.ones(2, {requires_grad = true}) local y = x * 2 y:backward()");
  fails(L, "moon.scope(p.step, {})");
  host_bytes(L, "p.step(1) return p.weights()", &got);
  EXPECT(bytes_equal(&expected, &got));
  host_close(L);
}

static void budgets_are_errors_too(void) {
  lua_State *L = host_open();
  host_run(L, "moon.set_memory_budget(32 * 2 ^ 20)");
  fails(L, "local held = {} for i = 1, 100 do held[i] = moon.ones(2 ^ 18) end");
  fails(L, "moon.ones(2 ^ 30)");
  host_run(L, "for i = 1, 100 do local x = moon.ones(2 ^ 18) end");
  host_bytes(L, "return lesson.learn(5, 3)", &got);
  EXPECT(bytes_equal(&expected, &got));
  host_close(L);
}

void check_errors(void) {
  check("an error inside the host's lua_pcall leaves all usable", nothing_is_lost);
  check("a lesson goes on after an error in its middle", a_lesson_goes_on_after_an_error);
  check("a full budget is an error, and the state goes on", budgets_are_errors_too);
}
