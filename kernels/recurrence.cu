// Linear recurrences along a dimension: out[i] = a[i] * out[i - 1] + b[i]. Each line is taken in
// order by one thread, since products of factors overflow where the recurrence does not, and a 0
// must forget what came before it. Many lines are bound by memory, one alone by the chain of its
// multiplications.
//
// Where lines lie across memory a thread reads its own, neighbours side by side. Else a warp brings
// stretches of up to 32 lines into shared memory, reading along them, and each lane takes one.
#include "block.cuh"
#include "elementwise.cuh"

enum {
  TILE = 1024,                        // elements of a warp's stretches
  TILE_ROOM = TILE + CUDA_WARP,       // a gap behind each line's, against bank conflicts
};

struct recurrence_job {
  cuda_walk<3> lines;                 // operand 0: b, 1: a, 2: out
  const void *a, *b;
  void *out;
  moon_dtype dtype;
  int64_t stride[3], length;          // along a line
  int width;                          // lines of a warp: a power of two
};

// Floats run on in double, integers without sign.
template <typename T> struct running { typedef double type; };
template <> struct running<int64_t> { typedef uint64_t type; };

template <typename T>
static __global__ void recur_columns(recurrence_job job) {
  typedef typename running<T>::type sum;
  CUDA_EACH(line, job.lines.count) {
    int64_t at[3];
    sum state = 0;
    job.lines.find(line, at);
    auto where_a = [&](int64_t i) { return at[1] + i * job.stride[1]; };
    auto where_b = [&](int64_t i) { return at[0] + i * job.stride[0]; };
    for (int64_t i = 0; i < job.length; i += CUDA_ITEMS) {
      T a[CUDA_ITEMS], b[CUDA_ITEMS];
      cuda_load_steps(job.dtype, job.a, where_a, i, 1, job.length, (T)0, a);
      cuda_load_steps(job.dtype, job.b, where_b, i, 1, job.length, (T)0, b);
      CUDA_UNROLL
      for (int k = 0; k < CUDA_ITEMS; k++) {
        if (i + k >= job.length) continue;
        state = (sum)a[k] * state + (sum)b[k];
        cuda_any<T>::store(job.dtype, job.out, at[2] + (i + k) * job.stride[2], (T)state);
      }
    }
  }
}

// A block is a warp.
template <typename T>
static __global__ void recur_rows(recurrence_job job) {
  typedef typename running<T>::type sum;
  __shared__ T a[TILE_ROOM], b[TILE_ROOM];
  const int lane = (int)threadIdx.x, width = job.width, columns = TILE / width;
  for (int64_t first = (int64_t)blockIdx.x * width; first < job.lines.count;
       first += (int64_t)gridDim.x * width) {
    sum state = 0;
    for (int64_t from = 0; from < job.length; from += columns) {
      int64_t rest = job.length - from;
      const int n = rest < columns ? (int)rest : columns;
      for (int l = 0; l < width && first + l < job.lines.count; l++) {
        int64_t at[3];
        job.lines.find(first + l, at);
        for (int i = lane; i < n; i += CUDA_WARP) {
          b[l * (columns + 1) + i] =
              cuda_any<T>::load(job.dtype, job.b, at[0] + (from + i) * job.stride[0]);
          a[l * (columns + 1) + i] =
              cuda_any<T>::load(job.dtype, job.a, at[1] + (from + i) * job.stride[1]);
        }
      }
      __syncthreads();
      for (int i = 0; i < n && lane < width; i++) {
        const int k = lane * (columns + 1) + i;
        state = (sum)a[k] * state + (sum)b[k];
        b[k] = (T)state;
      }
      __syncthreads();
      for (int l = 0; l < width && first + l < job.lines.count; l++) {
        int64_t at[3];
        job.lines.find(first + l, at);
        for (int i = lane; i < n; i += CUDA_WARP)
          cuda_any<T>::store(job.dtype, job.out, at[2] + (from + i) * job.stride[2],
                             b[l * (columns + 1) + i]);
      }
      __syncthreads();
    }
  }
}

// The array from its last element of `dim` to its first.
static device_array turned(const device_array *array, int dim) {
  device_array y = *array;
  y.data = (char *)y.data + (y.shape[dim] - 1) * y.strides[dim] * (int64_t)dtype_size(y.dtype);
  y.strides[dim] = -y.strides[dim];
  return y;
}

static bool by_columns(const recurrence_job &job) {
  int64_t inner = job.lines.strides[0][job.lines.ndim - 1];
  return job.lines.count > 1 && cuda_magnitude(inner) < cuda_magnitude(job.stride[0]);
}

moon_status cuda_recurrence(cuda_context *c, int dim, bool reverse, const device_array *a,
                            const device_array *b, const device_array *out) {
  recurrence_job job = {};
  if (array_count(out) == 0) return MOON_OK;
  device_array last[3] = { *b, *a, *out };
  for (int k = 0; k < 3 && reverse; k++) last[k] = turned(&last[k], dim);
  const device_array *arrays[] = { &last[0], &last[1], &last[2] };
  cuda_walk_open(&job.lines, arrays, true, 1u << dim);
  for (int k = 0; k < 3; k++) job.stride[k] = last[k].strides[dim];
  job.b = last[0].data;
  job.a = last[1].data;
  job.out = last[2].data;
  job.dtype = out->dtype;
  job.length = out->shape[dim];
  job.width = 1;
  while (job.width < CUDA_WARP && job.width * 2 <= job.lines.count) job.width *= 2;
  return cuda_with_compute(out->dtype, [&](auto type) {
    typedef decltype(type) T;
    if (by_columns(job))
      return cuda_launch(c, cuda_blocks(job.lines.count, 64), 64, recur_columns<T>, job);
    return cuda_launch(c, cuda_blocks(job.lines.count, job.width), CUDA_WARP, recur_rows<T>, job);
  });
}
