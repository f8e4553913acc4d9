// Worker threads with Lua states of their own. A worker runs a function named by module and name;
// values go both ways through channels (message.h). The thread ends when its function returns,
// which it does when `receive` gives nil because the worker was closed.
//
// A process that forks leaves its workers behind: the child has their userdata, but neither their
// threads nor, maybe, locks that anybody will open. There a worker can only be closed.
#include <string.h>

#include <lualib.h>

#include "base/alloc.h"
#include "base/os.h"
#include "device/cuda.h"
#include "lua/message.h"

typedef struct worker {
  const void *magic;
  os_thread *thread;
  channel *to, *from;         // as its maker sees it
  unsigned forks;             // of this process when it was started
  message *start;             // {module, name, path, cpath, arguments}, until the thread takes it
  char error[512];            // why it ended; written before `from` is closed
} worker;

static const char worker_magic = 0;
static const char channel_key = 0;   // in the worker's registry: its struct

int luaopen_moonlet_core(lua_State *L);

// -- inside the worker's thread

static worker *own_worker(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&channel_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  worker *w = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return w;
}

typedef struct push_call {
  binding_state *state;
  const message *message;
} push_call;

static int push_protected(lua_State *L) {
  const push_call *call = lua_touserdata(L, 1);
  message_push(L, call->state, call->message);
  return 1;
}

// Pushes what `deliver` calls; before there is a message that an error could lose.
static void prepare(lua_State *L) {
  luaL_checkstack(L, 4, "no room for a message");
  lua_pushcfunction(L, push_protected);
}

// Pushes and frees the message, also when Lua runs out of memory.
static int deliver(lua_State *L, binding_state *state, message *m) {
  push_call call = { state, m };
  lua_pushlightuserdata(L, &call);
  int failed = lua_pcall(L, 1, 1, 0);
  message_delete(m);
  if (failed) return lua_error(L);
  binding_check(L, cuda_follow(state->engine));
  binding_collect_if_due(L, state);
  return 1;
}

static int inside_receive(lua_State *L) {
  worker *w = own_worker(L);
  prepare(L);
  message *m = channel_receive(w->to, -1);
  return m ? deliver(L, binding_of(L), m) : 0;
}

static int inside_send(lua_State *L) {
  message *m;
  luaL_checkany(L, 1);
  binding_check(L, message_read(L, 1, &m));
  channel_send(own_worker(L)->from, m);
  return 0;
}

// The start table is at index `table`, the module that it names on top; pushes its function.
static void push_function(lua_State *L, int table) {
  int module = lua_gettop(L);
  bool found = lua_istable(L, module);
  lua_getfield(L, table, "module");
  lua_getfield(L, table, "name");
  if (found) {
    lua_pushvalue(L, module + 2);
    lua_gettable(L, module);
    found = lua_isfunction(L, -1);
  }
  if (!found)
    luaL_error(L, "module %s has no function %s", lua_tostring(L, module + 1),
               lua_tostring(L, module + 2));
}

// Stack: the start table. Opens what the worker needs and calls its function.
static int inside_main(lua_State *L) {
  worker *w = lua_touserdata(L, 1);
  luaL_openlibs(L);
  lua_pushlightuserdata(L, (void *)&channel_key);
  lua_pushlightuserdata(L, w);
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_moonlet_core);
  lua_setfield(L, -2, "moonlet.core");
  lua_pop(L, 2);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonlet.core");
  lua_call(L, 1, 0);
  prepare(L);
  message *start = w->start;
  w->start = NULL;
  deliver(L, binding_of(L), start);
  int table = lua_gettop(L);
  lua_getglobal(L, "package");
  lua_getfield(L, table, "path");
  lua_setfield(L, -2, "path");
  lua_getfield(L, table, "cpath");
  lua_setfield(L, -2, "cpath");
  lua_getglobal(L, "require");
  lua_getfield(L, table, "module");
  lua_call(L, 1, 1);
  push_function(L, table);
  lua_pushcfunction(L, inside_receive);
  lua_pushcfunction(L, inside_send);
  lua_getfield(L, table, "arguments");
  lua_call(L, 3, 0);
  return 0;
}

static void run_worker(void *context) {
  worker *w = context;
  lua_State *L = luaL_newstate();
  if (!L) {
    strcpy(w->error, "not enough memory for a Lua state");
  } else {
    if (binding_protect(L, inside_main, w) != 0) {
      const char *text = lua_gettop(L) > 0 ? lua_tostring(L, -1) : NULL;
      strncpy(w->error, text ? text : "error without text", sizeof w->error - 1);
    }
    lua_close(L);
  }
  channel_close(w->from);
}

// -- in the state that made it

static worker *worker_check(lua_State *L) {
  worker *w = lua_touserdata(L, 1);
  if (lua_type(L, 1) != LUA_TUSERDATA || lua_rawlen(L, 1) != sizeof *w || w->magic != &worker_magic)
    binding_error(L, "worker: expected a worker, got %s; its methods are called with a colon",
                  luaL_typename(L, 1));
  return w;
}

static atomic_uint forks;   // how often this process is a child

static void count_fork(void) { atomic_fetch_add(&forks, 1); }
static void watch_forks(void) { os_at_fork(NULL, NULL, count_fork); }

static bool left_behind(const worker *w) { return w->forks != atomic_load(&forks); }

// In the child of a fork: memory goes back, threads and locks are left alone.
static void worker_forget(worker *w) {
  alloc_delete(w->thread);
  channel_forget(w->to);
  channel_forget(w->from);
  w->thread = NULL;
  w->to = w->from = NULL;
}

static void worker_end(worker *w) {
  if (left_behind(w)) worker_forget(w);
  if (w->to) channel_shut(w->to);
  if (w->from) channel_shut(w->from);
  if (w->thread) os_thread_join(w->thread);
  w->thread = NULL;
  channel_delete(w->to);
  channel_delete(w->from);
  w->to = w->from = NULL;
  message_delete(w->start);
  w->start = NULL;
}

static void raise_if_left_behind(lua_State *L, const worker *w) {
  if (w->to && left_behind(w))
    binding_error(L, "worker: its thread runs in the process that forked this one; make a new one");
}

static int raise_ended(lua_State *L, const worker *w) {
  return binding_error(L, "worker ended: %s", w->error[0] ? w->error : "its function returned");
}

// worker:close(): ends it and waits; what was not received is lost
static int worker_close(lua_State *L) {
  worker_end(worker_check(L));
  return 0;
}

static int worker_send(lua_State *L) {
  worker *w = worker_check(L);
  message *m;
  luaL_checkany(L, 2);
  if (!w->to) binding_error(L, "worker: send after close");
  raise_if_left_behind(L, w);
  if (channel_is_closed(w->from)) raise_ended(L, w);
  binding_check(L, message_read(L, 2, &m));
  channel_send(w->to, m);
  return 0;
}

// worker:receive(seconds?) -> value, or nothing when the time ran out. Raises when the worker
// failed or ended, and when the interrupt key was pressed.
static int worker_receive(lua_State *L) {
  enum { SLICE_MS = 50 };
  binding_state *state = binding_here(L);
  worker *w = worker_check(L);
  double limit = luaL_optnumber(L, 2, -1), started = os_clock();
  if (!w->from) binding_error(L, "worker: receive after close");
  raise_if_left_behind(L, w);
  prepare(L);
  for (;;) {
    bool closed = channel_is_closed(w->from);   // asked first: nothing is sent afterwards
    double left = limit < 0 ? 1 : limit - (os_clock() - started);
    if (!(left > 0)) left = 0;
    message *m = channel_receive(w->from, left < SLICE_MS / 1e3 ? left : SLICE_MS / 1e3);
    if (m) return deliver(L, state, m);
    if (closed) return raise_ended(L, w);
    binding_check(L, engine_check_interrupt(state->engine));
    if (left == 0) return 0;
  }
}

static void set_field_of(lua_State *L, int target, int source, const char *key) {
  lua_getfield(L, source, key);
  lua_setfield(L, target, key);
}

// moon.worker_new(module, name, arguments?): calls require(module)[name](receive, send, arguments)
// in a thread and a Lua state of its own
static int worker_new(lua_State *L) {
  static int watched;
  binding_here(L);
  os_once(&watched, watch_forks);
  lua_settop(L, 3);
  luaL_checktype(L, 1, LUA_TSTRING);
  luaL_checktype(L, 2, LUA_TSTRING);
  lua_newtable(L);
  lua_pushvalue(L, 1);
  lua_setfield(L, 4, "module");
  lua_pushvalue(L, 2);
  lua_setfield(L, 4, "name");
  lua_pushvalue(L, 3);
  lua_setfield(L, 4, "arguments");
  lua_getglobal(L, "package");
  set_field_of(L, 4, 5, "path");
  set_field_of(L, 4, 5, "cpath");
  worker *w = lua_newuserdata(L, sizeof *w);
  memset(w, 0, sizeof *w);
  w->magic = &worker_magic;
  w->forks = atomic_load(&forks);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, -2);
  binding_check(L, message_read(L, 4, &w->start));
  binding_check(L, channel_new(&w->to));
  binding_check(L, channel_new(&w->from));
  binding_check(L, os_thread_start(&w->thread, 0, run_worker, w));
  return 1;
}

static const luaL_Reg methods[] = {
  { "send", worker_send }, { "receive", worker_receive }, { "close", worker_close }, { NULL, NULL },
};

void worker_open(lua_State *L, binding_state *state) {
  lua_pushlightuserdata(L, state);
  lua_newtable(L);
  lua_newtable(L);
  binding_functions(L, state, methods);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, worker_close);
  lua_setfield(L, -2, "__gc");
  lua_pushcclosure(L, worker_new, 2);
  lua_setfield(L, -2, "worker_new");
}
