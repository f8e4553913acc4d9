// What a convolution is for cuDNN: sizes and options, and dense arrays of one type. A plan,
// which is descriptors and an algorithm, is kept for each (cudnn_plan.cu).
#ifndef MOON_KERNELS_CUDNN_PLAN_CUH
#define MOON_KERNELS_CUDNN_PLAN_CUH

#include "libraries.cuh"

#include <cudnn.h>

enum { DNN_SIDES = 3, DNN_DIMS = 2 + DNN_SIDES };   // of volumes: depth, height, width

// Of images (2 sides; volumes have 3) the last place of each list is 0. Compared byte by byte: no
// padding may be left unset.
struct dnn_key {
  int32_t sides, direction, dtype, tf32, precise, benchmark, channels_last;
  int32_t image[DNN_DIMS], weight[DNN_DIMS], result[DNN_DIMS];
  int32_t padding[DNN_SIDES], stride[DNN_SIDES], dilation[DNN_SIDES], groups;
  int64_t workspace;
};

struct dnn_arrays { void *image, *weight, *result; };

// The strides of a key's dense arrays.
template <typename T>
void cudnn_strides(const dnn_key &key, const T *shape, T *strides) {
  T stride = key.channels_last ? shape[1] : 1;
  for (int i = 1 + key.sides; i >= 0; i--) {
    const bool channels = key.channels_last && i == 1;
    strides[i] = channels ? 1 : stride;
    if (!channels) stride *= shape[i];
  }
}

// All directions' algorithms have numbers below this.
enum { DNN_ALGORITHMS = 8 };

int64_t cudnn_version(void);

// The algorithm that was the fastest for a key, -1 where none is known (cudnn_choices.cu); what is
// found out goes to the context's file, if it has one.
int cudnn_choice(const cuda_context *c, const dnn_key &key);
moon_status cudnn_keep_choice(cuda_context *c, const dnn_key &key, int algorithm);
void cudnn_choices_end(cuda_context *c);

// Whether the library can be used in this context, and its handle there; NULL where it cannot.
bool cudnn_ready(cuda_context *c);
cudnnHandle_t cudnn_handle(cuda_context *c);

static inline cudnnDataType_t cudnn_type_of(int32_t dtype) {
  switch (dtype) {
    case MOON_F64: return CUDNN_DATA_DOUBLE;
    case MOON_F16: return CUDNN_DATA_HALF;
    case MOON_BF16: return CUDNN_DATA_BFLOAT16;
    default: return CUDNN_DATA_FLOAT;
  }
}

// Recurrent layers (cudnn_rnn_plan.cu): their functions, among those of the library, and the end of
// what is kept for a context.
void cudnn_rnn_look_up(cuda_opening *opening);
void cudnn_rnn_close(cuda_context *c);

// Whether it has an algorithm that fits.
moon_status cudnn_fits(cuda_context *c, const dnn_key &key, bool *fits);

// Convolves, where it has.
moon_status cudnn_run(cuda_context *c, const dnn_key &key, const dnn_arrays &arrays, bool *done);

#endif
