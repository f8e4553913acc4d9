// Checks that convolution and pooling share. See window.h.
#include "ops/window.h"

#include <inttypes.h>

#include "ops/support.h"

static const int64_t largest = INT32_MAX;

moon_status window_check_pair(const char *name, const int64_t pair[2], int64_t smallest) {
  for (int i = 0; i < 2; i++) {
    if (pair[i] < smallest)
      return moon_fail(MOON_BAD_ARGUMENT, "%s must be at least %" PRId64 ", got %" PRId64, name,
                       smallest, pair[i]);
    if (pair[i] > largest)
      return moon_fail(MOON_BAD_ARGUMENT, "%s must be at most %" PRId64 ", got %" PRId64, name,
                       largest, pair[i]);
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
