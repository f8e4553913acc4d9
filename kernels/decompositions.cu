// Decompositions and what they solve, on the host: the matrices come down, the CPU's kernels
// (LAPACK) do the work, the results go up. What users factor is small and comes in stacks, where
// the CPU is no slower than a GPU that the next pivot keeps waiting; the copies are what a call
// costs, and it waits for all work that was started before. Large single matrices would be
// better served by cuSOLVER.
#include <stdlib.h>

#include "context.cuh"

// -- one array on the host, row-major, while it is worked on there

static device_array row_major(const device_array *x) {
  device_array same = {};
  int64_t stride = 1;
  same.dtype = x->dtype;
  same.ndim = x->ndim;
  for (int i = x->ndim - 1; i >= 0; i--) {
    same.shape[i] = x->shape[i];
    same.strides[i] = stride;
    stride *= x->shape[i];
  }
  return same;
}

static size_t bytes_of(const device_array *x) {
  return (size_t)array_count(x) * dtype_size(x->dtype);
}

class host_copy {
 public:
  host_copy() = default;
  ~host_copy() { free(array_.data); }
  host_copy(const host_copy &) = delete;
  host_copy &operator=(const host_copy &) = delete;

  // Room for `x`, which may be NULL, on the host.
  moon_status open(const device_array *x) {
    there_ = x;
    if (!x) return MOON_OK;
    array_ = row_major(x);
    array_.data = malloc(bytes_of(x) + 1);
    if (!array_.data)
      return moon_fail(MOON_OUT_OF_MEMORY, "cuda: the host has no room for a copy of %lld "
                       "elements", (long long)array_count(x));
    return MOON_OK;
  }

  const device_array *array() const { return there_ ? &array_ : nullptr; }

  moon_status bring_down(cuda_context *c) {
    cuda_scratch scratch(c);
    device_array even = row_major(there_);
    even.data = there_->data;
    if (!array_is_contiguous(there_)) {
      MOON_TRY(scratch.take(bytes_of(&even)));
      even.data = scratch.as<void>();
      MOON_TRY(cuda_copy(c, there_, &even));
    }
    return cuda_download(c, even.data, array_.data, bytes_of(&even));
  }

  moon_status send_up(cuda_context *c) const {
    if (!there_) return MOON_OK;
    if (array_is_contiguous(there_))
      return cuda_upload(c, array_.data, there_->data, bytes_of(there_));
    cuda_scratch scratch(c);
    device_array even = array_;
    MOON_TRY(scratch.take(bytes_of(&even)));
    even.data = scratch.as<void>();
    MOON_TRY(cuda_upload(c, array_.data, even.data, bytes_of(&even)));
    return cuda_copy(c, &even, there_);
  }

 private:
  const device_array *there_ = nullptr;
  device_array array_ = {};
};

// Calls call(cpu's kernels, host arrays), the arrays being those of `in`, then those of `out`.
template <int INS, int OUTS, typename Call>
static moon_status on_host(cuda_context *c, const device_array *const (&in)[INS],
                           const device_array *const (&out)[OUTS], Call call) {
  host_copy copies[INS + OUTS];
  const device_array *arrays[INS + OUTS];
  for (int i = 0; i < INS; i++) {
    MOON_TRY(copies[i].open(in[i]));
    MOON_TRY(copies[i].bring_down(c));
  }
  for (int i = 0; i < OUTS; i++) MOON_TRY(copies[INS + i].open(out[i]));
  for (int i = 0; i < INS + OUTS; i++) arrays[i] = copies[i].array();
  MOON_TRY(call(cuda_library->cpu(), arrays));
  for (int i = 0; i < OUTS; i++) MOON_TRY(copies[INS + i].send_up(c));
  return MOON_OK;
}

typedef const device_array *const *host_arrays;

// -- the slots

moon_status cuda_solve(cuda_context *c, const device_array *a, const device_array *b,
                       const device_array *out, const device_array *info) {
  return on_host(c, { a, b }, { out, info }, [&](const device_kernels *cpu, host_arrays h) {
    return cpu->solve(c->engine, h[0], h[1], h[2], h[3]);
  });
}

moon_status cuda_solve_triangular(cuda_context *c, bool upper, bool unit, const device_array *a,
                                  const device_array *b, const device_array *out,
                                  const device_array *info) {
  return on_host(c, { a, b }, { out, info }, [&](const device_kernels *cpu, host_arrays h) {
    return cpu->solve_triangular(c->engine, upper, unit, h[0], h[1], h[2], h[3]);
  });
}

moon_status cuda_determinant(cuda_context *c, const device_array *a, const device_array *det,
                             const device_array *sign, const device_array *logarithm) {
  return on_host(c, { a }, { det, sign, logarithm },
                 [&](const device_kernels *cpu, host_arrays h) {
    return cpu->determinant(c->engine, h[0], h[1], h[2], h[3]);
  });
}

moon_status cuda_cholesky(cuda_context *c, const device_array *x, const device_array *out,
                          const device_array *info) {
  return on_host(c, { x }, { out, info }, [&](const device_kernels *cpu, host_arrays h) {
    return cpu->cholesky(c->engine, h[0], h[1], h[2]);
  });
}

moon_status cuda_qr(cuda_context *c, const device_array *x, const device_array *q,
                    const device_array *r) {
  return on_host(c, { x }, { q, r }, [&](const device_kernels *cpu, host_arrays h) {
    return cpu->qr(c->engine, h[0], h[1], h[2]);
  });
}

moon_status cuda_svd(cuda_context *c, const device_array *x, const device_array *u,
                     const device_array *s, const device_array *vh, const device_array *info) {
  return on_host(c, { x }, { u, s, vh, info }, [&](const device_kernels *cpu, host_arrays h) {
    return cpu->svd(c->engine, h[0], h[1], h[2], h[3], h[4]);
  });
}

moon_status cuda_eigh(cuda_context *c, const device_array *x, const device_array *values,
                      const device_array *vectors, const device_array *info) {
  return on_host(c, { x }, { values, vectors, info },
                 [&](const device_kernels *cpu, host_arrays h) {
    return cpu->eigh(c->engine, h[0], h[1], h[2], h[3]);
  });
}
