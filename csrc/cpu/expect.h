// Lines of memory asked for before they are needed. A store to memory that is in no cache reads its
// line first, and the processor looks fewer of those ahead than of lines that are read: loops that
// write more than they read gain a third and more. Short runs, far from each other, it does not
// foresee at all. Nothing beyond the array is touched.
#ifndef MOON_CPU_EXPECT_H
#define MOON_CPU_EXPECT_H

#include <stdint.h>

enum { EXPECT_LINE = 64, EXPECT_AHEAD = 2048 };   // bytes

// The line of `place` will be written to.
static inline void expect_write_at(const void *place) {
#if defined(__AVX2__)
  // without -mprfchw the builtin only reads
  __asm__ volatile("prefetchw %0" : : "m"(*(const char *)place));
#else
  __builtin_prefetch(place, 1);
#endif
}

// `place` is being written to, and what lies EXPECT_AHEAD behind it soon.
static inline void expect_write(const void *place) {
  expect_write_at((const char *)place + EXPECT_AHEAD);
}

// The line of `place` will be read, but not at once: it goes to the second cache.
static inline void expect_read_at(const void *place) { __builtin_prefetch(place, 0, 2); }

// A run of elements will be read soon.
static inline void expect_read_run(const void *place, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += EXPECT_LINE)
    __builtin_prefetch((const char *)place + at, 0, 3);
}

// `place` is being read, and what lies twice EXPECT_AHEAD behind it soon: for loops that calculate
// so much that the processor does not look that far.
static inline void expect_read(const void *place) {
  __builtin_prefetch((const char *)place + 2 * EXPECT_AHEAD, 0, 3);
}

#endif
