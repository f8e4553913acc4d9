// The tape in a small stack: a chain of a million operators goes forward, back and away on a thread
// that has 256 KiB, by backward, by grad, and with a graph of the gradient; and what is said of a
// tape of another engine.
#include "autograd/tape.h"
#include "base/os.h"
#include "check.h"
#include "ops/registry.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CHAIN = 20000, STACK = 1 << 20 };   // instrumented frames are several times larger
#else
enum { CHAIN = 1000000, STACK = 256 << 10 };
#endif

static moon_tensor *new_number(moon_engine *engine, double value, bool leaf) {
  moon_tensor *x = NULL;
  CHECK(tensor_new_scalar(engine, MOON_F64, value, &x) == MOON_OK);
  if (leaf) CHECK(tape_set_requires_grad(engine, x, true) == MOON_OK);
  return x;
}

static double value_of(const moon_tensor *x) { return x ? *(double *)tensor_data(x) : -1; }

// `by` applied again and again; releases x.
static moon_tensor *chain_of(moon_engine *engine, const char *op, moon_tensor *x, moon_tensor *by,
                             int length) {
  op_descriptor *step = ops_find(op);
  for (int i = 0; i < length && x; i++) {
    moon_tensor *next = NULL;
    CHECK(OP_RUN(engine, step, &next, op_tensor(x), op_tensor(by)) == MOON_OK);
    tensor_release(x);
    x = next;
  }
  return x;
}

static int64_t live(moon_engine *engine) { return atomic_load(&engine->memory.live); }

static void by_backward(moon_engine *engine) {
  moon_tensor *x = new_number(engine, 1, true), *none = new_number(engine, 0, false);
  moon_tensor *y = chain_of(engine, "add", tensor_retain(x), none, CHAIN);
  CHECK(tape_backward(engine, y, NULL, &(tape_options){ 0 }) == MOON_OK);
  CHECK(value_of(tape_peek_grad(x)) == 1);
  tensor_release(y);
  tensor_release(chain_of(engine, "mul", tensor_retain(x), none, CHAIN / 2));   // never walked
  tensor_release(x);
  tensor_release(none);
}

static void by_grad(moon_engine *engine) {
  moon_tensor *x = new_number(engine, 1, true), *one = new_number(engine, 1, false);
  moon_tensor *y = chain_of(engine, "mul", tensor_retain(x), one, CHAIN / 4);
  moon_tensor *seed = NULL, *dx = NULL;
  CHECK(tape_grad(engine, 1, &y, &seed, 1, &x, &(tape_options){ .retain = true }, &dx) == MOON_OK);
  CHECK(value_of(dx) == 1);
  CHECK(tape_peek_grad(x) == NULL);
  tensor_release(dx);
  tensor_release(y);
  tensor_release(x);
  tensor_release(one);
}

// y = x^(n + 1) one factor at a time, so that the graph of its gradient is as long again.
static void with_a_graph(moon_engine *engine) {
  enum { LENGTH = CHAIN / 20 };
  moon_tensor *x = new_number(engine, 1, true), *seed = NULL, *dx = NULL, *ddx = NULL;
  moon_tensor *y = chain_of(engine, "mul", tensor_retain(x), x, LENGTH);
  tape_options options = { .retain = true, .create_graph = true };
  CHECK(tape_grad(engine, 1, &y, &seed, 1, &x, &options, &dx) == MOON_OK);
  CHECK(value_of(dx) == LENGTH + 1);
  CHECK(tape_grad(engine, 1, &dx, &seed, 1, &x, &(tape_options){ 0 }, &ddx) == MOON_OK);
  CHECK(value_of(ddx) == (LENGTH + 1.0) * LENGTH);
  tensor_release(ddx);
  tensor_release(dx);
  tensor_release(y);
  tensor_release(x);
}

static void run_in_small_stack(void *context) {
  moon_engine *engine = context;
  int64_t before = live(engine);
  by_backward(engine);
  by_grad(engine);
  with_a_graph(engine);
  CHECK(live(engine) == before);
}

static void check_engines(moon_engine *engine) {
  moon_engine *other = NULL;
  CHECK(engine_new(&other) == MOON_OK);
  moon_tensor *x = new_number(engine, 2, true), *two = new_number(engine, 2, false);
  moon_tensor *y = chain_of(engine, "mul", tensor_retain(x), two, 1);
  moon_tensor *own = chain_of(other, "mul", new_number(other, 3, true), two, 1);
  moon_tensor *seed = NULL, *dx = NULL, *z = NULL;
  tape_options options = { 0 };
  CHECK_FAILS(tape_backward(other, y, NULL, &options), MOON_BAD_STATE,
              "backward: a tape does not cross Lua states");
  CHECK_FAILS(tape_grad(other, 1, &y, &seed, 1, &x, &options, &dx), MOON_BAD_STATE,
              "grad: a tape does not cross Lua states");
  CHECK_FAILS(tape_grad(other, 1, &own, &seed, 1, &y, &options, &dx), MOON_BAD_STATE,
              "grad: input 1 lies on the tape of another Lua state");
  CHECK_FAILS(OP_RUN(other, ops_find("mul"), &z, op_tensor(y), op_tensor(two)), MOON_BAD_STATE,
              "a tape does not cross Lua states: this tensor was made by mul in another one");
  CHECK(dx == NULL && z == NULL);
  tensor_release(own);
  tensor_release(y);
  tensor_release(two);
  tensor_release(x);
  engine_release(other);
}

int main(void) {
  moon_engine *engine = NULL;
  os_thread *thread = NULL;
  CHECK(ops_open() == MOON_OK);
  CHECK(engine_new(&engine) == MOON_OK);
  if (!engine) return check_end("tape_test");
  CHECK(os_thread_start(&thread, STACK, run_in_small_stack, engine) == MOON_OK);
  if (thread) os_thread_join(thread);
  check_engines(engine);
  engine_release(engine);
  return check_end("tape_test");
}
