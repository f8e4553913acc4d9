// The gradient of a convolution's weights in float.
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#include "cpu/conv_weight_real.h"
