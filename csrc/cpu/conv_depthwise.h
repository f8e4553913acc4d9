// Convolutions of one image channel a group, vectors being channels: little arithmetic for much
// memory, so all three directions are one pass over lines of pixels without packing anything but
// the weights.
//
// A target pixel (of the result; of the image in the second direction) has a list of taps: which
// source pixel each reads and which row of weights it takes. The lists of a line's inner pixels are
// the same, so DEPTH_PIXELS of them are summed in registers at a time; with a stride s the second
// direction has s kinds of lines and of pixels in a line (phases), each with a list of its own, and
// multiplies nothing by inserted zeros.
#ifndef MOON_CPU_CONV_DEPTHWISE_H
#define MOON_CPU_CONV_DEPTHWISE_H

#include "cpu/convolution.h"

// One axis of a direction. Target i * phases + phase reads, at tap k, source i * step + offset,
// where offset = (phase + base + k * slope) / phases must be whole.
typedef struct depth_axis {
  int64_t target, source;      // sizes
  int64_t taps, phases, step, base, slope;
} depth_axis;

typedef struct depth_job {
  moon_engine *engine;
  depth_axis axes[2];
  const device_array *source;  // image; the second direction: the result's gradient
  const device_array *target;  // result; the second direction: the image's gradient
  const conv2d_finish *finish; // forward only, else NULL
  int64_t channels, width;     // width: in whole vectors
  void *weight;                // (taps, width)
  void *partial;               // third direction: (shares, taps, width)
  int64_t share;               // target lines of all images in one
} depth_job;

// Tasks (threads.h): lines of all images; shares of lines.
moon_status CPU(depth_lines_f32)(void *job, int64_t first, int64_t last);
moon_status CPU(depth_lines_f64)(void *job, int64_t first, int64_t last);
moon_status CPU(depth_shares_f32)(void *job, int64_t first, int64_t last);
moon_status CPU(depth_shares_f64)(void *job, int64_t first, int64_t last);
// Packs weights (channels, 1, kh, kw) into job->weight; adds the shares up into such an array.
void CPU(depth_pack_f32)(const depth_job *job, const device_array *weight);
void CPU(depth_pack_f64)(const depth_job *job, const device_array *weight);
void CPU(depth_add_f32)(const depth_job *job, int64_t shares, const device_array *weight);
void CPU(depth_add_f64)(const depth_job *job, int64_t shares, const device_array *weight);

#endif
