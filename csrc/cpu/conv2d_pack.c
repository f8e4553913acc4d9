// Packing patches into the panels of a product, and storing its tiles into images.
//
// A panel's positions are cut into pieces: neighbours in one row of one image, at most one vector
// long. For every channel and tap the same pieces are copied, whole vectors at a time: a piece may
// be written past its end, because the next piece covers that, and the last one's excess falls
// into the next row of the panel, not yet written.
#include "cpu/conv2d.h"

#include <string.h>

enum { WIDEST_PANEL = 64, POSITIONS = 64 };   // positions packed at a time by conv_pack_taps

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

static inline void copy_vectors(const pieces *cut, const char *from, char *to) {
  if (cut->unit == 64) {
    for (int i = 0; i < cut->count; i++)
      *(bytes64 *)(to + cut->piece[i].to) = *(const bytes64 *)(from + cut->piece[i].from);
  } else if (cut->unit == 32) {
    for (int i = 0; i < cut->count; i++)
      *(bytes32 *)(to + cut->piece[i].to) = *(const bytes32 *)(from + cut->piece[i].from);
  } else {
    for (int i = 0; i < cut->count; i++)
      *(bytes16 *)(to + cut->piece[i].to) = *(const bytes16 *)(from + cut->piece[i].from);
  }
}

// Reads and writes nothing but the pieces.
static inline void copy_exactly(const pieces *cut, const char *from, char *to) {
  for (int i = 0; i < cut->count; i++)
    memcpy(to + cut->piece[i].to, from + cut->piece[i].from, (size_t)cut->piece[i].bytes);
}

typedef struct tap_cursor { int64_t channel, tap; } tap_cursor;

static int64_t tap_next(const conv_patches *p, int64_t group, tap_cursor *at) {
  int64_t offset = (group * p->channels + at->channel) * p->planes->channel_stride +
                   p->tap_offset[at->tap];
  if (++at->tap == p->taps) {
    at->tap = 0;
    at->channel++;
  }
  return offset;
}

// The furthest a tap of the group reaches, in bytes.
static int64_t reach_of(const conv_patches *p, int64_t group, const pieces *cut) {
  int64_t furthest = 0;
  for (int64_t t = 0; t < p->taps; t++)
    if (p->tap_offset[t] > furthest) furthest = p->tap_offset[t];
  furthest += ((group + 1) * p->channels - 1) * p->planes->channel_stride;
  return cut->furthest + furthest * (int64_t)dtype_size(p->planes->dtype);
}

static void pack_panel(const conv_patches *p, int64_t group, const pieces *cut, int64_t k0,
                       int64_t depth, int64_t row_bytes, int64_t used_bytes, char *panel) {
  int64_t size = (int64_t)dtype_size(p->planes->dtype);
  bool roomy = reach_of(p, group, cut) <= p->planes->end * size;
  tap_cursor at = { k0 / p->taps, k0 % p->taps };
  for (int64_t k = 0; k < depth; k++, panel += row_bytes) {
    const char *from = p->planes->data + tap_next(p, group, &at) * size;
    if (roomy)
      copy_vectors(cut, from, panel);
    else
      copy_exactly(cut, from, panel);
    if (used_bytes < row_bytes) memset(panel + used_bytes, 0, (size_t)(row_bytes - used_bytes));
  }
}

void CPU(conv_pack_positions)(const void *patches, int64_t group, int64_t first, int64_t count,
                              int64_t k0, int64_t depth, int width, void *panels) {
  const conv_patches *p = patches;
  int64_t size = (int64_t)dtype_size(p->planes->dtype);
  for (int64_t j = 0; j < count; j += width) {
    int64_t used = count - j < width ? count - j : width;
    pieces cut;
    cut_pieces(p, first + j, used, &cut);
    pack_panel(p, group, &cut, k0, depth, width * size, used * size,
               (char *)panels + j * depth * size);
  }
}

// Rows of up to POSITIONS positions, one a tap, turned round by the matrix pack.
static void pack_taps(const conv_patches *p, int64_t group, const pieces *cut, int64_t first,
                      int64_t used, int64_t positions, int width, char *panel) {
  enum { ROW_BYTES = POSITIONS * sizeof(double) };
  char rows[WIDEST_PANEL * ROW_BYTES + GEMM_SLACK] __attribute__((aligned(64)));
  int64_t size = (int64_t)dtype_size(p->planes->dtype), row_bytes = POSITIONS * size;
  pack_panel(p, group, cut, first, used, row_bytes, positions * size, rows);
  gemm_matrix matrix = { .data = rows, .dtype = p->planes->dtype, .stride = POSITIONS,
                         .depth_stride = 1 };
  if (size == 4)
    CPU(gemm_pack_f32)(&matrix, 0, 0, used, 0, positions, width, panel);
  else
    CPU(gemm_pack_f64)(&matrix, 0, 0, used, 0, positions, width, panel);
}

void CPU(conv_pack_taps)(const void *patches, int64_t group, int64_t first, int64_t count,
                         int64_t k0, int64_t depth, int width, void *panels) {
  const conv_patches *p = patches;
  int64_t size = (int64_t)dtype_size(p->planes->dtype);
  for (int64_t k = 0; k < depth; k += POSITIONS) {
    int64_t positions = depth - k < POSITIONS ? depth - k : POSITIONS;
    pieces cut;
    cut_pieces(p, k0 + k, positions, &cut);
    for (int64_t j = 0; j < count; j += width) {
      int64_t used = count - j < width ? count - j : width;
      pack_taps(p, group, &cut, first + j, used, positions, width,
                (char *)panels + (j * depth + k * width) * size);
    }
  }
}

// -- weights

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

static void store_piece(const conv_target *t, const char *tile, int64_t count, char *to) {
  int64_t stride = t->step[1] * t->out->strides[3];
  if (t->out->dtype == MOON_F32 && stride == 1) {
    const float *from = (const float *)tile;
    float *target = (float *)to;
    for (int64_t i = 0; i < count; i++) target[i] = from[i];
  } else {
    CPU(store_run)(t->out->dtype, count, tile, to, stride);
  }
}

static void add_bias(const conv_target *t, int64_t channel, int64_t columns, void *row) {
  if (t->bias->dtype == MOON_F32) {
    float value = ((const float *)t->bias->data)[channel];
    for (int64_t j = 0; j < columns; j++) ((float *)row)[j] += value;
  } else {
    double value = ((const double *)t->bias->data)[channel];
    for (int64_t j = 0; j < columns; j++) ((double *)row)[j] += value;
  }
}

void CPU(conv_store)(const void *target, int64_t group, int64_t row, int64_t rows, int64_t column,
                     int64_t columns, void *tile, int64_t stride) {
  const conv_target *t = target;
  const device_array *out = t->out;
  int64_t size = (int64_t)dtype_size(out->dtype), tile_size = out->dtype == MOON_F64 ? 8 : 4;
  int64_t area = t->height * t->width, channel = group * t->channels + row;
  for (int64_t i = 0; i < rows && t->bias; i++)
    add_bias(t, channel + i, columns, (char *)tile + i * stride * tile_size);
  for (int64_t j = 0; j < columns;) {
    int64_t image = (column + j) / area, rest = (column + j) % area;
    int64_t y = rest / t->width, x = rest % t->width;
    int64_t count = t->width - x < columns - j ? t->width - x : columns - j;
    int64_t offset = (t->first_image + image) * out->strides[0] + channel * out->strides[1] +
                     (y * t->step[0] + t->offset[0]) * out->strides[2] +
                     (x * t->step[1] + t->offset[1]) * out->strides[3];
    for (int64_t i = 0; i < rows; i++)
      store_piece(t, (const char *)tile + (i * stride + j) * tile_size, count,
                  (char *)out->data + (offset + i * out->strides[1]) * size);
    j += count;
  }
}
