// Transposed convolutions: what a convolution's gradient does to its result, for layers that
// enlarge. In two dimensions that is conv2d_input_gradient. One dimension is an image of height 1.
// Three are volumes_spread.
// Output padding takes back padding at the end; where there is less of that, zeros are put there.
#include "ops/volumes.h"

enum { INPUT, WEIGHT, BIAS };

// How the result is made: as a convolution's gradient, with the sizes that have the kernel's last
// element on their last; then zeros are put behind and, below 0, so many elements cut off in front.
typedef struct transposed {
  convolution_geometry spread;
  int64_t front[CONVOLUTION_MAX_DIMS], behind[CONVOLUTION_MAX_DIMS];
} transposed;

static transposed transposed_of(const convolution_geometry *g) {
  transposed t = { .spread = *g };
  for (int i = 0; i < g->ndim; i++) {
    int64_t after = g->after[i] - g->extra[i], *size = &t.spread.output[i];
    t.spread.after[i] = after > 0 ? after : 0;
    t.behind[i] = after < 0 ? -after : 0;
    *size -= t.behind[i];
    if (*size >= 1) continue;
    t.front[i] = *size - 1;   // padding takes all that the kernel reaches
    t.spread.before[i] += t.front[i];
    *size = 1;
  }
  return t;
}

// The last two dimensions; for one dimension, a height of 1 in front.
static moon_tensor *spread_planes(compose *c, moon_tensor *x, moon_tensor *w,
                                  const convolution_geometry *g) {
  transposed t = transposed_of(g);
  int64_t stride[2] = { 1, 1 }, dilation[2] = { 1, 1 }, sizes[2] = { 1, 1 }, pads[4] = { 0 };
  int64_t front[2] = { 0 }, behind[2] = { 0 };
  for (int i = 0; i < g->ndim; i++) {
    int k = 2 - g->ndim + i;
    stride[k] = g->stride[i];
    dilation[k] = g->dilation[i];
    pads[2 * k] = t.spread.before[i];
    pads[2 * k + 1] = t.spread.after[i];
    sizes[k] = t.spread.output[i];
    front[k] = t.front[i];
    behind[k] = t.behind[i];
  }
  moon_tensor *y = COMPOSE(c, conv2d_input_gradient, op_tensor(x), op_tensor(w), op_int(sizes[0]),
                           op_int(sizes[1]), op_ints(2, stride), op_ints(4, pads),
                           op_ints(2, dilation), op_int(g->groups));
  return convolution_pad(c, y, 2, front, behind);
}

static moon_tensor *add_bias(compose *c, moon_tensor *y, const op_call *call, int ndim) {
  static const int64_t column[] = { -1, 1, 1, 1 };
  if (!call->args[BIAS].given) return y;
  moon_tensor *bias = compose_reshape(c, call->args[BIAS].tensor, 1 + ndim, column);
  return COMPOSE(c, add, op_tensor(y), op_tensor(bias));
}

static moon_status forward_transposed1d(op_call *call) {
  convolution_geometry g;
  MOON_TRY(convolution_read_transposed(call->args, 1, &g));
  compose c = compose_open(call->engine);
  moon_tensor *x = COMPOSE(&c, unsqueeze, call->args[INPUT], op_int(2));
  moon_tensor *w = COMPOSE(&c, unsqueeze, call->args[WEIGHT], op_int(2));
  moon_tensor *y = spread_planes(&c, x, w, &g);
  y = COMPOSE(&c, squeeze, op_tensor(y), op_int(2));
  y = compose_own(&c, add_bias(&c, y, call, 1));
  return compose_close(&c, y, &call->results[0]);
}

static moon_status forward_transposed2d(op_call *call) {
  convolution_geometry g;
  MOON_TRY(convolution_read_transposed(call->args, 2, &g));
  compose c = compose_open(call->engine);
  moon_tensor *y = spread_planes(&c, call->args[INPUT].tensor, call->args[WEIGHT].tensor, &g);
  return compose_close(&c, add_bias(&c, y, call, 2), &call->results[0]);
}

static moon_status forward_transposed3d(op_call *call) {
  convolution_geometry g;
  MOON_TRY(convolution_read_transposed(call->args, 3, &g));
  transposed t = transposed_of(&g);
  compose c = compose_open(call->engine);
  moon_tensor *y = volumes_spread(&c, call->args[INPUT].tensor, call->args[WEIGHT].tensor,
                                  &t.spread);
  y = convolution_pad(&c, y, 3, t.front, t.behind);
  return compose_close(&c, add_bias(&c, y, call, 3), &call->results[0]);
}

#define TRANSPOSED_SCHEMA(n)                                                              \
  "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[" n "] = 1, padding: pads[" n \
  "] = 0, output_padding: int[" n "] = 0, groups: int = 1, dilation: int[" n "] = 1) -> out"

static op_descriptor descriptors[] = {
  { .name = "conv_transpose1d", .casts = OP_CASTS_LOW, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = TRANSPOSED_SCHEMA("1"),
    .doc = "Transposed convolution of input (n, c, length) with weight (c, out channels / groups, "
           "kernel), plus bias (out channels): as conv_transpose2d in one dimension.",
    .example = "moon.conv_transpose1d(moon.tensor {{{1, 2}}}, moon.tensor {{{1, 1, 1}}}, "
               "{stride = 2}) --> {{{1, 1, 3, 2, 2}}}",
    .forward = forward_transposed1d },
  { .name = "conv_transpose2d", .casts = OP_CASTS_LOW, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = TRANSPOSED_SCHEMA("2"),
    .doc = "Transposed convolution of input (n, c, h, w) with weight (c, out channels / groups, "
           "kernel h, kernel w), plus bias (out channels): every element of the input adds a "
           "multiple of the kernel to the result, `stride` apart, which is what the gradient of "
           "conv2d's input is. The height of the result is (h - 1) * stride - 2 * padding + "
           "dilation * (kernel h - 1) + output_padding + 1, its width alike: padding cuts off at "
           "both sides (numbers or words as for conv2d, but not \"same\"), output_padding, less "
           "than the stride or the dilation, adds at the end (Zeiler et al. 2010, Deconvolutional "
           "networks).",
    .example = "moon.conv_transpose2d(moon.tensor {{{{1, 2}}}}, moon.ones(1, 1, 1, 2)) "
               "--> {{{{1, 3, 2}}}}",
    .forward = forward_transposed2d },
  { .name = "conv_transpose3d", .casts = OP_CASTS_LOW, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = TRANSPOSED_SCHEMA("3"),
    .doc = "Transposed convolution of input (n, c, d, h, w) with weight (c, out channels / groups, "
           "kernel d, kernel h, kernel w), plus bias (out channels): as conv_transpose2d in three "
           "dimensions.",
    .example = "moon.conv_transpose3d(moon.tensor {{{{{1}}, {{2}}}}}, moon.ones(1, 1, 2, 1, 1)) "
               "--> {{{{{1}}, {{3}}, {{2}}}}}",
    .forward = forward_transposed3d },
};
OP_FAMILY(convolution_transposed, descriptors);
