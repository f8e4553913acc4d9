// Small blocks: cells of slabs. A slab is 64 KiB of one class, aligned to its size, so that the
// address of a cell leads to its slab. Each class has a list of slabs with room; a slab that gets
// full leaves it, one that gets empty goes to a short list of spare slabs for any class, or back
// to the C heap. Taking and giving is a lock, a list operation and a count: about 20 ns.
#include "base/blocks.h"

#include <assert.h>

#include "base/os.h"
#include "base/spin.h"

enum {
  SLAB_BYTES = 64 << 10,
  // Left free at the end: with room for the heap's own header, slabs lie without gaps.
  SLAB_TAIL = 64,
  SPARE_SLABS = 64,   // 4 MiB
};

typedef struct cell { struct cell *next; } cell;

typedef struct slab {
  struct slab *next, *previous;   // in its class's list of slabs with room, or the spares
  cell *free;                     // given back and not taken again
  int carved;                     // cells handed out at least once; the rest was never touched
  int used, capacity, class;
} slab;

typedef struct slab_class {
  spin_lock lock;
  slab *roomy;
  size_t slabs, used;             // slabs it has, cells in use
  char padding[64 - sizeof(spin_lock) - sizeof(slab *) - 2 * sizeof(size_t)];
} slab_class;

static slab_class classes[BLOCKS_SMALL_CLASSES];
static struct { spin_lock lock; slab *list; int count; } spares;   // locked after a class

static int capacity_of(int class) {
  return (int)((SLAB_BYTES - SLAB_TAIL - BLOCKS_ALIGNMENT) / blocks_size(class));
}

static slab *slab_of(void *block) {
  return (slab *)((char *)block - ((uintptr_t)block & (SLAB_BYTES - 1)));
}

static void link_roomy(slab_class *owner, slab *s) {
  s->previous = NULL;
  s->next = owner->roomy;
  if (s->next != NULL) s->next->previous = s;
  owner->roomy = s;
}

static void unlink_roomy(slab_class *owner, slab *s) {
  if (s->previous != NULL) s->previous->next = s->next;
  else owner->roomy = s->next;
  if (s->next != NULL) s->next->previous = s->previous;
}

static slab *slab_new(int class) {
  spin_acquire(&spares.lock);
  slab *s = spares.list;
  if (s != NULL) {
    spares.list = s->next;
    spares.count--;
  }
  spin_release(&spares.lock);
  if (s == NULL) s = os_aligned_new(SLAB_BYTES, SLAB_BYTES - SLAB_TAIL);
  if (s != NULL) *s = (slab){ .capacity = capacity_of(class), .class = class };
  return s;
}

static void slab_delete(slab *s) {
  spin_acquire(&spares.lock);
  bool keep = spares.count < SPARE_SLABS;
  if (keep) {
    s->next = spares.list;
    spares.list = s;
    spares.count++;
  }
  spin_release(&spares.lock);
  if (!keep) os_aligned_delete(s);
}

// A cell of a slab with room; the class is locked.
static void *take_cell(slab_class *owner, slab *s, int class) {
  cell *found = s->free;
  if (found != NULL) s->free = found->next;
  else found = (cell *)((char *)s + BLOCKS_ALIGNMENT + (size_t)s->carved++ * blocks_size(class));
  if (++s->used == s->capacity) unlink_roomy(owner, s);
  owner->used++;
  return found;
}

// The system is asked with no lock held.
static void *take_from_new_slab(slab_class *owner, int class) {
  slab *s = slab_new(class);
  if (s == NULL) return NULL;
  spin_acquire(&owner->lock);
  link_roomy(owner, s);
  owner->slabs++;
  void *block = take_cell(owner, s, class);
  spin_release(&owner->lock);
  return block;
}

void *blocks_small_take(int class) {
  slab_class *owner = &classes[class];
  spin_acquire(&owner->lock);
  slab *s = owner->roomy;
  void *block = s == NULL ? NULL : take_cell(owner, s, class);
  spin_release(&owner->lock);
  return block != NULL ? block : take_from_new_slab(owner, class);
}

void blocks_small_give(void *block, int class) {
  slab_class *owner = &classes[class];
  slab *s = slab_of(block), *empty = NULL;
  cell *given = block;
  assert(s->class == class);   // or it is released with another size than it was taken with
  spin_acquire(&owner->lock);
  given->next = s->free;
  s->free = given;
  owner->used--;
  if (s->used-- == s->capacity) link_roomy(owner, s);
  // The last slab with room stays, or a loop on its edge would fetch and return it for ever.
  if (s->used == 0 && (s->next != NULL || s->previous != NULL)) {
    unlink_roomy(owner, s);
    owner->slabs--;
    empty = s;
  }
  spin_release(&owner->lock);
  if (empty != NULL) slab_delete(empty);
}

size_t blocks_small_cached(void) {
  size_t cached = 0;
  for (int i = 0; i < BLOCKS_SMALL_CLASSES; i++) {
    spin_acquire(&classes[i].lock);
    cached += classes[i].slabs * SLAB_BYTES - classes[i].used * blocks_size(i);
    spin_release(&classes[i].lock);
  }
  spin_acquire(&spares.lock);
  cached += (size_t)spares.count * SLAB_BYTES;
  spin_release(&spares.lock);
  return cached;
}

// Takes the empty slabs of a class out of its list, as a list.
static slab *take_empty(slab_class *owner) {
  slab *taken = NULL;
  spin_acquire(&owner->lock);
  for (slab *s = owner->roomy, *next; s != NULL; s = next) {
    next = s->next;
    if (s->used > 0) continue;
    unlink_roomy(owner, s);
    owner->slabs--;
    s->next = taken;
    taken = s;
  }
  spin_release(&owner->lock);
  return taken;
}

static void delete_list(slab *list) {
  for (slab *next; list != NULL; list = next) {
    next = list->next;
    os_aligned_delete(list);
  }
}

void blocks_small_flush(void) {
  for (int i = 0; i < BLOCKS_SMALL_CLASSES; i++) delete_list(take_empty(&classes[i]));
  spin_acquire(&spares.lock);
  slab *list = spares.list;
  spares.list = NULL;
  spares.count = 0;
  spin_release(&spares.lock);
  delete_list(list);
}

void blocks_small_lock(void) {
  for (int i = 0; i < BLOCKS_SMALL_CLASSES; i++) spin_acquire(&classes[i].lock);
  spin_acquire(&spares.lock);
}

void blocks_small_unlock(void) {
  spin_release(&spares.lock);
  for (int i = 0; i < BLOCKS_SMALL_CLASSES; i++) spin_release(&classes[i].lock);
}
