// The text form of a tensor, as people read it.
#ifndef MOON_TENSOR_PRINT_H
#define MOON_TENSOR_PRINT_H

#include "tensor/tensor.h"

// Writes text through `write`. The elements must lie on the host, or are left out; `device` is
// where the tensor is said to be.
// Columns are aligned; a common scale factor stands in front where magnitudes need one; of more
// than 1000 elements only the first and last three along each dimension are shown.
void tensor_print(const moon_tensor *tensor, const char *device,
                  void (*write)(void *context, const char *text), void *context);

#endif
