// Losses of pictures: overlap of regions (Dice) and roughness (total variation).
#include <inttypes.h>

#include "ops/loss.h"

enum { INPUT };

// -- dice_loss

static moon_status forward_dice(op_call *call) {
  enum { TARGET = 1, SMOOTH, SQUARED, REDUCTION };
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor;
  bool squared = args[SQUARED].boolean;
  MOON_TRY(loss_check_pair("input", x, "target", t));
  if (x->ndim < 1) return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, ...), got 0-d");
  if (!(args[SMOOTH].number >= 0))
    return moon_fail(MOON_BAD_ARGUMENT, "smooth must not be negative, got %g", args[SMOOTH].number);
  compose c = compose_open(call->engine);
  int rest = x->ndim - 1;
  moon_tensor *both = loss_sum_last(&c, loss_times(&c, x, t), rest);
  moon_tensor *a = squared ? COMPOSE(&c, square, op_tensor(x)) : x;
  moon_tensor *b = squared ? COMPOSE(&c, square, op_tensor(t)) : t;
  moon_tensor *sum = loss_sum_last(&c, loss_plus(&c, a, b), rest);
  both = compose_offset(&c, compose_scale(&c, both, 2), args[SMOOTH].number);
  sum = compose_offset(&c, sum, args[SMOOTH].number);
  moon_tensor *overlap = COMPOSE(&c, div, op_tensor(both), op_tensor(sum));
  return loss_close(&c, loss_from(&c, 1, overlap), args[REDUCTION].integer, &call->results[0]);
}

// -- total_variation

// |x[i + 1] - x[i]|^p along a dimension, summed for each picture
static moon_tensor *steps(compose *c, moon_tensor *x, int dim, int64_t p, int rest) {
  int64_t size = x->shape[dim] > 0 ? x->shape[dim] - 1 : 0;
  moon_tensor *from = COMPOSE(c, narrow, op_tensor(x), op_int(dim), op_int(0), op_int(size));
  moon_tensor *to = COMPOSE(c, narrow, op_tensor(x), op_int(dim),
                            op_int(size > 0), op_int(size));
  moon_tensor *d = loss_minus(c, to, from);
  d = p == 1 ? COMPOSE(c, abs, op_tensor(d)) : COMPOSE(c, square, op_tensor(d));
  return loss_sum_last(c, d, rest);
}

static moon_status forward_total_variation(op_call *call) {
  enum { P = 1, REDUCTION };
  moon_tensor *x = call->args[INPUT].tensor;
  int64_t p = call->args[P].integer;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (h, w) or (n, ..., h, w), got %s",
                     tensor_shape_text(x, text));
  if (p != 1 && p != 2) return moon_fail(MOON_BAD_ARGUMENT, "p must be 1 or 2, got %" PRId64, p);
  int rest = x->ndim == 2 ? 2 : x->ndim - 1;   // without n, all is one picture
  compose c = compose_open(call->engine);
  moon_tensor *down = steps(&c, x, x->ndim - 2, p, rest);
  moon_tensor *across = steps(&c, x, x->ndim - 1, p, rest);
  return loss_close(&c, loss_plus(&c, down, across), call->args[REDUCTION].integer,
                    &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "dice_loss", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, target: Tensor, smooth: number = 1, squared: bool = false, "
              LOSS_REDUCTION ") -> out",
    .doc = "1 minus how much two regions overlap: 1 - (2 sum x t + smooth) / (sum x + sum t + "
           "smooth), the sums over all dimensions but the first, x = input probabilities and "
           "t = target of one shape (n, ...). squared takes sum x^2 + sum t^2 below, as the paper "
           "does; then the mean or sum over n (Milletari, Navab and Ahmadi 2016).",
    .example = "moon.dice_loss(moon.tensor { { 1, 0, 1 } }, moon.tensor { { 1, 1, 0 } }, "
               "{ smooth = 0 }) --> 0.5",
    .forward = forward_dice },
  { .name = "total_variation", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, p: int = 1, " LOSS_REDUCTION ") -> out",
    .doc = "How rough pictures are: the sum of |difference|^p, p = 1 or 2, of neighbouring pixels, "
           "down and across. One number for each picture of input (n, ..., h, w), or one for "
           "(h, w); then the mean or sum over n (Rudin, Osher and Fatemi 1992).",
    .example = "moon.total_variation(moon.tensor { { 1, 3 }, { 2, 2 } }) --> 4",
    .forward = forward_total_variation },
};
OP_FAMILY(pictures, descriptors);
