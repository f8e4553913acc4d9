// What the parts of cuDNN's stand-in share: handles, tensors' descriptors, and the count of what
// was made and not destroyed. See stand_in.h.
#ifndef EMULATED_CUDNN_PARTS_H
#define EMULATED_CUDNN_PARTS_H

#include "stand_in.h"

#include <cudnn.h>

#include <atomic>

struct cudnnContext { cudaStream_t on; };

enum { DNN_MOST_DIMS = 5, DNN_BFLOAT_RNN = 91300 };   // the version since which there is that

struct cudnnTensorStruct {
  bool set;
  cudnnDataType_t type;
  int ndim, size[DNN_MOST_DIMS], stride[DNN_MOST_DIMS];
};

namespace stand_in {

extern std::atomic<int> handles, descriptors;   // of cudnn.cpp

template <typename T>
cudnnStatus_t create(T **made, const char *call) {
  if (faulty(call, "fails")) return CUDNN_STATUS_ALLOC_FAILED;
  *made = new T();
  descriptors++;
  return CUDNN_STATUS_SUCCESS;
}

template <typename T>
cudnnStatus_t destroy(T *descriptor, const char *call) {
  need(descriptor != nullptr, call, "no descriptor");
  delete descriptor;
  descriptors--;
  return CUDNN_STATUS_SUCCESS;
}

// cudnnCreateXDescriptor and cudnnDestroyXDescriptor.
#define DESCRIPTOR(name)                                                \
  STAND_IN cudnnStatus_t cudnnCreate##name(cudnn##name##_t *made) {     \
    return stand_in::create(made, "cudnnCreate" #name);                 \
  }                                                                     \
  STAND_IN cudnnStatus_t cudnnDestroy##name(cudnn##name##_t descriptor) { \
    return stand_in::destroy(descriptor, "cudnnDestroy" #name);         \
  }

static inline bool type_of(cudnnDataType_t given, moon_dtype *type) {
  switch (given) {
    case CUDNN_DATA_DOUBLE: *type = MOON_F64; return true;
    case CUDNN_DATA_FLOAT: *type = MOON_F32; return true;
    case CUDNN_DATA_HALF: *type = MOON_F16; return true;
    case CUDNN_DATA_BFLOAT16: *type = MOON_BF16; return true;
    default: return false;
  }
}

}  // namespace stand_in

#endif
