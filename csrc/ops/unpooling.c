// The way back from a maximum to where it was found, and the maximum over groups of channels.
#include <inttypes.h>
#include <string.h>

#include "ops/channels.h"
#include "ops/compose.h"
#include "ops/pool_window.h"
#include "ops/window.h"

// -- max_unpool1d, max_unpool2d, max_unpool3d

enum { INPUT, INDICES, KERNEL, STRIDE, PADDING, SIZE };

// What a pooling with these windows would have had; output_size may miss it by less than a stride.
static moon_status default_size(const op_call *call, const pool_window *w, int64_t *size) {
  const moon_tensor *x = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(window_check("kernel", w->dims, w->kernel, 1));
  MOON_TRY(window_check("stride", w->dims, w->stride, 1));
  MOON_TRY(window_check("padding", w->dims, w->padding, 0));
  for (int i = 0; i < w->dims; i++) {
    int64_t count = x->shape[2 + i];
    if (count < 1 || count > WINDOW_LARGEST)
      return moon_fail(MOON_BAD_SHAPE, "input must have 1 to %d elements in its %s, got %s",
                       WINDOW_LARGEST, pool_side(w->dims, i), tensor_shape_text(x, text));
    size[i] = (count - 1) * w->stride[i] - 2 * w->padding[i] + w->kernel[i];
    if (size[i] < 1 && !call->args[SIZE].given)
      return moon_fail(MOON_BAD_ARGUMENT, "the padding %" PRId64 " leaves no %s (input %s)",
                       w->padding[i], pool_side(w->dims, i), tensor_shape_text(x, text));
  }
  return MOON_OK;
}

static moon_status read_size(const op_call *call, const pool_window *w, int64_t *size) {
  const op_value *given = &call->args[SIZE];
  MOON_TRY(default_size(call, w, size));
  if (!given->given) return MOON_OK;
  int skipped = given->ints.count - w->dims;
  if (skipped != 0 && skipped != 2)
    return moon_fail(MOON_BAD_ARGUMENT, "output_size must have %d or %d numbers, got %d", w->dims,
                     w->dims + 2, given->ints.count);
  for (int i = 0; i < w->dims; i++) {
    int64_t wanted = given->ints.v[skipped + i];
    if (wanted < 1 || wanted <= size[i] - w->stride[i] || wanted >= size[i] + w->stride[i])
      return moon_fail(MOON_BAD_ARGUMENT, "the %s of output_size must lie between %" PRId64
                       " and %" PRId64 " (without them), got %" PRId64, pool_side(w->dims, i),
                       size[i] - w->stride[i], size[i] + w->stride[i], wanted);
    size[i] = wanted;
  }
  return MOON_OK;
}

static moon_status check_indices(const op_call *call) {
  const moon_tensor *x = call->args[INPUT].tensor, *indices = call->args[INDICES].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  if (tensor_same_shape(x, indices)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "indices must have input's shape %s, got %s",
                   tensor_shape_text(x, a), tensor_shape_text(indices, b));
}

static moon_status put(op_call *call, const moon_tensor *zero_based, moon_tensor *x) {
  moon_tensor *copy;
  device_array at = channels_of(zero_based), to = channels_of(call->results[0]), from;
  MOON_TRY(channels_open(call->engine, x, &from, &copy));
  moon_status status = tensor_kernels(x)->scatter(call->engine, 2, false, &at, &from, &to);
  tensor_release(copy);
  return status;
}

static moon_status forward_unpool(op_call *call) {
  int dims = (int)call->op->row;
  moon_tensor *x = call->args[INPUT].tensor, *index;
  pool_window window = pool_window_read(dims, &call->args[KERNEL], &call->args[STRIDE],
                                        &call->args[PADDING], NULL, false);
  int64_t shape[5], count;
  MOON_TRY(pool_check_input(x, dims));
  MOON_TRY(check_indices(call));
  MOON_TRY(read_size(call, &window, shape + 2));
  shape[0] = x->shape[0];
  shape[1] = x->shape[1];
  MOON_TRY(shape_count(dims, shape + 2, &count));
  MOON_TRY(ops_index_in(call->engine, "indices", call->args[INDICES].tensor, count, &index));
  moon_status status = ops_new_filled_like(call->engine, x, shape, 0, &call->results[0]);
  if (status == MOON_OK) status = put(call, index, x);
  tensor_release(index);
  return status;
}

// Every element takes the gradient from the place it went to.
static moon_status backward_unpool(op_backward_call *call) {
  const op_input *input = &call->inputs[INPUT];
  compose c = compose_open(call->engine);
  moon_tensor *g = COMPOSE(&c, flatten, op_tensor(call->grads[0]), op_int(2), op_int(-1));
  moon_tensor *index = COMPOSE(&c, flatten, op_tensor(call->args[INDICES].tensor), op_int(2),
                               op_int(-1));
  moon_tensor *taken = COMPOSE(&c, gather, op_tensor(g), op_int(2), op_tensor(index));
  moon_tensor *dx = compose_reshape(&c, taken, input->ndim, input->shape);
  return compose_close(&c, dx, &call->out[INPUT]);
}

// -- maxout

enum { GROUP = 1, DIM = 2 };

static moon_status forward_maxout(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  int64_t group = call->args[GROUP].integer, shape[MOON_MAX_DIMS];
  char text[TENSOR_SHAPE_TEXT];
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  if (x->ndim == 0 || x->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "input must have 1 to %d dimensions, got %s",
                     MOON_MAX_DIMS - 1, tensor_shape_text(x, text));
  if (group < 1 || x->shape[dim] % group != 0)
    return moon_fail(MOON_BAD_ARGUMENT, "group must divide dimension %d of input %s, got %" PRId64,
                     dim + 1, tensor_shape_text(x, text), group);
  for (int i = 0; i < x->ndim; i++) shape[i < dim ? i : i + 1] = x->shape[i];
  shape[dim] = x->shape[dim] / group;
  shape[dim + 1] = group;
  compose c = compose_open(call->engine);
  moon_tensor *groups = compose_reshape(&c, x, x->ndim + 1, shape);
  moon_tensor *y = COMPOSE(&c, max_along, op_tensor(groups), op_int(dim + 1));
  return compose_close(&c, y, &call->results[0]);
}

#define SCHEMA(N)                                                                      \
  "(input: Tensor, indices: Tensor, kernel: " N ", stride: " N "?, padding: " N " = 0, " \
  "output_size: int[]?) -> out"
#define DOC(pool)                                                                           \
  "Puts each element where " pool " found it, as its indices say, among zeros; the result " \
  "has output_size or, of each dimension, (size - 1) * stride - 2 * padding + kernel "      \
  "elements. Where two elements go to one place the later one stays, and the gradient "     \
  "takes places to be different (Zeiler and Fergus 2014)."

static op_descriptor descriptors[] = {
  { .name = "max_unpool1d", .dtypes = OP_FLOATS, .row = 1, .schema = SCHEMA("int[1]"),
    .saves = "indices", .doc = DOC("max_pool1d"),
    .example = "moon.tensor{{{5, 7}}}:max_unpool1d(moon.tensor{{{2, 3}}}:long(), 2) --> "
               "{{{0, 5, 7, 0}}}",
    .forward = forward_unpool, .backward = backward_unpool },
  { .name = "max_unpool2d", .dtypes = OP_FLOATS, .row = 2, .schema = SCHEMA("int[2]"),
    .saves = "indices", .doc = DOC("max_pool2d"),
    .example = "moon.tensor{{{{5}}}}:max_unpool2d(moon.tensor{{{{3}}}}:long(), 2) --> "
               "{{{{0, 0}, {5, 0}}}}",
    .forward = forward_unpool, .backward = backward_unpool },
  { .name = "max_unpool3d", .dtypes = OP_FLOATS, .row = 3, .schema = SCHEMA("int[3]"),
    .saves = "indices", .doc = DOC("max_pool3d"),
    .example = "moon.tensor{{{{{5}}}}}:max_unpool3d(moon.tensor{{{{{8}}}}}:long(), 2) --> "
               "{{{{{0, 0}, {0, 0}}, {{0, 0}, {0, 5}}}}}",
    .forward = forward_unpool, .backward = backward_unpool },
  { .name = "maxout", .dtypes = OP_ANY_DTYPE, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, group: int, dim: dim = 2) -> out",
    .doc = "The largest of every `group` neighbours along dim, by default the channels: "
           "(n, c, ...) becomes (n, c / group, ...) (Goodfellow et al. 2013). The first of equal "
           "elements gets the gradient.",
    .example = "moon.tensor{{1, 4, 3, 2}}:maxout(2) --> {{4, 3}}",
    .forward = forward_maxout },
};
OP_FAMILY(unpooling, descriptors);
