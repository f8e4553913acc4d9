// Windows that move over an image. See pool_window.h.
#include "ops/pool_window.h"

#include <inttypes.h>

#include "ops/window.h"

static void read_sides(const op_value *value, int dims, int64_t *sides) {
  for (int i = 0; i < dims; i++) sides[i] = value->ints.v[i];
}

pool_window pool_window_read(int dims, const op_value *kernel, const op_value *stride,
                             const op_value *padding, const op_value *dilation, bool ceil_mode) {
  pool_window w = { .dims = dims, .dilation = { 1, 1, 1 }, .ceil_mode = ceil_mode };
  read_sides(kernel, dims, w.kernel);
  read_sides(stride->given ? stride : kernel, dims, w.stride);
  if (padding) read_sides(padding, dims, w.padding);
  if (dilation) read_sides(dilation, dims, w.dilation);
  return w;
}

const char *pool_side(int dims, int i) {
  static const char *const sides[] = { "depth", "height", "width" };
  return dims == 1 ? "length" : sides[3 - dims + i];
}

moon_status pool_check_input(const moon_tensor *input, int dims) {
  static const char *const layouts[] = { "(n, c, l)", "(n, c, h, w)", "(n, c, d, h, w)" };
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim == dims + 1)
    return moon_fail(MOON_BAD_SHAPE, "input must have %d dimensions %s, got %s; add the batch with "
                     "input:unsqueeze(1)", dims + 2, layouts[dims - 1],
                     tensor_shape_text(input, text));
  return ops_need_ndim("input", input, dims + 2, layouts[dims - 1]);
}

static moon_status check_arguments(const pool_window *w) {
  MOON_TRY(window_check("kernel", w->dims, w->kernel, 1));
  MOON_TRY(window_check("stride", w->dims, w->stride, 1));
  MOON_TRY(window_check("padding", w->dims, w->padding, 0));
  MOON_TRY(window_check("dilation", w->dims, w->dilation, 1));
  for (int i = 0; i < w->dims; i++)
    if (w->padding[i] > w->kernel[i] / 2)
      return moon_fail(MOON_BAD_ARGUMENT, "padding must be at most half the kernel, got padding %"
                       PRId64 " for kernel %" PRId64, w->padding[i], w->kernel[i]);
  return MOON_OK;
}

// The number of windows along dimension 2 + i. Under ceil_mode a last window may hang over the end,
// but it must start inside the input or its left padding.
static moon_status count_windows(const moon_tensor *input, const pool_window *w, int i,
                                 int64_t *count) {
  char text[TENSOR_SHAPE_TEXT];
  int64_t size = input->shape[2 + i], padding = w->padding[i], stride = w->stride[i];
  int64_t room = size + 2 * padding - w->dilation[i] * (w->kernel[i] - 1) - 1;
  const char *side = pool_side(w->dims, i);
  if (room < 0)
    return moon_fail(MOON_BAD_SHAPE, "the kernel's %s %" PRId64 " (dilation %" PRId64 ") is larger "
                     "than the padded input's %" PRId64 " (input %s, padding %" PRId64 ")", side,
                     w->kernel[i], w->dilation[i], size + 2 * padding,
                     tensor_shape_text(input, text), padding);
  if (size == 0 || (padding > 0 && size < w->dilation[i]))
    return moon_fail(MOON_BAD_SHAPE, "a window would see nothing but padding in the input's %s %"
                     PRId64 " (input %s, dilation %" PRId64 ")", side, size,
                     tensor_shape_text(input, text), w->dilation[i]);
  int64_t windows = (room + (w->ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (w->ceil_mode && (windows - 1) * stride >= size + padding) windows--;
  *count = windows;
  return MOON_OK;
}

moon_status pool_check_divisor(const op_value *divisor) {
  if (!divisor->given || divisor->integer != 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "divisor_override must not be 0");
}

moon_status pool_check(const moon_tensor *input, const pool_window *window, int64_t *shape) {
  MOON_TRY(pool_check_input(input, window->dims));
  MOON_TRY(check_arguments(window));
  shape[0] = input->shape[0];
  shape[1] = input->shape[1];
  for (int i = 0; i < window->dims; i++)
    MOON_TRY(count_windows(input, window, i, &shape[2 + i]));
  return MOON_OK;
}
