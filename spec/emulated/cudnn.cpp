// A stand-in of cuDNN's legacy convolutions, by the sum that defines them. Its advice holds what a
// caller must tell apart: algorithms that are not the same every time, that are not supported for
// the layout, that transform, and that want more workspace than others. See stand_in.h.
#include "cudnn_parts.h"

using namespace stand_in;

std::atomic<int> stand_in::handles, stand_in::descriptors;

enum { SIDES = 3, DIMS = 2 + SIDES };

// -- what descriptors hold

struct cudnnFilterStruct {
  bool set;
  cudnnDataType_t type;
  cudnnTensorFormat_t format;
  int ndim, size[DIMS];
};

struct cudnnConvolutionStruct {
  bool set;
  int sides, padding[SIDES], stride[SIDES], dilation[SIDES], groups;
  cudnnDataType_t compute;
  cudnnMathType_t math;
};

namespace {

void need_sizes(const char *call, int ndim, const int *size) {
  need(ndim == DIMS || ndim == DIMS - 1, call, "a number of dimensions that this stand-in has not");
  for (int i = 0; i < ndim; i++) need(size[i] > 0, call, "a size below 1");
}

// -- a problem: the three arrays as descriptors, checked against each other. Images are volumes of
// one depth.

enum direction { FORWARD, DATA, FILTER };
enum { N, C, D, H, W };

struct array { int size[DIMS]; int64_t stride[DIMS]; };

struct problem {
  moon_dtype type;
  array x, w, y;
  cudnnConvolutionStruct o;      // options
  bool last, flat;               // channels last; images
};

array dense(int ndim, const int (&size)[DIMS], bool last) {
  array a;
  const int order[2][DIMS] = { { W, H, D, C, N }, { C, W, H, D, N } };
  const bool flat = ndim < DIMS;
  int64_t stride = 1;
  for (int i = 0; i < DIMS; i++) a.size[i] = i < D ? size[i] : flat && i == D ? 1 : size[i - flat];
  for (int i : order[last]) {
    a.stride[i] = stride;
    stride *= a.size[i];
  }
  return a;
}

bool packed(const cudnnTensorStruct *t, const array &a) {
  const bool flat = t->ndim < DIMS;
  for (int i = 0; i < t->ndim; i++)
    if (t->stride[i] != a.stride[i < D ? i : i + flat]) return false;
  return t->ndim >= DIMS - 1;
}

// With a depth of one kernel in front of the options of images.
cudnnConvolutionStruct of_volumes(cudnnConvolutionStruct o) {
  if (o.sides == SIDES) return o;
  for (int i = o.sides; i > 0; i--) {
    o.padding[i] = o.padding[i - 1];
    o.stride[i] = o.stride[i - 1];
    o.dilation[i] = o.dilation[i - 1];
  }
  o.padding[0] = 0;
  o.stride[0] = o.dilation[0] = 1;
  return o;
}

void check_sizes(const problem &p, const char *call) {
  const cudnnConvolutionStruct &o = p.o;
  need(p.x.size[N] == p.y.size[N] && p.w.size[N] == p.y.size[C] &&
           p.x.size[C] == p.w.size[C] * o.groups && p.y.size[C] % o.groups == 0, call,
       "channels, groups or images that do not belong together");
  for (int i = 0; i < SIDES; i++) {
    int reach = p.x.size[D + i] + 2 * o.padding[i] - (o.dilation[i] * (p.w.size[D + i] - 1) + 1);
    need(reach >= 0 && p.y.size[D + i] == 1 + reach / o.stride[i], call,
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
  need(x->ndim == w->ndim && w->ndim == y->ndim && x->ndim == 2 + o->sides, call,
       "descriptors of several numbers of dimensions");
  p.last = w->format == CUDNN_TENSOR_NHWC;
  p.flat = x->ndim < DIMS;
  p.x = dense(x->ndim, x->size, p.last);
  p.w = dense(w->ndim, w->size, p.last);
  p.y = dense(y->ndim, y->size, p.last);
  need(packed(x, p.x) && packed(y, p.y), call, "tensors that do not lie as the filter does");
  p.o = of_volumes(*o);
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

// Fourier's takes rows alone, without steps; Winograd's three by three; neither takes volumes, and
// none takes those in groups with channels last.
bool supported(direction d, const problem &p, int algorithm) {
  if (p.last && faulty("channels-last", "refuses")) return false;
  bool plain = p.flat;
  if (!p.flat && p.last && p.o.groups > 1) return false;
  for (int i = 0; i < SIDES; i++) plain &= p.o.stride[i] == 1 && p.o.dilation[i] == 1;
  if (is_fft(d, algorithm)) return !p.last && plain && p.o.groups == 1;
  if (is_winograd(d, algorithm))
    return plain && p.w.size[H] == 3 && p.w.size[W] == 3 && p.type != MOON_F64;
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

struct place { int at[SIDES]; };

int64_t at(const array &a, int n, int c, const place &side) {
  int64_t offset = n * a.stride[N] + c * a.stride[C];
  for (int i = 0; i < SIDES; i++) offset += side.at[i] * a.stride[D + i];
  return offset;
}

template <typename Fn>
void each_place(const array &a, Fn fn) {
  for (int d = 0; d < a.size[D]; d++)
    for (int h = 0; h < a.size[H]; h++)
      for (int w = 0; w < a.size[W]; w++) fn(place { { d, h, w } });
}

// Where a tap meets the image for a position of the result; false beside it.
bool meets(const problem &p, const place &position, const place &tap, place *image) {
  for (int i = 0; i < SIDES; i++) {
    image->at[i] = position.at[i] * p.o.stride[i] - p.o.padding[i] + tap.at[i] * p.o.dilation[i];
    if (image->at[i] < 0 || image->at[i] >= p.x.size[D + i]) return false;
  }
  return true;
}

template <typename Fn>
void each_tap(const problem &p, int n, int out, const place &position, Fn fn) {
  int group = out / (p.y.size[C] / p.o.groups);
  each_place(p.w, [&](const place &tap) {
    place image;
    if (!meets(p, position, tap, &image)) return;
    for (int c = 0; c < p.w.size[C]; c++)
      fn(at(p.x, n, group * p.w.size[C] + c, image), at(p.w, out, c, tap),
         at(p.y, n, out, position));
  });
}

template <typename Fn>
void each_product(const problem &p, Fn fn) {
  for (int n = 0; n < p.y.size[N]; n++)
    for (int out = 0; out < p.y.size[C]; out++)
      each_place(p.y, [&](const place &position) { each_tap(p, n, out, position, fn); });
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

STAND_IN size_t cudnnGetVersion(void) {
  if (faulty("bfloat16", "refuses")) return DNN_BFLOAT_RNN - 1;
  return CUDNN_VERSION > DNN_BFLOAT_RNN ? CUDNN_VERSION : DNN_BFLOAT_RNN;
}

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

DESCRIPTOR(TensorDescriptor)
DESCRIPTOR(FilterDescriptor)
DESCRIPTOR(ConvolutionDescriptor)

STAND_IN cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t t, cudnnDataType_t type,
                                                  int ndim, const int *size, const int *stride) {
  need(ndim >= 3 && ndim <= DNN_MOST_DIMS, __func__, "dimensions that this stand-in has not");
  *t = { true, type, ndim, {}, {} };
  for (int i = 0; i < ndim; i++) {
    need(size[i] > 0 && stride[i] > 0, __func__, "a size or stride below 1");
    t->size[i] = size[i];
    t->stride[i] = stride[i];
  }
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t f, cudnnDataType_t type,
                                                  cudnnTensorFormat_t format, int ndim,
                                                  const int *size) {
  need_sizes(__func__, ndim, size);
  need(format == CUDNN_TENSOR_NCHW || format == CUDNN_TENSOR_NHWC, __func__,
       "a format that this stand-in has not");
  *f = { true, type, format, ndim, {} };
  for (int i = 0; i < ndim; i++) f->size[i] = size[i];
  return CUDNN_STATUS_SUCCESS;
}

STAND_IN cudnnStatus_t cudnnSetConvolutionNdDescriptor(cudnnConvolutionDescriptor_t o, int sides,
                                                       const int *padding, const int *stride,
                                                       const int *dilation,
                                                       cudnnConvolutionMode_t mode,
                                                       cudnnDataType_t compute) {
  need(sides == 2 || sides == SIDES, __func__, "a number of sides that this stand-in has not");
  need(mode == CUDNN_CROSS_CORRELATION, __func__, "a mode that this stand-in has not");
  *o = { true, sides, {}, {}, {}, 1, compute, CUDNN_DEFAULT_MATH };
  for (int i = 0; i < sides; i++) {
    need(padding[i] >= 0 && stride[i] > 0 && dilation[i] > 0, __func__,
         "numbers that it does not allow");
    o->padding[i] = padding[i];
    o->stride[i] = stride[i];
    o->dilation[i] = dilation[i];
  }
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
