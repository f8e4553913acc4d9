// Arrays (n, c, ...) whose channels lie side by side, seen as rows of pixels: one row of c elements
// for each image and place, `stride` elements after the one before (more than c where the array is
// a slice of a wider one's channels). A slot opens its arguments so with a set of operands; what
// does not lie so, or is of another type, goes through scratch that does.
#ifndef MOON_CPU_PIXELS_H
#define MOON_CPU_PIXELS_H

#include "cpu/operands.h"

typedef struct pixel_rows {
  void *data;        // NULL where there is no array
  int64_t stride;
} pixel_rows;

// Whether an array is better seen by pixels than by planes.
bool CPU(lies_in_pixels)(const device_array *x);

// The type to read an array of `dtype` in without converting it first.
static inline moon_dtype cpu_stored_dtype(moon_dtype dtype) {
  return dtype == MOON_F16 ? MOON_F32 : dtype;
}

// NULL gives no data; so does a failure, which the set remembers.
pixel_rows CPU(pixels_in)(operands *set, const device_array *x, moon_dtype dtype);
pixel_rows CPU(pixels_out)(operands *set, const device_array *out, moon_dtype dtype);

#endif
