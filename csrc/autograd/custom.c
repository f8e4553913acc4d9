// Nodes of functions from the layer above. See custom.h.
#include "autograd/custom.h"

#include <string.h>

#include "autograd/node.h"
#include "autograd/tape.h"
#include "base/alloc.h"

static moon_status backward(op_backward_call *call) {
  tape_custom *custom = call->node->custom;
  return custom->backward(custom, call);
}

// What all custom nodes share; the name in it is for messages that know no better.
static const op_signature signature = {
  .param_count = 1, .list_param = 0, .params = { { .name = "input", .kind = OP_TENSORS } },
};
static op_descriptor descriptor = {
  .name = "function", .schema = "(input: Tensor[]) -> Tensor[]", .backward = backward,
  .signature = &signature,
};

static uint_fast32_t version_of(const moon_tensor *tensor) {
  return atomic_load_explicit(&tensor->storage->version, memory_order_relaxed);
}

static int find(moon_tensor *const *list, int count, const moon_tensor *tensor) {
  for (int i = 0; i < count; i++)
    if (list[i] == tensor) return i;
  return -1;
}

static moon_status custom_new(const custom_call *call, tape_custom **custom) {
  size_t results = (size_t)call->result_count, saved = (size_t)call->saved_count;
  tape_custom *made;
  MOON_TRY(alloc_new(sizeof *made + results * sizeof *made->results + saved * sizeof *made->saved,
                     (void **)&made));
  strncpy(made->name, call->name, CUSTOM_NAME - 1);
  made->id = call->id;
  made->backward = call->backward;
  made->open = call->open;
  made->results = (op_input *)(made + 1);
  made->saved = (custom_saved *)(made->results + results);
  made->result_count = call->result_count;
  for (int i = 0; i < call->result_count; i++) made->constant |= (uint32_t)call->constant[i] << i;
  for (size_t i = 0; i < results; i++) node_describe(&made->results[i], call->results[i]);
  *custom = made;
  return MOON_OK;
}

static moon_status save(tape_node *node, const custom_call *call, moon_tensor *tensor,
                        custom_saved *saved) {
  saved->input = find(call->inputs, call->input_count, tensor);
  saved->result = saved->input < 0 ? find(call->results, call->result_count, tensor) : -1;
  node->custom->saved_count++;
  if (saved->input >= 0) {
    if (node->list[saved->input]) return MOON_OK;
    node->versions[1 + saved->input] = version_of(tensor);
    return tensor_alias(tensor, &node->list[saved->input]);
  }
  if (saved->result >= 0) {
    if (node->results[saved->result]) return MOON_OK;
    node->result_versions[saved->result] = version_of(tensor);
    return tensor_alias(tensor, &node->results[saved->result]);
  }
  saved->version = version_of(tensor);
  return tensor_alias(tensor, &saved->tensor);
}

static moon_status fill(tape_node *node, const custom_call *call) {
  MOON_TRY(custom_new(call, &node->custom));
  node->args[0].given = true;
  node->args[0].tensors.list = node->list;
  node->args[0].tensors.count = call->input_count;
  for (int i = 0; i < call->input_count; i++)
    node_connect(node, 1 + i, call->inputs[i]);
  for (int i = 0; i < call->saved_count; i++)
    MOON_TRY(save(node, call, call->saved[i], &node->custom->saved[i]));
  return MOON_OK;
}

// Results are always tensors of their own: a function may return an input, or a tensor that lies on
// the tape elsewhere, which must keep the history it has. One that shares an input's memory counts
// as a view of it.
static moon_status make_result(const custom_call *call, int i, moon_tensor **taped) {
  const moon_tensor *result = call->results[i];
  MOON_TRY(tensor_alias(result, taped));
  for (int k = 0; k < call->input_count; k++)
    if (call->inputs[k]->storage == result->storage) (*taped)->is_view = true;
  (*taped)->taped_version =
      atomic_load_explicit(&result->storage->taped_version, memory_order_relaxed);
  return MOON_OK;
}

static moon_status make_results(tape_node *node, const custom_call *call, moon_tensor **taped) {
  for (int i = 0; i < call->result_count; i++) {
    MOON_TRY(make_result(call, i, &taped[i]));
    if (call->constant[i] || !dtype_is_float(taped[i]->dtype)) continue;
    MOON_TRY(node_attach(node, i, taped[i]));
  }
  return MOON_OK;
}

moon_status custom_record(moon_engine *engine, const custom_call *call, moon_tensor **taped) {
  tape_node *node;
  for (int i = 0; i < call->result_count; i++) taped[i] = NULL;
  MOON_TRY(node_allocate(engine, &descriptor, call->input_count, call->result_count, &node));
  moon_status status = fill(node, call);
  if (status == MOON_OK) status = make_results(node, call, taped);
  node_made(node);
  if (status == MOON_OK) return MOON_OK;
  for (int i = 0; i < call->result_count; i++) {
    tensor_release(taped[i]);
    taped[i] = NULL;
  }
  return status;
}

void custom_peek_saved(const tape_custom *custom, const op_backward_call *call,
                       moon_tensor **saved) {
  for (int i = 0; i < custom->saved_count; i++) {
    const custom_saved *s = &custom->saved[i];
    saved[i] = s->input >= 0    ? call->args[0].tensors.list[s->input]
               : s->result >= 0 ? call->results[s->result]
                                : s->tensor;
  }
}

moon_status custom_continue(tape_custom *custom, int count, moon_tensor **results,
                            moon_tensor **grads) {
  moon_tensor **more;
  MOON_TRY(alloc_new((2 * (size_t)count + 1) * sizeof *more, (void **)&more));
  int kept = 0;
  for (int i = 0; i < count; i++)
    if (results[i] && grads[i] && tape_requires_grad(results[i])) more[kept++] = results[i];
  for (int i = 0, n = kept; i < count; i++)
    if (results[i] && grads[i] && tape_requires_grad(results[i])) more[n++] = grads[i];
  for (int i = 0; i < 2 * kept; i++) tensor_retain(more[i]);
  custom->more = more;
  custom->more_count = kept;
  return MOON_OK;
}

void custom_end_turn(tape_custom *custom) {
  for (int i = 0; i < 2 * custom->more_count; i++) tensor_release(custom->more[i]);
  alloc_delete(custom->more);
  custom->more = NULL;
  custom->more_count = 0;
}

void custom_free_saved(tape_custom *custom) {
  for (int i = 0; i < custom->saved_count; i++) {
    tensor_release(custom->saved[i].tensor);
    custom->saved[i].tensor = NULL;
  }
}

moon_status custom_check_versions(const tape_custom *custom) {
  for (int i = 0; i < custom->saved_count; i++) {
    const custom_saved *s = &custom->saved[i];
    if (!s->tensor || version_of(s->tensor) == s->version) continue;
    const char *writer = s->tensor->storage->last_writer;
    return moon_fail(MOON_BAD_STATE, "backward: %s needs a tensor it saved, but %s%s changed it "
                     "in place after the call; work on a copy there", custom->name,
                     writer ? writer : "a write from outside", writer ? "_" : "");
  }
  return MOON_OK;
}
