// Reductions, and extremes with their places: the operations that reduce.cuh's driver folds with.
// Floats are summed in double, which costs little where memory is the bound and leaves next to no
// trace of the order of a sum; integers wrap.
#include "reduce.cuh"

#include <math.h>

// -- writing totals

static __device__ void write_value(const fold_job &job, int64_t at, float value) {
  cuda_any<float>::store(job.out_dtype, job.out, at, value);
}
static __device__ void write_value(const fold_job &job, int64_t at, double value) {
  if (job.out_dtype == MOON_F64) ((double *)job.out)[at] = value;
  else write_value(job, at, (float)value);
}
static __device__ void write_value(const fold_job &job, int64_t at, int64_t value) {
  cuda_any<int64_t>::store(job.out_dtype, job.out, at, value);
}

// Sums and products: of floats in double, of integers without sign.
template <typename T> struct arithmetic {
  typedef double total, segment_type;
  static const moon_dtype segment_dtype = MOON_F64;
};
template <> struct arithmetic<int64_t> {
  typedef uint64_t total;
  typedef int64_t segment_type;
  static const moon_dtype segment_dtype = MOON_I64;
};

// The dtype of a compute type.
template <typename T> struct plain_dtype { static const moon_dtype value = MOON_F32; };
template <> struct plain_dtype<double> { static const moon_dtype value = MOON_F64; };
template <> struct plain_dtype<int64_t> { static const moon_dtype value = MOON_I64; };

// The element that nothing is smaller than, or larger.
template <typename T> __device__ T worst(bool smallest) {
  return (T)(smallest ? INFINITY : -INFINITY);
}
template <> __device__ int64_t worst<int64_t>(bool smallest) {
  return smallest ? INT64_MAX : INT64_MIN;
}

// -- the operations

template <typename T> struct sum_of : arithmetic<T> {
  typedef typename arithmetic<T>::total total;
  typedef typename arithmetic<T>::segment_type segment_type;
  static const bool wide = !std::is_same<T, int64_t>::value;   // else registers run out
  double divisor;    // of floats
  bool squares;

  __device__ T nothing() const { return 0; }
  __device__ total start() const { return 0; }
  __device__ total fold(total sum, T x, int64_t) const {
    total value = (total)x;
    return sum + (squares ? value * value : value);
  }
  __device__ total join(total a, total b) const { return a + b; }
  __device__ void write(const fold_job &job, const int64_t (&at)[3], int64_t, total sum) const {
    if constexpr (std::is_same<T, int64_t>::value) write_value(job, at[1], (int64_t)sum);
    else write_value(job, at[1], sum / divisor);
  }
  sum_of of_segment() const {
    sum_of op = *this;
    op.divisor = 1;
    return op;
  }
  sum_of<segment_type> of_totals(const int64_t *) const {
    sum_of<segment_type> op;
    op.divisor = divisor;
    op.squares = false;
    return op;
  }
};

template <typename T> struct product_of : arithmetic<T> {
  typedef typename arithmetic<T>::total total;
  typedef typename arithmetic<T>::segment_type segment_type;
  static const bool wide = false;

  __device__ T nothing() const { return 1; }
  __device__ total start() const { return 1; }
  __device__ total fold(total product, T x, int64_t) const { return product * (total)x; }
  __device__ total join(total a, total b) const { return a * b; }
  __device__ void write(const fold_job &job, const int64_t (&at)[3], int64_t, total product) const {
    write_value(job, at[1], (segment_type)product);
  }
  product_of of_segment() const { return *this; }
  product_of<segment_type> of_totals(const int64_t *) const { return {}; }
};

// The largest or smallest element; NaN wins.
template <typename T> struct extreme_of {
  typedef T total, segment_type;
  static const moon_dtype segment_dtype = plain_dtype<T>::value;
  static const bool wide = !std::is_same<T, int64_t>::value;   // else registers run out
  bool smallest;

  __device__ T nothing() const { return worst<T>(smallest); }
  __device__ T start() const { return worst<T>(smallest); }
  __device__ T fold(T best, T x, int64_t) const {
    return (smallest ? x < best : x > best) || x != x ? x : best;
  }
  __device__ T join(T a, T b) const { return fold(a, b, 0); }
  __device__ void write(const fold_job &job, const int64_t (&at)[3], int64_t, T best) const {
    write_value(job, at[1], best);
  }
  extreme_of of_segment() const { return *this; }
  extreme_of of_totals(const int64_t *) const { return *this; }
};

// Whether any element is true, or all are: the total tells whether one was found that decides it.
template <typename T> struct truth_of {
  typedef int total;
  typedef int64_t segment_type;
  static const moon_dtype segment_dtype = MOON_BOOL;
  static const bool wide = false;
  bool any;

  __device__ T nothing() const { return any ? 0 : 1; }
  __device__ int start() const { return 0; }
  __device__ int fold(int found, T x, int64_t) const { return found | ((x != 0) == any); }
  __device__ int join(int a, int b) const { return a | b; }
  __device__ void write(const fold_job &job, const int64_t (&at)[3], int64_t, int found) const {
    write_value(job, at[1], (int64_t)((found != 0) == any));
  }
  truth_of of_segment() const { return *this; }
  truth_of<int64_t> of_totals(const int64_t *) const { return { any }; }
};

// The largest or smallest element and where it is: the first of equals, the first NaN.
template <typename T> struct placed_extreme_of {
  typedef cuda_placed<T> total;
  typedef T segment_type;
  static const moon_dtype segment_dtype = plain_dtype<T>::value;
  static const bool wide = false;
  bool smallest;
  const int64_t *places;   // where elements are totals: (segments, outputs); else NULL

  __device__ T nothing() const { return worst<T>(smallest); }
  __device__ total start() const { return { worst<T>(smallest), INT64_MAX }; }
  __device__ total fold(total best, T x, int64_t place) const {
    return join(best, { x, place });
  }
  __device__ total join(total a, total b) const {
    bool better = smallest ? b.value < a.value : b.value > a.value;
    bool same = b.value == a.value || (b.value != b.value && a.value != a.value);
    if (b.value != b.value && !same) better = true;
    return better || (same && b.place < a.place) ? b : a;
  }
  __device__ void write(const fold_job &job, const int64_t (&at)[3], int64_t output,
                        total best) const {
    write_value(job, at[1], best.value);
    job.places[at[2]] = places ? places[best.place * job.kept.count + output] : best.place;
  }
  placed_extreme_of of_segment() const { return *this; }
  placed_extreme_of of_totals(const int64_t *found) const { return { smallest, found }; }
};

// -- the slots

// Without `outer` x's dimensions are those of a line, without `inner` those of the outputs.
static fold_job open_job(const device_array *x, const device_array *out,
                         const device_array *places, unsigned outer, unsigned inner) {
  fold_job job = {};
  const device_array *arrays[] = { x, out, places ? places : out }, *line[] = { x };
  cuda_walk_open(&job.kept, arrays, true, inner);
  cuda_walk_open(&job.reduced, line, true, outer);
  job.x = x->data;
  job.dtype = x->dtype;
  job.out = out->data;
  job.out_dtype = out->dtype;
  job.places = places ? (int64_t *)places->data : NULL;
  return job;
}

// Every output is that of nothing: 0, 1, NaN for a mean, an error for a maximum.
static moon_status reduce_nothing(cuda_context *c, int kind, const device_array *out) {
  if (kind == REDUCE_MAX || kind == REDUCE_MIN)
    return moon_fail(MOON_BAD_SHAPE, "there are no elements to choose from");
  if (kind == REDUCE_MEAN) return cuda_fill(c, NAN, out);
  return cuda_fill_int(c, kind == REDUCE_PROD || kind == REDUCE_ALL, out);
}

template <typename T>
static moon_status fold_kind(cuda_context *c, int kind, const fold_job &job) {
  switch (kind) {
    case REDUCE_PROD: return fold_run<T>(c, job, product_of<T>());
    case REDUCE_MAX:
    case REDUCE_MIN: return fold_run<T>(c, job, extreme_of<T>{ kind == REDUCE_MIN });
    case REDUCE_ALL:
    case REDUCE_ANY: return fold_run<T>(c, job, truth_of<T>{ kind == REDUCE_ANY });
    default: break;
  }
  sum_of<T> sum;
  sum.divisor = kind == REDUCE_MEAN ? (double)job.reduced.count : 1;
  sum.squares = kind == REDUCE_SUM_SQUARES;
  return fold_run<T>(c, job, sum);
}

moon_status cuda_reduce(cuda_context *c, int kind, const device_array *x,
                        const device_array *out) {
  if ((kind == REDUCE_MEAN || kind == REDUCE_SUM_SQUARES) && !dtype_is_float(x->dtype))
    return moon_fail(MOON_BAD_DTYPE, "mean of %s", dtype_name(x->dtype));
  unsigned reduced = 0;
  for (int i = 0; i < x->ndim; i++)
    if (out->shape[i] == 1) reduced |= 1u << i;
  fold_job job = open_job(x, out, NULL, ~reduced, reduced);
  if (job.kept.count == 0) return MOON_OK;
  if (job.reduced.count == 0) return reduce_nothing(c, kind, out);
  return cuda_with_compute(x->dtype, [&](auto type) {
    return fold_kind<decltype(type)>(c, kind, job);
  });
}

moon_status cuda_extreme(cuda_context *c, bool smallest, int dim, const device_array *x,
                         const device_array *values, const device_array *indices) {
  fold_job job = open_job(x, values, indices, ~(1u << dim), 1u << dim);
  if (job.kept.count == 0) return MOON_OK;
  if (job.reduced.count == 0)
    return moon_fail(MOON_BAD_SHAPE, "there are no elements to choose from");
  return cuda_with_compute(x->dtype, [&](auto type) {
    typedef decltype(type) T;
    return fold_run<T>(c, job, placed_extreme_of<T>{ smallest, NULL });
  });
}
