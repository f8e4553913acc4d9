// Reductions over any set of dimensions. x's dimensions split into kept and reduced ones, each set
// collapsed. Work is cut into items of two kinds:
//   rows      an item is one output; its elements are folded in chunks of CPU_CHUNK
//   columns   an item is up to WIDTH neighbouring outputs; rows of x are folded into them
// The second serves x whose innermost dimension is kept (or is reduced, but very short); rows of a
// few outputs are folded several at once. Where there are few items, the reduced elements are cut
// into segments too, whose partial results are joined in order. All cuts follow from shape and
// strides, never from the number of threads. Floats accumulate in double, integers in int64
// (wrapping).
#include "cpu/cpu.h"
#include "cpu/expect.h"

#include <math.h>
#include <string.h>

enum {
  WIDTH = 256,          // outputs of an item by columns
  LANES = 16,           // independent accumulators of a chunk
  AHEAD = 4096,         // bytes that are asked for ahead of a run
  ENOUGH_ITEMS = 16,    // with fewer, segments
  SHORT_ROW = 16,       // rows shorter than this go by columns
};

typedef union cell { double f; int64_t i; } cell;

// How a kind works on one compute type.
typedef struct reduce_ops {
  void (*fold)(int64_t n, const void *x, cell *total);       // all of x into one cell
  void (*fold_each)(int64_t n, const void *x, cell *cells);  // x[j] into cells[j]
  void (*join)(int64_t n, const cell *part, cell *cells);    // partial results
  cell start;
} reduce_ops;

// STEP(acc, x): acc after folding in the value x of the accumulator's type.
#define SUM_STEP(acc, x) ((acc) + (x))
#define SQUARE_STEP(acc, x) ((acc) + (x) * (x))
#define PROD_STEP(acc, x) ((acc) * (x))
#define MAX_STEP(acc, x) ((x) != (x) ? (x) : (x) > (acc) ? (x) : (acc))
#define MIN_STEP(acc, x) ((x) != (x) ? (x) : (x) < (acc) ? (x) : (acc))
#define ALL_STEP(acc, x) ((acc) & ((x) != 0))
#define ANY_STEP(acc, x) ((acc) | ((x) != 0))

// `JOIN` folds accumulators together. accumulator: double, or uint64_t so that sums wrap; value:
// what an element becomes before it is folded in; lanes: the accumulators within a chunk.
#define REDUCTION(name, type, lanes, accumulator, member, value, STEP, JOIN, first)       \
  static void fold_##name(int64_t n, const void *x, cell *total) {                        \
    const type *xs = x;                                                                   \
    lanes lane[LANES];                                                                    \
    accumulator all = (accumulator)total->member, folded;                                 \
    int64_t i = 0;                                                                        \
    for (int l = 0; l < LANES; l++) lane[l] = (lanes)(first);                             \
    for (; i + LANES <= n; i += LANES) {                                                  \
      for (int l = 0; l < LANES; l++) lane[l] = STEP(lane[l], (value)xs[i + l]);          \
    }                                                                                     \
    for (int l = 0; i < n; i++, l++) lane[l] = STEP(lane[l], (value)xs[i]);               \
    for (int half = LANES / 2; half > 0; half /= 2) {                                     \
      for (int l = 0; l < half; l++) lane[l] = JOIN(lane[l], lane[l + half]);             \
    }                                                                                     \
    folded = (accumulator)lane[0];                                                        \
    all = JOIN(all, folded);                                                              \
    memcpy(total, &all, sizeof all);                                                      \
  }                                                                                       \
  static void fold_each_##name(int64_t n, const void *x, cell *cells) {                   \
    const type *xs = x;                                                                   \
    accumulator *acc = (accumulator *)cells;                                              \
    for (int64_t i = 0; i < n; i++) acc[i] = STEP(acc[i], (value)xs[i]);                  \
  }                                                                                       \
  static void join_##name(int64_t n, const cell *part, cell *cells) {                     \
    const accumulator *from = (const accumulator *)part;                                  \
    accumulator *acc = (accumulator *)cells;                                              \
    for (int64_t i = 0; i < n; i++) acc[i] = JOIN(acc[i], from[i]);                       \
  }                                                                                       \
  static const reduce_ops ops_##name = { fold_##name, fold_each_##name, join_##name,      \
                                         { .member = (first) } };

#define SUM_REDUCTION(name, STEP, JOIN, first)                                   \
  REDUCTION(name##_f32, float, double, double, f, double, STEP, JOIN, first)     \
  REDUCTION(name##_f64, double, double, double, f, double, STEP, JOIN, first)
#define CHOICE_REDUCTION(name, STEP, first)                                      \
  REDUCTION(name##_f32, float, float, double, f, float, STEP, STEP, first)       \
  REDUCTION(name##_f64, double, double, double, f, double, STEP, STEP, first)
#define INTEGER_REDUCTION(name, type, STEP, first)                               \
  REDUCTION(name##_i64, int64_t, type, type, i, type, STEP, STEP, first)
// Truth of floats counts in int64 cells.
#define TRUTH_REDUCTION(name, STEP, first)                                       \
  REDUCTION(name##_f32, float, int64_t, int64_t, i, float, STEP, STEP, first)    \
  REDUCTION(name##_f64, double, int64_t, int64_t, i, double, STEP, STEP, first)  \
  REDUCTION(name##_i64, int64_t, int64_t, int64_t, i, int64_t, STEP, STEP, first)

SUM_REDUCTION(sum, SUM_STEP, SUM_STEP, 0)
SUM_REDUCTION(sum_squares, SQUARE_STEP, SUM_STEP, 0)
SUM_REDUCTION(prod, PROD_STEP, PROD_STEP, 1)
CHOICE_REDUCTION(max, MAX_STEP, -INFINITY)
CHOICE_REDUCTION(min, MIN_STEP, INFINITY)
INTEGER_REDUCTION(sum, uint64_t, SUM_STEP, 0)
INTEGER_REDUCTION(prod, uint64_t, PROD_STEP, 1)
INTEGER_REDUCTION(max, int64_t, MAX_STEP, INT64_MIN)
INTEGER_REDUCTION(min, int64_t, MIN_STEP, INT64_MAX)
TRUTH_REDUCTION(all, ALL_STEP, 1)
TRUTH_REDUCTION(any, ANY_STEP, 0)

static const reduce_ops *const all_ops[][3] = {
  [REDUCE_SUM] = { &ops_sum_f32, &ops_sum_f64, &ops_sum_i64 },
  [REDUCE_PROD] = { &ops_prod_f32, &ops_prod_f64, &ops_prod_i64 },
  [REDUCE_MEAN] = { &ops_sum_f32, &ops_sum_f64, NULL },
  [REDUCE_MAX] = { &ops_max_f32, &ops_max_f64, &ops_max_i64 },
  [REDUCE_MIN] = { &ops_min_f32, &ops_min_f64, &ops_min_i64 },
  [REDUCE_ALL] = { &ops_all_f32, &ops_all_f64, &ops_all_i64 },
  [REDUCE_ANY] = { &ops_any_f32, &ops_any_f64, &ops_any_i64 },
  [REDUCE_SUM_SQUARES] = { &ops_sum_squares_f32, &ops_sum_squares_f64, NULL },
};

typedef struct reduce_job {
  const device_array *x, *out;
  const reduce_ops *ops;
  moon_dtype compute;        // of x
  size_t size;               // of x's elements
  double divisor;            // mean: elements, else 1
  cpu_walk kept;             // operand 0: x, 1: out
  cpu_walk reduced;          // operand 0: x
  bool columns, narrow;
  int64_t length;            // columns: outputs along kept's innermost dimension, else 1
  int64_t width, tiles;      // length = tiles * width, the last may be narrower
  int64_t segment, segments; // reduced elements a segment
  cell *partials;            // (kept / length, tiles, segments, width), where segments > 1
} reduce_job;

// Where the n reduced elements at `at` lie one after the other, ready to be folded; NULL if they do
// not.
static const char *run_at(const reduce_job *job, const char *row, const int64_t *at, int64_t n) {
  const cpu_walk *walk = &job->reduced;
  int last = walk->ndim - 1;
  bool follow = walk->strides[0][last] == 1 && at[last] + n <= walk->shape[last];
  if (job->x->dtype != job->compute || !follow) return NULL;
  return row + cpu_walk_offset(walk, 0, at) * (int64_t)job->size;
}

// One output: reduced elements first..last of the row that starts at `row`.
static void fold_row(const reduce_job *job, const char *row, int64_t first, int64_t last,
                     cell *total) {
  _Alignas(64) char buffer[CPU_CHUNK * 8];
  int64_t at[MOON_MAX_DIMS] = { 0 };
  for (int64_t i = first; i < last; i += CPU_CHUNK) {
    int64_t n = last - i < CPU_CHUNK ? last - i : CPU_CHUNK;
    if (job->reduced.ndim == 1) at[0] = i;
    else CPU(walk_seek)(&job->reduced, i, at);
    const char *run = run_at(job, row, at, n);
    if (run) expect_read_run(run + AHEAD, n * (int64_t)job->size);
    else CPU(walk_load)(&job->reduced, 0, job->x->dtype, job->compute, row, at, n, buffer);
    job->ops->fold(n, run ? run : buffer, total);
  }
}

// `width` outputs: rows first..last, folded one by one.
static void fold_columns(const reduce_job *job, const char *column, int64_t width, int64_t first,
                         int64_t last, cell *cells) {
  _Alignas(64) char buffer[WIDTH * 8];
  int64_t at[MOON_MAX_DIMS] = { 0 };
  int64_t stride = job->kept.strides[0][job->kept.ndim - 1];
  bool direct = job->x->dtype == job->compute && stride == 1;
  CPU(walk_seek)(&job->reduced, first, at);
  for (int64_t i = first; i < last; i++) {
    const char *row = column + cpu_walk_offset(&job->reduced, 0, at) * (int64_t)job->size;
    if (!direct) CPU(load_run)(job->x->dtype, width, row, stride, buffer);
    job->ops->fold_each(width, direct ? row : buffer, cells);
    cpu_walk_advance(&job->reduced, at, 1);
  }
}

// Whether rows are short and follow each other, so that several are folded at once.
static bool is_narrow(const reduce_job *job) {
  return job->columns && job->length <= WIDTH / 4 && job->reduced.ndim == 1 &&
         job->kept.strides[0][job->kept.ndim - 1] == 1 &&
         job->reduced.strides[0][0] == job->length;
}

// All outputs of a group: rows first..last, WIDTH / length together, whose cells are then joined.
static void fold_narrow(const reduce_job *job, const char *data, int64_t first, int64_t last,
                        cell *cells) {
  _Alignas(64) char buffer[WIDTH * 8];
  cell parts[WIDTH];
  int64_t width = job->length, together = WIDTH / width;
  for (int64_t i = 0; i < together * width; i++) parts[i] = job->ops->start;
  for (int64_t i = first; i < last; i += together) {
    int64_t n = (last - i < together ? last - i : together) * width;
    const char *rows = data + i * width * (int64_t)job->size;
    expect_read_run(rows + AHEAD, n * (int64_t)job->size);
    if (job->x->dtype != job->compute) {
      CPU(load_run)(job->x->dtype, n, rows, 1, buffer);
      rows = buffer;
    }
    job->ops->fold_each(n, rows, parts);
  }
  for (int64_t i = 0; i < together; i++) job->ops->join(width, parts + i * width, cells);
}

// Where output number `index` (in the kept walk's order) lies: offsets in x and out.
static void locate(const reduce_job *job, int64_t index, int64_t *from, int64_t *to) {
  int64_t at[MOON_MAX_DIMS] = { 0 };
  CPU(walk_seek)(&job->kept, index, at);
  *from = cpu_walk_offset(&job->kept, 0, at) * (int64_t)job->size;
  *to = cpu_walk_offset(&job->kept, 1, at) * (int64_t)dtype_size(job->out->dtype);
}

// Writes finished cells to `out`, brought to out's compute type.
static void store_cells(const reduce_job *job, const cell *cells, int64_t n, int64_t offset) {
  union { float f[WIDTH]; double d[WIDTH]; int64_t i[WIDTH]; } values;
  moon_dtype compute = cpu_compute_dtype(job->out->dtype);
  for (int64_t i = 0; i < n; i++) {
    if (compute == MOON_F32) values.f[i] = (float)(cells[i].f / job->divisor);
    else if (compute == MOON_F64) values.d[i] = cells[i].f / job->divisor;
    else values.i[i] = cells[i].i;
  }
  int64_t stride = job->columns ? job->kept.strides[1][job->kept.ndim - 1] : 1;
  CPU(store_run)(job->out->dtype, n, &values, (char *)job->out->data + offset, stride);
}

// Items count segments fastest, then tiles, then the outer kept dimensions.
static moon_status reduce_block(void *context, int64_t first, int64_t last) {
  const reduce_job *job = context;
  cell cells[WIDTH];
  for (int64_t item = first; item < last; item++) {
    int64_t segment = item % job->segments, group = item / job->segments;
    int64_t column = group % job->tiles * job->width, from, to;
    int64_t n = job->length - column < job->width ? job->length - column : job->width;
    int64_t start = segment * job->segment, end = start + job->segment;
    if (end > job->reduced.count) end = job->reduced.count;
    locate(job, group / job->tiles * job->length + column, &from, &to);
    for (int64_t i = 0; i < n; i++) cells[i] = job->ops->start;
    const char *data = (const char *)job->x->data + from;
    if (job->narrow) fold_narrow(job, data, start, end, cells);
    else if (job->columns) fold_columns(job, data, n, start, end, cells);
    else fold_row(job, data, start, end, cells);
    if (job->partials) memcpy(job->partials + item * job->width, cells, (size_t)n * sizeof *cells);
    else store_cells(job, cells, n, to);
  }
  return MOON_OK;
}

// Joins the segments of each group of outputs, in order.
static moon_status join_block(void *context, int64_t first, int64_t last) {
  const reduce_job *job = context;
  for (int64_t group = first; group < last; group++) {
    cell *cells = job->partials + group * job->segments * job->width;
    int64_t column = group % job->tiles * job->width, from, to;
    int64_t n = job->length - column < job->width ? job->length - column : job->width;
    for (int64_t s = 1; s < job->segments; s++)
      job->ops->join(n, cells + s * job->width, cells);
    locate(job, group / job->tiles * job->length + column, &from, &to);
    store_cells(job, cells, n, to);
  }
  return MOON_OK;
}

static int64_t size_of(int64_t stride) { return stride < 0 ? -stride : stride; }

// Rows or columns, and how items are cut. Shapes are not empty.
static void plan(reduce_job *job) {
  const cpu_walk *kept = &job->kept, *reduced = &job->reduced;
  int64_t kept_stride = size_of(kept->strides[0][kept->ndim - 1]);
  int64_t reduced_stride = size_of(reduced->strides[0][reduced->ndim - 1]);
  int64_t length = kept->shape[kept->ndim - 1];
  bool short_rows = reduced->count < SHORT_ROW && length >= SHORT_ROW;
  job->columns = kept->count > 1 && (reduced->count == 1 || short_rows ||
                                     kept_stride < reduced_stride);
  job->length = job->columns ? length : 1;
  job->narrow = is_narrow(job);
  job->width = job->length < WIDTH ? job->length : WIDTH;
  job->tiles = (job->length + job->width - 1) / job->width;
  int64_t groups = kept->count / job->length * job->tiles;
  job->segment = groups < ENOUGH_ITEMS ? cpu_grain(job->width) : reduced->count;
  job->segments = (reduced->count + job->segment - 1) / job->segment;
}

static moon_status reduce_groups(moon_engine *engine, reduce_job *job) {
  int64_t groups = job->kept.count / job->length * job->tiles;
  if (job->segments > 1)
    MOON_TRY(alloc_new((size_t)(groups * job->segments * job->width) * sizeof(cell),
                       (void **)&job->partials));
  int64_t elements = job->segments > 1 ? job->segment : job->reduced.count;
  moon_status status = cpu_run(engine, groups * job->segments, cpu_grain(elements * job->width),
                               reduce_block, job);
  if (status == MOON_OK && job->partials)
    status = cpu_run(engine, groups, cpu_grain(job->segments * job->width), join_block, job);
  if (job->partials) alloc_delete(job->partials);
  return status;
}

// Every output is the kind's start: 0, 1, NaN for a mean, an error for a maximum.
static moon_status reduce_nothing(moon_engine *engine, int kind, const reduce_job *job) {
  if (kind == REDUCE_MAX || kind == REDUCE_MIN)
    return moon_fail(MOON_BAD_SHAPE, "there are no elements to choose from");
  if (!dtype_is_float(job->out->dtype)) return CPU(fill_int)(engine, job->ops->start.i, job->out);
  return CPU(fill)(engine, kind == REDUCE_MEAN ? NAN : job->ops->start.f, job->out);
}

moon_status CPU(reduce)(moon_engine *engine, int kind, const device_array *x,
                        const device_array *out) {
  moon_dtype compute = cpu_compute_dtype(x->dtype);
  reduce_job job = { .x = x, .out = out, .compute = compute, .size = dtype_size(x->dtype),
                     .ops = all_ops[kind][compute == MOON_F32 ? 0 : compute == MOON_F64 ? 1 : 2] };
  if (!job.ops) return moon_fail(MOON_BAD_DTYPE, "mean of %s", dtype_name(x->dtype));
  unsigned reduced = 0, kept = 0;
  for (int i = 0; i < x->ndim; i++) {
    if (out->shape[i] == 1) reduced |= 1u << i;
    else kept |= 1u << i;
  }
  const device_array *arrays[] = { x, out };
  CPU(walk_open_without)(&job.kept, 2, arrays, reduced, true);
  CPU(walk_open_without)(&job.reduced, 1, arrays, kept, true);
  if (job.kept.count == 0) return MOON_OK;
  if (job.reduced.count == 0) return reduce_nothing(engine, kind, &job);
  job.divisor = kind == REDUCE_MEAN ? (double)job.reduced.count : 1.0;
  plan(&job);
  return reduce_groups(engine, &job);
}
