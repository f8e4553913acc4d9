// The gradient of a convolution's weight from bfloat16 arrays by the matrix registers: for each tap
// the product of the image's channels (rows) with the result's (columns) over all pixels. Pixels go
// through in stretches: the columns of a stretch are packed once for all taps.
#include <string.h>

#include "cpu/bfloat.h"
#include "cpu/convert.h"
#include "cpu/whole.h"

enum { STRETCH = 4 * BFLOAT_CHUNK };   // pixels

typedef struct weight_sums {
  moon_engine *engine;
  const conv_problem *problem;
  int64_t groups, inputs, outputs, tiles, panels;   // channels of a group; blocks of them
  int64_t taps, pixels, first, count;               // the stretch: first .. first + count
  uint16_t *columns;               // (groups, panels, steps of the stretch) of AMX_PANEL
  float *sums;                     // (groups, taps, tiles, panels) of AMX_ROWS x AMX_COLUMNS
} weight_sums;

static const uint16_t *result_at(const weight_sums *s, int64_t pixel) {
  const device_array *y = s->problem->result;
  int64_t width = y->shape[3], height = y->shape[2];
  return (const uint16_t *)y->data + pixel / (height * width) * y->strides[0] +
         pixel / width % height * y->strides[2] + pixel % width * y->strides[3];
}

// What tap `tap` reads for a pixel of the result, or NULL in the padding.
static const uint16_t *image_at(const weight_sums *s, int64_t pixel, int64_t tap) {
  const conv2d_geometry *g = s->problem->geometry;
  const device_array *x = s->problem->image, *y = s->problem->result;
  int64_t columns = s->problem->weight->shape[3], width = y->shape[3], height = y->shape[2];
  int64_t i = pixel / width % height * g->stride[0] - g->padding_before[0] +
              tap / columns * g->dilation[0];
  int64_t j = pixel % width * g->stride[1] - g->padding_before[1] +
              tap % columns * g->dilation[1];
  if (i < 0 || i >= x->shape[2] || j < 0 || j >= x->shape[3]) return NULL;
  return (const uint16_t *)x->data + pixel / (height * width) * x->strides[0] +
         i * x->strides[2] + j * x->strides[3];
}

// Item: a panel of a group.
static moon_status pack_columns(void *context, int64_t first, int64_t last) {
  const weight_sums *s = context;
  const uint16_t *rows[STRETCH];
  for (int64_t item = first; item < last; item++) {
    int64_t column = item % s->panels * AMX_COLUMNS;
    int64_t channel = item / s->panels * s->outputs + column;
    for (int64_t k = 0; k < s->count; k++) rows[k] = result_at(s, s->first + k) + channel;
    CPU(bfloat_pack_steps)(rows, minimum(AMX_COLUMNS, s->outputs - column), s->count,
                           s->columns + item * STRETCH * AMX_COLUMNS);
  }
  return MOON_OK;
}

static void add_chunk(const weight_sums *s, int64_t item, int64_t k0, uint16_t *rows) {
  const uint16_t *steps[BFLOAT_CHUNK];
  int64_t tile = item % s->tiles, tap = item / s->tiles % s->taps;
  int64_t group = item / s->tiles / s->taps, channel = tile * AMX_ROWS;
  int64_t depth = minimum(BFLOAT_CHUNK, s->count - k0);
  for (int64_t k = 0; k < depth; k++) {
    steps[k] = image_at(s, s->first + k0 + k, tap);
    if (steps[k]) steps[k] += group * s->inputs + channel;
  }
  CPU(bfloat_pack_turned)(steps, minimum(AMX_ROWS, s->inputs - channel), depth, rows);
  int64_t count = bfloat_steps(depth);
  amx_rows left = { .data = rows, .stride = count * AMX_DEPTH };
  for (int64_t j = 0; j < s->panels; j++)
    amx_multiply(count, &left,
                 s->columns + ((group * s->panels + j) * STRETCH + k0) * AMX_COLUMNS,
                 s->sums + (item * s->panels + j) * AMX_ROWS * AMX_COLUMNS, s->first + k0 > 0);
}

// Item: a tile of channels of one tap of a group.
static moon_status add_stretch(void *context, int64_t first, int64_t last) {
  const weight_sums *s = context;
  uint16_t rows[AMX_ROWS * BFLOAT_CHUNK] __attribute__((aligned(64)));
  amx_open(AMX_ROWS);
  for (int64_t item = first; item < last; item++)
    for (int64_t k = 0; k < s->count; k += BFLOAT_CHUNK) add_chunk(s, item, k, rows);
  amx_close();
  return MOON_OK;
}

// Item: a tile of channels of one tap of a group.
static moon_status store_sums(void *context, int64_t first, int64_t last) {
  const weight_sums *s = context;
  const device_array *w = s->problem->weight;
  for (int64_t item = first; item < last; item++) {
    int64_t tap = item / s->tiles % s->taps, group = item / s->tiles / s->taps;
    int64_t channel = item % s->tiles * AMX_ROWS;
    int64_t rows = minimum(AMX_ROWS, s->inputs - channel);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t j = 0; j < s->panels; j++) {
        int64_t column = j * AMX_COLUMNS;
        int64_t to = (group * s->outputs + column) * w->strides[0] +
                     (channel + r) * w->strides[1] + tap / w->shape[3] * w->strides[2] +
                     tap % w->shape[3] * w->strides[3];
        CPU(convert_from_f32)(w->dtype,
                              s->sums + ((item * s->panels + j) * AMX_ROWS + r) * AMX_COLUMNS,
                              minimum(AMX_COLUMNS, s->outputs - column),
                              (char *)w->data + to * (int64_t)dtype_size(w->dtype), w->strides[0]);
      }
  }
  return MOON_OK;
}

static moon_status run_stretches(weight_sums *s) {
  int64_t items = s->groups * s->taps * s->tiles;
  for (s->first = 0; s->first < s->pixels; s->first += STRETCH) {
    s->count = minimum(STRETCH, s->pixels - s->first);
    MOON_TRY(cpu_run(s->engine, s->groups * s->panels, 1, pack_columns, s));
    MOON_TRY(cpu_run(s->engine, items, 1, add_stretch, s));
  }
  return cpu_run(s->engine, items, 1, store_sums, s);
}

moon_status CPU(conv_bfloat_weight)(moon_engine *engine, const conv_problem *problem) {
  const device_array *w = problem->weight, *y = problem->result;
  weight_sums s = { .engine = engine, .problem = problem, .groups = problem->geometry->groups,
                    .inputs = w->shape[1], .taps = w->shape[2] * w->shape[3],
                    .pixels = y->shape[0] * y->shape[2] * y->shape[3] };
  s.outputs = w->shape[0] / s.groups;
  s.tiles = divide_up(s.inputs, AMX_ROWS);
  s.panels = divide_up(s.outputs, AMX_COLUMNS);
  size_t sums, columns = (size_t)(s.groups * s.panels) * STRETCH * AMX_COLUMNS * sizeof(uint16_t);
  MOON_TRY(alloc_product((size_t)(s.groups * s.taps * s.tiles * s.panels),
                         AMX_ROWS * AMX_COLUMNS * sizeof(float), &sums));
  void *memory;
  MOON_TRY(alloc_bytes(engine, sums + columns, &memory));
  s.sums = memory;
  s.columns = (uint16_t *)(void *)((char *)memory + sums);
  moon_status status = run_stretches(&s);
  alloc_release(engine, memory, sums + columns);
  return status;
}
