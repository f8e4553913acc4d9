// What every kernel file shares: the check round runtime calls, launch geometry, the grid-stride
// loop, and the C headers of base as C++ sees them.
//
// A launcher is a plain C function of the plug-in's border: it returns a moon_status, puts its work
// on the given stream and does not wait for it.
#ifndef MOON_KERNELS_COMMON_CUH
#define MOON_KERNELS_COMMON_CUH

#include <stdint.h>

#include <cuda_runtime.h>

extern "C" {
#include "base/dtype.h"
#include "base/status.h"
}

// What the plug-in shows to the outside.
#define MOON_CUDA_API extern "C" __attribute__((visibility("default")))

// Returns from the calling function with the call's text and CUDA's words when it fails.
#define MOON_CUDA(call)                                                                    \
  do {                                                                                     \
    cudaError_t moon_cuda_error_ = (call);                                                 \
    if (moon_cuda_error_ != cudaSuccess) {                                                 \
      return moon_fail(MOON_BAD_DEVICE, "%s: %s", #call, cudaGetErrorString(moon_cuda_error_)); \
    }                                                                                      \
  } while (0)

enum { CUDA_BLOCK = 256, CUDA_MOST_BLOCKS = 4096 };   // threads a block; grid-stride above that

// Blocks for `count` items; at least one, so that an empty launch is legal.
static inline unsigned cuda_blocks(int64_t count) {
  const int64_t most = CUDA_MOST_BLOCKS, blocks = (count + CUDA_BLOCK - 1) / CUDA_BLOCK;
  return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// for (int64_t i = ...) over [0, count), any grid.
#define CUDA_EACH(i, count)                                                        \
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count);    \
       i += (int64_t)gridDim.x * blockDim.x)

#endif
