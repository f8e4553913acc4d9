// A recurrent layer in one go: the hidden operator recurrent_layer, which runs where a device's
// library offers it, and the choice between it and the composition. See recurrent_layer.h.
#include "ops/recurrent_layer.h"

#include "autograd/autocast.h"
#include "ops/formula.h"

cell_weights recurrent_weights(const op_value *args, int direction) {
  int each = args[LAYER_WEIGHTS].tensors.count / (int)args[LAYER_DIRECTIONS].integer;
  moon_tensor **w = args[LAYER_WEIGHTS].tensors.list + direction * each;
  bool biased = each == CELL_PARAMETERS;
  return (cell_weights){ w[0], w[1], biased ? w[2] : NULL, biased ? w[3] : NULL };
}

static recurrent_options options_of(const op_value *args, moon_dtype dtype, bool training) {
  const moon_tensor *x = args[LAYER_INPUT].tensor;
  const cell_weights w = recurrent_weights(args, 0);
  return (recurrent_options){
    .kind = (cell_kind)args[LAYER_KIND].integer, .dtype = dtype, .biased = w.b_ih != NULL,
    .directions = (int)args[LAYER_DIRECTIONS].integer, .uneven = args[LAYER_LAST].tensor != NULL,
    .training = training, .steps = x->shape[0], .batch = x->shape[1], .inputs = x->shape[2],
    .hidden = w.w_hh->shape[1],
  };
}

// -- arrays: the slots' struct, and room for what it points to

enum { LAYER_MOST_ARRAYS = 32 };

typedef struct layer_arrays {
  recurrent_arrays of;
  device_array room[LAYER_MOST_ARRAYS];
  int used;
} layer_arrays;

static const device_array *array_of(layer_arrays *a, const moon_tensor *tensor) {
  if (!tensor) return NULL;
  a->room[a->used] = tensor_array(tensor);
  return &a->room[a->used++];
}

// `list` as weights lie in an argument; members may be NULL.
static void lay_weights(layer_arrays *a, const recurrent_options *o, moon_tensor *const *list,
                        const device_array *(*weights)[CELL_PARAMETERS]) {
  int each = o->biased ? CELL_PARAMETERS : 2;
  for (int d = 0; d < o->directions; d++)
    for (int k = 0; k < each; k++) weights[d][k] = array_of(a, list[d * each + k]);
}

static void lay_call(layer_arrays *a, const recurrent_options *o, const op_value *args,
                     moon_tensor *const *results) {
  a->of.x = array_of(a, args[LAYER_INPUT].tensor);
  a->of.h0 = array_of(a, args[LAYER_H0].tensor);
  a->of.c0 = array_of(a, args[LAYER_C0].tensor);
  a->of.last = array_of(a, args[LAYER_LAST].tensor);
  lay_weights(a, o, args[LAYER_WEIGHTS].tensors.list, a->of.weights);
  a->of.y = array_of(a, results[LAYER_OUT]);
  a->of.reserve = array_of(a, results[LAYER_RESERVE]);
}

// Whether x's device takes the layer, and the bytes that its backward wants kept.
static moon_status ask(moon_engine *engine, const moon_tensor *x, const recurrent_options *o,
                       bool *offered, int64_t *reserve) {
  const device_kernels *kernels = tensor_kernels(x);
  *offered = false;
  return kernels->recurrent_offered ? kernels->recurrent_offered(engine, o, offered, reserve)
                                    : MOON_OK;
}

// -- forward

static moon_status make_results(op_call *call, const recurrent_options *o, int64_t reserve) {
  const moon_tensor *x = call->args[LAYER_INPUT].tensor;
  const int64_t out[3] = { o->steps, o->batch, o->directions * o->hidden };
  const int64_t state[3] = { o->directions, o->batch, o->hidden };
  MOON_TRY(ops_new(call->engine, x, x->dtype, 3, out, &call->results[LAYER_OUT]));
  MOON_TRY(ops_new(call->engine, x, x->dtype, 3, state, &call->results[LAYER_H]));
  if (o->kind == LSTM)
    MOON_TRY(ops_new(call->engine, x, x->dtype, 3, state, &call->results[LAYER_C]));
  if (!o->training) return MOON_OK;
  return ops_new(call->engine, x, MOON_U8, 1, &reserve, &call->results[LAYER_RESERVE]);
}

static moon_status forward_layer(op_call *call) {
  const moon_tensor *x = call->args[LAYER_INPUT].tensor;
  const recurrent_options o = options_of(call->args, x->dtype, call->recording);
  layer_arrays a = { .used = 0 };
  int64_t reserve;
  bool done;
  MOON_TRY(ask(call->engine, x, &o, &done, &reserve));
  if (done) {
    MOON_TRY(make_results(call, &o, reserve));
    lay_call(&a, &o, call->args, call->results);
    a.of.h = array_of(&a, call->results[LAYER_H]);
    a.of.c = array_of(&a, call->results[LAYER_C]);
    MOON_TRY(tensor_kernels(x)->recurrent_forward(call->engine, &o, &a.of, &done));
  }
  if (done) return MOON_OK;
  return moon_fail(MOON_UNSUPPORTED, "the library of %s does not take this layer",
                   tensor_device(x)->name);
}

// -- backward

// The reserve may be spoilt, unless it is wanted again.
static moon_status take_reserve(op_backward_call *call, moon_tensor **reserve) {
  moon_tensor *saved = call->results[LAYER_RESERVE];
  if (call->retained) return ops_converted(call->engine, saved, MOON_U8, reserve);
  *reserve = tensor_retain(saved);
  return MOON_OK;
}

static moon_status new_like(op_backward_call *call, const moon_tensor *model, moon_tensor **made) {
  return ops_new(call->engine, model, model->dtype, model->ndim, model->shape, made);
}

// The input's gradient is made whether it is wanted or not.
static moon_status make_gradients(op_backward_call *call) {
  const op_value *args = call->args;
  MOON_TRY(new_like(call, args[LAYER_INPUT].tensor, &call->out[LAYER_INPUT]));
  for (int i = LAYER_H0; i <= LAYER_C0; i++)
    if (call->needs[i]) MOON_TRY(new_like(call, args[i].tensor, &call->out[i]));
  for (int k = 0; k < args[LAYER_WEIGHTS].tensors.count; k++)
    if (call->list_needs[k])
      MOON_TRY(new_like(call, args[LAYER_WEIGHTS].tensors.list[k], &call->list_out[k]));
  return MOON_OK;
}

static moon_status run_backward(op_backward_call *call, const moon_tensor *dy,
                                const moon_tensor *reserve) {
  const moon_tensor *x = call->args[LAYER_INPUT].tensor;
  const recurrent_options o = options_of(call->args, x->dtype, true);
  layer_arrays a = { .used = 0 };
  lay_call(&a, &o, call->args, call->results);
  a.of.reserve = array_of(&a, reserve);
  a.of.dy = array_of(&a, dy);
  a.of.dh = array_of(&a, call->grads[LAYER_H]);
  a.of.dc = array_of(&a, call->grads[LAYER_C]);
  a.of.dx = array_of(&a, call->out[LAYER_INPUT]);
  a.of.dh0 = array_of(&a, call->out[LAYER_H0]);
  a.of.dc0 = array_of(&a, call->out[LAYER_C0]);
  lay_weights(&a, &o, call->list_out, a.of.dweights);
  return tensor_kernels(x)->recurrent_backward(call->engine, &o, &a.of);
}

static moon_status backward_layer(op_backward_call *call) {
  moon_tensor *reserve;
  if (call->engine->grad_enabled) return formula_backward(call, recurrent_composed);
  MOON_TRY(take_reserve(call, &reserve));
  moon_status status = make_gradients(call);
  if (status == MOON_OK) status = run_backward(call, call->grads[LAYER_OUT], reserve);
  tensor_release(reserve);
  if (!call->needs[LAYER_INPUT]) {
    tensor_release(call->out[LAYER_INPUT]);
    call->out[LAYER_INPUT] = NULL;
  }
  return status;
}

// -- the choice

// The type that mixed precision would cast the input to, as the operator says.
static moon_dtype type_cast_to(const moon_engine *engine, moon_dtype dtype) {
  return engine->autocast && dtype == MOON_F32 ? engine->autocast->dtype : dtype;
}

static moon_status run_library(moon_engine *engine, op_value *args, moon_tensor **last_on_host,
                               moon_tensor **results) {
  op_value given[LAYER_ARGUMENTS];
  for (int i = 0; i < LAYER_ARGUMENTS; i++) given[i] = args[i];
  if (args[LAYER_LAST].tensor && !*last_on_host)
    MOON_TRY(ops_to_device(engine, args[LAYER_LAST].tensor, device_cpu(), last_on_host));
  if (args[LAYER_LAST].tensor) given[LAYER_LAST] = op_tensor(*last_on_host);
  return op_apply(engine, ops_get(OP_recurrent_layer), given, results);
}

// The library is asked for training where the tape records, though it may turn out that nothing
// wants a gradient: then the operator asks for the other.
moon_status recurrent_layer(moon_engine *engine, op_value *args, moon_tensor **last_on_host,
                            moon_tensor **results) {
  const moon_tensor *x = args[LAYER_INPUT].tensor;
  const recurrent_options o = options_of(args, type_cast_to(engine, x->dtype),
                                         engine->grad_enabled);
  int64_t reserve;
  bool offered;
  MOON_TRY(ask(engine, x, &o, &offered, &reserve));
  if (offered) {
    moon_status status = run_library(engine, args, last_on_host, results);
    if (status != MOON_UNSUPPORTED) return status;
  }
  op_call call = { .engine = engine, .op = ops_get(OP_recurrent_layer), .args = args };
  moon_status status = recurrent_composed(&call);
  for (int i = 0; i < OP_MAX_RESULTS; i++) {
    results[i] = status == MOON_OK ? call.results[i] : NULL;
    if (status != MOON_OK) tensor_release(call.results[i]);
  }
  return status;
}

static op_descriptor descriptors[] = {
  { .name = "recurrent_layer", .dtypes = OP_FLOATS, .casts = OP_CASTS_LOW,
    .flags = OP_HIDDEN | OP_HOST_TABLES,
    .schema = "(input: Tensor, weights: Tensor[], h0: Tensor?, c0: Tensor?, last: Tensor?, "
              "kind: int, directions: int) -> out, h, c, [reserve]",
    .saves = "input weights h0 c0 last out reserve",
    .doc = "One layer of rnn, lstm or gru where the device's library has it.",
    .forward = forward_layer, .backward = backward_layer },
};
OP_FAMILY(recurrent_layer, descriptors);
