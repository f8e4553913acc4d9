// Gradients of normalisations by operators: the way taken where the gradient is to be
// differentiated again. The kernels of normalization.c calculate the same faster.
#ifndef MOON_OPS_NORM_GRADIENTS_H
#define MOON_OPS_NORM_GRADIENTS_H

#include "ops/compose.h"

typedef struct norm_batch {
  moon_tensor *g, *x, *weight;     // x where input or weight needs its gradient; weight or NULL
  moon_tensor *mean, *rstd;        // statistics that are constants; NULL in training
  double eps;
  const bool *needs;               // input, weight, bias
  moon_tensor **out;               // the same
} norm_batch;
MOON_MUST_CHECK moon_status norm_batch_gradients(moon_engine *engine, const norm_batch *batch);

MOON_MUST_CHECK moon_status norm_lrn_gradient(moon_engine *engine, const lrn_options *options,
                                              moon_tensor *g, moon_tensor *x, moon_tensor **dx);

#endif
