// Tensors that go from one state to another by reference, and are released by the one after the
// other has closed: the bytes stay charged to the state that made them, which keeps its account
// (not its Lua state) alive until the last of them is gone.
#include "host.h"

#include <pthread.h>

#include "lua/binding.h"

// Hands over what is in `from`'s global `x` to `to`'s global `x`, as C beside the binding would:
// the two userdata change tensors, so that each reference goes on being released once.
static void exchange(lua_State *from, lua_State *to) {
  lua_getglobal(from, "x");
  lua_getglobal(to, "x");
  tensor_handle *a = lua_touserdata(from, -1), *b = lua_touserdata(to, -1);
  EXPECT(a != NULL && b != NULL && a->tensor != NULL && b->tensor != NULL);
  moon_tensor *tensor = a->tensor;
  a->tensor = b->tensor;
  b->tensor = tensor;
}

static void the_maker_closes_first(void) {
  lua_State *maker = host_open(), *user = host_open();
  host_run(maker, "x = moon.arange(1, 1000)");
  host_run(user, "x = moon.zeros(1)");
  exchange(maker, user);
  host_close(maker);
  host_run(user, "assert(x:sum():item() == 500500) y = x:narrow(1, 3, 2) x = nil moon.collect() "
                 "assert(y[2] == 4) y:mul_(2) z = y * y assert(z[1] == 36) "
                 "y = nil z = nil");
  EXPECT(host_live(user) == 0);
  host_close(user);
  EXPECT(host_threads_become(host_threads));
}

static void the_user_closes_first(void) {
  lua_State *maker = host_open(), *user = host_open();
  host_run(maker, "x = moon.ones(1000) shared = x:narrow(1, 1, 10)");
  host_run(user, "x = moon.zeros(1)");
  exchange(maker, user);
  host_run(user, "x:fill_(7)");
  host_run(maker, "x = nil moon.collect() assert(moon.memory().live == 4000) "
                  "assert(shared:sum():item() == 70)");
  host_close(user);
  host_run(maker, "assert(shared:sum():item() == 70) shared = nil");
  EXPECT(host_live(maker) == 0);
  host_close(maker);
}

// A gradient that crosses: the other state adds to its leaf, the maker has closed.
static void leaves_cross_with_their_gradient(void) {
  lua_State *maker = host_open(), *user = host_open();
  host_run(maker, "x = moon.ones(50, {requires_grad = true}); (x * 3):sum():backward()");
  host_run(user, "x = moon.zeros(1)");
  exchange(maker, user);
  host_close(maker);
  host_run(user, "assert(x.grad[50] == 3); (x * 2):sum():backward() assert(x.grad[1] == 5) "
                 "x = nil moon.collect()");
  host_close(user);
}

// -- through workers

static void a_workers_tensor_outlives_it(void) {
  lua_State *L = host_open();
  host_run(L, "local w = moon.worker_new('spec.host.lesson', 'give', {count = 5000, value = 3}) "
              "x = w:receive() "
              "local ok, text = pcall(w.receive, w) "
              "assert(not ok and text:find('worker ended', 1, true), text) "
              "w:close() w = nil moon.collect() "
              "assert(moon.memory().live == 0 and x:sum():item() == 15000)");
  EXPECT(host_threads_become(host_threads + (host_thread_count() > host_threads)));
  host_run(L, "x = x * 2 moon.collect() assert(moon.memory().live == 20000)");
  host_close(L);
  EXPECT(host_threads_become(host_threads));
}

static void a_tensor_in_a_workers_hands_stays_charged(void) {
  lua_State *L = host_open();
  host_run(L, "w = moon.worker_new('spec.host.lesson', 'echo') "
              "w:send {t = moon.ones(1000), n = {1, 'two', true}} moon.collect() "
              "assert(moon.memory().live == 4000) "
              "local back = w:receive() "
              "assert(back.t:sum():item() == 1000 and back.n[2] == 'two' and back.n[3] == true) "
              "w:close()");
  EXPECT(host_live(L) == 0);
  host_close(L);
}

static void what_nobody_received_is_released(void) {
  lua_State *L = host_open();
  host_run(L, "w = moon.worker_new('spec.host.lesson', 'echo') "
              "for i = 1, 50 do w:send {moon.ones(1000)} end w:close()");
  EXPECT(host_live(L) == 0);
  host_close(L);
}

// -- one state makes and drops while another thread's state holds on and lets go

enum { HANDED = 400 / HOST_PACE };
static lua_State *receiver;

static void *release_all(void *unused) {
  (void)unused;
  for (int i = 0; i < HANDED; i++) {
    char code[128];
    snprintf(code, sizeof code, "t[%d] = nil if %d %% 10 == 0 then collectgarbage() end", i + 1, i);
    if (host_try(receiver, code) != NULL) return receiver;
  }
  return NULL;
}

static void released_in_another_thread_at_the_same_time(void) {
  void *wrong;
  pthread_t thread;
  lua_State *maker = host_open();
  receiver = host_open();
  host_run(receiver, "t = {}");
  for (int i = 0; i < HANDED; i++) {
    char code[64];
    host_run(maker, "x = moon.ones(100)");
    host_run(receiver, "x = moon.ones(1)");
    exchange(maker, receiver);
    snprintf(code, sizeof code, "t[%d] = x", i + 1);
    host_run(receiver, code);
  }
  host_run(maker, "x = nil");
  EXPECT(host_live(maker) == HANDED * 400);
  EXPECT(pthread_create(&thread, NULL, release_all, NULL) == 0);
  const char *problem = host_try(maker, "lesson.learn(2, 2)");
  pthread_join(thread, &wrong);
  EXPECT(problem == NULL && wrong == NULL);
  host_run(receiver, "t = nil x = nil");
  EXPECT(host_live(receiver) == 0);
  EXPECT(host_live(maker) == 0);
  host_close(maker);
  host_close(receiver);
}

void check_crossing(void) {
  check("a tensor handed over is used and released after its maker closed", the_maker_closes_first);
  check("a tensor handed over stays after its user closed", the_user_closes_first);
  check("a leaf crosses with its gradient", leaves_cross_with_their_gradient);
  check("a worker's tensor outlives the worker", a_workers_tensor_outlives_it);
  check("a tensor in a worker's hands stays charged to its maker",
        a_tensor_in_a_workers_hands_stays_charged);
  check("what nobody received is released", what_nobody_received_is_released);
  check("tensors are released in one thread while their maker learns in another",
        released_in_another_thread_at_the_same_time);
}
