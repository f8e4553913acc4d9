// A product as its kernels see it (product.cu): where elements of the operands lie, with zeros
// beyond the image's border, and where sums go.
#ifndef MOON_KERNELS_PRODUCT_PLACES_CUH
#define MOON_KERNELS_PRODUCT_PLACES_CUH

#include "product.cuh"

struct product {
  int64_t batch, rows, columns, depth;
  cuda_walk<5> row;        // a, out, add, a's row and column
  cuda_walk<3> column;     // b, out, add
  cuda_walk<4> deep;       // a, b, a's row and column
  product_array a, b, out;
  int64_t height, width, first_row, first_column;
  product_finish finish;
  bool a_deep, b_deep;     // neighbours along the depth are nearer than those across it
  int64_t pieces, piece;   // of the depth, and how long
};

// -- where elements lie

struct row_place { int64_t a, out, add, row, column; };   // and a's coordinates
struct column_place { int64_t b, out, add; };
struct depth_place { int64_t a, b, row, column; };

static __device__ row_place find_row(const product &p, int64_t i) {
  int64_t at[5];
  p.row.find(i, at);
  return { at[0], at[1], at[2], at[3] + p.first_row, at[4] + p.first_column };
}

static __device__ column_place find_column(const product &p, int64_t j) {
  int64_t at[3];
  p.column.find(j, at);
  return { at[0], at[1], at[2] };
}

static __device__ depth_place find_depth(const product &p, int64_t k) {
  int64_t at[4];
  p.deep.find(k, at);
  return { at[0], at[1], at[2], at[3] };
}

// Where an element of a lies, and whether it lies inside of the image.
static __device__ int64_t find_a(const product &p, int64_t batch, const row_place &row,
                                 const depth_place &deep, bool *inside) {
  *inside = (uint64_t)(row.row + deep.row) < (uint64_t)p.height &&
            (uint64_t)(row.column + deep.column) < (uint64_t)p.width;
  return batch * p.a.batch_stride + row.a + deep.a;
}

static __device__ int64_t find_b(const product &p, int64_t batch, const column_place &column,
                                 const depth_place &deep) {
  return batch * p.b.batch_stride + column.b + deep.b;
}

// Loads the elements at `at` that are `wanted`, others being 0. The dtype is looked up once for all
// of them, since a branch would wait for each.
template <typename T, int N, typename S>
static __device__ void load_stored(const S *x, const int64_t (&at)[N], const bool (&wanted)[N],
                                   T (&values)[N]) {
  CUDA_UNROLL
  for (int i = 0; i < N; i++) values[i] = wanted[i] ? (T)cuda_load(x[at[i]]) : T(0);
}

template <typename T, int N>
static __device__ void load_some(const product_array &x, const int64_t (&at)[N],
                                 const bool (&wanted)[N], T (&values)[N]) {
  if constexpr (std::is_same<T, double>::value) {
    load_stored((const double *)x.data, at, wanted, values);
  } else {
    if (x.dtype == MOON_F32) load_stored((const float *)x.data, at, wanted, values);
    else if (x.dtype == MOON_F16) load_stored((const half16 *)x.data, at, wanted, values);
    else load_stored((const bfloat16 *)x.data, at, wanted, values);
  }
}

// -- what happens to a sum

// One of the result, or of a piece of the depth.
struct element {
  int64_t piece, batch, i, j;
  row_place row;
  column_place column;
};

static __device__ element find_element(const product &p, int64_t piece, int64_t batch, int64_t i,
                                       int64_t j) {
  return { piece, batch, i, j, find_row(p, i), find_column(p, j) };
}

template <typename T>
static __device__ void store_finished(const product &p, const element &e, T sum) {
  int64_t add_at = e.batch * p.finish.add.batch_stride + e.row.add + e.column.add;
  T value = product_finished(p.finish, sum, e.batch * p.finish.next_channels + e.j, add_at);
  int64_t at = e.batch * p.out.batch_stride + e.row.out + e.column.out;
  cuda_any<T>::store(p.out.dtype, p.out.data, at, value);
}

// Sums of a piece go to (pieces, batch, rows, columns), those of an uncut depth to the result.
template <typename T>
static __device__ void deliver(const product &p, T *partial, const element &e, T sum) {
  if (p.pieces == 1) store_finished(p, e, sum);
  else partial[((e.piece * p.batch + e.batch) * p.rows + e.i) * p.columns + e.j] = sum;
}

// Items are elements of each piece, or of the result, in an order of the host's choice.
static __device__ element find_item(const product &p, const cuda_walk<4> &items, int64_t item) {
  int64_t at[4];
  items.find(item, at);
  return find_element(p, at[0], at[1], at[2], at[3]);
}

#endif
