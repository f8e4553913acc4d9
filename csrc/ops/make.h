// Tensors that a composition needs besides its inputs: filled ones, ranges, and numbers known on
// the host; and the way back, reading a few numbers of a tensor. See compose.h.
#ifndef MOON_OPS_MAKE_H
#define MOON_OPS_MAKE_H

#include "ops/compose.h"

// NULL after a failure, as every step.
moon_tensor *make_filled(compose *c, const moon_tensor *like, moon_dtype dtype, int ndim,
                         const int64_t *shape, double value);
// int64, 1-D: first, first + 1, ...
moon_tensor *make_range(compose *c, const moon_tensor *like, int64_t first, int64_t count);
// int64, or float64, 1-D, from the host's numbers.
moon_tensor *make_integers(compose *c, const moon_tensor *like, int64_t count,
                           const int64_t *values);
moon_tensor *make_numbers(compose *c, const moon_tensor *like, int64_t count,
                          const double *values);

// Copies all elements to the host as double or int64; room for tensor_count(tensor).
MOON_MUST_CHECK moon_status make_read(moon_engine *engine, const moon_tensor *tensor,
                                      double *values);
MOON_MUST_CHECK moon_status make_read_integers(moon_engine *engine, const moon_tensor *tensor,
                                               int64_t *values);

// x with its size along dim put to `count`.
static inline void make_shape(const moon_tensor *x, int dim, int64_t count, int64_t *shape) {
  for (int i = 0; i < x->ndim; i++) shape[i] = i == dim ? count : x->shape[i];
}

#endif
