// The tasks of conv_weight.h for one compute type: conv_weight_f32.c and conv_weight_f64.c include
// it with
//   REAL, NAME(word)   the type, and word_f32 or word_f64
#include <math.h>
#include <string.h>

#include "cpu/conv_weight.h"
#include "cpu/lanes.h"
#include "cpu/whole.h"

// One job and the block of pixels it is at. Axes: lines, and pixels of a line.
typedef struct pixel_block {
  int64_t group, row, column;         // of the product: where the job's block begins
  int64_t at[3], size[3];             // images, lines, pixels of a line
  weight_axis image[2], result[2];
} pixel_block;

typedef struct packed_side {
  REAL *panels;
  int64_t panel_elements;             // from one panel to the next
} packed_side;

// -- panels

// `count` channels of a pixel, `panel` to a panel; what the last one has beyond them is zero.
static inline __attribute__((always_inline)) void pack_pixel(const packed_side *side, REAL *to,
                                                             const int64_t panel,
                                                             const REAL *from, int64_t count) {
  for (; count >= panel; count -= panel, from += panel, to += side->panel_elements)
    memcpy(to, from, (size_t)panel * sizeof(REAL));
  for (int64_t j = 0; count > 0 && j < panel; j += LANES)
    lanes_store_some(to + j, lanes_load_some(from + j, maximum(0, count - j)), panel - j);
}

// Pixels `stride` apart, for each width of panels.
static void pack_pixels(const packed_side *side, REAL *to, int64_t panel, const REAL *from,
                        int64_t stride, int64_t pixels, int64_t count) {
  enum { COLUMNS = MICRO_VECTORS * LANES };
  if (panel == COLUMNS)
    for (int64_t i = 0; i < pixels; i++)
      pack_pixel(side, to + i * COLUMNS, COLUMNS, from + i * stride, count);
  else if (panel == LANES)
    for (int64_t i = 0; i < pixels; i++)
      pack_pixel(side, to + i * LANES, LANES, from + i * stride, count);
  else if (panel == MICRO_ROWS)
    for (int64_t i = 0; i < pixels; i++)
      pack_pixel(side, to + i * MICRO_ROWS, MICRO_ROWS, from + i * stride, count);
  else
    for (int64_t i = 0; i < pixels; i++)
      pack_pixel(side, to + i * CONV_WEIGHT_LOW, CONV_WEIGHT_LOW, from + i * stride, count);
}

// Pixels of an axis that lie inside an array of `size`: first .. last.
static void clip(const weight_axis *axis, int64_t size, int64_t *first, int64_t *last) {
  int64_t before = axis->from < 0 ? (-axis->from + axis->step - 1) / axis->step : 0;
  int64_t inside = size > axis->from ? (size - axis->from + axis->step - 1) / axis->step : 0;
  *first = minimum(before, axis->count);
  *last = maximum(*first, minimum(inside, axis->count));
}

// A line of `count` channels from `line` on (NULL: it lies outside), into every panel.
static void pack_line(const packed_side *side, int64_t panel, const weight_axis *axis,
                      const device_array *x, const REAL *line, int64_t count, REAL *to) {
  int64_t first = 0, last = 0;
  if (line) clip(axis, x->shape[3], &first, &last);
  for (int64_t c = 0; c < count; c += panel) {
    REAL *zeros = to + c / panel * side->panel_elements;
    memset(zeros, 0, (size_t)(first * panel) * sizeof(REAL));
    memset(zeros + last * panel, 0, (size_t)((axis->count - last) * panel) * sizeof(REAL));
  }
  if (last > first)
    pack_pixels(side, to + first * panel, panel,
                line + (axis->from + first * axis->step) * x->strides[3],
                axis->step * x->strides[3], last - first, count);
}

// The merged line of the kernel at column `at`; zeros outside.
static void gather_merged(const weight_plan *p, const REAL *line, int64_t at, REAL *to) {
  const device_array *x = p->problem->image, *w = p->problem->weight;
  int64_t channels = w->shape[1], step = p->problem->geometry->dilation[1];
  for (int64_t t = 0; t < w->shape[3]; t++, at += step, to += channels) {
    bool inside = line && at >= 0 && at < x->shape[3];
    for (int64_t c = 0; c < channels; c++) to[c] = inside ? line[at * x->strides[3] + c] : 0;
  }
}

// Elements first .. first + count of the merged line of the kernel at each pixel.
static void pack_merged(const weight_plan *p, const packed_side *side, int64_t panel,
                        const weight_axis *axis, const REAL *line, int64_t first, int64_t count,
                        REAL *to) {
  const device_array *x = p->problem->image, *w = p->problem->weight;
  int64_t channels = w->shape[1], taps = w->shape[3];
  bool dense = x->strides[3] == channels && p->problem->geometry->dilation[1] == 1;
  for (int64_t i = 0; i < axis->count; i++, to += panel) {
    int64_t at = axis->from + i * axis->step;
    REAL gathered[CONV_WEIGHT_MERGED];
    const REAL *pixels = gathered;
    if (line && dense && at >= 0 && at + taps <= x->shape[3])
      pixels = line + at * channels;
    else
      gather_merged(p, line, at, gathered);
    pack_pixels(side, to, panel, pixels + first, 0, 1, count);
  }
}

// A side's block of channels over the block's pixels.
static void pack_side(const weight_plan *p, const weight_side *side, const pixel_block *b,
                      int64_t first, packed_side *packed) {
  const device_array *x = side->is_image ? p->problem->image : p->problem->result;
  const weight_axis *axes = side->is_image ? b->image : b->result;
  bool merged = side->is_image && p->merged;
  int64_t count = minimum(side->block, side->size - first);
  int64_t channel = b->group * (side->is_image ? p->problem->weight->shape[1] : side->size);
  packed->panel_elements = b->size[0] * axes[0].count * axes[1].count * side->panel;
  REAL *to = packed->panels;
  for (int64_t image = 0; image < b->size[0]; image++)
    for (int64_t i = 0; i < axes[0].count; i++, to += axes[1].count * side->panel) {
      int64_t at = axes[0].from + i * axes[0].step;
      const REAL *line = NULL;
      if (at >= 0 && at < x->shape[2])
        line = (const REAL *)x->data + (b->at[0] + image) * x->strides[0] + at * x->strides[2] +
               channel * x->strides[1] + (merged ? 0 : first);
      if (merged)
        pack_merged(p, packed, side->panel, &axes[1], line, first, count, to);
      else
        pack_line(packed, side->panel, &axes[1], x, line, count, to);
    }
}

// -- products

// Where the runs of pixels begin that a tap adds up.
static void locate(const pixel_block *b, const weight_axis *axes, const REAL *panel_start,
                   int64_t panel, const int64_t *tap, int64_t lines, const REAL **runs) {
  for (int64_t image = 0; image < b->size[0]; image++)
    for (int64_t i = 0; i < lines; i++) {
      int64_t line = image * axes[0].count + i * axes[0].stride + tap[0] * axes[0].shift;
      *runs++ = panel_start + (line * axes[1].count + tap[1] * axes[1].shift) * panel;
    }
}

typedef struct job_scratch {
  packed_side rows, columns;
  REAL *sums;
} job_scratch;

// All tiles of a tap in one panel of columns.
static void multiply_panel(const weight_plan *p, const pixel_block *b, const job_scratch *s,
                           const int64_t *tap, int64_t column, REAL *sums, bool add) {
  const REAL *left[CONV_WEIGHT_PIXELS], *right[CONV_WEIGHT_PIXELS];
  static const int64_t here[2] = { 0, 0 };
  const weight_axis *row_axes = p->rows.is_image ? b->image : b->result;
  const weight_axis *column_axes = p->columns.is_image ? b->image : b->result;
  bool whole = b->image[0].count == b->size[1] && b->image[1].count == b->size[2];
  int64_t lines = whole ? 1 : b->size[1], rows = minimum(p->rows.block, p->rows.size - b->row);
  REAL *out[MICRO_ROWS];
  NAME(micro_finish) finish = { .add = add ? (const REAL *const *)out : NULL, .low = -INFINITY,
                          .high = INFINITY };
  NAME(micro_tile) tile = { .columns = (int)minimum(p->columns.panel, p->width - column),
                      .taps = whole ? 1 : b->size[0] * lines,
                      .depth = whole ? b->size[0] * b->size[1] * b->size[2] : b->size[2],
                      .out = out, .finish = &finish };
  locate(b, column_axes, s->columns.panels + column / p->columns.panel * s->columns.panel_elements,
         p->columns.panel, p->columns.is_image ? tap : here, lines, right);
  for (int64_t row = 0; row < rows; row += p->rows.panel) {
    tile.rows = (int)minimum(p->rows.panel, rows - row);
    for (int r = 0; r < tile.rows; r++) out[r] = sums + (row + r) * p->width + column;
    locate(b, row_axes, s->rows.panels + row / p->rows.panel * s->rows.panel_elements,
           p->rows.panel, p->rows.is_image ? tap : here, lines, left);
    CPU(NAME(micro_outer))(&tile, left, row_axes[1].stride * p->rows.panel, right,
                           column_axes[1].stride * p->columns.panel);
  }
}

// Adds a block of pixels to the job's sums, or begins them with it.
static void multiply_block(const weight_plan *p, const pixel_block *b, job_scratch *s, bool add) {
  pack_side(p, &p->rows, b, b->row, &s->rows);
  pack_side(p, &p->columns, b, b->column, &s->columns);
  int64_t columns = minimum(p->columns.block, p->columns.size - b->column);
  for (int64_t column = 0; column < columns; column += p->columns.panel) {
    REAL *sums = s->sums;
    int64_t tap[2];
    for (tap[0] = 0; tap[0] < p->taps[0]; tap[0]++)
      for (tap[1] = 0; tap[1] < p->taps[1]; tap[1]++, sums += p->rows.block * p->width)
        multiply_panel(p, b, s, tap, column, sums, add);
  }
}

// -- blocks of pixels

static void set_axes(const weight_plan *p, pixel_block *b) {
  const conv2d_geometry *g = p->problem->geometry;
  for (int axis = 0; axis < 2; axis++) {
    int64_t taps = p->taps[axis], at = b->at[1 + axis], size = b->size[1 + axis];
    int64_t from = at * g->stride[axis] - g->padding_before[axis];
    b->result[axis] = (weight_axis){ .count = size, .from = at, .step = 1, .stride = 1 };
    b->image[axis] = taps == 1
        ? (weight_axis){ .count = size, .from = from, .step = g->stride[axis], .stride = 1 }
        : (weight_axis){ .count = (size - 1) * g->stride[axis] + (taps - 1) * g->dilation[axis] + 1,
                         .from = from, .step = 1, .stride = g->stride[axis],
                         .shift = g->dilation[axis] };
  }
}

static void set_pixels(const weight_plan *p, int64_t index, pixel_block *b) {
  const device_array *y = p->problem->result;
  const int64_t sizes[3] = { y->shape[0], y->shape[2], y->shape[3] };
  for (int axis = 2; axis >= 0; axis--) {
    b->at[axis] = index % p->extents[axis] * p->extent[axis];
    b->size[axis] = minimum(p->extent[axis], sizes[axis] - b->at[axis]);
    index /= p->extents[axis];
  }
  set_axes(p, b);
}

// Jobs are counted shares first, then columns, rows and groups.
static void set_job(const weight_plan *p, int64_t index, pixel_block *b) {
  b->column = index % p->columns.blocks * p->columns.block;
  index /= p->columns.blocks;
  b->row = index % p->rows.blocks * p->rows.block;
  b->group = index / p->rows.blocks;
}

// -- the weights

// Where element `index` of a side lies in the weights, seen from the group's first.
static int64_t weight_offset(const weight_plan *p, const weight_side *side, int64_t index) {
  const int64_t *stride = p->problem->weight->strides, c = p->problem->weight->shape[1];
  if (!side->is_image) return index * stride[0];
  return p->merged ? index % c * stride[1] + index / c * stride[3] : index * stride[1];
}

// A row of one tap's sums.
static void write_row(const weight_plan *p, int64_t column, int64_t count, const REAL *sums,
                      REAL *to) {
  const int64_t *strides = p->problem->weight->strides;
  int64_t stride = strides[p->columns.is_image ? 1 : 0];
  if (p->columns.is_image && p->merged) {
    for (int64_t j = 0; j < count; j++) to[weight_offset(p, &p->columns, column + j)] = sums[j];
  } else if (stride == 1) {
    memcpy(to + column, sums, (size_t)count * sizeof(REAL));
  } else {
    for (int64_t j = 0; j < count; j++) to[(column + j) * stride] = sums[j];
  }
}

// A job's sums into the weights, row by row, so that a row's taps meet in the cache.
static void write_weights(const weight_plan *p, const pixel_block *b, const REAL *sums) {
  const device_array *w = p->problem->weight;
  int64_t rows = minimum(p->rows.block, p->rows.size - b->row);
  int64_t columns = minimum(p->columns.block, p->columns.size - b->column);
  int64_t group = b->group * (w->shape[0] / p->problem->geometry->groups) * w->strides[0];
  for (int64_t i = 0; i < rows; i++) {
    REAL *row = (REAL *)w->data + group + weight_offset(p, &p->rows, b->row + i);
    const REAL *from = sums + i * p->width;
    for (int64_t y = 0; y < p->taps[0]; y++)
      for (int64_t x = 0; x < p->taps[1]; x++, from += p->rows.block * p->width)
        write_row(p, b->column, columns, from, row + y * w->strides[2] + x * w->strides[3]);
  }
}

// -- tasks

static void run_job(const weight_plan *p, int64_t index, job_scratch *s) {
  pixel_block b;
  int64_t share = index % p->shares, blocks = p->extents[0] * p->extents[1] * p->extents[2];
  set_job(p, index / p->shares, &b);
  if (p->partial) s->sums = (REAL *)p->partial + index * p->sums;
  int64_t first = share * p->share, last = minimum(blocks, first + p->share);
  for (int64_t k = first; k < last; k++) {
    set_pixels(p, k, &b);
    multiply_block(p, &b, s, k > first);
  }
  if (!p->partial) write_weights(p, &b, s->sums);
}

// Room for a side's panels in the largest block, in elements. A wide dilation makes an image's
// border as large as a shape can say; what cannot be addressed, even four times, is refused.
static moon_status panel_room(const weight_plan *p, const weight_side *side, size_t *elements) {
  pixel_block b = { .size = { p->extent[0], p->extent[1], p->extent[2] } };
  size_t lines, pixels, channels, bytes;
  set_axes(p, &b);
  const weight_axis *axes = side->is_image ? b.image : b.result;
  MOON_TRY(alloc_product((size_t)b.size[0], (size_t)axes[0].count, &lines));
  MOON_TRY(alloc_product(lines, (size_t)axes[1].count, &pixels));
  MOON_TRY(alloc_product(pixels, (size_t)side->block, &channels));
  MOON_TRY(alloc_product(channels, 4 * sizeof(REAL), &bytes));
  *elements = (channels + LANES - 1) / LANES * LANES;
  return MOON_OK;
}

moon_status CPU(NAME(conv_weight_jobs))(void *plan, int64_t first, int64_t last) {
  const weight_plan *p = plan;
  size_t rows, columns;
  MOON_TRY(panel_room(p, &p->rows, &rows));
  MOON_TRY(panel_room(p, &p->columns, &columns));
  size_t bytes = (rows + columns + (p->partial ? 0 : (size_t)p->sums)) * sizeof(REAL);
  void *memory;
  MOON_TRY(alloc_bytes(p->engine, bytes, &memory));
  REAL *at = memory;
  job_scratch s = { .columns.panels = at, .rows.panels = at + columns,
                    .sums = at + columns + rows };
  for (int64_t index = first; index < last; index++) run_job(p, index, &s);
  alloc_release(p->engine, memory, bytes);
  return MOON_OK;
}

moon_status CPU(NAME(conv_weight_add))(void *plan, int64_t first, int64_t last) {
  const weight_plan *p = plan;
  for (int64_t index = first; index < last; index++) {
    pixel_block b;
    REAL *sums = (REAL *)p->partial + index * p->shares * p->sums;
    for (int64_t share = 1; share < p->shares; share++)
      for (int64_t i = 0; i < p->sums; i += LANES)
        lanes_store(sums + i, lanes_load(sums + i) + lanes_load(sums + share * p->sums + i));
    set_job(p, index, &b);
    write_weights(p, &b, sums);
  }
  return MOON_OK;
}
