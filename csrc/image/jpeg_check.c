// The walk over a JPEG's segments that stands in front of stb_image.
//
// stb_image up to 2.28 writes past its tables when a Huffman table (DHT segment) lists more than
// 256 symbols; so no such table may reach it. The walk sees every marker stb can see: between
// segments and inside compressed data it looks at each 0xff that a marker's byte follows, and it
// steps over a segment by its length exactly as stb does (stb refuses a segment that it does not
// use up to the byte). Cost: one pass over the file.
#include "image/jpeg_check.h"

enum jpeg_marker {
  MARKER_DHT = 0xc4, MARKER_RESTART_FIRST = 0xd0, MARKER_SOI = 0xd8, MARKER_EOI = 0xd9,
  MARKER_TEM = 0x01, MARKER_FILL = 0xff,
};
enum { LARGEST_TABLE = 256, TABLE_FRAME = 17 };

typedef struct jpeg_walk {
  const char *name;
  const unsigned char *bytes;
  size_t count;
} jpeg_walk;

bool jpeg_is(const unsigned char *bytes, size_t count) {
  return count >= 3 && bytes[0] == 0xff && bytes[1] == MARKER_SOI && bytes[2] == 0xff;
}

// Past the end stb reads zeros.
static unsigned byte_at(const jpeg_walk *walk, size_t at) {
  return at < walk->count ? walk->bytes[at] : 0;
}

// `length` bytes of tables from `at`: a byte of kind, 16 counts, the symbols.
static moon_status check_tables(const jpeg_walk *walk, size_t at, long length) {
  while (length > 0) {
    long symbols = 0;
    for (size_t i = 1; i < TABLE_FRAME; i++) symbols += (long)byte_at(walk, at + i);
    if (symbols > LARGEST_TABLE) {
      return moon_fail(MOON_BAD_FILE, "%s: byte %zu: a JPEG's Huffman table should have at most "
                       "256 symbols, not %ld (corrupt)", walk->name, at, symbols);
    }
    length -= TABLE_FRAME + symbols;
    at += TABLE_FRAME + (size_t)symbols;
  }
  return MOON_OK;
}

static bool stands_alone(unsigned marker) {
  return marker == 0 || marker == MARKER_TEM || marker == MARKER_FILL ||
         (marker >= MARKER_RESTART_FIRST && marker <= MARKER_SOI);
}

// The segment whose length lies at `at`; `*at` moves behind it.
static moon_status check_segment(const jpeg_walk *walk, unsigned marker, size_t *at) {
  size_t length = byte_at(walk, *at) << 8 | byte_at(walk, *at + 1);
  if (length < 2) {
    return moon_fail(MOON_BAD_FILE, "%s: byte %zu: a JPEG's segment should be at least 2 bytes "
                     "long, not %zu (truncated or corrupt)", walk->name, *at, length);
  }
  if (marker == MARKER_DHT) MOON_TRY(check_tables(walk, *at + 2, (long)length - 2));
  if (length > walk->count - *at) {
    return moon_fail(MOON_BAD_FILE, "%s: byte %zu: a JPEG's segment should be %zu bytes long, but "
                     "the file ends after %zu (truncated?)", walk->name, *at, length,
                     walk->count - *at);
  }
  *at += length;
  return MOON_OK;
}

moon_status jpeg_check(const char *name, const unsigned char *bytes, size_t count) {
  jpeg_walk walk = { name, bytes, count };
  size_t at = 2;   // behind the start marker
  while (at + 1 < count) {
    if (bytes[at] != 0xff) {
      at++;
      continue;
    }
    unsigned marker = bytes[at + 1];
    if (marker == MARKER_EOI) return MOON_OK;
    if (stands_alone(marker)) {
      at += marker == MARKER_FILL ? 1 : 2;   // after a fill byte, the next may begin a marker
      continue;
    }
    at += 2;
    MOON_TRY(check_segment(&walk, marker, &at));
  }
  return MOON_OK;   // without an end marker; stb notices where it matters
}
