// Making tensors. All take the options dtype (float32 unless said otherwise), device and
// requires_grad. The *_like forms copy shape, layout, dtype and device of a tensor, never its
// history; they are marked composite so that the tape ignores them.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "autograd/tape.h"
#include "ops/random.h"

// The three options stand at the end of every schema here, in this order.
#define OPTIONS "dtype: dtype?, device: device?, requires_grad: bool = false) -> out"
enum { DTYPE, DEVICE, REQUIRES_GRAD };

static const op_value *option(const op_call *call, int which) {
  return &call->args[call->op->signature->param_count - 3 + which];
}

// Makes results[0], undefined, of the type and on the device the options say.
static moon_status make(op_call *call, moon_dtype dtype, int ndim, const int64_t *shape) {
  const op_value *device = option(call, DEVICE), *type = option(call, DTYPE);
  return tensor_new(call->engine, device->given ? device->device : device_default(call->engine),
                    type->given ? type->dtype : dtype, ndim, shape, &call->results[0]);
}

static moon_status make_shaped(op_call *call, moon_dtype dtype, const op_value *shape) {
  return make(call, dtype, shape->ints.count, shape->ints.v);
}

// The same for *_like.
static moon_status make_like(op_call *call) {
  const op_value *device = option(call, DEVICE), *type = option(call, DTYPE);
  const moon_tensor *model = call->args[0].tensor;
  return tensor_new_as(call->engine, model,
                       device->given ? device->device : tensor_device(model),
                       type->given ? type->dtype : model->dtype, model->shape,
                       &call->results[0]);
}

// The last step of all: the flag.
static moon_status finish(op_call *call) {
  if (!option(call, REQUIRES_GRAD)->boolean) return MOON_OK;
  return tape_set_requires_grad(call->engine, call->results[0], true);
}

static moon_status fill(op_call *call, double value) {
  device_array out = tensor_array(call->results[0]);
  if (!dtype_is_float(out.dtype) && value != floor(value))
    return moon_fail(MOON_BAD_DTYPE, "value %g is no whole number, which %s needs", value,
                     dtype_name(out.dtype));
  MOON_TRY(tensor_kernels(call->results[0])->fill(call->engine, value, &out));
  return finish(call);
}

// -- of a given shape; a descriptor's row is the value for zeros and ones

static moon_status forward_constant(op_call *call) {
  MOON_TRY(make_shaped(call, MOON_F32, &call->args[0]));
  return fill(call, (double)call->op->row);
}

static moon_status forward_constant_like(op_call *call) {
  MOON_TRY(make_like(call));
  return fill(call, (double)call->op->row);
}

static moon_status forward_full(op_call *call) {
  MOON_TRY(make_shaped(call, MOON_F32, &call->args[0]));
  return fill(call, call->args[1].number);
}

static moon_status forward_full_like(op_call *call) {
  MOON_TRY(make_like(call));
  return fill(call, call->args[1].number);
}

static moon_status forward_empty(op_call *call) {
  MOON_TRY(make_shaped(call, MOON_F32, &call->args[0]));
  return finish(call);
}

static moon_status forward_empty_like(op_call *call) {
  MOON_TRY(make_like(call));
  return finish(call);
}

// -- random; a descriptor's row says whether the normal distribution is wanted

static moon_status draw(op_call *call) {
  moon_tensor *out = call->results[0];
  if (!dtype_is_float(out->dtype))
    return moon_fail(MOON_BAD_DTYPE,
                     "dtype must be a float type, got %s; randint gives whole numbers",
                     dtype_name(out->dtype));
  if (call->op->row == 0) MOON_TRY(random_fill_uniform(call->engine, 0, 1, out));
  else MOON_TRY(random_fill_normal(call->engine, 0, 1, out));
  return finish(call);
}

static moon_status forward_rand(op_call *call) {
  MOON_TRY(make_shaped(call, MOON_F32, &call->args[0]));
  return draw(call);
}

static moon_status forward_rand_like(op_call *call) {
  MOON_TRY(make_like(call));
  return draw(call);
}

static moon_status forward_randint(op_call *call) {
  enum { LOW, HIGH, SHAPE };
  MOON_TRY(make_shaped(call, MOON_I64, &call->args[SHAPE]));
  MOON_TRY(random_fill_integers(call->engine, call->args[LOW].integer, call->args[HIGH].integer,
                                call->results[0]));
  return finish(call);
}

static moon_status permutation(op_call *call, moon_tensor *order) {
  device_array out = tensor_array(order);
  uint64_t first = engine_take_draws(call->engine, (uint64_t)out.shape[0]);
  return tensor_kernels(order)->random_permutation(call->engine, call->engine->seed, first, 1,
                                                   &out);
}

static moon_status forward_randperm(op_call *call) {
  int64_t n = call->args[0].integer;
  moon_tensor *order;
  if (n < 0) return moon_fail(MOON_BAD_ARGUMENT, "n must not be negative, got %" PRId64, n);
  MOON_TRY(make(call, MOON_I64, 1, &n));
  MOON_TRY(ops_new(call->engine, call->results[0], MOON_I64, 1, &n, &order));
  moon_status status = permutation(call, order);
  if (status == MOON_OK) status = ops_copy(call->engine, order, call->results[0]);
  tensor_release(order);
  MOON_TRY(status);
  return finish(call);
}

// -- ranges

// Numbers of a range whose last step may miss `to` by rounding: 0, 0.1, 0.2, 0.3 has 4, although
// 0.3 / 0.1 is a little less than 3 in binary.
static double range_steps(double from, double to, double step) {
  const double slack = 1e-12;
  double steps = (to - from) / step;
  return steps < 0 ? -1 : floor(steps * (1 + slack));
}

static bool is_whole(double x) { return x == floor(x) && fabs(x) <= 0x1p53; }

static moon_status forward_arange(op_call *call) {
  enum { FROM, TO, STEP };
  double from = call->args[TO].given ? call->args[FROM].number : 1;
  double to = call->args[call->args[TO].given ? TO : FROM].number;
  double step = call->args[STEP].number;
  if (step == 0) return moon_fail(MOON_BAD_ARGUMENT, "step must not be 0");
  if (!isfinite(from) || !isfinite(to) || !isfinite(step))
    return moon_fail(MOON_BAD_ARGUMENT, "from, to and step must be finite, got %g, %g, %g", from,
                     to, step);
  double steps = range_steps(from, to, step);
  if (steps >= 0x1p60)
    return moon_fail(MOON_OUT_OF_MEMORY,
                     "%g to %g in steps of %g are more numbers than memory can hold", from, to,
                     step);
  int64_t count = (int64_t)steps + 1;
  moon_dtype dtype = is_whole(from) && is_whole(to) && is_whole(step) ? MOON_I64 : MOON_F32;
  MOON_TRY(make(call, dtype, 1, &count));
  if (!dtype_is_float(call->results[0]->dtype) && dtype != MOON_I64)
    return moon_fail(MOON_BAD_DTYPE,
                     "from, to and step must be whole numbers for %s, got %g, %g, %g",
                     dtype_name(call->results[0]->dtype), from, to, step);
  device_array out = tensor_array(call->results[0]);
  MOON_TRY(tensor_kernels(call->results[0])->arange(call->engine, from, step, &out));
  return finish(call);
}

static moon_status forward_linspace(op_call *call) {
  enum { FROM, TO, COUNT };
  double from = call->args[FROM].number, to = call->args[TO].number;
  int64_t count = call->args[COUNT].integer;
  if (count < 0)
    return moon_fail(MOON_BAD_ARGUMENT, "count must not be negative, got %" PRId64, count);
  if (!isfinite(from) || !isfinite(to))
    return moon_fail(MOON_BAD_ARGUMENT, "from and to must be finite, got %g and %g", from, to);
  MOON_TRY(make(call, MOON_F32, 1, &count));
  const moon_tensor *made = call->results[0];
  if (!dtype_is_float(made->dtype))
    return moon_fail(MOON_BAD_DTYPE,
                     "dtype must be a float type, got %s; arange gives whole numbers",
                     dtype_name(made->dtype));
  double step = count > 1 ? to / (double)(count - 1) - from / (double)(count - 1) : 0;
  device_array out = tensor_array(made), last = out;
  MOON_TRY(tensor_kernels(made)->arange(call->engine, from, step, &out));
  if (count > 1) {   // adding up steps may end a rounding away from `to`
    last.shape[0] = 1;
    last.data = (char *)out.data + (count - 1) * (int64_t)dtype_size(out.dtype);
    MOON_TRY(tensor_kernels(made)->fill(call->engine, to, &last));
  }
  return finish(call);
}

static moon_status forward_eye(op_call *call) {
  int64_t n = call->args[0].integer, m = call->args[1].given ? call->args[1].integer : n;
  if (n < 0 || m < 0)
    return moon_fail(MOON_BAD_ARGUMENT,
                     "n and m must not be negative, got %" PRId64 " and %" PRId64, n, m);
  MOON_TRY(make(call, MOON_F32, 2, (int64_t[]){ n, m }));
  const device_kernels *kernels = tensor_kernels(call->results[0]);
  device_array out = tensor_array(call->results[0]), diagonal = out;
  diagonal.ndim = 1;
  diagonal.shape[0] = n < m ? n : m;
  diagonal.strides[0] = m + 1;
  MOON_TRY(kernels->fill(call->engine, 0, &out));
  MOON_TRY(kernels->fill(call->engine, 1, &diagonal));
  return finish(call);
}

// These run no operators: OP_COMPOSITE keeps the model's history out.
#define LIKE (OP_COMPOSITE | OP_CONSTANT)

// Row 0: the frequencies of fft in its order, 0, 1, ..., -2, -1; row 1: those of rfft. Over n d.
static moon_status forward_frequencies(op_call *call) {
  enum { N, D };
  int64_t n = call->args[N].integer;
  double d = call->args[D].number, step = 1 / ((double)n * d);
  if (n < 1) return moon_fail(MOON_BAD_ARGUMENT, "n must be at least 1, got %" PRId64, n);
  if (!isfinite(d) || d == 0)
    return moon_fail(MOON_BAD_ARGUMENT, "d must be finite and not 0, got %g", d);
  int64_t count = call->op->row ? n / 2 + 1 : n, rising = call->op->row ? count : (n + 1) / 2;
  MOON_TRY(make(call, MOON_F32, 1, &count));
  device_array out = tensor_array(call->results[0]), rest = out;
  if (!dtype_is_float(out.dtype))
    return moon_fail(MOON_BAD_DTYPE, "dtype must be a float type, got %s", dtype_name(out.dtype));
  out.shape[0] = rising;
  rest.shape[0] = count - rising;
  rest.data = (char *)rest.data + rising * (int64_t)dtype_size(rest.dtype);
  const device_kernels *kernels = tensor_kernels(call->results[0]);
  MOON_TRY(kernels->arange(call->engine, 0, step, &out));
  if (rest.shape[0] > 0)
    MOON_TRY(kernels->arange(call->engine, -(double)(n / 2) * step, step, &rest));
  return finish(call);
}

static op_descriptor descriptors[] = {
  { .name = "zeros",
    .example = "moon.zeros(2) --> {0, 0}",
    .flags = OP_FUNCTION_ONLY, .row = 0, .schema = "(shape: int[], " OPTIONS,
    .doc = "A tensor of zeros.", .forward = forward_constant },
  { .name = "ones",
    .example = "moon.ones(2) --> {1, 1}",
    .flags = OP_FUNCTION_ONLY, .row = 1, .schema = "(shape: int[], " OPTIONS,
    .doc = "A tensor of ones.", .forward = forward_constant },
  { .name = "empty",
    .example = "moon.empty(2, 3)",
    .flags = OP_FUNCTION_ONLY, .schema = "(shape: int[], " OPTIONS,
    .doc = "A tensor whose elements are whatever the memory held.", .forward = forward_empty },
  { .name = "full",
    .example = "moon.full({2}, 7) --> {7, 7}",
    .flags = OP_FUNCTION_ONLY, .schema = "(shape: int[], value: number, " OPTIONS,
    .doc = "A tensor of one value. Several sizes are given as a list: full({2, 3}, 0.5).",
    .forward = forward_full },
  { .name = "rand",
    .example = "moon.rand(2, 3)",
    .dtypes = OP_FLOATS, .flags = OP_FUNCTION_ONLY, .row = 0, .schema = "(shape: int[], " OPTIONS,
    .doc = "Numbers drawn evenly from 0 (included) to 1 (left out).", .forward = forward_rand },
  { .name = "randn",
    .example = "moon.randn(2, 3)",
    .dtypes = OP_FLOATS, .flags = OP_FUNCTION_ONLY, .row = 1, .schema = "(shape: int[], " OPTIONS,
    .doc = "Numbers drawn from the normal distribution of mean 0 and deviation 1.",
    .forward = forward_rand },
  { .name = "randint",
    .example = "moon.randint(1, 6, {3})",
    .flags = OP_FUNCTION_ONLY,
    .schema = "(low: int, high: int, shape: int[], " OPTIONS,
    .doc = "Whole numbers drawn evenly from low to high, both included; int64 unless dtype says "
           "else.",
    .forward = forward_randint },
  { .name = "randperm",
    .example = "moon.randperm(5):sum() --> 15",
    .flags = OP_FUNCTION_ONLY, .schema = "(n: int, " OPTIONS,
    .doc = "The numbers 1..n in a random order; int64 unless dtype says else.",
    .forward = forward_randperm },
  { .name = "arange",
    .example = "moon.arange(1, 4) --> {1, 2, 3, 4}",
    .flags = OP_FUNCTION_ONLY,
    .schema = "(from: number, to: number?, step: number = 1, " OPTIONS,
    .doc = "The numbers from, from + step, ... up to and including to, as a loop of Lua counts; "
           "arange(n) is 1..n. int64 when all three are whole, else float32, unless dtype says "
           "else. Empty when to lies before from.",
    .forward = forward_arange },
  { .name = "linspace",
    .example = "moon.linspace(0, 1, 3) --> {0, 0.5, 1}",
    .flags = OP_FUNCTION_ONLY,
    .schema = "(from: number, to: number, count: int, " OPTIONS,
    .doc = "`count` numbers at equal distances, of which the first is from and the last is to.",
    .forward = forward_linspace },
  { .name = "fftfreq", .flags = OP_FUNCTION_ONLY, .row = 0, .dtypes = OP_FLOATS,
    .schema = "(n: int, d: number = 1, " OPTIONS,
    .doc = "The frequencies that fft of n samples, d apart, gives, in its order: 0, 1, ..., -2, -1 "
           "divided by n d.",
    .example = "moon.fftfreq(4) --> {0, 0.25, -0.5, -0.25}", .forward = forward_frequencies },
  { .name = "rfftfreq", .flags = OP_FUNCTION_ONLY, .row = 1, .dtypes = OP_FLOATS,
    .schema = "(n: int, d: number = 1, " OPTIONS,
    .doc = "The frequencies that rfft of n samples, d apart, gives: 0, 1, ..., n / 2 divided by "
           "n d.",
    .example = "moon.rfftfreq(4) --> {0, 0.25, 0.5}", .forward = forward_frequencies },
  { .name = "eye",
    .example = "moon.eye(2) --> {{1, 0}, {0, 1}}",
    .flags = OP_FUNCTION_ONLY, .schema = "(n: int, m: int?, " OPTIONS,
    .doc = "A matrix n x m (n x n if m is left out) with ones on the diagonal and zeros elsewhere.",
    .forward = forward_eye },
  { .name = "zeros_like",
    .example = "moon.zeros_like(moon.ones(2)) --> {0, 0}",
    .flags = LIKE, .row = 0, .schema = "(input: Tensor, " OPTIONS,
    .doc = "Zeros of the shape, type and device of a tensor.", .forward = forward_constant_like },
  { .name = "ones_like",
    .example = "moon.ones_like(moon.zeros(2)) --> {1, 1}",
    .flags = LIKE, .row = 1, .schema = "(input: Tensor, " OPTIONS,
    .doc = "Ones of the shape, type and device of a tensor.", .forward = forward_constant_like },
  { .name = "empty_like",
    .example = "moon.empty_like(moon.ones(2))",
    .flags = LIKE, .schema = "(input: Tensor, " OPTIONS,
    .doc = "A tensor of the shape, type and device of another, with undefined elements.",
    .forward = forward_empty_like },
  { .name = "full_like",
    .example = "moon.full_like(moon.zeros(2), 7) --> {7, 7}",
    .flags = LIKE, .schema = "(input: Tensor, value: number, " OPTIONS,
    .doc = "One value in the shape, type and device of a tensor.", .forward = forward_full_like },
  { .name = "rand_like",
    .example = "moon.rand_like(moon.zeros(2))",
    .dtypes = OP_FLOATS, .flags = LIKE, .row = 0, .schema = "(input: Tensor, " OPTIONS,
    .doc = "Numbers drawn evenly from 0 to 1 in the shape, type and device of a tensor.",
    .forward = forward_rand_like },
  { .name = "randn_like",
    .example = "moon.randn_like(moon.zeros(2))",
    .dtypes = OP_FLOATS, .flags = LIKE, .row = 1, .schema = "(input: Tensor, " OPTIONS,
    .doc = "Numbers drawn from the normal distribution in the shape, type and device of a tensor.",
    .forward = forward_rand_like },
};

OP_FAMILY(creation, descriptors);
