// The gradient of images of few channels: each position's gradient times the weights of all taps is
// one row of a product, wide enough for vectors where the channels alone are not, and the row is
// added to the pixels that the position was made of (col2im; Chellapilla et al., "High performance
// convolutional neural networks for document processing", 2006).
//
// A kernel's row of taps is a run of the image's row, so that adding is whole vectors too. A task
// owns some rows of an image, or a few small images, and calculates all positions that reach them.
#ifndef MOON_CPU_CONV_COL2IM_H
#define MOON_CPU_CONV_COL2IM_H

#include "cpu/convolution.h"

typedef struct col2im_job {
  moon_engine *engine;
  const conv_problem *problem;
  int64_t run, padded;            // columns of a kernel's row; of all, in whole panels
  int64_t images, bands, band;    // of a task; in an image; rows of a band
  void *panels;                   // packed weights: for each panel, a row an output channel
} col2im_job;

// Tasks (threads.h). Bands of images, or images.
moon_status CPU(col2im_tasks_f32)(void *job, int64_t first, int64_t last);
moon_status CPU(col2im_tasks_f64)(void *job, int64_t first, int64_t last);
// Output channels, whose rows of job->panels are packed.
moon_status CPU(col2im_pack_f32)(void *job, int64_t first, int64_t last);
moon_status CPU(col2im_pack_f64)(void *job, int64_t first, int64_t last);

#endif
