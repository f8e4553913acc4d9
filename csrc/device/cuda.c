// Opening the CUDA plug-in: where it is looked for, what it is given, and which sentence stands for
// what is missing. Process-wide, as a shared library is: the first file that opens serves every
// engine. A failure is not kept, so that a program may name another file and ask again.
#include "device/cuda.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/engine.h"
#include "base/os.h"
#include "device/device.h"

enum { MOST_PATHS = 16, PATH_BYTES = 1024 };

typedef struct path_list {
  int count;
  char paths[MOST_PATHS][PATH_BYTES];
} path_list;

static os_mutex *lock;
static int lock_once;
static path_list files, folders;   // under the lock
static cuda_library_state found[CUDA_LIBRARIES];
static _Atomic(const cuda_plugin *) opened;

static void make_lock(void) {
  if (os_mutex_new(&lock) != MOON_OK) lock = NULL;
}

static moon_status enter(void) {
  os_once(&lock_once, make_lock);
  if (!lock) return moon_fail(MOON_OUT_OF_MEMORY, "cuda: there was no memory for a lock");
  os_mutex_lock(lock);
  return MOON_OK;
}

// -- what the plug-in may ask of the library

static moon_status host_fail(moon_status status, const char *sentence) {
  return moon_fail(status, "%s", sentence);
}

static cuda_settings host_settings(const moon_engine *engine) {
  return (cuda_settings){ .precise = engine->precise,
                          .workspace_limit = engine->workspace_limit,
                          .conv_engine = engine->conv_engine };
}

static void host_where(moon_engine *engine, char *text, size_t size) {
  if (size > 0) text[0] = 0;
  if (engine->where) engine->where(engine->collect_context, text, size);
}

static void **host_extension(moon_engine *engine, void (*end)(void *)) {
  if (!engine->end_extension) engine->end_extension = end;
  return &engine->extension;
}

static void host_account(moon_engine *engine, int64_t bytes) {
  engine_memory *memory = &engine->memory;
  atomic_fetch_add_explicit(&memory->elsewhere, bytes, memory_order_relaxed);
  if (bytes <= 0) return;
  atomic_fetch_add_explicit(&memory->since_collect, bytes + ALLOC_BLOCK_COST,
                            memory_order_relaxed);
}

static uint64_t *host_draws(moon_engine *engine) { return &engine->draws; }

static void *host_library(const char *name) {
  char path[PATH_BYTES + 64];
  for (int i = 0; i < folders.count; i++) {
    snprintf(path, sizeof path, "%s/%s", folders.paths[i], name);
    void *library = os_library_open(path);
    if (library) return library;
  }
  return os_library_open(name);
}

static moon_status host_write_file(const char *path, const char *text, size_t bytes) {
  os_writer *writer;
  MOON_TRY(os_writer_open(&writer, path));
  moon_status status = os_writer_write(writer, text, bytes);
  if (status == MOON_OK) return os_writer_commit(writer);
  os_writer_abandon(writer);
  return status;
}

static const device_kernels *host_cpu(void) { return device_cpu()->kernels; }

static const cuda_host host = {
  .fail = host_fail, .settings = host_settings, .chose = engine_chose, .where = host_where,
  .extension = host_extension, .account = host_account, .draws = host_draws,
  .collect = alloc_collect, .library = host_library, .symbol = os_library_symbol,
  .write_file = host_write_file, .cpu = host_cpu,
};

// -- opening, under the lock

static moon_status open_file(const char *file, const cuda_plugin **plugin) {
  void *library = os_library_open(file);
  if (!library)
    return moon_fail(MOON_BAD_DEVICE, "the CUDA plug-in %s cannot be opened: it is damaged or made "
                     "for another system", file);
  const int *border = os_library_symbol(library, CUDA_BORDER_NAME);
  cuda_entry entry = (cuda_entry)os_library_symbol(library, CUDA_ENTRY_NAME);
  if (!border || !entry)
    return moon_fail(MOON_BAD_DEVICE, "%s is no CUDA plug-in of moonlet: it has no %s", file,
                     border ? CUDA_ENTRY_NAME : CUDA_BORDER_NAME);
  if (*border != CUDA_BORDER)
    return moon_fail(MOON_BAD_DEVICE, "%s was built for another version of moonlet (border %d, "
                     "this one has %d); build it again", file, *border, CUDA_BORDER);
  return entry(&host, found, plugin);
}

static moon_status open_first(const cuda_plugin **plugin) {
  for (int i = 0; i < files.count; i++)
    if (os_file_exists(files.paths[i])) return open_file(files.paths[i], plugin);
  return moon_fail(MOON_BAD_DEVICE, "this moonlet was built without CUDA (there is no %s); with "
                   "the CUDA toolkit installed, make cuda builds it",
                   files.count > 0 ? files.paths[0] : "plug-in");
}

moon_status cuda_open(const cuda_plugin **plugin) {
  const cuda_plugin *there = atomic_load_explicit(&opened, memory_order_acquire);
  if (!there) {
    MOON_TRY(enter());
    there = atomic_load_explicit(&opened, memory_order_relaxed);
    moon_status status = there ? MOON_OK : open_first(&there);
    if (status == MOON_OK) atomic_store_explicit(&opened, there, memory_order_release);
    os_mutex_unlock(lock);
    if (status != MOON_OK) return status;
  }
  *plugin = there;
  return MOON_OK;
}

const cuda_library_state *cuda_found(void) { return found; }

moon_status cuda_follow(moon_engine *engine) {
  if (!engine->extension) return MOON_OK;
  return atomic_load_explicit(&opened, memory_order_acquire)->follow(engine);
}

// -- naming places

// In front of the others, or behind them; a full list loses its last.
static moon_status put(path_list *list, const char *path, bool last) {
  if (strlen(path) >= PATH_BYTES)
    return moon_fail(MOON_BAD_ARGUMENT, "cuda: a path of %d bytes and more is too long",
                     PATH_BYTES);
  MOON_TRY(enter());
  int given_up = 0;   // the place where it stood, or the first that is free, or the last
  while (given_up < list->count && given_up < MOST_PATHS - 1 &&
         strcmp(list->paths[given_up], path) != 0)
    given_up++;
  if (given_up == list->count) list->count++;
  if (!last) memmove(list->paths[1], list->paths[0], (size_t)given_up * PATH_BYTES);
  strcpy(list->paths[last ? given_up : 0], path);
  os_mutex_unlock(lock);
  return MOON_OK;
}

moon_status cuda_look_at(const char *file, bool last) { return put(&files, file, last); }
moon_status cuda_look_in(const char *folder) { return put(&folders, folder, false); }

// -- by name

moon_status cuda_by_name(const char *name, const moon_device **device) {
  const cuda_plugin *plugin;
  long index = 0;
  if (name[4] == ':') {
    char *end;
    index = strtol(name + 5, &end, 10);
    if (name[5] < '0' || name[5] > '9' || *end || index > 999)
      return moon_fail(MOON_BAD_DEVICE, "there is no device \"%s\": a number from 0 comes after "
                       "\"cuda:\"", name);
  }
  moon_status status = cuda_open(&plugin);
  if (status != MOON_OK) return moon_fail_in(status, "device \"%s\"", name);
  if (index >= plugin->devices)
    return moon_fail(MOON_BAD_DEVICE, "there is no device \"%s\": this machine has %d, from cuda:0 "
                     "on", name, plugin->devices);
  *device = plugin->device((int)index);
  return MOON_OK;
}
