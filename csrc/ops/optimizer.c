// Optimiser steps: a parameter and its state moved in place in one pass over memory, by the update
// rules of PyTorch. They are exposed as sgd_step_ and adam_step_ only and are meant to run without
// the tape. Tensors that do not lie contiguously go through a copy that is written back.
#include <inttypes.h>
#include <math.h>

#include "ops/support.h"
#include "ops/target.h"

enum { PARAMETER, GRADIENT };   // the first two of both operators

// The tensors that a step writes: each as it lies, or through a contiguous copy.
enum { MAX_WRITTEN = 3 };
typedef struct written {
  moon_tensor *target, *work;
} written;

static moon_status check_tensor(const moon_tensor *parameter, const char *name,
                                const moon_tensor *tensor) {
  char p[TENSOR_SHAPE_TEXT], t[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_same_dtype("parameter", parameter, name, tensor));
  if (tensor_same_shape(parameter, tensor)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have the shape of parameter, %s, got %s", name,
                   tensor_shape_text(parameter, p), tensor_shape_text(tensor, t));
}

static moon_status check_state(const moon_tensor *parameter, const char *name,
                               const moon_tensor *state) {
  MOON_TRY(check_tensor(parameter, name, state));
  MOON_TRY(target_check(state));
  if (tensor_data(state) != tensor_data(parameter) || tensor_count(state) == 0) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s must not be the parameter itself", name);
}

static moon_status check_parameter(const op_value *args) {
  MOON_TRY(ops_need_float("parameter", args[PARAMETER].tensor));
  return check_tensor(args[PARAMETER].tensor, "gradient", args[GRADIENT].tensor);
}

static moon_status check_number(const char *name, double value) {
  if (value >= 0 && isfinite(value)) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s must be a number not below 0, got %g", name, value);
}

// Writes the copies back and counts the write; after a failure the copies are dropped.
static moon_status close_written(moon_engine *engine, written *all, int count, const char *writer,
                                 moon_status status) {
  for (int i = 0; i < count; i++) {
    moon_tensor *target = all[i].target;
    if (!all[i].work) continue;
    if (status == MOON_OK && tensor_data(all[i].work) != tensor_data(target))
      status = ops_copy(engine, all[i].work, target);
    tensor_touch(target);
    target->storage->last_writer = writer;
    tensor_release(all[i].work);
  }
  return status;
}

// Opens every target and the gradient, and hands their arrays to `run`.
typedef moon_status (*step_run)(moon_engine *engine, const void *options,
                                const device_kernels *kernels, const device_array *gradient,
                                const device_array *arrays);

static moon_status run_step(op_call *call, written *all, int count, const void *options,
                            step_run run) {
  moon_tensor *parameter = call->args[PARAMETER].tensor, *apart, *gradient;
  device_array arrays[MAX_WRITTEN];
  MOON_TRY(target_apart(call->engine, call->args[GRADIENT].tensor, parameter, &apart));
  moon_status status = ops_contiguous(call->engine, apart, &gradient);
  tensor_release(apart);
  MOON_TRY(status);
  for (int i = 0; i < count && status == MOON_OK; i++)
    status = ops_contiguous(call->engine, all[i].target, &all[i].work);
  for (int i = 0; i < count && status == MOON_OK; i++) arrays[i] = tensor_array(all[i].work);
  if (status == MOON_OK) {
    device_array g = tensor_array(gradient);
    status = run(call->engine, options, tensor_kernels(parameter), &g, arrays);
  }
  tensor_release(gradient);
  return close_written(call->engine, all, count, call->op->name, status);
}

// -- sgd_step

enum { SGD_MOMENTUM_BUFFER = 2, SGD_LR, SGD_MOMENTUM, SGD_DAMPENING, SGD_WEIGHT_DECAY,
       SGD_NESTEROV, SGD_FIRST };

static moon_status run_sgd(moon_engine *engine, const void *options, const device_kernels *kernels,
                           const device_array *gradient, const device_array *arrays) {
  const sgd_options *sgd = options;
  return kernels->sgd_step(engine, sgd, &arrays[0], gradient,
                           sgd->momentum != 0 ? &arrays[1] : NULL);
}

static moon_status read_sgd(const op_value *args, sgd_options *sgd) {
  const moon_tensor *buffer = args[SGD_MOMENTUM_BUFFER].tensor;
  *sgd = (sgd_options){ .lr = args[SGD_LR].number, .momentum = args[SGD_MOMENTUM].number,
                        .dampening = args[SGD_DAMPENING].number,
                        .weight_decay = args[SGD_WEIGHT_DECAY].number,
                        .nesterov = args[SGD_NESTEROV].boolean,
                        .first = args[SGD_FIRST].boolean };
  MOON_TRY(check_parameter(args));
  MOON_TRY(check_number("lr", sgd->lr));
  MOON_TRY(check_number("momentum", sgd->momentum));
  MOON_TRY(check_number("weight_decay", sgd->weight_decay));
  if (sgd->nesterov && (sgd->momentum == 0 || sgd->dampening != 0))
    return moon_fail(MOON_BAD_ARGUMENT, "nesterov needs a momentum and no dampening, got momentum "
                     "%g and dampening %g", sgd->momentum, sgd->dampening);
  if (sgd->momentum != 0 && !buffer)
    return moon_fail(MOON_BAD_ARGUMENT, "momentum %g needs a momentum_buffer of the parameter's "
                     "shape", sgd->momentum);
  return buffer ? check_state(args[PARAMETER].tensor, "momentum_buffer", buffer) : MOON_OK;
}

static moon_status forward_sgd(op_call *call) {
  sgd_options sgd;
  MOON_TRY(read_sgd(call->args, &sgd));
  written all[MAX_WRITTEN] = { { .target = call->args[PARAMETER].tensor },
                               { .target = call->args[SGD_MOMENTUM_BUFFER].tensor } };
  return run_step(call, all, sgd.momentum != 0 ? 2 : 1, &sgd, run_sgd);
}

// -- adam_step

enum { ADAM_FIRST_MOMENT = 2, ADAM_SECOND_MOMENT, ADAM_LR, ADAM_BETA1, ADAM_BETA2, ADAM_EPS,
       ADAM_WEIGHT_DECAY, ADAM_STEP, ADAM_DECOUPLED };

static moon_status run_adam(moon_engine *engine, const void *options, const device_kernels *kernels,
                            const device_array *gradient, const device_array *arrays) {
  return kernels->adam_step(engine, options, &arrays[0], gradient, &arrays[1], &arrays[2]);
}

static moon_status check_beta(const char *name, double beta) {
  if (beta >= 0 && beta < 1) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "%s must lie in 0..1 without 1, got %g", name, beta);
}

static moon_status read_adam(const op_value *args, adam_options *adam) {
  const moon_tensor *parameter = args[PARAMETER].tensor;
  int64_t step = args[ADAM_STEP].integer;
  double beta1 = args[ADAM_BETA1].number, beta2 = args[ADAM_BETA2].number;
  MOON_TRY(check_parameter(args));
  MOON_TRY(check_state(parameter, "first_moment", args[ADAM_FIRST_MOMENT].tensor));
  MOON_TRY(check_state(parameter, "second_moment", args[ADAM_SECOND_MOMENT].tensor));
  MOON_TRY(check_number("lr", args[ADAM_LR].number));
  MOON_TRY(check_beta("beta1", beta1));
  MOON_TRY(check_beta("beta2", beta2));
  MOON_TRY(check_number("eps", args[ADAM_EPS].number));
  MOON_TRY(check_number("weight_decay", args[ADAM_WEIGHT_DECAY].number));
  if (step < 1)
    return moon_fail(MOON_BAD_ARGUMENT, "step counts from 1, got %" PRId64, step);
  *adam = (adam_options){ .lr = args[ADAM_LR].number, .beta1 = beta1, .beta2 = beta2,
                          .epsilon = args[ADAM_EPS].number,
                          .weight_decay = args[ADAM_WEIGHT_DECAY].number,
                          .correction1 = 1 - pow(beta1, (double)step),
                          .correction2 = 1 - pow(beta2, (double)step),
                          .decoupled = args[ADAM_DECOUPLED].boolean };
  return MOON_OK;
}

static moon_status forward_adam(op_call *call) {
  adam_options adam;
  MOON_TRY(read_adam(call->args, &adam));
  written all[MAX_WRITTEN] = { { .target = call->args[PARAMETER].tensor },
                               { .target = call->args[ADAM_FIRST_MOMENT].tensor },
                               { .target = call->args[ADAM_SECOND_MOMENT].tensor } };
  return run_step(call, all, 3, &adam, run_adam);
}

static op_descriptor descriptors[] = {
  { .name = "sgd_step",
    .example = "moon.sgd_step_(moon.ones(2), moon.tensor {1, 2}, nil, {lr = 0.1}) --> "
               "{0.9, 0.8}",
    .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor, gradient: Tensor, momentum_buffer: Tensor?, lr: number, "
              "momentum: number = 0, dampening: number = 0, weight_decay: number = 0, "
              "nesterov: bool = false, first: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of stochastic gradient descent, in place. With g = gradient + weight_decay * "
           "parameter and b = momentum * momentum_buffer + (1 - dampening) * g (the first time "
           "b = g): parameter - lr * b, or under nesterov parameter - lr * (g + momentum * b) "
           "(Sutskever et al. 2013). Without momentum, parameter - lr * g.",
    .forward = forward_sgd },
  { .name = "adam_step",
    .example = "local p, m, v = moon.ones(2), moon.zeros(2), "
               "moon.zeros(2)\nmoon.adam_step_(p, moon.ones(2), m, v, {lr = 0.1, step = "
               "1}) --> {0.9, 0.9}",
    .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor, gradient: Tensor, first_moment: Tensor, second_moment: Tensor, "
              "lr: number, beta1: number = 0.9, beta2: number = 0.999, eps: number = 1e-8, "
              "weight_decay: number = 0, step: int, decoupled: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of Adam, in place: running means m of the gradient and v of its square, each "
           "divided by 1 - beta^step, move the parameter by -lr * m / (sqrt(v) + eps) (Kingma and "
           "Ba 2014). weight_decay joins the gradient, or under decoupled shrinks the parameter by "
           "lr * weight_decay (AdamW, Loshchilov and Hutter 2017). step counts from 1.",
    .forward = forward_adam },
};
OP_FAMILY(optimizer, descriptors);
