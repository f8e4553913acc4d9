// Joining along channels without copying what is there: reserve makes a tensor (n, c, ...) with its
// channels last and room for more behind the channels of each position, append writes further
// channels into the room and shows the longer whole, which shares the memory. A dense block
// (Huang et al. 2017) so writes every feature once. The room is given once: the storage knows how
// many channels are in use, and whoever finds that others have grown it gets a copy, as from cat.
#include <inttypes.h>
#include <string.h>

#include "ops/support.h"

enum { INPUT, MORE, CHANNELS = 1 };

static moon_status need_channels(const moon_tensor *x) {
  char text[TENSOR_SHAPE_TEXT];
  if (x->ndim >= SHAPE_LEAST_CHANNELS_LAST && x->ndim <= SHAPE_MOST_CHANNELS_LAST) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input must have %d to %d dimensions (n, c, ...), got %s",
                   SHAPE_LEAST_CHANNELS_LAST, SHAPE_MOST_CHANNELS_LAST, tensor_shape_text(x, text));
}

// Sizes with `channels` instead.
static void with_channels(const moon_tensor *x, int64_t channels, int64_t *shape) {
  memcpy(shape, x->shape, sizeof x->shape);
  shape[CHANNELS] = channels;
}

// -- reserve

static moon_status forward_reserve(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *whole;
  int64_t room = call->args[MORE].integer, shape[MOON_MAX_DIMS], channels;
  MOON_TRY(need_channels(x));
  if (room < 0)
    return moon_fail(MOON_BAD_ARGUMENT, "room must not be negative, got %" PRId64, room);
  if (__builtin_add_overflow(x->shape[CHANNELS], room, &channels))
    return moon_fail(MOON_OUT_OF_MEMORY, "so much room is more than memory can hold");
  with_channels(x, channels, shape);
  MOON_TRY(tensor_new_channels_last(call->engine, tensor_device(x), x->dtype, x->ndim, shape,
                                    &whole));
  moon_status status = tensor_new_view(whole, x->ndim, x->shape, whole->strides, 0,
                                       &call->results[0]);
  atomic_init(&whole->storage->grown, x->shape[CHANNELS]);
  tensor_release(whole);
  MOON_TRY(status);
  return ops_copy(call->engine, x, call->results[0]);
}

static moon_status backward_reserve(op_backward_call *call) {
  call->out[INPUT] = tensor_retain(call->grads[0]);
  return MOON_OK;
}

// -- append

// Takes the room for `more` channels behind x's, if x shows all that its storage has in use and
// there is so much. Then nobody else gets it; `whole` is the longer view.
static bool take_room(const moon_tensor *x, int64_t more, int64_t *shape, int64_t *strides) {
  moon_storage *storage = x->storage;
  int64_t used = x->shape[CHANNELS], count = tensor_count(x);
  if (used == 0 || count == 0 || x->offset != 0) return false;
  int64_t elements = (int64_t)(storage->bytes / dtype_size(x->dtype));
  with_channels(x, elements / (count / used), shape);
  if (shape[CHANNELS] - used < more) return false;
  shape_channels_last_strides(x->ndim, shape, strides);
  // All strides, also of size 1: those of a few images of a batch tell that others lie behind.
  if (memcmp(x->strides, strides, (size_t)x->ndim * sizeof *strides) != 0) return false;
  with_channels(x, used + more, shape);
  int_fast64_t expected = used;
  return atomic_compare_exchange_strong(&storage->grown, &expected, used + more);
}

static moon_status write_behind(op_call *call, moon_tensor *x, moon_tensor *more,
                                const int64_t *shape, const int64_t *strides) {
  moon_tensor *part;
  MOON_TRY(tensor_new_view(x, x->ndim, shape, strides, 0, &call->results[0]));
  MOON_TRY(tensor_new_view(x, x->ndim, more->shape, strides, x->shape[CHANNELS], &part));
  moon_status status = ops_copy(call->engine, more, part);
  tensor_release(part);
  return status;
}

static moon_status forward_append(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *more = call->args[MORE].tensor;
  int64_t expected[MOON_MAX_DIMS], shape[MOON_MAX_DIMS], strides[MOON_MAX_DIMS];
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  MOON_TRY(need_channels(x));
  MOON_TRY(ops_need_same_dtype("input", x, "more", more));
  with_channels(x, more->ndim > CHANNELS ? more->shape[CHANNELS] : 0, expected);
  if (more->ndim != x->ndim || memcmp(more->shape, expected, (size_t)x->ndim * sizeof *expected))
    return moon_fail(MOON_BAD_SHAPE, "more is %s but input is %s: all sizes must agree but that of "
                     "dimension 2", tensor_shape_text(more, b), tensor_shape_text(x, a));
  if (take_room(x, more->shape[CHANNELS], shape, strides))
    return write_behind(call, x, more, shape, strides);
  moon_tensor *both[2] = { x, more };
  return OP_RUN(call->engine, ops_get(OP_cat), &call->results[0], op_tensors(both, 2),
                op_int(CHANNELS));
}

// Each part's gradient is a part of g: a view.
static moon_status backward_append(op_backward_call *call) {
  int64_t first = 0;
  for (int i = INPUT; i <= MORE; i++) {
    int64_t channels = call->inputs[i].shape[CHANNELS];
    if (call->needs[i])
      MOON_TRY(OP_RUN(call->engine, ops_get(OP_narrow), &call->out[i], op_tensor(call->grads[0]),
                      op_int(CHANNELS), op_int(first), op_int(channels)));
    first += channels;
  }
  return MOON_OK;
}

static op_descriptor descriptors[] = {
  { .name = "reserve",
    .example = "moon.tensor({{{1, 2}}}):reserve(3) --> {{{1, 2}}}",
    .schema = "(input: Tensor, room: int) -> out",
    .doc = "A copy of input (n, c, ...) that append can give `room` more channels without copying "
           "it again.",
    .forward = forward_reserve, .backward = backward_reserve },
  { .name = "append",
    .example = "moon.tensor({{{1, 2}}}):reserve(1):append(moon.tensor {{{3, 4}}}) "
               "--> {{{1, 2}, {3, 4}}}",
    .schema = "(input: Tensor, more: Tensor) -> out", .flags = OP_VIEW,
    .doc = "The channels of input (n, c, ...) and behind them those of `more`, as cat along "
           "dimension 2. Where input has room (see reserve), only `more` is copied and the result "
           "shares input's memory, as a view does; the room is given once, so that appending to "
           "the same input again copies both.",
    .forward = forward_append, .backward = backward_append },
};
OP_FAMILY(growing, descriptors);
