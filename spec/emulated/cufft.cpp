// A stand-in of cuFFT: lines of complex numbers, in place, by the sum that defines the transform,
// split at the factors of its length. See stand_in.h.
#include "stand_in.h"

#include <cufft.h>

#include <complex>
#include <vector>

using namespace stand_in;

namespace {

enum { MOST_PLANS = 4096 };

struct fft_plan {
  bool allocates = true;
  cufftType type = CUFFT_C2C;
  int64_t n = 0, lines = 0;      // 0 before it was made
  size_t workspace = 0;
  void *area = nullptr;
  cudaStream_t on = nullptr;
};

fft_plan *plans[MOST_PLANS];     // a handle is a place in it; 0 is none

fft_plan *plan_at(cufftHandle handle, const char *call) {
  bool there = handle > 0 && handle < MOST_PLANS && plans[handle];
  need(there, call, "a handle that is no plan");
  return plans[handle];
}

typedef std::complex<double> number;

// out[k] = sum over j of x[j * step] circle[j k]: the sum itself for primes, else of the sums over
// every p-th element, p the smallest factor. `turn`: elements of the circle in one of 1 / n.
void sum_line(int64_t n, const number *x, int64_t step, const number *circle, int64_t turn,
              number *out) {
  int64_t p = 2;
  while (p * p <= n && n % p != 0) p++;
  if (n % p != 0) p = n;
  const int64_t m = n / p;
  std::vector<number> parts((size_t)n);
  for (int64_t i = 0; i < p && m > 1; i++)
    sum_line(m, x + i * step, step * p, circle, turn * p, &parts[(size_t)(i * m)]);
  for (int64_t i = 0; i < p && m == 1; i++) parts[(size_t)i] = x[i * step];
  for (int64_t k = 0; k < n; k++) {
    out[k] = 0;
    for (int64_t i = 0; i < p; i++)
      out[k] += parts[(size_t)(i * m + k % m)] * circle[i * k % n * turn];
  }
}

void transform(moon_dtype type, int64_t lines, int64_t n, int direction, void *pairs) {
  std::vector<number> circle((size_t)n), x((size_t)n), out((size_t)n);
  for (int64_t i = 0; i < n; i++)
    circle[(size_t)i] = std::polar(1.0, direction * 2 * M_PI * (double)i / (double)n);
  for (int64_t line = 0; line < lines; line++) {
    const int64_t first = 2 * line * n;
    for (int64_t i = 0; i < n; i++)
      x[(size_t)i] = { load(type, pairs, first + 2 * i), load(type, pairs, first + 2 * i + 1) };
    sum_line(n, x.data(), 1, circle.data(), 1, out.data());
    for (int64_t i = 0; i < n; i++) {
      store(type, pairs, first + 2 * i, out[(size_t)i].real());
      store(type, pairs, first + 2 * i + 1, out[(size_t)i].imag());
    }
  }
}

cufftResult execute(const char *call, cufftHandle handle, cufftType type, void *in, void *out,
                    int direction) {
  const fft_plan *p = plan_at(handle, call);
  moon_dtype dtype = type == CUFFT_Z2Z ? MOON_F64 : MOON_F32;
  size_t bytes = (size_t)(2 * p->n * p->lines) * dtype_size(dtype);
  need(p->n > 0 && p->type == type, call, "a plan that was not made for it");
  need(in == out, call, "two arrays, where this stand-in works in place");
  need(direction == CUFFT_FORWARD || direction == CUFFT_INVERSE, call, "no direction");
  need(p->on != nullptr, call, "a plan without a stream");
  need(p->on->owns(in, bytes) && aligned(in, 2 * dtype_size(dtype)), call,
       "numbers that are not the device's, or lie badly");
  need_workspace(p->on, call, p->area, p->workspace, p->workspace);
  trace(call, direction);
  if (faulty(call, "fails")) return CUFFT_EXEC_FAILED;
  void *area = p->area;
  int64_t lines = p->lines, n = p->n, workspace = (int64_t)p->workspace;
  p->on->put([=] {
    memset(area, 0x5A, (size_t)workspace);
    transform(dtype, lines, n, direction, in);
    return 0;
  });
  return CUFFT_SUCCESS;
}

}  // namespace

STAND_IN cufftResult cufftGetVersion(int *version) {
  *version = CUFFT_VERSION;
  return CUFFT_SUCCESS;
}

STAND_IN cufftResult cufftCreate(cufftHandle *handle) {
  for (int i = 1; i < MOST_PLANS; i++) {
    if (plans[i]) continue;
    plans[i] = new fft_plan();
    *handle = i;
    return CUFFT_SUCCESS;
  }
  return CUFFT_ALLOC_FAILED;
}

STAND_IN cufftResult cufftDestroy(cufftHandle handle) {
  delete plan_at(handle, "cufftDestroy");
  plans[handle] = nullptr;
  return CUFFT_SUCCESS;
}

STAND_IN cufftResult cufftSetStream(cufftHandle handle, cudaStream_t on) {
  plan_at(handle, "cufftSetStream")->on = on;
  return CUFFT_SUCCESS;
}

STAND_IN cufftResult cufftSetAutoAllocation(cufftHandle handle, int on) {
  fft_plan *p = plan_at(handle, "cufftSetAutoAllocation");
  need(p->n == 0, "cufftSetAutoAllocation", "a plan that was made already");
  p->allocates = on != 0;
  return CUFFT_SUCCESS;
}

STAND_IN cufftResult cufftMakePlanMany64(cufftHandle handle, int rank, long long *n,
                                         long long *in_embed, long long in_stride,
                                         long long in_distance, long long *out_embed,
                                         long long out_stride, long long out_distance,
                                         cufftType type, long long batch, size_t *workspace) {
  const char *call = "cufftMakePlanMany64";
  fft_plan *p = plan_at(handle, call);
  need(!p->allocates, call, "a plan that would allocate its own work area");
  need(p->n == 0, call, "a plan that was made already");
  need(rank == 1 && n && *n >= 1 && batch >= 1, call, "sizes below 1, or not of lines");
  need(!in_embed && !out_embed && in_stride == 1 && out_stride == 1 && in_distance == *n &&
           out_distance == *n, call, "lines that do not lie side by side");
  need(type == CUFFT_C2C || type == CUFFT_Z2Z, call, "a type that this stand-in has not");
  trace(call, *n);
  if (faulty(call, "refuses")) return CUFFT_NOT_SUPPORTED;
  p->type = type;
  p->n = *n;
  p->lines = batch;
  p->workspace = *n % 2 == 0 ? 0 : (size_t)(*n * batch) * sizeof(double);   // as some need none
  *workspace = p->workspace;
  return CUFFT_SUCCESS;
}

STAND_IN cufftResult cufftSetWorkArea(cufftHandle handle, void *area) {
  fft_plan *p = plan_at(handle, "cufftSetWorkArea");
  if (!area) return CUFFT_INVALID_VALUE;
  p->area = area;
  return CUFFT_SUCCESS;
}

STAND_IN cufftResult cufftExecC2C(cufftHandle handle, cufftComplex *in, cufftComplex *out,
                                  int direction) {
  return execute("cufftExecC2C", handle, CUFFT_C2C, in, out, direction);
}

STAND_IN cufftResult cufftExecZ2Z(cufftHandle handle, cufftDoubleComplex *in,
                                  cufftDoubleComplex *out, int direction) {
  return execute("cufftExecZ2Z", handle, CUFFT_Z2Z, in, out, direction);
}
