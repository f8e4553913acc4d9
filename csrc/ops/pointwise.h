// The operators generated from pointwise.def, and what is known of their rows as data.
#ifndef MOON_OPS_POINTWISE_H
#define MOON_OPS_POINTWISE_H

#include "autograd/op.h"

// A row as text, for help, reference, specs, and for derivatives run as operators.
typedef struct pointwise_text {
  const char *name, *formula;
  const char *derivatives[2];   // NULL where there is none; "ZERO" where it is zero everywhere
  double low, high;             // where specs draw their inputs
} pointwise_text;

// Writes schemas and saves of all rows; called once, by the registry.
MOON_MUST_CHECK moon_status pointwise_prepare(void);

// -- operators that activate as they write their result: the choice of their schemas

#define POINTWISE_ACTIVATIONS "\"none\"|\"relu\"|\"relu6\""

// An activation as clamp(value, low, high); infinite where it has no limit.
typedef struct pointwise_limits { double low, high; } pointwise_limits;
pointwise_limits pointwise_limits_of(int activation);

// Replaces the gradient of results[0], for which it stands, by that of the activation's input.
MOON_MUST_CHECK moon_status pointwise_back_through(op_backward_call *call, int activation);

// The row behind an operator; NULL if it does not come from pointwise.def.
const pointwise_text *pointwise_row(const op_descriptor *op);

#endif
