// Pixels of a bfloat16 image as the matrix registers read them: rows of a tile have to lie one
// distance apart, so lines are copied with their padding into planes, in which whatever a tap reads
// for the grid's positions, one line after the other, is one run of pixels.
//
// A plane holds the pixels that lie whole strides apart: position (i, j) of the grid and a tap that
// is (down, across) away read pixel (i * step + down, j * step + across) of the image, which is
//   pixel (i + down / step, j + across / step) of plane (down % step, across % step).
// Lines of planes are longer than the grid's by what taps reach across; the positions in between
// are calculated and left out. With few channels the taps of a kernel's row are joined into one,
// `span` pixels deep.
#ifndef MOON_CPU_BFLOAT_PLANES_H
#define MOON_CPU_BFLOAT_PLANES_H

#include "cpu/conv_implicit.h"

typedef struct bfloat_tap {
  int64_t phase[2];              // of its plane
  int64_t shift[2];              // in the plane
  int64_t plane;                 // number
  bool first;                    // of its plane
} bfloat_tap;

typedef struct bfloat_planes {
  const device_array *source;    // channels last
  int64_t step[2];
  int64_t depth;                 // channels that a tap reads
  int64_t span;                  // pixels that it joins
  int64_t pitch;                 // elements of a plane's pixel, whole AMX_DEPTH
  int64_t low[2], reach[2];      // the least shift, and how far the others go beyond it
  int64_t width;                 // pixels of a plane's line
  int64_t count;                 // planes
  int64_t taps;                  // after joining
  bfloat_tap *tap;
} bfloat_planes;

// A block of lines of one image, of the grid.
typedef struct bfloat_lines {
  int64_t image, first, count;
  int64_t channel;               // the first that is read
} bfloat_lines;

// Close also after a failure.
MOON_MUST_CHECK moon_status CPU(bfloat_planes_open)(const conv_product *product, int64_t span,
                                                    bfloat_planes *planes);
static inline void bfloat_planes_close(bfloat_planes *planes) { alloc_delete(planes->tap); }

// Elements of all planes for `lines` lines. Tiles may read AMX_ROWS pixels past the end.
static inline int64_t bfloat_planes_size(const bfloat_planes *p, int64_t lines) {
  return p->count * (lines + p->reach[0]) * p->width * p->pitch;
}

// Where a tap reads for the first position of a block of `lines` lines.
static inline int64_t bfloat_tap_at(const bfloat_planes *p, int64_t tap, int64_t lines) {
  const bfloat_tap *t = &p->tap[tap];
  return ((t->plane * (lines + p->reach[0]) + t->shift[0]) * p->width + t->shift[1]) * p->pitch;
}

void CPU(bfloat_planes_fill)(const bfloat_planes *planes, const bfloat_lines *lines,
                             uint16_t *target);

#endif
