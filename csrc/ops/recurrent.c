// Recurrent networks: whole sequences through layers (recurrent_layer.h), with dropout between them
// that is the same on every device.
//
// Weights come as PyTorch lists them: for each layer, and in it for each direction, w_ih, w_hh and,
// with biases, b_ih, b_hh.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops/pieces.h"
#include "ops/recurrent_layer.h"

// What all layers of a call share.
typedef struct network {
  moon_engine *engine;
  cell_kind kind;
  int64_t steps, batch, hidden, layers;
  int directions;              // 1 or 2
  int each;                    // weights of a direction
  double dropout;              // between layers
  bool training;
  // owned, as all that follows
  moon_tensor *last, *last_on_host;   // (n) int64: each sequence's last step, from 0; NULL = all
  moon_tensor **h, **c;        // states of each layer, (directions, n, hidden); NULL = zeros
  moon_tensor *x;              // what goes into the next layer
} network;

// -- arguments of a whole network

// Positions in the schemas below, which agree but for lstm's c0 and rnn's nonlinearity at the end.
typedef struct positions { int h0, c0, layers, bias, dropout, training, bidirectional, batch_first,
                           lengths, nonlinearity; } positions;
static const positions with_cell = { 2, 3, 4, 5, 6, 7, 8, 9, 10, -1 };
static const positions without_cell = { 2, -1, 3, 4, 5, 6, 7, 8, 9, 10 };
enum { INPUT, WEIGHTS };

static moon_status read_options(op_call *call, const positions *at, network *net) {
  const op_value *args = call->args;
  net->kind = (cell_kind)call->op->row;
  if (net->kind == RNN_TANH && args[at->nonlinearity].integer == 1) net->kind = RNN_RELU;
  net->layers = args[at->layers].integer;
  net->directions = args[at->bidirectional].boolean ? 2 : 1;
  net->dropout = args[at->dropout].number;
  net->training = args[at->training].boolean;
  if (net->layers < 1 || net->layers > 4096)
    return moon_fail(MOON_BAD_ARGUMENT, "layers must be from 1 to 4096, got %" PRId64, net->layers);
  if (!(net->dropout >= 0 && net->dropout < 1))
    return moon_fail(MOON_BAD_ARGUMENT, "dropout must be from 0 up to but not including 1, got %g",
                     net->dropout);
  return MOON_OK;
}

static moon_status check_input(const op_call *call, const positions *at, network *net) {
  const moon_tensor *input = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  bool batch_first = call->args[at->batch_first].boolean;
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim < 2 || input->ndim > 3)
    return moon_fail(MOON_BAD_SHAPE, "input must be %s, or (steps, in) for one sequence, got %s",
                     batch_first ? "(n, steps, in)" : "(steps, n, in)",
                     tensor_shape_text(input, text));
  net->steps = input->shape[input->ndim == 3 && batch_first ? 1 : 0];
  net->batch = input->ndim == 2 ? 1 : input->shape[batch_first ? 0 : 1];
  if (net->steps < 1 || net->steps > INT32_MAX)
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

// Checks the list of weights, which tells the size of the state.
static moon_status read_weights(const op_call *call, const positions *at, network *net) {
  const op_value *list = &call->args[WEIGHTS];
  const moon_tensor *input = call->args[INPUT].tensor;
  int64_t cells = net->layers * net->directions, rows;
  net->each = call->args[at->bias].boolean ? 4 : 2;
  if (list->tensors.count != cells * net->each)
    return moon_fail(MOON_BAD_ARGUMENT, "weights must be %" PRId64 " tensors (%d for each of %"
                     PRId64 " layers and %d directions), got %d", cells * net->each, net->each,
                     net->layers, net->directions, list->tensors.count);
  for (int i = 0; i < list->tensors.count; i++)
    MOON_TRY(ops_need_same_dtype("input", input, "weights", list->tensors.list[i]));
  if (list->tensors.list[1]->ndim != 2)
    return moon_fail(MOON_BAD_SHAPE, "weights[2] (w_hh) must have 2 dimensions, got %d",
                     list->tensors.list[1]->ndim);
  MOON_TRY(check_features(input, list->tensors.list[0]));
  net->hidden = list->tensors.list[1]->shape[1];
  MOON_TRY(cell_rows(net->kind, net->hidden, &rows));
  for (int64_t i = 0; i < cells; i++) {
    moon_tensor **w = list->tensors.list + i * net->each;
    int64_t inputs = i < net->directions ? input->shape[input->ndim - 1]
                                         : net->hidden * net->directions;
    char name[32];
    for (int k = 0; k < net->each; k++) {
      snprintf(name, sizeof name, "weights[%" PRId64 "]", i * net->each + k + 1);
      if (k < 2) MOON_TRY(cell_check_weight(name, w[k], rows, k == 0 ? inputs : net->hidden));
      else MOON_TRY(cell_check_bias(name, w[k], rows));
    }
  }
  return MOON_OK;
}

// h0 or c0: (layers directions, n, hidden), without n for one sequence. NULL is fine.
static moon_status check_state(const op_call *call, const network *net, const char *name,
                               const moon_tensor *state) {
  const moon_tensor *input = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT], wanted[TENSOR_SHAPE_TEXT];
  int64_t shape[3] = { net->layers * net->directions, net->batch, net->hidden };
  if (!state) return MOON_OK;
  if (input->ndim == 2) shape[1] = net->hidden;
  MOON_TRY(ops_need_same_dtype("input", input, name, state));
  if (state->ndim == input->ndim &&
      memcmp(state->shape, shape, (size_t)state->ndim * sizeof *shape) == 0)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %s (layers times directions%s, hidden), got %s",
                   name, shape_text(input->ndim, shape, wanted), input->ndim == 3 ? ", n" : "",
                   tensor_shape_text(state, text));
}

static moon_status read_lengths(const op_call *call, const positions *at, network *net) {
  const moon_tensor *lengths = call->args[at->lengths].tensor;
  char text[TENSOR_SHAPE_TEXT];
  if (!lengths) return MOON_OK;
  if (lengths->ndim != 1 || lengths->shape[0] != net->batch)
    return moon_fail(MOON_BAD_SHAPE, "lengths must hold a number for each of %" PRId64
                     " sequences, got %s", net->batch, tensor_shape_text(lengths, text));
  return ops_index_in(net->engine, "lengths", lengths, net->steps, &net->last);
}

// -- running a network

// The first states of every layer into `list` (owned there), as far as they were given.
static moon_status open_states(const network *net, moon_tensor *given, bool batched,
                               moon_tensor **list) {
  if (!given) return MOON_OK;
  compose k = compose_open(net->engine);
  if (!batched) given = COMPOSE(&k, unsqueeze, op_tensor(given), op_int(1));
  if (given)
    compose_check(&k, pieces_cut(net->engine, given, 0, net->directions, net->layers, list));
  return compose_close(&k, NULL, NULL);
}

// The last states as one tensor (layers directions, n, hidden).
static moon_status close_states(const network *net, moon_tensor **list, bool batched,
                                moon_tensor **result) {
  compose k = compose_open(net->engine);
  moon_tensor *all = list[0];
  if (net->layers > 1) all = COMPOSE(&k, cat, op_tensors(list, (int)net->layers), op_int(0));
  if (!batched) all = COMPOSE(&k, squeeze, op_tensor(all), op_int(1));
  return compose_close(&k, all, result);
}

static void close_network(network *net) {
  pieces_delete(net->h, net->layers);
  pieces_delete(net->c, net->layers);
  tensor_release(net->x);
  tensor_release(net->last);
  tensor_release(net->last_on_host);
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
  MOON_TRY(read_weights(call, at, net));
  MOON_TRY(check_state(call, net, "h0", h0));
  MOON_TRY(check_state(call, net, "c0", c0));
  MOON_TRY(read_lengths(call, at, net));
  MOON_TRY(pieces_new(net->layers, &net->h));
  MOON_TRY(pieces_new(net->layers, &net->c));
  MOON_TRY(open_states(net, h0, input->ndim == 3, net->h));
  MOON_TRY(open_states(net, c0, input->ndim == 3, net->c));
  return turn(call->engine, input, input->ndim == 3, call->args[at->batch_first].boolean, false,
              &net->x);
}

static void replace(moon_tensor **tensor, moon_tensor *by) {
  tensor_release(*tensor);
  *tensor = by;
}

// Dropout between layers, in place of net->x.
static moon_status drop(network *net) {
  moon_tensor *dropped;
  MOON_TRY(OP_RUN(net->engine, ops_get(OP_dropout), &dropped, op_tensor(net->x),
                  op_number(net->dropout), op_bool(true)));
  replace(&net->x, dropped);
  return MOON_OK;
}

static moon_status run_layers(const op_call *call, network *net) {
  int count = net->directions * net->each;
  for (int64_t layer = 0; layer < net->layers; layer++) {
    moon_tensor *results[OP_MAX_RESULTS];
    op_value args[LAYER_ARGUMENTS] = {
      [LAYER_INPUT] = op_tensor(net->x),
      [LAYER_WEIGHTS] = op_tensors(call->args[WEIGHTS].tensors.list + layer * count, count),
      [LAYER_H0] = op_tensor(net->h[layer]), [LAYER_C0] = op_tensor(net->c[layer]),
      [LAYER_LAST] = op_tensor(net->last), [LAYER_KIND] = op_int(net->kind),
      [LAYER_DIRECTIONS] = op_int(net->directions),
    };
    MOON_TRY(recurrent_layer(net->engine, args, &net->last_on_host, results));
    replace(&net->x, results[LAYER_OUT]);
    replace(&net->h[layer], results[LAYER_H]);
    replace(&net->c[layer], results[LAYER_C]);
    tensor_release(results[LAYER_RESERVE]);
    bool drops = net->training && net->dropout > 0 && layer < net->layers - 1;
    if (drops) MOON_TRY(drop(net));
  }
  return MOON_OK;
}

static moon_status forward_network(op_call *call, const positions *at) {
  network net = { .engine = call->engine };
  bool batched = call->args[INPUT].tensor->ndim == 3;
  MOON_TRY(read_options(call, at, &net));
  MOON_TRY(check_input(call, at, &net));
  moon_status status = prepare(call, at, &net);
  if (status == MOON_OK) status = run_layers(call, &net);
  if (status == MOON_OK)
    status = turn(call->engine, net.x, batched, call->args[at->batch_first].boolean, true,
                  &call->results[0]);
  if (status == MOON_OK) status = close_states(&net, net.h, batched, &call->results[1]);
  if (status == MOON_OK && net.kind == LSTM)
    status = close_states(&net, net.c, batched, &call->results[2]);
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
