// cuDNN's functions, and a plan for each shape that was met: its descriptors, and the algorithm
// that the library advises or, where the context wants a benchmark, the fastest of those it
// advises. Only algorithms that give the same bits every time are taken, and under `precise`
// none that transforms. These are cuDNN's legacy functions, deprecated in version 9, and all
// that a convolution without a graph of operators needs.
#include "cudnn_plan.cuh"

#include <stdlib.h>
#include <string.h>

#define CUDNN_FUNCTIONS(F)                                                              \
  F(cudnnGetVersion) F(cudnnGetErrorString) F(cudnnCreate) F(cudnnDestroy)              \
  F(cudnnSetStream)                                                                     \
  F(cudnnCreateTensorDescriptor) F(cudnnDestroyTensorDescriptor)                        \
  F(cudnnSetTensorNdDescriptor) F(cudnnCreateFilterDescriptor)                          \
  F(cudnnDestroyFilterDescriptor) F(cudnnSetFilterNdDescriptor)                         \
  F(cudnnCreateConvolutionDescriptor) F(cudnnDestroyConvolutionDescriptor)              \
  F(cudnnSetConvolutionNdDescriptor) F(cudnnSetConvolutionGroupCount)                   \
  F(cudnnSetConvolutionMathType) F(cudnnGetConvolutionForwardAlgorithm_v7)              \
  F(cudnnGetConvolutionBackwardDataAlgorithm_v7)                                        \
  F(cudnnGetConvolutionBackwardFilterAlgorithm_v7)                                      \
  F(cudnnGetConvolutionForwardWorkspaceSize)                                            \
  F(cudnnGetConvolutionBackwardDataWorkspaceSize)                                       \
  F(cudnnGetConvolutionBackwardFilterWorkspaceSize) F(cudnnConvolutionForward)          \
  F(cudnnConvolutionBackwardData) F(cudnnConvolutionBackwardFilter)

struct cudnn_functions {
#define F(name) decltype(&::name) name;
  CUDNN_FUNCTIONS(F)
#undef F
};

static cudnn_functions dnn;
static bool there;

bool cudnn_open(cuda_library_state *found) {
  cuda_opening opening = cuda_library_begin(found, "cudnn", CUDNN_MAJOR);
#define F(name) dnn.name = (decltype(dnn.name))cuda_library_function(&opening, #name);
  CUDNN_FUNCTIONS(F)
#undef F
  cudnn_rnn_look_up(&opening);
  size_t version = opening.failed ? 0 : dnn.cudnnGetVersion();
  there = cuda_library_end(&opening, (int64_t)version, (int)(version / 10000), CUDNN_MAJOR);
  return there;
}

bool cudnn_is_there(void) { return there; }
int64_t cudnn_version(void) { return (int64_t)dnn.cudnnGetVersion(); }

// -- plans

enum { PLANS = 1024 };

struct dnn_plan {
  bool used, fits;
  bool untimed;                // a benchmark that is wanted could not be made yet
  dnn_key key;
  cudnnTensorDescriptor_t image, result;
  cudnnFilterDescriptor_t weight;
  cudnnConvolutionDescriptor_t convolution;
  int algorithm;               // of the direction's enum
  size_t workspace;
};

struct cudnn_state {
  cudnnHandle_t handle;
  dnn_plan plans[PLANS];
};

static void plan_end(dnn_plan *plan) {
  if (plan->image) dnn.cudnnDestroyTensorDescriptor(plan->image);
  if (plan->result) dnn.cudnnDestroyTensorDescriptor(plan->result);
  if (plan->weight) dnn.cudnnDestroyFilterDescriptor(plan->weight);
  if (plan->convolution) dnn.cudnnDestroyConvolutionDescriptor(plan->convolution);
  *plan = dnn_plan();
}

void cudnn_close(cuda_context *c) {
  cudnn_choices_end(c);
  cudnn_rnn_close(c);
  if (!c->cudnn) return;
  for (int i = 0; i < PLANS; i++) plan_end(&c->cudnn->plans[i]);
  dnn.cudnnDestroy(c->cudnn->handle);
  free(c->cudnn);
  c->cudnn = nullptr;
}

bool cudnn_ready(cuda_context *c) {
  if (c->cudnn || !there) return c->cudnn != nullptr;
  cudnn_state *made = (cudnn_state *)calloc(1, sizeof *made);
  if (made && dnn.cudnnCreate(&made->handle) != CUDNN_STATUS_SUCCESS) {
    free(made);
    return false;
  }
  if (made && dnn.cudnnSetStream(made->handle, c->stream) != CUDNN_STATUS_SUCCESS) {
    dnn.cudnnDestroy(made->handle);
    free(made);
    return false;
  }
  c->cudnn = made;
  return made != nullptr;
}

cudnnHandle_t cudnn_handle(cuda_context *c) { return cudnn_ready(c) ? c->cudnn->handle : nullptr; }

// -- descriptors; each of these says whether the library agreed

static bool agreed(cudnnStatus_t status) { return status == CUDNN_STATUS_SUCCESS; }

static bool make_tensor(const dnn_key &key, const int32_t (&shape)[DNN_DIMS],
                        cudnnTensorDescriptor_t *made) {
  int32_t strides[DNN_DIMS];
  cudnn_strides(key, shape, strides);
  return agreed(dnn.cudnnCreateTensorDescriptor(made)) &&
         agreed(dnn.cudnnSetTensorNdDescriptor(*made, cudnn_type_of(key.dtype), 2 + key.sides,
                                               shape, strides));
}

static bool make_filter(const dnn_key &key, cudnnFilterDescriptor_t *made) {
  cudnnTensorFormat_t format = key.channels_last ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW;
  return agreed(dnn.cudnnCreateFilterDescriptor(made)) &&
         agreed(dnn.cudnnSetFilterNdDescriptor(*made, cudnn_type_of(key.dtype), format,
                                               2 + key.sides, key.weight));
}

// float32 is multiplied in full unless the context allows less.
static cudnnMathType_t math_of(const dnn_key &key) {
  return key.dtype == MOON_F32 && !key.tf32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH;
}

static bool make_convolution(const dnn_key &key, cudnnConvolutionDescriptor_t *made) {
  cudnnDataType_t compute = key.dtype == MOON_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
  return agreed(dnn.cudnnCreateConvolutionDescriptor(made)) &&
         agreed(dnn.cudnnSetConvolutionNdDescriptor(*made, key.sides, key.padding,
                                                    key.stride, key.dilation,
                                                    CUDNN_CROSS_CORRELATION, compute)) &&
         agreed(dnn.cudnnSetConvolutionGroupCount(*made, key.groups)) &&
         agreed(dnn.cudnnSetConvolutionMathType(*made, math_of(key)));
}

// -- running

static cudnnStatus_t run_algorithm(cudnnHandle_t handle, const dnn_plan *p, int algorithm,
                                   const dnn_arrays &x, void *workspace, size_t bytes) {
  const double one = 1, zero = 0;
  const float one_single = 1, zero_single = 0;
  bool wide = p->key.dtype == MOON_F64;
  const void *alpha = wide ? (const void *)&one : &one_single;
  const void *beta = wide ? (const void *)&zero : &zero_single;
  switch (p->key.direction) {
    case CUDA_FORWARD:
      return dnn.cudnnConvolutionForward(handle, alpha, p->image, x.image, p->weight, x.weight,
                                         p->convolution, (cudnnConvolutionFwdAlgo_t)algorithm,
                                         workspace, bytes, beta, p->result, x.result);
    case CUDA_BACKWARD_IMAGE:
      return dnn.cudnnConvolutionBackwardData(
          handle, alpha, p->weight, x.weight, p->result, x.result, p->convolution,
          (cudnnConvolutionBwdDataAlgo_t)algorithm, workspace, bytes, beta, p->image, x.image);
    default:
      return dnn.cudnnConvolutionBackwardFilter(
          handle, alpha, p->image, x.image, p->result, x.result, p->convolution,
          (cudnnConvolutionBwdFilterAlgo_t)algorithm, workspace, bytes, beta, p->weight, x.weight);
  }
}

static bool workspace_of(cudnnHandle_t handle, const dnn_plan *p, int algorithm, size_t *bytes) {
  switch (p->key.direction) {
    case CUDA_FORWARD:
      return agreed(dnn.cudnnGetConvolutionForwardWorkspaceSize(
          handle, p->image, p->weight, p->convolution, p->result,
          (cudnnConvolutionFwdAlgo_t)algorithm, bytes));
    case CUDA_BACKWARD_IMAGE:
      return agreed(dnn.cudnnGetConvolutionBackwardDataWorkspaceSize(
          handle, p->weight, p->result, p->convolution, p->image,
          (cudnnConvolutionBwdDataAlgo_t)algorithm, bytes));
    default:
      return agreed(dnn.cudnnGetConvolutionBackwardFilterWorkspaceSize(
          handle, p->image, p->result, p->convolution, p->weight,
          (cudnnConvolutionBwdFilterAlgo_t)algorithm, bytes));
  }
}

// -- choosing an algorithm

// The library's advice, best first: numbers of the direction's enum.
struct dnn_advice { int count, algorithms[DNN_ALGORITHMS]; };

template <typename Perf>
static void keep_steady(const Perf *perf, int count, dnn_advice *advice) {
  for (int i = 0; i < count; i++)
    if (agreed(perf[i].status) && perf[i].determinism == CUDNN_DETERMINISTIC)
      advice->algorithms[advice->count++] = perf[i].algo;
}

static dnn_advice ask_library(cudnnHandle_t handle, const dnn_plan *p) {
  dnn_advice advice = {};
  int count = 0;
  if (p->key.direction == CUDA_FORWARD) {
    cudnnConvolutionFwdAlgoPerf_t perf[DNN_ALGORITHMS];
    if (agreed(dnn.cudnnGetConvolutionForwardAlgorithm_v7(handle, p->image, p->weight,
                                                          p->convolution, p->result,
                                                          DNN_ALGORITHMS, &count, perf)))
      keep_steady(perf, count, &advice);
  } else if (p->key.direction == CUDA_BACKWARD_IMAGE) {
    cudnnConvolutionBwdDataAlgoPerf_t perf[DNN_ALGORITHMS];
    if (agreed(dnn.cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, p->weight, p->result,
                                                               p->convolution, p->image,
                                                               DNN_ALGORITHMS, &count, perf)))
      keep_steady(perf, count, &advice);
  } else {
    cudnnConvolutionBwdFilterAlgoPerf_t perf[DNN_ALGORITHMS];
    if (agreed(dnn.cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, p->image, p->result,
                                                                 p->convolution, p->weight,
                                                                 DNN_ALGORITHMS, &count, perf)))
      keep_steady(perf, count, &advice);
  }
  return advice;
}

// Winograd's and Fourier's transforms lose accuracy.
static bool transforms(int32_t direction, int algorithm) {
  switch (direction) {
    case CUDA_FORWARD: return algorithm >= CUDNN_CONVOLUTION_FWD_ALGO_FFT;
    case CUDA_BACKWARD_IMAGE: return algorithm >= CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT;
    default:
      return algorithm != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 &&
             algorithm != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1 &&
             algorithm != CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3;
  }
}

// Milliseconds of one run, after one to warm up; below 0 where it failed.
static moon_status time_algorithm(cuda_context *c, const dnn_plan *plan, int algorithm,
                                  const dnn_arrays &x, size_t bytes, float *milliseconds) {
  cuda_scratch workspace(c);
  cudaEvent_t from = nullptr, to = nullptr;
  *milliseconds = -1;
  MOON_TRY(workspace.take(bytes));
  bool ran = agreed(run_algorithm(c->cudnn->handle, plan, algorithm, x, workspace.as<void>(),
                                  bytes)) &&
             cudaEventCreate(&from) == cudaSuccess && cudaEventCreate(&to) == cudaSuccess &&
             cudaEventRecord(from, c->stream) == cudaSuccess &&
             agreed(run_algorithm(c->cudnn->handle, plan, algorithm, x, workspace.as<void>(),
                                  bytes)) &&
             cudaEventRecord(to, c->stream) == cudaSuccess &&
             cudaEventSynchronize(to) == cudaSuccess;
  if (!ran || cudaEventElapsedTime(milliseconds, from, to) != cudaSuccess) *milliseconds = -1;
  if (from) (void)cudaEventDestroy(from);
  if (to) (void)cudaEventDestroy(to);
  return MOON_OK;
}

// Leaves of the advice what was the fastest before, if that is known and still advised.
static bool narrow_advice(const cuda_context *c, const dnn_key &key, dnn_advice *advice) {
  const int known = key.benchmark ? cudnn_choice(c, key) : -1;
  for (int i = 0; i < advice->count; i++) {
    if (advice->algorithms[i] != known) continue;
    *advice = { 1, { known } };
    return true;
  }
  return false;
}

// Nothing can be timed without arrays, nor in a graph, which cannot wait.
static bool can_time(const cuda_context *c, const dnn_arrays *x) { return x && !c->recording; }

// Without arrays (NULL) and in a graph the first that fits, until there is a time for a benchmark.
static moon_status choose_algorithm(cuda_context *c, const dnn_arrays *x, dnn_plan *plan) {
  dnn_advice advice = ask_library(c->cudnn->handle, plan);
  const bool wanted = !narrow_advice(c, plan->key, &advice) && plan->key.benchmark;
  const bool times = wanted && can_time(c, x);
  float least = -1;
  plan->fits = false;
  plan->untimed = wanted && !times;
  for (int i = 0; i < advice.count; i++) {
    int algorithm = advice.algorithms[i];
    size_t bytes;
    float taken = 0;
    if (plan->key.precise && transforms(plan->key.direction, algorithm)) continue;
    if (!workspace_of(c->cudnn->handle, plan, algorithm, &bytes)) continue;
    if ((int64_t)bytes > plan->key.workspace) continue;
    if (times) MOON_TRY(time_algorithm(c, plan, algorithm, *x, bytes, &taken));
    if (taken < 0 || (plan->fits && taken >= least)) continue;
    plan->fits = true;
    plan->algorithm = algorithm;
    plan->workspace = bytes;
    least = taken;
    if (!times) return MOON_OK;
  }
  return plan->fits ? cudnn_keep_choice(c, plan->key, plan->algorithm) : MOON_OK;
}

// Makes the plan's descriptors; false where the library does not agree to one.
static bool describe(const dnn_key &key, dnn_plan *plan) {
  plan_end(plan);
  plan->used = true;
  memcpy(&plan->key, &key, sizeof key);
  return make_tensor(key, key.image, &plan->image) && make_tensor(key, key.result, &plan->result) &&
         make_filter(key, &plan->weight) && make_convolution(key, &plan->convolution);
}

// A plan that does not fit stays in its place, so that the library is not asked again. Where the
// choice failed for want of memory, say, it is.
static moon_status plan_of(cuda_context *c, const dnn_key &key, const dnn_arrays *x,
                           dnn_plan **found) {
  dnn_plan *plan = cuda_plan_find(c->cudnn->plans, PLANS, key);
  const bool met = plan->used && memcmp(&plan->key, &key, sizeof key) == 0;
  *found = plan;
  if (met ? !plan->untimed || !can_time(c, x) : !describe(key, plan)) return MOON_OK;
  moon_status status = choose_algorithm(c, x, plan);
  plan->used = status == MOON_OK;
  return status;
}

// -- the entries

moon_status cudnn_fits(cuda_context *c, const dnn_key &key, bool *fits) {
  dnn_plan *plan;
  MOON_TRY(plan_of(c, key, nullptr, &plan));
  *fits = plan->fits;
  return MOON_OK;
}

moon_status cudnn_run(cuda_context *c, const dnn_key &key, const dnn_arrays &x, bool *done) {
  static const char *const calls[] = { "cudnnConvolutionForward", "cudnnConvolutionBackwardData",
                                       "cudnnConvolutionBackwardFilter" };
  dnn_plan *plan;
  cuda_scratch workspace(c);
  MOON_TRY(plan_of(c, key, &x, &plan));
  if (!plan->fits) return MOON_OK;
  MOON_TRY(workspace.take(plan->workspace));
  cudnnStatus_t status = run_algorithm(c->cudnn->handle, plan, plan->algorithm, x,
                                       workspace.as<void>(), plan->workspace);
  plan->fits = *done = agreed(status);
  if (*done || CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED) return MOON_OK;
  return cuda_library_failed(c, calls[key.direction], dnn.cudnnGetErrorString(status));
}
