// What convolutions of one, two and three dimensions have in common: their arguments, checked, as
// numbers. The schemas of all begin alike:
//   (input, weight, bias?, stride, padding, dilation, groups)                      conv*
//   (input, weight, bias?, stride, padding, output_padding, groups, dilation)      conv_transpose*
#ifndef MOON_OPS_CONVOLUTION_H
#define MOON_OPS_CONVOLUTION_H

#include "ops/compose.h"

enum { CONVOLUTION_MAX_DIMS = 3 };

typedef struct convolution_geometry {
  int ndim;                                // of the kernel
  int64_t kernel[CONVOLUTION_MAX_DIMS], stride[CONVOLUTION_MAX_DIMS];
  int64_t dilation[CONVOLUTION_MAX_DIMS];
  int64_t before[CONVOLUTION_MAX_DIMS], after[CONVOLUTION_MAX_DIMS];   // padding
  int64_t extra[CONVOLUTION_MAX_DIMS];     // output padding
  int64_t groups;
  int64_t output[CONVOLUTION_MAX_DIMS];    // sizes of the result
} convolution_geometry;

// Checks all arguments of a conv* of `ndim` dimensions.
MOON_MUST_CHECK moon_status convolution_read(const op_value *args, int ndim,
                                             convolution_geometry *g);
// Checks all arguments of a conv_transpose*.
MOON_MUST_CHECK moon_status convolution_read_transposed(const op_value *args, int ndim,
                                                        convolution_geometry *g);

// Reads the options of a kernel whose sizes are in g->kernel; no groups (NULL) is one.
MOON_MUST_CHECK moon_status convolution_options(const op_value *stride, const op_value *padding,
                                                const op_value *dilation, const op_value *groups,
                                                convolution_geometry *g);

// "height", "width": the name of dimension i of `ndim`.
const char *convolution_side(int ndim, int i);
// How many positions the kernel takes along its dimension i; it must fit the padded input.
MOON_MUST_CHECK moon_status convolution_count(const moon_tensor *input, const moon_tensor *weight,
                                              const convolution_geometry *g, int i,
                                              int64_t *positions);

// -- gradients, of two dimensions and three (convolution_gradients.c)

// The operators of a number of dimensions, as OP_<name>; their arguments are
//   forward          (input, weight, bias?, stride, padding, dilation, groups)
//   input_gradient   (gradient, weight, input's sizes..., stride, padding, dilation, groups)
//   weight_gradient  (gradient, input, kernel's sizes..., stride, padding, dilation, groups, dtype)
typedef struct convolution_trio { int ndim, forward, input_gradient, weight_gradient; }
  convolution_trio;

// Of input and weight, from that of the sums; and of bias, from that of the result.
MOON_MUST_CHECK moon_status convolution_back(op_backward_call *call, const convolution_trio *trio,
                                             moon_tensor *g);
MOON_MUST_CHECK moon_status convolution_back_bias(op_backward_call *call,
                                                  const convolution_trio *trio);
op_value convolution_all_but_channels(int ndim);
// The backwards of the gradients.
MOON_MUST_CHECK moon_status convolution_back_input_gradient(op_backward_call *call,
                                                            const convolution_trio *trio);
MOON_MUST_CHECK moon_status convolution_back_weight_gradient(op_backward_call *call,
                                                             const convolution_trio *trio);
// The options of a gradient's call.
MOON_MUST_CHECK moon_status convolution_read_gradient(const op_value *args, int ndim,
                                                      const int64_t *weight_shape,
                                                      convolution_geometry *g);

// -- steps of formulas

// Every position of a kernel along dimension `dim`: x (..., size, ...) becomes
// (..., positions, ..., kernel). A view.
moon_tensor *convolution_slide(compose *c, moon_tensor *x, int dim, int64_t kernel, int64_t stride,
                               int64_t dilation);
// The adjoint: (..., positions, ..., kernel) is added up into (..., size, ...).
moon_tensor *convolution_gather(compose *c, moon_tensor *x, int dim, int64_t size, int64_t stride,
                                int64_t dilation);
// Zeros round the last `ndim` dimensions; a negative number cuts.
moon_tensor *convolution_pad(compose *c, moon_tensor *x, int ndim, const int64_t *before,
                             const int64_t *after);

#endif
