// Copying between two arrays whose elements follow each other along different dimensions, such as
// an image with its planes one after the other and one with its channels last.
#ifndef MOON_CPU_TRANSPOSE_H
#define MOON_CPU_TRANSPOSE_H

#include "cpu/cpu.h"

typedef struct transpose_job {
  cpu_walk walk;       // operand 0: out, 1: x; innermost runs along out
  size_t size;         // of an element
  char *target;
  const char *source;
  int across;          // the dimension along which x's elements follow each other
  int64_t rows, columns;   // of a tile: steps of `across`, of the innermost dimension
  int64_t down, along;     // how many tiles there are of each
} transpose_job;

// Sets job->across for job->walk; false where a copy row by row does as well.
bool CPU(transpose_fits)(transpose_job *job);
MOON_MUST_CHECK moon_status CPU(transpose)(moon_engine *engine, transpose_job *job);

#endif
