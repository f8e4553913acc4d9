// What losses made of other operators share: the reduction, the agreement of both sides, weights,
// and targets that are labels or signs.
#ifndef MOON_OPS_LOSS_H
#define MOON_OPS_LOSS_H

#include "ops/compose.h"

enum { LOSS_MEAN, LOSS_SUM, LOSS_NONE };   // of LOSS_REDUCTION
#define LOSS_REDUCTION "reduction: \"mean\"|\"sum\"|\"none\" = \"mean\""

// Both of one float type and shape; nothing broadcasts.
MOON_MUST_CHECK moon_status loss_check_pair(const char *a, const moon_tensor *x, const char *b,
                                            const moon_tensor *y);
// A weight (NULL: fine) must be of input's type and broadcast to its shape.
MOON_MUST_CHECK moon_status loss_check_weight(const char *name, const moon_tensor *input,
                                              const moon_tensor *weight);
// Class labels 1..limit of an integer type, one for each row: (n) for input (n, c), 0-d for (c).
MOON_MUST_CHECK moon_status loss_check_labels(moon_engine *engine, const moon_tensor *input,
                                              const moon_tensor *target);
// Signs may be integers: input's type is what is calculated in. Shape must be `ndim`, `shape`.
MOON_MUST_CHECK moon_status loss_check_signs(const moon_tensor *input, const moon_tensor *target,
                                             int ndim, const int64_t *shape);
moon_tensor *loss_signs(compose *c, moon_tensor *target, const moon_tensor *input);

// The smallest (REDUCE_MIN) or largest (REDUCE_MAX) element of `x`, read on the host.
MOON_MUST_CHECK moon_status loss_read_extreme(moon_engine *engine, moon_tensor *x, int kind,
                                              double *value);

// The slope of softplus is 1 to the last bit from here on, in float64 too.
static const double loss_softplus_threshold = 40;

// A bool tensor (n, c), true at the labels; target (n) from 1.
moon_tensor *loss_one_hot(compose *c, moon_tensor *target, int64_t classes);

// max(x, 0)
#define LOSS_HINGE(c, x) COMPOSE(c, relu, op_tensor(x))
moon_tensor *loss_minus(compose *c, moon_tensor *a, moon_tensor *b);
moon_tensor *loss_times(compose *c, moon_tensor *a, moon_tensor *b);
moon_tensor *loss_plus(compose *c, moon_tensor *a, moon_tensor *b);
// number - x
moon_tensor *loss_from(compose *c, double number, moon_tensor *x);
moon_tensor *loss_sum_last(compose *c, moon_tensor *x, int count);

// The losses, reduced, as the result.
MOON_MUST_CHECK moon_status loss_close(compose *c, moon_tensor *losses, int64_t reduction,
                                       moon_tensor **result);

#endif
