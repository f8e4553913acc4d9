// Writing down what runs. See profile.h.
#include "autograd/profile.h"

#include <string.h>

#include "base/alloc.h"
#include "base/os.h"

// -- beginning and ending

moon_status profile_begin(moon_engine *engine, bool (*is_suspended)(const void *thread),
                          int64_t *first) {
  if (!engine->profile) {
    MOON_TRY(alloc_new(sizeof *engine->profile, (void **)&engine->profile));
    engine->profile->top = -1;
    engine->profile->is_suspended = is_suspended;
    engine->observers |= OBSERVE_TIME;
  }
  engine->profile->depth++;
  *first = engine->profile->count;
  return MOON_OK;
}

void profile_drop(moon_engine *engine) {
  if (!engine->profile) return;
  engine->observers &= ~(unsigned)OBSERVE_TIME;
  alloc_delete(engine->profile->events);
  alloc_delete(engine->profile);
  engine->profile = NULL;
}

void profile_end(moon_engine *engine) {
  if (--engine->profile->depth == 0) profile_drop(engine);
}

// -- the stack

// The innermost event that what runs now is inside of.
static int64_t innermost(const moon_profile *profile) {
  int64_t at = profile->top;
  for (; at >= 0; at = profile->events[at].below) {
    const profile_event *event = &profile->events[at];
    if (event->stop == 0 && !(event->thread && profile->is_suspended(event->thread))) break;
  }
  return at;
}

uint64_t profile_module(const moon_engine *engine) {
  if (!engine->profile) return 0;
  int64_t at = innermost(engine->profile);
  return at < 0 ? 0 : engine->profile->events[at].module;
}

static bool has_room(moon_profile *profile) {
  profile_event *wider;
  if (profile->count < profile->capacity) return true;
  if (profile->count >= PROFILE_MOST) return false;
  int64_t capacity = profile->capacity ? 2 * profile->capacity : 1024;
  if (alloc_new((size_t)capacity * sizeof *wider, (void **)&wider) != MOON_OK) return false;
  if (profile->count > 0)
    memcpy(wider, profile->events, (size_t)profile->count * sizeof *wider);
  alloc_delete(profile->events);
  profile->events = wider;
  profile->capacity = capacity;
  return true;
}

// -- bytes

static int64_t bytes_of(const moon_tensor *tensor) {
  return tensor ? tensor_count(tensor) * (int64_t)dtype_size(tensor->dtype) : 0;
}

static int64_t bytes_of_all(int count, moon_tensor *const *list) {
  int64_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += bytes_of(list[i]);
  return bytes;
}

static int64_t bytes_of_arguments(const op_signature *s, const op_value *args) {
  int64_t bytes = 0;
  for (int i = 0; i < s->param_count; i++) {
    op_kind kind = s->params[i].kind;
    if (kind == OP_TENSOR || kind == OP_SCALAR_OR_TENSOR) bytes += bytes_of(args[i].tensor);
    else if (kind == OP_TENSORS && args[i].given)
      bytes += bytes_of_all(args[i].tensors.count, args[i].tensors.list);
  }
  return bytes;
}

// -- events

// The highest figure of memory starts anew, and gets back in `close` what it was.
int64_t profile_open(moon_engine *engine, profile_kind kind, const char *name) {
  moon_profile *profile = engine->profile;
  if (!profile) return -1;
  if (!has_room(profile)) {
    profile->dropped++;
    return -1;
  }
  int64_t number = profile->count++, live = atomic_load(&engine->memory.live);
  profile_event *event = &profile->events[number];
  *event = (profile_event){ .kind = kind, .module = profile_module(engine),
                            .outer = innermost(profile), .below = profile->top, .memory = live };
  strncpy(event->name, name, PROFILE_NAME - 1);
  if (kind != PROFILE_MODULE) event->peak = atomic_exchange(&engine->memory.peak, live);
  event->algorithms[0] = engine->algorithms[0];
  event->algorithms[1] = engine->algorithms[1];
  engine->algorithms[0] = engine->algorithms[1] = NULL;
  profile->top = number;
  event->start = os_clock();
  return number;
}

int64_t profile_open_backward(moon_engine *engine, const tape_node *node) {
  int64_t number = profile_open(engine, PROFILE_BACKWARD, node_name(node));
  if (number < 0) return number;
  profile_event *event = &engine->profile->events[number];
  event->module = node->module;
  if (!(node->op->flags & OP_VIEW))   // now, since the backward may take a gradient over
    event->moved = bytes_of_all(node->result_count, node->grads) +
                   bytes_of_all(node->result_count, node->results) +
                   bytes_of_arguments(node->op->signature, node->args);
  return number;
}

int64_t profile_open_module(moon_engine *engine, uint64_t module, const void *thread) {
  int64_t number = profile_open(engine, PROFILE_MODULE, "");
  if (number < 0) return number;
  engine->profile->events[number].module = module;
  engine->profile->events[number].thread = thread;
  return number;
}

static void swap_algorithms(moon_engine *engine, profile_event *event) {
  for (int i = 0; i < 2; i++) {
    const char *outer = event->algorithms[i];
    event->algorithms[i] = engine->algorithms[i];
    engine->algorithms[i] = outer;
  }
}

void profile_close(moon_engine *engine, int64_t number) {
  moon_profile *profile = engine->profile;
  if (!profile || number < 0) return;
  profile_event *event = &profile->events[number];
  event->stop = os_clock();
  swap_algorithms(engine, event);
  int64_t before = event->memory;
  if (event->kind == PROFILE_MODULE) {
    event->memory = atomic_load(&engine->memory.live) - before;
  } else {
    int64_t highest = atomic_load(&engine->memory.peak);
    event->memory = highest - before;
    if (event->peak > highest) atomic_store(&engine->memory.peak, event->peak);
  }
  while (profile->top >= 0 && profile->events[profile->top].stop != 0)
    profile->top = profile->events[profile->top].below;
}

// -- calls and backwards

static int64_t bytes_of_results(const op_call *call) {
  const op_value *target = &call->args[0];
  int64_t bytes = bytes_of_all(call->op->signature->result_count, call->results) +
                  bytes_of_all(call->list_count, call->list);
  if (call->inplace && !call->results[0])   // a list is written into
    bytes += bytes_of_all(target->tensors.count, target->tensors.list);
  return bytes;
}

void profile_close_call(int64_t event, const op_call *call) {
  profile_close(call->engine, event);
  if (event < 0 || (call->op->flags & OP_VIEW)) return;
  call->engine->profile->events[event].moved =
      bytes_of_arguments(call->op->signature, call->args) + bytes_of_results(call);
}

void profile_close_backward(moon_engine *engine, int64_t event, const tape_node *node,
                            moon_tensor **out) {
  profile_close(engine, event);
  if (event < 0 || (node->op->flags & OP_VIEW)) return;
  engine->profile->events[event].moved += bytes_of_all(node->input_count, out);
}
