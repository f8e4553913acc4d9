// The one translation unit that holds stb's code.
//
// stb asks for memory through macros that carry no context, so the arena in use is a variable of
// the calling thread, set for the duration of one call. Every block begins with its size, which
// freeing needs. Input goes through callbacks rather than from memory, because stb reads zeros
// past the end of a memory buffer and would decode a truncated file to grey in silence.
#include "image/stb.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

#include <zlib.h>

#include "base/alloc.h"

// Blocks form a list, so that what stb forgets on its way out of a failure is freed in the end.
typedef struct block {
  struct block *next, **link;        // `link` is what points here
  size_t bytes;                      // without this header
} block;

typedef struct arena {
  moon_engine *engine;
  size_t used, cap;
  bool refused;
  block *blocks;
} arena;

static _Thread_local arena current;

enum { BLOCK_HEADER = 32 };          // sizeof(block) and what keeps the rest aligned
_Static_assert(sizeof(block) <= BLOCK_HEADER, "the header of a block");

static void *arena_allocate(size_t bytes) {
  void *memory = NULL;
  if (bytes > SIZE_MAX - BLOCK_HEADER || bytes + BLOCK_HEADER > current.cap - current.used) {
    current.refused = true;
    (void)!moon_fail(MOON_BAD_FILE, "decoding needs more than %zu bytes, out of proportion to the "
                     "picture", current.cap);
    return NULL;
  }
  if (alloc_bytes(current.engine, bytes + BLOCK_HEADER, &memory) != MOON_OK) {
    current.refused = true;
    return NULL;
  }
  current.used += bytes + BLOCK_HEADER;
  block *made = memory;
  *made = (block){ .next = current.blocks, .link = &current.blocks, .bytes = bytes };
  if (made->next) made->next->link = &made->next;
  current.blocks = made;
  // A progressive JPEG without its first scan leaves coefficients that stb reads unset.
  return memset((char *)memory + BLOCK_HEADER, 0, bytes);
}

static block *block_of(void *memory) { return (block *)(void *)((char *)memory - BLOCK_HEADER); }

static void arena_free(void *memory) {
  if (!memory) return;
  block *freed = block_of(memory);
  *freed->link = freed->next;
  if (freed->next) freed->next->link = freed->link;
  size_t bytes = freed->bytes + BLOCK_HEADER;
  current.used -= bytes;
  alloc_release(current.engine, freed, bytes);
}

static void *arena_resize(void *memory, size_t bytes) {
  void *resized = arena_allocate(bytes);
  if (resized && memory) {
    size_t kept = block_of(memory)->bytes;
    memcpy(resized, memory, kept < bytes ? kept : bytes);
    arena_free(memory);
  }
  return resized;
}

// zlib compresses faster and better than the compressor stb brings.
static unsigned char *arena_deflate(unsigned char *data, int count, int *out_count, int quality) {
  uLongf bytes = compressBound((uLong)count);
  unsigned char *out = arena_allocate(bytes);
  if (!out) return NULL;
  if (compress2(out, &bytes, data, (uLong)count, quality) != Z_OK || bytes > INT_MAX) {
    arena_free(out);
    return NULL;
  }
  *out_count = (int)bytes;
  return out;
}

// stb declares functions that the selection below leaves undefined.
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

#define STBI_MALLOC(bytes) arena_allocate(bytes)
#define STBI_REALLOC(memory, bytes) arena_resize(memory, bytes)
#define STBI_FREE(memory) arena_free(memory)
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_ASSERT(condition) ((void)0)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>

#define STBIW_MALLOC(bytes) arena_allocate(bytes)
#define STBIW_REALLOC(memory, bytes) arena_resize(memory, bytes)
#define STBIW_FREE(memory) arena_free(memory)
#define STBIW_ZLIB_COMPRESS arena_deflate
#define STBI_WRITE_NO_STDIO
#define STBIW_ASSERT(condition) ((void)0)
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

void stb_arena_open(moon_engine *engine, size_t cap) {
  current = (arena){ .engine = engine, .cap = cap };
}

void stb_arena_close(void) {
  while (current.blocks) arena_free((char *)current.blocks + BLOCK_HEADER);
  current = (arena){ .engine = NULL };
}

bool stb_arena_refused(void) { return current.refused; }

static int source_read(void *user, char *data, int wanted) {
  stb_source *source = user;
  size_t left = source->count - source->position;
  size_t count = (size_t)wanted < left ? (size_t)wanted : left;
  if (count == 0 && wanted > 0) source->overran = true;
  memcpy(data, source->bytes + source->position, count);
  source->position += count;
  return (int)count;
}

static void source_skip(void *user, int count) {
  stb_source *source = user;
  size_t left = source->count - source->position;
  if (count < 0) {   // stb rewinds by what it has buffered, never past the start
    size_t back = (size_t)-(int64_t)count;
    source->position -= back < source->position ? back : source->position;
  } else {
    source->position += (size_t)count < left ? (size_t)count : left;
  }
}

static int source_at_end(void *user) {
  const stb_source *source = user;
  return source->position >= source->count;
}

static const stbi_io_callbacks callbacks = { source_read, source_skip, source_at_end };

bool stb_read_header(stb_source *source, stb_picture *picture, const char **reason) {
  picture->pixels = NULL;
  if (stbi_info_from_callbacks(&callbacks, source, &picture->width, &picture->height,
                               &picture->channels)) {
    return true;
  }
  *reason = stbi_failure_reason();
  return false;
}

bool stb_read(stb_source *source, int channels, stb_picture *picture, const char **reason) {
  int in_file = 0;
  picture->pixels = stbi_load_from_callbacks(&callbacks, source, &picture->width, &picture->height,
                                             &in_file, channels);
  picture->channels = channels ? channels : in_file;
  if (picture->pixels) return true;
  *reason = stbi_failure_reason();
  return false;
}

void stb_picture_free(stb_picture *picture) {
  arena_free(picture->pixels);
  picture->pixels = NULL;
}

unsigned char *stb_write_png(const unsigned char *pixels, int width, int height, int channels,
                             size_t *count) {
  int bytes = 0;
  unsigned char *png = stbi_write_png_to_mem(pixels, width * channels, width, height, channels,
                                             &bytes);
  *count = (size_t)bytes;
  return png;
}

void stb_bytes_free(unsigned char *bytes) { arena_free(bytes); }
