// How much of the machine this process may use. A container's limits are those of its control
// group and of every group above it, in version 1 or 2 of Linux's cgroups; where each hierarchy
// is mounted stands in /proc/self/mountinfo, our place in it in /proc/self/cgroup. Anything that
// cannot be read means no limit.
#define _GNU_SOURCE

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"

#if defined(__linux__)
#include <sched.h>

enum { PATH_BYTES = 4096, LINE_BYTES = 2 * PATH_BYTES };

// One file of one group, read as text. False if there is none.
static bool read_text(const char *folder, const char *name, char *text, size_t room) {
  char path[LINE_BYTES];
  int length = snprintf(path, sizeof path, "%s/%s", folder, name);
  if (length < 0 || (size_t)length >= sizeof path) return false;
  FILE *file = fopen(path, "re");
  if (file == NULL) return false;
  size_t got = fread(text, 1, room - 1, file);
  fclose(file);
  text[got] = '\0';
  return got > 0;
}

// Whether `word` is one of the comma-separated words of `list`.
static bool has_word(const char *list, const char *word) {
  size_t length = strlen(word);
  for (const char *at = list; (at = strstr(at, word)) != NULL; at += length) {
    bool starts = at == list || at[-1] == ',';
    if (starts && (at[length] == '\0' || at[length] == ',' || at[length] == '\n')) return true;
  }
  return false;
}

// Our group's path in the hierarchy that holds `controller` ("" = version 2's), from
// /proc/self/cgroup: lines "id:controllers:path".
static bool group_path(const char *controller, char path[PATH_BYTES]) {
  FILE *file = fopen("/proc/self/cgroup", "re");
  if (file == NULL) return false;
  char line[LINE_BYTES];
  bool found = false;
  while (!found && fgets(line, sizeof line, file) != NULL) {
    char *list = strchr(line, ':');
    char *place = list == NULL ? NULL : strchr(list + 1, ':');
    if (place == NULL) continue;
    *place++ = '\0';
    place[strcspn(place, "\n")] = '\0';
    list++;
    found = *controller == '\0' ? *list == '\0' : has_word(list, controller);
    if (found) snprintf(path, PATH_BYTES, "%s", place);
  }
  fclose(file);
  return found;
}

// Where that hierarchy is mounted, and which of its groups is shown there:
// "36 35 98:0 ROOT MOUNT options - cgroup2 source superoptions".
static bool group_mount(const char *controller, char root[PATH_BYTES], char mount[PATH_BYTES]) {
  FILE *file = fopen("/proc/self/mountinfo", "re");
  if (file == NULL) return false;
  char line[LINE_BYTES], type[32], options[256];
  bool found = false;
  while (!found && fgets(line, sizeof line, file) != NULL) {
    const char *dash = strstr(line, " - ");
    if (dash == NULL || sscanf(dash, " - %31s %*s %255s", type, options) != 2) continue;
    if (sscanf(line, "%*s %*s %*s %4095s %4095s", root, mount) != 2) continue;
    found = *controller == '\0' ? strcmp(type, "cgroup2") == 0
                                : strcmp(type, "cgroup") == 0 && has_word(options, controller);
  }
  fclose(file);
  return found;
}

// Calls visit(folder, result) for our group and each above it, as far as they are shown.
static void each_group(const char *controller, void (*visit)(const char *folder, void *result),
                       void *result) {
  char path[PATH_BYTES], root[PATH_BYTES], mount[PATH_BYTES], folder[LINE_BYTES];
  if (!group_path(controller, path) || !group_mount(controller, root, mount)) return;
  size_t shown = strcmp(root, "/") == 0 ? 0 : strlen(root);
  const char *below = strncmp(path, root, shown) == 0 ? path + shown : "";
  snprintf(folder, sizeof folder, "%s%s", mount, below);
  for (size_t end = strlen(folder); end >= strlen(mount);) {
    folder[end] = '\0';
    visit(folder, result);
    while (end > 0 && folder[--end] != '/') continue;
    if (end == 0) break;
  }
}

static void visit_memory(const char *folder, void *result) {
  uint64_t *least = result, limit;
  char text[64];
  if (!read_text(folder, "memory.max", text, sizeof text) &&
      !read_text(folder, "memory.limit_in_bytes", text, sizeof text))
    return;
  if (sscanf(text, "%" SCNu64, &limit) == 1 && limit < *least) *least = limit;   // "max": no limit
}

static void visit_quota(const char *folder, void *result) {
  double *least = result, quota, period;
  char text[64];
  if (read_text(folder, "cpu.max", text, sizeof text)) {
    if (sscanf(text, "%lf %lf", &quota, &period) != 2) return;   // "max 100000": no limit
  } else {
    if (!read_text(folder, "cpu.cfs_quota_us", text, sizeof text)) return;
    quota = strtod(text, NULL);
    if (!read_text(folder, "cpu.cfs_period_us", text, sizeof text)) return;
    period = strtod(text, NULL);
  }
  if (quota > 0 && period > 0 && quota / period < *least) *least = quota / period;
}

// Processors in the affinity mask, also where there are more than a cpu_set_t holds.
static int affinity_count(void) {
  for (size_t processors = 1024; processors <= 1 << 20; processors *= 4) {
    cpu_set_t *set = CPU_ALLOC(processors);
    if (set == NULL) return 0;
    size_t bytes = CPU_ALLOC_SIZE(processors);
    int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return 0;
}

int os_processors(void) {
  int count = affinity_count();
  if (count < 1) count = (int)sysconf(_SC_NPROCESSORS_ONLN);
  double quota = 1e9;
  each_group("", visit_quota, &quota);
  each_group("cpu", visit_quota, &quota);
  int whole = (int)quota + ((double)(int)quota < quota);   // a part of a processor is one thread
  if (whole < count) count = whole;
  return count < 1 ? 1 : count;
}

uint64_t os_resident_bytes(void) {
  char text[128];
  uint64_t total, resident;
  if (!read_text("/proc/self", "statm", text, sizeof text)) return 0;
  if (sscanf(text, "%" SCNu64 " %" SCNu64, &total, &resident) != 2) return 0;
  return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void limit_by_groups(uint64_t *limit) {
  each_group("", visit_memory, limit);
  each_group("memory", visit_memory, limit);
}

#else   // other POSIX systems: the whole machine

int os_processors(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count < 1 ? 1 : (int)count;
}

uint64_t os_resident_bytes(void) { return 0; }
static void limit_by_groups(uint64_t *limit) { (void)limit; }

#endif

uint64_t os_memory_limit(void) {
  long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  uint64_t limit = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : (uint64_t)1 << 31;
  limit_by_groups(&limit);
  return limit;
}
