// Sorting lines. Each element becomes an unsigned key whose order is the wanted one, beside its
// place: floats by flipping bits (-0 equals 0, every NaN is largest), integers by moving the sign,
// descending by complement. Short lines are sorted by insertion, long ones by radix, a byte at a
// time from the lowest, leaving out bytes that are the same everywhere; both are stable. A few of
// the first (topk) are picked in one pass that keeps them in order.
#include "cpu/cpu.h"

#include <string.h>

enum {
  INSERTION = 48,   // lines up to this are sorted by insertion
  PICKED = 64,      // up to this many of the first are picked in one pass
};

typedef struct sort_item { uint64_t key; int64_t place; } sort_item;

typedef struct sort_job {
  cpu_walk lines;              // operand 0: x, then values, indices
  const device_array *x, *values, *indices;
  int values_operand, indices_operand;   // -1: not wanted
  int dim;
  bool descending;
  int64_t length, first;       // of x along dim; how many in order are wanted
} sort_job;

// The bits of a float as a number that rises with it.
static uint64_t float_key(double value) {
  union { double d; uint64_t u; } v = { .d = value + 0.0 };   // -0 becomes 0
  if (value != value) return UINT64_MAX;
  return v.u >> 63 ? ~v.u : v.u | UINT64_C(1) << 63;
}

static void make_items(const sort_job *job, const char *line, sort_item *items) {
  moon_dtype dtype = job->x->dtype, compute = cpu_compute_dtype(dtype);
  int64_t stride = job->x->ndim ? job->x->strides[job->dim] : 1;
  union { float f[CPU_CHUNK]; double d[CPU_CHUNK]; int64_t i[CPU_CHUNK]; } chunk;
  for (int64_t i = 0; i < job->length; i += CPU_CHUNK) {
    int64_t n = job->length - i < CPU_CHUNK ? job->length - i : CPU_CHUNK;
    CPU(load_run)(dtype, n, line + i * stride * (int64_t)dtype_size(dtype), stride, &chunk);
    for (int64_t j = 0; j < n; j++) {
      uint64_t key = compute == MOON_I64   ? (uint64_t)chunk.i[j] ^ UINT64_C(1) << 63
                     : compute == MOON_F32 ? float_key((double)chunk.f[j])
                                           : float_key(chunk.d[j]);
      items[i + j] = (sort_item){ job->descending ? ~key : key, i + j };
    }
  }
}

static void insertion_sort(sort_item *items, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    sort_item item = items[i];
    int64_t j = i;
    for (; j > 0 && items[j - 1].key > item.key; j--) items[j] = items[j - 1];
    items[j] = item;
  }
}

// One pass by the byte at `shift`; count[b] is where the first item with byte b goes.
static void radix_pass(const sort_item *from, sort_item *to, int64_t n, int shift,
                       int64_t *count) {
  int64_t start = 0;
  for (int b = 0; b < 256; b++) {
    int64_t here = count[b];
    count[b] = start;
    start += here;
  }
  for (int64_t i = 0; i < n; i++) to[count[from[i].key >> shift & 255]++] = from[i];
}

// Sorts `items`, with `spare` as long beside it; gives the one of the two that holds the result.
static sort_item *radix_sort(sort_item *items, sort_item *spare, int64_t n) {
  int64_t count[8][256];
  memset(count, 0, sizeof count);
  for (int64_t i = 0; i < n; i++) {
    for (int b = 0; b < 8; b++) count[b][items[i].key >> 8 * b & 255]++;
  }
  for (int b = 0; b < 8; b++) {
    if (count[b][items[0].key >> 8 * b & 255] == n) continue;
    radix_pass(items, spare, n, 8 * b, count[b]);
    sort_item *kept = items;
    items = spare;
    spare = kept;
  }
  return items;
}

// Moves the first k in order to the front: those so far stay sorted, the last of them falls out.
static void pick_first(sort_item *items, int64_t n, int64_t k) {
  sort_item picked[PICKED];
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    if (count == k && items[i].key >= picked[k - 1].key) continue;
    int64_t j = count < k ? count++ : k - 1;
    for (; j > 0 && picked[j - 1].key > items[i].key; j--) picked[j] = picked[j - 1];
    picked[j] = items[i];
  }
  memcpy(items, picked, (size_t)count * sizeof *items);
}

static void sort_line(const sort_job *job, int64_t index, sort_item *items) {
  int64_t at[MOON_MAX_DIMS] = { 0 };
  CPU(walk_seek)(&job->lines, index, at);
  size_t size = dtype_size(job->x->dtype);
  const char *line =
      (const char *)job->x->data + cpu_walk_offset(&job->lines, 0, at) * (int64_t)size;
  int64_t from = job->x->ndim ? job->x->strides[job->dim] : 1;
  make_items(job, line, items);
  if (job->first < job->length && job->first <= PICKED) pick_first(items, job->length, job->first);
  else if (job->length <= INSERTION) insertion_sort(items, job->length);
  else items = radix_sort(items, items + job->length, job->length);
  if (job->values) {
    char *out = (char *)job->values->data +
                cpu_walk_offset(&job->lines, job->values_operand, at) * (int64_t)size;
    int64_t step = job->values->ndim ? job->values->strides[job->dim] * (int64_t)size : 0;
    for (int64_t i = 0; i < job->first; i++)
      memcpy(out + i * step, line + items[i].place * from * (int64_t)size, size);
  }
  if (job->indices) {
    int64_t *out = (int64_t *)job->indices->data +
                   cpu_walk_offset(&job->lines, job->indices_operand, at);
    int64_t step = job->indices->ndim ? job->indices->strides[job->dim] : 0;
    for (int64_t i = 0; i < job->first; i++) out[i * step] = items[i].place;
  }
}

// Lines first..last, with scratch for one line.
static moon_status sort_block(void *context, int64_t first, int64_t last) {
  const sort_job *job = context;
  size_t bytes;
  sort_item *items;
  MOON_TRY(alloc_product((size_t)job->length, 2 * sizeof *items, &bytes));
  MOON_TRY(alloc_new(bytes, (void **)&items));
  for (int64_t i = first; i < last; i++) sort_line(job, i, items);
  alloc_delete(items);
  return MOON_OK;
}

moon_status CPU(sort)(moon_engine *engine, int dim, bool descending, const device_array *x,
                      const device_array *values, const device_array *indices) {
  const device_array *arrays[3] = { x }, *shape = values ? values : indices;
  int operands = 1;
  if (!shape) return MOON_OK;
  sort_job job = { .x = x, .values = values, .indices = indices, .dim = dim,
                   .descending = descending, .values_operand = -1, .indices_operand = -1 };
  if (values) arrays[job.values_operand = operands++] = values;
  if (indices) arrays[job.indices_operand = operands++] = indices;
  CPU(walk_open_without)(&job.lines, operands, arrays, x->ndim ? 1u << dim : 0, false);
  job.length = x->ndim ? x->shape[dim] : 1;
  job.first = shape->ndim ? shape->shape[dim] : 1;
  if (job.length == 0 || job.first == 0) return MOON_OK;
  return cpu_run(engine, job.lines.count, cpu_grain(job.length * 8), sort_block, &job);
}
