// fork, then train in parent and child: both get the weights of a run that never forked.
#include "host.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS_FOR_A_CHILD = 60 };

static bytes expected, got;

// What a child does; 0 if all went well. It ends by _exit: the host's own atexit is not its.
typedef int (*child_work)(void *context);

static pid_t start_child(child_work work, void *context) {
  fflush(stdout);
  pid_t child = fork();
  if (child != 0) return child;
  alarm(SECONDS_FOR_A_CHILD);
  _exit(work(context));
}

// The child's own number, or 100 + the signal that ended it.
static int child_result(pid_t child) {
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int learns(lua_State *L, const char *code) {
  if (!host_try_bytes(L, code, &got)) return 2;
  return bytes_equal(&expected, &got) ? 0 : 3;
}

// -- a lesson that goes on in both

static int go_on(void *context) { return learns(context, "p.step(3) return p.weights()"); }

static void a_lesson_goes_on_in_both(void) {
  lua_State *L = host_open();
  host_bytes(L, "return lesson.learn(21, 6)", &expected);
  for (int round = 0; round < 8; round++) {
    host_run(L, "p = lesson.start(21) p.step(3)");
    pid_t child = start_child(go_on, L);
    int here = go_on(L), there = child_result(child);
    EXPECT(here == 0);
    EXPECT(there == 0);
  }
  host_close(L);
}

// -- new states in the child, and an end without threads

static int live_alone(void *context) {
  char why[256];
  lua_State *L = host_try_open(why, sizeof why);
  if (L == NULL) return 4;
  int wrong = learns(L, "return lesson.learn(21, 6)");
  host_close(L);
  if (wrong != 0) return wrong;
  host_close(context);
  return host_threads_become(1) ? 0 : 5;
}

static void the_child_opens_and_closes_states(void) {
  lua_State *L = host_open();
  host_run(L, "lesson.learn(21, 1)");
  int there = child_result(start_child(live_alone, L));
  if (there != 0) check_fail(__FILE__, __LINE__, "the child ended with %d", there);
  EXPECT(learns(L, "return lesson.learn(21, 6)") == 0);
  host_close(L);
}

// -- another thread trains meanwhile

static atomic_bool stop;
static atomic_int lessons, wrong_lessons;

static void *keep_learning(void *context) {
  static bytes own;
  while (!atomic_load(&stop)) {
    bool learnt = host_try_bytes(context, "return lesson.learn(21, 6)", &own);
    if (!learnt || !bytes_equal(&expected, &own))
      atomic_fetch_add(&wrong_lessons, 1);
    atomic_fetch_add(&lessons, 1);
  }
  return NULL;
}

static int learn_in_old_and_new(void *context) {
  char why[256];
  int wrong = learns(context, "return lesson.learn(21, 6)");
  if (wrong != 0) return wrong;
  lua_State *L = host_try_open(why, sizeof why);
  if (L == NULL) return 4;
  wrong = learns(L, "return lesson.learn(21, 6)");
  host_close(L);
  return wrong;
}

static void fork_while_another_thread_trains(void) {
  lua_State *L = host_open(), *busy = host_open();
  pthread_t thread;
  int wrong = 0;
  atomic_store(&stop, false);
  EXPECT(pthread_create(&thread, NULL, keep_learning, busy) == 0);
  for (int round = 0; round < 16 && wrong == 0; round++) {
    usleep(1000u * (unsigned)round);   // at another place of the other's step each time
    pid_t child = start_child(learn_in_old_and_new, L);
    if (round % 4 == 0) wrong = learns(L, "return lesson.learn(21, 6)");
    int there = child_result(child);
    if (wrong == 0) wrong = there;
  }
  atomic_store(&stop, true);
  pthread_join(thread, NULL);
  EXPECT(wrong == 0);
  EXPECT(atomic_load(&wrong_lessons) == 0 && atomic_load(&lessons) > 0);
  host_close(busy);
  host_close(L);
  EXPECT(host_threads_become(host_threads));
}

// -- worker states: the child has their userdata, not their threads

static int close_with_lost_workers(void *context) {
  lua_State *L = context;
  const char *problem = host_try(
      L, "local ok, text = pcall(w.receive, w) "
         "assert(not ok and text:find('fork', 1, true), text) "
         "ok, text = pcall(w.send, w, 1) assert(not ok and text:find('fork', 1, true), text) "
         "local v = moon.worker_new('spec.host.lesson', 'echo') "
         "v:send(moon.ones(3)) assert(v:receive():sum():item() == 3) v:close()");
  if (problem != NULL) {
    fprintf(stderr, "%s\n", problem);
    return 6;
  }
  host_close(L);
  return host_threads_become(1) ? 0 : 5;
}

static void the_child_closes_a_state_with_workers(void) {
  for (int round = 0; round < 5; round++) {
    lua_State *L = host_open();
    host_run(L, "w = moon.worker_new('spec.host.lesson', 'teach', {seed = 1, steps = 2}) "
                "for i = 1, 5 do w:send(i) end");
    if (round % 2 == 1) host_run(L, "w:receive()");
    int there = child_result(start_child(close_with_lost_workers, L));
    if (there != 0) check_fail(__FILE__, __LINE__, "the child ended with %d", there);
    host_run(L, "assert(#w:receive() > 1000)");
    host_close(L);
    EXPECT(host_threads_become(host_threads));
  }
}

void check_forks(void) {
#ifdef __SANITIZE_THREAD__
  // Its run-time library ends a child that starts a thread where the parent had one, with or
  // without us.
  puts("ok fork is left to the other builds: the thread sanitizer cannot follow one into threads");
  (void)a_lesson_goes_on_in_both, (void)the_child_opens_and_closes_states;
  (void)fork_while_another_thread_trains, (void)the_child_closes_a_state_with_workers;
#else
  check("a lesson goes on in parent and child as if there were no fork", a_lesson_goes_on_in_both);
  check("a child opens and closes states and ends without threads",
        the_child_opens_and_closes_states);
#ifdef __SANITIZE_ADDRESS__
  // Its heap does not mind fork: a child may find it locked by a thread that it does not have,
  // with or without us.
  puts("ok fork while other threads work is left to the other builds: the address sanitizer's heap "
       "may stay locked in the child");
  (void)fork_while_another_thread_trains, (void)the_child_closes_a_state_with_workers;
#else
  check("fork while another thread trains: all learn the same", fork_while_another_thread_trains);
  check("a child closes a state whose workers stayed behind",
        the_child_closes_a_state_with_workers);
#endif
#endif
}
