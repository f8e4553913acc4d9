// Pooling in two dimensions: the largest or the mean of the elements under a window that moves over
// each channel. Windows, sizes and their limits are PyTorch's; the kernels take shapes that were
// checked here. Pooling in one and three dimensions is made of this (pooling_nd.c).
#include <inttypes.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/pool_window.h"

static pool2d_geometry geometry_of(const pool_window *window) {
  pool2d_geometry g = { .divisor = 0 };
  memcpy(g.kernel, window->kernel, sizeof g.kernel);
  memcpy(g.stride, window->stride, sizeof g.stride);
  memcpy(g.padding, window->padding, sizeof g.padding);
  memcpy(g.dilation, window->dilation, sizeof g.dilation);
  return g;
}

// -- max_pool2d

enum {
  MAX_INPUT, MAX_KERNEL, MAX_STRIDE, MAX_PADDING, MAX_DILATION, MAX_CEIL, MAX_RETURN,
};
enum { MAX_OUT, MAX_INDICES, MAX_TAKEN };

static pool_window max_window(const op_value *args) {
  return pool_window_read(2, &args[MAX_KERNEL], &args[MAX_STRIDE], &args[MAX_PADDING],
                          &args[MAX_DILATION], args[MAX_CEIL].boolean);
}

// The type that tells which element of a window was largest.
static moon_status taken_dtype(const moon_tensor *input, const pool2d_geometry *g,
                               moon_dtype *dtype) {
  int64_t taps;
  bool few = !__builtin_mul_overflow(g->kernel[0], g->kernel[1], &taps) && taps <= POOL_BYTE_TAPS;
  *dtype = few ? MOON_U8 : MOON_I32;
  if (few || input->shape[2] * input->shape[3] <= INT32_MAX) return MOON_OK;
  return moon_fail(MOON_UNSUPPORTED, "kernels of more than %d elements take images of at most 2^31 "
                   "elements", POOL_BYTE_TAPS);
}

// Where in its plane each largest element lies, from 1; 0 where there is none.
static moon_status find_places(moon_engine *engine, const pool2d_geometry *geometry, int64_t width,
                               const moon_tensor *taken, moon_tensor **places) {
  moon_tensor *made;
  MOON_TRY(ops_new_like(engine, taken, MOON_I64, taken->shape, &made));
  device_array from = tensor_array(taken), to = tensor_array(made);
  moon_status status =
      tensor_kernels(taken)->max_pool2d_places(engine, geometry, width, &from, &to);
  if (status == MOON_OK) status = ops_index_out(engine, made);
  if (status == MOON_OK) *places = made;
  else tensor_release(made);
  return status;
}

static moon_status forward_max_pool2d(op_call *call) {
  moon_tensor *input = call->args[MAX_INPUT].tensor, **taken = &call->results[MAX_TAKEN];
  pool_window window = max_window(call->args);
  pool2d_geometry geometry = geometry_of(&window);
  bool indices = call->args[MAX_RETURN].boolean;
  moon_dtype dtype = MOON_U8;
  int64_t shape[4];
  MOON_TRY(pool_check(input, &window, shape));
  MOON_TRY(taken_dtype(input, &geometry, &dtype));
  MOON_TRY(ops_new_like(call->engine, input, input->dtype, shape, &call->results[MAX_OUT]));
  if (call->recording || indices)
    MOON_TRY(ops_new_like(call->engine, input, dtype, shape, taken));
  device_array x = tensor_array(input), out = tensor_array(call->results[MAX_OUT]), taps;
  if (*taken) taps = tensor_array(*taken);
  MOON_TRY(tensor_kernels(input)->max_pool2d_forward(call->engine, &geometry, &x, &out,
                                                     *taken ? &taps : NULL));
  if (!indices) return MOON_OK;
  return find_places(call->engine, &geometry, input->shape[3], *taken,
                     &call->results[MAX_INDICES]);
}

// The gradients added up at the places that were taken, as an operator that has a gradient itself.
static moon_status recorded_max_gradient(op_backward_call *call) {
  pool_window window = max_window(call->args);
  pool2d_geometry geometry = geometry_of(&window);
  moon_tensor *g = call->grads[MAX_OUT], *zeros = NULL, *places = NULL;
  const int64_t *shape = call->inputs[MAX_INPUT].shape;
  int64_t area;
  MOON_TRY(shape_count(2, shape + 2, &area));
  compose c = compose_open(call->engine);
  moon_status status = ops_new_filled(call->engine, g, g->dtype, 3,
                                      (int64_t[]){ shape[0], shape[1], area }, 0, &zeros);
  zeros = compose_adopt(&c, status, zeros);
  status = c.status != MOON_OK
               ? c.status
               : find_places(call->engine, &geometry, shape[3], call->results[MAX_TAKEN], &places);
  places = compose_adopt(&c, status, places);
  places = COMPOSE(&c, flatten, op_tensor(places), op_int(2), op_int(-1));
  moon_tensor *source = COMPOSE(&c, flatten, op_tensor(g), op_int(2), op_int(-1));
  moon_tensor *sums = COMPOSE(&c, scatter_add, op_tensor(zeros), op_int(2), op_tensor(places),
                              op_tensor(source));
  return compose_close(&c, compose_reshape(&c, sums, 4, shape), &call->out[MAX_INPUT]);
}

static moon_status backward_max_pool2d(op_backward_call *call) {
  pool_window window = max_window(call->args);
  pool2d_geometry geometry = geometry_of(&window);
  moon_tensor *gradient = call->grads[MAX_OUT], *taken = call->results[MAX_TAKEN];
  moon_tensor *models[] = { gradient, taken };
  moon_tensor **dx = &call->out[MAX_INPUT];
  if (call->engine->grad_enabled) return recorded_max_gradient(call);
  MOON_TRY(ops_new_among(call->engine, 2, models, gradient->dtype, 4,
                         call->inputs[MAX_INPUT].shape, dx));
  device_array g = tensor_array(gradient), to = tensor_array(*dx), taps = tensor_array(taken);
  return tensor_kernels(gradient)->max_pool2d_backward(call->engine, &geometry, &g, &taps, &to);
}

// -- avg_pool2d and its gradient, each of which is the other's

enum {
  AVG_INPUT, AVG_KERNEL, AVG_STRIDE, AVG_PADDING, AVG_CEIL, AVG_COUNT_PAD, AVG_DIVISOR,
  AVG_HEIGHT, AVG_WIDTH,   // of the image; avg_pool2d_gradient only
};

static pool_window avg_window(const op_value *args, pool2d_geometry *geometry) {
  pool_window window = pool_window_read(2, &args[AVG_KERNEL], &args[AVG_STRIDE],
                                        &args[AVG_PADDING], NULL, args[AVG_CEIL].boolean);
  *geometry = geometry_of(&window);
  geometry->count_include_pad = args[AVG_COUNT_PAD].boolean;
  geometry->divisor = args[AVG_DIVISOR].given ? args[AVG_DIVISOR].integer : 0;
  return window;
}

static moon_status forward_avg_pool2d(op_call *call) {
  moon_tensor *input = call->args[AVG_INPUT].tensor;
  pool2d_geometry geometry;
  pool_window window = avg_window(call->args, &geometry);
  int64_t shape[4];
  MOON_TRY(pool_check(input, &window, shape));
  MOON_TRY(pool_check_divisor(&call->args[AVG_DIVISOR]));
  MOON_TRY(ops_new_like(call->engine, input, input->dtype, shape, &call->results[0]));
  device_array x = tensor_array(input), out = tensor_array(call->results[0]);
  return tensor_kernels(input)->avg_pool2d_forward(call->engine, &geometry, &x, &out);
}

static moon_status forward_avg_gradient(op_call *call) {
  const moon_tensor *gradient = call->args[AVG_INPUT].tensor;
  pool2d_geometry geometry;
  avg_window(call->args, &geometry);
  int64_t shape[4] = { gradient->shape[0], gradient->shape[1], call->args[AVG_HEIGHT].integer,
                       call->args[AVG_WIDTH].integer };
  // One position has no layout: behind it lies a network's head, before it what convolutions made.
  bool last = tensor_is_channels_last(gradient) || gradient->shape[2] * gradient->shape[3] == 1;
  MOON_TRY((last ? tensor_new_channels_last : tensor_new)(
      call->engine, tensor_device(gradient), gradient->dtype, 4, shape, &call->results[0]));
  device_array g = tensor_array(gradient), dx = tensor_array(call->results[0]);
  return tensor_kernels(gradient)->avg_pool2d_backward(call->engine, &geometry, &g, &dx);
}

// The other operator with the same window on the gradient.
static moon_status backward_avg(op_backward_call *call) {
  const op_value *a = call->args;
  bool pool = call->op->row == 0;
  const int64_t *image = call->inputs[AVG_INPUT].shape;
  op_descriptor *other = ops_get(pool ? OP_avg_pool2d_gradient : OP_avg_pool2d);
  op_value all[] = { op_tensor(call->grads[0]), a[AVG_KERNEL], a[AVG_STRIDE], a[AVG_PADDING],
                     a[AVG_CEIL], a[AVG_COUNT_PAD], a[AVG_DIVISOR],
                     op_int(pool ? image[2] : 0), op_int(pool ? image[3] : 0) };
  return op_run(call->engine, other, &call->out[AVG_INPUT], pool ? AVG_WIDTH + 1 : AVG_HEIGHT,
                all);
}

#define AVG_SCHEMA                                                              \
  "kernel: int[2], stride: int[2]?, padding: int[2] = 0, ceil_mode: bool = false, " \
  "count_include_pad: bool = true, divisor_override: int?"

static op_descriptor descriptors[] = {
  { .name = "max_pool2d", .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, kernel: int[2], stride: int[2]?, padding: int[2] = 0, "
              "dilation: int[2] = 1, ceil_mode: bool = false, return_indices: bool = false) "
              "-> out, indices, [taken]",
    .saves = "taken",
    .doc = "The largest element under each window of input (n, c, h, w). stride is that of the "
           "kernel where left out; padding counts as minus infinity and is at most half the "
           "kernel. The height of the result is (h + 2 * padding - dilation * (kernel h - 1) - 1) "
           "/ stride + 1, rounded down, or up under ceil_mode as long as the last window starts "
           "inside the input or its left padding. The first of equal elements gets the gradient. "
           "With return_indices also where each was found: (row - 1) * w + column, counted from 1, "
           "for max_unpool2d.",
    .example = "moon.tensor{{{{1, 3}, {4, 2}}}}:max_pool2d(2) --> {{{{4}}}}",
    .forward = forward_max_pool2d, .backward = backward_max_pool2d },
  { .name = "avg_pool2d", .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, " AVG_SCHEMA ") -> out",
    .doc = "The mean of the elements under each window of input (n, c, h, w); sizes as those of "
           "max_pool2d. Padding counts as zeros, or not at all where count_include_pad is false; "
           "divisor_override divides every sum instead of the number of elements.",
    .example = "moon.tensor{{{{1, 3}, {4, 2}}}}:avg_pool2d(2) --> {{{{2.5}}}}",
    .forward = forward_avg_pool2d, .backward = backward_avg },
  { .name = "avg_pool2d_gradient", .dtypes = OP_FLOATS, .flags = OP_HIDDEN, .row = 1,
    .schema = "(gradient: Tensor, " AVG_SCHEMA ", height: int = 1, width: int = 1) -> dx",
    .doc = "The gradient of avg_pool2d's input, an image of height and width.",
    .forward = forward_avg_gradient, .backward = backward_avg },
};
OP_FAMILY(pooling, descriptors);
