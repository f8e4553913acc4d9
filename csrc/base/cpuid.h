// Which instruction sets this processor and this operating system support, asked once.
#ifndef MOON_BASE_CPUID_H
#define MOON_BASE_CPUID_H

#include <stdbool.h>

typedef enum cpu_level {
  CPU_BASELINE,   // x86-64 with SSE2, or any other processor
  CPU_AVX2,       // AVX2, FMA, F16C
  CPU_AVX512,     // AVX-512 F, BW, DQ, VL
  CPU_LEVELS,
} cpu_level;

// The best that this machine has and this build has kernels for, or less if MOONLET_CPU in the
// environment names a lesser level.
cpu_level cpuid_level(void);
const char *cpuid_level_name(cpu_level level);   // "baseline", "avx2", "avx512"
// Whether there are matrix registers for bfloat16 (AMX) that the system saves.
bool cpuid_has_amx(void);

#endif
