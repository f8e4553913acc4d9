// Devices by their names.
#include <string.h>

#include "device/cuda.h"
#include "device/device.h"

moon_status device_by_name(const char *name, const moon_device **device) {
  if (strcmp(name, "cpu") == 0) *device = device_cpu();
  else if (strcmp(name, "meta") == 0) *device = device_meta();
  else if (strncmp(name, "cuda", 4) == 0 && (name[4] == 0 || name[4] == ':'))
    return cuda_by_name(name, device);
  else
    return moon_fail(MOON_BAD_DEVICE, "there is no device \"%s\"; the devices are \"cpu\", "
                     "\"cuda\" (\"cuda:1\" for another one) and \"meta\" (shapes alone)", name);
  return MOON_OK;
}
