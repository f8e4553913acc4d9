// The backward walk. Nodes that the root reaches are gathered once, sorted so that later calls
// come first, and asked in that order for the gradients of their inputs; each is complete when its
// turn comes, because all its consumers were called later. Nothing recurses. What a node saved is
// freed as soon as it was used.
#include <stdlib.h>
#include <string.h>

#include "autograd/node.h"
#include "autograd/tape.h"
#include "base/alloc.h"
#include "tensor/shape.h"

typedef struct walk {
  moon_engine *engine;
  tape_node **nodes;
  size_t count, capacity;
  bool retain;
} walk;

// -- gathering

static moon_status walk_push(walk *w, tape_node *node) {
  if (!node || node->visited) return MOON_OK;
  if (w->count == w->capacity) {
    size_t capacity = w->capacity ? 2 * w->capacity : 64;
    tape_node **nodes;
    MOON_TRY(alloc_new(capacity * sizeof *nodes, (void **)&nodes));
    if (w->count > 0) memcpy(nodes, w->nodes, w->count * sizeof *nodes);
    alloc_delete(w->nodes);
    w->nodes = nodes;
    w->capacity = capacity;
  }
  node->visited = true;
  w->nodes[w->count++] = node;
  return MOON_OK;
}

static int later_first(const void *a, const void *b) {
  uint64_t x = (*(tape_node *const *)a)->sequence, y = (*(tape_node *const *)b)->sequence;
  return (x < y) - (x > y);
}

static moon_status walk_gather(walk *w, tape_node *root) {
  MOON_TRY(walk_push(w, root));
  for (size_t i = 0; i < w->count; i++) {
    tape_node *node = w->nodes[i];
    if (node->freed)
      return moon_fail(MOON_BAD_STATE, "backward: the tape of %s was already used and freed by an "
                       "earlier backward; give that one {retain_graph = true} to use it twice",
                       node->op->name);
    for (int k = 0; k < node->input_count; k++) MOON_TRY(walk_push(w, node->edges[k].node));
  }
  qsort(w->nodes, w->count, sizeof *w->nodes, later_first);
  return MOON_OK;
}

static void walk_close(walk *w) {
  for (size_t i = 0; i < w->count; i++) {
    tape_node *node = w->nodes[i];
    node->visited = false;
    for (int k = 0; k < OP_MAX_RESULTS; k++) {
      tensor_release(node->grads[k]);
      node->grads[k] = NULL;
    }
  }
  alloc_delete(w->nodes);
}

// -- arithmetic on gradients, straight on the device's kernels

static bool owned_alone(moon_tensor *t) {
  return atomic_load(&t->references) == 1 && atomic_load(&t->storage->references) == 1 &&
         !t->storage->release && tensor_is_contiguous(t);
}

static moon_status grad_copy(moon_engine *engine, moon_dtype dtype, moon_tensor **grad) {
  moon_tensor *copy;
  MOON_TRY(tensor_new(engine, tensor_device(*grad), dtype, (*grad)->ndim, (*grad)->shape, &copy));
  device_array from = tensor_array(*grad), to = tensor_array(copy);
  moon_status status = tensor_kernels(*grad)->copy(engine, &from, &to);
  if (status != MOON_OK) {
    tensor_release(copy);
    return status;
  }
  tensor_release(*grad);
  *grad = copy;
  return MOON_OK;
}

// Sums a gradient of the broadcast shape back to the input's shape.
static moon_status grad_sum_to(moon_engine *engine, const op_input *input, moon_tensor **grad) {
  moon_tensor *g = *grad, *sum, *shaped;
  int missing = g->ndim - input->ndim;
  int64_t shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  for (int i = 0; i < g->ndim; i++) {
    shape[i] = i < missing ? 1 : input->shape[i - missing];
    if (shape[i] != 1 && shape[i] != g->shape[i]) missing = -1;
    if (missing < 0) break;
  }
  if (missing < 0) {
    char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
    return moon_fail(MOON_BAD_SHAPE, "a gradient of %s does not fit an input of %s",
                     tensor_shape_text(g, a), shape_text(input->ndim, input->shape, b));
  }
  MOON_TRY(tensor_new(engine, tensor_device(g), g->dtype, g->ndim, shape, &sum));
  device_array from = tensor_array(g), to = tensor_array(sum);
  moon_status status = tensor_kernels(g)->reduce(engine, REDUCE_SUM, &from, &to);
  shape_contiguous_strides(input->ndim, input->shape, strides);
  if (status == MOON_OK)
    status = tensor_new_view(sum, input->ndim, input->shape, strides, 0, &shaped);
  tensor_release(sum);
  MOON_TRY(status);
  tensor_release(g);
  *grad = shaped;
  return MOON_OK;
}

static moon_status grad_fit(moon_engine *engine, const op_input *input, moon_tensor **grad) {
  if ((*grad)->ndim != input->ndim ||
      memcmp((*grad)->shape, input->shape, (size_t)input->ndim * sizeof *input->shape) != 0)
    MOON_TRY(grad_sum_to(engine, input, grad));
  if ((*grad)->dtype != input->dtype) MOON_TRY(grad_copy(engine, input->dtype, grad));
  return MOON_OK;
}

static moon_status grad_add_into(moon_engine *engine, moon_tensor *sum, moon_tensor *grad) {
  device_array a = tensor_array(sum), b = tensor_array(grad);
  return tensor_kernels(sum)->binary(engine, BINARY_add, (double[2]){ 0, 0 }, &a, &b, &a);
}

// Adds `grad` (taken over, also on failure) to what is in `slot`.
static moon_status grad_gather(moon_engine *engine, moon_tensor **slot, moon_tensor *grad) {
  if (!*slot) {
    *slot = grad;
    return MOON_OK;
  }
  moon_status status = owned_alone(*slot) ? MOON_OK : grad_copy(engine, (*slot)->dtype, slot);
  if (status == MOON_OK) status = grad_add_into(engine, *slot, grad);
  tensor_release(grad);
  return status;
}

// A leaf's gradient belongs to the user: it never shares memory with anything else, and later
// backward passes add into the same tensor.
static moon_status leaf_gather(moon_engine *engine, tape_record *leaf, moon_tensor *grad) {
  moon_status status = MOON_OK;
  if (leaf->grad) {
    status = grad_add_into(engine, leaf->grad, grad);
    tensor_touch(leaf->grad);
    tensor_release(grad);
    return status;
  }
  if (!owned_alone(grad)) status = grad_copy(engine, grad->dtype, &grad);
  if (status == MOON_OK) leaf->grad = grad;
  else tensor_release(grad);
  return status;
}

// -- one node

static moon_status check_version(const tape_node *node, const moon_tensor *saved,
                                 uint_fast32_t version, const char *name) {
  if (!saved || atomic_load(&saved->storage->version) == version) return MOON_OK;
  const char *writer = saved->storage->last_writer;
  return moon_fail(MOON_BAD_STATE, "backward: %s needs its %s, but %s%s changed it in place after "
                   "the call; work on a copy there", node->op->name, name,
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
  for (int i = 0; i < s->result_count; i++)
    MOON_TRY(check_version(node, node->results[i], node->result_versions[i], s->results[i]));
  return MOON_OK;
}

static bool edge_wanted(const tape_edge *edge) { return edge->node || edge->leaf; }

// Hands the gradients in `out` to where they are wanted; takes all of them over.
static moon_status distribute(walk *w, tape_node *node, moon_tensor **out) {
  moon_status status = MOON_OK;
  for (int i = 0; i < node->input_count; i++) {
    tape_edge *edge = &node->edges[i];
    if (!out[i]) continue;
    if (status == MOON_OK && edge_wanted(edge))
      status = grad_fit(w->engine, &node->inputs[i], &out[i]);
    if (status != MOON_OK || !edge_wanted(edge)) {
      tensor_release(out[i]);
    } else if (edge->leaf) {
      status = leaf_gather(w->engine, edge->leaf, out[i]);
    } else {
      status = grad_gather(w->engine, &edge->node->grads[edge->result], out[i]);
    }
  }
  return status;
}

static moon_status node_backward(walk *w, tape_node *node) {
  bool arrived = false;
  int params = node->op->signature->param_count;
  for (int i = 0; i < OP_MAX_RESULTS; i++) arrived |= node->grads[i] != NULL;
  if (!arrived) return MOON_OK;
  MOON_TRY(check_versions(node));
  size_t inputs = (size_t)node->input_count;
  moon_tensor **out;
  MOON_TRY(alloc_new(inputs * (sizeof *out + sizeof(bool)), (void **)&out));
  bool *needs = (bool *)(out + inputs);
  for (size_t i = 0; i < inputs; i++) needs[i] = edge_wanted(&node->edges[i]);
  op_backward_call call = {
    .engine = w->engine, .op = node->op, .args = node->args, .inputs = node->inputs,
    .list_inputs = node->inputs + params, .results = node->results, .grads = node->grads,
    .needs = needs, .list_needs = needs + params, .out = out, .list_out = out + params,
  };
  moon_status status = node->op->backward(&call);
  if (status != MOON_OK) {
    for (size_t i = 0; i < inputs; i++) tensor_release(out[i]);
    status = moon_fail_in(status, "backward of %s: ", node->op->name);
  } else {
    status = distribute(w, node, out);
  }
  alloc_delete(out);
  return status;
}

static void node_done(walk *w, tape_node *node) {
  for (int i = 0; i < OP_MAX_RESULTS; i++) {
    tensor_release(node->grads[i]);
    node->grads[i] = NULL;
  }
  if (!w->retain) node_free_saved(node);
}

static moon_status walk_run(walk *w) {
  for (size_t i = 0; i < w->count; i++) {
    MOON_TRY(engine_check_interrupt(w->engine));
    MOON_TRY(node_backward(w, w->nodes[i]));
    node_done(w, w->nodes[i]);
  }
  return MOON_OK;
}

// -- the root

static moon_status make_seed(moon_engine *engine, const moon_tensor *root, moon_tensor *gradient,
                             moon_tensor **seed) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  if (gradient) {
    if (!tensor_same_shape(root, gradient) || root->dtype != gradient->dtype)
      return moon_fail(MOON_BAD_SHAPE, "backward: gradient must be a %s tensor of %s like the "
                       "tensor, got %s of %s", dtype_name(root->dtype), tensor_shape_text(root, a),
                       dtype_name(gradient->dtype), tensor_shape_text(gradient, b));
    return tensor_alias(gradient, seed);
  }
  if (tensor_count(root) != 1)
    return moon_fail(MOON_BAD_SHAPE, "backward: a tensor of %s is no single loss; reduce it with "
                     "mean() or sum(), or pass a gradient of its shape",
                     tensor_shape_text(root, a));
  MOON_TRY(tensor_new_like(engine, root, seed));
  device_array ones = tensor_array(*seed);
  moon_status status = tensor_kernels(root)->fill(engine, 1, &ones);
  if (status != MOON_OK) tensor_release(*seed);
  return status;
}

moon_status tape_backward(moon_engine *engine, moon_tensor *root, moon_tensor *gradient,
                          bool retain) {
  moon_tensor *seed;
  if (!tape_requires_grad(root))
    return moon_fail(MOON_BAD_STATE, "backward: this tensor requires no gradient; was it "
                     "calculated from parameters, outside moon.no_grad?");
  tape_record *record = record_of(root);
  if (record->node && record->node->engine_id != engine->id)
    return moon_fail(MOON_BAD_STATE, "backward: a tape does not cross Lua states");
  MOON_TRY(make_seed(engine, root, gradient, &seed));
  if (!record->node) return leaf_gather(engine, record, seed);

  walk w = { .engine = engine, .retain = retain };
  bool enabled = engine->grad_enabled;
  engine->grad_enabled = false;
  moon_status status = walk_gather(&w, record->node);
  if (status == MOON_OK) {
    record->node->grads[record->result] = seed;
    status = walk_run(&w);
  } else {
    tensor_release(seed);
  }
  engine->grad_enabled = enabled;
  walk_close(&w);
  return status;
}
