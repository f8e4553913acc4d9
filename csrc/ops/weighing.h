// Weighted sums over spans of one dimension, or of two neighbours: what resizing and adaptive
// averages are made of. A rule says which neighbouring elements go into a result, and with what
// weights; the table that it fills belongs to the call, and its transpose gives the gradient, so
// derivatives of every order are the same operator again.
#ifndef MOON_OPS_WEIGHING_H
#define MOON_OPS_WEIGHING_H

#include "ops/compose.h"

// The span of result number `at` (from 0): elements span[0] to span[1] - 1 of the dimension, which
// exist, at most `most` of them; weights[k] goes with element span[0] + k.
typedef void (*weigh_rule)(const void *context, int64_t at, int64_t span[2], double *weights);

// `count` such results; count and most are at least 1.
typedef struct weigh_axis {
  int64_t count, most;
  weigh_rule rule;
  const void *context;
} weigh_axis;

// `x` with such sums along `dim`.
moon_tensor *weigh_compose(compose *c, moon_tensor *x, int dim, const weigh_axis *axis);
// The same along dim and dim + 1, in one pass.
moon_tensor *weigh_compose_planes(compose *c, moon_tensor *x, int dim, const weigh_axis axes[2]);

#endif
