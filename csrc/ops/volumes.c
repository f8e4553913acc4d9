// Convolutions of volumes as convolutions of planes. The depths that a kernel covers at one
// position are laid beside each other as channels, which is how the weight lies in memory already:
// one conv2d with kernel depth times the channels, or one of its gradients. That reads the input
// kernel depth / stride times over. In the input's gradient those channels are added up along the
// depth.
#include "ops/volumes.h"

// Of the two sides of a plane.
typedef struct plane_options { op_value stride, padding, dilation, groups; } plane_options;

static plane_options options_of(const convolution_geometry *g) {
  const int64_t pads[4] = { g->before[1], g->after[1], g->before[2], g->after[2] };
  return (plane_options){ .stride = op_ints(2, g->stride + 1), .padding = op_ints(4, pads),
                          .dilation = op_ints(2, g->dilation + 1), .groups = op_int(g->groups) };
}

// x (n, c, d, h, w) -> (n * output depth, c * kernel depth, h, w)
static moon_tensor *depths_as_channels(compose *c, moon_tensor *x, const convolution_geometry *g) {
  const int64_t before[3] = { g->before[0] }, after[3] = { g->after[0] };
  x = convolution_pad(c, x, 3, before, after);
  x = convolution_slide(c, x, 2, g->kernel[0], g->stride[0], g->dilation[0]);
  x = COMPOSE(c, permute, op_tensor(x), op_ints(6, (int64_t[]){ 0, 2, 1, 5, 3, 4 }));
  if (c->status != MOON_OK) return NULL;
  const int64_t *shape = x->shape;
  return compose_reshape(c, x, 4, (int64_t[]){ shape[0] * shape[1], shape[2] * shape[3], shape[4],
                                               shape[5] });
}

// x (n, c, d, h, w) -> (n * d, c, h, w)
static moon_tensor *depths_as_images(compose *c, moon_tensor *x) {
  const int64_t *s = x->shape;
  moon_tensor *moved = COMPOSE(c, transpose, op_tensor(x), op_int(1), op_int(2));
  return compose_reshape(c, moved, 4, (int64_t[]){ s[0] * s[2], s[1], s[3], s[4] });
}

// w (out channels, c / groups, d, h, w) -> (out channels, c / groups * d, h, w)
static moon_tensor *flat_weight(compose *c, moon_tensor *w) {
  const int64_t *s = w->shape;
  return compose_reshape(c, w, 4, (int64_t[]){ s[0], s[1] * s[2], s[3], s[4] });
}

moon_tensor *volumes_planes(compose *c, moon_tensor *x, moon_tensor *w, op_value bias,
                            const convolution_geometry *g) {
  const plane_options o = options_of(g);
  const int64_t planes[5] = { x->shape[0], g->output[0], w->shape[0], g->output[1],
                              g->output[2] };
  moon_tensor *y = depths_as_channels(c, x, g);
  y = COMPOSE(c, conv2d, op_tensor(y), op_tensor(flat_weight(c, w)), bias, o.stride, o.padding,
              o.dilation, o.groups);
  y = compose_reshape(c, y, 5, planes);
  y = COMPOSE(c, transpose, op_tensor(y), op_int(1), op_int(2));   // channels last, as before
  return compose_own(c, y);
}

// y (n, d, c, kernel depth, h, w) -> (n, c, output depth, h, w)
static moon_tensor *add_depths(compose *c, moon_tensor *y, const convolution_geometry *g) {
  const int64_t before[3] = { -g->before[0] }, after[3] = { -g->after[0] };
  y = COMPOSE(c, permute, op_tensor(y), op_ints(6, (int64_t[]){ 0, 2, 1, 4, 5, 3 }));
  y = convolution_gather(c, y, 2, g->before[0] + g->output[0] + g->after[0], g->stride[0],
                         g->dilation[0]);
  return convolution_pad(c, y, 3, before, after);
}

moon_tensor *volumes_planes_input(compose *c, moon_tensor *gradient, moon_tensor *w,
                                  const convolution_geometry *g) {
  const plane_options o = options_of(g);
  const int64_t spread[6] = { gradient->shape[0], gradient->shape[2], w->shape[1] * g->groups,
                              w->shape[2], g->output[1], g->output[2] };
  moon_tensor *y = depths_as_images(c, gradient);
  y = COMPOSE(c, conv2d_input_gradient, op_tensor(y), op_tensor(flat_weight(c, w)),
              op_int(g->output[1]), op_int(g->output[2]), o.stride, o.padding, o.dilation,
              o.groups);
  return add_depths(c, compose_reshape(c, y, 6, spread), g);
}

moon_tensor *volumes_planes_weight(compose *c, moon_tensor *gradient, moon_tensor *x,
                                   moon_dtype dtype, const convolution_geometry *g) {
  const plane_options o = options_of(g);
  const int64_t shape[5] = { gradient->shape[1], x->shape[1] / g->groups, g->kernel[0],
                             g->kernel[1], g->kernel[2] };
  moon_tensor *y = depths_as_images(c, gradient);
  moon_tensor *dw = COMPOSE(c, conv2d_weight_gradient, op_tensor(y),
                            op_tensor(depths_as_channels(c, x, g)), op_int(g->kernel[1]),
                            op_int(g->kernel[2]), o.stride, o.padding, o.dilation, o.groups,
                            op_dtype(dtype));
  return compose_own(c, compose_reshape(c, dw, 5, shape));
}
