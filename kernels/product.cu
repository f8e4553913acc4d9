// The kernels behind product.cuh, which take any strides and any mixture of float types.
//
//   tiles    a block makes 64 x 64 elements of the result; 256 threads bring 16 steps of the depth
//            of both operands into shared memory, while the next 16 are on their way to registers,
//            and each thread keeps 4 x 4 sums. Bound by arithmetic where all three sides are long.
//   direct   a thread makes one element: for few rows or columns (depthwise convolutions, single
//            vectors), where a tile would be mostly empty. Bound by memory.
//
// Where the result alone is too little work for the whole GPU, the depth is cut as well: the
// pieces' sums go to scratch, and a second kernel adds them in order. Cuts depend on the shape
// only.
#include "product_places.cuh"

enum {
  TILE = 64, STEP = 16, THREADS = 256, SIDE = 16,   // SIDE x SIDE threads
  EACH = 4,                                         // elements a thread has of a side, and loads
  PADDED = TILE + 4,                                // keeps 16 bytes aligned and banks apart
  FEW = 4,                                          // rows or columns that a tile is not worth
  WANTED_BLOCKS = 264,                              // two for each processor of an H200: of tiles
  WANTED_DIRECT = 1056,                             // and eight of waiting threads
  LEAST_DEPTH = 256,                                // of a piece
};

// -- the problem for the kernels

template <int N>
static void open_walk(cuda_walk<N> *walk, const product_axis *axis,
                      int64_t product_dim::*const (&steps)[N]) {
  device_array views[N] = {};
  const device_array *arrays[N];
  for (int k = 0; k < N; k++) {
    views[k].ndim = axis->ndim;
    for (int i = 0; i < axis->ndim; i++) {
      views[k].shape[i] = axis->dims[i].size;
      views[k].strides[i] = axis->dims[i].*steps[k];
    }
    arrays[k] = &views[k];
  }
  cuda_walk_open(walk, arrays, true);
}

// Whether coordinates that start at `first` stay in 0 .. limit - 1 all over rows and depth.
static bool stays_inside(const product_problem *q, int64_t product_dim::*step, int64_t first,
                         int64_t limit) {
  int64_t least = first, most = first;
  const product_axis *axes[2] = { &q->rows, &q->depth };
  for (const product_axis *axis : axes) {
    for (int i = 0; i < axis->ndim; i++) {
      int64_t reach = axis->dims[i].*step * (axis->dims[i].size - 1);
      (reach < 0 ? least : most) += reach;
    }
  }
  return least >= 0 && most < limit;
}

static void forget_coordinates(product_axis *axis) {
  for (int i = 0; i < axis->ndim; i++) axis->dims[i].row = axis->dims[i].column = 0;
}

// Without a border there are no coordinates, and dimensions merge.
static void drop_border(product_problem *q) {
  if (!stays_inside(q, &product_dim::row, q->first_row, q->height) ||
      !stays_inside(q, &product_dim::column, q->first_column, q->width))
    return;
  forget_coordinates(&q->rows);
  forget_coordinates(&q->depth);
  q->height = q->width = 1;
  q->first_row = q->first_column = 0;
}

template <int N>
static int64_t nearest(const cuda_walk<N> *walk, int operand) {
  int64_t stride = walk->strides[operand][walk->ndim - 1];
  return stride < 0 ? -stride : stride;
}

static product product_of(const product_problem *given) {
  product_problem q = *given;
  drop_border(&q);
  product p = {};
  open_walk(&p.row, &q.rows, { &product_dim::a, &product_dim::out, &product_dim::add,
                               &product_dim::row, &product_dim::column });
  open_walk(&p.column, &q.columns, { &product_dim::b, &product_dim::out, &product_dim::add });
  open_walk(&p.deep, &q.depth, { &product_dim::a, &product_dim::b, &product_dim::row,
                                 &product_dim::column });
  p.batch = q.batch;
  p.rows = p.row.count, p.columns = p.column.count, p.depth = p.deep.count;
  p.a = q.a, p.b = q.b, p.out = q.out;
  p.height = q.height, p.width = q.width;
  p.first_row = q.first_row, p.first_column = q.first_column;
  p.finish = q.finish;
  p.a_deep = nearest(&p.deep, 0) < nearest(&p.row, 0);
  p.b_deep = nearest(&p.deep, 1) < nearest(&p.column, 0);
  p.pieces = 1;
  p.piece = p.depth;
  return p;
}

// -- the sums of pieces

template <typename T>
static __global__ void add_pieces(product p, cuda_walk<4> items, const T *partial) {
  CUDA_EACH(item, items.count) {
    T sum = 0;
    for (int64_t piece = 0; piece < p.pieces; piece++) sum += partial[piece * items.count + item];
    store_finished(p, find_item(p, items, item), sum);
  }
}

// -- tiles

// Where threads load: the one step of the depth, and the EACH places across it that lie SIDE apart.
// Neighbouring threads take neighbouring elements.
struct spot { int deep, across; };
static __device__ spot spot_of(bool deep_first) {
  int y = (int)threadIdx.x / SIDE, x = (int)threadIdx.x % SIDE;
  return deep_first ? spot{ x, y } : spot{ y, x };
}

// A row of a tile: what stands at one step of the depth.
template <typename T> struct alignas(16) line { T at[PADDED]; };

// What a thread loads of both operands: its rows and columns stay, the depth moves on.
template <typename T>
struct loader {
  spot in_a, in_b;
  row_place rows[EACH];
  column_place columns[EACH];
  bool has_row[EACH], has_column[EACH];
  T a[EACH], b[EACH];

  __device__ void open(const product &p, int64_t i, int64_t j) {
    in_a = spot_of(p.a_deep);
    in_b = spot_of(p.b_deep);
    CUDA_UNROLL
    for (int e = 0; e < EACH; e++) {
      int64_t row = i + in_a.across + e * SIDE, column = j + in_b.across + e * SIDE;
      has_row[e] = row < p.rows;
      has_column[e] = column < p.columns;
      rows[e] = find_row(p, has_row[e] ? row : 0);
      columns[e] = find_column(p, has_column[e] ? column : 0);
    }
  }

  // Elements beyond the edges are zeros.
  __device__ void load(const product &p, int64_t batch, int64_t k, int64_t end) {
    bool a_there = k + in_a.deep < end, b_there = k + in_b.deep < end;
    depth_place a_deep = find_depth(p, a_there ? k + in_a.deep : 0);
    depth_place b_deep = find_depth(p, b_there ? k + in_b.deep : 0);
    int64_t a_at[EACH], b_at[EACH];
    bool a_wanted[EACH], b_wanted[EACH];
    CUDA_UNROLL
    for (int e = 0; e < EACH; e++) {
      bool inside;
      a_at[e] = find_a(p, batch, rows[e], a_deep, &inside);
      a_wanted[e] = inside && a_there && has_row[e];
      b_at[e] = find_b(p, batch, columns[e], b_deep);
      b_wanted[e] = b_there && has_column[e];
    }
    load_some(p.a, a_at, a_wanted, a);
    load_some(p.b, b_at, b_wanted, b);
  }

  __device__ void put(line<T> *tile_a, line<T> *tile_b) const {
    CUDA_UNROLL
    for (int e = 0; e < EACH; e++) {
      tile_a[in_a.deep].at[in_a.across + e * SIDE] = a[e];
      tile_b[in_b.deep].at[in_b.across + e * SIDE] = b[e];
    }
  }
};

template <typename T>
struct alignas(16) four { T at[EACH]; };

// Rows y * EACH on of tile_a with columns x * EACH on of tile_b, where the thread is (y, x).
template <typename T>
static __device__ void multiply(const line<T> *tile_a, const line<T> *tile_b,
                                T (&sums)[EACH][EACH]) {
  int y = threadIdx.x / SIDE, x = threadIdx.x % SIDE;
  CUDA_UNROLL
  for (int k = 0; k < STEP; k++) {
    four<T> a = *(const four<T> *)&tile_a[k].at[y * EACH];
    four<T> b = *(const four<T> *)&tile_b[k].at[x * EACH];
    CUDA_UNROLL
    for (int i = 0; i < EACH; i++)
      CUDA_UNROLL
      for (int j = 0; j < EACH; j++) sums[i][j] += a.at[i] * b.at[j];
  }
}

// A thread's EACH x EACH sums, of which (i, j) is the first.
template <typename T>
static __device__ void deliver_block(const product &p, T *partial, element first,
                                     const T (&sums)[EACH][EACH]) {
  column_place columns[EACH];
  const int64_t i = first.i, j = first.j;
  CUDA_UNROLL
  for (int x = 0; x < EACH; x++)
    columns[x] = find_column(p, j + x < p.columns ? j + x : 0);
  CUDA_UNROLL
  for (int y = 0; y < EACH; y++) {
    row_place row = find_row(p, i + y < p.rows ? i + y : 0);
    CUDA_UNROLL
    for (int x = 0; x < EACH; x++) {
      element e = { first.piece, first.batch, i + y, j + x, row, columns[x] };
      if (i + y < p.rows && j + x < p.columns) deliver(p, partial, e, sums[y][x]);
    }
  }
}

template <typename T>
static __global__ void __launch_bounds__(THREADS) product_tiles(product p, T *partial) {
  __shared__ line<T> tile_a[STEP], tile_b[STEP];
  const int64_t across = (p.columns + TILE - 1) / TILE, down = (p.rows + TILE - 1) / TILE;
  for (int64_t item = blockIdx.x; item < across * down * p.pieces * p.batch; item += gridDim.x) {
    element e = {};
    int64_t rest = item / across / down;
    e.j = item % across * TILE;
    e.i = item / across % down * TILE;
    e.batch = rest % p.batch;
    e.piece = rest / p.batch;
    int64_t k = e.piece * p.piece, end = k + p.piece < p.depth ? k + p.piece : p.depth;
    loader<T> next;
    T sums[EACH][EACH] = {};
    next.open(p, e.i, e.j);
    next.load(p, e.batch, k, end);
    for (; k < end; k += STEP) {
      next.put(tile_a, tile_b);
      __syncthreads();
      if (k + STEP < end) next.load(p, e.batch, k + STEP, end);
      multiply(tile_a, tile_b, sums);
      __syncthreads();
    }
    e.i += threadIdx.x / SIDE * EACH;
    e.j += threadIdx.x % SIDE * EACH;
    deliver_block(p, partial, e, sums);
  }
}

// -- one thread an element

// The sum of `run` steps of the innermost dimension of the depth from `deep` on, several at once.
template <typename T>
static __device__ T sum_run(const product &p, const element &e, depth_place deep, int64_t run) {
  const int last = p.deep.ndim - 1;
  T sum = 0;
  for (int64_t r = 0; r < run; r += EACH) {
    int64_t a_at[EACH], b_at[EACH];
    bool a_wanted[EACH], b_wanted[EACH];
    T a[EACH], b[EACH];
    CUDA_UNROLL
    for (int k = 0; k < EACH; k++) {
      bool inside;
      a_at[k] = find_a(p, e.batch, e.row, deep, &inside);
      b_at[k] = find_b(p, e.batch, e.column, deep);
      b_wanted[k] = r + k < run;
      a_wanted[k] = inside && b_wanted[k];
      deep.a += p.deep.strides[0][last];
      deep.b += p.deep.strides[1][last];
      deep.row += p.deep.strides[2][last];
      deep.column += p.deep.strides[3][last];
    }
    load_some(p.a, a_at, a_wanted, a);
    load_some(p.b, b_at, b_wanted, b);
    CUDA_UNROLL
    for (int k = 0; k < EACH; k++) sum += a[k] * b[k];
  }
  return sum;
}

template <typename T>
static __global__ void product_direct(product p, cuda_walk<4> items, T *partial) {
  const int64_t length = p.deep.shape[p.deep.ndim - 1];
  CUDA_EACH(item, items.count) {
    element e = find_item(p, items, item);
    int64_t k = e.piece * p.piece, end = k + p.piece < p.depth ? k + p.piece : p.depth;
    T sum = 0;
    while (k < end) {
      int64_t run = length - k % length;
      if (run > end - k) run = end - k;
      sum += sum_run<T>(p, e, find_depth(p, k), run);
      k += run;
    }
    deliver(p, partial, e, sum);
  }
}

// -- launching

// Cuts the depth until there are enough blocks, within the scratch that a kernel may take.
static void cut_depth(cuda_context *c, product *p, int64_t blocks, int64_t wanted, size_t size) {
  int64_t most = p->depth / LEAST_DEPTH;
  int64_t bytes = p->batch * p->rows * p->columns * (int64_t)size;
  int64_t room = cuda_library->settings(c->engine).workspace_limit / bytes;
  int64_t pieces = (wanted + blocks - 1) / blocks;
  if (pieces > most) pieces = most;
  if (pieces > room) pieces = room;
  if (blocks >= wanted / 2 || pieces < 2) return;
  p->piece = ((p->depth + pieces - 1) / pieces + STEP - 1) / STEP * STEP;
  p->pieces = (p->depth + p->piece - 1) / p->piece;
}

// Numbers elements of the result, of each of `pieces`: row-major, or with neighbouring members of
// the batch or neighbouring rows side by side.
static cuda_walk<4> items_of(const product &p, int64_t pieces, bool batch_last, bool rows_last) {
  const int64_t sizes[4] = { pieces, p.batch, p.rows, p.columns };
  int order[4] = { 0, 1, 2, 3 };
  if (rows_last) order[2] = 3, order[3] = 2;
  if (batch_last) order[1] = order[2], order[2] = order[3], order[3] = 1;
  device_array views[4] = {};
  const device_array *arrays[4];
  for (int k = 0; k < 4; k++) {
    views[k].ndim = 4;
    for (int i = 0; i < 4; i++) {
      views[k].shape[i] = sizes[order[i]];
      views[k].strides[i] = order[i] == k;
    }
    arrays[k] = &views[k];
  }
  cuda_walk<4> items;
  cuda_walk_open(&items, arrays, false);
  return items;
}

static int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

// Neighbouring threads take neighbouring members of the batch where those lie side by side (the
// channels of a depthwise convolution, channels last), else neighbours along the longer side.
template <typename T>
static moon_status run_direct(cuda_context *c, const product &p, T *partial) {
  bool batch_last = p.batch > 1 && p.a.batch_stride == 1;
  cuda_walk<4> items = items_of(p, p.pieces, batch_last, p.rows > p.columns);
  return cuda_launch(c, cuda_blocks(items.count, THREADS), THREADS, product_direct<T>, p, items,
                     partial);
}

template <typename T>
static moon_status run(cuda_context *c, product p) {
  int64_t elements = p.batch * p.rows * p.columns;
  bool direct = p.rows <= FEW || p.columns <= FEW;
  int64_t blocks = direct ? divide_up(elements, THREADS)
                          : p.batch * divide_up(p.rows, TILE) * divide_up(p.columns, TILE);
  cuda_scratch scratch(c);
  cut_depth(c, &p, blocks, direct ? WANTED_DIRECT : WANTED_BLOCKS, sizeof(T));
  if (p.pieces > 1) MOON_TRY(scratch.take((size_t)(p.pieces * elements) * sizeof(T)));
  T *partial = scratch.as<T>();
  if (direct) {
    MOON_TRY(run_direct(c, p, partial));
  } else {
    unsigned grid = cuda_blocks(blocks * p.pieces, 1);
    MOON_TRY(cuda_launch(c, grid, THREADS, product_tiles<T>, p, partial));
  }
  if (p.pieces == 1) return MOON_OK;
  return cuda_launch(c, cuda_blocks(elements), CUDA_BLOCK, add_pieces<T>, p,
                     items_of(p, 1, false, false), (const T *)partial);
}

moon_status cuda_product(cuda_context *c, const product_problem *problem) {
  product p = product_of(problem);
  if (p.batch * p.rows * p.columns == 0) return MOON_OK;
  return p.out.dtype == MOON_F64 ? run<double>(c, p) : run<float>(c, p);
}
