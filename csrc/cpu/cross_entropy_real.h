// Cross entropy for one compute type, and its gradient from log-probabilities. With classes
// weighted by w, label y and smoothing s over c classes (as PyTorch defines it):
//   loss    = (1 - s) w[y] (-logp[y]) + s / c * sum_j w[j] (-logp[j])
//   dlogits = g ((1 - s) w[y] (p[j] - [j = y]) + s / c * (p[j] sum_k w[k] - w[j]))
// Arrays are read where they lie, by blocks of labels: along these where a class is a plane, along
// the classes of each where those lie side by side.
#include "cpu/exponentials_real.h"

#include <math.h>

enum { LABELS = SOFTMAX_COLUMNS };   // of a block, at most

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

// The losses of labels from `index` on; the log-probability of class c of label j is
// (x[j * between + c * step] - best[j]) - base[j].
static moon_status take_losses(const cross_entropy_job *job, int64_t index, int64_t count,
                               const REAL *x, int64_t step, int64_t between, const REAL *best,
                               const REAL *base) {
  const double sharp = 1 - job->options->smoothing;
  const double even = job->options->smoothing / (double)job->size;
  const int64_t *labels = job->labels + index, size = job->size, ignore = job->options->ignore;
  REAL *losses = (REAL *)job->losses + index;
  for (int64_t j = 0; j < count; j++, x += between) {
    int64_t label = labels[j];
    losses[j] = 0;
    if (label == ignore) continue;
    if (label < 0 || label >= size) return bad_label(job, label);
    double own = (double)((x[label * step] - best[j]) - base[j]), sum = 0;
    for (int64_t c = 0; c < size && even != 0; c++)
      sum += (double)(class_weight(job, c) * ((x[c * step] - best[j]) - base[j]));
    losses[j] = (REAL)(-(sharp * (double)class_weight(job, label) * own) - even * sum);
  }
  return MOON_OK;
}

// The classes of each label side by side: up to LANES labels.
static moon_status losses_by_pixels(const cross_entropy_job *job, int64_t index, int64_t count) {
  const REAL *x = logit_at(job, job->logits, index);
  int64_t between = job->logits.inner, n = job->size;
  lanes best = row_maxima(x, between, n, count);
  lanes base = lanes_log(row_exponentials(x, between, n, count, best, NULL));
  REAL bests[LANES], bases[LANES];
  lanes_store(bests, best);
  lanes_store(bases, base);
  if (job->logp.data)
    row_logarithms(x, between, n, count, best, base, logit_at(job, job->logp, index),
                   job->logp.inner);
  return take_losses(job, index, count, x, 1, between, bests, bases);
}

// The same where there are fewer classes than lanes: they are turned into columns.
static moon_status losses_by_short_pixels(const cross_entropy_job *job, int64_t index,
                                          int64_t count) {
  lanes x[LANES], sum = lanes_zero();
  REAL logp[LANES * LANES], zeros[LANES] = { 0 };
  columns_in(logit_at(job, job->logits, index), job->logits.inner, job->size, count, x);
  lanes best = x[0];
  for (int64_t c = 1; c < job->size; c++) best = lanes_larger(best, x[c]);
  for (int64_t c = 0; c < job->size; c++) sum += lanes_exp(x[c] -= best);
  const lanes base = lanes_log(sum);
  for (int64_t c = 0; c < job->size; c++) lanes_store(logp + c * LANES, x[c] -= base);
  MOON_TRY(take_losses(job, index, count, logp, LANES, 1, zeros, zeros));
  if (job->logp.data)
    columns_out(x, job->size, count, logit_at(job, job->logp, index), job->logp.inner);
  return MOON_OK;
}

// The labels of each class side by side.
static moon_status losses_by_planes(const cross_entropy_job *job, int64_t index, int64_t count) {
  REAL best[LABELS], base[LABELS];
  const REAL *x = logit_at(job, job->logits, index);
  int64_t step = job->logits.step, size = job->size;
  column_maxima(x, step, size, count, best);
  column_exponentials(x, step, size, count, job->block, best, NULL, base);
  for (int64_t j = 0; j < count; j++) base[j] = REAL_LOG(base[j]);
  if (job->logp.data)
    column_logarithms(x, step, size, count, job->block, best, base,
                      logit_at(job, job->logp, index), job->logp.step);
  return take_losses(job, index, count, x, step, 1, best, base);
}

// The first label of a block; gives how many there are.
static int64_t block_at(const cross_entropy_job *job, int64_t block, int64_t *count) {
  int64_t first = block % job->blocks * job->block;
  *count = minimum(job->block, job->inner - first);
  return block / job->blocks * job->inner + first;
}

typedef moon_status (*label_losses)(const cross_entropy_job *job, int64_t index, int64_t count);

moon_status CPU(NAME(cross_entropy_losses))(void *context, int64_t first, int64_t last) {
  const cross_entropy_job *job = context;
  label_losses some = !job->pixels ? losses_by_planes
                      : job->size < LANES ? losses_by_short_pixels : losses_by_pixels;
  int64_t most = job->pixels ? rows_at_once(job->size) : LABELS;
  for (int64_t block = first, count; block < last; block++) {
    int64_t index = block_at(job, block, &count);
    for (int64_t j = 0; j < count; j += most)
      MOON_TRY(some(job, index + j, minimum(most, count - j)));
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

// Classes side by side.
static void back_pixels(const cross_entropy_job *job, const label_block *block, const REAL *logp,
                        REAL *to) {
  for (int64_t j = 0; j < block->count; j++) {
    const REAL *from = logp + j * job->logp.inner;
    REAL *own = to + j * job->dlogits.inner;
    const lanes scale = lanes_same(block->on_probability[j]);
    for (int64_t c = 0; c < job->size; c += LANES) {
      expect_write(own + c);
      lanes_store_some(own + c, lanes_exp(lanes_load_some(from + c, job->size - c)) * scale,
                       job->size - c);
    }
    for (int64_t c = 0; c < job->size && job->options->smoothing != 0; c++)
      own[c] -= class_weight(job, c) * block->on_weight[j];
  }
}

// Fewer classes than lanes, side by side: LANES labels are turned into columns.
static void back_short_pixels(const cross_entropy_job *job, const label_block *block,
                              const REAL *logp, REAL *to) {
  for (int64_t j = 0; j < block->count; j += LANES) {
    int64_t count = minimum(LANES, block->count - j);
    const lanes scale = lanes_load(block->on_probability + j);
    const lanes more = lanes_load(block->on_weight + j);
    lanes x[LANES];
    columns_in(logp + j * job->logp.inner, job->logp.inner, job->size, count, x);
    for (int64_t c = 0; c < job->size; c++)
      x[c] = lanes_fma(lanes_exp(x[c]), scale, -(lanes_all(class_weight(job, c)) * more));
    columns_out(x, job->size, count, to + j * job->dlogits.inner, job->dlogits.inner);
  }
}

// Labels side by side.
static void back_planes(const cross_entropy_job *job, const label_block *block, const REAL *logp,
                        REAL *to) {
  for (int64_t c = 0; c < job->size; c++) {
    const REAL *from = logp + c * job->logp.step;
    REAL *plane = to + c * job->dlogits.step;
    const lanes weight = lanes_all(class_weight(job, c));
    for (int64_t j = 0; j < block->count; j += LANES) {
      lanes share = weight * lanes_load(block->on_weight + j);
      lanes p = lanes_exp(lanes_load_some(from + j, block->count - j));
      expect_read_at(from + j + job->block);
      expect_write_at(plane + j + job->block);
      lanes_store_some(plane + j, lanes_fma(p, lanes_load(block->on_probability + j), -share),
                       block->count - j);
    }
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

typedef void (*label_gradients)(const cross_entropy_job *job, const label_block *block,
                                const REAL *logp, REAL *to);

moon_status CPU(NAME(cross_entropy_back))(void *context, int64_t first, int64_t last) {
  const cross_entropy_job *job = context;
  label_gradients back = !job->pixels ? back_planes
                         : job->size < LANES ? back_short_pixels : back_pixels;
  double weights = 0;
  for (int64_t c = 0; c < job->size; c++) weights += (double)class_weight(job, c);
  label_block labels;
  for (int64_t block = first; block < last; block++) {
    int64_t index = block_at(job, block, &labels.count);
    const REAL *logp = logit_at(job, job->logp, index);
    REAL *to = logit_at(job, job->dlogits, index);
    MOON_TRY(open_labels(job, index, weights, &labels));
    back(job, &labels, logp, to);
    close_labels(job, &labels, to);
  }
  return MOON_OK;
}
