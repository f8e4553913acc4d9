// Products of bfloat16 operands by the matrix registers (amx.h): packing of both operands, shared
// by matmul and the convolutions. Sums are floats.
#ifndef MOON_CPU_BFLOAT_H
#define MOON_CPU_BFLOAT_H

#include "cpu/amx.h"
#include "cpu/conv_implicit.h"
#include "cpu/matmul.h"

enum { BFLOAT_CHUNK = 512 };       // depth packed at once: steps of AMX_DEPTH

static inline int64_t bfloat_steps(int64_t depth) { return (depth + AMX_DEPTH - 1) / AMX_DEPTH; }

// A panel (amx.h) of `columns` columns, zeros behind: element (k, j) is at
// source[j * column_stride + k * depth_stride].
void CPU(bfloat_pack_panel)(const uint16_t *source, int64_t column_stride, int64_t depth_stride,
                            int64_t columns, int64_t depth, uint16_t *panel);
// The same for any number of columns, in panels `pitch` elements apart, element (k, j) at
// rows[k][j]; NULL is a row of zeros.
void CPU(bfloat_pack_steps)(const uint16_t *const *rows, int64_t columns, int64_t depth,
                            int64_t pitch, uint16_t *panels);
// AMX_ROWS rows of bfloat_steps(depth) * AMX_DEPTH elements, zeros round the edges: element (r, k)
// is at source[r * row_stride + k * depth_stride].
void CPU(bfloat_pack_rows)(const uint16_t *source, int64_t row_stride, int64_t depth_stride,
                           int64_t rows, int64_t depth, uint16_t *target);
// Turns AMX_ROWS columns round: target[r * target_stride + k] = source[k * stride + r] for up to
// BFLOAT_CHUNK k, zeros behind them up to a whole AMX_DEPTH.
void CPU(bfloat_turn)(const uint16_t *source, int64_t stride, int64_t depth, uint16_t *target,
                      int64_t target_stride);

// `count` elements, `stride` apart, of a float32 or bfloat16 array as bfloat16.
void CPU(bfloat_take)(moon_dtype dtype, const void *source, int64_t stride, int64_t count,
                      uint16_t *target);

// The weights of a product as panels: for each group and AMX_COLUMNS columns, bfloat_conv_steps of
// them: tap after tap, `span` neighbouring taps joined into one.
static inline int64_t bfloat_conv_steps(const conv_product *p, int64_t span) {
  return p->taps / span * bfloat_steps(span * p->depth);
}
// How many taps are better joined: where channels are few and pixels lie side by side, those of a
// kernel's row.
int64_t CPU(bfloat_span)(const conv_problem *problem, const conv_product *p);
MOON_MUST_CHECK moon_status CPU(bfloat_pack_weights)(moon_engine *engine, const conv_product *p,
                                                     int64_t span, uint16_t *panels);

// `right` is the array of the right operand, beside which its panels are kept where they may be.
MOON_MUST_CHECK moon_status CPU(matmul_bfloat)(moon_engine *engine, const matmul_problem *problem,
                                               const device_array *right);
// The third direction of conv_bfloat.
MOON_MUST_CHECK moon_status CPU(conv_bfloat_weight)(moon_engine *engine,
                                                    const conv_problem *problem);

#endif
