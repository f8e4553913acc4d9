// The matrix registers, and the vector instructions for bfloat16 that come with them. Compiled
// once, for the instructions it names itself; it is entered only where amx_ready says so.
#include "cpu/amx.h"

#include <stdatomic.h>
#include <string.h>

#include "base/cpuid.h"
#include "base/dtype.h"
#include "base/os.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11

#include <immintrin.h>

#define AMX __attribute__((target("amx-tile,amx-bf16")))
#define VECTORS __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

bool amx_ready(void) {
  static atomic_int known = -1;
  int ready = atomic_load_explicit(&known, memory_order_relaxed);
  if (ready < 0) {
    ready = cpuid_level() == CPU_AVX512 && cpuid_has_amx() && os_allow_amx();
    atomic_store_explicit(&known, ready, memory_order_relaxed);
  }
  return ready;
}

// Registers 0 to 3 hold sums, 4 and 5 rows, 6 and 7 columns; all are 16 rows of 64 bytes, but for
// a low tile, whose sums are in 0 and 1 and whose rows are in 4.
typedef struct amx_layout {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} amx_layout;

// The compiler does not know that the instruction reads all of the layout.
AMX void amx_open(int64_t rows) {
  amx_layout layout = { .palette = 1 };
  for (int i = 0; i < 8; i++) {
    layout.row_bytes[i] = 64;
    layout.rows[i] = 16;
  }
  if (rows <= AMX_FEW) layout.rows[0] = layout.rows[1] = layout.rows[4] = (uint8_t)rows;
  __asm__ volatile("" : : "r"(&layout) : "memory");
  _tile_loadconfig(&layout);
}

// Stores past the caches have to be seen by whoever is told that they are done.
AMX void amx_close(void) {
  _tile_release();
  _mm_sfence();
}

enum { ROW = AMX_COLUMNS * sizeof(float), HALF = AMX_PANEL / 2 };

static inline int64_t offset_of(const amx_rows *rows, int64_t step) {
  return rows->offset ? rows->offset[step] : step * AMX_DEPTH;
}

AMX void amx_multiply(int64_t steps, const amx_rows *rows, const uint16_t *panel, float *sums,
                      bool add) {
  const uint16_t *upper = rows->data, *lower = upper + 16 * rows->stride;
  int64_t stride = rows->stride * 2;
  if (add) {
    _tile_loadd(0, sums, ROW);
    _tile_loadd(1, sums + 16, ROW);
    _tile_loadd(2, sums + 16 * AMX_COLUMNS, ROW);
    _tile_loadd(3, sums + 16 * AMX_COLUMNS + 16, ROW);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t i = 0; i < steps; i++, panel += AMX_PANEL) {
    int64_t offset = offset_of(rows, i);
    _tile_loadd(4, upper + offset, stride);
    _tile_loadd(6, panel, 64);
    _tile_loadd(7, panel + HALF, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, lower + offset, stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, ROW);
  _tile_stored(1, sums + 16, ROW);
  _tile_stored(2, sums + 16 * AMX_COLUMNS, ROW);
  _tile_stored(3, sums + 16 * AMX_COLUMNS + 16, ROW);
}

AMX void amx_multiply_few(int64_t steps, const amx_rows *rows, const uint16_t *panel, float *sums,
                          bool add) {
  int64_t stride = rows->stride * 2;
  if (add) {
    _tile_loadd(0, sums, ROW);
    _tile_loadd(1, sums + 16, ROW);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
  for (int64_t i = 0; i < steps; i++, panel += AMX_PANEL) {
    _tile_loadd(4, rows->data + offset_of(rows, i), stride);
    _tile_loadd(6, panel, 64);
    _tile_loadd(7, panel + HALF, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, sums, ROW);
  _tile_stored(1, sums + 16, ROW);
}

// -- vectors

// `mask` of 16 elements from element `first` on.
VECTORS static inline __m512 gathered(const float *source, int64_t stride, int64_t first,
                                      __mmask16 mask) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const float *from = source + first * stride;
  if (stride == 1) return _mm512_maskz_loadu_ps(mask, from);
  __m512i index = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)stride));
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, index, from, sizeof *from);
}

VECTORS void amx_round(const float *source, int64_t stride, int64_t count, uint16_t *target) {
  enum { VECTOR = 32, MOST_STRIDE = 1 << 26 };   // 16 of them are an index of 32 bits
  int64_t i = 0;
  for (; i < count && stride >= 0 && stride <= MOST_STRIDE; i += VECTOR) {
    int64_t left = count - i;
    __mmask32 mask = left >= VECTOR ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1;
    __m512 first = gathered(source, stride, i, (__mmask16)mask);
    __m512 second = gathered(source, stride, i + 16, (__mmask16)(mask >> 16));
    _mm512_mask_storeu_epi16(target + i, mask, (__m512i)_mm512_cvtne2ps_pbh(second, first));
  }
  for (; i < count; i++) target[i] = bfloat_from_float(source[i * stride]);
}

VECTORS static inline __m512 widened(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// Half of a row of sums; `mask` says which columns there are.
VECTORS static inline __m512 finished(const amx_finish *f, const float *sums, int64_t row,
                                      int64_t column, __mmask16 mask) {
  __m512 sum = _mm512_loadu_ps(sums);
  if (f->scale) sum = _mm512_mul_ps(sum, _mm512_maskz_loadu_ps(mask, f->scale + column));
  if (f->shift) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, f->shift + column));
  if (f->add)
    sum = _mm512_add_ps(sum, widened(_mm256_maskz_loadu_epi16(mask, f->add[row] + column)));
  // a NaN is the second operand's
  sum = _mm512_max_ps(_mm512_set1_ps(f->low), sum);
  return _mm512_min_ps(_mm512_set1_ps(f->high), sum);
}

VECTORS void amx_store(const amx_finish *finish, const float *sums, int64_t column,
                       int64_t columns, uint16_t *const *out) {
  const __mmask32 all = ~(__mmask32)0;
  const __mmask32 mask = columns >= AMX_COLUMNS ? all : ((__mmask32)1 << columns) - 1;
  for (int64_t r = 0; r < AMX_ROWS; r++, sums += AMX_COLUMNS) {
    if (!out[r]) continue;
    __m512 first = finished(finish, sums, r, column, (__mmask16)mask);
    __m512 second = finished(finish, sums + 16, r, column + 16, (__mmask16)(mask >> 16));
    __m512i row = (__m512i)_mm512_cvtne2ps_pbh(second, first);
    uint16_t *to = out[r] + column;
    if (finish->past_caches && mask == all && (uintptr_t)to % sizeof row == 0)
      _mm512_stream_si512((void *)to, row);
    else
      _mm512_mask_storeu_epi16(to, mask, row);
  }
}

VECTORS void amx_store_floats(const float *sums, int64_t rows, int64_t columns, float *out,
                              int64_t stride, bool past_caches) {
  for (int64_t r = 0; r < rows; r++, sums += AMX_COLUMNS, out += stride) {
    if (!past_caches || columns < AMX_COLUMNS || (uintptr_t)out % sizeof(__m512) != 0) {
      memcpy(out, sums, (size_t)columns * sizeof *out);
      continue;
    }
    _mm512_stream_ps(out, _mm512_loadu_ps(sums));
    _mm512_stream_ps(out + 16, _mm512_loadu_ps(sums + 16));
  }
}

#else

bool amx_ready(void) { return false; }
void amx_open(int64_t rows) { (void)rows; }
void amx_close(void) {}
void amx_multiply(int64_t steps, const amx_rows *rows, const uint16_t *panel, float *sums,
                  bool add) {
  (void)steps, (void)rows, (void)panel, (void)sums, (void)add;
}
void amx_multiply_few(int64_t steps, const amx_rows *rows, const uint16_t *panel, float *sums,
                      bool add) {
  (void)steps, (void)rows, (void)panel, (void)sums, (void)add;
}
void amx_round(const float *source, int64_t stride, int64_t count, uint16_t *target) {
  (void)source, (void)stride, (void)count, (void)target;
}
void amx_store(const amx_finish *finish, const float *sums, int64_t column, int64_t columns,
               uint16_t *const *out) {
  (void)finish, (void)sums, (void)column, (void)columns, (void)out;
}
void amx_store_floats(const float *sums, int64_t rows, int64_t columns, float *out, int64_t stride,
                      bool past_caches) {
  (void)sums, (void)rows, (void)columns, (void)out, (void)stride, (void)past_caches;
}

#endif
