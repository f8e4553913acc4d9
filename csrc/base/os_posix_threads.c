// Threads, mutexes and conditions by pthreads. Waits use the monotonic clock, so that setting the
// time of day does not shorten or lengthen them.
#define _GNU_SOURCE

#include "base/os.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"

struct os_thread {
  pthread_t handle;
  void (*run)(void *);
  void *context;
};
struct os_mutex { pthread_mutex_t lock; };
struct os_condition { pthread_cond_t condition; };

static void *thread_main(void *argument) {
  os_thread *thread = argument;
  thread->run(thread->context);
  return NULL;
}

// Starts the thread with every signal blocked: signals are for the host's own threads.
static int start_blocked(os_thread *thread, const pthread_attr_t *attributes) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&thread->handle, attributes, thread_main, thread);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return error;
}

moon_status os_thread_start(os_thread **thread, size_t stack, void (*run)(void *), void *context) {
  void *block;
  MOON_TRY(alloc_new(sizeof(os_thread), &block));
  os_thread *made = block;
  made->run = run;
  made->context = context;
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error == 0) {
    if (stack != 0) error = pthread_attr_setstacksize(&attributes, stack);
    if (error == 0) error = start_blocked(made, &attributes);
    pthread_attr_destroy(&attributes);
  }
  if (error != 0) {
    alloc_delete(made);
    return moon_fail(error == EINVAL ? MOON_BAD_ARGUMENT : MOON_OUT_OF_MEMORY,
                     "cannot start a thread (system error %d)", error);
  }
  *thread = made;
  return MOON_OK;
}

void os_thread_join(os_thread *thread) {
  pthread_join(thread->handle, NULL);
  alloc_delete(thread);
}

moon_status os_mutex_new(os_mutex **mutex) {
  void *block;
  MOON_TRY(alloc_new(sizeof(os_mutex), &block));
  *mutex = block;
  pthread_mutex_init(&(*mutex)->lock, NULL);   // cannot fail without attributes
  return MOON_OK;
}

void os_mutex_delete(os_mutex *mutex) {
  if (mutex == NULL) return;
  pthread_mutex_destroy(&mutex->lock);
  alloc_delete(mutex);
}

void os_mutex_lock(os_mutex *mutex) { pthread_mutex_lock(&mutex->lock); }
void os_mutex_unlock(os_mutex *mutex) { pthread_mutex_unlock(&mutex->lock); }

moon_status os_condition_new(os_condition **condition) {
  void *block;
  MOON_TRY(alloc_new(sizeof(os_condition), &block));
  *condition = block;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&(*condition)->condition, &attributes);
  pthread_condattr_destroy(&attributes);
  return MOON_OK;
}

void os_condition_delete(os_condition *condition) {
  if (condition == NULL) return;
  pthread_cond_destroy(&condition->condition);
  alloc_delete(condition);
}

void os_condition_wait(os_condition *condition, os_mutex *mutex) {
  pthread_cond_wait(&condition->condition, &mutex->lock);
}

bool os_condition_wait_for(os_condition *condition, os_mutex *mutex, double seconds) {
  if (!(seconds > 0)) seconds = 0;
  if (seconds > 1e9) seconds = 1e9;
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  time_t whole = (time_t)seconds;
  until.tv_sec += whole;
  until.tv_nsec += (long)(1e9 * (seconds - (double)whole));
  if (until.tv_nsec >= 1000000000L) {
    until.tv_nsec -= 1000000000L;
    until.tv_sec++;
  }
  return pthread_cond_timedwait(&condition->condition, &mutex->lock, &until) != ETIMEDOUT;
}

void os_condition_signal(os_condition *condition) { pthread_cond_signal(&condition->condition); }

void os_condition_broadcast(os_condition *condition) {
  pthread_cond_broadcast(&condition->condition);
}

void os_yield(void) { sched_yield(); }

// glibc's and musl's pthread_once_t is an int that starts as 0, and pthread_once is safe when
// another thread forks in the middle of it. A system where it is not needs an os_once of its own.
_Static_assert(sizeof(pthread_once_t) == sizeof(int), "pthread_once_t is not an int here");

void os_once(int *once, void (*run)(void)) { pthread_once((pthread_once_t *)once, run); }
