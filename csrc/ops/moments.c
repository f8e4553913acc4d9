// Variance, standard deviation and norms. Two passes for the variance (mean first), because the
// one-pass formula loses all digits where the mean is large. Half types are calculated in float32,
// since their squares overflow early.
#include <math.h>

#include "ops/dims.h"

enum { MAX_TEMPS = 10 };

static void release_temps(moon_tensor **temps) {
  for (int i = 0; i < MAX_TEMPS; i++) tensor_release(temps[i]);
}

// A half tensor as float32, others as they are.
static moon_status work_on(moon_engine *engine, moon_tensor *x, moon_tensor **work) {
  moon_dtype dtype = dtype_is_half(x->dtype) ? MOON_F32 : x->dtype;
  return OP_RUN(engine, ops_get(OP_cast), work, op_tensor(x), op_dtype(dtype));
}

// Gives `work` back as the type of the input.
static moon_status hand_over(op_call *call, moon_tensor *work) {
  if (work->dtype == call->args[0].tensor->dtype) {
    call->results[0] = tensor_retain(work);
    return MOON_OK;
  }
  return OP_RUN(call->engine, ops_get(OP_cast), &call->results[0], op_tensor(work),
                op_dtype(call->args[0].tensor->dtype));
}

// -- variance; a descriptor's row says whether its root is wanted

enum { INPUT, DIM, UNBIASED, KEEPDIM, CORRECTION };

// 1 / (n - 1), or 1 / n for the biased form; NaN where that divides by nothing.
static double var_factor(const dim_set *set, const op_value *args) {
  double correction = args[CORRECTION].given ? args[CORRECTION].number : args[UNBIASED].boolean;
  double below = (double)set->count - correction;
  return below > 0 ? 1 / below : NAN;
}

// t[0] = x in a type to calculate in, t[1] = its mean, t[2] = x - mean
static moon_status centre(moon_engine *e, moon_tensor *x, op_value dim, moon_tensor **t) {
  MOON_TRY(work_on(e, x, &t[0]));
  MOON_TRY(OP_RUN(e, ops_get(OP_mean), &t[1], op_tensor(t[0]), dim, op_bool(true)));
  return OP_RUN(e, ops_get(OP_sub), &t[2], op_tensor(t[0]), op_tensor(t[1]));
}

static moon_status var_steps(op_call *call, const dim_set *set, moon_tensor **t) {
  enum { X, MEAN, CENTRED, SQUARES, VAR, STD };
  moon_engine *e = call->engine;
  MOON_TRY(centre(e, call->args[INPUT].tensor, call->args[DIM], t));
  MOON_TRY(dims_reduce(e, REDUCE_SUM_SQUARES, set, t[CENTRED], t[X]->dtype, &t[SQUARES]));
  MOON_TRY(ops_scale(e, t[SQUARES], var_factor(set, call->args), &t[VAR]));
  if (call->op->row == 0) return hand_over(call, t[VAR]);
  MOON_TRY(OP_RUN(e, ops_get(OP_sqrt), &t[STD], op_tensor(t[VAR])));
  return hand_over(call, t[STD]);
}

static moon_status forward_var(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor, *temps[MAX_TEMPS] = { 0 };
  dim_set set;
  MOON_TRY(ops_need_float("input", x));
  MOON_TRY(dims_read(&call->args[DIM], call->args[KEEPDIM].boolean, x->ndim, x->shape, &set));
  moon_status status = var_steps(call, &set, temps);
  release_temps(temps);
  return status;
}

// *x with ones where `zero`; the quotient by it has finite derivatives there too.
static moon_status without_zeros(moon_engine *e, moon_tensor *zero, moon_tensor **x) {
  moon_tensor *one, *filled;
  MOON_TRY(ops_new_filled(e, *x, (*x)->dtype, 0, NULL, 1, &one));
  moon_status status =
      OP_RUN(e, ops_get(OP_where), &filled, op_tensor(zero), op_tensor(one), op_tensor(*x));
  tensor_release(one);
  MOON_TRY(status);
  tensor_release(*x);
  *x = filled;
  return MOON_OK;
}

// numerator / denominator where that is not 0, and 0 there
static moon_status safe_ratio(moon_engine *e, moon_tensor *numerator, moon_tensor *denominator,
                              moon_tensor **ratio) {
  moon_tensor *none = NULL, *zero = NULL, *raw = NULL, *below = tensor_retain(denominator);
  moon_status status = ops_new_filled(e, denominator, denominator->dtype, 0, NULL, 0, &none);
  if (status == MOON_OK)
    status = OP_RUN(e, ops_get(OP_eq), &zero, op_tensor(denominator), op_tensor(none));
  if (status == MOON_OK && e->grad_enabled) status = without_zeros(e, zero, &below);
  if (status == MOON_OK)
    status = OP_RUN(e, ops_get(OP_div), &raw, op_tensor(numerator), op_tensor(below));
  if (status == MOON_OK)
    status = OP_RUN(e, ops_get(OP_where), ratio, op_tensor(zero), op_tensor(none), op_tensor(raw));
  tensor_release(none);
  tensor_release(zero);
  tensor_release(raw);
  tensor_release(below);
  return status;
}

// d var = 2 (x - mean) / (n - 1) g; d std = (x - mean) / (n - 1) g / std, and 0 where std is 0.
// The mean's own dependence on x cancels, because the x - mean add up to 0.
static moon_status var_back_steps(op_backward_call *call, const dim_set *set, moon_tensor **t) {
  enum { X, MEAN, CENTRED, G, SHARE, OUT, RATIO, KEPT };
  moon_engine *e = call->engine;
  double factor = var_factor(set, call->args);
  MOON_TRY(centre(e, call->args[INPUT].tensor, call->args[DIM], t));
  MOON_TRY(work_on(e, call->grads[0], &t[G]));
  if (call->op->row == 0) {
    MOON_TRY(ops_scale(e, t[G], 2 * factor, &t[SHARE]));
  } else {
    MOON_TRY(work_on(e, call->results[0], &t[OUT]));
    MOON_TRY(safe_ratio(e, t[G], t[OUT], &t[RATIO]));
    MOON_TRY(ops_scale(e, t[RATIO], factor, &t[SHARE]));
  }
  MOON_TRY(dims_keep(e, set, t[SHARE], &t[KEPT]));
  return OP_RUN(e, ops_get(OP_mul), &call->out[INPUT], op_tensor(t[CENTRED]), op_tensor(t[KEPT]));
}

static moon_status backward_var(op_backward_call *call) {
  moon_tensor *temps[MAX_TEMPS] = { 0 };
  dim_set set;
  MOON_TRY(dims_read(&call->args[DIM], call->args[KEEPDIM].boolean, call->inputs[INPUT].ndim,
                     call->inputs[INPUT].shape, &set));
  moon_status status = var_back_steps(call, &set, temps);
  release_temps(temps);
  return status;
}

// -- norms

enum { NORM_INPUT, NORM_P, NORM_DIM, NORM_KEEPDIM };

static moon_status power(moon_engine *e, moon_tensor *x, double exponent, moon_tensor **result) {
  moon_tensor *number;
  MOON_TRY(ops_new_filled(e, x, x->dtype, 0, NULL, exponent, &number));
  moon_status status = OP_RUN(e, ops_get(OP_pow), result, op_tensor(x), op_tensor(number));
  tensor_release(number);
  return status;
}

// How many elements are not zero.
static moon_status count_steps(op_call *call, const dim_set *set, moon_tensor **t) {
  enum { X, NONE, EQUAL, OTHER, COUNT, FLOATS };
  moon_engine *e = call->engine;
  MOON_TRY(ops_new_filled(e, t[X], t[X]->dtype, 0, NULL, 0, &t[NONE]));
  MOON_TRY(OP_RUN(e, ops_get(OP_eq), &t[EQUAL], op_tensor(t[X]), op_tensor(t[NONE])));
  MOON_TRY(OP_RUN(e, ops_get(OP_logical_not), &t[OTHER], op_tensor(t[EQUAL])));
  MOON_TRY(dims_reduce(e, REDUCE_SUM, set, t[OTHER], MOON_I64, &t[COUNT]));
  MOON_TRY(OP_RUN(e, ops_get(OP_cast), &t[FLOATS], op_tensor(t[COUNT]), op_dtype(t[X]->dtype)));
  return hand_over(call, t[FLOATS]);
}

static moon_status norm_steps(op_call *call, const dim_set *set, moon_tensor **t) {
  enum { X, SIZE, POWER, SUM, ROOT };
  moon_engine *e = call->engine;
  double p = call->args[NORM_P].number;
  MOON_TRY(work_on(e, call->args[NORM_INPUT].tensor, &t[X]));
  moon_dtype dtype = t[X]->dtype;
  if (p == 0) return count_steps(call, set, t);
  if (p == 2) {
    MOON_TRY(dims_reduce(e, REDUCE_SUM_SQUARES, set, t[X], dtype, &t[SUM]));
    MOON_TRY(OP_RUN(e, ops_get(OP_sqrt), &t[ROOT], op_tensor(t[SUM])));
    return hand_over(call, t[ROOT]);
  }
  MOON_TRY(OP_RUN(e, ops_get(OP_abs), &t[SIZE], op_tensor(t[X])));
  if (isinf(p)) {
    MOON_TRY(dims_reduce(e, p > 0 ? REDUCE_MAX : REDUCE_MIN, set, t[SIZE], dtype, &t[ROOT]));
    return hand_over(call, t[ROOT]);
  }
  if (p == 1) {
    MOON_TRY(dims_reduce(e, REDUCE_SUM, set, t[SIZE], dtype, &t[ROOT]));
    return hand_over(call, t[ROOT]);
  }
  MOON_TRY(power(e, t[SIZE], p, &t[POWER]));
  MOON_TRY(dims_reduce(e, REDUCE_SUM, set, t[POWER], dtype, &t[SUM]));
  MOON_TRY(power(e, t[SUM], 1 / p, &t[ROOT]));
  return hand_over(call, t[ROOT]);
}

static moon_status forward_norm(op_call *call) {
  moon_tensor *x = call->args[NORM_INPUT].tensor, *temps[MAX_TEMPS] = { 0 };
  double p = call->args[NORM_P].number;
  dim_set set;
  MOON_TRY(ops_need_float("input", x));
  if (isnan(p)) return moon_fail(MOON_BAD_ARGUMENT, "p must be a number, got NaN");
  MOON_TRY(dims_read(&call->args[NORM_DIM], call->args[NORM_KEEPDIM].boolean, x->ndim, x->shape,
                     &set));
  if (isinf(p)) MOON_TRY(dims_need_elements(&set, x));
  moon_status status = norm_steps(call, &set, temps);
  release_temps(temps);
  return status;
}

// The gradient of max |x|: elements that equal it share g, each with its sign.
static moon_status norm_back_extreme(op_backward_call *call, op_value dim, moon_tensor **t) {
  enum { X, OUT, G, SIZE, SIGN, TIES, COUNT, FLOATS, SHARE, SIGNED };
  moon_engine *e = call->engine;
  moon_tensor *zero;
  MOON_TRY(OP_RUN(e, ops_get(OP_abs), &t[SIZE], op_tensor(t[X])));
  MOON_TRY(OP_RUN(e, ops_get(OP_sign), &t[SIGN], op_tensor(t[X])));
  MOON_TRY(OP_RUN(e, ops_get(OP_eq), &t[TIES], op_tensor(t[SIZE]), op_tensor(t[OUT])));
  MOON_TRY(OP_RUN(e, ops_get(OP_sum), &t[COUNT], op_tensor(t[TIES]), dim, op_bool(true)));
  MOON_TRY(OP_RUN(e, ops_get(OP_cast), &t[FLOATS], op_tensor(t[COUNT]), op_dtype(t[X]->dtype)));
  MOON_TRY(OP_RUN(e, ops_get(OP_div), &t[SHARE], op_tensor(t[G]), op_tensor(t[FLOATS])));
  MOON_TRY(OP_RUN(e, ops_get(OP_mul), &t[SIGNED], op_tensor(t[SIGN]), op_tensor(t[SHARE])));
  MOON_TRY(ops_new_filled(e, t[X], t[X]->dtype, 0, NULL, 0, &zero));
  moon_status status = OP_RUN(e, ops_get(OP_where), &call->out[0], op_tensor(t[TIES]),
                              op_tensor(t[SIGNED]), op_tensor(zero));
  tensor_release(zero);
  return status;
}

// g sign(x) (|x| / out)^(p - 1): the quotient keeps the powers small. 0 where x is 0.
static moon_status norm_back_general(op_backward_call *call, double p, moon_tensor **t) {
  enum { X, OUT, G, RATIO, SIZE, POWER, SIGN, SIGNED, ZERO, ALL };
  moon_engine *e = call->engine;
  moon_tensor *zero;
  MOON_TRY(safe_ratio(e, t[X], t[OUT], &t[RATIO]));
  MOON_TRY(OP_RUN(e, ops_get(OP_abs), &t[SIZE], op_tensor(t[RATIO])));
  MOON_TRY(power(e, t[SIZE], p - 1, &t[POWER]));
  MOON_TRY(OP_RUN(e, ops_get(OP_sign), &t[SIGN], op_tensor(t[X])));
  MOON_TRY(OP_RUN(e, ops_get(OP_mul), &t[SIGNED], op_tensor(t[SIGN]), op_tensor(t[G])));
  MOON_TRY(OP_RUN(e, ops_get(OP_mul), &t[ALL], op_tensor(t[SIGNED]), op_tensor(t[POWER])));
  MOON_TRY(ops_new_filled(e, t[X], t[X]->dtype, 0, NULL, 0, &zero));
  moon_status status = OP_RUN(e, ops_get(OP_eq), &t[ZERO], op_tensor(t[X]), op_tensor(zero));
  if (status == MOON_OK)
    status = OP_RUN(e, ops_get(OP_where), &call->out[0], op_tensor(t[ZERO]), op_tensor(zero),
                    op_tensor(t[ALL]));
  tensor_release(zero);
  return status;
}

static moon_status norm_back_steps(op_backward_call *call, const dim_set *set, moon_tensor **t) {
  enum { X, OUT, G, RATIO };
  moon_engine *e = call->engine;
  double p = call->args[NORM_P].number;
  moon_tensor *out, *g;
  MOON_TRY(dims_keep(e, set, call->results[0], &out));
  moon_status status = work_on(e, out, &t[OUT]);
  tensor_release(out);
  MOON_TRY(status);
  MOON_TRY(dims_keep(e, set, call->grads[0], &g));
  status = work_on(e, g, &t[G]);
  tensor_release(g);
  MOON_TRY(status);
  MOON_TRY(work_on(e, call->args[NORM_INPUT].tensor, &t[X]));
  if (isinf(p)) return norm_back_extreme(call, call->args[NORM_DIM], t);
  if (p != 2) return norm_back_general(call, p, t);
  MOON_TRY(safe_ratio(e, t[G], t[OUT], &t[RATIO]));
  return OP_RUN(e, ops_get(OP_mul), &call->out[0], op_tensor(t[X]), op_tensor(t[RATIO]));
}

static moon_status backward_norm(op_backward_call *call) {
  moon_tensor *temps[MAX_TEMPS] = { 0 };
  dim_set set;
  if (call->args[NORM_P].number == 0) return MOON_OK;
  MOON_TRY(dims_read(&call->args[NORM_DIM], call->args[NORM_KEEPDIM].boolean,
                     call->inputs[NORM_INPUT].ndim, call->inputs[NORM_INPUT].shape, &set));
  moon_status status = norm_back_steps(call, &set, temps);
  release_temps(temps);
  return status;
}

#define VARIANCE "(input: Tensor, dim: dims, unbiased: bool = true, keepdim: bool = false, " \
                 "correction: number?) -> out"

static op_descriptor descriptors[] = {
  { .name = "var",
    .example = "moon.tensor({1, 3}):var() --> 2",
    .dtypes = OP_FLOATS, .schema = VARIANCE, .row = 0, .saves = "input",
    .doc = "Variance of all elements, or along one or several dimensions: the squared distances "
           "from the mean, added and divided by n - 1 (unbiased) or n, or by n - correction where "
           "that is given. NaN where the divisor is not positive.",
    .forward = forward_var, .backward = backward_var },
  { .name = "std",
    .example = "moon.tensor({1, 3}):std() --> 1.4142",
    .dtypes = OP_FLOATS, .schema = VARIANCE, .row = 1, .saves = "input out",
    .doc = "Standard deviation: the square root of var. Its gradient is 0 where it is 0.",
    .forward = forward_var, .backward = backward_var },
  { .name = "norm",
    .example = "moon.tensor({3, 4}):norm() --> 5",
    .dtypes = OP_FLOATS, .saves = "input out",
    .schema = "(input: Tensor, p: number = 2, dim: dims, keepdim: bool = false) -> out",
    .doc = "The p-norm, (sum |x|^p)^(1/p), of all elements or along one or several dimensions. "
           "p = math.huge gives the largest |x|, -math.huge the smallest, 0 counts what is not "
           "zero. The gradient at 0 is 0.",
    .forward = forward_norm, .backward = backward_norm },
};

OP_FAMILY(moments, descriptors);
