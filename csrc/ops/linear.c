// The fully connected layer and its gradients. The three operators are one form, linear in each of
// input, weight and result, so the derivatives of each are the other two. The weight may be float32
// beside a bfloat16 input: it is rounded as it is read, and its gradient is float32 again.
#include <inttypes.h>
#include <string.h>

#include "ops/product.h"
#include "ops/support.h"

enum { INPUT, WEIGHT, BIAS };
enum { GRADIENT, OTHER, G_DTYPE };    // of the gradients

// (a, b) as (b, a)
static device_array turned(device_array matrix) {
  int64_t shape = matrix.shape[0], stride = matrix.strides[0];
  matrix.shape[0] = matrix.shape[1], matrix.strides[0] = matrix.strides[1];
  matrix.shape[1] = shape, matrix.strides[1] = stride;
  return matrix;
}

// rows (..., size) times a matrix into a new tensor (..., columns); `added`, a vector or NULL, is
// written first and the product added to it, so that the result is passed over once.
static moon_status rows_times(moon_engine *engine, const moon_tensor *rows,
                              const device_array *matrix, const moon_tensor *added,
                              moon_tensor **result) {
  int64_t shape[MOON_MAX_DIMS], columns = matrix->shape[1];
  memcpy(shape, rows->shape, sizeof shape);
  shape[rows->ndim - 1] = columns;
  MOON_TRY(ops_new(engine, rows, rows->dtype, rows->ndim, shape, result));
  if (added) MOON_TRY(ops_copy(engine, added, *result));
  device_array x = product_matrix(rows, true), c = product_matrix(*result, true);
  device_array y = product_stretch(matrix, c.ndim, c.shape);
  return product_run(engine, tensor_kernels(rows), 1, &x, &y, added ? 1 : 0, &c);
}

// -- linear

static moon_status check_linear(const moon_tensor *input, const moon_tensor *weight,
                                const moon_tensor *bias) {
  char p[TENSOR_SHAPE_TEXT], q[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(ops_need_parameter_dtype("input", input, "weight", weight));
  MOON_TRY(ops_need_ndim("weight", weight, 2, "(out features, in features)"));
  if (input->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least 1 dimension (..., features), got "
                     "0-d");
  int64_t features = input->shape[input->ndim - 1];
  if (features != weight->shape[1])
    return moon_fail(MOON_BAD_SHAPE, "input has %" PRId64 " features but weight expects %" PRId64
                     " (input %s, weight %s)", features, weight->shape[1],
                     tensor_shape_text(input, p), tensor_shape_text(weight, q));
  if (!bias) return MOON_OK;
  MOON_TRY(ops_need_parameter_dtype("input", input, "bias", bias));
  if (bias->ndim != 1 || bias->shape[0] != weight->shape[0])
    return moon_fail(MOON_BAD_SHAPE, "bias must have one element for each of the %" PRId64
                     " out features, got %s", weight->shape[0], tensor_shape_text(bias, p));
  return MOON_OK;
}

static moon_status forward_linear(op_call *call) {
  const moon_tensor *input = call->args[INPUT].tensor, *weight = call->args[WEIGHT].tensor;
  device_array w;
  MOON_TRY(check_linear(input, weight, call->args[BIAS].tensor));
  MOON_TRY(tensor_weight_array(weight, !call->recording, &w));
  w = turned(w);
  return rows_times(call->engine, input, &w, call->args[BIAS].tensor, &call->results[0]);
}

static moon_status backward_linear(op_backward_call *call) {
  op_value g = op_tensor(call->grads[0]);
  if (call->needs[INPUT])
    MOON_TRY(OP_RUN(call->engine, ops_get(OP_linear_input_gradient), &call->out[INPUT], g,
                    call->args[WEIGHT]));
  if (call->needs[WEIGHT])
    MOON_TRY(OP_RUN(call->engine, ops_get(OP_linear_weight_gradient), &call->out[WEIGHT], g,
                    call->args[INPUT], op_dtype(call->inputs[WEIGHT].dtype)));
  if (call->needs[BIAS]) call->out[BIAS] = tensor_retain(call->grads[0]);   // the walk sums it
  return MOON_OK;
}

// -- its gradients

static moon_status forward_input_gradient(op_call *call) {
  device_array w = tensor_array(call->args[OTHER].tensor);
  return rows_times(call->engine, call->args[GRADIENT].tensor, &w, NULL, &call->results[0]);
}

static moon_status backward_input_gradient(op_backward_call *call) {
  op_value g = op_tensor(call->grads[0]);
  if (call->needs[GRADIENT])
    MOON_TRY(OP_RUN(call->engine, ops_get(OP_linear), &call->out[GRADIENT], g,
                    call->args[OTHER]));
  if (!call->needs[OTHER]) return MOON_OK;
  return OP_RUN(call->engine, ops_get(OP_linear_weight_gradient), &call->out[OTHER],
                call->args[GRADIENT], g, op_dtype(call->inputs[OTHER].dtype));
}

// (..., size) as (everything else, size): seen so, or a copy, which is to be released.
static moon_status as_rows(moon_engine *engine, moon_tensor *x, moon_tensor **held,
                           device_array *rows) {
  int64_t size = x->shape[x->ndim - 1], count = 1, strides[2] = { size, 1 };
  for (int i = 0; i < x->ndim - 1; i++) count *= x->shape[i];
  if (x->ndim == 2) *held = tensor_retain(x);
  else MOON_TRY(ops_contiguous(engine, x, held));
  *rows = tensor_array(*held);
  if (x->ndim == 2) return MOON_OK;
  rows->ndim = 2;
  rows->shape[0] = count, rows->shape[1] = size;
  memcpy(rows->strides, strides, sizeof strides);
  return MOON_OK;
}

static moon_status forward_weight_gradient(op_call *call) {
  moon_tensor *g = call->args[GRADIENT].tensor, *input = call->args[OTHER].tensor;
  moon_tensor *held_g, *held_x = NULL;
  device_array left, right;
  int64_t shape[2] = { g->shape[g->ndim - 1], input->shape[input->ndim - 1] };
  MOON_TRY(ops_new(call->engine, g, call->args[G_DTYPE].dtype, 2, shape, &call->results[0]));
  MOON_TRY(as_rows(call->engine, g, &held_g, &left));
  moon_status status = as_rows(call->engine, input, &held_x, &right);
  if (status == MOON_OK) {
    device_array c = tensor_array(call->results[0]);
    left = turned(left);
    status = product_run(call->engine, tensor_kernels(g), 1, &left, &right, 0, &c);
  }
  tensor_release(held_g);
  tensor_release(held_x);
  return status;
}

static moon_status backward_weight_gradient(op_backward_call *call) {
  op_value g = op_tensor(call->grads[0]);
  if (call->needs[GRADIENT])
    MOON_TRY(OP_RUN(call->engine, ops_get(OP_linear), &call->out[GRADIENT], call->args[OTHER], g));
  if (!call->needs[OTHER]) return MOON_OK;
  return OP_RUN(call->engine, ops_get(OP_linear_input_gradient), &call->out[OTHER],
                call->args[GRADIENT], g);
}

static op_descriptor descriptors[] = {
  { .name = "linear", .casts = OP_CASTS_LOW, .stays = "weight bias",
    .example = "moon.linear(moon.tensor {{1, 2}}, moon.tensor {{3, 4}}, moon.tensor {1}) "
               "--> {{12}}",
    .dtypes = OP_FLOATS, .schema = "(input: Tensor, weight: Tensor, bias: Tensor?) -> out",
    .saves = "input@weight weight@input",
    .doc = "A fully connected layer: input (..., in) times the transposed weight (out, in), plus "
           "bias (out), gives (..., out). Weight and bias have input's type, or are float32 "
           "beside a bfloat16 input.",
    .forward = forward_linear, .backward = backward_linear },
  { .name = "linear_input_gradient", .flags = OP_HIDDEN, .saves = "gradient@weight weight@gradient",
    .schema = "(gradient: Tensor, weight: Tensor) -> out",
    .doc = "The gradient of linear's input from that of its result.",
    .forward = forward_input_gradient, .backward = backward_input_gradient },
  { .name = "linear_weight_gradient", .flags = OP_HIDDEN, .saves = "gradient@input input@gradient",
    .schema = "(gradient: Tensor, input: Tensor, dtype: dtype) -> out",
    .doc = "The gradient of linear's weight from that of its result, in type `dtype`.",
    .forward = forward_weight_gradient, .backward = backward_weight_gradient },
};
OP_FAMILY(linear, descriptors);
