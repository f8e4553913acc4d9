// What reader and writer of safetensors share: the names of the types and the sizes.
#ifndef MOON_IO_SAFETENSORS_FORMAT_H
#define MOON_IO_SAFETENSORS_FORMAT_H

#include <stdbool.h>

#include "base/dtype.h"

enum {
  SAFETENSORS_PREFIX = 8,                    // bytes before the header: its length
  SAFETENSORS_LARGEST_HEADER = 100000000,    // the format's own limit
};
#define SAFETENSORS_METADATA "__metadata__"
#define SAFETENSORS_DTYPES "F32 F64 F16 BF16 I64 I32 U8 BOOL"

const char *safetensors_dtype_name(moon_dtype dtype);
bool safetensors_dtype_by_name(const char *name, moon_dtype *dtype);

#endif
