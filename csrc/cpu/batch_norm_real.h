// Batch normalisation for one compute type. Mean and variance are two passes over a channel (the
// second about the mean), summed in vectors over at most SUM_RUN elements and from there in double.
#include "cpu/lanes.h"
#include "cpu/network.h"

#include <math.h>

enum { SUM_RUN = 4096 };

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

// The same over a whole channel.
static moments sum_channel(const batch_norm_job *job, const REAL *a, REAL shift, const REAL *b,
                           REAL other) {
  moments total = { 0, 0 };
  for (int64_t row = 0; row < job->rows; row++)
    for (int64_t i = 0; i < job->inner; i += SUM_RUN) {
      int64_t n = job->inner - i < SUM_RUN ? job->inner - i : SUM_RUN;
      int64_t at = row * job->row_stride + i;
      moments part = sum_run(a + at, shift, b + at, other, n);
      total.sum += part.sum;
      total.product += part.product;
    }
  return total;
}

static void apply_channel(const batch_norm_job *job, int64_t channel, REAL mean, REAL rstd) {
  const REAL *x = (const REAL *)job->x + channel * job->channel_stride;
  REAL *out = (REAL *)job->out + channel * job->channel_stride;
  REAL scale = job->weight ? rstd * ((const REAL *)job->weight)[channel] : rstd;
  REAL shift = job->bias ? ((const REAL *)job->bias)[channel] : 0;
  for (int64_t row = 0; row < job->rows; row++) {
    const REAL *from = x + row * job->row_stride;
    REAL *to = out + row * job->row_stride;
    for (int64_t i = 0; i < job->inner; i++) to[i] = (from[i] - mean) * scale + shift;
  }
}

moon_status CPU(NAME(batch_norm_channels))(void *context, int64_t first, int64_t last) {
  const batch_norm_job *job = context;
  double count = (double)(job->rows * job->inner);
  for (int64_t channel = first; channel < last; channel++) {
    const REAL *x = (const REAL *)job->x + channel * job->channel_stride;
    // The first sum is about the first element, so that a large common part does not cost digits.
    REAL origin = count > 0 ? x[0] : 0;
    REAL mean = (REAL)(sum_channel(job, x, origin, x, origin).sum / count + (double)origin);
    moments about = sum_channel(job, x, mean, x, mean);
    double variance = about.product / count - (about.sum / count) * (about.sum / count);
    REAL rstd = (REAL)(1 / sqrt((variance < 0 ? 0 : variance) + job->epsilon));
    ((REAL *)job->mean)[channel] = mean;
    ((REAL *)job->rstd)[channel] = rstd;
    apply_channel(job, channel, mean, rstd);
  }
  return MOON_OK;
}

moon_status CPU(NAME(batch_norm_apply_channels))(void *context, int64_t first, int64_t last) {
  const batch_norm_job *job = context;
  for (int64_t channel = first; channel < last; channel++)
    apply_channel(job, channel, ((const REAL *)job->mean)[channel],
                  ((const REAL *)job->rstd)[channel]);
  return MOON_OK;
}

// dx = weight * rstd * (g - mean of g - (x - mean) * rstd^2 * mean of g (x - mean))
moon_status CPU(NAME(batch_norm_back_channels))(void *context, int64_t first, int64_t last) {
  const batch_norm_job *job = context;
  double count = (double)(job->rows * job->inner);
  for (int64_t channel = first; channel < last; channel++) {
    int64_t offset = channel * job->channel_stride;
    const REAL *g = (const REAL *)job->gradient + offset, *x = (const REAL *)job->x + offset;
    REAL mean = ((const REAL *)job->mean)[channel], rstd = ((const REAL *)job->rstd)[channel];
    moments m = sum_channel(job, g, 0, x, mean);
    if (job->dbias) ((REAL *)job->dbias)[channel] = (REAL)m.sum;
    if (job->dweight) ((REAL *)job->dweight)[channel] = (REAL)(m.product * (double)rstd);
    if (!job->out) continue;
    REAL scale = job->weight ? rstd * ((const REAL *)job->weight)[channel] : rstd;
    REAL level = (REAL)(m.sum / count);
    REAL slope = (REAL)(m.product / count * (double)rstd * (double)rstd);
    for (int64_t row = 0; row < job->rows; row++) {
      const REAL *from = x + row * job->row_stride, *by = g + row * job->row_stride;
      REAL *to = (REAL *)job->out + offset + row * job->row_stride;
      for (int64_t i = 0; i < job->inner; i++)
        to[i] = (by[i] - level - (from[i] - mean) * slope) * scale;
    }
  }
  return MOON_OK;
}
