// Reductions with one kernel pass: sums, products, means, extremes without a position, all and any,
// and the running sum. Sums and products of bool and integers are int64. The gradient of a sum is
// the result's gradient stretched by strides of 0: no bytes move.
#include "ops/compose.h"
#include "ops/dims.h"

enum { INPUT, DIM, KEEPDIM };

// -- forward; a descriptor's row is its enum reduce_kind

static moon_dtype result_dtype(int kind, moon_dtype dtype) {
  if (kind == REDUCE_ALL || kind == REDUCE_ANY) return MOON_BOOL;
  if ((kind == REDUCE_SUM || kind == REDUCE_PROD) && !dtype_is_float(dtype)) return MOON_I64;
  return dtype;
}

static moon_status forward_reduce(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  int kind = (int)call->op->row;
  dim_set set;
  MOON_TRY(dims_read(&call->args[DIM], call->args[KEEPDIM].boolean, x->ndim, x->shape, &set));
  if (kind == REDUCE_MAX || kind == REDUCE_MIN) MOON_TRY(dims_need_elements(&set, x));
  return dims_reduce(call->engine, kind, &set, x, result_dtype(kind, x->dtype), &call->results[0]);
}

static moon_status forward_mean(op_call *call) {
  moon_dtype dtype = call->args[INPUT].tensor->dtype;
  if (!dtype_is_float(dtype))
    return moon_fail(MOON_BAD_DTYPE, "the mean of %s elements is no whole number; cast first, as "
                     "in input:to \"float32\"", dtype_name(dtype));
  return forward_reduce(call);
}

// -- backward

static moon_status read_set(op_backward_call *call, dim_set *set) {
  return dims_read(&call->args[DIM], call->args[KEEPDIM].boolean, call->inputs[INPUT].ndim,
                   call->inputs[INPUT].shape, set);
}

static moon_status backward_sum(op_backward_call *call) {
  dim_set set;
  MOON_TRY(read_set(call, &set));
  return dims_expand(call->engine, &set, call->grads[0], call->inputs[INPUT].shape,
                     &call->out[INPUT]);
}

static moon_status backward_mean(op_backward_call *call) {
  dim_set set;
  moon_tensor *share;
  MOON_TRY(read_set(call, &set));
  MOON_TRY(ops_scale(call->engine, call->grads[0], 1.0 / (double)set.count, &share));
  moon_status status = dims_expand(call->engine, &set, share, call->inputs[INPUT].shape,
                                   &call->out[INPUT]);
  tensor_release(share);
  return status;
}

enum { MAX_TEMPS = 11 };

static void release_temps(moon_tensor **temps) {
  for (int i = 0; i < MAX_TEMPS; i++) tensor_release(temps[i]);
}

// An element's gradient is g times the product of the others. With zeros among x: of the others,
// where x is the only zero; 0 everywhere else. So: divide the product of all that are not zero by
// x (by 1 where x is zero), and keep that only where x's own zeros are all zeros there are.
static moon_status prod_steps(op_backward_call *call, const dim_set *set, moon_tensor **t) {
  enum { NONE, ONE, ZERO, SAFE, PRODUCT, ZEROS, OWN, KEEP, G, OTHERS, TIMES_G };
  moon_engine *e = call->engine;
  op_value x = call->args[INPUT], dim = call->args[DIM], keep = op_bool(true);
  MOON_TRY(ops_new_filled(e, x.tensor, x.tensor->dtype, 0, NULL, 0, &t[NONE]));
  MOON_TRY(ops_new_filled(e, x.tensor, x.tensor->dtype, 0, NULL, 1, &t[ONE]));
  MOON_TRY(OP_RUN(e, ops_get(OP_eq), &t[ZERO], x, op_tensor(t[NONE])));
  MOON_TRY(OP_RUN(e, ops_get(OP_where), &t[SAFE], op_tensor(t[ZERO]), op_tensor(t[ONE]), x));
  MOON_TRY(OP_RUN(e, ops_get(OP_prod), &t[PRODUCT], op_tensor(t[SAFE]), dim, keep));
  MOON_TRY(OP_RUN(e, ops_get(OP_sum), &t[ZEROS], op_tensor(t[ZERO]), dim, keep));
  MOON_TRY(OP_RUN(e, ops_get(OP_cast), &t[OWN], op_tensor(t[ZERO]), op_dtype(MOON_I64)));
  MOON_TRY(OP_RUN(e, ops_get(OP_eq), &t[KEEP], op_tensor(t[ZEROS]), op_tensor(t[OWN])));
  MOON_TRY(dims_keep(e, set, call->grads[0], &t[G]));
  MOON_TRY(OP_RUN(e, ops_get(OP_div), &t[OTHERS], op_tensor(t[PRODUCT]), op_tensor(t[SAFE])));
  MOON_TRY(OP_RUN(e, ops_get(OP_mul), &t[TIMES_G], op_tensor(t[OTHERS]), op_tensor(t[G])));
  return OP_RUN(e, ops_get(OP_where), &call->out[INPUT], op_tensor(t[KEEP]), op_tensor(t[TIMES_G]),
                op_tensor(t[NONE]));
}

// The same without a division, so that it has derivatives of every order at zeros too: x is folded
// in halves by products until one column is left, and g unfolded by multiplying each half with what
// the other one was.
enum { MAX_FOLDS = 63 };

static moon_tensor *half_of(compose *c, moon_tensor *x, bool second) {
  if (!x || c->status != MOON_OK) return NULL;
  int64_t half = x->shape[1] / 2;
  return COMPOSE(c, narrow, op_tensor(x), op_int(1), op_int(second ? half : 0), op_int(half));
}

// x and g: (rows, a power of 2) and (rows, 1).
static moon_tensor *unfold_product(compose *c, moon_tensor *x, moon_tensor *g) {
  moon_tensor *halves[MAX_FOLDS][2];
  int folds = 0;
  for (; x && c->status == MOON_OK && x->shape[1] > 1 && folds < MAX_FOLDS; folds++) {
    for (int i = 0; i < 2; i++) halves[folds][i] = half_of(c, x, i == 1);
    x = COMPOSE(c, mul, op_tensor(halves[folds][0]), op_tensor(halves[folds][1]));
  }
  while (folds-- > 0 && c->status == MOON_OK) {
    moon_tensor *parts[2];
    for (int i = 0; i < 2; i++)
      parts[i] = COMPOSE(c, mul, op_tensor(g), op_tensor(halves[folds][1 - i]));
    if (c->status == MOON_OK) g = COMPOSE(c, cat, op_tensors(parts, 2), op_int(1));
  }
  return g;
}

// x as (results, elements of each), and the order of dimensions that led there.
static moon_tensor *as_rows(compose *c, const dim_set *set, moon_tensor *x, op_value *order) {
  int64_t dims[MOON_MAX_DIMS], shape[2] = { 1, set->count };
  int count = 0;
  for (int reduced = 0; reduced < 2; reduced++)
    for (int i = 0; i < set->ndim; i++)
      if (set->over[i] == (reduced == 1)) dims[count++] = i;
  for (int i = 0; i < set->ndim; i++) shape[0] *= set->kept[i];
  *order = op_ints(count, dims);
  return compose_reshape(c, COMPOSE(c, permute, op_tensor(x), *order), 2, shape);
}

// The rows in x's own shape and order again.
static moon_tensor *from_rows(compose *c, moon_tensor *rows, const op_input *x,
                              const op_value *order) {
  int64_t shape[MOON_MAX_DIMS], back[MOON_MAX_DIMS];
  for (int i = 0; i < x->ndim; i++) {
    shape[i] = x->shape[order->ints.v[i]];
    back[order->ints.v[i]] = i;
  }
  moon_tensor *shaped = compose_reshape(c, rows, x->ndim, shape);
  return COMPOSE(c, permute, op_tensor(shaped), op_ints(x->ndim, back));
}

static moon_status prod_recorded(op_backward_call *call, const dim_set *set) {
  compose c = compose_open(call->engine);
  op_value order;
  int64_t wide = 1;
  while (wide < set->count) wide *= 2;
  moon_tensor *x = as_rows(&c, set, call->args[INPUT].tensor, &order);
  moon_tensor *g = x ? compose_reshape(&c, call->grads[0], 2, (int64_t[]){ x->shape[0], 1 }) : NULL;
  if (x && wide > set->count) {
    moon_tensor *list[2] = { x, NULL };
    list[1] = compose_filled(&c, x, 2, (int64_t[]){ x->shape[0], wide - set->count }, 1);
    if (list[1]) x = COMPOSE(&c, cat, op_tensors(list, 2), op_int(1));
  }
  moon_tensor *dx = unfold_product(&c, x, g);
  dx = COMPOSE(&c, narrow, op_tensor(dx), op_int(1), op_int(0), op_int(set->count));
  return compose_close(&c, from_rows(&c, dx, &call->inputs[INPUT], &order), &call->out[INPUT]);
}

static moon_status backward_prod(op_backward_call *call) {
  moon_tensor *temps[MAX_TEMPS] = { 0 };
  dim_set set;
  MOON_TRY(read_set(call, &set));
  if (call->engine->grad_enabled) return prod_recorded(call, &set);
  moon_status status = prod_steps(call, &set, temps);
  release_temps(temps);
  return status;
}

// Elements that equal the extreme share its gradient evenly.
static moon_status ties_steps(op_backward_call *call, const dim_set *set, moon_tensor **t) {
  enum { OUT, TIES, COUNT, FLOATS, G, SHARE, NONE };
  moon_engine *e = call->engine;
  moon_tensor *x = call->args[INPUT].tensor;
  op_value dim = call->args[DIM], keep = op_bool(true);
  MOON_TRY(dims_keep(e, set, call->results[0], &t[OUT]));
  MOON_TRY(OP_RUN(e, ops_get(OP_eq), &t[TIES], op_tensor(x), op_tensor(t[OUT])));
  MOON_TRY(OP_RUN(e, ops_get(OP_sum), &t[COUNT], op_tensor(t[TIES]), dim, keep));
  MOON_TRY(OP_RUN(e, ops_get(OP_cast), &t[FLOATS], op_tensor(t[COUNT]), op_dtype(x->dtype)));
  MOON_TRY(dims_keep(e, set, call->grads[0], &t[G]));
  MOON_TRY(OP_RUN(e, ops_get(OP_div), &t[SHARE], op_tensor(t[G]), op_tensor(t[FLOATS])));
  MOON_TRY(ops_new_filled(e, x, x->dtype, 0, NULL, 0, &t[NONE]));
  return OP_RUN(e, ops_get(OP_where), &call->out[INPUT], op_tensor(t[TIES]), op_tensor(t[SHARE]),
                op_tensor(t[NONE]));
}

static moon_status backward_ties(op_backward_call *call) {
  moon_tensor *temps[MAX_TEMPS] = { 0 };
  dim_set set;
  MOON_TRY(read_set(call, &set));
  moon_status status = ties_steps(call, &set, temps);
  release_temps(temps);
  return status;
}

// -- running sums

// `tensor` from its last element of `dim` to its first.
static device_array reversed(const moon_tensor *tensor, int dim) {
  device_array array = dims_at_least_one(tensor);
  int64_t last = array.shape[dim] - 1;
  if (last < 1) return array;
  array.data = (char *)array.data + last * array.strides[dim] * (int64_t)dtype_size(array.dtype);
  array.strides[dim] = -array.strides[dim];
  return array;
}

static moon_status forward_cumsum(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  moon_dtype dtype = result_dtype(REDUCE_SUM, x->dtype);
  MOON_TRY(ops_new_like(call->engine, x, dtype, x->shape, &call->results[0]));
  device_array from = dims_at_least_one(x), to = dims_at_least_one(call->results[0]);
  return tensor_kernels(x)->cumsum(call->engine, dim, &from, &to);
}

static moon_status cumsum_recorded(op_backward_call *call, int dim) {
  compose c = compose_open(call->engine);
  op_value along = op_ints(1, (int64_t[]){ dim });
  moon_tensor *turned = COMPOSE(&c, flip, op_tensor(call->grads[0]), along);
  moon_tensor *sums = COMPOSE(&c, cumsum, op_tensor(turned), op_int(dim));
  moon_tensor *back = COMPOSE(&c, flip, op_tensor(sums), along);
  return compose_close(&c, back, &call->out[INPUT]);
}

// Each element is in all the sums from its own position on: a running sum from the end.
static moon_status backward_cumsum(op_backward_call *call) {
  moon_tensor *g = call->grads[0];
  int dim;
  MOON_TRY(shape_dim(g->ndim, call->args[DIM].integer, &dim));
  if (call->engine->grad_enabled) return cumsum_recorded(call, dim);
  MOON_TRY(tensor_new_like(call->engine, g, &call->out[INPUT]));
  device_array from = reversed(g, dim), to = reversed(call->out[INPUT], dim);
  return tensor_kernels(g)->cumsum(call->engine, dim, &from, &to);
}

#define REDUCTION "(input: Tensor, dim: dims, keepdim: bool = false) -> out"

static op_descriptor descriptors[] = {
  { .name = "sum",
    .example = "moon.tensor({{1, 5}, {7, 3}}):sum(2) --> {6, 10}",
    .schema = REDUCTION, .row = REDUCE_SUM,
    .doc = "Sum of all elements, or along one or several dimensions, which disappear unless "
           "keepdim. Bool and integers give int64; a sum of nothing is 0.",
    .forward = forward_reduce, .backward = backward_sum },
  { .name = "mean",
    .example = "moon.tensor({{1, 5}, {7, 3}}):mean(1) --> {4, 4}",
    .dtypes = OP_FLOATS, .schema = REDUCTION, .row = REDUCE_MEAN,
    .doc = "Mean of all elements, or along one or several dimensions. Float types only; the mean "
           "of nothing is NaN.",
    .forward = forward_mean, .backward = backward_mean },
  { .name = "prod",
    .example = "moon.tensor({2, 3, 4}):prod() --> 24",
    .schema = REDUCTION, .row = REDUCE_PROD, .saves = "input",
    .doc = "Product of all elements, or along one or several dimensions. Bool and integers give "
           "int64; a product of nothing is 1.",
    .forward = forward_reduce, .backward = backward_prod },
  { .name = "amax",
    .example = "moon.tensor({{1, 5}, {7, 3}}):amax(2) --> {5, 7}",
    .schema = REDUCTION, .row = REDUCE_MAX, .saves = "input out",
    .doc = "Largest of all elements, or along one or several dimensions; NaN if there is one. "
           "Equal ones share the gradient; max with a dim also gives positions.",
    .forward = forward_reduce, .backward = backward_ties },
  { .name = "amin",
    .example = "moon.tensor({{1, 5}, {7, 3}}):amin(2) --> {1, 3}",
    .schema = REDUCTION, .row = REDUCE_MIN, .saves = "input out",
    .doc = "Smallest of all elements, or along one or several dimensions; NaN if there is one. "
           "Equal ones share the gradient; min with a dim also gives positions.",
    .forward = forward_reduce, .backward = backward_ties },
  { .name = "all",
    .example = "moon.tensor({1, 2, 0}):gt(0):all() --> false",
    .schema = REDUCTION, .row = REDUCE_ALL,
    .doc = "Whether no element is zero (false), of all or along dimensions. True for nothing.",
    .forward = forward_reduce },
  { .name = "any",
    .example = "moon.tensor({1, 2, 0}):gt(1):any() --> true",
    .schema = REDUCTION, .row = REDUCE_ANY,
    .doc = "Whether some element is not zero (true), of all or along dimensions. False for "
           "nothing.",
    .forward = forward_reduce },
  { .name = "cumsum",
    .example = "moon.tensor({1, 2, 3}):cumsum(1) --> {1, 3, 6}",
    .schema = "(input: Tensor, dim: dim) -> out",
    .doc = "Running sum along a dimension: element i is the sum of the first i. Bool and integers "
           "give int64.",
    .forward = forward_cumsum, .backward = backward_cumsum },
};

OP_FAMILY(reduce, descriptors);
