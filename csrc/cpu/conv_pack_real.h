// Packs weights into the panels that the register tile reads, for one compute type: conv_pack_f32.c
// and conv_pack_f64.c include it with REAL and NAME. A task is a panel.
#include <string.h>

#include "cpu/conv_implicit.h"
#include "cpu/micro.h"

enum { COLUMNS = MICRO_VECTORS * LANE_BYTES / REAL_BYTES };   // of a panel

typedef struct pack_job {
  const conv_product *product;
  REAL *panels;
  int64_t in_group;                 // panels of a group
} pack_job;

// Depths whose reads and writes both stay in the first cache.
enum { PACK_DEPTH = 16 };

// Rows depth first .. last of every tap, for one column: a column's weights lie together, so all
// taps of a few depths are read before the next column is.
static void pack_column(const conv_product *p, const REAL *from, int64_t first, int64_t last,
                        REAL *panel) {
  const int64_t stride = p->weights.depth_stride;
  for (int64_t t = 0; t < p->taps; t++) {
    const REAL *tap = from + p->tap[t].weight;
    REAL *to = panel + t * p->depth * COLUMNS;
    for (int64_t k = first; k < last; k++) to[k * COLUMNS] = tap[k * stride];
  }
}

static void pack_panel(const conv_product *p, const REAL *from, int64_t columns, REAL *panel) {
  if (columns < COLUMNS)
    memset(panel, 0, (size_t)(p->taps * p->depth * COLUMNS) * sizeof(REAL));
  for (int64_t k = 0; k < p->depth; k += PACK_DEPTH)
    for (int64_t c = 0; c < columns; c++)
      pack_column(p, from + c * p->weights.column_stride, k,
                  k + PACK_DEPTH < p->depth ? k + PACK_DEPTH : p->depth, panel + c);
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
