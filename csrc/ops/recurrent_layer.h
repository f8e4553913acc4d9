// One layer of a recurrent network, in one or two directions: what networks (recurrent.c) are made
// of. A device's library may do it in one go (recurrent_layer.c); else, and where a gradient is to
// be differentiated itself, it is a composition of cells (recurrent_composed.c).
#ifndef MOON_OPS_RECURRENT_LAYER_H
#define MOON_OPS_RECURRENT_LAYER_H

#include "ops/cell.h"

// Arguments of a layer, in the order of the hidden operator's schema, and its results:
//   input (steps, n, in); weights of each direction, w_ih, w_hh and, with biases, b_ih, b_hh;
//   h0, c0 (directions, n, hidden) or nothing for zeros; last (n) int64, from 0: the last step of
//   each sequence, or nothing where all have every step; kind, a cell_kind
//   -> out (steps, n, directions hidden), 0 behind a sequence's end; h, c as h0, c for LSTM alone
enum { LAYER_INPUT, LAYER_WEIGHTS, LAYER_H0, LAYER_C0, LAYER_LAST, LAYER_KIND, LAYER_DIRECTIONS,
       LAYER_ARGUMENTS };
enum { LAYER_OUT, LAYER_H, LAYER_C, LAYER_RESERVE };

// The weights of one direction; biases are NULL where there are none.
cell_weights recurrent_weights(const op_value *args, int direction);

// The layer as a composition, into call->results; `last` may lie on the host.
MOON_MUST_CHECK moon_status recurrent_composed(op_call *call);

// The layer by whatever is best on the input's device: OP_MAX_RESULTS results, owned. The copy of
// `last` on the host that a library wants is kept in *last_on_host, for the next layer, the
// caller's to release.
MOON_MUST_CHECK moon_status recurrent_layer(moon_engine *engine, op_value *args,
                                            moon_tensor **last_on_host, moon_tensor **results);

#endif
