// Small formulas on vectors and pairs of tensors: interpolation, fused products, cross products,
// distances between rows, angles, closeness.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/compose.h"

static moon_status need_numbers(const char *argument, const moon_tensor *x) {
  if (x->dtype != MOON_BOOL) return MOON_OK;
  return moon_fail(MOON_BAD_DTYPE, "%s must be a number type, got bool; cast it first", argument);
}

// -- lerp, addcmul, addcdiv

static moon_status forward_lerp(op_call *call) {
  enum { FROM, TO, WEIGHT };
  const op_value *a = call->args;
  MOON_TRY(ops_need_float("input", a[FROM].tensor));
  MOON_TRY(ops_need_same_dtype("input", a[FROM].tensor, "to", a[TO].tensor));
  MOON_TRY(ops_need_same_dtype("input", a[FROM].tensor, "weight", a[WEIGHT].tensor));
  compose c = compose_open(call->engine);
  moon_tensor *way = COMPOSE(&c, sub, a[TO], a[FROM]);
  moon_tensor *part = COMPOSE(&c, mul, op_tensor(way), a[WEIGHT]);
  return compose_close(&c, COMPOSE(&c, add, a[FROM], op_tensor(part)), &call->results[0]);
}

// Row 0: input + value * a * b, 1: input + value * a / b
static moon_status forward_addc(op_call *call) {
  enum { INPUT, A, B, VALUE };
  const op_value *a = call->args;
  MOON_TRY(need_numbers("input", a[INPUT].tensor));
  MOON_TRY(ops_need_same_dtype("input", a[INPUT].tensor, "a", a[A].tensor));
  MOON_TRY(ops_need_same_dtype("input", a[INPUT].tensor, "b", a[B].tensor));
  if (call->op->row == 1) MOON_TRY(ops_need_float("input", a[INPUT].tensor));
  double value = a[VALUE].number;
  if (!dtype_is_float(a[INPUT].tensor->dtype) && value != floor(value))
    return moon_fail(MOON_BAD_ARGUMENT, "value must be whole for %s tensors, got %g",
                     dtype_name(a[INPUT].tensor->dtype), value);
  compose c = compose_open(call->engine);
  moon_tensor *pair =
    call->op->row == 0 ? COMPOSE(&c, mul, a[A], a[B]) : COMPOSE(&c, div, a[A], a[B]);
  if (value != 1) pair = compose_scale(&c, pair, value);
  return compose_close(&c, COMPOSE(&c, add, a[INPUT], op_tensor(pair)), &call->results[0]);
}

// -- cross

static moon_status check_cross(const op_call *call, int *dim) {
  const moon_tensor *a = call->args[0].tensor, *b = call->args[1].tensor;
  char p[TENSOR_SHAPE_TEXT], q[TENSOR_SHAPE_TEXT];
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(need_numbers("a", a));
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  if (a->ndim != b->ndim || a->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "a %s and b %s must have as many dimensions, at least 1",
                     tensor_shape_text(a, p), tensor_shape_text(b, q));
  MOON_TRY(shape_broadcast(a->ndim, a->shape, b->ndim, b->shape, &ndim, shape));
  MOON_TRY(shape_dim(ndim, call->args[2].integer, dim));
  if (a->shape[*dim] == 3 && b->shape[*dim] == 3) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "dimension %d of a %s and b %s must have size 3", *dim + 1,
                   tensor_shape_text(a, p), tensor_shape_text(b, q));
}

// The vectors' elements moved on by `by`, round the three.
static moon_tensor *turned(compose *c, moon_tensor *x, int dim, int by) {
  moon_tensor *list[2] = {
    COMPOSE(c, narrow, op_tensor(x), op_int(dim), op_int(by), op_int(3 - by)),
    COMPOSE(c, narrow, op_tensor(x), op_int(dim), op_int(0), op_int(by)),
  };
  return c->status == MOON_OK ? COMPOSE(c, cat, op_tensors(list, 2), op_int(dim)) : NULL;
}

static moon_status forward_cross(op_call *call) {
  moon_tensor *a = call->args[0].tensor, *b = call->args[1].tensor;
  int dim;
  MOON_TRY(check_cross(call, &dim));
  compose c = compose_open(call->engine);
  moon_tensor *left = COMPOSE(&c, mul, op_tensor(turned(&c, a, dim, 1)),
                              op_tensor(turned(&c, b, dim, 2)));
  moon_tensor *right = COMPOSE(&c, mul, op_tensor(turned(&c, a, dim, 2)),
                               op_tensor(turned(&c, b, dim, 1)));
  return compose_close(&c, COMPOSE(&c, sub, op_tensor(left), op_tensor(right)), &call->results[0]);
}

// -- distances and angles

static moon_status check_rows(const moon_tensor *a, const moon_tensor *b, double p) {
  char x[TENSOR_SHAPE_TEXT], y[TENSOR_SHAPE_TEXT];
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_float("a", a));
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  if (a->ndim < 2 || b->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "a and b must have at least 2 dimensions (..., rows, size), "
                     "got %s and %s", tensor_shape_text(a, x), tensor_shape_text(b, y));
  if (a->ndim == MOON_MAX_DIMS || b->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "a and b must have at most %d dimensions, got %d and %d",
                     MOON_MAX_DIMS - 1, a->ndim, b->ndim);
  if (a->shape[a->ndim - 1] != b->shape[b->ndim - 1])
    return moon_fail(MOON_BAD_SHAPE, "rows of a %s and b %s must have the same size",
                     tensor_shape_text(a, x), tensor_shape_text(b, y));
  if (!(p >= 0)) return moon_fail(MOON_BAD_ARGUMENT, "p must not be negative, got %g", p);
  return shape_broadcast(a->ndim - 2, a->shape, b->ndim - 2, b->shape, &ndim, shape);
}

static moon_status forward_cdist(op_call *call) {
  moon_tensor *a = call->args[0].tensor, *b = call->args[1].tensor;
  double p = call->args[2].number;
  int64_t last = -1;
  MOON_TRY(check_rows(a, b, p));
  compose c = compose_open(call->engine);
  moon_tensor *x = COMPOSE(&c, unsqueeze, op_tensor(a), op_int(-2));
  moon_tensor *y = COMPOSE(&c, unsqueeze, op_tensor(b), op_int(-3));
  moon_tensor *apart = COMPOSE(&c, sub, op_tensor(x), op_tensor(y));
  bool empty = a->shape[a->ndim - 1] == 0;   // vectors of nothing are 0 apart
  moon_tensor *d = COMPOSE(&c, norm, op_tensor(apart), op_number(empty ? 2 : p), op_ints(1, &last));
  return compose_close(&c, d, &call->results[0]);
}

static moon_tensor *length(compose *c, moon_tensor *x, int64_t dim, double eps) {
  moon_tensor *size = COMPOSE(c, norm, op_tensor(x), op_number(2), op_ints(1, &dim));
  return COMPOSE(c, clamp, op_tensor(size), op_number(eps), op_number(INFINITY));
}

static moon_status forward_cosine(op_call *call) {
  enum { A, B, DIM, EPS };
  moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor;
  double eps = call->args[EPS].number;
  int ndim, dim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_float("a", a));
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  MOON_TRY(shape_broadcast(a->ndim, a->shape, b->ndim, b->shape, &ndim, shape));
  if (ndim == 0) return moon_fail(MOON_BAD_SHAPE, "a and b are 0-d and have no angle");
  MOON_TRY(shape_dim(ndim, call->args[DIM].integer, &dim));
  if (!(eps > 0)) return moon_fail(MOON_BAD_ARGUMENT, "eps must be positive, got %g", eps);
  int64_t along = dim;
  compose c = compose_open(call->engine);
  a = COMPOSE(&c, expand, op_tensor(a), op_ints(ndim, shape));
  b = COMPOSE(&c, expand, op_tensor(b), op_ints(ndim, shape));
  moon_tensor *product = COMPOSE(&c, mul, op_tensor(a), op_tensor(b));
  moon_tensor *dot = COMPOSE(&c, sum, op_tensor(product), op_ints(1, &along));
  moon_tensor *lengths = COMPOSE(&c, mul, op_tensor(length(&c, a, along, eps)),
                                 op_tensor(length(&c, b, along, eps)));
  return compose_close(&c, COMPOSE(&c, div, op_tensor(dot), op_tensor(lengths)), &call->results[0]);
}

// -- closeness

// |a - b| <= atol + rtol |b|, or equal; NaN like NaN only with equal_nan
static moon_status forward_isclose(op_call *call) {
  enum { A, B, RTOL, ATOL, EQUAL_NAN };
  const op_value *v = call->args;
  double rtol = v[RTOL].number, atol = v[ATOL].number;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_same_dtype("a", v[A].tensor, "b", v[B].tensor));
  MOON_TRY(shape_broadcast(v[A].tensor->ndim, v[A].tensor->shape, v[B].tensor->ndim,
                           v[B].tensor->shape, &ndim, shape));
  if (!(rtol >= 0) || !(atol >= 0))
    return moon_fail(MOON_BAD_ARGUMENT, "rtol and atol must not be negative, got %g and %g", rtol,
                     atol);
  compose c = compose_open(call->engine);
  moon_tensor *a = COMPOSE(&c, cast, v[A], op_dtype(MOON_F64));
  moon_tensor *b = COMPOSE(&c, cast, v[B], op_dtype(MOON_F64));
  moon_tensor *equal = COMPOSE(&c, eq, v[A], v[B]);
  moon_tensor *size = COMPOSE(&c, abs, op_tensor(b));
  moon_tensor *allowed = compose_offset(&c, compose_scale(&c, size, rtol), atol);
  moon_tensor *apart = COMPOSE(&c, sub, op_tensor(a), op_tensor(b));
  moon_tensor *near = COMPOSE(&c, le, op_tensor(COMPOSE(&c, abs, op_tensor(apart))),
                              op_tensor(allowed));
  moon_tensor *finite = COMPOSE(&c, isfinite, op_tensor(apart));
  near = COMPOSE(&c, logical_and, op_tensor(near), op_tensor(finite));
  moon_tensor *close = COMPOSE(&c, logical_or, op_tensor(equal), op_tensor(near));
  if (v[EQUAL_NAN].boolean) {
    moon_tensor *both = COMPOSE(&c, logical_and, op_tensor(COMPOSE(&c, isnan, op_tensor(a))),
                                op_tensor(COMPOSE(&c, isnan, op_tensor(b))));
    close = COMPOSE(&c, logical_or, op_tensor(close), op_tensor(both));
  }
  return compose_close(&c, close, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "lerp", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, to: Tensor, weight: Tensor|number) -> out",
    .doc = "Linear interpolation, input + weight * (to - input). They broadcast.",
    .example = "moon.tensor{0, 10}:lerp(moon.tensor{10, 20}, 0.25) --> {2.5, 12.5}",
    .forward = forward_lerp },
  { .name = "addcmul", .dtypes = OP_NUMBERS, .flags = OP_COMPOSITE, .row = 0,
    .schema = "(input: Tensor, a: Tensor, b: Tensor, value: number = 1) -> out",
    .doc = "input + value * a * b, element by element. They broadcast.",
    .example = "moon.tensor{1, 1}:addcmul(moon.tensor{1, 2}, moon.tensor{3, 4}, 2) --> {7, 17}",
    .forward = forward_addc },
  { .name = "addcdiv", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS, .row = 1,
    .schema = "(input: Tensor, a: Tensor, b: Tensor, value: number = 1) -> out",
    .doc = "input + value * a / b, element by element. They broadcast.",
    .example = "moon.tensor{1, 1}:addcdiv(moon.tensor{6, 8}, moon.tensor{3, 4}) --> {3, 3}",
    .forward = forward_addc },
  { .name = "cross", .dtypes = OP_NUMBERS, .flags = OP_COMPOSITE,
    .schema = "(a: Tensor, b: Tensor, dim: dim = -1) -> out",
    .doc = "The cross product of vectors of size 3 along a dimension; the others broadcast.",
    .example = "moon.tensor{1, 0, 0}:cross(moon.tensor{0, 1, 0}) --> {0, 0, 1}",
    .forward = forward_cross },
  { .name = "cdist", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(a: Tensor, b: Tensor, p: number = 2) -> out",
    .doc = "The p-norm of the difference of each row of a (..., m, d) and each of b (..., n, d): "
           "(..., m, n). p = math.huge takes the largest difference, 0 counts those that differ. "
           "The gradient at distance 0 is 0.",
    .example = "moon.tensor{{0, 0}, {3, 4}}:cdist(moon.tensor{{0, 0}}) --> {{0}, {5}}",
    .forward = forward_cdist },
  { .name = "cosine_similarity", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(a: Tensor, b: Tensor, dim: dim = 2, eps: number = 1e-8) -> out",
    .doc = "The cosine of the angle between vectors along a dimension: a . b / (max(|a|, eps) "
           "max(|b|, eps)). They broadcast.",
    .example = "moon.tensor{{1, 0}}:cosine_similarity(moon.tensor{{1, 1}}) "
               "--> {0.7071067811865476}",
    .forward = forward_cosine },
  { .name = "isclose", .flags = OP_COMPOSITE | OP_CONSTANT,
    .schema = "(a: Tensor, b: Tensor, rtol: number = 1e-05, atol: number = 1e-08, "
              "equal_nan: bool = false) -> out",
    .doc = "Whether elements are equal but for rounding, |a - b| <= atol + rtol |b|. Infinities "
           "are close to themselves only, NaN to nothing unless equal_nan.",
    .example = "moon.tensor{1, 2}:isclose(moon.tensor{1.000001, 3}) --> {true, false}",
    .forward = forward_isclose },
};

OP_FAMILY(geometry, descriptors);
