// A recurrent layer as a formula of other operators, which runs on every device and has derivatives
// of every order. See recurrent_layer.h.
//
// The inputs of all steps meet their weights in one product; what is left for a step is the product
// of the state and a few elementwise operators. The sequence is cut by halves (pieces.h), so that
// the backward pass of T steps copies log2(T) times the input and not T times.
#include "ops/pieces.h"
#include "ops/recurrent_layer.h"

// What the directions of a call share.
typedef struct sequence {
  moon_engine *engine;
  cell_kind kind;
  int64_t steps;
  moon_tensor *last;           // (n, 1), beside the input; NULL = all have every step
} sequence;

// -- one direction

// alive ? now : before, where a sequence that has ended keeps its state.
static moon_tensor *unless_ended(compose *k, moon_tensor *alive, moon_tensor *now,
                                 moon_tensor *before) {
  if (!alive || !now) return now;
  return COMPOSE(k, where, op_tensor(alive), op_tensor(now), op_tensor(before));
}

// Moves the state one step on (its tensors are owned and replaced) and gives the step's output.
static moon_status take_step(const sequence *s, int64_t step, moon_tensor *x, const cell_weights *w,
                             cell_state *state, moon_tensor **output) {
  compose k = compose_open(s->engine);
  moon_tensor *alive = NULL, *shown;
  moon_tensor *u = cell_project(&k, state->h, w->w_hh, w->b_hh);
  cell_state after = cell_step(&k, s->kind, x, u, state), kept = { NULL, NULL };
  shown = after.h;
  if (s->last) {
    moon_tensor *previous = compose_number(&k, s->last, (double)(step - 1));
    alive = COMPOSE(&k, gt, op_tensor(s->last), op_tensor(previous));
    moon_tensor *zero = compose_number(&k, x, 0);
    shown = COMPOSE(&k, where, op_tensor(alive), op_tensor(after.h), op_tensor(zero));
  }
  after.h = unless_ended(&k, alive, after.h, state->h);
  after.c = unless_ended(&k, alive, after.c, state->c);
  compose_keep(&k, after.h, &kept.h);
  compose_keep(&k, after.c, &kept.c);
  MOON_TRY(compose_close(&k, shown, output));
  cell_release(state);
  *state = kept;
  return MOON_OK;
}

// x (steps, n, in), state (owned, replaced by the last one) -> outputs (steps, n, hidden)
static moon_status run_direction(const sequence *s, bool backwards, moon_tensor *x,
                                 const cell_weights *w, cell_state *state, moon_tensor **outputs) {
  moon_tensor *projected = NULL, **inputs = NULL, **shown = NULL;
  moon_status status = pieces_new(s->steps, &inputs);
  if (status == MOON_OK) status = pieces_new(s->steps, &shown);
  if (status == MOON_OK)
    status = OP_RUN(s->engine, ops_get(OP_linear), &projected, op_tensor(x), op_tensor(w->w_ih),
                    op_tensor(w->b_ih));
  if (status == MOON_OK) status = pieces_unbind(s->engine, projected, 0, inputs);
  for (int64_t i = 0; i < s->steps && status == MOON_OK; i++) {
    int64_t step = backwards ? s->steps - 1 - i : i;
    status = take_step(s, step, inputs[step], w, state, &shown[step]);
  }
  if (status == MOON_OK)
    status = OP_RUN(s->engine, ops_get(OP_stack), outputs, op_tensors(shown, (int)s->steps),
                    op_int(0));
  tensor_release(projected);
  pieces_delete(inputs, s->steps);
  pieces_delete(shown, s->steps);
  return status;
}

// -- both

// Everything a call makes: states and outputs of each direction.
typedef struct layer {
  sequence s;
  moon_tensor *h[2], *c[2], *outputs[2];
} layer;

// The first state of each direction: of `given`, or zeros.
static moon_status open_states(const op_call *call, moon_tensor *given, moon_tensor **states) {
  const moon_tensor *input = call->args[LAYER_INPUT].tensor;
  const moon_tensor *w_hh = recurrent_weights(call->args, 0).w_hh;
  const int64_t shape[2] = { input->shape[1], w_hh->shape[1] };
  if (given) return pieces_unbind(call->engine, given, 0, states);
  for (int d = 0; d < call->args[LAYER_DIRECTIONS].integer; d++)
    MOON_TRY(ops_new_filled(call->engine, input, input->dtype, 2, shape, 0, &states[d]));
  return MOON_OK;
}

static moon_status open_last(const op_call *call, moon_tensor **column) {
  moon_tensor *last = call->args[LAYER_LAST].tensor, *here;
  if (!last) return MOON_OK;
  MOON_TRY(ops_to_device(call->engine, last, tensor_device(call->args[LAYER_INPUT].tensor), &here));
  moon_status status = OP_RUN(call->engine, ops_get(OP_unsqueeze), column, op_tensor(here),
                              op_int(1));
  tensor_release(here);
  return status;
}

static moon_status run_directions(op_call *call, layer *l) {
  const op_value *args = call->args;
  for (int d = 0; d < args[LAYER_DIRECTIONS].integer; d++) {
    cell_weights w = recurrent_weights(args, d);
    cell_state state = { l->h[d], l->c[d] };
    moon_status status = run_direction(&l->s, d == 1, args[LAYER_INPUT].tensor, &w, &state,
                                       &l->outputs[d]);
    l->h[d] = state.h;   // replaced as far as it got
    l->c[d] = state.c;
    MOON_TRY(status);
  }
  return MOON_OK;
}

static moon_status join(op_call *call, const layer *l) {
  int count = (int)call->args[LAYER_DIRECTIONS].integer;
  compose k = compose_open(call->engine);
  moon_tensor *out = l->outputs[0];
  if (count == 2) out = COMPOSE(&k, cat, op_tensors((moon_tensor **)l->outputs, 2), op_int(2));
  compose_keep(&k, out, &call->results[LAYER_OUT]);
  moon_tensor *h = COMPOSE(&k, stack, op_tensors((moon_tensor **)l->h, count), op_int(0));
  compose_keep(&k, h, &call->results[LAYER_H]);
  if (l->s.kind == LSTM) {
    moon_tensor *c = COMPOSE(&k, stack, op_tensors((moon_tensor **)l->c, count), op_int(0));
    compose_keep(&k, c, &call->results[LAYER_C]);
  }
  return compose_close(&k, NULL, NULL);
}

moon_status recurrent_composed(op_call *call) {
  const op_value *args = call->args;
  layer l = { .s = { .engine = call->engine, .kind = (cell_kind)args[LAYER_KIND].integer,
                     .steps = args[LAYER_INPUT].tensor->shape[0] } };
  moon_status status = open_last(call, &l.s.last);
  if (status == MOON_OK) status = open_states(call, args[LAYER_H0].tensor, l.h);
  if (status == MOON_OK && l.s.kind == LSTM)
    status = open_states(call, args[LAYER_C0].tensor, l.c);
  if (status == MOON_OK) status = run_directions(call, &l);
  if (status == MOON_OK) status = join(call, &l);
  for (int d = 0; d < 2; d++) {
    tensor_release(l.h[d]);
    tensor_release(l.c[d]);
    tensor_release(l.outputs[d]);
  }
  tensor_release(l.s.last);
  return status;
}
