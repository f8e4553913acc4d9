// The smallest test frame: a check is a function; the first EXPECT that does not hold ends it.
// One line a check: "ok name" or "not ok name: why"; the program's exit status is 1 if any failed.
#ifndef MOON_SPEC_BASE_CHECK_H
#define MOON_SPEC_BASE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf check_end;
static char check_why[2048];
static int check_failures;

static inline void check_fail(const char *file, int line, const char *format, ...) {
  va_list arguments;
  int length = snprintf(check_why, sizeof check_why, "%s:%d: ", file, line);
  va_start(arguments, format);
  vsnprintf(check_why + length, sizeof check_why - (size_t)length, format, arguments);
  va_end(arguments);
  longjmp(check_end, 1);
}

#define EXPECT(condition) \
  do { if (!(condition)) check_fail(__FILE__, __LINE__, "%s", #condition); } while (0)

#define EXPECT_OK(call)                                                                      \
  do {                                                                                       \
    moon_status status_ = (call);                                                            \
    if (status_ != MOON_OK)                                                                  \
      check_fail(__FILE__, __LINE__, "%s gave status %d: %s", #call, (int)status_,           \
                 moon_error_text());                                                         \
  } while (0)

// `call` fails with `status`, and its sentence contains `part`.
#define EXPECT_FAIL(call, status, part)                                                      \
  do {                                                                                       \
    moon_status status_ = (call);                                                            \
    if (status_ != (status))                                                                 \
      check_fail(__FILE__, __LINE__, "%s gave status %d, not %s", #call, (int)status_,       \
                 #status);                                                                   \
    if (strstr(moon_error_text(), part) == NULL)                                             \
      check_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", moon_error_text(), part);        \
  } while (0)

static inline void check(const char *name, void (*run)(void)) {
  if (setjmp(check_end) == 0) {
    run();
    printf("ok %s\n", name);
  } else {
    check_failures++;
    for (char *at = check_why; *at != '\0'; at++) if (*at == '\n') *at = ' ';
    printf("not ok %s: %s\n", name, check_why);
  }
  fflush(stdout);
}

static inline int check_result(void) { return check_failures > 0; }

#endif
