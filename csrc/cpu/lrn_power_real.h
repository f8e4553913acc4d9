// Powers for local response normalisation, in one compute type: in float by the polynomials of
// formula_math.h, which vectorise, for any exponent.
#ifndef MOON_CPU_LRN_POWER_REAL_H
#define MOON_CPU_LRN_POWER_REAL_H

#include <math.h>

#include "device/formula_math.h"

// power[j] = scale[j] ^ -beta
static void negative_power(double beta, const REAL *restrict scale, int64_t count,
                           REAL *restrict power) {
  REAL exponent = (REAL)-beta;
  for (int64_t j = 0; j < count; j++) {
#if REAL_BYTES == 4
    power[j] = formula_exp_f32(exponent * formula_log_f32(scale[j]));
#else
    power[j] = pow(scale[j], exponent);
#endif
  }
}

#endif
