// csrc/base without memory and threads, which have programs of their own: sentences, element
// types, random numbers, engines, and what is asked of the operating system.
#define _GNU_SOURCE

#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cpuid.h"
#include "base/dtype.h"
#include "base/engine.h"
#include "base/os.h"
#include "base/random.h"
#include "base/status.h"

#include "base_check.h"

// -- sentences

static void sentence_is_kept(void) {
  EXPECT(strcmp(moon_error_text(), "") == 0);
  EXPECT(moon_fail(MOON_BAD_SHAPE, "%d is not %s", 3, "four") == MOON_BAD_SHAPE);
  EXPECT(strcmp(moon_error_text(), "3 is not four") == 0);
}

static void prefix_goes_in_front(void) {
  moon_fail(MOON_BAD_SHAPE, "bad");
  EXPECT(moon_fail_in(MOON_BAD_SHAPE, "conv%dd", 2) == MOON_BAD_SHAPE);
  EXPECT(strcmp(moon_error_text(), "conv2d: bad") == 0);
  moon_fail_in(MOON_BAD_SHAPE, "backward of %s: ", "x");
  EXPECT(strcmp(moon_error_text(), "backward of x: conv2d: bad") == 0);
}

static void sentence_may_quote_itself(void) {
  moon_fail(MOON_BAD_FILE, "inner");
  moon_fail(MOON_BAD_FILE, "outer (%s)", moon_error_text());
  EXPECT(strcmp(moon_error_text(), "outer (inner)") == 0);
}

static void long_sentence_is_cut(void) {
  char text[3000];
  memset(text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  moon_fail(MOON_BAD_FILE, "%s", text);
  EXPECT(strlen(moon_error_text()) == MOON_ERROR_BYTES - 1);
  EXPECT(strcmp(moon_error_text() + MOON_ERROR_BYTES - 5, "x...") == 0);
  for (int i = 0; i + 2 < (int)sizeof text; i += 2) memcpy(text + i, "\xc3\xa9", 2);
  moon_fail(MOON_BAD_FILE, "%s", text);
  size_t length = strlen(moon_error_text());
  EXPECT(length < MOON_ERROR_BYTES && (length - 3) % 2 == 0);   // no half of an e acute
  moon_fail_in(MOON_BAD_FILE, "prefix");
  EXPECT(strncmp(moon_error_text(), "prefix: \xc3\xa9", 10) == 0);
}

static void other_thread_fails(void *unused) {
  (void)unused;
  moon_fail(MOON_BAD_FILE, "elsewhere");
}

static void sentence_belongs_to_its_thread(void) {
  os_thread *thread;
  moon_fail(MOON_BAD_FILE, "here");
  EXPECT_OK(os_thread_start(&thread, 0, other_thread_fails, NULL));
  os_thread_join(thread);
  EXPECT(strcmp(moon_error_text(), "here") == 0);
}

// -- element types

static void names_and_sizes(void) {
  static const size_t sizes[] = { 4, 8, 2, 2, 8, 4, 1, 1 };
  for (int i = 0; i < MOON_DTYPE_COUNT; i++) {
    moon_dtype found;
    EXPECT(dtype_size((moon_dtype)i) == sizes[i]);
    EXPECT(dtype_by_name(dtype_name((moon_dtype)i), &found) && (int)found == i);
    EXPECT(dtype_is_float((moon_dtype)i) == (dtype_class_of((moon_dtype)i) == DTYPE_FLOAT));
  }
  moon_dtype untouched = MOON_U8;
  EXPECT(!dtype_by_name("float", &untouched) && untouched == MOON_U8);
  EXPECT(dtype_class_of(MOON_BOOL) == DTYPE_BOOLEAN && dtype_class_of(MOON_I32) == DTYPE_INTEGER);
}

// The value of a float format's bits, from its definition.
static double value_of(uint32_t bits, int exponent_bits, int mantissa_bits) {
  int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  int bias = (1 << (exponent_bits - 1)) - 1;
  double mantissa = ldexp((double)(bits & ((1u << mantissa_bits) - 1)), -mantissa_bits), value;
  if (exponent == (1 << exponent_bits) - 1) value = mantissa == 0 ? INFINITY : NAN;
  else if (exponent == 0) value = ldexp(mantissa, 1 - bias);
  else value = ldexp(1 + mantissa, exponent - bias);
  return bits >> (exponent_bits + mantissa_bits) & 1 ? -value : value;
}

static void every_half_has_its_value(void) {
  for (uint32_t h = 0; h < 65536; h++) {
    double half = half_to_float((uint16_t)h), expected = value_of(h, 5, 10);
    double bfloat = bfloat_to_float((uint16_t)h), wide = value_of(h, 8, 7);
    EXPECT(isnan(expected) ? isnan(half) : half == expected && signbit(half) == signbit(expected));
    EXPECT(isnan(wide) ? isnan(bfloat) : bfloat == wide && signbit(bfloat) == signbit(wide));
  }
}

static void every_half_comes_back(void) {
  for (uint32_t h = 0; h < 65536; h++) {
    uint16_t half = half_from_float(half_to_float((uint16_t)h));
    uint16_t bfloat = bfloat_from_float(bfloat_to_float((uint16_t)h));
    // A signalling NaN becomes a quiet one; all else is the same bits.
    EXPECT(half == (isnan(value_of(h, 5, 10)) ? h | 0x200 : h));
    EXPECT(bfloat == (isnan(value_of(h, 8, 7)) ? h | 0x40 : h));
  }
}

// Round to nearest even at, just below and just above the middle between each two neighbours.
static void halves_round_to_even(void) {
  for (uint32_t h = 0; h < 0x7bff; h++) {
    float middle = (half_to_float((uint16_t)h) + half_to_float((uint16_t)(h + 1))) / 2;
    EXPECT(half_from_float(middle) == (h % 2 == 0 ? h : h + 1));
    EXPECT(half_from_float(nextafterf(middle, 0)) == h);
    EXPECT(half_from_float(nextafterf(middle, INFINITY)) == h + 1);
    EXPECT(half_from_float(-nextafterf(middle, INFINITY)) == (0x8000 | (h + 1)));
  }
  EXPECT(half_from_float(65519.996f) == 0x7bff && half_from_float(65520.0f) == 0x7c00);
  EXPECT(half_from_float(1e-30f) == 0 && half_from_float(-3.4e38f) == 0xfc00);
  for (uint32_t h = 0; h < 0x7f7f; h++) {
    dtype_bits middle = { h << 16 | 0x8000 };
    EXPECT(bfloat_from_float(middle.f) == (h % 2 == 0 ? h : h + 1));
    dtype_bits below = { middle.u - 1 }, above = { middle.u + 1 };
    EXPECT(bfloat_from_float(below.f) == h && bfloat_from_float(above.f) == h + 1);
  }
  EXPECT(bfloat_from_float(3.4028235e38f) == 0x7f80);
}

static void doubles_are_rounded_once(void) {
  uint16_t half, bfloat;
  // A hair above the middle of two halves: rounding to float32 first would land on the middle.
  for (uint32_t h = 0; h < 0x7bff; h += 7) {
    double middle = ((double)half_to_float((uint16_t)h) + half_to_float((uint16_t)(h + 1))) / 2;
    dtype_store(MOON_F16, &half, middle * (1 + 1e-12));
    EXPECT(half == h + 1);
    dtype_store(MOON_F16, &half, -middle * (1 - 1e-12));
    EXPECT(half == (0x8000 | h));
  }
  dtype_store(MOON_BF16, &bfloat, (1 + 0x1p-8) * (1 + 1e-12));
  EXPECT(bfloat == 0x3f81);
  dtype_store_int(MOON_BF16, &bfloat, (INT64_C(1) << 62) + (INT64_C(1) << 54) + 1);
  EXPECT(bfloat == (((127 + 62) << 7) | 1));
  dtype_store_int(MOON_BF16, &bfloat, (INT64_C(1) << 62) + (INT64_C(1) << 54));
  EXPECT(bfloat == (127 + 62) << 7);
}

static void single_elements(void) {
  for (int i = 0; i < MOON_DTYPE_COUNT; i++) {
    unsigned char bytes[17];
    dtype_store((moon_dtype)i, bytes + 1, 1.0);   // not aligned
    EXPECT(dtype_load((moon_dtype)i, bytes + 1) == 1.0);
    dtype_store_int((moon_dtype)i, bytes + 1, 1);
    EXPECT(dtype_load_int((moon_dtype)i, bytes + 1) == 1);
  }
  int64_t wide;
  int32_t narrow;
  uint8_t byte;
  dtype_store(MOON_I64, &wide, 1e300);
  EXPECT(wide == INT64_MAX);
  dtype_store(MOON_I64, &wide, -INFINITY);
  EXPECT(wide == INT64_MIN);
  dtype_store(MOON_I64, &wide, NAN);
  EXPECT(wide == 0);
  dtype_store(MOON_I32, &narrow, -2.9);
  EXPECT(narrow == -2);
  dtype_store_int(MOON_U8, &byte, 257);
  EXPECT(byte == 1);
  dtype_store(MOON_BOOL, &byte, 0.25);
  EXPECT(byte == 1);
  dtype_store_int(MOON_I64, &wide, (INT64_C(1) << 53) + 1);
  EXPECT(dtype_load_int(MOON_I64, &wide) == (INT64_C(1) << 53) + 1);
}

// -- random numbers

// Philox4x32-10 from its definition with all of counter and key, held against the vectors that its
// authors publish (Random123, kat_vectors); ours is held against it.
static void philox_of_the_paper(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c[4], k0 = key[0], k1 = key[1];
  memcpy(c, counter, sizeof c);
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    uint64_t p = (uint64_t)c[0] * 0xD2511F53u, q = (uint64_t)c[2] * 0xCD9E8D57u;
    uint32_t n[4] = { (uint32_t)(q >> 32) ^ c[1] ^ k0, (uint32_t)q,
                      (uint32_t)(p >> 32) ^ c[3] ^ k1, (uint32_t)p };
    memcpy(c, n, sizeof c);
  }
  memcpy(out, c, sizeof c);
}

static void philox_vectors(void) {
  static const struct { uint32_t counter[4], key[2], out[4]; } known[] = {
    { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
    { { ~0u, ~0u, ~0u, ~0u }, { ~0u, ~0u }, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
    { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
      { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
  };
  uint32_t out[4];
  for (int i = 0; i < 3; i++) {
    philox_of_the_paper(known[i].counter, known[i].key, out);
    EXPECT(memcmp(out, known[i].out, sizeof out) == 0);
  }
  random_block zero = random_philox(0, 0);
  EXPECT(memcmp(zero.word, known[0].out, sizeof out) == 0);
  for (uint64_t i = 0; i < 1000; i++) {
    uint64_t seed = i * 0x9E3779B97F4A7C15u, counter = ~i * 0xD1342543DE82EF95u;
    uint32_t words[4] = { (uint32_t)counter, (uint32_t)(counter >> 32), 0, 0 };
    uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    philox_of_the_paper(words, key, out);
    random_block ours = random_philox(seed, counter);
    EXPECT(memcmp(ours.word, out, sizeof out) == 0);
  }
}

static void unit_numbers(void) {
  EXPECT(random_unit(0) == 0.0f && random_unit(~0u) < 1.0f && random_unit(1u << 31) == 0.5f);
}

// -- engines and the interrupt flag

static void engine_begins_with_defaults(void) {
  moon_engine *a, *b;
  EXPECT_OK(engine_new(&a));
  EXPECT_OK(engine_new(&b));
  EXPECT(a->id != b->id && a->seed == 0 && a->grad_enabled && !a->precise && a->max_threads == 0);
  EXPECT(a->memory.budget > 0 && (uint64_t)a->memory.budget <= os_memory_limit() / 10 * 9);
  EXPECT(engine_take_draws(a, 5) == 0 && engine_take_draws(a, 1) == 5 && b->draws == 0);
  EXPECT(engine_retain(a) == a);
  engine_release(a);
  engine_release(a);
  engine_release(b);
  engine_release(NULL);
}

static void interrupt_flag(void) {
  EXPECT_OK(engine_check_interrupt(NULL));
  engine_interrupt();
  EXPECT(engine_interrupted());
  EXPECT_FAIL(engine_check_interrupt(NULL), MOON_INTERRUPTED, "interrupted");
  EXPECT(engine_interrupted());
  engine_clear_interrupt();
  EXPECT_OK(engine_check_interrupt(NULL));
}

// Runs `body` in a child and gives how it ended; the child is killed if it hangs.
static int status_of_child(int (*body)(void)) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    alarm(30);
    _exit(body());
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

static volatile sig_atomic_t host_signals;
static void host_handler(int number) { host_signals += number == SIGINT; }

static int catch_and_release(void) {
  signal(SIGINT, host_handler);
  os_catch_interrupt();
  os_catch_interrupt();
  raise(SIGINT);
  if (!engine_interrupted() || host_signals != 0) return 1;
  engine_clear_interrupt();
  os_release_interrupt();   // one request is left
  raise(SIGINT);
  if (!engine_interrupted() || host_signals != 0) return 2;
  engine_clear_interrupt();
  os_release_interrupt();
  raise(SIGINT);
  if (engine_interrupted() || host_signals != 1) return 3;
  os_release_interrupt();   // one too many does no harm
  raise(SIGINT);
  return host_signals == 2 ? 0 : 4;
}

static int interrupt_twice(void) {
  os_catch_interrupt();
  raise(SIGINT);
  raise(SIGINT);
  return 0;
}

static void interrupt_key(void) {
  int status = status_of_child(catch_and_release);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void second_interrupt_ends_at_once(void) {
  int status = status_of_child(interrupt_twice);
  EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

// -- the machine

static int processors_with_one_allowed(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  int first = 0;
  while (!CPU_ISSET(first, &set)) first++;
  CPU_ZERO(&set);
  CPU_SET(first, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) return 2;
  return os_processors() == 1 ? 0 : 3;
}

static void machine_is_known(void) {
  EXPECT(os_processors() >= 1 && os_processors() <= sysconf(_SC_NPROCESSORS_ONLN));
  EXPECT(os_memory_limit() > 1 << 20);
  EXPECT(os_resident_bytes() > 100 << 10 && os_resident_bytes() < (uint64_t)1 << 45);
  EXPECT(os_terminal_columns() > 0);
  int status = status_of_child(processors_with_one_allowed);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void processor_level(void) {
  cpu_level level = cpuid_level();
  EXPECT(level >= CPU_BASELINE && level <= CPU_AVX512 && cpuid_level() == level);
  EXPECT(strcmp(cpuid_level_name(CPU_BASELINE), "baseline") == 0);
  EXPECT(strcmp(cpuid_level_name(CPU_AVX2), "avx2") == 0);
  EXPECT(strcmp(cpuid_level_name(CPU_AVX512), "avx512") == 0);
}

static void clock_and_seed(void) {
  double before = os_clock();
  os_sleep(0.02);
  os_sleep(-1);
  EXPECT(os_clock() - before >= 0.02);
  EXPECT(os_random_seed() != os_random_seed());
}

static void libraries(void) {
  EXPECT(os_library_open("libno-such-library.so.7") == NULL);
  void *program = os_library_open("libm.so.6");
  EXPECT(program != NULL && os_library_symbol(program, "cos") != NULL);
  EXPECT(os_library_symbol(program, "no_such_symbol") == NULL);
}

// -- files

static char folder[64] = "/tmp/moonlet-base-XXXXXX";

static const char *in_folder(const char *name) {
  static char path[512];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static moon_status write_file(const char *path, const char *text) {
  os_writer *writer;
  MOON_TRY(os_writer_open(&writer, path));
  moon_status status = os_writer_write(writer, text, strlen(text));
  if (status == MOON_OK) return os_writer_commit(writer);
  os_writer_abandon(writer);
  return status;
}

static bool file_is(const char *path, const char *text) {
  os_mapping mapping;
  if (os_map_file(path, &mapping) != MOON_OK) return false;
  bool same = mapping.bytes == strlen(text) && memcmp(mapping.data, text, mapping.bytes) == 0;
  os_unmap(&mapping);
  return same;
}

static int files_in_folder(void) {
  char command[128];
  int count = -1;
  snprintf(command, sizeof command, "ls -A %s | wc -l", folder);
  FILE *pipe = popen(command, "r");
  if (pipe == NULL || fscanf(pipe, "%d", &count) != 1) count = -1;
  if (pipe != NULL) pclose(pipe);
  return count;
}

static void mapping(void) {
  os_mapping empty;
  EXPECT_OK(write_file(in_folder("empty"), ""));
  EXPECT_OK(os_map_file(in_folder("empty"), &empty));
  EXPECT(empty.bytes == 0 && empty.data != NULL);
  os_unmap(&empty);
  EXPECT_FAIL(os_map_file(in_folder("none"), &empty), MOON_BAD_FILE, in_folder("none"));
  EXPECT(strstr(moon_error_text(), "No such file or directory") != NULL);
  EXPECT_FAIL(os_map_file(folder, &empty), MOON_BAD_FILE, "Is a directory");
  EXPECT(mkfifo(in_folder("pipe"), 0600) == 0);
  EXPECT_FAIL(os_map_file(in_folder("pipe"), &empty), MOON_BAD_FILE, "not an ordinary file");
  unlink(in_folder("pipe"));
  unlink(in_folder("empty"));
}

static void writer_replaces_whole(void) {
  os_writer *writer;
  const char *path = in_folder("whole");
  EXPECT_OK(write_file(path, "first"));
  EXPECT(chmod(path, 0640) == 0);
  EXPECT_OK(os_writer_open(&writer, path));
  char *block = malloc(1 << 20);
  memset(block, 'b', 1 << 20);
  EXPECT_OK(os_writer_write(writer, "a", 1));
  EXPECT_OK(os_writer_write(writer, block, 1 << 20));
  EXPECT(file_is(path, "first"));
  for (int i = 0; i < 30000; i++) EXPECT_OK(os_writer_write(writer, "cde", 3));
  EXPECT(file_is(path, "first"));
  EXPECT_OK(os_writer_commit(writer));
  os_mapping now;
  EXPECT_OK(os_map_file(path, &now));
  const char *data = now.data;
  EXPECT(now.bytes == 1 + (1 << 20) + 90000 && data[0] == 'a' && data[1 << 20] == 'b');
  EXPECT(memcmp(data + 1 + (1 << 20), "cdecde", 6) == 0 && data[now.bytes - 1] == 'e');
  os_unmap(&now);
  free(block);
  struct stat about;
  EXPECT(stat(path, &about) == 0 && (about.st_mode & 0777) == 0640);
  unlink(path);
  EXPECT(files_in_folder() == 0);
}

static void writer_follows_links(void) {
  char target[512];
  snprintf(target, sizeof target, "%s", in_folder("target"));
  EXPECT_OK(write_file(target, "old"));
  EXPECT(symlink("target", in_folder("link")) == 0);
  EXPECT_OK(write_file(in_folder("link"), "new"));
  struct stat about;
  EXPECT(lstat(in_folder("link"), &about) == 0 && S_ISLNK(about.st_mode));
  EXPECT(file_is(target, "new"));
  unlink(in_folder("link"));
  unlink(target);
}

static void writer_in_the_working_folder(void) {
  char before[4096];
  EXPECT(getcwd(before, sizeof before) != NULL && chdir(folder) == 0);
  moon_status status = write_file("plain", "x");
  bool there = file_is("plain", "x");
  unlink("plain");
  EXPECT(chdir(before) == 0 && status == MOON_OK && there);
}

static void abandoned_writer_leaves_nothing(void) {
  os_writer *writer;
  const char *path = in_folder("kept");
  EXPECT_OK(write_file(path, "kept"));
  EXPECT_OK(os_writer_open(&writer, path));
  EXPECT_OK(os_writer_write(writer, "lost", 4));
  os_writer_abandon(writer);
  os_writer_abandon(NULL);
  EXPECT(file_is(path, "kept") && files_in_folder() == 1);
  unlink(path);
}

static int write_and_die(void) {
  os_writer *writer;
  char block[100000] = "";
  if (os_writer_open(&writer, in_folder("kept")) != MOON_OK) return 1;
  for (int i = 0; i < 10; i++)
    if (os_writer_write(writer, block, sizeof block) != MOON_OK) return 2;
  kill(getpid(), SIGKILL);
  return 3;
}

static void killed_writer_leaves_the_old_file(void) {
  EXPECT_OK(write_file(in_folder("kept"), "kept"));
  int status = status_of_child(write_and_die);
  EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT(file_is(in_folder("kept"), "kept"));
  char command[128];
  snprintf(command, sizeof command, "rm -f %s/*", folder);
  EXPECT(system(command) == 0);
}

// The disk is full, as far as this child can see.
static int write_too_much(void) {
  struct rlimit limit = { 1 << 16, 1 << 16 };
  os_writer *writer;
  char block[100000] = "";
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  if (os_writer_open(&writer, in_folder("kept")) != MOON_OK) return 1;
  moon_status status = MOON_OK;
  for (int i = 0; i < 10 && status == MOON_OK; i++)
    status = os_writer_write(writer, block, sizeof block);
  if (status == MOON_OK) return 2;
  if (strstr(moon_error_text(), "kept': File too large") == NULL) return 3;
  os_writer_abandon(writer);
  return files_in_folder() == 1 && file_is(in_folder("kept"), "kept") ? 0 : 4;
}

static void full_disk_leaves_the_old_file(void) {
  EXPECT_OK(write_file(in_folder("kept"), "kept"));
  int status = status_of_child(write_too_much);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  unlink(in_folder("kept"));
}

static void writer_says_what_is_wrong(void) {
  os_writer *writer;
  EXPECT_FAIL(os_writer_open(&writer, in_folder("none/file")), MOON_BAD_FILE,
              "none/file': No such");
  EXPECT_FAIL(os_writer_open(&writer, folder), MOON_BAD_FILE, "Is a directory");
}

static void folders(void) {
  EXPECT_OK(os_make_directory(in_folder("a/b//c/")));
  EXPECT_OK(os_make_directory(in_folder("a/b/c")));
  EXPECT(os_file_exists(in_folder("a/b/c")) && !os_file_exists(in_folder("a/x")));
  EXPECT_OK(write_file(in_folder("a/file"), "x"));
  EXPECT_FAIL(os_make_directory(in_folder("a/file/d")), MOON_BAD_FILE, "a/file");
  unlink(in_folder("a/file"));
  rmdir(in_folder("a/b/c"));
  rmdir(in_folder("a/b"));
  rmdir(in_folder("a"));
}

// Every allocation on the way to a written file fails once; nothing is left behind.
static void files_survive_every_failed_allocation(void) {
  int failures = 0;
  for (long n = 1;; n++) {
    alloc_fail_after(n);
    moon_status status = write_file(in_folder("fault"), "text");
    alloc_fail_after(0);
    if (status == MOON_OK) break;
    failures++;
    EXPECT(status == MOON_OUT_OF_MEMORY && strstr(moon_error_text(), "out of memory") != NULL);
    EXPECT(files_in_folder() == 0);
  }
  EXPECT(failures == 4 && file_is(in_folder("fault"), "text"));
  unlink(in_folder("fault"));
}

int main(void) {
  if (mkdtemp(folder) == NULL) return 2;
  check("a sentence is kept until the next", sentence_is_kept);
  check("a prefix goes in front of a sentence", prefix_goes_in_front);
  check("a sentence may quote the one before", sentence_may_quote_itself);
  check("a long sentence is cut between characters", long_sentence_is_cut);
  check("a sentence belongs to its thread", sentence_belongs_to_its_thread);
  check("dtypes have their names and sizes", names_and_sizes);
  check("every half and bfloat has its value", every_half_has_its_value);
  check("every half and bfloat comes back", every_half_comes_back);
  check("halves round to nearest even", halves_round_to_even);
  check("doubles and integers are rounded to halves once", doubles_are_rounded_once);
  check("single elements are stored and loaded", single_elements);
  check("Philox agrees with the published vectors", philox_vectors);
  check("random_unit lies in [0, 1)", unit_numbers);
  check("an engine begins with its defaults", engine_begins_with_defaults);
  check("the interrupt flag stays set until cleared", interrupt_flag);
  check("the interrupt key is caught, nested and given back", interrupt_key);
  check("a second interrupt ends the process", second_interrupt_ends_at_once);
  check("the machine's limits are known", machine_is_known);
  check("the processor's level is known", processor_level);
  check("clock, sleep and seed", clock_and_seed);
  check("libraries open or say no", libraries);
  check("files are mapped, or the message names them", mapping);
  check("a writer replaces a file whole and keeps its mode", writer_replaces_whole);
  check("a writer follows links", writer_follows_links);
  check("a writer works in the working folder", writer_in_the_working_folder);
  check("an abandoned writer leaves nothing", abandoned_writer_leaves_nothing);
  check("a killed writer leaves the old file", killed_writer_leaves_the_old_file);
  check("a full disk leaves the old file", full_disk_leaves_the_old_file);
  check("a writer says what is wrong", writer_says_what_is_wrong);
  check("folders are made with their parents", folders);
  check("files survive every failed allocation", files_survive_every_failed_allocation);
  rmdir(folder);
  return check_result();
}
