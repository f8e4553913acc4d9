// Prints a tensor: nested brackets, aligned columns, a scale factor where magnitudes differ much,
// "..." in the middle of what is long, and a last line with dtype and shape.
#include "tensor/print.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SUMMARISE_ABOVE = 1000, EDGE = 3, NUMBER_TEXT = 40 };

typedef struct printer {
  const moon_tensor *tensor;
  void (*write)(void *context, const char *text);
  void *context;
  bool summarise;
  int width, decimals;   // of a column
  bool exponent;
  double scale;          // numbers are printed divided by this
} printer;

static bool skipped(const printer *p, int dim, int64_t i) {
  int64_t size = p->tensor->shape[dim];
  return p->summarise && size > 2 * EDGE && i >= EDGE && i < size - EDGE;
}

static const void *element(const printer *p, int64_t offset) {
  return (const char *)p->tensor->storage->data + offset * (int64_t)dtype_size(p->tensor->dtype);
}

static void format_element(const printer *p, int64_t offset, char text[NUMBER_TEXT]) {
  const void *data = element(p, offset);
  moon_dtype dtype = p->tensor->dtype;
  if (dtype == MOON_BOOL) {
    snprintf(text, NUMBER_TEXT, "%s", dtype_load_int(dtype, data) ? "true" : "false");
  } else if (!dtype_is_float(dtype)) {
    snprintf(text, NUMBER_TEXT, "%" PRId64, dtype_load_int(dtype, data));
  } else {
    double value = dtype_load(dtype, data);
    if (isnan(value)) snprintf(text, NUMBER_TEXT, "nan");
    else if (isinf(value)) snprintf(text, NUMBER_TEXT, value > 0 ? "inf" : "-inf");
    else snprintf(text, NUMBER_TEXT, p->exponent ? "%.*e" : "%.*f", p->decimals, value / p->scale);
  }
}

// -- a first pass over what will be shown finds magnitudes and the column width

typedef struct survey {
  double largest, smallest;   // magnitudes of the finite numbers that are not 0
  bool whole;                 // no fractions
} survey;

static void visit(printer *p, int dim, int64_t offset, survey *s) {
  if (dim < p->tensor->ndim) {
    for (int64_t i = 0; i < p->tensor->shape[dim]; i++) {
      if (skipped(p, dim, i)) i = p->tensor->shape[dim] - EDGE;
      visit(p, dim + 1, offset + i * p->tensor->strides[dim], s);
    }
    return;
  }
  if (s) {
    double value = fabs(dtype_load(p->tensor->dtype, element(p, offset)));
    if (!isfinite(value)) return;
    if (value > s->largest) s->largest = value;
    if (value > 0 && value < s->smallest) s->smallest = value;
    if (value != floor(value)) s->whole = false;
  } else {
    char text[NUMBER_TEXT];
    format_element(p, offset, text);
    if ((int)strlen(text) > p->width) p->width = (int)strlen(text);
  }
}

static void choose_format(printer *p) {
  survey s = { 0, INFINITY, true };
  p->scale = 1;
  if (dtype_is_float(p->tensor->dtype)) {
    visit(p, 0, p->tensor->offset, &s);
    bool wide = s.largest > 0 && s.smallest < INFINITY && s.largest / s.smallest > 1e5;
    if (s.whole && s.largest < 1e8) {
      p->decimals = 0;
    } else {
      p->decimals = 4;
      p->exponent = wide && (s.largest >= 1e5 || s.smallest < 1e-4);
      if (!p->exponent && s.largest > 0 && (s.largest >= 1e5 || s.largest < 1e-3))
        p->scale = pow(10, floor(log10(s.largest)));
      if (p->scale != 1 && s.smallest < 1e-3 * p->scale) {   // would lose its digits
        p->scale = 1;
        p->exponent = true;
      }
    }
  }
  visit(p, 0, p->tensor->offset, NULL);
}

// -- the second pass writes

static void pad(const printer *p, int count) {
  for (int i = 0; i < count; i++) p->write(p->context, " ");
}

static void write_row(const printer *p, int64_t offset) {
  int dim = p->tensor->ndim - 1;
  char text[NUMBER_TEXT];
  p->write(p->context, "[");
  for (int64_t i = 0; i < p->tensor->shape[dim]; i++) {
    if (i > 0) p->write(p->context, "  ");
    if (skipped(p, dim, i)) {
      p->write(p->context, "...  ");
      i = p->tensor->shape[dim] - EDGE;
    }
    format_element(p, offset + i * p->tensor->strides[dim], text);
    pad(p, p->width - (int)strlen(text));
    p->write(p->context, text);
  }
  p->write(p->context, "]");
}

static void new_line(const printer *p, int dim) {
  for (int i = dim; i < p->tensor->ndim - 1; i++) p->write(p->context, "\n");
  pad(p, dim + 1);
}

static void write_block(const printer *p, int dim, int64_t offset) {
  if (dim == p->tensor->ndim - 1) {
    write_row(p, offset);
    return;
  }
  p->write(p->context, "[");
  for (int64_t i = 0; i < p->tensor->shape[dim]; i++) {
    if (i > 0) new_line(p, dim);
    if (skipped(p, dim, i)) {
      p->write(p->context, "...");
      new_line(p, dim);
      i = p->tensor->shape[dim] - EDGE;
    }
    write_block(p, dim + 1, offset + i * p->tensor->strides[dim]);
  }
  p->write(p->context, "]");
}

void tensor_print(const moon_tensor *tensor, const char *device,
                  void (*write)(void *context, const char *text), void *context) {
  printer p = { .tensor = tensor, .write = write, .context = context };
  char text[NUMBER_TEXT + TENSOR_SHAPE_TEXT], shape[TENSOR_SHAPE_TEXT];
  bool here = strcmp(device, "cpu") == 0;
  const char *on = here ? "" : " on ", *where = here ? "" : device;
  if (!tensor_device(tensor)->on_host) {
    snprintf(text, sizeof text, "[%s tensor of %s%s%s]", dtype_name(tensor->dtype),
             tensor_shape_text(tensor, shape), on, where);
    write(context, text);
    return;
  }
  p.summarise = tensor_count(tensor) > SUMMARISE_ABOVE;
  choose_format(&p);
  if (p.scale != 1) {
    snprintf(text, sizeof text, "%.0e *\n", p.scale);
    write(context, text);
  }
  if (tensor->ndim == 0) {
    format_element(&p, tensor->offset, text);
    write(context, text);
  } else {
    write_block(&p, 0, tensor->offset);
  }
  snprintf(text, sizeof text, "\n[%s tensor of %s%s%s]", dtype_name(tensor->dtype),
           tensor_shape_text(tensor, shape), on, where);
  write(context, text);
}
