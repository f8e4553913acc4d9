// What a kernel makes of an array once and may use again: weights packed in panels, or transformed.
// Such a block is kept beside the storage of the array, so that inference makes it once, and is
// good for one version of the bytes: after a write to them it is dropped and made anew.
//
// Who calls a kernel says whether its blocks may be kept: array.derived is NULL where they may not
// (as in training, where weights change at every step and would lie in memory twice). A kernel does
// not ask: derived_open finds the block, or has it made, and derived_close ends its use.
// Thread-safe. A kept block is charged to the engine that made it.
#ifndef MOON_DEVICE_DERIVED_H
#define MOON_DEVICE_DERIVED_H

#include <stddef.h>

#include "base/engine.h"
#include "device/array.h"

// Which block of an array: what made it, an address of the maker's own (of its instruction set
// too, where the block depends on that), and the numbers that the block depends on.
enum { DERIVED_NUMBERS = 4 };
typedef struct derived_kind {
  const void *maker;
  int64_t numbers[DERIVED_NUMBERS];
  size_t bytes;
} derived_kind;

// Fills `block`, of kind->bytes, which nobody else sees yet.
typedef moon_status (*derived_make)(moon_engine *engine, void *context, void *block);

typedef struct derived_hold {
  void *data;                     // to be read only; 64-byte aligned
  size_t bytes;
  struct derived_block *kept;     // NULL: scratch of this call
} derived_hold;

// Close after success only; a zeroed hold may be closed too.
MOON_MUST_CHECK moon_status derived_open(moon_engine *engine, const device_array *array,
                                         const derived_kind *kind, derived_make make,
                                         void *context, derived_hold *hold);
void derived_close(moon_engine *engine, derived_hold *hold);

// The blocks kept beside one storage. Deleting leaves those that are held until they are closed.
typedef struct derived_set derived_set;
MOON_MUST_CHECK moon_status derived_set_new(derived_set **set);
void derived_set_clear(derived_set *set);
void derived_set_delete(derived_set *set);

#endif
