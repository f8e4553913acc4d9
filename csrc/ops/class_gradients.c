// Gradients of the losses against class labels by operators. See class_gradients.h.
#include "ops/class_gradients.h"

// The gradient of each loss, in the labels' shape.
static moon_tensor *each_gradient(compose *c, const class_losses *l) {
  moon_tensor *g = l->g;
  if (l->total) {
    moon_tensor *wide = COMPOSE(c, cast, op_tensor(g), op_dtype(l->total->dtype));
    moon_tensor *share = COMPOSE(c, div, op_tensor(wide), op_tensor(l->total));
    g = COMPOSE(c, cast, op_tensor(share), op_dtype(l->input->dtype));
  }
  return COMPOSE(c, expand, op_tensor(g), op_ints(l->index->ndim, l->index->shape));
}

// Labels from 1, in range, as (n, 1, ...); what is ignored becomes the first class.
static moon_tensor *places(compose *c, const class_losses *l) {
  moon_tensor *from_one = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_converted(c->engine, l->index, MOON_I64, &from_one);
  from_one = compose_adopt(c, status, from_one);
  if (!from_one) return NULL;
  compose_check(c, ops_index_out(c->engine, from_one));
  moon_tensor *in_range = COMPOSE(c, clamp, op_tensor(from_one), op_number(1));
  return COMPOSE(c, unsqueeze, op_tensor(in_range), op_int(1));
}

// `value` at each label among zeros: (n, c, ...).
static moon_tensor *at_labels(compose *c, const class_losses *l, moon_tensor *value) {
  moon_tensor *column = COMPOSE(c, unsqueeze, op_tensor(value), op_int(1));
  moon_tensor *where = places(c, l);
  if (!column || !where) return NULL;
  moon_tensor *zeros = compose_filled(c, column, l->input->ndim, l->input->shape, 0);
  return COMPOSE(c, scatter, op_tensor(zeros), op_int(1), op_tensor(where), op_tensor(column));
}

moon_status class_nll_gradient(moon_engine *engine, const class_losses *l, moon_tensor **dx) {
  compose c = compose_open(engine);
  moon_tensor *value = COMPOSE(&c, neg, op_tensor(each_gradient(&c, l)));
  if (l->weights) value = COMPOSE(&c, mul, op_tensor(value), op_tensor(l->weights));
  return compose_close(&c, at_labels(&c, l, value), dx);
}

// -- cross_entropy

// What the losses' gradients are where nothing is ignored.
static moon_tensor *valid_gradient(compose *c, const class_losses *l) {
  moon_tensor *g = each_gradient(c, l);
  if (c->status != MOON_OK) return NULL;
  moon_tensor *first = compose_number(c, l->index, 0);
  moon_tensor *ignored = COMPOSE(c, lt, op_tensor(l->index), op_tensor(first));
  return COMPOSE(c, where, op_tensor(ignored), op_tensor(compose_number(c, g, 0)), op_tensor(g));
}

static moon_tensor *weight_as_row(compose *c, const class_losses *l, moon_tensor *weight) {
  int64_t shape[MOON_MAX_DIMS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
  shape[1] = weight->shape[0];
  return compose_reshape(c, weight, l->input->ndim, shape);
}

// The gradient of logp: minus (1 - s) g at the labels and s / classes g everywhere, times weights.
static moon_tensor *logp_from_losses(compose *c, const class_losses *l, double smoothing,
                                     moon_tensor *weight) {
  int64_t classes = l->input->shape[1];
  moon_tensor *g = valid_gradient(c, l);
  if (!g) return NULL;
  moon_tensor *sharp = at_labels(c, l, compose_scale(c, g, smoothing - 1));
  if (smoothing > 0 && classes > 0) {
    moon_tensor *column = COMPOSE(c, unsqueeze, op_tensor(g), op_int(1));
    if (!column) return NULL;
    moon_tensor *even = compose_scale(c, column, -smoothing / (double)classes);
    sharp = COMPOSE(c, add, op_tensor(sharp), op_tensor(even));
  }
  if (!weight || !sharp) return sharp;
  return COMPOSE(c, mul, op_tensor(sharp), op_tensor(weight_as_row(c, l, weight)));
}

moon_status class_cross_entropy_gradient(moon_engine *engine, const class_losses *l,
                                         double smoothing, moon_tensor *weight, moon_tensor *logp,
                                         moon_tensor *logp_gradient, moon_tensor **dx) {
  compose c = compose_open(engine);
  moon_tensor *d = logp_gradient;
  if (l->g) d = logp_from_losses(&c, l, smoothing, weight);
  if (l->g && logp_gradient) d = COMPOSE(&c, add, op_tensor(d), op_tensor(logp_gradient));
  moon_tensor *sum = COMPOSE(&c, sum, op_tensor(d), op_ints(1, (int64_t[]){ 1 }), op_bool(true));
  moon_tensor *p = COMPOSE(&c, exp, op_tensor(logp));
  moon_tensor *share = COMPOSE(&c, mul, op_tensor(p), op_tensor(sum));
  return compose_close(&c, COMPOSE(&c, sub, op_tensor(d), op_tensor(share)), dx);
}
