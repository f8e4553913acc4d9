// Convolution of bfloat16 arrays by the matrix registers, forward and for the gradient of the
// input, as the products of conv_implicit.h: positions are rows, weights columns. Lines of the
// image are copied into planes a block at a time (bfloat_planes.h), whose pixels a tile then reads
// where they lie; 1x1 convolutions of whole AMX_DEPTH channels read the image itself.
//
// A task is a block of positions. It goes through the weights a chunk of the depth at a time, which
// stays in the first cache while all of the block's tiles pass over it. Weights may be float32 or
// bfloat16, everything else is bfloat16 but for the finish's vectors (float).
#include <math.h>
#include <string.h>

#include "cpu/bfloat_planes.h"

#include "cpu/bfloat.h"
#include "cpu/whole.h"

enum {
  POSITIONS = 512,                 // of a task
  LEAST_POSITIONS = 128,
  PLANE_BYTES = 512 << 10,
  SUM_BYTES = 512 << 10,
  CHUNK = 18,                      // steps: 36 KiB of weights
  WANTED_TASKS = 8,
  LARGE_RESULT = 1 << 20,          // elements that the second cache does not hold
};

typedef struct bfloat_conv {
  moon_engine *engine;
  const conv_product *product;
  bfloat_planes planes;
  const uint16_t *panels;          // (groups, columns, steps) of AMX_PANEL
  int64_t in_group, steps, chunk;  // panels of a group, their steps, and those taken at once
  bool in_place;                   // pixels are read where they lie: a grid of one line
  int64_t images, lines;           // of a task
  int64_t image_blocks, line_blocks;
  int64_t share, shares;           // panels of a task
  int64_t near;                    // panels whose sums are kept at once
  int64_t tiles;                   // of an image's part of a task
  int64_t *offset;                 // of each step
  bool past_caches;                // results are stored so
} bfloat_conv;

// -- the plan

static bool reads_in_place(const conv_product *p) {
  const device_array *x = p->source;
  return p->taps == 1 && p->tap[0].down == 0 && p->tap[0].across == 0 && p->step[0] == 1 &&
         p->step[1] == 1 && p->depth % AMX_DEPTH == 0 && x->shape[2] == p->height &&
         x->shape[3] == p->width && x->strides[2] == x->shape[3] * x->strides[3] &&
         x->strides[0] == x->shape[2] * x->strides[2];
}

static int64_t positions_of(const conv_product *p) {
  return p->target->shape[0] * p->height * p->width;
}

// Lines and images of a task, whose planes and positions stay within bounds.
static void cut_lines(bfloat_conv *c, int64_t most) {
  const conv_product *p = c->product;
  const int64_t line = bfloat_planes_size(&c->planes, 1) - bfloat_planes_size(&c->planes, 0);
  const int64_t fixed = bfloat_planes_size(&c->planes, 0);
  int64_t fitting = (PLANE_BYTES / (int64_t)sizeof(uint16_t) - fixed) / line;
  int64_t lines = maximum(1, minimum(divide_up(most, c->planes.width), fitting));
  c->lines = even_block(p->height, lines, 1);
  c->images = 1;
  if (c->lines == p->height)
    c->images = maximum(1, minimum(most / (p->height * c->planes.width), fitting / p->height));
  c->images = even_block(p->target->shape[0], c->images, 1);
  c->line_blocks = divide_up(p->height, c->lines);
  c->image_blocks = divide_up(p->target->shape[0], c->images);
  c->tiles = divide_up((c->lines - 1) * c->planes.width + p->width, AMX_ROWS);
}

// The same where pixels are read where they lie: "lines" are positions.
static void cut_positions(bfloat_conv *c, int64_t most) {
  int64_t positions = positions_of(c->product);
  c->lines = even_block(positions, most, AMX_ROWS);
  c->images = c->image_blocks = 1;
  c->line_blocks = divide_up(positions, c->lines);
  c->tiles = c->lines / AMX_ROWS;
}

static void cut(bfloat_conv *c) {
  const int64_t groups = c->product->groups;
  for (int64_t most = POSITIONS;; most /= 2) {
    if (c->in_place) cut_positions(c, most);
    else cut_lines(c, most);
    if (groups * c->image_blocks * c->line_blocks >= WANTED_TASKS) break;
    if (most <= LEAST_POSITIONS) break;
  }
  int64_t blocks = groups * c->image_blocks * c->line_blocks;
  c->share = divide_up(c->in_group, minimum(c->in_group, divide_up(WANTED_TASKS, blocks)));
  c->shares = divide_up(c->in_group, c->share);
  c->chunk = even_block(c->steps, CHUNK, 1);
  int64_t sums = c->images * c->tiles * AMX_TILE * (int64_t)sizeof(float);
  c->near = c->chunk == c->steps ? 1 : maximum(1, minimum(c->share, SUM_BYTES / sums));
}

static moon_status plan_offsets(bfloat_conv *c) {
  const int64_t in_tap = bfloat_steps(c->planes.span * c->planes.depth);
  void *offsets;
  MOON_TRY(alloc_new((size_t)c->steps * sizeof *c->offset, &offsets));
  c->offset = offsets;
  for (int64_t t = 0; t < c->planes.taps; t++)
    for (int64_t i = 0; i < in_tap; i++)
      c->offset[t * in_tap + i] =
          (c->in_place ? 0 : bfloat_tap_at(&c->planes, t, c->lines)) + i * AMX_DEPTH;
  return MOON_OK;
}

// -- a task

typedef struct task {
  int64_t group, image, line, panel, panels;
  int64_t positions;               // in place: of the task
  uint16_t *pixels;                // planes, image after image; in place the last tile, if partial
  float *sums;                     // (near, tiles of all images) of AMX_TILE, or one
  uint16_t **out;                  // a pointer a row; NULL where it is no position
  const uint16_t **add;
} task;

static int64_t all_tiles(const bfloat_conv *c) { return c->images * c->tiles; }

static int64_t image_size(const bfloat_conv *c) {
  return c->in_place ? 0 : bfloat_planes_size(&c->planes, c->lines);
}

// Elements of a task's pixels.
static int64_t pixels_size(const bfloat_conv *c) {
  int64_t tile = AMX_ROWS * c->planes.pitch;
  return c->images * image_size(c) + tile;
}

// The first column's element of a position in an array of the target's shape.
static int64_t place_of(const conv_product *p, const device_array *y, int64_t image, int64_t line,
                        int64_t column) {
  return image * y->strides[0] + (line * p->out_step[0] + p->out_offset[0]) * y->strides[2] +
         (column * p->out_step[1] + p->out_offset[1]) * y->strides[3];
}

static void point_at(const bfloat_conv *c, task *t, int64_t row, int64_t image, int64_t line,
                     int64_t column) {
  const conv_product *p = c->product;
  const device_array *y = p->target, *add = p->finish->add;
  int64_t channel = t->group * p->columns;
  t->out[row] = (uint16_t *)y->data + place_of(p, y, image, line, column) + channel;
  if (add)
    t->add[row] = (const uint16_t *)add->data + place_of(p, add, image, line, column) + channel;
}

static void point_at_lines(const bfloat_conv *c, task *t) {
  const conv_product *p = c->product;
  int64_t images = minimum(c->images, p->target->shape[0] - t->image);
  int64_t lines = minimum(c->lines, p->height - t->line);
  memset(t->out, 0, (size_t)(all_tiles(c) * AMX_ROWS) * sizeof *t->out);
  for (int64_t n = 0; n < images; n++)
    for (int64_t i = 0; i < lines; i++)
      for (int64_t j = 0; j < p->width; j++)
        point_at(c, t, n * c->tiles * AMX_ROWS + i * c->planes.width + j, t->image + n,
                 t->line + i, j);
}

static void point_at_positions(const bfloat_conv *c, task *t) {
  const conv_product *p = c->product;
  int64_t column = t->line % p->width, line = t->line / p->width % p->height;
  int64_t image = t->line / p->width / p->height;
  memset(t->out, 0, (size_t)(c->tiles * AMX_ROWS) * sizeof *t->out);
  for (int64_t row = 0; row < t->positions; row++) {
    point_at(c, t, row, image, line, column);
    if (++column < p->width) continue;
    column = 0;
    if (++line < p->height) continue;
    line = 0, image++;
  }
}

static const uint16_t *pixels_at(const bfloat_conv *c, const task *t, int64_t position) {
  const device_array *x = c->product->source;
  return (const uint16_t *)x->data + position * x->strides[3] + t->group * c->product->depth;
}

// The last tile, where it is partial, is copied: the image may end behind it.
static void open_in_place(const bfloat_conv *c, task *t) {
  const int64_t depth = c->product->depth, whole = t->positions / AMX_ROWS * AMX_ROWS;
  for (int64_t row = whole; row < t->positions; row++)
    memcpy(t->pixels + (row - whole) * depth, pixels_at(c, t, t->line + row),
           (size_t)depth * sizeof *t->pixels);
  point_at_positions(c, t);
}

static void open_planes(const bfloat_conv *c, task *t) {
  for (int64_t n = 0; n < c->images && t->image + n < c->product->target->shape[0]; n++) {
    bfloat_lines lines = { .image = t->image + n, .first = t->line, .count = c->lines,
                           .channel = t->group * c->product->depth };
    CPU(bfloat_planes_fill)(&c->planes, &lines, t->pixels + n * image_size(c));
  }
  point_at_lines(c, t);
}

static amx_rows tile_rows(const bfloat_conv *c, const task *t, int64_t tile) {
  const int64_t row = tile * AMX_ROWS;
  amx_rows rows = { .data = t->pixels, .stride = c->planes.pitch };
  if (!c->in_place) {
    rows.data += tile / c->tiles * image_size(c) + tile % c->tiles * AMX_ROWS * rows.stride;
  } else if (row + AMX_ROWS <= t->positions) {
    rows.data = pixels_at(c, t, t->line + row);
    rows.stride = c->product->source->strides[3];
  }
  return rows;
}

static void store_tile(const bfloat_conv *c, const task *t, int64_t tile, int64_t panel,
                       const float *sums) {
  const conv_product *p = c->product;
  const conv2d_finish *f = p->finish;
  const int64_t row = tile * AMX_ROWS, column = panel * AMX_COLUMNS, group = t->group * p->columns;
  amx_finish finish = { .low = (float)f->low, .high = (float)f->high,
                        .past_caches = c->past_caches };
  if (f->scale) finish.scale = (const float *)f->scale->data + group;
  if (f->shift) finish.shift = (const float *)f->shift->data + group;
  if (f->add) finish.add = t->add + row;
  amx_store(&finish, sums, column, minimum(AMX_COLUMNS, p->columns - column), t->out + row);
}

// Panels first .. last - 1, whose sums are kept from chunk to chunk.
static void multiply_panels(const bfloat_conv *c, const task *t, int64_t first, int64_t last) {
  const int64_t tiles = c->in_place ? divide_up(t->positions, AMX_ROWS) : all_tiles(c);
  const uint16_t *panels = c->panels + t->group * c->in_group * c->steps * AMX_PANEL;
  for (int64_t k = 0; k < c->steps; k += c->chunk) {
    int64_t steps = minimum(c->chunk, c->steps - k);
    for (int64_t j = first; j < last; j++)
      for (int64_t i = 0; i < tiles; i++) {
        amx_rows rows = tile_rows(c, t, i);
        float *sums = t->sums;
        if (steps < c->steps) sums += ((j - first) * tiles + i) * AMX_TILE;
        rows.offset = c->offset + k;
        amx_multiply(steps, &rows, panels + (j * c->steps + k) * AMX_PANEL, sums, k > 0);
        if (k + steps == c->steps) store_tile(c, t, i, j, sums);
      }
  }
}

static void run_task(const bfloat_conv *c, int64_t index, task *t) {
  int64_t share = index % c->shares, block = index / c->shares;
  t->line = block % c->line_blocks * c->lines;
  block /= c->line_blocks;
  t->image = block % c->image_blocks * c->images;
  t->group = block / c->image_blocks;
  t->positions = minimum(c->lines, positions_of(c->product) - t->line);
  if (c->in_place) open_in_place(c, t);
  else open_planes(c, t);
  int64_t last = minimum((share + 1) * c->share, c->in_group);
  for (int64_t j = share * c->share; j < last; j += c->near)
    multiply_panels(c, t, j, minimum(j + c->near, last));
}

static moon_status run_tasks(void *context, int64_t first, int64_t last) {
  const bfloat_conv *c = context;
  const size_t rows = (size_t)(all_tiles(c) * AMX_ROWS);
  const int64_t kept = c->chunk < c->steps ? c->near * all_tiles(c) : 1;
  const size_t sums = (size_t)(kept * AMX_TILE) * sizeof(float);
  const size_t pixels = (size_t)pixels_size(c) * sizeof(uint16_t);
  const size_t bytes = sums + pixels + 2 * rows * sizeof(void *);
  void *memory;
  MOON_TRY(alloc_bytes(c->engine, bytes, &memory));
  task t = { .sums = memory };
  t.out = (uint16_t **)(void *)((char *)memory + sums);
  t.add = (const uint16_t **)(t.out + rows);
  t.pixels = (uint16_t *)(void *)(t.add + rows);
  amx_open(AMX_ROWS);
  for (int64_t index = first; index < last; index++) run_task(c, index, &t);
  amx_close();
  alloc_release(c->engine, memory, bytes);
  return MOON_OK;
}

static moon_status multiply(moon_engine *engine, const conv_product *product, int64_t span,
                            const uint16_t *panels) {
  bfloat_conv c = { .engine = engine, .product = product, .panels = panels,
                    .in_group = divide_up(product->columns, AMX_COLUMNS),
                    .steps = bfloat_conv_steps(product, span),
                    .in_place = reads_in_place(product),
                    .past_caches = array_count(product->target) > LARGE_RESULT };
  moon_status status = CPU(bfloat_planes_open)(product, span, &c.planes);
  if (status == MOON_OK) {
    cut(&c);
    status = plan_offsets(&c);
  }
  if (status == MOON_OK)
    status = cpu_run(engine, product->groups * c.image_blocks * c.line_blocks * c.shares, 1,
                     run_tasks, &c);
  alloc_delete(c.offset);
  bfloat_planes_close(&c.planes);
  return status;
}

// -- the products of a plan

typedef struct bfloat_plan {
  conv_plan plan;
  int64_t span;
} bfloat_plan;

static size_t panels_size(const conv_product *p, int64_t span) {
  int64_t panels = p->groups * divide_up(p->columns, AMX_COLUMNS);
  return (size_t)(panels * bfloat_conv_steps(p, span)) * AMX_PANEL;
}

static moon_status pack_all(moon_engine *engine, void *context, void *block) {
  const bfloat_plan *b = context;
  uint16_t *panels = block;
  for (int64_t i = 0; i < b->plan.count; i++) {
    const conv_product *p = &b->plan.products[i];
    MOON_TRY(CPU(bfloat_pack_weights)(engine, p, b->span, panels));
    panels += panels_size(p, b->span);
  }
  return MOON_OK;
}

static moon_status run_products(moon_engine *engine, bfloat_plan *b) {
  const conv_problem *problem = b->plan.problem;
  size_t elements = 0, bytes;
  derived_hold weights;
  if (b->plan.gaps) MOON_TRY(CPU(fill)(engine, 0, problem->image));
  if (b->plan.count == 0) return MOON_OK;
  b->span = CPU(bfloat_span)(problem, &b->plan.products[0]);
  for (int64_t i = 0; i < b->plan.count; i++)
    elements += panels_size(&b->plan.products[i], b->span);
  MOON_TRY(alloc_product(elements, sizeof(uint16_t), &bytes));
  // Only forward may keep panels, which depend on no more than this.
  const derived_kind kind = { .maker = &CPU(conv_bfloat),
                              .numbers = { problem->geometry->groups, b->span }, .bytes = bytes };
  MOON_TRY(derived_open(engine, problem->weight, &kind, pack_all, b, &weights));
  const uint16_t *panels = weights.data;
  moon_status status = MOON_OK;
  for (int64_t i = 0; i < b->plan.count && status == MOON_OK; i++) {
    const conv_product *p = &b->plan.products[i];
    status = multiply(engine, p, b->span, panels);
    panels += panels_size(p, b->span);
  }
  derived_close(engine, &weights);
  return status;
}

// -- the engine

static bool fits(const moon_engine *engine, const conv_problem *problem) {
  (void)engine;
  return problem->image->dtype == MOON_BF16;
}

static double cost(const conv_problem *problem) { return conv_work(problem) / 8; }

static moon_status run(moon_engine *engine, const conv_problem *problem) {
  bfloat_plan b = { .span = 1 };
  if (problem->direction == CONV_BACKWARD_WEIGHT) return CPU(conv_bfloat_weight)(engine, problem);
  MOON_TRY(CPU(conv_plan_open)(problem, &b.plan));
  moon_status status = run_products(engine, &b);
  conv_plan_close(&b.plan);
  return status;
}

const conv_engine CPU(conv_bfloat) = { .name = "bfloat16", .fits = fits, .cost = cost, .run = run };
