// A small frame for C test programs: CHECK goes on after a failure and counts; check_end prints
// the count and gives the exit status. Files of a run lie in a folder of its own under /tmp, which
// check_end removes.
#ifndef MOON_SPEC_CHECK_H
#define MOON_SPEC_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"

static long checks_made, checks_failed;
static char check_folder[64];

#define CHECK(condition)                                                                   \
  do {                                                                                     \
    checks_made++;                                                                         \
    if (!(condition)) {                                                                    \
      checks_failed++;                                                                     \
      fprintf(stderr, "%s:%d: %s does not hold (last sentence: %s)\n", __FILE__, __LINE__, \
              #condition, moon_error_text());                                              \
    }                                                                                      \
  } while (0)

// `call` gives `expected`, and its sentence contains `part`.
#define CHECK_FAILS(call, expected, part)                                                   \
  do {                                                                                      \
    checks_made++;                                                                          \
    moon_status check_status = (call);                                                      \
    if (check_status != (expected) || strstr(moon_error_text(), part) == NULL) {            \
      checks_failed++;                                                                      \
      fprintf(stderr, "%s:%d: %s gave %d, \"%s\"; expected %d and \"%s\"\n", __FILE__,      \
              __LINE__, #call, (int)check_status, moon_error_text(), (int)(expected), part); \
    }                                                                                       \
  } while (0)

// The path of `name` in this run's folder; each of the last eight stays valid.
static inline const char *check_path(const char *name) {
  static char paths[8][256];
  static unsigned next;
  if (check_folder[0] == '\0') {
    strcpy(check_folder, "/tmp/moonlet-XXXXXX");
    if (mkdtemp(check_folder) == NULL) exit(2);
  }
  char *path = paths[next++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", check_folder, name);
  return path;
}

static inline void check_write(const char *path, const void *bytes, size_t count) {
  FILE *file = fopen(path, "wb");
  CHECK(file != NULL);
  if (file == NULL) return;
  CHECK(fwrite(bytes, 1, count, file) == count);
  CHECK(fclose(file) == 0);
}

// The whole file, from malloc; NULL and a failed check if it cannot be read.
static inline unsigned char *check_read(const char *path, size_t *count) {
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL);
  if (file == NULL) return NULL;
  fseek(file, 0, SEEK_END);
  *count = (size_t)ftell(file);
  rewind(file);
  unsigned char *bytes = malloc(*count + 1);
  CHECK(bytes != NULL && fread(bytes, 1, *count, file) == *count);
  fclose(file);
  return bytes;
}

// Xorshift: the same numbers in every run.
static inline uint32_t check_random(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

static inline int check_end(const char *program) {
  if (check_folder[0] != '\0') {
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", check_folder);
    CHECK(system(command) == 0);
  }
  printf("%s: %ld checks, %ld failed\n", program, checks_made, checks_failed);
  return checks_failed > 0;
}

#endif
