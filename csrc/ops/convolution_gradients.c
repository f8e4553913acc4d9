// The gradients of convolutions, for two dimensions and three. A convolution, its input's gradient
// and its weight's are one form, linear in each of image, weight and result: the derivatives of
// each are the other two, so there are derivatives of every order.
#include "ops/convolution.h"

enum { FIRST, SECOND, REST };                          // the tensors of each
enum { INPUT, WEIGHT, BIAS, STRIDE };                  // of the convolution
enum { GRADIENT, OTHER, SIZES };                       // of its gradients
enum { OPTIONS = 4 };                                  // stride, padding, dilation, groups

typedef enum part { FORWARD, OF_INPUT, OF_WEIGHT } part;

// One of the three on a and b, with options as another had them. `made` is what its result is.
static moon_status run(op_backward_call *call, const convolution_trio *trio, part which,
                       op_value a, op_value b, const op_value *options, const op_input *made,
                       moon_tensor **result) {
  const int ops[] = { trio->forward, trio->input_gradient, trio->weight_gradient };
  op_value args[OP_MAX_PARAMS] = { [FIRST] = a, [SECOND] = b };
  int count = REST;
  if (which == FORWARD) args[count++] = op_none();   // bias
  else for (int i = 0; i < trio->ndim; i++) args[count++] = op_int(made->shape[2 + i]);
  for (int i = 0; i < OPTIONS; i++) args[count++] = options[i];
  if (which == OF_WEIGHT) args[count++] = op_dtype(made->dtype);
  return op_run(call->engine, ops_get(ops[which]), result, count, args);
}

moon_status convolution_back(op_backward_call *call, const convolution_trio *trio,
                             moon_tensor *g) {
  const op_value *args = call->args, *options = &args[STRIDE];
  if (call->needs[INPUT])
    MOON_TRY(run(call, trio, OF_INPUT, op_tensor(g), args[WEIGHT], options, &call->inputs[INPUT],
                 &call->out[INPUT]));
  if (!call->needs[WEIGHT]) return MOON_OK;
  return run(call, trio, OF_WEIGHT, op_tensor(g), args[INPUT], options, &call->inputs[WEIGHT],
             &call->out[WEIGHT]);
}

op_value convolution_all_but_channels(int ndim) {
  return op_ints(1 + ndim, (int64_t[]){ 0, 2, 3, 4 });
}

moon_status convolution_back_bias(op_backward_call *call, const convolution_trio *trio) {
  if (!call->needs[BIAS]) return MOON_OK;
  return OP_RUN(call->engine, ops_get(OP_sum), &call->out[BIAS], op_tensor(call->grads[0]),
                convolution_all_but_channels(trio->ndim));
}

moon_status convolution_back_input_gradient(op_backward_call *call,
                                            const convolution_trio *trio) {
  const op_value *args = call->args, *options = &args[SIZES + trio->ndim];
  op_value image = op_tensor(call->grads[0]);
  if (call->needs[GRADIENT])
    MOON_TRY(run(call, trio, FORWARD, image, args[OTHER], options, NULL, &call->out[GRADIENT]));
  if (!call->needs[OTHER]) return MOON_OK;
  return run(call, trio, OF_WEIGHT, args[GRADIENT], image, options, &call->inputs[OTHER],
             &call->out[OTHER]);
}

moon_status convolution_back_weight_gradient(op_backward_call *call,
                                             const convolution_trio *trio) {
  const op_value *args = call->args, *options = &args[SIZES + trio->ndim];
  op_value weight = op_tensor(call->grads[0]);
  if (call->needs[GRADIENT])
    MOON_TRY(run(call, trio, FORWARD, args[OTHER], weight, options, NULL, &call->out[GRADIENT]));
  if (!call->needs[OTHER]) return MOON_OK;
  return run(call, trio, OF_INPUT, args[GRADIENT], weight, options, &call->inputs[OTHER],
             &call->out[OTHER]);
}

moon_status convolution_read_gradient(const op_value *args, int ndim, const int64_t *weight_shape,
                                      convolution_geometry *g) {
  const op_value *options = &args[SIZES + ndim];
  *g = (convolution_geometry){ .ndim = ndim };
  for (int i = 0; i < ndim; i++) g->kernel[i] = weight_shape[2 + i];
  return convolution_options(&options[0], &options[1], &options[2], &options[3], g);
}
