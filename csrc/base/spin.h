// A lock of one word for a few instructions' work, open at zero, so that a static one needs no
// start and the child of a fork may simply set it to zero. Who finds it taken spins a little and
// then lets others run: the holder may be off the processor.
#ifndef MOON_BASE_SPIN_H
#define MOON_BASE_SPIN_H

#include <stdatomic.h>

#include "base/os.h"

typedef struct spin_lock { atomic_int taken; } spin_lock;

static inline void spin_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static inline void spin_acquire(spin_lock *lock) {
  enum { SPINS = 100 };
  while (atomic_exchange_explicit(&lock->taken, 1, memory_order_acquire) != 0) {
    for (int i = 0; atomic_load_explicit(&lock->taken, memory_order_relaxed) != 0; i++) {
      if (i < SPINS) spin_pause();
      else os_yield();
    }
  }
}

static inline void spin_release(spin_lock *lock) {
  atomic_store_explicit(&lock->taken, 0, memory_order_release);
}

#endif
