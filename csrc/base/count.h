// Counting references. Who holds the last one is alone: nobody else can make a new one, so that a
// count of 1 needs no atomic subtraction, which takes as long as twenty plain ones.
#ifndef MOON_BASE_COUNT_H
#define MOON_BASE_COUNT_H

#include <stdatomic.h>
#include <stdbool.h>

// Gives a reference back; true when it was the last.
static inline bool count_drop(atomic_int *references) {
  if (atomic_load_explicit(references, memory_order_acquire) == 1) return true;
  return atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel) == 1;
}

#endif
