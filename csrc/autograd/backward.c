// Backward into the leaves, and gradients along chosen paths: two ways to walk the tape (walk.h).
#include "autograd/tape.h"
#include "autograd/walk.h"
#include "base/alloc.h"

// -- what the walk starts with

static moon_status check_root(const moon_engine *engine, const char *name,
                              const moon_tensor *root) {
  if (!tape_requires_grad(root))
    return moon_fail(MOON_BAD_STATE, "%s: this tensor requires no gradient; was it calculated from "
                     "parameters, outside moon.no_grad?", name);
  const tape_node *node = record_of(root)->node;
  if (!node || node->engine_id == engine->id) return MOON_OK;
  return moon_fail(MOON_BAD_STATE, "%s: a tape does not cross Lua states", name);
}

// A seed that was given goes in as it is, so that the walk can be differentiated by it.
static moon_status make_seed(moon_engine *engine, const char *name, const moon_tensor *root,
                             moon_tensor *gradient, bool recorded, moon_tensor **seed) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  if (gradient) {
    if (!tensor_same_shape(root, gradient) || root->dtype != gradient->dtype)
      return moon_fail(MOON_BAD_SHAPE, "%s: gradient must be a %s tensor of %s like the "
                       "tensor, got %s of %s", name, dtype_name(root->dtype),
                       tensor_shape_text(root, a), dtype_name(gradient->dtype),
                       tensor_shape_text(gradient, b));
    if (!recorded) return tensor_alias(gradient, seed);
    *seed = tensor_retain(gradient);
    return MOON_OK;
  }
  if (tensor_count(root) != 1)
    return moon_fail(MOON_BAD_SHAPE, "%s: a tensor of %s is no single loss; reduce it with "
                     "mean() or sum(), or pass a gradient of its shape", name,
                     tensor_shape_text(root, a));
  moon_tensor *made;
  MOON_TRY(tensor_new_like(engine, root, &made));
  device_array ones = tensor_array(made);
  moon_status status = tensor_kernels(root)->fill(engine, 1, &ones);
  if (status == MOON_OK) *seed = made;
  else tensor_release(made);
  return status;
}

moon_status tape_backward(moon_engine *engine, moon_tensor *root, moon_tensor *gradient,
                          const tape_options *options) {
  walk_root start = { 0 };
  MOON_TRY(check_root(engine, "backward", root));
  MOON_TRY(make_seed(engine, "backward", root, gradient, options->create_graph, &start.seed));
  start.place = walk_place_of(root);
  walk w = { .engine = engine, .name = "backward", .retain = options->retain,
             .create_graph = options->create_graph, .since = options->since, .roots = &start,
             .root_count = 1 };
  moon_status status = walk_go(&w);
  tensor_release(start.seed);
  return status;
}

// -- gradients of chosen inputs

// Everything one call of tape_grad holds.
typedef struct grad_call {
  moon_engine *engine;
  const tape_options *options;
  int input_count, output_count;
  moon_tensor **inputs, **outputs, **seeds;
  walk walk;
} grad_call;

static moon_status check_inputs(const grad_call *c) {
  for (int i = 0; i < c->input_count; i++) {
    const moon_tensor *input = c->inputs[i];
    if (!tape_requires_grad(input))
      return moon_fail(MOON_BAD_STATE, "grad: input %d requires no gradient; call requires_grad_() "
                       "on it before it is used", i + 1);
    const tape_node *node = record_of(input)->node;
    if (node && node->engine_id != c->engine->id)
      return moon_fail(MOON_BAD_STATE, "grad: input %d lies on the tape of another Lua state",
                       i + 1);
  }
  return MOON_OK;
}

static moon_status make_roots(grad_call *c) {
  for (int i = 0; i < c->output_count; i++) {
    moon_status status = check_root(c->engine, "grad", c->outputs[i]);
    walk_root *root = &c->walk.roots[i];
    if (status == MOON_OK)
      status = make_seed(c->engine, "grad", c->outputs[i], c->seeds[i], c->options->create_graph,
                         &root->seed);
    if (status == MOON_OK) root->place = walk_place_of(c->outputs[i]);
    else if (c->output_count > 1)
      return moon_fail(status, "%s (output %d)", moon_error_text(), i + 1);
    MOON_TRY(status);
    c->walk.root_count = i + 1;
  }
  return MOON_OK;
}

// One target a place, however often it is among the inputs.
static void make_targets(grad_call *c) {
  walk *w = &c->walk;
  for (int i = 0; i < c->input_count; i++)
    w->targets[i] = (walk_target){ .place = walk_place_of(c->inputs[i]) };
  w->target_count = c->input_count;
  walk_sort_targets(w);
  int kept = 0;
  for (int i = 0; i < w->target_count; i++)
    if (kept == 0 || !walk_same_place(w->targets[kept - 1].place, w->targets[i].place))
      w->targets[kept++] = w->targets[i];
  w->target_count = kept;
}

static moon_status say_unused(const grad_call *c) {
  int i = 0;
  while (!walk_same_place(walk_place_of(c->inputs[i]), c->walk.missing->place)) i++;
  return moon_fail(MOON_BAD_STATE, "grad: input %d was not used for the output%s; give "
                   "{allow_unused = true} to get nil for it", i + 1,
                   c->output_count > 1 ? "s" : "");
}

// A gradient that nothing flowed into is zero; an input off the paths has none.
static moon_status take_gradient(grad_call *c, int i, moon_tensor **grad) {
  const walk_target *target = walk_find(&c->walk, walk_place_of(c->inputs[i]));
  moon_tensor *zeros;
  if (!target)
    return moon_fail(MOON_BAD_STATE, "grad: input %d was changed in place by what the walk called",
                     i + 1);
  if (!target->reached) return MOON_OK;
  if (target->grad && !c->options->create_graph) return tensor_alias(target->grad, grad);
  if (target->grad) {
    *grad = tensor_retain(target->grad);
    return MOON_OK;
  }
  MOON_TRY(tensor_new_like(c->engine, c->inputs[i], &zeros));
  device_array array = tensor_array(zeros);
  moon_status status = tensor_kernels(zeros)->fill(c->engine, 0, &array);
  if (status == MOON_OK) *grad = zeros;
  else tensor_release(zeros);
  return status;
}

static moon_status grad_steps(grad_call *c, moon_tensor **grads) {
  MOON_TRY(check_inputs(c));
  MOON_TRY(make_roots(c));
  make_targets(c);
  moon_status walked = walk_go(&c->walk);
  if (c->walk.missing) return say_unused(c);
  MOON_TRY(walked);
  for (int i = 0; i < c->input_count; i++) {
    moon_status status = take_gradient(c, i, &grads[i]);
    if (status == MOON_OK) continue;
    for (int k = 0; k < i; k++) {
      tensor_release(grads[k]);
      grads[k] = NULL;
    }
    return status;
  }
  return MOON_OK;
}

moon_status tape_grad(moon_engine *engine, int output_count, moon_tensor **outputs,
                      moon_tensor **seeds, int input_count, moon_tensor **inputs,
                      const tape_options *options, moon_tensor **grads) {
  grad_call c = { engine, options, input_count, output_count, inputs, outputs, seeds,
                  { .engine = engine, .name = "grad", .retain = options->retain,
                    .create_graph = options->create_graph, .since = options->since,
                    .all_reached = !options->allow_unused } };
  size_t roots = (size_t)output_count * sizeof(walk_root);
  size_t targets = (size_t)input_count * sizeof(walk_target);
  char *room;
  MOON_TRY(alloc_new(roots + targets + 1, (void **)&room));
  c.walk.roots = (walk_root *)room;
  c.walk.targets = (walk_target *)(room + roots);
  for (int i = 0; i < input_count; i++) grads[i] = NULL;
  moon_status status = grad_steps(&c, grads);
  for (int i = 0; i < output_count; i++) tensor_release(c.walk.roots[i].seed);
  for (int i = 0; i < c.walk.target_count; i++) tensor_release(c.walk.targets[i].grad);
  alloc_delete(room);
  return status;
}
