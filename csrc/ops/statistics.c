// Statistics by order and by counting: medians and quantiles (of sorted lines), histograms,
// covariances. A NaN among the elements makes every median and quantile of its line NaN: it sorts
// last, so one look at the last element tells.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/dims.h"
#include "ops/loss.h"
#include "ops/make.h"

enum { VALUES, INDICES };

static moon_tensor *one_of(compose *c, moon_tensor *sorted, int dim, int64_t at) {
  return COMPOSE(c, narrow, op_tensor(sorted), op_int(dim), op_int(at), op_int(1));
}

// Drops dimension dim (of size 1) unless it is kept.
static moon_tensor *settled(compose *c, moon_tensor *x, int dim, bool keepdim) {
  if (keepdim || !x || x->ndim == 0) return x;
  return COMPOSE(c, squeeze, op_tensor(x), op_int(dim));
}

static moon_status check_line(const moon_tensor *x, int dim) {
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim == 0 || x->shape[dim] > 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "dimension %d of input %s is empty, so there is no element to "
                   "choose", dim + 1, tensor_shape_text(x, text));
}

// -- kthvalue and median

// The element at place `at` (from 0) in order, and its position, for each line of dim; the NaN of a
// line instead where `nan_wins`.
static moon_tensor *pick(compose *c, moon_tensor *x, int dim, int64_t at, bool nan_wins,
                         moon_tensor **position) {
  moon_tensor *more[OP_MAX_RESULTS - 1];
  int64_t one = 1;
  if (x->ndim == 0) x = compose_reshape(c, x, 1, &one);
  if (!x) return NULL;
  int64_t n = x->shape[dim];
  moon_tensor *sorted = COMPOSE_MORE(c, more, sort, op_tensor(x), op_int(dim));
  moon_tensor *value = one_of(c, sorted, dim, at), *place = one_of(c, more[0], dim, at);
  if (nan_wins && dtype_is_float(x->dtype)) {
    moon_tensor *last = one_of(c, sorted, dim, n - 1);
    moon_tensor *is_nan = COMPOSE(c, isnan, op_tensor(last));
    value = COMPOSE(c, where, op_tensor(is_nan), op_tensor(last), op_tensor(value));
    place = COMPOSE(c, where, op_tensor(is_nan), op_tensor(one_of(c, more[0], dim, n - 1)),
                    op_tensor(place));
  }
  *position = place;
  return value;
}

static moon_status give_pick(op_call *call, moon_tensor *x, int dim, int64_t at, bool nan_wins,
                             bool keepdim) {
  compose c = compose_open(call->engine);
  moon_tensor *place = NULL;
  bool scalar = x->ndim == 0;
  moon_tensor *value = pick(&c, x, dim, at, nan_wins, &place);
  compose_keep(&c, settled(&c, value, dim, keepdim && !scalar), &call->results[VALUES]);
  compose_keep(&c, settled(&c, place, dim, keepdim && !scalar), &call->results[INDICES]);
  return compose_close(&c, NULL, NULL);
}

static moon_status forward_kthvalue(op_call *call) {
  enum { INPUT, K, DIM, KEEPDIM };
  moon_tensor *x = call->args[INPUT].tensor;
  int64_t k = call->args[K].integer;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  int64_t n = x->ndim > 0 ? x->shape[dim] : 1;
  if (k < 1 || k > n)
    return moon_fail(MOON_BAD_ARGUMENT, "k must lie in 1..%" PRId64 ", the size of dimension %d, "
                     "got %" PRId64, n, dim + 1, k);
  return give_pick(call, x, dim, k - 1, false, call->args[KEEPDIM].boolean);
}

// Of all elements: a 0-d tensor, or one of as many dimensions.
static moon_status median_of_all(op_call *call, bool keepdim) {
  moon_tensor *x = call->args[0].tensor, *place = NULL;
  int64_t n = tensor_count(x), ones[MOON_MAX_DIMS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
  if (n == 0) return moon_fail(MOON_BAD_SHAPE, "input is empty, so there is no element to choose");
  compose c = compose_open(call->engine);
  moon_tensor *flat = compose_reshape(&c, x, 1, &n);
  moon_tensor *value = flat ? pick(&c, flat, 0, (n - 1) / 2, true, &place) : NULL;
  if (value) value = compose_reshape(&c, value, keepdim ? x->ndim : 0, ones);
  return compose_close(&c, value, &call->results[VALUES]);
}

static moon_status forward_median(op_call *call) {
  enum { INPUT, DIM, KEEPDIM };
  moon_tensor *x = call->args[INPUT].tensor;
  bool keepdim = call->args[KEEPDIM].boolean;
  int dim;
  if (!call->args[DIM].given) return median_of_all(call, keepdim);
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  MOON_TRY(check_line(x, dim));
  return give_pick(call, x, dim, x->ndim > 0 ? (x->shape[dim] - 1) / 2 : 0, true, keepdim);
}

// -- quantile

enum { LINEAR, LOWER, HIGHER, MIDPOINT, NEAREST };

typedef struct ranks { int64_t rule, count, *low, *high; double *weight; } ranks;   // from 1

static void ranks_close(ranks *r) {
  alloc_delete(r->low);
  alloc_delete(r->high);
  alloc_delete(r->weight);
}

// Where each quantile of n sorted elements lies: between low and high, `weight` of the way.
static moon_status ranks_fill(ranks *r, int64_t n) {
  int64_t rule = r->rule;
  for (int64_t i = 0; i < r->count; i++) {
    double q = r->weight[i], rank = q * (double)(n - 1);
    if (!(q >= 0 && q <= 1))
      return moon_fail(MOON_BAD_ARGUMENT, "q must lie in 0..1, got %g", q);
    if (rule == LOWER) rank = floor(rank);
    if (rule == HIGHER) rank = ceil(rank);
    if (rule == NEAREST) rank = nearbyint(rank);
    r->low[i] = (int64_t)floor(rank) + 1;
    r->high[i] = (int64_t)ceil(rank) + 1;
    r->weight[i] = rule == MIDPOINT ? (r->low[i] < r->high[i] ? 0.5 : 0) : rank - floor(rank);
  }
  return MOON_OK;
}

static moon_status ranks_read(moon_engine *engine, const moon_tensor *q, int64_t n, int64_t rule,
                              ranks *r) {
  *r = (ranks){ .rule = rule, .count = tensor_count(q) };
  size_t bytes, room = (size_t)(r->count > 0 ? r->count : 1);
  MOON_TRY(alloc_product(room, sizeof *r->low, &bytes));
  moon_status status = alloc_new(bytes, (void **)&r->low);
  if (status == MOON_OK) status = alloc_new(bytes, (void **)&r->high);
  if (status == MOON_OK) status = alloc_new(bytes, (void **)&r->weight);
  if (status == MOON_OK) status = make_read(engine, q, r->weight);
  if (status == MOON_OK) status = ranks_fill(r, n);
  if (status != MOON_OK) ranks_close(r);
  return status;
}

// How far each quantile lies between its neighbours, as a tensor that broadcasts along dim. With
// the linear rule it depends on q, which may have a gradient.
static moon_tensor *weights_of(compose *c, const moon_tensor *x, int dim, moon_tensor *q,
                               const ranks *r) {
  int64_t shape[MOON_MAX_DIMS], count = r->count;
  for (int i = 0; i < x->ndim; i++) shape[i] = i == dim ? count : 1;
  moon_tensor *weights;
  if (r->rule == LINEAR) {
    moon_tensor *low = make_integers(c, x, count, r->low);
    low = compose_offset(c, COMPOSE(c, cast, op_tensor(low), op_dtype(x->dtype)), -1);
    moon_tensor *rank = compose_scale(c, compose_reshape(c, q, 1, &count),
                                      (double)(x->shape[dim] - 1));
    weights = COMPOSE(c, sub, op_tensor(rank), op_tensor(low));
  } else {
    weights = COMPOSE(c, cast, op_tensor(make_numbers(c, x, count, r->weight)),
                      op_dtype(x->dtype));
  }
  return compose_reshape(c, weights, x->ndim, shape);
}

// (..., count, ...) along dim of x's lines.
static moon_tensor *quantiles(compose *c, moon_tensor *x, int dim, moon_tensor *q,
                              const ranks *r) {
  int64_t n = x->shape[dim];
  moon_tensor *sorted = COMPOSE(c, sort, op_tensor(x), op_int(dim));
  moon_tensor *low = COMPOSE(c, index_select, op_tensor(sorted), op_int(dim),
                             op_tensor(make_integers(c, x, r->count, r->low)));
  moon_tensor *high = COMPOSE(c, index_select, op_tensor(sorted), op_int(dim),
                              op_tensor(make_integers(c, x, r->count, r->high)));
  moon_tensor *way = COMPOSE(c, sub, op_tensor(high), op_tensor(low));
  moon_tensor *part = COMPOSE(c, mul, op_tensor(way), op_tensor(weights_of(c, x, dim, q, r)));
  moon_tensor *value = COMPOSE(c, add, op_tensor(low), op_tensor(part));
  moon_tensor *last = one_of(c, sorted, dim, n - 1);
  moon_tensor *is_nan = COMPOSE(c, isnan, op_tensor(last));
  return COMPOSE(c, where, op_tensor(is_nan), op_tensor(last), op_tensor(value));
}

// Puts dimension dim (the quantiles) in front where q is 1-D, and drops it where q is a number.
static moon_tensor *arranged(compose *c, moon_tensor *y, const moon_tensor *x, const moon_tensor *q,
                             bool all, int dim, bool keepdim) {
  int64_t shape[MOON_MAX_DIMS], order[MOON_MAX_DIMS];
  if (!y) return NULL;
  int ndim = 0;
  if (q->ndim == 1) {
    order[0] = dim;
    for (int i = 0, k = 1; i < y->ndim; i++)
      if (i != dim) order[k++] = i;
    y = COMPOSE(c, permute, op_tensor(y), op_ints(y->ndim, order));
    shape[ndim++] = tensor_count(q);
  }
  for (int i = 0; i < x->ndim; i++) {
    bool over = all || i == dim;
    if (!over || keepdim) shape[ndim++] = over ? 1 : x->shape[i];
  }
  return compose_reshape(c, y, ndim, shape);
}

static moon_status check_quantile(const moon_tensor *x, const moon_tensor *q, bool all, int dim) {
  MOON_TRY(ops_need_wide_float("input", x));
  MOON_TRY(ops_need_same_dtype("input", x, "q", q));
  if (q->ndim > 1)
    return moon_fail(MOON_BAD_SHAPE, "q must be a number or a vector, got %d dimensions", q->ndim);
  if (x->ndim == MOON_MAX_DIMS && q->ndim == 1)
    return moon_fail(MOON_BAD_SHAPE, "input must have at most %d dimensions where q is a vector, "
                     "got %d", MOON_MAX_DIMS - 1, x->ndim);
  if (all && tensor_count(x) == 0)
    return moon_fail(MOON_BAD_SHAPE, "input is empty, so there is no element to choose");
  return all ? MOON_OK : check_line(x, dim);
}

static moon_status forward_quantile(op_call *call) {
  enum { INPUT, Q, DIM, KEEPDIM, RULE };
  moon_tensor *x = call->args[INPUT].tensor, *q = call->args[Q].tensor, *lines = x;
  bool all = !call->args[DIM].given || x->ndim == 0;
  int64_t count = tensor_count(x);
  int dim = 0;
  ranks r;
  if (call->args[DIM].given) MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  MOON_TRY(check_quantile(x, q, all, dim));
  MOON_TRY(ranks_read(call->engine, q, all ? count : x->shape[dim], call->args[RULE].integer, &r));
  compose c = compose_open(call->engine);
  if (all) lines = compose_reshape(&c, x, 1, &count);
  moon_tensor *y = lines ? quantiles(&c, lines, dim, q, &r) : NULL;
  ranks_close(&r);
  y = arranged(&c, y, x, q, all, dim, call->args[KEEPDIM].boolean);
  return compose_close(&c, y, &call->results[0]);
}

// -- histograms

// Ends of the range as 0-d tensors: as given, or where they are equal, of the elements; a range of
// nothing is widened by 1 on both sides.
static void range_of(compose *c, moon_tensor *x, double min, double max, moon_tensor **low,
                     moon_tensor **high) {
  *low = compose_number(c, x, min);
  *high = compose_number(c, x, max);
  if (min == max && tensor_count(x) > 0) {
    *low = COMPOSE(c, amin, op_tensor(x));
    *high = COMPOSE(c, amax, op_tensor(x));
  }
  moon_tensor *flat = COMPOSE(c, eq, op_tensor(*low), op_tensor(*high));
  *low = COMPOSE(c, where, op_tensor(flat), op_tensor(compose_offset(c, *low, -1)),
                 op_tensor(*low));
  *high = COMPOSE(c, where, op_tensor(flat), op_tensor(compose_offset(c, *high, 1)),
                  op_tensor(*high));
}

// How many elements fall into each of `bins` parts of low..high (int64); the last part has its end.
static moon_tensor *count_bins(compose *c, moon_tensor *x, int64_t bins, moon_tensor *low,
                               moon_tensor *high) {
  moon_tensor *width = COMPOSE(c, sub, op_tensor(high), op_tensor(low));
  moon_tensor *from = COMPOSE(c, sub, op_tensor(x), op_tensor(low));
  moon_tensor *part = compose_scale(c, COMPOSE(c, div, op_tensor(from), op_tensor(width)),
                                    (double)bins);
  moon_tensor *bin = COMPOSE(c, floor, op_tensor(part));
  bin = COMPOSE(c, clamp, op_tensor(bin), op_number(0), op_number((double)(bins - 1)));
  moon_tensor *above = COMPOSE(c, ge, op_tensor(x), op_tensor(low));
  moon_tensor *below = COMPOSE(c, le, op_tensor(x), op_tensor(high));
  moon_tensor *inside = COMPOSE(c, logical_and, op_tensor(above), op_tensor(below));
  moon_tensor *outside = compose_number(c, x, (double)bins);
  bin = COMPOSE(c, where, op_tensor(inside), op_tensor(bin), op_tensor(outside));
  moon_tensor *labels = COMPOSE(c, cast, op_tensor(compose_offset(c, bin, 1)), op_dtype(MOON_I64));
  moon_tensor *counts = COMPOSE(c, bincount, op_tensor(labels), op_int(bins + 1));
  return COMPOSE(c, narrow, op_tensor(counts), op_int(0), op_int(0), op_int(bins));
}

// Where the elements say the range, they must be finite.
static moon_status check_elements(moon_engine *engine, moon_tensor *x) {
  double low, high;
  if (tensor_count(x) == 0 || tensor_device(x) == device_meta()) return MOON_OK;
  MOON_TRY(loss_read_extreme(engine, x, REDUCE_MIN, &low));
  MOON_TRY(loss_read_extreme(engine, x, REDUCE_MAX, &high));
  if (isfinite(low) && isfinite(high)) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "input must be finite where min and max are not given, but "
                   "has NaN or infinities");
}

static moon_status check_histogram(moon_engine *engine, moon_tensor *x, int64_t bins, double min,
                                   double max) {
  MOON_TRY(ops_need_wide_float("input", x));
  if (bins < 1 || bins > 1 << 22)   // float32 still tells them apart
    return moon_fail(MOON_BAD_ARGUMENT, "bins must lie in 1..%d, got %" PRId64, 1 << 22, bins);
  if (!isfinite(min) || !isfinite(max) || min > max)
    return moon_fail(MOON_BAD_ARGUMENT, "min and max must be finite and min at most max, got %g "
                     "and %g", min, max);
  return min == max ? check_elements(engine, x) : MOON_OK;
}

enum { H_INPUT, H_BINS, H_MIN, H_MAX, H_DENSITY };

// low + (high - low) * i / bins, i = 0..bins
static moon_tensor *edges_of(compose *c, moon_tensor *x, int64_t bins, moon_tensor *low,
                             moon_tensor *high) {
  moon_tensor *place = COMPOSE(c, cast, op_tensor(make_range(c, x, 0, bins + 1)),
                               op_dtype(x->dtype));
  moon_tensor *width = COMPOSE(c, sub, op_tensor(high), op_tensor(low));
  moon_tensor *along = COMPOSE(c, mul, op_tensor(compose_scale(c, place, 1 / (double)bins)),
                               op_tensor(width));
  return COMPOSE(c, add, op_tensor(along), op_tensor(low));
}

// counts / (their sum * width of a part)
static moon_tensor *density_of(compose *c, moon_tensor *counts, int64_t bins, moon_tensor *low,
                               moon_tensor *high) {
  moon_tensor *all = COMPOSE(c, sum, op_tensor(counts));
  moon_tensor *width = COMPOSE(c, sub, op_tensor(high), op_tensor(low));
  moon_tensor *area = COMPOSE(c, mul, op_tensor(all), op_tensor(width));
  return COMPOSE(c, div, op_tensor(compose_scale(c, counts, (double)bins)), op_tensor(area));
}

enum { COUNTS, COUNTS_AND_EDGES };   // the operators' rows: histc, histogram

static moon_status forward_histogram(op_call *call) {
  moon_tensor *x = call->args[H_INPUT].tensor, *low, *high;
  int64_t bins = call->args[H_BINS].integer;
  double min = call->args[H_MIN].number, max = call->args[H_MAX].number;
  bool with_edges = call->op->row == COUNTS_AND_EDGES;
  MOON_TRY(check_histogram(call->engine, x, bins, min, max));
  bool enabled = call->engine->grad_enabled;
  call->engine->grad_enabled = false;
  compose c = compose_open(call->engine);
  range_of(&c, x, min, max, &low, &high);
  moon_tensor *counts = count_bins(&c, x, bins, low, high);
  counts = COMPOSE(&c, cast, op_tensor(counts), op_dtype(x->dtype));
  if (with_edges && call->args[H_DENSITY].boolean)
    counts = density_of(&c, counts, bins, low, high);
  compose_keep(&c, counts, &call->results[0]);
  if (with_edges) compose_keep(&c, edges_of(&c, x, bins, low, high), &call->results[1]);
  moon_status status = compose_close(&c, NULL, NULL);
  call->engine->grad_enabled = enabled;
  return status;
}

// -- covariance: rows are variables, columns observations

static moon_tensor *covariance(compose *c, moon_tensor *x, double correction) {
  double below = (double)x->shape[x->ndim - 1] - correction;
  moon_tensor *mean = COMPOSE(c, mean, op_tensor(x), op_ints(1, (int64_t[]){ -1 }), op_bool(true));
  moon_tensor *centred = COMPOSE(c, sub, op_tensor(x), op_tensor(mean));
  if (x->ndim == 1) {
    moon_tensor *squares = COMPOSE(c, sum, op_tensor(COMPOSE(c, square, op_tensor(centred))));
    return compose_scale(c, squares, 1 / (below > 0 ? below : 0));
  }
  moon_tensor *turned = COMPOSE(c, transpose, op_tensor(centred), op_int(0), op_int(1));
  moon_tensor *product = COMPOSE(c, matmul, op_tensor(centred), op_tensor(turned));
  return compose_scale(c, product, 1 / (below > 0 ? below : 0));
}

static moon_status check_observations(const moon_tensor *x) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim == 1 || x->ndim == 2) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input must be (variables, observations) or one variable, got "
                   "%s", tensor_shape_text(x, text));
}

static moon_status forward_cov(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(check_observations(x));
  compose c = compose_open(call->engine);
  return compose_close(&c, covariance(&c, x, call->args[1].number), &call->results[0]);
}

static moon_status forward_corrcoef(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(check_observations(x));
  compose c = compose_open(call->engine);
  moon_tensor *cov = covariance(&c, x, 1);
  if (x->ndim == 1) return compose_close(&c, COMPOSE(&c, div, op_tensor(cov), op_tensor(cov)),
                                         &call->results[0]);
  moon_tensor *deviation = COMPOSE(&c, sqrt, op_tensor(COMPOSE(&c, diagonal, op_tensor(cov))));
  moon_tensor *column = COMPOSE(&c, unsqueeze, op_tensor(deviation), op_int(1));
  moon_tensor *y = COMPOSE(&c, div, op_tensor(cov), op_tensor(deviation));
  return compose_close(&c, COMPOSE(&c, div, op_tensor(y), op_tensor(column)), &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "kthvalue", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, k: int, dim: dim = -1, keepdim: bool = false) -> values, indices",
    .doc = "The k-th smallest element along a dimension (k from 1), and its position (int64, from "
           "1). NaN counts as largest.",
    .example = "moon.tensor{3, 1, 2}:kthvalue(2) --> 2", .forward = forward_kthvalue },
  { .name = "median", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, dim: dim?, keepdim: bool = false) -> values, indices",
    .doc = "The middle element in order, the lower of two. Without dim: of all, as a 0-d tensor. "
           "With dim: along it, and its position (int64, from 1). NaN where there is one.",
    .example = "moon.tensor{3, 1, 2, 9}:median() --> 2", .forward = forward_median },
  { .name = "quantile", .flags = OP_COMPOSITE, .dtypes = OP_REALS,
    .schema = "(input: Tensor, q: Tensor|number, dim: dim?, keepdim: bool = false, interpolation: "
              "\"linear\"|\"lower\"|\"higher\"|\"midpoint\"|\"nearest\" = linear) -> out",
    .doc = "The elements at the parts q (0 to 1) of the order, of all or along a dimension: at "
           "place q (n - 1), counted from 0, interpolated between neighbours. A vector of q gives "
           "a new first dimension. NaN where there is one. Float32 and float64.",
    .example = "moon.tensor{4, 1, 3, 2}:quantile(0.5) --> 2.5", .forward = forward_quantile },
  { .name = "histc", .flags = OP_COMPOSITE | OP_CONSTANT, .dtypes = OP_REALS,
    .schema = "(input: Tensor, bins: int = 100, min: number = 0, max: number = 0) -> out",
    .doc = "How many elements lie in each of `bins` equal parts of min..max (of the elements' own "
           "range where the two are equal), in the input's type. Others are not counted. No "
           "gradient. Float32 and float64.",
    .example = "moon.tensor{1, 2, 1}:histc(4, 0, 3) --> {0, 2, 1, 0}", .row = COUNTS,
    .forward = forward_histogram },
  { .name = "histogram", .flags = OP_COMPOSITE | OP_CONSTANT, .dtypes = OP_REALS,
    .schema = "(input: Tensor, bins: int = 100, min: number = 0, max: number = 0, "
              "density: bool = false) -> counts, edges",
    .doc = "As histc, and the bins + 1 edges of the parts. With density the counts are divided so "
           "that the area under them is 1.",
    .example = "moon.tensor{1, 2, 1}:histogram(2, 0, 4) --> {2, 1}", .row = COUNTS_AND_EDGES,
    .forward = forward_histogram },
  { .name = "cov", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, correction: number = 1) -> out",
    .doc = "Covariances of variables (rows) over observations (columns), divided by "
           "n - correction.",
    .example = "moon.tensor{{0, 1, 2}, {2, 1, 0}}:cov() --> {{1, -1}, {-1, 1}}",
    .forward = forward_cov },
  { .name = "corrcoef", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor) -> out",
    .doc = "Pearson's correlations of variables (rows) over observations (columns).",
    .example = "moon.tensor{{0, 1, 2}, {4, 2, 0}}:corrcoef() --> {{1, -1}, {-1, 1}}",
    .forward = forward_corrcoef },
};

OP_FAMILY(statistics, descriptors);
