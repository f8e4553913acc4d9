// All operators: families of descriptors, parsed once for the process.
#ifndef MOON_OPS_REGISTRY_H
#define MOON_OPS_REGISTRY_H

#include "autograd/op.h"

// Parses every schema; safe to call from any thread, does its work once.
MOON_MUST_CHECK moon_status ops_open(void);
int ops_count(void);
op_descriptor *ops_at(int index);
op_descriptor *ops_find(const char *name);   // NULL if there is none

#endif
