// The slots of recurrent layers, which are cuDNN's or nobody's: where it does not take a layer, the
// operator is a composition of others.
//
// The library wants all weights in one space of its own layout. They are copied there in each call,
// and their gradients from one like it, by one launch each: a pass over the weights, which a
// sequence of any length reads anew in each step. It is given arrays dense and from multiples of 16
// bytes on. What lies behind the end of a sequence is not the library's to define for all of its
// results; it is set to 0 here.
#include "cudnn_rnn_plan.cuh"
#include "types.cuh"

enum { ALIGNED = 16 };

// -- gates of weights, one by one, into the packed space or out of it

enum { MOST_PIECES = 2 * CELL_PARAMETERS * CELL_MOST_GATES };

struct rnn_piece { const void *from; void *to; int64_t count; };
struct rnn_pieces { rnn_piece list[MOST_PIECES]; };

// Each row of blocks copies a piece, in words of an element's size.
template <typename word>
static __global__ void copy_pieces(rnn_pieces pieces) {
  const rnn_piece piece = pieces.list[blockIdx.y];
  CUDA_EACH(i, piece.count) ((word *)piece.to)[i] = ((const word *)piece.from)[i];
}

// Arrays are contiguous; those that are NULL are left out.
static moon_status move_weights(cuda_context *c, const rnn_plan *plan,
                                const device_array *const (*weights)[CELL_PARAMETERS], char *space,
                                bool pack) {
  const size_t size = dtype_size((moon_dtype)plan->key.dtype);
  const int gates = cell_gates((cell_kind)plan->key.kind);
  rnn_pieces pieces = {};
  unsigned count = 0;
  int64_t longest = 0;
  for (int d = 0; d < plan->key.directions; d++) {
    for (int k = 0; k < CELL_PARAMETERS; k++) {
      if (!weights[d][k]) continue;
      const int64_t each = array_count(weights[d][k]) / gates;
      if (each > longest) longest = each;
      for (int gate = 0; gate < gates; gate++) {
        void *ours = (char *)weights[d][k]->data + gate * each * (int64_t)size;
        void *packed = space + plan->gates[d][k][gate];
        pieces.list[count++] = { pack ? ours : packed, pack ? packed : ours, each };
      }
    }
  }
  if (count == 0) return MOON_OK;
  return cuda_with_word(size, [&](auto type) {
    return cuda_launch(c, dim3(cuda_blocks(longest), count), CUDA_BLOCK,
                       copy_pieces<decltype(type)>, pieces);
  });
}

// -- ends of sequences

// x (steps, n, width): rows behind the last step of each sequence become 0.
template <typename word>
static __global__ void clear_ended(word *x, const int64_t *last, int64_t count, int64_t batch,
                                   int64_t width) {
  CUDA_EACH(i, count) {
    const int64_t row = i / width;
    if (row / batch > last[row % batch]) x[i] = 0;
  }
}

// `last` lies on the host.
static moon_status clear_behind(cuda_context *c, const device_array *last, const device_array *x) {
  cuda_scratch there(c);
  if (!last) return MOON_OK;
  const size_t bytes = (size_t)array_count(last) * sizeof(int64_t);
  const int64_t count = array_count(x);
  MOON_TRY(there.take(bytes));
  MOON_TRY(cuda_upload(c, last->data, there.as<void>(), bytes));
  return cuda_with_word(dtype_size(x->dtype), [&](auto type) {
    typedef decltype(type) word;
    return cuda_launch(c, cuda_blocks(count), CUDA_BLOCK, clear_ended<word>, (word *)x->data,
                       (const int64_t *)there.as<int64_t>(), count, x->shape[1], x->shape[2]);
  });
}

// -- arrays as the library reads them

// An array itself, or its dense copy, for the length of a slot.
class rnn_array {
 public:
  explicit rnn_array(cuda_context *c) : context_(c), copy_(c) {}
  moon_status open(const device_array *array, bool aligned) {
    if (!array) return MOON_OK;
    array_ = *array;
    if (array_is_contiguous(array) && (!aligned || (uintptr_t)array->data % ALIGNED == 0))
      return MOON_OK;
    int64_t stride = 1;
    for (int i = array->ndim - 1; i >= 0; i--) {
      array_.strides[i] = stride;
      stride *= array->shape[i];
    }
    MOON_TRY(copy_.take((size_t)stride * dtype_size(array->dtype)));
    array_.data = copy_.as<void>();
    return cuda_copy(context_, array, &array_);
  }
  const device_array *array() const { return array_.data ? &array_ : nullptr; }
  void *data() const { return array_.data; }

 private:
  cuda_context *context_;
  cuda_scratch copy_;
  device_array array_ = {};
};

static void *data_of(const device_array *array) { return array ? array->data : nullptr; }

// The weights of a call in the packed space, which is `space`.
static moon_status pack_weights(cuda_context *c, const rnn_plan *plan, const recurrent_arrays *a,
                                cuda_scratch *space) {
  rnn_array w[2][CELL_PARAMETERS] = {
    { rnn_array(c), rnn_array(c), rnn_array(c), rnn_array(c) },
    { rnn_array(c), rnn_array(c), rnn_array(c), rnn_array(c) },
  };
  const device_array *weights[2][CELL_PARAMETERS];
  for (int d = 0; d < 2; d++) {
    for (int k = 0; k < CELL_PARAMETERS; k++) {
      MOON_TRY(w[d][k].open(a->weights[d][k], false));
      weights[d][k] = w[d][k].array();
    }
  }
  MOON_TRY(space->take(plan->weights));
  return move_weights(c, plan, weights, space->as<char>(), true);
}

// -- the slots

// What the library does not support is no failure: `done` is false then, and it is not asked again.
static moon_status finish(cuda_context *c, const char *call, cudnnStatus_t status, rnn_plan *plan,
                          bool *done) {
  *done = status == CUDNN_STATUS_SUCCESS;
  if (*done) return MOON_OK;
  if (CUDNN_STATUS_CATEGORY(status) != CUDNN_STATUS_NOT_SUPPORTED)
    return cuda_library_failed(c, call, rnn.cudnnGetErrorString(status));
  plan->fits = false;
  return MOON_OK;
}

// Lengths of sequences are on the host, where a graph's runs would not read them again.
moon_status cuda_recurrent_offered(cuda_context *c, const recurrent_options *options,
                                   bool *offered, int64_t *reserve) {
  rnn_plan *plan;
  *offered = false;
  *reserve = 0;
  if (options->uneven && c->recording) return MOON_OK;
  MOON_TRY(cudnn_rnn_plan(c, options, &plan));
  if (!plan) return MOON_OK;
  *offered = (int64_t)plan->workspace <= cuda_library->settings(c->engine).workspace_limit;
  *reserve = (int64_t)plan->reserve;
  return MOON_OK;
}

// The plan of a layer that was offered.
static moon_status open_plan(cuda_context *c, const recurrent_options *options,
                             const recurrent_arrays *a, rnn_plan **plan) {
  bool agreed = true;
  MOON_TRY(cudnn_rnn_plan(c, options, plan));
  if (*plan && options->uneven)
    MOON_TRY(cudnn_rnn_lengths(*plan, (const int64_t *)a->last->data, &agreed));
  if (!agreed) *plan = nullptr;
  return MOON_OK;
}

moon_status cuda_recurrent_forward(cuda_context *c, const recurrent_options *options,
                                   const recurrent_arrays *a, bool *done) {
  rnn_array x(c), h0(c), c0(c);
  cuda_scratch weights(c), workspace(c);
  rnn_plan *plan;
  *done = false;
  MOON_TRY(open_plan(c, options, a, &plan));
  if (!plan) return MOON_OK;
  MOON_TRY(x.open(a->x, true));
  MOON_TRY(h0.open(a->h0, true));
  MOON_TRY(c0.open(a->c0, true));
  MOON_TRY(pack_weights(c, plan, a, &weights));
  MOON_TRY(workspace.take(plan->workspace));
  cudnnStatus_t status = rnn.cudnnRNNForward(
      cudnn_handle(c), plan->layer,
      options->training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE, nullptr, plan->x,
      x.data(), plan->y, a->y->data, plan->state, h0.data(), a->h->data,
      options->kind == LSTM ? plan->state : nullptr, c0.data(), data_of(a->c), plan->weights,
      weights.as<void>(), plan->workspace, workspace.as<void>(), plan->reserve,
      data_of(a->reserve));
  MOON_TRY(finish(c, "cudnnRNNForward", status, plan, done));
  if (!*done) return MOON_OK;
  cuda_library->chose(c->engine, "cudnn");
  return clear_behind(c, a->last, a->y);
}

// What both calls of the backward pass read.
struct rnn_backward {
  explicit rnn_backward(cuda_context *c)
      : x(c), h0(c), c0(c), y(c), dy(c), dh(c), dc(c), weights(c), workspace(c) {}
  rnn_array x, h0, c0, y, dy, dh, dc;
  cuda_scratch weights, workspace;
};

static moon_status open_backward(cuda_context *c, const rnn_plan *plan, const recurrent_arrays *a,
                                 cuda_scratch *zeros, rnn_backward *b) {
  MOON_TRY(b->x.open(a->x, true));
  MOON_TRY(b->h0.open(a->h0, true));
  MOON_TRY(b->c0.open(a->c0, true));
  MOON_TRY(b->y.open(a->y, true));
  MOON_TRY(b->dy.open(a->dy, true));
  MOON_TRY(b->dh.open(a->dh, true));
  MOON_TRY(b->dc.open(a->dc, true));
  MOON_TRY(b->workspace.take(plan->workspace));
  if (a->dy) return MOON_OK;   // the one gradient that must be there
  const size_t bytes = (size_t)array_count(a->y) * dtype_size(a->y->dtype);
  MOON_TRY(zeros->take(bytes));
  CUDA_TRY(cudaMemsetAsync(zeros->as<void>(), 0, bytes, c->stream));
  return MOON_OK;
}

static moon_status backward_data(cuda_context *c, const recurrent_options *options,
                                 const recurrent_arrays *a, rnn_plan *plan, const rnn_backward &b,
                                 const void *dy, bool *done) {
  cudnnStatus_t status = rnn.cudnnRNNBackwardData_v8(
      cudnn_handle(c), plan->layer, nullptr, plan->y, b.y.data(), dy, plan->x, a->dx->data,
      plan->state, b.h0.data(), b.dh.data(), data_of(a->dh0),
      options->kind == LSTM ? plan->state : nullptr, b.c0.data(), b.dc.data(), data_of(a->dc0),
      plan->weights, b.weights.as<void>(), plan->workspace, b.workspace.as<void>(), plan->reserve,
      data_of(a->reserve));
  MOON_TRY(finish(c, "cudnnRNNBackwardData_v8", status, plan, done));
  return *done ? clear_behind(c, a->last, a->dx) : MOON_OK;
}

static bool wants_weights(const recurrent_arrays *a) {
  for (int d = 0; d < 2; d++)
    for (int k = 0; k < CELL_PARAMETERS; k++)
      if (a->dweights[d][k]) return true;
  return false;
}

// The library adds its gradients to what is there.
static moon_status backward_weights(cuda_context *c, const recurrent_arrays *a, rnn_plan *plan,
                                    const rnn_backward &b, bool *done) {
  cuda_scratch gradients(c);
  MOON_TRY(gradients.take(plan->weights));
  CUDA_TRY(cudaMemsetAsync(gradients.as<void>(), 0, plan->weights, c->stream));
  cudnnStatus_t status = rnn.cudnnRNNBackwardWeights_v8(
      cudnn_handle(c), plan->layer, CUDNN_WGRAD_MODE_ADD, nullptr, plan->x, b.x.data(),
      plan->state, b.h0.data(), plan->y, b.y.data(), plan->weights, gradients.as<void>(),
      plan->workspace, b.workspace.as<void>(), plan->reserve, data_of(a->reserve));
  MOON_TRY(finish(c, "cudnnRNNBackwardWeights_v8", status, plan, done));
  return *done ? move_weights(c, plan, a->dweights, gradients.as<char>(), false) : MOON_OK;
}

moon_status cuda_recurrent_backward(cuda_context *c, const recurrent_options *options,
                                    const recurrent_arrays *a) {
  cuda_scratch zeros(c);
  rnn_backward b(c);
  rnn_plan *plan;
  bool done = false;
  MOON_TRY(open_plan(c, options, a, &plan));
  if (plan && array_count(a->reserve) == (int64_t)plan->reserve) {
    MOON_TRY(open_backward(c, plan, a, &zeros, &b));
    MOON_TRY(pack_weights(c, plan, a, &b.weights));
    const void *dy = a->dy ? b.dy.data() : zeros.as<void>();
    MOON_TRY(backward_data(c, options, a, plan, b, dy, &done));
  }
  if (done && wants_weights(a)) MOON_TRY(backward_weights(c, a, plan, b, &done));
  if (done) cuda_library->chose(c->engine, "cudnn");
  return done ? MOON_OK
              : moon_fail(MOON_UNSUPPORTED, "cuDNN refused the gradient of a recurrent layer "
                          "that it ran forward, or moon.cuda.tf32 or moon.precise changed in "
                          "between; run the step again");
}
