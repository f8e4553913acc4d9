// The devices there are, and how they are found: the CPU, "meta" (shapes alone) and, where its
// plug-in can be opened, CUDA's. What a device is stands in slots.h.
#ifndef MOON_DEVICE_DEVICE_H
#define MOON_DEVICE_DEVICE_H

#include "base/engine.h"
#include "device/slots.h"

// The CPU, with the kernels of the best instruction set this machine has.
const moon_device *device_cpu(void);

// Shapes without elements; see meta.c.
const moon_device *device_meta(void);

// Where tensors are made that nobody names a device for: the engine's default, else the CPU.
static inline const moon_device *device_default(const moon_engine *engine) {
  return engine->default_device ? engine->default_device : device_cpu();
}

// Finds "cpu", "meta", "cuda", "cuda:1"; fails with a sentence that says what is missing.
MOON_MUST_CHECK moon_status device_by_name(const char *name, const moon_device **device);

#endif
