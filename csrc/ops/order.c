// Sorting along a dimension. The sort is stable and puts NaN last as the largest; positions count
// from 1. The gradient of sorted values goes back to where they came from.
#include <inttypes.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/dims.h"

enum { VALUES, INDICES };

// Results of x's shape with `length` along dim; values may be left out.
static moon_status run_sort(op_call *call, int dim, int64_t length, bool descending,
                            moon_tensor **values, moon_tensor **indices) {
  moon_tensor *x = call->args[0].tensor;
  int64_t shape[MOON_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  if (x->ndim > 0) shape[dim] = length;
  if (values) MOON_TRY(ops_new(call->engine, x, x->dtype, x->ndim, shape, values));
  MOON_TRY(ops_new(call->engine, x, MOON_I64, x->ndim, shape, indices));
  device_array from = dims_at_least_one(x), at = dims_at_least_one(*indices), sorted;
  if (values) sorted = dims_at_least_one(*values);
  MOON_TRY(tensor_kernels(x)->sort(call->engine, dim, descending, &from, values ? &sorted : NULL,
                                   &at));
  return ops_index_out(call->engine, *indices);
}

static moon_status forward_sort(op_call *call) {
  enum { INPUT, DIM, DESCENDING };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  return run_sort(call, dim, x->ndim > 0 ? x->shape[dim] : 1, call->args[DESCENDING].boolean,
                  &call->results[VALUES], &call->results[INDICES]);
}

static moon_status forward_argsort(op_call *call) {
  enum { INPUT, DIM, DESCENDING };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  return run_sort(call, dim, x->ndim > 0 ? x->shape[dim] : 1, call->args[DESCENDING].boolean, NULL,
                  &call->results[0]);
}

static moon_status forward_topk(op_call *call) {
  enum { INPUT, K, DIM, LARGEST };
  moon_tensor *x = call->args[INPUT].tensor;
  int64_t k = call->args[K].integer;
  int dim;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, &dim));
  int64_t size = x->ndim > 0 ? x->shape[dim] : 1;
  if (k < 0 || k > size || (k == 0 && x->ndim == 0))
    return moon_fail(MOON_BAD_ARGUMENT, "k must lie in %d..%" PRId64 ", the size of dimension %d, "
                     "got %" PRId64, x->ndim > 0 ? 0 : 1, size, dim + 1, k);
  return run_sort(call, dim, k, call->args[LARGEST].boolean, &call->results[VALUES],
                  &call->results[INDICES]);
}

static moon_status back_to_places(op_backward_call *call, int64_t given_dim) {
  const op_input *input = &call->inputs[0];
  moon_tensor *g = call->grads[VALUES], *indices;
  int dim;
  if (!g) return MOON_OK;
  MOON_TRY(shape_dim(input->ndim, given_dim, &dim));
  if (call->engine->grad_enabled) {
    compose c = compose_open(call->engine);
    moon_tensor *zeros = compose_filled(&c, g, input->ndim, input->shape, 0);
    moon_tensor *dx = COMPOSE(&c, scatter, op_tensor(zeros), op_int(dim),
                              op_tensor(call->results[INDICES]), op_tensor(g));
    return compose_close(&c, dx, &call->out[0]);
  }
  MOON_TRY(ops_new_filled(call->engine, g, g->dtype, input->ndim, input->shape, 0, &call->out[0]));
  device_array from = dims_at_least_one(g), to = dims_at_least_one(call->out[0]);
  MOON_TRY(ops_index_in(call->engine, "indices", call->results[INDICES], to.shape[dim], &indices));
  device_array at = dims_at_least_one(indices);
  moon_status status = tensor_kernels(g)->scatter(call->engine, dim, false, &at, &from, &to);
  tensor_release(indices);
  return status;
}

static moon_status backward_sort(op_backward_call *call) {
  return back_to_places(call, call->args[1].integer);
}

static moon_status backward_topk(op_backward_call *call) {
  return back_to_places(call, call->args[2].integer);
}

static op_descriptor descriptors[] = {
  { .name = "sort",
    .example = "moon.tensor({3, 1, 2}):sort() --> {1, 2, 3}",
    .saves = "indices",
    .schema = "(input: Tensor, dim: dim = -1, descending: bool = false) -> values, indices",
    .doc = "Sorts along a dimension: the values, and the positions (int64, from 1) they had. Equal "
           "elements keep their order; NaN counts as largest.",
    .forward = forward_sort, .backward = backward_sort },
  { .name = "argsort",
    .example = "moon.tensor({3, 1, 2}):argsort() --> {2, 3, 1}",
    .schema = "(input: Tensor, dim: dim = -1, descending: bool = false) -> indices",
    .doc = "The positions (int64, from 1) that sort the tensor along a dimension.",
    .forward = forward_argsort },
  { .name = "topk",
    .example = "moon.tensor({3, 1, 2}):topk(2) --> {3, 2}",
    .saves = "indices",
    .schema = "(input: Tensor, k: int, dim: dim = -1, largest: bool = true) -> values, indices",
    .doc = "The k largest (or smallest) elements along a dimension in order, and the positions "
           "(int64, from 1) they had.",
    .forward = forward_topk, .backward = backward_topk },
};

OP_FAMILY(order, descriptors);
