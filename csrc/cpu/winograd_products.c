// Forward and backward input: tiles of the source become components, a product with the weights'
// components for each, and tiles of the target. A task does that for a block of tiles and a part
// of the output channels, whose components it keeps in its own scratch.
//
// The components of the weights are 4 times as many as the weights themselves. With many tiles
// they are made once for all tasks; with few it is memory that limits, and tasks make them as they
// go, a piece that stays in the cache at a time, and add up the products of the pieces.
#include "cpu/winograd.h"

#include <math.h>
#include <string.h>

enum {
  CACHE = 5 << 18,       // bytes that a core's own cache keeps beside what streams through it
  NEAR_TILES = 2,        // tiles of a block whose components stay there, in MICRO_ROWS
  FAR_TILES = 14,        // and of one whose do not, so that each weight is used often
  TASKS = 4,             // at least, or columns are cut too
  PART = 64,             // columns that a part has at least
  PIECE = 64,            // input and output channels of a piece of weights
  FEW = 80,              // tiles up to which weights are made in pieces
  SHARE = 8,             // tasks that share the workspace's limit
  VECTOR = MICRO_COLUMNS_F32 / MICRO_VECTORS,
};

typedef struct pass {
  moon_engine *engine;
  const winograd_form *form;
  winograd_grid source, target, add;   // add.array may be NULL
  const conv2d_finish *finish;         // or NULL
  int64_t groups, inputs, outputs;     // channels of a group
  winograd_weights weights;            // of the first group
  int64_t group_weights;               // floats from one group's weights to the next's
  float *panels;                       // components of all weights, or NULL: made in pieces
  // How the work is cut: tiles of a block, output channels of a part, and how many of each; and
  // how many channels of either kind are multiplied at a time.
  int64_t tiles, columns, blocks, parts, piece_inputs, piece_outputs;
} pass;

// A task's scratch.
typedef struct scratch {
  float *inputs, *outputs;             // components: (components, tiles, row)
  float *panels;                       // of a piece
  float *zeros, *waste;                // a pixel that is read, and one that is written
  int64_t input_row, input_step, output_row, output_step, pixel;
} scratch;

// Tiles first .. last of a group.
typedef struct job {
  const pass *p;
  const scratch *s;
  int64_t group, first, last;
} job;

// -- products

// The outputs of one component in `columns` channels from the inputs
// input .. input + inputs - 1; b is the first panel's matrix.
static void multiply(const job *j, int component, int64_t input, int64_t inputs, int64_t columns,
                     const float *b) {
  const scratch *s = j->s;
  const float *from = s->inputs + component * s->input_step + input;
  float *to = s->outputs + component * s->output_step;
  const float *a[MICRO_ROWS];
  float *out[MICRO_ROWS];
  micro_finish_f32 finish = { .low = -INFINITY, .high = INFINITY,
                              .add = input > 0 ? (const float *const *)out : NULL };
  micro_tile_f32 tile = { .taps = 1, .depth = inputs, .out = out, .finish = &finish };
  const int64_t tiles = j->last - j->first;
  for (int64_t at = 0; at < columns; at += MICRO_COLUMNS_F32) {
    tile.columns =
        (int)minimum(winograd_round(columns - at, VECTOR), MICRO_COLUMNS_F32);
    for (int64_t i = 0; i < tiles; i += MICRO_ROWS) {
      tile.rows = (int)minimum(tiles - i, MICRO_ROWS);
      for (int r = 0; r < MICRO_ROWS; r++) {
        int64_t row = minimum(i + r, tiles - 1);
        a[r] = from + row * s->input_row;
        out[r] = to + row * s->output_row + at;
      }
      CPU(micro_rows_f32)(&tile, a, b, MICRO_COLUMNS_F32);
    }
    b += winograd_panel(j->p->form, inputs);
  }
}

// The components of a piece of the weights.
static const float *piece_of(const job *j, int64_t input, int64_t inputs, int64_t column,
                             int64_t columns) {
  const pass *p = j->p;
  const int64_t panel = winograd_panel(p->form, inputs);
  if (p->panels)
    return p->panels +
           (j->group * winograd_panels(p->outputs) + column / MICRO_COLUMNS_F32) * panel;
  winograd_weights weights = p->weights;
  weights.data += j->group * p->group_weights;
  for (int64_t at = 0; at < columns; at += MICRO_COLUMNS_F32)
    CPU(winograd_pack)(p->form, &weights, input, inputs, column + at,
                       j->s->panels + at / MICRO_COLUMNS_F32 * panel);
  return j->s->panels;
}

static void multiply_pieces(const job *j, int64_t column, int64_t columns) {
  const pass *p = j->p;
  for (int64_t input = 0; input == 0 || input < p->inputs; input += p->piece_inputs) {
    int64_t inputs = minimum(p->piece_inputs, p->inputs - input);
    const float *panels = piece_of(j, input, inputs, column, columns);
    for (int i = 0; i < winograd_components(p->form); i++)
      multiply(j, i, input, inputs, columns, panels + i * winograd_matrix(inputs));
  }
}

// -- back to pixels

static const float *vector_at(const device_array *vector, int64_t channel) {
  return vector ? (const float *)vector->data + channel : NULL;
}

static void gather_tiles(const job *j, int64_t column, int64_t columns) {
  const pass *p = j->p;
  const scratch *s = j->s;
  const int64_t channel = j->group * p->outputs + column;
  float *pixels[WINOGRAD_COMPONENTS], *add[WINOGRAD_COMPONENTS];
  winograd_finish finish = { .low = -INFINITY, .high = INFINITY };
  if (p->finish)
    finish = (winograd_finish){ .scale = vector_at(p->finish->scale, channel),
                                .shift = vector_at(p->finish->shift, channel),
                                .add = p->add.array ? (const float *const *)add : NULL,
                                .low = (float)p->finish->low, .high = (float)p->finish->high };
  winograd_grid target = p->target, addend = p->add;
  target.first_channel = addend.first_channel = channel;
  for (int64_t i = j->first; i < j->last; i++) {
    CPU(winograd_pixels)(&target, i, s->waste, pixels);
    if (finish.add) CPU(winograd_pixels)(&addend, i, s->zeros, add);
    p->form->result(s->outputs + (i - j->first) * s->output_row, s->output_step, columns, pixels,
                    &finish);
  }
}

// -- tasks

// The scratch's sizes; gives its floats.
static int64_t scratch_floats(const pass *p, scratch *s) {
  s->input_row = winograd_row(p->inputs);
  s->output_row = winograd_row(winograd_round(p->piece_outputs, VECTOR));
  s->input_step = winograd_step(p->tiles * s->input_row);
  s->output_step = winograd_step(p->tiles * s->output_row);
  s->pixel = s->input_row > s->output_row ? s->input_row : s->output_row;
  int64_t piece = p->panels ? 0 : winograd_panels(p->piece_outputs) *
                                      winograd_panel(p->form, p->piece_inputs);
  return winograd_components(p->form) * (s->input_step + s->output_step) + 2 * s->pixel + piece;
}

static void scratch_place(const pass *p, float *memory, scratch *s) {
  const int64_t components = winograd_components(p->form);
  s->inputs = memory;
  s->outputs = s->inputs + components * s->input_step;
  s->zeros = s->outputs + components * s->output_step;
  s->waste = s->zeros + s->pixel;
  s->panels = s->waste + s->pixel;
  memset(s->zeros, 0, (size_t)s->pixel * sizeof(float));
}

static void run_task(const pass *p, const scratch *s, int64_t index) {
  const int64_t block = index % p->blocks, part = index / p->blocks % p->parts;
  job j = { .p = p, .s = s, .group = index / p->blocks / p->parts, .first = block * p->tiles };
  j.last = minimum(j.first + p->tiles, winograd_tiles(&p->source));
  winograd_grid source = p->source;
  source.first_channel = j.group * p->inputs;
  CPU(winograd_spread_tiles)(&source, p->form->image, j.first, j.last, p->inputs, s->zeros,
                             s->inputs, s->input_row, s->input_step);
  const int64_t end = minimum((part + 1) * p->columns, p->outputs);
  for (int64_t column = part * p->columns; column < end; column += p->piece_outputs) {
    int64_t columns = minimum(p->piece_outputs, end - column);
    multiply_pieces(&j, column, columns);
    gather_tiles(&j, column, columns);
  }
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

// -- weights

static moon_status pack_some(void *context, int64_t first, int64_t last) {
  const pass *p = context;
  const int64_t panels = winograd_panels(p->outputs);
  for (int64_t i = first; i < last; i++) {
    winograd_weights weights = p->weights;
    weights.data += i / panels * p->group_weights;
    CPU(winograd_pack)(p->form, &weights, 0, p->inputs, i % panels * MICRO_COLUMNS_F32,
                       p->panels + i * winograd_panel(p->form, p->inputs));
  }
  return MOON_OK;
}

static moon_status pack_all(moon_engine *engine, void *context, void *block) {
  pass *p = context;
  p->panels = block;
  return cpu_run(engine, p->groups * winograd_panels(p->outputs), 1, pack_some, p);
}

// -- the whole

// By shape alone (and the limit of workspaces): gives the floats of all panels, 0 for pieces.
static int64_t cut(pass *p) {
  const int64_t components = winograd_components(p->form), all = winograd_tiles(&p->source);
  const int64_t tile = components * (p->inputs + p->outputs) * (int64_t)sizeof(float);
  const int64_t panels = p->groups * winograd_panels(p->outputs) *
                         winograd_panel(p->form, p->inputs);
  const bool near = NEAR_TILES * MICRO_ROWS * tile <= CACHE;
  p->tiles = (near ? NEAR_TILES : FAR_TILES) * MICRO_ROWS;
  while (p->tiles > MICRO_ROWS && p->tiles * tile > p->engine->workspace_limit / SHARE)
    p->tiles -= MICRO_ROWS;
  p->blocks = divide_up(all, p->tiles);
  int64_t parts = minimum(divide_up(TASKS, p->blocks * p->groups),
                                 divide_up(p->outputs, PART));
  p->columns = winograd_round(divide_up(p->outputs, parts), MICRO_COLUMNS_F32);
  p->parts = divide_up(p->outputs, p->columns);
  p->tiles = minimum(p->tiles, all);
  bool pieces = (!near && all <= FEW) ||
                panels > p->engine->workspace_limit / (int64_t)sizeof(float);
  p->piece_inputs = pieces ? minimum(PIECE, p->inputs) : p->inputs;
  p->piece_outputs = pieces ? minimum(PIECE, p->columns) : p->columns;
  return pieces ? 0 : panels;
}

static winograd_weights weights_of(const device_array *w, bool forward, int64_t groups) {
  const int64_t outer = w->strides[0], inner = w->strides[1];
  winograd_weights weights = { .data = w->data, .end = (const float *)w->data + array_count(w),
                               .turned = !forward };
  weights.inputs = forward ? w->shape[1] : w->shape[0] / groups;
  weights.outputs = forward ? w->shape[0] / groups : w->shape[1];
  weights.in = forward ? inner : outer;
  weights.out = forward ? outer : inner;
  return weights;
}

static moon_status run_pass(pass *p, const device_array *weight) {
  const int64_t floats = cut(p);
  const derived_kind kind = { .maker = p->form, .numbers = { p->groups, p->weights.turned },
                              .bytes = (size_t)floats * sizeof(float) };
  derived_hold panels = { 0 };
  if (floats > 0) {
    MOON_TRY(derived_open(p->engine, weight, &kind, pack_all, p, &panels));
    p->panels = panels.data;
  }
  moon_status status = cpu_run(p->engine, p->groups * p->parts * p->blocks, 1, run_tasks, p);
  if (floats > 0) derived_close(p->engine, &panels);
  return status;
}

moon_status CPU(winograd_convolve)(moon_engine *engine, const conv_problem *problem,
                                   const winograd_form *form) {
  const bool forward = problem->direction == CONV_FORWARD;
  const device_array *source = forward ? problem->image : problem->result;
  const device_array *target = forward ? problem->result : problem->image;
  const int64_t groups = problem->geometry->groups;
  cpu_temp weight = { 0 };
  MOON_TRY(CPU(temp_from)(engine, problem->weight, MOON_F32, &weight));
  pass p = { .engine = engine, .form = form, .finish = forward ? problem->finish : NULL,
             .groups = groups, .weights = weights_of(&weight.array, forward, groups),
             .group_weights = array_count(&weight.array) / groups,
             .source = { .array = source, .size = form->points, .step = form->outputs },
             .target = { .array = target, .size = form->outputs, .step = form->outputs } };
  p.inputs = p.weights.inputs;
  p.outputs = p.weights.outputs;
  for (int axis = 0; axis < 2; axis++) {
    int64_t before = problem->geometry->padding_before[axis];
    p.source.before[axis] = forward ? before : form->taps - 1 - before;
    p.source.count[axis] = p.target.count[axis] =
        divide_up(target->shape[2 + axis], form->outputs);
  }
  p.add = p.target;
  p.add.array = p.finish ? p.finish->add : NULL;
  moon_status status = run_pass(&p, problem->weight);
  CPU(temp_release)(engine, &weight);
  return status;
}
