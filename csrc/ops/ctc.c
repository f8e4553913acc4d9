// ctc_loss: sequences against labellings of unknown timing. The operator that users call checks and
// lays out the labels by other operators; ctc_losses, hidden, has the kernels: one loss a sample.
#include <inttypes.h>

#include "ops/loss.h"

// -- ctc_losses

enum { LOGP, LABELS, LONGEST = LABELS + 4, BLANK, ZERO_INFINITY };
enum { OUT, ALPHA, LOSSES };

static void open_labels(const op_value *args, device_array arrays[4],
                        const device_array *labels[4]) {
  for (int i = 0; i < 4; i++) {
    arrays[i] = tensor_array(args[LABELS + i].tensor);
    labels[i] = &arrays[i];
  }
}

static moon_status forward_losses(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *logp = args[LOGP].tensor;
  ctc_options options = { args[BLANK].integer, args[ZERO_INFINITY].boolean };
  int64_t n = logp->shape[1], shape[3] = { n, logp->shape[0], 2 * args[LONGEST].integer + 1 };
  device_array arrays[4];
  const device_array *labels[4];
  MOON_TRY(ops_new(call->engine, logp, logp->dtype, 1, &n, &call->results[OUT]));
  MOON_TRY(ops_new(call->engine, logp, MOON_F64, 3, shape, &call->results[ALPHA]));
  MOON_TRY(ops_new(call->engine, logp, MOON_F64, 1, &n, &call->results[LOSSES]));
  open_labels(args, arrays, labels);
  device_array x = tensor_array(logp), losses = tensor_array(call->results[LOSSES]);
  device_array alpha = tensor_array(call->results[ALPHA]);
  MOON_TRY(tensor_kernels(logp)->ctc_forward(call->engine, &options, &x, labels, &losses, &alpha));
  return ops_copy(call->engine, call->results[LOSSES], call->results[OUT]);
}

static moon_status backward_losses(op_backward_call *call) {
  const op_value *args = call->args;
  moon_tensor *logp = args[LOGP].tensor;
  ctc_options options = { args[BLANK].integer, args[ZERO_INFINITY].boolean };
  device_array arrays[4];
  const device_array *labels[4];
  if (!call->needs[LOGP]) return MOON_OK;
  MOON_TRY(tensor_new_like(call->engine, logp, &call->out[LOGP]));
  open_labels(args, arrays, labels);
  device_array x = tensor_array(logp), losses = tensor_array(call->results[LOSSES]);
  device_array alpha = tensor_array(call->results[ALPHA]), g = tensor_array(call->grads[OUT]);
  device_array dx = tensor_array(call->out[LOGP]);
  return tensor_kernels(logp)->ctc_backward(call->engine, &options, &g, &x, labels, &losses, &alpha,
                                            &dx);
}

// -- ctc_loss

enum { TARGETS = 1, INPUT_LENGTHS, TARGET_LENGTHS, USER_BLANK, REDUCTION, USER_ZERO };

// A contiguous int64 copy.
static moon_tensor *whole(compose *c, moon_tensor *x) {
  moon_tensor *copy = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_converted(c->engine, x, MOON_I64, &copy);
  return compose_adopt(c, status, copy);
}

// The smallest and largest element of an int64 tensor; 0, 0 where there is none.
static void range_of(compose *c, moon_tensor *x, int64_t *low, int64_t *high) {
  *low = *high = 0;
  if (c->status != MOON_OK || tensor_count(x) == 0) return;
  device_array array = tensor_array(x);
  compose_check(c, tensor_kernels(x)->index_range(c->engine, &array, low, high));
}

// n is -1 for a single sample without a batch.
static moon_status check_lengths(const moon_tensor *lengths, const char *name, int64_t n) {
  char text[TENSOR_SHAPE_TEXT];
  if (dtype_class_of(lengths->dtype) != DTYPE_INTEGER)
    return moon_fail(MOON_BAD_DTYPE, "%s must be of an integer type, got %s; cast it with :to "
                     "\"int64\"", name, dtype_name(lengths->dtype));
  if (n < 0 ? tensor_count(lengths) == 1 : lengths->ndim == 1 && lengths->shape[0] == n)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have one element for each of the %" PRId64
                   " samples, got %s", name, n < 0 ? 1 : n, tensor_shape_text(lengths, text));
}

static moon_status check_ctc(const op_value *args, int64_t *blank) {
  const moon_tensor *x = args[LOGP].tensor, *targets = args[TARGETS].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("log_probs", x));
  if (x->ndim != 2 && x->ndim != 3)
    return moon_fail(MOON_BAD_SHAPE, "log_probs must have dimensions (t, n, c) or (t, c), got %s",
                     tensor_shape_text(x, text));
  int64_t n = x->ndim == 3 ? x->shape[1] : -1, classes = x->shape[x->ndim - 1];
  if (dtype_class_of(targets->dtype) != DTYPE_INTEGER)
    return moon_fail(MOON_BAD_DTYPE, "targets must be of an integer type, got %s; cast it with :to "
                     "\"int64\"", dtype_name(targets->dtype));
  if (targets->ndim != 1 && (targets->ndim != 2 || n < 0 || targets->shape[0] != n))
    return moon_fail(MOON_BAD_SHAPE, "targets must be (n, s) for the %" PRId64 " samples, or 1-d "
                     "one after the other, got %s", n < 0 ? 1 : n,
                     tensor_shape_text(targets, text));
  MOON_TRY(check_lengths(args[INPUT_LENGTHS].tensor, "input_lengths", n));
  MOON_TRY(check_lengths(args[TARGET_LENGTHS].tensor, "target_lengths", n));
  *blank = args[USER_BLANK].integer;
  if (*blank < 0) *blank += classes;
  if (*blank >= 0 && *blank < classes) return MOON_OK;
  return moon_fail(MOON_BAD_INDEX, "blank must be one of the %" PRId64 " classes, got %" PRId64,
                   classes, args[USER_BLANK].integer + (args[USER_BLANK].integer >= 0));
}

static void check_range(compose *c, const char *name, moon_tensor *lengths, int64_t limit,
                        int64_t *high) {
  int64_t low;
  range_of(c, lengths, &low, high);
  if (c->status == MOON_OK && (low < 0 || *high > limit))
    compose_check(c, moon_fail(MOON_BAD_ARGUMENT, "%s must lie in 0..%" PRId64 ", found %" PRId64,
                               name, limit, low < 0 ? low : *high));
}

static moon_tensor *count_up(compose *c, const moon_tensor *like, int64_t count, int64_t step) {
  moon_tensor *numbers = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new(c->engine, like, MOON_I64, 1, &count, &numbers);
  numbers = compose_adopt(c, status, numbers);
  if (!numbers) return NULL;
  device_array out = tensor_array(numbers);
  compose_check(c, tensor_kernels(numbers)->arange(c->engine, 0, (double)step, &out));
  return numbers;
}

// Where each sample's targets begin; for targets one after the other, their lengths must add up.
static moon_tensor *find_offsets(compose *c, moon_tensor *targets, moon_tensor *lengths) {
  int64_t low, total;
  if (c->status != MOON_OK) return NULL;
  if (targets->ndim == 2) return count_up(c, targets, lengths->shape[0], targets->shape[1]);
  moon_tensor *ends = COMPOSE(c, cumsum, op_tensor(lengths), op_int(0));
  range_of(c, ends, &low, &total);
  if (c->status == MOON_OK && low <= total && total != targets->shape[0])
    compose_check(c, moon_fail(MOON_BAD_SHAPE, "target_lengths add up to %" PRId64 ", but there "
                               "are %" PRId64 " targets", total, targets->shape[0]));
  return loss_minus(c, ends, lengths);
}

// Which of targets (n, s) lie within their sample's length; NULL for targets in one row: all.
static moon_tensor *within_length(compose *c, moon_tensor *targets, moon_tensor *lengths) {
  if (c->status != MOON_OK || targets->ndim == 1) return NULL;
  moon_tensor *places = count_up(c, targets, targets->shape[1], 1);
  moon_tensor *length = COMPOSE(c, unsqueeze, op_tensor(lengths), op_int(1));
  return COMPOSE(c, lt, op_tensor(places), op_tensor(length));
}

static void refuse_blank(compose *c, moon_tensor *index, moon_tensor *valid, int64_t blank) {
  int64_t low, found;
  moon_tensor *number = compose_number(c, index, (double)blank);
  moon_tensor *same = COMPOSE(c, eq, op_tensor(index), op_tensor(number));
  if (valid) same = COMPOSE(c, logical_and, op_tensor(same), op_tensor(valid));
  range_of(c, whole(c, same), &low, &found);
  if (c->status == MOON_OK && found)
    compose_check(c, moon_fail(MOON_BAD_ARGUMENT, "targets must not hold the blank, %" PRId64,
                               blank + 1));
}

// The targets from 0; those beyond a sample's length may be anything and become 0.
static moon_tensor *read_targets(compose *c, moon_tensor *targets, moon_tensor *lengths,
                                 int64_t classes, int64_t blank) {
  moon_tensor *used = whole(c, targets), *valid = within_length(c, targets, lengths);
  moon_tensor *index = NULL;
  if (valid) {
    moon_tensor *one = compose_number(c, used, 1);
    used = COMPOSE(c, where, op_tensor(valid), op_tensor(used), op_tensor(one));
  }
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_index_in(c->engine, "targets", used, classes, &index);
  index = compose_adopt(c, status, index);
  refuse_blank(c, index, valid, blank);
  return index;
}

static moon_tensor *finite_or_zero(compose *c, moon_tensor *losses) {
  moon_tensor *zero = compose_number(c, losses, 0);
  moon_tensor *finite = COMPOSE(c, isfinite, op_tensor(losses));
  return COMPOSE(c, where, op_tensor(finite), op_tensor(losses), op_tensor(zero));
}

// Each loss by its number of targets, as PyTorch's mean.
static moon_tensor *by_length(compose *c, moon_tensor *losses, moon_tensor *lengths,
                              moon_dtype dtype) {
  moon_tensor *one = compose_number(c, lengths, 1);
  moon_tensor *counts = COMPOSE(c, maximum, op_tensor(lengths), op_tensor(one));
  counts = COMPOSE(c, cast, op_tensor(counts), op_dtype(dtype));
  return COMPOSE(c, div, op_tensor(losses), op_tensor(counts));
}

static moon_status forward_ctc(op_call *call) {
  const op_value *args = call->args;
  moon_tensor *x = args[LOGP].tensor, *targets = args[TARGETS].tensor;
  int64_t blank = 0, longest, unused;
  MOON_TRY(check_ctc(args, &blank));
  compose c = compose_open(call->engine);
  bool single = x->ndim == 2;
  moon_tensor *times = whole(&c, args[INPUT_LENGTHS].tensor);
  moon_tensor *lengths = whole(&c, args[TARGET_LENGTHS].tensor);
  if (single) {
    x = compose_reshape(&c, x, 3, (int64_t[]){ x->shape[0], 1, x->shape[1] });
    times = compose_reshape(&c, times, 1, (int64_t[]){ 1 });
    lengths = compose_reshape(&c, lengths, 1, (int64_t[]){ 1 });
    if (c.status != MOON_OK) return compose_close(&c, NULL, NULL);
  }
  check_range(&c, "input_lengths", times, x->shape[0], &unused);
  check_range(&c, "target_lengths", lengths, targets->shape[targets->ndim - 1], &longest);
  moon_tensor *offsets = find_offsets(&c, targets, lengths);
  moon_tensor *labels = read_targets(&c, targets, lengths, x->shape[2], blank);
  moon_tensor *losses = COMPOSE(&c, ctc_losses, op_tensor(x), op_tensor(labels),
                                op_tensor(offsets), op_tensor(times), op_tensor(lengths),
                                op_int(longest), op_int(blank), args[USER_ZERO]);
  if (args[USER_ZERO].boolean) losses = finite_or_zero(&c, losses);
  if (args[REDUCTION].integer == LOSS_MEAN) losses = by_length(&c, losses, lengths, x->dtype);
  if (single) losses = compose_reshape(&c, losses, 0, NULL);
  return loss_close(&c, losses, args[REDUCTION].integer, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "ctc_loss",
    .casts = OP_CASTS_FULL, .dtypes = OP_FLOATS, .flags = OP_COMPOSITE | OP_ONCE,
    .schema = "(log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, "
              "blank: index = 1, " LOSS_REDUCTION ", zero_infinity: bool = false) -> out",
    .doc = "Minus the logarithm of the probability of a labelling, over all ways to spread it over "
           "time with repeats and blanks (connectionist temporal classification). log_probs "
           "(t, n, c) are logarithms, as log_softmax gives them; targets (n, s) labels from 1, or "
           "all labels one after the other; input_lengths and target_lengths (n) say how much of "
           "each sample counts (for a single sample: (t, c), (s) and two numbers); blank is the "
           "label of no label. The mean first divides each loss by its number of targets; "
           "zero_infinity takes impossible labellings as 0. The gradient is that of log_probs "
           "themselves (Graves et al. 2006).",
    .example = "moon.ctc_loss(moon.full({ 2, 1, 2 }, math.log(0.5)), "
               "moon.tensor({ { 2 } }, { dtype = \"int64\" }), moon.tensor({ 2 }, { dtype = "
               "\"int64\" }), moon.tensor({ 1 }, { dtype = \"int64\" })):neg():exp() --> 0.75",
    .forward = forward_ctc },
  { .name = "ctc_losses", .dtypes = OP_FLOATS, .flags = OP_HIDDEN | OP_ONCE,
    .schema = "(log_probs: Tensor, targets: Tensor, offsets: Tensor, input_lengths: Tensor, "
              "target_lengths: Tensor, longest: int, blank: int, zero_infinity: bool) -> out, "
              "[alpha], [losses]",
    .saves = "log_probs targets offsets input_lengths target_lengths alpha losses",
    .doc = "ctc_loss of each sample; labels counted from 0, laid out for the kernel.",
    .forward = forward_losses, .backward = backward_losses },
};
OP_FAMILY(ctc, descriptors);
