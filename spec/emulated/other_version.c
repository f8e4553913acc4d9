// A CUDA plug-in as one of another version of moonlet would be: nothing of it may be run.
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED const int moonlet_cuda_border = 1;

EXPORTED void moonlet_cuda_open(void);
void moonlet_cuda_open(void) { abort(); }
