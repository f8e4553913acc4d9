// Transposed convolutions: what a convolution's gradient does to its result, for layers that
// enlarge. In two dimensions that is conv2d_input_gradient. One dimension is an image of height 1.
// In three, the weight's depths are made channels of the result, which are then added up along the
// depth.
// Output padding takes back padding at the end; where there is less of that, zeros are put there.
#include "ops/convolution.h"

enum { INPUT, WEIGHT, BIAS };

// How dimension i is made: with paddings `before` and `after` at the size that has the kernel's
// last element on its last; then `cut` elements are taken off in front and `zeros` put behind.
typedef struct transposed_end { int64_t before, after, size, cut, zeros; } transposed_end;

static transposed_end end_of(const convolution_geometry *g, int i) {
  transposed_end end = { .before = g->before[i], .after = g->after[i] - g->extra[i] };
  if (end.after < 0) {
    end.zeros = -end.after;
    end.after = 0;
  }
  end.size = g->output[i] - end.zeros;
  if (end.size < 1) {   // padding takes all that the kernel reaches
    end.cut = 1 - end.size;
    end.before -= end.cut;
    end.size = 1;
  }
  return end;
}

// The last two dimensions; for one dimension, a height of 1 in front.
static moon_tensor *spread_planes(compose *c, moon_tensor *x, moon_tensor *w,
                                  const convolution_geometry *g) {
  int64_t stride[2] = { 1, 1 }, dilation[2] = { 1, 1 }, sizes[2] = { 1, 1 }, pads[4] = { 0 };
  int64_t front[2] = { 0 }, zeros[2] = { 0 };
  for (int k = 0; k < 2; k++) {
    int i = g->ndim - 2 + k;
    if (i < 0) continue;
    transposed_end end = end_of(g, i);
    stride[k] = g->stride[i];
    dilation[k] = g->dilation[i];
    pads[2 * k] = end.before;
    pads[2 * k + 1] = end.after;
    sizes[k] = end.size;
    front[k] = -end.cut;
    zeros[k] = end.zeros;
  }
  moon_tensor *y = COMPOSE(c, conv2d_input_gradient, op_tensor(x), op_tensor(w), op_int(sizes[0]),
                           op_int(sizes[1]), op_ints(2, stride), op_ints(4, pads),
                           op_ints(2, dilation), op_int(g->groups));
  return convolution_pad(c, y, 2, front, zeros);
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

static moon_tensor *add_depths(compose *c, moon_tensor *y, const convolution_geometry *g) {
  transposed_end end = end_of(g, 0);
  int64_t before[3] = { -end.before - end.cut }, after[3] = { end.zeros - end.after };
  y = convolution_gather(c, y, 2, end.before + end.size + end.after, g->stride[0], g->dilation[0]);
  return convolution_pad(c, y, 3, before, after);
}

static moon_status forward_transposed3d(op_call *call) {
  convolution_geometry g;
  MOON_TRY(convolution_read_transposed(call->args, 3, &g));
  moon_tensor *x = call->args[INPUT].tensor, *w = call->args[WEIGHT].tensor;
  const int64_t *size = x->shape, *kernel = w->shape;
  int64_t planes[4] = { size[0] * size[2], size[1], size[3], size[4] };
  int64_t flat[4] = { kernel[0], kernel[1] * kernel[2], kernel[3], kernel[4] };
  int64_t spread[6] = { size[0], size[2], kernel[1] * g.groups, kernel[2], g.output[1],
                        g.output[2] };
  compose c = compose_open(call->engine);
  x = COMPOSE(&c, transpose, op_tensor(x), op_int(1), op_int(2));
  x = compose_reshape(&c, x, 4, planes);
  moon_tensor *y = spread_planes(&c, x, compose_reshape(&c, w, 4, flat), &g);
  y = compose_reshape(&c, y, 6, spread);   // (n, d, out, kernel d, h, w)
  y = COMPOSE(&c, permute, op_tensor(y), op_ints(6, (int64_t[]){ 0, 2, 1, 4, 5, 3 }));
  y = add_depths(&c, y, &g);
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
