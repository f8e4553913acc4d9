// Batch normalisation of (n, c, inner) arrays. Every thread keeps to one channel, or to 8 that lie
// side by side, and goes over places (n, inner) of it:
//   planes   a block is on one channel; chunks of 8 are places
//   pixels   neighbouring threads are on neighbouring channels; chunks of 8 are channels
// Forward: sums of each block, their join to the statistics, the result. Backward likewise: sums of
// gradients, their join, dx. The passes over the arrays are bound by memory: training reads x twice
// forward, x and the gradient twice backward.
//
// A block sums about its first place's value, so that a large common part does not cost digits;
// blocks are joined in double, in the order of their numbers (Chan, Golub and LeVeque 1979).
#include "lines.cuh"

// -- what a pass goes over

// Where (n, c, i) lies: n * strides[0] + c * strides[1] + i * strides[2]. NULL data: no such array.
struct norm_array {
  void *data;
  int64_t strides[3];
};

struct norm_pass {
  moon_dtype dtype;
  int64_t channels, inner, places;   // places: n * inner
  bool narrow;                       // places fit 31 bits, so the divisor serves
  cuda_divisor by_inner;
  bool pixels;
  int width, owned;                  // elements of a chunk, and channels of a thread
  int64_t columns;                   // blocks side by side: of channels
  int64_t splits, share;             // blocks one behind the other, places of each
};

enum { JOIN_CHANNELS = 32, JOIN_PARTS = 16 };   // of a block that joins

// The calling thread's channel and places: first, first + step, ... below last.
struct norm_way {
  int64_t channel, split, start, first, last, step;

  template <int WIDTH, int OWNED>
  static __device__ norm_way of(const norm_pass &p) {
    const int across = OWNED > 1 ? 1 : WIDTH;   // places of a chunk
    norm_way way;
    int64_t column = blockIdx.x % p.columns;
    way.split = blockIdx.x / p.columns;
    way.start = way.split * p.share;
    way.last = way.start + p.share < p.places ? way.start + p.share : p.places;
    way.channel = p.pixels ? (column * blockDim.x + threadIdx.x) * OWNED : column;
    way.first = way.start + (p.pixels ? (int64_t)threadIdx.y : (int64_t)threadIdx.x * across);
    way.step = p.pixels ? (int64_t)blockDim.y : (int64_t)blockDim.x * across;
    if (way.channel >= p.channels) way.first = way.last;   // only goes along
    return way;
  }
  __device__ bool exists(const norm_pass &p) const { return channel < p.channels; }
  // The place k steps from `place`, or that itself where there is none.
  __device__ int64_t ahead(int64_t place, int k) const {
    return place + k * step < last ? place + k * step : place;
  }
};

static __device__ int64_t find(const norm_pass &p, const norm_array &a, int64_t channel,
                               int64_t place) {
  int64_t n = p.narrow ? cuda_divide((uint32_t)place, p.by_inner) : place / p.inner;
  return n * a.strides[0] + channel * a.strides[1] + (place - n * p.inner) * a.strides[2];
}

template <typename S, int WIDTH>
static __device__ void load(const norm_pass &p, const norm_array &a, int64_t channel,
                            int64_t place, cuda_compute<S> *values) {
  cuda_load_wide<S, WIDTH>(a.data, find(p, a, channel, place), values);
}
template <typename S, int WIDTH>
static __device__ void store(const norm_pass &p, const norm_array &a, int64_t channel,
                             int64_t place, const cuda_compute<S> *values) {
  cuda_store_wide<S, WIDTH>(a.data, find(p, a, channel, place), values);
}

// -- vectors of (c), of any float type

struct norm_vector {
  void *data;          // NULL: none
  moon_dtype dtype;
  int64_t stride;

  __device__ double get(int64_t c) const { return cuda_get_double(dtype, data, c * stride); }
  __device__ void set(int64_t c, double value) const {
    if (data) cuda_put_double(dtype, data, c * stride, value);
  }
};

// What channels are calculated with: z = (x - mean) * scale + shift, cut to low ... high.
struct norm_vectors {
  norm_vector mean, rstd, weight, bias;
  double low, high;
  bool bounded;
};

template <typename T>
struct norm_line {
  T mean, scale, shift;

  __device__ void open(const norm_vectors &v, int64_t c) {
    mean = (T)v.mean.get(c);
    scale = (T)v.rstd.get(c);
    if (v.weight.data) scale *= (T)v.weight.get(c);
    shift = v.bias.data ? (T)v.bias.get(c) : (T)0;
  }
  __device__ T at(T x) const { return (x - mean) * scale + shift; }
};

// -- sums of a block

// Joins two sums of each channel that a block's threads own; the first thread of each channel then
// has them. All threads of the block must call it.
template <typename T, int OWNED>
static __device__ void join_block(const norm_pass &p, T (&sums)[2][OWNED]) {
  cuda_team team(p.pixels);
  if constexpr (OWNED == 1) {
    for (int k = 0; k < 2; k++) sums[k][0] = team.join(sums[k][0], cuda_sum());
  } else {
    __shared__ T shared[2 * OWNED][CUDA_BLOCK];
    int own = threadIdx.y * blockDim.x + threadIdx.x;
    for (int k = 0; k < 2 * OWNED; k++) shared[k][own] = sums[k / OWNED][k % OWNED];
    __syncthreads();
    for (int half = team.lanes / 2; half > 0; half /= 2) {
      for (int k = 0; k < 2 * OWNED && team.lane < half; k++)
        shared[k][own] += shared[k][own + half * team.teams];
      __syncthreads();
    }
    for (int k = 0; k < 2 * OWNED; k++) sums[k / OWNED][k % OWNED] = shared[k][own];
  }
}

// partials: (splits, 2, channels).
static __device__ double *partial_of(const norm_pass &p, double *partials, int64_t split,
                                     int which) {
  return partials + (split * 2 + which) * p.channels;
}

// Chunks that a thread has on their way at once: one would not keep the memory busy.
enum { MOMENTS_AT_ONCE = 4, SUMS_AT_ONCE = 2 };

// Mean and sum of squared deviations of each block's places.
template <typename S, int WIDTH, int OWNED>
static __global__ void norm_moments(norm_pass p, norm_array x, double *partials) {
  typedef cuda_compute<S> T;
  norm_way way = norm_way::of<WIDTH, OWNED>(p);
  T origin[OWNED] = {}, sums[2][OWNED] = {};
  if (way.exists(p) && way.start < way.last)
    load<S, OWNED>(p, x, way.channel, way.start, origin);
  for (int64_t place = way.first; place < way.last; place += MOMENTS_AT_ONCE * way.step) {
    T values[MOMENTS_AT_ONCE][WIDTH];
    CUDA_UNROLL
    for (int k = 0; k < MOMENTS_AT_ONCE; k++)
      load<S, WIDTH>(p, x, way.channel, way.ahead(place, k), values[k]);
    CUDA_UNROLL
    for (int k = 0; k < MOMENTS_AT_ONCE; k++)
      for (int v = 0; v < WIDTH && place + k * way.step < way.last; v++) {
        T off = values[k][v] - origin[v % OWNED];
        sums[0][v % OWNED] += off;
        sums[1][v % OWNED] += off * off;
      }
  }
  join_block(p, sums);
  double count = (double)(way.last - way.start);
  if (!way.exists(p) || way.first != way.start) return;
  for (int c = 0; c < OWNED; c++) {
    double sum = (double)sums[0][c];
    partial_of(p, partials, way.split, 0)[way.channel + c] = (double)origin[c] + sum / count;
    partial_of(p, partials, way.split, 1)[way.channel + c] =
        (double)sums[1][c] - sum * (sum / count);
  }
}

// -- joins of all blocks: a team of threads for each channel

// The sum over splits of what fn(split) gives.
template <typename Fn>
static __device__ double sum_splits(const cuda_team &team, int64_t splits, Fn fn) {
  double sum = 0;
  for (int64_t split = team.lane; split < splits; split += team.lanes) sum += fn(split);
  return team.join(sum, cuda_sum());
}

struct norm_running {
  norm_vector mean, var;
  double momentum, epsilon;
};

static __device__ void move(const norm_vector &running, int64_t c, double momentum,
                            double value) {
  if (running.data) running.set(c, (1 - momentum) * running.get(c) + momentum * value);
}

static __global__ void norm_join(norm_pass p, double *partials, norm_vectors vectors,
                                 norm_running running) {
  cuda_team team(true);
  int64_t c = (int64_t)blockIdx.x * JOIN_CHANNELS + team.number;
  bool exists = c < p.channels;
  double count = (double)p.places;
  auto size_of = [&](int64_t split) {
    int64_t left = p.places - split * p.share;
    return (double)(left < p.share ? left : p.share);
  };
  double mean = sum_splits(team, exists ? p.splits : 0, [&](int64_t split) {
    return size_of(split) * partial_of(p, partials, split, 0)[c];
  }) / count;
  double squares = sum_splits(team, exists ? p.splits : 0, [&](int64_t split) {
    double off = partial_of(p, partials, split, 0)[c] - mean;
    return partial_of(p, partials, split, 1)[c] + size_of(split) * off * off;
  });
  if (!exists || team.lane > 0) return;
  double variance = squares / count;
  if (variance < 0) variance = 0;
  vectors.mean.set(c, mean);
  vectors.rstd.set(c, 1 / sqrt(variance + running.epsilon));
  move(running.mean, c, running.momentum, mean);
  move(running.var, c, running.momentum, variance * (count / (count - 1)));
}

// -- the result

template <typename T>
static __device__ T limited(T z, T low, T high) {
  z = z < low ? low : z;
  return z > high ? high : z;
}

template <typename S, int WIDTH, int OWNED>
static __global__ void norm_apply(norm_pass p, norm_vectors vectors, norm_array x, norm_array add,
                                  norm_array out) {
  typedef cuda_compute<S> T;
  norm_way way = norm_way::of<WIDTH, OWNED>(p);
  norm_line<T> lines[OWNED] = {};
  for (int c = 0; c < OWNED && way.exists(p); c++) lines[c].open(vectors, way.channel + c);
  const T low = (T)vectors.low, high = (T)vectors.high;
  for (int64_t place = way.first; place < way.last; place += way.step) {
    T values[WIDTH], added[WIDTH] = {};
    load<S, WIDTH>(p, x, way.channel, place, values);
    if (add.data) load<S, WIDTH>(p, add, way.channel, place, added);
    for (int v = 0; v < WIDTH; v++) {
      T z = lines[v % OWNED].at(values[v]);
      values[v] = limited(add.data ? z + added[v] : z, low, high);
    }
    store<S, WIDTH>(p, out, way.channel, place, values);
  }
}

// -- gradients

struct norm_back {
  norm_array gradient, x, y, dx, dadd;   // y: the result, where it must be looked at
  const void *slopes;                    // (2, c): level and slope; NULL: 0
};

// A chunk of the gradient and what goes with it.
template <typename S, int WIDTH, int OWNED>
struct back_chunk {
  typedef cuda_compute<S> T;
  T g[WIDTH], x[WIDTH], y[WIDTH];

  __device__ void open(const norm_pass &p, const norm_vectors &vectors, const norm_back &b,
                       int64_t channel, int64_t place) {
    load<S, WIDTH>(p, b.gradient, channel, place, g);
    load<S, WIDTH>(p, b.x, channel, place, x);
    if (vectors.bounded && b.y.data) load<S, WIDTH>(p, b.y, channel, place, y);
  }
  // Takes g to in front of the activation.
  __device__ void mask(const norm_vectors &vectors, const norm_back &b,
                       const norm_line<T> *lines) {
    for (int v = 0; v < WIDTH && vectors.bounded; v++) {
      T z = b.y.data ? y[v] : lines[v % OWNED].at(x[v]);
      if (!(z > (T)vectors.low && z < (T)vectors.high)) g[v] = 0;
    }
  }
};

// Sums of g and of g (x - mean) of each block; dadd is written on the way.
template <typename S, int WIDTH, int OWNED>
static __global__ void norm_back_sums(norm_pass p, norm_vectors vectors, norm_back b,
                                      double *partials) {
  typedef cuda_compute<S> T;
  norm_way way = norm_way::of<WIDTH, OWNED>(p);
  norm_line<T> lines[OWNED] = {};
  T sums[2][OWNED] = {};
  for (int c = 0; c < OWNED && way.exists(p); c++) lines[c].open(vectors, way.channel + c);
  for (int64_t place = way.first; place < way.last; place += SUMS_AT_ONCE * way.step) {
    back_chunk<S, WIDTH, OWNED> chunks[SUMS_AT_ONCE];
    CUDA_UNROLL
    for (int k = 0; k < SUMS_AT_ONCE; k++)
      chunks[k].open(p, vectors, b, way.channel, way.ahead(place, k));
    CUDA_UNROLL
    for (int k = 0; k < SUMS_AT_ONCE; k++) {
      if (place + k * way.step >= way.last) continue;
      chunks[k].mask(vectors, b, lines);
      if (b.dadd.data)
        store<S, WIDTH>(p, b.dadd, way.channel, place + k * way.step, chunks[k].g);
      for (int v = 0; v < WIDTH; v++) {
        sums[0][v % OWNED] += chunks[k].g[v];
        sums[1][v % OWNED] += chunks[k].g[v] * (chunks[k].x[v] - lines[v % OWNED].mean);
      }
    }
  }
  join_block(p, sums);
  if (!way.exists(p) || way.first != way.start) return;
  for (int k = 0; k < 2; k++)
    for (int c = 0; c < OWNED; c++)
      partial_of(p, partials, way.split, k)[way.channel + c] = (double)sums[k][c];
}

// With given statistics they are constants: `slopes` is NULL.
template <typename T>
static __global__ void norm_back_join(norm_pass p, double *partials, norm_vectors vectors,
                                      norm_vector dweight, norm_vector dbias, T *slopes) {
  cuda_team team(true);
  int64_t c = (int64_t)blockIdx.x * JOIN_CHANNELS + team.number;
  bool exists = c < p.channels;
  double sums[2], count = (double)p.places;
  for (int k = 0; k < 2; k++)
    sums[k] = sum_splits(team, exists ? p.splits : 0, [&](int64_t split) {
      return partial_of(p, partials, split, k)[c];
    });
  if (!exists || team.lane > 0) return;
  double rstd = vectors.rstd.get(c);
  dbias.set(c, sums[0]);
  dweight.set(c, sums[1] * rstd);
  if (!slopes) return;
  slopes[c] = (T)(sums[0] / count);
  slopes[p.channels + c] = (T)(sums[1] / count * rstd * rstd);
}

// dx = scale (g - level - (x - mean) slope)
template <typename S, int WIDTH, int OWNED>
static __global__ void norm_back_apply(norm_pass p, norm_vectors vectors, norm_back b) {
  typedef cuda_compute<S> T;
  norm_way way = norm_way::of<WIDTH, OWNED>(p);
  norm_line<T> lines[OWNED] = {};
  T levels[OWNED] = {}, slopes[OWNED] = {};
  for (int c = 0; c < OWNED && way.exists(p); c++) {
    lines[c].open(vectors, way.channel + c);
    if (!b.slopes) continue;
    levels[c] = ((const T *)b.slopes)[way.channel + c];
    slopes[c] = ((const T *)b.slopes)[p.channels + way.channel + c];
  }
  for (int64_t place = way.first; place < way.last; place += way.step) {
    back_chunk<S, WIDTH, OWNED> chunk;
    chunk.open(p, vectors, b, way.channel, place);
    chunk.mask(vectors, b, lines);
    for (int v = 0; v < WIDTH; v++) {
      int c = v % OWNED;
      T off = (chunk.x[v] - lines[c].mean) * slopes[c];
      chunk.g[v] = (chunk.g[v] - levels[c] - off) * lines[c].scale;
    }
    store<S, WIDTH>(p, b.dx, way.channel, place, chunk.g);
  }
}

// -- launching

static norm_array array_of(const device_array *a) {
  norm_array seen = {};
  if (!a) return seen;
  seen.data = a->data;
  for (int i = 0; i < 3; i++) seen.strides[i] = a->strides[i];
  return seen;
}

static norm_vector vector_of(const device_array *a) {
  norm_vector seen = {};
  if (!a) return seen;
  seen = { a->data, a->dtype, a->strides[0] };
  return seen;
}

static norm_vectors vectors_of(const batch_norm_options *options, const batch_norm_arrays *a) {
  norm_vectors v = { vector_of(a->mean), vector_of(a->rstd), vector_of(a->weight),
                     vector_of(a->bias), -INFINITY, INFINITY, false };
  v.bounded = options->activation != BATCH_NORM_PLAIN;
  if (v.bounded) v.low = 0;
  if (options->activation == BATCH_NORM_RELU6) v.high = 6;
  return v;
}

// Whether all arrays can be gone through in chunks along dimension `dim` of the three.
static bool goes_wide(const batch_norm_arrays *a, int dim) {
  const device_array *arrays[] = { a->x, a->add, a->out, a->gradient, a->dx, a->dadd };
  bool wide = a->x->shape[dim] % CUDA_CHUNK == 0;
  for (size_t k = 0; k < sizeof arrays / sizeof *arrays && wide; k++) {
    if (!arrays[k]) continue;
    wide = cuda_aligned(arrays[k]->data) && arrays[k]->strides[dim] == 1;
    for (int i = 0; i < 3; i++)
      if (i != dim && arrays[k]->shape[i] > 1)
        wide = wide && arrays[k]->strides[i] % CUDA_CHUNK == 0;
  }
  return wide;
}

static norm_pass pass_of(const batch_norm_arrays *a) {
  const device_array *x = a->x;
  norm_pass p = {};
  p.dtype = x->dtype;
  p.channels = x->shape[1];
  p.inner = x->shape[2];
  p.places = x->shape[0] * x->shape[2];
  p.narrow = p.places <= INT32_MAX;
  if (p.narrow) p.by_inner = cuda_divisor_of((uint32_t)p.inner);
  p.pixels = cuda_by_pixels(x);
  p.width = goes_wide(a, p.pixels ? 1 : 2) ? CUDA_CHUNK : 1;
  p.owned = p.pixels ? p.width : 1;
  return p;
}

// As many threads as a channel has chunks for, up to a block's; for pixels, channels across.
static dim3 block_of(const norm_pass *p) {
  unsigned across = 1, along = p->pixels ? 1 : CUDA_WARP;
  while (p->pixels && across < CUDA_WARP && across < p->channels / p->owned) across *= 2;
  int64_t chunks = p->pixels ? p->places : p->places / p->width;
  while (across * along < CUDA_BLOCK && along < chunks) along *= 2;
  return p->pixels ? dim3(across, along) : dim3(along);
}

// Cuts the places for about `blocks` blocks, with a few chunks at least for each thread.
static void split(norm_pass *p, int64_t blocks) {
  const int64_t least = 4;
  dim3 block = block_of(p);
  int64_t chunk = p->pixels ? 1 : p->width;
  int64_t once = chunk * (p->pixels ? block.y : block.x);   // places that a block takes at a time
  int64_t owned = p->pixels ? (int64_t)block.x * p->owned : 1;
  p->columns = (p->channels + owned - 1) / owned;
  int64_t wanted = (blocks + p->columns - 1) / p->columns;
  int64_t most = (p->places + once * least - 1) / (once * least);
  p->splits = wanted < most ? wanted : most;
  p->share = (p->places + p->splits - 1) / p->splits;
  p->share = (p->share + chunk - 1) / chunk * chunk;
  p->splits = (p->places + p->share - 1) / p->share;
}

// Blocks for passes with sums, which another kernel has to join, and for those without: few enough
// that reading the channels' vectors does not count.
enum { SUMMING_BLOCKS = 4 * CUDA_PROCESSORS, APPLYING_BLOCKS = 8 * CUDA_PROCESSORS };

// Calls fn(T(), width, owned) with constants.
template <typename Fn>
static moon_status with_pass(const norm_pass *p, Fn fn) {
  typedef std::integral_constant<int, 1> one;
  typedef std::integral_constant<int, CUDA_CHUNK> chunk;
  return cuda_with_float(p->dtype, [&](auto type) {
    if (p->width == 1) return fn(type, one(), one());
    return p->owned == 1 ? fn(type, chunk(), one()) : fn(type, chunk(), chunk());
  });
}

#define PASS_KERNEL(name) name<decltype(type), width(), owned()>

static unsigned grid_of(const norm_pass *p) { return (unsigned)(p->columns * p->splits); }
static unsigned join_grid(const norm_pass *p) {
  return (unsigned)((p->channels + JOIN_CHANNELS - 1) / JOIN_CHANNELS);
}

// The statistics of the batch.
static moon_status find_moments(cuda_context *c, norm_pass *p, const batch_norm_options *options,
                                const batch_norm_arrays *a, const norm_vectors &vectors) {
  cuda_scratch partials(c);
  norm_running running = { vector_of(a->running_mean), vector_of(a->running_var),
                           options->momentum, options->epsilon };
  split(p, SUMMING_BLOCKS);
  MOON_TRY(partials.take((size_t)(p->splits * p->channels) * 2 * sizeof(double)));
  MOON_TRY(with_pass(p, [&](auto type, auto width, auto owned) {
    return cuda_launch(c, grid_of(p), block_of(p), PASS_KERNEL(norm_moments), *p, array_of(a->x),
                       partials.as<double>());
  }));
  return cuda_launch(c, join_grid(p), dim3(JOIN_CHANNELS, JOIN_PARTS), norm_join, *p,
                     partials.as<double>(), vectors, running);
}

moon_status cuda_batch_norm_forward(cuda_context *c, const batch_norm_options *options,
                                    const batch_norm_arrays *a) {
  norm_vectors vectors = vectors_of(options, a);
  if (array_count(a->x) == 0) return MOON_OK;
  norm_pass p = pass_of(a);
  if (!options->constant) MOON_TRY(find_moments(c, &p, options, a, vectors));
  split(&p, APPLYING_BLOCKS);
  return with_pass(&p, [&](auto type, auto width, auto owned) {
    return cuda_launch(c, grid_of(&p), block_of(&p), PASS_KERNEL(norm_apply), p, vectors,
                       array_of(a->x), array_of(a->add), array_of(a->out));
  });
}

// Sums, and what follows from them: dweight, dbias, dadd and, in `slopes`, what dx needs.
static moon_status find_slopes(cuda_context *c, norm_pass *p, const batch_norm_arrays *a,
                               const norm_vectors &vectors, const norm_back &back, void *slopes) {
  cuda_scratch partials(c);
  split(p, SUMMING_BLOCKS);
  MOON_TRY(partials.take((size_t)(p->splits * p->channels) * 2 * sizeof(double)));
  return with_pass(p, [&](auto type, auto width, auto owned) {
    MOON_TRY(cuda_launch(c, grid_of(p), block_of(p), PASS_KERNEL(norm_back_sums), *p, vectors,
                         back, partials.as<double>()));
    return cuda_launch(c, join_grid(p), dim3(JOIN_CHANNELS, JOIN_PARTS),
                       norm_back_join<cuda_compute<decltype(type)>>, *p, partials.as<double>(),
                       vectors, vector_of(a->dweight), vector_of(a->dbias),
                       (cuda_compute<decltype(type)> *)slopes);
  });
}

moon_status cuda_batch_norm_backward(cuda_context *c, const batch_norm_options *options,
                                     const batch_norm_arrays *a) {
  cuda_scratch slopes(c);
  norm_vectors vectors = vectors_of(options, a);
  norm_back back = { array_of(a->gradient), array_of(a->x), array_of(a->out), array_of(a->dx),
                     array_of(a->dadd), NULL };
  if (array_count(a->x) == 0) return MOON_OK;
  norm_pass p = pass_of(a);
  if (!options->constant || a->dweight || a->dbias || a->dadd) {
    if (!options->constant)
      MOON_TRY(slopes.take((size_t)p.channels * 2 * sizeof(double)));
    MOON_TRY(find_slopes(c, &p, a, vectors, back, slopes.as<void>()));
    back.slopes = slopes.as<void>();
  }
  if (!a->dx) return MOON_OK;
  if (a->dadd) {   // holds what the next pass would calculate again
    back.gradient = back.dadd;
    vectors.bounded = false;
  }
  split(&p, APPLYING_BLOCKS);
  return with_pass(&p, [&](auto type, auto width, auto owned) {
    return cuda_launch(c, grid_of(&p), block_of(&p), PASS_KERNEL(norm_back_apply), p, vectors,
                       back);
  });
}
