// Products of vectors, matrices and stacks of matrices. Each operator checks its operands and shows
// them to product_run() as they lie in memory; nothing is copied (see product.h).
// Gradients are products again, written with the operators themselves.
#include <inttypes.h>
#include <string.h>

#include "ops/product.h"
#include "ops/support.h"

enum { A, B };                        // of the plain products
enum { ADDED, LEFT, RIGHT, BETA, ALPHA };   // of addmm

// -- checks

static moon_status check_floats(const char *a, const moon_tensor *x, const char *b,
                                const moon_tensor *y) {
  MOON_TRY(ops_need_float(a, x));
  return ops_need_same_dtype(a, x, b, y);
}

static moon_status sizes_differ(int64_t p, int64_t q, const moon_tensor *a, const moon_tensor *b) {
  char x[TENSOR_SHAPE_TEXT], y[TENSOR_SHAPE_TEXT];
  return moon_fail(MOON_BAD_SHAPE, "sizes %" PRId64 " and %" PRId64 " do not match (a %s, b %s)",
                   p, q, tensor_shape_text(a, x), tensor_shape_text(b, y));
}

// -- matmul and its strict forms

static moon_status batch_shape(const moon_tensor *a, const moon_tensor *b, const device_array *x,
                               const device_array *y, int *ndim, int64_t *shape) {
  char p[TENSOR_SHAPE_TEXT], q[TENSOR_SHAPE_TEXT];
  if (shape_broadcast(x->ndim - 2, x->shape, y->ndim - 2, y->shape, ndim, shape) == MOON_OK)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "the batch dimensions of a %s and b %s do not broadcast",
                   tensor_shape_text(a, p), tensor_shape_text(b, q));
}

// Allocates the product of a and b, with the dimension of a vector left out, and calculates it.
static moon_status product(moon_engine *engine, const moon_tensor *a, const moon_tensor *b,
                           moon_tensor **result) {
  device_array x = product_matrix(a, true), y = product_matrix(b, false);
  int64_t m = x.shape[x.ndim - 2], n = y.shape[y.ndim - 1], shape[MOON_MAX_DIMS];
  int batch, ndim;
  if (x.shape[x.ndim - 1] != y.shape[y.ndim - 2])
    return sizes_differ(x.shape[x.ndim - 1], y.shape[y.ndim - 2], a, b);
  MOON_TRY(batch_shape(a, b, &x, &y, &batch, shape));
  ndim = batch;
  if (a->ndim > 1) shape[ndim++] = m;
  if (b->ndim > 1) shape[ndim++] = n;
  MOON_TRY(ops_new(engine, a, a->dtype, ndim, shape, result));

  device_array c = tensor_array(*result);
  c.ndim = batch + 2;
  c.shape[batch] = m, c.strides[batch] = n;
  c.shape[batch + 1] = n, c.strides[batch + 1] = 1;
  x = product_stretch(&x, c.ndim, shape);
  y = product_stretch(&y, c.ndim, shape);
  return product_run(engine, tensor_kernels(a), 1, &x, &y, 0, NULL, &c);
}

static moon_status forward_matmul(op_call *call) {
  const moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor;
  MOON_TRY(check_floats("a", a, "b", b));
  for (int i = 0; i < 2; i++)
    if (call->args[i].tensor->ndim == 0)
      return moon_fail(MOON_BAD_SHAPE, "%s must have at least 1 dimension, got 0-d; use mul for a "
                       "number", i == A ? "a" : "b");
  return product(call->engine, a, b, &call->results[0]);
}

// The strict forms: how many dimensions each takes.
typedef struct strict_form { int a_ndim, b_ndim; } strict_form;
enum { DOT, MV, MM, BMM };
static const strict_form strict_forms[] = {
  [DOT] = { 1, 1 }, [MV] = { 2, 1 }, [MM] = { 2, 2 }, [BMM] = { 3, 3 }
};
static const char *const layouts[] = { "", "(size)", "(rows, columns)", "(batch, rows, columns)" };

static moon_status forward_strict(op_call *call) {
  const moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor;
  const strict_form *form = &strict_forms[call->op->row];
  MOON_TRY(check_floats("a", a, "b", b));
  MOON_TRY(ops_need_ndim("a", a, form->a_ndim, layouts[form->a_ndim]));
  MOON_TRY(ops_need_ndim("b", b, form->b_ndim, layouts[form->b_ndim]));
  if (a->ndim == 3 && a->shape[0] != b->shape[0])
    return sizes_differ(a->shape[0], b->shape[0], a, b);
  return product(call->engine, a, b, &call->results[0]);
}

// -- gradients of products

// The steps below take `x` over and leave NULL in *y on failure, so that they can be chained.
static moon_status run_owned(moon_engine *engine, op_descriptor *op, moon_tensor *x, op_value p,
                             op_value q, moon_tensor **y) {
  op_value args[3] = { op_tensor(x), p, q };
  *y = NULL;
  moon_status status = op_run(engine, op, y, q.given ? 3 : 2, args);
  tensor_release(x);
  return status;
}

static moon_status unsqueezed(moon_engine *engine, moon_tensor *x, int dim, moon_tensor **y) {
  return run_owned(engine, ops_get(OP_unsqueeze), x, op_int(dim), op_none(), y);
}

static moon_status transposed(moon_engine *engine, moon_tensor *x, moon_tensor **y) {
  return run_owned(engine, ops_get(OP_transpose), x, op_int(x->ndim - 2), op_int(x->ndim - 1), y);
}

// (..., size) as (everything else, size).
static moon_status as_rows(moon_engine *engine, moon_tensor *x, moon_tensor **y) {
  int64_t size = x->ndim > 0 ? x->shape[x->ndim - 1] : 1;
  int64_t shape[2] = { size > 0 ? tensor_count(x) / size : 1, size };
  if (size == 0)
    for (int i = 0; i < x->ndim - 1; i++) shape[0] *= x->shape[i];
  return run_owned(engine, ops_get(OP_reshape), x, op_ints(2, shape), op_none(), y);
}

static moon_status times(moon_engine *engine, moon_tensor *x, moon_tensor *y, moon_tensor **z) {
  return OP_RUN(engine, ops_get(OP_matmul), z, op_tensor(x), op_tensor(y));
}

// The gradient of the result as the stack of matrices it would be without vectors.
static moon_status gradient_matrix(op_backward_call *call, moon_tensor **g) {
  moon_tensor *x = tensor_retain(call->grads[0]);
  if (call->inputs[B].ndim == 1) MOON_TRY(unsqueezed(call->engine, x, x->ndim, &x));
  if (call->inputs[A].ndim == 1) MOON_TRY(unsqueezed(call->engine, x, x->ndim - 1, &x));
  *g = x;
  return MOON_OK;
}

// da = g b^T; of a vector the only row.
static moon_status left_gradient(op_backward_call *call, moon_tensor *g) {
  moon_tensor *b = tensor_retain(call->args[B].tensor), *da;
  if (b->ndim == 1) MOON_TRY(unsqueezed(call->engine, b, 0, &b));
  else MOON_TRY(transposed(call->engine, b, &b));
  moon_status status = times(call->engine, g, b, &da);
  tensor_release(b);
  MOON_TRY(status);
  if (call->inputs[A].ndim > 1) {
    call->out[A] = da;
    return MOON_OK;
  }
  return run_owned(call->engine, ops_get(OP_select), da, op_int(da->ndim - 2), op_int(0),
                   &call->out[A]);
}

// a^T g for tensors taken as rows: the sum over all batches in one product.
static moon_status product_of_rows(moon_engine *engine, moon_tensor *a, moon_tensor *g,
                                   moon_tensor **result) {
  moon_tensor *rows_of_a, *rows_of_g = NULL;
  MOON_TRY(as_rows(engine, tensor_retain(a), &rows_of_a));
  moon_status status = transposed(engine, rows_of_a, &rows_of_a);
  if (status == MOON_OK) status = as_rows(engine, tensor_retain(g), &rows_of_g);
  if (status == MOON_OK) status = times(engine, rows_of_a, rows_of_g, result);
  tensor_release(rows_of_a);
  tensor_release(rows_of_g);
  return status;
}

// db = a^T g; of a vector the only column.
static moon_status right_gradient(op_backward_call *call, moon_tensor *g) {
  moon_tensor *a = call->args[A].tensor, *turned, *db;
  if (call->inputs[B].ndim <= 2 && a->ndim > 1) {
    MOON_TRY(product_of_rows(call->engine, a, g, &db));
  } else {
    tensor_retain(a);
    if (a->ndim == 1) MOON_TRY(unsqueezed(call->engine, a, 1, &turned));
    else MOON_TRY(transposed(call->engine, a, &turned));
    moon_status status = times(call->engine, turned, g, &db);
    tensor_release(turned);
    MOON_TRY(status);
  }
  if (call->inputs[B].ndim > 1) {
    call->out[B] = db;
    return MOON_OK;
  }
  return run_owned(call->engine, ops_get(OP_select), db, op_int(db->ndim - 1), op_int(0),
                   &call->out[B]);
}

static moon_status backward_matmul(op_backward_call *call) {
  moon_tensor *g;
  MOON_TRY(gradient_matrix(call, &g));
  moon_status status = MOON_OK;
  if (call->needs[A]) status = left_gradient(call, g);
  if (status == MOON_OK && call->needs[B]) status = right_gradient(call, g);
  tensor_release(g);
  return status;
}

// -- outer

static moon_status forward_outer(op_call *call) {
  const moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor;
  MOON_TRY(check_floats("a", a, "b", b));
  MOON_TRY(ops_need_ndim("a", a, 1, layouts[1]));
  MOON_TRY(ops_need_ndim("b", b, 1, layouts[1]));
  int64_t shape[2] = { a->shape[0], b->shape[0] };
  MOON_TRY(ops_new(call->engine, a, a->dtype, 2, shape, &call->results[0]));
  device_array x = product_matrix(a, false), y = product_matrix(b, true);
  device_array c = tensor_array(call->results[0]);
  return product_run(call->engine, tensor_kernels(a), 1, &x, &y, 0, NULL, &c);
}

static moon_status backward_outer(op_backward_call *call) {
  moon_tensor *g = call->grads[0];
  if (call->needs[A]) MOON_TRY(times(call->engine, g, call->args[B].tensor, &call->out[A]));
  if (call->needs[B]) MOON_TRY(times(call->engine, call->args[A].tensor, g, &call->out[B]));
  return MOON_OK;
}

// -- addmm

static moon_status forward_addmm(op_call *call) {
  const moon_tensor *input = call->args[ADDED].tensor;
  const moon_tensor *a = call->args[LEFT].tensor, *b = call->args[RIGHT].tensor;
  double beta = call->args[BETA].number, alpha = call->args[ALPHA].number;
  char p[TENSOR_SHAPE_TEXT], q[TENSOR_SHAPE_TEXT];
  int ndim;
  int64_t seen[MOON_MAX_DIMS];
  MOON_TRY(check_floats("a", a, "b", b));
  MOON_TRY(ops_need_same_dtype("a", a, "input", input));
  MOON_TRY(ops_need_ndim("a", a, 2, layouts[2]));
  MOON_TRY(ops_need_ndim("b", b, 2, layouts[2]));
  if (a->shape[1] != b->shape[0]) return sizes_differ(a->shape[1], b->shape[0], a, b);
  int64_t shape[2] = { a->shape[0], b->shape[1] };
  if (shape_broadcast(input->ndim, input->shape, 2, shape, &ndim, seen) != MOON_OK || ndim != 2 ||
      seen[0] != shape[0] || seen[1] != shape[1])
    return moon_fail(MOON_BAD_SHAPE, "input %s does not broadcast to the product %s",
                     tensor_shape_text(input, p), shape_text(2, shape, q));
  MOON_TRY(ops_new(call->engine, a, a->dtype, 2, shape, &call->results[0]));
  if (beta != 0) MOON_TRY(ops_copy(call->engine, input, call->results[0]));
  device_array x = tensor_array(a), y = tensor_array(b), c = tensor_array(call->results[0]);
  return product_run(call->engine, tensor_kernels(a), alpha, &x, &y, beta, NULL, &c);
}

static moon_status scaled_or_same(moon_engine *engine, moon_tensor *x, double factor,
                                  moon_tensor **y) {
  if (factor != 1) return ops_scale(engine, x, factor, y);
  *y = tensor_retain(x);
  return MOON_OK;
}

static moon_status backward_addmm(op_backward_call *call) {
  double beta = call->args[BETA].number, alpha = call->args[ALPHA].number;
  moon_tensor *turned, *g;
  if (call->needs[ADDED])
    MOON_TRY(scaled_or_same(call->engine, call->grads[0], beta, &call->out[ADDED]));
  if (!call->needs[LEFT] && !call->needs[RIGHT]) return MOON_OK;
  MOON_TRY(scaled_or_same(call->engine, call->grads[0], alpha, &g));
  moon_status status = MOON_OK;
  if (call->needs[LEFT]) {
    status = transposed(call->engine, tensor_retain(call->args[RIGHT].tensor), &turned);
    if (status == MOON_OK) status = times(call->engine, g, turned, &call->out[LEFT]);
    tensor_release(turned);
  }
  if (status == MOON_OK && call->needs[RIGHT]) {
    status = transposed(call->engine, tensor_retain(call->args[LEFT].tensor), &turned);
    if (status == MOON_OK) status = times(call->engine, turned, g, &call->out[RIGHT]);
    tensor_release(turned);
  }
  tensor_release(g);
  return status;
}

#define PRODUCT_SCHEMA "(a: Tensor, b: Tensor) -> out"
#define PRODUCT_SAVES "a@b b@a"

static op_descriptor descriptors[] = {
  { .name = "matmul", .casts = OP_CASTS_LOW,
    .example = "moon.matmul(moon.tensor {{1, 2}}, moon.tensor {{3}, {4}}) --> {{11}}",
    .dtypes = OP_FLOATS, .schema = PRODUCT_SCHEMA, .saves = PRODUCT_SAVES,
    .doc = "Matrix product: (..., m, k) x (..., k, n) gives (..., m, n), the leading dimensions "
           "broadcast. A vector is a row on the left and a column on the right, and its dimension "
           "is left out of the result.",
    .forward = forward_matmul, .backward = backward_matmul },
  { .name = "mm", .casts = OP_CASTS_LOW,
    .example = "moon.mm(moon.tensor {{1, 2}}, moon.tensor {{3}, {4}}) --> {{11}}",
    .dtypes = OP_FLOATS, .schema = PRODUCT_SCHEMA, .saves = PRODUCT_SAVES, .row = MM,
    .doc = "Product of two matrices, (m, k) x (k, n) gives (m, n).",
    .forward = forward_strict, .backward = backward_matmul },
  { .name = "bmm", .casts = OP_CASTS_LOW,
    .example = "moon.bmm(moon.ones(2, 1, 3), moon.ones(2, 3, 1)) --> {{{3}}, {{3}}}",
    .dtypes = OP_FLOATS, .schema = PRODUCT_SCHEMA, .saves = PRODUCT_SAVES, .row = BMM,
    .doc = "Products of two stacks of matrices, (batch, m, k) x (batch, k, n) gives (batch, m, n).",
    .forward = forward_strict, .backward = backward_matmul },
  { .name = "mv", .casts = OP_CASTS_LOW,
    .example = "moon.mv(moon.tensor {{1, 2}}, moon.tensor {3, 4}) --> {11}",
    .dtypes = OP_FLOATS, .schema = PRODUCT_SCHEMA, .saves = PRODUCT_SAVES, .row = MV,
    .doc = "Matrix times vector, (m, k) x (k) gives (m).",
    .forward = forward_strict, .backward = backward_matmul },
  { .name = "dot",
    .example = "moon.tensor({1, 2}):dot(moon.tensor {3, 4}) --> 11",
    .dtypes = OP_FLOATS, .schema = PRODUCT_SCHEMA, .saves = PRODUCT_SAVES, .row = DOT,
    .doc = "Scalar product of two vectors, (k) x (k) gives a 0-d tensor.",
    .forward = forward_strict, .backward = backward_matmul },
  { .name = "outer",
    .example = "moon.outer(moon.tensor {1, 2}, moon.tensor {3, 4}) --> {{3, 4}, {6, 8}}",
    .dtypes = OP_FLOATS, .schema = PRODUCT_SCHEMA, .saves = PRODUCT_SAVES,
    .doc = "Every element of a times every element of b, (m) x (n) gives (m, n).",
    .forward = forward_outer, .backward = backward_outer },
  { .name = "addmm", .casts = OP_CASTS_LOW,
    .example = "moon.addmm(moon.ones(1, 1), moon.tensor {{1, 2}}, moon.tensor {{3}, {4}}) "
               "--> {{12}}",
    .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, a: Tensor, b: Tensor, beta: number = 1, alpha: number = 1) -> out",
    .saves = "a@b b@a",
    .doc = "beta * input + alpha * a b for matrices a (m, k) and b (k, n); input broadcasts to "
           "(m, n) and is not read where beta is 0.",
    .forward = forward_addmm, .backward = backward_addmm },
};
OP_FAMILY(linalg, descriptors);
