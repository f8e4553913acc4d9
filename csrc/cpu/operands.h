// Arguments of a network kernel made ready: contiguous and in the compute type. Inputs and outputs
// that are so already are used as they lie; others go through scratch. A slot reads
//
//   operands set = { .engine = engine };
//   const device_array *in = CPU(operand_in)(&set, x), *to = CPU(operand_out)(&set, out);
//   if (set.status == MOON_OK) set.status = cpu_run(...);
//   return CPU(operands_close)(&set);
//
// NULL stays NULL, and after a failure the results are not to be used.
#ifndef MOON_CPU_OPERANDS_H
#define MOON_CPU_OPERANDS_H

#include "cpu/cpu.h"

enum { OPERANDS_MOST = 12 };

typedef struct operands {
  moon_engine *engine;
  moon_status status;
  int count;
  cpu_temp temp[OPERANDS_MOST];
  const device_array *target[OPERANDS_MOST];   // of an output in scratch
} operands;

const device_array *CPU(operand_in)(operands *set, const device_array *x);
const device_array *CPU(operand_out)(operands *set, const device_array *out);
// The same in another type than that which is calculated in.
const device_array *CPU(operand_in_as)(operands *set, const device_array *x, moon_dtype dtype);
const device_array *CPU(operand_out_as)(operands *set, const device_array *out, moon_dtype dtype);

// Turns arrays of one number of dimensions so that those of the first come in the order of memory,
// outermost first, where they may come in any order; gives where dimension `dim` has gone. An array
// that is turned must outlive the set.
int CPU(operands_turn)(int dim, int count, const device_array *const *arrays,
                       device_array *turned);

// Copies scratch to its outputs if all went well, releases it, and gives the status.
MOON_MUST_CHECK moon_status CPU(operands_close)(operands *set);

#endif
