// Packing for bfloat.h. Two neighbours along the depth make one word of 32 bits, so that turning
// pairs round is turning floats round.
#include <string.h>

#include "cpu/bfloat.h"

enum { HALF = AMX_PANEL / 2, HALF_COLUMNS = AMX_COLUMNS / 2 };

void CPU(bfloat_take)(moon_dtype dtype, const void *source, int64_t stride, int64_t count,
                      uint16_t *target) {
  if (dtype == MOON_BF16) CPU(gather_run)(sizeof *target, count, source, stride, target);
  else amx_round(source, stride, count, target);
}

// Where element (k, j) of a panel lies.
static int64_t place(int64_t k, int64_t j) {
  return k / AMX_DEPTH * AMX_PANEL + j / HALF_COLUMNS * HALF + k % AMX_DEPTH / 2 * AMX_DEPTH +
         j % HALF_COLUMNS * 2 + k % 2;
}

static const uint16_t no_row[AMX_COLUMNS];

typedef uint32_t pair __attribute__((may_alias));

static inline void interleave(const uint16_t *restrict even, const uint16_t *restrict odd,
                              int64_t count, uint16_t *restrict target) {
  pair *restrict pairs = (pair *)(void *)target;
  for (int64_t j = 0; j < count; j++) pairs[j] = (pair)even[j] | (pair)odd[j] << 16;
}

// Two rows of a panel: `columns` of them, zeros behind.
static inline void pack_pair(const uint16_t *even, const uint16_t *odd, int64_t columns,
                             uint16_t *to) {
  uint16_t part[2][AMX_COLUMNS] = { 0 };
  if (columns < AMX_COLUMNS) {
    memcpy(part[0], even, (size_t)columns * sizeof *even);
    memcpy(part[1], odd, (size_t)columns * sizeof *odd);
    even = part[0], odd = part[1];
  }
  interleave(even, odd, HALF_COLUMNS, to);
  interleave(even + HALF_COLUMNS, odd + HALF_COLUMNS, HALF_COLUMNS, to + HALF);
}

// A few panels at a time, so that what is read lies together.
void CPU(bfloat_pack_steps)(const uint16_t *const *rows, int64_t columns, int64_t depth,
                            int64_t pitch, uint16_t *panels) {
  enum { TOGETHER = 4 * AMX_COLUMNS };
  int64_t padded = bfloat_steps(depth) * AMX_DEPTH;
  for (int64_t first = 0; first < columns; first += TOGETHER, panels += 4 * pitch) {
    int64_t last = first + TOGETHER < columns ? first + TOGETHER : columns;
    for (int64_t k = 0; k < padded; k += 2) {
      const uint16_t *even = k < depth ? rows[k] : NULL;
      const uint16_t *odd = k + 1 < depth ? rows[k + 1] : NULL;
      uint16_t *to = panels + place(k, 0);
      for (int64_t j = first; j < last; j += AMX_COLUMNS, to += pitch)
        pack_pair(even ? even + j : no_row, odd ? odd + j : no_row,
                  last - j < AMX_COLUMNS ? last - j : AMX_COLUMNS, to);
    }
  }
}

// Columns whose depth is contiguous, in whole pairs: 16 columns of 16 pairs at a time.
static void pack_pairs(const uint16_t *source, int64_t stride, int64_t columns, int64_t depth,
                       uint16_t *panel) {
  for (int64_t k = 0; k < depth; k += AMX_DEPTH, panel += AMX_PANEL)
    for (int64_t j = 0; j < columns; j += HALF_COLUMNS) {
      int64_t count = columns - j < HALF_COLUMNS ? columns - j : HALF_COLUMNS;
      int64_t pairs = (depth - k < AMX_DEPTH ? depth - k : AMX_DEPTH) / 2;
      CPU(gemm_turn_f32)((const float *)(const void *)(source + j * stride + k), stride / 2, count,
                         pairs, (float *)(void *)(panel + j / HALF_COLUMNS * HALF), HALF_COLUMNS);
    }
}

static bool is_paired(const uint16_t *source, int64_t stride, int64_t depth) {
  return stride % 2 == 0 && depth % 2 == 0 && (uintptr_t)source % sizeof(float) == 0;
}

void CPU(bfloat_pack_panel)(const uint16_t *source, int64_t column_stride, int64_t depth_stride,
                            int64_t columns, int64_t depth, uint16_t *panel) {
  if (column_stride == 1) {
    const uint16_t *rows[BFLOAT_CHUNK];
    for (int64_t k0 = 0; k0 < depth; k0 += BFLOAT_CHUNK) {
      int64_t count = depth - k0 < BFLOAT_CHUNK ? depth - k0 : BFLOAT_CHUNK;
      for (int64_t k = 0; k < count; k++) rows[k] = source + (k0 + k) * depth_stride;
      CPU(bfloat_pack_steps)(rows, columns, count, 0, panel + k0 * AMX_COLUMNS);
    }
    return;
  }
  if (columns < AMX_COLUMNS || depth % AMX_DEPTH != 0)
    memset(panel, 0, (size_t)(bfloat_steps(depth) * AMX_PANEL) * sizeof *panel);
  if (depth_stride == 1 && is_paired(source, column_stride, depth)) {
    pack_pairs(source, column_stride, columns, depth, panel);
    return;
  }
  for (int64_t j = 0; j < columns; j++)
    for (int64_t k = 0; k < depth; k++)
      panel[place(k, j)] = source[j * column_stride + k * depth_stride];
}

// Pairs of neighbours along the depth, row after row, are what is turned round as floats.
void CPU(bfloat_turn)(const uint16_t *source, int64_t stride, int64_t depth, uint16_t *target,
                      int64_t target_stride) {
  uint16_t pairs[BFLOAT_CHUNK * AMX_ROWS] __attribute__((aligned(64)));
  int64_t padded = bfloat_steps(depth) * AMX_DEPTH;
  for (int64_t k = 0; k < padded; k += 2) {
    const uint16_t *even = k < depth ? source + k * stride : no_row;
    const uint16_t *odd = k + 1 < depth ? source + (k + 1) * stride : no_row;
    interleave(even, odd, AMX_ROWS, pairs + k * AMX_ROWS);
  }
  CPU(gemm_turn_f32)((const float *)(const void *)pairs, AMX_ROWS, padded / 2, AMX_ROWS,
                     (float *)(void *)target, target_stride / 2);
}

void CPU(bfloat_pack_rows)(const uint16_t *source, int64_t row_stride, int64_t depth_stride,
                           int64_t rows, int64_t depth, uint16_t *target) {
  int64_t padded = bfloat_steps(depth) * AMX_DEPTH;
  if (row_stride == 1 && rows == AMX_ROWS && depth <= BFLOAT_CHUNK) {
    CPU(bfloat_turn)(source, depth_stride, depth, target, padded);
    return;
  }
  if (rows < AMX_ROWS || depth < padded)
    memset(target, 0, (size_t)(AMX_ROWS * padded) * sizeof *target);
  for (int64_t r = 0; r < rows; r++, source += row_stride, target += padded) {
    if (depth_stride == 1) memcpy(target, source, (size_t)depth * sizeof *target);
    else for (int64_t k = 0; k < depth; k++) target[k] = source[k * depth_stride];
  }
}
