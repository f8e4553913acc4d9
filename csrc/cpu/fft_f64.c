// The Fourier transforms in double.
#define REAL double
#define NAME(word) word##_f64
#include "cpu/fft_real.h"
