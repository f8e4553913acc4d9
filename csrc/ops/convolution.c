// Convolution in two dimensions. The work is the device's (conv2d_* slots); convolution_read checks
// the sizes, so that a kernel never meets a shape that does not fit. The gradients of input and
// weight have slots and operators of their own, the bias's is a sum. Images are read in any layout
// and written channels last, which every operator behind keeps; weights' gradients are row-major.
#include "ops/convolution.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/pointwise.h"

enum { INPUT, WEIGHT, BIAS, STRIDE, PADDING, DILATION, GROUPS };
enum { SCALE = GROUPS + 1, ADD, ACTIVATION };   // of conv2d_fused

static conv2d_geometry device_geometry(const convolution_geometry *g) {
  conv2d_geometry geometry = { .groups = g->groups };
  for (int i = 0; i < 2; i++) {
    geometry.stride[i] = g->stride[i];
    geometry.padding_before[i] = g->before[i];
    geometry.padding_after[i] = g->after[i];
    geometry.dilation[i] = g->dilation[i];
  }
  return geometry;
}

// -- conv2d

// What happens to the sums, as tensors and limits.
typedef struct sums_finish {
  const moon_tensor *scale, *shift, *add;   // may be NULL
  double low, high;
} sums_finish;

// A kernel's view of a tensor that may be missing, kept in `array`.
static const device_array *optional_array(const moon_tensor *tensor, device_array *array) {
  if (!tensor) return NULL;
  *array = tensor_array(tensor);
  return array;
}

// Makes the result, of g's sizes.
static moon_status convolve(op_call *call, const convolution_geometry *g, const sums_finish *f) {
  const moon_tensor *input = call->args[INPUT].tensor, *weight = call->args[WEIGHT].tensor;
  conv2d_geometry geometry = device_geometry(g);
  int64_t shape[4] = { input->shape[0], weight->shape[0], g->output[0], g->output[1] };
  MOON_TRY(tensor_new_channels_last(call->engine, tensor_device(input), input->dtype, 4, shape,
                                    &call->results[0]));
  device_array x = tensor_array(input), out = tensor_array(call->results[0]), w, vectors[3];
  MOON_TRY(tensor_weight_array(weight, !call->recording, &w));
  conv2d_finish finish = { .scale = optional_array(f->scale, &vectors[0]),
                           .shift = optional_array(f->shift, &vectors[1]),
                           .add = optional_array(f->add, &vectors[2]),
                           .low = f->low, .high = f->high };
  return tensor_kernels(input)->conv2d_forward(call->engine, &geometry, &x, &w, &finish, &out);
}

static moon_status forward_conv2d(op_call *call) {
  sums_finish finish = { .shift = call->args[BIAS].tensor, .low = -INFINITY, .high = INFINITY };
  convolution_geometry g;
  MOON_TRY(convolution_read(call->args, 2, &g));
  return convolve(call, &g, &finish);
}

// -- conv2d_fused

static moon_status check_scale(const moon_tensor *scale, const moon_tensor *input,
                               const moon_tensor *weight) {
  char s[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_parameter_dtype("input", input, "scale", scale));
  if (scale->ndim == 1 && scale->shape[0] == weight->shape[0]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "scale must have one element for each of the %" PRId64 " output "
                   "channels, got %s (weight %s)", weight->shape[0], tensor_shape_text(scale, s),
                   tensor_shape_text(weight, w));
}

static moon_status check_add(const moon_tensor *add, const moon_tensor *input, int64_t channels,
                             const convolution_geometry *g) {
  char a[TENSOR_SHAPE_TEXT], r[TENSOR_SHAPE_TEXT];
  const int64_t shape[4] = { input->shape[0], channels, g->output[0], g->output[1] };
  MOON_TRY(ops_need_same_dtype("input", input, "add", add));
  if (add->ndim == 4 && memcmp(add->shape, shape, sizeof shape) == 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "add must have the result's shape %s, got %s",
                   shape_text(4, shape, r), tensor_shape_text(add, a));
}

static moon_status forward_fused(op_call *call) {
  const op_value *args = call->args;
  const moon_tensor *weight = args[WEIGHT].tensor;
  pointwise_limits limits = pointwise_limits_of((int)args[ACTIVATION].integer);
  sums_finish finish = { .scale = args[SCALE].tensor, .shift = args[BIAS].tensor,
                         .add = args[ADD].tensor, .low = limits.low, .high = limits.high };
  convolution_geometry g;
  MOON_TRY(convolution_read(args, 2, &g));
  if (finish.scale) MOON_TRY(check_scale(finish.scale, args[INPUT].tensor, weight));
  if (finish.add) MOON_TRY(check_add(finish.add, args[INPUT].tensor, weight->shape[0], &g));
  return convolve(call, &g, &finish);
}

// -- conv2d's gradient

static const convolution_trio trio = { 2, OP_conv2d, OP_conv2d_input_gradient,
                                       OP_conv2d_weight_gradient };

static moon_status backward_conv2d(op_backward_call *call) {
  MOON_TRY(convolution_back(call, &trio, call->grads[0]));
  return convolution_back_bias(call, &trio);
}

// -- conv2d_fused's gradient

// Of scale, for which the sums are calculated again.
static void backward_scale(op_backward_call *call, compose *c) {
  const op_value *args = call->args;
  moon_tensor *sums = COMPOSE(c, conv2d, args[INPUT], args[WEIGHT], op_none(), args[STRIDE],
                              args[PADDING], args[DILATION], args[GROUPS]);
  moon_tensor *products = COMPOSE(c, mul, op_tensor(sums), op_tensor(call->grads[0]));
  moon_tensor *g = COMPOSE(c, sum, op_tensor(products), convolution_all_but_channels(2));
  compose_keep(c, g, &call->out[SCALE]);
}

// `g` by channel times scale, in g's type.
static moon_tensor *scaled(op_backward_call *call, compose *c) {
  moon_tensor *g = call->grads[0], *scale = call->args[SCALE].tensor;
  if (scale->dtype != g->dtype) scale = COMPOSE(c, cast, op_tensor(scale), op_dtype(g->dtype));
  scale = compose_reshape(c, scale, 3, (int64_t[]){ g->shape[1], 1, 1 });
  return COMPOSE(c, mul, op_tensor(g), op_tensor(scale));
}

static moon_status backward_scaled(op_backward_call *call) {
  compose c = compose_open(call->engine);
  if (call->needs[SCALE]) backward_scale(call, &c);
  if (call->needs[INPUT] || call->needs[WEIGHT]) {
    moon_tensor *g = scaled(call, &c);
    if (g) compose_check(&c, convolution_back(call, &trio, g));
  }
  return compose_close(&c, NULL, &(moon_tensor *){ NULL });
}

static moon_status backward_fused(op_backward_call *call) {
  MOON_TRY(pointwise_back_through(call, (int)call->args[ACTIVATION].integer));
  if (call->needs[ADD]) call->out[ADD] = tensor_retain(call->grads[0]);
  if (!call->args[SCALE].given) return backward_conv2d(call);
  MOON_TRY(backward_scaled(call));
  return convolution_back_bias(call, &trio);
}

// -- its gradients, operators too (convolution_gradients.c)

enum { GRADIENT, OTHER, HEIGHT, WIDTH, G_GROUPS = WIDTH + 4, G_DTYPE };

static moon_status gradient_geometry(const op_value *args, const int64_t *weight_shape,
                                     conv2d_geometry *geometry) {
  convolution_geometry g;
  MOON_TRY(convolution_read_gradient(args, 2, weight_shape, &g));
  *geometry = device_geometry(&g);
  return MOON_OK;
}

static moon_status forward_input_gradient(op_call *call) {
  const moon_tensor *g = call->args[GRADIENT].tensor, *weight = call->args[OTHER].tensor;
  conv2d_geometry geometry;
  MOON_TRY(gradient_geometry(call->args, weight->shape, &geometry));
  int64_t shape[4] = { g->shape[0], weight->shape[1] * geometry.groups,
                       call->args[HEIGHT].integer, call->args[WIDTH].integer };
  MOON_TRY(tensor_new_channels_last(call->engine, tensor_device(g), g->dtype, 4, shape,
                                    &call->results[0]));
  device_array y = tensor_array(g), w = tensor_array(weight), dx = tensor_array(call->results[0]);
  return tensor_kernels(g)->conv2d_backward_input(call->engine, &geometry, &y, &w, &dx);
}

static moon_status backward_input_gradient(op_backward_call *call) {
  return convolution_back_input_gradient(call, &trio);
}

static moon_status forward_weight_gradient(op_call *call) {
  const moon_tensor *g = call->args[GRADIENT].tensor, *image = call->args[OTHER].tensor;
  conv2d_geometry geometry;
  int64_t shape[4] = { g->shape[1], image->shape[1] / call->args[G_GROUPS].integer,
                       call->args[HEIGHT].integer, call->args[WIDTH].integer };
  MOON_TRY(gradient_geometry(call->args, shape, &geometry));
  MOON_TRY(ops_new(call->engine, g, call->args[G_DTYPE].dtype, 4, shape, &call->results[0]));
  device_array y = tensor_array(g), x = tensor_array(image), dw = tensor_array(call->results[0]);
  return tensor_kernels(g)->conv2d_backward_weight(call->engine, &geometry, &y, &x, &dw);
}

static moon_status backward_weight_gradient(op_backward_call *call) {
  return convolution_back_weight_gradient(call, &trio);
}

#define GRADIENT_OPTIONS \
  "height: int, width: int, stride: int[2], padding: pads[2], dilation: int[2], groups: int"

static op_descriptor descriptors[] = {
  { .name = "conv2d", .casts = OP_CASTS_LOW, .stays = "weight bias", .dtypes = OP_FLOATS,
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
  { .name = "conv2d_fused", .casts = OP_CASTS_LOW, .stays = "weight bias scale",
    .dtypes = OP_FLOATS, .flags = OP_FUNCTION_ONLY,
    .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[2] = 1, "
              "padding: pads[2] = 0, dilation: int[2] = 1, groups: int = 1, scale: Tensor?, "
              "add: Tensor?, activation: " POINTWISE_ACTIVATIONS " = \"none\") -> out",
    .saves = "input@weight input@scale weight@input weight@scale scale@input scale@weight out",
    .doc = "activation(conv2d(input, weight) * scale + bias + add) in the one pass that writes the "
           "convolution. scale and bias have an element an output channel (batch normalisation "
           "with given statistics is such a pair), add the result's shape. The gradient of scale "
           "calculates the convolution once more.",
    .example = "moon.conv2d_fused(moon.ones(1, 1, 1, 2), moon.ones(2, 1, 1, 1), moon.tensor "
               "{0, -3}, {scale = moon.tensor {3, 2}, activation = \"relu\"}) "
               "--> {{{{3, 3}}, {{0, 0}}}}",
    .forward = forward_fused, .backward = backward_fused },
  { .name = "conv2d_input_gradient", .flags = OP_HIDDEN, .saves = "gradient@weight weight@gradient",
    .schema = "(gradient: Tensor, weight: Tensor, " GRADIENT_OPTIONS ") -> out",
    .doc = "The gradient of conv2d's input, of `height` and `width`, from that of its result: each "
           "element of the result spreads by the weight (a transposed convolution).",
    .forward = forward_input_gradient, .backward = backward_input_gradient },
  { .name = "conv2d_weight_gradient", .flags = OP_HIDDEN, .saves = "gradient@input input@gradient",
    .schema = "(gradient: Tensor, input: Tensor, " GRADIENT_OPTIONS ", dtype: dtype) -> out",
    .doc = "The gradient of conv2d's weight, whose kernel is `height` by `width`, from that of its "
           "result, in type `dtype`.",
    .forward = forward_weight_gradient, .backward = backward_weight_gradient },
};
OP_FAMILY(convolution, descriptors);
