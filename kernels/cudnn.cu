// cuDNN behind the convolution slots. Arrays are given to it dense, of one type, channels last
// (double's row-major) and from multiples of 16 bytes on, as its tensor cores read them; what lies
// otherwise is copied there and back. Padding that is not the same on both sides becomes part of
// the image's copy.
#include "cudnn_plan.cuh"

#include <string.h>

enum { IMAGES, CHANNELS, HEIGHT, WIDTH };
enum { ALIGNED = 16 };

// -- arrays in the library's form

struct dnn_form {
  explicit dnn_form(cuda_context *c) : scratch(c) {}
  cuda_scratch scratch;
  device_array array;          // dense, of the common type, with the border
  device_array inside;         // the part of it that is the given array's
};

// The form of x, with `extra` rows and columns more; its data is still x's.
static device_array form_of(const device_array *x, moon_dtype dtype, const int64_t (&extra)[2]) {
  static const int orders[2][4] = { { WIDTH, HEIGHT, CHANNELS, IMAGES },
                                    { CHANNELS, WIDTH, HEIGHT, IMAGES } };
  device_array form = *x;
  int64_t stride = 1;
  form.dtype = dtype;
  for (int i = 0; i < 2; i++) form.shape[HEIGHT + i] += extra[i];
  for (int i = 0; i < 4; i++) {
    int dim = orders[cudnn_channels_last(dtype)][i];
    form.strides[dim] = stride;
    stride *= form.shape[dim];
  }
  return form;
}

static bool same_place(const device_array *x, const device_array *form) {
  if (x->dtype != form->dtype || (uintptr_t)x->data % ALIGNED != 0) return false;
  for (int i = 0; i < 4; i++) {
    if (x->shape[i] != form->shape[i]) return false;
    if (x->shape[i] != 1 && x->strides[i] != form->strides[i]) return false;
  }
  return true;
}

static moon_status open_form(cuda_context *c, const device_array *x, moon_dtype dtype,
                             const int64_t (&front)[2], const int64_t (&back)[2], bool read,
                             dnn_form *form) {
  const int64_t extra[2] = { front[0] + back[0], front[1] + back[1] };
  size_t size = dtype_size(dtype);
  form->array = form_of(x, dtype, extra);
  if (same_place(x, &form->array)) {
    form->inside = *x;
    return MOON_OK;
  }
  MOON_TRY(form->scratch.take((size_t)array_count(&form->array) * size));
  form->array.data = form->scratch.as<void>();
  form->inside = form->array;
  for (int i = 0; i < 2; i++) {
    form->inside.shape[HEIGHT + i] = x->shape[HEIGHT + i];
    form->inside.data = (char *)form->inside.data +
                        front[i] * form->array.strides[HEIGHT + i] * (int64_t)size;
  }
  if (!read) return MOON_OK;
  if (extra[0] + extra[1] > 0) MOON_TRY(cuda_fill(c, 0, &form->array));
  return cuda_copy(c, x, &form->inside);
}

static moon_status close_form(cuda_context *c, const dnn_form *form, const device_array *x) {
  return form->inside.data == x->data ? MOON_OK : cuda_copy(c, &form->inside, x);
}

// -- the entry

static bool set_sizes(const device_array *x, int32_t (&sizes)[4]) {
  int64_t count = 1;
  for (int i = 0; i < 4; i++) {
    if (x->shape[i] > INT32_MAX || x->shape[i] < 1) return false;
    count *= x->shape[i];
    if (count > INT32_MAX) return false;
    sizes[i] = (int32_t)x->shape[i];
  }
  return true;
}

// False where numbers are larger than the library's.
static bool set_geometry(const conv2d_geometry *g, dnn_key *key) {
  for (int i = 0; i < 2; i++) {
    int64_t both = g->padding_before[i] < g->padding_after[i] ? g->padding_before[i]
                                                             : g->padding_after[i];
    if (both > INT16_MAX || g->stride[i] > INT16_MAX || g->dilation[i] > INT16_MAX) return false;
    key->padding[i] = (int32_t)both;
    key->stride[i] = (int32_t)g->stride[i];
    key->dilation[i] = (int32_t)g->dilation[i];
  }
  key->groups = (int32_t)g->groups;
  return true;
}

// bfloat16 may meet weights of float32, which are rounded for it.
static bool common_type(const cuda_settings &settings, const device_array *image,
                        const device_array *weight, const device_array *result) {
  if (image->dtype != result->dtype) return false;
  return weight->dtype == image->dtype || (image->dtype == MOON_BF16 && !settings.precise);
}

moon_status cudnn_convolve(cuda_context *c, cuda_direction direction,
                           const conv2d_geometry *geometry, const device_array *image,
                           const device_array *weight, const device_array *result, bool *done) {
  static const int64_t none[2] = { 0, 0 };
  const cuda_settings settings = cuda_library->settings(c->engine);
  const moon_dtype dtype = image->dtype;
  dnn_form x(c), w(c), y(c);
  dnn_key key;
  int64_t front[2], back[2];
  *done = false;
  memset(&key, 0, sizeof key);
  if (!cudnn_ready(c) || !common_type(settings, image, weight, result)) return MOON_OK;
  if (!set_geometry(geometry, &key)) return MOON_OK;
  for (int i = 0; i < 2; i++) {
    front[i] = geometry->padding_before[i] - key.padding[i];
    back[i] = geometry->padding_after[i] - key.padding[i];
  }
  const device_array padded = form_of(image, dtype, { front[0] + back[0], front[1] + back[1] });
  if (!set_sizes(&padded, key.image) || !set_sizes(weight, key.weight) ||
      !set_sizes(result, key.result))
    return MOON_OK;
  MOON_TRY(open_form(c, image, dtype, front, back, direction != CUDA_BACKWARD_IMAGE, &x));
  MOON_TRY(open_form(c, weight, dtype, none, none, direction != CUDA_BACKWARD_WEIGHT, &w));
  MOON_TRY(open_form(c, result, dtype, none, none, direction != CUDA_FORWARD, &y));
  key.direction = direction;
  key.dtype = dtype;
  key.tf32 = c->flags[CUDA_TF32] && !settings.precise;
  key.precise = settings.precise;
  key.benchmark = c->flags[CUDA_BENCHMARK];
  key.workspace = settings.workspace_limit;
  MOON_TRY(cudnn_run(c, key, { x.array.data, w.array.data, y.array.data }, done));
  if (!*done) return MOON_OK;
  switch (direction) {
    case CUDA_FORWARD: return close_form(c, &y, result);
    case CUDA_BACKWARD_IMAGE: return close_form(c, &x, image);
    default: return close_form(c, &w, weight);
  }
}
