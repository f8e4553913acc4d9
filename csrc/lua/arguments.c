// Reads a Lua call's arguments into op_values, as the operator's schema says: positional ones in
// order, then a trailing table of options by name. One reader a parameter kind.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lua/binding.h"
#include "ops/support.h"

typedef struct reader {
  lua_State *L;
  const op_descriptor *op;
  const char *name;        // as the user called it
  binding_call *call;
} reader;

// Whether a call that fails at this parameter may be a method called with "." for ":".
static const char *colon_hint(const reader *r, const op_param *param) {
  const op_signature *s = r->op->signature;
  if (param != s->params || param->kind != OP_TENSOR) return "";
  return lua_pushfstring(r->L, "; a method is called with a colon, x:%s(...)", r->name);
}

static void refuse(const reader *r, const op_param *param, const char *expected, int index) {
  const char *type = luaL_typename(r->L, index);
  binding_error(r->L, "%s: %s must be %s, got %s%s", r->name, param->name, expected, type,
                colon_hint(r, param));
}

bool binding_to_int64(lua_State *L, int index, int64_t *value) {
  if (lua_type(L, index) != LUA_TNUMBER) return false;
#if LUA_VERSION_NUM >= 503
  if (lua_isinteger(L, index)) {
    *value = lua_tointeger(L, index);
    return true;
  }
#endif
  double number = lua_tonumber(L, index);
  if (!(number >= -9223372036854775808.0 && number < 9223372036854775808.0)) return false;
  *value = (int64_t)number;
  return (double)*value == number;
}

void binding_push_int64(lua_State *L, int64_t value) {
#if LUA_VERSION_NUM >= 503
  lua_pushinteger(L, value);
#else
  double number = (double)value;
  if (value > (INT64_C(1) << 53) || value < -(INT64_C(1) << 53)) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    binding_error(L, "%s does not fit a Lua number exactly (limit 2^53); cast to float64 first",
                  text);
  }
  lua_pushnumber(L, number);
#endif
}

static int64_t read_int(const reader *r, const op_param *param, int index) {
  int64_t value = 0;
  if (!binding_to_int64(r->L, index, &value)) refuse(r, param, "a whole number", index);
  return value;
}

// Users count from 1, the core from 0; from the end both count -1, -2, ...
static int64_t read_position(const reader *r, const op_param *param, int index) {
  int64_t value = read_int(r, param, index);
  if (value == 0)
    binding_error(r->L, "%s: %s counts from 1, or from -1 at the end; got 0", r->name, param->name);
  return value > 0 ? value - 1 : value;
}

static bool has_string_keys(lua_State *L, int index) {
  bool found = false;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
    if (lua_type(L, -2) == LUA_TSTRING) found = true;
  return found;
}

static void read_list(const reader *r, const op_param *param, int index, op_value *value) {
  lua_State *L = r->L;
  size_t count = lua_rawlen(L, index);
  if (count > MOON_MAX_DIMS)
    binding_error(L, "%s: %s has %d numbers, at most %d are taken", r->name, param->name,
                  (int)count, MOON_MAX_DIMS);
  value->ints.count = (int)count;
  if (count == 0 && has_string_keys(L, index))
    binding_error(L, "%s: %s must be a list of numbers, got a table of options; options come last",
                  r->name, param->name);
  for (int i = 0; i < (int)count; i++) {
    lua_rawgeti(L, index, i + 1);
    value->ints.v[i] =
        param->kind == OP_DIMS ? read_position(r, param, -1) : read_int(r, param, -1);
    lua_pop(L, 1);
  }
}

static const char *const count_words[] = { "any length", "one", "two", "three" };

// One number for all of an int[2] or int[3].
static void repeat_first(const op_param *param, op_value *value) {
  for (int i = 1; i < param->fixed; i++) value->ints.v[i] = value->ints.v[0];
  if (param->fixed) value->ints.count = param->fixed;
}

// A list in a table, or a run of numbers; gives how many stack values were used.
static int read_ints(const reader *r, const op_param *param, int index, int last, op_value *value) {
  lua_State *L = r->L;
  if (lua_istable(L, index)) {
    read_list(r, param, index, value);
    if (value->ints.count == 1) repeat_first(param, value);
    if (param->fixed && value->ints.count != param->fixed)
      binding_error(L, "%s: %s must be a number or a list of %s, got %d", r->name, param->name,
                    count_words[param->fixed], value->ints.count);
    return 1;
  }
  int count = 0;
  const op_param *end = r->op->signature->params + r->op->signature->param_count;
  bool is_last = param + 1 == end, dims_follow = !is_last && param[1].kind == OP_DIMS;
  bool run = !param->fixed && (is_last || (param->kind == OP_INTS && !dims_follow));
  do {
    if (count == MOON_MAX_DIMS)
      binding_error(L, "%s: %s takes at most %d numbers", r->name, param->name, MOON_MAX_DIMS);
    value->ints.v[count] = param->kind == OP_DIMS ? read_position(r, param, index + count)
                                                  : read_int(r, param, index + count);
    count++;
  } while (run && index + count <= last && lua_type(L, index + count) == LUA_TNUMBER);
  value->ints.count = count;
  repeat_first(param, value);
  return count;
}

// -- pads: a word, a number for every side, or a list of a number or {before, after} a dimension

static void refuse_pads(const reader *r, const op_param *param) {
  static const char *const examples[] = { "", "{1} or {{1, 2}}", "{1, 2} or {{1, 2}, {0, 0}}",
                                          "{1, 2, 0} or {{1, 2}, {0, 0}, {1, 1}}" };
  binding_error(r->L, "%s: %s must be a number, a list such as %s, or one of \"same\", \"valid\", "
                "\"full\"", r->name, param->name, examples[param->fixed]);
}

static void read_pads_word(const reader *r, const op_param *param, int index, op_value *value) {
  static const char *const words[] = { [OP_PADS_SAME] = "same", [OP_PADS_VALID] = "valid",
                                       [OP_PADS_FULL] = "full" };
  value->ints.count = 0;
  for (int word = OP_PADS_SAME; word <= OP_PADS_FULL; word++) {
    if (strcmp(words[word], lua_tostring(r->L, index)) != 0) continue;
    value->ints.word = word;
    return;
  }
  refuse_pads(r, param);
}

// The entry on top of the stack: what stands before and after one dimension.
static void read_sides(const reader *r, const op_param *param, int64_t sides[2]) {
  lua_State *L = r->L;
  if (!lua_istable(L, -1)) {
    if (lua_type(L, -1) != LUA_TNUMBER) refuse_pads(r, param);
    sides[0] = sides[1] = read_int(r, param, -1);
    return;
  }
  if (lua_rawlen(L, -1) != 2) refuse_pads(r, param);
  for (int i = 0; i < 2; i++) {
    lua_rawgeti(L, -1, i + 1);
    sides[i] = read_int(r, param, -1);
    lua_pop(L, 1);
  }
}

static void read_pads(const reader *r, const op_param *param, int index, op_value *value) {
  lua_State *L = r->L;
  value->ints.word = OP_PADS_NUMBERS;
  if (lua_type(L, index) == LUA_TSTRING) {
    read_pads_word(r, param, index, value);
    return;
  }
  if (!lua_istable(L, index)) {
    value->ints.v[0] = read_int(r, param, index);
    value->ints.count = 1;
    return;
  }
  int entries = (int)lua_rawlen(L, index);
  if (entries != param->fixed && entries != 1) refuse_pads(r, param);
  for (int i = 0; i < param->fixed; i++) {
    lua_rawgeti(L, index, entries == 1 ? 1 : i + 1);
    read_sides(r, param, &value->ints.v[2 * i]);
    lua_pop(L, 1);
  }
  value->ints.count = 2 * param->fixed;
}

// The list itself stays on top of the stack, where it lives as long as the call; the table keeps
// its tensors alive.
static void read_tensors(const reader *r, const op_param *param, int index, op_value *value) {
  lua_State *L = r->L;
  luaL_checkstack(L, 4, "no room for a list");
  bool lone = param->alone && handle_at(L, index);
  if (!lone && !lua_istable(L, index))
    refuse(r, param, param->alone ? "a tensor or a list of them" : "a list of tensors", index);
  int count = lone ? 1 : (int)lua_rawlen(L, index);
  moon_tensor **list = lua_newuserdata(L, ((size_t)count + 1) * sizeof *list);   // Lua frees it
  for (int i = 0; i < count; i++) {
    if (lone) lua_pushvalue(L, index);
    else lua_rawgeti(L, index, i + 1);
    list[i] = tensor_at(L, -1);
    if (list[i]) r->call->carries |= handle_at(L, -1)->carries;
    else
      binding_error(L, "%s: member %d of %s must be a tensor, got %s", r->name, i + 1, param->name,
                    luaL_typename(L, -1));
    lua_pop(L, 1);
  }
  value->tensors.list = list;
  value->tensors.count = count;
}

static void read_choice(const reader *r, const op_param *param, int index, op_value *value) {
  lua_State *L = r->L;
  char known[OP_MAX_CHOICES * 20] = "";
  if (lua_type(L, index) != LUA_TSTRING) refuse(r, param, "a string", index);
  const char *text = lua_tostring(L, index);
  for (int i = 0; i < param->choice_count; i++) {
    if (strcmp(param->choices[i], text) == 0) {
      value->integer = i;
      return;
    }
    snprintf(known + strlen(known), sizeof known - strlen(known), "%s\"%s\"", i ? ", " : "",
             param->choices[i]);
  }
  binding_error(L, "%s: %s must be one of %s, got \"%s\"", r->name, param->name, known, text);
}

moon_dtype binding_read_dtype(lua_State *L, int index, const char *name) {
  moon_dtype dtype = MOON_F32;
  if (lua_type(L, index) != LUA_TSTRING)
    binding_error(L, "%s: dtype must be a name such as \"float32\", got %s", name,
                  luaL_typename(L, index));
  if (!dtype_by_name(lua_tostring(L, index), &dtype))
    binding_error(L, "%s: there is no dtype \"%s\"; the types are float32, float64, float16, "
                  "bfloat16, int64, int32, uint8, bool", name, lua_tostring(L, index));
  return dtype;
}

static void read_number(const reader *r, const op_param *param, int index, op_value *value) {
  if (lua_type(r->L, index) != LUA_TNUMBER) refuse(r, param, "a number", index);
  value->number = lua_tonumber(r->L, index);
}

static void read_tensor(const reader *r, const op_param *param, int type, int index,
                        op_value *value) {
  int position = (int)(param - r->op->signature->params);
  if (param->kind == OP_SCALAR_OR_TENSOR && type == LUA_TNUMBER) {
    r->call->is_number[position] = r->call->numbered = true;
    r->call->numbers[position] = binding_to_number(r->L, index);
    value->tensor = NULL;
    return;
  }
  const tensor_handle *handle = handle_at(r->L, index);
  value->tensor = handle && handle->tensor ? handle->tensor : tensor_at(r->L, index);
  if (value->tensor) r->call->carries |= handle->carries;
  else
    refuse(r, param, param->kind == OP_TENSOR ? "a tensor" : "a tensor or a number", index);
}

static void read_device(const reader *r, int index, op_value *value) {
  if (lua_type(r->L, index) != LUA_TSTRING)
    binding_error(r->L, "%s: device must be a name such as \"cpu\"", r->name);
  moon_status status = device_by_name(lua_tostring(r->L, index), &value->device);
  if (status != MOON_OK) binding_check(r->L, moon_fail_in(status, "%s: ", r->name));
}

// Reads one parameter from `index`, where a value of Lua's `type` stands; gives how many stack
// values it took.
static int read_param(const reader *r, const op_param *param, int type, int index, int last) {
  lua_State *L = r->L;
  op_value *value = &r->call->values[param - r->op->signature->params];
  if (type == LUA_TNIL) {
    if (!param->optional) refuse(r, param, "given", index);
    return 1;
  }
  value->given = true;
  switch (param->kind) {
    case OP_TENSOR:
    case OP_SCALAR_OR_TENSOR: read_tensor(r, param, type, index, value); break;
    case OP_TENSORS: read_tensors(r, param, index, value); break;
    case OP_INT: value->integer = read_int(r, param, index); break;
    case OP_INDEX:
    case OP_DIM: value->integer = read_position(r, param, index); break;
    case OP_NUMBER: read_number(r, param, index, value); break;
    case OP_BOOL:
      if (type != LUA_TBOOLEAN) refuse(r, param, "true or false", index);
      value->boolean = lua_toboolean(L, index);
      break;
    case OP_STRING:
      if (type != LUA_TSTRING) refuse(r, param, "a string", index);
      value->string = lua_tostring(L, index);
      break;
    case OP_DTYPE: value->dtype = binding_read_dtype(L, index, r->name); break;
    case OP_DEVICE: read_device(r, index, value); break;
    case OP_INTS:
    case OP_DIMS: return read_ints(r, param, index, last, value);
    case OP_CHOICE: read_choice(r, param, index, value); break;
    case OP_PADS: read_pads(r, param, index, value); break;
  }
  return 1;
}

// -- options

static bool takes_list(const op_param *param) {
  return (param->kind == OP_INTS && !param->fixed) || param->kind == OP_DIMS ||
         param->kind == OP_TENSORS;
}

// Whether the table at `index` holds options rather than the value of `next`.
static bool is_options(const reader *r, const op_param *next, int index) {
  lua_State *L = r->L;
  if (has_string_keys(L, index)) return true;
  return lua_rawlen(L, index) == 0 && !(next && takes_list(next));
}

static void unknown_option(const reader *r, const char *key, int first_option) {
  const op_signature *s = r->op->signature;
  luaL_Buffer known;
  luaL_buffinit(r->L, &known);
  for (int i = first_option; i < s->param_count; i++) {
    if (i > first_option) luaL_addstring(&known, ", ");
    luaL_addstring(&known, s->params[i].name);
  }
  luaL_pushresult(&known);
  binding_error(r->L, "%s: there is no option \"%s\"; the options are %s", r->name, key,
                first_option < s->param_count ? lua_tostring(r->L, -1) : "none");
}

// `taken`: parameters already given by position.
static void read_options(const reader *r, int index, int taken) {
  lua_State *L = r->L;
  const op_signature *s = r->op->signature;
  luaL_checkstack(L, 8, "no room for options");
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING)
      binding_error(L, "%s: options are given by name, as in {%s = ...}", r->name,
                    s->params[s->param_count - 1].name);
    const char *key = lua_tostring(L, -2);
    int i = 0;
    while (i < s->param_count && strcmp(s->params[i].name, key) != 0) i++;
    if (i == s->param_count) unknown_option(r, key, taken);
    if (i < taken)
      binding_error(L, "%s: %s is given twice, by position and as an option", r->name, key);
    int top = lua_gettop(L);
    read_param(r, &s->params[i], lua_type(L, top), top, top);
    if (lua_gettop(L) > top) lua_insert(L, index + 1);   // a list of tensors: below key and value
  }
}

static void require_all(const reader *r, int given) {
  const op_signature *s = r->op->signature;
  for (int i = 0; i < s->param_count; i++) {
    op_value *value = &r->call->values[i];
    if (value->given) continue;
    if (s->params[i].has_default) *value = s->params[i].default_value;
    else if (!s->params[i].optional && i == 0 && given == 0 && s->params[0].kind == OP_TENSOR)
      binding_error(r->L, "%s: %s must be a tensor, got nothing; a method is called with a colon, "
                    "x:%s(...)", r->name, s->params[0].name, r->name);
    else if (!s->params[i].optional)
      binding_error(r->L, "%s: %s is missing; the call is %s%s, or as a method, with a colon, "
                    "x:%s(...)",
                    r->name, s->params[i].name, r->name, r->op->schema, r->name);
  }
}

bool arguments_read_tensors(lua_State *L, const op_descriptor *op, int first, binding_call *call) {
  const op_signature *s = op->signature;
  bool carries = false;
  if (!s->tensors_only || lua_gettop(L) - first + 1 != s->param_count) return false;
  for (int i = 0; i < s->param_count; i++) {
    const tensor_handle *handle = handle_at(L, first + i);
    if (!handle || !handle->tensor) return false;
    call->values[i].given = true;
    call->values[i].tensor = handle->tensor;
    carries |= handle->carries;
  }
  call->count = s->param_count;
  call->carries = carries;
  call->numbered = false;
  return true;
}

void arguments_read(lua_State *L, const op_descriptor *op, const char *name, int first,
                    binding_call *call) {
  const op_signature *s = op->signature;
  reader r = { L, op, name, call };
  int last = lua_gettop(L), index = first, param = 0;
  call->count = s->param_count;
  call->carries = call->numbered = false;
  for (int i = 0; i < call->count; i++) {
    call->values[i].given = false;
    call->values[i].tensors.list = NULL;
    call->values[i].tensors.count = 0;
    call->is_number[i] = false;
    call->made[i] = NULL;
  }
  while (index <= last && param < s->param_count) {
    int type = lua_type(L, index);
    if (index == last && type == LUA_TTABLE && is_options(&r, &s->params[param], index)) break;
    index += read_param(&r, &s->params[param++], type, index, last);
  }
  if (index == last && lua_istable(L, index) && is_options(&r, NULL, index)) {
    read_options(&r, index, param);
    index++;
  }
  if (index <= last)
    binding_error(L, "%s: too many arguments; the call is %s%s", name, name, op->schema);
  require_all(&r, last - first + 1);
}

// -- numbers beside tensors

static const moon_tensor *first_tensor(const op_descriptor *op, const binding_call *call) {
  for (int i = 0; i < op->signature->param_count; i++) {
    op_kind kind = op->signature->params[i].kind;
    if (kind != OP_TENSOR && kind != OP_SCALAR_OR_TENSOR) continue;
    // A condition or mask says nothing about the type of the values beside it.
    const char *name = op->signature->params[i].name;
    if (strcmp(name, "mask") == 0 || strcmp(name, "condition") == 0) continue;
    if (call->values[i].tensor) return call->values[i].tensor;
  }
  return NULL;
}

binding_number binding_to_number(lua_State *L, int index) {
  binding_number number = { .value = lua_tonumber(L, index) };
  number.is_whole = binding_to_int64(L, index, &number.whole);
  return number;
}

bool binding_holds(moon_dtype dtype, int64_t whole) {
  switch (dtype) {
    case MOON_I32: return whole >= INT32_MIN && whole <= INT32_MAX;
    case MOON_U8: return whole >= 0 && whole <= UINT8_MAX;
    case MOON_BOOL: return whole == 0 || whole == 1;
    default: return true;
  }
}

moon_status binding_scalar(binding_state *state, binding_number number, moon_dtype dtype,
                           moon_tensor **scalar) {
  moon_tensor *made;
  if (dtype_is_float(dtype)) return tensor_new_scalar(state->engine, dtype, number.value, scalar);
  if (!number.is_whole && isfinite(number.value) && number.value != floor(number.value))
    return moon_fail(MOON_BAD_DTYPE, "is the fraction %.14g beside a tensor of %s; cast the tensor "
                     "with :to \"float32\"", number.value, dtype_name(dtype));
  if (isnan(number.value))
    return moon_fail(MOON_BAD_DTYPE, "is nan, which a tensor of %s cannot hold", dtype_name(dtype));
  if (!number.is_whole || !binding_holds(dtype, number.whole))
    return moon_fail(MOON_BAD_DTYPE, "is %.14g, which a tensor of %s cannot hold", number.value,
                     dtype_name(dtype));
  MOON_TRY(tensor_new_scalar(state->engine, dtype, 0, &made));
  dtype_store_int(dtype, tensor_data(made), number.whole);
  *scalar = made;
  return MOON_OK;
}

moon_status binding_beside(binding_state *state, const moon_tensor *beside,
                           moon_tensor **scalar) {
  moon_tensor *made = *scalar;
  if (tensor_device(beside) == tensor_device(made)) return MOON_OK;
  MOON_TRY(ops_to_device(state->engine, made, tensor_device(beside), scalar));
  tensor_release(made);
  return MOON_OK;
}

moon_status arguments_make_scalars(binding_state *state, const op_descriptor *op, const char *name,
                                   binding_call *call) {
  const op_signature *s = op->signature;
  const moon_tensor *beside = NULL;
  for (int i = 0; call->numbered && i < s->param_count; i++) {
    if (!call->is_number[i]) continue;
    if (!beside) beside = first_tensor(op, call);
    moon_status status = binding_scalar(state, call->numbers[i], beside ? beside->dtype : MOON_F32,
                                        &call->made[i]);
    if (status == MOON_OK && beside) status = binding_beside(state, beside, &call->made[i]);
    if (status != MOON_OK) return moon_fail_in(status, "%s: %s ", name, s->params[i].name);
    call->values[i].tensor = call->made[i];
  }
  return MOON_OK;
}

void arguments_close(binding_call *call) {
  for (int i = 0; call->numbered && i < call->count; i++)
    if (call->made[i]) tensor_release(call->made[i]);
}

int binding_read_shape(lua_State *L, int index, int last, const char *name,
                       int64_t shape[MOON_MAX_DIMS]) {
  bool table = lua_istable(L, index);
  int count = table ? (int)lua_rawlen(L, index) : last - index + 1;
  if (count > MOON_MAX_DIMS)
    binding_error(L, "%s: a shape has at most %d sizes, got %d", name, MOON_MAX_DIMS, count);
  for (int i = 0; i < count; i++) {
    if (table) lua_rawgeti(L, index, i + 1);
    else lua_pushvalue(L, index + i);
    if (!binding_to_int64(L, -1, &shape[i]))
      binding_error(L, "%s: size %d must be a whole number, got %s", name, i + 1,
                    luaL_typename(L, -1));
    lua_pop(L, 1);
  }
  return count;
}
