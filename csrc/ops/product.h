// Matrix products of plain arrays, for the operators of linalg.c.
//
// Operands are stacks (batch..., rows, columns) of any strides: what is transposed, broadcast or
// narrowed is never copied. Batch dimensions are merged where the strides of all three arrays allow
// it, and a stack times one matrix becomes a single product of more rows; what cannot be merged is
// a loop over kernel calls.
#ifndef MOON_OPS_PRODUCT_H
#define MOON_OPS_PRODUCT_H

#include "tensor/tensor.h"

// A tensor of at least 1 dimension as a stack of matrices. A vector is one row on the left of a
// product and one column on its right.
device_array product_matrix(const moon_tensor *tensor, bool left);

// `x` with its batch dimensions broadcast to those of a stack of `ndim` dimensions, `shape`; of
// `shape` only the first ndim - 2 sizes are read.
device_array product_stretch(const device_array *x, int ndim, const int64_t *shape);

// c = alpha * a b + beta * c, and what `finish` says, as the slot matmul; a and b are stretched to
// c's batch dimensions, and the rows of c are contiguous. c is not read where beta is 0.
MOON_MUST_CHECK moon_status product_run(moon_engine *engine, const device_kernels *kernels,
                                        double alpha, const device_array *a, const device_array *b,
                                        double beta, const matmul_finish *finish,
                                        const device_array *c);

#endif
