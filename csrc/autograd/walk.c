// A walk over the tape. See walk.h.
#include "autograd/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/anomaly.h"
#include "autograd/custom.h"
#include "autograd/gradient.h"
#include "autograd/profile.h"
#include "base/alloc.h"

// -- places and targets

walk_place walk_place_of(const moon_tensor *tensor) {
  tape_record *record = record_of(tensor);
  if (!record->node) return (walk_place){ .leaf = record };
  return (walk_place){ .node = record->node, .result = record->result };
}

static void place_retain(walk_place place) {
  if (place.leaf) atomic_fetch_add_explicit(&place.leaf->references, 1, memory_order_relaxed);
  if (place.node) atomic_fetch_add_explicit(&place.node->references, 1, memory_order_relaxed);
}

static void place_release(walk_place place) {
  record_release(place.leaf);
  node_release(place.node);
}

static int order_places(const void *a, const void *b) {
  const walk_place *x = &((const walk_target *)a)->place, *y = &((const walk_target *)b)->place;
  if (x->leaf != y->leaf) return (uintptr_t)x->leaf < (uintptr_t)y->leaf ? -1 : 1;
  if (x->node != y->node) return (uintptr_t)x->node < (uintptr_t)y->node ? -1 : 1;
  return (x->result > y->result) - (x->result < y->result);
}

void walk_sort_targets(walk *w) {
  if (w->target_count > 1)
    qsort(w->targets, (size_t)w->target_count, sizeof *w->targets, order_places);
}

walk_target *walk_find(walk *w, walk_place place) {
  walk_target key = { .place = place };
  if (w->target_count == 0) return NULL;
  return bsearch(&key, w->targets, (size_t)w->target_count, sizeof key, order_places);
}

// -- gathering

static moon_status grow(void **list, size_t count, size_t *capacity, size_t bytes) {
  size_t wider = *capacity ? 2 * *capacity : 64;
  void *made;
  if (count < *capacity) return MOON_OK;
  MOON_TRY(alloc_new(wider * bytes, &made));
  if (count > 0) memcpy(made, *list, count * bytes);
  alloc_delete(*list);
  *list = made;
  *capacity = wider;
  return MOON_OK;
}

// What an open node leads to shows in its turn, when it runs again; its edges do not say.
static bool is_open(const tape_node *node) { return node->custom && node->custom->open; }

static moon_status walk_push(walk *w, tape_node *node) {
  if (!node || node->walk == w || node->sequence < w->since) return MOON_OK;
  if (node->walk)
    return moon_fail(MOON_BAD_STATE, "%s: a backward is going through the tape of %s already; one "
                     "inside of another needs a tape of its own", w->name, node_name(node));
  MOON_TRY(grow((void **)&w->nodes, w->count, &w->capacity, sizeof *w->nodes));
  node->walk = w;
  node->needed = w->targets == NULL || is_open(node);
  w->open |= is_open(node);
  node->wanted = 0;
  atomic_fetch_add_explicit(&node->references, 1, memory_order_relaxed);
  w->nodes[w->count++] = node;
  return MOON_OK;
}

static int earlier_first(const void *a, const void *b) {
  uint64_t x = (*(tape_node *const *)a)->sequence, y = (*(tape_node *const *)b)->sequence;
  return (x > y) - (x < y);
}

// Whether a gradient that goes along this edge arrives where one is wanted.
static bool edge_wanted(walk *w, const tape_edge *edge) {
  if (edge->node && edge->node->walk != w) return false;
  if (!w->targets) return edge->node || edge->leaf;
  if (edge->node) return edge->node->needed || (edge->node->wanted >> edge->result & 1);
  return edge->leaf && walk_find(w, (walk_place){ .leaf = edge->leaf });
}

static void mark_reached(walk *w, size_t first) {
  for (size_t i = first; i < w->count; i++) {
    tape_node *node = w->nodes[i];
    for (int k = 0; k < node->input_count && !is_open(node); k++) {
      if (!node->edges[k].leaf) continue;
      walk_target *target = walk_find(w, (walk_place){ .leaf = node->edges[k].leaf });
      if (target) target->reached = true;
    }
  }
  for (int i = 0; i < w->target_count; i++) {
    walk_target *target = &w->targets[i];
    if (!target->place.node || target->place.node->walk != w) continue;
    target->place.node->wanted |= 1u << target->place.result;
    target->reached = true;
  }
  for (int i = 0; i < w->root_count; i++) {
    walk_target *target = walk_find(w, w->roots[i].place);
    if (target) target->reached = true;
  }
}

// Earlier calls first: what a node leads to is known when its turn comes.
static void mark_needed(walk *w, size_t first) {
  mark_reached(w, first);
  for (size_t i = first; i < w->count; i++) {
    tape_node *node = w->nodes[i];
    for (int k = 0; k < node->input_count && !node->needed; k++)
      node->needed = edge_wanted(w, &node->edges[k]);
  }
}

static moon_status check_reached(walk *w) {
  for (int i = 0; w->all_reached && i < w->target_count && !w->missing; i++)
    if (!w->targets[i].reached) w->missing = &w->targets[i];
  return w->missing ? MOON_BAD_STATE : MOON_OK;   // the caller has the sentence
}

static moon_status check_freed(const walk *w, size_t first) {
  for (size_t i = w->count; i-- > first;)
    if (w->nodes[i]->freed && w->nodes[i]->needed)
      return moon_fail(MOON_BAD_STATE, "%s: the tape of %s was already used and freed by an "
                       "earlier backward; give that one {retain_graph = true} to use it twice",
                       w->name, node_name(w->nodes[i]));
  return MOON_OK;
}

// All that nodes from number `first` on lead to; sorts and looks at what was added.
static moon_status walk_spread(walk *w, size_t first) {
  for (size_t i = first; i < w->count; i++) {
    tape_node *node = w->nodes[i];
    for (int k = 0; k < node->input_count && !is_open(node); k++)
      MOON_TRY(walk_push(w, node->edges[k].node));
  }
  if (w->count - first > 1)
    qsort(w->nodes + first, w->count - first, sizeof *w->nodes, earlier_first);
  if (w->targets) mark_needed(w, first);
  return check_freed(w, first);
}

static moon_status walk_gather(walk *w) {
  for (int i = 0; i < w->root_count; i++) MOON_TRY(walk_push(w, w->roots[i].place.node));
  MOON_TRY(walk_spread(w, 0));
  return w->open ? MOON_OK : check_reached(w);
}

// -- delivering

// A leaf with hooks waits for the end of the walk, so that they see the whole gradient once.
static moon_status leaf_wait(walk *w, tape_record *leaf, moon_tensor *grad) {
  for (int i = 0; i < w->leaf_count; i++)
    if (w->leaves[i].leaf == leaf) return gradient_gather(w->engine, &w->leaves[i].grad, grad);
  size_t capacity = (size_t)w->leaf_capacity;
  moon_status status =
      grow((void **)&w->leaves, (size_t)w->leaf_count, &capacity, sizeof *w->leaves);
  if (status != MOON_OK) {
    tensor_release(grad);
    return status;
  }
  w->leaf_capacity = (int)capacity;
  atomic_fetch_add_explicit(&leaf->references, 1, memory_order_relaxed);
  w->leaves[w->leaf_count++] = (walk_leaf){ leaf, grad };
  return MOON_OK;
}

// Takes `grad` over, also on failure.
static moon_status deliver(walk *w, walk_place place, moon_tensor *grad) {
  if (place.node) return gradient_gather(w->engine, &place.node->grads[place.result], grad);
  if (!w->targets && place.leaf->hooks) return leaf_wait(w, place.leaf, grad);
  if (!w->targets) return gradient_gather_shared(w->engine, &place.leaf->grad, grad);
  walk_target *target = walk_find(w, place);
  if (target) return gradient_gather(w->engine, &target->grad, grad);
  tensor_release(grad);
  return MOON_OK;
}

static moon_status leaves_close(walk *w) {
  for (int i = 0; i < w->target_count; i++) {
    walk_target *target = &w->targets[i];
    if (target->place.leaf && target->grad)
      MOON_TRY(hook_call_all(target->place.leaf->hooks, w->engine, 0, &target->grad));
  }
  for (int i = 0; i < w->leaf_count; i++) {
    walk_leaf *waiting = &w->leaves[i];
    MOON_TRY(hook_call_all(waiting->leaf->hooks, w->engine, 0, &waiting->grad));
    moon_tensor *grad = waiting->grad;
    waiting->grad = NULL;
    MOON_TRY(gradient_gather_shared(w->engine, &waiting->leaf->grad, grad));
  }
  return MOON_OK;
}

// -- running

// Hands the gradients in `out` to where they are wanted; takes all of them over.
static moon_status distribute(walk *w, tape_node *node, const bool *needs, moon_tensor **out) {
  moon_status status = MOON_OK;
  for (int i = 0; i < node->input_count; i++) {
    tape_edge *edge = &node->edges[i];
    if (!out[i]) continue;
    if (status == MOON_OK && needs[i]) status = gradient_fit(w->engine, &node->inputs[i], &out[i]);
    if (status != MOON_OK || !needs[i])
      tensor_release(out[i]);
    else
      status = deliver(w, (walk_place){ edge->leaf, edge->node, edge->result }, out[i]);
  }
  return status;
}

// Goes on from what an open node calculated again. Those nodes are later than all that wait, but
// for nodes of older tensors that only this run has read.
static moon_status walk_on(walk *w, const tape_custom *custom) {
  size_t first = w->count;
  if (custom->more_count == 0) return MOON_OK;
  for (int i = 0; i < custom->more_count; i++)
    MOON_TRY(walk_push(w, walk_place_of(custom->more[i]).node));
  MOON_TRY(walk_spread(w, first));
  for (int i = 0; i < custom->more_count; i++) {
    walk_place place = walk_place_of(custom->more[i]);
    walk_target *target = walk_find(w, place);
    if (target) target->reached = true;
    MOON_TRY(deliver(w, place, tensor_retain(custom->more[custom->more_count + i])));
  }
  if (first > 0 && first < w->count && w->nodes[first]->sequence < w->nodes[first - 1]->sequence)
    qsort(w->nodes, w->count, sizeof *w->nodes, earlier_first);
  return MOON_OK;
}

static bool begin_range(const moon_engine *engine, const tape_node *node) {
  char name[PROFILE_NAME];
  if (!(engine->observers & OBSERVE_RANGES)) return false;
  snprintf(name, sizeof name, "%s backward", node_name(node));
  return engine_begin_range(engine, name);
}

static moon_status backward_observed(walk *w, tape_node *node, const bool *needs,
                                     moon_tensor **out) {
  moon_engine *engine = w->engine;
  bool ranged = begin_range(engine, node);
  int64_t event = profile_open_backward(engine, node);
  moon_status status = node_backward(engine, node, w->retain, needs, out);
  profile_close_backward(engine, event, node, out);
  engine_end_range(engine, ranged);
  if (status != MOON_OK || !(engine->observers & OBSERVE_FINITE)) return status;
  status = anomaly_check_backward(engine, node, out);
  for (int i = 0; i < node->input_count && status != MOON_OK; i++) tensor_release(out[i]);
  return status;
}

static moon_status node_run_with(walk *w, tape_node *node, moon_tensor **out, bool *needs) {
  for (int i = 0; i < node->input_count; i++) {
    out[i] = NULL;
    needs[i] = edge_wanted(w, &node->edges[i]);
  }
  moon_status status = w->engine->observers
                           ? backward_observed(w, node, needs, out)
                           : node_backward(w->engine, node, w->retain, needs, out);
  if (status == MOON_OK) status = distribute(w, node, needs, out);
  if (status == MOON_OK && node->custom) status = walk_on(w, node->custom);
  return status;
}

static moon_status node_run(walk *w, tape_node *node) {
  enum { FEW = 8 };   // most operators have fewer inputs: no allocation
  moon_tensor *few[FEW], **out;
  bool few_needs[FEW];
  size_t inputs = (size_t)node->input_count;
  if (inputs <= FEW) return node_run_with(w, node, few, few_needs);
  MOON_TRY(alloc_new(inputs * (sizeof *out + sizeof(bool)), (void **)&out));
  moon_status status = node_run_with(w, node, out, (bool *)(out + inputs));
  alloc_delete(out);
  return status;
}

// The node's gradients are complete: hooks see them, targets get theirs, its backward runs.
static moon_status node_turn(walk *w, tape_node *node) {
  bool arrived = false;
  for (int i = 0; i < node->result_count; i++) {
    if (!node->grads[i]) continue;
    arrived = true;
    MOON_TRY(hook_call_all(node->hooks, w->engine, i, &node->grads[i]));
    if (!(node->wanted >> i & 1)) continue;
    walk_target *target = walk_find(w, (walk_place){ .node = node, .result = i });
    target->grad = tensor_retain(node->grads[i]);
  }
  return arrived && node->needed ? node_run(w, node) : MOON_OK;
}

static void node_leave(tape_node *node) {
  node->walk = NULL;
  for (int i = 0; i < node->result_count; i++) {
    tensor_release(node->grads[i]);
    node->grads[i] = NULL;
  }
  if (node->custom) custom_end_turn(node->custom);
  node_release(node);
}

static moon_status node_take_turn(walk *w, tape_node *node) {
  w->count--;
  moon_status status = node_turn(w, node);
  if (status == MOON_OK && !w->retain && node->needed) node_free_saved(node);
  node_leave(node);
  return status;
}

static moon_status walk_run(walk *w) {
  for (int i = 0; i < w->root_count; i++)
    MOON_TRY(deliver(w, w->roots[i].place, tensor_retain(w->roots[i].seed)));
  while (w->count > 0) {
    MOON_TRY(engine_check_interrupt(w->engine));
    MOON_TRY(node_take_turn(w, w->nodes[w->count - 1]));
  }
  if (w->open) MOON_TRY(check_reached(w));
  return leaves_close(w);
}

static void walk_close(walk *w) {
  for (size_t i = 0; i < w->count; i++) node_leave(w->nodes[i]);
  for (int i = 0; i < w->leaf_count; i++) {
    tensor_release(w->leaves[i].grad);
    record_release(w->leaves[i].leaf);
  }
  alloc_delete(w->nodes);
  alloc_delete(w->leaves);
}

moon_status walk_go(walk *w) {
  bool enabled = w->engine->grad_enabled, watched = engine_observe_results(w->engine, false);
  for (int i = 0; i < w->root_count; i++) place_retain(w->roots[i].place);
  const struct op_autocast *autocast = w->engine->autocast;   // gradients have their types already
  w->engine->grad_enabled = w->create_graph;
  w->engine->autocast = NULL;
  int64_t event = profile_open(w->engine, PROFILE_WALK, w->name);
  moon_status status = walk_gather(w);
  if (status == MOON_OK) status = walk_run(w);
  w->engine->grad_enabled = enabled;
  w->engine->autocast = autocast;
  engine_observe_results(w->engine, watched);
  walk_close(w);
  profile_close(w->engine, event);
  for (int i = 0; i < w->root_count; i++) place_release(w->roots[i].place);
  return status;
}
