// The routines of LAPACK that the decompositions stand on, from liblapacke, opened on first need.
// Matrices are column-major there. One set of addresses a type; arrays are of that type.
#ifndef MOON_CPU_LAPACK_H
#define MOON_CPU_LAPACK_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/status.h"

enum { LAPACK_COLUMNS = 102 };   // LAPACKE's name for column-major

// All give LAPACK's info: 0, or what the routine says. work_count -1 asks for the room it wants,
// which comes back in work[0].
typedef struct lapack_routines {
  int32_t (*getrf_work)(int layout, int32_t m, int32_t n, void *a, int32_t lda, int32_t *pivots);
  int32_t (*getrs_work)(int layout, char trans, int32_t n, int32_t columns, const void *a,
                        int32_t lda, const int32_t *pivots, void *b, int32_t ldb);
  int32_t (*trtrs_work)(int layout, char uplo, char trans, char diagonal, int32_t n,
                        int32_t columns, const void *a, int32_t lda, void *b, int32_t ldb);
  int32_t (*potrf_work)(int layout, char uplo, int32_t n, void *a, int32_t lda);
  int32_t (*geqrf_work)(int layout, int32_t m, int32_t n, void *a, int32_t lda, void *tau,
                        void *work, int32_t work_count);
  int32_t (*orgqr_work)(int layout, int32_t m, int32_t n, int32_t k, void *a, int32_t lda,
                        const void *tau, void *work, int32_t work_count);
  int32_t (*gesdd_work)(int layout, char job, int32_t m, int32_t n, void *a, int32_t lda, void *s,
                        void *u, int32_t ldu, void *vt, int32_t ldvt, void *work,
                        int32_t work_count, int32_t *whole);
  int32_t (*syevd_work)(int layout, char job, char uplo, int32_t n, void *a, int32_t lda,
                        void *values, void *work, int32_t work_count, int32_t *whole,
                        int32_t whole_count);
} lapack_routines;

// For MOON_F32 or MOON_F64; fails with a sentence that names the package where it is missing.
MOON_MUST_CHECK moon_status lapack_open(moon_dtype dtype, const lapack_routines **routines);

#endif
