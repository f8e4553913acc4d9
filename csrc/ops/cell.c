// Steps of recurrent networks, and the operators rnn_cell, lstm_cell and gru_cell. See cell.h.
#include "ops/cell.h"

#include <inttypes.h>

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

typedef cell_state (*step_function)(compose *, moon_tensor *, moon_tensor *, const cell_state *);
static const step_function steps[] = { step_tanh, step_relu, step_lstm, step_gru };

cell_state cell_step(compose *k, cell_kind kind, moon_tensor *x, moon_tensor *u,
                     const cell_state *before) {
  return steps[kind](k, x, u, before);
}

moon_tensor *cell_project(compose *k, moon_tensor *x, moon_tensor *weight, moon_tensor *bias) {
  return COMPOSE(k, linear, op_tensor(x), op_tensor(weight), op_tensor(bias));
}

void cell_release(cell_state *state) {
  tensor_release(state->h);
  tensor_release(state->c);
  *state = (cell_state){ NULL, NULL };
}

// -- cells as operators

moon_status cell_check_weight(const char *name, const moon_tensor *weight, int64_t rows,
                                int64_t columns) {
  char text[TENSOR_SHAPE_TEXT], wanted[TENSOR_SHAPE_TEXT];
  if (weight->ndim == 2 && weight->shape[0] == rows && weight->shape[1] == columns) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %s, got %s", name,
                   shape_text(2, (int64_t[]){ rows, columns }, wanted),
                   tensor_shape_text(weight, text));
}

moon_status cell_check_bias(const char *name, const moon_tensor *bias, int64_t rows) {
  char text[TENSOR_SHAPE_TEXT];
  if (!bias || (bias->ndim == 1 && bias->shape[0] == rows)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %" PRId64 ", got %s", name, rows,
                   tensor_shape_text(bias, text));
}

moon_status cell_rows(cell_kind kind, int64_t hidden, int64_t *rows) {
  if (__builtin_mul_overflow(hidden, (int64_t)cell_gates(kind), rows))
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
  MOON_TRY(cell_rows(kind, hidden, &rows));
  MOON_TRY(cell_check_weight("w_ih", w->w_ih, rows, input->shape[input->ndim - 1]));
  MOON_TRY(cell_check_weight("w_hh", w->w_hh, rows, hidden));
  MOON_TRY(cell_check_bias("b_ih", w->b_ih, rows));
  return cell_check_bias("b_hh", w->b_hh, rows);
}

static moon_status run_cell(op_call *call, cell_kind kind, moon_tensor *input,
                            const cell_state *state, const cell_weights *w) {
  MOON_TRY(check_cell(kind, input, state, w));
  compose k = compose_open(call->engine);
  moon_tensor *x = cell_project(&k, input, w->w_ih, w->b_ih);
  moon_tensor *u = cell_project(&k, state->h, w->w_hh, w->b_hh);
  cell_state after = cell_step(&k, kind, x, u, state);
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

// -- descriptors

#define CELL_WEIGHTS "w_ih: Tensor, w_hh: Tensor, b_ih: Tensor?, b_hh: Tensor?"
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
};
OP_FAMILY(cell, descriptors);
