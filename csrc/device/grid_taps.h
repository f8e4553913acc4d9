// Which pixels grid_sample takes for a coordinate of its grid along one dimension of the image,
// with what weights, and how fast the weights change with the coordinate. Compiled by gcc and nvcc
// alike: in C for the type that REAL is when the header is included, in C++ for any.
//
// Each step is rounded by itself, as in the operators of the formula (csrc/ops/grid_sample.c), so
// that all devices take the same neighbours: files that include this are compiled without
// contraction of a * b + c (gcc: -ffp-contract=off, nvcc: -fmad=false).
#ifndef MOON_DEVICE_GRID_TAPS_H
#define MOON_DEVICE_GRID_TAPS_H

#include <math.h>

#include "base/shared.h"
#include "device/slots.h"

#ifdef __cplusplus
#define GRID_SHARED template <typename REAL> MOON_SHARED
#define GRID_AXIS grid_axis<REAL>
#define GRID_TAP grid_tap<REAL>
template <typename REAL> struct grid_axis;
template <typename REAL> struct grid_tap;
template <typename REAL>
#else
#define GRID_SHARED MOON_SHARED
#define GRID_AXIS grid_axis
#define GRID_TAP grid_tap
typedef struct grid_axis grid_axis;
typedef struct grid_tap grid_tap;
#endif
struct grid_axis {
  int64_t size;                // of the image
  int mode, padding;
  REAL scale, offset;          // coordinate u lies at pixel scale * u + offset,
  REAL lowest, highest;        // brought back to these from far outside
  REAL last;                   // pixel
  REAL fold, span, per_span;   // reflection, at fold and fold + span; per_span 0: one pixel
};

// A neighbour; its weight's derivative with respect to the coordinate.
#ifdef __cplusplus
template <typename REAL>
#endif
struct grid_tap { REAL pixel, weight, slope; };   // pixel: below 0: outside

enum { GRID_MOST_DIMS = 3, GRID_SIDE_TAPS = 4, GRID_MOST_TAPS = 16 };   // along one, of a position

// Neighbours along a dimension.
MOON_SHARED int grid_side_taps(int mode) {
  return mode == GRID_NEAREST ? 1 : mode == GRID_BILINEAR ? 2 : GRID_SIDE_TAPS;
}

GRID_SHARED void grid_axis_open(const grid_options *options, int64_t size, GRID_AXIS *a) {
  const bool align = options->align_corners;
  const double span = align ? (double)(size - 1) : (double)size, far = 0x1p54;
  const bool folds = options->padding == GRID_REFLECTION;
  a->size = size;
  a->mode = options->mode;
  a->padding = options->padding;
  a->scale = (REAL)(0.5 * span);
  a->offset = (REAL)(0.5 * (double)(size - 1));
  a->lowest = (REAL)(folds ? -far : (double)-GRID_SIDE_TAPS);   // all neighbours are outside there
  a->highest = (REAL)(folds ? far : (double)(size - 1 + GRID_SIDE_TAPS));
  a->last = (REAL)(size - 1);
  a->fold = (REAL)(align ? 0 : -0.5);
  a->span = (REAL)span;
  a->per_span = (REAL)(span > 0 ? 1 / span : 0);
}

// -- coordinates; `slope` is multiplied by the derivative. Without branches: loops over positions
//    become vector code.

// The limits themselves have no slope: beyond the last pixel there is no neighbour to weigh it
// against.
GRID_SHARED REAL grid_limited(REAL x, REAL low, REAL high, REAL *slope) {
  *slope = (x > low) & (x < high) ? *slope : 0;
  return x < low ? low : x > high ? high : x;
}

// Folded back at the first and last centres (align_corners), or at the outer edges.
GRID_SHARED REAL grid_reflected(const GRID_AXIS *a, REAL x, REAL *slope) {
  REAL from = x - a->fold, distance = from < 0 ? -from : from;
  REAL flips = (REAL)floor(distance * a->per_span), rest = distance - flips * a->span;
  bool back = flips > 2 * (REAL)floor(flips * (REAL)0.5);
  REAL sign = from > 0 ? (REAL)1 : from < 0 ? (REAL)-1 : (REAL)0;
  *slope *= back ? -sign : sign;
  return (back ? a->span - rest : rest) + a->fold;
}

GRID_SHARED REAL grid_padded(const GRID_AXIS *a, REAL x, REAL *slope) {
  if (a->padding == GRID_ZEROS) return x;
  if (a->padding == GRID_REFLECTION) x = grid_reflected(a, x, slope);
  return grid_limited(x, (REAL)0, a->last, slope);
}

// The pixel, perhaps between two, of coordinate u. NaN counts as -1.
GRID_SHARED REAL grid_pixel(const GRID_AXIS *a, REAL u, REAL *slope) {
  REAL at = a->scale * u + a->offset, first = a->offset - a->scale;
  *slope = at == at ? a->scale : 0;
  at = grid_limited(at == at ? at : first, a->lowest, a->highest, slope);
  return a->mode == GRID_BICUBIC ? at : grid_padded(a, at, slope);
}

// -- neighbours

// The neighbour at pixel `at`, a whole number.
GRID_SHARED GRID_TAP grid_tap_at(const GRID_AXIS *a, REAL at, REAL weight, REAL slope) {
  REAL unused = 0;
  if (a->mode == GRID_BICUBIC) at = grid_padded(a, at, &unused);
  REAL pixel = (at >= 0) & (at <= a->last) ? (REAL)rint(at) : (REAL)-1;
  GRID_TAP tap = { pixel, weight, slope };
  return tap;
}

// A neighbour's number, from 0; below 0: outside. `last` may have been rounded up.
GRID_SHARED int64_t grid_place(const GRID_AXIS *a, REAL pixel) {
  int64_t place = (int64_t)pixel;
  return place < a->size ? place : a->size - 1;
}

// Keys' cubic with a = -0.75 at distance t below 1, and at distance t from 1 to 2 (Keys 1981); and
// their derivatives.
GRID_SHARED REAL grid_cubic_near(REAL t) {
  return ((REAL)1.25 * t - (REAL)2.25) * (t * t) + 1;
}
GRID_SHARED REAL grid_cubic_far(REAL t) {
  return (((REAL)-0.75 * t + (REAL)3.75) * t - 6) * t + 3;
}
GRID_SHARED REAL grid_cubic_near_slope(REAL t) { return ((REAL)3.75 * t - (REAL)4.5) * t; }
GRID_SHARED REAL grid_cubic_far_slope(REAL t) {
  return ((REAL)-2.25 * t + (REAL)7.5) * t - 6;
}

// The neighbours of coordinate u: as many as grid_side_taps says, in order of their pixels.
GRID_SHARED void grid_taps_of(const GRID_AXIS *a, REAL u, GRID_TAP *taps) {
  REAL gain, at = grid_pixel(a, u, &gain);
  if (a->mode == GRID_NEAREST) {
    taps[0] = grid_tap_at(a, (REAL)rint(at), (REAL)1, (REAL)0);
    return;
  }
  REAL low = (REAL)floor(at), t = at - low, s = 1 - t;
  if (a->mode == GRID_BILINEAR) {
    taps[0] = grid_tap_at(a, low, s, -gain);
    taps[1] = grid_tap_at(a, low + 1, t, gain);
    return;
  }
  taps[0] = grid_tap_at(a, low - 1, grid_cubic_far(t + 1), gain * grid_cubic_far_slope(t + 1));
  taps[1] = grid_tap_at(a, low, grid_cubic_near(t), gain * grid_cubic_near_slope(t));
  taps[2] = grid_tap_at(a, low + 1, grid_cubic_near(s), -gain * grid_cubic_near_slope(s));
  taps[3] = grid_tap_at(a, low + 2, grid_cubic_far(2 - t), -gain * grid_cubic_far_slope(2 - t));
}

#endif
