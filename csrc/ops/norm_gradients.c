// Gradients of normalisations by operators. See norm_gradients.h.
#include "ops/norm_gradients.h"

// -- batch_norm; half types are calculated in float32, as the kernels do

static moon_tensor *widened(compose *c, moon_tensor *x) {
  if (c->status != MOON_OK || !x) return NULL;
  if (x->dtype == MOON_F64 || x->dtype == MOON_F32) return x;
  return COMPOSE(c, cast, op_tensor(x), op_dtype(MOON_F32));
}

// A vector of channels in the shape that broadcasts to (n, c, ...).
static moon_tensor *by_channel(compose *c, moon_tensor *vector, int ndim) {
  int64_t shape[MOON_MAX_DIMS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
  if (!vector) return NULL;
  shape[1] = vector->shape[0];
  return compose_reshape(c, widened(c, vector), ndim, shape);
}

// All dimensions but that of the channels.
static op_value places(const moon_tensor *x) {
  int64_t dims[MOON_MAX_DIMS];
  int count = 0;
  for (int i = 0; i < x->ndim; i++)
    if (i != 1) dims[count++] = i;
  return op_ints(count, dims);
}

static moon_tensor *times(compose *c, moon_tensor *a, moon_tensor *b) {
  return COMPOSE(c, mul, op_tensor(a), op_tensor(b));
}

static moon_tensor *less(compose *c, moon_tensor *a, moon_tensor *b) {
  return COMPOSE(c, sub, op_tensor(a), op_tensor(b));
}

static moon_tensor *mean_of(compose *c, moon_tensor *x) {
  return x ? COMPOSE(c, mean, op_tensor(x), places(x), op_bool(true)) : NULL;
}

static moon_tensor *sum_of(compose *c, moon_tensor *x) {
  return x ? COMPOSE(c, sum, op_tensor(x), places(x)) : NULL;
}

// What the gradients are made of: x normalised, and 1 / sqrt(variance + eps).
typedef struct normal { moon_tensor *x, *rstd; } normal;

static normal normalized(compose *c, const norm_batch *b) {
  moon_tensor *x = widened(c, b->x);
  if (!x) return (normal){ NULL, by_channel(c, b->rstd, b->g->ndim) };
  if (b->mean) {
    moon_tensor *rstd = by_channel(c, b->rstd, x->ndim);
    return (normal){ times(c, less(c, x, by_channel(c, b->mean, x->ndim)), rstd), rstd };
  }
  moon_tensor *centred = less(c, x, mean_of(c, x));
  moon_tensor *variance = mean_of(c, COMPOSE(c, square, op_tensor(centred)));
  moon_tensor *above = compose_offset(c, variance, b->eps);
  moon_tensor *rstd = COMPOSE(c, rsqrt, op_tensor(above));
  return (normal){ times(c, centred, rstd), rstd };
}

// With statistics of the batch: rstd (gw - mean gw - x mean (gw x)), gw = g times weight.
static moon_tensor *input_gradient(compose *c, const norm_batch *b, normal n, moon_tensor *g) {
  moon_tensor *weight = by_channel(c, b->weight, b->g->ndim);
  moon_tensor *gw = weight ? times(c, g, weight) : g;
  if (!b->mean) {
    moon_tensor *slope = times(c, n.x, mean_of(c, times(c, gw, n.x)));
    gw = less(c, less(c, gw, mean_of(c, gw)), slope);
  }
  return times(c, gw, n.rstd);
}

// g where the activation let through, else 0.
static moon_tensor *unmasked(compose *c, const norm_batch *b, normal n, moon_tensor *g) {
  if (b->activation == BATCH_NORM_PLAIN) return g;
  moon_tensor *z = b->shown;
  if (!z) {
    moon_tensor *weight = by_channel(c, b->weight, b->g->ndim);
    moon_tensor *bias = by_channel(c, b->bias, b->g->ndim);
    z = weight ? times(c, n.x, weight) : n.x;
    z = bias ? COMPOSE(c, add, op_tensor(z), op_tensor(bias)) : z;
  }
  if (!z || !g) return NULL;
  moon_tensor *zero = compose_number(c, z, 0);
  moon_tensor *through = COMPOSE(c, gt, op_tensor(z), op_tensor(zero));
  if (b->activation == BATCH_NORM_RELU6) {
    moon_tensor *below = COMPOSE(c, lt, op_tensor(z), op_tensor(compose_number(c, z, 6)));
    through = COMPOSE(c, logical_and, op_tensor(through), op_tensor(below));
  }
  moon_tensor *nothing = compose_number(c, g, 0);
  return COMPOSE(c, where, op_tensor(through), op_tensor(g), op_tensor(nothing));
}

moon_status norm_batch_gradients(moon_engine *engine, const norm_batch *b,
                                 moon_tensor *out[NORM_BATCH_GRADIENTS]) {
  compose c = compose_open(engine);
  moon_tensor *d[NORM_BATCH_GRADIENTS] = { NULL };
  bool hidden = b->activation != BATCH_NORM_PLAIN && !b->shown;
  normal n = { NULL, NULL };
  if (b->needs[0] || b->needs[1] || hidden) n = normalized(&c, b);
  moon_tensor *g = unmasked(&c, b, n, widened(&c, b->g));
  if (b->needs[0]) d[0] = input_gradient(&c, b, n, g);
  if (b->needs[1]) d[1] = sum_of(&c, times(&c, g, n.x));
  if (b->needs[2]) d[2] = sum_of(&c, g);
  if (b->needs[3]) d[3] = g;
  for (int i = 0; i < NORM_BATCH_GRADIENTS; i++) compose_keep(&c, d[i], &out[i]);
  return compose_close(&c, NULL, NULL);
}

// -- local_response_norm

// Sums over the windows of `size` channels that begin `before` channels in front of each.
static moon_tensor *window_sums(compose *c, moon_tensor *x, int64_t size, int64_t before) {
  if (!x || c->status != MOON_OK) return NULL;
  int64_t channels = x->shape[1];
  moon_tensor *padded = COMPOSE(c, narrow_gradient, op_tensor(x), op_int(1), op_int(before),
                                op_int(channels + size - 1));
  moon_tensor *windows = COMPOSE(c, unfold, op_tensor(padded), op_int(1), op_int(size), op_int(1));
  return COMPOSE(c, sum, op_tensor(windows), op_ints(1, (int64_t[]){ -1 }));
}

static moon_tensor *power(compose *c, moon_tensor *x, double exponent) {
  if (!x) return NULL;
  return COMPOSE(c, pow, op_tensor(x), op_tensor(compose_number(c, x, exponent)));
}

// g s^-beta - 2 alpha beta / size * x * (sum of g x s^(-beta - 1) over the windows that hold x),
// s = k + alpha / size * (sum of x^2 over the window of x)
moon_status norm_lrn_gradient(moon_engine *engine, const lrn_options *o, moon_tensor *g,
                              moon_tensor *x, moon_tensor **dx) {
  compose c = compose_open(engine);
  double share = o->alpha / (double)o->size;
  int64_t size = o->size < 2 * x->shape[1] ? o->size : 2 * x->shape[1];   // the rest is outside
  int64_t before = size < o->size ? size / 2 : o->size / 2, after = size - 1 - before;
  moon_tensor *wide = widened(&c, x), *gradient = widened(&c, g);
  moon_tensor *squares = window_sums(&c, COMPOSE(&c, square, op_tensor(wide)), size, before);
  moon_tensor *scale = squares ? compose_scale(&c, squares, share) : NULL;
  scale = scale ? compose_offset(&c, scale, o->k) : NULL;
  moon_tensor *straight = times(&c, gradient, power(&c, scale, -o->beta));
  moon_tensor *ratio = times(&c, times(&c, gradient, wide), power(&c, scale, -o->beta - 1));
  moon_tensor *sums = window_sums(&c, ratio, size, after);
  moon_tensor *bent = times(&c, wide, sums);
  bent = bent ? compose_scale(&c, bent, 2 * share * o->beta) : NULL;
  return compose_close(&c, less(&c, straight, bent), dx);
}
