// Picking and placing by index tensors. Indices count from 1 and are checked before a kernel sees
// them. Reading and writing are each other's gradients: index_select and index_add, gather and
// scatter_add. Where one place is written twice, the later source wins.
#include <inttypes.h>
#include <string.h>

#include "ops/compose.h"
#include "ops/dims.h"
#include "ops/target.h"

// -- one index for whole slices: index_select, index_add, index_copy

enum { INPUT, DIM, INDEX, SOURCE };
enum { REPLACE, ADD };   // rows of the operators that write

// The checks the three share; gives the dimension and the index counted from 0.
static moon_status read_slices(op_call *call, int *dim, moon_tensor **index) {
  moon_tensor *x = call->args[INPUT].tensor;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, dim));
  if (x->ndim == 0) return moon_fail(MOON_BAD_SHAPE, "input must have a dimension, got 0-d");
  MOON_TRY(ops_need_ndim("index", call->args[INDEX].tensor, 1, "(n)"));
  return ops_index_in(call->engine, "index", call->args[INDEX].tensor, x->shape[*dim], index);
}

// out = x's slices at `index` (from 0).
static moon_status take_slices(moon_engine *engine, const moon_tensor *x, int dim,
                               const moon_tensor *index, moon_tensor **out) {
  int64_t shape[MOON_MAX_DIMS];
  moon_tensor *made;
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = index->shape[0];
  MOON_TRY(ops_new_like(engine, x, x->dtype, shape, &made));
  device_array from = tensor_array(x), at = tensor_array(index), to = tensor_array(made);
  moon_status status = tensor_kernels(x)->index_select(engine, dim, &from, &at, &to);
  if (status != MOON_OK) {
    tensor_release(made);
    return status;
  }
  *out = made;
  return MOON_OK;
}

static moon_status put_slices(moon_engine *engine, moon_tensor *target, int dim, bool accumulate,
                              const moon_tensor *index, const moon_tensor *source) {
  device_array at = tensor_array(index), to = tensor_array(target);
  device_array from = array_broadcast(source, target->ndim, to.shape);
  from.shape[dim] = index->shape[0];
  from.strides[dim] = source->ndim > 0 ? source->strides[dim] : 0;
  return tensor_kernels(target)->index_put(engine, dim, accumulate, &at, &from, &to);
}

static moon_status forward_index_select(op_call *call) {
  moon_tensor *index;
  int dim;
  MOON_TRY(read_slices(call, &dim, &index));
  moon_status status =
      take_slices(call->engine, call->args[INPUT].tensor, dim, index, &call->results[0]);
  tensor_release(index);
  return status;
}

// The saved index again, counted from 0.
static moon_status saved_index(op_backward_call *call, int *dim, moon_tensor **index) {
  const op_input *input = &call->inputs[INPUT];
  MOON_TRY(shape_dim(input->ndim, call->args[DIM].integer, dim));
  return ops_index_in(call->engine, "index", call->args[INDEX].tensor,
                      input->ndim > 0 ? input->shape[*dim] : 1, index);
}

// Writes `source` at `index` (from 0): put_slices or put_elements.
typedef moon_status (*put_function)(moon_engine *engine, moon_tensor *target, int dim,
                                    bool accumulate, const moon_tensor *index,
                                    const moon_tensor *source);

// The gradient of what was picked, added up where it came from, by operators: `add` does what
// `put` does.
static moon_status pick_recorded(op_backward_call *call, op_descriptor *add) {
  const op_input *input = &call->inputs[INPUT];
  moon_tensor *g = call->grads[0];
  compose c = compose_open(call->engine);
  moon_tensor *zeros = compose_filled(&c, g, input->ndim, input->shape, 0);
  op_value args[] = { op_tensor(zeros), call->args[DIM], call->args[INDEX], op_tensor(g) };
  return compose_close(&c, compose_run(&c, add, NULL, 4, args), &call->out[INPUT]);
}

static moon_status backward_pick(op_backward_call *call, put_function put, op_descriptor *add) {
  const op_input *input = &call->inputs[INPUT];
  moon_tensor *g = call->grads[0], *index;
  int dim;
  if (call->engine->grad_enabled) return pick_recorded(call, add);
  MOON_TRY(saved_index(call, &dim, &index));
  moon_status status = ops_new_filled(call->engine, g, g->dtype, input->ndim, input->shape, 0,
                                      &call->out[INPUT]);
  if (status == MOON_OK) status = put(call->engine, call->out[INPUT], dim, true, index, g);
  tensor_release(index);
  return status;
}

static moon_status backward_index_select(op_backward_call *call) {
  return backward_pick(call, put_slices, ops_get(OP_index_add));
}

static moon_status check_source(const op_call *call, int dim) {
  moon_tensor *x = call->args[INPUT].tensor, *source = call->args[SOURCE].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_same_dtype("input", x, "source", source));
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = call->args[INDEX].tensor->shape[0];
  if (source->ndim == x->ndim && memcmp(shape, source->shape, (size_t)x->ndim * sizeof *shape) == 0)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "source must be %s (input with %" PRId64 " positions in "
                   "dimension %d), got %s", shape_text(x->ndim, shape, a), shape[dim], dim + 1,
                   tensor_shape_text(source, b));
}

// Writes args[SOURCE] at the index, which it releases.
static moon_status put_source(op_call *call, put_function put, int dim, moon_tensor *index) {
  moon_tensor *source;
  moon_status status = target_open(call);
  if (status == MOON_OK)
    status = target_apart(call->engine, call->args[SOURCE].tensor, call->results[0], &source);
  if (status == MOON_OK) {
    status = put(call->engine, call->results[0], dim, call->op->row == ADD, index, source);
    tensor_release(source);
  }
  tensor_release(index);
  return status;
}

static moon_status forward_index_put(op_call *call) {
  moon_tensor *index;
  int dim;
  MOON_TRY(read_slices(call, &dim, &index));
  moon_status status = check_source(call, dim);
  if (status == MOON_OK) return put_source(call, put_slices, dim, index);
  tensor_release(index);
  return status;
}

// A copy of g with zeros where it was written over.
static moon_status clear(op_backward_call *call, put_function put, int dim, moon_tensor *index) {
  moon_tensor *g = call->grads[0], *none;
  MOON_TRY(tensor_new_like(call->engine, g, &call->out[INPUT]));
  MOON_TRY(ops_copy(call->engine, g, call->out[INPUT]));
  MOON_TRY(ops_new_filled(call->engine, g, g->dtype, 0, NULL, 0, &none));
  moon_status status = put(call->engine, call->out[INPUT], dim, false, index, none);
  tensor_release(none);
  return status;
}

// The gradient of writing: of what was written over, zeros; of the source, what `take_back` puts
// into out[SOURCE]. `recorded` does both with operators.
static moon_status backward_put(op_backward_call *call, put_function put,
                                moon_status (*take_back)(op_backward_call *call, int dim,
                                                         moon_tensor *index),
                                moon_status (*recorded)(op_backward_call *call)) {
  bool accumulate = call->op->row == ADD;
  moon_tensor *index;
  int dim;
  if (call->needs[INPUT] && accumulate) call->out[INPUT] = tensor_retain(call->grads[0]);
  if (accumulate && !call->needs[SOURCE]) return MOON_OK;
  if (call->engine->grad_enabled) return recorded(call);
  MOON_TRY(saved_index(call, &dim, &index));
  moon_status status = MOON_OK;
  if (call->needs[INPUT] && !accumulate) status = clear(call, put, dim, index);
  if (status == MOON_OK && call->needs[SOURCE]) status = take_back(call, dim, index);
  tensor_release(index);
  return status;
}

static moon_status take_back_slices(op_backward_call *call, int dim, moon_tensor *index) {
  return take_slices(call->engine, call->grads[0], dim, index, &call->out[SOURCE]);
}

// By operators: g without, and g's, slices.
static moon_status index_put_recorded(op_backward_call *call) {
  const op_input *source = &call->inputs[SOURCE];
  moon_tensor *g = call->grads[0], *cleared = NULL, *taken = NULL;
  compose c = compose_open(call->engine);
  if (call->needs[INPUT] && !call->out[INPUT]) {
    moon_tensor *zeros = compose_filled(&c, g, source->ndim, source->shape, 0);
    cleared = COMPOSE(&c, index_copy, op_tensor(g), call->args[DIM], call->args[INDEX],
                      op_tensor(zeros));
  }
  if (call->needs[SOURCE])
    taken = COMPOSE(&c, index_select, op_tensor(g), call->args[DIM], call->args[INDEX]);
  compose_keep(&c, cleared, &call->out[INPUT]);
  return compose_close(&c, taken, &call->out[SOURCE]);
}

static moon_status backward_index_put(op_backward_call *call) {
  return backward_put(call, put_slices, take_back_slices, index_put_recorded);
}

// -- an index for every element: gather, scatter, scatter_add

// `index` must have the tensor's dimensions and, except along dim, no larger sizes.
static moon_status check_elements(const char *name, const moon_tensor *tensor, int dim,
                                  const moon_tensor *index) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  bool fits = tensor->ndim == index->ndim;
  for (int i = 0; i < tensor->ndim && fits; i++)
    fits = i == dim || index->shape[i] <= tensor->shape[i];
  if (fits) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE,
                   "index %s does not fit %s %s: it must have as many dimensions "
                   "and be no larger%s",
                   tensor_shape_text(index, a), name, tensor_shape_text(tensor, b),
                   dim < 0 ? "" : ", except along dim");
}

// `tensor` cut to the sizes of `index`, except along dim (-1: along all).
static device_array cut_to_index(const moon_tensor *tensor, int dim, const moon_tensor *index) {
  device_array array = dims_at_least_one(tensor), sizes = dims_at_least_one(index);
  for (int i = 0; i < array.ndim; i++)
    if (i != dim) array.shape[i] = sizes.shape[i];
  return array;
}

static moon_status gather_into(moon_engine *engine, const moon_tensor *x, int dim,
                               const moon_tensor *index, const device_array *out) {
  device_array from = cut_to_index(x, dim, index), at = dims_at_least_one(index);
  return tensor_kernels(x)->gather(engine, dim, &from, &at, out);
}

// A 0-d source goes to all places.
static moon_status put_elements(moon_engine *engine, moon_tensor *target, int dim, bool accumulate,
                                const moon_tensor *index, const moon_tensor *source) {
  device_array to = cut_to_index(target, dim, index), at = dims_at_least_one(index);
  device_array from = source->ndim == 0 ? array_broadcast(source, at.ndim, at.shape)
                                        : cut_to_index(source, -1, index);
  return tensor_kernels(target)->scatter(engine, dim, accumulate, &at, &from, &to);
}

static moon_status read_elements(op_call *call, int *dim, moon_tensor **index) {
  moon_tensor *x = call->args[INPUT].tensor;
  MOON_TRY(shape_dim(x->ndim, call->args[DIM].integer, dim));
  MOON_TRY(check_elements("input", x, *dim, call->args[INDEX].tensor));
  return ops_index_in(call->engine, "index", call->args[INDEX].tensor,
                      x->ndim > 0 ? x->shape[*dim] : 1, index);
}

static moon_status forward_gather(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *index;
  int dim;
  MOON_TRY(read_elements(call, &dim, &index));
  moon_status status =
      ops_new(call->engine, x, x->dtype, index->ndim, index->shape, &call->results[0]);
  if (status == MOON_OK) {
    device_array to = dims_at_least_one(call->results[0]);
    status = gather_into(call->engine, x, dim, index, &to);
  }
  tensor_release(index);
  return status;
}

static moon_status backward_gather(op_backward_call *call) {
  return backward_pick(call, put_elements, ops_get(OP_scatter_add));
}

static moon_status forward_scatter(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *source = call->args[SOURCE].tensor, *index;
  int dim;
  MOON_TRY(ops_need_same_dtype("input", x, "source", source));
  if (source->ndim > 0)
    MOON_TRY(check_elements("source", source, -1, call->args[INDEX].tensor));
  MOON_TRY(read_elements(call, &dim, &index));
  return put_source(call, put_elements, dim, index);
}

// The source's gradient: g at the places; zeros where the source is larger than the index.
static moon_status take_back_elements(op_backward_call *call, int dim, moon_tensor *index) {
  const op_input *source = &call->inputs[SOURCE];
  moon_tensor *g = call->grads[0];
  bool one = source->ndim == 0;   // its gradient is summed to 0-d by the walk
  MOON_TRY(ops_new_filled(call->engine, g, g->dtype, index->ndim,
                          one ? index->shape : source->shape, 0, &call->out[SOURCE]));
  device_array to = cut_to_index(call->out[SOURCE], -1, index);
  return gather_into(call->engine, g, dim, index, &to);
}

static moon_status scatter_recorded(op_backward_call *call) {
  const op_input *source = &call->inputs[SOURCE];
  moon_tensor *g = call->grads[0], *cleared = NULL, *taken = NULL;
  compose c = compose_open(call->engine);
  if (call->needs[INPUT] && !call->out[INPUT])
    cleared = COMPOSE(&c, scatter, op_tensor(g), call->args[DIM], call->args[INDEX],
                      op_tensor(compose_number(&c, g, 0)));
  if (call->needs[SOURCE]) {
    taken = COMPOSE(&c, gather, op_tensor(g), call->args[DIM], call->args[INDEX]);
    for (int i = 0; i < source->ndim && taken; i++)   // zeros for what was not used
      if (taken->shape[i] != source->shape[i])
        taken = COMPOSE(&c, narrow_gradient, op_tensor(taken), op_int(i), op_int(0),
                        op_int(source->shape[i]));
  }
  compose_keep(&c, cleared, &call->out[INPUT]);
  return compose_close(&c, taken, &call->out[SOURCE]);
}

static moon_status backward_scatter(op_backward_call *call) {
  return backward_put(call, put_elements, take_back_elements, scatter_recorded);
}

// -- counting and marking

// The largest element of an integer tensor, 0 if it has none.
static moon_status largest_label(moon_engine *engine, const moon_tensor *x, int64_t *largest) {
  moon_tensor *wide;
  int64_t low, high;
  if (dtype_class_of(x->dtype) != DTYPE_INTEGER) {   // ops_index_in has the sentence
    *largest = 0;
    return MOON_OK;
  }
  MOON_TRY(ops_new(engine, x, MOON_I64, x->ndim, x->shape, &wide));
  device_array array = tensor_array(wide);
  moon_status status = ops_copy(engine, x, wide);
  if (status == MOON_OK) status = tensor_kernels(x)->index_range(engine, &array, &low, &high);
  tensor_release(wide);
  MOON_TRY(status);
  if (low > high && tensor_count(x) > 0)
    return moon_fail(MOON_BAD_DEVICE, "the largest label decides the shape, and a tensor on the "
                     "device \"%s\" has no elements", tensor_device(x)->name);
  *largest = low > high || high < 0 ? 0 : high;
  return MOON_OK;
}

static moon_status count_labels(op_call *call, const char *limit_name, int64_t *count,
                                moon_tensor **labels) {
  moon_tensor *x = call->args[0].tensor;
  if (call->args[1].given)
    *count = call->args[1].integer;
  else
    MOON_TRY(largest_label(call->engine, x, count));
  if (*count < 0)
    return moon_fail(MOON_BAD_ARGUMENT, "%s must not be negative, got %" PRId64, limit_name,
                     *count);
  return ops_index_in(call->engine, "input", x, *count, labels);
}

static moon_status forward_bincount(op_call *call) {
  moon_tensor *labels;
  int64_t count;
  MOON_TRY(count_labels(call, "n", &count, &labels));
  moon_status status = ops_new(call->engine, labels, MOON_I64, 1, &count, &call->results[0]);
  if (status == MOON_OK) {
    device_array flat = { .data = tensor_data(labels), .dtype = MOON_I64, .ndim = 1,
                          .shape = { tensor_count(labels) }, .strides = { 1 } };
    device_array to = tensor_array(call->results[0]);
    status = tensor_kernels(labels)->bincount(call->engine, &flat, &to);
  }
  tensor_release(labels);
  return status;
}

static moon_status forward_one_hot(op_call *call) {
  moon_tensor *labels, *one = NULL;
  int64_t classes, shape[MOON_MAX_DIMS + 1];
  MOON_TRY(count_labels(call, "classes", &classes, &labels));
  int ndim = labels->ndim;
  memcpy(shape, labels->shape, sizeof labels->shape);
  shape[ndim] = classes;
  moon_status status =
      ops_new_filled(call->engine, labels, MOON_I64, ndim + 1, shape, 0, &call->results[0]);
  if (status == MOON_OK) status = ops_new_filled(call->engine, labels, MOON_I64, 0, NULL, 1, &one);
  if (status == MOON_OK) {
    device_array at = tensor_array(labels), to = tensor_array(call->results[0]);
    at.ndim = ndim + 1;
    at.shape[ndim] = at.strides[ndim] = 1;
    device_array from = array_broadcast(one, at.ndim, at.shape);
    status = tensor_kernels(labels)->scatter(call->engine, ndim, false, &at, &from, &to);
  }
  tensor_release(one);
  tensor_release(labels);
  return status;
}

#define SLICES "(input: Tensor, dim: dim, index: Tensor, source: Tensor) -> out"
#define ELEMENTS "(input: Tensor, dim: dim, index: Tensor, source: Tensor|number) -> out"

static op_descriptor descriptors[] = {
  { .name = "index_select",
    .example = "moon.tensor({5, 6, 7}):index_select(1, moon.tensor({3, 1}, {dtype = "
               "\"int64\"})) --> {7, 5}",
    .saves = "index",
    .schema = "(input: Tensor, dim: dim, index: Tensor) -> out",
    .doc = "The slices of a dimension at the positions in a 1-D index, in its order; a position "
           "may come more than once.",
    .forward = forward_index_select, .backward = backward_index_select },
  { .name = "index_add",
    .example = "moon.zeros(3):index_add(1, moon.tensor({1, 3, 1}, {dtype = \"int64\"}), "
               "moon.ones(3)) --> {2, 0, 1}",
    .schema = SLICES, .flags = OP_INPLACE, .row = ADD, .saves = "index@source",
    .doc = "Adds the slices of source to the slices of input at the positions in a 1-D index; "
           "source has input's shape with the index's length along dim.",
    .forward = forward_index_put, .backward = backward_index_put },
  { .name = "index_copy",
    .example = "moon.zeros(3):index_copy(1, moon.tensor({3}, {dtype = \"int64\"}), "
               "moon.ones(1)) --> {0, 0, 1}",
    .schema = SLICES, .flags = OP_INPLACE, .row = REPLACE, .saves = "index",
    .doc = "Puts the slices of source at the positions in a 1-D index; source has input's shape "
           "with the index's length along dim. A position that comes twice gets the later slice; "
           "the gradient takes positions to be different.",
    .forward = forward_index_put, .backward = backward_index_put },
  { .name = "gather",
    .example = "moon.tensor({{1, 2}, {3, 4}}):gather(2, moon.tensor({{2}, {1}}, {dtype = "
               "\"int64\"})) --> {{2}, {3}}",
    .saves = "index",
    .schema = "(input: Tensor, dim: dim, index: Tensor) -> out",
    .doc = "Picks one element along dim for each element of index, whose shape the result has: "
           "out[i][j] = input[index[i][j]][j] for dim 1, and so on.",
    .forward = forward_gather, .backward = backward_gather },
  { .name = "scatter",
    .example = "moon.zeros(3):scatter(1, moon.tensor({2}, {dtype = \"int64\"}), "
               "moon.ones(1)) --> {0, 1, 0}",
    .schema = ELEMENTS, .flags = OP_INPLACE, .row = REPLACE, .saves = "index",
    .doc = "Puts each element of source (or one number) where index says along dim: "
           "out[index[i][j]][j] = source[i][j] for dim 1, and so on. A place that comes twice gets "
           "the later element; the gradient takes places to be different.",
    .forward = forward_scatter, .backward = backward_scatter },
  { .name = "scatter_add",
    .example = "moon.ones(2):scatter_add(1, moon.tensor({2, 2}, {dtype = \"int64\"}), "
               "moon.ones(2)) --> {1, 3}",
    .schema = ELEMENTS, .flags = OP_INPLACE, .row = ADD,
    .saves = "index@source",
    .doc = "Adds each element of source (or one number) where index says along dim: "
           "out[index[i][j]][j] += source[i][j] for dim 1, and so on.",
    .forward = forward_scatter, .backward = backward_scatter },
  { .name = "bincount",
    .example = "moon.tensor({1, 2, 2}, {dtype = \"int64\"}):bincount() --> {1, 2}",
    .dtypes = OP_INTEGERS, .schema = "(input: Tensor, n: int?) -> out",
    .doc = "How often each of the numbers 1..n is among the elements (int64); n is the largest "
           "element if left out. For confusion matrices: ((truth - 1) * n + guess):bincount(n * "
           "n).",
    .forward = forward_bincount },
  { .name = "one_hot",
    .example = "moon.one_hot(moon.tensor({2, 1}, {dtype = \"int64\"}), 3) --> {{0, 1, 0}, "
               "{1, 0, 0}}",
    .dtypes = OP_INTEGERS, .schema = "(input: Tensor, classes: int?) -> out",
    .doc = "Class labels 1..classes as rows of zeros with a one at the label (int64), in a new "
           "last dimension; classes is the largest label if left out.",
    .forward = forward_one_hot },
};

OP_FAMILY(indexing, descriptors);
