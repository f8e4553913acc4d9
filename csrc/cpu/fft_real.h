// The arithmetic of the Fourier transforms for one type. See fft.h for the method.
#include "cpu/fft.h"

#include <math.h>
#include <string.h>

// Complex numbers, real and imaginary parts apart.
typedef struct split { REAL *re, *im; } split;
typedef struct root { REAL re, im; } root;

static root root_of(const fft_chain *chain, int64_t k) {
  const REAL *re = chain->roots_re, *im = chain->roots_im;
  return (root){ re[k * chain->step], im[k * chain->step] };
}

// -- passes: x seen as (factor, m, s) becomes y as (m, factor, s), where s counts lines times the
// product of the factors before. y[p][k] = w^(pk) * sum over i of x[i][p] r^(ik), r the factor-th
// root and w the one of order factor * m; both are roots of the chain.
typedef struct pass { const fft_chain *chain; int64_t m, s, turn; } pass;   // turn: root of w

static void pass2(const pass *t, split x, split y) {
  const int64_t s = t->s, half = t->m * s;
  for (int64_t p = 0; p < t->m; p++) {
    const root w = root_of(t->chain, p * t->turn);
    const REAL *ar = x.re + p * s, *ai = x.im + p * s, *br = ar + half, *bi = ai + half;
    REAL *cr = y.re + 2 * p * s, *ci = y.im + 2 * p * s, *dr = cr + s, *di = ci + s;
    _Pragma("GCC ivdep") for (int64_t q = 0; q < s; q++) {
      const REAL tr = ar[q] - br[q], ti = ai[q] - bi[q];
      cr[q] = ar[q] + br[q];
      ci[q] = ai[q] + bi[q];
      dr[q] = tr * w.re - ti * w.im;
      di[q] = tr * w.im + ti * w.re;
    }
  }
}

static void pass4(const pass *t, split x, split y) {
  const int64_t s = t->s, step = t->m * s;
  for (int64_t p = 0; p < t->m; p++) {
    const root w1 = root_of(t->chain, p * t->turn), w2 = root_of(t->chain, 2 * p * t->turn);
    const root w3 = root_of(t->chain, 3 * p * t->turn);
    const REAL *xr = x.re + p * s, *xi = x.im + p * s;
    REAL *yr = y.re + 4 * p * s, *yi = y.im + 4 * p * s;
    _Pragma("GCC ivdep") for (int64_t q = 0; q < s; q++) {
      const REAL ar = xr[q], br = xr[q + step], cr = xr[q + 2 * step], dr = xr[q + 3 * step];
      const REAL ai = xi[q], bi = xi[q + step], ci = xi[q + 2 * step], di = xi[q + 3 * step];
      const REAL evr = ar + cr, evi = ai + ci, odr = ar - cr, odi = ai - ci;
      const REAL sur = br + dr, sui = bi + di, dfr = bi - di, dfi = dr - br;   // -i (b - d)
      const REAL k1r = odr + dfr, k1i = odi + dfi, k2r = evr - sur, k2i = evi - sui;
      const REAL k3r = odr - dfr, k3i = odi - dfi;
      yr[q] = evr + sur;
      yi[q] = evi + sui;
      yr[q + s] = k1r * w1.re - k1i * w1.im;
      yi[q + s] = k1r * w1.im + k1i * w1.re;
      yr[q + 2 * s] = k2r * w2.re - k2i * w2.im;
      yi[q + 2 * s] = k2r * w2.im + k2i * w2.re;
      yr[q + 3 * s] = k3r * w3.re - k3i * w3.im;
      yi[q + 3 * s] = k3r * w3.im + k3i * w3.re;
    }
  }
}

static void pass3(const pass *t, split x, split y) {
  const REAL sine = (REAL)0.86602540378443864676;   // sin(2 pi / 3)
  const int64_t s = t->s, step = t->m * s;
  for (int64_t p = 0; p < t->m; p++) {
    const root w1 = root_of(t->chain, p * t->turn), w2 = root_of(t->chain, 2 * p * t->turn);
    const REAL *xr = x.re + p * s, *xi = x.im + p * s;
    REAL *yr = y.re + 3 * p * s, *yi = y.im + 3 * p * s;
    _Pragma("GCC ivdep") for (int64_t q = 0; q < s; q++) {
      const REAL sur = xr[q + step] + xr[q + 2 * step], sui = xi[q + step] + xi[q + 2 * step];
      const REAL dfr = sine * (xi[q + step] - xi[q + 2 * step]);   // -i sine (b - c)
      const REAL dfi = sine * (xr[q + 2 * step] - xr[q + step]);
      const REAL mr = xr[q] - (REAL)0.5 * sur, mi = xi[q] - (REAL)0.5 * sui;
      const REAL k1r = mr + dfr, k1i = mi + dfi, k2r = mr - dfr, k2i = mi - dfi;
      yr[q] = xr[q] + sur;
      yi[q] = xi[q] + sui;
      yr[q + s] = k1r * w1.re - k1i * w1.im;
      yi[q + s] = k1r * w1.im + k1i * w1.re;
      yr[q + 2 * s] = k2r * w2.re - k2i * w2.im;
      yi[q + 2 * s] = k2r * w2.im + k2i * w2.re;
    }
  }
}

// Any factor: each result is a sum with constant coefficients, added up in place.
static void pass_any(const pass *t, int64_t factor, split x, split y) {
  const int64_t s = t->s, m = t->m, circle = t->chain->length / factor;
  for (int64_t p = 0; p < m; p++) {
    for (int64_t k = 0; k < factor; k++) {
      const root w = root_of(t->chain, p * k * t->turn);
      REAL *yr = y.re + (factor * p + k) * s, *yi = y.im + (factor * p + k) * s;
      for (int64_t q = 0; q < s; q++) yr[q] = yi[q] = 0;
      for (int64_t i = 0; i < factor; i++) {
        const root r = root_of(t->chain, i * k % factor * circle);
        const REAL cr = r.re * w.re - r.im * w.im, ci = r.re * w.im + r.im * w.re;
        const REAL *xr = x.re + (p + m * i) * s, *xi = x.im + (p + m * i) * s;
        _Pragma("GCC ivdep") for (int64_t q = 0; q < s; q++) {
          yr[q] += xr[q] * cr - xi[q] * ci;
          yi[q] += xr[q] * ci + xi[q] * cr;
        }
      }
    }
  }
}

// Transforms `width` lines; gives the one of the two buffers that holds the result.
static split transform(const fft_chain *chain, int64_t width, split x, split y) {
  int64_t left = chain->length, done = 1;
  for (int i = 0; i < chain->count; i++) {
    int64_t factor = chain->factors[i];
    left /= factor;
    const pass t = { .chain = chain, .m = left, .s = done * width, .turn = done };
    if (factor == 4) pass4(&t, x, y);
    else if (factor == 2) pass2(&t, x, y);
    else if (factor == 3) pass3(&t, x, y);
    else pass_any(&t, factor, x, y);
    done *= factor;
    split kept = x;
    x = y;
    y = kept;
  }
  return x;
}

bool CPU(NAME(fft_lines))(const fft_chain *chain, int64_t width, void *const x[2],
                          void *const y[2]) {
  return transform(chain, width, (split){ x[0], x[1] }, (split){ y[0], y[1] }).re == y[0];
}

// -- tables

// cos and sin of 2 pi k / n, 0 <= k < n, from an argument within an eighth of the circle.
static void circle_point(uint64_t k, uint64_t n, double *cosine, double *sine) {
  const double pi = 3.14159265358979323846;
  uint64_t x = 8 * k, eighth = x / n, in = x % n;
  bool back = eighth & 1;                     // counted from the eighth's other end
  double angle = pi / 4 * ((double)(back ? n - in : in) / (double)n);
  double c = cos(angle), s = sin(angle);
  bool swap = eighth == 1 || eighth == 2 || eighth == 5 || eighth == 6;
  double across = swap ? s : c, up = swap ? c : s;
  *cosine = eighth >= 2 && eighth < 6 ? -across : across;
  *sine = eighth >= 4 ? -up : up;
}

void CPU(NAME(fft_roots))(int64_t n, void *re, void *im) {
  REAL *r = re, *i = im;
  for (int64_t k = 0; k < n; k++) {
    double cosine, sine;
    circle_point((uint64_t)k, (uint64_t)n, &cosine, &sine);
    r[k] = (REAL)cosine;
    i[k] = (REAL)-sine;
  }
}

void CPU(NAME(fft_chirp))(const fft_job *job, void *const chirp[2], void *const filter[2],
                          void *work) {
  const int64_t n = job->length, padded = job->chain.length;
  split c = { chirp[0], chirp[1] }, f = { work, (REAL *)work + padded };
  split g = { f.im + padded, f.im + 2 * padded };
  memset(work, 0, (size_t)padded * 2 * sizeof(REAL));
  uint64_t square = 0, turn = 2 * (uint64_t)n;   // j^2 modulo 2n
  for (int64_t j = 0; j < n; j++) {
    double cosine, sine;
    circle_point(square, turn, &cosine, &sine);
    c.re[j] = (REAL)cosine;
    c.im[j] = (REAL)-sine;
    f.re[j] = f.re[(padded - j) % padded] = c.re[j];
    f.im[j] = f.im[(padded - j) % padded] = -c.im[j];
    square = (square + 2 * (uint64_t)j + 1) % turn;
  }
  split done = transform(&job->chain, 1, f, g);
  REAL *re = filter[0], *im = filter[1];
  for (int64_t k = 0; k < padded; k++) {
    re[k] = done.re[k] / (REAL)padded;
    im[k] = done.im[k] / (REAL)padded;
  }
}

// x[j] *= a[j] for every line
static void times_table(int64_t count, int64_t width, const void *re, const void *im, split x) {
  const REAL *ar = re, *ai = im;
  for (int64_t j = 0; j < count; j++) {
    _Pragma("GCC ivdep") for (int64_t l = 0; l < width; l++) {
      const REAL xr = x.re[j * width + l], xi = x.im[j * width + l];
      x.re[j * width + l] = xr * ar[j] - xi * ai[j];
      x.im[j * width + l] = xr * ai[j] + xi * ar[j];
    }
  }
}

// The transform of job->length, through the chirp where the length asks for it: with
// jk = (j^2 + k^2 - (k - j)^2) / 2 it is a convolution of the chirped signal with a chirp.
static split spectrum(const fft_job *job, int64_t width, split x, split y) {
  const int64_t n = job->length, padded = job->chain.length;
  if (!job->chirped) return transform(&job->chain, width, x, y);
  times_table(n, width, job->chirp_re, job->chirp_im, x);
  memset(x.re + n * width, 0, (size_t)((padded - n) * width) * sizeof(REAL));
  memset(x.im + n * width, 0, (size_t)((padded - n) * width) * sizeof(REAL));
  split z = transform(&job->chain, width, x, y), other = z.re == x.re ? y : x;
  times_table(padded, width, job->filter_re, job->filter_im, z);
  // Swapping the parts before and after turns a transform into its inverse.
  z = transform(&job->chain, width, (split){ z.im, z.re }, (split){ other.im, other.re });
  z = (split){ z.im, z.re };
  times_table(n, width, job->chirp_re, job->chirp_im, z);
  return z;
}

// -- a group of lines

typedef struct group { int64_t width, x[FFT_WIDTH], out[FFT_WIDTH]; } group;   // offsets

static group group_at(const fft_job *job, int64_t index) {
  int64_t first = index * job->width, at[MOON_MAX_DIMS] = { 0 };
  group g = { .width = job->lines.count - first };
  if (g.width > job->width) g.width = job->width;
  CPU(walk_seek)(&job->lines, first, at);
  for (int64_t l = 0; l < g.width; l++) {
    g.x[l] = cpu_walk_offset(&job->lines, 0, at);
    g.out[l] = cpu_walk_offset(&job->lines, 1, at);
    if (l + 1 < g.width) cpu_walk_advance(&job->lines, at, 1);
  }
  return g;
}

// How far apart the group's lines lie where that is the same for all of them, else 0.
static int64_t apart(const group *g, const int64_t *offsets) {
  if (g->width < 2) return 0;
  const int64_t step = offsets[1] - offsets[0];
  for (int64_t l = 2; l < g->width; l++)
    if (offsets[l] - offsets[l - 1] != step) return 0;
  return step;
}

// Lines and the side-by-side buffer are brought together in blocks of BLOCK elements of each line,
// so that both stay in the cache; neighbouring lines go row by row.
enum { BLOCK = 32 };

// to[i][line] = x[line][shift + i * every along the line]
static void load(const fft_job *job, const group *g, int64_t shift, int64_t every, int64_t count,
                 REAL *to) {
  const REAL *x = (const REAL *)job->x->data + shift;
  const int64_t step = every * job->x_stride, width = g->width, between = apart(g, g->x);
  if (between == 1 || between == 2) {
    for (int64_t i = 0; i < count; i++)
      for (int64_t l = 0; l < width; l++) to[i * width + l] = x[g->x[0] + i * step + l * between];
    return;
  }
  for (int64_t first = 0; first < count; first += BLOCK) {
    const int64_t last = first + BLOCK < count ? first + BLOCK : count;
    for (int64_t l = 0; l < width; l++)
      for (int64_t i = first; i < last; i++) to[i * width + l] = x[g->x[l] + i * step];
  }
}

static void store(const fft_job *job, const group *g, int64_t shift, int64_t every, int64_t count,
                  const REAL *from) {
  REAL *out = (REAL *)job->out->data + shift;
  const int64_t step = every * job->out_stride, width = g->width, between = apart(g, g->out);
  const REAL scale = (REAL)job->scale;
  if (between == 1 || between == 2) {
    for (int64_t i = 0; i < count; i++)
      for (int64_t l = 0; l < width; l++)
        out[g->out[0] + i * step + l * between] = scale * from[i * width + l];
    return;
  }
  for (int64_t first = 0; first < count; first += BLOCK) {
    const int64_t last = first + BLOCK < count ? first + BLOCK : count;
    for (int64_t l = 0; l < width; l++)
      for (int64_t i = first; i < last; i++)
        out[g->out[l] + i * step] = scale * from[i * width + l];
  }
}

static void complex_group(const fft_job *job, const group *g, split a, split b) {
  split x = job->inverse ? (split){ a.im, a.re } : a;
  load(job, g, 0, 1, job->n, x.re);
  load(job, g, job->x_pair, 1, job->n, x.im);
  split z = spectrum(job, g->width, a, b);
  store(job, g, 0, 1, job->n, job->inverse ? z.im : z.re);
  store(job, g, job->out_pair, 1, job->n, job->inverse ? z.re : z.im);
}

// Z is the transform of even elements plus i times odd ones: with E and O those of the two,
// E = (Z[k] + conj Z[h - k]) / 2, O = (Z[k] - conj Z[h - k]) / 2i, X[k] = E + w^k O. In `x`.
static void untangle(const fft_job *job, int64_t width, split z, split x) {
  const int64_t half = job->length;
  const REAL *wr = job->roots_re, *wi = job->roots_im, two = (REAL)0.5;
  for (int64_t k = 0; k <= half; k++) {
    const REAL *ar = z.re + k % half * width, *ai = z.im + k % half * width;
    const REAL *br = z.re + (half - k) % half * width, *bi = z.im + (half - k) % half * width;
    _Pragma("GCC ivdep") for (int64_t l = 0; l < width; l++) {
      const REAL er = two * (ar[l] + br[l]), ei = two * (ai[l] - bi[l]);
      const REAL or = two * (ai[l] + bi[l]), oi = two * (br[l] - ar[l]);
      x.re[k * width + l] = er + or * wr[k] - oi * wi[k];
      x.im[k * width + l] = ei + or * wi[k] + oi * wr[k];
    }
  }
}

static void real_group(const fft_job *job, const group *g, split a, split b) {
  const int64_t results = job->n / 2 + 1;
  if (job->halved) {
    load(job, g, 0, 2, job->length, a.re);
    load(job, g, job->x_stride, 2, job->length, a.im);
  } else {
    load(job, g, 0, 1, job->n, a.re);
    memset(a.im, 0, (size_t)(job->n * g->width) * sizeof(REAL));
  }
  split z = spectrum(job, g->width, a, b);
  if (job->halved) {
    split x = z.re == a.re ? b : a;
    untangle(job, g->width, z, x);
    z = x;
  }
  store(job, g, 0, 1, results, z.re);
  store(job, g, job->out_pair, 1, results, z.im);
}

// The reverse of untangle, for the inverse transform: Z[k] = (X[k] + conj X[h - k])
// + i w^-k (X[k] - conj X[h - k]).
static void tangle(const fft_job *job, int64_t width, split x, split z) {
  const int64_t half = job->length;
  const REAL *wr = job->roots_re, *wi = job->roots_im;
  for (int64_t k = 0; k < half; k++) {
    const REAL *ar = x.re + k * width, *ai = x.im + k * width;
    const REAL *br = x.re + (half - k) * width, *bi = x.im + (half - k) * width;
    _Pragma("GCC ivdep") for (int64_t l = 0; l < width; l++) {
      const REAL er = ar[l] + br[l], ei = ai[l] - bi[l], dr = ar[l] - br[l], di = ai[l] + bi[l];
      const REAL or = dr * wr[k] + di * wi[k], oi = di * wr[k] - dr * wi[k];
      z.re[k * width + l] = er - oi;
      z.im[k * width + l] = ei + or;
    }
  }
}

// The other half of a real signal's spectrum, for odd lengths.
static void mirror(int64_t n, int64_t width, split x) {
  for (int64_t k = n / 2 + 1; k < n; k++) {
    _Pragma("GCC ivdep") for (int64_t l = 0; l < width; l++) {
      x.re[k * width + l] = x.re[(n - k) * width + l];
      x.im[k * width + l] = -x.im[(n - k) * width + l];
    }
  }
}

// The imaginary parts at frequency 0, and at n / 2, belong to no real signal and are not read.
static void to_real_group(const fft_job *job, const group *g, split a, split b) {
  const int64_t width = g->width, given = job->n / 2 + 1;
  load(job, g, 0, 1, given, a.re);
  load(job, g, job->x_pair, 1, given, a.im);
  memset(a.im, 0, (size_t)width * sizeof(REAL));
  if (!job->halved) {
    mirror(job->n, width, a);
    split z = spectrum(job, width, (split){ a.im, a.re }, (split){ b.im, b.re });
    store(job, g, 0, 1, job->n, z.im);
    return;
  }
  memset(a.im + (given - 1) * width, 0, (size_t)width * sizeof(REAL));
  tangle(job, width, a, b);
  split z = spectrum(job, width, (split){ b.im, b.re }, (split){ a.im, a.re });
  store(job, g, 0, 2, job->length, z.im);
  store(job, g, job->out_stride, 2, job->length, z.re);
}

moon_status CPU(NAME(fft_groups))(void *context, int64_t first, int64_t last) {
  const fft_job *job = context;
  const size_t part = (size_t)(job->room * job->width), bytes = 4 * part * sizeof(REAL);
  void *block;
  MOON_TRY(alloc_bytes(job->engine, bytes, &block));
  REAL *at = block;
  split a = { at, at + part }, b = { at + 2 * part, at + 3 * part };
  for (int64_t i = first; i < last; i++) {
    const group g = group_at(job, i);
    if (job->kind == FFT_COMPLEX) complex_group(job, &g, a, b);
    else if (job->kind == FFT_REAL) real_group(job, &g, a, b);
    else to_real_group(job, &g, a, b);
  }
  alloc_release(job->engine, block, bytes);
  return MOON_OK;
}
