// The border between the library and the CUDA plug-in, a shared library of its own that is opened
// when a program first asks for a CUDA device (cuda.c here, kernels/plugin.cu there). Each side
// gives the other a table. They may be installed apart, so CUDA_BORDER counts the changes of both
// tables and of what they are made of (slots.h, kernels.def); the plug-in exports its own count as
// a constant, and nothing of a plug-in with another one is run.
#ifndef MOON_DEVICE_CUDA_H
#define MOON_DEVICE_CUDA_H

#include "device/slots.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CUDA_BORDER = 10, CUDA_MOST_DEVICES = 8 };

// What a kernel may ask about the engine that it works for.
typedef struct cuda_settings {
  bool precise;              // forbid what lowers accuracy below the dtype's
  int64_t workspace_limit;   // bytes of scratch that one kernel should stay within
  const char *conv_engine;   // preferred for convolutions wherever it fits; "": the best
} cuda_settings;

// What the library does for the plug-in.
typedef struct cuda_host {
  // Keeps the sentence of a failure and returns `status`.
  moon_status (*fail)(moon_status status, const char *sentence);
  cuda_settings (*settings)(const moon_engine *engine);
  void (*chose)(moon_engine *engine, const char *algorithm);
  // Where an engine stands in the user's program, "" if unknown.
  void (*where)(moon_engine *engine, char *text, size_t size);
  // The engine's place for what the plug-in keeps for it; `end` is called with it at last.
  void **(*extension)(moon_engine *engine, void (*end)(void *));
  // Counts bytes that were taken (above 0) or given back on a device, for the collection rule.
  void (*account)(moon_engine *engine, int64_t bytes);
  uint64_t *(*draws)(moon_engine *engine);   // the next unused block of the random stream
  void (*collect)(moon_engine *engine);   // frees what is garbage, where that can be done now
  // A shared library, looked for in the folders that were named for it, then as the system does;
  // NULL when absent. And a symbol of it.
  void *(*library)(const char *name);
  void *(*symbol)(void *library, const char *name);
  // Writes a file whole or not at all.
  moon_status (*write_file)(const char *path, const char *text, size_t bytes);
  // The CPU's kernels, for what is better done there: arrays on the host, the real engine.
  const device_kernels *(*cpu)(void);
} cuda_host;

typedef struct cuda_description {
  char name[256];
  int major, minor;            // compute capability
  int processors;
  int64_t memory, memory_free; // bytes
} cuda_description;

// Versions as CUDA's libraries number them; 0: not there, `missing` says why.
typedef struct cuda_library_state {
  const char *name;            // "driver", "runtime", "cublaslt", "cudnn", "cufft"
  int version;
  const char *missing;
} cuda_library_state;
enum { CUDA_LIBRARIES = 5 };

// Of one engine on one device, in bytes.
typedef struct cuda_memory {
  int64_t live, peak;          // in live storages
  int64_t cached;              // free, kept to be used again
  int64_t limit;               // live and cached together; 0: none but the device's memory
  int64_t allocations;         // asked of the driver so far
} cuda_memory;

typedef enum cuda_flag {
  CUDA_DEBUG,       // wait after each slot, so that a failure names its operator
  CUDA_BENCHMARK,   // time the ways to convolve, once a shape
  CUDA_TF32,        // products of float32 may keep 10 bits of each factor, but not of the sums
  CUDA_FLAGS,
} cuda_flag;

typedef struct cuda_event cuda_event;
typedef struct cuda_graph cuda_graph;

// What the plug-in does for the library.
typedef struct cuda_plugin {
  int devices;                 // at most CUDA_MOST_DEVICES
  const moon_device *(*device)(int index);
  moon_status (*describe)(int index, cuda_description *description);
  moon_status (*synchronize)(moon_engine *engine, int index);   // waits for the engine's work
  moon_status (*follow)(moon_engine *engine);   // cuda_follow; the engine has an extension
  moon_status (*memory)(moon_engine *engine, int index, cuda_memory *memory);
  moon_status (*set_limit)(moon_engine *engine, int index, int64_t bytes);
  moon_status (*empty_cache)(moon_engine *engine, int index);
  // Sets a flag of the engine's if `set` is not NULL, and tells what it is then.
  moon_status (*flag)(moon_engine *engine, cuda_flag flag, const bool *set, bool *now);
  // Keeps what CUDA_BENCHMARK finds out about cuDNN in the file `path`, whose text now is `text`,
  // "" where there is none. Fails where it holds something else.
  moon_status (*keep_choices)(moon_engine *engine, int index, const char *path, const char *text);
  // A point in the engine's stream of work, owned by the caller; and the seconds from one to
  // another, which waits for both.
  moon_status (*mark)(moon_engine *engine, int index, cuda_event **event);
  moon_status (*between)(cuda_event *from, cuda_event *to, double *seconds);
  void (*forget)(cuda_event *event);
  // Begins a range of the profiler's on this thread; NULL ends the innermost.
  void (*range)(const char *name);
  // A stretch of work that is recorded between begin and end, and runs whenever it is asked to.
  // Optimiser steps that are recorded while `unless` names a float of the device (NULL: none) are
  // left out of runs in which it is not 0. Between refresh(true) and refresh(false) optimiser steps
  // give their options to the next run and do nothing else. abort: gives up what was begun; remove:
  // ends a graph.
  moon_status (*graph_begin)(moon_engine *engine, int index, cuda_graph **graph);
  moon_status (*graph_end)(cuda_graph *graph);
  void (*graph_abort)(cuda_graph *graph);
  moon_status (*graph_unless)(cuda_graph *graph, const float *found);
  moon_status (*graph_refresh)(cuda_graph *graph, bool on);
  moon_status (*graph_run)(cuda_graph *graph);
  void (*graph_remove)(cuda_graph *graph);
} cuda_plugin;

// What the plug-in exports: CUDA_BORDER when it was built, a const int, and the function that opens
// it. `found` has CUDA_LIBRARIES places and is filled even where opening fails; the failure says
// what is missing.
#define CUDA_BORDER_NAME "moonlet_cuda_border"
#define CUDA_ENTRY_NAME "moonlet_cuda_open"
typedef moon_status (*cuda_entry)(const cuda_host *host, cuda_library_state *found,
                                  const cuda_plugin **plugin);

// -- the library's side (cuda.c)

// Names a place of the plug-in's file, looked at before those named so far, or after them; the
// first that exists is taken. Without effect once it is open.
MOON_MUST_CHECK moon_status cuda_look_at(const char *file, bool last);
// Names a folder in which CUDA's libraries are looked for before the system's places.
MOON_MUST_CHECK moon_status cuda_look_in(const char *folder);
// The plug-in, opened on the first call; fails with a sentence that says what is missing.
MOON_MUST_CHECK moon_status cuda_open(const cuda_plugin **plugin);
// What opening found of CUDA's libraries; CUDA_LIBRARIES of them, names NULL before.
const cuda_library_state *cuda_found(void);
// What the engine asks of its devices from now on comes after all that other engines have asked of
// them until now: called where a message or memory comes from another engine, whose devices may not
// be done with it. The host waits only where a graph is recorded. Fails only after a device did.
moon_status cuda_follow(moon_engine *engine);
// Finds "cuda" or "cuda:1".
MOON_MUST_CHECK moon_status cuda_by_name(const char *name, const moon_device **device);

#ifdef __cplusplus
}
#endif

#endif
