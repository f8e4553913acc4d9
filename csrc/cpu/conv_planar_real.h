// The tasks of conv_planar.h for one compute type: conv_planar_f32.c and conv_planar_f64.c include
// it with REAL, REAL_BYTES and NAME.
#include <string.h>

#include "cpu/conv_planar.h"
#include "cpu/lanes_transpose.h"
#include "cpu/whole.h"

// Vectors of positions at a time: with eight outputs their sums fill the registers.
#if defined(__AVX512F__) || defined(__aarch64__)
enum { VECTORS = 2 };
#else
enum { VECTORS = 1 };
#endif

// -- planes

// Pixels first .. last of an image's row, which land in columns `column` .. of the padded one.
typedef struct pixels {
  const REAL *from;             // of pixel 0
  int64_t stride, channel;      // between pixels, between channels
  int64_t first, last, column;
} pixels;

static void copy_line(const planar_job *job, const pixels *p, const REAL *from, REAL *line) {
  const int64_t phases = job->problem->geometry->stride[1], count = p->last - p->first;
  if (phases == 1 && p->stride == 1) {
    memcpy(line + p->column, from, (size_t)count * sizeof(REAL));
    return;
  }
  for (int64_t j = 0, u = p->column; j < count; j++, u++)
    line[u % phases * job->plane + u / phases] = from[j * p->stride];
}

// Channels lie together and every phase is one: squares of pixels by channels are turned round.
static void turn_pixels(const planar_job *job, const pixels *p, REAL *lines) {
  const int64_t channels = job->problem->image->shape[1];
  lanes line[LANES];
  for (int64_t j = p->first; j < p->last; j += LANES)
    for (int64_t c = 0; c < channels; c += LANES) {
      lanes_from_pixels(p->from + j * p->stride + c, p->stride, p->last - j, channels - c, LANES,
                        line);
      REAL *to = lines + c * job->plane + p->column + j - p->first;
      for (int64_t i = 0; i < minimum(LANES, channels - c); i++, to += job->plane)
        lanes_store_some(to, line[i], p->last - j);
    }
}

// The lines of row y of image n: zeros where it has no pixels.
static void copy_row(const planar_job *job, int64_t n, int64_t y, REAL *lines) {
  const device_array *x = job->problem->image;
  const conv2d_geometry *g = job->problem->geometry;
  const int64_t before = g->padding_before[1], phases = g->stride[1];
  memset(lines, 0, (size_t)job->row * sizeof(REAL));
  if (y < 0 || y >= x->shape[2]) return;
  pixels p = { .from = (const REAL *)x->data + n * x->strides[0] + y * x->strides[2],
               .stride = x->strides[3], .channel = x->strides[1], .first = maximum(0, -before),
               .last = minimum(x->shape[3], job->plane * phases - before) };
  p.column = p.first + before;
  if (p.first >= p.last) return;
  if (phases == 1 && p.channel == 1 && x->shape[1] > 1) {
    turn_pixels(job, &p, lines);
    return;
  }
  for (int64_t c = 0; c < x->shape[1]; c++)
    copy_line(job, &p, p.from + c * p.channel + p.first * p.stride,
              lines + c * phases * job->plane);
}

// A band of the result in image n, and its planes.
typedef struct band {
  int64_t n, first, last;
  REAL *planes;
} band;

static void open_band(const planar_job *job, int64_t task, band *b) {
  const conv2d_geometry *g = job->problem->geometry;
  b->n = task / job->bands;
  b->first = task % job->bands * job->band;
  b->last = minimum(b->first + job->band, job->problem->result->shape[2]);
  int64_t y = b->first * g->stride[0] - g->padding_before[0];
  int64_t rows = job->rows - (job->band - (b->last - b->first)) * g->stride[0];
  for (int64_t i = 0; i < rows; i++) copy_row(job, b->n, y + i, b->planes + i * job->row);
}

typedef void (*band_function)(const planar_job *job, int64_t task, const band *b);

// With room for `more` elements behind the planes.
static moon_status each_band(const planar_job *job, int64_t first, int64_t last, int64_t more,
                             band_function function) {
  size_t bytes = (size_t)(job->rows * job->row + more) * sizeof(REAL);
  void *planes;
  MOON_TRY(alloc_bytes(job->engine, bytes, &planes));
  for (int64_t task = first; task < last; task++) {
    band b = { .planes = planes };
    open_band(job, task, &b);
    function(job, task, &b);
  }
  alloc_release(job->engine, planes, bytes);
  return MOON_OK;
}

static REAL *element(const device_array *y, int64_t n, int64_t i, int64_t j) {
  return (REAL *)y->data + n * y->strides[0] + i * y->strides[2] + j * y->strides[3];
}

// Lines that are turned into pixels, or back, at a time: a power of two that `outputs` fit, or all.
static inline __attribute__((always_inline)) int lines_at_once(const int outputs) {
  const int height = outputs > 4 ? 8 : outputs > 2 ? 4 : outputs;
  return height < LANES ? height : LANES;
}

// -- forward

void CPU(NAME(planar_pack))(const planar_job *job) {
  const device_array *w = job->problem->weight;
  REAL *to = job->weights;
  for (int64_t t = 0; t < job->count; t++)
    for (int64_t o = 0; o < job->outputs; o++)
      *to++ = ((const REAL *)w->data)[job->products[t].weight + o * w->strides[0]];
}

// Positions (n, i, j) and `count` - 1 after it: the sums of an output are a vector, every
// VECTORS-th of `sums`.
typedef struct positions {
  int64_t n, i, j, count;
} positions;

static void add_and_clamp(const planar_job *job, const positions *at) {
  const conv2d_finish *f = job->problem->finish;
  const device_array *y = job->problem->result;
  REAL *to = element(y, at->n, at->i, at->j);
  const REAL *from = element(f->add, at->n, at->i, at->j);
  for (int64_t k = 0; k < at->count; k++, to += y->strides[3], from += f->add->strides[3])
    for (int64_t o = 0; o < job->outputs; o += LANES) {
      lanes sum = lanes_load_some(to + o, job->outputs - o) +
                  lanes_load_some(from + o, job->outputs - o);
      lanes_store_some(to + o, lanes_clamp(sum, (REAL)f->low, (REAL)f->high), job->outputs - o);
    }
}

static inline __attribute__((always_inline)) void write_positions(
    const planar_job *job, const lanes *sums, const positions *at, const int outputs) {
  const conv2d_finish *f = job->problem->finish;
  const device_array *y = job->problem->result;
  const REAL *scale = f->scale ? f->scale->data : NULL, *shift = f->shift ? f->shift->data : NULL;
  const int height = lines_at_once(outputs);
  REAL *to = element(y, at->n, at->i, at->j);
  for (int first = 0; first < outputs; first += height) {
    lanes line[LANES];
#pragma GCC unroll 8
    for (int k = 0; k < height; k++) {
      const int o = first + k;
      line[k] = o < outputs ? sums[o * VECTORS] : lanes_zero();
      if (o < outputs && scale) line[k] *= lanes_same(scale[o]);
      if (o < outputs && shift) line[k] += lanes_same(shift[o]);
      if (!f->add) line[k] = lanes_clamp(line[k], (REAL)f->low, (REAL)f->high);
    }
    lanes_to_pixels(line, height, to + first, y->strides[3], at->count, outputs - first);
  }
  if (f->add) add_and_clamp(job, at);
}

static inline __attribute__((always_inline)) void forward_row(const planar_job *job,
                                                              const REAL *lines, int64_t n,
                                                              int64_t i, const int outputs) {
  const int64_t width = job->problem->result->shape[3];
  for (int64_t j = 0; j < width; j += VECTORS * LANES) {
    lanes sum[PLANAR_OUTPUTS][VECTORS] = { { lanes_zero() } };
    const REAL *weight = job->weights;
    for (int64_t t = 0; t < job->count; t++, weight += outputs) {
      const REAL *from = lines + job->products[t].from + j;
      lanes x[VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) x[v] = lanes_load(from + v * LANES);
#pragma GCC unroll 8
      for (int o = 0; o < outputs; o++)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++)
          sum[o][v] = lanes_fma(lanes_same(weight[o]), x[v], sum[o][v]);
    }
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) {
      positions at = { n, i, j + v * LANES, minimum(LANES, width - j - v * LANES) };
      if (at.count > 0) write_positions(job, &sum[0][v], &at, outputs);
    }
  }
}

static inline __attribute__((always_inline)) void forward_band(const planar_job *job,
                                                               const band *b, const int outputs) {
  const int64_t step = job->problem->geometry->stride[0] * job->row;
  for (int64_t i = b->first; i < b->last; i++)
    forward_row(job, b->planes + (i - b->first) * step, b->n, i, outputs);
}

// -- the gradient of the weights

// The band's gradient as lines, an output after the other, behind the planes of the image.
static inline __attribute__((always_inline)) void copy_gradient(const planar_job *job,
                                                                const band *b, REAL *lines,
                                                                const int outputs) {
  const device_array *y = job->problem->result;
  const int64_t width = y->shape[3], stride = divide_up(width, LANES) * LANES;
  const int height = lines_at_once(outputs);
  lanes line[LANES];
  for (int64_t i = b->first; i < b->last; i++, lines += outputs * stride)
    for (int64_t j = 0; j < width; j += LANES)
      for (int first = 0; first < outputs; first += height) {
        lanes_from_pixels(element(y, b->n, i, j) + first, y->strides[3], width - j,
                          outputs - first, height, line);
        for (int k = 0; k < height && first + k < outputs; k++)
          lanes_store(lines + (first + k) * stride + j, line[k]);
      }
}

// The sums of products t and t + 1 over a band. Past a row's end nothing of the image is read: what
// is there might not be finite.
static inline __attribute__((always_inline)) void weight_products(
    const planar_job *job, const band *b, const REAL *gradient, int64_t t, REAL *sums,
    const int outputs, const int products) {
  const int64_t width = job->problem->result->shape[3];
  const int64_t step = job->problem->geometry->stride[0] * job->row;
  const int64_t stride = divide_up(width, LANES) * LANES;
  lanes sum[2][PLANAR_OUTPUTS] = { { lanes_zero() } };
  for (int64_t i = 0; i < b->last - b->first; i++, gradient += outputs * stride)
    for (int64_t j = 0; j < width; j += LANES) {
      lanes x[2];
#pragma GCC unroll 2
      for (int k = 0; k < products; k++)
        x[k] = lanes_load_some(b->planes + i * step + job->products[t + k].from + j, width - j);
#pragma GCC unroll 8
      for (int o = 0; o < outputs; o++) {
        lanes g = lanes_load(gradient + o * stride + j);
#pragma GCC unroll 2
        for (int k = 0; k < products; k++) sum[k][o] = lanes_fma(g, x[k], sum[k][o]);
      }
    }
  for (int k = 0; k < products; k++)
    for (int o = 0; o < outputs; o++) sums[(t + k) * outputs + o] = lanes_sum(sum[k][o]);
}

static inline __attribute__((always_inline)) void weight_band(const planar_job *job, int64_t task,
                                                              const band *b, const int outputs) {
  REAL *gradient = b->planes + job->rows * job->row;
  REAL *sums = (REAL *)job->sums + task * job->count * outputs;
  int64_t t = 0;
  copy_gradient(job, b, gradient, outputs);
  for (; t + 2 <= job->count; t += 2) weight_products(job, b, gradient, t, sums, outputs, 2);
  if (t < job->count) weight_products(job, b, gradient, t, sums, outputs, 1);
}

// The sums of the tasks one after the other, whoever calculated them.
void CPU(NAME(planar_add))(const planar_job *job, int64_t tasks) {
  const device_array *w = job->problem->weight;
  const int64_t size = job->count * job->outputs;
  REAL *sums = job->sums;
  for (int64_t k = 1; k < tasks; k++)
    for (int64_t i = 0; i < size; i++) sums[i] += sums[k * size + i];
  for (int64_t t = 0; t < job->count; t++, sums += job->outputs)
    for (int64_t o = 0; o < job->outputs; o++)
      ((REAL *)w->data)[job->products[t].weight + o * w->strides[0]] = sums[o];
}

// -- the tasks, a function for each number of outputs

#define PLANAR_FUNCTIONS(outputs)                                                             \
  static void forward_##outputs(const planar_job *job, int64_t task, const band *b) {         \
    (void)task;                                                                               \
    forward_band(job, b, outputs);                                                            \
  }                                                                                           \
  static void weight_##outputs(const planar_job *job, int64_t task, const band *b) {          \
    weight_band(job, task, b, outputs);                                                       \
  }
#define PLANAR_EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
PLANAR_EACH(PLANAR_FUNCTIONS)

#define PLANAR_FORWARD(outputs) forward_##outputs,
#define PLANAR_WEIGHT(outputs) weight_##outputs,
static const band_function forward_by_outputs[] = { PLANAR_EACH(PLANAR_FORWARD) };
static const band_function weight_by_outputs[] = { PLANAR_EACH(PLANAR_WEIGHT) };

moon_status CPU(NAME(planar_forward))(void *context, int64_t first, int64_t last) {
  const planar_job *job = context;
  return each_band(job, first, last, 0, forward_by_outputs[job->outputs - 1]);
}

moon_status CPU(NAME(planar_weight))(void *context, int64_t first, int64_t last) {
  const planar_job *job = context;
  const int64_t width = divide_up(job->problem->result->shape[3], LANES) * LANES;
  return each_band(job, first, last, job->band * job->outputs * width,
                   weight_by_outputs[job->outputs - 1]);
}
