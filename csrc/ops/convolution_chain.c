// Convolutions in a row without what lies between them in memory: a band of the last one's rows at
// a time goes through all of them, and a band of what lies between stays in cache. The rows where
// two bands meet are calculated twice. After Alwani et al., "Fused-layer CNN accelerators", 2016.
//
// Small maps, and devices with caches of their own, take the convolutions one after the other.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/threads.h"
#include "ops/pointwise.h"
#include "ops/support.h"

enum {
  INPUT, WEIGHTS, SCALES, BIASES, STRIDES, PADDINGS, GROUPS, ACTIVATION, LAST_ACTIVATION, ADD,
};
enum {
  MOST_LAYERS = MOON_MAX_DIMS,
  LEAST_BETWEEN = 4 << 20,     // bytes between the convolutions: fewer stay in cache by themselves
  BAND_BYTES = 768 << 10,      // of what lies between, in a band
  LEAST_ROWS = 4,              // of a band
};

typedef struct layer {
  device_array weight, scale, bias;
  conv2d_geometry geometry;
  int64_t channels, height, width;   // of its result
  int64_t in_height;
  double low, high;
} layer;

typedef struct chain {
  moon_engine *engine;
  const device_kernels *kernels;
  device_array input, add, out;      // add without data: nothing is added
  int count;
  layer layers[MOST_LAYERS];
  int64_t band, bands;               // rows of a band, bands of an image
  size_t room;                       // bytes of a band between two convolutions, at most
} chain;

// -- arguments

static moon_status check_lists(const op_value *args) {
  static const struct { int param; const char *name; } lists[] = {
    { SCALES, "scales" }, { BIASES, "biases" }, { STRIDES, "strides" }, { PADDINGS, "paddings" },
    { GROUPS, "groups" },
  };
  int count = args[WEIGHTS].tensors.count;
  if (count < 1 || count > MOST_LAYERS)
    return moon_fail(MOON_BAD_ARGUMENT, "weights must be a list of 1 to %d tensors, got %d",
                     MOST_LAYERS, count);
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    const op_value *value = &args[lists[i].param];
    int found = lists[i].param <= BIASES ? value->tensors.count : value->ints.count;
    if (found != count)
      return moon_fail(MOON_BAD_ARGUMENT, "%s must have one entry for each of the %d weights, got "
                       "%d", lists[i].name, count, found);
  }
  return MOON_OK;
}

static moon_status check_vector(const char *name, int i, const moon_tensor *input,
                                const moon_tensor *vector, int64_t channels) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_parameter_dtype("input", input, name, vector));
  if (vector->ndim == 1 && vector->shape[0] == channels) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "member %d of %s must have one element for each of the %" PRId64
                   " output channels, got %s", i + 1, name, channels,
                   tensor_shape_text(vector, text));
}

static moon_status check_weight(int i, const moon_tensor *input, const moon_tensor *weight,
                                int64_t channels, int64_t groups) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_parameter_dtype("input", input, "weights", weight));
  MOON_TRY(ops_need_ndim("weights", weight, 4, "(out channels, in channels / groups, h, w)"));
  if (groups < 1 || weight->shape[0] % groups != 0 || weight->shape[1] * groups != channels)
    return moon_fail(MOON_BAD_SHAPE, "member %d of weights %s does not fit %" PRId64 " channels in "
                     "%" PRId64 " groups", i + 1, tensor_shape_text(weight, text), channels,
                     groups);
  return MOON_OK;
}

// The result's rows or columns of `size`; a window must reach the image everywhere.
static moon_status count_positions(int i, int64_t size, int64_t kernel, int64_t stride,
                                   int64_t padding, int64_t *positions) {
  if (stride < 1 || padding < 0 || padding >= kernel)
    return moon_fail(MOON_BAD_ARGUMENT, "convolution %d needs a stride of at least 1 and a padding "
                     "from 0 to below the kernel's size %" PRId64 ", got %" PRId64 " and %" PRId64,
                     i + 1, kernel, stride, padding);
  if (size + 2 * padding < kernel)
    return moon_fail(MOON_BAD_SHAPE, "convolution %d has a kernel of %" PRId64 ", larger than the "
                     "%" PRId64 " padded elements it meets", i + 1, kernel, size + 2 * padding);
  *positions = (size + 2 * padding - kernel) / stride + 1;
  return MOON_OK;
}

static moon_status read_layer(const op_call *call, int i, const int64_t *from, layer *l) {
  const op_value *args = call->args;
  const moon_tensor *input = args[INPUT].tensor, *weight = args[WEIGHTS].tensors.list[i];
  const moon_tensor *scale = args[SCALES].tensors.list[i], *bias = args[BIASES].tensors.list[i];
  int64_t stride = args[STRIDES].ints.v[i], padding = args[PADDINGS].ints.v[i];
  MOON_TRY(check_weight(i, input, weight, from[0], args[GROUPS].ints.v[i]));
  MOON_TRY(check_vector("scales", i, input, scale, weight->shape[0]));
  MOON_TRY(check_vector("biases", i, input, bias, weight->shape[0]));
  MOON_TRY(count_positions(i, from[1], weight->shape[2], stride, padding, &l->height));
  MOON_TRY(count_positions(i, from[2], weight->shape[3], stride, padding, &l->width));
  MOON_TRY(tensor_weight_array(weight, !call->recording, &l->weight));
  bool last = i == args[WEIGHTS].tensors.count - 1;
  pointwise_limits limits =
      pointwise_limits_of((int)args[last ? LAST_ACTIVATION : ACTIVATION].integer);
  l->scale = tensor_array(scale), l->bias = tensor_array(bias);
  l->channels = weight->shape[0];
  l->in_height = from[1];
  l->low = limits.low, l->high = limits.high;
  l->geometry = (conv2d_geometry){ .groups = args[GROUPS].ints.v[i] };
  for (int k = 0; k < 2; k++) {
    l->geometry.stride[k] = stride, l->geometry.dilation[k] = 1;
    l->geometry.padding_before[k] = l->geometry.padding_after[k] = padding;
  }
  return MOON_OK;
}

static moon_status read_chain(op_call *call, chain *c) {
  const op_value *args = call->args;
  const moon_tensor *input = args[INPUT].tensor, *add = args[ADD].tensor;
  char found[TENSOR_SHAPE_TEXT], expected[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float("input", input));
  MOON_TRY(ops_need_ndim("input", input, 4, "(n, c, h, w)"));
  MOON_TRY(check_lists(args));
  *c = (chain){ .engine = call->engine, .kernels = tensor_kernels(input),
                .count = args[WEIGHTS].tensors.count };
  int64_t shape[4] = { input->shape[0], input->shape[1], input->shape[2], input->shape[3] };
  for (int i = 0; i < c->count; i++) {
    layer *l = &c->layers[i];
    MOON_TRY(read_layer(call, i, shape + 1, l));
    shape[1] = l->channels, shape[2] = l->height, shape[3] = l->width;
  }
  if (add) MOON_TRY(ops_need_same_dtype("input", input, "add", add));
  if (add && (add->ndim != 4 || memcmp(add->shape, shape, sizeof shape) != 0))
    return moon_fail(MOON_BAD_SHAPE, "add must have the result's shape %s, got %s",
                     shape_text(4, shape, expected), tensor_shape_text(add, found));
  MOON_TRY(tensor_new_channels_last(call->engine, tensor_device(input), input->dtype, 4, shape,
                                    &call->results[0]));
  c->input = tensor_array(input);
  if (add) c->add = tensor_array(add);
  c->out = tensor_array(call->results[0]);
  return MOON_OK;
}

// -- a convolution

// Rows of one image, or of all (image < 0).
static device_array rows_of(const device_array *x, int64_t image, int64_t first, int64_t count) {
  device_array rows = *x;
  int64_t offset = first * x->strides[2] + (image < 0 ? 0 : image * x->strides[0]);
  rows.data = (char *)x->data + offset * (int64_t)dtype_size(x->dtype);
  if (image >= 0) rows.shape[0] = 1;
  rows.shape[2] = count;
  return rows;
}

// Layer i from `x` to `out`, with so many rows of padding.
static moon_status convolve(const chain *c, int i, const int64_t rows_padded[2],
                            const device_array *x, const device_array *add,
                            const device_array *out) {
  const layer *l = &c->layers[i];
  conv2d_geometry geometry = l->geometry;
  geometry.padding_before[0] = rows_padded[0], geometry.padding_after[0] = rows_padded[1];
  conv2d_finish finish = { .scale = &l->scale, .shift = &l->bias, .add = add, .low = l->low,
                           .high = l->high };
  return c->kernels->conv2d_forward(c->engine, &geometry, x, &l->weight, &finish, out);
}

// -- one after the other

static moon_status run_layers(op_call *call, const chain *c) {
  const moon_tensor *input = call->args[INPUT].tensor;
  moon_tensor *before = NULL, *result = NULL;
  moon_status status = MOON_OK;
  for (int i = 0; i < c->count && status == MOON_OK; i++) {
    const layer *l = &c->layers[i];
    const bool last = i == c->count - 1;
    device_array x = before ? tensor_array(before) : c->input, out = c->out;
    int64_t shape[4] = { input->shape[0], l->channels, l->height, l->width };
    if (!last) status = tensor_new_channels_last(call->engine, tensor_device(input), input->dtype,
                                                 4, shape, &result);
    if (status == MOON_OK && !last) out = tensor_array(result);
    if (status == MOON_OK)
      status = convolve(c, i, (int64_t[]){ l->geometry.padding_before[0],
                                           l->geometry.padding_after[0] },
                        &x, last && call->args[ADD].tensor ? &c->add : NULL, &out);
    tensor_release(before);
    before = result;
    result = NULL;
  }
  tensor_release(before);
  return status;
}

// -- bands

// Rows first .. last of what comes before layer i, and the padding that layer needs with them.
typedef struct reach { int64_t first, last, padded[2]; } reach;

// What each layer reads for rows first .. last of the result.
static void find_reach(const chain *c, int64_t first, int64_t last, reach *reaches) {
  for (int i = c->count - 1; i >= 0; i--) {
    const layer *l = &c->layers[i];
    int64_t stride = l->geometry.stride[0], padding = l->geometry.padding_before[0];
    int64_t from = first * stride - padding;
    int64_t to = (last - 1) * stride - padding + l->weight.shape[2];
    reaches[i] = (reach){ .padded = { from < 0 ? -from : 0,
                                      to > l->in_height ? to - l->in_height : 0 } };
    reaches[i].first = first = from < 0 ? 0 : from;
    reaches[i].last = last = to > l->in_height ? l->in_height : to;
  }
}

// Room for `rows` of a layer's result, channels last.
static device_array between(const chain *c, int i, int64_t rows, void *data) {
  const layer *l = &c->layers[i];
  return (device_array){ .data = data, .dtype = c->input.dtype, .ndim = 4,
                         .shape = { 1, l->channels, rows, l->width },
                         .strides = { rows * l->width * l->channels, 1, l->width * l->channels,
                                      l->channels } };
}

static moon_status run_band(const chain *c, int64_t image, int64_t band, char *memory) {
  reach reaches[MOST_LAYERS];
  const int64_t height = c->out.shape[2], first = band * c->band;
  const int64_t last = first + c->band < height ? first + c->band : height;
  find_reach(c, first, last, reaches);
  device_array x = rows_of(&c->input, image, reaches[0].first, reaches[0].last - reaches[0].first);
  for (int i = 0; i < c->count - 1; i++) {
    int64_t rows = reaches[i + 1].last - reaches[i + 1].first;
    device_array out = between(c, i, rows, memory + (size_t)(i % 2) * c->room);
    MOON_TRY(convolve(c, i, reaches[i].padded, &x, NULL, &out));
    x = out;
  }
  device_array out = rows_of(&c->out, image, first, last - first), add;
  if (c->add.data) add = rows_of(&c->add, image, first, last - first);
  return convolve(c, c->count - 1, reaches[c->count - 1].padded, &x, c->add.data ? &add : NULL,
                  &out);
}

static moon_status run_bands(void *context, int64_t first, int64_t last) {
  const chain *c = context;
  moon_status status = MOON_OK;
  void *memory;
  MOON_TRY(alloc_bytes(c->engine, 2 * c->room, &memory));
  for (int64_t i = first; i < last && status == MOON_OK; i++)
    status = run_band(c, i / c->bands, i % c->bands, memory);
  alloc_release(c->engine, memory, 2 * c->room);
  return status;
}

// Cuts the result's rows into bands; false where the whole had better be done layer by layer.
static bool cut(chain *c) {
  const size_t size = dtype_size(c->input.dtype);
  const int64_t height = c->out.shape[2];
  double all = 0, row = 0, rows = 1;   // bytes between, those of a row of the result
  for (int i = c->count - 2; i >= 0; i--) {
    const layer *l = &c->layers[i];
    rows *= (double)c->layers[i + 1].geometry.stride[0];
    double line = (double)l->width * (double)l->channels * (double)size;
    row += rows * line;
    all += (double)c->out.shape[0] * (double)l->height * line;
  }
  if (all < LEAST_BETWEEN || array_count(&c->out) == 0) return false;
  int64_t fitting = (int64_t)(BAND_BYTES / row);
  int64_t most = fitting > LEAST_ROWS ? fitting : LEAST_ROWS;
  c->bands = (height + most - 1) / most;
  c->band = (height + c->bands - 1) / c->bands;
  c->bands = (height + c->band - 1) / c->band;
  return true;
}

// The widest band between two layers; the first and the last bands reach no further than others.
static void find_room(chain *c) {
  reach reaches[MOST_LAYERS];
  for (int64_t band = 0; band < c->bands; band++) {
    const int64_t first = band * c->band, height = c->out.shape[2];
    find_reach(c, first, first + c->band < height ? first + c->band : height, reaches);
    for (int i = 0; i < c->count - 1; i++) {
      const layer *l = &c->layers[i];
      size_t bytes = (size_t)((reaches[i + 1].last - reaches[i + 1].first) * l->width *
                              l->channels) * dtype_size(c->input.dtype);
      bytes = (bytes + 63) / 64 * 64;
      if (bytes > c->room) c->room = bytes;
    }
  }
}

static moon_status forward_chain(op_call *call) {
  chain c;
  MOON_TRY(read_chain(call, &c));
  if (!tensor_device(call->args[INPUT].tensor)->on_host || !cut(&c)) return run_layers(call, &c);
  find_room(&c);
  moon_status status = threads_run(call->engine, c.out.shape[0] * c.bands, 1, run_bands, &c);
  engine_chose(call->engine, "bands");
  return status;
}

static op_descriptor descriptors[] = {
  { .name = "conv2d_chain", .casts = OP_CASTS_LOW, .stays = "weights scales biases",
    .dtypes = OP_FLOATS, .flags = OP_FUNCTION_ONLY,
    .schema = "(input: Tensor, weights: Tensor[], scales: Tensor[], biases: Tensor[], "
              "strides: int[], paddings: int[], groups: int[], "
              "activation: " POINTWISE_ACTIVATIONS " = \"none\", "
              "last_activation: " POINTWISE_ACTIVATIONS " = \"none\", add: Tensor?) -> out",
    .doc = "Up to 8 convolutions in a row, each activation(conv2d(x, weight) * scale + bias), of "
           "which the last adds `add` and has an activation of its own; for inference: there is no "
           "gradient. Strides, paddings (of zeros on every side, below the kernel's size) and "
           "groups have a number a convolution. Large maps go through all convolutions a band of "
           "rows at a time, so that what lies between never leaves the cache.",
    .example = "moon.conv2d_chain(moon.ones(1, 1, 1, 2), {moon.ones(2, 1, 1, 1), "
               "moon.ones(1, 2, 1, 1)}, {moon.tensor {3, 2}, moon.ones(1)}, {moon.zeros(2), "
               "moon.ones(1)}, {1, 1}, {0, 0}, {1, 1}) --> {{{{6, 6}}}}",
    .forward = forward_chain },
};
OP_FAMILY(convolution_chain, descriptors);
