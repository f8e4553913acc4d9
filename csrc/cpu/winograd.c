// The Winograd engines: a row for each form, and what it costs.
#include "cpu/winograd.h"

#include <math.h>

static bool fits(const moon_engine *engine, const conv_problem *p, const winograd_form *form) {
  return !engine->precise && p->image->dtype == MOON_F32 && conv_is(p, form->taps, form->taps, 1);
}

// In the time of an implicit product's multiply-add: a multiply-add of components, a component of
// a channel of a tile, there or back, and a component of a weight. Components come from caches
// further away than registers. Fitted to layers of VGG, ResNet, GoogLeNet and AlexNet with one
// thread; most are met within a fifth.
typedef struct prices { double multiply, transform, weight; } prices;
static const prices convolving = { 1.4, 13, 17 }, differentiating = { 1.8, 13, 30 };

enum { FEW_TILES = 8 };   // fewer take as long

static double cost(const conv_problem *p, const winograd_form *form) {
  const device_array *grid = p->direction == CONV_BACKWARD_INPUT ? p->image : p->result;
  const prices *price = p->direction == CONV_BACKWARD_WEIGHT ? &differentiating : &convolving;
  const double groups = (double)p->geometry->groups, lanes = LANE_BYTES / sizeof(float);
  double tiles = (double)grid->shape[0];
  for (int axis = 2; axis < 4; axis++)
    tiles *= (double)((grid->shape[axis] + form->outputs - 1) / form->outputs);
  if (tiles < FEW_TILES) tiles = FEW_TILES;
  const double inputs = ceil((double)p->image->shape[1] / groups / lanes) * lanes;
  const double outputs = ceil((double)p->result->shape[1] / groups / lanes) * lanes;
  return groups * winograd_components(form) *
         (tiles * inputs * outputs * price->multiply +
          tiles * (inputs + outputs) * price->transform + inputs * outputs * price->weight);
}

static moon_status run(moon_engine *engine, const conv_problem *p, const winograd_form *form) {
  return p->direction == CONV_BACKWARD_WEIGHT ? CPU(winograd_differentiate)(engine, p, form)
                                              : CPU(winograd_convolve)(engine, p, form);
}

#define ENGINE(form)                                                               \
  static bool fits_##form(const moon_engine *engine, const conv_problem *p) {      \
    return fits(engine, p, &CPU(winograd_##form));                                 \
  }                                                                                \
  static double cost_##form(const conv_problem *p) {                               \
    return cost(p, &CPU(winograd_##form));                                         \
  }                                                                                \
  static moon_status run_##form(moon_engine *engine, const conv_problem *p) {      \
    return run(engine, p, &CPU(winograd_##form));                                  \
  }                                                                                \
  const conv_engine CPU(conv_winograd_##form) = { "winograd_" #form, fits_##form,  \
                                                  cost_##form, run_##form, NULL };
ENGINE(4x3)
ENGINE(2x3)
ENGINE(2x5)
