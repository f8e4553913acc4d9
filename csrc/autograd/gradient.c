// Arithmetic on gradients. See gradient.h.
#include "autograd/gradient.h"

#include <string.h>

#include "autograd/tape.h"
#include "tensor/shape.h"

// Set once, before the first walk, by the registry of operators; read only afterwards.
static tape_arithmetic arithmetic;

void tape_use_arithmetic(const tape_arithmetic *operators) { arithmetic = *operators; }

static bool owned_alone(moon_tensor *t) {
  return atomic_load(&t->references) == 1 && atomic_load(&t->storage->references) == 1 &&
         !t->storage->release;
}

// Whether another gradient may be added in where it lies: no element may stand for several. A slice
// of channels does; so the gradients of all layers of a dense block meet in one array.
static bool takes_more(moon_tensor *t) {
  return owned_alone(t) && (tensor_is_contiguous(t) || tensor_is_channels_last(t));
}

// Anomaly mode still wants to see what came in.
moon_tensor *op_take_gradient(op_backward_call *call) {
  moon_tensor *grad = call->grads[0];
  bool searched = call->engine->observers & OBSERVE_FINITE;
  if (call->engine->grad_enabled || searched || !takes_more(grad)) return NULL;
  call->grads[0] = NULL;
  return grad;
}

static void replace(moon_tensor **grad, moon_tensor *by) {
  tensor_release(*grad);
  *grad = by;
}

// In the same layout, so that what is added in has it too.
static moon_status grad_copy(moon_engine *engine, moon_dtype dtype, moon_tensor **grad) {
  moon_tensor *copy;
  MOON_TRY(tensor_new_as(engine, *grad, tensor_device(*grad), dtype, (*grad)->shape, &copy));
  device_array from = tensor_array(*grad), to = tensor_array(copy);
  moon_status status = tensor_kernels(*grad)->copy(engine, &from, &to);
  if (status != MOON_OK) {
    tensor_release(copy);
    return status;
  }
  replace(grad, copy);
  return MOON_OK;
}

// -- summing to a shape

// The gradient's shape with 1 where it is to be summed; fails where the input's shape is no such.
static moon_status sum_shape(const op_input *input, const moon_tensor *g, int64_t *shape) {
  int missing = g->ndim - input->ndim;
  for (int i = 0; i < g->ndim && missing >= 0; i++) {
    shape[i] = i < missing ? 1 : input->shape[i - missing];
    if (shape[i] != 1 && shape[i] != g->shape[i]) missing = -1;
  }
  if (missing >= 0) return MOON_OK;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  return moon_fail(MOON_BAD_SHAPE, "a gradient of %s does not fit an input of %s",
                   tensor_shape_text(g, a), shape_text(input->ndim, input->shape, b));
}

static moon_status sum_straight(moon_engine *engine, const op_input *input, const int64_t *shape,
                                moon_tensor **grad) {
  moon_tensor *g = *grad, *sum, *shaped;
  int64_t strides[MOON_MAX_DIMS];
  MOON_TRY(tensor_new(engine, tensor_device(g), g->dtype, g->ndim, shape, &sum));
  device_array from = tensor_array(g), to = tensor_array(sum);
  moon_status status = tensor_kernels(g)->reduce(engine, REDUCE_SUM, &from, &to);
  shape_contiguous_strides(input->ndim, input->shape, strides);
  if (status == MOON_OK)
    status = tensor_new_view(sum, input->ndim, input->shape, strides, 0, &shaped);
  tensor_release(sum);
  MOON_TRY(status);
  replace(grad, shaped);
  return MOON_OK;
}

static moon_status sum_recorded(moon_engine *engine, const op_input *input, const int64_t *shape,
                                moon_tensor **grad) {
  moon_tensor *g = *grad, *sum = g, *shaped;
  int64_t dims[MOON_MAX_DIMS];
  int count = 0;
  for (int i = 0; i < g->ndim; i++)
    if (shape[i] != g->shape[i]) dims[count++] = i;
  if (count > 0)
    MOON_TRY(OP_RUN(engine, arithmetic.sum, &sum, op_tensor(g), op_ints(count, dims),
                    op_bool(true)));
  moon_status status = OP_RUN(engine, arithmetic.reshape, &shaped, op_tensor(sum),
                              op_ints(input->ndim, input->shape));
  if (sum != g) tensor_release(sum);
  MOON_TRY(status);
  replace(grad, shaped);
  return MOON_OK;
}

static moon_status grad_sum_to(moon_engine *engine, const op_input *input, moon_tensor **grad) {
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(sum_shape(input, *grad, shape));
  return engine->grad_enabled ? sum_recorded(engine, input, shape, grad)
                              : sum_straight(engine, input, shape, grad);
}

static moon_status grad_cast(moon_engine *engine, moon_dtype dtype, moon_tensor **grad) {
  moon_tensor *cast;
  if (!engine->grad_enabled) return grad_copy(engine, dtype, grad);
  MOON_TRY(OP_RUN(engine, arithmetic.cast, &cast, op_tensor(*grad), op_dtype(dtype)));
  replace(grad, cast);
  return MOON_OK;
}

moon_status gradient_fit(moon_engine *engine, const op_input *input, moon_tensor **grad) {
  if ((*grad)->ndim != input->ndim ||
      memcmp((*grad)->shape, input->shape, (size_t)input->ndim * sizeof *input->shape) != 0)
    MOON_TRY(grad_sum_to(engine, input, grad));
  if ((*grad)->dtype != input->dtype) MOON_TRY(grad_cast(engine, input->dtype, grad));
  return MOON_OK;
}

// -- adding up

static moon_status add_into(moon_engine *engine, moon_tensor *sum, moon_tensor *grad) {
  device_array a = tensor_array(sum), b = tensor_array(grad);
  return tensor_kernels(sum)->binary(engine, BINARY_add, (double[2]){ 0, 0 }, &a, &b, &a);
}

static moon_status add_recorded(moon_engine *engine, moon_tensor **slot, moon_tensor *grad) {
  moon_tensor *sum;
  moon_status status = OP_RUN(engine, arithmetic.add, &sum, op_tensor(*slot), op_tensor(grad));
  tensor_release(grad);
  MOON_TRY(status);
  replace(slot, sum);
  return MOON_OK;
}

moon_status gradient_gather(moon_engine *engine, moon_tensor **slot, moon_tensor *grad) {
  if (!*slot) {
    *slot = grad;
    return MOON_OK;
  }
  if (engine->grad_enabled) return add_recorded(engine, slot, grad);
  moon_status status = takes_more(*slot) ? MOON_OK : grad_copy(engine, (*slot)->dtype, slot);
  if (status == MOON_OK) status = add_into(engine, *slot, grad);
  tensor_release(grad);
  return status;
}

static moon_status gather_recorded(moon_engine *engine, moon_tensor **slot, moon_tensor *grad) {
  if (*slot) return add_recorded(engine, slot, grad);
  if (atomic_load(&grad->storage->references) == 1) {
    *slot = grad;
    return MOON_OK;
  }
  moon_status status = OP_RUN(engine, arithmetic.clone, slot, op_tensor(grad));
  tensor_release(grad);
  return status;
}

moon_status gradient_gather_shared(moon_engine *engine, moon_tensor **slot, moon_tensor *grad) {
  moon_status status = MOON_OK;
  if (engine->grad_enabled) return gather_recorded(engine, slot, grad);
  if (*slot) {
    status = add_into(engine, *slot, grad);
    tensor_touch(*slot);
    tensor_release(grad);
    return status;
  }
  if (!owned_alone(grad) || !tensor_is_dense(grad)) status = grad_copy(engine, grad->dtype, &grad);
  if (status == MOON_OK) *slot = grad;
  else tensor_release(grad);
  return status;
}
