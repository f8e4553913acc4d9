// Padding of the last dimensions. Constants are filled round a copy, and the adjoint of that is the
// same operator with every number negated: what was added is cut off, what was cut off is zero.
// The other modes repeat elements of the input: a row of positions for each dimension, and
// index_select.
#include <inttypes.h>
#include <string.h>

#include "ops/compose.h"

enum { INPUT, PAD, MODE, VALUE };                          // of pad
enum { CONSTANT, REFLECT, REPLICATE, CIRCULAR };           // mode
enum { FILLED_INPUT, FILLED_PAD, FILLED_VALUE };           // of pad_constant

static const int64_t largest = INT32_MAX;

// -- numbers: pairs from the last dimension inwards, as PyTorch has them

static int64_t before_of(const op_value *pad, int ndim, int dim) {
  int pair = ndim - 1 - dim;
  return 2 * pair < pad->ints.count ? pad->ints.v[2 * pair] : 0;
}

static int64_t after_of(const op_value *pad, int ndim, int dim) {
  int pair = ndim - 1 - dim;
  return 2 * pair < pad->ints.count ? pad->ints.v[2 * pair + 1] : 0;
}

static moon_status check_pad(const moon_tensor *x, const op_value *pad) {
  char text[TENSOR_SHAPE_TEXT];
  int count = pad->ints.count;
  if (count % 2 != 0)
    return moon_fail(MOON_BAD_ARGUMENT, "pad must have two numbers for each dimension, before and "
                     "after, the last dimension first; got %d", count);
  if (count / 2 > x->ndim)
    return moon_fail(MOON_BAD_SHAPE, "pad has numbers for %d dimensions but input has %d (%s)",
                     count / 2, x->ndim, tensor_shape_text(x, text));
  for (int i = 0; i < count; i++)
    if (pad->ints.v[i] > largest || pad->ints.v[i] < -largest)
      return moon_fail(MOON_BAD_ARGUMENT, "pad must lie in -%" PRId64 "..%" PRId64 ", got %" PRId64,
                       largest, largest, pad->ints.v[i]);
  return MOON_OK;
}

static moon_status padded_size(const moon_tensor *x, const op_value *pad, int dim, int64_t *size) {
  char text[TENSOR_SHAPE_TEXT];
  int64_t before = before_of(pad, x->ndim, dim), after = after_of(pad, x->ndim, dim);
  if (__builtin_add_overflow(x->shape[dim], before + after, size) || *size < 0)
    return moon_fail(MOON_BAD_SHAPE, "pad %" PRId64 ", %" PRId64 " leaves less than nothing of "
                     "dimension %d (input %s)", before, after, dim + 1, tensor_shape_text(x, text));
  return MOON_OK;
}

// -- constant

// Narrows `x` and `out` to what they share along one dimension; false if that is nothing.
static bool show_shared(device_array *x, device_array *out, int dim, int64_t before,
                        int64_t after) {
  int64_t skipped = before < 0 ? -before : 0, added = before > 0 ? before : 0;
  int64_t length = x->shape[dim] - skipped - (after < 0 ? -after : 0);
  if (length <= 0) return false;
  int64_t size = (int64_t)dtype_size(x->dtype);
  x->data = (char *)x->data + skipped * x->strides[dim] * size;
  out->data = (char *)out->data + added * out->strides[dim] * size;
  x->shape[dim] = out->shape[dim] = length;
  return true;
}

static moon_status forward_constant(op_call *call) {
  moon_tensor *input = call->args[FILLED_INPUT].tensor;
  const op_value *pad = &call->args[FILLED_PAD];
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(check_pad(input, pad));
  for (int i = 0; i < input->ndim; i++) MOON_TRY(padded_size(input, pad, i, &shape[i]));
  MOON_TRY(ops_new_filled_like(call->engine, input, shape, call->args[FILLED_VALUE].number,
                               &call->results[0]));
  device_array x = tensor_array(input), out = tensor_array(call->results[0]);
  for (int i = 0; i < input->ndim; i++)
    if (!show_shared(&x, &out, i, before_of(pad, x.ndim, i), after_of(pad, x.ndim, i)))
      return MOON_OK;
  return tensor_kernels(input)->copy(call->engine, &x, &out);
}

static moon_status backward_constant(op_backward_call *call) {
  op_value back = call->args[FILLED_PAD];
  for (int i = 0; i < back.ints.count; i++) back.ints.v[i] = -back.ints.v[i];
  return OP_RUN(call->engine, call->op, &call->out[FILLED_INPUT], op_tensor(call->grads[0]), back);
}

// -- the other modes

static moon_status check_repeat(const moon_tensor *x, const op_value *args, int dim) {
  static const char *const names[] = { "constant", "reflect", "replicate", "circular" };
  char text[TENSOR_SHAPE_TEXT];
  int64_t mode = args[MODE].integer, size = x->shape[dim], most = INT64_MAX;
  int64_t pads[2] = { before_of(&args[PAD], x->ndim, dim), after_of(&args[PAD], x->ndim, dim) };
  if (mode == REFLECT) most = size - 1;
  else if (mode == CIRCULAR || size == 0) most = size;
  for (int i = 0; i < 2; i++)
    if (pads[i] > 0 && pads[i] > most)
      return moon_fail(MOON_BAD_SHAPE, "dimension %d of size %" PRId64 " can be padded by at most %"
                       PRId64 " in mode \"%s\", got %" PRId64 " (input %s)", dim + 1, size,
                       most < 0 ? 0 : most, names[mode], pads[i], tensor_shape_text(x, text));
  return MOON_OK;
}

// Writes from, from + step, ... into the part first..end of a row of positions.
static moon_status write_run(moon_engine *engine, moon_tensor *row, int64_t first, int64_t end,
                             int64_t from, int64_t step) {
  if (first >= end) return MOON_OK;
  device_array part = tensor_array(row);
  part.data = (int64_t *)part.data + first;
  part.shape[0] = end - first;
  return tensor_kernels(row)->arange(engine, (double)from, (double)step, &part);
}

static int64_t within(int64_t value, int64_t high) {
  return value < 0 ? 0 : value > high ? high : value;
}

// Positions, counted from 1, of the elements that stand in the padded dimension: those in front of
// the input, the input's own, those behind it. A negative number cuts the row at that end.
static moon_status positions(moon_engine *engine, const moon_tensor *x, int64_t mode, int64_t size,
                             int64_t before, int64_t padded, moon_tensor **row) {
  moon_tensor *made;
  MOON_TRY(ops_new(engine, x, MOON_I64, 1, &padded, &made));
  int64_t middle = within(before, padded), end = within(before + size, padded);
  // what stands at the first place of each run, and how it goes on
  int64_t front = mode == REFLECT ? before + 1 : mode == CIRCULAR ? size - before + 1 : 1;
  int64_t back = end - before + 1;   // the place itself, were there no end
  if (mode == REFLECT) back = 2 * size - back;
  else back = mode == CIRCULAR ? back - size : size;
  int64_t step = mode == REFLECT ? -1 : mode == CIRCULAR;
  moon_status status = write_run(engine, made, 0, middle, front, step);
  if (status == MOON_OK) status = write_run(engine, made, middle, end, middle - before + 1, 1);
  if (status == MOON_OK) status = write_run(engine, made, end, padded, back, step);
  if (status != MOON_OK) {
    tensor_release(made);
    return status;
  }
  *row = made;
  return MOON_OK;
}

static moon_tensor *repeat_along(compose *c, moon_tensor *x, int dim, int64_t mode, int64_t before,
                                 int64_t after) {
  moon_tensor *row = NULL;
  if (c->status != MOON_OK || (before == 0 && after == 0)) return x;
  moon_status status = positions(c->engine, x, mode, x->shape[dim], before,
                                 x->shape[dim] + before + after, &row);
  row = compose_adopt(c, status, row);
  return COMPOSE(c, index_select, op_tensor(x), op_int(dim), op_tensor(row));
}

// Circles close over what is left after cutting, as in PyTorch.
static moon_tensor *cut_first(compose *c, moon_tensor *x, op_value *pad) {
  op_value cut = *pad;
  bool any = false;
  for (int i = 0; i < pad->ints.count; i++) {
    cut.ints.v[i] = pad->ints.v[i] < 0 ? pad->ints.v[i] : 0;
    pad->ints.v[i] -= cut.ints.v[i];
    any = any || cut.ints.v[i] < 0;
  }
  return any ? COMPOSE(c, pad_constant, op_tensor(x), cut) : x;
}

static moon_status repeat(op_call *call) {
  op_value pad = call->args[PAD];
  int64_t mode = call->args[MODE].integer;
  compose c = compose_open(call->engine);
  moon_tensor *x = call->args[INPUT].tensor;
  int ndim = x->ndim;
  if (mode == CIRCULAR) x = cut_first(&c, x, &pad);
  for (int dim = ndim - 1; dim >= 0; dim--)
    x = repeat_along(&c, x, dim, mode, before_of(&pad, ndim, dim), after_of(&pad, ndim, dim));
  if (c.status == MOON_OK && c.count == 0) x = COMPOSE(&c, clone, op_tensor(x));
  return compose_close(&c, x, &call->results[0]);
}

static moon_status forward_pad(op_call *call) {
  moon_tensor *input = call->args[INPUT].tensor;
  int64_t mode = call->args[MODE].integer, shape[MOON_MAX_DIMS], count;
  MOON_TRY(check_pad(input, &call->args[PAD]));
  for (int i = 0; i < input->ndim; i++) {
    if (mode != CONSTANT) MOON_TRY(check_repeat(input, call->args, i));
    MOON_TRY(padded_size(input, &call->args[PAD], i, &shape[i]));
  }
  MOON_TRY(shape_count(input->ndim, shape, &count));
  if (mode != CONSTANT) return repeat(call);
  return OP_RUN(call->engine, ops_get(OP_pad_constant), &call->results[0], op_tensor(input),
                call->args[PAD], call->args[VALUE]);
}

static op_descriptor descriptors[] = {
  { .name = "pad", .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, pad: int[], "
              "mode: \"constant\"|\"reflect\"|\"replicate\"|\"circular\" = \"constant\", "
              "value: number = 0) -> out",
    .doc = "Adds elements before and after the last dimensions. pad has two numbers a dimension, "
           "{before, after}, the last dimension first: {left, right, top, bottom} for images. They "
           "are value in mode \"constant\", the input mirrored in its first and last element in "
           "\"reflect\" (which are not repeated), the first and last element in \"replicate\", the "
           "input again in \"circular\". Negative numbers cut elements off.",
    .example = "moon.pad(moon.tensor {1, 2, 3}, {2, 1}, \"reflect\") --> {3, 2, 1, 2, 3, 2}",
    .forward = forward_pad },
  { .name = "pad_constant", .flags = OP_HIDDEN,
    .schema = "(input: Tensor, pad: int[], value: number = 0) -> out",
    .doc = "pad in mode \"constant\". Its adjoint is itself with every number negated.",
    .forward = forward_constant, .backward = backward_constant },
};
OP_FAMILY(padding, descriptors);
