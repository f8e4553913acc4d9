// Convolutions with stride 1 by Winograd's minimal filtering, F(m x m, r x r): outputs are made in
// tiles of m x m, from n x n pixels each, n = m + r - 1. Tiles, gradients and weights are turned
// into n x n components in which the convolution is a product for each component, so n^2
// multiplications make what took m^2 r^2. With matrices A, B, G (winograd_transform.c):
//
//   forward          Y  = A' [sum over c of (G W G') * (B' X B)] A
//   backward input   the same on the gradient, weights transposed and turned round
//   backward weight  dW = G' [sum over tiles of (A dY A') * (B' X B)] G
//
// where * goes component by component. After Winograd, "Arithmetic complexity of computations",
// 1980, and Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.
//
// Layout: a matrix for each component, rows a tile (or an output channel), columns channels, so
// that transforms are vectors over channels and products are micro.h's.
#ifndef MOON_CPU_WINOGRAD_H
#define MOON_CPU_WINOGRAD_H

#include "cpu/convolution.h"
#include "cpu/micro.h"
#include "cpu/whole.h"

enum {
  WINOGRAD_POINTS = 6,   // the most that n is
  WINOGRAD_COMPONENTS = WINOGRAD_POINTS * WINOGRAD_POINTS,
};

// What becomes of outputs: clamp(y * scale + shift + add, low, high); see conv2d_finish.
typedef struct winograd_finish {
  const float *scale, *shift;   // an element a channel, or NULL
  const float *const *add;      // for each pixel a row of channels, or NULL
  float low, high;
} winograd_finish;

// Into components: x has k * k rows of `count` channels; component i goes to y + i * step, whole
// vectors of it. Channels behind the last come out as 0.
typedef void (*winograd_spread)(const float *const *x, int64_t count, float *y, int64_t step);
// Back from components x + i * step: y has k * k rows of `count` channels.
typedef void (*winograd_gather)(const float *x, int64_t step, int64_t count, float *const *y,
                                const winograd_finish *finish);

typedef struct winograd_form {
  int outputs, taps, points;         // m, r, n
  winograd_spread image;             // n x n pixels
  winograd_spread gradient;          // m x m gradients of outputs
  winograd_spread weight;            // r x r taps
  winograd_gather result;            // m x m outputs
  winograd_gather weight_gradient;   // r x r taps
} winograd_form;

static inline int winograd_components(const winograd_form *form) {
  return form->points * form->points;
}

// F(4x4, 3x3), F(2x2, 3x3), F(2x2, 5x5)
extern const winograd_form CPU(winograd_4x3), CPU(winograd_2x3), CPU(winograd_2x5);

// What whole pieces of `size` that hold `count` cover.
static inline int64_t winograd_round(int64_t count, int64_t size) {
  return divide_up(count, size) * size;
}

// Distances in memory. Writing a tile or a weight touches all components at once, and a product
// reads many rows at once: an odd number of cache lines keeps those out of each other's sets.
enum { WINOGRAD_LINE = 16 };   // floats
// Between components of `floats` each.
static inline int64_t winograd_step(int64_t floats) {
  return (divide_up(floats, WINOGRAD_LINE) | 1) * WINOGRAD_LINE;
}
// Between rows of `channels`; short ones lie close.
static inline int64_t winograd_row(int64_t channels) {
  int64_t lines = divide_up(channels, WINOGRAD_LINE);
  return (lines < 16 ? lines : lines | 1) * WINOGRAD_LINE;
}

// -- tiles (winograd_tiles.c)

// The tiles of an array (n, c, h, w), channels last: k x k pixels each, `step` apart, the first at
// pixel (-before, -before). Pixels outside of it are zeros.
typedef struct winograd_grid {
  const device_array *array;
  int64_t before[2];
  int64_t size, step;        // k, m
  int64_t count[2];          // of tiles down and across
  int64_t first_channel;
} winograd_grid;

static inline int64_t winograd_tiles(const winograd_grid *grid) {
  return grid->array->shape[0] * grid->count[0] * grid->count[1];
}

// Pointers to the pixels of tile number `index`; those outside of the array are `outside`.
void CPU(winograd_pixels)(const winograd_grid *grid, int64_t index, float *outside,
                          float **pixels);
// Components of tiles first .. last: tile i's row of component k lies at
// y + k * step + (i - first) * row. `zeros` is a pixel of zeros.
void CPU(winograd_spread_tiles)(const winograd_grid *grid, winograd_spread spread, int64_t first,
                                int64_t last, int64_t channels, float *zeros, float *y,
                                int64_t row, int64_t step);

// -- weights (winograd_weight.c)

// Where the weights of a product lie: the taps of input channel i and output channel j follow each
// other from data + i * in + j * out on; `turned` is for those turned round.
typedef struct winograd_weights {
  const float *data, *end;   // of the whole array
  int64_t inputs, outputs, in, out;
  bool turned;
} winograd_weights;

// Components of weights lie in panels of MICRO_COLUMNS_F32 output channels: in each a matrix
// (inputs, MICRO_COLUMNS_F32) for each component, winograd_matrix floats apart.
static inline int64_t winograd_panels(int64_t outputs) {
  return divide_up(outputs, MICRO_COLUMNS_F32);
}
static inline int64_t winograd_matrix(int64_t inputs) {
  return winograd_step(inputs * MICRO_COLUMNS_F32);
}
static inline int64_t winograd_panel(const winograd_form *form, int64_t inputs) {
  return winograd_components(form) * winograd_matrix(inputs);
}
// One panel, from output channel `output` on, of the input channels input .. input + inputs - 1.
void CPU(winograd_pack)(const winograd_form *form, const winograd_weights *weights, int64_t input,
                        int64_t inputs, int64_t output, float *panel);

// The other way, for one output channel: taps (taps, row) go to weight (inputs, taps).
void CPU(winograd_unpack)(const winograd_form *form, const float *taps, int64_t row,
                          int64_t inputs, float *weight);

// The two kinds of run (winograd_products.c, winograd_gradient.c).
MOON_MUST_CHECK moon_status CPU(winograd_convolve)(moon_engine *engine, const conv_problem *p,
                                                   const winograd_form *form);
MOON_MUST_CHECK moon_status CPU(winograd_differentiate)(moon_engine *engine,
                                                        const conv_problem *p,
                                                        const winograd_form *form);

#endif
