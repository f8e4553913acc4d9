// See step.h.
#include "ops/step.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/target.h"

static int count_of(const op_call *call) { return call->args[STEP_PARAMETER].tensors.count; }

// NULL where an optional list was left out.
static moon_tensor *member(const op_call *call, int argument, int i) {
  return call->args[argument].given ? call->args[argument].tensors.list[i] : NULL;
}

// -- checks

enum { LABEL = 40 };

// "gradient", or "gradient 3" where there are several.
static const char *label(const op_call *call, int argument, int i, char text[LABEL]) {
  const char *name = call->op->signature->params[argument].name;
  if (count_of(call) > 1) snprintf(text, LABEL, "%s %d", name, i + 1);
  else snprintf(text, LABEL, "%s", name);
  return text;
}

static moon_status check_like_parameter(const op_call *call, int argument, int i) {
  char own[LABEL], its[LABEL], p[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  const moon_tensor *parameter = member(call, STEP_PARAMETER, i);
  const moon_tensor *tensor = member(call, argument, i);
  if (parameter->dtype == tensor->dtype && tensor_same_shape(parameter, tensor)) return MOON_OK;
  label(call, argument, i, own);   // only now: writing them takes longer than all checks
  label(call, STEP_PARAMETER, i, its);
  MOON_TRY(ops_need_same_dtype(its, parameter, own, tensor));
  return moon_fail(MOON_BAD_SHAPE, "%s must have the shape of %s, %s, got %s", own, its,
                   tensor_shape_text(parameter, p), tensor_shape_text(tensor, t));
}

static moon_status check_state(const op_call *call, int argument, int i) {
  char text[LABEL];
  const moon_tensor *parameter = member(call, STEP_PARAMETER, i);
  const moon_tensor *state = member(call, argument, i);
  MOON_TRY(check_like_parameter(call, argument, i));
  MOON_TRY(target_check(state));
  bool same = state->storage == parameter->storage && tensor_data(state) == tensor_data(parameter);
  if (!same || tensor_count(state) == 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s must not be the parameter itself",
                   label(call, argument, i, text));
}

static moon_status check_counts(const op_call *call, int states) {
  for (int k = STEP_GRADIENT; k < STEP_STATE + states; k++) {
    int count = call->args[k].tensors.count;
    if (call->args[k].given && count != count_of(call))
      return moon_fail(MOON_BAD_SHAPE, "%s must be a list as long as parameter, %d, got %d",
                       call->op->signature->params[k].name, count_of(call), count);
  }
  return MOON_OK;
}

moon_status step_check_tensors(const op_call *call, int states) {
  char text[LABEL];
  MOON_TRY(check_counts(call, states));
  for (int i = 0; i < count_of(call); i++) {
    const moon_tensor *parameter = member(call, STEP_PARAMETER, i);
    if (!dtype_is_float(parameter->dtype))
      return ops_need_float(label(call, STEP_PARAMETER, i, text), parameter);
    MOON_TRY(check_like_parameter(call, STEP_GRADIENT, i));
    for (int k = STEP_STATE; k < STEP_STATE + states; k++)
      if (call->args[k].given) MOON_TRY(check_state(call, k, i));
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

// -- the sweep

// One parameter with its states (all of them written) and its gradient, as the kernel gets them:
// the tensors themselves, retained, or copies.
typedef struct moved {
  moon_tensor *parameter, *states[STEP_STATES], *gradient;
} moved;

static bool same_layout(const moon_tensor *a, const moon_tensor *b) {
  for (int i = 0; i < a->ndim; i++)
    if (a->shape[i] > 1 && a->strides[i] != b->strides[i]) return false;
  return true;
}

// `tensor`, or a copy of it in the layout of `parameter`, which has no gaps.
static moon_status lay_like(moon_engine *engine, const moon_tensor *parameter, moon_tensor *tensor,
                            moon_tensor **laid) {
  if (same_layout(parameter, tensor)) {
    *laid = tensor_retain(tensor);
    return MOON_OK;
  }
  moon_tensor *copy;
  MOON_TRY(tensor_new_like(engine, parameter, &copy));
  moon_status status = ops_copy(engine, tensor, copy);
  if (status == MOON_OK) *laid = copy;
  else tensor_release(copy);
  return status;
}

static moon_status open_moved(op_call *call, int states, int i, moved *one, step_item *item) {
  moon_tensor *parameter = member(call, STEP_PARAMETER, i), *apart;
  if (tensor_is_dense(parameter)) one->parameter = tensor_retain(parameter);
  else MOON_TRY(ops_contiguous(call->engine, parameter, &one->parameter));
  *item = (step_item){ .count = tensor_count(parameter),
                       .parameter = tensor_data(one->parameter) };
  for (int s = 0; s < states; s++) {
    moon_tensor *state = member(call, STEP_STATE + s, i);
    if (!state) continue;
    MOON_TRY(lay_like(call->engine, one->parameter, state, &one->states[s]));
    item->states[s] = tensor_data(one->states[s]);
  }
  MOON_TRY(target_apart(call->engine, member(call, STEP_GRADIENT, i), parameter, &apart));
  moon_status status = lay_like(call->engine, one->parameter, apart, &one->gradient);
  tensor_release(apart);
  if (status == MOON_OK) item->gradient = tensor_data(one->gradient);
  return status;
}

// Writes a copy back and counts the write.
static moon_status close_written(op_call *call, moon_tensor *target, moon_tensor *work,
                                 moon_status status) {
  if (!work) return status;
  if (status == MOON_OK && work != target) status = ops_copy(call->engine, work, target);
  tensor_touch(target);
  target->storage->last_writer = call->op->name;
  tensor_release(work);
  return status;
}

static moon_status close_moved(op_call *call, int states, int i, moved *one, moon_status status) {
  status = close_written(call, member(call, STEP_PARAMETER, i), one->parameter, status);
  for (int s = 0; s < states; s++)
    status = close_written(call, member(call, STEP_STATE + s, i), one->states[s], status);
  tensor_release(one->gradient);
  return status;
}

// Neighbours of one type go to the kernel together.
static moon_status run_items(op_call *call, int rule, const step_options *options,
                             const step_item *items) {
  int count = count_of(call);
  for (int first = 0, end; first < count; first = end) {
    const moon_tensor *parameter = member(call, STEP_PARAMETER, first);
    for (end = first + 1; end < count; end++)
      if (member(call, STEP_PARAMETER, end)->dtype != parameter->dtype) break;
    MOON_TRY(tensor_kernels(parameter)->step(call->engine, rule, options, parameter->dtype,
                                             end - first, items + first));
  }
  return MOON_OK;
}

moon_status step_apply(op_call *call, int states, int rule, const step_options *options) {
  size_t count = (size_t)count_of(call);
  moved *all;
  MOON_TRY(alloc_new(count * (sizeof *all + sizeof(step_item)), (void **)&all));
  step_item *items = (step_item *)(all + count);
  moon_status status = MOON_OK;
  for (int i = 0; i < count_of(call) && status == MOON_OK; i++)
    status = open_moved(call, states, i, &all[i], &items[i]);
  if (status == MOON_OK) status = run_items(call, rule, options, items);
  for (int i = 0; i < count_of(call); i++)
    status = close_moved(call, states, i, &all[i], status);
  alloc_delete(all);
  return status;
}
