// Convolutions of volumes (n, c, d, h, w) and their adjoints, as steps of formulas.
#ifndef MOON_OPS_VOLUMES_H
#define MOON_OPS_VOLUMES_H

#include "ops/convolution.h"

// In one go where the device offers it (convolution_volumes.c), else by planes. g->output has the
// sizes of what is made.
moon_tensor *volumes_convolve(compose *c, moon_tensor *x, moon_tensor *w, op_value bias,
                              const convolution_geometry *g);
// gradient (n, out channels, d, h, w) -> the image's
moon_tensor *volumes_spread(compose *c, moon_tensor *gradient, moon_tensor *w,
                            const convolution_geometry *g);

// -- by planes: as convolutions of two dimensions (volumes.c)

moon_tensor *volumes_planes(compose *c, moon_tensor *x, moon_tensor *w, op_value bias,
                            const convolution_geometry *g);
moon_tensor *volumes_planes_input(compose *c, moon_tensor *gradient, moon_tensor *w,
                                  const convolution_geometry *g);
// The weight's gradient, of type `dtype`.
moon_tensor *volumes_planes_weight(compose *c, moon_tensor *gradient, moon_tensor *x,
                                   moon_dtype dtype, const convolution_geometry *g);

#endif
