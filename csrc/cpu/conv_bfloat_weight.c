// The gradient of a convolution's weights from bfloat16 arrays by the matrix registers: for each
// tap the product of the image's channels (rows) and the result's (columns), summed over positions.
//
// A block of positions goes through the second-level cache. Its planes (bfloat_planes.h) are turned
// round, so that a row is a channel's pixels, and a tap only a shift along it; the result's
// gradient is packed into panels, with zeros for positions that are none. Both serve all taps. A
// job is a block of rows and columns of the product and a share of the positions; all is cut by the
// shape alone, and shares are added in order.
#include <string.h>

#include "cpu/bfloat_planes.h"

#include "cpu/bfloat.h"
#include "cpu/convert.h"
#include "cpu/whole.h"

enum {
  WANTED_JOBS = 8,
  BLOCK_BYTES = 1 << 20,           // of packed positions
  CHUNK = 8,                      // steps of a row that stay in the first cache
  ONLY_CHUNK = 32,                 // so many are better done at once: sums are stored straight
  FETCHED = 16,                    // floats that the cache fetches at once
};

// What packing an element takes, and adding up one of a share's sums.
static const double pack_cost = 1, share_cost = 3;

typedef struct weight_plan {
  moon_engine *engine;
  const conv_problem *problem;
  conv_plan products;
  bfloat_planes planes;
  int64_t groups, inputs, outputs;                  // rows and columns of a group
  int64_t tiles, panels;                            // the same in tiles and panels
  int64_t tile_block, panel_block;                  // of a job
  int64_t tile_blocks, panel_blocks;
  int64_t images, lines, image_blocks, line_blocks;   // a block of positions
  int64_t share, shares;                            // of the blocks of positions
  int64_t length, image_steps;                      // of an image's part of a block: pixels, steps
  int64_t steps, chunk;                             // of a block
  int64_t *offset;                                  // of each step in a row
  float *sums;                                      // of all jobs, or NULL
} weight_plan;

// Elements of a turned row: zeros behind it, as taps reach past the last step.
static int64_t row_length(const weight_plan *w) { return w->images * w->length + 2 * AMX_DEPTH; }
static int64_t rows_size(const weight_plan *w) {
  return w->planes.count * w->tile_block * AMX_ROWS * row_length(w);
}
static int64_t panels_size(const weight_plan *w) { return w->panel_block * w->steps * AMX_PANEL; }
static int64_t sums_size(const weight_plan *w) {
  return w->tile_block * w->panel_block * w->planes.taps * AMX_TILE;
}
static int64_t blocks_of(const weight_plan *w) { return w->image_blocks * w->line_blocks; }

// -- the plan

// Lines and images of a block, so that it stays within bounds.
static void cut_positions(weight_plan *w) {
  const device_array *y = w->problem->result;
  const bfloat_planes *p = &w->planes;
  int64_t rows = p->count * w->tile_block * AMX_ROWS, columns = w->panel_block * AMX_COLUMNS;
  int64_t line = p->width * (rows + columns) * (int64_t)sizeof(uint16_t);
  int64_t border = p->reach[0] * p->width * rows * (int64_t)sizeof(uint16_t);
  w->lines = even_block(y->shape[2], maximum(1, (BLOCK_BYTES - border) / line), 1);
  w->images = 1;
  if (w->lines == y->shape[2])
    w->images = even_block(y->shape[0], maximum(1, BLOCK_BYTES / (line * w->lines + border)), 1);
  w->line_blocks = divide_up(y->shape[2], w->lines);
  w->image_blocks = divide_up(y->shape[0], w->images);
  w->length = divide_up((w->lines + p->reach[0]) * p->width, AMX_DEPTH) * AMX_DEPTH;
  w->image_steps = bfloat_steps((w->lines - 1) * p->width + y->shape[3]);
  w->steps = w->images * w->image_steps;
  w->chunk = w->steps <= ONLY_CHUNK ? w->steps : even_block(w->steps, CHUNK, 1);
}

static void cut(weight_plan *w, int64_t tile_blocks, int64_t panel_blocks) {
  w->tile_block = divide_up(w->tiles, tile_blocks);
  w->tile_blocks = divide_up(w->tiles, w->tile_block);
  w->panel_block = divide_up(w->panels, panel_blocks);
  w->panel_blocks = divide_up(w->panels, w->panel_block);
  cut_positions(w);
  int64_t blocks = blocks_of(w), jobs = w->groups * w->tile_blocks * w->panel_blocks;
  w->share = divide_up(blocks, minimum(blocks, divide_up(WANTED_JOBS, jobs)));
  w->shares = divide_up(blocks, w->share);
}

static double moving_cost(const weight_plan *w) {
  const device_array *y = w->problem->result;
  double positions = (double)(y->shape[0] * y->shape[2] * y->shape[3]);
  double packed = (double)(w->inputs * w->panel_blocks + w->outputs * w->tile_blocks);
  double sums = (double)(sums_size(w) * w->tile_blocks * w->panel_blocks);
  double shared = w->shares > 1 ? (double)w->shares : 0;
  return pack_cost * packed * positions + share_cost * sums * shared;
}

// Joined taps are rows of one block.
static void choose_cut(weight_plan *w) {
  weight_plan best = *w;
  double least = -1;
  for (int64_t rows = 1; rows <= (w->planes.span > 1 ? 1 : w->tiles); rows *= 2)
    for (int64_t columns = 1; columns <= w->panels; columns *= 2) {
      cut(w, rows, columns);
      double cost = moving_cost(w);
      bool few = w->groups * w->tile_blocks * w->panel_blocks * w->shares < WANTED_JOBS;
      if (few) cost *= 2;
      if (least >= 0 && cost >= least) continue;
      best = *w;
      least = cost;
    }
  *w = best;
}

static moon_status plan_open(weight_plan *w) {
  const conv_product *p = w->products.products;
  void *offsets;
  int64_t span = CPU(bfloat_span)(w->products.problem, p);
  MOON_TRY(CPU(bfloat_planes_open)(p, span, &w->planes));
  w->groups = p->groups;
  w->inputs = span * p->depth;
  w->outputs = p->columns;
  w->tiles = divide_up(w->inputs, AMX_ROWS);
  w->panels = divide_up(w->outputs, AMX_COLUMNS);
  choose_cut(w);
  MOON_TRY(alloc_new((size_t)w->steps * sizeof *w->offset, &offsets));
  w->offset = offsets;
  for (int64_t i = 0; i < w->steps; i++)
    w->offset[i] = i / w->image_steps * w->length + i % w->image_steps * AMX_DEPTH;
  return MOON_OK;
}

// -- packing

typedef struct job {
  int64_t group, tile, tiles, panel, panels;   // first and how many
  int64_t image, images, line, lines;          // of a block of positions
  uint16_t *pixels;                            // planes of one image
  uint16_t *rows;                              // (planes, tiles, AMX_ROWS) of row_length
  uint16_t *columns;                           // (panels, steps) of AMX_PANEL
  const uint16_t **places;                     // of an image's steps: where the result lies
  float *sums;                                 // (tiles, panels, taps) of AMX_TILE
} job;

// The planes of the job's channels.
static bfloat_planes planes_of(const weight_plan *w, const job *b) {
  bfloat_planes p = w->planes;
  if (p.span > 1) return p;
  p.depth = minimum(b->tiles * AMX_ROWS, w->inputs - b->tile * AMX_ROWS);
  p.pitch = b->tiles * AMX_ROWS;
  return p;
}

// One image's planes into the rows, `n` images behind.
static void turn_image(const weight_plan *w, const bfloat_planes *p, const job *b, int64_t n) {
  const int64_t size = (w->lines + p->reach[0]) * p->width, length = row_length(w);
  for (int64_t plane = 0; plane < p->count; plane++)
    for (int64_t i = 0; i < b->tiles; i++) {
      const uint16_t *from = b->pixels + plane * size * p->pitch + i * AMX_ROWS;
      uint16_t *to = b->rows + (plane * w->tile_block + i) * AMX_ROWS * length + n * w->length;
      for (int64_t k = 0; k < size; k += BFLOAT_CHUNK)
        CPU(bfloat_turn)(from + k * p->pitch, p->pitch, minimum(BFLOAT_CHUNK, size - k), to + k,
                         length);
    }
}

static void clear_rows(const weight_plan *w, const job *b, int64_t first) {
  const int64_t length = row_length(w), count = w->planes.count * w->tile_block * AMX_ROWS;
  for (int64_t r = 0; r < count; r++)
    memset(b->rows + r * length + first, 0, (size_t)(length - first) * sizeof *b->rows);
}

static void pack_rows(const weight_plan *w, const job *b) {
  const bfloat_planes p = planes_of(w, b);
  bfloat_lines lines = { .first = b->line, .count = w->lines,
                         .channel = b->group * w->inputs + b->tile * AMX_ROWS };
  for (int64_t n = 0; n < b->images; n++) {
    lines.image = b->image + n;
    CPU(bfloat_planes_fill)(&p, &lines, b->pixels);
    turn_image(w, &p, b, n);
  }
  clear_rows(w, b, b->images * w->length);
}

// Where the positions of an image's steps lie in the result, NULL where there is none.
static void find_places(const weight_plan *w, const job *b, int64_t n) {
  const device_array *y = w->problem->result;
  const uint16_t *image = (const uint16_t *)y->data + (b->image + n) * y->strides[0] +
                          b->group * w->outputs + b->panel * AMX_COLUMNS;
  memset(b->places, 0, (size_t)(w->image_steps * AMX_DEPTH) * sizeof *b->places);
  if (n >= b->images) return;
  for (int64_t i = 0; i < b->lines; i++) {
    const uint16_t *line = image + (b->line + i) * y->strides[2];
    for (int64_t j = 0; j < y->shape[3]; j++)
      b->places[i * w->planes.width + j] = line + j * y->strides[3];
  }
}

static void pack_columns(const weight_plan *w, const job *b) {
  int64_t columns = minimum(b->panels * AMX_COLUMNS, w->outputs - b->panel * AMX_COLUMNS);
  for (int64_t n = 0; n < w->images; n++) {
    find_places(w, b, n);
    CPU(bfloat_pack_steps)(b->places, columns, w->image_steps * AMX_DEPTH, w->steps * AMX_PANEL,
                           b->columns + n * w->image_steps * AMX_PANEL);
  }
}

// -- the product

static void store_tiles(const weight_plan *w, const job *b, int64_t i, int64_t j,
                        const float *sums);

// One pair of a tile and a panel: all taps, for the steps from k on.
static void multiply_taps(const weight_plan *w, const job *b, int64_t i, int64_t j, int64_t k,
                          float *sums, bool add) {
  const bfloat_planes *p = &w->planes;
  amx_rows rows = { .stride = row_length(w), .offset = w->offset + k };
  for (int64_t t = 0; t < p->taps; t++) {
    const bfloat_tap *tap = &p->tap[t];
    rows.data = b->rows + (tap->plane * w->tile_block + i) * AMX_ROWS * rows.stride +
                tap->shift[0] * p->width + tap->shift[1];
    amx_multiply(minimum(w->chunk, w->steps - k), &rows,
                 b->columns + (j * w->steps + k) * AMX_PANEL, sums + t * AMX_TILE, add);
  }
}

static void multiply_block(const weight_plan *w, const job *b, bool add) {
  for (int64_t k = 0; k < w->steps; k += w->chunk)
    for (int64_t i = 0; i < b->tiles; i++)
      for (int64_t j = 0; j < b->panels; j++)
        multiply_taps(w, b, i, j, k,
                      b->sums + (i * w->panel_block + j) * w->planes.taps * AMX_TILE,
                      add || k > 0);
}

static void open_block(const weight_plan *w, int64_t index, job *b) {
  const device_array *y = w->problem->result;
  b->line = index % w->line_blocks * w->lines;
  b->image = index / w->line_blocks * w->images;
  b->lines = minimum(w->lines, y->shape[2] - b->line);
  b->images = minimum(w->images, y->shape[0] - b->image);
}

static void run_job(const weight_plan *w, int64_t index, job *b) {
  int64_t share = index % w->shares, rest = index / w->shares;
  int64_t panel_block = rest % w->panel_blocks;
  rest /= w->panel_blocks;
  b->panel = panel_block * w->panel_block;
  b->panels = minimum(w->panel_block, w->panels - b->panel);
  b->tile = rest % w->tile_blocks * w->tile_block;
  b->tiles = minimum(w->tile_block, w->tiles - b->tile);
  b->group = rest / w->tile_blocks;
  if (w->sums) b->sums = w->sums + index * sums_size(w);
  int64_t first = share * w->share, last = minimum(first + w->share, blocks_of(w));
  for (int64_t block = first; block < last; block++) {
    open_block(w, block, b);
    pack_rows(w, b);
    pack_columns(w, b);
    multiply_block(w, b, block > first);
  }
  for (int64_t i = 0; !w->sums && i < b->tiles; i++)
    for (int64_t j = 0; j < b->panels; j++)
      store_tiles(w, b, i, j, b->sums + (i * w->panel_block + j) * w->planes.taps * AMX_TILE);
}

static moon_status run_jobs(void *context, int64_t first, int64_t last) {
  const weight_plan *w = context;
  const int64_t slack = AMX_ROWS * w->planes.pitch;
  const int64_t pixels = bfloat_planes_size(&w->planes, w->lines) + slack;
  const size_t halves = (size_t)(pixels + rows_size(w) + panels_size(w)) * sizeof(uint16_t);
  const size_t places = (size_t)(w->image_steps * AMX_DEPTH) * sizeof(void *);
  const size_t sums = w->sums ? 0 : (size_t)sums_size(w) * sizeof(float);
  void *memory;
  MOON_TRY(alloc_bytes(w->engine, sums + places + halves, &memory));
  job b = { .sums = memory };
  b.places = (const uint16_t **)(void *)((char *)memory + sums);
  b.columns = (uint16_t *)(void *)((char *)memory + sums + places);
  b.rows = b.columns + panels_size(w);
  b.pixels = b.rows + rows_size(w);
  amx_open(AMX_ROWS);
  for (int64_t index = first; index < last; index++) run_job(w, index, &b);
  amx_close();
  alloc_release(w->engine, memory, sums + places + halves);
  return MOON_OK;
}

// -- storing

static inline void store_sum(const device_array *to, int64_t at, float sum) {
  if (to->dtype == MOON_F32) ((float *)to->data)[at] = sum;
  else ((uint16_t *)to->data)[at] = bfloat_from_float(sum);
}

// Sums of a tile in the order of a row-major float32 gradient.
static void store_lines(const weight_plan *w, float *to, int64_t rows, int64_t columns,
                        const float *sums) {
  const int64_t taps = w->planes.taps, between = w->problem->weight->strides[0];
  if (taps == 1) {
    CPU(gemm_turn_f32)(sums, AMX_COLUMNS, rows, columns, to, between);
    return;
  }
  for (int64_t c = 0; c < columns; c++, to += between) {
    const float *next = to + (c + 1 < columns ? between : 0);
    for (int64_t k = 0; k < rows * taps; k += FETCHED) __builtin_prefetch(next + k, 1);
    for (int64_t t = 0; t < taps; t++)
      for (int64_t r = 0; r < rows; r++)
        to[r * taps + t] = sums[t * AMX_TILE + r * AMX_COLUMNS + c];
  }
}

static bool stores_lines(const weight_plan *w) {
  const device_array *to = w->problem->weight;
  return to->dtype == MOON_F32 && w->planes.span == 1 && to->strides[3] == 1 &&
         to->strides[2] == to->shape[3] && to->strides[1] == to->shape[2] * to->shape[3];
}

// A column at a time: its taps and rows lie side by side in the weight's gradient.
static void store_tiles(const weight_plan *w, const job *b, int64_t i, int64_t j,
                        const float *sums) {
  const device_array *to = w->problem->weight;
  const int64_t span = w->planes.span, taps = w->planes.taps, channels = w->inputs / span;
  const int64_t row = (b->tile + i) * AMX_ROWS, rows = minimum(AMX_ROWS, w->inputs - row);
  const int64_t column = (b->panel + j) * AMX_COLUMNS;
  const int64_t columns = minimum(AMX_COLUMNS, w->outputs - column);
  int64_t first = (b->group * w->outputs + column) * to->strides[0];
  if (stores_lines(w)) {
    store_lines(w, (float *)to->data + first + row * to->strides[1], rows, columns, sums);
    return;
  }
  for (int64_t c = 0; c < columns; c++, first += to->strides[0]) {
    const conv_tap *tap = w->products.taps + row / channels;
    int64_t channel = row % channels;
    for (int64_t r = 0; r < rows; r++, channel++) {
      if (channel == channels) channel = 0, tap++;
      const float *sum = sums + r * AMX_COLUMNS + c;
      int64_t at = first + channel * to->strides[1];
      for (int64_t t = 0; t < taps; t++)
        store_sum(to, at + tap[t * span].weight, sum[t * AMX_TILE]);
    }
  }
}

// Item: a job without its shares. Adds these up, in order, in the first one's sums.
static moon_status add_shares(void *context, int64_t first, int64_t last) {
  const weight_plan *w = context;
  const int64_t size = sums_size(w);
  for (int64_t item = first; item < last; item++) {
    int64_t panel = item % w->panel_blocks, tile = item / w->panel_blocks % w->tile_blocks;
    job b = { .group = item / w->panel_blocks / w->tile_blocks, .tile = tile * w->tile_block,
              .panel = panel * w->panel_block, .sums = w->sums + item * w->shares * size };
    b.tiles = minimum(w->tile_block, w->tiles - b.tile);
    b.panels = minimum(w->panel_block, w->panels - b.panel);
    for (int64_t share = 1; share < w->shares; share++)
      for (int64_t k = 0; k < size; k++) b.sums[k] += b.sums[share * size + k];
    for (int64_t i = 0; i < b.tiles; i++)
      for (int64_t j = 0; j < b.panels; j++)
        store_tiles(w, &b, i, j, b.sums + (i * w->panel_block + j) * w->planes.taps * AMX_TILE);
  }
  return MOON_OK;
}

static moon_status run_plan(weight_plan *w) {
  int64_t items = w->groups * w->tile_blocks * w->panel_blocks;
  size_t bytes;
  void *sums;
  if (w->shares == 1) return cpu_run(w->engine, items, 1, run_jobs, w);
  MOON_TRY(alloc_product((size_t)(items * w->shares), (size_t)sums_size(w) * sizeof(float),
                         &bytes));
  MOON_TRY(alloc_bytes(w->engine, bytes, &sums));
  w->sums = sums;
  moon_status status = cpu_run(w->engine, items * w->shares, 1, run_jobs, w);
  if (status == MOON_OK)
    status = cpu_run(w->engine, items, cpu_grain(sums_size(w) * w->shares), add_shares, w);
  alloc_release(w->engine, sums, bytes);
  return status;
}

moon_status CPU(conv_bfloat_weight)(moon_engine *engine, const conv_problem *problem) {
  conv_problem forward = *problem;   // whose taps these are
  forward.direction = CONV_FORWARD;
  weight_plan w = { .engine = engine, .problem = problem };
  MOON_TRY(CPU(conv_plan_open)(&forward, &w.products));
  moon_status status = plan_open(&w);
  if (status == MOON_OK) status = run_plan(&w);
  alloc_delete(w.offset);
  bfloat_planes_close(&w.planes);
  conv_plan_close(&w.products);
  return status;
}
