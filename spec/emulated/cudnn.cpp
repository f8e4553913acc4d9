// A stand-in of cuDNN's legacy convolutions, by the sum that defines them. Its advice holds what a
// caller must tell apart: algorithms that are not the same every time, that are not supported for
// the layout, that transform, and that want more workspace than others. See stand_in.h.
#include "stand_in.h"

#include <cudnn.h>

#include <atomic>

using namespace stand_in;

// -- what handles and descriptors hold

struct cudnnContext { cudaStream_t on; };

struct cudnnTensorStruct {
  bool set;
  cudnnDataType_t type;
  int size[4], stride[4];
};

struct cudnnFilterStruct {
  bool set;
  cudnnDataType_t type;
  cudnnTensorFormat_t format;
  int size[4];
};

struct cudnnConvolutionStruct {
  bool set;
  int padding[2], stride[2], dilation[2], groups;
  cudnnDataType_t compute;
  cudnnMathType_t math;
};

namespace {

std::atomic<int> handles, descriptors;

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

bool type_of(cudnnDataType_t given, moon_dtype *type) {
  switch (given) {
    case CUDNN_DATA_DOUBLE: *type = MOON_F64; return true;
    case CUDNN_DATA_FLOAT: *type = MOON_F32; return true;
    case CUDNN_DATA_HALF: *type = MOON_F16; return true;
    case CUDNN_DATA_BFLOAT16: *type = MOON_BF16; return true;
    default: return false;
  }
}

// -- a problem: the three arrays as descriptors, checked against each other

enum direction { FORWARD, DATA, FILTER };
enum { N, C, H, W };

struct array { int size[4]; int64_t stride[4]; };

struct problem {
  moon_dtype type;
  array x, w, y;
  cudnnConvolutionStruct o;      // options
  bool last;                     // channels last
};

bool packed(const cudnnTensorStruct *t, bool last) {
  const int rows[4] = { t->size[1] * t->size[2] * t->size[3], t->size[2] * t->size[3], t->size[3],
                        1 };
  const int pixels[4] = { rows[0], 1, t->size[1] * t->size[3], t->size[1] };
  for (int i = 0; i < 4; i++)
    if (t->stride[i] != (last ? pixels : rows)[i]) return false;
  return true;
}

array dense(const int (&size)[4], bool last) {
  array a;
  const int order[2][4] = { { W, H, C, N }, { C, W, H, N } };
  int64_t stride = 1;
  for (int i = 0; i < 4; i++) a.size[i] = size[i];
  for (int i : order[last]) {
    a.stride[i] = stride;
    stride *= size[i];
  }
  return a;
}

void check_sizes(const problem &p, const char *call) {
  const cudnnConvolutionStruct &o = p.o;
  need(p.x.size[N] == p.y.size[N] && p.w.size[N] == p.y.size[C] &&
           p.x.size[C] == p.w.size[C] * o.groups && p.y.size[C] % o.groups == 0, call,
       "channels, groups or images that do not belong together");
  for (int i = 0; i < 2; i++) {
    int reach = p.x.size[H + i] + 2 * o.padding[i] - (o.dilation[i] * (p.w.size[H + i] - 1) + 1);
    need(reach >= 0 && p.y.size[H + i] == 1 + reach / o.stride[i], call,
         "a result of another size than the convolution's");
  }
}

problem problem_of(const char *call, const cudnnTensorStruct *x, const cudnnFilterStruct *w,
                   const cudnnConvolutionStruct *o, const cudnnTensorStruct *y) {
  problem p;
  need(x && w && o && y && x->set && w->set && o->set && y->set, call, "a descriptor not set");
  need(x->type == w->type && w->type == y->type && type_of(x->type, &p.type), call,
       "arrays of several types, or of one it has not");
  need(o->compute == (p.type == MOON_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT), call,
       "a type of calculation that is not the arrays'");
  p.last = w->format == CUDNN_TENSOR_NHWC;
  need(packed(x, p.last) && packed(y, p.last), call, "tensors that do not lie as the filter does");
  p.x = dense(x->size, p.last);
  p.w = dense(w->size, p.last);
  p.y = dense(y->size, p.last);
  p.o = *o;
  check_sizes(p, call);
  return p;
}

// -- which algorithms there are for a problem, and what they want

struct offer { int algorithm; bool steady; };

const offer offers[3][4] = {
  { { CUDNN_CONVOLUTION_FWD_ALGO_FFT, true }, { CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, true },
    { CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, true },
    { CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, true } },
  { { CUDNN_CONVOLUTION_BWD_DATA_ALGO_0, false }, { CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT, true },
    { CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD, true },
    { CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, true } },
  { { CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3, false }, { CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0, false },
    { CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT, true },
    { CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, true } },
};

bool is_fft(direction d, int algorithm) {
  return algorithm == (d == FORWARD  ? (int)CUDNN_CONVOLUTION_FWD_ALGO_FFT
                       : d == DATA   ? (int)CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT
                                     : (int)CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT);
}

bool is_winograd(direction d, int algorithm) {
  return (d == FORWARD && algorithm == CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD) ||
         (d == DATA && algorithm == CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD);
}

// Fourier's takes rows alone, without steps; Winograd's three by three.
bool supported(direction d, const problem &p, int algorithm) {
  bool steps = false;
  for (int i = 0; i < 2; i++) steps |= p.o.stride[i] != 1 || p.o.dilation[i] != 1;
  if (is_fft(d, algorithm)) return !p.last && !steps && p.o.groups == 1;
  if (is_winograd(d, algorithm))
    return !steps && p.w.size[H] == 3 && p.w.size[W] == 3 && p.type != MOON_F64;
  for (const offer &o : offers[d])
    if (o.algorithm == algorithm) return true;
  return false;
}

size_t workspace_of(direction d, const problem &p, int algorithm) {
  size_t image = (size_t)p.x.size[N] * (size_t)p.x.stride[N] * dtype_size(p.type);
  if (is_fft(d, algorithm)) return 4 * image;
  if (is_winograd(d, algorithm)) return 2 * image;
  return d == FORWARD && algorithm == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM ? 0 : image;
}

template <typename Perf>
cudnnStatus_t advise(const char *call, direction d, const problem &p, int wanted, int *count,
                     Perf *perf) {
  need(wanted > 0 && count && perf, call, "no place for its advice");
  trace(call, wanted);
  *count = 0;
  if (faulty(call, "refuses")) return CUDNN_STATUS_NOT_SUPPORTED;
  if (faulty(call, "fails")) return CUDNN_STATUS_INTERNAL_ERROR;
  for (const offer &o : offers[d]) {
    if (*count == wanted) break;
    Perf *at = &perf[(*count)++];
    bool fits = supported(d, p, o.algorithm);
    *at = Perf();
    at->algo = (decltype(at->algo))o.algorithm;
    at->status = fits ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
    at->memory = fits ? workspace_of(d, p, o.algorithm) : 0;
    at->determinism = o.steady ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC;
    at->mathType = p.o.math;
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t tell_workspace(const char *call, direction d, const problem &p, int algorithm,
                             size_t *bytes) {
  if (faulty(call, "fails")) return CUDNN_STATUS_INTERNAL_ERROR;
  if (!supported(d, p, algorithm)) return CUDNN_STATUS_NOT_SUPPORTED;
  *bytes = workspace_of(d, p, algorithm);
  return CUDNN_STATUS_SUCCESS;
}

// -- the sums: calls fn(place in x, in w, in y) for each product of the convolution

int64_t at(const array &a, int n, int c, int h, int w) {
  return n * a.stride[N] + c * a.stride[C] + h * a.stride[H] + w * a.stride[W];
}

template <typename Fn>
void each_tap(const problem &p, int n, int out, int row, int column, Fn fn) {
  int group = out / (p.y.size[C] / p.o.groups);
  for (int i = 0; i < p.w.size[H]; i++) {
    int h = row * p.o.stride[0] - p.o.padding[0] + i * p.o.dilation[0];
    for (int j = 0; j < p.w.size[W]; j++) {
      int w = column * p.o.stride[1] - p.o.padding[1] + j * p.o.dilation[1];
      if (h < 0 || h >= p.x.size[H] || w < 0 || w >= p.x.size[W]) continue;
      for (int c = 0; c < p.w.size[C]; c++)
        fn(at(p.x, n, group * p.w.size[C] + c, h, w), at(p.w, out, c, i, j),
           at(p.y, n, out, row, column));
    }
  }
}

template <typename Fn>
void each_product(const problem &p, Fn fn) {
  for (int n = 0; n < p.y.size[N]; n++)
    for (int out = 0; out < p.y.size[C]; out++)
      for (int row = 0; row < p.y.size[H]; row++)
        for (int column = 0; column < p.y.size[W]; column++) each_tap(p, n, out, row, column, fn);
}

int64_t count_of(const array &a) { return a.size[N] * a.stride[N]; }

struct arrays { void *x, *w, *y; };

void convolve(direction d, const problem &p, const arrays &a) {
  const bool coarse = p.type == MOON_F32 && p.o.math == CUDNN_TENSOR_OP_MATH;
  const array &result = d == FORWARD ? p.y : d == DATA ? p.x : p.w;
  void *out = d == FORWARD ? a.y : d == DATA ? a.x : a.w;
  std::vector<double> sums((size_t)(result.size[N] * result.stride[N]));
  auto read = [&](const void *data, int64_t i) {
    double value = load(p.type, data, i);
    return coarse ? tf32(value) : value;
  };
  each_product(p, [&](int64_t x, int64_t w, int64_t y) {
    if (d == FORWARD) sums[(size_t)y] += read(a.x, x) * read(a.w, w);
    else if (d == DATA) sums[(size_t)x] += read(a.y, y) * read(a.w, w);
    else sums[(size_t)w] += read(a.y, y) * read(a.x, x);
  });
  for (size_t i = 0; i < sums.size(); i++) store(p.type, out, (int64_t)i, sums[i]);
}

bool is_number(const problem &p, const void *at, double value) {
  return p.type == MOON_F64 ? *(const double *)at == value : (double)*(const float *)at == value;
}

cudnnStatus_t run(const char *call, cudnnHandle_t handle, direction d, const problem &p,
                  int algorithm, const arrays &a, const void *alpha, const void *beta,
                  void *workspace, size_t bytes) {
  need(handle && handle->on, call, "a handle without a stream");
  trace(call, algorithm);
  need(is_number(p, alpha, 1) && is_number(p, beta, 0), call,
       "factors that are not 1 and 0 in the type of calculation");
  const struct { const array *form; void *data; } given[3] = { { &p.x, a.x }, { &p.w, a.w },
                                                               { &p.y, a.y } };
  for (const auto &g : given)
    need(aligned(g.data, 16) &&
             handle->on->owns(g.data, (size_t)count_of(*g.form) * dtype_size(p.type)), call,
         "an array that is not the device's, or does not lie on 16 bytes");
  if (!supported(d, p, algorithm) || faulty(call, "refuses")) return CUDNN_STATUS_NOT_SUPPORTED;
  need_workspace(handle->on, call, workspace, bytes, workspace_of(d, p, algorithm));
  if (faulty(call, "fails")) return CUDNN_STATUS_EXECUTION_FAILED;
  handle->on->put([=] {
    if (bytes > 0) memset(workspace, 0x5A, bytes);
    convolve(d, p, a);
    return 0;
  });
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace

// -- the library's functions

STAND_IN size_t cudnnGetVersion(void) { return CUDNN_VERSION; }

STAND_IN const char *cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    case CUDNN_STATUS_INTERNAL_ERROR: return "CUDNN_STATUS_INTERNAL_ERROR";
    case CUDNN_STATUS_EXECUTION_FAILED: return "CUDNN_STATUS_EXECUTION_FAILED";
    default: return "another status";
  }
}

STAND_IN cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
  if (faulty("cudnnCreate", "fails")) return CUDNN_STATUS_NOT_INITIALIZED;
  *handle = new cudnnContext();
  handles++;
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  delete handle;
  if (--handles == 0) need(descriptors == 0, "cudnnDestroy", "descriptors that were not destroyed");
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t on) {
  handle->on = on;
  return CUDNN_STATUS_SUCCESS;
}

#define PAIR(name, type)                                                             \
  STAND_IN cudnnStatus_t cudnnCreate##name(cudnn##name##_t *d) { return create(d, "cudnnCreate" #name); } \
  STAND_IN cudnnStatus_t cudnnDestroy##name(cudnn##name##_t d) { return destroy(d, "cudnnDestroy" #name); }
PAIR(TensorDescriptor, cudnnTensorStruct)
PAIR(FilterDescriptor, cudnnFilterStruct)
PAIR(ConvolutionDescriptor, cudnnConvolutionStruct)
#undef PAIR

STAND_IN cudnnStatus_t cudnnSetTensor4dDescriptorEx(cudnnTensorDescriptor_t t,
                                                    cudnnDataType_t type, int n, int c, int h,
                                                    int w, int n_stride, int c_stride,
                                                    int h_stride, int w_stride) {
  need(n > 0 && c > 0 && h > 0 && w > 0, "cudnnSetTensor4dDescriptorEx", "a size below 1");
  *t = { true, type, { n, c, h, w }, { n_stride, c_stride, h_stride, w_stride } };
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t f, cudnnDataType_t type,
                                                  cudnnTensorFormat_t format, int k, int c, int h,
                                                  int w) {
  need(k > 0 && c > 0 && h > 0 && w > 0, "cudnnSetFilter4dDescriptor", "a size below 1");
  need(format == CUDNN_TENSOR_NCHW || format == CUDNN_TENSOR_NHWC, "cudnnSetFilter4dDescriptor",
       "a format that this stand-in has not");
  *f = { true, type, format, { k, c, h, w } };
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t o, int pad_h,
                                                       int pad_w, int u, int v, int dilation_h,
                                                       int dilation_w,
                                                       cudnnConvolutionMode_t mode,
                                                       cudnnDataType_t compute) {
  need(pad_h >= 0 && pad_w >= 0 && u > 0 && v > 0 && dilation_h > 0 && dilation_w > 0 &&
           mode == CUDNN_CROSS_CORRELATION, "cudnnSetConvolution2dDescriptor",
       "numbers that it does not allow");
  *o = { true, { pad_h, pad_w }, { u, v }, { dilation_h, dilation_w }, 1, compute,
         CUDNN_DEFAULT_MATH };
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t o, int groups) {
  need(groups > 0, "cudnnSetConvolutionGroupCount", "a number below 1");
  o->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t o,
                                                   cudnnMathType_t math) {
  o->math = math;
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(
    cudnnHandle_t, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
    cudnnConvolutionDescriptor_t o, cudnnTensorDescriptor_t y, int wanted, int *count,
    cudnnConvolutionFwdAlgoPerf_t *perf) {
  return advise(__func__, FORWARD, problem_of(__func__, x, w, o, y), wanted, count, perf);
}

STAND_IN cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm_v7(
    cudnnHandle_t, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t y,
    cudnnConvolutionDescriptor_t o, cudnnTensorDescriptor_t x, int wanted, int *count,
    cudnnConvolutionBwdDataAlgoPerf_t *perf) {
  return advise(__func__, DATA, problem_of(__func__, x, w, o, y), wanted, count, perf);
}

STAND_IN cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    cudnnHandle_t, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t y,
    cudnnConvolutionDescriptor_t o, cudnnFilterDescriptor_t w, int wanted, int *count,
    cudnnConvolutionBwdFilterAlgoPerf_t *perf) {
  return advise(__func__, FILTER, problem_of(__func__, x, w, o, y), wanted, count, perf);
}

STAND_IN cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(
    cudnnHandle_t, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w,
    cudnnConvolutionDescriptor_t o, cudnnTensorDescriptor_t y,
    cudnnConvolutionFwdAlgo_t algorithm, size_t *bytes) {
  return tell_workspace(__func__, FORWARD, problem_of(__func__, x, w, o, y), algorithm, bytes);
}

STAND_IN cudnnStatus_t cudnnGetConvolutionBackwardDataWorkspaceSize(
    cudnnHandle_t, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t y,
    cudnnConvolutionDescriptor_t o, cudnnTensorDescriptor_t x,
    cudnnConvolutionBwdDataAlgo_t algorithm, size_t *bytes) {
  return tell_workspace(__func__, DATA, problem_of(__func__, x, w, o, y), algorithm, bytes);
}

STAND_IN cudnnStatus_t cudnnGetConvolutionBackwardFilterWorkspaceSize(
    cudnnHandle_t, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t y,
    cudnnConvolutionDescriptor_t o, cudnnFilterDescriptor_t w,
    cudnnConvolutionBwdFilterAlgo_t algorithm, size_t *bytes) {
  return tell_workspace(__func__, FILTER, problem_of(__func__, x, w, o, y), algorithm, bytes);
}

STAND_IN cudnnStatus_t cudnnConvolutionForward(
    cudnnHandle_t handle, const void *alpha, cudnnTensorDescriptor_t x, const void *x_data,
    cudnnFilterDescriptor_t w, const void *w_data, cudnnConvolutionDescriptor_t o,
    cudnnConvolutionFwdAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
    cudnnTensorDescriptor_t y, void *y_data) {
  return run(__func__, handle, FORWARD, problem_of(__func__, x, w, o, y), algorithm,
             { (void *)x_data, (void *)w_data, y_data }, alpha, beta, workspace, bytes);
}

STAND_IN cudnnStatus_t cudnnConvolutionBackwardData(
    cudnnHandle_t handle, const void *alpha, cudnnFilterDescriptor_t w, const void *w_data,
    cudnnTensorDescriptor_t y, const void *y_data, cudnnConvolutionDescriptor_t o,
    cudnnConvolutionBwdDataAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
    cudnnTensorDescriptor_t x, void *x_data) {
  return run(__func__, handle, DATA, problem_of(__func__, x, w, o, y), algorithm,
             { x_data, (void *)w_data, (void *)y_data }, alpha, beta, workspace, bytes);
}

STAND_IN cudnnStatus_t cudnnConvolutionBackwardFilter(
    cudnnHandle_t handle, const void *alpha, cudnnTensorDescriptor_t x, const void *x_data,
    cudnnTensorDescriptor_t y, const void *y_data, cudnnConvolutionDescriptor_t o,
    cudnnConvolutionBwdFilterAlgo_t algorithm, void *workspace, size_t bytes, const void *beta,
    cudnnFilterDescriptor_t w, void *w_data) {
  return run(__func__, handle, FILTER, problem_of(__func__, x, w, o, y), algorithm,
             { (void *)x_data, w_data, (void *)y_data }, alpha, beta, workspace, bytes);
}
