// Local contrast normalisation: what visual cortex models and early convolution nets did to a
// picture before its first layer.
#include <inttypes.h>
#include <math.h>

#include "ops/compose.h"

enum { INPUT, KERNEL, SIZE, THRESHOLD };

static moon_status check(const op_value *args) {
  const moon_tensor *input = args[INPUT].tensor, *kernel = args[KERNEL].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(ops_need_ndim("input", input, 4, "(n, c, h, w)"));
  if (!(args[THRESHOLD].number > 0))
    return moon_fail(MOON_BAD_ARGUMENT, "threshold must be positive, got %g",
                     args[THRESHOLD].number);
  if (!kernel) {
    int64_t size = args[SIZE].integer;
    if (size >= 1 && size % 2 == 1 && size <= 1 << 15) return MOON_OK;
    return moon_fail(MOON_BAD_ARGUMENT, "size must be an odd number from 1, got %" PRId64, size);
  }
  MOON_TRY(ops_need_same_dtype("input", input, "kernel", kernel));
  if (kernel->ndim == 2 && kernel->shape[0] % 2 == 1 && kernel->shape[1] % 2 == 1) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "kernel must have 2 dimensions of odd size, got %s",
                   tensor_shape_text(kernel, text));
}

// The window as a convolution's weight (1, 1, kh, kw) that sums to 1.
static moon_tensor *open_window(compose *c, const op_value *args, const moon_tensor *x) {
  moon_tensor *kernel = args[KERNEL].tensor;
  if (c->status != MOON_OK) return NULL;
  if (!kernel) {
    int64_t size = args[SIZE].integer, shape[4] = { 1, 1, size, size };
    moon_tensor *ones = NULL;
    moon_status status = ops_new_filled(c->engine, x, x->dtype, 4, shape,
                                        1 / (double)(size * size), &ones);
    return compose_adopt(c, status, ones);
  }
  moon_tensor *sum = COMPOSE(c, sum, op_tensor(kernel));
  moon_tensor *window = COMPOSE(c, div, op_tensor(kernel), op_tensor(sum));
  return compose_reshape(c, window, 4, (int64_t[]){ 1, 1, kernel->shape[0], kernel->shape[1] });
}

// The weighted mean round each place of a single plane; beyond the border is nothing.
static moon_tensor *local_mean(compose *c, moon_tensor *plane, moon_tensor *window,
                               moon_tensor *part_inside) {
  if (c->status != MOON_OK) return NULL;
  int64_t padding[2] = { window->shape[2] / 2, window->shape[3] / 2 };
  moon_tensor *mean = COMPOSE(c, conv2d, op_tensor(plane), op_tensor(window), op_none(),
                              op_ints(2, (int64_t[]){ 1, 1 }), op_ints(2, padding));
  return part_inside ? COMPOSE(c, div, op_tensor(mean), op_tensor(part_inside)) : mean;
}

// How much of the window's weight lies inside the picture.
static moon_tensor *inside(compose *c, const moon_tensor *x, moon_tensor *window) {
  int64_t shape[4] = { 1, 1, x->shape[2], x->shape[3] };
  moon_tensor *ones = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new_filled(c->engine, x, x->dtype, 4, shape, 1, &ones);
  ones = compose_adopt(c, status, ones);
  return local_mean(c, ones, window, NULL);
}

static moon_tensor *over_channels(compose *c, moon_tensor *x) {
  return COMPOSE(c, mean, op_tensor(x), op_ints(1, (int64_t[]){ 1 }), op_bool(true));
}

static moon_status forward(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor, *x = input;
  MOON_TRY(check(call->args));
  if (tensor_count(input) == 0)
    return OP_RUN(call->engine, ops_get(OP_clone), &call->results[0], op_tensor(input));
  compose c = compose_open(call->engine);
  moon_tensor *window = open_window(&c, call->args, x), *part = inside(&c, x, window);
  moon_tensor *mean = local_mean(&c, over_channels(&c, x), window, part);
  moon_tensor *rest = COMPOSE(&c, sub, op_tensor(x), op_tensor(mean));
  moon_tensor *squares = COMPOSE(&c, square, op_tensor(rest));
  moon_tensor *variance = local_mean(&c, over_channels(&c, squares), window, part);
  double threshold = call->args[THRESHOLD].number;
  // limited before the root, whose slope at 0 is infinite
  variance = COMPOSE(&c, clamp, op_tensor(variance), op_number(threshold * threshold),
                     op_number(INFINITY));
  moon_tensor *deviation = COMPOSE(&c, sqrt, op_tensor(variance));
  moon_tensor *y = COMPOSE(&c, div, op_tensor(rest), op_tensor(deviation));
  return compose_close(&c, y, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "local_contrast_norm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, kernel: Tensor?, size: int = 9, threshold: number = 1e-4) -> out",
    .doc = "Subtracts from each pixel of input (n, c, h, w) the weighted mean of its neighbourhood "
           "in all channels, then divides by the neighbourhood's deviation, but by no less than "
           "threshold. kernel (kh, kw), of odd sizes, weighs the neighbourhood, evenly and size by "
           "size unless given; at the border only the part inside counts. "
           "v = x - sum w x; y = v / max(sqrt(sum w v^2), threshold) (Jarrett, Kavukcuoglu, "
           "Ranzato and LeCun 2009).",
    .example = "moon.local_contrast_norm(moon.ones(1, 1, 5, 5), { size = 3 }):abs():sum()"
               ":lt(0.01):item() --> true",
    .forward = forward },
};
OP_FAMILY(contrast, descriptors);
