// The CPU as a device: memory from the allocator, kernels of the best instruction set this machine
// has. Compiled once, unlike the kernels. `cpu` is the only thing here that changes, and only its
// table: chosen on the first call (every thread would choose the same), or by cpu_force_level.
#include "cpu/cpu.h"

#include <stdatomic.h>
#include <string.h>

extern const device_kernels kernels_baseline, kernels_avx2, kernels_avx512;

// NULL for what the build left out.
static const device_kernels *const built[CPU_LEVELS] = {
  [CPU_BASELINE] = &kernels_baseline,
#if defined(CPU_HAS_AVX2)
  [CPU_AVX2] = &kernels_avx2,
#endif
#if defined(CPU_HAS_AVX512)
  [CPU_AVX512] = &kernels_avx512,
#endif
};

static moon_status copy_bytes(moon_engine *engine, const void *source, void *target,
                              size_t bytes) {
  (void)engine;
  if (bytes > 0) memcpy(target, source, bytes);
  return MOON_OK;
}

static moon_device cpu = {
  .name = "cpu",
  .on_host = true,
  .allocate = alloc_bytes,
  .release = alloc_release,
  .to_host = copy_bytes,
  .from_host = copy_bytes,
  .kernels = &kernels_baseline,
};
static atomic_bool chosen;

static void choose(cpu_level level) {
  __atomic_store_n(&cpu.kernels, built[level], __ATOMIC_RELEASE);
  atomic_store_explicit(&chosen, true, memory_order_release);
}

const moon_device *device_cpu(void) {
  if (!atomic_load_explicit(&chosen, memory_order_acquire)) choose(cpuid_level());
  return &cpu;
}

moon_status cpu_force_level(cpu_level level) {
  if (level > cpuid_level())
    return moon_fail(MOON_UNSUPPORTED, "this processor has no %s", cpuid_level_name(level));
  if (!built[level])
    return moon_fail(MOON_UNSUPPORTED, "this build has no kernels for %s (MOONLET_ISAS)",
                     cpuid_level_name(level));
  choose(level);
  return MOON_OK;
}
