// cuFFT behind the Fourier slots: lines that lie side by side in scratch are transformed in
// place. A plan is kept for each length and number of lines; its work area comes from the pool.
#include "libraries.cuh"

#include <stdio.h>
#include <stdlib.h>

#include <cufft.h>

#define CUFFT_FUNCTIONS(F)                                                              \
  F(cufftGetVersion) F(cufftCreate) F(cufftDestroy) F(cufftSetStream)                   \
  F(cufftSetAutoAllocation) F(cufftMakePlanMany64) F(cufftSetWorkArea) F(cufftExecC2C)  \
  F(cufftExecZ2Z)

struct cufft_functions {
#define F(name) decltype(&::name) name;
  CUFFT_FUNCTIONS(F)
#undef F
};

static cufft_functions ft;
static bool there;

bool cufft_open(cuda_library_state *found) {
  int version = 0;
  cuda_opening opening = cuda_library_begin(found, "cufft", CUFFT_VER_MAJOR);
#define F(name) ft.name = (decltype(ft.name))cuda_library_function(&opening, #name);
  CUFFT_FUNCTIONS(F)
#undef F
  if (!opening.failed && ft.cufftGetVersion(&version) != CUFFT_SUCCESS) version = 0;
  there = cuda_library_end(&opening, version, version / 1000, CUFFT_VER_MAJOR);
  return there;
}

enum { PLANS = 32 };

struct fft_key { int64_t n, lines, dtype; };

struct fft_plan {
  bool used, fits;
  bool recorded;       // by a graph, which reads the plan's tables in each run: it stays
  fft_key key;
  cufftHandle handle;
  size_t workspace;
};

struct cufft_state { fft_plan plans[PLANS]; };

void cufft_close(cuda_context *c) {
  for (int i = 0; c->cufft && i < PLANS; i++)
    if (c->cufft->plans[i].used) ft.cufftDestroy(c->cufft->plans[i].handle);
  free(c->cufft);
  c->cufft = nullptr;
}

static bool agreed(cufftResult result) { return result == CUFFT_SUCCESS; }

static bool make_plan(cuda_context *c, fft_plan *plan) {
  long long n = plan->key.n;
  cufftType type = plan->key.dtype == MOON_F64 ? CUFFT_Z2Z : CUFFT_C2C;
  return agreed(ft.cufftSetAutoAllocation(plan->handle, 0)) &&
         agreed(ft.cufftMakePlanMany64(plan->handle, 1, &n, nullptr, 1, n, nullptr, 1, n, type,
                                       plan->key.lines, &plan->workspace)) &&
         agreed(ft.cufftSetStream(plan->handle, c->stream));
}

// A plan that could not be made stays in its place, so that the library is not asked again. One
// that makes room waits for the work that may still use it. None is made while a graph is recorded,
// when nothing can be waited for, and when the library has crashed over large primes (CuPy's issue
// 7559). *found is nullptr where that, or a plan that a graph runs, stands in the way.
static moon_status plan_of(cuda_context *c, const fft_key &key, fft_plan **found) {
  fft_plan *plan = cuda_plan_find(c->cufft->plans, PLANS, key);
  bool same = plan->used && memcmp(&plan->key, &key, sizeof key) == 0;
  bool stays = !same && (plan->recorded || c->recording);
  *found = stays ? nullptr : plan;
  if (stays || same) return MOON_OK;
  if (plan->used) {
    CUDA_TRY(cudaStreamSynchronize(c->stream));
    ft.cufftDestroy(plan->handle);
  }
  *plan = fft_plan();
  plan->key = key;
  plan->used = agreed(ft.cufftCreate(&plan->handle));
  plan->fits = plan->used && make_plan(c, plan);
  return MOON_OK;
}

moon_status cufft_transform(cuda_context *c, moon_dtype dtype, int64_t lines, int64_t n,
                            bool inverse, void *pairs, bool *done) {
  const int direction = inverse ? CUFFT_INVERSE : CUFFT_FORWARD;
  cuda_scratch workspace(c);
  fft_plan *plan;
  *done = false;
  if (!there || n < 2) return MOON_OK;
  if (!c->cufft) c->cufft = (cufft_state *)calloc(1, sizeof *c->cufft);
  if (!c->cufft) return MOON_OK;
  MOON_TRY(plan_of(c, { n, lines, dtype }, &plan));
  if (!plan || !plan->fits) return MOON_OK;
  plan->recorded = plan->recorded || c->recording;
  MOON_TRY(workspace.take(plan->workspace > 0 ? plan->workspace : 1));   // it wants a pointer
  if (!agreed(ft.cufftSetWorkArea(plan->handle, workspace.as<void>()))) return MOON_OK;
  cufftResult result =
      dtype == MOON_F64
          ? ft.cufftExecZ2Z(plan->handle, (cufftDoubleComplex *)pairs, (cufftDoubleComplex *)pairs,
                            direction)
          : ft.cufftExecC2C(plan->handle, (cufftComplex *)pairs, (cufftComplex *)pairs, direction);
  *done = agreed(result);
  if (*done) cuda_library->chose(c->engine, "cufft");
  if (*done || result == CUFFT_NOT_SUPPORTED) return MOON_OK;
  char status[32];
  snprintf(status, sizeof status, "cufftResult %d", (int)result);
  return cuda_library_failed(c, dtype == MOON_F64 ? "cufftExecZ2Z" : "cufftExecC2C", status);
}
