// Memory of one engine on one device. Blocks that are given back stay here, by size class, and are
// handed out again at once: all of an engine's work on a device is on one stream, so whatever still
// uses a block comes before whatever gets it next, and nothing has to wait.
//
// A tensor may cross to another engine, though, whose stream knows nothing of this one. So whoever
// receives one "follows": its stream waits for what the others were asked until then; and so does
// the owner's stream before it gets such memory back.
//
// Small blocks are cut from slabs of 2 MiB. There are four size classes in each doubling, so that a
// block is at most a quarter larger than asked for. When the device or the limit has no room left,
// the engine's garbage is collected, spare blocks go back to the driver, those of the device's
// other engines too, and the request is made once more.
#ifndef MOON_KERNELS_MEMORY_CUH
#define MOON_KERNELS_MEMORY_CUH

#include <stddef.h>
#include <stdint.h>

#include <mutex>

#include <cuda_runtime.h>

extern "C" {
#include "device/cuda.h"
}

struct cuda_context;

// 4 classes a doubling from 512 bytes on; the last holds 2^48 bytes.
enum { CUDA_POOL_CLASSES = 4 * 40 };

struct cuda_spares {    // free blocks of a class, the last given back on top
  void **blocks;
  int64_t count, existing;   // free; in all
  int64_t room;              // for pointers, at least `existing`: giving back needs no memory
};

struct cuda_segment { char *begin, *end; };   // a slab, or one large block

struct cuda_pool {
  cuda_context *context;
  std::mutex lock;
  cuda_spares spares[CUDA_POOL_CLASSES];
  char *slab, *slab_end;              // the rest of the newest slab
  bool fixed;                         // a graph's: its addresses stay taken until it is closed
  cuda_segment *segments;             // slabs; all that the driver gave, of a fixed pool
  int64_t segment_count, segment_room;
  cuda_memory memory;
  cuda_pool *next;                    // in the list of all pools
};

void cuda_pool_open(cuda_pool *pool, cuda_context *context, bool fixed);
void cuda_pool_close(cuda_pool *pool);   // gives everything back; nothing may be in use
// 0 bytes give NULL.
moon_status cuda_pool_take(cuda_pool *pool, size_t bytes, void **block);
void cuda_pool_release(cuda_pool *pool, void *block, size_t bytes);
// Whether a block is one of a fixed pool's.
bool cuda_pool_owns(cuda_pool *pool, const void *block);
// Gives spare blocks back to the driver; slabs stay, and everything while a graph is recorded, when
// nothing may be waited for.
moon_status cuda_pool_flush(cuda_pool *pool);
cuda_memory cuda_pool_figures(cuda_pool *pool);
// What the pool's engine asks of the device from now on comes after all that others have asked.
moon_status cuda_pool_follow(cuda_pool *pool);

// Held by who waits for another engine's stream, and by who begins or ends the recording of one,
// which must not be waited for meanwhile. It is the lock of the list of all pools, too.
extern std::mutex cuda_pools_lock;

// The class of a size, and the size of a class.
int cuda_pool_class(size_t bytes);
size_t cuda_pool_size(int size_class);

#endif
