// softmax and log_softmax along one dimension; the device subtracts the largest element first, so
// that nothing overflows. Both gradients are calculated from the result.
#include "ops/compose.h"
#include "ops/dims.h"

enum { INPUT, DIM };
enum { PLAIN, LOG };   // row of the descriptor

static moon_status forward_softmax(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor;
  int dim;
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(shape_dim(input->ndim, call->args[DIM].integer, &dim));
  MOON_TRY(tensor_new_like(call->engine, input, &call->results[0]));
  device_array x = dims_at_least_one(input), out = dims_at_least_one(call->results[0]);
  return tensor_kernels(input)->softmax_forward(call->engine, call->op->row == LOG, dim, &x, &out);
}

// By operators: y (g - sum of g y), or g - exp(y) (sum of g).
static moon_status softmax_recorded(op_backward_call *call, int dim) {
  compose c = compose_open(call->engine);
  op_value g = op_tensor(call->grads[0]), y = op_tensor(call->results[0]);
  op_value along = op_ints(1, (int64_t[]){ dim }), keep = op_bool(true);
  moon_tensor *dx;
  if (call->op->row == LOG) {
    moon_tensor *sum = COMPOSE(&c, sum, g, along, keep), *p = COMPOSE(&c, exp, y);
    moon_tensor *share = COMPOSE(&c, mul, op_tensor(p), op_tensor(sum));
    dx = COMPOSE(&c, sub, g, op_tensor(share));
  } else {
    moon_tensor *product = COMPOSE(&c, mul, g, y);
    moon_tensor *sum = COMPOSE(&c, sum, op_tensor(product), along, keep);
    moon_tensor *share = COMPOSE(&c, mul, y, op_tensor(sum));
    dx = COMPOSE(&c, sub, op_tensor(product), op_tensor(share));
  }
  return compose_close(&c, dx, &call->out[INPUT]);
}

static moon_status backward_softmax(op_backward_call *call) {
  moon_tensor *gradient = call->grads[0], *result = call->results[0];
  int dim;
  MOON_TRY(shape_dim(result->ndim, call->args[DIM].integer, &dim));
  if (call->engine->grad_enabled) return softmax_recorded(call, dim);
  MOON_TRY(tensor_new_like(call->engine, result, &call->out[INPUT]));
  device_array g = dims_at_least_one(gradient), out = dims_at_least_one(result);
  device_array dx = dims_at_least_one(call->out[INPUT]);
  return tensor_kernels(result)->softmax_backward(call->engine, call->op->row == LOG, dim, &g, &out,
                                                  &dx);
}

static op_descriptor descriptors[] = {
  { .name = "softmax", .casts = OP_CASTS_FULL,
    .example = "moon.softmax(moon.tensor {0, 0}) --> {0.5, 0.5}",
    .dtypes = OP_FLOATS, .schema = "(input: Tensor, dim: dim = -1) -> out", .saves = "out",
    .doc = "exp(x) divided by the sum of exp(x) along dim: positive numbers that sum to 1.",
    .row = PLAIN, .forward = forward_softmax, .backward = backward_softmax },
  { .name = "log_softmax", .casts = OP_CASTS_FULL,
    .example = "moon.log_softmax(moon.tensor {0, 0}) --> {-0.6931, -0.6931}",
    .dtypes = OP_FLOATS, .schema = "(input: Tensor, dim: dim = -1) -> out", .saves = "out",
    .doc = "The logarithm of softmax along dim, x - log(sum of exp(x)), without overflow.",
    .row = LOG, .forward = forward_softmax, .backward = backward_softmax },
};
OP_FAMILY(softmax, descriptors);
