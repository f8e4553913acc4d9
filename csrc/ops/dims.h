// Dimensions as reductions see them: a set of the input's dimensions that shrink to size 1 and, in
// the end, vanish unless they are kept. Kernels want the first form (the input's number of
// dimensions), users get the second; both are the same elements, so one is a view of the other.
#ifndef MOON_OPS_DIMS_H
#define MOON_OPS_DIMS_H

#include "ops/support.h"

typedef struct dim_set {
  int ndim;                        // of the input
  bool over[MOON_MAX_DIMS];        // is the dimension reduced?
  bool keepdim;
  int64_t count;                   // elements that go into one result
  int64_t kept[MOON_MAX_DIMS];     // the input's shape with 1 in reduced dimensions
  int result_ndim;
  int64_t result[MOON_MAX_DIMS];   // the result's shape
} dim_set;

// Reads an argument of type dims (nothing or an empty list: all of them).
MOON_MUST_CHECK moon_status dims_read(const op_value *dims, bool keepdim, int ndim,
                                      const int64_t *shape, dim_set *set);
// Reads an argument of type dim.
MOON_MUST_CHECK moon_status dims_read_one(const op_value *dim, bool keepdim, int ndim,
                                          const int64_t *shape, dim_set *set, int *normal);

// Fails where a result would be chosen among no elements: "dimension 2 of input 3x0 is empty".
MOON_MUST_CHECK moon_status dims_need_elements(const dim_set *set, const moon_tensor *input);

// A tensor of the result's shape as a kernel wants it: reduced dimensions have size 1.
device_array dims_array(const dim_set *set, const moon_tensor *result);
// The same as a tensor: a view that broadcasts against the input. On the tape where that records.
MOON_MUST_CHECK moon_status dims_keep(moon_engine *engine, const dim_set *set, moon_tensor *result,
                                      moon_tensor **kept);
// Stretched to the input's shape by strides of 0.
MOON_MUST_CHECK moon_status dims_expand(moon_engine *engine, const dim_set *set,
                                        moon_tensor *result, const int64_t *shape,
                                        moon_tensor **expanded);

// Runs a kernel of enum reduce_kind into a new tensor of the result's shape.
MOON_MUST_CHECK moon_status dims_reduce(moon_engine *engine, int kind, const dim_set *set,
                                        const moon_tensor *x, moon_dtype dtype,
                                        moon_tensor **result);

// For kernels that work along one dimension: a 0-d tensor shows its element as a 1-D array.
static inline device_array dims_at_least_one(const moon_tensor *tensor) {
  device_array array = tensor_array(tensor);
  if (array.ndim > 0) return array;
  array.ndim = 1;
  array.shape[0] = array.strides[0] = 1;
  return array;
}

#endif
