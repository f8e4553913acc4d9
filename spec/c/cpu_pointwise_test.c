// csrc/cpu/pointwise.c: every row of pointwise.def against the C library in double, in every float
// dtype and layout; derivatives against finite differences; integers, specials, threads.
#include "cpu_check.h"

typedef double (*reference_1)(double x, double a, double b);
typedef double (*reference_2)(double x, double y);

static double clamped(double x, double low, double high) { return fmin(fmax(x, low), high); }
static double logistic(double x) { return 1 / (1 + exp(-x)); }
static double rest_down(double x, double y) {
  double rest = fmod(x, y);
  return rest * y < 0 ? rest + y : rest;
}

// One independent formula a row, in the order of the file.
#define UNARY_REFERENCES(ROW)                                                                \
  ROW(neg, -x) ROW(abs, fabs(x)) ROW(sign, (x > 0) - (x < 0)) ROW(square, x * x)             \
  ROW(reciprocal, 1 / x) ROW(sqrt, sqrt(x)) ROW(rsqrt, 1 / sqrt(x)) ROW(exp, exp(x))         \
  ROW(expm1, expm1(x)) ROW(log, log(x)) ROW(log1p, log1p(x)) ROW(log2, log2(x))              \
  ROW(log10, log10(x)) ROW(sin, sin(x)) ROW(cos, cos(x)) ROW(tan, tan(x)) ROW(asin, asin(x)) \
  ROW(acos, acos(x)) ROW(atan, atan(x)) ROW(sinh, sinh(x)) ROW(cosh, cosh(x))                \
  ROW(tanh, tanh(x)) ROW(erf, erf(x)) ROW(erfc, erfc(x)) ROW(floor, floor(x))                \
  ROW(ceil, ceil(x)) ROW(round, nearbyint(x)) ROW(trunc, trunc(x)) ROW(frac, x - trunc(x))   \
  ROW(clamp, clamped(x, a, b)) ROW(sigmoid, logistic(x)) ROW(logsigmoid, -log1p(exp(-x)))    \
  ROW(relu, fmax(x, 0)) ROW(relu6, clamped(x, 0, 6)) ROW(leaky_relu, x > 0 ? x : a * x)      \
  ROW(elu, x > 0 ? x : a * expm1(x))                                                         \
  ROW(selu, 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * expm1(x)))                \
  ROW(celu, fmax(x, 0) + fmin(0, a * expm1(x / a)))                                          \
  ROW(gelu, x * 0.5 * erfc(-x / sqrt(2)))                                                    \
  ROW(gelu_tanh, x / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) *                        \
                              (x + 0.044715 * pow(x, 3)))))                                  \
  ROW(silu, x * logistic(x)) ROW(mish, x * tanh(log1p(exp(x))))                              \
  ROW(softplus, x * a > b ? x : log1p(exp(a * x)) / a) ROW(softsign, x / (1 + fabs(x)))      \
  ROW(hardtanh, clamped(x, a, b)) ROW(hardsigmoid, clamped(x / 6 + 0.5, 0, 1))               \
  ROW(hardswish, x * clamped(x / 6 + 0.5, 0, 1)) ROW(hardshrink, fabs(x) > a ? x : 0)        \
  ROW(softshrink, copysign(fmax(fabs(x) - a, 0), x)) ROW(tanhshrink, x - tanh(x))            \
  ROW(threshold, x > a ? x : b)
#define BINARY_REFERENCES(ROW)                                                               \
  ROW(add, x + y) ROW(sub, x - y) ROW(mul, x * y) ROW(div, x / y) ROW(pow, pow(x, y))        \
  ROW(maximum, fmax(x, y)) ROW(minimum, fmin(x, y)) ROW(fmod, fmod(x, y))                    \
  ROW(remainder, rest_down(x, y)) ROW(div_floor, floor(x / y)) ROW(atan2, atan2(x, y))       \
  ROW(hypot, sqrt(x * x + y * y))

#define ROW(name, formula)                                       \
  static double unary_##name(double x, double a, double b) {     \
    (void)a, (void)b;                                            \
    return formula;                                              \
  }
UNARY_REFERENCES(ROW)
#undef ROW
#define ROW(name, formula) static double binary_##name(double x, double y) { return formula; }
BINARY_REFERENCES(ROW)
#undef ROW

typedef struct row_info {
  const char *name, *class, *attributes;
  double low, high;
  reference_1 one;
  reference_2 two;
} row_info;
#define NONE ""
static const row_info unary_rows[] = {
#define UNARY(name, class, attributes, formula, derivative, low, high, help) \
  { #name, #class, attributes, low, high, unary_##name, NULL },
#include "device/pointwise.def"
};
static const row_info binary_rows[] = {
#define BINARY(name, class, attributes, formula, of_x, of_y, low, high, help) \
  { #name, #class, attributes, low, high, NULL, binary_##name },
#include "device/pointwise.def"
};

// Defaults from the schema text; clamp gets limits that bite, threshold its two numbers.
static void attributes_of(int row, double ab[2]) {
  const char *text = unary_rows[row].attributes;
  ab[0] = ab[1] = 0;
  for (int i = 0; i < 2 && (text = strchr(text, '=')) != NULL; i++) ab[i] = strtod(++text, NULL);
  if (row == UNARY_clamp) ab[0] = -1.25, ab[1] = 2.5;
  if (row == UNARY_threshold) ab[0] = 0.25, ab[1] = -7;
}

static const moon_dtype floats[] = { MOON_F32, MOON_F64, MOON_F16, MOON_BF16 };
static const int64_t small[] = { 3, 4, 5 };

// A result may be off by what its own rounding and that of its steps (in float32 for halves) cost.
static double slack(moon_dtype dtype, double step) {
  return dtype == MOON_F16 || dtype == MOON_BF16 ? 0.501 : step;
}

static void unary_values(void) {
  for (int row = 0; row < UNARY_ROWS; row++) {
    double ab[2];
    attributes_of(row, ab);
    for (int d = 0; d < 4; d++) {
      for (layout from = 0; from < LAYOUTS; from++) {
        for (layout to = 0; to < BROADCAST; to++) {
          const row_info *info = &unary_rows[row];
          device_array x = random_array(floats[d], 3, small, from, info->low, info->high);
          device_array y = make(floats[d], 3, small, to);
          bool exact = floats[d] == MOON_F64;   // else attributes are rounded too
          double a = exact ? ab[0] : (float)ab[0], b = exact ? ab[1] : (float)ab[1];
          EXPECT_OK(kernels->unary(engine, row, ab, &x, &y));
          for (int64_t i = 0; i < 60; i++)
            EXPECT_NEAR(get(&y, i), info->one(get(&x, i), a, b), floats[d],
                        slack(floats[d], 16), "%s(%g) in %s, layouts %d %d", info->name,
                        get(&x, i), dtype_name(floats[d]), from, to);
        }
      }
    }
    arena_used = 0;
  }
}

static void binary_values(void) {
  for (int row = 0; row < BINARY_ROWS; row++) {
    for (int d = 0; d < 4; d++) {
      for (layout from = 0; from < LAYOUTS; from++) {
        for (layout to = 0; to < BROADCAST; to++) {
          const row_info *info = &binary_rows[row];
          device_array x = random_array(floats[d], 3, small, from, info->low, info->high);
          device_array y = random_array(floats[d], 3, small, (from + 2 * (layout)to) % LAYOUTS,
                                        info->low, info->high);
          device_array z = make(floats[d], 3, small, to);
          EXPECT_OK(kernels->binary(engine, row, NULL, &x, &y, &z));
          for (int64_t i = 0; i < 60; i++)
            EXPECT_NEAR(get(&z, i), info->two(get(&x, i), get(&y, i)), floats[d],
                        slack(floats[d], 16), "%s(%g, %g) in %s", info->name, get(&x, i),
                        get(&y, i), dtype_name(floats[d]));
        }
      }
    }
    arena_used = 0;
  }
}

// (f(x + h) - f(x - h)) / 2h against the derivative's formula, in double.
static void unary_slopes(void) {
  const int64_t shape[] = { 7, 9 };
  const double h = 1e-6;
  for (int row = 0; row < UNARY_ROWS; row++) {
    const row_info *info = &unary_rows[row];
    double ab[2];
    attributes_of(row, ab);
    device_array x = random_array(MOON_F64, 2, shape, CONTIGUOUS, info->low, info->high);
    device_array g = random_array(MOON_F64, 2, shape, TRANSPOSED, -2, 2);
    device_array y = make(MOON_F64, 2, shape, CONTIGUOUS), dx = make(MOON_F64, 2, shape, STEPPED);
    EXPECT_OK(kernels->unary(engine, row, ab, &x, &y));
    EXPECT_OK(kernels->unary_backward(engine, row, ab, &g, &x, &y, &dx));
    for (int64_t i = 0; i < 63; i++) {
      double at = get(&x, i), a = ab[0], b = ab[1];
      double slope = (info->one(at + h, a, b) - info->one(at - h, a, b)) / (2 * h) * get(&g, i);
      bool fine = fabs(slope - get(&dx, i)) <= 1e-6 * (1 + fabs(slope));
      if (!fine)
        check_fail(__FILE__, __LINE__, "%s'(%g) is %g, not %g", info->name, at, get(&dx, i), slope);
    }
  }
}

static void binary_slopes(void) {
  const int64_t shape[] = { 63 };
  const double h = 1e-6;
  for (int row = 0; row < BINARY_ROWS; row++) {
    const row_info *info = &binary_rows[row];
    device_array x = random_array(MOON_F64, 1, shape, NEGATIVE, info->low, info->high);
    device_array y = random_array(MOON_F64, 1, shape, STEPPED, info->low, info->high);
    device_array g = random_array(MOON_F64, 1, shape, CONTIGUOUS, -2, 2);
    device_array z = make(MOON_F64, 1, shape, CONTIGUOUS), d[2];
    EXPECT_OK(kernels->binary(engine, row, NULL, &x, &y, &z));
    for (int side = 0; side < 2; side++) {
      d[side] = make(MOON_F64, 1, shape, CONTIGUOUS);
      EXPECT_OK(kernels->binary_backward(engine, row, side, NULL, &g, &x, &y, &z, &d[side]));
      for (int64_t i = 0; i < 63; i++) {
        double p = get(&x, i), q = get(&y, i), hx = side == 0 ? h : 0, hy = h - hx;
        double slope = (info->two(p + hx, q + hy) - info->two(p - hx, q - hy)) / (2 * h);
        slope *= get(&g, i);
        if (fabs(slope - get(&d[side], i)) > 1e-6 * (1 + fabs(slope)))
          check_fail(__FILE__, __LINE__, "slope %d of %s(%g, %g) is %g, not %g", side, info->name,
                     p, q, get(&d[side], i), slope);
      }
    }
  }
}

static double run_one(int row, moon_dtype dtype, double value, const double *ab) {
  device_array x = make(dtype, 0, NULL, CONTIGUOUS), y = make(dtype, 0, NULL, CONTIGUOUS);
  put(&x, 0, value);
  EXPECT_OK(kernels->unary(engine, row, ab, &x, &y));
  return get(&y, 0);
}

static double run_two(int row, moon_dtype dtype, double p, double q) {
  device_array x = make(dtype, 0, NULL, CONTIGUOUS), y = make(dtype, 0, NULL, CONTIGUOUS);
  device_array z = make(dtype, 0, NULL, CONTIGUOUS);
  put(&x, 0, p);
  put(&y, 0, q);
  EXPECT_OK(kernels->binary(engine, row, NULL, &x, &y, &z));
  return get(&z, 0);
}

// What is odd keeps the sign of 0; infinities and the ends of the domain are right; NaN stays.
static void expect_ends(moon_dtype dtype) {
  static const struct { int row; double x, y; } ends[] = {
    { UNARY_expm1, -INFINITY, -1 }, { UNARY_expm1, INFINITY, INFINITY },
    { UNARY_expm1, -0.0, -0.0 }, { UNARY_log1p, -1, -INFINITY },
    { UNARY_log1p, INFINITY, INFINITY }, { UNARY_log1p, -2, NAN }, { UNARY_log1p, -0.0, -0.0 },
    { UNARY_log2, 0, -INFINITY }, { UNARY_log2, INFINITY, INFINITY },
    { UNARY_log2, -1, NAN }, { UNARY_log2, 8, 3 }, { UNARY_log10, 0, -INFINITY },
    { UNARY_log10, INFINITY, INFINITY }, { UNARY_log10, -1, NAN }, { UNARY_log10, 1000, 3 },
    { UNARY_erf, INFINITY, 1 }, { UNARY_erf, -INFINITY, -1 }, { UNARY_erf, -0.0, -0.0 },
    { UNARY_erfc, INFINITY, 0 }, { UNARY_erfc, -INFINITY, 2 }, { UNARY_erfc, 0, 1 },
    { UNARY_expm1, NAN, NAN }, { UNARY_log1p, NAN, NAN }, { UNARY_log2, NAN, NAN },
    { UNARY_log10, NAN, NAN }, { UNARY_erf, NAN, NAN }, { UNARY_erfc, NAN, NAN },
    { UNARY_sin, -0.0, -0.0 }, { UNARY_sin, INFINITY, NAN }, { UNARY_sin, NAN, NAN },
    { UNARY_cos, 0, 1 }, { UNARY_cos, -INFINITY, NAN }, { UNARY_cos, NAN, NAN },
    { UNARY_tan, -0.0, -0.0 }, { UNARY_tan, INFINITY, NAN }, { UNARY_tan, NAN, NAN },
  };
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    double got = run_one(ends[i].row, dtype, ends[i].x, NULL), y = ends[i].y;
    if (isnan(y) ? !isnan(got) : got != y || signbit(got) != signbit(y))
      check_fail(__FILE__, __LINE__, "%s(%g) is %g, not %g", unary_rows[ends[i].row].name,
                 ends[i].x, got, y);
  }
}

static void kinks_and_specials(void) {
  for (int d = 0; d < 2; d++) {
    moon_dtype dtype = floats[d];
    EXPECT(run_one(UNARY_exp, dtype, -INFINITY, NULL) == 0);
    EXPECT(run_one(UNARY_exp, dtype, INFINITY, NULL) == INFINITY);
    EXPECT(run_one(UNARY_exp, dtype, 0, NULL) == 1);
    EXPECT(isnan(run_one(UNARY_exp, dtype, NAN, NULL)));
    EXPECT(run_one(UNARY_log, dtype, 0, NULL) == -INFINITY);
    EXPECT(run_one(UNARY_log, dtype, INFINITY, NULL) == INFINITY);
    EXPECT(run_one(UNARY_log, dtype, 1, NULL) == 0);
    EXPECT(isnan(run_one(UNARY_log, dtype, -1, NULL)));
    EXPECT(isnan(run_one(UNARY_log, dtype, NAN, NULL)));
    EXPECT(run_one(UNARY_tanh, dtype, INFINITY, NULL) == 1);
    EXPECT(run_one(UNARY_tanh, dtype, -INFINITY, NULL) == -1);
    EXPECT(isnan(run_one(UNARY_tanh, dtype, NAN, NULL)));
    expect_ends(dtype);
    EXPECT(run_one(UNARY_sigmoid, dtype, -INFINITY, NULL) == 0);
    EXPECT(run_one(UNARY_sigmoid, dtype, INFINITY, NULL) == 1);
    EXPECT(isnan(run_one(UNARY_relu, dtype, NAN, NULL)));
    EXPECT(isnan(run_one(UNARY_clamp, dtype, NAN, (double[]){ -1, 1 })));
    EXPECT(run_one(UNARY_clamp, dtype, 9, (double[]){ 3, 1 }) == 1);
    EXPECT(run_one(UNARY_clamp, dtype, 9, (double[]){ -INFINITY, INFINITY }) == 9);
    EXPECT(run_one(UNARY_round, dtype, 2.5, NULL) == 2);
    EXPECT(run_one(UNARY_round, dtype, 3.5, NULL) == 4);
    EXPECT(!signbit(run_one(UNARY_abs, dtype, -0.0, NULL)));
    EXPECT(isnan(run_two(BINARY_maximum, dtype, NAN, 1)));
    EXPECT(isnan(run_two(BINARY_minimum, dtype, 1, NAN)));
    EXPECT(run_two(BINARY_remainder, dtype, -7, 3) == 2);
    EXPECT(run_two(BINARY_remainder, dtype, 7, -3) == -2);
    EXPECT(run_two(BINARY_fmod, dtype, -7, 3) == -1);
    EXPECT(run_two(BINARY_div_floor, dtype, -7, 3) == -3);
    EXPECT(run_two(BINARY_div_floor, dtype, 1, 0) == INFINITY);
  }
  device_array g = make(MOON_F32, 0, NULL, CONTIGUOUS), x = make(MOON_F32, 0, NULL, CONTIGUOUS);
  device_array dx = make(MOON_F32, 0, NULL, CONTIGUOUS);
  put(&g, 0, 4);
  EXPECT_OK(kernels->unary_backward(engine, UNARY_relu, NULL, &g, NULL, &x, &dx));
  EXPECT(get(&dx, 0) == 0);
  EXPECT_OK(kernels->unary_backward(engine, UNARY_abs, NULL, &g, &x, NULL, &dx));
  EXPECT(get(&dx, 0) == 0);
  EXPECT_OK(kernels->binary_backward(engine, BINARY_maximum, 0, NULL, &g, &x, &x, NULL, &dx));
  EXPECT(get(&dx, 0) == 2);
}

// Distance from the exact value in units of the last place of float32.
static double ulps(double got, double exact) {
  int exponent;
  frexp(exact, &exponent);
  return fabs(got - exact) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

static void polynomials_are_close(void) {
  static const struct { int row; double low, high, limit; } cases[] = {
    { UNARY_exp, -87, 88.7, 2 }, { UNARY_exp, -104, -87, 2 }, { UNARY_exp, -1, 1, 2 },
    { UNARY_log, 0, 10, 2 }, { UNARY_log, 0.5, 2, 2 }, { UNARY_log, 1e-45, 1e-37, 2 },
    { UNARY_log, 1, 1e38, 2 }, { UNARY_tanh, -10, 10, 2 }, { UNARY_tanh, -1, 1, 2 },
    { UNARY_sigmoid, -80, 80, 3 }, { UNARY_sigmoid, -5, 5, 3 },
    { UNARY_expm1, -30, 88.7, 2 }, { UNARY_expm1, -1, 1, 2 }, { UNARY_expm1, -1e-37, 1e-37, 2 },
    { UNARY_log1p, -1, 10, 2 }, { UNARY_log1p, -0.1, 0.1, 2 }, { UNARY_log1p, 1, 1e38, 2 },
    { UNARY_log1p, -1e-37, 1e-37, 2 }, { UNARY_log2, 0, 10, 2 }, { UNARY_log2, 0.5, 2, 2 },
    { UNARY_log2, 1e-45, 1e-37, 2 }, { UNARY_log10, 0, 10, 2 }, { UNARY_log10, 0.5, 2, 2 },
    { UNARY_log10, 1, 1e38, 2 }, { UNARY_erf, -4, 4, 2 }, { UNARY_erf, -0.9, 0.9, 2 },
    { UNARY_erf, -1e-37, 1e-37, 2 }, { UNARY_erfc, -4, 9, 4 }, { UNARY_erfc, 8, 10.1, 4 },
    { UNARY_erfc, -0.7, 0.7, 3 },
    { UNARY_sin, -4, 4, 2 }, { UNARY_sin, -1e-3, 1e-3, 2 }, { UNARY_sin, -13000, 13000, 2 },
    { UNARY_sin, -1e30, 1e30, 2 }, { UNARY_cos, -4, 4, 2 }, { UNARY_cos, -13000, 13000, 2 },
    { UNARY_cos, -1e30, 1e30, 2 }, { UNARY_tan, -4, 4, 2 }, { UNARY_tan, -1e-3, 1e-3, 2 },
    { UNARY_tan, -13000, 13000, 2 }, { UNARY_tan, -1e30, 1e30, 2 },
  };
  const int64_t shape[] = { 30000 };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    device_array x = random_array(MOON_F32, 1, shape, CONTIGUOUS, cases[c].low, cases[c].high);
    device_array y = make(MOON_F32, 1, shape, CONTIGUOUS);
    EXPECT_OK(kernels->unary(engine, cases[c].row, NULL, &x, &y));
    double worst = 0;
    for (int64_t i = 0; i < shape[0]; i++) {
      double off = ulps(get(&y, i), unary_rows[cases[c].row].one(get(&x, i), 0, 0));
      if (off > worst) worst = off;
    }
    if (!(worst <= cases[c].limit))
      check_fail(__FILE__, __LINE__, "%s on %g ... %g is off by %.2f ulp",
                 unary_rows[cases[c].row].name, cases[c].low, cases[c].high, worst);
  }
}

// A turn's quarters, where next to nothing is left of the argument.
static void quarters_of_a_turn(void) {
  for (int n = 1; n < 8000; n += 7) {
    float x = (float)(n * 1.57079632679489662);
    EXPECT(ulps(run_one(UNARY_sin, MOON_F32, x, NULL), sin(x)) <= 2);
    EXPECT(ulps(run_one(UNARY_cos, MOON_F32, x, NULL), cos(x)) <= 2);
    EXPECT(ulps(run_one(UNARY_tan, MOON_F32, x, NULL), tan(x)) <= 2);
  }
}

// Arguments beyond what the polynomials take, among others: in place, and in gradients.
static void sines_of_any_size(void) {
  static const int rows[] = { UNARY_sin, UNARY_cos };
  const int64_t shape[] = { 2100 };
  for (int r = 0; r < 2; r++) {
    device_array x = random_array(MOON_F32, 1, shape, CONTIGUOUS, -3, 3);
    device_array g = random_array(MOON_F32, 1, shape, CONTIGUOUS, -2, 2);
    device_array y = make(MOON_F32, 1, shape, CONTIGUOUS);
    device_array dx = make(MOON_F32, 1, shape, CONTIGUOUS);
    put(&x, 700, 1e8);
    put(&x, 2099, -3e20);
    EXPECT_OK(kernels->unary(engine, rows[r], NULL, &x, &y));
    EXPECT_OK(kernels->unary_backward(engine, rows[r], NULL, &g, &x, &y, &dx));
    for (int64_t i = 0; i < 2100; i++) {
      double at = get(&x, i), slope = rows[r] == UNARY_sin ? cos(at) : -sin(at);
      EXPECT(ulps(get(&y, i), rows[r] == UNARY_sin ? sin(at) : cos(at)) <= 2);
      EXPECT(fabs(get(&dx, i) - slope * get(&g, i)) <= 4e-7);
    }
    EXPECT_OK(kernels->unary(engine, rows[r], NULL, &x, &x));
    for (int64_t i = 0; i < 2100; i++) EXPECT(get(&x, i) == get(&y, i));
  }
}

static void powers_are_close(void) {
  static const float ends[] = { 0, -0.0F, 1, -1, 2, -2, 3, -3, 0.5F, -0.5F, 2.5F, -2.5F, INFINITY,
    -INFINITY, NAN, 1e-45F, -1e-45F, 1e-40F, 3.4e38F, -3.4e38F, 16777217, 8388607.5F, 0.001F,
    -0.001F, 1.0000001F, 0.99999994F, 2147483648.0F };
  const int count = sizeof ends / sizeof *ends;
  const int64_t shape[] = { 20000 };
  for (int i = 0; i < count * count; i++) {
    double p = ends[i / count], q = ends[i % count], got = run_two(BINARY_pow, MOON_F32, p, q);
    float exact = (float)pow(p, q);
    if (isnan(exact) ? !isnan(got) : !signbit(got) != !signbit(exact) ||
        (got != exact && !(ulps(got, exact) <= 1)))
      check_fail(__FILE__, __LINE__, "pow(%g, %g) is %g, not %g", p, q, got, exact);
  }
  for (int wide = 0; wide < 2; wide++) {
    device_array x = random_array(MOON_F32, 1, shape, CONTIGUOUS, 0, wide ? 1000 : 2);
    device_array y = random_array(MOON_F32, 1, shape, CONTIGUOUS, wide ? -12 : -60, wide ? 12 : 60);
    device_array z = make(MOON_F32, 1, shape, CONTIGUOUS);
    EXPECT_OK(kernels->binary(engine, BINARY_pow, NULL, &x, &y, &z));
    for (int64_t i = 0; i < shape[0]; i++) {
      double exact = pow(get(&x, i), get(&y, i));
      EXPECT(exact > 3.4e38 || ulps(get(&z, i), exact) <= 1);
    }
  }
}

static int64_t run_int(int row, int64_t p, int64_t q) {
  int64_t z = 0;
  device_array x = { .data = &p, .dtype = MOON_I64 }, y = { .data = &q, .dtype = MOON_I64 };
  device_array out = { .data = &z, .dtype = MOON_I64 };
  EXPECT_OK(kernels->binary(engine, row, NULL, &x, &y, &out));
  return z;
}

static void integers(void) {
  EXPECT(run_int(BINARY_add, INT64_MAX, 1) == INT64_MIN);
  EXPECT(run_int(BINARY_mul, INT64_MAX, 2) == -2);
  EXPECT(run_int(BINARY_sub, INT64_MIN, 1) == INT64_MAX);
  EXPECT(run_int(BINARY_div_floor, INT64_MIN, -1) == INT64_MIN);
  EXPECT(run_int(BINARY_remainder, INT64_MIN, -1) == 0);
  EXPECT(run_int(BINARY_div_floor, -7, 2) == -4 && run_int(BINARY_remainder, -7, 2) == 1);
  EXPECT(run_int(BINARY_div_floor, 7, -2) == -4 && run_int(BINARY_remainder, 7, -2) == -1);
  EXPECT(run_int(BINARY_fmod, -7, 2) == -1 && run_int(BINARY_div_floor, 6, -2) == -3);
  EXPECT(run_int(BINARY_pow, 3, 4) == 81 && run_int(BINARY_pow, -2, 63) == INT64_MIN);
  EXPECT(run_int(BINARY_pow, 2, -1) == 0 && run_int(BINARY_pow, -1, -3) == -1);
  EXPECT(run_int(BINARY_pow, 0, 0) == 1);
  EXPECT(run_int(BINARY_maximum, INT64_MAX, INT64_MAX - 1) == INT64_MAX);
  const int64_t shape[] = { 3, 50 };
  device_array x = random_array(MOON_I32, 2, shape, TRANSPOSED, -9, 9);
  device_array y = random_array(MOON_I32, 2, shape, STEPPED, 1, 9);
  device_array z = make(MOON_I32, 2, shape, NEGATIVE);
  EXPECT_OK(kernels->binary(engine, BINARY_remainder, NULL, &x, &y, &z));
  for (int64_t i = 0; i < 150; i++) EXPECT(get(&z, i) == rest_down(get(&x, i), get(&y, i)));
  put(&y, 77, 0);
  int failing[] = { BINARY_div_floor, BINARY_remainder, BINARY_fmod };
  for (int i = 0; i < 3; i++)
    EXPECT_FAIL(kernels->binary(engine, failing[i], NULL, &x, &y, &z), MOON_BAD_ARGUMENT,
                "division by zero");
  EXPECT_FAIL(kernels->unary(engine, UNARY_exp, NULL, &x, &z), MOON_BAD_DTYPE, "int32");
  EXPECT_OK(kernels->unary(engine, UNARY_clamp, (double[]){ -INFINITY, 3 }, &x, &z));
  for (int64_t i = 0; i < 150; i++) EXPECT(get(&z, i) == fmin(get(&x, i), 3));
  device_array byte = random_array(MOON_U8, 2, shape, CONTIGUOUS, 0, 256);
  device_array sum = make(MOON_U8, 2, shape, CONTIGUOUS);
  EXPECT_OK(kernels->binary(engine, BINARY_add, NULL, &byte, &byte, &sum));
  for (int64_t i = 0; i < 150; i++) EXPECT(get_int(&sum, i) == (get_int(&byte, i) * 2) % 256);
}

static bool compared(int row, double x, double y) {
  switch (row) {
    case COMPARE_lt: return x < y;
    case COMPARE_le: return x <= y;
    case COMPARE_gt: return x > y;
    case COMPARE_ge: return x >= y;
    case COMPARE_eq: return x == y;
    case COMPARE_ne: return x != y;
    case COMPARE_logical_and: return x != 0 && y != 0;
    case COMPARE_logical_or: return x != 0 || y != 0;
    default: return (x != 0) != (y != 0);
  }
}

static void comparisons(void) {
  const int64_t shape[] = { 5, 130 };
  for (int row = 0; row < COMPARE_ROWS; row++) {
    for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
      device_array x = random_array(dtype, 2, shape, TRANSPOSED, -2, 2);
      device_array y = random_array(dtype, 2, shape, BROADCAST, -2, 2);
      device_array z = make(MOON_BOOL, 2, shape, row % 2 ? CONTIGUOUS : STEPPED);
      for (int64_t i = 0; i < 130; i += 3) put(&x, i, get(&y, i));
      if (dtype_is_float(dtype)) put(&x, 4, NAN);
      EXPECT_OK(kernels->compare(engine, row, &x, &y, &z));
      for (int64_t i = 0; i < 650; i++)
        EXPECT(get(&z, i) == compared(row, get(&x, i), get(&y, i)));
    }
  }
}

static void predicates(void) {
  static const double values[] = { 0, -0.0, 1, -3, INFINITY, -INFINITY, NAN };
  const int64_t shape[] = { 7 };
  for (int d = 0; d < 4; d++) {
    device_array x = make(floats[d], 1, shape, STEPPED), z = make(MOON_BOOL, 1, shape, NEGATIVE);
    for (int i = 0; i < 7; i++) put(&x, i, values[i]);
    EXPECT_OK(kernels->predicate(engine, PREDICATE_isnan, &x, &z));
    for (int i = 0; i < 7; i++) EXPECT(get(&z, i) == (values[i] != values[i]));
    EXPECT_OK(kernels->predicate(engine, PREDICATE_isinf, &x, &z));
    for (int i = 0; i < 7; i++) EXPECT(get(&z, i) == (isinf(values[i]) != 0));
    EXPECT_OK(kernels->predicate(engine, PREDICATE_isfinite, &x, &z));
    for (int i = 0; i < 7; i++) EXPECT(get(&z, i) == (isfinite(values[i]) != 0));
    EXPECT_OK(kernels->predicate(engine, PREDICATE_logical_not, &x, &z));
    for (int i = 0; i < 7; i++) EXPECT(get(&z, i) == (values[i] == 0));
  }
  device_array x = random_array(MOON_I32, 1, shape, CONTIGUOUS, -2, 2);
  device_array z = make(MOON_BOOL, 1, shape, CONTIGUOUS);
  EXPECT_OK(kernels->predicate(engine, PREDICATE_isfinite, &x, &z));
  for (int i = 0; i < 7; i++) EXPECT(get(&z, i) == 1);
}

static void in_place_and_empty(void) {
  const int64_t shape[] = { 40, 33 }, none[] = { 4, 0, 3 };
  for (layout how = 0; how < BROADCAST; how++) {
    for (int d = 0; d < 4; d++) {
      device_array x = random_array(floats[d], 2, shape, how, -2, 2);
      device_array y = make(floats[d], 2, shape, CONTIGUOUS);
      EXPECT_OK(kernels->unary(engine, UNARY_tanh, NULL, &x, &y));
      EXPECT_OK(kernels->unary(engine, UNARY_tanh, NULL, &x, &x));
      EXPECT(memcmp(bytes_of(&x), bytes_of(&y), (size_t)1320 * dtype_size(floats[d])) == 0);
      EXPECT_OK(kernels->binary(engine, BINARY_add, NULL, &x, &x, &x));
      for (int64_t i = 0; i < 1320; i++) EXPECT(get(&x, i) == 2 * get(&y, i));
    }
  }
  device_array nothing = make(MOON_F32, 3, none, CONTIGUOUS);
  EXPECT_OK(kernels->binary(engine, BINARY_add, NULL, &nothing, &nothing, &nothing));
  nothing = make(MOON_F16, 3, none, TRANSPOSED);
  EXPECT_OK(kernels->unary(engine, UNARY_exp, NULL, &nothing, &nothing));
}

static void threads_agree(void) {
  const int64_t shape[] = { 301, 401 };
  for (int d = 0; d < 4; d++) {
    for (layout how = 0; how < BROADCAST; how++) {
      unsigned char *expected = NULL;
      device_array x = random_array(floats[d], 2, shape, how, -2, 2);
      device_array y = random_array(floats[d], 2, shape, TRANSPOSED, -2, 2);
      for (int threads = 1; threads <= 3; threads++) {
        device_array z = make(floats[d], 2, shape, CONTIGUOUS);
        engine->max_threads = threads;
        EXPECT_OK(kernels->binary(engine, BINARY_hypot, NULL, &x, &y, &z));
        EXPECT_OK(kernels->unary(engine, UNARY_gelu, NULL, &z, &z));
        unsigned char *bytes = bytes_of(&z);
        if (!expected) expected = bytes;
        EXPECT(memcmp(bytes, expected, (size_t)(301 * 401) * dtype_size(floats[d])) == 0);
      }
      engine->max_threads = 0;
    }
    arena_used = 0;
  }
}

int main(void) {
  if (engine_new(&engine) != MOON_OK) return 2;
  each_level("unary rows agree with the C library", unary_values);
  each_level("binary rows agree with the C library", binary_values);
  each_level("unary derivatives agree with finite differences", unary_slopes);
  each_level("binary derivatives agree with finite differences", binary_slopes);
  each_level("infinities, NaN and kinks", kinks_and_specials);
  each_level("float32 polynomials are within 2 to 4 ulp", polynomials_are_close);
  each_level("quarters of a turn", quarters_of_a_turn);
  each_level("sines of large arguments", sines_of_any_size);
  each_level("float32 powers are within 1 ulp", powers_are_close);
  each_level("integers wrap, divide and refuse zero", integers);
  each_level("comparisons in every dtype", comparisons);
  each_level("predicates", predicates);
  each_level("results in place, and empty arrays", in_place_and_empty);
  each_level("any number of threads gives the same bits", threads_agree);
  engine_release(engine);
  free(arena);
  return check_result();
}
