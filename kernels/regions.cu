// Pooling boxes of images, as torchvision counts (He et al. 2017, Girshick 2015). A box may lie
// anywhere and have any size, NaN too: coordinates are limited before they become whole numbers,
// and of its samples only those inside the image are visited.
//
// A thread has one element of the result, in the order of its memory; what it reads, and how much
// of it, depends on the boxes. The gradient is gathered: a bilinear sample's weights are a row's
// times a column's, so a table for each direction says how much of every bin goes to each row and
// each column of the image, and an element of dx adds up those of the boxes that reach it, in their
// order.
#include "walk.cuh"

// Farther than any image reaches; and samples of a direction that are visited without asking where
// they lie.
enum { FAR = 1 << 30, FEW_SAMPLES = 256 };

enum { TARGET, OUTER, CHANNEL, ROW, COLUMN, OPERANDS };   // OUTER: the box, or the image

struct region_pass {
  cuda_walk<OPERANDS> walk;   // over what is written
  region_options options;
  moon_dtype dtype;
  int64_t boxes, height, width, rows, columns;   // of images; of bins
  const void *box, *source;   // source: x, or the gradient
  const int64_t *image;       // of each box
  int64_t box_step, corner_step, image_step, source_step[4];
  void *target;
};

struct region_range { int64_t first, last; };   // last: not in it

template <typename T>
static __device__ T corner(const region_pass &p, int64_t box, int k) {
  return cuda_any<T>::load(p.dtype, p.box, box * p.box_step + k * p.corner_step);
}

// -- the largest element of each bin

template <typename T>
static __device__ int64_t whole(T value) {
  if (!(value > -(T)FAR)) return -(int64_t)FAR;
  return value < (T)FAR ? (int64_t)value : (int64_t)FAR;
}

// Bin `i` of `count` of a box from `low` to `high` pixels, cut to `size`.
template <typename T>
static __device__ region_range bin_of(T low, T high, int64_t i, int64_t count, int64_t size) {
  int64_t start = whole(round(low)), end = whole(round(high));
  int64_t length = end - start + 1 > 1 ? end - start + 1 : 1;
  T bin = (T)length / (T)count;
  region_range r = { start + whole(floor((T)i * bin)), start + whole(ceil((T)(i + 1) * bin)) };
  if (r.first < 0) r.first = 0;
  if (r.last > size) r.last = size;
  return r;
}

template <typename T>
static __global__ void find_largest(region_pass p, int64_t channels) {
  const T scale = (T)p.options.scale;
  CUDA_EACH(item, p.walk.count) {
    int64_t at[OPERANDS];
    p.walk.find(item, at);
    int64_t box = at[OUTER], image = p.image[box * p.image_step], place = -1;
    region_range down = bin_of(corner<T>(p, box, 1) * scale, corner<T>(p, box, 3) * scale,
                               at[ROW], p.rows, p.height);
    region_range across = bin_of(corner<T>(p, box, 0) * scale, corner<T>(p, box, 2) * scale,
                                 at[COLUMN], p.columns, p.width);
    int64_t plane = image * p.source_step[0] + at[CHANNEL] * p.source_step[1];
    T best = 0;
    for (int64_t y = down.first; y < down.last; y++)
      for (int64_t x = across.first; x < across.last; x++) {
        T value = cuda_any<T>::load(p.dtype, p.source,
                                    plane + y * p.source_step[2] + x * p.source_step[3]);
        if (place >= 0 && !(value > best)) continue;
        best = value;
        place = y * p.width + x;
      }
    ((int64_t *)p.target)[at[TARGET]] =
        place < 0 ? 0 : (image * channels + at[CHANNEL]) * p.height * p.width + place + 1;
  }
}

// -- bilinear samples: sample k of bin i lies at start + i * bin + (k + 0.5) * bin / grid

// The two elements a sample lies between, and the share of the second; none: outside.
template <typename T>
struct region_sample { int64_t low, high; T part; bool none; };

template <typename T>
struct region_direction {
  T start, bin, grid;
  int64_t count, size, sampling;   // bins; pixels of the image

  __device__ void open(const region_options &o, T low, T high, int64_t bins, int64_t pixels) {
    T scale = (T)o.scale, offset = o.aligned ? (T)0.5 : (T)0;
    T length = high * scale - offset - (low * scale - offset);
    if (!o.aligned && !(length >= 1)) length = 1;
    start = low * scale - offset;
    bin = length / (T)bins;
    count = bins;
    size = pixels;
    sampling = o.sampling;
    grid = sampling > 0 ? (T)sampling : ceil(bin);
  }
  __device__ region_sample<T> sample(int64_t i, int64_t k) const {
    T at = start + (T)i * bin + ((T)k + (T)0.5) * bin / grid;
    region_sample<T> s = { 0, 0, 0, !(at >= -1 && at <= (T)size) };
    if (s.none) return s;
    if (at < 0) at = 0;
    s.low = (int64_t)at;
    if (s.low >= size - 1) {
      s.low = s.high = size - 1;
    } else {
      s.high = s.low + 1;
      s.part = at - (T)s.low;
    }
    return s;
  }
  // Samples of a bin that can lie inside the image; a box far larger than it has very many others.
  __device__ region_range inside(int64_t i) const {
    if (grid >= 1 && grid * (T)count <= FEW_SAMPLES) return { 0, (int64_t)grid };
    double step = (double)(bin / grid), base = (double)(start + (T)i * bin);
    double from = (-1 - base) / step, to = ((double)size - base) / step;
    if (from != from || to != to) return { 0, sampling };
    region_range r = { dtype_to_int(floor(from < to ? from : to) - 2),   // it may be turned round
                       dtype_to_int(ceil(from < to ? to : from) + 2) };
    int64_t all = dtype_to_int((double)grid);
    if (!(r.first > 0)) r.first = 0;
    if (!(r.last < all)) r.last = all;
    return r;
  }
};

template <typename T>
struct region {
  region_direction<T> down, across;

  __device__ region(const region_pass &p, int64_t box) {
    down.open(p.options, corner<T>(p, box, 1), corner<T>(p, box, 3), p.rows, p.height);
    across.open(p.options, corner<T>(p, box, 0), corner<T>(p, box, 2), p.columns, p.width);
  }
  __device__ T share() const {
    T samples = down.grid * across.grid;
    return samples > 1 ? 1 / samples : (T)1;
  }
};

template <typename T>
static __global__ void align(region_pass p) {
  CUDA_EACH(item, p.walk.count) {
    int64_t at[OPERANDS];
    p.walk.find(item, at);
    const region<T> r(p, at[OUTER]);
    region_range rows = r.down.inside(at[ROW]), columns = r.across.inside(at[COLUMN]);
    int64_t plane = p.image[at[OUTER] * p.image_step] * p.source_step[0] +
                    at[CHANNEL] * p.source_step[1];
    auto x = [&](int64_t row, int64_t column) {
      return cuda_any<T>::load(p.dtype, p.source,
                               plane + row * p.source_step[2] + column * p.source_step[3]);
    };
    T sum = 0;
    for (int64_t k = rows.first; k < rows.last; k++) {
      region_sample<T> v = r.down.sample(at[ROW], k);
      for (int64_t l = columns.first; l < columns.last && !v.none; l++) {
        region_sample<T> h = r.across.sample(at[COLUMN], l);
        if (h.none) continue;
        sum += (1 - v.part) * ((1 - h.part) * x(v.low, h.low) + h.part * x(v.low, h.high)) +
               v.part * ((1 - h.part) * x(v.high, h.low) + h.part * x(v.high, h.high));
      }
    }
    cuda_any<T>::store(p.dtype, p.target, at[TARGET], sum * r.share());
  }
}

// -- its gradient

// What of the image a box reaches, and the share of one sample; empty ranges: nothing.
template <typename T>
struct region_reach { region_range rows, columns; T share; };

// Adds one direction's samples to a table of (bins, pixels), which is 0; gives what they reach.
template <typename T>
static __device__ region_range spread(const region_direction<T> &d, T *table) {
  region_range reach = { d.size, 0 };
  for (int64_t i = 0; i < d.count; i++) {
    region_range samples = d.inside(i);
    for (int64_t k = samples.first; k < samples.last; k++) {
      region_sample<T> s = d.sample(i, k);
      if (s.none) continue;
      table[i * d.size + s.low] += 1 - s.part;
      table[i * d.size + s.high] += s.part;
      if (s.low < reach.first) reach.first = s.low;
      if (s.high >= reach.last) reach.last = s.high + 1;
    }
  }
  return reach;
}

// down: (boxes, rows, height), across: (boxes, columns, width).
template <typename T>
struct region_tables {
  T *down, *across;
  region_reach<T> *reaches;
};

template <typename T>
static __global__ void fill_tables(region_pass p, region_tables<T> tables) {
  CUDA_EACH(item, 2 * p.boxes) {
    int64_t box = item / 2;
    const region<T> r(p, box);
    if (item % 2 == 0) {
      tables.reaches[box].rows = spread(r.down, tables.down + box * p.rows * p.height);
      tables.reaches[box].share = r.share();
    } else {
      tables.reaches[box].columns = spread(r.across, tables.across + box * p.columns * p.width);
    }
  }
}

static __device__ bool holds(const region_range &range, int64_t at) {
  return at >= range.first && at < range.last;
}

template <typename T>
static __global__ void gather_gradients(region_pass p, region_tables<T> tables) {
  CUDA_EACH(item, p.walk.count) {
    int64_t at[OPERANDS];
    T total = 0;
    p.walk.find(item, at);
    for (int64_t box = 0; box < p.boxes; box++) {
      const region_reach<T> &reach = tables.reaches[box];
      if (p.image[box * p.image_step] != at[OUTER] || !holds(reach.rows, at[ROW]) ||
          !holds(reach.columns, at[COLUMN]))
        continue;
      const T *down = tables.down + box * p.rows * p.height + at[ROW];
      const T *across = tables.across + box * p.columns * p.width + at[COLUMN];
      int64_t plane = box * p.source_step[0] + at[CHANNEL] * p.source_step[1];
      T sum = 0;
      for (int64_t i = 0; i < p.rows; i++) {
        if (down[i * p.height] == 0) continue;
        for (int64_t j = 0; j < p.columns; j++) {
          if (across[j * p.width] == 0) continue;
          int64_t bin = plane + i * p.source_step[2] + j * p.source_step[3];
          sum += down[i * p.height] * across[j * p.width] *
                 cuda_any<T>::load(p.dtype, p.source, bin);
        }
      }
      total += sum * reach.share;
    }
    cuda_any<T>::store(p.dtype, p.target, at[TARGET], total);
  }
}

// -- launching

// `image` and `pooled` give the sizes; target is one of them, source the other.
static region_pass pass_of(const region_options *options, const device_array *image,
                           const device_array *pooled, const device_array *boxes,
                           const device_array *images, const device_array *source,
                           const device_array *target) {
  region_pass p = {};
  device_array positions[4] = {};
  const device_array *arrays[OPERANDS] = { target };
  for (int i = 0; i < 4; i++) {
    positions[i].strides[i] = 1;
    arrays[OUTER + i] = &positions[i];
    p.source_step[i] = source->strides[i];
  }
  cuda_walk_open(&p.walk, arrays, true);
  p.options = *options;
  p.dtype = boxes->dtype;
  p.boxes = boxes->shape[0];
  p.height = image->shape[2];
  p.width = image->shape[3];
  p.rows = pooled->shape[2];
  p.columns = pooled->shape[3];
  p.box = boxes->data;
  p.box_step = boxes->strides[0];
  p.corner_step = boxes->strides[1];
  p.image = (const int64_t *)images->data;
  p.image_step = images->strides[0];
  p.source = source->data;
  p.target = target->data;
  return p;
}

moon_status cuda_roi_places(cuda_context *c, const region_options *options, const device_array *x,
                            const device_array *boxes, const device_array *images,
                            const device_array *out) {
  if (array_count(out) == 0) return MOON_OK;
  region_pass p = pass_of(options, x, out, boxes, images, x, out);
  return cuda_with_real(x->dtype, [&](auto type) {
    return cuda_launch(c, cuda_blocks(p.walk.count), CUDA_BLOCK, find_largest<decltype(type)>, p,
                       x->shape[1]);
  });
}

moon_status cuda_roi_align(cuda_context *c, const region_options *options, const device_array *x,
                           const device_array *boxes, const device_array *images,
                           const device_array *out) {
  if (array_count(out) == 0) return MOON_OK;
  region_pass p = pass_of(options, x, out, boxes, images, x, out);
  return cuda_with_real(x->dtype, [&](auto type) {
    return cuda_launch(c, cuda_blocks(p.walk.count), CUDA_BLOCK, align<decltype(type)>, p);
  });
}

moon_status cuda_roi_align_backward(cuda_context *c, const region_options *options,
                                    const device_array *gradient, const device_array *boxes,
                                    const device_array *images, const device_array *dx) {
  cuda_scratch weights(c), reaches(c);
  if (array_count(dx) == 0) return MOON_OK;
  region_pass p = pass_of(options, dx, gradient, boxes, images, gradient, dx);
  return cuda_with_real(dx->dtype, [&](auto type) {
    typedef decltype(type) T;
    int64_t down = p.boxes * p.rows * p.height, across = p.boxes * p.columns * p.width;
    size_t bytes = (size_t)(down + across) * sizeof(T);
    MOON_TRY(weights.take(bytes));
    MOON_TRY(reaches.take((size_t)p.boxes * sizeof(region_reach<T>)));
    region_tables<T> tables = { weights.as<T>(), weights.as<T>() + down,
                                reaches.as<region_reach<T>>() };
    if (bytes > 0) CUDA_TRY(cudaMemsetAsync(tables.down, 0, bytes, c->stream));
    MOON_TRY(cuda_launch(c, cuda_blocks(2 * p.boxes), CUDA_BLOCK, fill_tables<T>, p, tables));
    return cuda_launch(c, cuda_blocks(p.walk.count), CUDA_BLOCK, gather_gradients<T>, p, tables);
  });
}
