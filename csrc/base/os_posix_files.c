// Files: private mappings, and writers that replace a file whole or leave it as it was. A crash
// or a power cut leaves the old file or the new one, never half of one: the bytes are on the disk
// before the name is moved, and the folder is flushed after.
#define _GNU_SOURCE

#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

// "cannot read 'x.bin': No such file or directory", by the system's own words for `error`.
static moon_status fail_file(const char *verb, const char *path, int error) {
  locale_t words = newlocale(LC_MESSAGES_MASK, "C", (locale_t)0);
  char number[32];
  snprintf(number, sizeof number, "system error %d", error);
  const char *reason = words != (locale_t)0 ? strerror_l(error, words) : number;
  moon_status status = moon_fail(error == ENOMEM ? MOON_OUT_OF_MEMORY : MOON_BAD_FILE,
                                 "cannot %s '%s': %s", verb, path, reason);
  if (words != (locale_t)0) freelocale(words);
  return status;
}

// -- reading

static moon_status map_descriptor(int descriptor, const char *path, os_mapping *mapping) {
  struct stat about;
  if (fstat(descriptor, &about) != 0) return fail_file("read", path, errno);
  if (S_ISDIR(about.st_mode)) return fail_file("read", path, EISDIR);
  if (!S_ISREG(about.st_mode))
    return moon_fail(MOON_BAD_FILE, "cannot read '%s': it is not an ordinary file", path);
  if (about.st_size == 0) {
    *mapping = (os_mapping){ .data = "", .bytes = 0 };
    return MOON_OK;
  }
  if ((uintmax_t)about.st_size > SIZE_MAX) return fail_file("read", path, EFBIG);
  size_t bytes = (size_t)about.st_size;
  // Writable, because a tensor in a mapped file may be written to in place: such pages become this
  // process's own, the file stays.
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                    descriptor, 0);
  if (data == MAP_FAILED) return fail_file("map", path, errno);
  *mapping = (os_mapping){ .data = data, .bytes = bytes };
  return MOON_OK;
}

moon_status os_map_file(const char *path, os_mapping *mapping) {
  // Not blocking: opening a pipe by mistake must not wait for its writer.
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return fail_file("read", path, errno);
  moon_status status = map_descriptor(descriptor, path, mapping);
  close(descriptor);   // the mapping stays
  return status;
}

void os_unmap(os_mapping *mapping) {
  if (mapping->bytes > 0) munmap((void *)(uintptr_t)mapping->data, mapping->bytes);
  *mapping = (os_mapping){ .data = NULL, .bytes = 0 };
}

bool os_file_exists(const char *path) {
  struct stat about;
  return stat(path, &about) == 0;
}

// -- writing

enum { WRITER_BUFFER = 64 << 10 };

struct os_writer {
  int descriptor;
  char *path;        // as the caller wrote it, for messages
  char *target;      // where the rename goes: `path` with symbolic links followed
  char *temporary;   // beside the target; "" once renamed
  size_t buffered;
  char buffer[WRITER_BUFFER];
};

static moon_status copy_text(const char *text, char **copy) {
  size_t bytes = strlen(text) + 1;
  void *block;
  MOON_TRY(alloc_new(bytes, &block));
  memcpy(block, text, bytes);
  *copy = block;
  return MOON_OK;
}

static void writer_delete(os_writer *writer) {
  if (writer->descriptor >= 0) close(writer->descriptor);
  if (writer->temporary != NULL && writer->temporary[0] != '\0') unlink(writer->temporary);
  alloc_delete(writer->temporary);
  alloc_delete(writer->target);
  alloc_delete(writer->path);
  alloc_delete(writer);
}

// Opens a file of a name nobody has, in the target's folder (a rename works within one disk only).
static moon_status open_temporary(os_writer *writer) {
  static atomic_uint made;
  size_t room = strlen(writer->target) + 64;
  void *block;
  MOON_TRY(alloc_new(room, &block));
  char *name = block;
  for (int attempt = 0; attempt < 100; attempt++) {
    snprintf(name, room, "%s.%ld-%u-%04x.tmp", writer->target, (long)getpid(),
             atomic_fetch_add(&made, 1), (unsigned)(os_random_seed() & 0xffff));
    writer->descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (writer->descriptor >= 0) {
      writer->temporary = name;
      return MOON_OK;
    }
    if (errno != EEXIST) break;
  }
  moon_status status = fail_file("write", writer->path, errno);
  alloc_delete(name);
  return status;
}

static moon_status writer_begin(os_writer *writer, const char *path) {
  MOON_TRY(copy_text(path, &writer->path));
  struct stat about;
  bool replaces = stat(path, &about) == 0;
  if (replaces && S_ISDIR(about.st_mode)) return fail_file("write", path, EISDIR);
  char resolved[PATH_MAX];
  MOON_TRY(copy_text(replaces && realpath(path, resolved) != NULL ? resolved : path,
                     &writer->target));
  MOON_TRY(open_temporary(writer));
  if (replaces && S_ISREG(about.st_mode)) fchmod(writer->descriptor, about.st_mode & 07777);
  return MOON_OK;
}

moon_status os_writer_open(os_writer **writer, const char *path) {
  void *block;
  MOON_TRY(alloc_new(sizeof(os_writer), &block));
  os_writer *made = block;
  made->descriptor = -1;
  moon_status status = writer_begin(made, path);
  if (status != MOON_OK)
    writer_delete(made);
  else
    *writer = made;
  return status;
}

static moon_status write_all(os_writer *writer, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t wrote = write(writer->descriptor, data, bytes < 1 << 30 ? bytes : 1 << 30);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_file("write", writer->path, errno);
    data += wrote;
    bytes -= (size_t)wrote;
  }
  return MOON_OK;
}

static moon_status writer_flush(os_writer *writer) {
  size_t bytes = writer->buffered;
  writer->buffered = 0;
  return write_all(writer, writer->buffer, bytes);
}

moon_status os_writer_write(os_writer *writer, const void *data, size_t bytes) {
  if (bytes == 0) return MOON_OK;
  if (writer->buffered + bytes > WRITER_BUFFER) MOON_TRY(writer_flush(writer));
  if (bytes > WRITER_BUFFER) return write_all(writer, data, bytes);
  memcpy(writer->buffer + writer->buffered, data, bytes);
  writer->buffered += bytes;
  return MOON_OK;
}

// Makes the rename itself outlast a power cut. Some file systems cannot; that is no failure.
static void flush_folder(const char *target) {
  char folder[PATH_MAX];
  const char *slash = strrchr(target, '/');
  size_t length = slash == NULL ? 0 : (size_t)(slash - target) + 1;
  if (length >= sizeof folder) return;
  memcpy(folder, target, length);
  strcpy(folder + length, ".");
  int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  fsync(descriptor);
  close(descriptor);
}

static moon_status writer_finish(os_writer *writer) {
  MOON_TRY(writer_flush(writer));
  if (fsync(writer->descriptor) != 0 && errno != EINVAL && errno != ENOTSUP)
    return fail_file("write", writer->path, errno);
  int closed = close(writer->descriptor);   // network disks report a full disk here
  writer->descriptor = -1;
  if (closed != 0 || rename(writer->temporary, writer->target) != 0)
    return fail_file("write", writer->path, errno);
  writer->temporary[0] = '\0';
  flush_folder(writer->target);
  return MOON_OK;
}

moon_status os_writer_commit(os_writer *writer) {
  moon_status status = writer_finish(writer);
  writer_delete(writer);
  return status;
}

void os_writer_abandon(os_writer *writer) {
  if (writer != NULL) writer_delete(writer);
}

moon_status os_make_directory(const char *path) {
  char *part;
  MOON_TRY(copy_text(path, &part));
  moon_status status = MOON_OK;
  size_t length = strlen(part);
  for (size_t i = 1; i <= length && status == MOON_OK; i++) {
    if (part[i] != '/' && part[i] != '\0') continue;
    char end = part[i];
    part[i] = '\0';
    // Whatever mkdir says (a read-only disk above us, say), a folder that is there is fine.
    struct stat about;
    if (mkdir(part, 0777) != 0) {
      int error = errno;
      bool there = stat(part, &about) == 0;
      if (!there) status = fail_file("make the folder", part, error);
      else if (!S_ISDIR(about.st_mode)) status = fail_file("make the folder", part, ENOTDIR);
    }
    part[i] = end;
  }
  alloc_delete(part);
  return status;
}
