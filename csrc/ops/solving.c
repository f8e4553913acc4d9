// Linear equations: solving, inverses, determinants, least squares, pseudo-inverses, powers. The
// hidden operators work on stacks of one batch shape; the users' broadcast and take vectors.
// Gradients: Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
// differentiation", 2008. They are made of the operators themselves and so have every order.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/stacks.h"

enum { A, B };

// -- a x = b on stacks of one batch shape (hidden): general, and triangular

enum { UPPER = 2, UNIT };

static moon_status singular(const stacks_info *info) {
  if (info->code == 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s is singular: pivot %" PRId64 " is 0", info->which,
                   info->code);
}

static moon_status run_solve(op_call *call, const moon_tensor *a, const moon_tensor *b,
                             stacks_info *info) {
  const device_kernels *kernels = tensor_kernels(a);
  device_array x = stacks_array(a, 2), y = stacks_array(b, 2);
  device_array out = stacks_array(call->results[0], 2), codes = tensor_array(info->tensor);
  if (array_count(&out) == 0) return MOON_OK;
  if (call->op->row == 0) MOON_TRY(kernels->solve(call->engine, &x, &y, &out, &codes));
  else MOON_TRY(kernels->solve_triangular(call->engine, call->args[UPPER].boolean,
                                          call->args[UNIT].boolean, &x, &y, &out, &codes));
  MOON_TRY(stacks_info_read(call->engine, info));
  return singular(info);
}

// Row 0: general, 1: triangular.
static moon_status forward_stack(op_call *call) {
  moon_tensor *a = NULL, *b = NULL, *right = call->args[B].tensor;
  stacks_info info;
  MOON_TRY(ops_new(call->engine, right, right->dtype, right->ndim, right->shape,
                   &call->results[0]));
  MOON_TRY(stacks_info_new(call->engine, call->args[A].tensor, &info));
  moon_status status = ops_contiguous(call->engine, call->args[A].tensor, &a);
  if (status == MOON_OK) status = ops_contiguous(call->engine, right, &b);
  if (status == MOON_OK) status = run_solve(call, a, b, &info);
  tensor_release(a);
  tensor_release(b);
  stacks_info_release(&info);
  return status;
}

// The triangle that was read.
static moon_tensor *triangle_of(compose *c, moon_tensor *x, bool upper, bool unit) {
  if (upper) return COMPOSE(c, triu, op_tensor(x), op_int(unit));
  return COMPOSE(c, tril, op_tensor(x), op_int(-unit));
}

// db = a^-T g; da = -db x^T
static moon_status backward_stack(op_backward_call *call) {
  bool triangular = call->op->row == 1;
  bool upper = triangular && call->args[UPPER].boolean;
  bool unit = triangular && call->args[UNIT].boolean;
  compose c = compose_open(call->engine);
  moon_tensor *turned = stacks_t(&c, call->args[A].tensor);
  moon_tensor *db = triangular ? COMPOSE(&c, solve_triangular_stack, op_tensor(turned),
                                         op_tensor(call->grads[0]), op_bool(!upper), op_bool(unit))
                               : COMPOSE(&c, solve_stack, op_tensor(turned),
                                         op_tensor(call->grads[0]));
  if (call->needs[B]) compose_keep(&c, db, &call->out[B]);
  if (!call->needs[A]) return compose_close(&c, NULL, NULL);
  moon_tensor *da = stacks_times(&c, db, stacks_t(&c, call->results[0]));
  da = COMPOSE(&c, neg, op_tensor(da));
  if (triangular) da = triangle_of(&c, da, upper, unit);
  return compose_close(&c, da, &call->out[A]);
}

// -- the users' forms

// Whether b is a vector (or a stack of vectors, one for each matrix) for a, and the batch shape of
// both.
typedef enum vectors { NO_VECTORS, ONE_VECTOR, STACKS_OF_VECTORS } vectors;
typedef struct pair { bool vector; int ndim; int64_t batch[MOON_MAX_DIMS]; } pair;

static bool is_vector(const moon_tensor *a, const moon_tensor *b, bool stacks) {
  if (b->ndim == 1) return true;
  if (!stacks || b->ndim != a->ndim - 1) return false;
  for (int i = 0; i < b->ndim; i++)
    if (b->shape[i] != a->shape[i]) return false;
  return true;
}

static moon_status read_pair(const moon_tensor *a, const moon_tensor *b, int64_t size,
                             vectors taken, pair *p) {
  char x[TENSOR_SHAPE_TEXT], y[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  p->vector = taken != NO_VECTORS && is_vector(a, b, taken == STACKS_OF_VECTORS);
  int skip = p->vector ? 1 : 2;
  if (b->ndim < skip || b->shape[b->ndim - skip] != size)
    return moon_fail(MOON_BAD_SHAPE, "a %s and b %s do not match: b must have %" PRId64 " rows",
                     tensor_shape_text(a, x), tensor_shape_text(b, y), size);
  if (shape_broadcast(a->ndim - 2, a->shape, b->ndim - skip, b->shape, &p->ndim, p->batch) ==
      MOON_OK)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "the batch dimensions of a %s and b %s do not broadcast",
                   tensor_shape_text(a, x), tensor_shape_text(b, y));
}

// x with the pair's batch dimensions.
static moon_tensor *spread(compose *c, moon_tensor *x, const pair *p) {
  int64_t shape[MOON_MAX_DIMS];
  if (!x) return NULL;
  bool same = x->ndim == p->ndim + 2;
  for (int i = 0; same && i < p->ndim; i++) same = x->shape[i] == p->batch[i];
  if (same) return x;
  memcpy(shape, p->batch, sizeof shape);
  shape[p->ndim] = stacks_rows(x);
  shape[p->ndim + 1] = stacks_columns(x);
  return COMPOSE(c, expand, op_tensor(x), op_ints(p->ndim + 2, shape));
}

static moon_tensor *open_vector(compose *c, moon_tensor *b, const pair *p) {
  return p->vector ? stacks_column(c, b) : b;
}
static moon_tensor *close_vector(compose *c, moon_tensor *x, const pair *p) {
  return p->vector ? COMPOSE(c, squeeze, op_tensor(x), op_int(-1)) : x;
}

static moon_status forward_solve(op_call *call) {
  moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor;
  pair p;
  MOON_TRY(stacks_need_square("a", a));
  MOON_TRY(read_pair(a, b, stacks_rows(a), STACKS_OF_VECTORS, &p));
  compose c = compose_open(call->engine);
  b = open_vector(&c, b, &p);
  moon_tensor *x = COMPOSE(&c, solve_stack, op_tensor(spread(&c, a, &p)),
                           op_tensor(spread(&c, b, &p)));
  return compose_close(&c, close_vector(&c, x, &p), &call->results[0]);
}

static moon_status forward_solve_triangular(op_call *call) {
  moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor;
  enum { WITH_UPPER = 2, LEFT, WITH_UNIT };
  bool left = call->args[LEFT].boolean, upper = call->args[WITH_UPPER].boolean;
  char text[TENSOR_SHAPE_TEXT];
  pair p;
  MOON_TRY(stacks_need_square("a", a));
  if (!left && (b->ndim < 2 || stacks_columns(b) != stacks_rows(a)))
    return moon_fail(MOON_BAD_SHAPE, "b must have %" PRId64 " columns, got %s", stacks_rows(a),
                     tensor_shape_text(b, text));
  if (left) MOON_TRY(read_pair(a, b, stacks_rows(a), ONE_VECTOR, &p));
  compose c = compose_open(call->engine);
  if (!left) {   // x a = b is a^T x^T = b^T
    a = stacks_t(&c, a), b = stacks_t(&c, b), upper = !upper;
    if (c.status == MOON_OK) compose_check(&c, read_pair(a, b, stacks_rows(a), NO_VECTORS, &p));
    if (c.status != MOON_OK) return compose_close(&c, NULL, NULL);
  } else {
    b = open_vector(&c, b, &p);
  }
  moon_tensor *x = COMPOSE(&c, solve_triangular_stack, op_tensor(spread(&c, a, &p)),
                           op_tensor(spread(&c, b, &p)), op_bool(upper), call->args[WITH_UNIT]);
  x = left ? close_vector(&c, x, &p) : stacks_t(&c, x);
  return compose_close(&c, x, &call->results[0]);
}

static moon_status forward_inverse(op_call *call) {
  moon_tensor *a = call->args[0].tensor;
  MOON_TRY(stacks_need_square("input", a));
  compose c = compose_open(call->engine);
  moon_tensor *one = stacks_identity(&c, a, stacks_rows(a));
  moon_tensor *all = COMPOSE(&c, expand, op_tensor(one), op_ints(a->ndim, a->shape));
  moon_tensor *x = COMPOSE(&c, solve_stack, op_tensor(a), op_tensor(all));
  return compose_close(&c, x, &call->results[0]);
}

// -- determinants: det, sign and log |det| of a stack (hidden), and users' operators on top

enum { DET, SIGN, LOG };

static moon_status forward_determinants(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *a;
  for (int k = DET; k <= LOG; k++)
    MOON_TRY(stacks_new(call->engine, x, 0, NULL, &call->results[k]));
  if (stacks_rows(x) == 0) {   // the product of nothing
    for (int k = DET; k <= LOG; k++) {
      device_array all = tensor_array(call->results[k]);
      MOON_TRY(tensor_kernels(x)->fill(call->engine, k == LOG ? 0 : 1, &all));
    }
    return MOON_OK;
  }
  if (tensor_count(x) == 0) return MOON_OK;
  MOON_TRY(ops_contiguous(call->engine, x, &a));
  device_array in = stacks_array(a, 2), out[3];
  for (int k = DET; k <= LOG; k++) out[k] = stacks_array(call->results[k], 0);
  moon_status status =
      tensor_kernels(x)->determinant(call->engine, &in, &out[DET], &out[SIGN], &out[LOG]);
  tensor_release(a);
  return status;
}

// (..., n): the product of all but the i-th along the last dimension.
static moon_tensor *products_of_others(compose *c, moon_tensor *s) {
  if (!s) return NULL;
  int64_t n = s->shape[s->ndim - 1], last = -1;
  moon_tensor *one = make_filled(c, s, MOON_BOOL, 1, &n, 1);
  moon_tensor *own = COMPOSE(c, diag_embed, op_tensor(one));
  moon_tensor *others = COMPOSE(c, where, op_tensor(own), op_tensor(compose_number(c, s, 1)),
                                op_tensor(stacks_row(c, s)));
  return COMPOSE(c, prod, op_tensor(others), op_ints(1, &last));
}

// The transposed adjugate: det(a) a^-T, also where a is singular: with a = u diag(s) vh it is
// det(u vh) u diag(products of the other s) vh.
static moon_tensor *cofactors(compose *c, moon_tensor *a) {
  moon_tensor *more[OP_MAX_RESULTS - 1];
  moon_tensor *u = COMPOSE_MORE(c, more, svd, op_tensor(a));
  moon_tensor *vh = more[1], *turn = COMPOSE(c, det, op_tensor(stacks_times(c, u, vh)));
  moon_tensor *others = products_of_others(c, more[0]);
  moon_tensor *scaled = COMPOSE(c, mul, op_tensor(u), op_tensor(stacks_row(c, others)));
  moon_tensor *product = stacks_times(c, scaled, vh);
  return COMPOSE(c, mul, op_tensor(product), op_tensor(stacks_column(c, stacks_column(c, turn))));
}

// Whether some determinant is exactly 0; asked on the host.
static bool any_zero(compose *c, moon_tensor *det) {
  double count = 0;
  bool enabled = c->engine->grad_enabled;
  c->engine->grad_enabled = false;
  moon_tensor *zero = COMPOSE(c, eq, op_tensor(det), op_tensor(compose_number(c, det, 0)));
  moon_tensor *sum = COMPOSE(c, sum, op_tensor(zero));
  c->engine->grad_enabled = enabled;
  if (sum) compose_check(c, make_read(c->engine, sum, &count));
  return count > 0;
}

// d det = det tr(a^-1 da); d log |det| = tr(a^-1 da)
static moon_status backward_determinants(op_backward_call *call) {
  moon_tensor *a = call->args[0].tensor, *det = call->results[DET], *da = NULL;
  compose c = compose_open(call->engine);
  bool flat = call->grads[DET] && any_zero(&c, det);
  if (flat) {
    moon_tensor *g = stacks_column(&c, stacks_column(&c, call->grads[DET]));
    da = COMPOSE(&c, mul, op_tensor(cofactors(&c, a)), op_tensor(g));
  }
  moon_tensor *g = call->grads[DET] && !flat
                       ? COMPOSE(&c, mul, op_tensor(call->grads[DET]), op_tensor(det))
                       : NULL;
  if (call->grads[LOG])
    g = g ? COMPOSE(&c, add, op_tensor(g), op_tensor(call->grads[LOG])) : call->grads[LOG];
  if (g && c.status == MOON_OK) {
    moon_tensor *inverse = COMPOSE(&c, inverse, op_tensor(a));
    moon_tensor *factor = stacks_column(&c, stacks_column(&c, g));
    moon_tensor *part = COMPOSE(&c, mul, op_tensor(stacks_t(&c, inverse)), op_tensor(factor));
    da = da ? COMPOSE(&c, add, op_tensor(da), op_tensor(part)) : part;
  }
  return compose_close(&c, da, &call->out[0]);
}

static moon_status forward_det(op_call *call) {
  MOON_TRY(stacks_need_square("input", call->args[0].tensor));
  compose c = compose_open(call->engine);
  return compose_close(&c, COMPOSE(&c, determinants, call->args[0]), &call->results[0]);
}

static moon_status forward_slogdet(op_call *call) {
  moon_tensor *more[OP_MAX_RESULTS - 1];
  MOON_TRY(stacks_need_square("input", call->args[0].tensor));
  compose c = compose_open(call->engine);
  (void)COMPOSE_MORE(&c, more, determinants, call->args[0]);
  compose_keep(&c, more[SIGN - 1], &call->results[0]);
  compose_keep(&c, more[LOG - 1], &call->results[1]);
  return compose_close(&c, NULL, NULL);
}

// -- least squares, pseudo-inverse, rank, powers

// Through qr: tall a = qr gives r x = q^T b; wide a^T = qr gives x = q r^-T b, the shortest.
static moon_status forward_lstsq(op_call *call) {
  moon_tensor *a = call->args[A].tensor, *b = call->args[B].tensor, *more[OP_MAX_RESULTS - 1], *x;
  pair p;
  MOON_TRY(stacks_need("a", a));
  MOON_TRY(read_pair(a, b, stacks_rows(a), STACKS_OF_VECTORS, &p));
  bool tall = stacks_rows(a) >= stacks_columns(a);
  compose c = compose_open(call->engine);
  moon_tensor *q = COMPOSE_MORE(&c, more, qr, op_tensor(tall ? a : stacks_t(&c, a)));
  moon_tensor *r = spread(&c, more[0], &p);
  b = spread(&c, open_vector(&c, b, &p), &p);
  if (tall) x = stacks_solve_triangle(&c, r, stacks_times(&c, stacks_t(&c, q), b), true);
  else x = stacks_times(&c, q, stacks_solve_triangle(&c, stacks_t(&c, r), b, false));
  return compose_close(&c, close_vector(&c, x, &p), &call->results[0]);
}

// Which singular values count: those above tolerance, or rtol times the largest.
static moon_tensor *counted(compose *c, moon_tensor *s, const moon_tensor *x,
                            const op_value *rtol) {
  double side = (double)(stacks_rows(x) > stacks_columns(x) ? stacks_rows(x) : stacks_columns(x));
  double eps = x->dtype == MOON_F64 ? 0x1p-52 : 0x1p-23;
  double part = rtol->given ? rtol->number : side * eps;
  int64_t last = -1;
  if (!s) return NULL;
  if (s->shape[s->ndim - 1] == 0) return COMPOSE(c, gt, op_tensor(s), op_tensor(s));
  moon_tensor *most = COMPOSE(c, amax, op_tensor(s), op_ints(1, &last), op_bool(true));
  return COMPOSE(c, gt, op_tensor(s), op_tensor(compose_scale(c, most, part)));
}

static moon_status check_rtol(const op_value *rtol) {
  if (!rtol->given || rtol->number >= 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "rtol must not be negative, got %g", rtol->number);
}

static moon_status forward_pinv(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *more[OP_MAX_RESULTS - 1];
  MOON_TRY(stacks_need("input", x));
  MOON_TRY(check_rtol(&call->args[1]));
  compose c = compose_open(call->engine);
  moon_tensor *u = COMPOSE_MORE(&c, more, svd, op_tensor(x)), *s = more[0], *vh = more[1];
  moon_tensor *keep = counted(&c, s, x, &call->args[1]);
  moon_tensor *safe = COMPOSE(&c, where, op_tensor(keep), op_tensor(s),
                              op_tensor(compose_number(&c, x, 1)));
  moon_tensor *over = COMPOSE(&c, where, op_tensor(keep),
                              op_tensor(COMPOSE(&c, reciprocal, op_tensor(safe))),
                              op_tensor(compose_number(&c, x, 0)));
  moon_tensor *v = COMPOSE(&c, mul, op_tensor(stacks_t(&c, vh)), op_tensor(stacks_row(&c, over)));
  return compose_close(&c, stacks_times(&c, v, stacks_t(&c, u)), &call->results[0]);
}

static moon_status forward_matrix_rank(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int64_t last = -1;
  MOON_TRY(stacks_need("input", x));
  MOON_TRY(check_rtol(&call->args[1]));
  bool enabled = call->engine->grad_enabled;
  call->engine->grad_enabled = false;
  compose c = compose_open(call->engine);
  moon_tensor *s = COMPOSE(&c, svdvals, op_tensor(x));
  moon_tensor *keep = counted(&c, s, x, &call->args[1]);
  moon_tensor *rank = COMPOSE(&c, sum, op_tensor(keep), op_ints(1, &last));
  moon_status status = compose_close(&c, rank, &call->results[0]);
  call->engine->grad_enabled = enabled;
  return status;
}

static moon_status forward_matrix_power(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *power = NULL;
  int64_t n = call->args[1].integer;
  if (n < 0) MOON_TRY(stacks_need_square("input", x));
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim < 2 || stacks_rows(x) != stacks_columns(x)) return stacks_need_square("input", x);
  compose c = compose_open(call->engine);
  if (n < 0) x = COMPOSE(&c, inverse, op_tensor(x));
  for (uint64_t left = n < 0 ? -(uint64_t)n : (uint64_t)n; left > 0; left /= 2) {
    if (left % 2 == 1) power = power ? stacks_times(&c, power, x) : x;
    if (left > 1) x = stacks_times(&c, x, x);
  }
  if (n == 0 && x) {
    moon_tensor *one = stacks_identity(&c, x, stacks_rows(x));
    power = COMPOSE(&c, expand, op_tensor(one), op_ints(x->ndim, x->shape));
  }
  if (n == 0 || n == 1) power = COMPOSE(&c, clone, op_tensor(power));
  return compose_close(&c, power, &call->results[0]);
}

#define WIDE " Float32 and float64, by LAPACK."
#define MADE .flags = OP_COMPOSITE, .dtypes = OP_REALS

static op_descriptor descriptors[] = {
  { .name = "solve_stack", .flags = OP_HIDDEN, .saves = "a out@a", .row = 0,
    .schema = "(a: Tensor, b: Tensor) -> out",
    .doc = "a^-1 b for stacks of one batch shape.",
    .forward = forward_stack, .backward = backward_stack },
  { .name = "solve_triangular_stack", .flags = OP_HIDDEN, .saves = "a out@a", .row = 1,
    .schema = "(a: Tensor, b: Tensor, upper: bool, unit: bool) -> out",
    .doc = "a^-1 b for stacks of one batch shape, a a triangle.",
    .forward = forward_stack, .backward = backward_stack },
  { .name = "determinants", .flags = OP_HIDDEN, .saves = "input det",
    .schema = "(input: Tensor) -> det, sign, log",
    .doc = "The determinant, its sign and the logarithm of its size.",
    .forward = forward_determinants, .backward = backward_determinants },
  { .name = "solve", MADE, .schema = "(a: Tensor, b: Tensor) -> out",
    .doc = "The x with a x = b for square matrices a (..., n, n) and b (..., n, k), or vectors b "
           "(..., n); batch dimensions broadcast. A singular matrix is an error that says which."
           WIDE " Gradient: db = a^-T g, da = -db x^T (Giles 2008).",
    .example = "moon.tensor{{2, 0}, {0, 4}}:solve(moon.tensor{2, 8}) --> {1, 2}",
    .forward = forward_solve },
  { .name = "solve_triangular", MADE,
    .schema = "(a: Tensor, b: Tensor, upper: bool, left: bool = true, unitriangular: bool = false)"
              " -> out",
    .doc = "The x with a x = b (or x a = b where not left) for triangular matrices a (..., n, n): "
           "only that triangle is read, and with unitriangular its diagonal counts as ones." WIDE,
    .example = "moon.tensor{{2, 0}, {1, 1}}:solve_triangular(moon.tensor{2, 3}, false) --> {1, 2}",
    .forward = forward_solve_triangular },
  { .name = "inverse", MADE, .schema = "(input: Tensor) -> out",
    .doc = "The inverse of square matrices (..., n, n). A singular matrix is an error that says "
           "which; to solve equations, solve is better." WIDE
           " Gradient: -y^T g y^T (Giles 2008).",
    .example = "moon.tensor{{2, 0}, {0, 4}}:inverse() --> {{0.5, 0}, {0, 0.25}}",
    .forward = forward_inverse },
  { .name = "det", MADE, .schema = "(input: Tensor) -> out",
    .doc = "The determinant of square matrices (..., n, n). Its gradient is right for singular "
           "matrices too; there, that gradient's own gradient needs different singular values."
           WIDE,
    .example = "moon.tensor{{1, 2}, {3, 4}}:det() --> -2", .forward = forward_det },
  { .name = "slogdet", MADE, .schema = "(input: Tensor) -> sign, logabsdet",
    .doc = "The sign of the determinant of square matrices and the logarithm of its size, without "
           "overflow; 0 and -inf for a singular one, where there is no gradient." WIDE,
    .example = "moon.tensor{{0, 1}, {1, 0}}:slogdet() --> -1", .forward = forward_slogdet },
  { .name = "lstsq", MADE, .schema = "(a: Tensor, b: Tensor) -> out",
    .doc = "The x that makes |a x - b| smallest, for a (..., m, n) of full rank and b (..., m, k) "
           "or vectors (..., m); of several, the shortest. By qr; a rank that is too low is an "
           "error." WIDE,
    .example = "moon.tensor{{1, 0}, {1, 1}, {1, 2}}:lstsq(moon.tensor{1, 3, 5}) --> {1, 2}",
    .forward = forward_lstsq },
  { .name = "pinv", MADE, .schema = "(input: Tensor, rtol: number?) -> out",
    .doc = "The pseudo-inverse (Moore and Penrose) of matrices (..., m, n), by svd: singular "
           "values up to rtol (max(m, n) times the type's precision if left out) times the largest "
           "count as 0. The gradient needs different singular values." WIDE,
    .example = "moon.tensor{{2, 0}, {0, 0}}:pinv() --> {{0.5, 0}, {0, 0}}",
    .forward = forward_pinv },
  { .name = "matrix_rank", .flags = OP_COMPOSITE | OP_CONSTANT, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, rtol: number?) -> out",
    .doc = "How many singular values of matrices (..., m, n) are above rtol (max(m, n) times the "
           "type's precision if left out) times the largest (int64)." WIDE,
    .example = "moon.tensor{{1, 2}, {2, 4}}:matrix_rank() --> 1", .forward = forward_matrix_rank },
  { .name = "matrix_power", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, n: int) -> out",
    .doc = "The n-th power of square matrices by repeated squaring; negative powers are those of "
           "the inverse, power 0 is the identity.",
    .example = "moon.tensor{{1, 1}, {0, 1}}:matrix_power(5) --> {{1, 5}, {0, 1}}",
    .forward = forward_matrix_power },
};

OP_FAMILY(solving, descriptors);
