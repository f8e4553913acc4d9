// The elementwise driver: out[i] = f(x0[i], x1[i], ...) for a function object f that takes an array
// of N values of the compute type T.
//
// Dense arrays go in chunks of 8 elements, 16 bytes at a time, each input read once and the output
// written once: such kernels are bound by memory. With strides or broadcasting each element is
// found by itself. The types as elements lie in memory are looked up while the kernel runs (the
// same for all threads), which keeps the number of kernels down to one a formula and compute type.
#ifndef MOON_KERNELS_ELEMENTWISE_CUH
#define MOON_KERNELS_ELEMENTWISE_CUH

#include "walk.cuh"

enum { CUDA_CHUNK = 8, CUDA_VECTOR_BYTES = 16 };

// -- chunks: 8 elements that lie side by side

constexpr size_t cuda_pack_alignment(size_t bytes) {
  return bytes < CUDA_VECTOR_BYTES ? bytes : (size_t)CUDA_VECTOR_BYTES;
}
template <typename S>
struct alignas(cuda_pack_alignment(sizeof(S) * CUDA_CHUNK)) cuda_pack { S at[CUDA_CHUNK]; };

template <typename T, typename S>
__device__ void cuda_load_pack(const void *data, int64_t chunk, T *values) {
  cuda_pack<S> pack = ((const cuda_pack<S> *)data)[chunk];
  for (int v = 0; v < CUDA_CHUNK; v++) values[v] = (T)cuda_load(pack.at[v]);
}
template <typename T, typename S>
__device__ void cuda_store_pack(void *data, int64_t chunk, const T *values) {
  cuda_pack<S> pack;
  for (int v = 0; v < CUDA_CHUNK; v++) cuda_store(&pack.at[v], values[v]);
  ((cuda_pack<S> *)data)[chunk] = pack;
}

// For dtypes that are calculated in T; booleans are stored as bytes of 0 and 1.
template <typename T>
__device__ void cuda_load_chunk(moon_dtype dtype, const void *data, int64_t chunk, T *values) {
  if constexpr (std::is_same<T, double>::value) {
    cuda_load_pack<T, double>(data, chunk, values);
  } else if constexpr (std::is_same<T, float>::value) {
    if (dtype == MOON_F32) cuda_load_pack<T, float>(data, chunk, values);
    else if (dtype == MOON_F16) cuda_load_pack<T, half16>(data, chunk, values);
    else cuda_load_pack<T, bfloat16>(data, chunk, values);
  } else {
    if (dtype == MOON_I64) cuda_load_pack<T, int64_t>(data, chunk, values);
    else if (dtype == MOON_I32) cuda_load_pack<T, int32_t>(data, chunk, values);
    else cuda_load_pack<T, uint8_t>(data, chunk, values);
  }
}
template <typename T>
__device__ void cuda_store_chunk(moon_dtype dtype, void *data, int64_t chunk, const T *values) {
  if constexpr (std::is_same<T, bool>::value) {
    cuda_store_pack<T, uint8_t>(data, chunk, values);
  } else if constexpr (std::is_same<T, double>::value) {
    cuda_store_pack<T, double>(data, chunk, values);
  } else if constexpr (std::is_same<T, float>::value) {
    if (dtype == MOON_F32) cuda_store_pack<T, float>(data, chunk, values);
    else if (dtype == MOON_F16) cuda_store_pack<T, half16>(data, chunk, values);
    else cuda_store_pack<T, bfloat16>(data, chunk, values);
  } else {
    if (dtype == MOON_I64) cuda_store_pack<T, int64_t>(data, chunk, values);
    else if (dtype == MOON_I32) cuda_store_pack<T, int32_t>(data, chunk, values);
    else cuda_store_pack<T, uint8_t>(data, chunk, values);
  }
}

// WIDTH elements from `offset` on: a chunk that begins at a multiple of 8, or one element anywhere.
template <typename T, int WIDTH>
__device__ void cuda_load_wide(moon_dtype dtype, const void *data, int64_t offset, T *values) {
  if constexpr (WIDTH == 1) values[0] = cuda_any<T>::load(dtype, data, offset);
  else cuda_load_chunk<T>(dtype, data, offset / WIDTH, values);
}
template <typename T, int WIDTH>
__device__ void cuda_store_wide(moon_dtype dtype, void *data, int64_t offset, const T *values) {
  if constexpr (WIDTH == 1) cuda_any<T>::store(dtype, data, offset, values[0]);
  else cuda_store_chunk<T>(dtype, data, offset / WIDTH, values);
}

// The same for a type that is known when the kernel is compiled: no branch keeps the loads of
// several arrays apart, so that a thread has them on their way together.
template <typename S, int WIDTH>
__device__ void cuda_load_wide(const void *data, int64_t offset, cuda_compute<S> *values) {
  if constexpr (WIDTH == 1) values[0] = cuda_load(((const S *)data)[offset]);
  else cuda_load_pack<cuda_compute<S>, S>(data, offset / WIDTH, values);
}
template <typename S, int WIDTH>
__device__ void cuda_store_wide(void *data, int64_t offset, const cuda_compute<S> *values) {
  if constexpr (WIDTH == 1) cuda_store((S *)data + offset, values[0]);
  else cuda_store_pack<cuda_compute<S>, S>(data, offset / WIDTH, values);
}

static inline bool cuda_aligned(const void *data) {
  return (uintptr_t)data % CUDA_VECTOR_BYTES == 0;
}

// Whether operand k of a walk, which begins at `data`, can be gone through in chunks.
template <int N>
bool cuda_goes_wide(const cuda_walk<N> &walk, int k, const void *data) {
  int last = walk.ndim - 1;
  bool wide = cuda_aligned(data) && walk.shape[last] % CUDA_CHUNK == 0 &&
              walk.strides[k][last] == 1;
  for (int i = 0; i < last && wide; i++) wide = walk.strides[k][i] % CUDA_CHUNK == 0;
  return wide;
}

// -- the kernel

template <int N>
struct cuda_operands {
  cuda_walk<N + 1> walk;           // operand 0 is the result
  int64_t chunks;                  // of 8 elements, to be done as such; 0 unless all are dense
  void *out;
  const void *in[N];
  moon_dtype out_dtype, dtypes[N];
};

// f gives T, or bool, which goes to bytes.
template <typename T, int N, typename F>
static __global__ void elementwise(cuda_operands<N> o, F f) {
  typedef decltype(f(*(const T(*)[N]) nullptr)) result;
  CUDA_EACH(i, o.chunks) {
    T loaded[N][CUDA_CHUNK];
    result results[CUDA_CHUNK];
    for (int k = 0; k < N; k++) cuda_load_chunk<T>(o.dtypes[k], o.in[k], i, loaded[k]);
    for (int v = 0; v < CUDA_CHUNK; v++) {
      T values[N];
      for (int k = 0; k < N; k++) values[k] = loaded[k][v];
      results[v] = f(values);
    }
    cuda_store_chunk<result>(o.out_dtype, o.out, i, results);
  }
  int64_t done = o.chunks * CUDA_CHUNK;
  CUDA_EACH(rest, o.walk.count - done) {
    int64_t at[N + 1];
    T values[N];
    o.walk.find(done + rest, at);
    for (int k = 0; k < N; k++)
      values[k] = cuda_any<T>::load(o.dtypes[k], o.in[k], at[k + 1]);
    if constexpr (std::is_same<result, bool>::value) ((uint8_t *)o.out)[at[0]] = f(values);
    else cuda_any<T>::store(o.out_dtype, o.out, at[0], f(values));
  }
}

// The operands of arrays of one shape (strides of 0 broadcast).
template <int N>
cuda_operands<N> cuda_operands_of(const device_array *out, const device_array *const (&in)[N]) {
  cuda_operands<N> o;
  const device_array *all[N + 1];
  bool aligned = cuda_aligned(out->data);
  all[0] = out;
  for (int k = 0; k < N; k++) {
    all[k + 1] = in[k];
    o.in[k] = in[k]->data;
    o.dtypes[k] = in[k]->dtype;
    aligned = aligned && cuda_aligned(in[k]->data);
  }
  o.out = out->data;
  o.out_dtype = out->dtype;
  cuda_walk_open(&o.walk, all, true);
  o.chunks = aligned && o.walk.flat() ? o.walk.count / CUDA_CHUNK : 0;
  return o;
}

// Puts it on the stream. The inputs' dtypes are calculated in T, and so is the result's, unless f
// gives bool.
template <typename T, int N, typename F>
moon_status cuda_elementwise(cuda_context *c, const device_array *out,
                             const device_array *const (&in)[N], F f) {
  cuda_operands<N> o = cuda_operands_of(out, in);
  if (o.walk.count == 0) return MOON_OK;
  return cuda_launch(c, cuda_blocks(o.chunks > 0 ? o.chunks : o.walk.count), CUDA_BLOCK,
                     elementwise<T, N, F>, o, f);
}

#endif
