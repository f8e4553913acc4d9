// Convolutions of few outputs in double.
#define REAL double
#define REAL_BYTES 8
#define NAME(word) word##_f64
#include "cpu/conv_planar_real.h"
