// The width of a vector register for the instruction set a file is compiled for.
#ifndef MOON_CPU_LANE_BYTES_H
#define MOON_CPU_LANE_BYTES_H

#if defined(__AVX512F__)
#define LANE_BYTES 64
#elif defined(__AVX2__)
#define LANE_BYTES 32
#else
#define LANE_BYTES 16
#endif

#endif
