// Losses between tensors of one shape: what is compared must agree in size, nothing broadcasts.
// Most are made of other operators, which give both sides their gradients. binary_cross_entropy has
// a backward of its own, because the slope of a logarithm that was cut off at 0 is not a number.
// Losses against class labels are in classification.c.
#include <inttypes.h>
#include <math.h>

#include "ops/support.h"

enum { INPUT, TARGET };         // the first two of every operator here
enum { MEAN, SUM, NONE };       // reduction

// -- chains: each step replaces *x by the result of an operator on it; *x is NULL after a failure

static moon_status step(moon_engine *engine, op_descriptor *op, moon_tensor **x, op_value y) {
  moon_tensor *before = *x;
  op_value args[2] = { op_tensor(before), y };
  *x = NULL;
  moon_status status = op_run(engine, op, x, y.given ? 2 : 1, args);
  tensor_release(before);
  return status;
}

static moon_status step_number(moon_engine *engine, op_descriptor *op, moon_tensor **x, double y) {
  moon_tensor *number;
  moon_status status = ops_new_filled(engine, *x, (*x)->dtype, 0, NULL, y, &number);
  if (status == MOON_OK) {
    status = step(engine, op, x, op_tensor(number));
    tensor_release(number);
    return status;
  }
  tensor_release(*x);
  *x = NULL;
  return status;
}

static moon_status step_clamp(moon_engine *engine, moon_tensor **x, double low, double high) {
  moon_tensor *before = *x;
  *x = NULL;
  moon_status status = OP_RUN(engine, ops_get(OP_clamp), x, op_tensor(before), op_number(low),
                              op_number(high));
  tensor_release(before);
  return status;
}

#define STEP(op, x) step(engine, ops_get(OP_##op), x, op_none())
#define STEP_WITH(op, x, y) step(engine, ops_get(OP_##op), x, op_tensor(y))

// -- what all share

static moon_status check_pair(const op_value *args) {
  const moon_tensor *input = args[INPUT].tensor, *target = args[TARGET].tensor;
  char x[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(ops_need_same_dtype("input", input, "target", target));
  if (tensor_same_shape(input, target)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input %s and target %s must have the same shape; reshape one",
                   tensor_shape_text(input, x), tensor_shape_text(target, t));
}

// A weight must broadcast to the input's shape.
static moon_status check_weight(const char *name, const moon_tensor *input,
                                const moon_tensor *weight) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  if (!weight) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, name, weight));
  int missing = input->ndim - weight->ndim;
  bool fits = missing >= 0;
  for (int i = 0; fits && i < weight->ndim; i++)
    fits = weight->shape[i] == 1 || weight->shape[i] == input->shape[i + missing];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s %s does not broadcast to input %s", name,
                   tensor_shape_text(weight, w), tensor_shape_text(input, x));
}

// Takes `losses` over.
static moon_status finish(op_call *call, moon_tensor *losses, int64_t reduction) {
  moon_engine *engine = call->engine;
  if (reduction == MEAN) MOON_TRY(STEP(mean, &losses));
  if (reduction == SUM) MOON_TRY(STEP(sum, &losses));
  call->results[0] = losses;
  return MOON_OK;
}

static moon_status difference(op_call *call, moon_tensor **d) {
  MOON_TRY(check_pair(call->args));
  return OP_RUN(call->engine, ops_get(OP_sub), d, call->args[INPUT], call->args[TARGET]);
}

// -- losses of the difference

static moon_status forward_mse(op_call *call) {
  enum { REDUCTION = 2 };
  moon_engine *engine = call->engine;
  moon_tensor *d;
  MOON_TRY(difference(call, &d));
  MOON_TRY(STEP(square, &d));
  return finish(call, d, call->args[REDUCTION].integer);
}

static moon_status forward_l1(op_call *call) {
  enum { REDUCTION = 2 };
  moon_engine *engine = call->engine;
  moon_tensor *d;
  MOON_TRY(difference(call, &d));
  MOON_TRY(STEP(abs, &d));
  return finish(call, d, call->args[REDUCTION].integer);
}

// *d = z * (d - z / 2), z = min(d, bend), for d that is not negative: d^2 / 2 up to the bend, a
// line of the same slope from there on.
static moon_status bend_parabola(moon_engine *engine, double bend, moon_tensor **d) {
  moon_tensor *z = tensor_retain(*d), *half = NULL;
  moon_status status = step_clamp(engine, &z, -INFINITY, bend);
  if (status == MOON_OK) status = ops_scale(engine, z, 0.5, &half);
  if (status == MOON_OK) status = STEP_WITH(sub, d, half);
  if (status == MOON_OK) status = STEP_WITH(mul, d, z);
  tensor_release(half);
  tensor_release(z);
  if (status == MOON_OK) return MOON_OK;
  tensor_release(*d);
  *d = NULL;
  return status;
}

// smooth_l1_loss divides by the bend, huber_loss does not.
enum { SMOOTH_L1, HUBER };

static moon_status forward_bent(op_call *call) {
  enum { REDUCTION = 2, BEND };
  moon_engine *engine = call->engine;
  double bend = call->args[BEND].number;
  bool smooth = call->op->row == SMOOTH_L1;
  moon_tensor *d;
  if (!(smooth ? bend >= 0 : bend > 0))
    return moon_fail(MOON_BAD_ARGUMENT, "%s, got %g", smooth ? "beta must not be negative"
                     : "delta must be positive", bend);
  MOON_TRY(difference(call, &d));
  MOON_TRY(STEP(abs, &d));
  if (bend > 0) {
    MOON_TRY(bend_parabola(engine, bend, &d));
    if (smooth && bend != 1) MOON_TRY(step_number(engine, ops_get(OP_mul), &d, 1 / bend));
  }
  return finish(call, d, call->args[REDUCTION].integer);
}

// -- binary_cross_entropy

enum { BCE_WEIGHT = 2, BCE_REDUCTION };

static const double smallest_log = -100;       // what log 0 counts as
static const double smallest_slope = 1e-12;    // of x (1 - x), which the gradient divides by

// The extreme element of `x`, read on the host.
static moon_status read_extreme(moon_engine *engine, moon_tensor *x, int kind, double *value) {
  const moon_device *device = tensor_device(x);
  int64_t ones[MOON_MAX_DIMS];
  unsigned char bytes[8];
  moon_tensor *extreme;
  for (int i = 0; i < x->ndim; i++) ones[i] = 1;
  MOON_TRY(ops_new(engine, x, x->dtype, x->ndim, ones, &extreme));
  device_array from = tensor_array(x), to = tensor_array(extreme);
  const void *data = to.data;
  moon_status status = tensor_kernels(x)->reduce(engine, kind, &from, &to);
  if (status == MOON_OK && !device->on_host) {
    status = device->to_host(engine, to.data, bytes, dtype_size(x->dtype));
    data = bytes;
  }
  if (status == MOON_OK) *value = dtype_load(x->dtype, data);
  tensor_release(extreme);
  return status;
}

// NaN passes: it shows in the loss.
static moon_status check_probabilities(moon_engine *engine, moon_tensor *x) {
  double low, high;
  if (tensor_count(x) == 0) return MOON_OK;
  MOON_TRY(read_extreme(engine, x, REDUCE_MIN, &low));
  MOON_TRY(read_extreme(engine, x, REDUCE_MAX, &high));
  if (!(low < 0) && !(high > 1)) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "input must lie in 0..1, found %g; use "
                   "binary_cross_entropy_with_logits for scores", low < 0 ? low : high);
}

// log(x), or log(1 - x), cut off below.
static moon_status cut_log(moon_engine *engine, moon_tensor *x, bool of_rest, moon_tensor **log_x) {
  moon_tensor *y = tensor_retain(x);
  if (of_rest) {
    MOON_TRY(STEP(neg, &y));
    MOON_TRY(STEP(log1p, &y));
  } else {
    MOON_TRY(STEP(log, &y));
  }
  MOON_TRY(step_clamp(engine, &y, smallest_log, INFINITY));
  *log_x = y;
  return MOON_OK;
}

// t * log(x) + (1 - t) * log(1 - x), the second as a difference that is 0 where t is 1
static moon_status log_likelihood(moon_engine *engine, moon_tensor *x, moon_tensor *t,
                                  moon_tensor **likelihood) {
  moon_tensor *log_x, *log_rest = NULL, *part = NULL;
  MOON_TRY(cut_log(engine, x, false, &log_x));
  moon_status status = cut_log(engine, x, true, &log_rest);
  if (status == MOON_OK) status = STEP_WITH(mul, &log_x, t);
  if (status == MOON_OK)
    status = OP_RUN(engine, ops_get(OP_mul), &part, op_tensor(log_rest), op_tensor(t));
  if (status == MOON_OK) status = STEP_WITH(sub, &log_rest, part);
  if (status == MOON_OK) status = STEP_WITH(add, &log_x, log_rest);
  tensor_release(part);
  tensor_release(log_rest);
  if (status == MOON_OK) *likelihood = log_x;
  else tensor_release(log_x);
  return status;
}

static moon_status forward_bce(op_call *call) {
  moon_engine *engine = call->engine;
  moon_tensor *input = call->args[INPUT].tensor, *weight = call->args[BCE_WEIGHT].tensor, *losses;
  MOON_TRY(check_pair(call->args));
  MOON_TRY(check_weight("weight", input, weight));
  MOON_TRY(check_probabilities(engine, input));
  MOON_TRY(log_likelihood(engine, input, call->args[TARGET].tensor, &losses));
  MOON_TRY(STEP(neg, &losses));
  if (weight) MOON_TRY(STEP_WITH(mul, &losses, weight));
  return finish(call, losses, call->args[BCE_REDUCTION].integer);
}

// x - t over x (1 - x), cut off below
static moon_status bce_input_slope(moon_engine *engine, moon_tensor *x, moon_tensor *t,
                                   moon_tensor **slope) {
  moon_tensor *below = tensor_retain(x), *d;
  MOON_TRY(step_number(engine, ops_get(OP_sub), &below, 1));
  MOON_TRY(STEP(neg, &below));
  MOON_TRY(STEP_WITH(mul, &below, x));
  MOON_TRY(step_clamp(engine, &below, smallest_slope, INFINITY));
  moon_status status = OP_RUN(engine, ops_get(OP_sub), &d, op_tensor(x), op_tensor(t));
  if (status == MOON_OK) status = STEP_WITH(div, &d, below);
  tensor_release(below);
  if (status == MOON_OK) *slope = d;
  return status;
}

// log(1 - x) - log(x)
static moon_status bce_target_slope(moon_engine *engine, moon_tensor *x, moon_tensor **slope) {
  moon_tensor *log_x, *log_rest;
  MOON_TRY(cut_log(engine, x, false, &log_x));
  moon_status status = cut_log(engine, x, true, &log_rest);
  if (status == MOON_OK) status = STEP_WITH(sub, &log_rest, log_x);
  tensor_release(log_x);
  if (status == MOON_OK) *slope = log_rest;
  return status;
}

// The gradient of each loss: that of the result, times the weight, over the count for a mean.
static moon_status bce_gradient(op_backward_call *call, moon_tensor **gradient) {
  moon_engine *engine = call->engine;
  const moon_tensor *input = call->args[INPUT].tensor;
  moon_tensor *g = tensor_retain(call->grads[0]), *weight = call->args[BCE_WEIGHT].tensor;
  if (call->args[BCE_REDUCTION].integer == MEAN)
    MOON_TRY(step_number(engine, ops_get(OP_mul), &g, 1.0 / (double)tensor_count(input)));
  if (weight) MOON_TRY(STEP_WITH(mul, &g, weight));
  *gradient = g;
  return MOON_OK;
}

static moon_status backward_bce(op_backward_call *call) {
  moon_engine *engine = call->engine;
  moon_tensor *x = call->args[INPUT].tensor, *g;
  MOON_TRY(bce_gradient(call, &g));
  moon_status status = MOON_OK;
  if (call->needs[INPUT]) {
    status = bce_input_slope(engine, x, call->args[TARGET].tensor, &call->out[INPUT]);
    if (status == MOON_OK) status = STEP_WITH(mul, &call->out[INPUT], g);
  }
  if (status == MOON_OK && call->needs[TARGET]) {
    status = bce_target_slope(engine, x, &call->out[TARGET]);
    if (status == MOON_OK) status = STEP_WITH(mul, &call->out[TARGET], g);
  }
  tensor_release(g);
  return status;
}

// -- binary_cross_entropy_with_logits

// The slope of softplus is 1 to the last bit from here on, in float64 too.
static const double softplus_threshold = 40;

// *x = log(1 + exp(*x)) = -log(sigmoid(-*x))
static moon_status step_softplus(moon_engine *engine, moon_tensor **x) {
  moon_tensor *before = *x;
  *x = NULL;
  moon_status status = OP_RUN(engine, ops_get(OP_softplus), x, op_tensor(before), op_number(1),
                              op_number(softplus_threshold));
  tensor_release(before);
  return status;
}

// (1 - t) * softplus(x), as a difference that is 0 where t is 1
static moon_status negative_losses(moon_engine *engine, moon_tensor *x, moon_tensor *t,
                                   moon_tensor **losses) {
  moon_tensor *a = tensor_retain(x), *part;
  MOON_TRY(step_softplus(engine, &a));
  moon_status status = OP_RUN(engine, ops_get(OP_mul), &part, op_tensor(a), op_tensor(t));
  if (status != MOON_OK) {
    tensor_release(a);
    return status;
  }
  status = STEP_WITH(sub, &a, part);
  tensor_release(part);
  if (status == MOON_OK) *losses = a;
  return status;
}

// weight * t * softplus(-x)
static moon_status positive_losses(moon_engine *engine, moon_tensor *x, moon_tensor *t,
                                   moon_tensor *weight, moon_tensor **losses) {
  moon_tensor *b = tensor_retain(x);
  MOON_TRY(STEP(neg, &b));
  MOON_TRY(step_softplus(engine, &b));
  MOON_TRY(STEP_WITH(mul, &b, t));
  if (weight) MOON_TRY(STEP_WITH(mul, &b, weight));
  *losses = b;
  return MOON_OK;
}

static moon_status forward_bce_with_logits(op_call *call) {
  enum { POS_WEIGHT = 2, WEIGHT, REDUCTION };
  moon_engine *engine = call->engine;
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TARGET].tensor, *losses, *positive;
  moon_tensor *weight = call->args[WEIGHT].tensor, *pos_weight = call->args[POS_WEIGHT].tensor;
  MOON_TRY(check_pair(call->args));
  MOON_TRY(check_weight("weight", x, weight));
  MOON_TRY(check_weight("pos_weight", x, pos_weight));
  MOON_TRY(negative_losses(engine, x, t, &losses));
  moon_status status = positive_losses(engine, x, t, pos_weight, &positive);
  if (status != MOON_OK) {
    tensor_release(losses);
    return status;
  }
  status = STEP_WITH(add, &losses, positive);
  tensor_release(positive);
  if (status == MOON_OK && weight) status = STEP_WITH(mul, &losses, weight);
  return status == MOON_OK ? finish(call, losses, call->args[REDUCTION].integer) : status;
}

#define REDUCTION_SCHEMA "reduction: \"mean\"|\"sum\"|\"none\" = \"mean\""
#define SCHEMA(options) "(input: Tensor, target: Tensor, " options ") -> out"

static op_descriptor descriptors[] = {
  { .name = "mse_loss",
    .example = "moon.mse_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 5",
    .dtypes = OP_FLOATS, .schema = SCHEMA(REDUCTION_SCHEMA), .flags = OP_COMPOSITE,
    .doc = "The square of input - target, element by element, then its mean or sum.",
    .forward = forward_mse },
  { .name = "l1_loss",
    .example = "moon.l1_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 2",
    .dtypes = OP_FLOATS, .schema = SCHEMA(REDUCTION_SCHEMA), .flags = OP_COMPOSITE,
    .doc = "The absolute value of input - target, element by element, then its mean or sum.",
    .forward = forward_l1 },
  { .name = "smooth_l1_loss",
    .example = "moon.smooth_l1_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 1.5",
    .dtypes = OP_FLOATS, .schema = SCHEMA(REDUCTION_SCHEMA ", beta: number = 1"),
    .flags = OP_COMPOSITE, .row = SMOOTH_L1,
    .doc = "With d = |input - target|: d^2 / (2 * beta) where d is below beta, d - beta / 2 above; "
           "then the mean or sum (Girshick 2015).",
    .forward = forward_bent },
  { .name = "huber_loss",
    .example = "moon.huber_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 1.5",
    .dtypes = OP_FLOATS, .schema = SCHEMA(REDUCTION_SCHEMA ", delta: number = 1"),
    .flags = OP_COMPOSITE, .row = HUBER,
    .doc = "With d = |input - target|: d^2 / 2 where d is below delta, delta * (d - delta / 2) "
           "above; then the mean or sum (Huber 1964).",
    .forward = forward_bent },
  { .name = "binary_cross_entropy",
    .example = "moon.binary_cross_entropy(moon.tensor {0.5}, moon.tensor {1}) --> 0.6931",
    .dtypes = OP_FLOATS, .schema = SCHEMA("weight: Tensor?, " REDUCTION_SCHEMA),
    .saves = "input target@input weight",
    .doc = "-weight * (target * log(input) + (1 - target) * log(1 - input)) for probabilities "
           "input in 0..1, then the mean or sum. A logarithm below -100 counts as -100. weight "
           "broadcasts to input and has no gradient.",
    .forward = forward_bce, .backward = backward_bce },
  { .name = "binary_cross_entropy_with_logits",
    .example = "moon.binary_cross_entropy_with_logits(moon.tensor {0}, moon.tensor {1}) "
               "--> 0.6931",
    .dtypes = OP_FLOATS,
    .schema = SCHEMA("pos_weight: Tensor?, weight: Tensor?, " REDUCTION_SCHEMA),
    .flags = OP_COMPOSITE,
    .doc = "binary_cross_entropy of sigmoid(input), without overflow. weight and pos_weight "
           "broadcast to input; pos_weight weighs the part of target, so that rare positives can "
           "count more.",
    .forward = forward_bce_with_logits },
};
OP_FAMILY(losses, descriptors);
