// The buffers that copies to the device go through; see transfer.cu.
#ifndef MOON_KERNELS_TRANSFER_CUH
#define MOON_KERNELS_TRANSFER_CUH

#include "context.cuh"

// Gives them back; nothing may be on its way.
void cuda_stages_end(cuda_context *c);

#endif
