// The tape: nodes that remember how a tensor was calculated, and the backward walk.
//
// A node holds what its operator saved (storages, not Lua objects) and edges to the nodes of its
// inputs. Edges point from results to inputs only, so there are no cycles. The walk and the
// release of a tape are iterative: a chain of a million operators needs no deep stack.
#ifndef MOON_AUTOGRAD_TAPE_H
#define MOON_AUTOGRAD_TAPE_H

#include "autograd/op.h"

bool tape_requires_grad(const moon_tensor *tensor);
bool tape_is_leaf(const moon_tensor *tensor);
// Turns a leaf's flag on or off; floats only.
MOON_MUST_CHECK moon_status tape_set_requires_grad(moon_engine *engine, moon_tensor *tensor,
                                                   bool on);

// The accumulated gradient of a leaf: borrowed, NULL if there is none yet.
moon_tensor *tape_peek_grad(const moon_tensor *tensor);
// Replaces it (NULL drops it); checks shape and dtype.
MOON_MUST_CHECK moon_status tape_set_grad(moon_tensor *tensor, moon_tensor *grad);

// Name of the operator that made it, NULL for a leaf.
const char *tape_operator_name(const moon_tensor *tensor);

// Gradients of `root` (its seed `gradient`, or ones for a single element) into the leaves' .grad,
// added to what is there. Frees what the tape saved as it goes, unless `retain`.
MOON_MUST_CHECK moon_status tape_backward(moon_engine *engine, moon_tensor *root,
                                          moon_tensor *gradient, bool retain);

#endif
