// What stb leaves unchecked in a JPEG. Inside csrc/image only.
#ifndef MOON_IMAGE_JPEG_CHECK_H
#define MOON_IMAGE_JPEG_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

bool jpeg_is(const unsigned char *bytes, size_t count);

// Walks the segments of a JPEG up to its end marker: lengths, and Huffman tables with more symbols
// than a byte can name. `name` is what messages call the file.
MOON_MUST_CHECK moon_status jpeg_check(const char *name, const unsigned char *bytes, size_t count);

#endif
