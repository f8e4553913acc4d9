// What the processor can do: floating-point operations a second from registers alone, bytes a
// second that memcpy moves, and OpenBLAS's rate on the matrices of bench/convolutions.lua when
// there is an OpenBLAS to open (the name of its kernels is printed). Lines of a name and a value.
//
//   ceilings THREADS wall|cpu [openblas]        cpu: processor time, where the machine is not free
//
// Build with -O3 -march=native: the arrays of floats below are then vectors in registers.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_THREADS = 256, ROUNDS = 7, LANES = 16, CHAINS = 24, CHAIN_LENGTH = 1 << 22 };
enum { COPY_BYTES = 256 << 20 };   // beyond the caches
enum { ROW_MAJOR = 101, AS_IS = 111 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef void sgemm(int, int, int, int, int, int, float, const float *, int, const float *, int,
                   float, float *, int);

static clockid_t clock_of_threads = CLOCK_MONOTONIC;
static int threads = 1;

static double seconds(void) {
  struct timespec t;
  clock_gettime(clock_of_threads, &t);
  double share = clock_of_threads == CLOCK_MONOTONIC ? 1 : 1.0 / threads;
  return ((double)t.tv_sec + (double)t.tv_nsec * 1e-9) * share;
}

// Chains of multiply-adds that do not wait for each other.
static void *multiply_and_add(void *result) {
  lanes chain[CHAINS], factor, term;
  for (int i = 0; i < LANES; i++) factor[i] = 0.999f, term[i] = 1e-3f;
  for (int c = 0; c < CHAINS; c++) chain[c] = term;
  for (int i = 0; i < CHAIN_LENGTH; i++) {
#pragma GCC unroll 24
    for (int c = 0; c < CHAINS; c++) chain[c] = chain[c] * factor + term;
  }
  for (int c = 1; c < CHAINS; c++) chain[0] += chain[c];
  *(float *)result = chain[0][0];
  return NULL;
}

typedef struct copy_share {
  char *to;
  const char *from;
  size_t bytes;
} copy_share;

static void *copy(void *argument) {
  copy_share *share = argument;
  memcpy(share->to, share->from, share->bytes);
  return NULL;
}

// Runs fn(argument i) for every thread and gives the least of several times.
static double best(void *(*fn)(void *), char *arguments, size_t size) {
  double least = 1e30;
  for (int round = 0; round < ROUNDS; round++) {
    pthread_t started[MOST_THREADS];
    double before = seconds();
    for (int i = 1; i < threads; i++) {
      if (pthread_create(&started[i], NULL, fn, arguments + size * (size_t)i)) exit(1);
    }
    fn(arguments);
    for (int i = 1; i < threads; i++) pthread_join(started[i], NULL);
    double taken = seconds() - before;
    if (taken < least) least = taken;
  }
  return least;
}

static void measure_registers(void) {
  float results[MOST_THREADS];
  double taken = best(multiply_and_add, (char *)results, sizeof results[0]);
  double operations = 2.0 * LANES * CHAINS * CHAIN_LENGTH * threads;
  printf("fma_gflops %.1f\n", operations / taken * 1e-9);
}

static void measure_memory(void) {
  size_t bytes = COPY_BYTES / (size_t)threads;
  char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
  if (!from || !to) exit(1);
  memset(from, 1, COPY_BYTES);
  memset(to, 1, COPY_BYTES);
  copy_share shares[MOST_THREADS];
  for (int i = 0; i < threads; i++) {
    shares[i] = (copy_share){ to + bytes * (size_t)i, from + bytes * (size_t)i, bytes };
  }
  double taken = best(copy, (char *)shares, sizeof shares[0]);
  printf("copy_gbs %.1f\n", 2.0 * COPY_BYTES / taken * 1e-9);   // read once, written once
  free(from);
  free(to);
}

static void measure_product(sgemm *product, const char *name, int m, int n, int k) {
  float *a = calloc((size_t)m * (size_t)k, sizeof *a);
  float *b = calloc((size_t)k * (size_t)n, sizeof *b);
  float *c = calloc((size_t)m * (size_t)n, sizeof *c);
  if (!a || !b || !c) exit(1);
  double least = 1e30;
  for (int round = 0; round < ROUNDS; round++) {
    double before = seconds();
    product(ROW_MAJOR, AS_IS, AS_IS, m, n, k, 1, a, k, b, n, 0, c, n);
    double taken = seconds() - before;
    if (taken < least) least = taken;
  }
  printf("%s %.1f\n", name, 2.0 * m * n * k / least * 1e-9);
  free(a);
  free(b);
  free(c);
}

static int measure_openblas(void) {
  void *library = dlopen("libopenblas.so.0", RTLD_NOW);
  if (!library) return 0;
  void (*set_threads)(int);
  char *(*corename)(void);
  sgemm *product;
  *(void **)&set_threads = dlsym(library, "openblas_set_num_threads");
  *(void **)&corename = dlsym(library, "openblas_get_corename");
  *(void **)&product = dlsym(library, "cblas_sgemm");
  if (!set_threads || !corename || !product) return 1;
  set_threads(threads);
  printf("corename %s\n", corename());
  measure_product(product, "square", 2048, 2048, 2048);
  measure_product(product, "early", 64, 50176, 576);
  return 0;
}

int main(int count, char **words) {
  if (count < 3) {
    fprintf(stderr, "usage: ceilings THREADS wall|cpu [openblas]\n");
    return 2;
  }
  threads = atoi(words[1]);
  if (threads < 1 || threads > MOST_THREADS) return 2;
  if (!strcmp(words[2], "cpu")) clock_of_threads = CLOCK_PROCESS_CPUTIME_ID;
  if (count > 3) return measure_openblas();
  measure_registers();
  measure_memory();
  return 0;
}
