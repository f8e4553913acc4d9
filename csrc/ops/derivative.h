// Derivatives of pointwise rows run as operators, which is what makes derivatives of every order:
// the text of a row's derivative (device/pointwise.def) is parsed once into terms, and calculated
// with other rows when the gradient itself is to be differentiated. The kernels compiled from the
// same text stay the fast way otherwise.
#ifndef MOON_OPS_DERIVATIVE_H
#define MOON_OPS_DERIVATIVE_H

#include "ops/compose.h"

// An expression: the number of its last term. Terms live as long as the process.
typedef int derivative;

// Parses `text`; `find` gives the operator of a row by name (NULL if there is none). Called by the
// registry only, before anything runs. Fails with the place where the text is not understood.
MOON_MUST_CHECK moon_status derivative_parse(const char *text,
                                             op_descriptor *(*find)(const char *name),
                                             derivative *expression);

// What an expression's names stand for. Tensors that it does not read may be NULL.
typedef struct derivative_names {
  moon_tensor *x, *y, *z, *g;
  double a, b;
} derivative_names;

// Calculates it; of g's shape, or one that broadcasts to it.
moon_tensor *derivative_run(compose *c, derivative expression, const derivative_names *names);

#endif
