// Discrete Fourier transforms. Lines are gathered from wherever they lie into scratch, (lines,
// n) of pairs (re, im), transformed there by cuFFT, or without it by passes of our own, and
// scattered with the scale: two passes over memory besides the transform itself.
//
// Our transform is Stockham's, a pass for each factor of n (4, then 2, 3, 5 and whatever primes
// there are): with A(j, k) at k * (n / l) + j the transform of length l of every (n / l)-th element
// from j on,
//   A'(j, k) of length l r = sum over u < r of exp(-2 pi i u k / (l r)) A(j + u n / (l r), k mod l)
// A thread makes one element of A'. A pass is bound by memory and costs r reads an element, most of
// them from cache; a length that is a large prime p times something is as slow as a product with a
// p x p matrix.
#include <math.h>

#include "libraries.cuh"
#include "walk.cuh"

template <typename T> struct alignas(2 * sizeof(T)) pair { T re, im; };

enum fft_kind { FFT_COMPLEX, FFT_REAL, FFT_TO_REAL };

// -- the lines, as they lie in the arrays

struct fft_side {
  void *data;
  int64_t stride, imaginary;   // along the line, and from re to im
};

struct fft_lines {
  fft_kind kind;
  int64_t n, count;
  cuda_walk<2> walk;           // of the first elements in x and out
  fft_side x, out;
};

// Element j of a line: what is not there follows from the symmetry of a real signal's spectrum.
template <typename T>
static __device__ pair<T> signal_element(const fft_lines &l, int64_t line_at, int64_t j) {
  const T *x = (const T *)l.x.data + line_at;
  bool mirrored = l.kind == FFT_TO_REAL && j > l.n / 2;
  int64_t at = (mirrored ? l.n - j : j) * l.x.stride;
  if (l.kind == FFT_REAL) return { x[at], 0 };
  if (l.kind == FFT_TO_REAL && (j == 0 || 2 * j == l.n)) return { x[at], 0 };
  T im = x[at + l.x.imaginary];
  return { x[at], mirrored ? -im : im };
}

// Lines first .. first + count - 1 to scratch. Neighbouring threads take neighbouring elements of
// a line, or neighbouring lines where those are nearer.
template <typename T>
static __global__ void gather_lines(fft_lines l, int64_t first, int64_t count, bool across,
                                    pair<T> *lines) {
  CUDA_EACH(i, count * l.n) {
    int64_t line = across ? i % count : i / l.n, j = across ? i / count : i % l.n, at[2];
    l.walk.find(first + line, at);
    lines[line * l.n + j] = signal_element<T>(l, at[0], j);
  }
}

template <typename T>
static __global__ void scatter_lines(fft_lines l, int64_t first, int64_t count, bool across,
                                     T scale, const pair<T> *lines) {
  int64_t length = l.kind == FFT_REAL ? l.n / 2 + 1 : l.n;
  CUDA_EACH(i, count * length) {
    int64_t line = across ? i % count : i / length, j = across ? i / count : i % length, at[2];
    l.walk.find(first + line, at);
    pair<T> value = lines[line * l.n + j];
    T *out = (T *)l.out.data + at[1] + j * l.out.stride;
    out[0] = value.re * scale;
    if (l.kind != FFT_TO_REAL) out[l.out.imaginary] = value.im * scale;
  }
}

// -- the transform

// roots[i] = exp(-+2 pi i i / n), calculated in double.
template <typename T>
static __global__ void fill_roots(int64_t n, double sign, pair<T> *roots) {
  const double turn = 6.283185307179586476925287;
  CUDA_EACH(i, n) {
    double angle = sign * turn * ((double)i / (double)n);
    roots[i] = { (T)cos(angle), (T)sin(angle) };
  }
}

// From transforms of length `done` to those of done * radix.
template <typename T>
static __global__ void fft_pass(int64_t lines, int64_t n, int64_t done, int64_t radix,
                                const pair<T> *roots, const pair<T> *from, pair<T> *to) {
  const int64_t length = done * radix, apart = n / length;
  CUDA_EACH(i, lines * n) {
    int64_t within = i % n, k = within / apart, j = within % apart, turn = 0;
    const pair<T> *x = from + (i - within) + k % done * (apart * radix) + j;
    pair<T> sum = { 0, 0 };
    for (int64_t u = 0; u < radix; u++) {
      pair<T> w = roots[turn * apart], v = x[u * apart];
      sum.re += w.re * v.re - w.im * v.im;
      sum.im += w.re * v.im + w.im * v.re;
      turn += k;
      if (turn >= length) turn -= length;
    }
    to[i] = sum;
  }
}

// The next factor of what is left of n.
static int64_t next_factor(int64_t rest) {
  if (rest % 4 == 0) return 4;
  for (int64_t f = 2; f * f <= rest; f++)
    if (rest % f == 0) return f;
  return rest;
}

// Transforms lines in `*x`, using `y` and room for n roots; x and y may change places.
template <typename T>
static moon_status own_transform(cuda_context *c, int64_t lines, int64_t n, bool inverse,
                                 pair<T> *roots, pair<T> **x, pair<T> *y) {
  MOON_TRY(cuda_launch(c, cuda_blocks(n), CUDA_BLOCK, fill_roots<T>, n, inverse ? 1.0 : -1.0,
                       roots));
  for (int64_t done = 1; done < n;) {
    int64_t radix = next_factor(n / done);
    MOON_TRY(cuda_launch(c, cuda_blocks(lines * n), CUDA_BLOCK, fft_pass<T>, lines, n, done, radix,
                         (const pair<T> *)roots, (const pair<T> *)*x, y));
    pair<T> *other = *x;
    *x = y;
    y = other;
    done *= radix;
  }
  return MOON_OK;
}

static bool goes_across(const fft_lines *l, int operand, int64_t stride) {
  return l->walk.count > 1 && llabs(l->walk.strides[operand][l->walk.ndim - 1]) < llabs(stride);
}

// `lines` lines from the one numbered `at` on.
template <typename T>
static moon_status run_lines(cuda_context *c, const fft_lines *l, int64_t at, int64_t lines,
                             bool inverse, double scale) {
  cuda_scratch first(c), second(c), roots(c);
  const moon_dtype dtype = sizeof(T) == sizeof(double) ? MOON_F64 : MOON_F32;
  const size_t bytes = (size_t)l->n * sizeof(pair<T>);
  const unsigned blocks = cuda_blocks(lines * l->n);
  bool done;
  MOON_TRY(first.take((size_t)lines * bytes));
  pair<T> *x = first.as<pair<T>>();
  MOON_TRY(cuda_launch(c, blocks, CUDA_BLOCK, gather_lines<T>, *l, at, lines,
                       goes_across(l, 0, l->x.stride), x));
  MOON_TRY(cufft_transform(c, dtype, lines, l->n, inverse, x, &done));
  if (!done) {
    MOON_TRY(second.take((size_t)lines * bytes));
    MOON_TRY(roots.take(bytes));
    MOON_TRY(own_transform(c, lines, l->n, inverse, roots.as<pair<T>>(), &x,
                           second.as<pair<T>>()));
  }
  return cuda_launch(c, blocks, CUDA_BLOCK, scatter_lines<T>, *l, at, lines,
                     goes_across(l, 1, l->out.stride), (T)scale, (const pair<T> *)x);
}

// As many lines at a time as the workspace holds.
template <typename T>
static moon_status run(cuda_context *c, const fft_lines *l, bool inverse, double scale) {
  int64_t bytes = 2 * l->n * (int64_t)sizeof(pair<T>);
  int64_t most = cuda_library->settings(c->engine).workspace_limit / bytes;
  if (most < 1) most = 1;
  for (int64_t at = 0; at < l->count; at += most) {
    int64_t lines = l->count - at < most ? l->count - at : most;
    MOON_TRY(run_lines<T>(c, l, at, lines, inverse, scale));
  }
  return MOON_OK;
}

// -- the slots

// What lines are counted over: the array without the transformed dimension and without pairs.
static device_array lines_of(const device_array *array, int dim, bool pairs) {
  device_array lines = *array;
  lines.shape[dim] = 1;
  lines.ndim -= pairs;
  return lines;
}

static fft_side side_of(const device_array *array, int dim, bool pairs) {
  return { array->data, array->strides[dim], pairs ? array->strides[array->ndim - 1] : 0 };
}

static moon_status run_kind(cuda_context *c, fft_kind kind, int dim, int64_t n, bool inverse,
                            double scale, const device_array *x, const device_array *out) {
  fft_lines l = {};
  bool x_pairs = kind != FFT_REAL, out_pairs = kind != FFT_TO_REAL;
  device_array from = lines_of(x, dim, x_pairs), to = lines_of(out, dim, out_pairs);
  const device_array *arrays[2] = { &from, &to };
  cuda_walk_open(&l.walk, arrays, true);
  l.kind = kind;
  l.n = n;
  l.count = l.walk.count;
  l.x = side_of(x, dim, x_pairs);
  l.out = side_of(out, dim, out_pairs);
  if (l.count == 0) return MOON_OK;
  return x->dtype == MOON_F64 ? run<double>(c, &l, inverse, scale)
                              : run<float>(c, &l, inverse, scale);
}

moon_status cuda_fft(cuda_context *c, int dim, bool inverse, double scale, const device_array *x,
                     const device_array *out) {
  return run_kind(c, FFT_COMPLEX, dim, x->shape[dim], inverse, scale, x, out);
}

moon_status cuda_fft_real(cuda_context *c, int dim, double scale, const device_array *x,
                          const device_array *out) {
  return run_kind(c, FFT_REAL, dim, x->shape[dim], false, scale, x, out);
}

moon_status cuda_fft_to_real(cuda_context *c, int dim, double scale, const device_array *x,
                             const device_array *out) {
  return run_kind(c, FFT_TO_REAL, dim, out->shape[dim], true, scale, x, out);
}
