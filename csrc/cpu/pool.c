// The pooling slots: planes shared out among the threads; the windows are in pool_real.h.
#include "cpu/network.h"
#include "cpu/operands.h"

static pool_job job_of(const pool2d_geometry *geometry, const device_array *image,
                       const device_array *pooled) {
  return (pool_job){ .geometry = geometry, .height = image->shape[2], .width = image->shape[3],
                     .out_height = pooled->shape[2], .out_width = pooled->shape[3] };
}

static moon_status run(moon_engine *engine, const device_array *image, const pool_job *job,
                       threads_task task) {
  const int64_t *kernel = job->geometry->kernel;   // what of it lies beside the image costs nothing
  int64_t rows = kernel[0] < job->height ? kernel[0] : job->height;
  int64_t columns = kernel[1] < job->width ? kernel[1] : job->width;
  int64_t work = job->height * job->width + job->out_height * job->out_width * rows * columns;
  return cpu_run(engine, image->shape[0] * image->shape[1], cpu_grain(work), task, (void *)job);
}

// `indices` is NULL for averages.
static moon_status pool(moon_engine *engine, const pool2d_geometry *geometry,
                        const device_array *x, const device_array *out,
                        const device_array *indices, threads_task task) {
  operands set = { .engine = engine };
  const device_array *in = CPU(operand_in)(&set, x), *to = CPU(operand_out)(&set, out);
  const device_array *where = CPU(operand_out)(&set, indices);
  if (set.status == MOON_OK) {
    pool_job job = job_of(geometry, x, out);
    job.source = in->data;
    job.target = to->data;
    job.indices = where ? where->data : NULL;
    set.status = run(engine, x, &job, task);
  }
  return CPU(operands_close)(&set);
}

static moon_status pool_back(moon_engine *engine, const pool2d_geometry *geometry,
                             const device_array *gradient, const device_array *indices,
                             const device_array *dx, threads_task task) {
  operands set = { .engine = engine };
  const device_array *g = CPU(operand_in)(&set, gradient);
  const device_array *where = CPU(operand_in)(&set, indices), *to = CPU(operand_out)(&set, dx);
  if (set.status == MOON_OK) {
    pool_job job = job_of(geometry, dx, gradient);
    job.source = g->data;
    job.target = to->data;
    job.indices = where ? where->data : NULL;
    set.status = run(engine, dx, &job, task);
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(max_pool2d_forward)(moon_engine *engine, const pool2d_geometry *geometry,
                                    const device_array *x, const device_array *out,
                                    const device_array *indices) {
  return pool(engine, geometry, x, out, indices, NETWORK_TASK_FOR(max_pool_planes, x->dtype));
}

moon_status CPU(max_pool2d_backward)(moon_engine *engine, const pool2d_geometry *geometry,
                                     const device_array *gradient, const device_array *indices,
                                     const device_array *dx) {
  return pool_back(engine, geometry, gradient, indices, dx,
                   NETWORK_TASK_FOR(max_pool_back_planes, dx->dtype));
}

moon_status CPU(avg_pool2d_forward)(moon_engine *engine, const pool2d_geometry *geometry,
                                    const device_array *x, const device_array *out) {
  return pool(engine, geometry, x, out, NULL, NETWORK_TASK_FOR(avg_pool_planes, x->dtype));
}

moon_status CPU(avg_pool2d_backward)(moon_engine *engine, const pool2d_geometry *geometry,
                                     const device_array *gradient, const device_array *dx) {
  return pool_back(engine, geometry, gradient, NULL, dx,
                   NETWORK_TASK_FOR(avg_pool_back_planes, dx->dtype));
}
