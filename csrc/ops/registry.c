// Gathers the families and parses their schemas, once for the process. After that nothing here
// changes, so threads read it freely.
#include "ops/registry.h"

#include <stdlib.h>
#include <string.h>

#include "autograd/tape.h"
#include "base/alloc.h"
#include "base/os.h"
#include "ops/pointwise.h"
#include "ops/support.h"

#define FAMILY(name) extern const op_family ops_##name;
#include "ops/families.def"
#undef FAMILY

static const struct { const char *name; const op_family *family; } families[] = {
#define FAMILY(name) { #name, &ops_##name },
#include "ops/families.def"
#undef FAMILY
};
enum { FAMILIES = sizeof families / sizeof *families };

static const char *const used_names[] = {
#define USED(name) #name,
#include "ops/used.def"
};

// Guarded by `opened`: written once, read afterwards.
static int opened;
static moon_status open_status;
static char open_error[256];
static op_descriptor **sorted;
static int sorted_count;
static op_descriptor *used[OPS_USED_COUNT];

static int by_name(const void *a, const void *b) {
  return strcmp((*(op_descriptor *const *)a)->name, (*(op_descriptor *const *)b)->name);
}

static moon_status gather(void) {
  int count = 0;
  MOON_TRY(pointwise_prepare());
  for (int f = 0; f < FAMILIES; f++) count += families[f].family->count;
  MOON_TRY(alloc_new((size_t)count * sizeof *sorted, (void **)&sorted));
  for (int f = 0; f < FAMILIES; f++)
    for (int i = 0; i < families[f].family->count; i++) {
      op_descriptor *op = &families[f].family->ops[i];
      op->family = families[f].name;
      sorted[sorted_count++] = op;
    }
  qsort(sorted, (size_t)sorted_count, sizeof *sorted, by_name);
  for (int i = 0; i < sorted_count; i++) MOON_TRY(op_register(sorted[i]));
  for (int i = 0; i < OPS_USED_COUNT; i++) {
    used[i] = ops_find(used_names[i]);
    if (!used[i]) return moon_fail(MOON_BAD_STATE, "no operator is called %s", used_names[i]);
  }
  tape_use_arithmetic(&(tape_arithmetic){ .add = used[OP_add], .sum = used[OP_sum],
                                          .reshape = used[OP_reshape], .cast = used[OP_cast],
                                          .clone = used[OP_clone] });
  return MOON_OK;
}

static void open_once(void) {
  open_status = gather();
  if (open_status != MOON_OK) strncpy(open_error, moon_error_text(), sizeof open_error - 1);
}

moon_status ops_open(void) {
  os_once(&opened, open_once);
  return open_status == MOON_OK ? MOON_OK : moon_fail(open_status, "%s", open_error);
}

int ops_count(void) { return sorted_count; }
op_descriptor *ops_at(int index) { return sorted[index]; }
op_descriptor *ops_get(int which) { return used[which]; }

op_descriptor *ops_find(const char *name) {
  int low = 0, high = sorted_count;
  while (low < high) {
    int middle = (low + high) / 2, order = strcmp(name, sorted[middle]->name);
    if (order == 0) return sorted[middle];
    if (order < 0) high = middle;
    else low = middle + 1;
  }
  return NULL;
}
