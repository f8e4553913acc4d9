// The network kernels' tasks in float.
#include "device/formula_math.h"

#define REAL float
#define REAL_BYTES 4
#define REAL_EXP formula_exp_f32
#define REAL_LOG formula_log_f32
#define STORED REAL
#define STORED_LOAD(element) (element)
#define STORED_SAVE(value) (value)
#define NAME(word) word##_f32
#include "cpu/batch_norm_pixels_real.h"
#include "cpu/batch_norm_real.h"
#include "cpu/cross_entropy_real.h"
#include "cpu/lrn_real.h"
#include "cpu/pool_lines_real.h"
#include "cpu/pool_pixels_real.h"
#include "cpu/pool_real.h"
#include "cpu/regions_real.h"
#include "cpu/softmax_real.h"
#include "cpu/weigh_real.h"
#include "cpu/weigh_planes_real.h"
