// The largest element of a line and the sum of its exponentials below it, in one pass: what softmax
// and cross entropy are made of. A thread keeps both for what it has seen, and scales its sum down
// when a larger element comes; NaN spreads.
#ifndef MOON_KERNELS_EXPONENTIALS_CUH
#define MOON_KERNELS_EXPONENTIALS_CUH

#include "lines.cuh"

// sum over i of exp(x[i] - shift()) is `sum`. Nothing but minus infinity: shifted by 0, so that a
// NaN among it is not lost.
template <typename T>
struct cuda_exponentials {
  T largest = -(T)INFINITY, sum = 0;

  __device__ T shift() const { return largest == -(T)INFINITY ? (T)0 : largest; }
  __device__ void grow(T value) {
    T before = largest;
    largest = value;
    sum *= exp(before - shift());
  }
  template <int WIDTH>
  __device__ void take(const T *values) {
    T most = largest;
    for (int v = 0; v < WIDTH; v++) most = cuda_larger()(most, values[v]);
    if (most > largest) grow(most);
    T from = shift();
    for (int v = 0; v < WIDTH; v++) sum += exp(values[v] - from);
  }
};

// Of operand K's elements of a whole line.
template <typename S, int WIDTH, int K, int N>
__device__ cuda_exponentials<cuda_compute<S>> cuda_exponentials_of(const cuda_lines<N> &lines,
                                                                   const cuda_team &team,
                                                                   const cuda_line<N> &line,
                                                                   const void *x) {
  typedef cuda_compute<S> T;
  cuda_exponentials<T> own;
  for (int64_t i = (int64_t)team.lane * WIDTH; i < line.size; i += (int64_t)team.lanes * WIDTH) {
    T values[WIDTH];
    cuda_load_wide<S, WIDTH>(x, line.find(lines, K, i), values);
    own.template take<WIDTH>(values);
  }
  own.grow(team.join(own.largest, cuda_larger()));
  own.sum = team.join(own.sum, cuda_sum());
  return own;
}

#endif
