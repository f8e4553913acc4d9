// Middle and large blocks and the cache of released ones. A released block is kept under its
// class (last in, first out: its pages are warm) and in one list by age, out of which blocks go
// when the cache holds more than it may. The records lie in the blocks themselves.
//
// How much may be kept: live and cached blocks together stay within 3/2 of the most that was live
// in the last WINDOW_SECONDS or two, or within CACHE_FLOOR above what is live now. What a step of
// training releases, the next step finds; what a program no longer does is not paid for long.
#include "base/blocks.h"

#include "base/os.h"
#include "base/spin.h"

enum { CACHE_FLOOR = 64 << 20, CALLS_PER_LOOK = 16 };
#define WINDOW_SECONDS 10.0

typedef struct spare {
  struct spare *newer, *older;       // by age, all classes
  struct spare *next, *previous;     // of the same class, latest first
  int class;
} spare;

static struct {
  spin_lock lock;
  spare *newest, *oldest;
  spare *first[BLOCKS_CLASSES];
  size_t live, cached;               // bytes, as classes round them
  size_t peak, peak_before;          // most live in this window and in the one before
  double window_end;
  unsigned calls;
} cache;

static void *fetch(int class) {
  size_t bytes = blocks_size(class);
  return bytes < BLOCKS_LARGE_MIN ? os_aligned_new(BLOCKS_ALIGNMENT, bytes) : os_pages_new(bytes);
}

static void discard(void *block, int class) {
  size_t bytes = blocks_size(class);
  if (bytes < BLOCKS_LARGE_MIN) os_aligned_delete(block);
  else os_pages_delete(block, bytes);
}

// -- the lists; the cache is locked

static void keep(void *block, int class) {
  spare *s = block;
  *s = (spare){ .older = cache.newest, .next = cache.first[class], .class = class };
  if (s->older != NULL) s->older->newer = s;
  else cache.oldest = s;
  if (s->next != NULL) s->next->previous = s;
  cache.newest = cache.first[class] = s;
  cache.cached += blocks_size(class);
}

static void take_out(spare *s) {
  if (s->newer != NULL) s->newer->older = s->older;
  else cache.newest = s->older;
  if (s->older != NULL) s->older->newer = s->newer;
  else cache.oldest = s->newer;
  if (s->previous != NULL) s->previous->next = s->next;
  else cache.first[s->class] = s->next;
  if (s->next != NULL) s->next->previous = s->previous;
  cache.cached -= blocks_size(s->class);
}

// Takes the oldest blocks out until at most `room` bytes are cached; gives them as a list, to be
// discarded once the lock is open.
static spare *shrink(size_t room) {
  spare *list = NULL;
  while (cache.cached > room) {
    spare *s = cache.oldest;
    take_out(s);
    s->next = list;
    list = s;
  }
  return list;
}

static void discard_list(spare *list) {
  for (spare *next; list != NULL; list = next) {
    next = list->next;
    discard(list, list->class);
  }
}

// -- how much may be kept; the cache is locked

static void count_live(size_t live) {
  cache.live = live;
  if (live > cache.peak) cache.peak = live;
  if (++cache.calls % CALLS_PER_LOOK != 0) return;
  double now = os_clock();
  if (now < cache.window_end) return;
  cache.peak_before = now < cache.window_end + WINDOW_SECONDS ? cache.peak : live;
  cache.peak = live;
  cache.window_end = now + WINDOW_SECONDS;
}

static size_t cache_limit(size_t live) {
  size_t peak = cache.peak > cache.peak_before ? cache.peak : cache.peak_before;
  size_t whole = peak + peak / 2;
  size_t limit = whole > live ? whole - live : 0;
  return limit > CACHE_FLOOR ? limit : CACHE_FLOOR;
}

// -- for alloc.c

// A cached block of the class, or NULL and in *old what must go before fresh memory is fetched.
static void *take_cached(int class, size_t cache_room, spare **old) {
  spin_acquire(&cache.lock);
  spare *found = cache.first[class];
  if (found != NULL) {
    take_out(found);
    count_live(cache.live + blocks_size(class));
  } else {
    size_t limit = cache_limit(cache.live + blocks_size(class));
    *old = shrink(limit < cache_room ? limit : cache_room);
  }
  spin_release(&cache.lock);
  return found;
}

void *blocks_large_take(int class, size_t cache_room) {
  spare *old = NULL;
  void *block = take_cached(class, cache_room, &old);
  if (block != NULL) return block;
  discard_list(old);
  block = fetch(class);
  if (block == NULL) return NULL;
  spin_acquire(&cache.lock);
  count_live(cache.live + blocks_size(class));
  spin_release(&cache.lock);
  return block;
}

void blocks_large_give(void *block, int class) {
  spin_acquire(&cache.lock);
  count_live(cache.live - blocks_size(class));
  keep(block, class);
  spare *old = shrink(cache_limit(cache.live));
  spin_release(&cache.lock);
  discard_list(old);
}

size_t blocks_large_cached(void) {
  spin_acquire(&cache.lock);
  size_t cached = cache.cached;
  spin_release(&cache.lock);
  return cached;
}

void blocks_large_flush(void) {
  spin_acquire(&cache.lock);
  spare *old = shrink(0);
  spin_release(&cache.lock);
  discard_list(old);
}

void blocks_large_lock(void) { spin_acquire(&cache.lock); }
void blocks_large_unlock(void) { spin_release(&cache.lock); }
