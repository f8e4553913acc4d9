// Softmax and its logarithm along one dimension. A team of threads goes along each line twice, once
// for what it sums up and once to write; the second reading comes from the caches, so that both
// directions are bound by reading each input and writing the result once.
#include "exponentials.cuh"

// -- the result: exp(x - largest) / sum, or (x - largest) - log(sum)

enum { TO, FROM, GRADIENT, OPERANDS };   // backward TO is dx and FROM the result

template <typename S, int WIDTH>
static __global__ void __launch_bounds__(CUDA_MOST_THREADS)
softmax_lines(cuda_lines<OPERANDS> lines, bool log_wanted, const void *x, void *out) {
  typedef cuda_compute<S> T;
  cuda_team team(lines.across);
  for (cuda_line<OPERANDS> line(lines, team); line.within(lines, team); line.next(lines, team)) {
    cuda_exponentials<T> all = cuda_exponentials_of<S, WIDTH, FROM>(lines, team, line, x);
    T base = log_wanted ? log(all.sum) : 1 / all.sum;
    for (int64_t i = team.lane * WIDTH; i < line.size; i += team.lanes * WIDTH) {
      T values[WIDTH];
      cuda_load_wide<S, WIDTH>(x, line.find(lines, FROM, i), values);
      for (int v = 0; v < WIDTH; v++) {
        T below = values[v] - all.largest;
        values[v] = log_wanted ? below - base : exp(below) * base;
      }
      cuda_store_wide<S, WIDTH>(out, line.find(lines, TO, i), values);
    }
  }
}

// -- gradients: dx = y (g - sum of g y); of the logarithm dx = g - exp(y) * sum of g

template <typename S, int WIDTH>
static __global__ void __launch_bounds__(CUDA_MOST_THREADS)
softmax_back_lines(cuda_lines<OPERANDS> lines, bool log_wanted, const void *g, const void *y,
                   void *dx) {
  typedef cuda_compute<S> T;
  cuda_team team(lines.across);
  for (cuda_line<OPERANDS> line(lines, team); line.within(lines, team); line.next(lines, team)) {
    T sum = 0, gs[WIDTH], ys[WIDTH];
    for (int64_t i = team.lane * WIDTH; i < line.size; i += team.lanes * WIDTH) {
      cuda_load_wide<S, WIDTH>(g, line.find(lines, GRADIENT, i), gs);
      cuda_load_wide<S, WIDTH>(y, line.find(lines, FROM, i), ys);
      for (int v = 0; v < WIDTH; v++) sum += log_wanted ? gs[v] : gs[v] * ys[v];
    }
    sum = team.join(sum, cuda_sum());
    for (int64_t i = team.lane * WIDTH; i < line.size; i += team.lanes * WIDTH) {
      cuda_load_wide<S, WIDTH>(g, line.find(lines, GRADIENT, i), gs);
      cuda_load_wide<S, WIDTH>(y, line.find(lines, FROM, i), ys);
      for (int v = 0; v < WIDTH; v++)
        ys[v] = log_wanted ? gs[v] - exp(ys[v]) * sum : ys[v] * (gs[v] - sum);
      cuda_store_wide<S, WIDTH>(dx, line.find(lines, TO, i), ys);
    }
  }
}

// -- the slots

moon_status cuda_softmax_forward(cuda_context *c, bool log, int dim, const device_array *x,
                                 const device_array *out) {
  const device_array *arrays[OPERANDS] = { out, x, x };
  cuda_lines<OPERANDS> lines;
  if (array_count(x) == 0) return MOON_OK;
  cuda_lines_open(&lines, arrays, dim, OPERANDS);
  return cuda_with_float(x->dtype, [&](auto type) {
    return cuda_with_width(lines, [&](auto width) {
      return cuda_launch(c, lines.grid(), lines.block(), softmax_lines<decltype(type), width()>,
                         lines, log, x->data, out->data);
    });
  });
}

moon_status cuda_softmax_backward(cuda_context *c, bool log, int dim, const device_array *gradient,
                                  const device_array *out, const device_array *dx) {
  const device_array *arrays[OPERANDS] = { dx, out, gradient };
  cuda_lines<OPERANDS> lines;
  if (array_count(out) == 0) return MOON_OK;
  cuda_lines_open(&lines, arrays, dim, OPERANDS);
  return cuda_with_float(out->dtype, [&](auto type) {
    return cuda_with_width(lines, [&](auto width) {
      return cuda_launch(c, lines.grid(), lines.block(),
                         softmax_back_lines<decltype(type), width()>, lines, log,
                         gradient->data, out->data, dx->data);
    });
  });
}
