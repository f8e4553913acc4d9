// Storage and tensor: making, sharing, releasing.
#include "tensor/tensor.h"

#include <string.h>

#include "base/alloc.h"
#include "tensor/shape.h"

static moon_status storage_new(moon_engine *engine, const moon_device *device, size_t bytes,
                               moon_storage **storage) {
  moon_storage *made;
  MOON_TRY(alloc_new(sizeof *made, (void **)&made));
  moon_status status = device->allocate(engine, bytes, &made->data);
  if (status != MOON_OK) {
    alloc_delete(made);
    return status;
  }
  atomic_init(&made->references, 1);
  made->bytes = bytes;
  made->device = device;
  made->engine = engine_retain(engine);
  *storage = made;
  return MOON_OK;
}

static void storage_release(moon_storage *storage) {
  if (atomic_fetch_sub_explicit(&storage->references, 1, memory_order_acq_rel) != 1) return;
  derived_set_delete(atomic_load_explicit(&storage->derived, memory_order_relaxed));
  if (storage->release)
    storage->release(storage->release_context, storage->data, storage->bytes);
  else
    storage->device->release(storage->engine, storage->data, storage->bytes);
  engine_release(storage->engine);
  alloc_delete(storage);
}

static moon_status tensor_shell(moon_dtype dtype, int ndim, const int64_t *shape,
                                moon_tensor **tensor) {
  if (ndim > MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "a tensor has at most %d dimensions, got %d", MOON_MAX_DIMS,
                     ndim);
  moon_tensor *made;
  MOON_TRY(alloc_new(sizeof *made, (void **)&made));
  atomic_init(&made->references, 1);
  made->dtype = dtype;
  made->ndim = ndim;
  if (ndim > 0) memcpy(made->shape, shape, (size_t)ndim * sizeof *shape);
  *tensor = made;
  return MOON_OK;
}

moon_status tensor_new(moon_engine *engine, const moon_device *device, moon_dtype dtype, int ndim,
                       const int64_t *shape, moon_tensor **tensor) {
  int64_t count;
  size_t bytes;
  moon_tensor *made;
  MOON_TRY(shape_count(ndim, shape, &count));
  MOON_TRY(alloc_product((size_t)count, dtype_size(dtype), &bytes));
  MOON_TRY(tensor_shell(dtype, ndim, shape, &made));
  moon_status status = storage_new(engine, device, bytes, &made->storage);
  if (status != MOON_OK) {
    alloc_delete(made);
    return status;
  }
  shape_contiguous_strides(ndim, shape, made->strides);
  *tensor = made;
  return MOON_OK;
}

moon_status tensor_new_channels_last(moon_engine *engine, const moon_device *device,
                                     moon_dtype dtype, int ndim, const int64_t *shape,
                                     moon_tensor **tensor) {
  MOON_TRY(tensor_new(engine, device, dtype, ndim, shape, tensor));
  shape_channels_last_strides(ndim, shape, (*tensor)->strides);
  return MOON_OK;
}

moon_status tensor_new_as(moon_engine *engine, const moon_tensor *model, const moon_device *device,
                          moon_dtype dtype, const int64_t *shape, moon_tensor **tensor) {
  if (tensor_is_channels_last(model))
    return tensor_new_channels_last(engine, device, dtype, model->ndim, shape, tensor);
  return tensor_new(engine, device, dtype, model->ndim, shape, tensor);
}

moon_status tensor_new_like(moon_engine *engine, const moon_tensor *model, moon_tensor **tensor) {
  return tensor_new_as(engine, model, tensor_device(model), model->dtype, model->shape, tensor);
}

moon_status tensor_new_scalar(moon_engine *engine, moon_dtype dtype, double value,
                              moon_tensor **tensor) {
  moon_tensor *made;
  MOON_TRY(tensor_new(engine, device_cpu(), dtype, 0, NULL, &made));
  dtype_store(dtype, made->storage->data, value);
  *tensor = made;
  return MOON_OK;
}

moon_status tensor_new_foreign(moon_engine *engine, moon_dtype dtype, int ndim,
                               const int64_t *shape, void *data,
                               void (*release)(void *, void *, size_t), void *context,
                               moon_tensor **tensor) {
  int64_t count;
  moon_tensor *made;
  moon_storage *storage;
  MOON_TRY(shape_count(ndim, shape, &count));
  MOON_TRY(tensor_shell(dtype, ndim, shape, &made));
  moon_status status = alloc_new(sizeof *storage, (void **)&storage);
  if (status != MOON_OK) {
    alloc_delete(made);
    return status;
  }
  atomic_init(&storage->references, 1);
  storage->data = data;
  storage->bytes = (size_t)count * dtype_size(dtype);
  storage->device = device_cpu();
  storage->engine = engine_retain(engine);
  storage->release = release;
  storage->release_context = context;
  made->storage = storage;
  shape_contiguous_strides(ndim, shape, made->strides);
  *tensor = made;
  return MOON_OK;
}

moon_status tensor_new_view(const moon_tensor *base, int ndim, const int64_t *shape,
                            const int64_t *strides, int64_t offset, moon_tensor **view) {
  moon_tensor *made;
  MOON_TRY(tensor_shell(base->dtype, ndim, shape, &made));
  if (ndim > 0) memcpy(made->strides, strides, (size_t)ndim * sizeof *strides);
  made->offset = offset;
  made->storage = base->storage;
  atomic_fetch_add_explicit(&base->storage->references, 1, memory_order_relaxed);
  *view = made;
  return MOON_OK;
}

moon_status tensor_alias(const moon_tensor *base, moon_tensor **alias) {
  return tensor_new_view(base, base->ndim, base->shape, base->strides, base->offset, alias);
}

moon_tensor *tensor_retain(moon_tensor *tensor) {
  atomic_fetch_add_explicit(&tensor->references, 1, memory_order_relaxed);
  return tensor;
}

void tensor_release(moon_tensor *tensor) {
  if (!tensor) return;
  if (atomic_fetch_sub_explicit(&tensor->references, 1, memory_order_acq_rel) != 1) return;
  storage_release(tensor->storage);
  if (tensor->meta) tensor->meta->release(tensor->meta);
  alloc_delete(tensor);
}

int64_t tensor_count(const moon_tensor *tensor) {
  int64_t count = 1;
  for (int i = 0; i < tensor->ndim; i++) count *= tensor->shape[i];
  return count;
}

bool tensor_is_contiguous(const moon_tensor *tensor) {
  device_array array = tensor_array(tensor);
  return array_is_contiguous(&array);
}

bool tensor_is_channels_last(const moon_tensor *tensor) {
  return shape_is_channels_last(tensor->ndim, tensor->shape, tensor->strides);
}

bool tensor_is_dense_channels_last(const moon_tensor *tensor) {
  int64_t dense[MOON_MAX_DIMS];
  if (tensor->ndim < SHAPE_LEAST_CHANNELS_LAST || tensor->ndim > SHAPE_MOST_CHANNELS_LAST)
    return false;
  shape_channels_last_strides(tensor->ndim, tensor->shape, dense);
  for (int i = 0; i < tensor->ndim; i++)
    if (tensor->shape[i] != 1 && tensor->strides[i] != dense[i] && tensor_count(tensor) > 0)
      return false;
  return true;
}

bool tensor_is_dense(const moon_tensor *tensor) {
  return tensor_is_contiguous(tensor) || tensor_is_dense_channels_last(tensor);
}

bool tensor_same_shape(const moon_tensor *a, const moon_tensor *b) {
  return a->ndim == b->ndim &&
         memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

device_array tensor_array(const moon_tensor *tensor) {
  device_array array = { .data = tensor_data(tensor), .dtype = tensor->dtype,
                         .ndim = tensor->ndim };
  memcpy(array.shape, tensor->shape, sizeof array.shape);
  memcpy(array.strides, tensor->strides, sizeof array.strides);
  return array;
}

// The storage's set, made on first need.
static moon_status derived_of(moon_storage *storage, derived_set **set) {
  derived_set *there = atomic_load_explicit(&storage->derived, memory_order_acquire), *made;
  if (!there) {
    MOON_TRY(derived_set_new(&made));
    if (atomic_compare_exchange_strong(&storage->derived, &there, made)) there = made;
    else derived_set_delete(made);
  }
  *set = there;
  return MOON_OK;
}

moon_status tensor_weight_array(const moon_tensor *tensor, bool constant, device_array *array) {
  moon_storage *storage = tensor->storage;
  *array = tensor_array(tensor);
  if (constant && storage->device->on_host &&
      !atomic_load_explicit(&storage->exposed, memory_order_relaxed)) {
    array->version = atomic_load_explicit(&storage->version, memory_order_relaxed);
    return derived_of(storage, &array->derived);
  }
  derived_set *kept = atomic_load_explicit(&storage->derived, memory_order_acquire);
  if (kept) derived_set_clear(kept);
  return MOON_OK;
}
