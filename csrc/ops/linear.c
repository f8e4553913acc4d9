// The fully connected layer and its gradients. The three operators are one form, linear in each of
// input, weight and result, so the derivatives of each are the other two. The weight may be float32
// beside a bfloat16 input: it is rounded as it is read, and its gradient is float32 again.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/pointwise.h"
#include "ops/product.h"
#include "ops/support.h"

enum { INPUT, WEIGHT, BIAS, ACTIVATION };   // the last of linear_fused
enum { GRADIENT, OTHER, G_DTYPE };    // of the gradients

// (a, b) as (b, a)
static device_array turned(device_array matrix) {
  int64_t shape = matrix.shape[0], stride = matrix.strides[0];
  matrix.shape[0] = matrix.shape[1], matrix.strides[0] = matrix.strides[1];
  matrix.shape[1] = shape, matrix.strides[1] = stride;
  return matrix;
}

// Rows (..., columns) beside rows (..., size).
static moon_status new_rows(moon_engine *engine, const moon_tensor *rows, int64_t columns,
                            moon_tensor **result) {
  int64_t shape[MOON_MAX_DIMS];
  memcpy(shape, rows->shape, sizeof shape);
  shape[rows->ndim - 1] = columns;
  return ops_new(engine, rows, rows->dtype, rows->ndim, shape, result);
}

// rows (..., size) times a matrix into `result` (..., columns)
static moon_status rows_times(moon_engine *engine, const moon_tensor *rows,
                              const device_array *matrix, const matmul_finish *finish,
                              const moon_tensor *result) {
  device_array x = product_matrix(rows, true), c = product_matrix(result, true);
  device_array y = product_stretch(matrix, c.ndim, c.shape);
  return product_run(engine, tensor_kernels(rows), 1, &x, &y, 0, finish, &c);
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

// Few rows are quicker where the weight lies, and so is a weight that no cache could hold.
enum { FEW_ROWS = 16, MOST_KEPT = 8 << 20 };

static bool suits_pixels(const moon_tensor *input, const device_array *w) {
  int64_t rows = w->shape[1] > 0 ? tensor_count(input) / w->shape[1] : 0;
  return w->derived && input->dtype == w->dtype && (w->dtype == MOON_F32 || w->dtype == MOON_F64) &&
         rows > FEW_ROWS && tensor_is_contiguous(input) &&
         array_count(w) * (int64_t)dtype_size(w->dtype) <= MOST_KEPT;
}

// Contiguous rows as the pixels of one line, (1, features, 1, rows), channels last.
static device_array as_pixels(const moon_tensor *x) {
  int64_t features = x->shape[x->ndim - 1], rows = features > 0 ? tensor_count(x) / features : 0;
  return (device_array){ .data = tensor_data(x), .dtype = x->dtype, .ndim = 4,
                         .shape = { 1, features, 1, rows },
                         .strides = { rows * features, 1, rows * features, features } };
}

// A layer is a convolution of 1 x 1 over its rows, whose weights stay packed in inference.
static moon_status run_pixels(op_call *call, const device_array *w, const pointwise_limits *l) {
  const moon_tensor *input = call->args[INPUT].tensor, *bias = call->args[BIAS].tensor;
  const conv2d_geometry plain = { .stride = { 1, 1 }, .dilation = { 1, 1 }, .groups = 1 };
  device_array x = as_pixels(input), kernel = *w, shift;
  kernel.ndim = 4;
  for (int i = 2; i < 4; i++) kernel.shape[i] = kernel.strides[i] = 1;
  conv2d_finish finish = { .low = l->low, .high = l->high };
  if (bias) {
    shift = tensor_array(bias);
    finish.shift = &shift;
  }
  device_array out = as_pixels(call->results[0]);
  return tensor_kernels(input)->conv2d_forward(call->engine, &plain, &x, &kernel, &finish, &out);
}

static moon_status run_linear(op_call *call, const pointwise_limits *l) {
  const moon_tensor *input = call->args[INPUT].tensor, *weight = call->args[WEIGHT].tensor;
  const moon_tensor *bias = call->args[BIAS].tensor;
  device_array w;
  MOON_TRY(check_linear(input, weight, bias));
  MOON_TRY(tensor_weight_array(weight, !call->recording, &w));
  MOON_TRY(new_rows(call->engine, input, weight->shape[0], &call->results[0]));
  if (suits_pixels(input, &w)) return run_pixels(call, &w, l);
  w = turned(w);
  device_array shift;
  if (bias) shift = tensor_array(bias);
  const matmul_finish finish = { bias ? &shift : NULL, l->low, l->high };
  return rows_times(call->engine, input, &w, &finish, call->results[0]);
}

static moon_status forward_linear(op_call *call) {
  return run_linear(call, &(pointwise_limits){ -INFINITY, INFINITY });
}

static moon_status forward_fused(op_call *call) {
  pointwise_limits limits = pointwise_limits_of((int)call->args[ACTIVATION].integer);
  return run_linear(call, &limits);
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

static moon_status backward_fused(op_backward_call *call) {
  MOON_TRY(pointwise_back_through(call, (int)call->args[ACTIVATION].integer));
  return backward_linear(call);
}

// -- its gradients

static moon_status forward_input_gradient(op_call *call) {
  const moon_tensor *g = call->args[GRADIENT].tensor;
  device_array w = tensor_array(call->args[OTHER].tensor);
  MOON_TRY(new_rows(call->engine, g, w.shape[1], &call->results[0]));
  return rows_times(call->engine, g, &w, NULL, call->results[0]);
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
    status = product_run(call->engine, tensor_kernels(g), 1, &left, &right, 0, NULL, &c);
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
  { .name = "linear_fused", .casts = OP_CASTS_LOW, .stays = "weight bias",
    .flags = OP_FUNCTION_ONLY,
    .example = "moon.linear_fused(moon.tensor {{1, 2}}, moon.tensor {{3, 4}}, moon.tensor {-12}, "
               "{activation = \"relu\"}) --> {{0}}",
    .dtypes = OP_FLOATS, .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, "
                                   "activation: " POINTWISE_ACTIVATIONS " = \"none\") -> out",
    .saves = "input@weight weight@input out",
    .doc = "activation(linear(input, weight, bias)) in one pass.",
    .forward = forward_fused, .backward = backward_fused },
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
