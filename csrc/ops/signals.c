// Convolution as signal processing means it: the kernel turned round, one channel, any leading
// dimensions, directly or by the Fourier transform; and what photographs ask of it: pyramids and
// the search for a template.
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "ops/convolution.h"

enum { INPUT, KERNEL, MODE };
enum { FULL, SAME, VALID };              // mode
enum { CONVOLVE, CORRELATE };            // row

enum { SIGNAL_MAX_DIMS = 2 };

typedef struct signal_plan {
  int ndim;                              // of the kernel: 1 or 2
  int64_t batch;                         // signals or images
  int64_t size[SIGNAL_MAX_DIMS], kernel[SIGNAL_MAX_DIMS];
  int64_t first[SIGNAL_MAX_DIMS];        // where the result starts within the full one
  int64_t result[SIGNAL_MAX_DIMS];
} signal_plan;

// -- checks

static moon_status plan_dimension(const moon_tensor *x, int64_t mode, signal_plan *p, int i) {
  char text[TENSOR_SHAPE_TEXT];
  const char *side = convolution_side(p->ndim, i);
  int64_t size = p->size[i], kernel = p->kernel[i];
  if (size < 1)
    return moon_fail(MOON_BAD_SHAPE, "input has no %s (input %s)", side,
                     tensor_shape_text(x, text));
  if (kernel < 1 || kernel > INT32_MAX)
    return moon_fail(MOON_BAD_SHAPE, "the kernel's %s must be from 1 to %d, got %" PRId64, side,
                     INT32_MAX, kernel);
  if (mode == VALID && kernel > size)
    return moon_fail(MOON_BAD_SHAPE, "the kernel's %s %" PRId64 " is larger than the input's %"
                     PRId64 "; in mode \"valid\" it must lie inside", side, kernel, size);
  p->first[i] = mode == FULL ? 0 : mode == SAME ? (kernel - 1) / 2 : kernel - 1;
  p->result[i] = mode == FULL ? size + kernel - 1 : mode == SAME ? size : size - kernel + 1;
  return MOON_OK;
}

static moon_status read_plan(const op_value *args, signal_plan *p) {
  const moon_tensor *x = args[INPUT].tensor, *kernel = args[KERNEL].tensor;
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(ops_need_same_dtype("input", x, "kernel", kernel));
  if (kernel->ndim != 1 && kernel->ndim != 2)
    return moon_fail(MOON_BAD_SHAPE, "kernel must have 1 dimension (for signals) or 2 (for "
                     "images), got %s", tensor_shape_text(kernel, text));
  if (x->ndim < kernel->ndim)
    return moon_fail(MOON_BAD_SHAPE, "input must have at least the kernel's %d dimensions, got %s",
                     kernel->ndim, tensor_shape_text(x, text));
  *p = (signal_plan){ .ndim = kernel->ndim, .batch = 1 };
  for (int i = 0; i < x->ndim - p->ndim; i++) p->batch *= x->shape[i];
  for (int i = 0; i < p->ndim; i++) {
    p->size[i] = x->shape[x->ndim - p->ndim + i];
    p->kernel[i] = kernel->shape[i];
    MOON_TRY(plan_dimension(x, args[MODE].integer, p, i));
  }
  return MOON_OK;
}

static void result_shape(const moon_tensor *x, const signal_plan *p, int64_t *shape) {
  memcpy(shape, x->shape, (size_t)x->ndim * sizeof *shape);
  for (int i = 0; i < p->ndim; i++) shape[x->ndim - p->ndim + i] = p->result[i];
}

// -- directly

// One channel of height 1 where there is one dimension; the kernel is turned for convolution.
static moon_status forward_direct(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *kernel = call->args[KERNEL].tensor;
  signal_plan p;
  int64_t shape[MOON_MAX_DIMS], pads[4] = { 0 };
  MOON_TRY(read_plan(call->args, &p));
  result_shape(x, &p, shape);
  int last = p.ndim - 1, ndim = x->ndim;
  int64_t image[4] = { p.batch, 1, p.ndim == 2 ? p.size[0] : 1, p.size[last] };
  int64_t window[4] = { 1, 1, p.ndim == 2 ? p.kernel[0] : 1, p.kernel[last] };
  for (int i = 0; i < p.ndim; i++) {
    int side = 2 * (2 - p.ndim + i);
    pads[side] = p.kernel[i] - 1 - p.first[i];
    pads[side + 1] = p.first[i] + p.result[i] - p.size[i];
  }
  compose c = compose_open(call->engine);
  if (call->op->row == CONVOLVE) kernel = COMPOSE(&c, flip, op_tensor(kernel), op_none());
  moon_tensor *y = COMPOSE(&c, conv2d, op_tensor(compose_reshape(&c, x, 4, image)),
                           op_tensor(compose_reshape(&c, kernel, 4, window)), op_none(),
                           op_ints(2, (int64_t[]){ 1, 1 }), op_ints(4, pads));
  y = compose_own(&c, compose_reshape(&c, y, ndim, shape));
  return compose_close(&c, y, &call->results[0]);
}

// -- by the Fourier transform

// The least size of at least n without prime factors above 5, for which transforms are quick.
static int64_t quick_size(int64_t n) {
  for (;; n++) {
    int64_t rest = n;
    for (int64_t factor = 2; factor <= 5; factor += factor == 2 ? 1 : 2)
      while (rest % factor == 0) rest /= factor;
    if (rest == 1) return n;
  }
}

static moon_tensor *transform(compose *c, moon_tensor *x, const signal_plan *p,
                              const int64_t *size) {
  if (p->ndim == 2) return COMPOSE(c, rfft2, op_tensor(x), op_ints(2, size));
  return COMPOSE(c, rfft, op_tensor(x), op_int(size[0]));
}

static moon_tensor *transform_back(compose *c, moon_tensor *x, const signal_plan *p,
                                   const int64_t *size) {
  if (p->ndim == 2) return COMPOSE(c, irfft2, op_tensor(x), op_ints(2, size));
  return COMPOSE(c, irfft, op_tensor(x), op_int(size[0]));
}

static moon_status forward_fft_convolve(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  signal_plan p;
  int64_t size[SIGNAL_MAX_DIMS], shape[MOON_MAX_DIMS], count;
  MOON_TRY(ops_need_wide_float("input", x));
  if (x->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "input must have at most %d dimensions, got %d",
                     MOON_MAX_DIMS - 1, x->ndim);
  MOON_TRY(read_plan(call->args, &p));
  result_shape(x, &p, shape);
  for (int i = 0; i < p.ndim; i++) shape[x->ndim - p.ndim + i] = p.size[i] + p.kernel[i];
  MOON_TRY(shape_count(x->ndim, shape, &count));
  for (int i = 0; i < p.ndim; i++) size[i] = quick_size(p.size[i] + p.kernel[i] - 1);
  compose c = compose_open(call->engine);
  int ndim = x->ndim;
  moon_tensor *a = transform(&c, x, &p, size);
  moon_tensor *b = transform(&c, call->args[KERNEL].tensor, &p, size);
  moon_tensor *y = transform_back(&c, COMPOSE(&c, complex_mul, op_tensor(a), op_tensor(b)), &p,
                                  size);
  for (int i = 0; i < p.ndim; i++)
    y = COMPOSE(&c, narrow, op_tensor(y), op_int(ndim - p.ndim + i), op_int(p.first[i]),
                op_int(p.result[i]));
  return compose_close(&c, COMPOSE(&c, clone, op_tensor(y)), &call->results[0]);
}

// -- pyramid

// A kernel (1, 1, height, width) of these values, of like's type and on its device.
static moon_tensor *kernel_of(compose *c, const moon_tensor *like, int64_t height, int64_t width,
                              const double *values) {
  moon_tensor *kernel = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new(c->engine, like, like->dtype, 4,
                               (int64_t[]){ 1, 1, height, width }, &kernel);
  if (!(kernel = compose_adopt(c, status, kernel))) return NULL;
  for (int64_t i = 0; i < height * width; i++) {
    device_array element = tensor_array(kernel);
    element.data = (char *)element.data + i * (int64_t)dtype_size(like->dtype);
    element.ndim = 0;
    compose_check(c, tensor_kernels(kernel)->fill(c->engine, values[i], &element));
  }
  return kernel;
}

// Blurs by (1 4 6 4 1) / 16 both ways, edges continued, and keeps every second row and column.
static moon_tensor *halve(compose *c, moon_tensor *x) {
  static const double binomial[5] = { 1. / 16, 4. / 16, 6. / 16, 4. / 16, 1. / 16 };
  enum { REPLICATE = 2 };
  moon_tensor *down = kernel_of(c, x, 5, 1, binomial);
  moon_tensor *across = kernel_of(c, x, 1, 5, binomial);
  x = COMPOSE(c, pad, op_tensor(x), op_ints(4, (int64_t[]){ 2, 2, 2, 2 }), op_int(REPLICATE));
  x = COMPOSE(c, conv2d, op_tensor(x), op_tensor(down), op_none(),
              op_ints(2, (int64_t[]){ 2, 1 }));
  return COMPOSE(c, conv2d, op_tensor(x), op_tensor(across), op_none(),
                 op_ints(2, (int64_t[]){ 1, 2 }));
}

static moon_status fill_levels(op_call *call, compose *c, int64_t levels) {
  moon_tensor *x = call->args[INPUT].tensor, *image;
  int64_t shape[MOON_MAX_DIMS], batch = 1;
  int ndim = x->ndim;
  memcpy(shape, x->shape, sizeof shape);
  for (int i = 0; i < ndim - 2; i++) batch *= shape[i];
  call->list[call->list_count++] = tensor_retain(x);
  image = compose_reshape(c, x, 4, (int64_t[]){ batch, 1, shape[ndim - 2], shape[ndim - 1] });
  for (int64_t level = 1; level < levels; level++) {
    image = halve(c, image);
    if (c->status != MOON_OK) return c->status;
    shape[ndim - 2] = image->shape[2];
    shape[ndim - 1] = image->shape[3];
    moon_tensor *view = compose_reshape(c, image, ndim, shape);
    if (c->status != MOON_OK) return c->status;
    call->list[call->list_count++] = tensor_retain(view);
  }
  return MOON_OK;
}

static moon_status forward_pyramid(op_call *call) {
  enum { LEVELS = 1, MOST_LEVELS = 64 };
  const moon_tensor *x = call->args[INPUT].tensor;
  char text[TENSOR_SHAPE_TEXT];
  int64_t levels = call->args[LEVELS].integer;
  MOON_TRY(ops_need_float("input", x));
  if (x->ndim < 2 || x->shape[x->ndim - 2] < 1 || x->shape[x->ndim - 1] < 1)
    return moon_fail(MOON_BAD_SHAPE, "input must be images (..., h, w), got %s",
                     tensor_shape_text(x, text));
  if (levels < 1 || levels > MOST_LEVELS)
    return moon_fail(MOON_BAD_ARGUMENT, "levels must be from 1 to %d, got %" PRId64, MOST_LEVELS,
                     levels);
  MOON_TRY(alloc_new((size_t)levels * sizeof *call->list, (void **)&call->list));
  compose c = compose_open(call->engine);
  moon_status status = fill_levels(call, &c, levels);
  compose_check(&c, status);
  return compose_close(&c, NULL, NULL);
}

// -- match_template

enum { TEMPLATE = 1 };

static moon_status check_template(const moon_tensor *x, const moon_tensor *t) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_wide_float("input", x));
  MOON_TRY(ops_need_same_dtype("input", x, "template", t));
  if (t->ndim != 2 && t->ndim != 3)
    return moon_fail(MOON_BAD_SHAPE, "template must be (h, w) or (c, h, w), got %s",
                     tensor_shape_text(t, b));
  if (x->ndim != t->ndim && x->ndim != t->ndim + 1)
    return moon_fail(MOON_BAD_SHAPE, "input must have the template's dimensions, or the batch in "
                     "front of them (input %s, template %s)", tensor_shape_text(x, a),
                     tensor_shape_text(t, b));
  for (int i = 1; i <= t->ndim; i++) {
    int64_t inside = t->shape[t->ndim - i], around = x->shape[x->ndim - i];
    if (inside < 1 || inside > around || (i == 3 && inside != around))
      return moon_fail(MOON_BAD_SHAPE, "the template must lie inside the input and have its "
                       "channels (input %s, template %s)", tensor_shape_text(x, a),
                       tensor_shape_text(t, b));
  }
  return MOON_OK;
}

// Sums of x (n, 1, h, w) under a window.
static moon_tensor *box_sums(compose *c, moon_tensor *x, int64_t height, int64_t width) {
  moon_tensor *one = compose_number(c, x, 1);
  moon_tensor *down = COMPOSE(c, expand, op_tensor(one),
                              op_ints(4, (int64_t[]){ 1, 1, height, 1 }));
  moon_tensor *across = COMPOSE(c, expand, op_tensor(one),
                                op_ints(4, (int64_t[]){ 1, 1, 1, width }));
  x = COMPOSE(c, conv2d, op_tensor(x), op_tensor(down));
  return COMPOSE(c, conv2d, op_tensor(x), op_tensor(across));
}

static moon_tensor *channel_sum(compose *c, moon_tensor *x) {
  return COMPOSE(c, sum, op_tensor(x), op_ints(1, (int64_t[]){ 1 }), op_bool(true));
}

// With x' = x - mean(x), t' = t - mean(t), and sums over the window of m elements:
// score = sum x' t' / sqrt((sum x'^2 - (sum x')^2 / m) * sum t'^2). What a window varies is known
// to a few roundings of its sum of squares; less than that counts as flat.
static moon_tensor *scores(compose *c, moon_tensor *x, moon_tensor *t) {
  if (c->status != MOON_OK) return NULL;
  bool wide = x->dtype == MOON_F64;
  double elements = (double)tensor_count(t), rounding = wide ? 1e-13 : 1e-5;
  double least = wide ? 1e-200 : 1e-30;
  int64_t height = t->shape[2], width = t->shape[3];
  x = COMPOSE(c, sub, op_tensor(x), op_tensor(COMPOSE(c, mean, op_tensor(x))));
  t = COMPOSE(c, sub, op_tensor(t), op_tensor(COMPOSE(c, mean, op_tensor(t))));
  moon_tensor *product = COMPOSE(c, conv2d, op_tensor(x), op_tensor(t));
  moon_tensor *sums = box_sums(c, channel_sum(c, x), height, width);
  moon_tensor *squares = COMPOSE(c, square, op_tensor(x));
  squares = box_sums(c, channel_sum(c, squares), height, width);
  moon_tensor *excess = compose_scale(c, COMPOSE(c, square, op_tensor(sums)), 1 / elements);
  moon_tensor *variation = COMPOSE(c, sub, op_tensor(squares), op_tensor(excess));
  moon_tensor *floor = compose_offset(c, compose_scale(c, squares, rounding), least);
  variation = COMPOSE(c, maximum, op_tensor(variation), op_tensor(floor));
  moon_tensor *energy = COMPOSE(c, sum, op_tensor(COMPOSE(c, square, op_tensor(t))));
  energy = compose_offset(c, energy, least);
  moon_tensor *below = COMPOSE(c, mul, op_tensor(COMPOSE(c, sqrt, op_tensor(variation))),
                               op_tensor(COMPOSE(c, sqrt, op_tensor(energy))));
  return COMPOSE(c, div, op_tensor(product), op_tensor(below));
}

static moon_status forward_match_template(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *t = call->args[TEMPLATE].tensor;
  MOON_TRY(check_template(x, t));
  bool batched = x->ndim == t->ndim + 1;
  const int64_t *image = x->shape + batched, *shape = t->shape;
  int flat = t->ndim == 2;
  int64_t channels = flat ? 1 : shape[0];
  int64_t height = shape[1 - flat], width = shape[2 - flat];
  int64_t rows = image[1 - flat], columns = image[2 - flat];
  int64_t result[3] = { x->shape[0], rows - height + 1, columns - width + 1 };
  compose c = compose_open(call->engine);
  x = compose_reshape(&c, x, 4,
                      (int64_t[]){ batched ? x->shape[0] : 1, channels, rows, columns });
  t = compose_reshape(&c, t, 4, (int64_t[]){ 1, channels, height, width });
  moon_tensor *y = scores(&c, x, t);
  y = compose_own(&c, compose_reshape(&c, y, 2 + batched, result + !batched));
  return compose_close(&c, y, &call->results[0]);
}

#define SIGNAL_SCHEMA \
  "(input: Tensor, kernel: Tensor, mode: \"full\"|\"same\"|\"valid\" = \"full\") -> out"

static op_descriptor descriptors[] = {
  { .name = "convolve", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = CONVOLVE,
    .schema = SIGNAL_SCHEMA,
    .doc = "True convolution, the kernel turned round: y[i] = sum over j of x[i - j] kernel[j]. A "
           "kernel of one dimension goes along the last dimension of input, one of two over the "
           "last two. Mode \"full\" gives size + kernel - 1 elements, \"same\" the middle of them "
           "(as many as input has), \"valid\" those that need no zeros beyond the ends, size - "
           "kernel + 1.",
    .example = "moon.convolve(moon.tensor {1, 2, 3}, moon.tensor {0, 1, 0.5}) "
               "--> {0, 1, 2.5, 4, 1.5}",
    .forward = forward_direct },
  { .name = "correlate", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE, .row = CORRELATE,
    .schema = SIGNAL_SCHEMA,
    .doc = "Cross-correlation of a signal or image with a kernel: y[i] = sum over j of x[i + j] "
           "kernel[j]. Dimensions and modes as for convolve; in mode \"full\" the first element "
           "is the one where only the kernel's last lies on the signal.",
    .example = "moon.correlate(moon.tensor {1, 2, 3}, moon.tensor {0, 1, 0.5}, \"same\") "
               "--> {2, 3.5, 3}",
    .forward = forward_direct },
  { .name = "fft_convolve", .dtypes = OP_REALS, .flags = OP_COMPOSITE, .schema = SIGNAL_SCHEMA,
    .doc = "convolve by the Fourier transform: the product of both spectra, transformed back "
           "(the convolution theorem). Its cost does not grow with the kernel, so that it is "
           "quicker for large ones (bench/convolve.lua shows from where). Float32 and float64 "
           "(Stockham 1966).",
    .example = "moon.fft_convolve(moon.tensor {1, 2}, moon.tensor {1, 1}):round() --> {1, 3, 2}",
    .forward = forward_fft_convolve },
  { .name = "pyramid", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, levels: int = 3) -> Tensor[]",
    .doc = "Images (..., h, w) at 1, 1/2, 1/4 ... of their size, a list whose first is input "
           "itself: each is the one before it, blurred by (1 4 6 4 1) / 16 in both directions, "
           "edges continued, with every second row and column kept (Burt and Adelson 1983).",
    .example = "#moon.pyramid(moon.zeros(5, 8), 3) --> 3\n"
               "moon.pyramid(moon.ones(5, 8), 3)[3]:size() --> {2, 2}",
    .forward = forward_pyramid },
  { .name = "match_template", .dtypes = OP_REALS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, template: Tensor) -> out",
    .doc = "Normalised cross-correlation of every window of input with a template: 1 where they "
           "agree up to brightness and contrast, -1 where one is the other's negative, 0 on what "
           "is flat. input (h, w) or (c, h, w), or a batch of these; template likewise, without "
           "batch; the result has h - template h + 1 rows and w - template w + 1 columns. Float32 "
           "and float64 (Lewis 1995).",
    .example = "moon.match_template(moon.tensor {{0, 1, 0, 3}}, moon.tensor {{0, 5}}):round() "
               "--> {{1, -1, 1}}",
    .forward = forward_match_template },
};
OP_FAMILY(signals, descriptors);
