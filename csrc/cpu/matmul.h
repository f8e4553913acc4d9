// What the files of matmul share. A product of `batch` pairs of strided matrices is calculated in
// one of three forms, chosen in matmul.c from the shapes and strides:
//
//   panels   columns of the right operand are packed into panels, a block at a time, and multiplied
//            with rows of the left one where they lie (Goto and van de Geijn, "Anatomy of
//            high-performance matrix multiplication", 2008)
//   dots     few rows against many, both contiguous along the depth (a linear layer at a small
//            batch): dot products; the large operand is read once, where it lies
//   wide     few rows times a matrix whose rows are contiguous (the gradient of that layer's
//            input): again read once, where it lies
//
// Blocks are cut by the shape alone and each element's sum runs in one order, so the bits of a
// result do not depend on the number of threads.
#ifndef MOON_CPU_MATMUL_H
#define MOON_CPU_MATMUL_H

#include "cpu/gemm.h"
#include "cpu/micro.h"

// Where results go: c = alpha * sum + beta * c.
typedef struct matmul_target {
  char *data;
  moon_dtype dtype;
  int64_t batch_stride, row_stride, column_stride;   // in elements, as the product sees c
  double alpha, beta;
} matmul_target;

typedef struct matmul_problem {
  int64_t batch, rows, columns, depth;
  gemm_matrix left, right;         // along the rows, along the columns
  matmul_target target;
} matmul_problem;

// Stores a tile in the compute type, its rows `stride` elements apart.
void CPU(matmul_store)(const matmul_target *target, int64_t batch, int64_t row, int64_t rows,
                       int64_t column, int64_t columns, const void *tile, int64_t stride);

enum {
  MATMUL_FEW = 16,                 // rows that dots are worth while for
  MATMUL_WIDEST = 2,               // tiles of rows that wide is
};

#define MATMUL_FORMS(suffix)                                                                     \
  MOON_MUST_CHECK moon_status CPU(matmul_panels_##suffix)(moon_engine *engine,                   \
                                                          const matmul_problem *problem);        \
  MOON_MUST_CHECK moon_status CPU(matmul_dots_##suffix)(moon_engine *engine,                     \
                                                        const matmul_problem *problem);          \
  MOON_MUST_CHECK moon_status CPU(matmul_wide_##suffix)(moon_engine *engine,                     \
                                                        const matmul_problem *problem)
MATMUL_FORMS(f32);
MATMUL_FORMS(f64);
#undef MATMUL_FORMS

#endif
