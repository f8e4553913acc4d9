// Discrete Fourier transforms. A complex tensor is a real one whose last dimension has size 2, the
// real and the imaginary part; dimensions are counted without it. The users' operators cut or pad
// the signal, choose the scale and transform one dimension after the other; the three hidden
// operators underneath run the kernels. A transform is linear, so its gradient is a transform the
// other way round, of every order.
// Source of the transform: Cooley and Tukey, "An algorithm for the machine calculation of complex
// Fourier series", 1965.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/compose.h"

enum { BACKWARD, ORTHO, FORWARD };   // which direction is divided by n; ortho: both by its root

// -- checks

static moon_status need_complex(const char *argument, const moon_tensor *x) {
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim > 0 && x->shape[x->ndim - 1] == 2) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be complex, with a last dimension of 2 (re, im), got "
                   "%s; moon.complex(re, im) makes one, and rfft takes real signals", argument,
                   tensor_shape_text(x, text));
}

// A dimension of a signal of `ndim` dimensions, not counting complex pairs.
static moon_status signal_dim(int ndim, int64_t dim, int *normal) {
  if (ndim == 0)
    return moon_fail(MOON_BAD_SHAPE, "input has no dimension to transform");
  return shape_dim(ndim, dim, normal);
}

// A transform of n elements along dim of x: the padded signal and its transform are live together.
static moon_status check_size(const moon_engine *engine, const moon_tensor *x, int dim, int64_t n) {
  char text[TENSOR_SHAPE_TEXT];
  if (n < 1)
    return moon_fail(MOON_BAD_ARGUMENT, "a transform needs at least 1 element, got a size of %"
                     PRId64 " for dimension %d of input %s", n, dim + 1,
                     tensor_shape_text(x, text));
  double bytes = 2 * (double)n * (double)dtype_size(x->dtype);
  for (int i = 0; i < x->ndim; i++)
    if (i != dim) bytes *= (double)x->shape[i];
  if (n > INT64_C(1) << 40 || bytes > (double)engine->memory.budget)
    return moon_fail(MOON_OUT_OF_MEMORY, "a transform of %" PRId64 " elements is more than memory "
                     "can hold", n);
  return MOON_OK;
}

// -- the kernels as operators

static moon_status forward_along(op_call *call) {
  enum { INPUT, DIM, INVERSE, SCALE };
  moon_tensor *x = call->args[INPUT].tensor;
  MOON_TRY(tensor_new_like(call->engine, x, &call->results[0]));
  device_array from = tensor_array(x), to = tensor_array(call->results[0]);
  return tensor_kernels(x)->fft(call->engine, (int)call->args[DIM].integer,
                                call->args[INVERSE].boolean, call->args[SCALE].number, &from, &to);
}

static moon_status backward_along(op_backward_call *call) {
  const op_value *a = call->args;
  return OP_RUN(call->engine, ops_get(OP_fft_along), &call->out[0], op_tensor(call->grads[0]), a[1],
                op_bool(!a[2].boolean), a[3]);
}

// x (..., n, ...) gives (..., n / 2 + 1, ..., 2)
static moon_status forward_real(op_call *call) {
  enum { INPUT, DIM, SCALE };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim = (int)call->args[DIM].integer;
  int64_t shape[MOON_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = x->shape[dim] / 2 + 1;
  shape[x->ndim] = 2;
  MOON_TRY(ops_new(call->engine, x, x->dtype, x->ndim + 1, shape, &call->results[0]));
  device_array from = tensor_array(x), to = tensor_array(call->results[0]);
  return tensor_kernels(x)->fft_real(call->engine, dim, call->args[SCALE].number, &from, &to);
}

// x (..., n / 2 + 1, ..., 2) gives (..., n, ...)
static moon_status forward_to_real(op_call *call) {
  enum { INPUT, DIM, N, SCALE };
  moon_tensor *x = call->args[INPUT].tensor;
  int dim = (int)call->args[DIM].integer;
  int64_t shape[MOON_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = call->args[N].integer;
  MOON_TRY(ops_new(call->engine, x, x->dtype, x->ndim - 1, shape, &call->results[0]));
  device_array from = tensor_array(x), to = tensor_array(call->results[0]);
  return tensor_kernels(x)->fft_to_real(call->engine, dim, call->args[SCALE].number, &from, &to);
}

// A factor for each frequency of half a spectrum (dimension dim of ndim, pairs included): `middle`
// for those that stand for two, 1 for frequency 0 and, where n is even, n / 2.
static moon_tensor *half_weights(compose *c, const moon_tensor *like, int ndim, int dim, int64_t n,
                                 double middle) {
  int64_t shape[MOON_MAX_DIMS], count = n / 2 + 1;
  moon_tensor *made = NULL;
  if (c->status != MOON_OK) return NULL;
  for (int i = 0; i < ndim; i++) shape[i] = i == dim ? count : 1;
  moon_status status = ops_new_filled(c->engine, like, like->dtype, ndim, shape, middle, &made);
  moon_tensor *weights = compose_adopt(c, status, made);
  if (!weights) return NULL;
  device_array edge = tensor_array(weights);
  edge.shape[dim] = 1;
  compose_check(c, tensor_kernels(weights)->fill(c->engine, 1, &edge));
  edge.data = (char *)edge.data + (count - 1) * (int64_t)dtype_size(edge.dtype);
  if (n % 2 == 0) compose_check(c, tensor_kernels(weights)->fill(c->engine, 1, &edge));
  return weights;
}

static moon_status backward_real(op_backward_call *call) {
  const op_value *a = call->args;
  int dim = (int)a[1].integer;
  int64_t n = call->inputs[0].shape[dim];
  moon_tensor *g = call->grads[0];
  compose c = compose_open(call->engine);
  moon_tensor *weights = half_weights(&c, g, g->ndim, dim, n, 0.5);
  moon_tensor *half = COMPOSE(&c, mul, op_tensor(g), op_tensor(weights));
  moon_tensor *dx = COMPOSE(&c, fft_to_real_along, op_tensor(half), a[1], op_int(n), a[2]);
  return compose_close(&c, dx, &call->out[0]);
}

static moon_status backward_to_real(op_backward_call *call) {
  const op_value *a = call->args;
  int dim = (int)a[1].integer;
  moon_tensor *g = call->grads[0];
  compose c = compose_open(call->engine);
  moon_tensor *weights = half_weights(&c, g, g->ndim + 1, dim, a[2].integer, 2);
  moon_tensor *spectrum = COMPOSE(&c, fft_real_along, op_tensor(g), a[1], a[3]);
  moon_tensor *dx = COMPOSE(&c, mul, op_tensor(spectrum), op_tensor(weights));
  return compose_close(&c, dx, &call->out[0]);
}

// -- what the users' operators are made of

static double scale_of(int64_t norm, bool inverse, int64_t n) {
  if (norm == ORTHO) return 1 / sqrt((double)n);
  return (norm == FORWARD) == !inverse ? 1 / (double)n : 1;
}

// x with `n` elements along dim: cut, or with zeros behind.
static moon_tensor *resize(compose *c, moon_tensor *x, int dim, int64_t n) {
  if (!x || x->shape[dim] == n) return x;
  if (x->shape[dim] > n)
    return COMPOSE(c, narrow, op_tensor(x), op_int(dim), op_int(0), op_int(n));
  int64_t shape[MOON_MAX_DIMS];
  moon_tensor *zeros = NULL;
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = n - x->shape[dim];
  moon_status status = ops_new_filled(c->engine, x, x->dtype, x->ndim, shape, 0, &zeros);
  moon_tensor *list[2] = { x, compose_adopt(c, status, zeros) };
  return list[1] ? COMPOSE(c, cat, op_tensors(list, 2), op_int(dim)) : NULL;
}

static moon_tensor *complex_step(compose *c, moon_tensor *x, int dim, int64_t n, bool inverse,
                                 int64_t norm) {
  return COMPOSE(c, fft_along, op_tensor(resize(c, x, dim, n)), op_int(dim), op_bool(inverse),
                 op_number(scale_of(norm, inverse, n)));
}

static moon_tensor *real_step(compose *c, moon_tensor *x, int dim, int64_t n, int64_t norm) {
  return COMPOSE(c, fft_real_along, op_tensor(resize(c, x, dim, n)), op_int(dim),
                 op_number(scale_of(norm, false, n)));
}

static moon_tensor *to_real_step(compose *c, moon_tensor *x, int dim, int64_t n, int64_t norm) {
  return COMPOSE(c, fft_to_real_along, op_tensor(resize(c, x, dim, n / 2 + 1)), op_int(dim),
                 op_int(n), op_number(scale_of(norm, true, n)));
}

// -- the users' operators: which dimensions, and what sizes; a descriptor's row says what it does

enum { INVERSE = 1, REAL = 2, PLANE = 4 };   // REAL with INVERSE: the result is real
enum { INPUT, SIZE, DIM, NORM };

// Dimensions to be transformed, with the sizes the signal has there.
typedef struct signal {
  int ndim;                          // of the signal, without pairs
  int count;
  int dims[MOON_MAX_DIMS];
  int64_t sizes[MOON_MAX_DIMS];
} signal;

static moon_status read_dims(const op_call *call, signal *s) {
  const op_value *dims = &call->args[DIM];
  bool seen[MOON_MAX_DIMS] = { false };
  if (!(call->op->row & PLANE)) {
    s->count = 1;
    return signal_dim(s->ndim, dims->integer, &s->dims[0]);
  }
  bool last_two = !dims->given || dims->ints.count == 0;
  s->count = last_two ? 2 : dims->ints.count;
  if (last_two && s->ndim < 2)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least 2 dimensions to transform, got %d",
                     s->ndim);
  for (int i = 0; i < s->count; i++) {
    MOON_TRY(signal_dim(s->ndim, last_two ? i - 2 : dims->ints.v[i], &s->dims[i]));
    if (seen[s->dims[i]])
      return moon_fail(MOON_BAD_ARGUMENT, "dim names dimension %d twice", s->dims[i] + 1);
    seen[s->dims[i]] = true;
  }
  return MOON_OK;
}

// Sizes are given, or the input's own; of half a spectrum, the last is the signal's even size.
static moon_status read_sizes(const op_call *call, signal *s) {
  const moon_tensor *x = call->args[INPUT].tensor;
  const op_value *size = &call->args[SIZE];
  bool plane = call->op->row & PLANE;
  bool to_real = (call->op->row & (REAL | INVERSE)) == (REAL | INVERSE);
  if (plane && size->given && size->ints.count > 0 && size->ints.count != s->count)
    return moon_fail(MOON_BAD_ARGUMENT, "size must have one number for each of the %d dimensions, "
                     "got %d", s->count, size->ints.count);
  bool given = size->given && (!plane || size->ints.count > 0);
  for (int i = 0; i < s->count; i++) {
    int64_t own = x->shape[s->dims[i]];
    if (to_real && i == s->count - 1) own = 2 * (own - 1);
    s->sizes[i] = !given ? own : plane ? size->ints.v[i] : size->integer;
    MOON_TRY(check_size(call->engine, x, s->dims[i], s->sizes[i]));
    if (x->shape[s->dims[i]] == 0) MOON_TRY(check_size(call->engine, x, s->dims[i], 0));
  }
  return MOON_OK;
}

static moon_status read_signal(const op_call *call, signal *s) {
  const moon_tensor *x = call->args[INPUT].tensor;
  bool from_real = (call->op->row & (REAL | INVERSE)) == REAL;
  MOON_TRY(ops_need_wide_float("input", x));
  if (!from_real) MOON_TRY(need_complex("input", x));
  s->ndim = x->ndim - !from_real;
  if (from_real && x->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "input must have at most %d dimensions, because the result "
                     "has one more, got %d", MOON_MAX_DIMS - 1, x->ndim);
  MOON_TRY(read_dims(call, s));
  return read_sizes(call, s);
}

// Real signals lose half of their last dimension first, and get it back last.
static moon_status forward_transform(op_call *call) {
  signal s;
  bool inverse = call->op->row & INVERSE, real = call->op->row & REAL;
  int64_t norm = call->args[NORM].integer;
  MOON_TRY(read_signal(call, &s));
  compose c = compose_open(call->engine);
  moon_tensor *x = call->args[INPUT].tensor;
  int last = s.count - 1;
  if (real && !inverse) x = real_step(&c, x, s.dims[last], s.sizes[last], norm);
  for (int i = 0; i < s.count - real; i++)
    x = complex_step(&c, x, s.dims[i], s.sizes[i], inverse, norm);
  if (real && inverse) x = to_real_step(&c, x, s.dims[last], s.sizes[last], norm);
  return compose_close(&c, x, &call->results[0]);
}

// -- complex numbers

static moon_status forward_complex(op_call *call) {
  moon_tensor *re = call->args[0].tensor, *im = call->args[1].tensor, *list[2] = { re, im };
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("re", re));
  MOON_TRY(ops_need_same_dtype("re", re, "im", im));
  if (!tensor_same_shape(re, im))
    return moon_fail(MOON_BAD_SHAPE, "re %s and im %s must have the same shape",
                     tensor_shape_text(re, a), tensor_shape_text(im, b));
  if (re->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "re and im must have at most %d dimensions, got %d",
                     MOON_MAX_DIMS - 1, re->ndim);
  compose c = compose_open(call->engine);
  for (int i = 0; i < 2; i++) list[i] = COMPOSE(&c, unsqueeze, op_tensor(list[i]), op_int(-1));
  moon_tensor *pairs =
      c.status == MOON_OK ? COMPOSE(&c, cat, op_tensors(list, 2), op_int(-1)) : NULL;
  return compose_close(&c, pairs, &call->results[0]);
}

static moon_tensor *part(compose *c, moon_tensor *x, int which) {
  return COMPOSE(c, select, op_tensor(x), op_int(-1), op_int(which));
}

// Row 0: the real part, 1: the imaginary one.
static moon_status forward_part(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(need_complex("input", x));
  compose c = compose_open(call->engine);
  return compose_close(&c, part(&c, x, (int)call->op->row), &call->results[0]);
}

static moon_tensor *pairs_of(compose *c, moon_tensor *re, moon_tensor *im) {
  moon_tensor *list[2] = { COMPOSE(c, unsqueeze, op_tensor(re), op_int(-1)),
                           COMPOSE(c, unsqueeze, op_tensor(im), op_int(-1)) };
  return c->status == MOON_OK ? COMPOSE(c, cat, op_tensors(list, 2), op_int(-1)) : NULL;
}

static moon_status forward_conj(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(need_complex("input", x));
  compose c = compose_open(call->engine);
  moon_tensor *im = COMPOSE(&c, neg, op_tensor(part(&c, x, 1)));
  return compose_close(&c, pairs_of(&c, part(&c, x, 0), im), &call->results[0]);
}

static moon_status forward_complex_mul(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *y = call->args[1].tensor;
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(ops_need_float("x", x));
  MOON_TRY(ops_need_same_dtype("x", x, "y", y));
  MOON_TRY(need_complex("x", x));
  MOON_TRY(need_complex("y", y));
  MOON_TRY(shape_broadcast(x->ndim, x->shape, y->ndim, y->shape, &ndim, shape));
  compose c = compose_open(call->engine);
  moon_tensor *xr = part(&c, x, 0), *xi = part(&c, x, 1);
  moon_tensor *yr = part(&c, y, 0), *yi = part(&c, y, 1);
  moon_tensor *rr = COMPOSE(&c, mul, op_tensor(xr), op_tensor(yr));
  moon_tensor *ii = COMPOSE(&c, mul, op_tensor(xi), op_tensor(yi));
  moon_tensor *ri = COMPOSE(&c, mul, op_tensor(xr), op_tensor(yi));
  moon_tensor *ir = COMPOSE(&c, mul, op_tensor(xi), op_tensor(yr));
  moon_tensor *re = COMPOSE(&c, sub, op_tensor(rr), op_tensor(ii));
  moon_tensor *im = COMPOSE(&c, add, op_tensor(ri), op_tensor(ir));
  return compose_close(&c, pairs_of(&c, re, im), &call->results[0]);
}

static moon_status forward_complex_abs(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(need_complex("input", x));
  compose c = compose_open(call->engine);
  moon_tensor *size = COMPOSE(&c, norm, op_tensor(x), op_number(2), op_ints(1, (int64_t[]){ -1 }));
  return compose_close(&c, size, &call->results[0]);
}

static moon_status forward_complex_angle(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(need_complex("input", x));
  compose c = compose_open(call->engine);
  moon_tensor *angle = COMPOSE(&c, atan2, op_tensor(part(&c, x, 1)), op_tensor(part(&c, x, 0)));
  return compose_close(&c, angle, &call->results[0]);
}

#define NORMS "norm: \"backward\"|\"ortho\"|\"forward\" = backward"
#define LINE "(input: Tensor, n: int?, dim: dim = -1, " NORMS ") -> out"
#define GRID "(input: Tensor, size: int[]?, dim: dims, " NORMS ") -> out"
#define TRANSFORM .flags = OP_COMPOSITE, .dtypes = OP_REALS, .forward = forward_transform
#define SCALING " norm says what is divided by n: the inverse (backward), the transform " \
                "(forward), or both by its root (ortho). Float32 and float64 (Cooley and Tukey " \
                "1965)."

static op_descriptor descriptors[] = {
  { .name = "fft", .schema = LINE, .row = 0, TRANSFORM,
    .doc = "The discrete Fourier transform along a dimension: X[k] = sum over j of x[j] "
           "exp(-2 pi i j k / n), with j and k from 0. Input and result are complex: their last "
           "dimension is (re, im) and not counted by dim. n cuts the signal or pads it with zeros."
           SCALING,
    .example = "moon.complex(moon.tensor{1, 2, 3, 4}, moon.zeros(4)):fft() "
               "--> {{10, 0}, {-2, 2}, {-2, 0}, {-2, -2}}" },
  { .name = "ifft", .schema = LINE, .row = INVERSE, TRANSFORM,
    .doc = "The inverse of fft: x[j] = 1 / n sum over k of X[k] exp(2 pi i j k / n)." SCALING,
    .example = "moon.tensor{{10, 0}, {-2, 2}, {-2, 0}, {-2, -2}}:ifft():real() "
               "--> {1, 2, 3, 4}" },
  { .name = "rfft", .schema = LINE, .row = REAL, TRANSFORM,
    .doc = "The Fourier transform of a real signal: the n / 2 + 1 frequencies that are not "
           "negative (the others are their conjugates), complex, with a new last dimension "
           "(re, im)." SCALING,
    .example = "moon.tensor{1, 2, 3, 4}:rfft() --> {{10, 0}, {-2, 2}, {-2, 0}}" },
  { .name = "irfft", .schema = LINE, .row = REAL | INVERSE, TRANSFORM,
    .doc = "The inverse of rfft: a real signal of n elements, 2 (m - 1) if left out, from m "
           "frequencies. The imaginary parts at frequency 0, and at n / 2 for even n, are not read."
           SCALING,
    .example = "moon.tensor{{10, 0}, {-2, 2}, {-2, 0}}:irfft() --> {1, 2, 3, 4}" },
  { .name = "fft2", .schema = GRID, .row = PLANE, TRANSFORM,
    .doc = "fft along several dimensions, the last two if none are named; `size` cuts or pads each."
           SCALING,
    .example = "moon.complex(moon.ones(2, 2), moon.zeros(2, 2)):fft2():real() "
               "--> {{4, 0}, {0, 0}}" },
  { .name = "ifft2", .schema = GRID, .row = PLANE | INVERSE, TRANSFORM,
    .doc = "The inverse of fft2." SCALING,
    .example = "moon.complex(moon.ones(2, 2), moon.zeros(2, 2)):ifft2():real() "
               "--> {{1, 0}, {0, 0}}" },
  { .name = "rfft2", .schema = GRID, .row = PLANE | REAL, TRANSFORM,
    .doc = "The Fourier transform of a real image: rfft along the last of several dimensions (the "
           "last two if none are named), then fft along the others." SCALING,
    .example = "moon.ones(2, 4):rfft2():real() --> {{8, 0, 0}, {0, 0, 0}}" },
  { .name = "irfft2", .schema = GRID, .row = PLANE | REAL | INVERSE, TRANSFORM,
    .doc = "The inverse of rfft2; `size` is that of the real result." SCALING,
    .example = "moon.ones(2, 4):rfft2():irfft2() --> {{1, 1, 1, 1}, {1, 1, 1, 1}}" },
  { .name = "fft_along", .flags = OP_HIDDEN,
    .schema = "(input: Tensor, dim: int, inverse: bool, scale: number) -> out",
    .doc = "One complex transform along one dimension, counted from 0.",
    .forward = forward_along, .backward = backward_along },
  { .name = "fft_real_along", .flags = OP_HIDDEN,
    .schema = "(input: Tensor, dim: int, scale: number) -> out",
    .doc = "The transform of a real signal along one dimension, counted from 0.",
    .forward = forward_real, .backward = backward_real },
  { .name = "fft_to_real_along", .flags = OP_HIDDEN,
    .schema = "(input: Tensor, dim: int, n: int, scale: number) -> out",
    .doc = "A real signal of n elements from half its spectrum along a dimension, counted from 0.",
    .forward = forward_to_real, .backward = backward_to_real },
  { .name = "complex", .flags = OP_COMPOSITE | OP_FUNCTION_ONLY, .dtypes = OP_FLOATS,
    .schema = "(re: Tensor, im: Tensor) -> out",
    .doc = "Complex numbers from their parts: a new last dimension of 2.",
    .example = "moon.complex(moon.tensor{1, 2}, moon.tensor{3, 4}) --> {{1, 3}, {2, 4}}",
    .forward = forward_complex },
  { .name = "real", .flags = OP_COMPOSITE, .row = 0, .schema = "(input: Tensor) -> out",
    .doc = "The real parts of complex numbers (last dimension 2). A view.",
    .example = "moon.tensor{{1, 3}, {2, 4}}:real() --> {1, 2}", .forward = forward_part },
  { .name = "imag", .flags = OP_COMPOSITE, .row = 1, .schema = "(input: Tensor) -> out",
    .doc = "The imaginary parts of complex numbers (last dimension 2). A view.",
    .example = "moon.tensor{{1, 3}, {2, 4}}:imag() --> {3, 4}", .forward = forward_part },
  { .name = "conj", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS, .schema = "(input: Tensor) -> out",
    .doc = "Complex conjugates: the imaginary parts change their sign.",
    .example = "moon.tensor{1, 3}:conj() --> {1, -3}", .forward = forward_conj },
  { .name = "complex_mul", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(x: Tensor, y: Tensor) -> out",
    .doc = "The product of complex numbers, (a + bi)(c + di) = (ac - bd) + (ad + bc)i. The last "
           "dimensions are 2, the others broadcast.",
    .example = "moon.tensor{1, 2}:complex_mul(moon.tensor{3, 4}) --> {-5, 10}",
    .forward = forward_complex_mul },
  { .name = "complex_abs", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor) -> out",
    .doc = "The size of complex numbers, sqrt(re^2 + im^2). The gradient at 0 is 0.",
    .example = "moon.tensor{3, 4}:complex_abs() --> 5", .forward = forward_complex_abs },
  { .name = "complex_angle", .flags = OP_COMPOSITE, .dtypes = OP_FLOATS,
    .schema = "(input: Tensor) -> out",
    .doc = "The angle of complex numbers, from -pi to pi.",
    .example = "moon.tensor{1, 0}:complex_angle() --> 0", .forward = forward_complex_angle },
};

OP_FAMILY(fft, descriptors);
