// Weights of a convolution packed for the matrix registers, from float32 or bfloat16 in one pass. A
// block of AMX_COLUMNS columns and AMX_DEPTH channels is read line by line as it lies, which brings
// all its taps at once, sorted by taps in the first cache, and turned from there.
#include <string.h>

#include "cpu/bfloat.h"
#include "cpu/whole.h"

int64_t CPU(bfloat_span)(const conv_problem *problem, const conv_product *p) {
  const int64_t taps = problem->weight->shape[3];
  bool joins = problem->direction == CONV_FORWARD && taps > 1 && p->groups == 1 &&
               problem->geometry->dilation[1] == 1 && p->source->strides[3] == p->depth &&
               bfloat_steps(taps * p->depth) < taps * bfloat_steps(p->depth);
  return joins ? taps : 1;
}

typedef struct pack_job {
  moon_engine *engine;
  const conv_product *product;
  int64_t span, in_group;        // taps joined; panels of a group
  uint16_t *panels;
} pack_job;

// One block, tap after tap: BLOCK elements each, line by line.
enum { BLOCK = AMX_COLUMNS * AMX_DEPTH };

// Whether columns lie farther apart than depths do; the others are the block's lines then.
static bool lines_are_columns(const conv_product *p) {
  return p->weights.column_stride > p->weights.depth_stride;
}

static void read_block(const conv_product *p, int64_t offset, int64_t columns, int64_t depth,
                       uint16_t *block) {
  const conv_weights *w = &p->weights;
  const bool turned = lines_are_columns(p);
  const int64_t lines = turned ? columns : depth, length = turned ? depth : columns;
  const int64_t between = turned ? w->column_stride : w->depth_stride;
  const int64_t stride = turned ? w->depth_stride : w->column_stride;
  const int64_t size = (int64_t)dtype_size(w->array->dtype);
  const char *from = (const char *)w->array->data + offset * size;
  for (int64_t line = 0; line < lines; line++, from += between * size)
    for (int64_t t = 0; t < p->taps; t++)
      CPU(bfloat_take)(w->array->dtype, from + p->tap[t].weight * size, stride, length,
                       block + t * BLOCK + line * AMX_DEPTH);
}

// The steps of one tap, from its block.
static void turn_block(const conv_product *p, const uint16_t *block, int64_t columns,
                       int64_t depth, uint16_t *panel) {
  if (lines_are_columns(p))
    CPU(bfloat_pack_panel)(block, AMX_DEPTH, 1, columns, depth, panel);
  else
    CPU(bfloat_pack_panel)(block, 1, AMX_COLUMNS, columns, depth, panel);
}

static void pack_taps(const conv_product *p, int64_t offset, int64_t columns, uint16_t *block,
                      uint16_t *panel) {
  const int64_t steps = bfloat_steps(p->depth);
  for (int64_t k = 0; k < p->depth; k += AMX_DEPTH) {
    int64_t depth = minimum(AMX_DEPTH, p->depth - k);
    read_block(p, offset + k * p->weights.depth_stride, columns, depth, block);
    for (int64_t t = 0; t < p->taps; t++)
      turn_block(p, block + t * BLOCK, columns, depth,
                 panel + (t * steps + k / AMX_DEPTH) * AMX_PANEL);
  }
}

// Joined taps are few and small: element by element, `line` has room for one column.
static void pack_joined(const pack_job *job, int64_t offset, int64_t columns, uint16_t *block,
                        uint16_t *panel) {
  const conv_product *p = job->product;
  const conv_weights *w = &p->weights;
  const int64_t depth = job->span * p->depth, length = bfloat_steps(depth) * AMX_DEPTH;
  const int64_t size = (int64_t)dtype_size(w->array->dtype);
  for (int64_t t = 0; t < p->taps; t += job->span, panel += length * AMX_COLUMNS) {
    for (int64_t j = 0; j < columns; j++)
      for (int64_t q = 0; q < job->span; q++)
        CPU(bfloat_take)(w->array->dtype, (const char *)w->array->data +
                         (offset + j * w->column_stride + p->tap[t + q].weight) * size,
                         w->depth_stride, p->depth, block + j * length + q * p->depth);
    CPU(bfloat_pack_panel)(block, length, 1, columns, depth, panel);
  }
}

static size_t block_bytes(const pack_job *job) {
  const conv_product *p = job->product;
  int64_t taps = job->span > 1 ? bfloat_steps(job->span * p->depth) : p->taps;
  return (size_t)(taps * BLOCK) * sizeof(uint16_t);
}

// Item: a panel of a group.
static moon_status pack_panels(void *context, int64_t first, int64_t last) {
  const pack_job *job = context;
  const conv_product *p = job->product;
  const int64_t size = bfloat_conv_steps(p, job->span) * AMX_PANEL;
  void *block;
  MOON_TRY(alloc_bytes(job->engine, block_bytes(job), &block));
  for (int64_t item = first; item < last; item++) {
    int64_t group = item / job->in_group, column = item % job->in_group * AMX_COLUMNS;
    int64_t columns = minimum(AMX_COLUMNS, p->columns - column);
    int64_t offset = group * p->weights.group_stride + column * p->weights.column_stride;
    uint16_t *panel = job->panels + item * size;
    if (job->span > 1) pack_joined(job, offset, columns, block, panel);
    else pack_taps(p, offset, columns, block, panel);
  }
  alloc_release(job->engine, block, block_bytes(job));
  return MOON_OK;
}

moon_status CPU(bfloat_pack_weights)(moon_engine *engine, const conv_product *p, int64_t span,
                                     uint16_t *panels) {
  pack_job job = { .engine = engine, .product = p, .span = span, .panels = panels,
                   .in_group = divide_up(p->columns, AMX_COLUMNS) };
  return cpu_run(engine, p->groups * job.in_group,
                 cpu_grain(bfloat_conv_steps(p, span) * AMX_PANEL), pack_panels, &job);
}
