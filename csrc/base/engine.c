// Engines: settings, random stream and memory account of one Lua state or C host, and the
// interrupt flag, which belongs to the process.
#include "base/engine.h"

#include "base/alloc.h"
#include "base/os.h"
#include "base/threads.h"

static atomic_int_fast64_t engines_made;   // also the last id given
static atomic_int engines_alive;
static atomic_bool interrupted;

enum { DEFAULT_WORKSPACE = 256 << 20 };

// 90 % of what the system grants, so that the rest of the process has room too.
static int64_t default_budget(void) {
  uint64_t limit = os_memory_limit();
  if (limit > INT64_MAX) limit = INT64_MAX;
  return (int64_t)(limit / 10 * 9);
}

moon_status engine_new(moon_engine **engine) {
  void *block;
  alloc_start();
  MOON_TRY(alloc_new(sizeof(moon_engine), &block));
  moon_engine *made = block;
  atomic_init(&made->references, 1);
  made->id = (uint64_t)atomic_fetch_add(&engines_made, 1) + 1;
  made->memory.budget = default_budget();
  made->workspace_limit = DEFAULT_WORKSPACE;
  made->grad_enabled = true;
  atomic_fetch_add(&engines_alive, 1);
  threads_enter();
  *engine = made;
  return MOON_OK;
}

moon_engine *engine_retain(moon_engine *engine) {
  atomic_fetch_add_explicit(&engine->references, 1, memory_order_relaxed);
  return engine;
}

// Nobody charges an engine without references, so that of this and the last discharge exactly one
// finds the other done.
void engine_release(moon_engine *engine) {
  if (engine == NULL) return;
  if (atomic_fetch_sub_explicit(&engine->references, 1, memory_order_acq_rel) != 1) return;
  if (atomic_fetch_sub(&engine->memory.live, ENGINE_LEFT) == 0) engine_end(engine);
}

void engine_end(moon_engine *engine) {
  if (engine->end_extension) engine->end_extension(engine->extension);
  alloc_delete(engine);
  threads_leave();
  if (atomic_fetch_sub(&engines_alive, 1) == 1) alloc_flush_cache();
}

uint64_t engine_take_draws(moon_engine *engine, uint64_t count) {
  uint64_t first = engine->draws;
  engine->draws += count;
  return first;
}

void engine_interrupt(void) { atomic_store_explicit(&interrupted, true, memory_order_relaxed); }

void engine_clear_interrupt(void) {
  atomic_store_explicit(&interrupted, false, memory_order_relaxed);
}

bool engine_interrupted(void) { return atomic_load_explicit(&interrupted, memory_order_relaxed); }

moon_status engine_check_interrupt(const moon_engine *engine) {
  if (engine_interrupted() && (engine == NULL || engine->uninterrupted == 0))
    return moon_fail(MOON_INTERRUPTED, "interrupted");
  return MOON_OK;
}
