// Casting the arguments of a call. See autocast.h.
#include "autograd/autocast.h"

#include <string.h>

#include "base/alloc.h"

static bool is_tensor(op_kind kind) { return kind == OP_TENSOR || kind == OP_SCALAR_OR_TENSOR; }

static bool is_float(const moon_tensor *t) { return t && dtype_is_float(t->dtype); }

// Masks and indices have no say.
static const moon_tensor *first_float(const op_signature *s, const op_value *args) {
  for (int i = 0; i < s->param_count; i++) {
    if (is_tensor(s->params[i].kind) && is_float(args[i].tensor)) return args[i].tensor;
    if (s->params[i].kind != OP_TENSORS) continue;
    for (int k = 0; k < args[i].tensors.count; k++)
      if (is_float(args[i].tensors.list[k])) return args[i].tensors.list[k];
  }
  return NULL;
}

// Only float32 and the low type change into one another.
static bool changes(const op_autocast *a, const moon_tensor *t, moon_dtype wanted) {
  return t && t->dtype != wanted && (t->dtype == MOON_F32 || t->dtype == a->dtype) &&
         (wanted == MOON_F32 || wanted == a->dtype);
}

static moon_dtype wanted_dtype(const op_autocast *a, const op_descriptor *op,
                               const moon_tensor *first) {
  if (op->casts == OP_CASTS_LOW) return a->dtype;
  return op->casts == OP_CASTS_FULL ? MOON_F32 : first->dtype;
}

static moon_status cast(moon_engine *engine, moon_tensor *t, moon_dtype dtype,
                        moon_tensor **result) {
  return OP_RUN(engine, engine->autocast->cast, result, op_tensor(t), op_dtype(dtype));
}

static moon_status cast_list(moon_engine *engine, moon_dtype wanted, op_value *arg,
                             autocast_call *call) {
  bool any = false;
  for (int i = 0; i < arg->tensors.count; i++)
    any = any || changes(engine->autocast, arg->tensors.list[i], wanted);
  if (!any) return MOON_OK;
  void *list;
  MOON_TRY(alloc_new((size_t)arg->tensors.count * sizeof *call->list, &list));
  call->list = list;
  for (int i = 0; i < arg->tensors.count; i++) {
    moon_tensor *t = arg->tensors.list[i];
    if (changes(engine->autocast, t, wanted)) MOON_TRY(cast(engine, t, wanted, &call->list[i]));
    else call->list[i] = tensor_retain(t);
    call->list_count++;
  }
  arg->tensors.list = call->list;
  return MOON_OK;
}

moon_status autocast_open(moon_engine *engine, const op_descriptor *op, const op_value *args,
                          autocast_call *call) {
  const op_signature *s = op->signature;
  const moon_tensor *first = first_float(s, args);
  memcpy(call->args, args, (size_t)s->param_count * sizeof *args);
  memset(call->held, 0, sizeof call->held);
  call->list = NULL;
  call->list_count = 0;
  if (!first) return MOON_OK;
  moon_dtype wanted = wanted_dtype(engine->autocast, op, first);
  for (int i = 0; i < s->param_count; i++) {
    const op_param *param = &s->params[i];
    if (op->stays && strstr(op->stays, param->name)) continue;
    if (param->kind == OP_TENSORS) {
      MOON_TRY(cast_list(engine, wanted, &call->args[i], call));
    } else if (is_tensor(param->kind) && changes(engine->autocast, args[i].tensor, wanted)) {
      MOON_TRY(cast(engine, args[i].tensor, wanted, &call->held[i]));
      call->args[i].tensor = call->held[i];
    }
  }
  return MOON_OK;
}

void autocast_close(autocast_call *call) {
  for (int i = 0; i < OP_MAX_PARAMS; i++) tensor_release(call->held[i]);
  for (int i = 0; i < call->list_count; i++) tensor_release(call->list[i]);
  alloc_delete(call->list);
}
