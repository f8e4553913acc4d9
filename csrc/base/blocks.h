// The blocks behind alloc_bytes, without accounts: cut to size classes and reused by the whole
// process. Three sources:
//   small    to 4 KiB: cells of 64 KiB slabs, one lock a class (blocks_small.c)
//   middle   to 1 MiB: from the C heap  } kept after release for the next of their class, oldest
//   large    above: from the system     } out first (blocks_large.c)
// Classes have eight steps to each power of two, so a block is at most 1/8 larger than asked for
// (below 512 bytes: multiples of 64).
#ifndef MOON_BASE_BLOCKS_H
#define MOON_BASE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  BLOCKS_ALIGNMENT = 64,
  BLOCKS_SMALL_MAX = 4 << 10,
  BLOCKS_LARGE_MIN = 1 << 20,
  BLOCKS_SMALL_CLASSES = 32,     // 64 ... 512 by 64, then 8 to each doubling
  BLOCKS_CLASSES = 8 + 8 * 39,   // to 2^48 bytes
};
#define BLOCKS_MAX ((size_t)1 << 48)

// The class of a block of `bytes`, 1 to BLOCKS_MAX, and the size of a class's blocks.
static inline int blocks_class(size_t bytes) {
  if (bytes <= 512) return (int)((bytes - 1) / 64);
  int log = 63 - __builtin_clzll((unsigned long long)(bytes - 1));
  return 8 + 8 * (log - 9) + (int)(((bytes - 1) >> (log - 3)) & 7);
}
static inline size_t blocks_size(int class) {
  if (class < 8) return 64 * ((size_t)class + 1);
  return ((size_t)(class & 7) + 9) << (class / 8 + 5);
}

// Small: NULL when the system refuses. Released with the class they were taken with.
void *blocks_small_take(int class);
void blocks_small_give(void *block, int class);
size_t blocks_small_cached(void);    // free bytes in slabs
void blocks_small_flush(void);       // gives back the slabs with nothing in them
void blocks_small_lock(void);        // all locks, in a fixed order: round fork
void blocks_small_unlock(void);

// Middle and large. `cache_room` bounds what may stay cached when fresh memory must be fetched.
void *blocks_large_take(int class, size_t cache_room);
void blocks_large_give(void *block, int class);
size_t blocks_large_cached(void);
void blocks_large_flush(void);
void blocks_large_lock(void);
void blocks_large_unlock(void);

#endif
