// Slots whose kernels are still to be written: each fails with a sentence. A kernel of that name
// anywhere in kernels/ takes its place.
#include "context.cuh"

#pragma GCC diagnostic ignored "-Wunused-parameter"
#define moon_engine cuda_context
#define KERNEL(name, arguments)                                                             \
  __attribute__((weak)) moon_status cuda_##name arguments {                                 \
    return moon_fail(MOON_UNSUPPORTED, "the kernel \"%s\" does not exist for CUDA yet; move the " \
                     "tensors to the CPU for this call", #name);                            \
  }
#include "device/kernels.def"
#undef KERNEL
#undef moon_engine
