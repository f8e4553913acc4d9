// What a recurrent layer is for cuDNN, and the plan that is kept for each: descriptors, sizes of
// the memory it wants, and where each gate's weights lie in its packed space (cudnn_rnn_plan.cu).
#ifndef MOON_KERNELS_CUDNN_RNN_PLAN_CUH
#define MOON_KERNELS_CUDNN_RNN_PLAN_CUH

#include "cudnn_plan.cuh"

#define RNN_FUNCTIONS(F)                                                                     \
  F(cudnnGetErrorString) F(cudnnCreateTensorDescriptor) F(cudnnDestroyTensorDescriptor)      \
  F(cudnnSetTensorNdDescriptor) F(cudnnCreateDropoutDescriptor)                              \
  F(cudnnDestroyDropoutDescriptor) F(cudnnSetDropoutDescriptor) F(cudnnCreateRNNDescriptor)  \
  F(cudnnDestroyRNNDescriptor) F(cudnnSetRNNDescriptor_v8) F(cudnnCreateRNNDataDescriptor)   \
  F(cudnnDestroyRNNDataDescriptor) F(cudnnSetRNNDataDescriptor) F(cudnnGetRNNTempSpaceSizes) \
  F(cudnnGetRNNWeightSpaceSize) F(cudnnGetRNNWeightParams) F(cudnnRNNForward)                \
  F(cudnnRNNBackwardData_v8) F(cudnnRNNBackwardWeights_v8)

struct rnn_functions {
#define F(name) decltype(&::name) name;
  RNN_FUNCTIONS(F)
#undef F
};
extern rnn_functions rnn;   // looked up with the rest of cuDNN's

// Compared byte by byte: no padding may be left unset.
struct rnn_key {
  int32_t kind, dtype, directions, biased, uneven, training, tf32;
  int32_t steps, batch, inputs, hidden;
};

struct rnn_plan {
  bool used, fits;
  rnn_key key;
  cudnnDropoutDescriptor_t dropout;
  cudnnRNNDescriptor_t layer;
  cudnnRNNDataDescriptor_t x, y;       // of uneven sequences: set anew in each call
  cudnnTensorDescriptor_t state;
  size_t workspace, reserve, weights;  // bytes
  // from the beginning of the weights, in bytes: where a gate of w_ih, w_hh, b_ih or b_hh begins
  int64_t gates[2][CELL_PARAMETERS][CELL_MOST_GATES];
};

// NULL where the library has no plan for the layer.
moon_status cudnn_rnn_plan(cuda_context *c, const recurrent_options *options, rnn_plan **plan);
// Tells the plan how long the sequences are, from their last steps; NULL: all have every step.
moon_status cudnn_rnn_lengths(rnn_plan *plan, const int64_t *last, bool *agreed);

#endif
