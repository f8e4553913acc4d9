// Convolutions of one and three dimensions, as convolutions of two. One dimension is an image of
// height 1. In three, the depths that a kernel covers at one position are laid beside each other as
// channels, which is how the weight lies in memory already: one conv2d with kernel depth times the
// channels. That reads the input kernel depth / stride times over.
#include "ops/convolution.h"

enum { INPUT, WEIGHT, BIAS, STRIDE, PADDING, DILATION, GROUPS };

static op_value pads_of(const convolution_geometry *g, int first) {
  int64_t v[4];
  for (int i = 0; i < 2; i++) {
    v[2 * i] = first + i < 0 ? 0 : g->before[first + i];
    v[2 * i + 1] = first + i < 0 ? 0 : g->after[first + i];
  }
  return op_ints(4, v);
}

// Two numbers from position `first`; 1 for a dimension that was put in front.
static op_value pair_of(const int64_t *numbers, int first) {
  return op_ints(2, (int64_t[]){ first < 0 ? 1 : numbers[first], numbers[first + 1] });
}

static moon_tensor *convolve_planes(compose *c, moon_tensor *x, moon_tensor *w, const op_call *call,
                                    const convolution_geometry *g) {
  int first = g->ndim - 2;
  return COMPOSE(c, conv2d, op_tensor(x), op_tensor(w), call->args[BIAS],
                 pair_of(g->stride, first), pads_of(g, first), pair_of(g->dilation, first),
                 op_int(g->groups));
}

static moon_status forward_conv1d(op_call *call) {
  convolution_geometry g;
  MOON_TRY(convolution_read(call->args, 1, &g));
  compose c = compose_open(call->engine);
  moon_tensor *x = COMPOSE(&c, unsqueeze, call->args[INPUT], op_int(2));
  moon_tensor *w = COMPOSE(&c, unsqueeze, call->args[WEIGHT], op_int(2));
  moon_tensor *y = convolve_planes(&c, x, w, call, &g);
  y = compose_own(&c, COMPOSE(&c, squeeze, op_tensor(y), op_int(2)));
  return compose_close(&c, y, &call->results[0]);
}

// x (n, c, d, h, w) -> (n * output depth, c * kernel depth, h, w)
static moon_tensor *depths_as_channels(compose *c, moon_tensor *x, const convolution_geometry *g) {
  int64_t before[3] = { g->before[0] }, after[3] = { g->after[0] };
  x = convolution_pad(c, x, 3, before, after);
  x = convolution_slide(c, x, 2, g->kernel[0], g->stride[0], g->dilation[0]);
  x = COMPOSE(c, permute, op_tensor(x), op_ints(6, (int64_t[]){ 0, 2, 1, 5, 3, 4 }));
  if (c->status != MOON_OK) return NULL;
  const int64_t *shape = x->shape;
  return compose_reshape(c, x, 4, (int64_t[]){ shape[0] * shape[1], shape[2] * shape[3], shape[4],
                                               shape[5] });
}

static moon_status forward_conv3d(op_call *call) {
  convolution_geometry g;
  MOON_TRY(convolution_read(call->args, 3, &g));
  const moon_tensor *input = call->args[INPUT].tensor;
  moon_tensor *weight = call->args[WEIGHT].tensor;
  int64_t out = weight->shape[0];
  int64_t flat[4] = { out, weight->shape[1] * g.kernel[0], g.kernel[1], g.kernel[2] };
  int64_t planes[5] = { input->shape[0], g.output[0], out, g.output[1], g.output[2] };
  compose c = compose_open(call->engine);
  moon_tensor *x = depths_as_channels(&c, call->args[INPUT].tensor, &g);
  moon_tensor *y = convolve_planes(&c, x, compose_reshape(&c, weight, 4, flat), call, &g);
  y = compose_reshape(&c, y, 5, planes);
  y = COMPOSE(&c, transpose, op_tensor(y), op_int(1), op_int(2));   // channels last, as before
  return compose_close(&c, compose_own(&c, y), &call->results[0]);
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
