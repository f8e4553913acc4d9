// What the optimiser steps share: checks of their tensors and numbers, and the sweep over all
// parameters of a call. Parameters, gradients and states come as lists of one length, a single
// tensor being a list of one; they are moved together by one call of a kernel.
#ifndef MOON_OPS_STEP_H
#define MOON_OPS_STEP_H

#include "ops/support.h"

enum { STEP_PARAMETER, STEP_GRADIENT, STEP_STATE };   // the first arguments of all of them

// Parameters are of a float type; the gradients and the `states` lists after them, where given, are
// as many and of their types and shapes, and no state is its parameter itself.
MOON_MUST_CHECK moon_status step_check_tensors(const op_call *call, int states);
// Every number is finite and not below 0, betas below 1, the step from 1; by the schema's names.
MOON_MUST_CHECK moon_status step_check_numbers(const op_call *call);

// Moves the parameters and their states by a rule of steps.def. What does not lie as its parameter
// does goes through a copy that is written back.
MOON_MUST_CHECK moon_status step_apply(op_call *call, int states, int rule,
                                       const step_options *options);

#endif
