// Losses that are satisfied once a margin is reached: hinges against signs, class labels and sets
// of labels.
#include <inttypes.h>
#include <string.h>

#include "ops/loss.h"

enum { INPUT, TARGET };

static moon_status check_signed(const op_value *args) {
  const moon_tensor *x = args[INPUT].tensor;
  MOON_TRY(ops_need_float("input", x));
  return loss_check_signs(x, args[TARGET].tensor, x->ndim, x->shape);
}

// -- signs

static moon_status forward_hinge(op_call *call) {
  enum { MARGIN = 2, SQUARED, REDUCTION };
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TARGET].tensor;
  MOON_TRY(check_signed(call->args));
  compose c = compose_open(call->engine);
  moon_tensor *score = loss_times(&c, loss_signs(&c, t, x), x);
  moon_tensor *losses = LOSS_HINGE(&c, loss_from(&c, call->args[MARGIN].number, score));
  if (call->args[SQUARED].boolean) losses = COMPOSE(&c, square, op_tensor(losses));
  return loss_close(&c, losses, call->args[REDUCTION].integer, &call->results[0]);
}

static moon_status forward_soft_margin(op_call *call) {
  enum { REDUCTION = 2 };
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TARGET].tensor;
  MOON_TRY(check_signed(call->args));
  compose c = compose_open(call->engine);
  moon_tensor *score = loss_times(&c, loss_signs(&c, t, x), x);
  moon_tensor *minus = COMPOSE(&c, neg, op_tensor(score));
  moon_tensor *losses = COMPOSE(&c, softplus, op_tensor(minus), op_number(1),
                                op_number(loss_softplus_threshold));
  return loss_close(&c, losses, call->args[REDUCTION].integer, &call->results[0]);
}

// `x` where the target is `sign`, else 0
static moon_tensor *where_sign(compose *c, moon_tensor *target, double sign, moon_tensor *x) {
  moon_tensor *wanted = compose_number(c, target, sign), *zero = compose_number(c, x, 0);
  moon_tensor *is = COMPOSE(c, eq, op_tensor(target), op_tensor(wanted));
  return COMPOSE(c, where, op_tensor(is), op_tensor(x), op_tensor(zero));
}

static moon_status forward_hinge_embedding(op_call *call) {
  enum { MARGIN = 2, REDUCTION };
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TARGET].tensor;
  MOON_TRY(check_signed(call->args));
  compose c = compose_open(call->engine);
  moon_tensor *apart = LOSS_HINGE(&c, loss_from(&c, call->args[MARGIN].number, x));
  moon_tensor *losses = loss_plus(&c, where_sign(&c, t, 1, x), where_sign(&c, t, -1, apart));
  return loss_close(&c, losses, call->args[REDUCTION].integer, &call->results[0]);
}

static moon_status forward_margin_ranking(op_call *call) {
  enum { OTHER = 1, SIGNS, MARGIN, REDUCTION };
  const op_value *args = call->args;
  moon_tensor *a = args[INPUT].tensor, *b = args[OTHER].tensor, *t = args[SIGNS].tensor;
  MOON_TRY(loss_check_pair("input1", a, "input2", b));
  MOON_TRY(loss_check_signs(a, t, a->ndim, a->shape));
  compose c = compose_open(call->engine);
  moon_tensor *lead = loss_times(&c, loss_signs(&c, t, a), loss_minus(&c, a, b));
  moon_tensor *losses = LOSS_HINGE(&c, loss_from(&c, args[MARGIN].number, lead));
  return loss_close(&c, losses, args[REDUCTION].integer, &call->results[0]);
}

// -- class labels

static moon_status check_class_weight(const moon_tensor *input, const moon_tensor *weight) {
  char x[TENSOR_SHAPE_TEXT], w[TENSOR_SHAPE_TEXT];
  int64_t classes = input->shape[input->ndim - 1];
  if (!weight) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, "weight", weight));
  if (weight->ndim == 1 && weight->shape[0] == classes) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "weight must have one element for each of the %" PRId64
                   " classes of input %s, got %s", classes, tensor_shape_text(input, x),
                   tensor_shape_text(weight, w));
}

// Over the last dimension: the sum over the number of classes.
static moon_tensor *class_mean(compose *c, moon_tensor *x, int dims, int64_t classes) {
  return compose_scale(c, loss_sum_last(c, x, dims), 1 / (double)classes);
}

// x at the labels, with size 1 in place of the classes; mark is true at the labels, (n, c).
static moon_tensor *at_labels(compose *c, moon_tensor *x, moon_tensor *mark) {
  moon_tensor *zero = compose_number(c, x, 0);
  moon_tensor *only = COMPOSE(c, where, op_tensor(mark), op_tensor(x), op_tensor(zero));
  return COMPOSE(c, sum, op_tensor(only), op_ints(1, (int64_t[]){ -1 }), op_bool(true));
}

static moon_status forward_multi_margin(op_call *call) {
  enum { P = 2, MARGIN, WEIGHT, REDUCTION };
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor, *weight = args[WEIGHT].tensor;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(loss_check_labels(call->engine, x, t));
  MOON_TRY(check_class_weight(x, weight));
  if (args[P].integer != 1 && args[P].integer != 2)
    return moon_fail(MOON_BAD_ARGUMENT, "p must be 1 or 2, got %" PRId64, args[P].integer);
  int64_t classes = x->shape[x->ndim - 1];
  compose c = compose_open(call->engine);
  moon_tensor *mark = loss_one_hot(&c, t, classes);
  moon_tensor *lag = loss_minus(&c, compose_offset(&c, x, args[MARGIN].number),
                                at_labels(&c, x, mark));
  moon_tensor *each = LOSS_HINGE(&c, lag), *zero = compose_number(&c, x, 0);
  if (args[P].integer == 2) each = COMPOSE(&c, square, op_tensor(each));
  if (weight) each = loss_times(&c, each, at_labels(&c, weight, mark));
  each = COMPOSE(&c, where, op_tensor(mark), op_tensor(zero), op_tensor(each));
  return loss_close(&c, class_mean(&c, each, 1, classes), args[REDUCTION].integer,
                    &call->results[0]);
}

// -- sets of labels

// Which entries of each row come before its first 0: bool, target's shape.
static moon_tensor *before_zero(compose *c, moon_tensor *labels) {
  moon_tensor *zero = compose_number(c, labels, 0);
  moon_tensor *ends = COMPOSE(c, eq, op_tensor(labels), op_tensor(zero));
  ends = COMPOSE(c, cast, op_tensor(ends), op_dtype(MOON_I64));
  moon_tensor *ended = COMPOSE(c, cumsum, op_tensor(ends), op_int(-1));
  return COMPOSE(c, eq, op_tensor(ended), op_tensor(zero));
}

static moon_status check_sets(const op_value *args) {
  const moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim != 1 && x->ndim != 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (c), got %s",
                     tensor_shape_text(x, a));
  if (dtype_class_of(t->dtype) != DTYPE_INTEGER)
    return moon_fail(MOON_BAD_DTYPE, "target must be of an integer type, got %s; cast it with :to "
                     "\"int64\"", dtype_name(t->dtype));
  if (tensor_same_shape(x, t)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "target must have input's shape %s, got %s",
                   tensor_shape_text(x, a), tensor_shape_text(t, b));
}

// The labels (int64), 1 where an entry stands for none; checked to be classes.
static moon_tensor *open_labels(compose *c, moon_tensor *target, int64_t classes,
                                moon_tensor **given) {
  moon_tensor *labels = COMPOSE(c, cast, op_tensor(target), op_dtype(MOON_I64)), *index = NULL;
  *given = before_zero(c, labels);
  moon_tensor *one = compose_number(c, labels, 1);
  labels = COMPOSE(c, where, op_tensor(*given), op_tensor(labels), op_tensor(one));
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_index_in(c->engine, "target", labels, classes, &index);
  compose_adopt(c, status, index);
  return labels;
}

// Two dimensions more: (n, labels, classes), from x at the labels and x.
static moon_status forward_multilabel_margin(op_call *call) {
  enum { REDUCTION = 2 };
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *given;
  MOON_TRY(check_sets(args));
  int last = x->ndim - 1;
  int64_t classes = x->shape[last];
  if (tensor_count(x) == 0 && classes == 0)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least one class");
  compose c = compose_open(call->engine);
  moon_tensor *labels = open_labels(&c, args[TARGET].tensor, classes, &given);
  moon_tensor *counts = COMPOSE(&c, cast, op_tensor(given), op_dtype(MOON_I64));
  moon_tensor *none = compose_scale(&c, labels, 0);
  counts = COMPOSE(&c, scatter_add, op_tensor(none), op_int(last), op_tensor(labels),
                   op_tensor(counts));
  moon_tensor *mine = COMPOSE(&c, gather, op_tensor(x), op_int(last), op_tensor(labels));
  mine = COMPOSE(&c, unsqueeze, op_tensor(mine), op_int(-1));
  moon_tensor *all = COMPOSE(&c, unsqueeze, op_tensor(x), op_int(last));
  moon_tensor *each = LOSS_HINGE(&c, compose_offset(&c, loss_minus(&c, all, mine), 1));
  given = COMPOSE(&c, unsqueeze, op_tensor(given), op_int(-1));
  moon_tensor *free = COMPOSE(&c, logical_not, op_tensor(counts));
  free = COMPOSE(&c, unsqueeze, op_tensor(free), op_int(last));
  moon_tensor *counted = COMPOSE(&c, logical_and, op_tensor(given), op_tensor(free));
  moon_tensor *zero = compose_number(&c, x, 0);
  each = COMPOSE(&c, where, op_tensor(counted), op_tensor(each), op_tensor(zero));
  return loss_close(&c, class_mean(&c, each, 2, classes), args[REDUCTION].integer,
                    &call->results[0]);
}

static moon_status forward_multilabel_soft_margin(op_call *call) {
  enum { WEIGHT = 2, REDUCTION };
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor;
  MOON_TRY(loss_check_pair("input", x, "target", t));
  if (x->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (..., c), got 0-d");
  MOON_TRY(loss_check_weight("weight", x, args[WEIGHT].tensor));
  compose c = compose_open(call->engine);
  moon_tensor *minus = COMPOSE(&c, neg, op_tensor(x));
  moon_tensor *log_p = COMPOSE(&c, logsigmoid, op_tensor(x));
  moon_tensor *log_rest = COMPOSE(&c, logsigmoid, op_tensor(minus));
  moon_tensor *each = loss_plus(&c, loss_times(&c, t, log_p),
                                loss_times(&c, loss_from(&c, 1, t), log_rest));
  if (args[WEIGHT].tensor) each = loss_times(&c, each, args[WEIGHT].tensor);
  each = COMPOSE(&c, neg, op_tensor(each));
  return loss_close(&c, class_mean(&c, each, 1, x->shape[x->ndim - 1]), args[REDUCTION].integer,
                    &call->results[0]);
}

#define SCHEMA(options) "(input: Tensor, target: Tensor, " options ") -> out"

static op_descriptor descriptors[] = {
  { .name = "hinge_loss", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("margin: number = 1, squared: bool = false, " LOSS_REDUCTION),
    .doc = "max(0, margin - target * input) for scores input and target of 1 and -1, squared on "
           "request; then the mean or sum (Cortes and Vapnik 1995).",
    .example = "moon.hinge_loss(moon.tensor { 2, 0.5 }, moon.tensor { 1, -1 }) --> 0.75",
    .forward = forward_hinge },
  { .name = "soft_margin_loss", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA(LOSS_REDUCTION),
    .doc = "log(1 + exp(-target * input)) for scores input and target of 1 and -1, without "
           "overflow; then the mean or sum.",
    .example = "moon.soft_margin_loss(moon.tensor { 1000, -1000 }, moon.tensor { 1, 1 }) --> 500",
    .forward = forward_soft_margin },
  { .name = "hinge_embedding_loss",
    .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("margin: number = 1, " LOSS_REDUCTION),
    .doc = "For distances input: input itself where target is 1, max(0, margin - input) where it "
           "is -1; then the mean or sum (Hadsell, Chopra and LeCun 2006).",
    .example = "moon.hinge_embedding_loss(moon.tensor { 0.5, 0.25 }, moon.tensor { 1, -1 }, "
               "{ reduction = \"none\" }) --> { 0.5, 0.75 }",
    .forward = forward_hinge_embedding },
  { .name = "margin_ranking_loss",
    .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input1: Tensor, input2: Tensor, target: Tensor, margin: number = 0, "
              LOSS_REDUCTION ") -> out",
    .doc = "max(0, margin - target * (input1 - input2)): input1 should rank above input2 where "
           "target is 1, below where it is -1; then the mean or sum (Herbrich et al. 2000).",
    .example = "moon.margin_ranking_loss(moon.tensor { 1 }, moon.tensor { 3 }, moon.tensor { 1 }) "
               "--> 2",
    .forward = forward_margin_ranking },
  { .name = "multi_margin_loss", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("p: int = 1, margin: number = 1, weight: Tensor?, " LOSS_REDUCTION),
    .doc = "How far other classes come near the right one: for scores x = input (n, c) or (c) and "
           "labels y = target, sum over i != y of weight[y] * max(0, margin - x[y] + x[i])^p / c, "
           "p = 1 or 2; then the mean or sum over rows (Crammer and Singer 2001).",
    .example = "moon.multi_margin_loss(moon.tensor { { 1, 3 } }, "
               "moon.tensor({ 1 }, { dtype = \"int64\" })) --> 1.5",
    .forward = forward_multi_margin },
  { .name = "multilabel_margin_loss",
    .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA(LOSS_REDUCTION),
    .doc = "multi_margin_loss for sets of labels: each row of target, of input's shape (n, c) or "
           "(c), lists labels and ends at its first 0. Sum over labels y and classes i that are "
           "not among them of max(0, 1 - x[y] + x[i]) / c; then the mean or sum over rows.",
    .example = "moon.multilabel_margin_loss(moon.tensor { 0.5, 0, 0.25, 0 }, "
               "moon.tensor({ 4, 1, 0, 2 }, { dtype = \"int64\" })) --> 0.875",
    .forward = forward_multilabel_margin },
  { .name = "multilabel_soft_margin_loss",
    .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = SCHEMA("weight: Tensor?, " LOSS_REDUCTION),
    .doc = "binary_cross_entropy_with_logits of each class, weighed by weight, averaged over the "
           "last dimension; then the mean or sum over the rest.",
    .example = "moon.multilabel_soft_margin_loss(moon.tensor { { 1000, -1000 } }, "
               "moon.tensor { { 1, 1 } }) --> 500",
    .forward = forward_multilabel_soft_margin },
};
OP_FAMILY(margins, descriptors);
