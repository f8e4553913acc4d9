// The device "meta": tensors with a shape, a type and strides, but no elements. Its kernels do
// nothing, so running an operator, or a whole network, tells the shapes of its results, by the same
// checks as everywhere and at the cost of the calls alone. nn's net:check is built on it.
//
// What a kernel would have told the host is either harmless to leave out (the range of an empty
// index passes every check) or an error that says so. Two things are counted: the multiply-adds
// that products and convolutions would have taken, in engine->multiply_adds.
#include "device/device.h"

// Every array's address: never read or written, only carried about.
static char nowhere[64];

static moon_status allocate(moon_engine *engine, size_t bytes, void **block) {
  (void)engine;
  (void)bytes;
  *block = nowhere;
  return MOON_OK;
}

static void release(moon_engine *engine, void *block, size_t bytes) {
  (void)engine;
  (void)block;
  (void)bytes;
}

static moon_status no_elements(void) {
  return moon_fail(MOON_BAD_DEVICE, "a tensor on the device \"meta\" has a shape but no elements, "
                   "so nothing can depend on them");
}

static moon_status to_host(moon_engine *engine, const void *source, void *target, size_t bytes) {
  (void)engine;
  (void)source;
  (void)target;
  (void)bytes;
  return no_elements();
}

static moon_status from_host(moon_engine *engine, const void *source, void *target, size_t bytes) {
  (void)engine;
  (void)source;
  (void)target;
  (void)bytes;
  return MOON_OK;
}

// -- kernels: nothing, one function a slot

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define KERNEL(name, arguments) static moon_status meta_##name arguments { return MOON_OK; }
#define OPTIONAL(name, arguments)
#include "device/kernels.def"
#undef KERNEL
#pragma GCC diagnostic pop

// -- kernels that count, or that answer the host

static moon_status count_matmul(moon_engine *engine, double alpha, const device_array *a,
                                const device_array *b, double beta, const matmul_finish *finish,
                                const device_array *c) {
  (void)alpha;
  (void)b;
  (void)beta;
  (void)finish;
  engine->multiply_adds += (double)array_count(c) * (double)a->shape[a->ndim - 1];
  return MOON_OK;
}

// Each of `outputs` elements adds up a window of the weight, (out, in / groups, kernel...).
static moon_status count_windows(moon_engine *engine, const device_array *outputs,
                                 const device_array *weight) {
  double window = 1;
  for (int i = 1; i < weight->ndim; i++) window *= (double)weight->shape[i];
  engine->multiply_adds += (double)array_count(outputs) * window;
  return MOON_OK;
}

static moon_status count_conv2d(moon_engine *engine, const conv2d_geometry *geometry,
                                const device_array *x, const device_array *weight,
                                const conv2d_finish *finish, const device_array *out) {
  (void)geometry;
  (void)x;
  (void)finish;
  return count_windows(engine, out, weight);
}

// A transposed convolution: each element of `gradient`, its input, is spread over a window.
static moon_status count_conv2d_input(moon_engine *engine, const conv2d_geometry *geometry,
                                      const device_array *gradient, const device_array *weight,
                                      const device_array *dx) {
  (void)geometry;
  (void)dx;
  return count_windows(engine, gradient, weight);
}

static moon_status no_positions(moon_engine *engine, const device_array *mask, int64_t *count,
                                const device_array *out) {
  (void)engine;
  (void)mask;
  (void)count;
  (void)out;
  return no_elements();
}

static moon_status no_boxes(moon_engine *engine, double threshold, const device_array *boxes,
                            const device_array *order, const device_array *classes, int64_t *count,
                            const device_array *out) {
  (void)engine;
  (void)threshold;
  (void)boxes;
  (void)order;
  (void)classes;
  (void)count;
  (void)out;
  return no_elements();
}

static moon_status no_engines(moon_engine *engine, int direction, const conv2d_geometry *geometry,
                              const device_array *image, const device_array *weight,
                              const device_array *result, conv2d_cost *costs, int *count) {
  (void)engine;
  (void)direction;
  (void)geometry;
  (void)image;
  (void)weight;
  (void)result;
  (void)costs;
  *count = 0;
  return MOON_OK;
}

// The range of nothing, which lies within every limit.
static moon_status empty_range(moon_engine *engine, const device_array *index, int64_t *low,
                               int64_t *high) {
  (void)engine;
  (void)index;
  *low = 1;
  *high = 0;
  return MOON_OK;
}

// A later initialiser of a member takes the place of the row's.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
static const device_kernels kernels = {
#define KERNEL(name, arguments) .name = meta_##name,
#define OPTIONAL(name, arguments)
#include "device/kernels.def"
#undef KERNEL
  .matmul = count_matmul,
  .conv2d_forward = count_conv2d,
  .conv2d_backward_input = count_conv2d_input,
  .conv2d_engines = no_engines,
  .mask_positions = no_positions,
  .nms = no_boxes,
  .index_range = empty_range,
};
#pragma GCC diagnostic pop

static const moon_device meta = {
  .name = "meta",
  .on_host = false,
  .allocate = allocate,
  .release = release,
  .to_host = to_host,
  .from_host = from_host,
  .kernels = &kernels,
};

const moon_device *device_meta(void) { return &meta; }
