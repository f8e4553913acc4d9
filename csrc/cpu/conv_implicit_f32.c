// The engine "implicit" in float: weights packed, positions multiplied.
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#include "cpu/conv_pack_real.h"
#include "cpu/conv_multiply_real.h"
