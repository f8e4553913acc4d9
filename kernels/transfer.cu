// Copies between the host and the device, in order with the stream's work.
//
// The driver copies from ordinary memory only after what is ahead on the stream, and the caller
// waits for that. So what goes up is first copied into a pinned buffer, of which a context has a
// few, and the caller goes on: the next batch is on its way while this one is calculated.
#include "transfer.cuh"

#include <string.h>

#include "graph.cuh"

enum {
  LEAST_STAGED = 64 << 10,   // the driver keeps a copy of less by itself
  MOST_STAGED = 256 << 20,   // more is not worth as much pinned memory
};

static moon_status resize(cuda_stage *stage, size_t bytes) {
  if (stage->host) (void)cudaFreeHost(stage->host);
  stage->host = nullptr;
  stage->bytes = 0;
  CUDA_TRY(cudaHostAlloc(&stage->host, bytes, cudaHostAllocDefault));
  stage->bytes = bytes;
  return MOON_OK;
}

// The next buffer, once nothing reads it any more.
static moon_status take_stage(cuda_context *c, size_t bytes, cuda_stage **taken) {
  cuda_stage *stage = &c->stages[c->next_stage];
  c->next_stage = (c->next_stage + 1) % CUDA_STAGES;
  if (stage->done) CUDA_TRY(cudaEventSynchronize(stage->done));
  else CUDA_TRY(cudaEventCreateWithFlags(&stage->done, cudaEventDisableTiming));
  if (stage->bytes < bytes) MOON_TRY(resize(stage, bytes));
  *taken = stage;
  return MOON_OK;
}

static moon_status upload_staged(cuda_context *c, const void *host, void *device, size_t bytes) {
  cuda_stage *stage = nullptr;
  MOON_TRY(take_stage(c, bytes, &stage));
  memcpy(stage->host, host, bytes);
  CUDA_TRY(cudaMemcpyAsync(device, stage->host, bytes, cudaMemcpyHostToDevice, c->stream));
  CUDA_TRY(cudaEventRecord(stage->done, c->stream));
  return MOON_OK;
}

moon_status cuda_upload(cuda_context *c, const void *host, void *device, size_t bytes) {
  if (bytes == 0) return MOON_OK;
  if (c->recording) MOON_TRY(graph_keep(c, host, bytes, &host));
  else if (bytes >= LEAST_STAGED && bytes <= MOST_STAGED)
    return upload_staged(c, host, device, bytes);
  CUDA_TRY(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, c->stream));
  return MOON_OK;
}

moon_status cuda_download(cuda_context *c, const void *device, void *host, size_t bytes) {
  if (c->recording)
    return moon_fail(MOON_BAD_STATE, "a value is read while a CUDA graph is recorded, where "
                     "nothing is calculated yet; read it from the graph's results");
  if (bytes > 0)
    CUDA_TRY(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, c->stream));
  CUDA_TRY(cudaStreamSynchronize(c->stream));
  return MOON_OK;
}

void cuda_stages_end(cuda_context *c) {
  for (cuda_stage &stage : c->stages) {
    if (stage.done) (void)cudaEventDestroy(stage.done);
    if (stage.host) (void)cudaFreeHost(stage.host);
  }
}
