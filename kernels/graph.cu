// Recording a stretch of work, and running it again; see graph.cuh.
#include "graph.cuh"

#include <stdlib.h>
#include <string.h>

#include <new>

// -- the list of a context's graphs; its lock is held, but by what others call

static void unlink(cuda_graph *graph) {
  cuda_graph **at = &graph->context->graphs;
  while (*at != graph) at = &(*at)->next;
  *at = graph->next;
}

static void free_graph(cuda_graph *graph) {
  unlink(graph);
  while (graph->uploads) {
    graph_upload *upload = graph->uploads;
    graph->uploads = upload->next;
    free(upload);
  }
  cuda_pool_release(&graph->pool, graph->device, sizeof(graph_values));
  cuda_pool_close(&graph->pool);
  delete graph;
}

// Tensors that were made while recording may outlive the graph.
static bool is_unused(cuda_graph *graph) {
  int64_t own = (int64_t)cuda_pool_size(cuda_pool_class(sizeof(graph_values)));
  return graph->exec == nullptr && cuda_pool_figures(&graph->pool).live == own;
}

// Waits for what still uses the graph, which a stream that is recorded cannot be: finish comes back
// to those that were given up meanwhile.
static void remove_unused(cuda_graph *graph) {
  if (graph->context->recording) return;
  (void)cudaStreamSynchronize(graph->context->stream);
  if (graph->exec) (void)cudaGraphExecDestroy(graph->exec);
  graph->exec = nullptr;
  if (is_unused(graph)) free_graph(graph);
}

bool graph_release(cuda_context *c, void *block, size_t bytes) {
  std::lock_guard<std::mutex> guard(c->graphs_lock);
  for (cuda_graph *graph = c->graphs; graph; graph = graph->next) {
    if (!cuda_pool_owns(&graph->pool, block)) continue;
    cuda_pool_release(&graph->pool, block, bytes);
    if (graph->given_up && is_unused(graph)) remove_unused(graph);
    return true;
  }
  return false;
}

void graphs_end(cuda_context *c) {
  std::lock_guard<std::mutex> guard(c->graphs_lock);
  while (c->graphs) {
    cuda_graph *graph = c->graphs;
    if (graph->exec) (void)cudaGraphExecDestroy(graph->exec);
    free_graph(graph);
  }
}

// -- recording; `recording` changes under both locks, so that who holds one may rely on it

// What was asked until now stays known to those who follow the stream.
static cudaError_t begin_capture(cuda_graph *graph) {
  cuda_context *c = graph->context;
  std::lock_guard<std::mutex> guard(cuda_pools_lock);
  cudaError_t error = cudaEventRecord(c->asked, c->stream);
  if (error == cudaSuccess)
    error = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeRelaxed);
  if (error == cudaSuccess) c->recording = graph;
  return error;
}

static cudaError_t end_capture(cuda_context *c, cudaGraph_t *recorded) {
  std::lock_guard<std::mutex> guard(cuda_pools_lock);
  *recorded = nullptr;
  c->recording = nullptr;
  return cudaStreamEndCapture(c->stream, recorded);
}

moon_status graph_begin(cuda_context *c, cuda_graph **made) {
  if (c->recording)
    return moon_fail(MOON_BAD_STATE, "a CUDA graph is being recorded already; they do not nest");
  cuda_graph *graph = new (std::nothrow) cuda_graph();
  if (!graph) return moon_fail(MOON_OUT_OF_MEMORY, "cuda: no memory for a graph");
  graph->context = c;
  cuda_pool_open(&graph->pool, c, true);
  moon_status status =
      cuda_pool_take(&graph->pool, sizeof(graph_values), (void **)&graph->device);
  if (status != MOON_OK) {
    cuda_pool_close(&graph->pool);
    delete graph;
    return status;
  }
  graph->first_draw = *cuda_library->draws(c->engine);
  std::lock_guard<std::mutex> guard(c->graphs_lock);
  graph->next = c->graphs;
  c->graphs = graph;
  cudaError_t error = begin_capture(graph);
  if (error != cudaSuccess) {
    free_graph(graph);
    return cuda_failed("cudaStreamBeginCapture", error);
  }
  *made = graph;
  return MOON_OK;
}

static cudaError_t finish(cuda_graph *graph, cudaGraph_t *recorded) {
  cuda_context *c = graph->context;
  cudaError_t error = end_capture(c, recorded);
  for (cuda_graph *one = c->graphs, *next; one; one = next) {
    next = one->next;
    if (one->given_up) remove_unused(one);
  }
  return error;
}

static void give_up_recording(cuda_graph *graph) {
  cudaGraph_t recorded;
  if (graph->context->recording != graph) return;
  (void)finish(graph, &recorded);
  if (recorded) (void)cudaGraphDestroy(recorded);
  (void)cudaGetLastError();
}

void graph_abort(cuda_graph *graph) {
  std::lock_guard<std::mutex> guard(graph->context->graphs_lock);
  give_up_recording(graph);
}

void graph_delete(cuda_graph *graph) {
  std::lock_guard<std::mutex> guard(graph->context->graphs_lock);
  give_up_recording(graph);
  graph->given_up = true;
  remove_unused(graph);
}

moon_status graph_end(cuda_graph *graph) {
  cudaGraph_t recorded;
  CUDA_TRY(cudaSetDevice(graph->context->device));
  std::lock_guard<std::mutex> guard(graph->context->graphs_lock);
  CUDA_TRY(finish(graph, &recorded));
  cudaError_t error = cudaGraphInstantiate(&graph->exec, recorded, 0);
  (void)cudaGraphDestroy(recorded);
  if (error != cudaSuccess) return cuda_failed("cudaGraphInstantiate", error);
  uint64_t *draws = cuda_library->draws(graph->context->engine);
  graph->draws = *draws - graph->first_draw;
  *draws = graph->first_draw;   // recording has drawn nothing
  return MOON_OK;
}

moon_status graph_unless(cuda_graph *graph, const float *found) {
  if (graph->context->recording != graph)
    return moon_fail(MOON_BAD_STATE, "this CUDA graph is not being recorded");
  graph->unless = found;
  return MOON_OK;
}

// -- running again

moon_status graph_refresh(cuda_graph *graph, bool on) {
  cuda_context *c = graph->context;
  c->refreshing = on ? graph : nullptr;
  if (on) graph->refreshed = 0;
  else if (graph->refreshed != graph->steps)
    return moon_fail(MOON_BAD_STATE, "a CUDA graph has %d optimiser steps, but %d were made for "
                     "its next run", graph->steps, graph->refreshed);
  return MOON_OK;
}

moon_status graph_run(cuda_graph *graph) {
  cuda_context *c = graph->context;
  uint64_t *draws = cuda_library->draws(c->engine);
  if (!graph->exec) return moon_fail(MOON_BAD_STATE, "this CUDA graph was given up");
  if (c->recording)
    return moon_fail(MOON_BAD_STATE, "a CUDA graph cannot run while another one is recorded");
  CUDA_TRY(cudaSetDevice(c->device));
  graph->host.moved = *draws - graph->first_draw;
  MOON_TRY(cuda_upload(c, &graph->host, graph->device, sizeof graph->host));
  CUDA_TRY(cudaGraphLaunch(graph->exec, c->stream));
  *draws += graph->draws;
  return MOON_OK;
}

// -- for slots

const uint64_t *graph_moved(const cuda_context *c) {
  return c->recording ? &c->recording->device->moved : nullptr;
}

moon_status graph_step(cuda_context *c, const step_options *options, graph_stepping *stepping) {
  cuda_graph *graph = c->refreshing ? c->refreshing : c->recording;
  *stepping = {};
  if (!graph) return MOON_OK;
  int *number = c->refreshing ? &graph->refreshed : &graph->steps;
  int most = c->refreshing ? graph->steps : (int)GRAPH_MOST_STEPS;
  if (*number == most)
    return moon_fail(MOON_BAD_STATE, "a CUDA graph has room for %d optimiser steps", most);
  graph->host.steps[*number] = *options;
  *stepping = { &graph->device->steps[*number], graph->unless, c->refreshing != nullptr };
  ++*number;
  return MOON_OK;
}

moon_status graph_keep(cuda_context *c, const void *bytes, size_t size, const void **kept) {
  graph_upload *upload = (graph_upload *)malloc(sizeof *upload + size);
  if (!upload) return moon_fail(MOON_OUT_OF_MEMORY, "cuda: no memory for a graph");
  upload->next = c->recording->uploads;
  c->recording->uploads = upload;
  memcpy(upload + 1, bytes, size);
  *kept = upload + 1;
  return MOON_OK;
}
