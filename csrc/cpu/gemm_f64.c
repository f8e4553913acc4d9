// Packing in double.
#define REAL double
#define REAL_BYTES 8
#define NAME(word) word##_f64
#include "cpu/gemm.h"
#include "cpu/lanes.h"
#include "cpu/gemm_pack_real.h"
