// Non-maximum suppression. Boxes are taken in their order, in groups of a warp's size. A first
// kernel, bound by arithmetic, says for each pair which later box the earlier one would suppress,
// a bit each, 32 columns to a word; a second one, a single block, goes through the groups in turn,
// decides which boxes of the group stay and takes their words off all that follow. Rows of words
// are made for as many groups at a time as the workspace's limit allows, those of suppressed boxes
// not at all. In double, as on the CPU.
#include "types.cuh"

enum { GROUP = CUDA_WARP, SCAN_THREADS = 1024 };

struct box { double x1, y1, x2, y2; };

static __device__ double smaller(double a, double b) { return a < b ? a : b; }
static __device__ double larger(double a, double b) { return a > b ? a : b; }
static __device__ double area_of(const box &b) { return (b.x2 - b.x1) * (b.y2 - b.y1); }

static __device__ double overlap(const box &a, const box &b) {
  double width = larger(smaller(a.x2, b.x2) - larger(a.x1, b.x1), 0);
  double height = larger(smaller(a.y2, b.y2) - larger(a.y1, b.y1), 0);
  double both = width * height;
  return both / (area_of(a) + area_of(b) - both);
}

// What the kernels share. Words: (groups of a round, words, GROUP): those of a group's rows lie
// side by side.
struct nms_job {
  int64_t count, words;        // boxes, and words that have a bit for each
  double threshold;
  const int64_t *order, *classes;   // classes: NULL for one
  box *boxes;                  // in order
  uint32_t *bits, *gone;       // gone: a bit for each box that is suppressed
  int64_t *kept, *found;       // results: numbers of boxes, how many so far
};

struct box_columns {
  const void *data;
  moon_dtype dtype;
  int64_t row, column;   // strides

  __device__ double at(int64_t i, int k) const {
    return cuda_get_double(dtype, data, i * row + k * column);
  }
};

static __global__ void take_in_order(nms_job job, box_columns columns) {
  CUDA_EACH(i, job.count) {
    int64_t one = job.order[i];
    job.boxes[i] = { columns.at(one, 0), columns.at(one, 1), columns.at(one, 2),
                     columns.at(one, 3) };
  }
  CUDA_EACH(w, job.words) job.gone[w] = 0;
  if (blockIdx.x == 0 && threadIdx.x == 0) *job.found = 0;
}

// Groups first ... first + groups - 1 against all words from their own on, a warp for each pair.
static __global__ void compare_boxes(nms_job job, int64_t first, int64_t groups) {
  const int lane = threadIdx.x % CUDA_WARP;
  const int64_t warps = (int64_t)gridDim.x * blockDim.x / CUDA_WARP;
  int64_t pair = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / CUDA_WARP;
  for (; pair < groups * job.words; pair += warps) {
    int64_t group = first + pair / job.words, word = pair % job.words;
    if (word < group) continue;
    int64_t column = word * GROUP + lane, of = column < job.count ? column : 0;
    const box own = job.boxes[of];
    const int64_t own_class = job.classes ? job.classes[job.order[of]] : 0;
    uint32_t row_gone = job.gone[group], mine = 0;
    for (int r = 0; r < GROUP; r++) {
      int64_t row = group * GROUP + r;
      if (row >= job.count || (row_gone >> r & 1)) continue;
      bool alike = !job.classes || job.classes[job.order[row]] == own_class;
      bool covered = column > row && column < job.count && alike &&
                     overlap(job.boxes[row], own) > job.threshold;
      uint32_t word_bits = __ballot_sync(0xffffffffu, covered);
      if (lane == r) mine = word_bits;
    }
    job.bits[pair * GROUP + lane] = mine;
  }
}

// Which boxes of a group stay; all lanes of the block's first warp get the same.
static __device__ uint32_t survivors(const nms_job &job, const uint32_t *words, int64_t group) {
  int64_t left = job.count - group * GROUP;
  uint32_t existing = left < GROUP ? (1u << left) - 1 : 0xffffffffu;
  uint32_t alive = existing & ~job.gone[group];
  uint32_t own = words[group * GROUP + threadIdx.x];   // of this lane's row
  for (int r = 0; r < GROUP; r++) {
    uint32_t row = __shfl_sync(0xffffffffu, own, r);
    if (alive >> r & 1) alive &= ~row;
  }
  return alive;
}

// One block: decides for the groups of a round, one after the other.
static __global__ void __launch_bounds__(SCAN_THREADS)
scan_groups(nms_job job, int64_t first, int64_t groups) {
  __shared__ uint32_t staying;
  int64_t found = *job.found;
  __syncthreads();
  for (int64_t group = first; group < first + groups; group++) {
    const uint32_t *words = job.bits + (group - first) * job.words * GROUP;
    if (threadIdx.x < CUDA_WARP) {
      uint32_t alive = survivors(job, words, group);
      if (threadIdx.x == 0) staying = alive;
      if (alive >> threadIdx.x & 1)
        job.kept[found + __popc(alive & ((1u << threadIdx.x) - 1))] =
            job.order[group * GROUP + threadIdx.x];
    }
    __syncthreads();
    const uint32_t stays = staying;
    found += __popc(stays);
    for (int64_t w = group + 1 + threadIdx.x; w < job.words; w += blockDim.x) {
      uint32_t off = 0;
      for (int r = 0; r < GROUP; r++)
        if (stays >> r & 1) off |= words[w * GROUP + r];
      job.gone[w] |= off;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *job.found = found;
}

static moon_status run_rounds(cuda_context *c, const nms_job &job, int64_t per_round) {
  for (int64_t first = 0; first < job.words; first += per_round) {
    int64_t left = job.words - first, groups = left < per_round ? left : per_round;
    MOON_TRY(cuda_launch(c, cuda_blocks(groups * job.words * GROUP), CUDA_BLOCK, compare_boxes,
                         job, first, groups));
    MOON_TRY(cuda_launch(c, 1, SCAN_THREADS, scan_groups, job, first, groups));
  }
  return MOON_OK;
}

moon_status cuda_nms(cuda_context *c, double threshold, const device_array *boxes,
                     const device_array *order, const device_array *classes, int64_t *count,
                     const device_array *out) {
  cuda_scratch sorted(c), bits(c), gone(c), found(c);
  const int64_t n = boxes->shape[0], words = (n + GROUP - 1) / GROUP;
  const int64_t group_bytes = words * GROUP * (int64_t)sizeof(uint32_t);
  *count = 0;
  if (n == 0) return MOON_OK;
  int64_t per_round = cuda_library->settings(c->engine).workspace_limit / group_bytes;
  per_round = per_round < 1 ? 1 : per_round < words ? per_round : words;
  MOON_TRY(sorted.take((size_t)n * sizeof(box)));
  MOON_TRY(bits.take((size_t)(per_round * group_bytes)));
  MOON_TRY(gone.take((size_t)words * sizeof(uint32_t)));
  MOON_TRY(found.take(sizeof(int64_t)));
  nms_job job = { n, words, threshold, (const int64_t *)order->data,
                  classes ? (const int64_t *)classes->data : NULL, sorted.as<box>(),
                  bits.as<uint32_t>(), gone.as<uint32_t>(), (int64_t *)out->data,
                  found.as<int64_t>() };
  box_columns columns = { boxes->data, boxes->dtype, boxes->strides[0], boxes->strides[1] };
  MOON_TRY(cuda_launch(c, cuda_blocks(n), CUDA_BLOCK, take_in_order, job, columns));
  MOON_TRY(run_rounds(c, job, per_round));
  return cuda_download(c, found.as<void>(), count, sizeof *count);
}
