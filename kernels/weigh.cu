// Weighted sums over spans of one dimension or of two, which resampling and adaptive pooling are
// made of. A thread has one element of the result, or 8 where those lie side by side beyond the
// dimension, and reads what its span holds; neighbours' spans overlap, and what they share comes
// from the caches, so that memory is the bound while spans are short. Two dimensions whose spans
// are long together go one after the other instead, by way of scratch in the compute type.
//
// The tables lie on the host and are small; they go up with each call.
#include "elementwise.cuh"

enum { MOST_TOGETHER = 64 };   // taps of both dimensions that one thread goes through

// A table on the device: spans[i] = from, to; weights[i * most ...] for them.
struct weigh_spans {
  const int64_t *spans;
  const double *weights;
  int64_t most, step;     // step: how far apart elements lie in the source
};

class weigh_table {
 public:
  explicit weigh_table(cuda_context *c) : context_(c), spans_(c), weights_(c) {}
  // `step` is x's along the dimension.
  moon_status open(const device_array *spans, const device_array *weights, int64_t step) {
    size_t span_bytes = (size_t)array_count(spans) * sizeof(int64_t);
    size_t weight_bytes = (size_t)array_count(weights) * sizeof(double);
    MOON_TRY(spans_.take(span_bytes));
    MOON_TRY(weights_.take(weight_bytes));
    MOON_TRY(cuda_upload(context_, spans->data, spans_.as<void>(), span_bytes));
    MOON_TRY(cuda_upload(context_, weights->data, weights_.as<void>(), weight_bytes));
    at = { spans_.as<int64_t>(), weights_.as<double>(), weights->shape[1], step };
    return MOON_OK;
  }
  weigh_spans at;

 private:
  cuda_context *context_;
  cuda_scratch spans_, weights_;
};

// -- kernels

enum { TARGET, SOURCE, ROW, COLUMN, OPERANDS };

struct weigh_pass {
  cuda_walk<OPERANDS> walk;   // over the result; SOURCE leaves out the dimensions of the spans
  moon_dtype dtype, target_dtype;
  const void *x;
  void *out;
};

// The weighted sum over span i of the elements at `at` and on.
template <typename T, int WIDTH>
static __device__ void weigh_span(const weigh_pass &p, const weigh_spans &s, int64_t i, int64_t at,
                                  T (&sums)[WIDTH]) {
  const int64_t first = s.spans[2 * i], last = s.spans[2 * i + 1];
  const double *weights = s.weights + i * s.most;
  for (int v = 0; v < WIDTH; v++) sums[v] = 0;
  for (int64_t k = first; k < last; k++) {
    const T weight = (T)weights[k - first];
    T values[WIDTH];
    cuda_load_wide<T, WIDTH>(p.dtype, p.x, at + k * s.step, values);
    for (int v = 0; v < WIDTH; v++) sums[v] += weight * values[v];
  }
}

template <typename T, int WIDTH>
static __global__ void weigh_line(weigh_pass p, weigh_spans down, weigh_spans) {
  CUDA_EACH(chunk, p.walk.count / WIDTH) {
    int64_t at[OPERANDS];
    T sums[WIDTH];
    p.walk.find(chunk * WIDTH, at);
    weigh_span(p, down, at[ROW], at[SOURCE], sums);
    cuda_store_wide<T, WIDTH>(p.target_dtype, p.out, at[TARGET], sums);
  }
}

template <typename T, int WIDTH>
static __global__ void weigh_plane(weigh_pass p, weigh_spans down, weigh_spans across) {
  CUDA_EACH(chunk, p.walk.count / WIDTH) {
    int64_t at[OPERANDS];
    T sums[WIDTH] = {}, column[WIDTH];
    p.walk.find(chunk * WIDTH, at);
    const int64_t first = across.spans[2 * at[COLUMN]], last = across.spans[2 * at[COLUMN] + 1];
    const double *weights = across.weights + at[COLUMN] * across.most;
    for (int64_t k = first; k < last; k++) {
      const T weight = (T)weights[k - first];
      weigh_span(p, down, at[ROW], at[SOURCE] + k * across.step, column);
      for (int v = 0; v < WIDTH; v++) sums[v] += weight * column[v];
    }
    cuda_store_wide<T, WIDTH>(p.target_dtype, p.out, at[TARGET], sums);
  }
}

// -- launching

// Over out, whose dimensions dim ... dim + dims - 1 are those of spans.
static weigh_pass pass_of(int dim, int dims, const device_array *x, const device_array *out) {
  weigh_pass p;
  device_array source = *x, row = {}, column = {};
  for (int i = dim; i < dim + dims; i++) source.strides[i] = 0;
  row.strides[dim] = 1;
  if (dims > 1) column.strides[dim + 1] = 1;
  const device_array *arrays[OPERANDS] = { out, &source, &row, &column };
  cuda_walk_open(&p.walk, arrays, true);
  p.dtype = x->dtype;
  p.target_dtype = out->dtype;
  p.x = x->data;
  p.out = out->data;
  return p;
}

// across: NULL for one dimension.
static moon_status launch(cuda_context *c, const weigh_pass &p, const weigh_spans &down,
                          const weigh_spans *across) {
  const int64_t count = p.walk.count;
  bool wide = cuda_goes_wide(p.walk, TARGET, p.out) && cuda_goes_wide(p.walk, SOURCE, p.x) &&
              down.step % CUDA_CHUNK == 0 && (!across || across->step % CUDA_CHUNK == 0);
  return cuda_with_real(p.dtype, [&](auto type) {
    typedef decltype(type) T;
    auto kernel = across ? (wide ? weigh_plane<T, CUDA_CHUNK> : weigh_plane<T, 1>)
                         : (wide ? weigh_line<T, CUDA_CHUNK> : weigh_line<T, 1>);
    return cuda_launch(c, cuda_blocks(wide ? count / CUDA_CHUNK : count), CUDA_BLOCK, kernel, p,
                       down, across ? *across : down);
  });
}

moon_status cuda_weigh(cuda_context *c, int dim, const device_array *x, const device_array *spans,
                       const device_array *weights, const device_array *out) {
  weigh_table table(c);
  if (array_count(out) == 0) return MOON_OK;
  MOON_TRY(table.open(spans, weights, x->strides[dim]));
  return launch(c, pass_of(dim, 1, x, out), table.at, NULL);
}

// What lies between the two dimensions: x with out's size along `dim`, dense, its innermost
// dimension x's.
static device_array between(int dim, const device_array *x, const device_array *out,
                            moon_dtype dtype) {
  device_array line = *x;
  int inner = x->ndim - 1;
  int64_t stride = 1;
  line.dtype = dtype;
  line.shape[dim] = out->shape[dim];
  for (int i = 0; i < x->ndim; i++)
    if (x->shape[i] > 1 && x->strides[i] == 1) inner = i;
  line.strides[inner] = stride;
  stride *= line.shape[inner];
  for (int i = x->ndim - 1; i >= 0; i--) {
    if (i == inner) continue;
    line.strides[i] = stride;
    stride *= line.shape[i];
  }
  return line;
}

moon_status cuda_weigh_planes(cuda_context *c, int dim, const device_array *x,
                              const device_array *const tables[4], const device_array *out) {
  weigh_table down(c), across(c);
  cuda_scratch lines(c);
  if (array_count(out) == 0) return MOON_OK;
  MOON_TRY(down.open(tables[0], tables[1], x->strides[dim]));
  if (tables[1]->shape[1] * tables[3]->shape[1] <= MOST_TOGETHER) {
    MOON_TRY(across.open(tables[2], tables[3], x->strides[dim + 1]));
    return launch(c, pass_of(dim, 2, x, out), down.at, &across.at);
  }
  device_array line = between(dim, x, out, x->dtype == MOON_F64 ? MOON_F64 : MOON_F32);
  MOON_TRY(lines.take((size_t)array_count(&line) * dtype_size(line.dtype)));
  line.data = lines.as<void>();
  MOON_TRY(launch(c, pass_of(dim, 1, x, &line), down.at, NULL));
  MOON_TRY(across.open(tables[2], tables[3], line.strides[dim + 1]));
  return launch(c, pass_of(dim + 1, 1, &line, out), across.at, NULL);
}
