// What the optimiser steps share: checks of their tensors and numbers, and the way in which a
// parameter and its state are opened, moved by a kernel and written back.
#ifndef MOON_OPS_STEP_H
#define MOON_OPS_STEP_H

#include "ops/support.h"

enum { STEP_PARAMETER, STEP_GRADIENT, STEP_STATE };   // the first arguments of all of them
enum { STEP_WRITTEN = 1 + STEP_STATES };              // the parameter and its state

// The parameter is of a float type; the gradient and the `states` tensors after it, where given,
// are of its type and shape and not the parameter itself.
MOON_MUST_CHECK moon_status step_check_tensors(const op_call *call, int states);
// Every number is finite and not below 0, betas below 1, the step from 1; by the schema's names.
MOON_MUST_CHECK moon_status step_check_numbers(const op_call *call);

// Runs a kernel on contiguous arrays of the gradient, the parameter (arrays[0]) and its state
// (arrays[1] ..., NULL where absent): the tensors as they lie, or copies that are written back.
typedef moon_status (*step_run)(moon_engine *engine, const void *options,
                                const device_kernels *kernels, const device_array *gradient,
                                const device_array *const *arrays);
MOON_MUST_CHECK moon_status step_apply(op_call *call, int states, const void *options,
                                       step_run run);

#endif
