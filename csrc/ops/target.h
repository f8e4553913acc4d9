// What operators with an in-place form share: the tensor they write into, and inputs that must not
// change under their hands while they do.
#ifndef MOON_OPS_TARGET_H
#define MOON_OPS_TARGET_H

#include "ops/support.h"

// Makes results[0] a tensor that holds args[0]'s elements and may be written: a copy, or in place
// the alias that is there already.
MOON_MUST_CHECK moon_status target_open(op_call *call);
// Fails where writing one element would change another (expanded tensors). For tensors that an
// operator writes besides its first, which is checked on the way to every in-place call.
MOON_MUST_CHECK moon_status target_check(const moon_tensor *target);

// `source` for reading while `target` is written: itself, retained, or a copy if they share memory.
MOON_MUST_CHECK moon_status target_apart(moon_engine *engine, moon_tensor *source,
                                         const moon_tensor *target, moon_tensor **apart);

// The sizes must be equal or 1, and the result the target's own shape:
// "mask 3x4 does not fit input 3x5".
MOON_MUST_CHECK moon_status target_fits(const char *argument, const moon_tensor *source,
                                        const char *name, int ndim, const int64_t *shape);

#endif
