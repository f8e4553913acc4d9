// The worker pool: one for the process, as wide as the machine (affinity and cgroup quota
// respected), started on first need, joined when the last user leaves. A call that finds the pool
// busy runs on its own thread. Splitting depends on `count` and `grain` only, never on how many
// threads there are, so results are the same bits for any number.
#ifndef MOON_BASE_THREADS_H
#define MOON_BASE_THREADS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/engine.h"

// Runs task(context, first, last) over [0, count) in blocks of `grain` items (the last may be
// shorter; block k is always [k*grain, min(count, (k+1)*grain))). Returns when all are done.
// Between blocks the interrupt flag is read; then the rest is left out and MOON_INTERRUPTED given.
// A task that fails returns its status; the first failure in block order is returned with its text.
// Tasks run with the caller's floating-point environment. A call from inside a task runs on its
// own thread, unless that task is the only block.
typedef moon_status (*threads_task)(void *context, int64_t first, int64_t last);
MOON_MUST_CHECK moon_status threads_run(moon_engine *engine, int64_t count, int64_t grain,
                                        threads_task task, void *context);

int threads_available(void);                    // processors this process may use
int threads_of(const moon_engine *engine);      // how many threads_run would use at most
bool threads_inside(void);                      // is this thread inside a task shared by several?

// Counted users of the pool (engine_new and engine_release call these); the last one to leave
// joins the workers. A later threads_run starts new ones.
void threads_enter(void);
void threads_leave(void);

// For specs: behave as if there were `width` processors; 0 = ask the system again. Joins the
// workers there are, so call it while nothing runs.
void threads_set_width(int width);

#endif
