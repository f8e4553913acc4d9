// The matmul slot: c = alpha * a b + beta * c over a stack of matrices, and its finish, by cuBLASLt
// where it is there, else as a product of our own (product.cuh), which takes any strides and types.
#include <math.h>

#include "libraries.cuh"
#include "product.cuh"

enum { COLUMNS = 2 };   // of (batch, rows, columns)

static product_array stack_of(const device_array *x) {
  return { x->data, x->dtype, x->shape[0] > 1 ? x->strides[0] : 0 };
}

static product_finish finish_of(const matmul_finish &given) {
  product_finish f = cuda_plain_finish();
  f.low = given.low, f.high = given.high;
  if (!given.shift) return f;
  f.shift = given.shift->data;
  f.shift_dtype = given.shift->dtype;
  f.shift_stride = given.shift->strides[0];
  return f;
}

static moon_status own_matmul(cuda_context *c, double alpha, const device_array *a,
                              const device_array *b, double beta, const matmul_finish &finish,
                              const device_array *out) {
  product_problem p = {};
  p.batch = out->shape[0];
  p.rows.ndim = p.columns.ndim = p.depth.ndim = 1;
  p.rows.dims[0] = { out->shape[1], a->strides[1], 0, out->strides[1], out->strides[1], 0, 0 };
  p.columns.dims[0] = { out->shape[2], 0, b->strides[2], out->strides[2], out->strides[2], 0, 0 };
  p.depth.dims[0] = { a->shape[2], a->strides[2], b->strides[1], 0, 0, 0, 0 };
  p.a = stack_of(a), p.b = stack_of(b), p.out = stack_of(out);
  p.height = p.width = 1;
  p.finish = finish_of(finish);
  p.finish.alpha = alpha, p.finish.beta = beta;
  if (beta != 0) p.finish.add = p.out;   // old values are not read otherwise: they may be NaN
  return cuda_product(c, &p);
}

moon_status cuda_matmul(cuda_context *c, double alpha, const device_array *a,
                        const device_array *b, double beta, const matmul_finish *finish,
                        const device_array *out) {
  matmul_finish rest = { nullptr, -INFINITY, INFINITY };
  bool done;
  if (finish) rest = *finish;
  MOON_TRY(cublaslt_matmul(c, alpha, a, b, beta, &rest, out, &done));
  return done ? cuda_finish(c, finish_of(rest), out, nullptr, COLUMNS)
              : own_matmul(c, alpha, a, b, beta, rest, out);
}
