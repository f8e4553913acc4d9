// Windows that move over the last one to three dimensions of (n, c, l), (n, c, h, w) or
// (n, c, d, h, w): their arguments and limits, which are PyTorch's, and how many there are.
#ifndef MOON_OPS_POOL_WINDOW_H
#define MOON_OPS_POOL_WINDOW_H

#include "ops/support.h"

typedef struct pool_window {
  int dims;                                        // 1 to 3
  int64_t kernel[3], stride[3], padding[3], dilation[3];
  bool ceil_mode;
} pool_window;

// The arguments, of type int[dims]; stride may be left out (the kernel's), padding and dilation may
// be NULL (0 and 1).
pool_window pool_window_read(int dims, const op_value *kernel, const op_value *stride,
                             const op_value *padding, const op_value *dilation, bool ceil_mode);

// A float tensor of dims + 2 dimensions; the sentence for one without a batch names unsqueeze.
MOON_MUST_CHECK moon_status pool_check_input(const moon_tensor *input, int dims);

// Checks input and window and gives the shape of the result.
MOON_MUST_CHECK moon_status pool_check(const moon_tensor *input, const pool_window *window,
                                       int64_t *shape);

// An average's divisor, where given, is not 0.
MOON_MUST_CHECK moon_status pool_check_divisor(const op_value *divisor);

// What the sentences call dimension 2 + i: "length", or "depth", "height", "width".
const char *pool_side(int dims, int i);

#endif
