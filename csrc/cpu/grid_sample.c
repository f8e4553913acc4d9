// The slots of sampling at the positions of a grid. Values and the gradient of the grid are shared
// out by blocks of positions. The gradient of an image is written by one thread for each group of
// channels, which goes through the positions in order, so that nothing depends on how many threads
// there are; where images and channels are too few to go round, each thread has a band of the
// image's places, and finds all neighbours to add those within it.
#include "cpu/grid_sample.h"

#include "cpu/pixels.h"

// NULL after a failure, which the set remembers.
static void *data_of(const device_array *array) { return array ? array->data : NULL; }

static int64_t places_of(const device_array *x) {
  int64_t places = 1;
  for (int i = 2; i < x->ndim; i++) places *= x->shape[i];
  return places;
}

static grid_planes by_pixels(const device_array *x, pixel_rows rows) {
  return (grid_planes){ rows.data, places_of(x) * rows.stride, 1, rows.stride };
}

static grid_planes by_planes(const device_array *x, const device_array *ready) {
  return (grid_planes){ data_of(ready), x->shape[1] * places_of(x), places_of(x), 1 };
}

static grid_planes planes_in(operands *set, const device_array *x, bool pixels) {
  if (!pixels) return by_planes(x, CPU(operand_in)(set, x));
  return by_pixels(x, CPU(pixels_in)(set, x, cpu_compute_dtype(x->dtype)));
}

static grid_planes planes_out(operands *set, const device_array *out, bool pixels) {
  if (!pixels) return by_planes(out, CPU(operand_out)(set, out));
  return by_pixels(out, CPU(pixels_out)(set, out, cpu_compute_dtype(out->dtype)));
}

static int64_t lanes_of(moon_dtype dtype) {
  return LANE_BYTES / (int64_t)dtype_size(cpu_compute_dtype(dtype));
}

enum { FEW_PLACES = 4 };   // of the image for a position, at most

// Whether to go by pixels. Neighbours are so much faster to read where channels fill vectors that
// planes are turned first, unless the image is far larger than what is taken from it.
static bool goes_by_pixels(const device_array *x, const device_array *grid) {
  if (CPU(lies_in_pixels)(x)) return true;
  if (2 * x->shape[1] <= lanes_of(x->dtype)) return false;
  return array_count(grid) >= x->shape[0] * places_of(x) / FEW_PLACES * (x->ndim - 2);
}

// Fills in all but the arrays.
static grid_job job_of(const grid_options *options, const device_array *x,
                       const device_array *grid, bool pixels) {
  grid_job job = { .options = options, .dims = x->ndim - 2, .images = x->shape[0],
                   .channels = x->shape[1], .places = places_of(x), .positions = 1,
                   .by_pixels = pixels && 2 * x->shape[1] > lanes_of(x->dtype) };
  for (int d = 0; d < job.dims; d++) {
    job.size[d] = x->shape[2 + d];
    job.positions *= grid->shape[1 + d];
  }
  job.blocks = divide_up(job.positions, GRID_BLOCK);
  return job;
}

// Steps that a position takes for `channels`: finding a neighbour is as much as some channels.
static int64_t work_of(const grid_job *job, int64_t channels) {
  return (channels + 8) << (job->options->mode == GRID_BICUBIC ? 4 : job->dims);
}

moon_status CPU(grid_sample_forward)(moon_engine *engine, const grid_options *options,
                                     const device_array *x, const device_array *grid,
                                     const device_array *out) {
  operands set = { .engine = engine };
  const bool pixels = goes_by_pixels(x, grid);
  if (array_count(out) == 0) return MOON_OK;
  grid_job job = job_of(options, x, grid, pixels);
  job.x = planes_in(&set, x, pixels);
  job.out = planes_out(&set, out, pixels);
  job.grid = data_of(CPU(operand_in)(&set, grid));
  if (set.status == MOON_OK)
    set.status = cpu_run(engine, job.images * job.blocks,
                         cpu_grain(GRID_BLOCK * work_of(&job, job.channels)),
                         NETWORK_TASK_FOR(grid_sample_blocks, x->dtype), &job);
  return CPU(operands_close)(&set);
}

enum { LEAST_GROUP = 8, TURNS = 4 };   // channels of a group; how many items a thread should have

// Cuts dx so that all threads have something to do.
static void share_image(moon_engine *engine, moon_dtype dtype, grid_job *job) {
  const int64_t threads = threads_of(engine), unit = job->by_pixels ? lanes_of(dtype) : 1;
  const int64_t most = job->channels * job->images / (TURNS * threads);
  job->group = even_block(job->channels, maximum(most, LEAST_GROUP), unit);
  job->groups = divide_up(job->channels, job->group);
  job->bands = divide_up(threads, job->images * job->groups);
  job->band = divide_up(job->places, job->bands);
}

static moon_status image_gradient(moon_engine *engine, grid_job *job, moon_dtype dtype) {
  device_array all = { .data = job->dx.data, .dtype = cpu_compute_dtype(dtype), .ndim = 3,
                       .shape = { job->images, job->channels, job->places },
                       .strides = { job->dx.image, job->dx.channel, job->dx.place } };
  MOON_TRY(CPU(fill)(engine, 0, &all));
  share_image(engine, dtype, job);
  return cpu_run(engine, job->images * job->groups * job->bands,
                 cpu_grain(job->positions * work_of(job, job->group)),
                 NETWORK_TASK_FOR(grid_sample_image_bands, dtype), job);
}

moon_status CPU(grid_sample_backward)(moon_engine *engine, const grid_options *options,
                                      const device_array *gradient, const device_array *x,
                                      const device_array *grid, const device_array *dx,
                                      const device_array *dgrid) {
  operands set = { .engine = engine };
  const bool pixels = goes_by_pixels(x, grid);
  grid_job job = job_of(options, x, grid, pixels);
  job.gradient = planes_in(&set, gradient, pixels);
  job.grid = data_of(CPU(operand_in)(&set, grid));
  if (dx) job.dx = planes_out(&set, dx, pixels);
  if (dgrid) {
    job.x = planes_in(&set, x, pixels);
    job.dgrid = data_of(CPU(operand_out)(&set, dgrid));
  }
  if (dx && set.status == MOON_OK && array_count(dx) > 0)
    set.status = image_gradient(engine, &job, x->dtype);
  if (dgrid && set.status == MOON_OK)
    set.status = cpu_run(engine, job.images * job.blocks,
                         cpu_grain(GRID_BLOCK * work_of(&job, job.channels)),
                         NETWORK_TASK_FOR(grid_sample_grid_blocks, x->dtype), &job);
  return CPU(operands_close)(&set);
}
