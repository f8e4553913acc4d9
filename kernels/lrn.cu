// Local response normalisation across the channels of (n, c, inner) arrays:
//   out = x s^-beta, s = k + alpha / size * sum of squares over the window of neighbouring channels
//   dx = g s^-beta - 2 alpha beta / size * x * sum of (g x s^(-beta-1)) over windows that hold x
// Window sums are taken afresh for every element (a sliding sum would subtract what it added and
// lose digits). Threads go in the order of memory; where channels are far apart each takes a run of
// them, so that what windows share is still in the nearest cache. Then memory is the bound, forward
// with x and out; backward goes over the ratios g x s^(-beta-1) in scratch, which is written and
// read once.
#include "elementwise.cuh"

enum { RUN = 8 };   // channels of a thread where they are planes

enum { TARGET, SOURCE, GRADIENT, RATIO, CHANNEL, OPERANDS };

struct lrn_pass {
  cuda_walk<OPERANDS> walk;      // over the first channel of each run
  int64_t run, channels, before, after;   // before, after: channels of a window around its own
  int64_t target_step, source_step, gradient_step, ratio_step;   // from channel to channel
  moon_dtype dtype;
  const void *x, *gradient;
  void *target, *ratios;         // ratios: of the compute type
  double k, share, beta;
};

// s of channel c, whose x lies at `at` + c steps.
template <typename T>
static __device__ T scale_of(const lrn_pass &p, int64_t at, int64_t c) {
  int64_t first = c > p.before ? c - p.before : 0;
  int64_t last = c + p.after < p.channels ? c + p.after : p.channels - 1;
  T sum = 0;
  for (int64_t i = first; i <= last; i++) {
    T value = cuda_any<T>::load(p.dtype, p.x, at + i * p.source_step);
    sum += value * value;
  }
  return (T)p.k + (T)p.share * sum;
}

// s^-beta; the usual exponent, 3/4, of roots.
template <typename T>
static __device__ T power_of(const lrn_pass &p, T scale) {
  if (p.beta != 0.75) return pow(scale, (T)-p.beta);
  T root = 1 / sqrt(scale);
  return root * sqrt(root);
}

// The thread's run of channels: from first on, below last, with offsets of channel 0 in `at`.
struct lrn_run { int64_t first, last; };

static __device__ lrn_run run_at(const lrn_pass &p, int64_t item, int64_t (&at)[OPERANDS]) {
  p.walk.find(item, at);
  int64_t first = at[CHANNEL], last = first + p.run;
  at[TARGET] -= first * p.target_step;
  at[SOURCE] -= first * p.source_step;
  at[GRADIENT] -= first * p.gradient_step;
  at[RATIO] -= first * p.ratio_step;
  return { first, last < p.channels ? last : p.channels };
}

template <typename T>
static __global__ void lrn_results(lrn_pass p) {
  CUDA_EACH(item, p.walk.count) {
    int64_t at[OPERANDS];
    lrn_run run = run_at(p, item, at);
    for (int64_t c = run.first; c < run.last; c++) {
      T x = cuda_any<T>::load(p.dtype, p.x, at[SOURCE] + c * p.source_step);
      T power = power_of(p, scale_of<T>(p, at[SOURCE], c));
      cuda_any<T>::store(p.dtype, p.target, at[TARGET] + c * p.target_step, x * power);
    }
  }
}

template <typename T>
static __global__ void lrn_ratios(lrn_pass p) {
  CUDA_EACH(item, p.walk.count) {
    int64_t at[OPERANDS];
    lrn_run run = run_at(p, item, at);
    for (int64_t c = run.first; c < run.last; c++) {
      T x = cuda_any<T>::load(p.dtype, p.x, at[SOURCE] + c * p.source_step);
      T g = cuda_any<T>::load(p.dtype, p.gradient, at[GRADIENT] + c * p.gradient_step);
      T scale = scale_of<T>(p, at[SOURCE], c);
      ((T *)p.ratios)[at[RATIO] + c * p.ratio_step] = g * x * power_of(p, scale) / scale;
    }
  }
}

// The windows that hold a channel reach as far as its own, the other way round.
template <typename T>
static __global__ void lrn_gradients(lrn_pass p) {
  const T factor = (T)(2 * p.share * p.beta);
  CUDA_EACH(item, p.walk.count) {
    int64_t at[OPERANDS];
    lrn_run run = run_at(p, item, at);
    for (int64_t c = run.first; c < run.last; c++) {
      T x = cuda_any<T>::load(p.dtype, p.x, at[SOURCE] + c * p.source_step);
      T g = cuda_any<T>::load(p.dtype, p.gradient, at[GRADIENT] + c * p.gradient_step);
      int64_t first = c > p.after ? c - p.after : 0;
      int64_t last = c + p.before < p.channels ? c + p.before : p.channels - 1;
      T sum = 0;
      for (int64_t i = first; i <= last; i++)
        sum += ((const T *)p.ratios)[at[RATIO] + i * p.ratio_step];
      T straight = g * power_of(p, scale_of<T>(p, at[SOURCE], c));
      cuda_any<T>::store(p.dtype, p.target, at[TARGET] + c * p.target_step,
                         straight - factor * x * sum);
    }
  }
}

// -- launching

// x's array with one element for each run of channels.
static device_array runs_of(const device_array *array, int64_t run) {
  device_array runs = *array;
  runs.shape[1] = (array->shape[1] + run - 1) / run;
  runs.strides[1] *= run;
  return runs;
}

// Ratios lie as x does: channels innermost, or planes.
static device_array dense_like(const device_array *x, bool pixels) {
  device_array dense = *x;
  int64_t c = x->shape[1], inner = x->shape[2];
  dense.strides[0] = c * inner;
  dense.strides[1] = pixels ? 1 : inner;
  dense.strides[2] = pixels ? c : 1;
  return dense;
}

// gradient: NULL forward.
static lrn_pass pass_of(const lrn_options *options, const device_array *gradient,
                        const device_array *x, const device_array *target) {
  lrn_pass p = {};
  bool pixels = cuda_by_pixels(x);
  device_array dense = dense_like(x, pixels), channel = *x;
  const device_array *g = gradient ? gradient : x;
  p.run = pixels ? 1 : RUN;
  channel.strides[0] = channel.strides[2] = 0;
  channel.strides[1] = 1;
  const device_array *arrays[OPERANDS] = { target, x, g, &dense, &channel }, *views[OPERANDS];
  device_array runs[OPERANDS];
  for (int i = 0; i < OPERANDS; i++) {
    runs[i] = runs_of(arrays[i], p.run);
    views[i] = &runs[i];
  }
  cuda_walk_open(&p.walk, views, true);
  p.channels = x->shape[1];
  p.before = options->size / 2;
  p.after = (options->size - 1) / 2;
  p.target_step = target->strides[1];
  p.source_step = x->strides[1];
  p.gradient_step = g->strides[1];
  p.ratio_step = dense.strides[1];
  p.dtype = x->dtype;
  p.x = x->data;
  p.gradient = g->data;
  p.target = target->data;
  p.k = options->k;
  p.share = options->alpha / (double)options->size;
  p.beta = options->beta;
  return p;
}

moon_status cuda_lrn_forward(cuda_context *c, const lrn_options *options, const device_array *x,
                             const device_array *out) {
  if (array_count(x) == 0) return MOON_OK;
  lrn_pass p = pass_of(options, NULL, x, out);
  return cuda_with_real(x->dtype, [&](auto type) {
    return cuda_launch(c, cuda_blocks(p.walk.count), CUDA_BLOCK, lrn_results<decltype(type)>, p);
  });
}

moon_status cuda_lrn_backward(cuda_context *c, const lrn_options *options,
                              const device_array *gradient, const device_array *x,
                              const device_array *dx) {
  cuda_scratch ratios(c);
  if (array_count(x) == 0) return MOON_OK;
  lrn_pass p = pass_of(options, gradient, x, dx);
  return cuda_with_real(x->dtype, [&](auto type) {
    typedef decltype(type) T;
    MOON_TRY(ratios.take((size_t)array_count(x) * sizeof(T)));
    p.ratios = ratios.as<void>();
    MOON_TRY(cuda_launch(c, cuda_blocks(p.walk.count), CUDA_BLOCK, lrn_ratios<T>, p));
    return cuda_launch(c, cuda_blocks(p.walk.count), CUDA_BLOCK, lrn_gradients<T>, p);
  });
}
