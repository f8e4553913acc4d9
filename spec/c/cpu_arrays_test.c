// csrc/cpu: copies, filling, reductions, lines, order, indexing and random numbers against naive
// loops, over dtypes and memory layouts, and with any number of threads.
#include "cpu_check.h"

#include "base/random.h"

static const int64_t small[] = { 3, 4, 5 };

// Row-major number of the element of `whole` (shape s) at `at`.
static int64_t number_of(int ndim, const int64_t *shape, const int64_t *at) {
  int64_t index = 0;
  for (int i = 0; i < ndim; i++) index = index * shape[i] + at[i];
  return index;
}
static void coordinates_of(int ndim, const int64_t *shape, int64_t index, int64_t *at) {
  for (int i = ndim - 1; i >= 0; i--) at[i] = index % shape[i], index /= shape[i];
}

// -- copies
static void copies_between_dtypes(void) {
  for (moon_dtype from = 0; from < MOON_DTYPE_COUNT; from++) {
    for (moon_dtype to = 0; to < MOON_DTYPE_COUNT; to++) {
      for (layout how = 0; how < LAYOUTS; how++) {
        device_array x = random_array(from, 3, small, how, 0, 100);
        device_array y = make(to, 3, small, (how + 1) % BROADCAST);
        EXPECT_OK(kernels->copy(engine, &x, &y));
        for (int64_t i = 0; i < 60; i++) {
          double expected;
          uint64_t bits = 0;
          dtype_store(to, &bits, get(&x, i));
          expected = dtype_load(to, &bits);
          EXPECT_NEAR(get(&y, i), expected, to, 0, "%s to %s", dtype_name(from), dtype_name(to));
        }
      }
    }
    arena_used = 0;
  }
}

static void casts_at_the_ends(void) {
  static const double values[] = { NAN, INFINITY, -INFINITY, 1e30, -1e30, 0.4, -0.6, 300 };
  const int64_t shape[] = { 8 };
  device_array x = make(MOON_F64, 1, shape, CONTIGUOUS), i64 = make(MOON_I64, 1, shape, STEPPED);
  device_array truth = make(MOON_BOOL, 1, shape, CONTIGUOUS);
  device_array u8 = make(MOON_U8, 1, shape, CONTIGUOUS);
  for (int i = 0; i < 8; i++) put(&x, i, values[i]);
  EXPECT_OK(kernels->copy(engine, &x, &i64));
  EXPECT_OK(kernels->copy(engine, &x, &truth));
  EXPECT_OK(kernels->copy(engine, &x, &u8));
  static const int64_t expected[] = { 0, INT64_MAX, INT64_MIN, INT64_MAX, INT64_MIN, 0, 0, 300 };
  for (int i = 0; i < 8; i++) EXPECT(get_int(&i64, i) == expected[i] && get(&truth, i) == 1);
  EXPECT(get(&u8, 7) == 44);
  // Rounded once: 1 + 2^-11 + 2^-40 is above the middle between two halves.
  device_array half = make(MOON_F16, 1, shape, CONTIGUOUS);
  put(&x, 0, 1 + 0x1p-11 + 0x1p-40);
  EXPECT_OK(kernels->copy(engine, &x, &half));
  EXPECT(get(&half, 0) == 1 + 0x1p-10);
}

static void copies_move_large_arrays(void) {
  static const int64_t shapes[][4] = {
    { 97, 131, 3, 2 }, { 2, 3, 131, 97 }, { 5, 64, 7, 33 }, { 1, 300, 1, 301 },
  };
  static const moon_dtype types[] = { MOON_U8, MOON_F16, MOON_F32, MOON_I64 };
  for (int s = 0; s < 4; s++) {
    for (int t = 0; t < 4; t++) {
      for (layout how = 0; how < LAYOUTS; how++) {
        device_array x = random_array(types[t], 4, shapes[s], how, 0, 200);
        device_array y = make(types[t], 4, shapes[s], (how + 3) % BROADCAST);
        EXPECT_OK(kernels->copy(engine, &x, &y));
        int64_t count = array_count(&x);
        for (int64_t i = 0; i < count; i++) EXPECT(get(&x, i) == get(&y, i));
        arena_used = 0;
      }
    }
  }
  // A permuted view of a contiguous block, as permute() makes.
  const int64_t shape[] = { 3, 70, 50 }, permuted[] = { 50, 3, 70 };
  device_array x = random_array(MOON_F32, 3, shape, CONTIGUOUS, -1, 1);
  device_array view = x, y = make(MOON_F32, 3, permuted, CONTIGUOUS);
  for (int i = 0; i < 3; i++) {
    view.shape[i] = permuted[i];
    view.strides[i] = x.strides[(i + 2) % 3];
  }
  EXPECT_OK(kernels->copy(engine, &view, &y));
  for (int64_t i = 0; i < 10500; i++) EXPECT(get(&view, i) == get(&y, i));
}

static void filling_and_ranges(void) {
  const int64_t shape[] = { 7, 1000 }, line[] = { 1000 }, none[] = { 0 };
  for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
    double expected = dtype == MOON_BOOL ? 1 : 3;
    for (layout how = 0; how < BROADCAST; how++) {
      device_array x = make(dtype, 2, shape, how), y = make(dtype, 1, line, how);
      EXPECT_OK(kernels->fill(engine, 3, &x));
      for (int64_t i = 0; i < 7000; i++) EXPECT(get(&x, i) == expected);
      EXPECT_OK(kernels->fill_int(engine, 0, &x));
      for (int64_t i = 0; i < 7000; i++) EXPECT(get(&x, i) == 0);
      EXPECT_OK(kernels->arange(engine, 5, 2, &y));
      if (dtype == MOON_F32 || dtype == MOON_F64 || dtype == MOON_I64 || dtype == MOON_I32)
        for (int64_t i = 0; i < 1000; i++) EXPECT(get(&y, i) == 5 + 2 * (double)i);
    }
  }
  device_array x = make(MOON_I64, 0, NULL, CONTIGUOUS), empty = make(MOON_F32, 1, none, CONTIGUOUS);
  EXPECT_OK(kernels->fill_int(engine, INT64_MAX - 1, &x));
  EXPECT(get_int(&x, 0) == INT64_MAX - 1);
  EXPECT_OK(kernels->fill(engine, 1, &empty));
  EXPECT_OK(kernels->arange(engine, 0, 1, &empty));
}

static void selection(void) {
  const int64_t shape[] = { 9, 600 };
  for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
    device_array c = random_array(MOON_BOOL, 2, shape, TRANSPOSED, 0, 1);
    device_array x = random_array(dtype, 2, shape, BROADCAST, 0, 100);
    device_array y = random_array(dtype, 2, shape, STEPPED, 0, 100);
    device_array out = make(dtype, 2, shape, CONTIGUOUS);
    EXPECT_OK(kernels->select(engine, &c, &x, &y, &out));
    for (int64_t i = 0; i < 5400; i++)
      EXPECT(get(&out, i) == (get(&c, i) ? get(&x, i) : get(&y, i)));
  }
}

// -- reductions
static double naive_start(int kind) {
  static const double start[] = { 0, 1, 0, -INFINITY, INFINITY, 1, 0, 0 };
  return start[kind];
}
static double naive_step(int kind, double total, double x) {
  switch (kind) {
    case REDUCE_PROD: return total * x;
    case REDUCE_MAX: return isnan(x) || isnan(total) ? NAN : fmax(total, x);
    case REDUCE_MIN: return isnan(x) || isnan(total) ? NAN : fmin(total, x);
    case REDUCE_ALL: return total && x != 0;
    case REDUCE_ANY: return total || x != 0;
    case REDUCE_SUM_SQUARES: return total + x * x;
    default: return total + x;
  }
}
static moon_dtype result_dtype(int kind, moon_dtype dtype) {
  if (kind == REDUCE_ALL || kind == REDUCE_ANY) return MOON_BOOL;
  if (kind == REDUCE_MAX || kind == REDUCE_MIN || dtype_is_float(dtype)) return dtype;
  return MOON_I64;
}

// Reduces x over the dimensions in `mask` with the kernel and naively.
static void compare_reduction(int kind, const device_array *x, unsigned mask, layout to) {
  int64_t shape[MOON_MAX_DIMS], at[MOON_MAX_DIMS];
  for (int i = 0; i < x->ndim; i++) shape[i] = mask >> i & 1 ? 1 : x->shape[i];
  device_array out = make(result_dtype(kind, x->dtype), x->ndim, shape, to);
  EXPECT_OK(kernels->reduce(engine, kind, x, &out));
  int64_t outputs = array_count(&out), count = array_count(x);
  double *total = arena_take((size_t)(outputs + 1) * sizeof *total);
  for (int64_t i = 0; i < outputs; i++) total[i] = naive_start(kind);
  for (int64_t i = 0; i < count; i++) {
    coordinates_of(x->ndim, x->shape, i, at);
    for (int d = 0; d < x->ndim; d++) if (mask >> d & 1) at[d] = 0;
    int64_t o = number_of(x->ndim, shape, at);
    total[o] = naive_step(kind, total[o], get(x, i));
  }
  for (int64_t i = 0; i < outputs; i++) {
    double expected = total[i];
    if (kind == REDUCE_MEAN) expected /= (double)(count / outputs);
    EXPECT_NEAR(get(&out, i), expected, out.dtype, out.dtype == MOON_F64 ? 4096 : 0.51,
                "kind %d of %s over %x, output %lld", kind, dtype_name(x->dtype), mask,
                (long long)i);
  }
}

static bool reducible(int kind, moon_dtype dtype) {
  return dtype_is_float(dtype) || (kind != REDUCE_MEAN && kind != REDUCE_SUM_SQUARES);
}

static void reductions(void) {
  const int64_t shape[] = { 3, 5, 1, 4 };
  for (int kind = REDUCE_SUM; kind <= REDUCE_SUM_SQUARES; kind++) {
    for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
      if (!reducible(kind, dtype)) continue;
      for (layout how = 0; how < LAYOUTS; how++) {
        double low = kind == REDUCE_PROD ? 1 : -2;
        device_array x = random_array(dtype, 4, shape, how, low, kind == REDUCE_PROD ? 1.5 : 3);
        for (unsigned mask = 0; mask < 16; mask++)
          compare_reduction(kind, &x, mask, (layout)(mask % BROADCAST));
        arena_used = 0;
      }
    }
  }
}

static void large_reductions(void) {
  static const int64_t shapes[][3] = {
    { 2, 3, 40000 }, { 70000, 3, 1 }, { 40, 50, 60 }, { 300, 2, 300 }, { 4000, 1, 7 },
  };
  static const moon_dtype types[] = { MOON_F32, MOON_F64, MOON_BF16, MOON_I32 };
  static const unsigned masks[] = { 1, 2, 4, 5, 7, 3 };
  for (int s = 0; s < 5; s++) {
    for (int t = s % 2; t < 4; t += 2) {
      device_array x = random_array(types[t], 3, shapes[s], (layout)((s + t) % BROADCAST), -2, 3);
      for (int m = 0; m < 6; m++)
        compare_reduction(m % 2 ? REDUCE_MAX : REDUCE_SUM, &x, masks[m], CONTIGUOUS);
      arena_used = 0;
    }
  }
}

static double reduce_all(int kind, const device_array *x, moon_dtype dtype) {
  int64_t ones[MOON_MAX_DIMS] = { 1, 1, 1, 1 };
  device_array out = make(dtype, x->ndim, ones, CONTIGUOUS);
  EXPECT_OK(kernels->reduce(engine, kind, x, &out));
  return get(&out, 0);
}

static void reductions_of_nothing_and_nan(void) {
  const int64_t none[] = { 0, 3 }, line[] = { 1000 }, kept[] = { 1, 3 };
  device_array x = make(MOON_F32, 2, none, CONTIGUOUS), i = make(MOON_I32, 2, none, CONTIGUOUS);
  EXPECT(reduce_all(REDUCE_SUM, &x, MOON_F32) == 0 && reduce_all(REDUCE_PROD, &x, MOON_F32) == 1);
  EXPECT(reduce_all(REDUCE_SUM, &i, MOON_I64) == 0 && reduce_all(REDUCE_PROD, &i, MOON_I64) == 1);
  EXPECT(isnan(reduce_all(REDUCE_MEAN, &x, MOON_F32)));
  EXPECT(reduce_all(REDUCE_ALL, &x, MOON_BOOL) == 1 && reduce_all(REDUCE_ANY, &x, MOON_BOOL) == 0);
  device_array out = make(MOON_F32, 2, kept, CONTIGUOUS);
  EXPECT_FAIL(kernels->reduce(engine, REDUCE_MAX, &x, &out), MOON_BAD_SHAPE, "no elements");
  device_array y = random_array(MOON_F32, 1, line, STEPPED, -1, 1);
  put(&y, 700, NAN);
  EXPECT(isnan(reduce_all(REDUCE_MAX, &y, MOON_F32)));
  EXPECT(isnan(reduce_all(REDUCE_MIN, &y, MOON_F32)));
  EXPECT(reduce_all(REDUCE_ALL, &y, MOON_BOOL) == 1);
  EXPECT_OK(kernels->fill(engine, -INFINITY, &y));
  EXPECT(reduce_all(REDUCE_MAX, &y, MOON_F32) == -INFINITY);
  device_array big = make(MOON_I64, 1, line, CONTIGUOUS);
  EXPECT_OK(kernels->fill_int(engine, INT64_MAX, &big));
  EXPECT(reduce_all(REDUCE_SUM, &big, MOON_I64) == -1000);
}

// -- along one dimension
static bool comes_first(double x, double y, bool smallest) {   // strictly
  if (isnan(x) || isnan(y)) return isnan(x) && !isnan(y);
  return smallest ? x < y : x > y;
}

static void extremes(void) {
  static const int64_t shapes[][3] = { { 4, 7, 5 }, { 3, 1, 600 }, { 600, 2, 300 } };
  for (int s = 0; s < 3; s++) {
    for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
      for (int variant = 0; variant < 6; variant++) {
        int dim = variant % 3;
        bool smallest = variant >= 3;
        if (s == 2 && dtype != MOON_F32 && dtype != MOON_I32) continue;
        int64_t shape[3], at[3];
        for (int i = 0; i < 3; i++) shape[i] = i == dim ? 1 : shapes[s][i];
        device_array x = random_array(dtype, 3, shapes[s], (layout)(variant % LAYOUTS), -4, 4);
        if (dtype_is_float(dtype)) put(&x, 3, NAN), put(&x, 8, NAN);
        device_array values = make(dtype, 3, shape, STEPPED);
        device_array indices = make(MOON_I64, 3, shape, TRANSPOSED);
        EXPECT_OK(kernels->extreme(engine, smallest, dim, &x, &values, &indices));
        for (int64_t i = 0; i < array_count(&values); i++) {
          coordinates_of(3, shape, i, at);
          int64_t best = 0, first = number_of(3, shapes[s], at), step = 1;
          for (int d = 2; d > dim; d--) step *= shapes[s][d];
          for (int64_t j = 1; j < shapes[s][dim]; j++)
            if (comes_first(get(&x, first + j * step), get(&x, first + best * step), smallest))
              best = j;
          EXPECT(get_int(&indices, i) == best);
          EXPECT_NEAR(get(&values, i), get(&x, first + best * step), dtype, 0, "extreme");
        }
        arena_used = 0;
      }
    }
  }
  const int64_t none[] = { 2, 0 }, one[] = { 2, 1 };
  device_array x = make(MOON_F32, 2, none, CONTIGUOUS), v = make(MOON_F32, 2, one, CONTIGUOUS);
  device_array i = make(MOON_I64, 2, one, CONTIGUOUS);
  EXPECT_FAIL(kernels->extreme(engine, false, 1, &x, &v, &i), MOON_BAD_SHAPE, "no elements");
}

static void running_sums(void) {
  static const int64_t shape[] = { 6, 700, 3 };
  for (moon_dtype dtype = 0; dtype < MOON_BOOL; dtype++) {
    for (int dim = 0; dim < 3; dim++) {
      device_array x = random_array(dtype, 3, shape, (layout)(dim + 1), -1, 2);
      moon_dtype result = dtype_is_float(dtype) ? dtype : MOON_I64;
      device_array y = make(result, 3, shape, (layout)dim);
      EXPECT_OK(kernels->cumsum(engine, dim, &x, &y));
      int64_t step = dim == 0 ? 2100 : dim == 1 ? 3 : 1;
      double *sums = arena_take(12600 * sizeof *sums);
      for (int64_t i = 0; i < 12600; i++) {
        bool start = i / step % shape[dim] == 0;
        sums[i] = get(&x, i) + (start ? 0 : sums[i - step]);
        EXPECT_NEAR(get(&y, i), sums[i], result, 0.51, "cumsum of %s", dtype_name(dtype));
      }
      arena_used = 0;
    }
  }
}

// -- order
static bool sorted_before(double x, double y, bool descending) {   // strictly
  if (isnan(x) || isnan(y)) return descending ? isnan(x) && !isnan(y) : !isnan(x) && isnan(y);
  return descending ? x > y : x < y;
}

// One line of a sorted result: each pair in order, equals by place, values match places.
static void expect_sorted(const device_array *x, const device_array *values,
                          const device_array *indices, int64_t line, int64_t length, int64_t k,
                          bool descending) {
  for (int64_t i = 0; i < k; i++) {
    int64_t place = get_int(indices, line * k + i);
    double value = get(values, line * k + i);
    EXPECT(place >= 0 && place < length);
    EXPECT_NEAR(value, get(x, line * length + place), x->dtype, 0, "sorted value");
    if (i == 0) continue;
    int64_t before = get_int(indices, line * k + i - 1);
    double previous = get(values, line * k + i - 1);
    EXPECT(!sorted_before(value, previous, descending));
    EXPECT(sorted_before(previous, value, descending) || before < place);
  }
  // What was left out comes after the last one taken.
  if (k == length) return;
  double last = get(values, line * k + k - 1);
  int64_t better = 0;
  for (int64_t i = 0; i < length; i++)
    better += sorted_before(get(x, line * length + i), last, descending);
  EXPECT(better < k);
}

static void sorting(void) {
  static const int64_t lengths[] = { 1, 2, 30, 200, 3000 };
  for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
    for (int n = 0; n < 5; n++) {
      for (int variant = 0; variant < 8; variant++) {
        bool descending = variant & 1;
        int64_t length = lengths[n], k = variant < 4 ? length : length < 10 ? 1 : length / 7;
        int64_t shape[] = { 3, length }, result[] = { 3, k };
        device_array x = random_array(dtype, 2, shape, (layout)(variant % LAYOUTS), -50, 50);
        if (dtype_is_float(dtype) && length > 4) {
          put(&x, 0, NAN), put(&x, 3, NAN), put(&x, 1, 0.0), put(&x, 2, -0.0);
        }
        device_array values = make(dtype, 2, result, TRANSPOSED);
        device_array indices = make(MOON_I64, 2, result, STEPPED);
        EXPECT_OK(kernels->sort(engine, 1, descending, &x, &values, &indices));
        for (int64_t line = 0; line < 3; line++)
          expect_sorted(&x, &values, &indices, line, length, k, descending);
        EXPECT_OK(kernels->sort(engine, 1, descending, &x, NULL, &indices));
        EXPECT_OK(kernels->sort(engine, 1, descending, &x, &values, NULL));
        arena_used = 0;
      }
    }
  }
  const int64_t shape[] = { 50, 4 };
  device_array x = random_array(MOON_I64, 2, shape, CONTIGUOUS, -9, 9);
  device_array values = make(MOON_I64, 2, shape, CONTIGUOUS);
  put(&x, 9, -0x1p63);
  EXPECT_OK(kernels->sort(engine, 0, false, &x, &values, NULL));
  for (int64_t i = 4; i < 200; i++) EXPECT(get_int(&values, i) >= get_int(&values, i - 4));
  EXPECT(get_int(&values, 1) == INT64_MIN);
}

// -- indexing
static void slices(void) {
  static const int64_t shapes[][3] = { { 6, 5, 4 }, { 40, 3, 90 }, { 3, 500, 1 } };
  for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
    for (int s = 0; s < 3; s++) {
      for (int variant = 0; variant < 12; variant++) {
        int dim = variant % 3;
        bool accumulate = variant % 2;
        int64_t length = 17, shape[3], at[3];
        memcpy(shape, shapes[s], sizeof shape);
        shape[dim] = length;
        layout how = (layout)(variant % BROADCAST);
        device_array index = random_array(MOON_I64, 1, &length, how, 0, (double)shapes[s][dim]);
        device_array x = random_array(dtype, 3, shapes[s], how, 0, 3);
        device_array y = make(dtype, 3, shape, (layout)((variant + 1) % BROADCAST));
        EXPECT_OK(kernels->index_select(engine, dim, &x, &index, &y));
        int64_t count = array_count(&y);
        for (int64_t i = 0; i < count; i++) {
          coordinates_of(3, shape, i, at);
          at[dim] = get_int(&index, at[dim]);
          EXPECT(get(&y, i) == get(&x, number_of(3, shapes[s], at)));
        }
        device_array source = random_array(dtype, 3, shape, (layout)(variant % LAYOUTS), 0, 3);
        device_array expected = make(dtype, 3, shapes[s], CONTIGUOUS);
        EXPECT_OK(kernels->copy(engine, &x, &expected));
        EXPECT_OK(kernels->index_put(engine, dim, accumulate, &index, &source, &x));
        for (int64_t i = 0; i < count; i++) {   // row-major: at any target in order of the index
          coordinates_of(3, shape, i, at);
          at[dim] = get_int(&index, at[dim]);
          int64_t o = number_of(3, shapes[s], at);
          put(&expected, o, get(&source, i) + (accumulate ? get(&expected, o) : 0));
        }
        for (int64_t i = 0; i < array_count(&x); i++)
          EXPECT_NEAR(get(&x, i), get(&expected, i), dtype, 1, "index_put");
        arena_used = 0;
      }
    }
  }
}

static void points(void) {
  static const int64_t shape[] = { 7, 6, 50 };
  for (moon_dtype dtype = 0; dtype < MOON_DTYPE_COUNT; dtype++) {
    for (int variant = 0; variant < 12; variant++) {
      int dim = variant % 3;
      bool accumulate = variant % 2;
      int64_t picked[] = { 7, 6, 50 }, at[3];
      picked[dim] = 9;
      layout how = (layout)(variant % BROADCAST);
      device_array index = random_array(MOON_I64, 3, picked, how, 0, (double)shape[dim]);
      device_array x = random_array(dtype, 3, shape, how, 0, 3);
      device_array y = make(dtype, 3, picked, (layout)((variant + 2) % BROADCAST));
      EXPECT_OK(kernels->gather(engine, dim, &x, &index, &y));
      device_array expected = make(dtype, 3, shape, CONTIGUOUS);
      device_array source = random_array(dtype, 3, picked, (layout)(variant % LAYOUTS), 0, 3);
      EXPECT_OK(kernels->copy(engine, &x, &expected));
      for (int64_t i = 0; i < array_count(&index); i++) {
        coordinates_of(3, picked, i, at);
        at[dim] = get_int(&index, i);
        int64_t o = number_of(3, shape, at);
        EXPECT(get(&y, i) == get(&x, o));
        put(&expected, o, get(&source, i) + (accumulate ? get(&expected, o) : 0));
      }
      EXPECT_OK(kernels->scatter(engine, dim, accumulate, &index, &source, &x));
      for (int64_t i = 0; i < array_count(&x); i++)
        EXPECT_NEAR(get(&x, i), get(&expected, i), dtype, 1, "scatter");
      arena_used = 0;
    }
  }
}

static void masks_ranges_and_counts(void) {
  const int64_t shape[] = { 30, 70 }, none[] = { 0 }, ten[] = { 10 };
  for (layout how = 0; how < LAYOUTS; how++) {
    device_array mask = random_array(MOON_BOOL, 2, shape, how, 0, 1);
    int64_t count = -1, again = -1, expected = 0;
    EXPECT_OK(kernels->mask_positions(engine, &mask, &count, NULL));
    device_array out = make(MOON_I64, 1, &count, how % BROADCAST);
    EXPECT_OK(kernels->mask_positions(engine, &mask, &again, &out));
    for (int64_t i = 0; i < 2100; i++)
      if (get(&mask, i)) EXPECT(get_int(&out, expected++) == i);
    EXPECT(count == expected && again == count);
  }
  int64_t low, high;
  device_array index = random_array(MOON_I64, 2, shape, STEPPED, -5, 10);
  EXPECT_OK(kernels->index_range(engine, &index, &low, &high));
  EXPECT(low == -5 && high == 9);
  device_array empty = make(MOON_I64, 1, none, CONTIGUOUS);
  EXPECT_OK(kernels->index_range(engine, &empty, &low, &high));
  EXPECT(low > high);
  const int64_t line[] = { 2000 };
  device_array x = random_array(MOON_I64, 1, line, NEGATIVE, 0, 10);
  device_array counts = make(MOON_I64, 1, ten, STEPPED);
  EXPECT_OK(kernels->bincount(engine, &x, &counts));
  for (int64_t k = 0; k < 10; k++) {
    int64_t expected = 0;
    for (int64_t i = 0; i < 2000; i++) expected += get_int(&x, i) == k;
    EXPECT(get_int(&counts, k) == expected);
  }
}

// -- random numbers
static uint32_t word_of(uint64_t seed, uint64_t first, int64_t i) {
  return random_philox(seed, first + (uint64_t)i / 4).word[i % 4];
}

static void uniform_numbers(void) {
  const int64_t shape[] = { 3, 35001 };
  for (moon_dtype dtype = MOON_F32; dtype <= MOON_BF16; dtype++) {
    device_array x = make(dtype, 2, shape, (layout)dtype);
    EXPECT_OK(kernels->random_uniform(engine, 7, 100, 0, 1, &x));
    double sum = 0;
    for (int64_t i = 0; i < 105003; i++) {
      EXPECT(get(&x, i) >= 0 && get(&x, i) < 1);
      sum += get(&x, i);
      if (dtype == MOON_F32 || dtype == MOON_F64)
        EXPECT(get(&x, i) == (double)random_unit(word_of(7, 100, i)));
    }
    EXPECT(fabs(sum / 105003 - 0.5) < 0.005);
    EXPECT_OK(kernels->random_uniform(engine, 8, 0, -3, -2.5, &x));
    for (int64_t i = 0; i < 105003; i++) EXPECT(get(&x, i) >= -3 && get(&x, i) < -2.5);
  }
}

static void normal_numbers(void) {
  const int64_t shape[] = { 200001 };
  device_array x = make(MOON_F32, 1, shape, CONTIGUOUS), y = make(MOON_F64, 1, shape, STEPPED);
  EXPECT_OK(kernels->random_normal(engine, 3, 5, 0, 1, &x));
  EXPECT_OK(kernels->random_normal(engine, 3, 5, 2, 3, &y));
  double moments[5] = { 0 };
  for (int64_t i = 0; i < shape[0]; i++) {
    double value = get(&x, i), power = 1;
    for (int m = 0; m < 5; m++, power *= value) moments[m] += power / (double)shape[0];
    EXPECT(fabs(get(&y, i) - (2 + 3 * value)) < 1e-5);
    int64_t k = i / 2 * 2;
    double radius = sqrt(-2 * log(random_unit(word_of(3, 5, k)) + 0x1p-24));
    double angle = 6.283185307179586 * word_of(3, 5, k + 1) * 0x1p-32;
    double exact = radius * (i % 2 ? sin(angle) : cos(angle));
    if (fabs(value - exact) > 1e-5)
      check_fail(__FILE__, __LINE__, "normal %lld: %g is not %g", (long long)i, value, exact);
  }
  EXPECT(fabs(moments[1]) < 0.01 && fabs(moments[2] - 1) < 0.01);
  EXPECT(fabs(moments[3]) < 0.03 && fabs(moments[4] - 3) < 0.1);
}

static void integers_and_orders(void) {
  const int64_t shape[] = { 20000 };
  device_array x = make(MOON_I64, 1, shape, STEPPED), seen = make(MOON_I64, 1, shape, CONTIGUOUS);
  EXPECT_OK(kernels->random_integers(engine, 1, 2, -3, 5, &x));
  int64_t counts[8] = { 0 };
  for (int64_t i = 0; i < shape[0]; i++) {
    EXPECT(get_int(&x, i) >= -3 && get_int(&x, i) < 5);
    counts[get_int(&x, i) + 3]++;
  }
  for (int k = 0; k < 8; k++) EXPECT(counts[k] > 2300 && counts[k] < 2700);
  EXPECT_OK(kernels->random_integers(engine, 1, 2, INT64_MIN, INT64_MAX, &x));
  EXPECT_FAIL(kernels->random_integers(engine, 1, 2, 5, 5, &x), MOON_BAD_ARGUMENT, "no integers");
  device_array order = make(MOON_I64, 1, shape, CONTIGUOUS);
  EXPECT_OK(kernels->random_permutation(engine, 9, 0, 10, &order));
  EXPECT_OK(kernels->fill_int(engine, 0, &seen));
  int64_t fixed = 0;
  for (int64_t i = 0; i < shape[0]; i++) {
    int64_t value = get_int(&order, i) - 10;
    EXPECT(value >= 0 && value < shape[0] && get(&seen, value) == 0);
    put(&seen, value, 1);
    fixed += value == i;
  }
  EXPECT(fixed < 10);
}

static void dropping(void) {
  const int64_t shape[] = { 3, 40001 };
  for (moon_dtype dtype = MOON_F32; dtype <= MOON_BF16; dtype++) {
    device_array x = random_array(dtype, 2, shape, TRANSPOSED, 1, 2);
    device_array mask = make(MOON_BOOL, 2, shape, CONTIGUOUS), y = make(dtype, 2, shape, STEPPED);
    EXPECT_OK(kernels->dropout(engine, 4, 6, 0.25, &x, &mask, &y));
    int64_t kept = 0;
    for (int64_t i = 0; i < 120003; i++) {
      bool keep = random_unit(word_of(4, 6, i)) >= 0.25f;
      EXPECT(get(&mask, i) == keep);
      EXPECT_NEAR(get(&y, i), keep ? get(&x, i) / 0.75 : 0, dtype, 1, "dropout");
      kept += keep;
    }
    EXPECT(fabs((double)kept / 120003 - 0.75) < 0.01);
    EXPECT_OK(kernels->dropout(engine, 4, 6, 1, &x, &mask, &y));
    EXPECT(get(&y, 5) == 0 && get(&mask, 5) == 0);
    EXPECT_OK(kernels->dropout(engine, 4, 6, 0, &x, &mask, &x));
    EXPECT(get(&mask, 5) == 1);
    arena_used = 0;
  }
}

// -- threads: everything above a grain, with 1, 2 and 3 threads
typedef struct results {
  device_array sum, columns, values, indices, sums, sorted, normal, dropped;
} results;

static void calculate(const device_array *x, results *r) {
  const int64_t one[] = { 1, 1 }, row[] = { 1, 500 };
  device_array mask = make(MOON_BOOL, 2, x->shape, CONTIGUOUS);
  r->sum = make(x->dtype, 2, one, CONTIGUOUS);
  r->columns = make(x->dtype, 2, row, CONTIGUOUS);
  r->values = make(x->dtype, 2, row, CONTIGUOUS);
  r->indices = make(MOON_I64, 2, row, CONTIGUOUS);
  r->sums = make(x->dtype, 2, x->shape, CONTIGUOUS);
  r->sorted = make(x->dtype, 2, x->shape, CONTIGUOUS);
  r->normal = make(x->dtype, 2, x->shape, CONTIGUOUS);
  r->dropped = make(x->dtype, 2, x->shape, CONTIGUOUS);
  EXPECT_OK(kernels->reduce(engine, REDUCE_SUM, x, &r->sum));
  EXPECT_OK(kernels->reduce(engine, REDUCE_MEAN, x, &r->columns));
  EXPECT_OK(kernels->extreme(engine, false, 0, x, &r->values, &r->indices));
  EXPECT_OK(kernels->cumsum(engine, 1, x, &r->sums));
  EXPECT_OK(kernels->sort(engine, 1, true, x, &r->sorted, NULL));
  EXPECT_OK(kernels->random_normal(engine, 1, 1, 0, 1, &r->normal));
  EXPECT_OK(kernels->dropout(engine, 1, 1, 0.5, x, &mask, &r->dropped));
}

static void expect_same_bits(const device_array *a, const device_array *b) {
  size_t bytes = (size_t)array_count(a) * dtype_size(a->dtype);
  EXPECT(memcmp(a->data, b->data, bytes) == 0);
}

static void threads_agree(void) {
  const int64_t shape[] = { 700, 500 };
  results one, more;
  device_array x = random_array(MOON_F32, 2, shape, CONTIGUOUS, -1, 1);
  for (int threads = 1; threads <= 3; threads++) {
    engine->max_threads = threads;
    calculate(&x, threads == 1 ? &one : &more);
    if (threads == 1) continue;
    const device_array *a = &one.sum, *b = &more.sum;
    for (size_t i = 0; i < sizeof one / sizeof one.sum; i++) expect_same_bits(&a[i], &b[i]);
  }
  engine->max_threads = 0;
}

// Draws are the same bits on every instruction set too.
static void draws_agree(void) {
  static unsigned char first[3][40000];
  const int64_t shape[] = { 10000 };
  device_array x = make(MOON_F32, 1, shape, CONTIGUOUS);
  for (int i = 0; i < 3; i++) {
    if (i == 0) EXPECT_OK(kernels->random_uniform(engine, 1, 2, -0.3, 0.7, &x));
    if (i == 1) EXPECT_OK(kernels->random_normal(engine, 1, 2, 0.1, 0.7, &x));
    if (i == 2) EXPECT_OK(kernels->random_integers(engine, 1, 2, -100, 1000, &x));
    if (level == CPU_BASELINE) memcpy(first[i], x.data, sizeof first[i]);
    EXPECT(memcmp(first[i], x.data, sizeof first[i]) == 0);
  }
}

// The kernels that need scratch say so when there is none, and work again afterwards.
static void allocations_fail(void) {
  const int64_t shape[] = { 100000 }, one[] = { 1 };
  device_array x = random_array(MOON_F32, 1, shape, CONTIGUOUS, 0, 1), y = x;
  device_array sum = make(MOON_F32, 1, one, CONTIGUOUS);
  y.data = arena_take(400000);
  engine->max_threads = 1;
  alloc_fail_after(1);
  EXPECT_FAIL(kernels->reduce(engine, REDUCE_SUM, &x, &sum), MOON_OUT_OF_MEMORY, "");
  alloc_fail_after(1);
  EXPECT_FAIL(kernels->sort(engine, 0, false, &x, &y, NULL), MOON_OUT_OF_MEMORY, "");
  alloc_fail_after(0);
  EXPECT_OK(kernels->reduce(engine, REDUCE_SUM, &x, &sum));
  EXPECT_OK(kernels->sort(engine, 0, false, &x, &y, NULL));
  engine->max_threads = 0;
}

int main(void) {
  if (engine_new(&engine) != MOON_OK) return 2;
  each_level("copies convert between all dtypes", copies_between_dtypes);
  each_level("casts saturate and round once", casts_at_the_ends);
  each_level("large copies keep every element", copies_move_large_arrays);
  each_level("filling and ranges", filling_and_ranges);
  each_level("selection", selection);
  each_level("reductions over any dimensions", reductions);
  each_level("large reductions", large_reductions);
  each_level("reductions of nothing and of NaN", reductions_of_nothing_and_nan);
  each_level("extremes and their places", extremes);
  each_level("running sums", running_sums);
  each_level("sorting is stable, topk takes the first", sorting);
  each_level("index_select and index_put", slices);
  each_level("gather and scatter", points);
  each_level("masks, ranges and counts", masks_ranges_and_counts);
  each_level("uniform numbers follow the stream", uniform_numbers);
  each_level("normal numbers follow the stream", normal_numbers);
  each_level("random integers and orders", integers_and_orders);
  each_level("dropout", dropping);
  each_level("any number of threads gives the same bits", threads_agree);
  each_level("draws are the same bits on every instruction set", draws_agree);
  each_level("a failed allocation is a status", allocations_fail);
  engine_release(engine);
  free(arena);
  return check_result();
}
