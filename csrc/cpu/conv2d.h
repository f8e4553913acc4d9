// What the convolution's files share. All three directions are products over patches that are
// packed where a product reads them (gemm.h); no matrix of patches exists.
//
// planes    the images of one chunk, padded, in the compute type; with a stride s they are split
//           into s x s phases, so that every tap of a patch reads neighbours at distance one.
//           Where no padding, stride or conversion is needed they are the input itself.
// patches   which elements a product reads: position (image, row, column) of a grid, channel c
//           and tap t lie at base(position) + c * channel_stride + tap_offset[t]
//
// The gradient of the input is a convolution of the gradient with the weights turned round, one
// for each phase of the stride. Its grid is the phase, so nothing is multiplied by inserted zeros.
#ifndef MOON_CPU_CONV2D_H
#define MOON_CPU_CONV2D_H

#include "cpu/convolution.h"
#include "cpu/gemm.h"

typedef struct conv_planes {
  const char *data;                 // element (image 0, channel 0, row 0, column 0)
  moon_dtype dtype;                 // MOON_F32 or MOON_F64
  int64_t images, channels;
  int64_t image_stride, channel_stride, phase_stride, row_stride;   // in elements
  int64_t height, width;            // of a phase
  int64_t end;                      // elements that may be read, counted from data
  void *block;                      // owned scratch, or NULL where data is borrowed
  size_t bytes;
} conv_planes;

// How planes are made from an array (n, c, h, w): zeros before, `extent` rows and columns used,
// cut into phases by `step`.
typedef struct conv_frame {
  int64_t before[2], extent[2], step[2];
} conv_frame;

// The frame of a convolution's forward pass: of x's planes, for both its users.
conv_frame CPU(conv_forward_frame)(const conv2d_geometry *geometry, const device_array *weight,
                                   const device_array *out);
// Offset of padded row and column within planes that are cut into phases.
int64_t CPU(conv_plane_offset)(const conv_planes *planes, const conv_frame *frame, int64_t row,
                               int64_t column);

MOON_MUST_CHECK moon_status CPU(conv_packed_weight)(moon_engine *engine, const conv_problem *p);

// How many images make a chunk (from the shape alone), and the planes of images first .. last.
int64_t CPU(conv_chunk)(const device_array *x, const conv_frame *frame, moon_dtype compute);
MOON_MUST_CHECK moon_status CPU(conv_planes_new)(moon_engine *engine, const device_array *x,
                                                 int64_t first, int64_t last,
                                                 const conv_frame *frame, moon_dtype compute,
                                                 conv_planes *planes);
void CPU(conv_planes_delete)(moon_engine *engine, conv_planes *planes);

typedef struct conv_patches {
  const conv_planes *planes;
  int64_t height, width;            // of the grid of positions
  int64_t channels;                 // of a group
  int64_t taps;
  const int64_t *tap_offset;        // in elements, not negative
} conv_patches;

// Packs for gemm.h; the batch is the group. Forward: positions across, channels and taps deep.
// Weight: channels and taps across, positions deep.
void CPU(conv_pack_positions)(const void *patches, int64_t group, int64_t first, int64_t count,
                              int64_t k0, int64_t depth, int width, void *panels);
void CPU(conv_pack_taps)(const void *patches, int64_t group, int64_t first, int64_t count,
                         int64_t k0, int64_t depth, int width, void *panels);

// Origins for gemm_in_place, for rows of the grid that are whole vectors. depth_offset needs
// channels * taps numbers.
const void *CPU(conv_origin_of)(const void *patches, int64_t group, int64_t vector);
void CPU(conv_depth_offsets)(const conv_patches *patches, int64_t *depth_offset);

// Weights as the left operand: row r, channel c, tap t of group g at
// data[g * group_stride + r * row_stride + c * channel_stride + tap_offset[t]].
typedef struct conv_weights {
  const void *data;
  moon_dtype dtype;
  int64_t group_stride, row_stride, channel_stride, taps;
  const int64_t *tap_offset;
  bool is_matrix;                   // all taps and channels of a row lie together, in order
} conv_weights;
void CPU(conv_pack_weights)(const void *weights, int64_t group, int64_t first, int64_t count,
                            int64_t k0, int64_t depth, int width, void *panels);

// A result of positions across: to out (n, c, h, w), position (i, j) of the grid at row
// i * step + offset, and likewise the column.
typedef struct conv_target {
  const device_array *out;
  int64_t first_image, channels;    // channels of a group
  int64_t height, width;            // of the grid
  int64_t step[2], offset[2];
  const device_array *bias;         // in the compute type, or NULL
} conv_target;
void CPU(conv_store)(const void *target, int64_t group, int64_t row, int64_t rows, int64_t column,
                     int64_t columns, void *tile, int64_t stride);

// The same product without panels, for one channel a group: taps times rows of planes.
MOON_MUST_CHECK moon_status CPU(conv_direct)(moon_engine *engine, const conv_patches *patches,
                                             const conv_weights *weights,
                                             const conv_target *target, int64_t groups);

#endif
