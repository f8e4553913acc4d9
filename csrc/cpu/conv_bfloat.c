// Convolution of bfloat16 arrays by the matrix registers, forward and for the gradient of the
// input: rows are pixels of the result, gathered tap by tap (1x1 convolutions read them where they
// lie), columns its channels. For the gradient of the input the taps are those that reach a pixel,
// and rows between strides are zeros. All arrays are bfloat16 but for the finish's vectors (float).
#include <math.h>
#include <string.h>

#include "cpu/bfloat.h"
#include "cpu/convert.h"
#include "cpu/whole.h"

enum {
  ROW_BLOCK = 256,                 // pixels of a task
  COLUMN_BLOCK = 512,              // channels of a task
  GATHERED = 1 << 19,              // elements gathered at once
  WANTED_BLOCKS = 8,
};

typedef struct bfloat_conv {
  moon_engine *engine;
  const conv_problem *problem;
  const device_array *source, *target;   // read by taps; written
  int64_t groups, inputs, outputs;       // channels of a group: deep, across
  int64_t taps, depth, steps;
  int64_t pixels;                        // of the target
  int64_t row_block, column_block, row_blocks, column_blocks, panels;
  bool in_place;                         // pixels are rows as they lie
  cpu_temp weights;                      // (o, kh, kw, c / groups)
  uint16_t *packed;                      // (groups, panels, steps) of AMX_PANEL
} bfloat_conv;

// -- weights

// Weights as (o, kh, kw, c / groups), contiguous: borrowed where they lie so.
static moon_status open_weights(bfloat_conv *c) {
  static const int place[4] = { 0, 2, 3, 1 };
  const device_array *w = c->problem->weight;
  device_array turned = *w;
  for (int i = 0; i < 4; i++) {
    turned.shape[i] = w->shape[place[i]];
    turned.strides[i] = w->strides[place[i]];
  }
  return CPU(temp_from)(c->engine, &turned, MOON_BF16, &c->weights);
}

// Item: a panel of a group. Forward its columns are rows of the weights; backward its depth runs
// over taps and rows of the weights, whose channels are the columns.
static moon_status pack_panels(void *context, int64_t first, int64_t last) {
  const bfloat_conv *c = context;
  const uint16_t *weights = c->weights.array.data, *rows[AMX_DEPTH];
  bool forward = c->problem->direction == CONV_FORWARD;
  int64_t channels = forward ? c->inputs : c->outputs, row = c->taps * channels;
  for (int64_t item = first; item < last; item++) {
    int64_t group = item / c->panels, column = item % c->panels * AMX_COLUMNS;
    int64_t columns = minimum(AMX_COLUMNS, c->outputs - column);
    uint16_t *panel = c->packed + item * c->steps * AMX_PANEL;
    if (forward) {
      CPU(bfloat_pack_panel)(weights + (group * c->outputs + column) * row, row, 1, columns,
                             c->depth, panel);
      continue;
    }
    for (int64_t k = 0, tap = 0, o = 0; k < c->depth; k += AMX_DEPTH, panel += AMX_PANEL) {
      int64_t depth = minimum(AMX_DEPTH, c->depth - k);
      for (int64_t i = 0; i < depth; i++) {
        rows[i] = weights + (group * c->inputs + o) * row + tap * channels + column;
        if (++o == c->inputs) o = 0, tap++;
      }
      CPU(bfloat_pack_steps)(rows, columns, depth, panel);
    }
  }
  return MOON_OK;
}

// -- pixels

// Where tap `tap` of position `at` reads along `axis`, or -1.
static int64_t source_of(const bfloat_conv *c, int axis, int64_t at, int64_t tap) {
  const conv2d_geometry *g = c->problem->geometry;
  int64_t from;
  if (c->problem->direction == CONV_FORWARD) {
    from = at * g->stride[axis] - g->padding_before[axis] + tap * g->dilation[axis];
  } else {
    from = at + g->padding_before[axis] - tap * g->dilation[axis];
    if (from % g->stride[axis] != 0) return -1;
    from /= g->stride[axis];
  }
  return from < c->source->shape[2 + axis] ? from : -1;
}

static void gather_row(const bfloat_conv *c, int64_t pixel, int64_t channel, uint16_t *row) {
  const device_array *x = c->source, *w = c->problem->weight;
  int64_t width = c->target->shape[3], height = c->target->shape[2];
  int64_t image = pixel / (height * width), i = pixel / width % height, j = pixel % width;
  const uint16_t *data = (const uint16_t *)x->data + image * x->strides[0] + channel;
  size_t bytes = (size_t)c->inputs * sizeof *row;
  for (int64_t p = 0; p < w->shape[2]; p++) {
    int64_t y = source_of(c, 0, i, p);
    for (int64_t q = 0; q < w->shape[3]; q++, row += c->inputs) {
      int64_t z = y < 0 ? -1 : source_of(c, 1, j, q);
      if (z < 0) memset(row, 0, bytes);
      else memcpy(row, data + y * x->strides[2] + z * x->strides[3], bytes);
    }
  }
  memset(row, 0, (size_t)(c->steps * AMX_DEPTH - c->depth) * sizeof *row);
}

// -- one block

typedef struct block {
  int64_t group, row, rows, column, columns;
} block;

// Rows of the block that start a tile at `i`: gathered, or where they lie if all are there.
static const uint16_t *tile_rows(const bfloat_conv *c, const block *b, int64_t i,
                                 const uint16_t *gathered, int64_t *stride) {
  *stride = c->steps * AMX_DEPTH;
  if (!c->in_place || b->rows - i < AMX_ROWS) return gathered + i * *stride;
  *stride = c->source->strides[3];
  return (const uint16_t *)c->source->data + (b->row + i) * *stride + b->group * c->inputs;
}

static void gather(const bfloat_conv *c, const block *b, uint16_t *gathered) {
  int64_t length = c->steps * AMX_DEPTH, rows = divide_up(b->rows, AMX_ROWS) * AMX_ROWS;
  int64_t first = c->in_place ? b->rows / AMX_ROWS * AMX_ROWS : 0;
  for (int64_t i = first; i < rows; i++) {
    if (i < b->rows) gather_row(c, b->row + i, b->group * c->inputs, gathered + i * length);
    else memset(gathered + i * length, 0, (size_t)length * sizeof *gathered);
  }
}

static void finish_row(const bfloat_conv *c, const block *b, int64_t i, float *row) {
  const conv2d_finish *f = c->problem->finish;
  const device_array *out = c->target;
  int64_t pixel = b->row + i, width = out->shape[3], height = out->shape[2];
  int64_t at[3] = { pixel / (height * width), pixel / width % height, pixel % width };
  int64_t channel = b->group * c->outputs + b->column;
  if (f) {
    const float *scale = f->scale ? (const float *)f->scale->data + channel : NULL;
    const float *shift = f->shift ? (const float *)f->shift->data + channel : NULL;
    float added[COLUMN_BLOCK], low = (float)f->low, high = (float)f->high;
    for (int64_t j = 0; scale && j < b->columns; j++) row[j] *= scale[j];
    for (int64_t j = 0; shift && j < b->columns; j++) row[j] += shift[j];
    if (f->add) {
      const device_array *a = f->add;
      const uint16_t *from = (const uint16_t *)a->data + at[0] * a->strides[0] +
                             at[1] * a->strides[2] + at[2] * a->strides[3] + channel;
      CPU(convert_to_f32)(MOON_BF16, from, 1, b->columns, added);
      for (int64_t j = 0; j < b->columns; j++) row[j] += added[j];
    }
    for (int64_t j = 0; j < b->columns; j++)
      row[j] = row[j] < low ? low : row[j] > high ? high : row[j];
  }
  uint16_t *to = (uint16_t *)out->data + at[0] * out->strides[0] + at[1] * out->strides[2] +
                 at[2] * out->strides[3] + channel;
  CPU(convert_from_f32)(MOON_BF16, row, b->columns, to, 1);
}

static void finish(const bfloat_conv *c, const block *b, const float *sums) {
  float row[COLUMN_BLOCK];
  int64_t panels = divide_up(b->columns, AMX_COLUMNS);
  for (int64_t i = 0; i < b->rows; i++) {
    const float *tile = sums + i / AMX_ROWS * panels * AMX_ROWS * AMX_COLUMNS;
    for (int64_t j = 0; j < panels; j++)
      memcpy(row + j * AMX_COLUMNS,
             tile + (j * AMX_ROWS + i % AMX_ROWS) * AMX_COLUMNS, AMX_COLUMNS * sizeof *row);
    finish_row(c, b, i, row);
  }
}

static void run_block(const bfloat_conv *c, int64_t index, uint16_t *gathered, float *sums) {
  enum { CHUNK = BFLOAT_CHUNK / AMX_DEPTH };
  int64_t column = index % c->column_blocks, rest = index / c->column_blocks;
  block b = { .group = rest / c->row_blocks, .row = rest % c->row_blocks * c->row_block,
              .column = column * c->column_block };
  b.rows = minimum(c->row_block, c->pixels - b.row);
  b.columns = minimum(c->column_block, c->outputs - b.column);
  int64_t tiles = divide_up(b.rows, AMX_ROWS), panels = divide_up(b.columns, AMX_COLUMNS);
  const uint16_t *weights = c->packed + (b.group * c->panels + b.column / AMX_COLUMNS) *
                                            c->steps * AMX_PANEL;
  gather(c, &b, gathered);
  for (int64_t k = 0; k < c->steps; k += CHUNK)
    for (int64_t j = 0; j < panels; j++)
      for (int64_t i = 0; i < tiles; i++) {
        int64_t stride;
        const uint16_t *rows = tile_rows(c, &b, i * AMX_ROWS, gathered, &stride);
        amx_multiply(minimum(CHUNK, c->steps - k), rows + k * AMX_DEPTH, stride,
                     weights + (j * c->steps + k) * AMX_PANEL,
                     sums + (i * panels + j) * AMX_ROWS * AMX_COLUMNS, k > 0);
      }
  finish(c, &b, sums);
}

static moon_status run_blocks(void *context, int64_t first, int64_t last) {
  const bfloat_conv *c = context;
  size_t sums = (size_t)(c->row_block * c->column_block) * sizeof(float);
  size_t bytes = sums + (size_t)(c->row_block * c->steps * AMX_DEPTH) * sizeof(uint16_t);
  void *memory;
  MOON_TRY(alloc_bytes(c->engine, bytes, &memory));
  amx_open();
  for (int64_t index = first; index < last; index++)
    run_block(c, index, (uint16_t *)(void *)((char *)memory + sums), (float *)memory);
  amx_close();
  alloc_release(c->engine, memory, bytes);
  return MOON_OK;
}

// -- the plan

static bool reads_in_place(const bfloat_conv *c) {
  const device_array *x = c->source;
  const conv2d_geometry *g = c->problem->geometry;
  return c->taps == 1 && c->inputs % AMX_DEPTH == 0 && g->stride[0] == 1 && g->stride[1] == 1 &&
         x->shape[2] == c->target->shape[2] && x->shape[3] == c->target->shape[3] &&
         g->padding_before[0] == 0 && g->padding_before[1] == 0 &&
         x->strides[2] == x->shape[3] * x->strides[3] &&
         x->strides[0] == x->shape[2] * x->strides[2];
}

static void plan(bfloat_conv *c) {
  const conv_problem *p = c->problem;
  const device_array *w = p->weight;
  bool forward = p->direction == CONV_FORWARD;
  c->source = forward ? p->image : p->result;
  c->target = forward ? p->result : p->image;
  c->groups = p->geometry->groups;
  c->inputs = forward ? w->shape[1] : w->shape[0] / c->groups;
  c->outputs = forward ? w->shape[0] / c->groups : w->shape[1];
  c->taps = w->shape[2] * w->shape[3];
  c->depth = c->taps * c->inputs;
  c->steps = bfloat_steps(c->depth);
  c->pixels = c->target->shape[0] * c->target->shape[2] * c->target->shape[3];
  c->panels = divide_up(c->outputs, AMX_COLUMNS);
  c->in_place = reads_in_place(c);
  int64_t limit = minimum(ROW_BLOCK, maximum(AMX_ROWS, GATHERED / (c->steps * AMX_DEPTH)));
  for (;; limit /= 2) {
    c->row_block = even_block(c->pixels, limit, AMX_ROWS);
    c->row_blocks = divide_up(c->pixels, c->row_block);
    if (c->groups * c->row_blocks >= WANTED_BLOCKS || c->row_block <= AMX_ROWS) break;
  }
  for (limit = COLUMN_BLOCK;; limit /= 2) {
    c->column_block = even_block(c->outputs, limit, AMX_COLUMNS);
    c->column_blocks = divide_up(c->outputs, c->column_block);
    if (c->groups * c->row_blocks * c->column_blocks >= WANTED_BLOCKS ||
        c->column_block <= AMX_COLUMNS)
      break;
  }
}

static moon_status multiply(moon_engine *engine, const conv_problem *problem) {
  bfloat_conv c = { .engine = engine, .problem = problem };
  plan(&c);
  size_t bytes;
  void *packed;
  MOON_TRY(alloc_product((size_t)(c.groups * c.panels * c.steps), AMX_PANEL * sizeof(uint16_t),
                         &bytes));
  MOON_TRY(alloc_bytes(engine, bytes, &packed));
  c.packed = packed;
  moon_status status = open_weights(&c);
  if (status == MOON_OK)
    status = cpu_run(engine, c.groups * c.panels, cpu_grain(c.steps * AMX_PANEL), pack_panels, &c);
  CPU(temp_release)(engine, &c.weights);
  if (status == MOON_OK)
    status = cpu_run(engine, c.groups * c.row_blocks * c.column_blocks, 1, run_blocks, &c);
  alloc_release(engine, packed, bytes);
  return status;
}

// -- the engine

static bool fits(const moon_engine *engine, const conv_problem *problem) {
  (void)engine;
  return problem->image->dtype == MOON_BF16;
}

static double cost(const conv_problem *problem) { return conv_work(problem) / 8; }

static moon_status run(moon_engine *engine, const conv_problem *problem) {
  return problem->direction == CONV_BACKWARD_WEIGHT ? CPU(conv_bfloat_weight)(engine, problem)
                                                    : multiply(engine, problem);
}

const conv_engine CPU(conv_bfloat) = { .name = "bfloat16", .fits = fits, .cost = cost, .run = run };
