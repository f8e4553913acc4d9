// The product of conv_implicit.h for one compute type: conv_implicit_f32.c and conv_implicit_f64.c
// include it with REAL, REAL_BYTES and NAME.
//
// Positions are cut into chunks whose pixels stay in the second cache while the panels of weights
// pass by, as many at a time as stay there too: a tile's results are written side by side then, and
// its pixels read from the first cache. Where chunks are few, the panels of a chunk are cut into
// shares, so that there is work for many threads. Cuts follow from the shape alone.
#include <math.h>

#include "cpu/conv_implicit.h"
#include "cpu/micro.h"
#include "cpu/whole.h"

enum {
  CHUNK_BYTES = 512 << 10,      // pixels of a chunk
  NEAR_BYTES = 512 << 10,       // panels that a chunk's tiles go through together
  CHUNK_POINTERS = 16 << 10,
  CHUNK_ROWS = 4 * MICRO_ROWS,  // at least: fewer would read the weights too often
  TASKS_WANTED = 16,
};

typedef struct multiply_job {
  moon_engine *engine;
  const conv_product *product;
  int64_t positions;            // of all images
  int64_t chunk, chunks;        // positions of a chunk, whole tiles but for the last
  int64_t panels;               // of a group
  int64_t share, shares;        // panels that a task goes through
} multiply_job;

static void cut_job(multiply_job *job) {
  const conv_product *p = job->product;
  int64_t reused = minimum(p->taps, p->step[0] * p->step[1]);
  int64_t pixel = maximum(1, reused * p->depth) * (int64_t)sizeof(REAL);
  int64_t chunk = minimum(CHUNK_BYTES / pixel, CHUNK_POINTERS / maximum(1, p->taps));
  chunk = minimum(chunk, divide_up(job->positions * p->groups, TASKS_WANTED));
  job->chunks = divide_up(job->positions, maximum(chunk, CHUNK_ROWS));
  job->chunk = divide_up(divide_up(job->positions, job->chunks), MICRO_ROWS) * MICRO_ROWS;
  job->chunks = divide_up(job->positions, job->chunk);
  job->panels = divide_up(p->columns, COLUMNS);
  job->share = maximum(1, job->panels * job->chunks * p->groups / TASKS_WANTED);
  job->share = minimum(job->share, job->panels);
  job->shares = divide_up(job->panels, job->share);
}

// -- pointers

// The tables of a task, for whole tiles: rows past the last position repeat it.
typedef struct pointers {
  const REAL **source;          // a tile after the other, tap after tap: MICRO_ROWS positions
  REAL **target;
  const REAL **add;             // only where something is added
} pointers;

// Positions next to each other in a row of the grid and in a tile.
typedef struct piece {
  int64_t image, row, column, count;
  int64_t tile, first;          // where they lie in the tables
} piece;

static void point_at_source(const conv_product *p, const piece *at, int64_t group,
                            const pointers *table) {
  const device_array *x = p->source;
  const REAL *zeros = p->zeros;
  const REAL *image = (const REAL *)x->data + at->image * x->strides[0] +
                      group * p->depth * x->strides[1];
  const REAL **to = table->source + at->tile * MICRO_ROWS * p->taps + at->first;
  const int64_t step = p->step[1] * x->strides[3];
  for (int64_t t = 0; t < p->taps; t++, to += MICRO_ROWS) {
    int64_t i = at->row * p->step[0] + p->tap[t].down;
    int64_t j = at->column * p->step[1] + p->tap[t].across;
    const REAL *from = image + i * x->strides[2] + j * x->strides[3];
    bool inside = i >= 0 && i < x->shape[2];
    if (inside && j >= 0 && j + (at->count - 1) * p->step[1] < x->shape[3]) {
      for (int64_t r = 0; r < at->count; r++) to[r] = from + r * step;
      continue;
    }
    for (int64_t r = 0; r < at->count; r++, j += p->step[1])
      to[r] = inside && j >= 0 && j < x->shape[3] ? from + r * step : zeros;
  }
}

// The first of a piece's elements in an array of the target's shape.
static int64_t target_offset(const conv_product *p, const device_array *y, const piece *at,
                             int64_t group) {
  return at->image * y->strides[0] + group * p->columns * y->strides[1] +
         (at->row * p->out_step[0] + p->out_offset[0]) * y->strides[2] +
         (at->column * p->out_step[1] + p->out_offset[1]) * y->strides[3];
}

static void point_at_target(const conv_product *p, const piece *at, int64_t group,
                            const pointers *table) {
  const device_array *y = p->target, *add = p->finish->add;
  const int64_t first = at->tile * MICRO_ROWS + at->first;
  REAL *to = (REAL *)y->data + target_offset(p, y, at, group);
  for (int64_t r = 0; r < at->count; r++)
    table->target[first + r] = to + r * p->out_step[1] * y->strides[3];
  if (!add) return;
  const REAL *from = (const REAL *)add->data + target_offset(p, add, at, group);
  for (int64_t r = 0; r < at->count; r++)
    table->add[first + r] = from + r * p->out_step[1] * add->strides[3];
}

// Rows past the last position, which is `last`, in the last tile.
static void repeat_last(const conv_product *p, int64_t last, const pointers *table) {
  const REAL **tile = table->source + last / MICRO_ROWS * MICRO_ROWS * p->taps;
  for (int64_t r = last + 1; r % MICRO_ROWS != 0; r++) {
    for (int64_t t = 0; t < p->taps; t++)
      tile[t * MICRO_ROWS + r % MICRO_ROWS] = tile[t * MICRO_ROWS + last % MICRO_ROWS];
    table->target[r] = table->target[last];
    if (p->finish->add) table->add[r] = table->add[last];
  }
}

static void fill_pointers(const conv_product *p, int64_t first, int64_t count, int64_t group,
                          const pointers *table) {
  for (int64_t i = 0; i < count;) {
    int64_t position = first + i;
    piece at = { .image = position / p->width / p->height, .column = position % p->width,
                 .row = position / p->width % p->height, .tile = i / MICRO_ROWS,
                 .first = i % MICRO_ROWS };
    at.count = minimum(minimum(p->width - at.column, MICRO_ROWS - at.first), count - i);
    point_at_source(p, &at, group, table);
    point_at_target(p, &at, group, table);
    i += at.count;
  }
  repeat_last(p, count - 1, table);
}

static size_t table_bytes(const multiply_job *job) {
  return (size_t)(job->chunk * (job->product->taps + 2)) * sizeof(void *);
}

static pointers table_in(const multiply_job *job, void *block) {
  pointers table = { .source = block };
  table.target = (REAL **)(table.source + job->chunk * job->product->taps);
  table.add = (const REAL **)(table.target + job->chunk);
  return table;
}

// -- tiles

static void multiply_tile(const conv_product *p, const pointers *table, int64_t first, int rows,
                          int64_t column, int64_t group, const REAL *panel) {
  REAL *out[MICRO_ROWS];
  const REAL *add[MICRO_ROWS];
  const conv2d_finish *f = p->finish;
  const int64_t channel = group * p->columns + column;
  NAME(micro_finish) finish = { .low = (REAL)f->low, .high = (REAL)f->high };
  if (f->scale) finish.scale = (const REAL *)f->scale->data + channel;
  if (f->shift) finish.shift = (const REAL *)f->shift->data + channel;
  if (f->add) finish.add = add;
  for (int r = 0; r < MICRO_ROWS; r++) out[r] = table->target[first + r] + column;
  for (int r = 0; f->add && r < MICRO_ROWS; r++) add[r] = table->add[first + r] + column;
  NAME(micro_tile) tile = {
    .rows = rows, .columns = (int)minimum(COLUMNS, p->columns - column),
    .taps = p->taps, .depth = p->depth, .out = out, .finish = &finish,
  };
  CPU(NAME(micro_rows))(&tile, table->source + first * p->taps, panel, COLUMNS);
}

static void multiply_chunk(const multiply_job *job, int64_t index, const pointers *table) {
  const conv_product *p = job->product;
  const int64_t size = p->taps * p->depth * COLUMNS;
  // Chunks change before shares do: a thread's tasks follow each other, with the same panels.
  int64_t first = index % job->chunks * job->chunk;
  int64_t share = index / job->chunks % job->shares, group = index / job->chunks / job->shares;
  int64_t count = minimum(job->chunk, job->positions - first);
  const REAL *panels = (const REAL *)p->panels + group * job->panels * size;
  fill_pointers(p, first, count, group, table);
  int64_t end = minimum((share + 1) * job->share, job->panels), next;
  int64_t near = maximum(1, NEAR_BYTES / (int64_t)sizeof(REAL) / maximum(1, size));
  for (int64_t i = share * job->share; i < end; i = next) {
    next = minimum(i + near, end);
    for (int64_t r = 0; r < count; r += MICRO_ROWS)
      for (int64_t j = i; j < next; j++)
        multiply_tile(p, table, r, (int)minimum(MICRO_ROWS, count - r), j * COLUMNS, group,
                      panels + j * size);
  }
}

static moon_status multiply_chunks(void *context, int64_t first, int64_t last) {
  const multiply_job *job = context;
  void *block;
  MOON_TRY(alloc_bytes(job->engine, table_bytes(job), &block));
  pointers table = table_in(job, block);
  for (int64_t i = first; i < last; i++) multiply_chunk(job, i, &table);
  alloc_release(job->engine, block, table_bytes(job));
  return MOON_OK;
}

moon_status CPU(NAME(conv_multiply))(moon_engine *engine, const conv_product *product) {
  multiply_job job = { .engine = engine, .product = product,
                       .positions = product->target->shape[0] * product->height *
                                    product->width };
  if (job.positions == 0) return MOON_OK;
  cut_job(&job);
  int64_t work = job.chunk * job.share * COLUMNS *
                 maximum(1, product->taps * product->depth);
  return cpu_run(engine, job.chunks * job.shares * product->groups, cpu_grain(work / 16),
                 multiply_chunks, &job);
}
