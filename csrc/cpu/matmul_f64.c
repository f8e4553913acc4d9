// The forms of matmul in double.
#define REAL double
#define REAL_BYTES 8
#define NAME(word) word##_f64
#include <math.h>

#include "cpu/lanes.h"
#include "cpu/matmul.h"
#include "cpu/matmul_panels_real.h"
#include "cpu/matmul_few_real.h"
