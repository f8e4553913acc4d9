// Elementwise kernels: a row of pointwise.def gives a function object forward and one for each
// derivative, from the formulas that the CPU compiles, and elementwise.cuh makes kernels of them.
#include "elementwise.cuh"

#include <stddef.h>

#include "device/formula.h"

// -- function objects, named <row>_forward, <row>_backward, <row>_backward_x, <row>_backward_y.
//    Like the CPU's loops they may read all of x, y, g and (BINARY) z; a and b are the attributes.
#define OBJECT(name, N, result, names, formula)                              \
  template <typename T> struct name {                                        \
    T a, b;                                                                  \
    __host__ __device__ result operator()(const T (&v)[N]) const {           \
      names;                                                                 \
      return (result)(formula);                                              \
    }                                                                        \
  };
#define NAMES_1 const T x = v[0]; (void)x
#define NAMES_2 const T x = v[0], y = v[1]; (void)x, (void)y
#define NAMES_3 const T g = v[0], x = v[1], y = v[2]; (void)g, (void)x, (void)y
#define NAMES_4 \
  const T g = v[0], x = v[1], y = v[2], z = v[3]; (void)g, (void)x, (void)y, (void)z

#define UNARY(name, class, attributes, formula, derivative, low, high, help) \
  OBJECT(name##_forward, 1, T, NAMES_1, formula)                             \
  OBJECT(name##_backward, 3, T, NAMES_3, derivative)
#define BINARY(name, class, attributes, formula, of_x, of_y, low, high, help) \
  OBJECT(name##_forward, 2, T, NAMES_2, formula)                              \
  OBJECT(name##_backward_x, 4, T, NAMES_4, of_x)                              \
  OBJECT(name##_backward_y, 4, T, NAMES_4, of_y)
#define COMPARE(name, formula, help) OBJECT(name##_compare, 2, bool, NAMES_2, formula)
#define PREDICATE(name, formula, help) OBJECT(name##_predicate, 1, bool, NAMES_1, formula)
#include "device/pointwise.def"

// -- launchers, one a row and compute type
typedef moon_status (*launcher)(cuda_context *c, const double *attributes,
                                const device_array *out, const device_array *const *in);

static void set_attribute(float *to, double value) { *to = (float)value; }
static void set_attribute(double *to, double value) { *to = value; }
static void set_attribute(int64_t *to, double value) { *to = dtype_to_int(value); }

template <typename T, int N, template <typename> class Row>
static moon_status run(cuda_context *c, const double *attributes, const device_array *out,
                       const device_array *const *in) {
  const device_array *operands[N];
  Row<T> row;
  for (int k = 0; k < N; k++) operands[k] = in[k];
  set_attribute(&row.a, attributes ? attributes[0] : 0);
  set_attribute(&row.b, attributes ? attributes[1] : 0);
  return cuda_elementwise<T>(c, out, operands, row);
}

// The columns of a table of launchers.
enum { COLUMN_F32, COLUMN_F64, COLUMN_I64, COLUMNS };

static int column_of(moon_dtype dtype) {
  if (dtype == MOON_F64) return COLUMN_F64;
  return dtype_is_float(dtype) ? COLUMN_F32 : COLUMN_I64;
}

#define ENTRY_FLOAT(name, N) { run<float, N, name>, run<double, N, name>, NULL },
#define ENTRY_NUMBER(name, N) \
  { run<float, N, name>, run<double, N, name>, run<int64_t, N, name> },
#define ENTRY_ANY ENTRY_NUMBER

static const launcher unary_rows[UNARY_ROWS][COLUMNS] = {
#define UNARY(name, class, ...) ENTRY_##class(name##_forward, 1)
#include "device/pointwise.def"
};
static const launcher unary_backward_rows[UNARY_ROWS][COLUMNS] = {
#define UNARY(name, class, ...) ENTRY_FLOAT(name##_backward, 3)
#include "device/pointwise.def"
};
static const launcher binary_rows[BINARY_ROWS][COLUMNS] = {
#define BINARY(name, class, ...) ENTRY_##class(name##_forward, 2)
#include "device/pointwise.def"
};
static const launcher binary_backward_rows[2][BINARY_ROWS][COLUMNS] = {
  {
#define BINARY(name, class, ...) ENTRY_FLOAT(name##_backward_x, 4)
#include "device/pointwise.def"
  },
  {
#define BINARY(name, class, ...) ENTRY_FLOAT(name##_backward_y, 4)
#include "device/pointwise.def"
  },
};
static const launcher compare_rows[COMPARE_ROWS][COLUMNS] = {
#define COMPARE(name, ...) ENTRY_ANY(name##_compare, 2)
#include "device/pointwise.def"
};
static const launcher predicate_rows[PREDICATE_ROWS][COLUMNS] = {
#define PREDICATE(name, ...) ENTRY_ANY(name##_predicate, 1)
#include "device/pointwise.def"
};

// -- the slots
static moon_status start(cuda_context *c, const launcher *row, const double *attributes,
                         const device_array *out, const device_array *const *in) {
  launcher of_type = row[column_of(in[0]->dtype)];
  if (!of_type) return cuda_no_type(in[0]->dtype);
  return of_type(c, attributes, out, in);
}

// Refuses a zero among the integer divisors of `row`; it has to wait for the answer.
static moon_status check_divisor(cuda_context *c, int row, const device_array *y) {
  bool divides = row == BINARY_div_floor || row == BINARY_remainder || row == BINARY_fmod;
  if (!divides || dtype_is_float(y->dtype) || c->recording) return MOON_OK;
  cuda_scratch flag(c);
  uint8_t no_zero = 0;
  MOON_TRY(flag.take(1));
  device_array answer = {};
  answer.data = flag.as<void>();
  answer.dtype = MOON_BOOL;
  answer.ndim = y->ndim;
  for (int i = 0; i < y->ndim; i++) answer.shape[i] = answer.strides[i] = 1;
  MOON_TRY(cuda_reduce(c, REDUCE_ALL, y, &answer));
  MOON_TRY(cuda_download(c, answer.data, &no_zero, 1));
  return no_zero ? MOON_OK : moon_fail(MOON_BAD_ARGUMENT, "division by zero");
}

moon_status cuda_unary(cuda_context *c, int row, const double *attributes, const device_array *x,
                       const device_array *out) {
  return start(c, unary_rows[row], attributes, out, &x);
}

moon_status cuda_binary(cuda_context *c, int row, const double *attributes, const device_array *x,
                        const device_array *y, const device_array *out) {
  const device_array *in[] = { x, y };
  MOON_TRY(check_divisor(c, row, y));
  return start(c, binary_rows[row], attributes, out, in);
}

moon_status cuda_compare(cuda_context *c, int row, const device_array *x, const device_array *y,
                         const device_array *out) {
  const device_array *in[] = { x, y };
  return start(c, compare_rows[row], NULL, out, in);
}

moon_status cuda_predicate(cuda_context *c, int row, const device_array *x,
                           const device_array *out) {
  return start(c, predicate_rows[row], NULL, out, &x);
}

// An array that the derivative does not read may be NULL; any other stands in for it.
moon_status cuda_unary_backward(cuda_context *c, int row, const double *attributes,
                                const device_array *g, const device_array *x,
                                const device_array *y, const device_array *dx) {
  const device_array *in[] = { g, x ? x : g, y ? y : g };
  return start(c, unary_backward_rows[row], attributes, dx, in);
}

moon_status cuda_binary_backward(cuda_context *c, int row, int side, const double *attributes,
                                 const device_array *g, const device_array *x,
                                 const device_array *y, const device_array *z,
                                 const device_array *dx) {
  const device_array *in[] = { g, x ? x : g, y ? y : g, z ? z : g };
  return start(c, binary_backward_rows[side][row], attributes, dx, in);
}
