// Accounts, budget and fault injection round the blocks of blocks.h. A request is charged first,
// with one atomic addition, and undone if it does not fit: no lock is held on the way, and none
// when the engine's collect hook runs. Sanitizer builds take every block from the C heap.
#include "base/alloc.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/blocks.h"
#include "base/os.h"
#include "base/threads.h"

// -- fault injection

static atomic_int faults_armed;              // threads that wait for a fault: usually none
static _Thread_local long fault_countdown;

void alloc_fail_after(long n) {
  if (n < 0) n = 0;
  if ((fault_countdown > 0) != (n > 0)) atomic_fetch_add(&faults_armed, n > 0 ? 1 : -1);
  fault_countdown = n;
}

static bool fault_now(void) {
  if (atomic_load_explicit(&faults_armed, memory_order_relaxed) == 0) return false;
  if (fault_countdown == 0 || --fault_countdown > 0) return false;
  atomic_fetch_sub(&faults_armed, 1);
  return true;
}

// -- sentences

enum { SIZE_TEXT = 32 };

static const char *size_text(uint64_t bytes, char text[SIZE_TEXT]) {
  static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
  double value = (double)bytes / 1024;
  int unit = 0;
  // 1023.95 would be printed as 1024.0
  for (; value >= 1023.95 && unit < 5; unit++) value /= 1024;
  if (bytes < 1024) snprintf(text, SIZE_TEXT, "%d bytes", (int)bytes);
  else snprintf(text, SIZE_TEXT, "%.1f %s", value, units[unit]);
  return text;
}

// "1000.0 GiB (1073741824000 bytes)"
static const char *asked_text(uint64_t bytes, char text[2 * SIZE_TEXT]) {
  char size[SIZE_TEXT];
  snprintf(text, 2 * SIZE_TEXT, bytes < 1024 ? "%s" : "%s (%llu bytes)", size_text(bytes, size),
           (unsigned long long)bytes);
  return text;
}

static moon_status fail_over_budget(const moon_engine *engine, size_t bytes, const char *reason) {
  char asked[2 * SIZE_TEXT], live[SIZE_TEXT], budget[SIZE_TEXT];
  int64_t held = atomic_load(&engine->memory.live), allowed = engine->memory.budget;
  return moon_fail(MOON_OUT_OF_MEMORY,
                   "out of memory: asked for %s while %s are live and the budget is %s%s",
                   asked_text(bytes, asked), size_text(held > 0 ? (uint64_t)held : 0, live),
                   size_text(allowed > 0 ? (uint64_t)allowed : 0, budget), reason);
}

// -- the account

// Charges `bytes`, if they fit the budget.
static bool charge(engine_memory *memory, size_t bytes) {
  if (bytes > INT64_MAX / 2) return false;
  int64_t more = (int64_t)bytes;
  int64_t live = atomic_fetch_add_explicit(&memory->live, more, memory_order_relaxed) + more;
  if (live > memory->budget) {
    atomic_fetch_sub_explicit(&memory->live, more, memory_order_relaxed);
    return false;
  }
  int_fast64_t peak = atomic_load_explicit(&memory->peak, memory_order_relaxed);
  while (live > peak &&
         !atomic_compare_exchange_weak_explicit(&memory->peak, &peak, live, memory_order_relaxed,
                                                memory_order_relaxed))
    continue;
  return true;
}

static void discharge(engine_memory *memory, size_t bytes) {
  atomic_fetch_sub_explicit(&memory->live, (int64_t)bytes, memory_order_relaxed);
}

// The charge may have been all that the engine lived by.
static void discharge_last(moon_engine *engine, size_t bytes) {
  int64_t before = atomic_fetch_sub_explicit(&engine->memory.live, (int64_t)bytes,
                                             memory_order_acq_rel);
  if (before == (int64_t)bytes - ENGINE_LEFT) engine_end(engine);
}

// -- blocks

#ifdef MOON_PLAIN_ALLOC

static void *take_block(const engine_memory *memory, size_t bytes) {
  (void)memory;
  return os_aligned_new(BLOCKS_ALIGNMENT, bytes > 0 ? bytes : 1);
}

static void give_block(void *block, size_t bytes) {
  (void)bytes;
  os_aligned_delete(block);
}

static void *take_piece(size_t bytes) { return malloc(bytes); }
static void give_piece(void *piece, size_t bytes) {
  (void)bytes;
  free(piece);
}

size_t alloc_cached_bytes(void) { return 0; }
void alloc_flush_cache(void) {}
void alloc_start(void) {}

#else

static void lock_all(void) {
  blocks_small_lock();
  blocks_large_lock();
}

static void unlock_all(void) {
  blocks_large_unlock();
  blocks_small_unlock();
}

static void guard_fork(void) { os_at_fork(lock_all, unlock_all, unlock_all); }

void alloc_start(void) {
  static int guarded;
  os_once(&guarded, guard_fork);
}

// What the cache may hold beside what this engine has live, so that both fit its budget.
static size_t cache_room(const engine_memory *memory) {
  int64_t room = memory->budget - atomic_load_explicit(&memory->live, memory_order_relaxed);
  return room > 0 ? (size_t)room : 0;
}

static void *take_block(const engine_memory *memory, size_t bytes) {
  if (bytes > BLOCKS_MAX) return NULL;
  int class = blocks_class(bytes > 0 ? bytes : 1);
  if (bytes <= BLOCKS_SMALL_MAX) return blocks_small_take(class);
  return blocks_large_take(class, cache_room(memory));
}

static void give_block(void *block, size_t bytes) {
  int class = blocks_class(bytes > 0 ? bytes : 1);
  if (bytes <= BLOCKS_SMALL_MAX) blocks_small_give(block, class);
  else blocks_large_give(block, class);
}

static void *take_piece(size_t bytes) {
  return bytes <= BLOCKS_SMALL_MAX ? blocks_small_take(blocks_class(bytes)) : malloc(bytes);
}

static void give_piece(void *piece, size_t bytes) {
  if (bytes <= BLOCKS_SMALL_MAX) blocks_small_give(piece, blocks_class(bytes));
  else free(piece);
}

size_t alloc_cached_bytes(void) { return blocks_small_cached() + blocks_large_cached(); }

void alloc_flush_cache(void) {
  blocks_small_flush();
  blocks_large_flush();
}

#endif

// Only where the hook may run, and never within itself.
void alloc_collect(moon_engine *engine) {
  if (engine->collect == NULL || threads_inside() || engine->collecting) return;
  engine->collecting = true;
  engine->collect(engine->collect_context);
  engine->collecting = false;
}

// Charges `bytes` and takes them behind a head; NULL with *charged telling which of the two failed.
static void *charge_and_take(engine_memory *memory, size_t head, size_t bytes, bool *charged) {
  *charged = charge(memory, bytes);
  if (!*charged) return NULL;
  void *block = take_block(memory, head + bytes);
  if (block == NULL) discharge(memory, bytes);
  return block;
}

static moon_status take_at_budget(moon_engine *engine, size_t head, size_t bytes, void **block) {
  bool charged;
  if (engine->memory.budget < 0 || bytes > (uint64_t)engine->memory.budget)
    return fail_over_budget(engine, bytes, "");   // nothing that is freed could help
  alloc_flush_cache();
  alloc_collect(engine);
  *block = charge_and_take(&engine->memory, head, bytes, &charged);
  if (*block != NULL) return MOON_OK;
  return fail_over_budget(engine, bytes, charged ? "; the system refused" : "");
}

moon_status alloc_bytes_behind(moon_engine *engine, size_t head, size_t bytes, void **block) {
  engine_memory *memory = &engine->memory;
  if (fault_now()) return fail_over_budget(engine, bytes, " (a failure made by a spec)");
  bool charged;
  void *taken = charge_and_take(memory, head, bytes, &charged);
  if (taken == NULL) MOON_TRY(take_at_budget(engine, head, bytes, &taken));
  // Two threads at once may lose a count between them; an exact one costs 7 ns for each block.
  int64_t since = atomic_load_explicit(&memory->since_collect, memory_order_relaxed);
  atomic_store_explicit(&memory->since_collect, since + (int64_t)bytes + ALLOC_BLOCK_COST,
                        memory_order_relaxed);
  *block = taken;
  return MOON_OK;
}

void alloc_release_behind(moon_engine *engine, void *block, size_t head, size_t bytes) {
  give_block(block, head + bytes);
  discharge_last(engine, bytes);
}

moon_status alloc_bytes(moon_engine *engine, size_t bytes, void **block) {
  return alloc_bytes_behind(engine, 0, bytes, block);
}

void alloc_release(moon_engine *engine, void *block, size_t bytes) {
  if (block != NULL) alloc_release_behind(engine, block, 0, bytes);
}

// -- small structs

static moon_status fail_struct(size_t bytes, const char *reason) {
  char asked[2 * SIZE_TEXT];
  return moon_fail(MOON_OUT_OF_MEMORY, "out of memory: asked for %s%s", asked_text(bytes, asked),
                   reason);
}

moon_status alloc_piece(size_t bytes, void **piece) {
  if (fault_now()) return fail_struct(bytes, " (a failure made by a spec)");
  void *made = take_piece(bytes);
  if (made == NULL) {
    alloc_flush_cache();
    made = take_piece(bytes);
  }
  if (made == NULL) return fail_struct(bytes, "; the system refused");
  *piece = made;
  return MOON_OK;
}

void alloc_piece_release(void *piece, size_t bytes) { give_piece(piece, bytes); }

// The C heap, whose own per-thread cache is hard to beat where few are made at once.
//
// glibc's calloc goes past its per-thread cache, malloc does not: with the release 17 ns, not 34.
static void *take_zeroed(size_t bytes) {
  enum { CLEARED_BY_HAND = 1024 };
  if (bytes > CLEARED_BY_HAND) return calloc(1, bytes);
  void *made = malloc(bytes);
#if defined(__GNUC__)
  __asm__("" : "+r"(made));   // or the compiler makes it a calloc again
#endif
  return made == NULL ? NULL : memset(made, 0, bytes);
}

moon_status alloc_new(size_t bytes, void **block) {
  if (fault_now()) return fail_struct(bytes, " (a failure made by a spec)");
  for (int attempt = 0; attempt < 2; attempt++) {
    void *made = take_zeroed(bytes > 0 ? bytes : 1);
    if (made != NULL) {
      *block = made;
      return MOON_OK;
    }
    alloc_flush_cache();
  }
  return fail_struct(bytes, "; the system refused");
}

void alloc_delete(void *block) { free(block); }

moon_status alloc_product(size_t a, size_t b, size_t *product) {
  size_t made;
  if (__builtin_mul_overflow(a, b, &made))
    return moon_fail(MOON_OUT_OF_MEMORY,
                     "out of memory: asked for %zu times %zu bytes, more than can be addressed", a,
                     b);
  *product = made;
  return MOON_OK;
}
