// Rows of any float type to and from the compute types, for packing and storing.
#ifndef MOON_CPU_CONVERT_H
#define MOON_CPU_CONVERT_H

#include "cpu/cpu.h"

// target[i] = source[i * stride], from float32, float16 or bfloat16.
void CPU(convert_to_f32)(moon_dtype dtype, const void *source, int64_t stride, int64_t count,
                         float *target);
// target[i * stride] = source[i], rounded to nearest even.
void CPU(convert_from_f32)(moon_dtype dtype, const float *source, int64_t count, void *target,
                           int64_t stride);

#endif
