// cuDNN's functions of recurrent networks, and a plan for each layer that was met. Its standard
// algorithm alone is taken, one layer a call, without its dropout, whose masks are not ours; its
// gates have our order, and its GRU, too, resets behind the product with the state.
//
// Sequences that all have every step are given to it packed, which lies as ours do; uneven ones
// padded. It reads their lengths on the host, where descriptors keep them, and since 8.9.1 wants no
// copy of them on the device.
#include "cudnn_rnn_plan.cuh"

#include <stdlib.h>
#include <string.h>

rnn_functions rnn;

void cudnn_rnn_look_up(cuda_opening *opening) {
#define F(name) rnn.name = (decltype(rnn.name))cuda_library_function(opening, #name);
  RNN_FUNCTIONS(F)
#undef F
}

// -- plans

enum { PLANS = 128 };

struct cudnn_rnn_state { rnn_plan plans[PLANS]; };

static void plan_end(rnn_plan *plan) {
  if (plan->layer) rnn.cudnnDestroyRNNDescriptor(plan->layer);
  if (plan->dropout) rnn.cudnnDestroyDropoutDescriptor(plan->dropout);
  if (plan->x) rnn.cudnnDestroyRNNDataDescriptor(plan->x);
  if (plan->y) rnn.cudnnDestroyRNNDataDescriptor(plan->y);
  if (plan->state) rnn.cudnnDestroyTensorDescriptor(plan->state);
  *plan = rnn_plan();
}

void cudnn_rnn_close(cuda_context *c) {
  if (!c->cudnn_rnn) return;
  for (int i = 0; i < PLANS; i++) plan_end(&c->cudnn_rnn->plans[i]);
  free(c->cudnn_rnn);
  c->cudnn_rnn = nullptr;
}

// -- descriptors; each of these says whether the library agreed

static bool agreed(cudnnStatus_t status) { return status == CUDNN_STATUS_SUCCESS; }

static cudnnRNNMode_t mode_of(int32_t kind) {
  switch (kind) {
    case RNN_RELU: return CUDNN_RNN_RELU;
    case LSTM: return CUDNN_LSTM;
    case GRU: return CUDNN_GRU;
    default: return CUDNN_RNN_TANH;
  }
}

// Halves go to tensor cores; float32 is multiplied in full unless the context allows less.
static cudnnMathType_t math_of(const rnn_key &key) {
  if (dtype_is_half((moon_dtype)key.dtype)) return CUDNN_TENSOR_OP_MATH;
  return key.dtype == MOON_F32 && !key.tf32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
}

static bool make_layer(cudnnHandle_t handle, rnn_plan *plan) {
  const rnn_key &key = plan->key;
  return agreed(rnn.cudnnCreateDropoutDescriptor(&plan->dropout)) &&
         agreed(rnn.cudnnSetDropoutDescriptor(plan->dropout, handle, 0, nullptr, 0, 0)) &&
         agreed(rnn.cudnnCreateRNNDescriptor(&plan->layer)) &&
         agreed(rnn.cudnnSetRNNDescriptor_v8(
             plan->layer, CUDNN_RNN_ALGO_STANDARD, mode_of(key.kind),
             key.biased ? CUDNN_RNN_DOUBLE_BIAS : CUDNN_RNN_NO_BIAS,
             key.directions == 2 ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT,
             cudnn_type_of(key.dtype), key.dtype == MOON_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT,
             math_of(key), key.inputs, key.hidden, key.hidden, 1, plan->dropout,
             key.uneven ? CUDNN_RNN_PADDED_IO_ENABLED : CUDNN_RNN_PADDED_IO_DISABLED));
}

static bool make_state(rnn_plan *plan) {
  const rnn_key &key = plan->key;
  const int shape[3] = { key.directions, key.batch, key.hidden };
  const int strides[3] = { key.batch * key.hidden, key.hidden, 1 };
  return agreed(rnn.cudnnCreateTensorDescriptor(&plan->state)) &&
         agreed(rnn.cudnnSetTensorNdDescriptor(plan->state, cudnn_type_of(key.dtype), 3, shape,
                                               strides));
}

static bool set_data(const rnn_key &key, int32_t width, const int *lengths,
                     cudnnRNNDataDescriptor_t data) {
  return agreed(rnn.cudnnSetRNNDataDescriptor(
      data, cudnn_type_of(key.dtype),
      key.uneven ? CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED
                 : CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED,
      key.steps, key.batch, width, lengths, nullptr));
}

moon_status cudnn_rnn_lengths(rnn_plan *plan, const int64_t *last, bool *set) {
  const rnn_key &key = plan->key;
  int *lengths = (int *)malloc((size_t)key.batch * sizeof *lengths);
  if (!lengths) return moon_fail(MOON_OUT_OF_MEMORY, "cuda: no memory for lengths of sequences");
  for (int i = 0; i < key.batch; i++) lengths[i] = last ? (int)last[i] + 1 : key.steps;
  *set = set_data(key, key.inputs, lengths, plan->x) &&
         set_data(key, key.directions * key.hidden, lengths, plan->y);
  free(lengths);
  return MOON_OK;
}

static bool ask_sizes(cudnnHandle_t handle, rnn_plan *plan) {
  cudnnForwardMode_t mode = plan->key.training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE;
  return agreed(rnn.cudnnGetRNNWeightSpaceSize(handle, plan->layer, &plan->weights)) &&
         agreed(rnn.cudnnGetRNNTempSpaceSizes(handle, plan->layer, mode, plan->x, &plan->workspace,
                                              &plan->reserve));
}

// The library tells addresses in a space that must be there.
static bool find_gates(cudnnHandle_t handle, rnn_plan *plan, char *space,
                       cudnnTensorDescriptor_t matrix, cudnnTensorDescriptor_t bias) {
  const int gates = cell_gates((cell_kind)plan->key.kind);
  for (int d = 0; d < plan->key.directions; d++) {
    for (int i = 0; i < 2 * gates; i++) {   // those of the input, then those of the state
      const int gate = i % gates, side = i / gates;
      void *weights = nullptr, *biases = nullptr;
      if (!agreed(rnn.cudnnGetRNNWeightParams(handle, plan->layer, d, plan->weights, space, i,
                                              matrix, &weights, bias, &biases)))
        return false;
      if (!weights || (plan->key.biased && !biases)) return false;
      plan->gates[d][side][gate] = (char *)weights - space;
      if (plan->key.biased) plan->gates[d][2 + side][gate] = (char *)biases - space;
    }
  }
  return true;
}

static moon_status place_gates(cuda_context *c, cudnnHandle_t handle, rnn_plan *plan) {
  cudnnTensorDescriptor_t described[2] = { nullptr, nullptr };
  cuda_scratch space(c);
  MOON_TRY(space.take(plan->weights));
  plan->fits = agreed(rnn.cudnnCreateTensorDescriptor(&described[0])) &&
               agreed(rnn.cudnnCreateTensorDescriptor(&described[1])) &&
               find_gates(handle, plan, space.as<char>(), described[0], described[1]);
  for (cudnnTensorDescriptor_t one : described)
    if (one) rnn.cudnnDestroyTensorDescriptor(one);
  return MOON_OK;
}

static moon_status make_plan(cuda_context *c, cudnnHandle_t handle, rnn_plan *plan) {
  bool set = false;
  if (!make_layer(handle, plan) || !make_state(plan) ||
      !agreed(rnn.cudnnCreateRNNDataDescriptor(&plan->x)) ||
      !agreed(rnn.cudnnCreateRNNDataDescriptor(&plan->y)))
    return MOON_OK;
  MOON_TRY(cudnn_rnn_lengths(plan, nullptr, &set));
  return set && ask_sizes(handle, plan) ? place_gates(c, handle, plan) : MOON_OK;
}

// -- the entry

// Recurrent networks have bfloat16 since 9.13; nothing says how versions before refuse it.
static bool has_type(moon_dtype dtype) {
  const int64_t bfloat_since = 91300;
  return dtype != MOON_BF16 || cudnn_version() >= bfloat_since;
}

// False where numbers are larger than the library's, or 0.
static bool set_size(int64_t size, int32_t *to) {
  *to = (int32_t)size;
  return size >= 1 && size <= INT32_MAX;
}

static bool set_key(cuda_context *c, const recurrent_options *o, rnn_key *key) {
  memset(key, 0, sizeof *key);
  key->kind = o->kind;
  key->dtype = o->dtype;
  key->directions = o->directions;
  key->biased = o->biased;
  key->uneven = o->uneven;
  key->training = o->training;
  key->tf32 = c->flags[CUDA_TF32] && !cuda_library->settings(c->engine).precise;
  bool fits = set_size(o->steps, &key->steps) && set_size(o->batch, &key->batch) &&
              set_size(o->inputs, &key->inputs) && set_size(o->hidden, &key->hidden);
  const int64_t widest = o->inputs > o->directions * o->hidden ? o->inputs
                                                               : o->directions * o->hidden;
  return fits && has_type(o->dtype) && o->steps * o->batch <= INT32_MAX / widest;
}

// A plan that does not fit stays in its place, so that the library is not asked again.
moon_status cudnn_rnn_plan(cuda_context *c, const recurrent_options *options, rnn_plan **found) {
  cudnnHandle_t handle = cudnn_handle(c);
  rnn_key key;
  *found = nullptr;
  if (!handle || !set_key(c, options, &key)) return MOON_OK;
  if (!c->cudnn_rnn) c->cudnn_rnn = (cudnn_rnn_state *)calloc(1, sizeof *c->cudnn_rnn);
  if (!c->cudnn_rnn) return moon_fail(MOON_OUT_OF_MEMORY, "cuda: no memory for plans of cuDNN's");
  rnn_plan *plan = cuda_plan_find(c->cudnn_rnn->plans, PLANS, key);
  if (!plan->used || memcmp(&plan->key, &key, sizeof key) != 0) {
    plan_end(plan);
    plan->used = true;
    memcpy(&plan->key, &key, sizeof key);
    moon_status status = make_plan(c, handle, plan);
    if (status != MOON_OK) plan_end(plan);
    MOON_TRY(status);
  }
  if (plan->fits) *found = plan;
  return MOON_OK;
}
