// What fft.c (slots, tables' shapes, lines) and fft_real.h (the arithmetic, once for float and once
// for double) share.
//
// A transform of length n is a chain of passes, one a factor of n (4, 2, 3, 5, then other primes up
// to FFT_LARGEST_FACTOR): Stockham's self-sorting form, which needs no bit reversal and whose inner
// loop runs over memory in order. Up to FFT_WIDTH lines are transformed side by side, the line
// being the innermost index, so that even the first pass fills vectors. Real and imaginary parts
// lie apart. A length with a larger prime factor is a convolution with a chirp at a power of two
// (Bluestein 1970). A real signal of even length is a complex one of half the length and one more
// pass.
#ifndef MOON_CPU_FFT_H
#define MOON_CPU_FFT_H

#include "cpu/cpu.h"

enum {
  FFT_WIDTH = 16,            // lines side by side
  FFT_LARGEST_FACTOR = 31,
  FFT_MAX_FACTORS = 64,
};

typedef enum fft_kind { FFT_COMPLEX, FFT_REAL, FFT_TO_REAL } fft_kind;

// A chain of passes. Its roots of unity exp(-2 pi i k / length) are roots[k * step].
typedef struct fft_chain {
  int64_t length, step;
  int count;
  int64_t factors[FFT_MAX_FACTORS];
  const void *roots_re, *roots_im;
} fft_chain;

typedef struct fft_job {
  moon_engine *engine;
  fft_kind kind;
  bool inverse;                     // FFT_COMPLEX only; FFT_TO_REAL always is
  double scale;
  int64_t n;                        // length of the signal
  bool halved;                      // a real signal of even length, transformed at n / 2
  int64_t length;                   // of the complex transform
  int64_t room;                     // elements a line needs in a buffer
  fft_chain chain;                  // of `length`, or of the chirp's power of two
  bool chirped;
  const void *roots_re, *roots_im;  // exp(-2 pi i k / n), k < n
  const void *chirp_re, *chirp_im;  // exp(-pi i j^2 / length), j < length
  const void *filter_re, *filter_im;   // transform of the conjugate chirp, divided by its length
  const device_array *x, *out;
  int64_t x_stride, x_pair, out_stride, out_pair;   // along the line; from re to im
  int64_t width;
  cpu_walk lines;                   // operand 0: x, 1: out
} fft_job;

// Whether `n` has only small prime factors; they go into the chain.
bool CPU(fft_factor)(int64_t n, fft_chain *chain);

// Transforms `width` lines side by side, parts re and im; true: the result is in y, else in x.
bool CPU(fft_lines_f32)(const fft_chain *chain, int64_t width, void *const x[2], void *const y[2]);
bool CPU(fft_lines_f64)(const fft_chain *chain, int64_t width, void *const x[2], void *const y[2]);

// Tables, once a call. `roots`: re then im of n numbers.
void CPU(fft_roots_f32)(int64_t n, void *re, void *im);
void CPU(fft_roots_f64)(int64_t n, void *re, void *im);
// chirp and filter of a job whose chain is set; work holds 4 * chain.length numbers.
void CPU(fft_chirp_f32)(const fft_job *job, void *const chirp[2], void *const filter[2],
                        void *work);
void CPU(fft_chirp_f64)(const fft_job *job, void *const chirp[2], void *const filter[2],
                        void *work);
// The task: items are groups of job->width lines.
moon_status CPU(fft_groups_f32)(void *context, int64_t first, int64_t last);
moon_status CPU(fft_groups_f64)(void *context, int64_t first, int64_t last);

#endif
