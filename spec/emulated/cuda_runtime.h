// A CUDA runtime without a GPU, for specs: the sources of kernels/ compile against this header with
// a C++ compiler, and their threads run on the CPU. It shows that indices, shared memory, barriers
// and shuffles do what they should, and that nothing on the host reads what was not waited for:
// work on a stream waits until somebody waits for it. It shows nothing about speed. One thread runs
// at a time: races between threads show as far as another order of them gives another result.
//
// Threads of a block take turns only where they wait (__syncthreads, shuffles, ballots), in an
// order that changes from launch to launch, as that of the blocks does. A barrier that some thread
// of the block or warp never reaches is an error of the launch.
#ifndef EMULATED_CUDA_RUNTIME_H
#define EMULATED_CUDA_RUNTIME_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <type_traits>
#include <vector>

// -- the language

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __constant__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 { unsigned x, y, z; };
struct int2 { int x, y; };
struct float2 { float x, y; };
struct double2 { double x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

// The toolkit's headers of cuBLASLt, cuDNN and cuFFT take the types above and below for their own.
#define __CUDA_RUNTIME_API_H__
#define __DRIVER_TYPES_H__
#define __VECTOR_TYPES_H__
#define __CUDA_FP16_H__
#define __CUDA_BF16_H__
struct __half;
struct __nv_bfloat16;

namespace emulated {

// Work that waits until somebody waits for it. `put` and `owns` are virtual so that the stand-ins
// of CUDA's libraries can call them without being linked to the plug-in.
typedef std::function<int()> task;   // gives a cudaError_t

struct stream {
  std::mutex lock;
  std::deque<task> work;
  std::vector<task> *captured = nullptr;   // where work goes instead, while a graph is captured
  bool invalidated = false;                // by who waited for the stream meanwhile
  int failed = 0;                          // stays, as an asynchronous error of CUDA's does

  virtual ~stream() {}
  virtual void put(task item);
  // Whether those bytes are the device's, of one block.
  virtual bool owns(const void *at, size_t bytes);
  // Runs what waits, all of it, or until `over`. A stream runs at a time, since one may wait for
  // what is on another.
  int drain(const bool *over = nullptr);
};

// What the running thread sees of itself.
struct thread_view {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
extern thread_local thread_view *running;

void *dynamic_shared();
int launch(stream *on, dim3 grid, dim3 block, size_t shared, std::function<void()> body);
void wait_for_block();
void wait_for_warp(unsigned mask);
unsigned lane();
// Every lane of the mask gives eight bytes and gets those of lane `from` of its warp.
uint64_t exchange(unsigned mask, uint64_t value, unsigned from);
unsigned ballot(unsigned mask, bool yes);

template <typename T>
T shuffle(unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, from);
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulated

#define threadIdx (emulated::running->thread)
#define blockIdx (emulated::running->block)
#define blockDim (emulated::running->block_size)
#define gridDim (emulated::running->grid_size)
static const int warpSize = 32;

static inline void __syncthreads() { emulated::wait_for_block(); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulated::wait_for_warp(mask); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// Shuffles: `width` is a power of two, and lanes beyond it keep their own value, as CUDA's do.
template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  unsigned lane = emulated::lane();
  return emulated::shuffle(mask, value, (lane & ~(width - 1u)) | ((unsigned)from & (width - 1u)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  unsigned lane = emulated::lane(), from = lane ^ (unsigned)bits;
  bool inside = from < ((lane & ~(width - 1u)) + (unsigned)width);
  return emulated::shuffle(mask, value, inside ? from : lane);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  unsigned lane = emulated::lane();
  bool inside = (lane & (width - 1u)) + by < (unsigned)width;
  return emulated::shuffle(mask, value, inside ? lane + by : lane);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  unsigned lane = emulated::lane();
  bool inside = (lane & (width - 1u)) >= by;
  return emulated::shuffle(mask, value, inside ? lane - by : lane);
}
static inline unsigned __ballot_sync(unsigned mask, int yes) {
  return emulated::ballot(mask, yes != 0);
}
static inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
static inline int __all_sync(unsigned mask, int yes) {
  return __ballot_sync(mask, !yes) == 0;
}
static inline unsigned __activemask() { return 0xffffffffu; }

// -- atomic operations: one thread runs at a time. They give the value before.
template <typename T> T atomicAdd(T *at, T value) { T old = *at; *at = old + value; return old; }
template <typename T> T atomicMax(T *at, T value) {
  T old = *at;
  if (value > old) *at = value;
  return old;
}
template <typename T> T atomicMin(T *at, T value) {
  T old = *at;
  if (value < old) *at = value;
  return old;
}
template <typename T> T atomicOr(T *at, T value) { T old = *at; *at = old | value; return old; }
template <typename T> T atomicExch(T *at, T value) { T old = *at; *at = value; return old; }
template <typename T> T atomicCAS(T *at, T expected, T value) {
  T old = *at;
  if (old == expected) *at = value;
  return old;
}

// -- arithmetic
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
static inline int __float_as_int(float x) { int r; memcpy(&r, &x, 4); return r; }
static inline float __int_as_float(int x) { float r; memcpy(&r, &x, 4); return r; }
static inline unsigned __float_as_uint(float x) { unsigned r; memcpy(&r, &x, 4); return r; }
static inline float __uint_as_float(unsigned x) { float r; memcpy(&r, &x, 4); return r; }
template <typename T> T __ldg(const T *at) { return *at; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __fdividef(float x, float y) { return x / y; }
#define __expf(x) expf(x)   // glibc has functions of these names
#define __logf(x) logf(x)

// -- the runtime
typedef int cudaError_t;
enum {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureIsolation = 905,
};
typedef emulated::stream *cudaStream_t;
typedef struct emulated_event *cudaEvent_t;
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault,
};
enum { cudaStreamNonBlocking = 1 };
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t sharedMemPerBlockOptin;
};

cudaError_t cudaGetLastError();
const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaMemGetInfo(size_t *left, size_t *all);
cudaError_t cudaMalloc(void **block, size_t bytes);
enum { cudaHostAllocDefault = 0 };
cudaError_t cudaHostAlloc(void **block, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *block);
cudaError_t cudaFree(void *block);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaEventCreate(cudaEvent_t *event);
enum { cudaEventDisableTiming = 2 };
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to);

// What is put on a stream while it captures is kept, and runs when the graph is launched; a copy
// from the host reads the host's memory then. A graph cannot be launched there, nor can what is on
// another stream be waited for.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

#endif
