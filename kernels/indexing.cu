// Reading and writing at places that index arrays give (int64, from 0, checked by the caller), and
// what finds such places. index_select is a gather whose index is broadcast, index_put a scatter
// whose source's lines share one index, so that both pairs have one kernel.
//
// Writes that meet happen in order of the index, whatever the order of threads: where they replace,
// the last place that names a target is found first, by an integer maximum; where they add, places
// are sorted by target and the thread that has the first of a target adds all of them.
#include "block.cuh"
#include "elementwise.cuh"

// -- arrays as a walk's operands

// The array with another stride along `dim`.
static device_array with_stride(const device_array *array, int dim, int64_t stride) {
  device_array y = *array;
  if (y.ndim > 0) y.strides[dim] = stride;
  return y;
}

static int64_t stride_along(const device_array *array, int dim) {
  return array->ndim > 0 ? array->strides[dim] : 0;
}

// Of `shape`'s shape, with `stride` along `dim` and 0 everywhere else.
static device_array along(const device_array *shape, int dim, int64_t stride) {
  device_array y = *shape;
  for (int i = 0; i < y.ndim; i++) y.strides[i] = i == dim ? stride : 0;
  return y;
}

// The index, or an array beside it, goes over all lines of `shape` (index_put) or has a line for
// each of them (scatter). Which of its dimensions is `dim`, and what it is as one of that shape:
static int own_dim(const device_array *index, int dim, const device_array *shape) {
  return index->ndim == shape->ndim ? dim : 0;
}
static device_array over(const device_array *index, int dim, const device_array *shape) {
  if (index->ndim == shape->ndim) return *index;
  return along(shape, dim, stride_along(index, 0));
}

// Gives the array the strides of a row-major one of its shape.
static void pack(device_array *array) {
  int64_t stride = 1;
  for (int i = array->ndim - 1; i >= 0; i--) {
    array->strides[i] = stride;
    stride *= array->shape[i];
  }
}

// -- reading: index_select and gather, bound by memory

struct picking {
  cuda_walk<3> walk;       // operand 0: out, 1: x at 0 along the dimension, 2: index
  const int64_t *index;
  int64_t stride;          // x's along the dimension
};

enum { PICKS = 4 };   // elements of a thread at once, since an index is waited for before x is read

template <typename W>
static __global__ void pick_words(picking p, const W *x, W *out) {
  const int64_t threads = (int64_t)gridDim.x * blockDim.x;
  for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < p.walk.count;
       i += PICKS * threads) {
    int64_t at[PICKS][3];
    W picked[PICKS];
    CUDA_UNROLL
    for (int k = 0; k < PICKS; k++) {
      if (i + k * threads >= p.walk.count) continue;
      p.walk.find(i + k * threads, at[k]);
      at[k][1] += p.index[at[k][2]] * p.stride;
    }
    CUDA_UNROLL
    for (int k = 0; k < PICKS; k++)
      if (i + k * threads < p.walk.count) picked[k] = x[at[k][1]];
    CUDA_UNROLL
    for (int k = 0; k < PICKS; k++)
      if (i + k * threads < p.walk.count) out[at[k][0]] = picked[k];
  }
}

// Whether runs of `many` elements go from one place to one place, on borders of 16 bytes.
static bool runs_of(const picking *p, int64_t many, const void *x, const void *out) {
  const cuda_walk<3> *walk = &p->walk;
  int inner = walk->ndim - 1;
  bool fit = cuda_aligned(x) && cuda_aligned(out) && walk->strides[0][inner] == 1 &&
             walk->strides[1][inner] == 1 && walk->strides[2][inner] == 0 &&
             walk->shape[inner] % many == 0 && p->stride % many == 0;
  for (int i = 0; i < inner; i++)
    fit = fit && walk->strides[0][i] % many == 0 && walk->strides[1][i] % many == 0;
  return fit;
}

// Goes on in words of 16 bytes, `many` elements each.
static void widen(picking *p, int64_t many) {
  cuda_walk<3> *walk = &p->walk;
  int inner = walk->ndim - 1;
  for (int k = 0; k < 2; k++)
    for (int i = 0; i < inner; i++) walk->strides[k][i] /= many;
  walk->shape[inner] /= many;
  walk->count /= many;
  p->stride /= many;
  walk->narrow = walk->count <= INT32_MAX;
  for (int i = 0; i < walk->ndim && walk->narrow; i++)
    walk->divisors[i] = cuda_divisor_of((uint32_t)walk->shape[i]);
}

static moon_status pick(cuda_context *c, int dim, const device_array *x, const device_array *index,
                        const device_array *out) {
  picking p;
  device_array from = with_stride(x, dim, 0), places = over(index, dim, out);
  const device_array *arrays[] = { out, &from, &places };
  cuda_walk_open(&p.walk, arrays, true);
  if (p.walk.count == 0) return MOON_OK;
  p.index = (const int64_t *)index->data;
  p.stride = stride_along(x, dim);
  size_t size = dtype_size(x->dtype);
  int64_t many = CUDA_VECTOR_BYTES / (int64_t)size;
  if (runs_of(&p, many, x->data, out->data)) {
    widen(&p, many);
    return cuda_launch(c, cuda_blocks(p.walk.count, PICKS * CUDA_BLOCK), CUDA_BLOCK,
                       pick_words<uint4>, p,
                       (const uint4 *)x->data, (uint4 *)out->data);
  }
  return cuda_with_word(size, [&](auto word) {
    typedef decltype(word) W;
    return cuda_launch(c, cuda_blocks(p.walk.count, PICKS * CUDA_BLOCK), CUDA_BLOCK,
                       pick_words<W>, p,
                       (const W *)x->data, (W *)out->data);
  });
}

moon_status cuda_gather(cuda_context *c, int dim, const device_array *x, const device_array *index,
                        const device_array *out) {
  return pick(c, dim, x, index, out);
}

moon_status cuda_index_select(cuda_context *c, int dim, const device_array *x,
                              const device_array *index, const device_array *out) {
  return pick(c, dim, x, index, out);
}

// -- writing, where the last of a target's places counts

struct writing {
  cuda_walk<5> walk;   // 0: source, 1: out, 2: index, 3: last, 4: place; 1 and 3 at 0 along dim
  const int64_t *index;
  long long *last;     // for each target the last place that names it
  int64_t last_stride, out_stride;
};

static __global__ void mark_last(writing w) {
  CUDA_EACH(i, w.walk.count) {
    int64_t at[5];
    w.walk.find(i, at);
    atomicMax(&w.last[at[3] + w.index[at[2]] * w.last_stride], (long long)at[4]);
  }
}

template <typename W>
static __global__ void put_words(writing w, const W *source, W *out) {
  CUDA_EACH(i, w.walk.count) {
    int64_t at[5];
    w.walk.find(i, at);
    int64_t target = w.index[at[2]];
    if (w.last[at[3] + target * w.last_stride] == at[4])
      out[at[1] + target * w.out_stride] = source[at[0]];
  }
}

static moon_status put(cuda_context *c, int dim, const device_array *index,
                       const device_array *source, const device_array *out) {
  writing w;
  cuda_scratch last(c);
  int own = own_dim(index, dim, source);
  device_array marks = *index;   // a line of targets for each of the index's lines
  if (marks.ndim > 0) marks.shape[own] = out->ndim > 0 ? out->shape[dim] : 1;
  pack(&marks);
  size_t bytes = (size_t)array_count(&marks) * sizeof(int64_t);
  MOON_TRY(last.take(bytes));
  CUDA_TRY(cudaMemsetAsync(last.as<void>(), 0xFF, bytes, c->stream));
  w.index = (const int64_t *)index->data;
  w.last = last.as<long long>();
  w.last_stride = stride_along(&marks, own);
  w.out_stride = stride_along(out, dim);

  marks = with_stride(&marks, own, 0);
  device_array place = along(index, own, 1);
  const device_array *marked[] = { index, index, index, &marks, &place };
  cuda_walk_open(&w.walk, marked, true);
  MOON_TRY(cuda_launch(c, cuda_blocks(w.walk.count), CUDA_BLOCK, mark_last, w));

  device_array to = with_stride(out, dim, 0), targets = over(index, dim, source);
  marks = over(&marks, dim, source);
  place = along(source, dim, 1);
  const device_array *written[] = { source, &to, &targets, &marks, &place };
  cuda_walk_open(&w.walk, written, true);
  return cuda_with_word(dtype_size(source->dtype), [&](auto word) {
    typedef decltype(word) W;
    return cuda_launch(c, cuda_blocks(w.walk.count), CUDA_BLOCK, put_words<W>, w,
                       (const W *)source->data, (W *)out->data);
  });
}

// -- writing, where all of a target's places add up

struct adding {
  cuda_walk<4> walk;   // 0: source, 1: out at 0 along dim, 2: sorted and order, 3: place
  const int64_t *sorted, *order;    // targets in order, and the places that name them
  int64_t length, source_stride, out_stride, sorted_stride;
  moon_dtype dtype;
};

// How many of the CUDA_ITEMS places in order from `place` on name the target.
static __device__ int same_targets(const adding &a, int64_t line, int64_t place, int64_t target) {
  int many = 0;
  CUDA_UNROLL
  for (int k = 0; k < CUDA_ITEMS; k++)
    many += place + k < a.length && a.sorted[line + (place + k) * a.sorted_stride] == target;
  return many;
}

template <typename T>
static __global__ void add_words(adding a, const void *source, void *out) {
  typedef typename std::conditional<std::is_same<T, int64_t>::value, uint64_t, T>::type sum;
  CUDA_EACH(i, a.walk.count) {
    int64_t at[4];
    a.walk.find(i, at);
    int64_t place = at[3], target = a.sorted[at[2]];
    if (place > 0 && a.sorted[at[2] - a.sorted_stride] == target) continue;
    int64_t to = at[1] + target * a.out_stride, start = at[0] - place * a.source_stride;
    int64_t line = at[2] - place * a.sorted_stride;   // of sorted and order
    auto where = [&](int64_t k) {
      return start + a.order[line + k * a.sorted_stride] * a.source_stride;
    };
    sum total = (sum)cuda_any<T>::load(a.dtype, out, to);
    for (int many = CUDA_ITEMS; many == CUDA_ITEMS; place += CUDA_ITEMS) {
      T values[CUDA_ITEMS];
      many = same_targets(a, line, place, target);
      cuda_load_steps(a.dtype, source, where, place, 1, place + many, (T)0, values);
      CUDA_UNROLL
      for (int k = 0; k < CUDA_ITEMS; k++)
        if (k < many) total += (sum)values[k];
    }
    cuda_any<T>::store(a.dtype, out, to, (T)total);
  }
}

static moon_status add(cuda_context *c, int dim, const device_array *index,
                       const device_array *source, const device_array *out) {
  adding a;
  cuda_scratch sorted(c), order(c);
  int own = own_dim(index, dim, source);
  device_array targets = *index, places;
  size_t bytes = (size_t)array_count(index) * sizeof(int64_t);
  MOON_TRY(sorted.take(bytes));
  MOON_TRY(order.take(bytes));
  pack(&targets);
  targets.data = sorted.as<void>();
  places = targets;
  places.data = order.as<void>();
  MOON_TRY(cuda_sort(c, own, false, index, &targets, &places));
  a.sorted = sorted.as<int64_t>();
  a.order = order.as<int64_t>();
  a.length = source->ndim > 0 ? source->shape[dim] : 1;
  a.source_stride = stride_along(source, dim);
  a.out_stride = stride_along(out, dim);
  a.sorted_stride = stride_along(&targets, own);
  a.dtype = source->dtype;
  device_array to = with_stride(out, dim, 0), place = along(source, dim, 1);
  targets = over(&targets, dim, source);
  const device_array *arrays[] = { source, &to, &targets, &place };
  cuda_walk_open(&a.walk, arrays, true);
  return cuda_with_compute(source->dtype, [&](auto type) {
    return cuda_launch(c, cuda_blocks(a.walk.count), CUDA_BLOCK, add_words<decltype(type)>, a,
                       (const void *)source->data, out->data);
  });
}

static moon_status write(cuda_context *c, int dim, bool accumulate, const device_array *index,
                         const device_array *source, const device_array *out) {
  if (array_count(source) == 0) return MOON_OK;
  return accumulate ? add(c, dim, index, source, out) : put(c, dim, index, source, out);
}

moon_status cuda_index_put(cuda_context *c, int dim, bool accumulate, const device_array *index,
                           const device_array *source, const device_array *out) {
  return write(c, dim, accumulate, index, source, out);
}

moon_status cuda_scatter(cuda_context *c, int dim, bool accumulate, const device_array *index,
                         const device_array *source, const device_array *out) {
  return write(c, dim, accumulate, index, source, out);
}

// -- masks: each block counts a stretch, the counts are summed up, and each block writes its places

enum { STRETCH = CUDA_TILE };   // elements of a block

// Elements first, first + step, ...; what lies beyond the mask is false.
static __device__ void load_set(const cuda_walk<1> &walk, const uint8_t *mask, int64_t first,
                                int64_t step, int64_t (&set)[CUDA_ITEMS]) {
  auto where = [&](int64_t i) {
    int64_t at[1];
    walk.find(i, at);
    return at[0];
  };
  cuda_load_steps(MOON_BOOL, mask, where, first, step, walk.count, (int64_t)0, set);
}

static __global__ void count_set(cuda_walk<1> walk, const uint8_t *mask, int64_t stretches,
                                 int64_t *counts) {
  __shared__ int found;
  for (int64_t s = blockIdx.x; s < stretches; s += gridDim.x) {
    int64_t set[CUDA_ITEMS];
    int own = 0;
    if (threadIdx.x == 0) found = 0;
    load_set(walk, mask, s * STRETCH + threadIdx.x, CUDA_BLOCK, set);
    for (int k = 0; k < CUDA_ITEMS; k++) own += set[k] != 0;
    __syncthreads();
    atomicAdd(&found, own);
    __syncthreads();
    if (threadIdx.x == 0) counts[s] = found;
    __syncthreads();
  }
}

// ends[s]: how many are true up to the end of stretch s. A warp has neighbouring elements, 32 at a
// time.
static __global__ void write_set(cuda_walk<1> walk, const uint8_t *mask, int64_t stretches,
                                 const int64_t *ends, int64_t stride, int64_t *out) {
  __shared__ int of_warp[CUDA_BLOCK / CUDA_WARP];
  const int lane = (int)threadIdx.x % CUDA_WARP, warp = (int)threadIdx.x / CUDA_WARP;
  for (int64_t s = blockIdx.x; s < stretches; s += gridDim.x) {
    int64_t first = s * STRETCH + warp * CUDA_WARP * CUDA_ITEMS + lane, set[CUDA_ITEMS];
    unsigned votes[CUDA_ITEMS];
    int many = 0;
    load_set(walk, mask, first, CUDA_WARP, set);
    CUDA_UNROLL
    for (int k = 0; k < CUDA_ITEMS; k++) {
      votes[k] = __ballot_sync(0xffffffffu, set[k] != 0);
      many += __popc(votes[k]);
    }
    if (lane == 0) of_warp[warp] = many;
    __syncthreads();
    int64_t place = s > 0 ? ends[s - 1] : 0;
    for (int k = 0; k < warp; k++) place += of_warp[k];
    CUDA_UNROLL
    for (int k = 0; k < CUDA_ITEMS; k++) {
      int64_t at = place + __popc(votes[k] & ((1u << lane) - 1u));
      if (set[k] != 0) out[at * stride] = first + k * CUDA_WARP;
      place += __popc(votes[k]);
    }
    __syncthreads();
  }
}

// Of `count` int64, contiguous.
static device_array row_of(void *data, int64_t count) {
  device_array row = {};
  row.data = data;
  row.dtype = MOON_I64;
  row.ndim = 1;
  row.shape[0] = count;
  row.strides[0] = 1;
  return row;
}

moon_status cuda_mask_positions(cuda_context *c, const device_array *mask, int64_t *count,
                                const device_array *out) {
  cuda_walk<1> walk;
  cuda_scratch counts(c), ends(c);
  const device_array *arrays[] = { mask };
  *count = 0;
  cuda_walk_open(&walk, arrays, false);
  if (walk.count == 0) return MOON_OK;
  int64_t stretches = (walk.count + STRETCH - 1) / STRETCH;
  size_t bytes = (size_t)stretches * sizeof(int64_t);
  MOON_TRY(counts.take(bytes));
  MOON_TRY(ends.take(bytes));
  const uint8_t *data = (const uint8_t *)mask->data;
  MOON_TRY(cuda_launch(c, cuda_blocks(stretches, 1), CUDA_BLOCK, count_set, walk, data, stretches,
                       counts.as<int64_t>()));
  device_array each = row_of(counts.as<void>(), stretches);
  device_array summed = row_of(ends.as<void>(), stretches);
  MOON_TRY(cuda_cumsum(c, 0, &each, &summed));
  if (out)
    MOON_TRY(cuda_launch(c, cuda_blocks(stretches, 1), CUDA_BLOCK, write_set, walk, data,
                         stretches, (const int64_t *)ends.as<int64_t>(), out->strides[0],
                         (int64_t *)out->data));
  return cuda_download(c, ends.as<int64_t>() + stretches - 1, count, sizeof *count);
}

// -- ranges

moon_status cuda_index_range(cuda_context *c, const device_array *index, int64_t *low,
                             int64_t *high) {
  cuda_scratch answers(c);
  int64_t found[2];
  device_array answer = {};
  *low = 0;
  *high = -1;
  if (array_count(index) == 0 || c->recording) return MOON_OK;   // a graph cannot stop for it
  MOON_TRY(answers.take(sizeof found));
  answer.dtype = MOON_I64;
  answer.ndim = index->ndim;
  for (int i = 0; i < index->ndim; i++) answer.shape[i] = answer.strides[i] = 1;
  answer.data = answers.as<int64_t>();
  MOON_TRY(cuda_reduce(c, REDUCE_MIN, index, &answer));
  answer.data = answers.as<int64_t>() + 1;
  MOON_TRY(cuda_reduce(c, REDUCE_MAX, index, &answer));
  MOON_TRY(cuda_download(c, answers.as<void>(), found, sizeof found));
  *low = found[0];
  *high = found[1];
  return MOON_OK;
}
