// Reads the schema string of a descriptor into its op_signature (grammar in op.h). A wrong schema
// is our mistake, not a user's; it still gives a status, so that a spec can show it.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/op.h"
#include "base/alloc.h"

typedef struct schema_reader {
  const op_descriptor *op;
  const char *at;
} schema_reader;

static moon_status wrong(const schema_reader *r, const char *expected) {
  return moon_fail(MOON_BAD_ARGUMENT, "schema of %s: expected %s at \"%.20s\"", r->op->name,
                   expected, r->at);
}

static void skip_space(schema_reader *r) {
  while (*r->at == ' ' || *r->at == '\n') r->at++;
}

static bool accept(schema_reader *r, const char *text) {
  skip_space(r);
  size_t length = strlen(text);
  if (strncmp(r->at, text, length) != 0) return false;
  r->at += length;
  return true;
}

static moon_status read_word(schema_reader *r, char *word, size_t size) {
  skip_space(r);
  size_t n = 0;
  while (isalnum((unsigned char)r->at[n]) || r->at[n] == '_') n++;
  if (n == 0 || n >= size) return wrong(r, "a name");
  memcpy(word, r->at, n);
  word[n] = 0;
  r->at += n;
  return MOON_OK;
}

static moon_status read_quoted(schema_reader *r, char *text, size_t size) {
  if (!accept(r, "\"")) return wrong(r, "a quoted word");
  size_t n = strcspn(r->at, "\"");
  if (r->at[n] == 0 || n >= size) return wrong(r, "a short quoted word");
  memcpy(text, r->at, n);
  text[n] = 0;
  r->at += n + 1;
  return MOON_OK;
}

static moon_status read_choices(schema_reader *r, op_param *param) {
  param->kind = OP_CHOICE;
  do {
    if (param->choice_count == OP_MAX_CHOICES) return wrong(r, "fewer choices");
    MOON_TRY(read_quoted(r, param->choices[param->choice_count++], sizeof param->choices[0]));
  } while (accept(r, "|"));
  return MOON_OK;
}

// Longer spellings stand before their beginnings.
static const struct { const char *text; op_kind kind; int fixed; } types[] = {
  { "Tensor|number", OP_SCALAR_OR_TENSOR, 0 },
  { "Tensor|Tensor[]", OP_TENSORS, 1 },
  { "Tensor[]", OP_TENSORS, 0 },
  { "Tensor", OP_TENSOR, 0 },
  { "int[1]", OP_INTS, 1 },
  { "int[2]", OP_INTS, 2 },
  { "int[3]", OP_INTS, 3 },
  { "pads[1]", OP_PADS, 1 },
  { "pads[2]", OP_PADS, 2 },
  { "pads[3]", OP_PADS, 3 },
  { "int[]", OP_INTS, 0 },
  { "index", OP_INDEX, 0 },
  { "int", OP_INT, 0 },
  { "number", OP_NUMBER, 0 },
  { "bool", OP_BOOL, 0 },
  { "string", OP_STRING, 0 },
  { "dtype", OP_DTYPE, 0 },
  { "device", OP_DEVICE, 0 },
  { "dims", OP_DIMS, 0 },
  { "dim", OP_DIM, 0 },
};

static moon_status read_type(schema_reader *r, op_param *param) {
  skip_space(r);
  if (*r->at == '"') return read_choices(r, param);
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    if (!accept(r, types[i].text)) continue;
    param->kind = types[i].kind;
    param->alone = param->kind == OP_TENSORS && types[i].fixed;
    param->fixed = param->alone ? 0 : types[i].fixed;
    if (accept(r, "?")) param->optional = true;
    if (param->kind == OP_DIMS) param->optional = true;
    return MOON_OK;
  }
  return wrong(r, "a type");
}

static moon_status set_default(schema_reader *r, op_param *param, const char *text) {
  op_value *value = &param->default_value;
  double number = strtod(text, NULL);
  value->given = true;
  switch (param->kind) {
    case OP_INT: value->integer = (int64_t)number; break;
    case OP_INDEX:
    case OP_DIM: value->integer = (int64_t)number - (number > 0); break;
    case OP_NUMBER: value->number = number; break;
    case OP_BOOL: value->boolean = strcmp(text, "true") == 0; break;
    case OP_INTS:
      if (!param->fixed) return wrong(r, "no default for int[]");
      value->ints.count = param->fixed;
      for (int i = 0; i < param->fixed; i++) value->ints.v[i] = (int64_t)number;
      break;
    case OP_PADS: *value = op_ints(1, (int64_t[]){ (int64_t)number }); break;
    case OP_CHOICE:
      for (int i = 0; i < param->choice_count; i++)
        if (strcmp(param->choices[i], text) == 0) {
          value->integer = i;
          return MOON_OK;
        }
      return wrong(r, "one of the choices");
    default: return wrong(r, "no default for this type");
  }
  return MOON_OK;
}

static moon_status read_default(schema_reader *r, op_param *param) {
  skip_space(r);
  param->has_default = param->optional = true;
  if (*r->at == '"') {
    MOON_TRY(read_quoted(r, param->default_text, sizeof param->default_text));
  } else {
    size_t n = strcspn(r->at, ",) ");
    if (n == 0 || n >= sizeof param->default_text) return wrong(r, "a default");
    memcpy(param->default_text, r->at, n);
    r->at += n;
  }
  return set_default(r, param, param->default_text);
}

static moon_status read_params(schema_reader *r, op_signature *s) {
  s->list_param = -1;
  if (!accept(r, "(")) return wrong(r, "\"(\"");
  if (accept(r, ")")) return MOON_OK;
  do {
    if (s->param_count == OP_MAX_PARAMS) return wrong(r, "fewer parameters");
    op_param *param = &s->params[s->param_count];
    MOON_TRY(read_word(r, param->name, sizeof param->name));
    if (!accept(r, ":")) return wrong(r, "\":\"");
    MOON_TRY(read_type(r, param));
    if (accept(r, "=")) MOON_TRY(read_default(r, param));
    if (param->kind == OP_TENSORS) s->list_param = s->param_count;
    s->param_count++;
  } while (accept(r, ","));
  return accept(r, ")") ? MOON_OK : wrong(r, "\")\"");
}

static moon_status read_results(schema_reader *r, op_signature *s) {
  if (!accept(r, "->")) return wrong(r, "\"->\"");
  if (accept(r, "Tensor[]")) {
    s->returns_list = true;
    return MOON_OK;
  }
  do {
    if (s->result_count == OP_MAX_RESULTS) return wrong(r, "fewer results");
    bool hidden = accept(r, "[");
    MOON_TRY(read_word(r, s->results[s->result_count++], sizeof s->results[0]));
    if (hidden && !accept(r, "]")) return wrong(r, "\"]\"");
    if (!hidden) s->visible_results++;
  } while (accept(r, ","));
  skip_space(r);
  return *r->at == 0 ? MOON_OK : wrong(r, "the end");
}

static int find_param(const op_signature *s, const char *name) {
  for (int i = 0; i < s->param_count; i++)
    if (strcmp(s->params[i].name, name) == 0) return i;
  return -1;
}

// Where the bits of a saved name go: a parameter's or a result's.
static unsigned *saved_bits(op_signature *s, const char *name) {
  int index = find_param(s, name);
  if (index >= 0) return &s->params[index].saved_for;
  for (int i = 0; i < s->result_count; i++)
    if (strcmp(s->results[i], name) == 0) return &s->result_saved_for[i];
  return NULL;
}

static moon_status read_saves(schema_reader *r, op_signature *s) {
  r->at = r->op->saves ? r->op->saves : "";
  for (skip_space(r); *r->at; skip_space(r)) {
    char name[24], reader[24];
    MOON_TRY(read_word(r, name, sizeof name));
    unsigned *bits = saved_bits(s, name);
    if (!bits) return wrong(r, "a parameter or result in saves");
    if (!accept(r, "@")) {
      *bits = ~0u;
      continue;
    }
    MOON_TRY(read_word(r, reader, sizeof reader));
    int index = find_param(s, reader);
    if (index < 0) return wrong(r, "a parameter after @");
    *bits |= 1u << index;
  }
  return MOON_OK;
}

bool op_takes_dtype(const op_descriptor *op, moon_dtype dtype) {
  dtype_class class = dtype_class_of(dtype);
  switch (op->dtypes) {
    case OP_FLOATS: return class == DTYPE_FLOAT;
    case OP_REALS: return dtype == MOON_F32 || dtype == MOON_F64;
    case OP_NUMBERS: return class != DTYPE_BOOLEAN;
    case OP_INTEGERS: return class == DTYPE_INTEGER;
    default: return true;
  }
}

static bool takes_tensors_only(const op_signature *s) {
  for (int i = 0; i < s->param_count; i++) {
    op_kind kind = s->params[i].kind;
    if ((kind != OP_TENSOR && kind != OP_SCALAR_OR_TENSOR) || s->params[i].optional) return false;
  }
  return true;
}

moon_status op_register(op_descriptor *op) {
  op_signature *signature;
  MOON_TRY(alloc_new(sizeof *signature, (void **)&signature));
  schema_reader reader = { op, op->schema };
  moon_status status = read_params(&reader, signature);
  signature->tensors_only = takes_tensors_only(signature);
  if (status == MOON_OK) status = read_results(&reader, signature);
  if (status == MOON_OK) status = read_saves(&reader, signature);
  snprintf(signature->inplace_name, sizeof signature->inplace_name, "%s_", op->name);
  if (status != MOON_OK) {
    alloc_delete(signature);
    return status;
  }
  op->signature = signature;
  return MOON_OK;
}
