// The one path every operator call takes: check devices, run forward with the tape off, leave a
// node on the tape where a gradient will be wanted.
#include <string.h>

#include "autograd/anomaly.h"
#include "autograd/autocast.h"
#include "autograd/node.h"
#include "autograd/op.h"
#include "autograd/profile.h"
#include "autograd/tape.h"
#include "base/alloc.h"

op_value op_ints(int count, const int64_t *v) {
  op_value value = { .given = true };
  value.ints.count = count;
  value.ints.word = OP_PADS_NUMBERS;
  if (count > 0) memcpy(value.ints.v, v, (size_t)count * sizeof *v);
  return value;
}

static bool is_tensor_kind(op_kind kind) {
  return kind == OP_TENSOR || kind == OP_SCALAR_OR_TENSOR;
}

// What the tensors of a call have in common.
typedef struct call_survey {
  const moon_tensor *first;
  bool host_tables;            // may the others lie on the host?
  bool needs[OP_MAX_PARAMS];
  bool *list_needs;
  int list_count;
  bool any_needs;
} call_survey;

static moon_status survey_tensor(call_survey *survey, moon_engine *engine, moon_tensor *tensor,
                                 bool *needs) {
  *needs = false;
  if (!tensor) return MOON_OK;
  if (!survey->first) survey->first = tensor;
  if (tensor_device(tensor) != tensor_device(survey->first) &&
      !(survey->host_tables && tensor_device(tensor)->on_host))
    return moon_fail(MOON_BAD_DEVICE, "tensors must be on one device, got %s and %s; move one "
                     "with :to",
                     tensor_device(survey->first)->name, tensor_device(tensor)->name);
  if (!engine->grad_enabled) {
    engine->touched |= record_wants_grad(tensor);
    return MOON_OK;
  }
  if (tensor->is_view && tensor->taped_version !=
      atomic_load_explicit(&tensor->storage->taped_version, memory_order_relaxed))
    return moon_fail(MOON_BAD_STATE, "this view was taken before %s_ changed its base in place on "
                     "the tape; take the view again afterwards",
                     tensor->storage->last_writer ? tensor->storage->last_writer : "an operator");
  if (!record_wants_grad(tensor)) return MOON_OK;
  const tape_node *node = record_of(tensor)->node;
  if (node && node->engine_id != engine->id)
    return moon_fail(MOON_BAD_STATE, "a tape does not cross Lua states: this tensor was made by %s "
                     "in another one; use detach() before handing it over", node_name(node));
  *needs = survey->any_needs = true;
  return MOON_OK;
}

// What the members of the list that the tape follows need is kept for it.
static moon_status survey_list(call_survey *survey, moon_engine *engine, const op_value *value,
                               bool followed) {
  int count = value->tensors.count;
  bool needs;
  if (count == 0) return MOON_OK;
  if (followed) {
    survey->list_count = count;
    MOON_TRY(alloc_new((size_t)count, (void **)&survey->list_needs));
  }
  for (int k = 0; k < count; k++)
    MOON_TRY(survey_tensor(survey, engine, value->tensors.list[k],
                           followed ? &survey->list_needs[k] : &needs));
  return MOON_OK;
}

static moon_status survey_call(call_survey *survey, moon_engine *engine, const op_signature *s,
                               const op_value *args) {
  for (int i = 0; i < s->param_count; i++) {
    if (is_tensor_kind(s->params[i].kind)) {
      MOON_TRY(survey_tensor(survey, engine, args[i].tensor, &survey->needs[i]));
    } else if (s->params[i].kind == OP_TENSORS && args[i].given) {
      MOON_TRY(survey_list(survey, engine, &args[i], i == s->list_param));
    }
  }
  return MOON_OK;
}

static void release_results(op_call *call) {
  for (int i = 0; i < OP_MAX_RESULTS; i++) {
    tensor_release(call->results[i]);
    call->results[i] = NULL;
  }
  for (int i = 0; i < call->list_count; i++) tensor_release(call->list[i]);
  alloc_delete(call->list);
  call->list = NULL;
  call->list_count = 0;
}

static moon_status record_call(op_call *call, const call_survey *survey) {
  const op_signature *s = call->op->signature;
  tape_node *node;
  MOON_TRY(node_new(call, survey->needs, survey->list_needs, survey->list_count, &node));
  moon_status status = MOON_OK;
  moon_tensor *target = call->inplace ? call->args[0].tensor : NULL;
  for (int i = 0; i < s->visible_results && status == MOON_OK; i++) {
    moon_tensor *result = i == 0 && target ? target : call->results[i];
    if (result && dtype_is_float(result->dtype)) status = node_attach(node, i, result);
  }
  node_made(node);
  return status;
}

static moon_status refuse_gradient(const op_call *call) {
  bool floats = call->inplace && !call->results[0];   // written lists have no results
  for (int i = 0; i < call->op->signature->visible_results; i++)
    floats |= call->results[i] && dtype_is_float(call->results[i]->dtype);
  if (!floats) return MOON_OK;
  return moon_fail(MOON_UNSUPPORTED, "no gradient is defined; call it on detach()ed tensors or "
                   "inside moon.no_grad");
}

static void mark_views(op_call *call) {
  for (int i = 0; i < call->op->signature->result_count; i++) {
    moon_tensor *view = call->results[i];
    if (!view || view->storage->data == NULL) continue;
    view->is_view = view->storage == call->args[0].tensor->storage;
    view->taped_version =
        atomic_load_explicit(&view->storage->taped_version, memory_order_relaxed);
  }
}

static moon_status run_forward(op_call *call, const call_survey *survey) {
  op_descriptor *op = call->op;
  bool enabled = call->engine->grad_enabled;
  call->recording = survey->any_needs;
  if (!(op->flags & OP_COMPOSITE)) call->engine->grad_enabled = false;
  moon_status status = op->forward(call);
  call->engine->grad_enabled = enabled;
  if (status == MOON_OK && (op->flags & OP_VIEW)) mark_views(call);
  if (status != MOON_OK || !survey->any_needs || (op->flags & OP_COMPOSITE)) return status;
  return op->backward ? record_call(call, survey) : refuse_gradient(call);
}

static const char *called_name(const op_call *call) {
  return call->inplace ? call->op->signature->inplace_name : call->op->name;
}

// Profilers are told. In anomaly mode what the call gave is looked through, what it is made of is
// not.
static moon_status run_observed(op_call *call, const call_survey *survey) {
  bool watched = engine_observe_results(call->engine, false);
  bool ranged = engine_begin_range(call->engine, called_name(call));
  int64_t event = profile_open(call->engine, PROFILE_CALL, called_name(call));
  moon_status status = run_forward(call, survey);
  profile_close_call(event, call);
  engine_end_range(call->engine, ranged);
  if (status == MOON_OK && watched) status = anomaly_check_call(call);
  engine_observe_results(call->engine, watched);
  return status;
}

static moon_status apply_as_given(op_call *call) {
  call_survey survey = { .host_tables = (call->op->flags & OP_HOST_TABLES) != 0 };
  moon_status status = engine_check_interrupt(call->engine);
  if (status == MOON_OK)
    status = survey_call(&survey, call->engine, call->op->signature, call->args);
  if (status == MOON_OK)
    status = call->engine->observers ? run_observed(call, &survey) : run_forward(call, &survey);
  alloc_delete(survey.list_needs);
  if (status == MOON_OK) return MOON_OK;
  release_results(call);
  // a hidden operator speaks for the one that calls it
  if ((call->op->flags & (OP_HIDDEN | OP_MUTATES)) == OP_HIDDEN) return status;
  return moon_fail_in(status, "%s: ", called_name(call));
}

static moon_status apply_cast(op_call *call) {
  autocast_call cast;
  op_value *given = call->args;
  moon_status status = autocast_open(call->engine, call->op, given, &cast);
  call->args = cast.args;
  if (status == MOON_OK) status = apply_as_given(call);
  call->args = given;
  autocast_close(&cast);
  return status;
}

static moon_status apply(op_call *call) {
  return call->engine->autocast && !call->inplace ? apply_cast(call) : apply_as_given(call);
}

moon_status op_apply(moon_engine *engine, op_descriptor *op, op_value *args,
                     moon_tensor **results) {
  op_call call = { .engine = engine, .op = op, .args = args };
  MOON_TRY(apply(&call));
  for (int i = 0; i < op->signature->result_count; i++) results[i] = call.results[i];
  return MOON_OK;
}

moon_status op_apply_list(moon_engine *engine, op_descriptor *op, op_value *args,
                          moon_tensor ***list, int *count) {
  op_call call = { .engine = engine, .op = op, .args = args };
  MOON_TRY(apply(&call));
  *list = call.list;
  *count = call.list_count;
  return MOON_OK;
}

// Whether elements share memory: a dimension's stride must step over all that lies inside of it.
static bool overlaps_itself(const moon_tensor *t) {
  int order[MOON_MAX_DIMS], count = 0;
  int64_t inside = 0;
  if (tensor_is_contiguous(t)) return false;
  for (int i = 0; i < t->ndim; i++) {
    if (t->shape[i] == 0) return false;
    if (t->shape[i] == 1) continue;
    int at = count++;
    for (; at > 0 && t->strides[order[at - 1]] > t->strides[i]; at--) order[at] = order[at - 1];
    order[at] = i;
  }
  for (int k = 0; k < count; k++) {
    if (t->strides[order[k]] <= inside) return true;
    inside += t->strides[order[k]] * (t->shape[order[k]] - 1);
  }
  return false;
}

static bool any_taped(const op_signature *s, const op_value *args) {
  bool taped = false;
  for (int i = 0; i < s->param_count; i++) {
    if (is_tensor_kind(s->params[i].kind))
      taped |= args[i].tensor && record_wants_grad(args[i].tensor);
    else if (s->params[i].kind == OP_TENSORS && args[i].given)
      for (int k = 0; k < args[i].tensors.count; k++)
        taped |= record_wants_grad(args[i].tensors.list[k]);
  }
  return taped;
}

// A recorded write must be one the tape can follow.
static moon_status check_target(const moon_tensor *target, bool recorded) {
  if (overlaps_itself(target))
    return moon_fail(MOON_BAD_STATE, "an expanded tensor shares elements and cannot be changed in "
                     "place, nor can overlapping windows; use clone() first");
  if (!recorded) return MOON_OK;
  if (record_wants_grad(target) && tape_is_leaf(target))
    return moon_fail(MOON_BAD_STATE, "a leaf that requires a gradient cannot be changed in place; "
                     "do it inside moon.no_grad, or on a copy");
  if (target->is_view)
    return moon_fail(MOON_BAD_STATE, "a view cannot be changed in place while the tape records; "
                     "assign through its base, or work on a copy");
  return MOON_OK;
}

// A write counts also after a failure: part of it may have been done.
static void note_write(moon_tensor *target, const char *writer) {
  tensor_touch(target);
  target->storage->last_writer = writer;
}

static moon_status apply_to_list(op_call *call) {
  const op_value *targets = &call->args[0];
  moon_status status = apply(call);
  for (int k = 0; k < targets->tensors.count; k++)
    note_write(targets->tensors.list[k], call->op->name);
  return status;
}

static moon_status apply_to_one(op_call *call) {
  moon_tensor *target = call->args[0].tensor;
  MOON_TRY(tensor_alias(target, &call->results[0]));
  const tape_node *before = target->meta ? record_of(target)->node : NULL;
  moon_status status = apply(call);
  release_results(call);
  note_write(target, call->op->name);
  if (status == MOON_OK && target->meta && record_of(target)->node != before)
    atomic_fetch_add_explicit(&target->storage->taped_version, 1, memory_order_relaxed);
  return status;
}

moon_status op_apply_inplace(moon_engine *engine, op_descriptor *op, op_value *args) {
  op_call call = { .engine = engine, .op = op, .args = args, .inplace = true };
  bool listed = op->signature->params[0].kind == OP_TENSORS;
  bool recorded = engine->grad_enabled && any_taped(op->signature, args);
  moon_tensor **targets = listed ? args[0].tensors.list : &args[0].tensor;
  int count = listed ? args[0].tensors.count : 1;
  for (int k = 0; k < count; k++) {
    moon_status status = check_target(targets[k], recorded);
    if (status != MOON_OK) return moon_fail_in(status, "%s: ", op->signature->inplace_name);
  }
  return listed ? apply_to_list(&call) : apply_to_one(&call);
}

moon_status op_run(moon_engine *engine, op_descriptor *op, moon_tensor **result, int count,
                   const op_value *args) {
  op_value all[OP_MAX_PARAMS];
  moon_tensor *results[OP_MAX_RESULTS] = { 0 };
  const op_signature *s = op->signature;
  for (int i = 0; i < s->param_count; i++)
    all[i] = i < count                   ? args[i]
             : s->params[i].has_default ? s->params[i].default_value
                                        : op_none();
  MOON_TRY(op_apply(engine, op, all, results));
  *result = results[0];
  for (int i = 1; i < s->result_count; i++) tensor_release(results[i]);
  return MOON_OK;
}
