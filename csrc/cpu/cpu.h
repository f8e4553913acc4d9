// What the CPU's kernel files share. Every file here except cpu.c is compiled once for each
// instruction set (CPU_ISA = baseline, avx2, avx512); CPU(name) gives a symbol the set's suffix
// (softmax_forward_avx2), and table.c collects the kernels of a set. cpu.c picks a set at run time.
//
// The shape of an elementwise kernel: operands are collapsed to as few dimensions as they allow
// (cpu_walk); a loop sees contiguous runs of its own element types only. An operand that is neither
// contiguous nor of the loop's type goes through a small buffer, CPU_CHUNK elements at a time.
#ifndef MOON_CPU_CPU_H
#define MOON_CPU_CPU_H

#include "base/alloc.h"
#include "base/cpuid.h"
#include "base/threads.h"
#include "device/device.h"

#ifndef CPU_ISA
#define CPU_ISA baseline
#endif
#define CPU_PASTE_(name, isa) name##_##isa
#define CPU_PASTE(name, isa) CPU_PASTE_(name, isa)
#define CPU(name) CPU_PASTE(name, CPU_ISA)

// The kernels of kernels.def, defined in this folder: moon_status CPU(copy)(engine, x, out), ...
#define KERNEL(name, arguments) MOON_MUST_CHECK moon_status CPU(name) arguments;
#define OPTIONAL(name, arguments)
#include "device/kernels.def"
#undef KERNEL
extern const device_kernels CPU(kernels);

// For specs: makes device_cpu() use the kernels of `level` from now on; fails where the processor
// lacks it. Call it while no other thread calculates.
MOON_MUST_CHECK moon_status cpu_force_level(cpu_level level);

enum {
  CPU_GRAIN = 32768,      // elements of cheap work worth handing to another thread
  CPU_CHUNK = 512,        // elements that go through a buffer at once
  CPU_MAX_OPERANDS = 6,
};

// Items of `elements` elements each that make a block of at least CPU_GRAIN: a grain for
// threads_run that depends on the shape alone.
static inline int64_t cpu_grain(int64_t elements) {
  return elements >= CPU_GRAIN ? 1 : (CPU_GRAIN + elements - 1) / (elements > 0 ? elements : 1);
}

// threads_run, but one block's worth of work is done here without touching the pool.
static inline moon_status cpu_run(moon_engine *engine, int64_t count, int64_t grain,
                                  threads_task task, void *context) {
  if (count <= 0) return MOON_OK;
  if (count <= grain) return task(context, 0, count);
  return threads_run(engine, count, grain, task, context);
}

// The type kernels calculate in: MOON_F32, MOON_F64 or MOON_I64.
static inline moon_dtype cpu_compute_dtype(moon_dtype dtype) {
  static const uint8_t compute[MOON_DTYPE_COUNT] = {
#define DTYPE(id, name, storage, compute, class) [MOON_##id] = MOON_##compute,
#include "base/dtype.def"
#undef DTYPE
  };
  return (moon_dtype)compute[dtype];
}

// -- runs (walk.c): n elements `stride` apart, converted to or from the dtype's compute type.
//    stride may be 0 (repeats) or negative. Buffers are contiguous.
void CPU(load_run)(moon_dtype dtype, int64_t n, const void *source, int64_t stride, void *buffer);
void CPU(store_run)(moon_dtype dtype, int64_t n, const void *buffer, void *target, int64_t stride);
// The same without conversion, for elements of 1, 2, 4 or 8 bytes.
void CPU(gather_run)(size_t size, int64_t n, const void *source, int64_t stride, void *buffer);
void CPU(scatter_run)(size_t size, int64_t n, const void *buffer, void *target, int64_t stride);

// -- walking (walk.c): arrays of one shape, collapsed together. shape[ndim - 1] is innermost.
typedef struct cpu_walk {
  int ndim;                       // at least 1
  int operands;
  int64_t count;                  // elements
  int64_t shape[MOON_MAX_DIMS];
  int64_t strides[CPU_MAX_OPERANDS][MOON_MAX_DIMS];
} cpu_walk;

// Drops dimensions of size 1 and merges neighbours. With `reorder`, dimensions are first sorted by
// the strides of arrays[0], which changes the order of visits but not the set.
void CPU(walk_open)(cpu_walk *walk, int operands, const device_array *const *arrays, bool reorder);
// The same over all dimensions but those whose bit is set in `without`.
void CPU(walk_open_without)(cpu_walk *walk, int operands, const device_array *const *arrays,
                            unsigned without, bool reorder);
// Whether the operand's elements follow each other in the walk's order.
bool CPU(walk_is_flat)(const cpu_walk *walk, int operand);
// Coordinates of the element visited as number `index`.
void CPU(walk_seek)(const cpu_walk *walk, int64_t index, int64_t *coordinates);
static inline int64_t cpu_walk_offset(const cpu_walk *walk, int operand,
                                      const int64_t *coordinates) {
  int64_t offset = 0;
  for (int i = 0; i < walk->ndim; i++) offset += coordinates[i] * walk->strides[operand][i];
  return offset;
}
// Steps `coordinates` on by `n`, which must not go past the end of the innermost dimension.
static inline void cpu_walk_advance(const cpu_walk *walk, int64_t *coordinates, int64_t n) {
  int i = walk->ndim - 1;
  coordinates[i] += n;
  while (i > 0 && coordinates[i] == walk->shape[i]) {
    coordinates[i--] = 0;
    coordinates[i]++;
  }
}

// n elements of an operand from the walk's position `at` on, to and from a contiguous buffer of
// `in_buffer`: the dtype itself (moved) or its compute type (converted). `data` is the operand's
// element (0, ..., 0).
void CPU(walk_load)(const cpu_walk *walk, int operand, moon_dtype dtype, moon_dtype in_buffer,
                    const void *data, const int64_t *at, int64_t n, void *buffer);
void CPU(walk_store)(const cpu_walk *walk, int operand, moon_dtype dtype, moon_dtype in_buffer,
                     void *data, const int64_t *at, int64_t n, const void *buffer);

// -- elementwise (walk.c): p[0] is the output's run, p[1], ... the inputs', all contiguous and of
//    the loop's own types; p[0] may equal an input. attributes: a, b
typedef void (*cpu_loop)(int64_t n, void *const *p, const double *attributes);
typedef struct cpu_operand {
  const device_array *array;
  moon_dtype in_loop;      // the array's dtype (no conversion) or its compute type
} cpu_operand;
MOON_MUST_CHECK moon_status CPU(elementwise)(moon_engine *engine, int count,
                                             const cpu_operand *operands, cpu_loop loop,
                                             const double *attributes);

// -- scratch arrays (copy.c), contiguous. temp_from borrows x itself where it is contiguous and of
//    the dtype wanted, otherwise makes a converted copy. Release both with temp_release, also
//    after a failure (a zeroed cpu_temp is fine).
typedef struct cpu_temp {
  device_array array;
  void *block;             // NULL: borrowed
  size_t bytes;
} cpu_temp;
MOON_MUST_CHECK moon_status CPU(temp_new)(moon_engine *engine, moon_dtype dtype, int ndim,
                                          const int64_t *shape, cpu_temp *temp);
MOON_MUST_CHECK moon_status CPU(temp_from)(moon_engine *engine, const device_array *x,
                                           moon_dtype dtype, cpu_temp *temp);
void CPU(temp_release)(moon_engine *engine, cpu_temp *temp);

#endif
