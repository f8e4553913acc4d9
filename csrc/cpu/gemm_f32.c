// The product engine in float: float32, and the half types, which are turned into float while
// their panels are packed.
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#include "cpu/gemm_real.h"
#include "cpu/gemm_pack_real.h"
