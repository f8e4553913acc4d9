// Visiting arrays of one shape together. Dimensions are merged where every operand allows it, so
// that most walks become one long run. The elementwise driver cuts the walk into blocks for the
// threads by element number; inside a block an operand is used in place if its elements follow
// each other and are of the loop's type, and goes through a buffer of CPU_CHUNK elements if not.
#include "cpu/cpu.h"
#include "cpu/whole.h"

#include <stdlib.h>
#include <string.h>

static int64_t magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

static void swap_dims(cpu_walk *walk, int i, int j) {
  int64_t kept = walk->shape[i];
  walk->shape[i] = walk->shape[j];
  walk->shape[j] = kept;
  for (int k = 0; k < walk->operands; k++) {
    kept = walk->strides[k][i];
    walk->strides[k][i] = walk->strides[k][j];
    walk->strides[k][j] = kept;
  }
}

// Insertion sort: the first operand's strides fall from the outermost dimension to the innermost.
static void sort_dims(cpu_walk *walk) {
  for (int i = 1; i < walk->ndim; i++) {
    for (int j = i; j > 0; j--) {
      if (magnitude(walk->strides[0][j]) <= magnitude(walk->strides[0][j - 1])) break;
      swap_dims(walk, j, j - 1);
    }
  }
}

// Whether dimension i continues dimension `outer` in every operand.
static bool mergeable(const cpu_walk *walk, int outer, int i) {
  for (int k = 0; k < walk->operands; k++) {
    if (walk->strides[k][outer] != walk->strides[k][i] * walk->shape[i]) return false;
  }
  return true;
}

static void merge_dims(cpu_walk *walk) {
  int last = 0;
  for (int i = 1; i < walk->ndim; i++) {
    bool merged = mergeable(walk, last, i);
    int64_t outer = walk->shape[last];
    if (!merged) last++;
    walk->shape[last] = merged ? outer * walk->shape[i] : walk->shape[i];
    for (int k = 0; k < walk->operands; k++) walk->strides[k][last] = walk->strides[k][i];
  }
  walk->ndim = last + 1;
}

void CPU(walk_open_without)(cpu_walk *walk, int operands, const device_array *const *arrays,
                            unsigned without, bool reorder) {
  walk->ndim = 0;
  walk->operands = operands;
  walk->count = 1;
  for (int i = 0; i < arrays[0]->ndim; i++) {
    if (arrays[0]->shape[i] == 1 || (without >> i & 1)) continue;
    walk->shape[walk->ndim] = arrays[0]->shape[i];
    walk->count *= arrays[0]->shape[i];
    for (int k = 0; k < operands; k++) walk->strides[k][walk->ndim] = arrays[k]->strides[i];
    walk->ndim++;
  }
  if (walk->ndim == 0) {
    walk->ndim = 1;
    walk->shape[0] = 1;
    for (int k = 0; k < operands; k++) walk->strides[k][0] = 1;
  }
  if (reorder) sort_dims(walk);
  merge_dims(walk);
}

void CPU(walk_open)(cpu_walk *walk, int operands, const device_array *const *arrays,
                    bool reorder) {
  CPU(walk_open_without)(walk, operands, arrays, 0, reorder);
}

bool CPU(walk_is_flat)(const cpu_walk *walk, int operand) {
  int64_t expected = 1;
  for (int i = walk->ndim - 1; i >= 0; i--) {
    if (walk->strides[operand][i] != expected) return false;
    expected *= walk->shape[i];
  }
  return true;
}

void CPU(walk_seek)(const cpu_walk *walk, int64_t index, int64_t *coordinates) {
  for (int i = walk->ndim - 1; i >= 0; i--) {
    coordinates[i] = index > 0 ? index % walk->shape[i] : 0;   // divisions are slow
    index = index > 0 ? index / walk->shape[i] : 0;
  }
}

// Coordinates of the next run, and the address of its first element.
typedef struct run_cursor {
  int64_t at[MOON_MAX_DIMS];
  int64_t left;
} run_cursor;

static int64_t next_run(const cpu_walk *walk, run_cursor *cursor, int operand, int64_t *offset) {
  int last = walk->ndim - 1;
  int64_t run = walk->shape[last] - cursor->at[last];
  if (run > cursor->left) run = cursor->left;
  *offset = cpu_walk_offset(walk, operand, cursor->at);
  cpu_walk_advance(walk, cursor->at, run);
  cursor->left -= run;
  return run;
}

void CPU(walk_load)(const cpu_walk *walk, int operand, moon_dtype dtype, moon_dtype in_buffer,
                    const void *data, const int64_t *at, int64_t n, void *buffer) {
  run_cursor cursor = { .left = n };
  int64_t size = (int64_t)dtype_size(dtype), step = (int64_t)dtype_size(in_buffer), offset;
  int64_t stride = walk->strides[operand][walk->ndim - 1];
  memcpy(cursor.at, at, (size_t)walk->ndim * sizeof *at);
  while (cursor.left > 0) {
    int64_t run = next_run(walk, &cursor, operand, &offset);
    const char *element = (const char *)data + offset * size;
    if (dtype == in_buffer) CPU(gather_run)((size_t)size, run, element, stride, buffer);
    else CPU(load_run)(dtype, run, element, stride, buffer);
    buffer = (char *)buffer + run * step;
  }
}

void CPU(walk_store)(const cpu_walk *walk, int operand, moon_dtype dtype, moon_dtype in_buffer,
                     void *data, const int64_t *at, int64_t n, const void *buffer) {
  run_cursor cursor = { .left = n };
  int64_t size = (int64_t)dtype_size(dtype), step = (int64_t)dtype_size(in_buffer), offset;
  int64_t stride = walk->strides[operand][walk->ndim - 1];
  memcpy(cursor.at, at, (size_t)walk->ndim * sizeof *at);
  while (cursor.left > 0) {
    int64_t run = next_run(walk, &cursor, operand, &offset);
    char *element = (char *)data + offset * size;
    if (dtype == in_buffer) CPU(scatter_run)((size_t)size, run, buffer, element, stride);
    else CPU(store_run)(dtype, run, buffer, element, stride);
    buffer = (const char *)buffer + run * step;
  }
}

// -- the elementwise driver
typedef struct elementwise_job {
  cpu_walk walk;
  const cpu_operand *operands;
  cpu_loop loop;
  const double *attributes;
  bool in_place[CPU_MAX_OPERANDS];   // used where they lie
  bool all_in_place;
  bool repeats[CPU_MAX_OPERANDS];    // one short row for a whole plane, buffered a plane at a time
  int64_t rows;                      // elements of whole rows in a chunk, where an operand repeats
} elementwise_job;

static bool is_raw(const cpu_operand *operand) {
  return operand->array->dtype == operand->in_loop;
}

// Whether the operand is one element repeated, whose buffer needs filling only once.
static bool is_constant(const cpu_walk *walk, int operand) {
  for (int i = 0; i < walk->ndim; i++) {
    if (walk->strides[operand][i] != 0) return false;
  }
  return true;
}

static void *element_at(const elementwise_job *job, int k, int64_t index) {
  const device_array *array = job->operands[k].array;
  return (char *)array->data + index * (int64_t)dtype_size(array->dtype);
}

enum { LONG_RUN = 64 };   // innermost dimensions from this size are not cut across

// Where the n elements at `at` lie one after the other, all in one run; NULL if they do not.
static void *run_at(const elementwise_job *job, int k, const int64_t *at, int64_t n) {
  const cpu_walk *walk = &job->walk;
  const cpu_operand *operand = &job->operands[k];
  int last = walk->ndim - 1;
  if (!is_raw(operand) || walk->strides[k][last] != 1 || at[last] + n > walk->shape[last])
    return NULL;
  return element_at(job, k, cpu_walk_offset(walk, k, at));
}

// Fills the buffers of operands that are one element repeated, once for the block.
static void fill_constants(const elementwise_job *job, int64_t n, char (*buffers)[CPU_CHUNK * 8],
                           bool *constant) {
  for (int k = 0; k < job->walk.operands; k++) {
    const cpu_operand *from = &job->operands[k];
    constant[k] = k > 0 && is_constant(&job->walk, k);
    if (!constant[k]) continue;
    if (is_raw(from))
      CPU(gather_run)(dtype_size(from->in_loop), n, from->array->data, 0, buffers[k]);
    else CPU(load_run)(from->array->dtype, n, from->array->data, 0, buffers[k]);
  }
}

// Finds the operands whose row is the same along the second innermost dimension, such as one number
// a channel beside pixels. Rows that are long are better read where they lie, unless no other
// operand has to be cut into rows.
static void find_repeats(elementwise_job *job) {
  const cpu_walk *walk = &job->walk;
  int last = walk->ndim - 1;
  int64_t row = walk->shape[last];
  bool cut = false, any = false;
  if (last == 0 || row > CPU_CHUNK / 2 || row * walk->shape[last - 1] < CPU_CHUNK) return;
  for (int k = 0; k < walk->operands; k++) {
    bool constant = is_constant(walk, k);
    job->repeats[k] = k > 0 && walk->strides[k][last - 1] == 0 && !constant;
    any |= job->repeats[k];
    cut |= !job->repeats[k] && !job->in_place[k] && !constant;
  }
  if (any && (row < LONG_RUN || !cut)) job->rows = CPU_CHUNK / row * row;
}

// How many elements from `at` on are done together: a chunk, but not across long runs, and whole
// rows of one plane where rows repeat.
static int64_t chunk_at(const elementwise_job *job, const int64_t *at, int64_t left) {
  const cpu_walk *walk = &job->walk;
  int last = walk->ndim - 1;
  int64_t row = walk->shape[last], n = minimum(left, CPU_CHUNK);
  if (job->rows && at[last] == 0)
    return minimum(minimum(n, job->rows), (walk->shape[last - 1] - at[last - 1]) * row);
  return job->rows || row >= LONG_RUN ? minimum(row - at[last], n) : n;
}

// Loads what operand k needs at `at`, unless the buffer holds a plane's repeated rows already.
static void load(const elementwise_job *job, int k, const int64_t *at, int64_t n, bool *held,
                 void *buffer) {
  const cpu_operand *from = &job->operands[k];
  int64_t start[MOON_MAX_DIMS];
  int last = job->walk.ndim - 1;
  bool rows = job->rows && job->repeats[k] && at[last] == 0;
  if (rows && *held && at[last - 1] > 0) return;
  memcpy(start, at, sizeof start);
  if (rows) start[last - 1] = 0;
  CPU(walk_load)(&job->walk, k, from->array->dtype, from->in_loop, from->array->data, start,
                 rows ? job->rows : n, buffer);
  *held = rows;
}

static void step(const cpu_walk *walk, int64_t index, int64_t n, int64_t *at) {
  int last = walk->ndim - 1;
  if (at[last] + n <= walk->shape[last]) cpu_walk_advance(walk, at, n);
  else CPU(walk_seek)(walk, index, at);
}

// The blocks of a walk with buffered operands.
static void run_buffered(const elementwise_job *job, int64_t first, int64_t last) {
  _Alignas(64) char buffers[CPU_MAX_OPERANDS][CPU_CHUNK * 8];
  bool constant[CPU_MAX_OPERANDS], held[CPU_MAX_OPERANDS] = { false };
  void *p[CPU_MAX_OPERANDS];
  const cpu_operand *out = &job->operands[0];
  int64_t at[MOON_MAX_DIMS] = { 0 };
  int count = job->walk.operands;
  fill_constants(job, last - first < CPU_CHUNK ? last - first : CPU_CHUNK, buffers, constant);
  CPU(walk_seek)(&job->walk, first, at);
  for (int64_t i = first; i < last;) {
    int64_t n = chunk_at(job, at, last - i);
    for (int k = 0; k < count; k++) {
      p[k] = job->in_place[k] ? element_at(job, k, i) : run_at(job, k, at, n);
      if (p[k]) continue;
      p[k] = buffers[k];
      if (k > 0 && !constant[k]) load(job, k, at, n, &held[k], buffers[k]);
    }
    job->loop(n, p, job->attributes);
    if (p[0] == buffers[0])
      CPU(walk_store)(&job->walk, 0, out->array->dtype, out->in_loop, out->array->data, at, n,
                      buffers[0]);
    i += n;
    if (i < last) step(&job->walk, i, n, at);
  }
}

static moon_status elementwise_block(void *context, int64_t first, int64_t last) {
  const elementwise_job *job = context;
  void *p[CPU_MAX_OPERANDS];
  if (!job->all_in_place) {
    run_buffered(job, first, last);
    return MOON_OK;
  }
  for (int k = 0; k < job->walk.operands; k++) p[k] = element_at(job, k, first);
  job->loop(last - first, p, job->attributes);
  return MOON_OK;
}

// Small arrays that need nothing: no walk, no pool.
static bool run_small(int count, const cpu_operand *operands, cpu_loop loop,
                      const double *attributes) {
  void *p[CPU_MAX_OPERANDS];
  int64_t n = array_count(operands[0].array);
  if (n > CPU_GRAIN) return false;
  for (int k = 0; k < count; k++) {
    if (!is_raw(&operands[k]) || !array_is_contiguous(operands[k].array)) return false;
    p[k] = operands[k].array->data;
  }
  loop(n, p, attributes);
  return true;
}

moon_status CPU(elementwise)(moon_engine *engine, int count, const cpu_operand *operands,
                             cpu_loop loop, const double *attributes) {
  if (run_small(count, operands, loop, attributes)) return MOON_OK;
  elementwise_job job = { .operands = operands, .loop = loop, .attributes = attributes,
                          .all_in_place = true };
  const device_array *arrays[CPU_MAX_OPERANDS] = { NULL };
  for (int k = 0; k < count; k++) arrays[k] = operands[k].array;
  CPU(walk_open)(&job.walk, count, arrays, true);
  for (int k = 0; k < count; k++) {
    job.in_place[k] = is_raw(&operands[k]) && CPU(walk_is_flat)(&job.walk, k);
    job.all_in_place &= job.in_place[k];
  }
  if (!job.all_in_place) find_repeats(&job);
  return cpu_run(engine, job.walk.count, CPU_GRAIN, elementwise_block, &job);
}
