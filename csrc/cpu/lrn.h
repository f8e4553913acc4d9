// The job of local response normalisation, see lrn.c and lrn_real.h.
#ifndef MOON_CPU_LRN_H
#define MOON_CPU_LRN_H

#include "cpu/network.h"
#include "cpu/pixels.h"

enum { LRN_COLUMNS = 256 };   // elements of a plane that go together

typedef struct lrn_job {
  moon_engine *engine;
  const lrn_options *options;
  int64_t channels, before, after;   // channels of the window in front of each and behind it
  int64_t inner, blocks;             // by planes: elements of a plane, blocks of an image
  pixel_rows x, gradient, out;       // by planes their stride is `inner`; no gradient: forward
} lrn_job;

NETWORK_STORED_TASK(lrn_pixels);     // an item is a pixel
NETWORK_STORED_TASK(lrn_planes);     // an item is a block of LRN_COLUMNS elements of all planes

#endif
