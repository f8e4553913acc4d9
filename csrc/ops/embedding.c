// Rows of a table picked by number: embedding, and embedding_bag, which sums, averages or takes the
// largest of groups of rows ("bags"). The gradient of a row is the sum over its uses, written with
// index_add; a row named by padding_index gets none.
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ops/compose.h"

enum { WEIGHT, INDEX };

static moon_status check_table(const moon_tensor *weight) {
  MOON_TRY(ops_need_float("weight", weight));
  return ops_need_ndim("weight", weight, 2, "(rows, columns)");
}

// A row's number from 0; -1 where none is named.
static moon_status read_row(const op_value *value, const char *name, int64_t rows, int64_t *row) {
  *row = -1;
  if (!value->given) return MOON_OK;
  *row = value->integer < 0 ? value->integer + rows : value->integer;
  if (*row >= 0 && *row < rows) return MOON_OK;
  return moon_fail(MOON_BAD_INDEX, "%s must lie in 1..%" PRId64 " or count from the end, found %"
                   PRId64, name, rows, value->integer + (value->integer >= 0));
}

// -- embedding

enum { PADDING = 2 };

static moon_status forward_embedding(op_call *call) {
  const moon_tensor *weight = call->args[WEIGHT].tensor, *index = call->args[INDEX].tensor;
  int64_t shape[MOON_MAX_DIMS], count, padding;
  moon_tensor *rows;
  MOON_TRY(check_table(weight));
  if (index->ndim == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "index must have at most %d dimensions, got %d",
                     MOON_MAX_DIMS - 1, index->ndim);
  MOON_TRY(read_row(&call->args[PADDING], "padding_index", weight->shape[0], &padding));
  memcpy(shape, index->shape, sizeof shape);
  shape[index->ndim] = weight->shape[1];
  MOON_TRY(shape_count(index->ndim + 1, shape, &count));
  MOON_TRY(ops_index_in(call->engine, "index", index, weight->shape[0], &rows));
  moon_status status = ops_new(call->engine, weight, weight->dtype, index->ndim + 1, shape,
                               &call->results[0]);
  if (status == MOON_OK) {
    device_array table = tensor_array(weight), at = tensor_array(rows);
    device_array out = tensor_array(call->results[0]);
    at.ndim = 1, at.shape[0] = tensor_count(rows), at.strides[0] = 1;
    out.ndim = 2, out.shape[0] = at.shape[0], out.shape[1] = weight->shape[1];
    out.strides[0] = weight->shape[1], out.strides[1] = 1;
    status = tensor_kernels(weight)->index_select(call->engine, 0, &table, &at, &out);
  }
  tensor_release(rows);
  return status;
}

static moon_status backward_embedding(op_backward_call *call) {
  const op_input *weight = &call->inputs[WEIGHT];
  moon_tensor *g = call->grads[0], *index = call->args[INDEX].tensor, *zeros = NULL;
  int64_t count = tensor_count(index), padding;
  if (!call->needs[WEIGHT]) return MOON_OK;
  MOON_TRY(read_row(&call->args[PADDING], "padding_index", weight->shape[0], &padding));
  compose c = compose_open(call->engine);
  g = compose_reshape(&c, g, 2, (int64_t[]){ count, weight->shape[1] });
  index = compose_reshape(&c, index, 1, &count);
  if (padding >= 0 && index) {
    moon_tensor *row = compose_number(&c, index, (double)(padding + 1));
    moon_tensor *padded = COMPOSE(&c, eq, op_tensor(index), op_tensor(row));
    padded = COMPOSE(&c, unsqueeze, op_tensor(padded), op_int(1));
    moon_tensor *nothing = compose_number(&c, call->grads[0], 0);
    g = COMPOSE(&c, where, op_tensor(padded), op_tensor(nothing), op_tensor(g));
  }
  moon_status status = ops_new_filled(call->engine, call->grads[0], weight->dtype, 2,
                                      weight->shape, 0, &zeros);
  zeros = compose_adopt(&c, status, zeros);
  moon_tensor *sum = COMPOSE(&c, index_add, op_tensor(zeros), op_int(0), op_tensor(index),
                             op_tensor(g));
  return compose_close(&c, sum, &call->out[WEIGHT]);
}

// -- embedding_renorm_

static moon_status forward_renorm(op_call *call) {
  enum { MAX_NORM = 2, NORM_TYPE };
  moon_tensor *weight = call->args[WEIGHT].tensor, *index = call->args[INDEX].tensor;
  double most = call->args[MAX_NORM].number, p = call->args[NORM_TYPE].number;
  int64_t count = tensor_count(index);
  MOON_TRY(check_table(weight));
  if (!(most > 0)) return moon_fail(MOON_BAD_ARGUMENT, "max_norm must be above 0, got %g", most);
  if (!(p > 0)) return moon_fail(MOON_BAD_ARGUMENT, "norm_type must be above 0, got %g", p);
  compose c = compose_open(call->engine);
  index = compose_reshape(&c, index, 1, &count);
  moon_tensor *rows = COMPOSE(&c, index_select, op_tensor(weight), op_int(0), op_tensor(index));
  moon_tensor *norms = COMPOSE(&c, norm, op_tensor(rows), op_number(p),
                               op_ints(1, (int64_t[]){ 1 }), op_bool(true));
  moon_tensor *limit = compose_number(&c, weight, most), *one = compose_number(&c, weight, 1);
  moon_tensor *safe = norms ? compose_offset(&c, norms, 1e-7) : NULL;
  moon_tensor *factor = COMPOSE(&c, div, op_tensor(limit), op_tensor(safe));
  moon_tensor *large = COMPOSE(&c, gt, op_tensor(norms), op_tensor(limit));
  factor = COMPOSE(&c, where, op_tensor(large), op_tensor(factor), op_tensor(one));
  rows = COMPOSE(&c, mul, op_tensor(rows), op_tensor(factor));
  moon_tensor *changed = COMPOSE(&c, index_copy, op_tensor(weight), op_int(0), op_tensor(index),
                                 op_tensor(rows));
  if (changed) compose_check(&c, ops_copy(call->engine, changed, call->results[0]));
  return compose_close(&c, NULL, NULL);
}

// -- embedding_bag

enum { OFFSETS = 2, MODE, SAMPLE_WEIGHTS, BAG_PADDING, LAST_OFFSET };
enum { MODE_SUM, MODE_MEAN, MODE_MAX };

// A bag's rows lie next to each other: `starts` (bags) int64 holds the first position of each,
// from 1, and `number` (n) the bag of each position, from 1.
typedef struct bag_layout {
  int64_t bags, rows;
  moon_tensor *index;      // (rows), from 1
  moon_tensor *number;     // (rows)
  moon_tensor *starts;     // (bags)
} bag_layout;

static moon_tensor *whole_numbers(compose *c, const moon_tensor *like, double from, int64_t count,
                                  double step) {
  moon_tensor *made = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new(c->engine, like, MOON_I64, 1, &count, &made);
  made = compose_adopt(c, status, made);
  if (!made) return NULL;
  device_array array = tensor_array(made);
  compose_check(c, tensor_kernels(made)->arange(c->engine, from, step, &array));
  return made;
}

// The one element, or the range, of an integer tensor read back: false where it is empty.
static bool read_range(compose *c, moon_tensor *numbers, int64_t *low, int64_t *high) {
  if (!numbers) return false;
  device_array array = tensor_array(numbers);
  compose_check(c, tensor_kernels(numbers)->index_range(c->engine, &array, low, high));
  return c->status == MOON_OK && *low <= *high;
}

static moon_tensor *part(compose *c, moon_tensor *x, int64_t start, int64_t length) {
  return COMPOSE(c, narrow, op_tensor(x), op_int(0), op_int(start), op_int(length));
}

// Offsets start at 1, never fall and, where they tell the end, end one past it.
static void check_offsets(compose *c, moon_tensor *offsets, int64_t end) {
  int64_t low, high, count = offsets->shape[0];
  if (count == 0) return;
  if (read_range(c, part(c, offsets, 0, 1), &low, &high) && low != 1)
    compose_check(c, moon_fail(MOON_BAD_INDEX, "the first of offsets must be 1, found %" PRId64,
                               low));
  if (end > 0 && read_range(c, part(c, offsets, count - 1, 1), &low, &high) && low != end)
    compose_check(c, moon_fail(MOON_BAD_INDEX, "the last of offsets must be %" PRId64 ", one past "
                               "the end, found %" PRId64, end, low));
  moon_tensor *earlier = part(c, offsets, 0, count - 1), *later = part(c, offsets, 1, count - 1);
  moon_tensor *rise = COMPOSE(c, sub, op_tensor(later), op_tensor(earlier));
  if (read_range(c, rise, &low, &high) && low < 0)
    compose_check(c, moon_fail(MOON_BAD_INDEX, "offsets must not fall, found a step of %" PRId64,
                               low));
}

static moon_tensor *filled_numbers(compose *c, const moon_tensor *like, int64_t count,
                                   double value) {
  moon_tensor *made = NULL;
  if (c->status != MOON_OK) return NULL;
  moon_status status = ops_new_filled(c->engine, like, MOON_I64, 1, &count, value, &made);
  return compose_adopt(c, status, made);
}

// Bags from 1-D indices with offsets: position i lies in the bag that the number of offsets up to
// it tells, a cumulative sum of ones.
static void read_ragged(compose *c, const op_call *call, bag_layout *bags) {
  moon_tensor *index = call->args[INDEX].tensor, *starts = NULL;
  bool last = call->args[LAST_OFFSET].boolean;
  int64_t room = index->shape[0] + 1;
  bags->rows = index->shape[0];
  bags->index = index;
  moon_status status = ops_index_in(call->engine, "offsets", call->args[OFFSETS].tensor, room,
                                    &starts);
  starts = compose_adopt(c, status, starts);
  starts = starts ? compose_offset(c, starts, 1) : NULL;
  if (!starts) return;
  check_offsets(c, starts, last ? room : 0);
  bags->bags = starts->shape[0] - (last ? 1 : 0);
  bags->starts = part(c, starts, 0, bags->bags);
  moon_tensor *marks = filled_numbers(c, index, room, 0);
  moon_tensor *ones = filled_numbers(c, index, bags->bags, 1);
  marks = COMPOSE(c, index_add, op_tensor(marks), op_int(0), op_tensor(bags->starts),
                  op_tensor(ones));
  marks = COMPOSE(c, cumsum, op_tensor(marks), op_int(0));
  bags->number = part(c, marks, 0, bags->rows);
}

// Bags from (bags, size) indices.
static void read_regular(compose *c, const op_call *call, bag_layout *bags) {
  moon_tensor *index = call->args[INDEX].tensor;
  int64_t size = index->shape[1];
  bags->bags = index->shape[0];
  bags->rows = tensor_count(index);
  bags->index = compose_reshape(c, index, 1, &bags->rows);
  moon_tensor *numbers = whole_numbers(c, index, 1, bags->bags, 1);
  numbers = COMPOSE(c, unsqueeze, op_tensor(numbers), op_int(1));
  numbers = COMPOSE(c, expand, op_tensor(numbers), op_ints(2, index->shape));
  bags->number = compose_reshape(c, numbers, 1, &bags->rows);
  bags->starts = whole_numbers(c, index, 1, bags->bags, (double)size);
}

static moon_status check_bag(const op_call *call) {
  const moon_tensor *weight = call->args[WEIGHT].tensor, *index = call->args[INDEX].tensor;
  const moon_tensor *offsets = call->args[OFFSETS].tensor;
  const moon_tensor *samples = call->args[SAMPLE_WEIGHTS].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  MOON_TRY(check_table(weight));
  if (index->ndim != (offsets ? 1 : 2))
    return moon_fail(MOON_BAD_SHAPE, "index must be (n) with offsets or (bags, size) without, got "
                     "%s %s", tensor_shape_text(index, a), offsets ? "with" : "without");
  if (offsets) MOON_TRY(ops_need_ndim("offsets", offsets, 1, "(bags)"));
  if (offsets && offsets->shape[0] == 0 && index->shape[0] > 0)
    return moon_fail(MOON_BAD_SHAPE, "offsets is empty but index has %" PRId64 " members",
                     index->shape[0]);
  if (offsets && call->args[LAST_OFFSET].boolean && offsets->shape[0] == 0)
    return moon_fail(MOON_BAD_SHAPE, "offsets must hold the end too (include_last_offset), got 0");
  if (!samples) return MOON_OK;
  if (call->args[MODE].integer != MODE_SUM)
    return moon_fail(MOON_BAD_ARGUMENT, "per_sample_weights go with mode \"sum\" only");
  MOON_TRY(ops_need_same_dtype("weight", weight, "per_sample_weights", samples));
  if (tensor_same_shape(index, samples)) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "per_sample_weights %s must have the shape of index %s",
                   tensor_shape_text(samples, a), tensor_shape_text(index, b));
}

// Adds rows (rows, columns) up by bag: (bags, columns).
static moon_tensor *add_by_bag(compose *c, const bag_layout *bags, moon_tensor *rows) {
  moon_tensor *zeros = NULL;
  if (c->status != MOON_OK) return NULL;
  int64_t shape[2] = { bags->bags, rows->shape[1] };
  moon_status status = ops_new_filled(c->engine, rows, rows->dtype, 2, shape, 0, &zeros);
  zeros = compose_adopt(c, status, zeros);
  return COMPOSE(c, index_add, op_tensor(zeros), op_int(0), op_tensor(bags->number),
                 op_tensor(rows));
}

// 1 for rows that count, 0 for padding: (rows, 1)
static moon_tensor *counted_rows(compose *c, const op_call *call, const bag_layout *bags,
                                 int64_t padding) {
  moon_tensor *weight = call->args[WEIGHT].tensor, *one = compose_number(c, weight, 1);
  moon_tensor *zero = compose_number(c, weight, 0), *column;
  if (c->status != MOON_OK) return NULL;
  moon_tensor *row = compose_number(c, bags->index, (double)(padding + 1));   // 0 is no row
  moon_tensor *padded = COMPOSE(c, eq, op_tensor(bags->index), op_tensor(row));
  column = COMPOSE(c, where, op_tensor(padded), op_tensor(zero), op_tensor(one));
  return COMPOSE(c, unsqueeze, op_tensor(column), op_int(1));
}

static moon_tensor *sum_bags(compose *c, const op_call *call, const bag_layout *bags,
                             moon_tensor *rows, int64_t padding) {
  moon_tensor *samples = call->args[SAMPLE_WEIGHTS].tensor, *counted = NULL;
  bool mean = call->args[MODE].integer == MODE_MEAN;
  if (padding >= 0 || mean) counted = counted_rows(c, call, bags, padding);
  if (samples) {
    int64_t shape[2] = { bags->rows, 1 };
    samples = compose_reshape(c, samples, 2, shape);
    rows = COMPOSE(c, mul, op_tensor(rows), op_tensor(samples));
  }
  if (padding >= 0) rows = COMPOSE(c, mul, op_tensor(rows), op_tensor(counted));
  moon_tensor *sum = rows ? add_by_bag(c, bags, rows) : NULL;
  if (!mean || !counted) return sum;
  moon_tensor *count = add_by_bag(c, bags, counted);
  moon_tensor *one = compose_number(c, call->args[WEIGHT].tensor, 1);
  count = COMPOSE(c, maximum, op_tensor(count), op_tensor(one));   // empty bags stay 0
  return COMPOSE(c, div, op_tensor(sum), op_tensor(count));
}

// Rows named by padding_index count as -inf.
static moon_tensor *without_padding(compose *c, const bag_layout *bags, moon_tensor *rows,
                                    int64_t padding) {
  if (padding < 0 || !rows) return rows;
  moon_tensor *row = compose_number(c, bags->index, (double)(padding + 1));
  moon_tensor *padded = COMPOSE(c, eq, op_tensor(bags->index), op_tensor(row));
  padded = COMPOSE(c, unsqueeze, op_tensor(padded), op_int(1));
  moon_tensor *least = compose_number(c, rows, -INFINITY);
  return COMPOSE(c, where, op_tensor(padded), op_tensor(least), op_tensor(rows));
}

// Each position's place in its bag, from 0, and the size of the widest bag (1 if all are empty).
static moon_tensor *places_in_bags(compose *c, const bag_layout *bags, int64_t *widest) {
  int64_t low, high;
  moon_tensor *position = bags->number ? whole_numbers(c, bags->number, 1, bags->rows, 1) : NULL;
  moon_tensor *start = COMPOSE(c, index_select, op_tensor(bags->starts), op_int(0),
                               op_tensor(bags->number));
  moon_tensor *place = COMPOSE(c, sub, op_tensor(position), op_tensor(start));
  *widest = 1;
  if (!place) return NULL;
  device_array array = tensor_array(place);
  compose_check(c, tensor_kernels(place)->index_range(c->engine, &array, &low, &high));
  if (c->status == MOON_OK && low <= high) *widest = high + 1;
  return place;
}

// The largest of each column in a bag, the first of equals; 0 for a bag without rows. Bags are laid
// out at the size of the widest, filled up with -inf.
static moon_tensor *largest_of_bags(compose *c, const bag_layout *bags, moon_tensor *rows,
                                    int64_t padding) {
  int64_t widest, count;
  moon_tensor *filled = NULL, *place = places_in_bags(c, bags, &widest);
  if (!place || !rows) return NULL;
  int64_t shape[3] = { bags->bags, widest, rows->shape[1] };
  compose_check(c, shape_count(3, shape, &count));
  if (c->status != MOON_OK) return NULL;
  // (number - 1) widest + place + 1
  moon_tensor *before = compose_offset(c, bags->number, -1);
  before = before ? compose_scale(c, before, (double)widest) : NULL;
  place = COMPOSE(c, add, op_tensor(before), op_tensor(place));
  place = place ? compose_offset(c, place, 1) : NULL;
  int64_t flat[2] = { shape[0] * widest, shape[2] };
  moon_status status = ops_new_filled(c->engine, rows, rows->dtype, 2, flat, -INFINITY, &filled);
  filled = compose_adopt(c, status, filled);
  rows = without_padding(c, bags, rows, padding);
  filled = COMPOSE(c, index_copy, op_tensor(filled), op_int(0), op_tensor(place), op_tensor(rows));
  filled = filled ? compose_reshape(c, filled, 3, shape) : NULL;
  moon_tensor *largest = COMPOSE(c, max_along, op_tensor(filled), op_int(1));
  if (!largest) return NULL;
  moon_tensor *least = compose_number(c, largest, -INFINITY), *zero = compose_number(c, largest, 0);
  moon_tensor *empty = COMPOSE(c, eq, op_tensor(largest), op_tensor(least));
  return COMPOSE(c, where, op_tensor(empty), op_tensor(zero), op_tensor(largest));
}

static moon_status forward_bag(op_call *call) {
  moon_tensor *weight = call->args[WEIGHT].tensor, *rows;
  bag_layout bags = { 0 };
  int64_t padding;
  MOON_TRY(check_bag(call));
  MOON_TRY(read_row(&call->args[BAG_PADDING], "padding_index", weight->shape[0], &padding));
  compose c = compose_open(call->engine);
  if (call->args[OFFSETS].given) read_ragged(&c, call, &bags);
  else read_regular(&c, call, &bags);
  rows = COMPOSE(&c, embedding, op_tensor(weight), op_tensor(bags.index),
                 call->args[BAG_PADDING]);
  moon_tensor *out = call->args[MODE].integer == MODE_MAX
                         ? largest_of_bags(&c, &bags, rows, padding)
                         : sum_bags(&c, call, &bags, rows, padding);
  return compose_close(&c, out, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "embedding", .dtypes = OP_FLOATS, .flags = OP_FUNCTION_ONLY, .saves = "index@weight",
    .schema = "(weight: Tensor, index: Tensor, padding_index: index?) -> out",
    .doc = "Rows of a table by number: out[i, ..., :] = weight[index[i, ...], :]. weight (rows, "
           "columns), index whole numbers from 1 of any shape, out index's shape and columns. The "
           "row padding_index gets no gradient (Bengio et al. 2003).",
    .example = "moon.embedding(moon.eye(3), moon.tensor({ 3, 1 }, { dtype = \"int64\" })) "
               "--> { { 0, 0, 1 }, { 1, 0, 0 } }",
    .forward = forward_embedding, .backward = backward_embedding },
  { .name = "embedding_renorm", .dtypes = OP_FLOATS, .flags = OP_MUTATES,
    .schema = "(self: Tensor, index: Tensor, max_norm: number, norm_type: number = 2) -> out",
    .doc = "Scales the rows of a table that index names and whose norm is above max_norm down to "
           "it, in place: row * max_norm / (norm + 1e-7). self (rows, columns), index whole "
           "numbers from 1 of any shape.",
    .example = "moon.tensor({ { 3, 4 }, { 6, 8 } }, { dtype = \"float64\" })"
               ":embedding_renorm_(moon.tensor({ 1 }, { dtype = \"int64\" }), 10) "
               "--> { { 3, 4 }, { 6, 8 } }",
    .forward = forward_renorm },
  { .name = "embedding_bag", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE | OP_FUNCTION_ONLY,
    .schema = "(weight: Tensor, index: Tensor, offsets: Tensor?, mode: \"sum\"|\"mean\"|\"max\" = "
              "\"mean\", per_sample_weights: Tensor?, padding_index: index?, "
              "include_last_offset: bool = false) -> out",
    .doc = "The sum, mean or largest of each bag of a table's rows. weight (rows, columns); index "
           "(bags, size), or (n) with offsets (bags): the position, from 1, of each bag's first "
           "member, and with include_last_offset one past the end; out (bags, columns), 0 for a "
           "bag without members. per_sample_weights, of index's shape, multiply the rows of a "
           "sum; rows padding_index do not count (Joulin et al. 2016).",
    .example = "moon.embedding_bag(moon.eye(2), moon.tensor({ { 1, 2 } }, { dtype = \"int64\" })) "
               "--> { { 0.5, 0.5 } }",
    .forward = forward_bag },
};
OP_FAMILY(embedding, descriptors);
