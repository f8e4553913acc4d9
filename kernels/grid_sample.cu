// Sampling images at the positions of a grid. A block has a tile of positions: it finds their
// neighbours once (device/grid_taps.h; compiled without contraction), then its threads go over the
// tile's positions and channels in the order in which those lie in memory. Bound by what the
// neighbours' reads bring from the second cache.
//
// The gradient of an image is gathered, since positions share pixels: the neighbours of all
// positions are sorted by pixel, as index_put does with its places, and each pixel adds up those
// that it is, in the order of the positions. Sorting is paid once for all channels.
#include "lines.cuh"

#include "device/grid_taps.h"

enum {
  TILE = 64,               // positions, or pixels of dx, of a block
  LEAST_LANES = CUDA_BLOCK / TILE,
  PART = 64,               // channels of an item
  TOGETHER = 4,            // neighbours whose reads are under way at once
};

enum { COORDINATES, VALUES, PULLS, OPERANDS };   // VALUES: out, or the gradient

template <int DIMS, int SIDE>
struct grid_shape {
  static constexpr int dims = DIMS, side = SIDE;
  static constexpr int taps = DIMS == 2 ? SIDE * SIDE : SIDE * SIDE * SIDE;
};

template <typename T>
struct grid_pass {
  cuda_walk<OPERANDS> positions;   // of an image
  cuda_walk<1> pixels;             // of an image of dx
  grid_axis<T> axes[GRID_MOST_DIMS];
  bool across;                     // channels lie apart: neighbouring threads are on neighbouring
  int lanes;                       // positions, else a team of `lanes` is on one's channels
  int64_t images, channels;
  const void *grid, *x;
  void *values, *pulls, *dx;
  int64_t image_step[OPERANDS], number_step[OPERANDS];   // number: of a coordinate, or the channel
  int64_t x_image, x_channel, x_step[GRID_MOST_DIMS], dx_image, dx_channel;

  dim3 block() const {
    return across ? dim3(CUDA_BLOCK / lanes, lanes) : dim3(lanes, CUDA_BLOCK / lanes);
  }
};

// -- neighbours of a position

template <typename S, typename Shape>
struct grid_neighbours {
  typedef cuda_compute<S> T;
  grid_tap<T> taps[Shape::dims][GRID_SIDE_TAPS];

  __device__ grid_neighbours(const grid_pass<T> &p, int64_t image, int64_t coordinates) {
    const S *u = (const S *)p.grid + image * p.image_step[COORDINATES] + coordinates;
    CUDA_UNROLL
    for (int d = 0; d < Shape::dims; d++)   // the grid's last number is of the first dimension
      grid_taps_of(&p.axes[d], cuda_load(u[(Shape::dims - 1 - d) * p.number_step[COORDINATES]]),
                   taps[d]);
  }
  // Of neighbour k along dimension d; the last dimension's change fastest.
  __device__ const grid_tap<T> &tap(int k, int d) const {
    constexpr int side = Shape::side;
    const int behind = Shape::dims - 1 - d;
    return taps[d][k / (behind == 0 ? 1 : behind == 1 ? side : side * side) % side];
  }
  __device__ bool inside(int k) const {
    bool all = true;
    CUDA_UNROLL
    for (int d = 0; d < Shape::dims; d++) all = all && tap(k, d).pixel >= 0;
    return all;
  }
  __device__ T weight(int k) const {
    T product = tap(k, 0).weight;
    CUDA_UNROLL
    for (int d = 1; d < Shape::dims; d++) product *= tap(k, d).weight;
    return product;
  }
  // How far the weight changes with the coordinate of a dimension.
  __device__ T pull(int k, int along) const {
    T product = tap(k, along).slope;
    CUDA_UNROLL
    for (int d = 0; d < Shape::dims; d++) product *= d == along ? (T)1 : tap(k, d).weight;
    return product;
  }
  __device__ int64_t offset(const grid_pass<T> &p, int k) const {
    int64_t at = 0;
    CUDA_UNROLL
    for (int d = 0; d < Shape::dims; d++)
      at += grid_place(&p.axes[d], tap(k, d).pixel) * p.x_step[d];
    return at;
  }
  // The pixel's number, row-major.
  __device__ int64_t number(const grid_pass<T> &p, int k) const {
    int64_t at = 0;
    CUDA_UNROLL
    for (int d = 0; d < Shape::dims; d++)
      at = at * p.axes[d].size + grid_place(&p.axes[d], tap(k, d).pixel);
    return at;
  }
};

// -- tiles: of `all` positions or pixels of an image, and some channels

struct grid_tile {
  int64_t image, first, channel, last;   // last: channel that is not in it
  int count;

  __device__ grid_tile(int64_t item, int64_t all, int64_t channels, int64_t parts) {
    int64_t tiles = (all + TILE - 1) / TILE, part = item % parts, tile = item / parts;
    image = tile / tiles;
    first = (tile - image * tiles) * TILE;
    count = all - first < TILE ? (int)(all - first) : (int)TILE;
    channel = part * PART;
    last = part + 1 < parts ? channel + PART : channels;
  }
};

static int64_t parts_of(int64_t channels) { return (channels + PART - 1) / PART; }

static __device__ int thread_number() { return (int)(threadIdx.y * blockDim.x + threadIdx.x); }

// -- values

static constexpr int64_t OUTSIDE = INT64_MIN;

template <typename S, typename Shape>
static __global__ void sample(grid_pass<cuda_compute<S>> p, int64_t items, int64_t parts) {
  typedef cuda_compute<S> T;
  __shared__ int64_t from[Shape::taps][TILE], to[TILE];
  __shared__ T weight[Shape::taps][TILE];
  const cuda_team team(p.across);
  const int own = thread_number();
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const grid_tile tile(item, p.positions.count, p.channels, parts);
    if (own < tile.count) {
      int64_t at[OPERANDS];
      p.positions.find(tile.first + own, at);
      const grid_neighbours<S, Shape> near(p, tile.image, at[COORDINATES]);
      to[own] = at[VALUES] + tile.image * p.image_step[VALUES];
      CUDA_UNROLL
      for (int k = 0; k < Shape::taps; k++) {
        from[k][own] = near.inside(k) ? near.offset(p, k) : OUTSIDE;
        weight[k][own] = near.weight(k);
      }
    }
    __syncthreads();
    for (int i = team.number; i < tile.count; i += team.teams)
      for (int64_t c = tile.channel + team.lane; c < tile.last; c += team.lanes) {
        const S *x = (const S *)p.x + tile.image * p.x_image + c * p.x_channel;
        T sum = 0;
        CUDA_UNROLL
        for (int k = 0; k < Shape::taps; k++)
          if (from[k][i] != OUTSIDE) sum += cuda_load(x[from[k][i]]) * weight[k][i];
        cuda_store((S *)p.values + to[i] + c * p.number_step[VALUES], sum);
      }
    __syncthreads();
  }
}

// -- the gradient of the grid

template <typename S, typename Shape>
static __global__ void pull_grid(grid_pass<cuda_compute<S>> p, int64_t items) {
  typedef cuda_compute<S> T;
  __shared__ int64_t from[Shape::taps][TILE], gradient[TILE], to[TILE];
  __shared__ T pull[Shape::dims][Shape::taps][TILE];
  const cuda_team team(p.across);
  const int own = thread_number();
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const grid_tile tile(item, p.positions.count, p.channels, 1);
    if (own < tile.count) {
      int64_t at[OPERANDS];
      p.positions.find(tile.first + own, at);
      const grid_neighbours<S, Shape> near(p, tile.image, at[COORDINATES]);
      gradient[own] = at[VALUES] + tile.image * p.image_step[VALUES];
      to[own] = at[PULLS] + tile.image * p.image_step[PULLS];
      CUDA_UNROLL
      for (int k = 0; k < Shape::taps; k++) {
        from[k][own] = near.inside(k) ? near.offset(p, k) : OUTSIDE;
        CUDA_UNROLL
        for (int d = 0; d < Shape::dims; d++) pull[d][k][own] = near.pull(k, d);
      }
    }
    __syncthreads();
    for (int i = team.number; i - team.number < TILE; i += team.teams) {
      T sum[Shape::dims] = {};
      for (int64_t c = team.lane; i < tile.count && c < p.channels; c += team.lanes) {
        const S *x = (const S *)p.x + tile.image * p.x_image + c * p.x_channel;
        T g = cuda_load(((const S *)p.values)[gradient[i] + c * p.number_step[VALUES]]);
        CUDA_UNROLL
        for (int k = 0; k < Shape::taps; k++) {
          if (from[k][i] == OUTSIDE) continue;
          T product = cuda_load(x[from[k][i]]) * g;
          CUDA_UNROLL
          for (int d = 0; d < Shape::dims; d++) sum[d] += product * pull[d][k][i];
        }
      }
      CUDA_UNROLL
      for (int d = 0; d < Shape::dims; d++) {
        T total = team.join(sum[d], cuda_sum());
        if (team.lane == 0 && i < tile.count)
          cuda_store((S *)p.pulls + to[i] + (Shape::dims - 1 - d) * p.number_step[PULLS], total);
      }
    }
    __syncthreads();
  }
}

// -- the gradient of the image

// Neighbours of some images, an image's one behind the other: in the order of positions, then of
// pixels.
template <typename T>
struct grid_list {
  int64_t image, images;       // the first, and how many
  int64_t length;              // neighbours of an image
  moon_dtype dtype;            // of pixels' numbers; the number of pixels where it lies outside
  void *pixel, *sorted;        // in the first order, in the second
  T *weight, *sorted_weight;
  int64_t *from;               // in the second order: which neighbour, then where its gradient lies
  int64_t *first, *last;       // of each pixel, in the second order; both 0 where it has none
};

template <typename S, typename Shape>
static __global__ void list_neighbours(grid_pass<cuda_compute<S>> p,
                                       grid_list<cuda_compute<S>> list) {
  CUDA_EACH(item, list.images * p.positions.count) {
    int64_t image = item / p.positions.count, at[OPERANDS];
    p.positions.find(item - image * p.positions.count, at);
    const grid_neighbours<S, Shape> near(p, list.image + image, at[COORDINATES]);
    CUDA_UNROLL
    for (int k = 0; k < Shape::taps; k++) {
      int64_t number = near.inside(k) ? near.number(p, k) : p.pixels.count;
      cuda_any<int64_t>::store(list.dtype, list.pixel, item * Shape::taps + k, number);
      list.weight[item * Shape::taps + k] = near.weight(k);
    }
  }
}

template <typename T>
static __global__ void find_pixels(grid_pass<T> p, grid_list<T> list, int taps) {
  CUDA_EACH(i, list.images * list.length) {
    int64_t image = i / list.length, place = i - image * list.length, at[OPERANDS];
    int64_t pixel = cuda_any<int64_t>::load(list.dtype, list.sorted, i);
    int64_t neighbour = list.from[i];
    if (pixel == p.pixels.count) continue;
    list.sorted_weight[i] = list.weight[image * list.length + neighbour];
    p.positions.find(neighbour / taps, at);
    list.from[i] = at[VALUES] + (list.image + image) * p.image_step[VALUES];
    int64_t *first = list.first + image * p.pixels.count + pixel;
    int64_t *last = list.last + image * p.pixels.count + pixel;
    if (place == 0 || cuda_any<int64_t>::load(list.dtype, list.sorted, i - 1) != pixel) *first = i;
    if (place + 1 == list.length ||
        cuda_any<int64_t>::load(list.dtype, list.sorted, i + 1) != pixel)
      *last = i + 1;
  }
}

// Adds up neighbours first .. last - 1 for the channel that `gradient` points to.
template <typename S>
static __device__ cuda_compute<S> add_neighbours(const grid_list<cuda_compute<S>> &list,
                                                 const S *gradient, int64_t first, int64_t last) {
  cuda_compute<S> sum = 0, terms[TOGETHER];
  for (int64_t i = first; i < last; i += TOGETHER) {
    CUDA_UNROLL
    for (int k = 0; k < TOGETHER; k++)
      if (i + k < last)
        terms[k] = cuda_load(gradient[list.from[i + k]]) * list.sorted_weight[i + k];
    CUDA_UNROLL
    for (int k = 0; k < TOGETHER; k++)
      if (i + k < last) sum += terms[k];
  }
  return sum;
}

template <typename S>
static __global__ void gather_gradients(grid_pass<cuda_compute<S>> p,
                                        grid_list<cuda_compute<S>> list, int64_t items,
                                        int64_t parts) {
  const cuda_team team(p.across);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const grid_tile tile(item, p.pixels.count, p.channels, parts);
    for (int i = team.number; i < tile.count; i += team.teams) {
      int64_t pixel = tile.image * p.pixels.count + tile.first + i, at[1];
      p.pixels.find(tile.first + i, at);
      S *dx = (S *)p.dx + (list.image + tile.image) * p.dx_image + at[0];
      for (int64_t c = tile.channel + team.lane; c < tile.last; c += team.lanes)
        cuda_store(dx + c * p.dx_channel,
                   add_neighbours(list, (const S *)p.values + c * p.number_step[VALUES],
                                  list.first[pixel], list.last[pixel]));
    }
  }
}

// -- launching

// The grid, or its gradient, as an array of out's dimensions, its numbers where the channels are.
static device_array like_image(const device_array *grid) {
  device_array y = *grid;
  const int last = grid->ndim - 1;
  y.shape[1] = grid->shape[last];
  y.strides[1] = grid->strides[last];
  for (int i = 1; i < last; i++) {
    y.shape[1 + i] = grid->shape[i];
    y.strides[1 + i] = grid->strides[i];
  }
  return y;
}

// Channels lie side by side, unless those of a pixel lie farther apart than its neighbours do.
static bool lies_across(const device_array *x) {
  const int last = x->ndim - 1;
  int64_t next = x->shape[last] > 1 ? x->strides[last] : x->strides[last - 1];
  return x->shape[1] == 1 || cuda_magnitude(x->strides[1]) >= cuda_magnitude(next);
}

template <typename T>
static grid_pass<T> pass_of(const grid_options *options, const device_array *x,
                            const device_array *grid, const device_array *values,
                            const device_array *dgrid) {
  grid_pass<T> p = {};
  const device_array coordinates = like_image(grid), pulls = like_image(dgrid ? dgrid : grid);
  const device_array *arrays[] = { &coordinates, values, &pulls };
  cuda_walk_open(&p.positions, arrays, false, 3u);
  for (int k = 0; k < OPERANDS; k++) {
    p.image_step[k] = arrays[k]->strides[0];
    p.number_step[k] = arrays[k]->strides[1];
  }
  for (int d = 0; d < x->ndim - 2; d++) {
    grid_axis_open(options, x->shape[2 + d], &p.axes[d]);
    p.x_step[d] = x->strides[2 + d];
  }
  p.across = lies_across(x);
  p.lanes = LEAST_LANES;
  while (!p.across && p.lanes < CUDA_WARP && p.lanes < x->shape[1]) p.lanes *= 2;
  p.images = x->shape[0];
  p.channels = x->shape[1];
  p.grid = grid->data;
  p.x = x->data;
  p.values = values->data;
  p.pulls = dgrid ? dgrid->data : NULL;
  p.x_image = x->strides[0];
  p.x_channel = x->strides[1];
  return p;
}

static int64_t tiles_of(int64_t images, int64_t all) { return images * ((all + TILE - 1) / TILE); }

// Calls fn(shape) with what the image's dimensions and the mode, which has a slope, make.
template <typename Fn>
static moon_status with_sloped_shape(const grid_options *options, const device_array *x, Fn fn) {
  if (x->ndim == 5) return fn(grid_shape<3, 2>());
  return options->mode == GRID_BICUBIC ? fn(grid_shape<2, GRID_SIDE_TAPS>())
                                       : fn(grid_shape<2, 2>());
}

// The same for any mode.
template <typename Fn>
static moon_status with_shape(const grid_options *options, const device_array *x, Fn fn) {
  if (options->mode != GRID_NEAREST) return with_sloped_shape(options, x, fn);
  return x->ndim == 5 ? fn(grid_shape<3, 1>()) : fn(grid_shape<2, 1>());
}

moon_status cuda_grid_sample_forward(cuda_context *c, const grid_options *options,
                                     const device_array *x, const device_array *grid,
                                     const device_array *out) {
  if (array_count(out) == 0) return MOON_OK;
  return cuda_with_float(x->dtype, [&](auto element) {
    return with_shape(options, x, [&](auto shape) {
      typedef decltype(element) S;
      const auto p = pass_of<cuda_compute<S>>(options, x, grid, out, NULL);
      int64_t parts = parts_of(p.channels), items = tiles_of(p.images, p.positions.count) * parts;
      return cuda_launch(c, cuda_blocks(items, 1), p.block(), sample<S, decltype(shape)>, p, items,
                         parts);
    });
  });
}

static moon_status grid_gradient(cuda_context *c, const grid_options *options,
                                 const device_array *gradient, const device_array *x,
                                 const device_array *grid, const device_array *dgrid) {
  if (array_count(dgrid) == 0) return MOON_OK;
  if (x->shape[1] == 0) return cuda_fill(c, 0, dgrid);
  return cuda_with_float(x->dtype, [&](auto element) {
    return with_sloped_shape(options, x, [&](auto shape) {
      typedef decltype(element) S;
      const auto p = pass_of<cuda_compute<S>>(options, x, grid, gradient, dgrid);
      int64_t items = tiles_of(p.images, p.positions.count);
      return cuda_launch(c, cuda_blocks(items, 1), p.block(), pull_grid<S, decltype(shape)>, p,
                         items);
    });
  });
}

// A matrix in scratch, whose rows lie one behind the other.
static moon_status take_rows(cuda_scratch *space, moon_dtype dtype, int64_t rows, int64_t columns,
                             device_array *array) {
  MOON_TRY(space->take((size_t)(rows * columns) * dtype_size(dtype)));
  *array = {};
  array->data = space->as<void>();
  array->dtype = dtype;
  array->ndim = 2;
  array->shape[0] = rows;
  array->shape[1] = array->strides[0] = columns;
  array->strides[1] = 1;
  return MOON_OK;
}

// dx of `list`'s images, whose sizes are filled in.
template <typename S, typename Shape>
static moon_status some_images(cuda_context *c, const grid_pass<cuda_compute<S>> &p,
                               grid_list<cuda_compute<S>> list) {
  typedef cuda_compute<S> T;
  cuda_scratch spaces[] = { cuda_scratch(c), cuda_scratch(c), cuda_scratch(c) };
  cuda_scratch weights(c), ranges(c);
  device_array pixel, sorted, order;
  MOON_TRY(take_rows(&spaces[0], list.dtype, list.images, list.length, &pixel));
  MOON_TRY(take_rows(&spaces[1], list.dtype, list.images, list.length, &sorted));
  MOON_TRY(take_rows(&spaces[2], MOON_I64, list.images, list.length, &order));
  const int64_t all = list.images * list.length, pixels = list.images * p.pixels.count;
  const size_t range_bytes = 2 * (size_t)pixels * sizeof(int64_t);
  MOON_TRY(weights.take(2 * (size_t)all * sizeof(T)));
  MOON_TRY(ranges.take(range_bytes));
  list.pixel = pixel.data;
  list.sorted = sorted.data;
  list.weight = weights.as<T>();
  list.sorted_weight = list.weight + all;
  list.from = (int64_t *)order.data;
  list.first = ranges.as<int64_t>();
  list.last = list.first + pixels;
  CUDA_TRY(cudaMemsetAsync(list.first, 0, range_bytes, c->stream));
  MOON_TRY(cuda_launch(c, cuda_blocks(all / Shape::taps), CUDA_BLOCK, list_neighbours<S, Shape>, p,
                       list));
  MOON_TRY(cuda_sort(c, 1, false, &pixel, &sorted, &order));
  MOON_TRY(cuda_launch(c, cuda_blocks(all), CUDA_BLOCK, find_pixels<T>, p, list, Shape::taps));
  int64_t parts = parts_of(p.channels), items = tiles_of(list.images, p.pixels.count) * parts;
  return cuda_launch(c, cuda_blocks(items, 1), p.block(), gather_gradients<S>, p, list, items,
                     parts);
}

// Scratch for a neighbour: two numbers of pixels and where the gradient lies, two weights, and what
// sorting takes; and for a pixel.
enum { NEIGHBOUR_BYTES = 3 * 8 + 2 * 8 + 2 * 16, PIXEL_BYTES = 2 * 8 };

template <typename S, typename Shape>
static moon_status image_gradient(cuda_context *c, const grid_pass<cuda_compute<S>> &p) {
  grid_list<cuda_compute<S>> list = {};
  list.length = p.positions.count * Shape::taps;
  list.dtype = p.pixels.count < INT32_MAX ? MOON_I32 : MOON_I64;
  int64_t bytes = list.length * NEIGHBOUR_BYTES + p.pixels.count * PIXEL_BYTES;
  int64_t together = cuda_library->settings(c->engine).workspace_limit / bytes;
  if (together < 1) together = 1;
  for (; list.image < p.images; list.image += list.images) {
    list.images = p.images - list.image < together ? p.images - list.image : together;
    MOON_TRY((some_images<S, Shape>(c, p, list)));
  }
  return MOON_OK;
}

static moon_status dx_gradient(cuda_context *c, const grid_options *options,
                               const device_array *gradient, const device_array *x,
                               const device_array *grid, const device_array *dx) {
  if (array_count(dx) == 0) return MOON_OK;
  if (array_count(gradient) == 0) return cuda_fill(c, 0, dx);
  return cuda_with_float(x->dtype, [&](auto element) {
    return with_shape(options, x, [&](auto shape) {
      typedef decltype(element) S;
      auto p = pass_of<cuda_compute<S>>(options, x, grid, gradient, NULL);
      const device_array *arrays[] = { dx };
      cuda_walk_open(&p.pixels, arrays, false, 3u);
      p.across = lies_across(dx);
      p.dx = dx->data;
      p.dx_image = dx->strides[0];
      p.dx_channel = dx->strides[1];
      return image_gradient<S, decltype(shape)>(c, p);
    });
  });
}

moon_status cuda_grid_sample_backward(cuda_context *c, const grid_options *options,
                                      const device_array *gradient, const device_array *x,
                                      const device_array *grid, const device_array *dx,
                                      const device_array *dgrid) {
  if (dx) MOON_TRY(dx_gradient(c, options, gradient, x, grid, dx));
  return dgrid ? grid_gradient(c, options, gradient, x, grid, dgrid) : MOON_OK;
}
