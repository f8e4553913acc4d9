// Arguments of a network kernel made ready; see operands.h.
#include "cpu/operands.h"

const device_array *CPU(operand_in_as)(operands *set, const device_array *x, moon_dtype dtype) {
  if (!x || set->status != MOON_OK) return NULL;
  cpu_temp *temp = &set->temp[set->count];
  set->status = CPU(temp_from)(set->engine, x, dtype, temp);
  if (set->status != MOON_OK) return NULL;
  set->count++;
  return &temp->array;
}

const device_array *CPU(operand_out_as)(operands *set, const device_array *out, moon_dtype dtype) {
  if (!out || set->status != MOON_OK) return NULL;
  if (out->dtype == dtype && array_is_contiguous(out)) return out;
  cpu_temp *temp = &set->temp[set->count];
  set->status = CPU(temp_new)(set->engine, dtype, out->ndim, out->shape, temp);
  if (set->status != MOON_OK) return NULL;
  set->target[set->count++] = out;
  return &temp->array;
}

const device_array *CPU(operand_in)(operands *set, const device_array *x) {
  return x ? CPU(operand_in_as)(set, x, cpu_compute_dtype(x->dtype)) : NULL;
}

const device_array *CPU(operand_out)(operands *set, const device_array *out) {
  return out ? CPU(operand_out_as)(set, out, cpu_compute_dtype(out->dtype)) : NULL;
}

static void swap(int64_t *list, int i, int j) {
  int64_t kept = list[i];
  list[i] = list[j];
  list[j] = kept;
}

int CPU(operands_turn)(int dim, int count, const device_array *const *arrays,
                       device_array *turned) {
  for (int k = 0; k < count; k++) turned[k] = *arrays[k];
  if (array_is_contiguous(arrays[0])) return dim;
  for (int i = 1; i < turned[0].ndim; i++)   // insertion sort: falling strides, stable
    for (int j = i; j > 0 && turned[0].strides[j] > turned[0].strides[j - 1]; j--) {
      for (int k = 0; k < count; k++) {
        swap(turned[k].shape, j, j - 1);
        swap(turned[k].strides, j, j - 1);
      }
      dim = dim == j ? j - 1 : dim == j - 1 ? j : dim;
    }
  return dim;
}

moon_status CPU(operands_close)(operands *set) {
  for (int i = 0; i < set->count; i++)
    if (set->target[i] && set->status == MOON_OK)
      set->status = CPU(copy)(set->engine, &set->temp[i].array, set->target[i]);
  for (int i = 0; i < set->count; i++) CPU(temp_release)(set->engine, &set->temp[i]);
  return set->status;
}
