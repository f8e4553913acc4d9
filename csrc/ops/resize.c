// Resizing: interpolation, pixel shuffling, and the grids that grid_sample reads. Interpolation is
// separable: each dimension is a table of a few weights a result (weighing.h).
// Positions are PyTorch's, down to the float32 arithmetic by which its nearest modes round.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/weighing.h"
#include "ops/window.h"

// -- interpolate

enum { INPUT, SIZE, SCALE, MODE, ALIGN, ANTIALIAS };
enum { NEAREST, NEAREST_EXACT, LINEAR, BILINEAR, TRILINEAR, BICUBIC, AREA };

typedef struct axis {
  int64_t size, count;   // elements and results
  double scale;          // elements a result
  bool align;            // the centres of the first and last elements are kept
  bool cubic;            // antialiased: by Keys' cubic, not by the hat
} axis;

static int64_t at_most(int64_t value, int64_t limit) { return value < limit ? value : limit; }

static void weigh_nearest(const void *context, int64_t at, int64_t span[2], double *weights) {
  const axis *a = context;
  int64_t from = at;
  if (a->count == 2 * a->size) from = at / 2;
  else if (a->count != a->size) from = (int64_t)floorf((float)at * (float)a->scale);
  span[0] = at_most(from, a->size - 1);
  span[1] = span[0] + 1;
  weights[0] = 1;
}

static void weigh_nearest_exact(const void *context, int64_t at, int64_t span[2],
                                double *weights) {
  const axis *a = context;
  int64_t from = (int64_t)floorf(((float)at + 0.5F) * (float)a->scale);
  span[0] = at_most(from, a->size - 1);
  span[1] = span[0] + 1;
  weights[0] = 1;
}

// Where the centre of a result lies, in elements.
static double position_of(const axis *a, int64_t at) {
  return a->align ? (double)at * a->scale : ((double)at + 0.5) * a->scale - 0.5;
}

// Takes neighbours without weight out of a span, so that an infinity there does no harm.
static void trim(int64_t span[2], double *weights) {
  int64_t count = span[1] - span[0], first = 0;
  while (count > 1 && weights[count - 1] == 0) count--;
  while (first < count - 1 && weights[first] == 0) first++;
  for (int64_t k = first; k < count; k++) weights[k - first] = weights[k];
  span[1] = span[0] + count;
  span[0] += first;
}

static void weigh_linear(const void *context, int64_t at, int64_t span[2], double *weights) {
  const axis *a = context;
  double position = fmax(position_of(a, at), 0);
  span[0] = at_most((int64_t)position, a->size - 1);
  span[1] = at_most(span[0] + 2, a->size);
  double part = fmin(fmax(position - (double)span[0], 0), 1);
  weights[0] = span[1] - span[0] == 1 ? 1 : 1 - part;
  weights[1] = part;
  trim(span, weights);
}

// Keys' kernel at a distance; a is its slope at 1 (Keys 1981).
static double keys(double a, double distance) {
  double d = fabs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

// Taps beyond an edge count for the edge.
static void weigh_cubic(const void *context, int64_t at, int64_t span[2], double *weights) {
  const axis *a = context;
  double position = position_of(a, at), whole = floor(position);
  int64_t start = (int64_t)whole - 1, last = a->size - 1;
  span[0] = start < 0 ? 0 : at_most(start, last);
  span[1] = start + 3 < 0 ? 1 : at_most(start + 3, last) + 1;
  for (int k = 0; k < 4; k++) weights[k] = 0;
  for (int k = 0; k < 4; k++) {
    int64_t tap = start + k < 0 ? 0 : at_most(start + k, last);
    weights[tap - span[0]] += keys(-0.75, position - (whole - 1 + k));
  }
  trim(span, weights);
}

// -- antialiased: the kernel is as wide as the elements that one result stands for, and what lies
//    beyond an edge is left out (as Pillow does; its cubic has a = -0.5)

static double support_of(const axis *a) { return (a->cubic ? 2 : 1) * fmax(a->scale, 1); }

static int64_t most_antialiased(const axis *a) {
  int64_t most = 2 * (int64_t)ceil(support_of(a)) + 2;
  return most < a->size ? most : a->size;
}

static void weigh_antialiased(const void *context, int64_t at, int64_t span[2], double *weights) {
  const axis *a = context;
  double centre = a->scale * ((double)at + 0.5), sum = 0;
  double support = support_of(a), narrow = 1 / fmax(a->scale, 1);
  int64_t low = (int64_t)(centre - support + 0.5), high = (int64_t)(centre + support + 0.5);
  span[0] = low > 0 ? at_most(low, a->size - 1) : 0;
  span[1] = at_most(high, a->size);
  if (span[1] <= span[0]) span[1] = span[0] + 1;
  for (int64_t k = 0; k < span[1] - span[0]; k++) {
    double distance = ((double)(span[0] + k) - centre + 0.5) * narrow;
    weights[k] = a->cubic ? keys(-0.5, distance) : fmax(0, 1 - fabs(distance));
    sum += weights[k];
  }
  for (int64_t k = 0; k < span[1] - span[0]; k++) weights[k] = sum != 0 ? weights[k] / sum : 1;
}

static const struct mode {
  const char *name;
  int ndim;              // of the input; 0: 3, 4 or 5
  int taps;
  weigh_rule rule;
} modes[] = {
  [NEAREST] = { "nearest", 0, 1, weigh_nearest },
  [NEAREST_EXACT] = { "nearest-exact", 0, 1, weigh_nearest_exact },
  [LINEAR] = { "linear", 3, 2, weigh_linear },
  [BILINEAR] = { "bilinear", 4, 2, weigh_linear },
  [TRILINEAR] = { "trilinear", 5, 2, weigh_linear },
  [BICUBIC] = { "bicubic", 4, 4, weigh_cubic },
  [AREA] = { "area", 0, 0, NULL },
};

static moon_status check_mode(const op_call *call) {
  static const char *const layouts[] = { "(n, c, l)", "(n, c, h, w)", "(n, c, d, h, w)" };
  const moon_tensor *x = call->args[INPUT].tensor;
  const struct mode *mode = &modes[call->args[MODE].integer];
  char text[TENSOR_SHAPE_TEXT];
  bool smooth = mode->ndim != 0;
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim < 3 || x->ndim > 5)
    return moon_fail(MOON_BAD_SHAPE, "input must have 3, 4 or 5 dimensions (n, c, ...), got %s",
                     tensor_shape_text(x, text));
  if (smooth && x->ndim != mode->ndim)
    return moon_fail(MOON_BAD_SHAPE, "mode \"%s\" takes an input %s, got %s", mode->name,
                     layouts[mode->ndim - 3], tensor_shape_text(x, text));
  for (int i = 2; i < x->ndim; i++)
    if (x->shape[i] == 0)
      return moon_fail(MOON_BAD_SHAPE, "input must have elements to resize, got %s",
                       tensor_shape_text(x, text));
  if (call->args[ANTIALIAS].boolean && mode->ndim != 4)
    return moon_fail(MOON_BAD_ARGUMENT, "antialias goes with bilinear and bicubic, not with mode "
                     "\"%s\"", mode->name);
  if (call->args[ANTIALIAS].boolean && call->args[ALIGN].boolean)
    return moon_fail(MOON_BAD_ARGUMENT, "antialias does not go with align_corners");
  if (call->args[ALIGN].boolean && !smooth)
    return moon_fail(MOON_BAD_ARGUMENT, "align_corners has no meaning for mode \"%s\"; it goes "
                     "with linear, bilinear, trilinear and bicubic", mode->name);
  return MOON_OK;
}

static moon_status read_size(const op_value *size, const moon_tensor *x, axis *axes) {
  int dims = x->ndim - 2;
  if (size->ints.count != 1 && size->ints.count != dims)
    return moon_fail(MOON_BAD_ARGUMENT, "size must be one number or %d, got %d", dims,
                     size->ints.count);
  for (int i = 0; i < dims; i++) {
    axes[i].count = size->ints.v[size->ints.count == 1 ? 0 : i];
    if (axes[i].count < 1)
      return moon_fail(MOON_BAD_ARGUMENT, "size must be at least 1, got %" PRId64, axes[i].count);
    if (axes[i].count > WINDOW_LARGEST)
      return moon_fail(MOON_BAD_ARGUMENT, "size must be at most %d, got %" PRId64, WINDOW_LARGEST,
                       axes[i].count);
    axes[i].scale = (double)axes[i].size / (double)axes[i].count;
  }
  return MOON_OK;
}

static moon_status read_scale(double factor, const moon_tensor *x, axis *axes) {
  if (!(factor > 0) || !isfinite(factor))
    return moon_fail(MOON_BAD_ARGUMENT, "scale_factor must be a number above 0, got %g", factor);
  for (int i = 0; i < x->ndim - 2; i++) {
    double count = floor((double)axes[i].size * factor);
    if (count < 1 || count > WINDOW_LARGEST)
      return moon_fail(MOON_BAD_ARGUMENT, "scale_factor %g makes %" PRId64 " elements %.0f; there "
                       "must be 1 to %d", factor, axes[i].size, count, WINDOW_LARGEST);
    axes[i].count = (int64_t)count;
    axes[i].scale = 1 / factor;
  }
  return MOON_OK;
}

static moon_status read_axes(const op_call *call, axis *axes) {
  const moon_tensor *x = call->args[INPUT].tensor;
  const op_value *size = &call->args[SIZE], *scale = &call->args[SCALE];
  bool align = call->args[ALIGN].boolean;
  if (size->given == scale->given)
    return moon_fail(MOON_BAD_ARGUMENT, "give either size or scale_factor, got %s",
                     size->given ? "both" : "neither");
  for (int i = 0; i < x->ndim - 2; i++) {
    axes[i] = (axis){ .size = x->shape[2 + i], .align = align,
                      .cubic = call->args[MODE].integer == BICUBIC };
  }
  MOON_TRY(size->given ? read_size(size, x, axes) : read_scale(scale->number, x, axes));
  for (int i = 0; align && i < x->ndim - 2; i++)
    axes[i].scale =
        axes[i].count > 1 ? (double)(axes[i].size - 1) / (double)(axes[i].count - 1) : 0;
  return MOON_OK;
}

static moon_tensor *take_areas(compose *c, moon_tensor *x, const axis *axes) {
  op_value size = op_ints(x->ndim - 2, (int64_t[]){ axes[0].count, axes[1].count, axes[2].count });
  if (x->ndim == 3) return COMPOSE(c, adaptive_avg_pool1d, op_tensor(x), size);
  if (x->ndim == 4) return COMPOSE(c, adaptive_avg_pool2d, op_tensor(x), size);
  return COMPOSE(c, adaptive_avg_pool3d, op_tensor(x), size);
}

// The last two dimensions come first: where the image grows, the one before them is still small.
static moon_tensor *weigh_axes(compose *c, moon_tensor *x, const struct mode *mode, bool smooth,
                               const axis *axes) {
  weigh_axis weighed[3];
  int dims = x->ndim - 2;
  for (int i = 0; i < dims; i++)
    weighed[i] = (weigh_axis){ .count = axes[i].count, .context = &axes[i],
                               .most = smooth ? most_antialiased(&axes[i]) : mode->taps,
                               .rule = smooth ? weigh_antialiased : mode->rule };
  if (dims == 1) return weigh_compose(c, x, 2, weighed);
  if (dims == 2) return weigh_compose_planes(c, x, 2, weighed);
  moon_tensor *y = weigh_compose_planes(c, x, 3, weighed + 1);
  return weigh_compose(c, y, 2, weighed);
}

static moon_status forward_interpolate(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  const struct mode *mode = &modes[call->args[MODE].integer];
  axis axes[3] = { { .count = 0 } };
  MOON_TRY(check_mode(call));
  MOON_TRY(read_axes(call, axes));
  compose c = compose_open(call->engine);
  moon_tensor *y = x;
  if (!mode->rule) y = take_areas(&c, x, axes);
  else y = weigh_axes(&c, x, mode, call->args[ANTIALIAS].boolean, axes);
  return compose_close(&c, y, &call->results[0]);
}

// -- pixel_shuffle and pixel_unshuffle

enum { FACTOR = 1 };

static moon_status check_image(const moon_tensor *x, int64_t factor) {
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim < 3 || x->ndim > MOON_MAX_DIMS - 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have 3 to %d dimensions (..., c, h, w), got %s",
                     MOON_MAX_DIMS - 2, tensor_shape_text(x, text));
  if (factor < 1 || factor > WINDOW_LARGEST)
    return moon_fail(MOON_BAD_ARGUMENT, "factor must be 1 to %d, got %" PRId64, WINDOW_LARGEST,
                     factor);
  return MOON_OK;
}

// The last three dimensions, split into five, put in another order and joined to three again, the
// first `channels` of the five to the channels. Those go last in memory where they are so in x.
static moon_status rearrange(op_call *call, const int64_t split[5], const int order[5],
                             int channels, const int64_t joined[3]) {
  moon_tensor *x = call->args[INPUT].tensor;
  int lead = x->ndim - 3;
  bool last = lead == 1 && tensor_is_channels_last(x);
  int64_t apart[MOON_MAX_DIMS], together[MOON_MAX_DIMS], dims[MOON_MAX_DIMS];
  for (int i = 0; i < lead; i++) {
    apart[i] = together[i] = x->shape[i];
    dims[i] = i;
  }
  for (int i = 0; i < 5; i++) dims[lead + i] = lead + order[last ? (i + channels) % 5 : i];
  for (int i = 0; i < 3; i++) together[lead + i] = joined[last ? (i + 1) % 3 : i];
  memcpy(apart + lead, split, 5 * sizeof *split);
  compose c = compose_open(call->engine);
  moon_tensor *y = compose_reshape(&c, x, lead + 5, apart);
  y = COMPOSE(&c, permute, op_tensor(y), op_ints(lead + 5, dims));
  y = COMPOSE(&c, clone, op_tensor(y));
  y = compose_reshape(&c, y, lead + 3, together);
  if (last)
    y = compose_own(&c, COMPOSE(&c, permute, op_tensor(y),
                                op_ints(4, (int64_t[]){ 0, 3, 1, 2 })));
  return compose_close(&c, y, &call->results[0]);
}

static moon_status forward_pixel_shuffle(op_call *call) {
  const moon_tensor *x = call->args[INPUT].tensor;
  int64_t r = call->args[FACTOR].integer;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(check_image(x, r));
  const int64_t *s = x->shape + x->ndim - 3, area = r * r;
  if (s[0] % area != 0)
    return moon_fail(MOON_BAD_SHAPE, "the %" PRId64 " channels must divide by factor squared, %"
                     PRId64 " (input %s)", s[0], area, tensor_shape_text(x, text));
  int64_t joined[3] = { s[0] / area };
  MOON_TRY(shape_count(2, (int64_t[]){ s[1], r }, &joined[1]));
  MOON_TRY(shape_count(2, (int64_t[]){ s[2], r }, &joined[2]));
  return rearrange(call, (int64_t[]){ s[0] / area, r, r, s[1], s[2] },
                   (int[]){ 0, 3, 1, 4, 2 }, 1, joined);
}

static moon_status forward_pixel_unshuffle(op_call *call) {
  const moon_tensor *x = call->args[INPUT].tensor;
  int64_t r = call->args[FACTOR].integer;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(check_image(x, r));
  const int64_t *s = x->shape + x->ndim - 3;
  if (s[1] % r != 0 || s[2] % r != 0)
    return moon_fail(MOON_BAD_SHAPE, "height and width must divide by factor %" PRId64 ", got %s",
                     r, tensor_shape_text(x, text));
  int64_t joined[3] = { 0, s[1] / r, s[2] / r };
  MOON_TRY(shape_count(3, (int64_t[]){ s[0], r, r }, &joined[0]));
  return rearrange(call, (int64_t[]){ s[0], s[1] / r, r, s[2] / r, r },
                   (int[]){ 0, 2, 4, 1, 3 }, 3, joined);
}

// -- affine_grid

enum { THETA, GRID_SIZE, GRID_ALIGN };

// The coordinates of `count` points from -1 to 1, in shape[dim] of a grid, broadcast over the rest.
static moon_tensor *coordinates(compose *c, const moon_tensor *theta, bool align, int dim,
                                int dims, const int64_t *shape) {
  int64_t count = shape[dim], seen[MOON_MAX_DIMS];
  op_value device = { .given = true, .device = tensor_device(theta) };
  double edge = align ? 1 : (double)(count - 1) / (double)count;
  moon_tensor *line = COMPOSE(c, linspace, op_number(count > 1 ? -edge : 0),
                              op_number(count > 1 ? edge : 0), op_int(count),
                              op_dtype(theta->dtype), device);
  for (int i = 0; i < dims; i++) seen[i] = i == dim ? count : 1;
  line = compose_reshape(c, line, dims, seen);
  return COMPOSE(c, expand, op_tensor(line), op_ints(dims, shape));
}

static moon_status check_theta(const op_call *call, int *dims) {
  const moon_tensor *theta = call->args[THETA].tensor;
  const op_value *size = &call->args[GRID_SIZE];
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("theta", theta));
  *dims = size->ints.count - 2;
  if (*dims != 2 && *dims != 3)
    return moon_fail(MOON_BAD_ARGUMENT, "size must be {n, c, h, w} or {n, c, d, h, w}, got %d "
                     "numbers", size->ints.count);
  for (int i = 0; i < *dims + 2; i++)
    if (size->ints.v[i] < 1)
      return moon_fail(MOON_BAD_ARGUMENT, "size must be at least 1, got %" PRId64,
                       size->ints.v[i]);
  if (theta->ndim == 3 && theta->shape[0] == size->ints.v[0] && theta->shape[1] == *dims &&
      theta->shape[2] == *dims + 1) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "theta must be %" PRId64 "x%dx%d for this size, got %s",
                   size->ints.v[0], *dims, *dims + 1, tensor_shape_text(theta, text));
}

static moon_status forward_affine_grid(op_call *call) {
  moon_tensor *theta = call->args[THETA].tensor, *list[4];
  const int64_t *size = call->args[GRID_SIZE].ints.v, *space = size + 2;
  int dims;
  MOON_TRY(check_theta(call, &dims));
  compose c = compose_open(call->engine);
  for (int i = 0; i < dims; i++)   // x, the last dimension, is the first coordinate
    list[i] = coordinates(&c, theta, call->args[GRID_ALIGN].boolean, dims - 1 - i, dims, space);
  moon_tensor *one = compose_number(&c, theta, 1);
  list[dims] = COMPOSE(&c, expand, op_tensor(one), op_ints(dims, space));
  for (int i = 0; i <= dims; i++)
    list[i] = COMPOSE(&c, reshape, op_tensor(list[i]), op_ints(2, (int64_t[]){ -1, 1 }));
  moon_tensor *base = COMPOSE(&c, cat, op_tensors(list, dims + 1), op_int(1));
  moon_tensor *turned = COMPOSE(&c, transpose, op_tensor(theta), op_int(1), op_int(2));
  moon_tensor *grid = COMPOSE(&c, matmul, op_tensor(base), op_tensor(turned));
  int64_t shape[5] = { size[0], space[0], space[1], dims == 2 ? 2 : space[2], 3 };
  grid = compose_reshape(&c, grid, dims + 2, shape);
  return compose_close(&c, grid, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "interpolate", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, size: int[]?, scale_factor: number?, mode: \"nearest\"|"
              "\"nearest-exact\"|\"linear\"|\"bilinear\"|\"trilinear\"|\"bicubic\"|\"area\" = "
              "\"nearest\", align_corners: bool = false, antialias: bool = false) -> out",
    .doc = "Resizes the dimensions behind the channel of input (n, c, l), (n, c, h, w) or "
           "(n, c, d, h, w) to `size`, or to floor(scale_factor * size). Result i lies at "
           "(i + 0.5) * s - 0.5, counted from 0, s being the input's elements for one of the "
           "result's; under align_corners at i * (size - 1) / (count - 1), so that corners stay "
           "corners. \"linear\" (of 3 dimensions), \"bilinear\" (4), \"trilinear\" (5): the "
           "neighbours weighted by nearness; \"bicubic\" (4): four of them by Keys' cubic with "
           "a = -0.75 (Keys 1981), edges repeated; \"nearest\": the element at floor(i * s); "
           "\"nearest-exact\": at floor((i + 0.5) * s); \"area\": means, as adaptive_avg_pool. "
           "antialias, for bilinear and bicubic, widens the kernel by s where the input shrinks "
           "(the cubic's a is then -0.5), so that every element counts.",
    .example = "moon.tensor{{{0, 2, 4}}}:interpolate(5, {mode = \"linear\", align_corners = true}) "
               "--> {{{0, 1, 2, 3, 4}}}\n"
               "moon.tensor{{{1, 2}}}:interpolate({scale_factor = 2}) --> {{{1, 1, 2, 2}}}",
    .forward = forward_interpolate },
  { .name = "pixel_shuffle", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, factor: int) -> out",
    .doc = "Moves channels into space: (..., c * r * r, h, w) becomes (..., c, h * r, w * r) for "
           "factor r; channel c * r * r + i * r + j gives the pixels at row i and column j of "
           "each r x r block, all counted from 0 (Shi et al. 2016).",
    .example = "moon.arange(1, 4):reshape(1, 4, 1, 1):pixel_shuffle(2) --> {{{{1, 2}, {3, 4}}}}",
    .forward = forward_pixel_shuffle },
  { .name = "pixel_unshuffle", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, factor: int) -> out",
    .doc = "Moves space into channels, the inverse of pixel_shuffle: (..., c, h * r, w * r) "
           "becomes (..., c * r * r, h, w) for factor r.",
    .example = "moon.tensor{{{1, 2}, {3, 4}}}:pixel_unshuffle(2) --> "
               "{{{1}}, {{2}}, {{3}}, {{4}}}",
    .forward = forward_pixel_unshuffle },
  { .name = "affine_grid", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(theta: Tensor, size: int[], align_corners: bool = false) -> grid",
    .doc = "The positions from which grid_sample takes an image that is moved by affine maps: for "
           "theta (n, 2, 3) and size {n, c, h, w} a grid (n, h, w, 2) of theta times (x, y, 1), "
           "x and y going from -1 to 1 over the result; for theta (n, 3, 4) and size "
           "{n, c, d, h, w} a grid (n, d, h, w, 3) (Jaderberg et al. 2015). -1 and 1 are the "
           "outer edges of the image, or the centres of its corner pixels under align_corners.",
    .example = "moon.affine_grid(moon.eye(2, 3):unsqueeze(1), {1, 1, 1, 2}) --> "
               "{{{{-0.5, 0}, {0.5, 0}}}}",
    .forward = forward_affine_grid },
};
OP_FAMILY(resize, descriptors);
