// Convolutions of volumes in one go, for devices whose libraries have them (the slots conv3d*),
// and their gradients. conv3d and conv_transpose3d take these operators where the device offers
// what they need; a gradient that it refuses is made by planes (volumes.h). Results lie channels
// last, weights' gradients row-major, as those of images do.
#include "ops/volumes.h"

enum { INPUT, WEIGHT, BIAS };                                       // of conv3d_whole
enum { GRADIENT, OTHER, SIZES, G_GROUPS = SIZES + 3 + 3, G_DTYPE };   // of its gradients
enum { FORWARD, OF_INPUT, OF_WEIGHT };                              // the slots' directions

static const convolution_trio trio = { 3, OP_conv3d_whole, OP_conv3d_input_gradient,
                                       OP_conv3d_weight_gradient };

static conv3d_geometry device_geometry(const convolution_geometry *g) {
  conv3d_geometry geometry = { .groups = g->groups };
  for (int i = 0; i < 3; i++) {
    geometry.stride[i] = g->stride[i];
    geometry.padding_before[i] = g->before[i];
    geometry.padding_after[i] = g->after[i];
    geometry.dilation[i] = g->dilation[i];
  }
  return geometry;
}

// -- whether it is offered

// (n, channels, g's sizes) of like's type, without elements
static device_array volumes_of(const moon_tensor *like, int64_t channels,
                               const convolution_geometry *g) {
  return (device_array){ .dtype = like->dtype, .ndim = 5,
                         .shape = { like->shape[0], channels, g->output[0], g->output[1],
                                    g->output[2] } };
}

static bool is_offered(compose *c, int direction, const convolution_geometry *g,
                       const device_array *image, const moon_tensor *weight,
                       const device_array *result) {
  const device_kernels *kernels = tensor_kernels(weight);
  const conv3d_geometry geometry = device_geometry(g);
  const device_array w = tensor_array(weight);
  bool offered = false;
  if (kernels->conv3d_offered)
    compose_check(c, kernels->conv3d_offered(c->engine, direction, &geometry, image, &w, result,
                                             &offered));
  return offered;
}

// Padding in front and behind, of each side in turn.
static op_value pads_of(const convolution_geometry *g) {
  int64_t pads[6];
  for (int i = 0; i < 3; i++) {
    pads[2 * i] = g->before[i];
    pads[2 * i + 1] = g->after[i];
  }
  return op_ints(6, pads);
}

moon_tensor *volumes_convolve(compose *c, moon_tensor *x, moon_tensor *w, op_value bias,
                              const convolution_geometry *g) {
  const device_array image = tensor_array(x), result = volumes_of(x, w->shape[0], g);
  if (!is_offered(c, FORWARD, g, &image, w, &result)) return volumes_planes(c, x, w, bias, g);
  return COMPOSE(c, conv3d_whole, op_tensor(x), op_tensor(w), bias, op_ints(3, g->stride),
                 pads_of(g), op_ints(3, g->dilation), op_int(g->groups));
}

moon_tensor *volumes_spread(compose *c, moon_tensor *gradient, moon_tensor *w,
                            const convolution_geometry *g) {
  const device_array result = tensor_array(gradient);
  const device_array image = volumes_of(gradient, w->shape[1] * g->groups, g);
  if (!is_offered(c, OF_INPUT, g, &image, w, &result))
    return volumes_planes_input(c, gradient, w, g);
  return COMPOSE(c, conv3d_input_gradient, op_tensor(gradient), op_tensor(w),
                 op_int(g->output[0]), op_int(g->output[1]), op_int(g->output[2]),
                 op_ints(3, g->stride), pads_of(g), op_ints(3, g->dilation), op_int(g->groups));
}

// -- the operators: the slot, and where it refuses, planes

// The three arrays of a call; results[0] is one of them.
static moon_status try_slot(op_call *call, int direction, const convolution_geometry *g,
                            const moon_tensor *image, const moon_tensor *weight,
                            const moon_tensor *result, const moon_tensor *bias, bool *done) {
  const device_kernels *kernels = tensor_kernels(image);
  const conv3d_geometry geometry = device_geometry(g);
  const device_array x = tensor_array(image), w = tensor_array(weight), y = tensor_array(result);
  device_array shift;
  *done = false;
  if (bias) shift = tensor_array(bias);
  if (kernels->conv3d)
    MOON_TRY(kernels->conv3d(call->engine, direction, &geometry, &x, &w, &y,
                             bias ? &shift : NULL, done));
  if (*done) return MOON_OK;
  tensor_release(call->results[0]);
  call->results[0] = NULL;
  return MOON_OK;
}

static moon_status forward_whole(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *w = call->args[WEIGHT].tensor;
  convolution_geometry g;
  bool done;
  MOON_TRY(convolution_read(call->args, 3, &g));
  const int64_t shape[5] = { x->shape[0], w->shape[0], g.output[0], g.output[1], g.output[2] };
  MOON_TRY(tensor_new_channels_last(call->engine, tensor_device(x), x->dtype, 5, shape,
                                    &call->results[0]));
  MOON_TRY(try_slot(call, FORWARD, &g, x, w, call->results[0], call->args[BIAS].tensor, &done));
  if (done) return MOON_OK;
  compose c = compose_open(call->engine);
  return compose_close(&c, volumes_planes(&c, x, w, call->args[BIAS], &g), &call->results[0]);
}

static moon_status backward_whole(op_backward_call *call) {
  MOON_TRY(convolution_back(call, &trio, call->grads[0]));
  return convolution_back_bias(call, &trio);
}

static moon_status forward_input_gradient(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *gradient = args[GRADIENT].tensor, *w = args[OTHER].tensor;
  convolution_geometry g;
  bool done;
  MOON_TRY(convolution_read_gradient(args, 3, w->shape, &g));
  int64_t shape[5] = { gradient->shape[0], w->shape[1] * g.groups };
  for (int i = 0; i < 3; i++) shape[2 + i] = g.output[i] = args[SIZES + i].integer;
  MOON_TRY(tensor_new_channels_last(call->engine, tensor_device(gradient), gradient->dtype, 5,
                                    shape, &call->results[0]));
  MOON_TRY(try_slot(call, OF_INPUT, &g, call->results[0], w, gradient, NULL, &done));
  if (done) return MOON_OK;
  compose c = compose_open(call->engine);
  return compose_close(&c, volumes_planes_input(&c, gradient, w, &g), &call->results[0]);
}

static moon_status backward_input_gradient(op_backward_call *call) {
  return convolution_back_input_gradient(call, &trio);
}

static moon_status forward_weight_gradient(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *gradient = args[GRADIENT].tensor, *x = args[OTHER].tensor;
  const moon_dtype dtype = args[G_DTYPE].dtype;
  convolution_geometry g;
  bool done;
  int64_t shape[5] = { gradient->shape[1], x->shape[1] / args[G_GROUPS].integer };
  for (int i = 0; i < 3; i++) shape[2 + i] = args[SIZES + i].integer;
  MOON_TRY(convolution_read_gradient(args, 3, shape, &g));
  MOON_TRY(ops_new(call->engine, gradient, dtype, 5, shape, &call->results[0]));
  MOON_TRY(try_slot(call, OF_WEIGHT, &g, x, call->results[0], gradient, NULL, &done));
  if (done) return MOON_OK;
  compose c = compose_open(call->engine);
  return compose_close(&c, volumes_planes_weight(&c, gradient, x, dtype, &g), &call->results[0]);
}

static moon_status backward_weight_gradient(op_backward_call *call) {
  return convolution_back_weight_gradient(call, &trio);
}

#define OPTIONS "stride: int[3], padding: pads[3], dilation: int[3], groups: int"

static op_descriptor descriptors[] = {
  { .name = "conv3d_whole", .stays = "weight bias", .flags = OP_HIDDEN,
    .saves = "input@weight weight@input",
    .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, " OPTIONS ") -> out",
    .doc = "conv3d in one go, where the device's library has it.",
    .forward = forward_whole, .backward = backward_whole },
  { .name = "conv3d_input_gradient", .flags = OP_HIDDEN, .saves = "gradient@weight weight@gradient",
    .schema = "(gradient: Tensor, weight: Tensor, depth: int, height: int, width: int, " OPTIONS
              ") -> out",
    .doc = "The gradient of conv3d's input, of those sizes, from that of its result.",
    .forward = forward_input_gradient, .backward = backward_input_gradient },
  { .name = "conv3d_weight_gradient", .flags = OP_HIDDEN, .saves = "gradient@input input@gradient",
    .schema = "(gradient: Tensor, input: Tensor, depth: int, height: int, width: int, " OPTIONS
              ", dtype: dtype) -> out",
    .doc = "The gradient of conv3d's weight, whose kernel has those sizes, from that of its "
           "result, in type `dtype`.",
    .forward = forward_weight_gradient, .backward = backward_weight_gradient },
};
OP_FAMILY(convolution_volumes, descriptors);
