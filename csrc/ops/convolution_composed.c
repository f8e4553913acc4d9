// Convolutions of one and three dimensions. One dimension is an image of height 1. Three are the
// device's in one go where it offers that, else as many images as there are depths (volumes.h).
#include "ops/volumes.h"

enum { INPUT, WEIGHT, BIAS };

static moon_status forward_conv1d(op_call *call) {
  convolution_geometry g;
  MOON_TRY(convolution_read(call->args, 1, &g));
  compose c = compose_open(call->engine);
  moon_tensor *x = COMPOSE(&c, unsqueeze, call->args[INPUT], op_int(2));
  moon_tensor *w = COMPOSE(&c, unsqueeze, call->args[WEIGHT], op_int(2));
  const int64_t stride[2] = { 1, g.stride[0] }, dilation[2] = { 1, g.dilation[0] };
  const int64_t pads[4] = { 0, 0, g.before[0], g.after[0] };
  moon_tensor *y = COMPOSE(&c, conv2d, op_tensor(x), op_tensor(w), call->args[BIAS],
                           op_ints(2, stride), op_ints(4, pads), op_ints(2, dilation),
                           op_int(g.groups));
  y = compose_own(&c, COMPOSE(&c, squeeze, op_tensor(y), op_int(2)));
  return compose_close(&c, y, &call->results[0]);
}

static moon_status forward_conv3d(op_call *call) {
  const op_value *args = call->args;
  convolution_geometry g;
  MOON_TRY(convolution_read(args, 3, &g));
  compose c = compose_open(call->engine);
  moon_tensor *y = volumes_convolve(&c, args[INPUT].tensor, args[WEIGHT].tensor, args[BIAS], &g);
  return compose_close(&c, y, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "conv1d", .casts = OP_CASTS_LOW, .stays = "weight bias",
    .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[1] = 1, "
              "padding: pads[1] = 0, dilation: int[1] = 1, groups: int = 1) -> out",
    .doc = "Convolution (cross-correlation) of input (n, c, length) with weight (out channels, "
           "c / groups, kernel), plus bias (out channels). The length of the result is "
           "floor((length + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1. Padding as "
           "for conv2d.",
    .example = "moon.conv1d(moon.tensor {{{1, 2, 3, 4}}}, moon.tensor {{{-1, 1}}}) "
               "--> {{{1, 1, 1}}}",
    .forward = forward_conv1d },
  { .name = "conv3d", .casts = OP_CASTS_LOW, .stays = "weight bias",
    .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[3] = 1, "
              "padding: pads[3] = 0, dilation: int[3] = 1, groups: int = 1) -> out",
    .doc = "Convolution (cross-correlation) of input (n, c, d, h, w) with weight (out channels, "
           "c / groups, kernel d, kernel h, kernel w), plus bias (out channels). The depth of the "
           "result is floor((d + 2 * padding - dilation * (kernel d - 1) - 1) / stride) + 1, its "
           "height and width alike. Padding as for conv2d (Ji et al. 2013, 3D convolutional "
           "neural networks for human action recognition).",
    .example = "moon.conv3d(moon.ones(1, 1, 3, 2, 2), moon.ones(1, 1, 2, 2, 2)) "
               "--> {{{{{8}}, {{8}}}}}",
    .forward = forward_conv3d },
};
OP_FAMILY(convolution_composed, descriptors);
