// Packs weights into the panels that the register tile reads, for one compute type:
// conv_implicit_f32.c and conv_implicit_f64.c include it with REAL and NAME. A task is a panel.
// What lies together in memory (columns, depths or taps) is read in vectors; squares of depths or
// taps by columns are turned round on the way.
#include <string.h>

#include "cpu/conv_implicit.h"
#include "cpu/lanes_transpose.h"
#include "cpu/micro.h"
#include "cpu/whole.h"

enum { COLUMNS = MICRO_VECTORS * LANE_BYTES / REAL_BYTES };   // of a panel

typedef struct pack_job {
  const conv_product *product;
  REAL *panels;
  int64_t in_group;                 // panels of a group
} pack_job;

// The panel's row of tap t and depth k.
static REAL *panel_row(const conv_product *p, REAL *panel, int64_t t, int64_t k) {
  return panel + (t * p->depth + k) * COLUMNS;
}

// Columns lie together: rows are copied.
static void pack_rows(const conv_product *p, const REAL *from, int64_t columns, REAL *panel) {
  for (int64_t t = 0; t < p->taps; t++) {
    const REAL *row = from + p->tap[t].weight;
    for (int64_t k = 0; k < p->depth; k++, row += p->weights.depth_stride)
      for (int64_t c = 0; c < columns; c += LANES)
        lanes_store_some(panel_row(p, panel, t, k) + c, lanes_load_some(row + c, columns - c),
                         columns - c);
  }
}

// Depths lie together, as in 1x1 kernels, for at most LANES columns.
static void pack_depths(const conv_product *p, const REAL *from, int64_t columns, REAL *panel) {
  lanes rows[LANES];
  for (int64_t t = 0; t < p->taps; t++)
    for (int64_t k = 0; k < p->depth; k += LANES) {
      int64_t count = minimum(LANES, p->depth - k);
      lanes_from_pixels(from + p->tap[t].weight + k, p->weights.column_stride, columns, count,
                        LANES, rows);
      for (int64_t i = 0; i < count; i++) lanes_store(panel_row(p, panel, t, k + i), rows[i]);
    }
}

// Taps lie together, in rising order but not without gaps: strides leave some to other products.
static void pack_taps(const conv_product *p, const REAL *from, int64_t columns, REAL *panel) {
  const int64_t end = p->tap[p->taps - 1].weight + 1;
  lanes rows[LANES];
  for (int64_t k = 0; k < p->depth; k++, from += p->weights.depth_stride) {
    int64_t t = 0;
    for (int64_t at = p->tap[0].weight; at < end; at += LANES) {
      lanes_from_pixels(from + at, p->weights.column_stride, columns, minimum(LANES, end - at),
                        LANES, rows);
      for (; t < p->taps && p->tap[t].weight < at + LANES; t++)
        lanes_store(panel_row(p, panel, t, k), rows[p->tap[t].weight - at]);
    }
  }
}

static void pack_each(const conv_product *p, const REAL *from, int64_t columns, REAL *panel) {
  for (int64_t c = 0; c < columns; c++, from += p->weights.column_stride)
    for (int64_t t = 0; t < p->taps; t++)
      for (int64_t k = 0; k < p->depth; k++)
        panel_row(p, panel, t, k)[c] = from[p->tap[t].weight + k * p->weights.depth_stride];
}

// Whether the taps rise, close enough to each other for a square of them to hold several.
static bool taps_lie_together(const conv_product *p) {
  enum { CLOSE = 4 };
  for (int64_t t = 1; t < p->taps; t++) {
    int64_t gap = p->tap[t].weight - p->tap[t - 1].weight;
    if (gap < 1 || gap > CLOSE * p->taps) return false;
  }
  return p->tap[p->taps - 1].weight - p->tap[0].weight < CLOSE * p->taps;
}

static void pack_panel(const conv_product *p, const REAL *from, int64_t columns, REAL *panel) {
  if (columns < COLUMNS)
    memset(panel, 0, (size_t)(p->taps * p->depth * COLUMNS) * sizeof(REAL));
  if (p->weights.column_stride == 1) {
    pack_rows(p, from, columns, panel);
    return;
  }
  bool together = taps_lie_together(p);
  for (int64_t c = 0; c < columns; c += LANES) {
    const REAL *first = from + c * p->weights.column_stride;
    int64_t count = minimum(LANES, columns - c);
    if (p->weights.depth_stride == 1) pack_depths(p, first, count, panel + c);
    else if (together) pack_taps(p, first, count, panel + c);
    else pack_each(p, first, count, panel + c);
  }
}

static moon_status pack_panels(void *context, int64_t first, int64_t last) {
  const pack_job *job = context;
  const conv_product *p = job->product;
  const int64_t size = p->taps * p->depth * COLUMNS;
  for (int64_t i = first; i < last; i++) {
    int64_t group = i / job->in_group, column = i % job->in_group * COLUMNS;
    const REAL *from = (const REAL *)p->weights.array->data + group * p->weights.group_stride +
                       column * p->weights.column_stride;
    int64_t columns = p->columns - column;
    pack_panel(p, from, columns < COLUMNS ? columns : COLUMNS,
               job->panels + i * size);
  }
  return MOON_OK;
}

moon_status CPU(NAME(conv_pack))(moon_engine *engine, const conv_product *product, REAL *panels) {
  pack_job job = { .product = product, .panels = panels,
                   .in_group = (product->columns + COLUMNS - 1) / COLUMNS };
  return cpu_run(engine, product->groups * job.in_group,
                 cpu_grain(product->taps * product->depth * COLUMNS), pack_panels, &job);
}
