// Visiting arrays of one shape together on the GPU: a thread turns the number of an element into
// where it lies in each operand. Dimensions are merged where every operand allows it, so that dense
// arrays become one run; divisions by what is left are multiplications while numbers fit 31 bits.
#ifndef MOON_KERNELS_WALK_CUH
#define MOON_KERNELS_WALK_CUH

#include "types.cuh"

// Division by a constant of 1 to 2^31 - 1 of numbers below 2^31, as a multiplication and a shift
// (Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI 1994).
struct cuda_divisor {
  uint32_t by, factor;
  int shift;
};

static inline cuda_divisor cuda_divisor_of(uint32_t by) {
  int shift = 0;
  while (shift < 32 && (UINT64_C(1) << shift) < by) shift++;
  uint64_t factor = ((UINT64_C(1) << 32) * ((UINT64_C(1) << shift) - by)) / by + 1;
  return { by, (uint32_t)factor, shift };
}

__host__ __device__ inline uint32_t cuda_divide(uint32_t n, cuda_divisor d) {
  uint32_t high = (uint32_t)(((uint64_t)n * d.factor) >> 32);
  return (high + n) >> d.shift;
}

template <int N>
struct cuda_walk {
  int64_t count;
  int ndim;                              // at least 1
  bool narrow;                           // count fits 31 bits: the divisors serve
  int64_t shape[MOON_MAX_DIMS];
  int64_t strides[N][MOON_MAX_DIMS];     // in elements
  cuda_divisor divisors[MOON_MAX_DIMS];  // by shape, where it is narrow

  // Whether every operand's elements lie one after the other, in the walk's order.
  bool flat() const {
    for (int k = 0; k < N; k++)
      if (ndim != 1 || strides[k][0] != 1) return false;
    return true;
  }

  // Where element i lies in each operand.
  __host__ __device__ void find(int64_t i, int64_t (&offsets)[N]) const {
    for (int k = 0; k < N; k++) offsets[k] = 0;
    if (narrow) {
      uint32_t rest = (uint32_t)i;
      CUDA_ROLLED
      for (int d = ndim - 1; d > 0; d--) {
        uint32_t outer = cuda_divide(rest, divisors[d]), at = rest - outer * divisors[d].by;
        for (int k = 0; k < N; k++) offsets[k] += at * strides[k][d];
        rest = outer;
      }
      for (int k = 0; k < N; k++) offsets[k] += rest * strides[k][0];
      return;
    }
    CUDA_ROLLED
    for (int d = ndim - 1; d > 0; d--) {
      int64_t outer = i / shape[d], at = i - outer * shape[d];
      for (int k = 0; k < N; k++) offsets[k] += at * strides[k][d];
      i = outer;
    }
    for (int k = 0; k < N; k++) offsets[k] += i * strides[k][0];
  }
};

static inline int64_t cuda_magnitude(int64_t stride) { return stride < 0 ? -stride : stride; }

// Whether channels of (n, c, inner) lie closer together than the elements of one.
static inline bool cuda_by_pixels(const device_array *x) {
  int64_t next = x->shape[2] > 1 ? x->strides[2] : x->strides[0];
  return x->shape[1] > 1 && cuda_magnitude(x->strides[1]) < cuda_magnitude(next);
}

// Insertion sort: the first operand's strides fall from the outermost dimension to the innermost.
template <int N>
void cuda_walk_sort(cuda_walk<N> *walk) {
  auto swap = [](int64_t *a, int64_t *b) { int64_t kept = *a; *a = *b; *b = kept; };
  for (int i = 1; i < walk->ndim; i++) {
    for (int j = i; j > 0; j--) {
      if (cuda_magnitude(walk->strides[0][j]) <= cuda_magnitude(walk->strides[0][j - 1])) break;
      swap(&walk->shape[j], &walk->shape[j - 1]);
      for (int k = 0; k < N; k++) swap(&walk->strides[k][j], &walk->strides[k][j - 1]);
    }
  }
}

template <int N>
void cuda_walk_merge(cuda_walk<N> *walk) {
  int last = 0;
  for (int i = 1; i < walk->ndim; i++) {
    bool merged = true;
    for (int k = 0; k < N; k++)
      if (walk->strides[k][last] != walk->strides[k][i] * walk->shape[i]) merged = false;
    int64_t outer = walk->shape[last];
    if (!merged) last++;
    walk->shape[last] = merged ? outer * walk->shape[i] : walk->shape[i];
    for (int k = 0; k < N; k++) walk->strides[k][last] = walk->strides[k][i];
  }
  walk->ndim = last + 1;
}

// Opens a walk over arrays of arrays[0]'s shape (strides of 0 broadcast). `reorder` lets it go in
// the order of the first operand's memory; else it is row-major. Dimensions in the mask `without`
// are left out.
template <int N>
void cuda_walk_open(cuda_walk<N> *walk, const device_array *const (&arrays)[N], bool reorder,
                    unsigned without = 0) {
  walk->ndim = 0;
  walk->count = 1;
  for (int i = 0; i < arrays[0]->ndim; i++) {
    if (arrays[0]->shape[i] == 1 || (without >> i & 1)) continue;
    walk->shape[walk->ndim] = arrays[0]->shape[i];
    walk->count *= arrays[0]->shape[i];
    for (int k = 0; k < N; k++) walk->strides[k][walk->ndim] = arrays[k]->strides[i];
    walk->ndim++;
  }
  if (walk->ndim == 0) {
    walk->ndim = 1;
    walk->shape[0] = 1;
    for (int k = 0; k < N; k++) walk->strides[k][0] = 1;
  }
  if (reorder) cuda_walk_sort(walk);
  cuda_walk_merge(walk);
  walk->narrow = walk->count <= INT32_MAX;
  for (int i = 0; i < walk->ndim && walk->narrow && walk->count > 0; i++)
    walk->divisors[i] = cuda_divisor_of((uint32_t)walk->shape[i]);
}

#endif
