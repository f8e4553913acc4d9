// Gradients of the losses against class labels by operators: the way taken where the gradient is to
// be differentiated again. The kernels of classification.c calculate the same faster.
#ifndef MOON_OPS_CLASS_GRADIENTS_H
#define MOON_OPS_CLASS_GRADIENTS_H

#include "ops/compose.h"

typedef struct class_losses {
  const op_input *input;           // (n, c, ...)
  moon_tensor *g;                  // gradient of the result; NULL: none
  moon_tensor *total;              // what the mean divided by; NULL: no mean
  moon_tensor *index;              // labels from 0; below that: ignored
  moon_tensor *weights;            // of each label; or NULL
} class_losses;

MOON_MUST_CHECK moon_status class_nll_gradient(moon_engine *engine, const class_losses *losses,
                                               moon_tensor **dx);

// logp: log_softmax of the input, on the tape; its own gradient arrives in `logp_gradient`, which
// may be NULL. weight: of each class, or NULL.
MOON_MUST_CHECK moon_status class_cross_entropy_gradient(moon_engine *engine,
                                                         const class_losses *losses,
                                                         double smoothing, moon_tensor *weight,
                                                         moon_tensor *logp,
                                                         moon_tensor *logp_gradient,
                                                         moon_tensor **dx);

#endif
