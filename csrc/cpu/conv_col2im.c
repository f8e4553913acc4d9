// The engine "col2im" (conv_col2im.h): how the work is cut into tasks, and what it costs.
#include "cpu/conv_col2im.h"

#include "cpu/lane_bytes.h"
#include "cpu/micro.h"
#include "cpu/whole.h"

enum {
  TASKS_WANTED = 16,
  BAND_ROWS = 8,                 // at least: bands calculate their neighbours' positions again
  TASK_POSITIONS = 16 * MICRO_ROWS,
};

// In multiply-adds: to add a vector to the image, to point at a position, to pack a weight.
static const double add_cost = 80, pointer_cost = 50, pack_cost = 60, tile_cost = 1.1;

static bool is_wide(const conv_problem *p) { return p->image->dtype == MOON_F64; }

static int64_t padded_columns(const conv_problem *p) {
  const device_array *w = p->weight;
  int64_t panel = is_wide(p) ? MICRO_COLUMNS_F64 : MICRO_COLUMNS_F32;
  return divide_up(w->shape[1] * w->shape[2] * w->shape[3], panel) * panel;
}

static bool fits(const moon_engine *engine, const conv_problem *p) {
  (void)engine;
  return p->direction == CONV_BACKWARD_INPUT && p->geometry->groups == 1 &&
         p->geometry->dilation[1] == 1;
}

static double cost(const conv_problem *p) {
  const device_array *y = p->result, *w = p->weight;
  int64_t vector = LANE_BYTES / (int64_t)dtype_size(p->image->dtype);
  double positions = (double)(y->shape[0] * y->shape[2] * y->shape[3]);
  double adds = (double)(w->shape[2] * divide_up(w->shape[3] * w->shape[1], vector));
  return positions * ((double)(padded_columns(p) * w->shape[0]) * tile_cost + adds * add_cost +
                      pointer_cost) +
         (double)array_count(w) * pack_cost;
}

static void cut(col2im_job *job) {
  const device_array *x = job->problem->image, *y = job->problem->result;
  int64_t positions = maximum(1, y->shape[2] * y->shape[3]);
  int64_t bands = minimum(TASKS_WANTED / x->shape[0], x->shape[2] / BAND_ROWS);
  job->band = divide_up(x->shape[2], maximum(1, bands));
  job->bands = divide_up(x->shape[2], job->band);
  job->images = job->bands > 1 ? 1 : divide_up(TASK_POSITIONS, positions);
}

static moon_status run(moon_engine *engine, const conv_problem *p) {
  const device_array *w = p->weight;
  col2im_job job = { .engine = engine, .problem = p, .run = w->shape[3] * w->shape[1],
                     .padded = padded_columns(p) };
  size_t bytes;
  MOON_TRY(alloc_product((size_t)job.padded, (size_t)w->shape[0] * dtype_size(w->dtype), &bytes));
  MOON_TRY(alloc_bytes(engine, bytes, &job.panels));
  cut(&job);
  int64_t tasks = divide_up(p->image->shape[0], job.images) * job.bands;
  int64_t work = array_count(p->result) / tasks * job.padded;
  moon_status status = cpu_run(engine, w->shape[0], cpu_grain(job.padded),
                               is_wide(p) ? CPU(col2im_pack_f64) : CPU(col2im_pack_f32), &job);
  if (status == MOON_OK)
    status = cpu_run(engine, tasks, cpu_grain(work / 16),
                     is_wide(p) ? CPU(col2im_tasks_f64) : CPU(col2im_tasks_f32), &job);
  alloc_release(engine, job.panels, bytes);
  return status;
}

const conv_engine CPU(conv_col2im) = { "col2im", fits, cost, run, NULL };
