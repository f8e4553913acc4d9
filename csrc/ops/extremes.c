// The largest and smallest elements and where they are. max and min are made of amax (one value of
// all, ties share the gradient) and max_along (values and positions, the gradient goes to the
// chosen element), because the two save different things for the backward pass.
#include "ops/compose.h"
#include "ops/dims.h"

enum { INPUT, DIM, KEEPDIM };
enum { VALUES, INDICES };

// -- along one dimension, with positions; a descriptor's row says whether the smallest is wanted

static moon_status forward_along(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  dim_set set;
  int dim;
  MOON_TRY(dims_read_one(&call->args[DIM], call->args[KEEPDIM].boolean, x->ndim, x->shape, &set,
                         &dim));
  MOON_TRY(dims_need_elements(&set, x));
  MOON_TRY(ops_new(call->engine, x, x->dtype, set.result_ndim, set.result, &call->results[VALUES]));
  MOON_TRY(
      ops_new(call->engine, x, MOON_I64, set.result_ndim, set.result, &call->results[INDICES]));
  device_array from = dims_at_least_one(x);
  device_array values = dims_at_least_one(call->results[VALUES]);
  device_array indices = dims_at_least_one(call->results[INDICES]);
  if (x->ndim > 0) {
    values = dims_array(&set, call->results[VALUES]);
    indices = dims_array(&set, call->results[INDICES]);
  }
  MOON_TRY(tensor_kernels(x)->extreme(call->engine, call->op->row != 0, dim, &from, &values,
                                      &indices));
  return ops_index_out(call->engine, call->results[INDICES]);
}

static moon_status along_recorded(op_backward_call *call, const dim_set *set, int dim) {
  const op_input *input = &call->inputs[INPUT];
  moon_tensor *g = call->grads[VALUES];
  compose c = compose_open(call->engine);
  moon_tensor *zeros = compose_filled(&c, g, input->ndim, input->shape, 0);
  moon_tensor *at = compose_reshape(&c, call->results[INDICES], set->ndim, set->kept);
  moon_tensor *values = compose_reshape(&c, g, set->ndim, set->kept);
  moon_tensor *dx = COMPOSE(&c, scatter, op_tensor(zeros), op_int(dim), op_tensor(at),
                            op_tensor(values));
  return compose_close(&c, dx, &call->out[INPUT]);
}

static moon_status backward_along(op_backward_call *call) {
  const op_input *input = &call->inputs[INPUT];
  moon_tensor *g = call->grads[VALUES], *zeros, *indices;
  dim_set set;
  int dim;
  if (!g) return MOON_OK;
  if (input->ndim == 0) {
    call->out[INPUT] = tensor_retain(g);
    return MOON_OK;
  }
  MOON_TRY(dims_read_one(&call->args[DIM], call->args[KEEPDIM].boolean, input->ndim, input->shape,
                         &set, &dim));
  if (call->engine->grad_enabled) return along_recorded(call, &set, dim);
  MOON_TRY(ops_index_in(call->engine, "indices", call->results[INDICES], input->shape[dim],
                        &indices));
  moon_status status =
      ops_new_filled(call->engine, g, g->dtype, input->ndim, input->shape, 0, &zeros);
  if (status == MOON_OK) {
    device_array at = dims_array(&set, indices), from = dims_array(&set, g);
    device_array to = tensor_array(zeros);
    call->out[INPUT] = zeros;
    status = tensor_kernels(g)->scatter(call->engine, dim, false, &at, &from, &to);
  }
  tensor_release(indices);
  return status;
}

// -- max and min: of everything, or along a dimension

static moon_status forward_extreme(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  bool smallest = call->op->row != 0;
  dim_set set;
  int dim;
  if (call->args[DIM].given) {
    MOON_TRY(dims_read_one(&call->args[DIM], false, x->ndim, x->shape, &set, &dim));
    MOON_TRY(dims_need_elements(&set, x));
    return op_apply(call->engine, ops_get(smallest ? OP_min_along : OP_max_along), call->args,
                    call->results);
  }
  if (tensor_count(x) == 0)
    return moon_fail(MOON_BAD_SHAPE, "input is empty, so there is no element to choose");
  return OP_RUN(call->engine, ops_get(smallest ? OP_amin : OP_amax), &call->results[VALUES],
                op_tensor(x), op_none(), call->args[KEEPDIM]);
}

// -- positions alone

// Among all elements: a contiguous copy's position is the row-major one.
static moon_status position_of_all(op_call *call, bool smallest) {
  moon_tensor *input = call->args[INPUT].tensor, *value, *contiguous;
  int64_t ones[MOON_MAX_DIMS] = { 1, 1, 1, 1, 1, 1, 1, 1 };
  int ndim = call->args[KEEPDIM].boolean ? input->ndim : 0;
  MOON_TRY(ops_new(call->engine, input, MOON_I64, ndim, ones, &call->results[0]));
  MOON_TRY(ops_contiguous(call->engine, input, &contiguous));
  moon_status status = ops_new(call->engine, input, input->dtype, 1, ones, &value);
  if (status == MOON_OK) {
    device_array flat = { .data = tensor_data(contiguous), .dtype = input->dtype, .ndim = 1,
                          .shape = { tensor_count(input) }, .strides = { 1 } };
    device_array values = tensor_array(value), indices = values;
    indices.data = tensor_data(call->results[0]);
    indices.dtype = MOON_I64;
    status = tensor_kernels(input)->extreme(call->engine, smallest, 0, &flat, &values, &indices);
    tensor_release(value);
  }
  tensor_release(contiguous);
  return status;
}

static moon_status position_along(op_call *call, const dim_set *set, int dim, bool smallest) {
  moon_tensor *x = call->args[INPUT].tensor, *values;
  MOON_TRY(ops_new(call->engine, x, MOON_I64, set->result_ndim, set->result, &call->results[0]));
  MOON_TRY(ops_new(call->engine, x, x->dtype, set->result_ndim, set->result, &values));
  device_array from = tensor_array(x), value = dims_array(set, values);
  device_array indices = dims_array(set, call->results[0]);
  moon_status status =
      tensor_kernels(x)->extreme(call->engine, smallest, dim, &from, &value, &indices);
  tensor_release(values);
  return status;
}

static moon_status forward_position(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  bool smallest = call->op->row != 0;
  if (call->args[DIM].given) {
    dim_set set;
    int dim;
    MOON_TRY(dims_read_one(&call->args[DIM], call->args[KEEPDIM].boolean, x->ndim, x->shape, &set,
                           &dim));
    MOON_TRY(dims_need_elements(&set, x));
    if (x->ndim > 0) {
      MOON_TRY(position_along(call, &set, dim, smallest));
      return ops_index_out(call->engine, call->results[0]);
    }
  }
  if (tensor_count(x) == 0)
    return moon_fail(MOON_BAD_SHAPE, "input is empty, so there is no element to choose");
  MOON_TRY(position_of_all(call, smallest));
  return ops_index_out(call->engine, call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "max",
    .example = "moon.tensor({{1, 5}, {7, 3}}):max(2) --> {5, 7}",
    .flags = OP_COMPOSITE, .row = 0,
    .schema = "(input: Tensor, dim: dim?, keepdim: bool = false) -> values, indices",
    .doc = "Largest element. Without dim: of all, as a 0-d tensor. With dim: the largest along it "
           "and their positions (int64, from 1; the first of equals). NaN counts as largest.",
    .forward = forward_extreme },
  { .name = "min",
    .example = "moon.tensor({{1, 5}, {7, 3}}):min() --> 1",
    .flags = OP_COMPOSITE, .row = 1,
    .schema = "(input: Tensor, dim: dim?, keepdim: bool = false) -> values, indices",
    .doc = "Smallest element. Without dim: of all, as a 0-d tensor. With dim: the smallest along "
           "it and their positions (int64, from 1; the first of equals). NaN counts as smallest.",
    .forward = forward_extreme },
  { .name = "max_along", .flags = OP_HIDDEN, .row = 0, .saves = "indices",
    .schema = "(input: Tensor, dim: dim, keepdim: bool = false) -> values, indices",
    .doc = "max with a dimension.",
    .forward = forward_along, .backward = backward_along },
  { .name = "min_along", .flags = OP_HIDDEN, .row = 1, .saves = "indices",
    .schema = "(input: Tensor, dim: dim, keepdim: bool = false) -> values, indices",
    .doc = "min with a dimension.",
    .forward = forward_along, .backward = backward_along },
  { .name = "argmax",
    .example = "moon.tensor({{1, 5}, {7, 3}}):argmax(2) --> {2, 1}",
    .row = 0,
    .schema = "(input: Tensor, dim: dim?, keepdim: bool = false) -> indices",
    .doc = "Positions (int64, from 1) of the largest elements along dim, or of the largest of all "
           "in row-major order. The first of equals.",
    .forward = forward_position },
  { .name = "argmin",
    .example = "moon.tensor({{1, 5}, {7, 3}}):argmin(2) --> {1, 2}",
    .row = 1,
    .schema = "(input: Tensor, dim: dim?, keepdim: bool = false) -> indices",
    .doc = "Positions (int64, from 1) of the smallest elements along dim, or of the smallest of "
           "all in row-major order. The first of equals.",
    .forward = forward_position },
};

OP_FAMILY(extremes, descriptors);
