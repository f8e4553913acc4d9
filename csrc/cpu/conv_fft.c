// Convolutions through Fourier transforms as an engine (conv_fft.h): the size of tiles, the phases
// of the work, and what they cost.
#include "cpu/conv_fft.h"

#include <math.h>

#include "cpu/micro.h"
#include "cpu/whole.h"

enum {
  SMALLEST_KERNEL = 5,         // in one direction, with its dilation
  LARGEST_TRANSFORM = 1 << 14,
  MOST_TILES = 112,            // at work at a time
};

// What elements cost in multiply-adds: of a transform, for each factor 2 of its size; of spectra,
// moved through memory.
static const double transform_cost = 14, spectrum_cost = 10;

static bool is_wide(const conv_problem *p) { return p->image->dtype == MOON_F64; }

// The kernel with its dilation.
static int64_t kernel_of(const conv_problem *p, int axis) {
  return (p->weight->shape[2 + axis] - 1) * p->geometry->dilation[axis] + 1;
}

// -- the plan

// Positions of the tiles' grid: of the image in the second direction, else of the result without
// its stride.
static int64_t grid_size(const conv_problem *p, int axis) {
  if (p->direction == CONV_BACKWARD_INPUT) return p->image->shape[2 + axis];
  return (p->result->shape[2 + axis] - 1) * p->geometry->stride[axis] + 1;
}

static void set_size(fft_plan *p, int axis, int64_t size) {
  p->size[axis] = size;
  p->step[axis] = size - kernel_of(p->problem, axis) + 1;
  p->tiles[axis] = divide_up(grid_size(p->problem, axis), p->step[axis]);
  (void)CPU(fft_factor)(size, &p->chain[axis]);
  p->chain[axis].step = 1;
}

static double plan_cost(const fft_plan *p) {
  double area = (double)(p->size[0] * p->size[1]), frequencies = (double)p->frequencies;
  double source = (double)p->source.padded, target = (double)p->target.padded;
  double total = (double)p->total, weights = source * target;
  double transforms = (total * (source + target) + weights) * area *
                      (transform_cost * log2(area) / 2 + spectrum_cost);
  double rounds = ceil(total / MOST_TILES);
  double tiles = ceil(total / rounds / MICRO_ROWS) * MICRO_ROWS * rounds;
  return transforms + frequencies * weights * 4 * (tiles + spectrum_cost * rounds);
}

static void set_grids(fft_plan *p) {
  const conv_problem *problem = p->problem;
  const conv2d_geometry *g = problem->geometry;
  bool back = problem->direction == CONV_BACKWARD_INPUT;
  int64_t panel = is_wide(problem) ? MICRO_COLUMNS_F64 : MICRO_COLUMNS_F32;
  p->source = (fft_grid){ .array = back ? problem->result : problem->image, .parts = 3 };
  p->target = (fft_grid){ .array = back ? problem->image : problem->result, .parts = 2 };
  for (int i = 0; i < 2; i++) {
    int64_t before = g->padding_before[i];
    p->source.before[i] = back ? kernel_of(problem, i) - 1 - before : before;
    p->source.step[i] = back ? g->stride[i] : 1;
    p->target.step[i] = back ? 1 : g->stride[i];
  }
  p->source.padded = divide_up(p->source.array->shape[1], panel) * panel;
  p->target.padded = divide_up(p->target.array->shape[1], panel) * panel;
}

static void set_totals(fft_plan *p) {
  p->half = p->size[1] / 2 + 1;
  p->frequencies = p->size[0] * p->half;
  p->total = p->problem->result->shape[0] * p->tiles[0] * p->tiles[1];
  for (int i = 0; i < 2; i++) {
    p->source.extent[i] = p->size[i];
    p->target.extent[i] = p->step[i];
  }
}

static int64_t power_of_two(int64_t least) {
  int64_t power = 1;
  while (power < least) power *= 2;
  return power;
}

// Of all sizes of transforms the cheapest; false: none is small enough.
static bool plan_new(const conv_problem *problem, fft_plan *plan) {
  fft_plan p = { .problem = problem };
  int64_t least[2] = { power_of_two(kernel_of(problem, 0)), power_of_two(kernel_of(problem, 1)) };
  int64_t most[2];
  double best = -1;
  set_grids(&p);
  for (int i = 0; i < 2; i++)
    most[i] = maximum(least[i], power_of_two(grid_size(problem, i) + kernel_of(problem, i) - 1));
  for (int64_t rows = least[0]; rows <= most[0] && rows <= LARGEST_TRANSFORM; rows *= 2)
    for (int64_t columns = least[1]; columns <= most[1] && rows * columns <= LARGEST_TRANSFORM;
         columns *= 2) {
      set_size(&p, 0, rows);
      set_size(&p, 1, columns);
      set_totals(&p);
      double cost = plan_cost(&p);
      if (best >= 0 && cost >= best) continue;
      *plan = p;
      best = cost;
    }
  return best >= 0;
}

// -- memory

// Elements at one frequency: of the weights, and of each tile.
static int64_t weight_room(const fft_plan *p) {
  bool third = p->problem->direction == CONV_BACKWARD_WEIGHT;
  return third ? p->target.array->shape[1] * 2 * p->source.padded
               : 2 * p->source.padded * p->target.padded;
}
static int64_t tile_room(const fft_plan *p) {
  return p->source.parts * p->source.padded + p->target.parts * p->target.padded;
}

static int64_t tiles_at_once(const moon_engine *engine, const fft_plan *p) {
  int64_t size = (int64_t)dtype_size(p->problem->image->dtype) * p->frequencies;
  int64_t left = engine->workspace_limit - weight_room(p) * size;
  int64_t most = maximum(MICRO_ROWS, minimum(MOST_TILES, left / (tile_room(p) * size)));
  return divide_up(p->total, divide_up(p->total, most));
}

static char *take(char **at, int64_t elements, size_t size) {
  char *taken = *at;
  *at += (size_t)elements * size;
  return taken;
}

// Tables and the tiles' spectra; micro_outer reads some rows past the last tile's.
static moon_status tiles_new(fft_plan *p, size_t *bytes, void **block) {
  size_t size = dtype_size(p->problem->image->dtype), spectra;
  size_t tables = (size_t)(2 * (p->size[0] + p->size[1]));
  MOON_TRY(alloc_product((size_t)p->frequencies, (size_t)(p->count * tile_room(p)), &spectra));
  MOON_TRY(alloc_product(tables + spectra + MICRO_ROWS, size, bytes));
  MOON_TRY(alloc_bytes(p->engine, *bytes, block));
  char *at = *block;
  p->source_spectra =
      take(&at, p->frequencies * p->count * p->source.parts * p->source.padded, size);
  p->target_spectra =
      take(&at, p->frequencies * p->count * p->target.parts * p->target.padded + MICRO_ROWS, size);
  for (int i = 0; i < 2; i++) {
    void *re = take(&at, p->size[i], size), *im = take(&at, p->size[i], size);
    (is_wide(p->problem) ? CPU(fft_roots_f64) : CPU(fft_roots_f32))(p->size[i], re, im);
    p->chain[i].roots_re = re, p->chain[i].roots_im = im;
  }
  return MOON_OK;
}

static moon_status weights_size(const fft_plan *p, size_t *bytes) {
  size_t elements;
  MOON_TRY(alloc_product((size_t)p->frequencies, (size_t)weight_room(p), &elements));
  return alloc_product(elements, dtype_size(p->problem->image->dtype), bytes);
}

// -- phases

#define TASK(p, name) (is_wide((p)->problem) ? CPU(name##_f64) : CPU(name##_f32))

static moon_status run_items(fft_plan *p, int64_t items, int64_t elements, threads_task task) {
  return cpu_run(p->engine, items, cpu_grain(elements), task, p);
}

static moon_status read_source(fft_plan *p) {
  int64_t panel = is_wide(p->problem) ? MICRO_COLUMNS_F64 : MICRO_COLUMNS_F32;
  return run_items(p, p->count * (p->source.padded / panel), p->size[0] * p->size[1] * panel,
                   TASK(p, fft_read_source));
}

static moon_status for_target(fft_plan *p, threads_task task) {
  int64_t panel = is_wide(p->problem) ? MICRO_COLUMNS_F64 : MICRO_COLUMNS_F32;
  return run_items(p, p->count * (p->target.padded / panel), p->size[0] * p->size[1] * panel,
                   task);
}

static moon_status transform_weights(moon_engine *engine, void *plan, void *block) {
  fft_plan *p = plan;
  (void)engine;
  p->weight_spectra = block;
  return run_items(p, p->source.padded, p->size[0] * p->size[1] * p->target.padded,
                   TASK(p, fft_read_weights));
}

static moon_status convolve_tiles(fft_plan *p) {
  int64_t most = p->count, work = p->source.padded * p->target.padded;
  for (p->first = 0; p->first < p->total; p->first += most) {
    p->count = minimum(most, p->total - p->first);
    MOON_TRY(read_source(p));
    MOON_TRY(run_items(p, p->frequencies, p->count * work / 4, TASK(p, fft_multiply)));
    MOON_TRY(for_target(p, TASK(p, fft_write_target)));
  }
  return MOON_OK;
}

// First and second direction. Only forward may keep the weights' spectra.
static moon_status convolve(fft_plan *p) {
  const int64_t *dilation = p->problem->geometry->dilation;
  derived_kind kind = { .maker = &CPU(conv_fft),
                        .numbers = { p->size[0], p->size[1], dilation[0], dilation[1] } };
  derived_hold weights;
  MOON_TRY(weights_size(p, &kind.bytes));
  MOON_TRY(derived_open(p->engine, p->problem->weight, &kind, transform_weights, p, &weights));
  p->weight_spectra = weights.data;
  moon_status status = convolve_tiles(p);
  derived_close(p->engine, &weights);
  return status;
}

static moon_status differentiate_tiles(fft_plan *p) {
  int64_t most = p->count, rows = p->target.array->shape[1];
  int64_t panel = is_wide(p->problem) ? MICRO_COLUMNS_F64 : MICRO_COLUMNS_F32;
  int64_t area = p->size[0] * p->size[1], work = p->source.padded * rows;
  for (p->first = 0; p->first < p->total; p->first += most) {
    p->count = minimum(most, p->total - p->first);
    MOON_TRY(read_source(p));
    MOON_TRY(for_target(p, TASK(p, fft_read_target)));
    MOON_TRY(run_items(p, p->frequencies, p->count * work / 4, TASK(p, fft_multiply_tiles)));
  }
  return run_items(p, rows * (p->source.padded / panel), area * panel,
                   TASK(p, fft_write_weights));
}

// Third direction.
static moon_status differentiate(fft_plan *p) {
  size_t bytes;
  MOON_TRY(weights_size(p, &bytes));
  MOON_TRY(alloc_bytes(p->engine, bytes, &p->weight_spectra));
  moon_status status = differentiate_tiles(p);
  alloc_release(p->engine, p->weight_spectra, bytes);
  return status;
}

// -- the engine

static bool fits(const moon_engine *engine, const conv_problem *problem) {
  (void)engine;
  fft_plan p;
  return problem->geometry->groups == 1 && array_count(problem->image) > 0 &&
         maximum(kernel_of(problem, 0), kernel_of(problem, 1)) >= SMALLEST_KERNEL &&
         plan_new(problem, &p);
}

static double cost(const conv_problem *problem) {
  fft_plan p;
  return plan_new(problem, &p) ? plan_cost(&p) : INFINITY;
}

static moon_status run(moon_engine *engine, const conv_problem *problem) {
  fft_plan p;
  size_t bytes;
  void *block;
  if (!plan_new(problem, &p))
    return moon_fail(MOON_BAD_SHAPE, "convolution: no transform is large enough for the kernel");
  p.engine = engine;
  p.count = tiles_at_once(engine, &p);
  MOON_TRY(tiles_new(&p, &bytes, &block));
  moon_status status =
      problem->direction == CONV_BACKWARD_WEIGHT ? differentiate(&p) : convolve(&p);
  alloc_release(engine, block, bytes);
  return status;
}

const conv_engine CPU(conv_fft) = { "fft", fits, cost, run, NULL };
