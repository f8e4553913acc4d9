// What the stand-ins of CUDA's libraries share. Each is a library with the real one's functions, as
// far as moonlet calls them, written down from their definition, for arrays of the emulated device.
//
// They are stricter than the real ones: an argument that the documentation does not allow ends the
// program with a sentence, since moonlet would take a status for a refusal and do the work itself.
// A status says only what is not supported. A call fails or refuses on purpose where EMULATED_FAULT
// in the environment names it: "cudnnConvolutionForward fails", "cublasLtMatmul refuses"; with
// "channels-last refuses" cuDNN takes arrays that are row-major alone, with "bfloat16 refuses" it
// is of a version whose recurrent networks have no bfloat16. With EMULATED_TRACE there, calls that
// plan or work print their names, and what they chose.
#ifndef EMULATED_STAND_IN_H
#define EMULATED_STAND_IN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime.h>

extern "C" {
#include "base/dtype.h"
}

#define STAND_IN extern "C" __attribute__((visibility("default")))

namespace stand_in {

static inline void need(bool allowed, const char *call, const char *what) {
  if (allowed) return;
  fprintf(stderr, "%s was called with %s\n", call, what);
  abort();
}

// `how` is "fails" or "refuses".
static inline bool faulty(const char *call, const char *how) {
  const char *fault = getenv("EMULATED_FAULT");
  size_t length = strlen(call);
  return fault && strncmp(fault, call, length) == 0 && fault[length] == ' ' &&
         strcmp(fault + length + 1, how) == 0;
}

static inline void trace(const char *call, int64_t chosen) {
  if (getenv("EMULATED_TRACE")) printf("%s %lld\n", call, (long long)chosen);
}

static inline double load(moon_dtype type, const void *data, int64_t i) {
  switch (type) {
    case MOON_F64: return ((const double *)data)[i];
    case MOON_F32: return (double)((const float *)data)[i];
    case MOON_F16: return (double)half_to_float(((const uint16_t *)data)[i]);
    default: return (double)bfloat_to_float(((const uint16_t *)data)[i]);
  }
}

static inline void store(moon_dtype type, void *data, int64_t i, double value) {
  switch (type) {
    case MOON_F64: ((double *)data)[i] = value; break;
    case MOON_F32: ((float *)data)[i] = (float)value; break;
    case MOON_F16: ((uint16_t *)data)[i] = half_from_float(dtype_odd_from_double(value)); break;
    default: ((uint16_t *)data)[i] = bfloat_from_float(dtype_odd_from_double(value)); break;
  }
}

// A factor as tensor cores read it: 10 bits of a float32's, to nearest.
static inline double tf32(double value) {
  float single = (float)value;
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  bits = (bits + 0x1000u) & ~0x1fffu;
  memcpy(&single, &bits, sizeof bits);
  return (double)single;
}

static inline bool aligned(const void *at, uint64_t bytes) { return (uint64_t)at % bytes == 0; }

// Memory that a call may use for itself: its own, aligned, and without what others need.
static inline void need_workspace(emulated::stream *on, const char *call, void *at, size_t given,
                                  size_t wanted) {
  need(given >= wanted, call, "less workspace than it needs");
  need(wanted == 0 || (at && aligned(at, 256)), call, "a workspace that does not lie on 256 bytes");
  need(wanted == 0 || on->owns(at, wanted), call, "a workspace that is not the device's");
}

}  // namespace stand_in

#endif
