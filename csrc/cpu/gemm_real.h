// The product engine for one compute type: gemm_f32.c and gemm_f64.c include it with
//   REAL, NAME(word)   the type, and word_f32 or word_f64
//
// Three levels: run_block makes one block of the result (row_block x column_block) over the whole
// depth or one share of it; multiply_panels walks the tiles of a block for one depth_block; tile
// keeps ROWS x VECTORS vectors of the result in registers. The right operand's block stays in the
// second-level cache, a panel of the left operand in the first.
//
// Where the result has too few blocks to share out and the depth is long (the gradient of a
// convolution's weights), the depth is cut too: partial results, added in order.

#include <string.h>

#include "base/alloc.h"
#include "base/threads.h"
#include "cpu/gemm.h"
#include "cpu/lanes.h"

// Register tile: 8 x 3 vectors fill 24 of 32 registers with sums, leaving room for three of the
// right operand; 4 x 3 fill 12 of 16. Multiples of 4 and 8 rows suit channel counts.
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TILE_ROWS = 8, TILE_VECTORS = 3 };
#elif defined(__AVX2__)
enum { TILE_ROWS = 4, TILE_VECTORS = 3 };
#else
enum { TILE_ROWS = 4, TILE_VECTORS = 2 };
#endif

enum {
  TILE_COLUMNS = TILE_VECTORS * LANES,
  DEPTH_BLOCK = GEMM_DEEPEST_BLOCK,                  // of both operands' packed blocks
  ROW_BLOCK = 192,
  COLUMN_BLOCK = (TILE_ROWS == 8 ? 8 : 12) * TILE_COLUMNS,
  SMALLEST_COLUMN_BLOCK = 2 * TILE_COLUMNS,
  WANTED_BLOCKS = 16,                                // enough to share out evenly
  SMALLEST_SHARE = 4 * DEPTH_BLOCK,                  // of the depth
  PACKED_LIMIT = 4 << 20,                            // elements of a left operand packed at once
  BLOCK_WORK = 1 << 21,                              // multiply-adds worth a thread's attention
};

// -- the tile

// Adds a (depth x TILE_ROWS) times b (depth x TILE_COLUMNS) into `rows` x `vectors` of c, or
// stores it there. rows and vectors are constants after inlining.
static inline __attribute__((always_inline)) void tile(const int rows, const int vectors,
                                                       int64_t depth, const REAL *restrict a,
                                                       const REAL *restrict b, REAL *restrict c,
                                                       int64_t stride, bool add) {
  lanes sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) sum[r][v] = lanes_zero();
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; k++) {
    lanes right[TILE_VECTORS];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) right[v] = lanes_load(b + v * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      lanes left = lanes_all(a[r]);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) sum[r][v] = lanes_fma(left, right[v], sum[r][v]);
    }
    a += TILE_ROWS;
    b += TILE_COLUMNS;
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) {
      REAL *target = c + r * stride + v * LANES;
      lanes_store(target, add ? lanes_load(target) + sum[r][v] : sum[r][v]);
    }
}

typedef void (*tile_function)(int64_t depth, const REAL *a, const REAL *b, REAL *c,
                              int64_t stride, bool add);

// The shapes of tiles on this processor, rows x vectors, and the table of the functions named after
// them.
#define TILE_SHAPES_COMMON(X) X(1, 1) X(2, 1) X(4, 1) X(1, 2) X(2, 2) X(4, 2)
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TILE_WIDTHS = 3, TILE_HEIGHTS = 4 };
#define TILE_SHAPES(X) \
  TILE_SHAPES_COMMON(X) X(8, 1) X(8, 2) X(1, 3) X(2, 3) X(4, 3) X(8, 3)
#define TILE_TABLE(name) { { name##_1x1, name##_2x1, name##_4x1, name##_8x1 }, \
                           { name##_1x2, name##_2x2, name##_4x2, name##_8x2 }, \
                           { name##_1x3, name##_2x3, name##_4x3, name##_8x3 } }
#elif defined(__AVX2__)
enum { TILE_WIDTHS = 3, TILE_HEIGHTS = 3 };
#define TILE_SHAPES(X) TILE_SHAPES_COMMON(X) X(1, 3) X(2, 3) X(4, 3)
#define TILE_TABLE(name) { { name##_1x1, name##_2x1, name##_4x1 }, \
                           { name##_1x2, name##_2x2, name##_4x2 }, \
                           { name##_1x3, name##_2x3, name##_4x3 } }
#else
enum { TILE_WIDTHS = 2, TILE_HEIGHTS = 3 };
#define TILE_SHAPES(X) TILE_SHAPES_COMMON(X)
#define TILE_TABLE(name) { { name##_1x1, name##_2x1, name##_4x1 }, \
                           { name##_1x2, name##_2x2, name##_4x2 } }
#endif

#define TILE(rows, vectors)                                                                   \
  static void tile_##rows##x##vectors(int64_t depth, const REAL *a, const REAL *b, REAL *c,   \
                                      int64_t stride, bool add) {                             \
    tile(rows, vectors, depth, a, b, c, stride, add);                                         \
  }
TILE_SHAPES(TILE)
static const tile_function tiles[TILE_WIDTHS][TILE_HEIGHTS] = TILE_TABLE(tile);
#undef TILE

// The smallest tile that covers rows x columns.
static tile_function tile_for(int64_t rows, int64_t columns) {
  int height = rows > 4 ? 3 : rows > 2 ? 2 : rows > 1 ? 1 : 0;
  return tiles[(columns - 1) / LANES][height];
}

// -- the plan: how a product is cut, from its shape alone

typedef struct plan {
  const gemm_problem *problem;
  moon_engine *engine;
  int64_t row_block, column_block, depth_block;      // sizes of a block
  int64_t row_blocks, column_blocks;                 // how many
  int64_t shares, share;                             // of the depth: how many, how long
  int64_t row_panels;                                // panels of the left operand, a batch
  REAL *packed;                                      // the left operand whole, or NULL
  REAL *partial;                                     // results of the shares, or NULL
  int64_t partial_rows, partial_columns;
} plan;

static int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// Cuts `total` into equal blocks of at most `limit`, in multiples of `unit`.
static int64_t even_block(int64_t total, int64_t limit, int64_t unit) {
  int64_t blocks = divide_up(maximum(total, 1), limit);
  return round_up(divide_up(maximum(total, 1), blocks), unit);
}

static void plan_cut(plan *p, const gemm_problem *problem) {
  p->problem = problem;
  int64_t limit = COLUMN_BLOCK;
  p->row_block = even_block(problem->rows, ROW_BLOCK, TILE_ROWS);
  p->row_blocks = divide_up(problem->rows, p->row_block);
  do {
    p->column_block = even_block(problem->columns, limit, TILE_COLUMNS);
    p->column_blocks = divide_up(problem->columns, p->column_block);
    limit /= 2;
  } while (limit >= SMALLEST_COLUMN_BLOCK &&
           problem->batch * p->row_blocks * p->column_blocks < WANTED_BLOCKS);
  int64_t blocks = maximum(1, problem->batch * p->row_blocks * p->column_blocks);
  p->shares = 1;
  if (blocks < WANTED_BLOCKS)
    p->shares = maximum(1, minimum(divide_up(WANTED_BLOCKS, blocks),
                                   problem->depth / SMALLEST_SHARE));
  p->depth_block = even_block(divide_up(problem->depth, p->shares), DEPTH_BLOCK, 1);
  p->share = round_up(divide_up(maximum(problem->depth, 1), p->shares), p->depth_block);
  p->shares = maximum(1, divide_up(problem->depth, p->share));
  p->row_panels = divide_up(problem->rows, TILE_ROWS);
  p->partial_rows = p->row_blocks * p->row_block;
  p->partial_columns = p->column_blocks * p->column_block;
}

// -- one block

typedef struct block_scratch { REAL *a, *b, *c; } block_scratch;   // c: row_block x column_block

typedef struct block {
  int64_t batch, row, rows, column, columns;
  int64_t k0, depth;            // the part of the depth being added
  const REAL *a;                // its first panel
  int64_t panel_step;           // from one panel of the left operand to the next
  const REAL *b;
  REAL *c;                      // sums so far
  int64_t stride;
  bool first, last;             // part of the depth; last: hand the tiles out
} block;

static void multiply_panels(const plan *p, const block *k) {
  const gemm_problem *problem = p->problem;
  REAL edge[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
  for (int64_t i = 0; i < k->rows; i += TILE_ROWS) {
    const REAL *a = k->a + i / TILE_ROWS * k->panel_step;
    int64_t rows = minimum(TILE_ROWS, k->rows - i);
    for (int64_t j = 0; j < k->columns; j += TILE_COLUMNS) {
      const REAL *b = k->b + j * k->depth;
      int64_t columns = minimum(TILE_COLUMNS, k->columns - j);
      bool alone = k->first && k->last;
      REAL *c = alone ? edge : k->c + i * k->stride + j;
      int64_t stride = alone ? TILE_COLUMNS : k->stride;
      tile_for(rows, columns)(k->depth, a, b, c, stride, !k->first);
      if (k->last)
        problem->store(problem->c, k->batch, k->row + i, rows, k->column + j, columns, c, stride);
    }
  }
}

static void pack_left(const plan *p, block *k, REAL *scratch) {
  const gemm_problem *problem = p->problem;
  if (p->packed) {
    k->a = p->packed + ((k->batch * p->row_panels + k->row / TILE_ROWS) * problem->depth + k->k0) *
                           TILE_ROWS;
    k->panel_step = problem->depth * TILE_ROWS;
    return;
  }
  problem->pack_a(problem->a, k->batch, k->row, k->rows, k->k0, k->depth, TILE_ROWS, scratch);
  k->a = scratch;
  k->panel_step = k->depth * TILE_ROWS;
}

static void pack_right(const plan *p, block *k, REAL *scratch) {
  const gemm_problem *problem = p->problem;
  problem->pack_b(problem->b, k->batch, k->column, k->columns, k->k0, k->depth, TILE_COLUMNS,
                  scratch);
  k->b = scratch;
}

// Block number `index` of the result, counted rows first, then columns, shares and batch.
static void run_block(const plan *p, int64_t index, const block_scratch *scratch) {
  const gemm_problem *problem = p->problem;
  int64_t i = index % p->row_blocks, rest = index / p->row_blocks;
  int64_t j = rest % p->column_blocks;
  rest /= p->column_blocks;
  int64_t share = rest % p->shares;
  block k = { .batch = rest / p->shares, .row = i * p->row_block, .column = j * p->column_block,
              .c = scratch->c, .stride = p->column_block };
  k.rows = minimum(p->row_block, problem->rows - k.row);
  k.columns = minimum(p->column_block, problem->columns - k.column);
  if (p->partial) {
    k.stride = p->partial_columns;
    k.c = p->partial + ((k.batch * p->shares + share) * p->partial_rows + k.row) * k.stride +
          k.column;
  }
  int64_t begin = share * p->share, end = minimum(begin + p->share, problem->depth);
  for (k.k0 = begin;; k.k0 += p->depth_block) {
    k.depth = minimum(p->depth_block, end - k.k0);
    k.first = k.k0 == begin;
    k.last = !p->partial && k.k0 + k.depth >= end;
    if (k.depth > 0) {
      pack_left(p, &k, scratch->a);
      pack_right(p, &k, scratch->b);
    }
    multiply_panels(p, &k);
    if (k.k0 + k.depth >= end) break;
  }
}

static moon_status run_blocks(void *context, int64_t first, int64_t last) {
  const plan *p = context;
  size_t a = p->packed ? 0 : (size_t)(p->row_block * p->depth_block);
  size_t b = (size_t)(p->column_block * p->depth_block) + GEMM_SLACK / sizeof(REAL);
  size_t c = p->partial || p->share <= p->depth_block
                 ? 0 : (size_t)(p->row_block * p->column_block);
  size_t bytes = (a + b + c) * sizeof(REAL);
  void *memory;
  MOON_TRY(alloc_bytes(p->engine, bytes, &memory));
  // Sums, left and right operand in this order: only the right one is written past its end.
  block_scratch scratch = { .c = memory, .a = (REAL *)memory + c, .b = (REAL *)memory + c + a };
  for (int64_t index = first; index < last; index++) run_block(p, index, &scratch);
  alloc_release(p->engine, memory, bytes);
  return MOON_OK;
}

// -- phases round the blocks

static moon_status pack_left_panels(void *context, int64_t first, int64_t last) {
  const plan *p = context;
  const gemm_problem *problem = p->problem;
  for (int64_t index = first; index < last; index++) {
    int64_t row = index % p->row_panels * TILE_ROWS;
    problem->pack_a(problem->a, index / p->row_panels, row,
                    minimum(TILE_ROWS, problem->rows - row), 0, problem->depth, TILE_ROWS,
                    p->packed + index * problem->depth * TILE_ROWS);
  }
  return MOON_OK;
}

// Adds the shares of one row of tiles, in order, and hands the tiles out.
static moon_status add_shares(void *context, int64_t first, int64_t last) {
  const plan *p = context;
  const gemm_problem *problem = p->problem;
  int64_t width = p->partial_columns, size = p->partial_rows * width;
  for (int64_t index = first; index < last; index++) {
    int64_t batch = index / p->row_panels, row = index % p->row_panels * TILE_ROWS;
    int64_t rows = minimum(TILE_ROWS, problem->rows - row);
    REAL *sum = p->partial + batch * p->shares * size + row * width;
    for (int64_t share = 1; share < p->shares; share++)
      for (int64_t i = 0; i < rows * width; i += LANES)
        lanes_store(sum + i, lanes_load(sum + i) + lanes_load(sum + share * size + i));
    problem->store(problem->c, batch, row, rows, 0, problem->columns, sum, width);
  }
  return MOON_OK;
}

static moon_status run_phases(plan *p) {
  const gemm_problem *problem = p->problem;
  int64_t panels = problem->batch * p->row_panels;
  if (p->packed) {
    int64_t grain = maximum(1, BLOCK_WORK / 16 / (TILE_ROWS * maximum(1, problem->depth)));
    MOON_TRY(threads_run(p->engine, panels, grain, pack_left_panels, p));
  }
  int64_t blocks = problem->batch * p->shares * p->row_blocks * p->column_blocks;
  int64_t work = p->row_block * p->column_block * maximum(1, minimum(p->share, problem->depth));
  MOON_TRY(threads_run(p->engine, blocks, maximum(1, BLOCK_WORK / work), run_blocks, p));
  if (!p->partial) return MOON_OK;
  int64_t row_work = TILE_ROWS * p->partial_columns * p->shares;
  return threads_run(p->engine, panels, maximum(1, BLOCK_WORK / 16 / row_work), add_shares, p);
}

moon_status CPU(NAME(gemm))(moon_engine *engine, const gemm_problem *problem) {
  if (problem->batch == 0 || problem->rows == 0 || problem->columns == 0) return MOON_OK;
  plan p = { .engine = engine };
  plan_cut(&p, problem);
  size_t packed = (size_t)(problem->batch * p.row_panels * TILE_ROWS * problem->depth);
  bool reused = p.column_blocks > 1 && packed <= PACKED_LIMIT;
  size_t partial = (size_t)(problem->batch * p.shares * p.partial_rows * p.partial_columns);
  packed = reused ? packed * sizeof(REAL) : 0;
  partial = p.shares > 1 ? partial * sizeof(REAL) : 0;
  void *memory = NULL;
  if (packed + partial > 0) MOON_TRY(alloc_bytes(engine, packed + partial, &memory));
  if (partial > 0) p.partial = memory;
  if (packed > 0) p.packed = (REAL *)((char *)memory + partial);
  moon_status status = run_phases(&p);
  if (memory) alloc_release(engine, memory, packed + partial);
  return status;
}
