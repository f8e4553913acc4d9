// Tensors (n, c, d1, ...) seen as (n, c, inner), which is what the kernels of normalisation and
// classification take: every element behind the channel counts alike.
#ifndef MOON_OPS_CHANNELS_H
#define MOON_OPS_CHANNELS_H

#include "tensor/tensor.h"

// n, c and the product of the rest (1 where there is none). At least 2 dimensions.
void channels_shape(int ndim, const int64_t *shape, int64_t seen[3]);

// A tensor without gaps, contiguous or channels last, as (n, c, inner).
device_array channels_of(const moon_tensor *tensor);

// Any tensor: seen as it lies where the strides permit, otherwise through a copy that `copy` holds.
// Release `copy` (NULL where none was needed) when the array is no longer used.
MOON_MUST_CHECK moon_status channels_open(moon_engine *engine, moon_tensor *tensor,
                                          device_array *array, moon_tensor **copy);

// A vector of c elements as (1, c, 1), to reduce into or to broadcast from.
device_array channels_vector(const moon_tensor *vector);

#endif
