// Searching in sorted lines and counting: what else there is of order.
#include "elementwise.cuh"

// -- binary search: a thread a value; the first steps of all searches meet in the cache

struct searching {
  const void *sorted, *values;
  int64_t *out;
  moon_dtype dtype;
  int64_t lines, length, rows, columns;
  int64_t sorted_strides[2], value_strides[2], out_strides[2];
};

// Whether `at` comes before the place of `value`. NaN counts as largest.
template <typename T>
static __device__ bool before(T at, T value, bool right) {
  if (at != at) return right && value != value;
  return value != value || (right ? at <= value : at < value);
}

template <typename T>
static __global__ void search_lines(searching s, bool right) {
  CUDA_EACH(i, s.rows * s.columns) {
    int64_t row = i / s.columns, column = i - row * s.columns, low = 0, high = s.length;
    int64_t line = s.lines == 1 ? 0 : row * s.sorted_strides[0];
    T value = cuda_any<T>::load(s.dtype, s.values,
                                row * s.value_strides[0] + column * s.value_strides[1]);
    while (low < high) {
      int64_t middle = low + (high - low) / 2;
      T at = cuda_any<T>::load(s.dtype, s.sorted, line + middle * s.sorted_strides[1]);
      if (before(at, value, right)) low = middle + 1;
      else high = middle;
    }
    s.out[row * s.out_strides[0] + column * s.out_strides[1]] = low;
  }
}

moon_status cuda_searchsorted(cuda_context *c, bool right, const device_array *sorted,
                              const device_array *values, const device_array *out) {
  searching s;
  s.sorted = sorted->data;
  s.values = values->data;
  s.out = (int64_t *)out->data;
  s.dtype = sorted->dtype;
  s.lines = sorted->shape[0];
  s.length = sorted->shape[1];
  s.rows = values->shape[0];
  s.columns = values->shape[1];
  for (int k = 0; k < 2; k++) {
    s.sorted_strides[k] = sorted->strides[k];
    s.value_strides[k] = values->strides[k];
    s.out_strides[k] = out->strides[k];
  }
  if (s.rows * s.columns == 0) return MOON_OK;
  return cuda_with_compute(s.dtype, [&](auto type) {
    return cuda_launch(c, cuda_blocks(s.rows * s.columns), CUDA_BLOCK,
                       search_lines<decltype(type)>, s, right);
  });
}

// -- counting: integers add up to the same in any order, so that atomic additions do. Few bins are
//    counted in shared memory first, where blocks do not meet.

enum { FEW_BINS = 2048 };

static __device__ void count_one(int64_t *counts, int64_t at, unsigned long long many) {
  atomicAdd((unsigned long long *)counts + at, many);
}

static __global__ void count_few(int64_t count, const int64_t *x, int64_t stride, int bins,
                                 int64_t *counts, int64_t out_stride) {
  __shared__ unsigned found[FEW_BINS];
  for (int b = (int)threadIdx.x; b < bins; b += CUDA_BLOCK) found[b] = 0;
  __syncthreads();
  CUDA_EACH(i, count) atomicAdd(&found[x[i * stride]], 1u);
  __syncthreads();
  for (int b = (int)threadIdx.x; b < bins; b += CUDA_BLOCK)
    if (found[b] > 0) count_one(counts, b * out_stride, found[b]);
}

static __global__ void count_many(int64_t count, const int64_t *x, int64_t stride,
                                  int64_t *counts, int64_t out_stride) {
  CUDA_EACH(i, count) count_one(counts, x[i * stride] * out_stride, 1);
}

moon_status cuda_bincount(cuda_context *c, const device_array *x, const device_array *out) {
  int64_t count = x->shape[0], bins = out->shape[0];
  const int64_t *values = (const int64_t *)x->data;
  int64_t *counts = (int64_t *)out->data;
  MOON_TRY(cuda_fill_int(c, 0, out));
  if (count == 0) return MOON_OK;
  if (bins > FEW_BINS)
    return cuda_launch(c, cuda_blocks(count), CUDA_BLOCK, count_many, count, values, x->strides[0],
                       counts, out->strides[0]);
  return cuda_launch(c, cuda_blocks(count, (int64_t)8 * CUDA_BLOCK), CUDA_BLOCK, count_few, count,
                     values, x->strides[0], (int)bins, counts, out->strides[0]);
}
