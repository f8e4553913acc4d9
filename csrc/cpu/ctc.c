// Connectionist temporal classification: the likelihood of a labelling, summed over all ways to
// spread it over time with blanks and repeats (Graves et al. 2006), in logarithms and in double for
// every type. The labelling is extended by a blank before, between and after its labels: state s of
// the 2 l + 1 states is a blank where s is even, label s / 2 where it is odd.
//   alpha[t][s]   log of the sum over paths that are in state s at time t, with t's emission
//   beta[t][s]    the same over what follows t; the backward pass keeps two rows of it
// An item is a sample; samples are independent.
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/operands.h"

enum { CTC_INTERRUPT_STEPS = 256 };   // between looks at the interrupt flag

typedef struct ctc_job {
  moon_engine *engine;
  int64_t blank, samples, states;   // states: row length of alpha
  int64_t time_stride, sample_stride;        // of logp, in elements, classes are neighbours
  bool zero_infinity, wide;                  // wide: logp and dx are double
  const void *logp;
  const int64_t *targets, *offsets, *input_lengths, *target_lengths;
  double *losses, *alpha;                    // (n), (n, t, states)
  int64_t times;
  const void *gradient;                      // (n), of logp's type
  void *dx;
} ctc_job;

typedef struct ctc_sample {
  const ctc_job *job;
  int64_t index, times, states;
  const int64_t *labels;
  double *alpha;
} ctc_sample;

static ctc_sample sample_of(const ctc_job *job, int64_t index) {
  return (ctc_sample){ .job = job, .index = index, .times = job->input_lengths[index],
                       .states = 2 * job->target_lengths[index] + 1,
                       .labels = job->targets + job->offsets[index],
                       .alpha = job->alpha + index * job->times * job->states };
}

static int64_t class_of(const ctc_sample *sample, int64_t state) {
  return state % 2 == 0 ? sample->job->blank : sample->labels[state / 2];
}

static int64_t place_of(const ctc_sample *sample, int64_t time, int64_t class) {
  return time * sample->job->time_stride + sample->index * sample->job->sample_stride + class;
}

static double emission(const ctc_sample *sample, int64_t time, int64_t state) {
  int64_t at = place_of(sample, time, class_of(sample, state));
  const ctc_job *job = sample->job;
  return job->wide ? ((const double *)job->logp)[at] : (double)((const float *)job->logp)[at];
}

static double log_add(double a, double b) {
  double high = a > b ? a : b, low = a > b ? b : a;
  if (a != a || b != b) return NAN;
  if (high == -INFINITY || low == -INFINITY) return high;
  return high + log1p(exp(low - high));
}

// Whether a path may jump from `state` over the blank to the one after next: not between two equal
// labels, which would become one.
static bool may_skip(const ctc_sample *sample, int64_t state) {
  if (state % 2 == 0 || state + 2 >= sample->states) return false;
  return class_of(sample, state) != class_of(sample, state + 2);
}

static moon_status check_interrupt(const ctc_sample *sample, int64_t t) {
  return t % CTC_INTERRUPT_STEPS == 0 ? engine_check_interrupt(sample->job->engine) : MOON_OK;
}

static moon_status fill_alpha(const ctc_sample *sample) {
  int64_t width = sample->job->states, states = sample->states;
  for (int64_t t = 0; t < sample->times; t++) {
    MOON_TRY(check_interrupt(sample, t));
    double *now = sample->alpha + t * width, *before = now - width;
    for (int64_t s = 0; s < states; s++) {
      double sum = t == 0 ? (s < 2 ? 0 : -INFINITY) : before[s];
      if (t > 0 && s > 0) sum = log_add(sum, before[s - 1]);
      if (t > 0 && s > 1 && may_skip(sample, s - 2)) sum = log_add(sum, before[s - 2]);
      now[s] = sum == -INFINITY ? sum : sum + emission(sample, t, s);
    }
  }
  return MOON_OK;
}

static double read_loss(const ctc_sample *sample) {
  int64_t last = sample->states - 1;
  if (sample->times == 0) return last == 0 ? 0 : INFINITY;
  const double *end = sample->alpha + (sample->times - 1) * sample->job->states;
  return -(last > 0 ? log_add(end[last], end[last - 1]) : end[last]);
}

static moon_status forward_samples(void *context, int64_t first, int64_t last) {
  const ctc_job *job = context;
  for (int64_t i = first; i < last; i++) {
    ctc_sample sample = sample_of(job, i);
    MOON_TRY(fill_alpha(&sample));
    job->losses[i] = read_loss(&sample);
  }
  return MOON_OK;
}

// next[s] = beta of time t + 1 with that time's emission; now[s] = beta of time t.
static void step_beta(const ctc_sample *sample, int64_t t, double *next, double *now) {
  int64_t states = sample->states;
  bool at_end = t == sample->times - 1;
  for (int64_t s = 0; s < states; s++) {
    double sum = at_end ? (s + 2 >= states ? 0 : -INFINITY) : next[s];
    if (!at_end && s + 1 < states) sum = log_add(sum, next[s + 1]);
    if (!at_end && may_skip(sample, s)) sum = log_add(sum, next[s + 2]);
    now[s] = sum;
  }
  for (int64_t s = 0; s < states; s++)
    next[s] = now[s] == -INFINITY ? now[s] : now[s] + emission(sample, t, s);
}

static void add_to(const ctc_sample *sample, int64_t at, double value) {
  const ctc_job *job = sample->job;
  if (job->wide) ((double *)job->dx)[at] += value;
  else ((float *)job->dx)[at] += (float)value;
}

// d loss / d logp[t][k] = -sum over states of class k of exp(alpha + beta + loss)
static moon_status sample_gradient(const ctc_sample *sample, double *next, double *now) {
  const ctc_job *job = sample->job;
  double loss = job->losses[sample->index];
  double g = job->wide ? ((const double *)job->gradient)[sample->index]
                       : (double)((const float *)job->gradient)[sample->index];
  if (job->zero_infinity && loss == INFINITY) return MOON_OK;
  for (int64_t t = sample->times - 1; t >= 0; t--) {
    MOON_TRY(check_interrupt(sample, t));
    const double *alpha = sample->alpha + t * job->states;
    step_beta(sample, t, next, now);
    for (int64_t s = 0; s < sample->states; s++)
      add_to(sample, place_of(sample, t, class_of(sample, s)),
             -g * exp(alpha[s] + now[s] + loss));
  }
  return MOON_OK;
}

static moon_status backward_samples(void *context, int64_t first, int64_t last) {
  const ctc_job *job = context;
  double *rows;
  MOON_TRY(alloc_new(2 * (size_t)job->states * sizeof *rows, (void **)&rows));
  moon_status status = MOON_OK;
  for (int64_t i = first; i < last && status == MOON_OK; i++) {
    ctc_sample sample = sample_of(job, i);
    status = sample_gradient(&sample, rows, rows + job->states);
  }
  alloc_delete(rows);
  return status;
}

static ctc_job job_of(moon_engine *engine, const ctc_options *options, const device_array *logp,
                      const device_array *const labels[4], const device_array *losses,
                      const device_array *alpha) {
  return (ctc_job){
    .engine = engine, .blank = options->blank, .zero_infinity = options->zero_infinity,
    .samples = logp->shape[1], .states = alpha->shape[2], .times = logp->shape[0],
    .time_stride = logp->shape[1] * logp->shape[2], .sample_stride = logp->shape[2],
    .wide = logp->dtype == MOON_F64, .logp = logp->data,
    .targets = labels[0]->data, .offsets = labels[1]->data, .input_lengths = labels[2]->data,
    .target_lengths = labels[3]->data, .losses = losses->data, .alpha = alpha->data,
  };
}

static moon_status run(moon_engine *engine, ctc_job *job, threads_task task) {
  return cpu_run(engine, job->samples, cpu_grain(16 * job->times * job->states), task, job);
}

moon_status CPU(ctc_forward)(moon_engine *engine, const ctc_options *options,
                             const device_array *logp, const device_array *const labels[4],
                             const device_array *losses, const device_array *alpha) {
  operands set = { .engine = engine };
  const device_array *in = CPU(operand_in)(&set, logp);
  if (set.status == MOON_OK) {
    ctc_job job = job_of(engine, options, in, labels, losses, alpha);
    set.status = run(engine, &job, forward_samples);
  }
  return CPU(operands_close)(&set);
}

moon_status CPU(ctc_backward)(moon_engine *engine, const ctc_options *options,
                              const device_array *gradient, const device_array *logp,
                              const device_array *const labels[4], const device_array *losses,
                              const device_array *alpha, const device_array *dx) {
  operands set = { .engine = engine };
  const device_array *g = CPU(operand_in)(&set, gradient), *in = CPU(operand_in)(&set, logp);
  const device_array *to = CPU(operand_out)(&set, dx);
  if (set.status == MOON_OK) set.status = CPU(fill)(engine, 0, to);
  if (set.status == MOON_OK) {
    ctc_job job = job_of(engine, options, in, labels, losses, alpha);
    job.gradient = g->data;
    job.dx = to->data;
    set.status = run(engine, &job, backward_samples);
  }
  return CPU(operands_close)(&set);
}
