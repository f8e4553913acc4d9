// cuBLASLt behind the slot matmul. The library thinks in columns: row-major c = a b is for it c'
// = b' a', and a matrix whose rows (or columns) lie evenly is taken as it is; others are copied.
// Which kernel it takes is asked once a shape, and so are the descriptors made.
#include "libraries.cuh"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#define CUBLASLT_FUNCTIONS(F)                                                             \
  F(cublasLtGetVersion) F(cublasLtCreate) F(cublasLtDestroy) F(cublasLtMatmul)            \
  F(cublasLtMatmulDescCreate) F(cublasLtMatmulDescDestroy) F(cublasLtMatmulDescSetAttribute) \
  F(cublasLtMatrixLayoutCreate) F(cublasLtMatrixLayoutDestroy)                            \
  F(cublasLtMatrixLayoutSetAttribute) F(cublasLtMatmulPreferenceCreate)                   \
  F(cublasLtMatmulPreferenceDestroy) F(cublasLtMatmulPreferenceSetAttribute)              \
  F(cublasLtMatmulAlgoGetHeuristic) F(cublasLtGetStatusName)

struct cublaslt_functions {
#define F(name) decltype(&::name) name;
  CUBLASLT_FUNCTIONS(F)
#undef F
};

static cublaslt_functions lt;
static bool there;

bool cublaslt_open(cuda_library_state *found) {
  cuda_opening opening = cuda_library_begin(found, "cublasLt", CUBLAS_VER_MAJOR);
#define F(name) lt.name = (decltype(lt.name))cuda_library_function(&opening, #name);
  CUBLASLT_FUNCTIONS(F)
#undef F
  size_t version = opening.failed ? 0 : lt.cublasLtGetVersion();
  there = cuda_library_end(&opening, (int64_t)version, (int)(version / 10000), CUBLAS_VER_MAJOR);
  return there;
}

// -- plans

enum { PLANS = 512, MOST_ALIGNMENT = 256 };
static const int64_t most_workspace = 32 << 20;   // bytes; what NVIDIA advises for Hopper

// One operand as the library sees it. Compared byte by byte: no padding may be left unset.
struct lt_matrix {
  int64_t rows, columns, leading, batch_stride;   // columns are contiguous
  int32_t dtype, turned;
  int64_t alignment;
};

// d (columns first) = alpha * left right + beta * d; `left` is b, `right` is a.
struct lt_key {
  lt_matrix left, right, d;
  int64_t batch, workspace;
  int32_t compute, adds, epilogue, bias_alignment;
};

struct lt_plan {
  bool used, fits;
  lt_key key;
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t left, right, d;
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace;
};

struct cublaslt_state {
  cublasLtHandle_t handle;
  lt_plan plans[PLANS];
};

static void plan_end(lt_plan *plan) {
  if (plan->operation) lt.cublasLtMatmulDescDestroy(plan->operation);
  if (plan->left) lt.cublasLtMatrixLayoutDestroy(plan->left);
  if (plan->right) lt.cublasLtMatrixLayoutDestroy(plan->right);
  if (plan->d) lt.cublasLtMatrixLayoutDestroy(plan->d);
  *plan = lt_plan();
}

void cublaslt_close(cuda_context *c) {
  if (!c->cublaslt) return;
  for (int i = 0; i < PLANS; i++) plan_end(&c->cublaslt->plans[i]);
  lt.cublasLtDestroy(c->cublaslt->handle);
  free(c->cublaslt);
  c->cublaslt = nullptr;
}

// nullptr where the library cannot be used here.
static cublaslt_state *state_of(cuda_context *c) {
  if (c->cublaslt || !there) return c->cublaslt;
  cublaslt_state *made = (cublaslt_state *)calloc(1, sizeof *made);
  if (made && lt.cublasLtCreate(&made->handle) != CUBLAS_STATUS_SUCCESS) {
    free(made);
    made = nullptr;
  }
  return c->cublaslt = made;
}

static cudaDataType type_of(int32_t dtype) {
  switch (dtype) {
    case MOON_F64: return CUDA_R_64F;
    case MOON_F16: return CUDA_R_16F;
    case MOON_BF16: return CUDA_R_16BF;
    default: return CUDA_R_32F;
  }
}

// Each of these says whether the library agreed.
static bool make_layout(const lt_matrix &m, int64_t batch, cublasLtMatrixLayout_t *layout) {
  int32_t count = (int32_t)batch;
  return lt.cublasLtMatrixLayoutCreate(layout, type_of(m.dtype), (uint64_t)m.rows,
                                       (uint64_t)m.columns, m.leading) == CUBLAS_STATUS_SUCCESS &&
         lt.cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                             sizeof count) == CUBLAS_STATUS_SUCCESS &&
         lt.cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                             &m.batch_stride, sizeof m.batch_stride) ==
             CUBLAS_STATUS_SUCCESS;
}

static bool set_bias(cublasLtMatmulDesc_t operation, const void *bias) {
  return lt.cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                           sizeof bias) == CUBLAS_STATUS_SUCCESS;
}

static bool make_operation(const lt_key &key, const void *bias, cublasLtMatmulDesc_t *operation) {
  cublasOperation_t ways[2] = { key.left.turned ? CUBLAS_OP_T : CUBLAS_OP_N,
                                key.right.turned ? CUBLAS_OP_T : CUBLAS_OP_N };
  cudaDataType scale = key.d.dtype == MOON_F64 ? CUDA_R_64F : CUDA_R_32F;
  return lt.cublasLtMatmulDescCreate(operation, (cublasComputeType_t)key.compute, scale) ==
             CUBLAS_STATUS_SUCCESS &&
         lt.cublasLtMatmulDescSetAttribute(*operation, CUBLASLT_MATMUL_DESC_TRANSA, &ways[0],
                                           sizeof ways[0]) == CUBLAS_STATUS_SUCCESS &&
         lt.cublasLtMatmulDescSetAttribute(*operation, CUBLASLT_MATMUL_DESC_TRANSB, &ways[1],
                                           sizeof ways[1]) == CUBLAS_STATUS_SUCCESS &&
         lt.cublasLtMatmulDescSetAttribute(*operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                           &key.epilogue, sizeof key.epilogue) ==
             CUBLAS_STATUS_SUCCESS &&
         set_bias(*operation, bias);
}

// Sums of pieces of the depth are kept in the type of calculation, never in halves.
static bool set_preference(const lt_key &key, cublasLtMatmulPreference_t preference) {
  const uint64_t workspace = (uint64_t)key.workspace;
  const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  const struct { cublasLtMatmulPreferenceAttributes_t name; int64_t alignment; } aligned[4] = {
    { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.left.alignment },
    { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.right.alignment },
    { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.d.alignment },
    { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.d.alignment },
  };
  bool agreed =
      lt.cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                              &workspace, sizeof workspace) ==
          CUBLAS_STATUS_SUCCESS &&
      lt.cublasLtMatmulPreferenceSetAttribute(preference,
                                              CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                              &reduction, sizeof reduction) ==
          CUBLAS_STATUS_SUCCESS;
  for (int i = 0; i < 4 && agreed; i++) {
    uint32_t bytes = (uint32_t)aligned[i].alignment;
    agreed = lt.cublasLtMatmulPreferenceSetAttribute(preference, aligned[i].name, &bytes,
                                                     sizeof bytes) == CUBLAS_STATUS_SUCCESS;
  }
  return agreed;
}

static bool choose_algorithm(cublasLtHandle_t handle, lt_plan *plan) {
  cublasLtMatmulPreference_t preference;
  cublasLtMatmulHeuristicResult_t best = {};
  int count = 0;
  if (lt.cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS) return false;
  bool found = set_preference(plan->key, preference) &&
               lt.cublasLtMatmulAlgoGetHeuristic(handle, plan->operation, plan->left, plan->right,
                                                 plan->d, plan->d, preference, 1, &best, &count) ==
                   CUBLAS_STATUS_SUCCESS;
  lt.cublasLtMatmulPreferenceDestroy(preference);
  plan->algorithm = best.algo;
  plan->workspace = best.workspaceSize;
  return found && count > 0 && best.state == CUBLAS_STATUS_SUCCESS;
}

// A plan that does not fit stays in its place, so that the library is not asked again. Where the
// bias lies tells the library how it is aligned; another may take its place in each run.
static lt_plan *plan_of(cublaslt_state *state, const lt_key &key, const void *bias) {
  lt_plan *plan = cuda_plan_find(state->plans, PLANS, key);
  if (plan->used && memcmp(&plan->key, &key, sizeof key) == 0) return plan;
  plan_end(plan);
  plan->used = true;
  memcpy(&plan->key, &key, sizeof key);
  plan->fits = make_layout(key.left, key.batch, &plan->left) &&
               make_layout(key.right, key.batch, &plan->right) &&
               make_layout(key.d, key.batch, &plan->d) &&
               make_operation(key, bias, &plan->operation) && choose_algorithm(state->handle, plan);
  return plan;
}

// -- the operands

static int64_t alignment_of(const void *data, int64_t batch_bytes) {
  uintptr_t bits = (uintptr_t)data | (uintptr_t)batch_bytes | MOST_ALIGNMENT;
  return (int64_t)(bits & (~bits + 1));
}

// Rows of the array are the library's columns. False where neither dimension is contiguous.
static bool see_matrix(const device_array *x, lt_matrix *m) {
  const int64_t r = x->shape[1], q = x->shape[2];
  int64_t row = r == 1 ? q : x->strides[1], column = q == 1 ? 1 : x->strides[2];
  m->dtype = x->dtype;
  m->batch_stride = x->shape[0] > 1 ? x->strides[0] : 0;
  m->alignment = alignment_of(x->data, m->batch_stride * (int64_t)dtype_size(x->dtype));
  if (m->batch_stride < 0) return false;
  m->turned = false;
  m->rows = q, m->columns = r, m->leading = row;
  if (column == 1 && row >= q) return true;
  row = r == 1 ? 1 : x->strides[1], column = q == 1 ? r : x->strides[2];
  m->turned = true;
  m->rows = r, m->columns = q, m->leading = column;
  return row == 1 && column >= r;
}

// An operand in a form that the library takes and of type `dtype`: itself, or a row-major copy, of
// one matrix where all of a stack are the same.
struct lt_operand {
  explicit lt_operand(cuda_context *c) : scratch(c) {}
  cuda_scratch scratch;
  device_array array;
  lt_matrix matrix;
};

static moon_status take_operand(cuda_context *c, const device_array *x, moon_dtype dtype,
                                lt_operand *taken) {
  taken->array = *x;
  memset(&taken->matrix, 0, sizeof taken->matrix);
  if (x->dtype == dtype && see_matrix(x, &taken->matrix)) return MOON_OK;
  device_array from = *x, *copy = &taken->array;
  if (from.strides[0] == 0) from.shape[0] = 1;
  copy->dtype = dtype;
  copy->shape[0] = from.shape[0];
  copy->strides[2] = 1;
  copy->strides[1] = x->shape[2];
  copy->strides[0] = x->shape[1] * x->shape[2];
  MOON_TRY(taken->scratch.take((size_t)array_count(copy) * dtype_size(dtype)));
  copy->data = taken->scratch.as<void>();
  MOON_TRY(cuda_copy(c, &from, copy));
  (void)see_matrix(copy, &taken->matrix);
  return MOON_OK;
}

static cublasComputeType_t compute_of(const cuda_context *c, const cuda_settings &settings,
                                      moon_dtype dtype) {
  if (dtype == MOON_F64) return CUBLAS_COMPUTE_64F;
  if (dtype == MOON_F32 && c->flags[CUDA_TF32] && !settings.precise)
    return CUBLAS_COMPUTE_32F_FAST_TF32;
  return CUBLAS_COMPUTE_32F;
}

// The type that both operands are multiplied in: the half type where one meets float32, which is a
// parameter of mixed precision then. Sums of halves may stay float32.
static bool common_type(const cuda_settings &settings, const device_array *a,
                        const device_array *b, const device_array *out, moon_dtype *dtype) {
  const bool same = a->dtype == b->dtype;
  *dtype = dtype_is_half(a->dtype) ? a->dtype : b->dtype;
  const bool met = dtype_is_half(*dtype) && (a->dtype == MOON_F32 || b->dtype == MOON_F32);
  if (!same && (!met || settings.precise)) return false;
  return out->dtype == *dtype || (dtype_is_half(*dtype) && out->dtype == MOON_F32);
}

// -- the epilogue: what the library does on the way out

static int32_t epilogue_of(const matmul_finish *finish) {
  bool relu = finish->low == 0 && finish->high == INFINITY;
  if (finish->shift) return relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  return relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

// Takes out of `finish` what an epilogue does.
static void leave_rest(int32_t epilogue, matmul_finish *finish) {
  if (epilogue & CUBLASLT_EPILOGUE_BIAS) finish->shift = nullptr;
  if (epilogue & CUBLASLT_EPILOGUE_RELU) finish->low = -INFINITY;
}

// The bias as the library takes it, without gaps and of the result's type: itself, or a copy.
static moon_status take_bias(cuda_context *c, const device_array *shift, moon_dtype dtype,
                             cuda_scratch *scratch, const void **bias) {
  *bias = shift ? shift->data : nullptr;
  if (!shift || (shift->dtype == dtype && shift->strides[0] == 1)) return MOON_OK;
  device_array copy = *shift;
  copy.dtype = dtype;
  copy.strides[0] = 1;
  MOON_TRY(scratch->take((size_t)copy.shape[0] * dtype_size(dtype)));
  *bias = copy.data = scratch->as<void>();
  return cuda_copy(c, shift, &copy);
}

// With the epilogue where the library has an algorithm for that, else without.
static lt_plan *plan_with_epilogue(cublaslt_state *state, lt_key *key, const void *bias) {
  key->bias_alignment = (int32_t)alignment_of(bias, 0);
  lt_plan *plan = plan_of(state, *key, bias);
  if (plan->fits || key->epilogue == CUBLASLT_EPILOGUE_DEFAULT) return plan;
  key->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  key->bias_alignment = (int32_t)alignment_of(nullptr, 0);
  return plan_of(state, *key, nullptr);
}

// -- the entry

struct lt_arrays { const void *left, *right, *bias; void *d; };

static moon_status run_plan(cuda_context *c, const lt_plan *plan, double alpha, double beta,
                            const lt_arrays &x, bool *done) {
  cuda_scratch workspace(c);
  const float alpha_single = (float)alpha, beta_single = (float)beta;
  bool wide = plan->key.d.dtype == MOON_F64;
  if ((plan->key.epilogue & CUBLASLT_EPILOGUE_BIAS) && !set_bias(plan->operation, x.bias))
    return MOON_OK;
  MOON_TRY(workspace.take(plan->workspace));
  cublasStatus_t status = lt.cublasLtMatmul(
      c->cublaslt->handle, plan->operation, wide ? (const void *)&alpha : &alpha_single, x.left,
      plan->left, x.right, plan->right, wide ? (const void *)&beta : &beta_single, x.d, plan->d,
      x.d, plan->d, &plan->algorithm, workspace.as<void>(), plan->workspace, c->stream);
  if (status != CUBLAS_STATUS_SUCCESS && status != CUBLAS_STATUS_NOT_SUPPORTED)
    return cuda_library_failed(c, "cublasLtMatmul", lt.cublasLtGetStatusName(status));
  *done = status == CUBLAS_STATUS_SUCCESS;
  if (*done) cuda_library->chose(c->engine, "cublaslt");
  return MOON_OK;
}

moon_status cublaslt_matmul(cuda_context *c, double alpha, const device_array *a,
                            const device_array *b, double beta, matmul_finish *finish,
                            const device_array *out, bool *done) {
  cublaslt_state *state = state_of(c);
  cuda_settings settings = cuda_library->settings(c->engine);
  moon_dtype dtype;
  lt_key key;
  lt_arrays arrays = {};
  *done = false;
  memset(&key, 0, sizeof key);
  bool empty = array_count(out) == 0 || a->shape[2] == 0 || out->shape[0] > INT32_MAX;
  if (!state || empty || !common_type(settings, a, b, out, &dtype)) return MOON_OK;
  if (!see_matrix(out, &key.d) || key.d.turned) return MOON_OK;
  lt_operand left(c), right(c);
  cuda_scratch bias(c);
  MOON_TRY(take_operand(c, b, dtype, &left));
  MOON_TRY(take_operand(c, a, dtype, &right));
  MOON_TRY(take_bias(c, finish->shift, out->dtype, &bias, &arrays.bias));
  key.left = left.matrix;
  key.right = right.matrix;
  key.batch = out->shape[0];
  key.workspace = settings.workspace_limit;
  if (key.workspace > most_workspace) key.workspace = most_workspace;
  key.compute = compute_of(c, settings, dtype);
  key.adds = beta != 0;
  key.epilogue = epilogue_of(finish);
  lt_plan *plan = plan_with_epilogue(state, &key, arrays.bias);
  if (!plan->fits) return MOON_OK;
  arrays.left = left.array.data, arrays.right = right.array.data, arrays.d = out->data;
  MOON_TRY(run_plan(c, plan, alpha, beta, arrays, done));
  if (*done) leave_rest(key.epilogue, finish);
  return MOON_OK;
}
