// Gradients of normalisations by operators: the way taken where the gradient is to be
// differentiated again. The kernels of normalization.c calculate the same faster.
#ifndef MOON_OPS_NORM_GRADIENTS_H
#define MOON_OPS_NORM_GRADIENTS_H

#include "ops/compose.h"

enum { NORM_BATCH_GRADIENTS = 4 };   // of input, weight, bias, add

typedef struct norm_batch {
  moon_tensor *g, *x, *weight, *bias;   // weight, bias: or NULL
  moon_tensor *mean, *rstd;             // statistics that are constants; NULL in training
  double eps;
  int activation;                       // BATCH_NORM_PLAIN, ...
  moon_tensor *shown;                   // the result, NULL where it follows from the others
  bool needs[NORM_BATCH_GRADIENTS];
} norm_batch;
MOON_MUST_CHECK moon_status norm_batch_gradients(moon_engine *engine, const norm_batch *batch,
                                                 moon_tensor *out[NORM_BATCH_GRADIENTS]);

MOON_MUST_CHECK moon_status norm_lrn_gradient(moon_engine *engine, const lrn_options *options,
                                              moon_tensor *g, moon_tensor *x, moon_tensor **dx);

#endif
