// Recurrent networks: whole sequences through layers of cells (cell.h) in one or two directions.
//
// All are formulas of other operators, so they run on every device and have derivatives of every
// order. The inputs of all steps meet their weights in one product; what is left for a step is the
// product of the state and a few elementwise operators. The sequence is cut by halves (pieces.h),
// so that the backward pass of T steps copies log2(T) times the input and not T times.
//
// Weights come as PyTorch lists them: for each layer, and in it for each direction, w_ih, w_hh and,
// with biases, b_ih, b_hh.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/cell.h"
#include "ops/pieces.h"

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

// The first layer's w_ih and the input must speak of the same number of features.
static moon_status check_features(const moon_tensor *input, const moon_tensor *w_ih) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  int64_t features = input->shape[input->ndim - 1];
  if (w_ih->ndim != 2 || w_ih->shape[1] == features) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input has %" PRId64 " features but weights[1] (w_ih) expects %"
                   PRId64 " (input %s, weights[1] %s)", features, w_ih->shape[1],
                   tensor_shape_text(input, x), tensor_shape_text(w_ih, w));
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
  MOON_TRY(check_features(input, list->tensors.list[0]));
  s->hidden = list->tensors.list[1]->shape[1];
  MOON_TRY(cell_rows(s->kind, s->hidden, &rows));
  for (int64_t i = 0; i < cells; i++) {
    moon_tensor **w = list->tensors.list + i * each;
    int64_t inputs = i < s->directions ? input->shape[input->ndim - 1] : s->hidden * s->directions;
    char name[32];
    weights[i] = (cell_weights){ w[0], w[1], bias ? w[2] : NULL, bias ? w[3] : NULL };
    for (int k = 0; k < each; k++) {
      snprintf(name, sizeof name, "weights[%" PRId64 "]", i * each + k + 1);
      if (k < 2) MOON_TRY(cell_check_weight(name, w[k], rows, k == 0 ? inputs : s->hidden));
      else MOON_TRY(cell_check_bias(name, w[k], rows));
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
