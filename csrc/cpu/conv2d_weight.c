// The gradient of the convolution's weights: for each group, the product of the gradient (out
// channels x positions) with the patches turned round (positions x channels and taps). The depth
// is every position of a chunk of images; chunks are added in order.
#include "cpu/conv2d.h"

// The gradient (n, c, h, w) as the left operand: rows are channels of a group, the depth runs
// over the positions of images first, first + 1, ... Its planes are dense.
typedef struct gradient_rows {
  const device_array *gradient;
  int64_t first, channels, area;
} gradient_rows;

static void pack_gradient(const void *context, int64_t group, int64_t first, int64_t count,
                          int64_t k0, int64_t depth, int width, void *panels) {
  const gradient_rows *g = context;
  const device_array *y = g->gradient;
  bool wide = y->dtype == MOON_F64;
  int64_t panel_size = wide ? 8 : 4, size = (int64_t)dtype_size(y->dtype);
  gemm_matrix matrix = { .dtype = y->dtype, .stride = y->strides[1], .depth_stride = 1 };
  for (int64_t j = 0; j < count; j += width) {
    int64_t used = count - j < width ? count - j : width;
    char *panel = (char *)panels + j * depth * panel_size;
    for (int64_t k = k0; k < k0 + depth;) {
      int64_t image = k / g->area, position = k % g->area, length = g->area - position;
      if (length > k0 + depth - k) length = k0 + depth - k;
      matrix.data = (const char *)y->data +
                    ((g->first + image) * y->strides[0] + position +
                     (group * g->channels + first + j) * y->strides[1]) * size;
      if (wide)
        CPU(gemm_pack_f64)(&matrix, 0, 0, used, 0, length, width, panel);
      else
        CPU(gemm_pack_f32)(&matrix, 0, 0, used, 0, length, width, panel);
      panel += length * width * panel_size;
      k += length;
    }
  }
}

// The sums so far: (out channels, channels x taps), contiguous, in the compute type.
typedef struct weight_sums {
  void *data;
  moon_dtype dtype;
  int64_t channels, columns;   // out channels of a group; channels x taps
  bool add;
} weight_sums;

static void store_sums(const void *context, int64_t group, int64_t row, int64_t rows,
                       int64_t column, int64_t columns, void *tile, int64_t stride) {
  const weight_sums *s = context;
  for (int64_t i = 0; i < rows; i++) {
    int64_t offset = (group * s->channels + row + i) * s->columns + column;
    if (s->dtype == MOON_F32) {
      const float *from = (const float *)tile + i * stride;
      float *to = (float *)s->data + offset;
      for (int64_t j = 0; j < columns; j++) to[j] = s->add ? to[j] + from[j] : from[j];
    } else {
      const double *from = (const double *)tile + i * stride;
      double *to = (double *)s->data + offset;
      for (int64_t j = 0; j < columns; j++) to[j] = s->add ? to[j] + from[j] : from[j];
    }
  }
}

typedef struct weight_job {
  const conv2d_geometry *geometry;
  const device_array *gradient, *x, *dweight;   // dweight: contiguous, in the compute type
  conv_frame frame;
  int64_t *tap_offset;
} weight_job;

static void locate_taps(const weight_job *job, const conv_planes *planes) {
  const conv2d_geometry *g = job->geometry;
  int64_t *offset = job->tap_offset;
  for (int64_t i = 0; i < job->dweight->shape[2]; i++)
    for (int64_t j = 0; j < job->dweight->shape[3]; j++)
      *offset++ = CPU(conv_plane_offset)(planes, &job->frame, i * g->dilation[0],
                                         j * g->dilation[1]);
}

static moon_status add_chunk(moon_engine *engine, const weight_job *job,
                             const conv_planes *planes, int64_t first) {
  const device_array *y = job->gradient, *w = job->dweight;
  int64_t groups = job->geometry->groups, taps = w->shape[2] * w->shape[3];
  int64_t area = y->shape[2] * y->shape[3], rows = w->shape[0] / groups;
  locate_taps(job, planes);
  conv_patches patches = { .planes = planes, .height = y->shape[2], .width = y->shape[3],
                           .channels = w->shape[1], .taps = taps,
                           .tap_offset = job->tap_offset };
  gradient_rows left = { .gradient = y, .first = first, .channels = rows, .area = area };
  weight_sums sums = { .data = w->data, .dtype = w->dtype, .channels = rows,
                       .columns = w->shape[1] * taps, .add = first > 0 };
  gemm_problem problem = {
    .batch = groups, .rows = rows, .columns = sums.columns, .depth = planes->images * area,
    .pack_a = pack_gradient, .pack_b = CPU(conv_pack_taps), .store = store_sums,
    .a = &left, .b = &patches, .c = &sums,
  };
  return w->dtype == MOON_F64 ? CPU(gemm_f64)(engine, &problem) : CPU(gemm_f32)(engine, &problem);
}

static moon_status add_chunks(moon_engine *engine, const weight_job *job) {
  const device_array *x = job->x;
  moon_dtype compute = job->dweight->dtype;
  int64_t size = CPU(conv_chunk)(x, &job->frame, compute);
  for (int64_t first = 0; first < x->shape[0]; first += size) {
    int64_t last = first + size < x->shape[0] ? first + size : x->shape[0];
    conv_planes planes;
    MOON_TRY(CPU(conv_planes_new)(engine, x, first, last, &job->frame, compute, &planes));
    moon_status status = add_chunk(engine, job, &planes, first);
    CPU(conv_planes_delete)(engine, &planes);
    MOON_TRY(status);
  }
  return MOON_OK;
}

static bool planes_are_dense(const device_array *y) {
  return y->strides[3] == 1 && y->strides[2] == y->shape[3];
}

moon_status CPU(conv_packed_weight)(moon_engine *engine, const conv_problem *p) {
  const conv2d_geometry *geometry = p->geometry;
  const device_array *gradient = p->result, *x = p->image, *dweight = p->weight;
  moon_dtype compute = dweight->dtype == MOON_F64 ? MOON_F64 : MOON_F32;
  weight_job job = { .geometry = geometry, .gradient = gradient, .x = x,
                     .frame = CPU(conv_forward_frame)(geometry, dweight, gradient) };
  cpu_temp dense = { 0 }, sums = { 0 };
  void *offsets = NULL;
  moon_status status = alloc_new((size_t)(dweight->shape[2] * dweight->shape[3]) *
                                 sizeof(int64_t), &offsets);
  if (status == MOON_OK && !planes_are_dense(gradient)) {
    status = CPU(temp_from)(engine, gradient, gradient->dtype, &dense);
    job.gradient = &dense.array;
  }
  bool in_place = dweight->dtype == compute && array_is_contiguous(dweight);
  if (status == MOON_OK && !in_place)
    status = CPU(temp_new)(engine, compute, 4, dweight->shape, &sums);
  job.dweight = in_place ? dweight : &sums.array;
  job.tap_offset = offsets;
  if (status == MOON_OK) status = add_chunks(engine, &job);
  if (status == MOON_OK && !in_place) status = CPU(copy)(engine, &sums.array, dweight);
  CPU(temp_release)(engine, &sums);
  CPU(temp_release)(engine, &dense);
  alloc_delete(offsets);
  return status;
}
