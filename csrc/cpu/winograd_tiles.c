// Where the pixels of tiles lie, and tiles turned into components.
#include "cpu/winograd.h"

// Whether the tile's rows (axis 0) or columns (1), from `first` on, all lie in the array.
static bool is_inside(const winograd_grid *grid, int axis, int64_t first) {
  return first >= 0 && first + grid->size <= grid->array->shape[2 + axis];
}

void CPU(winograd_pixels)(const winograd_grid *grid, int64_t index, float *outside,
                          float **pixels) {
  const device_array *x = grid->array;
  const int64_t across = index % grid->count[1], rest = index / grid->count[1];
  const int64_t down = rest % grid->count[0], image = rest / grid->count[0];
  const int64_t row = down * grid->step - grid->before[0];
  const int64_t column = across * grid->step - grid->before[1];
  const int64_t size = grid->size, row_stride = x->strides[2], pixel_stride = x->strides[3];
  float *first = (float *)x->data + image * x->strides[0] + grid->first_channel * x->strides[1];
  if (is_inside(grid, 0, row) && is_inside(grid, 1, column)) {
    first += row * row_stride + column * pixel_stride;
    for (int64_t i = 0; i < size; i++)
      for (int64_t j = 0; j < size; j++)
        pixels[i * size + j] = first + i * row_stride + j * pixel_stride;
    return;
  }
  for (int64_t i = 0; i < size; i++)
    for (int64_t j = 0; j < size; j++) {
      bool inside = row + i >= 0 && row + i < x->shape[2] && column + j >= 0 &&
                    column + j < x->shape[3];
      pixels[i * size + j] =
          inside ? first + (row + i) * row_stride + (column + j) * pixel_stride : outside;
    }
}

void CPU(winograd_spread_tiles)(const winograd_grid *grid, winograd_spread spread, int64_t first,
                                int64_t last, int64_t channels, float *zeros, float *y,
                                int64_t row, int64_t step) {
  float *pixels[WINOGRAD_COMPONENTS];
  for (int64_t i = first; i < last; i++) {
    CPU(winograd_pixels)(grid, i, zeros, pixels);
    spread((const float *const *)pixels, channels, y + (i - first) * row, step);
  }
}
