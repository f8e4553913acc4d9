// Decoding PNG, JPEG and BMP through stb_image.
//
// In front of stb: the format is told by its first bytes, the chunks of a PNG and the tables of a
// JPEG are checked, and the claimed size is held against the bytes that are there, so that a tiny
// file cannot ask for gigabytes. Behind it: a read past the end of the input is an error, and rows
// of interleaved samples become planes.
#include "image/image.h"

#include <inttypes.h>
#include <string.h>

#include "base/os.h"
#include "image/jpeg_check.h"
#include "image/png_check.h"
#include "image/stb.h"

typedef struct decoding {
  moon_engine *engine;
  const char *name;
  const unsigned char *bytes;
  size_t count;
  int channels;
} decoding;

// Most pixels a byte of each format can stand for. JPEG: one bit for a block of 64, doubled for
// caution. BMP: one bit a pixel; stb reads no run lengths. PNG is judged by png_check.
enum { JPEG_PIXELS_A_BYTE = 1024, BMP_PIXELS_A_BYTE = 8, FREE_PIXELS = 65536 };
enum { HEADER_ARENA = 1 << 20 };
enum { BMP_HEADER_SIZE = 14, BMP_COMPRESSION = 30 };   // offsets of these fields

static moon_status check_bmp(const decoding *in) {
  const unsigned char *bytes = in->bytes;
  if (in->count < 2 || bytes[0] != 'B' || bytes[1] != 'M') {
    return moon_fail(MOON_BAD_FILE, "%s: byte 0: neither PNG, JPEG nor BMP, which are the picture "
                     "formats moonlet reads", in->name);
  }
  bool long_header = in->count > BMP_COMPRESSION && bytes[BMP_HEADER_SIZE] >= 40;
  unsigned compression = long_header ? bytes[BMP_COMPRESSION] : 0;
  if (compression != 1 && compression != 2) return MOON_OK;
  return moon_fail(MOON_BAD_FILE, "%s: byte %d: a BMP compressed by run lengths, which moonlet "
                   "does not read", in->name, BMP_COMPRESSION);
}

// Memory stb may hold at once: the input regrouped, the rows at 16 bits, their filtered copy, the
// result; for JPEG coefficients and planes. Generous, but in proportion.
static size_t arena_cap(const decoding *in, const stb_picture *picture) {
  uint64_t pixels = (uint64_t)picture->width * (uint64_t)picture->height;
  uint64_t cap = HEADER_ARENA + 4 * (uint64_t)in->count + 48 * pixels;
  return cap > SIZE_MAX ? SIZE_MAX : (size_t)cap;
}

static moon_status fail_stb(const decoding *in, const stb_source *source, const char *reason) {
  if (stb_arena_refused()) return moon_fail_in(MOON_OUT_OF_MEMORY, "%s", in->name);
  const char *format = png_is(in->bytes, in->count) ? "PNG"
                       : jpeg_is(in->bytes, in->count) ? "JPEG" : "BMP";
  return moon_fail(MOON_BAD_FILE, "%s: near byte %zu of %zu: a %s that is corrupt or of a kind "
                   "moonlet does not read (%s)", in->name, source->position, in->count, format,
                   reason ? reason : "no reason given");
}

static moon_status check_format(const decoding *in, int *pixels_a_byte) {
  if (png_is(in->bytes, in->count)) {
    *pixels_a_byte = 0;
    return png_check(in->name, in->bytes, in->count);
  }
  if (jpeg_is(in->bytes, in->count)) {
    *pixels_a_byte = JPEG_PIXELS_A_BYTE;
    return jpeg_check(in->name, in->bytes, in->count);
  }
  *pixels_a_byte = BMP_PIXELS_A_BYTE;
  return check_bmp(in);
}

static moon_status read_header(const decoding *in, int pixels_a_byte, stb_picture *picture) {
  stb_source source = { .bytes = in->bytes, .count = in->count };
  const char *reason = NULL;
  stb_arena_open(in->engine, HEADER_ARENA);
  moon_status status = MOON_OK;
  if (!stb_read_header(&source, picture, &reason)) status = fail_stb(in, &source, reason);
  stb_arena_close();
  MOON_TRY(status);
  if (picture->width <= 0 || picture->height <= 0) {
    return moon_fail(MOON_BAD_FILE, "%s: its header claims %dx%d pixels", in->name, picture->width,
                     picture->height);
  }
  uint64_t pixels = (uint64_t)picture->width * (uint64_t)picture->height;
  if (pixels_a_byte && pixels > FREE_PIXELS + (uint64_t)in->count * (uint64_t)pixels_a_byte) {
    return moon_fail(MOON_BAD_FILE, "%s: its header claims %dx%d pixels, more than its %zu bytes "
                     "can hold", in->name, picture->width, picture->height, in->count);
  }
  return MOON_OK;
}

// (h, w, c) interleaved to (c, h, w).
static void split_planes(const stb_picture *picture, unsigned char *planes) {
  size_t pixels = (size_t)picture->width * (size_t)picture->height;
  size_t channels = (size_t)picture->channels;
  for (size_t c = 0; c < channels; c++) {
    const unsigned char *from = picture->pixels + c;
    unsigned char *to = planes + c * pixels;
    for (size_t i = 0; i < pixels; i++) to[i] = from[i * channels];
  }
}

static moon_status read_pixels(const decoding *in, stb_picture *picture, moon_tensor **image) {
  stb_source source = { .bytes = in->bytes, .count = in->count };
  const char *reason = NULL;
  if (!stb_read(&source, in->channels, picture, &reason)) return fail_stb(in, &source, reason);
  moon_status status = MOON_OK;
  if (source.overran) {
    status = moon_fail(MOON_BAD_FILE, "%s: byte %zu: the file ends inside the picture (truncated?)",
                       in->name, in->count);
  }
  int64_t shape[3] = { picture->channels, picture->height, picture->width };
  if (status == MOON_OK) status = tensor_new(in->engine, device_cpu(), MOON_U8, 3, shape, image);
  if (status == MOON_OK) split_planes(picture, tensor_data(*image));
  stb_picture_free(picture);
  return status;
}

moon_status image_decode(moon_engine *engine, const char *name, const void *bytes, size_t count,
                         int channels, moon_tensor **image) {
  decoding in = { engine, name, bytes, count, channels };
  if (channels != 0 && channels != 1 && channels != 3 && channels != 4) {
    return moon_fail(MOON_BAD_ARGUMENT, "%s: channels must be 1, 3 or 4, not %d", name, channels);
  }
  int pixels_a_byte;
  stb_picture picture;
  MOON_TRY(check_format(&in, &pixels_a_byte));
  MOON_TRY(read_header(&in, pixels_a_byte, &picture));
  stb_arena_open(engine, arena_cap(&in, &picture));
  moon_status status = read_pixels(&in, &picture, image);
  stb_arena_close();
  return status;
}

moon_status image_decode_file(moon_engine *engine, const char *path, int channels,
                              moon_tensor **image) {
  os_mapping file;
  MOON_TRY(os_map_file(path, &file));
  moon_status status = image_decode(engine, path, file.data, file.bytes, channels, image);
  os_unmap(&file);
  return status;
}
