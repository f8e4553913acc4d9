// Mixed precision: while an engine has an autocast, operators take their float32 and low-precision
// arguments in the type that suits them, by casts that the tape records (Micikevicius et al.,
// "Mixed precision training", 2018). Products and convolutions take the low type, losses and
// softmax float32; the others follow their first tensor of a float type, so that nothing is mixed.
#ifndef MOON_AUTOGRAD_AUTOCAST_H
#define MOON_AUTOGRAD_AUTOCAST_H

#include "autograd/op.h"

typedef struct op_autocast {
  op_descriptor *cast;             // (input, dtype) -> out
  moon_dtype dtype;                // the low type
} op_autocast;

// The arguments of a call as they are to be taken. Close also after a failure.
typedef struct autocast_call {
  op_value args[OP_MAX_PARAMS];
  moon_tensor *held[OP_MAX_PARAMS];
  moon_tensor **list;
  int list_count;
} autocast_call;

MOON_MUST_CHECK moon_status autocast_open(moon_engine *engine, const op_descriptor *op,
                                          const op_value *args, autocast_call *call);
void autocast_close(autocast_call *call);

#endif
