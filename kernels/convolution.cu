// The convolution slots, by cuDNN where it is there and takes the problem. Else each direction
// is products that read the image where it lies (product.cuh), in any layout; the gradient of
// the input is one for each phase of the stride, so that nothing is multiplied by zeros put
// between, and phases that no tap reaches become zeros. Volumes are cuDNN's alone.
#include <math.h>
#include <string.h>

#include "libraries.cuh"
#include "product.cuh"

// -- the arrays' dimensions: (n, c, h, w) for images, (o, c / groups, h, w) for weights

enum { IMAGES, CHANNELS, HEIGHT, WIDTH };

static product_array part_of(const device_array *x, int64_t offset, int64_t batch_stride) {
  return { (char *)x->data + offset * (int64_t)dtype_size(x->dtype), x->dtype, batch_stride };
}

// Those of a group, and how far the next group's are.
static int64_t channels_of(const device_array *x, int64_t groups) {
  return x->shape[CHANNELS] / groups;
}
static int64_t group_stride(const device_array *x, int64_t groups) {
  return channels_of(x, groups) * x->strides[CHANNELS];
}

// Where the taps and the positions of the result lie, as dimensions whose member `other` says how
// they move in the array that is not the image.
static product_axis taps_of(const conv2d_geometry *g, const device_array *x,
                            const device_array *weight, int64_t product_dim::*other) {
  product_axis axis = {};
  axis.ndim = 3;
  axis.dims[0].size = weight->shape[CHANNELS];
  axis.dims[0].a = x->strides[CHANNELS];
  axis.dims[1].row = g->dilation[0];
  axis.dims[2].column = g->dilation[1];
  for (int i = 0; i < 2; i++) {
    axis.dims[1 + i].size = weight->shape[HEIGHT + i];
    axis.dims[1 + i].a = g->dilation[i] * x->strides[HEIGHT + i];
  }
  for (int i = 0; i < 3; i++) axis.dims[i].*other = weight->strides[CHANNELS + i];
  return axis;
}

static product_axis positions_of(const conv2d_geometry *g, const device_array *x,
                                 const device_array *y, int64_t product_dim::*other) {
  product_axis axis = {};
  axis.ndim = 3;
  axis.dims[0].size = y->shape[IMAGES];
  axis.dims[0].a = x->strides[IMAGES];
  axis.dims[0].*other = y->strides[IMAGES];
  axis.dims[1].row = g->stride[0];
  axis.dims[2].column = g->stride[1];
  for (int i = 0; i < 2; i++) {
    axis.dims[1 + i].size = y->shape[HEIGHT + i];
    axis.dims[1 + i].a = g->stride[i] * x->strides[HEIGHT + i];
    axis.dims[1 + i].*other = y->strides[HEIGHT + i];
  }
  return axis;
}

// The problem with x as the image `a`, but for rows, depth and the other two arrays.
static product_problem problem_on(const conv2d_geometry *g, const device_array *x) {
  product_problem p = {};
  int64_t before = g->padding_before[0] * x->strides[HEIGHT] +
                   g->padding_before[1] * x->strides[WIDTH];
  p.batch = g->groups;
  p.a = part_of(x, -before, group_stride(x, g->groups));
  p.height = x->shape[HEIGHT];
  p.width = x->shape[WIDTH];
  p.first_row = -g->padding_before[0];
  p.first_column = -g->padding_before[1];
  p.columns.ndim = 1;
  p.finish = cuda_plain_finish();
  return p;
}

// -- forward: rows are positions, the depth is the taps of a group's channels

static product_finish finish_of(const conv2d_finish *given) {
  product_finish f = cuda_plain_finish();
  f.low = given->low;
  f.high = given->high;
  if (given->scale) {
    f.scale = given->scale->data;
    f.scale_dtype = given->scale->dtype;
    f.scale_stride = given->scale->strides[0];
  }
  if (given->shift) {
    f.shift = given->shift->data;
    f.shift_dtype = given->shift->dtype;
    f.shift_stride = given->shift->strides[0];
  }
  if (given->add) {
    f.beta = 1;
    f.add = part_of(given->add, 0, 0);
  }
  return f;
}

static moon_status forward_here(cuda_context *c, const conv2d_geometry *g, const device_array *x,
                                const device_array *weight, const conv2d_finish *finish,
                                const device_array *out) {
  int64_t outs = channels_of(out, g->groups);
  product_problem p = problem_on(g, x);
  p.rows = positions_of(g, x, out, &product_dim::out);
  p.depth = taps_of(g, x, weight, &product_dim::b);
  p.columns.dims[0] = { outs, 0, weight->strides[0], out->strides[CHANNELS], 0, 0, 0 };
  p.b = part_of(weight, 0, outs * weight->strides[0]);
  p.out = part_of(out, 0, group_stride(out, g->groups));
  p.finish = finish_of(finish);
  p.finish.next_channels = outs;
  if (const device_array *add = finish->add) {
    p.finish.add.batch_stride = group_stride(add, g->groups);
    p.columns.dims[0].add = add->strides[CHANNELS];
    p.rows.dims[0].add = add->strides[IMAGES];
    p.rows.dims[1].add = add->strides[HEIGHT];
    p.rows.dims[2].add = add->strides[WIDTH];
  }
  return cuda_product(c, &p);
}

static bool ours_preferred(const cuda_context *c) {
  return strcmp(cuda_library->settings(c->engine).conv_engine, "implicit") == 0;
}

// Tries the library, unless our kernel is preferred, and says who does the work.
static moon_status try_library(cuda_context *c, cuda_direction direction, const conv2d_geometry *g,
                               const device_array *image, const device_array *weight,
                               const device_array *result, bool *done) {
  *done = false;
  if (!ours_preferred(c))
    MOON_TRY(cudnn_convolve(c, { direction, cuda_geometry_of(g), image, weight, result }, done));
  cuda_library->chose(c->engine, *done ? "cudnn" : "implicit");
  return MOON_OK;
}

moon_status cuda_conv2d_forward(cuda_context *c, const conv2d_geometry *geometry,
                                const device_array *x, const device_array *weight,
                                const conv2d_finish *finish, const device_array *out) {
  bool done = false;
  if (array_count(out) == 0) return MOON_OK;
  if (array_count(weight) > 0)
    MOON_TRY(try_library(c, CUDA_FORWARD, geometry, x, weight, out, &done));
  return done ? cuda_finish(c, finish_of(finish), out, finish->add, CHANNELS)
              : forward_here(c, geometry, x, weight, finish, out);
}

// -- the gradient of the weight: rows are taps, the depth is all positions

moon_status cuda_conv2d_backward_weight(cuda_context *c, const conv2d_geometry *geometry,
                                        const device_array *gradient, const device_array *x,
                                        const device_array *dweight) {
  if (array_count(dweight) == 0) return MOON_OK;
  if (array_count(gradient) == 0) return cuda_fill(c, 0, dweight);
  bool done;
  MOON_TRY(try_library(c, CUDA_BACKWARD_WEIGHT, geometry, x, dweight, gradient, &done));
  if (done) return MOON_OK;
  int64_t outs = channels_of(gradient, geometry->groups);
  product_problem p = problem_on(geometry, x);
  p.rows = taps_of(geometry, x, dweight, &product_dim::out);
  p.depth = positions_of(geometry, x, gradient, &product_dim::b);
  p.columns.dims[0] = { outs, 0, gradient->strides[CHANNELS], dweight->strides[0], 0, 0, 0 };
  p.b = part_of(gradient, 0, group_stride(gradient, geometry->groups));
  p.out = part_of(dweight, 0, outs * dweight->strides[0]);
  return cuda_product(c, &p);
}

// -- the gradient of the input: rows are positions of the image of one phase, the depth is the taps
// that reach them

// Of rows or columns: element phase + stride * q of the image meets the taps first + step * j, for
// j below count, at the result's element q + from - j * back.
struct phase_taps { int64_t phase, size, first, step, count, from, back; };

static phase_taps taps_of_phase(const conv2d_geometry *g, int side, int64_t size, int64_t kernel,
                                int64_t phase) {
  const int64_t stride = g->stride[side], dilation = g->dilation[side];
  const int64_t padded = phase + g->padding_before[side];
  phase_taps t = { phase, (size - phase + stride - 1) / stride, 0, 1, 0, 0, 0 };
  for (int64_t k = 0; k < kernel; k++) {
    if ((padded - k * dilation) % stride != 0) continue;
    if (t.count == 0) t.first = k;
    if (t.count == 1) t.step = k - t.first;
    t.count++;
  }
  t.from = t.count > 0 ? (padded - t.first * dilation) / stride : 0;
  t.back = t.count > 1 ? t.step * dilation / stride : 0;
  return t;
}

static product_problem problem_of_phase(const conv2d_geometry *g, const device_array *gradient,
                                        const device_array *weight, const device_array *dx,
                                        const phase_taps (&taps)[2]) {
  product_problem p = {};
  int64_t outs = channels_of(gradient, g->groups), at[3] = {};   // in gradient, weight, dx
  p.batch = g->groups;
  p.rows.ndim = p.depth.ndim = 3;
  p.rows.dims[0] = { dx->shape[0], gradient->strides[0], 0, dx->strides[0], 0, 0, 0 };
  p.depth.dims[0] = { outs, gradient->strides[CHANNELS], weight->strides[0], 0, 0, 0, 0 };
  for (int i = 0; i < 2; i++) {
    const phase_taps &t = taps[i];
    const int side = HEIGHT + i;
    int64_t stride = gradient->strides[side];
    p.rows.dims[1 + i] = { t.size, stride, 0, g->stride[i] * dx->strides[side], 0, i == 0,
                           i == 1 };
    p.depth.dims[1 + i] = { t.count, -t.back * stride, t.step * weight->strides[side], 0, 0,
                            i == 0 ? -t.back : 0, i == 1 ? -t.back : 0 };
    at[0] += t.from * stride;
    at[1] += t.first * weight->strides[side];
    at[2] += t.phase * dx->strides[side];
  }
  p.columns.ndim = 1;
  p.columns.dims[0] = { weight->shape[CHANNELS], 0, weight->strides[CHANNELS],
                        dx->strides[CHANNELS], 0, 0, 0 };
  p.a = part_of(gradient, at[0], group_stride(gradient, g->groups));
  p.b = part_of(weight, at[1], outs * weight->strides[0]);
  p.out = part_of(dx, at[2], group_stride(dx, g->groups));
  p.height = gradient->shape[HEIGHT];
  p.width = gradient->shape[WIDTH];
  p.first_row = taps[0].from;
  p.first_column = taps[1].from;
  p.finish = cuda_plain_finish();
  return p;
}

moon_status cuda_conv2d_backward_input(cuda_context *c, const conv2d_geometry *geometry,
                                       const device_array *gradient, const device_array *weight,
                                       const device_array *dx) {
  if (array_count(dx) == 0) return MOON_OK;
  if (array_count(gradient) == 0 || array_count(weight) == 0) return cuda_fill(c, 0, dx);
  bool done;
  MOON_TRY(try_library(c, CUDA_BACKWARD_IMAGE, geometry, dx, weight, gradient, &done));
  if (done) return MOON_OK;
  for (int64_t i = 0; i < geometry->stride[0] && i < dx->shape[HEIGHT]; i++) {
    for (int64_t j = 0; j < geometry->stride[1] && j < dx->shape[WIDTH]; j++) {
      const phase_taps taps[2] = {
        taps_of_phase(geometry, 0, dx->shape[HEIGHT], weight->shape[HEIGHT], i),
        taps_of_phase(geometry, 1, dx->shape[WIDTH], weight->shape[WIDTH], j),
      };
      product_problem p = problem_of_phase(geometry, gradient, weight, dx, taps);
      MOON_TRY(cuda_product(c, &p));
    }
  }
  return MOON_OK;
}

// -- volumes

moon_status cuda_conv3d_offered(cuda_context *c, int direction, const conv3d_geometry *geometry,
                                const device_array *image, const device_array *weight,
                                const device_array *result, bool *offered) {
  *offered = false;
  if (ours_preferred(c)) return MOON_OK;
  return cudnn_takes(c, { (cuda_direction)direction, cuda_geometry_of(geometry), image, weight,
                          result }, offered);
}

moon_status cuda_conv3d(cuda_context *c, int direction, const conv3d_geometry *geometry,
                        const device_array *image, const device_array *weight,
                        const device_array *result, const device_array *bias, bool *done) {
  *done = false;
  if (ours_preferred(c)) return MOON_OK;
  MOON_TRY(cudnn_convolve(c, { (cuda_direction)direction, cuda_geometry_of(geometry), image,
                               weight, result }, done));
  if (!*done) return MOON_OK;
  cuda_library->chose(c->engine, "cudnn");
  const conv2d_finish finish = { nullptr, bias, nullptr, -INFINITY, INFINITY };
  return cuda_finish(c, finish_of(&finish), result, nullptr, CHANNELS);
}

// -- the engines, in multiply-adds of the better one

moon_status cuda_conv2d_engines(cuda_context *, int, const conv2d_geometry *,
                                const device_array *image, const device_array *weight,
                                const device_array *result, conv2d_cost *costs, int *count) {
  const double slower = 8;   // tensor cores and tuned kernels against one kernel for everything
  double work = -1;
  if (image)
    work = (double)array_count(result) *
           (double)(weight->shape[CHANNELS] * weight->shape[HEIGHT] * weight->shape[WIDTH]);
  costs[0] = { "cudnn", cudnn_is_there() ? work : -1 };
  costs[1] = { "implicit", image ? slower * work : -1 };
  *count = 2;
  return MOON_OK;
}
