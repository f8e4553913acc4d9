// The Fourier transform slots: tables, and lines handed out in groups. See fft.h for the method.
#include "cpu/fft.h"

enum { LONG_LINE = 8192 };   // longer ones are transformed with fewer beside them

bool CPU(fft_factor)(int64_t n, fft_chain *chain) {
  chain->length = n;
  chain->count = 0;
  while (n % 4 == 0) chain->factors[chain->count++] = 4, n /= 4;
  for (int64_t f = 2; n > 1 && f <= FFT_LARGEST_FACTOR; f++)
    while (n % f == 0) chain->factors[chain->count++] = f, n /= f;
  return n == 1;
}

static int64_t chirp_length(int64_t n) {
  int64_t padded = 1;
  while (padded < 2 * n - 1) padded *= 2;
  return padded;
}

// The arrays without the transformed dimension and without the pairs: what lines are counted over.
static device_array lines_of(const device_array *array, int dim, bool pairs) {
  device_array lines = *array;
  lines.shape[dim] = 1;
  lines.ndim -= pairs;
  return lines;
}

static void set_lines(fft_job *job, int dim) {
  bool x_pairs = job->kind != FFT_REAL, out_pairs = job->kind != FFT_TO_REAL;
  device_array x = lines_of(job->x, dim, x_pairs), out = lines_of(job->out, dim, out_pairs);
  const device_array *arrays[2] = { &x, &out };
  CPU(walk_open)(&job->lines, 2, arrays, true);
  job->x_stride = job->x->strides[dim];
  job->out_stride = job->out->strides[dim];
  job->x_pair = x_pairs ? job->x->strides[x.ndim] : 0;
  job->out_pair = out_pairs ? job->out->strides[out.ndim] : 0;
  job->width = job->length > LONG_LINE ? 1 : job->lines.count < FFT_WIDTH ? job->lines.count
                                                                          : FFT_WIDTH;
}

// The tables in one block: roots of n, then, for a chirp, its chain's roots, chirp and filter.
typedef struct fft_tables { void *block; size_t bytes; } fft_tables;

static moon_status set_tables(fft_job *job, fft_tables *tables) {
  size_t size = dtype_size(job->x->dtype);
  size_t n = (size_t)job->n, padded = job->chirped ? (size_t)job->chain.length : 0;
  size_t length = job->chirped ? (size_t)job->length : 0, numbers = 2 * n + 2 * length + 8 * padded;
  bool wide = job->x->dtype == MOON_F64;
  MOON_TRY(alloc_product(numbers, size, &tables->bytes));
  MOON_TRY(alloc_bytes(job->engine, tables->bytes, &tables->block));
  char *at = tables->block;
  void *re = at, *im = at + n * size;
  (wide ? CPU(fft_roots_f64) : CPU(fft_roots_f32))(job->n, re, im);
  job->roots_re = re, job->roots_im = im;
  job->chain.step = 1;
  job->chain.roots_re = re, job->chain.roots_im = im;
  if (!job->chirped) {
    job->chain.step = job->n / job->length;
    return MOON_OK;
  }
  at += 2 * n * size;
  re = at, im = at + padded * size;
  (wide ? CPU(fft_roots_f64) : CPU(fft_roots_f32))(job->chain.length, re, im);
  job->chain.roots_re = re, job->chain.roots_im = im;
  at += 2 * padded * size;
  void *chirp[2] = { at, at + length * size };
  at += 2 * length * size;
  void *filter[2] = { at, at + padded * size }, *work = at + 2 * padded * size;
  (wide ? CPU(fft_chirp_f64) : CPU(fft_chirp_f32))(job, chirp, filter, work);
  job->chirp_re = chirp[0], job->chirp_im = chirp[1];
  job->filter_re = filter[0], job->filter_im = filter[1];
  return MOON_OK;
}

static moon_status run(fft_job *job, int dim) {
  fft_tables tables = { 0 };
  job->halved = job->kind != FFT_COMPLEX && job->n % 2 == 0;
  job->length = job->halved ? job->n / 2 : job->n;
  job->chirped = !CPU(fft_factor)(job->length, &job->chain);
  if (job->chirped) (void)CPU(fft_factor)(chirp_length(job->length), &job->chain);
  job->room = job->chain.length + 1;   // half a spectrum has one element more than its transform
  set_lines(job, dim);
  if (job->lines.count == 0) return MOON_OK;
  MOON_TRY(set_tables(job, &tables));
  int64_t groups = (job->lines.count + job->width - 1) / job->width;
  int64_t work = job->chain.length * job->width * 4;
  moon_status status =
      cpu_run(job->engine, groups, cpu_grain(work),
              job->x->dtype == MOON_F64 ? CPU(fft_groups_f64) : CPU(fft_groups_f32), job);
  alloc_release(job->engine, tables.block, tables.bytes);
  return status;
}

moon_status CPU(fft)(moon_engine *engine, int dim, bool inverse, double scale,
                     const device_array *x, const device_array *out) {
  fft_job job = { .engine = engine, .kind = FFT_COMPLEX, .inverse = inverse, .scale = scale,
                  .n = x->shape[dim], .x = x, .out = out };
  return run(&job, dim);
}

moon_status CPU(fft_real)(moon_engine *engine, int dim, double scale, const device_array *x,
                          const device_array *out) {
  fft_job job = { .engine = engine, .kind = FFT_REAL, .scale = scale, .n = x->shape[dim], .x = x,
                  .out = out };
  return run(&job, dim);
}

moon_status CPU(fft_to_real)(moon_engine *engine, int dim, double scale, const device_array *x,
                             const device_array *out) {
  fft_job job = { .engine = engine, .kind = FFT_TO_REAL, .scale = scale, .n = out->shape[dim],
                  .x = x, .out = out };
  return run(&job, dim);
}
