// A stretch of work as a CUDA graph: what an engine puts on its stream between graph_begin and
// graph_end is not run but recorded, and then run again and again by one call of the driver.
//
// A graph holds addresses, so what is taken while it is recorded comes from a pool of its own,
// which nobody else is served from, and what is copied up from the host is kept. Three things
// change from one run to the next, and kernels read them through a pointer: how far the random
// stream has gone, the options of optimiser steps, which the host calculates again ("refreshes")
// before each run, and whether such a step is to be left out, which the run itself finds.
#ifndef MOON_KERNELS_GRAPH_CUH
#define MOON_KERNELS_GRAPH_CUH

#include "context.cuh"

enum { GRAPH_MOST_STEPS = 64 };   // calls of the slot `step`

struct graph_values {
  uint64_t moved;                           // blocks of the random stream since it was recorded
  step_options steps[GRAPH_MOST_STEPS];
};

struct graph_upload {     // what was copied up while recording, and is again in each run
  graph_upload *next;
  // followed by the bytes
};

struct cuda_graph {
  cuda_context *context;
  cuda_pool pool;
  cudaGraphExec_t exec;         // NULL before it is recorded, and once it is given up
  graph_values host, *device;
  graph_upload *uploads;
  uint64_t first_draw, draws;   // of the engine's stream when recording began; used by a run
  bool given_up;
  int steps, refreshed;         // calls of `step` recorded; refreshed since that began
  const float *unless;          // what leaves out the steps that are recorded now; NULL: nothing
  cuda_graph *next;             // in the context's list
};

// For slots. Where the random stream's move lies on the device, NULL outside of a graph.
const uint64_t *graph_moved(const cuda_context *c);
// What a graph makes of a call of `step`; all zero outside of one.
struct graph_stepping {
  const step_options *options;   // where a recorded call reads them
  const float *unless;           // it does nothing where this is not 0; NULL: it always steps
  bool refreshes;                // this call only gives the options for the next run
};
moon_status graph_step(cuda_context *c, const step_options *options, graph_stepping *stepping);
// A copy of `bytes` that lives as long as the graph that is recorded.
moon_status graph_keep(cuda_context *c, const void *bytes, size_t size, const void **kept);
// Takes a block back that a graph's pool gave; false if none did.
bool graph_release(cuda_context *c, void *block, size_t bytes);
void graphs_end(cuda_context *c);

// For the plug-in's table.
moon_status graph_begin(cuda_context *c, cuda_graph **graph);
moon_status graph_end(cuda_graph *graph);
void graph_abort(cuda_graph *graph);          // gives up what is recorded
moon_status graph_unless(cuda_graph *graph, const float *found);
moon_status graph_refresh(cuda_graph *graph, bool on);
moon_status graph_run(cuda_graph *graph);
void graph_delete(cuda_graph *graph);         // it goes when nothing is recorded, its pool when
                                              // nothing of it is in use

#endif
