// Batch normalisation and local response normalisation. Tensors (n, c, ...) go to the device as
// (n, c, inner); statistics are one number a channel, in float32 for the half types. Training and
// evaluation are one operator: training takes the statistics of the batch and moves the running
// ones in place, evaluation takes the running ones as constants.
#include <inttypes.h>
#include <math.h>

#include "ops/channels.h"
#include "ops/norm_gradients.h"
#include "ops/support.h"
#include "ops/target.h"

// -- arithmetic on statistics: small vectors, in place

static moon_status change(moon_engine *engine, int row, moon_tensor *x, double by) {
  moon_tensor *number;
  MOON_TRY(ops_new_filled(engine, x, x->dtype, 0, NULL, by, &number));
  device_array a = tensor_array(x), b = array_broadcast(number, x->ndim, x->shape);
  moon_status status = tensor_kernels(x)->binary(engine, row, (double[2]){ 0, 0 }, &a, &b, &a);
  tensor_release(number);
  return status;
}

static moon_status transform(moon_engine *engine, int row, moon_tensor *x) {
  device_array a = tensor_array(x);
  return tensor_kernels(x)->unary(engine, row, (double[2]){ 0, 0 }, &a, &a);
}

// -- batch_norm

enum { INPUT, WEIGHT, BIAS, MEAN, VAR, TRAINING, MOMENTUM, EPS };   // running_mean, running_var
enum { OUT, OUT_MEAN, OUT_RSTD };

static moon_dtype statistics_dtype(moon_dtype dtype) {
  return dtype == MOON_F64 ? MOON_F64 : MOON_F32;
}

static moon_status check_vector(const op_value *args, int i, const char *name, bool statistics) {
  const moon_tensor *input = args[INPUT].tensor, *vector = args[i].tensor;
  char x[TENSOR_SHAPE_TEXT], v[TENSOR_SHAPE_TEXT];
  if (!vector) return MOON_OK;
  if (!statistics || vector->dtype != statistics_dtype(input->dtype))
    MOON_TRY(ops_need_same_dtype("input", input, name, vector));
  if (vector->ndim == 1 && vector->shape[0] == input->shape[1]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have one element for each of the %" PRId64 " channels "
                   "of input %s, got %s", name, input->shape[1], tensor_shape_text(input, x),
                   tensor_shape_text(vector, v));
}

static moon_status check_batch_norm(const op_value *args) {
  const moon_tensor *input = args[INPUT].tensor;
  bool running = args[MEAN].tensor && args[VAR].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (n, c, ...), got %s",
                     tensor_shape_text(input, text));
  MOON_TRY(check_vector(args, WEIGHT, "weight", false));
  MOON_TRY(check_vector(args, BIAS, "bias", false));
  MOON_TRY(check_vector(args, MEAN, "running_mean", true));
  MOON_TRY(check_vector(args, VAR, "running_var", true));
  if (!running && (args[MEAN].tensor || args[VAR].tensor))
    return moon_fail(MOON_BAD_ARGUMENT, "running_mean and running_var belong together, got one of "
                     "them");
  if (!running && !args[TRAINING].boolean)
    return moon_fail(MOON_BAD_ARGUMENT, "running_mean and running_var are needed unless training "
                     "is true");
  if (running && args[TRAINING].boolean) {
    MOON_TRY(target_check(args[MEAN].tensor));
    MOON_TRY(target_check(args[VAR].tensor));
  }
  if (!(args[EPS].number >= 0))
    return moon_fail(MOON_BAD_ARGUMENT, "eps must not be negative, got %g", args[EPS].number);
  if (!(args[MOMENTUM].number >= 0 && args[MOMENTUM].number <= 1))
    return moon_fail(MOON_BAD_ARGUMENT, "momentum must lie in 0..1, got %g", args[MOMENTUM].number);
  int64_t seen[3];
  channels_shape(input->ndim, input->shape, seen);
  if (args[TRAINING].boolean && seen[0] == 1 && seen[2] == 1)
    return moon_fail(MOON_BAD_SHAPE, "training needs more than one value a channel, got input %s; "
                     "use a larger batch, or evaluation", tensor_shape_text(input, text));
  return MOON_OK;
}

// running = (1 - momentum) * running + momentum * value; `value` is used up.
static moon_status move_running(moon_engine *engine, moon_tensor *running, moon_tensor *value,
                                double momentum) {
  MOON_TRY(change(engine, BINARY_mul, value, momentum));
  MOON_TRY(change(engine, BINARY_mul, running, 1 - momentum));
  device_array r = tensor_array(running), v = tensor_array(value);
  moon_status status =
      tensor_kernels(running)->binary(engine, BINARY_add, (double[2]){ 0, 0 }, &r, &v, &r);
  tensor_touch(running);
  running->storage->last_writer = "batch_norm";
  return status;
}

// The variance that a sample of `count` values estimates, from 1 / sqrt(biased variance + eps).
static moon_status unbiased_variance(moon_engine *engine, moon_tensor *variance, double eps,
                                     int64_t count) {
  MOON_TRY(transform(engine, UNARY_square, variance));
  MOON_TRY(transform(engine, UNARY_reciprocal, variance));
  MOON_TRY(change(engine, BINARY_sub, variance, eps));
  return change(engine, BINARY_mul, variance, (double)count / (double)(count - 1));
}

static moon_status update_running(op_call *call, int64_t count) {
  const op_value *args = call->args;
  moon_tensor *mean = args[MEAN].tensor, *var = args[VAR].tensor, *new_mean, *new_var;
  double momentum = args[MOMENTUM].number;
  if (!mean || call->engine->recomputing) return MOON_OK;
  MOON_TRY(ops_converted(call->engine, call->results[OUT_MEAN], mean->dtype, &new_mean));
  moon_status status = ops_converted(call->engine, call->results[OUT_RSTD],
                                 call->results[OUT_RSTD]->dtype, &new_var);
  if (status != MOON_OK) {
    tensor_release(new_mean);
    return status;
  }
  status = unbiased_variance(call->engine, new_var, args[EPS].number, count);
  if (status == MOON_OK && new_var->dtype != var->dtype) {
    moon_tensor *exact = new_var;
    status = ops_converted(call->engine, exact, var->dtype, &new_var);
    if (status == MOON_OK) tensor_release(exact);
  }
  if (status == MOON_OK) status = move_running(call->engine, mean, new_mean, momentum);
  if (status == MOON_OK) status = move_running(call->engine, var, new_var, momentum);
  tensor_release(new_mean);
  tensor_release(new_var);
  return status;
}

// Optional vectors as kernels take them: NULL where there is none.
typedef struct vector_pair {
  device_array arrays[2];
  const device_array *weight, *bias;
} vector_pair;

static void read_vectors(const op_value *args, vector_pair *pair) {
  pair->weight = pair->bias = NULL;
  if (args[WEIGHT].tensor) {
    pair->arrays[0] = tensor_array(args[WEIGHT].tensor);
    pair->weight = &pair->arrays[0];
  }
  if (args[BIAS].tensor) {
    pair->arrays[1] = tensor_array(args[BIAS].tensor);
    pair->bias = &pair->arrays[1];
  }
}

static moon_status normalize_batch(op_call *call, const device_array *x) {
  moon_tensor *input = call->args[INPUT].tensor;
  moon_dtype dtype = statistics_dtype(input->dtype);
  vector_pair vectors;
  const int64_t *channels = &x->shape[1];
  MOON_TRY(ops_new_filled(call->engine, input, dtype, 1, channels, 0, &call->results[OUT_MEAN]));
  MOON_TRY(ops_new_filled(call->engine, input, dtype, 1, channels, 0, &call->results[OUT_RSTD]));
  if (tensor_count(input) == 0) return MOON_OK;   // nothing has no mean; gradients are 0
  device_array out = channels_of(call->results[OUT]);
  device_array mean = tensor_array(call->results[OUT_MEAN]);
  device_array rstd = tensor_array(call->results[OUT_RSTD]);
  read_vectors(call->args, &vectors);
  MOON_TRY(tensor_kernels(input)->batch_norm_forward(call->engine, call->args[EPS].number, x,
                                                     vectors.weight, vectors.bias, &out, &mean,
                                                     &rstd));
  return update_running(call, x->shape[0] * x->shape[2]);
}

// The running statistics are copied, so that training may move them before the backward pass.
static moon_status normalize_by_running(op_call *call, const device_array *x) {
  moon_tensor *input = call->args[INPUT].tensor;
  moon_dtype dtype = statistics_dtype(input->dtype);
  vector_pair vectors;
  MOON_TRY(ops_converted(call->engine, call->args[MEAN].tensor, dtype, &call->results[OUT_MEAN]));
  MOON_TRY(ops_converted(call->engine, call->args[VAR].tensor, dtype, &call->results[OUT_RSTD]));
  MOON_TRY(change(call->engine, BINARY_add, call->results[OUT_RSTD], call->args[EPS].number));
  MOON_TRY(transform(call->engine, UNARY_rsqrt, call->results[OUT_RSTD]));
  device_array out = channels_of(call->results[OUT]);
  device_array mean = tensor_array(call->results[OUT_MEAN]);
  device_array rstd = tensor_array(call->results[OUT_RSTD]);
  read_vectors(call->args, &vectors);
  return tensor_kernels(input)->batch_norm_apply(call->engine, x, vectors.weight, vectors.bias,
                                                 &mean, &rstd, &out);
}

static moon_status forward_batch_norm(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor, *copy;
  device_array x;
  MOON_TRY(check_batch_norm(call->args));
  MOON_TRY(tensor_new_like(call->engine, input, &call->results[OUT]));
  MOON_TRY(channels_open(call->engine, input, &x, &copy));
  moon_status status = call->args[TRAINING].boolean ? normalize_batch(call, &x)
                                                    : normalize_by_running(call, &x);
  tensor_release(copy);
  return status;
}

// -- its gradients

static moon_status sum_channels(moon_engine *engine, const moon_tensor *like, const device_array *x,
                                moon_tensor **sums) {
  MOON_TRY(ops_new(engine, like, x->dtype, 1, &x->shape[1], sums));
  device_array out = channels_vector(*sums);
  return tensor_kernels(like)->reduce(engine, REDUCE_SUM, x, &out);
}

static moon_status new_gradient(op_backward_call *call, int i) {
  const op_input *input = &call->inputs[i];
  moon_tensor *models[] = { call->grads[0], call->args[INPUT].tensor };
  if (!call->needs[i]) return MOON_OK;
  return ops_new_among(call->engine, 2, models, input->dtype, input->ndim, input->shape,
                       &call->out[i]);
}

static moon_status training_gradients(op_backward_call *call, const device_array *g,
                                      const device_array *x) {
  moon_tensor *like = call->grads[0];
  device_array mean = tensor_array(call->results[OUT_MEAN]);
  device_array rstd = tensor_array(call->results[OUT_RSTD]), dx, dweight, dbias;
  vector_pair vectors;
  for (int i = INPUT; i <= BIAS; i++) MOON_TRY(new_gradient(call, i));
  if (call->out[INPUT]) dx = channels_of(call->out[INPUT]);
  if (call->out[WEIGHT]) dweight = tensor_array(call->out[WEIGHT]);
  if (call->out[BIAS]) dbias = tensor_array(call->out[BIAS]);
  read_vectors(call->args, &vectors);
  return tensor_kernels(like)->batch_norm_backward(
      call->engine, g, x, vectors.weight, &mean, &rstd, call->out[INPUT] ? &dx : NULL,
      call->out[WEIGHT] ? &dweight : NULL, call->out[BIAS] ? &dbias : NULL);
}

// dx = g * weight * rstd: the statistics are constants.
static moon_status constant_input_gradient(op_backward_call *call, const device_array *g) {
  moon_tensor *like = call->grads[0], *zero;
  device_array rstd = tensor_array(call->results[OUT_RSTD]);
  vector_pair vectors;
  MOON_TRY(new_gradient(call, INPUT));
  MOON_TRY(ops_new_filled(call->engine, like, rstd.dtype, 1, rstd.shape, 0, &zero));
  device_array mean = tensor_array(zero), dx = channels_of(call->out[INPUT]);
  read_vectors(call->args, &vectors);
  moon_status status = tensor_kernels(like)->batch_norm_apply(call->engine, g, vectors.weight, NULL,
                                                              &mean, &rstd, &dx);
  tensor_release(zero);
  return status;
}

// dweight = sum of g * (x - mean) * rstd
static moon_status constant_weight_gradient(op_backward_call *call, const device_array *g,
                                            const device_array *x) {
  moon_tensor *like = call->grads[0], *product;
  const device_kernels *kernels = tensor_kernels(like);
  device_array mean = tensor_array(call->results[OUT_MEAN]);
  device_array rstd = tensor_array(call->results[OUT_RSTD]);
  MOON_TRY(ops_new(call->engine, like, x->dtype, 3, x->shape, &product));
  device_array p = tensor_array(product);
  moon_status status = kernels->batch_norm_apply(call->engine, x, NULL, NULL, &mean, &rstd, &p);
  if (status == MOON_OK)
    status = kernels->binary(call->engine, BINARY_mul, (double[2]){ 0, 0 }, &p, g, &p);
  if (status == MOON_OK) status = sum_channels(call->engine, like, &p, &call->out[WEIGHT]);
  tensor_release(product);
  return status;
}

static moon_status batch_norm_gradients(op_backward_call *call, const device_array *g) {
  moon_tensor *input = call->args[INPUT].tensor, *copy = NULL;
  bool training = call->args[TRAINING].boolean;
  device_array x;
  moon_status status = MOON_OK;
  if (call->needs[INPUT] || call->needs[WEIGHT]) {
    MOON_TRY(channels_open(call->engine, input, &x, &copy));
    if (training) {
      status = training_gradients(call, g, &x);
    } else {
      if (call->needs[INPUT]) status = constant_input_gradient(call, g);
      if (status == MOON_OK && call->needs[WEIGHT]) status = constant_weight_gradient(call, g, &x);
    }
    tensor_release(copy);
  }
  if (status == MOON_OK && call->needs[BIAS] && !call->out[BIAS])
    status = sum_channels(call->engine, call->grads[0], g, &call->out[BIAS]);
  return status;
}

static moon_status batch_norm_recorded(op_backward_call *call) {
  bool training = call->args[TRAINING].boolean;
  norm_batch batch = { .g = call->grads[OUT], .x = call->args[INPUT].tensor,
                       .weight = call->args[WEIGHT].tensor, .eps = call->args[EPS].number,
                       .mean = training ? NULL : call->results[OUT_MEAN],
                       .rstd = training ? NULL : call->results[OUT_RSTD],
                       .needs = call->needs, .out = call->out };
  return norm_batch_gradients(call->engine, &batch);
}

static moon_status backward_batch_norm(op_backward_call *call) {
  moon_tensor *copy;
  device_array g;
  if (call->engine->grad_enabled) return batch_norm_recorded(call);
  MOON_TRY(channels_open(call->engine, call->grads[0], &g, &copy));
  moon_status status = batch_norm_gradients(call, &g);
  tensor_release(copy);
  return status;
}

// -- local_response_norm

enum { LRN_INPUT, LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K };
enum { LRN_OUT, LRN_SCALE };

static lrn_options read_lrn(const op_value *args) {
  return (lrn_options){ .size = args[LRN_SIZE].integer, .alpha = args[LRN_ALPHA].number,
                        .beta = args[LRN_BETA].number, .k = args[LRN_K].number };
}

static moon_status forward_lrn(op_call *call) {
  moon_tensor *input = call->args[LRN_INPUT].tensor, *copy;
  lrn_options options = read_lrn(call->args);
  char text[TENSOR_SHAPE_TEXT];
  device_array x;
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (n, c, ...), got %s",
                     tensor_shape_text(input, text));
  if (options.size < 1)
    return moon_fail(MOON_BAD_ARGUMENT, "size must be at least 1, got %" PRId64, options.size);
  if (!isfinite(options.alpha) || !isfinite(options.beta) || !isfinite(options.k))
    return moon_fail(MOON_BAD_ARGUMENT, "alpha, beta and k must be finite, got %g, %g and %g",
                     options.alpha, options.beta, options.k);
  MOON_TRY(tensor_new_like(call->engine, input, &call->results[LRN_OUT]));
  MOON_TRY(tensor_new_like(call->engine, input, &call->results[LRN_SCALE]));
  MOON_TRY(channels_open(call->engine, input, &x, &copy));
  device_array out = channels_of(call->results[LRN_OUT]);
  device_array scale = channels_of(call->results[LRN_SCALE]);
  moon_status status =
      tensor_kernels(input)->lrn_forward(call->engine, &options, &x, &out, &scale);
  tensor_release(copy);
  return status;
}

static moon_status backward_lrn(op_backward_call *call) {
  moon_tensor *input = call->args[LRN_INPUT].tensor, *copy_of_x, *copy_of_g;
  lrn_options options = read_lrn(call->args);
  device_array x, g;
  if (call->engine->grad_enabled)
    return norm_lrn_gradient(call->engine, &options, call->grads[LRN_OUT], input,
                             &call->out[LRN_INPUT]);
  MOON_TRY(tensor_new_like(call->engine, input, &call->out[LRN_INPUT]));
  MOON_TRY(channels_open(call->engine, input, &x, &copy_of_x));
  moon_status status = channels_open(call->engine, call->grads[0], &g, &copy_of_g);
  if (status == MOON_OK) {
    device_array scale = channels_of(call->results[LRN_SCALE]);
    device_array dx = channels_of(call->out[LRN_INPUT]);
    status = tensor_kernels(input)->lrn_backward(call->engine, &options, &g, &x, &scale, &dx);
    tensor_release(copy_of_g);
  }
  tensor_release(copy_of_x);
  return status;
}

static op_descriptor descriptors[] = {
  { .name = "batch_norm",
    .example = "moon.batch_norm(moon.tensor {{1}, {3}}, nil, nil, nil, nil, {training = "
               "true}) --> {{-1}, {1}}",
    .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, weight: Tensor?, bias: Tensor?, running_mean: Tensor?, "
              "running_var: Tensor?, training: bool = false, momentum: number = 0.1, "
              "eps: number = 1e-5) -> out, [mean], [rstd]",
    .saves = "input@input input@weight weight@input mean rstd",
    .doc = "(input - mean) / sqrt(variance + eps) * weight + bias for each channel of input "
           "(n, c, ...). In training, mean and variance are those of the batch, and the running "
           "ones move towards them in place by momentum (the variance as its unbiased estimate); "
           "else the running ones are used (Ioffe and Szegedy 2015).",
    .forward = forward_batch_norm, .backward = backward_batch_norm },
  { .name = "local_response_norm",
    .example = "moon.local_response_norm(moon.ones(1, 1, 1, 1), 1, {alpha = 1, beta = 1}) "
               "--> {{{{0.5}}}}",
    .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, size: int = 5, alpha: number = 1e-4, beta: number = 0.75, "
              "k: number = 1) -> out, [scale]",
    .saves = "input scale",
    .doc = "input / (k + alpha / size * sum of squares over size neighbouring channels) ^ beta, "
           "for input (n, c, ...); channels beyond the ends count as 0 (Krizhevsky et al. 2012).",
    .forward = forward_lrn, .backward = backward_lrn },
};
OP_FAMILY(normalization, descriptors);
