// Writing an operator as a formula of other operators.
//
//   compose c = compose_open(call->engine);
//   moon_tensor *error = COMPOSE(&c, sub, op_tensor(x), op_tensor(y));
//   moon_tensor *squares = COMPOSE(&c, square, op_tensor(error));
//   return compose_close(&c, squares, &call->results[0]);
//
// The composition owns every tensor it makes, and the first failure sticks: after it, each step
// does nothing and gives NULL, so that only compose_close needs looking at. Steps go on the tape
// where it records, in OP_COMPOSITE forwards and in backwards alike, so what is composed has
// derivatives of every order.
#ifndef MOON_OPS_COMPOSE_H
#define MOON_OPS_COMPOSE_H

#include "ops/support.h"

typedef struct compose {
  moon_engine *engine;
  moon_status status;        // of the first step that failed
  int count, capacity;
  moon_tensor **made;        // owned until compose_close
} compose;

static inline compose compose_open(moon_engine *engine) {
  compose c = { .engine = engine, .status = MOON_OK };
  return c;
}

// The first result of an operator, borrowed until compose_close; NULL after a failure. Arguments
// left out at the end take their defaults. Further results come through `more` (may be NULL), an
// array of OP_MAX_RESULTS - 1, borrowed too.
moon_tensor *compose_run(compose *c, op_descriptor *op, moon_tensor **more, int count,
                         const op_value *args);
#define COMPOSE(c, name, ...)                                                                  \
  compose_run(c, ops_get(OP_##name), NULL,                                                     \
              (int)(sizeof((op_value[]){ __VA_ARGS__ }) / sizeof(op_value)),                   \
              (op_value[]){ __VA_ARGS__ })
#define COMPOSE_MORE(c, more, name, ...)                                                       \
  compose_run(c, ops_get(OP_##name), more,                                                     \
              (int)(sizeof((op_value[]){ __VA_ARGS__ }) / sizeof(op_value)),                   \
              (op_value[]){ __VA_ARGS__ })

// A 0-d tensor of like's type and device.
moon_tensor *compose_number(compose *c, const moon_tensor *like, double value);
// A tensor of one value, of like's type and device and of a shape of its own.
moon_tensor *compose_filled(compose *c, const moon_tensor *like, int ndim, const int64_t *shape,
                            double value);
// x times, x plus a number.
moon_tensor *compose_scale(compose *c, moon_tensor *x, double factor);
moon_tensor *compose_offset(compose *c, moon_tensor *x, double by);
// The same elements in another shape, as reshape.
moon_tensor *compose_reshape(compose *c, moon_tensor *x, int ndim, const int64_t *shape);
// `x`, a view of what this composition made, for a result: nobody else knows the tensor it shows,
// so it may be changed in place like one that is no view.
moon_tensor *compose_own(compose *c, moon_tensor *x);
// Takes over a tensor made by other means (given with the status of making it).
moon_tensor *compose_adopt(compose *c, moon_status status, moon_tensor *tensor);
// Lets a status made by other means count as a step's.
void compose_check(compose *c, moon_status status);

// Retains `tensor` into *result, unless a step failed; for operators with several results.
void compose_keep(compose *c, moon_tensor *tensor, moon_tensor **result);
// Releases what was made. Gives the first failure, or MOON_OK with `tensor` retained in *result
// (both may be NULL after compose_keep).
MOON_MUST_CHECK moon_status compose_close(compose *c, moon_tensor *tensor, moon_tensor **result);

#endif
