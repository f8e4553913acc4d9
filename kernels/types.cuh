// Element types in C++: how one lies in memory, what it is calculated in, and how a dtype that is
// known when the program runs becomes a type that is known when it is compiled.
#ifndef MOON_KERNELS_TYPES_CUH
#define MOON_KERNELS_TYPES_CUH

#include "launch.cuh"

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

// Half types as they lie in memory.
struct half16 { uint16_t bits; };
struct bfloat16 { uint16_t bits; };

// -- single elements to and from the type they are calculated in

template <typename S> struct cuda_element { typedef int64_t compute; };
template <> struct cuda_element<float> { typedef float compute; };
template <> struct cuda_element<double> { typedef double compute; };
template <> struct cuda_element<half16> { typedef float compute; };
template <> struct cuda_element<bfloat16> { typedef float compute; };
template <typename S> using cuda_compute = typename cuda_element<S>::compute;

template <typename S>
__host__ __device__ inline cuda_compute<S> cuda_load(S element) {
  return (cuda_compute<S>)element;
}
__host__ __device__ inline float cuda_load(half16 element) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(element.bits));
#else
  return half_to_float(element.bits);
#endif
}
__host__ __device__ inline float cuda_load(bfloat16 element) {
  return bfloat_to_float(element.bits);
}

// Rounds to nearest even into a half; an integer keeps its low bits.
template <typename S, typename T>
__host__ __device__ inline void cuda_store(S *to, T value) { *to = (S)value; }
__host__ __device__ inline void cuda_store(half16 *to, float value) {
#if defined(__CUDA_ARCH__)
  to->bits = __half_as_ushort(__float2half_rn(value));
#else
  to->bits = half_from_float(value);
#endif
}
__host__ __device__ inline void cuda_store(bfloat16 *to, float value) {
  to->bits = bfloat_from_float(value);
}

// The same where the dtype is known at run time only and T is what it is calculated in.
template <typename T> struct cuda_any;
template <> struct cuda_any<float> {
  static __host__ __device__ float load(moon_dtype dtype, const void *data, int64_t i) {
    if (dtype == MOON_F32) return ((const float *)data)[i];
    if (dtype == MOON_F16) return cuda_load(((const half16 *)data)[i]);
    return cuda_load(((const bfloat16 *)data)[i]);
  }
  static __host__ __device__ void store(moon_dtype dtype, void *data, int64_t i, float value) {
    if (dtype == MOON_F32) ((float *)data)[i] = value;
    else if (dtype == MOON_F16) cuda_store((half16 *)data + i, value);
    else cuda_store((bfloat16 *)data + i, value);
  }
};
template <> struct cuda_any<double> {
  static __host__ __device__ double load(moon_dtype, const void *data, int64_t i) {
    return ((const double *)data)[i];
  }
  static __host__ __device__ void store(moon_dtype, void *data, int64_t i, double value) {
    ((double *)data)[i] = value;
  }
};
template <> struct cuda_any<int64_t> {
  static __host__ __device__ int64_t load(moon_dtype dtype, const void *data, int64_t i) {
    if (dtype == MOON_I64) return ((const int64_t *)data)[i];
    if (dtype == MOON_I32) return ((const int32_t *)data)[i];
    return ((const uint8_t *)data)[i];
  }
  static __host__ __device__ void store(moon_dtype dtype, void *data, int64_t i, int64_t value) {
    if (dtype == MOON_I64) ((int64_t *)data)[i] = value;
    else if (dtype == MOON_I32) ((int32_t *)data)[i] = (int32_t)value;
    else ((uint8_t *)data)[i] = dtype == MOON_BOOL ? value != 0 : (uint8_t)value;
  }
};

// -- from a type of calculation to any dtype, rounding once; what is not 0 is true

__host__ __device__ inline float cuda_to_float(float x, bool) { return x; }
__host__ __device__ inline float cuda_to_float(double x, bool half) {
  return half ? dtype_odd_from_double(x) : (float)x;
}
__host__ __device__ inline float cuda_to_float(int64_t x, bool half) {
  return half ? dtype_odd_from_int(x) : (float)x;
}
__host__ __device__ inline int64_t cuda_to_int(double x) { return dtype_to_int(x); }
__host__ __device__ inline int64_t cuda_to_int(int64_t x) { return x; }

template <typename T>
__host__ __device__ void cuda_store_as(moon_dtype dtype, void *out, int64_t i, T x) {
  if (dtype == MOON_BOOL) ((uint8_t *)out)[i] = x != 0;
  else if (dtype == MOON_F64) ((double *)out)[i] = (double)x;
  else if (dtype_is_float(dtype))
    cuda_any<float>::store(dtype, out, i, cuda_to_float(x, dtype_is_half(dtype)));
  else cuda_any<int64_t>::store(dtype, out, i, cuda_to_int(x));
}

// Any float type by way of double, rounded once, for what is not worth a kernel of its type.
__host__ __device__ inline double cuda_get_double(moon_dtype dtype, const void *data, int64_t i) {
  if (dtype == MOON_F64) return ((const double *)data)[i];
  return (double)cuda_any<float>::load(dtype, data, i);
}
__host__ __device__ inline void cuda_put_double(moon_dtype dtype, void *data, int64_t i,
                                                double value) {
  if (dtype == MOON_F64) ((double *)data)[i] = value;
  else if (dtype == MOON_F32) ((float *)data)[i] = (float)value;
  else cuda_any<float>::store(dtype, data, i, dtype_odd_from_double(value));
}

// -- from a dtype to a type: calls fn(S()) with S as elements lie in memory

static inline moon_status cuda_no_type(moon_dtype dtype) {
  return moon_fail(MOON_BAD_DTYPE, "there is no CUDA kernel for %s", dtype_name(dtype));
}

template <typename Fn>
moon_status cuda_with_float(moon_dtype dtype, Fn fn) {
  switch (dtype) {
    case MOON_F32: return fn(float());
    case MOON_F64: return fn(double());
    case MOON_F16: return fn(half16());
    case MOON_BF16: return fn(bfloat16());
    default: return cuda_no_type(dtype);
  }
}

template <typename Fn>
moon_status cuda_with_any(moon_dtype dtype, Fn fn) {
  switch (dtype) {
    case MOON_I64: return fn(int64_t());
    case MOON_I32: return fn(int32_t());
    case MOON_U8:
    case MOON_BOOL: return fn(uint8_t());
    default: return cuda_with_float(dtype, fn);
  }
}

// Calls fn(T()) with T as the elements of a float type are calculated in.
template <typename Fn>
moon_status cuda_with_real(moon_dtype dtype, Fn fn) {
  if (!dtype_is_float(dtype)) return cuda_no_type(dtype);
  return dtype == MOON_F64 ? fn(double()) : fn(float());
}

// The same for all types.
template <typename Fn>
moon_status cuda_with_compute(moon_dtype dtype, Fn fn) {
  if (dtype == MOON_F64) return fn(double());
  return dtype_is_float(dtype) ? fn(float()) : fn(int64_t());
}

// Calls fn(word()) with the unsigned integer of `size` bytes.
template <typename Fn>
moon_status cuda_with_word(size_t size, Fn fn) {
  switch (size) {
    case 1: return fn(uint8_t());
    case 2: return fn(uint16_t());
    case 4: return fn(uint32_t());
    default: return fn(uint64_t());
  }
}

#endif
