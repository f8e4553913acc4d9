// Local response normalisation for one compute type: LRN_COLUMNS neighbouring elements of all
// channels of one image at a time. Window sums are taken afresh for every channel (a sliding sum
// would subtract what it added and lose digits).
#include "cpu/lrn_power_real.h"
#include "cpu/network.h"

#include "base/alloc.h"

// sum[j] += a[j] * b[j] over channels low .. high, rows `stride` apart.
static void add_window(const REAL *a, const REAL *b, int64_t low, int64_t high, int64_t stride,
                       int64_t count, REAL *sum) {
  for (int64_t c = low; c <= high; c++)
    for (int64_t j = 0; j < count; j++) sum[j] += a[c * stride + j] * b[c * stride + j];
}

static int64_t lowest(int64_t channel, int64_t before) {
  return channel > before ? channel - before : 0;
}
static int64_t highest(int64_t channel, int64_t after, int64_t channels) {
  return channel + after < channels ? channel + after : channels - 1;
}

static void lrn_block(const lrn_job *job, const REAL *x, int64_t count, REAL *out, REAL *scale) {
  const lrn_options *o = job->options;
  int64_t before = o->size / 2, after = (o->size - 1) / 2;
  REAL factor = (REAL)(o->alpha / (double)o->size), k = (REAL)o->k;
  for (int64_t c = 0; c < job->channels; c++) {
    REAL sum[LRN_COLUMNS] = { 0 }, power[LRN_COLUMNS];
    add_window(x, x, lowest(c, before), highest(c, after, job->channels), job->inner, count, sum);
    for (int64_t j = 0; j < count; j++) scale[c * job->inner + j] = k + factor * sum[j];
    negative_power(o->beta, scale + c * job->inner, count, power);
    for (int64_t j = 0; j < count; j++)
      out[c * job->inner + j] = x[c * job->inner + j] * power[j];
  }
}

// Where block `index` starts, and how many columns it has.
static int64_t lrn_offset(const lrn_job *job, int64_t index, int64_t *count) {
  int64_t image = index / job->blocks, column = index % job->blocks * LRN_COLUMNS;
  *count = job->inner - column < LRN_COLUMNS ? job->inner - column : LRN_COLUMNS;
  return image * job->channels * job->inner + column;
}

moon_status CPU(NAME(lrn_blocks))(void *context, int64_t first, int64_t last) {
  const lrn_job *job = context;
  for (int64_t index = first; index < last; index++) {
    int64_t count, at = lrn_offset(job, index, &count);
    lrn_block(job, (const REAL *)job->x + at, count, (REAL *)job->out + at,
              (REAL *)job->scale + at);
  }
  return MOON_OK;
}

// dx = g s^-beta - 2 alpha beta / size * x * sum of (g x s^(-beta-1)) over the windows that hold x.
// `ratio` is scratch of channels x LRN_COLUMNS.
static void lrn_back_block(const lrn_job *job, int64_t at, int64_t count, REAL *ratio) {
  const lrn_options *o = job->options;
  const REAL *g = (const REAL *)job->gradient + at, *x = (const REAL *)job->x + at;
  const REAL *scale = (const REAL *)job->scale + at;
  REAL *dx = (REAL *)job->out + at;
  int64_t inner = job->inner, before = (o->size - 1) / 2, after = o->size / 2;
  REAL factor = (REAL)(2 * o->alpha * o->beta / (double)o->size);
  for (int64_t c = 0; c < job->channels; c++) {
    REAL power[LRN_COLUMNS];
    negative_power(o->beta, scale + c * inner, count, power);
    for (int64_t j = 0; j < count; j++) {
      dx[c * inner + j] = g[c * inner + j] * power[j];
      ratio[c * LRN_COLUMNS + j] = dx[c * inner + j] * x[c * inner + j] / scale[c * inner + j];
    }
  }
  for (int64_t c = 0; c < job->channels; c++) {
    REAL sum[LRN_COLUMNS] = { 0 };
    for (int64_t i = lowest(c, before); i <= highest(c, after, job->channels); i++)
      for (int64_t j = 0; j < count; j++) sum[j] += ratio[i * LRN_COLUMNS + j];
    for (int64_t j = 0; j < count; j++)
      dx[c * inner + j] -= factor * x[c * inner + j] * sum[j];
  }
}

moon_status CPU(NAME(lrn_back_blocks))(void *context, int64_t first, int64_t last) {
  const lrn_job *job = context;
  size_t bytes = (size_t)job->channels * LRN_COLUMNS * sizeof(REAL);
  void *ratio;
  MOON_TRY(alloc_bytes(job->engine, bytes, &ratio));
  for (int64_t index = first; index < last; index++) {
    int64_t count, at = lrn_offset(job, index, &count);
    lrn_back_block(job, at, count, ratio);
  }
  alloc_release(job->engine, ratio, bytes);
  return MOON_OK;
}
