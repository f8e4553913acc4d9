// Operators that show the same elements in another shape: no bytes move unless the name says so
// (reshape where it must, clone, contiguous, cast). The gradient of a view is a view of the
// gradient where sizes agree, and zeros with the gradient written into the viewed part where not
// (narrow_gradient), which is an operator, so that it can be differentiated again.
#include <inttypes.h>
#include <string.h>

#include "ops/support.h"

// -- shared gradients

// Gives back the input's shape.
static moon_status backward_reshape(op_backward_call *call) {
  return OP_RUN(call->engine, ops_get(OP_reshape), &call->out[0], op_tensor(call->grads[0]),
                op_ints(call->inputs[0].ndim, call->inputs[0].shape));
}

// -- reshape, view, flatten

static moon_status reshape_to(op_call *call, moon_tensor *x, int ndim, const int64_t *wanted,
                              bool may_copy) {
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  char from[TENSOR_SHAPE_TEXT], to[TENSOR_SHAPE_TEXT];
  if (ndim > 0) memcpy(shape, wanted, (size_t)ndim * sizeof *shape);
  MOON_TRY(shape_infer(tensor_count(x), ndim, shape));
  if (shape_view_strides(x, ndim, shape, strides))
    return tensor_new_view(x, ndim, shape, strides, x->offset, &call->results[0]);
  if (!may_copy)
    return moon_fail(MOON_BAD_SHAPE, "input %s is not laid out so that it can be seen as %s "
                     "without copying; use reshape, which copies when it must",
                     tensor_shape_text(x, from), shape_text(ndim, shape, to));
  moon_tensor *copy;
  MOON_TRY(ops_contiguous(call->engine, x, &copy));
  shape_contiguous_strides(ndim, shape, strides);
  moon_status status = tensor_new_view(copy, ndim, shape, strides, copy->offset, &call->results[0]);
  tensor_release(copy);
  return status;
}

static moon_status forward_view(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  return reshape_to(call, x, call->args[1].ints.count, call->args[1].ints.v,
                    tensor_is_channels_last(x));
}

static moon_status forward_reshape(op_call *call) {
  return reshape_to(call, call->args[0].tensor, call->args[1].ints.count, call->args[1].ints.v,
                    true);
}

static moon_status forward_flatten(op_call *call) {
  enum { INPUT, FROM, TO };
  moon_tensor *x = call->args[INPUT].tensor;
  int from, to, ndim = 0;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(shape_dim(x->ndim, call->args[FROM].integer, &from));
  MOON_TRY(shape_dim(x->ndim, call->args[TO].integer, &to));
  if (from > to)
    return moon_fail(MOON_BAD_INDEX, "from must not lie behind to, got %d and %d", from + 1,
                     to + 1);
  for (int i = 0; i < from; i++) shape[ndim++] = x->shape[i];
  shape[ndim] = 1;
  for (int i = from; i <= to && i < x->ndim; i++) shape[ndim] *= x->shape[i];
  ndim++;
  for (int i = to + 1; i < x->ndim; i++) shape[ndim++] = x->shape[i];
  return reshape_to(call, x, ndim, shape, true);
}

// -- parts

// For error texts: any two numbers of a user.
static int64_t sum_or_end(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? (b > 0 ? INT64_MAX : INT64_MIN) : sum;
}

static moon_status forward_narrow(op_call *call) {
  enum { INPUT, DIM, START, LENGTH };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim;
  int64_t shape[MOON_MAX_DIMS];
  int64_t start = call->args[START].integer, length = call->args[LENGTH].integer;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  if (x->ndim == 0) return moon_fail(MOON_BAD_SHAPE, "a 0-d tensor has no dimension to narrow");
  if (start < 0) start += x->shape[dim];
  if (start < 0 || length < 0 || start > x->shape[dim] - length)
    return moon_fail(MOON_BAD_INDEX, "positions %" PRId64 "..%" PRId64 " do not lie in dimension "
                     "%d of size %" PRId64, sum_or_end(start, 1), sum_or_end(start, length),
                     dim + 1, x->shape[dim]);
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = length;
  return tensor_new_view(x, x->ndim, shape, x->strides, x->offset + start * x->strides[dim],
                         &call->results[0]);
}

static moon_status forward_select(op_call *call) {
  enum { INPUT, DIM, INDEX };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim, ndim = 0;
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS], index = call->args[INDEX].integer;
  if (x->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "a 0-d tensor has no dimension to select from");
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  if (index < 0) index += x->shape[dim];
  if (index < 0 || index >= x->shape[dim])
    return moon_fail(MOON_BAD_INDEX, "index %" PRId64 " lies outside dimension %d of size %" PRId64,
                     call->args[INDEX].integer + (call->args[INDEX].integer >= 0), dim + 1,
                     x->shape[dim]);
  for (int i = 0; i < x->ndim; i++) {
    if (i == dim) continue;
    shape[ndim] = x->shape[i];
    strides[ndim++] = x->strides[i];
  }
  return tensor_new_view(x, ndim, shape, strides, x->offset + index * x->strides[dim],
                         &call->results[0]);
}

// -- their gradients

static moon_status forward_narrow_gradient(op_call *call) {
  enum { GRADIENT, DIM, START, SIZE };
  moon_tensor *g = call->args[GRADIENT].tensor;
  int64_t start = call->args[START].integer, size = call->args[SIZE].integer;
  int64_t shape[MOON_MAX_DIMS];
  int dim;
  MOON_TRY(shape_dim(g->ndim, call->args[DIM].integer, &dim));
  if (g->ndim == 0 || start < 0 || start > size - g->shape[dim])
    return moon_fail(MOON_BAD_SHAPE, "the part does not lie in a size of %" PRId64, size);
  memcpy(shape, g->shape, sizeof shape);
  shape[dim] = size;
  MOON_TRY(ops_new_filled_like(call->engine, g, shape, 0, &call->results[0]));
  device_array from = tensor_array(g), to = tensor_array(call->results[0]);
  to.data = (char *)to.data + start * to.strides[dim] * (int64_t)dtype_size(to.dtype);
  to.shape[dim] = from.shape[dim];
  return tensor_kernels(g)->copy(call->engine, &from, &to);
}

static moon_status backward_narrow_gradient(op_backward_call *call) {
  enum { GRADIENT, DIM, START, SIZE };
  const op_input *part = &call->inputs[GRADIENT];
  int dim;
  MOON_TRY(shape_dim(part->ndim, call->args[DIM].integer, &dim));
  return OP_RUN(call->engine, ops_get(OP_narrow), &call->out[GRADIENT], op_tensor(call->grads[0]),
                op_int(dim), call->args[START], op_int(part->shape[dim]));
}

static moon_status into_part(op_backward_call *call, moon_tensor *g, int dim, int64_t start) {
  int64_t size = call->inputs[0].shape[dim];
  return OP_RUN(call->engine, ops_get(OP_narrow_gradient), &call->out[0], op_tensor(g),
                op_int(dim), op_int(start < 0 ? start + size : start), op_int(size));
}

static moon_status backward_narrow(op_backward_call *call) {
  int dim;
  MOON_TRY(shape_dim(call->inputs[0].ndim, call->args[1].integer, &dim));
  return into_part(call, call->grads[0], dim, call->args[2].integer);
}

static moon_status backward_select(op_backward_call *call) {
  moon_tensor *g;
  int dim;
  MOON_TRY(shape_dim(call->inputs[0].ndim, call->args[1].integer, &dim));
  MOON_TRY(OP_RUN(call->engine, ops_get(OP_unsqueeze), &g, op_tensor(call->grads[0]),
                  op_int(dim)));
  moon_status status = into_part(call, g, dim, call->args[2].integer);
  tensor_release(g);
  return status;
}

// -- windows

static moon_status forward_unfold(op_call *call) {
  enum { INPUT, DIM, SIZE, STEP };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim;
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  int64_t size = call->args[SIZE].integer, step = call->args[STEP].integer, count;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  if (x->ndim == 0 || x->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "input must have 1 to %d dimensions, got %d",
                     MOON_MAX_DIMS - 1, x->ndim);
  if (size < 1 || size > x->shape[dim] || step < 1)
    return moon_fail(MOON_BAD_ARGUMENT, "windows of size %" PRId64 " at step %" PRId64 " do not "
                     "fit dimension %d of size %" PRId64, size, step, dim + 1, x->shape[dim]);
  memcpy(shape, x->shape, sizeof shape);
  memcpy(strides, x->strides, sizeof strides);
  shape[dim] = (x->shape[dim] - size) / step + 1;
  if (shape[dim] > 1) strides[dim] *= step;   // a step beyond the end could overflow
  shape[x->ndim] = size;
  strides[x->ndim] = x->strides[dim];
  MOON_TRY(shape_count(x->ndim + 1, shape, &count));
  return tensor_new_view(x, x->ndim + 1, shape, strides, x->offset, &call->results[0]);
}

// unfold and unfold_gradient are each other's adjoints.
static moon_status backward_unfold(op_backward_call *call) {
  enum { INPUT, DIM, SIZE, STEP };
  int dim;
  MOON_TRY(shape_dim(call->inputs[INPUT].ndim, call->args[DIM].integer, &dim));
  return OP_RUN(call->engine, ops_get(OP_unfold_gradient), &call->out[INPUT],
                op_tensor(call->grads[0]), op_int(dim), op_int(call->inputs[INPUT].shape[dim]),
                call->args[STEP]);
}

// Adds element k of every window to where it came from. Windows overlap, but position k of all
// windows does not: one addition for each k.
static moon_status add_windows(op_call *call, int dim, int64_t step) {
  moon_tensor *g = call->args[0].tensor, *sum = call->results[0];
  int64_t windows = g->shape[g->ndim - 1];
  for (int64_t k = 0; k < windows; k++) {
    device_array from = tensor_array(g), to = tensor_array(sum);
    size_t size = dtype_size(g->dtype);
    from.ndim = g->ndim - 1;
    from.data = (char *)from.data + (size_t)(k * g->strides[g->ndim - 1]) * size;
    to.data = (char *)to.data + (size_t)(k * to.strides[dim]) * size;
    to.shape[dim] = g->shape[dim];
    if (to.shape[dim] > 1) to.strides[dim] *= step;
    MOON_TRY(tensor_kernels(g)->binary(call->engine, BINARY_add, (double[2]){ 0, 0 }, &to, &from,
                                       &to));
  }
  return MOON_OK;
}

static moon_status forward_unfold_gradient(op_call *call) {
  enum { GRADIENT, DIM, LENGTH, STEP };
  moon_tensor *g = call->args[GRADIENT].tensor;
  int64_t shape[MOON_MAX_DIMS], step = call->args[STEP].integer, reach;
  int dim;
  if (g->ndim < 2) return moon_fail(MOON_BAD_SHAPE, "gradient must have windows, got none");
  MOON_TRY(shape_dim(g->ndim - 1, call->args[DIM].integer, &dim));
  memcpy(shape, g->shape, sizeof shape);
  shape[dim] = call->args[LENGTH].integer;
  if (step < 1 || g->shape[dim] < 1 || __builtin_mul_overflow(g->shape[dim] - 1, step, &reach) ||
      reach > shape[dim] - g->shape[g->ndim - 1])
    return moon_fail(MOON_BAD_SHAPE, "the windows do not fit into a length of %" PRId64,
                     shape[dim]);
  MOON_TRY(ops_new_filled(call->engine, g, g->dtype, g->ndim - 1, shape, 0, &call->results[0]));
  return add_windows(call, dim, step);
}

static moon_status backward_unfold_gradient(op_backward_call *call) {
  enum { GRADIENT, DIM, LENGTH, STEP };
  const op_input *windows = &call->inputs[GRADIENT];
  moon_tensor *all, **out = &call->out[GRADIENT];
  int dim;
  MOON_TRY(shape_dim(windows->ndim - 1, call->args[DIM].integer, &dim));
  MOON_TRY(OP_RUN(call->engine, ops_get(OP_unfold), &all, op_tensor(call->grads[0]), op_int(dim),
                  op_int(windows->shape[windows->ndim - 1]), call->args[STEP]));
  // a length may hold more windows than there were
  moon_status status = OP_RUN(call->engine, ops_get(OP_narrow), out, op_tensor(all), op_int(dim),
                              op_int(0), op_int(windows->shape[dim]));
  tensor_release(all);
  return status;
}

// -- order of dimensions

static moon_status swap_view(op_call *call, int a, int b) {
  moon_tensor *x = call->args[0].tensor;
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  memcpy(strides, x->strides, sizeof strides);
  if (x->ndim > 0) {
    shape[a] = x->shape[b], shape[b] = x->shape[a];
    strides[a] = x->strides[b], strides[b] = x->strides[a];
  }
  return tensor_new_view(x, x->ndim, shape, strides, x->offset, &call->results[0]);
}

static moon_status forward_transpose(op_call *call) {
  int a, b;
  MOON_TRY(shape_dim(call->args[0].tensor->ndim, call->args[1].integer, &a));
  MOON_TRY(shape_dim(call->args[0].tensor->ndim, call->args[2].integer, &b));
  return swap_view(call, a, b);
}

static moon_status backward_transpose(op_backward_call *call) {
  return OP_RUN(call->engine, ops_get(OP_transpose), &call->out[0], op_tensor(call->grads[0]),
                call->args[1], call->args[2]);
}

static moon_status forward_t(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim > 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have at most 2 dimensions, got %s; use transpose "
                     "or permute", tensor_shape_text(x, text));
  return swap_view(call, 0, x->ndim == 2);
}

static moon_status backward_t(op_backward_call *call) {
  return OP_RUN(call->engine, call->op, &call->out[0], op_tensor(call->grads[0]));
}

static moon_status read_order(const op_value *order, int ndim, int normal[MOON_MAX_DIMS]) {
  bool seen[MOON_MAX_DIMS] = { false };
  if (order->ints.count != ndim)
    return moon_fail(MOON_BAD_ARGUMENT, "order must name each of the %d dimensions once, got %d",
                     ndim, order->ints.count);
  for (int i = 0; i < ndim; i++) {
    MOON_TRY(shape_dim(ndim, order->ints.v[i], &normal[i]));
    if (seen[normal[i]])
      return moon_fail(MOON_BAD_ARGUMENT, "order names dimension %d twice", normal[i] + 1);
    seen[normal[i]] = true;
  }
  return MOON_OK;
}

static moon_status forward_permute(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int order[MOON_MAX_DIMS];
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  MOON_TRY(read_order(&call->args[1], x->ndim, order));
  for (int i = 0; i < x->ndim; i++) {
    shape[i] = x->shape[order[i]];
    strides[i] = x->strides[order[i]];
  }
  return tensor_new_view(x, x->ndim, shape, strides, x->offset, &call->results[0]);
}

static moon_status backward_permute(op_backward_call *call) {
  int order[MOON_MAX_DIMS], ndim = call->inputs[0].ndim;
  int64_t inverse[MOON_MAX_DIMS];
  MOON_TRY(read_order(&call->args[1], ndim, order));
  for (int i = 0; i < ndim; i++) inverse[order[i]] = i;
  return OP_RUN(call->engine, call->op, &call->out[0], op_tensor(call->grads[0]),
                op_ints(ndim, inverse));
}

// -- sizes of one

static moon_status forward_expand(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  const op_value *wanted = &call->args[1];
  char from[TENSOR_SHAPE_TEXT], to[TENSOR_SHAPE_TEXT];
  int ndim = wanted->ints.count, missing = ndim - x->ndim;
  int64_t shape[MOON_MAX_DIMS], count;
  bool fits = missing >= 0;
  for (int i = 0; i < ndim && fits; i++) {
    int64_t size = i < missing ? 1 : x->shape[i - missing];
    shape[i] = wanted->ints.v[i] == -1 && i >= missing ? size : wanted->ints.v[i];
    fits = shape[i] >= 0 && (size == 1 || size == shape[i]);
  }
  if (!fits)
    return moon_fail(MOON_BAD_SHAPE, "input %s cannot be expanded to %s: only dimensions of size 1 "
                     "stretch", tensor_shape_text(x, from), shape_text(ndim, wanted->ints.v, to));
  MOON_TRY(shape_count(ndim, shape, &count));   // or sizes of the result might overflow later
  device_array stretched = array_broadcast(x, ndim, shape);
  return tensor_new_view(x, ndim, shape, stretched.strides, x->offset, &call->results[0]);
}

static moon_status backward_expand(op_backward_call *call) {
  call->out[0] = tensor_retain(call->grads[0]);   // summed to the input's shape by the walk
  return MOON_OK;
}

static moon_status forward_squeeze(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int only = -1, ndim = 0;
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  if (call->args[1].given) MOON_TRY(shape_dim(x->ndim, call->args[1].integer, &only));
  for (int i = 0; i < x->ndim; i++) {
    if (x->shape[i] == 1 && (only < 0 || only == i)) continue;
    shape[ndim] = x->shape[i];
    strides[ndim++] = x->strides[i];
  }
  return tensor_new_view(x, ndim, shape, strides, x->offset, &call->results[0]);
}

static moon_status forward_unsqueeze(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int dim, ndim = 0;
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  if (x->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "a tensor has at most %d dimensions", MOON_MAX_DIMS);
  MOON_TRY(shape_dim(x->ndim + 1, call->args[1].integer, &dim));
  for (int i = 0; i <= x->ndim; i++) {
    if (i == dim) {
      shape[ndim] = 1;
      strides[ndim++] = 1;
    }
    if (i == x->ndim) break;
    shape[ndim] = x->shape[i];
    strides[ndim++] = x->strides[i];
  }
  return tensor_new_view(x, ndim, shape, strides, x->offset, &call->results[0]);
}

// -- copies

static moon_status forward_clone(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(tensor_new_like(call->engine, x, &call->results[0]));
  return ops_copy(call->engine, x, call->results[0]);
}

static moon_status to_channels_last(op_call *call, moon_tensor *x) {
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim < SHAPE_LEAST_CHANNELS_LAST || x->ndim > SHAPE_MOST_CHANNELS_LAST)
    return moon_fail(MOON_BAD_SHAPE, "input must have %d to %d dimensions (n, c, ...) to put its "
                     "channels last, got %s", SHAPE_LEAST_CHANNELS_LAST, SHAPE_MOST_CHANNELS_LAST,
                     tensor_shape_text(x, text));
  if (tensor_is_dense_channels_last(x)) return tensor_alias(x, &call->results[0]);
  MOON_TRY(tensor_new_channels_last(call->engine, tensor_device(x), x->dtype, x->ndim, x->shape,
                                    &call->results[0]));
  return ops_copy(call->engine, x, call->results[0]);
}

static moon_status forward_contiguous(op_call *call) {
  enum { INPUT, FORMAT, CHANNELS_LAST = 1 };
  moon_tensor *x = call->args[INPUT].tensor;
  if (call->args[FORMAT].integer == CHANNELS_LAST) return to_channels_last(call, x);
  if (tensor_is_contiguous(x)) return tensor_alias(x, &call->results[0]);
  return ops_converted(call->engine, x, x->dtype, &call->results[0]);
}

static moon_status backward_pass(op_backward_call *call) {
  call->out[0] = tensor_retain(call->grads[0]);
  return MOON_OK;
}

static moon_status forward_cast(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  if (x->dtype == call->args[1].dtype) return tensor_alias(x, &call->results[0]);
  MOON_TRY(ops_new_like(call->engine, x, call->args[1].dtype, x->shape, &call->results[0]));
  return ops_copy(call->engine, x, call->results[0]);
}

static moon_status forward_move(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  if (tensor_device(x) == call->args[1].device) return tensor_alias(x, &call->results[0]);
  return ops_to_device(call->engine, x, call->args[1].device, &call->results[0]);
}

static moon_status backward_move(op_backward_call *call) {
  op_value device = { .given = true, .device = call->inputs[0].device };
  return OP_RUN(call->engine, call->op, &call->out[0], op_tensor(call->grads[0]), device);
}

static moon_status forward_copy(op_call *call) {
  moon_tensor *self = call->args[0].tensor, *source = call->args[1].tensor;
  char to[TENSOR_SHAPE_TEXT], from[TENSOR_SHAPE_TEXT];
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(shape_broadcast(self->ndim, self->shape, source->ndim, source->shape, &ndim, shape));
  if (ndim != self->ndim || memcmp(shape, self->shape, (size_t)ndim * sizeof *shape) != 0)
    return moon_fail(MOON_BAD_SHAPE, "source %s does not fit into %s",
                     tensor_shape_text(source, from), tensor_shape_text(self, to));
  if (self->storage != source->storage) return ops_copy(call->engine, source, call->results[0]);
  moon_tensor *apart;   // the two may overlap
  MOON_TRY(tensor_new_like(call->engine, source, &apart));
  moon_status status = ops_copy(call->engine, source, apart);
  if (status == MOON_OK) status = ops_copy(call->engine, apart, call->results[0]);
  tensor_release(apart);
  return status;
}

static moon_status backward_copy(op_backward_call *call) {
  if (call->needs[1]) call->out[1] = tensor_retain(call->grads[0]);
  return MOON_OK;
}

static moon_status forward_fill(op_call *call) {
  moon_tensor *value = call->args[1].tensor;
  if (value->ndim != 0)
    return moon_fail(MOON_BAD_SHAPE, "value must be a number or a 0-d tensor; use copy_ for more");
  return ops_copy(call->engine, value, call->results[0]);
}

static moon_status forward_zero(op_call *call) {
  device_array target = tensor_array(call->results[0]);
  return tensor_kernels(call->results[0])->fill(call->engine, 0, &target);
}

static moon_status backward_nothing(op_backward_call *call) {
  (void)call;
  return MOON_OK;
}

static op_descriptor descriptors[] = {
  { .name = "view",
    .example = "moon.tensor({1, 2, 3, 4}):view(2, 2) --> {{1, 2}, {3, 4}}",
    .schema = "(input: Tensor, shape: int[]) -> out", .flags = OP_VIEW,
    .doc = "The same elements in another shape, without copying; one size may be -1. Fails where "
           "the layout does not allow it, but for the result of a convolution, whose channels lie "
           "last in memory: that is copied, as by reshape.",
    .forward = forward_view, .backward = backward_reshape },
  { .name = "reshape",
    .example = "moon.tensor({1, 2, 3, 4}):reshape(2, -1) --> {{1, 2}, {3, 4}}",
    .schema = "(input: Tensor, shape: int[]) -> out", .flags = OP_VIEW,
    .doc = "The same elements in another shape; one size may be -1. A view where the layout allows "
           "it, a copy where not.",
    .forward = forward_reshape, .backward = backward_reshape },
  { .name = "flatten",
    .example = "moon.tensor({{1, 2}, {3, 4}}):flatten() --> {1, 2, 3, 4}",
    .schema = "(input: Tensor, from: dim = 1, to: dim = -1) -> out",
    .flags = OP_VIEW,
    .doc = "Makes one dimension of the dimensions from..to. A view where the layout allows it.",
    .forward = forward_flatten, .backward = backward_reshape },
  { .name = "narrow",
    .example = "moon.tensor({1, 2, 3, 4}):narrow(1, 2, 2) --> {2, 3}",
    .schema = "(input: Tensor, dim: dim, start: index, length: int) -> out",
    .flags = OP_VIEW,
    .doc = "The part of a dimension that starts at `start` and is `length` long. A view.",
    .forward = forward_narrow, .backward = backward_narrow },
  { .name = "select",
    .example = "moon.tensor({{1, 2}, {3, 4}}):select(1, 2) --> {3, 4}",
    .schema = "(input: Tensor, dim: dim, index: index) -> out", .flags = OP_VIEW,
    .doc = "The slice at one position of a dimension, which disappears. A view.",
    .forward = forward_select, .backward = backward_select },
  { .name = "narrow_gradient", .flags = OP_HIDDEN,
    .schema = "(gradient: Tensor, dim: dim, start: int, size: int) -> out",
    .doc = "Zeros, `size` long along a dimension, with the gradient written in from `start` (from "
           "0) on: the adjoint of narrow.",
    .forward = forward_narrow_gradient, .backward = backward_narrow_gradient },
  { .name = "unfold",
    .example = "moon.tensor({1, 2, 3, 4}):unfold(1, 2, 1) --> {{1, 2}, {2, 3}, {3, 4}}",
    .schema = "(input: Tensor, dim: dim, size: int, step: int = 1) -> out",
    .flags = OP_VIEW,
    .doc = "All windows of `size` along a dimension, `step` apart; the windows' elements become a "
           "last dimension. A view: windows overlap where step < size.",
    .forward = forward_unfold, .backward = backward_unfold },
  { .name = "unfold_gradient", .flags = OP_HIDDEN,
    .schema = "(gradient: Tensor, dim: dim, length: int, step: int) -> out",
    .doc = "Adds windows up into a dimension of `length`: the adjoint of unfold.",
    .forward = forward_unfold_gradient, .backward = backward_unfold_gradient },
  { .name = "transpose",
    .example = "moon.tensor({{1, 2}}):transpose(1, 2) --> {{1}, {2}}",
    .schema = "(input: Tensor, a: dim, b: dim) -> out", .flags = OP_VIEW,
    .doc = "Swaps two dimensions. A view.",
    .forward = forward_transpose, .backward = backward_transpose },
  { .name = "t",
    .example = "moon.tensor({{1, 2}}):t() --> {{1}, {2}}",
    .schema = "(input: Tensor) -> out", .flags = OP_VIEW,
    .doc = "The transpose of a matrix; vectors and 0-d tensors stay as they are. A view.",
    .forward = forward_t, .backward = backward_t },
  { .name = "permute",
    .example = "moon.tensor({{1, 2}}):permute(2, 1) --> {{1}, {2}}",
    .schema = "(input: Tensor, order: dims) -> out", .flags = OP_VIEW,
    .doc = "Puts the dimensions into another order: result dimension i is input dimension "
           "order[i]. A view.",
    .forward = forward_permute, .backward = backward_permute },
  { .name = "expand",
    .example = "moon.tensor({{1}, {2}}):expand(2, 3) --> {{1, 1, 1}, {2, 2, 2}}",
    .schema = "(input: Tensor, shape: int[]) -> out", .flags = OP_VIEW,
    .doc = "Stretches dimensions of size 1, and adds dimensions in front, without copying; -1 "
           "keeps a size. A view whose elements share memory.",
    .forward = forward_expand, .backward = backward_expand },
  { .name = "squeeze",
    .example = "moon.tensor({{1, 2}}):squeeze() --> {1, 2}",
    .schema = "(input: Tensor, dim: dim?) -> out", .flags = OP_VIEW,
    .doc = "Removes one dimension of size 1, or all of them. A view.",
    .forward = forward_squeeze, .backward = backward_reshape },
  { .name = "unsqueeze",
    .example = "moon.tensor({1, 2}):unsqueeze(1) --> {{1, 2}}",
    .schema = "(input: Tensor, dim: dim) -> out", .flags = OP_VIEW,
    .doc = "Inserts a dimension of size 1 at `dim`. A view.",
    .forward = forward_unsqueeze, .backward = backward_reshape },
  { .name = "contiguous",
    .example = "moon.tensor({{1, 2}, {3, 4}}):t():contiguous() --> {{1, 3}, {2, 4}}",
    .schema = "(input: Tensor, memory_format: \"contiguous\"|\"channels_last\" = \"contiguous\") "
              "-> out", .flags = OP_VIEW,
    .doc = "The tensor itself where its elements lie in row-major order, otherwise a copy that "
           "does. With \"channels_last\", for input (n, c, ...) of 3 to 5 dimensions, the channels "
           "of a position lie next to each other instead, as in the results of convolutions; the "
           "shape stays.",
    .forward = forward_contiguous, .backward = backward_pass },
  { .name = "clone",
    .example = "moon.tensor({1, 2}):clone() --> {1, 2}",
    .schema = "(input: Tensor) -> out",
    .doc = "A copy with memory of its own: channels last where the input's are, else in row-major "
           "order.",
    .forward = forward_clone, .backward = backward_pass },
  { .name = "cast",
    .example = "moon.tensor({1.5, -1.5}):cast(\"int64\") --> {1, -1}",
    .schema = "(input: Tensor, dtype: dtype) -> out", .flags = OP_VIEW,
    .doc = "The elements in another type: floats truncate to integers, anything but 0 is true. The "
           "tensor itself where it has that type already.",
    .forward = forward_cast, .backward = backward_pass },
  { .name = "move", .flags = OP_VIEW | OP_HIDDEN,
    .schema = "(input: Tensor, device: device) -> out",
    .doc = "The same elements on another device; the tensor itself where it lies there already.",
    .forward = forward_move, .backward = backward_move },
  { .name = "copy",
    .example = "moon.zeros(2):copy_(moon.tensor {1, 2}) --> {1, 2}",
    .schema = "(self: Tensor, source: Tensor) -> out", .flags = OP_MUTATES,
    .doc = "Writes source into self, cast and broadcast as needed.",
    .forward = forward_copy, .backward = backward_copy },
  { .name = "fill",
    .example = "moon.zeros(2):fill_(7) --> {7, 7}",
    .schema = "(self: Tensor, value: Tensor|number) -> out", .flags = OP_MUTATES,
    .doc = "Sets every element to one value.",
    .forward = forward_fill, .backward = backward_copy },
  { .name = "zero",
    .example = "moon.ones(2):zero_() --> {0, 0}",
    .schema = "(self: Tensor) -> out", .flags = OP_MUTATES | OP_CONSTANT,
    .doc = "Sets every element to 0.",
    .forward = forward_zero, .backward = backward_nothing },
};
OP_FAMILY(views, descriptors);
