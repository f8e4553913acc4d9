// A stand-in of cuBLASLt's matrix products, by the sum that defines them, columns first as the
// library has it. What it advises for a problem fits that problem alone: its sizes, types and the
// alignment that was promised. See stand_in.h.
#include "stand_in.h"

#include <cublasLt.h>

#include <atomic>

using namespace stand_in;

namespace {

struct operation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t turned[2] = { CUBLAS_OP_N, CUBLAS_OP_N };
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void *bias = nullptr;
};

struct layout {
  cudaDataType_t given;
  moon_dtype type;
  int64_t rows, columns, leading, stride = 0;
  int32_t batch = 1;
};

struct preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = { 256, 256, 256, 256 };   // of A, B, C and D
};

// What an algorithm was made for; it fills a cublasLtMatmulAlgo_t.
struct algorithm {
  int64_t m, n, k, batch;
  uint64_t workspace;
  uint32_t alignment[3];         // of A, B and D
  int32_t compute, epilogue, types;
};
static_assert(sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm has 64 bytes");

std::atomic<int> handles, descriptors;

template <typename T, typename Handle>
cublasStatus_t create(Handle *made, const T &value) {
  *made = (Handle) new T(value);
  descriptors++;
  return CUBLAS_STATUS_SUCCESS;
}

template <typename T, typename Handle>
cublasStatus_t destroy(Handle descriptor) {
  delete (T *)descriptor;
  descriptors--;
  return CUBLAS_STATUS_SUCCESS;
}

// Copies an attribute that must have the type of what it sets.
template <typename T>
void set(const char *call, T *member, const void *value, size_t bytes) {
  need(bytes == sizeof *member, call, "an attribute of another size");
  memcpy(member, value, bytes);
}

bool type_of(cudaDataType_t given, moon_dtype *type) {
  switch (given) {
    case CUDA_R_64F: *type = MOON_F64; return true;
    case CUDA_R_32F: *type = MOON_F32; return true;
    case CUDA_R_16F: *type = MOON_F16; return true;
    case CUDA_R_16BF: *type = MOON_BF16; return true;
    default: return false;
  }
}

// -- a problem, checked

struct problem {
  operation o;
  layout a, b, d;
  int64_t m, n, k;
};

void check_types(const char *call, const problem &p) {
  bool half = dtype_is_half(p.a.type), wide = p.a.type == MOON_F64;
  need(p.a.type == p.b.type && (p.d.type == p.a.type || (half && p.d.type == MOON_F32)), call,
       "types that do not go together");
  need(p.o.compute == CUBLAS_COMPUTE_64F ? wide : !wide, call,
       "a type of calculation that is not the matrices'");
  need(p.o.compute != CUBLAS_COMPUTE_32F_FAST_TF32 || p.a.type == MOON_F32, call,
       "TF32 for matrices that are not float32");
  need(p.o.scale == (wide ? CUDA_R_64F : CUDA_R_32F), call, "a type of the factors it has not");
}

problem problem_of(const char *call, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  need(o && a && b && c == d && d, call, "a descriptor missing, or another C than D");
  problem p = { *(operation *)o, *(layout *)a, *(layout *)b, *(layout *)d, 0, 0, 0 };
  bool left = p.o.turned[0] == CUBLAS_OP_T, right = p.o.turned[1] == CUBLAS_OP_T;
  p.m = left ? p.a.columns : p.a.rows;
  p.k = left ? p.a.rows : p.a.columns;
  p.n = right ? p.b.rows : p.b.columns;
  need(p.m == p.d.rows && p.n == p.d.columns && p.k == (right ? p.b.columns : p.b.rows), call,
       "matrices whose sizes do not meet");
  need(p.a.batch == p.d.batch && p.b.batch == p.d.batch, call, "stacks of several counts");
  need(p.d.batch == 1 || p.d.stride >= p.d.leading * (p.d.columns - 1) + p.d.rows, call,
       "results that overlap");
  check_types(call, p);
  return p;
}

// -- products

double element(const layout &l, const void *data, int64_t batch, int64_t row, int64_t column) {
  return load(l.type, data, batch * l.stride + column * l.leading + row);
}

double product_of(const problem &p, const void *a, const void *b, int64_t batch, int64_t i,
                  int64_t j) {
  const bool left = p.o.turned[0] == CUBLAS_OP_T, right = p.o.turned[1] == CUBLAS_OP_T;
  const bool coarse = p.o.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  double sum = 0;
  for (int64_t k = 0; k < p.k; k++) {
    double x = element(p.a, a, batch, left ? k : i, left ? i : k);
    double y = element(p.b, b, batch, right ? j : k, right ? k : j);
    sum += coarse ? tf32(x) * tf32(y) : x * y;
  }
  return sum;
}

void multiply(const problem &p, double alpha, const void *a, const void *b, double beta, void *d) {
  for (int64_t batch = 0; batch < p.d.batch; batch++)
    for (int64_t j = 0; j < p.n; j++)
      for (int64_t i = 0; i < p.m; i++) {
        double value = alpha * product_of(p, a, b, batch, i, j);
        if (beta != 0) value += beta * element(p.d, d, batch, i, j);
        if (p.o.epilogue & CUBLASLT_EPILOGUE_BIAS) value += load(p.d.type, p.o.bias, i);
        if ((p.o.epilogue & CUBLASLT_EPILOGUE_RELU) && value < 0) value = 0;
        store(p.d.type, d, batch * p.d.stride + j * p.d.leading + i, value);
      }
}

algorithm algorithm_for(const problem &p, const uint32_t (&alignment)[3]) {
  algorithm made;
  memset(&made, 0, sizeof made);
  made.m = p.m, made.n = p.n, made.k = p.k, made.batch = p.d.batch;
  for (int i = 0; i < 3; i++) made.alignment[i] = alignment[i];
  made.compute = p.o.compute, made.epilogue = p.o.epilogue;
  made.types = p.a.type * 16 + p.d.type;
  made.workspace = p.k > 64 ? (uint64_t)(p.m * p.n) * sizeof(float) : 0;   // sums of pieces
  return made;
}

void check_matrix(const char *call, cudaStream_t on, const layout &l, const void *data,
                  uint32_t alignment) {
  int64_t elements = (l.batch - 1) * l.stride + (l.columns - 1) * l.leading + l.rows;
  need(aligned(data, alignment), call, "a matrix that does not lie as was promised");
  need(on->owns(data, (size_t)elements * dtype_size(l.type)), call,
       "a matrix that is not the device's");
}

}  // namespace

// -- the library's functions

STAND_IN size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }

STAND_IN const char *cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                                  : "another status";
}

STAND_IN cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  if (faulty(__func__, "fails")) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = (cublasLtHandle_t) new int(0);
  handles++;
  return CUBLAS_STATUS_SUCCESS;
}

STAND_IN cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete (int *)handle;
  if (--handles == 0) need(descriptors == 0, __func__, "descriptors that were not destroyed");
  return CUBLAS_STATUS_SUCCESS;
}

STAND_IN cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *made,
                                                 cublasComputeType_t compute,
                                                 cudaDataType_t scale) {
  operation o;
  o.compute = compute;
  o.scale = scale;
  return create(made, o);
}

STAND_IN cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t o) {
  return destroy<operation>(o);
}

STAND_IN cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                                       cublasLtMatmulDescAttributes_t name,
                                                       const void *value, size_t bytes) {
  operation *o = (operation *)desc;
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: set(__func__, &o->turned[0], value, bytes); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: set(__func__, &o->turned[1], value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: set(__func__, &o->epilogue, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: set(__func__, &o->bias, value, bytes); break;
    default: need(false, __func__, "an attribute that this stand-in has not");
  }
  return CUBLAS_STATUS_SUCCESS;
}

STAND_IN cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made,
                                                   cudaDataType type, uint64_t rows,
                                                   uint64_t columns, int64_t leading) {
  layout l;
  l.given = type;
  l.rows = (int64_t)rows, l.columns = (int64_t)columns, l.leading = leading;
  need(type_of(type, &l.type), __func__, "a type that this stand-in has not");
  need(rows > 0 && columns > 0 && leading >= (int64_t)rows, __func__,
       "sizes below 1, or columns that overlap");
  return create(made, l);
}

STAND_IN cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
  return destroy<layout>(l);
}

STAND_IN cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t desc,
                                                         cublasLtMatrixLayoutAttribute_t name,
                                                         const void *value, size_t bytes) {
  layout *l = (layout *)desc;
  switch (name) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: set(__func__, &l->batch, value, bytes); break;
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      set(__func__, &l->stride, value, bytes);
      break;
    default: need(false, __func__, "an attribute that this stand-in has not");
  }
  need(l->batch >= 1 && l->stride >= 0, __func__, "a stack of no matrices, or one backwards");
  return CUBLAS_STATUS_SUCCESS;
}

STAND_IN cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *made) {
  return create(made, preference());
}

STAND_IN cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  return destroy<preference>(p);
}

STAND_IN cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t desc, cublasLtMatmulPreferenceAttributes_t name, const void *value,
    size_t bytes) {
  preference *p = (preference *)desc;
  uint32_t scheme;
  switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      set(__func__, &p->workspace, value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: set(__func__, &scheme, value, bytes); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      set(__func__, &p->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
          bytes);
      break;
    default: need(false, __func__, "an attribute that this stand-in has not");
  }
  return CUBLAS_STATUS_SUCCESS;
}

STAND_IN cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t, cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t desc,
    int wanted, cublasLtMatmulHeuristicResult_t *results, int *count) {
  const preference *p = (preference *)desc;
  problem problem = problem_of(__func__, o, a, b, c, d);
  algorithm made = algorithm_for(problem, { p->alignment[0], p->alignment[1], p->alignment[3] });
  need(wanted >= 1, __func__, "no place for its advice");
  trace(__func__, problem.o.epilogue);
  *count = 0;
  bool fused = problem.o.epilogue != CUBLASLT_EPILOGUE_DEFAULT;
  if (faulty(__func__, "refuses") || (fused && problem.d.type == MOON_F64))
    return CUBLAS_STATUS_NOT_SUPPORTED;   // so that double's products are finished elsewhere
  if (made.workspace > p->workspace) made.workspace = 0;   // one that sums in one piece
  memset(results, 0, sizeof *results);
  memcpy(&results->algo, &made, sizeof made);
  results->workspaceSize = made.workspace;
  results->state = CUBLAS_STATUS_SUCCESS;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

STAND_IN cublasStatus_t cublasLtMatmul(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t o, const void *alpha, const void *a,
    cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
    const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
    cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace,
    size_t bytes, cudaStream_t on) {
  const problem p = problem_of(__func__, o, a_layout, b_layout, c_layout, d_layout);
  algorithm given;
  need(handle && algo && c == d, __func__, "no handle or algorithm, or another C than D");
  trace(__func__, p.o.epilogue);
  memcpy(&given, algo, sizeof given);
  algorithm own = algorithm_for(p, given.alignment);
  own.workspace = given.workspace;
  need(memcmp(&own, &given, sizeof own) == 0, __func__, "an algorithm of another problem");
  check_matrix(__func__, on, p.a, a, given.alignment[0]);
  check_matrix(__func__, on, p.b, b, given.alignment[1]);
  check_matrix(__func__, on, p.d, d, given.alignment[2]);
  need_workspace(on, __func__, workspace, bytes, given.workspace);
  if (p.o.epilogue & CUBLASLT_EPILOGUE_BIAS)
    need(on->owns(p.o.bias, (size_t)p.m * dtype_size(p.d.type)), __func__,
         "a bias that is not the device's");
  if (faulty(__func__, "refuses")) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (faulty(__func__, "fails")) return CUBLAS_STATUS_EXECUTION_FAILED;
  const bool wide = p.o.scale == CUDA_R_64F;
  const double factor = wide ? *(const double *)alpha : (double)*(const float *)alpha;
  const double kept = wide ? *(const double *)beta : (double)*(const float *)beta;
  on->put([=] {
    if (bytes > 0) memset(workspace, 0x5A, bytes);
    multiply(p, factor, a, b, kept, d);
    return 0;
  });
  return CUBLAS_STATUS_SUCCESS;
}
