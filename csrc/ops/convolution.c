// Convolution in two dimensions. The work is the device's (conv2d_* slots); here the sizes are
// checked, so that a kernel never meets a shape that does not fit, and the gradients are put
// together: input and weight have slots of their own, the bias is a sum.
#include <inttypes.h>

#include "ops/support.h"
#include "ops/window.h"

enum { INPUT, WEIGHT, BIAS, STRIDE, PADDING, DILATION, GROUPS };

// `weight_shape`: the weight itself may not have been saved.
static moon_status read_geometry(const op_value *args, const int64_t *weight_shape,
                                 conv2d_geometry *geometry) {
  window_pads pads;
  MOON_TRY(window_check_pair("stride", args[STRIDE].ints.v, 1));
  MOON_TRY(window_check_pair("dilation", args[DILATION].ints.v, 1));
  MOON_TRY(window_read_pads(&args[PADDING], 2, &weight_shape[2], args[STRIDE].ints.v,
                            args[DILATION].ints.v, &pads));
  for (int i = 0; i < 2; i++) {
    geometry->stride[i] = args[STRIDE].ints.v[i];
    geometry->padding_before[i] = pads.before[i];
    geometry->padding_after[i] = pads.after[i];
    geometry->dilation[i] = args[DILATION].ints.v[i];
  }
  geometry->groups = args[GROUPS].integer;
  return MOON_OK;
}

// -- checks

static moon_status check_channels(const moon_tensor *input, const moon_tensor *weight,
                                  int64_t groups) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  int64_t out = weight->shape[0], in = input->shape[1], expected;
  if (groups < 1)
    return moon_fail(MOON_BAD_ARGUMENT, "groups must be at least 1, got %" PRId64, groups);
  if (out % groups != 0)
    return moon_fail(MOON_BAD_SHAPE, "%" PRId64 " groups do not divide the %" PRId64
                     " output channels (weight %s)", groups, out, tensor_shape_text(weight, w));
  if (__builtin_mul_overflow(weight->shape[1], groups, &expected)) expected = INT64_MAX;
  if (expected != in)
    return moon_fail(MOON_BAD_SHAPE, "input has %" PRId64 " channels but weight expects %" PRId64
                     " (input %s, weight %s, groups %" PRId64 ")", in,
                     expected, tensor_shape_text(input, x), tensor_shape_text(weight, w), groups);
  return MOON_OK;
}

static moon_status check_bias(const moon_tensor *input, const moon_tensor *weight,
                              const moon_tensor *bias) {
  char b[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  if (!bias) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, "bias", bias));
  if (bias->ndim == 1 && bias->shape[0] == weight->shape[0]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "bias must have one element for each of the %" PRId64 " output "
                   "channels, got %s (weight %s)", weight->shape[0], tensor_shape_text(bias, b),
                   tensor_shape_text(weight, w));
}

// How many positions the kernel takes along dimension 2 + i of the input.
static moon_status output_size(const moon_tensor *input, const moon_tensor *weight,
                               const conv2d_geometry *g, int i, int64_t *size) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  int64_t padded = input->shape[2 + i] + g->padding_before[i] + g->padding_after[i];
  int64_t kernel = weight->shape[2 + i], span;
  const char *side = i == 0 ? "height" : "width";
  if (kernel < 1)
    return moon_fail(MOON_BAD_SHAPE, "weight has a kernel of no %s (weight %s)", side,
                     tensor_shape_text(weight, w));
  if (__builtin_mul_overflow(g->dilation[i], kernel - 1, &span) || span >= padded)
    return moon_fail(MOON_BAD_SHAPE, "the kernel's %s %" PRId64 " (dilation %" PRId64 ") is larger "
                     "than the padded input's %" PRId64 " (input %s, weight %s, padding %" PRId64
                     ")", side, kernel, g->dilation[i], padded, tensor_shape_text(input, x),
                     tensor_shape_text(weight, w), g->padding_before[i]);
  *size = (padded - span - 1) / g->stride[i] + 1;
  return MOON_OK;
}

static moon_status check_conv2d(const op_value *args, conv2d_geometry *geometry, int64_t *shape) {
  const moon_tensor *input = args[INPUT].tensor, *weight = args[WEIGHT].tensor;
  MOON_TRY(window_check_image(input));
  MOON_TRY(ops_need_same_dtype("input", input, "weight", weight));
  MOON_TRY(ops_need_ndim("weight", weight, 4, "(out channels, in channels / groups, h, w)"));
  MOON_TRY(read_geometry(args, weight->shape, geometry));
  MOON_TRY(check_channels(input, weight, geometry->groups));
  MOON_TRY(check_bias(input, weight, args[BIAS].tensor));
  shape[0] = input->shape[0];
  shape[1] = weight->shape[0];
  MOON_TRY(output_size(input, weight, geometry, 0, &shape[2]));
  return output_size(input, weight, geometry, 1, &shape[3]);
}

// -- conv2d

static moon_status forward_conv2d(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor, *bias = call->args[BIAS].tensor;
  conv2d_geometry geometry;
  int64_t shape[4];
  MOON_TRY(check_conv2d(call->args, &geometry, shape));
  MOON_TRY(ops_new(call->engine, input, input->dtype, 4, shape, &call->results[0]));
  device_array x = tensor_array(input), w = tensor_array(call->args[WEIGHT].tensor), b;
  device_array out = tensor_array(call->results[0]);
  if (bias) b = tensor_array(bias);
  return tensor_kernels(input)->conv2d_forward(call->engine, &geometry, &x, &w, bias ? &b : NULL,
                                               &out);
}

static moon_status input_gradient(op_backward_call *call, const conv2d_geometry *geometry,
                                  const device_array *g) {
  const moon_tensor *weight = call->args[WEIGHT].tensor;
  MOON_TRY(ops_new(call->engine, weight, weight->dtype, 4, call->inputs[INPUT].shape,
                   &call->out[INPUT]));
  device_array w = tensor_array(weight), dx = tensor_array(call->out[INPUT]);
  return tensor_kernels(weight)->conv2d_backward_input(call->engine, geometry, g, &w, &dx);
}

static moon_status weight_gradient(op_backward_call *call, const conv2d_geometry *geometry,
                                   const device_array *g) {
  const moon_tensor *input = call->args[INPUT].tensor;
  MOON_TRY(ops_new(call->engine, input, input->dtype, 4, call->inputs[WEIGHT].shape,
                   &call->out[WEIGHT]));
  device_array x = tensor_array(input), dw = tensor_array(call->out[WEIGHT]);
  return tensor_kernels(input)->conv2d_backward_weight(call->engine, geometry, g, &x, &dw);
}

static moon_status bias_gradient(op_backward_call *call, const device_array *g) {
  moon_tensor *gradient = call->grads[0];
  MOON_TRY(ops_new(call->engine, gradient, gradient->dtype, 1, call->inputs[BIAS].shape,
                   &call->out[BIAS]));
  device_array sums = tensor_array(call->out[BIAS]);
  int64_t channels = sums.shape[0];
  sums.ndim = 4;
  for (int i = 0; i < 4; i++) sums.shape[i] = sums.strides[i] = 1;
  sums.shape[1] = channels;
  return tensor_kernels(gradient)->reduce(call->engine, REDUCE_SUM, g, &sums);
}

static moon_status backward_conv2d(op_backward_call *call) {
  conv2d_geometry geometry;
  MOON_TRY(read_geometry(call->args, call->inputs[WEIGHT].shape, &geometry));
  device_array g = tensor_array(call->grads[0]);
  if (call->needs[INPUT]) MOON_TRY(input_gradient(call, &geometry, &g));
  if (call->needs[WEIGHT]) MOON_TRY(weight_gradient(call, &geometry, &g));
  if (call->needs[BIAS]) MOON_TRY(bias_gradient(call, &g));
  return MOON_OK;
}

static op_descriptor descriptors[] = {
  { .name = "conv2d", .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[2] = 1, "
              "padding: pads[2] = 0, dilation: int[2] = 1, groups: int = 1) -> out",
    .saves = "input@weight weight@input",
    .doc = "Convolution (cross-correlation) of input (n, c, h, w) with weight (out channels, "
           "c / groups, kernel h, kernel w), plus bias (out channels). The height of the result is "
           "floor((h + 2 * padding - dilation * (kernel h - 1) - 1) / stride) + 1, its width "
           "alike. Padding is zeros: a number for every side, a list of one number or {before, "
           "after} a dimension, \"same\" (as many as keep the size at a stride of 1, an odd one at "
           "the end), \"valid\" (none) or \"full\" (dilation * (kernel - 1) on both sides). Group "
           "i of the output channels sees group i of the input channels.",
    .example = "moon.conv2d(moon.ones(1, 1, 1, 3), moon.ones(1, 1, 1, 2), {padding = \"same\"}) "
               "--> {{{{2, 2, 1}}}}",
    .forward = forward_conv2d, .backward = backward_conv2d },
};
OP_FAMILY(convolution, descriptors);
