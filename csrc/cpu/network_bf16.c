// The network kernels' tasks on bfloat16, calculated in float.
#include "base/dtype.h"

#define REAL float
#define REAL_BYTES 4
#define STORED uint16_t
#define STORED_IS_BFLOAT
#define STORED_LOAD(element) bfloat_to_float(element)
#define STORED_SAVE(value) bfloat_from_float(value)
#define NAME(word) word##_bf16
#include "cpu/batch_norm_pixels_real.h"
#include "cpu/lrn_real.h"
#include "cpu/pool_lines_real.h"
#include "cpu/pool_pixels_real.h"
