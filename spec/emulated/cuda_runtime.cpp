// The runtime behind the emulated cuda_runtime.h: threads as fibres, streams as queues of work.
#include "cuda_runtime.h"

#include <setjmp.h>
#include <stdio.h>
#include <time.h>
#include <ucontext.h>

#include <memory>
#include <new>

namespace emulated {

thread_local thread_view *running;

// -- a block: its threads are fibres, which begin when those before them wait or have ended
//
// A fibre runs one thread after the other for as long as none of them waits, so that kernels
// without barriers never switch. The order of threads, warps and blocks changes from launch to
// launch, and so does whether warps keep step or each runs ahead to the block's next barrier: what
// a barrier should have ordered comes out wrong in one of them.

enum { FIBRE_STACK = 64 << 10, WARP = 32, MOST_THREADS = 1024 };

enum thread_state { NOT_STARTED, RUNS, WAITS_FOR_BLOCK, WAITS_FOR_WARP, ENDED };

struct fibre {
  ucontext_t context;       // entered by it once
  jmp_buf at;               // and by this afterwards
  bool started;
  char *stack;
};

struct block_thread {
  thread_view view;
  thread_state state;
  unsigned mask;            // of the warp's barrier that it waits at
  fibre *on;
  uint64_t slot;            // what it gives in an exchange
};

struct block {
  const std::function<void()> *body;
  unsigned threads, next, ended;   // next: place in `order` of the one to be started
  unsigned order[MOST_THREADS];    // whose turn it is, one after the other, warp by warp
  unsigned warps, warp_end[MOST_THREADS / WARP];   // where each warp ends there
  bool ahead;                      // a warp runs for as long as it does not wait for others
  block_thread all[MOST_THREADS];
  std::vector<char> shared;
  jmp_buf scheduler;
  block_thread *self;
  bool failed;
};

static thread_local block *now;
static thread_local std::vector<fibre *> *spare_fibres;

struct fibre_keeper {   // frees a thread's fibres when it ends
  std::vector<fibre *> spare;
  ~fibre_keeper() {
    for (fibre *f : spare) {
      free(f->stack);
      delete f;
    }
    spare_fibres = nullptr;
  }
};
static thread_local fibre_keeper keeper;

static fibre *take_fibre() {
  spare_fibres = &keeper.spare;
  if (!spare_fibres->empty()) {
    fibre *f = spare_fibres->back();
    spare_fibres->pop_back();
    f->started = false;
    return f;
  }
  fibre *f = new fibre();
  f->stack = (char *)malloc(FIBRE_STACK);
  return f;
}

// Runs threads on this fibre until one of them has waited; then the fibre ends with it.
static void fibre_main() {
  block *b = now;
  fibre *own = b->self->on;
  for (;;) {
    block_thread *t = b->self;
    running = &t->view;
    t->state = RUNS;
    bool waited = false;
    (void)waited;
    (*b->body)();
    t = b->self;
    t->state = ENDED;
    b->ended++;
    if (b->failed || b->next == b->threads || t->mask != 0) break;
    b->self = &b->all[b->order[b->next++]];
    b->self->on = own;
  }
  longjmp(b->scheduler, 1);
}

static void enter_thread(block *b, block_thread *t) {
  b->self = t;
  running = &t->view;
  if (setjmp(b->scheduler) != 0) return;
  if (t->state != NOT_STARTED) {
    t->state = RUNS;
    longjmp(t->on->at, 1);
  }
  fibre *f = take_fibre();
  t->on = f;
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = FIBRE_STACK;
  f->context.uc_link = nullptr;
  makecontext(&f->context, fibre_main, 0);
  setcontext(&f->context);
}

static void wait(thread_state state, unsigned mask) {
  block *b = now;
  block_thread *t = b->self;
  t->state = state;
  t->mask = mask;
  if (setjmp(t->on->at) == 0) longjmp(b->scheduler, 1);
  b->self = t;
  running = &t->view;
  t->mask = ~0u;   // not 0: it has waited, so its fibre is its own
}

// Whether all whom the barrier is for have come to it; then they go on.
static bool release_block(block *b) {
  if (b->next < b->threads) return false;
  for (unsigned i = 0; i < b->threads; i++)
    if (b->all[i].state != WAITS_FOR_BLOCK) return false;
  for (unsigned i = 0; i < b->threads; i++) b->all[i].state = RUNS;
  return true;
}

static bool release_warp(block *b, unsigned first) {
  unsigned mask = 0;
  for (unsigned i = first; i < first + WARP && i < b->threads && mask == 0; i++)
    if (b->all[i].state == WAITS_FOR_WARP) mask = b->all[i].mask;
  if (mask == 0) return false;
  for (unsigned lane = 0; lane < WARP; lane++) {
    if (!(mask >> lane & 1)) continue;
    unsigned i = first + lane;
    if (i >= b->threads) continue;   // lanes that the block does not have
    if (b->all[i].state != WAITS_FOR_WARP || b->all[i].mask != mask) return false;
  }
  for (unsigned lane = 0; lane < WARP && first + lane < b->threads; lane++)
    if (mask >> lane & 1) b->all[first + lane].state = RUNS;
  return true;
}

// Lets the threads of a warp that are ready go on to where they wait, again and again where the
// block's warps run ahead. Says whether anything happened.
static bool run_warp(block *b, unsigned from, unsigned to) {
  bool moved = false, released;
  do {
    for (unsigned i = from; i < to; i++) {
      block_thread *t = &b->all[b->order[i]];
      if (t->state != NOT_STARTED && t->state != RUNS) continue;
      if (t->state == NOT_STARTED) b->next++;
      enter_thread(b, t);
      moved = true;
    }
    released = release_warp(b, b->order[from] / WARP * WARP);
    moved |= released;
  } while (released && b->ahead);
  return moved;
}

// True where it ended well. Threads that are ready have the state RUNS.
static bool run_block(block *b) {
  b->next = b->ended = 0;
  b->failed = false;
  for (unsigned i = 0; i < b->threads; i++) {
    b->all[i].state = NOT_STARTED;
    b->all[i].mask = 0;
    b->all[i].on = nullptr;
  }
  now = b;
  while (b->ended < b->threads) {
    bool moved = false;
    for (unsigned w = 0; w < b->warps; w++)
      moved |= run_warp(b, w == 0 ? 0 : b->warp_end[w - 1], b->warp_end[w]);
    if (!moved && !release_block(b)) break;   // somebody waits for a thread that will never come
  }
  bool well = b->ended == b->threads;
  for (unsigned i = 0; i < b->threads; i++) {
    fibre *f = b->all[i].on;
    if (!f) continue;
    for (unsigned j = i; j < b->threads; j++)
      if (b->all[j].on == f) b->all[j].on = nullptr;
    spare_fibres->push_back(f);
  }
  running = nullptr;
  now = nullptr;
  return well;
}

void wait_for_block() { wait(WAITS_FOR_BLOCK, ~0u); }
void wait_for_warp(unsigned mask) { wait(WAITS_FOR_WARP, mask); }
void *dynamic_shared() { return now->shared.data(); }

static unsigned index_in_block() {
  const thread_view *v = running;
  return (v->thread.z * v->block_size.y + v->thread.y) * v->block_size.x + v->thread.x;
}

unsigned lane() { return index_in_block() % WARP; }

uint64_t exchange(unsigned mask, uint64_t value, unsigned from) {
  unsigned own = index_in_block(), source = own / WARP * WARP + from;
  now->all[own].slot = value;
  wait(WAITS_FOR_WARP, mask);
  uint64_t got = source < now->threads ? now->all[source].slot : value;
  wait(WAITS_FOR_WARP, mask);
  return got;
}

unsigned ballot(unsigned mask, bool yes) {
  unsigned own = index_in_block(), first = own / WARP * WARP, votes = 0;
  now->all[own].slot = yes;
  wait(WAITS_FOR_WARP, mask);
  for (unsigned l = 0; l < WARP && first + l < now->threads; l++)
    if (mask >> l & 1) votes |= (unsigned)now->all[first + l].slot << l;
  wait(WAITS_FOR_WARP, mask);
  return votes;
}

// Of `count` things the one that comes at place i: the first ones first, the last ones first, or
// with strides, by the number of the launch. Every thing comes once, 7919 being a prime.
static unsigned in_turn(unsigned launch, unsigned i, unsigned count) {
  switch (launch % 3) {
    case 0: return i;
    case 1: return count - 1 - i;
    default: return count % 7919 == 0 ? i : (unsigned)(((uint64_t)i * 7919 + launch) % count);
  }
}

static void set_order(block *b, unsigned launch) {
  unsigned place = 0;
  b->ahead = launch / 3 % 2 == 1;
  b->warps = (b->threads + WARP - 1) / WARP;
  for (unsigned w = 0; w < b->warps; w++) {
    unsigned first = in_turn(launch, w, b->warps) * WARP;
    unsigned lanes = b->threads - first < WARP ? b->threads - first : (unsigned)WARP;
    for (unsigned l = 0; l < lanes; l++) b->order[place++] = first + in_turn(launch, l, lanes);
    b->warp_end[w] = place;
  }
}

static cudaError_t run_grid(dim3 grid, dim3 size, size_t shared, const std::function<void()> &body) {
  static thread_local block *b;
  static thread_local unsigned launches;
  unsigned launch = launches++, blocks = grid.x * grid.y * grid.z;
  if (!b) b = new block();
  b->body = &body;
  b->threads = size.x * size.y * size.z;
  unsigned i = 0;
  for (unsigned z = 0; z < size.z; z++)
    for (unsigned y = 0; y < size.y; y++)
      for (unsigned x = 0; x < size.x; x++) b->all[i++].view = { { x, y, z }, {}, size, grid };
  set_order(b, launch);
  for (unsigned k = 0; k < blocks; k++) {
    unsigned place = in_turn(launch, k, blocks);
    unsigned x = place % grid.x, y = place / grid.x % grid.y, z = place / grid.x / grid.y;
    for (unsigned t = 0; t < b->threads; t++) b->all[t].view.block = { x, y, z };
    b->shared.assign(shared, (char)0xA5);
    if (!run_block(b)) return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

// -- streams: what was put on one runs when somebody waits for it

void stream::put(task item) {
  std::lock_guard<std::mutex> guard(lock);
  if (captured) captured->push_back(std::move(item));
  else work.push_back(std::move(item));
}

static std::recursive_mutex turn;

// Gives the first of what waits; false if nothing does.
static bool take_work(stream *from, task *item) {
  std::lock_guard<std::mutex> guard(from->lock);
  if (from->work.empty()) return false;
  *item = std::move(from->work.front());
  from->work.pop_front();
  return true;
}

int stream::drain(const bool *over) {
  std::lock_guard<std::recursive_mutex> guard(turn);
  if (captured && !over) return cudaErrorStreamCaptureUnsupported;
  for (task item; !(over && *over) && take_work(this, &item);)
    if (failed == cudaSuccess) failed = item();
  return failed;
}

static std::mutex streams_lock;
static std::vector<stream *> streams;

int launch(stream *on, dim3 grid, dim3 block, size_t shared, std::function<void()> body) {
  unsigned threads = block.x * block.y * block.z;
  bool fits = threads >= 1 && threads <= MOST_THREADS && grid.x >= 1 && grid.y >= 1 &&
              grid.z >= 1 && grid.y <= 65535 && grid.z <= 65535 && shared <= 227 << 10;
  if (!fits) return cudaErrorInvalidValue;
  on->put([=] { return run_grid(grid, block, shared, body); });
  return cudaSuccess;
}

// -- memory: what the "device" has, so that specs can run out of it

static const size_t DEVICE_BYTES = (size_t)2 << 30;
static std::mutex memory_lock;
static std::vector<std::pair<void *, size_t>> blocks;
static size_t taken;

bool stream::owns(const void *at, size_t bytes) {
  std::lock_guard<std::mutex> guard(memory_lock);
  for (const auto &block : blocks) {
    const char *begin = (const char *)block.first, *from = (const char *)at;
    if (from >= begin && from + bytes <= begin + block.second) return true;
  }
  return false;
}

}  // namespace emulated

using namespace emulated;

// What was recorded last; work that waits for it goes on with it when the event is recorded anew.
struct event_point {
  stream *on;
  bool reached;
  double seconds;
};
struct emulated_event { std::shared_ptr<event_point> last; };

static thread_local int current_device;
static thread_local cudaError_t last_error;

static double clock_seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cudaError_t say(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t cudaGetLastError() {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorLaunchFailure: return "a thread of the block never reached a barrier";
    case cudaErrorInvalidValue: return "invalid argument";
    default: return "emulated error";
  }
}
const char *cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

// EMULATED_CUDA in the environment names a machine on which CUDA does not work.
static bool machine_has(const char *fault) {
  const char *named = getenv("EMULATED_CUDA");
  return named && strcmp(named, fault) == 0;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = machine_has("no driver") ? 0 : machine_has("old driver") ? 11040 : 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) { *version = 13000; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *count) {
  *count = 0;
  if (machine_has("no driver") || machine_has("old driver"))
    return say(cudaErrorInsufficientDriver);
  if (machine_has("no device")) return say(cudaErrorNoDevice);
  *count = 2;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device > 1) return say(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) { *device = current_device; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int) {
  *p = {};
  snprintf(p->name, sizeof p->name, "emulated");
  p->major = 9;
  p->multiProcessorCount = 1;
  p->sharedMemPerBlockOptin = 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *left, size_t *all) {
  std::lock_guard<std::mutex> guard(memory_lock);
  *all = DEVICE_BYTES;
  *left = DEVICE_BYTES - taken;
  return cudaSuccess;
}

// Fresh memory holds what nobody should read.
cudaError_t cudaMalloc(void **block, size_t bytes) {
  std::lock_guard<std::mutex> guard(memory_lock);
  if (bytes > DEVICE_BYTES - taken) return say(cudaErrorMemoryAllocation);
  void *made = aligned_alloc(512, (bytes + 511) / 512 * 512);
  if (!made) return say(cudaErrorMemoryAllocation);
  memset(made, 0xA5, bytes < (1 << 20) ? bytes : 1 << 20);
  blocks.push_back({ made, bytes });
  taken += bytes;
  *block = made;
  return cudaSuccess;
}
cudaError_t cudaFree(void *block) {
  cudaError_t error = cudaDeviceSynchronize();
  std::lock_guard<std::mutex> guard(memory_lock);
  for (size_t i = 0; i < blocks.size(); i++) {
    if (blocks[i].first != block) continue;
    taken -= blocks[i].second;
    blocks[i] = blocks.back();
    blocks.pop_back();
    free(block);
    return error;
  }
  return block ? say(cudaErrorInvalidValue) : error;
}

// Pinned memory of the host, which copies read when they run.
static std::vector<std::pair<char *, size_t>> pinned;

cudaError_t cudaHostAlloc(void **block, size_t bytes, unsigned) {
  std::lock_guard<std::mutex> guard(memory_lock);
  *block = malloc(bytes);
  if (!*block) return say(cudaErrorMemoryAllocation);
  pinned.push_back({ (char *)*block, bytes });
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void *block) {
  cudaError_t error = cudaDeviceSynchronize();
  std::lock_guard<std::mutex> guard(memory_lock);
  for (size_t i = 0; i < pinned.size(); i++) {
    if (pinned[i].first != block) continue;
    pinned[i] = pinned.back();
    pinned.pop_back();
    free(block);
    return error;
  }
  return say(cudaErrorInvalidValue);
}
static bool is_pinned(const void *at) {
  std::lock_guard<std::mutex> guard(memory_lock);
  for (const auto &block : pinned)
    if (at >= block.first && at < block.first + block.second) return true;
  return false;
}

// The host's side of a copy to the device is read at once, as CUDA stages pageable memory, unless
// it is pinned or part of a graph.
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t on) {
  if (kind == cudaMemcpyHostToDevice && !on->captured && !is_pinned(from)) {
    std::vector<char> staged((const char *)from, (const char *)from + bytes);
    on->put([=] { memcpy(to, staged.data(), bytes); return cudaSuccess; });
  } else {
    on->put([=] { memmove(to, from, bytes); return cudaSuccess; });
  }
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t on) {
  on->put([=] { memset(to, value, bytes); return cudaSuccess; });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *made, unsigned) {
  *made = new stream();
  std::lock_guard<std::mutex> guard(streams_lock);
  streams.push_back(*made);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t on) {
  cudaError_t error = on->drain();
  std::lock_guard<std::mutex> guard(streams_lock);
  for (size_t i = 0; i < streams.size(); i++)
    if (streams[i] == on) {
      streams[i] = streams.back();
      streams.pop_back();
      break;
    }
  delete on;
  return error;
}
cudaError_t cudaStreamSynchronize(cudaStream_t on) {
  if (on->captured) on->invalidated = true;
  return say(on->drain());
}
cudaError_t cudaDeviceSynchronize() {
  std::lock_guard<std::mutex> guard(streams_lock);
  cudaError_t error = cudaSuccess;
  for (stream *s : streams) {
    cudaError_t one = s->drain();
    if (one != cudaSuccess) error = one;
  }
  return say(error);
}

struct emulated_graph { std::vector<task> tasks; };

cudaError_t cudaStreamBeginCapture(cudaStream_t on, cudaStreamCaptureMode) {
  if (on->captured) return say(cudaErrorInvalidValue);
  on->captured = new std::vector<task>();
  on->invalidated = false;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t on, cudaGraph_t *graph) {
  if (!on->captured) return say(cudaErrorInvalidValue);
  *graph = on->invalidated ? nullptr : new emulated_graph{ std::move(*on->captured) };
  delete on->captured;
  on->captured = nullptr;
  return on->invalidated ? say(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
  *exec = new emulated_graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t on) {
  if (on->captured) {
    on->invalidated = true;
    return say(cudaErrorStreamCaptureUnsupported);
  }
  for (const task &item : exec->tasks) on->put(item);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  *event = new emulated_event();
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t on) {
  auto point = std::make_shared<event_point>();
  point->on = on;
  event->last = point;
  on->put([=] {
    point->seconds = clock_seconds();
    point->reached = true;
    return cudaSuccess;
  });
  return cudaSuccess;
}
static cudaError_t reach(const std::shared_ptr<event_point> &point) {
  std::lock_guard<std::recursive_mutex> guard(turn);
  return !point || point->reached ? cudaSuccess : point->on->drain(&point->reached);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return say(reach(event->last)); }
cudaError_t cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t event, unsigned) {
  auto point = event->last;
  if (on->captured) {
    on->invalidated = true;
    return say(cudaErrorStreamCaptureIsolation);
  }
  on->put([=] { return reach(point); });
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (!from->last || !to->last) return say(cudaErrorInvalidValue);
  *milliseconds = (float)((to->last->seconds - from->last->seconds) * 1e3);
  return cudaSuccess;
}
