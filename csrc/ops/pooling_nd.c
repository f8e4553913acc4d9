// Pooling in one and three dimensions, and by p-norms, as formulas of pooling in two. A window of
// three dimensions is a product: the planes are pooled first, then the depth of what is left. The
// largest of largests is the largest, means of means over windows of equal share are means, and
// each has derivatives of every order because its parts have.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/pool_window.h"

static op_value pair(int64_t a, int64_t b) { return op_ints(2, (int64_t[]){ a, b }); }

static int64_t product(compose *c, int64_t a, int64_t b) {
  int64_t count = 0;
  compose_check(c, shape_count(2, (int64_t[]){ a, b }, &count));
  return count;
}

// (n, c, d, h, w) as (n, c * d, h, w), or (n, c, d, h * w).
static moon_tensor *as_planes(compose *c, moon_tensor *x, const int64_t *s) {
  return compose_reshape(c, x, 4, (int64_t[]){ s[0], product(c, s[1], s[2]), s[3], s[4] });
}
static moon_tensor *as_columns(compose *c, moon_tensor *x, const int64_t *s) {
  return compose_reshape(c, x, 4, (int64_t[]){ s[0], s[1], s[2], product(c, s[3], s[4]) });
}

// -- max_pool1d and max_pool3d

enum {
  MAX_INPUT, MAX_KERNEL, MAX_STRIDE, MAX_PADDING, MAX_DILATION, MAX_CEIL, MAX_RETURN,
};

typedef struct maxima { moon_tensor *values, *indices; } maxima;   // indices: NULL if not wanted

// The window's dimensions i and j over the last two of x.
static maxima max_plane(compose *c, moon_tensor *x, const pool_window *w, int i, int j,
                        bool indices) {
  static const pool_window one = { .kernel = { 1 }, .stride = { 1 }, .dilation = { 1 } };
  const pool_window *a = i < 0 ? &one : w, *b = j < 0 ? &one : w;
  moon_tensor *more[OP_MAX_RESULTS - 1];
  if (i < 0) i = 0;
  if (j < 0) j = 0;
  moon_tensor *y = COMPOSE_MORE(c, more, max_pool2d, op_tensor(x),
                                pair(a->kernel[i], b->kernel[j]), pair(a->stride[i], b->stride[j]),
                                pair(a->padding[i], b->padding[j]),
                                pair(a->dilation[i], b->dilation[j]), op_bool(w->ceil_mode),
                                op_bool(indices));
  return (maxima){ y, more[0] };
}

static maxima max_line(compose *c, moon_tensor *x, const pool_window *w, bool indices,
                       const int64_t *shape) {
  moon_tensor *row = COMPOSE(c, unsqueeze, op_tensor(x), op_int(2));
  maxima m = max_plane(c, row, w, -1, 0, indices);
  return (maxima){ compose_reshape(c, m.values, 3, shape),
                   m.indices ? compose_reshape(c, m.indices, 3, shape) : NULL };
}

// Positions in the volume: `deep` says in which slice and column of (d, h' * w') a maximum lies,
// `flat` where the plane's maximum was in (h, w); all from 1.
static moon_tensor *join_positions(compose *c, moon_tensor *flat, moon_tensor *deep, int64_t area,
                                   int64_t out_area) {
  moon_tensor *slices = COMPOSE(c, flatten, op_tensor(flat), op_int(2), op_int(-1));
  moon_tensor *chosen = COMPOSE(c, flatten, op_tensor(deep), op_int(2), op_int(-1));
  moon_tensor *within = COMPOSE(c, gather, op_tensor(slices), op_int(2), op_tensor(chosen));
  moon_tensor *columns = compose_number(c, chosen, (double)out_area);
  moon_tensor *from_zero = compose_offset(c, chosen, -1);
  moon_tensor *slice = COMPOSE(c, div_floor, op_tensor(from_zero), op_tensor(columns));
  moon_tensor *start = compose_scale(c, slice, (double)area);
  return COMPOSE(c, add, op_tensor(start), op_tensor(within));
}

static maxima max_volume(compose *c, moon_tensor *x, const pool_window *w, bool indices,
                         const int64_t *shape) {
  const int64_t *s = x->shape;
  maxima flat = max_plane(c, as_planes(c, x, s), w, 1, 2, indices);
  int64_t pooled[5] = { s[0], s[1], s[2], shape[3], shape[4] };
  maxima deep = max_plane(c, as_columns(c, flat.values, pooled), w, 0, -1, indices);
  maxima m = { compose_reshape(c, deep.values, 5, shape), NULL };
  if (!indices) return m;
  moon_tensor *planes = as_columns(c, flat.indices, pooled);
  m.indices = join_positions(c, planes, deep.indices, product(c, s[3], s[4]),
                             product(c, shape[3], shape[4]));
  m.indices = compose_reshape(c, m.indices, 5, shape);
  return m;
}

static moon_status forward_max_pool(op_call *call) {
  int dims = (int)call->op->row;
  const op_value *args = call->args;
  moon_tensor *input = args[MAX_INPUT].tensor;
  bool indices = args[MAX_RETURN].boolean;
  pool_window window = pool_window_read(dims, &args[MAX_KERNEL], &args[MAX_STRIDE],
                                        &args[MAX_PADDING], &args[MAX_DILATION],
                                        args[MAX_CEIL].boolean);
  int64_t shape[5];
  MOON_TRY(pool_check(input, &window, shape));
  compose c = compose_open(call->engine);
  maxima m = dims == 1 ? max_line(&c, input, &window, indices, shape)
                       : max_volume(&c, input, &window, indices, shape);
  compose_keep(&c, m.indices, &call->results[1]);
  return compose_close(&c, m.values, &call->results[0]);
}

// -- avg_pool1d and avg_pool3d

enum {
  AVG_INPUT, AVG_KERNEL, AVG_STRIDE, AVG_PADDING, AVG_CEIL, AVG_COUNT_PAD, AVG_DIVISOR,
};

static moon_tensor *average(compose *c, moon_tensor *x, const pool_window *w, op_value kernel,
                            op_value stride, op_value padding, bool count_pad, op_value divisor) {
  return COMPOSE(c, avg_pool2d, op_tensor(x), kernel, stride, padding, op_bool(w->ceil_mode),
                 op_bool(count_pad), divisor);
}

static moon_tensor *average_line(compose *c, moon_tensor *x, const pool_window *w, bool count_pad,
                                 const int64_t *shape) {
  moon_tensor *row = COMPOSE(c, unsqueeze, op_tensor(x), op_int(2));
  moon_tensor *y = average(c, row, w, pair(1, w->kernel[0]), pair(1, w->stride[0]),
                           pair(0, w->padding[0]), count_pad, op_none());
  return compose_reshape(c, y, 3, shape);
}

static moon_tensor *average_volume(compose *c, moon_tensor *x, const pool_window *w,
                                   bool count_pad, op_value divisor, const int64_t *shape) {
  const int64_t *s = x->shape;
  moon_tensor *y = average(c, as_planes(c, x, s), w, pair(w->kernel[1], w->kernel[2]),
                           pair(w->stride[1], w->stride[2]), pair(w->padding[1], w->padding[2]),
                           count_pad, divisor.given ? op_int(1) : divisor);
  int64_t pooled[5] = { s[0], s[1], s[2], shape[3], shape[4] };
  y = average(c, as_columns(c, y, pooled), w, pair(w->kernel[0], 1), pair(w->stride[0], 1),
              pair(w->padding[0], 0), count_pad, divisor);
  return compose_reshape(c, y, 5, shape);
}

static moon_status forward_avg_pool(op_call *call) {
  int dims = (int)call->op->row;
  const op_value *args = call->args;
  moon_tensor *input = args[AVG_INPUT].tensor, *y;
  op_value divisor = dims == 3 ? args[AVG_DIVISOR] : op_none();
  bool count_pad = args[AVG_COUNT_PAD].boolean;
  pool_window window = pool_window_read(dims, &args[AVG_KERNEL], &args[AVG_STRIDE],
                                        &args[AVG_PADDING], NULL, args[AVG_CEIL].boolean);
  int64_t shape[5];
  MOON_TRY(pool_check(input, &window, shape));
  MOON_TRY(pool_check_divisor(&divisor));
  compose c = compose_open(call->engine);
  if (dims == 1) y = average_line(&c, input, &window, count_pad, shape);
  else y = average_volume(&c, input, &window, count_pad, divisor, shape);
  return compose_close(&c, y, &call->results[0]);
}

// -- lp_pool1d, lp_pool2d, lp_pool3d

enum { LP_INPUT, LP_NORM, LP_KERNEL, LP_STRIDE, LP_CEIL };

static moon_tensor *power(compose *c, moon_tensor *x, double p) {
  if (p == 1) return x;
  if (p == 2) return COMPOSE(c, square, op_tensor(x));
  if (p == 0.5) return COMPOSE(c, sqrt, op_tensor(x));
  return COMPOSE(c, pow, op_tensor(x), op_tensor(compose_number(c, x, p)));
}

// The root, with a gradient of 0 where x is 0 (for p above 1 its slope there is infinite).
static moon_tensor *root(compose *c, moon_tensor *x, double p) {
  if (p <= 1) return power(c, x, 1 / p);
  moon_tensor *zero = compose_number(c, x, 0), *one = compose_number(c, x, 1);
  moon_tensor *none = COMPOSE(c, eq, op_tensor(x), op_tensor(zero));
  moon_tensor *safe = COMPOSE(c, where, op_tensor(none), op_tensor(one), op_tensor(x));
  return COMPOSE(c, where, op_tensor(none), op_tensor(zero), op_tensor(power(c, safe, 1 / p)));
}

static moon_tensor *mean_windows(compose *c, moon_tensor *x, const pool_window *w) {
  op_value kernel = op_ints(w->dims, w->kernel), stride = op_ints(w->dims, w->stride);
  op_value none = op_ints(w->dims, w->padding), ceil_mode = op_bool(w->ceil_mode);
  switch (w->dims) {
    case 1: return COMPOSE(c, avg_pool1d, op_tensor(x), kernel, stride, none, ceil_mode);
    case 2: return COMPOSE(c, avg_pool2d, op_tensor(x), kernel, stride, none, ceil_mode);
    default: return COMPOSE(c, avg_pool3d, op_tensor(x), kernel, stride, none, ceil_mode);
  }
}

static moon_status forward_lp_pool(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *input = args[LP_INPUT].tensor;
  double p = args[LP_NORM].number, elements = 1;
  int dims = (int)call->op->row;
  pool_window window = pool_window_read(dims, &args[LP_KERNEL], &args[LP_STRIDE], NULL, NULL,
                                        args[LP_CEIL].boolean);
  int64_t shape[5];
  MOON_TRY(pool_check(input, &window, shape));
  if (!(p > 0) || !isfinite(p))
    return moon_fail(MOON_BAD_ARGUMENT, "norm_type must be a number above 0, got %g", p);
  for (int i = 0; i < dims; i++) elements *= (double)window.kernel[i];
  compose c = compose_open(call->engine);
  moon_tensor *means = mean_windows(&c, power(&c, input, p), &window);
  moon_tensor *y = root(&c, compose_scale(&c, means, elements), p);
  return compose_close(&c, y, &call->results[0]);
}

#define MAX_SCHEMA(N)                                                             \
  "(input: Tensor, kernel: " N ", stride: " N "?, padding: " N " = 0, "           \
  "dilation: " N " = 1, ceil_mode: bool = false, return_indices: bool = false) "  \
  "-> out, indices"
#define AVG_SCHEMA(N, MORE)                                                       \
  "(input: Tensor, kernel: " N ", stride: " N "?, padding: " N " = 0, "           \
  "ceil_mode: bool = false, count_include_pad: bool = true" MORE ") -> out"
#define LP_SCHEMA(N)                                                              \
  "(input: Tensor, norm_type: number, kernel: " N ", stride: " N "?, "            \
  "ceil_mode: bool = false) -> out"

static op_descriptor descriptors[] = {
  { .name = "max_pool1d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 1,
    .schema = MAX_SCHEMA("int[1]"),
    .doc = "The largest element under each window of input (n, c, l); sizes and limits as those "
           "of max_pool2d. With return_indices also where each was found, counted from 1.",
    .example = "moon.tensor{{{1, 3, 2, 5}}}:max_pool1d(2) --> {{{3, 5}}}",
    .forward = forward_max_pool },
  { .name = "max_pool3d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 3,
    .schema = MAX_SCHEMA("int[3]"),
    .doc = "The largest element under each window of input (n, c, d, h, w); sizes and limits as "
           "those of max_pool2d. With return_indices also where each was found in its channel: "
           "((z - 1) * h + y - 1) * w + x, counted from 1.",
    .example = "moon.arange(1, 8):reshape(1, 1, 2, 2, 2):float():max_pool3d(2) --> {{{{{8}}}}}",
    .forward = forward_max_pool },
  { .name = "avg_pool1d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 1,
    .schema = AVG_SCHEMA("int[1]", ""),
    .doc = "The mean of the elements under each window of input (n, c, l); sizes as those of "
           "max_pool2d. Padding counts as zeros, or not at all where count_include_pad is false.",
    .example = "moon.tensor{{{1, 3, 2, 5}}}:avg_pool1d(2) --> {{{2, 3.5}}}",
    .forward = forward_avg_pool },
  { .name = "avg_pool3d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 3,
    .schema = AVG_SCHEMA("int[3]", ", divisor_override: int?"),
    .doc = "The mean of the elements under each window of input (n, c, d, h, w); sizes as those "
           "of max_pool2d. Padding counts as zeros, or not at all where count_include_pad is "
           "false; divisor_override divides every sum instead of the number of elements.",
    .example = "moon.arange(1, 8):reshape(1, 1, 2, 2, 2):float():avg_pool3d(2) --> {{{{{4.5}}}}}",
    .forward = forward_avg_pool },
#define LP_DOC(shape)                                                                           \
  "The p-norm of the elements under each window of input " shape ": the sum of x^p to the "     \
  "power 1 / p, p being norm_type, above 0 (Sermanet, Chintala and LeCun 2012). A window of "   \
  "zeros has the gradient 0. Under ceil_mode a window that hangs over the end counts as if its " \
  "mean were that of a whole one."
  { .name = "lp_pool1d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 1,
    .schema = LP_SCHEMA("int[1]"), .doc = LP_DOC("(n, c, l)"),
    .example = "moon.tensor{{{3, 4}}}:lp_pool1d(2, 2) --> {{{5}}}",
    .forward = forward_lp_pool },
  { .name = "lp_pool2d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 2,
    .schema = LP_SCHEMA("int[2]"), .doc = LP_DOC("(n, c, h, w)"),
    .example = "moon.tensor{{{{1, 1}, {1, 1}}}}:lp_pool2d(2, 2) --> {{{{2}}}}",
    .forward = forward_lp_pool },
  { .name = "lp_pool3d", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = 3,
    .schema = LP_SCHEMA("int[3]"), .doc = LP_DOC("(n, c, d, h, w)"),
    .example = "moon.ones(1, 1, 2, 2, 2):lp_pool3d(1, 2) --> {{{{{8}}}}}",
    .forward = forward_lp_pool },
};
OP_FAMILY(pooling_nd, descriptors);
