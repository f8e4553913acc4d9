// Sorting lines. Each element becomes an item, an unsigned key whose order is the wanted one above
// the element's place: floats by flipping bits (-0 equals 0, every NaN is largest), integers by
// moving the sign, descending by complement. No two items are equal, so that any way of sorting
// them is stable. A key of 32 bits and its place share a word of 64.
//
// A block sorts tiles of items in shared memory: threads sort eight in registers, then neighbouring
// stretches are merged, each thread finding where its eight lie in both (merge path: Green, McColl
// and Bader, "GPU merge path", ICS 2012). Long lines go on in rounds that merge pairs of runs, a
// block for each tile of the result; every round reads and writes all items once. Of a run only as
// many items are kept as are wanted, so that the first few of a long line take little more than
// one pass. Whoever has items in their final order writes values and places.
#include "block.cuh"
#include "elementwise.cuh"

enum { SMALL = 4096 };   // elements below which lines are sorted where they lie

// -- items

typedef uint64_t packed_item;                    // key above place, 32 bits each
struct wide_item { uint64_t key, place; };

static __device__ bool operator<(const wide_item &a, const wide_item &b) {
  return a.key != b.key ? a.key < b.key : a.place < b.place;
}

static __device__ void make_item(packed_item *item, uint64_t key, uint64_t place) {
  *item = key << 32 | place;
}
static __device__ void make_item(wide_item *item, uint64_t key, uint64_t place) {
  *item = { key, place };
}
static __device__ int64_t place_of(packed_item item) { return (int64_t)(item & 0xFFFFFFFFu); }
static __device__ int64_t place_of(const wide_item &item) { return (int64_t)item.place; }

// Sorts behind every other.
template <typename I> static __device__ I last_item() {
  I item;
  make_item(&item, UINT64_MAX, sizeof item == sizeof(packed_item) ? UINT32_MAX : UINT64_MAX);
  return item;
}

// The bits of an element as they lie in memory.
static __device__ uint64_t bits_at(int size, const void *data, int64_t i) {
  if (size == 4) return ((const uint32_t *)data)[i];
  if (size == 8) return ((const uint64_t *)data)[i];
  if (size == 2) return ((const uint16_t *)data)[i];
  return ((const uint8_t *)data)[i];
}

static __device__ uint64_t float_key(float value) {
  if (value != value) return UINT32_MAX;
  uint32_t bits = __float_as_uint(value + 0.0f);   // -0 becomes 0
  return bits >> 31 ? ~bits : bits | 1u << 31;
}

static __device__ uint64_t double_key(uint64_t bits) {
  const uint64_t sign = UINT64_C(1) << 63, infinity = UINT64_C(0x7FF) << 52;
  if ((bits & ~sign) > infinity) return UINT64_MAX;
  if (bits == sign) bits = 0;
  return bits & sign ? ~bits : bits | sign;
}

// Of 32 bits, but for float64 and int64.
static __device__ uint64_t key_of(moon_dtype dtype, uint64_t bits, bool descending) {
  uint64_t key = bits, ones = UINT32_MAX;
  switch (dtype) {
    case MOON_F64: key = double_key(bits), ones = UINT64_MAX; break;
    case MOON_I64: key = bits ^ UINT64_C(1) << 63, ones = UINT64_MAX; break;
    case MOON_F32: key = float_key(__uint_as_float((unsigned)bits)); break;
    case MOON_F16: key = float_key(cuda_load(half16{ (uint16_t)bits })); break;
    case MOON_BF16: key = float_key(cuda_load(bfloat16{ (uint16_t)bits })); break;
    case MOON_I32: key = bits ^ UINT64_C(1) << 31; break;
    default: break;
  }
  return descending ? key ^ ones : key;
}

// -- the job

struct sort_job {
  cuda_walk<3> lines;              // operand 0: x, 1: values, 2: indices
  const void *x;
  void *values;                    // either may be NULL
  int64_t *indices;
  moon_dtype dtype;
  int size;                        // of an element
  bool descending;
  int64_t stride[3];               // along a line
  int64_t length, first;           // of a line; how many in order are wanted
};

// Runs that lie in order within each line, one behind the other, the last may be shorter.
struct sort_runs {
  int64_t run, count, total;       // items of one; runs, items of a line
};

static __device__ void put_bits(int size, void *data, int64_t i, uint64_t bits) {
  if (size == 4) ((uint32_t *)data)[i] = (uint32_t)bits;
  else if (size == 8) ((uint64_t *)data)[i] = bits;
  else if (size == 2) ((uint16_t *)data)[i] = (uint16_t)bits;
  else ((uint8_t *)data)[i] = (uint8_t)bits;
}

// Element `place` of the line that starts `at` comes as number i.
static __device__ void emit(const sort_job &job, const int64_t (&at)[3], int64_t i,
                            int64_t place) {
  if (job.values)
    put_bits(job.size, job.values, at[1] + i * job.stride[1],
             bits_at(job.size, job.x, at[0] + place * job.stride[0]));
  if (job.indices) job.indices[at[2] + i * job.stride[2]] = place;
}

// -- merging in shared memory

// CUDA_ITEMS items from number `which` on of the merged stretches [a, b) and [b, end) of a tile.
template <typename I>
static __device__ void merge_items(const I *tile, int a, int b, int end, int which,
                                   I (&items)[CUDA_ITEMS]) {
  int low = which - (end - b), high = which < b - a ? which : b - a;
  if (low < 0) low = 0;
  while (low < high) {
    int middle = (low + high) / 2;
    bool before = tile[cuda_tile_slot(a + middle)] < tile[cuda_tile_slot(b + which - 1 - middle)];
    if (before) low = middle + 1;
    else high = middle;
  }
  int i = a + low, j = b + which - low;
  for (int k = 0; k < CUDA_ITEMS; k++) {
    if (i >= b && j >= end) continue;
    bool from_a = j >= end || (i < b && tile[cuda_tile_slot(i)] < tile[cuda_tile_slot(j)]);
    items[k] = tile[cuda_tile_slot(from_a ? i : j)];
    i += from_a;
    j += !from_a;
  }
}

// Sorts eight items by exchanging neighbours, in registers.
template <typename I>
static __device__ void sort_items(I (&items)[CUDA_ITEMS]) {
  for (int round = 0; round < CUDA_ITEMS; round++)
    for (int k = round % 2; k + 1 < CUDA_ITEMS; k += 2)
      if (items[k + 1] < items[k]) {
        I kept = items[k];
        items[k] = items[k + 1];
        items[k + 1] = kept;
      }
}

// Sorts every stretch of `span` items of a full tile; a power of two from CUDA_ITEMS on.
template <typename I>
static __device__ void sort_tile(I *tile, int span) {
  const int own = (int)threadIdx.x * CUDA_ITEMS;
  I items[CUDA_ITEMS];
  for (int k = 0; k < CUDA_ITEMS; k++) items[k] = tile[cuda_tile_slot(own + k)];
  sort_items(items);
  for (int half = CUDA_ITEMS; half < span; half *= 2) {
    for (int k = 0; k < CUDA_ITEMS; k++) tile[cuda_tile_slot(own + k)] = items[k];
    __syncthreads();
    int a = own / (2 * half) * 2 * half;
    merge_items(tile, a, a + half, a + 2 * half, own - a, items);
    __syncthreads();
  }
  for (int k = 0; k < CUDA_ITEMS; k++) tile[cuda_tile_slot(own + k)] = items[k];
  __syncthreads();
}

// -- kernels

// Fills a tile from stretch `first` on: all loads of a thread are under way at once.
template <typename I>
static __device__ void load_tile(const sort_job &job, const sort_runs &runs, int span,
                                 int64_t first, I *tile) {
  int64_t places[CUDA_ITEMS];
  uint64_t bits[CUDA_ITEMS];
  CUDA_UNROLL
  for (int k = 0; k < CUDA_ITEMS; k++) {
    const int i = (int)threadIdx.x + k * CUDA_BLOCK;
    int64_t stretch = first + i / span, line = stretch / runs.count, at[3];
    places[k] = (stretch - line * runs.count) * CUDA_TILE + i % span;
    bits[k] = 0;
    if (line >= job.lines.count || places[k] >= job.length) {
      places[k] = -1;
      continue;
    }
    job.lines.find(line, at);
    bits[k] = bits_at(job.size, job.x, at[0] + places[k] * job.stride[0]);
  }
  CUDA_UNROLL
  for (int k = 0; k < CUDA_ITEMS; k++) {
    I item = last_item<I>();
    if (places[k] >= 0)
      make_item(&item, key_of(job.dtype, bits[k], job.descending), (uint64_t)places[k]);
    tile[cuda_tile_slot((int)threadIdx.x + k * CUDA_BLOCK)] = item;
  }
}

// A block sorts a tile: one of a long line, or several short lines padded to `span` items each.
template <typename I>
static __global__ void sort_tiles(sort_job job, sort_runs runs, int span, I *out) {
  __shared__ I tile[CUDA_TILE_ROOM];
  const int64_t together = CUDA_TILE / span, stretches = job.lines.count * runs.count;
  for (int64_t first = blockIdx.x * together; first < stretches; first += gridDim.x * together) {
    load_tile(job, runs, span, first, tile);
    __syncthreads();
    sort_tile(tile, span);
    for (int i = (int)threadIdx.x; i < CUDA_TILE; i += CUDA_BLOCK) {
      int64_t stretch = first + i / span, line = stretch / runs.count, at[3];
      int64_t run = stretch - line * runs.count, number = run * runs.run + i % span;
      if (stretch >= stretches || i % span >= runs.run || number >= runs.total) continue;
      if (runs.count > 1) {
        out[line * runs.total + number] = tile[cuda_tile_slot(i)];
        continue;
      }
      job.lines.find(line, at);
      emit(job, at, number, place_of(tile[cuda_tile_slot(i)]));
    }
    __syncthreads();
  }
}

// How many of the first `which` items of two merged runs come from `a`; asked by a whole warp,
// which tries 32 places at a time.
template <typename I>
static __device__ int64_t split(const I *a, int64_t a_count, const I *b, int64_t b_count,
                                int64_t which) {
  const int64_t lane = threadIdx.x % CUDA_WARP;
  int64_t low = which > b_count ? which - b_count : 0, high = which < a_count ? which : a_count;
  while (low < high) {
    int64_t step = (high - low + CUDA_WARP - 1) / CUDA_WARP, at = low + lane * step;
    bool before = at < high && a[at] < b[which - 1 - at];
    int count = __popc(__ballot_sync(0xffffffffu, before));
    if (count == 0) return low;
    if (low + count * step < high) high = low + count * step;
    low += (count - 1) * step + 1;
  }
  return low;
}

// A block makes a tile of the run that two neighbouring ones become.
template <typename I>
static __global__ void merge_runs(sort_job job, sort_runs from, sort_runs to, const I *in, I *out) {
  __shared__ I tile[CUDA_TILE_ROOM];
  __shared__ int64_t splits[2];
  const int64_t tiles = (to.run + CUDA_TILE - 1) / CUDA_TILE;
  const int64_t count = job.lines.count * to.count * tiles;
  for (int64_t item = blockIdx.x; item < count; item += gridDim.x) {
    int64_t pair = item / tiles, line = pair / to.count, run = pair - line * to.count;
    int64_t start = (item - pair * tiles) * CUDA_TILE, left = from.total - 2 * run * from.run;
    int64_t a_count = left < from.run ? left : from.run;
    int64_t b_count = left - a_count < from.run ? left - a_count : from.run;
    int64_t end = start + CUDA_TILE < to.run ? start + CUDA_TILE : to.run;
    if (end > a_count + b_count) end = a_count + b_count;
    const I *a = in + line * from.total + 2 * run * from.run, *b = a + a_count;
    const int warp = (int)threadIdx.x / CUDA_WARP, own = (int)threadIdx.x * CUDA_ITEMS;
    if (warp < 2 && start < end) {
      int64_t found = split(a, a_count, b, b_count, warp == 0 ? start : end);
      if (threadIdx.x % CUDA_WARP == 0) splits[warp] = found;
    }
    __syncthreads();
    int size = start < end ? (int)(end - start) : 0, of_a = size ? (int)(splits[1] - splits[0]) : 0;
    I items[CUDA_ITEMS];
    CUDA_UNROLL
    for (int k = 0; k < CUDA_ITEMS; k++) {
      const int i = (int)threadIdx.x + k * CUDA_BLOCK;
      if (i < size) items[k] = i < of_a ? a[splits[0] + i] : b[start - splits[0] + i - of_a];
    }
    CUDA_UNROLL
    for (int k = 0; k < CUDA_ITEMS; k++) {
      const int i = (int)threadIdx.x + k * CUDA_BLOCK;
      if (i < size) tile[cuda_tile_slot(i)] = items[k];
    }
    __syncthreads();
    if (own < size) merge_items(tile, 0, of_a, size, own, items);
    __syncthreads();
    for (int k = 0; k < CUDA_ITEMS && own + k < size; k++) tile[cuda_tile_slot(own + k)] = items[k];
    __syncthreads();
    int64_t at[3];
    job.lines.find(line, at);
    for (int i = (int)threadIdx.x; i < size; i += CUDA_BLOCK) {
      if (to.count == 1) emit(job, at, start + i, place_of(tile[cuda_tile_slot(i)]));
      else out[line * to.total + run * to.run + start + i] = tile[cuda_tile_slot(i)];
    }
    __syncthreads();
  }
}

// -- the slot

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// What pairs of runs become, cut at the items that are wanted.
static sort_runs merged(sort_runs from, int64_t first) {
  sort_runs to;
  to.run = least(2 * from.run, first);
  to.count = (from.count + 1) / 2;
  to.total = (to.count - 1) * to.run +
             least(to.run, from.total - 2 * (to.count - 1) * from.run);
  return to;
}

template <typename I>
static moon_status sort_lines(cuda_context *c, const sort_job &job) {
  cuda_scratch spaces[2] = { cuda_scratch(c), cuda_scratch(c) };
  sort_runs runs;
  int span = CUDA_ITEMS, now = 0;
  while (span < job.length && span < CUDA_TILE) span *= 2;
  runs.count = (job.length + CUDA_TILE - 1) / CUDA_TILE;
  runs.run = least(CUDA_TILE, job.first);
  runs.total = (runs.count - 1) * runs.run +
               least(runs.run, job.length - (runs.count - 1) * CUDA_TILE);
  size_t items = (size_t)(job.lines.count * runs.total);
  for (int k = 0; k < 2 && runs.count > 1; k++) MOON_TRY(spaces[k].take(items * sizeof(I)));
  int64_t together = CUDA_TILE / span, stretches = job.lines.count * runs.count;
  MOON_TRY(cuda_launch(c, cuda_blocks(stretches, together), CUDA_BLOCK, sort_tiles<I>, job, runs,
                       span, spaces[0].as<I>()));
  while (runs.count > 1) {
    sort_runs next = merged(runs, job.first);
    int64_t tiles = (next.run + CUDA_TILE - 1) / CUDA_TILE;
    MOON_TRY(cuda_launch(c, cuda_blocks(job.lines.count * next.count * tiles, 1), CUDA_BLOCK,
                         merge_runs<I>, job, runs, next, (const I *)spaces[now].as<I>(),
                         spaces[1 - now].as<I>()));
    now = 1 - now;
    runs = next;
  }
  return MOON_OK;
}

// Gives the array scratch memory in which its lines lie one after the other.
static moon_status place_lines(cuda_scratch *space, int dim, device_array *array) {
  int64_t stride = array->shape[dim];
  for (int i = array->ndim - 1; i >= 0; i--) {
    if (i == dim) continue;
    array->strides[i] = stride;
    stride *= array->shape[i];
  }
  array->strides[dim] = 1;
  MOON_TRY(space->take((size_t)stride * dtype_size(array->dtype)));
  array->data = space->as<void>();
  return MOON_OK;
}

// Where lines lie across memory, they are turned first and the results turned back.
static moon_status sort_turned(cuda_context *c, int dim, bool descending, const device_array *x,
                               const device_array *values, const device_array *indices) {
  cuda_scratch x_space(c), value_space(c), index_space(c);
  device_array from = *x, sorted = values ? *values : *x, places = indices ? *indices : *x;
  MOON_TRY(place_lines(&x_space, dim, &from));
  MOON_TRY(cuda_copy(c, x, &from));
  if (values) MOON_TRY(place_lines(&value_space, dim, &sorted));
  if (indices) MOON_TRY(place_lines(&index_space, dim, &places));
  MOON_TRY(cuda_sort(c, dim, descending, &from, values ? &sorted : NULL,
                     indices ? &places : NULL));
  if (values) MOON_TRY(cuda_copy(c, &sorted, values));
  return indices ? cuda_copy(c, &places, indices) : MOON_OK;
}

static bool lies_across(int dim, const device_array *x) {
  if (x->ndim < 2 || x->strides[dim] == 1 || array_count(x) < SMALL) return false;
  return array_count(x) > x->shape[dim] && x->shape[dim] > 1;
}

moon_status cuda_sort(cuda_context *c, int dim, bool descending, const device_array *x,
                      const device_array *values, const device_array *indices) {
  const device_array *shape = values ? values : indices;
  if (!shape || array_count(shape) == 0) return MOON_OK;
  if (lies_across(dim, x)) return sort_turned(c, dim, descending, x, values, indices);
  sort_job job;
  const device_array *arrays[] = { x, values ? values : x, indices ? indices : x };
  cuda_walk_open(&job.lines, arrays, false, x->ndim > 0 ? 1u << dim : 0);
  for (int k = 0; k < 3; k++) job.stride[k] = x->ndim > 0 ? arrays[k]->strides[dim] : 0;
  job.x = x->data;
  job.values = values ? values->data : NULL;
  job.indices = indices ? (int64_t *)indices->data : NULL;
  job.dtype = x->dtype;
  job.size = (int)dtype_size(x->dtype);
  job.descending = descending;
  job.length = x->ndim > 0 ? x->shape[dim] : 1;
  job.first = shape->ndim > 0 ? shape->shape[dim] : 1;
  bool wide = job.size == 8 || job.length >= UINT32_MAX;
  return wide ? sort_lines<wide_item>(c, job) : sort_lines<packed_item>(c, job);
}
