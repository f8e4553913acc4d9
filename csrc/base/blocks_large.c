// Middle and large blocks and the cache of released ones. A released block is kept under its
// class (last in, first out: its pages are warm) and in one list by age, out of which blocks go
// when the cache holds more than it may. The records lie in the blocks themselves.
//
// How much may be kept: live and cached blocks together stay within 9/8 of the most that was live
// in the last WINDOW_SECONDS or two, or within CACHE_FLOOR above what is live now. What a step of
// training releases, the next step finds; what a program no longer does is not paid for long.
// Where a class has no spare and no more may be kept, the large spare nearest in size is resized,
// so that its pages are used where other sizes are wanted in other parts of a step.
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
  size_t whole = peak + peak / 8;
  size_t limit = whole > live ? whole - live : 0;
  return limit > CACHE_FLOOR ? limit : CACHE_FLOOR;
}

// The large spare nearest in size to a class that has none; NULL where there is none at all.
static spare *nearest(int class) {
  const int least = blocks_class(BLOCKS_LARGE_MIN);
  for (int off = 1; off < BLOCKS_CLASSES; off++) {
    if (class + off < BLOCKS_CLASSES && cache.first[class + off] != NULL)
      return cache.first[class + off];
    if (class - off >= least && cache.first[class - off] != NULL) return cache.first[class - off];
  }
  return NULL;
}

// -- for alloc.c

// What may serve for a block, found under the lock.
typedef struct supply {
  spare *same;     // of its class
  spare *other;    // to be resized
  int class;       // of that
  spare *old;      // to be discarded before fresh memory is fetched
} supply;

static supply look(int class, size_t cache_room) {
  supply s = { 0 };
  const size_t bytes = blocks_size(class);
  spin_acquire(&cache.lock);
  s.same = cache.first[class];
  if (s.same != NULL) {
    take_out(s.same);
    count_live(cache.live + bytes);
  } else {
    size_t limit = cache_limit(cache.live + bytes);
    if (limit > cache_room) limit = cache_room;
    if (cache.cached > limit && bytes >= BLOCKS_LARGE_MIN) s.other = nearest(class);
    if (s.other != NULL) {
      s.class = s.other->class;
      take_out(s.other);
    }
    s.old = shrink(limit);
  }
  spin_release(&cache.lock);
  return s;
}

static void *resize(spare *other, int from, int class) {
  void *block = os_pages_resize(other, blocks_size(from), blocks_size(class));
  if (block == NULL) discard(other, from);
  return block;
}

void *blocks_large_take(int class, size_t cache_room) {
  supply s = look(class, cache_room);
  if (s.same != NULL) return s.same;
  discard_list(s.old);
  void *block = s.other != NULL ? resize(s.other, s.class, class) : NULL;
  if (block == NULL) block = fetch(class);
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
