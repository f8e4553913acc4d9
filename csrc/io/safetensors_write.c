// Writing safetensors. The header lists the tensors by name; their bytes lie by falling element
// size, then name, so that each suits its type where it lies in a mapped file. The header is
// padded to 8 bytes. The same tensors give the same file, byte for byte.
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/os.h"
#include "io/safetensors_format.h"

typedef struct placement {            // where one tensor's bytes go
  const safetensors_entry *entry;
  uint64_t begin, end;
} placement;

typedef struct plan {
  moon_engine *engine;
  const char *path;
  size_t entry_count, note_count;
  const safetensors_entry *entries;   // sorted by name
  const safetensors_note *notes;      // sorted by key
  placement *placements;              // one an entry; in data order once placed
  json_t *header;
} plan;

static int entry_by_name(const void *a, const void *b) {
  return strcmp(((const safetensors_entry *)a)->name, ((const safetensors_entry *)b)->name);
}

static int note_by_key(const void *a, const void *b) {
  return strcmp(((const safetensors_note *)a)->key, ((const safetensors_note *)b)->key);
}

static int by_size_then_name(const void *a, const void *b) {
  const safetensors_entry *x = ((const placement *)a)->entry, *y = ((const placement *)b)->entry;
  size_t x_size = dtype_size(x->tensor->dtype), y_size = dtype_size(y->tensor->dtype);
  if (x_size != y_size) return x_size > y_size ? -1 : 1;
  return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const placement *)a)->entry->name, ((const placement *)b)->entry->name);
}

static moon_status fail_memory(const plan *out) {
  return moon_fail(MOON_OUT_OF_MEMORY, "%s: no memory for the file's header", out->path);
}

static moon_status check_entries(const plan *out) {
  for (size_t i = 0; i < out->entry_count; i++) {
    const safetensors_entry *entry = &out->entries[i];
    if (strcmp(entry->name, SAFETENSORS_METADATA) == 0) {
      return moon_fail(MOON_BAD_ARGUMENT, "%s: no tensor can be called " SAFETENSORS_METADATA,
                       out->path);
    }
    if (i > 0 && strcmp(entry[-1].name, entry->name) == 0) {
      return moon_fail(MOON_BAD_ARGUMENT, "%s: two tensors are called \"%s\"", out->path,
                       entry->name);
    }
    if (!tensor_device(entry->tensor)->on_host) {
      return moon_fail(MOON_BAD_DEVICE, "%s: tensor \"%s\" lies on %s; bring it to the CPU first",
                       out->path, entry->name, tensor_device(entry->tensor)->name);
    }
  }
  return MOON_OK;
}

static moon_status place(plan *out) {
  size_t bytes;
  MOON_TRY(alloc_product(out->entry_count + 1, sizeof(placement), &bytes));
  MOON_TRY(alloc_new(bytes, (void **)&out->placements));
  for (size_t i = 0; i < out->entry_count; i++) out->placements[i].entry = &out->entries[i];
  qsort(out->placements, out->entry_count, sizeof(placement), by_size_then_name);
  uint64_t reached = 0;
  for (size_t i = 0; i < out->entry_count; i++) {
    const moon_tensor *tensor = out->placements[i].entry->tensor;
    out->placements[i].begin = reached;
    reached += (uint64_t)tensor_count(tensor) * dtype_size(tensor->dtype);
    out->placements[i].end = reached;
  }
  return MOON_OK;
}

// -- the header as JSON

static json_t *describe(const placement *place) {
  const moon_tensor *tensor = place->entry->tensor;
  json_t *shape = json_array();
  for (int i = 0; shape && i < tensor->ndim; i++) {
    if (json_array_append_new(shape, json_integer(tensor->shape[i])) != 0) {
      json_decref(shape);
      shape = NULL;
    }
  }
  if (!shape) return NULL;
  return json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_dtype_name(tensor->dtype), "shape",
                   shape, "data_offsets", (json_int_t)place->begin, (json_int_t)place->end);
}

static moon_status add_notes(plan *out) {
  if (out->note_count == 0) return MOON_OK;
  json_t *metadata = json_object();
  if (!metadata || json_object_set_new(out->header, SAFETENSORS_METADATA, metadata) != 0) {
    return fail_memory(out);
  }
  for (size_t i = 0; i < out->note_count; i++) {
    const safetensors_note *note = &out->notes[i];
    json_t *value = json_string(note->value);
    if (!value || json_object_set_new(metadata, note->key, value) != 0) {
      return moon_fail(MOON_BAD_ARGUMENT, "%s: metadata \"%s\" is not UTF-8 text", out->path,
                       note->key);
    }
  }
  return MOON_OK;
}

static moon_status build_header(plan *out) {
  out->header = json_object();
  if (!out->header) return fail_memory(out);
  MOON_TRY(add_notes(out));
  qsort(out->placements, out->entry_count, sizeof(placement), by_name);
  for (size_t i = 0; i < out->entry_count; i++) {
    json_t *description = describe(&out->placements[i]);
    if (!description) return fail_memory(out);
    if (json_object_set_new(out->header, out->placements[i].entry->name, description) != 0) {
      return moon_fail(MOON_BAD_ARGUMENT, "%s: the name \"%s\" is not UTF-8 text", out->path,
                       out->placements[i].entry->name);
    }
  }
  qsort(out->placements, out->entry_count, sizeof(placement), by_size_then_name);
  return MOON_OK;
}

// -- bytes to the file

static moon_status write_header(const plan *out, os_writer *writer) {
  char *text = json_dumps(out->header, JSON_COMPACT);
  if (!text) return fail_memory(out);
  size_t length = strlen(text), padded = (length + 7) / 8 * 8;
  unsigned char prefix[SAFETENSORS_PREFIX];
  for (int i = 0; i < SAFETENSORS_PREFIX; i++) {
    prefix[i] = (unsigned char)((uint64_t)padded >> 8 * i);
  }
  moon_status status;
  if (padded > SAFETENSORS_LARGEST_HEADER) {
    status = moon_fail(MOON_BAD_ARGUMENT, "%s: names and metadata make a header of %zu bytes; the "
                       "format allows %d", out->path, padded, SAFETENSORS_LARGEST_HEADER);
  } else {
    status = os_writer_write(writer, prefix, sizeof prefix);
  }
  if (status == MOON_OK) status = os_writer_write(writer, text, length);
  if (status == MOON_OK) status = os_writer_write(writer, "       ", padded - length);
  free(text);
  return status;
}

static moon_status write_tensor(const plan *out, os_writer *writer, const moon_tensor *tensor) {
  size_t bytes = (size_t)tensor_count(tensor) * dtype_size(tensor->dtype);
  if (bytes == 0) return MOON_OK;
  if (tensor_is_contiguous(tensor)) return os_writer_write(writer, tensor_data(tensor), bytes);
  moon_tensor *copy;
  MOON_TRY(tensor_new(out->engine, tensor_device(tensor), tensor->dtype, tensor->ndim,
                      tensor->shape, &copy));
  device_array from = tensor_array(tensor), to = tensor_array(copy);
  moon_status status = tensor_kernels(tensor)->copy(out->engine, &from, &to);
  if (status == MOON_OK) status = os_writer_write(writer, tensor_data(copy), bytes);
  tensor_release(copy);
  return status;
}

static moon_status write_all(const plan *out, os_writer *writer) {
  MOON_TRY(write_header(out, writer));
  for (size_t i = 0; i < out->entry_count; i++) {
    MOON_TRY(write_tensor(out, writer, out->placements[i].entry->tensor));
  }
  return MOON_OK;
}

static moon_status write_planned(plan *out) {
  MOON_TRY(check_entries(out));
  MOON_TRY(place(out));
  MOON_TRY(build_header(out));
  os_writer *writer;
  MOON_TRY(os_writer_open(&writer, out->path));
  moon_status status = write_all(out, writer);
  if (status == MOON_OK) return os_writer_commit(writer);
  os_writer_abandon(writer);
  return status;
}

moon_status safetensors_write(moon_engine *engine, const char *path, size_t entry_count,
                              safetensors_entry *entries, size_t note_count,
                              safetensors_note *notes) {
  if (entry_count > 1) qsort(entries, entry_count, sizeof *entries, entry_by_name);
  if (note_count > 1) qsort(notes, note_count, sizeof *notes, note_by_key);
  plan out = { .engine = engine, .path = path, .entry_count = entry_count, .entries = entries,
               .note_count = note_count, .notes = notes };
  moon_status status = write_planned(&out);
  json_decref(out.header);
  alloc_delete(out.placements);
  return status;
}
