// Elementwise kernels: every row of pointwise.def, forward and each derivative, for float32 and
// float64. The formulas are those the CPU compiles.
//
// All are bound by memory: each input is read once, the output written once, nothing is reread.
// Arrays are contiguous for now; strided ones and the half types follow with the plug-in's device.
#include "pointwise.cuh"

#include <stddef.h>

#include "device/formula.h"

// -- kernels, named <row>_forward, <row>_backward, <row>_backward_x, <row>_backward_y

template <typename T>
struct attributes_of { T a, b; };

#define KERNEL_HEAD            \
  const T a = ab.a, b = ab.b;  \
  (void)a, (void)b;            \
  CUDA_EACH(i, count)

#define KERNEL_1(name, result, formula)                                                  \
  template <typename T>                                                                  \
  static __global__ void name(int64_t count, attributes_of<T> ab, const T *xs, result *out) { \
    KERNEL_HEAD {                                                                        \
      const T x = xs[i];                                                                 \
      out[i] = (result)(formula);                                                        \
    }                                                                                    \
  }
#define KERNEL_2(name, result, formula)                                                  \
  template <typename T>                                                                  \
  static __global__ void name(int64_t count, attributes_of<T> ab, const T *xs, const T *ys, \
                              result *out) {                                             \
    KERNEL_HEAD {                                                                        \
      const T x = xs[i], y = ys[i];                                                      \
      out[i] = (result)(formula);                                                        \
    }                                                                                    \
  }
#define KERNEL_3(name, formula)                                                          \
  template <typename T>                                                                  \
  static __global__ void name(int64_t count, attributes_of<T> ab, const T *gs, const T *xs, \
                              const T *ys, T *out) {                                     \
    KERNEL_HEAD {                                                                        \
      const T g = gs[i], x = xs[i], y = ys[i];                                           \
      (void)g, (void)x, (void)y;                                                         \
      out[i] = (T)(formula);                                                             \
    }                                                                                    \
  }
#define KERNEL_4(name, formula)                                                          \
  template <typename T>                                                                  \
  static __global__ void name(int64_t count, attributes_of<T> ab, const T *gs, const T *xs, \
                              const T *ys, const T *zs, T *out) {                        \
    KERNEL_HEAD {                                                                        \
      const T g = gs[i], x = xs[i], y = ys[i], z = zs[i];                                \
      (void)g, (void)x, (void)y, (void)z;                                                \
      out[i] = (T)(formula);                                                             \
    }                                                                                    \
  }

#define UNARY(name, class, attributes, formula, derivative, low, high, help) \
  KERNEL_1(name##_forward, T, formula)                                       \
  KERNEL_3(name##_backward, derivative)
#define BINARY(name, class, attributes, formula, derivative_x, derivative_y, low, high, help) \
  KERNEL_2(name##_forward, T, formula)                                                        \
  KERNEL_4(name##_backward_x, derivative_x)                                                   \
  KERNEL_4(name##_backward_y, derivative_y)
#define COMPARE(name, formula, help) KERNEL_2(name##_forward, uint8_t, formula)
#define PREDICATE(name, formula, help) KERNEL_1(name##_forward, uint8_t, formula)
#include "device/pointwise.def"

// -- the tables: a row's kernels for one type

template <typename T>
struct unary_row {
  void (*forward)(int64_t, attributes_of<T>, const T *, T *);
  void (*backward)(int64_t, attributes_of<T>, const T *, const T *, const T *, T *);
};
template <typename T>
struct binary_row {
  void (*forward)(int64_t, attributes_of<T>, const T *, const T *, T *);
  void (*backward[2])(int64_t, attributes_of<T>, const T *, const T *, const T *, const T *, T *);
};
template <typename T>
struct compare_row { void (*forward)(int64_t, attributes_of<T>, const T *, const T *, uint8_t *); };
template <typename T>
struct predicate_row { void (*forward)(int64_t, attributes_of<T>, const T *, uint8_t *); };

template <typename T>
struct tables {
  static const unary_row<T> unary[];
  static const binary_row<T> binary[];
  static const compare_row<T> compare[];
  static const predicate_row<T> predicate[];
};

template <typename T>
const unary_row<T> tables<T>::unary[] = {
#define UNARY(name, ...) { name##_forward<T>, name##_backward<T> },
#include "device/pointwise.def"
};
template <typename T>
const binary_row<T> tables<T>::binary[] = {
#define BINARY(name, ...) { name##_forward<T>, { name##_backward_x<T>, name##_backward_y<T> } },
#include "device/pointwise.def"
};
template <typename T>
const compare_row<T> tables<T>::compare[] = {
#define COMPARE(name, ...) { name##_forward<T> },
#include "device/pointwise.def"
};
template <typename T>
const predicate_row<T> tables<T>::predicate[] = {
#define PREDICATE(name, ...) { name##_forward<T> },
#include "device/pointwise.def"
};

static const char *const unary_names[] = {
#define UNARY(name, ...) #name,
#include "device/pointwise.def"
};
static const char *const binary_names[] = {
#define BINARY(name, ...) #name,
#include "device/pointwise.def"
};
static const char *const compare_names[] = {
#define COMPARE(name, ...) #name,
#include "device/pointwise.def"
};
static const char *const predicate_names[] = {
#define PREDICATE(name, ...) #name,
#include "device/pointwise.def"
};

struct family { const char *const *names; int rows; };
#define FAMILY(names) { names, (int)(sizeof(names) / sizeof(*names)) }
static const family families[] = { FAMILY(unary_names), FAMILY(binary_names),
                                   FAMILY(compare_names), FAMILY(predicate_names) };

int moon_cuda_rows(int family) { return families[family].rows; }
const char *moon_cuda_row_name(int family, int row) { return families[family].names[row]; }
const char *moon_cuda_error_text(void) { return moon_error_text(); }

// -- launchers

template <typename T>
static attributes_of<T> attributes_from(const double *attributes) {
  attributes_of<T> ab = { T(0), T(0) };
  if (attributes != NULL) {
    ab.a = T(attributes[0]);
    ab.b = T(attributes[1]);
  }
  return ab;
}

// Puts `kernel` on the stream for `count` elements.
template <typename... Parameters, typename... Arguments>
static moon_status launch(cudaStream_t stream, void (*kernel)(int64_t, Parameters...),
                          int64_t count, Arguments... arguments) {
  if (count == 0) return MOON_OK;
  kernel<<<cuda_blocks(count), CUDA_BLOCK, 0, stream>>>(count, arguments...);
  MOON_CUDA(cudaGetLastError());
  return MOON_OK;
}

static moon_status check_call(int family, int row, moon_dtype dtype) {
  if (row < 0 || row >= families[family].rows) {
    return moon_fail(MOON_BAD_ARGUMENT, "cuda: there is no elementwise row %d", row);
  }
  if (dtype != MOON_F32 && dtype != MOON_F64) {
    return moon_fail(MOON_BAD_DTYPE, "cuda: %s is for float32 and float64 so far",
                     families[family].names[row]);
  }
  return MOON_OK;
}

// Continues with T as the type of `dtype`.
#define WITH_TYPE(dtype, statement) \
  do {                              \
    if ((dtype) == MOON_F32) {      \
      typedef float T;              \
      statement;                    \
    } else {                        \
      typedef double T;             \
      statement;                    \
    }                               \
  } while (0)

moon_status moon_cuda_unary(cudaStream_t stream, int row, moon_dtype dtype,
                            const double *attributes, int64_t count, const void *x, void *out) {
  MOON_TRY(check_call(CUDA_UNARY, row, dtype));
  WITH_TYPE(dtype, return launch(stream, tables<T>::unary[row].forward, count,
                                 attributes_from<T>(attributes), (const T *)x, (T *)out));
}

moon_status moon_cuda_unary_backward(cudaStream_t stream, int row, moon_dtype dtype,
                                     const double *attributes, int64_t count, const void *g,
                                     const void *x, const void *y, void *dx) {
  MOON_TRY(check_call(CUDA_UNARY, row, dtype));
  WITH_TYPE(dtype, return launch(stream, tables<T>::unary[row].backward, count,
                                 attributes_from<T>(attributes), (const T *)g, (const T *)x,
                                 (const T *)y, (T *)dx));
}

moon_status moon_cuda_binary(cudaStream_t stream, int row, moon_dtype dtype,
                             const double *attributes, int64_t count, const void *x, const void *y,
                             void *out) {
  MOON_TRY(check_call(CUDA_BINARY, row, dtype));
  WITH_TYPE(dtype, return launch(stream, tables<T>::binary[row].forward, count,
                                 attributes_from<T>(attributes), (const T *)x, (const T *)y,
                                 (T *)out));
}

moon_status moon_cuda_binary_backward(cudaStream_t stream, int row, int side, moon_dtype dtype,
                                      const double *attributes, int64_t count, const void *g,
                                      const void *x, const void *y, const void *z, void *dx) {
  MOON_TRY(check_call(CUDA_BINARY, row, dtype));
  WITH_TYPE(dtype, return launch(stream, tables<T>::binary[row].backward[side != 0], count,
                                 attributes_from<T>(attributes), (const T *)g, (const T *)x,
                                 (const T *)y, (const T *)z, (T *)dx));
}

moon_status moon_cuda_compare(cudaStream_t stream, int row, moon_dtype dtype, int64_t count,
                              const void *x, const void *y, uint8_t *out) {
  MOON_TRY(check_call(CUDA_COMPARE, row, dtype));
  WITH_TYPE(dtype, return launch(stream, tables<T>::compare[row].forward, count,
                                 attributes_from<T>(NULL), (const T *)x, (const T *)y, out));
}

moon_status moon_cuda_predicate(cudaStream_t stream, int row, moon_dtype dtype, int64_t count,
                                const void *x, uint8_t *out) {
  MOON_TRY(check_call(CUDA_PREDICATE, row, dtype));
  WITH_TYPE(dtype, return launch(stream, tables<T>::predicate[row].forward, count,
                                 attributes_from<T>(NULL), (const T *)x, out));
}
