// Nodes whose backward belongs to a layer above: functions written in Lua.
//
// Such a node knows its function by a number only, so that nothing in C holds a Lua value. What the
// function saved lies here as it does for an operator: inputs and results as aliases of the node's
// own, checked for writes, with their place on the tape where a graph of the gradient is wanted;
// anything else as plain aliases without history.
#ifndef MOON_AUTOGRAD_CUSTOM_H
#define MOON_AUTOGRAD_CUSTOM_H

#include "autograd/op.h"

enum { CUSTOM_NAME = 48, CUSTOM_RESULTS = 32 };   // at most so many results

// Where a saved tensor is: among the inputs, among the results, or here.
typedef struct custom_saved {
  int input, result;            // -1: not there
  moon_tensor *tensor;
  uint_fast32_t version;
} custom_saved;

typedef struct tape_custom {
  char name[CUSTOM_NAME];
  uint64_t id;                  // the layer above knows what it stands for
  // Fills call->list_out, one an input; an open one calls custom_continue instead.
  moon_status (*backward)(struct tape_custom *custom, op_backward_call *call);
  bool open;
  int more_count;               // during its turn: results of the new run,
  moon_tensor **more;           // and after them as many gradients; owned
  int result_count, saved_count;
  uint32_t constant;            // bit i: no gradient comes from result i
  op_input *results;            // shape and type of each
  custom_saved *saved;
} tape_custom;

// An open node runs in its backward what it ran in its forward, this time on the tape: a part of
// the graph that nobody stored. It gives the walk what came out, and the walk goes on from there,
// so that gradients flow to whatever that run read, inputs or not, in the order they always have.

// A call to be put on the tape after it has run with the tape off.
typedef struct custom_call {
  const char *name;             // copied
  uint64_t id;
  moon_status (*backward)(tape_custom *custom, op_backward_call *call);
  bool open;
  int input_count, result_count, saved_count;
  moon_tensor **inputs;         // borrowed, all three
  moon_tensor **results;        // what the function returned
  moon_tensor **saved;
  const bool *constant;         // by result: no gradient comes from there
} custom_call;

// Gives `taped` owned tensors, one a result: the same elements, on the tape as results of a new
// node unless they are constant or of no float type.
MOON_MUST_CHECK moon_status custom_record(moon_engine *engine, const custom_call *call,
                                          moon_tensor **taped);

// The saved tensors in their order, borrowed for the call of the backward.
void custom_peek_saved(const tape_custom *custom, const op_backward_call *call,
                       moon_tensor **saved);

// Hands the walk results of the new run and the gradients of each; retains them. Those without a
// gradient or a history are left out.
MOON_MUST_CHECK moon_status custom_continue(tape_custom *custom, int count, moon_tensor **results,
                                            moon_tensor **grads);
void custom_end_turn(tape_custom *custom);   // releases them

// For node_release.
void custom_free_saved(tape_custom *custom);
MOON_MUST_CHECK moon_status custom_check_versions(const tape_custom *custom);

#endif
