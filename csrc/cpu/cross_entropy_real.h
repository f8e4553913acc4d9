// Cross entropy for one compute type, and its gradient from log-probabilities. With classes
// weighted by w, label y and smoothing s over c classes (as PyTorch defines it):
//   loss    = (1 - s) w[y] (-logp[y]) + s / c * sum_j w[j] (-logp[j])
//   dlogits = g ((1 - s) w[y] (p[j] - [j = y]) + s / c * (p[j] sum_k w[k] - w[j]))
// Arrays are read where they lie, by blocks of labels: along these where a class is a plane, along
// the classes of each where those lie side by side.
#include "cpu/exponentials_real.h"
#include "cpu/network.h"
#include "cpu/whole.h"

#include <math.h>
#include <string.h>

enum { LABELS = SOFTMAX_COLUMNS };   // of a block

static REAL class_weight(const cross_entropy_job *job, int64_t class) {
  return job->weight ? ((const REAL *)job->weight)[class] : 1;
}

static moon_status bad_label(const cross_entropy_job *job, int64_t label) {
  return moon_fail(MOON_BAD_INDEX, "label %lld is out of range for %lld classes",
                   (long long)label + 1, (long long)job->size);
}

// The logit of class 0 that goes with label `index`.
static REAL *logit_at(const cross_entropy_job *job, class_rows rows, int64_t index) {
  return (REAL *)rows.data + index / job->inner * rows.outer + index % job->inner * rows.inner;
}

// The loss of label `index`, whose classes' log-probabilities are (x[c * step] - best) - base.
static moon_status take_loss(const cross_entropy_job *job, int64_t index, const REAL *x, REAL best,
                             REAL base) {
  double smoothing = job->options->smoothing, sum = 0;
  int64_t label = job->labels[index], step = job->logits.step;
  REAL *loss = (REAL *)job->losses + index;
  *loss = 0;
  if (label == job->options->ignore) return MOON_OK;
  if (label < 0 || label >= job->size) return bad_label(job, label);
  if (smoothing != 0)
    for (int64_t c = 0; c < job->size; c++)
      sum -= (double)(class_weight(job, c) * ((x[c * step] - best) - base));
  double own = -(double)class_weight(job, label) * (double)((x[label * step] - best) - base);
  *loss = (REAL)((1 - smoothing) * own + smoothing / (double)job->size * sum);
  return MOON_OK;
}

// The classes of each label side by side.
static moon_status losses_by_pixels(const cross_entropy_job *job, int64_t index, int64_t count) {
  REAL best[LABELS], base[LABELS];
  for (int64_t r = 0; r < count; r++) {
    const REAL *x = logit_at(job, job->logits, index + r);
    best[r] = row_maximum(x, job->size);
    base[r] = (REAL)row_exponentials(x, best[r], job->size, NULL);
  }
  for (int64_t r = 0; r < count; r++) base[r] = REAL_LOG(base[r]);
  for (int64_t r = 0; r < count; r++) {
    const REAL *x = logit_at(job, job->logits, index + r);
    if (job->logp.data)
      row_logarithms(x, best[r], base[r], job->size, logit_at(job, job->logp, index + r));
    MOON_TRY(take_loss(job, index + r, x, best[r], base[r]));
  }
  return MOON_OK;
}

// The labels of each class side by side.
static moon_status losses_by_planes(const cross_entropy_job *job, int64_t index, int64_t count) {
  REAL best[LABELS], base[LABELS];
  double sum[LABELS];
  const REAL *x = logit_at(job, job->logits, index);
  int64_t step = job->logits.step;
  column_maxima(x, step, job->size, count, best);
  column_exponentials(x, step, job->size, count, best, NULL, sum);
  for (int64_t j = 0; j < count; j++) base[j] = REAL_LOG((REAL)sum[j]);
  for (int64_t c = 0; job->logp.data && c < job->size; c++) {
    REAL *logp = logit_at(job, job->logp, index) + c * job->logp.step;
    for (int64_t j = 0; j < count; j++) logp[j] = (x[c * step + j] - best[j]) - base[j];
  }
  for (int64_t j = 0; j < count; j++)
    MOON_TRY(take_loss(job, index + j, x + j, best[j], base[j]));
  return MOON_OK;
}

// Labels from `index` on that make a block: of one image.
static int64_t block_at(const cross_entropy_job *job, int64_t index, int64_t last) {
  return minimum(minimum(LABELS, last - index), job->inner - index % job->inner);
}

moon_status CPU(NAME(cross_entropy_losses))(void *context, int64_t first, int64_t last) {
  const cross_entropy_job *job = context;
  for (int64_t index = first, count; index < last; index += count) {
    count = block_at(job, index, last);
    if (job->pixels) count = minimum(count, rows_at_once(job->size));
    MOON_TRY((job->pixels ? losses_by_pixels : losses_by_planes)(job, index, count));
  }
  return MOON_OK;
}

// A block of labels: what the probabilities of each are multiplied by, what is taken off for each
// weight, and what is taken off at the label.
typedef struct label_block {
  int64_t count;
  const int64_t *labels;
  REAL on_probability[LABELS], on_weight[LABELS], own[LABELS];
} label_block;

// weights: sum over all classes.
static moon_status open_labels(const cross_entropy_job *job, int64_t index, double weights,
                               label_block *block) {
  double smoothing = job->options->smoothing, share = smoothing / (double)job->size;
  block->labels = job->labels + index;
  for (int64_t j = 0; j < block->count; j++) {
    int64_t label = block->labels[j];
    block->on_probability[j] = block->on_weight[j] = block->own[j] = 0;
    if (label == job->options->ignore) continue;
    if (label < 0 || label >= job->size) return bad_label(job, label);
    REAL g = ((const REAL *)job->gradient)[index + j];
    double own = (1 - smoothing) * (double)class_weight(job, label);
    block->on_probability[j] = (REAL)(own + share * weights) * g;
    block->on_weight[j] = (REAL)share * g;
    block->own[j] = (REAL)own * g;
  }
  return MOON_OK;
}

// Classes side by side, those of one label after the other's.
static void back_pixels(const cross_entropy_job *job, const label_block *block, const REAL *logp,
                        REAL *restrict to) {
  int64_t size = job->size;
  for (int64_t i = 0; i < block->count * size; i++) to[i] = REAL_EXP(logp[i]);
  for (int64_t j = 0; j < block->count; j++)
    for (int64_t c = 0; c < size; c++) to[j * size + c] *= block->on_probability[j];
  if (job->options->smoothing == 0) return;
  for (int64_t j = 0; j < block->count; j++)
    for (int64_t c = 0; c < size; c++)
      to[j * size + c] -= class_weight(job, c) * block->on_weight[j];
}

static void back_planes(const cross_entropy_job *job, const label_block *block, const REAL *logp,
                        REAL *restrict to) {
  for (int64_t c = 0; c < job->size; c++) {
    const REAL *from = logp + c * job->logp.step;
    REAL *plane = to + c * job->dlogits.step, weight = class_weight(job, c);
    for (int64_t j = 0; j < block->count; j++)
      plane[j * job->dlogits.inner] =
          REAL_EXP(from[j * job->logp.inner]) * block->on_probability[j] -
          weight * block->on_weight[j];
  }
}

static void close_labels(const cross_entropy_job *job, const label_block *block, REAL *to) {
  for (int64_t j = 0; j < block->count; j++) {
    REAL *own = to + j * job->dlogits.inner;
    int64_t label = block->labels[j];
    if (label != job->options->ignore) own[label * job->dlogits.step] -= block->own[j];
    else
      for (int64_t c = 0; c < job->size; c++) own[c * job->dlogits.step] = 0;
  }
}

static bool goes_by_pixels(const cross_entropy_job *job, class_rows rows) {
  return rows.step == 1 && rows.inner == job->size;
}

moon_status CPU(NAME(cross_entropy_back))(void *context, int64_t first, int64_t last) {
  const cross_entropy_job *job = context;
  bool pixels = goes_by_pixels(job, job->logp) && goes_by_pixels(job, job->dlogits);
  double weights = 0;
  for (int64_t c = 0; c < job->size; c++) weights += (double)class_weight(job, c);
  label_block block;
  for (int64_t index = first; index < last; index += block.count) {
    block.count = block_at(job, index, last);
    const REAL *logp = logit_at(job, job->logp, index);
    REAL *to = logit_at(job, job->dlogits, index);
    MOON_TRY(open_labels(job, index, weights, &block));
    (pixels ? back_pixels : back_planes)(job, &block, logp, to);
    close_labels(job, &block, to);
  }
  return MOON_OK;
}
