// cuDNN behind the convolution slots, for images and volumes alike. Arrays are given to it dense,
// of one type, channels last (double's row-major) and from multiples of 16 bytes on, as its tensor
// cores read them; what lies otherwise is copied there and back. What it does not take so, such as
// some types and groups of volumes, is given to it row-major. Padding that is not the same on both
// sides becomes part of the image's copy.
#include "cudnn_plan.cuh"

#include <string.h>

enum { FIRST_SIDE = 2 };       // behind images and channels
enum { ALIGNED = 16 };

// What of the padding becomes part of the image.
struct dnn_border { int64_t front[DNN_SIDES], back[DNN_SIDES]; };
static const dnn_border no_border = {};

// -- arrays in the library's form

struct dnn_form {
  explicit dnn_form(cuda_context *c) : scratch(c) {}
  cuda_scratch scratch;
  device_array array;          // dense, of the common type, with the border
  device_array inside;         // the part of it that is the given array's
};

// The form of x with a border; its data is still x's.
static device_array form_of(const device_array *x, const dnn_key &key, const dnn_border &border) {
  device_array form = *x;
  form.dtype = (moon_dtype)key.dtype;
  for (int i = 0; i < key.sides; i++)
    form.shape[FIRST_SIDE + i] += border.front[i] + border.back[i];
  cudnn_strides(key, form.shape, form.strides);
  return form;
}

static bool same_place(const device_array *x, const device_array *form) {
  if (x->dtype != form->dtype || (uintptr_t)x->data % ALIGNED != 0) return false;
  for (int i = 0; i < x->ndim; i++) {
    if (x->shape[i] != form->shape[i]) return false;
    if (x->shape[i] != 1 && x->strides[i] != form->strides[i]) return false;
  }
  return true;
}

static moon_status open_form(cuda_context *c, const device_array *x, const dnn_key &key,
                             const dnn_border &border, bool read, dnn_form *form) {
  size_t size = dtype_size((moon_dtype)key.dtype);
  bool framed = false;
  form->array = form_of(x, key, border);
  if (same_place(x, &form->array)) {
    form->inside = *x;
    return MOON_OK;
  }
  MOON_TRY(form->scratch.take((size_t)array_count(&form->array) * size));
  form->array.data = form->scratch.as<void>();
  form->inside = form->array;
  for (int i = 0; i < key.sides; i++) {
    const int side = FIRST_SIDE + i;
    form->inside.shape[side] = x->shape[side];
    form->inside.data = (char *)form->inside.data +
                        border.front[i] * form->array.strides[side] * (int64_t)size;
    framed |= form->array.shape[side] != x->shape[side];
  }
  if (!read) return MOON_OK;
  if (framed) MOON_TRY(cuda_fill(c, 0, &form->array));
  return cuda_copy(c, x, &form->inside);
}

static moon_status close_form(cuda_context *c, const dnn_form *form, const device_array *x) {
  return form->inside.data == x->data ? MOON_OK : cuda_copy(c, &form->inside, x);
}

// -- the problem as a key

static bool set_sizes(const device_array *x, int32_t (&sizes)[DNN_DIMS]) {
  int64_t count = 1;
  for (int i = 0; i < x->ndim; i++) {
    if (x->shape[i] > INT32_MAX || x->shape[i] < 1) return false;
    count *= x->shape[i];
    if (count > INT32_MAX) return false;
    sizes[i] = (int32_t)x->shape[i];
  }
  return true;
}

// False where numbers are larger than the library's.
static bool set_geometry(const cuda_geometry &g, dnn_key *key, dnn_border *border) {
  for (int i = 0; i < g.sides; i++) {
    const int64_t before = g.padding_before[i], after = g.padding_after[i];
    const int64_t both = before < after ? before : after;
    if (both > INT16_MAX || g.stride[i] > INT16_MAX || g.dilation[i] > INT16_MAX) return false;
    key->padding[i] = (int32_t)both;
    key->stride[i] = (int32_t)g.stride[i];
    key->dilation[i] = (int32_t)g.dilation[i];
    border->front[i] = before - both;
    border->back[i] = after - both;
  }
  key->groups = (int32_t)g.groups;
  return true;
}

// Half types may meet weights of float32, which are rounded for them.
static bool common_type(const cuda_settings &settings, const cuda_convolution &p) {
  const moon_dtype image = p.image->dtype, weight = p.weight->dtype;
  if (image != p.result->dtype) return false;
  return weight == image ||
         (dtype_is_half(image) && weight == MOON_F32 && !settings.precise);
}

// False where the library cannot have it.
static bool make_key(cuda_context *c, const cuda_convolution &p, dnn_key *key, dnn_border *border) {
  const cuda_settings settings = cuda_library->settings(c->engine);
  memset(key, 0, sizeof *key);
  memset(border, 0, sizeof *border);
  if (!cudnn_ready(c) || !common_type(settings, p)) return false;
  if (!set_geometry(p.geometry, key, border)) return false;
  key->sides = p.geometry.sides;
  key->dtype = p.image->dtype;
  key->channels_last = key->dtype != MOON_F64;
  const device_array padded = form_of(p.image, *key, *border);
  if (!set_sizes(&padded, key->image) || !set_sizes(p.weight, key->weight) ||
      !set_sizes(p.result, key->result))
    return false;
  key->direction = p.direction;
  key->tf32 = c->flags[CUDA_TF32] && !settings.precise;
  key->precise = settings.precise;
  key->benchmark = c->flags[CUDA_BENCHMARK];
  key->workspace = settings.workspace_limit;
  return true;
}

// The layout that the library takes, if there is one.
static moon_status find_layout(cuda_context *c, dnn_key *key, bool *fits) {
  MOON_TRY(cudnn_fits(c, *key, fits));
  if (*fits || !key->channels_last) return MOON_OK;
  key->channels_last = false;
  return cudnn_fits(c, *key, fits);
}

// -- the entries

moon_status cudnn_takes(cuda_context *c, const cuda_convolution &p, bool *takes) {
  dnn_key key;
  dnn_border border;
  *takes = false;
  return make_key(c, p, &key, &border) ? find_layout(c, &key, takes) : MOON_OK;
}

moon_status cudnn_convolve(cuda_context *c, const cuda_convolution &p, bool *done) {
  dnn_form x(c), w(c), y(c);
  dnn_key key;
  dnn_border border;
  bool fits;
  *done = false;
  if (!make_key(c, p, &key, &border)) return MOON_OK;
  MOON_TRY(find_layout(c, &key, &fits));
  if (!fits) return MOON_OK;
  MOON_TRY(open_form(c, p.image, key, border, p.direction != CUDA_BACKWARD_IMAGE, &x));
  MOON_TRY(open_form(c, p.weight, key, no_border, p.direction != CUDA_BACKWARD_WEIGHT, &w));
  MOON_TRY(open_form(c, p.result, key, no_border, p.direction != CUDA_FORWARD, &y));
  MOON_TRY(cudnn_run(c, key, { x.array.data, w.array.data, y.array.data }, done));
  if (!*done) return MOON_OK;
  switch (p.direction) {
    case CUDA_FORWARD: return close_form(c, &y, p.result);
    case CUDA_BACKWARD_IMAGE: return close_form(c, &x, p.image);
    default: return close_form(c, &w, p.weight);
  }
}
