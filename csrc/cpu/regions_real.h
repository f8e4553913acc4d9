// Pooling boxes of an image, for one compute type, as torchvision counts (He et al. 2017, Girshick
// 2015). A box may lie anywhere and have any size; coordinates are limited before they become whole
// numbers, and of its samples only those inside the image are visited.
#include "cpu/network.h"

#include <math.h>
#include <string.h>

#ifndef MOON_CPU_REGIONS
#define MOON_CPU_REGIONS
typedef struct region_range { int64_t first, last; } region_range;   // last: not in it
enum {
  REGION_FAR = 1 << 30,   // farther than any image reaches
  REGION_KEPT = 256,      // samples of a direction calculated once for all channels of a box
};
#endif

// -- the largest element of each bin of a box

static int64_t region_whole(REAL value) {
  if (!(value > -(REAL)REGION_FAR)) return -REGION_FAR;
  return value < (REAL)REGION_FAR ? (int64_t)value : REGION_FAR;
}

// Bin `i` of `count` of a box from `low` to `high` pixels, cut to `size`.
static region_range bin_of(REAL low, REAL high, int64_t i, int64_t count, int64_t size) {
  int64_t start = region_whole(round(low)), end = region_whole(round(high));
  int64_t length = end - start + 1 > 1 ? end - start + 1 : 1;
  REAL bin = (REAL)length / (REAL)count;
  region_range r = { start + region_whole(floor((REAL)i * bin)),
                     start + region_whole(ceil((REAL)(i + 1) * bin)) };
  if (r.first < 0) r.first = 0;
  if (r.last > size) r.last = size;
  return r;
}

static int64_t place_of_largest(const REAL *x, int64_t width, region_range down,
                                region_range across) {
  int64_t place = -1;
  for (int64_t y = down.first; y < down.last; y++)
    for (int64_t c = across.first; c < across.last; c++)
      if (place < 0 || x[y * width + c] > x[place]) place = y * width + c;
  return place;
}

moon_status CPU(NAME(roi_places_items))(void *context, int64_t first, int64_t last) {
  const region_job *job = context;
  int64_t area = job->height * job->width;
  REAL scale = (REAL)job->options->scale;
  int64_t *out = (int64_t *)job->target + first * job->out_height * job->out_width;
  for (int64_t item = first; item < last; item++) {
    int64_t region = item / job->channels;
    int64_t plane = job->images[region] * job->channels + item % job->channels;
    const REAL *box = (const REAL *)job->boxes + region * 4;
    const REAL *x = (const REAL *)job->source + plane * area;
    for (int64_t i = 0; i < job->out_height; i++) {
      region_range down = bin_of(box[1] * scale, box[3] * scale, i, job->out_height, job->height);
      for (int64_t j = 0; j < job->out_width; j++) {
        region_range across = bin_of(box[0] * scale, box[2] * scale, j, job->out_width, job->width);
        int64_t place = place_of_largest(x, job->width, down, across);
        *out++ = place < 0 ? 0 : plane * area + place + 1;
      }
    }
  }
  return MOON_OK;
}

// -- the mean of bilinear samples in each bin of a box

// The two elements a sample lies between, and the share of the second; none: outside.
typedef struct NAME(sample) { int64_t low, high; REAL part; bool none; } NAME(sample);
// One direction of a box: sample k of bin i lies at start + i * bin + (k + 0.5) * bin / grid, and
// where they are few is kept[i * grid + k].
typedef struct NAME(direction) {
  REAL start, bin, grid;
  int64_t size, sampling;
  int64_t per_bin;                 // 0: not kept
  NAME(sample) kept[REGION_KEPT];
} NAME(direction);
typedef struct NAME(region) { int64_t number; NAME(direction) down, across; } NAME(region);

static NAME(sample) sample_at(const NAME(direction) *d, int64_t bin, int64_t k) {
  REAL at = d->start + (REAL)bin * d->bin + ((REAL)k + (REAL)0.5) * d->bin / d->grid;
  NAME(sample) s = { .none = !(at >= -1 && at <= (REAL)d->size) };
  if (s.none) return s;
  if (at < 0) at = 0;
  s.low = (int64_t)at;
  if (s.low >= d->size - 1) s.low = s.high = d->size - 1;
  else s.high = s.low + 1, s.part = at - (REAL)s.low;
  return s;
}

static NAME(sample) sample_of(const NAME(direction) *d, int64_t bin, int64_t k) {
  return d->per_bin > 0 ? d->kept[bin * d->per_bin + k] : sample_at(d, bin, k);
}

static void direction_open(NAME(direction) *d, const region_job *job, REAL low, REAL high,
                           int64_t count, int64_t size) {
  REAL scale = (REAL)job->options->scale, offset = (REAL)(job->options->aligned ? 0.5 : 0);
  REAL length = high * scale - offset - (low * scale - offset);
  if (!job->options->aligned && !(length >= 1)) length = 1;
  d->start = low * scale - offset;
  d->bin = length / (REAL)count;
  d->size = size;
  d->sampling = job->options->sampling;
  d->grid = d->sampling > 0 ? (REAL)d->sampling : (REAL)ceil(d->bin);
  d->per_bin = 0;
  if (!(d->grid >= 1 && d->grid * (REAL)count <= REGION_KEPT)) return;
  int64_t grid = (int64_t)d->grid;
  for (int64_t i = 0; i < count * grid; i++) d->kept[i] = sample_at(d, i / grid, i % grid);
  d->per_bin = grid;
}

// Box `number`, unless `region` shows it already.
static void region_open(NAME(region) *region, const region_job *job, int64_t number) {
  const REAL *box = (const REAL *)job->boxes + number * 4;
  if (region->number == number) return;
  region->number = number;
  direction_open(&region->down, job, box[1], box[3], job->out_height, job->height);
  direction_open(&region->across, job, box[0], box[2], job->out_width, job->width);
}

// Samples of a bin that can lie inside the image; a box far larger than it has very many others.
static region_range inside(const NAME(direction) *d, int64_t bin) {
  if (d->per_bin > 0) return (region_range){ 0, d->per_bin };
  double step = (double)(d->bin / d->grid), base = (double)(d->start + (REAL)bin * d->bin);
  double from = (-1 - base) / step, to = ((double)d->size - base) / step;
  if (from != from || to != to) return (region_range){ 0, d->sampling };
  region_range r = { dtype_to_int(floor(from < to ? from : to) - 2),   // a box may be turned round
                     dtype_to_int(ceil(from < to ? to : from) + 2) };
  int64_t grid = dtype_to_int((double)d->grid);
  if (!(r.first > 0)) r.first = 0;
  if (!(r.last < grid)) r.last = grid;
  return r;
}

static REAL share_of_sample(const NAME(direction) *down, const NAME(direction) *across) {
  REAL count = down->grid * across->grid;
  return count > 1 ? 1 / count : 1;
}

static REAL align_bin(const REAL *x, int64_t width, const NAME(direction) *down, int64_t i,
                      const NAME(direction) *across, int64_t j) {
  region_range rows = inside(down, i), columns = inside(across, j);
  REAL sum = 0;
  for (int64_t k = rows.first; k < rows.last; k++) {
    NAME(sample) v = sample_of(down, i, k);
    if (v.none) continue;
    const REAL *above = x + v.low * width, *below = x + v.high * width;
    for (int64_t l = columns.first; l < columns.last; l++) {
      NAME(sample) h = sample_of(across, j, l);
      if (h.none) continue;
      sum += (1 - v.part) * ((1 - h.part) * above[h.low] + h.part * above[h.high]) +
             v.part * ((1 - h.part) * below[h.low] + h.part * below[h.high]);
    }
  }
  return sum * share_of_sample(down, across);
}

static void align_bin_back(REAL g, REAL *dx, int64_t width, const NAME(direction) *down, int64_t i,
                           const NAME(direction) *across, int64_t j) {
  region_range rows = inside(down, i), columns = inside(across, j);
  g *= share_of_sample(down, across);
  for (int64_t k = rows.first; k < rows.last; k++) {
    NAME(sample) v = sample_of(down, i, k);
    if (v.none) continue;
    REAL *above = dx + v.low * width, *below = dx + v.high * width;
    for (int64_t l = columns.first; l < columns.last; l++) {
      NAME(sample) h = sample_of(across, j, l);
      if (h.none) continue;
      above[h.low] += g * (1 - v.part) * (1 - h.part);
      above[h.high] += g * (1 - v.part) * h.part;
      below[h.low] += g * v.part * (1 - h.part);
      below[h.high] += g * v.part * h.part;
    }
  }
}

moon_status CPU(NAME(roi_align_items))(void *context, int64_t first, int64_t last) {
  const region_job *job = context;
  REAL *out = (REAL *)job->target + first * job->out_height * job->out_width;
  NAME(region) region;
  region.number = -1;
  for (int64_t item = first; item < last; item++) {
    int64_t plane = job->images[item / job->channels] * job->channels + item % job->channels;
    const REAL *x = (const REAL *)job->source + plane * job->height * job->width;
    region_open(&region, job, item / job->channels);
    for (int64_t i = 0; i < job->out_height; i++)
      for (int64_t j = 0; j < job->out_width; j++)
        *out++ = align_bin(x, job->width, &region.down, i, &region.across, j);
  }
  return MOON_OK;
}

moon_status CPU(NAME(roi_align_back_planes))(void *context, int64_t first, int64_t last) {
  const region_job *job = context;
  int64_t area = job->height * job->width, bins = job->out_height * job->out_width;
  NAME(region) region;
  region.number = -1;
  for (int64_t plane = first; plane < last; plane++) {
    REAL *dx = (REAL *)job->target + plane * area;
    memset(dx, 0, (size_t)area * sizeof(REAL));
    for (int64_t box = 0; box < job->regions; box++) {
      if (job->images[box] != plane / job->channels) continue;
      const REAL *g = (const REAL *)job->source +
                      (box * job->channels + plane % job->channels) * bins;
      region_open(&region, job, box);
      for (int64_t i = 0; i < bins; i++)
        align_bin_back(g[i], dx, job->width, &region.down, i / job->out_width, &region.across,
                       i % job->out_width);
    }
  }
  return MOON_OK;
}
