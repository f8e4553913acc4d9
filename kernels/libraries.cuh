// CUDA's own libraries, which are fast where this repository's kernels are merely right:
// cuBLASLt for matrix products, cuDNN for convolutions and recurrent layers (whose slots are in
// cudnn_rnn.cu), cuFFT for transforms. They are opened at run time, so that the plug-in needs none
// of them: where one is missing, too old, or does not take a problem, its function says so by
// `done` and our own kernel does the work. The emulated device has stand-ins of them
// (spec/emulated), where it was built with the toolkit's headers.
//
// Each library has a file: its table of functions, what it keeps for a context (a handle and
// plans for the shapes met so far), and the one entry that a slot calls.
#ifndef MOON_KERNELS_LIBRARIES_CUH
#define MOON_KERNELS_LIBRARIES_CUH

#include <string.h>

#include "context.cuh"

// `found` has a place for each of the three, in the order above. First they are named alone; then,
// where there is a device to use them, opened.
void cuda_libraries_name(cuda_library_state *found);
void cuda_libraries_open(cuda_library_state *found);
// Ends what they keep for a context, whose work is done.
void cuda_libraries_close(cuda_context *c);

// c = alpha * a b + beta * c, as the slot matmul; what it does of `finish` it takes out of it
moon_status cublaslt_matmul(cuda_context *c, double alpha, const device_array *a,
                            const device_array *b, double beta, matmul_finish *finish,
                            const device_array *out, bool *done);

// The direction's array (0: result, 1: image, 2: weight) from the other two, without a finish; of
// images or, with three sides, volumes
enum cuda_direction { CUDA_FORWARD, CUDA_BACKWARD_IMAGE, CUDA_BACKWARD_WEIGHT };
struct cuda_geometry {
  int sides;
  const int64_t *stride, *padding_before, *padding_after, *dilation;
  int64_t groups;
};
template <typename Geometry>
cuda_geometry cuda_geometry_of(const Geometry *g) {
  return { (int)(sizeof g->stride / sizeof *g->stride), g->stride, g->padding_before,
           g->padding_after, g->dilation, g->groups };
}
struct cuda_convolution {
  cuda_direction direction;
  cuda_geometry geometry;
  const device_array *image, *weight, *result;
};
moon_status cudnn_convolve(cuda_context *c, const cuda_convolution &problem, bool *done);
// Whether it would; only shapes and types are read.
moon_status cudnn_takes(cuda_context *c, const cuda_convolution &problem, bool *takes);
bool cudnn_is_there(void);
// Reads what was chosen among cuDNN's algorithms before, and keeps in the file what will be.
moon_status cudnn_keep_choices(cuda_context *c, const char *path, const char *text);

// `lines` transforms of length n, side by side, in place, without a scale: pairs of dtype's numbers
moon_status cufft_transform(cuda_context *c, moon_dtype dtype, int64_t lines, int64_t n,
                            bool inverse, void *pairs, bool *done);

// A library while its functions are looked up; `failed` once one of them was not there.
struct cuda_opening {
  cuda_library_state *found;
  void *library;
  bool failed;
};
cuda_opening cuda_library_begin(cuda_library_state *found, const char *name, int major);
void *cuda_library_function(cuda_opening *opening, const char *name);
// Says what was found: `version` counts where its `major` is the one that was compiled for.
bool cuda_library_end(cuda_opening *opening, int64_t version, int major, int wanted);
// The sentence of a call that failed; what the library does not support is no failure.
moon_status cuda_library_failed(const cuda_context *c, const char *call, const char *status);

bool cublaslt_open(cuda_library_state *found);
bool cudnn_open(cuda_library_state *found);
bool cufft_open(cuda_library_state *found);
void cublaslt_close(cuda_context *c);
void cudnn_close(cuda_context *c);
void cufft_close(cuda_context *c);

// FNV-1a over bytes. Its low bits know of nothing but the bytes' low bits, which are the same in
// many of a network's sizes, so the high ones are mixed in.
static inline uint64_t cuda_hash(const void *bytes, size_t size) {
  uint64_t hash = UINT64_C(14695981039346656037);
  for (size_t i = 0; i < size; i++)
    hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(1099511628211);
  return hash ^ hash >> 32;
}

// The plan for a key in a table of `count`, or the one that is to become it: not `used`, or, where
// all the places that it may take are, another key's. Keys are compared byte by byte.
template <typename Plan, typename Key>
Plan *cuda_plan_find(Plan *plans, unsigned count, const Key &key) {
  const unsigned places = 16, first = (unsigned)(cuda_hash(&key, sizeof key) % count);
  for (unsigned i = 0; i < places; i++) {
    Plan *plan = &plans[(first + i) % count];
    if (!plan->used || memcmp(&plan->key, &key, sizeof key) == 0) return plan;
  }
  return &plans[first];
}

#endif
