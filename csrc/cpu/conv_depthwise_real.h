// The tasks of conv_depthwise.h for one compute type: conv_depthwise_f32.c and conv_depthwise_f64.c
// include it with
//   REAL, NAME(word)   the type, and word_f32 or word_f64
#include <string.h>

#include "cpu/conv_depthwise.h"
#include "cpu/lanes.h"
#include "cpu/whole.h"

enum { DEPTH_PIXELS = 8 };   // summed at a time: as many sums as hide a multiply-add's latency

// The taps of a pixel: where they read, seen from the pixel's own place in the source, and the row
// of weights, both in elements.
typedef struct tap_list {
  int64_t count;
  int64_t *source, *weight;
} tap_list;

// Neighbouring target pixels that share a list of taps.
typedef struct pixel_run {
  const REAL *source;
  REAL *target;               // third direction: the gradient, which is read
  const REAL *add;
  int64_t source_step, target_step, add_step;
} pixel_run;

// -- lists of taps

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static bool tap_offset(const depth_axis *axis, int64_t phase, int64_t tap, int64_t *offset) {
  int64_t at = phase + axis->base + tap * axis->slope;
  *offset = floor_divide(at, axis->phases);
  return at % axis->phases == 0;
}

// Target indices (of a phase) whose taps all lie inside the source: first .. last.
static void inner_pixels(const depth_axis *axis, int64_t phase, int64_t *first, int64_t *last) {
  int64_t offset, count = (axis->target - phase + axis->phases - 1) / axis->phases;
  *first = 0;
  *last = count;
  for (int64_t k = 0; k < axis->taps; k++) {
    if (!tap_offset(axis, phase, k, &offset)) continue;
    *first = maximum(*first, -floor_divide(offset, axis->step));
    *last = minimum(*last, floor_divide(axis->source - 1 - offset, axis->step) + 1);
  }
  *first = minimum(*first, count);
  *last = maximum(*last, *first);
}

// Taps of target line `line`, and of pixel i of `phase` in it; i < 0: of the inner pixels. `line`
// and the list's places are relative to the image's first element and to pixel i.
static void list_taps(const depth_job *job, int64_t line, int64_t phase, int64_t i,
                      tap_list *list) {
  const depth_axis *lines = &job->axes[0], *pixels = &job->axes[1];
  int64_t row, column;
  list->count = 0;
  for (int64_t y = 0; y < lines->taps; y++) {
    if (!tap_offset(lines, line % lines->phases, y, &row)) continue;
    row += line / lines->phases * lines->step;
    if (row < 0 || row >= lines->source) continue;
    for (int64_t x = 0; x < pixels->taps; x++) {
      if (!tap_offset(pixels, phase, x, &column)) continue;
      int64_t at = i * pixels->step + column;
      if (i >= 0 && (at < 0 || at >= pixels->source)) continue;
      list->source[list->count] = row * job->source->strides[2] + column * job->source->strides[3];
      list->weight[list->count++] = (y * pixels->taps + x) * job->width;
    }
  }
}

// -- sums: first and second direction

static inline lanes finished(const conv2d_finish *finish, lanes sum, const REAL *add, int64_t c,
                             int64_t some) {
  if (finish->scale) sum *= lanes_load_some((const REAL *)finish->scale->data + c, some);
  if (finish->shift) sum += lanes_load_some((const REAL *)finish->shift->data + c, some);
  if (add) sum += lanes_load_some(add + c, some);
  return lanes_clamp(sum, (REAL)finish->low, (REAL)finish->high);
}

// `pixels` x `vectors` sums in registers, from channel c on; `some` channels of the last vector.
static inline __attribute__((always_inline)) void sum_taps(const depth_job *job,
                                                           const tap_list *taps,
                                                           const pixel_run *run, const int pixels,
                                                           const int vectors, int64_t c,
                                                           int64_t some) {
  lanes sum[DEPTH_PIXELS];
#pragma GCC unroll 8
  for (int i = 0; i < pixels * vectors; i++) sum[i] = lanes_zero();
  for (int64_t t = 0; t < taps->count; t++) {
    const REAL *source = run->source + taps->source[t] + c;
    const REAL *weight = (const REAL *)job->weight + taps->weight[t] + c;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
      lanes factor = lanes_load(weight + v * LANES);
#pragma GCC unroll 8
      for (int i = 0; i < pixels; i++) {
        const REAL *from = source + i * run->source_step + v * LANES;
        lanes value = v == vectors - 1 ? lanes_load_some(from, some) : lanes_load(from);
        sum[i * vectors + v] = lanes_fma(value, factor, sum[i * vectors + v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < pixels; i++)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
      int64_t at = c + v * LANES, here = v == vectors - 1 ? some : LANES;
      lanes value = sum[i * vectors + v];
      if (job->finish)
        value = finished(job->finish, value, run->add ? run->add + i * run->add_step : NULL, at,
                         here);
      lanes_store_some(run->target + i * run->target_step + at, value, here);
    }
}

// All channels of `pixels` neighbours, `vectors` vectors at a time.
static inline __attribute__((always_inline)) void sum_pixels(const depth_job *job,
                                                             const tap_list *taps,
                                                             const pixel_run *run,
                                                             const int pixels,
                                                             const int vectors) {
  int64_t c = 0;
  for (; c + vectors * LANES <= job->channels; c += vectors * LANES)
    sum_taps(job, taps, run, pixels, vectors, c, LANES);
  for (; c + LANES <= job->channels; c += LANES)
    sum_taps(job, taps, run, pixels, 1, c, LANES);
  if (c < job->channels) sum_taps(job, taps, run, pixels, 1, c, job->channels - c);
}

static int64_t sum_some(const depth_job *job, const tap_list *taps, const pixel_run *run,
                        int64_t count) {
  if (count >= 8) {
    sum_pixels(job, taps, run, 8, 1);
    return 8;
  }
  if (count >= 4) {
    sum_pixels(job, taps, run, 4, 2);
    return 4;
  }
  if (count >= 2) {
    sum_pixels(job, taps, run, 2, 4);
    return 2;
  }
  sum_pixels(job, taps, run, 1, 8);
  return 1;
}

// -- products: third direction, target pixels times source pixels into sums of each tap

static inline __attribute__((always_inline)) void add_taps(const tap_list *taps,
                                                           const pixel_run *run, const int pixels,
                                                           int64_t c, int64_t some, REAL *sums) {
  lanes gradient[DEPTH_PIXELS];
#pragma GCC unroll 8
  for (int i = 0; i < pixels; i++)
    gradient[i] = lanes_load_some(run->target + i * run->target_step + c, some);
  for (int64_t t = 0; t < taps->count; t++) {
    const REAL *source = run->source + taps->source[t] + c;
    lanes sum = lanes_load(sums + taps->weight[t] + c);
#pragma GCC unroll 8
    for (int i = 0; i < pixels; i++)
      sum = lanes_fma(lanes_load_some(source + i * run->source_step, some), gradient[i], sum);
    lanes_store(sums + taps->weight[t] + c, sum);
  }
}

static inline __attribute__((always_inline)) void add_pixels(const depth_job *job,
                                                             const tap_list *taps,
                                                             const pixel_run *run,
                                                             const int pixels, REAL *sums) {
  int64_t c = 0;
  for (; c + LANES <= job->channels; c += LANES) add_taps(taps, run, pixels, c, LANES, sums);
  if (c < job->channels) add_taps(taps, run, pixels, c, job->channels - c, sums);
}

static int64_t add_some(const depth_job *job, const tap_list *taps, const pixel_run *run,
                        int64_t count, REAL *sums) {
  if (count >= 8) {
    add_pixels(job, taps, run, 8, sums);
    return 8;
  }
  if (count >= 4) {
    add_pixels(job, taps, run, 4, sums);
    return 4;
  }
  add_pixels(job, taps, run, 1, sums);
  return 1;
}

// -- lines

// Target pixels i .. last of a phase, whose taps are the same.
static void run_pixels(const depth_job *job, const tap_list *taps, pixel_run run, int64_t i,
                       int64_t last, REAL *sums) {
  run.source += i * run.source_step;
  run.target += i * run.target_step;
  if (run.add) run.add += i * run.add_step;
  while (i < last) {
    int64_t done = sums ? add_some(job, taps, &run, last - i, sums)
                        : sum_some(job, taps, &run, last - i);
    run.source += done * run.source_step;
    run.target += done * run.target_step;
    if (run.add) run.add += done * run.add_step;
    i += done;
  }
}

// One target line; sums: NULL but in the third direction.
static void run_line(const depth_job *job, int64_t index, tap_list *taps, REAL *sums) {
  const depth_axis *axis = &job->axes[1];
  const device_array *x = job->source, *y = job->target;
  const device_array *add = job->finish ? job->finish->add : NULL;
  int64_t image = index / y->shape[2], line = index % y->shape[2];
  for (int64_t phase = 0; phase < minimum(axis->phases, axis->target); phase++) {
    int64_t first, last, count = (axis->target - phase + axis->phases - 1) / axis->phases;
    pixel_run run = { .source = (const REAL *)x->data + image * x->strides[0],
                      .target = (REAL *)y->data + image * y->strides[0] + line * y->strides[2] +
                                phase * y->strides[3],
                      .source_step = axis->step * x->strides[3],
                      .target_step = axis->phases * y->strides[3] };
    if (add) {
      run.add = (const REAL *)add->data + image * add->strides[0] + line * add->strides[2] +
                phase * add->strides[3];
      run.add_step = axis->phases * add->strides[3];
    }
    inner_pixels(axis, phase, &first, &last);
    for (int64_t i = 0; i < first; i++) {
      list_taps(job, line, phase, i, taps);
      run_pixels(job, taps, run, i, i + 1, sums);
    }
    list_taps(job, line, phase, -1, taps);
    run_pixels(job, taps, run, first, last, sums);
    for (int64_t i = last; i < count; i++) {
      list_taps(job, line, phase, i, taps);
      run_pixels(job, taps, run, i, i + 1, sums);
    }
  }
}

static moon_status taps_new(const depth_job *job, tap_list *taps, size_t *bytes, void **block) {
  size_t count = (size_t)(job->axes[0].taps * job->axes[1].taps);
  MOON_TRY(alloc_product(count, 2 * sizeof(int64_t), bytes));
  MOON_TRY(alloc_bytes(job->engine, *bytes, block));
  *taps = (tap_list){ .source = *block, .weight = (int64_t *)*block + count };
  return MOON_OK;
}

moon_status CPU(NAME(depth_lines))(void *context, int64_t first, int64_t last) {
  const depth_job *job = context;
  tap_list taps;
  size_t bytes;
  void *block;
  MOON_TRY(taps_new(job, &taps, &bytes, &block));
  for (int64_t index = first; index < last; index++) run_line(job, index, &taps, NULL);
  alloc_release(job->engine, block, bytes);
  return MOON_OK;
}

moon_status CPU(NAME(depth_shares))(void *context, int64_t first, int64_t last) {
  const depth_job *job = context;
  const device_array *y = job->target;
  int64_t size = job->axes[0].taps * job->axes[1].taps * job->width;
  tap_list taps;
  size_t bytes;
  void *block;
  MOON_TRY(taps_new(job, &taps, &bytes, &block));
  for (int64_t index = first; index < last; index++) {
    REAL *sums = (REAL *)job->partial + index * size;
    memset(sums, 0, (size_t)size * sizeof(REAL));
    int64_t end = minimum(y->shape[0] * y->shape[2], (index + 1) * job->share);
    for (int64_t line = index * job->share; line < end; line++)
      run_line(job, line, &taps, sums);
  }
  alloc_release(job->engine, block, bytes);
  return MOON_OK;
}

// -- weights

void CPU(NAME(depth_pack))(const depth_job *job, const device_array *weight) {
  int64_t rows = job->axes[0].taps, columns = job->axes[1].taps;
  REAL *to = job->weight;
  for (int64_t c = 0; c < job->width; c++)
    for (int64_t y = 0; y < rows; y++)
      for (int64_t x = 0; x < columns; x++)
        to[(y * columns + x) * job->width + c] =
            c < job->channels ? ((const REAL *)weight->data)[c * weight->strides[0] +
                                                             y * weight->strides[2] +
                                                             x * weight->strides[3]] : 0;
}

void CPU(NAME(depth_add))(const depth_job *job, int64_t shares, const device_array *weight) {
  int64_t rows = job->axes[0].taps, columns = job->axes[1].taps;
  int64_t size = rows * columns * job->width;
  REAL *sums = job->partial;
  for (int64_t share = 1; share < shares; share++)
    for (int64_t i = 0; i < size; i += LANES)
      lanes_store(sums + i, lanes_load(sums + i) + lanes_load(sums + share * size + i));
  for (int64_t c = 0; c < job->channels; c++)
    for (int64_t y = 0; y < rows; y++)
      for (int64_t x = 0; x < columns; x++)
        ((REAL *)weight->data)[c * weight->strides[0] + y * weight->strides[2] +
                               x * weight->strides[3]] =
            sums[(y * columns + x) * job->width + c];
}
