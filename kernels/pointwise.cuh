// The border of the elementwise kernels. Arrays are contiguous, of `count` elements, on the current
// device; rows are numbered within their family, in the order of pointwise.def. float32 and
// float64 only; other types are refused. Nothing is waited for.
#ifndef MOON_KERNELS_POINTWISE_CUH
#define MOON_KERNELS_POINTWISE_CUH

#include "common.cuh"

// The family's rows, and their names for whoever looks one up.
enum cuda_family { CUDA_UNARY, CUDA_BINARY, CUDA_COMPARE, CUDA_PREDICATE };
MOON_CUDA_API int moon_cuda_rows(int family);
MOON_CUDA_API const char *moon_cuda_row_name(int family, int row);

// out = f(x); attributes: a, b
MOON_CUDA_API moon_status moon_cuda_unary(cudaStream_t stream, int row, moon_dtype dtype,
                                          const double *attributes, int64_t count, const void *x,
                                          void *out);
// dx = g * f'(x), y = f(x)
MOON_CUDA_API moon_status moon_cuda_unary_backward(cudaStream_t stream, int row, moon_dtype dtype,
                                                   const double *attributes, int64_t count,
                                                   const void *g, const void *x, const void *y,
                                                   void *dx);
// out = f(x, y)
MOON_CUDA_API moon_status moon_cuda_binary(cudaStream_t stream, int row, moon_dtype dtype,
                                           const double *attributes, int64_t count, const void *x,
                                           const void *y, void *out);
// side 0: the gradient of x, 1: of y; z = f(x, y)
MOON_CUDA_API moon_status moon_cuda_binary_backward(cudaStream_t stream, int row, int side,
                                                    moon_dtype dtype, const double *attributes,
                                                    int64_t count, const void *g, const void *x,
                                                    const void *y, const void *z, void *dx);
// out (bool) = f(x, y), or f(x) for a predicate
MOON_CUDA_API moon_status moon_cuda_compare(cudaStream_t stream, int row, moon_dtype dtype,
                                            int64_t count, const void *x, const void *y,
                                            uint8_t *out);
MOON_CUDA_API moon_status moon_cuda_predicate(cudaStream_t stream, int row, moon_dtype dtype,
                                              int64_t count, const void *x, uint8_t *out);

// The sentence of this thread's last failure in the plug-in.
MOON_CUDA_API const char *moon_cuda_error_text(void);

#endif
