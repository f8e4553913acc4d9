// Inside of the tape: records (what a tensor knows) and nodes (what an operator call left behind).
//
// A record belongs to one tensor; the edges of a leaf's consumers hold it too, because that is
// where the leaf's gradient gathers. A node is held by the records of its results and by the edges
// of later nodes. Nothing points from inputs to results, so counting references is enough.
#ifndef MOON_AUTOGRAD_NODE_H
#define MOON_AUTOGRAD_NODE_H

#include "autograd/op.h"

// Something to be called with a gradient that is complete, before it goes on: the gradient of one
// of a node's results, or of a leaf. Owned by the list it is in, and called in order of adding.
typedef struct tape_hook {
  struct tape_hook *next;
  int result;                  // which of the node's results; 0 at a leaf
  // May replace *grad (release the old one, put an owned one of the same shape and dtype).
  moon_status (*call)(struct tape_hook *hook, moon_engine *engine, moon_tensor **grad);
  void (*release)(struct tape_hook *hook);
} tape_hook;

// Where the gradient of a result is kept that asked for it (tape_retain_grad). Held by the tensor's
// record and by the node's hook, so that neither needs to hold the other.
typedef struct tape_slot {
  atomic_int references;
  moon_tensor *grad;
} tape_slot;

typedef struct tape_record {
  moon_meta base;              // first: a tensor's meta is its record
  atomic_int references;
  bool requires_grad;
  struct tape_node *node;      // who made the tensor; NULL: a leaf
  int result;                  // which of the node's results it is
  moon_tensor *grad;           // leaves only
  tape_slot *slot;             // results that keep their gradient; NULL for most
  tape_hook *hooks;            // leaves only
} tape_record;

typedef struct tape_edge {     // where a gradient goes; both NULL: nowhere
  struct tape_node *node;
  int result;
  tape_record *leaf;
} tape_edge;

// Inputs are numbered parameters first, then the members of the Tensor[] parameter.
typedef struct tape_node {
  atomic_int references;
  size_t bytes;                // of this and the arrays behind it
  uint64_t engine_id;
  uint64_t sequence;           // later calls have larger numbers: the order of the walk
  op_descriptor *op;
  int input_count, list_count, result_count;
  bool freed;                  // backward has taken what was saved
  op_value *args;              // one a parameter; tensors are saved aliases or NULL
  op_input *inputs;
  tape_edge *edges;
  uint_fast32_t *versions;     // of the saved inputs
  moon_tensor **list;          // saved members of the Tensor[] parameter
  moon_tensor **results;       // saved aliases or NULL
  uint_fast32_t *result_versions;
  char *where;                 // owned: where the call was, in anomaly mode
  uint64_t module;             // whose call it was, while a profile was taken; 0: unknown
  struct tape_custom *custom;  // a function of the layer above (custom.h); NULL: an operator
  tape_hook *hooks;                       // on gradients of its results
  moon_tensor **grads;                    // during a walk: what has arrived so far
  const void *walk;                       // during a walk: which one
  bool needed;                            // during a walk: it leads to a wanted gradient
  unsigned wanted;                        // during a walk: bit i, the gradient of result i is
  struct tape_node *next;                 // during a release
} tape_node;

static inline tape_record *record_of(const moon_tensor *tensor) {
  return (tape_record *)tensor->meta;
}

static inline bool record_wants_grad(const moon_tensor *tensor) {
  return tensor->meta && record_of(tensor)->requires_grad;
}

// The tensor's record, made if there is none.
MOON_MUST_CHECK moon_status record_ensure(moon_tensor *tensor, tape_record **record);
void record_release(tape_record *record);

// Builds a node for a call that has run: edges from its inputs, saved tensors. Owned, until
// node_made gives it to its results.
MOON_MUST_CHECK moon_status node_new(const op_call *call, const bool *needs, const bool *list_needs,
                                     int list_count, tape_node **node);
// The same in steps, for nodes that no operator left: an empty one, described inputs, edges (of
// inputs that require a gradient only).
MOON_MUST_CHECK moon_status node_allocate(moon_engine *engine, op_descriptor *op, int list_count,
                                          int result_count, tape_node **node);
void node_describe(op_input *input, const moon_tensor *tensor);
void node_connect(tape_node *node, int input, moon_tensor *tensor);
const char *node_name(const tape_node *node);   // of the operator or function
void node_release(tape_node *node);      // iterative over everything it held alone
void node_free_saved(tape_node *node);
// Ends the maker's ownership, which its results have from then on; without any the node goes. Until
// then nobody else can reach the node, so that neither this nor node_attach counts atomically.
void node_made(tape_node *node);

// Appends to a list, which owns the hook from now on.
void hook_add(tape_hook **list, tape_hook *hook);
// Calls the hooks of one result with its gradient.
MOON_MUST_CHECK moon_status hook_call_all(tape_hook *list, moon_engine *engine, int result,
                                       moon_tensor **grad);

// Asks the node's operator for the gradients of its inputs (owned, in `out`; NULL is zero) from
// those of its results, recorded where engine->grad_enabled; fails where what it saved changed.
// `retained`: what the node saved will be used again.
MOON_MUST_CHECK moon_status node_backward(moon_engine *engine, tape_node *node, bool retained,
                                          const bool *needs, moon_tensor **out);

// Makes `tensor` the result number `result` of a node in the making.
MOON_MUST_CHECK moon_status node_attach(tape_node *node, int result, moon_tensor *tensor);

#endif
