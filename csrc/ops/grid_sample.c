// Sampling an image at the positions of a grid: kernels, and the formula that they calculate.
//
// In the formula the image is turned to rows of channels, with a row of zeros behind the last;
// every position picks the rows around it and adds them up with weights that are functions of the
// grid, so that both have derivatives of every order. A neighbour outside of the image picks the
// row of zeros: nothing there can spoil a sum, whatever the image holds.
#include <inttypes.h>

#include "ops/formula.h"
#include "ops/pool_window.h"

enum { INPUT, GRID, MODE, PADDING, ALIGN };
enum { MOST_TAPS = 4 };

typedef struct sampler {
  compose c;
  int dims, mode, padding;
  bool align;
  const moon_device *device;
  int64_t batch, channels, count;              // count: positions of an image
  int64_t size[3];                             // of the image; d, h, w or h, w
} sampler;

// The neighbours of all positions along one dimension.
typedef struct axis_taps {
  int count;
  moon_tensor *place[MOST_TAPS];    // int64, from 0, inside the image
  moon_tensor *inside[MOST_TAPS];   // bool; NULL: all are
  moon_tensor *weight[MOST_TAPS];   // NULL: 1
} axis_taps;

// -- coordinates

// a x + b
static moon_tensor *line(compose *c, moon_tensor *x, double a, double b) {
  return compose_offset(c, compose_scale(c, x, a), b);
}

// Without a slope at the limits, other than clamp: beyond the last pixel there is no neighbour to
// weigh it against.
static moon_tensor *limited(compose *c, moon_tensor *x, double low, double high) {
  moon_tensor *least = compose_number(c, x, low), *most = compose_number(c, x, high);
  moon_tensor *above = COMPOSE(c, gt, op_tensor(x), op_tensor(least));
  x = COMPOSE(c, where, op_tensor(above), op_tensor(x), op_tensor(least));
  moon_tensor *below = COMPOSE(c, lt, op_tensor(x), op_tensor(most));
  return COMPOSE(c, where, op_tensor(below), op_tensor(x), op_tensor(most));
}

// Folds a coordinate back at the first and last centres (align), or at the outer edges.
static moon_tensor *reflected(sampler *s, moon_tensor *x, int64_t size) {
  compose *c = &s->c;
  double low = s->align ? 0 : -0.5, span = s->align ? (double)(size - 1) : (double)size;
  if (span == 0) return compose_scale(c, x, 0);
  moon_tensor *distance = COMPOSE(c, abs, op_tensor(compose_offset(c, x, -low)));
  moon_tensor *flips = COMPOSE(c, floor, op_tensor(compose_scale(c, distance, 1 / span)));
  moon_tensor *folds = compose_scale(c, flips, span);
  moon_tensor *rest = COMPOSE(c, sub, op_tensor(distance), op_tensor(folds));
  moon_tensor *pairs = COMPOSE(c, floor, op_tensor(compose_scale(c, flips, 0.5)));
  moon_tensor *odd = COMPOSE(c, gt, op_tensor(flips), op_tensor(compose_scale(c, pairs, 2)));
  moon_tensor *back = line(c, rest, -1, span);
  moon_tensor *folded = COMPOSE(c, where, op_tensor(odd), op_tensor(back), op_tensor(rest));
  return compose_offset(c, folded, low);
}

static moon_tensor *padded(sampler *s, moon_tensor *x, int64_t size) {
  if (s->padding == GRID_ZEROS) return x;
  if (s->padding == GRID_REFLECTION) x = reflected(s, x, size);
  return limited(&s->c, x, 0, (double)(size - 1));
}

// The grid's coordinate `axis` in pixels, as a column of batch * count; NaN counts as -1, and so
// does an infinity across a single pixel. What lies far outside is brought nearer, to where all
// neighbours are still outside.
static moon_tensor *pixels(sampler *s, moon_tensor *grid, int axis) {
  compose *c = &s->c;
  const double far = 0x1p54;
  int64_t size = s->size[axis], margin = MOST_TAPS;
  moon_tensor *u = COMPOSE(c, select, op_tensor(grid), op_int(-1), op_int(s->dims - 1 - axis));
  u = compose_reshape(c, u, 1, (int64_t[]){ s->batch * s->count });
  double scale = 0.5 * (double)(s->align ? size - 1 : size), offset = 0.5 * (double)(size - 1);
  u = line(c, u, scale, offset);
  moon_tensor *unknown = COMPOSE(c, isnan, op_tensor(u));
  moon_tensor *first = compose_number(c, u, offset - scale);
  u = COMPOSE(c, where, op_tensor(unknown), op_tensor(first), op_tensor(u));
  if (s->padding == GRID_REFLECTION) u = limited(c, u, -far, far);
  else u = limited(c, u, (double)-margin, (double)(size - 1 + margin));
  return s->mode == GRID_BICUBIC ? u : padded(s, u, size);
}

// -- neighbours

// A neighbour's place: `tap` is whole, perhaps outside, and `last` may have been rounded up in it.
static void place_tap(sampler *s, axis_taps *taps, int i, moon_tensor *tap, int64_t size) {
  compose *c = &s->c;
  double last = (double)(size - 1);
  if (s->mode == GRID_BICUBIC) tap = padded(s, tap, size);
  moon_tensor *low = COMPOSE(c, ge, op_tensor(tap), op_tensor(compose_number(c, tap, 0)));
  moon_tensor *high = COMPOSE(c, le, op_tensor(tap), op_tensor(compose_number(c, tap, last)));
  taps->inside[i] = COMPOSE(c, logical_and, op_tensor(low), op_tensor(high));
  moon_tensor *nearest = COMPOSE(c, round, op_tensor(tap));
  moon_tensor *place = COMPOSE(c, cast, op_tensor(nearest), op_dtype(MOON_I64));
  taps->place[i] = COMPOSE(c, clamp, op_tensor(place), op_number(0), op_number(last));
}

// Keys' cubic with a = -0.75 at distance t below 1, and at distance t from 1 to 2 (Keys 1981).
static moon_tensor *cubic_near(compose *c, moon_tensor *t) {
  moon_tensor *square = COMPOSE(c, square, op_tensor(t));
  return compose_offset(c, COMPOSE(c, mul, op_tensor(line(c, t, 1.25, -2.25)), op_tensor(square)),
                        1);
}
static moon_tensor *cubic_far(compose *c, moon_tensor *t) {
  moon_tensor *p = COMPOSE(c, mul, op_tensor(line(c, t, -0.75, 3.75)), op_tensor(t));
  return compose_offset(c, COMPOSE(c, mul, op_tensor(compose_offset(c, p, -6)), op_tensor(t)), 3);
}

static axis_taps taps_of(sampler *s, moon_tensor *at, int64_t size) {
  compose *c = &s->c;
  axis_taps taps = { .count = s->mode == GRID_NEAREST ? 1 : s->mode == GRID_BILINEAR ? 2 : 4 };
  if (s->mode == GRID_NEAREST) {
    place_tap(s, &taps, 0, COMPOSE(c, round, op_tensor(at)), size);
    return taps;
  }
  moon_tensor *low = COMPOSE(c, floor, op_tensor(at));
  moon_tensor *t = COMPOSE(c, sub, op_tensor(at), op_tensor(low));
  for (int i = 0; i < taps.count; i++)
    place_tap(s, &taps, i, compose_offset(c, low, s->mode == GRID_BILINEAR ? i : i - 1), size);
  if (s->mode == GRID_BILINEAR) {
    taps.weight[0] = line(c, t, -1, 1);
    taps.weight[1] = t;
    return taps;
  }
  taps.weight[0] = cubic_far(c, compose_offset(c, t, 1));
  taps.weight[1] = cubic_near(c, t);
  taps.weight[2] = cubic_near(c, line(c, t, -1, 1));
  taps.weight[3] = cubic_far(c, line(c, t, -1, 2));
  return taps;
}

// -- sums

// (n, c, ...) as rows of c numbers, and one more of zeros.
static moon_tensor *rows_of(sampler *s, moon_tensor *x) {
  compose *c = &s->c;
  int64_t order[5] = { 0 }, pixels = 0;
  for (int i = 0; i < s->dims; i++) order[1 + i] = 2 + i;
  order[1 + s->dims] = 1;
  compose_check(c, shape_count(s->dims, s->size, &pixels));
  compose_check(c, shape_count(2, (int64_t[]){ s->batch, pixels }, &pixels));
  x = COMPOSE(c, permute, op_tensor(x), op_ints(s->dims + 2, order));
  x = compose_reshape(c, x, 2, (int64_t[]){ pixels, s->channels });
  if (!x) return NULL;
  moon_tensor *zeros = NULL;
  moon_status status = ops_new_filled(c->engine, x, x->dtype, 2, (int64_t[]){ 1, s->channels }, 0,
                                      &zeros);
  zeros = compose_adopt(c, status, zeros);
  return COMPOSE(c, cat, op_tensors((moon_tensor *[]){ x, zeros }, 2), op_int(0));
}

// For each position the number, from 1, of the first row of its image, less the 1.
static moon_tensor *first_rows(sampler *s) {
  compose *c = &s->c;
  int64_t pixels = 1;
  for (int i = 0; i < s->dims; i++) pixels *= s->size[i];
  op_value device = { .given = true, .device = s->device };
  moon_tensor *image = COMPOSE(c, arange, op_number(0), op_number((double)(s->batch - 1)),
                               op_number(1), op_dtype(MOON_I64), device);
  image = compose_reshape(c, compose_scale(c, image, (double)pixels), 2,
                          (int64_t[]){ s->batch, 1 });
  image = COMPOSE(c, expand, op_tensor(image), op_ints(2, (int64_t[]){ s->batch, s->count }));
  return compose_reshape(c, image, 1, (int64_t[]){ s->batch * s->count });
}

static moon_tensor *both(compose *c, op_descriptor *op, moon_tensor *a, moon_tensor *b) {
  if (!a || !b) return a ? a : b;
  return compose_run(c, op, NULL, 2, (op_value[]){ op_tensor(a), op_tensor(b) });
}

// The rows of the neighbour that has number choice[i] along dimension i, times its weight.
static moon_tensor *neighbour(compose *c, const sampler *s, moon_tensor *rows, moon_tensor *first,
                              const axis_taps *taps, const int *choice) {
  moon_tensor *place = NULL, *inside = NULL, *weight = NULL;
  for (int i = 0; i < s->dims; i++) {
    if (i > 0) place = compose_scale(c, place, (double)s->size[i]);
    place = both(c, ops_get(OP_add), place, taps[i].place[choice[i]]);
    inside = both(c, ops_get(OP_logical_and), inside, taps[i].inside[choice[i]]);
    weight = both(c, ops_get(OP_mul), weight, taps[i].weight[choice[i]]);
  }
  if (c->status != MOON_OK) return NULL;
  place = COMPOSE(c, add, op_tensor(compose_offset(c, place, 1)), op_tensor(first));
  moon_tensor *none = compose_number(c, place, (double)rows->shape[0]);
  place = COMPOSE(c, where, op_tensor(inside), op_tensor(place), op_tensor(none));
  moon_tensor *taken = COMPOSE(c, index_select, op_tensor(rows), op_int(0), op_tensor(place));
  if (!weight) return taken;
  weight = COMPOSE(c, unsqueeze, op_tensor(weight), op_int(1));
  return COMPOSE(c, mul, op_tensor(taken), op_tensor(weight));
}

// Each neighbour is a composition of its own, so that its parts go as soon as they are added.
static moon_tensor *sum_neighbours(sampler *s, moon_tensor *rows, const axis_taps *taps) {
  int choice[3] = { 0 }, i;
  moon_tensor *sum = NULL, *first = first_rows(s);
  moon_status status = s->c.status;
  do {
    moon_tensor *next = NULL;
    compose step = compose_open(s->c.engine);
    compose_check(&step, status);
    moon_tensor *term = neighbour(&step, s, rows, first, taps, choice);
    status = compose_close(&step, both(&step, ops_get(OP_add), sum, term), &next);
    tensor_release(sum);
    sum = next;
    for (i = s->dims - 1; i >= 0 && ++choice[i] == taps[i].count; i--) choice[i] = 0;
  } while (i >= 0 && status == MOON_OK);
  return compose_adopt(&s->c, status, sum);
}

// -- the operator

static moon_status check(const op_call *call, sampler *s) {
  const moon_tensor *x = call->args[INPUT].tensor, *grid = call->args[GRID].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  int dims = x->ndim == 5 ? 3 : 2;
  MOON_TRY(pool_check_input(x, dims));
  MOON_TRY(ops_need_same_dtype("input", x, "grid", grid));
  if (grid->ndim != x->ndim || grid->shape[0] != x->shape[0] || grid->shape[dims + 1] != dims)
    return moon_fail(MOON_BAD_SHAPE, "grid must be (n, %s, %d) with input's batch, got input %s "
                     "and grid %s", dims == 2 ? "h, w" : "d, h, w", dims, tensor_shape_text(x, a),
                     tensor_shape_text(grid, b));
  if (dims == 3 && call->args[MODE].integer == GRID_BICUBIC)
    return moon_fail(MOON_BAD_ARGUMENT, "mode \"bicubic\" takes an input (n, c, h, w), got %s",
                     tensor_shape_text(x, a));
  *s = (sampler){ .dims = dims, .device = tensor_device(x), .batch = x->shape[0],
                  .channels = x->shape[1], .mode = (int)call->args[MODE].integer,
                  .padding = (int)call->args[PADDING].integer,
                  .align = call->args[ALIGN].boolean };
  for (int i = 0; i < dims; i++) {
    s->size[i] = x->shape[2 + i];
    if (s->size[i] < 1)
      return moon_fail(MOON_BAD_SHAPE, "input must have elements to sample, got %s",
                       tensor_shape_text(x, a));
  }
  MOON_TRY(shape_count(dims, grid->shape + 1, &s->count));
  return shape_count(2, (int64_t[]){ s->batch, s->count }, &(int64_t){ 0 });
}

// (n, c, ...) of the result.
static void result_shape(const op_call *call, const sampler *s, int64_t *shape) {
  shape[0] = s->batch;
  shape[1] = s->channels;
  for (int i = 0; i < s->dims; i++) shape[2 + i] = call->args[GRID].tensor->shape[1 + i];
}

static moon_status formula(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *grid = call->args[GRID].tensor;
  moon_dtype dtype = x->dtype;
  int64_t shape[5], order[5] = { 0 };
  axis_taps taps[3];
  sampler s;
  MOON_TRY(check(call, &s));
  s.c = compose_open(call->engine);
  if (dtype != MOON_F32 && dtype != MOON_F64) {   // halves do not hold a pixel's number
    x = COMPOSE(&s.c, cast, op_tensor(x), op_dtype(MOON_F32));
    grid = COMPOSE(&s.c, cast, op_tensor(grid), op_dtype(MOON_F32));
  }
  for (int i = 0; i < s.dims; i++) taps[i] = taps_of(&s, pixels(&s, grid, i), s.size[i]);
  call->engine->indices_known = true;   // places are within the image
  moon_tensor *y = sum_neighbours(&s, rows_of(&s, x), taps);
  call->engine->indices_known = false;
  for (int i = 0; i <= s.dims; i++) shape[i] = call->args[GRID].tensor->shape[i];
  shape[s.dims + 1] = s.channels;
  order[1] = s.dims + 1;
  for (int i = 0; i < s.dims; i++) order[2 + i] = 1 + i;
  y = compose_reshape(&s.c, y, s.dims + 2, shape);
  y = COMPOSE(&s.c, permute, op_tensor(y), op_ints(s.dims + 2, order));
  if (dtype != MOON_F32 && dtype != MOON_F64)
    y = COMPOSE(&s.c, cast, op_tensor(y), op_dtype(dtype));
  return compose_close(&s.c, compose_own(&s.c, y), &call->results[0]);   // channels last
}

static grid_options options_of(const op_value *args) {
  return (grid_options){ .mode = (int)args[MODE].integer, .padding = (int)args[PADDING].integer,
                         .align_corners = args[ALIGN].boolean };
}

static moon_status forward_grid_sample(op_call *call) {
  const moon_tensor *input = call->args[INPUT].tensor;
  const grid_options options = options_of(call->args);
  int64_t shape[5];
  sampler s;
  MOON_TRY(check(call, &s));
  result_shape(call, &s, shape);
  MOON_TRY(ops_new_like(call->engine, input, input->dtype, shape, &call->results[0]));
  device_array x = tensor_array(input), grid = tensor_array(call->args[GRID].tensor);
  device_array out = tensor_array(call->results[0]);
  return tensor_kernels(input)->grid_sample_forward(call->engine, &options, &x, &grid, &out);
}

static moon_status backward_grid_sample(op_backward_call *call) {
  const moon_tensor *input = call->args[INPUT].tensor, *places = call->args[GRID].tensor;
  moon_engine *engine = call->engine;
  if (engine->grad_enabled) return formula_backward(call, formula);
  const grid_options options = options_of(call->args);
  const bool slopes = call->needs[GRID] && options.mode != GRID_NEAREST;
  device_array dx, dgrid, x = tensor_array(input), grid = tensor_array(places);
  device_array gradient = tensor_array(call->grads[0]);
  if (call->needs[INPUT]) {
    MOON_TRY(tensor_new_like(engine, input, &call->out[INPUT]));
    dx = tensor_array(call->out[INPUT]);
  }
  if (slopes) {
    MOON_TRY(ops_new(engine, places, places->dtype, places->ndim, places->shape,
                     &call->out[GRID]));
    dgrid = tensor_array(call->out[GRID]);
  }
  return tensor_kernels(input)->grid_sample_backward(engine, &options, &gradient, &x, &grid,
                                                     call->needs[INPUT] ? &dx : NULL,
                                                     slopes ? &dgrid : NULL);
}

static op_descriptor descriptors[] = {
  { .name = "grid_sample", .dtypes = OP_FLOATS, .saves = "input grid",
    .schema = "(input: Tensor, grid: Tensor, mode: \"bilinear\"|\"nearest\"|\"bicubic\" = "
              "\"bilinear\", padding_mode: \"zeros\"|\"border\"|\"reflection\" = \"zeros\", "
              "align_corners: bool = false) -> out",
    .doc = "Input (n, c, h, w) at the positions of a grid (n, rows, columns, 2), each (x, y) from "
           "-1 to 1 between the outer edges of the image, or between the centres of its corner "
           "pixels under align_corners; result (n, c, rows, columns). For input (n, c, d, h, w) "
           "the grid is (n, depth, rows, columns, 3) of (x, y, z), and \"bilinear\" takes eight "
           "neighbours. \"bicubic\" takes sixteen with Keys' cubic, a = -0.75. Beyond the image "
           "lie zeros, its border, or its reflection. NaN counts as -1 (Jaderberg et al. 2015).",
    .example = "moon.tensor{{{{1, 2}, {3, 4}}}}:grid_sample(moon.tensor{{{{0, 0}, {0.5, -0.5}}}}) "
               "--> {{{{2.5, 2}}}}",
    .forward = forward_grid_sample, .backward = backward_grid_sample },
};
OP_FAMILY(grid_sample, descriptors);
