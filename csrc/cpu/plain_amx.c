// The matrix registers. Compiled once, for the instructions it names itself; it is entered only
// where amx_ready says so.
#include "cpu/amx.h"

#include <stdatomic.h>

#include "base/cpuid.h"
#include "base/os.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11

#include <immintrin.h>

#define AMX __attribute__((target("amx-tile,amx-bf16")))

bool amx_ready(void) {
  static atomic_int known = -1;
  int ready = atomic_load_explicit(&known, memory_order_relaxed);
  if (ready < 0) {
    ready = cpuid_level() == CPU_AVX512 && cpuid_has_amx() && os_allow_amx();
    atomic_store_explicit(&known, ready, memory_order_relaxed);
  }
  return ready;
}

// Registers 0 to 3 hold sums, 4 and 5 rows, 6 and 7 columns; all are 16 rows of 64 bytes.
typedef struct amx_layout {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} amx_layout;

// In static memory: the compiler does not know that the instruction reads all of it.
static const amx_layout layout = {
  .palette = 1,
  .row_bytes = { 64, 64, 64, 64, 64, 64, 64, 64 },
  .rows = { 16, 16, 16, 16, 16, 16, 16, 16 },
};

AMX void amx_open(void) { _tile_loadconfig(&layout); }
AMX void amx_close(void) { _tile_release(); }

AMX void amx_multiply(int64_t steps, const uint16_t *a, int64_t a_stride, const uint16_t *panel,
                      float *sums, bool add) {
  enum { ROW = AMX_COLUMNS * sizeof(float), HALF = AMX_PANEL / 2 };
  const uint16_t *lower = a + 16 * a_stride;
  int64_t stride = a_stride * 2;
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
  for (int64_t i = 0; i < steps; i++) {
    _tile_loadd(4, a + i * AMX_DEPTH, stride);
    _tile_loadd(6, panel + i * AMX_PANEL, 64);
    _tile_loadd(7, panel + i * AMX_PANEL + HALF, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, lower + i * AMX_DEPTH, stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, ROW);
  _tile_stored(1, sums + 16, ROW);
  _tile_stored(2, sums + 16 * AMX_COLUMNS, ROW);
  _tile_stored(3, sums + 16 * AMX_COLUMNS + 16, ROW);
}

#else

bool amx_ready(void) { return false; }
void amx_open(void) {}
void amx_close(void) {}
void amx_multiply(int64_t steps, const uint16_t *a, int64_t a_stride, const uint16_t *panel,
                  float *sums, bool add) {
  (void)steps, (void)a, (void)a_stride, (void)panel, (void)sums, (void)add;
}

#endif
