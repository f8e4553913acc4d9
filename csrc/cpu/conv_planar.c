// The engine "planar" (conv_planar.h): how the work is cut into tasks, and what it costs.
#include "cpu/conv_planar.h"

#include "cpu/lane_bytes.h"
#include "cpu/whole.h"

enum {
  TASKS_WANTED = 32,
  BAND_ROWS = 8,                // at least: bands copy rows that their neighbours copy too
  BAND_BYTES = 256 << 10,       // of planes, so that they stay in the second cache
};

// In multiply-adds: to copy an element of the image, to write a position, to add a task's sum to
// the others'; and of a multiply-add.
static const double copy_cost = 24, write_cost = 100, sum_cost = 8, multiply_cost = 1.3;

static bool is_wide(const conv_problem *p) { return p->image->dtype == MOON_F64; }

static int64_t lanes_of(const conv_problem *p) {
  return LANE_BYTES / (int64_t)dtype_size(p->image->dtype);
}

// -- how it is cut

// Rows of the image that `rows` rows of the result read.
static int64_t rows_read(const conv_problem *p, int64_t rows) {
  const conv2d_geometry *g = p->geometry;
  return (rows - 1) * g->stride[0] + (p->weight->shape[2] - 1) * g->dilation[0] + 1;
}

static void set_lines(planar_job *job) {
  const conv_problem *p = job->problem;
  const conv2d_geometry *g = p->geometry;
  int64_t width = divide_up(p->result->shape[3], 2 * lanes_of(p)) * 2 * lanes_of(p);
  job->plane = width + (p->weight->shape[3] - 1) * g->dilation[1] / g->stride[1];
  job->row = p->image->shape[1] * g->stride[1] * job->plane;
}

static void cut(planar_job *job) {
  const conv_problem *p = job->problem;
  const int64_t height = p->result->shape[2];
  const int64_t fitting = BAND_BYTES / (job->row * (int64_t)dtype_size(p->image->dtype));
  int64_t most = 1 + maximum(0, fitting - rows_read(p, 1)) / p->geometry->stride[0];
  int64_t wanted = maximum(BAND_ROWS, divide_up(height * p->image->shape[0], TASKS_WANTED));
  job->band = even_block(height, minimum(most, wanted), 1);
  job->bands = divide_up(height, job->band);
  job->rows = rows_read(p, job->band);
}

static void list_products(planar_job *job) {
  const conv_problem *p = job->problem;
  const conv2d_geometry *g = p->geometry;
  const device_array *w = p->weight;
  planar_product *to = job->products;
  for (int64_t y = 0; y < w->shape[2]; y++)
    for (int64_t c = 0; c < w->shape[1]; c++)
      for (int64_t x = 0; x < w->shape[3]; x++) {
        int64_t column = x * g->dilation[1];
        int64_t line = c * g->stride[1] + column % g->stride[1];
        *to++ = (planar_product){
          .from = y * g->dilation[0] * job->row + line * job->plane + column / g->stride[1],
          .weight = y * w->strides[2] + c * w->strides[1] + x * w->strides[3],
        };
      }
}

// -- the engine

// The rows of one position have to fit the cache, or planes would be written to memory and read.
// In floating point: strides, dilation and padding may be as large as whole numbers are.
static bool fits(const moon_engine *engine, const conv_problem *p) {
  (void)engine;
  const conv2d_geometry *g = p->geometry;
  const device_array *w = p->weight;
  if (p->direction == CONV_BACKWARD_INPUT || g->groups != 1 || w->shape[0] > PLANAR_OUTPUTS)
    return false;
  double across = (double)(w->shape[3] - 1) * (double)g->dilation[1] / (double)g->stride[1];
  double plane = (double)(p->result->shape[3] + 2 * lanes_of(p)) + across;
  double rows = (double)(w->shape[2] - 1) * (double)g->dilation[0] + 1;
  return rows * (double)p->image->shape[1] * (double)g->stride[1] * plane *
             (double)dtype_size(p->image->dtype) <= BAND_BYTES;
}

static double cost(const conv_problem *p) {
  const device_array *x = p->image, *y = p->result, *w = p->weight;
  planar_job job = { .problem = p };
  set_lines(&job);
  cut(&job);
  double width = (double)(divide_up(y->shape[3], lanes_of(p)) * lanes_of(p));
  double positions = (double)(y->shape[0] * y->shape[2]) * width;
  double copied = (double)(x->shape[0] * job.bands * job.rows * x->shape[1] * x->shape[3]);
  // Below four outputs it waits for loads rather than for multiply-adds.
  double outputs = (double)maximum(4, w->shape[0]);
  double products = (double)(w->shape[1] * w->shape[2] * w->shape[3]);
  double after = p->direction == CONV_FORWARD
                     ? positions * write_cost
                     : (double)(x->shape[0] * job.bands * array_count(w)) * sum_cost;
  return positions * products * outputs * multiply_cost + copied * copy_cost + after;
}

// Calls the tasks, with what they read and write before and after.
static moon_status run_tasks(planar_job *job, bool forward) {
  const bool wide = is_wide(job->problem);
  const int64_t tasks = job->problem->image->shape[0] * job->bands;
  const int64_t work = job->band * job->plane * job->count * job->outputs;
  list_products(job);
  if (forward) {
    (wide ? CPU(planar_pack_f64) : CPU(planar_pack_f32))(job);
    return cpu_run(job->engine, tasks, cpu_grain(work / 16),
                   wide ? CPU(planar_forward_f64) : CPU(planar_forward_f32), job);
  }
  MOON_TRY(cpu_run(job->engine, tasks, cpu_grain(work / 16),
                   wide ? CPU(planar_weight_f64) : CPU(planar_weight_f32), job));
  (wide ? CPU(planar_add_f64) : CPU(planar_add_f32))(job, tasks);
  return MOON_OK;
}

static moon_status run(moon_engine *engine, const conv_problem *p) {
  const device_array *w = p->weight;
  const bool forward = p->direction == CONV_FORWARD;
  planar_job job = { .engine = engine, .problem = p, .outputs = w->shape[0],
                     .count = w->shape[1] * w->shape[2] * w->shape[3] };
  set_lines(&job);
  cut(&job);
  size_t bytes, values, listed = (size_t)job.count * sizeof(planar_product);
  size_t sets = forward ? 1 : (size_t)(p->image->shape[0] * job.bands);
  MOON_TRY(alloc_product((size_t)array_count(w) * dtype_size(w->dtype), sets, &values));
  void *block;
  if (__builtin_add_overflow(listed, values, &bytes))
    return moon_fail(MOON_OUT_OF_MEMORY, "the sums of a convolution do not fit the address space");
  MOON_TRY(alloc_bytes(engine, bytes, &block));
  job.products = block;
  job.weights = job.sums = (char *)block + listed;
  moon_status status = run_tasks(&job, forward);
  alloc_release(engine, block, bytes);
  return status;
}

static bool reads_any_layout(const conv_problem *p) {
  (void)p;
  return true;
}

const conv_engine CPU(conv_planar) = { "planar", fits, cost, run, reads_any_layout };
