// What a sum of squares does in local response normalisation, in one compute type: with
// s = k + alpha / size * sum, s^-beta and 1 / s. The usual exponent, 3/4, is a product of
// reciprocal roots; others go by the polynomials of formula_float.h, in double by the library.
#ifndef MOON_CPU_LRN_POWER_REAL_H
#define MOON_CPU_LRN_POWER_REAL_H

#include <float.h>
#include <math.h>

#include "cpu/lanes_root.h"
#include "cpu/network.h"
#include "device/formula_math.h"

typedef struct lrn_rule {
  REAL k, share, exponent;
  bool roots;                // the exponent is -3/4, and s positive
} lrn_rule;

static lrn_rule lrn_rule_of(const lrn_options *o) {
  return (lrn_rule){ .k = (REAL)o->k, .share = (REAL)(o->alpha / (double)o->size),
                     .exponent = (REAL)-o->beta,
                     .roots = o->beta == 0.75 && o->k > 0 && o->alpha >= 0 };
}

// What the gradient's second part is multiplied by: 2 alpha beta / size.
static REAL lrn_factor(const lrn_rule *rule) { return -2 * rule->exponent * rule->share; }

#if REAL_BYTES == 4
#define REAL_POWER(x, y) formula_exp_f32((y) * formula_log_f32(x))
#else
#define REAL_POWER(x, y) pow(x, y)
#endif

static inline lanes lrn_power(const lrn_rule *rule, lanes sum, lanes *inverse) {
  lanes s = lanes_fma(lanes_same(rule->share), sum, lanes_same(rule->k));
#if REAL_BYTES == 4
  if (rule->roots) {
    lanes root = lanes_reciprocal_root(lanes_clamp(s, FLT_MIN, FLT_MAX));
    *inverse = root * root;
    return root * lanes_reciprocal_root(s * root);   // s^-1/2 times s^-1/4
  }
#endif
  REAL part[LANES];
  lanes_store(part, s);
  for (int i = 0; i < LANES; i++) part[i] = REAL_POWER(part[i], rule->exponent);
  *inverse = lanes_all(1) / s;
  return lanes_load(part);
}

#endif
