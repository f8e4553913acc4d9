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

// -- batch_norm

enum {
  INPUT, WEIGHT, BIAS, MEAN, VAR,   // running_mean, running_var
  TRAINING, MOMENTUM, EPS, ADD, ACTIVATION,
};
enum { OUT, OUT_MEAN, OUT_RSTD, OUT_SHOWN };

static moon_dtype statistics_dtype(moon_dtype dtype) {
  return dtype == MOON_F64 ? MOON_F64 : MOON_F32;
}

// Of the input's type, or float32 beside the half types.
static moon_status check_vector(const op_value *args, int i, const char *name) {
  const moon_tensor *input = args[INPUT].tensor, *vector = args[i].tensor;
  char x[TENSOR_SHAPE_TEXT], v[TENSOR_SHAPE_TEXT];
  if (!vector) return MOON_OK;
  if (vector->dtype != statistics_dtype(input->dtype))
    MOON_TRY(ops_need_same_dtype("input", input, name, vector));
  if (vector->ndim == 1 && vector->shape[0] == input->shape[1]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have one element for each of the %" PRId64 " channels "
                   "of input %s, got %s", name, input->shape[1], tensor_shape_text(input, x),
                   tensor_shape_text(vector, v));
}

static moon_status check_add(const moon_tensor *input, const moon_tensor *add) {
  char x[TENSOR_SHAPE_TEXT], a[TENSOR_SHAPE_TEXT];
  if (!add) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, "add", add));
  if (tensor_same_shape(input, add)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "add must have the shape of input, got %s and input %s",
                   tensor_shape_text(add, a), tensor_shape_text(input, x));
}

static moon_status check_batch_norm(const op_value *args) {
  const moon_tensor *input = args[INPUT].tensor;
  bool running = args[MEAN].tensor && args[VAR].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  if (input->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (n, c, ...), got %s",
                     tensor_shape_text(input, text));
  MOON_TRY(check_vector(args, WEIGHT, "weight"));
  MOON_TRY(check_vector(args, BIAS, "bias"));
  MOON_TRY(check_vector(args, MEAN, "running_mean"));
  MOON_TRY(check_vector(args, VAR, "running_var"));
  MOON_TRY(check_add(input, args[ADD].tensor));
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

// The arrays of a call as kernels take them, with room for what their pointers show.
typedef struct batch_arrays {
  batch_norm_options options;
  batch_norm_arrays to;
  device_array held[14];
  int count;
  moon_tensor *copies[4];   // of tensors that lie too oddly to be seen as (n, c, inner)
  int copy_count;
} batch_arrays;

static const device_array *hold(batch_arrays *b, device_array array) {
  b->held[b->count] = array;
  return &b->held[b->count++];
}

static const device_array *hold_vector(batch_arrays *b, const moon_tensor *vector) {
  return vector ? hold(b, tensor_array(vector)) : NULL;
}

static const device_array *hold_result(batch_arrays *b, const moon_tensor *tensor) {
  return tensor ? hold(b, channels_of(tensor)) : NULL;
}

// An input (n, c, ...); NULL stays NULL.
static moon_status hold_input(moon_engine *engine, batch_arrays *b, moon_tensor *tensor,
                              const device_array **array) {
  device_array seen;
  if (!tensor) return MOON_OK;
  MOON_TRY(channels_open(engine, tensor, &seen, &b->copies[b->copy_count]));
  b->copy_count++;
  *array = hold(b, seen);
  return MOON_OK;
}

static void release_arrays(batch_arrays *b) {
  for (int i = 0; i < b->copy_count; i++) tensor_release(b->copies[i]);
}

static batch_norm_options read_options(const op_value *args) {
  return (batch_norm_options){ .epsilon = args[EPS].number, .momentum = args[MOMENTUM].number,
                               .constant = !args[TRAINING].boolean,
                               .activation = (int)args[ACTIVATION].integer };
}

// mean and rstd: room for those of the batch.
static moon_status make_statistics(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor;
  moon_dtype dtype = statistics_dtype(input->dtype);
  for (int i = OUT_MEAN; i <= OUT_RSTD; i++)
    MOON_TRY(ops_new_filled(call->engine, input, dtype, 1, &input->shape[1], 0, &call->results[i]));
  return MOON_OK;
}

// The running ones, copied, so that training may move them before the backward pass.
static moon_status copy_statistics(op_call *call) {
  const op_value *args = call->args;
  moon_dtype dtype = statistics_dtype(args[INPUT].tensor->dtype);
  moon_tensor **rstd = &call->results[OUT_RSTD], *epsilon;
  MOON_TRY(ops_converted(call->engine, args[MEAN].tensor, dtype, &call->results[OUT_MEAN]));
  MOON_TRY(ops_converted(call->engine, args[VAR].tensor, dtype, rstd));
  MOON_TRY(ops_new_filled(call->engine, *rstd, dtype, 0, NULL, args[EPS].number, &epsilon));
  device_array a = tensor_array(*rstd), b = array_broadcast(epsilon, 1, (*rstd)->shape);
  const device_kernels *kernels = tensor_kernels(*rstd);
  moon_status status =
      kernels->binary(call->engine, BINARY_add, (double[2]){ 0, 0 }, &a, &b, &a);
  if (status == MOON_OK)
    status = kernels->unary(call->engine, UNARY_rsqrt, (double[2]){ 0, 0 }, &a, &a);
  tensor_release(epsilon);
  return status;
}

static moon_status normalize_batch(op_call *call, batch_arrays *b) {
  const op_value *args = call->args;
  bool training = args[TRAINING].boolean;
  bool moves = training && args[MEAN].tensor && !call->engine->recomputing;
  MOON_TRY(hold_input(call->engine, b, args[INPUT].tensor, &b->to.x));
  MOON_TRY(hold_input(call->engine, b, args[ADD].tensor, &b->to.add));
  b->to.weight = hold_vector(b, args[WEIGHT].tensor);
  b->to.bias = hold_vector(b, args[BIAS].tensor);
  b->to.mean = hold_vector(b, call->results[OUT_MEAN]);
  b->to.rstd = hold_vector(b, call->results[OUT_RSTD]);
  b->to.running_mean = moves ? hold_vector(b, args[MEAN].tensor) : NULL;
  b->to.running_var = moves ? hold_vector(b, args[VAR].tensor) : NULL;
  b->to.out = hold_result(b, call->results[OUT]);
  b->options = read_options(args);
  moon_status status =
      tensor_kernels(args[INPUT].tensor)->batch_norm_forward(call->engine, &b->options, &b->to);
  for (int i = MEAN; moves && i <= VAR; i++) {
    tensor_touch(args[i].tensor);
    args[i].tensor->storage->last_writer = "batch_norm";
  }
  return status;
}

static moon_status forward_batch_norm(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor;
  batch_arrays arrays = { .count = 0 };
  MOON_TRY(check_batch_norm(call->args));
  MOON_TRY(tensor_new_like(call->engine, input, &call->results[OUT]));
  MOON_TRY(call->args[TRAINING].boolean ? make_statistics(call) : copy_statistics(call));
  if (tensor_count(input) == 0) return MOON_OK;   // nothing has no mean; gradients are 0
  moon_status status = normalize_batch(call, &arrays);
  release_arrays(&arrays);
  MOON_TRY(status);
  // Which elements the activation let through is seen in the result; without anything added
  // it is calculated from the input again.
  bool shown = call->recording && call->args[ADD].tensor && call->args[ACTIVATION].integer;
  return shown ? tensor_alias(call->results[OUT], &call->results[OUT_SHOWN]) : MOON_OK;
}

// -- its gradients

static moon_status make_gradients(op_backward_call *call) {
  static const int params[] = { INPUT, WEIGHT, BIAS, ADD };
  bool masked = call->args[ACTIVATION].integer != BATCH_NORM_PLAIN;
  for (size_t i = 0; i < sizeof params / sizeof *params; i++) {
    int param = params[i];
    const op_input *input = &call->inputs[param];
    if (!call->needs[param]) continue;
    if (param == ADD && !masked) call->out[ADD] = tensor_retain(call->grads[OUT]);
    else if (param == INPUT || param == ADD)
      MOON_TRY(tensor_new_like(call->engine, call->args[INPUT].tensor, &call->out[param]));
    else
      MOON_TRY(ops_new_filled(call->engine, call->grads[OUT], input->dtype, 1, input->shape, 0,
                              &call->out[param]));
  }
  return MOON_OK;
}

static moon_status batch_norm_gradients(op_backward_call *call, batch_arrays *b) {
  bool masked = call->args[ACTIVATION].integer != BATCH_NORM_PLAIN;
  MOON_TRY(hold_input(call->engine, b, call->args[INPUT].tensor, &b->to.x));
  MOON_TRY(hold_input(call->engine, b, call->grads[OUT], &b->to.gradient));
  b->to.out = hold_result(b, call->results[OUT_SHOWN]);
  b->to.weight = hold_vector(b, call->args[WEIGHT].tensor);
  b->to.bias = hold_vector(b, call->args[BIAS].tensor);
  b->to.mean = hold_vector(b, call->results[OUT_MEAN]);
  b->to.rstd = hold_vector(b, call->results[OUT_RSTD]);
  b->to.dx = hold_result(b, call->out[INPUT]);
  b->to.dadd = masked ? hold_result(b, call->out[ADD]) : NULL;
  b->to.dweight = hold_vector(b, call->out[WEIGHT]);
  b->to.dbias = hold_vector(b, call->out[BIAS]);
  b->options = read_options(call->args);
  return tensor_kernels(call->grads[OUT])->batch_norm_backward(call->engine, &b->options, &b->to);
}

static moon_status batch_norm_recorded(op_backward_call *call) {
  bool training = call->args[TRAINING].boolean;
  norm_batch batch = { .g = call->grads[OUT], .x = call->args[INPUT].tensor,
                       .weight = call->args[WEIGHT].tensor, .bias = call->args[BIAS].tensor,
                       .eps = call->args[EPS].number,
                       .activation = (int)call->args[ACTIVATION].integer,
                       .shown = call->results[OUT_SHOWN],
                       .mean = training ? NULL : call->results[OUT_MEAN],
                       .rstd = training ? NULL : call->results[OUT_RSTD] };
  static const int params[NORM_BATCH_GRADIENTS] = { INPUT, WEIGHT, BIAS, ADD };
  moon_tensor *out[NORM_BATCH_GRADIENTS] = { NULL };
  for (int i = 0; i < NORM_BATCH_GRADIENTS; i++) batch.needs[i] = call->needs[params[i]];
  MOON_TRY(norm_batch_gradients(call->engine, &batch, out));
  for (int i = 0; i < NORM_BATCH_GRADIENTS; i++) call->out[params[i]] = out[i];
  return MOON_OK;
}

static moon_status backward_batch_norm(op_backward_call *call) {
  batch_arrays arrays = { .count = 0 };
  if (call->engine->grad_enabled) return batch_norm_recorded(call);
  MOON_TRY(make_gradients(call));
  if (tensor_count(call->grads[OUT]) == 0) return MOON_OK;
  moon_status status = batch_norm_gradients(call, &arrays);
  release_arrays(&arrays);
  return status;
}

// -- local_response_norm

enum { LRN_INPUT, LRN_SIZE, LRN_ALPHA, LRN_BETA, LRN_K };

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
  MOON_TRY(tensor_new_like(call->engine, input, &call->results[0]));
  MOON_TRY(channels_open(call->engine, input, &x, &copy));
  device_array out = channels_of(call->results[0]);
  moon_status status = tensor_kernels(input)->lrn_forward(call->engine, &options, &x, &out);
  tensor_release(copy);
  return status;
}

static moon_status backward_lrn(op_backward_call *call) {
  moon_tensor *input = call->args[LRN_INPUT].tensor, *copy_of_x, *copy_of_g;
  lrn_options options = read_lrn(call->args);
  device_array x, g;
  if (call->engine->grad_enabled)
    return norm_lrn_gradient(call->engine, &options, call->grads[0], input,
                             &call->out[LRN_INPUT]);
  MOON_TRY(tensor_new_like(call->engine, input, &call->out[LRN_INPUT]));
  MOON_TRY(channels_open(call->engine, input, &x, &copy_of_x));
  moon_status status = channels_open(call->engine, call->grads[0], &g, &copy_of_g);
  if (status == MOON_OK) {
    device_array dx = channels_of(call->out[LRN_INPUT]);
    status = tensor_kernels(input)->lrn_backward(call->engine, &options, &g, &x, &dx);
    tensor_release(copy_of_g);
  }
  tensor_release(copy_of_x);
  return status;
}

static op_descriptor descriptors[] = {
  { .name = "batch_norm", .stays = "weight bias running_mean running_var",
    .example = "moon.batch_norm(moon.tensor {{1}, {3}}, nil, nil, nil, nil, {training = "
               "true}) --> {{-1}, {1}}",
    .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, weight: Tensor?, bias: Tensor?, running_mean: Tensor?, "
              "running_var: Tensor?, training: bool = false, momentum: number = 0.1, "
              "eps: number = 1e-5, add: Tensor?, activation: \"none\"|\"relu\"|\"relu6\" = "
              "\"none\") -> out, [mean], [rstd], [shown]",
    .saves = "input weight bias mean rstd shown",
    .doc = "activation((input - mean) / sqrt(variance + eps) * weight + bias + add) for each "
           "channel of input (n, c, ...). In training, mean and variance are those of the batch, "
           "and the running ones move towards them in place by momentum (the variance as its "
           "unbiased estimate); else the running ones are used (Ioffe and Szegedy 2015). What is "
           "in add, of input's shape, is added and the activation applied in the same pass.",
    .forward = forward_batch_norm, .backward = backward_batch_norm },
  { .name = "local_response_norm",
    .example = "moon.local_response_norm(moon.ones(1, 1, 1, 1), 1, {alpha = 1, beta = 1}) "
               "--> {{{{0.5}}}}",
    .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, size: int = 5, alpha: number = 1e-4, beta: number = 0.75, "
              "k: number = 1) -> out",
    .saves = "input",
    .doc = "input / (k + alpha / size * sum of squares over size neighbouring channels) ^ beta, "
           "for input (n, c, ...); channels beyond the ends count as 0 (Krizhevsky et al. 2012).",
    .forward = forward_lrn, .backward = backward_lrn },
};
OP_FAMILY(normalization, descriptors);
