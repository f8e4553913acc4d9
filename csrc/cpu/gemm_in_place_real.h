// Products whose right operand is read where it lies (gemm.h), for one compute type: gemm_f32.c
// and gemm_f64.c include it after gemm_real.h. For operands whose rows are long enough to be read
// as vectors and are used by few rows of the left one, packing would cost more than it saves.
// Tiles of one column block go over all rows of the left operand, so what they read of the right
// one stays in the first-level cache; sums never leave the registers.

enum { VECTOR_BLOCK = 8 * TILE_VECTORS };   // vectors of a block

static inline __attribute__((always_inline)) void tile_in_place(
    const int rows, const int vectors, int64_t depth, const REAL *restrict a,
    const REAL *const *origin, const int64_t *offset, REAL *restrict c) {
  const REAL *b[TILE_VECTORS];
  lanes sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 3
  for (int v = 0; v < vectors; v++) b[v] = origin[v];
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) sum[r][v] = lanes_zero();
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; k++) {
    lanes right[TILE_VECTORS];
    int64_t at = offset[k];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++) right[v] = lanes_load(b[v] + at);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
      lanes left = lanes_all(a[r]);
#pragma GCC unroll 3
      for (int v = 0; v < vectors; v++) sum[r][v] = lanes_fma(left, right[v], sum[r][v]);
    }
    a += TILE_ROWS;
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++)
      lanes_store(c + r * TILE_COLUMNS + v * LANES, sum[r][v]);
}

typedef void (*in_place_function)(int64_t depth, const REAL *a, const REAL *const *origin,
                                  const int64_t *offset, REAL *c);

#define TILE(rows, vectors)                                                                    \
  static void in_place_##rows##x##vectors(int64_t depth, const REAL *a,                        \
                                          const REAL *const *origin, const int64_t *offset,    \
                                          REAL *c) {                                           \
    tile_in_place(rows, vectors, depth, a, origin, offset, c);                                 \
  }
TILE_SHAPES(TILE)
static const in_place_function in_place_tiles[TILE_WIDTHS][TILE_HEIGHTS] = TILE_TABLE(in_place);
#undef TILE

typedef struct in_place_plan {
  const gemm_in_place *problem;
  int64_t row_panels, vector_blocks;
  REAL *packed;   // the left operand
} in_place_plan;

static void run_in_place_tile(const in_place_plan *p, int64_t batch, int64_t vector,
                              int64_t vectors) {
  const gemm_in_place *problem = p->problem;
  const REAL *origin[TILE_VECTORS];
  REAL c[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
  for (int64_t v = 0; v < vectors; v++) origin[v] = problem->origin(problem->b, batch, vector + v);
  for (int64_t i = 0; i < p->row_panels; i++) {
    int64_t rows = minimum(TILE_ROWS, problem->rows - i * TILE_ROWS);
    int height = rows > 4 ? 3 : rows > 2 ? 2 : rows > 1 ? 1 : 0;
    in_place_tiles[vectors - 1][height](
        problem->depth, p->packed + (batch * p->row_panels + i) * problem->depth * TILE_ROWS,
        origin, problem->depth_offset, c);
    problem->store(problem->c, batch, i * TILE_ROWS, rows, vector * LANES, vectors * LANES, c,
                   TILE_COLUMNS);
  }
}

static moon_status run_in_place_blocks(void *context, int64_t first, int64_t last) {
  const in_place_plan *p = context;
  for (int64_t index = first; index < last; index++) {
    int64_t begin = index % p->vector_blocks * VECTOR_BLOCK;
    int64_t end = minimum(begin + VECTOR_BLOCK, p->problem->vectors);
    for (int64_t v = begin; v < end; v += TILE_VECTORS)
      run_in_place_tile(p, index / p->vector_blocks, v, minimum(TILE_VECTORS, end - v));
  }
  return MOON_OK;
}

static moon_status pack_in_place_panels(void *context, int64_t first, int64_t last) {
  const in_place_plan *p = context;
  const gemm_in_place *problem = p->problem;
  for (int64_t index = first; index < last; index++) {
    int64_t row = index % p->row_panels * TILE_ROWS;
    problem->pack_a(problem->a, index / p->row_panels, row,
                    minimum(TILE_ROWS, problem->rows - row), 0, problem->depth, TILE_ROWS,
                    p->packed + index * problem->depth * TILE_ROWS);
  }
  return MOON_OK;
}

moon_status CPU(NAME(gemm_in_place))(moon_engine *engine, const gemm_in_place *problem) {
  if (problem->batch == 0 || problem->rows == 0 || problem->vectors == 0) return MOON_OK;
  in_place_plan p = { .problem = problem, .row_panels = divide_up(problem->rows, TILE_ROWS),
                      .vector_blocks = divide_up(problem->vectors, VECTOR_BLOCK) };
  int64_t panels = problem->batch * p.row_panels, depth = maximum(1, problem->depth);
  size_t bytes = (size_t)(panels * TILE_ROWS * depth) * sizeof(REAL);
  void *memory;
  MOON_TRY(alloc_bytes(engine, bytes, &memory));
  p.packed = memory;
  moon_status status = MOON_OK;
  if (problem->depth > 0)
    status = threads_run(engine, panels, maximum(1, BLOCK_WORK / 16 / (TILE_ROWS * depth)),
                         pack_in_place_panels, &p);
  int64_t work = problem->rows * VECTOR_BLOCK * LANES * depth;
  if (status == MOON_OK)
    status = threads_run(engine, problem->batch * p.vector_blocks, maximum(1, BLOCK_WORK / work),
                         run_in_place_blocks, &p);
  alloc_release(engine, memory, bytes);
  return status;
}
