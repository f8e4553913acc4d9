// Packing a strided matrix for one compute type, in three cases: neighbours along the panel lie
// together (rows are copied), neighbours along the depth do (4 x 4 blocks are turned round in
// registers), or neither. Half types are turned into float a chunk at a time and packed from there.

#include "cpu/whole.h"

enum { PACK_CHUNK = 64, PACK_WIDEST = 64 };   // depth of a chunk; panels are never wider

#if REAL_BYTES == 4 || defined(__AVX__)
typedef REAL four __attribute__((vector_size(4 * sizeof(REAL))));
typedef REAL four_anywhere
    __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
#if REAL_BYTES == 4
typedef int32_t four_indices __attribute__((vector_size(16)));
#else
typedef int64_t four_indices __attribute__((vector_size(32)));
#endif

static inline four four_load(const REAL *source) { return *(const four_anywhere *)source; }
static inline void four_store(REAL *target, four value) { *(four_anywhere *)target = value; }

// panel[k * width + j] = source[j * stride + k] for four j and four k.
static inline void transpose_four(const REAL *source, int64_t stride, REAL *panel, int64_t width) {
  four a = four_load(source), b = four_load(source + stride);
  four c = four_load(source + 2 * stride), d = four_load(source + 3 * stride);
  four ac0 = __builtin_shuffle(a, c, (four_indices){ 0, 4, 1, 5 });
  four ac1 = __builtin_shuffle(a, c, (four_indices){ 2, 6, 3, 7 });
  four bd0 = __builtin_shuffle(b, d, (four_indices){ 0, 4, 1, 5 });
  four bd1 = __builtin_shuffle(b, d, (four_indices){ 2, 6, 3, 7 });
  four_store(panel, __builtin_shuffle(ac0, bd0, (four_indices){ 0, 4, 1, 5 }));
  four_store(panel + width, __builtin_shuffle(ac0, bd0, (four_indices){ 2, 6, 3, 7 }));
  four_store(panel + 2 * width, __builtin_shuffle(ac1, bd1, (four_indices){ 0, 4, 1, 5 }));
  four_store(panel + 3 * width, __builtin_shuffle(ac1, bd1, (four_indices){ 2, 6, 3, 7 }));
}
#else
static inline void transpose_four(const REAL *source, int64_t stride, REAL *panel, int64_t width) {
  for (int64_t j = 0; j < 4; j++)
    for (int64_t k = 0; k < 4; k++) panel[k * width + j] = source[j * stride + k];
}
#endif

// The same for 16 columns and four depths, whole vectors at a time where they hold 16.
#if REAL_BYTES == 4 && defined(__AVX512F__)
static inline __m512 load_fours(const float *source, int64_t stride) {
  __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(source));
  v = _mm512_insertf32x4(v, _mm_loadu_ps(source + 4 * stride), 1);
  v = _mm512_insertf32x4(v, _mm_loadu_ps(source + 8 * stride), 2);
  return _mm512_insertf32x4(v, _mm_loadu_ps(source + 12 * stride), 3);
}

static inline void transpose_sixteen(const float *source, int64_t stride, float *panel,
                                     int64_t width) {
  __m512 a = load_fours(source, stride), b = load_fours(source + stride, stride);
  __m512 c = load_fours(source + 2 * stride, stride), d = load_fours(source + 3 * stride, stride);
  __m512 ab0 = _mm512_unpacklo_ps(a, b), ab1 = _mm512_unpackhi_ps(a, b);
  __m512 cd0 = _mm512_unpacklo_ps(c, d), cd1 = _mm512_unpackhi_ps(c, d);
  _mm512_storeu_ps(panel, _mm512_shuffle_ps(ab0, cd0, 0x44));
  _mm512_storeu_ps(panel + width, _mm512_shuffle_ps(ab0, cd0, 0xee));
  _mm512_storeu_ps(panel + 2 * width, _mm512_shuffle_ps(ab1, cd1, 0x44));
  _mm512_storeu_ps(panel + 3 * width, _mm512_shuffle_ps(ab1, cd1, 0xee));
}
#else
static inline void transpose_sixteen(const REAL *source, int64_t stride, REAL *panel,
                                     int64_t width) {
  for (int64_t j = 0; j < 16; j += 4)
    transpose_four(source + j * stride, stride, panel + j, width);
}
#endif

static void clear_columns(REAL *panel, int64_t count, int64_t depth, int64_t width) {
  for (int64_t k = 0; k < depth && count < width; k++)
    for (int64_t j = count; j < width; j++) panel[k * width + j] = 0;
}

static void pack_turned(const REAL *source, int64_t stride, int64_t count, int64_t depth,
                        int64_t width, REAL *panel) {
  int64_t whole = count & ~(int64_t)3, deep = depth & ~(int64_t)3, j = 0;
  for (; j + 16 <= count; j += 16) {
    for (int64_t k = 0; k < deep; k += 4)
      transpose_sixteen(source + j * stride + k, stride, panel + k * width + j, width);
    for (int64_t k = deep; k < depth; k++)
      for (int64_t i = j; i < j + 16; i++) panel[k * width + i] = source[i * stride + k];
  }
  for (; j < whole; j += 4) {
    for (int64_t k = 0; k < deep; k += 4)
      transpose_four(source + j * stride + k, stride, panel + k * width + j, width);
    for (int64_t k = deep; k < depth; k++)
      for (int64_t i = j; i < j + 4; i++) panel[k * width + i] = source[i * stride + k];
  }
  for (; j < count; j++)
    for (int64_t k = 0; k < depth; k++) panel[k * width + j] = source[j * stride + k];
}

static void pack_rows(const REAL *source, int64_t depth_stride, int64_t count, int64_t depth,
                      int64_t width, REAL *panel) {
  for (int64_t k = 0; k < depth; k++, source += depth_stride, panel += width)
    for (int64_t j = 0; j < count; j += LANES)
      lanes_store_some(panel + j, lanes_load_some(source + j, count - j), count - j);
}

static void pack_reals(const REAL *source, int64_t stride, int64_t depth_stride, int64_t count,
                       int64_t depth, int64_t width, REAL *panel) {
  if (stride == 1) {
    pack_rows(source, depth_stride, count, depth, width, panel);
  } else if (depth_stride == 1) {
    pack_turned(source, stride, count, depth, width, panel);
  } else {
    for (int64_t j = 0; j < count; j++)
      for (int64_t k = 0; k < depth; k++)
        panel[k * width + j] = source[j * stride + k * depth_stride];
  }
}

#if REAL_BYTES == 4
static void pack_halves(const gemm_matrix *m, const uint16_t *source, int64_t count,
                        int64_t depth, int64_t width, REAL *panel) {
  float chunk[PACK_WIDEST * PACK_CHUNK];
  for (int64_t k = 0; k < depth; k += PACK_CHUNK) {
    int64_t deep = minimum(PACK_CHUNK, depth - k);
    const uint16_t *from = source + k * m->depth_stride;
    REAL *to = panel + k * width;
    if (m->stride == 1) {
      for (int64_t i = 0; i < deep; i++)
        CPU(load_run)(m->dtype, count, from + i * m->depth_stride, 1, chunk + i * count);
      pack_reals(chunk, 1, count, count, deep, width, to);
    } else {
      for (int64_t j = 0; j < count; j++)
        CPU(load_run)(m->dtype, deep, from + j * m->stride, m->depth_stride, chunk + j * deep);
      pack_reals(chunk, deep, 1, count, deep, width, to);
    }
  }
}
#endif

// Packs one panel's columns for a part of the depth.
static void pack_panel(const gemm_matrix *m, int64_t offset, int64_t count, int64_t depth,
                       int64_t width, REAL *panel) {
  clear_columns(panel, count, depth, width);
#if REAL_BYTES == 4
  if (m->dtype != MOON_F32) {
    pack_halves(m, (const uint16_t *)m->data + offset, count, depth, width, panel);
    return;
  }
#endif
  pack_reals((const REAL *)m->data + offset, m->stride, m->depth_stride, count, depth, width,
             panel);
}

// A few rows of all panels at a time, so that a row far from the next one is read in one go.
void CPU(NAME(gemm_pack))(const gemm_matrix *m, int64_t batch, int64_t first, int64_t count,
                          int64_t k0, int64_t depth, int width, void *panels) {
  int64_t origin = batch * m->batch_stride + first * m->stride + k0 * m->depth_stride;
  int64_t step = m->depth_stride == 1 ? depth : PACK_CHUNK / 4;
  for (int64_t k = 0; k < depth; k += step)
    for (int64_t j = 0; j < count; j += width)
      pack_panel(m, origin + j * m->stride + k * m->depth_stride, minimum(width, count - j),
                 minimum(step, depth - k), width, (REAL *)panels + j * depth + k * width);
}

void CPU(NAME(gemm_turn))(const REAL *source, int64_t stride, int64_t rows, int64_t columns,
                          REAL *target, int64_t target_stride) {
  pack_turned(source, stride, rows, columns, target_stride, target);
}
