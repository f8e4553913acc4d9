// The tape calls Lua: custom functions, checkpoints and hooks on gradients.
//
// The walk runs in C below a Lua call of backward or grad, and a node of it calls Lua again. All
// that happens in one protected call, so that no error of Lua jumps across the core; the error's
// text becomes the status' sentence, and anything that is no text is raised again as it was when
// the core has cleaned up. What the node stands for is found by number (carry.c).
#include <string.h>

#include "autograd/anomaly.h"
#include "autograd/custom.h"
#include "autograd/node.h"
#include "autograd/tape.h"
#include "base/alloc.h"
#include "lua/binding.h"

// -- calling Lua from a walk

// Whose Lua calls which, so that the innermost walk's thread runs it; binding_here keeps `running`.
static moon_status call_lua(binding_state *state, lua_CFunction body, void *argument) {
  lua_State *L = state->running;
  int top = lua_gettop(L);
  bool enabled = state->engine->grad_enabled;
  bool watched = engine_observe_results(state->engine, state->engine->observers & OBSERVE_FINITE);
  int failed = binding_protect(L, body, argument);
  state->running = L;
  if (state->engine) {
    state->engine->grad_enabled = enabled;
    engine_observe_results(state->engine, watched);
  }
  if (!failed) return MOON_OK;
  if (lua_gettop(L) > top && lua_type(L, -1) != LUA_TSTRING) {
    state->thrown = lua_gettop(L);   // binding_raise takes it from there
    return moon_fail(MOON_BAD_STATE, "an error that is no text");
  }
  const char *text = lua_gettop(L) > top ? lua_tostring(L, -1) : "out of memory for Lua";
  moon_status status = moon_fail(MOON_BAD_STATE, "%s%s", text, strstr(text, "attempt to yield")
                                 ? "; what a walk calls cannot yield: it runs to its end" : "");
  lua_settop(L, top);
  return status;
}

// A tensor for Lua in a walk: it keeps its own reference. Where it lies on the tape it carries
// what the walk does.
static void push_walked(lua_State *L, binding_state *state, moon_tensor *tensor) {
  if (!tensor) {
    lua_pushnil(L);
    return;
  }
  tensor_push(L, state, NULL);
  handle_fill(handle_at(L, lua_gettop(L)), tensor_retain(tensor));
  if (!tape_requires_grad(tensor)) return;
  carry_walk_push(L, state);
  carry_set(L, lua_gettop(L) - 1);
}

// -- functions

typedef struct function_turn {
  binding_state *state;
  tape_custom *custom;
  op_backward_call *call;
  moon_tensor **saved;
} function_turn;

static void push_saved(lua_State *L, const function_turn *turn) {
  int count = turn->custom->saved_count;
  custom_peek_saved(turn->custom, turn->call, turn->saved);
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    push_walked(L, turn->state, turn->saved[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static void push_zeros(lua_State *L, binding_state *state, const op_input *like) {
  moon_tensor *zeros;
  tensor_handle *handle = handle_push(L, state);
  binding_check(L, tensor_new(state->engine, like->device, like->dtype, like->ndim, like->shape,
                              &zeros));
  handle_fill(handle, zeros);
  device_array array = tensor_array(zeros);
  binding_check(L, tensor_kernels(zeros)->fill(state->engine, 0, &array));
}

// Where nothing arrived, zeros; nil for a result that can have no gradient.
static void push_grads(lua_State *L, const function_turn *turn) {
  int count = turn->custom->result_count;
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    moon_tensor *gradient = turn->call->grads[i];
    if (!gradient && !dtype_is_float(turn->custom->results[i].dtype)) continue;
    if (gradient) push_walked(L, turn->state, gradient);
    else push_zeros(L, turn->state, &turn->custom->results[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static void check_gradient(lua_State *L, const function_turn *turn, int i, const moon_tensor *g) {
  const op_input *input = &turn->call->list_inputs[i];
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  if (g->dtype == input->dtype && g->ndim == input->ndim &&
      memcmp(g->shape, input->shape, (size_t)g->ndim * sizeof *g->shape) == 0)
    return;
  lua_pushfstring(L, "the gradient of its tensor %d must be %s of %s like that, got %s of %s",
                  i + 1, dtype_name(input->dtype), shape_text(input->ndim, input->shape, a),
                  dtype_name(g->dtype), tensor_shape_text(g, b));
  lua_error(L);
}

// The table of gradients on top of the stack, one an input.
static void take_gradients(lua_State *L, const function_turn *turn) {
  int table = lua_gettop(L);
  for (int i = 0; i < turn->call->args[0].tensors.count; i++) {
    lua_rawgeti(L, table, i + 1);
    moon_tensor *gradient = tensor_at(L, -1);
    if (gradient && turn->call->list_needs[i]) {
      check_gradient(L, turn, i, gradient);
      carry_walk_add(L, turn->state, lua_gettop(L));
      turn->call->list_out[i] = tensor_retain(gradient);
    }
    lua_pop(L, 1);
  }
}

// An open node's turn gave two lists: results of the new run, and the gradients of each or false.
// What the results carry must outlive the walk's way through them.
static void take_continuation(lua_State *L, const function_turn *turn) {
  int results = lua_gettop(L) - 1, count = (int)lua_rawlen(L, results);
  moon_tensor **list = lua_newuserdata(L, (2 * (size_t)count + 1) * sizeof *list);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, results, i + 1);
    list[i] = tensor_at(L, -1);
    carry_walk_add(L, turn->state, lua_gettop(L));
    lua_rawgeti(L, results + 1, i + 1);
    list[count + i] = tensor_at(L, -1);
    lua_pop(L, 2);
  }
  binding_check(L, custom_continue(turn->custom, count, list, list + count));
}

// Runs run_function(payload, saved, grads) -> gradients; of an open node, results and gradients.
static int function_body(lua_State *L) {
  function_turn *turn = lua_touserdata(L, 1);
  luaL_checkstack(L, 16, "no room for a backward");
  lua_rawgeti(L, LUA_REGISTRYINDEX, turn->state->run_function);
  if (!payload_push(L, turn->state, turn->custom->id))
    return luaL_error(L, "nothing holds its context any more; keep the tensor it came from, or "
                      "take gradients with moon.grad");
  push_saved(L, turn);
  push_grads(L, turn);
  bool open = turn->custom->open;
  lua_call(L, 3, open ? 2 : 1);
  if (open) take_continuation(L, turn);
  else take_gradients(L, turn);
  return 0;
}

static moon_status function_backward(tape_custom *custom, op_backward_call *call) {
  binding_state *state = binding_of_engine(call->engine);
  function_turn turn = { .state = state, .custom = custom, .call = call };
  size_t bytes = ((size_t)custom->saved_count + 1) * sizeof *turn.saved;
  MOON_TRY(alloc_new(bytes, (void **)&turn.saved));
  moon_status status = call_lua(state, function_body, &turn);
  alloc_delete(turn.saved);
  return status;
}

// core.function_needs(...) -> which arguments need a gradient, as a list of booleans; nil: none
static int function_needs(lua_State *L) {
  binding_state *state = binding_here(L);
  int count = lua_gettop(L), needed = 0;
  for (int i = 1; i <= count; i++) {
    moon_tensor *tensor = tensor_at(L, i);
    needed += tensor && tape_requires_grad(tensor);
  }
  state->engine->touched |= needed > 0;
  if (needed == 0 || !state->engine->grad_enabled) return 0;
  luaL_checkstack(L, 4, "no room for a list");
  lua_createtable(L, count, 0);
  for (int i = 1; i <= count; i++) {
    moon_tensor *tensor = tensor_at(L, i);
    lua_pushboolean(L, tensor && tape_requires_grad(tensor));
    lua_rawseti(L, -2, i);
  }
  return 1;
}

// -- hooks

// One for each place on the tape that has any; the payload is the list of Lua functions.
typedef struct lua_hook {
  tape_hook base;
  uint64_t engine_id;            // a leaf may be used in other states, which have no such payload
  uint64_t id;
} lua_hook;

typedef struct hook_turn {
  binding_state *state;
  const lua_hook *hook;
  moon_tensor **grad;
} hook_turn;

static void check_replacement(lua_State *L, const moon_tensor *grad, const moon_tensor *by) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  if (grad->dtype == by->dtype && tensor_same_shape(grad, by)) return;
  lua_pushfstring(L, "a hook's gradient must be %s of %s like the one it got, not %s of %s",
                  dtype_name(grad->dtype), tensor_shape_text(grad, a), dtype_name(by->dtype),
                  tensor_shape_text(by, b));
  lua_error(L);
}

// Runs run_hooks(payload, gradient) -> a gradient, or nil to leave it. A payload that is gone was
// registered late and on a tensor that nobody holds any more.
static int hook_body(lua_State *L) {
  hook_turn *turn = lua_touserdata(L, 1);
  moon_tensor *grad = *turn->grad;
  luaL_checkstack(L, 8, "no room for a hook");
  lua_rawgeti(L, LUA_REGISTRYINDEX, turn->state->run_hooks);
  if (!payload_push(L, turn->state, turn->hook->id)) return 0;
  push_walked(L, turn->state, grad);
  uint_fast32_t version = atomic_load(&grad->storage->version);
  lua_call(L, 2, 1);
  if (atomic_load(&grad->storage->version) != version)
    return luaL_error(L, "a hook changed the gradient in place, which others may see; let it "
                      "return a new one");
  moon_tensor *by = tensor_at(L, -1);
  if (!by && !lua_isnil(L, -1))
    return luaL_error(L, "a hook returned a %s; it must be a tensor or nil", luaL_typename(L, -1));
  if (!by) return 0;
  check_replacement(L, grad, by);
  carry_walk_add(L, turn->state, lua_gettop(L));
  *turn->grad = tensor_retain(by);
  tensor_release(grad);
  return 0;
}

// What a hook stores is to stay: it runs outside of all scopes.
static moon_status hook_call(tape_hook *base, moon_engine *engine, moon_tensor **grad) {
  lua_hook *hook = (lua_hook *)base;
  binding_state *state = binding_of_engine(engine);
  if (engine->id != hook->engine_id) return MOON_OK;
  hook_turn turn = { state, hook, grad };
  binding_scope *scope = state->scope;
  state->scope = NULL;
  moon_status status = call_lua(state, hook_body, &turn);
  state->scope = scope;
  if (status == MOON_OK && (engine->observers & OBSERVE_FINITE))
    status = anomaly_check_gradient(engine, *grad, "came to a hook, or that it");
  return status;
}

static void hook_release(tape_hook *base) { alloc_delete(base); }

// The hook of ours at a tensor's place, if there is one.
static lua_hook *hook_find(const moon_tensor *tensor, const moon_engine *engine) {
  const tape_record *record = record_of(tensor);
  for (tape_hook *hook = record->node ? record->node->hooks : record->hooks; hook;
       hook = hook->next) {
    bool here = hook->call == hook_call && (!record->node || hook->result == record->result);
    if (here && ((lua_hook *)hook)->engine_id == engine->id) return (lua_hook *)hook;
  }
  return NULL;
}

static moon_tensor *check_hookable(lua_State *L, int index) {
  moon_tensor *tensor = tensor_check(L, index, "register_hook", "x");
  if (!tape_requires_grad(tensor))
    binding_error(L, "register_hook: this tensor requires no gradient, so there is none to see");
  const tape_node *node = record_of(tensor)->node;
  if (node && node->engine_id != binding_of(L)->engine->id)
    binding_error(L, "register_hook: a tape does not cross Lua states");
  return tensor;
}

// core.hook_payload(x) -> the list of x's hooks, or nil
static int hook_payload(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *tensor = check_hookable(L, 1);
  const lua_hook *hook = hook_find(tensor, state->engine);
  if (!hook || !payload_push(L, state, hook->id)) lua_pushnil(L);
  return 1;
}

// core.hook_attach(x, payload): gradients of x go through run_hooks(payload, gradient) from now on.
// The payload lives on x and on what is calculated from it afterwards.
static int hook_attach(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_tensor *tensor = check_hookable(L, 1);
  tape_record *record = record_of(tensor);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  lua_newtable(L);
  carry_push(L, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 2);
    lua_pushvalue(L, 2);
  } else {
    lua_rawseti(L, -2, 1);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, 2);
  }
  lua_insert(L, 2);   // x, its new carrier, payload
  uint64_t id = payload_register(L, state);
  lua_hook *hook = hook_find(tensor, state->engine);
  if (!hook) {
    binding_check(L, alloc_new(sizeof *hook, (void **)&hook));
    *hook = (lua_hook){ .base = { .result = record->node ? record->result : 0, .call = hook_call,
                                  .release = hook_release },
                        .engine_id = state->engine->id };
    hook_add(record->node ? &record->node->hooks : &record->hooks, &hook->base);
  }
  hook->id = id;
  lua_settop(L, 2);
  carry_set(L, 1);
  payload_collect_if_due(L, state);
  return 0;
}

// core.unscoped(fn, ...) -> fn's results: tensors it makes belong to no scope
static int unscoped(lua_State *L) {
  binding_state *state = binding_here(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  binding_scope *scope = state->scope;
  state->scope = NULL;
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  state->scope = scope;
  return failed ? lua_error(L) : lua_gettop(L);
}

// -- calls on the tape

// The tensors of the list at `index`, in a userdata left on the stack.
static moon_tensor **read_tensors(lua_State *L, int index, int *count) {
  *count = (int)lua_rawlen(L, index);
  moon_tensor **list = lua_newuserdata(L, ((size_t)*count + 1) * sizeof *list);
  for (int i = 0; i < *count; i++) {
    lua_rawgeti(L, index, i + 1);
    list[i] = tensor_check(L, lua_gettop(L), "function", "a member");
    lua_pop(L, 1);
  }
  return list;
}

// New handles for the results, in a table left on the stack; what they carry is the payload.
static int push_handles(lua_State *L, binding_state *state, int count) {
  lua_createtable(L, count, 0);
  for (int i = 1; i <= count; i++) {
    handle_push(L, state);
    lua_rawseti(L, -2, i);
  }
  return lua_gettop(L);
}

static void fill_handles(lua_State *L, int handles, int count, moon_tensor **taped) {
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, handles, i + 1);
    handle_fill(handle_at(L, -1), taped[i]);
    lua_pop(L, 1);
  }
  for (int i = 0; i < count; i++) {
    if (!tape_requires_grad(taped[i])) continue;
    lua_rawgeti(L, handles, i + 1);
    lua_pushvalue(L, 1);
    carry_set(L, lua_gettop(L) - 1);
    lua_pop(L, 1);
  }
}

// core.function_record(payload, name, inputs, results, saved, constant, open) -> results: puts a
// call on the tape that has run. The lists hold tensors; `constant` is a list of booleans, one a
// result. The payload, a table, keeps what the inputs carry; the results carry the payload.
static int function_record(lua_State *L) {
  binding_state *state = binding_here(L);
  custom_call call = { .backward = function_backward, .open = lua_toboolean(L, 7) };
  luaL_checktype(L, 1, LUA_TTABLE);
  for (int i = 3; i <= 6; i++) luaL_checktype(L, i, LUA_TTABLE);
  call.name = luaL_checkstring(L, 2);
  lua_settop(L, 7);
  call.inputs = read_tensors(L, 3, &call.input_count);
  call.results = read_tensors(L, 4, &call.result_count);
  call.saved = read_tensors(L, 5, &call.saved_count);
  if (call.result_count > CUSTOM_RESULTS)
    binding_error(L, "%s: a function returns at most %d tensors, this one %d", call.name,
                  CUSTOM_RESULTS, call.result_count);
  bool constant[CUSTOM_RESULTS];
  for (int i = 0; i < call.result_count; i++) {
    lua_rawgeti(L, 6, i + 1);
    constant[i] = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  call.constant = constant;
  carry_join(L, 3, 3);
  lua_rawseti(L, 1, 1);
  lua_pushvalue(L, 1);
  call.id = payload_register(L, state);
  lua_pop(L, 1);
  int handles = push_handles(L, state, call.result_count);
  moon_tensor *taped[CUSTOM_RESULTS];
  moon_status status = custom_record(state->engine, &call, taped);
  if (status != MOON_OK) (void)moon_fail_in(status, "%s: ", call.name);
  binding_check(L, status);
  fill_handles(L, handles, call.result_count, taped);
  payload_collect_if_due(L, state);
  return 1;
}

// -- running twice, for checkpoints

// core.untaped(fn, ...) -> whether fn read a tensor that requires a gradient, then fn's results,
// calculated with the tape off
static int untaped(lua_State *L) {
  binding_state *state = binding_here(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  moon_engine *engine = state->engine;
  bool enabled = engine->grad_enabled, touched = engine->touched;
  engine->grad_enabled = engine->touched = false;
  lua_pushboolean(L, 0);
  lua_insert(L, 1);
  int failed = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
  if (!state->engine) return failed ? lua_error(L) : 0;
  lua_pushboolean(L, engine->touched);
  lua_replace(L, 1);
  engine->grad_enabled = enabled;
  engine->touched |= touched;
  return failed ? lua_error(L) : lua_gettop(L);
}

// core.recompute(fn, seed and draws as get_rng_state gives them, ...) -> fn's results, calculated
// on the tape with the random numbers of back then, while running statistics stay
static int recompute(lua_State *L) {
  binding_state *state = binding_here(L);
  moon_engine *engine = state->engine;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  const moon_tensor *stream = tensor_check(L, 2, "recompute", "state");
  const int64_t *words = tensor_data(stream);
  uint64_t seed = engine->seed, draws = engine->draws;
  bool enabled = engine->grad_enabled, recomputing = engine->recomputing;
  engine->seed = (uint64_t)words[0];
  engine->draws = (uint64_t)words[1];
  engine->grad_enabled = engine->recomputing = true;
  lua_remove(L, 2);
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  if (!state->engine) return failed ? lua_error(L) : 0;
  engine->seed = seed;
  engine->draws = draws;
  engine->grad_enabled = enabled;
  engine->recomputing = recomputing;
  return failed ? lua_error(L) : lua_gettop(L);
}

// moon.is_recomputing(): whether a checkpoint runs its function again; what a layer counts or
// gathers in forward was counted then
static int is_recomputing(lua_State *L) {
  lua_pushboolean(L, binding_here(L)->engine->recomputing);
  return 1;
}

// core.set_runners(run_function, run_hooks): what the tape calls
static int set_runners(lua_State *L) {
  binding_state *state = binding_here(L);
  lua_settop(L, 2);
  luaL_unref(L, LUA_REGISTRYINDEX, state->run_hooks);
  state->run_hooks = luaL_ref(L, LUA_REGISTRYINDEX);
  luaL_unref(L, LUA_REGISTRYINDEX, state->run_function);
  state->run_function = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static const luaL_Reg functions[] = {
  { "function_needs", function_needs }, { "function_record", function_record },
  { "hook_payload", hook_payload }, { "hook_attach", hook_attach }, { "unscoped", unscoped },
  { "untaped", untaped }, { "recompute", recompute }, { "is_recomputing", is_recomputing },
  { "set_runners", set_runners }, { NULL, NULL },
};

void function_open(lua_State *L, binding_state *state) {
  if (state->run_function == 0) state->run_function = state->run_hooks = LUA_NOREF;
  binding_functions(L, state, functions);
}
