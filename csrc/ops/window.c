// Checks that convolution and pooling share. See window.h.
#include "ops/window.h"

#include <inttypes.h>

#include "ops/support.h"

static const int64_t largest = WINDOW_LARGEST;

moon_status window_check(const char *name, int count, const int64_t *numbers, int64_t smallest) {
  for (int i = 0; i < count; i++) {
    if (numbers[i] < smallest)
      return moon_fail(MOON_BAD_ARGUMENT, "%s must be at least %" PRId64 ", got %" PRId64, name,
                       smallest, numbers[i]);
    if (numbers[i] > largest)
      return moon_fail(MOON_BAD_ARGUMENT, "%s must be at most %" PRId64 ", got %" PRId64, name,
                       largest, numbers[i]);
  }
  return MOON_OK;
}

moon_status window_check_pair(const char *name, const int64_t pair[2], int64_t smallest) {
  return window_check(name, 2, pair, smallest);
}

// "same" and "full" as numbers.
static moon_status pads_of_word(int word, int ndim, const int64_t *kernel, const int64_t *stride,
                                const int64_t *dilation, window_pads *pads) {
  for (int i = 0; i < ndim; i++) {
    int64_t reach;   // from the kernel's first element to its last
    if (word == OP_PADS_SAME && stride[i] != 1)
      return moon_fail(MOON_BAD_ARGUMENT, "padding \"same\" needs a stride of 1, got %" PRId64
                       "; give numbers", stride[i]);
    if (word == OP_PADS_VALID || kernel[i] < 1) reach = 0;
    else if (__builtin_mul_overflow(kernel[i] - 1, dilation[i], &reach) || reach > largest)
      return moon_fail(MOON_BAD_ARGUMENT, "a kernel of %" PRId64 " at dilation %" PRId64 " is too "
                       "wide to be padded", kernel[i], dilation[i]);
    pads->before[i] = word == OP_PADS_SAME ? reach / 2 : reach;
    pads->after[i] = reach - (word == OP_PADS_SAME ? reach / 2 : 0);
  }
  return MOON_OK;
}

moon_status window_read_pads(const op_value *padding, int ndim, const int64_t *kernel,
                             const int64_t *stride, const int64_t *dilation, window_pads *pads) {
  int count = padding->ints.count;
  const int64_t *v = padding->ints.v;
  if (padding->ints.word != OP_PADS_NUMBERS)
    return pads_of_word(padding->ints.word, ndim, kernel, stride, dilation, pads);
  if (count != 1 && count != ndim && count != 2 * ndim)
    return moon_fail(MOON_BAD_ARGUMENT, "padding must have 1, %d or %d numbers, got %d", ndim,
                     2 * ndim, count);
  MOON_TRY(window_check("padding", count, v, 0));
  for (int i = 0; i < ndim; i++) {
    pads->before[i] = count == 1 ? v[0] : count == ndim ? v[i] : v[2 * i];
    pads->after[i] = count == 1 ? v[0] : count == ndim ? v[i] : v[2 * i + 1];
  }
  return MOON_OK;
}

moon_status window_check_image(const moon_tensor *input) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim == 3)
    return moon_fail(MOON_BAD_SHAPE, "input must have 4 dimensions (n, c, h, w), got %s; add the "
                     "batch with input:unsqueeze(1)", tensor_shape_text(input, text));
  return ops_need_ndim("input", input, 4, "(n, c, h, w)");
}
