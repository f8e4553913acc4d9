// Losses against class labels: cross_entropy and nll_loss. Labels count from 1 for users and from 0
// for kernels; inside, labels, weights and losses are flat vectors of n * inner elements.
// cross_entropy against probabilities is a formula; against labels it is the hidden operator
// cross_entropy_labels, with kernels of its own.
//
// A weight for each label stands for both options: the class's weight, and 0 where the label is the
// one to ignore. The mean divides by the sum of these weights, so it is NaN when all are ignored.
// Half types are summed and divided in float32.
#include <inttypes.h>

#include "ops/channels.h"
#include "ops/class_gradients.h"
#include "ops/loss.h"

enum { INPUT, TARGET, WEIGHT, IGNORE };        // of both operators
enum { CE_SMOOTHING = 4, CE_REDUCTION };
enum { NLL_REDUCTION = 4 };
enum { OUT, TOTAL, INDEX, LOGP, WEIGHTS = LOGP };   // results; the last one differs
enum { MEAN, SUM, NONE };                      // reduction
enum { IGNORED_LABEL = -1 };                   // in cross_entropy's INDEX

static moon_dtype sum_dtype(moon_dtype dtype) { return dtype == MOON_F64 ? MOON_F64 : MOON_F32; }

static int64_t count_labels(const moon_tensor *target) { return tensor_count(target); }

// -- flat vectors

static device_array flat(const moon_tensor *contiguous) {
  return (device_array){ .data = tensor_data(contiguous), .dtype = contiguous->dtype, .ndim = 1,
                         .shape = { tensor_count(contiguous) }, .strides = { 1 } };
}

// Writes `value` into `x` where `mask` is true.
static moon_status fill_where(moon_engine *engine, const moon_tensor *mask, double value,
                              moon_tensor *x) {
  moon_tensor *number;
  MOON_TRY(ops_new_filled(engine, x, x->dtype, 0, NULL, value, &number));
  device_array condition = flat(mask), out = flat(x);
  device_array fill = array_broadcast(number, 1, out.shape);
  moon_status status = tensor_kernels(x)->select(engine, &condition, &fill, &out, &out);
  tensor_release(number);
  return status;
}

// x = x (row) y, element by element, or with a single y for all.
static moon_status combine(moon_engine *engine, int row, moon_tensor *x, const moon_tensor *y) {
  device_array a = flat(x);
  device_array b = y->ndim == 0 ? array_broadcast(y, 1, a.shape) : flat(y);
  return tensor_kernels(x)->binary(engine, row, (double[2]){ 0, 0 }, &a, &b, &a);
}

// The sum of all elements, 0-d, in sum_dtype.
static moon_status sum_all(moon_engine *engine, const moon_tensor *x, moon_tensor **sum) {
  moon_tensor *wide, *made;
  MOON_TRY(ops_converted(engine, x, sum_dtype(x->dtype), &wide));
  moon_status status = ops_new(engine, x, wide->dtype, 0, NULL, &made);
  if (status == MOON_OK) {
    device_array from = flat(wide), to = flat(made);
    status = tensor_kernels(x)->reduce(engine, REDUCE_SUM, &from, &to);
    if (status == MOON_OK) *sum = made;
    else tensor_release(made);
  }
  tensor_release(wide);
  return status;
}

// -- labels

static moon_status check_target(const moon_tensor *input, const moon_tensor *target) {
  char x[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  if (input->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (n, c, d1, ...), got "
                     "%s; add the batch with input:unsqueeze(1)", tensor_shape_text(input, x));
  if (dtype_class_of(target->dtype) != DTYPE_INTEGER)
    return moon_fail(MOON_BAD_DTYPE, "target must hold class labels of an integer type, got %s; "
                     "cast it with :to \"int64\"",
                     dtype_name(target->dtype));
  bool fits = target->ndim == input->ndim - 1 && target->shape[0] == input->shape[0];
  for (int i = 1; fits && i < target->ndim; i++) fits = target->shape[i] == input->shape[i + 1];
  if (fits) return MOON_OK;
  int64_t wanted[MOON_MAX_DIMS] = { input->shape[0] };
  char w[TENSOR_SHAPE_TEXT];
  for (int i = 1; i < input->ndim - 1; i++) wanted[i] = input->shape[i + 1];
  return moon_fail(MOON_BAD_SHAPE, "target must be %s, a label for each place of input %s, got %s",
                   shape_text(input->ndim - 1, wanted, w), tensor_shape_text(input, x),
                   tensor_shape_text(target, t));
}

static moon_status check_smoothing(double smoothing) {
  if (smoothing >= 0 && smoothing <= 1) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "label_smoothing must lie in 0..1, got %g", smoothing);
}

static moon_status check_class_weight(const moon_tensor *input, const moon_tensor *weight) {
  char w[TENSOR_SHAPE_TEXT], x[TENSOR_SHAPE_TEXT];
  if (!weight) return MOON_OK;
  MOON_TRY(ops_need_same_dtype("input", input, "weight", weight));
  if (weight->ndim == 1 && weight->shape[0] == input->shape[1]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "weight must have one element for each of the %" PRId64
                   " classes of input %s, got %s", input->shape[1], tensor_shape_text(input, x),
                   tensor_shape_text(weight, w));
}

static moon_status check_classes(const op_value *args) {
  MOON_TRY(ops_need_float("input", args[INPUT].tensor));
  MOON_TRY(check_target(args[INPUT].tensor, args[TARGET].tensor));
  return check_class_weight(args[INPUT].tensor, args[WEIGHT].tensor);
}

// Where `labels` (int64) equal `ignore`.
static moon_status find_ignored(moon_engine *engine, const moon_tensor *labels, int64_t ignore,
                                moon_tensor **mask) {
  moon_tensor *number, *made;
  MOON_TRY(ops_new_filled(engine, labels, MOON_I64, 0, NULL, (double)ignore, &number));
  moon_status status = ops_new(engine, labels, MOON_BOOL, labels->ndim, labels->shape, &made);
  if (status == MOON_OK) {
    device_array x = flat(labels), out = flat(made), y = array_broadcast(number, 1, x.shape);
    status = tensor_kernels(labels)->compare(engine, COMPARE_eq, &x, &y, &out);
    if (status == MOON_OK) *mask = made;
    else tensor_release(made);
  }
  tensor_release(number);
  return status;
}

// The labels from 0, checked; where one is to be ignored, class 0 and true in *ignored, which stays
// NULL where the option is not given. Owned; NULL on failure.
static moon_status read_labels(op_call *call, moon_tensor **index, moon_tensor **ignored) {
  moon_tensor *target = call->args[TARGET].tensor, *labels;
  int64_t classes = call->args[INPUT].tensor->shape[1];
  *index = *ignored = NULL;
  if (!call->args[IGNORE].given)
    return ops_index_in(call->engine, "target", target, classes, index);
  MOON_TRY(ops_converted(call->engine, target, MOON_I64, &labels));
  moon_status status = find_ignored(call->engine, labels, call->args[IGNORE].integer, ignored);
  if (status == MOON_OK) status = fill_where(call->engine, *ignored, 1, labels);
  if (status == MOON_OK)
    status = ops_index_in(call->engine, "target", labels, classes, index);
  tensor_release(labels);
  if (status == MOON_OK) return MOON_OK;
  tensor_release(*ignored);
  *ignored = NULL;
  return status;
}

// The weight of each label: its class's, 0 where ignored; *weights is NULL where all are 1.
static moon_status weigh_labels(op_call *call, const moon_tensor *index, const moon_tensor *ignored,
                                moon_tensor **weights) {
  const moon_tensor *input = call->args[INPUT].tensor, *weight = call->args[WEIGHT].tensor;
  *weights = NULL;
  if (!weight && !ignored) return MOON_OK;
  moon_tensor *made;
  MOON_TRY(ops_new(call->engine, input, input->dtype, index->ndim, index->shape, &made));
  device_array out = flat(made);
  moon_status status;
  if (weight) {
    device_array of_class = tensor_array(weight), at = flat(index);
    status = tensor_kernels(input)->index_select(call->engine, 0, &of_class, &at, &out);
  } else {
    status = tensor_kernels(input)->fill(call->engine, 1, &out);
  }
  if (status == MOON_OK && ignored) status = fill_where(call->engine, ignored, 0, made);
  if (status == MOON_OK) *weights = made;
  else tensor_release(made);
  return status;
}

// -- reduction

// What the mean divides by.
static moon_status find_total(op_call *call, const moon_tensor *weights) {
  const moon_tensor *input = call->args[INPUT].tensor;
  if (weights) return sum_all(call->engine, weights, &call->results[TOTAL]);
  double count = (double)count_labels(call->args[TARGET].tensor);
  return ops_new_filled(call->engine, input, sum_dtype(input->dtype), 0, NULL, count,
                        &call->results[TOTAL]);
}

// Makes the result of the losses, a tensor of target's shape.
static moon_status reduce_losses(op_call *call, moon_tensor *losses, int64_t reduction) {
  moon_tensor *sum;
  if (reduction == NONE) {
    call->results[OUT] = tensor_retain(losses);
    return MOON_OK;
  }
  MOON_TRY(sum_all(call->engine, losses, &sum));
  moon_status status = MOON_OK;
  if (reduction == MEAN) status = combine(call->engine, BINARY_div, sum, call->results[TOTAL]);
  if (status == MOON_OK)
    status = ops_converted(call->engine, sum, losses->dtype, &call->results[OUT]);
  tensor_release(sum);
  return status;
}

// The gradient of each loss: 0-d where it is the same for all, else contiguous.
static moon_status loss_gradient(op_backward_call *call, int64_t reduction,
                                 moon_tensor **gradient) {
  moon_tensor *g = call->grads[OUT], *total = call->results[TOTAL], *wide;
  if (reduction != MEAN) return ops_contiguous(call->engine, g, gradient);
  MOON_TRY(ops_converted(call->engine, g, total->dtype, &wide));
  moon_status status = combine(call->engine, BINARY_div, wide, total);
  if (status == MOON_OK) status = ops_converted(call->engine, wide, g->dtype, gradient);
  tensor_release(wide);
  return status;
}

// -- cross_entropy

// A tensor of target's shape, or 0-d for all, as (n, inner).
static device_array as_places(const moon_tensor *contiguous, const int64_t seen[3]) {
  int64_t shape[2] = { seen[0], seen[2] };
  if (contiguous->ndim == 0) return array_broadcast(contiguous, 2, shape);
  return (device_array){ .data = tensor_data(contiguous), .dtype = contiguous->dtype, .ndim = 2,
                         .shape = { seen[0], seen[2] }, .strides = { seen[2], 1 } };
}

static moon_status run_cross_entropy(op_call *call, moon_tensor *losses) {
  moon_tensor *input = call->args[INPUT].tensor, *weight = call->args[WEIGHT].tensor, *copy;
  cross_entropy_options options = { IGNORED_LABEL, call->args[CE_SMOOTHING].number };
  device_array x, w, logp;
  if (call->recording) MOON_TRY(tensor_new_like(call->engine, input, &call->results[LOGP]));
  MOON_TRY(channels_open(call->engine, input, &x, &copy));
  device_array labels = as_places(call->results[INDEX], x.shape);
  device_array out = as_places(losses, x.shape);
  if (call->recording) logp = channels_of(call->results[LOGP]);
  if (weight) w = tensor_array(weight);
  moon_status status = tensor_kernels(input)->cross_entropy_forward(
      call->engine, &options, &x, &labels, weight ? &w : NULL, &out,
      call->recording ? &logp : NULL);
  tensor_release(copy);
  return status;
}

static moon_status prepare_cross_entropy(op_call *call) {
  moon_tensor *ignored, *weights;
  MOON_TRY(read_labels(call, &call->results[INDEX], &ignored));
  moon_status status = weigh_labels(call, call->results[INDEX], ignored, &weights);
  if (status == MOON_OK) {
    if (call->args[CE_REDUCTION].integer == MEAN) status = find_total(call, weights);
    if (status == MOON_OK && ignored)
      status = fill_where(call->engine, ignored, IGNORED_LABEL, call->results[INDEX]);
    tensor_release(weights);
  }
  tensor_release(ignored);
  return status;
}

static moon_status forward_cross_entropy_labels(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor, *target = call->args[TARGET].tensor, *losses;
  MOON_TRY(check_classes(call->args));
  MOON_TRY(check_smoothing(call->args[CE_SMOOTHING].number));
  MOON_TRY(prepare_cross_entropy(call));
  MOON_TRY(ops_new(call->engine, input, input->dtype, target->ndim, target->shape, &losses));
  moon_status status = run_cross_entropy(call, losses);
  if (status == MOON_OK) status = reduce_losses(call, losses, call->args[CE_REDUCTION].integer);
  tensor_release(losses);
  return status;
}

static class_losses gradient_parts(op_backward_call *call) {
  return (class_losses){ .input = &call->inputs[INPUT], .g = call->grads[OUT],
                         .total = call->results[TOTAL], .index = call->results[INDEX] };
}

static moon_status backward_cross_entropy(op_backward_call *call) {
  moon_tensor *weight = call->args[WEIGHT].tensor, *logp = call->results[LOGP], *gradient;
  cross_entropy_options options = { IGNORED_LABEL, call->args[CE_SMOOTHING].number };
  if (!call->needs[INPUT]) return MOON_OK;
  if (call->engine->grad_enabled || call->grads[LOGP]) {
    class_losses losses = gradient_parts(call);
    return class_cross_entropy_gradient(call->engine, &losses, options.smoothing, weight, logp,
                                        call->grads[LOGP], &call->out[INPUT]);
  }
  MOON_TRY(tensor_new_like(call->engine, logp, &call->out[INPUT]));
  MOON_TRY(loss_gradient(call, call->args[CE_REDUCTION].integer, &gradient));
  device_array p = channels_of(logp), dx = channels_of(call->out[INPUT]), w;
  device_array g = as_places(gradient, p.shape);
  device_array labels = as_places(call->results[INDEX], p.shape);
  if (weight) w = tensor_array(weight);
  moon_status status = tensor_kernels(logp)->cross_entropy_backward(
      call->engine, &options, &g, &p, &labels, weight ? &w : NULL, &dx);
  tensor_release(gradient);
  return status;
}

// -- nll_loss

// A tensor of target's shape, or 0-d for all, as (n, 1, inner).
static device_array as_column(const moon_tensor *contiguous, const int64_t seen[3]) {
  device_array places = as_places(contiguous, seen);
  places.ndim = 3;
  places.shape[2] = places.shape[1], places.strides[2] = places.strides[1];
  places.shape[1] = 1, places.strides[1] = 0;
  return places;
}

// losses = -input at the label, times its weight; 0 where ignored, whatever the input holds there.
static moon_status pick_losses(op_call *call, const moon_tensor *ignored, moon_tensor *losses) {
  moon_tensor *input = call->args[INPUT].tensor, *copy;
  device_array x;
  MOON_TRY(channels_open(call->engine, input, &x, &copy));
  device_array labels = as_column(call->results[INDEX], x.shape);
  device_array out = as_column(losses, x.shape);
  moon_status status =
      tensor_kernels(input)->gather(call->engine, 1, &x, &labels, &out);
  tensor_release(copy);
  MOON_TRY(status);
  MOON_TRY(tensor_kernels(input)->unary(call->engine, UNARY_neg, (double[2]){ 0, 0 }, &out, &out));
  if (call->results[WEIGHTS])
    MOON_TRY(combine(call->engine, BINARY_mul, losses, call->results[WEIGHTS]));
  return ignored ? fill_where(call->engine, ignored, 0, losses) : MOON_OK;
}

static moon_status forward_nll_loss(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor, *target = call->args[TARGET].tensor;
  moon_tensor *ignored, *losses = NULL;
  int64_t reduction = call->args[NLL_REDUCTION].integer;
  MOON_TRY(check_classes(call->args));
  MOON_TRY(read_labels(call, &call->results[INDEX], &ignored));
  moon_status status =
      weigh_labels(call, call->results[INDEX], ignored, &call->results[WEIGHTS]);
  if (status == MOON_OK && reduction == MEAN) status = find_total(call, call->results[WEIGHTS]);
  if (status == MOON_OK)
    status = ops_new(call->engine, input, input->dtype, target->ndim, target->shape, &losses);
  if (status == MOON_OK) status = pick_losses(call, ignored, losses);
  if (status == MOON_OK) status = reduce_losses(call, losses, reduction);
  tensor_release(losses);
  tensor_release(ignored);
  return status;
}

// dinput = -weight * g at the labels, 0 elsewhere.
static moon_status backward_nll_loss(op_backward_call *call) {
  const op_input *input = &call->inputs[INPUT];
  moon_tensor *index = call->results[INDEX], *gradient, *source;
  if (!call->needs[INPUT]) return MOON_OK;
  if (call->engine->grad_enabled) {
    class_losses losses = gradient_parts(call);
    losses.weights = call->results[WEIGHTS];
    return class_nll_gradient(call->engine, &losses, &call->out[INPUT]);
  }
  MOON_TRY(ops_new_filled(call->engine, index, input->dtype, input->ndim, input->shape, 0,
                          &call->out[INPUT]));
  MOON_TRY(loss_gradient(call, call->args[NLL_REDUCTION].integer, &gradient));
  moon_status status =
      ops_new(call->engine, gradient, gradient->dtype, index->ndim, index->shape, &source);
  if (status == MOON_OK) {
    device_array dx = channels_of(call->out[INPUT]), labels = as_column(index, dx.shape);
    device_array g = as_column(gradient, dx.shape), s = as_column(source, dx.shape);
    status = tensor_kernels(index)->unary(call->engine, UNARY_neg, (double[2]){ 0, 0 }, &g, &s);
    if (status == MOON_OK && call->results[WEIGHTS])
      status = combine(call->engine, BINARY_mul, source, call->results[WEIGHTS]);
    if (status == MOON_OK)
      status = tensor_kernels(index)->scatter(call->engine, 1, false, &labels, &s, &dx);
    tensor_release(source);
  }
  tensor_release(gradient);
  return status;
}

// -- cross_entropy for both kinds of target

static moon_status check_probabilities(const op_value *args) {
  const moon_tensor *input = args[INPUT].tensor, *weight = args[WEIGHT].tensor;
  const moon_tensor *target = args[TARGET].tensor;
  char x[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  if (!tensor_same_shape(input, target))
    return moon_fail(MOON_BAD_SHAPE, "target must hold class labels of an integer type, or "
                     "probabilities in the shape of input %s, got %s %s",
                     tensor_shape_text(input, x), dtype_name(target->dtype),
                     tensor_shape_text(target, t));
  MOON_TRY(ops_need_same_dtype("input", input, "target", target));
  if (input->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have dimensions (n, c) or (n, c, d1, ...), got "
                     "%s; add the batch with input:unsqueeze(1)", tensor_shape_text(input, x));
  if (args[IGNORE].given)
    return moon_fail(MOON_BAD_ARGUMENT, "ignore_index is for class labels, but target holds "
                     "probabilities (%s)", dtype_name(args[TARGET].tensor->dtype));
  MOON_TRY(check_class_weight(input, weight));
  return check_smoothing(args[CE_SMOOTHING].number);
}

// -sum over classes of weight * target * log softmax(input), the target smoothed
static moon_status against_probabilities(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *x = args[INPUT].tensor, *t = args[TARGET].tensor, *weight = args[WEIGHT].tensor;
  double smoothing = args[CE_SMOOTHING].number;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(check_probabilities(args));
  for (int i = 0; i < x->ndim; i++) shape[i] = i == 1 ? x->shape[1] : 1;
  compose c = compose_open(call->engine);
  moon_tensor *logp = COMPOSE(&c, log_softmax, op_tensor(x), op_int(1));
  if (smoothing > 0) {
    t = compose_scale(&c, t, 1 - smoothing);
    t = compose_offset(&c, t, smoothing / (double)(x->shape[1] > 0 ? x->shape[1] : 1));
  }
  if (weight) t = loss_times(&c, t, compose_reshape(&c, weight, x->ndim, shape));
  moon_tensor *losses = COMPOSE(&c, sum, op_tensor(loss_times(&c, t, logp)),
                                op_ints(1, (int64_t[]){ 1 }));
  losses = COMPOSE(&c, neg, op_tensor(losses));
  return loss_close(&c, losses, args[CE_REDUCTION].integer, &call->results[0]);
}

static moon_status forward_cross_entropy(op_call *call) {
  if (dtype_is_float(call->args[TARGET].tensor->dtype)) return against_probabilities(call);
  return op_run(call->engine, ops_get(OP_cross_entropy_labels), &call->results[0],
                call->op->signature->param_count, call->args);
}

#define REDUCTION "reduction: \"mean\"|\"sum\"|\"none\" = \"mean\""

#define CROSS_ENTROPY                                                                       \
  "(input: Tensor, target: Tensor, weight: Tensor?, ignore_index: int?, "                   \
  "label_smoothing: number = 0, " REDUCTION ") -> "

static op_descriptor descriptors[] = {
  { .name = "cross_entropy", .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = CROSS_ENTROPY "out",
    .doc = "-log softmax(input) at the labels: input (n, c) or (n, c, d1, ...) are scores, target "
           "(n) or (n, d1, ...) labels in 1..c. weight (c) weighs the classes; the mean divides by "
           "the weights of the labels that are not ignore_index. label_smoothing spreads that part "
           "of each label evenly over all classes (Szegedy et al. 2016). Labels have no gradient. "
           "A target of input's type and shape holds probabilities p instead: -sum over classes "
           "of weight * p * log softmax(input), and the mean divides by the number of sums.",
    .example = "moon.cross_entropy(moon.tensor { { 1000, 0 } }, "
               "moon.tensor({ 2 }, { dtype = \"int64\" })) --> 1000\n"
               "moon.cross_entropy(moon.tensor { { 1000, 0 } }, moon.tensor { { 0.5, 0.5 } }) "
               "--> 500",
    .forward = forward_cross_entropy },
  { .name = "cross_entropy_labels", .dtypes = OP_FLOATS, .flags = OP_HIDDEN | OP_KEPT_GRADS,
    .schema = CROSS_ENTROPY "out, [total], [index], [logp]",
    .saves = "weight total index logp",
    .doc = "cross_entropy against class labels.",
    .forward = forward_cross_entropy_labels, .backward = backward_cross_entropy },
  { .name = "nll_loss", .casts = OP_CASTS_FULL,
    .example = "moon.nll_loss(moon.tensor {{-1, -2}}, moon.tensor({2}, {dtype = "
               "\"int64\"})) --> 2",
    .dtypes = OP_FLOATS,
    .schema = "(input: Tensor, target: Tensor, weight: Tensor?, ignore_index: int?, "
              REDUCTION ") -> out, [total], [index], [weights]",
    .saves = "total index weights",
    .doc = "-input at the labels: input (n, c) or (n, c, d1, ...) are logarithms of probabilities, "
           "as log_softmax gives them; the rest as in cross_entropy.",
    .forward = forward_nll_loss, .backward = backward_nll_loss },
};
OP_FAMILY(classification, descriptors);
