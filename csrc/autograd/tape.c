// Records and nodes: making, saving, releasing. See node.h for who holds whom.
#include "autograd/tape.h"

#include <inttypes.h>
#include <string.h>

#include "autograd/anomaly.h"
#include "autograd/custom.h"
#include "autograd/gradient.h"
#include "autograd/node.h"
#include "autograd/profile.h"
#include "base/alloc.h"
#include "base/count.h"

// -- hooks

void hook_add(tape_hook **list, tape_hook *hook) {
  while (*list) list = &(*list)->next;
  hook->next = NULL;
  *list = hook;
}

static void hook_release_all(tape_hook *list) {
  while (list) {
    tape_hook *gone = list;
    list = gone->next;
    gone->release(gone);
  }
}

moon_status hook_call_all(tape_hook *list, moon_engine *engine, int result, moon_tensor **grad) {
  for (tape_hook *hook = list, *next; hook; hook = next) {
    next = hook->next;
    if (hook->result == result) MOON_TRY(hook->call(hook, engine, grad));
  }
  return MOON_OK;
}

static void slot_release(tape_slot *slot) {
  if (!slot) return;
  if (!count_drop(&slot->references)) return;
  tensor_release(slot->grad);
  alloc_delete(slot);
}

// -- records and nodes

void record_release(tape_record *record) {
  if (!record) return;
  if (!count_drop(&record->references)) return;
  tensor_release(record->grad);
  slot_release(record->slot);
  hook_release_all(record->hooks);
  node_release(record->node);
  alloc_piece_release(record, sizeof *record);
}

static void record_release_meta(moon_meta *meta) { record_release((tape_record *)meta); }

moon_status record_ensure(moon_tensor *tensor, tape_record **record) {
  if (!tensor->meta) {
    tape_record *made;
    MOON_TRY(alloc_piece(sizeof *made, (void **)&made));
    *made = (tape_record){ .base = { record_release_meta } };
    atomic_init(&made->references, 1);
    tensor->meta = &made->base;
  }
  *record = record_of(tensor);
  return MOON_OK;
}

void node_free_saved(tape_node *node) {
  int params = node->op->signature->param_count;
  for (int i = 0; i < params; i++) {
    op_kind kind = node->op->signature->params[i].kind;
    if (kind != OP_TENSOR && kind != OP_SCALAR_OR_TENSOR) continue;
    tensor_release(node->args[i].tensor);
    node->args[i].tensor = NULL;
  }
  for (int i = 0; i < node->list_count; i++) {
    tensor_release(node->list[i]);
    node->list[i] = NULL;
  }
  for (int i = 0; i < node->result_count; i++) {
    tensor_release(node->results[i]);
    node->results[i] = NULL;
  }
  if (node->custom) custom_free_saved(node->custom);
  node->freed = true;
}

// A node that loses its last reference waits in a list until its turn, so that releasing a long
// chain does not recurse.
void node_release(tape_node *node) {
  tape_node *dead = node && count_drop(&node->references) ? node : NULL;
  while (dead) {
    tape_node *gone = dead;
    dead = gone->next;
    node_free_saved(gone);
    for (int i = 0; i < gone->input_count; i++) {
      tape_node *before = gone->edges[i].node;
      record_release(gone->edges[i].leaf);
      if (!before || !count_drop(&before->references)) continue;
      before->next = dead;
      dead = before;
    }
    for (int i = 0; i < gone->result_count; i++) tensor_release(gone->grads[i]);
    alloc_delete(gone->custom);
    alloc_delete(gone->where);
    hook_release_all(gone->hooks);
    alloc_piece_release(gone, gone->bytes);
  }
}

void node_made(tape_node *node) {
  int references = atomic_load_explicit(&node->references, memory_order_relaxed);
  if (references == 1) node_release(node);
  else atomic_store_explicit(&node->references, references - 1, memory_order_relaxed);
}

const char *node_name(const tape_node *node) {
  return node->custom ? node->custom->name : node->op->name;
}

static moon_status node_observe(moon_engine *engine, tape_node *node) {
  node->module = profile_module(engine);
  return engine->observers & OBSERVE_FINITE ? anomaly_where(engine, &node->where) : MOON_OK;
}

// Behind the node: what begins as zeros, then what is written whole (args, inputs).
static void node_begin(tape_node *node, moon_engine *engine, op_descriptor *op, size_t inputs) {
  size_t params = (size_t)op->signature->param_count;
  atomic_init(&node->references, 1);
  node->engine_id = engine->id;
  node->sequence = engine->next_node++;
  node->op = op;
  node->input_count = (int)inputs;
  for (size_t i = 0; i < params; i++) node->args[i] = op_none();
  for (size_t i = 0; i < inputs; i++) node->inputs[i].is_tensor = false;
}

moon_status node_allocate(moon_engine *engine, op_descriptor *op, int list_count, int result_count,
                          tape_node **node) {
  size_t params = (size_t)op->signature->param_count, inputs = params + (size_t)list_count;
  size_t results = (size_t)result_count;
  size_t zeros = sizeof(tape_node) + inputs * (sizeof(tape_edge) + sizeof(uint_fast32_t)) +
                 ((size_t)list_count + 2 * results) * sizeof(moon_tensor *) +
                 results * sizeof(uint_fast32_t);
  size_t bytes = zeros + params * sizeof(op_value) + inputs * sizeof(op_input);
  tape_node *made;
  MOON_TRY(alloc_piece(bytes, (void **)&made));
  memset(made, 0, zeros);
  made->bytes = bytes;
  made->list_count = list_count;
  made->result_count = result_count;
  made->edges = (tape_edge *)(made + 1);
  made->versions = (uint_fast32_t *)(made->edges + inputs);
  made->result_versions = made->versions + inputs;
  made->list = (moon_tensor **)(made->result_versions + results);
  made->results = made->list + list_count;
  made->grads = made->results + results;
  made->args = (op_value *)(made->grads + results);
  made->inputs = (op_input *)(made->args + params);
  node_begin(made, engine, op, inputs);
  moon_status status = engine->observers ? node_observe(engine, made) : MOON_OK;
  if (status == MOON_OK) *node = made;
  else alloc_piece_release(made, bytes);
  return status;
}

static uint_fast32_t version_of(const moon_tensor *tensor) {
  return atomic_load_explicit(&tensor->storage->version, memory_order_relaxed);
}

void node_describe(op_input *input, const moon_tensor *tensor) {
  input->is_tensor = true;
  input->dtype = tensor->dtype;
  input->device = tensor_device(tensor);
  input->ndim = tensor->ndim;
  for (int i = 0; i < tensor->ndim; i++) input->shape[i] = tensor->shape[i];
}

static void edge_connect(tape_edge *edge, moon_tensor *tensor) {
  tape_record *record = record_of(tensor);
  if (record->node) {
    edge->node = record->node;
    edge->result = record->result;
    atomic_fetch_add_explicit(&record->node->references, 1, memory_order_relaxed);
  } else {
    edge->leaf = record;
    atomic_fetch_add_explicit(&record->references, 1, memory_order_relaxed);
  }
}

void node_connect(tape_node *node, int input, moon_tensor *tensor) {
  node_describe(&node->inputs[input], tensor);
  if (record_wants_grad(tensor)) edge_connect(&node->edges[input], tensor);
}

// Describes input number `i`, connects it where its gradient is wanted, and saves it where the
// backward reads it.
static moon_status node_take_input(tape_node *node, int i, moon_tensor *tensor, bool needed,
                                   bool save, moon_tensor **saved) {
  *saved = NULL;
  if (!tensor) return MOON_OK;
  node_describe(&node->inputs[i], tensor);
  if (needed) edge_connect(&node->edges[i], tensor);
  if (!save) return MOON_OK;
  node->versions[i] = version_of(tensor);
  return tensor_alias(tensor, saved);
}

static unsigned need_bits(int count, const bool *needs, int list_param, int list_count,
                          const bool *list_needs) {
  unsigned bits = 0;
  for (int i = 0; i < count; i++) bits |= (unsigned)needs[i] << i;
  for (int i = 0; i < list_count; i++) bits |= (unsigned)list_needs[i] << list_param;
  return bits;
}

static moon_status node_take_inputs(tape_node *node, const op_call *call, const bool *needs,
                                    const bool *list_needs, unsigned bits) {
  const op_signature *signature = call->op->signature;
  for (int i = 0; i < signature->param_count; i++) {
    const op_param *param = &signature->params[i];
    bool save = (param->saved_for & bits) != 0;
    node->args[i] = call->args[i];
    if (param->kind == OP_TENSOR || param->kind == OP_SCALAR_OR_TENSOR) {
      moon_tensor *tensor = call->args[i].tensor;
      MOON_TRY(node_take_input(node, i, tensor, needs[i], save, &node->args[i].tensor));
    } else if (param->kind == OP_TENSORS) {
      node->args[i].tensors.list = node->list;
      for (int k = 0; k < node->list_count; k++)
        MOON_TRY(node_take_input(node, signature->param_count + k, call->args[i].tensors.list[k],
                                 list_needs[k], save, &node->list[k]));
    } else if (param->kind == OP_STRING) {
      node->args[i].string = NULL;   // the caller's text need not outlive the call
    }
  }
  return MOON_OK;
}

// Tensors that the node did not get to save must not be released as if it had.
static void node_clear_args(tape_node *node) {
  for (int i = 0; i < node->op->signature->param_count; i++) node->args[i].tensor = NULL;
}

moon_status node_new(const op_call *call, const bool *needs, const bool *list_needs,
                     int list_count, tape_node **node) {
  const op_signature *signature = call->op->signature;
  tape_node *made;
  MOON_TRY(node_allocate(call->engine, call->op, list_count, signature->result_count, &made));
  unsigned bits = need_bits(signature->param_count, needs, signature->list_param, list_count,
                            list_needs);
  node_clear_args(made);
  moon_status status = node_take_inputs(made, call, needs, list_needs, bits);
  for (int i = 0; i < signature->result_count && status == MOON_OK; i++) {
    if (!(signature->result_saved_for[i] & bits) || !call->results[i]) continue;
    status = tensor_alias(call->results[i], &made->results[i]);
    made->result_versions[i] = version_of(call->results[i]) + (call->inplace ? 1 : 0);
  }
  if (status != MOON_OK) {
    node_release(made);
    return status;
  }
  *node = made;
  return MOON_OK;
}

// A leaf's record that edges hold stays theirs: were it given a node that comes after them, the
// tape would hold itself. The tensor gets a new one, without the gradient.
static void record_leave(moon_tensor *tensor) {
  tape_record *record = record_of(tensor);
  if (!record || record->node || atomic_load(&record->references) == 1) return;
  tensor->meta = NULL;
  record_release(record);
}

moon_status node_attach(tape_node *node, int result, moon_tensor *tensor) {
  tape_record *record;
  record_leave(tensor);
  MOON_TRY(record_ensure(tensor, &record));
  tape_node *before = record->node;
  record->node = node;
  record->result = result;
  record->requires_grad = true;
  int references = atomic_load_explicit(&node->references, memory_order_relaxed);
  atomic_store_explicit(&node->references, references + 1, memory_order_relaxed);
  node_release(before);
  if (!record->slot) return MOON_OK;
  slot_release(record->slot);   // the old node's hook keeps it; this result gets its own
  record->slot = NULL;
  return tape_retain_grad(tensor);
}

// -- gradients of results that keep them

typedef struct retain_hook {
  tape_hook base;
  tape_slot *slot;
} retain_hook;

static moon_status retain_call(tape_hook *hook, moon_engine *engine, moon_tensor **grad) {
  tape_slot *slot = ((retain_hook *)hook)->slot;
  return gradient_gather_shared(engine, &slot->grad, tensor_retain(*grad));
}

static void retain_release(tape_hook *hook) {
  slot_release(((retain_hook *)hook)->slot);
  alloc_delete(hook);
}

moon_status tape_retain_grad(moon_tensor *tensor) {
  if (!tape_requires_grad(tensor))
    return moon_fail(MOON_BAD_STATE, "this tensor requires no gradient, so there is none to keep");
  tape_record *record = record_of(tensor);
  if (!record->node || record->slot) return MOON_OK;   // a leaf keeps its gradient anyway
  tape_slot *slot;
  retain_hook *hook;
  MOON_TRY(alloc_new(sizeof *slot, (void **)&slot));
  moon_status status = alloc_new(sizeof *hook, (void **)&hook);
  if (status != MOON_OK) {
    alloc_delete(slot);
    return status;
  }
  atomic_init(&slot->references, 2);
  hook->base.result = record->result;
  hook->base.call = retain_call;
  hook->base.release = retain_release;
  hook->slot = record->slot = slot;
  hook_add(&record->node->hooks, &hook->base);
  return MOON_OK;
}

// -- what users ask of a tensor

bool tape_requires_grad(const moon_tensor *tensor) { return record_wants_grad(tensor); }

bool tape_is_leaf(const moon_tensor *tensor) {
  return !tensor->meta || !record_of(tensor)->node;
}

moon_status tape_set_requires_grad(moon_engine *engine, moon_tensor *tensor, bool on) {
  (void)engine;
  if (!on && !tensor->meta) return MOON_OK;
  if (!tape_is_leaf(tensor))
    return moon_fail(MOON_BAD_STATE, "requires_grad can be changed on leaves only; this tensor was "
                     "made by %s: use detach() for one without history",
                     tape_operator_name(tensor));
  if (on && !dtype_is_float(tensor->dtype))
    return moon_fail(MOON_BAD_DTYPE, "only tensors of a float type can require a gradient, this "
                     "one is %s", dtype_name(tensor->dtype));
  tape_record *record;
  MOON_TRY(record_ensure(tensor, &record));
  record->requires_grad = on;
  return MOON_OK;
}

moon_tensor *tape_peek_grad(const moon_tensor *tensor) {
  if (!tensor->meta) return NULL;
  const tape_record *record = record_of(tensor);
  return record->slot ? record->slot->grad : record->grad;
}

moon_status tape_set_grad(moon_tensor *tensor, moon_tensor *grad) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  if (!grad && !tensor->meta) return MOON_OK;
  if (grad && (!tensor_same_shape(tensor, grad) || tensor->dtype != grad->dtype))
    return moon_fail(MOON_BAD_SHAPE, "grad must be a %s tensor of %s like its tensor, got %s of %s",
                     dtype_name(tensor->dtype), tensor_shape_text(tensor, a),
                     dtype_name(grad->dtype), tensor_shape_text(grad, b));
  tape_record *record;
  MOON_TRY(record_ensure(tensor, &record));
  if (grad) tensor_retain(grad);
  moon_tensor **place = record->slot ? &record->slot->grad : &record->grad;
  tensor_release(*place);
  *place = grad;
  return MOON_OK;
}

const char *tape_operator_name(const moon_tensor *tensor) {
  return tape_is_leaf(tensor) ? NULL : node_name(record_of(tensor)->node);
}
