// The kernels of one instruction set as a table, in the order of kernels.def.
#include "cpu/cpu.h"

const device_kernels CPU(kernels) = {
#define KERNEL(name, arguments) .name = CPU(name),
#define OPTIONAL(name, arguments)
#include "device/kernels.def"
#undef KERNEL
};
