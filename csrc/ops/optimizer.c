// The two optimiser steps that every run takes, by kernels of their own: a parameter and its state
// moved in place in one pass over memory, by the update rules of PyTorch. They are exposed as
// sgd_step_ and adam_step_ only and are meant to run without the tape. Tensors that do not lie
// contiguously go through a copy that is written back. The other rules: steps.c.
#include <math.h>

#include "ops/step.h"

// -- sgd_step

enum { SGD_MOMENTUM_BUFFER = STEP_STATE, SGD_LR, SGD_MOMENTUM, SGD_DAMPENING, SGD_WEIGHT_DECAY,
       SGD_NESTEROV, SGD_FIRST };

static moon_status run_sgd(moon_engine *engine, const void *options, const device_kernels *kernels,
                           const device_array *gradient, const device_array *const *arrays) {
  return kernels->sgd_step(engine, options, arrays[0], gradient, arrays[1]);
}

static moon_status read_sgd(const op_call *call, sgd_options *sgd) {
  const op_value *args = call->args;
  *sgd = (sgd_options){ .lr = args[SGD_LR].number, .momentum = args[SGD_MOMENTUM].number,
                        .dampening = args[SGD_DAMPENING].number,
                        .weight_decay = args[SGD_WEIGHT_DECAY].number,
                        .nesterov = args[SGD_NESTEROV].boolean,
                        .first = args[SGD_FIRST].boolean };
  MOON_TRY(step_check_tensors(call, 1));
  MOON_TRY(step_check_numbers(call));
  if (sgd->nesterov && (sgd->momentum == 0 || sgd->dampening != 0))
    return moon_fail(MOON_BAD_ARGUMENT, "nesterov needs a momentum and no dampening, got momentum "
                     "%g and dampening %g", sgd->momentum, sgd->dampening);
  if (sgd->momentum != 0 && !args[SGD_MOMENTUM_BUFFER].tensor)
    return moon_fail(MOON_BAD_ARGUMENT, "momentum %g needs a momentum_buffer of the parameter's "
                     "shape", sgd->momentum);
  return MOON_OK;
}

static moon_status forward_sgd(op_call *call) {
  sgd_options sgd;
  MOON_TRY(read_sgd(call, &sgd));
  return step_apply(call, sgd.momentum != 0 ? 1 : 0, &sgd, run_sgd);
}

// -- adam_step

enum { ADAM_FIRST_MOMENT = STEP_STATE, ADAM_SECOND_MOMENT, ADAM_LARGEST, ADAM_LR, ADAM_BETA1,
       ADAM_BETA2, ADAM_EPS, ADAM_WEIGHT_DECAY, ADAM_STEP, ADAM_DECOUPLED };

static moon_status run_adam(moon_engine *engine, const void *options, const device_kernels *kernels,
                            const device_array *gradient, const device_array *const *arrays) {
  return kernels->adam_step(engine, options, arrays[0], gradient, arrays[1], arrays[2]);
}

// As adam_step, with the largest second moment in the second's place.
static moon_status run_amsgrad(moon_engine *engine, const void *options,
                               const device_kernels *kernels, const device_array *gradient,
                               const device_array *const *arrays) {
  const adam_options *adam = options;
  double shrink = adam->lr * adam->weight_decay;
  step_options o = { .sign = 1, .decay = adam->decoupled ? 0 : adam->weight_decay,
                     .keep = adam->decoupled ? 1 - shrink : 1,
                     .rate = adam->lr / adam->correction1, .beta1 = adam->beta1,
                     .beta2 = adam->beta2, .epsilon = adam->epsilon,
                     .scale = 1 / sqrt(adam->correction2) };
  return kernels->step(engine, STEP_amsgrad, &o, gradient, arrays[0], arrays + 1);
}

static moon_status forward_adam(op_call *call) {
  const op_value *args = call->args;
  MOON_TRY(step_check_tensors(call, 3));
  MOON_TRY(step_check_numbers(call));
  double beta1 = args[ADAM_BETA1].number, beta2 = args[ADAM_BETA2].number;
  double step = (double)args[ADAM_STEP].integer;
  adam_options adam = { .lr = args[ADAM_LR].number, .beta1 = beta1, .beta2 = beta2,
                        .epsilon = args[ADAM_EPS].number,
                        .weight_decay = args[ADAM_WEIGHT_DECAY].number,
                        .correction1 = 1 - pow(beta1, step), .correction2 = 1 - pow(beta2, step),
                        .decoupled = args[ADAM_DECOUPLED].boolean };
  bool amsgrad = args[ADAM_LARGEST].tensor != NULL;
  return step_apply(call, amsgrad ? 3 : 2, &adam, amsgrad ? run_amsgrad : run_adam);
}

static op_descriptor descriptors[] = {
  { .name = "sgd_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor, gradient: Tensor, momentum_buffer: Tensor?, lr: number, "
              "momentum: number = 0, dampening: number = 0, weight_decay: number = 0, "
              "nesterov: bool = false, first: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of stochastic gradient descent, in place. With g = gradient + weight_decay * "
           "parameter and b = momentum * momentum_buffer + (1 - dampening) * g (the first time "
           "b = g): parameter - lr * b, or under nesterov parameter - lr * (g + momentum * b) "
           "(Sutskever et al. 2013). Without momentum, parameter - lr * g.",
    .example = "moon.sgd_step_(moon.ones(2), moon.tensor { 1, -2 }, nil, { lr = 0.5 }) "
               "--> { 0.5, 2 }",
    .forward = forward_sgd },
  { .name = "adam_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor, gradient: Tensor, first_moment: Tensor, second_moment: Tensor, "
              "largest: Tensor?, lr: number, beta1: number = 0.9, beta2: number = 0.999, "
              "eps: number = 1e-8, weight_decay: number = 0, step: int, "
              "decoupled: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of Adam, in place: running means m of the gradient and v of its square, each "
           "divided by 1 - beta^step, move the parameter by -lr * m / (sqrt(v) + eps) (Kingma and "
           "Ba 2014). weight_decay joins the gradient, or under decoupled shrinks the parameter by "
           "lr * weight_decay (AdamW, Loshchilov and Hutter 2017). Where `largest` is given, it "
           "keeps the largest v so far and stands in its place (AMSGrad, Reddi et al. 2018). step "
           "counts from 1.",
    .example = "local m, v = moon.zeros(2), moon.zeros(2)\n"
               "moon.adam_step_(moon.ones(2), moon.tensor { 1, -2 }, m, v, "
               "{ lr = 0.5, step = 1 }) --> { 0.5, 1.5 }",
    .forward = forward_adam },
};
OP_FAMILY(optimizer, descriptors);
