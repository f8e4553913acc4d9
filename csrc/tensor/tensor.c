// Storage and tensor: making, sharing, releasing.
#include "tensor/tensor.h"

#include <string.h>

#include "base/alloc.h"
#include "base/count.h"
#include "device/cuda.h"
#include "tensor/shape.h"

// A tensor that is made with its storage lies in one block with it, and few elements lie there too.
// The block goes when the storage does, which may be long after that tensor: views share it.
typedef struct tensor_block {
  moon_tensor tensor;
  moon_storage storage;
} tensor_block;

enum {
  BLOCK_HEAD = (sizeof(tensor_block) + 63) / 64 * 64,   // elements are aligned as any others
#ifdef MOON_PLAIN_ALLOC
  FEW_BYTES = -1,   // apart, so that a sanitizer sees who leaves them
#else
  FEW_BYTES = 256,
#endif
};

static void storage_release(moon_storage *storage) {
  if (!count_drop(&storage->references)) return;
  derived_set_delete(atomic_load_explicit(&storage->derived, memory_order_relaxed));
  moon_engine *engine = storage->engine;
  bool few = storage->few, charged = storage->charged;
  size_t bytes = storage->bytes;
  if (atomic_load_explicit(&storage->crossed, memory_order_relaxed)) (void)cuda_follow(engine);
  if (storage->release) storage->release(storage->release_context, storage->data, bytes);
  else if (!few) storage->device->release(engine, storage->data, bytes);
  if (few) alloc_release_behind(engine, storage->maker, BLOCK_HEAD, bytes);
  else alloc_piece_release(storage->maker, sizeof(tensor_block));
  if (!charged) engine_release(engine);
}

static void tensor_begin(moon_tensor *tensor, moon_dtype dtype, int ndim, const int64_t *shape) {
  atomic_init(&tensor->references, 1);
  tensor->dtype = dtype;
  tensor->ndim = ndim;
  tensor->offset = 0;
  tensor->meta = NULL;
  tensor->is_view = false;
  tensor->taped_version = 0;
  for (int i = 0; i < ndim; i++) tensor->shape[i] = shape[i];
}

// The tensor and the storage of a new block; data and bytes are the storage's.
static void block_begin(tensor_block *block, moon_engine *engine, const moon_device *device,
                        void *data, size_t bytes, bool charged) {
  block->storage = (moon_storage){ .data = data, .bytes = bytes, .device = device,
                                   .engine = charged ? engine : engine_retain(engine),
                                   .charged = charged, .maker = &block->tensor };
  atomic_init(&block->storage.references, 1);
  block->tensor.storage = &block->storage;
}

static moon_status check_ndim(int ndim) {
  if (ndim <= MOON_MAX_DIMS) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "a tensor has at most %d dimensions, got %d", MOON_MAX_DIMS,
                   ndim);
}

static moon_status block_new(moon_engine *engine, const moon_device *device, size_t bytes,
                             tensor_block **block) {
  tensor_block *made;
  void *data;
  bool on_cpu = device == device_cpu(), few = on_cpu && (int64_t)bytes <= FEW_BYTES;
  if (few) {
    MOON_TRY(alloc_bytes_behind(engine, BLOCK_HEAD, bytes, (void **)&made));
    data = (char *)made + BLOCK_HEAD;
  } else {
    MOON_TRY(alloc_piece(sizeof *made, (void **)&made));
    moon_status status = device->allocate(engine, bytes, &data);
    if (status != MOON_OK) {
      alloc_piece_release(made, sizeof *made);
      return status;
    }
  }
  block_begin(made, engine, device, data, bytes, on_cpu && bytes > 0);
  made->storage.few = few;
  *block = made;
  return MOON_OK;
}

moon_status tensor_new(moon_engine *engine, const moon_device *device, moon_dtype dtype, int ndim,
                       const int64_t *shape, moon_tensor **tensor) {
  int64_t count;
  size_t bytes;
  tensor_block *block;
  MOON_TRY(shape_count(ndim, shape, &count));
  MOON_TRY(alloc_product((size_t)count, dtype_size(dtype), &bytes));
  MOON_TRY(check_ndim(ndim));
  MOON_TRY(block_new(engine, device, bytes, &block));
  tensor_begin(&block->tensor, dtype, ndim, shape);
  shape_contiguous_strides(ndim, shape, block->tensor.strides);
  *tensor = &block->tensor;
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
  tensor_block *block;
  MOON_TRY(shape_count(ndim, shape, &count));
  MOON_TRY(check_ndim(ndim));
  MOON_TRY(alloc_piece(sizeof *block, (void **)&block));
  block_begin(block, engine, device_cpu(), data, (size_t)count * dtype_size(dtype), false);
  block->storage.release = release;
  block->storage.release_context = context;
  tensor_begin(&block->tensor, dtype, ndim, shape);
  shape_contiguous_strides(ndim, shape, block->tensor.strides);
  *tensor = &block->tensor;
  return MOON_OK;
}

moon_status tensor_new_view(const moon_tensor *base, int ndim, const int64_t *shape,
                            const int64_t *strides, int64_t offset, moon_tensor **view) {
  moon_tensor *made;
  MOON_TRY(check_ndim(ndim));
  MOON_TRY(alloc_piece(sizeof *made, (void **)&made));
  tensor_begin(made, base->dtype, ndim, shape);
  for (int i = 0; i < ndim; i++) made->strides[i] = strides[i];
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
  if (!tensor || !count_drop(&tensor->references)) return;
  if (tensor->meta) tensor->meta->release(tensor->meta);
  moon_storage *storage = tensor->storage;
  if (storage->maker != tensor) alloc_piece_release(tensor, sizeof *tensor);
  storage_release(storage);
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

void tensor_fill_array(const moon_tensor *tensor, device_array *array) {
  array->data = tensor_data(tensor);
  array->derived = NULL;
  array->version = 0;
  array->dtype = tensor->dtype;
  array->ndim = tensor->ndim;
  for (int i = 0; i < tensor->ndim; i++) {
    array->shape[i] = tensor->shape[i];
    array->strides[i] = tensor->strides[i];
  }
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
