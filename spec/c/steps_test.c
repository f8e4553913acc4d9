// csrc/cpu/steps.c: the two commonest optimiser steps against their rules in double, over random
// sizes and dtypes, two parameters at a time, for every instruction set.
#include "cpu_expected.h"

// Runs a rule over the arrays in two items, as if they were two parameters.
static void step_in_two(int rule, const step_options *o, const device_array *p,
                        const device_array *g, const device_array *const *states) {
  int64_t count = p->shape[0], cut = count / 3, size = (int64_t)dtype_size(p->dtype);
  step_item items[2];
  for (int i = 0; i < 2; i++) {
    int64_t at = i * cut * size;
    items[i] = (step_item){ .count = i == 0 ? cut : count - cut, .parameter = (char *)p->data + at,
                            .gradient = (char *)g->data + at };
    for (int s = 0; s < STEP_STATES; s++)
      if (states[s]) items[i].states[s] = (char *)states[s]->data + at;
  }
  EXPECT_OK(kernels->step(engine, rule, o, p->dtype, 2, items));
}

static void check_sgd(moon_dtype dtype, int64_t count) {
  double lr = 0.1, momentum = draw(0, 1) ? 0.9 : 0.5, dampening = draw(0, 1) ? 0.25 : 0;
  double decay = draw(0, 1) ? 0.01 : 0;
  bool nesterov = draw(0, 1), buffered = draw(0, 2) > 0;
  device_array p = random_array(dtype, 1, &count, CONTIGUOUS, -1, 1);
  device_array m = make(dtype, 1, &count, CONTIGUOUS);
  const device_array *states[STEP_STATES] = { buffered ? &m : NULL };
  if (count > 0) put(&m, 0, (double)NAN);   // the first step does not read it
  for (int step = 0; step < 3; step++) {
    bool anew = step == 0 || !buffered;
    step_options o = { .sign = 1, .decay = decay, .keep = 1, .rate = lr,
                       .beta1 = anew ? 0 : momentum, .scale = anew ? 1 : 1 - dampening,
                       .blend = nesterov && buffered ? momentum : 0 };
    device_array g = random_array(dtype, 1, &count, CONTIGUOUS, -1, 1);
    expected e_p = expect_new(&p), e_m = expect_new(&m);
    for (int64_t i = 0; i < count; i++) {
      double d = get(&g, i) + decay * get(&p, i), used = d;
      double mean = step == 0 ? d : momentum * get(&m, i) + (1 - dampening) * d;
      if (buffered) used = nesterov ? d + momentum * mean : mean;
      expect_term(&e_m, i, mean);
      expect_term(&e_p, i, get(&p, i) - lr * used);
      e_p.size[i] += 1;
      e_m.size[i] += 1;
    }
    step_in_two(STEP_sgd, &o, &p, &g, states);
    expect_equal(&p, &e_p, 8, "sgd parameter");
    if (buffered) expect_equal(&m, &e_m, 8, "sgd momentum");
  }
}

static void check_adam(moon_dtype dtype, int64_t count) {
  double lr = 0.01, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-3, decay = draw(0, 1) ? 0.1 : 0;
  bool decoupled = draw(0, 1);
  device_array p = random_array(dtype, 1, &count, CONTIGUOUS, -1, 1);
  device_array m = make(dtype, 1, &count, CONTIGUOUS), v = make(dtype, 1, &count, CONTIGUOUS);
  const device_array *states[STEP_STATES] = { &m, &v };
  for (int step = 1; step <= 3; step++) {
    double correction1 = 1 - pow(beta1, step), correction2 = 1 - pow(beta2, step);
    step_options o = { .sign = 1, .decay = decoupled ? 0 : decay,
                       .keep = decoupled ? 1 - lr * decay : 1, .rate = lr / correction1,
                       .beta1 = beta1, .beta2 = beta2, .epsilon = epsilon,
                       .scale = 1 / sqrt(correction2) };
    device_array g = random_array(dtype, 1, &count, CONTIGUOUS, -1, 1);
    expected e_p = expect_new(&p), e_m = expect_new(&m), e_v = expect_new(&v);
    for (int64_t i = 0; i < count; i++) {
      double x = get(&p, i), d = get(&g, i);
      if (decoupled) x -= lr * decay * x;
      else d += decay * x;
      double mean = beta1 * get(&m, i) + (1 - beta1) * d;
      double square = beta2 * get(&v, i) + (1 - beta2) * d * d;
      expect_term(&e_m, i, mean);
      expect_term(&e_v, i, square);
      expect_term(&e_p, i, x - lr * (mean / correction1) / (sqrt(square / correction2) + epsilon));
      e_p.size[i] += 1;
      e_m.size[i] += 1;
      e_v.size[i] += 1;
    }
    step_in_two(STEP_adam, &o, &p, &g, states);
    expect_equal(&p, &e_p, 8, "adam parameter");
    expect_equal(&m, &e_m, 8, "adam first moment");
    expect_equal(&v, &e_v, 8, "adam second moment");
  }
}

static void optimizers(void) {
  for (int i = 0; i < 40; i++) {
    moon_dtype dtype = floats[draw(0, 3)];
    int64_t count = i == 0 ? 0 : i == 1 ? 40000 : draw(1, 1200);
    check_sgd(dtype, count);
    check_adam(dtype, count);
    arena_used = 0;
  }
}

int main(void) {
  if (engine_new(&engine) != MOON_OK) return 2;
  each_level("optimiser steps follow their rules", optimizers);
  engine_release(engine);
  free(arena);
  return check_result();
}
