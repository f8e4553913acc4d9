// stb_image and stb_image_write behind a border: their allocations are counted, capped and charged
// to an engine, and reading past the end of the input is noticed. Inside csrc/image only.
#ifndef MOON_IMAGE_STB_H
#define MOON_IMAGE_STB_H

#include <stdbool.h>
#include <stddef.h>

#include "base/engine.h"

typedef struct stb_source {
  const unsigned char *bytes;
  size_t count, position;
  bool overran;          // more bytes were asked for than there are
} stb_source;

typedef struct stb_picture {
  int width, height;
  int channels;          // of `pixels`: rows of interleaved samples
  unsigned char *pixels; // owned: stb_picture_free
} stb_picture;

// Opens and closes the arena that stb allocates from on this thread: at most `cap` bytes at once.
// Closing frees what is left. Arenas do not nest.
void stb_arena_open(moon_engine *engine, size_t cap);
void stb_arena_close(void);
bool stb_arena_refused(void);        // an allocation was refused; moon_error_text has the sentence

// Size and channels as the header says. False: `*reason` is stb's word, borrowed.
bool stb_read_header(stb_source *source, stb_picture *picture, const char **reason);
// `channels` 0: as in the file.
bool stb_read(stb_source *source, int channels, stb_picture *picture, const char **reason);
void stb_picture_free(stb_picture *picture);

// PNG bytes of interleaved 8-bit samples; NULL when memory ran out. Owned: stb_bytes_free.
unsigned char *stb_write_png(const unsigned char *pixels, int width, int height, int channels,
                             size_t *count);
void stb_bytes_free(unsigned char *bytes);

#endif
