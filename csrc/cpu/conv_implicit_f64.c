// The engine "implicit" in double: weights packed, positions multiplied.
#define REAL double
#define REAL_BYTES 8
#define NAME(word) word##_f64
#include "cpu/conv_pack_real.h"
#include "cpu/conv_multiply_real.h"
