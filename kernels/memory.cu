// The pool of device memory; see memory.cuh.
#include "memory.cuh"

#include <stdlib.h>

#include "context.cuh"

// Blocks begin at multiples of ALIGNED, as cuBLASLt demands of a workspace.
enum { ALIGNED = 256, SLAB = 2 << 20, LARGEST_SMALL = 1 << 20 };

// -- size classes: (4 to 7) * 2^k * 128

size_t cuda_pool_size(int size_class) {
  return (size_t)(4 + size_class % 4) << (size_class / 4) << 7;
}

int cuda_pool_class(size_t bytes) {
  int size_class = 0;
  while (cuda_pool_size(size_class) < bytes) size_class++;
  return size_class;
}

// -- the list of all pools, so that one may flush the others of its device

std::mutex cuda_pools_lock;
static cuda_pool *pools;

void cuda_pool_open(cuda_pool *pool, cuda_context *context, bool fixed) {
  pool->context = context;
  pool->fixed = fixed;
  std::lock_guard<std::mutex> guard(cuda_pools_lock);
  pool->next = pools;
  pools = pool;
}

static void leave_list(cuda_pool *pool) {
  std::lock_guard<std::mutex> guard(cuda_pools_lock);
  cuda_pool **at = &pools;
  while (*at != pool) at = &(*at)->next;
  *at = pool->next;
}

// -- taking and giving back, under the pool's lock

// Room for one more, or none: then nothing has changed.
template <typename T>
static bool grow(T **list, int64_t *room) {
  int64_t wanted = *room < 8 ? 8 : *room * 2;
  T *larger = (T *)realloc(*list, (size_t)wanted * sizeof *larger);
  if (!larger) return false;
  *list = larger;
  *room = wanted;
  return true;
}

static bool over_limit(const cuda_pool *pool, size_t bytes) {
  const cuda_memory *m = &pool->memory;
  return m->limit > 0 && m->live + m->cached + (int64_t)bytes > m->limit;
}

// Asks the driver. cudaErrorMemoryAllocation where there is no room, with the error forgotten.
static cudaError_t from_driver(cuda_pool *pool, size_t bytes, bool lasting, void **block) {
  bool room = pool->segment_count < pool->segment_room ||
              grow(&pool->segments, &pool->segment_room);
  if (!room || over_limit(pool, bytes)) return cudaErrorMemoryAllocation;
  cudaError_t error = cudaMalloc(block, bytes);
  if (error == cudaErrorMemoryAllocation) (void)cudaGetLastError();
  if (error != cudaSuccess) return error;
  pool->memory.allocations++;
  if (lasting)
    pool->segments[pool->segment_count++] = { (char *)*block, (char *)*block + bytes };
  return cudaSuccess;
}

static cudaError_t cut_from_slab(cuda_pool *pool, size_t bytes, void **block) {
  size_t cut = (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
  if (pool->slab == nullptr || (size_t)(pool->slab_end - pool->slab) < cut) {
    void *made;
    cudaError_t error = from_driver(pool, SLAB, true, &made);
    if (error != cudaSuccess) return error;
    pool->slab = (char *)made;   // what was left of the one before stays unused
    pool->slab_end = pool->slab + SLAB;
    pool->memory.cached += SLAB;
  }
  *block = pool->slab;
  pool->slab += cut;
  pool->memory.cached -= (int64_t)bytes;
  return cudaSuccess;
}

static cudaError_t take(cuda_pool *pool, int size_class, void **block) {
  cuda_spares *spares = &pool->spares[size_class];
  size_t bytes = cuda_pool_size(size_class);
  cuda_memory *m = &pool->memory;
  if (spares->count > 0) {
    *block = spares->blocks[--spares->count];
    m->cached -= (int64_t)bytes;
  } else {
    if (spares->existing == spares->room && !grow(&spares->blocks, &spares->room))
      return cudaErrorMemoryAllocation;
    cudaError_t error = bytes <= LARGEST_SMALL ? cut_from_slab(pool, bytes, block)
                                               : from_driver(pool, bytes, pool->fixed, block);
    if (error != cudaSuccess) return error;
    spares->existing++;
  }
  m->live += (int64_t)bytes;
  if (m->live > m->peak) m->peak = m->live;
  return cudaSuccess;
}

static moon_status flush(cuda_pool *pool) {
  if (pool->fixed || pool->context->recording) return MOON_OK;
  CUDA_TRY(cudaStreamSynchronize(pool->context->stream));
  for (int i = cuda_pool_class(LARGEST_SMALL + 1); i < CUDA_POOL_CLASSES; i++) {
    cuda_spares *spares = &pool->spares[i];
    while (spares->count > 0) {
      CUDA_TRY(cudaFree(spares->blocks[spares->count - 1]));
      spares->count--;
      spares->existing--;
      pool->memory.cached -= (int64_t)cuda_pool_size(i);
    }
  }
  return MOON_OK;
}

// -- what others call

bool cuda_pool_owns(cuda_pool *pool, const void *block) {
  std::lock_guard<std::mutex> guard(pool->lock);
  for (int64_t i = 0; i < pool->segment_count; i++)
    if (block >= pool->segments[i].begin && block < pool->segments[i].end) return true;
  return false;
}

moon_status cuda_pool_flush(cuda_pool *pool) {
  std::lock_guard<std::mutex> guard(pool->lock);
  return flush(pool);
}

// The pools of one device, one after the other: no two locks of pools are held at once.
static moon_status flush_device(int device) {
  std::lock_guard<std::mutex> guard(cuda_pools_lock);
  for (cuda_pool *pool = pools; pool; pool = pool->next)
    if (pool->context->device == device) MOON_TRY(cuda_pool_flush(pool));
  return MOON_OK;
}

static moon_status fail_full(cuda_pool *pool, size_t bytes) {
  const double mib = 1.0 / (1 << 20);
  size_t left = 0, all = 0;
  (void)cudaMemGetInfo(&left, &all);
  cuda_memory m = cuda_pool_figures(pool);
  if (m.limit > 0)
    return moon_fail(MOON_OUT_OF_MEMORY, "out of memory on cuda:%d: asked for %.1f MiB, %.1f MiB "
                     "are in use and the limit is %.1f MiB", pool->context->device,
                     (double)bytes * mib, (double)m.live * mib, (double)m.limit * mib);
  return moon_fail(MOON_OUT_OF_MEMORY, "out of memory on cuda:%d: asked for %.1f MiB, %.1f MiB are "
                   "in use here and %.1f of %.1f MiB are free", pool->context->device,
                   (double)bytes * mib, (double)m.live * mib, (double)left * mib,
                   (double)all * mib);
}

static cudaError_t take_locked(cuda_pool *pool, int size_class, void **block) {
  std::lock_guard<std::mutex> guard(pool->lock);
  return take(pool, size_class, block);
}

moon_status cuda_pool_take(cuda_pool *pool, size_t bytes, void **block) {
  *block = nullptr;
  if (bytes == 0) return MOON_OK;
  if (bytes > cuda_pool_size(CUDA_POOL_CLASSES - 1)) return fail_full(pool, bytes);
  int size_class = cuda_pool_class(bytes);
  cudaError_t error = take_locked(pool, size_class, block);
  if (error == cudaErrorMemoryAllocation) {
    cuda_library->collect(pool->context->engine);
    MOON_TRY(flush_device(pool->context->device));
    error = take_locked(pool, size_class, block);
  }
  if (error == cudaErrorMemoryAllocation) return fail_full(pool, bytes);
  return error == cudaSuccess ? MOON_OK : cuda_failed("cudaMalloc", error);
}

void cuda_pool_release(cuda_pool *pool, void *block, size_t bytes) {
  if (!block) return;
  int size_class = cuda_pool_class(bytes);
  std::lock_guard<std::mutex> guard(pool->lock);
  cuda_spares *spares = &pool->spares[size_class];
  spares->blocks[spares->count++] = block;
  pool->memory.live -= (int64_t)cuda_pool_size(size_class);
  pool->memory.cached += (int64_t)cuda_pool_size(size_class);
}

// A stream that is recorded can neither be followed nor follow: for it stands what it was asked
// before, and the host waits in its place.
static moon_status follow(cuda_context *c, cuda_context *other) {
  if (!other->recording) CUDA_TRY(cudaEventRecord(other->asked, other->stream));
  if (c->recording) CUDA_TRY(cudaEventSynchronize(other->asked));
  else CUDA_TRY(cudaStreamWaitEvent(c->stream, other->asked, 0));
  return MOON_OK;
}

moon_status cuda_pool_follow(cuda_pool *pool) {
  std::lock_guard<std::mutex> guard(cuda_pools_lock);
  cuda_context *c = pool->context;
  for (cuda_pool *one = pools; one; one = one->next)
    if (!one->fixed && one != pool && one->context->device == c->device)
      MOON_TRY(follow(c, one->context));
  return MOON_OK;
}

cuda_memory cuda_pool_figures(cuda_pool *pool) {
  std::lock_guard<std::mutex> guard(pool->lock);
  return pool->memory;
}

void cuda_pool_close(cuda_pool *pool) {
  leave_list(pool);
  (void)cuda_pool_flush(pool);
  for (int64_t i = 0; i < pool->segment_count; i++) (void)cudaFree(pool->segments[i].begin);
  free(pool->segments);
  for (int i = 0; i < CUDA_POOL_CLASSES; i++) free(pool->spares[i].blocks);
}
