// Scaling by a norm: vectors to length 1 (normalize) or to a limit (renorm), and the two
// reparametrisations of weights that divide by a norm, weight_norm and spectral_norm.
#include <inttypes.h>
#include <math.h>

#include "ops/compose.h"
#include "ops/target.h"

static moon_status check_p(double p) {
  if (p > 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "p must be positive, got %g", p);
}

// Half types are worked on in float32, where norms neither overflow nor lose a small eps.
static moon_tensor *widen(compose *c, moon_tensor *x) {
  return dtype_is_half(x->dtype) ? COMPOSE(c, cast, op_tensor(x), op_dtype(MOON_F32)) : x;
}

static moon_tensor *narrow_to(compose *c, moon_tensor *x, moon_dtype dtype) {
  return dtype_is_half(dtype) ? COMPOSE(c, cast, op_tensor(x), op_dtype(dtype)) : x;
}

// All dimensions but one, as a list; `without` -1: all.
static op_value dims_without(int ndim, int without) {
  int64_t dims[MOON_MAX_DIMS];
  int count = 0;
  for (int i = 0; i < ndim; i++)
    if (i != without) dims[count++] = i;
  return op_ints(count, dims);
}

// The norm over all dimensions but `keep`, with size 1 there. A tensor of that one dimension has a
// norm for each element, its size.
static moon_tensor *norm_without(compose *c, moon_tensor *x, double p, int keep) {
  op_value dims = dims_without(x->ndim, keep);
  if (keep >= 0 && x->ndim == 1) return COMPOSE(c, abs, op_tensor(x));
  return COMPOSE(c, norm, op_tensor(x), op_number(p), dims, op_bool(true));
}

// -- normalize

static moon_status forward_normalize(op_call *call) {
  enum { INPUT, P, DIM, EPS };
  moon_tensor *input = call->args[INPUT].tensor;
  double p = call->args[P].number, eps = call->args[EPS].number;
  int dim;
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(check_p(p));
  MOON_TRY(shape_dim(input->ndim, call->args[DIM].integer, &dim));
  if (!(eps >= 0)) return moon_fail(MOON_BAD_ARGUMENT, "eps must not be negative, got %g", eps);
  if (tensor_count(input) == 0)   // the largest of nothing would be an error
    return OP_RUN(call->engine, ops_get(OP_clone), &call->results[0], op_tensor(input));
  compose c = compose_open(call->engine);
  moon_tensor *x = widen(&c, input);
  moon_tensor *length = COMPOSE(&c, norm, op_tensor(x), op_number(p),
                                op_ints(input->ndim > 0, (int64_t[]){ dim }), op_bool(true));
  length = COMPOSE(&c, clamp, op_tensor(length), op_number(eps), op_number(INFINITY));
  moon_tensor *y = COMPOSE(&c, div, op_tensor(x), op_tensor(length));
  return compose_close(&c, narrow_to(&c, y, input->dtype), &call->results[0]);
}

// -- renorm

static const double renorm_eps = 1e-7;   // PyTorch's; keeps a scaled slice just below the limit

static moon_status forward_renorm(op_call *call) {
  enum { INPUT, P, DIM, LIMIT };
  moon_tensor *input = call->args[INPUT].tensor;
  double p = call->args[P].number, limit = call->args[LIMIT].number;
  char text[TENSOR_SHAPE_TEXT];
  int dim;
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(check_p(p));
  if (input->ndim < 1)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least 1 dimension, got %s",
                     tensor_shape_text(input, text));
  MOON_TRY(shape_dim(input->ndim, call->args[DIM].integer, &dim));
  if (!(limit >= 0))
    return moon_fail(MOON_BAD_ARGUMENT, "maxnorm must not be negative, got %g", limit);
  if (tensor_count(input) == 0 || isinf(limit))
    return OP_RUN(call->engine, ops_get(OP_clone), &call->results[0], op_tensor(input));
  compose c = compose_open(call->engine);
  moon_tensor *x = widen(&c, input), *length = norm_without(&c, x, p, dim);
  moon_tensor *one = compose_number(&c, x, 1), *most = compose_number(&c, x, limit);
  moon_tensor *over = COMPOSE(&c, gt, op_tensor(length), op_tensor(most));
  moon_tensor *safe = compose_offset(&c, length, renorm_eps);
  moon_tensor *factor = COMPOSE(&c, div, op_tensor(most), op_tensor(safe));
  factor = COMPOSE(&c, where, op_tensor(over), op_tensor(factor), op_tensor(one));
  moon_tensor *y = COMPOSE(&c, mul, op_tensor(x), op_tensor(factor));
  return compose_close(&c, narrow_to(&c, y, input->dtype), &call->results[0]);
}

// -- weight_norm

enum { WN_V, WN_G, WN_DIM };

static moon_status check_magnitude(const moon_tensor *v, const moon_tensor *g, int keep) {
  char wanted[TENSOR_SHAPE_TEXT], got[TENSOR_SHAPE_TEXT];
  int64_t shape[MOON_MAX_DIMS];
  bool fits = g->ndim == v->ndim;
  for (int i = 0; i < v->ndim; i++) {
    shape[i] = i == keep ? v->shape[i] : 1;
    fits = fits && g->shape[i] == shape[i];
  }
  if (fits || (keep < 0 && g->ndim == 0)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "g must be %s, a norm for each slice of v, got %s",
                   shape_text(v->ndim, shape, wanted), tensor_shape_text(g, got));
}

static moon_status forward_weight_norm(op_call *call) {
  moon_tensor *v = call->args[WN_V].tensor, *g = call->args[WN_G].tensor;
  int keep = -1;
  MOON_TRY(ops_need_float("v", v));
  MOON_TRY(ops_need_same_dtype("v", v, "g", g));
  if (call->args[WN_DIM].given) MOON_TRY(shape_dim(v->ndim, call->args[WN_DIM].integer, &keep));
  if (v->ndim == 0) keep = -1;
  MOON_TRY(check_magnitude(v, g, keep));
  if (tensor_count(v) == 0)
    return OP_RUN(call->engine, ops_get(OP_clone), &call->results[0], op_tensor(v));
  compose c = compose_open(call->engine);
  moon_tensor *wide = widen(&c, v), *size = widen(&c, g);
  moon_tensor *length = norm_without(&c, wide, 2, keep);
  moon_tensor *factor = COMPOSE(&c, div, op_tensor(size), op_tensor(length));
  moon_tensor *y = COMPOSE(&c, mul, op_tensor(wide), op_tensor(factor));
  return compose_close(&c, narrow_to(&c, y, v->dtype), &call->results[0]);
}

// -- spectral_norm

enum { SN_WEIGHT, SN_U, SN_V, SN_DIM, SN_ITERATIONS, SN_EPS };
enum { MOST_ITERATIONS = 100000 };

static moon_status check_vector(const moon_tensor *weight, const moon_tensor *vector,
                                const char *name, int64_t size) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_same_dtype("weight", weight, name, vector));
  if (vector->ndim == 1 && vector->shape[0] == size) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have %" PRId64 " elements, got %s", name, size,
                   tensor_shape_text(vector, text));
}

static moon_status check_spectral(const op_value *args, int *dim) {
  const moon_tensor *weight = args[SN_WEIGHT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("weight", weight));
  if (weight->ndim < 2 || tensor_count(weight) == 0)
    return moon_fail(MOON_BAD_SHAPE, "weight must have at least 2 dimensions and elements, got %s",
                     tensor_shape_text(weight, text));
  MOON_TRY(shape_dim(weight->ndim, args[SN_DIM].integer, dim));
  MOON_TRY(check_vector(weight, args[SN_U].tensor, "u", weight->shape[*dim]));
  MOON_TRY(check_vector(weight, args[SN_V].tensor, "v",
                        tensor_count(weight) / weight->shape[*dim]));
  MOON_TRY(target_check(args[SN_U].tensor));
  MOON_TRY(target_check(args[SN_V].tensor));
  if (args[SN_ITERATIONS].integer < 0 || args[SN_ITERATIONS].integer > MOST_ITERATIONS)
    return moon_fail(MOON_BAD_ARGUMENT, "iterations must lie in 0..%d, got %" PRId64,
                     MOST_ITERATIONS, args[SN_ITERATIONS].integer);
  if (args[SN_EPS].number >= 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "eps must not be negative, got %g", args[SN_EPS].number);
}

// matrix x vector, to length 1
static moon_tensor *step(compose *c, moon_tensor *matrix, moon_tensor *vector, double eps) {
  moon_tensor *next = COMPOSE(c, matmul, op_tensor(matrix), op_tensor(vector));
  moon_tensor *length = COMPOSE(c, norm, op_tensor(next), op_number(2));
  length = COMPOSE(c, clamp, op_tensor(length), op_number(eps), op_number(INFINITY));
  return COMPOSE(c, div, op_tensor(next), op_tensor(length));
}

static void write_back(compose *c, moon_tensor *from, moon_tensor *to) {
  if (c->status != MOON_OK) return;
  compose_check(c, ops_copy(c->engine, from, to));
  tensor_touch(to);
  to->storage->last_writer = "spectral_norm";
}

// Power iteration, off the tape: *u and *v become fresh vectors, and the given ones move along.
static void iterate(compose *c, const op_value *args, moon_tensor *matrix, moon_tensor **u,
                    moon_tensor **v) {
  bool enabled = c->engine->grad_enabled;
  int64_t iterations = c->engine->recomputing ? 0 : args[SN_ITERATIONS].integer;
  c->engine->grad_enabled = false;
  *u = COMPOSE(c, clone, args[SN_U]);
  *v = COMPOSE(c, clone, args[SN_V]);
  moon_tensor *turned = COMPOSE(c, transpose, op_tensor(matrix), op_int(0), op_int(1));
  for (int64_t i = 0; i < iterations && c->status == MOON_OK; i++) {
    *v = step(c, turned, *u, args[SN_EPS].number);
    *u = step(c, matrix, *v, args[SN_EPS].number);
  }
  if (iterations > 0) {
    write_back(c, *u, args[SN_U].tensor);
    write_back(c, *v, args[SN_V].tensor);
  }
  c->engine->grad_enabled = enabled;
}

static moon_status forward_spectral_norm(op_call *call) {
  moon_tensor *weight = call->args[SN_WEIGHT].tensor, *u, *v;
  int dim;
  MOON_TRY(check_spectral(call->args, &dim));
  int64_t rows = weight->shape[dim], columns = tensor_count(weight) / rows;
  compose c = compose_open(call->engine);
  moon_tensor *matrix = weight;
  for (int i = dim; i > 0; i--)   // dim to the front, the others in their order
    matrix = COMPOSE(&c, transpose, op_tensor(matrix), op_int(i - 1), op_int(i));
  matrix = compose_reshape(&c, matrix, 2, (int64_t[]){ rows, columns });
  iterate(&c, call->args, matrix, &u, &v);
  moon_tensor *image = COMPOSE(&c, matmul, op_tensor(matrix), op_tensor(v));
  moon_tensor *sigma = COMPOSE(&c, matmul, op_tensor(u), op_tensor(image));
  moon_tensor *y = COMPOSE(&c, div, op_tensor(weight), op_tensor(sigma));
  return compose_close(&c, y, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "normalize", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, p: number = 2, dim: dim = 2, eps: number = 1e-12) -> out",
    .doc = "Divides each vector along dim by its p-norm, so that its length is 1. "
           "The result has input's shape: input / max(norm(input, p, dim), eps).",
    .example = "moon.normalize(moon.tensor { { 3, 4 }, { 0, 0 } }):mul(10):round() "
               "--> { { 6, 8 }, { 0, 0 } }",
    .forward = forward_normalize },
  { .name = "renorm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, p: number, dim: dim, maxnorm: number) -> out",
    .doc = "Scales down the slices along dim whose p-norm is above maxnorm, to that norm. "
           "A slice is all elements of one index of dim: x * maxnorm / (norm(x) + 1e-7) where "
           "norm(x) > maxnorm, else x. The constraint of max-norm regularisation (Srivastava et "
           "al. 2014).",
    .example = "moon.renorm(moon.tensor { { 3, 4 }, { 6, 8 } }, 2, 1, 5):round() "
               "--> { { 3, 4 }, { 3, 4 } }",
    .forward = forward_renorm },
  { .name = "weight_norm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(v: Tensor, g: Tensor, dim: dim?) -> out",
    .doc = "A weight of direction v and length g: g * v / |v|, the norm taken of each slice along "
           "dim, or of all of v without dim. g has v's shape with size 1 but along dim (Salimans "
           "and Kingma 2016).",
    .example = "moon.weight_norm(moon.tensor { { 3, 4 }, { 0, 2 } }, moon.tensor { { 10 }, { 1 } }"
               ", 1):round() --> { { 6, 8 }, { 0, 1 } }",
    .forward = forward_weight_norm },
  { .name = "spectral_norm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(weight: Tensor, u: Tensor, v: Tensor, dim: dim = 1, iterations: int = 1, "
              "eps: number = 1e-12) -> out",
    .doc = "weight divided by its largest singular value, as seen by the vectors u and v. "
           "weight counts as a matrix of dim by all the rest, u (rows) and v (columns); first u "
           "and v take `iterations` steps of power iteration, in place and off the tape: "
           "v = W' u / |W' u|, u = W v / |W v|; then weight / (u' W v) (Miyato et al. 2018).",
    .example = "moon.spectral_norm(moon.tensor { { 4, 0 }, { 0, 1 } }, moon.tensor { 1, 0 }, "
               "moon.tensor { 1, 0 }) --> { { 1, 0 }, { 0, 0.25 } }",
    .forward = forward_spectral_norm },
};
OP_FAMILY(scaling, descriptors);
