// Convolutions through Fourier transforms in double.
#define REAL double
#define REAL_BYTES 8
#define NAME(word) word##_f64
#include "cpu/conv_fft_real.h"
