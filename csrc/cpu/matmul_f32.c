// The forms of matmul in float; the half types are turned into float as their panels are packed.
#define REAL float
#define REAL_BYTES 4
#define NAME(word) word##_f32
#include <math.h>

#include "cpu/lanes.h"
#include "cpu/matmul.h"
#include "cpu/matmul_panels_real.h"
#include "cpu/matmul_few_real.h"
