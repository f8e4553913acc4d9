// The kernels of micro.h for one compute type: micro_f32.c and micro_f64.c include it with
//   REAL, NAME(word)   the type, and word_f32 or word_f64
#include <math.h>

#include "cpu/lanes.h"
#include "cpu/micro.h"

// The heights of tiles, and one that covers any tile; both widths are made of each.
#if defined(__AVX512F__) || defined(__aarch64__)
#define MICRO_HEIGHTS(X) X(1) X(2) X(4) X(8) X(14)
#else
#define MICRO_HEIGHTS(X) X(1) X(2) X(4) X(6)
#endif

// -- the end of a tile

// Sums that are finished first, or that do not fill their last vector. Not unrolled: as long as a
// shallow tile's multiplications, the code would be what takes the time.
static __attribute__((noinline)) void store_finished(const NAME(micro_tile) *tile, int vectors,
                                                     lanes (*sum)[MICRO_VECTORS]) {
  const NAME(micro_finish) f = *tile->finish;
  for (int v = 0; v < vectors; v++) {
    const int64_t c = v * LANES, columns = tile->columns - c;
    const lanes scale = f.scale ? lanes_load_some(f.scale + c, columns) : lanes_zero();
    const lanes shift = f.shift ? lanes_load_some(f.shift + c, columns) : lanes_zero();
    for (int r = 0; r < tile->rows; r++) {
      lanes value = sum[r][v];
      if (f.scale) value *= scale;
      if (f.shift) value += shift;
      if (f.add) value += lanes_load_some(f.add[r] + c, columns);
      lanes_store_some(tile->out[r] + c, lanes_clamp(value, f.low, f.high), columns);
    }
  }
}

static inline bool is_plain(const NAME(micro_finish) *f) {
  return !f->scale && !f->shift && !f->add && f->low == -INFINITY && f->high == INFINITY;
}

static inline __attribute__((always_inline)) void store(
    const NAME(micro_tile) *tile, const int height, const int vectors,
    lanes (*sum)[MICRO_VECTORS]) {
  if (tile->columns < vectors * LANES || !is_plain(tile->finish)) {
    lanes kept[MICRO_ROWS][MICRO_VECTORS];   // `sum` itself has to be registers
#pragma GCC unroll 14
    for (int r = 0; r < height; r++)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) kept[r][v] = sum[r][v];
    store_finished(tile, vectors, kept);
    return;
  }
#pragma GCC unroll 14
  for (int r = 0; r < height; r++) {
    if (r == tile->rows) return;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) lanes_store(tile->out[r] + v * LANES, sum[r][v]);
  }
}

// -- rows by pointers: a[t * MICRO_ROWS + r] is row r's run of `depth` elements at tap t. The
//    pointers of rows past tile->rows must be readable too (repeat the last). b: taps * depth rows
//    of `vectors` vectors, b_stride elements apart.
static inline __attribute__((always_inline)) void rows_of(
    const NAME(micro_tile) *tile, const int height, const int vectors, const REAL *const *a,
    const REAL *restrict b, int64_t b_stride) {
  lanes sum[MICRO_ROWS][MICRO_VECTORS];
#pragma GCC unroll 14
  for (int r = 0; r < height; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[r][v] = lanes_zero();
  const int64_t taps = tile->taps, depth = tile->depth;
  for (int64_t t = 0; t < taps; t++, a += MICRO_ROWS) {
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; k++, b += b_stride) {
      lanes right[MICRO_VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) right[v] = lanes_load(b + v * LANES);
#pragma GCC unroll 14
      for (int r = 0; r < height; r++) {
        lanes left = lanes_same(a[r][k]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = lanes_fma(left, right[v], sum[r][v]);
      }
    }
  }
  store(tile, height, vectors, sum);
}

// -- rows side by side: row r at depth k is a[t][k * a_stride + r], columns b[t][k * b_stride + c];
//    both operands are runs of `depth` steps, one a tap. For transposed products and the gradient
//    of weights (a step is a pixel, rows its channels, columns its gradients). Up to the tile's
//    covering height and `vectors` vectors are read at each step.
static inline __attribute__((always_inline)) void outer_of(
    const NAME(micro_tile) *tile, const int height, const int vectors, const REAL *const *a,
    int64_t a_stride, const REAL *const *b, int64_t b_stride) {
  lanes sum[MICRO_ROWS][MICRO_VECTORS];
#pragma GCC unroll 14
  for (int r = 0; r < height; r++)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) sum[r][v] = lanes_zero();
  const int64_t taps = tile->taps, depth = tile->depth;
  for (int64_t t = 0; t < taps; t++) {
    const REAL *restrict left = a[t], *restrict right = b[t];
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; k++, left += a_stride, right += b_stride) {
      lanes column[MICRO_VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) column[v] = lanes_load(right + v * LANES);
#pragma GCC unroll 14
      for (int r = 0; r < height; r++) {
        lanes row = lanes_same(left[r]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r][v] = lanes_fma(row, column[v], sum[r][v]);
      }
    }
  }
  store(tile, height, vectors, sum);
}

// -- a function a shape, and the smallest that covers a tile

typedef void (*rows_function)(const NAME(micro_tile) *tile, const REAL *const *a, const REAL *b,
                              int64_t b_stride);
typedef void (*outer_function)(const NAME(micro_tile) *tile, const REAL *const *a,
                               int64_t a_stride, const REAL *const *b, int64_t b_stride);

#define MICRO_FUNCTIONS(height, vectors)                                                         \
  static void rows_##height##x##vectors(const NAME(micro_tile) *tile, const REAL *const *a,      \
                                        const REAL *b, int64_t b_stride) {                       \
    rows_of(tile, height, vectors, a, b, b_stride);                                              \
  }                                                                                              \
  static void outer_##height##x##vectors(const NAME(micro_tile) *tile, const REAL *const *a,     \
                                         int64_t a_stride, const REAL *const *b,                 \
                                         int64_t b_stride) {                                     \
    outer_of(tile, height, vectors, a, a_stride, b, b_stride);                                   \
  }
#define MICRO_BOTH_WIDTHS(height) MICRO_FUNCTIONS(height, 1) MICRO_FUNCTIONS(height, 2)
MICRO_HEIGHTS(MICRO_BOTH_WIDTHS)

static const struct {
  int height;
  rows_function rows[MICRO_VECTORS];
  outer_function outer[MICRO_VECTORS];
} shapes[] = {
#define MICRO_SHAPE(height)                                    \
  { height, { rows_##height##x1, rows_##height##x2 },          \
    { outer_##height##x1, outer_##height##x2 } },
  MICRO_HEIGHTS(MICRO_SHAPE)
};

static int shape_for(int rows) {
  int i = 0;
  while (shapes[i].height < rows) i++;
  return i;
}

void CPU(NAME(micro_rows))(const NAME(micro_tile) *tile, const REAL *const *a, const REAL *b,
                           int64_t b_stride) {
  shapes[shape_for(tile->rows)].rows[tile->columns > LANES](tile, a, b, b_stride);
}

void CPU(NAME(micro_outer))(const NAME(micro_tile) *tile, const REAL *const *a, int64_t a_stride,
                            const REAL *const *b, int64_t b_stride) {
  shapes[shape_for(tile->rows)].outer[tile->columns > LANES](tile, a, a_stride, b, b_stride);
}
