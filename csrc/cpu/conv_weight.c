// The gradient of weights as an engine: how the product is cut (conv_weight.h), and what it costs.
#include "cpu/conv_weight.h"
#include "cpu/whole.h"

enum {
  LATENCY = 4,                           // cycles of a multiply-add
  WANTED_JOBS = 16,
  SMALLEST_BLOCK = 64,                   // of pixels
  PANEL_BYTES = 1 << 20,
};

// What moving an element costs in multiply-adds: into a panel, out of the cache and back as a
// share's sum.
static const double pack_cost = 6, share_cost = 16;

static int64_t lanes_of(const conv_problem *p) {
  return LANE_BYTES / (int64_t)dtype_size(p->image->dtype);
}

// -- the shape of tiles

// Cycles of one step of a tile: two multiply-adds or two loads each, and no sum sooner than the
// latency allows.
static double tile_cycles(int64_t rows, int64_t vectors) {
  int64_t height = 1;
  while (height < rows) height *= 2;
  height = minimum(height, MICRO_ROWS);
  int64_t loads = height + vectors, sums = height * vectors;
  return (double)maximum(2 * LATENCY, maximum(loads, sums)) / 2;
}

// Of one step of all tiles.
static double step_cycles(const weight_plan *p, int64_t lanes) {
  int64_t high = p->rows.size / p->rows.panel, low = p->rows.size % p->rows.panel;
  int64_t wide = p->columns.size / p->columns.panel;
  int64_t narrow = divide_up(p->columns.size % p->columns.panel, lanes);
  double cycles = 0;
  if (high > 0 && wide > 0) cycles += (double)(high * wide) * tile_cycles(p->rows.panel, 2);
  if (high > 0 && narrow > 0) cycles += (double)high * tile_cycles(p->rows.panel, narrow);
  if (low > 0 && wide > 0) cycles += (double)wide * tile_cycles(low, 2);
  if (low > 0 && narrow > 0) cycles += tile_cycles(low, narrow);
  return cycles;
}

static double product_cycles(const weight_plan *p) {
  return (double)(p->taps[0] * p->taps[1]) * step_cycles(p, lanes_of(p->problem));
}

static void set_tiles(weight_plan *p, bool merged, bool image_rows, int64_t height) {
  const device_array *w = p->problem->weight;
  p->merged = merged;
  p->taps[0] = w->shape[2];
  p->taps[1] = merged ? 1 : w->shape[3];
  weight_side image = { .is_image = true, .size = w->shape[1] * (merged ? w->shape[3] : 1) };
  weight_side result = { .size = w->shape[0] / p->problem->geometry->groups };
  p->rows = image_rows ? image : result;
  p->columns = image_rows ? result : image;
  p->rows.panel = height;
  int64_t lanes = lanes_of(p->problem);
  p->columns.panel = p->columns.size <= lanes ? lanes : MICRO_VECTORS * lanes;
}

// Of all ways the fastest; among equals the one that comes first.
static void choose_tiles(weight_plan *p) {
  const device_array *w = p->problem->weight;
  bool may_merge = w->shape[3] > 1 && w->shape[1] * w->shape[3] <= CONV_WEIGHT_MERGED;
  weight_plan best = *p;
  double least = 0;
  for (int way = 0; way < 8; way++) {
    if ((way & 4) && !may_merge) break;
    set_tiles(p, way & 4, way & 2, way & 1 ? CONV_WEIGHT_LOW : MICRO_ROWS);
    double cycles = product_cycles(p);
    if (way > 0 && cycles >= 0.99 * least) continue;
    best = *p;
    least = cycles;
  }
  *p = best;
}

// -- jobs

static void cut_side(weight_side *side, int64_t blocks) {
  side->block = divide_up(divide_up(side->size, blocks), side->panel) * side->panel;
  side->blocks = divide_up(side->size, side->block);
}

// Equal parts of at most `limit`.
static int64_t even_part(int64_t total, int64_t limit) {
  return divide_up(total, divide_up(total, maximum(1, minimum(limit, total))));
}

static void cut_pixels(weight_plan *p) {
  const device_array *y = p->problem->result;
  int64_t pixel = (p->rows.block + p->columns.block) * (int64_t)dtype_size(y->dtype);
  int64_t pixels = minimum(CONV_WEIGHT_PIXELS, maximum(SMALLEST_BLOCK, PANEL_BYTES / pixel));
  int64_t sizes[3] = { y->shape[0], y->shape[2], y->shape[3] };
  for (int axis = 2; axis >= 0; axis--) {
    p->extent[axis] = even_part(sizes[axis], pixels);
    p->extents[axis] = divide_up(sizes[axis], p->extent[axis]);
    pixels = p->extents[axis] > 1 ? 1 : pixels / p->extent[axis];
  }
}

static void cut(weight_plan *p, int64_t row_blocks, int64_t column_blocks) {
  cut_side(&p->rows, row_blocks);
  cut_side(&p->columns, column_blocks);
  cut_pixels(p);
  int64_t jobs = p->problem->geometry->groups * p->rows.blocks * p->columns.blocks;
  int64_t blocks = p->extents[0] * p->extents[1] * p->extents[2];
  p->share = divide_up(blocks, minimum(blocks, divide_up(WANTED_JOBS, jobs)));
  p->shares = divide_up(blocks, p->share);
  int64_t lanes = lanes_of(p->problem);
  p->width = divide_up(minimum(p->columns.block, p->columns.size), lanes) * lanes;
  p->sums = p->taps[0] * p->taps[1] * p->rows.block * p->width;
}

// Multiply-adds that moving is worth.
static double moving_cost(const weight_plan *p) {
  const device_array *y = p->problem->result;
  double pixels = (double)(y->shape[0] * y->shape[2] * y->shape[3]);
  double packed = (double)(p->rows.size * p->columns.blocks + p->columns.size * p->rows.blocks);
  double sums = (double)(p->sums * p->rows.blocks * p->columns.blocks);
  double shared = p->shares > 1 ? (double)p->shares : 0;
  return (double)p->problem->geometry->groups *
         (pack_cost * packed * pixels + share_cost * sums * (1 + shared));
}

static void plan_new(const conv_problem *problem, weight_plan *plan) {
  weight_plan p = { .problem = problem };
  choose_tiles(&p);
  double least = -1;
  for (int64_t rows = 1; rows < 2 * divide_up(p.rows.size, p.rows.panel); rows *= 2)
    for (int64_t columns = 1; columns < 2 * divide_up(p.columns.size, p.columns.panel);
         columns *= 2) {
      cut(&p, rows, columns);
      double cost = moving_cost(&p);
      if (least >= 0 && cost >= least) continue;
      *plan = p;
      least = cost;
    }
}

// -- the engine

static bool fits(const moon_engine *engine, const conv_problem *problem) {
  (void)engine;
  return problem->direction == CONV_BACKWARD_WEIGHT;
}

static double cost(const conv_problem *problem) {
  const device_array *y = problem->result;
  weight_plan p;
  plan_new(problem, &p);
  double steps = (double)(problem->geometry->groups * y->shape[0] * y->shape[2] * y->shape[3]);
  return steps * product_cycles(&p) * 2 * (double)lanes_of(problem) + moving_cost(&p);
}

static moon_status run_jobs(weight_plan *p) {
  bool wide = p->problem->image->dtype == MOON_F64;
  int64_t blocks = p->problem->geometry->groups * p->rows.blocks * p->columns.blocks;
  int64_t grain = maximum(1, cpu_grain(p->sums * p->share) / 8);
  MOON_TRY(threads_run(p->engine, blocks * p->shares, grain,
                       wide ? CPU(conv_weight_jobs_f64) : CPU(conv_weight_jobs_f32), p));
  if (p->shares == 1) return MOON_OK;
  return cpu_run(p->engine, blocks, cpu_grain(p->sums * p->shares),
                 wide ? CPU(conv_weight_add_f64) : CPU(conv_weight_add_f32), p);
}

static moon_status run(moon_engine *engine, const conv_problem *problem) {
  weight_plan p;
  plan_new(problem, &p);
  p.engine = engine;
  p.partial = NULL;
  if (p.shares == 1) return run_jobs(&p);
  size_t bytes, jobs = (size_t)(problem->geometry->groups * p.rows.blocks * p.columns.blocks *
                                p.shares);
  MOON_TRY(alloc_product(jobs, (size_t)p.sums * dtype_size(problem->image->dtype), &bytes));
  MOON_TRY(alloc_bytes(engine, bytes, &p.partial));
  moon_status status = run_jobs(&p);
  alloc_release(engine, p.partial, bytes);
  return status;
}

const conv_engine CPU(conv_weight) = { "implicit", fits, cost, run, NULL };
