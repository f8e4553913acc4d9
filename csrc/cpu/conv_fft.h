// Convolutions with large kernels through Fourier transforms, by tiles (overlap and save): a tile
// of the source is transformed, multiplied with the transformed weights at each frequency (a
// product over channels, on the tiles of micro.h) and transformed back. Up to the rounding of the
// transforms the work does not depend on the size of the kernel.
//
//   spectra    half of the frequencies (the arrays are real): at each, for each tile, channels of
//              the real part and then of the imaginary part, in whole panels of columns. Sources
//              have the negative real part behind them: products of complex numbers are then two
//              real ones with the same right operand.
//   transform  two vectors of channels at once, as the real and the imaginary part of one signal
//
// Gradients of the input are correlations with the weights turned round, of the result's gradient
// with zeros put between where there is a stride. Gradients of weights multiply the spectra of the
// two over tiles; of what comes back only the taps are kept.
#ifndef MOON_CPU_CONV_FFT_H
#define MOON_CPU_CONV_FFT_H

#include "cpu/convolution.h"
#include "cpu/fft.h"

// What tiles are read from or written to: element p / step of each axis where p, counted from
// `before` ahead of the first, is a multiple of step; else there is a zero, or nothing.
typedef struct fft_grid {
  const device_array *array;
  int64_t before[2], step[2];
  int64_t extent[2];             // of a tile that is taken; the rest is zeros
  int64_t padded;                // channels in whole panels
  int parts;                     // blocks of channels in its spectra: 2, of sources 3
} fft_grid;

typedef struct fft_plan {
  moon_engine *engine;
  const conv_problem *problem;
  fft_chain chain[2];
  void *roots;                   // of both chains
  int64_t size[2], step[2];      // of a transform; of tiles, from one to the next
  int64_t tiles[2], total;       // an image; in all
  int64_t half, frequencies;     // size[1] / 2 + 1, times size[0]
  fft_grid source, target;       // third direction: image and gradient, both read
  int64_t first, count;          // the tiles at work
  void *source_spectra, *target_spectra, *weight_spectra;
} fft_plan;

// Tasks (threads.h). An item is: an input channel of the weights; a group of channels of a tile of
// either array, read or written; a frequency; a group of channels of a row of weights.
#define CONV_FFT_TASK(name)                                              \
  moon_status CPU(name##_f32)(void *plan, int64_t first, int64_t last);  \
  moon_status CPU(name##_f64)(void *plan, int64_t first, int64_t last)
CONV_FFT_TASK(fft_read_weights);
CONV_FFT_TASK(fft_read_source);
CONV_FFT_TASK(fft_read_target);
CONV_FFT_TASK(fft_write_target);
CONV_FFT_TASK(fft_multiply);
CONV_FFT_TASK(fft_multiply_tiles);
CONV_FFT_TASK(fft_write_weights);
#undef CONV_FFT_TASK

#endif
