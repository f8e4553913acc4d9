// Sampling images at the positions of a grid: what the slots (grid_sample.c) and the loops
// (grid_sample_real.h, compiled for float and for double) share. The positions of an image are
// gone through in blocks, whose neighbours are found once for all channels.
#ifndef MOON_CPU_GRID_SAMPLE_H
#define MOON_CPU_GRID_SAMPLE_H

#include "cpu/lane_bytes.h"
#include "cpu/network.h"

enum { GRID_BLOCK = 64 };   // positions

// An array (n, c, ...) whose places of an image follow each other at one distance; strides in
// elements. No data: there is no array.
typedef struct grid_planes {
  void *data;
  int64_t image, channel, place;
} grid_planes;

typedef struct grid_job {
  const grid_options *options;
  int dims;
  int64_t size[MOON_MAX_DIMS];           // of an image
  int64_t images, channels, places, positions, blocks;   // of an image
  bool by_pixels;                        // channels lie side by side, and are enough for a vector
  const void *grid;                      // (n, positions, dims), contiguous
  grid_planes x, out, gradient, dx;
  void *dgrid;                           // as grid
  int64_t groups, group, bands, band;    // of dx: channels of a group, places of a band
} grid_job;

// An item is a block of positions.
NETWORK_TASK(grid_sample_blocks);
NETWORK_TASK(grid_sample_grid_blocks);   // dgrid
// An item is a band of a group's channels of an image: nobody else adds to those, and whoever does
// goes through all positions in order. dx is 0 before.
NETWORK_TASK(grid_sample_image_bands);

#endif
