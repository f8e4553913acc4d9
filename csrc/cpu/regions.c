// The slots of regions: suppressing boxes that overlap, and pooling boxes of an image. Boxes are
// (x1, y1, x2, y2) and come from a network or a user: any number, NaN too, must be safe. Pooling is
// in regions_real.h.
#include "cpu/network.h"
#include "cpu/operands.h"

// -- non-maximum suppression: greedy and sequential; the boxes kept so far are compared with each
//    that follows, in double

typedef struct box { double x1, y1, x2, y2; } box;

static double area_of(const box *b) { return (b->x2 - b->x1) * (b->y2 - b->y1); }

static double smaller(double a, double b) { return a < b ? a : b; }
static double larger(double a, double b) { return a > b ? a : b; }

static double overlap(const box *a, const box *b) {
  double width = larger(smaller(a->x2, b->x2) - larger(a->x1, b->x1), 0);
  double height = larger(smaller(a->y2, b->y2) - larger(a->y1, b->y1), 0);
  double both = width * height;
  return both / (area_of(a) + area_of(b) - both);
}

moon_status CPU(nms)(moon_engine *engine, double threshold, const device_array *boxes,
                     const device_array *order, const device_array *classes, int64_t *count,
                     const device_array *out) {
  cpu_temp temp = { .block = NULL };
  const int64_t *at = order->data, *class = classes ? classes->data : NULL;
  int64_t *kept = out->data, found = 0;
  moon_status status = CPU(temp_from)(engine, boxes, MOON_F64, &temp);
  const box *all = temp.array.data;
  for (int64_t i = 0; i < boxes->shape[0] && status == MOON_OK; i++) {
    int64_t one = at[i];
    bool stays = true;
    if (i % 256 == 0) status = engine_check_interrupt(engine);
    for (int64_t k = 0; k < found && stays; k++) {
      if (class && class[kept[k]] != class[one]) continue;
      stays = !(overlap(&all[kept[k]], &all[one]) > threshold);
    }
    if (stays) kept[found++] = one;
  }
  CPU(temp_release)(engine, &temp);
  *count = found;
  return status;
}

// -- pooling

static region_job job_of(const region_options *options, const device_array *image,
                         const device_array *boxes, const device_array *images,
                         const device_array *pooled) {
  return (region_job){ .options = options, .planes = image->shape[0],
                       .channels = image->shape[1], .height = image->shape[2],
                       .width = image->shape[3], .regions = boxes->shape[0],
                       .out_height = pooled->shape[2], .out_width = pooled->shape[3],
                       .boxes = boxes->data, .images = images->data };
}

// roi_places or roi_align; `work`: what a channel of a box takes.
static moon_status pool_regions(moon_engine *engine, const region_options *options,
                                const device_array *x, const device_array *boxes,
                                const device_array *images, const device_array *out,
                                threads_task task, int64_t work) {
  operands set = { .engine = engine };
  const device_array *in = CPU(operand_in)(&set, x), *where = CPU(operand_in)(&set, boxes);
  const device_array *to = CPU(operand_out)(&set, out);
  if (set.status == MOON_OK && array_count(out) > 0) {
    region_job job = job_of(options, x, where, images, out);
    job.source = in->data;
    job.target = to->data;
    set.status = cpu_run(engine, job.regions * job.channels, cpu_grain(work), task, &job);
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(roi_places)(moon_engine *engine, const region_options *options,
                            const device_array *x, const device_array *boxes,
                            const device_array *images, const device_array *out) {
  return pool_regions(engine, options, x, boxes, images, out,
                      NETWORK_TASK_FOR(roi_places_items, x->dtype),
                      x->shape[2] * x->shape[3] + out->shape[2] * out->shape[3]);
}

moon_status CPU(roi_align)(moon_engine *engine, const region_options *options,
                           const device_array *x, const device_array *boxes,
                           const device_array *images, const device_array *out) {
  return pool_regions(engine, options, x, boxes, images, out,
                      NETWORK_TASK_FOR(roi_align_items, x->dtype),
                      64 * out->shape[2] * out->shape[3]);
}

// Planes are shared out, so that no two threads add to one; each goes through all boxes in order.
moon_status CPU(roi_align_backward)(moon_engine *engine, const region_options *options,
                                    const device_array *gradient, const device_array *boxes,
                                    const device_array *images, const device_array *dx) {
  operands set = { .engine = engine };
  const device_array *g = CPU(operand_in)(&set, gradient), *where = CPU(operand_in)(&set, boxes);
  const device_array *to = CPU(operand_out)(&set, dx);
  if (set.status == MOON_OK && array_count(dx) > 0) {
    region_job job = job_of(options, dx, where, images, gradient);
    job.source = g->data;
    job.target = to->data;
    set.status = cpu_run(engine, job.planes * job.channels, 1,
                         NETWORK_TASK_FOR(roi_align_back_planes, to->dtype), &job);
  }
  return CPU(operands_close)(&set);
}
