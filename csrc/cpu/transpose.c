// The copy goes tile by tile, so that neither side jumps a cache line for each element, and inside
// a tile by squares as wide as a vector: its rows are loaded, zipped in pairs as often as it takes
// to swap rows with columns, and stored. A square at a tile's edge is moved back to overlap the one
// before it; what is narrower than a square goes element by element.
#include "cpu/transpose.h"

#include <string.h>

#include "cpu/lane_bytes.h"
#include "cpu/words.h"

enum {
  TILE = 64,           // a side, in elements
  NARROW = 16,         // fewer columns make a tile longer
};

// The two halves of what two vectors of n elements give when they are zipped.
#define LOW_2 0, 2
#define HIGH_2 1, 3
#define LOW_4 0, 4, 1, 5
#define HIGH_4 2, 6, 3, 7
#define LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define LOW(n) CPU_PASTE(LOW, n)
#define HIGH(n) CPU_PASTE(HIGH, n)

#if LANE_BYTES == 64
#define SIDE_4 16
#define SIDE_8 8
#elif LANE_BYTES == 32
#define SIDE_4 8
#define SIDE_8 4
#else
#define SIDE_4 4
#define SIDE_8 2
#endif

// x: a tile whose rows are neighbours in memory; in `out` its columns are, if to_column is 1.
// Zipping rows r and r + side / 2 turns the number made of row and column, written in bits, by one
// place; as many turns as a row's number has bits swap the two.
#define TRANSPOSE(word, side)                                                                    \
  typedef word __attribute__((vector_size(side * sizeof(word)))) word##_lanes;                   \
  static inline void square_##word(const word *x, int64_t x_column, word *out, int64_t to_row) { \
    const word##_lanes low = { LOW(side) }, high = { HIGH(side) };                               \
    word##_lanes a[side], b[side];                                                               \
    _Pragma("GCC unroll 16") for (int i = 0; i < side; i++)                                      \
      memcpy(&a[i], x + i * x_column, sizeof a[i]);                                              \
    _Pragma("GCC unroll 4") for (int turn = 1; turn < side; turn *= 2) {                         \
      _Pragma("GCC unroll 16") for (int i = 0; i < side / 2; i++) {                              \
        b[2 * i] = __builtin_shuffle(a[i], a[i + side / 2], low);                                \
        b[2 * i + 1] = __builtin_shuffle(a[i], a[i + side / 2], high);                           \
      }                                                                                          \
      _Pragma("GCC unroll 16") for (int i = 0; i < side; i++) a[i] = b[i];                       \
    }                                                                                            \
    _Pragma("GCC unroll 16") for (int i = 0; i < side; i++)                                      \
      memcpy(out + i * to_row, &a[i], sizeof a[i]);                                              \
  }                                                                                              \
  static void elements_##word(int64_t rows, int64_t columns, const word *x, int64_t x_column,    \
                              word *out, int64_t to_row, int64_t to_column) {                    \
    for (int64_t j = 0; j < columns; j++)                                                        \
      for (int64_t i = 0; i < rows; i++) out[i * to_row + j * to_column] = x[i + j * x_column];  \
  }                                                                                              \
  static void tile_##word(int64_t rows, int64_t columns, const void *from, int64_t x_column,     \
                          void *to, int64_t to_row, int64_t to_column) {                         \
    const word *x = from;                                                                        \
    word *out = to;                                                                              \
    if (to_column != 1 || rows < side || columns < side) {                                       \
      elements_##word(rows, columns, x, x_column, out, to_row, to_column);                       \
      return;                                                                                    \
    }                                                                                            \
    for (int64_t j = 0; j < columns; j += side)                                                  \
      for (int64_t i = 0; i < rows; i += side) {                                                 \
        int64_t r = i + side <= rows ? i : rows - side;                                          \
        int64_t c = j + side <= columns ? j : columns - side;                                    \
        square_##word(x + r + c * x_column, x_column, out + r * to_row + c, to_row);             \
      }                                                                                          \
  }
TRANSPOSE(word1, 16)
TRANSPOSE(word2, 8)
TRANSPOSE(word4, SIDE_4)
TRANSPOSE(word8, SIDE_8)

typedef void (*tile_function)(int64_t rows, int64_t columns, const void *x, int64_t x_column,
                              void *out, int64_t to_row, int64_t to_column);

static tile_function tile_of(size_t size) {
  return size == 1 ? tile_word1 : size == 2 ? tile_word2 : size == 4 ? tile_word4 : tile_word8;
}

static int64_t at_most(int64_t value, int64_t limit) { return value < limit ? value : limit; }

// Items count the tiles of a strip of rows fastest, then strips, then all other dimensions.
static moon_status transpose_tiles(void *context, int64_t first, int64_t last) {
  const transpose_job *job = context;
  const cpu_walk *walk = &job->walk;
  const int64_t *to = walk->strides[0], *from = walk->strides[1];
  int inner = walk->ndim - 1, across = job->across;
  tile_function tile = tile_of(job->size);
  for (int64_t item = first; item < last; item++) {
    int64_t rest = item / job->along, column = item % job->along * job->columns;
    int64_t row = rest % job->down * job->rows;
    int64_t source = row + column * from[inner], target = row * to[across] + column * to[inner];
    rest /= job->down;
    for (int d = inner - 1; d >= 0; d--) {
      if (d == across) continue;
      source += rest % walk->shape[d] * from[d];
      target += rest % walk->shape[d] * to[d];
      rest /= walk->shape[d];
    }
    tile(at_most(walk->shape[across] - row, job->rows),
         at_most(walk->shape[inner] - column, job->columns),
         job->source + source * (int64_t)job->size, from[inner],
         job->target + target * (int64_t)job->size, to[across], to[inner]);
  }
  return MOON_OK;
}

bool CPU(transpose_fits)(transpose_job *job) {
  const cpu_walk *walk = &job->walk;
  int inner = walk->ndim - 1;
  int64_t jump = walk->strides[1][inner];
  if (jump == 0 || jump == 1) return false;
  for (job->across = 0; job->across < inner; job->across++)
    if (walk->strides[1][job->across] == 1 && walk->shape[job->across] >= 4) return true;
  return false;
}

moon_status CPU(transpose)(moon_engine *engine, transpose_job *job) {
  int64_t rows = job->walk.shape[job->across], columns = job->walk.shape[job->walk.ndim - 1];
  job->columns = TILE;
  job->rows = columns < NARROW ? NARROW * TILE : TILE;
  job->down = (rows + job->rows - 1) / job->rows;
  job->along = (columns + TILE - 1) / TILE;
  int64_t items = job->walk.count / rows / columns * job->down * job->along;
  int64_t elements = at_most(rows, job->rows) * at_most(columns, TILE);
  return cpu_run(engine, items, cpu_grain(elements), transpose_tiles, job);
}
