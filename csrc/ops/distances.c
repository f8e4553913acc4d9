// Distances of vectors and the losses that pull pairs and triplets together or apart.
#include <inttypes.h>
#include <math.h>

#include "ops/loss.h"

static moon_status check_p(double p) {
  if (p > 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "p must be positive, got %g", p);
}

static moon_status check_vectors(const char *a, const moon_tensor *x, const char *b,
                                 const moon_tensor *y) {
  MOON_TRY(loss_check_pair(a, x, b, y));
  if (x->ndim > 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have dimensions (..., d), got 0-d", a);
}

// |a - b + eps|_p along the last dimension
static moon_tensor *distance(compose *c, moon_tensor *a, moon_tensor *b, double p, double eps,
                             bool keepdim) {
  moon_tensor *d = compose_offset(c, loss_minus(c, a, b), eps);
  return COMPOSE(c, norm, op_tensor(d), op_number(p), op_ints(1, (int64_t[]){ -1 }),
                 op_bool(keepdim));
}

static moon_status forward_pairwise(op_call *call) {
  enum { A, B, P, EPS, KEEPDIM };
  const op_value *args = call->args;
  MOON_TRY(check_vectors("x1", args[A].tensor, "x2", args[B].tensor));
  MOON_TRY(check_p(args[P].number));
  if (isinf(args[P].number) && args[A].tensor->shape[args[A].tensor->ndim - 1] == 0)
    return moon_fail(MOON_BAD_SHAPE, "vectors without elements have no largest one");
  compose c = compose_open(call->engine);
  moon_tensor *d = distance(&c, args[A].tensor, args[B].tensor, args[P].number, args[EPS].number,
                            args[KEEPDIM].boolean);
  return compose_close(&c, d, &call->results[0]);
}

static moon_status forward_triplet(op_call *call) {
  enum { ANCHOR, POSITIVE, NEGATIVE, MARGIN, P, EPS, SWAP, REDUCTION };
  const op_value *args = call->args;
  moon_tensor *a = args[ANCHOR].tensor, *near = args[POSITIVE].tensor, *far = args[NEGATIVE].tensor;
  double p = args[P].number, eps = args[EPS].number;
  MOON_TRY(check_vectors("anchor", a, "positive", near));
  MOON_TRY(check_vectors("anchor", a, "negative", far));
  MOON_TRY(check_p(p));
  if (!(args[MARGIN].number > 0))
    return moon_fail(MOON_BAD_ARGUMENT, "margin must be positive, got %g", args[MARGIN].number);
  if (isinf(p) && a->shape[a->ndim - 1] == 0)
    return moon_fail(MOON_BAD_SHAPE, "vectors without elements have no largest one");
  compose c = compose_open(call->engine);
  moon_tensor *to_near = distance(&c, a, near, p, eps, false);
  moon_tensor *to_far = distance(&c, a, far, p, eps, false);
  if (args[SWAP].boolean) {
    moon_tensor *between = distance(&c, near, far, p, eps, false);
    to_far = COMPOSE(&c, minimum, op_tensor(to_far), op_tensor(between));
  }
  moon_tensor *lag = compose_offset(&c, loss_minus(&c, to_near, to_far), args[MARGIN].number);
  return loss_close(&c, LOSS_HINGE(&c, lag), args[REDUCTION].integer, &call->results[0]);
}

// -- cosine_embedding_loss

enum { INPUT1, INPUT2, TARGET, COS_MARGIN, COS_REDUCTION };

static const double cosine_eps = 1e-12;   // PyTorch's, added to each squared length

static moon_tensor *dot_rows(compose *c, moon_tensor *a, moon_tensor *b) {
  return loss_sum_last(c, loss_times(c, a, b), 1);
}

static moon_tensor *cosine(compose *c, moon_tensor *a, moon_tensor *b) {
  moon_tensor *aa = compose_offset(c, dot_rows(c, a, a), cosine_eps);
  moon_tensor *bb = compose_offset(c, dot_rows(c, b, b), cosine_eps);
  moon_tensor *lengths = COMPOSE(c, sqrt, op_tensor(loss_times(c, aa, bb)));
  return COMPOSE(c, div, op_tensor(dot_rows(c, a, b)), op_tensor(lengths));
}

static moon_status check_cosine(const op_value *args) {
  const moon_tensor *a = args[INPUT1].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(check_vectors("input1", a, "input2", args[INPUT2].tensor));
  if (a->ndim > 2)
    return moon_fail(MOON_BAD_SHAPE, "input1 must have dimensions (n, d) or (d), got %s",
                     tensor_shape_text(a, text));
  return loss_check_signs(a, args[TARGET].tensor, a->ndim - 1, a->shape);
}

static moon_status forward_cosine_embedding(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *input = args[INPUT1].tensor, *a = input, *b = args[INPUT2].tensor;
  bool half = dtype_is_half(input->dtype);
  MOON_TRY(check_cosine(args));
  compose c = compose_open(call->engine);
  if (half) {   // squared lengths and eps fit float32 only
    a = COMPOSE(&c, cast, op_tensor(a), op_dtype(MOON_F32));
    b = COMPOSE(&c, cast, op_tensor(b), op_dtype(MOON_F32));
  }
  moon_tensor *cos = cosine(&c, a, b);
  if (half) cos = COMPOSE(&c, cast, op_tensor(cos), op_dtype(input->dtype));
  moon_tensor *t = loss_signs(&c, args[TARGET].tensor, input);
  moon_tensor *one = compose_number(&c, input, 1), *minus = compose_number(&c, input, -1);
  moon_tensor *zero = compose_number(&c, input, 0);
  moon_tensor *same = COMPOSE(&c, eq, op_tensor(t), op_tensor(one));
  moon_tensor *other = COMPOSE(&c, eq, op_tensor(t), op_tensor(minus));
  moon_tensor *apart = LOSS_HINGE(&c, compose_offset(&c, cos, -args[COS_MARGIN].number));
  apart = COMPOSE(&c, where, op_tensor(other), op_tensor(apart), op_tensor(zero));
  moon_tensor *losses =
      COMPOSE(&c, where, op_tensor(same), op_tensor(loss_from(&c, 1, cos)), op_tensor(apart));
  return loss_close(&c, losses, args[COS_REDUCTION].integer, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "pairwise_distance", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(x1: Tensor, x2: Tensor, p: number = 2, eps: number = 1e-6, keepdim: bool = false) "
              "-> out",
    .doc = "The distance of each vector of x1 from that of x2: the p-norm of x1 - x2 + eps along "
           "the last dimension. Both have shape (..., d), the result (...).",
    .example = "moon.pairwise_distance(moon.tensor { { 3, 4 } }, moon.zeros(1, 2)):round() "
               "--> { 5 }",
    .forward = forward_pairwise },
  { .name = "triplet_margin_loss",
    .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(anchor: Tensor, positive: Tensor, negative: Tensor, margin: number = 1, "
              "p: number = 2, eps: number = 1e-6, swap: bool = false, " LOSS_REDUCTION ") -> out",
    .doc = "max(0, d(anchor, positive) - d(anchor, negative) + margin), d = pairwise_distance. "
           "With swap, the smaller of d(anchor, negative) and d(positive, negative) counts. All "
           "have shape (..., d); then the mean or sum (Schultz and Joachims 2003; Balntas et al. "
           "2016).",
    .example = "moon.triplet_margin_loss(moon.zeros(1, 2), moon.zeros(1, 2), "
               "moon.tensor { { 3, 4 } }) --> 0",
    .forward = forward_triplet },
  { .name = "cosine_embedding_loss",
    .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input1: Tensor, input2: Tensor, target: Tensor, margin: number = 0, "
              LOSS_REDUCTION ") -> out",
    .doc = "1 - cos(input1, input2) where target is 1, max(0, cos(input1, input2) - margin) where "
           "it is -1. Vectors are rows (n, d), target (n), or single ones; then the mean or sum "
           "(Bromley et al. 1993).",
    .example = "moon.cosine_embedding_loss(moon.tensor { 1, 0 }, moon.tensor { 0, 1 }, "
               "moon.tensor(1)) --> 1",
    .forward = forward_cosine_embedding },
};
OP_FAMILY(distances, descriptors);
