// Convolutions: the problem that a slot hands to an engine, and the engines to choose from.
//
// The three directions of a convolution are one form in three arrays, of which one is written:
//   image (n, c, h, w), weight (o, c / groups, kh, kw), result (n, o, oh, ow)
// Engines see one compute type (float or double, or bfloat16 beside weights of float or bfloat16)
// and channels-last arrays: the channel stride of image and result is 1 (their other strides are
// arbitrary, so a slice of channels will do); strides of the weight are arbitrary. convolution.c
// brings other arrays into that form.
//
// An engine is a row of the table in convolution.c: what it is called, which problems it can do,
// what it would cost and how it is run. The least cost is taken, by shape, type and processor only,
// and before the arrays are brought into form; engine->conv_engine names one to be preferred
// wherever it fits.
#ifndef MOON_CPU_CONVOLUTION_H
#define MOON_CPU_CONVOLUTION_H

#include "cpu/cpu.h"
#include "device/derived.h"

typedef enum conv_direction {
  CONV_FORWARD,
  CONV_BACKWARD_INPUT,
  CONV_BACKWARD_WEIGHT,
} conv_direction;

typedef struct conv_problem {
  conv_direction direction;
  const conv2d_geometry *geometry;
  const device_array *image, *weight, *result;
  const conv2d_finish *finish;   // forward only: vectors contiguous, all of the compute type
} conv_problem;

// Multiply-adds of the problem: those with padding count as well.
static inline double conv_work(const conv_problem *p) {
  const device_array *y = p->result, *w = p->weight;
  return (double)array_count(y) * (double)(w->shape[1] * w->shape[2] * w->shape[3]);
}

// Whether all taps are `rows` x `columns`, at this stride and without dilation.
static inline bool conv_is(const conv_problem *p, int64_t rows, int64_t columns, int64_t stride) {
  const conv2d_geometry *g = p->geometry;
  return p->weight->shape[2] == rows && p->weight->shape[3] == columns && g->stride[0] == stride &&
         g->stride[1] == stride && g->dilation[0] == 1 && g->dilation[1] == 1;
}

// One channel of image a group.
static inline bool conv_is_depthwise(const conv_problem *p) {
  return p->weight->shape[1] == 1 && p->geometry->groups > 1;
}

typedef struct conv_engine {
  const char *name;
  bool (*fits)(const moon_engine *engine, const conv_problem *problem);
  // In the time of a multiply-add of the implicit product at its best.
  double (*cost)(const conv_problem *problem);
  moon_status (*run)(moon_engine *engine, const conv_problem *problem);
  // Whether it reads the image in any layout; NULL: never.
  bool (*reads_any_layout)(const conv_problem *problem);
} conv_engine;

// The engines of an instruction set, one a file.
extern const conv_engine CPU(conv_implicit), CPU(conv_depthwise), CPU(conv_fft), CPU(conv_col2im),
    CPU(conv_planar);
extern const conv_engine CPU(conv_bfloat);   // of bfloat16, the only one
extern const conv_engine CPU(conv_weight);   // "implicit" as well: its third direction
extern const conv_engine CPU(conv_winograd_4x3), CPU(conv_winograd_2x3), CPU(conv_winograd_2x5);

#endif
