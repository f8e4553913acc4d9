// Messages are trees of plain values; channels are linked lists under a mutex.
#include "lua/message.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"

enum { MAX_DEPTH = 32 };

typedef enum message_kind {
  MESSAGE_NIL, MESSAGE_BOOLEAN, MESSAGE_NUMBER, MESSAGE_INTEGER, MESSAGE_STRING, MESSAGE_TENSOR,
  MESSAGE_TABLE,
} message_kind;

struct message {
  message_kind kind;
  message *next;             // in a table: the next of key, value, key, value...; or in a channel
  union {
    bool boolean;
    double number;
    int64_t integer;
    moon_tensor *tensor;
    message *members;
  };
  size_t length;             // of the text behind this struct
  char text[];
};

void message_delete(message *m) {
  while (m) {
    message *next = m->next;
    if (m->kind == MESSAGE_TENSOR) tensor_release(m->tensor);
    if (m->kind == MESSAGE_TABLE) message_delete(m->members);   // at most MAX_DEPTH deep
    alloc_delete(m);
    m = next;
  }
}

static moon_status read_value(lua_State *L, int index, int depth, message **copied);

static moon_status read_members(lua_State *L, int index, int depth, message *table) {
  message **end = &table->members;
  if (depth == MAX_DEPTH)
    return moon_fail(MOON_BAD_ARGUMENT, "tables nest deeper than %d, or contain themselves",
                     MAX_DEPTH);
  if (!lua_checkstack(L, 6)) return moon_fail(MOON_OUT_OF_MEMORY, "no room on the Lua stack");
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    int top = lua_gettop(L);
    moon_status status = read_value(L, top - 1, depth + 1, end);
    if (status == MOON_OK) {
      end = &(*end)->next;
      status = read_value(L, top, depth + 1, end);
    }
    if (status != MOON_OK) {
      char key[64] = "a member";
      int type = lua_type(L, top - 1);
      if (type == LUA_TSTRING) snprintf(key, sizeof key, "%s", lua_tostring(L, top - 1));
      if (type == LUA_TNUMBER) snprintf(key, sizeof key, "[%g]", lua_tonumber(L, top - 1));
      lua_settop(L, top - 2);
      return moon_fail_in(status, "%s%s", key, depth + 1 < MAX_DEPTH ? ": " : "");
    }
    end = &(*end)->next;
  }
  return MOON_OK;
}

static moon_status read_tensor(lua_State *L, int index, message *m) {
  tensor_handle *handle = handle_at(L, index);
  if (!handle)
    return moon_fail(MOON_BAD_ARGUMENT, "a %s cannot cross to another Lua state; plain values and "
                     "tensors can", luaL_typename(L, index));
  if (!handle->tensor)
    return moon_fail(MOON_BAD_STATE, "a tensor without memory cannot cross to another Lua state");
  m->kind = MESSAGE_TENSOR;
  return tensor_alias(handle->tensor, &m->tensor);
}

static void read_number(lua_State *L, int index, message *m) {
  m->kind = MESSAGE_NUMBER;
  m->number = lua_tonumber(L, index);
#if LUA_VERSION_NUM >= 503
  if (lua_isinteger(L, index)) {
    m->kind = MESSAGE_INTEGER;
    m->integer = lua_tointeger(L, index);
  }
#endif
}

static moon_status read_value(lua_State *L, int index, int depth, message **copied) {
  message *m;
  size_t length = 0;
  const char *text = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &length) : NULL;
  MOON_TRY(alloc_new(sizeof *m + length, (void **)&m));
  moon_status status = MOON_OK;
  switch (lua_type(L, index)) {
    case LUA_TNIL: m->kind = MESSAGE_NIL; break;
    case LUA_TBOOLEAN:
      m->kind = MESSAGE_BOOLEAN;
      m->boolean = lua_toboolean(L, index);
      break;
    case LUA_TNUMBER: read_number(L, index, m); break;
    case LUA_TSTRING:
      m->kind = MESSAGE_STRING;
      m->length = length;
      memcpy(m->text, text, length);
      break;
    case LUA_TTABLE:
      m->kind = MESSAGE_TABLE;
      status = read_members(L, index, depth, m);
      break;
    default: status = read_tensor(L, index, m);
  }
  if (status != MOON_OK) {
    if (m->kind == MESSAGE_TENSOR) m->kind = MESSAGE_NIL;
    message_delete(m);
    return status;
  }
  *copied = m;
  return MOON_OK;
}

moon_status message_read(lua_State *L, int index, message **copied) {
  if (index < 0) index = lua_gettop(L) + index + 1;
  return read_value(L, index, 0, copied);
}

static void push_members(lua_State *L, binding_state *state, const message *m) {
  lua_newtable(L);
  for (const message *key = m->members; key; key = key->next->next) {
    message_push(L, state, key);
    message_push(L, state, key->next);
    lua_rawset(L, -3);
  }
}

void message_push(lua_State *L, binding_state *state, const message *m) {
  luaL_checkstack(L, 4, "a message nests too deep");
  switch (m->kind) {
    case MESSAGE_NIL: lua_pushnil(L); break;
    case MESSAGE_BOOLEAN: lua_pushboolean(L, m->boolean); break;
    case MESSAGE_NUMBER: lua_pushnumber(L, m->number); break;
    case MESSAGE_INTEGER: binding_push_int64(L, m->integer); break;
    case MESSAGE_STRING: lua_pushlstring(L, m->text, m->length); break;
    case MESSAGE_TENSOR: {
      tensor_handle *handle = handle_push(L, state);
      handle_fill(handle, tensor_retain(m->tensor));
      tensor_cross(m->tensor);
      // Charged to the state that made it, but it is this one's collector that can free it.
      atomic_fetch_add(&state->engine->memory.since_collect,
                       (int64_t)m->tensor->storage->bytes + ALLOC_BLOCK_COST);
      break;
    }
    case MESSAGE_TABLE: push_members(L, state, m); break;
  }
}

// -- channels

struct channel {
  os_mutex *mutex;
  os_condition *changed;
  message *first, *last;
  bool closed;
};

moon_status channel_new(channel **made) {
  channel *c;
  MOON_TRY(alloc_new(sizeof *c, (void **)&c));
  moon_status status = os_mutex_new(&c->mutex);
  if (status == MOON_OK) status = os_condition_new(&c->changed);
  if (status != MOON_OK) {
    if (c->mutex) os_mutex_delete(c->mutex);
    alloc_delete(c);
    return status;
  }
  *made = c;
  return MOON_OK;
}

void channel_delete(channel *c) {
  if (!c) return;
  message_delete(c->first);
  os_condition_delete(c->changed);
  os_mutex_delete(c->mutex);
  alloc_delete(c);
}

// The locks may be held by a thread that is not in this process; to destroy them would be
// undefined.
void channel_forget(channel *c) {
  if (!c) return;
  message_delete(c->first);
  alloc_delete(c->changed);
  alloc_delete(c->mutex);
  alloc_delete(c);
}

void channel_send(channel *c, message *m) {
  os_mutex_lock(c->mutex);
  if (c->closed) {
    os_mutex_unlock(c->mutex);
    message_delete(m);
    return;
  }
  if (c->last) c->last->next = m;
  else c->first = m;
  c->last = m;
  os_condition_broadcast(c->changed);
  os_mutex_unlock(c->mutex);
}

static message *close_and_take(channel *c, bool take) {
  os_mutex_lock(c->mutex);
  message *waiting = take ? c->first : NULL;
  if (take) c->first = c->last = NULL;
  c->closed = true;
  os_condition_broadcast(c->changed);
  os_mutex_unlock(c->mutex);
  return waiting;
}

void channel_close(channel *c) { (void)close_and_take(c, false); }

void channel_shut(channel *c) { message_delete(close_and_take(c, true)); }

bool channel_is_closed(channel *c) {
  os_mutex_lock(c->mutex);
  bool closed = c->closed;
  os_mutex_unlock(c->mutex);
  return closed;
}

message *channel_receive(channel *c, double seconds) {
  double deadline = os_clock() + seconds;
  os_mutex_lock(c->mutex);
  while (!c->first && !c->closed) {
    double left = deadline - os_clock();
    if (seconds < 0) os_condition_wait(c->changed, c->mutex);
    else if (left <= 0 || !os_condition_wait_for(c->changed, c->mutex, left)) break;
  }
  message *m = c->first;
  if (m) {
    c->first = m->next;
    if (!c->first) c->last = NULL;
    m->next = NULL;
  }
  os_mutex_unlock(c->mutex);
  return m;
}
