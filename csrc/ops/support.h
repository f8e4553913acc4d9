// What the operator families share: reaching other operators, checking arguments, making results,
// running kernels on tensors.
#ifndef MOON_OPS_SUPPORT_H
#define MOON_OPS_SUPPORT_H

#include "autograd/op.h"
#include "tensor/shape.h"

typedef struct op_family {
  op_descriptor *ops;
  int count;
} op_family;
#define OP_FAMILY(name, descriptors) \
  const op_family ops_##name = { descriptors, (int)(sizeof(descriptors) / sizeof *(descriptors)) }

// Another family's operator, for use in a composite or a backward: OP_RUN(e, ops_get(OP_mul), ...).
// used.def lists the names; the slots are filled from it when the registry opens; a wrong name
// fails there.
enum {
#define USED(name) OP_##name,
#include "ops/used.def"
  OPS_USED_COUNT
};
op_descriptor *ops_get(int used);

// -- checks; their sentences start with the argument's name, the operator's is put in front
MOON_MUST_CHECK moon_status ops_need_float(const char *argument, const moon_tensor *tensor);
// float32 or float64: what the libraries and transforms without half types calculate in.
MOON_MUST_CHECK moon_status ops_need_wide_float(const char *argument, const moon_tensor *tensor);
MOON_MUST_CHECK moon_status ops_need_dtype(const char *argument, const moon_tensor *tensor,
                                           moon_dtype dtype);
// Both of one dtype; the sentence names the cast to write.
MOON_MUST_CHECK moon_status ops_need_same_dtype(const char *a, const moon_tensor *x, const char *b,
                                                const moon_tensor *y);
// The same for a parameter, which may also be float32 beside a bfloat16 tensor (mixed precision: it
// is rounded as it is read).
MOON_MUST_CHECK moon_status ops_need_parameter_dtype(const char *a, const moon_tensor *x,
                                                     const char *b, const moon_tensor *parameter);
MOON_MUST_CHECK moon_status ops_need_ndim(const char *argument, const moon_tensor *tensor, int ndim,
                                          const char *layout);   // "(n, c, h, w)"

// -- results; contiguous unless said
MOON_MUST_CHECK moon_status ops_new(moon_engine *engine, const moon_tensor *like, moon_dtype dtype,
                                    int ndim, const int64_t *shape, moon_tensor **tensor);
// Another shape of as many dimensions in the layout of the models: channels last where one of them
// has it (and that number of dimensions), else contiguous. The first model says where; a model may
// be NULL, but for the first.
MOON_MUST_CHECK moon_status ops_new_among(moon_engine *engine, int count,
                                          moon_tensor *const *models, moon_dtype dtype, int ndim,
                                          const int64_t *shape, moon_tensor **tensor);
// The same with one model, whose number of dimensions it is.
MOON_MUST_CHECK moon_status ops_new_like(moon_engine *engine, const moon_tensor *model,
                                         moon_dtype dtype, const int64_t *shape,
                                         moon_tensor **tensor);
MOON_MUST_CHECK moon_status ops_new_filled(moon_engine *engine, const moon_tensor *like,
                                           moon_dtype dtype, int ndim, const int64_t *shape,
                                           double value, moon_tensor **tensor);
// Of the model's dtype and layout.
MOON_MUST_CHECK moon_status ops_new_filled_like(moon_engine *engine, const moon_tensor *model,
                                                const int64_t *shape, double value,
                                                moon_tensor **tensor);
// A contiguous tensor with the same elements: `tensor` itself, retained, or a copy.
MOON_MUST_CHECK moon_status ops_contiguous(moon_engine *engine, moon_tensor *tensor,
                                           moon_tensor **contiguous);
// A new contiguous tensor with the same elements in type `dtype`; a copy in any case.
MOON_MUST_CHECK moon_status ops_converted(moon_engine *engine, const moon_tensor *tensor,
                                          moon_dtype dtype, moon_tensor **converted);
// Copies (and casts, broadcasts) the elements of `from` into `to`.
MOON_MUST_CHECK moon_status ops_copy(moon_engine *engine, const moon_tensor *from,
                                     const moon_tensor *to);
// The same elements on a device: `tensor` itself, retained, or a contiguous copy there. One of the
// two devices must be the host's.
MOON_MUST_CHECK moon_status ops_to_device(moon_engine *engine, moon_tensor *tensor,
                                          const moon_device *device, moon_tensor **moved);
// Writes the product of a tensor and a number into a new tensor.
MOON_MUST_CHECK moon_status ops_scale(moon_engine *engine, moon_tensor *tensor, double factor,
                                      moon_tensor **scaled);

// -- indices: users count from 1, kernels from 0
// Checks that every element of an int64, int32 or uint8 tensor lies in 1..limit, and gives a
// contiguous int64 tensor of the same shape counted from 0.
MOON_MUST_CHECK moon_status ops_index_in(moon_engine *engine, const char *argument,
                                         const moon_tensor *index, int64_t limit,
                                         moon_tensor **zero_based);
// Adds 1 to a kernel's index result, in place.
MOON_MUST_CHECK moon_status ops_index_out(moon_engine *engine, moon_tensor *index);

#endif
