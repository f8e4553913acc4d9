// Losses between tensors of one shape: what is compared must agree in size, nothing broadcasts.
// Most are made of other operators, which give both sides their gradients. binary_cross_entropy has
// a backward of its own, because the slope of a logarithm that was cut off at 0 is not a number.
// Losses against class labels are in classification.c.
#include <math.h>

#include "ops/loss.h"

enum { INPUT, TARGET };         // the first two of every operator here

static moon_status check_pair(const op_value *args) {
  return loss_check_pair("input", args[INPUT].tensor, "target", args[TARGET].tensor);
}

// -- losses of the difference

static moon_status forward_mse(op_call *call) {
  enum { REDUCTION = 2 };
  MOON_TRY(check_pair(call->args));
  compose c = compose_open(call->engine);
  moon_tensor *d = COMPOSE(&c, sub, call->args[INPUT], call->args[TARGET]);
  moon_tensor *losses = COMPOSE(&c, square, op_tensor(d));
  return loss_close(&c, losses, call->args[REDUCTION].integer, &call->results[0]);
}

static moon_status forward_l1(op_call *call) {
  enum { REDUCTION = 2 };
  MOON_TRY(check_pair(call->args));
  compose c = compose_open(call->engine);
  moon_tensor *d = COMPOSE(&c, sub, call->args[INPUT], call->args[TARGET]);
  moon_tensor *losses = COMPOSE(&c, abs, op_tensor(d));
  return loss_close(&c, losses, call->args[REDUCTION].integer, &call->results[0]);
}

// z * (d - z / 2), z = min(d, bend), for d that is not negative: d^2 / 2 up to the bend, a line of
// the same slope from there on.
static moon_tensor *bend_parabola(compose *c, moon_tensor *d, double bend) {
  moon_tensor *z = COMPOSE(c, clamp, op_tensor(d), op_number(-INFINITY), op_number(bend));
  return loss_times(c, z, loss_minus(c, d, compose_scale(c, z, 0.5)));
}

// smooth_l1_loss divides by the bend, huber_loss does not.
enum { SMOOTH_L1, HUBER };

static moon_status forward_bent(op_call *call) {
  enum { REDUCTION = 2, BEND };
  double bend = call->args[BEND].number;
  bool smooth = call->op->row == SMOOTH_L1;
  if (!(smooth ? bend >= 0 : bend > 0))
    return moon_fail(MOON_BAD_ARGUMENT, "%s, got %g", smooth ? "beta must not be negative"
                     : "delta must be positive", bend);
  MOON_TRY(check_pair(call->args));
  compose c = compose_open(call->engine);
  moon_tensor *d = COMPOSE(&c, sub, call->args[INPUT], call->args[TARGET]);
  d = COMPOSE(&c, abs, op_tensor(d));
  if (bend > 0) d = bend_parabola(&c, d, bend);
  if (smooth && bend > 0 && bend != 1) d = compose_scale(&c, d, 1 / bend);
  return loss_close(&c, d, call->args[REDUCTION].integer, &call->results[0]);
}

// -- binary_cross_entropy

enum { BCE_WEIGHT = 2, BCE_REDUCTION };

static const double smallest_log = -100;       // what log 0 counts as
static const double smallest_slope = 1e-12;    // of x (1 - x), which the gradient divides by

// NaN passes: it shows in the loss.
static moon_status check_probabilities(moon_engine *engine, moon_tensor *x) {
  double low, high;
  if (tensor_count(x) == 0 || tensor_device(x) == device_meta()) return MOON_OK;
  MOON_TRY(loss_read_extreme(engine, x, REDUCE_MIN, &low));
  MOON_TRY(loss_read_extreme(engine, x, REDUCE_MAX, &high));
  if (!(low < 0) && !(high > 1)) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "input must lie in 0..1, found %g; use "
                   "binary_cross_entropy_with_logits for scores", low < 0 ? low : high);
}

static moon_tensor *cut_off(compose *c, moon_tensor *log_x) {
  return COMPOSE(c, clamp, op_tensor(log_x), op_number(smallest_log), op_number(INFINITY));
}

static moon_tensor *cut_log(compose *c, moon_tensor *x) {
  return cut_off(c, COMPOSE(c, log, op_tensor(x)));
}

// log(1 - x)
static moon_tensor *cut_log_rest(compose *c, moon_tensor *x) {
  moon_tensor *minus = COMPOSE(c, neg, op_tensor(x));
  return cut_off(c, COMPOSE(c, log1p, op_tensor(minus)));
}

// -(t * log(x) + (1 - t) * log(1 - x)), the second part as a difference that is 0 where t is 1
static moon_status forward_bce(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TARGET].tensor;
  moon_tensor *weight = call->args[BCE_WEIGHT].tensor;
  MOON_TRY(check_pair(call->args));
  MOON_TRY(loss_check_weight("weight", x, weight));
  MOON_TRY(check_probabilities(call->engine, x));
  compose c = compose_open(call->engine);
  moon_tensor *log_rest = cut_log_rest(&c, x);
  moon_tensor *negative = loss_minus(&c, log_rest, loss_times(&c, log_rest, t));
  moon_tensor *sum = loss_plus(&c, loss_times(&c, cut_log(&c, x), t), negative);
  moon_tensor *losses = COMPOSE(&c, neg, op_tensor(sum));
  if (weight) losses = loss_times(&c, losses, weight);
  return loss_close(&c, losses, call->args[BCE_REDUCTION].integer, &call->results[0]);
}

// x - t over x (1 - x), cut off below
static moon_tensor *bce_input_slope(compose *c, moon_tensor *x, moon_tensor *t) {
  moon_tensor *below = loss_times(c, loss_from(c, 1, x), x);
  below = COMPOSE(c, clamp, op_tensor(below), op_number(smallest_slope), op_number(INFINITY));
  return COMPOSE(c, div, op_tensor(loss_minus(c, x, t)), op_tensor(below));
}

// The gradient of each loss is that of the result, times the weight, over the count for a mean.
static moon_status backward_bce(op_backward_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *g = call->grads[0];
  compose c = compose_open(call->engine);
  if (call->args[BCE_REDUCTION].integer == LOSS_MEAN)
    g = compose_scale(&c, g, 1.0 / (double)tensor_count(x));
  if (call->args[BCE_WEIGHT].tensor) g = loss_times(&c, g, call->args[BCE_WEIGHT].tensor);
  if (call->needs[INPUT]) {
    moon_tensor *slope = bce_input_slope(&c, x, call->args[TARGET].tensor);
    compose_keep(&c, loss_times(&c, slope, g), &call->out[INPUT]);
  }
  if (call->needs[TARGET]) {
    moon_tensor *slope = loss_minus(&c, cut_log_rest(&c, x), cut_log(&c, x));
    compose_keep(&c, loss_times(&c, slope, g), &call->out[TARGET]);
  }
  return compose_close(&c, NULL, NULL);
}

// -- binary_cross_entropy_with_logits

// log(1 + exp(x)) = -log(sigmoid(-x))
static moon_tensor *softplus(compose *c, moon_tensor *x) {
  return COMPOSE(c, softplus, op_tensor(x), op_number(1), op_number(loss_softplus_threshold));
}

// pos_weight * t * softplus(-x) + (1 - t) * softplus(x), the latter as a difference that is 0 where
// t is 1
static moon_status forward_bce_with_logits(op_call *call) {
  enum { POS_WEIGHT = 2, WEIGHT, REDUCTION };
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TARGET].tensor;
  moon_tensor *weight = call->args[WEIGHT].tensor, *pos_weight = call->args[POS_WEIGHT].tensor;
  MOON_TRY(check_pair(call->args));
  MOON_TRY(loss_check_weight("weight", x, weight));
  MOON_TRY(loss_check_weight("pos_weight", x, pos_weight));
  compose c = compose_open(call->engine);
  moon_tensor *above = softplus(&c, x), *minus = COMPOSE(&c, neg, op_tensor(x));
  moon_tensor *negative = loss_minus(&c, above, loss_times(&c, above, t));
  moon_tensor *positive = loss_times(&c, softplus(&c, minus), t);
  if (pos_weight) positive = loss_times(&c, positive, pos_weight);
  moon_tensor *losses = loss_plus(&c, negative, positive);
  if (weight) losses = loss_times(&c, losses, weight);
  return loss_close(&c, losses, call->args[REDUCTION].integer, &call->results[0]);
}

#define SCHEMA(options) "(input: Tensor, target: Tensor, " options ") -> out"

static op_descriptor descriptors[] = {
  { .name = "mse_loss", .casts = OP_CASTS_FULL,
    .example = "moon.mse_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 5",
    .dtypes = OP_FLOATS, .schema = SCHEMA(LOSS_REDUCTION), .flags = OP_COMPOSITE,
    .doc = "The square of input - target, element by element, then its mean or sum.",
    .forward = forward_mse },
  { .name = "l1_loss", .casts = OP_CASTS_FULL,
    .example = "moon.l1_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 2",
    .dtypes = OP_FLOATS, .schema = SCHEMA(LOSS_REDUCTION), .flags = OP_COMPOSITE,
    .doc = "The absolute value of input - target, element by element, then its mean or sum.",
    .forward = forward_l1 },
  { .name = "smooth_l1_loss", .casts = OP_CASTS_FULL,
    .example = "moon.smooth_l1_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 1.5",
    .dtypes = OP_FLOATS, .schema = SCHEMA(LOSS_REDUCTION ", beta: number = 1"),
    .flags = OP_COMPOSITE, .row = SMOOTH_L1,
    .doc = "With d = |input - target|: d^2 / (2 * beta) where d is below beta, d - beta / 2 above; "
           "then the mean or sum (Girshick 2015).",
    .forward = forward_bent },
  { .name = "huber_loss", .casts = OP_CASTS_FULL,
    .example = "moon.huber_loss(moon.tensor {0, 3}, moon.tensor {1, 0}) --> 1.5",
    .dtypes = OP_FLOATS, .schema = SCHEMA(LOSS_REDUCTION ", delta: number = 1"),
    .flags = OP_COMPOSITE, .row = HUBER,
    .doc = "With d = |input - target|: d^2 / 2 where d is below delta, delta * (d - delta / 2) "
           "above; then the mean or sum (Huber 1964).",
    .forward = forward_bent },
  { .name = "binary_cross_entropy", .casts = OP_CASTS_FULL,
    .example = "moon.binary_cross_entropy(moon.tensor {0.5}, moon.tensor {1}) --> 0.6931",
    .dtypes = OP_FLOATS, .schema = SCHEMA("weight: Tensor?, " LOSS_REDUCTION),
    .saves = "input target@input weight",
    .doc = "-weight * (target * log(input) + (1 - target) * log(1 - input)) for probabilities "
           "input in 0..1, then the mean or sum. A logarithm below -100 counts as -100. weight "
           "broadcasts to input and has no gradient.",
    .forward = forward_bce, .backward = backward_bce },
  { .name = "binary_cross_entropy_with_logits", .casts = OP_CASTS_FULL,
    .example = "moon.binary_cross_entropy_with_logits(moon.tensor {0}, moon.tensor {1}) "
               "--> 0.6931",
    .dtypes = OP_FLOATS,
    .schema = SCHEMA("pos_weight: Tensor?, weight: Tensor?, " LOSS_REDUCTION),
    .flags = OP_COMPOSITE,
    .doc = "binary_cross_entropy of sigmoid(input), without overflow. weight and pos_weight "
           "broadcast to input; pos_weight weighs the part of target, so that rare positives can "
           "count more.",
    .forward = forward_bce_with_logits },
};
OP_FAMILY(losses, descriptors);
