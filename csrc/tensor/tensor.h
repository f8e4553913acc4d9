// Storage and tensor. A storage is reference-counted bytes on a device, charged to an engine; a
// tensor is a view on a storage: dtype, shape, strides, offset. Views share the storage.
// Counts are atomic, so tensors may be released by any thread. Shape and strides never change after
// a tensor was made; in-place operators change the storage's bytes and count its version up.
// Autograd hangs its own record on a tensor through `meta`, which this layer only owns.
#ifndef MOON_TENSOR_TENSOR_H
#define MOON_TENSOR_TENSOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/engine.h"
#include "device/derived.h"
#include "device/device.h"

typedef struct moon_storage {
  atomic_int references;
  atomic_uint_fast32_t version;        // counts writes
  atomic_uint_fast32_t taped_version;  // counts writes that the tape recorded
  void *data;
  size_t bytes;
  const moon_device *device;
  moon_engine *engine;                 // whose bytes they are
  bool charged;                        // it lives by them (base/engine.h); else it is retained
  _Atomic(derived_set *) derived;      // what kernels made of the bytes; NULL: nothing yet
  atomic_bool exposed;                 // the address was given out: versions miss some writes
  atomic_bool crossed;                 // another engine's device may read it when it is released
  // Channels in use of each position, where there is room for more behind them (ops/growing.c);
  // 0 where there is none. Nobody sees what lies in the room.
  atomic_int_fast64_t grown;
  const char *last_writer;             // name of the operator that wrote last; static text or NULL
  void (*release)(void *context, void *data, size_t bytes);   // foreign memory; NULL = ours
  void *release_context;
  bool few;                            // its elements lie behind it,
  struct moon_tensor *maker;           // as it lies behind that tensor, all in one block
} moon_storage;

// What autograd knows about a tensor; defined above this layer.
typedef struct moon_meta {
  void (*release)(struct moon_meta *meta);
} moon_meta;

typedef struct moon_tensor {
  atomic_int references;
  moon_dtype dtype;
  int ndim;
  int64_t offset;                      // of element (0, ..., 0), in elements
  int64_t shape[MOON_MAX_DIMS];
  int64_t strides[MOON_MAX_DIMS];
  moon_storage *storage;
  moon_meta *meta;                     // NULL: not on any tape
  bool is_view;                        // made by a view operator: shares storage with its base
  uint_fast32_t taped_version;         // the storage's, when the view was made
} moon_tensor;

// -- making; the result is owned by the caller. Contents of tensor_new are undefined.
MOON_MUST_CHECK moon_status tensor_new(moon_engine *engine, const moon_device *device,
                                       moon_dtype dtype, int ndim, const int64_t *shape,
                                       moon_tensor **tensor);
// The same with channels next to each other; 3 to 5 dimensions (shape.h).
MOON_MUST_CHECK moon_status tensor_new_channels_last(moon_engine *engine, const moon_device *device,
                                                     moon_dtype dtype, int ndim,
                                                     const int64_t *shape, moon_tensor **tensor);
// In the layout of `model`, without gaps: channels last where its are, else contiguous. `shape` has
// as many dimensions.
MOON_MUST_CHECK moon_status tensor_new_as(moon_engine *engine, const moon_tensor *model,
                                          const moon_device *device, moon_dtype dtype,
                                          const int64_t *shape, moon_tensor **tensor);
// The same with the model's shape, dtype and device.
MOON_MUST_CHECK moon_status tensor_new_like(moon_engine *engine, const moon_tensor *model,
                                            moon_tensor **tensor);
// 0-d, on the CPU. `value` must be representable (no fraction for integers): checked by callers.
MOON_MUST_CHECK moon_status tensor_new_scalar(moon_engine *engine, moon_dtype dtype, double value,
                                              moon_tensor **tensor);
// Around memory of somebody else, released through `release` when the last view goes.
MOON_MUST_CHECK moon_status tensor_new_foreign(moon_engine *engine, moon_dtype dtype, int ndim,
                                               const int64_t *shape, void *data,
                                               void (*release)(void *, void *, size_t),
                                               void *context, moon_tensor **tensor);
// A view on the same storage; shape, strides, offset are trusted to lie inside it. No meta.
MOON_MUST_CHECK moon_status tensor_new_view(const moon_tensor *base, int ndim, const int64_t *shape,
                                            const int64_t *strides, int64_t offset,
                                            moon_tensor **view);
// The same view without its tape record.
MOON_MUST_CHECK moon_status tensor_alias(const moon_tensor *base, moon_tensor **alias);
moon_tensor *tensor_retain(moon_tensor *tensor);
void tensor_release(moon_tensor *tensor);   // NULL is fine

// -- asking
int64_t tensor_count(const moon_tensor *tensor);
bool tensor_is_contiguous(const moon_tensor *tensor);
// By the order of its strides; there may be gaps.
bool tensor_is_channels_last(const moon_tensor *tensor);
// Whether it fills its memory without gaps in one of the two layouts; and in that one.
bool tensor_is_dense(const moon_tensor *tensor);
bool tensor_is_dense_channels_last(const moon_tensor *tensor);
bool tensor_same_shape(const moon_tensor *a, const moon_tensor *b);
static inline const moon_device *tensor_device(const moon_tensor *tensor) {
  return tensor->storage->device;
}
static inline const device_kernels *tensor_kernels(const moon_tensor *tensor) {
  return tensor->storage->device->kernels;
}
static inline void *tensor_data(const moon_tensor *tensor) {
  return (char *)tensor->storage->data + tensor->offset * (int64_t)dtype_size(tensor->dtype);
}
// As a kernel sees it; borrows. The first form writes no more than there is, for small calls.
void tensor_fill_array(const moon_tensor *tensor, device_array *array);
static inline device_array tensor_array(const moon_tensor *tensor) {
  device_array array;
  tensor_fill_array(tensor, &array);
  return array;
}
// The same for weights. While nobody trains them (`constant`) kernels may keep what they make of
// them (device/derived.h); otherwise what was kept goes.
MOON_MUST_CHECK moon_status tensor_weight_array(const moon_tensor *tensor, bool constant,
                                                device_array *array);
static inline void tensor_touch(moon_tensor *tensor) {   // after a write from outside operators
  atomic_fetch_add_explicit(&tensor->storage->version, 1, memory_order_relaxed);
}
static inline void tensor_expose(moon_tensor *tensor) {   // when its address is given out
  tensor_touch(tensor);
  atomic_store_explicit(&tensor->storage->exposed, true, memory_order_relaxed);
}
static inline void tensor_cross(moon_tensor *tensor) {   // when another engine gets it
  if (!tensor_device(tensor)->on_host)
    atomic_store_explicit(&tensor->storage->crossed, true, memory_order_relaxed);
}

// -- text: "2x3x4", or "0-d"; written into `text`, cut to fit. Returns `text`.
enum { TENSOR_SHAPE_TEXT = 128 };
const char *shape_text(int ndim, const int64_t *shape, char text[TENSOR_SHAPE_TEXT]);
const char *tensor_shape_text(const moon_tensor *tensor, char text[TENSOR_SHAPE_TEXT]);

#endif
