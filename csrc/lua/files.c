// Files in Lua: moon.save and moon.load (safetensors), read_gzip.
//
// What the core needs during a call lies in userdata, so that an error raised half-way, by Lua for
// lack of memory too, leaves nothing behind.
#include <string.h>

#include "io/gzip.h"
#include "io/safetensors.h"
#include "lua/binding.h"

// A string without zeros in it; `what` names it in the message.
static const char *check_text(lua_State *L, int index, const char *function, const char *what) {
  if (lua_type(L, index) != LUA_TSTRING) {
    binding_error(L, "%s: %s must be a string, got %s", function, what, luaL_typename(L, index));
  }
  size_t length;
  const char *text = lua_tolstring(L, index, &length);
  if (strlen(text) != length) {
    binding_error(L, "%s: %s must not contain a zero byte", function, what);
  }
  return text;
}

static void check_table(lua_State *L, int index, const char *what) {
  if (lua_type(L, index) != LUA_TTABLE) {
    binding_error(L, "save: %s must be a table, got %s", what, luaL_typename(L, index));
  }
}

static size_t count_keys(lua_State *L, int table) {
  size_t count = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) count++;
  return count;
}

// Leaves a userdata with the entries on the stack; they point into the table, or to copies in the
// host's memory, which another table below it holds.
static safetensors_entry *collect_entries(lua_State *L, int table, size_t *count) {
  *count = count_keys(L, table);
  lua_newtable(L);
  int copies = lua_gettop(L);
  safetensors_entry *entries = lua_newuserdata(L, (*count + 1) * sizeof *entries);
  size_t i = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    const char *name = check_text(L, -2, "save", "a tensor's name");
    moon_tensor *tensor = tensor_at(L, -1);
    if (!tensor) {
      binding_error(L, "save: \"%s\" must be a tensor, got %s", name, luaL_typename(L, -1));
    }
    moon_tensor *on_host = binding_on_host(L, "save", tensor);
    if (on_host != tensor) lua_rawseti(L, copies, (int)i + 1);
    entries[i++] = (safetensors_entry){ name, on_host };
  }
  return entries;
}

static safetensors_note *collect_notes(lua_State *L, int table, size_t *count) {
  *count = 0;
  if (lua_isnoneornil(L, table)) return NULL;
  check_table(L, table, "metadata");
  *count = count_keys(L, table);
  safetensors_note *notes = lua_newuserdata(L, (*count + 1) * sizeof *notes);
  size_t i = 0;
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    const char *key = check_text(L, -2, "save", "a key of the metadata");
    notes[i++] = (safetensors_note){ key, check_text(L, -1, "save", "a value of the metadata") };
  }
  return notes;
}

// moon.save(path, {name = tensor, ...}, {key = "string", ...} or nil)
static int save(lua_State *L) {
  binding_state *state = binding_here(L);
  lua_settop(L, 3);
  const char *path = check_text(L, 1, "save", "path");
  check_table(L, 2, "tensors");
  size_t entry_count, note_count;
  safetensors_entry *entries = collect_entries(L, 2, &entry_count);
  safetensors_note *notes = collect_notes(L, 3, &note_count);
  binding_check(L, safetensors_write(state->engine, path, entry_count, entries, note_count, notes));
  return 0;
}

// -- loading

static int free_file(lua_State *L) {
  safetensors_file **guard = lua_touserdata(L, 1);
  safetensors_free(*guard);
  *guard = NULL;
  return 0;
}

// A place for the file that Lua frees if we do not get there.
static safetensors_file **push_guard(lua_State *L) {
  safetensors_file **guard = lua_newuserdata(L, sizeof *guard);
  *guard = NULL;
  lua_newtable(L);
  lua_pushcfunction(L, free_file);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return guard;
}

static void push_entries(lua_State *L, binding_state *state, const safetensors_file *file) {
  lua_newtable(L);
  for (size_t i = 0; i < file->entry_count; i++) {
    tensor_handle *handle = handle_push(L, state);
    handle_fill(handle, tensor_retain(file->entries[i].tensor));
    lua_setfield(L, -2, file->entries[i].name);
  }
}

static void push_notes(lua_State *L, const safetensors_file *file) {
  lua_newtable(L);
  for (size_t i = 0; i < file->note_count; i++) {
    lua_pushstring(L, file->notes[i].value);
    lua_setfield(L, -2, file->notes[i].key);
  }
}

// moon.load(path) -> {name = tensor, ...}, {key = "string", ...}
static int load(lua_State *L) {
  binding_state *state = binding_here(L);
  const char *path = check_text(L, 1, "load", "path");
  safetensors_file **guard = push_guard(L);
  binding_check(L, safetensors_read(state->engine, path, guard));
  push_entries(L, state, *guard);
  push_notes(L, *guard);
  safetensors_free(*guard);
  *guard = NULL;
  binding_collect_if_due(L, state);
  return 2;
}

// read_gzip(path) -> uint8 tensor: the file's bytes, decompressed where it is gzip
static int read_gzip(lua_State *L) {
  binding_state *state = binding_here(L);
  const char *path = check_text(L, 1, "read_gzip", "path");
  tensor_handle *handle = handle_push(L, state);
  moon_tensor *bytes;
  binding_check(L, gzip_read(state->engine, path, &bytes));
  handle_fill(handle, bytes);
  binding_collect_if_due(L, state);
  return 1;
}

static const luaL_Reg functions[] = {
  { "save", save }, { "load", load }, { "read_gzip", read_gzip }, { NULL, NULL },
};

void files_open(lua_State *L, binding_state *state) { binding_functions(L, state, functions); }
