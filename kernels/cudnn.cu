// cuDNN behind the convolution slots, by its legacy functions (deprecated in version 9, and all
// that a convolution without a graph of operators needs).
//
// Arrays are given to it channels last, double's row-major, dense, and of one type; what lies
// otherwise is copied there and back. Padding that is not the same on both sides becomes part of
// the image's copy. Descriptors and algorithm are kept for each shape: what the library advises,
// or, where the context wants a benchmark, the fastest of what it advises. Only algorithms that
// give the same bits every time are taken, and under `precise` none that transforms.
#if defined(__CUDACC__)
#include "libraries.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cudnn.h>

#define CUDNN_FUNCTIONS(F)                                                              \
  F(cudnnGetVersion) F(cudnnCreate) F(cudnnDestroy) F(cudnnSetStream)                   \
  F(cudnnCreateTensorDescriptor) F(cudnnDestroyTensorDescriptor)                        \
  F(cudnnSetTensor4dDescriptorEx) F(cudnnCreateFilterDescriptor)                        \
  F(cudnnDestroyFilterDescriptor) F(cudnnSetFilter4dDescriptor)                         \
  F(cudnnCreateConvolutionDescriptor) F(cudnnDestroyConvolutionDescriptor)              \
  F(cudnnSetConvolution2dDescriptor) F(cudnnSetConvolutionGroupCount)                   \
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
  char file[32];
  snprintf(file, sizeof file, "libcudnn.so.%d", CUDNN_MAJOR);
  cuda_opening opening = cuda_library_begin(found, file);
#define F(name) dnn.name = (decltype(dnn.name))cuda_library_function(&opening, #name);
  CUDNN_FUNCTIONS(F)
#undef F
  size_t version = opening.failed ? 0 : dnn.cudnnGetVersion();
  there = cuda_library_end(&opening, (int64_t)version, (int)(version / 10000), CUDNN_MAJOR);
  return there;
}

bool cudnn_is_there(void) { return there; }

// -- plans

enum { IMAGES, CHANNELS, HEIGHT, WIDTH };
enum { PLANS = 256, MOST_ALGORITHMS = 8 };

// Compared byte by byte: no padding may be left unset.
struct dnn_key {
  int32_t direction, dtype, tf32, precise, benchmark;
  int32_t image[4], weight[4], result[4];
  int32_t padding[2], stride[2], dilation[2], groups;
  int64_t workspace;
};

struct dnn_plan {
  bool used, fits;
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
  if (!c->cudnn) return;
  for (int i = 0; i < PLANS; i++) plan_end(&c->cudnn->plans[i]);
  dnn.cudnnDestroy(c->cudnn->handle);
  free(c->cudnn);
  c->cudnn = nullptr;
}

// nullptr where the library cannot be used here.
static cudnn_state *state_of(cuda_context *c) {
  if (c->cudnn || !there) return c->cudnn;
  cudnn_state *made = (cudnn_state *)calloc(1, sizeof *made);
  if (made && dnn.cudnnCreate(&made->handle) != CUDNN_STATUS_SUCCESS) {
    free(made);
    return nullptr;
  }
  if (made && dnn.cudnnSetStream(made->handle, c->stream) != CUDNN_STATUS_SUCCESS) {
    dnn.cudnnDestroy(made->handle);
    free(made);
    return nullptr;
  }
  return c->cudnn = made;
}

// -- descriptors; each of these says whether the library agreed

static bool agreed(cudnnStatus_t status) { return status == CUDNN_STATUS_SUCCESS; }

static cudnnDataType_t type_of(int32_t dtype) {
  switch (dtype) {
    case MOON_F64: return CUDNN_DATA_DOUBLE;
    case MOON_F16: return CUDNN_DATA_HALF;
    case MOON_BF16: return CUDNN_DATA_BFLOAT16;
    default: return CUDNN_DATA_FLOAT;
  }
}

static bool channels_last(int32_t dtype) { return dtype != MOON_F64; }

static bool make_tensor(int32_t dtype, const int32_t (&s)[4], cudnnTensorDescriptor_t *made) {
  bool last = channels_last(dtype);
  return agreed(dnn.cudnnCreateTensorDescriptor(made)) &&
         agreed(dnn.cudnnSetTensor4dDescriptorEx(
             *made, type_of(dtype), s[0], s[1], s[2], s[3], s[1] * s[2] * s[3],
             last ? 1 : s[2] * s[3], last ? s[1] * s[3] : s[3], last ? s[1] : 1));
}

static bool make_filter(int32_t dtype, const int32_t (&s)[4], cudnnFilterDescriptor_t *made) {
  cudnnTensorFormat_t format = channels_last(dtype) ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW;
  return agreed(dnn.cudnnCreateFilterDescriptor(made)) &&
         agreed(dnn.cudnnSetFilter4dDescriptor(*made, type_of(dtype), format, s[0], s[1], s[2],
                                               s[3]));
}

// float32 is multiplied in full unless the context allows less.
static cudnnMathType_t math_of(const dnn_key &key) {
  return key.dtype == MOON_F32 && !key.tf32 ? CUDNN_FMA_MATH : CUDNN_TENSOR_OP_MATH;
}

static bool make_convolution(const dnn_key &key, cudnnConvolutionDescriptor_t *made) {
  cudnnDataType_t compute = key.dtype == MOON_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
  return agreed(dnn.cudnnCreateConvolutionDescriptor(made)) &&
         agreed(dnn.cudnnSetConvolution2dDescriptor(
             *made, key.padding[0], key.padding[1], key.stride[0], key.stride[1],
             key.dilation[0], key.dilation[1], CUDNN_CROSS_CORRELATION, compute)) &&
         agreed(dnn.cudnnSetConvolutionGroupCount(*made, key.groups)) &&
         agreed(dnn.cudnnSetConvolutionMathType(*made, math_of(key)));
}

// -- running

struct dnn_arrays { void *image, *weight, *result; };

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
struct dnn_advice { int count, algorithms[MOST_ALGORITHMS]; };

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
    cudnnConvolutionFwdAlgoPerf_t perf[MOST_ALGORITHMS];
    if (agreed(dnn.cudnnGetConvolutionForwardAlgorithm_v7(handle, p->image, p->weight,
                                                          p->convolution, p->result,
                                                          MOST_ALGORITHMS, &count, perf)))
      keep_steady(perf, count, &advice);
  } else if (p->key.direction == CUDA_BACKWARD_IMAGE) {
    cudnnConvolutionBwdDataAlgoPerf_t perf[MOST_ALGORITHMS];
    if (agreed(dnn.cudnnGetConvolutionBackwardDataAlgorithm_v7(handle, p->weight, p->result,
                                                               p->convolution, p->image,
                                                               MOST_ALGORITHMS, &count, perf)))
      keep_steady(perf, count, &advice);
  } else {
    cudnnConvolutionBwdFilterAlgoPerf_t perf[MOST_ALGORITHMS];
    if (agreed(dnn.cudnnGetConvolutionBackwardFilterAlgorithm_v7(handle, p->image, p->result,
                                                                 p->convolution, p->weight,
                                                                 MOST_ALGORITHMS, &count, perf)))
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

static moon_status choose_algorithm(cuda_context *c, const dnn_arrays &x, dnn_plan *plan) {
  dnn_advice advice = ask_library(c->cudnn->handle, plan);
  float least = -1;
  for (int i = 0; i < advice.count; i++) {
    int algorithm = advice.algorithms[i];
    size_t bytes;
    float taken = 0;
    if (plan->key.precise && transforms(plan->key.direction, algorithm)) continue;
    if (!workspace_of(c->cudnn->handle, plan, algorithm, &bytes)) continue;
    if ((int64_t)bytes > plan->key.workspace) continue;
    if (plan->key.benchmark)
      MOON_TRY(time_algorithm(c, plan, algorithm, x, bytes, &taken));
    if (taken < 0 || (plan->fits && taken >= least)) continue;
    plan->fits = true;
    plan->algorithm = algorithm;
    plan->workspace = bytes;
    least = taken;
    if (!plan->key.benchmark) return MOON_OK;
  }
  return MOON_OK;
}

// A plan that does not fit stays in its place, so that the library is not asked again.
static moon_status plan_of(cuda_context *c, const dnn_key &key, const dnn_arrays &x,
                           dnn_plan **found) {
  dnn_plan *plan = &c->cudnn->plans[cuda_plan_place(&key, sizeof key, PLANS)];
  *found = plan;
  if (plan->used && memcmp(&plan->key, &key, sizeof key) == 0) return MOON_OK;
  plan_end(plan);
  plan->used = true;
  memcpy(&plan->key, &key, sizeof key);
  if (!make_tensor(key.dtype, key.image, &plan->image) ||
      !make_tensor(key.dtype, key.result, &plan->result) ||
      !make_filter(key.dtype, key.weight, &plan->weight) ||
      !make_convolution(key, &plan->convolution))
    return MOON_OK;
  return choose_algorithm(c, x, plan);
}

// -- arrays in the library's form

struct dnn_form {
  explicit dnn_form(cuda_context *c) : scratch(c) {}
  cuda_scratch scratch;
  device_array array;          // dense, of the common type, with the border
  device_array inside;         // the part of it that is the given array's
};

// The form of x, with `extra` rows and columns more; its data is still x's.
static device_array form_of(const device_array *x, moon_dtype dtype, const int64_t (&extra)[2]) {
  static const int orders[2][4] = { { WIDTH, HEIGHT, CHANNELS, IMAGES },
                                    { CHANNELS, WIDTH, HEIGHT, IMAGES } };
  device_array form = *x;
  int64_t stride = 1;
  form.dtype = dtype;
  for (int i = 0; i < 2; i++) form.shape[HEIGHT + i] += extra[i];
  for (int i = 0; i < 4; i++) {
    int dim = orders[channels_last(dtype)][i];
    form.strides[dim] = stride;
    stride *= form.shape[dim];
  }
  return form;
}

static bool same_place(const device_array *x, const device_array *form) {
  if (x->dtype != form->dtype) return false;
  for (int i = 0; i < 4; i++) {
    if (x->shape[i] != form->shape[i]) return false;
    if (x->shape[i] != 1 && x->strides[i] != form->strides[i]) return false;
  }
  return true;
}

static moon_status open_form(cuda_context *c, const device_array *x, moon_dtype dtype,
                             const int64_t (&front)[2], const int64_t (&back)[2], bool read,
                             dnn_form *form) {
  const int64_t extra[2] = { front[0] + back[0], front[1] + back[1] };
  size_t size = dtype_size(dtype);
  form->array = form_of(x, dtype, extra);
  if (same_place(x, &form->array)) {
    form->inside = *x;
    return MOON_OK;
  }
  MOON_TRY(form->scratch.take((size_t)array_count(&form->array) * size));
  form->array.data = form->scratch.as<void>();
  form->inside = form->array;
  for (int i = 0; i < 2; i++) {
    form->inside.shape[HEIGHT + i] = x->shape[HEIGHT + i];
    form->inside.data = (char *)form->inside.data +
                        front[i] * form->array.strides[HEIGHT + i] * (int64_t)size;
  }
  if (!read) return MOON_OK;
  if (extra[0] + extra[1] > 0) MOON_TRY(cuda_fill(c, 0, &form->array));
  return cuda_copy(c, x, &form->inside);
}

static moon_status close_form(cuda_context *c, const dnn_form *form, const device_array *x) {
  return form->inside.data == x->data ? MOON_OK : cuda_copy(c, &form->inside, x);
}

// -- the entry

static bool set_sizes(const device_array *x, int32_t (&sizes)[4]) {
  int64_t count = 1;
  for (int i = 0; i < 4; i++) {
    if (x->shape[i] > INT32_MAX || x->shape[i] < 1) return false;
    count *= x->shape[i];
    if (count > INT32_MAX) return false;
    sizes[i] = (int32_t)x->shape[i];
  }
  return true;
}

// False where numbers are larger than the library's.
static bool set_geometry(const conv2d_geometry *g, dnn_key *key) {
  for (int i = 0; i < 2; i++) {
    int64_t both = g->padding_before[i] < g->padding_after[i] ? g->padding_before[i]
                                                             : g->padding_after[i];
    if (both > INT16_MAX || g->stride[i] > INT16_MAX || g->dilation[i] > INT16_MAX) return false;
    key->padding[i] = (int32_t)both;
    key->stride[i] = (int32_t)g->stride[i];
    key->dilation[i] = (int32_t)g->dilation[i];
  }
  key->groups = (int32_t)g->groups;
  return true;
}

// bfloat16 may meet weights of float32, which are rounded for it.
static bool common_type(const cuda_settings &settings, const device_array *image,
                        const device_array *weight, const device_array *result) {
  if (image->dtype != result->dtype) return false;
  return weight->dtype == image->dtype || (image->dtype == MOON_BF16 && !settings.precise);
}

static moon_status run_plan(cuda_context *c, const dnn_key &key, const dnn_arrays &x,
                            bool *done) {
  dnn_plan *plan;
  cuda_scratch workspace(c);
  MOON_TRY(plan_of(c, key, x, &plan));
  if (!plan->fits) return MOON_OK;
  MOON_TRY(workspace.take(plan->workspace));
  cudnnStatus_t status = run_algorithm(c->cudnn->handle, plan, plan->algorithm, x,
                                       workspace.as<void>(), plan->workspace);
  if (CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_EXECUTION_FAILED)
    return moon_fail(MOON_BAD_DEVICE, "a convolution of cuDNN failed on cuda:%d", c->device);
  plan->fits = *done = agreed(status);
  return MOON_OK;
}

moon_status cudnn_convolve(cuda_context *c, cuda_direction direction,
                           const conv2d_geometry *geometry, const device_array *image,
                           const device_array *weight, const device_array *result, bool *done) {
  static const int64_t none[2] = { 0, 0 };
  const cuda_settings settings = cuda_library->settings(c->engine);
  const moon_dtype dtype = image->dtype;
  dnn_form x(c), w(c), y(c);
  dnn_key key;
  int64_t front[2], back[2];
  *done = false;
  memset(&key, 0, sizeof key);
  if (!state_of(c) || !common_type(settings, image, weight, result)) return MOON_OK;
  if (!set_geometry(geometry, &key)) return MOON_OK;
  for (int i = 0; i < 2; i++) {
    front[i] = geometry->padding_before[i] - key.padding[i];
    back[i] = geometry->padding_after[i] - key.padding[i];
  }
  const device_array padded = form_of(image, dtype, { front[0] + back[0], front[1] + back[1] });
  if (!set_sizes(&padded, key.image) || !set_sizes(weight, key.weight) ||
      !set_sizes(result, key.result))
    return MOON_OK;
  MOON_TRY(open_form(c, image, dtype, front, back, direction != CUDA_BACKWARD_IMAGE, &x));
  MOON_TRY(open_form(c, weight, dtype, none, none, direction != CUDA_BACKWARD_WEIGHT, &w));
  MOON_TRY(open_form(c, result, dtype, none, none, direction != CUDA_FORWARD, &y));
  key.direction = direction;
  key.dtype = dtype;
  key.tf32 = c->flags[CUDA_TF32] && !settings.precise;
  key.precise = settings.precise;
  key.benchmark = c->flags[CUDA_BENCHMARK];
  key.workspace = settings.workspace_limit;
  MOON_TRY(run_plan(c, key, { x.array.data, w.array.data, y.array.data }, done));
  if (!*done) return MOON_OK;
  switch (direction) {
    case CUDA_FORWARD: return close_form(c, &y, result);
    case CUDA_BACKWARD_IMAGE: return close_form(c, &x, image);
    default: return close_form(c, &w, weight);
  }
}

#endif
