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
  AMX_COLUMNS = 32,
  AMX_DEPTH = 32,
  AMX_PANEL = AMX_DEPTH * AMX_COLUMNS,   // elements of one step of a panel
};

// Whether this processor has them and the system lets this process use them; asked once.
bool amx_ready(void);

void amx_open(void);
void amx_close(void);
// sums (AMX_ROWS x AMX_COLUMNS floats, contiguous) = or += rows times a panel over steps *
// AMX_DEPTH. Row r starts at a + r * a_stride (elements); all AMX_ROWS rows are read.
void amx_multiply(int64_t steps, const uint16_t *a, int64_t a_stride, const uint16_t *panel,
                  float *sums, bool add);

#endif
