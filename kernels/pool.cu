// Pooling of (n, c, h, w) arrays in any layout. A thread has one element of what is written, or 8
// channels of it that lie side by side, and visits the windows' elements that go with it: forward
// those of its window, backward the windows that hold it, so that nothing is added by two threads.
// Threads go in the order of the result's memory; overlapping windows read the same lines, from the
// caches, and all passes are bound by reading and writing each array once.
//
// Which element of its window was largest is told by a number, see max_pool2d_forward in
// kernels.def. A NaN in a window is its maximum; padding never is.
#include "elementwise.cuh"

// -- geometry: one axis of it

struct pool_axis {
  int kernel, stride, padding, dilation;
  int size, windows;     // of the image, and how many windows
  cuda_divisor by_stride;
};

// Positions first, first + dilation, ... < last of a window that lie inside the image. padded: how
// many positions there are with the padding.
struct pool_window { int first, last, padded; };

static __device__ pool_window window_at(const pool_axis &a, int index) {
  int start = index * a.stride - a.padding, end = start + (a.kernel - 1) * a.dilation + 1;
  int edge = a.size + a.padding;
  pool_window window = { start, end, (end < edge ? end : edge) - start };
  if (start < 0) window.first = start + (-start + a.dilation - 1) / a.dilation * a.dilation;
  if (end > a.size) window.last = a.size;
  return window;
}

// Windows first ... last - 1 that may hold a position.
struct pool_cover { int first, last; };

static __device__ pool_cover cover_of(const pool_axis &a, int at) {
  int reach = at + a.padding, before = reach - (a.kernel - 1) * a.dilation;
  pool_cover cover = { 0, (int)cuda_divide((uint32_t)reach, a.by_stride) + 1 };
  if (before > 0) cover.first = (int)cuda_divide((uint32_t)(before + a.stride - 1), a.by_stride);
  if (cover.last > a.windows) cover.last = a.windows;
  return cover;
}

// Which of a window's taps lies at a position; -1: it steps over it.
static __device__ int tap_at(const pool_axis &a, int index, int at) {
  int off = at + a.padding - index * a.stride;
  if (a.dilation == 1) return off;
  return off % a.dilation == 0 ? off / a.dilation : -1;
}

// -- a pass: targets are the elements written, each with a plane of the source

enum { TARGET, NUMBERS, SOURCE, ROW, COLUMN, OPERANDS };

struct pool_pass {
  cuda_walk<OPERANDS> walk;
  pool_axis down, across;
  moon_dtype dtype, numbers_dtype;
  void *target, *numbers;              // numbers: NULL where there are none
  const void *source;
  int64_t source_row, source_column;   // strides
  int64_t numbers_row, numbers_column; // backward
  bool include_pad;                    // averages
  int64_t divisor;

  // Where an element of the source's plane lies.
  __device__ int64_t in_plane(int64_t plane, int row, int column) const {
    return plane + row * source_row + column * source_column;
  }
  // The number of the element (y, x) in window (i, j); -1 where the window steps over it. Where
  // nobody asks, planes may be larger than numbers.
  __device__ int number(int i, int j, int y, int x) const {
    if (!numbers) return 0;
    if (numbers_dtype != MOON_U8) return y * across.size + x;
    int row = tap_at(down, i, y), column = tap_at(across, j, x);
    return row < 0 || column < 0 ? -1 : row * across.kernel + column;
  }
  // One over the number of elements an average is taken of.
  template <typename T>
  __device__ T share(pool_window rows, pool_window columns) const {
    if (divisor != 0) return (T)1 / (T)divisor;
    if (rows.last <= rows.first || columns.last <= columns.first) return 0;
    if (include_pad) return (T)1 / (T)((int64_t)rows.padded * columns.padded);
    return (T)1 / (T)((int64_t)(rows.last - rows.first) * (columns.last - columns.first));
  }
};

// -- largest elements

template <typename S, int WIDTH>
static __global__ void max_forward(pool_pass p) {
  typedef cuda_compute<S> T;
  CUDA_EACH(chunk, p.walk.count / WIDTH) {
    int64_t at[OPERANDS], where[WIDTH];
    T best[WIDTH], values[WIDTH];
    p.walk.find(chunk * WIDTH, at);
    int i = (int)at[ROW], j = (int)at[COLUMN];
    pool_window rows = window_at(p.down, i), columns = window_at(p.across, j);
    for (int v = 0; v < WIDTH; v++) {
      best[v] = -(T)INFINITY;
      where[v] = -1;
    }
    for (int y = rows.first; y < rows.last; y += p.down.dilation)
      for (int x = columns.first; x < columns.last; x += p.across.dilation) {
        int number = p.number(i, j, y, x);
        cuda_load_wide<S, WIDTH>(p.source, p.in_plane(at[SOURCE], y, x), values);
        for (int v = 0; v < WIDTH; v++) {
          if (!(values[v] > best[v] || values[v] != values[v] || where[v] < 0)) continue;
          best[v] = values[v];
          where[v] = number;
        }
      }
    cuda_store_wide<S, WIDTH>(p.target, at[TARGET], best);
    if (p.numbers)   // of none, -1, a byte keeps POOL_BYTE_TAPS
      cuda_store_wide<int64_t, WIDTH>(p.numbers_dtype, p.numbers, at[NUMBERS], where);
  }
}

template <typename S, int WIDTH>
static __global__ void max_backward(pool_pass p) {
  typedef cuda_compute<S> T;
  CUDA_EACH(chunk, p.walk.count / WIDTH) {
    int64_t at[OPERANDS], where[WIDTH];
    T sums[WIDTH] = {}, gs[WIDTH];
    p.walk.find(chunk * WIDTH, at);
    int y = (int)at[ROW], x = (int)at[COLUMN];
    pool_cover rows = cover_of(p.down, y), columns = cover_of(p.across, x);
    for (int i = rows.first; i < rows.last; i++)
      for (int j = columns.first; j < columns.last; j++) {
        int number = p.number(i, j, y, x);
        if (number < 0) continue;
        cuda_load_wide<int64_t, WIDTH>(p.numbers_dtype, p.numbers,
                                       at[NUMBERS] + i * p.numbers_row + j * p.numbers_column,
                                       where);
        cuda_load_wide<S, WIDTH>(p.source, p.in_plane(at[SOURCE], i, j), gs);
        for (int v = 0; v < WIDTH; v++) sums[v] += where[v] == number ? gs[v] : (T)0;
      }
    cuda_store_wide<S, WIDTH>(p.target, at[TARGET], sums);
  }
}

// -- averages

template <typename S, int WIDTH>
static __global__ void avg_forward(pool_pass p) {
  typedef cuda_compute<S> T;
  CUDA_EACH(chunk, p.walk.count / WIDTH) {
    int64_t at[OPERANDS];
    T sums[WIDTH] = {}, values[WIDTH];
    p.walk.find(chunk * WIDTH, at);
    pool_window rows = window_at(p.down, (int)at[ROW]);
    pool_window columns = window_at(p.across, (int)at[COLUMN]);
    for (int y = rows.first; y < rows.last; y++)
      for (int x = columns.first; x < columns.last; x++) {
        cuda_load_wide<S, WIDTH>(p.source, p.in_plane(at[SOURCE], y, x), values);
        for (int v = 0; v < WIDTH; v++) sums[v] += values[v];
      }
    const T share = p.share<T>(rows, columns);
    for (int v = 0; v < WIDTH; v++) sums[v] *= share;
    cuda_store_wide<S, WIDTH>(p.target, at[TARGET], sums);
  }
}

template <typename S, int WIDTH>
static __global__ void avg_backward(pool_pass p) {
  typedef cuda_compute<S> T;
  CUDA_EACH(chunk, p.walk.count / WIDTH) {
    int64_t at[OPERANDS];
    T sums[WIDTH] = {}, gs[WIDTH];
    p.walk.find(chunk * WIDTH, at);
    pool_cover rows = cover_of(p.down, (int)at[ROW]), columns = cover_of(p.across, (int)at[COLUMN]);
    for (int i = rows.first; i < rows.last; i++)
      for (int j = columns.first; j < columns.last; j++) {
        const T share = p.share<T>(window_at(p.down, i), window_at(p.across, j));
        cuda_load_wide<S, WIDTH>(p.source, p.in_plane(at[SOURCE], i, j), gs);
        for (int v = 0; v < WIDTH; v++) sums[v] += gs[v] * share;
      }
    cuda_store_wide<S, WIDTH>(p.target, at[TARGET], sums);
  }
}

// -- where the largest elements lie

static __global__ void find_places(pool_pass p) {
  CUDA_EACH(k, p.walk.count) {
    int64_t at[OPERANDS];
    p.walk.find(k, at);
    int64_t number = cuda_any<int64_t>::load(p.numbers_dtype, p.numbers, at[NUMBERS]);
    if (p.numbers_dtype == MOON_U8 && number == POOL_BYTE_TAPS) {
      number = -1;
    } else if (p.numbers_dtype == MOON_U8) {
      int64_t y = at[ROW] * p.down.stride - p.down.padding +
                  number / p.across.kernel * p.down.dilation;
      int64_t x = at[COLUMN] * p.across.stride - p.across.padding +
                  number % p.across.kernel * p.across.dilation;
      number = y * p.across.size + x;
    }
    ((int64_t *)p.target)[at[TARGET]] = number;
  }
}

// -- launching

// Positions are calculated in 31 bits; of a stride that leads out of every image only that counts.
static moon_status axis_of(const pool2d_geometry *g, int axis, int64_t size, int64_t windows,
                           pool_axis *to) {
  const int64_t most = 1 << 28;
  int64_t stride = g->stride[axis] < most ? g->stride[axis] : most;
  int64_t reach = (g->kernel[axis] - 1) * g->dilation[axis];
  if (g->kernel[axis] > most || g->dilation[axis] > most || reach > most || size > most ||
      (windows - 1) * stride > most)
    return moon_fail(MOON_UNSUPPORTED, "pooling on CUDA takes images and windows of up to %lld "
                     "elements a side", (long long)most);
  *to = { (int)g->kernel[axis], (int)stride, (int)g->padding[axis], (int)g->dilation[axis],
          (int)size, (int)windows, cuda_divisor_of((uint32_t)stride) };
  return MOON_OK;
}

// The same array with one element for all of each plane, and as a number of its row or column.
static device_array plane_of(const device_array *array) {
  device_array plane = *array;
  plane.strides[2] = plane.strides[3] = 0;
  return plane;
}
static device_array position(int dim) {
  device_array numbers = {};
  numbers.strides[dim] = 1;
  return numbers;
}

// A pass over target's elements. `image` and `pooled` give the geometry's sizes; numbers may be
// NULL.
static moon_status pass_of(const pool2d_geometry *g, bool backward, const device_array *source,
                           const device_array *numbers, const device_array *target,
                           pool_pass *p) {
  const device_array *image = backward ? target : source, *pooled = backward ? source : target;
  const device_array *taken = numbers ? numbers : pooled;
  device_array source_plane = plane_of(source), numbers_plane = plane_of(taken);
  device_array row = position(2), column = position(3);
  const device_array *arrays[OPERANDS] = { target, backward ? &numbers_plane : taken,
                                           &source_plane, &row, &column };
  MOON_TRY(axis_of(g, 0, image->shape[2], pooled->shape[2], &p->down));
  MOON_TRY(axis_of(g, 1, image->shape[3], pooled->shape[3], &p->across));
  cuda_walk_open(&p->walk, arrays, true);
  p->dtype = target->dtype;
  p->numbers_dtype = taken->dtype;
  p->target = target->data;
  p->source = source->data;
  p->numbers = numbers ? numbers->data : NULL;
  p->source_row = source->strides[2];
  p->source_column = source->strides[3];
  p->numbers_row = taken->strides[2];
  p->numbers_column = taken->strides[3];
  p->include_pad = g->count_include_pad;
  p->divisor = g->divisor;
  return MOON_OK;
}

// Whether a thread may take 8 channels: rows and columns of every array begin at a chunk.
static bool goes_wide(const pool_pass *p) {
  bool wide = cuda_goes_wide(p->walk, TARGET, p->target) &&
              cuda_goes_wide(p->walk, SOURCE, p->source) &&
              p->source_row % CUDA_CHUNK == 0 && p->source_column % CUDA_CHUNK == 0;
  if (!p->numbers) return wide;
  return wide && cuda_goes_wide(p->walk, NUMBERS, p->numbers) &&
         p->numbers_row % CUDA_CHUNK == 0 && p->numbers_column % CUDA_CHUNK == 0;
}

#define LAUNCH_POOL(c, p, kernel)                                                              \
  cuda_with_float((p).dtype, [&](auto type) {                                                  \
    typedef decltype(type) S;                                                                  \
    const int64_t count = (p).walk.count;                                                      \
    if (!goes_wide(&(p)))                                                                      \
      return cuda_launch(c, cuda_blocks(count), CUDA_BLOCK, kernel<S, 1>, p);                  \
    return cuda_launch(c, cuda_blocks(count / CUDA_CHUNK), CUDA_BLOCK, kernel<S, CUDA_CHUNK>, p); \
  })

moon_status cuda_max_pool2d_forward(cuda_context *c, const pool2d_geometry *geometry,
                                    const device_array *x, const device_array *out,
                                    const device_array *taken) {
  pool_pass p;
  if (array_count(out) == 0) return MOON_OK;
  MOON_TRY(pass_of(geometry, false, x, taken, out, &p));
  return LAUNCH_POOL(c, p, max_forward);
}

moon_status cuda_max_pool2d_backward(cuda_context *c, const pool2d_geometry *geometry,
                                     const device_array *gradient, const device_array *taken,
                                     const device_array *dx) {
  pool_pass p;
  if (array_count(dx) == 0) return MOON_OK;
  MOON_TRY(pass_of(geometry, true, gradient, taken, dx, &p));
  return LAUNCH_POOL(c, p, max_backward);
}

moon_status cuda_avg_pool2d_forward(cuda_context *c, const pool2d_geometry *geometry,
                                    const device_array *x, const device_array *out) {
  pool_pass p;
  if (array_count(out) == 0) return MOON_OK;
  MOON_TRY(pass_of(geometry, false, x, NULL, out, &p));
  return LAUNCH_POOL(c, p, avg_forward);
}

moon_status cuda_avg_pool2d_backward(cuda_context *c, const pool2d_geometry *geometry,
                                     const device_array *gradient, const device_array *dx) {
  pool_pass p;
  if (array_count(dx) == 0) return MOON_OK;
  MOON_TRY(pass_of(geometry, true, gradient, NULL, dx, &p));
  return LAUNCH_POOL(c, p, avg_backward);
}

moon_status cuda_max_pool2d_places(cuda_context *c, const pool2d_geometry *geometry,
                                   int64_t width, const device_array *taken,
                                   const device_array *places) {
  pool_pass p;
  device_array image = *places;
  image.shape[3] = width;
  if (array_count(places) == 0) return MOON_OK;
  MOON_TRY(pass_of(geometry, false, &image, taken, places, &p));
  return cuda_launch(c, cuda_blocks(p.walk.count), CUDA_BLOCK, find_places, p);
}
