// Pooling in two dimensions: the largest or the mean of the elements under a window that moves over
// each channel. Windows, sizes and their limits are PyTorch's; the kernels take shapes that were
// checked here.
#include <inttypes.h>

#include "ops/support.h"
#include "ops/window.h"

static moon_status check_window(const pool2d_geometry *g) {
  MOON_TRY(window_check_pair("kernel", g->kernel, 1));
  MOON_TRY(window_check_pair("stride", g->stride, 1));
  MOON_TRY(window_check_pair("padding", g->padding, 0));
  MOON_TRY(window_check_pair("dilation", g->dilation, 1));
  for (int i = 0; i < 2; i++)
    if (g->padding[i] > g->kernel[i] / 2)
      return moon_fail(MOON_BAD_ARGUMENT, "padding must be at most half the kernel, got padding %"
                       PRId64 " for kernel %" PRId64, g->padding[i], g->kernel[i]);
  return MOON_OK;
}

// The number of windows along dimension 2 + i. Under ceil_mode a last window may hang over the end,
// but it must start inside the input or its left padding.
static moon_status window_count(const moon_tensor *input, const pool2d_geometry *g, bool ceil_mode,
                                int i, int64_t *count) {
  char text[TENSOR_SHAPE_TEXT];
  int64_t size = input->shape[2 + i], padding = g->padding[i], stride = g->stride[i];
  int64_t room = size + 2 * padding - g->dilation[i] * (g->kernel[i] - 1) - 1;
  const char *side = i == 0 ? "height" : "width";
  if (room < 0)
    return moon_fail(MOON_BAD_SHAPE, "the kernel's %s %" PRId64 " (dilation %" PRId64 ") is larger "
                     "than the padded input's %" PRId64 " (input %s, padding %" PRId64 ")", side,
                     g->kernel[i], g->dilation[i], size + 2 * padding,
                     tensor_shape_text(input, text), padding);
  if (size == 0 || (padding > 0 && size < g->dilation[i]))
    return moon_fail(MOON_BAD_SHAPE, "a window would see nothing but padding in the input's %s %"
                     PRId64 " (input %s, dilation %" PRId64 ")", side, size,
                     tensor_shape_text(input, text), g->dilation[i]);
  int64_t windows = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (windows - 1) * stride >= size + padding) windows--;
  *count = windows;
  return MOON_OK;
}

static moon_status output_shape(const moon_tensor *input, const pool2d_geometry *g, bool ceil_mode,
                                int64_t shape[4]) {
  shape[0] = input->shape[0];
  shape[1] = input->shape[1];
  MOON_TRY(window_count(input, g, ceil_mode, 0, &shape[2]));
  return window_count(input, g, ceil_mode, 1, &shape[3]);
}

static void read_pair(const op_value *value, int64_t pair[2]) {
  for (int i = 0; i < 2; i++) pair[i] = value->ints.v[i];
}

static moon_status new_input_gradient(op_backward_call *call, moon_tensor **dx) {
  const moon_tensor *g = call->grads[0];
  return ops_new(call->engine, g, g->dtype, 4, call->inputs[0].shape, dx);
}

// -- max_pool2d

enum { MAX_INPUT, MAX_KERNEL, MAX_STRIDE, MAX_PADDING, MAX_DILATION, MAX_CEIL };

static pool2d_geometry max_geometry(const op_value *args) {
  pool2d_geometry g = { .count_include_pad = false };
  read_pair(&args[MAX_KERNEL], g.kernel);
  read_pair(&args[args[MAX_STRIDE].given ? MAX_STRIDE : MAX_KERNEL], g.stride);
  read_pair(&args[MAX_PADDING], g.padding);
  read_pair(&args[MAX_DILATION], g.dilation);
  return g;
}

static moon_status forward_max_pool2d(op_call *call) {
  moon_tensor *input = call->args[MAX_INPUT].tensor;
  pool2d_geometry geometry = max_geometry(call->args);
  int64_t shape[4];
  MOON_TRY(window_check_image(input));
  MOON_TRY(check_window(&geometry));
  MOON_TRY(output_shape(input, &geometry, call->args[MAX_CEIL].boolean, shape));
  MOON_TRY(ops_new(call->engine, input, input->dtype, 4, shape, &call->results[0]));
  MOON_TRY(ops_new(call->engine, input, MOON_I64, 4, shape, &call->results[1]));
  device_array x = tensor_array(input), out = tensor_array(call->results[0]);
  device_array indices = tensor_array(call->results[1]);
  return tensor_kernels(input)->max_pool2d_forward(call->engine, &geometry, &x, &out, &indices);
}

static moon_status backward_max_pool2d(op_backward_call *call) {
  pool2d_geometry geometry = max_geometry(call->args);
  MOON_TRY(new_input_gradient(call, &call->out[MAX_INPUT]));
  device_array g = tensor_array(call->grads[0]), indices = tensor_array(call->results[1]);
  device_array dx = tensor_array(call->out[MAX_INPUT]);
  return tensor_kernels(call->grads[0])->max_pool2d_backward(call->engine, &geometry, &g, &indices,
                                                             &dx);
}

// -- avg_pool2d

enum { AVG_INPUT, AVG_KERNEL, AVG_STRIDE, AVG_PADDING, AVG_CEIL, AVG_COUNT_PAD };

static pool2d_geometry avg_geometry(const op_value *args) {
  pool2d_geometry g = { .dilation = { 1, 1 }, .count_include_pad = args[AVG_COUNT_PAD].boolean };
  read_pair(&args[AVG_KERNEL], g.kernel);
  read_pair(&args[args[AVG_STRIDE].given ? AVG_STRIDE : AVG_KERNEL], g.stride);
  read_pair(&args[AVG_PADDING], g.padding);
  return g;
}

static moon_status average(moon_engine *engine, const pool2d_geometry *geometry,
                           const moon_tensor *input, const int64_t shape[4], moon_tensor **result) {
  MOON_TRY(ops_new(engine, input, input->dtype, 4, shape, result));
  device_array x = tensor_array(input), out = tensor_array(*result);
  return tensor_kernels(input)->avg_pool2d_forward(engine, geometry, &x, &out);
}

static moon_status average_gradient(op_backward_call *call, const pool2d_geometry *geometry) {
  MOON_TRY(new_input_gradient(call, &call->out[0]));
  device_array g = tensor_array(call->grads[0]), dx = tensor_array(call->out[0]);
  return tensor_kernels(call->grads[0])->avg_pool2d_backward(call->engine, geometry, &g, &dx);
}

static moon_status forward_avg_pool2d(op_call *call) {
  moon_tensor *input = call->args[AVG_INPUT].tensor;
  pool2d_geometry geometry = avg_geometry(call->args);
  int64_t shape[4];
  MOON_TRY(window_check_image(input));
  MOON_TRY(check_window(&geometry));
  MOON_TRY(output_shape(input, &geometry, call->args[AVG_CEIL].boolean, shape));
  return average(call->engine, &geometry, input, shape, &call->results[0]);
}

static moon_status backward_avg_pool2d(op_backward_call *call) {
  pool2d_geometry geometry = avg_geometry(call->args);
  return average_gradient(call, &geometry);
}

// -- adaptive_avg_pool2d: where the sizes divide it is a plain average; else the windows differ in
//    size, and each of the few there are is a reduction of its own.

enum { ADAPTIVE_INPUT, ADAPTIVE_SIZE };

// Window i of `count` over `size` elements: from floor(i * size / count) to
// ceil((i + 1) * size / count).
typedef struct span { int64_t start, length; } span;

static span adaptive_span(int64_t i, int64_t size, int64_t count) {
  int64_t whole = size / count, rest = size % count;   // taken apart: i * size may overflow
  int64_t start = i * whole + i * rest / count;
  int64_t end = (i + 1) * whole + ((i + 1) * rest + count - 1) / count;
  return (span){ start, end - start };
}

static bool divides(const int64_t *shape, const op_value *size, pool2d_geometry *geometry) {
  *geometry = (pool2d_geometry){ .dilation = { 1, 1 } };
  for (int i = 0; i < 2; i++) {
    int64_t count = size->ints.v[i];
    if (shape[2 + i] == 0 || shape[2 + i] % count != 0) return false;
    geometry->kernel[i] = geometry->stride[i] = shape[2 + i] / count;
  }
  return true;
}

static void cut(device_array *array, int dim, span part) {
  array->data = (char *)array->data +
                part.start * array->strides[dim] * (int64_t)dtype_size(array->dtype);
  array->shape[dim] = part.length;
}

// Shows what window (i, j) reads of `x` (n, c, h, w) and writes of `out` (n, c, 1, 1).
static void adaptive_window(int64_t i, int64_t j, device_array *x, device_array *out) {
  span row = adaptive_span(i, x->shape[2], out->shape[2]);
  span column = adaptive_span(j, x->shape[3], out->shape[3]);
  cut(x, 2, row);
  cut(x, 3, column);
  cut(out, 2, (span){ i, 1 });
  cut(out, 3, (span){ j, 1 });
}

static moon_status check_adaptive(const moon_tensor *input, const op_value *size) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(window_check_image(input));
  MOON_TRY(window_check_pair("size", size->ints.v, 1));
  if (input->shape[2] > 0 && input->shape[3] > 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input must have a height and a width, got %s",
                   tensor_shape_text(input, text));
}

static moon_status forward_adaptive(op_call *call) {
  moon_tensor *input = call->args[ADAPTIVE_INPUT].tensor;
  const op_value *size = &call->args[ADAPTIVE_SIZE];
  pool2d_geometry geometry;
  MOON_TRY(check_adaptive(input, size));
  int64_t shape[4] = { input->shape[0], input->shape[1], size->ints.v[0], size->ints.v[1] };
  if (divides(input->shape, size, &geometry))
    return average(call->engine, &geometry, input, shape, &call->results[0]);
  MOON_TRY(ops_new(call->engine, input, input->dtype, 4, shape, &call->results[0]));
  for (int64_t i = 0; i < shape[2]; i++)
    for (int64_t j = 0; j < shape[3]; j++) {
      device_array x = tensor_array(input), out = tensor_array(call->results[0]);
      adaptive_window(i, j, &x, &out);
      MOON_TRY(tensor_kernels(input)->reduce(call->engine, REDUCE_MEAN, &x, &out));
    }
  return MOON_OK;
}

// Adds g / (elements of the window) to the part of dx that window (i, j) read.
static moon_status spread(op_backward_call *call, int64_t i, int64_t j) {
  moon_tensor *gradient = call->grads[0], *scale, *share;
  device_array dx = tensor_array(call->out[0]), g = tensor_array(gradient), out;
  const device_kernels *kernels = tensor_kernels(gradient);
  int64_t column[4] = { g.shape[0], g.shape[1], 1, 1 };
  adaptive_window(i, j, &dx, &g);
  double one_share = 1.0 / (double)(dx.shape[2] * dx.shape[3]);
  MOON_TRY(ops_new_filled(call->engine, gradient, g.dtype, 0, NULL, one_share, &scale));
  moon_status status = ops_new(call->engine, gradient, g.dtype, 4, column, &share);
  if (status != MOON_OK) {
    tensor_release(scale);
    return status;
  }
  device_array factor = array_broadcast(scale, 4, column);
  out = tensor_array(share);
  status = kernels->binary(call->engine, BINARY_mul, (double[2]){ 0, 0 }, &g, &factor, &out);
  if (status == MOON_OK) {
    device_array spreading = array_broadcast(share, 4, dx.shape);
    status = kernels->binary(call->engine, BINARY_add, (double[2]){ 0, 0 }, &dx, &spreading, &dx);
  }
  tensor_release(share);
  tensor_release(scale);
  return status;
}

static moon_status backward_adaptive(op_backward_call *call) {
  const moon_tensor *g = call->grads[0];
  const op_input *input = &call->inputs[ADAPTIVE_INPUT];
  pool2d_geometry geometry;
  if (divides(input->shape, &call->args[ADAPTIVE_SIZE], &geometry))
    return average_gradient(call, &geometry);
  MOON_TRY(ops_new_filled(call->engine, g, g->dtype, 4, input->shape, 0, &call->out[0]));
  for (int64_t i = 0; i < g->shape[2]; i++)
    for (int64_t j = 0; j < g->shape[3]; j++) MOON_TRY(spread(call, i, j));
  return MOON_OK;
}

static op_descriptor descriptors[] = {
  { .name = "max_pool2d", .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, kernel: int[2], stride: int[2]?, padding: int[2] = 0, "
              "dilation: int[2] = 1, ceil_mode: bool = false) -> out, [indices]",
    .saves = "indices",
    .doc = "The largest element under each window of input (n, c, h, w). stride is that of the "
           "kernel where left out; padding counts as minus infinity and is at most half the "
           "kernel. The height of the result is (h + 2 * padding - dilation * (kernel h - 1) - 1) "
           "/ stride + 1, rounded down, or up under ceil_mode as long as the last window starts "
           "inside the input or its left padding. The first of equal elements gets the gradient.",
    .forward = forward_max_pool2d, .backward = backward_max_pool2d },
  { .name = "avg_pool2d", .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, kernel: int[2], stride: int[2]?, padding: int[2] = 0, "
              "ceil_mode: bool = false, count_include_pad: bool = true) -> out",
    .doc = "The mean of the elements under each window of input (n, c, h, w); sizes as those of "
           "max_pool2d. Padding counts as zeros, or not at all where count_include_pad is false.",
    .forward = forward_avg_pool2d, .backward = backward_avg_pool2d },
  { .name = "adaptive_avg_pool2d", .dtypes = OP_FLOATS, .schema = "(input: Tensor, size: int[2]) -> out",
    .doc = "Means over as many windows as size says, whatever the height and width of input "
           "(n, c, h, w): window i goes from floor(i * h / size) to ceil((i + 1) * h / size), "
           "counted from 0.",
    .forward = forward_adaptive, .backward = backward_adaptive },
};
OP_FAMILY(pooling, descriptors);
