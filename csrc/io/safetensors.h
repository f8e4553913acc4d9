// safetensors: named tensors in one file, as data and never code. Layout: 8 bytes little-endian
// length of the header, the header (JSON: name -> dtype, shape, offsets; "__metadata__" ->
// strings), the bytes of all tensors without holes. Reading maps the file and copies nothing; a
// tensor keeps the mapping alive. Writing is atomic.
#ifndef MOON_IO_SAFETENSORS_H
#define MOON_IO_SAFETENSORS_H

#include "tensor/tensor.h"

typedef struct safetensors_entry {
  const char *name;
  moon_tensor *tensor;
} safetensors_entry;

typedef struct safetensors_note {   // one string of the metadata
  const char *key, *value;
} safetensors_note;

// What a file held; everything in it belongs to it. Entries and notes are sorted by name.
typedef struct safetensors_file {
  size_t entry_count, note_count;
  safetensors_entry *entries;
  safetensors_note *notes;
  void *owned;                      // the strings
} safetensors_file;

// MOON_BAD_FILE with file, offset and what was expected where anything is not as it must be.
MOON_MUST_CHECK moon_status safetensors_read(moon_engine *engine, const char *path,
                                             safetensors_file **file);
void safetensors_free(safetensors_file *file);   // NULL is fine; retained tensors live on

// Writes `path` whole or not at all. Names must be distinct and, like metadata, UTF-8.
// Sorts `entries` and `notes` in place.
MOON_MUST_CHECK moon_status safetensors_write(moon_engine *engine, const char *path,
                                              size_t entry_count, safetensors_entry *entries,
                                              size_t note_count, safetensors_note *notes);

#endif
