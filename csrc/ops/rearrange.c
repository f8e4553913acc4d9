// The same elements in other places, or several times: rolled round, turned by quarters, repeated,
// spread over a grid. All made of views and joins, which have the gradients.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/make.h"

// -- roll

static moon_tensor *roll_one(compose *c, moon_tensor *x, int dim, int64_t by) {
  int64_t n = x->shape[dim];
  by = n > 0 ? (by % n + n) % n : 0;
  if (by == 0) return x;
  moon_tensor *list[2] = {
    COMPOSE(c, narrow, op_tensor(x), op_int(dim), op_int(n - by), op_int(by)),
    COMPOSE(c, narrow, op_tensor(x), op_int(dim), op_int(0), op_int(n - by)),
  };
  return c->status == MOON_OK ? COMPOSE(c, cat, op_tensors(list, 2), op_int(dim)) : NULL;
}

static moon_status forward_roll(op_call *call) {
  enum { INPUT, SHIFTS, DIM };
  moon_tensor *x = call->args[INPUT].tensor;
  const op_value *shifts = &call->args[SHIFTS], *dims = &call->args[DIM];
  int dim[MOON_MAX_DIMS], count = dims->given ? dims->ints.count : 0;
  if (count == 0 && shifts->ints.count != 1)
    return moon_fail(MOON_BAD_ARGUMENT, "shifts must be one number where no dim is named, got %d",
                     shifts->ints.count);
  if (count > 0 && shifts->ints.count != count)
    return moon_fail(MOON_BAD_ARGUMENT, "shifts and dim must have as many numbers, got %d and %d",
                     shifts->ints.count, count);
  if (count > 0 && x->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "input is 0-d and has no dimension to roll");
  for (int i = 0; i < count; i++) MOON_TRY(shape_dim(x->ndim, dims->ints.v[i], &dim[i]));
  compose c = compose_open(call->engine);
  int64_t all = tensor_count(x);
  if (count == 0) {
    moon_tensor *flat = compose_reshape(&c, x, 1, &all);
    if (flat) flat = roll_one(&c, flat, 0, shifts->ints.v[0]);
    if (flat) flat = compose_reshape(&c, flat, x->ndim, x->shape);
    return compose_close(&c, COMPOSE(&c, clone, op_tensor(flat)), &call->results[0]);
  }
  moon_tensor *y = x;
  for (int i = 0; i < count && y; i++) y = roll_one(&c, y, dim[i], shifts->ints.v[i]);
  if (y == x) y = COMPOSE(&c, clone, op_tensor(x));
  return compose_close(&c, y, &call->results[0]);
}

// Row 0: fftshift, 1: ifftshift. The middle comes first, and goes back.
static moon_status forward_fftshift(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  const op_value *dims = &call->args[1];
  int dim[MOON_MAX_DIMS], count = dims->given ? dims->ints.count : 0;
  for (int i = 0; i < count; i++) {
    if (x->ndim == 0) return moon_fail(MOON_BAD_SHAPE, "input is 0-d and has no dimension");
    MOON_TRY(shape_dim(x->ndim, dims->ints.v[i], &dim[i]));
  }
  if (count == 0)
    for (; count < x->ndim; count++) dim[count] = count;
  compose c = compose_open(call->engine);
  moon_tensor *y = x;
  for (int i = 0; i < count && y; i++) {
    int64_t half = (y->shape[dim[i]] + (call->op->row == 1)) / 2;
    y = roll_one(&c, y, dim[i], half);
  }
  if (y == x) y = COMPOSE(&c, clone, op_tensor(x));
  return compose_close(&c, y, &call->results[0]);
}

// -- rot90

static moon_status forward_rot90(op_call *call) {
  enum { INPUT, K, DIM };
  moon_tensor *x = call->args[INPUT].tensor;
  const op_value *dims = &call->args[DIM];
  int a = 0, b = 1, turns = (int)((call->args[K].integer % 4 + 4) % 4);
  if (x->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least 2 dimensions, got %d", x->ndim);
  if (dims->given && dims->ints.count != 2 && dims->ints.count != 0)
    return moon_fail(MOON_BAD_ARGUMENT, "dim must name two dimensions, got %d", dims->ints.count);
  if (dims->given && dims->ints.count == 2) {
    MOON_TRY(shape_dim(x->ndim, dims->ints.v[0], &a));
    MOON_TRY(shape_dim(x->ndim, dims->ints.v[1], &b));
  }
  if (a == b)
    return moon_fail(MOON_BAD_ARGUMENT, "dim must name two different dimensions, got %d twice",
                     a + 1);
  compose c = compose_open(call->engine);
  moon_tensor *y = x;
  int64_t both[2] = { a, b };
  if (turns == 0) y = COMPOSE(&c, clone, op_tensor(x));
  if (turns == 1) y = COMPOSE(&c, flip, op_tensor(x), op_ints(1, &both[1]));
  if (turns == 2) y = COMPOSE(&c, flip, op_tensor(x), op_ints(2, both));
  if (turns == 3) y = COMPOSE(&c, flip, op_tensor(x), op_ints(1, &both[0]));
  if (turns % 2 == 1) y = COMPOSE(&c, transpose, op_tensor(y), op_int(a), op_int(b));
  return compose_close(&c, y, &call->results[0]);
}

// -- tile and repeat_interleave

// Every run of `inner` elements `times` over: (outer, inner) as (outer, times, inner).
static moon_tensor *spread(compose *c, moon_tensor *x, int64_t outer, int64_t times, int64_t inner,
                           int ndim, const int64_t *shape) {
  moon_tensor *y = compose_reshape(c, x, 3, (int64_t[]){ outer, 1, inner });
  y = COMPOSE(c, expand, op_tensor(y), op_ints(3, (int64_t[]){ outer, times, inner }));
  return compose_reshape(c, y, ndim, shape);
}

static int64_t product_of(const int64_t *shape, int from, int to) {
  int64_t product = 1;
  for (int i = from; i < to; i++) product *= shape[i];
  return product;
}

// Sizes and number of dimensions of a tiled tensor, with the times for each; checks overflow.
static moon_status read_tiles(const op_call *call, int *ndim, int64_t *shape, int64_t *times) {
  const moon_tensor *x = call->args[0].tensor;
  const op_value *r = &call->args[1];
  int64_t result[MOON_MAX_DIMS], count;
  *ndim = r->ints.count > x->ndim ? r->ints.count : x->ndim;
  for (int i = 0; i < *ndim; i++) {
    int p = i - (*ndim - x->ndim), q = i - (*ndim - r->ints.count);
    shape[i] = p < 0 ? 1 : x->shape[p];
    times[i] = q < 0 ? 1 : r->ints.v[q];
    if (times[i] < 0)
      return moon_fail(MOON_BAD_ARGUMENT, "repeats must not be negative, got %" PRId64, times[i]);
    if (__builtin_mul_overflow(shape[i], times[i], &result[i]))
      return moon_fail(MOON_OUT_OF_MEMORY, "%" PRId64 " repeats are more than memory can hold",
                       times[i]);
  }
  return shape_count(*ndim, result, &count);
}

static moon_status forward_tile(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *y = x;
  int64_t shape[MOON_MAX_DIMS], times[MOON_MAX_DIMS];
  int ndim;
  MOON_TRY(read_tiles(call, &ndim, shape, times));
  compose c = compose_open(call->engine);
  if (ndim != x->ndim) y = compose_reshape(&c, x, ndim, shape);
  for (int i = ndim - 1; i >= 0; i--) {
    if (times[i] == 1) continue;
    int64_t outer = product_of(shape, 0, i), inner = product_of(shape, i, ndim);
    shape[i] *= times[i];
    y = spread(&c, y, outer, times[i], inner, ndim, shape);
  }
  if (y && y->storage == x->storage) y = COMPOSE(&c, clone, op_tensor(y));   // never a view
  return compose_close(&c, y, &call->results[0]);
}

// Each slice of dim `times` over, without a list of positions.
static moon_tensor *interleave_evenly(compose *c, moon_tensor *x, int dim, int64_t times) {
  int64_t shape[MOON_MAX_DIMS], count;
  make_shape(x, dim, x->shape[dim], shape);
  int64_t outer = product_of(shape, 0, dim + 1), inner = product_of(shape, dim + 1, x->ndim);
  if (times < 0)
    compose_check(c, moon_fail(MOON_BAD_ARGUMENT, "repeats must not be negative, got %" PRId64,
                               times));
  else if (__builtin_mul_overflow(shape[dim], times, &shape[dim]))
    compose_check(c, moon_fail(MOON_OUT_OF_MEMORY, "%" PRId64 " repeats are more than memory can "
                               "hold", times));
  else
    compose_check(c, shape_count(x->ndim, shape, &count));
  if (c->status != MOON_OK) return NULL;
  moon_tensor *y = spread(c, x, outer, times, inner, x->ndim, shape);
  if (y && y->storage == x->storage) y = COMPOSE(c, clone, op_tensor(y));   // never a view
  return y;
}

// The positions, from 1, that a list of repeats asks for. They exist twice: here and as a tensor.
static moon_status repeated_positions(const moon_engine *engine, int64_t n, const int64_t *times,
                                      int64_t *total, int64_t **positions) {
  int64_t sum = 0, next = 0, *made;
  for (int64_t i = 0; i < n; i++) {
    if (times[i] < 0)
      return moon_fail(MOON_BAD_ARGUMENT, "repeats must not be negative, got %" PRId64, times[i]);
    if (__builtin_add_overflow(sum, times[i], &sum) || sum > engine->memory.budget / 16)
      return moon_fail(MOON_OUT_OF_MEMORY, "so many repeats are more than memory can hold");
  }
  MOON_TRY(alloc_new((size_t)(sum > 0 ? sum : 1) * sizeof *made, (void **)&made));
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < times[i]; k++) made[next++] = i + 1;
  *total = sum;
  *positions = made;
  return MOON_OK;
}

static moon_tensor *interleave(compose *c, moon_tensor *x, int dim, moon_tensor *repeats) {
  int64_t count = tensor_count(repeats), total = 0, *times = NULL, *positions = NULL;
  moon_tensor *y = NULL;
  moon_status status = alloc_new((size_t)(count > 0 ? count : 1) * sizeof *times, (void **)&times);
  if (status == MOON_OK) status = make_read_integers(c->engine, repeats, times);
  bool evenly = count == 1;
  if (status == MOON_OK && evenly) y = interleave_evenly(c, x, dim, times[0]);
  else if (status == MOON_OK)
    status = repeated_positions(c->engine, x->shape[dim], times, &total, &positions);
  alloc_delete(times);
  compose_check(c, status);
  if (status == MOON_OK && !evenly) {
    moon_tensor *index = make_integers(c, x, total, positions);
    y = COMPOSE(c, index_select, op_tensor(x), op_int(dim), op_tensor(index));
  }
  alloc_delete(positions);
  return y;
}

// A number beside a tensor has taken the tensor's type: up to here that type counts without holes.
static double exact_limit(moon_dtype dtype) {
  return dtype == MOON_BF16 ? 0x1p8 : dtype == MOON_F16 ? 0x1p11 :
         dtype == MOON_F32 ? 0x1p24 : 0x1p53;
}

static moon_status check_one_number(moon_engine *engine, const moon_tensor *repeats) {
  double value;
  MOON_TRY(make_read(engine, repeats, &value));
  if (value != floor(value))
    return moon_fail(MOON_BAD_ARGUMENT, "repeats must be a whole number, got %g", value);
  if (value <= exact_limit(repeats->dtype)) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "repeats of %g must be given as an int64 tensor", value);
}

static moon_status check_repeats(moon_engine *engine, const moon_tensor *repeats, int64_t n) {
  char text[TENSOR_SHAPE_TEXT];
  if (repeats->ndim == 0 && dtype_is_float(repeats->dtype))
    return check_one_number(engine, repeats);
  if (repeats->dtype != MOON_I64 && repeats->dtype != MOON_I32 && repeats->dtype != MOON_U8)
    return moon_fail(MOON_BAD_DTYPE, "repeats must be of an integer type, got %s; cast it with :to "
                     "\"int64\"", dtype_name(repeats->dtype));
  if (repeats->ndim == 0) return MOON_OK;
  if (repeats->ndim == 1 && (repeats->shape[0] == n || repeats->shape[0] == 1)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "repeats must be one number, or one for each of the %" PRId64
                   " slices, got %s", n, tensor_shape_text(repeats, text));
}

static moon_status forward_repeat_interleave(op_call *call) {
  enum { INPUT, REPEATS, DIM };
  moon_tensor *x = call->args[INPUT].tensor, *repeats = call->args[REPEATS].tensor;
  int64_t all = tensor_count(x);
  int dim = 0;
  bool flat = !call->args[DIM].given || x->ndim == 0;
  if (call->args[DIM].given) MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  MOON_TRY(check_repeats(call->engine, repeats, flat ? all : x->shape[dim]));
  compose c = compose_open(call->engine);
  if (flat) x = compose_reshape(&c, x, 1, &all);
  moon_tensor *y = x ? interleave(&c, x, dim, repeats) : NULL;
  return compose_close(&c, y, &call->results[0]);
}

// -- meshgrid

static moon_status check_grid(const op_call *call) {
  const op_value *list = &call->args[0];
  if (list->tensors.count == 0)
    return moon_fail(MOON_BAD_ARGUMENT, "tensors must have at least one member");
  if (list->tensors.count > MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_ARGUMENT, "tensors must have at most %d members, got %d",
                     MOON_MAX_DIMS, list->tensors.count);
  for (int i = 0; i < list->tensors.count; i++) {
    const moon_tensor *t = list->tensors.list[i];
    if (t->ndim > 1)
      return moon_fail(MOON_BAD_SHAPE, "member %d of tensors must be a vector or a number, got %d "
                       "dimensions", i + 1, t->ndim);
    MOON_TRY(ops_need_same_dtype("member 1", list->tensors.list[0], "another member", t));
  }
  return MOON_OK;
}

static moon_status forward_meshgrid(op_call *call) {
  const op_value *list = &call->args[0];
  bool swap = call->args[1].integer == 1 && list->tensors.count > 1;   // "xy"
  MOON_TRY(check_grid(call));
  int count = list->tensors.count;
  int64_t shape[MOON_MAX_DIMS];
  for (int i = 0; i < count; i++) shape[i] = tensor_count(list->tensors.list[i]);
  MOON_TRY(alloc_new((size_t)count * sizeof *call->list, (void **)&call->list));
  compose c = compose_open(call->engine);
  for (int i = 0; i < count && c.status == MOON_OK; i++) {
    int64_t own[MOON_MAX_DIMS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    own[i] = shape[i];
    moon_tensor *y = compose_reshape(&c, list->tensors.list[i], count, own);
    y = COMPOSE(&c, expand, op_tensor(y), op_ints(count, shape));
    if (swap) y = COMPOSE(&c, transpose, op_tensor(y), op_int(0), op_int(1));
    compose_keep(&c, y, &call->list[i]);
    if (c.status == MOON_OK) call->list_count = i + 1;
  }
  return compose_close(&c, NULL, NULL);
}

static op_descriptor descriptors[] = {
  { .name = "roll", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, shifts: int[], dim: dims) -> out",
    .doc = "Moves elements on by `shifts` along dimensions; what falls out at the end comes in at "
           "the start. Without dim: in row-major order of all elements.",
    .example = "moon.tensor{1, 2, 3, 4}:roll(1) --> {4, 1, 2, 3}", .forward = forward_roll },
  { .name = "fftshift", .flags = OP_COMPOSITE, .row = 0,
    .schema = "(input: Tensor, dim: dims) -> out",
    .doc = "Puts frequency 0 of a spectrum into the middle, along dimensions (all if none is "
           "named; name them for complex tensors, whose last dimension is no frequency).",
    .example = "moon.tensor{0, 1, 2, -2, -1}:fftshift() --> {-2, -1, 0, 1, 2}",
    .forward = forward_fftshift },
  { .name = "ifftshift", .flags = OP_COMPOSITE, .row = 1,
    .schema = "(input: Tensor, dim: dims) -> out",
    .doc = "The inverse of fftshift.",
    .example = "moon.tensor{-2, -1, 0, 1, 2}:ifftshift() --> {0, 1, 2, -2, -1}",
    .forward = forward_fftshift },
  { .name = "rot90", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, k: int = 1, dim: dims) -> out",
    .doc = "Turns the plane of two dimensions (the first two if none are named) by k quarters, "
           "from the first towards the second.",
    .example = "moon.tensor{{1, 2}, {3, 4}}:rot90() --> {{2, 4}, {1, 3}}",
    .forward = forward_rot90 },
  { .name = "tile", .flags = OP_COMPOSITE, .schema = "(input: Tensor, repeats: int[]) -> out",
    .doc = "The tensor several times over along each dimension, one after the other. Missing "
           "repeats or dimensions in front count as 1.",
    .example = "moon.tensor{1, 2}:tile(2, 2) --> {{1, 2, 1, 2}, {1, 2, 1, 2}}",
    .forward = forward_tile },
  { .name = "repeat_interleave", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, repeats: Tensor|number, dim: dim?) -> out",
    .doc = "Each slice of a dimension several times in a row; repeats is one number for all, or "
           "an integer tensor with one for each slice. Without dim: the elements in row-major "
           "order.",
    .example = "moon.tensor{1, 2, 3}:repeat_interleave(moon.tensor({2, 0, 1}, {dtype = \"int64\"}))"
               " --> {1, 1, 3}",
    .forward = forward_repeat_interleave },
  { .name = "meshgrid", .flags = OP_COMPOSITE | OP_FUNCTION_ONLY,
    .schema = "(tensors: Tensor[], indexing: \"ij\"|\"xy\" = ij) -> Tensor[]",
    .doc = "The coordinates of a grid: for each vector a tensor with one dimension for every "
           "vector, that varies along its own. With \"xy\" the first two dimensions are "
           "swapped. Views.",
    .example = "moon.meshgrid({moon.tensor{1, 2}, moon.tensor{5, 6, 7}})[1] "
               "--> {{1, 1, 1}, {2, 2, 2}}",
    .forward = forward_meshgrid },
};

OP_FAMILY(rearrange, descriptors);
