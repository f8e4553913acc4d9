// The text of a derivative as terms, and the terms as operators. See derivative.h.
#include "ops/derivative.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

typedef enum term_kind {
  TERM_NUMBER, TERM_NAME, TERM_NEGATIVE, TERM_ADD, TERM_SUB, TERM_MUL, TERM_DIV, TERM_SELECT,
  TERM_CALL,
} term_kind;

enum { MAX_ARGUMENTS = 3 };

typedef struct term {
  term_kind kind;
  double number;
  char name;                     // x y z g a b
  op_descriptor *op;             // of a call
  int count, parts[MAX_ARGUMENTS];
} term;

// All terms of all rows. Written while the registry opens (guarded there), read afterwards.
static term *terms;
static int term_count, term_capacity;

static moon_status add_term(const term *made, int *index) {
  if (term_count == term_capacity) {
    int capacity = term_capacity ? 2 * term_capacity : 512;
    term *wider;
    MOON_TRY(alloc_new((size_t)capacity * sizeof *wider, (void **)&wider));
    if (term_count > 0) memcpy(wider, terms, (size_t)term_count * sizeof *terms);
    alloc_delete(terms);
    terms = wider;
    term_capacity = capacity;
  }
  terms[term_count] = *made;
  *index = term_count++;
  return MOON_OK;
}

// -- parsing: sum = product {+- product}, product = factor {*/ factor}, factor = -factor | primary

typedef struct parser {
  const char *text, *at;
  op_descriptor *(*find)(const char *name);
} parser;

static moon_status parse_sum(parser *p, int *index);

static moon_status not_understood(const parser *p, const char *expected) {
  return moon_fail(MOON_BAD_ARGUMENT, "derivative %s: expected %s at \"%.20s\"", p->text, expected,
                   p->at);
}

static bool accept(parser *p, char c) {
  while (isspace((unsigned char)*p->at)) p->at++;
  if (*p->at != c) return false;
  p->at++;
  return true;
}

static moon_status parse_arguments(parser *p, term *call) {
  do {
    if (call->count == MAX_ARGUMENTS) return not_understood(p, "fewer arguments");
    MOON_TRY(parse_sum(p, &call->parts[call->count++]));
  } while (accept(p, ','));
  return accept(p, ')') ? MOON_OK : not_understood(p, "\")\"");
}

static moon_status finish_call(parser *p, const char *name, term *call, int *index) {
  MOON_TRY(parse_arguments(p, call));
  if (strcmp(name, "F") == 0) {   // a number in the type of the row: the number itself
    *index = call->parts[0];
    return call->count == 1 ? MOON_OK : not_understood(p, "one number in F()");
  }
  if (strcmp(name, "select") == 0) {
    call->kind = TERM_SELECT;
    if (call->count != 3) return not_understood(p, "three arguments of select");
  } else {
    call->op = p->find(name);
    if (!call->op) return not_understood(p, "the name of a row before the arguments");
  }
  return add_term(call, index);
}

static moon_status parse_name(parser *p, int *index) {
  char name[24];
  size_t n = 0;
  while (isalnum((unsigned char)p->at[n]) || p->at[n] == '_') n++;
  if (n >= sizeof name) return not_understood(p, "a shorter name");
  memcpy(name, p->at, n);
  name[n] = 0;
  p->at += n;
  term made = { .kind = TERM_CALL };
  if (accept(p, '(')) return finish_call(p, name, &made, index);
  if (n != 1 || !strchr("xyzgab", name[0])) return not_understood(p, "one of x y z g a b");
  made.kind = TERM_NAME;
  made.name = name[0];
  return add_term(&made, index);
}

static moon_status parse_primary(parser *p, int *index) {
  if (accept(p, '(')) {
    MOON_TRY(parse_sum(p, index));
    return accept(p, ')') ? MOON_OK : not_understood(p, "\")\"");
  }
  if (isdigit((unsigned char)*p->at)) {
    char *end;
    term made = { .kind = TERM_NUMBER, .number = strtod(p->at, &end) };
    p->at = end;
    return add_term(&made, index);
  }
  if (isalpha((unsigned char)*p->at)) return parse_name(p, index);
  return not_understood(p, "a number, a name or a parenthesis");
}

static moon_status parse_factor(parser *p, int *index) {
  if (!accept(p, '-')) return parse_primary(p, index);
  term made = { .kind = TERM_NEGATIVE, .count = 1 };
  MOON_TRY(parse_factor(p, &made.parts[0]));
  return add_term(&made, index);
}

static moon_status parse_product(parser *p, int *index) {
  MOON_TRY(parse_factor(p, index));
  for (;;) {
    bool times = accept(p, '*');
    if (!times && !accept(p, '/')) return MOON_OK;
    term made = { .kind = times ? TERM_MUL : TERM_DIV, .count = 2, .parts = { *index } };
    MOON_TRY(parse_factor(p, &made.parts[1]));
    MOON_TRY(add_term(&made, index));
  }
}

static moon_status parse_sum(parser *p, int *index) {
  MOON_TRY(parse_product(p, index));
  for (;;) {
    bool plus = accept(p, '+');
    if (!plus && !accept(p, '-')) return MOON_OK;
    term made = { .kind = plus ? TERM_ADD : TERM_SUB, .count = 2, .parts = { *index } };
    MOON_TRY(parse_product(p, &made.parts[1]));
    MOON_TRY(add_term(&made, index));
  }
}

moon_status derivative_parse(const char *text, op_descriptor *(*find)(const char *name),
                             derivative *expression) {
  parser p = { text, text, find };
  MOON_TRY(parse_sum(&p, expression));
  while (isspace((unsigned char)*p.at)) p.at++;
  return *p.at == 0 ? MOON_OK : not_understood(&p, "the end");
}

// -- running

typedef struct quantity {
  moon_tensor *tensor;   // NULL: the number
  double number;
} quantity;

static moon_tensor *as_tensor(compose *c, quantity q, const moon_tensor *like) {
  return q.tensor ? q.tensor : compose_number(c, like, q.number);
}

static double fold(term_kind kind, double p, double q) {
  switch (kind) {
    case TERM_ADD: return p + q;
    case TERM_SUB: return p - q;
    case TERM_MUL: return p * q;
    default: return p / q;
  }
}

static quantity evaluate(compose *c, int index, const derivative_names *names);

static quantity evaluate_name(char name, const derivative_names *names) {
  switch (name) {
    case 'x': return (quantity){ .tensor = names->x };
    case 'y': return (quantity){ .tensor = names->y };
    case 'z': return (quantity){ .tensor = names->z };
    case 'g': return (quantity){ .tensor = names->g };
    case 'a': return (quantity){ .number = names->a };
    default: return (quantity){ .number = names->b };
  }
}

static quantity evaluate_pair(compose *c, const term *t, const derivative_names *names) {
  quantity p = evaluate(c, t->parts[0], names), q = evaluate(c, t->parts[1], names);
  if (!p.tensor && !q.tensor) return (quantity){ .number = fold(t->kind, p.number, q.number) };
  op_value x = op_tensor(as_tensor(c, p, names->g)), y = op_tensor(as_tensor(c, q, names->g));
  switch (t->kind) {
    case TERM_ADD: return (quantity){ .tensor = COMPOSE(c, add, x, y) };
    case TERM_SUB: return (quantity){ .tensor = COMPOSE(c, sub, x, y) };
    case TERM_MUL: return (quantity){ .tensor = COMPOSE(c, mul, x, y) };
    default: return (quantity){ .tensor = COMPOSE(c, div, x, y) };
  }
}

// A number stands for a tensor where the row takes one, and for an attribute behind those.
static quantity evaluate_call(compose *c, const term *t, const derivative_names *names) {
  op_value args[MAX_ARGUMENTS];
  for (int i = 0; i < t->count; i++) {
    quantity q = evaluate(c, t->parts[i], names);
    bool attribute = t->op && t->op->signature->params[i].kind == OP_NUMBER;
    args[i] = attribute ? op_number(q.number) : op_tensor(as_tensor(c, q, names->g));
  }
  if (t->op) return (quantity){ .tensor = compose_run(c, t->op, NULL, t->count, args) };
  return (quantity){ .tensor = COMPOSE(c, where, args[0], args[1], args[2]) };
}

static quantity evaluate(compose *c, int index, const derivative_names *names) {
  const term *t = &terms[index];
  quantity q;
  if (c->status != MOON_OK) return (quantity){ .tensor = NULL };
  switch (t->kind) {
    case TERM_NUMBER: return (quantity){ .number = t->number };
    case TERM_NAME: return evaluate_name(t->name, names);
    case TERM_NEGATIVE:
      q = evaluate(c, t->parts[0], names);
      if (!q.tensor) return (quantity){ .number = -q.number };
      return (quantity){ .tensor = COMPOSE(c, neg, op_tensor(q.tensor)) };
    case TERM_CALL:
    case TERM_SELECT: return evaluate_call(c, t, names);
    default: return evaluate_pair(c, t, names);
  }
}

moon_tensor *derivative_run(compose *c, derivative expression, const derivative_names *names) {
  return as_tensor(c, evaluate(c, expression, names), names->g);
}
