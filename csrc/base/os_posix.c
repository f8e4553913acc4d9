// The small things asked of a POSIX system: clock, entropy, shared libraries, the interrupt key
// and fork. Threads, memory, limits and files have files of their own beside this one.
#define _GNU_SOURCE

#include "base/os.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/engine.h"

#if defined(__linux__)
#include <sys/random.h>
#define SYSTEM_ENTROPY(data, bytes) (getrandom(data, bytes, 0) == (ssize_t)(bytes))
#else
#define SYSTEM_ENTROPY(data, bytes) (getentropy(data, bytes) == 0)
#endif

static double seconds_of(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double os_clock(void) { return seconds_of(CLOCK_MONOTONIC); }
double os_thread_clock(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }

void os_sleep(double seconds) {
  if (!(seconds > 0)) return;
  if (seconds > 1e9) seconds = 1e9;
  struct timespec left = { .tv_sec = (time_t)seconds };
  left.tv_nsec = (long)(1e9 * (seconds - (double)left.tv_sec));
  while (nanosleep(&left, &left) != 0 && errno == EINTR && !engine_interrupted()) continue;
}

uint64_t os_random_seed(void) {
  uint64_t seed;
  if (SYSTEM_ENTROPY(&seed, sizeof seed)) return seed;
  struct timespec now;   // no entropy: at least not twice the same
  clock_gettime(CLOCK_REALTIME, &now);
  seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  return (seed ^ ((uint64_t)getpid() << 32)) * 0x9E3779B97F4A7C15u;
}

bool os_is_terminal(int descriptor) { return isatty(descriptor) == 1; }

int os_terminal_columns(void) {
  struct winsize size;
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

void *os_library_open(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
void *os_library_symbol(void *library, const char *name) { return dlsym(library, name); }
bool os_library_is_open(const char *name) {
  void *library = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
  if (library) dlclose(library);   // gives back what the question took; it stays open
  return library != NULL;
}

void os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
  // Fails for want of a few bytes only; then fork is as unsafe as without us.
  (void)pthread_atfork(before, parent, child);
}

// -- the interrupt key

static pthread_mutex_t interrupt_lock = PTHREAD_MUTEX_INITIALIZER;   // guards the two below
static int interrupt_users;
static struct sigaction interrupt_before;

// Only what a signal handler may do: atomics, sigaction, raise. The raised signal is held back
// until the handler returns, and then ends the process the way its shell expects.
static void on_interrupt(int number) {
  if (!engine_interrupted()) {
    engine_interrupt();
    return;
  }
  struct sigaction standard;
  memset(&standard, 0, sizeof standard);
  standard.sa_handler = SIG_DFL;
  sigaction(number, &standard, NULL);
  raise(number);
}

// In the child of a fork nobody holds the lock, whoever held it in the parent.
static void free_lock_in_child(void) { pthread_mutex_init(&interrupt_lock, NULL); }
static void guard_fork(void) { os_at_fork(NULL, NULL, free_lock_in_child); }

void os_catch_interrupt(void) {
  static int guarded;
  os_once(&guarded, guard_fork);
  pthread_mutex_lock(&interrupt_lock);
  if (interrupt_users++ == 0) {
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_handler = on_interrupt;
    ours.sa_flags = SA_RESTART;   // a host's own reads and writes go on undisturbed
    sigaction(SIGINT, &ours, &interrupt_before);
  }
  pthread_mutex_unlock(&interrupt_lock);
}

void os_release_interrupt(void) {
  pthread_mutex_lock(&interrupt_lock);
  if (interrupt_users > 0 && --interrupt_users == 0) sigaction(SIGINT, &interrupt_before, NULL);
  pthread_mutex_unlock(&interrupt_lock);
}

// Linux 5.16 and later: "request permission for an extended state component", the 18th of which
// holds the matrix registers.
bool os_allow_amx(void) {
#if defined(__linux__) && defined(__x86_64__)
  enum { REQUEST_PERMISSION = 0x1023, MATRIX_REGISTERS = 18 };
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, MATRIX_REGISTERS) == 0;
#else
  return false;
#endif
}
