// Whole files as bytes, gzip-compressed or plain, into memory that the engine's budget covers.
#ifndef MOON_IO_GZIP_H
#define MOON_IO_GZIP_H

#include "tensor/tensor.h"

// The contents of `path` as a 1-D uint8 tensor, decompressed when the file is gzip (all members of
// it, as gzip does). MOON_BAD_FILE with file, offset and reason where it is truncated or corrupt.
MOON_MUST_CHECK moon_status gzip_read(moon_engine *engine, const char *path, moon_tensor **bytes);

#endif
