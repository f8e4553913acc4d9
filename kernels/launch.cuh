// Launching kernels: geometry, loops over a grid, and the one way a kernel is put on a stream. The
// same sources compile without nvcc against spec/emulated/cuda_runtime.h, where a launch runs the
// kernel's threads on the CPU; so kernels use nothing that only the compiler knows.
#ifndef MOON_KERNELS_LAUNCH_CUH
#define MOON_KERNELS_LAUNCH_CUH

#include "context.cuh"

enum {
  CUDA_WARP = 32,
  CUDA_BLOCK = 256,          // threads of a block where nothing else decides
#if defined(__CUDACC__)
  CUDA_MOST_BLOCKS = 4096,   // grids stride above that
#else
  CUDA_MOST_BLOCKS = 3,      // few enough for what specs calculate to stride as well
#endif
};

// Blocks for `count` items, `each` of them a block; at least one, so that an empty grid is legal.
static inline unsigned cuda_blocks(int64_t count, int64_t each = CUDA_BLOCK) {
  const int64_t most = CUDA_MOST_BLOCKS, blocks = (count + each - 1) / each;
  return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// for (int64_t i = ...) over [0, count), any grid.
#define CUDA_EACH(i, count)                                                        \
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count);    \
       i += (int64_t)gridDim.x * blockDim.x)

// In front of a loop: unrolled in full, or left as one. A compiler for the CPU decides by itself.
#if defined(__CUDA_ARCH__)
#define CUDA_UNROLL _Pragma("unroll")
#define CUDA_ROLLED _Pragma("unroll 1")
#else
#define CUDA_UNROLL
#define CUDA_ROLLED
#endif

#if defined(__CUDACC__)
// Shared memory of a size that the launch decides.
#define CUDA_DYNAMIC_SHARED(type, name)                        \
  extern __shared__ __align__(16) unsigned char cuda_dynamic_shared_[]; \
  type *name = (type *)cuda_dynamic_shared_

template <typename... Parameters, typename... Arguments>
moon_status cuda_launch_shared(cuda_context *c, size_t shared, dim3 grid, dim3 block,
                               void (*kernel)(Parameters...), Arguments... arguments) {
  kernel<<<grid, block, shared, c->stream>>>(arguments...);
  CUDA_TRY(cudaGetLastError());
  return MOON_OK;
}
#else
#define CUDA_DYNAMIC_SHARED(type, name) type *name = (type *)emulated::dynamic_shared()

template <typename... Parameters, typename... Arguments>
moon_status cuda_launch_shared(cuda_context *c, size_t shared, dim3 grid, dim3 block,
                               void (*kernel)(Parameters...), Arguments... arguments) {
  CUDA_TRY(emulated::launch(c->stream, grid, block, shared, [=] { kernel(arguments...); }));
  return MOON_OK;
}
#endif

// Puts kernel(arguments...) on the context's stream.
template <typename... Parameters, typename... Arguments>
moon_status cuda_launch(cuda_context *c, dim3 grid, dim3 block, void (*kernel)(Parameters...),
                        Arguments... arguments) {
  return cuda_launch_shared(c, 0, grid, block, kernel, arguments...);
}

#endif
