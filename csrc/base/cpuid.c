// The processor's features, asked once through the compiler's own test, which also asks whether
// the operating system saves the wide registers. MOONLET_CPU=baseline or avx2 in the environment
// lowers the answer, to try the kernels of a lesser machine.
#include "base/cpuid.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

static const char *const names[] = {
  [CPU_BASELINE] = "baseline", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512",
};

static cpu_level detect(void) {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  // Every processor with AVX2 and FMA converts halves too (F16C came before both).
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CPU_BASELINE;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return CPU_AVX512;
  return CPU_AVX2;
#else
  return CPU_BASELINE;
#endif
}

// CPU_HAS_...: what the build has kernels for (MOONLET_ISAS); the baseline's are always there.
static bool is_built(cpu_level level) {
  switch (level) {
#if defined(CPU_HAS_AVX2)
    case CPU_AVX2: return true;
#endif
#if defined(CPU_HAS_AVX512)
    case CPU_AVX512: return true;
#endif
    default: return level == CPU_BASELINE;
  }
}

// No more than the environment allows.
static cpu_level lowered(cpu_level level) {
  const char *wanted = getenv("MOONLET_CPU");
  for (int i = CPU_BASELINE; wanted != NULL && i < (int)level; i++)
    if (strcmp(wanted, names[i]) == 0) return (cpu_level)i;
  return level;
}

cpu_level cpuid_level(void) {
  static atomic_int known = -1;
  int level = atomic_load_explicit(&known, memory_order_relaxed);
  if (level < 0) {
    level = (int)lowered(detect());
    while (!is_built((cpu_level)level)) level--;
    atomic_store_explicit(&known, level, memory_order_relaxed);
  }
  return (cpu_level)level;
}

#if defined(__x86_64__) && defined(__GNUC__)
bool cpuid_has_amx(void) {
  unsigned a, b, c, d, low, high;
  const unsigned os_saves = 1u << 27, bf16 = 1u << 22, tiles = 1u << 24, saved = 3u << 17;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & os_saves)) return false;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & saved) == saved && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & bf16) &&
         (d & tiles);
}
#else
bool cpuid_has_amx(void) { return false; }
#endif

const char *cpuid_level_name(cpu_level level) { return names[level]; }
