// The turn of one node in a walk: its backward is called with what it saved.
//
// Where the gradient is to be differentiated again, the saved tensors are handed over as aliases
// that stand where the originals stood on the tape: an input's on the edge it came by, a result's
// on the node itself. The aliases live for the call only, since a node that held a result of its
// own would hold itself.
#include <string.h>

#include "autograd/custom.h"
#include "autograd/node.h"
#include "base/alloc.h"

// -- versions

static moon_status check_version(const tape_node *node, const moon_tensor *saved,
                                 uint_fast32_t version, const char *name) {
  if (!saved || atomic_load(&saved->storage->version) == version) return MOON_OK;
  const char *writer = saved->storage->last_writer;
  return moon_fail(MOON_BAD_STATE, "backward: %s needs its %s, but %s%s changed it in place after "
                   "the call; work on a copy there", node_name(node), name,
                   writer ? writer : "a write from outside", writer ? "_" : "");
}

static moon_status check_versions(const tape_node *node) {
  const op_signature *s = node->op->signature;
  for (int i = 0; i < s->param_count; i++) {
    op_kind kind = s->params[i].kind;
    if (kind == OP_TENSOR || kind == OP_SCALAR_OR_TENSOR)
      MOON_TRY(check_version(node, node->args[i].tensor, node->versions[i], s->params[i].name));
  }
  for (int k = 0; k < node->list_count; k++)
    MOON_TRY(check_version(node, node->list[k], node->versions[s->param_count + k],
                           s->params[s->list_param].name));
  for (int i = 0; i < node->result_count; i++)
    MOON_TRY(check_version(node, node->results[i], node->result_versions[i],
                           node->custom ? "result" : s->results[i]));
  return node->custom ? custom_check_versions(node->custom) : MOON_OK;
}

// -- saved tensors on the tape again

typedef struct revived {
  op_value *args;
  moon_tensor **list, **results;
} revived;

static moon_status revive(const moon_tensor *saved, tape_node *node, int result, tape_record *leaf,
                          moon_tensor **alias) {
  tape_record *record;
  if (!saved) return MOON_OK;
  MOON_TRY(tensor_alias(saved, alias));
  if (leaf) {
    atomic_fetch_add_explicit(&leaf->references, 1, memory_order_relaxed);
    (*alias)->meta = &leaf->base;
  } else if (node) {
    MOON_TRY(record_ensure(*alias, &record));
    atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
    record->node = node;
    record->result = result;
    record->requires_grad = true;
  }
  return MOON_OK;
}

static bool is_tensor(const op_param *param) {
  return param->kind == OP_TENSOR || param->kind == OP_SCALAR_OR_TENSOR;
}

static moon_status revive_input(const moon_tensor *saved, const tape_edge *edge,
                                moon_tensor **alias) {
  return revive(saved, edge->node, edge->result, edge->leaf, alias);
}

// Results the user never saw have no place on the tape, unless the backward takes their gradients.
static bool result_is_taped(const tape_node *node, int i) {
  if (!node->results[i] || !dtype_is_float(node->results[i]->dtype)) return false;
  if (node->custom) return !(node->custom->constant >> i & 1);
  return i < node->op->signature->visible_results || (node->op->flags & OP_KEPT_GRADS);
}

static moon_status revive_all(tape_node *node, revived *r) {
  const op_signature *s = node->op->signature;
  int params = s->param_count;
  for (int i = 0; i < params; i++) {
    r->args[i] = node->args[i];
    if (is_tensor(&s->params[i])) r->args[i].tensor = NULL;
    if (s->params[i].kind == OP_TENSORS) r->args[i].tensors.list = r->list;
  }
  for (int i = 0; i < params; i++)
    if (is_tensor(&s->params[i]))
      MOON_TRY(revive_input(node->args[i].tensor, &node->edges[i], &r->args[i].tensor));
  for (int k = 0; k < node->list_count; k++)
    MOON_TRY(revive_input(node->list[k], &node->edges[params + k], &r->list[k]));
  for (int i = 0; i < node->result_count; i++)
    MOON_TRY(revive(node->results[i], result_is_taped(node, i) ? node : NULL, i, NULL,
                    &r->results[i]));
  return MOON_OK;
}

static void revived_release(const tape_node *node, revived *r) {
  const op_signature *s = node->op->signature;
  for (int i = 0; i < s->param_count; i++)
    if (is_tensor(&s->params[i])) tensor_release(r->args[i].tensor);
  for (int k = 0; k < node->list_count; k++) tensor_release(r->list[k]);
  for (int i = 0; i < node->result_count; i++) tensor_release(r->results[i]);
  alloc_delete(r->args);
}

// -- the call

static bool on_tape(const moon_tensor *t) { return t && record_wants_grad(t); }

// A gradient that depends on recorded ones and is not itself recorded was made by kernels.
static moon_status check_recorded(const tape_node *node, moon_tensor **out) {
  bool recorded = false, missing = false;
  for (int i = 0; i < node->result_count; i++) {
    recorded |= on_tape(node->grads[i]);
    missing |= node->grads[i] && !on_tape(node->grads[i]);
  }
  if (!recorded || missing) return MOON_OK;
  for (int i = 0; i < node->input_count; i++)
    if (out[i] && !on_tape(out[i]))
      return moon_fail(MOON_UNSUPPORTED, "the gradient has no gradient of its own");
  return MOON_OK;
}

static moon_status call_recorded(op_backward_call *call, tape_node *node) {
  revived r = { 0 };
  size_t params = (size_t)node->op->signature->param_count;
  if (node->op->flags & OP_ONCE)
    return moon_fail(MOON_UNSUPPORTED, "the gradient has no gradient of its own");
  size_t tensors = (size_t)node->list_count + (size_t)node->result_count;
  MOON_TRY(alloc_new(params * sizeof(op_value) + tensors * sizeof *r.list, (void **)&r.args));
  r.list = (moon_tensor **)(r.args + params);
  r.results = r.list + node->list_count;
  moon_status status = revive_all(node, &r);
  call->args = r.args;
  call->results = r.results;
  if (status == MOON_OK) status = node->op->backward(call);
  if (status == MOON_OK && !node->custom) status = check_recorded(node, call->out);
  revived_release(node, &r);
  return status;
}

moon_status node_backward(moon_engine *engine, tape_node *node, bool retained, const bool *needs,
                          moon_tensor **out) {
  int params = node->op->signature->param_count;
  op_backward_call call = {
    .engine = engine, .op = node->op, .args = node->args, .inputs = node->inputs,
    .list_inputs = node->inputs + params, .results = node->results, .grads = node->grads,
    .needs = needs, .list_needs = needs + params, .out = out, .list_out = out + params,
    .node = node, .retained = retained,
  };
  MOON_TRY(check_versions(node));
  bool recorded = engine->grad_enabled || (node->custom && node->custom->open);
  moon_status status = recorded ? call_recorded(&call, node) : node->op->backward(&call);
  if (status == MOON_OK) return MOON_OK;
  for (int i = 0; i < node->input_count; i++) {
    tensor_release(out[i]);
    out[i] = NULL;
  }
  return moon_fail_in(status, engine->grad_enabled && (node->op->flags & OP_ONCE)
                                  ? "%s: " : "backward of %s: ", node_name(node));
}
