// Moving elements: filling, copies with and without a change of dtype, joining, ranges, selection.
// A copy of one dtype moves words of its size; where source and target run along different
// dimensions it goes through tiles in shared memory, so that both sides are read in whole lines.
#include "elementwise.cuh"

#include <string.h>

// -- filling

template <typename W>
static __global__ void fill_words(cuda_walk<1> walk, W *out, W value) {
  CUDA_EACH(i, walk.count) {
    int64_t at[1];
    walk.find(i, at);
    out[at[0]] = value;
  }
}

// `element`: the bytes of one.
static moon_status fill_with(cuda_context *c, uint64_t element, const device_array *out) {
  cuda_walk<1> walk;
  const device_array *arrays[1] = { out };
  cuda_walk_open(&walk, arrays, true);
  if (walk.count == 0) return MOON_OK;
  size_t size = dtype_size(out->dtype);
  if (walk.flat() && element == 0) {
    CUDA_TRY(cudaMemsetAsync(out->data, 0, (size_t)walk.count * size, c->stream));
    return MOON_OK;
  }
  return cuda_with_word(size, [&](auto word) {
    typedef decltype(word) W;
    W value;
    memcpy(&value, &element, sizeof value);
    return cuda_launch(c, cuda_blocks(walk.count), CUDA_BLOCK, fill_words<W>, walk,
                       (W *)out->data, value);
  });
}

moon_status cuda_fill(cuda_context *c, double value, const device_array *out) {
  uint64_t element = 0;
  dtype_store(out->dtype, &element, value);
  return fill_with(c, element, out);
}

moon_status cuda_fill_int(cuda_context *c, int64_t value, const device_array *out) {
  uint64_t element = 0;
  dtype_store_int(out->dtype, &element, value);
  return fill_with(c, element, out);
}

// -- copies of one dtype

template <typename W>
static __global__ void copy_words(cuda_walk<2> walk, const W *x, W *out) {
  CUDA_EACH(i, walk.count) {
    int64_t at[2];
    walk.find(i, at);
    out[at[0]] = x[at[1]];
  }
}

enum { TILE = 32, TILE_ROWS = 8 };   // a tile is TILE x TILE, done by TILE x TILE_ROWS threads

// One matrix of `rows` x `columns`: rows lie side by side in x, columns in out.
struct transposed {
  int64_t rows, columns, x_column, out_row;   // strides; x's rows and out's columns have 1
};

template <typename W>
static __global__ void transpose_tiles(cuda_walk<2> rest, transposed m, int64_t across,
                                       int64_t tiles, const W *x, W *out) {
  __shared__ W tile[TILE][TILE + 1];   // the column too many keeps banks apart
  for (int64_t t = blockIdx.x; t < tiles * rest.count; t += gridDim.x) {
    int64_t at[2], row = t % tiles / across * TILE, column = t % tiles % across * TILE;
    rest.find(t / tiles, at);
    for (int j = threadIdx.y; j < TILE; j += TILE_ROWS)
      if (row + threadIdx.x < m.rows && column + j < m.columns)
        tile[j][threadIdx.x] = x[at[1] + (column + j) * m.x_column + row + threadIdx.x];
    __syncthreads();
    for (int j = threadIdx.y; j < TILE; j += TILE_ROWS)
      if (row + j < m.rows && column + threadIdx.x < m.columns)
        out[at[0] + (row + j) * m.out_row + column + threadIdx.x] = tile[threadIdx.x][j];
    __syncthreads();
  }
}

// Takes the matrix out of a walk whose innermost dimension is out's side by side: x's is another.
// False where there is none worth a tile.
static bool take_matrix(const cuda_walk<2> *walk, transposed *m, cuda_walk<2> *rest) {
  int inner = walk->ndim - 1, other = 0;
  while (other < inner && walk->strides[1][other] != 1) other++;
  if (other == inner || walk->strides[0][inner] != 1 || walk->shape[inner] < TILE / 4 ||
      walk->shape[other] < TILE / 4)
    return false;
  *m = { walk->shape[other], walk->shape[inner], walk->strides[1][inner],
         walk->strides[0][other] };
  device_array out = {}, x = {};
  for (int i = 0; i < inner; i++) {
    if (i == other) continue;
    out.shape[out.ndim] = walk->shape[i];
    out.strides[out.ndim] = walk->strides[0][i];
    x.strides[out.ndim++] = walk->strides[1][i];
  }
  const device_array *arrays[2] = { &out, &x };
  cuda_walk_open(rest, arrays, false);
  return true;
}

static moon_status cast(cuda_context *c, const device_array *x, const device_array *out);

moon_status cuda_copy(cuda_context *c, const device_array *x, const device_array *out) {
  if (x->dtype != out->dtype) return cast(c, x, out);
  cuda_walk<2> walk, rest;
  const device_array *arrays[2] = { out, x };
  size_t size = dtype_size(x->dtype);
  cuda_walk_open(&walk, arrays, true);
  if (walk.count == 0) return MOON_OK;
  if (walk.flat()) {
    CUDA_TRY(cudaMemcpyAsync(out->data, x->data, (size_t)walk.count * size,
                             cudaMemcpyDeviceToDevice, c->stream));
    return MOON_OK;
  }
  transposed m;
  bool tiled = take_matrix(&walk, &m, &rest);
  return cuda_with_word(size, [&](auto word) {
    typedef decltype(word) W;
    if (!tiled)
      return cuda_launch(c, cuda_blocks(walk.count), CUDA_BLOCK, copy_words<W>, walk,
                         (const W *)x->data, (W *)out->data);
    int64_t across = (m.columns + TILE - 1) / TILE, tiles = across * ((m.rows + TILE - 1) / TILE);
    return cuda_launch(c, cuda_blocks(tiles * rest.count, 1), dim3(TILE, TILE_ROWS),
                       transpose_tiles<W>, rest, m, across, tiles, (const W *)x->data,
                       (W *)out->data);
  });
}

// -- casts: from the type of calculation to the one of the target

template <typename T>
static __global__ void cast_elements(cuda_operands<1> o) {
  CUDA_EACH(i, o.walk.count) {
    int64_t at[2];
    o.walk.find(i, at);
    cuda_store_as(o.out_dtype, o.out, at[0], cuda_any<T>::load(o.dtypes[0], o.in[0], at[1]));
  }
}

struct same { __host__ __device__ float operator()(const float (&x)[1]) const { return x[0]; } };

static moon_status cast(cuda_context *c, const device_array *x, const device_array *out) {
  const device_array *in[1] = { x };
  bool singles = x->dtype != MOON_F64 && out->dtype != MOON_F64 && dtype_is_float(x->dtype) &&
                 dtype_is_float(out->dtype);
  if (singles) return cuda_elementwise<float>(c, out, in, same());
  cuda_operands<1> o = cuda_operands_of(out, in);
  if (o.walk.count == 0) return MOON_OK;
  return cuda_with_compute(x->dtype, [&](auto type) {
    return cuda_launch(c, cuda_blocks(o.walk.count), CUDA_BLOCK, cast_elements<decltype(type)>, o);
  });
}

// -- joining

moon_status cuda_concat(cuda_context *c, int dim, int count, const device_array *parts,
                        const device_array *out) {
  device_array piece = *out;
  for (int i = 0; i < count; i++) {
    piece.shape[dim] = parts[i].shape[dim];
    MOON_TRY(cuda_copy(c, &parts[i], &piece));
    piece.data = (char *)piece.data +
                 piece.shape[dim] * piece.strides[dim] * (int64_t)dtype_size(out->dtype);
  }
  return MOON_OK;
}

// -- ranges

static __global__ void count_up(int64_t count, int64_t stride, moon_dtype dtype, void *out,
                                double start, double step) {
  bool whole = !dtype_is_float(dtype);
  CUDA_EACH(i, count) {
    if (whole) {
      uint64_t at = (uint64_t)dtype_to_int(start) + (uint64_t)i * (uint64_t)dtype_to_int(step);
      cuda_store_as(dtype, out, i * stride, (int64_t)at);
    } else {
      cuda_store_as(dtype, out, i * stride, start + (double)i * step);
    }
  }
}

moon_status cuda_arange(cuda_context *c, double start, double step, const device_array *out) {
  if (out->shape[0] == 0) return MOON_OK;
  return cuda_launch(c, cuda_blocks(out->shape[0]), CUDA_BLOCK, count_up, out->shape[0],
                     out->strides[0], out->dtype, out->data, start, step);
}

// -- selection

template <typename W>
static __global__ void select_words(cuda_walk<4> walk, const uint8_t *condition, const W *x,
                                    const W *y, W *out) {
  CUDA_EACH(i, walk.count) {
    int64_t at[4];
    walk.find(i, at);
    out[at[0]] = condition[at[1]] ? x[at[2]] : y[at[3]];
  }
}

moon_status cuda_select(cuda_context *c, const device_array *condition, const device_array *x,
                        const device_array *y, const device_array *out) {
  cuda_walk<4> walk;
  const device_array *arrays[4] = { out, condition, x, y };
  cuda_walk_open(&walk, arrays, true);
  if (walk.count == 0) return MOON_OK;
  return cuda_with_word(dtype_size(out->dtype), [&](auto word) {
    typedef decltype(word) W;
    return cuda_launch(c, cuda_blocks(walk.count), CUDA_BLOCK, select_words<W>, walk,
                       (const uint8_t *)condition->data, (const W *)x->data, (const W *)y->data,
                       (W *)out->data);
  });
}
