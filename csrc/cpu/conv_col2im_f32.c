// Gradients of images of few channels in float.
#include "cpu/micro.h"
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#define COLUMNS MICRO_COLUMNS_F32
#include "cpu/conv_col2im_real.h"
