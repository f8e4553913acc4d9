// Kernels along one dimension, whose lines are independent: the largest or smallest element with
// its place, and running sums. An item of work is a group of up to WIDTH neighbouring lines that
// advance together, row by row, so that memory is read in order when the dimension is an outer
// one; where the dimension is the innermost, a group is one line and a "row" a chunk of it.
#include "cpu/cpu.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 256, SHORT_LINE = 32 };   // shorter lines advance together in any case

typedef union line_values { float f[WIDTH]; double d[WIDTH]; int64_t i[WIDTH]; } line_values;

// The lines of arrays along `dim`, cut into groups. operand 0 is x.
typedef struct line_groups {
  cpu_walk lines;
  int64_t length;                         // elements of a line
  int64_t stride[CPU_MAX_OPERANDS];       // along it
  bool single;                            // a group is one line
  int64_t across, width, tiles, count;    // lines along the innermost walk dimension; groups
} line_groups;

static int64_t magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

static void open_groups(line_groups *groups, int operands, const device_array *const *arrays,
                        int dim) {
  const device_array *x = arrays[0];
  bool scalar = x->ndim == 0;
  CPU(walk_open_without)(&groups->lines, operands, arrays, scalar ? 0 : 1u << dim, true);
  groups->length = scalar ? 1 : x->shape[dim];
  for (int k = 0; k < operands; k++) groups->stride[k] = scalar ? 1 : arrays[k]->strides[dim];
  const cpu_walk *lines = &groups->lines;
  groups->across = lines->shape[lines->ndim - 1];
  groups->single = groups->across == 1 ||
                   (magnitude(groups->stride[0]) < magnitude(lines->strides[0][lines->ndim - 1]) &&
                    groups->length >= SHORT_LINE);
  if (groups->single) groups->across = 1;
  groups->width = groups->across < WIDTH ? groups->across : WIDTH;
  groups->tiles = groups->width > 0 ? (groups->across + groups->width - 1) / groups->width : 0;
  groups->count = groups->across > 0 ? lines->count / groups->across * groups->tiles : 0;
}

// One group: its lines' number and the address of each operand's first element.
typedef struct line_group {
  int64_t width;
  char *data[CPU_MAX_OPERANDS];
  int64_t between[CPU_MAX_OPERANDS];   // stride from line to line
} line_group;

static line_group group_at(const line_groups *groups, const device_array *const *arrays,
                           int64_t index) {
  const cpu_walk *lines = &groups->lines;
  int64_t column = index % groups->tiles * groups->width, at[MOON_MAX_DIMS] = { 0 };
  line_group group = { .width = groups->across - column };
  if (group.width > groups->width) group.width = groups->width;
  CPU(walk_seek)(lines, index / groups->tiles * groups->across + column, at);
  for (int k = 0; k < lines->operands; k++) {
    int64_t size = (int64_t)dtype_size(arrays[k]->dtype);
    group.data[k] = (char *)arrays[k]->data + cpu_walk_offset(lines, k, at) * size;
    group.between[k] = lines->strides[k][lines->ndim - 1];
  }
  return group;
}

static int64_t line_grain(const line_groups *groups) {
  return cpu_grain(groups->length * groups->width);
}

// -- extreme: operand 0 x, 1 values, 2 indices. Per type two steps: a row against the best so far
// of each line, and a chunk of one line against its best. The first of equals stays; NaN wins. A
// chunk is first asked whether it holds anything better, which goes by vectors.
#define EXTREME(name, type, member, IS_BETTER)                                         \
  static void rows_##name(int64_t n, const void *row, int64_t place, line_values *best, \
                          int64_t *where) {                                            \
    const type *xs = row;                                                              \
    for (int64_t j = 0; j < n; j++) {                                                  \
      const type x = xs[j], old = best->member[j];                                     \
      const bool better = IS_BETTER;                                                   \
      best->member[j] = better ? x : old;                                              \
      where[j] = better ? place : where[j];                                            \
    }                                                                                  \
  }                                                                                    \
  static void line_##name(int64_t n, const void *chunk, int64_t place, line_values *best, \
                          int64_t *where) {                                            \
    const type *xs = chunk;                                                            \
    type old = best->member[0];                                                        \
    int any = 0;                                                                       \
    for (int64_t j = 0; j < n; j++) {                                                  \
      const type x = xs[j];                                                            \
      any |= IS_BETTER;                                                                \
    }                                                                                  \
    for (int64_t j = 0; any && j < n; j++) {                                           \
      const type x = xs[j];                                                            \
      if (IS_BETTER) {                                                                 \
        old = x;                                                                       \
        *where = place + j;                                                            \
      }                                                                                \
    }                                                                                  \
    best->member[0] = old;                                                             \
  }
EXTREME(largest_f32, float, f, (x > old) | ((x != x) & (old == old)))
EXTREME(largest_f64, double, d, (x > old) | ((x != x) & (old == old)))
EXTREME(largest_i64, int64_t, i, x > old)
EXTREME(smallest_f32, float, f, (x < old) | ((x != x) & (old == old)))
EXTREME(smallest_f64, double, d, (x < old) | ((x != x) & (old == old)))
EXTREME(smallest_i64, int64_t, i, x < old)

typedef void (*extreme_step)(int64_t n, const void *row, int64_t place, line_values *best,
                             int64_t *where);
typedef struct extreme_job {
  line_groups groups;
  const device_array *arrays[3];
  extreme_step rows, line;
} extreme_job;

// n elements in their compute type: where they lie, if that will do, else through the buffer.
static const void *elements(moon_dtype dtype, int64_t n, const void *source, int64_t stride,
                            line_values *buffer) {
  if (dtype == cpu_compute_dtype(dtype) && stride == 1) return source;
  CPU(load_run)(dtype, n, source, stride, buffer);
  return buffer;
}

static void extreme_group(const extreme_job *job, int64_t index) {
  const line_groups *groups = &job->groups;
  line_group group = group_at(groups, job->arrays, index);
  moon_dtype dtype = job->arrays[0]->dtype;
  int64_t step = groups->stride[0] * (int64_t)dtype_size(dtype), where[WIDTH];
  line_values buffer, best;
  // The first element is the best to begin with.
  memset(where, 0, (size_t)group.width * sizeof *where);
  CPU(load_run)(dtype, group.width, group.data[0], group.between[0], &best);
  for (int64_t i = 1; i < groups->length;) {
    const char *source = group.data[0] + i * step;
    int64_t n = groups->length - i < WIDTH ? groups->length - i : WIDTH;
    if (groups->single) {
      job->line(n, elements(dtype, n, source, groups->stride[0], &buffer), i, &best, where);
      i += n;
    } else {
      job->rows(group.width, elements(dtype, group.width, source, group.between[0], &buffer), i,
                &best, where);
      i++;
    }
  }
  CPU(store_run)(dtype, group.width, &best, group.data[1], group.between[1]);
  CPU(store_run)(MOON_I64, group.width, where, group.data[2], group.between[2]);
}

static moon_status extreme_block(void *context, int64_t first, int64_t last) {
  const extreme_job *job = context;
  for (int64_t i = first; i < last; i++) extreme_group(job, i);
  return MOON_OK;
}

moon_status CPU(extreme)(moon_engine *engine, bool smallest, int dim, const device_array *x,
                         const device_array *values, const device_array *indices) {
  static const extreme_step steps[2][3][2] = {
    { { rows_largest_f32, line_largest_f32 },
      { rows_largest_f64, line_largest_f64 },
      { rows_largest_i64, line_largest_i64 } },
    { { rows_smallest_f32, line_smallest_f32 },
      { rows_smallest_f64, line_smallest_f64 },
      { rows_smallest_i64, line_smallest_i64 } },
  };
  moon_dtype compute = cpu_compute_dtype(x->dtype);
  const extreme_step *step =
      steps[smallest][compute == MOON_F32 ? 0 : compute == MOON_F64 ? 1 : 2];
  extreme_job job = { .arrays = { x, values, indices }, .rows = step[0], .line = step[1] };
  open_groups(&job.groups, 3, job.arrays, dim);
  if (job.groups.lines.count == 0) return MOON_OK;
  if (job.groups.length == 0)
    return moon_fail(MOON_BAD_SHAPE, "there are no elements to choose from");
  return cpu_run(engine, job.groups.count, line_grain(&job.groups), extreme_block, &job);
}

// -- cumsum: operand 0 x, 1 out. Floats run on in double, integers wrap.
typedef union running { double f[WIDTH]; uint64_t i[WIDTH]; } running;

typedef void (*cumsum_step)(int64_t n, line_values *row, running *sums);
typedef struct cumsum_job {
  line_groups groups;
  const device_array *arrays[2];
  cumsum_step row, chunk;
} cumsum_job;

// Adds a row to the running sum of each line, or a chunk to that of one, and leaves the sums there.
#define CUMSUM(name, type, sum, row_member, sum_member)                              \
  static void row_##name(int64_t n, line_values *row, running *sums) {               \
    for (int64_t j = 0; j < n; j++)                                                  \
      row->row_member[j] = (type)(sums->sum_member[j] += (sum)row->row_member[j]);   \
  }                                                                                  \
  static void chunk_##name(int64_t n, line_values *chunk, running *sums) {           \
    sum total = sums->sum_member[0];                                                 \
    for (int64_t j = 0; j < n; j++)                                                  \
      chunk->row_member[j] = (type)(total += (sum)chunk->row_member[j]);             \
    sums->sum_member[0] = total;                                                     \
  }
CUMSUM(f32, float, double, f, f)
CUMSUM(f64, double, double, d, f)
CUMSUM(i64, int64_t, uint64_t, i, i)

static void cumsum_group(const cumsum_job *job, int64_t index) {
  const line_groups *groups = &job->groups;
  line_group group = group_at(groups, job->arrays, index);
  moon_dtype dtype = job->arrays[0]->dtype, result = job->arrays[1]->dtype;
  int64_t step = groups->stride[0] * (int64_t)dtype_size(dtype);
  int64_t result_step = groups->stride[1] * (int64_t)dtype_size(result);
  running sums;
  line_values row;
  memset(&sums, 0, (size_t)group.width * sizeof *sums.f);
  for (int64_t i = 0; i < groups->length;) {
    int64_t n = groups->length - i < WIDTH ? groups->length - i : WIDTH;
    const char *from = group.data[0] + i * step;
    char *to = group.data[1] + i * result_step;
    if (groups->single) {
      CPU(load_run)(dtype, n, from, groups->stride[0], &row);
      job->chunk(n, &row, &sums);
      CPU(store_run)(result, n, &row, to, groups->stride[1]);
      i += n;
    } else {
      CPU(load_run)(dtype, group.width, from, group.between[0], &row);
      job->row(group.width, &row, &sums);
      CPU(store_run)(result, group.width, &row, to, group.between[1]);
      i++;
    }
  }
}

static moon_status cumsum_block(void *context, int64_t first, int64_t last) {
  const cumsum_job *job = context;
  for (int64_t i = first; i < last; i++) cumsum_group(job, i);
  return MOON_OK;
}

moon_status CPU(cumsum)(moon_engine *engine, int dim, const device_array *x,
                        const device_array *out) {
  static const cumsum_step steps[3][2] = {
    { row_f32, chunk_f32 }, { row_f64, chunk_f64 }, { row_i64, chunk_i64 },
  };
  moon_dtype compute = cpu_compute_dtype(x->dtype);
  const cumsum_step *step = steps[compute == MOON_F32 ? 0 : compute == MOON_F64 ? 1 : 2];
  cumsum_job job = { .arrays = { x, out }, .row = step[0], .chunk = step[1] };
  open_groups(&job.groups, 2, job.arrays, dim);
  if (job.groups.lines.count == 0 || job.groups.length == 0) return MOON_OK;
  return cpu_run(engine, job.groups.count, line_grain(&job.groups), cumsum_block, &job);
}
