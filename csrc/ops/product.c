// Matrix products of plain arrays. See product.h.
#include "ops/product.h"

#include <string.h>

enum { A, B, C };

// The last two dimensions of `x` behind a stack of one.
static device_array stack_of_one(const device_array *x) {
  device_array stack = { .data = x->data, .dtype = x->dtype, .ndim = 3, .shape = { 1 },
                         .derived = x->derived, .version = x->version };
  memcpy(stack.shape + 1, x->shape + x->ndim - 2, 2 * sizeof *x->shape);
  memcpy(stack.strides + 1, x->strides + x->ndim - 2, 2 * sizeof *x->strides);
  return stack;
}

// Whether batch dimension `i` continues the stack gathered from the dimensions behind it.
static bool continues(const device_array *x, int i, const device_array *stack) {
  return stack->shape[0] == 1 || x->strides[i] == stack->strides[0] * stack->shape[0];
}

// Gathers batch dimensions from the last one on into dimension 0 of the three stacks; returns how
// many are left in front.
static int gather_batches(const device_array *const full[3], device_array stack[3]) {
  int outer = full[C]->ndim - 2;
  for (; outer > 0; outer--) {
    int i = outer - 1;
    if (full[C]->shape[i] == 1) continue;
    for (int k = A; k <= C; k++)
      if (!continues(full[k], i, &stack[k])) return outer;
    for (int k = A; k <= C; k++) {
      if (stack[k].shape[0] == 1) stack[k].strides[0] = full[k]->strides[i];
      stack[k].shape[0] *= full[k]->shape[i];
    }
  }
  return 0;
}

// (batch, m, k) x one (k, n) is (batch * m, k) x (k, n) where the rows of all batches lie evenly.
static void fold_rows(device_array stack[3]) {
  int64_t count = stack[C].shape[0], m = stack[C].shape[1];
  if (count == 1 || stack[B].strides[0] != 0) return;
  for (int k = A; k <= C; k += C - A)
    if (m != 1 && stack[k].strides[0] != m * stack[k].strides[1]) return;
  for (int k = A; k <= C; k += C - A) {
    if (m == 1) stack[k].strides[1] = stack[k].strides[0];
    stack[k].shape[1] = count * m;
  }
  for (int k = A; k <= C; k++) stack[k].shape[0] = 1;
}

static void move_on(device_array *x, int64_t elements) {
  x->data = (char *)x->data + elements * (int64_t)dtype_size(x->dtype);
}

moon_status product_run(moon_engine *engine, const device_kernels *kernels, double alpha,
                        const device_array *a, const device_array *b, double beta,
                        const matmul_finish *finish, const device_array *c) {
  const device_array *const full[3] = { a, b, c };
  device_array stack[3];
  int64_t at[MOON_MAX_DIMS] = { 0 };
  if (array_count(c) == 0) return MOON_OK;
  for (int k = A; k <= C; k++) stack[k] = stack_of_one(full[k]);
  int outer = gather_batches(full, stack);
  fold_rows(stack);
  for (int i = 0; i >= 0;) {
    MOON_TRY(kernels->matmul(engine, alpha, &stack[A], &stack[B], beta, finish, &stack[C]));
    for (i = outer - 1; i >= 0; i--) {
      bool more = ++at[i] < c->shape[i];
      int64_t steps = more ? 1 : 1 - c->shape[i];
      for (int k = A; k <= C; k++) move_on(&stack[k], steps * full[k]->strides[i]);
      if (more) break;
      at[i] = 0;
    }
  }
  return MOON_OK;
}

device_array product_matrix(const moon_tensor *tensor, bool left) {
  device_array x = tensor_array(tensor);
  if (x.ndim != 1) return x;
  int64_t n = x.shape[0], stride = x.strides[0];
  x.ndim = 2;
  x.shape[left] = n;
  x.strides[left] = stride;
  x.shape[!left] = 1;
  x.strides[!left] = left ? n * stride : 1;
  return x;
}

device_array product_stretch(const device_array *x, int ndim, const int64_t *shape) {
  device_array y = { .data = x->data, .dtype = x->dtype, .ndim = ndim, .derived = x->derived,
                     .version = x->version };
  int missing = ndim - x->ndim;
  for (int i = 0; i < ndim; i++) {
    bool matrix = i >= ndim - 2;
    int64_t size = i < missing ? 1 : x->shape[i - missing];
    bool stretched = i < missing || (!matrix && size == 1 && shape[i] != 1);
    y.shape[i] = matrix ? size : shape[i];
    y.strides[i] = stretched ? 0 : x->strides[i - missing];
  }
  return y;
}
