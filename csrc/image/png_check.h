// What stb leaves unchecked in a PNG. Inside csrc/image only.
#ifndef MOON_IMAGE_PNG_CHECK_H
#define MOON_IMAGE_PNG_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

bool png_is(const unsigned char *bytes, size_t count);

// Walks the chunks of a PNG: lengths, checksums, the order that matters, and whether the data can
// hold as many pixels as the header claims. `name` is what messages call the file.
MOON_MUST_CHECK moon_status png_check(const char *name, const unsigned char *bytes, size_t count);

#endif
