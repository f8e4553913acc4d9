// Convolutions of few outputs in float.
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#include "cpu/conv_planar_real.h"
