// What convolution and pooling ask of their arguments: an image, and pairs of numbers for its
// height and width.
#ifndef MOON_OPS_WINDOW_H
#define MOON_OPS_WINDOW_H

#include "autograd/op.h"

enum { WINDOW_LARGEST = INT32_MAX };   // sizes up to here cannot overflow what is made of them

// Both of `pair` are at least `smallest`, and small enough that sizes calculated from them cannot
// overflow.
MOON_MUST_CHECK moon_status window_check_pair(const char *name, const int64_t pair[2],
                                              int64_t smallest);
// As window_check_pair for `count` numbers.
MOON_MUST_CHECK moon_status window_check(const char *name, int count, const int64_t *numbers,
                                         int64_t smallest);

// Reads a parameter of type pads[ndim]: zeros before and after each dimension, none negative, small
// enough as above. "same" keeps the size, with what is odd at the end, and wants a stride of 1;
// "full" lets the kernel reach as far out as it touches the input at all.
typedef struct window_pads {
  int64_t before[MOON_MAX_DIMS], after[MOON_MAX_DIMS];
} window_pads;
MOON_MUST_CHECK moon_status window_read_pads(const op_value *padding, int ndim,
                                             const int64_t *kernel, const int64_t *stride,
                                             const int64_t *dilation, window_pads *pads);

// A float tensor (n, c, h, w); the sentence for (c, h, w) names unsqueeze.
MOON_MUST_CHECK moon_status window_check_image(const moon_tensor *input);

#endif
