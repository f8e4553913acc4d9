// Sums of products by Einstein's notation. The equation is read into labels (letters, and one for
// each dimension that "..." stands for). Operands are taken from left to right: repeated labels
// become diagonals, labels that nobody needs any more are summed, and a pair is contracted by one
// batched matrix product, (shared and kept) x (own of the left) x (own of the right) over (shared
// and not kept). The order is the user's; intermediate results have at most 8 dimensions.
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "ops/compose.h"

enum { LABELS = 52 + MOON_MAX_DIMS, DOTS = 52, MAX_OPERANDS = 32 };   // DOTS + i: i-th from the end

typedef struct term { moon_tensor *x; int count, label[MOON_MAX_DIMS]; } term;

typedef struct equation {
  const char *text;
  term terms[MAX_OPERANDS];
  int count;
  int out_count, out[MOON_MAX_DIMS];
  int64_t size[LABELS];          // broadcast; 0 where the label does not occur (see `seen`)
  int times[LABELS];             // how many operands have it
  int dots;                      // dimensions that "..." stands for, at most
} equation;

// -- reading

static int label_of(char letter) {
  return islower((unsigned char)letter) ? letter - 'a' : letter - 'A' + 26;
}

static moon_status wrong_letter(char letter) {
  if (letter == '.') return moon_fail(MOON_BAD_ARGUMENT, "equation: dots come as \"...\", once");
  return moon_fail(MOON_BAD_ARGUMENT, "equation: expected letters, \",\" and \"->\", found '%c'",
                   letter);
}

// Letters before and behind "..." of one operand; *at moves to what ends it.
typedef struct subscripts { int before, behind, letters[MOON_MAX_DIMS * 2]; bool dots; } subscripts;

static moon_status read_subscripts(const char **at, subscripts *s) {
  *s = (subscripts){ 0 };
  int count = 0;
  for (; **at && **at != ',' && strncmp(*at, "->", 2) != 0; ++*at) {
    if (**at == ' ') continue;
    if (strncmp(*at, "...", 3) == 0 && !s->dots) {
      s->dots = true;
      s->before = count;
      *at += 2;
    } else if (isascii((unsigned char)**at) && isalpha((unsigned char)**at)) {
      if (count == MOON_MAX_DIMS)
        return moon_fail(MOON_BAD_ARGUMENT, "equation: more than %d letters for one operand",
                         MOON_MAX_DIMS);
      s->letters[count++] = label_of(**at);
    } else {
      return wrong_letter(**at);
    }
  }
  if (!s->dots) s->before = count;
  s->behind = count - s->before;
  return MOON_OK;
}

// Labels for an operand of ndim dimensions.
static moon_status place_labels(const subscripts *s, int number, moon_tensor *x, term *t) {
  char text[TENSOR_SHAPE_TEXT];
  int letters = s->before + s->behind, hidden = x->ndim - letters;
  if (hidden < 0 || (!s->dots && hidden > 0))
    return moon_fail(MOON_BAD_SHAPE, "equation names %d dimensions for operand %d, which is %s",
                     letters, number, tensor_shape_text(x, text));
  t->x = x;
  t->count = 0;
  for (int i = 0; i < s->before; i++) t->label[t->count++] = s->letters[i];
  for (int i = 0; i < hidden; i++) t->label[t->count++] = DOTS + hidden - 1 - i;
  for (int i = 0; i < s->behind; i++) t->label[t->count++] = s->letters[s->before + i];
  return MOON_OK;
}

static char letter_of(int label) { return (char)(label < 26 ? 'a' + label : 'A' + label - 26); }

// A letter that comes twice in one operand has one size there.
static moon_status check_repeated(const term *t, int i, int number) {
  for (int k = 0; k < i; k++)
    if (t->label[k] == t->label[i] && t->x->shape[k] != t->x->shape[i])
      return moon_fail(MOON_BAD_SHAPE, "'%c' is both %" PRId64 " and %" PRId64 " in operand %d",
                       letter_of(t->label[i]), t->x->shape[k], t->x->shape[i], number);
  return MOON_OK;
}

static moon_status join_sizes(equation *e, const term *t, int number) {
  bool own[LABELS] = { false };
  for (int i = 0; i < t->count; i++) {
    int l = t->label[i];
    int64_t *size = &e->size[l], here = t->x->shape[i];
    MOON_TRY(check_repeated(t, i, number));
    bool first = e->times[l] == 0 && !own[l];
    if (first || *size == 1) *size = here;
    if (*size != here && here != 1) {
      if (l >= DOTS)
        return moon_fail(MOON_BAD_SHAPE, "dimensions under \"...\" do not broadcast: %" PRId64
                         " before and %" PRId64 " in operand %d", *size, here, number);
      return moon_fail(MOON_BAD_SHAPE, "'%c' is %" PRId64 " before and %" PRId64 " in operand %d",
                       letter_of(l), *size, here, number);
    }
    if (!own[l]) e->times[l]++;
    own[l] = true;
    if (l >= DOTS && l - DOTS + 1 > e->dots) e->dots = l - DOTS + 1;
  }
  return MOON_OK;
}

static moon_status read_inputs(equation *e, const char **at, const op_value *list) {
  while (true) {
    subscripts s;
    MOON_TRY(read_subscripts(at, &s));
    if (e->count == list->tensors.count)
      return moon_fail(MOON_BAD_ARGUMENT, "equation has more operands than the %d given",
                       list->tensors.count);
    term *t = &e->terms[e->count++];
    MOON_TRY(place_labels(&s, e->count, list->tensors.list[e->count - 1], t));
    MOON_TRY(join_sizes(e, t, e->count));
    if (**at != ',') break;
    ++*at;
  }
  if (e->count == list->tensors.count) return MOON_OK;
  return moon_fail(MOON_BAD_ARGUMENT, "equation has %d operands, but %d tensors are given",
                   e->count, list->tensors.count);
}

static moon_status add_out(equation *e, int label) {
  if (e->out_count == MOON_MAX_DIMS)
    return moon_fail(MOON_BAD_SHAPE, "the result has more than %d dimensions", MOON_MAX_DIMS);
  e->out[e->out_count++] = label;
  return MOON_OK;
}

// Without "->": what "..." stands for, then the letters that occur once, sorted.
static moon_status implied_output(equation *e, const bool *twice) {
  for (int i = e->dots - 1; i >= 0; i--) MOON_TRY(add_out(e, DOTS + i));
  for (int pass = 0; pass < 2; pass++)   // capitals sort before small letters
    for (int l = pass ? 0 : 26; l < (pass ? 26 : 52); l++)
      if (e->times[l] == 1 && !twice[l]) MOON_TRY(add_out(e, l));
  return MOON_OK;
}

static moon_status read_output(equation *e, const char *at) {
  subscripts s;
  bool seen[LABELS] = { false };
  MOON_TRY(read_subscripts(&at, &s));
  if (*at) return moon_fail(MOON_BAD_ARGUMENT, "equation: the result ends at '%c'", *at);
  for (int i = 0; i < s.before + s.behind; i++) {
    int l = s.letters[i];
    char letter = letter_of(l);
    if (i == s.before && s.dots)
      for (int k = e->dots - 1; k >= 0; k--) MOON_TRY(add_out(e, DOTS + k));
    if (e->times[l] == 0)
      return moon_fail(MOON_BAD_ARGUMENT, "equation: '%c' of the result is in no operand", letter);
    if (seen[l])
      return moon_fail(MOON_BAD_ARGUMENT, "equation: the result names '%c' twice", letter);
    seen[l] = true;
    MOON_TRY(add_out(e, l));
  }
  if (s.dots && s.behind == 0)
    for (int k = e->dots - 1; k >= 0; k--) MOON_TRY(add_out(e, DOTS + k));
  return MOON_OK;
}

static moon_status read_equation(equation *e, const op_value *list) {
  const char *at = e->text;
  bool twice[LABELS] = { false };
  MOON_TRY(read_inputs(e, &at, list));
  for (int t = 0; t < e->count; t++)
    for (int i = 0; i < e->terms[t].count; i++)
      for (int k = 0; k < i; k++)
        if (e->terms[t].label[i] == e->terms[t].label[k]) twice[e->terms[t].label[i]] = true;
  if (strncmp(at, "->", 2) == 0) return read_output(e, at + 2);
  return implied_output(e, twice);
}

// -- steps on one term

static int find(const term *t, int label) {
  for (int i = 0; i < t->count; i++)
    if (t->label[i] == label) return i;
  return -1;
}

static void drop(term *t, int at) {
  for (int i = at; i + 1 < t->count; i++) t->label[i] = t->label[i + 1];
  t->count--;
}

// Repeated labels become one, along the diagonal, which is put last.
static void take_diagonals(compose *c, term *t) {
  for (int i = 0; i < t->count; i++) {
    for (int k = i + 1; k < t->count; k++) {
      if (t->label[i] != t->label[k]) continue;
      int label = t->label[i];
      t->x = COMPOSE(c, diagonal, op_tensor(t->x), op_int(0), op_int(i), op_int(k));
      drop(t, k);
      drop(t, i);
      t->label[t->count++] = label;
      i = -1;
      break;
    }
  }
}

static void sum_out(compose *c, term *t, const bool *wanted) {
  int64_t dims[MOON_MAX_DIMS];
  int count = 0;
  for (int i = 0; i < t->count; i++)
    if (!wanted[t->label[i]]) dims[count++] = i;
  if (count == 0) return;
  t->x = COMPOSE(c, sum, op_tensor(t->x), op_ints(count, dims));
  while (count > 0) drop(t, (int)dims[--count]);
}

// Sizes of 1 that stand for more are stretched.
static void stretch(compose *c, term *t, const int64_t *size) {
  int64_t shape[MOON_MAX_DIMS];
  bool same = true;
  if (c->status != MOON_OK) return;
  for (int i = 0; i < t->count; i++) {
    shape[i] = size[t->label[i]];
    same &= shape[i] == t->x->shape[i];
  }
  if (!same) t->x = COMPOSE(c, expand, op_tensor(t->x), op_ints(t->count, shape));
}

// -- a pair

// A run of labels as one dimension.
typedef struct run { int count, label[MOON_MAX_DIMS]; int64_t size; } run;

static void run_add(run *r, int label, int64_t size) {
  r->label[r->count++] = label;
  r->size *= size;
}

// The term as (first, second, third).
static moon_tensor *in_runs(compose *c, const term *t, const run *first, const run *second,
                            const run *third) {
  const run *runs[3] = { first, second, third };
  int64_t order[MOON_MAX_DIMS], shape[3] = { first->size, second->size, third->size };
  int at = 0;
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < runs[k]->count; i++) order[at++] = find(t, runs[k]->label[i]);
  moon_tensor *x = t->x;
  if (at > 0) x = COMPOSE(c, permute, op_tensor(x), op_ints(at, order));
  return compose_reshape(c, x, 3, shape);
}

static term contract(compose *c, const equation *e, term *a, term *b, const bool *wanted) {
  run batch = { .size = 1 }, own = { .size = 1 }, other = { .size = 1 }, inner = { .size = 1 };
  term result = { .count = 0 };
  int64_t shape[3 * MOON_MAX_DIMS];
  for (int i = 0; i < a->count; i++) {
    int l = a->label[i];
    run_add(find(b, l) < 0 ? &own : wanted[l] ? &batch : &inner, l, e->size[l]);
  }
  for (int i = 0; i < b->count; i++)
    if (find(a, b->label[i]) < 0) run_add(&other, b->label[i], e->size[b->label[i]]);
  if (batch.count + own.count + other.count > MOON_MAX_DIMS) {
    compose_check(c, moon_fail(MOON_BAD_SHAPE, "a product on the way has more than %d dimensions; "
                               "give the operands in another order", MOON_MAX_DIMS));
    return result;
  }
  moon_tensor *x = in_runs(c, a, &batch, &own, &inner), *y = in_runs(c, b, &batch, &inner, &other);
  result.x = COMPOSE(c, matmul, op_tensor(x), op_tensor(y));
  const run *runs[3] = { &batch, &own, &other };
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < runs[k]->count; i++) {
      shape[result.count] = e->size[runs[k]->label[i]];
      result.label[result.count++] = runs[k]->label[i];
    }
  result.x = compose_reshape(c, result.x, result.count, shape);
  return result;
}

// -- the whole

// Labels that the result or a later operand has.
static void needed_after(const equation *e, int at, bool *wanted) {
  memset(wanted, 0, LABELS * sizeof *wanted);
  for (int i = 0; i < e->out_count; i++) wanted[e->out[i]] = true;
  for (int t = at + 1; t < e->count; t++)
    for (int i = 0; i < e->terms[t].count; i++) wanted[e->terms[t].label[i]] = true;
}

static moon_tensor *evaluate(compose *c, equation *e) {
  bool wanted[LABELS], of_next[LABELS];
  term all = e->terms[0];
  take_diagonals(c, &all);
  stretch(c, &all, e->size);
  needed_after(e, 0, wanted);
  sum_out(c, &all, wanted);
  for (int t = 1; t < e->count && c->status == MOON_OK; t++) {
    term next = e->terms[t];
    take_diagonals(c, &next);
    stretch(c, &next, e->size);
    needed_after(e, t, wanted);
    memcpy(of_next, wanted, sizeof of_next);
    for (int i = 0; i < all.count; i++) of_next[all.label[i]] = true;
    sum_out(c, &next, of_next);
    all = contract(c, e, &all, &next, wanted);
  }
  int64_t order[MOON_MAX_DIMS];
  for (int i = 0; i < e->out_count && c->status == MOON_OK; i++) order[i] = find(&all, e->out[i]);
  if (e->out_count == 0) return all.x;
  return COMPOSE(c, permute, op_tensor(all.x), op_ints(e->out_count, order));
}

static moon_status forward_einsum(op_call *call) {
  equation e = { .text = call->args[0].string };
  const op_value *list = &call->args[1];
  if (list->tensors.count < 1 || list->tensors.count > MAX_OPERANDS)
    return moon_fail(MOON_BAD_ARGUMENT, "tensors must have 1 to %d members, got %d", MAX_OPERANDS,
                     list->tensors.count);
  for (int i = 0; i < list->tensors.count; i++) {
    MOON_TRY(ops_need_float("every operand", list->tensors.list[i]));
    MOON_TRY(ops_need_same_dtype("operand 1", list->tensors.list[0], "another operand",
                                 list->tensors.list[i]));
  }
  MOON_TRY(read_equation(&e, list));
  compose c = compose_open(call->engine);
  moon_tensor *y = evaluate(&c, &e);
  for (int i = 0; y && i < list->tensors.count; i++)   // never a view of an operand
    if (y->storage == list->tensors.list[i]->storage) y = COMPOSE(&c, clone, op_tensor(y));
  return compose_close(&c, y, &call->results[0]);
}

static op_descriptor descriptors[] = {
  { .name = "einsum", .flags = OP_COMPOSITE | OP_FUNCTION_ONLY, .dtypes = OP_FLOATS,
    .schema = "(equation: string, tensors: Tensor[]) -> out",
    .doc = "Sums of products by Einstein's notation: letters name the dimensions of each operand, "
           "separated by commas, and after \"->\" those of the result; letters that are not in the "
           "result are summed over. A letter twice in one operand is its diagonal; \"...\" stands "
           "for dimensions that broadcast. Without \"->\" the result has the dimensions of \"...\" "
           "and the letters that come once, sorted. Operands are multiplied from left to right.",
    .example = "moon.einsum(\"ij,jk->ik\", {moon.ones(2, 3), moon.ones(3, 1)}) --> {{3}, {3}}",
    .forward = forward_einsum },
};

OP_FAMILY(einsum, descriptors);
