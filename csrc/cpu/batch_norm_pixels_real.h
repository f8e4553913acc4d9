// Batch normalisation by pixels, for one compute type REAL and the type STORED that arrays are kept
// in. Loops run over the elements of a pixel, which vectorise whatever the channels' number.
//
// The moments of a block come from runs of pixels that fit the cache: a run's mean first, then its
// deviations about it; runs, blocks and folds are joined in double (Chan, Golub and LeVeque 1979),
// in an order that the shape gives. Sums of the backward pass likewise go over to double every run.
// A pass reads every array once: two for each direction.
#include "cpu/batch_norm.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

#ifndef MOON_CPU_BATCH_NORM_RUNS
#define MOON_CPU_BATCH_NORM_RUNS
enum { RUN_ELEMENTS = 65536, LEAST_RUN = 8, MOST_RUN = 128 };

static int64_t run_of(int64_t width) {
  int64_t run = RUN_ELEMENTS / width;
  return run < LEAST_RUN ? LEAST_RUN : run > MOST_RUN ? MOST_RUN : run;
}

static int64_t smaller_of(int64_t a, int64_t b) { return a < b ? a : b; }
#endif

static const STORED *row_at(pixel_rows rows, int64_t pixel) {
  return rows.data ? (const STORED *)rows.data + pixel * rows.stride : NULL;
}
static STORED *row_to(pixel_rows rows, int64_t pixel) {
  return rows.data ? (STORED *)rows.data + pixel * rows.stride : NULL;
}

// One of the two sums of an item.
static double *partial_of(const batch_norm_pixels *job, int64_t item, int which) {
  return job->partials + (item * 2 + which) * job->width;
}

// Scratch of a task: three times a pixel's width.
static moon_status scratch_new(const batch_norm_pixels *job, REAL **scratch) {
  return alloc_bytes(job->engine, 3 * (size_t)job->width * sizeof(REAL), (void **)scratch);
}
static void scratch_release(const batch_norm_pixels *job, REAL *scratch) {
  alloc_release(job->engine, scratch, 3 * (size_t)job->width * sizeof(REAL));
}

enum { MEAN_VECTOR, SCALE_VECTOR, SHIFT_VECTOR, LEVEL_VECTOR, SLOPE_VECTOR };
static REAL *vector_of(const batch_norm_pixels *job, int vector) {
  return (REAL *)job->vectors + vector * job->width;
}

// -- moments

static void add_row(const STORED *restrict x, int64_t n, REAL *restrict sum) {
  for (int64_t i = 0; i < n; i++) sum[i] += STORED_LOAD(x[i]);
}

static void add_deviations(const STORED *restrict x, const REAL *restrict centre, int64_t n,
                           REAL *restrict sum, REAL *restrict square) {
  for (int64_t i = 0; i < n; i++) {
    REAL d = STORED_LOAD(x[i]) - centre[i];
    sum[i] += d;
    square[i] += d * d;
  }
}

// Joins `count` values of mean and sum of squared deviations to `before` values of *mean, *squares.
static void join_moments(double before, double count, double mean, double squares, double *to_mean,
                         double *to_squares) {
  double delta = mean - *to_mean, share = count / (before + count);
  *to_mean += delta * share;
  *to_squares += squares + delta * delta * (before * share);
}

static void run_moments(const batch_norm_pixels *job, int64_t item, int64_t first, int64_t count,
                        double before, REAL *scratch) {
  int64_t width = job->width;
  double *mean = partial_of(job, item, 0), *squares = partial_of(job, item, 1);
  REAL *centre = scratch, *sum = centre + width, *square = sum + width;
  memset(scratch, 0, 3 * (size_t)width * sizeof(REAL));
  for (int64_t k = 0; k < count; k++) add_row(row_at(job->x, first + k), width, centre);
  for (int64_t i = 0; i < width; i++) centre[i] /= (REAL)count;
  for (int64_t k = 0; k < count; k++)
    add_deviations(row_at(job->x, first + k), centre, width, sum, square);
  for (int64_t i = 0; i < width; i++) {
    double off = (double)sum[i] / (double)count;
    join_moments(before, (double)count, (double)centre[i] + off,
                 (double)square[i] - (double)sum[i] * off, &mean[i], &squares[i]);
  }
}

moon_status CPU(NAME(batch_norm_pixels_moments))(void *context, int64_t first, int64_t last) {
  const batch_norm_pixels *job = context;
  int64_t run = run_of(job->width);
  REAL *scratch;
  MOON_TRY(scratch_new(job, &scratch));
  for (int64_t item = first; item < last; item++) {
    int64_t start = item * job->block, end = smaller_of(start + job->block, job->pixels);
    memset(partial_of(job, item, 0), 0, 2 * (size_t)job->width * sizeof(double));
    for (int64_t k = start; k < end; k += run)
      run_moments(job, item, k, smaller_of(run, end - k), (double)(k - start), scratch);
  }
  scratch_release(job, scratch);
  return MOON_OK;
}

// -- from moments to what a pixel is calculated with

static void fill_vectors(const batch_norm_pixels *job) {
  const REAL *weight = job->ends.weight, *bias = job->ends.bias;
  const REAL *mean = job->ends.mean, *rstd = job->ends.rstd;
  for (int64_t i = 0; i < job->width; i++) {
    int64_t c = i % job->channels;
    vector_of(job, MEAN_VECTOR)[i] = mean[c];
    vector_of(job, SCALE_VECTOR)[i] = weight ? rstd[c] * weight[c] : rstd[c];
    vector_of(job, SHIFT_VECTOR)[i] = bias ? bias[c] : 0;
    vector_of(job, LEVEL_VECTOR)[i] = vector_of(job, SLOPE_VECTOR)[i] = 0;
  }
}

moon_status CPU(NAME(batch_norm_pixels_join))(void *context, int64_t first, int64_t last) {
  const batch_norm_pixels *job = context;
  double count = (double)(job->pixels * job->folds), before = 0;
  // the first item's moments of fold 0 take in all others
  double *mean = partial_of(job, 0, 0), *squares = partial_of(job, 0, 1);
  (void)first, (void)last;
  for (int64_t item = 0; item < job->blocks; item++) {
    double pixels = (double)smaller_of(job->block, job->pixels - item * job->block);
    for (int64_t fold = 0; fold < job->folds; fold++, before += pixels) {
      const double *m = partial_of(job, item, 0) + fold * job->channels;
      const double *s = partial_of(job, item, 1) + fold * job->channels;
      for (int64_t c = 0; before > 0 && c < job->channels; c++)
        join_moments(before, pixels, m[c], s[c], &mean[c], &squares[c]);
    }
  }
  for (int64_t c = 0; c < job->channels; c++) {
    double variance = squares[c] > 0 ? squares[c] / count : squares[c] * 0;   // NaN stays
    ((REAL *)job->ends.mean)[c] = (REAL)mean[c];
    ((REAL *)job->ends.rstd)[c] = (REAL)(1 / sqrt(variance + job->ends.options->epsilon));
    batch_norm_track(&job->ends, c, mean[c], variance, count);
  }
  fill_vectors(job);
  return MOON_OK;
}

moon_status CPU(NAME(batch_norm_pixels_given))(void *context, int64_t first, int64_t last) {
  (void)first, (void)last;
  fill_vectors(context);
  return MOON_OK;
}

// -- the result

static REAL limited(REAL z, REAL low, REAL high) {
  z = z < low ? low : z;
  return z > high ? high : z;
}

static void apply_row(const batch_norm_pixels *job, const STORED *restrict x,
                      const STORED *restrict add, STORED *restrict out) {
  const REAL *restrict mean = vector_of(job, MEAN_VECTOR);
  const REAL *restrict scale = vector_of(job, SCALE_VECTOR);
  const REAL *restrict shift = vector_of(job, SHIFT_VECTOR);
  const REAL low = (REAL)job->ends.low, high = (REAL)job->ends.high;
  int64_t n = job->width;
  if (add) {
    for (int64_t i = 0; i < n; i++) {
      REAL z = (STORED_LOAD(x[i]) - mean[i]) * scale[i] + shift[i] + STORED_LOAD(add[i]);
      out[i] = STORED_SAVE(limited(z, low, high));
    }
  } else {
    for (int64_t i = 0; i < n; i++) {
      REAL z = (STORED_LOAD(x[i]) - mean[i]) * scale[i] + shift[i];
      out[i] = STORED_SAVE(limited(z, low, high));
    }
  }
}

moon_status CPU(NAME(batch_norm_pixels_apply))(void *context, int64_t first, int64_t last) {
  const batch_norm_pixels *job = context;
  int64_t end = smaller_of(last * job->block, job->pixels);
  for (int64_t k = first * job->block; k < end; k++)
    apply_row(job, row_at(job->x, k), row_at(job->add, k), row_to(job->out, k));
  return MOON_OK;
}

// -- gradients

// The gradient in front of the activation, of pixel k.
static void gradient_row(const batch_norm_pixels *job, int64_t k, REAL *restrict to) {
  const STORED *restrict g = row_at(job->gradient, k), *restrict x = row_at(job->x, k);
  const STORED *restrict y = row_at(job->y, k);
  const REAL *restrict mean = vector_of(job, MEAN_VECTOR);
  const REAL *restrict scale = vector_of(job, SCALE_VECTOR);
  const REAL *restrict shift = vector_of(job, SHIFT_VECTOR);
  const REAL low = (REAL)job->ends.low, high = (REAL)job->ends.high;
  int64_t n = job->width;
  if (!job->ends.bounded) {
    for (int64_t i = 0; i < n; i++) to[i] = STORED_LOAD(g[i]);
  } else if (y) {
    for (int64_t i = 0; i < n; i++) {
      REAL z = STORED_LOAD(y[i]), gradient = STORED_LOAD(g[i]);
      to[i] = (z > low) & (z < high) ? gradient : 0;
    }
  } else {
    for (int64_t i = 0; i < n; i++) {
      REAL z = (STORED_LOAD(x[i]) - mean[i]) * scale[i] + shift[i], gradient = STORED_LOAD(g[i]);
      to[i] = (z > low) & (z < high) ? gradient : 0;
    }
  }
}

static void add_products(const STORED *restrict x, const REAL *restrict g,
                         const REAL *restrict mean, int64_t n, REAL *restrict sum,
                         REAL *restrict product) {
  for (int64_t i = 0; i < n; i++) {
    sum[i] += g[i];
    product[i] += g[i] * (STORED_LOAD(x[i]) - mean[i]);
  }
}

static void back_run(const batch_norm_pixels *job, int64_t item, int64_t first, int64_t count,
                     REAL *scratch) {
  int64_t width = job->width;
  double *sums = partial_of(job, item, 0), *products = partial_of(job, item, 1);
  REAL *g = scratch, *sum = g + width, *product = sum + width;
  memset(sum, 0, 2 * (size_t)width * sizeof(REAL));
  for (int64_t k = first; k < first + count; k++) {
    STORED *dadd = row_to(job->dadd, k);
    gradient_row(job, k, g);
    add_products(row_at(job->x, k), g, vector_of(job, MEAN_VECTOR), width, sum, product);
    for (int64_t i = 0; dadd && i < width; i++) dadd[i] = STORED_SAVE(g[i]);
  }
  for (int64_t i = 0; i < width; i++) {
    sums[i] += (double)sum[i];
    products[i] += (double)product[i];
  }
}

// Sums of g and of g (x - mean) of each block; dadd is written on the way.
moon_status CPU(NAME(batch_norm_pixels_back_sums))(void *context, int64_t first, int64_t last) {
  const batch_norm_pixels *job = context;
  int64_t run = run_of(job->width);
  REAL *scratch;
  MOON_TRY(scratch_new(job, &scratch));
  for (int64_t item = first; item < last; item++) {
    int64_t start = item * job->block, end = smaller_of(start + job->block, job->pixels);
    memset(partial_of(job, item, 0), 0, 2 * (size_t)job->width * sizeof(double));
    for (int64_t k = start; k < end; k += run)
      back_run(job, item, k, smaller_of(run, end - k), scratch);
  }
  scratch_release(job, scratch);
  return MOON_OK;
}

// dx = scale (g - level - (x - mean) slope); with given statistics level and slope are 0.
static void fill_slopes(const batch_norm_pixels *job, const double *sums, const double *products) {
  const REAL *rstd = job->ends.rstd;
  double count = (double)(job->pixels * job->folds);
  for (int64_t i = 0; i < job->width; i++) {
    int64_t c = i % job->channels;
    bool given = job->ends.options->constant;
    double square = (double)rstd[c] * (double)rstd[c];
    vector_of(job, LEVEL_VECTOR)[i] = given ? 0 : (REAL)(sums[c] / count);
    vector_of(job, SLOPE_VECTOR)[i] = given ? 0 : (REAL)(products[c] / count * square);
  }
}

moon_status CPU(NAME(batch_norm_pixels_back_join))(void *context, int64_t first, int64_t last) {
  const batch_norm_pixels *job = context;
  double *sums = partial_of(job, 0, 0), *products = partial_of(job, 0, 1);
  (void)first, (void)last;
  for (int64_t part = 1; part < job->blocks * job->folds; part++) {
    int64_t item = part / job->folds, at = part % job->folds * job->channels;
    const double *s = partial_of(job, item, 0) + at, *p = partial_of(job, item, 1) + at;
    for (int64_t c = 0; c < job->channels; c++) {
      sums[c] += s[c];
      products[c] += p[c];
    }
  }
  for (int64_t c = 0; c < job->channels; c++) {
    if (job->ends.dbias) ((REAL *)job->ends.dbias)[c] = (REAL)sums[c];
    if (job->ends.dweight)
      ((REAL *)job->ends.dweight)[c] = (REAL)(products[c] * (double)((REAL *)job->ends.rstd)[c]);
  }
  fill_slopes(job, sums, products);
  return MOON_OK;
}

static void back_row(const batch_norm_pixels *job, const STORED *restrict x,
                     const REAL *restrict g, STORED *restrict dx) {
  const REAL *restrict mean = vector_of(job, MEAN_VECTOR);
  const REAL *restrict scale = vector_of(job, SCALE_VECTOR);
  const REAL *restrict level = vector_of(job, LEVEL_VECTOR);
  const REAL *restrict slope = vector_of(job, SLOPE_VECTOR);
  for (int64_t i = 0; i < job->width; i++)
    dx[i] = STORED_SAVE((g[i] - level[i] - (STORED_LOAD(x[i]) - mean[i]) * slope[i]) * scale[i]);
}

moon_status CPU(NAME(batch_norm_pixels_back))(void *context, int64_t first, int64_t last) {
  const batch_norm_pixels *job = context;
  int64_t end = smaller_of(last * job->block, job->pixels);
  REAL *g;
  MOON_TRY(scratch_new(job, &g));
  for (int64_t k = first * job->block; k < end; k++) {
    gradient_row(job, k, g);
    back_row(job, row_at(job->x, k), g, row_to(job->out, k));
  }
  scratch_release(job, g);
  return MOON_OK;
}
