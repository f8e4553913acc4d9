// Arguments of convolutions, checked for one to three dimensions at once, and the steps that their
// formulas share. See convolution.h.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ops/convolution.h"
#include "ops/window.h"

enum { INPUT, WEIGHT, BIAS, STRIDE, PADDING };
enum { DILATION = 5, GROUPS };                                       // of conv*
enum { OUTPUT_PADDING = 5, TRANSPOSED_GROUPS, TRANSPOSED_DILATION };   // of conv_transpose*

static const int64_t largest = INT32_MAX;

const char *convolution_side(int ndim, int i) {
  static const char *const sides[] = { "depth", "height", "width" };
  return ndim == 1 ? "length" : sides[CONVOLUTION_MAX_DIMS - ndim + i];
}

// -- tensors

static moon_status check_tensors(const op_value *args, int ndim, bool transposed) {
  static const char *const inputs[] = { "", "(n, c, length)", "(n, c, h, w)", "(n, c, d, h, w)" };
  static const char *const weights[] = {
    "", "(out channels, in channels / groups, length)",
    "(out channels, in channels / groups, h, w)", "(out channels, in channels / groups, d, h, w)",
  };
  static const char *const backwards[] = {
    "", "(in channels, out channels / groups, length)",
    "(in channels, out channels / groups, h, w)", "(in channels, out channels / groups, d, h, w)",
  };
  const moon_tensor *input = args[INPUT].tensor, *weight = args[WEIGHT].tensor;
  moon_status (*need_dtype)(const char *, const moon_tensor *, const char *, const moon_tensor *) =
      transposed ? ops_need_same_dtype : ops_need_parameter_dtype;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim == ndim + 1)
    return moon_fail(MOON_BAD_SHAPE, "input must have %d dimensions %s, got %s; add the batch with "
                     "input:unsqueeze(1)", ndim + 2, inputs[ndim], tensor_shape_text(input, text));
  MOON_TRY(ops_need_ndim("input", input, ndim + 2, inputs[ndim]));
  MOON_TRY(need_dtype("input", input, "weight", weight));
  MOON_TRY(ops_need_ndim("weight", weight, ndim + 2, (transposed ? backwards : weights)[ndim]));
  return args[BIAS].tensor ? need_dtype("input", input, "bias", args[BIAS].tensor) : MOON_OK;
}

static moon_status check_kernel(const moon_tensor *weight, convolution_geometry *g) {
  char w[TENSOR_SHAPE_TEXT];
  for (int i = 0; i < g->ndim; i++) {
    g->kernel[i] = weight->shape[2 + i];
    if (g->kernel[i] < 1)
      return moon_fail(MOON_BAD_SHAPE, "weight has a kernel of no %s (weight %s)",
                       convolution_side(g->ndim, i), tensor_shape_text(weight, w));
  }
  return MOON_OK;
}

static moon_status check_groups(const moon_tensor *weight, int64_t groups, const char *which) {
  char w[TENSOR_SHAPE_TEXT];
  if (groups < 1)
    return moon_fail(MOON_BAD_ARGUMENT, "groups must be at least 1, got %" PRId64, groups);
  if (weight->shape[0] % groups != 0)
    return moon_fail(MOON_BAD_SHAPE, "%" PRId64 " groups do not divide the %" PRId64 " %s channels "
                     "(weight %s)", groups, weight->shape[0], which, tensor_shape_text(weight, w));
  return MOON_OK;
}

static moon_status check_channels(const moon_tensor *input, const moon_tensor *weight,
                                  int64_t expected, int64_t groups) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  if (expected == input->shape[1]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input has %" PRId64 " channels but weight expects %" PRId64
                   " (input %s, weight %s, groups %" PRId64 ")", input->shape[1], expected,
                   tensor_shape_text(input, x), tensor_shape_text(weight, w), groups);
}

static moon_status check_bias(const moon_tensor *bias, int64_t channels,
                              const moon_tensor *weight) {
  char b[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  if (!bias || (bias->ndim == 1 && bias->shape[0] == channels)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "bias must have one element for each of the %" PRId64 " output "
                   "channels, got %s (weight %s)", channels, tensor_shape_text(bias, b),
                   tensor_shape_text(weight, w));
}

// -- numbers

moon_status convolution_options(const op_value *stride, const op_value *padding,
                                const op_value *dilation, const op_value *groups,
                                convolution_geometry *g) {
  window_pads pads;
  MOON_TRY(window_check("stride", g->ndim, stride->ints.v, 1));
  MOON_TRY(window_check("dilation", g->ndim, dilation->ints.v, 1));
  MOON_TRY(window_read_pads(padding, g->ndim, g->kernel, stride->ints.v, dilation->ints.v, &pads));
  for (int i = 0; i < g->ndim; i++) {
    g->stride[i] = stride->ints.v[i];
    g->dilation[i] = dilation->ints.v[i];
    g->before[i] = pads.before[i];
    g->after[i] = pads.after[i];
  }
  g->groups = groups ? groups->integer : 1;
  return MOON_OK;
}

// "1", or "0 and 2" where the two sides differ.
enum { SIDES_TEXT = 64 };

static const char *sides_text(const convolution_geometry *g, int i, char text[SIDES_TEXT]) {
  int written = snprintf(text, SIDES_TEXT, "%" PRId64, g->before[i]);
  if (g->before[i] != g->after[i])
    snprintf(text + written, SIDES_TEXT - (size_t)written, " and %" PRId64, g->after[i]);
  return text;
}

moon_status convolution_count(const moon_tensor *input, const moon_tensor *weight,
                              const convolution_geometry *g, int i, int64_t *positions) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT], sides[SIDES_TEXT];
  int64_t padded, span;
  int dim = input->ndim - g->ndim + i;
  if (__builtin_add_overflow(input->shape[dim], g->before[i] + g->after[i], &padded))
    padded = INT64_MAX;
  if (__builtin_mul_overflow(g->dilation[i], g->kernel[i] - 1, &span) || span >= padded)
    return moon_fail(MOON_BAD_SHAPE, "the kernel's %s %" PRId64 " (dilation %" PRId64 ") is larger "
                     "than the padded input's %" PRId64 " (input %s, weight %s, padding %s)",
                     convolution_side(g->ndim, i), g->kernel[i], g->dilation[i], padded,
                     tensor_shape_text(input, x), tensor_shape_text(weight, w),
                     sides_text(g, i, sides));
  *positions = (padded - span - 1) / g->stride[i] + 1;
  return MOON_OK;
}

moon_status convolution_read(const op_value *args, int ndim, convolution_geometry *g) {
  const moon_tensor *input = args[INPUT].tensor, *weight = args[WEIGHT].tensor;
  int64_t expected;
  *g = (convolution_geometry){ .ndim = ndim };
  MOON_TRY(check_tensors(args, ndim, false));
  MOON_TRY(check_kernel(weight, g));
  MOON_TRY(convolution_options(&args[STRIDE], &args[PADDING], &args[DILATION], &args[GROUPS], g));
  MOON_TRY(check_groups(weight, g->groups, "output"));
  if (__builtin_mul_overflow(weight->shape[1], g->groups, &expected)) expected = INT64_MAX;
  MOON_TRY(check_channels(input, weight, expected, g->groups));
  MOON_TRY(check_bias(args[BIAS].tensor, weight->shape[0], weight));
  for (int i = 0; i < ndim; i++)
    MOON_TRY(convolution_count(input, weight, g, i, &g->output[i]));
  return MOON_OK;
}

// (size - 1) * stride - before - after + dilation * (kernel - 1) + extra + 1
static moon_status transposed_size(const moon_tensor *input, const moon_tensor *weight,
                                   convolution_geometry *g, int i) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  int64_t size = input->shape[2 + i], reach, span;
  if (g->extra[i] >= g->stride[i] && g->extra[i] >= g->dilation[i])
    return moon_fail(MOON_BAD_ARGUMENT, "output_padding must be less than the stride or the "
                     "dilation, got %" PRId64 " for stride %" PRId64 " and dilation %" PRId64,
                     g->extra[i], g->stride[i], g->dilation[i]);
  if (size < 1)
    return moon_fail(MOON_BAD_SHAPE, "input has no %s (input %s)", convolution_side(g->ndim, i),
                     tensor_shape_text(input, x));
  if (__builtin_mul_overflow(size - 1, g->stride[i], &reach) || reach > INT64_MAX / 4 ||
      __builtin_mul_overflow(g->dilation[i], g->kernel[i] - 1, &span) || span > INT64_MAX / 4)
    return moon_fail(MOON_BAD_SHAPE, "the result's %s is too large (input %s, stride %" PRId64
                     ", dilation %" PRId64 ")", convolution_side(g->ndim, i),
                     tensor_shape_text(input, x), g->stride[i], g->dilation[i]);
  g->output[i] = reach - g->before[i] - g->after[i] + span + g->extra[i] + 1;
  if (g->output[i] < 1)
    return moon_fail(MOON_BAD_SHAPE, "padding %" PRId64 ", %" PRId64 " leaves nothing of the "
                     "result's %s (input %s, weight %s)", g->before[i], g->after[i],
                     convolution_side(g->ndim, i), tensor_shape_text(input, x),
                     tensor_shape_text(weight, w));
  return MOON_OK;
}

moon_status convolution_read_transposed(const op_value *args, int ndim, convolution_geometry *g) {
  const moon_tensor *input = args[INPUT].tensor, *weight = args[WEIGHT].tensor;
  int64_t channels;
  *g = (convolution_geometry){ .ndim = ndim };
  MOON_TRY(check_tensors(args, ndim, true));
  MOON_TRY(check_kernel(weight, g));
  if (args[PADDING].ints.word == OP_PADS_SAME)
    return moon_fail(MOON_BAD_ARGUMENT, "padding \"same\" has no meaning where the result grows; "
                     "give numbers");
  MOON_TRY(convolution_options(&args[STRIDE], &args[PADDING], &args[TRANSPOSED_DILATION],
                               &args[TRANSPOSED_GROUPS], g));
  MOON_TRY(window_check("output_padding", ndim, args[OUTPUT_PADDING].ints.v, 0));
  memcpy(g->extra, args[OUTPUT_PADDING].ints.v, (size_t)ndim * sizeof *g->extra);
  MOON_TRY(check_groups(weight, g->groups, "input"));
  MOON_TRY(check_channels(input, weight, weight->shape[0], g->groups));
  if (__builtin_mul_overflow(weight->shape[1], g->groups, &channels) || channels > largest)
    return moon_fail(MOON_BAD_SHAPE, "%" PRId64 " groups of %" PRId64 " output channels are too "
                     "many", g->groups, weight->shape[1]);
  MOON_TRY(check_bias(args[BIAS].tensor, channels, weight));
  int64_t shape[CONVOLUTION_MAX_DIMS + 2] = { input->shape[0], channels }, count;
  for (int i = 0; i < ndim; i++) {
    MOON_TRY(transposed_size(input, weight, g, i));
    shape[2 + i] = g->output[i];
  }
  return shape_count(ndim + 2, shape, &count);
}

// -- steps of formulas

moon_tensor *convolution_slide(compose *c, moon_tensor *x, int dim, int64_t kernel, int64_t stride,
                               int64_t dilation) {
  if (c->status != MOON_OK) return NULL;
  int last = x->ndim;
  int64_t span = dilation * (kernel - 1) + 1;
  x = COMPOSE(c, unfold, op_tensor(x), op_int(dim), op_int(span), op_int(stride));
  if (dilation == 1 || kernel == 1) return x;
  x = COMPOSE(c, unfold, op_tensor(x), op_int(last), op_int(1), op_int(dilation));
  return COMPOSE(c, select, op_tensor(x), op_int(last + 1), op_int(0));
}

moon_tensor *convolution_pad(compose *c, moon_tensor *x, int ndim, const int64_t *before,
                             const int64_t *after) {
  int64_t pads[2 * CONVOLUTION_MAX_DIMS];
  bool any = false;
  for (int i = 0; i < ndim; i++) {
    pads[2 * (ndim - 1 - i)] = before[i];
    pads[2 * (ndim - 1 - i) + 1] = after[i];
    any = any || before[i] != 0 || after[i] != 0;
  }
  return any ? COMPOSE(c, pad_constant, op_tensor(x), op_ints(2 * ndim, pads)) : x;
}

moon_tensor *convolution_gather(compose *c, moon_tensor *x, int dim, int64_t size, int64_t stride,
                                int64_t dilation) {
  if (c->status != MOON_OK) return NULL;
  int last = x->ndim - 1;
  int64_t kernel = x->shape[last], span = dilation * (kernel - 1) + 1;
  if (dilation > 1 && kernel > 1) {
    x = COMPOSE(c, unsqueeze, op_tensor(x), op_int(last + 1));
    x = COMPOSE(c, unfold_gradient, op_tensor(x), op_int(last), op_int(span), op_int(dilation));
  }
  return COMPOSE(c, unfold_gradient, op_tensor(x), op_int(dim), op_int(size), op_int(stride));
}
