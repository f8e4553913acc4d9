// Sums of products over a depth, the common form of matrix products and of all three directions
// of a convolution:
//
//   out[row][column] = finish(sum over depth of a[row][depth] * b[depth][column])
//
// once for each member of a batch (a stack's matrices, a convolution's groups). Rows and depth
// may have several dimensions, and an element of an array lies where the steps along all of them
// lead. `a` may be an image with a border of zeros: its elements have coordinates too, and one
// outside of height x width counts as 0. So a convolution is a product that nobody has to unfold
// in memory.
#ifndef MOON_KERNELS_PRODUCT_CUH
#define MOON_KERNELS_PRODUCT_CUH

#include "walk.cuh"

enum { PRODUCT_DIMS = 3 };

// A dimension and what a step along it adds to the place in each array, in elements, and to a's
// coordinates.
struct product_dim { int64_t size, a, b, out, add, row, column; };

struct product_axis {
  int ndim;
  product_dim dims[PRODUCT_DIMS];
};

struct product_array {
  void *data;             // of the element at (0, ..., 0)
  moon_dtype dtype;
  int64_t batch_stride;
};

// sum * alpha * scale + shift + add * beta, between low and high; NaN stays. Vectors have an
// element for each column, data NULL where there is none; those of the batch's next member begin
// `next_channels` elements on.
struct product_finish {
  double alpha, beta, low, high;
  product_array add;
  const void *scale, *shift;
  moon_dtype scale_dtype, shift_dtype;
  int64_t scale_stride, shift_stride, next_channels;
};

// What leaves sums as they are.
product_finish cuda_plain_finish(void);

// `channel` counts the vectors' elements, `add_at` says where what is added lies.
template <typename T>
static __device__ T product_finished(const product_finish &f, T sum, int64_t channel,
                                     int64_t add_at) {
  T value = sum * (T)f.alpha;
  if (f.scale) value *= cuda_any<T>::load(f.scale_dtype, f.scale, channel * f.scale_stride);
  if (f.shift) value += cuda_any<T>::load(f.shift_dtype, f.shift, channel * f.shift_stride);
  if (f.add.data) value += (T)f.beta * cuda_any<T>::load(f.add.dtype, f.add.data, add_at);
  if (value < (T)f.low) value = (T)f.low;
  if (value > (T)f.high) value = (T)f.high;
  return value;
}

struct product_problem {
  int64_t batch;
  product_axis rows, columns, depth;
  product_array a, b, out;
  int64_t height, width;           // of the image a; 1 and 1 where it has no border
  int64_t first_row, first_column; // a's coordinates at (0, ..., 0)
  product_finish finish;
};

// Puts it on the stream. float64 arrays are calculated in double, others, mixed as they like, in
// float32.
moon_status cuda_product(cuda_context *c, const product_problem *problem);

// Finishes sums that a library left in `out`: one pass, bound by memory, and none where nothing is
// to be done. `add` has out's shape, NULL where nothing is added; dimension `channels` is that of
// the vectors.
moon_status cuda_finish(cuda_context *c, const product_finish &finish, const device_array *out,
                        const device_array *add, int channels);

#endif
