// Memory. Two kinds:
//   array bytes    alloc_bytes / alloc_release: charged to an engine, checked against its budget,
//                  64-byte aligned, reused from a process-wide cache of size classes; large blocks
//                  are 2 MiB aligned and advised to be huge pages, because first touch is slow.
//   small structs  alloc_new / alloc_delete: jobs, lists, descriptors; zeroed, uncharged.
//                  alloc_piece / alloc_piece_release: what calls make by the million (tensors,
//                  nodes of the tape), from the size classes of small arrays; uncharged.
// Sanitizer builds (MOON_PLAIN_ALLOC) pass every request straight to malloc.
// At the budget: flush the cache, ask the engine's collect hook, retry once, then fail with a
// sentence that names the size asked for and what is live.
//
// What the cache may keep: live and cached blocks together stay within 3/2 of the most that was
// live lately (or 64 MiB above what is live now), and within the engine's budget. So a training
// step finds the blocks of the step before, and a program that has become small gives them back.
#ifndef MOON_BASE_ALLOC_H
#define MOON_BASE_ALLOC_H

#include <stddef.h>

#include "base/engine.h"

// What since_collect counts for a block besides its bytes: its storage, tensor and userdata.
enum { ALLOC_BLOCK_COST = 384 };

// `bytes` may be 0 (gives a non-NULL pointer that must be released). Contents are undefined.
MOON_MUST_CHECK moon_status alloc_bytes(moon_engine *engine, size_t bytes, void **block);
void alloc_release(moon_engine *engine, void *block, size_t bytes);

// The same with `head` bytes in front, a multiple of 64, that are not charged.
MOON_MUST_CHECK moon_status alloc_bytes_behind(moon_engine *engine, size_t head, size_t bytes,
                                               void **block);
void alloc_release_behind(moon_engine *engine, void *block, size_t head, size_t bytes);

// Memory for one struct, contents undefined; given back with the same size.
MOON_MUST_CHECK moon_status alloc_piece(size_t bytes, void **piece);
void alloc_piece_release(void *piece, size_t bytes);

// Zeroed memory for one struct or array; MOON_OUT_OF_MEMORY with a sentence on failure.
MOON_MUST_CHECK moon_status alloc_new(size_t bytes, void **block);
void alloc_delete(void *block);

// Multiplies without overflow; MOON_OUT_OF_MEMORY and a sentence when a*b does not fit.
MOON_MUST_CHECK moon_status alloc_product(size_t a, size_t b, size_t *product);

// Asks the engine's owner to free what it can (engine->collect), where that can be done now.
void alloc_collect(moon_engine *engine);

size_t alloc_cached_bytes(void);   // free bytes kept for reuse, whole process
void alloc_flush_cache(void);      // gives them back to the system

void alloc_start(void);            // engine_new calls it: makes fork safe beside other threads

// For specs: the n-th allocation of this thread from now on (of either kind) fails, once; 0 = off.
void alloc_fail_after(long n);

#endif
