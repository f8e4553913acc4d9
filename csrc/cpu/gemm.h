// Packing and turning matrices for products (matmul.h, bfloat.h).
//
// A panel is depth x width elements of the compute type (float or double), element (k, j) at
// panel[k * width + j]; `count` rows or columns make count / width panels, one behind the other,
// the last one filled up with zeros.
#ifndef MOON_CPU_GEMM_H
#define MOON_CPU_GEMM_H

#include "cpu/cpu.h"

enum { GEMM_SLACK = 64 };   // elements that scratch for panels has to spare

// A strided matrix as an operand: element (j, k) at data[j * stride + k * depth_stride], batch
// b at data[b * batch_stride]; strides in elements. Half types are turned into float.
typedef struct gemm_matrix {
  const void *data;
  moon_dtype dtype;
  int64_t batch_stride, stride, depth_stride;
} gemm_matrix;

// Packs rows (or columns) first .. first + count, depth k0 .. k0 + depth.
void CPU(gemm_pack_f32)(const gemm_matrix *matrix, int64_t batch, int64_t first, int64_t count,
                        int64_t k0, int64_t depth, int width, void *panels);
void CPU(gemm_pack_f64)(const gemm_matrix *matrix, int64_t batch, int64_t first, int64_t count,
                        int64_t k0, int64_t depth, int width, void *panels);

// target[j * target_stride + i] = source[i * stride + j]
void CPU(gemm_turn_f32)(const float *source, int64_t stride, int64_t rows, int64_t columns,
                        float *target, int64_t target_stride);
void CPU(gemm_turn_f64)(const double *source, int64_t stride, int64_t rows, int64_t columns,
                        double *target, int64_t target_stride);

#endif
