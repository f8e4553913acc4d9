// The elementwise kernels, expanded from pointwise.def: a row gives one plain loop for each compute
// type, forward and for each derivative (exp_forward_f32, exp_backward_f64, pow_backward_y_f32).
// A loop's runs are contiguous and the same or disjoint, which `ivdep` tells the vectoriser.
#include "cpu/cpu.h"

#include <stddef.h>

#include "device/formula.h"

// The columns of a table of loops.
enum { SLOT_F32, SLOT_F64, SLOT_I64, SLOTS };

static int slot_of(moon_dtype dtype) {
  moon_dtype compute = cpu_compute_dtype(dtype);
  return compute == MOON_F32 ? SLOT_F32 : compute == MOON_F64 ? SLOT_F64 : SLOT_I64;
}

// What every loop starts with; `attribute` brings a and b to the compute type.
#define LOOP_HEAD(type, attribute, result)                         \
  typedef type T;                                                  \
  const T a = (T)attribute(ab[0]), b = (T)attribute(ab[1]);        \
  result *out = p[0];                                              \
  (void)a, (void)b
#define LOOP_EACH _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)
#define PLAIN(number) (number)

// p: result, x
#define LOOP_1(name, type, attribute, result, formula)                        \
  static void name(int64_t n, void *const *p, const double *ab) {             \
    LOOP_HEAD(type, attribute, result);                                       \
    const T *xs = p[1];                                                       \
    LOOP_EACH {                                                               \
      const T x = xs[i];                                                      \
      out[i] = (result)(formula);                                             \
    }                                                                         \
  }
// p: result, x, y
#define LOOP_2(name, type, attribute, result, formula)                        \
  static void name(int64_t n, void *const *p, const double *ab) {             \
    LOOP_HEAD(type, attribute, result);                                       \
    const T *xs = p[1], *ys = p[2];                                           \
    LOOP_EACH {                                                               \
      const T x = xs[i], y = ys[i];                                           \
      out[i] = (result)(formula);                                             \
    }                                                                         \
  }
// p: dx, g, x, y
#define LOOP_3(name, type, attribute, result, formula)                        \
  static void name(int64_t n, void *const *p, const double *ab) {             \
    LOOP_HEAD(type, attribute, result);                                       \
    const T *gs = p[1], *xs = p[2], *ys = p[3];                               \
    LOOP_EACH {                                                               \
      const T g = gs[i], x = xs[i], y = ys[i];                                \
      (void)g, (void)x, (void)y;                                              \
      out[i] = (result)(formula);                                             \
    }                                                                         \
  }
// p: dx, g, x, y, z
#define LOOP_4(name, type, attribute, result, formula)                        \
  static void name(int64_t n, void *const *p, const double *ab) {             \
    LOOP_HEAD(type, attribute, result);                                       \
    const T *gs = p[1], *xs = p[2], *ys = p[3], *zs = p[4];                   \
    LOOP_EACH {                                                               \
      const T g = gs[i], x = xs[i], y = ys[i], z = zs[i];                     \
      (void)g, (void)x, (void)y, (void)z;                                     \
      out[i] = (result)(formula);                                             \
    }                                                                         \
  }

// -- the loops
#define LOOPS_FLOAT(LOOP, name, formula)                 \
  LOOP(name##_f32, float, PLAIN, float, formula)         \
  LOOP(name##_f64, double, PLAIN, double, formula)
#define LOOPS_NUMBER(LOOP, name, formula)                \
  LOOPS_FLOAT(LOOP, name, formula)                       \
  LOOP(name##_i64, int64_t, dtype_to_int, int64_t, formula)
#define LOOPS_ANY LOOPS_NUMBER
#define LOOPS_BOOL(LOOP, name, formula)                  \
  LOOP(name##_f32, float, PLAIN, uint8_t, formula)       \
  LOOP(name##_f64, double, PLAIN, uint8_t, formula)      \
  LOOP(name##_i64, int64_t, dtype_to_int, uint8_t, formula)

#define UNARY(name, class, attributes, formula, derivative, low, high, help) \
  LOOPS_##class(LOOP_1, name##_forward, formula)                             \
  LOOPS_FLOAT(LOOP_3, name##_backward, derivative)
#define BINARY(name, class, attributes, formula, of_x, of_y, low, high, help) \
  LOOPS_##class(LOOP_2, name##_forward, formula)                              \
  LOOPS_FLOAT(LOOP_4, name##_backward_x, of_x)                                \
  LOOPS_FLOAT(LOOP_4, name##_backward_y, of_y)
#define COMPARE(name, formula, help) LOOPS_BOOL(LOOP_2, name##_compare, formula)
#define PREDICATE(name, formula, help) LOOPS_BOOL(LOOP_1, name##_predicate, formula)
#include "device/pointwise.def"

// -- sines in float32 hold up to FORMULA_FAR: a chunk with a larger argument goes through double

static bool is_near(int64_t n, const float *x) {
  int far = 0;
  for (int64_t i = 0; i < n; i++) far |= formula_size(x[i]) > FORMULA_FAR;
  return !far;
}

static void run_in_double(int64_t n, int count, float *const *p, const double *ab, cpu_loop loop) {
  double wide[CPU_MAX_OPERANDS][CPU_CHUNK];
  void *wides[CPU_MAX_OPERANDS];
  for (int k = 0; k < count; k++) {
    wides[k] = wide[k];
    for (int64_t i = 0; k > 0 && i < n; i++) wide[k][i] = (double)p[k][i];
  }
  loop(n, wides, ab);
  for (int64_t i = 0; i < n; i++) p[0][i] = (float)wide[0][i];
}

// The argument is p[from].
static void run_turned(int64_t n, int count, void *const *p, int from, const double *ab,
                       cpu_loop loop, cpu_loop in_double) {
  for (int64_t i = 0; i < n; i += CPU_CHUNK) {
    int64_t some = n - i < CPU_CHUNK ? n - i : CPU_CHUNK;
    float *part[CPU_MAX_OPERANDS];
    void *parts[CPU_MAX_OPERANDS];
    for (int k = 0; k < count; k++) parts[k] = part[k] = (float *)p[k] + i;
    if (is_near(some, part[from])) loop(some, parts, ab);
    else run_in_double(some, count, part, ab, in_double);
  }
}

#define TURNED(name, count, from)                                             \
  static void name##_turned(int64_t n, void *const *p, const double *ab) {    \
    run_turned(n, count, p, from, ab, name##_f32, name##_f64);                \
  }
TURNED(sin_forward, 2, 1)
TURNED(cos_forward, 2, 1)
TURNED(tan_forward, 2, 1)
TURNED(sin_backward, 4, 2)
TURNED(cos_backward, 4, 2)

// -- the tables
#define ENTRY_FLOAT(name) { name##_f32, name##_f64, NULL }
#define ENTRY_NUMBER(name) { name##_f32, name##_f64, name##_i64 }
#define ENTRY_ANY ENTRY_NUMBER

static const cpu_loop unary_loops[UNARY_ROWS][SLOTS] = {
#define UNARY(name, class, ...) ENTRY_##class(name##_forward),
#include "device/pointwise.def"
};
static const cpu_loop unary_backward_loops[UNARY_ROWS][SLOTS] = {
#define UNARY(name, class, ...) ENTRY_FLOAT(name##_backward),
#include "device/pointwise.def"
};
// In float32 in place of those.
static const cpu_loop turned_loops[UNARY_ROWS] = {
  [UNARY_sin] = sin_forward_turned,
  [UNARY_cos] = cos_forward_turned,
  [UNARY_tan] = tan_forward_turned,
};
static const cpu_loop turned_backward_loops[UNARY_ROWS] = {
  [UNARY_sin] = sin_backward_turned,
  [UNARY_cos] = cos_backward_turned,
};
static const cpu_loop binary_loops[BINARY_ROWS][SLOTS] = {
#define BINARY(name, class, ...) ENTRY_##class(name##_forward),
#include "device/pointwise.def"
};
static const cpu_loop binary_backward_loops[2][BINARY_ROWS][SLOTS] = {
  {
#define BINARY(name, class, ...) ENTRY_FLOAT(name##_backward_x),
#include "device/pointwise.def"
  },
  {
#define BINARY(name, class, ...) ENTRY_FLOAT(name##_backward_y),
#include "device/pointwise.def"
  },
};
static const cpu_loop compare_loops[COMPARE_ROWS][SLOTS] = {
#define COMPARE(name, ...) ENTRY_ANY(name##_compare),
#include "device/pointwise.def"
};
static const cpu_loop predicate_loops[PREDICATE_ROWS][SLOTS] = {
#define PREDICATE(name, ...) ENTRY_ANY(name##_predicate),
#include "device/pointwise.def"
};

// -- the kernels
static cpu_operand computed(const device_array *array) {
  return (cpu_operand){ array, cpu_compute_dtype(array->dtype) };
}

static cpu_loop unary_loop(const cpu_loop loops[][SLOTS], const cpu_loop *turned, int row,
                           moon_dtype dtype) {
  int slot = slot_of(dtype);
  return slot == SLOT_F32 && turned[row] ? turned[row] : loops[row][slot];
}

static moon_status run(moon_engine *engine, cpu_loop loop, const double *attributes, int count,
                       const cpu_operand *operands) {
  static const double none[MOON_MAX_POINTWISE_ATTRIBUTES] = { 0 };
  if (!loop)
    return moon_fail(MOON_BAD_DTYPE, "no loop for %s", dtype_name(operands[1].array->dtype));
  return CPU(elementwise)(engine, count, operands, loop, attributes ? attributes : none);
}

// Refuses a zero among the integer divisors of `row`.
static moon_status check_divisor(moon_engine *engine, int row, const device_array *y) {
  bool divides = row == BINARY_div_floor || row == BINARY_remainder || row == BINARY_fmod;
  if (!divides || dtype_is_float(y->dtype)) return MOON_OK;
  uint8_t no_zero = 0;
  device_array answer = { .data = &no_zero, .dtype = MOON_BOOL, .ndim = y->ndim };
  for (int i = 0; i < y->ndim; i++) answer.shape[i] = answer.strides[i] = 1;
  MOON_TRY(CPU(reduce)(engine, REDUCE_ALL, y, &answer));
  return no_zero ? MOON_OK : moon_fail(MOON_BAD_ARGUMENT, "division by zero");
}

moon_status CPU(unary)(moon_engine *engine, int row, const double *attributes,
                       const device_array *x, const device_array *out) {
  cpu_operand operands[] = { computed(out), computed(x) };
  cpu_loop loop = unary_loop(unary_loops, turned_loops, row, x->dtype);
  return run(engine, loop, attributes, 2, operands);
}

moon_status CPU(binary)(moon_engine *engine, int row, const double *attributes,
                        const device_array *x, const device_array *y, const device_array *out) {
  cpu_operand operands[] = { computed(out), computed(x), computed(y) };
  MOON_TRY(check_divisor(engine, row, y));
  return run(engine, binary_loops[row][slot_of(x->dtype)], attributes, 3, operands);
}

moon_status CPU(compare)(moon_engine *engine, int row, const device_array *x,
                         const device_array *y, const device_array *out) {
  cpu_operand operands[] = { { out, MOON_BOOL }, computed(x), computed(y) };
  return run(engine, compare_loops[row][slot_of(x->dtype)], NULL, 3, operands);
}

moon_status CPU(predicate)(moon_engine *engine, int row, const device_array *x,
                           const device_array *out) {
  cpu_operand operands[] = { { out, MOON_BOOL }, computed(x) };
  return run(engine, predicate_loops[row][slot_of(x->dtype)], NULL, 2, operands);
}

// An array that the derivative does not read may be NULL; any other stands in for it.
moon_status CPU(unary_backward)(moon_engine *engine, int row, const double *attributes,
                                const device_array *g, const device_array *x,
                                const device_array *y, const device_array *dx) {
  cpu_operand operands[] = { computed(dx), computed(g), computed(x ? x : g),
                             computed(y ? y : g) };
  cpu_loop loop = unary_loop(unary_backward_loops, turned_backward_loops, row, g->dtype);
  return run(engine, loop, attributes, 4, operands);
}

moon_status CPU(binary_backward)(moon_engine *engine, int row, int side, const double *attributes,
                                 const device_array *g, const device_array *x,
                                 const device_array *y, const device_array *z,
                                 const device_array *dx) {
  cpu_operand operands[] = { computed(dx), computed(g), computed(x ? x : g), computed(y ? y : g),
                             computed(z ? z : g) };
  return run(engine, binary_backward_loops[side][row][slot_of(g->dtype)], attributes, 5,
             operands);
}
