// Packing patches into the panels of a product, and storing its tiles into images.
//
// A panel's positions are cut into pieces: neighbours in one row of one image, at most one vector
// long. For every channel and tap the same pieces are copied, whole vectors at a time: a piece may
// be written past its end, because the next piece covers that, and the last one's excess falls
// into the next row of the panel, not yet written.
#include "cpu/conv2d.h"

#include <string.h>

#include "cpu/lane_bytes.h"

enum {
  WIDEST_PANEL = 64,
  POSITIONS = 64,                 // packed at a time by conv_pack_taps
  DEEPEST = GEMM_DEEPEST_BLOCK,
};

typedef struct piece {
  int64_t from;   // in the planes, at channel 0 and an offset of 0; bytes
  int64_t to;     // in the panel's row; bytes
  int64_t bytes;
} piece;

typedef struct pieces {
  int count;
  int unit;           // bytes of the vector to copy with: 16, 32 or 64
  int64_t furthest;   // end of the furthest read at an offset of 0; bytes
  piece piece[WIDEST_PANEL];
} pieces;

static void cut_pieces(const conv_patches *p, int64_t first, int64_t count, pieces *cut) {
  const conv_planes *planes = p->planes;
  int64_t size = (int64_t)dtype_size(planes->dtype), longest = 64 / size;
  int64_t area = p->height * p->width;
  int64_t image = first / area, row = first % area / p->width, column = first % p->width;
  int64_t row_bytes = (p->width < count ? p->width : count) * size;
  cut->unit = row_bytes <= 16 ? 16 : row_bytes <= 32 ? 32 : 64;
  cut->count = 0;
  cut->furthest = 0;
  for (int64_t done = 0; done < count;) {
    int64_t length = p->width - column;
    if (length > count - done) length = count - done;
    if (length > longest) length = longest;
    piece *next = &cut->piece[cut->count++];
    next->from = (image * planes->image_stride + row * planes->row_stride + column) * size;
    next->to = done * size;
    next->bytes = length * size;
    if (next->from + cut->unit > cut->furthest) cut->furthest = next->from + cut->unit;
    done += length;
    column += length;
    if (column < p->width) continue;
    column = 0;
    if (++row < p->height) continue;
    row = 0;
    image++;
  }
}

typedef char bytes16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef char bytes32 __attribute__((vector_size(32), aligned(1), may_alias));
typedef char bytes64 __attribute__((vector_size(64), aligned(1), may_alias));

// What is copied into each row of a panel: row k comes from source + offset[k].
typedef struct panel_rows {
  const char *source;
  const int64_t *offset;   // bytes
  int64_t depth, row_bytes, used_bytes;
} panel_rows;

#define COPY_PIECES(vector, unrolled)                                                    \
  for (int64_t k = 0; k < depth; k++, panel += row_bytes) {                              \
    const char *from = rows->source + rows->offset[k];                                   \
    for (int i = 0; i < (unrolled); i++)                                                 \
      *(vector *)(panel + cut->piece[i].to) = *(const vector *)(from + cut->piece[i].from); \
    if (used < row_bytes) memset(panel + used, 0, (size_t)(row_bytes - used));           \
  }

// Three whole pieces a row, the case of rows of 16, 32, ... columns: nothing but moves.
static void copy_three(const pieces *cut, const panel_rows *rows, char *panel) {
  const int64_t depth = rows->depth, row_bytes = rows->row_bytes, *offset = rows->offset;
  const char *first = rows->source + cut->piece[0].from;
  const char *second = rows->source + cut->piece[1].from;
  const char *third = rows->source + cut->piece[2].from;
  for (int64_t k = 0; k < depth; k++, panel += row_bytes) {
    *(bytes64 *)panel = *(const bytes64 *)(first + offset[k]);
    *(bytes64 *)(panel + 64) = *(const bytes64 *)(second + offset[k]);
    *(bytes64 *)(panel + 128) = *(const bytes64 *)(third + offset[k]);
  }
}

static void copy_vectors(const pieces *cut, const panel_rows *rows, char *panel) {
  const int64_t depth = rows->depth, row_bytes = rows->row_bytes, used = rows->used_bytes;
  const int count = cut->count;
  if (cut->unit == 64 && count == 3 && used == 192 && row_bytes == 192 &&
      cut->piece[1].to == 64 && cut->piece[2].to == 128) {
    copy_three(cut, rows, panel);
  } else if (cut->unit == 64) {
    COPY_PIECES(bytes64, count)
  } else if (cut->unit == 32) {
    COPY_PIECES(bytes32, count)
  } else {
    COPY_PIECES(bytes16, count)
  }
}
#undef COPY_PIECES

// Reads and writes nothing but the pieces.
static void copy_exactly(const pieces *cut, const panel_rows *rows, char *panel) {
  for (int64_t k = 0; k < rows->depth; k++, panel += rows->row_bytes) {
    const char *from = rows->source + rows->offset[k];
    for (int i = 0; i < cut->count; i++)
      memcpy(panel + cut->piece[i].to, from + cut->piece[i].from, (size_t)cut->piece[i].bytes);
    memset(panel + rows->used_bytes, 0, (size_t)(rows->row_bytes - rows->used_bytes));
  }
}

static void pack_panel(const conv_patches *p, const pieces *cut, const panel_rows *rows,
                       char *panel) {
  int64_t furthest = 0;
  for (int64_t k = 0; k < rows->depth; k++)
    if (rows->offset[k] > furthest) furthest = rows->offset[k];
  if (cut->furthest + furthest <= p->planes->end * (int64_t)dtype_size(p->planes->dtype))
    copy_vectors(cut, rows, panel);
  else
    copy_exactly(cut, rows, panel);
}

// Where rows k0 .. k0 + count of a group's depth lie in the planes, in bytes.
static void locate_rows(const conv_patches *p, int64_t group, int64_t k0, int64_t count,
                        int64_t *offset) {
  int64_t size = (int64_t)dtype_size(p->planes->dtype);
  int64_t channel = group * p->channels + k0 / p->taps, tap = k0 % p->taps;
  for (int64_t k = 0; k < count; k++) {
    offset[k] = (channel * p->planes->channel_stride + p->tap_offset[tap]) * size;
    if (++tap < p->taps) continue;
    tap = 0;
    channel++;
  }
}

void CPU(conv_pack_positions)(const void *patches, int64_t group, int64_t first, int64_t count,
                              int64_t k0, int64_t depth, int width, void *panels) {
  const conv_patches *p = patches;
  int64_t size = (int64_t)dtype_size(p->planes->dtype), offset[DEEPEST];
  panel_rows rows = { .source = p->planes->data, .offset = offset, .depth = depth,
                      .row_bytes = width * size };
  locate_rows(p, group, k0, depth, offset);
  for (int64_t j = 0; j < count; j += width) {
    int64_t used = count - j < width ? count - j : width;
    pieces cut;
    cut_pieces(p, first + j, used, &cut);
    rows.used_bytes = used * size;
    pack_panel(p, &cut, &rows, (char *)panels + j * depth * size);
  }
}

// Rows of up to POSITIONS positions, one a tap, turned round by the matrix pack.
static void pack_taps(const conv_patches *p, const pieces *cut, panel_rows *rows,
                      int64_t positions, int width, char *panel) {
  enum { ROW_BYTES = POSITIONS * sizeof(double) };
  char turned[WIDEST_PANEL * ROW_BYTES + GEMM_SLACK] __attribute__((aligned(64)));
  int64_t size = (int64_t)dtype_size(p->planes->dtype);
  rows->row_bytes = POSITIONS * size;
  rows->used_bytes = positions * size;
  pack_panel(p, cut, rows, turned);
  gemm_matrix matrix = { .data = turned, .dtype = p->planes->dtype, .stride = POSITIONS,
                         .depth_stride = 1 };
  if (size == 4)
    CPU(gemm_pack_f32)(&matrix, 0, 0, rows->depth, 0, positions, width, panel);
  else
    CPU(gemm_pack_f64)(&matrix, 0, 0, rows->depth, 0, positions, width, panel);
}

void CPU(conv_pack_taps)(const void *patches, int64_t group, int64_t first, int64_t count,
                         int64_t k0, int64_t depth, int width, void *panels) {
  const conv_patches *p = patches;
  int64_t size = (int64_t)dtype_size(p->planes->dtype), offset[WIDEST_PANEL];
  for (int64_t k = 0; k < depth; k += POSITIONS) {
    int64_t positions = depth - k < POSITIONS ? depth - k : POSITIONS;
    pieces cut;
    cut_pieces(p, k0 + k, positions, &cut);
    for (int64_t j = 0; j < count; j += width) {
      int64_t used = count - j < width ? count - j : width;
      panel_rows rows = { .source = p->planes->data, .offset = offset, .depth = used };
      locate_rows(p, group, first + j, used, offset);
      pack_taps(p, &cut, &rows, positions, width,
                (char *)panels + (j * depth + k * width) * size);
    }
  }
}

// -- patches in place

const void *CPU(conv_origin_of)(const void *patches, int64_t group, int64_t vector) {
  const conv_patches *p = patches;
  const conv_planes *planes = p->planes;
  int64_t size = (int64_t)dtype_size(planes->dtype), lanes = LANE_BYTES / size;
  int64_t row_vectors = p->width / lanes, row = vector / row_vectors;
  int64_t offset = row / p->height * planes->image_stride +
                   row % p->height * planes->row_stride + vector % row_vectors * lanes +
                   group * p->channels * planes->channel_stride;
  return planes->data + offset * size;
}

void CPU(conv_depth_offsets)(const conv_patches *p, int64_t *depth_offset) {
  for (int64_t c = 0; c < p->channels; c++)
    for (int64_t t = 0; t < p->taps; t++)
      *depth_offset++ = c * p->planes->channel_stride + p->tap_offset[t];
}

// -- weights

typedef struct tap_cursor { int64_t channel, tap; } tap_cursor;

static void weights_f32(const conv_weights *w, const void *base, tap_cursor at, int64_t depth,
                        int64_t count, int width, float *panel) {
  for (int64_t k = 0; k < depth; k++, panel += width) {
    int64_t offset = at.channel * w->channel_stride + w->tap_offset[at.tap];
    for (int64_t j = 0; j < count; j++)
      panel[j] = ((const float *)base)[j * w->row_stride + offset];
    for (int64_t j = count; j < width; j++) panel[j] = 0;
    if (++at.tap < w->taps) continue;
    at.tap = 0;
    at.channel++;
  }
}

static void weights_any(const conv_weights *w, const char *base, tap_cursor at, int64_t depth,
                        int64_t count, int width, char *panel) {
  int64_t size = (int64_t)dtype_size(w->dtype);
  int64_t panel_size = w->dtype == MOON_F64 ? 8 : 4;
  for (int64_t k = 0; k < depth; k++, panel += width * panel_size) {
    int64_t offset = at.channel * w->channel_stride + w->tap_offset[at.tap];
    CPU(load_run)(w->dtype, count, base + offset * size, w->row_stride, panel);
    memset(panel + count * panel_size, 0, (size_t)((width - count) * panel_size));
    if (++at.tap < w->taps) continue;
    at.tap = 0;
    at.channel++;
  }
}

void CPU(conv_pack_weights)(const void *weights, int64_t group, int64_t first, int64_t count,
                            int64_t k0, int64_t depth, int width, void *panels) {
  const conv_weights *w = weights;
  int64_t size = (int64_t)dtype_size(w->dtype), panel_size = w->dtype == MOON_F64 ? 8 : 4;
  tap_cursor at = { k0 / w->taps, k0 % w->taps };
  for (int64_t j = 0; j < count; j += width) {
    int64_t used = count - j < width ? count - j : width;
    const char *base = (const char *)w->data +
                       (group * w->group_stride + (first + j) * w->row_stride) * size;
    char *panel = (char *)panels + j * depth * panel_size;
    if (w->dtype == MOON_F32)
      weights_f32(w, base, at, depth, used, width, (float *)panel);
    else
      weights_any(w, base, at, depth, used, width, panel);
  }
}

// -- storing

static void store_f32(const float *tile, float bias, int64_t count, float *to) {
  for (int64_t i = 0; i < count; i++) to[i] = tile[i] + bias;
}

// One row's neighbours: bias added, then stored in out's dtype, `stride` apart.
static void store_run_of(const conv_target *t, int64_t channel, int64_t count, int64_t stride,
                         void *tile, void *to) {
  if (t->out->dtype == MOON_F64) {
    double bias = t->bias ? ((const double *)t->bias->data)[channel] : 0, *from = tile;
    for (int64_t i = 0; i < count; i++) from[i] += bias;
  } else {
    float bias = t->bias ? ((const float *)t->bias->data)[channel] : 0, *from = tile;
    if (t->out->dtype == MOON_F32 && stride == 1) {
      store_f32(from, bias, count, to);
      return;
    }
    for (int64_t i = 0; i < count; i++) from[i] += bias;
  }
  CPU(store_run)(t->out->dtype, count, tile, to, stride);
}

void CPU(conv_store)(const void *target, int64_t group, int64_t row, int64_t rows, int64_t column,
                     int64_t columns, void *tile, int64_t stride) {
  const conv_target *t = target;
  const device_array *out = t->out;
  int64_t size = (int64_t)dtype_size(out->dtype), tile_size = out->dtype == MOON_F64 ? 8 : 4;
  int64_t channel = group * t->channels + row, area = t->height * t->width, width = t->width;
  // Rows that follow each other without a gap are one.
  if (t->step[0] == 1 && t->step[1] == 1 && width == out->shape[3] &&
      out->strides[2] == width * out->strides[3])
    width = area;
  for (int64_t j = 0; j < columns;) {
    int64_t image = (column + j) / area, rest = (column + j) % area;
    int64_t y = rest / width, x = rest % width;
    int64_t count = width - x < columns - j ? width - x : columns - j;
    int64_t offset = (t->first_image + image) * out->strides[0] + channel * out->strides[1] +
                     (y * t->step[0] + t->offset[0]) * out->strides[2] +
                     (x * t->step[1] + t->offset[1]) * out->strides[3];
    for (int64_t i = 0; i < rows; i++)
      store_run_of(t, channel + i, count, t->step[1] * out->strides[3],
                   (char *)tile + (i * stride + j) * tile_size,
                   (char *)out->data + (offset + i * out->strides[1]) * size);
    j += count;
  }
}
