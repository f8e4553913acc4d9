// What moonlet asks of the operating system; only os_*.c includes its headers.
#ifndef MOON_BASE_OS_H
#define MOON_BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

// Threads. `stack` bytes, 0 = the system's default.
typedef struct os_thread os_thread;
typedef struct os_mutex os_mutex;
typedef struct os_condition os_condition;
MOON_MUST_CHECK moon_status os_thread_start(os_thread **thread, size_t stack,
                                            void (*run)(void *), void *context);
void os_thread_join(os_thread *thread);   // waits and frees
MOON_MUST_CHECK moon_status os_mutex_new(os_mutex **mutex);
void os_mutex_delete(os_mutex *mutex);
void os_mutex_lock(os_mutex *mutex);
void os_mutex_unlock(os_mutex *mutex);
MOON_MUST_CHECK moon_status os_condition_new(os_condition **condition);
void os_condition_delete(os_condition *condition);
void os_condition_wait(os_condition *condition, os_mutex *mutex);
// False when the time was over first.
bool os_condition_wait_for(os_condition *condition, os_mutex *mutex, double seconds);
void os_condition_signal(os_condition *condition);
void os_condition_broadcast(os_condition *condition);
void os_once(int *once, void (*run)(void));   // *once starts as 0; others wait until run is over
void os_yield(void);                   // lets another thread go first

double os_clock(void);                 // seconds, monotonic
double os_thread_clock(void);          // seconds for which this thread had a processor
void os_sleep(double seconds);
uint64_t os_random_seed(void);         // from the system's entropy
// Lets this process use the matrix registers (AMX), whose state the system saves on request only.
bool os_allow_amx(void);
int os_processors(void);               // affinity and cgroup quota respected, at least 1
uint64_t os_memory_limit(void);        // smaller of RAM and the cgroup's limit, bytes
uint64_t os_resident_bytes(void);      // resident size of this process; 0 if unknown

// Pages: large blocks straight from the system, aligned to 2 MiB, huge pages advised.
void *os_pages_new(size_t bytes);      // NULL when refused
void os_pages_delete(void *pages, size_t bytes);
// Larger or smaller pages, at another place, with the memory of `pages`, which are gone: only what
// is new has to be touched for the first time. NULL where that cannot be; `pages` stay then.
void *os_pages_resize(void *pages, size_t old, size_t bytes);
// Blocks of the C heap aligned to a power of two (at least that of a pointer); NULL when refused.
void *os_aligned_new(size_t alignment, size_t bytes);
void os_aligned_delete(void *block);

// Files. A mapping is private: what is written to its memory never reaches the file. An empty file
// gives bytes = 0 and data not NULL.
// Shrinking a mapped file under a reader kills the reader, as everywhere on this system.
typedef struct os_mapping { const void *data; size_t bytes; } os_mapping;
MOON_MUST_CHECK moon_status os_map_file(const char *path, os_mapping *mapping);
void os_unmap(os_mapping *mapping);
// Writes `path` whole or not at all: temporary file beside it, write, flush to disk, rename.
// A file that was there keeps its permissions; a symbolic link is followed.
typedef struct os_writer os_writer;
MOON_MUST_CHECK moon_status os_writer_open(os_writer **writer, const char *path);
MOON_MUST_CHECK moon_status os_writer_write(os_writer *writer, const void *data, size_t bytes);
MOON_MUST_CHECK moon_status os_writer_commit(os_writer *writer);   // frees the writer in any case
void os_writer_abandon(os_writer *writer);
bool os_file_exists(const char *path);
MOON_MUST_CHECK moon_status os_make_directory(const char *path);   // with parents; may exist
bool os_is_terminal(int descriptor);   // 0, 1, 2
int os_terminal_columns(void);         // width of the terminal on stderr, 80 if unknown

// Shared libraries opened at run time.
void *os_library_open(const char *name);   // NULL when absent
void *os_library_symbol(void *library, const char *name);
bool os_library_is_open(const char *name);   // does this process have it already?

// Interrupt key (SIGINT): the first sets the engine's flag, a second ends the process at once.
// Installed on request, for the duration; nested requests count; the old handler comes back.
// "First" means that the flag is not set: after engine_clear_interrupt a first may come again.
void os_catch_interrupt(void);
void os_release_interrupt(void);

// Calls run around fork: before (parent), after in parent, after in child. Any may be NULL.
void os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void));

#endif
