// The operator behind weighted sums over spans of a dimension. See weighing.h.
#include "ops/weighing.h"

#include <string.h>

typedef struct weigh_table {
  moon_tensor *spans, *weights;   // int64 (count, 2) and float64 (count, most), on the host
} weigh_table;

static void table_release(weigh_table *table) {
  tensor_release(table->spans);
  tensor_release(table->weights);
}

static moon_status table_new(moon_engine *engine, int64_t count, int64_t most,
                             weigh_table *table) {
  *table = (weigh_table){ .spans = NULL };
  MOON_TRY(tensor_new(engine, device_cpu(), MOON_I64, 2, (int64_t[]){ count, 2 }, &table->spans));
  moon_status status = tensor_new(engine, device_cpu(), MOON_F64, 2, (int64_t[]){ count, most },
                                  &table->weights);
  if (status != MOON_OK) table_release(table);
  return status;
}

// The table of an axis, borrowed until the composition is closed.
static weigh_table compose_table(compose *c, const weigh_axis *axis) {
  weigh_table table = { .spans = NULL };
  if (c->status != MOON_OK) return table;
  moon_status status = table_new(c->engine, axis->count, axis->most, &table);
  if (status != MOON_OK) table = (weigh_table){ .spans = NULL };
  table.spans = compose_adopt(c, status, table.spans);
  table.weights = compose_adopt(c, status, table.weights);
  if (c->status != MOON_OK) return table;
  int64_t *spans = tensor_data(table.spans);
  double *weights = tensor_data(table.weights);
  for (int64_t i = 0; i < axis->count; i++)
    axis->rule(axis->context, i, spans + 2 * i, weights + i * axis->most);
  return table;
}

moon_tensor *weigh_compose(compose *c, moon_tensor *x, int dim, const weigh_axis *axis) {
  weigh_table table = compose_table(c, axis);
  return COMPOSE(c, weigh_along, op_tensor(x), op_int(dim), op_tensor(table.spans),
                 op_tensor(table.weights));
}

moon_tensor *weigh_compose_planes(compose *c, moon_tensor *x, int dim, const weigh_axis axes[2]) {
  weigh_table down = compose_table(c, &axes[0]), across = compose_table(c, &axes[1]);
  return COMPOSE(c, weigh_planes, op_tensor(x), op_int(dim), op_tensor(down.spans),
                 op_tensor(down.weights), op_tensor(across.spans), op_tensor(across.weights));
}

enum { INPUT, DIM, SPANS, WEIGHTS, ACROSS_SPANS, ACROSS_WEIGHTS };

// A result with as many elements along `dims` dimensions from DIM on as there are spans for them.
static moon_status new_result(op_call *call, int dims) {
  moon_tensor *x = call->args[INPUT].tensor;
  int64_t shape[MOON_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  for (int i = 0; i < dims; i++)
    shape[call->args[DIM].integer + i] = call->args[SPANS + 2 * i].tensor->shape[0];
  return ops_new_like(call->engine, x, x->dtype, shape, &call->results[0]);
}

static moon_status forward(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  int dim = (int)call->args[DIM].integer;
  MOON_TRY(new_result(call, 1));
  device_array from = tensor_array(x), to = tensor_array(call->results[0]);
  device_array spans = tensor_array(call->args[SPANS].tensor);
  device_array weights = tensor_array(call->args[WEIGHTS].tensor);
  return tensor_kernels(x)->weigh(call->engine, dim, &from, &spans, &weights, &to);
}

static moon_status forward_planes(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  int dim = (int)call->args[DIM].integer;
  MOON_TRY(new_result(call, 2));
  device_array from = tensor_array(x), to = tensor_array(call->results[0]), tables[4];
  for (int i = 0; i < 4; i++) tables[i] = tensor_array(call->args[SPANS + i].tensor);
  const device_array *list[4] = { &tables[0], &tables[1], &tables[2], &tables[3] };
  return tensor_kernels(x)->weigh_planes(call->engine, dim, &from, list, &to);
}

// The results that element i goes into: spans[i] becomes the first and past the last of them.
// Gives the most that any element has.
static int64_t find_uses(const moon_tensor *table, int64_t size, int64_t *spans) {
  const int64_t *given = tensor_data(table);
  int64_t most = 1;
  memset(spans, 0, (size_t)size * 2 * sizeof *spans);
  for (int64_t at = 0; at < table->shape[0]; at++)
    for (int64_t i = given[2 * at]; i < given[2 * at + 1]; i++) {
      if (spans[2 * i + 1] == 0) spans[2 * i] = at;
      spans[2 * i + 1] = at + 1;
      if (at + 1 - spans[2 * i] > most) most = at + 1 - spans[2 * i];
    }
  return most;
}

static moon_status transpose(moon_engine *engine, const weigh_table *table, int64_t size,
                             weigh_table *turned) {
  moon_tensor *uses;
  MOON_TRY(tensor_new(engine, device_cpu(), MOON_I64, 2, (int64_t[]){ size, 2 }, &uses));
  int64_t most = find_uses(table->spans, size, tensor_data(uses));
  moon_status status = table_new(engine, size, most, turned);
  if (status == MOON_OK) {
    const int64_t *given = tensor_data(table->spans);
    const double *weights = tensor_data(table->weights);
    int64_t *spans = tensor_data(turned->spans), taps = table->weights->shape[1];
    double *to = tensor_data(turned->weights);
    memcpy(spans, tensor_data(uses), (size_t)size * 2 * sizeof *spans);
    memset(to, 0, (size_t)tensor_count(turned->weights) * sizeof *to);
    for (int64_t at = 0; at < table->spans->shape[0]; at++)
      for (int64_t i = given[2 * at]; i < given[2 * at + 1]; i++)
        to[i * most + at - spans[2 * i]] = weights[at * taps + i - given[2 * at]];
  }
  tensor_release(uses);
  return status;
}

static moon_status backward(op_backward_call *call) {
  weigh_table table = { call->args[SPANS].tensor, call->args[WEIGHTS].tensor }, turned;
  int64_t dim = call->args[DIM].integer;
  MOON_TRY(transpose(call->engine, &table, call->inputs[INPUT].shape[dim], &turned));
  moon_status status = OP_RUN(call->engine, ops_get(OP_weigh_along), &call->out[INPUT],
                              op_tensor(call->grads[0]), op_int(dim), op_tensor(turned.spans),
                              op_tensor(turned.weights));
  table_release(&turned);
  return status;
}

static moon_status backward_planes(op_backward_call *call) {
  int64_t dim = call->args[DIM].integer;
  const int64_t *shape = call->inputs[INPUT].shape;
  weigh_table down = { call->args[SPANS].tensor, call->args[WEIGHTS].tensor }, turned_down;
  weigh_table across = { call->args[ACROSS_SPANS].tensor, call->args[ACROSS_WEIGHTS].tensor };
  weigh_table turned_across;
  MOON_TRY(transpose(call->engine, &down, shape[dim], &turned_down));
  moon_status status = transpose(call->engine, &across, shape[dim + 1], &turned_across);
  if (status == MOON_OK) {
    status = OP_RUN(call->engine, ops_get(OP_weigh_planes), &call->out[INPUT],
                    op_tensor(call->grads[0]), op_int(dim), op_tensor(turned_down.spans),
                    op_tensor(turned_down.weights), op_tensor(turned_across.spans),
                    op_tensor(turned_across.weights));
    table_release(&turned_across);
  }
  table_release(&turned_down);
  return status;
}

static op_descriptor descriptors[] = {
  { .name = "weigh_along", .dtypes = OP_FLOATS, .flags = OP_HIDDEN | OP_HOST_TABLES,
    .saves = "spans weights",
    .schema = "(input: Tensor, dim: dim, spans: Tensor, weights: Tensor) -> out",
    .doc = "Sums over spans of a dimension: result i is the sum of weights[i][k] times element "
           "spans[i][0] + k, up to before spans[i][1], counted from 0.",
    .forward = forward, .backward = backward },
  { .name = "weigh_planes", .dtypes = OP_FLOATS, .flags = OP_HIDDEN | OP_HOST_TABLES,
    .saves = "spans weights across_spans across_weights",
    .schema = "(input: Tensor, dim: dim, spans: Tensor, weights: Tensor, across_spans: Tensor, "
              "across_weights: Tensor) -> out",
    .doc = "weigh_along of a dimension and of the one behind it.",
    .forward = forward_planes, .backward = backward_planes },
};
OP_FAMILY(weighing, descriptors);
