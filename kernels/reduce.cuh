// The driver of reductions: x's elements are folded into one total for each output, by an
// operation that knows how to fold, to join two totals and to write one.
//
// x's dimensions split into kept and reduced ones, each set merged. Two layouts over the grid, both
// bound by memory, with eight loads of a thread in flight:
//   rows      the reduced elements lie side by side: 1 to 32 lanes, or a whole block, fold one
//             output, in chunks of 16 bytes where alignment allows
//   columns   outputs lie side by side: a thread folds one of them (or a chunk of 8), others of its
//             block further rows of x
// Where there are few outputs the reduced elements are cut into segments. Their totals form an
// array (segments, outputs), which is reduced in turn. All cuts follow from shape and strides, and
// totals are joined in trees, so that results are the same in every run.
//
// An operation Op on elements of the compute type T has
//   total                       what they are folded into, trivial
//   segment_dtype, segment_type how totals of segments are written, and its compute type
//   wide                        whether eight totals in a thread are worth it
//   nothing()                   an element that changes no total
//   start()                     the total of no elements
//   fold(total, x, i)           i: the number of the reduced element
//   join(total, total)
//   write(job, at, output, total)   at: where results lie; output: which it is
//   of_segment(), of_totals(places) the operations of the two passes where there are segments;
//                               places: those that the first one wrote
#ifndef MOON_KERNELS_REDUCE_CUH
#define MOON_KERNELS_REDUCE_CUH

#include "block.cuh"
#include "elementwise.cuh"

enum {
  FOLD_BLOCKS = 1024,    // blocks that fill a GPU
  FOLD_RESIDENT = 4,     // blocks that a processor is to have at once: bounds registers
  FOLD_LONG = 1024,      // items of a row from which a block takes it
  FOLD_LEAST = 4,        // items of a thread in a segment, at least
};

struct fold_job {
  cuda_walk<3> kept;     // operand 0: x, 1 and 2: results
  cuda_walk<1> reduced;
  const void *x;
  moon_dtype dtype, out_dtype;
  void *out;             // results
  int64_t *places;       // more of them, where the operation has places
  bool dense;            // results lie in order of segments, then outputs
  bool chunked;          // rows: items are chunks; columns: a thread folds a chunk of outputs
  int width;             // threads of an output's row, or across columns: a power of two
  int64_t items;         // of a row, as chunks or elements
  int64_t segment, segments;   // items of one; how many
  int64_t across, tiles;       // columns: outputs side by side, and their tiles
};

// -- joining totals of neighbouring lanes and of the threads of a block

// The total of `width` neighbouring threads (a power of two up to a warp, or the block), in the
// first of them.
template <typename Op>
__device__ typename Op::total fold_join(const Op &op, typename Op::total mine, int width) {
  __shared__ typename Op::total warps[CUDA_BLOCK / CUDA_WARP];
  int lanes = width < CUDA_WARP ? width : (int)CUDA_WARP;
  for (int by = lanes / 2; by > 0; by /= 2)
    mine = op.join(mine, cuda_shuffle_down(mine, by, lanes));
  if (width <= CUDA_WARP) return mine;
  const int lane = threadIdx.x % CUDA_WARP, count = CUDA_BLOCK / CUDA_WARP;
  if (lane == 0) warps[threadIdx.x / CUDA_WARP] = mine;
  __syncthreads();
  mine = warps[lane % count];
  for (int by = count / 2; by > 0; by /= 2)
    mine = op.join(mine, cuda_shuffle_down(mine, by, count));
  __syncthreads();
  return mine;
}

template <typename Op>
__device__ void fold_write(const fold_job &job, const Op &op, int64_t segment, int64_t output,
                           typename Op::total total) {
  int64_t at[3];
  if (job.dense) at[1] = at[2] = segment * job.kept.count + output;
  else job.kept.find(output, at);
  op.write(job, at, output, total);
}

// -- elements: where they are found without a loop, several loads are under way at once

static __host__ __device__ inline bool fold_is_near(const cuda_walk<1> &reduced) {
  return reduced.ndim == 1 || (reduced.ndim == 2 && reduced.narrow);
}

// Where reduced element i of what starts at element `start` of x lies, if that is near.
struct fold_near {
  bool line;
  int64_t start, outer, inner;
  cuda_divisor by;

  __device__ fold_near(const cuda_walk<1> &reduced, int64_t start_)
      : line(reduced.ndim == 1), start(start_), outer(reduced.strides[0][0]),
        inner(reduced.strides[0][1]), by(reduced.divisors[1]) {}
  __device__ int64_t operator()(int64_t i) const {
    if (line) return start + i * outer;
    uint32_t row = cuda_divide((uint32_t)i, by);
    return start + row * outer + ((uint32_t)i - row * by.by) * inner;
  }
};

// Elements first, first + step, ... below last.
template <typename T, typename Op>
__device__ typename Op::total fold_elements(const fold_job &job, const Op &op, int64_t start,
                                            int64_t first, int64_t last, int64_t step,
                                            typename Op::total total) {
  if (!fold_is_near(job.reduced)) {
    for (int64_t i = first; i < last; i += step) {
      int64_t at[1];
      job.reduced.find(i, at);
      total = op.fold(total, cuda_any<T>::load(job.dtype, job.x, start + at[0]), i);
    }
    return total;
  }
  const fold_near near(job.reduced, start);
  for (int64_t i = first; i < last; i += CUDA_ITEMS * step) {
    T values[CUDA_ITEMS];
    cuda_load_steps(job.dtype, job.x, near, i, step, last, op.nothing(), values);
    CUDA_UNROLL
    for (int k = 0; k < CUDA_ITEMS; k++) total = op.fold(total, values[k], i + k * step);
  }
  return total;
}

// A chunk, item i: of a row into one total (V is 1), or of eight outputs into a total each.
template <typename T, typename S, int V, typename Op>
__device__ void fold_chunk(const Op &op, const cuda_pack<S> &pack, int64_t i,
                           typename Op::total (&totals)[V]) {
  CUDA_UNROLL
  for (int v = 0; v < CUDA_CHUNK; v++) {
    typename Op::total &total = totals[V == 1 ? 0 : v];
    total = op.fold(total, (T)cuda_load(pack.at[v]), V == 1 ? i * CUDA_CHUNK + v : i);
  }
}

// Chunks first, first + step, ... below last, two of them under way at once.
template <typename T, typename S, int V, typename Op>
__device__ void fold_chunks_as(const fold_job &job, const Op &op, int64_t start, int64_t first,
                               int64_t last, int64_t step, typename Op::total (&totals)[V]) {
  const int64_t each = V == 1 ? CUDA_CHUNK : 1;
  const cuda_pack<S> *x = (const cuda_pack<S> *)job.x;
  const fold_near near(job.reduced, start);
  int64_t i = first;
  CUDA_ROLLED
  for (; i + step < last; i += 2 * step) {
    cuda_pack<S> one = x[near(i * each) / CUDA_CHUNK];
    cuda_pack<S> two = x[near((i + step) * each) / CUDA_CHUNK];
    fold_chunk<T, S>(op, one, i, totals);
    fold_chunk<T, S>(op, two, i + step, totals);
  }
  if (i < last) fold_chunk<T, S>(op, x[near(i * each) / CUDA_CHUNK], i, totals);
}

template <typename T, int V, typename Op>
__device__ void fold_chunks(const fold_job &job, const Op &op, int64_t start, int64_t first,
                            int64_t last, int64_t step, typename Op::total (&totals)[V]) {
  if constexpr (std::is_same<T, double>::value) {
    fold_chunks_as<T, double>(job, op, start, first, last, step, totals);
  } else if constexpr (std::is_same<T, float>::value) {
    if (job.dtype == MOON_F32)
      fold_chunks_as<T, float>(job, op, start, first, last, step, totals);
    else if (job.dtype == MOON_F16)
      fold_chunks_as<T, half16>(job, op, start, first, last, step, totals);
    else fold_chunks_as<T, bfloat16>(job, op, start, first, last, step, totals);
  } else {
    if (job.dtype == MOON_I64)
      fold_chunks_as<T, int64_t>(job, op, start, first, last, step, totals);
    else if (job.dtype == MOON_I32)
      fold_chunks_as<T, int32_t>(job, op, start, first, last, step, totals);
    else fold_chunks_as<T, uint8_t>(job, op, start, first, last, step, totals);
  }
}

// -- rows

// Items first..last of the row at element `row` of x, as far as `lane` has a part in them.
template <typename T, typename Op>
__device__ typename Op::total fold_items(const fold_job &job, const Op &op, int64_t row, int lane,
                                         int64_t first, int64_t last) {
  typename Op::total totals[1] = { op.start() };
  if (job.chunked) {
    fold_chunks<T>(job, op, row, first + lane, last, job.width, totals);
    first = last == job.items ? job.items * CUDA_CHUNK : job.reduced.count;
    last = job.reduced.count;   // what is left over of the last chunk
  }
  return fold_elements<T>(job, op, row, first + lane, last, job.width, totals[0]);
}

// Groups of `width` threads take outputs times segments.
template <typename T, typename Op>
static __global__ void __launch_bounds__(CUDA_BLOCK, FOLD_RESIDENT)
fold_rows(fold_job job, Op op) {
  const int lane = (int)threadIdx.x % job.width, groups = CUDA_BLOCK / job.width;
  const int64_t count = job.kept.count * job.segments;
  for (int64_t first = (int64_t)blockIdx.x * groups; first < count;
       first += (int64_t)gridDim.x * groups) {
    int64_t item = first + threadIdx.x / job.width, at[3];
    int64_t output = item / job.segments, segment = item - output * job.segments;
    typename Op::total total = op.start();
    if (item < count) {
      int64_t start = segment * job.segment, end = start + job.segment;
      job.kept.find(output, at);
      total = fold_items<T>(job, op, at[0], lane, start, end < job.items ? end : job.items);
    }
    total = fold_join(op, total, job.width);
    if (lane == 0 && item < count) fold_write(job, op, segment, output, total);
  }
}

// -- columns

// A block takes a tile of `width` x V outputs and a segment of the rows.
template <typename T, int V, typename Op>
static __global__ void __launch_bounds__(CUDA_BLOCK, FOLD_RESIDENT)
fold_columns(fold_job job, Op op) {
  __shared__ typename Op::total all[V][CUDA_BLOCK];
  const int step = CUDA_BLOCK / job.width, thread = (int)threadIdx.x;
  const int64_t count = job.kept.count / job.across * job.tiles * job.segments;
  for (int64_t item = blockIdx.x; item < count; item += gridDim.x) {
    int64_t rest = item / job.tiles, segment = rest % job.segments, at[3];
    int64_t column = (item % job.tiles * job.width + thread % job.width) * V;
    int64_t output = rest / job.segments * job.across + column;
    int64_t start = segment * job.segment, end = start + job.segment;
    typename Op::total totals[V];
    for (int v = 0; v < V; v++) totals[v] = op.start();
    if (column < job.across) {
      job.kept.find(output, at);
      if (end > job.items) end = job.items;
      start += thread / job.width;
      if constexpr (V == 1)
        totals[0] = fold_elements<T>(job, op, at[0], start, end, step, totals[0]);
      else fold_chunks<T>(job, op, at[0], start, end, step, totals);
    }
    for (int v = 0; v < V; v++) all[v][thread] = totals[v];
    for (int rows = step / 2; rows > 0; rows /= 2) {
      __syncthreads();
      if (thread >= rows * job.width) continue;
      for (int v = 0; v < V; v++)
        all[v][thread] = op.join(all[v][thread], all[v][thread + rows * job.width]);
    }
    for (int v = 0; v < V && thread < job.width && column < job.across; v++)
      fold_write(job, op, segment, output + v, all[v][thread]);
    __syncthreads();
  }
}

// -- the plan, from shape and strides alone

static inline int fold_power_of_2(int64_t least, int most) {
  int power = 1;
  while (power < least && power < most) power *= 2;
  return power;
}

// Whether every stride but that of dimension `but` keeps elements on borders of chunks.
template <int N>
bool fold_strides_fit(const cuda_walk<N> *walk, int but) {
  for (int i = 0; i < walk->ndim; i++)
    if (i != but && walk->shape[i] > 1 && walk->strides[0][i] % CUDA_CHUNK != 0) return false;
  return true;
}

// Cuts the items of `blocks` blocks, so that there are enough of them.
static inline void fold_cut(fold_job *job, int64_t blocks, int64_t least, bool whole) {
  int64_t wanted = (FOLD_BLOCKS + blocks - 1) / blocks, most = job->items / least;
  if (wanted > most) wanted = most;
  if (wanted < 1 || whole) wanted = 1;
  job->segment = (job->items + wanted - 1) / wanted;
  job->segments = job->segment > 0 ? (job->items + job->segment - 1) / job->segment : 1;
}

static inline void fold_plan_rows(fold_job *job, bool whole) {
  const cuda_walk<1> *reduced = &job->reduced;
  int inner = reduced->ndim - 1;
  job->chunked = fold_is_near(*reduced) && reduced->strides[0][inner] == 1 &&
                 cuda_aligned(job->x) &&
                 fold_strides_fit(&job->kept, -1) && fold_strides_fit(reduced, inner) &&
                 (reduced->ndim == 1 || reduced->shape[inner] % CUDA_CHUNK == 0) &&
                 reduced->count >= CUDA_CHUNK;
  job->items = job->chunked ? reduced->count / CUDA_CHUNK : reduced->count;
  bool by_block = job->items > FOLD_LONG ||
                  (job->items > CUDA_BLOCK && job->kept.count < FOLD_BLOCKS);
  job->width = by_block ? (int)CUDA_BLOCK : fold_power_of_2(job->items, CUDA_WARP);
  int64_t groups = CUDA_BLOCK / job->width;
  int64_t each = job->chunked ? 1 : (int)CUDA_ITEMS;
  fold_cut(job, (job->kept.count + groups - 1) / groups, FOLD_LEAST * each * CUDA_BLOCK,
           whole || !by_block);
}

static inline void fold_plan_columns(fold_job *job, bool wide, bool whole) {
  const cuda_walk<3> *kept = &job->kept;
  int inner = kept->ndim - 1;
  job->across = kept->shape[inner];
  job->items = job->reduced.count;
  job->chunked = wide && fold_is_near(job->reduced) && kept->strides[0][inner] == 1 &&
                 cuda_aligned(job->x) &&
                 job->across % CUDA_CHUNK == 0 && fold_strides_fit(kept, inner) &&
                 fold_strides_fit(&job->reduced, -1);
  int64_t threads = job->chunked ? job->across / CUDA_CHUNK : job->across;
  int64_t together = job->chunked ? 1 : (int)CUDA_ITEMS;
  int rows = fold_power_of_2(job->items / together, CUDA_BLOCK / CUDA_WARP);
  job->width = fold_power_of_2(threads, CUDA_BLOCK / rows);
  // Narrower blocks rather than few of them, where there can be no segments.
  int64_t outer = kept->count / job->across;
  while (whole && job->width > 8 && threads / job->width * outer < FOLD_BLOCKS / 8) job->width /= 2;
  job->tiles = (threads + job->width - 1) / job->width;
  fold_cut(job, outer * job->tiles, FOLD_LEAST * together * (CUDA_BLOCK / job->width), whole);
}

// Opens a job whose x and kept dimensions are known; false: it goes by rows.
static inline bool fold_plan(fold_job *job, bool wide, bool whole) {
  const cuda_walk<3> *kept = &job->kept;
  const cuda_walk<1> *reduced = &job->reduced;
  int64_t kept_stride = cuda_magnitude(kept->strides[0][kept->ndim - 1]);
  int64_t reduced_stride = cuda_magnitude(reduced->strides[0][reduced->ndim - 1]);
  bool columns = kept->count > 1 && (reduced->count == 1 || kept_stride < reduced_stride);
  if (columns) fold_plan_columns(job, wide, whole);
  else fold_plan_rows(job, whole);
  return columns;
}

// Puts a planned job on the stream.
template <typename T, typename Op>
moon_status fold_launch(cuda_context *c, const fold_job &job, bool columns, const Op &op) {
  if (!columns) {
    int64_t count = job.kept.count * job.segments;
    return cuda_launch(c, cuda_blocks(count, CUDA_BLOCK / job.width), CUDA_BLOCK,
                       fold_rows<T, Op>, job, op);
  }
  int64_t count = job.kept.count / job.across * job.tiles * job.segments;
  if constexpr (Op::wide) {
    if (job.chunked)
      return cuda_launch(c, cuda_blocks(count, 1), CUDA_BLOCK, fold_columns<T, CUDA_CHUNK, Op>,
                         job, op);
  }
  return cuda_launch(c, cuda_blocks(count, 1), CUDA_BLOCK, fold_columns<T, 1, Op>, job, op);
}

// The job that reduces the totals of another's segments.
static inline fold_job fold_totals(const fold_job &job, const void *totals, moon_dtype dtype) {
  fold_job next = job;
  int64_t stride = 1;
  next.x = totals;
  next.dtype = dtype;
  for (int i = job.kept.ndim - 1; i >= 0; i--) {
    next.kept.strides[0][i] = stride;
    stride *= job.kept.shape[i];
  }
  next.reduced.ndim = 1;
  next.reduced.count = next.reduced.shape[0] = job.segments;
  next.reduced.strides[0][0] = job.kept.count;
  return next;
}

// Reduces: the job's walks, x and results are set, and no output is of nothing.
template <typename T, typename Op>
moon_status fold_run(cuda_context *c, fold_job job, const Op &op) {
  bool columns = fold_plan(&job, Op::wide, false);
  if (job.segments == 1) return fold_launch<T>(c, job, columns, op);
  cuda_scratch totals(c), places(c);
  int64_t count = job.kept.count * job.segments;
  MOON_TRY(totals.take((size_t)count * dtype_size(Op::segment_dtype)));
  if (job.places) MOON_TRY(places.take((size_t)count * sizeof(int64_t)));
  fold_job first = job;
  first.dense = true;
  first.out = totals.as<void>();
  first.out_dtype = Op::segment_dtype;
  first.places = places.as<int64_t>();
  MOON_TRY(fold_launch<T>(c, first, columns, op.of_segment()));
  fold_job last = fold_totals(job, totals.as<void>(), Op::segment_dtype);
  columns = fold_plan(&last, false, true);
  return fold_launch<typename Op::segment_type>(c, last, columns,
                                                op.of_totals(places.as<int64_t>()));
}

#endif
