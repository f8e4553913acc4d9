// What a convolution is for cuDNN: sizes and options, and dense arrays of one type. A plan,
// which is descriptors and an algorithm, is kept for each (cudnn_plan.cu).
#ifndef MOON_KERNELS_CUDNN_PLAN_CUH
#define MOON_KERNELS_CUDNN_PLAN_CUH

#include "libraries.cuh"

// Compared byte by byte: no padding may be left unset.
struct dnn_key {
  int32_t direction, dtype, tf32, precise, benchmark;
  int32_t image[4], weight[4], result[4];
  int32_t padding[2], stride[2], dilation[2], groups;
  int64_t workspace;
};

struct dnn_arrays { void *image, *weight, *result; };

// Arrays are channels last, but for those of double, which are row-major.
static inline bool cudnn_channels_last(int32_t dtype) { return dtype != MOON_F64; }

// All directions' algorithms have numbers below this.
enum { DNN_ALGORITHMS = 8 };

int64_t cudnn_version(void);

// The algorithm that was the fastest for a key, -1 where none is known (cudnn_choices.cu); what is
// found out goes to the context's file, if it has one.
int cudnn_choice(const cuda_context *c, const dnn_key &key);
moon_status cudnn_keep_choice(cuda_context *c, const dnn_key &key, int algorithm);
void cudnn_choices_end(cuda_context *c);

// Whether the library can be used in this context.
bool cudnn_ready(cuda_context *c);

// Convolves, where the library has an algorithm that fits.
moon_status cudnn_run(cuda_context *c, const dnn_key &key, const dnn_arrays &arrays, bool *done);

#endif
