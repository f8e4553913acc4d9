// Pooling to a given size, whatever the input's: the windows follow from the sizes (adaptive), or
// from random numbers as well (fractional). Where sizes divide, adaptive windows are plain ones;
// else one dimension is pooled after the other: means by a table of weights (weighing.h), maxima by
// laying the windows out side by side. A window is then as long as the longest, the last element of
// shorter ones repeated, which changes no maximum; the first of equals stays the first.
#include <inttypes.h>
#include <math.h>

#include "ops/pool_window.h"
#include "ops/weighing.h"
#include "ops/window.h"

enum { INPUT, SIZE, RETURN };

// -- windows

// Window i of `count` over `size` elements, counted from 0: from floor(i * size / count) to before
// ceil((i + 1) * size / count).
typedef struct axis { int64_t size, count; } axis;

static void adaptive_span(const axis *a, int64_t i, int64_t span[2]) {
  int64_t whole = a->size / a->count, rest = a->size % a->count;   // i * size may overflow
  span[0] = i * whole + i * rest / a->count;
  span[1] = (i + 1) * whole + ((i + 1) * rest + a->count - 1) / a->count;
}

// No window is longer.
static int64_t longest(const axis *a) {
  int64_t most = a->size / a->count + (a->size % a->count != 0 ? 2 : 0);
  return most < a->size ? most : a->size;
}

static moon_status check_input(const moon_tensor *x, int dims) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(pool_check_input(x, dims));
  for (int i = 0; i < dims; i++)
    if (x->shape[2 + i] == 0)
      return moon_fail(MOON_BAD_SHAPE, "input must have a %s, got %s",
                       dims == 1   ? "length"
                       : dims == 2 ? "height and a width"
                                   : "depth, a height and a width",
                       tensor_shape_text(x, text));
  return MOON_OK;
}

// Reads and checks; gives the axes and whether every size divides.
static moon_status read_axes(const op_call *call, int dims, axis *axes, bool *divides) {
  const moon_tensor *x = call->args[INPUT].tensor;
  const op_value *size = &call->args[SIZE];
  const int64_t *sizes = size->ints.v;
  MOON_TRY(check_input(x, dims));
  MOON_TRY(window_check("size", dims, sizes, 1));
  *divides = true;
  for (int i = 0; i < dims; i++) {
    axes[i] = (axis){ x->shape[2 + i], sizes[i] };
    if (axes[i].size % axes[i].count != 0) *divides = false;
  }
  return MOON_OK;
}

// -- adaptive averages

static void weigh_evenly(const void *context, int64_t at, int64_t span[2], double *weights) {
  adaptive_span(context, at, span);
  for (int64_t k = 0; k < span[1] - span[0]; k++) weights[k] = 1 / (double)(span[1] - span[0]);
}

static moon_tensor *average_evenly(compose *c, moon_tensor *x, int dims, const axis *axes) {
  int64_t kernel[3];
  for (int i = 0; i < dims; i++) kernel[i] = axes[i].size / axes[i].count;
  op_value size = op_ints(dims, kernel);
  if (dims == 1) return COMPOSE(c, avg_pool1d, op_tensor(x), size);
  if (dims == 2) return COMPOSE(c, avg_pool2d, op_tensor(x), size);
  return COMPOSE(c, avg_pool3d, op_tensor(x), size);
}

static moon_status forward_average(op_call *call) {
  int dims = (int)call->op->row;
  moon_tensor *x = call->args[INPUT].tensor, *y = x;
  axis axes[3];
  bool divides;
  MOON_TRY(read_axes(call, dims, axes, &divides));
  compose c = compose_open(call->engine);
  if (divides) y = average_evenly(&c, x, dims, axes);
  for (int i = dims - 1; !divides && i >= 0; i--)
    y = weigh_compose(&c, y, 2 + i, &(weigh_axis){ axes[i].count, longest(&axes[i]), weigh_evenly,
                                                   &axes[i] });
  return compose_close(&c, y, &call->results[0]);
}

// -- maxima of windows laid out side by side

typedef struct maxima {
  moon_tensor *values, *flat;   // flat: positions among the dimensions pooled so far, from 1
  int64_t inside;               // how many positions there are; 1 at first
} maxima;

// `x` with dimension `dim`, of count * length elements, as two: (count, length).
static moon_tensor *split(compose *c, moon_tensor *x, int dim, int64_t count, int64_t length) {
  int64_t shape[MOON_MAX_DIMS];
  if (c->status != MOON_OK) return NULL;
  for (int i = 0; i < x->ndim; i++) shape[i < dim ? i : i + 1] = x->shape[i];
  shape[dim] = count;
  shape[dim + 1] = length;
  return compose_reshape(c, x, x->ndim + 1, shape);
}

// Pools a dimension of `size` elements: `laid` holds its windows side by side, `starts` (which
// broadcasts against the result) their first elements, from 1.
static void take_maxima(compose *c, maxima *m, moon_tensor *laid, int dim, int64_t size,
                        int64_t count, int64_t length, moon_tensor *starts, bool indices) {
  moon_tensor *more[OP_MAX_RESULTS - 1];
  moon_tensor *windows = split(c, laid, dim, count, length);
  m->values = COMPOSE_MORE(c, more, max_along, op_tensor(windows), op_int(dim + 1));
  if (!indices || c->status != MOON_OK) return;
  moon_tensor *before = compose_offset(c, starts, -1);
  moon_tensor *position = COMPOSE(c, add, op_tensor(more[0]), op_tensor(before));
  if (m->flat) {
    moon_tensor *within = COMPOSE(c, gather, op_tensor(m->flat), op_int(dim), op_tensor(position));
    moon_tensor *outside = compose_scale(c, compose_offset(c, position, -1), (double)m->inside);
    position = COMPOSE(c, add, op_tensor(outside), op_tensor(within));
  }
  m->flat = position;
  m->inside *= size;
}

// -- adaptive maxima

static moon_tensor *on_device(compose *c, moon_tensor *x, const moon_device *device) {
  moon_tensor *moved = NULL;
  moon_status status = c->status;
  if (status == MOON_OK) status = ops_to_device(c->engine, x, device, &moved);
  return compose_adopt(c, status, moved);
}

// The windows' elements as positions from 1, each window as long as the longest, and their starts.
static void lay_out(compose *c, const moon_device *device, const axis *a, int64_t length,
                    moon_tensor **index, moon_tensor **starts) {
  int64_t laid = 0;
  compose_check(c, shape_count(2, (int64_t[]){ a->count, length }, &laid));
  *index = *starts = NULL;
  if (c->status != MOON_OK) return;
  moon_status status = tensor_new(c->engine, device_cpu(), MOON_I64, 1, &laid, index);
  *index = compose_adopt(c, status, *index);
  if (c->status != MOON_OK) return;
  status = tensor_new(c->engine, device_cpu(), MOON_I64, 1, &a->count, starts);
  *starts = compose_adopt(c, status, *starts);
  if (c->status != MOON_OK) return;
  int64_t *to = tensor_data(*index), *first = tensor_data(*starts), span[2];
  for (int64_t i = 0; i < a->count; i++) {
    adaptive_span(a, i, span);
    first[i] = span[0] + 1;
    for (int64_t k = 0; k < length; k++)
      to[i * length + k] = span[0] + k < span[1] ? span[0] + k + 1 : span[1];
  }
  *index = on_device(c, *index, device);
  *starts = on_device(c, *starts, device);
}

static void max_adaptive(compose *c, maxima *m, int dim, int ndim, const axis *a, bool indices) {
  int64_t length = longest(a), seen[MOON_MAX_DIMS];
  moon_tensor *index, *starts;
  if (c->status != MOON_OK) return;
  lay_out(c, tensor_device(m->values), a, length, &index, &starts);
  moon_tensor *laid = COMPOSE(c, index_select, op_tensor(m->values), op_int(dim),
                              op_tensor(index));
  for (int i = 0; i < ndim; i++) seen[i] = i == dim ? a->count : 1;
  starts = compose_reshape(c, starts, ndim, seen);
  take_maxima(c, m, laid, dim, a->size, a->count, length, starts, indices);
}

static moon_status close_maxima(op_call *call, compose *c, const maxima *m) {
  compose_keep(c, m->flat, &call->results[1]);
  return compose_close(c, m->values, &call->results[0]);
}

static moon_status max_evenly(op_call *call, int dims, const axis *axes, op_value indices) {
  int64_t kernel[3];
  for (int i = 0; i < dims; i++) kernel[i] = axes[i].size / axes[i].count;
  op_value x = op_tensor(call->args[INPUT].tensor), none = op_none(), off = op_bool(false);
  op_value size = op_ints(dims, kernel), zero = op_ints(dims, (int64_t[3]){ 0, 0, 0 });
  op_value one = op_ints(dims, (int64_t[3]){ 1, 1, 1 });
  compose c = compose_open(call->engine);
  moon_tensor *more[OP_MAX_RESULTS - 1], *y;
  if (dims == 1)
    y = COMPOSE_MORE(&c, more, max_pool1d, x, size, none, zero, one, off, indices);
  else if (dims == 2)
    y = COMPOSE_MORE(&c, more, max_pool2d, x, size, none, zero, one, off, indices);
  else
    y = COMPOSE_MORE(&c, more, max_pool3d, x, size, none, zero, one, off, indices);
  return close_maxima(call, &c, &(maxima){ y, more[0], 1 });
}

static moon_status forward_maximum(op_call *call) {
  int dims = (int)call->op->row;
  bool indices = call->args[RETURN].boolean, divides;
  axis axes[3];
  MOON_TRY(read_axes(call, dims, axes, &divides));
  if (divides) return max_evenly(call, dims, axes, call->args[RETURN]);
  compose c = compose_open(call->engine);
  maxima m = { call->args[INPUT].tensor, NULL, 1 };
  for (int i = dims - 1; i >= 0; i--) max_adaptive(&c, &m, 2 + i, dims + 2, &axes[i], indices);
  return close_maxima(call, &c, &m);
}

// -- fractional_max_pool2d and fractional_max_pool3d

enum { F_INPUT, F_KERNEL, F_SIZE, F_RATIO, F_RETURN, F_SAMPLES };

static moon_status read_output(const op_call *call, int dims, axis *axes) {
  const moon_tensor *x = call->args[F_INPUT].tensor;
  const op_value *args = call->args;
  double ratio = args[F_RATIO].number;
  if (args[F_SIZE].given == args[F_RATIO].given)
    return moon_fail(MOON_BAD_ARGUMENT, "give either output_size or output_ratio, got %s",
                     args[F_SIZE].given ? "both" : "neither");
  if (args[F_RATIO].given && !(ratio > 0 && ratio < 1))
    return moon_fail(MOON_BAD_ARGUMENT, "output_ratio must lie between 0 and 1, got %g", ratio);
  for (int i = 0; i < dims; i++) {
    int64_t kernel = args[F_KERNEL].ints.v[i], size = x->shape[2 + i];
    int64_t count = args[F_SIZE].given ? args[F_SIZE].ints.v[i] : (int64_t)((double)size * ratio);
    axes[i] = (axis){ size, count };
    MOON_TRY(window_check("kernel", 1, &kernel, 1));
    MOON_TRY(window_check("output_size", 1, &count, 1));
    if (count + kernel - 1 > size)
      return moon_fail(MOON_BAD_SHAPE, "%" PRId64 " windows of %" PRId64 " elements do not fit the "
                       "input's %s %" PRId64, count, kernel, pool_side(dims, i), size);
  }
  return MOON_OK;
}

static moon_status check_samples(const op_call *call, int dims) {
  const moon_tensor *x = call->args[F_INPUT].tensor, *samples = call->args[F_SAMPLES].tensor;
  char text[TENSOR_SHAPE_TEXT];
  if (!call->args[F_SAMPLES].given) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", x, "random_samples", samples));
  if (samples->ndim == 3 && samples->shape[0] == x->shape[0] &&
      samples->shape[1] == x->shape[1] && samples->shape[2] == dims) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "random_samples must be %" PRId64 "x%" PRId64 "x%d, got %s",
                   x->shape[0], x->shape[1], dims, tensor_shape_text(samples, text));
}

static moon_status check_shares(moon_engine *engine, const moon_tensor *whole) {
  int64_t low, high;
  device_array array = tensor_array(whole);
  MOON_TRY(tensor_kernels(whole)->index_range(engine, &array, &low, &high));
  if (low > high || (low == 0 && high == 0)) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "random_samples must lie from 0 to below 1");
}

// Random numbers of shape (n, c, dims), one for each direction of each plane or volume.
static moon_tensor *samples_of(compose *c, const op_call *call, int dims) {
  const moon_tensor *x = call->args[F_INPUT].tensor;
  moon_dtype dtype = x->dtype == MOON_F64 ? MOON_F64 : MOON_F32;
  op_value device = { .given = true, .device = tensor_device(x) };
  if (call->args[F_SAMPLES].given) {
    moon_tensor *given = call->args[F_SAMPLES].tensor;
    moon_tensor *below = COMPOSE(c, floor, op_tensor(given));
    moon_tensor *whole = COMPOSE(c, cast, op_tensor(below), op_dtype(MOON_I64));
    if (whole) compose_check(c, check_shares(c->engine, whole));
    return COMPOSE(c, cast, op_tensor(given), op_dtype(dtype));
  }
  return COMPOSE(c, rand, op_ints(3, (int64_t[]){ x->shape[0], x->shape[1], dims }),
                 op_dtype(dtype), device);
}

// The windows' first elements, from 1: (n, c, count). With alpha = (size - kernel) / (count - 1)
// and a random u below 1, window i starts at floor((i + u) * alpha) - floor(u * alpha), and the
// last one ends at the end.
static moon_tensor *fractional_starts(compose *c, moon_tensor *u, const axis *a, int64_t kernel) {
  int64_t shape[3];
  if (c->status != MOON_OK) return NULL;
  shape[0] = u->shape[0], shape[1] = u->shape[1], shape[2] = 1;
  op_value device = { .given = true, .device = tensor_device(u) };
  moon_tensor *last = NULL;
  moon_status status = ops_new_filled(c->engine, u, MOON_I64, 3, shape,
                                      (double)(a->size - kernel + 1), &last);
  last = compose_adopt(c, status, last);
  if (a->count == 1) return last;
  double alpha = (double)(a->size - kernel) / (double)(a->count - 1);
  moon_tensor *number = COMPOSE(c, arange, op_number(0), op_number((double)(a->count - 2)),
                                op_number(1), op_dtype(u->dtype), device);
  moon_tensor *shifted = COMPOSE(c, add, op_tensor(u), op_tensor(number));
  moon_tensor *ends = COMPOSE(c, floor, op_tensor(compose_scale(c, shifted, alpha)));
  moon_tensor *first = COMPOSE(c, floor, op_tensor(compose_scale(c, u, alpha)));
  moon_tensor *starts = COMPOSE(c, sub, op_tensor(ends), op_tensor(first));
  starts = COMPOSE(c, cast, op_tensor(compose_offset(c, starts, 1)), op_dtype(MOON_I64));
  moon_tensor *list[] = { starts, last };
  return COMPOSE(c, cat, op_tensors(list, 2), op_int(2));
}

// Pools dimension 2 + i by windows of each plane's own. PyTorch gives the numbers of two dimensions
// width first, those of three depth first.
static void max_fractional(compose *c, maxima *m, moon_tensor *samples, int dims, int i,
                           const axis *a, int64_t kernel, bool indices) {
  int64_t seen[5], wide[5];
  if (c->status != MOON_OK) return;
  moon_tensor *u = COMPOSE(c, narrow, op_tensor(samples), op_int(2),
                           op_int(dims == 2 ? 1 - i : i), op_int(1));
  moon_tensor *starts = fractional_starts(c, u, a, kernel);
  moon_tensor *column = COMPOSE(c, unsqueeze, op_tensor(starts), op_int(3));
  op_value device = { .given = true, .device = tensor_device(samples) };
  moon_tensor *taps = COMPOSE(c, arange, op_number(0), op_number((double)(kernel - 1)),
                              op_number(1), op_dtype(MOON_I64), device);
  // (n, c, count, kernel)
  moon_tensor *index = COMPOSE(c, add, op_tensor(column), op_tensor(taps));
  for (int k = 0; k < dims + 2; k++) {
    wide[k] = m->values->shape[k];
    seen[k] = k < 2 ? wide[k] : 1;
  }
  wide[2 + i] = seen[2 + i] = a->count * kernel;
  index = compose_reshape(c, index, dims + 2, seen);
  index = COMPOSE(c, expand, op_tensor(index), op_ints(dims + 2, wide));
  moon_tensor *windows = COMPOSE(c, gather, op_tensor(m->values), op_int(2 + i), op_tensor(index));
  seen[2 + i] = a->count;
  starts = compose_reshape(c, starts, dims + 2, seen);
  take_maxima(c, m, windows, 2 + i, a->size, a->count, kernel, starts, indices);
}

static moon_status forward_fractional(op_call *call) {
  int dims = (int)call->op->row;
  const int64_t *kernel = call->args[F_KERNEL].ints.v;
  bool indices = call->args[F_RETURN].boolean;
  axis axes[3];
  MOON_TRY(check_input(call->args[F_INPUT].tensor, dims));
  MOON_TRY(read_output(call, dims, axes));
  MOON_TRY(check_samples(call, dims));
  compose c = compose_open(call->engine);
  moon_tensor *samples = samples_of(&c, call, dims);
  maxima m = { call->args[F_INPUT].tensor, NULL, 1 };
  for (int i = dims - 1; i >= 0; i--)
    max_fractional(&c, &m, samples, dims, i, &axes[i], kernel[i], indices);
  return close_maxima(call, &c, &m);
}

#define AVG_DOC(layout)                                                                         \
  "Means over as many windows as size says, whatever the sizes of input " layout ": of a "      \
  "dimension of l elements, window i goes from floor(i * l / size) to before "                  \
  "ceil((i + 1) * l / size), counted from 0."
#define MAX_DOC(layout)                                                                         \
  "The largest elements of as many windows as size says, whatever the sizes of input " layout   \
  ": windows as those of adaptive_avg_pool2d. With return_indices also where each was found "   \
  "in its channel, in row-major order, counted from 1."
#define MAX_SCHEMA(size) \
  "(input: Tensor, size: " size ", return_indices: bool = false) -> out, indices"

#define FRACTIONAL_SCHEMA(N)                                                              \
  "(input: Tensor, kernel: " N ", output_size: " N "?, output_ratio: number?, "           \
  "return_indices: bool = false, random_samples: Tensor?) -> out, indices"

static op_descriptor descriptors[] = {
  { .name = "adaptive_avg_pool1d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 1,
    .schema = "(input: Tensor, size: int[1]) -> out", .doc = AVG_DOC("(n, c, l)"),
    .example = "moon.tensor{{{1, 2, 3, 4, 5}}}:adaptive_avg_pool1d(2) --> {{{2, 4}}}",
    .forward = forward_average },
  { .name = "adaptive_avg_pool2d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 2,
    .schema = "(input: Tensor, size: int[2]) -> out", .doc = AVG_DOC("(n, c, h, w)"),
    .example = "moon.tensor{{{{1, 2}, {3, 4}}}}:adaptive_avg_pool2d(1) --> {{{{2.5}}}}",
    .forward = forward_average },
  { .name = "adaptive_avg_pool3d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 3,
    .schema = "(input: Tensor, size: int[3]) -> out", .doc = AVG_DOC("(n, c, d, h, w)"),
    .example = "moon.arange(1, 8):float():reshape(1, 1, 2, 2, 2):adaptive_avg_pool3d(1) --> "
               "{{{{{4.5}}}}}",
    .forward = forward_average },
  { .name = "adaptive_max_pool1d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 1,
    .schema = MAX_SCHEMA("int[1]"), .doc = MAX_DOC("(n, c, l)"),
    .example = "moon.tensor{{{1, 2, 3, 4, 5}}}:adaptive_max_pool1d(2) --> {{{3, 5}}}",
    .forward = forward_maximum },
  { .name = "adaptive_max_pool2d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 2,
    .schema = MAX_SCHEMA("int[2]"), .doc = MAX_DOC("(n, c, h, w)"),
    .example = "moon.tensor{{{{1, 2}, {3, 4}}}}:adaptive_max_pool2d(1) --> {{{{4}}}}",
    .forward = forward_maximum },
  { .name = "adaptive_max_pool3d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 3,
    .schema = MAX_SCHEMA("int[3]"), .doc = MAX_DOC("(n, c, d, h, w)"),
    .example = "moon.arange(1, 8):float():reshape(1, 1, 2, 2, 2):adaptive_max_pool3d(1) --> "
               "{{{{{8}}}}}",
    .forward = forward_maximum },
  { .name = "fractional_max_pool2d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 2,
    .schema = FRACTIONAL_SCHEMA("int[2]"),
    .doc = "The largest elements of windows at random distances, so that input (n, c, h, w) "
           "shrinks to output_size, or by a factor output_ratio below 1 (Graham 2014). With u a "
           "random number from 0 to 1 of each plane and direction and alpha = (h - kernel) / "
           "(output - 1), window i starts at floor((i + u) * alpha) - floor(u * alpha), counted "
           "from 0; the last one ends at the edge. random_samples (n, c, 2) gives u for the "
           "width and the height; drawn where left out. With return_indices also where each was "
           "found: (row - 1) * w + column, counted from 1.",
    .example = "moon.fractional_max_pool2d(moon.ones(1, 1, 5, 5), 2, {output_size = 3}):size(4) "
               "--> 3",
    .forward = forward_fractional },
  { .name = "fractional_max_pool3d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 3,
    .schema = FRACTIONAL_SCHEMA("int[3]"),
    .doc = "The largest elements of windows at random distances in input (n, c, d, h, w), as "
           "fractional_max_pool2d; random_samples (n, c, 3) gives u for depth, height and width "
           "(Graham 2014).",
    .example = "moon.fractional_max_pool3d(moon.ones(1, 1, 5, 5, 5), 2, {output_size = 3})"
               ":size(3) --> 3",
    .forward = forward_fractional },
};
OP_FAMILY(pooling_adaptive, descriptors);
