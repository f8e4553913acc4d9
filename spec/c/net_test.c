// csrc/cpu: products, convolutions, pooling, normalisation, softmax and cross entropy against naive
// computations in double, over random shapes, dtypes and layouts, for every instruction set; and
// the same bits with 1, 2 and 3 threads.
#include "cpu_expected.h"

static const conv2d_finish plain_finish = { .low = -INFINITY, .high = INFINITY };

static layout any_layout(void) {
  return draw(0, 2) == 0 ? (layout)draw(TRANSPOSED, NEGATIVE) : CONTIGUOUS;
}

// -- products

static void check_product(moon_dtype dtype, int64_t batch, int64_t m, int64_t n, int64_t k,
                          double alpha, double beta, bool plain) {
  int64_t a_shape[] = { batch, m, k }, b_shape[] = { batch, k, n }, c_shape[] = { batch, m, n };
  device_array a = random_array(dtype, 3, a_shape, plain ? CONTIGUOUS : any_layout(), -1, 1);
  device_array b = random_array(dtype, 3, b_shape,
                                plain ? CONTIGUOUS : (layout)draw(0, BROADCAST), -1, 1);
  device_array c = random_array(dtype, 3, c_shape, CONTIGUOUS, -1, 1);
  expected e = expect_new(&c);
  double *left = doubles_of(&a), *right = doubles_of(&b);
  for (int64_t i = 0; i < e.count; i++) {
    int64_t at = i / (m * n), row = i / n % m, column = i % n;
    if (beta != 0) expect_term(&e, i, beta * get(&c, i));
    for (int64_t p = 0; p < k; p++)
      expect_term(&e, i, alpha * left[(at * m + row) * k + p] * right[(at * k + p) * n + column]);
  }
  char what[128];
  snprintf(what, sizeof what, "%s product %lld x (%lld x %lld x %lld)", dtype_name(dtype),
           (long long)batch, (long long)m, (long long)k, (long long)n);
  if (beta == 0)   // what was there does not matter
    for (int64_t i = 0; i < e.count; i++) put(&c, i, (double)NAN);
  EXPECT_OK(kernels->matmul(engine, alpha, &a, &b, beta, NULL, &c));
  expect_equal(&c, &e, 4, what);
}

static void products(void) {
  for (int i = 0; i < 100; i++) {
    static const double factors[] = { 0, 1, -0.5 };
    check_product(floats[draw(0, 3)], draw(1, 3), draw(1, 40), draw(1, 120), draw(0, 70),
                  factors[draw(1, 2)], factors[draw(0, 2)], i % 2 == 0);
    arena_used = 0;
  }
  for (int d = 0; d < FLOATS; d++) {
    check_product(floats[d], 1, 203, 420, 270, 1, 0, false);    // several blocks each way
    check_product(floats[d], 1, 430, 7, 300, 1, 1, true);        // turned round
    check_product(floats[d], 2, 9, 33, 9000, 0.5, 0, true);     // depth in shares
    check_product(floats[d], 0, 3, 4, 5, 1, 0, true);
    check_product(floats[d], 2, 0, 4, 5, 1, 0, true);
    check_product(floats[d], 2, 3, 4, 0, 1, 0.5, true);
    arena_used = 0;
  }
}

// -- convolutions

typedef struct conv_case {
  conv2d_geometry geometry;
  int64_t x[4], weight[4], out[4];
} conv_case;

static bool conv_sizes(conv_case *c) {
  for (int axis = 0; axis < 2; axis++) {
    const conv2d_geometry *g = &c->geometry;
    int64_t room = c->x[2 + axis] + g->padding_before[axis] + g->padding_after[axis] -
                   g->dilation[axis] * (c->weight[2 + axis] - 1) - 1;
    if (room < 0) return false;
    c->out[2 + axis] = room / g->stride[axis] + 1;
  }
  c->out[0] = c->x[0];
  c->out[1] = c->weight[0];
  return true;
}

static conv_case draw_conv(void) {
  for (;;) {
    conv_case c;
    int64_t groups = draw(0, 2) == 0 ? draw(1, 4) : 1;
    bool depthwise = draw(0, 4) == 0;
    if (depthwise) groups = draw(2, 40);
    c.geometry.groups = groups;
    c.weight[1] = depthwise ? 1 : draw(1, draw(0, 1) ? 2 : 9);
    c.weight[0] = groups * draw(1, depthwise ? 2 : draw(0, 1) ? 3 : 18);
    c.x[0] = draw(0, 4);
    c.x[1] = groups * c.weight[1];
    bool simple = draw(0, 1) == 0;
    for (int axis = 0; axis < 2; axis++) {
      c.x[2 + axis] = draw(1, draw(0, 3) == 0 ? 40 : 12);
      c.weight[2 + axis] = draw(1, 4);
      c.geometry.stride[axis] = simple ? 1 : draw(1, 4);
      c.geometry.dilation[axis] = simple ? 1 : draw(1, 3);
      c.geometry.padding_before[axis] = draw(0, 3);
      c.geometry.padding_after[axis] = simple ? c.geometry.padding_before[axis] : draw(0, 3);
    }
    if (conv_sizes(&c)) return c;
  }
}

// What a convolution gave, judged by the sums' own sizes, or by the largest one's where a transform
// spreads rounding over all elements; Winograd's multiplies it as well.
static void expect_convolution(const device_array *got, const expected *e, const char *what) {
  double largest = 0;
  const char *used = engine->algorithms[0];
  bool winograd = used && strncmp(used, "winograd", 8) == 0;
  if (winograd || (used && strcmp(used, "fft") == 0))
    for (int64_t i = 0; i < e->count; i++) largest = fmax(largest, e->size[i]);
  for (int64_t i = 0; i < e->count; i++) e->size[i] = fmax(e->size[i], largest);
  expect_equal(got, e, winograd ? 16 : 4, what);
}

typedef void (*conv_term)(void *context, int64_t out, int64_t x, int64_t weight);

// Every (output, input, weight) triple that meets.
static void each_term(const conv_case *c, conv_term visit, void *context) {
  const conv2d_geometry *g = &c->geometry;
  const int64_t *x = c->x, *w = c->weight, *o = c->out;
  int64_t per_group = o[1] / g->groups;
  for (int64_t out = 0; out < o[0] * o[1] * o[2] * o[3]; out++) {
    int64_t column = out % o[3], row = out / o[3] % o[2], channel = out / (o[2] * o[3]) % o[1];
    int64_t image = out / (o[1] * o[2] * o[3]), group = channel / per_group;
    for (int64_t t = 0; t < w[1] * w[2] * w[3]; t++) {
      int64_t from = group * w[1] + t / (w[2] * w[3]);
      int64_t y = row * g->stride[0] - g->padding_before[0] + t / w[3] % w[2] * g->dilation[0];
      int64_t z = column * g->stride[1] - g->padding_before[1] + t % w[3] * g->dilation[1];
      if (y < 0 || y >= x[2] || z < 0 || z >= x[3]) continue;
      visit(context, out, ((image * x[1] + from) * x[2] + y) * x[3] + z,
            channel * w[1] * w[2] * w[3] + t);
    }
  }
}

typedef struct conv_sums {
  const double *x, *weight, *gradient;
  expected out, dx, dweight;
} conv_sums;

static void add_terms(void *context, int64_t out, int64_t x, int64_t weight) {
  conv_sums *s = context;
  double a = s->x[x], b = s->weight[weight], g = s->gradient[out];
  expect_term(&s->out, out, a * b);
  expect_term(&s->dx, x, g * b);
  expect_term(&s->dweight, weight, g * a);
}

static void check_conv(const conv_case *c, moon_dtype dtype, bool plain) {
  char what[256];
  const conv2d_geometry *g = &c->geometry;
  snprintf(what, sizeof what,
           "%s x %lld %lld %lld %lld w %lld %lld %lld %lld stride %lld %lld pad %lld %lld %lld "
           "%lld dilation %lld %lld groups %lld",
           dtype_name(dtype), (long long)c->x[0], (long long)c->x[1], (long long)c->x[2],
           (long long)c->x[3], (long long)c->weight[0], (long long)c->weight[1],
           (long long)c->weight[2], (long long)c->weight[3], (long long)g->stride[0],
           (long long)g->stride[1], (long long)g->padding_before[0],
           (long long)g->padding_before[1], (long long)g->padding_after[0],
           (long long)g->padding_after[1], (long long)g->dilation[0], (long long)g->dilation[1],
           (long long)g->groups);
  device_array x = random_array(dtype, 4, c->x, plain ? CONTIGUOUS : any_layout(), -1, 1);
  device_array w = random_array(dtype, 4, c->weight, plain ? CONTIGUOUS : any_layout(), -1, 1);
  device_array dy = random_array(dtype, 4, c->out, plain ? CONTIGUOUS : any_layout(), -1, 1);
  device_array bias = random_array(dtype, 1, c->out + 1, CONTIGUOUS, -1, 1);
  bool biased = draw(0, 1);
  conv2d_finish finish = plain_finish;
  if (biased) finish.shift = &bias;
  device_array out = make(dtype, 4, c->out, plain ? CONTIGUOUS : any_layout());
  device_array dx = make(dtype, 4, c->x, plain ? CONTIGUOUS : any_layout());
  device_array dw = make(dtype, 4, c->weight, plain ? CONTIGUOUS : any_layout());
  conv_sums s = { .x = doubles_of(&x), .weight = doubles_of(&w), .gradient = doubles_of(&dy),
                  .out = expect_new(&out), .dx = expect_new(&dx), .dweight = expect_new(&dw) };
  each_term(c, add_terms, &s);
  int64_t area = c->out[2] * c->out[3];
  for (int64_t i = 0; biased && i < s.out.count; i++)
    expect_term(&s.out, i, get(&bias, i / area % c->out[1]));
  EXPECT_OK(kernels->conv2d_forward(engine, g, &x, &w, &finish, &out));
  expect_convolution(&out, &s.out, what);
  EXPECT_OK(kernels->conv2d_backward_input(engine, g, &dy, &w, &dx));
  expect_convolution(&dx, &s.dx, what);
  EXPECT_OK(kernels->conv2d_backward_weight(engine, g, &dy, &x, &dw));
  expect_convolution(&dw, &s.dweight, what);
}

// Every engine wherever it fits, and the one that is chosen.
static const char *const conv_engines[] = {
  "", "implicit", "col2im", "planar", "depthwise", "fft", "winograd_4x3", "winograd_2x3",
  "winograd_2x5",
};
enum { CONV_ENGINES = sizeof conv_engines / sizeof *conv_engines };
#ifdef MOON_PLAIN_ALLOC
enum { CONV_ROUNDS = 20 };   // sanitizers take ten times as long
#else
enum { CONV_ROUNDS = 80 };
#endif

static void convolutions(void) {
  for (int i = 0; i < CONV_ENGINES * CONV_ROUNDS; i++) {
    strcpy(engine->conv_engine, conv_engines[i % CONV_ENGINES]);
    conv_case c = draw_conv();
    check_conv(&c, floats[draw(0, 2) == 0 ? draw(1, 3) : 0], draw(0, 1));
    arena_used = 0;
  }
  strcpy(engine->conv_engine, "");
}

// Shapes of real networks, small: one channel, 3 x 3 on planes of 1 to 32, 1 x 1, depthwise.
static void usual_convolutions(void) {
  static const int64_t shapes[][6] = {   // n, in, size, out, kernel, padding
    { 3, 1, 28, 32, 3, 0 }, { 2, 1, 32, 16, 3, 1 }, { 2, 16, 16, 32, 3, 1 },
    { 5, 20, 2, 40, 3, 1 }, { 5, 20, 4, 24, 3, 1 }, { 7, 33, 1, 17, 3, 1 },
    { 3, 24, 7, 40, 1, 0 }, { 2, 3, 30, 8, 7, 3 },  { 3, 17, 8, 16, 3, 1 },
  };
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
    for (int d = 0; d < FLOATS; d++) {
      const int64_t *s = shapes[i];
      conv_case c = { .geometry = { .stride = { 1, 1 }, .dilation = { 1, 1 }, .groups = 1 },
                      .x = { s[0], s[1], s[2], s[2] }, .weight = { s[3], s[1], s[4], s[4] } };
      for (int axis = 0; axis < 2; axis++)
        c.geometry.padding_before[axis] = c.geometry.padding_after[axis] = s[5];
      EXPECT(conv_sizes(&c));
      check_conv(&c, floats[d], true);
      arena_used = 0;
    }
}

// One image of a batch, a view.
static device_array image_of(const device_array *x, int64_t index) {
  device_array image = *x;
  image.shape[0] = 1;
  image.data = (char *)x->data + index * x->strides[0] * (int64_t)dtype_size(x->dtype);
  return image;
}

// Images so large that the batch goes through in chunks give what each alone gives.
static void large_images(void) {
  conv_case c = { .geometry = { .stride = { 1, 1 }, .dilation = { 1, 1 }, .groups = 1,
                                .padding_before = { 1, 1 }, .padding_after = { 1, 1 } },
                  .x = { 3, 2, 900, 1010 }, .weight = { 3, 2, 3, 3 } };
  EXPECT(conv_sizes(&c));
  const conv2d_geometry *g = &c.geometry;
  device_array x = random_array(MOON_F32, 4, c.x, CONTIGUOUS, 0.5, 1);
  device_array w = random_array(MOON_F32, 4, c.weight, CONTIGUOUS, 0.5, 1);
  device_array y = make(MOON_F32, 4, c.out, CONTIGUOUS), dx = make(MOON_F32, 4, c.x, CONTIGUOUS);
  device_array dw = make(MOON_F32, 4, c.weight, CONTIGUOUS);
  device_array part = make(MOON_F32, 4, c.weight, CONTIGUOUS);
  double sum[54] = { 0 };
  EXPECT_OK(kernels->conv2d_forward(engine, g, &x, &w, &plain_finish, &y));
  EXPECT_OK(kernels->conv2d_backward_input(engine, g, &y, &w, &dx));
  EXPECT_OK(kernels->conv2d_backward_weight(engine, g, &y, &x, &dw));
  for (int64_t i = 0; i < 3; i++) {
    device_array one = image_of(&x, i), out = image_of(&y, i), back = image_of(&dx, i);
    device_array alone = make(MOON_F32, 4, out.shape, CONTIGUOUS);
    device_array down = make(MOON_F32, 4, one.shape, CONTIGUOUS);
    EXPECT_OK(kernels->conv2d_forward(engine, g, &one, &w, &plain_finish, &alone));
    EXPECT(memcmp(alone.data, out.data, (size_t)array_count(&out) * sizeof(float)) == 0);
    EXPECT_OK(kernels->conv2d_backward_input(engine, g, &out, &w, &down));
    EXPECT(memcmp(down.data, back.data, (size_t)array_count(&back) * sizeof(float)) == 0);
    EXPECT_OK(kernels->conv2d_backward_weight(engine, g, &out, &one, &part));
    for (int64_t j = 0; j < 54; j++) sum[j] += get(&part, j);
  }
  for (int64_t j = 0; j < 54; j++) EXPECT(fabs(get(&dw, j) - sum[j]) <= 1e-5 * sum[j]);
}

// -- pooling

static void check_pool(moon_dtype dtype) {
  pool2d_geometry g = { .count_include_pad = draw(0, 1) };
  int64_t x_shape[4] = { draw(0, 3), draw(1, 5), 0, 0 }, out_shape[4];
  bool usual = draw(0, 2) == 0;
  out_shape[0] = x_shape[0];
  out_shape[1] = x_shape[1];
  for (int axis = 0; axis < 2; axis++) {
    g.kernel[axis] = usual ? 2 : draw(1, 4);
    g.stride[axis] = usual ? 2 : draw(1, 4);
    g.padding[axis] = usual ? 0 : draw(0, g.kernel[axis] / 2);
    g.dilation[axis] = 1;
    x_shape[2 + axis] = draw(g.kernel[axis], 40);
    int64_t room = x_shape[2 + axis] + 2 * g.padding[axis] - g.kernel[axis];
    bool ceiled = draw(0, 1);
    int64_t size = (room + (ceiled ? g.stride[axis] - 1 : 0)) / g.stride[axis] + 1;
    if (ceiled && (size - 1) * g.stride[axis] >= x_shape[2 + axis] + g.padding[axis]) size--;
    out_shape[2 + axis] = size;
  }
  device_array x = random_array(dtype, 4, x_shape, any_layout(), -1, 1);
  device_array dy = random_array(dtype, 4, out_shape, any_layout(), -1, 1);
  device_array out = make(dtype, 4, out_shape, any_layout());
  device_array average = make(dtype, 4, out_shape, CONTIGUOUS);
  device_array taken = make(MOON_U8, 4, out_shape, any_layout());
  device_array where = make(MOON_I64, 4, out_shape, any_layout());
  device_array dx = make(dtype, 4, x_shape, any_layout());
  device_array dx2 = make(dtype, 4, x_shape, CONTIGUOUS);
  if (array_count(&x) > 0 && draw(0, 1)) put(&x, draw(0, array_count(&x) - 1), (double)NAN);
  expected e_dx = expect_new(&dx), e_dx2 = expect_new(&dx2), e_average = expect_new(&average);
  EXPECT_OK(kernels->max_pool2d_forward(engine, &g, &x, &out, &taken));
  EXPECT_OK(kernels->max_pool2d_places(engine, &g, x_shape[3], &taken, &where));
  EXPECT_OK(kernels->avg_pool2d_forward(engine, &g, &x, &average));
  int64_t h = x_shape[2], w = x_shape[3], oh = out_shape[2], ow = out_shape[3];
  for (int64_t i = 0; i < array_count(&out); i++) {
    int64_t plane = i / (oh * ow), top = i / ow % oh * g.stride[0] - g.padding[0];
    int64_t left = i % ow * g.stride[1] - g.padding[1];
    int64_t bottom = (int64_t)fmin((double)(top + g.kernel[0]), (double)(h + g.padding[0]));
    int64_t right = (int64_t)fmin((double)(left + g.kernel[1]), (double)(w + g.padding[1]));
    double divisor = (double)((bottom - top) * (right - left)), inside = 0, best = -INFINITY;
    for (int64_t y = top; y < bottom; y++)
      for (int64_t z = left; z < right; z++)
        inside += y >= 0 && y < h && z >= 0 && z < w;
    if (!g.count_include_pad) divisor = inside;
    for (int64_t y = top; y < bottom; y++)
      for (int64_t z = left; z < right; z++) {
        if (y < 0 || y >= h || z < 0 || z >= w) continue;
        double value = get(&x, (plane * h + y) * w + z);
        if (value > best || value != value) best = value;
        expect_term(&e_average, i, value / divisor);
        expect_term(&e_dx2, (plane * h + y) * w + z, get(&dy, i) / divisor);
      }
    double got = get(&out, i);
    EXPECT(got == best || (got != got && best != best));
    int64_t at = get_int(&where, i);
    EXPECT(at >= 0 && at < h * w);
    double source = get(&x, plane * h * w + at);
    EXPECT(source == got || (source != source && got != got));
    EXPECT(at / w >= top && at / w < bottom && at % w >= left && at % w < right);
    expect_term(&e_dx, plane * h * w + at, get(&dy, i));
  }
  expect_equal(&average, &e_average, 8, "average pooling");
  EXPECT_OK(kernels->max_pool2d_backward(engine, &g, &dy, &taken, &dx));
  expect_equal(&dx, &e_dx, 8, "gradient of max pooling");
  EXPECT_OK(kernels->avg_pool2d_backward(engine, &g, &dy, &dx2));
  expect_equal(&dx2, &e_dx2, 8, "gradient of average pooling");
}

static void pools(void) {
  for (int i = 0; i < 100; i++) {
    check_pool(floats[draw(0, 3)]);
    arena_used = 0;
  }
}

// -- batch normalisation

typedef struct norm_stats { double mean, rstd, g, gx; } norm_stats;

static norm_stats channel_stats(const device_array *x, const device_array *dy, int64_t channel,
                                double epsilon) {
  int64_t c = x->shape[1], inner = x->shape[2], n = x->shape[0];
  norm_stats s = { 0 };
  double variance = 0, count = (double)(n * inner);
  for (int64_t i = 0; i < n * inner; i++)
    s.mean += get(x, (i / inner * c + channel) * inner + i % inner) / count;
  for (int64_t i = 0; i < n * inner; i++) {
    int64_t at = (i / inner * c + channel) * inner + i % inner;
    variance += (get(x, at) - s.mean) * (get(x, at) - s.mean) / count;
    s.g += get(dy, at);
    s.gx += get(dy, at) * (get(x, at) - s.mean);
  }
  s.rstd = 1 / sqrt(variance + epsilon);
  return s;
}

static void check_batch_norm(moon_dtype dtype) {
  int64_t shape[3] = { draw(1, 9), draw(1, 20), draw(0, 1) ? draw(1, 6) : draw(1, 400) };
  moon_dtype wide = dtype == MOON_F64 ? MOON_F64 : MOON_F32;
  double epsilon = 1e-3, count = (double)(shape[0] * shape[2]), offset = draw(0, 1) ? 30 : 0;
  bool affine = draw(0, 1);
  device_array x = random_array(dtype, 3, shape, any_layout(), offset - 2, offset + 2);
  device_array dy = random_array(dtype, 3, shape, any_layout(), -1, 1);
  device_array w = random_array(dtype, 1, shape + 1, CONTIGUOUS, 0.5, 2);
  device_array b = random_array(dtype, 1, shape + 1, CONTIGUOUS, -1, 1);
  device_array out = make(dtype, 3, shape, any_layout()), dx = make(dtype, 3, shape, any_layout());
  device_array again = make(dtype, 3, shape, any_layout());
  device_array mean = make(wide, 1, shape + 1, CONTIGUOUS);
  device_array rstd = make(wide, 1, shape + 1, CONTIGUOUS);
  device_array dw = make(dtype, 1, shape + 1, CONTIGUOUS), db = make(dtype, 1, shape + 1, STEPPED);
  batch_norm_options options = { .epsilon = epsilon };
  batch_norm_arrays arrays = { .x = &x, .weight = affine ? &w : NULL, .bias = affine ? &b : NULL,
                               .mean = &mean, .rstd = &rstd, .out = &out };
  EXPECT_OK(kernels->batch_norm_forward(engine, &options, &arrays));
  options.constant = true;
  arrays.out = &again;
  EXPECT_OK(kernels->batch_norm_forward(engine, &options, &arrays));
  options.constant = false;
  arrays.out = NULL;
  arrays.gradient = &dy;
  arrays.dx = &dx;
  arrays.dweight = &dw;
  arrays.dbias = affine ? &db : NULL;
  EXPECT_OK(kernels->batch_norm_backward(engine, &options, &arrays));
  double slack = unit_of(wide) * 60 * (1 + offset);
  norm_stats stats[20];
  for (int64_t c = 0; c < shape[1]; c++) stats[c] = channel_stats(&x, &dy, c, epsilon);
  for (int64_t i = 0; i < array_count(&x); i++) {
    int64_t c = i / shape[2] % shape[1];
    norm_stats s = stats[c];
    double scale = affine ? get(&w, c) : 1, shift = affine ? get(&b, c) : 0;
    double y = (get(&x, i) - s.mean) * s.rstd;
    double g = (get(&dy, i) - s.g / count - y * s.rstd * s.gx / count) * s.rstd * scale;
    double more = unit_of(dtype), steep = slack * s.rstd;
    EXPECT(fabs(get(&mean, c) - s.mean) <= slack);
    EXPECT(fabs(get(&rstd, c) - s.rstd) <= slack * s.rstd * s.rstd * s.rstd + slack * s.rstd);
    EXPECT(fabs(get(&out, i) - y * scale - shift) <= 4 * steep * (1 + s.rstd) + more * 4);
    EXPECT(get(&out, i) == get(&again, i));
    EXPECT(fabs(get(&dx, i) - g) <= 8 * steep * (1 + s.rstd) * (1 + s.rstd) + more * fabs(g) * 2);
    EXPECT(fabs(get(&dw, c) - s.gx * s.rstd) <=
           steep * (1 + s.rstd) * count * 2 + more * fabs(s.gx * s.rstd) * 2);
    EXPECT(!affine || fabs(get(&db, c) - s.g) <= slack * count + more * fabs(s.g));
  }
}

static void batch_norms(void) {
  for (int i = 0; i < 60; i++) {
    check_batch_norm(floats[draw(0, 3)]);
    arena_used = 0;
  }
  // A large common part, and nothing at all.
  int64_t shape[3] = { 2, 1, 3000 }, empty[3] = { 0, 2, 5 };
  device_array x = make(MOON_F32, 3, shape, CONTIGUOUS), out = make(MOON_F32, 3, shape, CONTIGUOUS);
  for (int64_t i = 0; i < 6000; i++) put(&x, i, 1e5 + (double)(i % 2));
  device_array mean = make(MOON_F32, 1, shape + 1, CONTIGUOUS), rstd = mean;
  rstd = make(MOON_F32, 1, shape + 1, CONTIGUOUS);
  batch_norm_options options = { .epsilon = 0 };
  batch_norm_arrays arrays = { .x = &x, .out = &out, .mean = &mean, .rstd = &rstd };
  EXPECT_OK(kernels->batch_norm_forward(engine, &options, &arrays));
  EXPECT(get(&mean, 0) == (float)100000.5 && fabs(get(&rstd, 0) - 2) < 1e-3);
  device_array none = make(MOON_F32, 3, empty, CONTIGUOUS);
  mean = make(MOON_F32, 1, empty + 1, CONTIGUOUS);
  rstd = make(MOON_F32, 1, empty + 1, CONTIGUOUS);
  options.constant = true;
  arrays.x = arrays.out = &none;
  EXPECT_OK(kernels->batch_norm_forward(engine, &options, &arrays));
}

// -- local response normalisation

static void check_lrn(moon_dtype dtype) {
  int64_t shape[3] = { draw(0, 3), draw(1, 12), draw(1, 150) };
  lrn_options o = { .size = draw(1, 7), .alpha = draw(0, 1) ? 0.5 : 1e-2,
                    .beta = draw(0, 1) ? 0.75 : 0.6, .k = draw(1, 2) };
  device_array x = random_array(dtype, 3, shape, any_layout(), -2, 2);
  device_array dy = random_array(dtype, 3, shape, any_layout(), -1, 1);
  device_array out = make(dtype, 3, shape, any_layout()), dx = make(dtype, 3, shape, any_layout());
  EXPECT_OK(kernels->lrn_forward(engine, &o, &x, &out));
  EXPECT_OK(kernels->lrn_backward(engine, &o, &dy, &x, &dx));
  int64_t count = array_count(&x), inner = shape[2];
  double *s = arena_take((size_t)(count + 1) * sizeof(double));
  expected e_out = expect_new(&out), e_dx = expect_new(&dx);
  for (int64_t i = 0; i < count; i++) {
    int64_t c = i / inner % shape[1];
    s[i] = o.k;
    for (int64_t j = c - o.size / 2; j <= c + (o.size - 1) / 2; j++)
      if (j >= 0 && j < shape[1])
        s[i] += o.alpha / (double)o.size * pow(get(&x, i + (j - c) * inner), 2);
    expect_term(&e_out, i, get(&x, i) * pow(s[i], -o.beta));
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t c = i / inner % shape[1];
    expect_term(&e_dx, i, get(&dy, i) * pow(s[i], -o.beta));
    for (int64_t j = c - o.size / 2; j <= c + (o.size - 1) / 2; j++) {
      if (j < 0 || j >= shape[1]) continue;
      int64_t other = i + (j - c) * inner;
      expect_term(&e_dx, other, -2 * o.alpha * o.beta / (double)o.size * get(&x, other) *
                                    get(&dy, i) * get(&x, i) * pow(s[i], -o.beta - 1));
    }
  }
  expect_equal(&out, &e_out, 16, "response normalisation");
  expect_equal(&dx, &e_dx, 16, "gradient of response normalisation");
}

static void lrns(void) {
  for (int i = 0; i < 60; i++) {
    check_lrn(floats[draw(0, 3)]);
    arena_used = 0;
  }
}

// -- softmax and cross entropy

// Probability of element i of (outer, size, inner) along the middle.
static double probability(const device_array *x, int64_t size, int64_t inner, int64_t i) {
  int64_t base = i / (size * inner) * size * inner + i % inner;
  double best = -INFINITY, sum = 0;
  for (int64_t c = 0; c < size; c++) best = fmax(best, get(x, base + c * inner));
  for (int64_t c = 0; c < size; c++) sum += exp(get(x, base + c * inner) - best);
  return exp(get(x, i) - best) / sum;
}

static void check_softmax(moon_dtype dtype, bool log_form) {
  int64_t shape[3] = { draw(0, 4), draw(1, 40), draw(1, 90) };
  int dim = (int)draw(0, 2);
  device_array x = random_array(dtype, 3, shape, any_layout(), -9, 9);
  device_array dy = random_array(dtype, 3, shape, any_layout(), -1, 1);
  device_array y = make(dtype, 3, shape, any_layout()), dx = make(dtype, 3, shape, any_layout());
  EXPECT_OK(kernels->softmax_forward(engine, log_form, dim, &x, &y));
  EXPECT_OK(kernels->softmax_backward(engine, log_form, dim, &dy, &y, &dx));
  int64_t size = shape[dim], inner = dim == 2 ? 1 : dim == 1 ? shape[2] : shape[1] * shape[2];
  expected e_y = expect_new(&y), e_dx = expect_new(&dx);
  for (int64_t i = 0; i < e_y.count; i++) {
    double p = probability(&x, size, inner, i), sum = 0;
    int64_t base = i / (size * inner) * size * inner + i % inner;
    expect_term(&e_y, i, log_form ? log(p) : p);
    e_y.size[i] += 9;
    for (int64_t c = 0; c < size; c++) {
      double r = get(&y, base + c * inner);
      sum += get(&dy, base + c * inner) * (log_form ? 1 : r);
    }
    double r = get(&y, i);
    expect_term(&e_dx, i, log_form ? get(&dy, i) - exp(r) * sum : r * (get(&dy, i) - sum));
    e_dx.size[i] += (double)size;
  }
  expect_equal(&y, &e_y, 8, "softmax");
  expect_equal(&dx, &e_dx, 8, "gradient of softmax");
}

static void softmaxes(void) {
  for (int i = 0; i < 80; i++) {
    check_softmax(floats[draw(0, 3)], i % 2);
    arena_used = 0;
  }
  // Large numbers do not overflow, -infinity is probability 0, NaN spreads along its row only.
  int64_t shape[2] = { 3, 20 };
  device_array x = make(MOON_F32, 2, shape, CONTIGUOUS), y = make(MOON_F32, 2, shape, CONTIGUOUS);
  put(&x, 3, 1000);
  put(&x, 4, -INFINITY);
  put(&x, 27, (double)NAN);
  EXPECT_OK(kernels->softmax_forward(engine, false, 1, &x, &y));
  EXPECT(get(&y, 3) == 1 && get(&y, 4) == 0 && get(&y, 5) == 0);
  EXPECT(get(&y, 20) != get(&y, 20) && get(&y, 39) != get(&y, 39));
  EXPECT(fabs(get(&y, 50) - 0.05) < 1e-7);
}

static void check_cross_entropy(moon_dtype dtype) {
  int64_t shape[3] = { draw(0, 5), draw(1, 12), draw(0, 1) ? 1 : draw(1, 70) };
  int64_t flat[2] = { shape[0], shape[2] }, c = shape[1], inner = shape[2];
  cross_entropy_options o = { .ignore = draw(0, 1) ? -100 : draw(0, c - 1),
                              .smoothing = draw(0, 1) ? 0 : 0.2 };
  bool weighted = draw(0, 1);
  device_array x = random_array(dtype, 3, shape, any_layout(), -5, 5);
  device_array labels = random_array(MOON_I64, 2, flat, any_layout(), 0, (double)c);
  device_array weight = random_array(dtype, 1, shape + 1, CONTIGUOUS, 0.5, 2);
  device_array g = random_array(dtype, 2, flat, any_layout(), -1, 1);
  device_array losses = make(dtype, 2, flat, any_layout());
  device_array logp = make(dtype, 3, shape, any_layout()), dx = make(dtype, 3, shape, any_layout());
  const device_array *w = weighted ? &weight : NULL;
  EXPECT_OK(kernels->cross_entropy_forward(engine, &o, &x, &labels, w, &losses, &logp));
  EXPECT_OK(kernels->cross_entropy_backward(engine, &o, &g, &logp, &labels, w, &dx));
  expected e = expect_new(&losses), e_dx = expect_new(&dx);
  double share = o.smoothing / (double)c, rough = unit_of(dtype) / unit_of(MOON_F32);
  if (dtype == MOON_F64) rough = 1;
  for (int64_t i = 0; i < e.count; i++) {
    int64_t label = get_int(&labels, i), base = i / inner * c * inner + i % inner;
    if (label == o.ignore) continue;
    double own = (1 - o.smoothing) * (weighted ? get(w, label) : 1), all = 0;
    for (int64_t j = 0; j < c; j++) all += share * (weighted ? get(w, j) : 1);
    for (int64_t j = 0; j < c; j++) {
      double p = probability(&x, c, inner, base + j * inner), wj = weighted ? get(w, j) : 1;
      double factor = share * wj + (j == label ? own : 0);
      expect_term(&e, i, -factor * log(p));
      expect_term(&e_dx, base + j * inner, get(&g, i) * (p * (own + all) - factor));
      e_dx.size[base + j * inner] += rough * 10;
    }
    e.size[i] += rough * 30;
  }
  expect_equal(&losses, &e, 8, "cross entropy");
  expect_equal(&dx, &e_dx, 8, "gradient of cross entropy");
}

static void cross_entropies(void) {
  for (int i = 0; i < 80; i++) {
    check_cross_entropy(floats[draw(0, 3)]);
    arena_used = 0;
  }
  int64_t shape[3] = { 1, 4, 1 }, flat[2] = { 1, 1 };
  cross_entropy_options o = { .ignore = -100 };
  device_array x = make(MOON_F32, 3, shape, CONTIGUOUS), logp = make(MOON_F32, 3, shape, 0);
  device_array label = make(MOON_I64, 2, flat, 0), loss = make(MOON_F32, 2, flat, 0);
  put(&label, 0, 4);
  EXPECT_FAIL(kernels->cross_entropy_forward(engine, &o, &x, &label, NULL, &loss, &logp),
              MOON_BAD_INDEX, "label 5 is out of range for 4 classes");
}

// -- threads

// The bytes of everything that a run over the given shapes makes, behind one another.
static size_t run_all(moon_dtype dtype, const conv_case *c, unsigned char **bytes) {
  const conv2d_geometry *g = &c->geometry;
  device_array x = random_array(dtype, 4, c->x, CONTIGUOUS, -1, 1);
  device_array w = random_array(dtype, 4, c->weight, CONTIGUOUS, -1, 1);
  device_array made[5];
  made[0] = make(dtype, 4, c->out, CONTIGUOUS);
  made[1] = make(dtype, 4, c->x, CONTIGUOUS);
  made[2] = make(dtype, 4, c->weight, CONTIGUOUS);
  EXPECT_OK(kernels->conv2d_forward(engine, g, &x, &w, &plain_finish, &made[0]));
  EXPECT_OK(kernels->conv2d_backward_input(engine, g, &made[0], &w, &made[1]));
  EXPECT_OK(kernels->conv2d_backward_weight(engine, g, &made[0], &x, &made[2]));
  int64_t flat[3] = { c->out[0], c->out[1], c->out[2] * c->out[3] };
  device_array in = made[0];
  in.ndim = 3;
  memcpy(in.shape, flat, sizeof flat);
  in.strides[0] = flat[1] * flat[2];
  in.strides[1] = flat[2];
  in.strides[2] = 1;
  moon_dtype wide = dtype == MOON_F64 ? MOON_F64 : MOON_F32;
  device_array mean = make(wide, 1, flat + 1, CONTIGUOUS), rstd = make(wide, 1, flat + 1, 0);
  made[3] = make(dtype, 3, flat, CONTIGUOUS);
  made[4] = make(dtype, 3, flat, CONTIGUOUS);
  batch_norm_options options = { .epsilon = 1e-5 };
  batch_norm_arrays arrays = { .x = &in, .out = &made[3], .mean = &mean, .rstd = &rstd };
  EXPECT_OK(kernels->batch_norm_forward(engine, &options, &arrays));
  EXPECT_OK(kernels->softmax_forward(engine, true, 1, &made[3], &made[4]));
  size_t total = 0;
  for (int i = 0; i < 5; i++) total += (size_t)array_count(&made[i]) * dtype_size(dtype);
  *bytes = arena_take(total);
  unsigned char *to = *bytes;
  for (int i = 0; i < 5; i++) {
    size_t size = (size_t)array_count(&made[i]) * dtype_size(dtype);
    memcpy(to, made[i].data, size);
    to += size;
  }
  return total;
}

static void threads_agree(void) {
  static const int64_t shapes[][4] = { { 20, 8, 17, 24 }, { 40, 70, 4, 65 }, { 3, 1, 50, 16 } };
  for (int i = 0; i < 3; i++)
    for (int d = 0; d < FLOATS; d++) {
      const int64_t *s = shapes[i];
      conv_case c = { .geometry = { .stride = { 1 + i % 2, 1 }, .dilation = { 1, 1 }, .groups = 1,
                                    .padding_before = { 1, 1 }, .padding_after = { 1, 1 } },
                      .x = { s[0], s[1], s[2], s[2] }, .weight = { s[3], s[1], 3, 3 } };
      EXPECT(conv_sizes(&c));
      unsigned char *first = NULL, *other;
      for (int threads = 1; threads <= 3; threads++) {
        engine->max_threads = threads;
        check_state = 88172645463325252u;
        size_t size = run_all(floats[d], &c, &other);
        if (!first) first = other;
        EXPECT(memcmp(first, other, size) == 0);
      }
      engine->max_threads = 0;
      arena_used = 0;
    }
}

// Every allocation that fails gives an error and leaves nothing behind.
static void allocations_fail(void) {
  conv_case c = { .geometry = { .stride = { 2, 1 }, .dilation = { 1, 1 }, .groups = 1,
                                .padding_before = { 1, 1 }, .padding_after = { 1, 1 } },
                  .x = { 3, 5, 9, 9 }, .weight = { 6, 5, 3, 3 } };
  EXPECT(conv_sizes(&c));
  device_array x = random_array(MOON_F16, 4, c.x, TRANSPOSED, -1, 1);
  device_array dx = make(MOON_F16, 4, c.x, TRANSPOSED);
  device_array w = random_array(MOON_F16, 4, c.weight, TRANSPOSED, -1, 1);
  device_array dw = make(MOON_F16, 4, c.weight, TRANSPOSED);
  device_array y = make(MOON_F16, 4, c.out, TRANSPOSED);
  device_array bias = random_array(MOON_F16, 1, c.out + 1, STEPPED, -1, 1);
  conv2d_finish finish = plain_finish;
  finish.shift = &bias;
  engine->max_threads = 1;
  int64_t live = engine->memory.live;
  for (int slot = 0; slot < 3; slot++) {
    moon_status status = MOON_OUT_OF_MEMORY;
    int failures = -1;
    for (long n = 1; status == MOON_OUT_OF_MEMORY && n < 100; n++, failures++) {
      alloc_fail_after(n);
      if (slot == 0) status = kernels->conv2d_forward(engine, &c.geometry, &x, &w, &finish, &y);
      if (slot == 1) status = kernels->conv2d_backward_input(engine, &c.geometry, &y, &w, &dx);
      if (slot == 2) status = kernels->conv2d_backward_weight(engine, &c.geometry, &y, &x, &dw);
      alloc_fail_after(0);
      EXPECT(engine->memory.live == live);
    }
    EXPECT_OK(status);
    EXPECT(failures >= 2);
  }
  engine->max_threads = 0;
}

int main(void) {
  if (engine_new(&engine) != MOON_OK) return 2;
  each_level("products agree with the naive ones", products);
  each_level("convolutions of random geometry agree with the naive ones", convolutions);
  each_level("convolutions of usual shapes agree with the naive ones", usual_convolutions);
  each_level("a batch in chunks gives what each image alone gives", large_images);
  each_level("pooling agrees with the naive one, NaN and divisors included", pools);
  each_level("batch normalisation agrees with the naive one", batch_norms);
  each_level("local response normalisation agrees with the naive one", lrns);
  each_level("softmax agrees with the naive one and stays finite", softmaxes);
  each_level("cross entropy agrees with the naive one", cross_entropies);
  each_level("any number of threads gives the same bits", threads_agree);
  each_level("a failing allocation gives an error and leaks nothing", allocations_fail);
  engine_release(engine);
  free(arena);
  return check_result();
}
