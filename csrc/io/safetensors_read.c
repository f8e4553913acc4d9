// Reading safetensors. The file is hostile until proven otherwise: the header's length, every
// name, type, shape and offset is checked against the file before a byte of data is looked at, and
// nothing is allocated in proportion to what the header claims. As the format demands, the tensors
// must cover the data without holes or overlaps.
//
// The tensors lie in the mapped file itself, which they keep alive together through a counter; one
// whose offset does not suit its type is copied. Cost: the header is parsed, bools are looked
// through (a byte that is neither 0 nor 1 is refused), other pages are read when they are used.
#include "io/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/os.h"
#include "io/safetensors_format.h"

typedef struct shared_mapping {
  atomic_int references;
  os_mapping mapping;
} shared_mapping;

typedef struct span {                // one tensor as the header describes it
  const char *name;
  moon_dtype dtype;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  uint64_t begin, end;               // bytes, from the start of the data
} span;

typedef struct reader {
  moon_engine *engine;
  const char *path;
  shared_mapping *shared;
  json_t *header;
  uint64_t data_start, data_bytes;
  span *spans;
  size_t span_count;
} reader;

static void mapping_release(shared_mapping *shared) {
  if (atomic_fetch_sub(&shared->references, 1) != 1) return;
  os_unmap(&shared->mapping);
  alloc_delete(shared);
}

static void release_tensor_bytes(void *context, void *data, size_t bytes) {
  (void)data;
  (void)bytes;
  mapping_release(context);
}

// -- the header

static moon_status parse_header(reader *in) {
  const unsigned char *bytes = in->shared->mapping.data;
  size_t file_bytes = in->shared->mapping.bytes;
  if (file_bytes < SAFETENSORS_PREFIX) {
    return moon_fail(MOON_BAD_FILE, "%s: ends at byte %zu; a safetensors file begins with the "
                     "8-byte length of its header", in->path, file_bytes);
  }
  uint64_t length = 0;
  for (int i = SAFETENSORS_PREFIX - 1; i >= 0; i--) length = length << 8 | bytes[i];
  uint64_t limit = file_bytes - SAFETENSORS_PREFIX;
  if (limit > SAFETENSORS_LARGEST_HEADER) limit = SAFETENSORS_LARGEST_HEADER;
  if (length > limit) {
    return moon_fail(MOON_BAD_FILE, "%s: byte 0: the header should be %" PRIu64 " bytes long, but "
                     "at most %" PRIu64 " are possible (truncated, or no safetensors file?)",
                     in->path, length, limit);
  }
  const char *text = (const char *)bytes + SAFETENSORS_PREFIX;
  json_error_t error;
  in->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
  if (!in->header) {
    return moon_fail(MOON_BAD_FILE, "%s: byte %d: the header is not valid JSON (%s)", in->path,
                     SAFETENSORS_PREFIX + (error.position > 0 ? error.position : 0), error.text);
  }
  if (!json_is_object(in->header)) {
    return moon_fail(MOON_BAD_FILE, "%s: byte 8: the header should be a JSON object", in->path);
  }
  in->data_start = SAFETENSORS_PREFIX + length;
  in->data_bytes = file_bytes - in->data_start;
  return MOON_OK;
}

static moon_status fail_entry(const reader *in, const char *name, const char *expected) {
  return moon_fail(MOON_BAD_FILE, "%s: header at byte 8: tensor \"%s\" %s", in->path, name,
                   expected);
}

static moon_status read_dtype(const reader *in, json_t *entry, span *out) {
  const char *dtype = json_string_value(json_object_get(entry, "dtype"));
  if (!dtype) return fail_entry(in, out->name, "should have a string called dtype");
  if (!safetensors_dtype_by_name(dtype, &out->dtype)) {
    return moon_fail(MOON_BAD_FILE, "%s: header at byte 8: tensor \"%s\" has the type \"%s\", "
                     "which moonlet does not know (it knows " SAFETENSORS_DTYPES ")", in->path,
                     out->name, dtype);
  }
  return MOON_OK;
}

static moon_status read_shape(const reader *in, json_t *entry, span *out) {
  json_t *shape = json_object_get(entry, "shape");
  if (!json_is_array(shape)) return fail_entry(in, out->name, "should have a list called shape");
  size_t ndim = json_array_size(shape);
  if (ndim > MOON_MAX_DIMS) {
    return fail_entry(in, out->name, "has more than the 8 dimensions that moonlet knows");
  }
  out->ndim = (int)ndim;
  for (size_t i = 0; i < ndim; i++) {
    json_t *size = json_array_get(shape, i);
    if (!json_is_integer(size) || json_integer_value(size) < 0) {
      return fail_entry(in, out->name, "should have a shape of whole numbers from 0 up");
    }
    out->shape[i] = json_integer_value(size);
  }
  return MOON_OK;
}

// Bytes the shape stands for; false where that is no 63-bit number.
static bool bytes_of_shape(const span *tensor, uint64_t *bytes) {
  uint64_t product = dtype_size(tensor->dtype);
  for (int i = 0; i < tensor->ndim; i++) {
    if (tensor->shape[i] == 0) {
      *bytes = 0;
      return true;
    }
  }
  for (int i = 0; i < tensor->ndim; i++) {
    if (product > (uint64_t)INT64_MAX / (uint64_t)tensor->shape[i]) return false;
    product *= (uint64_t)tensor->shape[i];
  }
  *bytes = product;
  return true;
}

static moon_status read_offsets(const reader *in, json_t *entry, span *out) {
  json_t *offsets = json_object_get(entry, "data_offsets");
  json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
      json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin)) {
    return fail_entry(in, out->name, "should have data_offsets of two ascending whole numbers");
  }
  out->begin = (uint64_t)json_integer_value(begin);
  out->end = (uint64_t)json_integer_value(end);
  uint64_t expected;
  if (!bytes_of_shape(out, &expected)) {
    return fail_entry(in, out->name, "has a shape that is too large for any file");
  }
  if (out->end - out->begin != expected) {
    return moon_fail(MOON_BAD_FILE, "%s: header at byte 8: tensor \"%s\" should have %" PRIu64
                     " bytes for its shape and type, but its offsets span %" PRIu64, in->path,
                     out->name, expected, out->end - out->begin);
  }
  if (out->end > in->data_bytes) {
    return moon_fail(MOON_BAD_FILE, "%s: byte %" PRIu64 ": the file ends; tensor \"%s\" should "
                     "reach %" PRIu64 " bytes further (truncated?)", in->path,
                     in->data_start + in->data_bytes, out->name, out->end - in->data_bytes);
  }
  return MOON_OK;
}

static moon_status read_spans(reader *in) {
  size_t bytes;
  MOON_TRY(alloc_product(json_object_size(in->header) + 1, sizeof(span), &bytes));
  MOON_TRY(alloc_new(bytes, (void **)&in->spans));
  const char *name;
  json_t *entry;
  json_object_foreach(in->header, name, entry) {
    if (strcmp(name, SAFETENSORS_METADATA) == 0) continue;
    span *out = &in->spans[in->span_count++];
    out->name = name;
    if (!json_is_object(entry)) return fail_entry(in, name, "should be a JSON object");
    MOON_TRY(read_dtype(in, entry, out));
    MOON_TRY(read_shape(in, entry, out));
    MOON_TRY(read_offsets(in, entry, out));
  }
  return MOON_OK;
}

static int by_begin(const void *a, const void *b) {
  const span *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const span *)a)->name, ((const span *)b)->name);
}

// The tensors must follow each other from the first byte of the data to the last.
static moon_status check_cover(const reader *in) {
  uint64_t reached = 0;
  const char *previous = "";
  for (size_t i = 0; i < in->span_count; i++) {
    const span *tensor = &in->spans[i];
    if (tensor->begin != reached) {
      return moon_fail(MOON_BAD_FILE, "%s: byte %" PRIu64 ": tensor \"%s\" should begin where "
                       "tensor \"%s\" ends, at byte %" PRIu64 " (%s)", in->path,
                       in->data_start + tensor->begin, tensor->name, previous,
                       in->data_start + reached,
                       tensor->begin < reached ? "they overlap" : "there is a hole");
    }
    reached = tensor->end;
    previous = tensor->name;
  }
  if (reached == in->data_bytes) return MOON_OK;
  return moon_fail(MOON_BAD_FILE, "%s: byte %" PRIu64 ": the tensors end here, but the file has %"
                   PRIu64 " bytes more", in->path, in->data_start + reached,
                   in->data_bytes - reached);
}

// -- the tensors

static moon_status check_bools(const reader *in, const span *tensor, const unsigned char *data) {
  if (tensor->dtype != MOON_BOOL) return MOON_OK;
  for (uint64_t i = 0; i < tensor->end - tensor->begin; i++) {
    if (data[i] > 1) {
      return moon_fail(MOON_BAD_FILE, "%s: byte %" PRIu64 ": tensor \"%s\" is bool, so this byte "
                       "should be 0 or 1, not %d", in->path, in->data_start + tensor->begin + i,
                       tensor->name, data[i]);
    }
  }
  return MOON_OK;
}

static moon_status make_tensor(const reader *in, const span *from, moon_tensor **tensor) {
  unsigned char *data = (unsigned char *)(uintptr_t)in->shared->mapping.data + in->data_start +
                        from->begin;
  size_t bytes = (size_t)(from->end - from->begin);
  MOON_TRY(check_bools(in, from, data));
  if (bytes > 0 && (uintptr_t)data % dtype_size(from->dtype) == 0) {
    atomic_fetch_add(&in->shared->references, 1);
    moon_status status = tensor_new_foreign(in->engine, from->dtype, from->ndim, from->shape, data,
                                            release_tensor_bytes, in->shared, tensor);
    if (status != MOON_OK) mapping_release(in->shared);
    return status;
  }
  MOON_TRY(tensor_new(in->engine, device_cpu(), from->dtype, from->ndim, from->shape, tensor));
  if (bytes > 0) memcpy(tensor_data(*tensor), data, bytes);
  return MOON_OK;
}

static moon_status make_entries(const reader *in, safetensors_file *file) {
  size_t bytes;
  MOON_TRY(alloc_product(in->span_count + 1, sizeof *file->entries, &bytes));
  MOON_TRY(alloc_new(bytes, (void **)&file->entries));
  for (size_t i = 0; i < in->span_count; i++) {
    safetensors_entry *entry = &file->entries[i];
    MOON_TRY(make_tensor(in, &in->spans[i], &entry->tensor));
    entry->name = in->spans[i].name;
    file->entry_count++;
  }
  return MOON_OK;
}

static int note_by_key(const void *a, const void *b) {
  return strcmp(((const safetensors_note *)a)->key, ((const safetensors_note *)b)->key);
}

static moon_status make_notes(const reader *in, safetensors_file *file) {
  json_t *metadata = json_object_get(in->header, SAFETENSORS_METADATA);
  if (metadata && !json_is_object(metadata)) {
    return moon_fail(MOON_BAD_FILE, "%s: header at byte 8: " SAFETENSORS_METADATA
                     " should be a JSON object", in->path);
  }
  size_t bytes;
  MOON_TRY(alloc_product(json_object_size(metadata) + 1, sizeof *file->notes, &bytes));
  MOON_TRY(alloc_new(bytes, (void **)&file->notes));
  const char *key;
  json_t *value;
  json_object_foreach(metadata, key, value) {
    if (!json_is_string(value)) {
      return moon_fail(MOON_BAD_FILE, "%s: header at byte 8: \"%s\" in " SAFETENSORS_METADATA
                       " should be a string", in->path, key);
    }
    safetensors_note *note = &file->notes[file->note_count++];
    note->key = key;
    note->value = json_string_value(value);
  }
  qsort(file->notes, file->note_count, sizeof *file->notes, note_by_key);
  return MOON_OK;
}

static moon_status read_mapped(reader *in, safetensors_file *file) {
  moon_status status = parse_header(in);
  file->owned = in->header;   // to be freed even where it is of no use
  MOON_TRY(status);
  MOON_TRY(read_spans(in));
  qsort(in->spans, in->span_count, sizeof(span), by_begin);
  MOON_TRY(check_cover(in));
  qsort(in->spans, in->span_count, sizeof(span), by_name);
  MOON_TRY(make_notes(in, file));
  return make_entries(in, file);
}

static moon_status map_shared(const char *path, shared_mapping **shared) {
  shared_mapping *made;
  MOON_TRY(alloc_new(sizeof *made, (void **)&made));
  atomic_init(&made->references, 1);
  moon_status status = os_map_file(path, &made->mapping);
  if (status != MOON_OK) {
    alloc_delete(made);
    return status;
  }
  *shared = made;
  return MOON_OK;
}

moon_status safetensors_read(moon_engine *engine, const char *path, safetensors_file **file) {
  reader in = { .engine = engine, .path = path };
  safetensors_file *made;
  MOON_TRY(alloc_new(sizeof *made, (void **)&made));
  moon_status status = map_shared(path, &in.shared);
  if (status == MOON_OK) {
    status = read_mapped(&in, made);
    mapping_release(in.shared);
  }
  alloc_delete(in.spans);
  if (status != MOON_OK) {
    safetensors_free(made);
    return status;
  }
  *file = made;
  return MOON_OK;
}

void safetensors_free(safetensors_file *file) {
  if (!file) return;
  for (size_t i = 0; i < file->entry_count; i++) tensor_release(file->entries[i].tensor);
  alloc_delete(file->entries);
  alloc_delete(file->notes);
  json_decref(file->owned);
  alloc_delete(file);
}
