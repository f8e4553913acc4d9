// Random numbers from the Philox stream. An element's words follow from its number alone, so that
// a thread draws a block of four words and makes four neighbouring elements of them; what is drawn
// is the CPU's to the bit (device/draws.h; compiled without contraction). Bound by memory where
// results lie dense, since ten rounds for four elements are few.
#include <math.h>

extern "C" {
#include "base/dtype.h"
}
#include "device/draws.h"

#include "elementwise.cuh"
#include "graph.cuh"

enum { WORDS = 4 };   // of a block

// Blocks of the stream from `first` on; a graph that runs again has moved on.
struct draw_blocks {
  uint64_t seed, first;
  const uint64_t *moved;
  __device__ random_block operator[](int64_t i) const {
    return random_philox(seed, first + (moved ? *moved : 0) + (uint64_t)i);
  }
};

static draw_blocks blocks_of(const cuda_context *c, uint64_t seed, uint64_t first) {
  return { seed, first, graph_moved(c) };
}

// -- four neighbouring elements that lie side by side, as one access

template <typename S> struct alignas(cuda_pack_alignment(sizeof(S) * WORDS)) quad { S at[WORDS]; };

template <typename S, typename T>
static __device__ void load_quad(const void *data, int64_t number, T (&values)[WORDS]) {
  quad<S> pack = ((const quad<S> *)data)[number];
  for (int w = 0; w < WORDS; w++) values[w] = cuda_load(pack.at[w]);
}
template <typename S, typename T>
static __device__ void store_quad(void *data, int64_t number, const T (&values)[WORDS]) {
  quad<S> pack;
  for (int w = 0; w < WORDS; w++) cuda_store(&pack.at[w], values[w]);
  ((quad<S> *)data)[number] = pack;
}

template <typename T>
static __device__ void load_quads(moon_dtype dtype, const void *data, int64_t number,
                                  T (&values)[WORDS]) {
  if constexpr (std::is_same<T, double>::value) load_quad<double>(data, number, values);
  else if (dtype == MOON_F32) load_quad<float>(data, number, values);
  else if (dtype == MOON_F16) load_quad<half16>(data, number, values);
  else load_quad<bfloat16>(data, number, values);
}
template <typename T>
static __device__ void store_quads(moon_dtype dtype, void *data, int64_t number,
                                   const T (&values)[WORDS]) {
  if constexpr (std::is_same<T, double>::value) store_quad<double>(data, number, values);
  else if (dtype == MOON_F32) store_quad<float>(data, number, values);
  else if (dtype == MOON_F16) store_quad<half16>(data, number, values);
  else store_quad<bfloat16>(data, number, values);
}

// -- fractions

struct drawing {
  cuda_walk<1> walk;            // row-major
  void *out;
  moon_dtype dtype;
  draw_blocks stream;
  bool packed;                  // four results lie side by side, on a border of their bytes
};

// Fn: makes four values of a block's words.
template <typename T, typename Fn>
static __global__ void draw_fractions(drawing d, Fn fn) {
  int64_t blocks = (d.walk.count + WORDS - 1) / WORDS;
  CUDA_EACH(b, blocks) {
    T values[WORDS];
    fn(d.stream[b], values);
    if (d.packed && (b + 1) * WORDS <= d.walk.count) {
      store_quads(d.dtype, d.out, b, values);
      continue;
    }
    CUDA_UNROLL
    for (int w = 0; w < WORDS; w++) {
      if (b * WORDS + w >= d.walk.count) continue;
      int64_t at[1];
      d.walk.find(b * WORDS + w, at);
      cuda_any<T>::store(d.dtype, d.out, at[0], values[w]);
    }
  }
}

template <typename T> struct uniform {
  double low, range, most;
  __device__ void operator()(random_block block, T (&values)[WORDS]) const {
    for (int w = 0; w < WORDS; w++) values[w] = (T)draw_uniform(block.word[w], low, range, most);
  }
};

template <typename T> struct normal {
  T mean, deviation;
  __device__ void operator()(random_block block, T (&values)[WORDS]) const {
    for (int w = 0; w < WORDS; w += 2) {
      float a, b;
      draw_normal_pair(block.word[w], block.word[w + 1], &a, &b);
      values[w] = mean + deviation * (T)a;
      values[w + 1] = mean + deviation * (T)b;
    }
  }
};

template <typename T, typename Fn>
static moon_status draw(cuda_context *c, uint64_t seed, uint64_t first, const device_array *out,
                        const Fn &fn) {
  drawing d;
  const device_array *arrays[] = { out };
  cuda_walk_open(&d.walk, arrays, false);
  if (d.walk.count == 0) return MOON_OK;
  d.out = out->data;
  d.dtype = out->dtype;
  d.stream = blocks_of(c, seed, first);
  d.packed = d.walk.flat() && cuda_aligned(out->data);
  return cuda_launch(c, cuda_blocks((d.walk.count + WORDS - 1) / WORDS), CUDA_BLOCK,
                     draw_fractions<T, Fn>, d, fn);
}

static moon_status need_float(const device_array *out) {
  if (dtype_is_float(out->dtype)) return MOON_OK;
  return moon_fail(MOON_BAD_DTYPE, "random fractions for %s", dtype_name(out->dtype));
}

moon_status cuda_random_uniform(cuda_context *c, uint64_t seed, uint64_t first, double low,
                                double high, const device_array *out) {
  MOON_TRY(need_float(out));
  double most = draw_largest_below(out->dtype, low, high), range = high - low;
  if (out->dtype == MOON_F64)
    return draw<double>(c, seed, first, out, uniform<double>{ low, range, most });
  return draw<float>(c, seed, first, out, uniform<float>{ low, range, most });
}

moon_status cuda_random_normal(cuda_context *c, uint64_t seed, uint64_t first, double mean,
                               double deviation, const device_array *out) {
  MOON_TRY(need_float(out));
  if (out->dtype == MOON_F64)
    return draw<double>(c, seed, first, out, normal<double>{ mean, deviation });
  return draw<float>(c, seed, first, out, normal<float>{ (float)mean, (float)deviation });
}

// -- integers: a block an element

static __global__ void draw_integers(cuda_walk<1> walk, draw_blocks stream, int64_t low,
                                     uint64_t range, moon_dtype dtype, void *out) {
  CUDA_EACH(i, walk.count) {
    int64_t at[1];
    uint64_t below = draw_below(stream[i], range);
    walk.find(i, at);
    cuda_store_as(dtype, out, at[0], (int64_t)((uint64_t)low + below));
  }
}

moon_status cuda_random_integers(cuda_context *c, uint64_t seed, uint64_t first, int64_t low,
                                 int64_t high, const device_array *out) {
  cuda_walk<1> walk;
  const device_array *arrays[] = { out };
  if (high <= low)
    return moon_fail(MOON_BAD_ARGUMENT, "no integers from %lld to below %lld", (long long)low,
                     (long long)high);
  cuda_walk_open(&walk, arrays, false);
  return cuda_launch(c, cuda_blocks(walk.count), CUDA_BLOCK, draw_integers, walk,
                     blocks_of(c, seed, first), low, (uint64_t)high - (uint64_t)low, out->dtype,
                     out->data);
}

// -- permutation
//
// Step t of the shuffle draws a cell j[t] <= t, moves the number there to cell t and puts number t
// into cell j[t]. So number t rests in cell j[t] until the next step that draws it, u > t, moves it
// to cell u; there it stays until the first step after u that draws cell u, and so on. With the
// steps sorted by the cell that they draw, the next step is a neighbour, and the chain is short
// (its steps grow by a factor): every number finds its last cell by itself.

static __global__ void draw_cells(draw_blocks stream, int64_t count, int64_t *cells) {
  CUDA_EACH(t, count)
    cells[t] = (int64_t)draw_below(stream[t], (uint64_t)t + 1);
}

// Steps in order of `cells`, then of time. leave[u]: the first step after u that draws cell u, -1
// where there is none (set before); step u itself may be the first that draws it.
static __global__ void find_leaving(int64_t count, const int64_t *cells, const int64_t *steps,
                                    int64_t *leave) {
  CUDA_EACH(q, count) {
    if (q > 0 && cells[q - 1] == cells[q]) continue;
    int64_t from = steps[q] == cells[q] ? q + 1 : q;
    if (from < count && cells[from] == cells[q]) leave[cells[q]] = steps[from];
  }
}

static __global__ void place_numbers(int64_t count, const int64_t *cells, const int64_t *steps,
                                     const int64_t *leave, int64_t base, int64_t *out) {
  CUDA_EACH(q, count) {
    int64_t cell = cells[q];
    bool moved = q + 1 < count && cells[q + 1] == cell;
    for (int64_t u = moved ? steps[q + 1] : -1; u >= 0; u = leave[u]) cell = u;
    out[cell] = steps[q] + base;
  }
}

moon_status cuda_random_permutation(cuda_context *c, uint64_t seed, uint64_t first, int64_t base,
                                    const device_array *out) {
  int64_t count = out->shape[0];
  size_t bytes = (size_t)count * sizeof(int64_t);
  cuda_scratch drawn(c), sorted(c), steps(c), leave(c);
  if (count == 0) return MOON_OK;
  MOON_TRY(drawn.take(bytes));
  MOON_TRY(sorted.take(bytes));
  MOON_TRY(steps.take(bytes));
  MOON_TRY(leave.take(bytes));
  MOON_TRY(cuda_launch(c, cuda_blocks(count), CUDA_BLOCK, draw_cells,
                       blocks_of(c, seed, first), count,
                       drawn.as<int64_t>()));
  device_array cells = *out, in_order = *out, order = *out;
  cells.data = drawn.as<void>();
  in_order.data = sorted.as<void>();
  order.data = steps.as<void>();
  MOON_TRY(cuda_sort(c, 0, false, &cells, &in_order, &order));
  CUDA_TRY(cudaMemsetAsync(leave.as<void>(), 0xFF, bytes, c->stream));
  const int64_t *by_cell = sorted.as<int64_t>(), *by_time = steps.as<int64_t>();
  MOON_TRY(cuda_launch(c, cuda_blocks(count), CUDA_BLOCK, find_leaving, count, by_cell, by_time,
                       leave.as<int64_t>()));
  return cuda_launch(c, cuda_blocks(count), CUDA_BLOCK, place_numbers, count, by_cell, by_time,
                     (const int64_t *)leave.as<int64_t>(), base, (int64_t *)out->data);
}

// -- dropout: elements are numbered in the order that the result lies in memory

struct dropping {
  cuda_walk<3> walk;            // operand 0: out, 1: x, 2: mask
  const void *x;
  void *out;
  uint8_t *mask;
  moon_dtype dtype;
  draw_blocks stream;
  uint32_t limit;
  double scale;
  bool packed;
};

template <typename T>
static __global__ void drop(dropping d) {
  const T scale = (T)d.scale;
  int64_t blocks = (d.walk.count + WORDS - 1) / WORDS;
  CUDA_EACH(b, blocks) {
    random_block block = d.stream[b];
    bool keep[WORDS];
    T values[WORDS];
    for (int w = 0; w < WORDS; w++) keep[w] = block.word[w] >> 8 >= d.limit;
    if (d.packed && (b + 1) * WORDS <= d.walk.count) {
      load_quads(d.dtype, d.x, b, values);
      quad<uint8_t> kept;
      for (int w = 0; w < WORDS; w++) {
        kept.at[w] = keep[w];
        values[w] = keep[w] ? values[w] * scale : 0;
      }
      store_quads(d.dtype, d.out, b, values);
      ((quad<uint8_t> *)d.mask)[b] = kept;
      continue;
    }
    CUDA_UNROLL
    for (int w = 0; w < WORDS; w++) {
      if (b * WORDS + w >= d.walk.count) continue;
      int64_t at[3];
      d.walk.find(b * WORDS + w, at);
      T x = cuda_any<T>::load(d.dtype, d.x, at[1]);
      cuda_any<T>::store(d.dtype, d.out, at[0], keep[w] ? x * scale : 0);
      d.mask[at[2]] = keep[w];
    }
  }
}

moon_status cuda_dropout(cuda_context *c, uint64_t seed, uint64_t first, double p,
                         const device_array *x, const device_array *mask,
                         const device_array *out) {
  dropping d;
  const device_array *arrays[] = { out, x, mask };
  cuda_walk_open(&d.walk, arrays, true);
  if (d.walk.count == 0) return MOON_OK;
  d.x = x->data;
  d.out = out->data;
  d.mask = (uint8_t *)mask->data;
  d.dtype = x->dtype;
  d.stream = blocks_of(c, seed, first);
  d.limit = draw_dropout_limit(p);
  d.scale = 1.0 / (1.0 - p);
  d.packed = d.walk.flat() && cuda_aligned(d.x) && cuda_aligned(d.out) && cuda_aligned(d.mask);
  int64_t blocks = (d.walk.count + WORDS - 1) / WORDS;
  return cuda_launch(c, cuda_blocks(blocks), CUDA_BLOCK,
                     x->dtype == MOON_F64 ? drop<double> : drop<float>, d);
}

struct kept_gradient {
  cuda_walk<3> walk;            // operand 0: dx, 1: gradient, 2: mask
  const void *gradient;
  const uint8_t *mask;
  void *dx;
  moon_dtype dtype;
  double scale;
  int64_t chunks;               // of 8 elements, where all lie dense; else 0
};

template <typename T>
static __global__ void keep_gradient(kept_gradient k) {
  const T scale = (T)k.scale;
  CUDA_EACH(i, k.chunks) {
    T values[CUDA_CHUNK], mask[CUDA_CHUNK];
    cuda_load_chunk<T>(k.dtype, k.gradient, i, values);
    cuda_load_pack<T, uint8_t>(k.mask, i, mask);
    for (int v = 0; v < CUDA_CHUNK; v++) values[v] = mask[v] != 0 ? values[v] * scale : 0;
    cuda_store_chunk<T>(k.dtype, k.dx, i, values);
  }
  int64_t done = k.chunks * CUDA_CHUNK;
  CUDA_EACH(rest, k.walk.count - done) {
    int64_t at[3];
    k.walk.find(done + rest, at);
    T g = cuda_any<T>::load(k.dtype, k.gradient, at[1]);
    cuda_any<T>::store(k.dtype, k.dx, at[0], k.mask[at[2]] ? g * scale : 0);
  }
}

moon_status cuda_dropout_backward(cuda_context *c, double scale, const device_array *gradient,
                                  const device_array *mask, const device_array *dx) {
  kept_gradient k;
  const device_array *arrays[] = { dx, gradient, mask };
  cuda_walk_open(&k.walk, arrays, true);
  if (k.walk.count == 0) return MOON_OK;
  k.gradient = gradient->data;
  k.mask = (const uint8_t *)mask->data;
  k.dx = dx->data;
  k.dtype = dx->dtype;
  k.scale = scale;
  bool dense = k.walk.flat() && cuda_aligned(k.gradient) && cuda_aligned(k.mask) &&
               cuda_aligned(k.dx);
  k.chunks = dense ? k.walk.count / CUDA_CHUNK : 0;
  return cuda_launch(c, cuda_blocks(dense ? k.chunks : k.walk.count), CUDA_BLOCK,
                     dx->dtype == MOON_F64 ? keep_gradient<double> : keep_gradient<float>, k);
}
