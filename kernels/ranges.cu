// Ranges of NVIDIA's profilers (NVTX): they cost a test where no profiler is attached.
#include "context.cuh"

#include <nvtx3/nvToolsExt.h>

void cuda_range(const char *name) {
  if (name) (void)nvtxRangePushA(name);
  else (void)nvtxRangePop();
}
