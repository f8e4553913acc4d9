// Arguments of a network kernel made ready; see operands.h.
#include "cpu/operands.h"

const device_array *CPU(operand_in)(operands *set, const device_array *x) {
  if (!x || set->status != MOON_OK) return NULL;
  cpu_temp *temp = &set->temp[set->count];
  set->status = CPU(temp_from)(set->engine, x, cpu_compute_dtype(x->dtype), temp);
  if (set->status != MOON_OK) return NULL;
  set->count++;
  return &temp->array;
}

const device_array *CPU(operand_out)(operands *set, const device_array *out) {
  if (!out || set->status != MOON_OK) return NULL;
  moon_dtype compute = cpu_compute_dtype(out->dtype);
  if (out->dtype == compute && array_is_contiguous(out)) return out;
  cpu_temp *temp = &set->temp[set->count];
  set->status = CPU(temp_new)(set->engine, compute, out->ndim, out->shape, temp);
  if (set->status != MOON_OK) return NULL;
  set->target[set->count++] = out;
  return &temp->array;
}

moon_status CPU(operands_close)(operands *set) {
  for (int i = 0; i < set->count; i++)
    if (set->target[i] && set->status == MOON_OK)
      set->status = CPU(copy)(set->engine, &set->temp[i].array, set->target[i]);
  for (int i = 0; i < set->count; i++) CPU(temp_release)(set->engine, &set->temp[i]);
  return set->status;
}
