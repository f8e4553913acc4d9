// Losses that are a negative logarithm of a likelihood, or a divergence of distributions, for
// targets of the input's shape. (Bernoulli is binary_cross_entropy in losses.c, the categorical
// one cross_entropy in classification.c.)
#include <float.h>
#include <math.h>

#include "ops/loss.h"

enum { INPUT, TARGET };

static const double log_two_pi = 1.8378770664093454836;

// x where `condition` holds, elsewhere a number.
static moon_tensor *where_or(compose *c, moon_tensor *condition, moon_tensor *x, double other) {
  moon_tensor *number = compose_number(c, x, other);
  return COMPOSE(c, where, op_tensor(condition), op_tensor(x), op_tensor(number));
}

// x log x, 0 where x is 0; its slope there is 0 too.
static moon_tensor *x_log_x(compose *c, moon_tensor *x) {
  moon_tensor *zero = compose_number(c, x, 0);
  moon_tensor *positive = COMPOSE(c, gt, op_tensor(x), op_tensor(zero));
  moon_tensor *log_x = COMPOSE(c, log, op_tensor(where_or(c, positive, x, 1)));
  return loss_times(c, x, log_x);
}

// -- kl_div

enum { KL_REDUCTION = 2, KL_LOG_TARGET };
enum { KL_BATCHMEAN = LOSS_NONE + 1 };

static moon_status forward_kl(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TARGET].tensor, *losses;
  int64_t reduction = call->args[KL_REDUCTION].integer;
  MOON_TRY(loss_check_pair("input", x, "target", t));
  if (reduction == KL_BATCHMEAN && x->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "\"batchmean\" needs a batch, got input 0-d");
  compose c = compose_open(call->engine);
  if (call->args[KL_LOG_TARGET].boolean) {
    moon_tensor *p = COMPOSE(&c, exp, op_tensor(t));
    losses = loss_times(&c, p, loss_minus(&c, t, x));
  } else {
    losses = loss_minus(&c, x_log_x(&c, t), loss_times(&c, t, x));
  }
  if (reduction == KL_BATCHMEAN) {
    losses = COMPOSE(&c, sum, op_tensor(losses));
    losses = compose_scale(&c, losses, 1 / (double)x->shape[0]);
    reduction = LOSS_NONE;
  }
  return loss_close(&c, losses, reduction, &call->results[0]);
}

// -- poisson_nll_loss

// t log t - t + log(2 pi t) / 2 for t above 1, else 0: log t! by Stirling's formula
static moon_tensor *stirling(compose *c, moon_tensor *t) {
  moon_tensor *one = compose_number(c, t, 1);
  moon_tensor *above = COMPOSE(c, gt, op_tensor(t), op_tensor(one));
  moon_tensor *safe = where_or(c, above, t, 1);
  moon_tensor *log_t = COMPOSE(c, log, op_tensor(safe));
  moon_tensor *sum = loss_minus(c, loss_times(c, safe, log_t), safe);
  sum = loss_plus(c, sum, compose_scale(c, log_t, 0.5));
  return where_or(c, above, compose_offset(c, sum, 0.5 * log_two_pi), 0);
}

static moon_status forward_poisson(op_call *call) {
  enum { LOG_INPUT = 2, FULL, EPS, REDUCTION };
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor, *rate = x, *log_rate = x;
  MOON_TRY(loss_check_pair("input", x, "target", t));
  if (!(args[EPS].number >= 0))
    return moon_fail(MOON_BAD_ARGUMENT, "eps must not be negative, got %g", args[EPS].number);
  compose c = compose_open(call->engine);
  if (args[LOG_INPUT].boolean) rate = COMPOSE(&c, exp, op_tensor(x));
  else log_rate = COMPOSE(&c, log, op_tensor(compose_offset(&c, x, args[EPS].number)));
  moon_tensor *losses = loss_minus(&c, rate, loss_times(&c, t, log_rate));
  if (args[FULL].boolean) losses = loss_plus(&c, losses, stirling(&c, t));
  return loss_close(&c, losses, args[REDUCTION].integer, &call->results[0]);
}

// -- gaussian_nll_loss

enum { GAUSS_VAR = 2, GAUSS_FULL, GAUSS_EPS, GAUSS_REDUCTION };

static moon_status check_gaussian(moon_engine *engine, const op_value *args) {
  moon_tensor *x = args[INPUT].tensor, *var = args[GAUSS_VAR].tensor;
  double least;
  MOON_TRY(loss_check_pair("input", x, "target", args[TARGET].tensor));
  MOON_TRY(loss_check_weight("var", x, var));
  if (!(args[GAUSS_EPS].number > 0))
    return moon_fail(MOON_BAD_ARGUMENT, "eps must be positive, got %g", args[GAUSS_EPS].number);
  if (tensor_count(var) == 0) return MOON_OK;
  MOON_TRY(loss_read_extreme(engine, var, REDUCE_MIN, &least));
  if (!(least < 0)) return MOON_OK;   // NaN passes: it shows in the loss
  return moon_fail(MOON_BAD_ARGUMENT, "var must not be negative, found %g", least);
}

// The variance, at least eps. The limit is no part of the gradient, as in PyTorch: a variance that
// fell below eps can grow again.
static moon_tensor *limit_variance(compose *c, moon_tensor *var, double eps) {
  bool enabled = c->engine->grad_enabled;
  c->engine->grad_enabled = false;
  moon_tensor *limited = COMPOSE(c, clamp, op_tensor(var), op_number(eps), op_number(INFINITY));
  moon_tensor *raise = loss_minus(c, limited, var);
  c->engine->grad_enabled = enabled;
  return loss_plus(c, var, raise);
}

static moon_status forward_gaussian(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor, *var = args[GAUSS_VAR].tensor;
  MOON_TRY(check_gaussian(call->engine, args));
  compose c = compose_open(call->engine);
  var = limit_variance(&c, var, args[GAUSS_EPS].number);
  moon_tensor *squares = COMPOSE(&c, square, op_tensor(loss_minus(&c, x, t)));
  moon_tensor *scaled = COMPOSE(&c, div, op_tensor(squares), op_tensor(var));
  moon_tensor *log_var = COMPOSE(&c, log, op_tensor(var));
  moon_tensor *losses = compose_scale(&c, loss_plus(&c, scaled, log_var), 0.5);
  if (args[GAUSS_FULL].boolean) losses = compose_offset(&c, losses, 0.5 * log_two_pi);
  return loss_close(&c, losses, args[GAUSS_REDUCTION].integer, &call->results[0]);
}

// -- focal_loss

enum { FOCAL_ALPHA = 2, FOCAL_GAMMA, FOCAL_REDUCTION };

static double smallest_of(moon_dtype dtype) {
  return dtype == MOON_F64 ? DBL_MIN : dtype == MOON_F16 ? 0x1p-14 : FLT_MIN;
}

// a t + b (1 - t)
static moon_tensor *by_class(compose *c, moon_tensor *t, moon_tensor *a, moon_tensor *b) {
  return loss_plus(c, loss_times(c, a, t), loss_times(c, b, loss_from(c, 1, t)));
}

static moon_status forward_focal(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor;
  double alpha = args[FOCAL_ALPHA].number, gamma = args[FOCAL_GAMMA].number;
  MOON_TRY(loss_check_pair("input", x, "target", t));
  if (!(alpha <= 1))
    return moon_fail(MOON_BAD_ARGUMENT, "alpha must not be above 1, got %g", alpha);
  if (!(gamma >= 0))
    return moon_fail(MOON_BAD_ARGUMENT, "gamma must not be negative, got %g", gamma);
  compose c = compose_open(call->engine);
  moon_tensor *minus = COMPOSE(&c, neg, op_tensor(x));
  moon_tensor *log_p = COMPOSE(&c, logsigmoid, op_tensor(x));
  moon_tensor *log_rest = COMPOSE(&c, logsigmoid, op_tensor(minus));
  moon_tensor *losses = COMPOSE(&c, neg, op_tensor(by_class(&c, t, log_p, log_rest)));
  if (gamma > 0) {   // (1 - p_t)^gamma
    moon_tensor *p = COMPOSE(&c, sigmoid, op_tensor(x));
    moon_tensor *rest = COMPOSE(&c, sigmoid, op_tensor(minus));
    moon_tensor *power = compose_number(&c, x, gamma);
    moon_tensor *wrong = by_class(&c, t, rest, p);
    // the slope of a power below 1 is infinite at 0
    wrong = COMPOSE(&c, clamp, op_tensor(wrong), op_number(smallest_of(x->dtype)),
                    op_number(INFINITY));
    losses = loss_times(&c, losses, COMPOSE(&c, pow, op_tensor(wrong), op_tensor(power)));
  }
  if (alpha >= 0) {
    moon_tensor *weight = compose_offset(&c, compose_scale(&c, t, 2 * alpha - 1), 1 - alpha);
    losses = loss_times(&c, losses, weight);
  }
  return loss_close(&c, losses, args[FOCAL_REDUCTION].integer, &call->results[0]);
}

#define SCHEMA(options) "(input: Tensor, target: Tensor, " options ") -> out"

static op_descriptor descriptors[] = {
  { .name = "kl_div", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("reduction: \"mean\"|\"sum\"|\"none\"|\"batchmean\" = \"mean\", "
                     "log_target: bool = false"),
    .doc = "target * (log(target) - input), element by element, for input the logarithms of "
           "probabilities and target probabilities, or their logarithms with log_target. Then the "
           "mean or sum; \"batchmean\", the sum over the size of dimension 1, is the divergence a "
           "sample (Kullback and Leibler 1951).",
    .example = "moon.kl_div(moon.zeros(1, 2), moon.tensor { { 1, 0 } }) --> 0",
    .forward = forward_kl },
  { .name = "poisson_nll_loss", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("log_input: bool = true, full: bool = false, eps: number = 1e-8, "
                     LOSS_REDUCTION),
    .doc = "Minus the logarithm of the probability of counts target under Poisson distributions of "
           "mean exp(input), or input where log_input is false. exp(input) - target * input, or "
           "input - target * log(input + eps); full adds Stirling's log(target!) for counts above "
           "1; then the mean or sum.",
    .example = "moon.poisson_nll_loss(moon.zeros(2), moon.tensor { 1, 3 }) --> 1",
    .forward = forward_poisson },
  { .name = "gaussian_nll_loss", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("var: Tensor, full: bool = false, eps: number = 1e-6, " LOSS_REDUCTION),
    .doc = "Minus the logarithm of the density of target under normal distributions of mean input "
           "and variance var. (log(var) + (input - target)^2 / var) / 2, var broadcast to input "
           "and raised to at least eps; full adds log(2 pi) / 2; then the mean or sum (Nix and "
           "Weigend 1994).",
    .example = "moon.gaussian_nll_loss(moon.zeros(2), moon.tensor { 2, 2 }, moon.ones(2)) --> 2",
    .forward = forward_gaussian },
  { .name = "focal_loss", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("alpha: number = 0.25, gamma: number = 2, " LOSS_REDUCTION),
    .doc = "binary_cross_entropy_with_logits that plays down what is right already. With p = "
           "sigmoid(input) where target is 1 and 1 - sigmoid(input) where it is 0: "
           "-w * (1 - p)^gamma * log(p), w = alpha for target 1 and 1 - alpha for 0 (a negative "
           "alpha: no weight); then the mean or sum (Lin et al. 2017).",
    .example = "moon.focal_loss(moon.zeros(1), moon.ones(1), { gamma = 1, alpha = -1 })"
               ":mul(1000):round() --> 347",
    .forward = forward_focal },
};
OP_FAMILY(likelihoods, descriptors);
