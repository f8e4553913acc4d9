// Lines: arrays seen along one dimension, with a team of threads on each line. Where the line's
// elements lie side by side, neighbouring threads are on neighbouring elements, in chunks of 8 if
// every operand allows it; where other dimensions lie inside, neighbouring threads are on
// neighbouring lines ("across"), and the team stands one behind the other. Either way a warp reads
// whole lines of memory.
#ifndef MOON_KERNELS_LINES_CUH
#define MOON_KERNELS_LINES_CUH

#include "elementwise.cuh"

enum {
  CUDA_MOST_THREADS = 512,    // of a block, so that each may have 128 registers
  CUDA_LANE_ITEMS = 8,        // pieces of a line for a thread, above which it gets a larger team
  CUDA_LEAST_ACROSS = 8,      // neighbouring lines, which make a sector of memory
  CUDA_PROCESSORS = 132,      // of a large GPU
  CUDA_ALL_THREADS = CUDA_PROCESSORS * 2048,   // that it runs at once
};

template <int N>
struct cuda_lines {
  cuda_walk<N> walk;     // over the lines, in the order of operand 0
  int64_t size, step[N]; // elements of a line, and how far apart they lie in each operand
  bool across, wide;     // wide: the operands go in chunks
  int lanes, teams;      // threads of a team, and teams of a block; powers of 2

  dim3 block() const { return across ? dim3(teams, lanes) : dim3(lanes, teams); }
  unsigned grid() const { return cuda_blocks(walk.count, teams); }
};

// Lanes and teams: as many lanes as have something to do, as long as all threads do not fill the
// GPU anyway; and blocks small enough to be one for each processor, where there is enough for that.
template <int N>
void cuda_lines_share(cuda_lines<N> *lines) {
  const int64_t count = lines->walk.count;
  const int64_t items = lines->wide ? lines->size / CUDA_CHUNK : lines->size;
  const int least = lines->across ? CUDA_LEAST_ACROSS : 1;
  int lanes = 1, teams;
  while (lanes < CUDA_WARP && lanes < items &&
         !(lines->across && count * lanes >= CUDA_ALL_THREADS))
    lanes *= 2;
  if (!lines->across && items > CUDA_WARP * CUDA_LANE_ITEMS) lanes = CUDA_BLOCK;
  if (!lines->across && items > CUDA_BLOCK * CUDA_LANE_ITEMS) lanes = CUDA_MOST_THREADS;
  teams = lanes < CUDA_BLOCK ? CUDA_BLOCK / lanes : 1;
  while (teams > least && teams * lanes > CUDA_WARP && count < teams * CUDA_PROCESSORS) teams /= 2;
  lines->lanes = lanes;
  lines->teams = teams;
}

// Opens lines along `dim` of arrays of one shape. The first `along` operands are read or written
// along the lines, the others once a line.
template <int N>
void cuda_lines_open(cuda_lines<N> *lines, const device_array *const (&arrays)[N], int dim,
                     int along) {
  cuda_walk_open(&lines->walk, arrays, true, 1u << dim);
  const cuda_walk<N> &walk = lines->walk;
  lines->size = arrays[0]->shape[dim];
  lines->wide = lines->size % CUDA_CHUNK == 0;
  for (int k = 0; k < N; k++) lines->step[k] = arrays[k]->strides[dim];
  for (int k = 0; k < along; k++) {
    lines->wide = lines->wide && lines->step[k] == 1 && cuda_aligned(arrays[k]->data);
    for (int i = 0; i < walk.ndim && lines->wide && walk.count > 1; i++)
      lines->wide = walk.strides[k][i] % CUDA_CHUNK == 0;
  }
  int64_t inner = walk.count > 1 ? cuda_magnitude(walk.strides[0][walk.ndim - 1]) : INT64_MAX;
  lines->across = inner < cuda_magnitude(lines->step[0]);
  cuda_lines_share(lines);
}

// -- on the device

struct cuda_sum {
  template <typename T> __device__ T operator()(T a, T b) const { return a + b; }
};
// A NaN is passed over, unless it comes first.
struct cuda_larger {
  template <typename T> __device__ T operator()(T a, T b) const { return b > a ? b : a; }
};

// The calling thread's team and its place there.
struct cuda_team {
  bool across;
  int lane, lanes, number, teams;   // number: of the team, among the block's

  explicit __device__ cuda_team(bool across_)
      : across(across_), lane(across ? threadIdx.y : threadIdx.x),
        lanes(across ? blockDim.y : blockDim.x), number(across ? threadIdx.x : threadIdx.y),
        teams(across ? blockDim.x : blockDim.y) {}

  // The values of all lanes joined, in an order that their number gives; every thread of the block
  // must call it. `both` must not mind the order of its two values.
  template <typename T, typename Join>
  __device__ T join(T value, Join both) const {
    __shared__ T values[CUDA_MOST_THREADS];
    if (across) return join_across(value, both, values);
    for (int bits = (lanes < CUDA_WARP ? lanes : CUDA_WARP) / 2; bits > 0; bits /= 2)
      value = both(value, __shfl_xor_sync(0xffffffffu, value, bits));
    if (lanes <= CUDA_WARP) return value;
    int warps = lanes / CUDA_WARP;
    if (lane % CUDA_WARP == 0) values[lane / CUDA_WARP] = value;
    __syncthreads();
    value = values[lane % warps];
    __syncthreads();
    for (int bits = warps / 2; bits > 0; bits /= 2)
      value = both(value, __shfl_xor_sync(0xffffffffu, value, bits));
    return value;
  }

 private:
  template <typename T, typename Join>
  __device__ T join_across(T value, Join both, T *values) const {
    T *own = values + lane * teams + number;
    if (lanes == 1) return value;
    *own = value;
    __syncthreads();
    for (int half = lanes / 2; half > 0; half /= 2) {
      if (lane < half) *own = both(*own, own[half * teams]);
      __syncthreads();
    }
    value = values[number];
    __syncthreads();
    return value;
  }
};

// for (the line that the thread's team is on, in turn); `size` is how long it is, 0 for a team
// without a line, which goes along so that joins have all their threads.
template <int N>
struct cuda_line {
  int64_t number, size, at[N];

  __device__ cuda_line(const cuda_lines<N> &lines, const cuda_team &team)
      : number((int64_t)blockIdx.x * team.teams + team.number) {
    open(lines);
  }
  __device__ bool within(const cuda_lines<N> &lines, const cuda_team &team) const {
    return number - team.number < lines.walk.count;   // the same for the whole block
  }
  __device__ void next(const cuda_lines<N> &lines, const cuda_team &team) {
    number += (int64_t)gridDim.x * team.teams;
    open(lines);
  }
  // Where element i lies in operand k.
  __device__ int64_t find(const cuda_lines<N> &lines, int k, int64_t i) const {
    return at[k] + i * lines.step[k];
  }

 private:
  __device__ void open(const cuda_lines<N> &lines) {
    size = number < lines.walk.count ? lines.size : 0;
    lines.walk.find(size > 0 ? number : 0, at);
  }
};

// Calls fn(width) with the lines' width as a constant, std::integral_constant.
template <int N, typename Fn>
moon_status cuda_with_width(const cuda_lines<N> &lines, Fn fn) {
  if (lines.wide) return fn(std::integral_constant<int, CUDA_CHUNK>());
  return fn(std::integral_constant<int, 1>());
}

#endif
