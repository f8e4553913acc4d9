// Writing PNG: planes become rows of interleaved 8-bit samples, stb filters them, zlib compresses
// them. Cost: three times the picture's bytes while it lasts.
#include "image/image.h"

#include <limits.h>

#include "base/alloc.h"
#include "base/os.h"
#include "image/stb.h"

typedef struct layout { int64_t channels, height, width, stride_c, stride_h, stride_w; } layout;

static moon_status layout_of(const char *path, const moon_tensor *image, layout *out) {
  char text[TENSOR_SHAPE_TEXT];
  int n = image->ndim;
  bool planes = n == 3;
  if ((n != 2 && n != 3) || (planes && (image->shape[0] < 1 || image->shape[0] > 4))) {
    return moon_fail(MOON_BAD_SHAPE, "%s: a picture has the shape channels x height x width (1 to "
                     "4 channels) or height x width, not %s", path,
                     tensor_shape_text(image, text));
  }
  *out = (layout){
    .channels = planes ? image->shape[0] : 1, .stride_c = planes ? image->strides[0] : 0,
    .height = image->shape[n - 2], .stride_h = image->strides[n - 2],
    .width = image->shape[n - 1], .stride_w = image->strides[n - 1],
  };
  if (out->height < 1 || out->width < 1) {
    return moon_fail(MOON_BAD_SHAPE, "%s: a picture needs at least one pixel, not %s", path,
                     tensor_shape_text(image, text));
  }
  // stb counts in int: the rows with their filter bytes must fit, with room for a bad fit.
  if (out->width > INT_MAX / 8 || out->height > (INT_MAX / 2) / (out->width * out->channels + 1)) {
    return moon_fail(MOON_BAD_SHAPE, "%s: %s is too large for a PNG here", path,
                     tensor_shape_text(image, text));
  }
  if (!tensor_device(image)->on_host) {
    return moon_fail(MOON_BAD_DEVICE, "%s: the picture lies on %s; bring it to the CPU first", path,
                     tensor_device(image)->name);
  }
  if (image->dtype != MOON_U8 && !dtype_is_float(image->dtype)) {
    return moon_fail(MOON_BAD_DTYPE, "%s: a picture is uint8, or floats from 0 to 1, not %s", path,
                     dtype_name(image->dtype));
  }
  return MOON_OK;
}

static unsigned char to_byte(double value) {
  if (!(value > 0)) return 0;   // NaN too
  return value < 1 ? (unsigned char)(value * 255 + 0.5) : 255;
}

// Any strides to (h, w, c).
static void interleave(const moon_tensor *image, const layout *in, unsigned char *out) {
  const char *base = tensor_data(image);
  int64_t size = (int64_t)dtype_size(image->dtype);
  for (int64_t y = 0; y < in->height; y++) {
    for (int64_t x = 0; x < in->width; x++) {
      for (int64_t c = 0; c < in->channels; c++) {
        const void *at = base + (y * in->stride_h + x * in->stride_w + c * in->stride_c) * size;
        *out++ = image->dtype == MOON_U8 ? *(const unsigned char *)at
                                         : to_byte(dtype_load(image->dtype, at));
      }
    }
  }
}

static moon_status write_file(const char *path, const unsigned char *bytes, size_t count) {
  os_writer *writer;
  MOON_TRY(os_writer_open(&writer, path));
  moon_status status = os_writer_write(writer, bytes, count);
  if (status == MOON_OK) return os_writer_commit(writer);
  os_writer_abandon(writer);
  return status;
}

static moon_status encode_and_write(moon_engine *engine, const char *path,
                                    const unsigned char *pixels, const layout *in) {
  stb_arena_open(engine, SIZE_MAX);
  size_t count;
  unsigned char *png = stb_write_png(pixels, (int)in->width, (int)in->height, (int)in->channels,
                                     &count);
  moon_status status;
  if (png) {
    status = write_file(path, png, count);
    stb_bytes_free(png);
  } else if (stb_arena_refused()) {
    status = moon_fail_in(MOON_OUT_OF_MEMORY, "%s", path);
  } else {
    status = moon_fail(MOON_BAD_STATE, "%s: the picture could not be compressed", path);
  }
  stb_arena_close();
  return status;
}

moon_status image_encode_png_file(moon_engine *engine, const char *path, const moon_tensor *image) {
  layout in = { .channels = 0 };
  MOON_TRY(layout_of(path, image, &in));
  size_t bytes = (size_t)(in.channels * in.height * in.width);
  void *pixels;
  MOON_TRY(alloc_bytes(engine, bytes, &pixels));
  interleave(image, &in, pixels);
  moon_status status = encode_and_write(engine, path, pixels, &in);
  alloc_release(engine, pixels, bytes);
  return status;
}
