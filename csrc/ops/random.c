// Random numbers. Every draw takes its place in the engine's Philox stream (base/random.h), four
// numbers to a 128-bit block, so one seed gives the same numbers on every device and for any number
// of threads. Nothing here has a gradient with respect to what was there before.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/random.h"

moon_status random_fill_uniform(moon_engine *engine, double low, double high,
                                const moon_tensor *target) {
  device_array out = tensor_array(target);
  uint64_t first = engine_take_draws(engine, ((uint64_t)array_count(&out) + 3) / 4);
  return tensor_kernels(target)->random_uniform(engine, engine->seed, first, low, high, &out);
}

moon_status random_fill_normal(moon_engine *engine, double mean, double deviation,
                               const moon_tensor *target) {
  device_array out = tensor_array(target);
  uint64_t first = engine_take_draws(engine, ((uint64_t)array_count(&out) + 3) / 4);
  return tensor_kernels(target)->random_normal(engine, engine->seed, first, mean, deviation, &out);
}

// The whole numbers that every value of a type lies in and is exact in.
static void exact_range(moon_dtype dtype, int64_t *low, int64_t *high) {
  static const int float_bits[] = {
    [MOON_F32] = 24, [MOON_F64] = 53, [MOON_F16] = 11, [MOON_BF16] = 8
  };
  *low = INT64_MIN;
  *high = INT64_MAX - 1;
  if (dtype_is_float(dtype)) *low = -(*high = INT64_C(1) << float_bits[dtype]);
  if (dtype == MOON_I32) *low = INT32_MIN, *high = INT32_MAX;
  if (dtype == MOON_U8) *low = 0, *high = UINT8_MAX;
  if (dtype == MOON_BOOL) *low = 0, *high = 1;
}

static moon_status draw_integers(moon_engine *engine, int64_t low, int64_t high,
                                 const moon_tensor *target) {
  device_array out = tensor_array(target);
  uint64_t first = engine_take_draws(engine, (uint64_t)array_count(&out));
  return tensor_kernels(target)->random_integers(engine, engine->seed, first, low, high + 1, &out);
}

moon_status random_fill_integers(moon_engine *engine, int64_t low, int64_t high,
                                 const moon_tensor *target) {
  int64_t lowest, highest;
  moon_tensor *whole;
  exact_range(target->dtype, &lowest, &highest);
  if (low > high)
    return moon_fail(MOON_BAD_ARGUMENT, "low must not be above high, got %" PRId64 " and %" PRId64,
                     low, high);
  if (low < lowest || high > highest)
    return moon_fail(MOON_BAD_ARGUMENT, "%s holds whole numbers from %" PRId64 " to %" PRId64
                     ", got low %" PRId64 " and high %" PRId64, dtype_name(target->dtype), lowest,
                     highest, low, high);
  if (dtype_class_of(target->dtype) == DTYPE_INTEGER)
    return draw_integers(engine, low, high, target);
  MOON_TRY(ops_new(engine, target, MOON_I64, target->ndim, target->shape, &whole));
  moon_status status = draw_integers(engine, low, high, whole);
  if (status == MOON_OK) status = ops_copy(engine, whole, target);
  tensor_release(whole);
  return status;
}

// -- in place

enum { SELF, A, B };

static moon_status check_finite(const char *name, double value) {
  if (isfinite(value)) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s must be a finite number, got %g", name, value);
}

static moon_status forward_uniform(op_call *call) {
  double low = call->args[A].number, high = call->args[B].number;
  MOON_TRY(ops_need_float("self", call->args[SELF].tensor));
  MOON_TRY(check_finite("low", low));
  MOON_TRY(check_finite("high", high));
  if (low > high)
    return moon_fail(MOON_BAD_ARGUMENT, "low must not be above high, got %g and %g", low, high);
  return random_fill_uniform(call->engine, low, high, call->results[0]);
}

static moon_status forward_normal(op_call *call) {
  double mean = call->args[A].number, deviation = call->args[B].number;
  MOON_TRY(ops_need_float("self", call->args[SELF].tensor));
  MOON_TRY(check_finite("mean", mean));
  MOON_TRY(check_finite("std", deviation));
  if (deviation < 0)
    return moon_fail(MOON_BAD_ARGUMENT, "std must not be negative, got %g", deviation);
  return random_fill_normal(call->engine, mean, deviation, call->results[0]);
}

static moon_status check_probability(double p) {
  if (p >= 0 && p <= 1) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "p must lie in 0..1, got %g", p);
}

// A uniform number below p counts as 1.
static moon_status bernoulli_steps(op_call *call, moon_tensor *draws, moon_tensor *p,
                                   moon_tensor *hits) {
  MOON_TRY(random_fill_uniform(call->engine, 0, 1, draws));
  device_array a = tensor_array(draws), b = array_broadcast(p, draws->ndim, draws->shape);
  device_array to = tensor_array(hits);
  MOON_TRY(tensor_kernels(draws)->compare(call->engine, COMPARE_lt, &a, &b, &to));
  return ops_copy(call->engine, hits, call->results[0]);
}

static moon_status forward_bernoulli(op_call *call) {
  moon_engine *e = call->engine;
  moon_tensor *self = call->args[SELF].tensor, *draws = NULL, *p = NULL, *hits = NULL;
  MOON_TRY(check_probability(call->args[A].number));
  moon_status status = ops_new(e, self, MOON_F32, self->ndim, self->shape, &draws);
  if (status == MOON_OK)
    status = ops_new_filled(e, self, MOON_F32, 0, NULL, call->args[A].number, &p);
  if (status == MOON_OK) status = ops_new(e, self, MOON_BOOL, self->ndim, self->shape, &hits);
  if (status == MOON_OK) status = bernoulli_steps(call, draws, p, hits);
  tensor_release(draws);
  tensor_release(p);
  tensor_release(hits);
  return status;
}

static moon_status forward_random(op_call *call) {
  return random_fill_integers(call->engine, call->args[A].integer, call->args[B].integer,
                              call->results[0]);
}

// What was there before has no influence.
static moon_status backward_nothing(op_backward_call *call) {
  (void)call;
  return MOON_OK;
}

// -- dropout

enum { INPUT, P, TRAINING };
enum { OUT, MASK };

static moon_status forward_dropout(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  double p = call->args[P].number;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(check_probability(p));
  if (!call->args[TRAINING].boolean || p == 0) return tensor_alias(x, &call->results[OUT]);
  if (p == 1) return ops_new_filled_like(call->engine, x, x->shape, 0, &call->results[OUT]);
  MOON_TRY(tensor_new_like(call->engine, x, &call->results[OUT]));
  MOON_TRY(ops_new_like(call->engine, x, MOON_BOOL, x->shape, &call->results[MASK]));
  device_array from = tensor_array(x), to = tensor_array(call->results[OUT]);
  device_array mask = tensor_array(call->results[MASK]);
  uint64_t first = engine_take_draws(call->engine, ((uint64_t)array_count(&to) + 3) / 4);
  return tensor_kernels(x)->dropout(call->engine, call->engine->seed, first, p, &from, &mask, &to);
}

// g / (1 - p) where the mask kept the element.
static moon_status backward_dropout(op_backward_call *call) {
  moon_engine *e = call->engine;
  moon_tensor *g = call->grads[OUT], *mask = call->results[MASK], **dx = &call->out[INPUT];
  double p = call->args[P].number;
  if (!call->args[TRAINING].boolean || p == 0) {
    call->out[INPUT] = tensor_retain(g);
    return MOON_OK;
  }
  if (p == 1) return MOON_OK;   // all zeros
  if (e->grad_enabled) {
    compose c = compose_open(e);
    moon_tensor *larger = compose_scale(&c, g, 1 / (1 - p)), *none = compose_number(&c, g, 0);
    moon_tensor *kept = COMPOSE(&c, where, op_tensor(mask), op_tensor(larger), op_tensor(none));
    return compose_close(&c, kept, dx);
  }
  MOON_TRY(tensor_new_like(e, g, dx));
  device_array from = tensor_array(g), keep = tensor_array(mask), to = tensor_array(*dx);
  return tensor_kernels(g)->dropout_backward(e, 1 / (1 - p), &from, &keep, &to);
}

static op_descriptor descriptors[] = {
  { .name = "uniform",
    .example = "moon.zeros(3):uniform_(-1, 1)",
    .dtypes = OP_FLOATS, .flags = OP_MUTATES | OP_CONSTANT,
    .schema = "(self: Tensor, low: number = 0, high: number = 1) -> out",
    .doc = "Fills with numbers drawn evenly from low (included) to high (left out).",
    .forward = forward_uniform, .backward = backward_nothing },
  { .name = "normal",
    .example = "moon.zeros(3):normal_(0, 1)",
    .dtypes = OP_FLOATS, .flags = OP_MUTATES | OP_CONSTANT,
    .schema = "(self: Tensor, mean: number = 0, std: number = 1) -> out",
    .doc = "Fills with numbers drawn from a normal distribution (Box and Muller 1958).",
    .forward = forward_normal, .backward = backward_nothing },
  { .name = "bernoulli",
    .example = "moon.zeros(4):bernoulli_(1) --> {1, 1, 1, 1}",
    .flags = OP_MUTATES | OP_CONSTANT,
    .schema = "(self: Tensor, p: number = 0.5) -> out",
    .doc = "Fills with ones, drawn with probability p, and zeros. Any type.",
    .forward = forward_bernoulli, .backward = backward_nothing },
  { .name = "random",
    .example = "moon.zeros(3):random_(1, 6)",
    .flags = OP_MUTATES | OP_CONSTANT, .schema = "(self: Tensor, low: int, high: int) -> out",
    .doc = "Fills with whole numbers drawn evenly from low to high, both included. Any type that "
           "holds them exactly.",
    .forward = forward_random, .backward = backward_nothing },
  { .name = "dropout",
    .example = "moon.dropout(moon.ones(3), 0.5, {training = false}) --> {1, 1, 1}",
    .dtypes = OP_FLOATS, .saves = "mask",
    .schema = "(input: Tensor, p: number = 0.5, training: bool = true) -> out, [mask]",
    .doc = "In training, sets each element to zero with probability p and divides the others by "
           "1 - p; otherwise gives the input as it is (Srivastava et al. 2014).",
    .forward = forward_dropout, .backward = backward_dropout },
};

OP_FAMILY(random, descriptors);
