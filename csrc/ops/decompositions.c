// Matrix decompositions by LAPACK: cholesky, qr, svd, eigh. Their gradients are products and
// triangular solutions of the results, written with operators, and so have every order.
//
//   cholesky   Giles 2008; Murray, "Differentiation of the Cholesky decomposition", 2016
//   qr         Walter and Lehmann, "Algorithmic differentiation of linear algebra functions with
//              application in optimum experimental design", 2010
//   svd        Townsend, "Differentiating the singular value decomposition", 2016
//   eigh       Giles 2008
//
// Singular vectors and eigenvectors are given up to their signs, and among equal values up to a
// rotation: a gradient means something only for functions that do not see the difference. Where two
// values are equal, gradients through the vectors divide by 0.
#include <inttypes.h>
#include <string.h>

#include "ops/stacks.h"

// -- what all share

static moon_status not_finite(const stacks_info *info, const char *what) {
  if (info->code == 0) return MOON_OK;
  if (info->code < 0)
    return moon_fail(MOON_BAD_ARGUMENT, "%s contains NaN or infinities", info->which);
  return moon_fail(MOON_BAD_ARGUMENT, "the %s of %s did not converge", what, info->which);
}

static int64_t smaller_side(const moon_tensor *x) {
  return stacks_rows(x) < stacks_columns(x) ? stacks_rows(x) : stacks_columns(x);
}

static moon_tensor *plus(compose *c, moon_tensor *x, moon_tensor *y) {
  if (!x) return y;
  return y ? COMPOSE(c, add, op_tensor(x), op_tensor(y)) : x;
}

static moon_tensor *minus(compose *c, moon_tensor *x, moon_tensor *y) {
  return COMPOSE(c, sub, op_tensor(x), op_tensor(y));
}

static moon_tensor *times_element(compose *c, moon_tensor *x, moon_tensor *y) {
  return COMPOSE(c, mul, op_tensor(x), op_tensor(y));
}

// -- cholesky

static moon_status run_cholesky(op_call *call, const moon_tensor *a, stacks_info *info) {
  device_array in = stacks_array(a, 2), out = stacks_array(call->results[0], 2);
  device_array codes = tensor_array(info->tensor);
  if (array_count(&in) == 0) return MOON_OK;
  MOON_TRY(tensor_kernels(a)->cholesky(call->engine, &in, &out, &codes));
  MOON_TRY(stacks_info_read(call->engine, info));
  if (info->code == 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s is not positive definite: its leading %" PRId64
                   "x%" PRId64 " part is not", info->which, info->code, info->code);
}

static moon_status forward_cholesky(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *a = NULL;
  stacks_info info;
  MOON_TRY(stacks_need_square("input", x));
  MOON_TRY(ops_new(call->engine, x, x->dtype, x->ndim, x->shape, &call->results[0]));
  MOON_TRY(stacks_info_new(call->engine, x, &info));
  moon_status status = ops_contiguous(call->engine, x, &a);
  if (status == MOON_OK) status = run_cholesky(call, a, &info);
  tensor_release(a);
  stacks_info_release(&info);
  return status;
}

// With p = tril(l^T g), its diagonal halved: s = l^-T p l^-1, dx = (s + s^T) / 2.
static moon_status backward_cholesky(op_backward_call *call) {
  compose c = compose_open(call->engine);
  moon_tensor *l = call->results[0], *turned = stacks_t(&c, l);
  moon_tensor *product = stacks_times(&c, turned, call->grads[0]);
  moon_tensor *line = COMPOSE(&c, diagonal, op_tensor(product), op_int(0), op_int(-2), op_int(-1));
  moon_tensor *half = COMPOSE(&c, diag_embed, op_tensor(compose_scale(&c, line, 0.5)));
  moon_tensor *p = minus(&c, COMPOSE(&c, tril, op_tensor(product)), half);
  moon_tensor *left = stacks_solve_triangle(&c, turned, p, true);
  moon_tensor *s = stacks_solve_triangle(&c, turned, stacks_t(&c, left), true);   // s^T
  moon_tensor *dx = compose_scale(&c, plus(&c, s, stacks_t(&c, s)), 0.5);
  return compose_close(&c, dx, &call->out[0]);
}

// -- qr

static moon_status forward_qr(op_call *call) {
  enum { Q, R };
  moon_tensor *x = call->args[0].tensor, *a;
  MOON_TRY(stacks_need("input", x));
  int64_t k = smaller_side(x), q[2] = { stacks_rows(x), k }, r[2] = { k, stacks_columns(x) };
  MOON_TRY(stacks_new(call->engine, x, 2, q, &call->results[Q]));
  MOON_TRY(stacks_new(call->engine, x, 2, r, &call->results[R]));
  if (tensor_count(x) == 0) return MOON_OK;
  MOON_TRY(ops_contiguous(call->engine, x, &a));
  device_array in = stacks_array(a, 2), first = stacks_array(call->results[Q], 2);
  device_array second = stacks_array(call->results[R], 2);
  moon_status status = tensor_kernels(x)->qr(call->engine, &in, &first, &second);
  tensor_release(a);
  return status;
}

// For m >= n, with m = r gr^T - gq^T q: dx = (gq + q copy(m)) r^-T, where copy() puts the lower
// triangle also above the diagonal.
static moon_tensor *tall_qr(compose *c, moon_tensor *q, moon_tensor *r, moon_tensor *gq,
                            moon_tensor *gr) {
  moon_tensor *m = gr ? stacks_times(c, r, stacks_t(c, gr)) : NULL;
  if (gq) {
    moon_tensor *other = stacks_times(c, stacks_t(c, gq), q);
    m = m ? minus(c, m, other) : COMPOSE(c, neg, op_tensor(other));
  }
  moon_tensor *strict = COMPOSE(c, tril, op_tensor(m), op_int(-1));
  moon_tensor *copy = plus(c, COMPOSE(c, tril, op_tensor(m)), stacks_t(c, strict));
  moon_tensor *sum = plus(c, gq, stacks_times(c, q, copy));
  return stacks_t(c, stacks_solve_triangle(c, r, stacks_t(c, sum), true));
}

static moon_tensor *columns(compose *c, moon_tensor *x, int64_t from, int64_t count) {
  return x ? COMPOSE(c, narrow, op_tensor(x), op_int(-1), op_int(from), op_int(count)) : NULL;
}

// For m < n, x = (y, z) with y square: y = q u, z = q v. So dz = q gv, and y's part as above with
// gq + z gv^T for gq.
static moon_status backward_qr(op_backward_call *call) {
  enum { Q, R };
  moon_tensor *q = call->results[Q], *r = call->results[R], *x = call->args[0].tensor;
  moon_tensor *gq = call->grads[Q], *gr = call->grads[R];
  int64_t m = stacks_rows(x), n = stacks_columns(x);
  compose c = compose_open(call->engine);
  if (tensor_count(x) == 0) return compose_close(&c, NULL, NULL);
  if (m >= n) return compose_close(&c, tall_qr(&c, q, r, gq, gr), &call->out[0]);
  moon_tensor *gv = columns(&c, gr, m, n - m), *z = columns(&c, x, m, n - m);
  if (gv) gq = plus(&c, gq, stacks_times(&c, z, stacks_t(&c, gv)));
  moon_tensor *dy = tall_qr(&c, q, columns(&c, r, 0, m), gq, columns(&c, gr, 0, m));
  const int64_t *shape = z ? z->shape : x->shape;
  moon_tensor *zeros = gv ? NULL : make_filled(&c, x, x->dtype, x->ndim, shape, 0);
  moon_tensor *parts[2] = { dy, gv ? stacks_times(&c, q, gv) : zeros };
  moon_tensor *dx =
      c.status == MOON_OK ? COMPOSE(&c, cat, op_tensors(parts, 2), op_int(x->ndim - 1)) : NULL;
  return compose_close(&c, dx, &call->out[0]);
}

// -- svd

enum { U, S, VH };

// eigh of symmetric matrices: values, and vectors in left; svd of others: left, values, right. left
// and right may be NULL.
static moon_status decompose(moon_engine *engine, moon_tensor *x, bool symmetric,
                             moon_tensor *left, moon_tensor *values, moon_tensor *right) {
  moon_tensor *a = NULL;
  stacks_info info;
  if (tensor_count(x) == 0) return MOON_OK;
  MOON_TRY(stacks_info_new(engine, x, &info));
  moon_status status = ops_contiguous(engine, x, &a);
  if (status == MOON_OK) {
    const device_kernels *kernels = tensor_kernels(x);
    device_array in = stacks_array(a, 2), first, middle = stacks_array(values, 1), last;
    device_array codes = tensor_array(info.tensor);
    if (left) first = stacks_array(left, 2);
    if (right) last = stacks_array(right, 2);
    status = symmetric ? kernels->eigh(engine, &in, &middle, left ? &first : NULL, &codes)
                       : kernels->svd(engine, &in, left ? &first : NULL, &middle,
                                      right ? &last : NULL, &codes);
  }
  if (status == MOON_OK) status = stacks_info_read(engine, &info);
  if (status == MOON_OK)
    status = not_finite(&info, symmetric ? "eigenvalue decomposition"
                                         : "singular value decomposition");
  tensor_release(a);
  stacks_info_release(&info);
  return status;
}

static moon_status forward_svd(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(stacks_need("input", x));
  int64_t k = smaller_side(x), u[2] = { stacks_rows(x), k }, vh[2] = { k, stacks_columns(x) };
  MOON_TRY(stacks_new(call->engine, x, 2, u, &call->results[U]));
  MOON_TRY(stacks_new(call->engine, x, 1, &k, &call->results[S]));
  MOON_TRY(stacks_new(call->engine, x, 2, vh, &call->results[VH]));
  return decompose(call->engine, x, false, call->results[U], call->results[S], call->results[VH]);
}

// 1 / (x_j - x_i), 0 on the diagonal.
static moon_tensor *gaps(compose *c, moon_tensor *x) {
  if (!x) return NULL;
  int64_t n = x->shape[x->ndim - 1];
  moon_tensor *apart = minus(c, stacks_row(c, x), stacks_column(c, x));
  moon_tensor *ones = make_filled(c, x, MOON_BOOL, 1, &n, 1);
  moon_tensor *own = COMPOSE(c, diag_embed, op_tensor(ones));
  moon_tensor *safe = COMPOSE(c, where, op_tensor(own), op_tensor(compose_number(c, x, 1)),
                              op_tensor(apart));
  return COMPOSE(c, where, op_tensor(own), op_tensor(compose_number(c, x, 0)),
                 op_tensor(COMPOSE(c, reciprocal, op_tensor(safe))));
}

// f * (v^T g - g^T v)
static moon_tensor *turning(compose *c, moon_tensor *f, moon_tensor *v, moon_tensor *g) {
  moon_tensor *product = stacks_times(c, stacks_t(c, v), g);
  return times_element(c, f, minus(c, product, stacks_t(c, product)));
}

// The part of g outside of v's columns.
static moon_tensor *outside(compose *c, moon_tensor *v, moon_tensor *g) {
  return minus(c, g, stacks_times(c, v, stacks_times(c, stacks_t(c, v), g)));
}

// dx = u (f * (u^T gu - gu^T u) s + s f * (v^T gv - gv^T v) + diag(gs)) vh
//      + (1 - u u^T) gu s^-1 vh + u s^-1 gv^T (1 - v v^T), f = 1 / (s_j^2 - s_i^2)
static moon_status backward_svd(op_backward_call *call) {
  moon_tensor *u = call->results[U], *s = call->results[S], *vh = call->results[VH];
  moon_tensor *gu = call->grads[U], *gs = call->grads[S], *gvh = call->grads[VH];
  const op_input *x = &call->inputs[0];
  int64_t m = x->shape[x->ndim - 2], n = x->shape[x->ndim - 1];
  compose c = compose_open(call->engine);
  moon_tensor *inner = gs ? COMPOSE(&c, diag_embed, op_tensor(gs)) : NULL, *rest = NULL;
  moon_tensor *row = stacks_row(&c, s), *column = stacks_column(&c, s);
  moon_tensor *f = gu || gvh ? gaps(&c, COMPOSE(&c, square, op_tensor(s))) : NULL;
  if (gu) {
    inner = plus(&c, inner, times_element(&c, turning(&c, f, u, gu), row));
    if (m > n) {
      moon_tensor *over = COMPOSE(&c, div, op_tensor(outside(&c, u, gu)), op_tensor(row));
      rest = stacks_times(&c, over, vh);
    }
  }
  if (gvh) {
    moon_tensor *v = stacks_t(&c, vh), *gv = stacks_t(&c, gvh);
    inner = plus(&c, inner, times_element(&c, turning(&c, f, v, gv), column));
    if (n > m) {
      moon_tensor *over = COMPOSE(&c, div, op_tensor(stacks_t(&c, outside(&c, v, gv))),
                                  op_tensor(column));
      rest = plus(&c, rest, stacks_times(&c, u, over));
    }
  }
  if (!inner) return compose_close(&c, NULL, NULL);
  moon_tensor *dx = stacks_times(&c, stacks_times(&c, u, inner), vh);
  return compose_close(&c, plus(&c, dx, rest), &call->out[0]);
}

// Without a gradient the vectors are not calculated.
static moon_status forward_svdvals(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *more[OP_MAX_RESULTS - 1];
  MOON_TRY(stacks_need("input", x));
  int64_t k = smaller_side(x);
  if (!call->recording) {
    MOON_TRY(stacks_new(call->engine, x, 1, &k, &call->results[0]));
    return decompose(call->engine, x, false, NULL, call->results[0], NULL);
  }
  compose c = compose_open(call->engine);
  (void)COMPOSE_MORE(&c, more, svd, op_tensor(x));
  return compose_close(&c, more[0], &call->results[0]);
}

// -- eigh

enum { VALUES, VECTORS };

static moon_status forward_eigh(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(stacks_need_square("input", x));
  MOON_TRY(stacks_new(call->engine, x, 1, &x->shape[x->ndim - 1], &call->results[VALUES]));
  MOON_TRY(ops_new(call->engine, x, x->dtype, x->ndim, x->shape, &call->results[VECTORS]));
  return decompose(call->engine, x, true, call->results[VECTORS], call->results[VALUES], NULL);
}

// dx = v (f * (v^T gv) + diag(gw)) v^T, f = 1 / (w_j - w_i)
static moon_status backward_eigh(op_backward_call *call) {
  moon_tensor *w = call->results[VALUES], *v = call->results[VECTORS];
  moon_tensor *gw = call->grads[VALUES], *gv = call->grads[VECTORS];
  compose c = compose_open(call->engine);
  moon_tensor *inner = gw ? COMPOSE(&c, diag_embed, op_tensor(gw)) : NULL;
  moon_tensor *turned = stacks_t(&c, v);
  if (gv) {
    moon_tensor *product = stacks_times(&c, turned, gv);
    inner = plus(&c, inner, times_element(&c, gaps(&c, w), product));
  }
  if (!inner) return compose_close(&c, NULL, NULL);
  moon_tensor *dx = stacks_times(&c, stacks_times(&c, v, inner), turned);
  return compose_close(&c, dx, &call->out[0]);
}

static moon_status forward_eigvalsh(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(stacks_need_square("input", x));
  if (!call->recording) {
    MOON_TRY(stacks_new(call->engine, x, 1, &x->shape[x->ndim - 1], &call->results[0]));
    return decompose(call->engine, x, true, NULL, call->results[0], NULL);
  }
  compose c = compose_open(call->engine);
  return compose_close(&c, COMPOSE(&c, eigh, op_tensor(x)), &call->results[0]);
}

#define WIDE " Float32 and float64, by LAPACK."

static op_descriptor descriptors[] = {
  { .name = "cholesky", .dtypes = OP_REALS, .saves = "out", .schema = "(input: Tensor) -> out",
    .doc = "The lower triangular l with l l^T = input, for symmetric positive definite matrices "
           "(..., n, n), of which only the lower triangle is read. Another matrix is an error that "
           "says which. The gradient is symmetric (Giles 2008, Murray 2016)." WIDE,
    .example = "moon.tensor{{4, 2}, {2, 5}}:cholesky() --> {{2, 0}, {1, 2}}",
    .forward = forward_cholesky, .backward = backward_cholesky },
  { .name = "qr", .dtypes = OP_REALS, .saves = "input q r", .schema = "(input: Tensor) -> q, r",
    .doc = "q with orthonormal columns and upper triangular r, q r = input: (..., m, n) gives "
           "(..., m, k) and (..., k, n), k the smaller side. Signs are LAPACK's. The gradient "
           "needs full rank (Walter and Lehmann 2010)." WIDE,
    .example = "local q, r = moon.tensor{{0, 2}, {1, 0}}:qr()\n"
               "q:mm(r) --> {{0, 2}, {1, 0}}",
    .forward = forward_qr, .backward = backward_qr },
  { .name = "svd", .dtypes = OP_REALS, .saves = "u s vh",
    .schema = "(input: Tensor) -> u, s, vh",
    .doc = "Singular value decomposition, input = u diag(s) vh: (..., m, n) gives (..., m, k), "
           "(..., k) descending and (..., k, n), k the smaller side. The vectors are given up to "
           "signs; gradients through them need different singular values, and none of 0 where m "
           "and n differ (Townsend 2016)." WIDE,
    .example = "local u, s, vh = moon.tensor{{0, 3}, {2, 0}}:svd()\n"
               "s --> {3, 2}",
    .forward = forward_svd, .backward = backward_svd },
  { .name = "svdvals", .flags = OP_COMPOSITE, .dtypes = OP_REALS,
    .schema = "(input: Tensor) -> out",
    .doc = "The singular values of matrices, descending." WIDE,
    .example = "moon.tensor{{0, 3}, {2, 0}}:svdvals() --> {3, 2}", .forward = forward_svdvals },
  { .name = "eigh", .dtypes = OP_REALS, .saves = "values vectors",
    .schema = "(input: Tensor) -> values, vectors",
    .doc = "Eigenvalues of symmetric matrices (..., n, n), ascending, and eigenvectors in columns: "
           "input = vectors diag(values) vectors^T. Only the lower triangle is read. Vectors are "
           "given up to signs; gradients through them need different eigenvalues (Giles 2008)."
           WIDE,
    .example = "moon.tensor{{2, 1}, {1, 2}}:eigh() --> {1, 3}",
    .forward = forward_eigh, .backward = backward_eigh },
  { .name = "eigvalsh", .flags = OP_COMPOSITE, .dtypes = OP_REALS,
    .schema = "(input: Tensor) -> out",
    .doc = "The eigenvalues of symmetric matrices, ascending." WIDE,
    .example = "moon.tensor{{2, 1}, {1, 2}}:eigvalsh() --> {1, 3}", .forward = forward_eigvalsh },
};

OP_FAMILY(decompositions, descriptors);
