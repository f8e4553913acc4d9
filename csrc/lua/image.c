// Pictures in Lua: image_load and image_save, which moon.image wraps.
#include <string.h>

#include "image/image.h"
#include "lua/binding.h"

static void fail_source(lua_State *L) {
  binding_error(L, "image_load: expected a path or {bytes = \"...\"}, got %s", luaL_typename(L, 1));
}

// The channels wanted, from the options at `index`: 1, 3, 4, or 0 for the file's own.
static int read_channels(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return 0;
  if (lua_type(L, index) != LUA_TTABLE) {
    binding_error(L, "image_load: options must be a table, got %s", luaL_typename(L, index));
  }
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "channels") != 0) {
      binding_error(L, "image_load: unknown option \"%s\"; it knows channels",
                    lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2));
    }
  }
  lua_getfield(L, index, "channels");
  int64_t channels = 0;
  bool given = !lua_isnil(L, -1);
  if (given && (!binding_to_int64(L, -1, &channels) ||
                (channels != 1 && channels != 3 && channels != 4))) {
    binding_error(L, "image_load: channels must be 1, 3 or 4");
  }
  lua_pop(L, 1);
  return (int)channels;
}

// image_load(path or {bytes = string}, {channels = 1, 3 or 4}) -> uint8 tensor c x h x w
static int load(lua_State *L) {
  binding_state *state = binding_here(L);
  lua_settop(L, 2);
  int channels = read_channels(L, 2);
  const char *path = NULL, *bytes = NULL;
  size_t count = 0;
  if (lua_type(L, 1) == LUA_TTABLE) {
    lua_getfield(L, 1, "bytes");
    if (lua_type(L, -1) != LUA_TSTRING) fail_source(L);
    bytes = lua_tolstring(L, -1, &count);
  } else {
    if (lua_type(L, 1) != LUA_TSTRING) fail_source(L);
    path = lua_tolstring(L, 1, &count);
    if (strlen(path) != count) binding_error(L, "image_load: path must not contain a zero byte");
  }
  tensor_handle *handle = handle_push(L, state);
  moon_tensor *image;
  if (path) {
    binding_check(L, image_decode_file(state->engine, path, channels, &image));
  } else {
    binding_check(L, image_decode(state->engine, "image_load", bytes, count, channels, &image));
  }
  handle_fill(handle, image);
  binding_collect_if_due(L, state);
  return 1;
}

// image_save(path, tensor): c x h x w or h x w; uint8, or floats from 0 to 1
static int save(lua_State *L) {
  binding_state *state = binding_here(L);
  size_t length;
  if (lua_type(L, 1) != LUA_TSTRING) {
    binding_error(L, "image_save: path must be a string, got %s", luaL_typename(L, 1));
  }
  const char *path = lua_tolstring(L, 1, &length);
  if (strlen(path) != length) binding_error(L, "image_save: path must not contain a zero byte");
  moon_tensor *image = tensor_check(L, 2, "image_save", "image");
  binding_check(L, image_encode_png_file(state->engine, path, image));
  return 0;
}

static const luaL_Reg functions[] = {
  { "image_load", load }, { "image_save", save }, { NULL, NULL },
};

void image_open(lua_State *L, binding_state *state) { binding_functions(L, state, functions); }
