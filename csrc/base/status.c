// The sentence of a thread's last failure: one fixed buffer a thread, so that failing allocates
// nothing and two threads never see each other's text.
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[MOON_ERROR_BYTES];

// Ends a sentence of `length` bytes that was cut to the buffer in "...", never in the middle of a
// UTF-8 character.
static void mark_cut(char *text, int length) {
  if (length < MOON_ERROR_BYTES) return;
  size_t end = MOON_ERROR_BYTES - sizeof "...";
  while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) end--;
  memcpy(text + end, "...", sizeof "...");
}

moon_status moon_fail(moon_status status, const char *format, ...) {
  char text[MOON_ERROR_BYTES];   // the arguments may lie in error_text
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length < 0) text[0] = '\0';
  mark_cut(text, length);
  memcpy(error_text, text, sizeof text);
  return status;
}

moon_status moon_fail_in(moon_status status, const char *format, ...) {
  char prefix[MOON_ERROR_BYTES], text[MOON_ERROR_BYTES];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(prefix, sizeof prefix, format, arguments);
  va_end(arguments);
  if (length < 0) prefix[0] = '\0';
  size_t end = strlen(prefix);
  const char *colon = end > 0 && prefix[end - 1] == ' ' ? "" : ": ";
  mark_cut(text, snprintf(text, sizeof text, "%s%s%s", prefix, colon, error_text));
  memcpy(error_text, text, sizeof text);
  return status;
}

const char *moon_error_text(void) { return error_text; }
