// Cross entropy for one compute type, from log-probabilities. With classes weighted by w, label y
// and smoothing s over c classes (as PyTorch defines it):
//   loss    = (1 - s) w[y] (-logp[y]) + s / c * sum_j w[j] (-logp[j])
//   dlogits = g ((1 - s) w[y] (p[j] - [j = y]) + s / c * (p[j] sum_k w[k] - w[j]))
#include "cpu/network.h"

#include <math.h>

static REAL class_weight(const cross_entropy_job *job, int64_t class) {
  return job->weight ? ((const REAL *)job->weight)[class] : 1;
}

static moon_status bad_label(const cross_entropy_job *job, int64_t label) {
  return moon_fail(MOON_BAD_INDEX, "label %lld is out of range for %lld classes",
                   (long long)label + 1, (long long)job->size);
}

moon_status CPU(NAME(cross_entropy_losses))(void *context, int64_t first, int64_t last) {
  const cross_entropy_job *job = context;
  double smoothing = job->options->smoothing;
  for (int64_t index = first; index < last; index++) {
    const REAL *logp = (const REAL *)job->logp +
                       index / job->inner * job->size * job->inner + index % job->inner;
    int64_t label = job->labels[index];
    REAL *loss = (REAL *)job->out + index;
    *loss = 0;
    if (label == job->options->ignore) continue;
    if (label < 0 || label >= job->size) return bad_label(job, label);
    double sum = 0;
    if (smoothing != 0)
      for (int64_t c = 0; c < job->size; c++)
        sum -= (double)(class_weight(job, c) * logp[c * job->inner]);
    double own = -(double)class_weight(job, label) * (double)logp[label * job->inner];
    *loss = (REAL)((1 - smoothing) * own + smoothing / (double)job->size * sum);
  }
  return MOON_OK;
}

// The gradient of one label's column; weights: sum over all classes.
static void back_column(const cross_entropy_job *job, const REAL *logp, REAL g, int64_t label,
                        double weights, REAL *to) {
  double smoothing = job->options->smoothing, share = smoothing / (double)job->size;
  double own = (1 - smoothing) * (double)class_weight(job, label);
  REAL on_probability = (REAL)(own + share * weights) * g;
  for (int64_t c = 0; c < job->size; c++)
    to[c * job->inner] = REAL_EXP(logp[c * job->inner]) * on_probability -
                         (REAL)share * class_weight(job, c) * g;
  to[label * job->inner] -= (REAL)own * g;
}

moon_status CPU(NAME(cross_entropy_back))(void *context, int64_t first, int64_t last) {
  const cross_entropy_job *job = context;
  double weights = 0;
  for (int64_t c = 0; c < job->size; c++) weights += (double)class_weight(job, c);
  for (int64_t index = first; index < last; index++) {
    int64_t at = index / job->inner * job->size * job->inner + index % job->inner;
    int64_t label = job->labels[index];
    REAL *to = (REAL *)job->out + at;
    if (label == job->options->ignore) {
      for (int64_t c = 0; c < job->size; c++) to[c * job->inner] = 0;
      continue;
    }
    if (label < 0 || label >= job->size) return bad_label(job, label);
    back_column(job, (const REAL *)job->logp + at, ((const REAL *)job->gradient)[index], label,
                weights, to);
  }
  return MOON_OK;
}
