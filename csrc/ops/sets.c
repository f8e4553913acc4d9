// Tensors as sets and lists: places of what is not zero, different values with their counts, search
// in sorted lines. Positions count from 1. Nothing here has a gradient but the values themselves.
#include <inttypes.h>
#include <string.h>

#include "ops/make.h"

// -- nonzero and count_nonzero

// Row-major positions, from 0, of what is not zero: int64, 1-D.
static moon_tensor *positions_of(compose *c, moon_tensor *x) {
  moon_tensor *mask = x->dtype == MOON_BOOL
                          ? x
                          : COMPOSE(c, ne, op_tensor(x), op_tensor(compose_number(c, x, 0)));
  moon_tensor *made = NULL;
  int64_t count = 0;
  if (c->status != MOON_OK) return NULL;
  device_array seen = tensor_array(mask);
  compose_check(c, tensor_kernels(mask)->mask_positions(c->engine, &seen, &count, NULL));
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new(c->engine, mask, MOON_I64, 1, &count, &made);
  moon_tensor *positions = compose_adopt(c, status, made);
  if (!positions) return NULL;
  device_array to = tensor_array(positions);
  compose_check(c, tensor_kernels(mask)->mask_positions(c->engine, &seen, &count, &to));
  return c->status == MOON_OK ? positions : NULL;
}

// Coordinate `dim` (from 1) of row-major positions: p / (elements behind) % size + 1.
static moon_tensor *coordinate(compose *c, moon_tensor *positions, const moon_tensor *x, int dim) {
  int64_t behind = 1;
  for (int i = dim + 1; i < x->ndim; i++) behind *= x->shape[i];
  moon_tensor *p = COMPOSE(c, div_floor, op_tensor(positions),
                           op_tensor(compose_number(c, positions, (double)behind)));
  p = COMPOSE(c, remainder, op_tensor(p),
              op_tensor(compose_number(c, positions, (double)x->shape[dim])));
  return COMPOSE(c, unsqueeze, op_tensor(compose_offset(c, p, 1)), op_int(1));
}

static moon_status forward_nonzero(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *columns[MOON_MAX_DIMS], *out = NULL;
  compose c = compose_open(call->engine);
  moon_tensor *positions = positions_of(&c, x);
  if (positions && positions->shape[0] > 0 && x->ndim > 0) {
    for (int i = 0; i < x->ndim; i++) columns[i] = coordinate(&c, positions, x, i);
    if (c.status == MOON_OK) out = COMPOSE(&c, cat, op_tensors(columns, x->ndim), op_int(1));
  } else if (positions) {
    out = make_filled(&c, x, MOON_I64, 2, (int64_t[]){ positions->shape[0], x->ndim }, 0);
  }
  return compose_close(&c, out, &call->results[0]);
}

static moon_status forward_count_nonzero(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  compose c = compose_open(call->engine);
  moon_tensor *other = COMPOSE(&c, ne, op_tensor(x), op_tensor(compose_number(&c, x, 0)));
  return compose_close(&c, COMPOSE(&c, sum, op_tensor(other), call->args[1]), &call->results[0]);
}

// -- unique; row 1: neighbours only

enum { VALUES, INVERSE, COUNTS };

// Whether each element of a 1-D tensor begins a run of equal ones.
static moon_tensor *run_starts(compose *c, moon_tensor *x) {
  int64_t n = x->shape[0], one = 1;
  moon_tensor *first = make_filled(c, x, MOON_BOOL, 1, &one, 1);
  moon_tensor *behind = COMPOSE(c, narrow, op_tensor(x), op_int(0), op_int(1), op_int(n - 1));
  moon_tensor *before = COMPOSE(c, narrow, op_tensor(x), op_int(0), op_int(0), op_int(n - 1));
  moon_tensor *list[2] = { first, COMPOSE(c, ne, op_tensor(behind), op_tensor(before)) };
  return c->status == MOON_OK ? COMPOSE(c, cat, op_tensors(list, 2), op_int(0)) : NULL;
}

static moon_status unique_of_nothing(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int64_t none = 0;
  MOON_TRY(ops_new(call->engine, x, x->dtype, 1, &none, &call->results[VALUES]));
  MOON_TRY(ops_new(call->engine, x, MOON_I64, x->ndim, x->shape, &call->results[INVERSE]));
  return ops_new(call->engine, x, MOON_I64, 1, &none, &call->results[COUNTS]);
}

// Places (from 1) that sort the rows of (n, m) like words: stable sorts by each column, the last
// first.
static moon_tensor *row_order(compose *c, moon_tensor *rows) {
  moon_tensor *order = make_range(c, rows, 1, rows->shape[0]);
  for (int64_t j = rows->shape[1] - 1; j >= 0 && c->status == MOON_OK; j--) {
    moon_tensor *column = COMPOSE(c, select, op_tensor(rows), op_int(1), op_int(j));
    column = COMPOSE(c, index_select, op_tensor(column), op_int(0), op_tensor(order));
    moon_tensor *places = COMPOSE(c, argsort, op_tensor(column), op_int(0));
    order = COMPOSE(c, index_select, op_tensor(order), op_int(0), op_tensor(places));
  }
  return order;
}

// Whether each row of (n, m) differs from the one before.
static moon_tensor *row_starts(compose *c, moon_tensor *rows) {
  int64_t n = rows->shape[0], one = 1, along = 1;
  moon_tensor *first = make_filled(c, rows, MOON_BOOL, 1, &one, 1);
  moon_tensor *behind = COMPOSE(c, narrow, op_tensor(rows), op_int(0), op_int(1), op_int(n - 1));
  moon_tensor *before = COMPOSE(c, narrow, op_tensor(rows), op_int(0), op_int(0), op_int(n - 1));
  moon_tensor *differ = COMPOSE(c, ne, op_tensor(behind), op_tensor(before));
  moon_tensor *list[2] = { first, COMPOSE(c, any, op_tensor(differ), op_ints(1, &along)) };
  return c->status == MOON_OK ? COMPOSE(c, cat, op_tensors(list, 2), op_int(0)) : NULL;
}

// What both forms end with: `group` numbers the runs of the sorted (from 1), `order` (NULL: as they
// are) says where each of them was.
static void give_groups(compose *c, op_call *call, moon_tensor *group, moon_tensor *order,
                        int64_t groups, int ndim, const int64_t *shape) {
  moon_tensor *inverse = group;
  if (order) {
    moon_tensor *empty = make_filled(c, group, MOON_I64, 1, group->shape, 0);
    inverse = COMPOSE(c, scatter, op_tensor(empty), op_int(0), op_tensor(order), op_tensor(group));
  }
  compose_keep(c, COMPOSE(c, bincount, op_tensor(group), op_int(groups)), &call->results[COUNTS]);
  compose_keep(c, compose_reshape(c, inverse, ndim, shape), &call->results[INVERSE]);
}

// Slices of dimension dim as rows.
static moon_status unique_slices(op_call *call, int dim) {
  moon_tensor *x = call->args[0].tensor, *order = NULL;
  int64_t n = x->shape[dim], shape[2] = { n, tensor_count(x) / n }, front_first[MOON_MAX_DIMS];
  for (int i = 0, next = 1; i < x->ndim; i++)
    front_first[i == dim ? 0 : next++] = i;
  compose c = compose_open(call->engine);
  moon_tensor *front = COMPOSE(&c, permute, op_tensor(x), op_ints(x->ndim, front_first));
  moon_tensor *rows = compose_reshape(&c, front, 2, shape);
  if (rows && call->op->row == 0) {
    order = row_order(&c, rows);
    rows = COMPOSE(&c, index_select, op_tensor(rows), op_int(0), op_tensor(order));
  }
  moon_tensor *starts = rows ? row_starts(&c, rows) : NULL;
  moon_tensor *group = COMPOSE(&c, cumsum, op_tensor(starts), op_int(0));
  moon_tensor *firsts = starts ? positions_of(&c, starts) : NULL;   // from 0
  if (firsts) firsts = compose_offset(&c, firsts, 1);
  if (firsts && order)
    firsts = COMPOSE(&c, index_select, op_tensor(order), op_int(0), op_tensor(firsts));
  if (firsts) {
    compose_keep(&c, COMPOSE(&c, index_select, op_tensor(x), op_int(dim), op_tensor(firsts)),
                 &call->results[VALUES]);
    give_groups(&c, call, group, order, firsts->shape[0], 1, &n);
  }
  return compose_close(&c, NULL, NULL);
}

static moon_status check_slices(const moon_tensor *x, int dim) {
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim == 0) return moon_fail(MOON_BAD_SHAPE, "input is 0-d and has no slices");
  if (tensor_count(x) > 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "slices of dimension %d of input %s are empty", dim + 1,
                   tensor_shape_text(x, text));
}

static moon_status forward_unique(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *more[OP_MAX_RESULTS - 1] = { 0 };
  int64_t n = tensor_count(x);
  int dim;
  if (call->args[1].given) {
    MOON_TRY(shape_dim(x->ndim, call->args[1].integer, &dim));
    MOON_TRY(check_slices(x, dim));
    return unique_slices(call, dim);
  }
  if (n == 0) return unique_of_nothing(call);
  compose c = compose_open(call->engine);
  moon_tensor *line = compose_reshape(&c, x, 1, &n);
  if (call->op->row == 0) line = COMPOSE_MORE(&c, more, sort, op_tensor(line), op_int(0));
  moon_tensor *starts = line ? run_starts(&c, line) : NULL;
  moon_tensor *values = COMPOSE(&c, masked_select, op_tensor(line), op_tensor(starts));
  moon_tensor *group = COMPOSE(&c, cumsum, op_tensor(starts), op_int(0));   // from 1
  if (c.status == MOON_OK) {
    compose_keep(&c, values, &call->results[VALUES]);
    give_groups(&c, call, group, more[0], values->shape[0], x->ndim, x->shape);
  }
  return compose_close(&c, NULL, NULL);
}

// -- searchsorted and bucketize

// Lines (rows, n) against values (rows, m): positions from 1, of the shape of values.
static moon_status search(moon_engine *engine, moon_tensor *sorted, moon_tensor *values, bool right,
                          moon_tensor **result) {
  moon_tensor *s = NULL, *v = NULL, *made = NULL;
  moon_status status = ops_contiguous(engine, sorted, &s);
  if (status == MOON_OK) status = ops_contiguous(engine, values, &v);
  if (status == MOON_OK) status = ops_new(engine, values, MOON_I64, values->ndim, values->shape,
                                          &made);
  if (status == MOON_OK && tensor_count(values) > 0) {
    int64_t n = s->shape[s->ndim - 1], lines = 1, all = tensor_count(v);
    for (int i = 0; i < s->ndim - 1; i++) lines *= s->shape[i];
    int64_t m = lines > 0 ? all / lines : 0;
    device_array a = { .data = tensor_data(s), .dtype = s->dtype, .ndim = 2, .shape = { lines, n },
                       .strides = { n, 1 } };
    device_array b = { .data = tensor_data(v), .dtype = v->dtype, .ndim = 2, .shape = { lines, m },
                       .strides = { m, 1 } }, to = b;
    to.data = tensor_data(made);
    to.dtype = MOON_I64;
    status = tensor_kernels(s)->searchsorted(engine, right, &a, &b, &to);
    if (status == MOON_OK) status = ops_index_out(engine, made);
  }
  tensor_release(s);
  tensor_release(v);
  if (status != MOON_OK) {
    tensor_release(made);
    return status;
  }
  *result = made;
  return MOON_OK;
}

static moon_status check_search(const moon_tensor *sorted, const moon_tensor *values,
                                const char *name) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_same_dtype(name, sorted, "values", values));
  if (sorted->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "%s must have at least 1 dimension, got 0-d", name);
  bool fits = sorted->ndim == 1 || sorted->ndim == values->ndim;
  for (int i = 0; fits && sorted->ndim > 1 && i < sorted->ndim - 1; i++)
    fits = sorted->shape[i] == values->shape[i];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be one line, or have values' sizes in all dimensions "
                   "but the last, got %s for values %s", name, tensor_shape_text(sorted, a),
                   tensor_shape_text(values, b));
}

static moon_status forward_searchsorted(op_call *call) {
  enum { SORTED, VALUE, RIGHT };
  moon_tensor *sorted = call->args[SORTED].tensor, *values = call->args[VALUE].tensor;
  if (values->ndim == 0 && sorted->ndim > 1)
    return moon_fail(MOON_BAD_SHAPE, "a single value is searched in one line, got %d dimensions",
                     sorted->ndim);
  MOON_TRY(check_search(sorted, values, "sorted"));
  return search(call->engine, sorted, values, call->args[RIGHT].boolean, &call->results[0]);
}

static moon_status forward_bucketize(op_call *call) {
  enum { VALUE, BOUNDARIES, RIGHT };
  moon_tensor *values = call->args[VALUE].tensor, *sorted = call->args[BOUNDARIES].tensor;
  MOON_TRY(ops_need_ndim("boundaries", sorted, 1, "(n)"));
  MOON_TRY(check_search(sorted, values, "boundaries"));
  return search(call->engine, sorted, values, call->args[RIGHT].boolean, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "nonzero", .flags = OP_COMPOSITE | OP_CONSTANT,
    .schema = "(input: Tensor) -> indices",
    .doc = "The places of all elements that are not zero, in row-major order: int64 (count, "
           "dimensions), from 1.",
    .example = "moon.tensor{{0, 5}, {6, 0}}:nonzero() --> {{1, 2}, {2, 1}}",
    .forward = forward_nonzero },
  { .name = "count_nonzero", .flags = OP_COMPOSITE | OP_CONSTANT,
    .schema = "(input: Tensor, dim: dims) -> out",
    .doc = "How many elements are not zero (int64), of all or along dimensions.",
    .example = "moon.tensor{{0, 5}, {6, 7}}:count_nonzero(1) --> {1, 2}",
    .forward = forward_count_nonzero },
  { .name = "unique", .flags = OP_COMPOSITE, .row = 0,
    .schema = "(input: Tensor, dim: dim?) -> values, inverse, counts",
    .doc = "The different values among all elements, sorted; where each element is among them "
           "(int64, from 1, of the input's shape); and how often each occurs (int64). Every NaN is "
           "a value of its own. With dim: the different slices of that dimension, sorted like "
           "words, the place of each slice among them, and counts.",
    .example = "moon.tensor{3, 1, 3}:unique() --> {1, 3}", .forward = forward_unique },
  { .name = "unique_consecutive", .flags = OP_COMPOSITE, .row = 1,
    .schema = "(input: Tensor, dim: dim?) -> values, inverse, counts",
    .doc = "The first of each run of equal elements, in row-major order; the run that each element "
           "belongs to (int64, from 1, of the input's shape); and the runs' lengths (int64). With "
           "dim: of runs of equal slices.",
    .example = "moon.tensor{3, 3, 1, 3}:unique_consecutive() --> {3, 1, 3}",
    .forward = forward_unique },
  { .name = "searchsorted",
    .schema = "(sorted: Tensor, values: Tensor|number, right: bool = false) -> positions",
    .doc = "Where values would have to be inserted into a sorted line so that it stays sorted: "
           "int64 from 1 to n + 1, before equal elements, or behind them with `right`. sorted is "
           "one line, or a line for each row of values. Not checked to be sorted.",
    .example = "moon.tensor{1, 3, 5}:searchsorted(moon.tensor{3, 6, 0}) --> {2, 4, 1}",
    .forward = forward_searchsorted },
  { .name = "bucketize",
    .schema = "(values: Tensor, boundaries: Tensor, right: bool = false) -> positions",
    .doc = "Which part of the line each value falls into that sorted boundaries cut: searchsorted "
           "with the arguments turned round.",
    .example = "moon.tensor{3, 6, 0}:bucketize(moon.tensor{1, 3, 5}) --> {2, 4, 1}",
    .forward = forward_bucketize },
};

OP_FAMILY(sets, descriptors);
