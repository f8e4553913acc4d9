// Blocks derived from arrays: a short list beside each storage, searched under a lock. Blocks are
// made outside of it; where two calls make the same at once, the first one's is kept.
#include "device/derived.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"

// A storage has few users with forms of their own: directions, engines, image sizes.
enum { MOST_BLOCKS = 4 };

typedef struct derived_block {
  atomic_int references;
  moon_engine *engine;            // charged; retained
  void *data;
  derived_kind kind;
  device_array array;             // what it was made of
} derived_block;

struct derived_set {
  os_mutex *lock;
  int count;
  derived_block *blocks[MOST_BLOCKS];   // the oldest first
};

// -- blocks

static void block_release(derived_block *block) {
  if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1) return;
  alloc_release(block->engine, block->data, block->kind.bytes);
  engine_release(block->engine);
  alloc_delete(block);
}

static moon_status block_new(moon_engine *engine, const device_array *array,
                             const derived_kind *kind, derived_block **block) {
  derived_block *made;
  MOON_TRY(alloc_new(sizeof *made, (void **)&made));
  moon_status status = alloc_bytes(engine, kind->bytes, &made->data);
  if (status != MOON_OK) {
    alloc_delete(made);
    return status;
  }
  atomic_init(&made->references, 1);
  made->engine = engine_retain(engine);
  made->kind = *kind;
  made->array = *array;
  *block = made;
  return MOON_OK;
}

static bool same_array(const device_array *a, const device_array *b) {
  size_t dims = (size_t)a->ndim * sizeof *a->shape;
  return a->data == b->data && a->dtype == b->dtype && a->ndim == b->ndim &&
         memcmp(a->shape, b->shape, dims) == 0 && memcmp(a->strides, b->strides, dims) == 0;
}

static bool is_wanted(const derived_block *block, const device_array *array,
                      const derived_kind *kind) {
  return block->kind.maker == kind->maker && block->kind.bytes == kind->bytes &&
         memcmp(block->kind.numbers, kind->numbers, sizeof kind->numbers) == 0 &&
         same_array(&block->array, array);
}

// -- sets

moon_status derived_set_new(derived_set **set) {
  derived_set *made;
  MOON_TRY(alloc_new(sizeof *made, (void **)&made));
  moon_status status = os_mutex_new(&made->lock);
  if (status != MOON_OK) {
    alloc_delete(made);
    return status;
  }
  *set = made;
  return MOON_OK;
}

static void drop(derived_set *set, int index) {
  block_release(set->blocks[index]);
  set->count--;
  for (int i = index; i < set->count; i++) set->blocks[i] = set->blocks[i + 1];
}

void derived_set_clear(derived_set *set) {
  os_mutex_lock(set->lock);
  while (set->count > 0) drop(set, set->count - 1);
  os_mutex_unlock(set->lock);
}

void derived_set_delete(derived_set *set) {
  if (!set) return;
  derived_set_clear(set);
  os_mutex_delete(set->lock);
  alloc_delete(set);
}

// The block, retained, or NULL; those of other versions go. With the lock held.
static derived_block *find(derived_set *set, const device_array *array, const derived_kind *kind) {
  for (int i = set->count - 1; i >= 0; i--)
    if (set->blocks[i]->array.version != array->version) drop(set, i);
  for (int i = 0; i < set->count; i++) {
    if (!is_wanted(set->blocks[i], array, kind)) continue;
    atomic_fetch_add_explicit(&set->blocks[i]->references, 1, memory_order_relaxed);
    return set->blocks[i];
  }
  return NULL;
}

static derived_block *look(derived_set *set, const device_array *array, const derived_kind *kind) {
  os_mutex_lock(set->lock);
  derived_block *found = find(set, array, kind);
  os_mutex_unlock(set->lock);
  return found;
}

// Keeps `made`, or gives the one that somebody else kept in the meantime. Retained for the caller.
static derived_block *keep(derived_set *set, derived_block *made) {
  os_mutex_lock(set->lock);
  derived_block *found = find(set, &made->array, &made->kind);
  if (!found) {
    if (set->count == MOST_BLOCKS) drop(set, 0);
    set->blocks[set->count++] = made;
    atomic_fetch_add_explicit(&made->references, 1, memory_order_relaxed);
  }
  os_mutex_unlock(set->lock);
  if (!found) return made;
  block_release(made);
  return found;
}

// -- use

static moon_status open_scratch(moon_engine *engine, const derived_kind *kind, derived_make make,
                                void *context, derived_hold *hold) {
  void *data;
  MOON_TRY(alloc_bytes(engine, kind->bytes, &data));
  moon_status status = make(engine, context, data);
  if (status != MOON_OK) {
    alloc_release(engine, data, kind->bytes);
    return status;
  }
  *hold = (derived_hold){ .data = data, .bytes = kind->bytes };
  return MOON_OK;
}

moon_status derived_open(moon_engine *engine, const device_array *array, const derived_kind *kind,
                         derived_make make, void *context, derived_hold *hold) {
  if (!array->derived) return open_scratch(engine, kind, make, context, hold);
  derived_block *block = look(array->derived, array, kind);
  if (!block) {
    MOON_TRY(block_new(engine, array, kind, &block));
    moon_status status = make(engine, context, block->data);
    if (status != MOON_OK) {
      block_release(block);
      return status;
    }
    block = keep(array->derived, block);
  }
  *hold = (derived_hold){ .data = block->data, .bytes = kind->bytes, .kept = block };
  return MOON_OK;
}

void derived_close(moon_engine *engine, derived_hold *hold) {
  if (hold->kept) block_release(hold->kept);
  else if (hold->data) alloc_release(engine, hold->data, hold->bytes);
  *hold = (derived_hold){ 0 };
}
