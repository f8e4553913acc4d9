// Recurrent networks: cells, and whole sequences through layers of them in one or two directions.
//
// All are formulas of other operators, so they run on every device and have derivatives of every
// order. The inputs of all steps meet their weights in one product; what is left for a step is the
// product of the state and a few elementwise operators. The sequence is cut by halves (pieces.h),
// so that the backward pass of T steps copies log2(T) times the input and not T times.
//
// Layouts are PyTorch's: weights of a layer and direction in the order w_ih (gates hidden, in),
// w_hh (gates hidden, hidden), b_ih, b_hh; gates in the order i, f, g, o (LSTM) and r, z, n (GRU).
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/compose.h"
#include "ops/pieces.h"

typedef enum cell_kind { RNN_TANH, RNN_RELU, LSTM, GRU } cell_kind;
static const int gate_counts[] = { 1, 1, 4, 3 };

typedef struct cell_weights { moon_tensor *w_ih, *w_hh, *b_ih, *b_hh; } cell_weights;   // borrowed
typedef struct cell_state { moon_tensor *h, *c; } cell_state;   // c: LSTM only

// -- one step: x is the input's projection, u the state's, both (n, gates hidden)

static void cut_gates(compose *k, moon_tensor *x, int64_t at, moon_tensor **front,
                      moon_tensor **back) {
  moon_tensor *more[OP_MAX_RESULTS - 1];
  *front = COMPOSE_MORE(k, more, halve, op_tensor(x), op_int(-1), op_int(at));
  *back = more[0];
}

static cell_state step_tanh(compose *k, moon_tensor *x, moon_tensor *u, const cell_state *before) {
  (void)before;
  moon_tensor *sum = COMPOSE(k, add, op_tensor(x), op_tensor(u));
  return (cell_state){ .h = COMPOSE(k, tanh, op_tensor(sum)) };
}

static cell_state step_relu(compose *k, moon_tensor *x, moon_tensor *u, const cell_state *before) {
  (void)before;
  moon_tensor *sum = COMPOSE(k, add, op_tensor(x), op_tensor(u));
  return (cell_state){ .h = COMPOSE(k, relu, op_tensor(sum)) };
}

static cell_state step_lstm(compose *k, moon_tensor *x, moon_tensor *u, const cell_state *before) {
  int64_t size = before->h->shape[before->h->ndim - 1];
  moon_tensor *all = COMPOSE(k, add, op_tensor(x), op_tensor(u)), *inner, *g, *o, *i, *f;
  // i and f lie next to each other, so that one sigmoid serves both
  cut_gates(k, all, 2 * size, &inner, &g);
  cut_gates(k, g, size, &g, &o);
  inner = COMPOSE(k, sigmoid, op_tensor(inner));
  cut_gates(k, inner, size, &i, &f);
  g = COMPOSE(k, tanh, op_tensor(g));
  o = COMPOSE(k, sigmoid, op_tensor(o));
  moon_tensor *kept = COMPOSE(k, mul, op_tensor(f), op_tensor(before->c));
  moon_tensor *added = COMPOSE(k, mul, op_tensor(i), op_tensor(g));
  moon_tensor *c = COMPOSE(k, add, op_tensor(kept), op_tensor(added));
  moon_tensor *shown = COMPOSE(k, tanh, op_tensor(c));
  return (cell_state){ .h = COMPOSE(k, mul, op_tensor(o), op_tensor(shown)), .c = c };
}

static cell_state step_gru(compose *k, moon_tensor *x, moon_tensor *u, const cell_state *before) {
  int64_t size = before->h->shape[before->h->ndim - 1];
  moon_tensor *x_rz, *x_n, *u_rz, *u_n, *r, *z;
  cut_gates(k, x, 2 * size, &x_rz, &x_n);
  cut_gates(k, u, 2 * size, &u_rz, &u_n);
  moon_tensor *rz = COMPOSE(k, add, op_tensor(x_rz), op_tensor(u_rz));
  rz = COMPOSE(k, sigmoid, op_tensor(rz));
  cut_gates(k, rz, size, &r, &z);
  moon_tensor *seen = COMPOSE(k, mul, op_tensor(r), op_tensor(u_n));
  moon_tensor *n = COMPOSE(k, add, op_tensor(x_n), op_tensor(seen));
  n = COMPOSE(k, tanh, op_tensor(n));
  moon_tensor *change = COMPOSE(k, sub, op_tensor(before->h), op_tensor(n));
  change = COMPOSE(k, mul, op_tensor(z), op_tensor(change));
  return (cell_state){ .h = COMPOSE(k, add, op_tensor(n), op_tensor(change)) };
}

typedef cell_state (*cell_step)(compose *, moon_tensor *, moon_tensor *, const cell_state *);
static const cell_step cell_steps[] = { step_tanh, step_relu, step_lstm, step_gru };

static moon_tensor *project(compose *k, moon_tensor *x, moon_tensor *weight, moon_tensor *bias) {
  return COMPOSE(k, linear, op_tensor(x), op_tensor(weight), op_tensor(bias));
}

static void release_state(cell_state *state) {
  tensor_release(state->h);
  tensor_release(state->c);
  *state = (cell_state){ NULL, NULL };
}

// -- cells as operators

// weight must be (gates hidden, columns).
static moon_status check_weight(const char *name, const moon_tensor *weight, int64_t rows,
                                int64_t columns) {
  char text[TENSOR_SHAPE_TEXT], wanted[TENSOR_SHAPE_TEXT];
  if (weight->ndim == 2 && weight->shape[0] == rows && weight->shape[1] == columns) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %s, got %s", name,
                   shape_text(2, (int64_t[]){ rows, columns }, wanted),
                   tensor_shape_text(weight, text));
}

static moon_status check_bias(const char *name, const moon_tensor *bias, int64_t rows) {
  char text[TENSOR_SHAPE_TEXT];
  if (!bias || (bias->ndim == 1 && bias->shape[0] == rows)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %" PRId64 ", got %s", name, rows,
                   tensor_shape_text(bias, text));
}

// gates * hidden, without overflow
static moon_status gate_rows(cell_kind kind, int64_t hidden, int64_t *rows) {
  if (__builtin_mul_overflow(hidden, (int64_t)gate_counts[kind], rows))
    return moon_fail(MOON_BAD_SHAPE, "a state of %" PRId64 " is too large", hidden);
  return MOON_OK;
}

static moon_status check_same_dtypes(const moon_tensor *input, const char *const *names,
                                     moon_tensor *const *tensors, int count) {
  for (int i = 0; i < count; i++)
    if (tensors[i]) MOON_TRY(ops_need_same_dtype("input", input, names[i], tensors[i]));
  return MOON_OK;
}

static moon_status check_cell(cell_kind kind, const moon_tensor *input, const cell_state *state,
                              const cell_weights *w) {
  static const char *const names[] = { "h", "c", "w_ih", "w_hh", "b_ih", "b_hh" };
  moon_tensor *tensors[] = { state->h, state->c, w->w_ih, w->w_hh, w->b_ih, w->b_hh };
  char x[TENSOR_SHAPE_TEXT], h[TENSOR_SHAPE_TEXT];
  int64_t rows;
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(check_same_dtypes(input, names, tensors, 6));
  if (input->ndim < 1 || input->ndim > 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have 2 dimensions (n, in) or 1 (in), got %s",
                     tensor_shape_text(input, x));
  if (state->h->ndim != input->ndim || (input->ndim == 2 && state->h->shape[0] != input->shape[0]))
    return moon_fail(MOON_BAD_SHAPE, "input %s and h %s must agree in all but the last dimension",
                     tensor_shape_text(input, x), tensor_shape_text(state->h, h));
  if (state->c && !tensor_same_shape(state->h, state->c))
    return moon_fail(MOON_BAD_SHAPE, "h %s and c %s must have the same shape",
                     tensor_shape_text(state->h, h), tensor_shape_text(state->c, x));
  int64_t hidden = state->h->shape[state->h->ndim - 1];
  MOON_TRY(gate_rows(kind, hidden, &rows));
  MOON_TRY(check_weight("w_ih", w->w_ih, rows, input->shape[input->ndim - 1]));
  MOON_TRY(check_weight("w_hh", w->w_hh, rows, hidden));
  MOON_TRY(check_bias("b_ih", w->b_ih, rows));
  return check_bias("b_hh", w->b_hh, rows);
}

static moon_status run_cell(op_call *call, cell_kind kind, moon_tensor *input,
                            const cell_state *state, const cell_weights *w) {
  MOON_TRY(check_cell(kind, input, state, w));
  compose k = compose_open(call->engine);
  moon_tensor *x = project(&k, input, w->w_ih, w->b_ih);
  moon_tensor *u = project(&k, state->h, w->w_hh, w->b_hh);
  cell_state after = cell_steps[kind](&k, x, u, state);
  compose_keep(&k, after.h, &call->results[0]);
  if (kind == LSTM) compose_keep(&k, after.c, &call->results[1]);
  return compose_close(&k, NULL, NULL);
}

static cell_weights weights_at(const op_value *args, int first) {
  return (cell_weights){ args[first].tensor, args[first + 1].tensor, args[first + 2].tensor,
                         args[first + 3].tensor };
}

static moon_status forward_rnn_cell(op_call *call) {
  enum { INPUT, H, W_IH, NONLINEARITY = W_IH + 4 };
  cell_weights w = weights_at(call->args, W_IH);
  cell_state state = { .h = call->args[H].tensor };
  return run_cell(call, (cell_kind)call->args[NONLINEARITY].integer, call->args[INPUT].tensor,
                  &state, &w);
}

static moon_status forward_lstm_cell(op_call *call) {
  enum { INPUT, H, C, W_IH };
  cell_weights w = weights_at(call->args, W_IH);
  cell_state state = { .h = call->args[H].tensor, .c = call->args[C].tensor };
  return run_cell(call, LSTM, call->args[INPUT].tensor, &state, &w);
}

static moon_status forward_gru_cell(op_call *call) {
  enum { INPUT, H, W_IH };
  cell_weights w = weights_at(call->args, W_IH);
  cell_state state = { .h = call->args[H].tensor };
  return run_cell(call, GRU, call->args[INPUT].tensor, &state, &w);
}

// -- a sequence through one layer in one direction

// What all layers and directions of a call share.
typedef struct sequence {
  moon_engine *engine;
  cell_kind kind;
  int64_t steps, batch, hidden, layers;
  int directions;              // 1 or 2
  double dropout;              // between layers
  bool training;
  moon_tensor *last;           // (n, 1) int64: each sequence's last step, from 0; NULL = all alike
} sequence;

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
  moon_tensor *u = project(&k, state->h, w->w_hh, w->b_hh);
  cell_state after = cell_steps[s->kind](&k, x, u, state), kept = { NULL, NULL };
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
  release_state(state);
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

// -- layers

// The two directions' outputs side by side, with dropout unless this layer is the last.
static moon_status join_directions(const sequence *s, bool last, moon_tensor **outputs,
                                   moon_tensor **joined) {
  compose k = compose_open(s->engine);
  moon_tensor *y = outputs[0];
  if (s->directions == 2)
    y = COMPOSE(&k, cat, op_tensors(outputs, 2), op_int(2));
  if (!last && s->training && s->dropout > 0)
    y = COMPOSE(&k, dropout, op_tensor(y), op_number(s->dropout), op_bool(true));
  return compose_close(&k, y, joined);
}

// One layer: `states` are its directions'. *x (owned) is replaced by the outputs.
static moon_status run_layer(const sequence *s, bool last, const cell_weights *weights,
                             cell_state *states, moon_tensor **x) {
  moon_tensor *outputs[2] = { NULL, NULL }, *joined = NULL;
  moon_status status = MOON_OK;
  for (int d = 0; d < s->directions && status == MOON_OK; d++)
    status = run_direction(s, d == 1, *x, &weights[d], &states[d], &outputs[d]);
  if (status == MOON_OK) status = join_directions(s, last, outputs, &joined);
  tensor_release(outputs[0]);
  tensor_release(outputs[1]);
  if (status != MOON_OK) return status;
  tensor_release(*x);
  *x = joined;
  return MOON_OK;
}

// -- arguments of a whole network

// Positions in the schemas below, which agree but for lstm's c0 and rnn's nonlinearity at the end.
typedef struct positions { int h0, c0, layers, bias, dropout, training, bidirectional, batch_first,
                           lengths, nonlinearity; } positions;
static const positions with_cell = { 2, 3, 4, 5, 6, 7, 8, 9, 10, -1 };
static const positions without_cell = { 2, -1, 3, 4, 5, 6, 7, 8, 9, 10 };
enum { INPUT, WEIGHTS };

static moon_status read_options(op_call *call, const positions *at, sequence *s) {
  const op_value *args = call->args;
  s->engine = call->engine;
  s->kind = (cell_kind)call->op->row;
  if (s->kind == RNN_TANH && args[at->nonlinearity].integer == 1) s->kind = RNN_RELU;
  s->layers = args[at->layers].integer;
  s->directions = args[at->bidirectional].boolean ? 2 : 1;
  s->dropout = args[at->dropout].number;
  s->training = args[at->training].boolean;
  if (s->layers < 1 || s->layers > 4096)
    return moon_fail(MOON_BAD_ARGUMENT, "layers must be from 1 to 4096, got %" PRId64, s->layers);
  if (!(s->dropout >= 0 && s->dropout < 1))
    return moon_fail(MOON_BAD_ARGUMENT, "dropout must be from 0 up to but not including 1, got %g",
                     s->dropout);
  return MOON_OK;
}

static moon_status check_input(const op_call *call, const positions *at, sequence *s) {
  const moon_tensor *input = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  bool batch_first = call->args[at->batch_first].boolean;
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim < 2 || input->ndim > 3)
    return moon_fail(MOON_BAD_SHAPE, "input must be %s, or (steps, in) for one sequence, got %s",
                     batch_first ? "(n, steps, in)" : "(steps, n, in)",
                     tensor_shape_text(input, text));
  s->steps = input->shape[input->ndim == 3 && batch_first ? 1 : 0];
  s->batch = input->ndim == 2 ? 1 : input->shape[batch_first ? 0 : 1];
  if (s->steps < 1 || s->steps > INT32_MAX)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least one step, got %s",
                     tensor_shape_text(input, text));
  return MOON_OK;
}

// Reads the list of weights into `weights`, one entry for each layer and direction.
static moon_status read_weights(const op_call *call, const positions *at, sequence *s,
                                cell_weights *weights) {
  const op_value *list = &call->args[WEIGHTS];
  const moon_tensor *input = call->args[INPUT].tensor;
  bool bias = call->args[at->bias].boolean;
  int each = bias ? 4 : 2;
  int64_t cells = s->layers * s->directions, rows;
  if (list->tensors.count != cells * each)
    return moon_fail(MOON_BAD_ARGUMENT, "weights must be %" PRId64 " tensors (%d for each of %"
                     PRId64 " layers and %d directions), got %d", cells * each, each, s->layers,
                     s->directions, list->tensors.count);
  for (int i = 0; i < list->tensors.count; i++)
    MOON_TRY(ops_need_same_dtype("input", input, "weights", list->tensors.list[i]));
  if (list->tensors.list[1]->ndim != 2)
    return moon_fail(MOON_BAD_SHAPE, "weights[2] (w_hh) must have 2 dimensions, got %d",
                     list->tensors.list[1]->ndim);
  s->hidden = list->tensors.list[1]->shape[1];
  MOON_TRY(gate_rows(s->kind, s->hidden, &rows));
  for (int64_t i = 0; i < cells; i++) {
    moon_tensor **w = list->tensors.list + i * each;
    int64_t inputs = i < s->directions ? input->shape[input->ndim - 1] : s->hidden * s->directions;
    char name[32];
    weights[i] = (cell_weights){ w[0], w[1], bias ? w[2] : NULL, bias ? w[3] : NULL };
    for (int k = 0; k < each; k++) {
      snprintf(name, sizeof name, "weights[%" PRId64 "]", i * each + k + 1);
      if (k < 2) MOON_TRY(check_weight(name, w[k], rows, k == 0 ? inputs : s->hidden));
      else MOON_TRY(check_bias(name, w[k], rows));
    }
  }
  return MOON_OK;
}

// h0 or c0: (layers directions, n, hidden), without n for one sequence. NULL is fine.
static moon_status check_state(const op_call *call, const sequence *s, const char *name,
                               const moon_tensor *state) {
  const moon_tensor *input = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT], wanted[TENSOR_SHAPE_TEXT];
  int64_t shape[3] = { s->layers * s->directions, s->batch, s->hidden };
  if (!state) return MOON_OK;
  if (input->ndim == 2) shape[1] = s->hidden;
  MOON_TRY(ops_need_same_dtype("input", input, name, state));
  if (state->ndim == input->ndim &&
      memcmp(state->shape, shape, (size_t)state->ndim * sizeof *shape) == 0)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %s (layers times directions%s, hidden), got %s",
                   name, shape_text(input->ndim, shape, wanted), input->ndim == 3 ? ", n" : "",
                   tensor_shape_text(state, text));
}

// The last step of each sequence, from 0, as (n, 1).
static moon_status read_lengths(const op_call *call, const positions *at, sequence *s) {
  const moon_tensor *lengths = call->args[at->lengths].tensor;
  moon_tensor *from_zero;
  char text[TENSOR_SHAPE_TEXT];
  if (!lengths) return MOON_OK;
  if (lengths->ndim != 1 || lengths->shape[0] != s->batch)
    return moon_fail(MOON_BAD_SHAPE, "lengths must hold a number for each of %" PRId64
                     " sequences, got %s", s->batch, tensor_shape_text(lengths, text));
  MOON_TRY(ops_index_in(s->engine, "lengths", lengths, s->steps, &from_zero));
  moon_status status = OP_RUN(s->engine, ops_get(OP_unsqueeze), &s->last, op_tensor(from_zero),
                              op_int(1));
  tensor_release(from_zero);
  return status;
}

// -- running a network

// The first state of every layer and direction into `list` (owned there): of `given`, or zeros.
static moon_status open_states(const sequence *s, moon_tensor *given, const moon_tensor *like,
                               bool batched, moon_tensor **list) {
  int64_t shape[2] = { s->batch, s->hidden }, cells = s->layers * s->directions;
  if (!given) {
    for (int64_t i = 0; i < cells; i++)
      MOON_TRY(ops_new_filled(s->engine, like, like->dtype, 2, shape, 0, &list[i]));
    return MOON_OK;
  }
  compose k = compose_open(s->engine);
  if (!batched) given = COMPOSE(&k, unsqueeze, op_tensor(given), op_int(1));
  if (given) compose_check(&k, pieces_unbind(s->engine, given, 0, list));
  return compose_close(&k, NULL, NULL);
}

// The last states as one tensor (layers directions, n, hidden).
static moon_status close_states(const sequence *s, moon_tensor **list, bool batched,
                                moon_tensor **result) {
  compose k = compose_open(s->engine);
  int count = (int)(s->layers * s->directions);
  moon_tensor *all = COMPOSE(&k, stack, op_tensors(list, count), op_int(0));
  if (!batched) all = COMPOSE(&k, squeeze, op_tensor(all), op_int(1));
  return compose_close(&k, all, result);
}

// Everything a call allocates.
typedef struct network {
  sequence s;
  cell_weights *weights;
  moon_tensor **h, **c;        // states of each layer and direction
  moon_tensor *x;
} network;

static void close_network(network *net) {
  int64_t cells = net->s.layers * net->s.directions;
  pieces_delete(net->h, cells);
  pieces_delete(net->c, cells);
  alloc_delete(net->weights);
  tensor_release(net->x);
  tensor_release(net->s.last);
}

// Input as (steps, n, in); outputs back into the input's order.
static moon_status turn(moon_engine *engine, moon_tensor *x, bool batched, bool batch_first,
                        bool back, moon_tensor **result) {
  compose k = compose_open(engine);
  if (!batched && !back) x = COMPOSE(&k, unsqueeze, op_tensor(x), op_int(1));
  if (!batched && back) x = COMPOSE(&k, squeeze, op_tensor(x), op_int(1));
  if (batched && batch_first) x = COMPOSE(&k, transpose, op_tensor(x), op_int(0), op_int(1));
  return compose_close(&k, x, result);
}

static moon_status prepare(op_call *call, const positions *at, network *net) {
  moon_tensor *input = call->args[INPUT].tensor, *h0 = call->args[at->h0].tensor;
  moon_tensor *c0 = at->c0 >= 0 ? call->args[at->c0].tensor : NULL;
  sequence *s = &net->s;
  size_t bytes;
  int64_t cells = s->layers * s->directions;
  MOON_TRY(alloc_product((size_t)cells, sizeof *net->weights, &bytes));
  MOON_TRY(alloc_new(bytes, (void **)&net->weights));
  MOON_TRY(read_weights(call, at, s, net->weights));
  MOON_TRY(check_state(call, s, "h0", h0));
  MOON_TRY(check_state(call, s, "c0", c0));
  MOON_TRY(read_lengths(call, at, s));
  MOON_TRY(pieces_new(cells, &net->h));
  MOON_TRY(pieces_new(cells, &net->c));
  MOON_TRY(open_states(s, h0, input, input->ndim == 3, net->h));
  if (s->kind == LSTM) MOON_TRY(open_states(s, c0, input, input->ndim == 3, net->c));
  return turn(call->engine, input, input->ndim == 3, call->args[at->batch_first].boolean, false,
              &net->x);
}

static moon_status run_layers(network *net) {
  const sequence *s = &net->s;
  for (int64_t layer = 0; layer < s->layers; layer++) {
    int64_t first = layer * s->directions;
    cell_state states[2] = { { NULL, NULL }, { NULL, NULL } };
    for (int d = 0; d < s->directions; d++)
      states[d] = (cell_state){ net->h[first + d], net->c[first + d] };
    moon_status status = run_layer(s, layer == s->layers - 1, net->weights + first, states,
                                   &net->x);
    for (int d = 0; d < s->directions; d++) {   // replaced as far as the layer got
      net->h[first + d] = states[d].h;
      net->c[first + d] = states[d].c;
    }
    MOON_TRY(status);
  }
  return MOON_OK;
}

static moon_status forward_network(op_call *call, const positions *at) {
  network net = { .weights = NULL };
  bool batched = call->args[INPUT].tensor->ndim == 3;
  MOON_TRY(read_options(call, at, &net.s));
  MOON_TRY(check_input(call, at, &net.s));
  moon_status status = prepare(call, at, &net);
  if (status == MOON_OK) status = run_layers(&net);
  if (status == MOON_OK)
    status = turn(call->engine, net.x, batched, call->args[at->batch_first].boolean, true,
                  &call->results[0]);
  if (status == MOON_OK) status = close_states(&net.s, net.h, batched, &call->results[1]);
  if (status == MOON_OK && net.s.kind == LSTM)
    status = close_states(&net.s, net.c, batched, &call->results[2]);
  close_network(&net);
  return status;
}

static moon_status forward_plain(op_call *call) { return forward_network(call, &without_cell); }
static moon_status forward_lstm(op_call *call) { return forward_network(call, &with_cell); }

// -- descriptors

#define CELL_WEIGHTS "w_ih: Tensor, w_hh: Tensor, b_ih: Tensor?, b_hh: Tensor?"
#define OPTIONS                                                                                \
  "layers: int = 1, bias: bool = true, dropout: number = 0, training: bool = false, "          \
  "bidirectional: bool = false, batch_first: bool = false, lengths: Tensor?"
#define SHAPES                                                                                 \
  "input (steps, n, in), with batch_first (n, steps, in), for one sequence (steps, in); "      \
  "h0 (layers directions, n, hidden), zeros if left out; out (steps, n, directions hidden), "  \
  "h_n as h0. weights lists, for each layer and in it each direction, w_ih, w_hh and with "    \
  "bias b_ih, b_hh. dropout falls between layers while training. With lengths, whole numbers " \
  "for each sequence, outputs are 0 after a sequence's end and the last states are those at "  \
  "the end. "
#define FLAGS (OP_COMPOSITE | OP_FUNCTION_ONLY)

static op_descriptor descriptors[] = {
  { .name = "rnn_cell", .dtypes = OP_FLOATS, .flags = FLAGS,
    .schema = "(input: Tensor, h: Tensor, " CELL_WEIGHTS
              ", nonlinearity: \"tanh\"|\"relu\" = \"tanh\") -> h",
    .doc = "One step of a recurrent layer: h' = tanh(w_ih x + b_ih + w_hh h + b_hh), or relu. "
           "input (n, in), h (n, hidden), w_ih (hidden, in), w_hh (hidden, hidden), biases "
           "(hidden) (Elman 1990).",
    .example = "moon.rnn_cell(moon.ones(1), moon.ones(1), moon.ones(1, 1), moon.ones(1, 1), "
               "nil, nil, { nonlinearity = \"relu\" }) --> { 2 }",
    .forward = forward_rnn_cell },
  { .name = "lstm_cell", .dtypes = OP_FLOATS, .flags = FLAGS,
    .schema = "(input: Tensor, h: Tensor, c: Tensor, " CELL_WEIGHTS ") -> h, c",
    .doc = "One step of long short-term memory: c' = f c + i g, h' = o tanh(c'), where i, f and "
           "o are sigmoids and g the tanh of w_ih x + b_ih + w_hh h + b_hh. input (n, in), h and "
           "c (n, hidden), w_ih (4 hidden, in), w_hh (4 hidden, hidden), biases (4 hidden), in "
           "the order i, f, g, o (Hochreiter and Schmidhuber 1997; Gers et al. 2000).",
    .example = "moon.lstm_cell(moon.ones(1), moon.zeros(1), moon.zeros(1), moon.zeros(4, 1), "
               "moon.zeros(4, 1)) --> { 0 }",
    .forward = forward_lstm_cell },
  { .name = "gru_cell", .dtypes = OP_FLOATS, .flags = FLAGS,
    .schema = "(input: Tensor, h: Tensor, " CELL_WEIGHTS ") -> h",
    .doc = "One step of a gated recurrent unit: h' = (1 - z) n + z h with sigmoids r and z, and n "
           "= tanh(w_in x + b_in + r (w_hn h + b_hn)). input (n, in), h (n, hidden), w_ih "
           "(3 hidden, in), w_hh (3 hidden, hidden), biases (3 hidden), in the order r, z, n "
           "(Cho et al. 2014).",
    .example = "moon.gru_cell(moon.ones(1), moon.ones(1), moon.zeros(3, 1), moon.zeros(3, 1)) "
               "--> { 0.5 }",
    .forward = forward_gru_cell },
  { .name = "rnn", .dtypes = OP_FLOATS, .flags = FLAGS, .row = RNN_TANH,
    .schema = "(input: Tensor, weights: Tensor[], h0: Tensor?, " OPTIONS
              ", nonlinearity: \"tanh\"|\"relu\" = \"tanh\") -> out, h_n",
    .doc = "A sequence through layers of rnn_cell. " SHAPES "Source: Elman 1990.",
    .example = "moon.rnn(moon.ones(3, 1), { moon.ones(1, 1), moon.ones(1, 1) }, "
               "{ bias = false, nonlinearity = \"relu\" }) --> { { 1 }, { 2 }, { 3 } }",
    .forward = forward_plain },
  { .name = "lstm", .dtypes = OP_FLOATS, .flags = FLAGS, .row = LSTM,
    .schema = "(input: Tensor, weights: Tensor[], h0: Tensor?, c0: Tensor?, " OPTIONS
              ") -> out, h_n, c_n",
    .doc = "A sequence through layers of lstm_cell. " SHAPES "c0 and c_n as h0. Source: "
           "Hochreiter and Schmidhuber 1997; Schuster and Paliwal 1997 for two directions.",
    .example = "moon.lstm(moon.ones(2, 1), { moon.zeros(4, 1), moon.zeros(4, 1) }, "
               "{ bias = false }) --> { { 0 }, { 0 } }",
    .forward = forward_lstm },
  { .name = "gru", .dtypes = OP_FLOATS, .flags = FLAGS, .row = GRU,
    .schema = "(input: Tensor, weights: Tensor[], h0: Tensor?, " OPTIONS ") -> out, h_n",
    .doc = "A sequence through layers of gru_cell. " SHAPES "Source: Cho et al. 2014.",
    .example = "moon.gru(moon.ones(2, 1), { moon.zeros(3, 1), moon.zeros(3, 1) }, "
               "moon.ones(1, 1), { bias = false }) --> { { 0.5 }, { 0.25 } }",
    .forward = forward_plain },
};
OP_FAMILY(recurrent, descriptors);
