// Stacks of matrices, (..., rows, columns), for solving.c and decompositions.c: checks, the arrays
// that kernels see, and what a kernel says of each matrix.
#ifndef MOON_OPS_STACKS_H
#define MOON_OPS_STACKS_H

#include "ops/make.h"

// float32 or float64 of at least 2 dimensions; and square.
MOON_MUST_CHECK moon_status stacks_need(const char *argument, const moon_tensor *x);
MOON_MUST_CHECK moon_status stacks_need_square(const char *argument, const moon_tensor *x);

static inline int64_t stacks_rows(const moon_tensor *x) { return x->shape[x->ndim - 2]; }
static inline int64_t stacks_columns(const moon_tensor *x) { return x->shape[x->ndim - 1]; }

// A contiguous tensor with its dimensions but the last `tail` as one: (batch, ...).
device_array stacks_array(const moon_tensor *contiguous, int tail);

// A new tensor of x's leading dimensions and `tail` more.
MOON_MUST_CHECK moon_status stacks_new(moon_engine *engine, const moon_tensor *x, int tail,
                                       const int64_t *sizes, moon_tensor **made);

// What a kernel writes for each matrix, read on the host: gives the first that is not 0, as its
// code and as words such as "the matrix" or "matrix 3 of the stack"; code 0: all went well.
typedef struct stacks_info { moon_tensor *tensor; int64_t code; char which[48]; } stacks_info;
MOON_MUST_CHECK moon_status stacks_info_new(moon_engine *engine, const moon_tensor *x,
                                            stacks_info *info);
MOON_MUST_CHECK moon_status stacks_info_read(moon_engine *engine, stacks_info *info);
void stacks_info_release(stacks_info *info);

// -- steps
static inline moon_tensor *stacks_t(compose *c, moon_tensor *x) {
  return COMPOSE(c, transpose, op_tensor(x), op_int(-2), op_int(-1));
}
static inline moon_tensor *stacks_times(compose *c, moon_tensor *x, moon_tensor *y) {
  return COMPOSE(c, matmul, op_tensor(x), op_tensor(y));
}
// (..., n) as (..., n, 1) and (..., 1, n)
static inline moon_tensor *stacks_column(compose *c, moon_tensor *x) {
  return COMPOSE(c, unsqueeze, op_tensor(x), op_int(-1));
}
static inline moon_tensor *stacks_row(compose *c, moon_tensor *x) {
  return COMPOSE(c, unsqueeze, op_tensor(x), op_int(-2));
}
// (n, n) ones on the diagonal, in like's type
moon_tensor *stacks_identity(compose *c, const moon_tensor *like, int64_t n);
// a^-1 b for a triangle
static inline moon_tensor *stacks_solve_triangle(compose *c, moon_tensor *a, moon_tensor *b,
                                                 bool upper) {
  return COMPOSE(c, solve_triangular_stack, op_tensor(a), op_tensor(b), op_bool(upper),
                 op_bool(false));
}

#endif
