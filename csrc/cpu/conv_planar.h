// Convolutions whose results have few channels, which would leave most lanes of a vector empty:
// here the lanes are neighbouring positions of a row. A task copies the image's rows that it needs
// into planes, a line for each channel with the padding in it, and one for each phase of the
// stride, so that the positions of every tap lie side by side.
//
//   line[phase][i] = padded row[i * stride + phase]
//   tap (y, x) of position j reads i = j + x / stride of phase x % stride (x times its dilation)
#ifndef MOON_CPU_CONV_PLANAR_H
#define MOON_CPU_CONV_PLANAR_H

#include "cpu/convolution.h"

enum { PLANAR_OUTPUTS = 8 };      // at most: their sums stay in registers

// What a product multiplies: element `from` behind the lines of a position's first row.
typedef struct planar_product {
  int64_t from;
  int64_t weight;                 // in the weight array
} planar_product;

typedef struct planar_job {
  moon_engine *engine;
  const conv_problem *problem;
  int64_t outputs;                // channels of the result
  int64_t count;                  // products of a position: kernel rows * channels * columns
  int64_t plane, row;             // elements of a line, of all lines of one row of the image
  int64_t band, bands, rows;      // rows of the result that a task has; tasks of an image; rows
                                  // of the image that a task copies
  planar_product *products;
  void *weights;                  // forward: `outputs` for each product
  void *sums;                     // backward: the same for each task
} planar_job;

// Tasks (threads.h): a band of an image each.
moon_status CPU(planar_forward_f32)(void *job, int64_t first, int64_t last);
moon_status CPU(planar_forward_f64)(void *job, int64_t first, int64_t last);
moon_status CPU(planar_weight_f32)(void *job, int64_t first, int64_t last);
moon_status CPU(planar_weight_f64)(void *job, int64_t first, int64_t last);
// Before and after them: weights into job->weights, job->sums of all tasks into the weights.
void CPU(planar_pack_f32)(const planar_job *job);
void CPU(planar_pack_f64)(const planar_job *job);
void CPU(planar_add_f32)(const planar_job *job, int64_t tasks);
void CPU(planar_add_f64)(const planar_job *job, int64_t tasks);

#endif
