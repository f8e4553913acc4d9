// Optimiser steps of one formula an element (steps.def): parameters and their state moved in place
// in one pass over memory, by the update rules of PyTorch. Exposed as rmsprop_step_ and so on;
// meant to run without the tape. Weight decay is added to the gradient, or under `decoupled` taken
// off the parameter; `maximize` turns the gradient round.
#include <math.h>

#include "ops/step.h"

static const int state_counts[] = {
#define STEP(name, states, formula) states,
#include "device/steps.def"
};

static moon_status check(const op_call *call, int rule) {
  MOON_TRY(step_check_tensors(call, state_counts[rule]));
  return step_check_numbers(call);
}

static moon_status apply(op_call *call, int rule, step_options step) {
  return step_apply(call, state_counts[rule], rule, &step);
}

static double sign_of(const op_value *maximize) { return maximize->boolean ? -1 : 1; }

// -- adagrad_step

static moon_status forward_adagrad(op_call *call) {
  enum { SUM = STEP_STATE, LR, LR_DECAY, EPS, WEIGHT_DECAY, STEP, MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_adagrad));
  double past = (double)(args[STEP].integer - 1);
  return apply(call, STEP_adagrad, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .decay = args[WEIGHT_DECAY].number, .keep = 1,
    .rate = args[LR].number / (1 + past * args[LR_DECAY].number), .epsilon = args[EPS].number });
}

// -- adadelta_step

static moon_status forward_adadelta(op_call *call) {
  enum { SQUARE = STEP_STATE, DELTA, LR, RHO, EPS, WEIGHT_DECAY, MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_adadelta));
  return apply(call, STEP_adadelta, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .decay = args[WEIGHT_DECAY].number, .keep = 1,
    .rate = args[LR].number, .beta2 = args[RHO].number, .epsilon = args[EPS].number });
}

// -- rmsprop_step

static moon_status forward_rmsprop(op_call *call) {
  enum { SQUARE = STEP_STATE, MEAN, BUFFER, LR, ALPHA, EPS, WEIGHT_DECAY, MOMENTUM, MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_rmsprop));
  if (args[MOMENTUM].number != 0 && !args[BUFFER].given)
    return moon_fail(MOON_BAD_ARGUMENT, "momentum %g needs a momentum_buffer of the parameter's "
                     "shape", args[MOMENTUM].number);
  return apply(call, STEP_rmsprop, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .decay = args[WEIGHT_DECAY].number, .keep = 1,
    .rate = args[LR].number, .beta1 = args[MOMENTUM].number, .beta2 = args[ALPHA].number,
    .epsilon = args[EPS].number, .blend = args[MEAN].given ? 1 : 0 });
}

// -- adamax_step

static moon_status forward_adamax(op_call *call) {
  enum { FIRST = STEP_STATE, LARGEST, LR, BETA1, BETA2, EPS, WEIGHT_DECAY, STEP, MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_adamax));
  double beta1 = args[BETA1].number;
  return apply(call, STEP_adamax, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .decay = args[WEIGHT_DECAY].number, .keep = 1,
    .rate = args[LR].number / (1 - pow(beta1, (double)args[STEP].integer)), .beta1 = beta1,
    .beta2 = args[BETA2].number, .epsilon = args[EPS].number });
}

// -- nadam_step

static moon_status forward_nadam(op_call *call) {
  enum { FIRST = STEP_STATE, SECOND, LR, MU, NEXT_MU, PRODUCT, BETA1, BETA2, EPS, WEIGHT_DECAY,
         STEP, DECOUPLED, MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_nadam));
  double lr = args[LR].number, mu = args[MU].number, next_mu = args[NEXT_MU].number;
  double product = args[PRODUCT].number, decay = args[WEIGHT_DECAY].number;
  double beta2 = args[BETA2].number;
  bool decoupled = args[DECOUPLED].boolean;
  if (product >= 1 || product * next_mu >= 1)
    return moon_fail(MOON_BAD_ARGUMENT, "product and product * next_mu must lie below 1, got %g "
                     "and %g", product, product * next_mu);
  return apply(call, STEP_nadam, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .decay = decoupled ? 0 : decay,
    .keep = decoupled ? 1 - lr * decay : 1, .rate = lr * (1 - mu) / (1 - product),
    .blend = lr * next_mu / (1 - product * next_mu), .beta1 = args[BETA1].number, .beta2 = beta2,
    .epsilon = args[EPS].number, .scale = 1 / sqrt(1 - pow(beta2, (double)args[STEP].integer)) });
}

// -- radam_step

// The factor of the adaptive rate after `step` steps; 0 while its variance is not bounded.
static double rectification(double step, double beta2) {
  double correction = 1 - pow(beta2, step), most = 2 / (1 - beta2) - 1;
  double length = most - 2 * step * pow(beta2, step) / correction;
  if (!(length > 5)) return 0;
  return sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length) * correction);
}

static moon_status forward_radam(op_call *call) {
  enum { FIRST = STEP_STATE, SECOND, LR, BETA1, BETA2, EPS, WEIGHT_DECAY, STEP, DECOUPLED,
         MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_radam));
  double lr = args[LR].number, decay = args[WEIGHT_DECAY].number;
  double beta1 = args[BETA1].number, beta2 = args[BETA2].number;
  double step = (double)args[STEP].integer, factor = rectification(step, beta2);
  bool decoupled = args[DECOUPLED].boolean;
  return apply(call, STEP_radam, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .decay = decoupled ? 0 : decay,
    .keep = decoupled ? 1 - lr * decay : 1, .beta1 = beta1, .beta2 = beta2,
    .rate = lr / (1 - pow(beta1, step)) * (factor > 0 ? factor : 1), .epsilon = args[EPS].number,
    .blend = factor > 0 ? 1 : 0 });
}

// -- rprop_step

static moon_status forward_rprop(op_call *call) {
  enum { PREVIOUS = STEP_STATE, SIZE, ETA_MINUS, ETA_PLUS, STEP_MIN, STEP_MAX, MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_rprop));
  if (args[STEP_MIN].number > args[STEP_MAX].number)
    return moon_fail(MOON_BAD_ARGUMENT, "step_min must not exceed step_max, got %g and %g",
                     args[STEP_MIN].number, args[STEP_MAX].number);
  return apply(call, STEP_rprop, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .keep = 1, .beta1 = args[ETA_MINUS].number,
    .beta2 = args[ETA_PLUS].number, .least = args[STEP_MIN].number,
    .most = args[STEP_MAX].number });
}

// -- asgd_step

static moon_status forward_asgd(op_call *call) {
  enum { AVERAGE = STEP_STATE, ETA, MU, LAMBD, WEIGHT_DECAY, MAXIMIZE };
  const op_value *args = call->args;
  MOON_TRY(check(call, STEP_asgd));
  return apply(call, STEP_asgd, (step_options){
    .sign = sign_of(&args[MAXIMIZE]), .decay = args[WEIGHT_DECAY].number,
    .keep = 1 - args[LAMBD].number * args[ETA].number, .rate = args[ETA].number,
    .blend = args[MU].number });
}

static op_descriptor descriptors[] = {
  { .name = "adagrad_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], sum: Tensor|Tensor[], lr: "
              "number, lr_decay: number = 0, eps: number = 1e-10, weight_decay: number = 0, step: "
              "int, maximize: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of Adagrad, in place. With g = gradient + weight_decay * parameter: sum + "
           "g^2, then parameter - lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum) + eps) (Duchi, "
           "Hazan and Singer 2011). step counts from 1.",
    .example = "moon.adagrad_step_(moon.ones(2), moon.tensor { 1, -2 }, moon.zeros(2), "
               "{ lr = 0.5, step = 1 }) --> { 0.5, 1.5 }",
    .forward = forward_adagrad },
  { .name = "adadelta_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], square: Tensor|Tensor[], "
              "delta: Tensor|Tensor[], lr: number = 1, rho: number = 0.9, eps: number = 1e-6, "
              "weight_decay: number = 0, maximize: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of Adadelta, in place: with g = gradient + weight_decay * parameter, square a "
           "running mean of g^2 and d = sqrt(delta + eps) / sqrt(square + eps) * g, delta a "
           "running mean of d^2, both by rho; parameter - lr * d (Zeiler 2012).",
    .example = "local square, delta = moon.zeros(1), moon.ones(1)\n"
               "moon.adadelta_step_(moon.ones(1), moon.tensor { 2 }, square, delta, "
               "{ rho = 0.75, eps = 0 }) --> { -1 }",
    .forward = forward_adadelta },
  { .name = "rmsprop_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], square: Tensor|Tensor[], "
              "mean: Tensor|Tensor[]?, momentum_buffer: Tensor|Tensor[]?, lr: number, alpha: "
              "number = 0.99, eps: number = 1e-8, weight_decay: number = 0, momentum: number = 0, "
              "maximize: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of RMSprop, in place: with g = gradient + weight_decay * parameter and square "
           "a running mean of g^2 by alpha, d = g / (sqrt(square) + eps), parameter - lr * d "
           "(Tieleman and Hinton 2012). With `mean`, a running mean of g, the root is of square - "
           "mean^2 (Graves 2013); with momentum, d is added to momentum times momentum_buffer.",
    .example = "moon.rmsprop_step_(moon.ones(2), moon.tensor { 1, -2 }, moon.zeros(2), "
               "{ lr = 0.5, alpha = 0 }) --> { 0.5, 1.5 }",
    .forward = forward_rmsprop },
  { .name = "adamax_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], first_moment: "
              "Tensor|Tensor[], largest: Tensor|Tensor[], lr: number, beta1: number = 0.9, beta2: "
              "number = 0.999, eps: number = 1e-8, weight_decay: number = 0, step: int, maximize: "
              "bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of Adamax, in place: with g = gradient + weight_decay * parameter, m a "
           "running mean of g and u = max(beta2 * u, |g| + eps), parameter - lr / (1 - beta1^step) "
           "* m / u (Kingma and Ba 2014). step counts from 1.",
    .example = "local m, u = moon.zeros(2), moon.zeros(2)\n"
               "moon.adamax_step_(moon.ones(2), moon.tensor { 1, -2 }, m, u, "
               "{ lr = 0.5, step = 1 }) --> { 0.5, 1.5 }",
    .forward = forward_adamax },
  { .name = "nadam_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], first_moment: "
              "Tensor|Tensor[], second_moment: Tensor|Tensor[], lr: number, mu: number, next_mu: "
              "number, product: number, beta1: number = 0.9, beta2: number = 0.999, eps: number = "
              "1e-8, weight_decay: number = 0, step: int, decoupled: bool = false, maximize: bool "
              "= false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of NAdam, in place: m and v as Adam's, and parameter - lr * ((1 - mu) / (1 - "
           "product) * g + next_mu / (1 - product * next_mu) * m) / (sqrt(v / (1 - beta2^step)) + "
           "eps), where mu and next_mu are the momenta of this step and the next and product that "
           "of all up to mu (Dozat 2016). step counts from 1.",
    .example = "local m, v = moon.zeros(1), moon.zeros(1)\n"
               "moon.nadam_step_(moon.ones(1), moon.tensor { 2 }, m, v, "
               "{ lr = 0.5, mu = 0, next_mu = 0, product = 0, step = 1 }) --> { 0.5 }",
    .forward = forward_nadam },
  { .name = "radam_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], first_moment: "
              "Tensor|Tensor[], second_moment: Tensor|Tensor[], lr: number, beta1: number = 0.9, "
              "beta2: number = 0.999, eps: number = 1e-8, weight_decay: number = 0, step: int, "
              "decoupled: bool = false, maximize: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of RAdam, in place: m and v as Adam's; parameter - lr * m / (1 - beta1^step), "
           "and once R - 2 * step * beta2^step / (1 - beta2^step) with R = 2 / (1 - beta2) - 1 "
           "exceeds 5, that divided by the root of v and rectified (Liu et al. 2020). step counts "
           "from 1.",
    .example = "local m, v = moon.zeros(1), moon.zeros(1)\n"
               "moon.radam_step_(moon.ones(1), moon.tensor { 2 }, m, v, "
               "{ lr = 0.25, step = 1 }) --> { 0.5 }",
    .forward = forward_radam },
  { .name = "rprop_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], previous: Tensor|Tensor[], "
              "size: Tensor|Tensor[], eta_minus: number = 0.5, eta_plus: number = 1.2, step_min: "
              "number = 1e-6, step_max: number = 50, maximize: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of Rprop, in place: the size of an element's step is multiplied by eta_plus "
           "where the gradient has the sign of the previous one and by eta_minus where it has the "
           "other, limited to step_min ... step_max; a turned gradient counts as 0, which "
           "`previous` remembers; parameter - sign(gradient) * size (Riedmiller and Braun 1993).",
    .example = "local previous, size = moon.tensor { 1, 1 }, moon.tensor { 0.5, 0.5 }\n"
               "moon.rprop_step_(moon.ones(2), moon.tensor { 3, -3 }, previous, size) "
               "--> { 0.4, 1 }",
    .forward = forward_rprop },
  { .name = "asgd_step", .dtypes = OP_FLOATS,
    .schema = "(parameter: Tensor|Tensor[], gradient: Tensor|Tensor[], average: Tensor|Tensor[], "
              "eta: number, mu: number = 1, lambd: number = 1e-4, weight_decay: number = 0, "
              "maximize: bool = false) -> out",
    .flags = OP_MUTATES | OP_FUNCTION_ONLY,
    .doc = "One step of averaged stochastic gradient descent, in place: (1 - lambd * eta) * "
           "parameter - eta * (gradient + weight_decay * parameter), and average + mu * (parameter "
           "- average), the parameter itself where mu is 1 (Polyak and Juditsky 1992).",
    .example = "local average = moon.zeros(1)\n"
               "moon.asgd_step_(moon.ones(1), moon.tensor { 2 }, average, "
               "{ eta = 0.25, lambd = 0 }) --> { 0.5 }",
    .forward = forward_asgd },
};
OP_FAMILY(steps, descriptors);
