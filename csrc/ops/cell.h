// One step of a recurrent network, as formulas of other operators: what the cells and whole
// sequences (recurrent.c) share.
//
// Layouts are PyTorch's: w_ih (gates hidden, in), w_hh (gates hidden, hidden), b_ih, b_hh (gates
// hidden); gates in the order i, f, g, o (LSTM) and r, z, n (GRU).
#ifndef MOON_OPS_CELL_H
#define MOON_OPS_CELL_H

#include "ops/compose.h"

typedef struct cell_weights { moon_tensor *w_ih, *w_hh, *b_ih, *b_hh; } cell_weights;   // borrowed
typedef struct cell_state { moon_tensor *h, *c; } cell_state;   // c: LSTM only

// gates * hidden, without overflow.
MOON_MUST_CHECK moon_status cell_rows(cell_kind kind, int64_t hidden, int64_t *rows);
// A weight must be (rows, columns), a bias, if there is one, (rows).
MOON_MUST_CHECK moon_status cell_check_weight(const char *name, const moon_tensor *weight,
                                              int64_t rows, int64_t columns);
MOON_MUST_CHECK moon_status cell_check_bias(const char *name, const moon_tensor *bias,
                                            int64_t rows);

// weight x + bias, of the input of all steps at once or of one step's state.
moon_tensor *cell_project(compose *k, moon_tensor *x, moon_tensor *weight, moon_tensor *bias);
// The state after a step: x is the input's projection, u the state's, both (n, gates hidden).
cell_state cell_step(compose *k, cell_kind kind, moon_tensor *x, moon_tensor *u,
                     const cell_state *before);
// Releases an owned state's tensors.
void cell_release(cell_state *state);

#endif
