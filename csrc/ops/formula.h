// Derivatives of every order for an operator whose forward and backward are kernels: where its
// gradient is to be differentiated itself, the formula that the kernels stand for replaces them.
#ifndef MOON_OPS_FORMULA_H
#define MOON_OPS_FORMULA_H

#include "ops/compose.h"

// A backward with a graph (engine->grad_enabled): runs `formula`, the operator as a composition
// of others, on the tape and differentiates that. .saves must name every tensor argument, for all
// gradients; of the results the formula makes at least those that users see.
MOON_MUST_CHECK moon_status formula_backward(op_backward_call *call,
                                             moon_status (*formula)(op_call *call));

#endif
