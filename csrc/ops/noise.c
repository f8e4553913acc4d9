// Noise that regularises: dropout of whole channels and samples, dropout that keeps the statistics
// of selu, gaussian noise. Each multiplies or adds a random tensor that has no gradient; whole
// channels share an element by broadcasting. Outside of training the input comes out as it is.
#include <math.h>

#include "ops/compose.h"
#include "ops/random.h"

enum { INPUT, P, TRAINING };

static moon_status check(const op_value *args, bool needs_batch) {
  const moon_tensor *x = args[INPUT].tensor;
  double p = args[P].number;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", x));
  if (!(p >= 0 && p <= 1))
    return moon_fail(MOON_BAD_ARGUMENT, "p must lie in 0..1, got %g", p);
  if (!needs_batch || x->ndim > 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, ...), got %s",
                   tensor_shape_text(x, text));
}

static moon_status unchanged(op_call *call) {
  call->results[0] = tensor_retain(call->args[INPUT].tensor);
  return MOON_OK;
}

// 0 with probability p, else 1 / (1 - p); one number for all that `shared` dimensions on see.
static moon_tensor *draw_mask(compose *c, const moon_tensor *x, double p, int shared) {
  int64_t shape[MOON_MAX_DIMS];
  moon_tensor *ones = NULL;
  for (int i = 0; i < x->ndim; i++) shape[i] = i < shared ? x->shape[i] : 1;
  moon_status status = ops_new_filled(c->engine, x, x->dtype, x->ndim, shape, 1, &ones);
  ones = compose_adopt(c, status, ones);
  return COMPOSE(c, dropout, op_tensor(ones), op_number(p), op_bool(true));
}

static moon_status drop(op_call *call, int shared) {
  moon_tensor *x = call->args[INPUT].tensor;
  double p = call->args[P].number;
  if (!call->args[TRAINING].boolean || p == 0) return unchanged(call);
  compose c = compose_open(call->engine);
  moon_tensor *mask = draw_mask(&c, x, p, shared);
  moon_tensor *y = COMPOSE(&c, mul, op_tensor(x), op_tensor(mask));
  return compose_close(&c, y, &call->results[0]);
}

// Row: the number of dimensions that input must have.
static moon_status forward_channels(op_call *call) {
  static const char *const layouts[] = { [3] = "(n, c, l)", [4] = "(n, c, h, w)",
                                         [5] = "(n, c, d, h, w)" };
  MOON_TRY(check(call->args, true));
  MOON_TRY(ops_need_ndim("input", call->args[INPUT].tensor, (int)call->op->row,
                         layouts[call->op->row]));
  return drop(call, 2);
}

static moon_status forward_path(op_call *call) {
  MOON_TRY(check(call->args, true));
  return drop(call, 1);
}

// What selu tends to for very negative inputs, -scale * alpha.
static const double selu_floor = -1.7580993408473766;

// a (m x + (1 - m) floor) + b, with a and b such that mean 0 and variance 1 stay
static moon_status forward_alpha(op_call *call) {
  bool whole_channels = call->op->row;
  moon_tensor *x = call->args[INPUT].tensor;
  double p = call->args[P].number;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(check(call->args, whole_channels));
  if (whole_channels && x->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c, ...), got %s",
                     tensor_shape_text(x, text));
  if (!call->args[TRAINING].boolean || p == 0) return unchanged(call);
  compose c = compose_open(call->engine);
  if (p == 1) return compose_close(&c, compose_scale(&c, x, 0), &call->results[0]);
  double a = 1 / sqrt((selu_floor * selu_floor * p + 1) * (1 - p)), b = -a * selu_floor * p;
  moon_tensor *mask = draw_mask(&c, x, p, whole_channels ? 2 : x->ndim);
  moon_tensor *zero = compose_number(&c, x, 0);
  moon_tensor *kept = COMPOSE(&c, gt, op_tensor(mask), op_tensor(zero));
  moon_tensor *scaled = compose_offset(&c, compose_scale(&c, x, a), b);
  moon_tensor *instead = compose_number(&c, x, a * selu_floor + b);
  moon_tensor *y = COMPOSE(&c, where, op_tensor(kept), op_tensor(scaled), op_tensor(instead));
  return compose_close(&c, y, &call->results[0]);
}

static moon_status forward_gaussian(op_call *call) {
  enum { STD = 1 };
  moon_tensor *x = call->args[INPUT].tensor, *noise = NULL;
  double deviation = call->args[STD].number;
  MOON_TRY(ops_need_float("input", x));
  if (!(deviation >= 0) || isinf(deviation))
    return moon_fail(MOON_BAD_ARGUMENT, "std must be a number from 0, got %g", deviation);
  if (!call->args[TRAINING].boolean || deviation == 0) return unchanged(call);
  compose c = compose_open(call->engine);
  moon_status status = tensor_new_like(call->engine, x, &noise);
  noise = compose_adopt(&c, status, noise);
  if (noise) compose_check(&c, random_fill_normal(call->engine, 0, deviation, noise));
  moon_tensor *y = COMPOSE(&c, add, op_tensor(x), op_tensor(noise));
  return compose_close(&c, y, &call->results[0]);
}

#define SCHEMA "(input: Tensor, p: number = 0.5, training: bool = true) -> out"
#define CHANNEL_DOC(layout)                                                                 \
  "In training, sets each channel of each sample of input " layout " to zero with "         \
  "probability p and divides the others by 1 - p (Tompson et al. 2015)."

static op_descriptor descriptors[] = {
  { .name = "dropout1d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .schema = SCHEMA, .row = 3,
    .doc = CHANNEL_DOC("(n, c, l)"),
    .example = "moon.dropout1d(moon.ones(1, 2, 3), 0.5, false):sum() --> 6",
    .forward = forward_channels },
  { .name = "dropout2d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .schema = SCHEMA, .row = 4,
    .doc = CHANNEL_DOC("(n, c, h, w)"),
    .example = "moon.dropout2d(moon.ones(1, 2, 3, 1), 0.5, false):sum() --> 6",
    .forward = forward_channels },
  { .name = "dropout3d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .schema = SCHEMA, .row = 5,
    .doc = CHANNEL_DOC("(n, c, d, h, w)"),
    .example = "moon.dropout3d(moon.ones(1, 2, 3, 1, 1), 0.5, false):sum() --> 6",
    .forward = forward_channels },
  { .name = "alpha_dropout", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .schema = SCHEMA,
    .doc = "In training, sets each element with probability p to the value selu saturates at, and "
           "scales and shifts all so that mean 0 and variance 1 stay. "
           "a * (m * x + (1 - m) * s) + b with s = -1.7581, a = ((1 - p) * (1 + p * s^2))^(-1/2), "
           "b = -a * p * s (Klambauer et al. 2017).",
    .example = "moon.alpha_dropout(moon.ones(3), 0.5, false) --> { 1, 1, 1 }",
    .forward = forward_alpha },
  { .name = "feature_alpha_dropout", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .schema = SCHEMA,
    .row = 1,
    .doc = "alpha_dropout of whole channels of input (n, c, ...) (Klambauer et al. 2017).",
    .example = "moon.feature_alpha_dropout(moon.ones(1, 3), 0.5, false) --> { { 1, 1, 1 } }",
    .forward = forward_alpha },
  { .name = "drop_path", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .schema = SCHEMA,
    .doc = "In training, sets each sample of input (n, ...) to zero with probability p and divides "
           "the others by 1 - p: on a residual branch, stochastic depth (Huang et al. 2016).",
    .example = "moon.drop_path(moon.ones(2, 3), 1):sum() --> 0",
    .forward = forward_path },
  { .name = "gaussian_noise", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, std: number = 0.1, training: bool = true) -> out",
    .doc = "In training, adds to each element a number drawn from a normal distribution of mean 0 "
           "and deviation std (Bishop 1995).",
    .example = "moon.gaussian_noise(moon.ones(3), 0.1, false) --> { 1, 1, 1 }",
    .forward = forward_gaussian },
};
OP_FAMILY(noise, descriptors);
