// Batch normalisation by planes for one compute type, a channel at a time. Mean and variance are
// two passes over the channel (the second about the mean), summed in vectors over at most SUM_RUN
// elements and from there in double.
#include "cpu/batch_norm.h"
#include "cpu/lanes.h"

#include <math.h>

enum { SUM_RUN = 4096 };

// A channel's runs of at most SUM_RUN elements one after the other: `at` from its first element.
typedef struct plane_run { int64_t row, column, at, n; } plane_run;

static bool next_run(const batch_norm_job *job, plane_run *run) {
  run->column += run->n;
  if (run->column >= job->inner) {
    run->row++;
    run->column = 0;
  }
  if (run->row >= job->rows || job->inner == 0) return false;
  int64_t left = job->inner - run->column;
  run->n = left < SUM_RUN ? left : SUM_RUN;
  run->at = run->row * job->row_stride + run->column;
  return true;
}

// Sums of (a - shift) and of (a - shift) * (b - other) over n <= SUM_RUN elements.
typedef struct moments { double sum, product; } moments;

static moments sum_run(const REAL *a, REAL shift, const REAL *b, REAL other, int64_t n) {
  enum { CHAINS = 4 };   // of additions, to cover their latency
  lanes sum[CHAINS] = { lanes_zero() }, product[CHAINS] = { lanes_zero() };
  lanes shifts = lanes_all(shift), others = lanes_all(other);
  int64_t i = 0;
  for (; i + CHAINS * LANES <= n; i += CHAINS * LANES)
#pragma GCC unroll 4
    for (int chain = 0; chain < CHAINS; chain++) {
      lanes left = lanes_load(a + i + chain * LANES) - shifts;
      lanes right = lanes_load(b + i + chain * LANES) - others;
      sum[chain] += left;
      product[chain] = lanes_fma(left, right, product[chain]);
    }
  moments m = { (double)lanes_sum((sum[0] + sum[1]) + (sum[2] + sum[3])),
                (double)lanes_sum((product[0] + product[1]) + (product[2] + product[3])) };
  for (; i < n; i++) {
    m.sum += (double)(a[i] - shift);
    m.product += (double)((a[i] - shift) * (b[i] - other));
  }
  return m;
}

// Of (x - shift) and its square over a whole channel.
static moments sum_channel(const batch_norm_job *job, const REAL *x, REAL shift) {
  moments total = { 0, 0 };
  for (plane_run run = { 0 }; next_run(job, &run);) {
    moments part = sum_run(x + run.at, shift, x + run.at, shift, run.n);
    total.sum += part.sum;
    total.product += part.product;
  }
  return total;
}

// -- the result

// What a channel is calculated with: z = (x - mean) * scale + shift.
typedef struct channel_line { REAL mean, scale, shift, low, high; } channel_line;

static channel_line line_of(const batch_norm_ends *ends, int64_t channel) {
  REAL rstd = ((const REAL *)ends->rstd)[channel];
  return (channel_line){
    .mean = ((const REAL *)ends->mean)[channel],
    .scale = ends->weight ? rstd * ((const REAL *)ends->weight)[channel] : rstd,
    .shift = ends->bias ? ((const REAL *)ends->bias)[channel] : 0,
    .low = (REAL)ends->low, .high = (REAL)ends->high };
}

static void apply_run(channel_line l, const REAL *x, const REAL *add, int64_t n, REAL *to) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) {
    REAL z = (x[i] - l.mean) * l.scale + l.shift;
    z = add ? z + add[i] : z;
    z = z < l.low ? l.low : z;
    to[i] = z > l.high ? l.high : z;
  }
}

static void apply_channel(const batch_norm_job *job, int64_t channel) {
  int64_t offset = channel * job->channel_stride;
  const REAL *x = (const REAL *)job->x + offset;
  const REAL *add = job->add ? (const REAL *)job->add + offset : NULL;
  REAL *out = (REAL *)job->out + offset;
  channel_line line = line_of(&job->ends, channel);
  for (plane_run run = { 0 }; next_run(job, &run);)
    apply_run(line, x + run.at, add ? add + run.at : NULL, run.n, out + run.at);
}

moon_status CPU(NAME(batch_norm_channels))(void *context, int64_t first, int64_t last) {
  const batch_norm_job *job = context;
  double count = (double)(job->rows * job->inner);
  for (int64_t channel = first; channel < last; channel++) {
    const REAL *x = (const REAL *)job->x + channel * job->channel_stride;
    // The first sum is about the first element, so that a large common part does not cost digits.
    REAL origin = count > 0 ? x[0] : 0;
    double centre = sum_channel(job, x, origin).sum / count + (double)origin;
    moments about = sum_channel(job, x, (REAL)centre);
    double variance = about.product / count - (about.sum / count) * (about.sum / count);
    if (variance < 0) variance = 0;
    ((REAL *)job->ends.mean)[channel] = (REAL)centre;
    ((REAL *)job->ends.rstd)[channel] = (REAL)(1 / sqrt(variance + job->ends.options->epsilon));
    batch_norm_track(&job->ends, channel, centre, variance, count);
    apply_channel(job, channel);
  }
  return MOON_OK;
}

moon_status CPU(NAME(batch_norm_apply_channels))(void *context, int64_t first, int64_t last) {
  for (int64_t channel = first; channel < last; channel++) apply_channel(context, channel);
  return MOON_OK;
}

// -- gradients

// The gradient of a run in front of the activation: g itself, or masked into `to`.
static const REAL *masked_run(const batch_norm_job *job, channel_line l, const REAL *g,
                              const REAL *x, const REAL *y, int64_t n, REAL *to) {
  if (!job->ends.bounded) return g;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) {
    REAL z = y ? y[i] : (x[i] - l.mean) * l.scale + l.shift, gradient = g[i];
    to[i] = (z > l.low) & (z < l.high) ? gradient : 0;
  }
  return to;
}

// A channel's arrays in the backward pass.
typedef struct back_channel { const REAL *g, *x, *y; REAL *dx, *dadd; channel_line line; }
    back_channel;

static back_channel back_of(const batch_norm_job *job, int64_t channel) {
  int64_t offset = channel * job->channel_stride;
  return (back_channel){ .g = (const REAL *)job->gradient + offset,
                         .x = (const REAL *)job->x + offset,
                         .y = job->y ? (const REAL *)job->y + offset : NULL,
                         .dx = job->out ? (REAL *)job->out + offset : NULL,
                         .dadd = job->dadd ? (REAL *)job->dadd + offset : NULL,
                         .line = line_of(&job->ends, channel) };
}

// Sums of g and of g (x - mean); dadd is written on the way.
static moments back_sums(const batch_norm_job *job, const back_channel *b) {
  REAL masked[SUM_RUN];
  moments total = { 0, 0 };
  for (plane_run run = { 0 }; next_run(job, &run);) {
    const REAL *g = masked_run(job, b->line, b->g + run.at, b->x + run.at,
                               b->y ? b->y + run.at : NULL, run.n,
                               b->dadd ? b->dadd + run.at : masked);
    moments part = sum_run(g, 0, b->x + run.at, b->line.mean, run.n);
    total.sum += part.sum;
    total.product += part.product;
  }
  return total;
}

// dx = scale (g - level - (x - mean) slope)
static void back_apply(const batch_norm_job *job, const back_channel *b, REAL level, REAL slope) {
  REAL masked[SUM_RUN];
  channel_line l = b->line;
  for (plane_run run = { 0 }; next_run(job, &run);) {
    const REAL *x = b->x + run.at;
    const REAL *g = masked_run(job, l, b->g + run.at, x, b->y ? b->y + run.at : NULL, run.n,
                               masked);
    REAL *dx = b->dx + run.at;
#pragma GCC ivdep
    for (int64_t i = 0; i < run.n; i++)
      dx[i] = (g[i] - level - (x[i] - l.mean) * slope) * l.scale;
  }
}

// With given statistics they are constants: level and slope are 0.
moon_status CPU(NAME(batch_norm_back_channels))(void *context, int64_t first, int64_t last) {
  const batch_norm_job *job = context;
  double count = (double)(job->rows * job->inner);
  for (int64_t channel = first; channel < last; channel++) {
    back_channel b = back_of(job, channel);
    double rstd = (double)((const REAL *)job->ends.rstd)[channel];
    moments m = back_sums(job, &b);
    bool given = job->ends.options->constant;
    if (job->ends.dbias) ((REAL *)job->ends.dbias)[channel] = (REAL)m.sum;
    if (job->ends.dweight) ((REAL *)job->ends.dweight)[channel] = (REAL)(m.product * rstd);
    if (b.dx)
      back_apply(job, &b, given ? 0 : (REAL)(m.sum / count),
                 given ? 0 : (REAL)(m.product / count * rstd * rstd));
  }
  return MOON_OK;
}
