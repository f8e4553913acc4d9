// Products in bfloat16 by the processor's matrix registers (Intel's Advanced Matrix Extensions): 16
// rows of 32 elements times 32 rows of 16, added up in float. A thread opens them, multiplies, and
// closes them again.
//
// The right operand is packed into panels of AMX_COLUMNS columns, AMX_DEPTH deep each:
//   element (k, j) at [k / 32][j / 16][k % 32 / 2][j % 16][k % 2]
#ifndef MOON_CPU_AMX_H
#define MOON_CPU_AMX_H

#include <stdbool.h>
#include <stdint.h>

enum {
  AMX_ROWS = 32,
  AMX_FEW = 16,                          // rows of a low tile, at most
  AMX_COLUMNS = 32,
  AMX_DEPTH = 32,
  AMX_PANEL = AMX_DEPTH * AMX_COLUMNS,   // elements of one step of a panel
  AMX_TILE = AMX_ROWS * AMX_COLUMNS,     // sums of a tile
};

// Whether this processor has them and the system lets this process use them; asked once.
bool amx_ready(void);

// For tiles of AMX_ROWS rows, or low ones of 1 to AMX_FEW.
void amx_open(int64_t rows);
void amx_close(void);

// The left operand of a tile: row r of step s starts at data + r * stride + offset[s] (elements);
// without offsets at data + r * stride + s * AMX_DEPTH.
typedef struct amx_rows {
  const uint16_t *data;
  int64_t stride;
  const int64_t *offset;
} amx_rows;

// sums (AMX_ROWS x AMX_COLUMNS floats, contiguous) = or += rows times a panel over `steps`. All
// AMX_ROWS rows are read.
void amx_multiply(int64_t steps, const amx_rows *rows, const uint16_t *panel, float *sums,
                  bool add);
// The same for a low tile, of as many rows as it was opened for.
void amx_multiply_few(int64_t steps, const amx_rows *rows, const uint16_t *panel, float *sums,
                      bool add);

// target[i] = source[i * stride], rounded to bfloat16 (numbers below the normal ones to zero, as
// the registers take them).
void amx_round(const float *source, int64_t stride, int64_t count, uint16_t *target);

// What happens to sums on their way out, in this order; NaN stays. NULL: nothing.
typedef struct amx_finish {
  const float *scale, *shift;            // an element a column
  const uint16_t *const *add;            // a pointer to each row's first column
  float low, high;
  bool past_caches;                      // for large results: what is not read need not be fetched
} amx_finish;

// Stores `columns` sums of all rows of a tile as bfloat16, row r at out[r] + column; NULL is left
// out. scale, shift and add start `column` on, too.
void amx_store(const amx_finish *finish, const float *sums, int64_t column, int64_t columns,
               uint16_t *const *out);
// Stores `rows` x `columns` sums of a tile as they are, rows `stride` apart; past the caches where
// that is asked for.
void amx_store_floats(const float *sums, int64_t rows, int64_t columns, float *out, int64_t stride,
                      bool past_caches);

#endif
