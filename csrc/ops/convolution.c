// Convolution in two dimensions. The work is the device's (conv2d_* slots); here the sizes are
// checked, so that a kernel never meets a shape that does not fit. The gradients of input and weight
// have slots and operators of their own, the bias's is a sum.
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

// The last two sizes as arguments.
static void image_size(const int64_t *shape, op_value sizes[2]) {
  for (int i = 0; i < 2; i++) sizes[i] = op_int(shape[2 + i]);
}

static moon_status backward_conv2d(op_backward_call *call) {
  moon_engine *e = call->engine;
  const op_value *args = call->args;
  moon_tensor *g = call->grads[0];
  op_value taken = op_tensor(g), sizes[2];
  op_value stride = args[STRIDE], padding = args[PADDING], dilation = args[DILATION];
  image_size(call->inputs[INPUT].shape, sizes);
  if (call->needs[INPUT])
    MOON_TRY(OP_RUN(e, ops_get(OP_conv2d_input_gradient), &call->out[INPUT], taken, args[WEIGHT],
                    sizes[0], sizes[1], stride, padding, dilation, args[GROUPS]));
  image_size(call->inputs[WEIGHT].shape, sizes);
  if (call->needs[WEIGHT])
    MOON_TRY(OP_RUN(e, ops_get(OP_conv2d_weight_gradient), &call->out[WEIGHT], taken, args[INPUT],
                    sizes[0], sizes[1], stride, padding, dilation, args[GROUPS]));
  if (!call->needs[BIAS]) return MOON_OK;
  return OP_RUN(e, ops_get(OP_sum), &call->out[BIAS], taken, op_ints(3, (int64_t[]){ 0, 2, 3 }));
}

// -- its gradients, operators too. The three are one form, linear in each of image, weight and
//    result, so the derivatives of each are the other two.

enum { GRADIENT, OTHER, HEIGHT, WIDTH, G_STRIDE, G_PADDING, G_DILATION, G_GROUPS };

// The options stand one place later than conv2d's, whose BIAS they do not have.
static moon_status gradient_geometry(const op_value *args, const int64_t *weight_shape,
                                     conv2d_geometry *geometry) {
  return read_geometry(args + (G_STRIDE - STRIDE), weight_shape, geometry);
}

static moon_status forward_input_gradient(op_call *call) {
  const moon_tensor *g = call->args[GRADIENT].tensor, *weight = call->args[OTHER].tensor;
  conv2d_geometry geometry;
  MOON_TRY(gradient_geometry(call->args, weight->shape, &geometry));
  int64_t shape[4] = { g->shape[0], weight->shape[1] * geometry.groups,
                       call->args[HEIGHT].integer, call->args[WIDTH].integer };
  MOON_TRY(ops_new(call->engine, g, g->dtype, 4, shape, &call->results[0]));
  device_array y = tensor_array(g), w = tensor_array(weight), dx = tensor_array(call->results[0]);
  return tensor_kernels(g)->conv2d_backward_input(call->engine, &geometry, &y, &w, &dx);
}

static moon_status backward_input_gradient(op_backward_call *call) {
  const op_value *args = call->args;
  op_value image = op_tensor(call->grads[0]), sizes[2];
  op_value stride = args[G_STRIDE], padding = args[G_PADDING], dilation = args[G_DILATION];
  if (call->needs[GRADIENT])
    MOON_TRY(OP_RUN(call->engine, ops_get(OP_conv2d), &call->out[GRADIENT], image, args[OTHER],
                    op_none(), stride, padding, dilation, args[G_GROUPS]));
  if (!call->needs[OTHER]) return MOON_OK;
  image_size(call->inputs[OTHER].shape, sizes);
  return OP_RUN(call->engine, ops_get(OP_conv2d_weight_gradient), &call->out[OTHER],
                args[GRADIENT], image, sizes[0], sizes[1], stride, padding, dilation,
                args[G_GROUPS]);
}

static moon_status forward_weight_gradient(op_call *call) {
  const moon_tensor *g = call->args[GRADIENT].tensor, *image = call->args[OTHER].tensor;
  conv2d_geometry geometry;
  int64_t shape[4] = { g->shape[1], image->shape[1] / call->args[G_GROUPS].integer,
                       call->args[HEIGHT].integer, call->args[WIDTH].integer };
  MOON_TRY(gradient_geometry(call->args, shape, &geometry));
  MOON_TRY(ops_new(call->engine, g, g->dtype, 4, shape, &call->results[0]));
  device_array y = tensor_array(g), x = tensor_array(image), dw = tensor_array(call->results[0]);
  return tensor_kernels(g)->conv2d_backward_weight(call->engine, &geometry, &y, &x, &dw);
}

static moon_status backward_weight_gradient(op_backward_call *call) {
  const op_value *args = call->args;
  op_value weight = op_tensor(call->grads[0]), sizes[2];
  op_value stride = args[G_STRIDE], padding = args[G_PADDING], dilation = args[G_DILATION];
  if (call->needs[GRADIENT])
    MOON_TRY(OP_RUN(call->engine, ops_get(OP_conv2d), &call->out[GRADIENT], args[OTHER], weight,
                    op_none(), stride, padding, dilation, args[G_GROUPS]));
  if (!call->needs[OTHER]) return MOON_OK;
  image_size(call->inputs[OTHER].shape, sizes);
  return OP_RUN(call->engine, ops_get(OP_conv2d_input_gradient), &call->out[OTHER],
                args[GRADIENT], weight, sizes[0], sizes[1], stride, padding, dilation,
                args[G_GROUPS]);
}

#define GRADIENT_OPTIONS \
  "height: int, width: int, stride: int[2], padding: pads[2], dilation: int[2], groups: int) -> out"

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
  { .name = "conv2d_input_gradient", .flags = OP_HIDDEN, .saves = "gradient@weight weight@gradient",
    .schema = "(gradient: Tensor, weight: Tensor, " GRADIENT_OPTIONS,
    .doc = "The gradient of conv2d's input, of `height` and `width`, from that of its result: each "
           "element of the result spreads by the weight (a transposed convolution).",
    .forward = forward_input_gradient, .backward = backward_input_gradient },
  { .name = "conv2d_weight_gradient", .flags = OP_HIDDEN, .saves = "gradient@input input@gradient",
    .schema = "(gradient: Tensor, input: Tensor, " GRADIENT_OPTIONS,
    .doc = "The gradient of conv2d's weight, whose kernel is `height` by `width`, from that of its "
           "result.",
    .forward = forward_weight_gradient, .backward = backward_weight_gradient },
};
OP_FAMILY(convolution, descriptors);
