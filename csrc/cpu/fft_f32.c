// The Fourier transforms in float.
#define REAL float
#define NAME(word) word##_f32
#include "cpu/fft_real.h"
