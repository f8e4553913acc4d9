// Connectionist temporal classification: the likelihood of a labelling, summed over all ways to
// spread it over time with blanks and repeats (Graves et al. 2006), in logarithms and in double for
// every type. The labelling is extended by a blank before, between and after its labels: state s of
// the 2 l + 1 states is a blank where s is even, label s / 2 where it is odd.
//   alpha[t][s]   log of the sum over paths that are in state s at time t, with t's emission
//   beta[t][s]    the same over what follows t; the backward pass keeps two rows of it
// A block has a sample, its threads the states; times follow each other, and their latency is the
// bound. Several states may be of one class: its gradient is added up by the thread of the first of
// them, that of the blank by all.
#include "lines.cuh"

struct ctc_job {
  int64_t blank, times, states;      // states: row length of alpha
  bool zero_infinity;
  moon_dtype dtype;
  const void *logp, *gradient;
  void *dx;
  int64_t step[3], dx_step[3], gradient_step;   // of logp and dx: time, sample, class
  const int64_t *targets, *offsets, *input_lengths, *target_lengths;
  double *losses, *alpha;            // (n), (n, t, states)
  double *rows;                      // (n, 3, states): two of beta, and a time's terms
  int64_t *links;                    // (n, states): see link_labels
};

struct ctc_sample {
  const ctc_job &job;
  int64_t index, times, states;
  const int64_t *labels;
  double *alpha;

  explicit __device__ ctc_sample(const ctc_job &j)
      : job(j), index(blockIdx.x), times(j.input_lengths[index]),
        states(2 * j.target_lengths[index] + 1), labels(j.targets + j.offsets[index]),
        alpha(j.alpha + index * j.times * j.states) {}

  __device__ int64_t class_of(int64_t state) const {
    return state % 2 == 0 ? job.blank : labels[state / 2];
  }
  __device__ double emission(int64_t time, int64_t state) const {
    return cuda_get_double(job.dtype, job.logp, time * job.step[0] + index * job.step[1] +
                                                    class_of(state) * job.step[2]);
  }
  // Whether a path may jump from `state` over the blank to the one after next: not between two
  // equal labels, which would become one.
  __device__ bool may_skip(int64_t state) const {
    if (state % 2 == 0 || state + 2 >= states) return false;
    return class_of(state) != class_of(state + 2);
  }
};

// for (the calling thread's states), all threads of the block together
#define CTC_STATES(s, count) for (int64_t s = threadIdx.x; s < (count); s += blockDim.x)

static __device__ double log_add(double a, double b) {
  double high = a > b ? a : b, low = a > b ? b : a;
  if (a != a || b != b) return NAN;
  if (high == -INFINITY || low == -INFINITY) return high;
  return high + log1p(exp(low - high));
}

// -- losses

static __global__ void ctc_losses(ctc_job job) {
  const ctc_sample sample(job);
  const int64_t last = sample.states - 1;
  for (int64_t t = 0; t < sample.times; t++) {
    double *now = sample.alpha + t * job.states;
    const double *before = now - job.states;
    CTC_STATES(s, sample.states) {
      double sum = t == 0 ? (s < 2 ? 0 : -INFINITY) : before[s];
      if (t > 0 && s > 0) sum = log_add(sum, before[s - 1]);
      if (t > 0 && s > 1 && sample.may_skip(s - 2)) sum = log_add(sum, before[s - 2]);
      now[s] = sum == -INFINITY ? sum : sum + sample.emission(t, s);
    }
    __syncthreads();
  }
  if (threadIdx.x > 0) return;
  double loss = last == 0 ? 0 : INFINITY;
  if (sample.times > 0) {
    const double *end = sample.alpha + (sample.times - 1) * job.states;
    loss = -(last > 0 ? log_add(end[last], end[last - 1]) : end[last]);
  }
  job.losses[sample.index] = loss;
}

// -- gradients: d loss / d logp[t][k] = -sum over states of class k of exp(alpha + beta + loss)

// Labels of one class as a list: next[i] is the one that follows label i, -1 at the end; leads[i]
// says whether it begins there. Blanks among the labels are in no list.
static __device__ void link_labels(const ctc_sample &sample, int64_t *next, int64_t *leads) {
  const int64_t count = sample.states / 2;
  CTC_STATES(i, count) {
    int64_t after = i + 1, before = i - 1;
    while (after < count && sample.labels[after] != sample.labels[i]) after++;
    while (before >= 0 && sample.labels[before] != sample.labels[i]) before--;
    next[i] = after < count ? after : -1;
    leads[i] = before < 0 && sample.labels[i] != sample.job.blank;
  }
  __syncthreads();
}

// From next[s] = beta of time t + 1, with that time's emission, to the terms of time t and to
// next[s] of time t.
static __device__ void step_beta(const ctc_sample &sample, int64_t t, double scale, double *next,
                                 double *now, double *terms) {
  const int64_t states = sample.states;
  const double loss = sample.job.losses[sample.index];
  const double *alpha = sample.alpha + t * sample.job.states;
  const bool at_end = t == sample.times - 1;
  CTC_STATES(s, states) {
    double sum = at_end ? (s + 2 >= states ? 0 : -INFINITY) : next[s];
    if (!at_end && s + 1 < states) sum = log_add(sum, next[s + 1]);
    if (!at_end && sample.may_skip(s)) sum = log_add(sum, next[s + 2]);
    now[s] = sum;
    terms[s] = scale * exp(alpha[s] + sum + loss);
  }
  __syncthreads();
  CTC_STATES(s, states)
    next[s] = now[s] == -INFINITY ? now[s] : now[s] + sample.emission(t, s);
}

// Adds the terms of each class up.
static __device__ void write_gradients(const ctc_sample &sample, int64_t t, const double *terms,
                                       const int64_t *next, const int64_t *leads) {
  const ctc_job &job = sample.job;
  const int64_t at = t * job.dx_step[0] + sample.index * job.dx_step[1];
  double blank = 0;
  CTC_STATES(s, sample.states) {
    if (sample.class_of(s) == job.blank) {
      blank += terms[s];
    } else if (leads[s / 2]) {
      double sum = 0;
      for (int64_t i = s / 2; i >= 0; i = next[i]) sum += terms[2 * i + 1];
      cuda_put_double(job.dtype, job.dx, at + sample.class_of(s) * job.dx_step[2], sum);
    }
  }
  blank = cuda_team(false).join(blank, cuda_sum());
  if (threadIdx.x == 0)
    cuda_put_double(job.dtype, job.dx, at + job.blank * job.dx_step[2], blank);
}

// dx is 0 before.
static __global__ void ctc_gradients(ctc_job job) {
  const ctc_sample sample(job);
  double *now = job.rows + sample.index * 3 * job.states, *next = now + job.states;
  double *terms = next + job.states;
  int64_t *links = job.links + sample.index * job.states, *leads = links + sample.states / 2;
  if (job.zero_infinity && job.losses[sample.index] == INFINITY) return;
  double g = cuda_get_double(job.dtype, job.gradient, sample.index * job.gradient_step);
  link_labels(sample, links, leads);
  for (int64_t t = sample.times - 1; t >= 0; t--) {
    step_beta(sample, t, -g, next, now, terms);
    write_gradients(sample, t, terms, links, leads);
    __syncthreads();
  }
}

// -- the slots

static ctc_job job_of(const ctc_options *options, const device_array *logp,
                      const device_array *const labels[4], const device_array *losses,
                      const device_array *alpha) {
  ctc_job job = {};
  job.blank = options->blank;
  job.times = logp->shape[0];
  job.states = alpha->shape[2];
  job.zero_infinity = options->zero_infinity;
  job.dtype = logp->dtype;
  job.logp = logp->data;
  for (int i = 0; i < 3; i++) job.step[i] = logp->strides[i];
  job.targets = (const int64_t *)labels[0]->data;
  job.offsets = (const int64_t *)labels[1]->data;
  job.input_lengths = (const int64_t *)labels[2]->data;
  job.target_lengths = (const int64_t *)labels[3]->data;
  job.losses = (double *)losses->data;
  job.alpha = (double *)alpha->data;
  return job;
}

// Threads for a sample: its states, in whole warps.
static unsigned threads_for(const ctc_job &job) {
  unsigned threads = CUDA_WARP;
  while (threads < CUDA_BLOCK && threads < job.states) threads *= 2;
  return threads;
}

moon_status cuda_ctc_forward(cuda_context *c, const ctc_options *options, const device_array *logp,
                             const device_array *const labels[4], const device_array *losses,
                             const device_array *alpha) {
  ctc_job job = job_of(options, logp, labels, losses, alpha);
  if (logp->shape[1] == 0) return MOON_OK;
  return cuda_launch(c, (unsigned)logp->shape[1], threads_for(job), ctc_losses, job);
}

moon_status cuda_ctc_backward(cuda_context *c, const ctc_options *options,
                              const device_array *gradient, const device_array *logp,
                              const device_array *const labels[4], const device_array *losses,
                              const device_array *alpha, const device_array *dx) {
  cuda_scratch rows(c), links(c);
  ctc_job job = job_of(options, logp, labels, losses, alpha);
  size_t states = (size_t)(logp->shape[1] * job.states);
  if (array_count(dx) == 0) return MOON_OK;
  MOON_TRY(cuda_fill(c, 0, dx));
  MOON_TRY(rows.take(3 * states * sizeof(double)));
  MOON_TRY(links.take(states * sizeof(int64_t)));
  job.rows = rows.as<double>();
  job.links = links.as<int64_t>();
  job.gradient = gradient->data;
  job.gradient_step = gradient->strides[0];
  job.dx = dx->data;
  for (int i = 0; i < 3; i++) job.dx_step[i] = dx->strides[i];
  return cuda_launch(c, (unsigned)logp->shape[1], threads_for(job), ctc_gradients, job);
}
