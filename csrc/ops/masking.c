// Choosing by a bool mask, and writing into a block of a tensor: what t[mask] and t[{...}] = v are
// made of. A mask is brought to row-major positions once; reading and writing go by those.
#include <inttypes.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/target.h"

enum { INPUT, MASK, SOURCE };

static device_array flat_array(const moon_tensor *contiguous) {
  return (device_array){ .data = tensor_data(contiguous), .dtype = contiguous->dtype, .ndim = 1,
                         .shape = { tensor_count(contiguous) }, .strides = { 1 } };
}

static moon_status zero_like(moon_engine *engine, const moon_tensor *like, moon_tensor **zero) {
  return ops_new_filled(engine, like, like->dtype, 0, NULL, 0, zero);
}

// Row-major positions, from 0, of the true elements of `mask` seen as (ndim, shape): int64, 1-D.
static moon_status find_positions(moon_engine *engine, const moon_tensor *mask, int ndim,
                                  const int64_t *shape, moon_tensor **positions) {
  const device_kernels *kernels = tensor_kernels(mask);
  device_array seen = array_broadcast(mask, ndim, shape);
  int64_t count;
  moon_tensor *made;
  MOON_TRY(kernels->mask_positions(engine, &seen, &count, NULL));
  MOON_TRY(ops_new(engine, mask, MOON_I64, 1, &count, &made));
  device_array to = tensor_array(made);
  moon_status status = kernels->mask_positions(engine, &seen, &count, &to);
  if (status != MOON_OK) {
    tensor_release(made);
    return status;
  }
  *positions = made;
  return MOON_OK;
}

// The elements of `x` (of any layout) at row-major positions of its broadcast shape.
static moon_status take_positions(moon_engine *engine, moon_tensor *x, int ndim,
                                  const int64_t *shape, moon_tensor *positions, moon_tensor **out) {
  moon_tensor *view = NULL, *flat = NULL, *made = NULL;
  device_array stretched = array_broadcast(x, ndim, shape);
  moon_status status = tensor_new_view(x, ndim, shape, stretched.strides, x->offset, &view);
  if (status == MOON_OK) status = ops_contiguous(engine, view, &flat);
  if (status == MOON_OK) status = ops_new(engine, x, x->dtype, 1, positions->shape, &made);
  if (status == MOON_OK) {
    device_array from = flat_array(flat), at = tensor_array(positions), to = tensor_array(made);
    status = tensor_kernels(x)->index_select(engine, 0, &from, &at, &to);
  }
  tensor_release(view);
  tensor_release(flat);
  if (status != MOON_OK) {
    tensor_release(made);
    return status;
  }
  *out = made;
  return MOON_OK;
}

// Writes `values` (1-D, one for each position) into a contiguous tensor.
static moon_status put_positions(moon_engine *engine, moon_tensor *positions,
                                 const device_array *values, moon_tensor *contiguous) {
  device_array at = tensor_array(positions), to = flat_array(contiguous);
  return tensor_kernels(contiguous)->index_put(engine, 0, false, &at, values, &to);
}

// -- masked_select

static moon_status forward_masked_select(op_call *call) {
  enum { OUT, POSITIONS };
  moon_tensor *x = call->args[INPUT].tensor, *mask = call->args[MASK].tensor;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_dtype("mask", mask, MOON_BOOL));
  MOON_TRY(shape_broadcast(x->ndim, x->shape, mask->ndim, mask->shape, &ndim, shape));
  MOON_TRY(find_positions(call->engine, mask, ndim, shape, &call->results[POSITIONS]));
  return take_positions(call->engine, x, ndim, shape, call->results[POSITIONS],
                        &call->results[OUT]);
}

static moon_status select_recorded(op_backward_call *call, const moon_tensor *positions, int ndim,
                                   const int64_t *shape) {
  moon_tensor *g = call->grads[0], *from_one = NULL;
  compose c = compose_open(call->engine);
  int64_t count = 1;
  for (int i = 0; i < ndim; i++) count *= shape[i];
  moon_tensor *zeros = compose_filled(&c, g, 1, &count, 0);
  if (zeros) {
    moon_status status = ops_converted(call->engine, positions, MOON_I64, &from_one);
    from_one = compose_adopt(&c, status, from_one);
    if (from_one) compose_check(&c, ops_index_out(call->engine, from_one));
  }
  moon_tensor *flat = COMPOSE(&c, index_add, op_tensor(zeros), op_int(0), op_tensor(from_one),
                              op_tensor(g));
  return compose_close(&c, compose_reshape(&c, flat, ndim, shape), &call->out[INPUT]);
}

static moon_status backward_masked_select(op_backward_call *call) {
  enum { OUT, POSITIONS };
  const op_input *x = &call->inputs[INPUT], *mask = &call->inputs[MASK];
  moon_tensor *g = call->grads[OUT];
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(shape_broadcast(x->ndim, x->shape, mask->ndim, mask->shape, &ndim, shape));
  if (call->engine->grad_enabled)
    return select_recorded(call, call->results[POSITIONS], ndim, shape);
  MOON_TRY(ops_new_filled(call->engine, g, g->dtype, ndim, shape, 0, &call->out[INPUT]));
  device_array values = tensor_array(g);
  return put_positions(call->engine, call->results[POSITIONS], &values, call->out[INPUT]);
}

// -- masked_fill and where

// out = mask ? x : y, all broadcast to out's shape; a NULL stands for zeros
static moon_status choose(moon_engine *engine, const moon_tensor *mask, const moon_tensor *x,
                          const moon_tensor *y, const moon_tensor *out) {
  moon_tensor *zero = NULL;
  if (!x || !y) MOON_TRY(zero_like(engine, out, &zero));
  device_array condition = array_broadcast(mask, out->ndim, out->shape);
  device_array yes = array_broadcast(x ? x : zero, out->ndim, out->shape);
  device_array no = array_broadcast(y ? y : zero, out->ndim, out->shape), to = tensor_array(out);
  moon_status status = tensor_kernels(out)->select(engine, &condition, &yes, &no, &to);
  tensor_release(zero);
  return status;
}

// The gradient g where the mask says (keep) or says not, and zeros elsewhere.
static moon_status masked_gradient(op_backward_call *call, moon_tensor *mask, bool keep,
                                   moon_tensor **out) {
  moon_tensor *g = call->grads[0];
  if (call->engine->grad_enabled) {
    compose c = compose_open(call->engine);
    moon_tensor *zero = compose_number(&c, g, 0);
    moon_tensor *part = COMPOSE(&c, where, op_tensor(mask), op_tensor(keep ? g : zero),
                                op_tensor(keep ? zero : g));
    return compose_close(&c, part, out);
  }
  moon_tensor *models[] = { g, mask };
  MOON_TRY(ops_new_among(call->engine, 2, models, g->dtype, g->ndim, g->shape, out));
  return choose(call->engine, mask, keep ? g : NULL, keep ? NULL : g, *out);
}

static moon_status fill_in_place(op_call *call) {
  moon_tensor *out = call->results[0], *mask = NULL, *value = NULL;
  moon_status status = target_apart(call->engine, call->args[MASK].tensor, out, &mask);
  if (status == MOON_OK)
    status = target_apart(call->engine, call->args[SOURCE].tensor, out, &value);
  if (status == MOON_OK) status = choose(call->engine, mask, value, out, out);
  tensor_release(mask);
  tensor_release(value);
  return status;
}

static moon_status forward_masked_fill(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *mask = call->args[MASK].tensor;
  moon_tensor *value = call->args[SOURCE].tensor;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_dtype("mask", mask, MOON_BOOL));
  MOON_TRY(ops_need_same_dtype("input", x, "value", value));
  if (call->inplace) {
    MOON_TRY(target_fits("mask", mask, "input", x->ndim, x->shape));
    MOON_TRY(target_fits("value", value, "input", x->ndim, x->shape));
    return fill_in_place(call);
  }
  MOON_TRY(shape_broadcast(x->ndim, x->shape, mask->ndim, mask->shape, &ndim, shape));
  MOON_TRY(target_fits("value", value, "the result", ndim, shape));
  moon_tensor *models[] = { x, mask };
  MOON_TRY(ops_new_among(call->engine, 2, models, x->dtype, ndim, shape, &call->results[0]));
  return choose(call->engine, mask, value, x, call->results[0]);
}

static moon_status backward_masked_fill(op_backward_call *call) {
  moon_tensor *mask = call->args[MASK].tensor;
  if (call->needs[INPUT]) MOON_TRY(masked_gradient(call, mask, false, &call->out[INPUT]));
  if (call->needs[SOURCE]) MOON_TRY(masked_gradient(call, mask, true, &call->out[SOURCE]));
  return MOON_OK;
}

static moon_status forward_where(op_call *call) {
  enum { CONDITION, X, Y };
  moon_tensor *mask = call->args[CONDITION].tensor;
  moon_tensor *x = call->args[X].tensor, *y = call->args[Y].tensor;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_dtype("condition", mask, MOON_BOOL));
  MOON_TRY(ops_need_same_dtype("x", x, "y", y));
  MOON_TRY(shape_broadcast(x->ndim, x->shape, y->ndim, y->shape, &ndim, shape));
  MOON_TRY(shape_broadcast(ndim, shape, mask->ndim, mask->shape, &ndim, shape));
  moon_tensor *models[] = { x, y, mask };
  MOON_TRY(ops_new_among(call->engine, 3, models, x->dtype, ndim, shape, &call->results[0]));
  return choose(call->engine, mask, x, y, call->results[0]);
}

static moon_status backward_where(op_backward_call *call) {
  enum { CONDITION, X, Y };
  moon_tensor *mask = call->args[CONDITION].tensor;
  if (call->needs[X]) MOON_TRY(masked_gradient(call, mask, true, &call->out[X]));
  if (call->needs[Y]) MOON_TRY(masked_gradient(call, mask, false, &call->out[Y]));
  return MOON_OK;
}

// -- masked_scatter

static moon_status scatter_steps(op_call *call, moon_tensor *positions, moon_tensor *source) {
  moon_tensor *out = call->results[0], *work;
  MOON_TRY(ops_contiguous(call->engine, out, &work));   // out itself, or a copy to be put back
  device_array values = flat_array(source);
  values.shape[0] = positions->shape[0];
  moon_status status = put_positions(call->engine, positions, &values, work);
  if (status == MOON_OK && work != out) status = ops_copy(call->engine, work, out);
  tensor_release(work);
  return status;
}

static moon_status forward_masked_scatter(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *mask = call->args[MASK].tensor;
  moon_tensor *source = call->args[SOURCE].tensor, *positions, *apart = NULL, *flat = NULL;
  MOON_TRY(ops_need_dtype("mask", mask, MOON_BOOL));
  MOON_TRY(ops_need_same_dtype("input", x, "source", source));
  MOON_TRY(target_fits("mask", mask, "input", x->ndim, x->shape));
  MOON_TRY(find_positions(call->engine, mask, x->ndim, x->shape, &positions));
  moon_status status = MOON_OK;
  if (tensor_count(source) < positions->shape[0])
    status = moon_fail(MOON_BAD_SHAPE, "source has %" PRId64 " elements but the mask is true at %"
                       PRId64, tensor_count(source), positions->shape[0]);
  if (status == MOON_OK) status = target_open(call);
  if (status == MOON_OK) status = target_apart(call->engine, source, call->results[0], &apart);
  if (status == MOON_OK) status = ops_contiguous(call->engine, apart, &flat);
  if (status == MOON_OK) status = scatter_steps(call, positions, flat);
  tensor_release(positions);
  tensor_release(apart);
  tensor_release(flat);
  return status;
}

// The source's gradient: g at the mask's places, in front of zeros for what was not used.
static moon_status source_recorded(op_backward_call *call) {
  const op_input *source = &call->inputs[SOURCE];
  compose c = compose_open(call->engine);
  int64_t count = 1;
  for (int i = 0; i < source->ndim; i++) count *= source->shape[i];
  moon_tensor *taken = COMPOSE(&c, masked_select, op_tensor(call->grads[0]), call->args[MASK]);
  moon_tensor *all = COMPOSE(&c, narrow_gradient, op_tensor(taken), op_int(0), op_int(0),
                             op_int(count));
  return compose_close(&c, compose_reshape(&c, all, source->ndim, source->shape),
                       &call->out[SOURCE]);
}

static moon_status scattered_source(op_backward_call *call) {
  const op_input *source = &call->inputs[SOURCE];
  moon_tensor *g = call->grads[0], *positions, *taken;
  MOON_TRY(ops_new_filled(call->engine, g, g->dtype, source->ndim, source->shape, 0,
                          &call->out[SOURCE]));
  MOON_TRY(find_positions(call->engine, call->args[MASK].tensor, g->ndim, g->shape, &positions));
  moon_status status = take_positions(call->engine, g, g->ndim, g->shape, positions, &taken);
  if (status == MOON_OK) {
    device_array from = tensor_array(taken), to = flat_array(call->out[SOURCE]);
    to.shape[0] = from.shape[0];
    status = tensor_kernels(g)->copy(call->engine, &from, &to);
    tensor_release(taken);
  }
  tensor_release(positions);
  return status;
}

static moon_status backward_masked_scatter(op_backward_call *call) {
  moon_tensor *mask = call->args[MASK].tensor;
  if (call->needs[INPUT]) MOON_TRY(masked_gradient(call, mask, false, &call->out[INPUT]));
  if (!call->needs[SOURCE]) return MOON_OK;
  return call->engine->grad_enabled ? source_recorded(call) : scattered_source(call);
}

// -- assign: t[{...}] = v

enum { SELF, VALUE, STARTS, LENGTHS, KEPT };

// The block of `self` that the arguments describe, as a view.
static moon_status open_block(const op_value *args, const moon_tensor *self, moon_tensor **block) {
  const op_value *starts = &args[STARTS], *lengths = &args[LENGTHS], *kept = &args[KEPT];
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS], offset = self->offset;
  int ndim = 0;
  if (starts->ints.count != self->ndim || lengths->ints.count != self->ndim ||
      kept->ints.count != self->ndim)
    return moon_fail(MOON_BAD_ARGUMENT, "starts, lengths and kept must have %d numbers each",
                     self->ndim);
  for (int i = 0; i < self->ndim; i++) {
    int64_t start = starts->ints.v[i], length = lengths->ints.v[i];
    bool drop = kept->ints.v[i] == 0;
    if (start < 0 || length < 0 || start > self->shape[i] - length || (drop && length != 1))
      return moon_fail(MOON_BAD_INDEX, "positions %" PRId64 "..%" PRId64 " do not lie in dimension "
                       "%d of size %" PRId64, start + 1, start + length, i + 1, self->shape[i]);
    offset += start * self->strides[i];
    if (drop) continue;
    shape[ndim] = length;
    strides[ndim++] = self->strides[i];
  }
  return tensor_new_view(self, ndim, shape, strides, offset, block);
}

static moon_status forward_assign(op_call *call) {
  moon_tensor *self = call->args[SELF].tensor, *value = call->args[VALUE].tensor, *block, *apart;
  MOON_TRY(ops_need_same_dtype("the tensor", self, "the value", value));
  MOON_TRY(open_block(call->args, call->results[0], &block));
  moon_status status = target_fits("the value", value, "the part", block->ndim, block->shape);
  if (status == MOON_OK) status = target_apart(call->engine, value, self, &apart);
  if (status == MOON_OK) {
    status = ops_copy(call->engine, apart, block);
    tensor_release(apart);
  }
  tensor_release(block);
  return status;
}

// The block of g, by operators.
static moon_tensor *block_recorded(compose *c, const op_value *args, moon_tensor *g) {
  int64_t shape[MOON_MAX_DIMS];
  int ndim = 0;
  moon_tensor *block = g;
  for (int i = 0; i < g->ndim; i++) {
    block = COMPOSE(c, narrow, op_tensor(block), op_int(i), op_int(args[STARTS].ints.v[i]),
                    op_int(args[LENGTHS].ints.v[i]));
    if (args[KEPT].ints.v[i] != 0) shape[ndim++] = args[LENGTHS].ints.v[i];
  }
  return compose_reshape(c, block, ndim, shape);
}

// Where the block lies in g: a bool tensor.
static moon_status block_mask(op_backward_call *call, moon_tensor **mask) {
  moon_tensor *g = call->grads[0], *made, *block;
  MOON_TRY(ops_new_filled(call->engine, g, MOON_BOOL, g->ndim, g->shape, 0, &made));
  moon_status status = open_block(call->args, made, &block);
  if (status == MOON_OK) {
    device_array inside = tensor_array(block);
    status = tensor_kernels(g)->fill(call->engine, 1, &inside);
    tensor_release(block);
  }
  if (status == MOON_OK) *mask = made;
  else tensor_release(made);
  return status;
}

static moon_status assign_recorded(op_backward_call *call) {
  moon_tensor *g = call->grads[0], *rest = NULL, *block = NULL, *mask = NULL;
  compose c = compose_open(call->engine);
  if (call->needs[VALUE]) block = block_recorded(&c, call->args, g);
  if (call->needs[SELF] && c.status == MOON_OK) {
    moon_status status = block_mask(call, &mask);
    mask = compose_adopt(&c, status, mask);
    moon_tensor *zero = compose_number(&c, g, 0);
    rest = COMPOSE(&c, where, op_tensor(mask), op_tensor(zero), op_tensor(g));
  }
  compose_keep(&c, rest, &call->out[SELF]);
  return compose_close(&c, block, &call->out[VALUE]);
}

static moon_status backward_assign(op_backward_call *call) {
  moon_tensor *g = call->grads[0], *block;
  if (call->engine->grad_enabled) return assign_recorded(call);
  if (call->needs[VALUE]) MOON_TRY(open_block(call->args, g, &call->out[VALUE]));
  if (!call->needs[SELF]) return MOON_OK;
  MOON_TRY(tensor_new_like(call->engine, g, &call->out[SELF]));
  MOON_TRY(ops_copy(call->engine, g, call->out[SELF]));
  MOON_TRY(open_block(call->args, call->out[SELF], &block));
  device_array to = tensor_array(block);
  moon_status status = tensor_kernels(g)->fill(call->engine, 0, &to);
  tensor_release(block);
  return status;
}

static op_descriptor descriptors[] = {
  { .name = "masked_select",
    .example = "moon.tensor({1, -2, 3}):masked_select(moon.tensor({1, -2, 3}):gt(0)) --> "
               "{1, 3}",
    .saves = "positions",
    .schema = "(input: Tensor, mask: Tensor) -> out, [positions]",
    .doc = "The elements where the bool mask is true, in row-major order: 1-D. input and mask "
           "broadcast.",
    .forward = forward_masked_select, .backward = backward_masked_select },
  { .name = "masked_fill",
    .example = "moon.masked_fill(moon.tensor {1, -2}, moon.tensor({1, -2}):lt(0), 0) --> "
               "{1, 0}",
    .flags = OP_INPLACE, .saves = "mask",
    .schema = "(input: Tensor, mask: Tensor, value: Tensor|number) -> out",
    .doc = "The input with value where the bool mask is true. They broadcast.",
    .forward = forward_masked_fill, .backward = backward_masked_fill },
  { .name = "masked_scatter",
    .example = "moon.masked_scatter(moon.zeros(2), moon.tensor({1, -2}):lt(0), "
               "moon.tensor {5}) --> {0, 5}",
    .flags = OP_INPLACE, .saves = "mask",
    .schema = "(input: Tensor, mask: Tensor, source: Tensor) -> out",
    .doc = "The input with the first elements of source, in row-major order, where the bool mask "
           "is true. The mask broadcasts to the input.",
    .forward = forward_masked_scatter, .backward = backward_masked_scatter },
  { .name = "where",
    .example = "moon.where(moon.tensor({1, -2}):gt(0), 1, moon.zeros(2)) --> {1, 0}",
    .saves = "condition",
    .schema = "(condition: Tensor, x: Tensor|number, y: Tensor|number) -> out",
    .doc = "x where the bool condition is true, else y. They broadcast.",
    .forward = forward_where, .backward = backward_where },
  { .name = "assign", .flags = OP_MUTATES | OP_HIDDEN,
    .schema = "(self: Tensor, value: Tensor|number, starts: int[], lengths: int[], kept: int[]) "
              "-> out",
    .doc = "Writes value, broadcast, into the block of self that starts at `starts` (from 0) and "
           "is `lengths` large; dimensions whose `kept` is 0 are not in the block's shape.",
    .forward = forward_assign, .backward = backward_assign },
};

OP_FAMILY(masking, descriptors);
