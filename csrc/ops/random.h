// Filling tensors with random numbers, for the families that make and fill them. Each call takes
// its blocks of the engine's stream.
#ifndef MOON_OPS_RANDOM_H
#define MOON_OPS_RANDOM_H

#include "ops/support.h"

// Floats in [low, high).
MOON_MUST_CHECK moon_status random_fill_uniform(moon_engine *engine, double low, double high,
                                                const moon_tensor *target);
MOON_MUST_CHECK moon_status random_fill_normal(moon_engine *engine, double mean, double deviation,
                                               const moon_tensor *target);
// Whole numbers low..high, both included; fails where the target's type cannot hold them exactly.
MOON_MUST_CHECK moon_status random_fill_integers(moon_engine *engine, int64_t low, int64_t high,
                                                 const moon_tensor *target);

#endif
