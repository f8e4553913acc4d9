// Opening CUDA's libraries, and what their files share; see libraries.cuh.
#include "libraries.cuh"

#include <stdio.h>

void cuda_libraries_name(cuda_library_state *found) {
  static const char *const names[3] = { "cublaslt", "cudnn", "cufft" };
  for (int i = 0; i < 3; i++)
    found[i] = { names[i], 0, "it is not looked for before a device was found" };
}

#if !defined(CUDA_WITHOUT_LIBRARIES)

enum { MISSING_BYTES = 160 };
static char sentences[CUDA_LIBRARIES][MISSING_BYTES];   // written while the plug-in is opened

static void set_missing(cuda_library_state *found, const char *format, const char *what) {
  static int used;
  char *sentence = sentences[used++ % CUDA_LIBRARIES];
  snprintf(sentence, MISSING_BYTES, format, what);
  found->missing = sentence;
}

cuda_opening cuda_library_begin(cuda_library_state *found, const char *name, int major) {
  char file[64];
#if defined(__CUDACC__)
  snprintf(file, sizeof file, "lib%s.so.%d", name, major);
#else   // NVIDIA's own know nothing of emulated streams
  snprintf(file, sizeof file, "libemulated_%s.so", name);
  (void)major;
#endif
  cuda_opening opening = { found, cuda_library->library(file), false };
  found->version = 0;
  found->missing = nullptr;
  if (!opening.library) {
    set_missing(found, "%s was not found", file);
    opening.failed = true;
  }
  return opening;
}

void *cuda_library_function(cuda_opening *opening, const char *name) {
  if (opening->failed) return nullptr;
  void *function = cuda_library->symbol(opening->library, name);
  if (!function) {
    set_missing(opening->found, "it has no function %s", name);
    opening->failed = true;
  }
  return function;
}

bool cuda_library_end(cuda_opening *opening, int64_t version, int major, int wanted) {
  char numbers[48];
  if (opening->failed) return false;
  if (major != wanted) {
    snprintf(numbers, sizeof numbers, "%d, this plug-in needs %d", major, wanted);
    set_missing(opening->found, "its major version is %s", numbers);
    return false;
  }
  opening->found->version = (int)version;
  return true;
}

moon_status cuda_library_failed(const cuda_context *c, const char *call, const char *status) {
  return moon_fail(MOON_BAD_DEVICE, "%s failed on cuda:%d: %s", call, c->device, status);
}

void cuda_libraries_open(cuda_library_state *found) {
  cublaslt_open(&found[0]);
  cudnn_open(&found[1]);
  cufft_open(&found[2]);
}

void cuda_libraries_close(cuda_context *c) {
  cublaslt_close(c);
  cudnn_close(c);
  cufft_close(c);
}

#else

void cuda_libraries_open(cuda_library_state *found) {
  for (int i = 0; i < 3; i++) found[i].missing = "this plug-in was built without its header";
}

void cuda_libraries_close(cuda_context *) {}

moon_status cublaslt_matmul(cuda_context *, double, const device_array *, const device_array *,
                            double, matmul_finish *, const device_array *, bool *done) {
  *done = false;
  return MOON_OK;
}

moon_status cudnn_convolve(cuda_context *, const cuda_convolution &, bool *done) {
  *done = false;
  return MOON_OK;
}

moon_status cudnn_takes(cuda_context *, const cuda_convolution &, bool *takes) {
  *takes = false;
  return MOON_OK;
}

bool cudnn_is_there(void) { return false; }

moon_status cudnn_keep_choices(cuda_context *, const char *, const char *) { return MOON_OK; }

moon_status cuda_recurrent_offered(cuda_context *, const recurrent_options *, bool *offered,
                                   int64_t *) {
  *offered = false;
  return MOON_OK;
}

moon_status cuda_recurrent_forward(cuda_context *, const recurrent_options *,
                                   const recurrent_arrays *, bool *done) {
  *done = false;
  return MOON_OK;
}

moon_status cuda_recurrent_backward(cuda_context *, const recurrent_options *,
                                    const recurrent_arrays *) {
  return moon_fail(MOON_UNSUPPORTED, "this plug-in was built without cuDNN's header");
}

moon_status cufft_transform(cuda_context *, moon_dtype, int64_t, int64_t, bool, void *,
                            bool *done) {
  *done = false;
  return MOON_OK;
}

#endif
