// Running products, running extremes and differences along a dimension.
//
// A product is the linear recurrence y[i] = a[i] y[i - 1] + b[i], which is an operator of its own:
// its gradient is the same recurrence from the end, so that running products have gradients of
// every order, and exact ones where factors are zero.
#include <string.h>

#include "ops/dims.h"
#include "ops/make.h"

// -- the recurrence (hidden): a, b of one shape; dim from 0

static moon_status forward_recurrence(op_call *call) {
  enum { A, B, DIM, REVERSE };
  moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor;
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  if (!tensor_same_shape(a, b)) return moon_fail(MOON_BAD_SHAPE, "a and b differ in shape");
  MOON_TRY(tensor_new_like(call->engine, b, &call->results[0]));
  device_array p = tensor_array(a), q = tensor_array(b), to = tensor_array(call->results[0]);
  return tensor_kernels(b)->recurrence(call->engine, (int)call->args[DIM].integer,
                                       call->args[REVERSE].boolean, &p, &q, &to);
}

// The element before (by = 1) or behind (by = -1) each one along dim, 0 at the end.
static moon_tensor *shifted(compose *c, moon_tensor *x, int dim, int by) {
  int64_t shape[MOON_MAX_DIMS];
  if (!x) return NULL;
  int64_t n = x->shape[dim];
  if (n == 0) return x;
  make_shape(x, dim, 1, shape);
  moon_tensor *zero = make_filled(c, x, x->dtype, x->ndim, shape, 0);
  moon_tensor *rest = COMPOSE(c, narrow, op_tensor(x), op_int(dim), op_int(by > 0 ? 0 : 1),
                              op_int(n - 1));
  moon_tensor *list[2] = { by > 0 ? zero : rest, by > 0 ? rest : zero };
  return c->status == MOON_OK ? COMPOSE(c, cat, op_tensors(list, 2), op_int(dim)) : NULL;
}

// With s the gradient that reaches y[i] in all: s[i] = g[i] + a[i + 1] s[i + 1], db = s,
// da[i] = s[i] y[i - 1].
static moon_status backward_recurrence(op_backward_call *call) {
  enum { A, B, DIM, REVERSE };
  int dim = (int)call->args[DIM].integer, by = call->args[REVERSE].boolean ? -1 : 1;
  compose c = compose_open(call->engine);
  moon_tensor *a = shifted(&c, call->args[A].tensor, dim, -by);
  moon_tensor *s = COMPOSE(&c, recurrence, op_tensor(a), op_tensor(call->grads[0]), op_int(dim),
                           op_bool(by > 0));
  if (call->needs[B]) compose_keep(&c, s, &call->out[B]);
  moon_tensor *da = NULL;
  if (call->needs[A])
    da = COMPOSE(&c, mul, op_tensor(s), op_tensor(shifted(&c, call->results[0], dim, by)));
  return compose_close(&c, da, &call->out[A]);
}

// -- cumprod

static moon_status forward_cumprod(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int64_t shape[MOON_MAX_DIMS];
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[1].integer, &dim));
  compose c = compose_open(call->engine);
  if (!dtype_is_float(x->dtype)) x = COMPOSE(&c, cast, op_tensor(x), op_dtype(MOON_I64));
  if (x && (x->ndim == 0 || x->shape[dim] == 0))
    return compose_close(&c, COMPOSE(&c, clone, op_tensor(x)), &call->results[0]);
  moon_tensor *first = COMPOSE(&c, narrow, op_tensor(x), op_int(dim), op_int(0), op_int(1));
  moon_tensor *b = first;
  if (x && x->shape[dim] > 1) {
    make_shape(x, dim, x->shape[dim] - 1, shape);
    moon_tensor *list[2] = { first, make_filled(&c, x, x->dtype, x->ndim, shape, 0) };
    b = c.status == MOON_OK ? COMPOSE(&c, cat, op_tensors(list, 2), op_int(dim)) : NULL;
  }
  moon_tensor *y = COMPOSE(&c, recurrence, op_tensor(x), op_tensor(b), op_int(dim), op_bool(false));
  return compose_close(&c, y, &call->results[0]);
}

// -- cummax, cummin: row says which

static moon_status forward_running(op_call *call) {
  enum { VALUES, INDICES };
  moon_tensor *x = call->args[0].tensor;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[1].integer, &dim));
  MOON_TRY(tensor_new_like(call->engine, x, &call->results[VALUES]));
  MOON_TRY(ops_new_like(call->engine, x, MOON_I64, x->shape, &call->results[INDICES]));
  device_array from = dims_at_least_one(x), values = dims_at_least_one(call->results[VALUES]);
  device_array indices = dims_at_least_one(call->results[INDICES]);
  MOON_TRY(tensor_kernels(x)->running_extreme(call->engine, call->op->row != 0, dim, &from, &values,
                                              &indices));
  return ops_index_out(call->engine, call->results[INDICES]);
}

static moon_status backward_running(op_backward_call *call) {
  const op_input *x = &call->inputs[0];
  moon_tensor *g = call->grads[0];
  int dim;
  if (!g) return MOON_OK;
  MOON_TRY(shape_dim(x->ndim, call->args[1].integer, &dim));
  if (x->ndim == 0) {
    call->out[0] = tensor_retain(g);
    return MOON_OK;
  }
  compose c = compose_open(call->engine);
  moon_tensor *zeros = make_filled(&c, g, g->dtype, x->ndim, x->shape, 0);
  moon_tensor *dx = COMPOSE(&c, scatter_add, op_tensor(zeros), op_int(dim),
                            op_tensor(call->results[1]), op_tensor(g));
  return compose_close(&c, dx, &call->out[0]);
}

// -- diff

static moon_status forward_diff(op_call *call) {
  enum { INPUT, N, DIM };
  moon_tensor *x = call->args[INPUT].tensor;
  int64_t times = call->args[N].integer;
  int dim;
  if (x->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least 1 dimension, got 0-d");
  if (times < 0)
    return moon_fail(MOON_BAD_ARGUMENT, "n must not be negative, got %lld", (long long)times);
  if (x->dtype == MOON_BOOL)
    return moon_fail(MOON_BAD_DTYPE, "input is bool, which has no differences; cast it with :to "
                     "\"int64\"");
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  compose c = compose_open(call->engine);
  if (times > x->shape[dim]) times = x->shape[dim];   // nothing is left
  if (times == 0) x = COMPOSE(&c, clone, op_tensor(x));
  for (int64_t i = 0; i < times && x; i++) {
    int64_t n = x->shape[dim] > 0 ? x->shape[dim] - 1 : 0;
    moon_tensor *behind = COMPOSE(&c, narrow, op_tensor(x), op_int(dim),
                                  op_int(x->shape[dim] > 0), op_int(n));
    moon_tensor *before = COMPOSE(&c, narrow, op_tensor(x), op_int(dim), op_int(0), op_int(n));
    x = COMPOSE(&c, sub, op_tensor(behind), op_tensor(before));
  }
  return compose_close(&c, x, &call->results[0]);
}

// -- logsumexp

// The largest element, without a gradient and without infinities: what is taken out before exp.
static moon_tensor *safe_shift(compose *c, moon_tensor *x, op_value dims) {
  bool enabled = c->engine->grad_enabled;
  c->engine->grad_enabled = false;   // adding and subtracting it cancels
  moon_tensor *top = COMPOSE(c, amax, op_tensor(x), dims, op_bool(true));
  moon_tensor *finite = COMPOSE(c, isfinite, op_tensor(top));
  moon_tensor *shift = COMPOSE(c, where, op_tensor(finite), op_tensor(top),
                               op_tensor(compose_number(c, x, 0)));
  c->engine->grad_enabled = enabled;
  return shift;
}

static moon_status forward_logsumexp(op_call *call) {
  enum { INPUT, DIM, KEEPDIM };
  moon_tensor *x = call->args[INPUT].tensor;
  op_value dims = call->args[DIM];
  dim_set set;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(dims_read(&dims, call->args[KEEPDIM].boolean, x->ndim, x->shape, &set));
  compose c = compose_open(call->engine);
  if (set.count == 0) {   // the sum of nothing is 0, its logarithm -inf
    moon_tensor *sum = COMPOSE(&c, sum, op_tensor(x), dims, call->args[KEEPDIM]);
    return compose_close(&c, COMPOSE(&c, log, op_tensor(sum)), &call->results[0]);
  }
  moon_tensor *shift = safe_shift(&c, x, dims);
  moon_tensor *less = COMPOSE(&c, sub, op_tensor(x), op_tensor(shift));
  moon_tensor *sum = COMPOSE(&c, sum, op_tensor(COMPOSE(&c, exp, op_tensor(less))), dims,
                             op_bool(true));
  moon_tensor *y = COMPOSE(&c, add, op_tensor(COMPOSE(&c, log, op_tensor(sum))), op_tensor(shift));
  if (c.status == MOON_OK) y = compose_reshape(&c, y, set.result_ndim, set.result);
  return compose_close(&c, y, &call->results[0]);
}

#define RUNNING "(input: Tensor, dim: dim) -> values, indices"

static op_descriptor descriptors[] = {
  { .name = "recurrence", .flags = OP_HIDDEN, .saves = "a out@a",
    .schema = "(a: Tensor, b: Tensor, dim: int, reverse: bool) -> out",
    .doc = "y[i] = a[i] y[i - 1] + b[i] along a dimension counted from 0, or from the end.",
    .forward = forward_recurrence, .backward = backward_recurrence },
  { .name = "cumprod", .flags = OP_COMPOSITE, .schema = "(input: Tensor, dim: dim) -> out",
    .doc = "Running product along a dimension: element i is the product of the first i. Bool and "
           "integers give int64. The gradient is right where factors are 0.",
    .example = "moon.tensor{1, 2, 3, 4}:cumprod(1) --> {1, 2, 6, 24}",
    .forward = forward_cumprod },
  { .name = "cummax", .schema = RUNNING, .saves = "indices", .row = 0,
    .doc = "The largest element so far along a dimension, and its position (int64, from 1; the "
           "last of equals). A NaN stays.",
    .example = "moon.tensor{1, 3, 2, 4}:cummax(1) --> {1, 3, 3, 4}",
    .forward = forward_running, .backward = backward_running },
  { .name = "cummin", .schema = RUNNING, .saves = "indices", .row = 1,
    .doc = "The smallest element so far along a dimension, and its position (int64, from 1; the "
           "last of equals). A NaN stays.",
    .example = "moon.tensor{3, 4, 2, 5}:cummin(1) --> {3, 3, 2, 2}",
    .forward = forward_running, .backward = backward_running },
  { .name = "diff", .dtypes = OP_NUMBERS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, n: int = 1, dim: dim = -1) -> out",
    .doc = "Differences of neighbours along a dimension, x[i + 1] - x[i], taken n times.",
    .example = "moon.tensor{1, 4, 9, 16}:diff() --> {3, 5, 7}", .forward = forward_diff },
  { .name = "logsumexp", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, dim: dims, keepdim: bool = false) -> out",
    .doc = "log(sum(exp(x))) of all elements or along one or several dimensions, without overflow: "
           "the largest element is taken out before and added after.",
    .example = "moon.tensor{1000, 1000}:logsumexp() - 1000 --> 0.6931471805599453",
    .forward = forward_logsumexp },
};

OP_FAMILY(scans, descriptors);
