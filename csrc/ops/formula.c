// A kernel's gradient by way of its formula. See formula.h.
#include "ops/formula.h"

#include "autograd/tape.h"
#include "base/alloc.h"

typedef struct rerun {
  compose k;
  op_backward_call *call;
  uint64_t first;                          // the first node of the formula's
  op_value args[OP_MAX_PARAMS];
  moon_tensor **list;                      // members of the Tensor[] argument; room for them
  int input_count;
  moon_tensor **inputs, ***wanted;         // whose gradients are wanted; where those go
} rerun;

// An alias with a place of its own on the tape, so that what one argument was calculated from
// another stays out of its gradient. That of a leaf that requires none any more is a leaf itself.
static moon_tensor *stand_in(rerun *r, moon_tensor *tensor, bool needed, moon_tensor **out) {
  if (!tensor || !needed) return tensor;
  moon_tensor *alias = compose_reshape(&r->k, tensor, tensor->ndim, tensor->shape);
  if (alias && !tape_requires_grad(alias))
    compose_check(&r->k, tape_set_requires_grad(r->call->engine, alias, true));
  r->inputs[r->input_count] = alias;
  r->wanted[r->input_count++] = out;
  return alias;
}

static void open_arguments(rerun *r) {
  op_backward_call *call = r->call;
  const op_signature *s = call->op->signature;
  for (int i = 0; i < s->param_count; i++) {
    op_kind kind = s->params[i].kind;
    r->args[i] = call->args[i];
    if (kind == OP_TENSOR || kind == OP_SCALAR_OR_TENSOR)
      r->args[i].tensor = stand_in(r, call->args[i].tensor, call->needs[i], &call->out[i]);
    if (kind != OP_TENSORS) continue;
    for (int m = 0; m < call->args[i].tensors.count; m++)
      r->list[m] = stand_in(r, call->args[i].tensors.list[m], call->list_needs[m],
                            &call->list_out[m]);
    r->args[i].tensors.list = r->list;
  }
}

// Gradients of those results that anything flowed into.
static moon_status differentiate(rerun *r, moon_tensor *const *results) {
  const tape_options options = { .retain = true, .create_graph = true, .allow_unused = true,
                                 .since = r->first };
  moon_tensor *outputs[OP_MAX_RESULTS], *seeds[OP_MAX_RESULTS], **grads;
  int count = 0;
  for (int i = 0; i < r->call->op->signature->visible_results; i++) {
    if (!r->call->grads[i] || !tape_requires_grad(results[i])) continue;
    outputs[count] = results[i];
    seeds[count++] = r->call->grads[i];
  }
  if (count == 0 || r->input_count == 0) return MOON_OK;
  MOON_TRY(alloc_new((size_t)r->input_count * sizeof *grads, (void **)&grads));
  moon_status status = tape_grad(r->call->engine, count, outputs, seeds, r->input_count, r->inputs,
                                 &options, grads);
  for (int i = 0; i < r->input_count && status == MOON_OK; i++) *r->wanted[i] = grads[i];
  alloc_delete(grads);
  return status;
}

static moon_status run_formula(rerun *r, moon_status (*formula)(op_call *call)) {
  op_call again = { .engine = r->call->engine, .op = r->call->op, .args = r->args,
                    .recording = true };
  r->first = r->call->engine->next_node;
  open_arguments(r);
  MOON_TRY(r->k.status);
  moon_status status = formula(&again);
  if (status == MOON_OK) status = differentiate(r, again.results);
  for (int i = 0; i < OP_MAX_RESULTS; i++) tensor_release(again.results[i]);
  return status;
}

moon_status formula_backward(op_backward_call *call, moon_status (*formula)(op_call *call)) {
  const op_signature *s = call->op->signature;
  rerun r = { .k = compose_open(call->engine), .call = call };
  size_t members = s->list_param < 0 ? 0 : (size_t)call->args[s->list_param].tensors.count;
  size_t inputs = members + (size_t)s->param_count;
  char *room;
  MOON_TRY(alloc_new((members + inputs) * sizeof *r.list + inputs * sizeof *r.wanted,
                     (void **)&room));
  r.list = (moon_tensor **)room;
  r.inputs = r.list + members;
  r.wanted = (moon_tensor ***)(r.inputs + inputs);
  compose_check(&r.k, run_formula(&r, formula));
  alloc_delete(room);
  return compose_close(&r.k, NULL, NULL);
}
