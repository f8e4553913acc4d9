// Putting tensors together and taking them apart: cat copies, stack is unsqueeze and cat; split,
// chunk and unbind give views, cut by halves (pieces.h). flip copies through a negative stride.
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/compose.h"
#include "ops/dims.h"
#include "ops/pieces.h"

// -- cat

enum { TENSORS, DIM };

// All but `dim` must agree with the first.
static moon_status check_member(const moon_tensor *first, const moon_tensor *member, int number,
                                int dim) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  bool fits = member->ndim == first->ndim;
  if (member->dtype != first->dtype)
    return moon_fail(MOON_BAD_DTYPE, "tensor 1 is %s but tensor %d is %s; cast one with :to",
                     dtype_name(first->dtype), number, dtype_name(member->dtype));
  for (int i = 0; i < first->ndim && fits; i++)
    fits = i == dim || member->shape[i] == first->shape[i];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "tensor %d is %s but tensor 1 is %s: all sizes must agree%s",
                   number, tensor_shape_text(member, a), tensor_shape_text(first, b),
                   dim < 0 ? "" : ", except along dim");
}

static moon_status check_members(const op_value *tensors, int dim) {
  for (int i = 1; i < tensors->tensors.count; i++)
    MOON_TRY(check_member(tensors->tensors.list[0], tensors->tensors.list[i], i + 1, dim));
  return MOON_OK;
}

static moon_status need_members(const op_value *tensors) {
  if (tensors->tensors.count > 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "the list of tensors is empty");
}

static moon_status join(moon_engine *engine, const op_value *tensors, int dim,
                        const moon_tensor *result) {
  int count = tensors->tensors.count;
  device_array to = tensor_array(result), *parts;
  MOON_TRY(alloc_new((size_t)count * sizeof *parts, (void **)&parts));
  for (int i = 0; i < count; i++) parts[i] = tensor_array(tensors->tensors.list[i]);
  moon_status status = tensor_kernels(result)->concat(engine, dim, count, parts, &to);
  alloc_delete(parts);
  return status;
}

static moon_status forward_cat(op_call *call) {
  const op_value *tensors = &call->args[TENSORS];
  int64_t shape[MOON_MAX_DIMS];
  int dim;
  MOON_TRY(need_members(tensors));
  moon_tensor *first = tensors->tensors.list[0];
  if (first->ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "0-d tensors have no dimension to join along; use stack");
  MOON_TRY(shape_dim(first->ndim, call->args[DIM].integer, &dim));
  MOON_TRY(check_members(tensors, dim));
  memcpy(shape, first->shape, sizeof shape);
  for (int i = 1; i < tensors->tensors.count; i++)
    if (__builtin_add_overflow(shape[dim], tensors->tensors.list[i]->shape[dim], &shape[dim]))
      return moon_fail(MOON_OUT_OF_MEMORY, "the result is larger than memory can hold");
  MOON_TRY(ops_new_among(call->engine, tensors->tensors.count, tensors->tensors.list, first->dtype,
                         first->ndim, shape, &call->results[0]));
  return join(call->engine, tensors, dim, call->results[0]);
}

// Each member's gradient is a part of g: a view.
static moon_status backward_cat(op_backward_call *call) {
  moon_tensor *g = call->grads[0];
  int64_t position = 0;
  int dim;
  MOON_TRY(shape_dim(g->ndim, call->args[DIM].integer, &dim));
  for (int i = 0; i < call->args[TENSORS].tensors.count; i++) {
    const op_input *member = &call->list_inputs[i];
    if (call->list_needs[i])
      MOON_TRY(OP_RUN(call->engine, ops_get(OP_narrow), &call->list_out[i], op_tensor(g),
                      op_int(dim), op_int(position), op_int(member->shape[dim])));
    position += member->shape[dim];
  }
  return MOON_OK;
}

// -- stack

static moon_status stack_list(op_call *call, int dim, moon_tensor **list, int count) {
  for (int i = 0; i < count; i++)
    MOON_TRY(OP_RUN(call->engine, ops_get(OP_unsqueeze), &list[i],
                    op_tensor(call->args[TENSORS].tensors.list[i]), op_int(dim)));
  return OP_RUN(call->engine, ops_get(OP_cat), &call->results[0], op_tensors(list, count),
                op_int(dim));
}

static moon_status forward_stack(op_call *call) {
  const op_value *tensors = &call->args[TENSORS];
  int count = tensors->tensors.count, dim;
  moon_tensor **list;
  MOON_TRY(need_members(tensors));
  int ndim = tensors->tensors.list[0]->ndim;
  if (ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "a tensor has at most %d dimensions", MOON_MAX_DIMS);
  MOON_TRY(shape_dim(ndim + 1, call->args[DIM].integer, &dim));
  MOON_TRY(check_members(tensors, -1));
  MOON_TRY(alloc_new((size_t)count * sizeof *list, (void **)&list));
  moon_status status = stack_list(call, dim, list, count);
  for (int i = 0; i < count; i++) tensor_release(list[i]);
  alloc_delete(list);
  return status;
}

// -- halve: two views, whose gradients are joined again

static moon_status part_of(const moon_tensor *x, int dim, int64_t start, int64_t length,
                           moon_tensor **part) {
  int64_t shape[MOON_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = length;
  return tensor_new_view(x, x->ndim, shape, x->strides, x->offset + start * x->strides[dim], part);
}

static moon_status forward_halve(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int64_t at = call->args[2].integer;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[1].integer, &dim));
  if (x->ndim == 0) return moon_fail(MOON_BAD_SHAPE, "a 0-d tensor has no dimension to cut");
  if (at < 0 || at > x->shape[dim])
    return moon_fail(MOON_BAD_ARGUMENT, "dimension %d of size %" PRId64 " cannot be cut at %"
                     PRId64, dim + 1, x->shape[dim], at);
  MOON_TRY(part_of(x, dim, 0, at, &call->results[0]));
  return part_of(x, dim, at, x->shape[dim] - at, &call->results[1]);
}

static moon_status backward_halve(op_backward_call *call) {
  const op_input *x = &call->inputs[0];
  moon_tensor *any = call->grads[0] ? call->grads[0] : call->grads[1], *halves[2];
  int64_t at = call->args[2].integer, shape[MOON_MAX_DIMS];
  compose c = compose_open(call->engine);
  int dim;
  compose_check(&c, shape_dim(x->ndim, call->args[1].integer, &dim));
  for (int i = 0; i < 2 && c.status == MOON_OK; i++) {
    moon_tensor *zeros = NULL;
    halves[i] = call->grads[i];
    if (halves[i]) continue;
    memcpy(shape, x->shape, sizeof shape);
    shape[dim] = i == 0 ? at : x->shape[dim] - at;
    moon_status status = ops_new_filled(call->engine, any, any->dtype, x->ndim, shape, 0, &zeros);
    halves[i] = compose_adopt(&c, status, zeros);
  }
  moon_tensor *joined = COMPOSE(&c, cat, op_tensors(halves, 2), op_int(dim));
  return compose_close(&c, joined, &call->out[0]);
}

// -- split, chunk and unbind

// Parts of `size` along dim, the last of what remains; an empty dimension is one empty part.
static moon_status cut(op_call *call, int dim, int64_t size) {
  moon_tensor *x = call->args[0].tensor;
  int64_t length = x->shape[dim], count = length > 0 ? (length - 1) / size + 1 : 1;
  if (count > INT32_MAX)
    return moon_fail(MOON_BAD_ARGUMENT, "size %" PRId64 " makes %" PRId64 " parts; there can be "
                     "at most %d", size, count, INT32_MAX);
  MOON_TRY(pieces_new(count, &call->list));
  call->list_count = (int)count;
  if (count == 1)   // a view of its own, not the input itself
    return OP_RUN(call->engine, ops_get(OP_narrow), &call->list[0], op_tensor(x), op_int(dim),
                  op_int(0), op_int(length));
  return pieces_cut(call->engine, x, dim, size, count, call->list);
}

static moon_status read_cut(op_call *call, const char *name, int *dim) {
  moon_tensor *x = call->args[0].tensor;
  if (x->ndim == 0) return moon_fail(MOON_BAD_SHAPE, "a 0-d tensor has no dimension to split");
  if (call->args[1].integer < 1)
    return moon_fail(MOON_BAD_ARGUMENT, "%s must be at least 1, got %" PRId64, name,
                     call->args[1].integer);
  return shape_dim(x->ndim, call->args[2].integer, dim);
}

static moon_status forward_split(op_call *call) {
  int dim;
  MOON_TRY(read_cut(call, "size", &dim));
  return cut(call, dim, call->args[1].integer);
}

static moon_status forward_chunk(op_call *call) {
  int dim;
  MOON_TRY(read_cut(call, "n", &dim));
  int64_t length = call->args[0].tensor->shape[dim], n = call->args[1].integer;
  int64_t size = length / n + (length % n != 0);
  return cut(call, dim, size > 0 ? size : 1);
}

static moon_status forward_unbind(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[1].integer, &dim));
  if (x->ndim == 0) return moon_fail(MOON_BAD_SHAPE, "a 0-d tensor has no dimension to unbind");
  if (x->shape[dim] > INT32_MAX)
    return moon_fail(MOON_BAD_ARGUMENT, "dimension %d has %" PRId64 " slices; there can be at "
                     "most %d", dim + 1, x->shape[dim], INT32_MAX);
  MOON_TRY(pieces_new(x->shape[dim], &call->list));
  call->list_count = (int)x->shape[dim];
  return pieces_unbind(call->engine, x, dim, call->list);
}

// -- flip

static moon_status forward_flip(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  device_array from = tensor_array(x);
  dim_set set;
  MOON_TRY(dims_read(&call->args[1], true, x->ndim, x->shape, &set));
  for (int i = 0; i < x->ndim; i++) {
    if (!set.over[i] || x->shape[i] < 2) continue;
    from.data = (char *)from.data +
                (x->shape[i] - 1) * from.strides[i] * (int64_t)dtype_size(x->dtype);
    from.strides[i] = -from.strides[i];
  }
  MOON_TRY(tensor_new_like(call->engine, x, &call->results[0]));
  device_array to = tensor_array(call->results[0]);
  return tensor_kernels(x)->copy(call->engine, &from, &to);
}

static moon_status backward_flip(op_backward_call *call) {
  return OP_RUN(call->engine, call->op, &call->out[0], op_tensor(call->grads[0]), call->args[1]);
}

static op_descriptor descriptors[] = {
  { .name = "cat",
    .example = "moon.cat({moon.tensor {1, 2}, moon.tensor {3}}) --> {1, 2, 3}",
    .flags = OP_FUNCTION_ONLY,
    .schema = "(tensors: Tensor[], dim: dim = 1) -> out",
    .doc = "Joins tensors along a dimension; their other sizes must agree.",
    .forward = forward_cat, .backward = backward_cat },
  { .name = "stack",
    .example = "moon.stack({moon.tensor {1, 2}, moon.tensor {3, 4}}, 2) --> {{1, 3}, {2, "
               "4}}",
    .flags = OP_FUNCTION_ONLY | OP_COMPOSITE,
    .schema = "(tensors: Tensor[], dim: dim = 1) -> out",
    .doc = "Joins tensors of one shape along a new dimension.",
    .forward = forward_stack },
  { .name = "halve", .flags = OP_VIEW | OP_HIDDEN,
    .schema = "(input: Tensor, dim: dim, at: int) -> front, back",
    .doc = "The first `at` positions of a dimension, and the rest. Two views.",
    .forward = forward_halve, .backward = backward_halve },
  { .name = "split",
    .example = "moon.tensor({1, 2, 3}):split(2)[1] --> {1, 2}",
    .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, size: int, dim: dim = 1) -> Tensor[]",
    .doc = "Cuts a dimension into parts of `size`; the last is what remains. A list of views.",
    .forward = forward_split },
  { .name = "chunk",
    .example = "moon.tensor({1, 2, 3}):chunk(2)[2] --> {3}",
    .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, n: int, dim: dim = 1) -> Tensor[]",
    .doc = "Cuts a dimension into at most n parts of equal size; the last may be smaller. A list "
           "of views.",
    .forward = forward_chunk },
  { .name = "unbind", .flags = OP_COMPOSITE, .schema = "(input: Tensor, dim: dim = 1) -> Tensor[]",
    .doc = "The slices at each position of a dimension, which disappears. A list of views.",
    .example = "moon.unbind(moon.tensor { { 1, 2 }, { 3, 4 } }, 2)[2] --> { 2, 4 }",
    .forward = forward_unbind },
  { .name = "flip",
    .example = "moon.tensor({1, 2, 3}):flip(1) --> {3, 2, 1}",
    .schema = "(input: Tensor, dim: dims) -> out",
    .doc = "A copy with the order of elements turned round along dimensions, all if none is named.",
    .forward = forward_flip, .backward = backward_flip },
};

OP_FAMILY(joining, descriptors);
