// The plug-in's border: what the library gets, the contexts of its engines, and the table of slots
// of each device.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <new>

#include "graph.cuh"
#include "libraries.cuh"
#include "transfer.cuh"

const cuda_host *cuda_library;

// -- failures

// Kernel files fail as the library's do; the sentence is kept on its side of the border.
extern "C" moon_status moon_fail(moon_status status, const char *format, ...) {
  char sentence[MOON_ERROR_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  return cuda_library->fail(status, sentence);
}

moon_status cuda_failed(const char *call, cudaError_t error) {
  (void)cudaGetLastError();   // so that the next call is not told of it
  char name[64];
  snprintf(name, sizeof name, "%.*s", (int)strcspn(call, "( "), call);
  moon_status status = error == cudaErrorMemoryAllocation ? MOON_OUT_OF_MEMORY : MOON_BAD_DEVICE;
  return moon_fail(status, "%s failed: %s (%s)", name, cudaGetErrorString(error),
                   cudaGetErrorName(error));
}

// -- contexts: one for each device that an engine has used

struct engine_contexts {
  cuda_context *of[CUDA_MOST_DEVICES];
  bool flags[CUDA_FLAGS];
};

static void context_delete(cuda_context *c) {
  if (!c) return;
  (void)cudaSetDevice(c->device);
  if (c->recording) graph_abort(c->recording);
  (void)cudaStreamSynchronize(c->stream);
  graphs_end(c);
  cuda_libraries_close(c);
  cuda_stages_end(c);
  cuda_pool_close(&c->pool);
  (void)cudaEventDestroy(c->asked);
  (void)cudaStreamDestroy(c->stream);
  delete c;
}

static void contexts_end(void *extension) {
  engine_contexts *all = (engine_contexts *)extension;
  for (int i = 0; all && i < CUDA_MOST_DEVICES; i++) context_delete(all->of[i]);
  free(all);
}

static moon_status contexts_of(moon_engine *engine, engine_contexts **all) {
  void **place = cuda_library->extension(engine, contexts_end);
  if (!*place) *place = calloc(1, sizeof(engine_contexts));
  *all = (engine_contexts *)*place;
  return *all ? MOON_OK : moon_fail(MOON_OUT_OF_MEMORY, "cuda: no memory for a context");
}

static cudaError_t stream_new(cuda_context *c) {
  cudaError_t error = cudaEventCreateWithFlags(&c->asked, cudaEventDisableTiming);
  if (error != cudaSuccess) return error;
  error = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
  if (error != cudaSuccess) (void)cudaEventDestroy(c->asked);
  return error;
}

// It follows the others: its engine may have got a tensor before.
static moon_status context_new(moon_engine *engine, int device, const bool *flags,
                               cuda_context **made) {
  cuda_context *c = new (std::nothrow) cuda_context();
  if (!c) return moon_fail(MOON_OUT_OF_MEMORY, "cuda: no memory for a context");
  c->engine = engine;
  c->device = device;
  memcpy(c->flags, flags, sizeof c->flags);
  cudaError_t error = stream_new(c);
  if (error != cudaSuccess) {
    delete c;
    return cuda_failed("cudaStreamCreateWithFlags", error);
  }
  cuda_pool_open(&c->pool, c, false);
  *made = c;
  return cuda_pool_follow(&c->pool);
}

// The engine's context on a device, which becomes the thread's current one.
static moon_status context_of(moon_engine *engine, int device, cuda_context **c) {
  engine_contexts *all;
  MOON_TRY(contexts_of(engine, &all));
  CUDA_TRY(cudaSetDevice(device));
  if (!all->of[device]) MOON_TRY(context_new(engine, device, all->flags, &all->of[device]));
  *c = all->of[device];
  return MOON_OK;
}

// -- memory

cuda_pool *cuda_pool_of(cuda_context *c) {
  return c->recording ? &c->recording->pool : &c->pool;
}

template <int device>
static moon_status allocate(moon_engine *engine, size_t bytes, void **block) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, device, &c));
  MOON_TRY(cuda_pool_take(cuda_pool_of(c), bytes, block));
  cuda_library->account(engine, (int64_t)bytes);
  return MOON_OK;
}

template <int device>
static void release(moon_engine *engine, void *block, size_t bytes) {
  void **place = cuda_library->extension(engine, contexts_end);
  cuda_context *c = ((engine_contexts *)*place)->of[device];
  if (!graph_release(c, block, bytes)) cuda_pool_release(&c->pool, block, bytes);
  cuda_library->account(engine, -(int64_t)bytes);
}

template <int device>
static moon_status to_host(moon_engine *engine, const void *source, void *target, size_t bytes) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, device, &c));
  return cuda_download(c, source, target, bytes);
}

template <int device>
static moon_status from_host(moon_engine *engine, const void *source, void *target,
                             size_t bytes) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, device, &c));
  return cuda_upload(c, source, target, bytes);
}

// -- slots: each device has a table of functions that find the context and call the kernel's file

// In debug mode the work is waited for, and a failure of it names the slot and the user's line.
static moon_status leave(cuda_context *c, const char *slot, moon_status status) {
  if (status != MOON_OK || !c->flags[CUDA_DEBUG] || c->recording) return status;
  cudaError_t error = cudaStreamSynchronize(c->stream);
  if (error == cudaSuccess) return MOON_OK;
  char where[256];
  cuda_library->where(c->engine, where, sizeof where);
  return moon_fail(MOON_BAD_DEVICE, "the CUDA kernel %s, started at %s, failed: %s", slot,
                   where[0] ? where : "an unknown place", cudaGetErrorString(error));
}

template <typename Slot, int device, typename... Arguments>
static moon_status on_device(moon_engine *engine, Arguments... arguments) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, device, &c));
  if (c->refreshing && !Slot::refreshes())
    return moon_fail(MOON_UNSUPPORTED, "this optimiser calculates its steps with operators (%s), "
                     "which a CUDA graph cannot take new options for", Slot::name());
  return leave(c, Slot::name(), Slot::run(c, arguments...));
}

#define KERNEL(slot, arguments)                                   \
  struct slot##_slot {                                            \
    static const char *name() { return #slot; }                   \
    static bool refreshes() { return strcmp(#slot, "step") == 0; } \
    template <typename... Arguments>                              \
    static moon_status run(cuda_context *c, Arguments... given) { \
      return cuda_##slot(c, given...);                            \
    }                                                             \
  };
#include "device/kernels.def"
#undef KERNEL

template <int index>
struct device_of {
  static const device_kernels kernels;
  static const moon_device device;
};

template <int index>
const device_kernels device_of<index>::kernels = {
#define KERNEL(slot, arguments) on_device<slot##_slot, index>,
#include "device/kernels.def"
#undef KERNEL
};

static const char *const names[CUDA_MOST_DEVICES] = { "cuda:0", "cuda:1", "cuda:2", "cuda:3",
                                                      "cuda:4", "cuda:5", "cuda:6", "cuda:7" };

template <int index>
const moon_device device_of<index>::device = {
  names[index], false, allocate<index>, release<index>, to_host<index>, from_host<index>,
  &device_of<index>::kernels,
};

static const moon_device *const devices[CUDA_MOST_DEVICES] = {
  &device_of<0>::device, &device_of<1>::device, &device_of<2>::device, &device_of<3>::device,
  &device_of<4>::device, &device_of<5>::device, &device_of<6>::device, &device_of<7>::device,
};

// -- the plug-in's table

static const moon_device *device_at(int index) { return devices[index]; }

static moon_status describe(int index, cuda_description *d) {
  cudaDeviceProp properties;
  size_t left, all;
  CUDA_TRY(cudaGetDeviceProperties(&properties, index));
  CUDA_TRY(cudaSetDevice(index));
  CUDA_TRY(cudaMemGetInfo(&left, &all));
  snprintf(d->name, sizeof d->name, "%s", properties.name);
  d->major = properties.major;
  d->minor = properties.minor;
  d->processors = properties.multiProcessorCount;
  d->memory = (int64_t)all;
  d->memory_free = (int64_t)left;
  return MOON_OK;
}

static moon_status synchronize(moon_engine *engine, int index) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, index, &c));
  if (c->recording)
    return moon_fail(MOON_BAD_STATE, "nothing can be waited for while a CUDA graph is recorded");
  CUDA_TRY(cudaStreamSynchronize(c->stream));
  return MOON_OK;
}

static moon_status follow(moon_engine *engine) {
  engine_contexts *all;
  MOON_TRY(contexts_of(engine, &all));
  for (int i = 0; i < CUDA_MOST_DEVICES; i++)
    if (all->of[i]) MOON_TRY(cuda_pool_follow(&all->of[i]->pool));
  return MOON_OK;
}

static moon_status memory(moon_engine *engine, int index, cuda_memory *figures) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, index, &c));
  *figures = cuda_pool_figures(&c->pool);
  return MOON_OK;
}

static moon_status set_limit(moon_engine *engine, int index, int64_t bytes) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, index, &c));
  std::lock_guard<std::mutex> guard(c->pool.lock);
  c->pool.memory.limit = bytes;
  return MOON_OK;
}

static moon_status empty_cache(moon_engine *engine, int index) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, index, &c));
  return cuda_pool_flush(&c->pool);
}

static moon_status set_flag(moon_engine *engine, cuda_flag flag, const bool *set, bool *now) {
  engine_contexts *all;
  MOON_TRY(contexts_of(engine, &all));
  if (set) all->flags[flag] = *set;
  for (int i = 0; i < CUDA_MOST_DEVICES; i++)
    if (all->of[i]) memcpy(all->of[i]->flags, all->flags, sizeof all->flags);
  *now = all->flags[flag];
  return MOON_OK;
}

static moon_status keep_choices(moon_engine *engine, int index, const char *path,
                                const char *text) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, index, &c));
  return cudnn_keep_choices(c, path, text);
}

struct cuda_event { cudaEvent_t at; };

static void forget(cuda_event *event) {
  if (!event) return;
  (void)cudaEventDestroy(event->at);
  free(event);
}

static moon_status mark(moon_engine *engine, int index, cuda_event **event) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, index, &c));
  cuda_event *made = (cuda_event *)calloc(1, sizeof *made);
  if (!made) return moon_fail(MOON_OUT_OF_MEMORY, "cuda: no memory for an event");
  cudaError_t error = cudaEventCreate(&made->at);
  if (error == cudaSuccess) error = cudaEventRecord(made->at, c->stream);
  if (error != cudaSuccess) {
    if (made->at) (void)cudaEventDestroy(made->at);
    free(made);
    return cuda_failed("cudaEventRecord", error);
  }
  *event = made;
  return MOON_OK;
}

static moon_status between(cuda_event *from, cuda_event *to, double *seconds) {
  float milliseconds;
  CUDA_TRY(cudaEventSynchronize(to->at));
  CUDA_TRY(cudaEventElapsedTime(&milliseconds, from->at, to->at));
  *seconds = milliseconds * 1e-3;
  return MOON_OK;
}

static moon_status begin_graph(moon_engine *engine, int index, cuda_graph **graph) {
  cuda_context *c = nullptr;
  MOON_TRY(context_of(engine, index, &c));
  return graph_begin(c, graph);
}

static cuda_plugin table = {
  0, device_at, describe, synchronize, follow, memory, set_limit, empty_cache, set_flag,
  keep_choices, mark, between, forget, cuda_range, begin_graph, graph_end, graph_abort,
  graph_unless, graph_refresh, graph_run, graph_delete,
};

// -- opening

// What stands in the way, as a sentence: the driver is missing, too old, or finds no device.
static moon_status count_devices(const cuda_library_state *found, int *count) {
  cudaError_t error = cudaGetDeviceCount(count);
  if (error == cudaSuccess && *count > 0) return MOON_OK;
  (void)cudaGetLastError();
  int driver = found[0].version, runtime = found[1].version;
  if (driver == 0)
    return moon_fail(MOON_BAD_DEVICE, "there is no NVIDIA driver on this machine (libcuda.so.1)");
  if (error == cudaErrorInsufficientDriver || driver / 1000 < runtime / 1000)
    return moon_fail(MOON_BAD_DEVICE, "the NVIDIA driver is too old: it serves CUDA up to %d.%d, "
                     "and this plug-in was built with %d.%d", driver / 1000, driver % 1000 / 10,
                     runtime / 1000, runtime % 1000 / 10);
  if (error == cudaErrorNoDevice || *count == 0)
    return moon_fail(MOON_BAD_DEVICE, "the NVIDIA driver is there, but it finds no GPU that this "
                     "process may use");
  return cuda_failed("cudaGetDeviceCount", error);
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const int moonlet_cuda_border;
const int moonlet_cuda_border = CUDA_BORDER;

EXPORTED moon_status moonlet_cuda_open(const cuda_host *host, cuda_library_state *found,
                                       const cuda_plugin **plugin) {
  cuda_library = host;
  found[0].name = "driver";
  found[1].name = "runtime";
  if (cudaDriverGetVersion(&found[0].version) != cudaSuccess) found[0].version = 0;
  if (cudaRuntimeGetVersion(&found[1].version) != cudaSuccess) found[1].version = 0;
  if (found[0].version == 0) found[0].missing = "libcuda.so.1 is not installed";
  cuda_libraries_name(found + 2);
  int count = 0;
  MOON_TRY(count_devices(found, &count));
  table.devices = count < CUDA_MOST_DEVICES ? count : CUDA_MOST_DEVICES;
  cuda_libraries_open(found + 2);
  *plugin = &table;
  return MOON_OK;
}
