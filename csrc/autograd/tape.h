// The tape: nodes that remember how a tensor was calculated, and the backward walk.
//
// A node holds what its operator saved (storages, not Lua objects) and edges to the nodes of its
// inputs. Edges point from results to inputs only, so there are no cycles. The walk and the
// release of a tape are iterative: a chain of a million operators needs no deep stack.
//
// Under create_graph the walk itself goes on the tape: what a node saved is handed to its backward
// with its place on the tape, so the gradients can be differentiated again, to any order.
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

// Lets a result of an operator keep its gradient, as leaves do.
MOON_MUST_CHECK moon_status tape_retain_grad(moon_tensor *tensor);

typedef struct tape_options {
  bool retain;         // keep what the tape saved, for another walk
  bool create_graph;   // record the gradients' own calculation
  bool allow_unused;   // tape_grad: an input that is not reached gives NULL instead of an error
  uint64_t since;      // the walk ends at nodes made before engine->next_node was this: one inside
                       // of another walk stays among its own
} tape_options;

// Gradients of `root` (its seed `gradient`, or ones for a single element) into the leaves' .grad,
// added to what is there. Frees what the tape saved as it goes, unless it is to be retained.
MOON_MUST_CHECK moon_status tape_backward(moon_engine *engine, moon_tensor *root,
                                          moon_tensor *gradient, const tape_options *options);

// Gradients of the outputs' weighted sum with respect to the inputs (leaves or results), which are
// given to the caller: owned, one an input. No .grad changes, and only nodes that lead from an
// output to an input are run (and freed). `seeds` has a gradient for each output, NULL for ones at
// a single element.
MOON_MUST_CHECK moon_status tape_grad(moon_engine *engine, int output_count, moon_tensor **outputs,
                                      moon_tensor **seeds, int input_count, moon_tensor **inputs,
                                      const tape_options *options, moon_tensor **grads);

// The operators that gradients are added, summed and cast with where that is to be recorded; set
// once, by the registry, which knows them.
typedef struct tape_arithmetic {
  op_descriptor *add, *sum, *reshape, *cast, *clone;
} tape_arithmetic;
void tape_use_arithmetic(const tape_arithmetic *operators);

#endif
