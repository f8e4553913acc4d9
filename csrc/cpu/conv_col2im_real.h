// The tasks of conv_col2im.h for one compute type: conv_col2im_f32.c and conv_col2im_f64.c include
// it with REAL, REAL_BYTES, NAME and COLUMNS.
#include <math.h>
#include <string.h>

#include "cpu/conv_col2im.h"
#include "cpu/lanes.h"
#include "cpu/micro.h"
#include "cpu/whole.h"

// Rows that a task owns, in each of its images.
typedef struct band {
  int64_t first, last;
} band;

// A position of the result.
typedef struct position {
  int64_t image, row, column;
} position;

static REAL *pixel_at(const device_array *x, int64_t image, int64_t row, int64_t column) {
  return (REAL *)x->data + image * x->strides[0] + row * x->strides[2] + column * x->strides[3];
}

static void clear(const device_array *x, int64_t image, const band *b) {
  const size_t bytes = (size_t)x->shape[1] * sizeof(REAL);
  for (int64_t i = b->first; i < b->last; i++) {
    if (x->strides[3] == x->shape[1]) {
      memset(pixel_at(x, image, i, 0), 0, (size_t)x->shape[3] * bytes);
      continue;
    }
    for (int64_t j = 0; j < x->shape[3]; j++) memset(pixel_at(x, image, i, j), 0, bytes);
  }
}

static void add_run(REAL *to, const REAL *from, int64_t count) {
  for (int64_t i = 0; i < count; i += LANES) {
    lanes sum = lanes_load_some(to + i, count - i) + lanes_load_some(from + i, count - i);
    lanes_store_some(to + i, sum, count - i);
  }
}

// Adds a position's row of the product to the pixels of the band that it was made of.
static void add_row(const col2im_job *job, const band *b, const position *at, const REAL *row) {
  const conv2d_geometry *g = job->problem->geometry;
  const device_array *x = job->problem->image, *w = job->problem->weight;
  const int64_t channels = x->shape[1];
  const int64_t column = at->column * g->stride[1] - g->padding_before[1];
  const int64_t from = maximum(0, -column), to = minimum(w->shape[3], x->shape[3] - column);
  int64_t i = at->row * g->stride[0] - g->padding_before[0];
  for (int64_t k = 0; k < w->shape[2] && from < to; k++, i += g->dilation[0], row += job->run) {
    if (i < b->first || i >= b->last) continue;
    if (x->strides[3] == channels) {
      add_run(pixel_at(x, at->image, i, column + from), row + from * channels,
              (to - from) * channels);
      continue;
    }
    for (int64_t j = from; j < to; j++)
      add_run(pixel_at(x, at->image, i, column + j), row + j * channels, channels);
  }
}

// The product of up to MICRO_ROWS positions, and where it belongs.
static void add_tile(const col2im_job *job, const band *b, const position *at, int count,
                     REAL *product) {
  static const NAME(micro_finish) plain = { .low = -(REAL)INFINITY, .high = (REAL)INFINITY };
  const device_array *y = job->problem->result;
  const int64_t depth = y->shape[1];
  const REAL *rows[MICRO_ROWS];
  REAL *out[MICRO_ROWS];
  for (int r = 0; r < MICRO_ROWS; r++) {
    const position *p = &at[r < count ? r : count - 1];
    rows[r] = pixel_at(y, p->image, p->row, p->column);
  }
  NAME(micro_tile) tile = { .rows = count, .columns = COLUMNS, .taps = 1, .depth = depth,
                            .out = out, .finish = &plain };
  for (int64_t j = 0; j < job->padded; j += COLUMNS) {
    for (int r = 0; r < MICRO_ROWS; r++) out[r] = product + r * job->padded + j;
    CPU(NAME(micro_rows))(&tile, rows, (const REAL *)job->panels + j * depth, COLUMNS);
  }
  for (int r = 0; r < count; r++) add_row(job, b, &at[r], product + r * job->padded);
}

// Rows of the result that reach rows first .. last of the image.
static void reaching_rows(const conv_problem *p, const band *b, int64_t *first, int64_t *last) {
  const conv2d_geometry *g = p->geometry;
  int64_t stride = g->stride[0], pad = g->padding_before[0];
  int64_t lowest = b->first + pad - (p->weight->shape[2] - 1) * g->dilation[0];
  int64_t highest = b->last - 1 + pad;
  *first = lowest > 0 ? divide_up(lowest, stride) : 0;
  *last = highest < 0 ? 0 : minimum(p->result->shape[2], highest / stride + 1);
}

// The same rows of some images.
static void run_task(const col2im_job *job, const band *b, int64_t image, int64_t images,
                     REAL *product) {
  const conv_problem *p = job->problem;
  position tile[MICRO_ROWS];
  int count = 0;
  int64_t first, last;
  reaching_rows(p, b, &first, &last);
  for (int64_t n = image; n < image + images; n++) {
    clear(p->image, n, b);
    for (int64_t i = first; i < last; i++)
      for (int64_t j = 0; j < p->result->shape[3]; j++) {
        tile[count++] = (position){ n, i, j };
        if (count < MICRO_ROWS) continue;
        add_tile(job, b, tile, count, product);
        count = 0;
      }
  }
  if (count > 0) add_tile(job, b, tile, count, product);
}

moon_status CPU(NAME(col2im_tasks))(void *context, int64_t first, int64_t last) {
  const col2im_job *job = context;
  const device_array *x = job->problem->image;
  size_t bytes;
  void *product;
  MOON_TRY(alloc_product((size_t)job->padded, MICRO_ROWS * sizeof(REAL), &bytes));
  MOON_TRY(alloc_bytes(job->engine, bytes, &product));
  for (int64_t index = first; index < last; index++) {
    int64_t image = index / job->bands * job->images;
    band b = { .first = index % job->bands * job->band };
    b.last = minimum(b.first + job->band, x->shape[2]);
    run_task(job, &b, image, minimum(job->images, x->shape[0] - image), product);
  }
  alloc_release(job->engine, product, bytes);
  return MOON_OK;
}

// Column (i * kernel width + j) * channels + c is tap (i, j) of channel c. An item is the row of an
// output channel in every panel, whose weights lie together.
moon_status CPU(NAME(col2im_pack))(void *context, int64_t first, int64_t last) {
  const col2im_job *job = context;
  const device_array *w = job->problem->weight;
  const int64_t panel = w->shape[0] * COLUMNS;
  for (int64_t o = first; o < last; o++) {
    REAL *to = (REAL *)job->panels + o * COLUMNS;
    int64_t column = 0;
    for (int64_t i = 0; i < w->shape[2]; i++)
      for (int64_t j = 0; j < w->shape[3]; j++) {
        const REAL *from = (const REAL *)w->data + o * w->strides[0] + i * w->strides[2] +
                           j * w->strides[3];
        for (int64_t c = 0; c < w->shape[1]; c++, from += w->strides[1]) {
          to[column] = *from;
          if (++column < COLUMNS) continue;
          column = 0;
          to += panel;
        }
      }
    for (; column > 0 && column < COLUMNS; column++) to[column] = 0;
  }
  return MOON_OK;
}
