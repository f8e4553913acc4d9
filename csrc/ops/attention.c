// Attention: softmax(q k^T) v, plain and with several heads and projections; and the sinusoids that
// tell it where a token stands. Formulas of other operators.
//
// What may be looked at is told by a bool mask, by numbers added to the scores, or both. A query
// that may look at nothing gives 0, not NaN: forbidden scores become the lowest finite number, and
// forbidden weights 0 afterwards.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/compose.h"

typedef struct attention {
  moon_tensor *allowed;       // bool, broadcasts to the scores (..., l, s); NULL = all
  moon_tensor *bias;          // added to the scores; NULL = none
  double scale, dropout;
} attention;

static double lowest_of(moon_dtype dtype) {
  switch (dtype) {
    case MOON_F64: return -1.7e308;
    case MOON_F16: return -65504;
    default: return -3.3e38;
  }
}

// (l, s): may query i look at key j, j <= i?
static moon_tensor *causal_mask(compose *c, const moon_tensor *like, int64_t l, int64_t s) {
  moon_tensor *numbers[2] = { NULL, NULL };
  int64_t sizes[2] = { l, s };
  for (int i = 0; i < 2 && c->status == MOON_OK; i++) {
    moon_status status = ops_new(c->engine, like, MOON_I64, 1, &sizes[i], &numbers[i]);
    numbers[i] = compose_adopt(c, status, numbers[i]);
    if (!numbers[i]) return NULL;
    device_array array = tensor_array(numbers[i]);
    compose_check(c, tensor_kernels(like)->arange(c->engine, 0, 1, &array));
  }
  moon_tensor *queries = COMPOSE(c, unsqueeze, op_tensor(numbers[0]), op_int(1));
  return COMPOSE(c, le, op_tensor(numbers[1]), op_tensor(queries));
}

// Both, where either may be NULL.
static moon_tensor *both(compose *c, moon_tensor *a, moon_tensor *b) {
  if (!a || !b) return a ? a : b;
  return COMPOSE(c, logical_and, op_tensor(a), op_tensor(b));
}

static moon_tensor *sum_of(compose *c, moon_tensor *a, moon_tensor *b) {
  if (!a || !b) return a ? a : b;
  return COMPOSE(c, add, op_tensor(a), op_tensor(b));
}

// A bias of -inf forbids.
static moon_tensor *allowed_by(compose *c, moon_tensor *bias) {
  moon_tensor *least = compose_number(c, bias, -INFINITY);
  return COMPOSE(c, gt, op_tensor(bias), op_tensor(least));
}

// q (..., l, e), k (..., s, e), v (..., s, f) -> (..., l, f), and the weights (..., l, s)
static moon_tensor *attend(compose *c, moon_tensor *q, moon_tensor *k, moon_tensor *v,
                           const attention *a, moon_tensor **weights) {
  moon_tensor *allowed = a->allowed;
  moon_tensor *turned = COMPOSE(c, transpose, op_tensor(k), op_int(-2), op_int(-1));
  q = c->status == MOON_OK ? compose_scale(c, q, a->scale) : NULL;
  moon_tensor *scores = COMPOSE(c, matmul, op_tensor(q), op_tensor(turned));
  if (a->bias) {
    scores = COMPOSE(c, add, op_tensor(scores), op_tensor(a->bias));
    allowed = both(c, allowed, allowed_by(c, a->bias));
  }
  if (allowed && scores) {
    moon_tensor *least = compose_number(c, scores, lowest_of(scores->dtype));
    scores = COMPOSE(c, where, op_tensor(allowed), op_tensor(scores), op_tensor(least));
  }
  moon_tensor *p = COMPOSE(c, softmax, op_tensor(scores), op_int(-1));
  if (allowed && p) {
    moon_tensor *zero = compose_number(c, p, 0);
    p = COMPOSE(c, where, op_tensor(allowed), op_tensor(p), op_tensor(zero));
  }
  if (a->dropout > 0)
    p = COMPOSE(c, dropout, op_tensor(p), op_number(a->dropout), op_bool(true));
  if (weights) *weights = p;
  return COMPOSE(c, matmul, op_tensor(p), op_tensor(v));
}

static moon_status check_dropout(double p) {
  if (p >= 0 && p < 1) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "dropout must be from 0 up to but not including 1, got %g",
                   p);
}

// A mask is bool or of the input's type and broadcasts to `shape`.
static moon_status check_mask(const char *name, const moon_tensor *mask, const moon_tensor *input,
                              int ndim, const int64_t *shape) {
  char m[TENSOR_SHAPE_TEXT], s[TENSOR_SHAPE_TEXT];
  if (!mask) return MOON_OK;
  if (mask->dtype != MOON_BOOL && mask->dtype != input->dtype)
    return moon_fail(MOON_BAD_DTYPE, "%s must be bool or %s, got %s", name,
                     dtype_name(input->dtype), dtype_name(mask->dtype));
  int missing = ndim - mask->ndim;
  bool fits = missing >= 0;
  for (int i = 0; i < mask->ndim && fits; i++)
    fits = mask->shape[i] == 1 || mask->shape[i] == shape[i + missing];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s %s does not broadcast to %s", name,
                   tensor_shape_text(mask, m), shape_text(ndim, shape, s));
}

static moon_status check_floats(const moon_tensor *query, const moon_tensor *key,
                                const moon_tensor *value) {
  MOON_TRY(ops_need_float("query", query));
  MOON_TRY(ops_need_same_dtype("query", query, "key", key));
  return ops_need_same_dtype("query", query, "value", value);
}

// -- scaled_dot_product_attention

enum { QUERY, KEY, VALUE };

static moon_status sizes_differ(const moon_tensor *q, const moon_tensor *k, const moon_tensor *v) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT], d[TENSOR_SHAPE_TEXT];
  return moon_fail(MOON_BAD_SHAPE, "query (..., l, e), key (..., s, e) and value (..., s, f) do "
                   "not fit: got %s, %s and %s", tensor_shape_text(q, a), tensor_shape_text(k, b),
                   tensor_shape_text(v, d));
}

// The scores' shape: batch dimensions of query and key, l, s.
static moon_status scores_shape(const moon_tensor *q, const moon_tensor *k, const moon_tensor *v,
                                int *ndim, int64_t *shape) {
  int all;
  int64_t ignored[MOON_MAX_DIMS];
  if (q->ndim < 2 || k->ndim < 2 || v->ndim < 2 || q->shape[q->ndim - 1] != k->shape[k->ndim - 1] ||
      k->shape[k->ndim - 2] != v->shape[v->ndim - 2])
    return sizes_differ(q, k, v);
  if (shape_broadcast(q->ndim - 2, q->shape, k->ndim - 2, k->shape, ndim, shape) != MOON_OK ||
      shape_broadcast(*ndim, shape, v->ndim - 2, v->shape, &all, ignored) != MOON_OK)
    return sizes_differ(q, k, v);
  shape[(*ndim)++] = q->shape[q->ndim - 2];
  shape[(*ndim)++] = k->shape[k->ndim - 2];
  return MOON_OK;
}

static moon_status forward_attention(op_call *call) {
  enum { MASK = 3, CAUSAL, DROPOUT, SCALE };
  moon_tensor *q = call->args[QUERY].tensor, *k = call->args[KEY].tensor;
  moon_tensor *v = call->args[VALUE].tensor, *mask = call->args[MASK].tensor;
  int64_t shape[MOON_MAX_DIMS], width;
  int ndim;
  MOON_TRY(check_floats(q, k, v));
  MOON_TRY(scores_shape(q, k, v, &ndim, shape));
  MOON_TRY(check_mask("mask", mask, q, ndim, shape));
  MOON_TRY(check_dropout(call->args[DROPOUT].number));
  width = q->shape[q->ndim - 1];
  attention a = { .dropout = call->args[DROPOUT].number,
                  .scale = width > 0 ? 1 / sqrt((double)width) : 1 };
  if (call->args[SCALE].given) a.scale = call->args[SCALE].number;
  compose c = compose_open(call->engine);
  if (mask && mask->dtype == MOON_BOOL) a.allowed = mask;
  else a.bias = mask;
  if (call->args[CAUSAL].boolean)
    a.allowed = both(&c, a.allowed, causal_mask(&c, q, shape[ndim - 2], shape[ndim - 1]));
  moon_tensor *out = attend(&c, q, k, v, &a, NULL);
  return compose_close(&c, out, &call->results[0]);
}

// -- multi_head_attention

enum { HEADS = 3, IN_WEIGHT, OUT_WEIGHT, IN_BIAS, OUT_BIAS, HEADS_MASK, PADDING_MASK, HEADS_CAUSAL,
       HEADS_DROPOUT, TRAINING, BATCH_FIRST, NEED_WEIGHTS, AVERAGE };

typedef struct heads {
  int64_t l, s, n, width, count;    // queries, keys, batch, model width, heads
  bool batched, batch_first;
} heads;

static moon_status check_vector(const char *name, const moon_tensor *v, int64_t size) {
  char text[TENSOR_SHAPE_TEXT];
  if (!v || (v->ndim == 1 && v->shape[0] == size)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %" PRId64 ", got %s", name, size,
                   tensor_shape_text(v, text));
}

static moon_status check_matrix(const char *name, const moon_tensor *m, int64_t rows,
                                int64_t columns) {
  char text[TENSOR_SHAPE_TEXT];
  if (m->ndim == 2 && m->shape[0] == rows && m->shape[1] == columns) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be %" PRId64 "x%" PRId64 ", got %s", name, rows,
                   columns, tensor_shape_text(m, text));
}

static moon_status check_projections(const op_call *call, int64_t width) {
  static const struct { const char *name; int at; } tensors[] = {
    { "in_weight", IN_WEIGHT }, { "out_weight", OUT_WEIGHT }, { "in_bias", IN_BIAS },
    { "out_bias", OUT_BIAS },
  };
  for (int i = 0; i < 4; i++) {
    const moon_tensor *t = call->args[tensors[i].at].tensor;
    if (t) MOON_TRY(ops_need_same_dtype("query", call->args[QUERY].tensor, tensors[i].name, t));
  }
  if (width > INT64_MAX / 3) return moon_fail(MOON_BAD_SHAPE, "query is too wide");
  MOON_TRY(check_matrix("in_weight", call->args[IN_WEIGHT].tensor, 3 * width, width));
  MOON_TRY(check_matrix("out_weight", call->args[OUT_WEIGHT].tensor, width, width));
  MOON_TRY(check_vector("in_bias", call->args[IN_BIAS].tensor, 3 * width));
  return check_vector("out_bias", call->args[OUT_BIAS].tensor, width);
}

static moon_status read_heads(const op_call *call, heads *h) {
  const moon_tensor *q = call->args[QUERY].tensor, *k = call->args[KEY].tensor;
  const moon_tensor *v = call->args[VALUE].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT], d[TENSOR_SHAPE_TEXT];
  h->batched = q->ndim == 3;
  h->batch_first = call->args[BATCH_FIRST].boolean;
  int time = h->batched && h->batch_first ? 1 : 0, last = q->ndim - 1;
  if (q->ndim < 2 || q->ndim > 3 || k->ndim != q->ndim || !tensor_same_shape(k, v) ||
      k->shape[last] != q->shape[last] || (h->batched && k->shape[1 - time] != q->shape[1 - time]))
    return moon_fail(MOON_BAD_SHAPE, "query %s, key and value %s must agree in batch and width, "
                     "and key with value: got query %s, key %s, value %s",
                     h->batch_first ? "(n, l, e)" : "(l, n, e)",
                     h->batch_first ? "(n, s, e)" : "(s, n, e)", tensor_shape_text(q, a),
                     tensor_shape_text(k, b), tensor_shape_text(v, d));
  h->l = q->shape[time], h->s = k->shape[time];
  h->n = h->batched ? q->shape[1 - time] : 1;
  h->width = q->shape[last];
  h->count = call->args[HEADS].integer;
  if (h->count < 1 || h->width % h->count != 0)
    return moon_fail(MOON_BAD_ARGUMENT, "heads must divide the width %" PRId64 ", got %" PRId64,
                     h->width, h->count);
  return check_projections(call, h->width);
}

static moon_status check_head_masks(const op_call *call, const heads *h) {
  const moon_tensor *q = call->args[QUERY].tensor, *mask = call->args[HEADS_MASK].tensor;
  const moon_tensor *padding = call->args[PADDING_MASK].tensor;
  char text[TENSOR_SHAPE_TEXT];
  int64_t all[3] = { h->n * h->count, h->l, h->s }, keys[2] = { h->n, h->s };
  MOON_TRY(check_mask("mask", mask, q, 3, all));
  MOON_TRY(check_mask("key_padding_mask", padding, q, 2, keys));
  if (padding && padding->ndim != (h->batched ? 2 : 1))
    return moon_fail(MOON_BAD_SHAPE, "key_padding_mask must be %s, got %s",
                     h->batched ? "(n, s)" : "(s)", tensor_shape_text(padding, text));
  return MOON_OK;
}

// Puts a mask where it belongs: PyTorch's bool masks of these layers say what is forbidden.
static void take_mask(compose *c, moon_tensor *mask, attention *a) {
  if (!mask) return;
  if (mask->dtype != MOON_BOOL) a->bias = sum_of(c, a->bias, mask);
  else a->allowed = both(c, a->allowed, COMPOSE(c, logical_not, op_tensor(mask)));
}

// (n, s) -> (n heads, 1, s)
static moon_tensor *spread_padding(compose *c, moon_tensor *mask, const heads *h) {
  if (!mask) return NULL;
  int64_t wide[4] = { h->n, h->count, 1, h->s }, flat[3] = { h->n * h->count, 1, h->s };
  if (mask->ndim == 1) mask = COMPOSE(c, unsqueeze, op_tensor(mask), op_int(0));
  mask = COMPOSE(c, unsqueeze, op_tensor(mask), op_int(1));
  mask = COMPOSE(c, unsqueeze, op_tensor(mask), op_int(1));
  mask = COMPOSE(c, expand, op_tensor(mask), op_ints(4, wide));
  return mask ? compose_reshape(c, mask, 3, flat) : NULL;
}

// Projects x by the part-th third of in_weight and lays it out as (n heads, steps, width / heads).
static moon_tensor *project(compose *c, const op_call *call, const heads *h, moon_tensor *x,
                            int part, int64_t steps) {
  moon_tensor *bias = call->args[IN_BIAS].tensor;
  int64_t split[3] = { steps, h->n * h->count, h->width / h->count };
  moon_tensor *weight = COMPOSE(c, narrow, op_tensor(call->args[IN_WEIGHT].tensor), op_int(0),
                                op_int(part * h->width), op_int(h->width));
  if (bias)
    bias = COMPOSE(c, narrow, op_tensor(bias), op_int(0), op_int(part * h->width),
                   op_int(h->width));
  if (!h->batched) x = COMPOSE(c, unsqueeze, op_tensor(x), op_int(1));
  else if (h->batch_first) x = COMPOSE(c, transpose, op_tensor(x), op_int(0), op_int(1));
  x = COMPOSE(c, linear, op_tensor(x), op_tensor(weight), op_tensor(bias));
  x = x ? compose_reshape(c, x, 3, split) : NULL;
  return COMPOSE(c, transpose, op_tensor(x), op_int(0), op_int(1));
}

// (n heads, l, width / heads) -> the input's layout, projected out
static moon_tensor *finish(compose *c, const op_call *call, const heads *h, moon_tensor *x) {
  int64_t joined[3] = { h->l, h->n, h->width };
  x = COMPOSE(c, transpose, op_tensor(x), op_int(0), op_int(1));
  x = x ? compose_reshape(c, x, 3, joined) : NULL;
  x = COMPOSE(c, linear, op_tensor(x), op_tensor(call->args[OUT_WEIGHT].tensor),
              op_tensor(call->args[OUT_BIAS].tensor));
  if (!h->batched) return COMPOSE(c, squeeze, op_tensor(x), op_int(1));
  if (h->batch_first) return COMPOSE(c, transpose, op_tensor(x), op_int(0), op_int(1));
  return x;
}

// (n heads, l, s) -> (n, heads, l, s), or (n, l, s) averaged
static moon_tensor *shown_weights(compose *c, const op_call *call, const heads *h, moon_tensor *p) {
  int64_t split[4] = { h->n, h->count, h->l, h->s };
  p = p ? compose_reshape(c, p, 4, split) : NULL;
  if (call->args[AVERAGE].boolean)
    p = COMPOSE(c, mean, op_tensor(p), op_ints(1, (int64_t[]){ 1 }));
  if (!h->batched) p = COMPOSE(c, squeeze, op_tensor(p), op_int(0));
  return p;
}

static moon_status forward_heads(op_call *call) {
  moon_tensor *q = call->args[QUERY].tensor, *weights, *k, *v;
  heads h;
  MOON_TRY(check_floats(q, call->args[KEY].tensor, call->args[VALUE].tensor));
  MOON_TRY(read_heads(call, &h));
  MOON_TRY(check_head_masks(call, &h));
  MOON_TRY(check_dropout(call->args[HEADS_DROPOUT].number));
  attention a = { .scale = h.width > 0 ? 1 / sqrt((double)(h.width / h.count)) : 1 };
  if (call->args[TRAINING].boolean) a.dropout = call->args[HEADS_DROPOUT].number;
  compose c = compose_open(call->engine);
  take_mask(&c, call->args[HEADS_MASK].tensor, &a);
  take_mask(&c, spread_padding(&c, call->args[PADDING_MASK].tensor, &h), &a);
  if (call->args[HEADS_CAUSAL].boolean)
    a.allowed = both(&c, a.allowed, causal_mask(&c, q, h.l, h.s));
  q = project(&c, call, &h, q, 0, h.l);
  k = project(&c, call, &h, call->args[KEY].tensor, 1, h.s);
  v = project(&c, call, &h, call->args[VALUE].tensor, 2, h.s);
  moon_tensor *out = finish(&c, call, &h, attend(&c, q, k, v, &a, &weights));
  if (call->args[NEED_WEIGHTS].boolean)
    compose_keep(&c, shown_weights(&c, call, &h, weights), &call->results[1]);
  return compose_close(&c, out, &call->results[0]);
}

// -- positional_encoding

// from, from + step, ...: float64, 1-D
static moon_tensor *numbers(compose *c, const moon_device *device, int64_t count) {
  moon_tensor *made = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = tensor_new(c->engine, device, MOON_F64, 1, &count, &made);
  made = compose_adopt(c, status, made);
  if (!made) return NULL;
  device_array array = tensor_array(made);
  compose_check(c, device->kernels->arange(c->engine, 0, 1, &array));
  return made;
}

static moon_status forward_positions(op_call *call) {
  enum { LENGTH, WIDTH, BASE, DTYPE, DEVICE };
  int64_t length = call->args[LENGTH].integer, width = call->args[WIDTH].integer, count;
  double base = call->args[BASE].number;
  moon_dtype dtype = call->args[DTYPE].given ? call->args[DTYPE].dtype : MOON_F32;
  const moon_device *device =
      call->args[DEVICE].given ? call->args[DEVICE].device : device_default(call->engine);
  int64_t shape[2] = { length, width };
  if (length < 0 || width < 0 || width % 2 != 0)
    return moon_fail(MOON_BAD_ARGUMENT, "length and width must not be negative and width must be "
                     "even, got %" PRId64 " and %" PRId64, length, width);
  if (!(base > 0)) return moon_fail(MOON_BAD_ARGUMENT, "base must be above 0, got %g", base);
  if (!dtype_is_float(dtype))
    return moon_fail(MOON_BAD_DTYPE, "dtype must be a float type, got %s", dtype_name(dtype));
  MOON_TRY(shape_count(2, shape, &count));
  compose c = compose_open(call->engine);
  moon_tensor *waves[2], *place = numbers(&c, device, length);
  moon_tensor *angle = numbers(&c, device, width / 2);
  angle = angle && width > 0 ? compose_scale(&c, angle, -2 * log(base) / (double)width) : angle;
  angle = COMPOSE(&c, exp, op_tensor(angle));
  place = COMPOSE(&c, unsqueeze, op_tensor(place), op_int(1));
  angle = COMPOSE(&c, mul, op_tensor(place), op_tensor(angle));
  waves[0] = COMPOSE(&c, sin, op_tensor(angle));
  waves[1] = COMPOSE(&c, cos, op_tensor(angle));
  moon_tensor *table = COMPOSE(&c, stack, op_tensors(waves, 2), op_int(2));
  table = table ? compose_reshape(&c, table, 2, shape) : NULL;
  table = COMPOSE(&c, cast, op_tensor(table), op_dtype(dtype));
  return compose_close(&c, table, &call->results[0]);
}

#define FLAGS (OP_COMPOSITE | OP_FUNCTION_ONLY)

static op_descriptor descriptors[] = {
  { .name = "scaled_dot_product_attention", .dtypes = OP_FLOATS, .flags = FLAGS,
    .schema = "(query: Tensor, key: Tensor, value: Tensor, mask: Tensor?, causal: bool = false, "
              "dropout: number = 0, scale: number?) -> out",
    .doc = "softmax(query key^T scale) value: each query's mean of the values, weighted by how "
           "well keys fit. query (..., l, e), key (..., s, e), value (..., s, f), out (..., l, f); "
           "scale is 1 / sqrt(e) unless given. mask broadcasts to (..., l, s): a bool mask is true "
           "where a key may be looked at, any other is added to the scores. causal lets query i "
           "look at keys 1..i. A query that may look at nothing gives 0. dropout falls on the "
           "weights whenever it is above 0 (Vaswani et al. 2017).",
    .example = "moon.scaled_dot_product_attention(moon.zeros(1, 2), moon.zeros(2, 2), "
               "moon.eye(2)) --> { { 0.5, 0.5 } }",
    .forward = forward_attention },
  { .name = "multi_head_attention", .dtypes = OP_FLOATS, .flags = FLAGS,
    .schema = "(query: Tensor, key: Tensor, value: Tensor, heads: int, in_weight: Tensor, "
              "out_weight: Tensor, in_bias: Tensor?, out_bias: Tensor?, mask: Tensor?, "
              "key_padding_mask: Tensor?, causal: bool = false, dropout: number = 0, "
              "training: bool = false, batch_first: bool = false, need_weights: bool = false, "
              "average_weights: bool = true) -> out, weights",
    .doc = "Attention in several subspaces at once: query, key and value are projected by the "
           "thirds of in_weight, cut into heads, attended to, joined and projected by out_weight. "
           "query (l, n, e), key and value (s, n, e), with batch_first (n, l, e) and (n, s, e), "
           "for one sequence without n; in_weight (3 e, e), in_bias (3 e), out_weight (e, e), "
           "out_bias (e); out as query. mask is (l, s) or (n heads, l, s), key_padding_mask "
           "(n, s); bool ones are true where a key must not be looked at, others are added to the "
           "scores. dropout falls on the weights while training. With need_weights also the "
           "weights (n, l, s), mean of the heads, or (n, heads, l, s) (Vaswani et al. 2017).",
    .example = "moon.multi_head_attention(moon.ones(1, 2), moon.ones(1, 2), moon.ones(1, 2), 1, "
               "moon.ones(6, 2), moon.eye(2)) --> { { 2, 2 } }",
    .forward = forward_heads },
  { .name = "positional_encoding", .dtypes = OP_FLOATS, .flags = FLAGS,
    .schema = "(length: int, width: int, base: number = 10000, dtype: dtype?, device: device?) "
              "-> out",
    .doc = "Sinusoids that tell positions apart: out (length, width) with sin(p w) in odd and "
           "cos(p w) in even columns, p = 0, 1, ... and w = base^(-2 i / width) for i = 0, 1, ... "
           "every two columns. width is even (Vaswani et al. 2017).",
    .example = "moon.positional_encoding(1, 4) --> { { 0, 1, 0, 1 } }",
    .forward = forward_positions },
};
OP_FAMILY(attention, descriptors);
