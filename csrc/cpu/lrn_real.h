// Local response normalisation for one compute type: LRN_COLUMNS neighbouring elements of all
// channels of one image at a time. Window sums are taken afresh for every channel (a sliding sum
// would subtract what it added and lose digits).
#include "base/alloc.h"
#include "cpu/lrn_power_real.h"

static int64_t lowest(int64_t channel, int64_t before) {
  return channel > before ? channel - before : 0;
}
static int64_t highest(int64_t channel, int64_t after, int64_t channels) {
  return channel + after < channels ? channel + after : channels - 1;
}

// s^-beta and 1 / s of channel c's columns; count <= LRN_COLUMNS.
static void column_powers(const lrn_job *job, const REAL *x, int64_t c, int64_t count,
                          REAL power[LRN_COLUMNS], REAL inverse[LRN_COLUMNS]) {
  lrn_rule rule = lrn_rule_of(job->options);
  int64_t last = highest(c, (job->options->size - 1) / 2, job->channels);
  REAL sum[LRN_COLUMNS] = { 0 };
  for (int64_t i = lowest(c, job->options->size / 2); i <= last; i++)
    for (int64_t j = 0; j < count; j++) sum[j] += x[i * job->inner + j] * x[i * job->inner + j];
  for (int64_t j = 0; j < count; j += LANES) {
    lanes inverses;
    lanes_store(power + j, lrn_power(&rule, lanes_load(sum + j), &inverses));
    lanes_store(inverse + j, inverses);
  }
}

static void lrn_block(const lrn_job *job, const REAL *x, int64_t count, REAL *out) {
  for (int64_t c = 0; c < job->channels; c++) {
    REAL power[LRN_COLUMNS], inverse[LRN_COLUMNS];
    column_powers(job, x, c, count, power, inverse);
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
    lrn_block(job, (const REAL *)job->x + at, count, (REAL *)job->out + at);
  }
  return MOON_OK;
}

// dx = g s^-beta - 2 alpha beta / size * x * sum of (g x s^(-beta-1)) over the windows that hold x.
// `ratio` is scratch of channels x LRN_COLUMNS.
static void lrn_back_block(const lrn_job *job, int64_t at, int64_t count, REAL *ratio) {
  const lrn_options *o = job->options;
  const REAL *g = (const REAL *)job->gradient + at, *x = (const REAL *)job->x + at;
  REAL *dx = (REAL *)job->out + at;
  int64_t inner = job->inner, before = (o->size - 1) / 2, after = o->size / 2;
  lrn_rule rule = lrn_rule_of(o);
  REAL factor = lrn_factor(&rule);
  for (int64_t c = 0; c < job->channels; c++) {
    REAL power[LRN_COLUMNS], inverse[LRN_COLUMNS];
    column_powers(job, x, c, count, power, inverse);
    for (int64_t j = 0; j < count; j++) {
      dx[c * inner + j] = g[c * inner + j] * power[j];
      ratio[c * LRN_COLUMNS + j] = dx[c * inner + j] * x[c * inner + j] * inverse[j];
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
