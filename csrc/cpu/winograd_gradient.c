// Backward weight: components of tiles of the image and of the gradient, a product over tiles for
// each component, and back to taps. A task does that for a part of the output and a part of the
// input channels, over a run of tiles; it keeps sums and a block of tiles in the cache. Where that
// gives few tasks the tiles are cut into runs, whose gradients are added up in order at the end.
#include "cpu/winograd.h"

#include <math.h>
#include <string.h>

enum {
  PART = 128,              // most channels of a part
  BLOCK_BYTES = 3 << 19,   // of the components of a block of tiles
  LEAST_TILES = 16,        // of a block
  TASKS = 8,               // wanted
  RUN_BLOCKS = 4,          // blocks that a run has at least
  VECTOR = MICRO_COLUMNS_F32 / MICRO_VECTORS,
};

typedef struct pass {
  moon_engine *engine;
  const winograd_form *form;
  winograd_grid image, gradient;
  int64_t groups, inputs, outputs;     // channels of a group
  // How the work is cut: channels of a part, tiles of a block and of a run, and how many parts and
  // runs there are.
  int64_t part_inputs, part_outputs, tiles, run_tiles;
  int64_t input_parts, output_parts, runs;
  float *weight;                       // gradients: of the first run, contiguous
  float *others;                       // of the other runs, each like it
  int64_t weights;                     // floats of one
} pass;

// A task's scratch. Components: (components, tiles, row); sums: (components, outputs, row).
typedef struct scratch {
  float *inputs, *outputs, *sums, *zeros, *taps;
  int64_t input_row, input_step, output_row, output_step, sum_step;
} scratch;

// The scratch's sizes; gives its floats. A step of micro_outer reads MICRO_ROWS gradients and
// whole vectors of inputs.
static int64_t scratch_floats(const pass *p, scratch *s) {
  s->input_row = winograd_row(winograd_round(p->part_inputs, VECTOR));
  s->output_row = winograd_row(winograd_round(p->part_outputs, MICRO_ROWS));
  s->input_step = winograd_step(p->tiles * s->input_row);
  s->output_step = winograd_step(p->tiles * s->output_row);
  s->sum_step = winograd_step(p->part_outputs * s->input_row);
  return winograd_components(p->form) * (s->input_step + s->output_step + s->sum_step) +
         s->input_row + s->output_row + p->form->taps * p->form->taps * s->input_row;
}

static void scratch_place(const pass *p, float *memory, scratch *s) {
  const int64_t components = winograd_components(p->form);
  s->inputs = memory;
  s->outputs = s->inputs + components * s->input_step;
  s->sums = s->outputs + components * s->output_step;
  s->zeros = s->sums + components * s->sum_step;
  s->taps = s->zeros + s->input_row + s->output_row;
  memset(s->zeros, 0, (size_t)(s->input_row + s->output_row) * sizeof(float));
}

// What a task works on: channels of a group, a run of tiles.
typedef struct job {
  const pass *p;
  const scratch *s;
  int64_t run, group, input, inputs, output, outputs;
} job;

// Adds the products of a block of tiles to the sums of one component, or begins them.
static void multiply(const job *j, int component, int64_t tiles, bool first) {
  const scratch *s = j->s;
  float *sums = s->sums + component * s->sum_step, *out[MICRO_ROWS];
  micro_finish_f32 finish = { .low = -INFINITY, .high = INFINITY,
                              .add = first ? NULL : (const float *const *)out };
  micro_tile_f32 tile = { .taps = 1, .depth = tiles, .out = out, .finish = &finish };
  for (int64_t column = 0; column < j->inputs; column += MICRO_COLUMNS_F32) {
    const float *b = s->inputs + component * s->input_step + column;
    tile.columns =
        (int)minimum(winograd_round(j->inputs - column, VECTOR), MICRO_COLUMNS_F32);
    for (int64_t output = 0; output < j->outputs; output += MICRO_ROWS) {
      const float *a = s->outputs + component * s->output_step + output;
      tile.rows = (int)minimum(j->outputs - output, MICRO_ROWS);
      for (int r = 0; r < tile.rows; r++) out[r] = sums + (output + r) * s->input_row + column;
      CPU(micro_outer_f32)(&tile, &a, s->output_row, &b, s->input_row);
    }
  }
}

static void sum_tiles(const job *j, int64_t first, int64_t last) {
  const pass *p = j->p;
  const scratch *s = j->s;
  winograd_grid image = p->image, gradient = p->gradient;
  image.first_channel = j->group * p->inputs + j->input;
  gradient.first_channel = j->group * p->outputs + j->output;
  for (int64_t at = first; at < last; at += p->tiles) {
    int64_t end = minimum(at + p->tiles, last);
    CPU(winograd_spread_tiles)(&image, p->form->image, at, end, j->inputs, s->zeros, s->inputs,
                               s->input_row, s->input_step);
    CPU(winograd_spread_tiles)(&gradient, p->form->gradient, at, end, j->outputs, s->zeros,
                               s->outputs, s->output_row, s->output_step);
    for (int i = 0; i < winograd_components(p->form); i++)
      multiply(j, i, end - at, at == first);
  }
}

// Sums become the run's gradients of weights.
static void gather_sums(const job *j) {
  static const winograd_finish plain = { .low = -INFINITY, .high = INFINITY };
  const pass *p = j->p;
  const scratch *s = j->s;
  const int64_t taps = p->form->taps * p->form->taps;
  float *rows[WINOGRAD_COMPONENTS];
  for (int64_t t = 0; t < taps; t++) rows[t] = s->taps + t * s->input_row;
  float *weight = j->run == 0 ? p->weight : p->others + (j->run - 1) * p->weights;
  weight += ((j->group * p->outputs + j->output) * p->inputs + j->input) * taps;
  for (int64_t o = 0; o < j->outputs; o++) {
    p->form->weight_gradient(s->sums + o * s->input_row, s->sum_step, j->inputs, rows, &plain);
    CPU(winograd_unpack)(p->form, s->taps, s->input_row, j->inputs,
                         weight + o * p->inputs * taps);
  }
}

static void run_task(const pass *p, const scratch *s, int64_t index) {
  job j = { .p = p, .s = s };
  j.run = index % p->runs;
  index /= p->runs;
  j.input = index % p->input_parts * p->part_inputs;
  index /= p->input_parts;
  j.output = index % p->output_parts * p->part_outputs;
  j.group = index / p->output_parts;
  j.inputs = minimum(p->part_inputs, p->inputs - j.input);
  j.outputs = minimum(p->part_outputs, p->outputs - j.output);
  int64_t first = j.run * p->run_tiles;
  sum_tiles(&j, first, minimum(first + p->run_tiles, winograd_tiles(&p->image)));
  gather_sums(&j);
}

static moon_status run_tasks(void *context, int64_t first, int64_t last) {
  const pass *p = context;
  scratch s;
  void *memory;
  size_t bytes = (size_t)scratch_floats(p, &s) * sizeof(float);
  MOON_TRY(alloc_bytes(p->engine, bytes, &memory));
  scratch_place(p, memory, &s);
  for (int64_t i = first; i < last; i++) run_task(p, &s, i);
  alloc_release(p->engine, memory, bytes);
  return MOON_OK;
}

// Adds the other runs to weights first .. last of the first.
static moon_status add_runs(void *context, int64_t first, int64_t last) {
  const pass *p = context;
  for (int64_t r = 0; r < p->runs - 1; r++) {
    const float *run = p->others + r * p->weights;
    for (int64_t i = first; i < last; i++) p->weight[i] += run[i];
  }
  return MOON_OK;
}

// By shape alone.
static void cut(pass *p) {
  const int64_t components = winograd_components(p->form), all = winograd_tiles(&p->image);
  p->input_parts = divide_up(p->inputs, PART);
  p->output_parts = divide_up(p->outputs, PART);
  p->part_inputs = minimum(
      p->inputs, winograd_round(divide_up(p->inputs, p->input_parts), VECTOR));
  p->part_outputs = divide_up(p->outputs, p->output_parts);
  p->input_parts = divide_up(p->inputs, p->part_inputs);
  const int64_t tile = components * (p->part_inputs + p->part_outputs) * (int64_t)sizeof(float);
  p->tiles = BLOCK_BYTES / tile;
  if (p->tiles < LEAST_TILES) p->tiles = LEAST_TILES;
  p->tiles = minimum(p->tiles, all);
  p->runs = minimum(divide_up(TASKS, p->groups * p->input_parts * p->output_parts),
                  divide_up(all, RUN_BLOCKS * p->tiles));
  p->run_tiles = divide_up(all, p->runs);
  p->runs = divide_up(all, p->run_tiles);
}

static moon_status run_pass(pass *p) {
  const size_t bytes = (size_t)((p->runs - 1) * p->weights) * sizeof(float);
  const int64_t tasks = p->runs * p->groups * p->input_parts * p->output_parts;
  void *others;
  MOON_TRY(alloc_bytes(p->engine, bytes, &others));
  p->others = others;
  moon_status status = cpu_run(p->engine, tasks, 1, run_tasks, p);
  if (status == MOON_OK && p->runs > 1)
    status = cpu_run(p->engine, p->weights, cpu_grain(p->runs), add_runs, p);
  alloc_release(p->engine, others, bytes);
  return status;
}

moon_status CPU(winograd_differentiate)(moon_engine *engine, const conv_problem *problem,
                                        const winograd_form *form) {
  const device_array *image = problem->image, *gradient = problem->result;
  const device_array *weight = problem->weight;
  const int64_t groups = problem->geometry->groups;
  pass p = { .engine = engine, .form = form, .groups = groups,
             .inputs = image->shape[1] / groups, .outputs = gradient->shape[1] / groups,
             .image = { .array = image, .size = form->points, .step = form->outputs },
             .gradient = { .array = gradient, .size = form->outputs, .step = form->outputs },
             .weight = weight->data, .weights = array_count(weight) };
  for (int axis = 0; axis < 2; axis++) {
    p.image.before[axis] = problem->geometry->padding_before[axis];
    p.image.count[axis] = p.gradient.count[axis] =
        divide_up(gradient->shape[2 + axis], form->outputs);
  }
  cut(&p);
  if (array_is_contiguous(weight)) return run_pass(&p);
  cpu_temp own;
  MOON_TRY(CPU(temp_new)(engine, MOON_F32, 4, weight->shape, &own));
  p.weight = own.array.data;
  moon_status status = run_pass(&p);
  if (status == MOON_OK) status = CPU(copy)(engine, &own.array, weight);
  CPU(temp_release)(engine, &own);
  return status;
}
