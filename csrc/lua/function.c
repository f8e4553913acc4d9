// The tape calls Lua: custom functions, checkpoints and hooks on gradients.
//
// The walk runs in C below a Lua call of backward or grad, and a node of it calls Lua again. All
// that happens in one protected call, so that no error of Lua jumps across the core; the error's
// text becomes the status' sentence, and anything that is no text is raised again as it was when
// the core has cleaned up. What the node stands for is found by number (carry.c).
#include <string.h>

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
  int failed = binding_protect(L, body, argument);
  state->running = L;
  if (state->engine) state->engine->grad_enabled = enabled;
  if (!failed) return MOON_OK;
  if (lua_gettop(L) > top && lua_type(L, -1) != LUA_TSTRING) {
    state->thrown = lua_gettop(L);   // binding_raise takes it from there
    return moon_fail(MOON_BAD_STATE, "an error that is no text");
  }
  (void)moon_fail(MOON_BAD_STATE, "%s", lua_gettop(L) > top ? lua_tostring(L, -1)
                                                            : "out of memory for Lua");
  lua_settop(L, top);
  return MOON_BAD_STATE;
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
  const tape_custom *custom;
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

static void push_grads(lua_State *L, const function_turn *turn) {
  int count = turn->custom->result_count;
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    push_walked(L, turn->state, turn->call->grads[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static void check_gradient(lua_State *L, const function_turn *turn, int i, const moon_tensor *g) {
  const op_input *input = &turn->call->list_inputs[i];
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  if (g->dtype == input->dtype && g->ndim == input->ndim &&
      memcmp(g->shape, input->shape, (size_t)g->ndim * sizeof *g->shape) == 0)
    return;
  lua_pushfstring(L, "%s.backward: the gradient of tensor %d must be %s of %s like that, got %s of "
                  "%s", turn->custom->name, i + 1, dtype_name(input->dtype),
                  shape_text(input->ndim, input->shape, a), dtype_name(g->dtype),
                  tensor_shape_text(g, b));
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

// Runs run_function(payload, saved, grads) -> gradients.
static int function_body(lua_State *L) {
  function_turn *turn = lua_touserdata(L, 1);
  luaL_checkstack(L, 16, "no room for a backward");
  lua_rawgeti(L, LUA_REGISTRYINDEX, turn->state->run_function);
  if (!payload_push(L, turn->state, turn->custom->id))
    return luaL_error(L, "the function's context is gone");
  push_saved(L, turn);
  push_grads(L, turn);
  lua_call(L, 3, 1);
  take_gradients(L, turn);
  return 0;
}

static moon_status function_backward(const tape_custom *custom, op_backward_call *call) {
  binding_state *state = binding_of_engine(call->engine);
  function_turn turn = { .state = state, .custom = custom, .call = call };
  size_t bytes = ((size_t)custom->saved_count + 1) * sizeof *turn.saved;
  MOON_TRY(alloc_new(bytes, (void **)&turn.saved));
  moon_status status = call_lua(state, function_body, &turn);
  alloc_delete(turn.saved);
  return status;
}
