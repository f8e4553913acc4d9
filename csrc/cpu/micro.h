// The register tile under every product: sums of up to MICRO_ROWS x MICRO_VECTORS vectors stay in
// registers over the whole depth, and are finished (scaled, shifted, added to, clamped) as they
// are stored. Nothing needs packing but the right operand, once.
//
// The rows of the left operand are pointers, a set for each tap: rows of a matrix for matmul,
// pixels of a channels-last image for a convolution (padding points at zeros). After Dukhan, "The
// indirect convolution algorithm", 2019.
#ifndef MOON_CPU_MICRO_H
#define MOON_CPU_MICRO_H

#include "cpu/cpu.h"
#include "cpu/lane_bytes.h"

// 14 x 2 vectors fill 28 of 32 registers with sums, 6 x 2 fill 12 of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
enum { MICRO_ROWS = 14 };
#else
enum { MICRO_ROWS = 6 };
#endif
enum {
  MICRO_VECTORS = 2,
  MICRO_COLUMNS_F32 = MICRO_VECTORS * LANE_BYTES / 4,
  MICRO_COLUMNS_F64 = MICRO_VECTORS * LANE_BYTES / 8,
};

// finish   what happens to a sum on its way out: clamp(sum * scale + shift + add, low, high);
//          NaN stays. scale and shift have an element a column (NULL: one, zero), add a pointer to
//          each row's first column (NULL: nothing; it may be `out`).
// tile     rows 1 .. MICRO_ROWS and columns 1 .. MICRO_VECTORS vectors of the result, each a sum
//          over taps * depth; `out` has a pointer to each row's first column.
//
// micro_rows    a[t * MICRO_ROWS + r] is row r's run of `depth` elements at tap t; all MICRO_ROWS
//               pointers must be readable (repeat the last row). b: taps * depth rows of whole
//               vectors, as many as cover the columns, b_stride elements apart.
// micro_outer   row r at step k of tap t is a[t][k * a_stride + r], its columns
//               b[t] + k * b_stride: transposed products, and the gradient of weights, where a step
//               is a pixel. MICRO_ROWS elements of a and whole vectors of b are read at each step.
#define MICRO_TYPE(REAL, suffix)                                                                  \
  typedef struct micro_finish_##suffix {                                                          \
    const REAL *scale, *shift;                                                                    \
    const REAL *const *add;                                                                       \
    REAL low, high;                  /* -INFINITY, INFINITY: as it is */                          \
  } micro_finish_##suffix;                                                                        \
  typedef struct micro_tile_##suffix {                                                            \
    int rows, columns;                                                                            \
    int64_t taps, depth;                                                                          \
    REAL *const *out;                                                                             \
    const micro_finish_##suffix *finish;                                                          \
  } micro_tile_##suffix;                                                                          \
  void CPU(micro_rows_##suffix)(const micro_tile_##suffix *tile, const REAL *const *a,            \
                                const REAL *b, int64_t b_stride);                                 \
  void CPU(micro_outer_##suffix)(const micro_tile_##suffix *tile, const REAL *const *a,           \
                                 int64_t a_stride, const REAL *const *b, int64_t b_stride)
MICRO_TYPE(float, f32);
MICRO_TYPE(double, f64);
#undef MICRO_TYPE

#endif
