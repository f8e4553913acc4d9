// Windows laid out as the columns of a matrix, and back; and layers with weights of their own at
// every position, which are one matrix product a position. All are views of windows
// (convolution_slide), permuted and copied once.
#include <inttypes.h>

#include "ops/convolution.h"
#include "ops/window.h"

// -- im2col, col2im

enum { IM_INPUT, IM_KERNEL, IM_STRIDE, IM_PADDING, IM_DILATION };
enum { COL_INPUT, COL_SIZE, COL_KERNEL, COL_STRIDE, COL_PADDING, COL_DILATION };

// Reads kernel, stride, padding, dilation, which stand in this order from args[0] on.
static moon_status read_windows(const op_value *args, convolution_geometry *g) {
  enum { KERNEL, STRIDE, PADDING, DILATION };
  *g = (convolution_geometry){ .ndim = 2 };
  MOON_TRY(window_check_pair("kernel", args[KERNEL].ints.v, 1));
  for (int i = 0; i < 2; i++) g->kernel[i] = args[KERNEL].ints.v[i];
  return convolution_options(&args[STRIDE], &args[PADDING], &args[DILATION], NULL, g);
}

// How many windows a picture of `size` has along its height (0) or width (1).
static moon_status count_windows(const int64_t *size, convolution_geometry *g, int i) {
  int64_t padded, span;
  if (__builtin_add_overflow(size[i], g->before[i] + g->after[i], &padded)) padded = INT64_MAX;
  if (__builtin_mul_overflow(g->dilation[i], g->kernel[i] - 1, &span) || span >= padded)
    return moon_fail(MOON_BAD_SHAPE, "the kernel's %s %" PRId64 " (dilation %" PRId64 ") is larger "
                     "than the padded picture's %" PRId64, convolution_side(2, i), g->kernel[i],
                     g->dilation[i], padded);
  g->output[i] = (padded - span - 1) / g->stride[i] + 1;
  return MOON_OK;
}

static moon_status forward_im2col(op_call *call) {
  moon_tensor *x = call->args[IM_INPUT].tensor;
  convolution_geometry g;
  MOON_TRY(window_check_image(x));
  MOON_TRY(read_windows(&call->args[IM_KERNEL], &g));
  for (int i = 0; i < 2; i++) MOON_TRY(count_windows(&x->shape[2], &g, i));
  compose c = compose_open(call->engine);
  x = convolution_pad(&c, x, 2, g.before, g.after);
  for (int i = 0; i < 2; i++)   // (n, c, oh, ow, kh, kw)
    x = convolution_slide(&c, x, 2 + i, g.kernel[i], g.stride[i], g.dilation[i]);
  x = COMPOSE(&c, permute, op_tensor(x), op_ints(6, (int64_t[]){ 0, 1, 4, 5, 2, 3 }));
  x = COMPOSE(&c, clone, op_tensor(x));
  if (c.status == MOON_OK) {
    const int64_t *s = x->shape;
    x = compose_reshape(&c, x, 3, (int64_t[]){ s[0], s[1] * s[2] * s[3], s[4] * s[5] });
  }
  x = compose_own(&c, x);
  return compose_close(&c, x, &call->results[0]);
}

static moon_status check_columns(const moon_tensor *x, const int64_t *size,
                                 convolution_geometry *g, int64_t *channels) {
  char text[TENSOR_SHAPE_TEXT];
  int64_t taps, positions;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(ops_need_ndim("input", x, 3, "(n, c * kernel h * kernel w, positions)"));
  MOON_TRY(window_check_pair("size", size, 0));
  for (int i = 0; i < 2; i++) MOON_TRY(count_windows(size, g, i));
  if (__builtin_mul_overflow(g->kernel[0], g->kernel[1], &taps) || x->shape[1] % taps != 0)
    return moon_fail(MOON_BAD_SHAPE, "a kernel of %" PRId64 "x%" PRId64 " does not divide the "
                     "input's %" PRId64 " rows (input %s)", g->kernel[0], g->kernel[1], x->shape[1],
                     tensor_shape_text(x, text));
  if (__builtin_mul_overflow(g->output[0], g->output[1], &positions) || positions != x->shape[2])
    return moon_fail(MOON_BAD_SHAPE, "a picture of %" PRId64 "x%" PRId64 " has %" PRId64 "x%" PRId64
                     " windows but input has %" PRId64 " columns (input %s)", size[0], size[1],
                     g->output[0], g->output[1], x->shape[2], tensor_shape_text(x, text));
  *channels = x->shape[1] / taps;
  return MOON_OK;
}

static moon_status forward_col2im(op_call *call) {
  moon_tensor *x = call->args[COL_INPUT].tensor;
  const int64_t *size = call->args[COL_SIZE].ints.v;
  convolution_geometry g;
  int64_t channels = 0, full[2], cut_before[2], cut_after[2];
  MOON_TRY(read_windows(&call->args[COL_KERNEL], &g));
  MOON_TRY(check_columns(x, size, &g, &channels));
  compose c = compose_open(call->engine);
  x = compose_reshape(&c, x, 6, (int64_t[]){ x->shape[0], channels, g.kernel[0], g.kernel[1],
                                             g.output[0], g.output[1] });
  for (int i = 0; i < 2; i++) {
    full[i] = size[i] + g.before[i] + g.after[i];
    cut_before[i] = -g.before[i];
    cut_after[i] = -g.after[i];
  }
  // columns first, then rows: both times whole rows are added, (n, c, kh, oh, ow | kw) and
  // (n, c, oh, w | kh)
  x = COMPOSE(&c, permute, op_tensor(x), op_ints(6, (int64_t[]){ 0, 1, 2, 4, 5, 3 }));
  x = convolution_gather(&c, x, 4, full[1], g.stride[1], g.dilation[1]);
  x = COMPOSE(&c, permute, op_tensor(x), op_ints(5, (int64_t[]){ 0, 1, 3, 4, 2 }));
  x = convolution_gather(&c, x, 2, full[0], g.stride[0], g.dilation[0]);
  x = convolution_pad(&c, x, 2, cut_before, cut_after);
  return compose_close(&c, x, &call->results[0]);
}

// -- locally connected

enum { INPUT, WEIGHT, BIAS, STRIDE, PADDING, DILATION };

static const char *const inputs[] = { "", "(n, c, length)", "(n, c, h, w)" };
static const char *const weights[] = {
  "", "(length, out channels, c, kernel)",
  "(result h, result w, out channels, c, kernel h, kernel w)",
};

static moon_status check_own_weights(const moon_tensor *input, const moon_tensor *weight,
                                     const convolution_geometry *g) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  int n = g->ndim;
  if (input->shape[1] != weight->shape[n + 1])
    return moon_fail(MOON_BAD_SHAPE, "input has %" PRId64 " channels but weight expects %" PRId64
                     " (input %s, weight %s)", input->shape[1], weight->shape[n + 1],
                     tensor_shape_text(input, x), tensor_shape_text(weight, w));
  for (int i = 0; i < n; i++)
    if (weight->shape[i] != g->output[i])
      return moon_fail(MOON_BAD_SHAPE, "weight has %" PRId64 " positions along the %s but the "
                       "kernel takes %" PRId64 " (input %s, weight %s)", weight->shape[i],
                       convolution_side(n, i), g->output[i], tensor_shape_text(input, x),
                       tensor_shape_text(weight, w));
  return MOON_OK;
}

// bias (out channels, positions ...)
static moon_status check_own_bias(const moon_tensor *input, const moon_tensor *weight,
                                  const moon_tensor *bias, const convolution_geometry *g) {
  char b[TENSOR_SHAPE_TEXT], wanted[TENSOR_SHAPE_TEXT];
  int64_t shape[CONVOLUTION_MAX_DIMS + 1] = { weight->shape[g->ndim] };
  if (!bias) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, "bias", bias));
  bool fits = bias->ndim == g->ndim + 1 && bias->shape[0] == shape[0];
  for (int i = 0; i < g->ndim; i++) {
    shape[1 + i] = g->output[i];
    fits = fits && bias->shape[1 + i] == shape[1 + i];
  }
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "bias must be %s (out channels, positions), got %s",
                   shape_text(g->ndim + 1, shape, wanted), tensor_shape_text(bias, b));
}

static moon_status read_local(const op_value *args, int ndim, convolution_geometry *g) {
  const moon_tensor *input = args[INPUT].tensor, *weight = args[WEIGHT].tensor;
  char w[TENSOR_SHAPE_TEXT];
  *g = (convolution_geometry){ .ndim = ndim };
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(ops_need_ndim("input", input, ndim + 2, inputs[ndim]));
  MOON_TRY(ops_need_same_dtype("input", input, "weight", weight));
  MOON_TRY(ops_need_ndim("weight", weight, 2 * ndim + 2, weights[ndim]));
  for (int i = 0; i < ndim; i++) {
    g->kernel[i] = weight->shape[ndim + 2 + i];
    if (g->kernel[i] < 1)
      return moon_fail(MOON_BAD_SHAPE, "weight has a kernel of no %s (weight %s)",
                       convolution_side(ndim, i), tensor_shape_text(weight, w));
  }
  MOON_TRY(convolution_options(&args[STRIDE], &args[PADDING], &args[DILATION], NULL, g));
  for (int i = 0; i < ndim; i++)
    MOON_TRY(convolution_count(input, weight, g, i, &g->output[i]));
  MOON_TRY(check_own_weights(input, weight, g));
  return check_own_bias(input, weight, args[BIAS].tensor, g);
}

// (n, c, positions ..., kernel ...) -> (positions, n, c * kernel)
static moon_tensor *patches_by_position(compose *c, moon_tensor *x, const convolution_geometry *g,
                                        int64_t positions, int64_t taps) {
  static const int64_t orders[][6] = { { 0 }, { 2, 0, 1, 3 }, { 2, 3, 0, 1, 4, 5 } };
  int64_t images = x->shape[0];
  x = convolution_pad(c, x, g->ndim, g->before, g->after);
  for (int i = 0; i < g->ndim; i++)
    x = convolution_slide(c, x, 2 + i, g->kernel[i], g->stride[i], g->dilation[i]);
  x = COMPOSE(c, permute, op_tensor(x), op_ints(2 * g->ndim + 2, orders[g->ndim]));
  return compose_reshape(c, x, 3, (int64_t[]){ positions, images, taps });
}

static moon_status forward_local(op_call *call) {
  const int ndim = (int)call->op->row;
  convolution_geometry g;
  moon_tensor *weight = call->args[WEIGHT].tensor, *input = call->args[INPUT].tensor;
  MOON_TRY(read_local(call->args, ndim, &g));
  int64_t positions = 1, taps = weight->shape[ndim + 1], out = weight->shape[ndim];
  int64_t shape[CONVOLUTION_MAX_DIMS + 2] = { input->shape[0], out };
  for (int i = 0; i < ndim; i++) {   // parts of weight's shape, whose product fits
    positions *= g.output[i];
    taps *= g.kernel[i];
    shape[2 + i] = g.output[i];
  }
  compose c = compose_open(call->engine);
  moon_tensor *x = patches_by_position(&c, input, &g, positions, taps);
  moon_tensor *w = compose_reshape(&c, weight, 3, (int64_t[]){ positions, out, taps });
  w = COMPOSE(&c, transpose, op_tensor(w), op_int(1), op_int(2));
  moon_tensor *y = COMPOSE(&c, matmul, op_tensor(x), op_tensor(w));   // (positions, n, out)
  y = COMPOSE(&c, permute, op_tensor(y), op_ints(3, (int64_t[]){ 1, 2, 0 }));
  y = compose_reshape(&c, y, ndim + 2, shape);
  if (call->args[BIAS].given) y = COMPOSE(&c, add, op_tensor(y), call->args[BIAS]);
  else y = compose_own(&c, COMPOSE(&c, contiguous, op_tensor(y)));
  return compose_close(&c, y, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "im2col", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, kernel: int[2], stride: int[2] = 1, padding: pads[2] = 0, "
              "dilation: int[2] = 1) -> out",
    .doc = "The windows of input (n, c, h, w) as columns: (n, c * kernel h * kernel w, windows), "
           "windows counted along the rows. Convolution is weight, seen as a matrix, times these "
           "columns. The number of windows and padding are as for conv2d. nn.Unfold is its layer.",
    .example = "moon.im2col(moon.arange(1, 6):float():reshape(1, 1, 2, 3), 2) "
               "--> {{{1, 2}, {2, 3}, {4, 5}, {5, 6}}}",
    .forward = forward_im2col },
  { .name = "col2im", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, size: int[2], kernel: int[2], stride: int[2] = 1, "
              "padding: pads[2] = 0, dilation: int[2] = 1) -> out",
    .doc = "Adds columns (n, c * kernel h * kernel w, windows) up into pictures (n, c, h, w) of "
           "size {h, w}, each element where im2col with the same options took it from: the "
           "adjoint of im2col. nn.Fold is its layer.",
    .example = "moon.col2im(moon.ones(1, 4, 2), {2, 3}, 2) --> {{{{1, 2, 1}, {1, 2, 1}}}}",
    .forward = forward_col2im },
  { .name = "locally_connected1d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 1,
    .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[1] = 1, "
              "padding: pads[1] = 0, dilation: int[1] = 1) -> out",
    .doc = "As conv1d, but with a kernel of its own at every position: input (n, c, length), "
           "weight (result length, out channels, c, kernel), bias (out channels, result length).",
    .example = "moon.locally_connected1d(moon.tensor {{{1, 2, 3}}}, "
               "moon.tensor {{{{1}}}, {{{10}}}, {{{100}}}}) --> {{{1, 20, 300}}}",
    .forward = forward_local },
  { .name = "locally_connected2d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 2,
    .schema = "(input: Tensor, weight: Tensor, bias: Tensor?, stride: int[2] = 1, "
              "padding: pads[2] = 0, dilation: int[2] = 1) -> out",
    .doc = "As conv2d, but with a kernel of its own at every position: input (n, c, h, w), weight "
           "(result h, result w, out channels, c, kernel h, kernel w), bias (out channels, result "
           "h, result w) (LeCun 1989, Generalization and network design strategies).",
    .example = "moon.locally_connected2d(moon.ones(1, 1, 1, 2), "
               "moon.tensor({1, 2}):reshape(1, 2, 1, 1, 1, 1)) --> {{{{1, 2}}}}",
    .forward = forward_local },
};
OP_FAMILY(columns, descriptors);
