// csrc/base/alloc.h: accounts, budget, cache, faults, several threads, fork.
#define _GNU_SOURCE

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/blocks.h"
#include "base/engine.h"
#include "base/os.h"

#include "base_check.h"

#ifdef MOON_PLAIN_ALLOC
enum { PLAIN = 1 };   // every block comes from the C heap; nothing is ever cached
#else
enum { PLAIN = 0 };
#endif

static moon_engine *engine;

static int64_t live(void) { return (int64_t)atomic_load(&engine->memory.live); }

static void *take(size_t bytes) {
  void *block = NULL;
  EXPECT_OK(alloc_bytes(engine, bytes, &block));
  EXPECT(block != NULL && (uintptr_t)block % 64 == 0);
  return block;
}

static void classes_are_tight(void) {
  for (size_t bytes = 1; bytes < 200000; bytes++) {
    int class = blocks_class(bytes);
    size_t size = blocks_size(class);
    EXPECT(size >= bytes && (bytes <= 512 ? size - bytes < 64 : size - bytes <= bytes / 8));
    EXPECT(class == 0 || blocks_size(class - 1) < bytes);
    EXPECT(size % 64 == 0);
  }
  EXPECT(blocks_class(BLOCKS_SMALL_MAX) == BLOCKS_SMALL_CLASSES - 1);
  EXPECT(blocks_class(BLOCKS_MAX) == BLOCKS_CLASSES - 1);
  EXPECT(blocks_size(BLOCKS_CLASSES - 1) == BLOCKS_MAX);
  EXPECT(blocks_size(blocks_class(10000000)) == 10 << 20);
}

static void bytes_are_counted(void) {
  int64_t before = live(), since = (int64_t)atomic_load(&engine->memory.since_collect);
  void *a = take(1000), *b = take(5 << 20), *c = take(0);
  EXPECT(live() == before + 1000 + (5 << 20));
  EXPECT(atomic_load(&engine->memory.peak) >= live());
  int64_t counted = (int64_t)atomic_load(&engine->memory.since_collect) - since;
  EXPECT(counted == 1000 + (5 << 20) + 3 * ALLOC_BLOCK_COST);
  alloc_release(engine, a, 1000);
  alloc_release(engine, b, 5 << 20);
  alloc_release(engine, c, 0);
  alloc_release(engine, NULL, 0);
  EXPECT(live() == before);
}

static void heads_are_not_counted(void) {
  int64_t before = live();
  void *block, *empty;
  EXPECT_OK(alloc_bytes_behind(engine, 320, 100, &block));
  EXPECT_OK(alloc_bytes_behind(engine, 320, 0, &empty));
  EXPECT(live() == before + 100 && (uintptr_t)block % 64 == 0);
  memset(block, 1, 420);
  memset(empty, 2, 320);
  alloc_release_behind(engine, block, 320, 100);
  alloc_release_behind(engine, empty, 320, 0);
  EXPECT(live() == before);
}

static void pieces_are_not_counted_and_may_fail(void) {
  static const size_t sizes[] = { 1, 160, 4096, 4097, 100000 };
  int64_t before = live();
  void *pieces[5];
  for (int i = 0; i < 5; i++) {
    EXPECT_OK(alloc_piece(sizes[i], &pieces[i]));
    memset(pieces[i], i, sizes[i]);
  }
  EXPECT(live() == before);
  for (int i = 0; i < 5; i++) {
    EXPECT(((unsigned char *)pieces[i])[sizes[i] - 1] == i);
    alloc_piece_release(pieces[i], sizes[i]);
  }
  alloc_fail_after(1);
  EXPECT_FAIL(alloc_piece(160, &pieces[0]), MOON_OUT_OF_MEMORY,
              "out of memory: asked for 160 bytes (a failure made by a spec)");
}

// Blocks of all sizes live at once do not overlap.
static void blocks_do_not_overlap(void) {
  enum { COUNT = 3000 };
  static unsigned char *blocks[COUNT];
  static size_t sizes[COUNT];
  uint32_t random = 1;
  for (int round = 0; round < 8; round++) {
    for (int i = 0; i < COUNT; i++) {
      if (blocks[i] != NULL) {
        for (size_t k = 0; k < sizes[i]; k += 61) EXPECT(blocks[i][k] == (unsigned char)i);
        alloc_release(engine, blocks[i], sizes[i]);
        blocks[i] = NULL;
      }
      random = random * 1664525u + 1013904223u;
      if (random >> 30 == 0) continue;
      sizes[i] = (random >> 8) % (i % 100 == 0 ? 3u << 20 : i % 10 == 0 ? 100000u : 5000u);
      blocks[i] = take(sizes[i]);
      memset(blocks[i], i, sizes[i]);
    }
  }
  for (int i = 0; i < COUNT; i++) {
    if (blocks[i] != NULL) alloc_release(engine, blocks[i], sizes[i]);
    blocks[i] = NULL;
  }
  EXPECT(live() == 0);
}

// -- budget

static int collected;
static void *held[64];
static bool collect_none(void *context) { return context != NULL && collected++ < 0; }
static bool collect_all(void *context) {
  (void)context;
  collected++;
  void *inner;
  // The hook may allocate; it is not asked again from within itself.
  if (alloc_bytes(engine, 1 << 20, &inner) == MOON_OK) alloc_release(engine, inner, 1 << 20);
  for (int i = 0; i < 64; i++) alloc_release(engine, held[i], 10 << 20);
  memset(held, 0, sizeof held);
  return true;
}

static moon_status fill(int *count) {
  for (*count = 0; *count < 64; (*count)++)
    MOON_TRY(alloc_bytes(engine, 10 << 20, &held[*count]));
  return MOON_OK;
}

static void budget_is_kept_and_left(void) {
  int64_t budget = engine->memory.budget;
  int count;
  engine->memory.budget = 256 << 20;
  engine->collect = collect_none;
  engine->collect_context = &collected;
  collected = 0;
  EXPECT_FAIL(fill(&count), MOON_OUT_OF_MEMORY,
              "out of memory: asked for 10.0 MiB (10485760 bytes) while 250.0 MiB are live and the "
              "budget is 256.0 MiB");
  EXPECT(count == 25 && collected == 1);
  for (int i = 0; i < count; i++) alloc_release(engine, held[i], 10 << 20);
  memset(held, 0, sizeof held);
  EXPECT(live() == 0);
  void *again = take(200 << 20);
  alloc_release(engine, again, 200 << 20);
  engine->collect = NULL;
  engine->memory.budget = budget;
}

static void collecting_makes_room(void) {
  int64_t budget = engine->memory.budget;
  int count;
  engine->memory.budget = 100 << 20;
  engine->collect = collect_all;
  collected = 0;
  EXPECT_OK(fill(&count));   // 64 blocks of 10 MiB: the hook drops the others six times or so
  EXPECT(collected >= 5 && collected <= 7);
  collect_all(NULL);
  EXPECT(live() == 0);
  engine->collect = NULL;
  engine->memory.budget = budget;
}

static void what_can_never_fit_is_refused_at_once(void) {
  int64_t budget = engine->memory.budget;
  void *block = NULL;
  engine->memory.budget = (int64_t)(20.7 * (1 << 30));
  engine->collect = collect_all;
  collected = 0;
  double before = os_clock();
  EXPECT_FAIL(alloc_bytes(engine, (size_t)1000 << 30, &block), MOON_OUT_OF_MEMORY,
              "out of memory: asked for 1000.0 GiB (1073741824000 bytes) while 0 bytes are live "
              "and the budget is 20.7 GiB");
  EXPECT_FAIL(alloc_bytes(engine, SIZE_MAX, &block), MOON_OUT_OF_MEMORY, "asked for 16.0 EiB");
  EXPECT(block == NULL && collected == 0 && live() == 0 && os_clock() - before < 0.5);
  engine->collect = NULL;
  engine->memory.budget = budget;
}

// The budget allows more than there are addresses: the system refuses.
static void system_may_refuse(void) {
  int64_t budget = engine->memory.budget;
  void *block = NULL;
  engine->memory.budget = INT64_MAX;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)   // they abort on such sizes
  EXPECT_FAIL(alloc_bytes(engine, (size_t)1 << 60, &block), MOON_OUT_OF_MEMORY,
              "the system refused");
  EXPECT_FAIL(alloc_bytes(engine, (size_t)200 << 40, &block), MOON_OUT_OF_MEMORY, "200.0 TiB");
#endif
  EXPECT(block == NULL && live() == 0);
  engine->memory.budget = budget;
}

static void products_are_checked(void) {
  size_t product = 7;
  EXPECT_OK(alloc_product(3, 5, &product));
  EXPECT(product == 15);
  EXPECT_OK(alloc_product(SIZE_MAX, 0, &product));
  EXPECT(product == 0);
  EXPECT_FAIL(alloc_product((size_t)1 << 33, (size_t)1 << 31, &product), MOON_OUT_OF_MEMORY,
              "8589934592 times 2147483648");
}

static void structs_are_zero(void) {
  static const size_t sizes[] = { 0, 1, 24, 1000, 1025, 100000 };
  for (int i = 0; i < 6; i++) {
    void *block;
    EXPECT_OK(alloc_new(sizes[i], &block));
    for (size_t k = 0; k < sizes[i]; k++) EXPECT(((unsigned char *)block)[k] == 0);
    memset(block, 1, sizes[i]);   // for the next of its size to find
    alloc_delete(block);
  }
  alloc_delete(NULL);
}

// A sanitizer sees whether it ends too early or not at all.
static void bytes_keep_their_engine(void) {
  moon_engine *own;
  void *a, *b;
  EXPECT_OK(engine_new(&own));
  EXPECT_OK(alloc_bytes(own, 100, &a));
  EXPECT_OK(alloc_bytes(own, 200, &b));
  engine_release(own);
  EXPECT(atomic_load(&own->memory.live) == 300 - ENGINE_LEFT);
  alloc_release(own, a, 100);
  EXPECT(atomic_load(&own->memory.live) == 200 - ENGINE_LEFT);
  alloc_release(own, b, 200);
}

// -- faults

static moon_status scenario(void) {
  moon_engine *own;
  void *a, *b;
  MOON_TRY(engine_new(&own));
  moon_status status = alloc_bytes(own, 100, &a);
  if (status == MOON_OK) {
    status = alloc_bytes(own, 2 << 20, &b);
    if (status == MOON_OK) alloc_release(own, b, 2 << 20);
    alloc_release(own, a, 100);
  }
  if (atomic_load(&own->memory.live) != 0) status = MOON_BAD_STATE;
  engine_release(own);
  return status;
}

static void every_allocation_fails_once(void) {
  for (long n = 1; n <= 3; n++) {
    alloc_fail_after(n);
    EXPECT_FAIL(scenario(), MOON_OUT_OF_MEMORY, "out of memory: asked for ");
    EXPECT_OK(scenario());   // only the n-th failed
  }
  alloc_fail_after(4);
  EXPECT_OK(scenario());
  EXPECT_FAIL(scenario(), MOON_OUT_OF_MEMORY, "a failure made by a spec");   // counting went on
  alloc_fail_after(1);
  alloc_fail_after(0);
  EXPECT_OK(scenario());
}

static atomic_int other_failures;
static void allocate_elsewhere(void *unused) {
  (void)unused;
  for (int i = 0; i < 100; i++) other_failures += scenario() != MOON_OK;
}

static void faults_belong_to_their_thread(void) {
  os_thread *thread;
  other_failures = 0;
  EXPECT_OK(os_thread_start(&thread, 0, allocate_elsewhere, NULL));
  alloc_fail_after(1000000);
  for (int i = 0; i < 100; i++) EXPECT_OK(scenario());
  os_thread_join(thread);
  alloc_fail_after(0);
  EXPECT(other_failures == 0);
}

// -- cache

static size_t resident_mib(void) { return (size_t)(os_resident_bytes() >> 20); }

// Sanitizers' own records and quarantine are no measure of ours.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ROUNDS = 200, RESIDENT_MIB = 100000 };
#else
enum { ROUNDS = 10000, RESIDENT_MIB = 300 };
#endif

static void ten_thousand_large_blocks_stay_small(void) {
  alloc_flush_cache();
  for (int i = 0; i < ROUNDS; i++) {
    size_t bytes = 10000000 + (size_t)(i % 50) * 4096;
    char *block = take(bytes);
    for (size_t k = 0; k < bytes; k += 1 << 16) block[k] = 1;
    alloc_release(engine, block, bytes);
    EXPECT(resident_mib() < RESIDENT_MIB);
  }
  EXPECT(alloc_cached_bytes() <= (size_t)64 << 20);
}

static void a_million_small_blocks_stay_small(void) {
  for (int i = 0; i < 100 * ROUNDS; i++) {
    size_t bytes = (size_t)(i % 1000) * 4 + 4;
    char *block = take(bytes);
    block[bytes - 1] = 1;
    alloc_release(engine, block, bytes);
  }
  EXPECT(resident_mib() < RESIDENT_MIB && alloc_cached_bytes() <= (size_t)64 << 20);
}

// Many small blocks at once, dropped in another order than made: their memory goes back.
static void small_blocks_are_given_back(void) {
  enum { COUNT = 200000 };
  static void *blocks[COUNT];
  alloc_flush_cache();
  for (int i = 0; i < COUNT; i++) blocks[i] = memset(take(1000), 1, 1000);
  for (int i = 0; i < COUNT; i++) {
    int at = (int)((int64_t)i * 7919 % COUNT);
    alloc_release(engine, blocks[at], 1000);
  }
  EXPECT(live() == 0);
  EXPECT(alloc_cached_bytes() <= (size_t)8 << 20);
  alloc_flush_cache();
  EXPECT(alloc_cached_bytes() == 0);
}

static void take_and_give(size_t bytes, int count) {
  void *blocks[64];
  for (int i = 0; i < count; i++) blocks[i] = take(bytes);
  for (int i = 0; i < count; i++) alloc_release(engine, blocks[i], bytes);
}

static void cache_follows_what_was_live(void) {
  alloc_flush_cache();
  EXPECT(alloc_cached_bytes() == 0);
  take_and_give(16 << 20, 50);   // 800 MiB live at once, untouched: what a training step does
  EXPECT(alloc_cached_bytes() <= ((size_t)1000 << 20));
  if (!PLAIN) EXPECT(alloc_cached_bytes() >= ((size_t)800 << 20));
  size_t before = alloc_cached_bytes();
  take_and_give(16 << 20, 50);
  EXPECT(alloc_cached_bytes() == before);   // the same blocks again
  alloc_flush_cache();
  EXPECT(alloc_cached_bytes() == 0);
}

// Blocks of another class are fetched or made of the old ones, within 9/8 of the most live.
static void cache_gives_way_to_other_sizes(void) {
  void *blocks[40];
  size_t most = 0;
  alloc_flush_cache();
  take_and_give(24 << 20, 40);
  for (int i = 0; i < 40; i++) {
    blocks[i] = take(20 << 20);
    size_t both = (size_t)live() + alloc_cached_bytes();
    if (both > most) most = both;
  }
  for (int i = 0; i < 40; i++) alloc_release(engine, blocks[i], 20 << 20);
  if (!PLAIN) EXPECT(most <= (size_t)40 * 24 * 9 / 8 << 20);
  alloc_flush_cache();
}

// Where no more may be kept, a spare of another size is made smaller or larger, with its pages.
static void spares_are_resized(void) {
  enum { MARK = 8 << 20 };
  // More than anything before was, so that two of them may not be kept.
  const size_t sizes[] = { (size_t)1400 << 20, (size_t)1300 << 20, (size_t)1450 << 20 };
  alloc_flush_cache();
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !PLAIN; i++) {
    char *block = take(sizes[i]);
#ifdef __linux__
    if (i > 0) EXPECT(block[MARK] == 42);
#endif
    block[MARK] = 42;
    block[sizes[i] - 1] = 1;
    EXPECT(alloc_cached_bytes() == 0);
    alloc_release(engine, block, sizes[i]);
  }
  alloc_flush_cache();
  EXPECT(alloc_cached_bytes() == 0);
}

// What is live and what is cached fit into the budget together.
static void cache_makes_room_within_the_budget(void) {
  int64_t budget = engine->memory.budget;
  take_and_give(16 << 20, 10);
  engine->memory.budget = 200 << 20;
  void *block = take(101 << 20);
  EXPECT(alloc_cached_bytes() <= (size_t)99 << 20);
  alloc_release(engine, block, 101 << 20);
  engine->memory.budget = budget;
  alloc_flush_cache();
}

// -- threads and fork

static atomic_int wrong;
static atomic_bool stop_hammering;

// Takes and releases blocks of all sizes, each filled with its own mark.
static void hammer(uint32_t random, int rounds) {
  enum { HELD = 32 };
  unsigned char *blocks[HELD] = { NULL };
  size_t sizes[HELD] = { 0 };
  for (int i = 0; i < rounds; i++) {
    random = random * 1664525u + 1013904223u;
    int at = (int)(random >> 27);
    if (blocks[at] != NULL) {
      if (sizes[at] > 0) wrong += blocks[at][0] != at || blocks[at][sizes[at] - 1] != at;
      alloc_release(engine, blocks[at], sizes[at]);
    }
    sizes[at] = (random >> 4) % (i % 50 == 0 ? 2u << 20 : 3000u);
    if (alloc_bytes(engine, sizes[at], (void **)&blocks[at]) != MOON_OK) {
      blocks[at] = NULL;
      wrong++;
    } else if (sizes[at] > 0) {
      blocks[at][0] = blocks[at][sizes[at] - 1] = (unsigned char)at;
    }
  }
  for (int i = 0; i < HELD; i++) alloc_release(engine, blocks[i], sizes[i]);
}

static void hammer_once(void *context) { hammer((uint32_t)(uintptr_t)context, 20000); }

static void hammer_on(void *context) {
  for (uint32_t i = 0; !stop_hammering; i++) hammer((uint32_t)(uintptr_t)context + i, 100);
}

static void threads_share_the_allocator(void) {
  os_thread *threads[4];
  wrong = 0;
  for (int i = 0; i < 4; i++)
    EXPECT_OK(os_thread_start(&threads[i], 0, hammer_once, (void *)(uintptr_t)(i + 1)));
  for (int i = 0; i < 4; i++) os_thread_join(threads[i]);
  EXPECT(wrong == 0 && live() == 0);
}

static void released_elsewhere(void *context) { alloc_release(engine, context, 3000); }

static void a_block_may_be_released_by_another_thread(void) {
  os_thread *thread;
  EXPECT_OK(os_thread_start(&thread, 0, released_elsewhere, take(3000)));
  os_thread_join(thread);
  EXPECT(live() == 0);
}

// Whatever the other threads hold at the moment of the fork, the child can allocate.
static void fork_while_others_allocate(void) {
  os_thread *threads[2];
  stop_hammering = false;
  wrong = 0;
  for (int i = 0; i < 2; i++)
    EXPECT_OK(os_thread_start(&threads[i], 0, hammer_on, (void *)(uintptr_t)(i + 1)));
  int failed = 0;
  for (int i = 0; i < 30; i++) {
    pid_t child = fork();
    if (child == 0) {
      alarm(20);
      wrong = 0;
      hammer(99, 500);
      pid_t grandchild = fork();
      if (grandchild == 0) {
        alarm(20);
        hammer(98, 200);
        _exit(wrong != 0);
      }
      int status = -1;
      waitpid(grandchild, &status, 0);
      _exit(wrong != 0 || status != 0);
    }
    int status = -1;
    hammer(97, 200);
    waitpid(child, &status, 0);
    failed += status != 0;
  }
  stop_hammering = true;
  for (int i = 0; i < 2; i++) os_thread_join(threads[i]);
  EXPECT(failed == 0 && wrong == 0 && live() == 0);
}

static void the_last_engine_flushes(void) {
  take_and_give(16 << 20, 3);
  engine_release(engine);
  EXPECT(alloc_cached_bytes() == 0);
  EXPECT_OK(engine_new(&engine));
}

int main(void) {
  if (engine_new(&engine) != MOON_OK) return 2;
  check("size classes waste at most an eighth", classes_are_tight);
  check("bytes are counted to the engine", bytes_are_counted);
  check("heads of blocks are not counted", heads_are_not_counted);
  check("pieces are not counted and may fail", pieces_are_not_counted_and_may_fail);
  check("blocks do not overlap", blocks_do_not_overlap);
  check("a full budget is an error that can be left", budget_is_kept_and_left);
  check("the collect hook is asked and makes room", collecting_makes_room);
  check("what can never fit is refused at once", what_can_never_fit_is_refused_at_once);
  check("a refusal of the system is an error", system_may_refuse);
  check("products are checked for overflow", products_are_checked);
  check("structs begin as zeros", structs_are_zero);
  check("bytes keep their engine when nobody else does", bytes_keep_their_engine);
  check("each allocation of a scenario fails once", every_allocation_fails_once);
  check("faults belong to their thread", faults_belong_to_their_thread);
  check("ten thousand 10 MB blocks in turn stay small", ten_thousand_large_blocks_stay_small);
  check("a million small blocks in turn stay small", a_million_small_blocks_stay_small);
  check("small blocks are given back to the system", small_blocks_are_given_back);
  check("the cache follows what was live", cache_follows_what_was_live);
  check("the cache gives way to other sizes", cache_gives_way_to_other_sizes);
  check("spares are resized", spares_are_resized);
  check("the cache makes room within the budget", cache_makes_room_within_the_budget);
  check("threads share the allocator", threads_share_the_allocator);
  check("a block may be released by another thread", a_block_may_be_released_by_another_thread);
#ifdef __SANITIZE_ADDRESS__
  // Its heap does not mind fork: a child may find it locked by a thread that it does not have,
  // with or without us.
  puts("ok fork while others allocate is left to the other builds: the address sanitizer's heap "
       "may stay locked in the child");
  (void)fork_while_others_allocate;
#else
  check("fork while others allocate", fork_while_others_allocate);
#endif
  check("the last engine flushes the cache", the_last_engine_flushes);
  engine_release(engine);
  return check_result();
}
