// What the parts of the host program share. The program embeds Lua the way an application does: it
// links one Lua library, opens states with luaL_newstate and loads moonlet by `require`, from the
// top of the source tree, where it must be started. Every part is a file with one function that
// runs its checks. A check is a function; the first EXPECT that does not hold ends it. Each prints
// one line: "ok name" or "not ok name: why".
#ifndef MOON_SPEC_HOST_H
#define MOON_SPEC_HOST_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#if __has_include(<luajit.h>)   // its folder has no other Lua's headers
#include <luajit.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HOST_PACE = 8 };   // sanitizers take several times as long: so many times fewer rounds
#else
enum { HOST_PACE = 1 };
#endif

void check(const char *name, void (*run)(void));
void check_fail(const char *file, int line, const char *format, ...);   // does not return
#define EXPECT(condition) \
  do { if (!(condition)) check_fail(__FILE__, __LINE__, "%s", #condition); } while (0)

extern int host_threads;   // of the process before the first state opened

// A state with Lua's libraries, moonlet as the global `moon` and lesson.lua as `lesson`. NULL with
// the reason in `why` if that fails.
lua_State *host_try_open(char *why, size_t room);
// Main thread only: fails the check instead; a check that fails leaves the closing to its caller.
lua_State *host_open(void);
lua_State *host_adopt(lua_State *L);      // a state opened otherwise
void host_close(lua_State *L);

// Runs Lua code; NULL, or the error text, which lies in the state until the next call.
const char *host_try(lua_State *L, const char *code);
void host_run(lua_State *L, const char *code);         // fails the check; main thread only
double host_number(lua_State *L, const char *code);    // that the code returns; main thread only
// moon.memory().live after collecting, in a call of its own: a running one's stack still holds what
// it no longer names.
double host_live(lua_State *L);

// Bytes that Lua code returned.
typedef struct bytes {
  size_t length;
  char data[64 << 10];
} bytes;
// False with the reason in out->data.
bool host_try_bytes(lua_State *L, const char *code, bytes *out);
void host_bytes(lua_State *L, const char *code, bytes *out);   // main thread only
bool bytes_equal(const bytes *a, const bytes *b);

int host_thread_count(void);
// Waits a while until the process has so many threads: a joined one may be on the kernel's list for
// a moment yet.
bool host_threads_become(int count);

void check_states(void);
void check_errors(void);
void check_forks(void);
void check_twins(void);
void check_crossing(void);
void check_endings(void);
void check_faults(void);

#endif
