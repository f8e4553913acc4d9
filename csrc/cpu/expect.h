// Lines of memory asked for before they are written. A store to memory that is in no cache reads
// its line first, and the processor looks fewer of those ahead than of lines that are read: loops
// that write more than they read gain a third and more. Nothing beyond the array is touched.
#ifndef MOON_CPU_EXPECT_H
#define MOON_CPU_EXPECT_H

enum { EXPECT_LINE = 64, EXPECT_AHEAD = 2048 };   // bytes

// `place` is being written to, and what lies EXPECT_AHEAD behind it soon.
static inline void expect_write(const void *place) {
  const char *ahead = (const char *)place + EXPECT_AHEAD;
#if defined(__AVX2__)
  __asm__ volatile("prefetchw %0" : : "m"(*ahead));   // without -mprfchw the builtin only reads
#else
  __builtin_prefetch(ahead, 1);
#endif
}

#endif
