// Pictures in files, as tensors: PNG, JPEG and BMP read, PNG written. Pixels are (channels, height,
// width). Reading treats its input as hostile; memory stays in proportion to the file and the
// picture, and is charged to the engine.
#ifndef MOON_IMAGE_IMAGE_H
#define MOON_IMAGE_IMAGE_H

#include "tensor/tensor.h"

// Decodes to uint8. `channels` is 1 (grey), 3 (RGB), 4 (RGBA), or 0: as many as the file has (a
// grey picture with transparency has 2). 16-bit samples lose their low byte; palettes are applied.
// `name` is what messages call it: the file. MOON_BAD_FILE where it cannot be read.
MOON_MUST_CHECK moon_status image_decode(moon_engine *engine, const char *name, const void *bytes,
                                         size_t count, int channels, moon_tensor **image);
MOON_MUST_CHECK moon_status image_decode_file(moon_engine *engine, const char *path, int channels,
                                              moon_tensor **image);

// Writes a PNG, whole or not at all. `image` is (c, h, w) with 1 to 4 channels, or (h, w); uint8,
// or floats from 0 to 1 (others are cut, NaN is 0).
MOON_MUST_CHECK moon_status image_encode_png_file(moon_engine *engine, const char *path,
                                                  const moon_tensor *image);

#endif
