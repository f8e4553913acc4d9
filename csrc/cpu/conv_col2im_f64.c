// Gradients of images of few channels in double.
#include "cpu/micro.h"
#define REAL double
#define REAL_BYTES 8
#define NAME(word) word##_f64
#define COLUMNS MICRO_COLUMNS_F64
#include "cpu/conv_col2im_real.h"
