// The slots of what other devices' libraries do in one go: the CPU offers none of it, and operators
// are formulas of the other slots here.
#include "cpu/cpu.h"

moon_status CPU(conv3d_offered)(moon_engine *engine, int direction,
                                const conv3d_geometry *geometry, const device_array *image,
                                const device_array *weight, const device_array *result,
                                bool *offered) {
  (void)engine;
  (void)direction;
  (void)geometry;
  (void)image;
  (void)weight;
  (void)result;
  *offered = false;
  return MOON_OK;
}

moon_status CPU(conv3d)(moon_engine *engine, int direction, const conv3d_geometry *geometry,
                        const device_array *image, const device_array *weight,
                        const device_array *result, const device_array *bias, bool *done) {
  (void)engine;
  (void)direction;
  (void)geometry;
  (void)image;
  (void)weight;
  (void)result;
  (void)bias;
  *done = false;
  return MOON_OK;
}

moon_status CPU(recurrent_offered)(moon_engine *engine, const recurrent_options *options,
                                   bool *offered, int64_t *reserve) {
  (void)engine;
  (void)options;
  *offered = false;
  *reserve = 0;
  return MOON_OK;
}

moon_status CPU(recurrent_forward)(moon_engine *engine, const recurrent_options *options,
                                   const recurrent_arrays *arrays, bool *done) {
  (void)engine;
  (void)options;
  (void)arrays;
  *done = false;
  return MOON_OK;
}

moon_status CPU(recurrent_backward)(moon_engine *engine, const recurrent_options *options,
                                    const recurrent_arrays *arrays) {
  (void)engine;
  (void)options;
  (void)arrays;
  return moon_fail(MOON_UNSUPPORTED, "the CPU has no recurrent layer in one go");
}
