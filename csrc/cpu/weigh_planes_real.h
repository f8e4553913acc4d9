// Weighted sums over spans of two neighbouring dimensions at once, for one compute type: the rows
// that go into a row of the result are summed into a line, which stays in cache, and that line's
// columns into the result. Where columns are single elements a plan says how to take a vector of
// results' elements out of the line: for each tap two vectors of it and one shuffle. Included after
// weigh_real.h.
#include <string.h>

#include "base/alloc.h"

// One tap of LANES neighbouring results.
typedef struct weigh_vector {
  int64_t base;               // elements of the line are counted from here
  bool scattered;             // they do not lie within two vectors
  REAL weights[LANES];        // 0: no tap
  int32_t places[LANES];
} weigh_vector;
_Static_assert(sizeof(weigh_vector) <= WEIGH_VECTOR_BYTES, "plans have room for their vectors");

static void plan_vector(const weigh_job *job, int64_t first, int64_t tap, weigh_vector *vector) {
  int64_t low = INT64_MAX, high = 0;
  for (int64_t i = 0; i < LANES; i++) {
    int64_t at = first + i < job->count ? first + i : job->count - 1;
    bool given = first + i < job->count && tap < job->spans[2 * at + 1] - job->spans[2 * at];
    int64_t place = job->spans[2 * at] + (given ? tap : 0);
    vector->weights[i] = given ? (REAL)job->weights[at * job->taps + tap] : 0;
    vector->places[i] = (int32_t)place;
    if (place < low) low = place;
    if (place > high) high = place;
  }
  vector->base = low;
  vector->scattered = high - low >= 2 * LANES;
  for (int64_t i = 0; i < LANES; i++) vector->places[i] -= (int32_t)low;
}

moon_status CPU(NAME(weigh_plan))(void *context, int64_t first, int64_t last) {
  const weigh_planes_job *job = context;
  const weigh_job *across = &job->across;
  weigh_vector *next = job->plan;
  (void)first, (void)last;
  for (int64_t at = 0; at < across->count; at += LANES)
    for (int64_t tap = 0; tap < across->taps; tap++) plan_vector(across, at, tap, next++);
  return MOON_OK;
}

static inline lanes planned_elements(const weigh_vector *vector, const REAL *line) {
  const REAL *from = line + vector->base;
#if defined(__AVX2__)
  if (!vector->scattered) {
    lanes_bits places;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) places[i] = vector->places[i];
    return __builtin_shuffle(lanes_load(from), lanes_load(from + LANES), places);
  }
#endif
  REAL part[LANES];
  for (int i = 0; i < LANES; i++) part[i] = from[vector->places[i]];
  return lanes_load(part);
}

// The line's elements have room for two vectors behind them. A tap without weight is not counted:
// the element may be infinite.
static void weigh_line(const weigh_planes_job *job, const REAL *line, REAL *out) {
  const weigh_job *across = &job->across;
  const weigh_vector *next = job->plan;
  for (int64_t at = 0; at < across->count; at += LANES) {
    lanes sum = lanes_zero();
    for (int64_t tap = 0; tap < across->taps; tap++, next++) {
      lanes weight = lanes_load(next->weights);
      lanes_bits counts = weight != lanes_zero(), elements;
      elements = (lanes_bits)planned_elements(next, line);
      sum = lanes_fma(weight, (lanes)(elements & counts), sum);
    }
    expect_write(out + at);
    lanes_store_some(out + at, sum, across->count - at);
  }
}

static void weigh_pixels(const weigh_job *across, const REAL *line, REAL *out) {
  for (int64_t at = 0; at < across->count; at++) {
    int64_t low = across->spans[2 * at];
    weigh_row(line + low * across->inner, across->inner, across->weights + at * across->taps,
              across->spans[2 * at + 1] - low, out + at * across->inner);
  }
}

moon_status CPU(NAME(weigh_planes_rows))(void *context, int64_t first, int64_t last) {
  const weigh_planes_job *job = context;
  const weigh_job *across = &job->across;
  size_t bytes = (size_t)(job->down.inner + 2 * LANES) * sizeof(REAL);
  REAL *line;
  MOON_TRY(alloc_bytes(job->engine, bytes, (void **)&line));
  for (int i = 0; i < 2 * LANES; i++) line[job->down.inner + i] = 0;
  for (int64_t item = first; item < last; item++) {
    REAL *out = (REAL *)job->down.out + item * across->count * across->inner;
    weigh_item(&job->down, item, line);
    if (across->inner == 1) weigh_line(job, line, out);
    else weigh_pixels(across, line, out);
  }
  alloc_release(job->engine, line, bytes);
  return MOON_OK;
}
