// The names safetensors gives to element types: ours in capitals, cut short.
#include "io/safetensors_format.h"

#include <string.h>

// In the order of dtype.def; designated, so that a new row there only misses a name here.
static const char *const names[MOON_DTYPE_COUNT] = {
  [MOON_F32] = "F32", [MOON_F64] = "F64", [MOON_F16] = "F16", [MOON_BF16] = "BF16",
  [MOON_I64] = "I64", [MOON_I32] = "I32", [MOON_U8] = "U8", [MOON_BOOL] = "BOOL",
};

const char *safetensors_dtype_name(moon_dtype dtype) { return names[dtype]; }

bool safetensors_dtype_by_name(const char *name, moon_dtype *dtype) {
  for (int i = 0; i < MOON_DTYPE_COUNT; i++) {
    if (names[i] && strcmp(names[i], name) == 0) {
      *dtype = (moon_dtype)i;
      return true;
    }
  }
  return false;
}
