// Looking for NaN and infinity. See anomaly.h.
#include "autograd/anomaly.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/custom.h"
#include "base/alloc.h"

typedef enum anomaly_kind { FINITE, NOT_A_NUMBER, INFINITE } anomaly_kind;

static const char *const kind_names[] = { "finite numbers", "nan", "infinity" };

enum { POSITION_TEXT = 128 };

// "{2, 3}" of an element number in a shape; "" for a 0-d tensor.
static void position_text(const moon_tensor *tensor, int64_t number, char text[POSITION_TEXT]) {
  int64_t at[MOON_MAX_DIMS];
  for (int i = tensor->ndim; i-- > 0; number /= tensor->shape[i])
    at[i] = number % tensor->shape[i] + 1;
  text[0] = 0;
  for (int i = 0; i < tensor->ndim; i++) {
    size_t used = strlen(text);
    snprintf(text + used, POSITION_TEXT - used, "%s%lld%s", i ? ", " : " at {", (long long)at[i],
             i == tensor->ndim - 1 ? "}" : "");
  }
}

static moon_status first_position(moon_engine *engine, const device_array *mask, int64_t count,
                                  const moon_tensor *tensor, char text[POSITION_TEXT]) {
  moon_tensor *positions;
  MOON_TRY(tensor_new(engine, tensor_device(tensor), MOON_I64, 1, &count, &positions));
  device_array array = tensor_array(positions);
  moon_status status = tensor_kernels(tensor)->mask_positions(engine, mask, &count, &array);
  if (status == MOON_OK) position_text(tensor, *(int64_t *)tensor_data(positions), text);
  tensor_release(positions);
  return status;
}

// Whether any element answers to the predicate; if so, and text is wanted, where the first does.
static moon_status look_for(moon_engine *engine, int predicate, const moon_tensor *tensor,
                            bool *found, char *text) {
  moon_tensor *mask;
  int64_t count = 0;
  MOON_TRY(tensor_new(engine, tensor_device(tensor), MOON_BOOL, tensor->ndim, tensor->shape,
                      &mask));
  device_array from = tensor_array(tensor), to = tensor_array(mask);
  const device_kernels *kernels = tensor_kernels(tensor);
  moon_status status = kernels->predicate(engine, predicate, &from, &to);
  if (status == MOON_OK) status = kernels->mask_positions(engine, &to, &count, NULL);
  if (status == MOON_OK && count > 0 && text)
    status = first_position(engine, &to, count, tensor, text);
  tensor_release(mask);
  if (status == MOON_OK) *found = count > 0;
  return status;
}

static moon_status look(moon_engine *engine, const moon_tensor *tensor, anomaly_kind *kind,
                        char *text) {
  bool found = false;
  *kind = FINITE;
  if (!tensor || !dtype_is_float(tensor->dtype)) return MOON_OK;
  MOON_TRY(look_for(engine, PREDICATE_isnan, tensor, &found, text));
  if (found) *kind = NOT_A_NUMBER;
  if (found) return MOON_OK;
  MOON_TRY(look_for(engine, PREDICATE_isinf, tensor, &found, text));
  if (found) *kind = INFINITE;
  return MOON_OK;
}

// -- calls

// What the arguments brought: the worst kind, and the name of the first that has it.
static moon_status look_at_argument(moon_engine *engine, const op_param *param,
                                    const moon_tensor *tensor, anomaly_kind wanted, bool *brought,
                                    const char **name) {
  anomaly_kind kind;
  if (*brought) return MOON_OK;
  MOON_TRY(look(engine, tensor, &kind, NULL));
  if (kind != wanted) return MOON_OK;
  *brought = true;
  *name = param->name;
  return MOON_OK;
}

static moon_status look_at_arguments(const op_call *call, anomaly_kind wanted, bool *brought,
                                     const char **name) {
  const op_signature *s = call->op->signature;
  for (int i = 0; i < s->param_count; i++) {
    const op_param *param = &s->params[i];
    const op_value *value = &call->args[i];
    if (!value->given) continue;
    if (param->kind == OP_TENSOR || param->kind == OP_SCALAR_OR_TENSOR) {
      if (i == 0 && call->inplace) continue;   // holds the result by now
      MOON_TRY(look_at_argument(call->engine, param, value->tensor, wanted, brought, name));
    } else if (param->kind == OP_TENSORS) {
      for (int k = 0; k < value->tensors.count; k++)
        MOON_TRY(look_at_argument(call->engine, param, value->tensors.list[k], wanted, brought,
                                  name));
    } else if (param->kind == OP_NUMBER && wanted == INFINITE && isinf(value->number)) {
      *brought = true;
    } else if (param->kind == OP_NUMBER && wanted == NOT_A_NUMBER && isnan(value->number)) {
      *brought = true;
      *name = param->name;
    }
  }
  return MOON_OK;
}

static moon_status check_result(const op_call *call, const moon_tensor *result) {
  char text[POSITION_TEXT] = "";
  anomaly_kind kind;
  bool brought = false;
  const char *name = NULL;
  MOON_TRY(look(call->engine, result, &kind, text));
  if (kind == FINITE) return MOON_OK;
  MOON_TRY(look_at_arguments(call, kind, &brought, &name));
  if (kind == INFINITE && brought) return MOON_OK;
  if (brought)
    return moon_fail(MOON_BAD_STATE, "the result has nan%s, and %s had nan before the call "
                     "(anomaly mode)", text, name);
  return moon_fail(MOON_BAD_STATE, "the result has %s%s (anomaly mode)", kind_names[kind], text);
}

static bool takes_tensors(const op_call *call) {
  const op_signature *s = call->op->signature;
  for (int i = 0; i < s->param_count; i++) {
    op_kind kind = s->params[i].kind;
    if (kind == OP_TENSOR || kind == OP_TENSORS || kind == OP_SCALAR_OR_TENSOR) return true;
  }
  return false;
}

// What is made of nothing, or of a shape alone, is not looked at: empty memory holds anything.
moon_status anomaly_check_call(const op_call *call) {
  if ((call->op->flags & OP_CONSTANT) || !takes_tensors(call)) return MOON_OK;
  for (int i = 0; i < call->op->signature->visible_results; i++)
    MOON_TRY(check_result(call, call->results[i]));
  for (int i = 0; i < call->list_count; i++) MOON_TRY(check_result(call, call->list[i]));
  return MOON_OK;
}

// -- gradients

static const char *input_name(const tape_node *node, int i) {
  const op_signature *s = node->op->signature;
  return s->params[i < s->param_count ? i : s->list_param].name;
}

static moon_status blame(const tape_node *node, int i, anomaly_kind kind, const char *text) {
  return moon_fail(MOON_BAD_STATE, "backward of %s: the gradient of %s has %s%s%s%s (anomaly mode)",
                   node_name(node), input_name(node, i), kind_names[kind], text,
                   node->where ? "; the call was at " : "", node->where ? node->where : "");
}

moon_status anomaly_check_backward(moon_engine *engine, const tape_node *node, moon_tensor **out) {
  bool brought = false;
  for (int i = 0; i < node->input_count; i++) {
    char text[POSITION_TEXT] = "";
    anomaly_kind kind, before;
    MOON_TRY(look(engine, out[i], &kind, text));
    if (kind == FINITE) continue;
    for (int k = 0; kind == INFINITE && k < node->result_count; k++) {
      MOON_TRY(look(engine, node->grads[k], &before, NULL));
      brought |= before == INFINITE;
    }
    if (!brought) return blame(node, i, kind, text);
  }
  return MOON_OK;
}

moon_status anomaly_check_gradient(moon_engine *engine, const moon_tensor *gradient,
                                   const char *giver) {
  char text[POSITION_TEXT] = "";
  anomaly_kind kind;
  MOON_TRY(look(engine, gradient, &kind, text));
  if (kind == FINITE) return MOON_OK;
  return moon_fail(MOON_BAD_STATE, "the gradient that %s gave has %s%s (anomaly mode)", giver,
                   kind_names[kind], text);
}

moon_status anomaly_where(moon_engine *engine, char **where) {
  char text[256] = "", *copy;
  *where = NULL;
  if (engine->where) engine->where(engine->collect_context, text, sizeof text);
  if (!text[0]) return MOON_OK;
  size_t size = strlen(text) + 1;
  MOON_TRY(alloc_new(size, (void **)&copy));
  memcpy(copy, text, size);
  *where = copy;
  return MOON_OK;
}
