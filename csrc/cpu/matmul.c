// The matmul slot: c = alpha * a b + beta * c over batches of strided matrices. Chooses which
// operand takes the rows of the tiles (a narrow result is calculated turned round), and stores
// with alpha, beta and rounding as the last step of the product.
#include "cpu/gemm.h"

typedef struct matmul_target {
  char *data;
  moon_dtype dtype;
  int64_t batch_stride, row_stride, column_stride;   // in elements, as the product sees c
  double alpha, beta;
} matmul_target;

enum { LONGEST_ROW = 256 };   // elements converted at a time

static void store_f32(const matmul_target *t, float *to, int64_t columns, const float *tile) {
  float alpha = (float)t->alpha, beta = (float)t->beta;
  int64_t step = t->column_stride;
  if (beta != 0) {
    for (int64_t j = 0; j < columns; j++) to[j * step] = alpha * tile[j] + beta * to[j * step];
  } else if (step == 1) {
    for (int64_t j = 0; j < columns; j++) to[j] = alpha * tile[j];
  } else {
    for (int64_t j = 0; j < columns; j++) to[j * step] = alpha * tile[j];
  }
}

static void store_f64(const matmul_target *t, double *to, int64_t columns, const double *tile) {
  int64_t step = t->column_stride;
  for (int64_t j = 0; j < columns; j++) {
    double value = t->alpha * tile[j];
    to[j * step] = t->beta != 0 ? value + t->beta * to[j * step] : value;
  }
}

static void store_half(const matmul_target *t, uint16_t *to, int64_t columns, const float *tile) {
  float row[LONGEST_ROW], old[LONGEST_ROW];
  float alpha = (float)t->alpha, beta = (float)t->beta;
  for (int64_t j = 0; j < columns; j += LONGEST_ROW) {
    int64_t count = columns - j < LONGEST_ROW ? columns - j : LONGEST_ROW;
    uint16_t *target = to + j * t->column_stride;
    for (int64_t i = 0; i < count; i++) row[i] = alpha * tile[j + i];
    if (beta != 0) {
      CPU(load_run)(t->dtype, count, target, t->column_stride, old);
      for (int64_t i = 0; i < count; i++) row[i] += beta * old[i];
    }
    CPU(store_run)(t->dtype, count, row, target, t->column_stride);
  }
}

static void matmul_store(const void *context, int64_t batch, int64_t row, int64_t rows,
                         int64_t column, int64_t columns, void *tile, int64_t stride) {
  const matmul_target *t = context;
  int64_t size = (int64_t)dtype_size(t->dtype);
  for (int64_t i = 0; i < rows; i++) {
    int64_t offset = batch * t->batch_stride + (row + i) * t->row_stride +
                     column * t->column_stride;
    void *to = t->data + offset * size;
    if (t->dtype == MOON_F32)
      store_f32(t, to, columns, (float *)tile + i * stride);
    else if (t->dtype == MOON_F64)
      store_f64(t, to, columns, (double *)tile + i * stride);
    else
      store_half(t, to, columns, (float *)tile + i * stride);
  }
}

// Matrix `x` (batch, ., .) whose panels run along dimension `along` and whose depth is the other.
static gemm_matrix operand(const device_array *x, int along) {
  return (gemm_matrix){ .data = x->data, .dtype = x->dtype,
                        .batch_stride = x->shape[0] > 1 ? x->strides[0] : 0,
                        .stride = x->strides[along], .depth_stride = x->strides[3 - along] };
}

moon_status CPU(matmul)(moon_engine *engine, double alpha, const device_array *a,
                        const device_array *b, double beta, const device_array *c) {
  bool wide = c->dtype == MOON_F64;
  int64_t m = c->shape[1], n = c->shape[2];
  gemm_matrix left = operand(a, 1), right = operand(b, 2);
  matmul_target target = { .data = c->data, .dtype = c->dtype, .alpha = alpha, .beta = beta,
                           .batch_stride = c->strides[0], .row_stride = c->strides[1],
                           .column_stride = c->strides[2] };
  int64_t straight = wide ? CPU(gemm_area_f64)(m, n) : CPU(gemm_area_f32)(m, n);
  int64_t turned = wide ? CPU(gemm_area_f64)(n, m) : CPU(gemm_area_f32)(n, m);
  gemm_problem problem = {
    .batch = c->shape[0], .rows = m, .columns = n, .depth = a->shape[2],
    .pack_a = wide ? CPU(gemm_pack_f64) : CPU(gemm_pack_f32),
    .pack_b = wide ? CPU(gemm_pack_f64) : CPU(gemm_pack_f32),
    .store = matmul_store, .a = &left, .b = &right, .c = &target,
  };
  if (turned * 10 < straight * 9) {   // c' = b' a'
    problem.rows = n;
    problem.columns = m;
    problem.a = &right;
    problem.b = &left;
    target.row_stride = c->strides[2];
    target.column_stride = c->strides[1];
  }
  return wide ? CPU(gemm_f64)(engine, &problem) : CPU(gemm_f32)(engine, &problem);
}
