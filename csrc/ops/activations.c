// Activations that are more than one number in, one number out (those are rows of pointwise.def):
// with learnt or random slopes, or along a dimension.
#include <inttypes.h>

#include "ops/compose.h"
#include "ops/random.h"

enum { INPUT };

// x where it is positive, else slope * x
static moon_tensor *leak(compose *c, moon_tensor *x, moon_tensor *slope) {
  moon_tensor *zero = compose_number(c, x, 0);
  moon_tensor *positive = COMPOSE(c, gt, op_tensor(x), op_tensor(zero));
  moon_tensor *leaked = COMPOSE(c, mul, op_tensor(x), op_tensor(slope));
  return COMPOSE(c, where, op_tensor(positive), op_tensor(x), op_tensor(leaked));
}

static moon_status forward_prelu(op_call *call) {
  enum { WEIGHT = 1 };
  moon_tensor *x = call->args[INPUT].tensor, *slope = call->args[WEIGHT].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  int64_t channels = x->ndim > 1 ? x->shape[1] : 1, shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(ops_need_same_dtype("input", x, "weight", slope));
  int64_t count = tensor_count(slope);
  if (slope->ndim > 1 || (count != 1 && count != channels))
    return moon_fail(MOON_BAD_SHAPE, "weight must have 1 element, or one for each of the %" PRId64
                     " channels of input %s, got %s", channels, tensor_shape_text(x, a),
                     tensor_shape_text(slope, b));
  for (int i = 0; i < x->ndim; i++) shape[i] = i == 1 ? count : 1;
  compose c = compose_open(call->engine);
  slope = compose_reshape(&c, slope, x->ndim, shape);
  return compose_close(&c, leak(&c, x, slope), &call->results[0]);
}

static moon_status forward_rrelu(op_call *call) {
  enum { LOWER = 1, UPPER, TRAINING };
  moon_tensor *x = call->args[INPUT].tensor, *slope = NULL;
  double lower = call->args[LOWER].number, upper = call->args[UPPER].number;
  MOON_TRY(ops_need_float("input", x));
  if (!(lower <= upper) || lower - lower != 0 || upper - upper != 0)
    return moon_fail(MOON_BAD_ARGUMENT, "lower and upper must be finite and lower at most upper, "
                     "got %g and %g", lower, upper);
  compose c = compose_open(call->engine);
  if (call->args[TRAINING].boolean) {
    moon_status status = tensor_new_like(call->engine, x, &slope);
    slope = compose_adopt(&c, status, slope);
    if (slope) compose_check(&c, random_fill_uniform(call->engine, lower, upper, slope));
  } else {
    slope = compose_number(&c, x, (lower + upper) / 2);
  }
  return compose_close(&c, leak(&c, x, slope), &call->results[0]);
}

static moon_status forward_glu(op_call *call) {
  enum { DIM = 1 };
  moon_tensor *x = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  int dim;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  if (x->ndim == 0 || x->shape[dim] % 2 != 0)
    return moon_fail(MOON_BAD_SHAPE, "dimension %d must have an even size to be halved, got input "
                     "%s", dim + 1, tensor_shape_text(x, text));
  int64_t half = x->shape[dim] / 2;
  compose c = compose_open(call->engine);
  moon_tensor *a = COMPOSE(&c, narrow, op_tensor(x), op_int(dim), op_int(0), op_int(half));
  moon_tensor *b = COMPOSE(&c, narrow, op_tensor(x), op_int(dim), op_int(half), op_int(half));
  moon_tensor *gate = COMPOSE(&c, sigmoid, op_tensor(b));
  moon_tensor *y = COMPOSE(&c, mul, op_tensor(a), op_tensor(gate));
  return compose_close(&c, y, &call->results[0]);
}

static moon_status forward_crelu(op_call *call) {
  enum { DIM = 1 };
  moon_tensor *x = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  int dim;
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least 1 dimension, got %s",
                     tensor_shape_text(x, text));
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  compose c = compose_open(call->engine);
  moon_tensor *minus = COMPOSE(&c, neg, op_tensor(x));
  moon_tensor *parts[2] = { COMPOSE(&c, relu, op_tensor(x)), COMPOSE(&c, relu, op_tensor(minus)) };
  moon_tensor *y = COMPOSE(&c, cat, op_tensors(parts, 2), op_int(dim));
  return compose_close(&c, y, &call->results[0]);
}

static moon_status forward_softmin(op_call *call) {
  enum { DIM = 1 };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  compose c = compose_open(call->engine);
  moon_tensor *minus = COMPOSE(&c, neg, op_tensor(x));
  moon_tensor *y = COMPOSE(&c, softmax, op_tensor(minus), op_int(dim));
  return compose_close(&c, y, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "prelu", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, weight: Tensor) -> out",
    .doc = "x where it is positive, else weight * x, with learnt slopes. weight has 1 element, or "
           "one for each channel (dimension 2) of input (He et al. 2015).",
    .example = "moon.prelu(moon.tensor { { -2, 4 } }, moon.tensor { 0.5, 1 }) --> { { -1, 4 } }",
    .forward = forward_prelu },
  { .name = "rrelu", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, lower: number = 0.125, upper: number = 0.3333333333333333, "
              "training: bool = false) -> out",
    .doc = "x where it is positive, else r * x: in training each r is drawn evenly from lower to "
           "upper, otherwise it is their mean (Xu et al. 2015).",
    .example = "moon.rrelu(moon.tensor { -4, 4 }, 0.25, 0.75) --> { -2, 4 }",
    .forward = forward_rrelu },
  { .name = "glu", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, dim: dim = -1) -> out",
    .doc = "The first half along dim, gated by the second: a * sigmoid(b). dim has an even size "
           "and comes out half as large (Dauphin et al. 2017).",
    .example = "moon.glu(moon.tensor { 6, 8, 0, 0 }) --> { 3, 4 }",
    .forward = forward_glu },
  { .name = "crelu", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, dim: dim = 2) -> out",
    .doc = "relu(x) and relu(-x) side by side along dim, which comes out twice as large (Shang et "
           "al. 2016).",
    .example = "moon.crelu(moon.tensor { { 1, -2 } }) --> { { 1, 0, 0, 2 } }",
    .forward = forward_crelu },
  { .name = "softmin", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, dim: dim = -1) -> out",
    .doc = "softmax of -x along dim: the smallest element gets the largest share.",
    .example = "moon.softmin(moon.tensor { 2, 2 }) --> { 0.5, 0.5 }",
    .forward = forward_softmin },
};
OP_FAMILY(activations, descriptors);
