// Running sums and running extremes along a dimension. Lines are independent; within one, states
// are joined from left to right in a tree that follows from shape and strides alone.
//
//   rows      the dimension lies inside: 1 to 32 lanes or a whole block go along a line, a tile at
//             a time, 8 neighbouring elements a thread; tiles pass through shared memory, so that
//             memory is read and written in whole lines whatever the alignment
//   columns   other dimensions lie inside: a thread a line
// Where there are few lines they are cut into segments, in three passes: the total of each
// segment, those totals scanned along the line, and the segments again, each from what lies before.
// Bound by memory: one reading and one writing, with segments two readings.
#include "block.cuh"
#include "elementwise.cuh"

enum {
  SHORT_LINE = 512,           // elements up to which a warp takes a line
  ENOUGH_BLOCKS = 1024,       // rows: lines or segments that fill a GPU
  ENOUGH_THREADS = 1 << 17,   // columns
  SHORT_SEGMENT = 64,         // columns: elements of a segment, at least
};

struct scan_job {
  cuda_walk<3> lines;        // operand 0: x, 1 and 2: results
  const void *x;
  void *out;                 // NULL: only totals are wanted
  int64_t *places;           // more results, where a state has a place
  const int64_t *of_x;       // the places of x's elements; NULL: their numbers
  moon_dtype dtype, out_dtype;
  int64_t stride[3], length; // along a line
  int64_t segment, segments; // elements of one; how many to a line
  void *totals;              // (lines, segments), where there are several: written where out is
  int64_t *total_places;     // NULL, else scanned already
  int width;                 // rows: threads of a line
};

// -- states: what an element becomes, how two neighbours join, and what is written

// Sums of floats in double, of integers without sign.
template <typename T> struct running_sum {
  typedef T element;
  typedef typename std::conditional<std::is_same<T, int64_t>::value, uint64_t, double>::type state;
  typedef typename std::conditional<std::is_same<T, int64_t>::value, int64_t, double>::type total;
  static const bool has_places = false;
  typedef running_sum<total> of_totals;

  __device__ state start() const { return 0; }
  __device__ state of(T x, int64_t) const { return (state)x; }
  __device__ state join(state a, state b) const { return a + b; }
  __device__ T value(state s) const { return (T)s; }
  __device__ int64_t place(state) const { return 0; }
  __device__ void keep(const scan_job &job, int64_t at, state s) const {
    ((total *)job.totals)[at] = (total)s;
  }
  __device__ state kept(const scan_job &job, int64_t at) const {
    return (state)((const total *)job.totals)[at];
  }
};

// The last of equals; a NaN stays until the next one.
template <typename T> struct running_best {
  typedef T element, total;
  typedef cuda_placed<T> state;   // place below 0: nothing yet
  static const bool has_places = true;
  typedef running_best of_totals;
  bool smallest;

  __device__ state start() const { return { 0, -1 }; }
  __device__ state of(T x, int64_t place) const { return { x, place }; }
  __device__ state join(state a, state b) const {
    if (a.place < 0 || b.place < 0) return b.place < 0 ? a : b;
    bool better = smallest ? b.value <= a.value : b.value >= a.value;
    return b.value != b.value || (a.value == a.value && better) ? b : a;
  }
  __device__ T value(state s) const { return s.value; }
  __device__ int64_t place(state s) const { return s.place; }
  __device__ void keep(const scan_job &job, int64_t at, state s) const {
    ((T *)job.totals)[at] = s.value;
    job.total_places[at] = s.place;
  }
  __device__ state kept(const scan_job &job, int64_t at) const {
    return { ((const T *)job.totals)[at], job.total_places[at] };
  }
};

// What comes before a segment.
template <typename Op>
static __device__ typename Op::state before(const scan_job &job, const Op &op, int64_t line,
                                            int64_t segment) {
  if (!job.out || segment == 0) return op.start();
  return op.kept(job, line * job.segments + segment - 1);
}

static __device__ int64_t place_of(const scan_job &job, int64_t at, int64_t i) {
  return job.of_x ? job.of_x[at + i * job.stride[0]] : i;
}

// -- rows

// The states of `width` neighbouring threads: what lies before this one's, and all together.
template <typename Op>
static __device__ typename Op::state scan_threads(const Op &op, typename Op::state mine, int width,
                                                  typename Op::state *all) {
  __shared__ typename Op::state warps[CUDA_BLOCK / CUDA_WARP];
  const int lanes = width < CUDA_WARP ? width : (int)CUDA_WARP, lane = (int)threadIdx.x % lanes;
  for (int by = 1; by < lanes; by *= 2) {
    typename Op::state left = cuda_shuffle_up(mine, by, lanes);
    if (lane >= by) mine = op.join(left, mine);
  }
  typename Op::state left = cuda_shuffle_up(mine, 1, lanes);
  if (lane == 0) left = op.start();
  *all = cuda_shuffle(mine, lanes - 1, lanes);
  if (width <= CUDA_WARP) return left;
  const int warp = (int)threadIdx.x / CUDA_WARP;
  if (lane == 0) warps[warp] = *all;
  __syncthreads();
  typename Op::state earlier = op.start();
  *all = op.start();
  for (int k = 0; k < CUDA_BLOCK / CUDA_WARP; k++) {
    if (k == warp) earlier = *all;
    *all = op.join(*all, warps[k]);
  }
  return op.join(earlier, left);
}

// Groups of `width` threads take lines times segments.
template <typename Op>
static __global__ void scan_rows(scan_job job, Op op) {
  typedef typename Op::element T;
  typedef typename Op::state state;
  __shared__ T values[CUDA_TILE_ROOM];
  __shared__ int64_t places[Op::has_places ? (int)CUDA_TILE_ROOM : 1];
  const int width = job.width, lane = (int)threadIdx.x % width, group = (int)threadIdx.x / width;
  const int tile = width * CUDA_ITEMS, base = group * tile, groups = CUDA_BLOCK / width;
  const int64_t count = job.lines.count * job.segments;
  for (int64_t first = (int64_t)blockIdx.x * groups; first < count;
       first += (int64_t)gridDim.x * groups) {
    int64_t item = first + group, at[3];
    bool idle = item >= count;
    int64_t line = (idle ? 0 : item) / job.segments, segment = idle ? 0 : item % job.segments;
    int64_t start = segment * job.segment, end = idle ? start : start + job.segment;
    if (end > job.length) end = job.length;
    state carry = before(job, op, line, segment), all;
    job.lines.find(line, at);
    for (int64_t from = start; from < start + job.segment; from += tile) {
      T loaded[CUDA_ITEMS];
      auto where = [&](int64_t i) { return at[0] + i * job.stride[0]; };
      cuda_load_steps(job.dtype, job.x, where, from + lane, width, end, (T)0, loaded);
      CUDA_UNROLL
      for (int k = 0; k < CUDA_ITEMS; k++)
        values[cuda_tile_slot(base + lane + k * width)] = loaded[k];
      __syncthreads();
      state own[CUDA_ITEMS], mine = op.start();
      CUDA_UNROLL
      for (int k = 0; k < CUDA_ITEMS; k++) {
        int64_t i = from + lane * CUDA_ITEMS + k;
        if (i < end)
          mine = op.join(mine, op.of(values[cuda_tile_slot(base + lane * CUDA_ITEMS + k)],
                                     place_of(job, at[0], i)));
        own[k] = mine;
      }
      state left = op.join(carry, scan_threads(op, mine, width, &all));
      carry = op.join(carry, all);
      CUDA_UNROLL
      for (int k = 0; k < CUDA_ITEMS; k++) {
        state s = op.join(left, own[k]);
        values[cuda_tile_slot(base + lane * CUDA_ITEMS + k)] = op.value(s);
        if (Op::has_places) places[cuda_tile_slot(base + lane * CUDA_ITEMS + k)] = op.place(s);
      }
      __syncthreads();
      for (int i = lane; job.out && i < tile && from + i < end; i += width) {
        cuda_any<T>::store(job.out_dtype, job.out, at[1] + (from + i) * job.stride[1],
                           values[cuda_tile_slot(base + i)]);
        if (Op::has_places)
          job.places[at[2] + (from + i) * job.stride[2]] = places[cuda_tile_slot(base + i)];
      }
      __syncthreads();
    }
    if (!job.out && lane == 0 && !idle) op.keep(job, item, carry);
  }
}

// -- columns

template <typename Op>
static __global__ void scan_columns(scan_job job, Op op) {
  typedef typename Op::element T;
  CUDA_EACH(item, job.lines.count * job.segments) {
    int64_t segment = item / job.lines.count, line = item - segment * job.lines.count, at[3];
    int64_t start = segment * job.segment, end = start + job.segment;
    if (end > job.length) end = job.length;
    typename Op::state s = before(job, op, line, segment);
    job.lines.find(line, at);
    for (int64_t i = start; i < end; i += CUDA_ITEMS) {
      T values[CUDA_ITEMS];
      auto where = [&](int64_t k) { return at[0] + k * job.stride[0]; };
      cuda_load_steps(job.dtype, job.x, where, i, 1, end, (T)0, values);
      CUDA_UNROLL
      for (int k = 0; k < CUDA_ITEMS; k++) {
        if (i + k >= end) continue;
        s = op.join(s, op.of(values[k], place_of(job, at[0], i + k)));
        if (!job.out) continue;
        cuda_any<T>::store(job.out_dtype, job.out, at[1] + (i + k) * job.stride[1], op.value(s));
        if (Op::has_places) job.places[at[2] + (i + k) * job.stride[2]] = op.place(s);
      }
    }
    if (!job.out) op.keep(job, line * job.segments + segment, s);
  }
}

// -- the plan, and its passes

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static bool by_columns(const scan_job &job) {
  const cuda_walk<3> &lines = job.lines;
  return lines.count > 1 &&
         cuda_magnitude(lines.strides[0][lines.ndim - 1]) < cuda_magnitude(job.stride[0]);
}

// Cuts lines into segments of whole `pieces`, where there are fewer than `enough` of them.
static void cut(scan_job *job, int64_t enough, int64_t piece) {
  int64_t wanted = divide_up(enough, job->lines.count), most = divide_up(job->length, piece);
  if (wanted > most) wanted = most;
  job->segment = divide_up(divide_up(job->length, wanted), piece) * piece;
  job->segments = divide_up(job->length, job->segment);
}

static void plan(scan_job *job) {
  job->width = 1;
  while (job->width < CUDA_WARP && job->width * CUDA_ITEMS < job->length) job->width *= 2;
  if (job->length > SHORT_LINE) job->width = CUDA_BLOCK;
  job->segment = job->length;
  job->segments = 1;
  if (by_columns(*job)) cut(job, ENOUGH_THREADS, SHORT_SEGMENT);
  else if (job->width == CUDA_BLOCK) cut(job, ENOUGH_BLOCKS, CUDA_TILE);
}

template <typename Op>
static moon_status launch(cuda_context *c, const scan_job &job, const Op &op) {
  int64_t count = job.lines.count * job.segments;
  if (by_columns(job))
    return cuda_launch(c, cuda_blocks(count), CUDA_BLOCK, scan_columns<Op>, job, op);
  return cuda_launch(c, cuda_blocks(count, CUDA_BLOCK / job.width), CUDA_BLOCK, scan_rows<Op>,
                     job, op);
}

// The job that scans another's totals where they lie, a block a line.
static scan_job of_totals(const scan_job &job, moon_dtype dtype) {
  scan_job next = job;
  next.lines.ndim = 1;
  next.lines.shape[0] = job.lines.count;
  for (int k = 0; k < 3; k++) {
    next.lines.strides[k][0] = job.segments;
    next.stride[k] = 1;
  }
  next.x = next.out = job.totals;
  next.of_x = next.places = job.total_places;
  next.dtype = next.out_dtype = dtype;
  next.length = next.segment = job.segments;
  next.segments = 1;
  next.width = CUDA_BLOCK;
  return next;
}

// total: the dtype of Op::total.
template <typename Op>
static moon_status scan(cuda_context *c, scan_job job, moon_dtype total, const Op &op,
                        const typename Op::of_totals &op_of_totals) {
  cuda_scratch totals(c), places(c);
  plan(&job);
  if (job.segments == 1) return launch(c, job, op);
  size_t count = (size_t)(job.lines.count * job.segments);
  MOON_TRY(totals.take(count * sizeof(typename Op::total)));
  if (Op::has_places) MOON_TRY(places.take(count * sizeof(int64_t)));
  job.totals = totals.as<void>();
  job.total_places = places.as<int64_t>();
  scan_job first = job;
  first.out = NULL;
  MOON_TRY(launch(c, first, op));
  MOON_TRY(launch(c, of_totals(job, total), op_of_totals));
  return launch(c, job, op);
}

static scan_job open_job(int dim, const device_array *x, const device_array *out,
                         const device_array *places) {
  scan_job job = {};
  const device_array *arrays[] = { x, out, places ? places : out };
  cuda_walk_open(&job.lines, arrays, true, x->ndim > 0 ? 1u << dim : 0);
  for (int k = 0; k < 3; k++) job.stride[k] = x->ndim > 0 ? arrays[k]->strides[dim] : 1;
  job.length = x->ndim > 0 ? x->shape[dim] : 1;
  job.x = x->data;
  job.out = out->data;
  job.places = places ? (int64_t *)places->data : NULL;
  job.dtype = x->dtype;
  job.out_dtype = out->dtype;
  return job;
}

// -- the slots

moon_status cuda_cumsum(cuda_context *c, int dim, const device_array *x, const device_array *out) {
  if (array_count(x) == 0) return MOON_OK;
  scan_job job = open_job(dim, x, out, NULL);
  return cuda_with_compute(x->dtype, [&](auto type) {
    typedef running_sum<decltype(type)> sum;
    return scan(c, job, dtype_is_float(x->dtype) ? MOON_F64 : MOON_I64, sum(),
                typename sum::of_totals());
  });
}

moon_status cuda_running_extreme(cuda_context *c, bool smallest, int dim, const device_array *x,
                                 const device_array *values, const device_array *indices) {
  if (array_count(x) == 0) return MOON_OK;
  scan_job job = open_job(dim, x, values, indices);
  return cuda_with_compute(x->dtype, [&](auto type) {
    typedef running_best<decltype(type)> best;
    moon_dtype total = !dtype_is_float(x->dtype) ? MOON_I64
                       : x->dtype == MOON_F64    ? MOON_F64 : MOON_F32;
    return scan(c, job, total, best{ smallest }, best{ smallest });
  });
}
