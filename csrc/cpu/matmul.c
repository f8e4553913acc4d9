// The matmul slot: c = alpha * a b + beta * c over batches of strided matrices. Chooses the form of
// the product and which operand takes the rows; stores with alpha, beta and rounding as its last
// step.
#include <math.h>

#include "cpu/bfloat.h"
#include "cpu/convert.h"

enum { LONGEST_ROW = 256 };   // elements converted at a time

static void store_f32(const matmul_target *t, float *to, int64_t columns, const float *tile) {
  float alpha = (float)t->alpha, beta = (float)t->beta;
  int64_t step = t->column_stride;
  if (beta != 0 && step == 1) {
    for (int64_t j = 0; j < columns; j++) to[j] = alpha * tile[j] + beta * to[j];
  } else if (beta != 0) {
    for (int64_t j = 0; j < columns; j++) to[j * step] = alpha * tile[j] + beta * to[j * step];
  } else if (step == 1) {
    for (int64_t j = 0; j < columns; j++) to[j] = alpha * tile[j];
  } else {
    for (int64_t j = 0; j < columns; j++) to[j * step] = alpha * tile[j];
  }
}

static void store_f64(const matmul_target *t, double *to, int64_t columns, const double *tile) {
  int64_t step = t->column_stride;
  for (int64_t j = 0; j < columns; j++) {
    double value = t->alpha * tile[j];
    to[j * step] = t->beta != 0 ? value + t->beta * to[j * step] : value;
  }
}

static void store_half(const matmul_target *t, uint16_t *to, int64_t columns, const float *tile) {
  if (t->alpha == 1 && t->beta == 0) {
    CPU(convert_from_f32)(t->dtype, tile, columns, to, t->column_stride);
    return;
  }
  float row[LONGEST_ROW], old[LONGEST_ROW];
  float alpha = (float)t->alpha, beta = (float)t->beta;
  for (int64_t j = 0; j < columns; j += LONGEST_ROW) {
    int64_t count = columns - j < LONGEST_ROW ? columns - j : LONGEST_ROW;
    uint16_t *target = to + j * t->column_stride;
    for (int64_t i = 0; i < count; i++) row[i] = alpha * tile[j + i];
    if (beta != 0) {
      CPU(load_run)(t->dtype, count, target, t->column_stride, old);
      for (int64_t i = 0; i < count; i++) row[i] += beta * old[i];
    }
    CPU(store_run)(t->dtype, count, row, target, t->column_stride);
  }
}

// Whether rows of a tile become columns of c as they are.
static bool is_turned(const matmul_target *t) {
  return t->row_stride == 1 && t->column_stride != 1 && t->alpha == 1 &&
         (t->dtype == MOON_F32 || t->dtype == MOON_F64);
}

static void turn(moon_dtype dtype, const void *tile, int64_t stride, int64_t rows, int64_t columns,
                 void *to, int64_t to_stride) {
  if (dtype == MOON_F32) CPU(gemm_turn_f32)(tile, stride, rows, columns, to, to_stride);
  else CPU(gemm_turn_f64)(tile, stride, rows, columns, to, to_stride);
}

// c += the tile, turned, a square at a time: c is added to along its rows.
static void add_turned(const matmul_target *t, char *c, int64_t rows, int64_t columns,
                       const char *tile, int64_t stride) {
  enum { SQUARE = 32 };
  double memory[SQUARE * SQUARE];
  const int64_t size = (int64_t)dtype_size(t->dtype);
  const matmul_target row = { .dtype = t->dtype, .alpha = 1, .beta = t->beta, .column_stride = 1 };
  for (int64_t j = 0; j < columns; j += SQUARE)
    for (int64_t i = 0; i < rows; i += SQUARE) {
      int64_t high = rows - i < SQUARE ? rows - i : SQUARE;
      int64_t wide = columns - j < SQUARE ? columns - j : SQUARE;
      turn(t->dtype, tile + (i * stride + j) * size, stride, high, wide, memory, SQUARE);
      for (int64_t k = 0; k < wide; k++) {
        void *to = c + ((j + k) * t->column_stride + i) * size;
        const char *from = (const char *)memory + k * SQUARE * size;
        if (t->dtype == MOON_F32) store_f32(&row, to, high, (const float *)from);
        else store_f64(&row, to, high, (const double *)from);
      }
    }
}

void CPU(matmul_store)(const matmul_target *t, int64_t batch, int64_t row, int64_t rows,
                       int64_t column, int64_t columns, const void *tile, int64_t stride) {
  int64_t size = (int64_t)dtype_size(t->dtype);
  int64_t first = batch * t->batch_stride + row * t->row_stride + column * t->column_stride;
  if (is_turned(t)) {
    char *to = t->data + first * size;
    if (t->beta == 0) turn(t->dtype, tile, stride, rows, columns, to, t->column_stride);
    else add_turned(t, to, rows, columns, tile, stride);
    return;
  }
  for (int64_t i = 0; i < rows; i++) {
    void *to = t->data + (first + i * t->row_stride) * size;
    if (t->dtype == MOON_F32)
      store_f32(t, to, columns, (const float *)tile + i * stride);
    else if (t->dtype == MOON_F64)
      store_f64(t, to, columns, (const double *)tile + i * stride);
    else
      store_half(t, to, columns, (const float *)tile + i * stride);
  }
}

// Matrix `x` (batch, ., .) whose panels run along dimension `along` and whose depth is the other.
static gemm_matrix operand(const device_array *x, int along) {
  return (gemm_matrix){ .data = x->data, .dtype = x->dtype,
                        .batch_stride = x->shape[0] > 1 ? x->strides[0] : 0,
                        .stride = x->strides[along], .depth_stride = x->strides[3 - along] };
}

// c' = b' a'
static matmul_problem turned(const matmul_problem *p) {
  matmul_problem q = *p;
  q.rows = p->columns, q.columns = p->rows;
  q.left = p->right, q.right = p->left;
  q.target.row_stride = p->target.column_stride;
  q.target.column_stride = p->target.row_stride;
  return q;
}

enum { WIDE_COLUMNS = 512 };

static bool suits_dots(const matmul_problem *p) {
  return p->left.dtype == p->right.dtype && (p->left.dtype == MOON_F32 || p->left.dtype == MOON_F64)
         && p->left.depth_stride == 1 && p->right.depth_stride == 1 && p->rows <= MATMUL_FEW;
}

// A short result of a long depth has too few chunks to share out.
static bool suits_wide(const matmul_problem *p) {
  if (p->columns < WIDE_COLUMNS && p->depth > WIDE_COLUMNS) return false;
  return (p->right.dtype == MOON_F32 || p->right.dtype == MOON_F64) && p->right.stride == 1 &&
         p->rows <= MATMUL_WIDEST * MICRO_ROWS;
}

// Rows are read where they lie, columns are packed: the smaller operand is better packed, even
// where the tiles of the result must be turned round then.
static bool better_turned(const matmul_problem *p) {
  bool reads = p->right.depth_stride == 1;
  return reads && p->rows * (p->depth + p->columns) < p->columns * p->depth;
}

static moon_status multiply_floats(moon_engine *engine, const matmul_problem *p) {
  matmul_problem q = turned(p);
  bool wide = p->target.dtype == MOON_F64;
  if (suits_dots(p) || suits_dots(&q)) {
    const matmul_problem *r = suits_dots(p) ? p : &q;
    return wide ? CPU(matmul_dots_f64)(engine, r) : CPU(matmul_dots_f32)(engine, r);
  }
  if (suits_wide(p) || suits_wide(&q)) {
    const matmul_problem *r = suits_wide(p) ? p : &q;
    return wide ? CPU(matmul_wide_f64)(engine, r) : CPU(matmul_wide_f32)(engine, r);
  }
  const matmul_problem *r = better_turned(p) ? &q : p;
  return wide ? CPU(matmul_panels_f64)(engine, r) : CPU(matmul_panels_f32)(engine, r);
}

// The matrix registers take bfloat16 beside float32 too. Few rows of bfloat16 against many of
// float32 are better widened, so that those are read as they lie: unless they are kept packed.
static bool suits_bfloat(const matmul_problem *p, bool kept) {
  moon_dtype a = p->left.dtype, b = p->right.dtype;
  if ((a != MOON_BF16 && b != MOON_BF16) || p->depth == 0 || !amx_ready()) return false;
  return a == b || kept || (p->rows > MATMUL_FEW && p->columns > MATMUL_FEW);
}

static matmul_problem problem_of(double alpha, const device_array *a, const device_array *b,
                                 double beta, const device_array *c) {
  return (matmul_problem){
    .batch = c->shape[0], .rows = c->shape[1], .columns = c->shape[2], .depth = a->shape[2],
    .left = operand(a, 1), .right = operand(b, 2),
    .target = { .data = c->data, .dtype = c->dtype, .alpha = alpha, .beta = beta,
                .batch_stride = c->strides[0], .row_stride = c->strides[1],
                .column_stride = c->strides[2] },
  };
}

// bfloat16 as float32; anything else as it is.
static moon_status widen(moon_engine *engine, const device_array *x, cpu_temp *temp) {
  if (x->dtype == MOON_BF16) return CPU(temp_from)(engine, x, MOON_F32, temp);
  *temp = (cpu_temp){ .array = *x };
  return MOON_OK;
}

static moon_status multiply(moon_engine *engine, double alpha, const device_array *a,
                            const device_array *b, double beta, const device_array *c) {
  matmul_problem p = problem_of(alpha, a, b, beta, c);
  cpu_temp left, right = { 0 };
  if (array_count(c) == 0) return MOON_OK;
  if (suits_bfloat(&p, b->derived)) return CPU(matmul_bfloat)(engine, &p, b);
  if (a->dtype == b->dtype) return multiply_floats(engine, &p);
  MOON_TRY(widen(engine, a, &left));
  moon_status status = widen(engine, b, &right);
  p = problem_of(alpha, &left.array, &right.array, beta, c);
  if (status == MOON_OK) status = multiply_floats(engine, &p);
  CPU(temp_release)(engine, &left);
  CPU(temp_release)(engine, &right);
  return status;
}

// The shift is written first and the product added to it, so that c is passed over once.
moon_status CPU(matmul)(moon_engine *engine, double alpha, const device_array *a,
                        const device_array *b, double beta, const matmul_finish *finish,
                        const device_array *c) {
  if (!finish) return multiply(engine, alpha, a, b, beta, c);
  if (finish->shift) {
    device_array shift = *c;
    shift.data = finish->shift->data;
    shift.dtype = finish->shift->dtype;
    shift.strides[0] = shift.strides[1] = 0;
    shift.strides[2] = finish->shift->strides[0];
    MOON_TRY(CPU(copy)(engine, &shift, c));
    beta = 1;
  }
  MOON_TRY(multiply(engine, alpha, a, b, beta, c));
  if (finish->low == -INFINITY && finish->high == INFINITY) return MOON_OK;
  const double range[MOON_MAX_POINTWISE_ATTRIBUTES] = { finish->low, finish->high };
  return CPU(unary)(engine, UNARY_clamp, range, c, c);
}
