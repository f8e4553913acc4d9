// See step.h.
#include "ops/step.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/target.h"

static moon_status check_tensor(const moon_tensor *parameter, const char *name,
                                const moon_tensor *tensor) {
  char p[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_same_dtype("parameter", parameter, name, tensor));
  if (tensor_same_shape(parameter, tensor)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have the shape of parameter, %s, got %s", name,
                   tensor_shape_text(parameter, p), tensor_shape_text(tensor, t));
}

static moon_status check_state(const moon_tensor *parameter, const char *name,
                               const moon_tensor *state) {
  MOON_TRY(check_tensor(parameter, name, state));
  MOON_TRY(target_check(state));
  bool same = state->storage == parameter->storage && tensor_data(state) == tensor_data(parameter);
  if (!same || tensor_count(state) == 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s must not be the parameter itself", name);
}

moon_status step_check_tensors(const op_call *call, int states) {
  const moon_tensor *parameter = call->args[STEP_PARAMETER].tensor;
  MOON_TRY(ops_need_float("parameter", parameter));
  MOON_TRY(check_tensor(parameter, "gradient", call->args[STEP_GRADIENT].tensor));
  for (int i = STEP_STATE; i < STEP_STATE + states; i++) {
    const moon_tensor *state = call->args[i].tensor;
    if (state) MOON_TRY(check_state(parameter, call->op->signature->params[i].name, state));
  }
  return MOON_OK;
}

static moon_status check_number(const char *name, double value) {
  if (!(value >= 0 && isfinite(value)))
    return moon_fail(MOON_BAD_ARGUMENT, "%s must be a number not below 0, got %g", name, value);
  if (strncmp(name, "beta", 4) == 0 && value >= 1)
    return moon_fail(MOON_BAD_ARGUMENT, "%s must lie in 0..1 without 1, got %g", name, value);
  return MOON_OK;
}

moon_status step_check_numbers(const op_call *call) {
  const op_signature *signature = call->op->signature;
  for (int i = STEP_STATE; i < signature->param_count; i++) {
    const op_param *param = &signature->params[i];
    const op_value *value = &call->args[i];
    if (param->kind == OP_NUMBER) MOON_TRY(check_number(param->name, value->number));
    if (param->kind == OP_INT && value->integer < 1)
      return moon_fail(MOON_BAD_ARGUMENT, "%s counts from 1, got %" PRId64, param->name,
                       value->integer);
  }
  return MOON_OK;
}

// The tensors that a step writes: each as it lies, or through a contiguous copy.
typedef struct written {
  moon_tensor *target, *work;   // both NULL where a state is absent
  device_array array;
} written;

static moon_status open_written(moon_engine *engine, written *one) {
  if (!one->target) return MOON_OK;
  MOON_TRY(ops_contiguous(engine, one->target, &one->work));
  one->array = tensor_array(one->work);
  return MOON_OK;
}

// Writes the copies back and counts the write; after a failure the copies are dropped.
static moon_status close_written(moon_engine *engine, written *all, int count, const char *writer,
                                 moon_status status) {
  for (int i = 0; i < count; i++) {
    moon_tensor *target = all[i].target;
    if (!all[i].work) continue;
    if (status == MOON_OK && tensor_data(all[i].work) != tensor_data(target))
      status = ops_copy(engine, all[i].work, target);
    tensor_touch(target);
    target->storage->last_writer = writer;
    tensor_release(all[i].work);
  }
  return status;
}

moon_status step_apply(op_call *call, int states, const void *options, step_run run) {
  moon_tensor *parameter = call->args[STEP_PARAMETER].tensor, *apart, *gradient;
  written all[STEP_WRITTEN] = { { .target = parameter } };
  const device_array *arrays[STEP_WRITTEN] = { NULL };
  for (int s = 0; s < states; s++) all[1 + s].target = call->args[STEP_STATE + s].tensor;
  MOON_TRY(target_apart(call->engine, call->args[STEP_GRADIENT].tensor, parameter, &apart));
  moon_status status = ops_contiguous(call->engine, apart, &gradient);
  tensor_release(apart);
  MOON_TRY(status);
  for (int i = 0; i <= states && status == MOON_OK; i++) {
    status = open_written(call->engine, &all[i]);
    arrays[i] = all[i].work ? &all[i].array : NULL;
  }
  if (status == MOON_OK) {
    device_array g = tensor_array(gradient);
    status = run(call->engine, options, tensor_kernels(parameter), &g, arrays);
  }
  tensor_release(gradient);
  return close_written(call->engine, all, states + 1, call->op->name, status);
}
