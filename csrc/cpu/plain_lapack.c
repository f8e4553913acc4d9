// Opening LAPACK. See lapack.h.
//
// Where the system's LAPACK is OpenBLAS, it would run threads of its own beside ours, and its bits
// would depend on their number. So if nobody in this process had it before us, it is told to use
// one thread; a host's own OpenBLAS, already there, keeps its settings.
#include "cpu/lapack.h"

#include <stdio.h>

#include "base/os.h"

static lapack_routines singles, doubles;   // written once, before `state` says so
static enum { MISSING, INCOMPLETE, READY } state;

// The address of LAPACKE_<letter><name>; NULL is remembered in *complete.
static void *routine(void *library, char letter, const char *name, bool *complete) {
  char full[40];
  snprintf(full, sizeof full, "LAPACKE_%c%s", letter, name);
  void *address = os_library_symbol(library, full);
  if (!address) *complete = false;
  return address;
}

static void find_all(void *library, char letter, lapack_routines *r, bool *complete) {
  *(void **)&r->getrf_work = routine(library, letter, "getrf_work", complete);
  *(void **)&r->getrs_work = routine(library, letter, "getrs_work", complete);
  *(void **)&r->trtrs_work = routine(library, letter, "trtrs_work", complete);
  *(void **)&r->potrf_work = routine(library, letter, "potrf_work", complete);
  *(void **)&r->geqrf_work = routine(library, letter, "geqrf_work", complete);
  *(void **)&r->orgqr_work = routine(library, letter, "orgqr_work", complete);
  *(void **)&r->gesdd_work = routine(library, letter, "gesdd_work", complete);
  *(void **)&r->syevd_work = routine(library, letter, "syevd_work", complete);
}

static void open_once(void) {
  bool ours = !os_library_is_open("libopenblas.so.0"), complete = true;
  void *library = os_library_open("liblapacke.so.3");
  if (!library) return;
  void (*set_threads)(int);
  *(void **)&set_threads = os_library_symbol(library, "openblas_set_num_threads");
  if (ours && set_threads) set_threads(1);
  find_all(library, 's', &singles, &complete);
  find_all(library, 'd', &doubles, &complete);
  state = complete ? READY : INCOMPLETE;
}

moon_status lapack_open(moon_dtype dtype, const lapack_routines **routines) {
  static int once;
  os_once(&once, open_once);
  if (state == MISSING)
    return moon_fail(MOON_UNSUPPORTED, "this needs LAPACK, and liblapacke.so.3 cannot be opened; "
                     "install the Debian package liblapacke, or what holds it on your system");
  if (state == INCOMPLETE)
    return moon_fail(MOON_UNSUPPORTED, "this needs LAPACK, but the liblapacke.so.3 found here "
                     "lacks some of its routines");
  *routines = dtype == MOON_F64 ? &doubles : &singles;
  return MOON_OK;
}
