// Memory straight from the system. Large blocks start on a huge page and are advised to be made
// of them: first touch of fresh memory costs a third then.
#define _GNU_SOURCE

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/os.h"

enum { HUGE_PAGE = 2 << 20 };

static size_t whole_pages(size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  return (bytes + page - 1) & ~(page - 1);
}

static void *map(size_t bytes) {
  void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

// A mapping that starts on a huge page, by cutting it out of a larger one.
static void *map_aligned(size_t bytes) {
  char *wide = map(bytes + HUGE_PAGE);
  if (wide == NULL) return NULL;
  size_t before = (size_t)(-(uintptr_t)wide & (HUGE_PAGE - 1)), after = HUGE_PAGE - before;
  if (before > 0) munmap(wide, before);
  if (after > 0) munmap(wide + before + bytes, after);
  return wide + before;
}

void *os_pages_new(size_t bytes) {
  if (bytes == 0 || bytes > SIZE_MAX / 2) return NULL;
  bytes = whole_pages(bytes);
  // Newer kernels place large mappings on a huge page by themselves.
  void *pages = map(bytes);
  if (pages != NULL && ((uintptr_t)pages & (HUGE_PAGE - 1)) != 0) {
    munmap(pages, bytes);
    pages = map_aligned(bytes);
  }
#ifdef MADV_HUGEPAGE
  if (pages != NULL) madvise(pages, bytes, MADV_HUGEPAGE);   // advice; a refusal costs speed only
#endif
  return pages;
}

void *os_pages_resize(void *pages, size_t old, size_t bytes) {
#ifdef MREMAP_FIXED
  void *place = os_pages_new(bytes);
  if (place == NULL) return NULL;
  bytes = whole_pages(bytes);
  if (mremap(pages, whole_pages(old), bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place)
    return place;
  munmap(place, bytes);
#else
  (void)pages, (void)old, (void)bytes;
#endif
  return NULL;
}

void os_pages_delete(void *pages, size_t bytes) {
  if (pages != NULL) munmap(pages, whole_pages(bytes));
}

void *os_aligned_new(size_t alignment, size_t bytes) {
  void *block;
  return posix_memalign(&block, alignment, bytes) == 0 ? block : NULL;
}

void os_aligned_delete(void *block) { free(block); }
