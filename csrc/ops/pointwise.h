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

// Replaces the gradient of results[0], for which it stands, by that of the activation's input, for
// operators that apply the activation of that name as they write their result. The activation is
// one without attributes whose derivative reads its result alone.
MOON_MUST_CHECK moon_status pointwise_back_through(op_backward_call *call, const char *activation);

// The row behind an operator; NULL if it does not come from pointwise.def.
const pointwise_text *pointwise_row(const op_descriptor *op);

#endif
