// The engines of convolutions, for benches and the curious: which there are, which one is preferred
// and what each would cost on given shapes.
#include <string.h>

#include "device/cuda.h"

#include "lua/binding.h"

enum { CPU_AND_CUDA = 2 };

// Those of the CPU, and of CUDA once it is in use: a name may stand there more than once.
static moon_status all_engines(moon_engine *engine, conv2d_cost *costs, int *count) {
  const cuda_plugin *plugin;
  const device_kernels *kernels[CPU_AND_CUDA] = { device_cpu()->kernels };
  *count = 0;
  if (cuda_found()->name && cuda_open(&plugin) == MOON_OK && plugin->devices > 0)
    kernels[1] = plugin->device(0)->kernels;
  for (int i = 0; i < CPU_AND_CUDA && kernels[i]; i++) {
    int more;
    MOON_TRY(kernels[i]->conv2d_engines(engine, 0, NULL, NULL, NULL, NULL, costs + *count, &more));
    *count += more;
  }
  return MOON_OK;
}

// "implicit", "depthwise": each name once.
static void push_names(lua_State *L, const conv2d_cost *costs, int count) {
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  for (int i = 0; i < count; i++) {
    bool known = false;
    for (int j = 0; j < i; j++) known = known || strcmp(costs[j].name, costs[i].name) == 0;
    if (known) continue;
    luaL_addstring(&text, i > 0 ? ", \"" : "\"");
    luaL_addstring(&text, costs[i].name);
    luaL_addstring(&text, "\"");
  }
  luaL_pushresult(&text);
}

// moon.conv_engine(name?) -> the engine preferred for convolutions wherever it fits, on the CPU and
// on GPUs, "": the best
static int conv_engine(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  if (!lua_isnoneornil(L, 1)) {
    const char *name = luaL_checkstring(L, 1);
    conv2d_cost costs[CPU_AND_CUDA * CONV2D_MOST_ENGINES];
    int count = 0, at = 0;
    binding_check(L, all_engines(engine, costs, &count));
    while (at < count && strcmp(costs[at].name, name) != 0) at++;
    if (*name && (at == count || strlen(name) >= sizeof engine->conv_engine)) {
      push_names(L, costs, count);
      binding_error(L, "conv_engine: no engine is called \"%s\"; there are %s, and \"\" for the "
                    "best", name, lua_tostring(L, -1));
    }
    strcpy(engine->conv_engine, name);
  }
  lua_pushstring(L, engine->conv_engine);
  return 1;
}

// Element `i` of the table at `index`.
static int64_t number_in(lua_State *L, int index, int i) {
  int64_t value;
  lua_rawgeti(L, index, i);
  if (!binding_to_int64(L, -1, &value)) binding_error(L, "conv_costs: expected whole numbers");
  lua_pop(L, 1);
  return value;
}

// An array of shape (n, c, h, w) without data, channels last.
static device_array shape_at(lua_State *L, int index, int64_t bytes) {
  static const int place[4] = { 1, 3, 2, 0 };   // c, w, h, n: the innermost first
  device_array array = { .dtype = bytes == 8 ? MOON_F64 : MOON_F32, .ndim = 4 };
  int64_t stride = 1;
  luaL_checktype(L, index, LUA_TTABLE);
  for (int i = 0; i < 4; i++) {
    int64_t size = array.shape[place[i]] = number_in(L, index, place[i] + 1);
    if (size < 1) binding_error(L, "conv_costs: sizes must be at least 1");
    array.strides[place[i]] = stride;
    if (__builtin_mul_overflow(stride, size, &stride) || stride > INT64_MAX / 64)
      binding_error(L, "conv_costs: the shape is too large");
  }
  return array;
}

// core.conv_costs(direction, image, weight, result, numbers, bytes) -> { name = cost }; direction 0
// forward, 1 the image's gradient, 2 the weight's; numbers: stride, padding before and after,
// dilation, each of height and width, and groups; bytes of an element. moon.conv_engines calls it.
static int conv_costs(lua_State *L) {
  moon_engine *engine = binding_here(L)->engine;
  int direction = (int)luaL_checkinteger(L, 1), count = 0;
  int64_t bytes = luaL_checkinteger(L, 6);
  device_array image = shape_at(L, 2, bytes), weight = shape_at(L, 3, bytes);
  device_array result = shape_at(L, 4, bytes);
  conv2d_geometry g;
  conv2d_cost costs[CONV2D_MOST_ENGINES];
  luaL_checktype(L, 5, LUA_TTABLE);
  for (int i = 0; i < 2; i++) {
    g.stride[i] = number_in(L, 5, 1 + i);
    g.padding_before[i] = number_in(L, 5, 3 + i);
    g.padding_after[i] = number_in(L, 5, 5 + i);
    g.dilation[i] = number_in(L, 5, 7 + i);
  }
  g.groups = number_in(L, 5, 9);
  if (direction < 0 || direction > 2 || g.stride[0] < 1 || g.stride[1] < 1 || g.dilation[0] < 1 ||
      g.dilation[1] < 1 || g.groups < 1 || weight.shape[0] % g.groups != 0)
    binding_error(L, "conv_costs: the numbers describe no convolution");
  binding_check(L, device_default(engine)->kernels->conv2d_engines(
                       engine, direction, &g, &image, &weight, &result, costs, &count));
  lua_createtable(L, 0, count);
  for (int i = 0; i < count; i++) {
    if (costs[i].cost < 0) continue;
    lua_pushnumber(L, costs[i].cost);
    lua_setfield(L, -2, costs[i].name);
  }
  return 1;
}

static const luaL_Reg functions[] = {
  { "conv_engine", conv_engine }, { "conv_costs", conv_costs }, { NULL, NULL },
};

void conv_engines_open(lua_State *L, binding_state *state) {
  binding_functions(L, state, functions);
}
