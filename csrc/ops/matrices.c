// Parts of matrices and matrices made of parts: triangles, diagonals, Kronecker products, and the
// sums of a tensor and a product. Matrices are the last two dimensions; those in front are a stack.
// A diagonal is a view; its gradient writes into a diagonal of zeros, and the other way round.
#include <inttypes.h>
#include <string.h>

#include "ops/make.h"

// -- triangles

// bool (rows, columns): column - row <= offset, or >= offset where `upper`.
static moon_tensor *triangle(compose *c, const moon_tensor *like, int64_t rows, int64_t columns,
                             int64_t offset, bool upper) {
  int64_t reach = rows > columns ? rows : columns;
  if (offset > reach) offset = reach;
  if (offset < -reach) offset = -reach;
  moon_tensor *row = make_range(c, like, offset, rows), *column = make_range(c, like, 0, columns);
  row = COMPOSE(c, unsqueeze, op_tensor(row), op_int(1));
  if (upper) return COMPOSE(c, ge, op_tensor(column), op_tensor(row));
  return COMPOSE(c, le, op_tensor(column), op_tensor(row));
}

static moon_status need_matrices(const moon_tensor *x) {
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim >= 2) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input must have at least 2 dimensions (..., rows, columns), "
                   "got %s", tensor_shape_text(x, text));
}

// Row 0: tril, 1: triu.
static moon_status forward_triangle(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(need_matrices(x));
  compose c = compose_open(call->engine);
  moon_tensor *mask = triangle(&c, x, x->shape[x->ndim - 2], x->shape[x->ndim - 1],
                               call->args[1].integer, call->op->row != 0);
  moon_tensor *y = COMPOSE(&c, where, op_tensor(mask), op_tensor(x),
                           op_tensor(compose_number(&c, x, 0)));
  return compose_close(&c, y, &call->results[0]);
}

// -- diagonals

typedef struct diagonal { int ndim; int64_t length, start, stride, shape[MOON_MAX_DIMS],
                          strides[MOON_MAX_DIMS]; } diagonal;

static moon_status read_two(int ndim, const op_value *first, const op_value *second, int *a,
                            int *b) {
  if (ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least 2 dimensions for a diagonal, got %d",
                     ndim);
  MOON_TRY(shape_dim(ndim, first->integer, a));
  MOON_TRY(shape_dim(ndim, second->integer, b));
  if (*a != *b) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "dim1 and dim2 must differ, both are dimension %d", *a + 1);
}

// Where the diagonal of dimensions a and b lies in an array of this shape and strides: it becomes
// the last dimension.
static diagonal find_diagonal(int ndim, const int64_t *shape, const int64_t *strides,
                              int64_t offset, int a, int b) {
  diagonal d = { .ndim = 0, .start = 0 };
  int64_t rows = shape[a], columns = shape[b];
  if (offset > columns) offset = columns;
  if (offset < -rows) offset = -rows;
  int64_t down = rows - (offset < 0 ? -offset : 0), right = columns - (offset > 0 ? offset : 0);
  d.length = down < right ? down : right;
  d.stride = strides[a] + strides[b];
  if (d.length > 0) d.start = offset > 0 ? offset * strides[b] : -offset * strides[a];
  for (int i = 0; i < ndim; i++) {
    if (i == a || i == b) continue;
    d.shape[d.ndim] = shape[i];
    d.strides[d.ndim++] = strides[i];
  }
  d.shape[d.ndim] = d.length;
  d.strides[d.ndim++] = d.stride;
  return d;
}

enum { INPUT, OFFSET, DIM1, DIM2 };

static moon_status forward_diagonal(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  int a, b;
  MOON_TRY(read_two(x->ndim, &call->args[DIM1], &call->args[DIM2], &a, &b));
  diagonal d = find_diagonal(x->ndim, x->shape, x->strides, call->args[OFFSET].integer, a, b);
  return tensor_new_view(x, d.ndim, d.shape, d.strides, x->offset + d.start, &call->results[0]);
}

static moon_status backward_diagonal(op_backward_call *call) {
  const op_input *x = &call->inputs[INPUT];
  return OP_RUN(call->engine, ops_get(OP_into_diagonal), &call->out[INPUT],
                op_tensor(call->grads[0]), op_ints(x->ndim, x->shape), call->args[OFFSET],
                call->args[DIM1], call->args[DIM2]);
}

enum { PUT_INPUT, PUT_SHAPE, PUT_OFFSET, PUT_DIM1, PUT_DIM2 };

// Zeros of a shape with the input on a diagonal; the shape was checked.
static moon_status forward_into_diagonal(op_call *call) {
  moon_tensor *x = call->args[PUT_INPUT].tensor;
  const op_value *shape = &call->args[PUT_SHAPE];
  int a, b;
  MOON_TRY(read_two(shape->ints.count, &call->args[PUT_DIM1], &call->args[PUT_DIM2], &a, &b));
  MOON_TRY(ops_new_filled(call->engine, x, x->dtype, shape->ints.count, shape->ints.v, 0,
                          &call->results[0]));
  moon_tensor *out = call->results[0], *view;
  diagonal d =
      find_diagonal(out->ndim, out->shape, out->strides, call->args[PUT_OFFSET].integer, a, b);
  MOON_TRY(tensor_new_view(out, d.ndim, d.shape, d.strides, d.start, &view));
  moon_status status = ops_copy(call->engine, x, view);
  tensor_release(view);
  return status;
}

static moon_status backward_into_diagonal(op_backward_call *call) {
  return OP_RUN(call->engine, ops_get(OP_diagonal), &call->out[PUT_INPUT],
                op_tensor(call->grads[0]), call->args[PUT_OFFSET], call->args[PUT_DIM1],
                call->args[PUT_DIM2]);
}

// The input's last dimension becomes the diagonal of two new ones.
static moon_tensor *embed(compose *c, moon_tensor *x, int64_t offset, int a, int b) {
  int64_t shape[MOON_MAX_DIMS], away = offset < 0 ? -offset : offset;
  int next = 0;
  for (int i = 0; i < x->ndim + 1; i++)
    shape[i] = i == a || i == b ? x->shape[x->ndim - 1] + away : x->shape[next++];
  return COMPOSE(c, into_diagonal, op_tensor(x), op_ints(x->ndim + 1, shape), op_int(offset),
                 op_int(a), op_int(b));
}

static moon_status check_embed(const moon_tensor *x, int64_t offset) {
  if (x->ndim == 0 || x->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "input must have 1 to %d dimensions, got %d",
                     MOON_MAX_DIMS - 1, x->ndim);
  if (offset >= -INT32_MAX && offset <= INT32_MAX) return MOON_OK;
  return moon_fail(MOON_OUT_OF_MEMORY, "an offset of %" PRId64 " makes a matrix larger than memory",
                   offset);
}

static moon_status forward_diag_embed(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  int a, b;
  MOON_TRY(check_embed(x, call->args[OFFSET].integer));
  MOON_TRY(read_two(x->ndim + 1, &call->args[DIM1], &call->args[DIM2], &a, &b));
  compose c = compose_open(call->engine);
  return compose_close(&c, embed(&c, x, call->args[OFFSET].integer, a, b), &call->results[0]);
}

static moon_status forward_diag(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim != 1 && x->ndim != 2)
    return moon_fail(MOON_BAD_SHAPE, "input must be a vector or a matrix, got %s",
                     tensor_shape_text(x, text));
  if (x->ndim == 1) MOON_TRY(check_embed(x, call->args[OFFSET].integer));
  compose c = compose_open(call->engine);
  moon_tensor *y = x->ndim == 1 ? embed(&c, x, call->args[OFFSET].integer, 0, 1)
                                : COMPOSE(&c, diagonal, op_tensor(x), call->args[OFFSET]);
  return compose_close(&c, y, &call->results[0]);
}

static moon_status forward_trace(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(ops_need_ndim("input", x, 2, "(rows, columns)"));
  compose c = compose_open(call->engine);
  moon_tensor *line = COMPOSE(&c, diagonal, op_tensor(x));
  return compose_close(&c, COMPOSE(&c, sum, op_tensor(line)), &call->results[0]);
}

// -- products

static moon_status forward_kron(op_call *call) {
  moon_tensor *a = call->args[0].tensor, *b = call->args[1].tensor;
  int64_t x[MOON_MAX_DIMS], y[MOON_MAX_DIMS], shape[MOON_MAX_DIMS];
  int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  if (a->dtype == MOON_BOOL)
    return moon_fail(MOON_BAD_DTYPE, "a and b must be numbers, got bool; cast them first");
  if (2 * ndim > MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "a and b must have at most %d dimensions, got %d",
                     MOON_MAX_DIMS / 2, ndim);
  for (int i = 0; i < ndim; i++) {
    int p = i - (ndim - a->ndim), q = i - (ndim - b->ndim);
    x[2 * i] = p < 0 ? 1 : a->shape[p], x[2 * i + 1] = 1;
    y[2 * i + 1] = q < 0 ? 1 : b->shape[q], y[2 * i] = 1;
    shape[i] = x[2 * i] * y[2 * i + 1];
  }
  compose c = compose_open(call->engine);
  moon_tensor *left = compose_reshape(&c, a, 2 * ndim, x);
  moon_tensor *right = compose_reshape(&c, b, 2 * ndim, y);
  moon_tensor *all = COMPOSE(&c, mul, op_tensor(left), op_tensor(right));
  return compose_close(&c, compose_reshape(&c, all, ndim, shape), &call->results[0]);
}

// What a row of the three sums says: how many dimensions the factors have, and the result.
typedef struct sum_form { int a_ndim, b_ndim, ndim; const char *a, *b; } sum_form;
enum { ADDMV, ADDR, BADDBMM };
static const sum_form sum_forms[] = {
  [ADDMV] = { 2, 1, 1, "(m, k)", "(k)" },
  [ADDR] = { 1, 1, 2, "(m)", "(n)" },
  [BADDBMM] = { 3, 3, 3, "(batch, m, k)", "(batch, k, n)" },
};

static moon_status check_sum(const op_call *call, int64_t *shape) {
  const moon_tensor *input = call->args[0].tensor, *a = call->args[1].tensor;
  const moon_tensor *b = call->args[2].tensor;
  const sum_form *form = &sum_forms[call->op->row];
  char p[TENSOR_SHAPE_TEXT], q[TENSOR_SHAPE_TEXT];
  int64_t seen[MOON_MAX_DIMS];
  int ndim;
  MOON_TRY(ops_need_float("a", a));
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  MOON_TRY(ops_need_same_dtype("a", a, "input", input));
  MOON_TRY(ops_need_ndim("a", a, form->a_ndim, form->a));
  MOON_TRY(ops_need_ndim("b", b, form->b_ndim, form->b));
  bool stacks = call->op->row == BADDBMM, inner = call->op->row != ADDR;
  if ((stacks && a->shape[0] != b->shape[0]) ||
      (inner && a->shape[form->a_ndim - 1] != b->shape[stacks]))
    return moon_fail(MOON_BAD_SHAPE, "a %s and b %s do not match", tensor_shape_text(a, p),
                     tensor_shape_text(b, q));
  shape[0] = a->shape[0];
  if (form->ndim == 2) shape[1] = b->shape[0];
  if (stacks) shape[1] = a->shape[1], shape[2] = b->shape[2];
  if (shape_broadcast(input->ndim, input->shape, form->ndim, shape, &ndim, seen) == MOON_OK &&
      ndim == form->ndim && memcmp(seen, shape, (size_t)ndim * sizeof *seen) == 0)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input %s does not broadcast to the product %s",
                   tensor_shape_text(input, p), shape_text(form->ndim, shape, q));
}

static moon_status forward_sum(op_call *call) {
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(check_sum(call, shape));
  moon_tensor *input = call->args[0].tensor;
  double beta = call->args[3].number, alpha = call->args[4].number;
  compose c = compose_open(call->engine);
  moon_tensor *product = call->op->row == ADDR ? COMPOSE(&c, outer, call->args[1], call->args[2])
                                               : COMPOSE(&c, matmul, call->args[1], call->args[2]);
  if (alpha != 1) product = compose_scale(&c, product, alpha);
  if (beta == 0) return compose_close(&c, product, &call->results[0]);
  if (beta != 1) input = compose_scale(&c, input, beta);
  moon_tensor *sum = COMPOSE(&c, add, op_tensor(input), op_tensor(product));
  return compose_close(&c, sum, &call->results[0]);
}

#define SUM(a, b) "(input: Tensor, " a ": Tensor, " b ": Tensor, beta: number = 1, " \
                  "alpha: number = 1) -> out"

static op_descriptor descriptors[] = {
  { .name = "tril", .flags = OP_COMPOSITE, .row = 0,
    .schema = "(input: Tensor, diagonal: int = 0) -> out",
    .doc = "The lower triangle of matrices, 0 above: elements whose column minus row is at most "
           "`diagonal` stay.",
    .example = "moon.ones(2, 3):tril() --> {{1, 0, 0}, {1, 1, 0}}", .forward = forward_triangle },
  { .name = "triu", .flags = OP_COMPOSITE, .row = 1,
    .schema = "(input: Tensor, diagonal: int = 0) -> out",
    .doc = "The upper triangle of matrices, 0 below: elements whose column minus row is at least "
           "`diagonal` stay.",
    .example = "moon.ones(2, 3):triu() --> {{1, 1, 1}, {0, 1, 1}}", .forward = forward_triangle },
  { .name = "diagonal", .flags = OP_VIEW,
    .schema = "(input: Tensor, offset: int = 0, dim1: dim = 1, dim2: dim = 2) -> out",
    .doc = "The diagonal of two dimensions, `offset` columns to the right of the main one, as the "
           "last dimension. A view.",
    .example = "moon.tensor{{1, 2}, {3, 4}}:diagonal() --> {1, 4}",
    .forward = forward_diagonal, .backward = backward_diagonal },
  { .name = "into_diagonal", .flags = OP_HIDDEN,
    .schema = "(input: Tensor, shape: int[], offset: int, dim1: dim, dim2: dim) -> out",
    .doc = "Zeros with the input on a diagonal.",
    .forward = forward_into_diagonal, .backward = backward_into_diagonal },
  { .name = "diag_embed", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, offset: int = 0, dim1: dim = -2, dim2: dim = -1) -> out",
    .doc = "Matrices with the input's last dimension on a diagonal, and zeros: the dimensions dim1 "
           "and dim2 of the result.",
    .example = "moon.tensor{1, 2}:diag_embed() --> {{1, 0}, {0, 2}}",
    .forward = forward_diag_embed },
  { .name = "diag", .flags = OP_COMPOSITE, .schema = "(input: Tensor, offset: int = 0) -> out",
    .doc = "Of a vector the matrix that has it on its diagonal, of a matrix its diagonal.",
    .example = "moon.tensor{1, 2}:diag(1) --> {{0, 1, 0}, {0, 0, 2}, {0, 0, 0}}",
    .forward = forward_diag },
  { .name = "trace", .flags = OP_COMPOSITE, .schema = "(input: Tensor) -> out",
    .doc = "The sum of a matrix's diagonal.",
    .example = "moon.tensor{{1, 2}, {3, 4}}:trace() --> 5", .forward = forward_trace },
  { .name = "kron", .dtypes = OP_NUMBERS, .flags = OP_COMPOSITE,
    .schema = "(a: Tensor, b: Tensor) -> out",
    .doc = "The Kronecker product: every element of a times the whole of b, in its place. Up to 4 "
           "dimensions; the one with fewer gets sizes of 1 in front.",
    .example = "moon.tensor{1, 2}:kron(moon.tensor{1, 10}) --> {1, 10, 2, 20}",
    .forward = forward_kron },
  { .name = "addmv",
    .casts = OP_CASTS_LOW, .flags = OP_COMPOSITE, .dtypes = OP_FLOATS, .row = ADDMV,
    .schema = SUM("a", "b"),
    .doc = "beta * input + alpha * a b for a matrix a (m, k) and a vector b (k); input broadcasts "
           "to (m) and is not read where beta is 0.",
    .example = "moon.ones(2):addmv(moon.ones(2, 3), moon.ones(3)) --> {4, 4}",
    .forward = forward_sum },
  { .name = "addr", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS, .row = ADDR,
    .schema = SUM("a", "b"),
    .doc = "beta * input + alpha * (a outer b) for vectors a (m) and b (n); input broadcasts to "
           "(m, n) and is not read where beta is 0.",
    .example = "moon.ones(2, 2):addr(moon.tensor{1, 2}, moon.tensor{3, 4}) --> {{4, 5}, {7, 9}}",
    .forward = forward_sum },
  { .name = "baddbmm",
    .casts = OP_CASTS_LOW, .flags = OP_COMPOSITE, .dtypes = OP_FLOATS, .row = BADDBMM,
    .schema = SUM("a", "b"),
    .doc = "beta * input + alpha * a b for stacks a (batch, m, k) and b (batch, k, n); input "
           "broadcasts to (batch, m, n) and is not read where beta is 0.",
    .example = "moon.ones(1, 1, 1):baddbmm(moon.ones(1, 1, 2), moon.ones(1, 2, 1)) --> {{{3}}}",
    .forward = forward_sum },
};

OP_FAMILY(matrices, descriptors);
