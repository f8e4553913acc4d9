// matmul by the matrix registers. A task makes one block of the result: for each chunk of the depth
// it packs its rows and columns, which then stay in the second-level cache, and multiplies them
// tile by tile. Columns that may be kept (a layer's weights in inference) are packed once for all
// calls; few rows pass over them at the speed of memory, in half of float's bytes. Operands may be
// float32 or bfloat16, results of any type.
#include "cpu/bfloat.h"
#include "cpu/whole.h"
#include "device/derived.h"

enum {
  ROW_BLOCK = 256, COLUMN_BLOCK = 512, WANTED_BLOCKS = 8, BLOCK_WORK = 1 << 22,
  LARGE_RESULT = 1 << 19,          // floats that the second cache does not hold
};

typedef struct bfloat_product {
  moon_engine *engine;
  const matmul_problem *problem;
  int64_t row_block, column_block, row_blocks, column_blocks, panels;
  int64_t tile_rows;               // AMX_ROWS, or fewer in all
  const uint16_t *packed;          // (panels, steps of the depth) of AMX_PANEL, or NULL
} bfloat_product;

static void cut(bfloat_product *p) {
  const matmul_problem *q = p->problem;
  int64_t row_limit = ROW_BLOCK, column_limit = COLUMN_BLOCK;
  p->tile_rows = q->rows <= AMX_FEW ? q->rows : AMX_ROWS;
  p->panels = divide_up(q->columns, AMX_COLUMNS);
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

// -- packing

typedef struct scratch {
  uint16_t *rows;                  // of a block, a chunk deep
  uint16_t *panel;                 // a chunk of one
  uint16_t *taken;                 // float operands on their way: AMX_COLUMNS chunks
  float *sums;                     // of a block
} scratch;

// An operand in bfloat16 from element (at, k) on, `count` wide and `depth` deep; its strides.
typedef struct taken { const uint16_t *data; int64_t stride, depth_stride; } taken;

static taken take(const gemm_matrix *m, int64_t batch, int64_t at, int64_t count, int64_t k,
                  int64_t depth, uint16_t *room) {
  int64_t first = batch * m->batch_stride + at * m->stride + k * m->depth_stride;
  const float *from = (const float *)m->data + first;
  if (m->dtype == MOON_BF16)
    return (taken){ (const uint16_t *)m->data + first, m->stride, m->depth_stride };
  if (m->stride == 1) {
    for (int64_t i = 0; i < depth; i++)
      CPU(bfloat_take)(m->dtype, from + i * m->depth_stride, 1, count, room + i * AMX_COLUMNS);
    return (taken){ room, 1, AMX_COLUMNS };
  }
  for (int64_t i = 0; i < count; i++)
    CPU(bfloat_take)(m->dtype, from + i * m->stride, m->depth_stride, depth,
                     room + i * BFLOAT_CHUNK);
  return (taken){ room, BFLOAT_CHUNK, 1 };
}

static void pack_panel(const matmul_problem *q, int64_t batch, int64_t column, int64_t k,
                       int64_t depth, uint16_t *room, uint16_t *panel) {
  int64_t columns = minimum(AMX_COLUMNS, q->columns - column);
  taken t = take(&q->right, batch, column, columns, k, depth, room);
  CPU(bfloat_pack_panel)(t.data, t.stride, t.depth_stride, columns, depth, panel);
}

// Rows of a tile, zeros behind.
static void pack_tile(const bfloat_product *p, int64_t batch, int64_t row, int64_t rows, int64_t k,
                      int64_t depth, uint16_t *room, uint16_t *target) {
  taken t = take(&p->problem->left, batch, row, rows, k, depth, room);
  CPU(bfloat_pack_rows)(t.data, t.stride, t.depth_stride, rows, depth, target);
}

// -- one block

typedef struct block {
  int64_t batch, row, rows, column, columns, tiles, panels;
} block;

static block block_at(const bfloat_product *p, int64_t index) {
  const matmul_problem *q = p->problem;
  int64_t rest = index / p->row_blocks;
  block b = { .batch = rest / p->column_blocks, .row = index % p->row_blocks * p->row_block,
              .column = rest % p->column_blocks * p->column_block };
  b.rows = minimum(p->row_block, q->rows - b.row);
  b.columns = minimum(p->column_block, q->columns - b.column);
  b.tiles = divide_up(b.rows, AMX_ROWS);
  b.panels = divide_up(b.columns, AMX_COLUMNS);
  return b;
}

static void multiply_chunk(const bfloat_product *p, const block *b, int64_t k, const scratch *s) {
  const matmul_problem *q = p->problem;
  int64_t depth = minimum(BFLOAT_CHUNK, q->depth - k), steps = bfloat_steps(depth);
  const int64_t tile = AMX_ROWS * BFLOAT_CHUNK;
  const uint16_t *panel = s->panel;
  for (int64_t i = 0; i < b->tiles; i++)
    pack_tile(p, b->batch, b->row + i * AMX_ROWS, minimum(AMX_ROWS, b->rows - i * AMX_ROWS), k,
              depth, s->taken, s->rows + i * tile);
  for (int64_t j = 0; j < b->panels; j++) {
    int64_t column = b->column + j * AMX_COLUMNS;
    if (p->packed)
      panel = p->packed + column * bfloat_steps(q->depth) * AMX_DEPTH + k * AMX_COLUMNS;
    else
      pack_panel(q, b->batch, column, k, depth, s->taken, s->panel);
    for (int64_t i = 0; i < b->tiles; i++) {
      amx_rows rows = { .data = s->rows + i * tile, .stride = steps * AMX_DEPTH };
      float *sums = s->sums + (i * b->panels + j) * AMX_TILE;
      if (p->tile_rows < AMX_ROWS) amx_multiply_few(steps, &rows, panel, sums, k > 0);
      else amx_multiply(steps, &rows, panel, sums, k > 0);
    }
  }
}

// Sums from row i and column j of a block on. Those that are a gradient of weights, which may be
// large, go where they belong without a detour.
static void store_tile(const matmul_problem *q, const block *b, int64_t i, int64_t j,
                       const float *sums) {
  const matmul_target *t = &q->target;
  int64_t rows = minimum(AMX_ROWS, b->rows - i), columns = minimum(AMX_COLUMNS, b->columns - j);
  if (t->dtype != MOON_F32 || t->column_stride != 1 || t->alpha != 1 || t->beta != 0) {
    CPU(matmul_store)(t, b->batch, b->row + i, rows, b->column + j, columns, sums, AMX_COLUMNS);
    return;
  }
  float *to = (float *)(void *)t->data + b->batch * t->batch_stride +
              (b->row + i) * t->row_stride + b->column + j;
  amx_store_floats(sums, rows, columns, to, t->row_stride, q->rows * q->columns > LARGE_RESULT);
}

static void run_block(const bfloat_product *p, int64_t index, const scratch *s) {
  const matmul_problem *q = p->problem;
  block b = block_at(p, index);
  for (int64_t k = 0; k < q->depth; k += BFLOAT_CHUNK) multiply_chunk(p, &b, k, s);
  for (int64_t i = 0; i < b.tiles; i++)
    for (int64_t j = 0; j < b.panels; j++)
      store_tile(q, &b, i * AMX_ROWS, j * AMX_COLUMNS, s->sums + (i * b.panels + j) * AMX_TILE);
}

static moon_status run_blocks(void *context, int64_t first, int64_t last) {
  const bfloat_product *p = context;
  const int64_t chunk = BFLOAT_CHUNK * AMX_COLUMNS;
  size_t sums = (size_t)(p->row_block * p->column_block) * sizeof(float);
  size_t halves = (size_t)(p->row_block * BFLOAT_CHUNK + 2 * chunk) * sizeof(uint16_t);
  void *memory;
  MOON_TRY(alloc_bytes(p->engine, sums + halves, &memory));
  scratch s = { .sums = memory, .panel = (uint16_t *)(void *)((char *)memory + sums) };
  s.taken = s.panel + chunk;
  s.rows = s.taken + chunk;
  amx_open(p->tile_rows);
  for (int64_t index = first; index < last; index++) run_block(p, index, &s);
  amx_close();
  alloc_release(p->engine, memory, sums + halves);
  return MOON_OK;
}

// -- kept columns

// Item: a panel.
static moon_status pack_panels(void *context, int64_t first, int64_t last) {
  const bfloat_product *p = context;
  const matmul_problem *q = p->problem;
  uint16_t room[BFLOAT_CHUNK * AMX_COLUMNS] __attribute__((aligned(64)));
  for (int64_t j = first; j < last; j++) {
    uint16_t *panel = (uint16_t *)p->packed + j * bfloat_steps(q->depth) * AMX_PANEL;
    for (int64_t k = 0; k < q->depth; k += BFLOAT_CHUNK)
      pack_panel(q, 0, j * AMX_COLUMNS, k, minimum(BFLOAT_CHUNK, q->depth - k), room,
                 panel + k * AMX_COLUMNS);
  }
  return MOON_OK;
}

static moon_status pack_all(moon_engine *engine, void *context, void *panels) {
  bfloat_product *p = context;
  p->packed = panels;
  return cpu_run(engine, p->panels, cpu_grain(p->problem->depth * AMX_COLUMNS), pack_panels, p);
}

static moon_status open_kept(bfloat_product *p, const device_array *right, derived_hold *kept) {
  size_t bytes;
  MOON_TRY(alloc_product((size_t)(p->panels * bfloat_steps(p->problem->depth)),
                         AMX_PANEL * sizeof(uint16_t), &bytes));
  static const char maker;
  const derived_kind kind = { .maker = &maker, .bytes = bytes };
  MOON_TRY(derived_open(p->engine, right, &kind, pack_all, p, kept));
  p->packed = kept->data;
  return MOON_OK;
}

moon_status CPU(matmul_bfloat)(moon_engine *engine, const matmul_problem *problem,
                               const device_array *right) {
  bfloat_product p = { .engine = engine, .problem = problem };
  derived_hold kept = { 0 };
  cut(&p);
  if (right->derived && problem->batch == 1) MOON_TRY(open_kept(&p, right, &kept));
  int64_t work = p.row_block * p.column_block * problem->depth;
  moon_status status = cpu_run(engine, problem->batch * p.row_blocks * p.column_blocks,
                               work < BLOCK_WORK ? BLOCK_WORK / work : 1, run_blocks, &p);
  derived_close(engine, &kept);
  return status;
}
