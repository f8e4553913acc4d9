// Arrays seen as rows of pixels. See pixels.h.
#include "cpu/pixels.h"

// Finds the distance of the pixels, in row-major order of image and place, if there is one.
static bool find_stride(const device_array *x, int64_t *stride) {
  int64_t count = 1;
  *stride = x->shape[1];
  if (x->shape[1] > 1 && x->strides[1] != 1) return false;
  for (int i = x->ndim - 1; i >= 0; i--) {
    if (i == 1 || x->shape[i] == 1) continue;
    if (count == 1) *stride = x->strides[i];
    else if (x->strides[i] != *stride * count) return false;
    count *= x->shape[i];
  }
  return *stride >= x->shape[1];
}

bool CPU(lies_in_pixels)(const device_array *x) {
  int64_t stride, places = 1;
  for (int i = 2; i < x->ndim; i++) places *= x->shape[i];
  return (x->shape[1] > 1 || places == 1) && find_stride(x, &stride);
}

// Scratch with the channels innermost, as an array of x's shape.
static moon_status scratch_like(operands *set, const device_array *x, moon_dtype dtype) {
  cpu_temp *temp = &set->temp[set->count];
  MOON_TRY(CPU(temp_new)(set->engine, dtype, x->ndim, x->shape, temp));
  set->count++;
  int64_t stride = x->shape[1];
  temp->array.strides[1] = 1;
  for (int i = x->ndim - 1; i >= 0; i--) {
    if (i == 1) continue;
    temp->array.strides[i] = stride;
    stride *= x->shape[i];
  }
  return MOON_OK;
}

static pixel_rows open(operands *set, const device_array *x, moon_dtype dtype, bool for_writing) {
  pixel_rows rows = { .data = NULL };
  if (!x || set->status != MOON_OK) return rows;
  if (x->dtype == dtype && find_stride(x, &rows.stride)) {
    rows.data = x->data;
    return rows;
  }
  set->status = scratch_like(set, x, dtype);
  if (set->status != MOON_OK) return rows;
  const device_array *scratch = &set->temp[set->count - 1].array;
  if (for_writing) set->target[set->count - 1] = x;
  else set->status = CPU(copy)(set->engine, x, scratch);
  if (set->status != MOON_OK) return rows;
  return (pixel_rows){ .data = scratch->data, .stride = x->shape[1] };
}

pixel_rows CPU(pixels_in)(operands *set, const device_array *x, moon_dtype dtype) {
  return open(set, x, dtype, false);
}

pixel_rows CPU(pixels_out)(operands *set, const device_array *out, moon_dtype dtype) {
  return open(set, out, dtype, true);
}
