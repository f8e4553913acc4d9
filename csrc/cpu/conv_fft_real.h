// The tasks of conv_fft.h for one compute type: conv_fft_f32.c and conv_fft_f64.c include it with
//   REAL, NAME(word)   the type, and word_f32 or word_f64
#include <math.h>
#include <string.h>

#include "cpu/conv_fft.h"
#include "cpu/lanes.h"
#include "cpu/micro.h"
#include "cpu/whole.h"

enum { GROUP = MICRO_VECTORS * LANES };   // channels transformed at once: a panel of columns

// -- transforms of a tile: (rows, columns, LANES), the first LANES channels of a group in the real
//    part, the others in the imaginary part

typedef struct tile_buffers {
  void *now[2], *other[2];      // parts
  void *block;
  size_t bytes;
} tile_buffers;

static moon_status buffers_new(const fft_plan *p, tile_buffers *b) {
  size_t part = (size_t)(p->size[0] * p->size[1] * LANES);
  b->bytes = 4 * part * sizeof(REAL);
  MOON_TRY(alloc_bytes(p->engine, b->bytes, &b->block));
  REAL *at = b->block;
  b->now[0] = at, b->now[1] = at + part;
  b->other[0] = at + 2 * part, b->other[1] = at + 3 * part;
  return MOON_OK;
}

static void exchange(tile_buffers *b) {
  for (int i = 0; i < 2; i++) {
    void *kept = b->now[i];
    b->now[i] = b->other[i];
    b->other[i] = kept;
  }
}

static void turn_parts(tile_buffers *b) {
  void *now = b->now[0], *other = b->other[0];
  b->now[0] = b->now[1], b->other[0] = b->other[1];
  b->now[1] = now, b->other[1] = other;
}

static void transform_tile(const fft_plan *p, tile_buffers *b) {
  const int64_t row = p->size[1] * LANES;
  if (CPU(NAME(fft_lines))(&p->chain[0], row, b->now, b->other)) exchange(b);
  bool moved = false;
  for (int64_t i = 0; i < p->size[0]; i++) {
    void *x[2], *y[2];
    for (int part = 0; part < 2; part++) {
      x[part] = (REAL *)b->now[part] + i * row;
      y[part] = (REAL *)b->other[part] + i * row;
    }
    moved = CPU(NAME(fft_lines))(&p->chain[1], LANES, x, y);
  }
  if (moved) exchange(b);
}

// The inverse, unscaled: swapping the parts before and after turns a transform into it.
static void transform_back(const fft_plan *p, tile_buffers *b) {
  turn_parts(b);
  transform_tile(p, b);
  turn_parts(b);
}

// -- spectra: the two signals of a tile apart, at half of the frequencies

typedef struct pair { lanes re[2], im[2]; } pair;

// Where frequency (i, j) and the one opposite to it lie in a tile.
static int64_t place(const fft_plan *p, int64_t i, int64_t j) {
  return (i * p->size[1] + j) * LANES;
}
static int64_t opposite(const fft_plan *p, int64_t i, int64_t j) {
  return place(p, (p->size[0] - i) % p->size[0], (p->size[1] - j) % p->size[1]);
}

static pair pair_at(const fft_plan *p, const tile_buffers *b, int64_t i, int64_t j) {
  const REAL *re = b->now[0], *im = b->now[1];
  const lanes half = lanes_all((REAL)0.5);
  int64_t at = place(p, i, j), against = opposite(p, i, j);
  lanes zr = lanes_load(re + at) * half, zi = lanes_load(im + at) * half;
  lanes or = lanes_load(re + against) * half, oi = lanes_load(im + against) * half;
  return (pair){ .re = { zr + or, zi + oi }, .im = { zi - oi, or - zr } };
}

// The tile's two signals at frequency (i, j), and what follows for the opposite one.
static void put_pair(const fft_plan *p, tile_buffers *b, int64_t i, int64_t j, const pair *z) {
  REAL *re = b->now[0], *im = b->now[1];
  int64_t at = place(p, i, j), against = opposite(p, i, j);
  lanes_store(re + against, z->re[0] + z->im[1]);
  lanes_store(im + against, z->re[1] - z->im[0]);
  lanes_store(re + at, z->re[0] - z->im[1]);
  lanes_store(im + at, z->im[0] + z->re[1]);
}

// -- tiles of arrays

typedef struct tile_place {
  int64_t image, origin[2], group;   // group: its first channel
} tile_place;

static tile_place place_of(const fft_plan *p, const fft_grid *grid, int64_t item,
                           int64_t *tile) {
  int64_t groups = grid->padded / GROUP, index;
  tile_place at = { .group = item % groups * GROUP };
  *tile = item / groups;
  index = p->first + *tile;
  at.origin[1] = index % p->tiles[1] * p->step[1];
  index /= p->tiles[1];
  at.origin[0] = index % p->tiles[0] * p->step[0];
  at.image = index / p->tiles[0];
  return at;
}

// The element of the array at position `i` of a tile; false: none.
static bool element_at(const fft_grid *grid, int axis, int64_t origin, int64_t i, int64_t *index) {
  int64_t at = origin + i - grid->before[axis];
  *index = at / grid->step[axis];
  return at >= 0 && at % grid->step[axis] == 0 && *index < grid->array->shape[2 + axis];
}

static void read_tile(const fft_plan *p, const fft_grid *grid, const tile_place *at,
                      tile_buffers *b) {
  const device_array *x = grid->array;
  const int64_t row = p->size[1] * LANES, left = x->shape[1] - at->group;
  int64_t line, pixel;
  for (int part = 0; part < 2; part++)
    memset(b->now[part], 0, (size_t)(p->size[0] * row) * sizeof(REAL));
  for (int64_t i = 0; i < grid->extent[0]; i++) {
    if (!element_at(grid, 0, at->origin[0], i, &line)) continue;
    const REAL *from = (const REAL *)x->data + at->image * x->strides[0] + line * x->strides[2] +
                       at->group;
    for (int64_t j = 0; j < grid->extent[1]; j++) {
      if (!element_at(grid, 1, at->origin[1], j, &pixel)) continue;
      const REAL *channels = from + pixel * x->strides[3];
      lanes_store((REAL *)b->now[0] + i * row + j * LANES, lanes_load_some(channels, left));
      if (left > LANES)
        lanes_store((REAL *)b->now[1] + i * row + j * LANES,
                    lanes_load_some(channels + LANES, left - LANES));
    }
  }
}

static void keep_spectrum(const fft_plan *p, const fft_grid *grid, const tile_buffers *b,
                          REAL *to) {
  const int64_t step = p->count * grid->parts * grid->padded;
  for (int64_t i = 0; i < p->size[0]; i++)
    for (int64_t j = 0; j < p->half; j++, to += step) {
      pair z = pair_at(p, b, i, j);
      for (int s = 0; s < 2; s++) {
        lanes_store(to + s * LANES, z.re[s]);
        lanes_store(to + grid->padded + s * LANES, z.im[s]);
        if (grid->parts == 3) lanes_store(to + 2 * grid->padded + s * LANES, -z.re[s]);
      }
    }
}

static moon_status read_tiles(const fft_plan *p, const fft_grid *grid, REAL *spectra,
                              int64_t first, int64_t last) {
  tile_buffers b;
  MOON_TRY(buffers_new(p, &b));
  for (int64_t item = first; item < last; item++) {
    int64_t tile;
    tile_place at = place_of(p, grid, item, &tile);
    read_tile(p, grid, &at, &b);
    transform_tile(p, &b);
    keep_spectrum(p, grid, &b, spectra + tile * grid->parts * grid->padded + at.group);
  }
  alloc_release(p->engine, b.block, b.bytes);
  return MOON_OK;
}

moon_status CPU(NAME(fft_read_source))(void *plan, int64_t first, int64_t last) {
  const fft_plan *p = plan;
  return read_tiles(p, &p->source, p->source_spectra, first, last);
}

moon_status CPU(NAME(fft_read_target))(void *plan, int64_t first, int64_t last) {
  const fft_plan *p = plan;
  return read_tiles(p, &p->target, p->target_spectra, first, last);
}

static lanes finished(const conv2d_finish *finish, lanes sum, const REAL *add, int64_t c,
                      int64_t left) {
  if (finish->scale) sum *= lanes_load_some((const REAL *)finish->scale->data + c, left);
  if (finish->shift) sum += lanes_load_some((const REAL *)finish->shift->data + c, left);
  if (add) sum += lanes_load_some(add + c, left);
  return lanes_clamp(sum, (REAL)finish->low, (REAL)finish->high);
}

static int64_t pixel_offset(const device_array *x, int64_t image, int64_t line, int64_t pixel) {
  return image * x->strides[0] + line * x->strides[2] + pixel * x->strides[3];
}

static void write_pixel(const fft_plan *p, const tile_place *at, const tile_buffers *b,
                        int64_t place_in, int64_t line, int64_t pixel) {
  const device_array *y = p->target.array;
  const conv2d_finish *finish = p->problem->finish;
  const device_array *add = finish ? finish->add : NULL;
  REAL *to = (REAL *)y->data + pixel_offset(y, at->image, line, pixel);
  const REAL *extra =
      add ? (const REAL *)add->data + pixel_offset(add, at->image, line, pixel) : NULL;
  for (int s = 0; s < 2; s++) {
    int64_t c = at->group + s * LANES, left = y->shape[1] - c;
    if (left <= 0) return;
    lanes value = lanes_load((const REAL *)b->now[s] + place_in);
    if (finish) value = finished(finish, value, extra, c, left);
    lanes_store_some(to + c, value, left);
  }
}

static void write_tile(const fft_plan *p, const tile_place *at, const tile_buffers *b) {
  int64_t line, pixel;
  for (int64_t i = 0; i < p->target.extent[0]; i++) {
    if (!element_at(&p->target, 0, at->origin[0], i, &line)) continue;
    for (int64_t j = 0; j < p->target.extent[1]; j++)
      if (element_at(&p->target, 1, at->origin[1], j, &pixel))
        write_pixel(p, at, b, place(p, i, j), line, pixel);
  }
}

// A tile from its spectrum, `step` elements from one frequency to the next, the parts `padded`
// apart.
static void load_spectrum(const fft_plan *p, const REAL *from, int64_t step, int64_t padded,
                          tile_buffers *b) {
  for (int64_t i = 0; i < p->size[0]; i++)
    for (int64_t j = 0; j < p->half; j++, from += step) {
      pair z;
      for (int s = 0; s < 2; s++) {
        z.re[s] = lanes_load(from + s * LANES);
        z.im[s] = lanes_load(from + padded + s * LANES);
      }
      put_pair(p, b, i, j, &z);
    }
}

moon_status CPU(NAME(fft_write_target))(void *plan, int64_t first, int64_t last) {
  const fft_plan *p = plan;
  tile_buffers b;
  MOON_TRY(buffers_new(p, &b));
  for (int64_t item = first; item < last; item++) {
    int64_t tile, width = 2 * p->target.padded;
    tile_place at = place_of(p, &p->target, item, &tile);
    load_spectrum(p, (const REAL *)p->target_spectra + tile * width + at.group, p->count * width,
                  p->target.padded, &b);
    transform_back(p, &b);
    write_tile(p, &at, &b);
  }
  alloc_release(p->engine, b.block, b.bytes);
  return MOON_OK;
}

// -- weights, of `source` channels by `target` channels: rows and columns of the products

typedef struct weight_view {
  REAL *data;
  int64_t source, target;   // strides
  bool turned;              // taps from the last to the first
} weight_view;

static weight_view view_weights(const fft_plan *p) {
  const device_array *w = p->problem->weight;
  bool back = p->problem->direction == CONV_BACKWARD_INPUT;
  return (weight_view){ .data = w->data, .source = w->strides[back ? 0 : 1],
                        .target = w->strides[back ? 1 : 0], .turned = back };
}

// Where tap (y, x) lies in the weights; its place in a tile is (y, x) times the dilation.
static int64_t tap_offset(const fft_plan *p, const weight_view *v, int64_t y, int64_t x) {
  const device_array *w = p->problem->weight;
  if (v->turned) y = w->shape[2] - 1 - y, x = w->shape[3] - 1 - x;
  return y * w->strides[2] + x * w->strides[3];
}
static int64_t tap_place(const fft_plan *p, int64_t y, int64_t x) {
  const int64_t *dilation = p->problem->geometry->dilation;
  return place(p, y * dilation[0], x * dilation[1]);
}

// Weights of source channel `row` and a group of target channels as a tile, scaled for the inverse.
static void read_weights(const fft_plan *p, const weight_view *v, int64_t row, int64_t group,
                         tile_buffers *b) {
  const device_array *w = p->problem->weight;
  const REAL scale = (REAL)(1.0 / (double)(p->size[0] * p->size[1]));
  int64_t count = minimum(GROUP, p->target.array->shape[1] - group);
  for (int part = 0; part < 2; part++)
    memset(b->now[part], 0, (size_t)(p->size[0] * p->size[1] * LANES) * sizeof(REAL));
  for (int64_t y = 0; y < w->shape[2]; y++)
    for (int64_t x = 0; x < w->shape[3]; x++) {
      const REAL *from = v->data + row * v->source + group * v->target + tap_offset(p, v, y, x);
      for (int64_t c = 0; c < count; c++)
        ((REAL *)b->now[c / LANES])[tap_place(p, y, x) + c % LANES] = scale * from[c * v->target];
    }
}

// Rows of the products' right operand: real parts of all source channels, then imaginary ones; a
// panel is a group of target channels.
static void keep_weights(const fft_plan *p, const tile_buffers *b, int64_t row, int64_t group) {
  const int64_t rows = p->source.padded;
  REAL *to = (REAL *)p->weight_spectra + (group * 2 * rows) + row * GROUP;
  for (int64_t i = 0; i < p->size[0]; i++)
    for (int64_t j = 0; j < p->half; j++, to += 2 * rows * p->target.padded) {
      pair z = pair_at(p, b, i, j);
      for (int s = 0; s < 2; s++) {
        lanes_store(to + s * LANES, z.re[s]);
        lanes_store(to + rows * GROUP + s * LANES, z.im[s]);
      }
    }
}

// Rows past the last channel meet zeros in the source's spectra, and must be numbers.
moon_status CPU(NAME(fft_read_weights))(void *plan, int64_t first, int64_t last) {
  const fft_plan *p = plan;
  weight_view v = view_weights(p);
  tile_buffers b;
  MOON_TRY(buffers_new(p, &b));
  for (int64_t row = first; row < last; row++)
    for (int64_t group = 0; group < p->target.padded; group += GROUP) {
      if (row < p->source.array->shape[1]) {
        read_weights(p, &v, row, group, &b);
        transform_tile(p, &b);
      } else {
        for (int part = 0; part < 2; part++)
          memset(b.now[part], 0, (size_t)(p->size[0] * p->size[1] * LANES) * sizeof(REAL));
      }
      keep_weights(p, &b, row, group);
    }
  alloc_release(p->engine, b.block, b.bytes);
  return MOON_OK;
}

moon_status CPU(NAME(fft_write_weights))(void *plan, int64_t first, int64_t last) {
  const fft_plan *p = plan;
  const device_array *w = p->problem->weight;
  const REAL scale = (REAL)(1.0 / (double)(p->size[0] * p->size[1]));
  int64_t rows = p->target.array->shape[1], width = 2 * p->source.padded;
  tile_buffers b;
  MOON_TRY(buffers_new(p, &b));
  for (int64_t item = first; item < last; item++) {
    int64_t groups = p->source.padded / GROUP, row = item / groups, group = item % groups * GROUP;
    int64_t count = minimum(GROUP, w->shape[1] - group);
    load_spectrum(p, (const REAL *)p->weight_spectra + row * width + group, rows * width,
                  p->source.padded, &b);
    transform_back(p, &b);
    for (int64_t y = 0; y < w->shape[2]; y++)
      for (int64_t x = 0; x < w->shape[3]; x++) {
        REAL *to = (REAL *)w->data + row * w->strides[0] + group * w->strides[1] +
                   y * w->strides[2] + x * w->strides[3];
        for (int64_t c = 0; c < count; c++)
          to[c * w->strides[1]] =
              scale * ((const REAL *)b.now[c / LANES])[tap_place(p, y, x) + c % LANES];
      }
  }
  alloc_release(p->engine, b.block, b.bytes);
  return MOON_OK;
}

// -- products at a frequency

static const NAME(micro_finish) plain = { .low = -INFINITY, .high = INFINITY };

// One part of a panel of the result: a row is `depth` elements of a tile's spectrum from x on.
static void multiply_part(const fft_plan *p, const REAL *x, const REAL *panel, REAL *y) {
  const int64_t depth = 2 * p->source.padded, step = 3 * p->source.padded;
  for (int64_t tile = 0; tile < p->count; tile += MICRO_ROWS) {
    const REAL *rows[MICRO_ROWS];
    REAL *out[MICRO_ROWS];
    NAME(micro_tile) t = { .rows = (int)minimum(MICRO_ROWS, p->count - tile), .columns = GROUP,
                           .taps = 1, .depth = depth, .out = out, .finish = &plain };
    for (int r = 0; r < MICRO_ROWS; r++) {
      int64_t row = minimum(tile + r, p->count - 1);
      rows[r] = x + row * step;
      out[r] = y + row * 2 * p->target.padded;
    }
    CPU(NAME(micro_rows))(&t, rows, panel, GROUP);
  }
}

// A correlation, so with the weights' conjugate: (xr + i xi) (wr - i wi). The real part is
// (xr, xi) times (wr, wi), the imaginary one (xi, -xr) times the same.
moon_status CPU(NAME(fft_multiply))(void *plan, int64_t first, int64_t last) {
  const fft_plan *p = plan;
  const int64_t xs = p->source.padded, ys = p->target.padded;
  for (int64_t f = first; f < last; f++) {
    const REAL *x = (const REAL *)p->source_spectra + f * p->count * 3 * xs;
    const REAL *panel = (const REAL *)p->weight_spectra + f * 2 * xs * ys;
    REAL *y = (REAL *)p->target_spectra + f * p->count * 2 * ys;
    for (int64_t c = 0; c < ys; c += GROUP, panel += 2 * xs * GROUP) {
      multiply_part(p, x, panel, y + c);
      multiply_part(p, x + xs, panel, y + ys + c);
    }
  }
  return MOON_OK;
}

// One part of the sums over tiles: left[0] * right[0] + left[1] * right[1].
static void add_part(const fft_plan *p, const REAL *const *left, const REAL *const *right,
                     REAL *sums) {
  const int64_t rows = p->target.array->shape[1], width = 2 * p->source.padded;
  for (int64_t row = 0; row < rows; row += MICRO_ROWS)
    for (int64_t c = 0; c < p->source.padded; c += GROUP) {
      REAL *out[MICRO_ROWS];
      NAME(micro_finish) finish = plain;
      NAME(micro_tile) t = { .rows = (int)minimum(MICRO_ROWS, rows - row), .columns = GROUP,
                             .taps = 2, .depth = p->count, .out = out, .finish = &finish };
      for (int r = 0; r < t.rows; r++) out[r] = sums + (row + r) * width + c;
      if (p->first > 0) finish.add = (const REAL *const *)out;
      const REAL *a[2] = { left[0] + row, left[1] + row }, *b[2] = { right[0] + c, right[1] + c };
      CPU(NAME(micro_outer))(&t, a, 2 * p->target.padded, b, 3 * p->source.padded);
    }
}

// The gradient's conjugate times the image: (gr - i gi) (xr + i xi).
moon_status CPU(NAME(fft_multiply_tiles))(void *plan, int64_t first, int64_t last) {
  const fft_plan *p = plan;
  const int64_t xs = p->source.padded, gs = p->target.padded;
  for (int64_t f = first; f < last; f++) {
    const REAL *x = (const REAL *)p->source_spectra + f * p->count * 3 * xs;
    const REAL *g = (const REAL *)p->target_spectra + f * p->count * 2 * gs;
    REAL *sums = (REAL *)p->weight_spectra + f * p->target.array->shape[1] * 2 * xs;
    const REAL *left[2] = { g, g + gs };
    add_part(p, left, (const REAL *[]){ x, x + xs }, sums);
    add_part(p, left, (const REAL *[]){ x + xs, x + 2 * xs }, sums + xs);
  }
  return MOON_OK;
}
