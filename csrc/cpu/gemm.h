// Matrix products on packed panels (Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", 2008).
//
// The engine knows no matrices. It asks for panels of its operands and hands out tiles of the
// result:
//
//   a.pack   rows first .. first+count of the left operand, depth k0 .. k0+depth
//   b.pack   columns likewise of the right operand
//   c.store  one tile of the finished result, in the compute type
//
// A panel is depth x width elements of the compute type (float or double), element (k, j) at
// panel[k * width + j]; `count` rows or columns make count / width panels, one behind the other,
// the last one filled up with zeros. When it packs the right operand, a pack may write up to
// GEMM_SLACK bytes past the end.
//
// Blocks are cut by the shape alone, and a block's sums run in one order, so the bits of a result
// do not depend on the number of threads.
#ifndef MOON_CPU_GEMM_H
#define MOON_CPU_GEMM_H

#include "cpu/cpu.h"

enum {
  GEMM_SLACK = 64,
  GEMM_DEEPEST_BLOCK = 256,   // the right operand is asked for no more depth at once
};

typedef void (*gemm_pack)(const void *context, int64_t batch, int64_t first, int64_t count,
                          int64_t k0, int64_t depth, int width, void *panel);

// tile is rows x columns, its rows `stride` elements apart; the tile may be overwritten.
typedef void (*gemm_store)(const void *context, int64_t batch, int64_t row, int64_t rows,
                           int64_t column, int64_t columns, void *tile, int64_t stride);

typedef struct gemm_problem {
  int64_t batch, rows, columns, depth;
  gemm_pack pack_a, pack_b;
  gemm_store store;
  const void *a, *b, *c;   // contexts of the three, in this order
} gemm_problem;

// Runs the product in float or in double. Fails only for want of scratch or by the interrupt.
MOON_MUST_CHECK moon_status CPU(gemm_f32)(moon_engine *engine, const gemm_problem *problem);
MOON_MUST_CHECK moon_status CPU(gemm_f64)(moon_engine *engine, const gemm_problem *problem);

// A strided matrix as an operand: element (j, k) at data[j * stride + k * depth_stride], batch
// b at data[b * batch_stride]; strides in elements.
typedef struct gemm_matrix {
  const void *data;
  moon_dtype dtype;
  int64_t batch_stride, stride, depth_stride;
} gemm_matrix;

void CPU(gemm_pack_f32)(const void *matrix, int64_t batch, int64_t first, int64_t count,
                        int64_t k0, int64_t depth, int width, void *panel);
void CPU(gemm_pack_f64)(const void *matrix, int64_t batch, int64_t first, int64_t count,
                        int64_t k0, int64_t depth, int width, void *panel);

// target[j * target_stride + i] = source[i * stride + j]
void CPU(gemm_turn_f32)(const float *source, int64_t stride, int64_t rows, int64_t columns,
                        float *target, int64_t target_stride);
void CPU(gemm_turn_f64)(const double *source, int64_t stride, int64_t rows, int64_t columns,
                        double *target, int64_t target_stride);

#endif
