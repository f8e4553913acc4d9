// The worker pool. One job at a time: whoever turns `busy` on owns the pool until it turns it off,
// everybody else works alone, so nobody ever waits for the pool.
//
// The owner writes the job, hands out as many tickets as it wants helpers, counts `generation` up
// and takes blocks itself. A worker that draws a ticket joins in; blocks are handed out in order by
// an atomic counter. At the end the owner takes the tickets back, which tells it how many helpers
// to wait for. A worker that comes late finds no ticket and touches nothing of the job.
//
// Workers and the waiting owner spin for at most SPIN_SECONDS and then sleep. Nobody is missed: a
// sleeper says so (`sleepers`, `owner_sleeps`) before it looks a last time, the other side counts
// first and looks for sleepers after, all in one order (seq_cst).
#include "base/threads.h"

#include <fenv.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/os.h"
#include "base/spin.h"

#define SPIN_SECONDS 50e-6
enum { SPINS_PER_LOOK = 64, MAX_WORKERS = 1023 };

// What one call of threads_run asks for.
typedef struct block_run {
  const moon_engine *engine;
  threads_task task;
  void *context;
  int64_t count, grain, blocks;
} block_run;

typedef struct pool_job {
  block_run run;
  fenv_t environment;              // the caller's rounding and denormals, for the same bits
  atomic_int_fast64_t next;        // first block nobody has taken
  atomic_bool stop;                // leave the rest out: a block failed
  int64_t failed_block;            // the lowest that failed; the rest under `lock`
  moon_status failed;
  char text[MOON_ERROR_BYTES];
} pool_job;

static struct {
  atomic_bool busy;                // whoever turned it on owns all below
  atomic_int users;
  atomic_int width;                // threads with the owner; 0 = not asked yet
  int workers;
  os_thread *threads[MAX_WORKERS];
  os_mutex *lock;
  os_condition *wake, *done;
  atomic_uint generation;          // of jobs
  atomic_int tickets, finished;
  atomic_int sleepers;
  atomic_bool owner_sleeps;
  atomic_bool quit;
  atomic_uint forks;               // how often this process is a child
  pool_job job;
} pool;

static _Thread_local bool inside;

bool threads_inside(void) { return inside; }

int threads_available(void) {
  int width = atomic_load_explicit(&pool.width, memory_order_relaxed);
  if (width == 0) {
    width = os_processors();
    if (width > MAX_WORKERS + 1) width = MAX_WORKERS + 1;
    atomic_store_explicit(&pool.width, width, memory_order_relaxed);
  }
  return width;
}

int threads_of(const moon_engine *engine) {
  int width = threads_available();
  int cap = engine == NULL ? 0 : engine->max_threads;
  return cap > 0 && cap < width ? cap : width;
}

// Spins until `*value` is no longer `old` or the time is over.
static void spin_while(atomic_uint *value, unsigned old) {
  double until = os_clock() + SPIN_SECONDS;
  do {
    for (int i = 0; i < SPINS_PER_LOOK; i++) {
      if (atomic_load_explicit(value, memory_order_acquire) != old) return;
      spin_pause();
    }
  } while (os_clock() < until);
}

// -- running blocks

// Runs block `block`; its sentence is in this thread's buffer if it fails.
static moon_status run_block(const block_run *run, int64_t block) {
  MOON_TRY(engine_check_interrupt(run->engine));
  int64_t first = block * run->grain, left = run->count - first;
  return run->task(run->context, first, left > run->grain ? first + run->grain : run->count);
}

static moon_status run_alone(const block_run *run) {
  for (int64_t block = 0; block < run->blocks; block++) MOON_TRY(run_block(run, block));
  return MOON_OK;
}

static void record_failure(pool_job *job, int64_t block, moon_status status) {
  if (pool.lock == NULL) return;   // forked in the middle of a task; run_together says so
  os_mutex_lock(pool.lock);
  if (job->failed == MOON_OK || block < job->failed_block) {
    job->failed_block = block;
    job->failed = status;
    memcpy(job->text, moon_error_text(), sizeof job->text);
  }
  os_mutex_unlock(pool.lock);
  atomic_store_explicit(&job->stop, true, memory_order_relaxed);
}

// Takes blocks until there are none. Blocks below a failed one have all been taken before it, so
// the lowest failure is the same in every run.
static void take_blocks(pool_job *job) {
  inside = true;
  while (!atomic_load_explicit(&job->stop, memory_order_relaxed)) {
    int64_t block = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
    if (block >= job->run.blocks) break;
    moon_status status = run_block(&job->run, block);
    if (status != MOON_OK) record_failure(job, block, status);
  }
  inside = false;
}

// -- workers

static void help(void) {
  if (atomic_fetch_sub(&pool.tickets, 1) <= 0) return;
  fesetenv(&pool.job.environment);
  take_blocks(&pool.job);
  atomic_fetch_add(&pool.finished, 1);
  if (!atomic_load(&pool.owner_sleeps)) return;
  os_mutex_lock(pool.lock);
  os_condition_signal(pool.done);
  os_mutex_unlock(pool.lock);
}

static void wait_for_job(unsigned seen) {
  spin_while(&pool.generation, seen);
  if (atomic_load(&pool.generation) != seen) return;
  os_mutex_lock(pool.lock);
  atomic_fetch_add(&pool.sleepers, 1);
  while (atomic_load(&pool.generation) == seen) os_condition_wait(pool.wake, pool.lock);
  atomic_fetch_sub(&pool.sleepers, 1);
  os_mutex_unlock(pool.lock);
}

static void worker_main(void *context) {
  unsigned seen = (unsigned)(uintptr_t)context;
  for (;;) {
    wait_for_job(seen);
    seen = atomic_load(&pool.generation);
    if (atomic_load(&pool.quit)) return;
    help();
  }
}

static void call_workers(void) {
  atomic_fetch_add(&pool.generation, 1);
  if (atomic_load(&pool.sleepers) == 0) return;
  os_mutex_lock(pool.lock);
  os_condition_broadcast(pool.wake);
  os_mutex_unlock(pool.lock);
}

// -- starting and stopping; the caller owns the pool

static void delete_locks(void) {
  os_condition_delete(pool.done);
  os_condition_delete(pool.wake);
  os_mutex_delete(pool.lock);
  pool.lock = NULL;
  pool.wake = pool.done = NULL;
}

static void stop_workers(void) {
  if (pool.lock == NULL) return;
  atomic_store(&pool.quit, true);
  call_workers();
  for (int i = 0; i < pool.workers; i++) os_thread_join(pool.threads[i]);
  pool.workers = 0;
  atomic_store(&pool.quit, false);
  delete_locks();
}

// A child of fork has no workers, and locks that nobody will open. Their memory goes back; to
// destroy them properly would be undefined.
static void forget_workers(void) {
  for (int i = 0; i < pool.workers; i++) alloc_delete(pool.threads[i]);
  alloc_delete(pool.done);
  alloc_delete(pool.wake);
  alloc_delete(pool.lock);
  pool.lock = NULL;
  pool.wake = pool.done = NULL;
  pool.workers = 0;
  atomic_store(&pool.tickets, 0);
  atomic_store(&pool.sleepers, 0);
  atomic_store(&pool.owner_sleeps, false);
  atomic_store(&pool.quit, false);
  atomic_fetch_add(&pool.forks, 1);
  atomic_store(&pool.busy, false);
}

static void guard_fork(void) { os_at_fork(NULL, NULL, forget_workers); }

static bool make_locks(void) {
  static int guarded;
  os_once(&guarded, guard_fork);
  if (pool.lock != NULL) return true;
  if (os_mutex_new(&pool.lock) == MOON_OK && os_condition_new(&pool.wake) == MOON_OK &&
      os_condition_new(&pool.done) == MOON_OK)
    return true;
  delete_locks();
  return false;
}

// Up to `wanted` workers; fewer if the system refuses, which costs time and nothing else.
static int start_workers(int wanted) {
  if (pool.workers >= wanted) return wanted;
  if (!make_locks()) return 0;
  void *seen = (void *)(uintptr_t)atomic_load(&pool.generation);
  while (pool.workers < wanted) {
    if (os_thread_start(&pool.threads[pool.workers], 0, worker_main, seen) != MOON_OK) break;
    pool.workers++;
  }
  return pool.workers;
}

static bool own_pool(void) {
  return !atomic_load_explicit(&pool.busy, memory_order_relaxed) &&
         !atomic_exchange_explicit(&pool.busy, true, memory_order_acquire);
}

static void leave_pool(void) { atomic_store_explicit(&pool.busy, false, memory_order_release); }

static void own_pool_at_last(void) {
  while (!own_pool()) os_yield();
}

// -- a call

static bool helpers_are_done(int helpers) { return atomic_load(&pool.finished) == helpers; }

static void wait_for_helpers(int helpers) {
  double until = os_clock() + SPIN_SECONDS;
  do {
    for (int i = 0; i < SPINS_PER_LOOK; i++) {
      if (helpers_are_done(helpers)) return;
      spin_pause();
    }
  } while (os_clock() < until);
  os_mutex_lock(pool.lock);
  atomic_store(&pool.owner_sleeps, true);
  while (!helpers_are_done(helpers)) os_condition_wait(pool.done, pool.lock);
  atomic_store(&pool.owner_sleeps, false);
  os_mutex_unlock(pool.lock);
}

// Runs the job with up to `helpers` workers. The caller owns the pool, and no longer does after.
static moon_status run_together(const block_run *run, int helpers) {
  pool_job *job = &pool.job;
  unsigned forks = atomic_load(&pool.forks);
  job->run = *run;
  job->failed = MOON_OK;
  fegetenv(&job->environment);
  atomic_store_explicit(&job->next, 0, memory_order_relaxed);
  atomic_store_explicit(&job->stop, false, memory_order_relaxed);
  atomic_store(&pool.finished, 0);
  atomic_store(&pool.tickets, helpers);
  call_workers();
  take_blocks(job);
  if (atomic_load(&pool.forks) != forks)
    return moon_fail(MOON_BAD_STATE, "the process forked in the middle of a parallel task");
  int left = atomic_exchange(&pool.tickets, 0);
  wait_for_helpers(helpers - (left > 0 ? left : 0));
  moon_status status = job->failed;
  if (status != MOON_OK) moon_fail(status, "%s", job->text);
  leave_pool();
  return status;
}

moon_status threads_run(moon_engine *engine, int64_t count, int64_t grain, threads_task task,
                        void *context) {
  if (count <= 0) return MOON_OK;
  if (grain < 1) grain = 1;
  block_run run = { engine, task, context, count, grain, count / grain + (count % grain != 0) };
  int64_t wanted = threads_of(engine);
  if (run.blocks < wanted) wanted = run.blocks;
  if (wanted <= 1 || inside || !own_pool()) return run_alone(&run);
  int helpers = start_workers((int)wanted - 1);
  if (helpers > 0) return run_together(&run, helpers);
  leave_pool();
  return run_alone(&run);
}

void threads_enter(void) { atomic_fetch_add(&pool.users, 1); }

void threads_leave(void) {
  if (atomic_fetch_sub(&pool.users, 1) != 1) return;
  if (inside) return;   // a worker cannot join itself; the workers sleep until the next to leave
  own_pool_at_last();
  if (atomic_load(&pool.users) <= 0) stop_workers();
  leave_pool();
}

void threads_set_width(int width) {
  own_pool_at_last();
  stop_workers();
  if (width > MAX_WORKERS + 1) width = MAX_WORKERS + 1;
  atomic_store_explicit(&pool.width, width < 0 ? 0 : width, memory_order_relaxed);
  leave_pool();
}
