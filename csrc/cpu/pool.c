// The pooling slots. Arrays whose channels lie side by side go by pixels, rows of an image shared
// out among the threads (pool_pixels_real.h); others by planes, in lines (pool_lines_real.h) or, at
// unusual sizes, window by window (pool_real.h).
#include "cpu/pool.h"

#include <string.h>

#include "base/alloc.h"

static pool_job job_of(moon_engine *engine, const pool2d_geometry *geometry,
                       const device_array *image, const device_array *pooled,
                       const device_array *taken) {
  return (pool_job){ .engine = engine, .geometry = geometry, .channels = image->shape[1],
                     .height = image->shape[2], .width = image->shape[3],
                     .out_height = pooled->shape[2], .out_width = pooled->shape[3],
                     .bytes = taken && taken->dtype == MOON_U8 };
}

// Elements touched for `places` windows, or for as many pixels as have `places` windows to gather
// from; what of a kernel lies beside the image costs nothing.
static int64_t work_of(const pool_job *job, int64_t windows, int64_t pixels) {
  const int64_t *kernel = job->geometry->kernel;
  int64_t rows = kernel[0] < job->height ? kernel[0] : job->height;
  int64_t columns = kernel[1] < job->width ? kernel[1] : job->width;
  return pixels + windows * rows * columns;
}

// A pass in one of the three ways; `taken` is written forward, read backward, NULL for averages
// (and where nobody asks).
typedef struct pool_pass {
  bool backward;
  const device_array *from, *to, *taken;
  threads_task planes, lines, pixels, shares;   // shares: of averages
} pool_pass;

static void open_taken(operands *set, const pool_pass *pass, pool_job *job) {
  moon_dtype dtype = pass->taken ? pass->taken->dtype : MOON_U8;
  pixel_rows taken = pass->backward ? CPU(pixels_in)(set, pass->taken, dtype)
                                    : CPU(pixels_out)(set, pass->taken, dtype);
  job->taken = taken.data;
  job->taken_stride = taken.stride;
}

// Whether windows j and j - 1 have as many columns, so that averages over them have equal shares.
static bool windows_alike(const pool_job *job, int64_t j) {
  pool_window at = pool_window_at(job->geometry, 1, j, job->width);
  pool_window before = pool_window_at(job->geometry, 1, j - 1, job->width);
  return at.last - at.first == before.last - before.first && at.padded == before.padded;
}

// Windows j and j - 1 lie inside of the image.
static bool moves_forward(const pool_job *job, int64_t j) {
  int64_t start = (j - 1) * job->geometry->stride[1] - job->geometry->padding[1];
  int64_t reach = job->geometry->stride[1] +
                  (job->geometry->kernel[1] - 1) * job->geometry->dilation[1];
  return start >= 0 && start + reach < job->width;
}

static bool moves_back(const pool_job *job, bool averages, const pool_column *at) {
  pool_cover here = at->covered, before = at[-job->period].covered;
  if (here.first != before.first + 1 || here.last != before.last + 1) return false;
  for (int64_t j = here.first; averages && j < here.last; j++)
    if (!windows_alike(job, j)) return false;
  return true;
}

// Lists that number elements of the image, not taps, never move. Backward the windows lie alike
// every stride.
static void fill_columns(const pool_pass *pass, pool_job *job, int64_t count,
                         pool_column *columns) {
  job->period = pass->backward ? job->geometry->stride[1] : 1;
  for (int64_t x = 0; x < count; x++) {
    pool_column *at = &columns[x];
    if (pass->backward) at->covered = pool_cover_of(job->geometry, 1, x, job->out_width);
    at->moves = x >= job->period && (job->bytes || !job->taken) &&
                (pass->backward ? moves_back(job, pass->shares != NULL, at)
                                : moves_forward(job, x));
  }
  job->columns = columns;
}

// Shares of averages and `columns` columns, in one block.
typedef struct pool_tables {
  void *block;
  size_t bytes;
} pool_tables;

static moon_status open_tables(const pool_pass *pass, pool_job *job, int64_t columns,
                               pool_tables *tables) {
  const size_t shares = pass->shares ? (size_t)(job->out_height * job->out_width) : 0;
  tables->bytes = shares * sizeof(double) + (size_t)columns * sizeof(pool_column);
  if (tables->bytes == 0) return MOON_OK;
  MOON_TRY(alloc_bytes(job->engine, tables->bytes, &tables->block));
  if (pass->shares) job->shares = tables->block;
  if (columns > 0)
    fill_columns(pass, job, columns, (pool_column *)((double *)tables->block + shares));
  if (!pass->shares) return MOON_OK;
  MOON_TRY(pass->shares(job, 0, 1));
  const size_t size = pass->to->dtype == MOON_F64 ? sizeof(double) : sizeof(float);
  job->even = memcmp(job->shares, (char *)job->shares + size, (shares - 1) * size) == 0;
  return MOON_OK;
}

static void close_tables(pool_job *job, const pool_tables *tables) {
  if (tables->block) alloc_release(job->engine, tables->block, tables->bytes);
}

static moon_status run_pixels(const pool_pass *pass, pool_job *job) {
  operands set = { .engine = job->engine };
  moon_dtype dtype = cpu_stored_dtype(pass->to->dtype);
  int64_t rows = pass->backward ? job->height : job->out_height;
  pool_tables tables = { .block = NULL };
  int64_t work = work_of(job, job->out_height * job->out_width, job->height * job->width) /
                 (rows > 0 ? rows : 1);
  job->from = CPU(pixels_in)(&set, pass->from, dtype);
  job->to = CPU(pixels_out)(&set, pass->to, dtype);
  open_taken(&set, pass, job);
  if (set.status == MOON_OK)
    set.status = open_tables(pass, job, pass->backward ? job->width : job->out_width, &tables);
  if (set.status == MOON_OK)
    set.status = cpu_run(job->engine, pass->to->shape[0] * rows,
                         cpu_grain(work * job->channels), pass->pixels, job);
  close_tables(job, &tables);
  return CPU(operands_close)(&set);
}

// Whether planes are better gone through in lines: rows of several windows, whose numbers go into
// bytes.
static bool goes_by_lines(const pool_job *job) {
  const pool2d_geometry *g = job->geometry;
  return g->kernel[0] <= POOL_BYTE_TAPS && g->kernel[1] <= POOL_BYTE_TAPS &&
         g->kernel[0] * g->kernel[1] <= POOL_BYTE_TAPS && g->stride[1] <= POOL_LINE_STRIDE &&
         job->out_width >= POOL_LINE_WINDOWS;
}

static moon_status run_planes(const pool_pass *pass, pool_job *job) {
  operands set = { .engine = job->engine };
  const bool lines = goes_by_lines(job);
  moon_dtype dtype = pass->to->dtype;
  dtype = lines ? cpu_stored_dtype(dtype) : cpu_compute_dtype(dtype);
  const device_array *from = CPU(operand_in_as)(&set, pass->from, dtype);
  const device_array *to = CPU(operand_out_as)(&set, pass->to, dtype), *taken = pass->taken;
  pool_tables tables = { .block = NULL };
  int64_t work = work_of(job, job->out_height * job->out_width, job->height * job->width);
  if (taken)
    taken = pass->backward ? CPU(operand_in_as)(&set, taken, taken->dtype)
                           : CPU(operand_out_as)(&set, taken, taken->dtype);
  if (set.status == MOON_OK && lines) set.status = open_tables(pass, job, 0, &tables);
  if (set.status == MOON_OK) {
    job->source = from->data;
    job->target = to->data;
    job->taken = taken ? taken->data : NULL;
    set.status = cpu_run(job->engine, pass->to->shape[0] * job->channels, cpu_grain(work),
                         lines ? pass->lines : pass->planes, job);
  }
  close_tables(job, &tables);
  return CPU(operands_close)(&set);
}

static moon_status run(const pool_pass *pass, pool_job job) {
  const device_array *image = pass->backward ? pass->to : pass->from;
  if (array_count(pass->to) == 0) return MOON_OK;
  return (CPU(lies_in_pixels)(image) ? run_pixels : run_planes)(pass, &job);
}

moon_status CPU(max_pool2d_forward)(moon_engine *engine, const pool2d_geometry *geometry,
                                    const device_array *x, const device_array *out,
                                    const device_array *taken) {
  pool_pass pass = { .from = x, .to = out, .taken = taken,
                     .planes = NETWORK_TASK_FOR(max_pool_planes, x->dtype),
                     .lines = NETWORK_STORED_TASK_FOR(max_pool_lines, x->dtype),
                     .pixels = NETWORK_STORED_TASK_FOR(max_pool_pixels, x->dtype) };
  return run(&pass, job_of(engine, geometry, x, out, taken));
}

moon_status CPU(max_pool2d_backward)(moon_engine *engine, const pool2d_geometry *geometry,
                                     const device_array *gradient, const device_array *taken,
                                     const device_array *dx) {
  pool_pass pass = { .backward = true, .from = gradient, .to = dx, .taken = taken,
                     .planes = NETWORK_TASK_FOR(max_pool_back_planes, dx->dtype),
                     .lines = NETWORK_STORED_TASK_FOR(max_pool_back_lines, dx->dtype),
                     .pixels = NETWORK_STORED_TASK_FOR(max_pool_back_pixels, dx->dtype) };
  return run(&pass, job_of(engine, geometry, dx, gradient, taken));
}

moon_status CPU(avg_pool2d_forward)(moon_engine *engine, const pool2d_geometry *geometry,
                                    const device_array *x, const device_array *out) {
  pool_pass pass = { .from = x, .to = out,
                     .planes = NETWORK_TASK_FOR(avg_pool_planes, x->dtype),
                     .lines = NETWORK_STORED_TASK_FOR(avg_pool_lines, x->dtype),
                     .pixels = NETWORK_STORED_TASK_FOR(avg_pool_pixels, x->dtype),
                     .shares = NETWORK_STORED_TASK_FOR(avg_pool_shares, x->dtype) };
  return run(&pass, job_of(engine, geometry, x, out, NULL));
}

moon_status CPU(avg_pool2d_backward)(moon_engine *engine, const pool2d_geometry *geometry,
                                     const device_array *gradient, const device_array *dx) {
  pool_pass pass = { .backward = true, .from = gradient, .to = dx,
                     .planes = NETWORK_TASK_FOR(avg_pool_back_planes, dx->dtype),
                     .lines = NETWORK_STORED_TASK_FOR(avg_pool_back_lines, dx->dtype),
                     .pixels = NETWORK_STORED_TASK_FOR(avg_pool_back_pixels, dx->dtype),
                     .shares = NETWORK_STORED_TASK_FOR(avg_pool_shares, dx->dtype) };
  return run(&pass, job_of(engine, geometry, dx, gradient, NULL));
}

// -- where the largest elements lie

typedef struct places_job {
  const pool2d_geometry *geometry;
  int64_t width, out_height, out_width;
  const void *taken;
  bool bytes;
  int64_t *places;
} places_job;

static moon_status places_planes(void *context, int64_t first, int64_t last) {
  const places_job *job = context;
  int64_t area = job->out_height * job->out_width;
  for (int64_t at = first * area; at < last * area; at++) {
    int64_t i = at / job->out_width % job->out_height, j = at % job->out_width;
    job->places[at] = pool_place_of(job->geometry, job->bytes, i, j,
                                    pool_load_number(job->bytes, job->taken, at), job->width);
  }
  return MOON_OK;
}

moon_status CPU(max_pool2d_places)(moon_engine *engine, const pool2d_geometry *geometry,
                                   int64_t width, const device_array *taken,
                                   const device_array *places) {
  operands set = { .engine = engine };
  cpu_temp from = { .block = NULL };
  const device_array *to = CPU(operand_out)(&set, places);
  if (set.status == MOON_OK) set.status = CPU(temp_from)(engine, taken, taken->dtype, &from);
  if (set.status == MOON_OK) {
    places_job job = { .geometry = geometry, .width = width, .out_height = places->shape[2],
                       .out_width = places->shape[3], .taken = from.array.data,
                       .bytes = taken->dtype == MOON_U8, .places = to->data };
    set.status = cpu_run(engine, places->shape[0] * places->shape[1],
                         cpu_grain(job.out_height * job.out_width), places_planes, &job);
  }
  CPU(temp_release)(engine, &from);
  return CPU(operands_close)(&set);
}
