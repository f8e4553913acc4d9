// Arithmetic on gradients while they are on their way: fitting them to an input's shape and type,
// and adding them up. Straight on the device's kernels where nobody wants to differentiate the
// gradient, in place where nobody else sees the memory; with operators, on the tape, where somebody
// does (engine->grad_enabled).
#ifndef MOON_AUTOGRAD_GRADIENT_H
#define MOON_AUTOGRAD_GRADIENT_H

#include "autograd/op.h"

// Sums *grad from a broadcast shape to the input's shape and casts it to its type; on failure *grad
// stays what it was.
MOON_MUST_CHECK moon_status gradient_fit(moon_engine *engine, const op_input *input,
                                     moon_tensor **grad);

// Adds `grad` (taken over, also on failure) to what is in *slot, which may be NULL.
MOON_MUST_CHECK moon_status gradient_gather(moon_engine *engine, moon_tensor **slot,
                                            moon_tensor *grad);

// The same for a gradient that belongs to the user: it shares memory with nothing else, and later
// ones are added into the same tensor (under create_graph, a new one takes its place).
MOON_MUST_CHECK moon_status gradient_gather_shared(moon_engine *engine, moon_tensor **slot,
                                               moon_tensor *grad);

#endif
