// Regions of an image given by boxes (x1, y1, x2, y2): how far boxes overlap, which of them to
// keep, their coordinates relative to others, and pooling what lies inside. Conventions are
// torchvision's; images are counted from 1.
#include <inttypes.h>
#include <math.h>

#include "ops/compose.h"
#include "ops/window.h"

static moon_status check_boxes(const char *name, const moon_tensor *boxes) {
  char text[TENSOR_SHAPE_TEXT];
  MOON_TRY(ops_need_float(name, boxes));
  if (boxes->ndim == 2 && boxes->shape[1] == 4) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must be (n, 4), one box (x1, y1, x2, y2) a row, got %s",
                   name, tensor_shape_text(boxes, text));
}

// -- box_iou

// Columns from and from + 1 of boxes (n, 4) as (n, 2), or as (n, 1, 2), (1, n, 2) for side 0, 1.
static moon_tensor *corner(compose *c, moon_tensor *boxes, int from) {
  return COMPOSE(c, narrow, op_tensor(boxes), op_int(1), op_int(from), op_int(2));
}
static moon_tensor *corner_of_side(compose *c, moon_tensor *boxes, int from, int side) {
  return COMPOSE(c, unsqueeze, op_tensor(corner(c, boxes, from)), op_int(side == 0 ? 1 : 0));
}

static moon_tensor *area(compose *c, moon_tensor *boxes) {
  moon_tensor *sides = COMPOSE(c, sub, op_tensor(corner(c, boxes, 2)),
                               op_tensor(corner(c, boxes, 0)));
  return COMPOSE(c, mul, op_tensor(COMPOSE(c, select, op_tensor(sides), op_int(1), op_int(0))),
                 op_tensor(COMPOSE(c, select, op_tensor(sides), op_int(1), op_int(1))));
}

static moon_status forward_box_iou(op_call *call) {
  moon_tensor *a = call->args[0].tensor, *b = call->args[1].tensor;
  MOON_TRY(check_boxes("a", a));
  MOON_TRY(check_boxes("b", b));
  MOON_TRY(ops_need_same_dtype("a", a, "b", b));
  compose c = compose_open(call->engine);
  moon_tensor *low = COMPOSE(&c, maximum, op_tensor(corner_of_side(&c, a, 0, 0)),
                             op_tensor(corner_of_side(&c, b, 0, 1)));
  moon_tensor *high = COMPOSE(&c, minimum, op_tensor(corner_of_side(&c, a, 2, 0)),
                              op_tensor(corner_of_side(&c, b, 2, 1)));
  moon_tensor *sides = COMPOSE(&c, sub, op_tensor(high), op_tensor(low));
  sides = COMPOSE(&c, clamp, op_tensor(sides), op_number(0));
  moon_tensor *both =
      COMPOSE(&c, mul, op_tensor(COMPOSE(&c, select, op_tensor(sides), op_int(2), op_int(0))),
              op_tensor(COMPOSE(&c, select, op_tensor(sides), op_int(2), op_int(1))));
  moon_tensor *rows = COMPOSE(&c, unsqueeze, op_tensor(area(&c, a)), op_int(1));
  moon_tensor *sum = COMPOSE(&c, add, op_tensor(rows), op_tensor(area(&c, b)));
  moon_tensor *either = COMPOSE(&c, sub, op_tensor(sum), op_tensor(both));
  moon_tensor *iou = COMPOSE(&c, div, op_tensor(both), op_tensor(either));
  return compose_close(&c, iou, &call->results[0]);
}

// -- nms and batched_nms

static moon_status check_scores(const char *name, const moon_tensor *boxes,
                                const moon_tensor *numbers) {
  char text[TENSOR_SHAPE_TEXT];
  if (numbers->ndim == 1 && numbers->shape[0] == boxes->shape[0]) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "%s must have one number for each of the %" PRId64
                   " boxes, got %s", name, boxes->shape[0], tensor_shape_text(numbers, text));
}

// Numbers of the boxes by falling score, from 0.
static moon_status order_by_score(moon_engine *engine, const moon_tensor *scores,
                                  moon_tensor **order) {
  moon_tensor *made;
  MOON_TRY(ops_new(engine, scores, MOON_I64, 1, scores->shape, &made));
  device_array from = tensor_array(scores), to = tensor_array(made);
  moon_status status = tensor_kernels(scores)->sort(engine, 0, true, &from, NULL, &to);
  if (status == MOON_OK) *order = made;
  else tensor_release(made);
  return status;
}

static moon_status suppress(op_call *call, double threshold, const moon_tensor *order,
                            const moon_tensor *classes) {
  moon_tensor *boxes = call->args[0].tensor, *all, *kept;
  int64_t count;
  MOON_TRY(ops_new(call->engine, boxes, MOON_I64, 1, boxes->shape, &all));
  device_array x = tensor_array(boxes), at = tensor_array(order), to = tensor_array(all), class;
  if (classes) class = tensor_array(classes);
  moon_status status = tensor_kernels(boxes)->nms(call->engine, threshold, &x, &at,
                                                  classes ? &class : NULL, &count, &to);
  if (status == MOON_OK) status = tensor_new_view(all, 1, &count, all->strides, 0, &kept);
  if (status == MOON_OK) {
    status = ops_converted(call->engine, kept, MOON_I64, &call->results[0]);
    tensor_release(kept);
  }
  tensor_release(all);
  MOON_TRY(status);
  return ops_index_out(call->engine, call->results[0]);
}

static moon_status forward_nms(op_call *call) {
  enum { BOXES, SCORES };
  bool batched = call->op->row != 0;
  const op_value *args = call->args;
  moon_tensor *boxes = args[BOXES].tensor, *scores = args[SCORES].tensor;
  moon_tensor *order, *classes = NULL, *given = batched ? args[2].tensor : NULL;
  double threshold = args[batched ? 3 : 2].number;
  MOON_TRY(check_boxes("boxes", boxes));
  MOON_TRY(ops_need_float("scores", scores));
  MOON_TRY(check_scores("scores", boxes, scores));
  if (batched) MOON_TRY(check_scores("classes", boxes, given));
  if (batched && dtype_class_of(given->dtype) != DTYPE_INTEGER)
    return moon_fail(MOON_BAD_DTYPE, "classes must be of an integer type, got %s; cast it with "
                     ":to \"int64\"", dtype_name(given->dtype));
  if (!(threshold >= 0 && threshold <= 1))
    return moon_fail(MOON_BAD_ARGUMENT, "iou_threshold must lie in 0..1, got %g", threshold);
  if (batched) MOON_TRY(ops_converted(call->engine, given, MOON_I64, &classes));
  moon_status status = order_by_score(call->engine, scores, &order);
  if (status == MOON_OK) {
    status = suppress(call, threshold, order, classes);
    tensor_release(order);
  }
  tensor_release(classes);
  return status;
}

// -- box_encode and box_decode

typedef struct centred { moon_tensor *x, *y, *width, *height; } centred;

static moon_tensor *column(compose *c, moon_tensor *boxes, int i) {
  return COMPOSE(c, select, op_tensor(boxes), op_int(1), op_int(i));
}

static centred centre(compose *c, moon_tensor *boxes) {
  moon_tensor *x = column(c, boxes, 0), *y = column(c, boxes, 1);
  centred r = { .width = COMPOSE(c, sub, op_tensor(column(c, boxes, 2)), op_tensor(x)),
                .height = COMPOSE(c, sub, op_tensor(column(c, boxes, 3)), op_tensor(y)) };
  r.x = COMPOSE(c, add, op_tensor(x), op_tensor(compose_scale(c, r.width, 0.5)));
  r.y = COMPOSE(c, add, op_tensor(y), op_tensor(compose_scale(c, r.height, 0.5)));
  return r;
}

static moon_tensor *columns(compose *c, moon_tensor *list[4]) {
  for (int i = 0; i < 4; i++) list[i] = COMPOSE(c, unsqueeze, op_tensor(list[i]), op_int(1));
  return COMPOSE(c, cat, op_tensors(list, 4), op_int(1));
}

static moon_status check_coding(const op_call *call, const char *first) {
  enum { BOXES, ANCHORS, WEIGHTS };
  const moon_tensor *boxes = call->args[BOXES].tensor, *anchors = call->args[ANCHORS].tensor;
  const moon_tensor *weights = call->args[WEIGHTS].tensor;
  char a[TENSOR_SHAPE_TEXT], b[TENSOR_SHAPE_TEXT];
  MOON_TRY(check_boxes(first, boxes));
  MOON_TRY(check_boxes("anchors", anchors));
  MOON_TRY(ops_need_same_dtype(first, boxes, "anchors", anchors));
  if (!tensor_same_shape(boxes, anchors))
    return moon_fail(MOON_BAD_SHAPE, "%s and anchors must be as many, got %s and %s", first,
                     tensor_shape_text(boxes, a), tensor_shape_text(anchors, b));
  if (!call->args[WEIGHTS].given) return MOON_OK;
  MOON_TRY(ops_need_same_dtype(first, boxes, "weights", weights));
  if (weights->ndim == 1 && weights->shape[0] == 4) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "weights must be 4 numbers, got %s",
                   tensor_shape_text(weights, a));
}

static moon_tensor *offset_of(compose *c, moon_tensor *to, moon_tensor *from, moon_tensor *size) {
  moon_tensor *distance = COMPOSE(c, sub, op_tensor(to), op_tensor(from));
  return COMPOSE(c, div, op_tensor(distance), op_tensor(size));
}

static moon_tensor *growth_of(compose *c, moon_tensor *to, moon_tensor *from) {
  return COMPOSE(c, log, op_tensor(COMPOSE(c, div, op_tensor(to), op_tensor(from))));
}

static moon_status forward_box_encode(op_call *call) {
  MOON_TRY(check_coding(call, "boxes"));
  compose c = compose_open(call->engine);
  centred to = centre(&c, call->args[0].tensor), from = centre(&c, call->args[1].tensor);
  moon_tensor *list[4] = { offset_of(&c, to.x, from.x, from.width),
                           offset_of(&c, to.y, from.y, from.height),
                           growth_of(&c, to.width, from.width),
                           growth_of(&c, to.height, from.height) };
  moon_tensor *deltas = columns(&c, list);
  if (call->args[2].given) deltas = COMPOSE(&c, mul, op_tensor(deltas), call->args[2]);
  return compose_close(&c, deltas, &call->results[0]);
}

// The corner at the low (-0.5) or high (0.5) end of a side of exp(growth) * size.
static moon_tensor *moved(compose *c, moon_tensor *delta, moon_tensor *centre, moon_tensor *size) {
  return COMPOSE(c, add, op_tensor(COMPOSE(c, mul, op_tensor(delta), op_tensor(size))),
                 op_tensor(centre));
}

static moon_tensor *half_side(compose *c, moon_tensor *growth, moon_tensor *size, double limit) {
  moon_tensor *limited = COMPOSE(c, clamp, op_tensor(growth), op_number(-INFINITY),
                                 op_number(limit));
  moon_tensor *factor = COMPOSE(c, exp, op_tensor(limited));
  return compose_scale(c, COMPOSE(c, mul, op_tensor(factor), op_tensor(size)), 0.5);
}

static moon_status forward_box_decode(op_call *call) {
  enum { DELTAS, ANCHORS, WEIGHTS, LIMIT };
  moon_tensor *deltas = call->args[DELTAS].tensor;
  double limit = call->args[LIMIT].number;
  MOON_TRY(check_coding(call, "deltas"));
  if (limit != limit) return moon_fail(MOON_BAD_ARGUMENT, "limit must be a number, got nan");
  compose c = compose_open(call->engine);
  if (call->args[WEIGHTS].given) deltas = COMPOSE(&c, div, op_tensor(deltas), call->args[WEIGHTS]);
  centred from = centre(&c, call->args[ANCHORS].tensor);
  moon_tensor *x = moved(&c, column(&c, deltas, 0), from.x, from.width);
  moon_tensor *y = moved(&c, column(&c, deltas, 1), from.y, from.height);
  moon_tensor *w = half_side(&c, column(&c, deltas, 2), from.width, limit);
  moon_tensor *h = half_side(&c, column(&c, deltas, 3), from.height, limit);
  moon_tensor *list[4] = { COMPOSE(&c, sub, op_tensor(x), op_tensor(w)),
                           COMPOSE(&c, sub, op_tensor(y), op_tensor(h)),
                           COMPOSE(&c, add, op_tensor(x), op_tensor(w)),
                           COMPOSE(&c, add, op_tensor(y), op_tensor(h)) };
  return compose_close(&c, columns(&c, list), &call->results[0]);
}

// -- roi_pool and roi_align

enum { INPUT, ROIS, SIZE, SCALE, SAMPLING, ALIGNED, COUNT, HEIGHT, WIDTH };
enum { MOST_SAMPLES = 1024 };

static moon_status check_rois(const op_call *call) {
  const moon_tensor *x = call->args[INPUT].tensor, *rois = call->args[ROIS].tensor;
  char text[TENSOR_SHAPE_TEXT];
  double scale = call->args[SCALE].number;
  MOON_TRY(window_check_image(x));
  MOON_TRY(ops_need_same_dtype("input", x, "boxes", rois));
  MOON_TRY(window_check_pair("output_size", call->args[SIZE].ints.v, 1));
  if (rois->ndim != 2 || rois->shape[1] != 5)
    return moon_fail(MOON_BAD_SHAPE, "boxes must be (k, 5), one (image, x1, y1, x2, y2) a row, "
                     "got %s", tensor_shape_text(rois, text));
  if (!(scale > 0) || !isfinite(scale))
    return moon_fail(MOON_BAD_ARGUMENT, "spatial_scale must be a number above 0, got %g", scale);
  if (x->shape[2] > 0 && x->shape[3] > 0) return MOON_OK;
  return moon_fail(MOON_BAD_SHAPE, "input must have a height and a width, got %s",
                   tensor_shape_text(x, text));
}

// The images of the boxes, from 0, and a view of the rest.
typedef struct region_set { moon_tensor *images, *boxes; } region_set;

static void regions_close(region_set *set) {
  tensor_release(set->images);
  tensor_release(set->boxes);
}

static moon_status regions_open(moon_engine *engine, moon_tensor *rois, int64_t count,
                                region_set *set) {
  moon_tensor *first = NULL, *whole = NULL;
  *set = (region_set){ .images = NULL };
  moon_status status = tensor_new_view(rois, 1, rois->shape, rois->strides, rois->offset, &first);
  if (status == MOON_OK) status = ops_converted(engine, first, MOON_I64, &whole);
  if (status == MOON_OK)
    status = ops_index_in(engine, "the image of each box", whole, count, &set->images);
  if (status == MOON_OK)
    status = tensor_new_view(rois, 2, (int64_t[]){ rois->shape[0], 4 }, rois->strides,
                             rois->offset + rois->strides[1], &set->boxes);
  tensor_release(first);
  tensor_release(whole);
  if (status != MOON_OK) regions_close(set);
  return status;
}

typedef moon_status (*region_kernel)(moon_engine *engine, const region_options *options,
                                     const device_array *x, const device_array *boxes,
                                     const device_array *images, const device_array *out);

// Runs a kernel from `x` into results[0], for the images of a tensor of `count`.
static moon_status run_regions(op_call *call, region_kernel kernel, const region_options *options,
                               int64_t count) {
  region_set set;
  MOON_TRY(regions_open(call->engine, call->args[ROIS].tensor, count, &set));
  device_array x = tensor_array(call->args[INPUT].tensor), out = tensor_array(call->results[0]);
  device_array boxes = tensor_array(set.boxes), images = tensor_array(set.images);
  moon_status status = kernel(call->engine, options, &x, &boxes, &images, &out);
  regions_close(&set);
  return status;
}

static moon_status forward_places(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  region_options options = { .scale = call->args[SCALE].number };
  int64_t shape[4] = { call->args[ROIS].tensor->shape[0], x->shape[1], call->args[SIZE].ints.v[0],
                       call->args[SIZE].ints.v[1] };
  MOON_TRY(ops_new(call->engine, x, MOON_I64, 4, shape, &call->results[0]));
  return run_regions(call, tensor_kernels(x)->roi_places, &options, x->shape[0]);
}

// The elements at the places; 0 where there is none.
static moon_tensor *at_places(compose *c, moon_tensor *x, moon_tensor *places) {
  if (c->status != MOON_OK) return NULL;
  moon_tensor *flat = compose_reshape(c, x, 1, (int64_t[]){ tensor_count(x) });
  moon_tensor *index = compose_reshape(c, places, 1, (int64_t[]){ tensor_count(places) });
  index = COMPOSE(c, clamp, op_tensor(index), op_number(1));
  moon_tensor *taken = COMPOSE(c, index_select, op_tensor(flat), op_int(0), op_tensor(index));
  taken = compose_reshape(c, taken, 4, places->shape);
  moon_tensor *none = COMPOSE(c, eq, op_tensor(places), op_tensor(compose_number(c, places, 0)));
  moon_tensor *zero = compose_number(c, x, 0);
  return COMPOSE(c, where, op_tensor(none), op_tensor(zero), op_tensor(taken));
}

static moon_status forward_roi_pool(op_call *call) {
  const op_value *a = call->args;
  MOON_TRY(check_rois(call));
  region_set set;
  MOON_TRY(regions_open(call->engine, a[ROIS].tensor, a[INPUT].tensor->shape[0], &set));
  regions_close(&set);
  compose c = compose_open(call->engine);
  moon_tensor *places = COMPOSE(&c, roi_places, a[INPUT], a[ROIS], a[SIZE], a[SCALE]);
  moon_tensor *y = at_places(&c, a[INPUT].tensor, places);
  return compose_close(&c, y, &call->results[0]);
}

static region_options align_options(const op_value *args) {
  int64_t sampling = args[SAMPLING].integer;
  return (region_options){ .scale = args[SCALE].number, .sampling = sampling > 0 ? sampling : 0,
                           .aligned = args[ALIGNED].boolean };
}

static moon_status forward_roi_align(op_call *call) {
  moon_tensor *x = call->args[INPUT].tensor;
  region_options options = align_options(call->args);
  MOON_TRY(check_rois(call));
  if (call->args[SAMPLING].integer > MOST_SAMPLES)
    return moon_fail(MOON_BAD_ARGUMENT, "sampling_ratio must be at most %d, got %" PRId64,
                     MOST_SAMPLES, call->args[SAMPLING].integer);
  int64_t shape[4] = { call->args[ROIS].tensor->shape[0], x->shape[1], call->args[SIZE].ints.v[0],
                       call->args[SIZE].ints.v[1] };
  MOON_TRY(ops_new(call->engine, x, x->dtype, 4, shape, &call->results[0]));
  return run_regions(call, tensor_kernels(x)->roi_align, &options, x->shape[0]);
}

static moon_status forward_align_gradient(op_call *call) {
  const op_value *a = call->args;
  const moon_tensor *g = a[INPUT].tensor;
  region_options options = align_options(a);
  int64_t shape[4] = { a[COUNT].integer, g->shape[1], a[HEIGHT].integer, a[WIDTH].integer };
  MOON_TRY(ops_new(call->engine, g, g->dtype, 4, shape, &call->results[0]));
  return run_regions(call, tensor_kernels(g)->roi_align_backward, &options, shape[0]);
}

// roi_align and its gradient are linear, and each other's transpose.
static moon_status backward_roi_align(op_backward_call *call) {
  const op_value *a = call->args;
  const int64_t *image = call->inputs[INPUT].shape;
  if (!call->needs[INPUT]) return MOON_OK;
  op_value all[] = { op_tensor(call->grads[0]), a[ROIS], a[SIZE], a[SCALE], a[SAMPLING],
                     a[ALIGNED], op_int(image[0]), op_int(image[2]), op_int(image[3]) };
  bool pool = call->op->row == 0;
  return op_run(call->engine, ops_get(pool ? OP_roi_align_gradient : OP_roi_align),
                &call->out[INPUT], pool ? WIDTH + 1 : COUNT, all);
}

#define ROI_SCHEMA "boxes: Tensor, output_size: int[2], spatial_scale: number = 1"
#define ALIGN_SCHEMA ROI_SCHEMA ", sampling_ratio: int = -1, aligned: bool = false"

static op_descriptor descriptors[] = {
  { .name = "box_iou", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(a: Tensor, b: Tensor) -> iou",
    .doc = "How far each box of a (n, 4) overlaps each box of b (m, 4): the area of their "
           "intersection over that of their union, (n, m). A box is (x1, y1, x2, y2) with "
           "x1 <= x2 and y1 <= y2 (Jaccard 1912).",
    .example = "moon.tensor{{0, 0, 2, 2}}:box_iou(moon.tensor{{1, 0, 2, 2}, {2, 2, 3, 3}}) --> "
               "{{0.5, 0}}",
    .forward = forward_box_iou },
  { .name = "nms", .dtypes = OP_FLOATS,
    .schema = "(boxes: Tensor, scores: Tensor, iou_threshold: number) -> kept",
    .doc = "Non-maximum suppression: goes through boxes (n, 4) by falling scores (n) and keeps "
           "each whose intersection over union with every box kept is at most iou_threshold. "
           "Gives their row numbers from 1, by falling score (Felzenszwalb et al. 2010).",
    .example = "moon.nms(moon.tensor{{0, 0, 2, 2}, {0, 0, 2, 1.9}, {3, 3, 4, 4}}, "
               "moon.tensor{0.5, 0.9, 0.1}, 0.5) --> {2, 3}",
    .forward = forward_nms },
  { .name = "batched_nms", .dtypes = OP_FLOATS, .row = 1,
    .schema = "(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: number) -> kept",
    .doc = "nms for each class: boxes (n, 4) suppress only boxes of the same number in classes "
           "(n). Gives the row numbers of those kept, from 1, by falling score.",
    .example = "moon.batched_nms(moon.tensor{{0, 0, 2, 2}, {0, 0, 2, 2}}, moon.tensor{0.5, 0.9}, "
               "moon.tensor({1, 2}, {dtype = \"int64\"}), 0.5) --> {2, 1}",
    .forward = forward_nms },
  { .name = "box_encode", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(boxes: Tensor, anchors: Tensor, weights: Tensor?) -> deltas",
    .doc = "Boxes (n, 4) relative to anchors (n, 4): the distance of the centres in widths and "
           "heights of the anchor, and the logarithms of the ratios of widths and heights; times "
           "four weights where given (Girshick et al. 2014).",
    .example = "moon.box_encode(moon.tensor{{1, 1, 3, 3}}, moon.tensor{{0, 0, 2, 2}}) --> "
               "{{0.5, 0.5, 0, 0}}",
    .forward = forward_box_encode },
  { .name = "box_decode", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(deltas: Tensor, anchors: Tensor, weights: Tensor?, limit: number = "
              "4.135166556742356) -> boxes",
    .doc = "The boxes that box_encode made deltas (n, 4) of, given the anchors (n, 4) and the same "
           "weights. Logarithms of sizes are limited to `limit`, log(1000 / 16), so that wild ones "
           "do not overflow (Girshick et al. 2014).",
    .example = "moon.box_decode(moon.tensor{{0.5, 0.5, 0, 0}}, moon.tensor{{0, 0, 2, 2}}) --> "
               "{{1, 1, 3, 3}}",
    .forward = forward_box_decode },
  { .name = "roi_pool", .dtypes = OP_FLOATS, .flags = OP_COMPOSITE,
    .schema = "(input: Tensor, " ROI_SCHEMA ") -> out",
    .doc = "The largest elements of a grid of bins in boxes of images: input (n, c, h, w), boxes "
           "(k, 5) with rows (image from 1, x1, y1, x2, y2), result (k, c, output_size). Box "
           "coordinates count from 0, are multiplied by spatial_scale and rounded; a bin outside "
           "of the image gives 0. No gradient goes to boxes (Girshick 2015).",
    .example = "moon.roi_pool(moon.arange(1, 4):float():reshape(1, 1, 2, 2), "
               "moon.tensor{{1, 0, 0, 1, 1}}, 1) --> {{{{4}}}}",
    .forward = forward_roi_pool },
  { .name = "roi_places", .dtypes = OP_FLOATS, .flags = OP_HIDDEN,
    .schema = "(input: Tensor, " ROI_SCHEMA ") -> places",
    .doc = "Where roi_pool finds its elements in input, row-major from 1; 0 for none.",
    .forward = forward_places },
  { .name = "roi_align", .dtypes = OP_FLOATS, .saves = "boxes",
    .schema = "(input: Tensor, " ALIGN_SCHEMA ") -> out",
    .doc = "Means of bilinear samples in a grid of bins in boxes of images: input (n, c, h, w), "
           "boxes (k, 5) with rows (image from 1, x1, y1, x2, y2), result (k, c, output_size). Box "
           "coordinates count from 0 and are multiplied by spatial_scale, not rounded; with "
           "`aligned` they are moved by half a pixel, so that pixel centres lie at halves. A bin "
           "has sampling_ratio samples in each direction, or one a pixel where that is not above "
           "0; samples more than one pixel outside of the image count as 0. No gradient goes to "
           "boxes (He et al. 2017).",
    .example = "moon.roi_align(moon.ones(1, 1, 4, 4), moon.tensor{{1, 0, 0, 2, 2}}, 1) --> "
               "{{{{1}}}}",
    .forward = forward_roi_align, .backward = backward_roi_align },
  { .name = "roi_align_gradient", .dtypes = OP_FLOATS, .flags = OP_HIDDEN, .row = 1,
    .saves = "boxes",
    .schema = "(gradient: Tensor, " ALIGN_SCHEMA ", count: int = 1, height: int = 1, "
              "width: int = 1) -> dx",
    .doc = "The gradient of roi_align's input, `count` images of height and width.",
    .forward = forward_align_gradient, .backward = backward_roi_align },
};
OP_FAMILY(regions, descriptors);
