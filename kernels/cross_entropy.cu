// Cross entropy of logits (n, c, inner) against labels, and its gradient from log-probabilities.
// With classes weighted by w, label y and smoothing s over c classes (as PyTorch defines it):
//   loss    = (1 - s) w[y] (-logp[y]) + s / c * sum_j w[j] (-logp[j])
//   dlogits = g ((1 - s) w[y] (p[j] - [j = y]) + s / c * (p[j] sum_k w[k] - w[j]))
// A team of threads goes along the classes of each label; both directions are bound by reading the
// classes once (again out of the caches where log-probabilities are kept) and writing them once.
// The operator has checked the labels; one out of range makes NaN here, and reads nothing.
#include "exponentials.cuh"

enum { TO, FROM, LABEL, LOSS, OPERANDS };   // FROM: logits, logp; TO: logp, dlogits

// What both kernels know besides the lines. `weights`: the sum of them all, on the device, where it
// is not the number of classes.
template <typename T>
struct classes {
  int64_t count, ignore, weight_step;
  moon_dtype dtype;
  const int64_t *labels;
  const void *weight;                // NULL: 1 for each
  const T *weights;
  double smoothing;

  __device__ T weight_of(int64_t c) const {
    return weight ? cuda_any<T>::load(dtype, weight, c * weight_step) : (T)1;
  }
  __device__ bool holds(int64_t label) const { return label >= 0 && label < count; }
  // The share of the label's own class, and that of every class.
  __device__ T own_share(int64_t label) const {
    return (T)((1 - smoothing) * (double)weight_of(label));
  }
  __device__ T each_share() const { return (T)(smoothing / (double)count); }
};

// -- losses

// Writes log-probabilities where they are wanted; gives the sum of the weighted ones where there is
// smoothing.
template <typename S, int WIDTH, typename T>
static __device__ T spread(const cuda_lines<OPERANDS> &lines, const cuda_team &team,
                           const cuda_line<OPERANDS> &line, const classes<T> &k, const void *x,
                           T largest, T base, void *logp) {
  T sum = 0;
  for (int64_t i = team.lane * WIDTH; i < line.size; i += team.lanes * WIDTH) {
    T values[WIDTH];
    cuda_load_wide<S, WIDTH>(x, line.find(lines, FROM, i), values);
    for (int v = 0; v < WIDTH; v++) {
      values[v] = (values[v] - largest) - base;
      if (k.smoothing != 0) sum += k.weight_of(i + v) * values[v];
    }
    if (logp) cuda_store_wide<S, WIDTH>(logp, line.find(lines, TO, i), values);
  }
  return sum;
}

template <typename S, int WIDTH>
static __global__ void __launch_bounds__(CUDA_MOST_THREADS)
losses_of_lines(cuda_lines<OPERANDS> lines, classes<cuda_compute<S>> k, const void *x, void *logp,
                void *losses) {
  typedef cuda_compute<S> T;
  cuda_team team(lines.across);
  for (cuda_line<OPERANDS> line(lines, team); line.within(lines, team); line.next(lines, team)) {
    cuda_exponentials<T> all = cuda_exponentials_of<S, WIDTH, FROM>(lines, team, line, x);
    T base = log(all.sum), sum = 0;
    if (logp || k.smoothing != 0) {
      sum = spread<S, WIDTH>(lines, team, line, k, x, all.largest, base, logp);
      sum = team.join(sum, cuda_sum());
    }
    if (team.lane > 0 || line.size == 0) continue;
    int64_t label = k.labels[line.at[LABEL]];
    T loss = label == k.ignore ? (T)0 : (T)NAN;
    if (label != k.ignore && k.holds(label)) {
      T x_label = cuda_any<T>::load(k.dtype, x, line.find(lines, FROM, label));
      loss = -k.own_share(label) * ((x_label - all.largest) - base);
      if (k.smoothing != 0) loss -= k.each_share() * sum;
    }
    cuda_any<T>::store(k.dtype, losses, line.at[LOSS], loss);
  }
}

// -- gradients

// The sum of all weights; one block.
template <typename T>
static __global__ void sum_weights(classes<T> k, T *weights) {
  cuda_team team(false);
  T sum = 0;
  for (int64_t i = team.lane; i < k.count; i += team.lanes) sum += k.weight_of(i);
  sum = team.join(sum, cuda_sum());
  if (team.lane == 0) *weights = sum;
}

template <typename S, int WIDTH>
static __global__ void __launch_bounds__(CUDA_MOST_THREADS)
gradients_of_lines(cuda_lines<OPERANDS> lines, classes<cuda_compute<S>> k, const void *gradient,
                   const void *logp, void *dlogits) {
  typedef cuda_compute<S> T;
  cuda_team team(lines.across);
  const T each = k.each_share(), all = k.weights ? *k.weights : (T)k.count;
  for (cuda_line<OPERANDS> line(lines, team); line.within(lines, team); line.next(lines, team)) {
    int64_t label = k.labels[line.at[LABEL]];
    bool ignored = label == k.ignore;
    T g = cuda_any<T>::load(k.dtype, gradient, line.at[LOSS]);
    T own = k.holds(label) ? k.own_share(label) : (T)NAN;
    for (int64_t i = team.lane * WIDTH; i < line.size; i += team.lanes * WIDTH) {
      T values[WIDTH];
      cuda_load_wide<S, WIDTH>(logp, line.find(lines, FROM, i), values);
      for (int v = 0; v < WIDTH; v++) {
        values[v] = exp(values[v]) * ((own + each * all) * g);
        if (k.smoothing != 0) values[v] -= k.weight_of(i + v) * (each * g);
        if (i + v == label) values[v] -= own * g;
        if (ignored) values[v] = 0;
      }
      cuda_store_wide<S, WIDTH>(dlogits, line.find(lines, TO, i), values);
    }
  }
}

// -- the slots

// (n, inner) seen as (n, c, inner), the same for all classes.
static device_array over_classes(const device_array *places, int64_t count) {
  device_array seen = *places;
  seen.ndim = 3;
  seen.shape[1] = count;
  seen.shape[2] = places->shape[1];
  seen.strides[1] = 0;
  seen.strides[2] = places->strides[1];
  return seen;
}

template <typename T>
static classes<T> classes_of(const cross_entropy_options *options, const device_array *x,
                             const device_array *labels, const device_array *weight) {
  classes<T> k = {};
  k.count = x->shape[1];
  k.ignore = options->ignore;
  k.dtype = x->dtype;
  k.labels = (const int64_t *)labels->data;
  k.smoothing = options->smoothing;
  if (!weight) return k;
  k.weight = weight->data;
  k.weight_step = weight->strides[0];
  return k;
}

static void open_lines(cuda_lines<OPERANDS> *lines, const device_array *to,
                       const device_array *from, const device_array *labels,
                       const device_array *losses) {
  device_array label = over_classes(labels, from->shape[1]);
  device_array loss = over_classes(losses, from->shape[1]);
  const device_array *arrays[OPERANDS] = { to, from, &label, &loss };
  cuda_lines_open(lines, arrays, 1, LABEL);
}

moon_status cuda_cross_entropy_forward(cuda_context *c, const cross_entropy_options *options,
                                       const device_array *logits, const device_array *labels,
                                       const device_array *weight, const device_array *losses,
                                       const device_array *logp) {
  cuda_lines<OPERANDS> lines;
  if (array_count(losses) == 0) return MOON_OK;
  open_lines(&lines, logp ? logp : logits, logits, labels, losses);
  return cuda_with_float(logits->dtype, [&](auto type) {
    typedef decltype(type) S;
    typedef cuda_compute<S> T;
    classes<T> k = classes_of<T>(options, logits, labels, weight);
    return cuda_with_width(lines, [&](auto width) {
      return cuda_launch(c, lines.grid(), lines.block(), losses_of_lines<S, width()>, lines, k,
                         logits->data, logp ? logp->data : NULL, losses->data);
    });
  });
}

moon_status cuda_cross_entropy_backward(cuda_context *c, const cross_entropy_options *options,
                                        const device_array *gradient, const device_array *logp,
                                        const device_array *labels, const device_array *weight,
                                        const device_array *dlogits) {
  cuda_lines<OPERANDS> lines;
  cuda_scratch sum(c);
  if (array_count(dlogits) == 0) return MOON_OK;
  open_lines(&lines, dlogits, logp, labels, gradient);
  return cuda_with_float(logp->dtype, [&](auto type) {
    typedef decltype(type) S;
    typedef cuda_compute<S> T;
    classes<T> k = classes_of<T>(options, logp, labels, weight);
    if (weight && options->smoothing != 0) {
      MOON_TRY(sum.take(sizeof(T)));
      MOON_TRY(cuda_launch(c, 1, CUDA_BLOCK, sum_weights<T>, k, sum.as<T>()));
      k.weights = sum.as<T>();
    }
    return cuda_with_width(lines, [&](auto width) {
      return cuda_launch(c, lines.grid(), lines.block(), gradients_of_lines<S, width()>, lines, k,
                         gradient->data, logp->data, dlogits->data);
    });
  });
}
