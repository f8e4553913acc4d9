// What a library leaves to do of a product's or a convolution's finish; see product.cuh.
#include <math.h>

#include "product.cuh"

product_finish cuda_plain_finish(void) {
  product_finish finish = {};
  finish.alpha = 1;
  finish.low = -INFINITY;
  finish.high = INFINITY;
  return finish;
}

template <typename T>
static __global__ void finish_elements(cuda_walk<3> walk, product_finish finish, moon_dtype dtype,
                                       void *out) {
  CUDA_EACH(i, walk.count) {
    int64_t at[3];   // out, add, channel
    walk.find(i, at);
    T sum = cuda_any<T>::load(dtype, out, at[0]);
    cuda_any<T>::store(dtype, out, at[0], product_finished(finish, sum, at[2], at[1]));
  }
}

moon_status cuda_finish(cuda_context *c, const product_finish &finish, const device_array *out,
                        const device_array *add, int channels) {
  bool limited = finish.low != -INFINITY || finish.high != INFINITY;
  if (!finish.scale && !finish.shift && !add && !limited) return MOON_OK;
  device_array channel = *out;
  for (int i = 0; i < out->ndim; i++) channel.strides[i] = i == channels;
  const device_array *arrays[3] = { out, add ? add : out, &channel };
  cuda_walk<3> walk;
  cuda_walk_open(&walk, arrays, true);
  return cuda_launch(c, cuda_blocks(walk.count), CUDA_BLOCK,
                     out->dtype == MOON_F64 ? finish_elements<double> : finish_elements<float>,
                     walk, finish, out->dtype, out->data);
}
