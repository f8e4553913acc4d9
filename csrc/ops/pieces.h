// Cutting a dimension into pieces by halves: each cut gives two views whose gradients are joined
// again by one cat. k pieces of a dimension cost their backward log2(k) copies of the gradient,
// where k narrows would write k full-sized ones.
#ifndef MOON_OPS_PIECES_H
#define MOON_OPS_PIECES_H

#include "ops/support.h"

// Cuts dimension `dim` of x at positions size, 2 size, ...; list[i] (count of them, NULL before)
// are owned by the caller, the part that was made also after a failure.
MOON_MUST_CHECK moon_status pieces_cut(moon_engine *engine, moon_tensor *x, int dim, int64_t size,
                                       int64_t count, moon_tensor **list);
// The slices at each position of `dim`, which disappears: x->shape[dim] of them.
MOON_MUST_CHECK moon_status pieces_unbind(moon_engine *engine, moon_tensor *x, int dim,
                                          moon_tensor **list);
// An array of `count` NULLs (alloc_delete), and releasing one with the tensors in it.
MOON_MUST_CHECK moon_status pieces_new(int64_t count, moon_tensor ***list);
void pieces_delete(moon_tensor **list, int64_t count);

#endif
