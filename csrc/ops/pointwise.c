// Elementwise operators. Every row of pointwise.def becomes a descriptor here; forward and backward
// are four functions that pass the row's number on to the kernel. What a backward reads is found in
// the text of its derivative, so that nothing is saved in vain.
#include "ops/pointwise.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/derivative.h"

typedef struct row_info {
  pointwise_text text;
  const char *attributes;
} row_info;

static moon_status forward_unary(op_call *call);
static moon_status backward_unary(op_backward_call *call);
static moon_status forward_binary(op_call *call);
static moon_status backward_binary(op_backward_call *call);
static moon_status forward_compare(op_call *call);
static moon_status forward_predicate(op_call *call);

// the class column of pointwise.def
#define CLASS_FLOAT OP_FLOATS
#define CLASS_NUMBER OP_NUMBERS
#define CLASS_ANY OP_ANY_DTYPE

#define NONE ""
#define TEXT(name, formula, dx, dy, low, high) { #name, #formula, { dx, dy }, low, high }
static const row_info rows[] = {
#define UNARY(name, class, attributes, formula, derivative, low, high, help) \
  { TEXT(name, formula, #derivative, NULL, low, high), attributes },
#define BINARY(name, class, attributes, formula, dx, dy, low, high, help) \
  { TEXT(name, formula, #dx, #dy, low, high), attributes },
#define COMPARE(name, formula, help) { TEXT(name, formula, NULL, NULL, -3, 3), NONE },
#define PREDICATE(name, formula, help) { TEXT(name, formula, NULL, NULL, -3, 3), NONE },
#include "device/pointwise.def"
};
enum { ROWS = sizeof rows / sizeof *rows };

static op_descriptor descriptors[] = {
#define UNARY(name_, class, attributes, formula, derivative, low, high, help)                   \
  { .name = #name_, .doc = help, .dtypes = CLASS_##class, .flags = OP_INPLACE,                  \
    .row = UNARY_##name_,                                                                       \
    .forward = forward_unary, .backward = backward_unary },
#define BINARY(name_, class, attributes, formula, dx, dy, low, high, help)                      \
  { .name = #name_, .doc = help, .dtypes = CLASS_##class, .flags = OP_INPLACE,                  \
    .row = BINARY_##name_,                                                                      \
    .forward = forward_binary, .backward = backward_binary },
#define COMPARE(name_, formula, help) \
  { .name = #name_, .doc = help, .row = COMPARE_##name_, .forward = forward_compare },
#define PREDICATE(name_, formula, help) \
  { .name = #name_, .doc = help, .row = PREDICATE_##name_, .forward = forward_predicate },
#include "device/pointwise.def"
};
OP_FAMILY(pointwise, descriptors);

static const row_info *info_of(const op_descriptor *op) { return &rows[op - descriptors]; }

const pointwise_text *pointwise_row(const op_descriptor *op) {
  return op >= descriptors && op < descriptors + ROWS ? &info_of(op)->text : NULL;
}

// -- schemas and saves, written once (registry.c guards it)

static derivative parsed[ROWS][2];
static char schemas[ROWS][112], saves[ROWS][32], examples[ROWS][80];

static bool reads(const char *expression, char variable) {
  for (const char *at = expression; *at; at++) {
    if (*at != variable) continue;
    bool starts = at == expression || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
    if (starts && !(isalnum((unsigned char)at[1]) || at[1] == '_')) return true;
  }
  return false;
}

static void write_saves(int row) {
  const char *const *d = rows[row].text.derivatives;
  char *text = saves[row];
  if (!d[0]) return;
  if (!d[1]) {
    snprintf(text, sizeof saves[row], "%s%s", reads(d[0], 'x') ? "x " : "",
             reads(d[0], 'y') ? "y" : "");
    return;
  }
  static const char variables[] = "xyz";
  size_t used = 0;
  for (int v = 0; v < 3; v++)
    for (int side = 0; side < 2; side++)
      if (reads(d[side], variables[v]))
        used += (size_t)snprintf(text + used, sizeof saves[row] - used, "%c@%c ", variables[v],
                                 "xy"[side]);
}

// "moon.add(moon.tensor { 0.5, 0.75 }, 1)": numbers for a second input and for attributes without
// a default.
static void write_example(int row, bool two) {
  bool needs_two = strstr(rows[row].attributes, "number,") && !strchr(rows[row].attributes, '=');
  snprintf(examples[row], sizeof examples[row], "moon.%s(moon.tensor { 0.5, 0.75 }%s%s)",
           rows[row].text.name, two ? ", 0.5" : "", needs_two ? ", 0.6, 0" : "");
}

static op_descriptor *find_row(const char *name) {
  for (int row = 0; row < ROWS; row++)
    if (strcmp(rows[row].text.name, name) == 0) return &descriptors[row];
  return NULL;
}

static bool is_zero(const char *derivative_text) { return strcmp(derivative_text, "ZERO") == 0; }

static moon_status parse_derivatives(int row) {
  for (int side = 0; side < 2; side++) {
    const char *text = rows[row].text.derivatives[side];
    if (!text || is_zero(text)) continue;
    moon_status status = derivative_parse(text, find_row, &parsed[row][side]);
    if (status != MOON_OK) return moon_fail_in(status, "%s: ", rows[row].text.name);
  }
  return MOON_OK;
}

moon_status pointwise_prepare(void) {
  for (int row = 0; row < ROWS; row++) {
    op_descriptor *op = &descriptors[row];
    bool two = op->forward == forward_binary || op->forward == forward_compare;
    const char *attributes = rows[row].attributes;
    snprintf(schemas[row], sizeof schemas[row], "(x: %s%s%s%s) -> %s",
             two ? "Tensor|number, y: Tensor|number" : "Tensor", *attributes ? ", " : "",
             attributes, "", op->forward == forward_binary ? "z" : two ? "result" : "y");
    op->schema = schemas[row];
    write_saves(row);
    op->saves = saves[row];
    write_example(row, two);
    op->example = examples[row];
    MOON_TRY(parse_derivatives(row));
  }
  return MOON_OK;
}

// -- checks and results

static moon_status check_class(const op_descriptor *op, const moon_tensor *x) {
  if (op_takes_dtype(op, x->dtype)) return MOON_OK;
  return moon_fail(MOON_BAD_DTYPE, "%s tensors are not taken; cast with :to \"%s\"%s",
                   dtype_name(x->dtype), op->dtypes == OP_FLOATS ? "float32" : "int64",
                   strcmp(op->name, "div") == 0 ? ", or use div_floor" : "");
}

// A new result, or for the in-place form a check that the target has its shape and type.
static moon_status make_result(op_call *call, moon_dtype dtype, int ndim, const int64_t *shape) {
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  moon_tensor *target = call->args[0].tensor;
  bool two = call->op->forward == forward_binary || call->op->forward == forward_compare;
  moon_tensor *inputs[2] = { target, two ? call->args[1].tensor : NULL };
  if (!call->inplace)
    return ops_new_among(call->engine, 2, inputs, dtype, ndim, shape, &call->results[0]);
  if (target->ndim == ndim && memcmp(target->shape, shape, (size_t)ndim * sizeof *shape) == 0)
    return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "the result %s does not fit in place into x %s",
                   shape_text(ndim, shape, a), tensor_shape_text(target, b));
}

// What a formula needs of its attributes besides their being numbers.
typedef enum attribute_rule { NOT_ZERO, NOT_NEGATIVE, IN_ORDER } attribute_rule;
static const struct { int row; attribute_rule rule; } rules[] = {
  { UNARY_celu, NOT_ZERO }, { UNARY_softplus, NOT_ZERO }, { UNARY_hardtanh, IN_ORDER },
  { UNARY_hardshrink, NOT_NEGATIVE }, { UNARY_softshrink, NOT_NEGATIVE },
};

static moon_status check_rule(const op_call *call, attribute_rule rule) {
  const char *name = call->op->signature->params[1].name;
  double a = call->args[1].number, b = rule == IN_ORDER ? call->args[2].number : 0;
  if (rule == NOT_ZERO && a == 0) return moon_fail(MOON_BAD_ARGUMENT, "%s must not be 0", name);
  if (rule == NOT_NEGATIVE && a < 0)
    return moon_fail(MOON_BAD_ARGUMENT, "%s must not be negative, got %g", name, a);
  if (rule == IN_ORDER && a > b)
    return moon_fail(MOON_BAD_ARGUMENT, "%s must not be above %s, got %g and %g", name,
                     call->op->signature->params[2].name, a, b);
  return MOON_OK;
}

static moon_status check_rules(const op_call *call) {
  const op_signature *s = call->op->signature;
  for (int i = 1; i < s->param_count; i++)
    if (isnan(call->args[i].number))
      return moon_fail(MOON_BAD_ARGUMENT, "%s must be a number, got NaN", s->params[i].name);
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (rules[i].row == (int)call->op->row) MOON_TRY(check_rule(call, rules[i].rule));
  return MOON_OK;
}

// An integer is compared with and replaced by whole numbers only.
static moon_status check_attributes(const op_call *call, const moon_tensor *x) {
  const op_signature *s = call->op->signature;
  MOON_TRY(check_rules(call));
  if (dtype_is_float(x->dtype)) return MOON_OK;
  for (int i = 1; i < s->param_count; i++) {
    double number = call->args[i].number;
    if (number != floor(number))
      return moon_fail(MOON_BAD_DTYPE, "%s is %.14g, no whole number, beside a tensor of %s; cast "
                       "that with :to \"float32\"", s->params[i].name, number,
                       dtype_name(x->dtype));
  }
  return MOON_OK;
}

static void read_attributes(const op_value *args, int count, double attributes[2]) {
  for (int i = 0; i < count && i < MOON_MAX_POINTWISE_ATTRIBUTES; i++)
    attributes[i] = args[i].number;
}

// -- one input

static moon_status forward_unary(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  double attributes[MOON_MAX_POINTWISE_ATTRIBUTES] = { 0, 0 };
  MOON_TRY(check_class(call->op, x));
  MOON_TRY(check_attributes(call, x));
  MOON_TRY(make_result(call, x->dtype, x->ndim, x->shape));
  read_attributes(call->args + 1, call->op->signature->param_count - 1, attributes);
  device_array from, to;
  tensor_fill_array(x, &from);
  tensor_fill_array(call->results[0], &to);
  return tensor_kernels(x)->unary(call->engine, (int)call->op->row, attributes, &from, &to);
}

// The gradient by operators, where it is to be differentiated again.
static moon_status run_derivative(op_backward_call *call, int side, bool two,
                                  const double *attributes) {
  compose c = compose_open(call->engine);
  derivative_names names = { .g = call->grads[0], .x = call->args[0].tensor,
                             .y = two ? call->args[1].tensor : call->results[0],
                             .z = two ? call->results[0] : NULL,
                             .a = attributes[0], .b = attributes[1] };
  moon_tensor *d = derivative_run(&c, parsed[call->op - descriptors][side], &names);
  return compose_close(&c, d, &call->out[side]);
}

static moon_status backward_unary(op_backward_call *call) {
  moon_tensor *g = call->grads[0], *x = call->args[0].tensor, *y = call->results[0];
  double attributes[MOON_MAX_POINTWISE_ATTRIBUTES] = { 0, 0 };
  if (is_zero(info_of(call->op)->text.derivatives[0])) return MOON_OK;
  read_attributes(call->args + 1, call->op->signature->param_count - 1, attributes);
  if (call->engine->grad_enabled) return run_derivative(call, 0, false, attributes);
  moon_tensor *models[] = { g, x, y };
  call->out[0] = op_take_gradient(call);
  if (!call->out[0])
    MOON_TRY(ops_new_among(call->engine, 3, models, g->dtype, g->ndim, g->shape, &call->out[0]));
  device_array ag = tensor_array(g), dx = tensor_array(call->out[0]), ax, ay;
  if (x) ax = tensor_array(x);
  if (y) ay = tensor_array(y);
  return tensor_kernels(g)->unary_backward(call->engine, (int)call->op->row, attributes, &ag,
                                           x ? &ax : NULL, y ? &ay : NULL, &dx);
}

static moon_status back_through_recorded(op_backward_call *call, const op_descriptor *op,
                                         moon_tensor **grad) {
  compose c = compose_open(call->engine);
  derivative_names names = { .g = call->grads[0], .y = call->results[0] };
  return compose_close(&c, derivative_run(&c, parsed[op - descriptors][0], &names), grad);
}

static moon_status back_through_kernel(op_backward_call *call, const op_descriptor *op,
                                       moon_tensor **grad) {
  static const double none[MOON_MAX_POINTWISE_ATTRIBUTES] = { 0 };
  const moon_tensor *g = call->grads[0];
  device_array ag = tensor_array(g), y = tensor_array(call->results[0]);
  *grad = op_take_gradient(call);
  if (!*grad)
    MOON_TRY(ops_new_like(call->engine, g, g->dtype, g->shape, grad));
  device_array dx = tensor_array(*grad);
  return tensor_kernels(g)->unary_backward(call->engine, (int)op->row, none, &ag, NULL, &y, &dx);
}

// By their number in POINTWISE_ACTIVATIONS. Rows without attributes, whose derivatives read their
// results alone.
static const struct { const char *row; pointwise_limits limits; } activations[] = {
  { NULL, { -INFINITY, INFINITY } }, { "relu", { 0, INFINITY } }, { "relu6", { 0, 6 } },
};

pointwise_limits pointwise_limits_of(int activation) { return activations[activation].limits; }

moon_status pointwise_back_through(op_backward_call *call, int activation) {
  if (!activations[activation].row) return MOON_OK;
  const op_descriptor *op = find_row(activations[activation].row);
  moon_tensor *grad = NULL;
  moon_status status = call->engine->grad_enabled ? back_through_recorded(call, op, &grad)
                                                  : back_through_kernel(call, op, &grad);
  if (status != MOON_OK) {
    tensor_release(grad);
    return status;
  }
  tensor_release(call->grads[0]);
  call->grads[0] = grad;
  return MOON_OK;
}

// -- two inputs

static moon_status broadcast_inputs(op_call *call, int *ndim, int64_t *shape) {
  moon_tensor *x = call->args[0].tensor, *y = call->args[1].tensor;
  MOON_TRY(ops_need_same_dtype("x", x, "y", y));
  return shape_broadcast(x->ndim, x->shape, y->ndim, y->shape, ndim, shape);
}

// In place, y may be another view of x's memory; then a copy of it is read.
static bool overlaps(const moon_tensor *x, const moon_tensor *y) {
  if (x->storage != y->storage || y->ndim == 0) return x->storage == y->storage;
  return x->offset != y->offset || !tensor_same_shape(x, y) ||
         memcmp(x->strides, y->strides, (size_t)x->ndim * sizeof *x->strides) != 0;
}

static moon_status run_binary(op_call *call, moon_tensor *y, const double *attributes) {
  moon_tensor *x = call->args[0].tensor, *z = call->results[0];
  device_array ax, ay, to;
  array_fill_broadcast(x, z->ndim, z->shape, &ax);
  array_fill_broadcast(y, z->ndim, z->shape, &ay);
  tensor_fill_array(z, &to);
  return tensor_kernels(z)->binary(call->engine, (int)call->op->row, attributes, &ax, &ay, &to);
}

static moon_status forward_binary(op_call *call) {
  moon_tensor *x = call->args[0].tensor, *y = call->args[1].tensor, *apart;
  double attributes[MOON_MAX_POINTWISE_ATTRIBUTES] = { 0, 0 };
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(broadcast_inputs(call, &ndim, shape));
  MOON_TRY(check_class(call->op, x));
  MOON_TRY(make_result(call, x->dtype, ndim, shape));
  read_attributes(call->args + 2, call->op->signature->param_count - 2, attributes);
  if (!call->inplace || !overlaps(x, y)) return run_binary(call, y, attributes);
  MOON_TRY(tensor_new_like(call->engine, y, &apart));
  moon_status status = ops_copy(call->engine, y, apart);
  if (status == MOON_OK) status = run_binary(call, apart, attributes);
  tensor_release(apart);
  return status;
}

static moon_status backward_side(op_backward_call *call, int side) {
  moon_tensor *g = call->grads[0], *x = call->args[0].tensor, *y = call->args[1].tensor;
  moon_tensor *z = call->results[0];
  double attributes[MOON_MAX_POINTWISE_ATTRIBUTES] = { 0, 0 };
  const char *text = info_of(call->op)->text.derivatives[side];
  if (is_zero(text)) return MOON_OK;
  if (strcmp(text, "g") == 0) {
    call->out[side] = tensor_retain(g);
    return MOON_OK;
  }
  read_attributes(call->args + 2, call->op->signature->param_count - 2, attributes);
  if (call->engine->grad_enabled) return run_derivative(call, side, true, attributes);
  moon_tensor *models[] = { g, x, y, z };
  MOON_TRY(ops_new_among(call->engine, 4, models, g->dtype, g->ndim, g->shape, &call->out[side]));
  device_array ag = tensor_array(g), out = tensor_array(call->out[side]), ax, ay, az;
  if (x) ax = array_broadcast(x, g->ndim, g->shape);
  if (y) ay = array_broadcast(y, g->ndim, g->shape);
  if (z) az = tensor_array(z);
  return tensor_kernels(g)->binary_backward(call->engine, (int)call->op->row, side, attributes, &ag,
                                            x ? &ax : NULL, y ? &ay : NULL, z ? &az : NULL, &out);
}

static moon_status backward_binary(op_backward_call *call) {
  for (int side = 0; side < 2; side++)
    if (call->needs[side]) MOON_TRY(backward_side(call, side));
  return MOON_OK;
}

// -- results of type bool

static moon_status forward_compare(op_call *call) {
  int ndim;
  int64_t shape[MOON_MAX_DIMS];
  MOON_TRY(broadcast_inputs(call, &ndim, shape));
  MOON_TRY(make_result(call, MOON_BOOL, ndim, shape));
  device_array x = array_broadcast(call->args[0].tensor, ndim, shape);
  device_array y = array_broadcast(call->args[1].tensor, ndim, shape);
  device_array to = tensor_array(call->results[0]);
  return tensor_kernels(call->results[0])->compare(call->engine, (int)call->op->row, &x, &y, &to);
}

static moon_status forward_predicate(op_call *call) {
  moon_tensor *x = call->args[0].tensor;
  MOON_TRY(make_result(call, MOON_BOOL, x->ndim, x->shape));
  device_array from = tensor_array(x), to = tensor_array(call->results[0]);
  return tensor_kernels(x)->predicate(call->engine, (int)call->op->row, &from, &to);
}
