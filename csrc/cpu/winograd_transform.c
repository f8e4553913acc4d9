// The matrices of Winograd's forms and products with them from both sides, in registers.
//
// A form evaluates polynomials at points: 0, +-P, +-Q and infinity for n = 6; 0, +-1 and infinity
// for n = 4. Columns of A and G' are powers of the points (G's over the derivative there of the
// product of all (x - point)), rows of B' the coefficients of that product without one factor:
// Toom and Cook's construction. The points 3/4 and 3/2 are those of simple fractions whose powers
// stay near to 1: they round three times less than Lavin and Gray's 1 and 2. See Barabasz et al.,
// "Error analysis and improving the accuracy of Winograd convolution for deep neural networks",
// 2020.
//
// Every matrix has mirrored rows: those of +p and -p differ in the sign of the odd columns, which
// halves the work.
#define REAL float
#define REAL_BYTES 4
#include "cpu/winograd.h"

#include "cpu/lanes.h"

#define P 0.75f
#define Q 1.5f

// Powers of the points: A, and G before it is divided.
#define POWERS_2(p) 1, p
#define POWERS_3(p) POWERS_2(p), p * p
#define POWERS_4(p) POWERS_3(p), p * p * p
#define POWERS_5(p) POWERS_4(p), p * p * p * p

// n x m
static const float a_6x4[6][4] = { { 1 }, { POWERS_4(P) }, { POWERS_4(-P) },
                                   { POWERS_4(Q) }, { POWERS_4(-Q) }, { 0, 0, 0, 1 } };
static const float a_6x2[6][2] = { { 1 }, { POWERS_2(P) }, { POWERS_2(-P) },
                                   { POWERS_2(Q) }, { POWERS_2(-Q) }, { 0, 1 } };
static const float a_4x2[4][2] = { { 1 }, { POWERS_2(1) }, { POWERS_2(-1) }, { 0, 1 } };

// n x n: B'
static const float b_6[6][6] = {
  { P * P * Q * Q, 0, -(P * P + Q * Q), 0, 1, 0 },
  { 0, -P * Q * Q, -Q * Q, P, 1, 0 },
  { 0, P * Q * Q, -Q * Q, -P, 1, 0 },
  { 0, -Q * P * P, -P * P, Q, 1, 0 },
  { 0, Q * P * P, -P * P, -Q, 1, 0 },
  { 0, P * P * Q * Q, 0, -(P * P + Q * Q), 0, 1 },
};
static const float b_4[4][4] = {
  { -1, 0, 1, 0 }, { 0, 1, 1, 0 }, { 0, -1, 1, 0 }, { 0, -1, 0, 1 },
};

// n x r
#define AT_0 (P * P * Q * Q)
#define AT_P (2 * P * P * (P * P - Q * Q))
#define AT_Q (2 * Q * Q * (Q * Q - P * P))
#define OVER_3(p, d) 1 / d, p / d, p * p / d
#define OVER_5(p, d) OVER_3(p, d), p * p * p / d, p * p * p * p / d
static const float g_6x3[6][3] = { { 1 / AT_0 }, { OVER_3(P, AT_P) }, { OVER_3(-P, AT_P) },
                                   { OVER_3(Q, AT_Q) }, { OVER_3(-Q, AT_Q) }, { 0, 0, 1 } };
static const float g_6x5[6][5] = { { 1 / AT_0 }, { OVER_5(P, AT_P) }, { OVER_5(-P, AT_P) },
                                   { OVER_5(Q, AT_Q) }, { OVER_5(-Q, AT_Q) }, { 0, 0, 0, 0, 1 } };
static const float g_4x3[4][3] = { { -1 }, { .5f, .5f, .5f }, { .5f, -.5f, .5f }, { 0, 0, 1 } };

// -- products of a matrix (n, k) that is known when compiling

#define INLINE static inline __attribute__((always_inline))

// The sum of row[j] * x[j] over j = first, first + step, ... below k.
INLINE lanes row_times(const float *row, const int first, const int step, const int k,
                       const lanes *x) {
  lanes sum = lanes_zero();
  bool empty = true;
#pragma GCC unroll 6
  for (int i = k - 1; i >= 0; i--) {   // from the end: B' has a 1 there
    if (i < first || (i - first) % step != 0 || row[i] == 0) continue;
    if (empty) sum = row[i] == 1 ? x[i] : lanes_same(row[i]) * x[i];
    else sum = row[i] == 1 ? sum + x[i] : lanes_fma(lanes_same(row[i]), x[i], sum);
    empty = false;
  }
  return sum;
}

// y (n) = matrix x (k)
INLINE void times(const float *matrix, const int n, const int k, const lanes *x, lanes *y) {
  y[0] = row_times(matrix, 0, 1, k, x);
#pragma GCC unroll 6
  for (int i = 1; i < n - 1; i += 2) {
    lanes even = row_times(matrix + i * k, 0, 2, k, x);
    lanes odd = row_times(matrix + i * k, 1, 2, k, x);
    y[i] = even + odd;
    y[i + 1] = even - odd;
  }
  y[n - 1] = row_times(matrix + (n - 1) * k, 0, 1, k, x);
}

// y (k) = matrix' x (n)
INLINE void transposed_times(const float *matrix, const int n, const int k, const lanes *x,
                             lanes *y) {
  lanes both[2][WINOGRAD_POINTS];   // x with mirrored rows added, and subtracted
#pragma GCC unroll 6
  for (int i = 1; i < n - 1; i += 2) {
    both[0][i] = x[i] + x[i + 1];
    both[1][i] = x[i] - x[i + 1];
  }
#pragma GCC unroll 6
  for (int j = 0; j < k; j++) {
    lanes sum = matrix[j] == 0 ? lanes_zero() : lanes_same(matrix[j]) * x[0];
#pragma GCC unroll 6
    for (int i = 1; i < n - 1; i += 2)
      sum = lanes_fma(lanes_same(matrix[i * k + j]), both[j % 2][i], sum);
    if (matrix[(n - 1) * k + j] != 0) sum += x[n - 1];
    y[j] = sum;
  }
}

// -- a vector of channels of a tile: matrix x matrix', or matrix' x matrix

INLINE void spread_vector(const float *matrix, const int n, const int k, const float *const *x,
                          int64_t at, int64_t count, float *y, int64_t step) {
  lanes half[WINOGRAD_POINTS][WINOGRAD_POINTS];   // (k columns, n), transposed
#pragma GCC unroll 6
  for (int j = 0; j < k; j++) {
    lanes column[WINOGRAD_POINTS];
#pragma GCC unroll 6
    for (int i = 0; i < k; i++) column[i] = lanes_load_some(x[i * k + j] + at, count);
    times(matrix, n, k, column, half[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < n; i++) {
    lanes row[WINOGRAD_POINTS], out[WINOGRAD_POINTS];
#pragma GCC unroll 6
    for (int j = 0; j < k; j++) row[j] = half[j][i];
    times(matrix, n, k, row, out);
#pragma GCC unroll 6
    for (int j = 0; j < n; j++) lanes_store(y + (i * n + j) * step + at, out[j]);
  }
}

INLINE void spread(const float *matrix, const int n, const int k, const float *const *x,
                   int64_t count, float *y, int64_t step) {
  int64_t at = 0;
  for (; at + LANES <= count; at += LANES)
    spread_vector(matrix, n, k, x, at, LANES, y, step);
  if (at < count) spread_vector(matrix, n, k, x, at, count - at, y, step);
}

// Scale and shift of a vector of channels.
typedef struct affine { lanes scale, shift; } affine;

INLINE affine affine_at(const winograd_finish *finish, int64_t at, int64_t count) {
  return (affine){
    .scale = finish->scale ? lanes_load_some(finish->scale + at, count) : lanes_all(1),
    .shift = finish->shift ? lanes_load_some(finish->shift + at, count) : lanes_zero(),
  };
}

INLINE void gather_vector(const float *matrix, const int n, const int k, const float *x,
                          int64_t step, int64_t at, int64_t count, float *const *y,
                          const winograd_finish *finish) {
  lanes half[WINOGRAD_POINTS][WINOGRAD_POINTS];   // (n columns, k), transposed
  affine last = affine_at(finish, at, count);
#pragma GCC unroll 6
  for (int j = 0; j < n; j++) {
    lanes column[WINOGRAD_POINTS];
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) column[i] = lanes_load(x + (i * n + j) * step + at);
    transposed_times(matrix, n, k, column, half[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < k; i++) {
    lanes row[WINOGRAD_POINTS], out[WINOGRAD_POINTS];
#pragma GCC unroll 6
    for (int j = 0; j < n; j++) row[j] = half[j][i];
    transposed_times(matrix, n, k, row, out);
#pragma GCC unroll 6
    for (int j = 0; j < k; j++) {
      lanes value = lanes_fma(out[j], last.scale, last.shift);
      if (finish->add) value += lanes_load_some(finish->add[i * k + j] + at, count);
      value = lanes_clamp(value, finish->low, finish->high);
      lanes_store_some(y[i * k + j] + at, value, count);
    }
  }
}

INLINE void gather(const float *matrix, const int n, const int k, const float *x, int64_t step,
                   int64_t count, float *const *y, const winograd_finish *finish) {
  int64_t at = 0;
  for (; at + LANES <= count; at += LANES)
    gather_vector(matrix, n, k, x, step, at, LANES, y, finish);
  if (at < count) gather_vector(matrix, n, k, x, step, at, count - at, y, finish);
}

#define SPREAD(name, matrix, n, k)                                                    \
  static void name(const float *const *x, int64_t count, float *y, int64_t step) {   \
    spread(&matrix[0][0], n, k, x, count, y, step);                                   \
  }
#define GATHER(name, matrix, n, k)                                                      \
  static void name(const float *x, int64_t step, int64_t count, float *const *y,       \
                   const winograd_finish *finish) {                                     \
    gather(&matrix[0][0], n, k, x, step, count, y, finish);                             \
  }

SPREAD(spread_b6, b_6, 6, 6)
SPREAD(spread_b4, b_4, 4, 4)
SPREAD(spread_a6x4, a_6x4, 6, 4)
SPREAD(spread_a6x2, a_6x2, 6, 2)
SPREAD(spread_a4x2, a_4x2, 4, 2)
SPREAD(spread_g6x3, g_6x3, 6, 3)
SPREAD(spread_g6x5, g_6x5, 6, 5)
SPREAD(spread_g4x3, g_4x3, 4, 3)
GATHER(gather_a6x4, a_6x4, 6, 4)
GATHER(gather_a6x2, a_6x2, 6, 2)
GATHER(gather_a4x2, a_4x2, 4, 2)
GATHER(gather_g6x3, g_6x3, 6, 3)
GATHER(gather_g6x5, g_6x5, 6, 5)
GATHER(gather_g4x3, g_4x3, 4, 3)

const winograd_form CPU(winograd_4x3) = {
  .outputs = 4, .taps = 3, .points = 6, .image = spread_b6, .gradient = spread_a6x4,
  .weight = spread_g6x3, .result = gather_a6x4, .weight_gradient = gather_g6x3,
};
const winograd_form CPU(winograd_2x3) = {
  .outputs = 2, .taps = 3, .points = 4, .image = spread_b4, .gradient = spread_a4x2,
  .weight = spread_g4x3, .result = gather_a4x2, .weight_gradient = gather_g4x3,
};
const winograd_form CPU(winograd_2x5) = {
  .outputs = 2, .taps = 5, .points = 6, .image = spread_b6, .gradient = spread_a6x2,
  .weight = spread_g6x5, .result = gather_a6x2, .weight_gradient = gather_g6x5,
};
