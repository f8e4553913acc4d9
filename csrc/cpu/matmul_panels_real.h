// The form "panels" of matmul.h for one compute type. A task makes one block of the result; for
// each depth block it packs its columns of the right operand, which then stay in the second-level
// cache, and passes its rows over them tile by tile.

#include "cpu/whole.h"

enum {
  DEPTH_BLOCK = 512,
  ROW_BLOCK = 64 * MICRO_ROWS,
  PACKED_ROWS = 8 * MICRO_ROWS,    // at once: neighbours share the lines they are read from
  PANEL = MICRO_VECTORS * LANES,   // columns
  COLUMN_BLOCK = 8 * PANEL,
  WANTED_BLOCKS = 8,               // enough to share out evenly
  BLOCK_WORK = 1 << 19,            // multiply-adds worth a task of their own
  ALIASED = 4096,                  // bytes: rows this far apart share a set of the first cache
};

typedef struct panels {
  moon_engine *engine;
  const matmul_problem *problem;
  int64_t row_block, column_block, depth_block, row_blocks, column_blocks;
  int64_t share, shares;           // of the depth
  bool rows_in_place, direct;      // the left operand is not packed; c takes the sums themselves
  REAL *partial;                   // sums of the shares, (batch, shares, rows, columns), or NULL
} panels;

static bool is_real(const gemm_matrix *m) {
  return m->dtype == (REAL_BYTES == 4 ? MOON_F32 : MOON_F64);
}

// Halves the blocks until there are enough to share out, unless they grow too small to be worth it.
static void cut(panels *p) {
  const matmul_problem *q = p->problem;
  int64_t row_limit = ROW_BLOCK, column_limit = COLUMN_BLOCK;
  for (;;) {
    p->row_block = even_block(q->rows, row_limit, MICRO_ROWS);
    p->column_block = even_block(q->columns, column_limit, PANEL);
    p->row_blocks = divide_up(q->rows, p->row_block);
    p->column_blocks = divide_up(q->columns, p->column_block);
    if (q->batch * p->row_blocks * p->column_blocks >= WANTED_BLOCKS) break;
    if (p->row_block * p->column_block * maximum(q->depth, 1) <= BLOCK_WORK) break;
    // Rows in place are packed by none, columns by every block of rows.
    bool wide = p->column_block > PANEL && (p->rows_in_place || p->column_block >= p->row_block);
    if (wide) column_limit = p->column_block / 2;
    else if (p->row_block > MICRO_ROWS) row_limit = p->row_block / 2;
    else break;
  }
  // A long depth over few blocks is cut too; its parts are added in order.
  int64_t blocks = q->batch * p->row_blocks * p->column_blocks;
  int64_t most = q->depth / (4 * DEPTH_BLOCK), depth = maximum(q->depth, 1);
  p->shares = blocks < WANTED_BLOCKS ? maximum(1, minimum(WANTED_BLOCKS / blocks, most)) : 1;
  p->depth_block = even_block(divide_up(depth, p->shares), DEPTH_BLOCK, 1);
  p->share = even_block(depth, divide_up(depth, p->shares), p->depth_block);
  p->shares = divide_up(depth, p->share);
}

// -- one block

typedef struct block {
  int64_t batch, row, rows, column, columns, k0, depth;
  REAL *c;                         // the block's first element
  int64_t stride;
  bool add;                        // to what c holds
} block;

// Pointers to MICRO_ROWS rows of the left operand, the last repeated.
static void row_pointers(const panels *p, const block *b, int64_t i, const REAL **rows) {
  const gemm_matrix *left = &p->problem->left;
  const REAL *data = left->data;
  for (int64_t r = 0; r < MICRO_ROWS; r++) {
    int64_t row = b->row + minimum(i + r, b->rows - 1);
    rows[r] = data + b->batch * left->batch_stride + row * left->stride + b->k0;
  }
}

static void multiply(const panels *p, const block *b, const REAL *right, REAL *left) {
  const matmul_problem *q = p->problem;
  REAL alpha[PANEL], *out[MICRO_ROWS];
  const REAL *rows[MICRO_ROWS], *panel;
  for (int j = 0; j < PANEL; j++) alpha[j] = (REAL)q->target.alpha;
  NAME(micro_finish) finish = { .scale = p->direct && q->target.alpha != 1 ? alpha : NULL,
                                .add = b->add ? (const REAL *const *)out : NULL,
                                .low = -(REAL)INFINITY, .high = (REAL)INFINITY };
  NAME(micro_tile) tile = { .taps = 1, .depth = b->depth, .out = out, .finish = &finish };
  for (int64_t i = 0; i < b->rows; i += MICRO_ROWS) {
    tile.rows = (int)minimum(MICRO_ROWS, b->rows - i);
    if (p->rows_in_place) {
      row_pointers(p, b, i, rows);
    } else {
      if (i % PACKED_ROWS == 0)
        CPU(NAME(gemm_pack))(&q->left, b->batch, b->row + i, minimum(PACKED_ROWS, b->rows - i),
                             b->k0, b->depth, MICRO_ROWS, left);
      panel = left + i % PACKED_ROWS * b->depth;
    }
    for (int64_t j = 0; j < b->columns; j += PANEL) {
      const REAL *columns = right + j * b->depth;
      tile.columns = (int)minimum(PANEL, b->columns - j);
      for (int r = 0; r < tile.rows; r++) out[r] = b->c + (i + r) * b->stride + j;
      if (p->rows_in_place)
        CPU(NAME(micro_rows))(&tile, rows, columns, PANEL);
      else
        CPU(NAME(micro_outer))(&tile, &panel, MICRO_ROWS, &columns, PANEL);
    }
  }
}

// Block number `index`: rows first, then columns, shares and batch.
static void run_block(const panels *p, int64_t index, REAL *right, REAL *left, REAL *sums) {
  const matmul_problem *q = p->problem;
  int64_t i = index % p->row_blocks, rest = index / p->row_blocks;
  int64_t j = rest % p->column_blocks;
  rest /= p->column_blocks;
  int64_t share = rest % p->shares;
  block b = { .batch = rest / p->shares, .row = i * p->row_block, .column = j * p->column_block };
  const matmul_target *t = &q->target;
  b.rows = minimum(p->row_block, q->rows - b.row);
  b.columns = minimum(p->column_block, q->columns - b.column);
  b.c = sums, b.stride = p->column_block;
  if (p->partial) {
    b.stride = q->columns;
    b.c = p->partial + ((b.batch * p->shares + share) * q->rows + b.row) * b.stride + b.column;
  } else if (p->direct) {
    b.stride = t->row_stride;
    b.c = (REAL *)t->data + b.batch * t->batch_stride + b.row * b.stride + b.column;
    b.add = t->beta == 1;
  }
  int64_t begin = share * p->share, end = minimum(begin + p->share, q->depth);
  b.k0 = begin;
  do {
    b.depth = minimum(p->depth_block, end - b.k0);
    if (b.depth > 0)
      CPU(NAME(gemm_pack))(&q->right, b.batch, b.column, b.columns, b.k0, b.depth, PANEL, right);
    multiply(p, &b, right, left);
    b.add = true;
    b.k0 += p->depth_block;
  } while (b.k0 < end);
  if (!p->partial && !p->direct)
    CPU(matmul_store)(t, b.batch, b.row, b.rows, b.column, b.columns, sums, b.stride);
}

static moon_status run_blocks(void *context, int64_t first, int64_t last) {
  const panels *p = context;
  size_t right = (size_t)(p->column_block * p->depth_block) + GEMM_SLACK / sizeof(REAL);
  size_t left = p->rows_in_place ? 0 : (size_t)(PACKED_ROWS * p->depth_block) + GEMM_SLACK;
  size_t sums = p->partial || p->direct ? 0 : (size_t)(p->row_block * p->column_block);
  size_t bytes = (right + left + sums) * sizeof(REAL);
  void *memory;
  MOON_TRY(alloc_bytes(p->engine, bytes, &memory));
  REAL *scratch = memory;
  for (int64_t index = first; index < last; index++)
    run_block(p, index, scratch + sums + left, scratch + sums, scratch);
  alloc_release(p->engine, memory, bytes);
  return MOON_OK;
}

// Adds the shares of rows, in order, and hands them out.
static moon_status add_shares(void *context, int64_t first, int64_t last) {
  const panels *p = context;
  const matmul_problem *q = p->problem;
  int64_t size = q->rows * q->columns;
  for (int64_t index = first; index < last; index++) {
    int64_t batch = index / q->rows, row = index % q->rows;
    REAL *sum = p->partial + batch * p->shares * size + row * q->columns;
    for (int64_t share = 1; share < p->shares; share++)
      for (int64_t j = 0; j < q->columns; j++) sum[j] += sum[share * size + j];
    CPU(matmul_store)(&q->target, batch, row, 1, 0, q->columns, sum, q->columns);
  }
  return MOON_OK;
}

static moon_status run_panels(panels *p) {
  const matmul_problem *q = p->problem;
  int64_t blocks = q->batch * p->shares * p->row_blocks * p->column_blocks;
  int64_t work = p->row_block * p->column_block * maximum(1, minimum(p->share, q->depth));
  MOON_TRY(cpu_run(p->engine, blocks, maximum(1, BLOCK_WORK / work), run_blocks, p));
  if (!p->partial) return MOON_OK;
  return cpu_run(p->engine, q->batch * q->rows, cpu_grain(q->columns * p->shares), add_shares, p);
}

moon_status CPU(NAME(matmul_panels))(moon_engine *engine, const matmul_problem *problem) {
  const matmul_target *t = &problem->target;
  const gemm_matrix *left = &problem->left;
  bool aliased = left->stride * REAL_BYTES % ALIASED == 0 && problem->rows > MICRO_ROWS / 2;
  panels p = { .engine = engine, .problem = problem };
  p.rows_in_place = is_real(left) && (left->depth_stride == 1 || problem->depth == 1) && !aliased;
  cut(&p);
  p.direct = t->dtype == (REAL_BYTES == 4 ? MOON_F32 : MOON_F64) && t->column_stride == 1 &&
             (t->beta == 0 || t->beta == 1) && p.shares == 1;
  size_t bytes = 0;
  void *memory = NULL;
  if (p.shares > 1) {
    MOON_TRY(alloc_product((size_t)(problem->rows * problem->columns),
                           (size_t)(problem->batch * p.shares) * sizeof(REAL), &bytes));
    MOON_TRY(alloc_bytes(engine, bytes, &memory));
    p.partial = memory;
  }
  moon_status status = run_panels(&p);
  if (memory) alloc_release(engine, memory, bytes);
  return status;
}
