// Pictures: what was written is read back, every truncated or damaged PNG is refused, and no
// damaged file of any kind crashes the decoder or takes memory out of proportion. With the folder
// of torture images (argument, or ../shared/data/image-torture) those are checked too.
#include "check.h"

#include "base/alloc.h"
#include "image/image.h"

static moon_engine *engine;

static int64_t live_bytes(void) { return (int64_t)atomic_load(&engine->memory.live); }

static moon_tensor *new_picture(moon_dtype dtype, int64_t c, int64_t h, int64_t w) {
  const int64_t shape[3] = { c, h, w };
  moon_tensor *picture = NULL;
  CHECK(tensor_new(engine, device_cpu(), dtype, 3, shape, &picture) == MOON_OK);
  char *data = tensor_data(picture);
  for (int64_t i = 0; i < c * h * w; i++) {
    double byte = (double)(i * 37 % 256), value = dtype == MOON_U8 ? byte : byte / 255;
    dtype_store(dtype, data + (size_t)i * dtype_size(dtype), value);
  }
  return picture;
}

static void written_pictures_are_read_back(void) {
  const char *path = check_path("back.png");
  for (int64_t c = 1; c <= 4; c++) {
    moon_tensor *bytes = new_picture(MOON_U8, c, 5, 7), *back = NULL;
    static const moon_dtype kinds[] = { MOON_U8, MOON_F32, MOON_F64 };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
      moon_tensor *picture = new_picture(kinds[k], c, 5, 7);
      CHECK(image_encode_png_file(engine, path, picture) == MOON_OK);
      CHECK(image_decode_file(engine, path, 0, &back) == MOON_OK);
      CHECK(tensor_same_shape(back, bytes));
      CHECK(memcmp(tensor_data(back), tensor_data(bytes), (size_t)(c * 35)) == 0);
      tensor_release(back);
      tensor_release(picture);
    }
    tensor_release(bytes);
  }
}

static void views_and_odd_values_are_written(void) {
  const char *path = check_path("view.png");
  moon_tensor *picture = new_picture(MOON_F32, 3, 4, 6), *view = NULL, *back = NULL;
  float *data = tensor_data(picture);
  data[0] = -3;
  data[1] = 7;
  data[2] = 0.0f / 0.0f;
  const int64_t shape[2] = { 6, 4 }, strides[2] = { 1, 6 };   // channel 0, transposed
  CHECK(tensor_new_view(picture, 2, shape, strides, 0, &view) == MOON_OK);
  CHECK(image_encode_png_file(engine, path, view) == MOON_OK);
  CHECK(image_decode_file(engine, path, 1, &back) == MOON_OK);
  const unsigned char *got = tensor_data(back);
  CHECK(back->shape[0] == 1 && back->shape[1] == 6 && back->shape[2] == 4);
  CHECK(got[0] == 0 && got[4] == 255 && got[8] == 0 && got[12] == 3 * 37);
  tensor_release(back);
  tensor_release(view);
  tensor_release(picture);
}

static void wrong_arguments_get_sentences(void) {
  const char *path = check_path("wrong.png");
  moon_tensor *picture = new_picture(MOON_U8, 5, 2, 2), *image;
  CHECK_FAILS(image_encode_png_file(engine, path, picture), MOON_BAD_SHAPE, "not 5x2x2");
  tensor_release(picture);
  picture = new_picture(MOON_I64, 1, 2, 2);
  CHECK_FAILS(image_encode_png_file(engine, path, picture), MOON_BAD_DTYPE, "not int64");
  tensor_release(picture);
  picture = new_picture(MOON_U8, 1, 0, 2);
  CHECK_FAILS(image_encode_png_file(engine, path, picture), MOON_BAD_SHAPE, "at least one pixel");
  tensor_release(picture);
  CHECK(access(path, F_OK) != 0);
  CHECK_FAILS(image_decode(engine, "it", "x", 1, 2, &image), MOON_BAD_ARGUMENT, "channels");
  CHECK_FAILS(image_decode(engine, "it", "", 0, 0, &image), MOON_BAD_FILE, "neither PNG");
  CHECK_FAILS(image_decode(engine, "it", "GIF89a\1\0\1\0", 10, 0, &image), MOON_BAD_FILE,
              "it: byte 0: neither PNG, JPEG nor BMP");
  CHECK_FAILS(image_decode_file(engine, check_path("none.png"), 0, &image), MOON_BAD_FILE,
              "none.png");
}

static void damaged_pngs_are_refused(void) {
  const char *path = check_path("damaged.png");
  moon_tensor *picture = new_picture(MOON_U8, 3, 9, 11), *image;
  CHECK(image_encode_png_file(engine, path, picture) == MOON_OK);
  tensor_release(picture);
  size_t count = 0;
  unsigned char *bytes = check_read(path, &count);
  for (size_t length = 0; length < count; length++) {
    unsigned char *part = malloc(length ? length : 1);   // so that a sanitizer sees the end
    memcpy(part, bytes, length);
    CHECK_FAILS(image_decode(engine, "part", part, length, 0, &image), MOON_BAD_FILE, "part: byte");
    free(part);
  }
  for (size_t i = 0; i < count; i++) {
    bytes[i] ^= (unsigned char)(1u << (i % 8));
    CHECK_FAILS(image_decode(engine, "flip", bytes, count, 0, &image), MOON_BAD_FILE, "flip: byte");
    bytes[i] ^= (unsigned char)(1u << (i % 8));
  }
  free(bytes);
}

static void every_failing_allocation_is_survived(void) {
  const char *path = check_path("nth.png");
  moon_tensor *picture = new_picture(MOON_U8, 3, 9, 11);
  int64_t live = live_bytes();
  moon_status status = MOON_OUT_OF_MEMORY;
  for (long n = 1; n < 100 && status != MOON_OK; n++) {
    alloc_fail_after(n);
    status = image_encode_png_file(engine, path, picture);
    alloc_fail_after(0);
    CHECK(status == MOON_OK || status == MOON_OUT_OF_MEMORY);
    CHECK(live_bytes() == live);
  }
  CHECK(status == MOON_OK);
  status = MOON_OUT_OF_MEMORY;
  for (long n = 1; n < 100 && status != MOON_OK; n++) {
    moon_tensor *image = NULL;
    alloc_fail_after(n);
    status = image_decode_file(engine, path, 0, &image);
    alloc_fail_after(0);
    CHECK(status == MOON_OK || status == MOON_OUT_OF_MEMORY);
    tensor_release(image);
    CHECK(live_bytes() == live);
  }
  CHECK(status == MOON_OK);
  tensor_release(picture);
}

// -- the torture images

// Decodes `count` bytes that may be anything; the peak must stay in proportion.
static moon_status try_decode(const char *name, const unsigned char *bytes, size_t count,
                              int64_t *shape) {
  moon_tensor *image = NULL;
  int64_t live = live_bytes();
  atomic_store(&engine->memory.peak, live);
  moon_status status = image_decode(engine, name, bytes, count, 0, &image);
  int64_t used = (int64_t)atomic_load(&engine->memory.peak) - live;
  int64_t pixels = image ? image->shape[1] * image->shape[2] : 0;
  CHECK(used < 64 * pixels + 1100 * 16 * (int64_t)count + (4 << 20));
  if (status == MOON_OK) memcpy(shape, image->shape, 3 * sizeof *shape);
  tensor_release(image);
  CHECK(live_bytes() == live);
  return status;
}

static void fuzz(const char *name, unsigned char *bytes, size_t count, int rounds) {
  uint32_t random = (uint32_t)count * 2654435761u + 1;
  int64_t shape[3];
  for (int round = 0; round < rounds; round++) {
    size_t at = check_random(&random) % count, length = count;
    unsigned char old = bytes[at];
    bytes[at] = (unsigned char)check_random(&random);
    if (round % 3 == 0) length = check_random(&random) % count;
    unsigned char *part = malloc(length ? length : 1);
    memcpy(part, bytes, length);
    moon_status status = try_decode(name, part, length, shape);
    CHECK(status == MOON_OK || status == MOON_BAD_FILE || status == MOON_OUT_OF_MEMORY);
    free(part);
    bytes[at] = old;
  }
}

static bool has_prefix(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

// Meant to decode, but more than stb reads: run-length coded BMPs, a palette in front of pixels
// that need none, a JPEG without its end marker (which we take for truncated).
static bool beyond_stb(const char *file) {
  return (has_prefix(file, "bmp/") && strstr(file, "rle")) || strstr(file, "rgb16-565pal") ||
         strstr(file, "rgb24pal") || strstr(file, "partial_progressive");
}

static bool must_decode(const char *file, const char *expect) {
  bool format = has_prefix(file, "png") || has_prefix(file, "jpeg") || has_prefix(file, "bmp/");
  return format && strcmp(expect, "ok") == 0 && !beyond_stb(file);
}

static bool must_fail(const char *file, const char *expect) {
  return strcmp(expect, "error") == 0 || has_prefix(file, "gif/") || has_prefix(file, "pnm/") ||
         has_prefix(file, "tga/");
}

static void torture(const char *folder, const char *file, const char *expect, int64_t width,
                    int64_t height, bool verbose) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", folder, file);
  size_t count = 0;
  unsigned char *bytes = check_read(path, &count);
  CHECK(bytes != NULL);
  if (!bytes) return;
  int64_t shape[3] = { 0, 0, 0 };
  moon_status status = try_decode(file, bytes, count, shape);
  if (verbose) {
    printf("%s %s: %s\n", file, expect, status == MOON_OK ? "decoded" : moon_error_text());
  }
  if (must_decode(file, expect)) {
    CHECK(status == MOON_OK && shape[1] == height && shape[2] == width);
  }
  if (must_fail(file, expect) || beyond_stb(file)) CHECK_FAILS(status, MOON_BAD_FILE, file);
  if (count > 0 && count < 100000) fuzz(file, bytes, count, count < 10000 ? 100 : 20);
  free(bytes);
}

static void torture_images(const char *folder, bool verbose) {
  char line[2048];
  snprintf(line, sizeof line, "%s/expected.csv", folder);
  FILE *list = fopen(line, "r");
  if (!list) {
    printf("no torture images in %s: not checked\n", folder);
    return;
  }
  while (fgets(line, sizeof line, list)) {
    char file[256], expect[16];
    long long width = 0, height = 0;
    if (sscanf(line, "%255[^,],%15[^,],%lld,%lld", file, expect, &width, &height) >= 2 &&
        strcmp(file, "file") != 0) {
      torture(folder, file, expect, width, height, verbose);
    }
  }
  fclose(list);
}

int main(int count, char **arguments) {
  CHECK(engine_new(&engine) == MOON_OK);
  written_pictures_are_read_back();
  views_and_odd_values_are_written();
  wrong_arguments_get_sentences();
  damaged_pngs_are_refused();
  every_failing_allocation_is_survived();
  torture_images(count > 1 ? arguments[1] : "../shared/data/image-torture", count > 2);
  CHECK(live_bytes() == 0);
  engine_release(engine);
  return check_end("image_test");
}
