// Reading whole files, gzip or plain.
//
// The compressed file is mapped; the result grows in tensors that the engine is charged for, so a
// decompression bomb ends at the memory budget. A gzip file ends with its uncompressed size modulo
// 2^32, which is a good first guess but only a guess: it is capped by what deflate can expand to.
// Cost: one pass, and one copy where the guess was wrong.
#include "io/gzip.h"

#include <string.h>

#include <zlib.h>

#include "base/os.h"

enum { GZIP_WINDOW = 16 + MAX_WBITS, DEFLATE_BEST_RATIO = 1032, SMALLEST_GUESS = 4096 };
static const size_t LARGEST_STEP = 1u << 30;   // what zlib's 32-bit counters take at once

typedef struct inflation {
  moon_engine *engine;
  const char *path;
  const unsigned char *input;
  size_t input_bytes, input_used;
  moon_tensor *output;               // capacity; its first `output_used` bytes are filled
  size_t output_used;
  z_stream stream;
} inflation;

static moon_status new_bytes(moon_engine *engine, size_t count, moon_tensor **tensor) {
  int64_t shape[1] = { (int64_t)count };
  return tensor_new(engine, device_cpu(), MOON_U8, 1, shape, tensor);
}

static size_t capacity_of(const moon_tensor *tensor) { return (size_t)tensor->shape[0]; }

// Moves the filled bytes into a tensor of `capacity` bytes.
static moon_status resize_output(inflation *work, size_t capacity) {
  moon_tensor *resized;
  MOON_TRY(new_bytes(work->engine, capacity, &resized));
  if (work->output_used > 0) {
    memcpy(tensor_data(resized), tensor_data(work->output), work->output_used);
  }
  tensor_release(work->output);
  work->output = resized;
  return MOON_OK;
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static bool is_gzip(const unsigned char *bytes, size_t count) {
  return count >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

static size_t guess_size(const unsigned char *bytes, size_t count) {
  if (count < 4) return SMALLEST_GUESS;
  const unsigned char *tail = bytes + count - 4;
  size_t claimed = (size_t)tail[0] | (size_t)tail[1] << 8 | (size_t)tail[2] << 16 |
                   (size_t)tail[3] << 24;
  size_t possible = count < SIZE_MAX / DEFLATE_BEST_RATIO ? count * DEFLATE_BEST_RATIO : SIZE_MAX;
  return smaller(claimed, possible) + 1;   // one more, so that the end is seen without growing
}

// One call of inflate with as much input and output as its counters take.
static int step(inflation *work) {
  z_stream *stream = &work->stream;
  size_t room = smaller(capacity_of(work->output) - work->output_used, LARGEST_STEP);
  size_t left = smaller(work->input_bytes - work->input_used, LARGEST_STEP);
  stream->next_in = (unsigned char *)(uintptr_t)(work->input + work->input_used);
  stream->avail_in = (uInt)left;
  stream->next_out = (unsigned char *)tensor_data(work->output) + work->output_used;
  stream->avail_out = (uInt)room;
  int code = inflate(stream, Z_NO_FLUSH);
  work->input_used += left - stream->avail_in;
  work->output_used += room - stream->avail_out;
  return code;
}

static moon_status fail_at(const inflation *work, const char *what) {
  return moon_fail(MOON_BAD_FILE, "%s: byte %zu: %s", work->path, work->input_used, what);
}

// Inflates one member of the file, from its header to its checksum.
static moon_status inflate_member(inflation *work) {
  for (;;) {
    if (work->output_used == capacity_of(work->output)) {
      MOON_TRY(resize_output(work, 2 * work->output_used + SMALLEST_GUESS));
    }
    size_t before_in = work->input_used, before_out = work->output_used;
    int code = step(work);
    if (code == Z_STREAM_END) return MOON_OK;
    if (code == Z_MEM_ERROR) {
      return moon_fail(MOON_OUT_OF_MEMORY, "%s: no memory to decompress it", work->path);
    }
    if (code != Z_OK && code != Z_BUF_ERROR) {
      return moon_fail(MOON_BAD_FILE, "%s: byte %zu: corrupt gzip data (%s)", work->path,
                       work->input_used, work->stream.msg ? work->stream.msg : "no reason given");
    }
    bool stuck = work->input_used == before_in && work->output_used == before_out;
    if (stuck || (work->input_used == work->input_bytes &&
                  work->output_used < capacity_of(work->output))) {
      return fail_at(work, "the file ends inside its gzip data (truncated?)");
    }
  }
}

// All members, and zeros that pad the file.
static moon_status inflate_members(inflation *work) {
  for (;;) {
    MOON_TRY(inflate_member(work));
    size_t left = work->input_bytes - work->input_used;
    const unsigned char *rest = work->input + work->input_used;
    if (is_gzip(rest, left)) {
      if (inflateReset(&work->stream) != Z_OK) return fail_at(work, "cannot restart zlib");
      continue;
    }
    for (size_t i = 0; i < left; i++) {
      if (rest[i] != 0) return fail_at(work, "what follows the gzip data is no gzip member");
    }
    return MOON_OK;
  }
}

static moon_status inflate_file(inflation *work) {
  MOON_TRY(new_bytes(work->engine, guess_size(work->input, work->input_bytes), &work->output));
  if (inflateInit2(&work->stream, GZIP_WINDOW) != Z_OK) {
    return moon_fail(MOON_OUT_OF_MEMORY, "%s: no memory to decompress it", work->path);
  }
  moon_status status = inflate_members(work);
  inflateEnd(&work->stream);
  MOON_TRY(status);
  // A lying size at the end of the file must not keep memory alive.
  if (work->output_used < capacity_of(work->output) / 2) {
    return resize_output(work, work->output_used);
  }
  return MOON_OK;
}

static moon_status read_compressed(inflation *work, moon_tensor **bytes) {
  moon_status status = inflate_file(work);
  if (status == MOON_OK) {
    int64_t shape[1] = { (int64_t)work->output_used }, strides[1] = { 1 };
    status = tensor_new_view(work->output, 1, shape, strides, 0, bytes);
  }
  tensor_release(work->output);
  return status;
}

static moon_status read_plain(moon_engine *engine, const os_mapping *file, moon_tensor **bytes) {
  moon_tensor *copy;
  MOON_TRY(new_bytes(engine, file->bytes, &copy));
  if (file->bytes > 0) memcpy(tensor_data(copy), file->data, file->bytes);
  *bytes = copy;
  return MOON_OK;
}

moon_status gzip_read(moon_engine *engine, const char *path, moon_tensor **bytes) {
  os_mapping file;
  MOON_TRY(os_map_file(path, &file));
  moon_status status;
  if (is_gzip(file.data, file.bytes)) {
    inflation work = { .engine = engine, .path = path, .input = file.data,
                       .input_bytes = file.bytes };
    status = read_compressed(&work, bytes);
  } else {
    status = read_plain(engine, &file, bytes);
  }
  os_unmap(&file);
  return status;
}
