// Packing in float; the half types are turned into float on the way.
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#include "cpu/gemm.h"
#include "cpu/lanes.h"
#include "cpu/gemm_pack_real.h"
