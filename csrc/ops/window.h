// What convolution and pooling ask of their arguments: an image, and pairs of numbers for its
// height and width.
#ifndef MOON_OPS_WINDOW_H
#define MOON_OPS_WINDOW_H

#include "tensor/tensor.h"

// Both of `pair` are at least `smallest`, and small enough that sizes calculated from them cannot
// overflow.
MOON_MUST_CHECK moon_status window_check_pair(const char *name, const int64_t pair[2],
                                              int64_t smallest);

// A float tensor (n, c, h, w); the sentence for (c, h, w) names unsqueeze.
MOON_MUST_CHECK moon_status window_check_image(const moon_tensor *input);

#endif
