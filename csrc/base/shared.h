// MOON_SHARED: how a function is declared that gcc and nvcc both compile, for the CPU and the GPU.
#ifndef MOON_BASE_SHARED_H
#define MOON_BASE_SHARED_H

#if defined(__CUDACC__)
#define MOON_SHARED static inline __host__ __device__
#else
#define MOON_SHARED static inline
#endif

#endif
