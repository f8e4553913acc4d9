// Sampling at the positions of a grid, for one compute type. The neighbours of a block of positions
// are listed first. Where the channels of a pixel lie side by side and fill vectors, a position's
// neighbours are gone through for some channels after the others; elsewhere a channel's positions
// are, so that neighbouring positions share a vector whatever the layout. Either way an element is
// the sum of its neighbours times their weights in one order, each step rounded by itself: the same
// bits in every layout and on every processor, and those of the formula in ops/grid_sample.c.
#include "cpu/grid_sample.h"

#include "cpu/lanes.h"
#include "device/grid_taps.h"

// The neighbours of a block's positions: tap k of position i is place[k][i] elements behind its
// image's first (below 0: outside), and pulls the position along dimension d of the image by
// pull[d][k][i] times its value.
typedef struct grid_block {
  int64_t count;
  int taps;
  int64_t place[GRID_MOST_TAPS][GRID_BLOCK];
  REAL weight[GRID_MOST_TAPS][GRID_BLOCK];
  REAL pull[GRID_MOST_DIMS][GRID_MOST_TAPS][GRID_BLOCK];   // only where it is asked for
} grid_block;

// The same along one dimension.
typedef struct grid_side {
  REAL pixel[GRID_SIDE_TAPS][GRID_BLOCK];
  REAL weight[GRID_SIDE_TAPS][GRID_BLOCK], slope[GRID_SIDE_TAPS][GRID_BLOCK];
} grid_side;

// -- listing neighbours

// Finds those of coordinates u. To be inlined with constants, which leave a loop without branches.
static inline __attribute__((always_inline)) void list_as(const grid_axis *given, int mode,
                                                          int padding, const REAL *u,
                                                          grid_side *side) {
  grid_axis axis = *given;
  axis.mode = mode;
  axis.padding = padding;
  for (int i = 0; i < GRID_BLOCK; i++) {
    grid_tap taps[GRID_SIDE_TAPS];
    grid_taps_of(&axis, u[i], taps);
#pragma GCC unroll 4
    for (int k = 0; k < grid_side_taps(mode); k++) {
      side->pixel[k][i] = taps[k].pixel;
      side->weight[k][i] = taps[k].weight;
      side->slope[k][i] = taps[k].slope;
    }
  }
}

static inline __attribute__((always_inline)) void list_padded(const grid_axis *axis, int padding,
                                                              const REAL *u, grid_side *side) {
  if (axis->mode == GRID_NEAREST) list_as(axis, GRID_NEAREST, padding, u, side);
  else if (axis->mode == GRID_BILINEAR) list_as(axis, GRID_BILINEAR, padding, u, side);
  else list_as(axis, GRID_BICUBIC, padding, u, side);
}

// Coordinates `step` apart; a block that is not full is filled up with zeros.
static void list_side(const grid_axis *axis, const REAL *coordinates, int64_t step, int64_t count,
                      grid_side *side) {
  REAL u[GRID_BLOCK] = { 0 };
  for (int64_t i = 0; i < count; i++) u[i] = coordinates[i * step];
  if (axis->padding == GRID_ZEROS) list_padded(axis, GRID_ZEROS, u, side);
  else if (axis->padding == GRID_BORDER) list_padded(axis, GRID_BORDER, u, side);
  else list_padded(axis, GRID_REFLECTION, u, side);
}

// Which neighbour along each dimension tap k stands for, the last dimension's fastest.
static void digits_of(int k, int dims, int side_taps, int digits[GRID_MOST_DIMS]) {
  for (int d = dims - 1; d >= 0; d--, k /= side_taps) digits[d] = k % side_taps;
}

// `step`: of places.
static void join_sides(const grid_job *job, const grid_axis *axes, const grid_side *sides, int k,
                       const int *digits, int64_t step, grid_block *block) {
  int64_t *place = block->place[k];
  REAL *weight = block->weight[k], inside[GRID_BLOCK];
  for (int i = 0; i < GRID_BLOCK; i++) {
    inside[i] = sides[0].pixel[digits[0]][i];
    place[i] = grid_place(&axes[0], inside[i]);
    weight[i] = sides[0].weight[digits[0]][i];
  }
  for (int d = 1; d < job->dims; d++) {
    const REAL *next = sides[d].pixel[digits[d]], *factor = sides[d].weight[digits[d]];
    for (int i = 0; i < GRID_BLOCK; i++) {
      inside[i] = inside[i] < 0 ? inside[i] : next[i];
      place[i] = place[i] * axes[d].size + grid_place(&axes[d], next[i]);
      weight[i] *= factor[i];
    }
  }
  for (int i = 0; i < GRID_BLOCK; i++) place[i] = inside[i] < 0 ? -1 : place[i] * step;
}

// How far tap k's weight changes along each dimension.
static void join_pulls(const grid_job *job, const grid_side *sides, int k, const int *digits,
                       grid_block *block) {
  for (int along = 0; along < job->dims; along++) {
    REAL *pull = block->pull[along][k];
    for (int i = 0; i < GRID_BLOCK; i++) pull[i] = sides[along].slope[digits[along]][i];
    for (int d = 0; d < job->dims; d++) {
      const REAL *factor = sides[d].weight[digits[d]];
      if (d == along) continue;
      for (int i = 0; i < GRID_BLOCK; i++) pull[i] *= factor[i];
    }
  }
}

static void axes_of(const grid_job *job, grid_axis *axes) {
  for (int d = 0; d < job->dims; d++) grid_axis_open(job->options, job->size[d], &axes[d]);
}

// Block `number` of an image whose places are `step` apart; `pulls`: with pulls.
static void list_neighbours(const grid_job *job, const grid_axis *axes, int64_t image,
                            int64_t number, int64_t step, bool pulls, grid_block *block) {
  const int64_t first = number * GRID_BLOCK;
  const REAL *grid = (const REAL *)job->grid + (image * job->positions + first) * job->dims;
  const int side_taps = grid_side_taps(job->options->mode);
  grid_side sides[GRID_MOST_DIMS];
  block->count = minimum(job->positions - first, GRID_BLOCK);
  block->taps = 1;
  for (int d = 0; d < job->dims; d++) {   // the grid's last number is of the first dimension
    list_side(&axes[d], grid + (job->dims - 1 - d), job->dims, block->count, &sides[d]);
    block->taps *= side_taps;
  }
  for (int k = 0; k < block->taps; k++) {
    int digits[GRID_MOST_DIMS];
    digits_of(k, job->dims, side_taps, digits);
    join_sides(job, axes, sides, k, digits, step, block);
    if (pulls) join_pulls(job, sides, k, digits, block);
  }
}

// A position's neighbours inside the image, as pixels of an array.
typedef struct grid_sources {
  int count;
  const REAL *from[GRID_MOST_TAPS];
  REAL weight[GRID_MOST_TAPS], pull[GRID_MOST_DIMS][GRID_MOST_TAPS];
} grid_sources;

static void sources_of(const grid_job *job, const grid_block *block, int64_t i, const REAL *image,
                       bool pulls, grid_sources *sources) {
  int count = 0;
  for (int k = 0; k < block->taps; k++) {
    if (block->place[k][i] < 0) continue;
    sources->from[count] = image + block->place[k][i];
    sources->weight[count] = block->weight[k][i];
    for (int d = 0; d < job->dims && pulls; d++) sources->pull[d][count] = block->pull[d][k][i];
    count++;
  }
  sources->count = count;
}

// -- values

static void sample_pixel(const grid_sources *s, int64_t channels, REAL *out) {
  for (int64_t c = 0; c < channels; c += LANES) {
    lanes sum = lanes_zero();
    for (int k = 0; k < s->count; k++)
      sum += lanes_load_some(s->from[k] + c, channels - c) * lanes_same(s->weight[k]);
    lanes_store_some(out + c, sum, channels - c);
  }
}

// A channel of a block. To be inlined with a constant number of neighbours.
static inline __attribute__((always_inline)) void sample_plane_as(const grid_block *block,
                                                                  int taps, const REAL *x,
                                                                  REAL *out, int64_t step) {
  for (int64_t i = 0; i < block->count; i++) {
    REAL sum = 0;
#pragma GCC unroll 4
    for (int k = 0; k < taps; k++) {
      int64_t place = block->place[k][i];
      if (place >= 0) sum += x[place] * block->weight[k][i];
    }
    out[i * step] = sum;
  }
}

static void sample_plane(const grid_block *block, const REAL *x, REAL *out, int64_t step) {
  if (block->taps == 1) sample_plane_as(block, 1, x, out, step);
  else if (block->taps == 4) sample_plane_as(block, 4, x, out, step);
  else sample_plane_as(block, block->taps, x, out, step);
}

moon_status CPU(NAME(grid_sample_blocks))(void *context, int64_t first, int64_t last) {
  const grid_job *job = context;
  grid_axis axes[GRID_MOST_DIMS];
  grid_block block;
  axes_of(job, axes);
  for (int64_t item = first; item < last; item++) {
    int64_t image = item / job->blocks, number = item % job->blocks;
    const REAL *x = (const REAL *)job->x.data + image * job->x.image;
    REAL *out = (REAL *)job->out.data + image * job->out.image +
                number * GRID_BLOCK * job->out.place;
    list_neighbours(job, axes, image, number, job->x.place, false, &block);
    for (int64_t i = 0; i < block.count && job->by_pixels; i++) {
      grid_sources sources;
      sources_of(job, &block, i, x, false, &sources);
      sample_pixel(&sources, job->channels, out + i * job->out.place);
    }
    for (int64_t c = 0; c < job->channels && !job->by_pixels; c++)
      sample_plane(&block, x + c * job->x.channel, out + c * job->out.channel, job->out.place);
  }
  return MOON_OK;
}

// -- the gradient of the grid

static void pull_pixel(const grid_sources *s, int dims, int64_t channels, const REAL *gradient,
                       REAL *dgrid) {
  lanes sum[GRID_MOST_DIMS] = { lanes_zero() };
  for (int64_t c = 0; c < channels; c += LANES) {
    lanes g = lanes_load_some(gradient + c, channels - c);
    for (int k = 0; k < s->count; k++) {
      lanes product = lanes_load_some(s->from[k] + c, channels - c) * g;
      for (int d = 0; d < dims; d++) sum[d] += product * lanes_same(s->pull[d][k]);
    }
  }
  for (int d = 0; d < dims; d++) dgrid[dims - 1 - d] = lanes_sum(sum[d]);
}

// Adds a channel's share of a block. To be inlined with constants.
static inline __attribute__((always_inline)) void pull_plane_as(
    const grid_block *block, int dims, int taps, const REAL *x, const REAL *gradient, int64_t step,
    REAL sums[GRID_MOST_DIMS][GRID_BLOCK]) {
  for (int64_t i = 0; i < block->count; i++) {
    REAL g = gradient[i * step];
#pragma GCC unroll 4
    for (int k = 0; k < taps; k++) {
      int64_t place = block->place[k][i];
      if (place < 0) continue;
      REAL product = x[place] * g;
#pragma GCC unroll 3
      for (int d = 0; d < dims; d++) sums[d][i] += product * block->pull[d][k][i];
    }
  }
}

static void pull_plane(const grid_block *block, int dims, const REAL *x, const REAL *gradient,
                       int64_t step, REAL sums[GRID_MOST_DIMS][GRID_BLOCK]) {
  if (dims == 3) pull_plane_as(block, 3, block->taps, x, gradient, step, sums);
  else if (block->taps == 4) pull_plane_as(block, 2, 4, x, gradient, step, sums);
  else pull_plane_as(block, 2, block->taps, x, gradient, step, sums);
}

static void pull_planes(const grid_job *job, const grid_block *block, const REAL *x,
                        const REAL *gradient, REAL *dgrid) {
  REAL sums[GRID_MOST_DIMS][GRID_BLOCK] = { { 0 } };
  for (int64_t c = 0; c < job->channels; c++)
    pull_plane(block, job->dims, x + c * job->x.channel,
               gradient + c * job->gradient.channel, job->gradient.place, sums);
  for (int64_t i = 0; i < block->count; i++)
    for (int d = 0; d < job->dims; d++) dgrid[i * job->dims + job->dims - 1 - d] = sums[d][i];
}

moon_status CPU(NAME(grid_sample_grid_blocks))(void *context, int64_t first, int64_t last) {
  const grid_job *job = context;
  grid_axis axes[GRID_MOST_DIMS];
  grid_block block;
  axes_of(job, axes);
  for (int64_t item = first; item < last; item++) {
    int64_t image = item / job->blocks, number = item % job->blocks, at = number * GRID_BLOCK;
    const REAL *x = (const REAL *)job->x.data + image * job->x.image;
    const REAL *gradient = (const REAL *)job->gradient.data + image * job->gradient.image +
                           at * job->gradient.place;
    REAL *dgrid = (REAL *)job->dgrid + (image * job->positions + at) * job->dims;
    list_neighbours(job, axes, image, number, job->x.place, true, &block);
    for (int64_t i = 0; i < block.count && job->by_pixels; i++) {
      grid_sources sources;
      sources_of(job, &block, i, x, true, &sources);
      pull_pixel(&sources, job->dims, job->channels, gradient + i * job->gradient.place,
                 dgrid + i * job->dims);
    }
    if (!job->by_pixels) pull_planes(job, &block, x, gradient, dgrid);
  }
  return MOON_OK;
}

// -- the gradient of the image

// Leaves out neighbours that lie elsewhere than from element `first` to before `last`.
static void cut_to_band(grid_block *block, int64_t first, int64_t last) {
  for (int k = 0; k < block->taps; k++) {
    int64_t *place = block->place[k];
    for (int64_t i = 0; i < block->count; i++)
      place[i] = place[i] < first || place[i] >= last ? -1 : place[i];
  }
}

static void spread_pixels(const grid_job *job, const grid_block *block, int64_t channels,
                          const REAL *gradient, REAL *dx) {
  for (int64_t i = 0; i < block->count; i++) {
    const REAL *g = gradient + i * job->gradient.place;
    for (int k = 0; k < block->taps; k++) {
      if (block->place[k][i] < 0) continue;
      REAL *to = dx + block->place[k][i];
      lanes weight = lanes_same(block->weight[k][i]);
      for (int64_t c = 0; c < channels; c += LANES) {
        lanes sum = lanes_load_some(to + c, channels - c) +
                    lanes_load_some(g + c, channels - c) * weight;
        lanes_store_some(to + c, sum, channels - c);
      }
    }
  }
}

static void spread_plane(const grid_block *block, const REAL *gradient, int64_t step, REAL *dx) {
  for (int64_t i = 0; i < block->count; i++) {
    REAL g = gradient[i * step];
    for (int k = 0; k < block->taps; k++)
      if (block->place[k][i] >= 0) dx[block->place[k][i]] += g * block->weight[k][i];
  }
}

moon_status CPU(NAME(grid_sample_image_bands))(void *context, int64_t first, int64_t last) {
  const grid_job *job = context;
  grid_axis axes[GRID_MOST_DIMS];
  grid_block block;
  axes_of(job, axes);
  for (int64_t item = first; item < last; item++) {
    int64_t band = item % job->bands, group = item / job->bands % job->groups;
    int64_t image = item / job->bands / job->groups, channel = group * job->group;
    int64_t channels = minimum(job->channels - channel, job->group);
    const REAL *gradient = (const REAL *)job->gradient.data + image * job->gradient.image +
                           channel * job->gradient.channel;
    REAL *dx = (REAL *)job->dx.data + image * job->dx.image + channel * job->dx.channel;
    int64_t band_size = job->band * job->dx.place;
    for (int64_t number = 0; number < job->blocks; number++) {
      const REAL *g = gradient + number * GRID_BLOCK * job->gradient.place;
      list_neighbours(job, axes, image, number, job->dx.place, false, &block);
      if (job->bands > 1) cut_to_band(&block, band * band_size, (band + 1) * band_size);
      if (job->by_pixels) spread_pixels(job, &block, channels, g, dx);
      for (int64_t c = 0; c < channels && !job->by_pixels; c++)
        spread_plane(&block, g + c * job->gradient.channel, job->gradient.place,
                     dx + c * job->dx.channel);
    }
  }
  return MOON_OK;
}
