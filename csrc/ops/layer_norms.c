// Normalisation of each sample by itself: layer, group and instance normalisation, and RMS. A row
// of numbers is brought to mean 0 and variance 1; the operators differ in what they call a row.
// Rows are laid out as the channels of one batch, so that batch_norm's kernel does the work: one
// pass for the statistics, in float32 for the half types, and one for the result.
#include <float.h>
#include <inttypes.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/target.h"

// -- rows

// Each of `rows` rows of `size` neighbouring elements minus its mean, over its deviation.
static moon_tensor *normalize_rows(compose *c, moon_tensor *x, int64_t rows, int64_t size,
                                   double eps) {
  if (c->status != MOON_OK) return NULL;
  if (tensor_count(x) == 0) return compose_scale(c, x, 1);
  if (size == 1) return COMPOSE(c, sub, op_tensor(x), op_tensor(x));   // one number is its mean
  moon_tensor *flat = compose_reshape(c, x, 3, (int64_t[]){ 1, rows, size });
  moon_tensor *y = COMPOSE(c, batch_norm, op_tensor(flat), op_none(), op_none(), op_none(),
                           op_none(), op_bool(true), op_number(0), op_number(eps));
  return compose_reshape(c, y, x->ndim, x->shape);
}

// y * weight + bias, where both are seen in a shape that broadcasts to y.
static moon_tensor *scale_and_shift(compose *c, moon_tensor *y, moon_tensor *weight,
                                    moon_tensor *bias, int ndim, const int64_t *shape) {
  if (weight) {
    weight = compose_reshape(c, weight, ndim, shape);
    y = COMPOSE(c, mul, op_tensor(y), op_tensor(weight));
  }
  if (bias) {
    bias = compose_reshape(c, bias, ndim, shape);
    y = COMPOSE(c, add, op_tensor(y), op_tensor(bias));
  }
  return y;
}

static moon_status check_eps(double eps) {
  if (eps >= 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "eps must not be negative, got %g", eps);
}

// The product of some sizes of a tensor that has elements.
static int64_t product(int count, const int64_t *sizes) {
  int64_t size = 1;
  for (int i = 0; i < count; i++) size *= sizes[i];
  return size;
}

// -- layer_norm and rms_norm: rows are the last dimensions

enum { INPUT, SHAPE, WEIGHT, BIAS, LAYER_EPS, RMS_EPS = BIAS };

static moon_status check_affine(const op_value *args, int i, const char *name) {
  const moon_tensor *input = args[INPUT].tensor, *vector = args[i].tensor;
  int ndim = args[SHAPE].ints.count;
  char wanted[TENSOR_SHAPE_TEXT], got[TENSOR_SHAPE_TEXT];
  if (!vector) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, name, vector));
  if (vector->ndim == ndim &&
      memcmp(vector->shape, args[SHAPE].ints.v, (size_t)ndim * sizeof *vector->shape) == 0)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have normalized_shape %s, got %s", name,
                   shape_text(ndim, args[SHAPE].ints.v, wanted), tensor_shape_text(vector, got));
}

static moon_status check_layer(const op_value *args) {
  const moon_tensor *input = args[INPUT].tensor;
  int ndim = args[SHAPE].ints.count;
  const int64_t *shape = args[SHAPE].ints.v;
  char wanted[TENSOR_SHAPE_TEXT], got[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  if (ndim == 0)
    return moon_fail(MOON_BAD_ARGUMENT, "normalized_shape must name at least one dimension");
  if (ndim > input->ndim || memcmp(shape, input->shape + (input->ndim - ndim),
                                   (size_t)ndim * sizeof *shape) != 0)
    return moon_fail(MOON_BAD_SHAPE, "normalized_shape %s must be the last dimensions of input %s",
                     shape_text(ndim, shape, wanted), tensor_shape_text(input, got));
  return check_affine(args, WEIGHT, "weight");
}

static moon_status forward_layer_norm(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor;
  int ndim = args[SHAPE].ints.count, before = x->ndim - ndim;
  MOON_TRY(check_layer(args));
  MOON_TRY(check_affine(args, BIAS, "bias"));
  MOON_TRY(check_eps(args[LAYER_EPS].number));
  compose c = compose_open(call->engine);
  bool empty = tensor_count(x) == 0;
  moon_tensor *y = normalize_rows(&c, x, empty ? 0 : product(before, x->shape),
                                  empty ? 0 : product(ndim, x->shape + before),
                                  args[LAYER_EPS].number);
  y = scale_and_shift(&c, y, args[WEIGHT].tensor, args[BIAS].tensor, ndim, args[SHAPE].ints.v);
  return compose_close(&c, y, &call->results[0]);
}

static double epsilon_of(moon_dtype dtype) {
  if (dtype == MOON_F64) return DBL_EPSILON;
  if (dtype == MOON_F16) return 0x1p-10;
  return dtype == MOON_BF16 ? 0x1p-7 : FLT_EPSILON;
}

// Half types are squared in float32: squares leave float16's range from 256 on.
static moon_status forward_rms_norm(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *input = args[INPUT].tensor, *x = input, *weight = args[WEIGHT].tensor;
  int ndim = args[SHAPE].ints.count;
  double eps = args[RMS_EPS].given ? args[RMS_EPS].number : epsilon_of(input->dtype);
  bool half = dtype_is_half(input->dtype);
  int64_t dims[MOON_MAX_DIMS];
  MOON_TRY(check_layer(args));
  MOON_TRY(check_eps(eps));
  for (int i = 0; i < ndim; i++) dims[i] = i - ndim;
  compose c = compose_open(call->engine);
  if (half) x = COMPOSE(&c, cast, op_tensor(x), op_dtype(MOON_F32));
  moon_tensor *squares = COMPOSE(&c, square, op_tensor(x));
  moon_tensor *mean = COMPOSE(&c, mean, op_tensor(squares), op_ints(ndim, dims), op_bool(true));
  mean = compose_offset(&c, mean, eps);
  moon_tensor *scale = COMPOSE(&c, rsqrt, op_tensor(mean));
  moon_tensor *y = COMPOSE(&c, mul, op_tensor(x), op_tensor(scale));
  if (half) y = COMPOSE(&c, cast, op_tensor(y), op_dtype(input->dtype));
  y = scale_and_shift(&c, y, weight, NULL, ndim, args[SHAPE].ints.v);
  return compose_close(&c, y, &call->results[0]);
}

// -- group_norm and instance_norm: rows are a sample's channels, several or one

static moon_status check_channels(const moon_tensor *input, const moon_tensor *vector,
                                  const char *name, bool statistics) {
  char x[TENSOR_SHAPE_TEXT], v[TENSOR_SHAPE_TEXT];
  if (!vector) return MOON_OK;
  if (!statistics || vector->dtype != MOON_F32 || !dtype_is_half(input->dtype))
    MOON_TRY(ops_need_same_dtype("input", input, name, vector));
  if (vector->ndim == 1 && vector->shape[0] == input->shape[1]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have one element for each of the %" PRId64 " channels "
                   "of input %s, got %s", name, input->shape[1], tensor_shape_text(input, x),
                   tensor_shape_text(vector, v));
}

static moon_tensor *by_channel(compose *c, moon_tensor *y, moon_tensor *weight,
                               moon_tensor *bias) {
  int64_t shape[MOON_MAX_DIMS];
  if (c->status != MOON_OK) return NULL;
  for (int i = 0; i < y->ndim; i++) shape[i] = i == 1 ? y->shape[1] : 1;
  return scale_and_shift(c, y, weight, bias, y->ndim, shape);
}

static moon_status forward_group_norm(op_call *call) {
  enum { GROUPS = 1, GROUP_WEIGHT, GROUP_BIAS, GROUP_EPS };
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor;
  int64_t groups = args[GROUPS].integer;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (n, c, ...), got %s",
                     tensor_shape_text(x, text));
  if (groups < 1 || x->shape[1] % groups != 0)
    return moon_fail(MOON_BAD_ARGUMENT, "groups must divide the %" PRId64 " channels of input %s, "
                     "got %" PRId64, x->shape[1], tensor_shape_text(x, text), groups);
  MOON_TRY(check_channels(x, args[GROUP_WEIGHT].tensor, "weight", false));
  MOON_TRY(check_channels(x, args[GROUP_BIAS].tensor, "bias", false));
  MOON_TRY(check_eps(args[GROUP_EPS].number));
  compose c = compose_open(call->engine);
  bool empty = tensor_count(x) == 0;
  int64_t rows = empty ? 0 : x->shape[0] * groups;
  moon_tensor *y = normalize_rows(&c, x, rows, empty ? 0 : tensor_count(x) / rows,
                                  args[GROUP_EPS].number);
  y = by_channel(&c, y, args[GROUP_WEIGHT].tensor, args[GROUP_BIAS].tensor);
  return compose_close(&c, y, &call->results[0]);
}

enum { MEAN = 1, VAR, INSTANCE_WEIGHT, INSTANCE_BIAS, USE_INPUT, MOMENTUM, INSTANCE_EPS };

static moon_status check_instance(const op_value *args) {
  const moon_tensor *x = args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim < 3)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c, d1, ...), got %s",
                     tensor_shape_text(x, text));
  MOON_TRY(check_channels(x, args[MEAN].tensor, "running_mean", true));
  MOON_TRY(check_channels(x, args[VAR].tensor, "running_var", true));
  MOON_TRY(check_channels(x, args[INSTANCE_WEIGHT].tensor, "weight", false));
  MOON_TRY(check_channels(x, args[INSTANCE_BIAS].tensor, "bias", false));
  if (!args[MEAN].tensor != !args[VAR].tensor)
    return moon_fail(MOON_BAD_ARGUMENT, "running_mean and running_var belong together, got one of "
                     "them");
  if (args[MEAN].tensor && args[USE_INPUT].boolean) {
    MOON_TRY(target_check(args[MEAN].tensor));
    MOON_TRY(target_check(args[VAR].tensor));
  }
  if (!args[MEAN].tensor && !args[USE_INPUT].boolean)
    return moon_fail(MOON_BAD_ARGUMENT, "running_mean and running_var are needed unless "
                     "use_input_stats is true");
  if (args[USE_INPUT].boolean && tensor_count(x) == x->shape[0] * x->shape[1] &&
      tensor_count(x) > 0)
    return moon_fail(MOON_BAD_SHAPE, "a channel of one value has no deviation, got input %s",
                     tensor_shape_text(x, text));
  return check_eps(args[INSTANCE_EPS].number);
}

// The statistics of a channel, once for each of n samples, for batch_norm to move.
static moon_tensor *for_each_sample(compose *c, moon_tensor *running, int64_t n) {
  if (c->status != MOON_OK) return NULL;
  int64_t channels = running->shape[0], shape[] = { n, channels };
  moon_tensor *many = COMPOSE(c, expand, op_tensor(running), op_ints(2, shape));
  many = COMPOSE(c, clone, op_tensor(many));
  return compose_reshape(c, many, 1, (int64_t[]){ n * channels });
}

// running = the mean over samples of what batch_norm made of each copy.
static void take_mean(compose *c, moon_tensor *many, moon_tensor *running, int64_t n) {
  if (c->status != MOON_OK || c->engine->recomputing) return;
  moon_tensor *samples = compose_reshape(c, many, 2, (int64_t[]){ n, running->shape[0] });
  moon_tensor *mean = COMPOSE(c, mean, op_tensor(samples), op_ints(1, (int64_t[]){ 0 }));
  if (c->status != MOON_OK) return;
  compose_check(c, ops_copy(c->engine, mean, running));
  tensor_touch(running);
  running->storage->last_writer = "instance_norm";
}

static moon_tensor *instances_and_running(compose *c, const op_value *args) {
  moon_tensor *x = args[INPUT].tensor, *mean, *var;
  int64_t n = x->shape[0], rows = n * x->shape[1];
  mean = for_each_sample(c, args[MEAN].tensor, n);
  var = for_each_sample(c, args[VAR].tensor, n);
  moon_tensor *flat = compose_reshape(c, x, 3, (int64_t[]){ 1, rows, tensor_count(x) / rows });
  moon_tensor *y = COMPOSE(c, batch_norm, op_tensor(flat), op_none(), op_none(), op_tensor(mean),
                           op_tensor(var), op_bool(true), args[MOMENTUM], args[INSTANCE_EPS]);
  bool enabled = c->engine->grad_enabled;
  c->engine->grad_enabled = false;
  take_mean(c, mean, args[MEAN].tensor, n);
  take_mean(c, var, args[VAR].tensor, n);
  c->engine->grad_enabled = enabled;
  return compose_reshape(c, y, x->ndim, x->shape);
}

static moon_status forward_instance_norm(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *y;
  MOON_TRY(check_instance(args));
  int64_t rows = x->shape[0] * x->shape[1], count = tensor_count(x);
  compose c = compose_open(call->engine);
  if (!args[USE_INPUT].boolean)
    y = COMPOSE(&c, batch_norm, op_tensor(x), op_none(), op_none(), args[MEAN], args[VAR],
                op_bool(false), args[MOMENTUM], args[INSTANCE_EPS]);
  else if (args[MEAN].tensor && count > 0)
    y = instances_and_running(&c, args);
  else
    y = normalize_rows(&c, x, rows, count > 0 ? count / rows : 0, args[INSTANCE_EPS].number);
  y = by_channel(&c, y, args[INSTANCE_WEIGHT].tensor, args[INSTANCE_BIAS].tensor);
  return compose_close(&c, y, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "layer_norm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, normalized_shape: int[], weight: Tensor?, bias: Tensor?, "
              "eps: number = 1e-5) -> out",
    .doc = "Brings the last dimensions of input together to mean 0 and variance 1. "
           "normalized_shape names their sizes; weight and bias have that shape. "
           "(input - mean) / sqrt(variance + eps) * weight + bias, the variance divided by the "
           "count (Ba, Kiros and Hinton 2016).",
    .example = "moon.layer_norm(moon.tensor { { 1, 3 }, { 5, 5 } }, { 2 }, { eps = 0.0001 })"
               ":round() --> { { -1, 1 }, { 0, 0 } }",
    .forward = forward_layer_norm },
  { .name = "rms_norm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, normalized_shape: int[], weight: Tensor?, eps: number?) -> out",
    .doc = "Divides the last dimensions of input by the root of their mean square. "
           "normalized_shape names their sizes; weight has that shape. "
           "input / sqrt(mean(input^2) + eps) * weight; eps is the type's machine epsilon unless "
           "given (Zhang and Sennrich 2019).",
    .example = "moon.rms_norm(moon.tensor { { 3, -3 }, { 5, 5 } }, { 2 }):round() "
               "--> { { 1, -1 }, { 1, 1 } }",
    .forward = forward_rms_norm },
  { .name = "group_norm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, groups: int, weight: Tensor?, bias: Tensor?, eps: number = 1e-5) "
              "-> out",
    .doc = "Brings each group of channels of each sample to mean 0 and variance 1. input is "
           "(n, c, ...), groups divides c; weight and bias have c elements. "
           "(input - mean) / sqrt(variance + eps) * weight + bias (Wu and He 2018).",
    .example = "moon.group_norm(moon.tensor { { 1, 3, 10, 30 } }, 2):round() "
               "--> { { -1, 1, -1, 1 } }",
    .forward = forward_group_norm },
  { .name = "instance_norm", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, running_mean: Tensor?, running_var: Tensor?, weight: Tensor?, "
              "bias: Tensor?, use_input_stats: bool = true, momentum: number = 0.1, "
              "eps: number = 1e-5) -> out",
    .doc = "Brings each channel of each sample to mean 0 and variance 1. input is (n, c, d1, ...); "
           "the other tensors have c elements. (input - mean) / sqrt(variance + eps) * weight + "
           "bias; running statistics, if given, move by momentum towards the mean over the samples "
           "of theirs, and are used where use_input_stats is false (Ulyanov, Vedaldi and Lempitsky "
           "2016).",
    .example = "moon.instance_norm(moon.tensor { { { 1, 3 }, { 40, 20 } } }):round() "
               "--> { { { -1, 1 }, { 1, -1 } } }",
    .forward = forward_instance_norm },
};
OP_FAMILY(layer_norms, descriptors);
