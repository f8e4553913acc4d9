// Status codes and the sentence that goes with a failure.
//
// Every fallible function returns a moon_status. The sentence lies in a buffer of the calling
// thread and stays valid until that thread's next failure, so no function needs an error argument
// and nothing is allocated on the way out.
#ifndef MOON_BASE_STATUS_H
#define MOON_BASE_STATUS_H

#if defined(__GNUC__)
#define MOON_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define MOON_MUST_CHECK __attribute__((warn_unused_result))
#else
#define MOON_PRINTF(text, first)
#define MOON_MUST_CHECK
#endif

typedef enum moon_status {
  MOON_OK = 0,
  MOON_OUT_OF_MEMORY,
  MOON_BAD_ARGUMENT,
  MOON_BAD_SHAPE,
  MOON_BAD_DTYPE,
  MOON_BAD_DEVICE,
  MOON_BAD_INDEX,
  MOON_BAD_STATE,     // the call came at a wrong time: freed graph, released tensor, stale version
  MOON_BAD_FILE,      // missing, truncated or corrupt file
  MOON_UNSUPPORTED,
  MOON_INTERRUPTED,
} moon_status;

enum { MOON_ERROR_BYTES = 1024 };   // room for a sentence with its final zero

// Stores the sentence (longer ones are cut and end in "...") and returns `status`.
// The arguments may point into the sentence stored before.
moon_status moon_fail(moon_status status, const char *format, ...) MOON_PRINTF(2, 3);

// Puts a prefix and ": " in front of the stored sentence, e.g. the name of the operator; a prefix
// that brings its own ": " is taken as it is. Returns `status`.
moon_status moon_fail_in(moon_status status, const char *format, ...) MOON_PRINTF(2, 3);

// The sentence of this thread's last failure; "" if there was none. Borrowed.
const char *moon_error_text(void);

// Passes a failure up.
#define MOON_TRY(call)                              \
  do {                                              \
    moon_status moon_status_ = (call);              \
    if (moon_status_ != MOON_OK) return moon_status_; \
  } while (0)

#endif
