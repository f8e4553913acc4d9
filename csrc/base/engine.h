// An engine: what one Lua state (or one C host) owns of moonlet besides tensors. Settings, the
// random stream, the memory account and its budget. Two engines in one process share nothing that
// either can change; tensors may cross, and a storage goes on being charged to the engine that
// made it. So an engine lives as long as references to it or bytes charged to it: a storage needs
// no reference beside its charge, which would be two atomic operations more.
#ifndef MOON_BASE_ENGINE_H
#define MOON_BASE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

// The memory account. Atomic, because a storage may be released by another thread.
typedef struct engine_memory {
  // Bytes held by live storages, on the CPU, as asked for; less ENGINE_LEFT once the last reference
  // to the engine has gone.
  atomic_int_fast64_t live;
  atomic_int_fast64_t peak;        // highest `live` so far
  // Bytes allocated since the last collection, each block counted with ALLOC_BLOCK_COST for the
  // records round it, or a million tensors of one element would look like nothing.
  atomic_int_fast64_t since_collect;
  int64_t survived;                // `live` and `elsewhere` right after the last collection
  int64_t budget;                  // bytes this engine may hold live
  atomic_int_fast64_t elsewhere;   // bytes held by live storages on other devices
} engine_memory;

// Who looks at calls, bits of engine->observers. Nobody does for most, which costs one test a call.
typedef enum engine_observer {
  OBSERVE_FINITE = 1,    // anomaly mode: results and gradients are searched for NaN and infinity
  OBSERVE_RESULTS = 2,   // with it: the next call is the user's own, whose results are searched
  OBSERVE_TIME = 4,      // a profile is being taken
  OBSERVE_RANGES = 8,    // engine->range is told of calls and backwards
} engine_observer;

typedef struct moon_engine {
  atomic_int references;
  uint64_t id;                     // unique in the process; a tape belongs to one id
  engine_memory memory;
  int max_threads;                 // cap for this engine; 0 = as wide as the machine
  uint64_t seed;                   // Philox key
  uint64_t draws;                  // Philox counter: next unused block of the stream
  bool grad_enabled;
  bool touched;                    // a call with grad_enabled off read a tensor that requires one
  unsigned observers;              // engine_observer bits
  struct moon_profile *profile;    // with OBSERVE_TIME: what is being written (autograd/profile.h)
  // With OBSERVE_RANGES: told the name of what begins, and NULL when it ends; set once, and stays.
  void (*range)(const char *name);
  const char *algorithms[2];       // what kernels chose lately, the last first (engine_chose)
  bool recomputing;                // a checkpoint runs again what has run: running statistics stay
  bool indices_known;              // of the running composition: in range, no check need be awaited
  bool precise;                    // forbid transforms that lose accuracy
  // Bytes of scratch that one kernel should stay within: it cuts its work by shape and this, and
  // takes what it must where even the smallest piece needs more.
  int64_t workspace_limit;
  char conv_engine[24];            // preferred for convolutions wherever it fits; "": the best
  const struct op_autocast *autocast;   // mixed precision (autograd/autocast.h); NULL: off
  const struct moon_device *default_device;   // of new tensors; NULL = the CPU
  double multiply_adds;            // that kernels of the device "meta" would have done so far
  uint64_t next_node;              // order of tape nodes
  int uninterrupted;               // above 0: calls of this engine do not hear the interrupt
  // Asked once when the budget is full, with no lock held and never from inside a task of the
  // pool (it may run Lua's collector, which belongs to one thread); frees what it can and says
  // whether it did. The request is tried once more either way. Not asked again while it runs.
  bool (*collect)(void *context);
  // Writes where the running call stands in the user's program, "" if that is unknown.
  void (*where)(void *context, char *text, size_t size);
  void *collect_context;
  bool collecting;
  // What a device that was opened at run time keeps for this engine (streams, spare memory), and
  // who ends that.
  void *extension;
  void (*end_extension)(void *extension);
} moon_engine;

// Makes an engine with the default budget (90 % of the smaller of RAM and the cgroup's limit),
// seed 0, gradients on, and enters the worker pool (threads_enter). Owned: give back with
// engine_release. An engine that ends leaves the pool, the last engine flushes the cache.
MOON_MUST_CHECK moon_status engine_new(moon_engine **engine);
moon_engine *engine_retain(moon_engine *engine);
void engine_release(moon_engine *engine);

// For base/alloc.c, which gives bytes back: the last ones of an engine without references end it.
#define ENGINE_LEFT (INT64_C(1) << 62)
void engine_end(moon_engine *engine);

// Takes `count` 128-bit blocks of the engine's random stream: returns the first counter.
uint64_t engine_take_draws(moon_engine *engine, uint64_t count);

// Turns OBSERVE_RESULTS on or off; gives what it was.
static inline bool engine_observe_results(moon_engine *engine, bool on) {
  bool before = engine->observers & OBSERVE_RESULTS;
  engine->observers &= ~(unsigned)OBSERVE_RESULTS;
  if (on) engine->observers |= OBSERVE_RESULTS;
  return before;
}

// Begins a range where they are wanted; tells whether engine_end_range is due.
static inline bool engine_begin_range(const moon_engine *engine, const char *name) {
  if (!(engine->observers & OBSERVE_RANGES)) return false;
  engine->range(name);
  return true;
}

static inline void engine_end_range(const moon_engine *engine, bool begun) {
  if (begun) engine->range(NULL);
}

// A kernel that has several ways to calculate tells which one it took: a text that lives for ever.
// Profiles read it.
static inline void engine_chose(moon_engine *engine, const char *algorithm) {
  engine->algorithms[1] = engine->algorithms[0];
  engine->algorithms[0] = algorithm;
}

// The process-wide interrupt flag (a signal handler sets it, operators and loops read it).
// Setting and reading are safe in a signal handler.
// Readers turn it into an error with engine_check_interrupt, which leaves the flag set.
void engine_interrupt(void);
void engine_clear_interrupt(void);
bool engine_interrupted(void);
// An engine in an uninterrupted stretch does not hear it; NULL always does.
MOON_MUST_CHECK moon_status engine_check_interrupt(const moon_engine *engine);

#endif
