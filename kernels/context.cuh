// What a slot works with: one engine's stream, memory and library handles on one device.
//
// A slot of kernels.def is here a function cuda_<slot>(cuda_context *c, ...): it puts its work on
// the context's stream and does not wait for it, unless it has to tell the host something. The
// table in plugin.cu finds the context and reports what went wrong.
#ifndef MOON_KERNELS_CONTEXT_CUH
#define MOON_KERNELS_CONTEXT_CUH

#include <stdint.h>

#include <cuda_runtime.h>

extern "C" {
#include "base/dtype.h"
#include "base/status.h"
#include "device/cuda.h"
}

#include "memory.cuh"

struct cuda_graph;

// A pinned buffer on the host; `done`: when the copy that reads it is over.
struct cuda_stage {
  void *host;
  size_t bytes;
  cudaEvent_t done;
};
enum { CUDA_STAGES = 4 };

struct cuda_context {
  moon_engine *engine;
  int device;
  cudaStream_t stream;
  cudaEvent_t asked;     // what was asked of the stream until others followed it (memory.cuh), or
                         // until it was recorded
  cuda_pool pool;
  bool flags[CUDA_FLAGS];
  cuda_stage stages[CUDA_STAGES];   // transfer.cu; used in turns
  int next_stage;
  struct cublaslt_state *cublaslt;   // what CUDA's libraries keep (libraries.cuh); NULL before
  struct cudnn_state *cudnn;
  struct cudnn_choices *choices;
  struct cudnn_rnn_state *cudnn_rnn;
  struct cufft_state *cufft;
  std::mutex graphs_lock;   // graph.cuh: of the list, which any thread that releases memory reads
  cuda_graph *graphs;       // all, the one that is recorded, the one whose next run's
  cuda_graph *recording, *refreshing;   // values are calculated
};

// Where memory comes from now.
cuda_pool *cuda_pool_of(cuda_context *c);

// What the library gave when it opened the plug-in (plugin.cu).
extern const cuda_host *cuda_library;

// Begins a range of the profiler's, NULL ends the innermost (ranges.cu).
void cuda_range(const char *name);

// One prototype a slot, with the context where the engine stands.
#define moon_engine cuda_context
#define KERNEL(name, arguments) moon_status cuda_##name arguments;
#include "device/kernels.def"
#undef KERNEL
#undef moon_engine

// Returns from the calling function with the call's text and CUDA's words when it fails.
#define CUDA_TRY(call)                                                        \
  do {                                                                        \
    cudaError_t cuda_error_ = (call);                                         \
    if (cuda_error_ != cudaSuccess) return cuda_failed(#call, cuda_error_);   \
  } while (0)
moon_status cuda_failed(const char *call, cudaError_t error);

// Memory of the device for the length of a slot: given back to the context's pool at the end of
// the block, where work that is already on the stream may still use it.
class cuda_scratch {
 public:
  explicit cuda_scratch(cuda_context *context) : context_(context) {}
  ~cuda_scratch() { cuda_pool_release(cuda_pool_of(context_), block_, bytes_); }
  cuda_scratch(const cuda_scratch &) = delete;
  cuda_scratch &operator=(const cuda_scratch &) = delete;
  moon_status take(size_t bytes) {
    moon_status status = cuda_pool_take(cuda_pool_of(context_), bytes, &block_);
    bytes_ = status == MOON_OK ? bytes : 0;
    return status;
  }
  template <typename T> T *as() const { return (T *)block_; }

 private:
  cuda_context *context_;
  void *block_ = nullptr;
  size_t bytes_ = 0;
};

// Copies between the host and the device, in order with the stream's work. What goes up may be
// overwritten at once; what comes down is waited for.
moon_status cuda_upload(cuda_context *c, const void *host, void *device, size_t bytes);
moon_status cuda_download(cuda_context *c, const void *device, void *host, size_t bytes);

#endif
