// Files, hostile ones above all: gzip and safetensors read back what was written, and every
// truncation, flipped byte and lying header ends in a sentence, never in a crash or a leak.
#include "check.h"

#include <zlib.h>

#include "base/alloc.h"
#include "io/gzip.h"
#include "io/safetensors.h"

static moon_engine *engine;

static int64_t live_bytes(void) { return (int64_t)atomic_load(&engine->memory.live); }

// -- gzip

static size_t compress_member(const void *bytes, size_t count, unsigned char *out, size_t room) {
  z_stream stream = { .next_in = (unsigned char *)(uintptr_t)bytes, .avail_in = (uInt)count,
                      .next_out = out, .avail_out = (uInt)room };
  CHECK(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  deflateEnd(&stream);
  return room - stream.avail_out;
}

static void expect_gzip(const char *path, const void *expected, size_t count) {
  moon_tensor *bytes = NULL;
  CHECK(gzip_read(engine, path, &bytes) == MOON_OK);
  if (!bytes) return;
  CHECK(bytes->dtype == MOON_U8 && bytes->ndim == 1 && bytes->shape[0] == (int64_t)count);
  CHECK(count == 0 || memcmp(tensor_data(bytes), expected, count) == 0);
  tensor_release(bytes);
}

static void gzip_reads_plain_compressed_and_several_members(void) {
  char text[3000];
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(i * i / 7);
  unsigned char packed[9000];
  const char *path = check_path("a.gz");
  check_write(path, text, sizeof text);
  expect_gzip(path, text, sizeof text);
  check_write(path, "", 0);
  expect_gzip(path, "", 0);
  size_t first = compress_member(text, 1000, packed, sizeof packed);
  check_write(path, packed, first);
  expect_gzip(path, text, 1000);
  size_t second = compress_member(text + 1000, 2000, packed + first, sizeof packed - first);
  check_write(path, packed, first + second);
  expect_gzip(path, text, sizeof text);
  memset(packed + first + second, 0, 100);
  check_write(path, packed, first + second + 100);
  expect_gzip(path, text, sizeof text);
  packed[first + second + 50] = 'x';
  check_write(path, packed, first + second + 100);
  moon_tensor *bytes;
  CHECK_FAILS(gzip_read(engine, path, &bytes), MOON_BAD_FILE, "no gzip member");
  CHECK_FAILS(gzip_read(engine, check_path("none.gz"), &bytes), MOON_BAD_FILE, "none.gz");
}

static void gzip_refuses_truncated_and_damaged_files(void) {
  char text[400];
  uint32_t random = 1;
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)(check_random(&random) % 20);
  unsigned char packed[1000];
  size_t count = compress_member(text, sizeof text, packed, sizeof packed);
  const char *path = check_path("broken.gz");
  moon_tensor *bytes;
  for (size_t length = 2; length < count; length++) {
    check_write(path, packed, length);
    CHECK_FAILS(gzip_read(engine, path, &bytes), MOON_BAD_FILE, "broken.gz: byte ");
  }
  for (size_t i = 10; i < count; i++) {
    packed[i] ^= (unsigned char)(1u << (i % 8));
    check_write(path, packed, count);
    CHECK_FAILS(gzip_read(engine, path, &bytes), MOON_BAD_FILE, "broken.gz: byte ");
    packed[i] ^= (unsigned char)(1u << (i % 8));
  }
}

static void gzip_stops_at_the_budget(void) {
  size_t count = 64 << 20;
  unsigned char *zeros = calloc(count, 1), *packed = malloc(1 << 20);
  size_t packed_count = compress_member(zeros, count, packed, 1 << 20);
  const char *path = check_path("bomb.gz");
  int64_t budget = engine->memory.budget, live = live_bytes();
  moon_tensor *bytes;
  for (int lying = 0; lying < 2; lying++) {
    if (lying) memset(packed + packed_count - 4, 0, 4);   // claims to be empty
    check_write(path, packed, packed_count);
    engine->memory.budget = 8 << 20;
    CHECK(gzip_read(engine, path, &bytes) == MOON_OUT_OF_MEMORY);
    engine->memory.budget = budget;
    CHECK(live_bytes() == live);
  }
  free(zeros);
  free(packed);
}

// -- safetensors

enum { ENTRIES = MOON_DTYPE_COUNT + 4, COUNT = 6 };

// One (2, 3) tensor of each type, a transposed view, an empty one, a 0-d one, one called "".
static void make_entries(safetensors_entry *entries) {
  static char names[ENTRIES][16];
  const int64_t shape[2] = { 2, 3 }, none[2] = { 0, 5 };
  for (int i = 0; i < ENTRIES; i++) {
    moon_dtype dtype = i < MOON_DTYPE_COUNT ? (moon_dtype)i : MOON_F32;
    snprintf(names[i], sizeof names[i], "t%d", ENTRIES - i);
    entries[i].name = names[i];
    entries[i].tensor = NULL;
    int ndim = i == MOON_DTYPE_COUNT + 2 ? 0 : 2;
    CHECK(tensor_new(engine, device_cpu(), dtype, ndim,
                     i == MOON_DTYPE_COUNT + 1 ? none : shape, &entries[i].tensor) == MOON_OK);
    char *data = tensor_data(entries[i].tensor);
    for (int64_t k = 0; k < tensor_count(entries[i].tensor); k++) {
      dtype_store(dtype, data + (size_t)k * dtype_size(dtype), dtype == MOON_BOOL ? k % 2 : k + i);
    }
  }
  names[ENTRIES - 1][0] = 0;
  const int64_t turned[2] = { 3, 2 }, strides[2] = { 1, 3 };
  moon_tensor *view = NULL, *whole = entries[MOON_DTYPE_COUNT].tensor;
  CHECK(tensor_new_view(whole, 2, turned, strides, 0, &view) == MOON_OK);
  tensor_release(whole);
  entries[MOON_DTYPE_COUNT].tensor = view;
}

static bool same_elements(const moon_tensor *a, const moon_tensor *b) {
  if (a->dtype != b->dtype || !tensor_same_shape(a, b)) return false;
  for (int64_t i = 0; i < tensor_count(a); i++) {
    int64_t at_a = i, at_b = i;
    if (a->ndim == 2) {
      at_a = i / a->shape[1] * a->strides[0] + i % a->shape[1] * a->strides[1];
      at_b = i / b->shape[1] * b->strides[0] + i % b->shape[1] * b->strides[1];
    }
    size_t size = dtype_size(a->dtype);
    const char *x = (const char *)tensor_data(a) + at_a * (int64_t)size;
    const char *y = (const char *)tensor_data(b) + at_b * (int64_t)size;
    if (memcmp(x, y, size) != 0) return false;
  }
  return true;
}

static void safetensors_write_and_read_everything(void) {
  safetensors_entry entries[ENTRIES];
  safetensors_note notes[2] = { { "seed", "1" }, { "framework", "moonl\xc3\xa9t \"quoted\"" } };
  make_entries(entries);
  const char *path = check_path("all.safetensors");
  CHECK(safetensors_write(engine, path, ENTRIES, entries, 2, notes) == MOON_OK);
  safetensors_file *file = NULL;
  CHECK(safetensors_read(engine, path, &file) == MOON_OK);
  if (!file) return;
  CHECK(file->entry_count == ENTRIES && file->note_count == 2);
  CHECK(strcmp(file->notes[0].key, "framework") == 0);
  CHECK(strcmp(file->notes[0].value, "moonl\xc3\xa9t \"quoted\"") == 0);
  for (size_t i = 0; i < file->entry_count; i++) {
    CHECK(strcmp(file->entries[i].name, entries[i].name) == 0);
    CHECK(same_elements(file->entries[i].tensor, entries[i].tensor));
    bool mapped = file->entries[i].tensor->storage->release != NULL;
    CHECK(mapped == (tensor_count(entries[i].tensor) > 0));
  }
  moon_tensor *kept = tensor_retain(file->entries[1].tensor);
  safetensors_free(file);
  CHECK(same_elements(kept, entries[1].tensor));   // keeps the mapping alive
  tensor_release(kept);
  for (int i = 0; i < ENTRIES; i++) tensor_release(entries[i].tensor);
}

static void safetensors_names_are_checked_on_writing(void) {
  safetensors_entry entries[2] = { { "a", NULL }, { "a", NULL } };
  CHECK(tensor_new_scalar(engine, MOON_F32, 1, &entries[0].tensor) == MOON_OK);
  entries[1].tensor = entries[0].tensor;
  const char *path = check_path("names.safetensors");
  CHECK_FAILS(safetensors_write(engine, path, 2, entries, 0, NULL), MOON_BAD_ARGUMENT,
              "two tensors are called \"a\"");
  entries[0].name = "\xff";
  CHECK_FAILS(safetensors_write(engine, path, 2, entries, 0, NULL), MOON_BAD_ARGUMENT, "UTF-8");
  entries[0].name = "__metadata__";
  entries[1].name = "b";
  CHECK_FAILS(safetensors_write(engine, path, 2, entries, 0, NULL), MOON_BAD_ARGUMENT,
              "__metadata__");
  safetensors_note note = { "k", "\xc3" };
  CHECK_FAILS(safetensors_write(engine, path, 0, NULL, 1, &note), MOON_BAD_ARGUMENT, "UTF-8");
  CHECK(access(path, F_OK) != 0);   // nothing was left
  CHECK_FAILS(safetensors_write(engine, check_path("no/such/folder"), 0, NULL, 0, NULL),
              MOON_BAD_FILE, "no/such/folder");
  tensor_release(entries[1].tensor);
}

typedef struct hostile_case {
  const char *header;
  size_t data_bytes;
  const char *sentence;
} hostile_case;

#define T(dtype, shape, offsets) \
  "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
static const hostile_case hostile[] = {
  { "", 0, "not valid JSON" },
  { "[]", 0, "should be a JSON object" },
  { "{\"t\":1}", 0, "should be a JSON object" },
  { "{\"t\":{}}", 0, "a string called dtype" },
  { "{\"t", 0, "not valid JSON" },
  { "{}x", 0, "not valid JSON" },
  { "{\"a\\u0000b\":1}", 0, "not valid JSON" },
  { "{\"\xff\":1}", 0, "not valid JSON" },
  { "{\"t\":1,\"t\":1}", 0, "not valid JSON" },
  { "{\"__metadata__\":1}", 0, "should be a JSON object" },
  { "{\"__metadata__\":{\"a\":1}}", 0, "should be a string" },
  { "{}", 1, "1 bytes more" },
  { T("F8_E4M3", "[1]", "[0,1]"), 1, "F8_E4M3" },
  { T("F32", "1", "[0,4]"), 4, "list called shape" },
  { T("F32", "[-1]", "[0,4]"), 4, "whole numbers from 0 up" },
  { T("F32", "[1.5]", "[0,4]"), 4, "whole numbers from 0 up" },
  { T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "8 dimensions" },
  { T("F32", "[1]", "[0]"), 4, "two ascending" },
  { T("F32", "[1]", "[0,4,8]"), 4, "two ascending" },
  { T("F32", "[1]", "{}"), 4, "two ascending" },
  { T("F32", "[1]", "[4,0]"), 4, "two ascending" },
  { T("F32", "[1]", "[-4,0]"), 4, "two ascending" },
  { T("F32", "[1]", "[0,8]"), 8, "should have 4 bytes" },
  { T("F32", "[2]", "[0,8]"), 4, "4 bytes further (truncated?)" },
  { T("F32", "[4611686018427387904,4]", "[0,0]"), 0, "too large for any file" },
  { T("F32", "[9223372036854775807,9223372036854775807]", "[0,0]"), 0, "too large for any file" },
  { T("F32", "[9223372036854775808]", "[0,0]"), 0, "not valid JSON" },
  { T("F32", "[1]", "[9223372036854775804,9223372036854775807]"), 4, "span 3" },
  { T("F32", "[1]", "[4,8]"), 8, "there is a hole" },
  { T("BOOL", "[2]", "[0,2]"), 2, "should be 0 or 1, not 255" },
  { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
    "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "they overlap" },
  { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
    "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "they overlap" },
};

static size_t compose(const char *header, size_t data_bytes, unsigned char *out) {
  size_t length = strlen(header);
  for (int i = 0; i < 8; i++) out[i] = (unsigned char)((uint64_t)length >> 8 * i);
  memcpy(out + 8, header, length);
  memset(out + 8 + length, 0xff, data_bytes);
  return 8 + length + data_bytes;
}

static void safetensors_refuse_lying_headers(void) {
  const char *path = check_path("hostile.safetensors");
  safetensors_file *file;
  int64_t live = live_bytes();
  for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
    unsigned char bytes[1000];
    size_t count = compose(hostile[i].header, hostile[i].data_bytes, bytes);
    check_write(path, bytes, count);
    CHECK_FAILS(safetensors_read(engine, path, &file), MOON_BAD_FILE, hostile[i].sentence);
    CHECK(strstr(moon_error_text(), "hostile.safetensors: ") != NULL);
  }
  check_write(path, "\x00\x00\x00", 3);
  CHECK_FAILS(safetensors_read(engine, path, &file), MOON_BAD_FILE, "ends at byte 3");
  check_write(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
  CHECK_FAILS(safetensors_read(engine, path, &file), MOON_BAD_FILE, "at most 2 are possible");
  CHECK(live_bytes() == live);
}

static void safetensors_copy_what_lies_askew(void) {
  unsigned char bytes[200];
  size_t count = compose(T("F64", "[1]", "[0,8]") " ", 8, bytes);
  double value = 2.5;
  CHECK((count - 8) % 8 != 0);
  memcpy(bytes + count - 8, &value, sizeof value);
  const char *path = check_path("askew.safetensors");
  check_write(path, bytes, count);
  safetensors_file *file = NULL;
  CHECK(safetensors_read(engine, path, &file) == MOON_OK);
  if (!file) return;
  CHECK(*(double *)tensor_data(file->entries[0].tensor) == 2.5);
  CHECK(file->entries[0].tensor->storage->release == NULL);
  safetensors_free(file);
}

// Reads whatever lies at `path` and touches every byte of what came out.
static void read_anything(const char *path) {
  safetensors_file *file;
  if (safetensors_read(engine, path, &file) != MOON_OK) return;
  unsigned sum = 0;
  for (size_t i = 0; i < file->entry_count; i++) {
    const moon_tensor *tensor = file->entries[i].tensor;
    const unsigned char *data = tensor_data(tensor);
    size_t bytes = (size_t)tensor_count(tensor) * dtype_size(tensor->dtype);
    for (size_t k = 0; k < bytes; k++) sum += data[k];
  }
  CHECK(sum != 1);   // keeps the reads
  safetensors_free(file);
}

static void safetensors_survive_truncation_and_flipped_bytes(void) {
  size_t count;
  unsigned char *bytes = check_read(check_path("all.safetensors"), &count);
  CHECK(bytes != NULL);
  if (!bytes) return;
  const char *path = check_path("fuzz.safetensors");
  safetensors_file *file;
  for (size_t length = 0; length < count; length++) {
    check_write(path, bytes, length);
    CHECK_FAILS(safetensors_read(engine, path, &file), MOON_BAD_FILE, "fuzz.safetensors");
  }
  uint32_t random = 7;
  for (int round = 0; round < 3000; round++) {
    size_t at[3];
    unsigned char old[3];
    int flips = 1 + (int)(check_random(&random) % 3);
    for (int i = 0; i < flips; i++) {
      at[i] = check_random(&random) % count;
      old[i] = bytes[at[i]];
      bytes[at[i]] = (unsigned char)check_random(&random);
    }
    check_write(path, bytes, count);
    read_anything(path);
    for (int i = flips - 1; i >= 0; i--) bytes[at[i]] = old[i];
  }
  free(bytes);
}

static void every_failing_allocation_is_survived(void) {
  safetensors_entry entries[ENTRIES];
  make_entries(entries);
  int64_t live = live_bytes();
  const char *source = check_path("all.safetensors"), *path = check_path("nth.safetensors");
  moon_status status = MOON_OUT_OF_MEMORY;
  for (long n = 1; n < 200 && status != MOON_OK; n++) {
    safetensors_file *file = NULL;
    alloc_fail_after(n);
    status = safetensors_read(engine, source, &file);
    alloc_fail_after(0);
    CHECK(status == MOON_OK || status == MOON_OUT_OF_MEMORY);
    if (status == MOON_OK) safetensors_free(file);
    CHECK(live_bytes() == live);
  }
  CHECK(status == MOON_OK);
  status = MOON_OUT_OF_MEMORY;
  for (long n = 1; n < 200 && status != MOON_OK; n++) {
    alloc_fail_after(n);
    status = safetensors_write(engine, path, ENTRIES, entries, 0, NULL);
    alloc_fail_after(0);
    CHECK(status == MOON_OK || status == MOON_OUT_OF_MEMORY);
    CHECK(live_bytes() == live);
  }
  CHECK(status == MOON_OK);
  for (int i = 0; i < ENTRIES; i++) tensor_release(entries[i].tensor);
}

int main(void) {
  CHECK(engine_new(&engine) == MOON_OK);
  gzip_reads_plain_compressed_and_several_members();
  gzip_refuses_truncated_and_damaged_files();
  gzip_stops_at_the_budget();
  safetensors_write_and_read_everything();
  safetensors_names_are_checked_on_writing();
  safetensors_refuse_lying_headers();
  safetensors_copy_what_lies_askew();
  safetensors_survive_truncation_and_flipped_bytes();
  every_failing_allocation_is_survived();
  CHECK(live_bytes() == 0);
  engine_release(engine);
  return check_end("io_test");
}
