// The optimiser steps that most runs take, exposed as sgd_step_ and adam_step_: parameters and
// their state moved in place in one pass over memory, by the update rules of PyTorch; meant to run
// without the tape. The other rules: steps.c.
#include <math.h>

#include "ops/step.h"

// -- sgd_step

enum { SGD_MOMENTUM_BUFFER = STEP_STATE, SGD_LR, SGD_MOMENTUM, SGD_DAMPENING, SGD_WEIGHT_DECAY,
       SGD_NESTEROV, SGD_FIRST, SGD_MAXIMIZE };

static moon_status check_sgd(const op_call *call) {
  const op_value *args = call->args;
  double momentum = args[SGD_MOMENTUM].number, dampening = args[SGD_DAMPENING].number;
  MOON_TRY(step_check_tensors(call, 1));
  MOON_TRY(step_check_numbers(call));
  if (args[SGD_NESTEROV].boolean && (momentum == 0 || dampening != 0))
    return moon_fail(MOON_BAD_ARGUMENT, "nesterov needs a momentum and no dampening, got momentum "
                     "%g and dampening %g", momentum, dampening);
  if (momentum != 0 && !args[SGD_MOMENTUM_BUFFER].given)
    return moon_fail(MOON_BAD_ARGUMENT, "momentum %g needs a momentum_buffer of the parameter's "
                     "shape", momentum);
  return MOON_OK;
}

static moon_status forward_sgd(op_call *call) {
  const op_value *args = call->args;
  MOON_TRY(check_sgd(call));
  double momentum = args[SGD_MOMENTUM].number;
  bool anew = args[SGD_FIRST].boolean || momentum == 0;
  step_options o = { .sign = args[SGD_MAXIMIZE].boolean ? -1 : 1,
                     .decay = args[SGD_WEIGHT_DECAY].number, .keep = 1,
                     .rate = args[SGD_LR].number, .beta1 = anew ? 0 : momentum,
                     .scale = anew ? 1 : 1 - args[SGD_DAMPENING].number,
                     .blend = args[SGD_NESTEROV].boolean ? momentum : 0 };
  return step_apply(call, momentum != 0 ? 1 : 0, STEP_sgd, &o);
}

// -- adam_step

enum { ADAM_FIRST_MOMENT = STEP_STATE, ADAM_SECOND_MOMENT, ADAM_LARGEST, ADAM_LR, ADAM_BETA1,
       ADAM_BETA2, ADAM_EPS, ADAM_WEIGHT_DECAY, ADAM_STEP, ADAM_DECOUPLED,
       ADAM_MAXIMIZE };

static moon_status forward_adam(op_call *call) {
  const op_value *args = call->args;
  MOON_TRY(step_check_tensors(call, 3));
  MOON_TRY(step_check_numbers(call));
  double lr = args[ADAM_LR].number, decay = args[ADAM_WEIGHT_DECAY].number;
  double beta1 = args[ADAM_BETA1].number, beta2 = args[ADAM_BETA2].number;
  double step = (double)args[ADAM_STEP].integer;
  bool decoupled = args[ADAM_DECOUPLED].boolean, amsgrad = args[ADAM_LARGEST].given;
  step_options o = { .sign = args[ADAM_MAXIMIZE].boolean ? -1 : 1, .decay = decoupled ? 0 : decay,
                     .keep = decoupled ? 1 - lr * decay : 1, .rate = lr / (1 - pow(beta1, step)),
                     .beta1 = beta1, .beta2 = beta2, .epsilon = args[ADAM_EPS].number,
                     .scale = 1 / sqrt(1 - pow(beta2, step)) };
  return step_apply(call, amsgrad ? 3 : 2, amsgrad ? STEP_amsgrad : STEP_adam, &o);
}

static op_descriptor descriptors[] = {
  { .name = "sgd_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], momentum_buffer: "
              "Tensor|Tensor[]?, lr: number, momentum: number = 0, dampening: number = 0, "
              "weight_decay: number = 0, nesterov: bool = false, first: bool = false, "
              "maximize: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of stochastic gradient descent, in place. With g = gradient + weight_decay * "
           "parameter and b = momentum * momentum_buffer + (1 - dampening) * g (the first time "
           "b = g): parameter - lr * b, or under nesterov parameter - lr * (g + momentum * b) "
           "(Sutskever et al. 2013). Without momentum, parameter - lr * g.",
    .example = "moon.sgd_step_(moon.ones(2), moon.tensor { 1, -2 }, nil, { lr = 0.5 }) "
               "--> { 0.5, 2 }",
    .forward = forward_sgd },
  { .name = "adam_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], first_moment: "
              "Tensor|Tensor[], second_moment: Tensor|Tensor[], largest: Tensor|Tensor[]?, lr: "
              "number, beta1: number = 0.9, beta2: number = 0.999, eps: number = 1e-8, "
              "weight_decay: number = 0, step: int, decoupled: bool = false, "
              "maximize: bool = false) -> out",
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
