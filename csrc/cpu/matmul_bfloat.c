// matmul of bfloat16 operands by the matrix registers. A task makes one block of the result: for
// each chunk of the depth it packs its rows and columns, which then stay in the second-level
// cache, and multiplies them tile by tile.
#include "cpu/bfloat.h"
#include "cpu/whole.h"

enum { ROW_BLOCK = 256, COLUMN_BLOCK = 512, WANTED_BLOCKS = 8, BLOCK_WORK = 1 << 22 };

typedef struct bfloat_product {
  moon_engine *engine;
  const matmul_problem *problem;
  int64_t row_block, column_block, row_blocks, column_blocks;
} bfloat_product;

static void cut(bfloat_product *p) {
  const matmul_problem *q = p->problem;
  int64_t row_limit = ROW_BLOCK, column_limit = COLUMN_BLOCK;
  for (;;) {
    p->row_block = even_block(q->rows, row_limit, AMX_ROWS);
    p->column_block = even_block(q->columns, column_limit, AMX_COLUMNS);
    p->row_blocks = divide_up(q->rows, p->row_block);
    p->column_blocks = divide_up(q->columns, p->column_block);
    bool small = p->row_block * p->column_block * q->depth <= BLOCK_WORK;
    if (small || q->batch * p->row_blocks * p->column_blocks >= WANTED_BLOCKS) return;
    if (p->column_block > AMX_COLUMNS) column_limit = p->column_block / 2;
    else if (p->row_block > AMX_ROWS) row_limit = p->row_block / 2;
    else return;
  }
}

static const uint16_t *origin(const gemm_matrix *m, int64_t batch, int64_t at, int64_t k) {
  return (const uint16_t *)m->data + batch * m->batch_stride + at * m->stride +
         k * m->depth_stride;
}

static void run_block(const bfloat_product *p, int64_t index, uint16_t *rows, uint16_t *columns,
                      float *sums) {
  const matmul_problem *q = p->problem;
  int64_t row = index % p->row_blocks * p->row_block, rest = index / p->row_blocks;
  int64_t column = rest % p->column_blocks * p->column_block, batch = rest / p->column_blocks;
  int64_t height = minimum(p->row_block, q->rows - row);
  int64_t width = minimum(p->column_block, q->columns - column);
  int64_t tiles = divide_up(height, AMX_ROWS), panels = divide_up(width, AMX_COLUMNS);
  const int64_t tile = AMX_ROWS * BFLOAT_CHUNK, sum = AMX_ROWS * AMX_COLUMNS;
  for (int64_t k = 0; k < q->depth; k += BFLOAT_CHUNK) {
    int64_t depth = minimum(BFLOAT_CHUNK, q->depth - k), steps = bfloat_steps(depth);
    for (int64_t i = 0; i < tiles; i++)
      CPU(bfloat_pack_rows)(origin(&q->left, batch, row + i * AMX_ROWS, k), q->left.stride,
                            q->left.depth_stride, minimum(AMX_ROWS, height - i * AMX_ROWS), depth,
                            rows + i * tile);
    for (int64_t j = 0; j < panels; j++) {
      CPU(bfloat_pack_panel)(origin(&q->right, batch, column + j * AMX_COLUMNS, k),
                             q->right.stride, q->right.depth_stride,
                             minimum(AMX_COLUMNS, width - j * AMX_COLUMNS), depth, columns);
      for (int64_t i = 0; i < tiles; i++)
        amx_multiply(steps, rows + i * tile, steps * AMX_DEPTH, columns,
                     sums + (i * panels + j) * sum, k > 0);
    }
  }
  for (int64_t i = 0; i < tiles; i++)
    for (int64_t j = 0; j < panels; j++)
      CPU(matmul_store)(&q->target, batch, row + i * AMX_ROWS,
                        minimum(AMX_ROWS, height - i * AMX_ROWS), column + j * AMX_COLUMNS,
                        minimum(AMX_COLUMNS, width - j * AMX_COLUMNS),
                        sums + (i * panels + j) * sum, AMX_COLUMNS);
}

static moon_status run_blocks(void *context, int64_t first, int64_t last) {
  const bfloat_product *p = context;
  size_t sums = (size_t)(p->row_block * p->column_block) * sizeof(float);
  size_t rows = (size_t)(p->row_block * BFLOAT_CHUNK) * sizeof(uint16_t);
  size_t bytes = sums + rows + BFLOAT_CHUNK * AMX_COLUMNS * sizeof(uint16_t);
  void *memory;
  MOON_TRY(alloc_bytes(p->engine, bytes, &memory));
  char *scratch = memory;
  amx_open();
  for (int64_t index = first; index < last; index++)
    run_block(p, index, (uint16_t *)(void *)(scratch + sums),
              (uint16_t *)(void *)(scratch + sums + rows), (float *)memory);
  amx_close();
  alloc_release(p->engine, memory, bytes);
  return MOON_OK;
}

moon_status CPU(matmul_bfloat)(moon_engine *engine, const matmul_problem *problem) {
  bfloat_product p = { .engine = engine, .problem = problem };
  cut(&p);
  int64_t work = p.row_block * p.column_block * problem->depth;
  return cpu_run(engine, problem->batch * p.row_blocks * p.column_blocks,
                 work < BLOCK_WORK ? BLOCK_WORK / work : 1, run_blocks, &p);
}
