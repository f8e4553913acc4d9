// The host program: what every part of it needs, and main.
#include "host.h"

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

int host_threads;

// -- checks

static jmp_buf check_end;
static char check_why[2048];
static int check_failures;

void check_fail(const char *file, int line, const char *format, ...) {
  va_list arguments;
  int length = snprintf(check_why, sizeof check_why, "%s:%d: ", file, line);
  va_start(arguments, format);
  vsnprintf(check_why + length, sizeof check_why - (size_t)length, format, arguments);
  va_end(arguments);
  longjmp(check_end, 1);
}

// What a failed check left open would make the next ones fail.
static lua_State *open_states[256];
static int open_count;

static void close_what_is_left(void) {
  while (open_count > 0) lua_close(open_states[--open_count]);
}

void check(const char *name, void (*run)(void)) {
  if (setjmp(check_end) == 0) {
    run();
    printf("ok %s\n", name);
  } else {
    check_failures++;
    for (char *at = check_why; *at != '\0'; at++) if (*at == '\n') *at = ' ';
    printf("not ok %s: %s\n", name, check_why);
  }
  fflush(stdout);
  close_what_is_left();
}

// -- states

#if defined(__SANITIZE_ADDRESS__) && defined(LUAJIT_VERSION)
// LuaJIT keeps its memory where the search for leaks does not look: what it holds would seem lost.
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return 1; }
#endif

const char *host_try(lua_State *L, const char *code) {
  lua_settop(L, 0);
  if (luaL_loadstring(L, code) == 0 && lua_pcall(L, 0, LUA_MULTRET, 0) == 0) return NULL;
  const char *text = lua_tostring(L, -1);
  return text != NULL ? text : "an error without text";
}

lua_State *host_try_open(char *why, size_t room) {
  lua_State *L = luaL_newstate();
  const char *problem = "no memory for a state";
  if (L != NULL) {
    luaL_openlibs(L);
    problem = host_try(L, "moon = require 'moonlet' lesson = require 'spec.host.lesson'");
    if (problem == NULL) return L;
  }
  snprintf(why, room, "%s", problem);
  if (L != NULL) lua_close(L);
  return NULL;
}

lua_State *host_open(void) {
  char why[1024];
  lua_State *L = host_try_open(why, sizeof why);
  if (L == NULL) check_fail(__FILE__, __LINE__, "%s", why);
  return host_adopt(L);
}

lua_State *host_adopt(lua_State *L) {
  EXPECT(open_count < (int)(sizeof open_states / sizeof *open_states));
  return open_states[open_count++] = L;
}

void host_close(lua_State *L) {
  int i = open_count - 1;
  while (i >= 0 && open_states[i] != L) i--;
  if (i >= 0) open_states[i] = open_states[--open_count];
  lua_close(L);
}

void host_run(lua_State *L, const char *code) {
  const char *problem = host_try(L, code);
  if (problem != NULL) check_fail(__FILE__, __LINE__, "%s", problem);
}

double host_number(lua_State *L, const char *code) {
  host_run(L, code);
  if (!lua_isnumber(L, -1)) check_fail(__FILE__, __LINE__, "no number: %s", code);
  return lua_tonumber(L, -1);
}

double host_live(lua_State *L) {
  host_run(L, "if jit then jit.flush() end");   // compiled code holds what it found constant
  host_run(L, "moon.collect()");
  host_run(L, "moon.collect()");                // what finalisers of the first let go
  return host_number(L, "return moon.memory().live");
}

bool host_try_bytes(lua_State *L, const char *code, bytes *out) {
  const char *problem = host_try(L, code);
  size_t length = 0;
  const char *data = problem == NULL ? lua_tolstring(L, -1, &length) : NULL;
  if (problem == NULL && (data == NULL || length == 0 || length > sizeof out->data))
    problem = "no bytes, or too many";
  out->length = problem == NULL ? length : 0;
  if (problem == NULL) memcpy(out->data, data, length);
  else snprintf(out->data, sizeof out->data, "%s", problem);
  return problem == NULL;
}

void host_bytes(lua_State *L, const char *code, bytes *out) {
  if (!host_try_bytes(L, code, out)) check_fail(__FILE__, __LINE__, "%s", out->data);
}

bool bytes_equal(const bytes *a, const bytes *b) {
  return a->length == b->length && a->length > 0 && memcmp(a->data, b->data, a->length) == 0;
}

// -- threads

int host_thread_count(void) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) return -1;
  for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks))
    count += task->d_name[0] != '.';
  closedir(tasks);
  return count;
}

bool host_threads_become(int count) {
  for (int i = 0; i < 5000 && host_thread_count() != count; i++) usleep(1000);
  return host_thread_count() == count;
}

// faults.c counts the C heap's bytes, which glibc tells exactly only without its caches for
// threads; those are a matter of the environment at the start.
static void start_without_heap_caches(char **arguments) {
  static const char name[] = "GLIBC_TUNABLES", value[] = "glibc.malloc.tcache_count=0";
  if (getenv(name) != NULL || setenv(name, value, 1) != 0) return;
  execv("/proc/self/exe", arguments);   // where that fails it goes on as it is
}

static void *nothing(void *unused) { return unused; }

// The thread sanitizer starts a thread of its own beside the first that the program starts.
static int threads_at_rest(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, nothing, NULL) == 0) pthread_join(thread, NULL);
#ifdef __SANITIZE_THREAD__
  return host_threads_become(2) ? 2 : host_thread_count();
#else
  return host_threads_become(1) ? 1 : host_thread_count();
#endif
}

int main(int count, char **arguments) {
  (void)count;
  start_without_heap_caches(arguments);
  host_threads = threads_at_rest();
  check_states();
  check_errors();
  check_crossing();
  check_endings();
  check_twins();
  check_forks();
  check_faults();
  return check_failures > 0;
}
