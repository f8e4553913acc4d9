// The walk over a PNG's chunks that stands in front of stb_image, which verifies no checksum and
// believes the header's size. A chunk is length (4 bytes, big-endian), type (4 letters), data,
// CRC-32 of type and data. Cost: one pass over the file.
#include "image/png_check.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include <zlib.h>

static const unsigned char signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };

enum { CHUNK_FRAME = 12, HEADER_BYTES = 13, DEFLATE_BEST_RATIO = 1032 };

typedef struct png_walk {
  const char *name;
  const unsigned char *bytes;
  size_t count, at;            // `at`: where the current chunk begins
  uint32_t length;             // of the current chunk's data
  uint64_t pixel_bytes;        // of all rows, filter bytes included, as the header claims
  uint64_t data_bytes;         // of all IDAT chunks
} png_walk;

bool png_is(const unsigned char *bytes, size_t count) {
  return count >= sizeof signature && memcmp(bytes, signature, sizeof signature) == 0;
}

static uint32_t big_endian(const unsigned char *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static moon_status fail_at(const png_walk *walk, const char *what) {
  return moon_fail(MOON_BAD_FILE, "%s: byte %zu: %s", walk->name, walk->at, what);
}

static bool chunk_is(const png_walk *walk, const char *type) {
  return memcmp(walk->bytes + walk->at + 4, type, 4) == 0;
}

static moon_status check_frame(png_walk *walk) {
  size_t left = walk->count - walk->at;
  if (left < CHUNK_FRAME) {
    return fail_at(walk, "the PNG ends here, before its IEND chunk (truncated?)");
  }
  const unsigned char *chunk = walk->bytes + walk->at;
  walk->length = big_endian(chunk);
  for (int i = 4; i < 8; i++) {
    unsigned char letter = chunk[i] | 0x20;
    if (letter < 'a' || letter > 'z') return fail_at(walk, "a PNG chunk should begin here");
  }
  if (walk->length > left - CHUNK_FRAME) {
    return moon_fail(MOON_BAD_FILE, "%s: byte %zu: the PNG's %.4s chunk should have %" PRIu32
                     " bytes, but the file ends after %zu (truncated?)", walk->name, walk->at,
                     (const char *)chunk + 4, walk->length, left - CHUNK_FRAME);
  }
  uLong crc = crc32(0, chunk + 4, walk->length + 4);
  if (crc != big_endian(chunk + 8 + walk->length)) {
    return moon_fail(MOON_BAD_FILE, "%s: byte %zu: the checksum of the PNG's %.4s chunk is wrong "
                     "(corrupt)", walk->name, walk->at, (const char *)chunk + 4);
  }
  return MOON_OK;
}

static moon_status check_header(png_walk *walk) {
  if (!chunk_is(walk, "IHDR") || walk->length != HEADER_BYTES) {
    return fail_at(walk, "a PNG should begin with an IHDR chunk of 13 bytes");
  }
  const unsigned char *header = walk->bytes + walk->at + 8;
  uint32_t width = big_endian(header), height = big_endian(header + 4);
  static const unsigned char samples[7] = { 1, 0, 3, 1, 2, 0, 4 };   // by colour type
  if (width == 0 || height == 0) return fail_at(walk, "the PNG claims to have no pixels");
  if (header[8] == 0 || header[8] > 16 || header[9] > 6 || samples[header[9]] == 0) {
    return fail_at(walk, "the PNG claims a bit depth or colour type that does not exist");
  }
  uint64_t row = 1 + ((uint64_t)width * header[8] * samples[header[9]] + 7) / 8;
  walk->pixel_bytes = row > UINT64_MAX / height ? UINT64_MAX : row * height;
  return MOON_OK;
}

static moon_status check_proportion(const png_walk *walk) {
  uint64_t possible = (walk->data_bytes + 64) * DEFLATE_BEST_RATIO;
  if (walk->pixel_bytes <= possible) return MOON_OK;
  return moon_fail(MOON_BAD_FILE, "%s: byte 8: the PNG claims %" PRIu64 " bytes of pixels, more "
                   "than its %" PRIu64 " bytes of data can hold", walk->name, walk->pixel_bytes,
                   walk->data_bytes);
}

moon_status png_check(const char *name, const unsigned char *bytes, size_t count) {
  png_walk walk = { .name = name, .bytes = bytes, .count = count, .at = sizeof signature };
  MOON_TRY(check_frame(&walk));
  MOON_TRY(check_header(&walk));
  while (!chunk_is(&walk, "IEND")) {
    walk.at += CHUNK_FRAME + (size_t)walk.length;
    MOON_TRY(check_frame(&walk));
    if (chunk_is(&walk, "IDAT")) walk.data_bytes += walk.length;
  }
  return check_proportion(&walk);
}
