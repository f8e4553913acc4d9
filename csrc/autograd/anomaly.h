// Anomaly mode: finds the operator that made the first NaN or infinity.
//
// While OBSERVE_FINITE is on, each node remembers where its call stands in the user's program, and
// what a call or a backward gives is looked through. A call that only passes on an infinity it was
// given, such as a mask of -inf, is not to blame for it; a NaN is always told.
// OBSERVE_RESULTS says that the next call is the user's own: what that call is made of is not
// looked through by itself.
#ifndef MOON_AUTOGRAD_ANOMALY_H
#define MOON_AUTOGRAD_ANOMALY_H

#include "autograd/node.h"

// Fails with a sentence where a result of the call is not finite and its arguments are.
MOON_MUST_CHECK moon_status anomaly_check_call(const op_call *call);
// The same for the gradients that a node's backward gave, one an input.
MOON_MUST_CHECK moon_status anomaly_check_backward(moon_engine *engine, const tape_node *node,
                                                   moon_tensor **out);
// And for one that something else gave.
MOON_MUST_CHECK moon_status anomaly_check_gradient(moon_engine *engine, const moon_tensor *gradient,
                                                   const char *giver);
// Where the running call stands: owned text, or NULL where nobody knows.
MOON_MUST_CHECK moon_status anomaly_where(moon_engine *engine, char **where);

#endif
