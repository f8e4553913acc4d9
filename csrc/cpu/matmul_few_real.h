// The forms "dots" and "wide" of matmul.h for one compute type: a few rows against a large operand,
// which is read once, where it lies, at the speed of memory.

// -- dots: tiles of FEW rows and MANY columns, a vector of partial sums each

#if defined(__AVX512F__) || defined(__aarch64__)
enum { FEW = 4, MANY = 6 };
#else
enum { FEW = 4, MANY = 2 };
#endif

typedef struct few {
  moon_engine *engine;
  const matmul_problem *problem;
  int64_t groups, chunk, chunks;   // of columns: groups of MANY; chunks of the form wide
  int64_t height;                  // of the packed left operand: rows of whole tiles
  const REAL *packed;              // wide: the left operand in panels of MICRO_ROWS
} few;

static inline __attribute__((always_inline)) void dots(const int rows, const int columns,
                                                       const REAL *const *a, const REAL *const *b,
                                                       int64_t depth, REAL *sums) {
  lanes sum[FEW][MANY];
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) sum[i][j] = lanes_zero();
  int64_t whole = depth - depth % LANES;
  for (int64_t k = 0; k < whole; k += LANES) {
    lanes left[FEW];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) left[i] = lanes_load(a[i] + k);
#pragma GCC unroll 6
    for (int j = 0; j < columns; j++) {
      lanes right = lanes_load(b[j] + k);
#pragma GCC unroll 4
      for (int i = 0; i < rows; i++) sum[i][j] = lanes_fma(left[i], right, sum[i][j]);
    }
  }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) {
      lanes rest = lanes_zero();
      if (whole < depth)
        rest = lanes_load_some(a[i] + whole, depth - whole) *
               lanes_load_some(b[j] + whole, depth - whole);
      sums[i * MANY + j] = lanes_sum(sum[i][j] + rest);
    }
}

typedef void (*dots_function)(const REAL *const *a, const REAL *const *b, int64_t depth,
                              REAL *sums);
#define DOTS(rows)                                                                             \
  static void dots_##rows(const REAL *const *a, const REAL *const *b, int64_t depth,           \
                          REAL *sums) {                                                        \
    dots(rows, MANY, a, b, depth, sums);                                                       \
  }
DOTS(1) DOTS(2) DOTS(3) DOTS(4)
#undef DOTS
static const dots_function dots_of[FEW] = { dots_1, dots_2, dots_3, dots_4 };

// Item: MANY columns of one product. Columns past the end repeat the last one.
static moon_status dot_groups(void *context, int64_t first, int64_t last) {
  const few *f = context;
  const matmul_problem *q = f->problem;
  REAL sums[FEW * MANY];
  const REAL *a[FEW], *b[MANY];
  for (int64_t item = first; item < last; item++) {
    int64_t batch = item / f->groups, column = item % f->groups * MANY;
    const REAL *left = (const REAL *)q->left.data + batch * q->left.batch_stride;
    const REAL *right = (const REAL *)q->right.data + batch * q->right.batch_stride;
    for (int j = 0; j < MANY; j++)
      b[j] = right + minimum(column + j, q->columns - 1) * q->right.stride;
    for (int64_t row = 0; row < q->rows; row += FEW) {
      int64_t rows = minimum(FEW, q->rows - row);
      for (int i = 0; i < rows; i++) a[i] = left + (row + i) * q->left.stride;
      dots_of[rows - 1](a, b, q->depth, sums);
      CPU(matmul_store)(&q->target, batch, row, rows, column,
                        minimum(MANY, q->columns - column), sums, MANY);
    }
  }
  return MOON_OK;
}

moon_status CPU(NAME(matmul_dots))(moon_engine *engine, const matmul_problem *problem) {
  few f = { .engine = engine, .problem = problem,
            .groups = divide_up(problem->columns, MANY) };
  return cpu_run(engine, problem->batch * f.groups,
                 cpu_grain(MANY * maximum(problem->depth, 1)), dot_groups, &f);
}

// -- wide

enum {
  WIDE_DEPTH = 32,                 // rows of the right operand that are read side by side
  WIDE_CHUNK = 1024,               // columns of a task
};

// The sums of `width` columns, for the depth from k0 on. `left` is the first panel there; `right`
// may be a packed rest of fewer columns than a vector.
static void wide_tiles(const few *f, int64_t k0, int64_t depth, const REAL *left,
                       const REAL *right, int64_t right_stride, int64_t width, REAL *sums) {
  const matmul_problem *q = f->problem;
  REAL *out[MICRO_ROWS];
  NAME(micro_finish) finish = { .add = k0 > 0 ? (const REAL *const *)out : NULL,
                                .low = -(REAL)INFINITY, .high = (REAL)INFINITY };
  NAME(micro_tile) tile = { .columns = (int)width, .taps = 1, .depth = depth, .out = out,
                            .finish = &finish };
  for (int64_t row = 0; row < q->rows; row += MICRO_ROWS, left += MICRO_ROWS * q->depth) {
    tile.rows = (int)minimum(MICRO_ROWS, q->rows - row);
    for (int r = 0; r < tile.rows; r++) out[r] = sums + (row + r) * WIDE_CHUNK;
    CPU(NAME(micro_outer))(&tile, &left, MICRO_ROWS, &right, right_stride);
  }
}

static void wide_chunk(const few *f, int64_t batch, int64_t column, REAL *sums) {
  const matmul_problem *q = f->problem;
  int64_t columns = minimum(WIDE_CHUNK, q->columns - column);
  int64_t whole = columns - columns % LANES;
  REAL rest[WIDE_DEPTH * LANES] __attribute__((aligned(64)));
  const REAL *left = f->packed + batch * f->height * q->depth;
  for (int64_t k0 = 0; k0 == 0 || k0 < q->depth; k0 += WIDE_DEPTH) {
    int64_t depth = minimum(WIDE_DEPTH, q->depth - k0);
    const REAL *right = (const REAL *)q->right.data + batch * q->right.batch_stride +
                        k0 * q->right.depth_stride + column;
    for (int64_t j = 0; j < whole; j += PANEL)
      wide_tiles(f, k0, depth, left + k0 * MICRO_ROWS, right + j, q->right.depth_stride,
                 minimum(PANEL, whole - j), sums + j);
    if (whole == columns) continue;
    CPU(NAME(gemm_pack))(&q->right, batch, column + whole, columns - whole, k0, depth, LANES, rest);
    wide_tiles(f, k0, depth, left + k0 * MICRO_ROWS, rest, LANES, columns - whole,
               sums + whole);
  }
  CPU(matmul_store)(&q->target, batch, 0, q->rows, column, columns, sums, WIDE_CHUNK);
}

static moon_status wide_chunks(void *context, int64_t first, int64_t last) {
  const few *f = context;
  size_t bytes = MATMUL_WIDEST * MICRO_ROWS * WIDE_CHUNK * sizeof(REAL);
  void *sums;
  MOON_TRY(alloc_bytes(f->engine, bytes, &sums));
  for (int64_t item = first; item < last; item++)
    wide_chunk(f, item / f->chunks, item % f->chunks * WIDE_CHUNK, sums);
  alloc_release(f->engine, sums, bytes);
  return MOON_OK;
}

moon_status CPU(NAME(matmul_wide))(moon_engine *engine, const matmul_problem *problem) {
  const matmul_problem *q = problem;
  few f = { .engine = engine, .problem = q, .chunks = divide_up(q->columns, WIDE_CHUNK),
            .height = divide_up(q->rows, MICRO_ROWS) * MICRO_ROWS };
  size_t bytes;
  void *packed;
  MOON_TRY(alloc_product((size_t)(q->batch * q->depth) + GEMM_SLACK,
                         (size_t)f.height * sizeof(REAL), &bytes));
  MOON_TRY(alloc_bytes(engine, bytes, &packed));
  f.packed = packed;
  for (int64_t batch = 0; batch < q->batch && q->depth > 0; batch++)
    CPU(NAME(gemm_pack))(&q->left, batch, 0, q->rows, 0, q->depth, MICRO_ROWS,
                         (REAL *)packed + batch * f.height * q->depth);
  int64_t grain = maximum(1, BLOCK_WORK / (f.height * WIDE_CHUNK * maximum(1, q->depth)));
  moon_status status = cpu_run(engine, q->batch * f.chunks, grain, wide_chunks, &f);
  alloc_release(engine, packed, bytes);
  return status;
}
